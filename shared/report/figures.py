"""The charts of a report: from the artefacts of each part to groups of panels."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from shared.report.models import Key, Looks
from shared.report.source import Artefact, Row, Source
from shared.report.svg import Curve, Level, Style, chart, thin
from shared.report.tables import key_of

__all__ = ["FIGURES", "Group", "Panel", "choices", "render"]

_ALIGNMENTS = {"com": "com", "raw": "raw", "aligned": "aligned"}
_QUANTITIES = {"rmse": "RMSE@n", "armse": "ARMSE(n)"}
_POINTS = 70  # of a curve on a logarithmic axis


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        svg: the element.
        caption: plain text: what, data, n.
        keys: the models drawn.
        choice: name of a choice -> the value for which the panel is shown.
    """

    svg: str
    caption: str
    keys: tuple[Key, ...]
    choice: dict[str, str]


@dataclass(frozen=True)
class Group:
    """Panels that share a heading, a legend and choices.

    Attributes:
        title, text: the heading and what to look at.
        panels: in order.
        choices: name of a choice -> value -> its label; the first is shown first.
    """

    title: str
    text: str
    panels: tuple[Panel, ...]
    choices: dict[str, dict[str, str]]


def render(group: Group, looks: Looks, name: str) -> str:
    """The group as HTML: choices, legend, panels; `name` is its id on the page."""
    if not group.panels:
        return ""
    used = {key: {panel.choice.get(key) for panel in group.panels} for key in group.choices}
    offered = {
        key: {value: label for value, label in values.items() if value in used[key]}
        for key, values in group.choices.items()
    }
    keys = [key for panel in group.panels for key in panel.keys]
    shared = any(len(panel.keys) > 1 for panel in group.panels)  # else the titles say which
    legend = looks.legend(keys) if shared else ""
    panels = "".join(
        f'<figure class="panel"{_attributes(panel.choice)}>'
        f"<figcaption>{_titled(panel.caption)}</figcaption>{panel.svg}</figure>"
        for panel in group.panels
    )
    return (
        f'<div class="group"><h4>{escape(group.title)}</h4><p>{escape(group.text)}</p>'
        f"{choices(name, offered)}{legend}"
        f'<div class="panels" id="{name}">{panels}</div></div>'
    )


def _titled(caption: str) -> str:
    """The first item of a caption set off."""
    first, _, rest = caption.partition(" · ")
    return f"<b>{escape(first)}</b> {escape(rest)}"


def choices(target: str, offered: dict[str, dict[str, str]]) -> str:
    """Radio buttons, or a list where there are many; nothing where there is one value."""
    parts = []
    for key, values in offered.items():
        if len(values) < 2:
            continue
        if len(values) > 4:
            options = "".join(
                f'<option value="{escape(value, quote=True)}">{escape(label)}</option>'
                for value, label in values.items()
            )
            parts.append(
                f'<label class="pick">{escape(key)} <select data-choice="{key}">{options}'
                "</select></label>"
            )
            continue
        buttons = "".join(
            f'<label><input type="radio" name="{target}-{key}" data-choice="{key}" '
            f'value="{escape(value, quote=True)}"{" checked" if index == 0 else ""}>'
            f"<span>{escape(label)}</span></label>"
            for index, (value, label) in enumerate(values.items())
        )
        parts.append(f"<fieldset><legend>{escape(key)}</legend>{buttons}</fieldset>")
    return f'<div class="choices" data-for="{target}">{"".join(parts)}</div>' if parts else ""


def _attributes(choice: dict[str, str]) -> str:
    return "".join(f' data-{key}="{escape(value, quote=True)}"' for key, value in choice.items())


def _systems(artefacts: Iterable[Artefact]) -> dict[tuple[str, str], list[Artefact]]:
    found: dict[tuple[str, str], list[Artefact]] = {}
    for artefact in artefacts:
        found.setdefault((artefact.data, artefact.system), []).append(artefact)
    return found


def _in_order(artefacts: Sequence[Artefact], looks: Looks) -> list[tuple[Key, Artefact]]:
    """The artefacts of a system in the order of the legend; the learned ones are drawn last."""
    by_key = {Key(artefact.model, artefact.variant): artefact for artefact in artefacts}
    return [(key, by_key[key]) for key in looks.sort(by_key)]


