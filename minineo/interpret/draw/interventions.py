"""Pictures of what parts contribute: logit lens, direct logit attribution, ablation, activation patching.

Each draws what the function of the same name in `minineo.interpret` returned.

Dimensions: L layers, H heads, S stages, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from minineo.interpret.draw.charts import bars, heat_map
from minineo.interpret.draw.labels import Token, token_bytes
from minineo.interpret.draw.style import limits

if TYPE_CHECKING:
    from minineo.interpret.ablation import AblationScores
    from minineo.interpret.attribution import DirectLogitAttribution
    from minineo.interpret.lens import LogitLens
    from minineo.interpret.patching import ActivationPatching
    from minineo.tokenizer import GPT2Tokenizer

SITES = {
    "resid_pre": "residual stream before the block",
    "resid_mid": "residual stream after attention",
    "resid_post": "residual stream after the block",
    "attn_out": "output of attention",
    "mlp_out": "output of the MLP",
    "z": "output of one head, at all positions",
}


def logit_lens(
    found: LogitLens, tokens: Sequence[Token], tokenizer: GPT2Tokenizer | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw the best guess at each stage and position, the finished stream on top, coloured by its probability.

    tokens (T): those of the text (`token_bytes(tokenizer, input_ids)`). With the `tokenizer` the guesses themselves
    are written into the cells.
    """
    S, T, _ = found.top_tokens.shape
    cells = None
    if tokenizer is not None:
        flat = token_bytes(tokenizer, found.top_tokens[::-1, :, 0].reshape(-1).tolist())
        cells = [flat[row * T : (row + 1) * T] for row in range(S)]
    return heat_map(
        found.top_probabilities[::-1, :, 0],
        rows=found.stages[::-1],
        tokens=tokens,
        cells=cells,
        limits=(0.0, 1.0),
        label="probability of the best guess",
        title="Logit lens: the best guess at the next token",
        xlabel="token read",
        ylabel="what the head reads",
        ax=ax,
    )


def direct_logit_attribution(
    found: DirectLogitAttribution, tokens: Sequence[Token] | None = None, by: str = "part", *, ax: Axes | None = None
) -> Axes:
    """Draw what a logit is the sum of: bars for its parts, or a map of heads, or of the positions that heads read.

    `by` is "part" (embeddings, and attention and MLP of each layer), "head" (L, H), or "position" (L, T), which sums
    over the heads of a layer and takes the tokens (T) of the text.

    Raises:
        ValueError: `by` is something else, or "position" without tokens.
    """
    L, H = found.heads.shape
    if by == "part":
        values = np.array(list(found.parts.values()))
        title = f"Direct logit attribution: the parts that sum to {found.logit:.2f}"
        return bars(values, list(found.parts), title=title, xlabel="share of the logit", ax=ax)
    if by == "head":
        return heat_map(
            found.heads,
            rows=layer_names(L),
            columns=[str(h) for h in range(H)],
            diverging=True,
            label="share of the logit",
            title="Direct logit attribution by head",
            xlabel="head",
            ax=ax,
        )
    if by != "position" or tokens is None:
        raise ValueError(f"by: received {by!r}, expected 'part', 'head', or 'position' with the tokens of the text.")
    return heat_map(
        found.sources.sum(axis=1),
        rows=layer_names(L),
        tokens=tokens,
        diverging=True,
        label="share of the logit",
        title="Direct logit attribution by the position that heads read",
        xlabel="token read",
        ax=ax,
    )


def ablation_scores(found: AblationScores, *, ax: Axes | None = None) -> Axes:
    """Draw how the metric changes without each head and without each layer's MLP, which has the last column.

    Colours end at the largest change that a head makes: an MLP often makes one that would leave no colour to the heads.
    """
    L, H = found.heads.shape
    unit = " (nats)" if found.metric == "loss" else ""
    return heat_map(
        np.concatenate([found.heads, found.mlps[:, None]], axis=1),
        rows=layer_names(L),
        columns=[*map(str, range(H)), "MLP"],
        diverging=True,
        limits=limits(found.heads, diverging=True),
        label=f"change of the {found.metric}{unit}",
        title=f"Ablation ({found.kind}): without it, the {found.metric} of {found.clean:.2f} changes by",
        xlabel="head (colours end at the largest change that one makes)",
        ax=ax,
    )


def activation_patching(
    found: ActivationPatching, tokens: Sequence[Token] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw how much of the metric each patch restores: 0 is the corrupted prompt, 1 the clean one.

    tokens (T): those of the prompts, where positions were patched; show at the place where they differ what you like.
    """
    L, across = found.normalised.shape
    heads = found.site == "z"
    largest = max(1.0, float(np.abs(found.normalised).max()))
    return heat_map(
        found.normalised,
        rows=layer_names(L),
        columns=[str(i) for i in range(across)] if tokens is None or heads else None,
        tokens=None if heads else tokens,
        diverging=True,
        limits=(-largest, largest),
        label="restored (0: corrupted, 1: clean)",
        title=f"Activation patching: {SITES[found.site]}",
        xlabel="head" if heads else "position",
        ax=ax,
    )


def layer_names(layers: int) -> list[str]:
    """Names of the rows that layers are."""
    return [f"layer {i}" for i in range(layers)]
