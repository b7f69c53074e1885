"""The header of a safetensors file: which tensors it holds, and proof that the file is whole (Hugging Face, 2022).

A file is 8 bytes with the length of the header (little-endian), the header (JSON in UTF-8), and the tensors' bytes::

    {"__metadata__": {"format": "pt"}, "wte.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}

Offsets count from the end of the header. The tensors fill the rest of the file without hole, overlap or remainder, so
a cut, swapped or doctored file is noticed before a single number is read. Nothing here allocates by a size that the
file claims: every claim is first held against the size that the file has.

What the safetensors library accepts is accepted here, except a tensor name that occurs twice (the library silently
takes the last), tensors that NumPy could not hold (more than 64 dimensions, 2**63 bytes), and two spellings that no
writer uses (a tensor as the list `["F32", [2, 3], [0, 24]]`, a dtype as `{"F32": null}`).
"""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from minineo.checkpoints.dtypes import BITS
from minineo.checkpoints.errors import CheckpointError, quote, some_of
from minineo.json_file import parse_json

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000  # the safetensors library's own limit
MAX_DIMENSIONS = 64  # NumPy's


class TensorInfo(NamedTuple):
    """What a header says of one tensor."""

    name: str
    dtype: str
    """As safetensors spells it: F32, F16, BF16, ..."""
    shape: tuple[int, ...]
    nbytes: int
    file: Path


class Header(NamedTuple):
    """The tensors of one file in the order of their bytes, which follow each other without a gap."""

    tensors: list[TensorInfo]
    data_start: int
    """Where the first tensor begins, in bytes from the beginning of the file."""


def read_header(file: BinaryIO, path: Path) -> Header:
    """Read and check the header of a file that stands at its beginning.

    Raises:
        CheckpointError: when the file is anything but a whole safetensors file.
    """
    size = os.fstat(file.fileno()).st_size
    length = _header_length(file.read(LENGTH_BYTES), size, path)
    entries = _parse_json(file.read(length), size, path)
    _check_metadata(entries.pop("__metadata__", None), path)

    data_start = LENGTH_BYTES + length
    placed = [(_offsets(entry, name, path), _tensor_info(entry, name, path)) for name, entry in entries.items()]
    placed.sort(key=lambda pair: pair[0])
    _check_layout(placed, size - data_start, path)
    return Header([info for _, info in placed], data_start)


def _header_length(prefix: bytes, size: int, path: Path) -> int:
    if len(prefix) < LENGTH_BYTES:
        raise CheckpointError(
            f"{path}: {size} bytes, too short for a safetensors file, which begins with the 8-byte length of its header"
        )
    if prefix == b"version ":
        raise CheckpointError(f"{path}: a Git LFS pointer, not the weights themselves; fetch them with `git lfs pull`")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{path}: the first 8 bytes claim a header of {length} bytes, expected at most {MAX_HEADER_BYTES}: "
            "not a safetensors file"
        )
    if length > size - LENGTH_BYTES:
        raise CheckpointError(
            f"{path}: {size - LENGTH_BYTES} bytes follow the length of the header, expected at least {length}: "
            "the file is cut short"
        )
    return length


def _parse_json(header: bytes, size: int, path: Path) -> dict[str, Any]:
    try:
        parsed = parse_json(
            header,
            file_size=size,
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
            parse_int=_parse_int,
        )
    except ValueError as error:
        raise CheckpointError(f"{path}: the header is not valid JSON in UTF-8: {error}") from error
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{path}: the header is {quote(parsed)}, expected a JSON object of tensors")
    return parsed


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the name {quote(twice)} occurs twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _parse_int(digits: str) -> int | float:
    """Read an integer that can be a size; any other stays a float and is refused where a size is expected.

    Python would take -0 for 0, and quadratic time for a number of a million digits.
    """
    return int(digits) if digits.isdigit() and len(digits) <= 20 else float(digits)


def _check_metadata(metadata: object, path: Path) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: __metadata__ is {quote(metadata)}, expected an object of strings")


def _is_size(value: object) -> bool:
    return type(value) is int and value < 2**63  # `type`, since True is an int too; _parse_int lets no negative through


def _offsets(entry: object, name: str, path: Path) -> tuple[int, int]:
    if not isinstance(entry, dict):
        raise CheckpointError(f"{path}: tensor {quote(name)} is {quote(entry)}, expected a JSON object")
    found = entry.get("data_offsets")
    if not (isinstance(found, list) and len(found) == 2 and all(map(_is_size, found)) and found[0] <= found[1]):
        raise CheckpointError(
            f"{path}: tensor {quote(name)}: data_offsets {quote(found)}, expected [begin, end] with 0 <= begin <= end"
        )
    return found[0], found[1]


def _tensor_info(entry: dict[str, Any], name: str, path: Path) -> TensorInfo:
    dtype, shape = entry.get("dtype"), entry.get("shape")
    if not isinstance(dtype, str) or dtype not in BITS:
        raise CheckpointError(
            f"{path}: tensor {quote(name)}: dtype {quote(dtype)}, expected one of {some_of(BITS, len(BITS))}"
        )
    if not (isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS and all(map(_is_size, shape))):
        raise CheckpointError(
            f"{path}: tensor {quote(name)}: shape {quote(shape)}, "
            f"expected a list of at most {MAX_DIMENSIONS} integers from 0 to 2**63 - 1"
        )
    # NumPy multiplies the dimensions that are not zero to judge whether an array is too big, so an empty tensor may be.
    if math.prod(n for n in shape if n) * BITS[dtype] >= 8 * 2**63:
        raise CheckpointError(
            f"{path}: tensor {quote(name)}: {dtype} of shape {quote(shape)}, expected less than 2**63 bytes"
        )
    begin, end = entry["data_offsets"]
    bits = math.prod(shape) * BITS[dtype]
    if bits != 8 * (end - begin):
        raise CheckpointError(
            f"{path}: tensor {quote(name)}: data_offsets {[begin, end]} hold {end - begin} bytes, "
            f"expected {bits / 8:.16g} for {dtype} of shape {shape}"
        )
    return TensorInfo(name, dtype, tuple(shape), end - begin, path)


def _check_layout(placed: list[tuple[tuple[int, int], TensorInfo]], available: int, path: Path) -> None:
    """Check that the tensors, sorted by place, fill what follows the header exactly."""
    position = 0
    for (begin, end), info in placed:
        if begin != position:
            what = "overlaps the tensor before it" if begin < position else "leaves a hole before it"
            raise CheckpointError(
                f"{path}: tensor {quote(info.name)}: begins at byte {begin} and {what}, expected {position}"
            )
        position = end
    if position > available:
        (_, end), info = next(pair for pair in placed if pair[0][1] > available)
        raise CheckpointError(
            f"{path}: tensor {quote(info.name)}: ends at byte {end}, but only {available} bytes follow the header: "
            "the file is cut short"
        )
    if position < available:
        raise CheckpointError(
            f"{path}: {available} bytes follow the header, expected {position}, where the last tensor ends"
        )