def _evenly(x: npt.NDArray[np.float64], points: int = _POINTS) -> npt.NDArray[np.int64]:
    """Indices that are evenly spaced on a logarithmic axis, both ends among them."""
    if len(x) <= points:
        return np.arange(len(x))
    wanted = np.geomspace(max(x[0], x[-1] * 1e-5), x[-1], points)
    return np.unique(np.append(np.searchsorted(x, wanted * (1 - 1e-9)).clip(0, len(x) - 1), 0))


def _span(counts: Iterable[int]) -> str:
    """n of a panel, or its range."""
    found = sorted(set(counts))
    if not found:
        return "n not given"
    return f"n = {found[0]}" if len(found) == 1 else f"n = {found[0]}–{found[-1]}"


def error_curves(source: Source, part: str, looks: Looks) -> list[Group]:
    """Errors against the horizon, of all alignments, cumulative and of the frame alone."""
    panels = []
    ensembles = _systems(source.drawn(f"{part}-ensemble"))
    for (data, system), artefacts in _systems(source.drawn(part)).items():
        drawn = [(key, "", artefact) for key, artefact in _in_order(artefacts, looks)]
        for key, artefact in _in_order(ensembles.get((data, system), []), looks):
            mean = Key(key.model, key.variant, "ensemble mean")
            drawn.append((mean, "_ensemble_mean", artefact))
        for quantity, meaning in _QUANTITIES.items():
            for alignment, how in _ALIGNMENTS.items():
                curves: list[Curve] = []
                keys: list[Key] = []
                counts: set[int] = set()
                for key, ending, artefact in drawn:
                    arrays, name = artefact.arrays, f"{quantity}_{alignment}{ending}"
                    if name not in arrays:
                        continue
                    at = _evenly(arrays["time_fs"])
                    counts.update(int(n) for n in arrays.get("n_starts", [])[:1])
                    time, values = arrays["time_fs"][at], arrays[name][at]
                    low, high = (
                        arrays[f"{name}_{end}"][at] if f"{name}_{end}" in arrays else None
                        for end in ("low", "high")
                    )
                    curves.append(Curve(str(key), time, values, looks[key], low, high))
                    keys.append(key)
                if not curves:
                    continue
                svg = chart(
                    curves,
                    title=f"{system}: {meaning}, {how}",
                    x_label="time after the start (fs)",
                    y_label="error (Å per atom)",
                    x_log=True,
                    y_log=True,
                )
                caption = f"{system} · {data} · {_span(counts)} starts"
                panels.append(
                    Panel(svg, caption, tuple(keys), {"quantity": quantity, "alignment": alignment})
                )
    return [
        Group(
            "Error against the horizon",
            "Below the dashed grey curves a model has learned dynamics; above them a constant or "
            "a straight line predicts better. RMSE@n has frame n alone, ARMSE(n) all frames up to "
            "it; com: centres of mass removed; aligned: each frame superposed. Bands: 95 % over "
            "starts.",
            tuple(panels),
            {"quantity": _QUANTITIES, "alignment": _ALIGNMENTS},
        )
    ]


def sparse(source: Source, part: str, looks: Looks) -> list[Group]:
    """Ratio to persistence at each gap."""
    panels = []
    for (data, system), artefacts in _systems(source.drawn(part)).items():
        ordered = _in_order(artefacts, looks)
        curves = []
        counts: list[int] = []
        for key, artefact in ordered:
            arrays = artefact.arrays
            counts.extend(int(n) for n in arrays["n"])
            curves.append(
                Curve(
                    str(key),
                    arrays["gap_fs"],
                    arrays["ratio"],
                    looks[key],
                    arrays["ratio_low"],
                    arrays["ratio_high"],
                )
            )
        svg = chart(
            curves,
            title=f"{system}: error as a fraction of persistence's",
            x_label="gap (fs)",
            y_label="RMSE / persistence",
            x_log=True,
            y_log=True,
            levels=[Level(1.0, "persistence")],
        )
        caption = f"{system} · {data} · {_span(counts)} pairs for a gap"
        panels.append(Panel(svg, caption, tuple(key for key, _ in ordered), {}))
    title = "Error over gaps of the sparse real frames"
    text = "Wherever a later frame exists. Bands: 95 % over pairs."
    return [Group(title, text, tuple(panels), {})]


