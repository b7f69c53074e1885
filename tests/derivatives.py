"""Derivatives by differences, which any gradient has to agree with, and mistakes to plant in the code of a gradient."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

LARGEST_ERROR = 1e-7


def slope(along: Callable[[float], float], step: float = 1e-4) -> float:
    """Derivative of a function of one number at 0, by central differences of fourth order."""
    near = along(step) - along(-step)
    far = along(2 * step) - along(-2 * step)
    return (8 * near - far) / (12 * step)


def directional_error(
    function: Callable[..., float], arrays: Sequence[np.ndarray], i: int, gradient: np.ndarray, random: Any
) -> float:
    """How far the gradient by the i-th array is from the slope of `function` along a random direction.

    As a part of the size that a sum of so many terms has when their signs are random: the slope itself can be near
    zero by chance.
    """
    direction = random.standard_normal(arrays[i].shape)

    def along(step: float) -> float:
        return float(function(*arrays[:i], arrays[i] + step * direction, *arrays[i + 1 :]))

    terms = gradient * direction
    return abs(slope(along) - float(np.sum(terms))) / max(float(np.linalg.norm(terms)), 1e-3)


def check_gradients(
    forward: Callable[..., Any], backward: Callable[..., tuple[Any, ...]], arrays: Sequence[np.ndarray], random: Any
) -> None:
    """Hold each gradient that `backward(dy, *arrays)` returns against `forward(*arrays)`, for a random dy."""
    y = forward(*arrays)
    dy = random.standard_normal(np.shape(y))
    gradients = backward(dy, *arrays)
    assert len(gradients) == len(arrays)
    for i, gradient in enumerate(gradients):
        assert gradient.shape == arrays[i].shape
        assert gradient.dtype == arrays[i].dtype
        error = directional_error(lambda *moved: np.sum(dy * forward(*moved)), arrays, i, gradient, random)
        assert error < LARGEST_ERROR, f"gradient {i}: error {error:.1e}"


def with_mistake(function: Callable[..., Any], right: str, wrong: str) -> Callable[..., Any]:
    """The function with a piece of its code replaced; the piece has to occur exactly once."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(right) == 1, f"{function.__name__} has {source.count(right)} times {right!r}"
    planted: dict[str, Any] = {}
    code = "from __future__ import annotations\n" + source.replace(right, wrong)
    exec(compile(code, function.__name__, "exec"), function.__globals__.copy(), planted)
    return planted[function.__name__]
