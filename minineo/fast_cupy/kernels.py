"""The layers' kernels, as functions of arrays; `launch` starts any kernel of `kernels.cu` and `decoding.cu`.

Dimensions: B batch, H heads, T queries, S keys, D hidden size.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from minineo.arrays import Array

SOURCES = tuple(Path(__file__).with_name(name) for name in ("kernels.cu", "decoding.cu"))
NUMBERS = {"float32": "float", "float16": "__half"}  # dtypes that there are kernels for, as CUDA calls them
THREADS = 256  # of a block
NULL = np.uint64(0)  # in place of an array that there is not


def source() -> str:
    """The code of all kernels."""
    return "\n".join(file.read_text(encoding="utf-8") for file in SOURCES)


@cache
def module(dtype: str) -> Any:
    """The kernels for parameters of that dtype, compiled; CuPy keeps what it has compiled on the disk."""
    cupy = import_module("cupy")
    options = ("-std=c++17", f"-DNUMBER={NUMBERS[dtype]}")
    return cupy.RawModule(code=source(), options=options)


def launch(
    name: str,
    dtype: Any,
    blocks: int,
    *arguments: Any,
    shared_floats: int = 0,
    threads: int | None = None,
) -> None:
    """Start a kernel; ints are passed as C's int, floats as its float, None as a null pointer, arrays as pointers."""
    kernel = module(np.dtype(dtype).name).get_function(name)
    kernel((blocks,), (threads or THREADS,), tuple(map(_as_c, arguments)), shared_mem=4 * shared_floats)


def _as_c(argument: Any) -> Any:
    if argument is None:
        return NULL
    if isinstance(argument, float):
        return np.float32(argument)
    return np.int32(argument) if isinstance(argument, int) else argument


def contiguous(x: Array) -> Array:
    """The array with its numbers side by side, as kernels expect them; a copy only if they are not."""
    return x if x.flags.c_contiguous else x.copy()


def gelu_new(x: Array) -> Array:
    """As `minineo.layers.activations.gelu_new`."""
    x, xp = contiguous(x), array_namespace(x)
    y = xp.empty_like(x)
    launch("gelu_new", x.dtype, min(-(-x.size // THREADS), 4096), x, y, np.int64(x.size))
    return y


def layer_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """As `minineo.layers.layer_norm.layer_norm`."""
    x, xp = contiguous(x), array_namespace(x)
    y, D = xp.empty_like(x), x.shape[-1]
    launch("layer_norm", x.dtype, x.size // D, x, contiguous(weight), contiguous(bias), y, float(epsilon), D)
    return y


def masked_softmax(scores: Array, window: int | None, real: Array | None, dtype: Any) -> Array:
    """Mask scores (B, H, T, S) of float32 and take their softmax, of that dtype.

    The mask is that of `minineo.layers.attention.attention`: real (B, S) booleans are False at padding.
    """
    scores, xp = contiguous(scores), array_namespace(scores)
    _, H, T, S = scores.shape
    pattern = xp.empty(scores.shape, dtype=dtype)
    real = None if real is None else contiguous(real)
    rows = math.prod(scores.shape[:3])
    launch("masked_softmax", dtype, rows, scores, real, pattern, H, T, S, window or 0)
    return pattern
