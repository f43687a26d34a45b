"""Downloads against a server on the loopback: resumed, checked, and never half there."""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from shared.data import download
from shared.data.download import REMOTES, SUMS, Remote, main, obtain, select, unpack
from shared.data.md17 import MOLECULES, load_md17
from shared.errors import InputError

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``files``; of a path in ``cuts`` it sends so many bytes a time and hangs up."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/a.bin": CONTENT}
        self.cuts: dict[str, list[int]] = {}
        self.ranges: list[str | None] = []
        self.etags = True
        self.lengths = True
        self.resumes = True
        self.status = 200
        self.content_type = "application/octet-stream"

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def remote(self, name: str = "a.bin", **fields: object) -> Remote:
        return Remote(f"set/{name}", (self.url(name),), **fields)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers["Range"]
        server.ranges.append(asked)
        content = server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        start, size = 0, len(content)
        if asked and server.resumes and self.headers["If-Range"] == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= size:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            self.send_response(server.status)
        self.send_header("Content-Type", server.content_type)
        if server.etags:
            self.send_header("ETag", etag)
        if server.lengths:
            self.send_header("Content-Length", str(size - start))
        self.end_headers()
        cuts = server.cuts.get(self.path)
        self.wfile.write(content[start:][: cuts.pop(0) if cuts else None])
        return None

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "RETRY_SECONDS", 0.0)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    remote, reports = server.remote(sha256=SHA256, n_bytes=len(CONTENT)), []
    path = obtain(remote, tmp_path, lambda done, total: reports.append((done, total)))
    assert path == tmp_path / "set" / "a.bin"
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["set", "set/a.bin"]
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    obtain(remote, tmp_path)
    assert server.ranges == [None]


