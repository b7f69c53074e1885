"""Clipping by global norm (Pascanu et al. 2013): a single bad batch cannot throw the parameters far away."""

from __future__ import annotations

import math

from array_api_compat import array_namespace

from minineo.arrays import Array, widest_float
from minineo.training.checks import Arrays, number
from minineo.training.updates import in_pieces

# torch.nn.utils.clip_grad_norm_ adds it to the norm, and the results are to be equal
EPSILON = 1e-6


def clip_by_global_norm(grads: Arrays, limit: float) -> float:
    """Shorten all gradients in place by one factor so that their norm together is at most `limit`; return their norm.

    It is the norm before clipping, of all gradients as one long vector, whose direction stays. A limit of infinity only
    computes it. Where the norm is NaN or infinite the gradients stay as they are: no factor would make them right, so
    the caller has to look at it.

    Raises:
        ValueError: the limit is not above 0.
    """
    if limit != math.inf:
        limit = number("limit", limit, lambda x: x > 0.0, "a number above 0 (math.inf: no limit)")
    norm = global_norm(grads)
    factor = limit / (norm + EPSILON)
    if math.isfinite(norm) and factor < 1.0:
        for gradient in grads.values():
            for (piece,) in in_pieces(gradient):
                piece *= factor
    return norm


def global_norm(grads: Arrays) -> float:
    """The Euclidean norm of all gradients as one vector, summed in float64 where there is one."""
    return math.sqrt(float(sum(_sum_of_squares(gradient) for gradient in grads.values())))


def _sum_of_squares(array: Array) -> Array:
    xp = array_namespace(array)
    total: Array = 0.0
    for (piece,) in in_pieces(array):
        wide = xp.astype(piece, widest_float(piece))
        total = total + xp.sum(wide * wide)
    return total
