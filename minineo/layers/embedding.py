"""Embedding: each token id and each position selects a row of a learned table.

GPT-Neo's positions are learned and absolute (GPT-2, Radford et al. 2019), so there are no more of them than the table
has rows.

Dimensions: N rows of the table, D hidden size.
"""

from __future__ import annotations

from minineo.arrays import Array, take_rows


def embedding(ids: Array, weight: Array) -> Array:
    """Look rows up: ids (...) of integers in 0 ... N - 1, weight (N, D) -> (..., D)."""
    return take_rows(weight, ids)
