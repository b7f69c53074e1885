"""Weights in one safetensors file: opened as a memory map, written whole or not at all (Hugging Face, 2022)."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from minineo.arrays import Array
from minineo.checkpoints.dtypes import NUMPY_DTYPES
from minineo.checkpoints.errors import CheckpointError, quote, some_of
from minineo.checkpoints.header import Header, read_header
from minineo.devices import to_device

PYTORCH_FORMAT = {"format": "pt"}
"""The metadata without which transformers does not read a file."""


def open_safetensors(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Open a safetensors file without reading its tensors.

    Each array is a view into the file: the operating system fetches a page when it is first used. The map is private
    (copy on write), so an array may be changed in place and the file never is.

    Returns:
        Arrays by name, in the order of the file, with the dtype and shape they were stored with; bfloat16 as its raw
        bits (dtype `BFLOAT16`, see `cast`).

    Raises:
        CheckpointError: when the file is damaged, or holds a dtype that NumPy does not have.
    """
    path = regular_file(path)
    with path.open("rb") as file:
        header = read_header(file, path)
        for info in header.tensors:
            if info.dtype not in NUMPY_DTYPES:
                raise CheckpointError(
                    f"{path}: tensor {quote(info.name)}: NumPy has no dtype {info.dtype}; convert the checkpoint to "
                    f"one of {some_of(NUMPY_DTYPES, len(NUMPY_DTYPES))}"
                )
        mapped = np.memmap(file, dtype=np.uint8, mode="c")

    arrays = {}
    offset = header.data_start
    for info in header.tensors:
        # A plain array: slices of a memmap are memmaps, a subclass that makes every operation slower. The offset need
        # not be a multiple of the item's size, since a writer need not align its tensors.
        arrays[info.name] = np.ndarray(info.shape, NUMPY_DTYPES[info.dtype], buffer=mapped, offset=offset)
        offset += info.nbytes
    return arrays


def describe_safetensors(path: str | os.PathLike[str]) -> Header:
    """Read only the header of a file, which may be larger than memory and hold any dtype."""
    path = regular_file(path)
    with path.open("rb") as file:
        return read_header(file, path)


def regular_file(path: str | os.PathLike[str]) -> Path:
    """The path of a file, after a look at whether it is one."""
    path = Path(path)
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
        raise CheckpointError(f"{path}: not a file, expected one that holds weights")
    return path


def mapped_file(array: Array) -> str | None:
    """Tell which file a memory-mapped array is a view of, or None for any other array."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return None if array is None else str(array.filename)


def save_safetensors(
    params: Mapping[str, Array], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays to a safetensors file.

    The file appears under its name only when it is complete and on the disk; until then the old one stays. The arrays
    may be views of that old file: they stay valid.

    Args:
        params: arrays by name.
        path: the file; its folder exists.
        metadata: strings for the header; None means `{"format": "pt"}`, which transformers wants.

    Raises:
        TypeError: when an array's dtype is not one that safetensors and NumPy share.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        write_safetensors(params, temporary, metadata)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Name a file in the same folder, hence on the same disk, so that renaming it to `path` is one indivisible step."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def write_safetensors(params: Mapping[str, Array], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays straight to `path` and wait until they are on the disk."""
    arrays = {name: _writable(array, name) for name, array in params.items()}
    path.touch()
    permissions = path.stat().st_mode
    save_file(arrays, path, metadata=dict(PYTORCH_FORMAT if metadata is None else metadata))
    path.chmod(permissions)  # the library's own files can be read by their owner only
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _writable(array: Array, name: str) -> Array:
    """Bring an array into main memory, contiguous: the library writes the bytes as they lie."""
    array = np.asarray(to_device(array, "cpu"), order="C")
    # No complex numbers: older versions of the library do not write them.
    savable = [dtype for dtype in NUMPY_DTYPES.values() if dtype.kind in "biuf"]
    if array.dtype.newbyteorder("<") not in savable:
        expected = some_of((dtype.name for dtype in savable), len(savable))
        raise TypeError(f"tensor {quote(name)}: cannot save dtype {array.dtype}, expected one of {expected}")
    return array
