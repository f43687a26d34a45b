"""python -m shared.report RESULTS.json --out report.html

Exit codes: 0 done; 2 bad input (one line, nothing written); 1 the file cannot be written.
"""

import argparse
import sys
from pathlib import Path

from shared.command import exit_code
from shared.report import write_report

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Read the arguments, write the report; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m shared.report",
        description="One self-contained HTML file from the results of an evaluation.",
        epilog="Exit codes: 0 done, 2 bad input (nothing is written), 1 anything else.",
        allow_abbrev=False,
    )
    parser.add_argument("results", metavar="RESULTS.json", help="what shared.evaluate leaves")
    parser.add_argument("--out", metavar="PATH", help="(default: RESULTS.html)")
    parser.add_argument(
        "--artefacts", metavar="FOLDER", help="of the curves (default: the one RESULTS names)"
    )
    arguments = parser.parse_args(argv)
    out = arguments.out or Path(arguments.results).with_suffix(".html")

    def act() -> None:
        written = write_report(arguments.results, out, arguments.artefacts)
        print(f"{written}: {written.stat().st_size / 1e6:.1f} MB")

    return exit_code("shared.report", act)


if __name__ == "__main__":
    sys.exit(main())
