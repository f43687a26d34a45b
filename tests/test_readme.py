"""README and docs say what is there: commands, options, config keys, files, names, Python."""

import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from shared.checkpoint import shipped

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
SECTIONS = (
    "data",
    "network",
    "backbone",
    "diffusion",
    "potential",
    "noise",
    "paper",
    "regression",
    "loss",
    "optimiser",
    "sampling",
    "run",
)  # of a training config
FOLDERS = "trajgen|shared|forcefield|configs|tests|benchmarks|docs|examples"
OWN_COMMANDS = {
    "trajgen.sample": "-m trajgen.sample",
    "trajgen.train": "-m trajgen.train",
    "trajgen.simulate": "-m trajgen.cli simulate",
    "trajgen.train-forcefield": "-m trajgen.cli train-forcefield",
    "trajgen.evaluate": "-m trajgen.cli evaluate",
    "trajgen.report": "-m trajgen.cli report",
    "forcefield.train": "-m forcefield.train",
    "forcefield.simulate": "-m forcefield.simulate",
    "shared.data.download": "-m shared.data.download",
    "shared.data.xtb": "-m shared.data.xtb",
    "shared.evaluate": "-m shared.evaluate",
    "benchmarks/generator.py": "benchmarks/generator.py",
    "benchmarks/forcefield.py": "benchmarks/forcefield.py",
}
# Made with the shipped weights, so they are there when those are.
MADE_WITH_WEIGHTS = {
    "docs/images/ethanol.png",
    "benchmarks/results/generator.json",
    "benchmarks/results/forcefield.json",
}
HAS_WEIGHTS = "md17s" in shipped("trajgen")
needs_weights = pytest.mark.skipif(not HAS_WEIGHTS, reason="needs the shipped checkpoint md17s")


def blocks(page: Path, language: str) -> list[str]:
    """Fenced code of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


def inline(page: Path) -> list[str]:
    """Inline code, on one line each."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


def commands(page: Path) -> list[list[str]]:
    """Shell commands of a page as lists of words, chains taken apart."""
    lines = [
        part
        for block in blocks(page, "bash")
        for line in block.replace("\\\n", " ").splitlines()
        for part in re.split(r"&&|\||;", line)
    ]
    lines += [code for code in inline(page) if re.match(r"(python|trajgen|pip|torchrun) ", code)]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def own_command(words: list[str]) -> tuple[str, list[str]] | None:
    """Name and arguments of a command of this project, or None."""
    if words[0] == "trajgen":
        return f"trajgen.{words[1]}", words[2:]
    for at, word in enumerate(words):
        if words[0] in ("python", "torchrun") and word in OWN_COMMANDS:
            return word, words[at + 1 :]
    return None


def options_in(words: list[str]) -> set[str]:
    return {word.split("=")[0] for word in words if word.startswith("--")}


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Python with this source tree on its path."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=folder, env=environment
    )


@cache
def options(command: str) -> set[str]:
    """Every option in the help of a command of this project."""
    done = run([*OWN_COMMANDS[command].split(), "--help"], ROOT)
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"--[a-zA-Z][\w.-]*\w", done.stdout))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_and_know_their_options(page: Path) -> None:
    for words in commands(page):
        if own := own_command(words):
            command, arguments = own
            unknown = options_in(arguments) - options(command)
            assert not unknown, f"{command} has no {unknown}"
        elif words[:2] == ["python", "-m"]:
            assert find_spec(words[2]), f"no module {words[2]}"
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), f"no script {words[1]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_and_keys_in_the_text_exist(page: Path) -> None:
    for code in inline(page):
        if code.startswith("--"):
            unknown = options_in(code.split()) - set().union(*map(options, OWN_COMMANDS))
            assert not unknown, f"no command has {unknown}"
        elif key := re.fullmatch(rf"((?:{'|'.join(SECTIONS)})\.(?!json)\w+)(: .*)?", code):
            known = options("trajgen.train") | options("forcefield.train")
            assert f"--{key[1]}" in known, f"no config key {key[1]}"


def test_usage_explains_every_option_of_sample() -> None:
    explained = {code.split()[0] for code in inline(ROOT / "docs" / "usage.md")}
    assert options("trajgen.sample") - explained == {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_exist(page: Path) -> None:
    words = [word for command in commands(page) for word in command] + inline(page)
    named = {ROOT / word for word in words if re.fullmatch(rf"(?:{FOLDERS})/[\w./-]*", word)}
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8"))
    named |= {page.parent / link for link in links if "://" not in link}
    for path in named:
        if HAS_WEIGHTS or path.relative_to(ROOT).as_posix() not in MADE_WITH_WEIGHTS:
            assert path.exists(), f"{path} is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_in_the_text_exist(page: Path) -> None:
    for code in inline(page):
        if re.fullmatch(r"(?:trajgen|shared|forcefield)(?:\.\w+)+", code):
            assert pkgutil.resolve_name(code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile_and_import(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")
        for line in re.findall(r"^(?:import|from) .*$", block, re.M):
            if "MDAnalysis" not in line or find_spec("MDAnalysis"):  # of the extra `test`
                names: dict[str, object] = {}
                exec(line, names)
                assert set(names) - {"__builtins__"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configs_are_accepted(
    page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from trajgen.train import main

    for number, block in enumerate(blocks(page, "yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block, encoding="utf-8")
        with pytest.raises(SystemExit) as done:
            main(["--config", str(path), "--print-config"])
        assert not done.value.code, capsys.readouterr().err


def test_installation_matches_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    installs = [words for words in commands(README) if words[:2] == ["pip", "install"]]
    assert installs
    for word in (word for words in installs for word in words):
        if word.startswith("torch=="):
            assert word in ci
        if extras := re.fullmatch(r"\.\[(.+)\]", word):
            assert set(extras[1].split(",")) <= set(project["optional-dependencies"])


def test_no_page_is_orphaned() -> None:
    linked = set(re.findall(r"\((docs/[\w-]+\.md)\)", README.read_text("utf-8")))
    assert linked == {page.relative_to(ROOT).as_posix() for page in PAGES[1:]}


@needs_weights
def test_the_main_command_runs_and_its_output_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (words,) = (w for w in commands(README)[:6] if "trajgen.sample" in w)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    done = run([*words[1:], "--length-ps", "0.1"], tmp_path)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(README, "python"):
        if "MDAnalysis" in block and not find_spec("MDAnalysis"):
            continue
        exec(block, names)
    assert names["trajectory"].n_frames == 20  # type: ignore[attr-defined]
