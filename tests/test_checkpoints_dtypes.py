"""Number formats of checkpoints: exact widening, and dtypes that users ask for."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minineo.checkpoints import BFLOAT16, cast, floating_dtype, open_safetensors, save_safetensors


def test_every_bfloat16_widens_exactly() -> None:
    bits = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    wide = cast(bits.view(BFLOAT16))
    assert wide.dtype == np.float32
    assert wide.shape == (256, 256)
    expected = b"".join(b"\0\0" + struct.pack("<H", i) for i in range(2**16))  # the upper half of a float32
    assert wide.astype("<f4").tobytes() == expected


def test_every_float16_widens_exactly() -> None:
    narrow = np.arange(2**16, dtype=np.uint16).view(np.float16)
    wide = cast(narrow)
    assert wide.dtype == np.float32
    expected = np.array([struct.unpack("<e", struct.pack("<H", i))[0] for i in range(2**16)])  # Python's own float16
    np.testing.assert_array_equal(wide, expected)


def test_float32_stays_a_view_of_the_file(tmp_path: Path) -> None:
    save_safetensors({"w": np.ones(3, np.float32)}, tmp_path / "x")
    array = open_safetensors(tmp_path / "x")["w"]
    assert cast(array) is array
    assert cast(array, "float32") is array


@pytest.mark.parametrize("dtype", ["float16", np.float32, np.dtype("float64"), "f2", "<f4", float])
@pytest.mark.parametrize("stored", [BFLOAT16, np.float16, np.float32, np.float64])
def test_other_dtypes_on_request(dtype: Any, stored: Any) -> None:
    array = (
        np.array([[0x3F80, 0xC000]], np.uint16).view(BFLOAT16) if stored is BFLOAT16 else np.array([[1, -2]], stored)
    )
    result = cast(array, dtype)
    assert result.dtype == np.dtype(dtype)
    assert result.tolist() == [[1, -2]]


def test_scalars_and_integers() -> None:
    assert cast(np.array(0x3F80, np.uint16).view(BFLOAT16)).shape == ()
    integers = np.arange(3)
    assert cast(integers, "float16") is integers


def test_none_means_float32() -> None:
    assert floating_dtype() == np.float32
    assert cast(np.ones(2, np.float64)).dtype == np.float32


@pytest.mark.parametrize("dtype", ["bfloat16", "torch.bfloat16", BFLOAT16])
def test_numpy_has_no_bfloat16(dtype: Any) -> None:
    with pytest.raises(ValueError, match="NumPy cannot calculate in bfloat16; leave dtype out"):
        floating_dtype(dtype)


@pytest.mark.parametrize("dtype", ["int8", "float31", "auto", np.complex64, bool, 5, object(), ">f4", "f4,"])
def test_not_a_floating_dtype(dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"expected float16, float32 or float64 \(None means float32\)"):
        floating_dtype(dtype)
