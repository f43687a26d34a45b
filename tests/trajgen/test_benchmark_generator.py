"""The generator's benchmark: verdicts, cache, table, and that it measures what it says."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The benchmark's files, which import one another as scripts do."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import _report
    import _runs
    import _validity
    import generator

    return SimpleNamespace(report=_report, runs=_runs, validity=_validity, generator=generator)


def test_targets(modules) -> None:
    target = modules.report.Target
    assert target(at_most=0.1).met(0.1)
    assert not target(below=1.0).met(1.0)
    assert not target(0.97, 1.03).met(1.04)
    assert not target(at_most=0.1).met(None)
    assert not target(at_most=0.1).met(float("nan"))
    assert [str(target(0.95)), str(target(0.97, 1.03)), str(target(below=60.0))] == [
        "≥ 0.95",
        "0.97–1.03",
        "< 60",
    ]


def test_what_could_not_be_measured_fails(modules) -> None:
    row = modules.report.Row(
        "m", float("nan"), "P1", "d", "ethanol", "x", target=modules.report.Target(at_most=1.0)
    )
    entries = row.as_dict()
    assert entries["value"] is None
    assert entries["pass"] is False


def test_store_keeps_numbers_with_their_weights_and_settings(modules, tmp_path: Path) -> None:
    store = modules.report.Store(tmp_path / "results.json", {"python": "3"})
    extra = {"weights_sha256": ["a"], "settings": "replicas 4", "skipped": False}
    rows = [modules.report.Row("m", 1.0, "P1", "d", "ethanol", "x")]
    store.put("rmse", "ethanol", rows, extra)
    store.put("rmse", "uracil", rows, extra | {"skipped": True})
    again = modules.report.Store(tmp_path / "results.json", {})
    assert [row["value"] for row in again.get("rmse", "ethanol", ["a"], "replicas 4")] == [1.0]
    assert not again.get("rmse", "ethanol", ["b"], "replicas 4")
    assert not again.get("rmse", "ethanol", ["a"], "replicas 8")
    assert not again.get("rmse", "uracil", ["a"], "replicas 4")  # skipped: to be tried again
    again.put("rmse", "ethanol", rows, extra | {"weights_sha256": ["b"]})
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 2


def test_table(modules) -> None:
    row, target = modules.report.Row, modules.report.Target(at_most=0.1)
    common = {"measurement": "rmse", "weights": ["md17s-uracil"]}
    rows = [
        common | r.as_dict()
        for r in (
            row("RMSE", 0.05, "P1", "d", "ethanol", "md17s", target=target, low=0.04, high=0.06),
            row("RMSE", 0.2, "P1", "d", "uracil", "md17s", target=target, low=0.1, high=0.3),
            row("RMSE", 0.02, "P1", "d", "uracil", "engine", beside=True),
            row("other", 3.0, "P1", "d", "uracil", "md17s", beside=True),
            row("detail", 7.0, "P1", "d", "uracil", "md17s"),
        )
    ]
    text = modules.report.table(rows, ["ethanol", "uracil"])
    lines = [line.split("  ") for line in text.splitlines()]
    assert [part.strip() for part in lines[1] if part] == [
        "RMSE, md17s",
        "≤ 0.1",
        "no (1 of 2)",
        "0.05",
        "0.2",
    ]
    assert "0.04–0.06" in text
    assert "engine" in text
    assert "detail" not in text
    assert "1 of 2 targets met. Missed: RMSE (uracil)." in text
    assert "- uracil: weights of md17s-uracil" in text
    whole = modules.report.table(rows, ["ethanol", "uracil"], everything=True, markdown=True)
    assert "| detail, md17s |" in whole
    short = modules.report.table(rows, ["ethanol", "uracil"], short=True)
    assert "other" in text
    assert "other" not in short
    assert "0.04–0.06" not in short
    assert "RMSE, engine" in short  # beside what is required


def test_torsions_agree_within_a_fifth_or_the_blocks_spread(modules) -> None:
    times = np.arange(2000.0)[:, None]

    def decay(*constants: float) -> np.ndarray:
        return np.exp(-times / np.array(constants))

    reference = decay(100.0, 100.0, 1e9, 100.0)
    blocks = np.stack([decay(90.0, 50.0, 1e9, 90.0), decay(110.0, 200.0, 1e9, 110.0)])[:, :500]
    generated = decay(115.0, 150.0, 1e9, 150.0)
    agree, ratio = modules.validity.torsion_agreement(generated, reference, blocks, 1.0)
    assert agree.tolist() == [True, True, True, False]
    assert np.allclose(ratio, [1.15, 1.5, np.nan, 1.5], rtol=1e-3, equal_nan=True)


@pytest.mark.data
def test_frames_of_the_reference_pass(modules, tiny: Path, monkeypatch, tmp_path: Path) -> None:
    """Four replicas that are the reference's blocks: each equals one block and is off from the
    other three as they are from one another, so every ratio is 3/4."""
    s = modules.runs.subject(str(tiny), "ethanol")
    blocks = s.series.positions[:40_000:10].reshape(4, 1000, -1, 3).swapaxes(0, 1)
    frames = np.concatenate([blocks[:250], blocks])  # the first fifth is left out
    temperatures = np.full((1250, 4, 3), 500.0, dtype=np.float32)
    energies = np.full((1250, 4, 2), np.nan)
    run = modules.runs.LongRun(frames, temperatures, energies, 5.0, s.bonds)
    monkeypatch.setattr(modules.validity, "long_run", lambda *_: run)
    settings = modules.runs.Settings(checkpoint=str(tiny), replicas=4, stability_ps=6.25)
    found = {
        (row.metric, row.model): row.value
        for measure in (modules.validity.stability, modules.validity.distributions)
        for row in measure("ethanol", settings)
    }
    for name in ("bond JSD", "angle JSD", "torsion JSD", "h(r) distance", "VDOS distance"):
        assert found[f"{name} / static oracle", "tiny"] == pytest.approx(0.75, rel=1e-6)
    assert found["stable replicas", "tiny"] == 1.0
    assert found["torsion times that agree", "tiny"] == 1.0
    frames[700, 2, 0] += 1.0  # one broken bond
    assert modules.validity.stability("ethanol", settings)[0].value == 0.75


@pytest.mark.data
def test_quick_run_resumes(modules, tiny: Path, tmp_path: Path, capsys) -> None:
    options = ["--checkpoint", str(tiny), "--molecules", "ethanol", "--quick"]
    options += ["--folder", str(tmp_path), "--out", str(tmp_path / "results.json")]
    options += ["--stability-ps", "0.1", "--rows"]
    assert modules.generator.main([*options, "stability", "temperature", "rmse", "windows"]) == 0
    first = capsys.readouterr()
    assert "rmse ethanol" in first.err
    assert "targets met" in first.out
    rows = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["rows"]
    engine = {row["metric"]: row["value"] for row in rows if row["model"] == "engine, ξ fitted"}
    # The oracle file's own figure, from the same frames by another program.
    from shared.data.md17 import load_md17s_oracle

    oracle = load_md17s_oracle("ethanol")
    published = oracle.ratios["fitted"][oracle.horizon_steps.tolist().index(100)]
    ratio = engine["RMSE@100 com, acceleration / persistence"]
    assert ratio == pytest.approx(published, rel=1e-3)
    absent = ["--paper", "absent", *options]
    assert modules.generator.main([*absent, "stability", "rmse", "paper"]) == 0
    second = capsys.readouterr()
    assert "rmse ethanol" not in second.err
    assert "skipped: no checkpoint absent" in second.out


@pytest.mark.data
def test_interrupted_simulation_goes_on(modules, tiny: Path, tmp_path: Path, monkeypatch) -> None:
    s = modules.runs.subject(str(tiny), "ethanol")
    whole = modules.runs.long_run(s, 2, 0.05, tmp_path / "whole")
    monkeypatch.setattr(modules.runs.shared_run, "FLUSH_PS", 0.005)
    propagate = s.generator.propagate

    def killed(*arguments, **options):
        for count, state in enumerate(propagate(*arguments, **options)):
            if count == 1:
                raise KeyboardInterrupt
            yield state

    with monkeypatch.context() as patch:
        patch.setattr(s.generator, "propagate", killed)
        with pytest.raises(KeyboardInterrupt):
            modules.runs.long_run(s, 2, 0.05, tmp_path / "killed")
    resumed = modules.runs.long_run(s, 2, 0.05, tmp_path / "killed")
    assert len(resumed.frames) == 10
    assert np.array_equal(resumed.frames, whole.frames)
    assert np.array_equal(resumed.temperatures, whole.temperatures, equal_nan=True)


@pytest.mark.data
def test_a_checkpoint_that_is_not_there(modules, capsys) -> None:
    assert modules.generator.main(["--checkpoint", "nothing", "--quick"]) == 2
    assert "no checkpoint nothing" in capsys.readouterr().err
