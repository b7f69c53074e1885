"""Backward through the heads: from a loss of 1 to the gradient of every parameter.

`loss_and_grads` goes the whole way, there and back; `loss_backward` is the way back: the head's own part, which ends at
the last hidden state, and from there the transformer's. A loss is the end of the chain, so its own gradient is 1.

Each head's part takes the hidden state that the head read, the logits that it gave and the labels, and gives the
gradient of the hidden state, dhidden (B, T, D), and those of the parameters that the head read.

Dimensions: B batch, T positions, D hidden size, V vocabulary, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from array_api_compat import array_namespace

from minineo.arrays import Array, device_of
from minineo.config import GPTNeoConfig
from minineo.layers.dropout import Masks, dropout, dropout_backward, no_masks
from minineo.layers.linear import linear_backward
from minineo.layers.losses import binary_cross_entropy_backward, cross_entropy_backward, mean_squared_error_backward
from minineo.model import heads
from minineo.model.backward import Trace, intermediates_read, transformer_backward
from minineo.model.block import Params
from minineo.model.names import BASE_PREFIX
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
    """A head's loss and its gradients by all parameters: forward, keeping what backward reads, then backward.

    Arguments as for `loss_backward`; `inputs` can hold inputs_embeds. With `checkpointing`, what happens inside of
    blocks is not kept.
    """
    trace = Recorder(intermediates_read(config, checkpointing))
    output = forward(params, config, input_ids, **inputs, **labels, use_cache=False, tap=trace, masks=masks)
    read = {name: value for name, value in inputs.items() if name != "inputs_embeds"}
    return output.loss, loss_backward(forward, params, config, trace, input_ids, labels, read, masks)


def loss_backward(
    forward: Callable[..., Any],
    params: Params,
    config: GPTNeoConfig,
    trace: Trace,
    input_ids: Array | None,
    labels: Mapping[str, Array],
    inputs: Mapping[str, Any],
    masks: Masks = no_masks,
) -> Params:
    """Gradients of a head's loss by all its parameters.

    `forward` is the head, such as `heads.causal_lm`, `trace` the intermediates that it left, `labels` what it compared
    its logits with, `inputs` what the transformer took beside input_ids, `masks` those of dropout in forward.
    """
    head_backward = HEADS_BACKWARD[forward]
    hidden, logits = trace["ln_f"], trace["logits"]
    dhidden, head_grads = head_backward(params, config, hidden, logits, input_ids, **labels, masks=masks)
    grads = transformer_backward(dhidden, params, config, trace, input_ids, **inputs, masks=masks, prefix=BASE_PREFIX)
    return add_gradients(grads, head_grads)


def add_gradients(grads: Params, others: Params) -> Params:
    """Put the gradients of two parts of a model together, adding where both have used a parameter.

    A tied table is such a one, as lookup at the bottom and as projection at the top: its gradient is the sum.
    """
    return grads | {name: grads[name] + other if name in grads else other for name, other in others.items()}


def causal_lm_head_backward(
    params: Params,
    config: GPTNeoConfig,
    hidden: Array,
    logits: Array,
    input_ids: Array | None,
    *,
    labels: Array,
    masks: Masks = no_masks,
) -> tuple[Array, Params]:
    """Backward through the language model's head; logits (B, T, V), labels (B, T)."""
    xp = array_namespace(hidden, labels)
    head = f"{BASE_PREFIX}wte.weight" if config.tie_word_embeddings else "lm_head.weight"
    dlogits = cross_entropy_backward(1.0, logits[:, :-1, :], labels[:, 1:])
    dhidden, dhead, _ = linear_backward(dlogits, hidden[:, :-1, :], params[head])
    # the last position's logits are compared with nothing
    return xp.concat([dhidden, xp.zeros_like(hidden[:, :1, :])], axis=1), {head: dhead}


