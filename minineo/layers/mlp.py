"""MLP: each position on its own is widened, bent by the activation, and narrowed again.

Dimensions: D hidden size, M inner size (GPT-Neo: 4 * D unless `intermediate_size` says otherwise).
"""

from __future__ import annotations

from collections.abc import Callable

from minineo.arrays import Array
from minineo.layers.linear import linear
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
    """Apply c_fc, the activation, and c_proj.

    x (..., D), c_fc_weight (M, D), c_fc_bias (M,), c_proj_weight (D, M), c_proj_bias (D,) -> (..., D).

    Intermediates: `pre` and `act` (..., M), before and after the activation; `out` is the result.
    """
    pre = tap("pre", linear(x, c_fc_weight, c_fc_bias))
    act = tap("act", activation(pre))
    return tap("out", linear(act, c_proj_weight, c_proj_bias))
