"""What all pictures share: figures that show themselves, colour maps, axes with tokens on them, colour bars.

Nothing here touches `matplotlib.pyplot`: no backend is chosen and no figure is kept alive behind the caller's back. A
picture that was given no `ax` is in a figure of its own, which Jupyter shows and `.figure.savefig` writes.

Colours: viridis for what begins at 0 (van der Walt and Smith 2015), and for what has two signs a blue-to-orange map of
the same kind, even in lightness on either side. Both can be told apart without seeing red and green.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Literal

import numpy as np
from array_api_compat import is_array_api_obj
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, ListedColormap, to_hex, to_rgb
from matplotlib.figure import Figure

from minineo.arrays import Array
from minineo.interpret.draw.labels import Token, literal, text_width, token_labels
from minineo.interpret.inputs import to_numpy

Layout = Literal["constrained", "compressed"] | None

MUTED = "#5b5b5b"  # of what explains and is not itself data
HIDDEN = "#d9d9d9"  # of what a mask hides
EDGE = "#e8590c"  # of the edge of a window: stands out from viridis and from grey
LARGEST_TYPE, SMALLEST_TYPE, TITLE_TYPE = 9.0, 6.0, 10.0  # points
BESIDE = 1.25  # lines of type this many times their size apart do not touch
FINE = 150  # dots per inch of a file, unless the caller says otherwise
STEPS = (1, 2, 5)  # of every how many tokens one has a label: these, and ten times these, ...


class Picture(Figure):
    """A figure that Jupyter shows without pyplot, and that is written the same, byte for byte, each time."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """Write the figure as `Figure.savefig` does, an SVG without the date and with ids that do not vary."""
        kind = options.get("format") or str(getattr(fname, "name", fname)).rpartition(".")[2]
        if str(kind).lower() in ("svg", "svgz"):
            options["metadata"] = {"Date": None} | (options.get("metadata") or {})
        with rc_context({"svg.hashsalt": "minineo"}):
            super().savefig(fname, **{"dpi": FINE} | options)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        # shown at its size in inches, and sharp on a fine screen
        return buffer.getvalue(), {
            "width": round(100 * self.get_figwidth()),
            "height": round(100 * self.get_figheight()),
        }


class PictureAxes(Axes):
    """Axes that Jupyter shows as the figure that they are in."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]] | None:
        return self.figure._repr_png_() if isinstance(self.figure, Picture) else None


def axes(ax: Axes | None, size: tuple[float, float], layout: Layout = "constrained") -> Axes:
    """Where to draw: `ax` if there is one, otherwise the axes of a new figure of that size, in inches.

    The figure makes room for labels by itself with the layout "constrained"; "compressed" is for squares.

    Raises:
        TypeError: `ax` is something else.
    """
    if ax is None:
        figure = Picture(figsize=size, layout=layout, facecolor="white")
        return figure.add_subplot(axes_class=PictureAxes)
    if not isinstance(ax, Axes):
        raise TypeError(f"ax: received a {type(ax).__name__}, expected matplotlib Axes, as plt.subplots() gives them.")
    return ax


def settle(ax: Axes) -> None:
    """Let the figure's layout, if it has one, move the axes now and not when they are drawn."""
    figure = ax.figure if isinstance(ax.figure, Figure) else ax.figure.figure
    figure.draw_without_rendering()


# Colours --------------------------------------------------------------------------------------------------------------

# Oklab (Ottosson 2020) to linear sRGB: L is lightness as it is seen, a is green to red, b is blue to yellow
_OKLAB_TO_LMS = np.array([[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728],
                          [1.0, -0.0894841775, -1.2914855480]])  # fmt: skip
_LMS_TO_RGB = np.array([[4.0767416621, -3.3077115913, 0.2309699292], [-1.2684380046, 2.6097574011, -0.3413193965],
                        [-0.0041960863, -0.7034186147, 1.7076147010]])  # fmt: skip
_BLUE, _WHITE, _ORANGE = (0.38, -0.035, -0.125), (0.97, 0.0, 0.0), (0.38, 0.085, 0.078)


def blue_to_orange() -> Colormap:
    """A diverging map: dark blue, nearly white in the middle, dark orange; lightness is linear on either side."""
    points = np.linspace(-1.0, 1.0, 511)
    oklab = np.stack([np.interp(points, (-1, 0, 1), ends) for ends in zip(_BLUE, _WHITE, _ORANGE, strict=True)], -1)
    # chroma is fullest half way out: a dark or light colour has little of it
    oklab[:, 1:] *= (1.0 + 0.9 * (1.0 - np.abs(points)))[:, None]
    linear = np.clip((oklab @ _OKLAB_TO_LMS.T) ** 3 @ _LMS_TO_RGB.T, 0.0, 1.0)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return ListedColormap(np.clip(rgb, 0.0, 1.0).tolist(), name="minineo_blue_to_orange")


