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
            parts = np.split(np.concatenate([params[name] for name in names]), 3)
            params.update(zip(names, parts, strict=True))
    return params


def qkv_weight(params: Params, at: str) -> Array | None:
    """Block `at`'s weights of q, k and v as one array (3 D, D), if they lie in one as `laid_out` leaves them."""
    q, k, v = (params[name] for name in _names(at))
    base = q.base
    if base is None or k.base is not base or v.base is not base or base.shape != (3 * len(q), q.shape[1]):
        return None
    first, second, third = (array.__array_interface__ for array in (q, k, v))
    here = [base.__array_interface__["data"][0] + i * q.nbytes for i in range(3)]
    in_order = [first["data"][0], second["data"][0], third["data"][0]] == here
    return base if in_order and base.flags.c_contiguous and q.flags.c_contiguous else None


def _names(at: str) -> list[str]:
    return [f"{at}.attn.attention.{name}_proj.weight" for name in "qkv"]
