"""The bundled model: where its files are.

It imports nothing of the package, so that a command that needs no model does not wait for one.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from importlib.resources import as_file, files
from pathlib import Path


def checkpoint_directory(path: str | os.PathLike[str] | None) -> AbstractContextManager[Path]:
    """The directory of a checkpoint, for the time of a `with`; without a path, the bundled model's.

    Where the package is a zip archive, the bundled files are unpacked for that time.
    """
    return as_file(files("minineo") / "assets") if path is None else nullcontext(Path(path))
