"""Logit lens (nostalgebraist 2020): what the model would say if it had to speak after each layer.

Every block adds to one residual stream, and the head reads what comes out of the last. Read by the same layer norm and
head before it is finished, the stream shows how a guess forms.

Dimensions: S stages, T positions, K guesses, D hidden size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from minineo.arrays import Array
from minineo.classes import GPTNeoForCausalLM
from minineo.interpret.inputs import check_language_model, intermediates, one_text, parameter, to_numpy, unembedding
from minineo.layers.layer_norm import layer_norm
from minineo.layers.linear import linear
from minineo.layers.softmax import softmax


@dataclass(frozen=True, eq=False)
class LogitLens:
    """Guesses at the next token after each stage; the last stage is the model itself.

    stages: names of the intermediates that were read, S of them; top_tokens (S, T, K) token ids, best first, and
    top_probabilities (S, T, K). Of the token that does come next, which the last position has none of:
    next_probabilities (S, T - 1), and next_ranks (S, T - 1), 0 where it is the best guess.
    """

    stages: tuple[str, ...]
    top_tokens: np.ndarray[Any, Any]
    top_probabilities: np.ndarray[Any, Any]
    next_probabilities: np.ndarray[Any, Any]
    next_ranks: np.ndarray[Any, Any]


def logit_lens(model: GPTNeoForCausalLM, input_ids: Any, top: int = 5, after_attention: bool = False) -> LogitLens:
    """Best guesses at the embeddings and after each block (nostalgebraist 2020, "interpreting GPT: the logit lens").

    input_ids (T,), (1, T) or a list. `top` guesses are kept a position; `after_attention` adds a stage between
    attention and MLP of each block. The last layer norm is applied at every stage. One stage's logits (T, V) are in
    memory at a time.

    Raises:
        ValueError, TypeError: tokens or `top` out of range, several texts, a model without logits.
    """
    check_language_model(model)
    ids = one_text(model, input_ids)
    V = model.config.vocab_size
    if isinstance(top, bool) or not isinstance(top, int | Integral) or not 1 <= top <= V:
        raise ValueError(f"top: received {top!r}, expected an int in 1 ... {V}, the size of the vocabulary.")
    parts = ("resid_mid", "resid_post") if after_attention else ("resid_post",)
    stages = ("embed", *(f"h.{i}.{part}" for i in range(model.config.num_layers) for part in parts))
    streams = intermediates(model, ids, stages)
    head, following = to_numpy(unembedding(model)), to_numpy(ids)[0, 1:]
    read = [_read(model, streams[stage][0], head, following, top) for stage in stages]
    return LogitLens(stages, *(np.stack(column) for column in zip(*read, strict=True)))


def unembed(model: GPTNeoForCausalLM, residual: Array, head: Array) -> Array:
    """The last layer norm and the head: residual stream (T, D), head (V, D) -> logits (T, V)."""
    weight, bias = parameter(model, "ln_f.weight"), parameter(model, "ln_f.bias")
    return linear(layer_norm(residual, weight, bias, model.config.layer_norm_epsilon), head)


def _read(
    model: GPTNeoForCausalLM, residual: Array, head: Array, following: Array, top: int
) -> tuple[Array, Array, Array, Array]:
    """Best tokens and their probabilities (T, K), and probabilities and ranks of the following tokens (T - 1,)."""
    probabilities = softmax(unembed(model, residual, head))
    # of all V tokens only the best K are sorted
    best = np.argpartition(-probabilities, top - 1, axis=1)[:, :top]
    order = np.argsort(-np.take_along_axis(probabilities, best, axis=1), axis=1, kind="stable")
    best = np.take_along_axis(best, order, axis=1)
    chosen = np.take_along_axis(probabilities[:-1], following[:, None], axis=1)
    ranks = np.sum(probabilities[:-1] > chosen, axis=1)
    return best, np.take_along_axis(probabilities, best, axis=1), chosen[:, 0], ranks
