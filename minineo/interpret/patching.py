"""Activation patching: run a corrupted prompt with one value from a clean one, and see how much comes back.

Where a value that is put back restores the answer, there the model holds what the answer needs (causal tracing, Meng et
al. 2022; path patching, Wang et al. 2022). Both prompts should differ in as little as possible. This is "denoising" in
the words of Heimersheim & Nanda 2024, "How to use and interpret activation patching"; swap the prompts for "noising".

Dimensions: L layers, T positions, H heads, d head size, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minineo.classes import GPTNeoForCausalLM
from minineo.interpret.inputs import one_text
from minineo.interpret.intervention import check_target, logit, replace_at
from minineo.progress import with_progress
from minineo.tap import Recorder

SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z")


@dataclass(frozen=True, eq=False)
class ActivationPatching:
    """A grid of runs: of layer x position (L, T), or for the site "z" of layer x head (L, H).

    raw: the metric of each run. normalised: the same, so that 0 is the corrupted prompt's and 1 the clean one's (less
    than 0 and more than 1 happen). clean and corrupted: the metric of both prompts as they are.
    """

    raw: np.ndarray[Any, Any]
    normalised: np.ndarray[Any, Any]
    clean: float
    corrupted: float
    site: str


def activation_patching(
    model: GPTNeoForCausalLM,
    clean_ids: Any,
    corrupted_ids: Any,
    target: int,
    against: int | None = None,
    site: str = "resid_pre",
    position: int = -1,
    progress: bool = False,
) -> ActivationPatching:
    """Patch each layer and position, or head, of a corrupted run from a clean one; the metric is a logit after both.

    clean_ids and corrupted_ids (T,), (1, T) or lists, of the same length. The metric is the logit of `target` after
    `position`, less that of `against` if it is given. `site` says what is patched: the residual stream at one position
    ("resid_pre" before a block, "resid_mid" after its attention, "resid_post" after it), what attention or the MLP
    adds there ("attn_out", "mlp_out"), or one head at all positions ("z"): the names of TransformerLens. `progress`
    shows a bar: the model runs L * T or L * H times.

    Raises:
        ValueError, TypeError: the prompts have different lengths or the same metric; a token, the position or the site
            is not there; a model without logits.
    """
    clean_ids, corrupted_ids = one_text(model, clean_ids, "clean_ids"), one_text(model, corrupted_ids, "corrupted_ids")
    T = clean_ids.shape[1]
    check_as_long(T, corrupted_ids.shape[1])
    if site not in SITES:
        raise ValueError(f"site: received {site!r}, expected one of {', '.join(map(repr, SITES))}.")
    target, against, position = check_target(model, target, against, position, T)

    L = model.config.num_layers
    kept = Recorder({intermediate(site, i) for i in range(L)})
    clean = logit(model, clean_ids, target, against, position, tap=kept)
    corrupted = logit(model, corrupted_ids, target, against, position)
    if clean == corrupted:
        raise ValueError(
            f"Both prompts give {clean:.4g}, so that there is nothing to restore. Choose a target, or a corrupted "
            "prompt, for which they differ."
        )
    axis, across = (1, model.config.num_heads) if site == "z" else (1, T)  # z (1, H, T, d), all others (1, T, D)
    raw = np.full((L, across), corrupted)  # a position after the one that is read changes nothing
    upto = across if site == "z" else position + 1
    places = [(i, j) for i in range(L) for j in range(upto)]
    for i, j in with_progress(places, progress, desc="patching", unit="run"):
        name = intermediate(site, i)
        edits = {name: partial(replace_at, axis=axis, index=j, replacement=kept[name])}
        raw[i, j] = logit(model, corrupted_ids, target, against, position, edits)
    return ActivationPatching(raw, (raw - corrupted) / (clean - corrupted), clean, corrupted, site)


def check_as_long(clean: int, corrupted: int) -> None:
    """Raise ValueError unless both prompts have as many tokens."""
    if corrupted != clean:
        raise ValueError(
            f"clean_ids have {clean} tokens and corrupted_ids {corrupted}, expected as many: a value is put "
            "where it came from. Choose words with as many tokens (len(tokenizer.encode(word)) tells)."
        )


def intermediate(site: str, layer: int) -> str:
    """The name of the intermediate that a site is in a layer: before block 3, the stream is that after block 2."""
    if site == "resid_pre":
        return "embed" if layer == 0 else f"h.{layer - 1}.resid_post"
    return f"h.{layer}." + {"attn_out": "attn.out", "mlp_out": "mlp.out", "z": "attn.z"}.get(site, site)
