"""The 3D viewer: a generated trajectory beside the reference, drawn by 3Dmol.js.

Coordinates are embedded as 16-bit integers of 0.001 Å, relative to the centre of mass of each
frame, in base64: finer than a screen shows, a sixth of the size of text. 3Dmol.js is Rego and Koes,
Bioinformatics 31, 1322 (2015); the file in `assets` is the minified one of its npm package.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.metrics.armse import centre
from shared.report.models import Key, Looks, family
from shared.report.source import Artefact, Source
from shared.units import masses

__all__ = ["LIBRARY", "LIBRARY_VERSION", "Clip", "clips", "embedded", "markup", "quantised"]

LIBRARY, LIBRARY_VERSION = "3Dmol-min.js", "2.5.5"

UNIT = 1e-3
"""Å per integer."""

_LARGEST = 32767
_FRAMES = 250  # of a clip


@dataclass(frozen=True)
class Clip:
    """What the viewer plays.

    Attributes:
        data, system, key: what it is of.
        numbers: [N] atomic numbers.
        bonds: [B, 2].
        time_fs: [T].
        generated: [T, N, 3] Å, relative to the centre of mass.
        reference: [T', N, 3], T' <= T, at the first T' times; None: there is none.
    """

    data: str
    system: str
    key: Key
    numbers: npt.NDArray[np.int64]
    bonds: npt.NDArray[np.int64]
    time_fs: npt.NDArray[np.float64]
    generated: npt.NDArray[np.float64]
    reference: npt.NDArray[np.float64] | None


def clips(source: Source, looks: Looks, frames: int = _FRAMES) -> list[Clip]:
    """The trajectories of an evaluation, each with its reference; of learned models first.
    What has no reference beside it comes last.

    Args:
        source: rows and artefacts.
        looks: gives the order of the models.
        frames: the most that a clip has; longer ones are thinned evenly.
    """
    systems: dict[tuple[str, str], dict[Key, Artefact]] = {}
    for artefact in source.drawn("trajectory"):
        found = systems.setdefault((artefact.data, artefact.system), {})
        found[Key(artefact.model, artefact.variant)] = artefact
    result = []
    for (data, system), found in systems.items():
        reference = next((found[key] for key in found if key.model == "reference"), None)
        keys = looks.sort(key for key in found if key.model != "reference")
        for key in sorted(keys, key=lambda key: family(key.model) != "learned"):
            clip = _clip(data, system, key, found[key], reference, frames)
            result.extend([] if clip is None else [clip])
    return sorted(result, key=lambda clip: clip.reference is None)


def _clip(
    data: str, system: str, key: Key, generated: Artefact, reference: Artefact | None, frames: int
) -> Clip | None:
    arrays = generated.arrays
    positions = np.asarray(arrays["positions"], dtype=np.float64)
    whole = np.isfinite(positions).all(axis=(1, 2))
    n = len(positions) if whole.all() else int(np.argmin(whole))
    if n == 0:
        return None
    stride = -(-n // frames)
    numbers, time = arrays["numbers"], arrays["time_fs"][:n:stride].astype(np.float64)
    beside = None
    if reference is not None:
        beside = _at(time, reference.arrays, numbers)
    return Clip(
        data=data,
        system=system,
        key=key,
        numbers=numbers.astype(np.int64),
        bonds=arrays["bonds"].astype(np.int64),
        time_fs=time,
        generated=centre(positions[:n:stride], masses(numbers)),
        reference=beside,
    )


def _at(
    time: npt.NDArray[np.float64], arrays: Any, numbers: npt.NDArray[Any]
) -> npt.NDArray[np.float64] | None:
    """The reference's frames nearest to the times, as far as it has them; None: of another
    molecule, or it has none."""
    if not np.array_equal(arrays["numbers"], numbers):
        return None
    own = arrays["time_fs"].astype(np.float64)
    nearest = np.argmin(abs(own[None, :] - time[:, None]), axis=1)
    tolerance = 0.51 * (own[1] - own[0]) if len(own) > 1 else 0.01
    there = abs(own[nearest] - time) <= tolerance
    n = len(there) if there.all() else int(np.argmin(there))
    frames = arrays["positions"][nearest[:n]]
    return centre(frames, masses(numbers)) if n else None


def quantised(positions: npt.NDArray[np.float64]) -> str:
    """[T, N, 3] Å as base64 of little-endian 16-bit integers; 32.767 Å is the largest."""
    integers = np.clip(np.rint(positions / UNIT), -_LARGEST, _LARGEST).astype("<i2")
    return base64.b64encode(integers.tobytes()).decode("ascii")


def embedded(found: Sequence[Clip]) -> str:
    """The clips as JSON that can stand inside a script element; equal coordinates stand once."""
    from ase.data import chemical_symbols

    coordinates: list[str] = []
    places: dict[str, int] = {}

    def place(positions: npt.NDArray[np.float64] | None) -> int | None:
        if positions is None:
            return None
        text = quantised(positions)
        if text not in places:
            places[text] = len(coordinates)
            coordinates.append(text)
        return places[text]

    content = {
        "unit": UNIT,
        "clips": [
            {
                "data": clip.data,
                "system": clip.system,
                "model": str(clip.key),
                "elements": [chemical_symbols[z] for z in clip.numbers],
                "bonds": clip.bonds.tolist(),
                "time": [round(float(t), 4) for t in clip.time_fs],
                "generated": place(clip.generated),
                "reference": place(clip.reference),
            }
            for clip in found
        ],
        "coordinates": coordinates,
    }
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def markup(found: Sequence[Clip]) -> str:
    """The controls and the two canvases; assets/viewer.js fills them."""
    if not found:
        return ""
    options = "".join(
        f'<option value="{i}">{escape(f"{clip.system} · {clip.key} · {clip.data}")}</option>'
        for i, clip in enumerate(found)
    )
    speeds = "".join(
        f'<option value="{fps}"{" selected" if fps == 15 else ""}>{fps} frames/s</option>'
        for fps in (5, 15, 30, 60)
    )
    keys = "arrow keys turn it, plus and minus zoom"
    panes = "".join(
        f'<figure class="pane"><div class="canvas" id="viewer-{name}" tabindex="0" role="img" '
        f'aria-label="{label}, in three dimensions; {keys}"></div>'
        f'<figcaption id="viewer-{name}-name">{label}</figcaption></figure>'
        for name, label in (("generated", "generated"), ("reference", "reference"))
    )
    return f"""
<div id="viewer" class="viewer">
<div class="controls">
<label class="pick wide">trajectory <select id="viewer-clip">{options}</select></label>
</div>
<div class="panes">{panes}</div>
<p id="viewer-problem" class="none" hidden></p>
<div class="controls play">
<button type="button" id="viewer-play" aria-pressed="false">
<span aria-hidden="true">▶</span> <span class="word">Play</span></button>
<label class="slider"><span class="quiet">frame</span>
<input type="range" id="viewer-frame" min="0" max="0" value="0" step="1"></label>
<output id="viewer-time" for="viewer-frame"></output>
</div>
<div class="strip"><svg id="viewer-strip" viewBox="0 0 600 70" preserveAspectRatio="none"
 role="img" aria-label="Distance between generated and reference against time"></svg>
<span id="viewer-strip-name" class="quiet"></span></div>
<div class="controls">
<label class="pick">speed <select id="viewer-speed">{speeds}</select></label>
<label class="pick">style <select id="viewer-style">
<option value="ball">ball and stick</option><option value="stick">sticks</option>
<option value="sphere">space-filling</option></select></label>
<label class="tick"><input type="checkbox" id="viewer-overlay"> reference as a ghost</label>
<button type="button" id="viewer-reset">Reset the view</button>
</div>
<p class="quiet">Drag to turn, both molecules together; click one and the wheel zooms, or use the
arrow keys, + and −. Centres of mass are held in the middle; rotation is the trajectory's own.</p>
</div>"""
