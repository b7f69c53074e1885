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


def device_of(x: Array) -> Any:
    """Where an array is, to make another there: `xp.arange(3, device=device_of(x))`.

    None inside of `jax.jit` and its relatives: what stands for an array there has no device, and needs none.
    """
    return getattr(x, "device", None)


def widest_float(like: Array) -> Any:
    """The dtype for sums that need many digits: float64, or float32 where the library or the device of `like` lacks it.

    JAX has 64-bit numbers only where `jax_enable_x64` is set.
    """
    xp = array_namespace(like)
    floats = xp.__array_namespace_info__().dtypes(device=device_of(like), kind="real floating")
    return floats.get("float64", xp.float32)


def widest_integer(like: Array) -> Any:
    """The dtype for positions and token ids: int64, or int32 where the library or the device of `like` lacks it."""
    xp = array_namespace(like)
    integers = xp.__array_namespace_info__().dtypes(device=device_of(like), kind="signed integer")
    return integers.get("int64", xp.int32)


def converted(array: Array, dtype: str) -> Array:
    """An array in another dtype, by its name; the same array where it has it already.

    Raises:
        ValueError: the array's library has no such dtype.
    """
    xp = array_namespace(array)
    if not hasattr(xp, dtype):
        raise ValueError(f"dtype: received {dtype!r}, which the arrays' library, {xp.__name__}, does not have.")
    return xp.astype(array, getattr(xp, dtype), copy=False)


def beside(array: Array, like: Array) -> Array:
    """An array of NumPy's, or a list, in the library and on the device of `like`."""
    return array_namespace(like).asarray(array, device=device_of(like))


def scalar(value: float, like: Array) -> Array:
    """A number as a 0-d array of the dtype and on the device of `like`.

    For `where`, in which some libraries take a Python float for a float64 that widens everything after it.
    """
    return array_namespace(like).asarray(value, dtype=like.dtype, device=device_of(like))


def take_rows(table: Array, indices: Array) -> Array:
    """Rows of a table (N, D) by an integer array of any shape: (..., D). Indices are not checked."""
    xp = array_namespace(table, indices)
    rows = xp.take(table, xp.reshape(indices, (-1,)), axis=0)
    return xp.reshape(rows, (*indices.shape, *table.shape[1:]))
