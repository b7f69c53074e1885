"""The weights in a checkpoint directory: one file, or shards with an index, as Hugging Face transformers lays them out.

`model.safetensors` holds everything. A larger checkpoint is cut into `model-00001-of-00003.safetensors` and so on, and
`model.safetensors.index.json` says in its `weight_map` which tensor lies in which shard.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from minineo.arrays import Array
from minineo.checkpoints.errors import CheckpointError, quote, some_of
from minineo.checkpoints.header import TensorInfo
from minineo.checkpoints.safetensors_file import describe_safetensors, open_safetensors

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

# Files of other formats, and the one line that converts each with transformers.
OTHER_FORMATS = {
    "pytorch_model.bin": "AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)",
    "pytorch_model.bin.index.json": "AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)",
    "flax_model.msgpack": "AutoModelForCausalLM.from_pretrained(OLD, from_flax=True).save_pretrained(NEW) (version 4)",
    "tf_model.h5": "AutoModelForCausalLM.from_pretrained(OLD, from_tf=True).save_pretrained(NEW) (version 4)",
}


def read_state_dict(directory: str | os.PathLike[str]) -> dict[str, Array]:
    """Open every tensor of a checkpoint directory under the name it has there.

    Returns:
        Arrays by name, memory-mapped (see `open_safetensors`).

    Raises:
        FileNotFoundError: when there is no such directory.
        CheckpointError: when it holds no weights, or they are damaged or incomplete.
    """
    directory = Path(directory)
    weight_map = _weight_map(directory)
    state: dict[str, Array] = {}
    for file in weight_files(directory, weight_map):
        arrays = open_safetensors(file)
        state |= {name: array for name, array in arrays.items() if weight_map.get(name, file.name) == file.name}
    _check_complete(directory, weight_map, state)
    return state


def describe(path: str | os.PathLike[str]) -> list[TensorInfo]:
    """List the tensors of a safetensors file or of a checkpoint directory, reading nothing but headers.

    Returns:
        Tuples (name, dtype as safetensors spells it, shape, nbytes, file).

    Raises:
        FileNotFoundError: when there is no such file or directory.
        CheckpointError: as `read_state_dict` does, except that every dtype of the format will do.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        return describe_safetensors(path).tensors
    weight_map = _weight_map(path)
    listed = [
        info
        for file in weight_files(path, weight_map)
        for info in describe_safetensors(file).tensors
        if weight_map.get(info.name, file.name) == file.name
    ]
    _check_complete(path, weight_map, {info.name for info in listed})
    return listed


def weight_files(directory: Path, weight_map: dict[str, str]) -> list[Path]:
    """Name the files that hold the weights, and make sure that they are there."""
    if not weight_map:
        return [directory / WEIGHTS_NAME]
    tensor_in = {file: name for name, file in reversed(weight_map.items())}
    for file, name in tensor_in.items():
        if not (directory / file).is_file():
            raise CheckpointError(
                f"{directory / file}: this shard is missing; {INDEX_NAME} expects tensor {quote(name)} in it"
            )
    return [directory / file for file in sorted(tensor_in)]


def _weight_map(directory: Path) -> dict[str, str]:
    """Read which tensor lies in which shard; empty for a checkpoint of one file (preferred, as in transformers)."""
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such directory, expected one with {WEIGHTS_NAME}")
    if (directory / WEIGHTS_NAME).is_file():
        return {}
    if (directory / INDEX_NAME).is_file():
        return _read_index(directory / INDEX_NAME)

    present = sorted(entry.name for entry in directory.iterdir())
    for name, recipe in OTHER_FORMATS.items():
        if name in present:
            raise CheckpointError(
                f"{directory / name}: this format is not read yet, expected {WEIGHTS_NAME}; convert it with "
                f"transformers: {recipe}"
            )
    raise CheckpointError(
        f"{directory}: no weights, expected {WEIGHTS_NAME} or {INDEX_NAME}; found {some_of(present) or 'nothing'}"
    )


def _read_index(path: Path) -> dict[str, str]:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON in UTF-8: {error}") from error
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: weight_map is {quote(weight_map)}, expected an object of tensor and file names")
    for name, file in weight_map.items():
        # The index may come from anywhere: it must not make us open files outside its own directory.
        if not isinstance(file, str) or file in ("", ".", "..") or any(c in file for c in "/\\:\0"):
            raise CheckpointError(
                f"{path}: tensor {quote(name)}: file {quote(file)}, expected the plain name of a file beside the index"
            )
    return weight_map


def _check_complete(directory: Path, weight_map: dict[str, str], found: dict[str, Array] | set[str]) -> None:
    for name, file in weight_map.items():
        if name not in found:
            raise CheckpointError(
                f"{directory / file}: tensor {quote(name)} is not in this shard, where {INDEX_NAME} expects it"
            )
