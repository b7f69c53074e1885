"""Activations, fast: the tanh form of gelu in place, a few rows at a time; the others as in the reference."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minineo.arrays import Array
from minineo.fast.pieces import pieces
from minineo.layers import activations as reference


def gelu_new(x: Array) -> Array:
    """As `minineo.layers.activations.gelu_new`.

    The formula is regrouped to need no memory but the result's, a piece at a time:
    0.5 x (1 + tanh(x (c + c 0.044715 x^2))) with c = sqrt(2 / pi), the halves multiplied out.
    """
    if not isinstance(x, np.ndarray) or x.ndim == 0 or x.dtype.itemsize < 4:
        return reference.gelu_new(x)
    out = np.empty(x.shape, x.dtype)
    rows, out_rows = x.reshape(-1, x.shape[-1]), out.reshape(-1, x.shape[-1])
    scale = math.sqrt(2.0 / math.pi)
    for piece in pieces(*rows.shape):
        part, y = rows[piece], out_rows[piece]
        np.multiply(part, part, out=y)
        y *= 0.044715 * scale
        y += scale
        y *= part
        np.tanh(y, out=y)
        y *= part
        y += part
        y *= 0.5
    return out


def gelu_new_and_slope(x: Array, act: Array, slope: Array) -> None:
    """Write gelu_new(x) into act, and its derivative into slope, both (N, M) as x is.

    With the tanh at hand, the derivative costs a few products; computed later it would cost the tanh again.
    """
    scale = math.sqrt(2.0 / math.pi)
    for piece in pieces(*x.shape):
        part, y, dy = x[piece], act[piece], slope[piece]
        square = part * part
        np.multiply(square, 0.044715 * scale, out=y)
        y += scale
        y *= part
        np.tanh(y, out=y)
        # 1/2 (1 + t) + 1/2 x (1 - t^2) du, where u is what tanh was taken of
        square *= 3.0 * 0.044715 * scale
        square += scale
        np.multiply(y, y, out=dy)
        np.subtract(1.0, dy, out=dy)
        dy *= square
        dy *= part
        y += 1.0
        dy += y
        dy *= 0.5
        y *= part
        y *= 0.5


FAST: dict[str, Callable[[Array], Array]] = {"gelu_new": gelu_new, "gelu_pytorch_tanh": gelu_new}


def activation(name: str) -> Callable[[Array], Array]:
    """As `minineo.layers.activations.activation`."""
    return FAST.get(name) or reference.activation(name)


def activation_and_slope(name: str, x: Array, act: Array, slope: Array) -> None:
    """Write the activation of x (N, M) into act, and its derivative at x into slope."""
    if name in FAST:
        gelu_new_and_slope(x, act, slope)
    else:
        act[...] = reference.activation(name)(x)
        slope[...] = reference.ACTIVATIONS_BACKWARD[name](np.ones_like(x), x)
