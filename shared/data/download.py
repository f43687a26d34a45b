"""Official data files: fetched on request, resumed, checked, unpacked.

    python -m shared.data.download md17/ethanol rmd17

Files go to the data folder (``shared.data.locate``). What is on its way is ``NAME.part``, beside
``NAME.part.tag`` with the server's validator (ETag or date): the next run asks for the rest alone
(RFC 9110: Range, If-Range), and starts over if the server's file is another one by then. ``NAME``
appears when it is whole and its checksum fits. An archive that was put there by hand is checked and
unpacked all the same, without network.

Checksums that are known for certain are in ``REMOTES``, with their source. Other files are trusted
on first use: their checksum is written to ``SHA256SUMS`` in the data folder at the first download
(``sha256sum -c`` reads it) and demanded from then on.
"""

import argparse
import bz2
import gzip
import http.client
import os
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from shared.command import exit_code
from shared.data.locate import data_root
from shared.errors import InputError
from shared.provenance import file_checksum

__all__ = ["REMOTES", "Remote", "main", "obtain", "select", "unpack"]

ATTEMPTS = 5  # at one URL, while the connection breaks off
RETRY_SECONDS = 2.0
TIMEOUT_SECONDS = 60.0
SUMS = "SHA256SUMS"

_CHUNK = 2**20
_OPEN: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Remote:
    """An official file, or an archive and what is wanted of it.

    Attributes:
        path: where it goes, relative to the data folder.
        urls: where it is; all hold the same bytes, the later ones are mirrors.
        sha256: hex digest, None where it is not known: trusted on first use.
        n_bytes: size, where it is known.
        folder: of an archive, where its members go, relative to the data folder.
        members: of an archive, pattern of the members that are wanted.
    """

    path: str
    urls: tuple[str, ...]
    sha256: str | None = None
    n_bytes: int | None = None
    folder: str | None = None
    members: str = "*"


# File names: torch_geometric.datasets.MD17 (pyg-team/pytorch_geometric) and schnetpack's MD17.
_MD17 = "http://www.quantum-machine.org/gdml/data/npz/"
_MD17_FILES = {
    "aspirin": "md17_aspirin.npz",
    "benzene": "md17_benzene2017.npz",
    "ethanol": "md17_ethanol.npz",
    "malonaldehyde": "md17_malonaldehyde.npz",
    "naphthalene": "md17_naphthalene.npz",
    "salicylic": "md17_salicylic.npz",
    "toluene": "md17_toluene.npz",
    "uracil": "md17_uracil.npz",
}
# At one commit, so that a URL names one content for ever. File names: MACE's scripts for it.
_3BPA = (
    "https://raw.githubusercontent.com/davkovacs/BOTNet-datasets/"
    "29e6d467317e4b5967b7ea5cbee54de953fa0d45/dataset_3BPA/"
)
_3BPA_FILES = (
    "iso_atoms",
    "train_300K",
    "train_mixedT",
    "test_300K",
    "test_600K",
    "test_1200K",
    "test_dih",
)
# SHA-256 and size of single files, where independent sources agree.
_KNOWN: dict[str, tuple[str, int]] = {
    # The Git LFS pointer in neutronengas/dimenet_almost_completely_copied, and the constant
    # MD17_ASPIRIN_SHA256 of ConfAna's scripts/md17_to_xyz.py.
    "md17_aspirin.npz": (
        "af4ce531bf8cf07610c0bd876cb5b321f3c301d2365720967d98d45e1db1f748",
        202_398_748,
    ),
    # The file in the repository (commit 4a5ea06c) and a copy of it.
    "iso_atoms.xyz": ("e12a2465a2612bf38fd5dabdf64d4b57fc58ce9610a858c54ea1142d517c053f", 504),
}


def _single(folder: str, site: str, file: str) -> Remote:
    return Remote(f"{folder}/{file}", (site + file,), *_KNOWN.get(file, (None, None)))


REMOTES: dict[str, Remote] = {
    **{f"md17/{name}": _single("md17", _MD17, file) for name, file in _MD17_FILES.items()},
    **{f"3bpa/{name}": _single("3bpa", _3BPA, f"{name}.xyz") for name in _3BPA_FILES},
    # Version 3 of figshare article 12672038, and its copy at Materials Cloud. SHA-256: its first 12
    # digits are load-atoms' expected_hash (jla-gardner/load-atoms, importers/rmd17.py). The MD5 of
    # the same file, cb1a927628d96f2e966025da4fb63d18, is what others check at both sites.
    "rmd17": Remote(
        "rmd17/rmd17.tar.bz2",
        (
            "https://figshare.com/ndownloader/files/23950376",
            "https://archive.materialscloud.org/records/pfffs-fff86/files/rmd17.tar.bz2",
        ),
        "cddeea2ec2c4b22a9de16a9a65a3eeedac5b29da9c99c20bbff0153912bf922b",
        1_066_301_513,
        folder="rmd17/npz_data",
        members="*/npz_data/rmd17_*.npz",
    ),
    # "MD Trajectories of C7O2H10" of http://quantum-machine.org/datasets.
    "isomers": Remote(
        "isomers/c7o2h10_md.tar.gz",
        ("http://quantum-machine.org/data/c7o2h10_md.tar.gz",),
        folder="isomers/c7o2h10_md",
    ),
}
"""Name -> official file; ``md17`` and ``3bpa`` mean all names below them."""


