"""Where a checkpoint is: a folder on disk or, where there is none of that name, a model on the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from minineo.checkpoints.directory import Format

Part = Literal["config", "tokenizer", "weights"]
ALL_PARTS: tuple[Part, ...] = ("config", "tokenizer", "weights")

EXAMPLE = "EleutherAI/gpt-neo-125m"
HUB_NAME = re.compile(r"(?!.*(?:--|\.\.))([A-Za-z0-9_][\w.-]*/)?[A-Za-z0-9_][\w.-]*(?<![.-])", re.ASCII)
FILE_SUFFIXES = (".safetensors", ".bin", ".msgpack", ".json", ".txt", ".pt", ".pth", ".h5")


class HubOptions(TypedDict, total=False):
    """What can be said about a model on the Hub; the names and defaults are those of `huggingface_hub`."""

    revision: str | None
    """A branch, a tag or a commit; None is the branch `main`."""
    token: str | bool | None
    """None: HF_TOKEN or what `hf auth login` keeps, if there is any; False: none."""
    cache_dir: str | os.PathLike[str] | None
    """None: HF_HUB_CACHE, or the folder `hub` in HF_HOME."""
    local_files_only: bool
    """Take what is in the cache, and do not ask the Hub."""
    force_download: bool
    """Download again what is in the cache."""


def split_hub_options(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part the fields of `HubOptions` from all other arguments."""
    hub = {name: value for name, value in arguments.items() if name in HubOptions.__annotations__}
    return hub, {name: value for name, value in arguments.items() if name not in hub}


def resolve(
    name_or_path: str | os.PathLike[str],
    required: Sequence[Part] = ALL_PARTS,
    optional: Sequence[Part] = (),
    formats: Sequence[Format] | None = None,
    **hub: Any,
) -> Path:
    """Find a checkpoint: what is on disk, or a snapshot of a model on the Hub, in which the parts asked for are.

    A file or folder on disk wins. `hub` are the fields of `HubOptions`; the files of a snapshot that are not in the
    cache are downloaded. `formats` are those of weights, in order of preference; None stands for all.

    Raises:
        FileNotFoundError: it is neither on disk nor on the Hub.
        ValueError: it is empty.
        ImportError, OSError, ValueError: as `minineo.checkpoints.hub.download`.
    """
    if name_or_path == "":  # to Path it is the folder one is in: hardly what a variable that was never set should mean
        raise ValueError(f"received an empty name, expected a folder ('.' for this one) or a name such as {EXAMPLE}.")
    path = Path(name_or_path)
    if path.exists():
        return path
    if not isinstance(name_or_path, str) or not is_hub_name(name_or_path):
        raise FileNotFoundError(
            f"{name_or_path}: no such directory. Expected a folder with a checkpoint ({path.absolute()} is none), or "
            f"the name of a model on the Hugging Face Hub, its owner and itself, such as {EXAMPLE}."
        )
    from minineo.checkpoints.hub import download

    return download(name_or_path, required, optional, formats, **hub)


def is_hub_name(name: str) -> bool:
    """Whether a model on the Hub can have this name: `repository`, or `owner/repository`."""
    return len(name) <= 96 and bool(HUB_NAME.fullmatch(name)) and not name.endswith(FILE_SUFFIXES)


def inside(folder: str | os.PathLike[str], name: str) -> Path:
    """The path of a file in a folder, unless it is a link that leads out of it: a folder may come from anybody.

    In the Hub's cache every file of a snapshot is a link, to a folder beside the snapshots.

    Raises:
        ValueError: the file is a link to a place outside.
    """
    path = Path(folder) / name
    if path.is_symlink():
        target = Path(os.path.realpath(path))  # Path.resolve fails where links lead in a circle
        if not any(target.is_relative_to(root) for root in _roots(Path(folder).resolve())):
            raise ValueError(
                f"{path}: a link to {target}, outside of its folder, is not followed. Put the file itself there."
            )
    return path


def _roots(folder: Path) -> list[Path]:
    """The folders that links in `folder` may lead to.

    A snapshot in the Hub's cache is `models--OWNER--NAME/snapshots/COMMIT`; its links lead to
    `models--OWNER--NAME/blobs`, and from there they may lead on to `blobs` of the cache, which its models share.
    """
    repository = folder.parent.parent
    if folder.parent.name == "snapshots" and repository.name.startswith("models--"):
        return [folder, repository / "blobs", repository.parent / "blobs"]
    return [folder]
