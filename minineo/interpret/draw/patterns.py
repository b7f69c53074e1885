"""Attention patterns: of one head with its tokens on the axes, and of all heads as thumbnails.

What a mask hides is grey, the edge of a local layer's window is a line: a position sees keys to the right of it only.

Dimensions: B batch, H heads, T queries, S keys (the queries are the last T of the S positions).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon

from minineo.arrays import Array
from minineo.config import GPTNeoConfig
from minineo.interpret.draw import style
from minineo.interpret.draw.charts import MOST_NUMBERS, matrix, numbers, write_cells
from minineo.interpret.draw.labels import Token, text_width, token_bytes, token_labels
from minineo.interpret.inputs import Model, check_index, intermediates, text_tokens, to_numpy
from minineo.layers.attention import visible

if TYPE_CHECKING:
    from minineo.tokenizer import GPT2Tokenizer

PATTERN_NAME = re.compile(r"h\.(\d+)\.attn\.pattern")
AHEAD = "#efefef"  # of the keys that come after the query
GAP = 0.06  # between thumbnails that are 1 wide
FINEST = 256  # rows and columns of a thumbnail


def attention(
    model: Model,
    tokenizer: GPT2Tokenizer | None,
    text: str | Sequence[int] | Array,
    layer: int | None = None,
    head: int | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Run a model over a text and draw its attention: one head, all heads of a layer, or all heads of all layers.

    `text` is a str or token ids, (T,) or (1, T); without a `tokenizer` positions stand on the axes.

    Raises:
        ValueError: there is no such layer or head, a head is given without its layer, or the text has no token or more
            than the model has positions for.
        TypeError: the model is none of this package's, or there is a str but no tokenizer.
    """
    input_ids = text_tokens(model, tokenizer, text)
    config = model.config
    if layer is None and head is not None:
        raise ValueError(f"layer: received None with head {head!r}. Say which layer's head to draw, or leave out both.")
    layers = range(config.num_layers) if layer is None else [check_index("layer", layer, config.num_layers)]
    patterns = intermediates(model, input_ids, [f"h.{i}.attn.pattern" for i in layers])
    if layer is None or head is None:
        return attention_grid(patterns, config, title=f"Attention, {input_ids.shape[1]} tokens", ax=ax)
    head = check_index("head", head, config.num_heads)
    return attention_pattern(
        patterns[f"h.{layer}.attn.pattern"][0, head],
        None if tokenizer is None else token_bytes(tokenizer, to_numpy(input_ids)[0]),
        config.window(layer),
        title=f"Layer {layer} ({kind(config.window(layer))}), head {head}",
        ax=ax,
    )


