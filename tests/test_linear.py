"""The linear layer against sums written out, with weights stored as (out, in)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minineo.layers.linear import linear


def loops(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    rows = x.reshape(-1, x.shape[-1]).tolist()
    sums = [
        [math.fsum(a * w for a, w in zip(row, out, strict=True)) + (0.0 if bias is None else float(bias[o]))]
        for row in rows
        for o, out in enumerate(weight.tolist())
    ]
    return np.array(sums).reshape(*x.shape[:-1], weight.shape[0])


@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (1, 2, 2)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_sums_written_out(leading: tuple[int, ...], with_bias: bool) -> None:
    random = np.random.default_rng(0)
    x, weight = random.standard_normal((*leading, 5)), random.standard_normal((7, 5))
    bias = random.standard_normal(7) if with_bias else None
    y = linear(x, weight, bias)
    assert y.shape == (*leading, 7)
    np.testing.assert_allclose(y, loops(x, weight, bias), rtol=1e-12, atol=1e-13)


def test_a_square_weight_is_out_by_in() -> None:
    weight = np.array([[1.0, 2.0], [0.0, 0.0]])  # the first output sees both inputs, the second none
    np.testing.assert_array_equal(linear(np.array([[1.0, 10.0]]), weight), [[21.0, 0.0]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_keeps_the_dtype_and_its_arguments(dtype: type) -> None:
    random = np.random.default_rng(1)
    x, weight, bias = (random.standard_normal(shape).astype(dtype) for shape in [(2, 3), (4, 3), (4,)])
    before = [array.copy() for array in (x, weight, bias)]
    assert linear(x, weight, bias).dtype == dtype
    for array, copy in zip((x, weight, bias), before, strict=True):
        np.testing.assert_array_equal(array, copy)
