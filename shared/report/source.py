"""What a report is made from: the rows of a results file and the artefacts beside it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from shared.errors import InputError
from shared.evaluation import artefacts as artefact_files
from shared.evaluation import results as result_files

__all__ = ["Artefact", "Row", "Source", "read_source"]


@dataclass(frozen=True)
class Row(result_files.Row):
    """One number, and the job it comes from."""

    job: str = ""


@dataclass(frozen=True)
class Artefact:
    """One file of curves or one trajectory; the arrays are read when first asked for."""

    part: str
    system: str
    model: str
    variant: str
    path: Path

    @property
    def data(self) -> str:
        """The data set's name."""
        return str(self.arrays["data"])

    @cached_property
    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """Everything in the file.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            with np.load(self.path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise InputError(f"{self.path} is no artefact: {error}; evaluate again") from error


@dataclass(frozen=True)
class Source:
    """Everything a report shows.

    Attributes:
        name: of the evaluation.
        rows, artefacts: its figures and curves.
        jobs: as in the file: commands, machines, reasons why something was left out.
        provenance: as in the file.
    """

    name: str
    rows: tuple[Row, ...]
    artefacts: tuple[Artefact, ...] = ()
    jobs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def of(self, part: str) -> list[Row]:
        """The rows of a part, in the file's order."""
        return [row for row in self.rows if row.part == part]

    def drawn(self, part: str) -> list[Artefact]:
        """The artefacts of a part."""
        return [artefact for artefact in self.artefacts if artefact.part == part]

    def commands(self, rows: Iterable[Row]) -> list[str]:
        """The commands that made some rows, each once."""
        found = (self.jobs.get(row.job, {}).get("command") for row in rows)
        return list(dict.fromkeys(str(command) for command in found if command))


def read_source(results: str | Path, artefacts: str | Path | None = None) -> Source:
    """Read a results file and list its artefacts.

    Args:
        results: the JSON file of an evaluation.
        artefacts: their folder; None: the one the file names, from the current folder or, if it is
            not there, from the file's. Without artefacts a report has tables only.

    Raises:
        InputError: no such file, not a results file, of another version, or no such folder.
    """
    path = Path(results)
    content = result_files.read_results(path)
    folder = _folder(path, content.get("artefacts"), artefacts)
    known = Row.__dataclass_fields__
    try:
        rows = tuple(
            Row(**{name: row[name] for name in known if name in row}) for row in content["rows"]
        )
        found = () if folder is None else artefact_files.index(folder)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: a row is not complete ({error}); evaluate again") from None
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"{folder}: an artefact is damaged ({error}); evaluate again") from None
    return Source(
        name=str(content.get("name", path.stem)),
        rows=rows,
        artefacts=tuple(Artefact(*artefact) for artefact in found),
        jobs=content.get("jobs", {}),
        provenance=content.get("provenance", {}),
    )


def _folder(results: Path, named: str | None, given: str | Path | None) -> Path | None:
    """The folder of the artefacts, None where there is none."""
    if given is not None:
        if not Path(given).is_dir():
            raise InputError(f"{given} is not a folder; give that of the artefacts")
        return Path(given)
    beside = [Path(named), results.parent / named] if named else []
    return next((folder for folder in beside if folder.is_dir()), None)
