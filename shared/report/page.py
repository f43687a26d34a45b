"""The page: header, what stands out, viewer, a section for each part, provenance, scripts.

One file that needs no network and is forbidden to use it: its content security policy names the
scripts it carries by their hashes and allows nothing else.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from importlib import resources

from shared.evaluation.targets import TARGETS, former_jobs
from shared.report import tables, viewer
from shared.report.figures import FIGURES, render
from shared.report.models import Key, Looks, family
from shared.report.source import Row, Source
from shared.report.tables import is_error, key_of

__all__ = ["page"]

PARTS = {
    "s2l": ("Short to long", "Trained on early frames, rolled out from later ones."),
    "o2o": ("One to others", "Rolled out on isomers that training has never seen."),
    "consecutive": ("Real consecutive frames", "Ethanol of MD17, frames 0 to 999."),
    "sparse": ("Sparse real frames", "Rolled out over the gaps between frames that exist."),
    "s2l_real": ("Short to long, real frames", "Rolled out from real frames beyond 30 000."),
    "stability": ("Stability", "How long molecules stay whole, and what their energy does."),
    "energies": ("Energies and forces", "Against the reference calculation, frame by frame."),
    "shift": ("Shift of features", "What heat does to diffused features and to the diffusivity."),
    "windows": ("Short windows", "Ten frames of 5 fs given, twenty predicted."),
    "long": ("Long horizon", "Where heavy atoms are after 3 000 frames."),
    "distributions": ("Distributions", "Geometry, spectrum and memory of long trajectories."),
    "cost": ("Cost", "Same machine, same run, warm-up left out."),
}

_HEADLINES = ("RMSE com", "ADE", "S2S", "stable share", "bond JSD / static-oracle")
_COUNTED = {
    "stability": "replicas",
    "energies": "frames",
    "shift": "pairs of frames",
    "windows": "starts",
    "distributions": "windows",
    "cost": "runs",
}


def page(source: Source) -> str:
    """The report of an evaluation.

    Args:
        source: its rows and artefacts.

    Returns:
        a complete HTML document.

    Raises:
        InputError: an artefact cannot be read.
    """
    looks = Looks(_keys(source))
    clips = viewer.clips(source, looks)
    parts = [part for part in PARTS if source.of(part) or source.drawn(part)]
    parts += [part for part in dict.fromkeys(row.part for row in source.rows) if part not in PARTS]
    sections = "".join(_section(source, part, looks) for part in parts)
    data_block, scripts = "", [_asset("choices.js")]
    if clips:
        scripts = [_asset(viewer.LIBRARY), _asset("viewer.js"), *scripts]
        data_block = (
            f'<script type="application/json" id="trajectories">{viewer.embedded(clips)}</script>'
        )
    links = "".join(
        f'<a href="#{escape(part, quote=True)}">{escape(_name(part))}</a>' for part in parts
    )
    title = f"{source.name}: evaluation of propagators"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_asset("page.css")}</style>
</head>
<body>
<a class="skip" href="#main">To the results</a>
<header><h1>Evaluation: {escape(source.name)}</h1>{_made(source)}
<nav aria-label="Parts">{links}</nav></header>
<main id="main">
{_required(source)}
{_standing(source, looks)}
{_watch(source, clips)}
{_published(source)}
{sections}
{_left_out(source)}
</main>
<footer>{_footer(source, bool(clips))}</footer>
{data_block}
{"".join(f"<script>{script}</script>" for script in scripts)}
</body>
</html>
"""


def _asset(name: str) -> str:
    return resources.files("shared.report").joinpath("assets", name).read_text(encoding="utf-8")


def _policy(scripts: Iterable[str]) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _keys(source: Source) -> set[Key]:
    keys = {key_of(row) for row in source.rows} | {Key("reference")}
    return keys | {Key(artefact.model, artefact.variant) for artefact in source.artefacts}


def _name(part: str) -> str:
    return PARTS[part][0] if part in PARTS else part


