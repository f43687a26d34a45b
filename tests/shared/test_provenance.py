"""Files are named so that no folder of one machine ends up in what is released."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from shared.checkpoint import shipped
from shared.provenance import file_checksum, git_commit, provenance


def test_files_of_the_data_folder_go_by_their_path_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, other = tmp_path / "data" / "md17s" / "a.npz", tmp_path / "b.npz"
    data.parent.mkdir(parents=True)
    for path in (data, other):
        path.write_bytes(path.name.encode())
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path / "data"))
    assert provenance([data, other])["files"] == {
        "md17s/a.npz": file_checksum(data),
        str(other): file_checksum(other),
    }


def test_a_folder_stands_for_its_files(tmp_path: Path) -> None:
    for name in ("b.npz", "a.npz"):
        (tmp_path / name).write_text(name)
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    found = provenance([tmp_path])["files"]
    assert found == {str(path): file_checksum(path) for path in paths}
    assert found[str(paths[0])] != found[str(paths[1])]


def test_one_checksum_for_the_files_of_a_pattern(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("b.npz", "a.npz")]
    for path in paths:
        path.write_text(path.name)
    found = provenance(many={"*.npz": paths})["many"]["*.npz"]
    lines = "".join(f"{file_checksum(path)} {path}\n" for path in paths[::-1])
    assert found == {
        "files": 2,
        "checksum": "sha256:" + hashlib.sha256(lines.encode()).hexdigest(),
    }
    assert provenance(many={"*.npz": paths[:1]})["many"]["*.npz"] != found


def test_results_in_the_tree_are_no_change_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("docs/results/md17.json", "shared/provenance.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text("once")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr("shared.provenance.__file__", str(tmp_path / "shared/provenance.py"))
    clean = git_commit()
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "docs/results/md17.json").write_text("again")
    assert git_commit() == clean
    (tmp_path / "shared/provenance.py").write_text("again")
    assert git_commit() == clean + "-dirty"


@pytest.mark.parametrize("head", ["trajgen", "forcefield"])
def test_shipped_checkpoints_name_no_machine(head: str) -> None:
    for folder in shipped(head).values():
        assert '"/' not in (folder / "config.json").read_text(encoding="utf-8")
