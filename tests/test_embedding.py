"""The embedding: rows of a table by ids of any shape and integer type."""

from __future__ import annotations

import numpy as np
import pytest

from minineo.layers.embedding import embedding, embedding_backward


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 4)])
@pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8])
def test_selects_rows(shape: tuple[int, ...], integer: type) -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((6, 5)).astype(np.float32)
    ids = random.integers(6, size=shape).astype(integer)
    rows = embedding(ids, weight)
    assert rows.shape == (*shape, 5)
    assert rows.dtype == np.float32
    for index in np.ndindex(shape):
        np.testing.assert_array_equal(rows[index], weight[int(ids[index])])


def test_the_result_is_a_copy() -> None:
    weight = np.zeros((2, 3), np.float32)
    embedding(np.array([0]), weight)[:] = 1.0
    assert not weight.any()


def test_small_gradients_beside_large_ones_keep_their_digits() -> None:
    """Backward parts one running sum into rows: in float32 the difference of large sums would have few digits left."""
    ids = np.repeat(np.array([0, 1]), 2000)
    dy = np.where(ids[:, None] == 0, np.float32(1234.567), np.float32(1.1e-3))
    expected = np.stack([dy[ids == row].sum(0, dtype=np.float64) for row in (0, 1)])
    np.testing.assert_allclose(embedding_backward(dy, ids, np.zeros((2, 1), np.float32)), expected, rtol=1e-6)
