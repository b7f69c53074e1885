"""Ablation: take heads or MLPs out, one by one or several heads at once, and see what the model loses.

Out means that its output is 0 ("zero"), or its own mean ("mean"), which leaves what it always says and takes what it
says about this text: zero is far from anything that later layers have met (Wang et al. 2022; Michel et al. 2019 for
heads, "Are sixteen heads really better than one?").

Dimensions: L layers, H heads, B batch, T positions, d head size, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from minineo.arrays import Array
from minineo.classes import GPTNeoForCausalLM
from minineo.edits import Edits
from minineo.interpret.inputs import Model, check_index, check_language_model, one_text, token_ids
from minineo.interpret.intervention import check_target, logit, mean_loss, replace_all, replace_at
from minineo.progress import with_progress
from minineo.tap import Recorder, Tap, no_tap

KINDS = ("zero", "mean")
HEAD_AXIS = 1  # of z, (B, H, T, d)


@dataclass(frozen=True, eq=False)
class AblationScores:
    """How a metric changes when a part is taken out: the metric with it gone, less `clean`.

    heads (L, H), mlps (L,); metric is "loss" (in nats, where more means that the part was of use), "logit" or
    "logit difference" (where less does); clean is the metric of the whole model, kind how parts were taken out.
    """

    heads: np.ndarray[Any, Any]
    mlps: np.ndarray[Any, Any]
    clean: float
    metric: str
    kind: str


def ablation_scores(
    model: GPTNeoForCausalLM,
    input_ids: Any,
    kind: str = "zero",
    target: int | None = None,
    against: int | None = None,
    position: int = -1,
    reference: Any = None,
    progress: bool = False,
) -> AblationScores:
    """Take out each head and each MLP in turn: the change of the loss, or of the logit of `target`.

    input_ids (T,), (1, T), a list, or for the loss (B, T) without padding. Without `target` the metric is the mean loss
    of all tokens but the first; with it, that token's logit after `position`, less that of `against` if it is given.
    A head's output is its `z`, before out_proj, whose bias stays. Means of `kind="mean"` are over all positions of the
    texts in `reference` (B, T), by default input_ids themselves. `progress` shows a bar: the model runs L * (H + 1)
    times.

    Raises:
        ValueError, TypeError: an unknown kind; a token or the position is out of range; a model without logits.
    """
    check_language_model(model)
    _check_kind(kind)
    if target is None:
        ids = token_ids(model, input_ids)
        if ids.shape[1] < 2:
            raise ValueError("input_ids: one token has no loss, for the first is not predicted. Pass a longer text.")
        if against is not None:
            raise ValueError(f"against: received {against!r} without a target. Pass both for a logit difference.")
    else:
        ids = one_text(model, input_ids)
        target, against, position = check_target(model, target, against, position, ids.shape[1])

    def metric(edits: Edits | None = None, tap: Tap = no_tap) -> float:
        if target is None:
            return mean_loss(model, ids, edits, tap)
        return logit(model, ids, target, against, position, edits, tap)

    outputs = Recorder({f"h.{i}.{part}" for i in range(model.config.num_layers) for part in ("attn.z", "mlp.out")})
    clean = metric(tap=outputs)
    if kind == "mean":
        model(ids if reference is None else token_ids(model, reference, "reference"), tap=outputs, use_cache=False)
    replacements = {name: _replacement(value, kind) for name, value in outputs.items()}
    heads, mlps = _changes(model, metric, clean, replacements, progress)
    name = "loss" if target is None else "logit" if against is None else "logit difference"
    return AblationScores(heads, mlps, clean, name, kind)


def without_heads(
    model: Model, input_ids: Any, heads: Iterable[tuple[int, int]], kind: str = "zero"
) -> dict[str, Callable[[Array], Array]]:
    """The edits that take these heads out together, for a call, a trace or `generate` of the model.

    heads are pairs (layer, head); none of them is the whole model. Means of `kind="mean"` are over all positions of
    the texts input_ids (T,), (B, T) or a list, and stay the same whatever text the edits are then used with. Heads that
    do the same may not be missed one by one, so what a set is for shows when all of it is gone (Wang et al. 2022).

    >>> edits = without_heads(model, input_ids, [(4, 0), (4, 1)], kind="mean")
    >>> logits = model(input_ids, edits=edits).logits

    Raises:
        ValueError, TypeError: an unknown kind; heads are no pairs, or there is no such head; wrong tokens.
    """
    _check_kind(kind)
    ids = token_ids(model, input_ids)
    chosen = _by_layer(model, heads)
    outputs = Recorder({f"h.{layer}.attn.z" for layer in chosen})
    model(ids, tap=outputs, use_cache=False)
    return {
        f"h.{layer}.attn.z": partial(
            _replace_heads, heads=numbers, replacement=_replacement(outputs[f"h.{layer}.attn.z"], kind)
        )
        for layer, numbers in chosen.items()
    }


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind: received {kind!r}, expected one of {', '.join(map(repr, KINDS))}.")


def _by_layer(model: Model, heads: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """The numbers of the heads in each layer that has any of these."""
    try:
        pairs = [(layer, head) for layer, head in heads]
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"heads: received {heads!r}, expected pairs of a layer and a head, such as [(4, 0), (4, 1)]."
        ) from error
    chosen: dict[int, list[int]] = {}
    for layer, head in pairs:
        layer = check_index("heads, layer", layer, model.config.num_layers)
        chosen.setdefault(layer, []).append(check_index("heads, head", head, model.config.num_heads))
    return chosen


def _replace_heads(z: Array, heads: Iterable[int], replacement: Array) -> Array:
    """The z (B, H, T, d) of a layer with the replacement, broadcast to it, at these heads."""
    for head in heads:
        z = replace_at(z, HEAD_AXIS, head, replacement)
    return z


def _replacement(value: Array, kind: str) -> Array:
    """What stands in for an output, to be broadcast: 0, or the mean of z for each head, of an MLP's for all texts."""
    xp = array_namespace(value)
    over = (0, 2) if value.ndim == 4 else (0, 1)  # texts and positions, of z (B, H, T, d) or mlp.out (B, T, D)
    mean = xp.mean(value, axis=over, keepdims=True)
    return mean if kind == "mean" else xp.zeros_like(mean)


def _changes(
    model: GPTNeoForCausalLM,
    metric: Callable[[Edits], float],
    clean: float,
    replacements: dict[str, Array],
    progress: bool,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The metric less `clean` without each head, (L, H), and without each MLP, (L,)."""
    L, H = model.config.num_layers, model.config.num_heads
    heads, mlps = np.zeros((L, H)), np.zeros(L)
    places = [(i, h) for i in range(L) for h in range(H + 1)]  # what comes after the heads is the MLP
    for i, h in with_progress(places, progress, desc="ablation", unit="run"):
        if h < H:
            z = f"h.{i}.attn.z"
            heads[i, h] = metric({z: partial(_replace_heads, heads=[h], replacement=replacements[z])}) - clean
        else:
            out = f"h.{i}.mlp.out"
            mlps[i] = metric({out: partial(replace_all, replacement=replacements[out])}) - clean
    return heads, mlps
