"""Layer normalisation against exact sums, on ordinary and on nearly constant rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minineo.layers.layer_norm import layer_norm


def loops(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float) -> np.ndarray:
    rows = []
    for row in x.reshape(-1, x.shape[-1]).tolist():
        mean = math.fsum(row) / len(row)
        variance = math.fsum((value - mean) ** 2 for value in row) / len(row)
        scale = 1.0 / math.sqrt(variance + epsilon)
        rows.append([(v - mean) * scale * w + b for v, w, b in zip(row, weight.tolist(), bias.tolist(), strict=True)])
    return np.array(rows).reshape(x.shape)


def draw(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.standard_normal(shape), random.standard_normal(shape[-1]), random.standard_normal(shape[-1])


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 5), (2, 1)])
@pytest.mark.parametrize("epsilon", [1e-5, 1e-12, 0.1])
def test_equals_sums_written_out(shape: tuple[int, ...], epsilon: float) -> None:
    x, weight, bias = draw(shape)
    np.testing.assert_allclose(
        layer_norm(x, weight, bias, epsilon), loops(x, weight, bias, epsilon), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("spread", [1e-2, 1e-3, 1e-4, 1e-6])
def test_nearly_constant_rows_show_epsilon(spread: float) -> None:
    # where the variance is no larger than epsilon, a port with another epsilon gives very different numbers
    x, weight, bias = draw((4, 16))
    x = spread * x
    ours = layer_norm(x, weight, bias, 1e-5)
    np.testing.assert_allclose(ours, loops(x, weight, bias, 1e-5), rtol=1e-11, atol=1e-12)
    assert np.max(np.abs(ours - loops(x, weight, bias, 1e-6))) > 1e-4 * spread


def test_float32_rows_far_from_zero() -> None:
    # mean(x * x) - mean(x)**2 would lose every digit here
    x = (1000.0 + draw((3, 8))[0]).astype(np.float32)
    ones, zeros = np.ones(8, np.float32), np.zeros(8, np.float32)
    expected = loops(x.astype(np.float64), ones, zeros, 1e-5)
    np.testing.assert_allclose(layer_norm(x, ones, zeros, 1e-5), expected, atol=2e-4)


def test_a_constant_row_gives_the_bias() -> None:
    _, weight, bias = draw((6,))
    np.testing.assert_array_equal(layer_norm(np.full((2, 6), 3.0), weight, bias, 1e-5), np.stack([bias, bias]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_keeps_the_dtype(dtype: type) -> None:
    x, weight, bias = (array.astype(dtype) for array in draw((3, 8)))
    assert layer_norm(x, weight, bias, 1e-5).dtype == dtype


def test_float16_statistics_are_computed_in_float32() -> None:
    # in float16 the squares of these would be infinite, and their sum too
    x = np.array([[-600.0, 600.0, -300.0, 300.0]], np.float16)
    ones, zeros = np.ones(4, np.float16), np.zeros(4, np.float16)
    expected = loops(x.astype(np.float64), ones, zeros, 1e-5)
    np.testing.assert_allclose(layer_norm(x, ones, zeros, 1e-5), expected, rtol=1e-3)
