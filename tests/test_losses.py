"""Losses against sums written out with the math module."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minineo.layers.losses import binary_cross_entropy, cross_entropy, mean_squared_error


def loops_cross_entropy(logits: list[list[float]], labels: list[int], ignore_index: int) -> float:
    losses = []
    for row, label in zip(logits, labels, strict=True):
        if label != ignore_index:
            shift = max(row)
            losses.append(shift + math.log(math.fsum(math.exp(value - shift) for value in row)) - row[label])
    return math.fsum(losses) / len(losses)


@pytest.mark.parametrize("shape", [(5,), (2, 4), (1, 1)])
@pytest.mark.parametrize("ignore_index", [-100, 2])
@pytest.mark.parametrize("integer", [np.int64, np.int32])
def test_cross_entropy(shape: tuple[int, ...], ignore_index: int, integer: type) -> None:
    random = np.random.default_rng(0)
    logits = 3.0 * random.standard_normal((*shape, 6))
    labels = random.integers(6, size=shape).astype(integer)
    labels.flat[0] = 1
    if labels.size > 1:
        labels.flat[1] = ignore_index
    expected = loops_cross_entropy(logits.reshape(-1, 6).tolist(), labels.ravel().tolist(), ignore_index)
    loss = cross_entropy(logits, labels, ignore_index)
    assert loss.shape == ()
    assert math.isclose(float(loss), expected, rel_tol=1e-13)


def test_ignored_labels_count_neither_above_nor_below_the_line() -> None:
    logits = np.random.default_rng(1).standard_normal((4, 3))
    kept = cross_entropy(logits[[0, 3]], np.array([2, 1]))
    assert float(cross_entropy(logits, np.array([2, -100, -100, 1]))) == pytest.approx(float(kept), rel=1e-15)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nothing_to_average_is_nan_without_a_warning(dtype: type) -> None:
    assert math.isnan(cross_entropy(np.zeros((3, 4), dtype), np.full(3, -100)))
    assert math.isnan(cross_entropy(np.zeros((2, 0, 4), dtype), np.zeros((2, 0), np.int64)))


def test_an_impossible_label_costs_its_logits_and_not_infinity() -> None:
    logits = np.array([[0.0, 1e4]], np.float32)
    assert float(cross_entropy(logits, np.array([0]))) == 1e4


@pytest.mark.parametrize(
    ("dtype", "loss_dtype"), [(np.float16, "float32"), (np.float32, "float32"), (np.float64, "float64")]
)
def test_losses_are_never_narrower_than_float32(dtype: type, loss_dtype: str) -> None:
    logits = np.array([[1.0, 2.0], [3.0, 4.0]], dtype)
    assert cross_entropy(logits, np.array([0, 1])).dtype == loss_dtype
    assert cross_entropy(logits, np.array([-100, -100])).dtype == loss_dtype
    assert mean_squared_error(logits, np.zeros((2, 2))).dtype == loss_dtype
    assert binary_cross_entropy(logits, np.zeros((2, 2))).dtype == loss_dtype


def test_a_float16_sum_does_not_overflow() -> None:
    logits = np.full((4, 2), 200.0, np.float16)
    assert float(mean_squared_error(logits, np.zeros((4, 2), np.float16))) == 40000.0
    assert float(mean_squared_error(2 * logits, np.zeros((4, 2), np.float16))) == 160000.0


@pytest.mark.parametrize("labels_dtype", [np.int64, np.float32, np.float64])
def test_mean_squared_error(labels_dtype: type) -> None:
    random = np.random.default_rng(2)
    predictions, labels = random.standard_normal((3, 2)), random.integers(5, size=(3, 2)).astype(labels_dtype)
    pairs = zip(predictions.ravel().tolist(), labels.ravel().tolist(), strict=True)
    expected = math.fsum((p - y) ** 2 for p, y in pairs) / 6
    assert math.isclose(float(mean_squared_error(predictions, labels)), expected, rel_tol=1e-14)


@pytest.mark.parametrize("labels", [[0.0, 1.0, 1.0, 0.25], [1, 0, 1, 0], [True, True, False, False]])
def test_binary_cross_entropy(labels: list[float]) -> None:
    logits = [0.3, -2.0, 5.0, -0.7]
    sigmoids = [1.0 / (1.0 + math.exp(-x)) for x in logits]
    losses = [-y * math.log(p) - (1 - y) * math.log(1 - p) for p, y in zip(sigmoids, labels, strict=True)]
    assert math.isclose(
        float(binary_cross_entropy(np.array(logits), np.array(labels))), math.fsum(losses) / 4, rel_tol=1e-13
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_binary_logits_cost_what_they_are(dtype: type) -> None:
    for logit, label, expected in [(1e4, 0.0, 1e4), (1e4, 1.0, 0.0), (-1e4, 1.0, 1e4), (-1e4, 0.0, 0.0)]:
        assert float(binary_cross_entropy(np.array([logit], dtype), np.array([label], dtype))) == expected
