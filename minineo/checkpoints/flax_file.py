"""A model's parameters in Flax's files, under the names and in the shapes that all other formats have.

Flax's own file is `flax_model.msgpack`. With `safe_serialization=True` transformers 4 wrote a Flax model to
`model.safetensors`, where PyTorch's parameters are otherwise: kernels are as Flax has them, and names are joined by
dots, `transformer.h.0.mlp.c_fc.kernel`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from minineo.arrays import Array
from minineo.checkpoints.errors import CheckpointError
from minineo.checkpoints.flax_names import are_flax_names, checkpoint_name, from_flax, turned_shape
from minineo.checkpoints.header import TensorInfo
from minineo.checkpoints.msgpack_file import describe_msgpack, open_msgpack
from minineo.checkpoints.safetensors_file import describe_safetensors, open_safetensors


def open_flax(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Open a Flax checkpoint's file: arrays by the checkpoint's name, kernels transposed, all of them views.

    Raises:
        CheckpointError: as `open_msgpack` does, and when its arrays cannot be a model's parameters.
    """
    return _renamed(open_msgpack(path), path)


def open_safetensors_of_both(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Open a safetensors file: arrays by the checkpoint's name, of a model that may have been Flax's.

    Raises:
        CheckpointError: as `open_safetensors` does, and when a Flax model's arrays cannot be parameters.
    """
    arrays = open_safetensors(path)
    if not are_flax_names(arrays):
        return arrays
    return _renamed({name.replace(".", "/"): array for name, array in arrays.items()}, path)


def _renamed(arrays: Mapping[str, Array], path: str | os.PathLike[str]) -> dict[str, Array]:
    try:
        return from_flax(arrays)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def describe_flax(path: Path) -> list[TensorInfo]:
    """List the parameters of a file, reading nothing but where they begin."""
    return _described(describe_msgpack(path))


def describe_safetensors_of_both(path: Path) -> list[TensorInfo]:
    """List the parameters of a safetensors file, of a model that may have been Flax's, from its header alone."""
    tensors = describe_safetensors(path).tensors
    if not are_flax_names(info.name for info in tensors):
        return tensors
    return _described([info._replace(name=info.name.replace(".", "/")) for info in tensors])


def _described(tensors: list[TensorInfo]) -> list[TensorInfo]:
    return [
        info._replace(name=checkpoint_name(info.name), shape=turned_shape(info.name, info.shape)) for info in tensors
    ]
