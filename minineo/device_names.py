"""The names of devices: "cpu", "cuda" (the first GPU), "cuda:1" (the second), as torch has them. Imports no NumPy."""

from __future__ import annotations

import re

CUDA = re.compile(r"cuda(?::(\d+))?")


def gpu_number(device: str) -> int | None:
    """The number of the GPU that a device's name stands for; None is the processor.

    Raises:
        ValueError, TypeError: it is no name of a device; the message lists those there are.
    """
    expected = "expected 'cpu', 'cuda' (the first GPU) or 'cuda:N', such as 'cuda:1' (the second)"
    if not isinstance(device, str):
        raise TypeError(f"device: received {device!r} of type {type(device).__name__}, {expected}.")
    match = CUDA.fullmatch(device)
    if match is None and device != "cpu":
        raise ValueError(f"device: received {device!r}, {expected}.")
    return None if match is None else int(match[1] or 0)
