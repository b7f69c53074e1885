"""Linear layer: a matrix product and a shift.

GPT-Neo stores every weight as (out, in), its MLP's too. GPT-2's checkpoints hold the MLP and attention weights
transposed; a port that confuses the two goes unnoticed wherever a matrix is square.

Dimensions: I inputs, O outputs.
"""

from __future__ import annotations

from minineo.arrays import Array


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Multiply by the transposed weight and add the bias.

    x (..., I), weight (O, I), bias (O,) or None -> (..., O).
    """
    y = x @ weight.T
    return y if bias is None else y + bias
