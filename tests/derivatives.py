"""Derivatives by differences, which any gradient has to agree with, and mistakes to plant in the code of a gradient."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from minineo.model import heads_backward

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


def check_loss_gradients(model: Any, inputs: dict[str, Any], random: Any) -> None:
    """Hold a float64 model's gradients by all its parameters against differences of its loss."""
    loss, grads = model.loss_and_grads(**inputs)
    if np.isnan(loss) or model.config.activation_function == "relu":  # a difference across a corner is no slope
        return
    for name, gradient in grads.items():

        def loss_at(weight: np.ndarray, name: str = name) -> float:
            return type(model)(model.config, model.params | {name: weight})(**inputs).loss

        error = directional_error(loss_at, [model.params[name]], 0, gradient, random)
        assert error < LARGEST_ERROR, f"{name} of {type(model).__name__}: error {error:.1e}"


def plant(patch: pytest.MonkeyPatch, module: Any, function: str, right: str, wrong: str) -> None:
    """Put a mistake into a function of the model's backward, for every module that calls it."""
    original = getattr(module, function)
    planted = with_mistake(original, right, wrong)
    for name, caller in list(sys.modules.items()):
        if name.startswith("minineo.") and vars(caller).get(function) is original:
            patch.setattr(caller, function, planted)
    for forward, head_backward in heads_backward.HEADS_BACKWARD.items():
        if head_backward is original:
            patch.setitem(heads_backward.HEADS_BACKWARD, forward, planted)


def with_mistake(function: Callable[..., Any], right: str, wrong: str) -> Callable[..., Any]:
    """The function with a piece of its code replaced; the piece has to occur exactly once."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(right) == 1, f"{function.__name__} has {source.count(right)} times {right!r}"
    planted: dict[str, Any] = {}
    code = "from __future__ import annotations\n" + source.replace(right, wrong)
    exec(compile(code, function.__name__, "exec"), function.__globals__.copy(), planted)
    return planted[function.__name__]
