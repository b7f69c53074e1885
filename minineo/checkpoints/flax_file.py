"""A model's parameters in Flax's files, under the names and in the shapes that all other formats have."""

from __future__ import annotations

import os
from pathlib import Path

from minineo.arrays import Array
from minineo.checkpoints.errors import CheckpointError
from minineo.checkpoints.flax_names import checkpoint_name, from_flax, turned_shape
from minineo.checkpoints.header import TensorInfo
from minineo.checkpoints.msgpack_file import describe_msgpack, open_msgpack


def open_flax(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Open a Flax checkpoint's file: arrays by the checkpoint's name, kernels transposed, all of them views.

    Raises:
        CheckpointError: as `open_msgpack` does, and when its arrays cannot be a model's parameters.
    """
    arrays = open_msgpack(path)
    try:
        return from_flax(arrays)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def describe_flax(path: Path) -> list[TensorInfo]:
    """List the parameters of a file, reading nothing but where they begin."""
    return [
        info._replace(name=checkpoint_name(info.name), shape=turned_shape(info.name, info.shape))
        for info in describe_msgpack(path)
    ]
