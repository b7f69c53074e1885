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


def layer_norm_backward(dy: Array, x: Array, weight: Array, epsilon: float) -> tuple[Array, Array, Array]:
    """Gradients of `layer_norm`: dy (..., D) -> dx (..., D), dweight (D,), dbias (D,)."""
    xp = array_namespace(dy, x, weight)
    wide = at_least_float32(x)
    centred = wide - xp.mean(wide, axis=-1, keepdims=True)
    deviation = xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + epsilon)
    normalised = centred / deviation
    dnormalised = dy * weight
    # An entry of x acts in three ways: by itself, through the mean and through the variance. A shift or a scaling of
    # the whole row changes nothing (but for epsilon), so the parts of the gradient along 1 and along the row go.
    along_one = xp.mean(dnormalised, axis=-1, keepdims=True)
    along_row = xp.mean(dnormalised * normalised, axis=-1, keepdims=True)
    dx = (dnormalised - along_one - normalised * along_row) / deviation
    D = x.shape[-1]
    dweight = xp.sum(xp.reshape(dy * normalised, (-1, D)), axis=0)
    dbias = xp.sum(xp.reshape(dy, (-1, D)), axis=0)
    return xp.astype(dx, x.dtype, copy=False), xp.astype(dweight, weight.dtype, copy=False), dbias
