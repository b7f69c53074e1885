"""Layer normalisation (Ba, Kiros & Hinton 2016): each position is shifted to mean 0 and scaled to variance 1.

Dimensions: D hidden size.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from minineo.arrays import Array, at_least_float32


def layer_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """Normalise the last axis, then scale and shift it.

    x (..., D), weight (D,), bias (D,) -> (..., D). `epsilon` keeps a nearly constant row from being divided by zero.
    """
    xp = array_namespace(x, weight, bias)
    wide = at_least_float32(x)
    centred = wide - xp.mean(wide, axis=-1, keepdims=True)
    variance = xp.mean(centred * centred, axis=-1, keepdims=True)  # over D, not D - 1
    normalised = centred / xp.sqrt(variance + epsilon)
    return xp.astype(normalised * weight + bias, x.dtype, copy=False)
