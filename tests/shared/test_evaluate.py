"""python -m shared.evaluate: what it refuses, and that a second run says the same."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shared.config import config_parser, parse_config
from shared.errors import InputError
from shared.evaluate import _threads, main
from shared.evaluation.config import PARTS, Evaluation, checked_parts
from shared.evaluation.results import Results, Row, read_results
from shared.evaluation.systems import real_series, sparse_frames, surrogate

ROOT = Path(__file__).parents[2]


def config(folder: Path, text: str = "", data: str = "md17") -> list[str]:
    path = folder / "config.yaml"
    path.write_text(
        f"evaluation:\n  name: test\n  data: {data}\n  results: {folder}/results.json\n"
        f"  artefacts: {folder}/artefacts\n{text}"
    )
    return ["--config", str(path)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("  models: [nothing]\n", "no model nothing; there are persistence"),
        ("  models: ['trajgen:nothing']\n", "md17s"),
        ("  systems: [ethanole]\n", "has no ethanole; it has aspirin"),
        ("  parts: [energies]\n", "energies is not measured on md17; there are s2l"),
        ("s2l: {interval_fs: 0.7}\n", "s2l.interval_fs: 0.7 fs is no multiple of the 0.5 fs"),
        ("sparse: {gaps_fs: [5.2]}\n", "sparse.gaps_fs: 5.2 fs is no multiple"),
        ("s2l: {starts: 0}\n", "s2l.starts must be more than 0"),
        ("s2l: {start: 3}\n", "the nearest is s2l.starts"),
        ("s2l: {starts: many}\n", "starts"),
        ("stability: {systems: [benzin]}\n", "has no benzin; it has"),
        ("  models: []\n", "evaluation.models: name at least one"),
        ("  models: ['trajgen:']\n", "the checkpoint has no name; shipped ones: 3bpa"),
        ("  models: [trajgen]\n", "the checkpoint has no name; shipped ones: 3bpa"),
        ("  seed: -1\n", "evaluation.seed must be 0 or more"),
        ("  systems: [azobenzene]\nsparse: {interval_fs: 2.5}\n", "multiple of the 1 fs"),
        ("windows: {interval_fs: .nan}\n", "windows.interval_fs: nan fs is no multiple"),
        ("windows: {interval_fs: .inf}\n", "windows.interval_fs: inf fs is no multiple"),
        ("windows: {interval_fs: 0}\n", "windows.interval_fs: 0 fs is no multiple"),
        ("sparse: {gaps_fs: []}\n", "sparse.gaps_fs: name at least one"),
        ("stability: {length_ps: .nan}\n", "stability.length_ps must be more than 0, not nan"),
        ("stability: {length_ps: .inf}\n", "stability.length_ps must be more than 0, not inf"),
        ("stability: {length_ps: 0.001}\n", "stability.length_ps: 0.001 ps is less than one"),
        ("distributions: {window_ps: .nan}\n", "distributions.window_ps must be more than 0"),
        ("cost: {replicas: []}\n", "cost.replicas must be more than 0, not"),
        ("s2l: {horizons: []}\n", "s2l.horizons: a horizon is a number of frames"),
        ("o2o: {source: foo}\n", "o2o.source"),
        (
            "distributions: {window_ps: 0.01}\n",
            "window_ps: 0.01 ps are less than 10 of interval_fs",
        ),
        ("  models: [xtb:foo]\n", "xtb has no checkpoints; say xtb"),
        ("  models: ['sgdml:foo']\n", "sgdml has no checkpoints; say sgdml"),
        ("  results: results.html\n", "results.html must end in .json"),
    ],
)
def test_bad_configs_are_one_line(tmp_path: Path, capsys, text: str, says: str) -> None:
    assert main(config(tmp_path, text)) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "results.json").exists()


def test_a_data_set_that_is_not_there(tmp_path: Path, capsys) -> None:
    assert main(config(tmp_path, data="md18")) == 2
    assert "no data set md18; there are md17, isomers, 3bpa" in capsys.readouterr().err
    assert main(["--config", str(tmp_path / "absent.yaml")]) == 2
    assert "no such config file" in capsys.readouterr().err


def test_results_of_another_version_stay(tmp_path: Path, capsys) -> None:
    old = '{"format": "trajgen-results", "version": 0}'
    (tmp_path / "results.json").write_text(old)
    text = "  systems: [ethanol]\n  models: [persistence]\n  parts: [s2l]\n"
    assert main(config(tmp_path, text)) == 2
    assert "version 0" in capsys.readouterr().err
    assert (tmp_path / "results.json").read_text() == old


@pytest.mark.parametrize("name", ["md17", "isomers", "3bpa"])
def test_shipped_configs_are_read(name: str, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--config", str(ROOT / "configs" / "evaluate" / f"{name}.yaml"), "--print-config"])
    assert stopped.value.code == 0
    assert f"data: {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "model"),
    [("md17", "trajgen:md17s"), ("md17", "forcefield:md17s"), ("3bpa", "forcefield:3bpa")],
)
def test_shipped_checkpoints_are_evaluated(name: str, model: str) -> None:
    sections = {"evaluation": Evaluation} | {part: entry.settings for part, entry in PARTS.items()}
    path = ROOT / "configs" / "evaluate" / f"{name}.yaml"
    config = parse_config(config_parser("", "", sections), ["--config", str(path)])
    plan, models = checked_parts(config.evaluation, {part: config[part] for part in PARTS})[1:]
    assert model in models
    assert {part for part, _, _ in plan} == {p for p in PARTS if name in PARTS[p].sets}


def test_a_run_leaves_a_report(tmp_path: Path, capsys) -> None:
    # Benzene has no surrogate: what is reported is the reason, and no data file is needed.
    text = "  systems: [benzene]\n  models: [persistence]\n  parts: [s2l]\n"
    report = tmp_path / "results.html"
    assert main([*config(tmp_path, text), "--no-report"]) == 0
    assert not report.exists()
    capsys.readouterr()
    assert main(config(tmp_path, text)) == 0
    assert f"report: {report}" in capsys.readouterr().out
    page = report.read_text(encoding="utf-8")
    assert "s2l/benzene/persistence" in page
    assert "benzene has no surrogate" in page


def test_some_variants_are_a_measurement_of_their_own(tmp_path: Path) -> None:
    text = "  systems: [benzene]\n  models: [persistence]\n  parts: [s2l]\n"
    found = []
    for more in ([], ["--evaluation.variants", "[fitted]"], []):
        assert main([*config(tmp_path, text), "--no-report", *more]) == 0
        (job,) = read_results(tmp_path / "results.json")["jobs"].values()
        found.append((job["fingerprint"], job["settings"].get("variants")))
    assert found[0] == found[2] != found[1]
    assert [variants for _, variants in found] == [None, ["fitted"], None]


def test_data_that_are_not_there(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path / "empty"))
    text = "  systems: [ethanol]\n  models: [persistence, mean]\n"
    for cached in (surrogate, sparse_frames, real_series):
        cached.cache_clear()
    assert main(config(tmp_path, text)) == 2
    said = capsys.readouterr()
    assert "0 rows in" in said.out
    assert "not measured: s2l/ethanol/persistence and 5 more: " in said.out  # windows, long
    assert "not measured: stability/ethanol/persistence" in said.out
    assert "shared.evaluate: nothing could be measured: " in said.err
    assert "md17s" in said.err.splitlines()[-1]
    # Part of it can be measured: what cannot is said, and that is no failure.
    text = "  systems: [benzene]\n  models: [persistence]\n  parts: [s2l]\n"
    assert main([*config(tmp_path, text), "--no-report"]) == 0
    said = capsys.readouterr()
    assert "not measured: s2l/benzene/persistence: benzene has no surrogate" in said.out


def test_what_was_measured_stays_when_its_data_go(tmp_path: Path, capsys, monkeypatch) -> None:
    there = [Row("P1", "s2l", "md17s", "ethanol", "mean", "ARMSE com", 0.5, horizon="10 frames")]

    def measure(*_):
        if not there:
            raise InputError("its file is gone")
        return there.copy()

    monkeypatch.setitem(PARTS, "s2l", replace(PARTS["s2l"], measure=measure))
    text = "  systems: [ethanol]\n  models: [mean]\n  parts: [s2l]\n"
    arguments = [*config(tmp_path, text), "--no-report"]
    assert main(arguments) == 0
    measured = read_results(tmp_path / "results.json")
    assert len(measured["rows"]) == 1
    there.clear()
    main([*arguments, "--fresh"])
    kept = read_results(tmp_path / "results.json")
    assert (kept["rows"], kept["jobs"]) == (measured["rows"], measured["jobs"])
    # Nor are they lost where another measurement was asked for and could not be made.
    capsys.readouterr()
    assert main([*arguments, "--evaluation.seed", "1"]) == 2
    kept = read_results(tmp_path / "results.json")
    assert (kept["rows"], kept["jobs"]) == (measured["rows"], measured["jobs"])
    assert "s2l/ethanol/mean: keeps its rows: its file is gone" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "threads"), [(None, 1), ("4,2", 4), ("", 1), ("2", 2), ("x", 1)])
def test_threads_are_those_of_openmp(monkeypatch, given: str | None, threads: int) -> None:
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert _threads() == threads


def test_an_interruption_says_how_to_go_on(tmp_path: Path, capsys, monkeypatch) -> None:
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(PARTS, "s2l", replace(PARTS["s2l"], measure=stop))
    text = "  systems: [ethanol]\n  models: [mean]\n  parts: [s2l]\n"
    for switches, says in (([], "goes on"), (["--fresh"], "begins again")):
        assert main([*config(tmp_path, text), "--no-report", *switches]) == 1
        assert f"interrupted; what was measured is kept; the same command {says}\n" in (
            capsys.readouterr().err
        )


@pytest.mark.parametrize("name", ["results.json", "artefacts"])
def test_folders_that_cannot_be_written_to(tmp_path: Path, capsys, name: str) -> None:
    text = "  systems: [benzene]\n  models: [persistence]\n  parts: [s2l]\n"
    arguments = config(tmp_path, text)
    (tmp_path / "file").touch()
    path = tmp_path / "config.yaml"
    path.write_text(path.read_text().replace(f"{tmp_path}/{name}", f"{tmp_path}/file/{name}"))
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert "cannot write there" in said.err
    assert said.err.count("\n") == 1
    assert "benzene" not in said.out


def test_a_disk_that_is_full(tmp_path: Path, capsys, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Results, "put", full)
    text = "  systems: [benzene]\n  models: [persistence]\n  parts: [s2l]\n"
    assert main(config(tmp_path, text)) == 1
    assert "shared.evaluate: [Errno 28] No space left" in capsys.readouterr().err


@pytest.mark.data
def test_horizons_beyond_the_data(tmp_path: Path, capsys) -> None:
    text = "  systems: [ethanol]\n  models: [persistence]\n  parts: [s2l]\n"
    assert main(config(tmp_path, text + "s2l: {horizons: [100000]}\n")) == 2
    error = capsys.readouterr().err
    assert "s2l.horizons: 100000 frames are more than the 4399 after the last start" in error


@pytest.mark.data
def test_a_second_quick_run_says_the_same(tmp_path: Path, capsys) -> None:
    text = (
        "  systems: [ethanol]\n  models: [persistence, oracle]\n"
        "  parts: [s2l, windows, stability]\n"
    )
    arguments = [*config(tmp_path, text), "--quick"]

    def measured() -> tuple[str, list[dict]]:
        assert main(arguments) == 0
        content = read_results(tmp_path / "artefacts" / "quick.json")
        return capsys.readouterr().out, content

    first, content = measured()
    rows = content["rows"]
    assert "Short to long" in (tmp_path / "artefacts" / "quick.html").read_text(encoding="utf-8")
    ratio = {
        row["variant"]: row["value"]
        for row in rows
        if row["part"] == "s2l"
        and row["model"] == "oracle"
        and (row["metric"], row["horizon"]) == ("RMSE com / persistence", "100 frames")
    }
    assert ratio["fitted"] < ratio["unknown"] < ratio["nve"] < 1
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows if row["low"] is not None)
    assert content["jobs"]["stability/ethanol/oracle"]["skipped"]
    assert content["provenance"]["files"]
    again, same = measured()  # nothing is measured a second time but what was skipped
    assert (again, same["rows"]) == (first, rows)
    created = {job: entry["created"] for job, entry in content["jobs"].items()}
    assert all(
        entry["created"] == created[job]
        for job, entry in same["jobs"].items()
        if not entry["skipped"]
    )
    arguments.append("--fresh")
    fresh, anew = measured()
    assert fresh == first
    assert sorted(map(str, anew["rows"])) == sorted(map(str, rows))


def test_what_is_missing_names_no_folder_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path / "no-data"))
    text = "  systems: [dih_beta120]\n  models: [mean]\n  parts: [energies]\n"
    main([*config(tmp_path, text, data="3bpa"), "--no-report"])
    assert str(tmp_path / "no-data") in capsys.readouterr().err  # the user is told the whole path
    stored = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["jobs"]
    (job,) = stored.values()
    assert "put it at $TRAJGEN_DATA/3bpa/" in job["skipped"]
    assert str(tmp_path) not in job["skipped"]


@pytest.mark.data
def test_a_second_quick_run_of_both_heads_says_the_same(tmp_path: Path) -> None:
    """What is random in a generator, an ensemble and a simulation comes from the seed."""
    text = (
        "  systems: [ethanol]\n  models: [trajgen:md17s, forcefield:md17s]\n"
        "  parts: [s2l, distributions]\ns2l: {models: [trajgen:md17s]}\n"
    )
    found = []
    for _ in range(2):
        assert main([*config(tmp_path, text), "--quick", "--fresh", "--no-report"]) == 0
        content = read_results(tmp_path / "artefacts" / "quick.json")
        assert not any(job["skipped"] for job in content["jobs"].values())
        found.append(sorted(map(str, content["rows"])))
    assert found[0] == found[1]
    assert any("ensemble mean" in row for row in found[0])
