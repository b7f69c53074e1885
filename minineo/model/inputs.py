"""Checks of a model's inputs, so that a mistake is named where it was made and not ten layers below."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from array_api_compat import array_namespace, is_array_api_obj

from minineo.arrays import Array, device_of
from minineo.config import GPTNeoConfig
from minineo.devices import device_name, library_name
from minineo.model.block import Params
from minineo.model.cache import Cache, kept_positions
from minineo.model.heads import problem_type
from minineo.model.names import Shapes


def check_inputs(
    config: GPTNeoConfig,
    weight: Array,
    input_ids: Array | None,
    attention_mask: Array | None,
    position_ids: Array | None,
    token_type_ids: Array | None,
    inputs_embeds: Array | None,
    past_key_values: Cache | None,
) -> None:
    """Raise ValueError or TypeError for inputs that the transformer cannot take; `weight` is any of its parameters."""
    if (input_ids is None) == (inputs_embeds is None):
        received = "neither" if input_ids is None else "both"
        raise ValueError(f"Pass exactly one of input_ids and inputs_embeds: received {received}.")
    arrays = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "position_ids": position_ids,
        "token_type_ids": token_type_ids,
        "inputs_embeds": inputs_embeds,
    }
    for name, array in arrays.items():
        check_library(name, array, weight)
    if input_ids is not None:
        check_ids("input_ids", input_ids, config.vocab_size, "vocab_size")
        B, T = _two("input_ids", input_ids)
    else:
        B, T = _check_embeds(inputs_embeds, config.hidden_size, weight.dtype)
    past = 0 if past_key_values is None else check_cache(past_key_values, B, config, weight)
    if position_ids is None and past + T > config.max_position_embeddings:
        raise ValueError(
            f"The input has {past + T} positions ({past} cached and {T} new), but the model has "
            f"max_position_embeddings = {config.max_position_embeddings}. Shorten the text."
        )
    if attention_mask is not None:
        check_mask(attention_mask, B, past, T)
    if position_ids is not None:
        check_ids("position_ids", position_ids, config.max_position_embeddings, "max_position_embeddings")
        _check_shape("position_ids", position_ids, [(B, T), (1, T)])
    if token_type_ids is not None:
        check_ids("token_type_ids", token_type_ids, config.vocab_size, "vocab_size")
        _check_shape("token_type_ids", token_type_ids, [(B, T)])


def check_library(name: str, array: Any, weight: Array) -> None:
    """Raise TypeError unless `array` (None passes) is of the library, and on the device, of the model's parameters."""
    if array is None:
        return
    if not is_array_api_obj(array):
        raise TypeError(f"{name}: received a {type(array).__name__}, expected an array, such as np.array([[1, 2, 3]]).")
    if array_namespace(array) is not array_namespace(weight):
        raise TypeError(
            f"{name}: received an array of {library_name(array)}, but the model's parameters are of "
            f"{library_name(weight)}. Convert one to the other's library."
        )
    places = device_of(array), device_of(weight)
    if None not in places and places[0] != places[1]:
        raise TypeError(
            f"{name}: received an array on {device_name(array)}, but the model's parameters are on "
            f"{device_name(weight)}. Move one to the other's device: model.to(...) moves the parameters."
        )


def check_mask(mask: Array, batch: int, past: int, new: int) -> None:
    """Raise unless `mask` has a 0 or 1 for each position: an additive mask, 0 and -inf, would mean the opposite."""
    xp = array_namespace(mask)
    if tuple(mask.shape) != (batch, past + new):
        raise ValueError(
            f"attention_mask: received shape {tuple(mask.shape)}, expected {(batch, past + new)}: "
            f"one entry for each of {past} cached and {new} new positions."
        )
    if xp.isdtype(mask.dtype, "bool"):
        return
    if not xp.isdtype(mask.dtype, ("integral", "real floating")):
        raise TypeError(f"attention_mask: received dtype {mask.dtype}, expected integers or booleans.")
    wrong = mask[(mask != 0) & (mask != 1)]
    if wrong.shape[0] > 0:
        raise ValueError(f"attention_mask: received {wrong[0]}, expected 1 at tokens and 0 at padding.")


def check_params(params: Params, shapes: Shapes) -> None:
    """Raise unless `params` holds floating-point arrays of one library under exactly these names, in these shapes."""
    for name in [*shapes, *params]:
        if params.get(name) is None:
            raise ValueError(f"params has no {name!r}, expected an array of shape {shapes[name]}.")
        if name not in shapes:
            raise ValueError(f"params has {name!r}, expected exactly the names that parameter_shapes(config) lists.")
        array = params[name]
        check_library(name, array, params[next(iter(shapes))])
        if tuple(array.shape) != shapes[name]:
            raise ValueError(f"{name}: received shape {tuple(array.shape)}, expected {shapes[name]}.")
        if not array_namespace(array).isdtype(array.dtype, "real floating"):
            raise TypeError(f"{name}: received dtype {array.dtype}, expected a floating-point one.")


def check_ids(name: str, ids: Array, below: int, limit_name: str) -> None:
    """Raise unless `ids` holds integers in 0 ... below - 1 (a negative one would silently count from the end)."""
    xp = array_namespace(ids)
    if not xp.isdtype(ids.dtype, "integral"):
        raise TypeError(f"{name}: received dtype {ids.dtype}, expected integers.")
    if 0 in ids.shape:
        raise ValueError(f"{name}: received shape {tuple(ids.shape)}, expected at least one token.")
    lowest, highest = int(xp.min(ids)), int(xp.max(ids))
    if lowest < 0 or highest >= below:
        raise ValueError(
            f"{name}: received {lowest if lowest < 0 else highest}, expected 0 ... {below - 1} "
            f"({limit_name} is {below})."
        )


