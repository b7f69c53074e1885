"""Linear layer: a matrix product and a shift.

GPT-Neo stores every weight as (out, in), its MLP's too. GPT-2's checkpoints hold the MLP and attention weights
transposed; a port that confuses the two goes unnoticed wherever a matrix is square.

Dimensions: I inputs, O outputs.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from minineo.arrays import Array


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Multiply by the transposed weight and add the bias.

    x (..., I), weight (O, I), bias (O,) or None -> (..., O).
    """
    y = x @ weight.T
    return y if bias is None else y + bias


def linear_backward(dy: Array, x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, Array, Array | None]:
    """Gradients of `linear`: dy (..., O) -> dx (..., I), dweight (O, I), dbias (O,) or None as the bias is."""
    xp = array_namespace(dy, x, weight)
    # y[n, o] = sum_i x[n, i] weight[o, i] + bias[o]. An input reaches all outputs, so dx sums over o; a weight and a
    # bias serve all positions, so dweight and dbias sum over n, and one product of (rows, I) with (rows, O) is all.
    dy_rows = xp.reshape(dy, (-1, weight.shape[0]))
    x_rows = xp.reshape(x, (-1, weight.shape[1]))
    dx = xp.reshape(dy_rows @ weight, x.shape)
    dweight = dy_rows.T @ x_rows
    dbias = None if bias is None else xp.sum(dy_rows, axis=0)
    return dx, dweight, dbias