def _source(source: Source, rows: Sequence[Row], part: str) -> str:
    """Under every table and group: data, n, commands."""
    measured = [row for row in rows if row.model != "reference"] or rows
    counts = sorted({row.n for row in measured if row.n is not None})
    noun = _COUNTED.get(part, "starts")
    n = "" if not counts else f"{counts[0]}–{counts[-1]}" if len(counts) > 1 else str(counts[0])
    data = [(row.data, row.system) for row in rows]
    return _made_of(data, f"{n} {noun}" if n else "", source.commands(rows))


def _data(pairs: Iterable[tuple[str, str]]) -> str:
    """Names of data with their systems: of data that differ in nothing else, one for all."""
    systems: dict[str, dict[str, None]] = {}
    for data, system in pairs:
        common = re.sub(rf"\s*(?<!\w){re.escape(system)}(?!\w)", "", data, count=1)
        if data:
            systems.setdefault(common.strip(), {})[system if common != data else ""] = None
    return "; ".join(
        f"{common}: {', '.join(own)}" if any(own) else common for common, own in systems.items()
    )


def _made_of(data: Iterable[tuple[str, str]], n: str, commands: Iterable[str]) -> str:
    """Data and n in a line; the commands, which are long, behind a word."""
    named = _data(data)
    pieces = [f"Data: {escape(named)}"] if named else []
    pieces += [f"n = {n}"] if n else []
    said = f'<p class="source">{" · ".join(pieces)}</p>' if pieces else ""
    lines = list(dict.fromkeys(filter(None, commands)))
    if lines:
        word = "command" if len(lines) == 1 else f"{len(lines)} commands"
        shown = "".join(f"<code>{escape(line)}</code>" for line in lines)
        said += f'<details class="made"><summary>The {word} behind it</summary>{shown}</details>'
    return said


def _section(source: Source, part: str, looks: Looks) -> str:
    rows = source.of(part)
    text = PARTS[part][1] if part in PARTS else ""
    protocols = ", ".join(dict.fromkeys(row.protocol for row in rows if row.protocol))
    label = f" <small>{escape(protocols)}</small>" if protocols else ""
    body = [f"<h2>{escape(_name(part))}{label}</h2><p>{escape(text)}</p>"]
    body.append(_tables(source, part, rows, looks))
    groups = FIGURES[part](source, part, looks) if part in FIGURES else []
    for index, group in enumerate(groups, 1):
        html = render(group, looks, f"{part}-{index}")
        body.append(html + _source(source, rows, part) if html else "")
    identity = escape(part, quote=True)
    return f'<section id="{identity}">{"".join(body)}</section>'


def _tables(source: Source, part: str, rows: Sequence[Row], looks: Looks) -> str:
    if not rows:
        return ""
    made = _source(source, rows, part)
    if part == "cost":
        return tables.cost(rows, looks, "What a picosecond costs") + made
    metrics = list(dict.fromkeys(row.metric for row in rows))
    first = next(filter(_is_headline, metrics), metrics[0])

    def table(metric: str) -> str:
        own = [row for row in rows if row.metric == metric]
        unit = own[0].unit
        return tables.summary(own, looks, metric if unit == "1" else f"{metric}, {unit}")

    rest = "".join(table(metric) for metric in metrics if metric != first)
    more = ""
    if rest:
        more = (
            f"<details><summary>The other {len(metrics) - 1} quantities</summary>{rest}{made}"
            "</details>"
        )
    every = (
        f"<details><summary>All {len(rows)} figures as rows</summary>"
        f"{tables.long(rows, f'{_name(part)}: all figures')}{made}</details>"
    )
    key = ""
    if is_error(first) and any(family(row.model) == "trivial" for row in rows):
        key = (
            '<p class="quiet">Least learned error in <b class="key">bold</b>; ▲: not below the '
            "best trivial predictor. Small figures: 95 % interval.</p>"
        )
    return table(first) + key + made + more + every


def _is_headline(metric: str) -> bool:
    """One of those named, or S2S of some choice of starts."""
    return metric in _HEADLINES or metric.startswith("S2S, ")


