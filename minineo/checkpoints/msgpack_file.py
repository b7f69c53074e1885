"""Weights in one file of Flax's format, `flax_model.msgpack`: opened as a memory map, written as Flax writes it.

A file is one msgpack map of maps, nested as the model is, with arrays at the ends. An array is an `ext` of type 1 that
holds msgpack again: `[shape, dtype, bytes]`, where dtype is a name such as `float32`. Type 3 is the same for a single
number. msgpack counts bytes in 32 bits, so Flax cuts larger arrays into flat pieces::

    {"__msgpack_chunked_array__": true, "shape": {"0": 3, "1": 4}, "chunks": {"0": array, "1": array}}

Where an array stands is said here as Flax says it in the index of a sharded checkpoint: `transformer/wte/embedding`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from minineo.arrays import Array
from minineo.checkpoints import msgpack_format as msgpack
from minineo.checkpoints.dtypes import BFLOAT16, NUMPY_DTYPES
from minineo.checkpoints.errors import CheckpointError, quote, some_of
from minineo.checkpoints.header import MAX_DIMENSIONS, TensorInfo
from minineo.checkpoints.msgpack_format import Reader
from minineo.checkpoints.safetensors_file import regular_file
from minineo.devices import to_device

ARRAY, NUMBER = 1, 3  # Flax's ext types; 2 is a complex number of Python's, which no model holds
CHUNKED = "__msgpack_chunked_array__"
MAX_CHUNK_BYTES = 2**30  # Flax cuts what is larger

# Far beyond any model: they keep small what is held in memory for a file that claims much in few bytes.
MAX_DEPTH = 16
MAX_NAME_BYTES = 200

# Flax takes NumPy's names of dtypes.
DTYPES = {"bfloat16" if dtype == BFLOAT16 else dtype.name: name for name, dtype in NUMPY_DTYPES.items()}


class Tensor(NamedTuple):
    """Where an array lies in the file."""

    dtype: str
    """As safetensors spells it: F32, F16, BF16, ..."""
    shape: tuple[int, ...]
    pieces: list[tuple[int, int]]
    """Offset and number of bytes of each of its parts, in order; more than one if Flax has cut it."""


def open_msgpack(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Open a Flax checkpoint's file without reading its arrays.

    Each array is a view into the file, private (copy on write) as those of `open_safetensors` are, but for one that
    Flax has cut into pieces, which is put together in memory.

    Returns:
        Arrays by their place in the file, such as `transformer/wte/embedding`, in its order, with the dtype and shape
        that they were stored with; bfloat16 as its raw bits (dtype `BFLOAT16`, see `cast`).

    Raises:
        CheckpointError: when the file is anything but nested maps of whole arrays.
    """
    path = regular_file(path)
    mapped = _map(path)
    return {name: _array(tensor, mapped) for name, tensor in _read(mapped, path).items()}


def describe_msgpack(path: str | os.PathLike[str]) -> list[TensorInfo]:
    """List the arrays of a file, reading nothing but where they begin."""
    path = regular_file(path)
    return [
        TensorInfo(name, tensor.dtype, tensor.shape, sum(size for _, size in tensor.pieces), path)
        for name, tensor in _read(_map(path), path).items()
    ]


def _map(path: Path) -> np.memmap[Any, Any]:
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path}: the file is empty, expected a Flax checkpoint in msgpack")
    return np.memmap(path, dtype=np.uint8, mode="c")


def _array(tensor: Tensor, mapped: np.memmap[Any, Any]) -> Array:
    dtype = NUMPY_DTYPES[tensor.dtype]
    if len(tensor.pieces) == 1:
        return np.ndarray(tensor.shape, dtype, buffer=mapped, offset=tensor.pieces[0][0])
    joined = np.concatenate([mapped[begin : begin + size] for begin, size in tensor.pieces])
    return np.ndarray(tensor.shape, dtype, buffer=joined)


def _read(mapped: np.memmap[Any, Any], path: Path) -> dict[str, Tensor]:
    """Find every array of a file, and make sure that the file holds nothing else."""
    data = mapped.data
    if bytes(data[:8]) == b"version ":
        raise CheckpointError(f"{path}: a Git LFS pointer, not the weights themselves; fetch them with `git lfs pull`")
    reader = Reader(data, path)
    found: dict[str, Tensor] = {}
    entries = reader.expect("map", "the checkpoint").size
    _read_map(reader, entries, "", 1, found)
    if reader.position < reader.end:
        reader.fail(f"{reader.end - reader.position} bytes follow the checkpoint, expected none")
    return found


