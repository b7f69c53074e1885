"""Which functions a model computes with: the one place that knows for which library there are fast ones."""

from __future__ import annotations

from array_api_compat import is_cupy_array, is_numpy_array

from minineo.arrays import Array
from minineo.fast import FAST
from minineo.model.heads import REFERENCE, Functions


def functions_for(weight: Array) -> Functions:
    """The fast functions for NumPy's arrays and for CuPy's, the reference for those of any other library."""
    if is_numpy_array(weight):
        return FAST
    if is_cupy_array(weight):
        from minineo.fast_cupy import FAST_CUPY  # compiles kernels: only where there is a GPU

        return FAST_CUPY
    return REFERENCE