def attention_pattern(
    pattern: Array,
    tokens: Sequence[Token] | None = None,
    window: int | None = None,
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the attention pattern (T, S) of one head: a row for each query, a column for each key.

    `tokens` (S) name the keys, and their last T the queries; without them, positions do. `window` is the layer's,
    `model.config.window(layer)`: None in a global layer, in a local one the edge is drawn and what it hides hatched. As
    in the grid, the colour is that of the root of the attention.

    Raises:
        ValueError: the pattern is no matrix, gives weight to what the mask hides, or has not as many keys as tokens.
    """
    pattern = matrix("pattern", pattern)
    T, S = pattern.shape
    if tokens is not None and len(tokens) != S:
        raise ValueError(f"tokens: received {len(tokens)}, expected {S}, one for each key of the pattern {T, S}.")
    seen = check_mask(pattern, window)
    keys: Sequence[Token] = [str(position) for position in range(S)] if tokens is None else tokens
    ax = style.axes(ax, _size(T, S, token_labels(keys)), "compressed")
    colours = style.SEQUENTIAL.with_extremes(bad=AHEAD)
    shown = np.ma.array(pattern, mask=~seen)
    image = ax.imshow(shown, colours, PowerNorm(0.5, *style.limits(pattern, diverging=False)), interpolation="nearest")
    style.label_tokens(ax, "x", keys)
    style.label_tokens(ax, "y", keys[S - T :])
    style.axis_names(ax, "key: attended to", "query: attends")
    style.colour_bar(ax, image, "attention (root scale)")
    if max(T, S) <= MOST_NUMBERS:
        texts = np.where(seen, np.reshape(numbers(pattern.ravel()), pattern.shape), "")
        write_cells(ax, image, pattern, texts)
    _draw_window(ax, T, S, window)
    style.title(ax, title)
    _legend(ax, T, S, window, titled=bool(title))
    return ax


def attention_grid(
    patterns: Mapping[str, Array] | Sequence[Array],
    config: GPTNeoConfig | None = None,
    *,
    batch: int = 0,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the patterns of all heads as thumbnails: a row for each layer, a column for each head.

    `patterns` is a trace, of which each `h.3.attn.pattern` (B, H, T, S) is drawn, or one such array for each layer, as
    `output.attentions` has them; `batch` says of which text. With the model's `config` each layer is labelled global or
    local, and the edge of the window drawn. The colour is that of the root of the attention, so that little is seen
    beside much; of patterns larger than a thumbnail can show, each pixel has the largest number that falls on it.

    Raises:
        ValueError: there is no pattern, or they are not (B, H, T, S) of the same sizes.
    """
    found = layers_of(patterns, batch)
    shapes = {pattern.shape for pattern in found.values()}
    if len(shapes) != 1:
        raise ValueError(f"patterns: received those of shapes {sorted(shapes)}, expected one shape (heads, T, S).")
    H, T, S = shapes.pop()
    windows = {layer: None if config is None else config.window(layer) for layer in found}
    side = min(1.35, 9.0 / max(H, len(found)))
    ax = style.axes(ax, (max(4.8, side * H + 2.1), max(1.0, side * len(found)) + 1.1), "compressed")
    for row, (layer, pattern) in enumerate(found.items()):
        for head in range(H):
            seen = check_mask(pattern[head], windows[layer], f"layer {layer}, head {head}: ")
            place = (head, head + 1 - GAP, row + 1 - GAP, row)
            image = _thumbnail(ax, pattern[head], seen, place)
            _draw_window(ax, T, S, windows[layer], place)
    ax.set(xlim=(-GAP, H), ylim=(len(found), -GAP), aspect="equal")
    ax.set_xticks([head + 0.5 - GAP / 2 for head in range(H)], [str(head) for head in range(H)], fontsize=9)
    names = [str(layer) if config is None else f"{layer} {kind(windows[layer], short=True)}" for layer in found]
    ax.set_yticks([row + 0.5 - GAP / 2 for row in range(len(found))], names, fontsize=9)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.xaxis.set_label_position("top")
    style.axis_names(ax, "head", "layer")
    ax.spines[:].set_visible(False)
    style.colour_bar(ax, image, "attention (root scale)")
    style.title(ax, title)
    narrowest = min((window for window in windows.values() if window is not None), default=None)
    _legend(ax, T, S, narrowest, titled=False, below=True)
    return ax


def _thumbnail(ax: Axes, pattern: Array, seen: Array, place: tuple[float, float, float, float]) -> AxesImage:
    """A pattern (T, S) as a small image at `place`: left, right, bottom, top."""
    shown = np.ma.array(coarse(pattern, FINEST), mask=~coarse(seen, FINEST))
    colours = style.SEQUENTIAL.with_extremes(bad=AHEAD)
    return ax.imshow(shown, colours, PowerNorm(0.5, 0.0, 1.0), extent=place, interpolation="nearest")


def _size(T: int, S: int, labels: Sequence[str]) -> tuple[float, float]:
    """Inches for a matrix of square cells (T, S), its labels on both axes, the legend above and the colour bar."""
    width, height = (min(7.4, max(2.6, 0.46 * count)) for count in (S, T))
    longest = max(text_width(label, style.LARGEST_TYPE) for label in labels) / 72.0
    return max(5.0, width + longest + 1.4), height + min(longest, 1.2) + 1.1


def kind(window: int | None, short: bool = False) -> str:
    """What a layer is, by its window."""
    if window is None:
        return "global"
    return f"local\nwindow {window}" if short else f"local, window {window}"


def layers_of(patterns: Mapping[str, Array] | Sequence[Array], batch: int) -> dict[int, Array]:
    """The patterns (H, T, S) of one text by the number of their layer, from a trace or from one array a layer."""
    if isinstance(patterns, Mapping):
        named = {name: PATTERN_NAME.fullmatch(name) for name in patterns}
        found = {int(match[1]): patterns[name] for name, match in named.items() if match}
    else:
        found = dict(enumerate(patterns))
    if not found:
        raise ValueError(
            'patterns: there is none. Expected a trace that holds some, as names="*.attn.pattern" records.'
        )
    for layer, pattern in found.items():
        if pattern.ndim != 4 or not -pattern.shape[0] <= batch < pattern.shape[0]:
            raise ValueError(
                f"patterns: layer {layer} has shape {tuple(pattern.shape)}, expected (batch, heads, T, S) with a text "
                f"{batch} in the batch."
            )
    return {layer: style.floats(pattern[batch, ...]) for layer, pattern in found.items()}


def check_mask(pattern: Array, window: int | None, where: str = "") -> Array:
    """Which keys each query of a pattern (T, S) may look at; ValueError where it looks at others."""
    T, S = pattern.shape
    if T > S:
        raise ValueError(f"{where}pattern: received shape {T, S}, expected no more queries (rows) than keys (columns).")
    seen: Array = visible(T, S, window, like=pattern)
    if np.any(pattern[~seen]):
        t, s = np.argwhere(~seen & (pattern != 0.0))[0].tolist()
        layer = "global layer" if window is None else f"local layer of window {window}"
        raise ValueError(
            f"{where}pattern: query {S - T + t} attends to key {s}, which is hidden in a {layer}. Expected a causal "
            "pattern, and the window of its layer, model.config.window(layer)."
        )
    return seen


def coarse(matrix: Array, most: int) -> Array:
    """The largest value of each block of a matrix: blocks so large that at most `most` rows and columns are left."""
    for axis in (0, 1):
        count = matrix.shape[axis]
        if count > most:
            starts = np.arange(most) * count // most
            matrix = np.maximum.reduceat(matrix, starts, axis=axis)
    return matrix


def window_edge(T: int, S: int, window: int | None) -> tuple[Array, Array]:
    """The line between the keys that a window hides and those that it shows: x and y, in cells; none if it hides none.

    The cell of query row t and key j spans t to t + 1 and j to j + 1. Row t's line stands left of its first key,
    S - T + t - window + 1.
    """
    rows = np.arange(T)
    first = S - T + rows + 1 - (S if window is None else window)
    rows, first = rows[first > 0], first[first > 0]
    return np.repeat(first, 2).astype(float), np.stack([rows, rows + 1], axis=1).ravel().astype(float)


def _draw_window(
    ax: Axes, T: int, S: int, window: int | None, extent: tuple[float, float, float, float] | None = None
) -> None:
    """The window's edge, and hatching over what lies before it, for an image that is at `extent`."""
    x, y = window_edge(T, S, window)
    if not len(x):
        return
    left, right, bottom, top = (-0.5, S - 0.5, T - 0.5, -0.5) if extent is None else extent
    x, y = left + x * (right - left) / S, top + y * (bottom - top) / T
    corners = np.stack([np.append(x, [left, left]), np.append(y, [y[-1], y[0]])], axis=1)
    hatch: dict[str, Any] = {"hatch": "///", "edgecolor": "#b0b0b0"} if extent is None else {}
    ax.add_patch(Polygon(corners, facecolor=style.HIDDEN, linewidth=0.0, **hatch))
    ax.plot(x, y, color=style.EDGE, linewidth=1.8 if extent is None else 1.0, solid_joinstyle="miter")


def _legend(ax: Axes, T: int, S: int, window: int | None, titled: bool, below: bool = False) -> None:
    """Say what grey, hatching and the line mean, where there are any; above the picture, under its title."""
    entries: list[Any] = []
    if S > 1:
        entries.append(Patch(facecolor=AHEAD, edgecolor="#b0b0b0", linewidth=0.5, label="ahead of the query"))
    if len(window_edge(T, S, window)[0]):
        hatch = "" if below else "////"
        entries += [
            Patch(facecolor=style.HIDDEN, edgecolor="#b0b0b0", hatch=hatch, linewidth=0.5, label="before the window"),
            Line2D([], [], color=style.EDGE, linewidth=1.8, label=f"edge of the window of {window}"),
        ]
    if not entries:
        return
    width, height = style.inches(ax)
    narrow = not below and min(width, height * S / T) < 4.4  # a square may not fill what it is given
    ax.legend(
        handles=entries,
        loc="upper left" if below else "lower left",
        bbox_to_anchor=(0.0, 0.0) if below else (0.0, 1.0),
        ncols=1 if narrow else 3,
        frameon=False,
        fontsize=8,
        borderaxespad=0.2,
        borderpad=0.2,
        handlelength=1.4,
        columnspacing=1.2,
    )
    if titled and not below:
        rows = len(entries) if narrow else 1
        ax.set_title(ax.get_title("left"), loc="left", fontsize=style.TITLE_TYPE, pad=8.0 + 12.0 * rows)
