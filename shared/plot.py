"""The picture of a run: temperature, bonds and distance from the start against time."""

from pathlib import Path

from shared.files import replacing
from shared.metrics.stability import THRESHOLD
from shared.record import Series

__all__ = ["save_plot"]


def save_plot(path: Path, series: Series, title: str, target_K: float | None) -> None:
    """Write a PNG: mean over the replicas as a line, their range as a band.

    Args:
        path: of the PNG; it appears when it is complete.
        series: what `shared.record.RunRecord.series` gives.
        title: of the figure.
        target_K: temperature of the training data, drawn as a line.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(3, sharex=True)
    rows = (
        (series.temperature, "temperature (K)", target_K),
        (series.deviation, "largest bond deviation (Å)", THRESHOLD),
        (series.rmsd, "RMSD to the start (Å)", None),
    )
    for axes, (values, label, level) in zip(panels, rows, strict=True):
        lowest, mean, highest = values.T
        axes.fill_between(series.times_ps, lowest, highest, alpha=0.25, linewidth=0)
        axes.plot(series.times_ps, mean, linewidth=0.8)
        if level is not None:
            axes.axhline(level, color="gray", linestyle="--", linewidth=0.8)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    panels[-1].set_xlabel("time (ps)")
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)