def sequence_classification_head_backward(
    params: Params,
    config: GPTNeoConfig,
    hidden: Array,
    logits: Array,
    input_ids: Array | None,
    *,
    labels: Array,
    masks: Masks = no_masks,
) -> tuple[Array, Params]:
    """Backward through a text classifier's head; logits (B, C), labels as `sequence_classification` takes them."""
    pooled = heads.last_token(hidden, input_ids, config.pad_token_id)
    dlogits = classification_loss_backward(1.0, logits, labels, config)
    dpooled, dscore, _ = linear_backward(dlogits, pooled, params["score.weight"])
    return last_token_backward(dpooled, hidden, input_ids, config.pad_token_id), {"score.weight": dscore}


def classification_loss_backward(dloss: Array | float, logits: Array, labels: Array, config: GPTNeoConfig) -> Array:
    """Gradient of `classification_loss` by its logits, dlogits (B, C)."""
    xp = array_namespace(logits, labels)
    problem = heads.problem_type(config, labels)
    if problem == "regression":
        dpredictions = mean_squared_error_backward(dloss, xp.reshape(logits, labels.shape), labels)
        return xp.reshape(dpredictions, logits.shape)
    if problem == "single_label_classification":
        return cross_entropy_backward(dloss, logits, xp.reshape(labels, (-1,)))
    return binary_cross_entropy_backward(dloss, logits, labels)


def last_token_backward(dy: Array, hidden: Array, input_ids: Array | None, pad_token_id: int | None) -> Array:
    """Gradient of `last_token`: dy (B, D) goes to the position that was read, 0 to all others, (B, T, D)."""
    xp = array_namespace(dy, hidden)
    B, T, _ = hidden.shape
    positions = xp.broadcast_to(xp.arange(T, device=device_of(hidden))[None, :, None], (B, T, 1))
    # asked for its token of the positions themselves, last_token says which position it reads
    was_read = positions == heads.last_token(positions, input_ids, pad_token_id)[:, None, :]
    return xp.where(was_read, dy[:, None, :], xp.zeros_like(hidden))


def token_classification_head_backward(
    params: Params,
    config: GPTNeoConfig,
    hidden: Array,
    logits: Array,
    input_ids: Array | None,
    *,
    labels: Array,
    masks: Masks = no_masks,
) -> tuple[Array, Params]:
    """Backward through a token classifier's head; logits (B, T, C), labels (B, T)."""
    dlogits = cross_entropy_backward(1.0, logits, labels)
    weight, bias = params["classifier.weight"], params["classifier.bias"]
    mask = masks("classifier", hidden.shape, hidden)
    ddropped, dweight, dbias = linear_backward(dlogits, dropout(hidden, mask), weight, bias)
    return dropout_backward(ddropped, mask), {"classifier.weight": dweight, "classifier.bias": dbias}


def question_answering_head_backward(
    params: Params,
    config: GPTNeoConfig,
    hidden: Array,
    logits: Array,
    input_ids: Array | None,
    *,
    start_positions: Array,
    end_positions: Array,
    masks: Masks = no_masks,
) -> tuple[Array, Params]:
    """Backward through a question answerer's head; logits (B, T, 2), start_positions and end_positions (B,)."""
    xp = array_namespace(logits)
    # the loss is the mean of two, so each gets half
    dstart = position_loss_backward(0.5, logits[:, :, 0], start_positions)
    dend = position_loss_backward(0.5, logits[:, :, 1], end_positions)
    dlogits = xp.stack([dstart, dend], axis=2)
    weight, bias = params["qa_outputs.weight"], params["qa_outputs.bias"]
    dhidden, dweight, dbias = linear_backward(dlogits, hidden, weight, bias)
    return dhidden, {"qa_outputs.weight": dweight, "qa_outputs.bias": dbias}


def position_loss_backward(dloss: Array | float, logits: Array, positions: Array) -> Array:
    """Gradient of `position_loss` by its logits, dlogits (B, T)."""
    xp = array_namespace(logits, positions)
    T = logits.shape[1]
    positions = xp.clip(xp.reshape(positions, (-1,)), 0, T)
    return cross_entropy_backward(dloss, logits, positions, ignore_index=T)


HEADS_BACKWARD: dict[Callable[..., Any], Callable[..., tuple[Array, Params]]] = {
    heads.causal_lm: causal_lm_head_backward,
    heads.sequence_classification: sequence_classification_head_backward,
    heads.token_classification: token_classification_head_backward,
    heads.question_answering: question_answering_head_backward,
}
