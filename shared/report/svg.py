"""Charts as inline SVG: small, themed by the page's CSS variables, read aloud by their label.

A chart is drawn 360 units wide, so that its text is as large as the page's on a phone. Curves are
told apart by colour, dash and marker together, and so survive greyscale.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Curve", "Level", "Style", "chart", "short", "swatch", "thin"]

Float = npt.NDArray[np.float64]

WIDTH, HEIGHT = 360.0, 248.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 10.0, 10.0, 40.0

_MARKERS = {
    "circle": "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z",
    "square": "M-2.9-2.9h5.8v5.8h-5.8z",
    "triangle": "M0-3.8L3.6 2.9H-3.6z",
    "diamond": "M0-4.1L4.1 0L0 4.1L-4.1 0z",
    "down": "M0 3.8L3.6-2.9H-3.6z",
    "cross": "M-3-3L3 3M3-3L-3 3",
    "plus": "M-3.8 0H3.8M0-3.8V3.8",
}
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Style:
    """How a curve looks.

    Attributes:
        colour: name of a CSS variable of the page, without the dashes.
        dash: SVG's stroke-dasharray, "" for a whole line.
        marker: one of the shapes, "" for none.
        width: of the line.
    """

    colour: str = "ink"
    dash: str = ""
    marker: str = ""
    width: float = 1.7


@dataclass(frozen=True)
class Curve:
    """One curve of a chart.

    Attributes:
        name: as in the legend.
        x, y: [P]; a point that is not finite is a gap.
        low, high: [P], drawn as a band.
        kind: a line, steps that hold until the next point, points alone, or the area below.
    """

    name: str
    x: npt.ArrayLike
    y: npt.ArrayLike
    style: Style
    low: npt.ArrayLike | None = None
    high: npt.ArrayLike | None = None
    kind: Literal["line", "step", "points", "area"] = "line"


@dataclass(frozen=True)
class Level:
    """A horizontal line with its name."""

    value: float
    name: str


def short(value: float | None, digits: int = 3) -> str:
    """A number as it stands in a table or a label; "–" where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4 or exponent > 5:
        mantissa, power = f"{value:.{max(0, digits - 2)}e}".split("e")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}·10{str(int(power)).translate(_SUPERSCRIPTS)}".replace("-", "−")
    decimals = max(0, digits - 1 - exponent)
    text = f"{value:.{decimals}f}"
    return text.replace("-", "−")


