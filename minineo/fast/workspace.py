"""Memory that is used again: the arrays of one training step, kept for the next."""

from __future__ import annotations

from typing import Any

import numpy as np

from minineo.arrays import Array


class Workspace:
    """Uninitialised arrays by name: asked again for the same name, it hands out the same memory again.

    A training step writes hundreds of megabytes of intermediates. As new arrays they would come from the operating
    system each time, page by page and cleared to zero, which takes about a tenth of the step.

    What it has handed out under a name is overwritten when that name is next asked for: one step uses one workspace,
    and two steps at the same time use two.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array of this shape and dtype whose contents are left over from whatever was there."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._arrays[name] = np.empty(shape, dtype)
        return array
