"""Activations against their closed forms, computed number by number with the math module."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from minineo.layers.activations import ACTIVATIONS, activation, erf, gelu, gelu_new, relu

GRID = np.concatenate([np.linspace(-9.0, 9.0, 4001), np.geomspace(1e-30, 1.0, 200), [0.0]])


def closed_gelu(x: float) -> float:
    return 0.5 * x * math.erfc(-x / math.sqrt(2.0))


def closed_gelu_tanh(x: float) -> float:
    return 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def closed_gelu_fast(x: float) -> float:
    return 0.5 * x * (1.0 + math.tanh(0.7978845608 * x * (1.0 + 0.044715 * x**2)))


def closed_silu(x: float) -> float:
    return x / (1.0 + math.exp(-x))


CLOSED_FORMS: dict[str, Callable[[float], float]] = {
    "gelu_new": closed_gelu_tanh,
    "gelu_pytorch_tanh": closed_gelu_tanh,
    "gelu_fast": closed_gelu_fast,
    "gelu": closed_gelu,
    "relu": lambda x: max(x, 0.0),
    "silu": closed_silu,
    "swish": closed_silu,
    "tanh": math.tanh,
}


def test_every_activation_has_a_closed_form_here() -> None:
    assert set(CLOSED_FORMS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", CLOSED_FORMS)
@pytest.mark.parametrize(("dtype", "epsilon"), [(np.float64, 1e-15), (np.float32, 5e-7)])
def test_equals_its_closed_form(name: str, dtype: type, epsilon: float) -> None:
    x = GRID.astype(dtype)
    y = activation(name)(x)
    assert y.dtype == dtype
    expected = np.array([CLOSED_FORMS[name](value) for value in x.tolist()])
    # the tail of a gelu is a difference of nearly equal numbers, so the error is measured against |x|
    assert np.all(np.abs(y - expected) <= epsilon * np.abs(x))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-15), (np.float32, 1e-6)])
def test_erf_equals_that_of_the_math_module(dtype: type, tolerance: float) -> None:
    x = np.concatenate([GRID, -GRID, np.linspace(1.9, 2.1, 2001)]).astype(dtype)
    expected = np.array([math.erf(value) for value in x.tolist()])
    assert erf(x).dtype == dtype
    assert np.all(np.abs(erf(x) - expected) <= tolerance * np.abs(expected))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_erf_reaches_one_and_stays_there(dtype: type) -> None:
    x = np.array([7.0, 100.0, 60000.0, math.inf], dtype)
    np.testing.assert_array_equal(erf(x), np.ones(4))
    np.testing.assert_array_equal(erf(-x), -np.ones(4))
    assert np.isnan(erf(np.array([math.nan], dtype))).all()


@pytest.mark.parametrize("name", [name for name in CLOSED_FORMS if name != "tanh"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_numbers_pass_or_vanish(name: str, dtype: type) -> None:
    x = np.array([20.0, 1e3, 1e10], dtype)
    np.testing.assert_allclose(activation(name)(x), x, rtol=1e-6)
    np.testing.assert_allclose(activation(name)(-x), np.zeros(3), atol=1e-7)


def test_the_exact_gelu_is_not_the_tanh_form() -> None:
    x = np.linspace(-4.0, 4.0, 801)
    assert 4e-4 < np.max(np.abs(gelu(x) - gelu_new(x))) < 6e-4


def test_relu_lets_nan_through() -> None:
    np.testing.assert_array_equal(relu(np.array([-1.0, math.nan, 2.0])), [0.0, math.nan, 2.0])


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"activation_function: received 'gleu', expected one of gelu_new, "):
        activation("gleu")
