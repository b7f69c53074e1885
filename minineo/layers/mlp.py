"""MLP: each position on its own is widened, bent by the activation, and narrowed again.

Dimensions: D hidden size, M inner size (GPT-Neo: 4 * D unless `intermediate_size` says otherwise).
"""

from __future__ import annotations

from collections.abc import Callable

from array_api_compat import array_namespace

from minineo.arrays import Array, at_least_float32
from minineo.layers.dropout import Masks, dropout, dropout_backward, no_masks
from minineo.layers.linear import linear, linear_backward
from minineo.tap import Tap, no_tap


def mlp(
    x: Array,
    c_fc_weight: Array,
    c_fc_bias: Array,
    c_proj_weight: Array,
    c_proj_bias: Array,
    activation: Callable[[Array], Array],
    tap: Tap = no_tap,
    masks: Masks = no_masks,
) -> Array:
    """Apply c_fc, the activation, c_proj, and dropout.

    x (..., D), c_fc_weight (M, D), c_fc_bias (M,), c_proj_weight (D, M), c_proj_bias (D,) -> (..., D).

    Intermediates: `pre` and `act` (..., M), before and after the activation; `out` is the result.
    """
    xp = array_namespace(x)
    pre = tap("pre", linear(x, c_fc_weight, c_fc_bias))
    # in float32 at least: the cube in gelu_new overflows float16 from x = 41 on
    act = tap("act", xp.astype(activation(at_least_float32(pre)), pre.dtype, copy=False))
    out = linear(act, c_proj_weight, c_proj_bias)
    return tap("out", dropout(out, masks("out", out.shape, out)))


def mlp_backward(
    dy: Array,
    x: Array,
    c_fc_weight: Array,
    c_fc_bias: Array,
    c_proj_weight: Array,
    c_proj_bias: Array,
    activation_backward: Callable[[Array, Array], Array],
    pre: Array,
    act: Array,
    masks: Masks = no_masks,
) -> tuple[Array, Array, Array, Array, Array]:
    """Gradients of `mlp`, from what it took and its intermediates `pre` and `act` (..., M).

    dy (..., D) -> dx (..., D), dc_fc_weight (M, D), dc_fc_bias (M,), dc_proj_weight (D, M), dc_proj_bias (D,).
    """
    xp = array_namespace(dy, x)
    # the chain rule walks the same steps the other way
    dout = dropout_backward(dy, masks("out", dy.shape, dy))
    dact, dc_proj_weight, dc_proj_bias = linear_backward(dout, act, c_proj_weight, c_proj_bias)
    dpre = xp.astype(activation_backward(at_least_float32(dact), at_least_float32(pre)), pre.dtype, copy=False)
    dx, dc_fc_weight, dc_fc_bias = linear_backward(dpre, x, c_fc_weight, c_fc_bias)
    return dx, dc_fc_weight, dc_fc_bias, dc_proj_weight, dc_proj_bias
