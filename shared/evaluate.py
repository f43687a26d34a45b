"""python -m shared.evaluate --config configs/evaluate/md17.yaml: both heads by one yardstick.

Measures every part of the config for every model on every system. Each measurement is stored in the
results file as soon as it is made; an interrupted evaluation, started again, goes on where it
stopped. At the end an HTML report of the results file is written beside it. Exit codes: 0 all that
could be measured was, 2 bad input (one line), 1 anything else.
"""

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.command import exit_code
from shared.data.locate import data_root
from shared.errors import InputError

if TYPE_CHECKING:
    from shared.evaluation.candidates import Candidate
    from shared.evaluation.config import Evaluation
    from shared.evaluation.references import References
    from shared.evaluation.results import Results

__all__ = ["evaluate", "main"]

PROGRAM = "shared.evaluate"
_SWITCHES = {  # beside the keys of the config
    "--quick": "a subset of about a minute: does it run?",
    "--fresh": "measure and simulate again what is there, from the beginning",
    "--no-report": "leave the HTML report beside the results out",
}


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for switch in _SWITCHES:
        own.add_argument(switch, action="store_true")
    arguments = list(sys.argv[1:] if argv is None else argv)
    switches, rest = own.parse_known_args(arguments)

    def act() -> None:
        from shared.config import config_parser, parse_config
        from shared.evaluation.config import PARTS, Evaluation

        sections: dict[str, type] = {"evaluation": Evaluation}
        sections |= {name: part.settings for name, part in PARTS.items()}
        parser = config_parser(
            f"python -m {PROGRAM}", "Measures models by the protocols P1 to P7.", sections
        )
        for switch, words in _SWITCHES.items():
            parser.add_argument(switch, action="store_true", help=words)
        if not rest:
            parser.print_help()
            return
        config = parse_config(parser, rest)
        settings = {name: getattr(config, name) for name in PARTS}
        command = f"python -m {PROGRAM} {' '.join(arguments)}"
        evaluate(
            config.evaluation,
            settings,
            quick=switches.quick,
            fresh=switches.fresh,
            with_report=not switches.no_report,
            command=command,
        )

    kept = "what was measured is kept; the same command "
    kept += "begins again" if switches.fresh else "goes on"
    return exit_code(PROGRAM, act, kept)


def evaluate(
    evaluation: "Evaluation",
    settings: dict[str, Any],
    *,
    quick: bool = False,
    fresh: bool = False,
    with_report: bool = True,
    command: str = "",
) -> "Results":
    """Measure all that is asked for and not there yet.

    Args:
        evaluation: what, and where to.
        settings: part -> its settings.
        quick: the subset of about a minute: the first system of each part, few starts, short runs.
        fresh: measure again.
        with_report: write the HTML report: the results file's name, with the suffix .html.
        command: kept with the results.

    Raises:
        InputError: something that cannot be measured as asked, or a folder that cannot be written
            to: nothing was written; nothing could be measured, since files are missing or bad; or
            an artefact that the report cannot read.
        OSError: what was measured cannot be stored, such as on a full disk.
    """
    import torch

    from shared.evaluation.config import checked_parts
    from shared.evaluation.references import References
    from shared.evaluation.results import Results
    from shared.provenance import provenance
    from shared.writers import require_writable

    torch.set_num_threads(_threads())
    torch.set_flush_denormal(True)  # distant pairs underflow; denormals slow matmuls tenfold
    _, plan, candidates = checked_parts(evaluation, settings)
    folder = Path(evaluation.artefacts or f"runs/evaluate/{evaluation.name}")
    path = Path(evaluation.results or f"docs/results/{evaluation.name}.json")
    if path.suffix != ".json":  # the report and the lock have the same name with other suffixes
        raise InputError(f"evaluation.results: {path} must end in .json")
    if quick:
        settings = {name: section.quick() for name, section in settings.items()}
        plan = [(part, systems[:1], models) for part, systems, models in plan]
        folder, path = folder / "quick", folder / "quick.json"
    for place in (folder, path.parent):
        require_writable(place)
    isomers = settings["o2o"].source if "o2o" in settings else "xtb"
    references = References(evaluation.trajectories, evaluation.engine, evaluation.blocks, isomers)
    title = f"{evaluation.name}, quick" if quick else evaluation.name
    results = Results(path, title, folder, provenance())
    jobs = [
        (part, name, model) for part, names, models in plan for name in names for model in models
    ]
    done, bad = [], dict[str, InputError]()
    not_before = time.time() if fresh else 0.0
    with _progress(len(jobs)) as report:
        for number, (part, name, model) in enumerate(jobs):
            job = f"{part}/{name}/{model}"
            report(number, job)
            error = _measured(
                results,
                job,
                candidates[model],
                settings[part],
                folder,
                evaluation.seed,
                references,
                variants=evaluation.variants,
                fresh=fresh,
                not_before=not_before,
                command=command,
                report=partial(_say, report, number, job),
            )
            if error is not None:
                bad[job] = error
            done.append(job)
    from shared.evaluation.tables import summary

    skipped = results.skipped(done)
    kept = {job: f"{error}; earlier rows stay" for job, error in bad.items() if job not in skipped}
    skipped |= kept
    print(summary(results.rows(done), path, skipped))
    if bad and skipped.keys() == set(done):
        raise InputError(f"nothing could be measured: {next(iter(bad.values()))}")
    if with_report:
        from shared.report import write_report

        print(f"report: {write_report(path, path.with_suffix('.html'))}")
    return results


