"""Loss and gradients of a whole model, fast: the head's part between the two halves of a training pass.

Dimensions: B batch, T positions, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minineo.arrays import Array
from minineo.config import GPTNeoConfig
from minineo.fast.linear import linear
from minineo.fast.losses import linear_cross_entropy
from minineo.fast.training import TrainingPass
from minineo.fast.workspace import Workspace
from minineo.layers.dropout import Masks, no_masks
from minineo.model import heads
from minineo.model import heads_backward as reference
from minineo.model.block import Params
from minineo.model.heads import Functions
from minineo.model.heads_backward import HEADS_BACKWARD, add_gradients
from minineo.model.names import BASE_PREFIX
from minineo.model.outputs import BaseModelOutputWithPast
from minineo.tap import Recorder


def loss_and_grads(
    forward: Callable[..., Any],
    params: Params,
    config: GPTNeoConfig,
    input_ids: Array | None,
    inputs: Mapping[str, Any],
    labels: Mapping[str, Array],
    masks: Masks = no_masks,
    checkpointing: bool = False,
) -> tuple[Array, Params]:
    """As `minineo.model.heads_backward.loss_and_grads`, which does the work for 16-bit floats."""
    if params[f"{BASE_PREFIX}wte.weight"].dtype.itemsize < 4:
        return reference.loss_and_grads(forward, params, config, input_ids, inputs, labels, masks, checkpointing)
    inputs = {"input_ids": input_ids, **inputs}
    run = TrainingPass(params, config, inputs, BASE_PREFIX, masks, checkpointing, Workspace())
    hidden = run.forward()
    if forward is heads.causal_lm:
        # the last position is compared with nothing
        targets = np.concatenate([labels["labels"][:, 1:], np.full_like(labels["labels"][:, :1], -100)], axis=1)
        loss, dhidden, head_grads = language_model_head(params, config, hidden, targets)
    else:
        loss, dhidden, head_grads = _other_head(forward, params, config, hidden, input_ids, labels, masks)
    return loss, add_gradients(run.backward(dhidden), head_grads)


def language_model_head(
    params: Params, config: GPTNeoConfig, hidden: Array, targets: Array, count: int | None = None
) -> tuple[Array, Array, Params]:
    """Loss of predicting targets (B, T), one for each hidden state (B, T, D), -100 where there is none.

    Returns it with its gradients by the hidden states and the head's parameter; `count` as in `linear_cross_entropy`.
    """
    head = f"{BASE_PREFIX}wte.weight" if config.tie_word_embeddings else "lm_head.weight"
    rows = hidden.reshape(-1, hidden.shape[-1])
    loss, dhidden, dhead = linear_cross_entropy(rows, params[head], targets.reshape(-1), count=count)
    return loss, dhidden.reshape(hidden.shape), {head: dhead}


def _other_head(
    forward: Callable[..., Any],
    params: Params,
    config: GPTNeoConfig,
    hidden: Array,
    input_ids: Array | None,
    labels: Mapping[str, Array],
    masks: Masks,
) -> tuple[Array, Array, Params]:
    """The reference's head, which costs next to nothing, on a hidden state that is there already."""
    functions = Functions(lambda *_, **__: BaseModelOutputWithPast(hidden), linear)
    trace = Recorder(["logits"])
    output = forward(params, config, input_ids, functions=functions, masks=masks, tap=trace, **labels)
    head_backward = HEADS_BACKWARD[forward]
    dhidden, head_grads = head_backward(params, config, hidden, trace["logits"], input_ids, **labels, masks=masks)
    return output.loss, dhidden, head_grads
