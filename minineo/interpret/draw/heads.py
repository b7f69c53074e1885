"""Pictures of what heads and texts are like: head scores, circuits, attention distance, surprisal.

Each draws what the function of the same name in `minineo.interpret` returned.

Dimensions: L layers, H heads, N chosen tokens, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from minineo.arrays import Array
from minineo.interpret.draw import style
from minineo.interpret.draw.charts import heat_map
from minineo.interpret.draw.labels import Token
from minineo.interpret.draw.text import coloured_text

if TYPE_CHECKING:
    from minineo.interpret.circuits import OVCircuit, QKCircuit
    from minineo.interpret.distance import AttentionDistance
    from minineo.interpret.head_scores import HeadScores
    from minineo.interpret.probabilities import Surprisal

MEASURES = {
    "mean": "mean attention",
    "mul": "share of all attention",
    "abs": "1 - distance of the pattern from the ideal one",
}


def head_scores(found: HeadScores, *, ax: Axes | None = None) -> Axes:
    """Draw the scores of all heads, from 0 to 1, and beside each layer how far back it sees."""
    return heat_map(
        found.scores,
        rows=[layer_name(i, window) for i, window in enumerate(found.windows)],
        columns=[str(h) for h in range(found.scores.shape[1])],
        limits=(min(0.0, float(found.scores.min())), 1.0),
        label=MEASURES[found.measure],
        title=f"{found.kind.capitalize()} heads",
        xlabel="head",
        ax=ax,
    )


previous_token_scores = duplicate_token_scores = induction_scores = head_scores


def qk_circuit(found: QKCircuit, tokens: Sequence[Token], *, ax: Axes | None = None) -> Axes:
    """Draw the score of each chosen token for each other, who looks on the left; tokens (N) are their texts."""
    title = f"QK circuit of head {found.head} of layer {found.layer}"
    return _circuit(
        found.scores, tokens, title, "score (before the softmax)", "token that looks", "token looked at", ax
    )


def ov_circuit(found: OVCircuit, tokens: Sequence[Token], *, ax: Axes | None = None) -> Axes:
    """Draw what looking at each chosen token does to the logit of each; tokens (N) are their texts."""
    title = f"OV circuit of head {found.head} of layer {found.layer}: copying score {found.copying_score:.2f}"
    label = "logit above the mean of all tokens"
    return _circuit(found.logits, tokens, title, label, "token looked at", "token made likelier or less likely", ax)


def _circuit(
    values: Array | None, tokens: Sequence[Token], title: str, label: str, rows: str, columns: str, ax: Axes | None
) -> Axes:
    if values is None:
        raise ValueError("found: has no matrix of tokens to draw. Choose them when you compute it: tokens=[...].")
    ax = heat_map(values, tokens=tokens, diverging=True, label=label, title=title, xlabel=columns, ylabel=rows, ax=ax)
    style.label_tokens(ax, "y", tokens)
    return ax


def attention_distance(found: AttentionDistance, *, ax: Axes | None = None) -> Axes:
    """Draw how far back each head looks, a number for each head, and where its layer's window ends, if it hides any."""
    L, H = found.distances.shape
    ax = style.axes(ax, (7.0, 1.2 + L * max(0.4, 0.13 * H)))
    for i, (distances, window, longest) in enumerate(zip(found.distances, found.windows, found.longest, strict=True)):
        ax.plot([0.0, longest], [i, i], color=style.HIDDEN, linewidth=7.0, solid_capstyle="butt", zorder=1)
        if window is not None and 2.0 * longest > window - 1.0:  # only then does it hide something
            ax.plot([window - 1] * 2, [i - 0.4, i + 0.4], color=style.EDGE, linewidth=2.0, zorder=2)
        # heads that look equally far would hide each other: they stand below one another
        lanes = np.linspace(-0.35, 0.35, H) if H > 1 else np.zeros(1)
        for h, (distance, lane) in enumerate(zip(distances, lanes, strict=True)):
            ax.plot(distance, i + lane, "o", color=style.SEQUENTIAL(0.3), markersize=4.0, zorder=3)
            ax.annotate(str(h), (distance, i + lane), (4, 0), textcoords="offset points", size=6, va="center")
    ax.set_yticks(range(L), [layer_name(i, window) for i, window in enumerate(found.windows)], fontsize=9)
    ax.set_ylim(L - 0.4, -0.6)
    ax.set_xlim(left=0.0)
    ax.set_xlabel("positions back, on average (grey: as far as it could; line: the end of the window)", fontsize=9)
    ax.spines[["top", "right", "left"]].set_visible(False)
    style.title(ax, "Attention distance of each head")
    return ax


def surprisal(found: Surprisal, tokens: Sequence[Token], *, ax: Axes | None = None) -> Axes:
    """Draw a text whose tokens are coloured by their surprisal; tokens (T) are their texts."""
    per_byte = "" if found.bits_per_byte is None else f", {found.bits_per_byte:.2f} a byte"
    title = f"Surprisal: {found.bits_per_token:.2f} bits a token{per_byte}"
    return coloured_text(tokens, found.bits, label="surprisal (bits)", title=title, nothing="not predicted", ax=ax)


def token_probabilities(found: Array, tokens: Sequence[Token], *, ax: Axes | None = None) -> Axes:
    """Draw a text whose tokens are coloured by their probabilities (T); tokens (T) are their texts."""
    title = "Probability of each token, given those before it"
    return coloured_text(
        tokens, found, label="probability", title=title, limits=(0.0, 1.0), nothing="not predicted", ax=ax
    )


def layer_name(layer: int, window: int | None) -> str:
    """The name of the row that a layer is, with how far back it sees."""
    return f"layer {layer}, global" if window is None else f"layer {layer}, local {window}"
