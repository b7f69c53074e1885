"""Layer normalisation, fast: a few rows at a time, so that every pass but the first finds them in the cache."""

from __future__ import annotations

import math

import numpy as np

from minineo.arrays import Array
from minineo.fast.pieces import pieces
from minineo.layers import layer_norm as reference


def layer_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """As `minineo.layers.layer_norm.layer_norm`.

    The reference goes over the whole array eight times and makes a new one each time. Here each piece of rows is
    centred into the result and scaled there, and `vecdot` sums the squares without storing them.
    """
    if x.dtype.itemsize < 4:
        return reference.layer_norm(x, weight, bias, epsilon)
    D = x.shape[-1]
    rows = x.reshape(-1, D)
    out = np.empty_like(rows)
    for piece in pieces(len(rows), D):
        layer_norm_rows(rows[piece], weight, bias, epsilon, out[piece])
    return out.reshape(x.shape)


def layer_norm_rows(x: Array, weight: Array, bias: Array, epsilon: float, y: Array) -> None:
    """Layer norm of rows x (N, D) that fit the cache into y (N, D)."""
    N, D = x.shape
    if N == 1:  # mean and variance are two numbers
        np.subtract(x, float(np.add.reduce(x[0])) / D, out=y)
        variance = float(y[0] @ y[0]) / D + epsilon
        if 0.0 < variance < math.inf:
            y *= 1.0 / math.sqrt(variance)
            y *= weight
            y += bias
            return
    np.subtract(x, np.add.reduce(x, axis=1, keepdims=True) / D, out=y)
    scale = np.vecdot(y, y)
    scale /= D
    scale += epsilon
    np.sqrt(scale, out=scale)
    y /= scale[:, None]
    y *= weight
    y += bias


def layer_norm_to_keep(
    x: Array, weight: Array, bias: Array, epsilon: float, y: Array, normalised: Array, deviation: Array
) -> None:
    """Layer norm of x (N, D) into y; the normalised rows and their deviations (N, 1) are kept for backward."""
    for piece in pieces(*x.shape):
        part, kept, scale = x[piece], normalised[piece], deviation[piece]
        np.subtract(part, np.add.reduce(part, axis=1, keepdims=True) / x.shape[1], out=kept)
        np.vecdot(kept, kept, out=scale[:, 0])
        scale /= x.shape[1]
        scale += epsilon
        np.sqrt(scale, out=scale)
        kept /= scale
        np.multiply(kept, weight, out=y[piece])
        y[piece] += bias


def layer_norm_backward(
    dy: Array, normalised: Array, deviation: Array, weight: Array, dx: Array
) -> tuple[Array, Array]:
    """As `minineo.layers.layer_norm.layer_norm_backward`, from what was kept; *adds* to dx. Returns dweight and dbias.

    The two means over a row are products of a matrix with a vector, and no array is larger than a piece.
    """
    D = len(weight)
    dweight, dbias = np.zeros_like(weight), np.zeros_like(weight)
    for piece in pieces(*dy.shape):
        part, kept = dy[piece], normalised[piece]
        product = part * kept
        along_one, along_row = part @ weight, product @ weight
        dweight += np.add.reduce(product, axis=0)
        dbias += np.add.reduce(part, axis=0)
        along_one /= D
        along_row /= D
        np.multiply(kept, along_row[:, None], out=product)
        product += along_one[:, None]
        np.subtract(part * weight, product, out=product)
        product /= deviation[piece]
        dx[piece] += product
    return dweight, dbias
