"""Who is who in a report: the order of the models, what they are, and how their curves look."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from shared.report.svg import Style, swatch

__all__ = ["Key", "Looks", "best_trivial", "family"]

TRIVIAL = ("persistence", "inertia", "mean", "mean-superposed")
CEILINGS = ("oracle", "static-oracle", "sgdml", "xtb")
_FAMILIES = ("reference", "trivial", "ceiling", "published", "learned")

_MARKERS = ("circle", "square", "triangle", "diamond", "down", "cross", "plus")
_DASHES = ("", "7 3", "2 2.5", "9 3 2 3", "12 3", "5 2 1.5 2 1.5 2")
_COLOURS = 7


@dataclass(frozen=True, order=True)
class Key:
    """A model with what its start was told: one curve, one column.

    Attributes:
        model, variant: as in the rows.
        reading: of an ensemble, "ensemble mean"; else "".
    """

    model: str
    variant: str = ""
    reading: str = ""

    def __str__(self) -> str:
        inside = ", ".join(part for part in (self.variant, self.reading) if part)
        return f"{self.model} ({inside})" if inside else self.model


def family(model: str) -> str:
    """reference, trivial, ceiling (oracles and engines), published, or learned."""
    if model == "reference":
        return "reference"
    if model in TRIVIAL:
        return "trivial"
    if model in CEILINGS:
        return "ceiling"
    return "published" if model.endswith("(published)") else "learned"


def best_trivial(values: dict[Key, float]) -> tuple[Key, float] | None:
    """The trivial predictor with the least error; None where there is none."""
    trivial = [(value, key) for key, value in values.items() if family(key.model) == "trivial"]
    return None if not trivial else (min(trivial)[1], min(trivial)[0])


class Looks:
    """One look for each model, the same on the whole page.

    Args:
        keys: all that the page shows.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._order = sorted(set(keys), key=self._rank)
        counts = dict.fromkeys(_FAMILIES, 0)
        self._styles: dict[Key, Style] = {}
        for key in self._order:
            kind = family(key.model)
            self._styles[key] = _style(kind, counts[kind])
            counts[kind] += 1

    @staticmethod
    def _rank(key: Key) -> tuple[int, int, Key]:
        fixed = (*TRIVIAL, *CEILINGS)
        place = fixed.index(key.model) if key.model in fixed else len(fixed)
        return _FAMILIES.index(family(key.model)), place, key

    def __getitem__(self, key: Key) -> Style:
        return self._styles[key]

    def sort(self, keys: Iterable[Key]) -> list[Key]:
        """Without repetition: reference, trivial, oracles and engines, published, learned."""
        wanted = set(keys)
        return [key for key in self._order if key in wanted]

    def legend(self, keys: Iterable[Key]) -> str:
        """A list with a piece of each curve."""
        items = "".join(
            f"<li>{swatch(self[key])}<span>{escape(str(key))}</span></li>"
            for key in self.sort(keys)
        )
        return f'<ul class="legend" aria-label="Legend">{items}</ul>'


def _style(kind: str, index: int) -> Style:
    if kind == "reference":
        return Style("ink", width=1.4)
    if kind == "trivial":
        return Style("quiet", _DASHES[1:][index % 5], "", 1.5)
    if kind in ("ceiling", "published"):
        return Style("ink", _DASHES[index % 6], "", 2.2)
    # 7 colours, 7 markers and 6 dashes that go round at different speeds.
    turn = index // _COLOURS
    return Style(
        f"c{index % _COLOURS}", _DASHES[turn % 6], _MARKERS[(index + turn) % len(_MARKERS)], 1.9
    )
