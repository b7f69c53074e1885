"""What this package means by an array: NumPy's, CuPy's, JAX's, or any other that follows the array API standard."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

# Functions take their array namespace from their arguments, `xp = array_namespace(x)`, never from a global switch.
Array = Any


def at_least_float32(x: Array) -> Array:
    """Widen 16-bit floats to float32; wider ones come back as they are.

    Sums, exponentials and differences of nearly equal numbers need more digits than 16-bit floats have.
    """
    xp = array_namespace(x)
    return xp.astype(x, xp.result_type(x, xp.float32), copy=False)


def scalar(value: float, like: Array) -> Array:
    """A number as a 0-d array of the dtype and on the device of `like`.

    For `where`, in which some libraries take a Python float for a float64 that widens everything after it.
    """
    return array_namespace(like).asarray(value, dtype=like.dtype, device=like.device)


def take_rows(table: Array, indices: Array) -> Array:
    """Rows of a table (N, D) by an integer array of any shape: (..., D). Indices are not checked."""
    xp = array_namespace(table, indices)
    rows = xp.take(table, xp.reshape(indices, (-1,)), axis=0)
    return xp.reshape(rows, (*indices.shape, *table.shape[1:]))