def _required(source: Source) -> str:
    """What is required of the models that ship, where this is the evaluation that it is of."""
    former = former_jobs(source.jobs)
    plain = [{**asdict(row), "former": row.job in former} for row in source.rows]
    own = [target for target in TARGETS if target.results == source.name]
    held = [(target, target.hold(lambda name: plain)) for target in own]
    if not any(found.places for _, found in held):
        return ""
    met, missed = (sum(found.met is side for _, found in held) for side in (True, False))
    wanted = [row for target in own for row in target.of(plain)]
    rows = [Row(**{k: v for k, v in row.items() if k != "former"}) for row in wanted]
    return (
        '<section id="required"><h2>What is required</h2><p>Of the models that ship: '
        f"{met} met, {missed} missed, {len(held) - met - missed} not measured. Each line is the "
        "worst of the systems, horizons and metrics that its bound is for.</p>"
        f"{tables.required(held, 'Required of the models that ship')}"
        f"{_source(source, rows, '')}</section>"
    )


def _standing(source: Source, looks: Looks) -> str:
    """How the learned models stand against the best trivial predictor."""
    found = []
    for part in PARTS:
        rows = [row for row in source.of(part) if _is_headline(row.metric)]
        table = tables.standing(rows, looks, _name(part))
        found.append(table + _source(source, rows, part) if table else "")
    if not any(found):
        return ""
    return (
        '<section id="standing"><h2>Against the trivial predictors</h2><p>On how many systems the '
        "error is below the best of persistence, inertia and mean structure, and the error as a "
        "fraction of theirs. A model that is not below has learned no dynamics at that horizon."
        f"</p>{''.join(found)}</section>"
    )


def _published(source: Source) -> str:
    """What the literature says, beside what was measured here."""
    found = []
    for part in PARTS:
        rows = source.of(part)
        table = tables.published(rows, _name(part))
        found.append(table + _source(source, rows, part) if table else "")
    if not any(found):
        return ""
    return (
        '<section id="published"><h2>Against what is published</h2><p>Beside each published error '
        "the least of the trivial predictors and of the learned models by the same measure; the "
        "notes say where the data differ.</p>"
        f"{''.join(found)}</section>"
    )


def _watch(source: Source, clips: Sequence[viewer.Clip]) -> str:
    if not clips:
        return ""
    data = [(clip.data, clip.system) for clip in clips]
    commands = (str(job.get("command") or "") for job in source.jobs.values())
    return (
        '<section id="watch"><h2>Watch</h2><p>A trajectory from one start, beside the reference '
        f"from the same start.</p>{viewer.markup(clips)}"
        f"{_made_of(data, '1 start each', commands)}</section>"
    )


def _left_out(source: Source) -> str:
    reasons: dict[str, list[str]] = {}
    for name, job in source.jobs.items():
        if job.get("skipped"):
            reasons.setdefault(str(job["skipped"]), []).append(f"<code>{escape(name)}</code>")
    if not reasons:
        return ""
    items = "".join(f"<li>{escape(why)}: {', '.join(names)}</li>" for why, names in reasons.items())
    return f'<section id="left-out"><h2>Not measured</h2><ul class="notes">{items}</ul></section>'


def _made(source: Source) -> str:
    commit = source.provenance.get("git_commit")
    pieces = [
        str(source.provenance.get("created", "")).replace("T", " "),
        f"commit {str(commit)[:12]}" if commit else "",
        str(source.provenance.get("platform", "")),
        f"{len(source.rows)} figures",
    ]
    return f'<p class="quiet">{escape(" · ".join(piece for piece in pieces if piece))}</p>'


def _footer(source: Source, with_viewer: bool) -> str:
    versions = source.provenance.get("versions", {})
    used = ", ".join(f"{name} {version}" for name, version in versions.items())
    machines = dict.fromkeys(
        str(job["machine"]) for job in source.jobs.values() if job.get("machine")
    )
    pieces = [f"<p>Measured with {escape(used)}.</p>"] if used else []
    if machines:
        pieces.append(f"<p>Machines: {escape('; '.join(machines))}.</p>")
    if with_viewer:
        licence = escape(_asset("3Dmol-LICENSE.txt"))
        pieces.append(
            f"<p>3D view: 3Dmol.js {viewer.LIBRARY_VERSION}, N. Rego and D. Koes, Bioinformatics "
            "31, 1322 (2015), BSD-3-Clause.</p><details><summary>Its licence</summary>"
            f"<pre>{licence}</pre></details>"
        )
    return "".join(pieces)
