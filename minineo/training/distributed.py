"""Several processes that train one model together: each computes its rows of every batch (data parallelism).

This is the process that runs alone, the first of one.
"""

from __future__ import annotations

from minineo.arrays import Array


class Alone:
    """The only process of a run."""

    rank = 0
    size = 1

    def add_up(self, flat: Array) -> Array:
        """The sum of the processes' arrays."""
        return flat


def share(rows: int, part: int, parts: int) -> range:
    """The rows that a part has: as many as any other, or one more or less."""
    return range(rows * part // parts, rows * (part + 1) // parts)
