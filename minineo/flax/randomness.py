"""Random numbers for the Flax models: from a key of JAX's for JAX's arrays, from a seed or a generator for NumPy's."""

from __future__ import annotations

from importlib import import_module
from typing import Any
from zlib import crc32

import numpy as np
from array_api_compat import is_jax_array

from minineo.arrays import Array
from minineo.config import GPTNeoConfig
from minineo.layers.dropout import RATES, DropoutMasks, Masks, no_masks


def masks_for(config: GPTNeoConfig, train: bool, rng: Any, like: Array) -> Masks:
    """The dropout masks of one call: none unless in training, and at a rate above 0.

    Raises:
        ValueError, TypeError: there is nothing to draw them from, or not what suits the library of `like`.
    """
    if not train or not any(getattr(config, RATES[part]) for part in ("embed", "pattern", "out")):
        return no_masks
    if rng is None:
        raise ValueError("train=True needs dropout_rng: a key of jax.random, or for NumPy's arrays a seed.")
    if is_jax_array(like):
        return _masks_by_key(config, rng)
    return DropoutMasks(config, seed=_seed(rng))


def _masks_by_key(config: GPTNeoConfig, key: Array) -> Masks:
    if not is_jax_array(key):
        raise TypeError(f"dropout_rng: received a {type(key).__name__}, expected a key such as jax.random.key(0).")
    random = import_module("jax").random

    def masks(name: str, shape: tuple[int, ...], like: Array) -> Array | None:
        rate = getattr(config, RATES[name.rpartition(".")[2]])
        if rate == 0.0:
            return None
        keep = random.bernoulli(random.fold_in(key, crc32(name.encode())), 1.0 - rate, shape)
        return keep.astype(like.dtype) * (1.0 / (1.0 - rate))

    return masks


def _seed(rng: Any) -> int:
    """A seed from what was passed as one, or from a NumPy generator, whose next number it takes."""
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(2**63))
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer):
        raise TypeError(
            f"dropout_rng: received a {type(rng).__name__}, expected an int or a NumPy Generator, since the model's "
            "parameters are NumPy's."
        )
    return int(rng)


def seed_of(rng: Any) -> Any:
    """What NumPy's `default_rng` takes, from a seed, a NumPy generator or a key of JAX's."""
    if isinstance(rng, np.random.Generator | int | np.integer) and not isinstance(rng, bool):
        return rng
    if is_jax_array(rng):
        jax = import_module("jax")
        words = jax.random.key_data(rng) if jax.numpy.issubdtype(rng.dtype, jax.dtypes.prng_key) else rng
        return [int(word) for word in np.asarray(words).reshape(-1)]
    raise TypeError(f"rng: received a {type(rng).__name__}, expected an int, a NumPy Generator or a key of jax.random.")
