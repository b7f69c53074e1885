"""Turn a checkpoint of any format into safetensors, with its configuration and its tokenizer beside it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minineo.arrays import Array
from minineo.checkpoints.directory import read_state_dict
from minineo.checkpoints.dtypes import BFLOAT16, cast, floating_dtype, is_floating
from minineo.checkpoints.errors import CheckpointError, quote
from minineo.checkpoints.match import MASK_BUFFER, same_bits
from minineo.checkpoints.save import parse_size, save_state_dict
from minineo.config import CONFIG_FILE, GENERATION_CONFIG_FILE
from minineo.json_file import read_json_object, write_text
from minineo.location import inside
from minineo.progress import with_progress
from minineo.tokenizer.files import NAMES as TOKENIZER_FILES

COPIED = (GENERATION_CONFIG_FILE, *TOKENIZER_FILES)
HEAD, EMBEDDINGS = "lm_head.weight", ("transformer.wte.weight", "wte.weight")


class Converted(NamedTuple):
    """What `convert` has written."""

    params: dict[str, Array]
    left_out: list[str]
    """Tensors of the source that are no parameters: old mask buffers, and a head that equals the embeddings."""
    copied: list[str]
    """The files beside the weights."""


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    dtype: Any = None,
    max_shard_size: int | str = "5GB",
    progress: bool = False,
) -> Converted:
    """Read a checkpoint of any format and write it as safetensors into a new directory.

    The directory appears when everything in it is complete, or not at all.

    Args:
        source: a directory, or one file of weights; what lies beside that file is taken along, too.
        destination: a directory that does not exist, or is empty.
        dtype: of all floating-point numbers; None leaves each as it is, but for bfloat16, which NumPy does not have and
            which becomes float32, exactly.
        max_shard_size: bytes per file, as `save_state_dict` takes them.
        progress: show a bar.

    Raises:
        FileNotFoundError, CheckpointError: as `read_state_dict`.
        FileExistsError: something is in `destination`.
        ValueError: `dtype` or `max_shard_size` is none.
    """
    source, destination = Path(source), Path(destination).resolve()
    parse_size(max_shard_size)
    target = None if dtype is None else floating_dtype(dtype)
    _check_free(source, destination)

    folder = source if source.is_dir() else source.parent
    config_file = inside(folder, CONFIG_FILE)
    config = read_json_object(config_file) if config_file.is_file() else {}
    state = read_state_dict(source)
    left_out = _superfluous(state, bool(config.get("tie_word_embeddings", True)))
    kept = [name for name in state if name not in left_out]
    _check_savable(state, source)
    params = {
        name: _converted(state[name], target)
        for name in with_progress(kept, progress, desc="Converting tensors", unit="tensor")
    }

    staged = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}.tmp")
    try:
        save_state_dict(params, staged, max_shard_size)
        copied = _copy_beside(folder, staged, config, params)
        if destination.exists():
            destination.rmdir()  # it is empty
        staged.rename(destination)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return Converted(params, left_out, copied)


def _check_free(source: Path, destination: Path) -> None:
    if source.resolve() == destination:
        raise FileExistsError(f"{destination}: source and destination are the same; choose another destination")
    if destination.is_dir():
        present = next(destination.iterdir(), None)
        if present is not None:
            raise FileExistsError(f"{destination}: holds {present.name} already; choose a destination that is new")
    elif os.path.lexists(destination):
        raise FileExistsError(f"{destination}: is a file, expected a name that is free or an empty directory")


def _superfluous(state: Mapping[str, Array], tied: bool) -> list[str]:
    """The tensors that no model needs, as transformers leaves them out when it saves."""
    head = [
        HEAD
        for embeddings in EMBEDDINGS
        if tied and HEAD in state and embeddings in state and _equal(state[HEAD], state[embeddings])
    ]
    return [name for name in state if MASK_BUFFER.fullmatch(name) or name in head]


def _equal(a: Array, b: Array) -> bool:
    return bool(a.ndim == 2 and a.shape == b.shape and same_bits(a, b))


def _check_savable(state: Mapping[str, Array], source: Path) -> None:
    for name, array in state.items():
        if array.dtype.kind == "c" or name == "__metadata__":
            raise CheckpointError(
                f"{source}: tensor {quote(name)}: dtype {array.dtype}, which safetensors cannot hold under this name; "
                "no model has such a parameter"
            )


def _converted(array: Array, target: np.dtype[Any] | None) -> Array:
    if target is None and array.dtype != BFLOAT16:
        return array
    return cast(array, target)


def _copy_beside(source: Path, destination: Path, config: dict[str, Any], params: Mapping[str, Array]) -> list[str]:
    """Copy configuration and tokenizer; the configuration says what dtype the weights have now."""
    copied = [name for name in COPIED if inside(source, name).is_file()]
    for name in copied:
        shutil.copyfile(source / name, destination / name)
    if not config:
        return copied
    dtypes = {array.dtype.name for array in params.values() if is_floating(array.dtype)}
    if len(dtypes) == 1:
        config = config | {"torch_dtype" if "torch_dtype" in config else "dtype": dtypes.pop()}
    write_text(destination / CONFIG_FILE, json.dumps(config, indent=2, sort_keys=True) + "\n")
    return [CONFIG_FILE, *copied]
