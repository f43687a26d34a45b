"""Who is who in a report: the order of the models, what they are, and how their curves look."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from html import escape

from shared.report.svg import Style, swatch

__all__ = ["Key", "Looks", "best_trivial", "family", "rank"]

TRIVIAL = ("persistence", "inertia", "mean", "mean-superposed")
CEILINGS = ("oracle", "static-oracle", "sgdml", "xtb", "window's own mean")
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
    """reference, trivial, ceiling (oracles, engines, what knows the answer), published, or
    learned."""
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

    A model has a colour, its variants have dashes, and each variant a marker of its own.

    Args:
        keys: all that the page shows.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._styles: dict[Key, Style] = {}
        plain = sorted({Key(key.model, key.variant) for key in keys}, key=rank)
        for kind in _FAMILIES:
            own = [key for key in plain if family(key.model) == kind]
            models = list(dict.fromkeys(key.model for key in own))
            taken: set[tuple[str, str]] = set()
            for index, key in enumerate(own):
                if kind != "learned":
                    self._styles[key] = _beside(kind, index)
                    continue
                variants = [other.variant for other in own if other.model == key.model]
                place = variants.index(key.variant)
                dash, marker = _free(place, index, taken)
                taken.add((dash, marker))
                colour = f"c{models.index(key.model) % _COLOURS}"
                self._styles[key] = Style(colour, dash, marker, 1.9)

    def __getitem__(self, key: Key) -> Style:
        style = self._styles[Key(key.model, key.variant)]
        return replace(style, dash="1.5 2.5", width=1.4) if key.reading else style

    def sort(self, keys: Iterable[Key]) -> list[Key]:
        """Without repetition: reference, trivial, oracles and engines, published, learned."""
        return sorted(set(keys), key=rank)

    def legend(self, keys: Iterable[Key]) -> str:
        """A list with a piece of each curve."""
        items = "".join(
            f"<li>{swatch(self[key])}<span>{escape(str(key))}</span></li>"
            for key in self.sort(keys)
        )
        return f'<ul class="legend" aria-label="Legend">{items}</ul>'


def rank(key: Key) -> tuple[int, int, Key]:
    """Order in tables and legends; of the learned ones the two heads come first."""
    fixed = (*TRIVIAL, *CEILINGS)
    place = fixed.index(key.model) if key.model in fixed else len(fixed)
    baseline = family(key.model) == "learned" and ":" not in key.model
    return _FAMILIES.index(family(key.model)), place + baseline, key


def _beside(kind: str, index: int) -> Style:
    """Of what the learned models are compared with: no colour, no marker."""
    if kind == "reference":
        return Style("ink", width=1.4)
    if kind == "trivial":
        return Style("quiet", _DASHES[1:][index % (len(_DASHES) - 1)], "", 1.5)
    return Style("ink", _DASHES[index % len(_DASHES)], "", 2.2)


def _free(variant: int, index: int, taken: set[tuple[str, str]]) -> tuple[str, str]:
    """The dash of a variant and a marker that it does not have yet, so that curves differ without
    their colours; where all are taken, another dash, and at last the first again."""
    pairs = [
        (_DASHES[(variant + turn) % len(_DASHES)], _MARKERS[(index + step) % len(_MARKERS)])
        for turn in range(len(_DASHES))
        for step in range(len(_MARKERS))
    ]
    return next((pair for pair in pairs if pair not in taken), pairs[0])
