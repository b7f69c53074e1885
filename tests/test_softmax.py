"""Softmax and its logarithm against the math module, and the properties that define them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minineo.layers.softmax import log_softmax, softmax

rows = st.lists(st.floats(-80.0, 80.0), min_size=1, max_size=12)


def loops(row: list[float]) -> list[float]:
    exponentials = [math.exp(value - max(row)) for value in row]
    return [value / math.fsum(exponentials) for value in exponentials]


@settings(deadline=None)
@given(rows)
def test_equals_exponentials_written_out(row: list[float]) -> None:
    np.testing.assert_allclose(softmax(np.array([row]))[0], loops(row), rtol=1e-13)
    logarithms = [value - max(row) - math.log(math.fsum(math.exp(v - max(row)) for v in row)) for value in row]
    np.testing.assert_allclose(log_softmax(np.array([row]))[0], logarithms, rtol=1e-13, atol=1e-14)


@settings(deadline=None)
@given(rows, st.floats(-1e4, 1e4))
def test_rows_sum_to_one_and_ignore_a_shift(row: list[float], shift: float) -> None:
    x = np.array(row)
    assert math.isclose(math.fsum(softmax(x)), 1.0, rel_tol=1e-14)
    np.testing.assert_allclose(softmax(x + shift), softmax(x), rtol=1e-10)
    np.testing.assert_allclose(log_softmax(x + shift), log_softmax(x), rtol=1e-10, atol=1e-10)


def test_each_row_of_the_last_axis_is_on_its_own() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5))
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(softmax(x)[index], softmax(x[index]))
        np.testing.assert_array_equal(log_softmax(x)[index], log_softmax(x[index]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_numbers_do_not_overflow(dtype: type) -> None:
    x = np.array([[1e30, 1e30, -1e30], [-1e30, -1e30, -1e30]], dtype)
    np.testing.assert_allclose(softmax(x), [[0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)
    assert softmax(x).dtype == log_softmax(x).dtype == dtype


def test_minus_infinity_becomes_exactly_zero() -> None:
    x = np.array([0.0, -math.inf, 0.0])
    np.testing.assert_array_equal(softmax(x), [0.5, 0.0, 0.5])
    assert log_softmax(x)[1] == -math.inf


def test_the_logarithm_holds_where_the_softmax_has_underflowed() -> None:
    x = np.array([0.0, -2000.0], np.float32)
    assert softmax(x)[1] == 0.0
    assert log_softmax(x)[1] == -2000.0
