"""The directory that a run writes to: nobody's files are overwritten, no two runs share it, a false start leaves it.

What a run writes under which name, and what is kept in `checkpoints/`, is said in docs/training.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minineo.training import checkpoint_files, log

MODEL_FILES = (
    *("config.json", "generation_config.json", "model.safetensors"),
    *("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
)

PATIENCE = 5.0  # seconds to wait for another run: one that was killed may still be ending


@contextmanager
def held(output: Path) -> Iterator[None]:
    """Keep other runs out of a directory; one that was not there is made, and removed if it stays empty.

    The system lets go of the lock when the process ends, however it does. Where there are no such locks (Windows, some
    network drives) nothing is kept out.

    Raises:
        FileExistsError: a file stands where a directory is needed.
        BlockingIOError: another run holds it.
    """
    new = [path for path in (output, *output.parents) if not path.exists()]
    make_directory(output)
    descriptor = None if os.name == "nt" else os.open(output, os.O_RDONLY)
    try:
        if descriptor is not None:
            _lock(descriptor, output)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
        _remove(new)


@contextmanager
def nothing_left(files: Iterable[Path]) -> Iterator[None]:
    """Remove those of the files, and their directories, that were not there, if what is in the block fails."""
    new = [path for file in files for path in (file, file.parent) if not path.exists()]
    try:
        yield
    except BaseException:
        _remove(new)
        raise


def check_output(output: Path, *others: str) -> None:
    """Raise where a new run would mix its files with another's, or overwrite the user's.

    `others` are names of files that it writes beside those of a model, the log and the samples.

    Raises:
        FileExistsError: naming what stands there.
    """
    make_directory(output)
    if checkpoint_files.checkpoints(output):
        raise FileExistsError(
            f"output: {output} holds the checkpoints of a run. Continue it with --resume, or choose another --output."
        )
    if (output / "config.json").exists():
        raise FileExistsError(f"output: {output} holds a model, which would be overwritten. Choose another --output.")
    _check_free(output / checkpoint_files.FOLDER, output / "data")
    for name in (*MODEL_FILES, *others):
        if os.path.lexists(output / name):
            raise FileExistsError(
                f"output: {output / name} would be overwritten. Move it away, or choose another --output."
            )
    log.check_files(output)
    checkpoint_files.remove_unfinished(output)


def make_directory(output: Path) -> None:
    """Make a directory, unless it is there.

    Raises:
        FileExistsError: a file stands in the way.
    """
    _check_free(output, *output.parents)
    output.mkdir(parents=True, exist_ok=True)


def _check_free(*directories: Path) -> None:
    for path in directories:
        if path.exists() and not path.is_dir():
            raise FileExistsError(f"output: {path} is a file, expected a directory or a name that is free.")


def _lock(descriptor: int, output: Path) -> None:
    import fcntl  # not above: Windows has none

    latest = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > latest:
                raise BlockingIOError(
                    f"output: another run is writing to {output}. Let it end, or choose another --output."
                ) from error
            time.sleep(0.1)
        except OSError:
            return  # a file system without locks


def _remove(paths: Iterable[Path]) -> None:
    """Remove files and empty directories."""
    for path in paths:
        with suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink()