def select(name: str) -> list[Remote]:
    """The files of a data set, or of one of its parts.

    Raises:
        InputError: there is none of that name; the message gives those there are.
    """
    chosen = [remote for key, remote in REMOTES.items() if f"{key}/".startswith(f"{name}/")]
    if not chosen:
        raise InputError(f"no official data are called {name}; there are {', '.join(_names())}")
    return chosen


def _names() -> list[str]:
    """All names, each data set before its parts."""
    return sorted({key.split("/")[0] for key in REMOTES} | set(REMOTES))


def obtain(
    remote: Remote,
    root: str | Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Path:
    """The file, or the folder of an archive, fetched unless it is there, checked and unpacked.

    Args:
        remote: what.
        root: the data folder; None: ``data_root()``.
        progress: called with the bytes on disk and the bytes in all, None while unknown.

    Raises:
        InputError: a checksum that differs, an archive that is truncated or not what it should be
            (nothing is unpacked), a folder that cannot be written.
        ConnectionError: it could not be fetched; the message says what to fetch and where to put
            it. What has arrived is kept.
    """
    root = data_root() if root is None else Path(root).expanduser()
    path = root / remote.path
    folder = root / remote.folder if remote.folder else None
    if folder is not None and folder.is_dir():
        return folder
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent} cannot be made: {error.strerror}") from None
    if path.exists():
        digest = _check(path, remote, root, "remove it and run the download again")
    else:
        part = _fetch(remote, path, progress)
        try:
            digest = _check(part, remote, root, "it was removed; run the download again")
        except InputError:
            _discard(part)
            raise
        os.replace(part, path)
        _discard(part)
    if folder is not None:
        unpack(path, folder, remote.members)
    if remote.sha256 is None and _recorded(remote, root) is None:
        with (root / SUMS).open("a", encoding="utf-8") as file:
            file.write(f"{digest}  {remote.path}\n")
    return folder or path


# --- one file -----------------------------------------------------------------------------------


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _discard(part: Path) -> None:
    for file in (_tag(part), part):
        file.unlink(missing_ok=True)


def _fetch(remote: Remote, path: Path, progress: Progress) -> Path:
    """Complete the part of ``path`` from the first URL that gives it."""
    part, problems = path.with_name(f"{path.name}.part"), []
    for url in remote.urls:
        try:
            for attempt in range(ATTEMPTS):
                if attempt:
                    time.sleep(RETRY_SECONDS)
                if _transfer(url, part, remote.n_bytes, progress):
                    return part
            problems.append("the connection breaks off again and again; another run goes on")
        except urllib.error.HTTPError as error:
            problems.append(f"HTTP {error.code} {error.reason}")
        except urllib.error.URLError as error:
            problems.append(str(getattr(error.reason, "strerror", None) or error.reason))
        except (_Refused, ConnectionError, TimeoutError, http.client.HTTPException) as error:
            problems.append(str(error) or type(error).__name__)
    raise ConnectionError(
        f"{path.name} was not fetched ({'; '.join(problems)}): fetch {' or '.join(remote.urls)} "
        f"where there is a network and put it at {path}"
    )


class _Refused(Exception):
    """What a server gives is not the file."""


def _transfer(url: str, part: Path, n_bytes: int | None, progress: Progress) -> bool:
    """Append what is missing of ``part``; False if the connection broke off before the end."""
    tag = _tag(part)
    done = part.stat().st_size if part.exists() and tag.exists() else 0
    headers = {"User-Agent": "trajgen", "Accept-Encoding": "identity"}
    if done:
        headers |= {"Range": f"bytes={done}-", "If-Range": tag.read_text(encoding="utf-8")}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{done}":
            return True  # it was whole already
        _discard(part)
        return False
    with response:
        if response.status not in (200, 206):
            raise _Refused(f"HTTP {response.status} {response.reason}")
        if response.headers.get_content_type() == "text/html":
            raise _Refused("the server sends a web page instead of the file")
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        total = None if length is None else int(length) + (done if resumed else 0)
        if None not in (total, n_bytes) and total != n_bytes:
            raise _Refused(f"the server has {total} bytes where {n_bytes} are expected")
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            raise _Refused("the server sends another part of the file than was asked for")
        if not resumed:
            done = 0
            _discard(part)
            validator = response.headers.get("ETag", "")
            if not validator.startswith('"'):  # a weak one does not do for parts of a file
                validator = response.headers.get("Last-Modified")
            if validator:
                tag.write_text(validator, encoding="utf-8")
        with part.open("ab") as file:
            try:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    progress(done, total)
            except (ConnectionError, TimeoutError, http.client.IncompleteRead):
                return False
    return total is None or done == total


