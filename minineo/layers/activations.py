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


def gelu_new_backward(dy: Array, x: Array) -> Array:
    """Gradient of `gelu_new`: dy, x (...) -> dx (...)."""
    return _gelu_tanh_backward(dy, x, math.sqrt(2.0 / math.pi))


def gelu_fast(x: Array) -> Array:
    """`gelu_new` with its constant cut to ten digits, as some configurations ask for."""
    xp = array_namespace(x)
    return 0.5 * x * (1.0 + xp.tanh(0.7978845608 * x * (1.0 + 0.044715 * (x * x))))


def gelu_fast_backward(dy: Array, x: Array) -> Array:
    """Gradient of `gelu_fast`: dy, x (...) -> dx (...)."""
    return _gelu_tanh_backward(dy, x, 0.7978845608)


def _gelu_tanh_backward(dy: Array, x: Array, scale: float) -> Array:
    """Gradient of 0.5 x (1 + tanh(u)), where u = scale (x + 0.044715 x^3)."""
    xp = array_namespace(dy, x)
    square = x * x
    t = xp.tanh(scale * x * (1.0 + 0.044715 * square))
    du = scale * (1.0 + 3.0 * 0.044715 * square)
    return dy * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * du)  # tanh' = 1 - tanh^2


def gelu(x: Array) -> Array:
    """Scale x by the chance that a standard normal variable lies below x."""
    return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))


def gelu_backward(dy: Array, x: Array) -> Array:
    """Gradient of `gelu`: dy, x (...) -> dx (...)."""
    xp = array_namespace(dy, x)
    # x Phi(x), where Phi is the normal distribution and its derivative the bell curve
    below = 0.5 * (1.0 + erf(x / math.sqrt(2.0)))
    bell = xp.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    return dy * (below + x * bell)


def relu(x: Array) -> Array:
    """Keep what is positive."""
    xp = array_namespace(x)
    return xp.maximum(x, xp.zeros_like(x))


def relu_backward(dy: Array, x: Array) -> Array:
    """Gradient of `relu`: dy, x (...) -> dx (...); 0 at 0, as in PyTorch."""
    xp = array_namespace(dy, x)
    return xp.where(x > 0.0, dy, xp.zeros_like(dy))


def silu(x: Array) -> Array:
    """Scale x by its logistic sigmoid; also called swish."""
    xp = array_namespace(x)
    return x * 0.5 * (1.0 + xp.tanh(0.5 * x))  # this form of the sigmoid has no exponential to overflow


def silu_backward(dy: Array, x: Array) -> Array:
    """Gradient of `silu`: dy, x (...) -> dx (...)."""
    xp = array_namespace(dy, x)
    sigmoid = 0.5 * (1.0 + xp.tanh(0.5 * x))
    return dy * sigmoid * (1.0 + x * (1.0 - sigmoid))  # sigmoid' = sigmoid (1 - sigmoid)


def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return array_namespace(x).tanh(x)


def tanh_backward(dy: Array, x: Array) -> Array:
    """Gradient of `tanh`: dy, x (...) -> dx (...)."""
    y = tanh(x)
    return dy * (1.0 - y * y)


def erf(x: Array) -> Array:
    """Error function, which the array API standard lacks, to the last digit or two.

    Near zero by the series erf(x) = 2/sqrt(pi) exp(-x^2) x (1 + 2x^2/3 (1 + 2x^2/5 (1 + ...))), in which nothing
    cancels. Farther out as 1 minus the small rest, by the continued fraction sqrt(pi) exp(x^2) (1 - erf(x)) =
    1/(x + 1/2/(x + 2/2/(x + 3/2/(x + ...)))), so that it reaches 1, and `gelu` 0, exactly (Abramowitz & Stegun 7.1.6
    and 7.1.14).
    """
    xp = array_namespace(x)
    near = xp.clip(x, -2.0, 2.0)
    series = xp.ones_like(x)
    for n in range(30, 0, -1):
        series = 1.0 + 2.0 * near * near / (2 * n + 1) * series
    inside = 2.0 / math.sqrt(math.pi) * xp.exp(-near * near) * near * series

    far = xp.clip(xp.abs(x), 2.0, 6.0)  # beyond 6 the rest is below the last digit of float64
    fraction = far
    for n in range(40, 0, -1):
        fraction = far + 0.5 * n / fraction
    outside = xp.sign(x) * (1.0 - xp.exp(-far * far) / (math.sqrt(math.pi) * fraction))
    return xp.where(xp.abs(x) < 2.0, inside, outside)


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

ACTIVATIONS_BACKWARD: dict[str, Callable[[Array, Array], Array]] = {
    "gelu_new": gelu_new_backward,
    "gelu_pytorch_tanh": gelu_new_backward,
    "gelu_fast": gelu_fast_backward,
    "gelu": gelu_backward,
    "relu": relu_backward,
    "silu": silu_backward,
    "swish": silu_backward,
    "tanh": tanh_backward,
}


def activation(name: str) -> Callable[[Array], Array]:
    """The activation that a configuration's `activation_function` names."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation_function: received {name!r}, expected one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]