def windows(source: Source, part: str, looks: Looks) -> list[Group]:
    """Mean displacement against time in the short windows."""
    panels = []
    for (data, system), artefacts in _systems(source.drawn(part)).items():
        ordered = _in_order(artefacts, looks)
        curves = [
            Curve(str(key), a.arrays["time_fs"], a.arrays["displacement"], looks[key])
            for key, a in ordered
        ]
        svg = chart(
            curves,
            title=f"{system}: mean displacement from the reference",
            x_label="time after the start (fs)",
            y_label="displacement (Å)",
            y_log=True,
        )
        caption = f"{system} · {data} · {_count(source, part, system)} starts"
        panels.append(Panel(svg, caption, tuple(key for key, _ in ordered), {}))
    text = "Mean distance of an atom from where the reference has it, over starts and samples."
    return [Group("Displacement in short windows", text, tuple(panels), {})]


def energies(source: Source, part: str, looks: Looks) -> list[Group]:
    """Error of every test frame's energy against its energy."""
    panels = []
    for (data, system), artefacts in _systems(source.drawn(part)).items():
        ordered = _in_order(artefacts, looks)
        curves = []
        frames = set()
        for key, artefact in ordered:
            true = artefact.arrays["energy_true"]
            error = 1000.0 * (artefact.arrays["energy_predicted"] - true)
            frames.add(len(true))
            curves.append(Curve(str(key), true - true.min(), error, looks[key], kind="points"))
        svg = chart(
            curves,
            title=f"{system}: error of the energy",
            x_label="energy above the lowest frame's (eV)",
            y_label="predicted − true (meV)",
            levels=[Level(0.0, "")],
        )
        caption = f"{system} · {data} · {_span(frames)} frames"
        panels.append(Panel(svg, caption, tuple(key for key, _ in ordered), {}))
    text = "One mark for each test frame; a slope means that strained molecules are misjudged."
    return [Group("Energies of the test frames", text, tuple(panels), {})]


def stability(source: Source, part: str, looks: Looks) -> list[Group]:
    """Survival, temperatures and energies of long runs."""
    survival, temperatures, energy = [], [], []
    systems = _systems(source.drawn(part))
    for (data, system), artefacts in systems.items():
        ordered = _in_order(artefacts, looks)
        alive = [(key, a.arrays) for key, a in ordered if "surviving" in a.arrays]
        svg = chart(
            [
                Curve(str(key), *_changes(a["time_ps"], a["surviving"]), looks[key], kind="step")
                for key, a in alive
            ],
            title=f"{system}: share of replicas that are whole",
            x_label="time (ps)",
            y_label="share of replicas",
            y_range=(0.0, 1.05),
        )
        replicas = _span(len(a["stable_ps"]) for _, a in alive if "stable_ps" in a)
        caption = f"{system} · {data} · {replicas} replicas"
        survival.append(Panel(svg, caption, tuple(key for key, _ in alive), {}))
        for key, artefact in ordered:
            choice = {"system": system}
            where = f"{key} · {system} · {data}"
            if trace := _temperature(artefact, key, looks):
                temperatures.append(Panel(trace, where, (key,), choice))
            if trace := _energy(artefact, key, looks):
                energy.append(Panel(trace, where, (key,), choice))
    names = {"system": {system: system for _, system in systems}}
    return [
        Group(
            "Survival",
            "A replica counts until a bond is off by more than 0.5 Å.",
            tuple(survival),
            {},
        ),
        Group(
            "Temperature",
            "Bold: mean over replicas. Thin: single replicas.",
            tuple(temperatures),
            names,
        ),
        Group(
            "Energy",
            "Total (bold) and potential (dotted) energy of one replica, from the first total "
            "energy. A total that climbs is a drift of the integrator or of the model.",
            tuple(energy),
            names,
        ),
    ]