def test_a_broken_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.cuts["/a.bin"] = [100_000, 50_000]
    assert obtain(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_the_next_run_goes_on(server: Server, tmp_path: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    server.cuts["/a.bin"] = [60_000]
    with pytest.raises(KeyboardInterrupt):
        obtain(server.remote(), tmp_path, interrupt)
    assert names(tmp_path) == ["set", "set/a.bin.part", "set/a.bin.part.tag"]
    assert obtain(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=60000-"]


def test_a_part_that_was_whole_already(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "set" / "a.bin.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT)
    part.with_name("a.bin.part.tag").write_text(f'"{SHA256}"')
    assert obtain(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("why", ["changed", "no validator", "longer than the file", "no ranges"])
def test_what_cannot_be_resumed_starts_over(server: Server, tmp_path: Path, why: str) -> None:
    part = tmp_path / "set" / "a.bin.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * (2 * len(CONTENT) if why.startswith("longer") else 1000))
    if why != "no validator":
        tag = '"another"' if why == "changed" else f'"{SHA256}"'
        part.with_name("a.bin.part.tag").write_text(tag)
    server.resumes = why != "no ranges"
    assert obtain(server.remote(), tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == [SUMS, "set", "set/a.bin"]


def test_a_server_that_always_breaks_off(server: Server, tmp_path: Path) -> None:
    server.etags = False
    server.cuts["/a.bin"] = [5000] * 10
    with pytest.raises(ConnectionError, match="the connection breaks off"):
        obtain(server.remote(), tmp_path)
    assert len(server.ranges) == download.ATTEMPTS
    assert "set/a.bin" not in names(tmp_path)


def test_a_wrong_checksum(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not the known one, 000000000000…; it was removed"):
        obtain(server.remote(sha256="0" * 64), tmp_path)
    assert names(tmp_path) == ["set"]


def test_a_file_at_hand_is_checked_too(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "set" / "a.bin"
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match=r"a\.bin: the checksum .* remove it and run"):
        obtain(server.remote(sha256=SHA256), tmp_path)
    assert path.exists()


def test_trust_on_first_use(server: Server, tmp_path: Path) -> None:
    path = obtain(server.remote(), tmp_path)
    assert (tmp_path / SUMS).read_text() == f"{SHA256}  set/a.bin\n"
    path.unlink()
    obtain(server.remote(), tmp_path)
    assert (tmp_path / SUMS).read_text().count("\n") == 1
    path.unlink()
    server.files["/a.bin"] = CONTENT[::-1]
    with pytest.raises(InputError, match=rf"is not the first download's, .*{SUMS}, {SHA256:.12}…"):
        obtain(server.remote(), tmp_path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"files": {}}, "HTTP 404 Not Found"),
        ({"status": 202}, "HTTP 202 Accepted"),
        ({"content_type": "text/html; charset=utf-8"}, "web page instead of the file"),
        ({"files": {"/a.bin": CONTENT[:-1]}}, "has 255999 bytes where 256000 are expected"),
    ],
)
def test_what_is_not_the_file(server: Server, tmp_path: Path, change: dict, reason: str) -> None:
    vars(server).update(change)
    with pytest.raises(ConnectionError, match=reason):
        obtain(server.remote(n_bytes=len(CONTENT)), tmp_path)
    assert names(tmp_path) == ["set"]


def test_a_mirror(server: Server, tmp_path: Path) -> None:
    remote = Remote("set/a.bin", (server.url("gone"), server.url("a.bin")), SHA256)
    assert obtain(remote, tmp_path).read_bytes() == CONTENT


def test_without_a_length_an_npz_still_has_to_be_whole(server: Server, tmp_path: Path) -> None:
    file = io.BytesIO()
    np.savez(file, R=np.zeros(1000))
    server.lengths = False
    server.files["/a.npz"] = file.getvalue()
    server.cuts["/a.npz"] = [2000]
    with pytest.raises(InputError, match="not a complete npz file; it was removed"):
        obtain(server.remote("a.npz"), tmp_path)
    assert names(tmp_path) == ["set"]
    assert np.load(obtain(server.remote("a.npz"), tmp_path))["R"].shape == (1000,)


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set").write_text("a file")
    with pytest.raises(InputError, match="cannot be made"):
        obtain(server.remote(), tmp_path)


# --- archives -----------------------------------------------------------------------------------


def packed(members: dict[str, bytes], mode: str = "w:gz", kind: bytes = tarfile.REGTYPE) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            entry.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


MEMBERS = {"x/keep/a.npz": CONTENT, "x/keep/b.npz": CONTENT[::-1], "x/c.txt": b"c", "x/._a": b"d"}


@pytest.mark.parametrize(("suffix", "mode"), [("gz", "w:gz"), ("bz2", "w:bz2")])
def test_an_archive(server: Server, tmp_path: Path, suffix: str, mode: str) -> None:
    server.files[f"/a.tar.{suffix}"] = packed(MEMBERS, mode)
    remote = server.remote(f"a.tar.{suffix}", folder="set/a", members="*/keep/*.npz")
    folder = obtain(remote, tmp_path)
    assert names(folder) == ["a.npz", "b.npz"]
    assert (folder / "b.npz").read_bytes() == CONTENT[::-1]
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777
    assert obtain(remote, tmp_path) == folder
    assert len(server.ranges) == 1
    (folder / "a.npz").unlink()
    (folder / "b.npz").unlink()
    folder.rmdir()
    assert names(obtain(remote, tmp_path)) == ["a.npz", "b.npz"]  # from the archive at hand
    assert len(server.ranges) == 1


@pytest.mark.parametrize("suffix", ["gz", "bz2"])
@pytest.mark.parametrize("lost", [1, 9, 400])
def test_nothing_is_unpacked_of_a_truncated_archive(
    server: Server, tmp_path: Path, suffix: str, lost: int
) -> None:
    name = f"a.tar.{suffix}"
    server.files[f"/{name}"] = packed(MEMBERS, f"w:{suffix}")[:-lost]
    with pytest.raises(
        InputError, match=r"truncated or damaged, nothing was unpacked .*\); remove"
    ):
        obtain(server.remote(name, folder="set/a"), tmp_path)
    assert names(tmp_path) == ["set", f"set/{name}"]  # and no checksum is recorded


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"no archive",
        lambda content: b"",
        lambda content: content[:-8] + b"\0\0\0\0" + content[-4:],  # the checksum of gzip
    ],
)
def test_nothing_is_unpacked_of_a_damaged_archive(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "a.tar.gz").write_bytes(damage(packed(MEMBERS)))
    with pytest.raises(InputError, match="nothing was unpacked"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "a")
    assert names(tmp_path) == ["a.tar.gz"]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("../evil", tarfile.REGTYPE, "lies outside"),
        ("x/../../evil", tarfile.REGTYPE, "lies outside"),
        ("/tmp/evil", tarfile.REGTYPE, "lies outside"),
        ("x/evil", tarfile.SYMTYPE, "is a link"),
        ("x/evil", tarfile.LNKTYPE, "is a link"),
        ("x/evil", tarfile.CHRTYPE, "or a device"),
    ],
)
def test_unsafe_archives_are_refused(tmp_path: Path, name: str, kind: bytes, message: str) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.tar.gz"
    path.write_bytes(packed({"x/good": b"g", name: b"e"}, kind=kind))
    with pytest.raises(InputError, match=message):
        unpack(path, path.parent / "a")
    assert names(tmp_path) == ["in", "in/a.tar.gz"]


