"""Save weights as Hugging Face transformers does: one file, or shards with an index, old or new but never a mixture."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from minineo.arrays import Array
from minineo.checkpoints.directory import FLAX_FORMATS, FORMATS
from minineo.checkpoints.flax_names import flax_name, to_flax
from minineo.checkpoints.msgpack_file import write_msgpack
from minineo.checkpoints.safetensors_file import temporary_beside, write_safetensors
from minineo.progress import with_progress


class Layout(NamedTuple):
    """How the files of one format are called, and what writes one of them."""

    stem: str
    suffix: str
    write: Callable[[Mapping[str, Array], Path], None]
    name_in_index: Callable[[str], str] = str

    @property
    def weights_name(self) -> str:
        """The file that holds everything."""
        return f"{self.stem}{self.suffix}"

    @property
    def index_name(self) -> str:
        """The file that says which tensor lies in which shard."""
        return f"{self.weights_name}.index.json"

    def shard_name(self, i: str, count: str) -> str:
        """One of several files."""
        return f"{self.stem}-{i}-of-{count}{self.suffix}"


SAFETENSORS = Layout("model", ".safetensors", lambda params, path: write_safetensors(params, path))
FLAX = Layout("flax_model", ".msgpack", lambda params, path: write_msgpack(to_flax(params), path), flax_name)
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def save_state_dict(
    params: Mapping[str, Array],
    directory: str | os.PathLike[str],
    max_shard_size: int | str = "50GB",
    layout: Layout = SAFETENSORS,
) -> None:
    """Write a model's parameters into a directory, replacing the weights of that format that it holds.

    Everything is first written under temporary names, then renamed, then what is left of an earlier save is removed.
    A save that fails or is interrupted while it writes leaves the earlier one as it was.

    Args:
        params: arrays by name, which may be views of the very files that are replaced.
        directory: made if it is not there.
        max_shard_size: bytes per file, or a string such as "5GB" or "200MB" (powers of 1000); one tensor alone may
            take more.
        layout: of safetensors, or `FLAX`.

    Raises:
        ValueError: when `max_shard_size` is not a size.
        TypeError: when an array's dtype cannot be saved.
    """
    sizes = {name: array.nbytes for name, array in params.items()}
    shards = split_into_shards(sizes, parse_size(max_shard_size), layout)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)

    staged: dict[Path, Path] = {directory / file: temporary_beside(directory / file) for file in shards}
    index_path = directory / layout.index_name
    if len(shards) > 1:
        staged[index_path] = temporary_beside(index_path)
    try:
        for file, names in with_progress(shards.items(), len(shards) > 1, desc="Writing model shards", unit="file"):
            layout.write({name: params[name] for name in names}, staged[directory / file])
        if len(shards) > 1:
            _write_index(params, shards, staged[index_path], layout)
        if len(shards) > 1 and any(path.exists() for path in staged if path != index_path):
            index_path.unlink(missing_ok=True)  # as many shards as before: the old index must never see a new shard
        for path, temporary in staged.items():
            os.replace(temporary, path)
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
    _remove_stale(directory, layout, keep={path.name for path in staged})
    _warn_of_others(directory, layout)


def split_into_shards(
    sizes: Mapping[str, int], max_shard_size: int, layout: Layout = SAFETENSORS
) -> dict[str, list[str]]:
    """Distribute tensors over files in their order, starting a new file when the next tensor would not fit.

    A tensor larger than `max_shard_size` gets a file of its own, while the file begun before it goes on being filled,
    as in transformers.

    Args:
        sizes: bytes of each tensor.
        max_shard_size: bytes.
        layout: how the files are called.

    Returns:
        The names of the tensors in each file, by the file's name.
    """
    shards: list[list[str]] = []
    current: list[str] = []
    filled = 0
    for name, size in sizes.items():
        if size > max_shard_size:
            shards.append([name])
            continue
        if filled + size > max_shard_size:
            shards.append(current)
            current, filled = [], 0
        current.append(name)
        filled += size
    if current or not shards:
        shards.append(current)
    if len(shards) == 1:
        return {layout.weights_name: shards[0]}
    return {layout.shard_name(f"{i:05d}", f"{len(shards):05d}"): names for i, names in enumerate(shards, start=1)}


def parse_size(size: int | str) -> int:
    """Turn a number of bytes, or a string such as "5GB", "200MB" or "20KB" (powers of 1000), into bytes.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]B)\s*", size, re.IGNORECASE)
        bytes_ = int(float(match[1]) * UNITS[match[2].upper()]) if match else 0
    else:
        bytes_ = size if type(size) is int else 0
    if bytes_ <= 0:
        raise ValueError(f'max_shard_size is {size!r}, expected a positive number of bytes or a string such as "5GB"')
    return bytes_


def _write_index(params: Mapping[str, Array], shards: Mapping[str, list[str]], path: Path, layout: Layout) -> None:
    index = {
        "metadata": {
            "total_parameters": sum(int(array.size) for array in params.values()),
            "total_size": sum(int(array.nbytes) for array in params.values()),
        },
        "weight_map": {layout.name_in_index(name): file for file, names in shards.items() for name in names},
    }
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(index, indent=2, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _remove_stale(directory: Path, layout: Layout, keep: set[str]) -> None:
    """Remove what an earlier save left: the index first, so that it never names a shard that is gone."""
    shard = re.compile(re.escape(layout.shard_name("NUMBER", "NUMBER")).replace("NUMBER", r"\d{5}"))
    names = {layout.index_name: None, layout.weights_name: None} | dict.fromkeys(
        path.name for path in directory.iterdir() if shard.fullmatch(path.name)
    )
    for name in names:
        if name not in keep:
            (directory / name).unlink(missing_ok=True)


def _warn_of_others(directory: Path, layout: Layout) -> None:
    """Say so if weights of another format are left, which some classes read before those that were saved now."""
    flax = [name for format_ in FLAX_FORMATS for name in (format_.weights_name, format_.index_name)]
    others = [name for format_ in FORMATS for name in (format_.weights_name, format_.index_name) if name not in flax]
    readers, names, instead = (
        ("GPTNeo...", others, "from_flax=True") if layout is FLAX else ("FlaxGPTNeo...", flax, "from_pt=True")
    )
    left = next((name for name in names if (directory / name).exists()), None)
    if left is not None:
        warnings.warn(
            f"{directory}: holds {left} of an earlier save, too, which {readers}.from_pretrained reads instead of what "
            f"was saved now. Remove it, or pass {instead}.",
            stacklevel=5,  # whoever called save_pretrained
        )