def _changes(
    time: npt.NDArray[np.float64], share: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A step function by its steps alone."""
    kept = np.flatnonzero(np.append(True, np.diff(share) != 0))
    kept = np.unique(np.append(kept, len(share) - 1))
    return time[kept], share[kept]


def _columns(values: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    return list(values.T) if values.ndim == 2 else [values]


def _temperature(artefact: Artefact, key: Key, looks: Looks) -> str | None:
    arrays = artefact.arrays
    if "temperature" not in arrays and "temperature_mean" not in arrays:
        return None
    look, time = looks[key], arrays["time_ps"]
    curves = [
        Curve(f"replica {i + 1}", *thin(time, column, 160), Style("quiet", width=0.6))
        for i, column in enumerate(_columns(arrays.get("temperature", np.empty((len(time), 0)))))
    ]
    if "temperature_mean" in arrays:
        mean = thin(time, arrays["temperature_mean"], 200)
        curves.append(Curve("mean", *mean, Style(look.colour, width=1.6)))
    return chart(
        curves, title=f"{key}: temperature", x_label="time (ps)", y_label="temperature (K)"
    )


def _energy(artefact: Artefact, key: Key, looks: Looks) -> str | None:
    arrays = artefact.arrays
    if "total" not in arrays or not arrays["total"].size:
        return None
    colour, time = looks[key].colour, arrays["time_ps"]
    total, potential = _columns(arrays["total"])[0], _columns(arrays["potential"])[0]
    curves = [
        Curve(
            "potential", *thin(time, potential - total[0], 200), Style(colour, "1.5 1.5", "", 0.8)
        ),
        Curve("total", *thin(time, total - total[0], 200), Style(colour, width=2.0)),
    ]
    return chart(curves, title=f"{key}: energy", x_label="time (ps)", y_label="energy (eV)")


_KINDS = {
    "ratios": "summary",
    "bond": "bond lengths",
    "angle": "angles",
    "torsion": "torsions",
    "other": "h(r), spectrum, memory",
}
_OVERLAYS = (
    ("pair_r", "pair", "pair distances", "distance (Å)", "density h(r)"),
    ("vdos_wavenumber", "vdos", "vibrational spectrum", "wavenumber (1/cm)", "density of states"),
)
_UNITS = {"bond": "length (Å)", "angle": "angle (°)", "torsion": "torsion (°)"}


def distributions(source: Source, part: str, looks: Looks) -> list[Group]:
    """Divergences as ratios, and the histograms they come from, on top of the reference's."""
    panels = list(_ratios(source.of(part), looks))
    systems = _systems(source.drawn(part))
    for (data, system), artefacts in systems.items():
        ordered = _in_order(artefacts, looks)
        for kind in _UNITS:
            panels.extend(_histograms(ordered, kind, system, data, looks))
        panels.extend(_overlays(ordered, system, data, looks))
    names = list(dict.fromkeys([s for _, s in systems] + [p.choice["system"] for p in panels]))
    return [
        Group(
            "Distributions",
            "Grey area: the reference. Ratios are to the static oracle, the reference's own blocks "
            "against each other: 1 is as good as the reference can tell.",
            tuple(panels),
            {"system": {name: name for name in names}, "show": _KINDS},
        )
    ]


def _ratios(rows: Sequence[Row], looks: Looks) -> Iterable[Panel]:
    """One panel for each system: a place on the x axis for each kind of histogram."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if "/" in row.metric and "oracle" in row.metric:
            found.setdefault((row.data, row.system), []).append(row)
    for (data, system), group in found.items():
        metrics = list(dict.fromkeys(row.metric for row in group))
        keys = looks.sort(key_of(row) for row in group)
        curves = []
        for index, key in enumerate(keys):
            shift = 0.5 * ((index + 0.5) / len(keys) - 0.5)
            own = [row for row in group if key_of(row) == key]
            values, lows, highs = (
                [np.nan if v is None else v for v in column]
                for column in zip(*((r.value, r.low, r.high) for r in own), strict=True)
            )
            places = [metrics.index(row.metric) + 1 + shift for row in own]
            curves.append(Curve(str(key), places, values, looks[key], lows, highs, kind="points"))
        svg = chart(
            curves,
            title=f"{system}: divergence from the reference over the static oracle's",
            x_label="",
            y_label="ratio to the static oracle",
            y_log=True,
            levels=[Level(1.0, "static oracle")],
            x_names=[metric.split(" / ")[0].removesuffix(" JSD") for metric in metrics],
        )
        counts = _span(row.n for row in group if row.n is not None)
        caption = f"{system} · {data} · {counts} windows"
        yield Panel(svg, caption, tuple(keys), {"system": system, "show": "ratios"})


def _histograms(
    ordered: Sequence[tuple[Key, Artefact]], kind: str, system: str, data: str, looks: Looks
) -> Iterable[Panel]:
    holders = [(key, a.arrays) for key, a in ordered if f"{kind}_labels" in a.arrays]
    if not holders:
        return
    first = holders[0][1]
    reference = Key("reference")
    for index, label in enumerate(first[f"{kind}_labels"]):
        edges = first[f"{kind}_edges"][index]
        centres, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
        curves = [
            Curve(
                "reference",
                centres,
                _density(first[f"{kind}_reference"][index], width),
                looks[reference],
                kind="area",
            )
        ]
        curves += [
            Curve(
                str(key),
                centres,
                _density(a[f"{kind}_generated"][index], width),
                _plain(looks, key),
            )
            for key, a in holders
        ]
        svg = chart(
            curves,
            title=f"{system}, {label}: distribution",
            x_label=_UNITS[kind],
            y_label="density",
            y_range=(0.0, None),
        )
        keys = (reference, *(key for key, _ in holders))
        yield Panel(svg, f"{label} · {system} · {data}", keys, {"system": system, "show": kind})


def _density(histogram: npt.NDArray[np.float64], width: float) -> npt.NDArray[np.float64]:
    total = float(np.sum(histogram))
    return np.asarray(histogram, dtype=np.float64) / (total * width if total > 0 else 1.0)


def _plain(looks: Looks, key: Key) -> Style:
    """A thinner line for charts where curves lie on top of each other."""
    look = looks[key]
    return Style(look.colour, look.dash, look.marker, 1.4)


def _overlays(
    ordered: Sequence[tuple[Key, Artefact]], system: str, data: str, looks: Looks
) -> Iterable[Panel]:
    reference = Key("reference")
    for grid, prefix, name, x_label, y_label in _OVERLAYS:
        holders = [(key, a.arrays) for key, a in ordered if grid in a.arrays]
        if not holders:
            continue
        first = holders[0][1]
        used = first[f"{prefix}_reference"] > 1e-6 * np.max(first[f"{prefix}_reference"])
        stop = int(np.flatnonzero(used)[-1]) + 2 if used.any() else len(used)
        curves = [
            Curve(
                "reference",
                first[grid][:stop],
                first[f"{prefix}_reference"][:stop],
                looks[reference],
                kind="area",
            )
        ]
        curves += [
            Curve(str(key), a[grid][:stop], a[f"{prefix}_generated"][:stop], _plain(looks, key))
            for key, a in holders
        ]
        svg = chart(
            curves,
            title=f"{system}: {name}",
            x_label=x_label,
            y_label=y_label,
            y_range=(0.0, None),
        )
        keys = (reference, *(key for key, _ in holders))
        yield Panel(svg, f"{name} · {system} · {data}", keys, {"system": system, "show": "other"})
    holders = [(key, a.arrays) for key, a in ordered if "torsion_time_ps" in a.arrays]
    if not holders:
        return
    n_torsions = np.shape(holders[0][1]["torsion_correlation_reference"])[-1]
    for torsion in range(min(n_torsions, 6)):
        first = holders[0][1]
        curves = [
            Curve(
                "reference",
                *thin(first["torsion_time_ps"], first["torsion_correlation_reference"][:, torsion]),
                looks[reference],
            )
        ]
        curves += [
            Curve(
                str(key),
                *thin(a["torsion_time_ps"], a["torsion_correlation_generated"][:, torsion]),
                _plain(looks, key),
            )
            for key, a in holders
        ]
        svg = chart(
            curves,
            title=f"{system}: memory of torsion {torsion + 1}",
            x_label="time (ps)",
            y_label="⟨cos Δφ⟩",
            levels=[Level(float(np.exp(-1)), "1/e")],
        )
        keys = (reference, *(key for key, _ in holders))
        caption = f"memory of torsion {torsion + 1} · {system} · {data}"
        yield Panel(svg, caption, keys, {"system": system, "show": "other"})


def _count(source: Source, part: str, system: str) -> str:
    return _span(row.n for row in source.of(part) if row.system == system and row.n is not None)


FIGURES: dict[str, Callable[[Source, str, Looks], list[Group]]] = {
    "s2l": error_curves,
    "o2o": error_curves,
    "consecutive": error_curves,
    "s2l_real": error_curves,
    "sparse": sparse,
    "stability": stability,
    "energies": energies,
    "windows": windows,
    "distributions": distributions,
}
"""Part -> the groups of panels drawn from its rows and artefacts."""
