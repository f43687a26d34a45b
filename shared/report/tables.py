"""Tables of rows: systems down, models across, with intervals and n."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from statistics import median

from shared.evaluation.results import beyond, without_time
from shared.evaluation.targets import Found, Target
from shared.report.models import Key, Looks, best_trivial, family
from shared.report.source import Row
from shared.report.svg import short

__all__ = ["cell", "cost", "long", "published", "scrolling", "standing", "summary"]

LOWER_IS_BETTER = ("RMSE", "ARMSE", "ADE", "FDE", "S2S", "S2T", "MAE", "JSD", "distance")
"""Words in the names of errors: for these a trivial predictor is a bar to get below."""

TIME_UNTIL = "exceeds"
"""Word in the names of times at which an error gets too large: the later the better."""


def is_error(metric: str) -> bool:
    """Is less better, so that comparison with a trivial predictor makes sense?"""
    words = re.findall(r"\w+", metric)
    return TIME_UNTIL not in words and any(word in LOWER_IS_BETTER for word in words)


def key_of(row: Row) -> Key:
    return Key(row.model, row.variant)


def scrolling(table: str, label: str) -> str:
    """A table that scrolls sideways by itself; the keyboard reaches it."""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label, quote=True)}">'
        f"{table}</div>"
    )


def cell(row: Row | None, mark: str = "") -> str:
    """A figure with its interval; `mark` is a class: best or beaten."""
    if row is None:
        return '<td class="empty">–</td>'
    interval = ""
    if row.low is not None and row.high is not None:
        interval = f'<span class="interval">{short(row.low, 2)}–{short(row.high, 2)}</span>'
    note = f' title="{escape(row.note, quote=True)}"' if row.note else ""
    star = '<span class="noted" aria-label="see notes">*</span>' if row.note else ""
    css = f' class="{mark}"' if mark else ""
    return f"<td{css}{note}>{value_of(row)}{star}{interval}</td>"


def value_of(row: Row) -> str:
    """A figure; of a time that was not reached, what it is beyond."""
    return (escape(beyond(row.note)) if row.value is None else "") or short(row.value)


def summary(rows: Sequence[Row], looks: Looks, caption: str) -> str:
    """One metric: a line for each system and horizon, a column for each model.

    The best learned model of a line is set off, and those that do not get below the best trivial
    predictor are marked ▲.

    Args:
        rows: of one part and one metric.
        looks: gives the order of the models.
        caption: plain text.
    """
    keys = looks.sort(key_of(row) for row in rows)
    error = bool(rows) and is_error(rows[0].metric)
    horizons = any(row.horizon for row in rows)
    lines: dict[tuple[str, str], dict[str, dict[Key, Row]]] = {}
    for row in sorted(rows, key=lambda row: _after(row.horizon_fs)):
        system_lines = lines.setdefault((row.data, row.system), {})
        system_lines.setdefault(row.horizon, {})[key_of(row)] = row
    many_data = len({data for data, _ in lines}) > 1
    head = '<th scope="col">system</th>'
    head += '<th scope="col">horizon</th>' if horizons else ""
    head += "".join(
        f'<th scope="col" class="{family(key.model)}">{_broken(str(key))}</th>' for key in keys
    )
    body = []
    first_seen = list(dict.fromkeys((row.data, row.system) for row in rows))
    for data, system in first_seen:
        by_horizon = lines[data, system]
        small = f" <small>{escape(data)}</small>" if many_data else ""
        first = f'<th scope="rowgroup" rowspan="{len(by_horizon)}">{escape(system)}{small}</th>'
        inner = []
        for horizon, found in by_horizon.items():
            line = f"<td>{escape(horizon)}</td>" if horizons else ""
            inner.append(f"<tr>{first}{line}{_figures(found, keys, error)}</tr>")
            first = ""
        body.append(f"<tbody>{''.join(inner)}</tbody>")
    table = (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"{''.join(body)}</table>"
    )
    return scrolling(table, caption) + _notes(rows)


def _figures(found: dict[Key, Row], keys: Sequence[Key], error: bool) -> str:
    """The cells of a line, in the order of the keys."""
    finite = {key: row.value for key, row in found.items() if row.value is not None}
    values = {key: float(value) for key, value in finite.items() if math.isfinite(value)}
    bar = best_trivial(values) if error else None
    learned = {key: value for key, value in values.items() if family(key.model) == "learned"}
    best = min(learned, key=lambda key: learned[key]) if error and len(learned) > 1 else None
    cells = []
    for key in keys:
        marks = ["best"] if key == best else []
        marks += ["beaten"] if bar and key in learned and learned[key] >= bar[1] else []
        cells.append(cell(found.get(key), " ".join(marks)))
    return "".join(cells)


def required(held: Sequence[tuple[Target, Found]], caption: str) -> str:
    """What is required, whether it is met, and the worst of what it is required of."""
    body = ""
    for target, found in held:
        if found.worst is None:
            met, worst = "not measured", '<td class="empty">–</td>'
        else:
            kept = f"{found.places - found.missed} of {found.places}"
            low, high = found.worst.low, found.worst.high
            between = "" if low is None or high is None else f"{short(low)}–{short(high)}"
            met = "yes" if found.met else f"<b>no</b> ({kept})"
            worst = (
                f'<td>{short(found.worst.value)}<span class="interval">{between}</span>'
                f'<span class="where">{escape(found.where)}</span></td>'
            )
        body += (
            f'<tr><th scope="row">{escape(target.says)}</th>{worst}<td>{escape(target.bound)}</td>'
            f"<td>{met}</td></tr>"
        )
    head = "".join(f'<th scope="col">{word}</th>' for word in ("required", "worst", "bound", "met"))
    return scrolling(
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>",
        caption,
    )


def standing(rows: Sequence[Row], looks: Looks, caption: str) -> str:
    """How often each learned model is below the best trivial predictor, and by how much.

    Returns:
        a table, or "" where nothing can be compared.
    """
    groups: dict[tuple[str, float, str], dict[str, dict[Key, float]]] = {}
    for row in rows:
        if is_error(row.metric) and row.value is not None and math.isfinite(row.value):
            place = (row.metric, _after(row.horizon_fs), row.horizon)
            group = groups.setdefault(place, {})
            group.setdefault(f"{row.data}/{row.system}", {})[key_of(row)] = row.value
    columns: list[str] = []
    cells: dict[Key, dict[str, str]] = {}
    for metric, _, horizon in sorted(groups):
        column = f"{metric}, {horizon}" if horizon else metric
        ratios: dict[Key, list[float]] = {}
        for values in groups[metric, _, horizon].values():
            bar = best_trivial(values)
            for key, value in values.items():
                if bar and bar[1] > 0 and family(key.model) in ("learned", "ceiling"):
                    ratios.setdefault(key, []).append(value / bar[1])
        if not any(family(key.model) == "learned" for key in ratios):
            continue
        columns.append(column)
        for key, found in ratios.items():
            below = sum(ratio < 1 for ratio in found)
            middle = median(found)
            sign = "●" if below == len(found) else "◐" if below else "○"
            cells.setdefault(key, {})[column] = (
                f'<td><span aria-hidden="true">{sign}</span> {below} of {len(found)}'
                f'<span class="interval">median {short(middle, 2)} ×</span></td>'
            )
    if not columns:
        return ""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(str(key))}</th>'
        + "".join(cells[key].get(column, '<td class="empty">–</td>') for column in columns)
        + "</tr>"
        for key in looks.sort(cells)
    )
    return scrolling(
        f"<table><caption>{escape(caption)}</caption><thead><tr>"
        f'<th scope="col">model</th>{head}</tr></thead><tbody>{body}</tbody></table>',
        caption,
    )


def published(rows: Sequence[Row], caption: str) -> str:
    """What is published, beside the least errors of trivial predictors and of learned models.

    A published figure of no stated horizon stands beside the longest.

    Returns:
        a table, or "" where nothing is published, or nothing measured beside it.
    """
    given = [r for r in rows if family(r.model) == "published" and is_error(r.metric)]
    lines: dict[tuple[str, str, str], tuple[dict[str, Row], dict[str, Row]]] = {}
    for figure in given:
        metric = figure.metric.replace("(published)", "raw")
        same = [r for r in rows if (r.system, r.metric) == (figure.system, metric)]
        longest = max((r.horizon_fs for r in same if r.horizon_fs is not None), default=None)
        wanted = figure.horizon_fs if figure.horizon else longest
        least: dict[str, Row] = {}
        for row in same:
            kind = family(row.model)
            if row.value is None or not math.isfinite(row.value) or row.horizon_fs != wanted:
                continue
            if kind not in least or row.value < (least[kind].value or 0.0):
                least[kind] = row
        if not {"trivial", "learned"} & set(least):
            continue
        horizon = next(iter(least.values())).horizon
        what = ", ".join(filter(None, (metric, horizon)))
        line = f"{what} [{figure.unit}]" if figure.unit != "1" else what
        beside, _ = lines.setdefault((line, figure.system, figure.data), ({}, least))
        beside[figure.model] = figure
    if not lines:
        return ""
    models = list(dict.fromkeys(model for beside, _ in lines.values() for model in beside))
    body = dict[str, list[str]]()
    for (line, system, _), (beside, least) in lines.items():
        bar, own = least.get("trivial"), least.get("learned")
        beaten = own and bar and (own.value or 0.0) >= (bar.value or 0.0)
        cells = "".join(cell(beside.get(m)) for m in models)
        cells += _named(bar) + _named(own, "beaten" if beaten else "")
        body.setdefault(line, []).append(f'<tr><th scope="row">{escape(system)}</th>{cells}</tr>')
    names = ("system", *models, "best trivial", "best learned")
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    wide = f'<tr class="of"><th scope="rowgroup" colspan="{len(names)}">'
    groups = "".join(
        f"<tbody>{wide}{escape(line)}</th></tr>{''.join(own)}</tbody>" for line, own in body.items()
    )
    table = (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>{groups}</table>"
    )
    return scrolling(table, caption) + _notes(r for r in rows if family(r.model) == "published")


def _named(row: Row | None, mark: str = "") -> str:
    """A figure with its interval, and below it whose it is."""
    shown = cell(row, mark)
    if row is None:
        return shown
    name = f'<span class="where">{_broken(str(key_of(row)))}</span>'
    return shown.removesuffix("</td>") + name + "</td>"


def _after(time_fs: float | None) -> float:
    """To sort by: what has no time comes last."""
    return math.inf if time_fs is None else time_fs


def cost(rows: Sequence[Row], looks: Looks, caption: str) -> str:
    """Models down, what they cost across."""
    return _crossed(
        rows,
        caption,
        line=lambda row: (row.system, str(key_of(row))),
        column=lambda row: ", ".join(
            part for part in (row.metric, row.horizon, "" if row.unit == "1" else row.unit) if part
        ),
        order=[str(key) for key in looks.sort(key_of(row) for row in rows)],
    )


def long(rows: Sequence[Row], caption: str) -> str:
    """Every row as it is."""
    names = ("data", "system", "model", "variant", "metric", "horizon")
    head = "".join(
        f'<th scope="col">{name}</th>' for name in (*names, "value", "unit", "n", "95 %")
    )
    body = []
    for row in rows:
        texts = [escape(str(getattr(row, name))) for name in names]
        interval = "–" if row.low is None else f"{short(row.low)}–{short(row.high)}"
        texts += [value_of(row), escape(row.unit), "–" if row.n is None else str(row.n)]
        body.append("<tr>" + "".join(f"<td>{text}</td>" for text in [*texts, interval]) + "</tr>")
    return scrolling(
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>",
        caption,
    )


def _crossed(
    rows: Sequence[Row],
    caption: str,
    line: Callable[[Row], tuple[str, str]],
    column: Callable[[Row], str],
    order: list[str],
) -> str:
    columns = list(dict.fromkeys(column(row) for row in rows))
    found = {(line(row), column(row)): row for row in rows}
    lines = sorted({line(row) for row in rows}, key=lambda pair: (pair[0], order.index(pair[1])))
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(model)}</th><td>{escape(system)}</td>'
        + "".join(cell(found.get(((system, model), name))) for name in columns)
        + "</tr>"
        for system, model in lines
    )
    table = (
        f"<table><caption>{escape(caption)}</caption><thead><tr>"
        f'<th scope="col">model</th><th scope="col">system</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )
    return scrolling(table, caption) + _notes(rows)


def _notes(rows: Iterable[Row]) -> str:
    notes: dict[str, list[str]] = {}
    for row in rows:
        if note := without_time(row.note):
            names = notes.setdefault(note, [])
            name = str(key_of(row))
            names.extend([name] if name not in names else [])
    items = "".join(
        f"<li>* {escape(', '.join(names))}: {escape(note)}</li>" for note, names in notes.items()
    )
    return f'<ul class="notes">{items}</ul>' if items else ""


def _broken(name: str) -> str:
    """A name that may break after its colon and before its bracket."""
    return escape(name).replace(":", ":<wbr>").replace(" (", " <wbr>(")
