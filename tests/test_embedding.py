"""The embedding: rows of a table by ids of any shape and integer type."""

from __future__ import annotations

import numpy as np
import pytest

from minineo.layers.embedding import embedding


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
