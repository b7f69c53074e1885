"""The rules by which optimisers change one parameter: SGD, AdamW and Muon, each as one short function.

All change `param` and their moments (running averages, arrays of the parameter's shape) in place, and leave `gradient`
as it is. `decay` is the weight decay of this parameter, 0 where it has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from array_api_compat import array_namespace

from minineo.arrays import Array
from minineo.fast.pieces import pieces

# `orthogonalise` applies x -> A x + B x^3 + C x^5 to singular values, so many times. Jordan et al. chose these numbers
# to lift small values fast: those from 0.002 to 1 end between 0.68 and 1.21, and are not brought closer to 1.
A, B, C = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
SMALLEST_NORM = 1e-7  # a gradient of zeros stays zeros
# The root mean square of an AdamW update is about this part of the learning rate (Liu et al. 2025).
ADAMW_RMS = 0.2


def in_pieces(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Views of the same rows of each array, small enough that what a rule computes from them stays in the cache.

    So the scratch memory is that of one piece, too. A GPU has no use for that: other libraries' arrays stay whole.
    """
    shape = arrays[0].shape
    if not isinstance(arrays[0], np.ndarray) or not shape:
        yield arrays
        return
    for rows in pieces(shape[0], max(1, math.prod(shape[1:]))):
        yield tuple(array[rows] for array in arrays)


def sgd(param: Array, gradient: Array, learning_rate: float, decay: float) -> None:
    """Gradient descent (Robbins & Monro 1951); the decay is that of L2 regularisation. Any one shape."""
    param -= learning_rate * (gradient + decay * param)


def sgd_with_momentum(
    param: Array, gradient: Array, velocity: Array, learning_rate: float, momentum: float, decay: float
) -> None:
    """Gradient descent that keeps part of its speed (Polyak 1964). Any one shape.

    The decay is that of L2 regularisation: it is added to the gradient, and so gathers in the velocity as well.
    """
    velocity *= momentum
    velocity += gradient + decay * param
    param -= learning_rate * velocity


def adamw(
    param: Array,
    gradient: Array,
    first: Array,
    second: Array,
    learning_rate: float,
    betas: tuple[float, float],
    epsilon: float,
    decay: float,
    step: int,
) -> None:
    """Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019). Any one shape.

    `first` and `second` are running averages of the gradient and of its square. Their quotient is about 1 in size
    whatever the gradient's scale is, so each number moves by about the learning rate. `step` counts from 1.
    """
    xp = array_namespace(param, gradient, first, second)
    # Decoupled: the decay stays out of the averages. Divided by the root of `second`, it would hardly reach parameters
    # whose gradients are large.
    param *= 1.0 - learning_rate * decay
    first *= betas[0]
    first += (1.0 - betas[0]) * gradient
    second *= betas[1]
    second += (1.0 - betas[1]) * gradient * gradient
    # The averages began at 0, and are too small by these factors (bias correction)
    correction1, correction2 = 1.0 - betas[0] ** step, 1.0 - betas[1] ** step
    param -= (learning_rate / correction1) * first / (xp.sqrt(second) / math.sqrt(correction2) + epsilon)


def muon(param: Array, gradient: Array, average: Array, learning_rate: float, momentum: float, decay: float) -> None:
    """Muon (Jordan et al. 2024): a step of the same length in all directions that the momentum has. All (N, M).

    The momentum is Nesterov's: the average, moved once more towards the gradient. The update is scaled to about the
    root mean square of AdamW's, so that one learning rate suits both (Liu et al. 2025). The decay is decoupled.
    """
    average *= momentum
    average += (1.0 - momentum) * gradient
    direction = orthogonalise((1.0 - momentum) * gradient + momentum * average)
    param *= 1.0 - learning_rate * decay
    param -= (learning_rate * ADAMW_RMS * math.sqrt(max(param.shape))) * direction


def orthogonalise(matrix: Array) -> Array:
    """Bring all singular values of a matrix near 1 and keep its singular vectors: (N, M) -> (N, M).

    By Newton-Schulz iteration: with X = U S V^T, X X^T X is U S^3 V^T, so that an odd polynomial acts on the singular
    values alone, by matrix products and without finding them.
    """
    xp = array_namespace(matrix)
    is_tall = matrix.shape[0] > matrix.shape[1]
    X = xp.matrix_transpose(matrix) if is_tall else matrix  # X X^T is then the smaller of the two squares
    # No singular value exceeds the Frobenius norm: all are at most 1, where the iteration holds
    X = X / xp.clip(xp.sqrt(xp.sum(X * X)), min=SMALLEST_NORM)
    for _ in range(ITERATIONS):
        gram = X @ xp.matrix_transpose(X)
        X = A * X + (B * gram + C * (gram @ gram)) @ X
    return xp.matrix_transpose(X) if is_tall else X
