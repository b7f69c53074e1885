"""Cross-entropy over a vocabulary, fast: logits, loss and gradients of some hundreds of rows at a time.

Dimensions: N rows (batch times positions), D hidden size, V vocabulary.
"""

from __future__ import annotations

import numpy as np

from minineo.arrays import Array
from minineo.fast.linear import product
from minineo.fast.pieces import pieces
from minineo.fast.threads import count, each

ROWS = 512  # rows whose logits exist at once
SCORED = 256  # the same where each thread has its own


def linear_cross_entropy(
    hidden: Array, weight: Array, labels: Array, ignore_index: int = -100, count: int | None = None
) -> tuple[Array, Array, Array]:
    """Loss of the logits `linear(hidden, weight)`, and its gradients by hidden and weight, in one go.

    hidden (N, D), weight (V, D), labels (N,) as for `minineo.layers.losses.cross_entropy` -> the loss, a scalar, NaN if
    all labels are ignored; dhidden (N, D), dweight (V, D). `count` is what the sum of the losses is divided by, where
    the rows are a part of a batch; by default, the number of labels that are not ignored.

    The reference makes (N, V) logits, by far the largest array of a small model, and goes over it fifteen times. Here
    the logits of a few rows become their own gradient, in place, while they are in the cache.
    """
    rows = np.flatnonzero(labels != ignore_index)
    dhidden = np.zeros_like(hidden)
    dweight = np.zeros_like(weight)
    count = rows.size if count is None else count
    if count == 0:
        return np.asarray(np.nan, hidden.dtype)[()], dhidden, dweight
    every = rows.size == len(labels)
    total = 0.0
    buffer = np.empty((min(ROWS, rows.size), len(weight)), hidden.dtype)
    for start in range(0, rows.size, ROWS):
        chosen = slice(start, start + ROWS) if every else rows[start : start + ROWS]
        part, label = hidden[chosen], labels[chosen]
        logits = np.matmul(part, weight.T, out=buffer[: len(part)])
        for piece in pieces(*logits.shape):
            total += _to_gradient(logits[piece], label[piece])
        logits *= 1.0 / count
        dhidden[chosen] = logits @ weight
        dweight += logits.T @ part
    return np.asarray(total / count, hidden.dtype)[()], dhidden, dweight


def token_losses(hidden: Array, weight: Array, labels: Array) -> Array:
    """-log p, in nats, of each label (N,) under the logits `linear(hidden, weight)`; hidden (N, D), weight (V, D).

    The reference's log-softmax makes four arrays as large as the logits. A loss needs one number of its row and a sum
    of exponentials: they are taken in place, some rows at a time, by all threads.
    """
    losses = np.empty(len(labels), hidden.dtype)

    def write(rows: slice) -> None:
        logits, label = product(hidden[rows], weight), labels[rows]
        for piece in pieces(*logits.shape):
            part = logits[piece]
            part -= np.maximum.reduce(part, axis=1, keepdims=True)
            chosen = part[np.arange(len(part)), label[piece]]
            np.exp(part, out=part)
            losses[rows][piece] = np.log(np.add.reduce(part, axis=1)) - chosen

    parts = [slice(start, start + SCORED) for start in range(0, len(labels), SCORED)]
    if len(parts) < count():  # BLAS makes better use of all cores than a few threads of theirs
        for part in parts:
            write(part)
    else:
        each(write, parts)
    return losses


def _to_gradient(logits: Array, labels: Array) -> float:
    """Turn logits (R, V) into probabilities less 1 at the label, in place; returns the sum of the rows' losses."""
    logits -= np.maximum.reduce(logits, axis=1, keepdims=True)
    index = np.arange(len(labels))
    loss = -float(np.sum(logits[index, labels], dtype=np.float64))
    np.exp(logits, out=logits)
    sums = np.add.reduce(logits, axis=1, keepdims=True)
    loss += float(np.sum(np.log(sums), dtype=np.float64))
    logits /= sums
    logits[index, labels] -= 1.0
    return loss
