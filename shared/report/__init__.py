"""One self-contained HTML file for each evaluation: tables, charts and a 3D viewer.

Works without network, on a phone, from the keyboard and in greyscale.
"""

from pathlib import Path

from shared.files import replacing

__all__ = ["write_report"]


def write_report(results: str | Path, out: str | Path, artefacts: str | Path | None = None) -> Path:
    """Write the report of an evaluation.

    Args:
        results: the JSON file that `python -m shared.evaluate` leaves.
        out: of the HTML file; it appears when it is complete.
        artefacts: folder of the curves; None: the one that the results name. Without it the report
            has tables only.

    Returns:
        `out`.

    Raises:
        InputError: the results or an artefact cannot be read; nothing has been written.
        OSError: the file cannot be written.
    """
    from shared.report.page import page
    from shared.report.source import read_source

    text = page(read_source(results, artefacts))
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as part:
        part.write_text(text, encoding="utf-8")
    return out