def _threads() -> int:
    """The first of OMP_NUM_THREADS; else one."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdigit() and int(first) else 1


def _say(report: Callable[[int, str], None], number: int, job: str, line: str) -> None:
    report(number, f"{job}: {line}")


def _measured(
    results: "Results",
    job: str,
    candidate: "Candidate",
    settings: Any,
    folder: Path,
    seed: int,
    references: "References",
    *,
    variants: Sequence[str],
    fresh: bool,
    not_before: float,
    command: str,
    report: Callable[[str], None],
) -> InputError | None:
    """Make one measurement and store it, unless it is there; returns what was bad about the input,
    such as a file that is missing. What cannot be made leaves the rows that an earlier one made."""
    from shared.config import resolved
    from shared.evaluation.config import PARTS
    from shared.evaluation.rollout import Context, Skip
    from shared.provenance import git_commit

    part, name, model = job.split("/", 2)
    plain = {k: v for k, v in resolved(settings).items() if k not in ("models", "systems")}
    if variants:
        plain["variants"] = list(variants)
    reference = references.identity(name) if _has_reference(part) else []
    identity = json.dumps([job, plain, seed, candidate.identity, *reference], sort_keys=True)
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()[:16]
    files = _files(part, name, model, references)
    if not fresh and results.known(job, fingerprint, files):
        return None
    began, skipped, bad = time.monotonic(), None, None
    try:
        context = Context(folder, seed, report, references, not_before)
        rows = PARTS[part].measure(candidate, name, settings, context)
    except (Skip, InputError) as reason:
        # The record is released: it names no folder of this machine.
        rows, skipped = [], str(reason).replace(str(data_root()), "$TRAJGEN_DATA")
        bad = reason if isinstance(reason, InputError) else None
        if results.measured(job):
            report(f"keeps its rows: {skipped}")
            return bad
    results.put(
        job,
        rows,
        {
            "fingerprint": fingerprint,
            "settings": plain,
            "seed": seed,
            "weights": {} if skipped else dict(candidate.weights),
            "files": files,
            "seconds": round(time.monotonic() - began, 1),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": _machine(),
            "git_commit": git_commit(),
            "command": command,
            "skipped": skipped,
        },
    )
    return bad


def _has_reference(part: str) -> bool:
    """Whether a part reads trajectories that the config names: these have 3BPA's test frames."""
    return part not in ("energies", "shift", "stability")


def _files(part: str, name: str, model: str, references: "References") -> dict[str, str]:
    """Checksums of the data that a measurement reads; what is not here is not listed."""
    from shared.evaluation.systems import data_files

    found = data_files(part, name, model, references.isomers)
    if _has_reference(part):
        found += references.files(name)
    return {key: value for path in sorted(set(found)) for key, value in _checksum(path).items()}


@cache
def _checksum(path: Path) -> dict[str, str]:
    """A file's, read once."""
    from shared.provenance import checksums

    return checksums([path])


def _machine() -> str:
    """The processor's name, where it is known, and the number of cores."""
    info = Path("/proc/cpuinfo")
    names = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(": ")[1] for line in names if line.startswith("model name")), "")
    return f"{name or platform.processor()}, {os.cpu_count()} cores"


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, str], None]]:
    """A function that says how far it is: a bar on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield lambda number, line: print(
            f"[{number + 1}/{total}] {line}", file=sys.stderr, flush=True
        )
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task("starting", total=total)
        yield lambda number, line: shown.update(task, completed=number, description=line)
        shown.update(task, completed=total, description="done")


if __name__ == "__main__":
    sys.exit(main())