SEQUENTIAL = colormaps["viridis"]
DIVERGING = blue_to_orange()
ON_PAPER = ListedColormap(DIVERGING(np.linspace(0.5, 1.0, 256)), name="minineo_orange")  # for text, mostly near 0
NEGATIVE, POSITIVE = (to_hex(DIVERGING(x)) for x in (0.12, 0.82))


def luminance(colour: Any) -> float:
    """Relative luminance of any colour that matplotlib knows, 0 black to 1 white (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def readable_on(colour: Any) -> Literal["black", "white"]:
    """Which of black and white has more contrast on that colour."""
    light = luminance(colour) + 0.05
    return "black" if light / 0.05 > 1.05 / light else "white"


# Axes -----------------------------------------------------------------------------------------------------------------


def label_tokens(ax: Axes, axis: Literal["x", "y"], tokens: Sequence[Token]) -> None:
    """Put tokens at 0, 1, 2, ... of an axis, in type that fits; of too many every k-th, with its position.

    Raises:
        TypeError: the tokens are not str or bytes.
    """
    labels = token_labels(tokens)
    _, step = type_and_step(ax, axis, len(labels))
    label_axis(ax, axis, labels if step == 1 else [f"{label} {i}" for i, label in enumerate(labels)])


def label_axis(ax: Axes, axis: Literal["x", "y"], labels: Sequence[str]) -> None:
    """Put labels at 0, 1, 2, ... of an axis, as they are, in type that fits; of too many every k-th."""
    size, step = type_and_step(ax, axis, len(labels))
    places = range(0, len(labels), step)
    shown = [labels[i] for i in places]
    if axis == "x":
        widest = max((text_width(label, size) for label in shown), default=0.0) + 0.6 * size
        upright = widest * len(labels) > 72.0 * inches(ax)[0] * step
        ax.set_xticks(places, shown, fontsize=size, rotation=90 if upright else 0, **literal())
    else:
        ax.set_yticks(places, shown, fontsize=size, **literal())
    ax.tick_params(axis=axis, length=2)


def type_and_step(ax: Axes, axis: Literal["x", "y"], count: int) -> tuple[float, int]:
    """The size of type for that many labels, in points, and of every how many one has room."""
    room = 72.0 * inches(ax)[0 if axis == "x" else 1] / max(count, 1)  # points for each
    size = min(LARGEST_TYPE, max(SMALLEST_TYPE, room / BESIDE))
    return size, 1 if room >= SMALLEST_TYPE * BESIDE else every(math.ceil(SMALLEST_TYPE * BESIDE / room))


def inches(ax: Axes) -> tuple[float, float]:
    """Width and height of `ax` as they stand, before a layout has moved them."""
    box = ax.get_window_extent()
    return box.width / ax.figure.dpi, box.height / ax.figure.dpi


def every(least: int) -> int:
    """The first of 1, 2, 5, 10, 20, 50, ... that is no less."""
    power = 1
    while True:
        for step in STEPS:
            if step * power >= least:
                return step * power
        power *= 10


def title(ax: Axes, text: str) -> None:
    """A heading, flush left, taken literally."""
    ax.set_title(text, loc="left", fontsize=TITLE_TYPE, **literal())


def axis_names(ax: Axes, xlabel: str, ylabel: str) -> None:
    """Say what the axes are."""
    ax.set_xlabel(xlabel, fontsize=9)
    ax.set_ylabel(ylabel, fontsize=9)


def colour_bar(ax: Axes, image: ScalarMappable, label: str) -> Colorbar:
    """A colour bar to the right of `ax`, as high as they are, that says what the numbers are and their unit."""
    # in inches: as thick beside wide axes as beside narrow ones
    width = inches(ax)[0]
    beside = ax.inset_axes((1.0 + 0.12 / width, 0.0, 0.14 / width, 1.0))
    bar = ax.figure.colorbar(image, cax=beside)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)
    return bar


def floats(values: Array) -> Array:
    """Numbers of any array library, or in lists, as a NumPy array of floats."""
    return np.asarray(to_numpy(values) if is_array_api_obj(values) else values, np.float64)


def limits(values: Array, diverging: bool) -> tuple[float, float]:
    """The ends of a colour scale: of 0 and all values, or as far on either side of 0; only finite ones count."""
    finite = values[np.isfinite(values)]
    lowest, highest = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
    if lowest == highest:
        highest = 1.0
    return (-max(-lowest, highest), max(-lowest, highest)) if diverging else (lowest, highest)
