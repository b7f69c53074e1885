"""The kernels of `minineo.fast_cupy` on a processor: compiled by g++ with an emulation of CUDA, for NumPy arrays.

So every line of them has been run, float32 only: float16 needs a GPU. See `cuda_emulator/cuda.h`.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minineo.fast_cupy import kernels

EMULATOR = Path(__file__).parent / "cuda_emulator" / "cuda.h"


class Emulated:
    """What CuPy's RawModule is for a GPU."""

    def __init__(self, library: ctypes.CDLL, number: int) -> None:
        self.library, self.number = library, number

    def get_function(self, name: str) -> Any:
        run = self.library[f"run_{self.number}_{name}"]

        def kernel(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...], shared_mem: int = 0) -> None:
            # a kernel gets each argument by the address of its value, which for an array is its address
            values = [_value(argument) for argument in arguments]
            addresses = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
            run(ctypes.c_uint(grid[0]), ctypes.c_uint(block[0]), ctypes.c_uint(shared_mem), addresses)

        return kernel


def _value(argument: Any) -> np.ndarray:
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous, "a kernel was given an array whose numbers do not lie side by side"
        return np.array([argument.ctypes.data], np.uint64)
    assert isinstance(argument, np.generic), f"{argument!r} has no C type"
    return np.array([argument])


def compiled(folder: Path, sources: list[str]) -> list[Emulated]:
    """The kernels of each of the sources, all compiled at once into a library in a folder."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: it compiles the kernels for a processor")
    parts = [f'#include "{EMULATOR}"']
    for number, source in enumerate(sources):
        parts += [f"namespace source_{number} {{", source.replace('extern "C"', ""), "}"]
        parts += [
            f'extern "C" void run_{number}_{name}(unsigned grid, unsigned block, unsigned shared, void** arguments) '
            f"{{ run(source_{number}::{name}, grid, block, shared, arguments); }}"
            for name in re.findall(r'extern "C" __global__ void (\w+)', source)
        ]
    file, library = folder / "kernels.cpp", folder / "kernels.so"
    file.write_text("\n".join(parts), encoding="utf-8")
    command = ["g++", "-O1", "-U_FORTIFY_SOURCE", "-std=c++17", "-w", "-shared", "-fPIC", str(file), "-o", str(library)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[:3000]
    return [Emulated(ctypes.CDLL(str(library)), number) for number in range(len(sources))]


@cache
def _of_the_package(folder: Path) -> Emulated:
    return compiled(folder, [kernels.source()])[0]


def use_emulated_kernels(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let `minineo.fast_cupy` run its kernels on NumPy arrays, and launch without a graph."""
    emulated = _of_the_package(folder)
    monkeypatch.setattr(kernels, "module", lambda dtype: emulated)
    monkeypatch.setattr("minineo.fast_cupy.decoding.captured", lambda step: step)
    # smaller blocks, of two warps, and fewer of them for attention: they are emulated four times as fast
    smaller = {"kernels.THREADS": 64, "decoding.THREADS": 64, "decoding.WARPS": 2, "decoding.CHOOSING": 64}
    for name, value in {**smaller, "decoding.PARTS": 3}.items():
        monkeypatch.setattr(f"minineo.fast_cupy.{name}", value)
