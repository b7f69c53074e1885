"""Where the checkpoints of a run are, which of them are kept, and how half of one never stands under its name.

This module imports no NumPy: the options of a run are read here before anybody knows how many threads NumPy may use.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from minineo.json_file import read_json_object

FOLDER = "checkpoints"
TRAINING_FILE = "training.json"
FINISHED = re.compile(r"step-(\d+)")
UNFINISHED = {
    FOLDER: re.compile(r"\.step-\d+\.[0-9a-f]+\.tmp"),
    "data": re.compile(r"\.(train|validation)\.npy\.[0-9a-f]+\.tmp"),
    ".": re.compile(r"\.model\.safetensors\.[0-9a-f]+\.tmp"),
}


def directory_of(output: Path, step: int) -> Path:
    """The checkpoint of a step."""
    return output / FOLDER / f"step-{step:08d}"


def checkpoints(output: Path) -> dict[int, Path]:
    """The finished checkpoints of a run by their step, the oldest first."""
    folder = output / FOLDER
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    found = {int(match[1]): folder / match[0] for name in names if (match := FINISHED.fullmatch(name))}
    return dict(sorted(found.items()))


def remove_old(output: Path, keep: int, best_step: int | None) -> None:
    """Remove all checkpoints but the last `keep` and the best one."""
    found = checkpoints(output)
    for step in list(found)[:-keep]:
        if step != best_step:
            _remove(found[step])


def remove_later(output: Path, step: int) -> None:
    """Remove the checkpoints of later steps than this one: they will be made, and written, again."""
    for later, path in checkpoints(output).items():
        if later > step:
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a checkpoint; it is renamed first, so that half of one never stands under its name."""
    temporary = temporary_directory(path)
    path.rename(temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def remove_unfinished(output: Path) -> None:
    """Remove what processes left that were killed while they wrote or removed a checkpoint, a token file or weights."""
    for folder, name in UNFINISHED.items():
        for path in list((output / folder).iterdir()) if (output / folder).is_dir() else []:
            if name.fullmatch(path.name):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def stored_options(output: Path) -> dict[str, Any]:
    """The options that a run was begun with, from its newest checkpoint.

    Raises:
        FileNotFoundError: there is none.
    """
    for path in reversed(checkpoints(output).values()):
        try:
            return dict(read_json_object(path / TRAINING_FILE)["options"])
        except (ValueError, TypeError, KeyError, OSError):
            continue  # damaged: the one before it has the same
    raise no_checkpoint(output)


def no_checkpoint(output: Path) -> FileNotFoundError:
    """The error of a run that cannot be continued."""
    return FileNotFoundError(
        f"{output}: there is no checkpoint to resume from. Start without --resume, or pass the --output of the run."
    )


def temporary_directory(path: Path) -> Path:
    """A name beside a checkpoint, hence on the same disk, that is none of a checkpoint."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def flush_files(directory: Path) -> None:
    """Wait until all files of a directory are on the disk: renaming is no use if their bytes come later."""
    for file in directory.iterdir():
        flush(file)
    flush(directory)


def flush(path: Path) -> None:
    """Wait until a file, or the list of files of a directory, is on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows has no such thing for directories
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
