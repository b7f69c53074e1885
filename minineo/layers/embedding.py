"""Embedding: each token id and each position selects a row of a learned table.

GPT-Neo's positions are learned and absolute (GPT-2, Radford et al. 2019), so there are no more of them than the table
has rows.

Dimensions: N rows of the table, D hidden size.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from minineo.arrays import Array, device_of, take_rows, widest_float, widest_integer


def embedding(ids: Array, weight: Array) -> Array:
    """Look rows up: ids (...) of integers in 0 ... N - 1, weight (N, D) -> (..., D)."""
    return take_rows(weight, ids)


def embedding_backward(dy: Array, ids: Array, weight: Array) -> Array:
    """Add each position's gradient to the row that it looked up: dy (..., D), ids (...) -> dweight (N, D).

    Ids are whole numbers and have no gradient.
    """
    xp = array_namespace(dy, ids, weight)
    N, D = weight.shape
    # The array API has no "add to these rows". Sorted, the uses of a row stand side by side, and their sum is the
    # difference of two running sums; in float64, for a difference of large float32 sums has few digits left. (A
    # product with one-hot rows would do as well, at the cost of N * D for each token.)
    flat = xp.astype(xp.reshape(ids, (-1,)), widest_integer(ids))
    order = xp.argsort(flat)
    by_row = xp.take(xp.reshape(dy, (-1, D)), order, axis=0)
    sums = xp.cumulative_sum(by_row, axis=0, dtype=widest_float(dy), include_initial=True)
    rows = xp.arange(N, dtype=flat.dtype, device=device_of(dy))
    in_order = xp.take(flat, order)
    first, last = (xp.searchsorted(in_order, rows, side=side) for side in ("left", "right"))
    return xp.astype(xp.take(sums, last, axis=0) - xp.take(sums, first, axis=0), weight.dtype)
