"""MLP, fast: the wide inner layer is made and changed in one piece of memory."""

from __future__ import annotations

from collections.abc import Callable

from minineo.arrays import Array
from minineo.fast.linear import product
from minineo.layers import mlp as reference
from minineo.tap import Tap, no_tap


def mlp(
    x: Array,
    c_fc_weight: Array,
    c_fc_bias: Array,
    c_proj_weight: Array,
    c_proj_bias: Array,
    activation: Callable[[Array], Array],
    tap: Tap = no_tap,
) -> Array:
    """As `minineo.layers.mlp.mlp`, where nobody asks for the inner layer."""
    if tap is not no_tap:
        return reference.mlp(x, c_fc_weight, c_fc_bias, c_proj_weight, c_proj_bias, activation, tap)
    rows = x.reshape(-1, x.shape[-1])
    pre = product(rows, c_fc_weight)
    pre += c_fc_bias
    out = product(activation(pre), c_proj_weight)
    out += c_proj_bias
    return out.reshape(x.shape)