def thin(x: npt.ArrayLike, y: npt.ArrayLike, points: int = 240) -> tuple[Float, Float]:
    """A long series with fewer points: the least and the largest of each stretch are kept.

    Args:
        x, y: [T].
        points: at most this many are returned.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(x) <= points:
        return x, y
    kept: list[int] = []
    for stretch in np.array_split(np.arange(len(x)), points // 2):
        values = np.where(np.isfinite(y[stretch]), y[stretch], np.nan)
        if np.all(np.isnan(values)):
            kept.append(int(stretch[0]))
            continue
        ends = {int(stretch[np.nanargmin(values)]), int(stretch[np.nanargmax(values)])}
        kept.extend(sorted(ends))
    return x[kept], y[kept]


def chart(
    curves: Sequence[Curve],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_log: bool = False,
    y_log: bool = False,
    y_range: tuple[float | None, float | None] = (None, None),
    levels: Sequence[Level] = (),
    x_names: Sequence[str] = (),
) -> str:
    """An SVG element.

    Args:
        curves: later ones are drawn above earlier ones.
        title: read aloud, before the last value of every curve.
        x_label, y_label: quantity and unit.
        x_log, y_log: logarithmic axes; what is not positive is left out.
        y_range: ends of the y axis, where they are not the data's.
        levels: lines to compare with.
        x_names: of categories, that lie at x = 1, 2, ...
    """
    drawn = [_cleaned(curve, x_log, y_log) for curve in curves]
    drawn = [curve for curve in drawn if np.isfinite(curve[1]).any()]
    if not drawn:
        return f'<p class="none">{escape(title)}: no finite value to draw.</p>'
    ends = (0.5, len(x_names) + 0.5) if x_names else (None, None)
    places = np.concatenate([curve[0] for curve in drawn])
    x_axis = _Axis.over(places, x_log, _LEFT, WIDTH - _RIGHT, ends)
    extent = [part for _, y, low, high, _ in drawn for part in (y, low, high) if part is not None]
    extent.append(np.array([level.value for level in levels], dtype=np.float64))
    bottom, top = HEIGHT - _BOTTOM, _TOP
    y_axis = _Axis.over(np.concatenate(extent), y_log, bottom, top, y_range, margin=0.04)

    parts = [_axes(x_axis, y_axis, x_label, y_label, x_names)]
    for level in levels:
        y = float(y_axis(np.array([level.value]))[0])
        parts.append(
            f'<path class="level" d="M{_LEFT:g} {y:.1f}H{WIDTH - _RIGHT:g}"/>'
            f'<text class="level-name" x="{WIDTH - _RIGHT - 3:g}" y="{y - 4:.1f}">'
            f"{escape(level.name)}</text>"
        )
    for index, curve in enumerate(drawn):
        parts.append(_drawn(curve, x_axis, y_axis, index, len(drawn), bottom))
    spoken = "; ".join(_spoken(curve, x_label) for curve in drawn)
    label = escape(f"{title}. {y_label} against {x_label}. {spoken}", quote=True)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def swatch(style: Style) -> str:
    """A piece of line for the legend; silent, since the name stands beside it."""
    marker = _marker(style, 17.0, 7.0)
    return (
        '<svg class="swatch" viewBox="0 0 34 14" aria-hidden="true">'
        f'<path d="M1 7H33" {_stroke(style)}/>{marker}</svg>'
    )


_Cleaned = tuple[Float, Float, Float | None, Float | None, Curve]


def _cleaned(curve: Curve, x_log: bool, y_log: bool) -> _Cleaned:
    """x, y, low, high as arrays in which what cannot be drawn is NaN."""
    x, y = np.asarray(curve.x, dtype=np.float64), np.asarray(curve.y, dtype=np.float64)
    bad = ~(np.isfinite(x) & np.isfinite(y))
    if x_log:
        bad |= ~(x > 0)
    if y_log:
        bad |= ~(y > 0)
    x, y = x[~np.isnan(x)], np.where(bad, np.nan, y)[~np.isnan(x)]
    if curve.low is None or curve.high is None:
        return x, y, None, None, curve
    low, high = (
        np.asarray(bound, dtype=np.float64)[~np.isnan(np.asarray(curve.x, dtype=np.float64))]
        for bound in (curve.low, curve.high)
    )
    good = np.isfinite(y) & np.isfinite(low) & np.isfinite(high)
    if y_log:
        good &= low > 0
    return x, y, np.where(good, low, np.nan), np.where(good, high, np.nan), curve


@dataclass(frozen=True)
class _Axis:
    """Maps values to the drawing's units."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    @classmethod
    def over(
        cls,
        values: Float,
        log: bool,
        start: float,
        end: float,
        fixed: tuple[float | None, float | None] = (None, None),
        margin: float = 0.0,
    ) -> "_Axis":
        values = values[np.isfinite(values) & (values > 0 if log else True)]
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        if log:
            low, high = math.log10(low), math.log10(high)
        if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
            low, high = low - (0.3 if log else 0.5), high + (0.3 if log else 0.5)
        space = margin * (high - low)
        low, high = low - space, high + space
        ends = [None if v is None else (math.log10(v) if log else v) for v in fixed]
        low, high = low if ends[0] is None else ends[0], high if ends[1] is None else ends[1]
        return cls(low, max(high, low + 1e-12), start, end, log)

    def __call__(self, values: npt.ArrayLike) -> Float:
        values = np.asarray(values, dtype=np.float64)
        if self.log:
            values = np.log10(np.where(values > 0, values, np.nan))
        share = (values - self.low) / (self.high - self.low)
        return np.asarray(self.start + np.clip(share, -0.02, 1.02) * (self.end - self.start))

    def ticks(self) -> list[tuple[float, str]]:
        if self.log:
            return self._log_ticks()
        rough = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        decimals = max(0, -math.floor(math.log10(step)) + (step / unit == 2.5))
        return [
            (i * step, f"{i * step + 0.0:.{decimals}f}".replace("-", "−"))
            for i in range(first, last + 1)
        ]

    def _log_ticks(self) -> list[tuple[float, str]]:
        span = self.high - self.low
        steps: tuple[float, ...] = (1, 2, 5) if span < 2.2 else (1,)
        if span < 0.35:
            steps = (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
        every = max(1, round(span / 6))
        found = []
        for decade in range(math.floor(self.low), math.ceil(self.high) + 1):
            for step in steps:
                value = step * 10.0**decade
                inside = self.low - 1e-9 <= math.log10(value) <= self.high + 1e-9
                if inside and decade % every == 0:
                    found.append((value, _power(value, decade, step)))
        return found


def _power(value: float, decade: int, step: float) -> str:
    if -3 <= decade <= 4:
        return f"{value:g}"
    head = "" if step == 1 else f"{step:g}·"
    return f"{head}10{str(decade).translate(_SUPERSCRIPTS)}"


def _axes(x_axis: _Axis, y_axis: _Axis, x_label: str, y_label: str, x_names: Sequence[str]) -> str:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for value, text in y_axis.ticks():
        y = float(y_axis(value))
        parts.append(f'<path class="grid" d="M{_LEFT:g} {y:.1f}H{right:g}"/>')
        parts.append(f'<text class="tick end" x="{_LEFT - 5:g}" y="{y + 4:.1f}">{text}</text>')
    named = [(float(place), escape(name)) for place, name in enumerate(x_names, 1)]
    for value, text in named or x_axis.ticks():
        x = float(x_axis(value))
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP:g}V{bottom:g}"/>')
        parts.append(f'<text class="tick mid" x="{x:.1f}" y="{bottom + 15:g}">{text}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT:g} {_TOP:g}V{bottom:g}H{right:g}"/>')
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text class="name mid" x="{middle:g}" y="{HEIGHT - 5:g}">{escape(x_label)}</text>'
    )
    across = (_TOP + bottom) / 2
    parts.append(
        f'<text class="name mid" transform="translate(11 {across:g})rotate(-90)">'
        f"{escape(y_label)}</text>"
    )
    return "".join(parts)


