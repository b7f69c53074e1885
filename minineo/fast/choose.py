"""Which functions a model computes with: the one place that knows for which library there are fast ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from array_api_compat import is_cupy_array, is_numpy_array

from minineo.arrays import Array
from minineo.config import GPTNeoConfig
from minineo.fast import FAST
from minineo.model.block import Params
from minineo.model.heads import REFERENCE, Functions
from minineo.model.names import BASE_PREFIX


def functions_for(weight: Array) -> Functions:
    """The fast functions for NumPy's arrays and for CuPy's, the reference for those of any other library."""
    if is_numpy_array(weight):
        return FAST
    if is_cupy_array(weight):
        from minineo.fast_cupy import FAST_CUPY

        return FAST_CUPY
    return REFERENCE


def decoder_for(params: Params, config: GPTNeoConfig, S: int) -> Callable[..., Iterator[int]] | None:
    """What decodes a single text of up to S tokens all by itself, `minineo.fast_cupy.decoding.decoded`, or None."""
    if not is_cupy_array(params[f"{BASE_PREFIX}wte.weight"]):
        return None
    from minineo.fast_cupy.decoding import can_decode, decoded

    return decoded if can_decode(params, config, S) else None
