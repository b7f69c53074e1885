"""Number formats of checkpoints: what safetensors calls them, what NumPy calls them, and exact widening.

The formats' names are those of the safetensors file format (Hugging Face, 2022). bfloat16 is float32 with the lower
16 bits cut off (Google Brain, 2018): 1 sign bit, 8 exponent bits, 7 fraction bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minineo.arrays import Array

BFLOAT16 = np.dtype([("bfloat16", "<u2")])
"""Raw bfloat16. NumPy has no such number, so these are its 16 bits under a name: no tensor of integers can be mistaken
for one, and arithmetic on them is refused instead of giving nonsense. `cast` turns them into numbers."""

NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16,
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
}

# Formats that a safetensors file may hold but NumPy cannot show: they are listed, not opened.
OTHER_BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
}

BITS = {name: 8 * dtype.itemsize for name, dtype in NUMPY_DTYPES.items()} | OTHER_BITS
"""How many bits one element takes, by safetensors' name of the format."""


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Say whether a dtype holds floating-point numbers, raw bfloat16 included."""
    return bool(dtype == BFLOAT16 or dtype.kind == "f")


def floating_dtype(dtype: Any = None) -> np.dtype[Any]:
    """Turn what a user passed as `dtype` into a NumPy dtype; None means float32.

    Raises:
        ValueError: for anything but float16, float32 and float64, in any spelling that NumPy knows.
    """
    if dtype is None:
        return np.dtype(np.float32)
    name = getattr(dtype, "name", dtype)
    if dtype == BFLOAT16 or (isinstance(name, str) and "bfloat16" in name):
        raise ValueError(
            "dtype bfloat16: NumPy cannot calculate in bfloat16; leave dtype out (bfloat16 checkpoints are widened to "
            "float32, exactly), or take float16, float32 or float64"
        )
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except (TypeError, ValueError):
        found = np.dtype(np.void)
    if found not in (np.float16, np.float32, np.float64):
        raise ValueError(f"dtype {dtype!r}: expected float16, float32 or float64 (None means float32)")
    return found


def cast(array: Array, dtype: Any = None) -> Array:
    """Give a checkpoint's tensor in the dtype to calculate in, the same array where nothing has to change.

    16-bit numbers widen exactly. float32 asked for as float32 stays the memory-mapped view that it is: no page is
    touched. Tensors that are not floating-point are returned as they are.

    Args:
        array: any shape, any dtype that `open_safetensors` gives.
        dtype: None (float32), float16, float32 or float64, as a name or a NumPy dtype.

    Returns:
        An array of the same shape.
    """
    target = floating_dtype(dtype)
    if array.dtype == BFLOAT16:
        array = widen_bfloat16(array)
    return array.astype(target, copy=False) if is_floating(array.dtype) else array


def widen_bfloat16(array: Array) -> Array:
    """Widen raw bfloat16 to float32 of the same shape: the 16 bits are the upper half, the lower half is zero."""
    bits = array["bfloat16"].astype(np.uint32)
    bits <<= 16
    return bits.view(np.float32)
