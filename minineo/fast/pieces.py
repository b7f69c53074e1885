"""Element-wise work in pieces that stay in a core's cache.

NumPy's element-wise functions, one array after the other, run at the speed of the memory. Several of them in a row on a
piece that fits into the cache run at the speed of the core.
"""

from __future__ import annotations

from collections.abc import Sequence

PIECE = 1 << 15  # elements: 128 KiB of float32, with its scratch well within a core's second-level cache


def pieces(rows: int, width: int) -> Sequence[slice]:
    """Part `rows` rows of `width` elements into slices of about PIECE elements."""
    step = max(1, PIECE // width)
    if rows <= step:
        return (slice(None),)
    return [slice(start, start + step) for start in range(0, rows, step)]
