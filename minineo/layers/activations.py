"""Activation functions of the MLP, element by element.

GPT-Neo was trained with `gelu_new`, the tanh form of the Gaussian error linear unit (Hendrycks & Gimpel 2016,
https://arxiv.org/abs/1606.08415). The exact form, `gelu`, differs from it by up to 5e-4: enough for a model to drift,
not enough to be noticed at first.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from array_api_compat import array_namespace

from minineo.arrays import Array


def gelu_new(x: Array) -> Array:
    """Scale x by tanh's approximation of the chance that a standard normal variable lies below x."""
    xp = array_namespace(x)
    # x * x * x, not x**3: NumPy raises float32 to a power far more slowly than it multiplies
    return 0.5 * x * (1.0 + xp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))))


def gelu_fast(x: Array) -> Array:
    """`gelu_new` with its constant cut to ten digits, as some configurations ask for."""
    xp = array_namespace(x)
    return 0.5 * x * (1.0 + xp.tanh(0.7978845608 * x * (1.0 + 0.044715 * (x * x))))


def gelu(x: Array) -> Array:
    """Scale x by the chance that a standard normal variable lies below x."""
    return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))


def relu(x: Array) -> Array:
    """Keep what is positive."""
    xp = array_namespace(x)
    return xp.where(x > 0.0, x, xp.zeros_like(x))


def silu(x: Array) -> Array:
    """Scale x by its logistic sigmoid; also called swish."""
    xp = array_namespace(x)
    return x * 0.5 * (1.0 + xp.tanh(0.5 * x))  # this form of the sigmoid has no exponential to overflow


def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return array_namespace(x).tanh(x)


def erf(x: Array) -> Array:
    """Error function, which the array API standard lacks, by a series of positive terms (Abramowitz & Stegun 7.1.6).

    erf(x) = 2/sqrt(pi) * exp(-x^2) * (x + 2 x^3 / 3 + 4 x^5 / (3*5) + ...): nothing cancels, so every digit holds.
    Beyond |x| = 6 the result is 1 in float64; there the series, which needs ever more terms, is not needed.
    """
    xp = array_namespace(x)
    clipped = xp.clip(x, -6.0, 6.0)
    square = clipped * clipped
    term = total = clipped
    for n in range(1, 150):
        term = term * (2.0 * square / (2 * n + 1))
        total = total + term
    return 2.0 / math.sqrt(math.pi) * xp.exp(-square) * total


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu_new": gelu_new,
    "gelu_pytorch_tanh": gelu_new,
    "gelu_fast": gelu_fast,
    "gelu": gelu,
    "relu": relu,
    "silu": silu,
    "swish": silu,
    "tanh": tanh,
}


def activation(name: str) -> Callable[[Array], Array]:
    """The activation that a configuration's `activation_function` names."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation_function: received {name!r}, expected one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]
