"""The two charts that most results need: a heat map with a colour bar, and bars to the left and right of 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from minineo.arrays import Array
from minineo.interpret.draw import style
from minineo.interpret.draw.labels import Token, fit, literal, text_width, token_label

MOST_NUMBERS = 12  # rows or columns of a matrix in which each number is written, too
MINUS = "−"
BESIDE_TITLE = 1.3  # inches for the labels of rows, which a title stands to the right of
BESIDE_LABEL = 0.9  # inches above and below that of a colour bar, which has its middle
TALL = 0.19  # inches for a bar with a label


def heat_map(
    values: Array,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    tokens: Sequence[Token] | None = None,
    cells: Sequence[Sequence[Token]] | None = None,
    diverging: bool = False,
    limits: tuple[float, float] | None = None,
    label: str = "",
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw a matrix (R, C) as colours, row 0 on top, with a colour bar that is named `label`.

    `rows` (R) and `columns` (C) are names, shown as they are; `tokens` (C) name the columns in their place, spaces and
    line ends made visible. `cells` (R, C) of tokens are written into the cells where there is room; without them the
    numbers are, if there are few. `diverging` is for values of two signs: the middle colour is 0. `limits` are the
    ends of the colours, by default those of the values. Numbers that are not finite leave their cells grey.

    Raises:
        ValueError: the values are no matrix, or the names are not as many as rows or columns.
    """
    values = matrix("values", values)
    R, C = values.shape
    for what, names, expected in (("rows", rows, R), ("columns", columns, C), ("tokens", tokens, C)):
        if names is not None and len(names) != expected:
            raise ValueError(f"{what}: received {len(names)} for values of shape {values.shape}, expected {expected}.")
    if cells is not None and [len(row) for row in cells] != [C] * R:
        raise ValueError(f"cells: expected {R} rows of {C} tokens each, as many as the values have.")
    ax = style.axes(ax, _size(R, C, 0.75 if cells else 0.42, title, label))
    low, high = style.limits(values, diverging) if limits is None else limits
    colours = (style.DIVERGING if diverging else style.SEQUENTIAL).with_extremes(bad=style.HIDDEN)
    image = ax.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    style.label_axis(ax, "y", [str(i) for i in range(R)] if rows is None else rows)
    if tokens is None:
        style.label_axis(ax, "x", [str(i) for i in range(C)] if columns is None else columns)
    else:
        style.label_tokens(ax, "x", tokens)
    style.axis_names(ax, xlabel, ylabel)
    style.title(ax, title)
    style.colour_bar(ax, image, label)
    if cells is not None:
        write_cells(ax, image, values, np.array([[token_label(token) for token in row] for row in cells]))
    elif max(R, C) <= MOST_NUMBERS:
        write_cells(ax, image, values, np.reshape(numbers(values.ravel()), values.shape))
    return ax


def _size(R: int, C: int, wide: float, title: str, label: str) -> tuple[float, float]:
    """Inches for a matrix (R, C) with columns that `wide`, its title, and the label of its colour bar."""
    width = max(2.4 + wide * C, BESIDE_TITLE + text_width(title, style.TITLE_TYPE) / 72.0)
    height = max(1.6 + 0.32 * R, BESIDE_LABEL + text_width(label, style.LARGEST_TYPE) / 72.0)
    return min(11.0, width), min(8.0, height)


def bars(
    values: Array,
    labels: Sequence[str],
    *,
    title: str = "",
    xlabel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw numbers (N) as bars, the first on top: orange to the right of 0, blue to the left, each with its number.

    `labels` (N) are shown as they are; pass tokens through `token_labels`. Where there are too many for all their
    labels, some have one and none has a number.

    Raises:
        ValueError: the values are not as many as the labels.
    """
    values = style.floats(values)
    if values.shape != (len(labels),):
        raise ValueError(f"values: received shape {values.shape}, expected ({len(labels)},), one for each label.")
    ax = style.axes(ax, (6.5, min(9.0, 0.9 + TALL * max(len(labels), 3))))
    drawn = ax.barh(
        range(len(values)), values, color=[style.POSITIVE if value >= 0 else style.NEGATIVE for value in values]
    )
    ax.set_ylim(len(values) - 0.4, -0.6)
    ax.margins(x=0.12)  # numbers stand beside the bars
    ax.axvline(0.0, color=style.MUTED, linewidth=0.8)
    style.label_axis(ax, "y", labels)
    size, step = style.type_and_step(ax, "y", len(labels))
    if step == 1:
        ax.bar_label(drawn, numbers(values), padding=2, fontsize=min(8.0, size))
    style.axis_names(ax, xlabel, "")
    ax.tick_params(axis="x", labelsize=8)
    style.title(ax, title)
    ax.spines[["top", "right", "left"]].set_visible(False)
    return ax


def matrix(name: str, values: Array) -> Array:
    """The values as a NumPy matrix of floats, from whatever library they are of."""
    found = style.floats(values)
    if found.ndim != 2 or found.size == 0:
        raise ValueError(f"{name}: received shape {found.shape}, expected a matrix (rows, columns) that is not empty.")
    return found


def numbers(values: Array) -> list[str]:
    """Short texts for numbers (N), all with as many decimals as leave the largest two or three digits."""
    largest = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    exponent = math.floor(math.log10(largest)) if largest > 0.0 else 0
    decimals = min(max(0, 2 - exponent) if exponent >= 0 else 1 - exponent, 9)
    return [f"{value:.{decimals}f}".replace("-", MINUS) if math.isfinite(value) else "" for value in values.tolist()]


def write_cells(ax: Axes, image: AxesImage, values: Array, texts: Array) -> None:
    """Write texts (R, C) into the cells of an image of values (R, C), where there is room, in black or white."""
    R, C = values.shape
    wide, high = style.inches(ax)
    width, height = 72.0 * wide / C, 72.0 * high / R  # points
    size = min(style.LARGEST_TYPE - 1.0, height / style.BESIDE, 0.45 * width)
    if size < style.SMALLEST_TYPE - 1.0:
        return
    for (i, j), text in np.ndenumerate(texts):
        colour = style.readable_on(image.cmap(image.norm(values[i, j])))
        ax.text(j, i, fit(text, size, 0.94 * width), size=size, color=colour, ha="center", va="center", **literal())