def _check(path: Path, remote: Remote, root: Path, remedy: str) -> str:
    """The file's SHA-256, which must be the known one, else that of the first download."""
    if remote.path.endswith(".npz") and not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not a complete npz file; {remedy}")
    digest = file_checksum(path).removeprefix("sha256:")
    expected, whose = remote.sha256, "the known one"
    if expected is None:
        expected = _recorded(remote, root)
        whose = f"the first download's, which is in {root / SUMS}"
    if expected not in (None, digest):
        raise InputError(
            f"{path}: the checksum {digest:.12}… is not {whose}, {expected:.12}…; {remedy}"
        )
    return digest


def _recorded(remote: Remote, root: Path) -> str | None:
    """The digest that ``SHA256SUMS`` has for a file."""
    try:
        lines = (root / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    digests = (line.split(maxsplit=1) for line in lines)
    return next((entry[0] for entry in digests if entry[1:] == [remote.path]), None)


# --- archives -----------------------------------------------------------------------------------


def unpack(archive: str | Path, folder: str | Path, members: str = "*") -> None:
    """Unpack the files of a tar.gz or tar.bz2 into ``folder``, without their own folders.

    The archive is read to its end, checksum included, into a scratch folder that is then renamed:
    either all is there or nothing.

    Args:
        archive: the file.
        folder: must not exist yet.
        members: pattern of the members that are wanted; hidden files never are.

    Raises:
        InputError: the archive is truncated, damaged, holds none of them, or has a member that is
            a link, a device, or lies outside the archive.
    """
    archive, folder = Path(archive), Path(folder)
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        scratch.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{archive} cannot be unpacked to {folder}: {error.strerror}") from None
    try:
        with _OPEN[archive.suffix](archive) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    name = PurePosixPath(member.name)
                    if name.is_absolute() or ".." in name.parts:
                        raise InputError(f"{archive}: refused, {name} lies outside of it")
                    if not (member.isfile() or member.isdir()):
                        raise InputError(f"{archive}: refused, {name} is a link or a device")
                    wanted = fnmatch(member.name, members) and not name.name.startswith(".")
                    if member.isfile() and wanted:
                        source = cast(IO[bytes], tar.extractfile(member))
                        with source, (scratch / name.name).open("xb") as target:
                            shutil.copyfileobj(source, target, _CHUNK)
            while stream.read(_CHUNK):  # on to the checksum of the compression
                pass
        if not any(scratch.iterdir()):
            raise InputError(f"{archive}: no {members} in it")
        os.rename(scratch, folder)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:  # the disk's fault, not the archive's
            raise
        raise InputError(
            f"{archive}: truncated or damaged, nothing was unpacked ({error}); "
            "remove it and run the download again"
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


# --- command line -------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    command = argparse.ArgumentParser(
        prog="python -m shared.data.download",
        description="Fetch official data sets, resuming what was begun. "
        "Exit status: 0 done, 2 bad input, 1 anything else.",
        epilog=f"Names: {', '.join(_names())}.",
    )
    command.add_argument("names", nargs="+", metavar="NAME", help="data set, or a part of one")
    command.add_argument(
        "--to", metavar="FOLDER", help="data folder; default: $TRAJGEN_DATA, else ~/.cache/trajgen"
    )
    return command


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parser().parse_args(arguments)

    def act() -> None:
        remotes = dict.fromkeys(remote for name in options.names for remote in select(name))
        _obtain_all(list(remotes), options.to)

    return exit_code("shared.data.download", act, "the same command goes on from here")


def _obtain_all(remotes: list[Remote], root: str | None) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    for remote in remotes:
        print(f"{remote.path}: {remote.urls[0]}", flush=True)
        with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task(remote.path, total=remote.n_bytes)

            def show(done: int, total: int | None, bar: Bar = bar, task: int = task) -> None:
                bar.update(task, completed=done, total=total)  # type: ignore[arg-type]

            where = obtain(remote, root, show)
        known = "the known checksum" if remote.sha256 else f"a checksum to trust, in {SUMS}"
        print(f"  {where}, with {known}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
