"""Weights laid out in memory for the products that read them.

Dimensions: D hidden size.
"""

from __future__ import annotations

import numpy as np

from minineo.arrays import Array
from minineo.model.block import Params

END = ".attn.attention.q_proj.weight"


def laid_out(params: Params) -> Params:
    """The parameters, with each layer's q, k and v (D, D) as views of one array (3 D, D); the others as they are.

    So the three products with one input are one, which is longer and keeps the cores busy. All else stays in the order
    of the checkpoint, (out, in): transposed, a product with a single row would be a tenth faster, but one with a few
    rows, as a batch or speculative decoding need it, three times slower.
    """
    params = dict(params)
    for name in [name for name in params if name.endswith(END)]:
        at = name.removesuffix(END)
        if isinstance(params[name], np.ndarray) and qkv_weight(params, at) is None:
            names = _names(at)
            parts = np.split(np.ascontiguousarray(np.concatenate([params[name] for name in names])), 3)
            params.update(zip(names, parts, strict=True))
    return params


def qkv_weight(params: Params, at: str) -> Array | None:
    """Block `at`'s weights of q, k and v as one array (3 D, D), if they lie in one as `laid_out` leaves them."""
    parts = [params[name] for name in _names(at)]
    base, (D, width) = parts[0].base, parts[0].shape
    if not isinstance(base, np.ndarray) or base.shape != (3 * D, width) or not base.flags.c_contiguous:
        return None
    begin = base.__array_interface__["data"][0]
    for i, part in enumerate(parts):
        here = part.__array_interface__["data"][0] == begin + i * parts[0].nbytes
        if part.base is not base or not here or (part.shape, part.strides) != ((D, width), base.strides):
            return None
    return base


def _names(at: str) -> list[str]:
    return [f"{at}.attn.attention.{name}_proj.weight" for name in "qkv"]
