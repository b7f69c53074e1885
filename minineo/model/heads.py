"""The heads: from hidden states to logits and, given labels, to a loss. Pure functions, as the transformer is.

What a head does not use itself, `inputs`, is the transformer's.

Dimensions: B batch, T positions, K positions that get logits, D hidden size, V vocabulary, C labels.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple, Protocol

from array_api_compat import array_namespace

from minineo.arrays import Array, device_of
from minineo.config import GPTNeoConfig
from minineo.layers.dropout import Masks, dropout, no_masks
from minineo.layers.linear import linear
from minineo.layers.losses import binary_cross_entropy, cross_entropy, mean_squared_error
from minineo.model.block import Params
from minineo.model.cache import Cache
from minineo.model.names import BASE_PREFIX
from minineo.model.outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)
from minineo.model.transformer import transformer
from minineo.tap import Tap, no_tap


class Decoder(Protocol):
    """What goes on from a cache by one token (B,) of each row at a time, giving logits (B, V)."""

    def step(self, tokens: Array) -> Array:
        """Logits (B, V) for what follows the tokens (B,)."""

    def cache(self) -> Cache:
        """The keys and values so far."""


class Functions(NamedTuple):
    """What a head is made of: the reference's functions, or others of the same signatures.

    `decoder` makes a `Decoder` of parameters, configuration, cache, the cache's attention mask, and the positions that
    there will be at most; None where each token is a call of the model.
    """

    transformer: Callable[..., BaseModelOutputWithPast]
    linear: Callable[..., Array]
    decoder: Callable[[Params, GPTNeoConfig, Cache, Array | None, int], Decoder] | None = None


REFERENCE = Functions(transformer, linear)


def base_model(
    params: Params,
    config: GPTNeoConfig,
    input_ids: Array | None = None,
    *,
    functions: Functions = REFERENCE,
    **inputs: Any,
) -> BaseModelOutputWithPast:
    """The transformer alone, whose parameters then have no prefix: last_hidden_state (B, T, D)."""
    return functions.transformer(params, config, input_ids, **inputs)


def causal_lm(
    params: Params,
    config: GPTNeoConfig,
    input_ids: Array | None = None,
    *,
    labels: Array | None = None,
    logits_to_keep: int | Array = 0,
    tap: Tap = no_tap,
    functions: Functions = REFERENCE,
    **inputs: Any,
) -> CausalLMOutputWithPast:
    """Predict each next token: logits (B, K, V).

    labels (B, T) may be input_ids themselves: position t is compared with label t + 1. `logits_to_keep` of k > 0
    computes logits for the last k positions only, an array of positions (K,) or (B, K) for those; `inputs` are the
    transformer's.
    """
    base = functions.transformer(params, config, input_ids, tap=tap, prefix=BASE_PREFIX, **inputs)
    hidden = keep_positions(base.last_hidden_state, logits_to_keep)
    # a tied head reads the token embedding itself: its gradient is lookup plus projection
    head = f"{BASE_PREFIX}wte.weight" if config.tie_word_embeddings else "lm_head.weight"
    logits = tap("logits", functions.linear(hidden, params[head]))
    loss = None if labels is None else cross_entropy(logits[:, :-1, :], labels[:, 1:])
    return CausalLMOutputWithPast(loss, logits, base.past_key_values, base.hidden_states, base.attentions)


def keep_positions(hidden: Array, logits_to_keep: int | Array) -> Array:
    """Hidden states (B, K, D) of the last `logits_to_keep` positions, 0 for all, or of those in an array.

    The array is (K,), or (B, K) where each row has its own.
    """
    if isinstance(logits_to_keep, int | Integral):
        return hidden[:, max(hidden.shape[1] - logits_to_keep, 0) :, :] if logits_to_keep else hidden
    xp = array_namespace(hidden, logits_to_keep)
    if logits_to_keep.ndim == 2:
        return xp.take_along_axis(hidden, logits_to_keep[:, :, None], axis=1)
    return xp.take(hidden, logits_to_keep, axis=1)


def sequence_classification(
    params: Params,
    config: GPTNeoConfig,
    input_ids: Array | None = None,
    *,
    labels: Array | None = None,
    tap: Tap = no_tap,
    functions: Functions = REFERENCE,
    **inputs: Any,
) -> SequenceClassifierOutputWithPast:
    """Sort whole texts into classes by what their last token knows: logits (B, C).

    labels (B,) of integers for one label a text, (B, C) of 0 and 1 for several, (B,) or (B, C) of floats for
    regression: `config.problem_type` decides or, where it is None, the number of labels and their dtype.
    """
    base = functions.transformer(params, config, input_ids, tap=tap, prefix=BASE_PREFIX, **inputs)
    pooled = last_token(base.last_hidden_state, input_ids, config.pad_token_id)
    logits = tap("logits", functions.linear(pooled, params["score.weight"]))
    loss = None if labels is None else classification_loss(logits, labels, config)
    return SequenceClassifierOutputWithPast(loss, logits, base.past_key_values, base.hidden_states, base.attentions)


def last_token(hidden: Array, input_ids: Array | None, pad_token_id: int | None) -> Array:
    """Hidden state (B, D) of each row's rightmost token that is not padding, on whichever side the padding is.

    Without token ids or without a padding id nothing is known of padding: the last position counts.
    """
    if input_ids is None or pad_token_id is None:
        return hidden[:, -1, :]
    xp = array_namespace(hidden, input_ids)
    positions = xp.arange(input_ids.shape[1], device=device_of(input_ids))
    last = xp.max(xp.where(input_ids != pad_token_id, positions, xp.zeros_like(positions)), axis=1)
    return xp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0, :]


def problem_type(config: GPTNeoConfig, labels: Array) -> str:
    """What kind of classification this is: `config.problem_type` or, where that is None, what the labels suggest."""
    if config.problem_type is not None:
        return config.problem_type
    if config.num_labels == 1:
        return "regression"
    integers = array_namespace(labels).isdtype(labels.dtype, "integral")
    return "single_label_classification" if integers else "multi_label_classification"


def classification_loss(logits: Array, labels: Array, config: GPTNeoConfig) -> Array:
    """The loss for logits (B, C) that the kind of classification asks for."""
    xp = array_namespace(logits, labels)
    problem = problem_type(config, labels)
    if problem == "regression":
        return mean_squared_error(xp.reshape(logits, labels.shape), labels)
    if problem == "single_label_classification":
        return cross_entropy(logits, xp.reshape(labels, (-1,)))
    return binary_cross_entropy(logits, labels)


def token_classification(
    params: Params,
    config: GPTNeoConfig,
    input_ids: Array | None = None,
    *,
    labels: Array | None = None,
    tap: Tap = no_tap,
    masks: Masks = no_masks,
    functions: Functions = REFERENCE,
    **inputs: Any,
) -> TokenClassifierOutput:
    """Sort each token into a class: logits (B, T, C), labels (B, T) of integers, -100 where there is none.

    Of the four heads it alone has a dropout of its own, `classifier`, for what it reads.
    """
    base = functions.transformer(params, config, input_ids, tap=tap, masks=masks, prefix=BASE_PREFIX, **inputs)
    hidden = base.last_hidden_state
    hidden = dropout(hidden, masks("classifier", hidden.shape, hidden))
    logits = functions.linear(hidden, params["classifier.weight"], params["classifier.bias"])
    logits = tap("logits", logits)
    loss = None if labels is None else cross_entropy(logits, labels)
    return TokenClassifierOutput(loss, logits, base.hidden_states, base.attentions)


def question_answering(
    params: Params,
    config: GPTNeoConfig,
    input_ids: Array | None = None,
    *,
    start_positions: Array | None = None,
    end_positions: Array | None = None,
    tap: Tap = no_tap,
    functions: Functions = REFERENCE,
    **inputs: Any,
) -> QuestionAnsweringModelOutput:
    """Find where in the text an answer starts and ends: start_logits and end_logits (B, T) over the positions.

    start_positions and end_positions (B,) give a loss, the mean of the two; a position beyond T is ignored.
    """
    base = functions.transformer(params, config, input_ids, tap=tap, prefix=BASE_PREFIX, **inputs)
    logits = functions.linear(base.last_hidden_state, params["qa_outputs.weight"], params["qa_outputs.bias"])
    logits = tap("logits", logits)
    start_logits, end_logits = logits[:, :, 0], logits[:, :, 1]
    loss = None
    if start_positions is not None and end_positions is not None:
        loss = (position_loss(start_logits, start_positions) + position_loss(end_logits, end_positions)) / 2.0
    return QuestionAnsweringModelOutput(loss, start_logits, end_logits, base.hidden_states, base.attentions)


def position_loss(logits: Array, positions: Array) -> Array:
    """Cross-entropy of logits (B, T) over positions; those outside the input are ignored, as the answer is cut off."""
    xp = array_namespace(logits, positions)
    T = logits.shape[1]
    positions = xp.clip(xp.reshape(positions, (-1,)), 0, T)
    return cross_entropy(logits, positions, ignore_index=T)