def test_an_archive_without_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(packed(MEMBERS))
    with pytest.raises(InputError, match=r"no \*\.xyz in it"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "a", "*.xyz")
    assert names(tmp_path) == ["a.tar.gz"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(packed(MEMBERS))
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be unpacked to"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "a")


# --- the table and the command line -------------------------------------------------------------


def test_the_table() -> None:
    assert [remote.path for remote in select("md17")] == [
        f"md17/md17_{'benzene2017' if name == 'benzene' else name}.npz" for name in MOLECULES
    ]
    assert select("md17/ethanol") == [REMOTES["md17/ethanol"]]
    assert select("rmd17")[0].folder == "rmd17/npz_data"
    assert len(select("3bpa")) == 7
    assert all(remote.sha256 is None or len(remote.sha256) == 64 for remote in REMOTES.values())
    for unknown in ("md", "md17/phenol", "", "md17/"):
        with pytest.raises(InputError, match=r"there are 3bpa, 3bpa/iso_atoms, .*, rmd17$"):
            select(unknown)


def test_the_command(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    monkeypatch.setitem(REMOTES, "set/a", server.remote())
    monkeypatch.setitem(REMOTES, "set/b", server.remote("b.bin"))
    server.files["/b.bin"] = b"b"
    assert main(["set", "set/a"]) == 0
    assert names(tmp_path) == [SUMS, "set", "set/a.bin", "set/b.bin"]
    assert f"{tmp_path}/set/b.bin, with a checksum to trust" in capsys.readouterr().out
    assert main(["set/a", "--to", str(tmp_path / "there")]) == 0
    assert (tmp_path / "there" / "set" / "a.bin").read_bytes() == CONTENT

    assert main(["sets"]) == 2
    assert "no official data are called sets; there are" in capsys.readouterr().err

    (tmp_path / "set" / "a.bin").write_bytes(b"altered")
    assert main(["set"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_network_one_line_says_what_to_do(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    remote = server.remote()
    server.shutdown()
    server.server_close()
    monkeypatch.setitem(REMOTES, "set", remote)
    assert main(["set", "--to", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("shared.data.download: a.bin was not fetched (Connection refused)")
    assert f"fetch {remote.urls[0]}" in message
    assert f"put it at {tmp_path}/set/a.bin" in message


def test_a_reader_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJGEN_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"run python -m shared\.data\.download md17/ethanol, or"):
        load_md17("ethanol")
