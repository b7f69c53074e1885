"""Checks of what a Flax model is called with. While JAX traces, an array has a shape and no values: those go unchecked.

Dimensions: B batch, T new positions, L positions that a cache has room for or, without one, T.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, is_jax_array

from minineo.arrays import Array, beside
from minineo.config import GPTNeoConfig
from minineo.flax.cache import LayerCache
from minineo.model.inputs import check_ids, check_library, check_mask


class Inputs(NamedTuple):
    """What a forward pass reads beside the parameters, in their library."""

    input_ids: Array
    attention_mask: Array | None
    """None where nothing is masked, as far as that is known."""
    position_ids: Array | None


def check_call(
    config: GPTNeoConfig,
    weight: Array,
    input_ids: Array,
    attention_mask: Array | None,
    position_ids: Array | None,
    past: list[LayerCache] | None,
) -> Inputs:
    """Move NumPy's arrays to the library of `weight`, any of the parameters, and raise for what cannot be computed."""
    arrays = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
    for name, array in arrays.items():
        if isinstance(array, np.ndarray) and not isinstance(weight, np.ndarray):
            arrays[name] = beside(array, like=weight)
        check_library(name, arrays[name], weight)
    input_ids, attention_mask, position_ids = arrays.values()
    if input_ids is None or input_ids.ndim != 2:
        received = "None" if input_ids is None else f"shape {tuple(input_ids.shape)}"
        raise ValueError(f"input_ids: received {received}, expected an array of (batch, positions).")
    B, T = input_ids.shape
    _check_ids("input_ids", input_ids, config.vocab_size, "vocab_size")
    L = T if past is None else _check_cache(past, B, T, config, weight)
    if position_ids is None and past is not None:
        raise ValueError("Pass position_ids beside past_key_values: the model does not know where the text goes on.")
    if position_ids is None and config.max_position_embeddings < T:
        raise ValueError(
            f"The input has {T} positions, but the model has max_position_embeddings = "
            f"{config.max_position_embeddings}. Shorten the text."
        )
    if position_ids is not None:
        _check_ids("position_ids", position_ids, config.max_position_embeddings, "max_position_embeddings")
        if tuple(position_ids.shape) not in [(B, T), (1, T)]:
            raise ValueError(f"position_ids: received shape {tuple(position_ids.shape)}, expected {(B, T)}.")
    return Inputs(input_ids, _checked_mask(attention_mask, B, L), position_ids)


def check_train(train: object) -> None:
    """Raise unless `train` is True or False: transformers 4 had `dropout_rng` in its place, and `train` after it."""
    if not isinstance(train, bool | np.bool_):
        raise TypeError(
            f"train: received a {type(train).__name__}, expected True or False. Pass train and dropout_rng by name: "
            "transformers 4 had them in the other order."
        )


def _check_ids(name: str, ids: Array, below: int, limit_name: str) -> None:
    if not is_traced(ids):
        check_ids(name, ids, below, limit_name)
    elif not array_namespace(ids).isdtype(ids.dtype, "integral"):
        raise TypeError(f"{name}: received dtype {ids.dtype}, expected integers.")


def _checked_mask(mask: Array | None, B: int, L: int) -> Array | None:
    """The mask, or None if there is none or it is known to mask nothing: then the fast functions will do."""
    if mask is None:
        return None
    if tuple(mask.shape) != (B, L):
        raise ValueError(
            f"attention_mask: received shape {tuple(mask.shape)}, expected {(B, L)}: one entry for each position of "
            "the input or, with past_key_values, for each that the cache has room for."
        )
    if not is_traced(mask):
        check_mask(mask, B, 0, L)
    return None if isinstance(mask, np.ndarray) and mask.all() else mask


def _check_cache(past: list[LayerCache], B: int, T: int, config: GPTNeoConfig, weight: Array) -> int:
    """Raise unless the cache is one of such a model for a batch of B, with room for T more; returns its length."""
    for i, layer in enumerate(past):
        for array in layer:
            check_library("past_key_values", array, weight)
        L = layer.k.shape[1]
        expected = (B, past[0].k.shape[1], config.num_heads, config.head_size)
        if {tuple(layer.k.shape), tuple(layer.v.shape)} != {expected}:
            raise ValueError(
                f"past_key_values: received keys of shape {tuple(layer.k.shape)} in layer {i}, expected {expected}, "
                "which is (batch, max_length, heads, head size), and values of the same."
            )
        filled = 0 if is_traced(layer.index) else int(layer.index)
        if filled + T > L:
            raise ValueError(
                f"past_key_values: {filled} of {L} positions are filled, too many for {T} more. Pass a larger "
                "max_length to init_cache."
            )
    return int(L)


def is_traced(array: Any) -> bool:
    """Whether JAX is tracing a function, so that the array stands for values that are not known yet."""
    return bool(is_jax_array(array)) and isinstance(array, import_module("jax").core.Tracer)
