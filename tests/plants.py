"""minineo's functions as ports of GPT-Neo have had them: each plants one known mistake."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minineo import classes
from minineo.checkpoints import match
from minineo.layers.activations import ACTIVATIONS, gelu
from minineo.layers.attention import attention, visible
from minineo.layers.layer_norm import layer_norm
from minineo.layers.linear import linear
from minineo.layers.mlp import mlp
from minineo.layers.softmax import softmax
from minineo.model.block import self_attention
from minineo.model.cache import forget
from minineo.model.transformer import embed

Plant = Callable[[pytest.MonkeyPatch], None]


def replace(place: str, substitute: Any) -> Plant:
    """Plant a substitute for the function of that name."""
    return lambda patch: patch.setattr(place, substitute)


def both(*plants: Plant) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        for one in plants:
            one(patch)

    return plant


# Attention ------------------------------------------------------------------------------------------------------------


def window_moved_by(step: int) -> Plant:
    def moved(T: int, S: int, window: int | None, like: Any) -> Any:
        return visible(T, S, None if window is None else max(window + step, 1), like)

    return replace("minineo.layers.attention.visible", moved)


def forget_one_too_many(kv: Any, window: int | None) -> Any:
    return forget(kv, window if window is None or window == 1 else window - 1)


def no_window(T: int, S: int, window: int | None, like: Any) -> Any:
    return visible(T, S, None, like)


def no_causal_mask(T: int, S: int, window: int | None, like: Any) -> Any:
    return np.ones((T, S), bool)


def no_causal_mask_with_cache(T: int, S: int, window: int | None, like: Any) -> Any:
    return np.ones((T, S), bool) if S > T else visible(T, S, window, like)


def scaled_attention(q: Any, k: Any, v: Any, *rest: Any) -> Any:
    return attention(q / math.sqrt(q.shape[-1]), k, v, *rest)


def attention_with_mask_value(value: float) -> Plant:
    def masked(q: Any, k: Any, v: Any, window: Any = None, real: Any = None, tap: Any = None, masks: Any = None) -> Any:
        scores = q @ k.swapaxes(-1, -2)
        allowed = visible(q.shape[2], k.shape[2], window, q)
        if real is not None:
            allowed = allowed & real[:, None, None, :]
        scores = tap("scores", np.where(allowed, scores, np.float32(value)))
        return tap("z", tap("pattern", softmax(scores)) @ v)

    return replace("minineo.model.block.attention", masked)


def past_padding_forgotten(q: Any, k: Any, v: Any, window: Any, real: Any, *rest: Any) -> Any:
    if real is not None and k.shape[2] > q.shape[2]:
        real = np.concatenate([np.ones_like(real[:, : -q.shape[2]]), real[:, -q.shape[2] :]], axis=1)
    return attention(q, k, v, window, real, *rest)


def mask_of_the_first_keys(*arguments: Any) -> Any:
    """The mask cut at the wrong end, where a local layer's cache has dropped the oldest keys."""
    params, at, x, window, real, past, *rest = arguments
    if real is not None and past is not None:
        S = past[0].shape[2] + x.shape[1]
        real = real[:, :S]
    return self_attention(params, at, x, window, real, past, *rest)


def default_positions_with_cache(*arguments: Any) -> Any:
    params, ids, positions, types, embeds, past, *rest = arguments
    return embed(params, ids, None if past else positions, types, embeds, past, *rest)


def default_positions(*arguments: Any) -> Any:
    params, ids, _, *rest = arguments
    return embed(params, ids, None, *rest)


def positions_that_count_padding(attention_mask: Any) -> Any:
    return np.broadcast_to(np.arange(attention_mask.shape[1]), attention_mask.shape)


# Layers and heads -----------------------------------------------------------------------------------------------------


def transposed_if_square(x: Any, weight: Any, bias: Any = None) -> Any:
    return linear(x, weight.T if weight.shape[0] == weight.shape[1] else weight, bias)


def fixed_epsilon(value: float) -> Plant:
    def fixed(x: Any, weight: Any, bias: Any, epsilon: float) -> Any:
        return layer_norm(x, weight, bias, value)

    return both(
        replace("minineo.model.block.layer_norm", fixed), replace("minineo.model.transformer.layer_norm", fixed)
    )


def pool_the_last(hidden: Any, input_ids: Any, pad_token_id: Any) -> Any:
    return hidden[:, -1]


def pool_before_the_first_padding(hidden: Any, input_ids: Any, pad_token_id: Any) -> Any:
    if pad_token_id is None:
        return hidden[:, -1]
    last = np.argmax(input_ids == pad_token_id, axis=1) - 1  # without padding -1, the last
    return hidden[np.arange(len(last)), last]


def pool_by_length(hidden: Any, input_ids: Any, pad_token_id: Any) -> Any:
    if pad_token_id is None:
        return hidden[:, -1]
    return hidden[np.arange(len(hidden)), np.sum(input_ids != pad_token_id, axis=1) - 1]


def clipped_embedding(ids: Any, weight: Any) -> Any:
    return weight[np.minimum(ids, len(weight) - 1)]


def exact_gelu(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(ACTIVATIONS, "gelu_new", gelu)


def wide_mlp(*arguments: Any) -> Any:
    return mlp(*arguments) * np.float64(1.0)


def wide_softmax(x: Any) -> Any:
    return softmax(x) / np.float64(1.0)


def wide_layer_norm(x: Any, weight: Any, bias: Any, epsilon: float) -> Any:
    centred = x - np.mean(x, axis=-1, keepdims=True)
    return centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + np.float64(epsilon)) * weight + bias


# Files ----------------------------------------------------------------------------------------------------------------


def lenient_match(state: Any, expected: Any, **names: Any) -> Any:
    """What is missing is drawn at random, what is unknown is left out."""
    known = {name: array for name, array in state.items() if name in expected}
    missing = [name for name in expected if name not in known]
    return known, missing, []


def keys_for_queries(state: Any, expected: Any, **names: Any) -> Any:
    params, missing, unused = match(state, expected, **names)
    return {name: params[name.replace("q_proj", "k_proj")] for name in params}, missing, unused


def head_always_expected(state: Any, expected: Any, **names: Any) -> Any:
    if names["tied"] and "lm_head.weight" not in state:
        raise KeyError("lm_head.weight")
    return match(state, expected, **names)


def head_never_read(patch: pytest.MonkeyPatch) -> None:
    """An untied head that is taken for a tied one."""
    forward = classes.GPTNeoForCausalLM.forward

    def tied(params: Any, config: Any, *inputs: Any, **more: Any) -> Any:
        return forward(params | {"lm_head.weight": params["transformer.wte.weight"]}, config, *inputs, **more)

    patch.setattr(classes.GPTNeoForCausalLM, "forward", staticmethod(tied))


def mask_buffers_unknown(patch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("minineo.checkpoints.match")  # its function `match` hides it in the package
    patch.setattr(module, "MASK_BUFFER", re.compile("no such name"))


# The configuration ----------------------------------------------------------------------------------------------------


def patterns_only(attention_types: Any) -> list[str]:
    return [kind for pattern, _ in attention_types for kind in pattern]


def each_kind_repeated(attention_types: Any) -> list[str]:
    return [kind for pattern, repeats in attention_types for kind in pattern for _ in range(repeats)]