def check_labels(name: str, labels: Array, shape: tuple[int, ...], num_classes: int) -> None:
    """Raise unless `labels` holds integers in 0 ... num_classes - 1, or -100 where there is none, in that shape."""
    xp = array_namespace(labels)
    _check_shape(name, labels, [shape])
    if not xp.isdtype(labels.dtype, "integral"):
        raise TypeError(f"{name}: received dtype {labels.dtype}, expected integers.")
    wrong = labels[(labels != -100) & ((labels < 0) | (labels >= num_classes))]
    if wrong.shape[0] > 0:
        raise ValueError(f"{name}: received {int(wrong[0])}, expected 0 ... {num_classes - 1}, or -100 to ignore it.")


def check_classification_labels(labels: Array, batch: int, config: GPTNeoConfig) -> None:
    """Raise unless `labels` suits the kind of sequence classification that the configuration asks for."""
    xp = array_namespace(labels)
    problem, C = problem_type(config, labels), config.num_labels
    one_each = [(batch,), (batch, 1)]
    if problem == "single_label_classification":
        _check_shape("labels", labels, one_each)
        check_labels("labels", labels, tuple(labels.shape), C)
        return
    _check_shape("labels", labels, one_each if problem == "regression" and C == 1 else [(batch, C)])
    if xp.isdtype(labels.dtype, "complex floating"):
        raise TypeError(f"labels: received dtype {labels.dtype}, expected real numbers.")


def check_logits_to_keep(keep: int | Array, batch: int, positions: int) -> None:
    """Raise unless `keep` is a number of positions, or an integer array of positions that the input has."""
    if isinstance(keep, int | Integral):
        if keep < 0:
            raise ValueError(f"logits_to_keep: received {keep}, expected 0 (all) or the number of last positions.")
        return
    xp = array_namespace(keep)
    if not xp.isdtype(keep.dtype, "integral"):
        raise TypeError(f"logits_to_keep: received dtype {keep.dtype}, expected integers.")
    if keep.ndim != 1 and (keep.ndim != 2 or keep.shape[0] != batch):
        raise ValueError(
            f"logits_to_keep: received shape {tuple(keep.shape)}, expected (K,) for all rows or ({batch}, K)."
        )
    if bool(xp.any((keep < -positions) | (keep >= positions))):
        raise ValueError(f"logits_to_keep: received {keep}, expected positions of the input, 0 ... {positions - 1}.")


def check_answer_positions(name: str, answers: Array, batch: int) -> None:
    """Raise unless `answers` holds one integer for each text; any value will do, for an answer may be cut off."""
    _check_shape(name, answers, [(batch,), (batch, 1)])
    if not array_namespace(answers).isdtype(answers.dtype, "integral"):
        raise TypeError(f"{name}: received dtype {answers.dtype}, expected integers.")


def check_cache(cache: Any, batch: int, config: GPTNeoConfig, weight: Array) -> int:
    """Raise unless a model of this configuration made `cache` for a batch of that size; return its length."""
    if not isinstance(cache, Cache):
        raise TypeError(f"past_key_values: received a {type(cache).__name__}, expected output.past_key_values.")
    if len(cache) != config.num_layers:
        raise ValueError(
            f"past_key_values: received {len(cache)} layers, expected {config.num_layers}. "
            "Pass the cache of an earlier output of this model."
        )
    for i, (keys, _) in enumerate(cache):
        check_library("past_key_values", keys, weight)
        kept = kept_positions(cache.length, config.window(i))
        expected = (batch, config.num_heads, kept, config.head_size)
        if tuple(keys.shape) != expected:
            raise ValueError(
                f"past_key_values: received keys of shape {tuple(keys.shape)} in layer {i}, expected {expected}, which "
                "is (batch, heads, positions kept, head size). Pass the cache of an earlier output of this model."
            )
    return cache.length


def _two(name: str, array: Array) -> tuple[int, int]:
    if array.ndim != 2:
        hint = f" For a single text pass {name}[None, :]." if array.ndim == 1 else ""
        raise ValueError(f"{name}: received shape {tuple(array.shape)}, expected (batch, positions).{hint}")
    B, T = array.shape
    return B, T


def _check_embeds(embeds: Array, hidden_size: int, dtype: Any) -> tuple[int, int]:
    if embeds.ndim != 3 or embeds.shape[2] != hidden_size or 0 in embeds.shape:
        raise ValueError(
            f"inputs_embeds: received shape {tuple(embeds.shape)}, expected (batch, positions, {hidden_size})."
        )
    if embeds.dtype != dtype:  # a wider one would silently widen everything after it
        raise TypeError(f"inputs_embeds: received dtype {embeds.dtype}, expected the parameters' own, {dtype}.")
    B, T, _ = embeds.shape
    return B, T


def _check_shape(name: str, array: Array, shapes: list[tuple[int, ...]]) -> None:
    if tuple(array.shape) not in shapes:
        expected = " or ".join(dict.fromkeys(map(str, shapes)))
        raise ValueError(f"{name}: received shape {tuple(array.shape)}, expected {expected}.")
