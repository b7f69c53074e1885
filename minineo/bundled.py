"""The bundled model: where its files are."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from minineo.location import resolve


def checkpoint_directory(
    name_or_path: str | os.PathLike[str] | None, *parts: Any, **hub: Any
) -> AbstractContextManager[Path]:
    """The directory of a checkpoint, for the time of a `with`; without a name or path, the bundled model's.

    `parts` and `hub` are as `resolve` takes them. Where the package is a zip archive, the bundled files are unpacked
    for that time.
    """
    if name_or_path is None:
        return as_file(files("minineo") / "assets")
    return nullcontext(resolve(name_or_path, *parts, **hub))
