"""Arrays of an npz file without reading the file: memory-mapped, converted for the rows asked for.

An MD17 file holds up to a million frames. Members that the zip stores uncompressed are mapped
where they lie in it. Compressed ones are read; those above ``READ_LIMIT`` are unpacked once into a
cache of npy files and mapped there. Nothing is ever unpickled.
"""

import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shared.errors import InputError

__all__ = ["READ_LIMIT", "ArrayFile", "ConvertedRows"]

READ_LIMIT = 64 * 2**20
"""Bytes: a larger compressed member is unpacked to disk instead of into memory."""

_LOCAL_HEADER = 30  # bytes of a zip member's header before its name


class ArrayFile:
    """The arrays of one npz file by name, opened lazily.

    Args:
        path: the file.
        cache: folder for unpacked members; default ``~/.cache/trajgen/unpacked``.

    Raises:
        InputError: the file is missing, truncated or no npz.
    """

    def __init__(self, path: str | Path, cache: str | Path | None = None) -> None:
        self.path = Path(path)
        self._cache = Path(cache or Path.home() / ".cache" / "trajgen" / "unpacked")
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = {info.filename: info for info in archive.infolist()}
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such file") from None
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{self.path}: not a complete npz file ({error})") from None
        self._members = {name.removesuffix(".npy"): info for name, info in members.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """One array, read-only where it is mapped.

        Raises:
            InputError: no array of that name, or one that is damaged or holds pickled objects.
        """
        if name not in self._members:
            names = ", ".join(self._members)
            raise InputError(f"{self.path}: no array {name} in it, it has {names}")
        member = self._members[name]
        try:
            if member.compress_type == zipfile.ZIP_STORED and member.file_size > READ_LIMIT:
                return self._map_in_place(member)
            if member.file_size > READ_LIMIT:
                return np.load(self._unpacked(member), mmap_mode="r", allow_pickle=False)
            with zipfile.ZipFile(self.path) as archive, archive.open(member) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{self.path}: array {name} is not readable ({error})") from None

    def first(self, *names: str) -> npt.NDArray[Any]:
        """The array under the first of several names that the file knows."""
        return self[next((name for name in names if name in self), names[0])]

    def _map_in_place(self, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
        with self.path.open("rb") as file:
            file.seek(member.header_offset)
            header = file.read(_LOCAL_HEADER)
            # The local name and extra field may differ in length from the central directory's.
            name_length, extra_length = (
                int.from_bytes(header[at : at + 2], "little") for at in (26, 28)
            )
            file.seek(name_length + extra_length, os.SEEK_CUR)
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran_order, dtype = read_header(file)
            order: Literal["C", "F"] = "F" if fortran_order else "C"
            return np.memmap(
                self.path, dtype=dtype, mode="r", offset=file.tell(), shape=shape, order=order
            )

    def _unpacked(self, member: zipfile.ZipInfo) -> Path:
        """The npy file of a compressed member, unpacked now if it was not before."""
        status = self.path.stat()
        identity = f"{self.path.resolve()} {status.st_size} {status.st_mtime_ns} {member.filename}"
        name = f"{self.path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.npy"
        target = self._cache / name
        if not target.exists():
            self._cache.mkdir(parents=True, exist_ok=True)
            scratch = target.with_suffix(f".{os.getpid()}.tmp")
            with (
                zipfile.ZipFile(self.path) as archive,
                archive.open(member) as packed,
                scratch.open("wb") as unpacked,
            ):
                shutil.copyfileobj(packed, unpacked, 2**20)
            os.replace(scratch, target)
        return target


class ConvertedRows:
    """Rows of an array in another order and unit, converted when they are asked for.

    ``rows[i]`` is ``array[order[i]] * scale`` in float64; only those rows are read.

    Args:
        array: [T, ...], possibly memory-mapped.
        scale: factor from the unit of ``array``.
        order: [M], rows of ``array``; None: as they are.
    """

    def __init__(
        self,
        array: npt.NDArray[Any],
        scale: float = 1.0,
        order: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self._array, self._scale, self._order = array, scale, order

    def __len__(self) -> int:
        return len(self._array if self._order is None else self._order)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole."""
        return (len(self), *self._array.shape[1:])

    def __getitem__(self, index: Any) -> npt.NDArray[np.float64]:
        rows = index if self._order is None else self._order[index]
        return np.asarray(self._array[rows], dtype=np.float64) * self._scale

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)
