"""Interventions: a part of an intermediate replaced, and what that is judged by, a logit or the loss.

The logit difference between a right and a wrong answer is the metric of Wang et al. 2022 ("Interpretability in the
wild"): what raises or lowers all logits alike drops out of it.

Dimensions: B batch, T positions, V vocabulary.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from minineo.arrays import Array
from minineo.classes import GPTNeoForCausalLM
from minineo.edits import Edits
from minineo.interpret.inputs import check_index, check_language_model, check_token
from minineo.layers.losses import cross_entropy
from minineo.tap import Tap, no_tap


def replace_at(value: Array, axis: int, index: int, replacement: Array) -> Array:
    """The value with another at one index of an axis; `replacement` is broadcast to the value's shape.

    >>> replace_at(np.ones((2, 3)), axis=1, index=0, replacement=np.zeros((2, 3)))
    array([[0., 1., 1.],
           [0., 1., 1.]])
    """
    xp = array_namespace(value, replacement)
    along = [1] * value.ndim
    along[axis] = value.shape[axis]
    chosen = xp.reshape(xp.arange(value.shape[axis], device=value.device) == index, tuple(along))
    return xp.where(chosen, replacement, value)


def replace_all(value: Array, replacement: Array) -> Array:
    """The replacement, broadcast to the value's shape."""
    return array_namespace(value, replacement).broadcast_to(replacement, value.shape)


def check_target(model: Any, target: Any, against: Any, position: Any, length: int) -> tuple[int, int | None, int]:
    """The token, the one that it is held against if any, and the position from 0; errors name the valid range."""
    check_language_model(model)
    target = check_token("target", target, model)
    against = None if against is None else check_token("against", against, model)
    if against == target:
        raise ValueError(f"against: received {against}, the target itself: the difference is 0. Pass another token.")
    return target, against, check_index("position", position, length, negative=True)


def logit(
    model: GPTNeoForCausalLM,
    input_ids: Array,
    target: int,
    against: int | None,
    position: int,
    edits: Edits | None = None,
    tap: Tap = no_tap,
) -> float:
    """The logit of `target`, less that of `against` if it is given, for the token after `position` of one text."""
    read = input_ids[:, : position + 1]  # nothing after it matters
    logits: Array = model(read, logits_to_keep=1, use_cache=False, edits=edits, tap=tap).logits
    logits = logits[0, -1, :]
    return float(logits[target]) - (0.0 if against is None else float(logits[against]))


def mean_loss(model: GPTNeoForCausalLM, input_ids: Array, edits: Edits | None = None, tap: Tap = no_tap) -> float:
    """The mean of -log p, in nats, of each token of the texts (B, T) but the first ones."""
    logits: Array = model(input_ids, use_cache=False, edits=edits, tap=tap).logits
    return float(cross_entropy(logits[:, :-1, :], input_ids[:, 1:]))