def _drawn(
    curve: _Cleaned, x_axis: _Axis, y_axis: _Axis, index: int, total: int, bottom: float
) -> str:
    x, y, low, high, spec = curve
    px, py = x_axis(x), y_axis(np.where(np.isnan(y), np.nan, y))
    parts = []
    if low is not None and high is not None:
        if spec.kind == "points":
            bars = "".join(
                f"M{a:.1f} {b:.1f}V{c:.1f}"
                for a, b, c in zip(px, y_axis(low), y_axis(high), strict=True)
                if math.isfinite(b) and math.isfinite(c)
            )
            parts.append(f'<path d="{bars}" {_stroke(Style(spec.style.colour, width=1.1))}/>')
        else:
            good = np.isfinite(low) & np.isfinite(high) & np.isfinite(px)
            if good.sum() > 1:
                upper = _path(px[good], y_axis(high[good]))
                lower = _path(px[good][::-1], y_axis(low[good])[::-1]).replace("M", "L", 1)
                parts.append(
                    f'<path class="band" d="{upper}{lower}Z" fill="var(--{spec.style.colour})"/>'
                )
    if spec.kind == "area":
        good = np.isfinite(py)
        outline = _path(px[good], py[good])
        edge = f"L{px[good][-1]:.1f} {bottom:g}L{px[good][0]:.1f} {bottom:g}Z"
        parts.append(f'<path class="area" d="{outline}{edge}" fill="var(--{spec.style.colour})"/>')
        return "".join(parts)
    if spec.kind != "points":
        data = _steps(px, py) if spec.kind == "step" else (px, py)
        parts.append(f'<path d="{_path(*data)}" {_stroke(spec.style)}/>')
    if spec.style.marker:
        for i in _marked(px, py, spec.kind == "points", index, total):
            text = f"{spec.name}: {short(y[i])} at {short(x[i])}"
            if low is not None and high is not None and math.isfinite(low[i]):
                text += f" ({short(low[i])} to {short(high[i])})"
            parts.append(_marker(spec.style, px[i], py[i], text))
    return "".join(parts)


def _marked(px: Float, py: Float, every: bool, index: int, total: int) -> list[int]:
    """Indices that get a marker: all, or about five, spaced evenly on the page and staggered."""
    good = np.flatnonzero(np.isfinite(px) & np.isfinite(py))
    if every or len(good) <= 6:
        return [int(i) for i in good]
    span = px[good[-1]] - px[good[0]]
    shift = (index + 0.5) / max(total, 1)
    wanted = px[good[0]] + span * (np.arange(5) + shift) / 5
    return sorted({int(good[np.argmin(abs(px[good] - place))]) for place in wanted})


def _steps(px: Float, py: Float) -> tuple[Float, Float]:
    return np.repeat(px, 2)[1:], np.repeat(py, 2)[:-1]


def _path(px: Float, py: Float) -> str:
    parts, pen = [], "M"
    for a, b in zip(px, py, strict=True):
        if not (math.isfinite(a) and math.isfinite(b)):
            pen = "M"
            continue
        parts.append(f"{pen}{a:.1f} {b:.1f}")
        pen = "L"
    return "".join(parts)


def _stroke(style: Style) -> str:
    dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
    return f'fill="none" stroke="var(--{style.colour})" stroke-width="{style.width:g}"{dash}'


def _marker(style: Style, x: float, y: float, text: str = "") -> str:
    if not style.marker:
        return ""
    inside = f"<title>{escape(text)}</title>" if text else ""
    return (
        f'<path class="marker {style.marker}" d="{_MARKERS[style.marker]}" '
        f'transform="translate({x:.1f} {y:.1f})" fill="var(--{style.colour})" '
        f'stroke="var(--{style.colour})">{inside}</path>'
    )


def _spoken(curve: _Cleaned, x_label: str) -> str:
    x, y, _, _, spec = curve
    last = int(np.flatnonzero(np.isfinite(y))[-1])
    return f"{spec.name}: {short(y[last])} at {short(x[last])}"