def _read_map(reader: Reader, entries: int, prefix: str, depth: int, found: dict[str, Tensor]) -> None:
    """Read the entries of a map that stands at `prefix`, and of the maps in it, into `found`."""
    if depth > MAX_DEPTH:
        reader.fail(f"maps are nested deeper than {MAX_DEPTH}")
    if entries == 0:
        reader.fail("an empty map, expected arrays")
    seen: set[str] = set()
    for _ in range(entries):
        begin = reader.position
        key = reader.text("a key", MAX_NAME_BYTES)
        name = prefix + key
        if key in seen or name in found:
            reader.fail(f"{quote(name)} occurs twice", begin)
        if len(name) > MAX_NAME_BYTES:
            reader.fail(f"the name {quote(name)} is longer than {MAX_NAME_BYTES}", begin)
        seen.add(key)
        at = reader.position
        value = reader.value()
        if value.kind == "ext":
            found[name] = _read_array(reader, value, name, at)
        elif value.kind != "map":
            reader.fail(f"{quote(name)} is a {value.kind}, expected an array or a map of arrays", at)
        elif _is_chunked(reader, value.size):
            found[name] = _read_chunked(reader, value.size, name)
        else:
            _read_map(reader, value.size, f"{name}/", depth + 1, found)


def _read_array(reader: Reader, value: msgpack.Value, name: str, at: int) -> Tensor:
    """Read an array's shape and dtype, and step over its bytes."""
    if value.code not in (ARRAY, NUMBER):
        reader.fail(f"{quote(name)} is an ext of type {value.code}, expected {ARRAY} (an array)", at)
    stop = reader.position + value.size
    if reader.expect("array", f"the inside of {quote(name)}").size != 3:
        reader.fail(f"{quote(name)} is not [shape, dtype, bytes]", at)
    dimensions = reader.expect("array", f"the shape of {quote(name)}").size
    if dimensions > MAX_DIMENSIONS:
        reader.fail(f"{quote(name)} has {dimensions} dimensions, expected at most {MAX_DIMENSIONS}", at)
    shape = tuple(reader.expect("int", f"a dimension of {quote(name)}").size for _ in range(dimensions))
    dtype = reader.text(f"the dtype of {quote(name)}", MAX_NAME_BYTES)
    if dtype not in DTYPES:
        reader.fail(f"{quote(name)}: dtype {quote(dtype)}, expected one of {some_of(DTYPES, len(DTYPES))}", at)
    size = reader.expect("bin", f"the content of {quote(name)}").size
    tensor = Tensor(DTYPES[dtype], shape, [(reader.position, size)])
    _check_size(reader, tensor, name, at)
    reader.take(size)
    if reader.position != stop:
        reader.fail(f"{quote(name)} ends at byte {reader.position}, expected {stop}", at)
    return tensor


def _check_size(reader: Reader, tensor: Tensor, name: str, at: int) -> None:
    itemsize = NUMPY_DTYPES[tensor.dtype].itemsize
    # NumPy multiplies the dimensions that are not zero to judge whether an array is too big, so an empty one may be
    if math.prod(n for n in tensor.shape if n) * itemsize >= 2**63:
        reader.fail(f"{quote(name)}: {tensor.dtype} of shape {quote(tensor.shape)}, expected less than 2**63 bytes", at)
    held, expected = sum(size for _, size in tensor.pieces), math.prod(tensor.shape) * itemsize
    if held != expected:
        reader.fail(
            f"{quote(name)} has {held} bytes, expected {expected} for {tensor.dtype} of shape {tensor.shape}", at
        )


def _is_chunked(reader: Reader, entries: int) -> bool:
    """Whether a map whose entries come next is an array that Flax has cut: it then begins with a mark."""
    mark = msgpack.text(CHUNKED)
    return entries > 0 and bytes(reader.data[reader.position : reader.position + len(mark)]) == mark


