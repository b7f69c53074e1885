"""A text whose tokens are coloured by a number each, in lines as wide as the picture.

Everything is laid out in points: the axes have one unit of their data for each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from minineo.arrays import Array
from minineo.interpret.draw import style
from minineo.interpret.draw.labels import Token, literal, text_width, token_label

TYPE = 10.0  # points
LINE = 1.75  # lines are this many times the type apart
GAP = 0.8  # points between tokens, so that one sees where each begins
BELOW = 50.0  # points under the last line, for the colour bar
Place = tuple[int, float]


def coloured_text(
    tokens: Sequence[Token],
    values: Array,
    *,
    label: str = "",
    title: str = "",
    diverging: bool = False,
    limits: tuple[float, float] | None = None,
    nothing: str = "no value",
    width: float = 8.0,
    ax: Axes | None = None,
) -> Axes:
    """Draw a text token by token, the background of each coloured by its value; `label` names the colour bar.

    values (T), one for each token; one that is not finite leaves its token grey, and a note says what that means:
    `nothing`. A line ends after a token that ends one (shown as ⏎), and where `width` inches are full. In `ax=` type is
    made smaller until the text fits.

    Raises:
        ValueError: there are no tokens, or not as many as values.
    """
    values = style.floats(values)
    if values.shape != (len(tokens),) or not len(tokens):
        raise ValueError(
            f"values: received shape {values.shape} for {len(tokens)} tokens, expected one number for each."
        )
    labels = [text_label(token) for token in tokens]
    ax, size = _room(ax, labels, width, bool(title))
    wide, high = (72.0 * side for side in style.inches(ax))
    places = lay_out(labels, size, wide)
    ax.set(xlim=(0.0, wide), ylim=(high, 0.0))
    ax.axis("off")
    style.title(ax, title)
    colours = style.DIVERGING if diverging else style.ON_PAPER
    scale = ScalarMappable(Normalize(*(style.limits(values, diverging) if limits is None else limits)), colours)
    for text, value, (line, x) in zip(labels, values, places, strict=True):
        colour = scale.to_rgba(value) if np.isfinite(value) else style.HIDDEN
        y, tall = LINE * size * line, (LINE - 0.2) * size
        ax.add_patch(Rectangle((x, y), text_width(text, size), tall, facecolor=colour, linewidth=0.0))
        ax.text(x, y + 0.5 * tall, text, size=size, color=style.readable_on(colour), va="center_baseline", **literal())
    _key(ax, scale, label, LINE * size * (places[-1][0] + 1), "" if np.isfinite(values).all() else nothing)
    return ax


def _room(ax: Axes | None, labels: Sequence[str], width: float, titled: bool) -> tuple[Axes, float]:
    """Axes for the text, and the size of type: in a new figure as high as it needs to be, in `ax` as it fits."""
    if ax is not None:
        ax = style.axes(ax, (0.0, 0.0))
        style.settle(ax)
        wide, high = (72.0 * side for side in style.inches(ax))
        return ax, largest_type(labels, wide, high - BELOW)
    margin, top = 10.0, 26.0 if titled else 8.0  # points
    wide = 72.0 * width - 2.0 * margin
    high = LINE * TYPE * (lay_out(labels, TYPE, wide)[-1][0] + 1) + BELOW
    ax = style.axes(None, (width, (high + top) / 72.0), layout=None)
    ax.set_position((margin / 72.0 / width, 0.0, wide / 72.0 / width, high / (high + top)))
    return ax, TYPE


def text_label(token: Token) -> str:
    """A token as it stands in a text: its spaces are spaces, unless it has nothing else."""
    label = token_label(token, longest=40, space=" ")
    return label if label.strip() else token_label(token, longest=40)


def lay_out(labels: Sequence[str], size: float, width: float) -> list[Place]:
    """Where each token begins, its line and points from the left: in type of that size, in lines of that width."""
    places: list[Place] = []
    line, x = 0, 0.0
    for label in labels:
        wide = text_width(label, size)
        if x > 0.0 and x + wide > width:
            line, x = line + 1, 0.0
        places.append((line, x))
        x += wide + GAP
        if label.endswith("⏎"):
            line, x = line + 1, 0.0
    return places


def largest_type(labels: Sequence[str], width: float, height: float) -> float:
    """The largest size of type, in points, in which the text fits into that many points, and not below the smallest."""
    sizes = np.arange(TYPE, style.SMALLEST_TYPE - 1.0, -0.5)
    for size in sizes:
        if LINE * size * (lay_out(labels, float(size), width)[-1][0] + 1) <= height:
            return float(size)
    return float(sizes[-1])


def _key(ax: Axes, scale: ScalarMappable, label: str, y: float, nothing: str) -> None:
    """A colour bar under the text, and what grey means if there is any."""
    width, height = ax.get_xlim()[1], ax.get_ylim()[0]
    bar_width = min(200.0, 0.6 * width)
    bar = ax.figure.colorbar(
        scale,
        cax=ax.inset_axes((0.0, 1.0 - (y + 16.0) / height, bar_width / width, 8.0 / height)),
        orientation="horizontal",
    )
    bar.ax.tick_params(labelsize=8, length=2)
    bar.ax.set_xlabel(label, fontsize=8, loc="left", labelpad=1)
    bar.outline.set_visible(False)
    if nothing:
        ax.add_patch(Rectangle((bar_width + 20.0, y + 8.0), 10.0, 8.0, facecolor=style.HIDDEN, linewidth=0.0))
        ax.text(bar_width + 34.0, y + 12.0, nothing, size=8, va="center", color=style.MUTED, **literal())
