"""The weights in a checkpoint directory: one file, or shards with an index, as Hugging Face transformers lays them out.

`model.safetensors` holds everything. A larger checkpoint is cut into `model-00001-of-00003.safetensors` and so on, and
`model.safetensors.index.json` says in its `weight_map` which tensor lies in which shard. Older checkpoints have
`pytorch_model.bin`, and those of Flax `flax_model.msgpack`, cut and indexed in the same way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from minineo.arrays import Array
from minineo.checkpoints.errors import CheckpointError, quote, some_of
from minineo.checkpoints.flax_file import (
    describe_flax,
    describe_safetensors_of_both,
    open_flax,
    open_safetensors_of_both,
)
from minineo.checkpoints.flax_names import checkpoint_name
from minineo.checkpoints.header import TensorInfo
from minineo.checkpoints.torch_file import describe_torch, open_torch
from minineo.json_file import parse_json, read_bytes
from minineo.location import inside

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
LONGEST_FILE_NAME = 255  # bytes, on every system in use


class Format(NamedTuple):
    """One format of weights: what its files are called, and what reads one of them."""

    weights_name: str
    index_name: str
    suffixes: tuple[str, ...]
    open: Callable[[Path], dict[str, Array]]
    describe: Callable[[Path], list[TensorInfo]]


FORMATS = (
    Format(
        WEIGHTS_NAME,
        INDEX_NAME,
        (".safetensors",),
        open_safetensors_of_both,
        describe_safetensors_of_both,
    ),
    Format(
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        (".bin", ".pt", ".pth"),
        open_torch,
        describe_torch,
    ),
    Format(
        "flax_model.msgpack",
        "flax_model.msgpack.index.json",
        (".msgpack",),
        open_flax,
        describe_flax,
    ),
)
"""In the order of preference where a directory has several, which is that of transformers."""

FLAX_FORMATS = tuple(format_ for format_ in FORMATS if format_.open is open_flax)

OTHER_FORMATS = {
    "tf_model.h5": "AutoModelForCausalLM.from_pretrained(OLD, from_tf=True).save_pretrained(NEW) (version 4)",
}
"""Files that are not read, and the line that converts each with transformers."""


class WeightFiles(NamedTuple):
    """The files that hold a checkpoint's weights."""

    format: Format
    files: list[Path]
    index_file: Path | None
    """None for a checkpoint of one file."""
    weight_map: dict[str, str]
    """Which tensor lies in which file, as the index says."""

    def holds(self, file: Path, tensor: str) -> bool:
        """Whether a tensor that is in a file is meant to be taken from there."""
        return self.weight_map.get(tensor, file.name) == file.name


def read_state_dict(path: str | os.PathLike[str], formats: Sequence[Format] = FORMATS) -> dict[str, Array]:
    """Open every tensor of a checkpoint directory, or of one file of any format, under the name it has there.

    In a directory only `formats` are looked for. Flax's tensors have other formats' names and shapes.

    Returns:
        Arrays by name, memory-mapped (see `open_safetensors`).

    Raises:
        FileNotFoundError: when there is no such file or directory.
        CheckpointError: when it holds no weights, or they are damaged or incomplete.
    """
    found = weight_files(path, formats)
    state: dict[str, Array] = {}
    for file in found.files:
        state |= {name: array for name, array in found.format.open(file).items() if found.holds(file, name)}
    _check_complete(found, set(state))
    return state


def describe(path: str | os.PathLike[str]) -> list[TensorInfo]:
    """List the tensors of a checkpoint directory or of one file of any format, reading nothing but headers.

    Returns:
        Tuples (name, dtype as safetensors spells it, shape, nbytes, file).

    Raises:
        FileNotFoundError: when there is no such file or directory.
        CheckpointError: as `read_state_dict` does, except that every dtype of the format will do.
    """
    found = weight_files(path)
    listed = [info for file in found.files for info in found.format.describe(file) if found.holds(file, info.name)]
    _check_complete(found, {info.name for info in listed})
    return listed


def weight_files(path: str | os.PathLike[str], formats: Sequence[Format] = FORMATS) -> WeightFiles:
    """Find the files that hold a checkpoint's weights, and make sure that they are there.

    Raises:
        FileNotFoundError, CheckpointError: as `read_state_dict`.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        return WeightFiles(_format_of(path), [path], None, {})
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such directory, expected one with {WEIGHTS_NAME}")
    for format_ in formats:
        if _file_in(path, format_.weights_name).is_file():
            return WeightFiles(format_, [path / format_.weights_name], None, {})
        if _file_in(path, format_.index_name).is_file():
            return _shards(format_, path / format_.index_name)
    raise CheckpointError(_nothing_found(path, formats))


def _file_in(folder: Path, name: str) -> Path:
    """The path of a file in a folder, which must not be a link to another place."""
    try:
        return inside(folder, name)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _format_of(file: Path) -> Format:
    """The format of one file, by its name; any other name is taken for safetensors, whose reader says what is wrong."""
    return next((format_ for format_ in FORMATS if file.suffix in format_.suffixes), FORMATS[0])


def _nothing_found(directory: Path, formats: Sequence[Format]) -> str:
    present = sorted(entry.name for entry in directory.iterdir())
    for name, recipe in OTHER_FORMATS.items():
        if name in present:
            return (
                f"{directory / name}: this format is not read, expected {WEIGHTS_NAME}; convert it with "
                f"transformers: {recipe}"
            )
    expected = ", ".join(format_.weights_name for format_ in formats)
    return f"{directory}: no weights, expected {expected} or the index of shards; found {some_of(present) or 'nothing'}"


def _shards(format_: Format, index: Path) -> WeightFiles:
    """The shards that an index names."""
    weight_map = read_index(index)
    tensor_in = {file: name for name, file in reversed(weight_map.items())}
    for file, name in tensor_in.items():
        if not _file_in(index.parent, file).is_file():
            raise CheckpointError(
                f"{index.parent / file}: this shard is missing; {index.name} expects tensor {quote(name)} in it"
            )
    if format_.open is open_flax:
        weight_map = {checkpoint_name(name): file for name, file in weight_map.items()}
    return WeightFiles(format_, [index.parent / file for file in sorted(tensor_in)], index, weight_map)


def read_index(path: Path) -> dict[str, str]:
    """Which tensor lies in which file, as the index of shards says.

    Raises:
        CheckpointError: it is not an index, or names anything but plain files beside it.
    """
    try:
        index = parse_json(read_bytes(path))
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON in UTF-8: {error}") from error
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: weight_map is {quote(weight_map)}, expected an object of tensor and file names")
    for name, file in weight_map.items():
        # The index may come from anywhere: it must not make us open files outside its own directory.
        if not isinstance(file, str) or not _is_plain_name(file):
            raise CheckpointError(
                f"{path}: tensor {quote(name)}: file {quote(file)}, expected the plain name of a file beside the index"
            )
    return weight_map


def _is_plain_name(file: str) -> bool:
    """Whether a name can be that of a file in the same folder, on any system, and can be printed."""
    printable = file.isprintable() and len(file.encode()) <= LONGEST_FILE_NAME
    return printable and file not in ("", ".", "..") and not any(c in file for c in "/\\:")


def _check_complete(found: WeightFiles, tensors: set[str]) -> None:
    if found.index_file is None:
        return
    for name, file in found.weight_map.items():
        if name not in tensors:
            raise CheckpointError(
                f"{found.index_file.parent / file}: tensor {quote(name)} is not in this shard, where "
                f"{found.index_file.name} expects it"
            )