def _read_chunked(reader: Reader, entries: int, name: str) -> Tensor:
    """Read an array that Flax has cut into flat pieces."""
    at = reader.position
    if entries != 3:
        reader.fail(f"{quote(name)} is a cut array with {entries} entries, expected 3", at)
    _expect_key(reader, CHUNKED, name)
    reader.expect("bool", f"the mark of {quote(name)}")
    _expect_key(reader, "shape", name)
    dimensions = reader.expect("map", f"the shape of {quote(name)}").size
    if dimensions > MAX_DIMENSIONS:
        reader.fail(f"{quote(name)} has {dimensions} dimensions, expected at most {MAX_DIMENSIONS}", at)
    shape = []
    for i in range(dimensions):
        _expect_key(reader, str(i), name)
        shape.append(reader.expect("int", f"a dimension of {quote(name)}").size)
    _expect_key(reader, "chunks", name)
    chunks = []
    for i in range(reader.expect("map", f"the pieces of {quote(name)}").size):
        _expect_key(reader, str(i), name)
        begin = reader.position
        chunks.append(_read_array(reader, reader.expect("ext", f"a piece of {quote(name)}"), name, begin))
    if len({chunk.dtype for chunk in chunks}) != 1:
        reader.fail(f"{quote(name)} is cut into {len(chunks)} pieces, expected some of one dtype", at)
    tensor = Tensor(chunks[0].dtype, tuple(shape), [piece for chunk in chunks for piece in chunk.pieces])
    _check_size(reader, tensor, name, at)
    return tensor


def _expect_key(reader: Reader, key: str, name: str) -> None:
    begin = reader.position
    found = reader.text("a key", MAX_NAME_BYTES)
    if found != key:
        reader.fail(f"{quote(name)}, a cut array, has {quote(found)}, expected {key!r}", begin)


def write_msgpack(tree: Mapping[str, Any], path: Path) -> None:
    """Write nested dictionaries of arrays to a file, as Flax and old `transformers` read it, until it is on the disk.

    Byte for byte what Flax writes, arrays of more than 2**30 bytes in pieces.

    Raises:
        TypeError: when an array's dtype is not one that the format and NumPy share.
    """
    with path.open("wb") as file:
        _write(file, tree, "")
        file.flush()
        os.fsync(file.fileno())


def _write(file: BinaryIO, tree: Mapping[str, Any], prefix: str) -> None:
    file.write(msgpack.map_head(len(tree)))
    for key, value in tree.items():
        file.write(msgpack.text(key))
        name = prefix + key
        if isinstance(value, Mapping):
            _write(file, value, f"{name}/")
            continue
        array, dtype = _writable(value, name)
        if array.nbytes > MAX_CHUNK_BYTES:
            _write_chunked(file, array, dtype)
        else:
            _write_array(file, array, dtype)


def _write_array(file: BinaryIO, array: np.ndarray, dtype: str) -> None:
    shape = b"".join(map(msgpack.whole_number, array.shape))
    content = msgpack.array_head(array.ndim) + shape + msgpack.text(dtype) + msgpack.binary_head(array.nbytes)
    content = msgpack.array_head(3) + content
    file.write(msgpack.extension_head(ARRAY, len(content) + array.nbytes) + content)
    file.write(array.reshape(-1).view(np.uint8).data if array.size else b"")


def _write_chunked(file: BinaryIO, array: np.ndarray, dtype: str) -> None:
    file.write(msgpack.map_head(3) + msgpack.text(CHUNKED) + msgpack.TRUE)
    file.write(msgpack.text("shape") + msgpack.map_head(array.ndim))
    file.writelines(msgpack.text(str(i)) + msgpack.whole_number(n) for i, n in enumerate(array.shape))
    pieces = list(_pieces(array.reshape(-1)))
    file.write(msgpack.text("chunks") + msgpack.map_head(len(pieces)))
    for i, piece in enumerate(pieces):
        file.write(msgpack.text(str(i)))
        _write_array(file, piece, dtype)


def _pieces(flat: np.ndarray) -> Iterator[np.ndarray]:
    length = max(1, MAX_CHUNK_BYTES // flat.itemsize)
    return (flat[i : i + length] for i in range(0, flat.size, length))


def _writable(value: Any, name: str) -> tuple[np.ndarray, str]:
    """An array in main memory, contiguous and little-endian, and Flax's name of its dtype."""
    array = np.asarray(to_device(value, "cpu"), order="C")
    dtype = "bfloat16" if array.dtype == BFLOAT16 else array.dtype.name
    if dtype not in DTYPES:
        expected = some_of(DTYPES, len(DTYPES))
        raise TypeError(f"tensor {quote(name)}: cannot save dtype {array.dtype}, expected one of {expected}")
    return array.astype(array.dtype.newbyteorder("<"), copy=False), dtype
