"""The MLP against loops over positions and units, and its place in float16."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minineo.layers.activations import activation
from minineo.layers.mlp import mlp
from minineo.tap import Recorder


def draw(D: int, M: int, dtype: type = np.float64) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal(shape).astype(dtype) for shape in [(2, 3, D), (M, D), (M,), (D, M), (D,)]]


@pytest.mark.parametrize("M", [20, 15, 5, 1])  # 4 * D, 3 * D, square, narrower
def test_equals_loops(M: int) -> None:
    x, fc_weight, fc_bias, proj_weight, proj_bias = draw(5, M)
    out = mlp(x, fc_weight, fc_bias, proj_weight, proj_bias, np.tanh)
    for index in np.ndindex(2, 3):
        units = [math.tanh(math.fsum(fc_weight[m, d] * x[index][d] for d in range(5)) + fc_bias[m]) for m in range(M)]
        expected = [math.fsum(proj_weight[d, m] * units[m] for m in range(M)) + proj_bias[d] for d in range(5)]
        np.testing.assert_allclose(out[index], expected, rtol=1e-12, atol=1e-13)


def test_shows_its_intermediates() -> None:
    trace = Recorder()
    out = mlp(*draw(5, 7), activation("gelu_new"), trace)
    assert list(trace) == ["pre", "act", "out"]
    assert [value.shape for value in trace.values()] == [(2, 3, 7), (2, 3, 7), (2, 3, 5)]
    np.testing.assert_array_equal(trace["act"], activation("gelu_new")(trace["pre"]))
    assert trace["out"] is out


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_keeps_the_dtype_throughout(dtype: type) -> None:
    trace = Recorder()
    mlp(*draw(5, 7, dtype), activation("gelu_new"), trace)
    assert [value.dtype for value in trace.values()] == [dtype] * 3


@pytest.mark.parametrize("name", ["gelu_new", "gelu", "gelu_fast", "silu"])
def test_a_float16_unit_of_some_size_does_not_overflow(name: str) -> None:
    ones, zeros = np.ones((1, 1), np.float16), np.zeros(1, np.float16)
    for value in (50.0, 300.0, 20000.0):  # the cubes are beyond float16
        x = np.array([[value], [-value]], np.float16)
        np.testing.assert_array_equal(mlp(x, ones, zeros, ones, zeros, activation(name)), [[value], [0.0]])
