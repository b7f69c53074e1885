"""Static cache: keys and values in arrays of a fixed length, so that every step of decoding has the same shapes.

JAX compiles a function anew for each shape that it meets. A cache that grew would mean a compilation for each token, so
Flax's has room for `max_length` positions from the start, and an index says how many are filled. It is a nested
dictionary, where the parameters of attention are: `{"h": {"0": {"attn": {"attention": {"cached_key": ...}}}}}`.

Dimensions: B batch, H heads, L positions that there is room for, T new positions, d head size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from array_api_compat import array_namespace

from minineo.arrays import Array, device_of
from minineo.checkpoints.flax_names import unflatten
from minineo.config import GPTNeoConfig

FIELDS = ("cached_key", "cached_value", "cache_index")


class LayerCache(NamedTuple):
    """What a layer has seen so far."""

    k: Array
    """(B, L, H, d), as Flax lays keys and values out; what is not filled yet is 0."""
    v: Array
    index: Array
    """0-d integer: how many positions are filled."""


def layer_names(config: GPTNeoConfig, prefix: str) -> list[str]:
    """Where each layer's cache stands; `prefix` is that of the transformer, such as `transformer.`."""
    return [f"{prefix}h.{i}.attn.attention".replace(".", "/") for i in range(config.num_layers)]


def empty_cache(config: GPTNeoConfig, batch_size: int, max_length: int, prefix: str, like: Array) -> dict[str, Any]:
    """A cache in which nothing is filled, of the dtype, in the library and on the device of `like`."""
    xp, device = array_namespace(like), device_of(like)
    shape = (batch_size, max_length, config.num_heads, config.head_size)
    leaves: dict[str, Array] = {}
    for name in layer_names(config, prefix):
        for field in FIELDS[:2]:
            leaves[f"{name}/{field}"] = xp.zeros(shape, dtype=like.dtype, device=device)
        leaves[f"{name}/{FIELDS[2]}"] = xp.asarray(0, dtype=xp.int32, device=device)
    return unflatten(leaves)


def layers_of(cache: Mapping[str, Any], config: GPTNeoConfig, prefix: str) -> list[LayerCache]:
    """The layers of a nested cache.

    Raises:
        ValueError: it is not the cache of such a model.
    """
    layers = []
    for name in layer_names(config, prefix):
        inner: Any = cache
        for key in name.split("/"):
            inner = inner.get(key) if isinstance(inner, Mapping) else None
        if not isinstance(inner, Mapping) or not all(field in inner for field in FIELDS):
            raise ValueError(
                f"past_key_values: {name} is not there, expected {', '.join(FIELDS)} below it. Pass what "
                "model.init_cache(batch_size, max_length) or an earlier output gave."
            )
        layers.append(LayerCache(*(inner[field] for field in FIELDS)))
    return layers


def nested(layers: list[LayerCache], config: GPTNeoConfig, prefix: str) -> dict[str, Any]:
    """The layers as a nested cache."""
    return unflatten(
        {
            f"{name}/{field}": array
            for name, layer in zip(layer_names(config, prefix), layers, strict=True)
            for field, array in zip(FIELDS, layer, strict=True)
        }
    )


def insert(cached: Array, new: Array, index: Array) -> Array:
    """Put new keys or values (B, T, H, d) into a cache (B, L, H, d), from position `index` on, in a copy of it."""
    xp = array_namespace(cached, new)
    T = new.shape[1]
    # No assignment to a slice: JAX's arrays cannot be changed, and `index` has no value yet while JAX traces. So each
    # position asks which of the new ones it is, if any.
    which = xp.arange(cached.shape[1], device=device_of(cached)) - index
    is_new = (which >= 0) & (which < T)
    moved = xp.take(new, xp.clip(which, 0, T - 1), axis=1)
    return xp.where(is_new[None, :, None, None], moved, cached)
