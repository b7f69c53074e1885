"""The picture of a run: its losses over its steps. Needs matplotlib, which minineo otherwise does without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PICTURE_FILE = "loss.png"


def plot_losses(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the lines of a log: loss and validation loss over steps, in nats a token, and the learning rate below.

    Raises:
        ImportError: matplotlib is not installed; the message says how to get it.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f'{path}: the curve of the losses needs matplotlib, which is not installed: pip install "minineo[plot]"'
        ) from error
    figure = Figure(figsize=(8.0, 6.0), layout="constrained")
    FigureCanvasAgg(figure)  # draws into memory: no window, no display
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for name, label, style in (("loss", "training", "-"), ("validation_loss", "validation", "o-")):
        points = [(record["step"], record[name]) for record in records if name in record]
        if points:
            losses.plot(*zip(*points, strict=True), style, label=label, linewidth=1.0, markersize=3.0)
    losses.set_ylabel("loss (nats a token)")
    losses.grid(alpha=0.3)
    losses.legend()
    points = [(record["step"], record["learning_rate"]) for record in records if "learning_rate" in record]
    rates.plot(*zip(*points, strict=True), color="gray", linewidth=1.0)
    rates.set_ylabel("learning rate")
    rates.set_xlabel("step")
    rates.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
