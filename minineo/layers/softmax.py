"""Softmax: numbers of any size become positive ones that sum to one, in the proportions of their exponentials."""

from __future__ import annotations

from array_api_compat import array_namespace

from minineo.arrays import Array


def softmax(x: Array) -> Array:
    """Normalise the exponentials of the last axis: x (..., N) -> (..., N).

    An entry of -inf becomes exactly 0; each row needs one entry that is finite.
    """
    xp = array_namespace(x)
    # a shift of the whole row changes nothing, and without it exp overflows
    exponentials = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return exponentials / xp.sum(exponentials, axis=-1, keepdims=True)


def softmax_backward(dy: Array, y: Array) -> Array:
    """Gradient of `softmax`, from its result: dy, y (..., N) -> dx (..., N)."""
    xp = array_namespace(dy, y)
    # dy[i]/dx[j] = y[i] (i == j) - y[i] y[j]: raising one entry takes from all others in proportion, so what counts is
    # by how much dy differs from its mean, weighted by y. Subtracted twice, since the first mean is rounded: where one
    # y is nearly 1, its dy is nearly the mean, and that rounding would be most of what is left of their difference.
    for _ in range(2):
        dy = dy - xp.sum(dy * y, axis=-1, keepdims=True)
    return y * dy


def log_softmax(x: Array) -> Array:
    """Logarithm of the softmax of the last axis, without the rounding of computing one and then the other."""
    xp = array_namespace(x)
    shifted = x - xp.max(x, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


def log_softmax_backward(dy: Array, y: Array) -> Array:
    """Gradient of `log_softmax`, from its result: dy, y (..., N) -> dx (..., N)."""
    xp = array_namespace(dy, y)
    # dy[i]/dx[j] = (i == j) - softmax(x)[j], and exp(y) is the softmax
    return dy - xp.exp(y) * xp.sum(dy, axis=-1, keepdims=True)
