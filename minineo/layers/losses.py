"""Losses: how far the logits are from the labels, as one number, averaged as PyTorch averages.

Dimensions: V classes (the vocabulary, for a language model).
"""

from __future__ import annotations

import math

from array_api_compat import array_namespace

from minineo.arrays import Array, at_least_float32, device_of, scalar
from minineo.layers.softmax import log_softmax, log_softmax_backward


def cross_entropy(logits: Array, labels: Array, ignore_index: int = -100) -> Array:
    """Mean of -log softmax(logits)[label], in nats, over the labels that are not `ignore_index`.

    logits (..., V), labels (...) of integers in 0 ... V - 1, or `ignore_index` -> scalar; NaN if all are ignored,
    as in PyTorch.
    """
    xp = array_namespace(logits, labels)
    kept = labels != ignore_index
    indices = xp.where(kept, labels, xp.zeros_like(labels))
    log_probabilities = log_softmax(at_least_float32(logits))
    losses = -xp.take_along_axis(log_probabilities, indices[..., None], axis=-1)[..., 0]
    total = xp.sum(xp.where(kept, losses, xp.zeros_like(losses)))
    count = xp.sum(xp.astype(kept, losses.dtype))
    mean = total / xp.where(count > 0.0, count, xp.ones_like(count))
    return xp.where(count > 0.0, mean, scalar(math.nan, like=mean))


def cross_entropy_backward(dloss: Array | float, logits: Array, labels: Array, ignore_index: int = -100) -> Array:
    """Gradient of `cross_entropy` by its logits: a scalar dloss -> dlogits (..., V); 0 where the label is ignored.

    Labels are whole numbers and have no gradient.
    """
    xp = array_namespace(logits, labels)
    kept = labels != ignore_index
    is_label = kept[..., None] & (xp.arange(logits.shape[-1], device=device_of(logits)) == labels[..., None])
    log_probabilities = log_softmax(at_least_float32(logits))
    count = xp.sum(xp.astype(kept, log_probabilities.dtype))
    count = xp.where(count > 0.0, count, xp.ones_like(count))
    # The mean picks one log-probability of each row that counts. In all, its logits get (probabilities - 1 at the
    # label) / count: each is pushed down by its probability, and the label's is pulled up by 1.
    picked = xp.astype(is_label, log_probabilities.dtype) * (-dloss / count)
    return xp.astype(log_softmax_backward(picked, log_probabilities), logits.dtype, copy=False)


def mean_squared_error(predictions: Array, labels: Array) -> Array:
    """Mean of the squared differences: two arrays of one shape -> scalar."""
    xp = array_namespace(predictions, labels)
    wide = at_least_float32(predictions)
    difference = wide - xp.astype(labels, wide.dtype, copy=False)
    return xp.mean(difference * difference)


def mean_squared_error_backward(dloss: Array | float, predictions: Array, labels: Array) -> Array:
    """Gradient of `mean_squared_error` by its predictions: a scalar dloss -> dpredictions in their shape."""
    xp = array_namespace(predictions, labels)
    wide = at_least_float32(predictions)
    difference = wide - xp.astype(labels, wide.dtype, copy=False)
    return xp.astype(dloss * 2.0 * difference / math.prod(wide.shape), predictions.dtype, copy=False)


def binary_cross_entropy(logits: Array, labels: Array) -> Array:
    """Mean of -log sigmoid(logit) where the label is 1 and of -log(1 - sigmoid(logit)) where it is 0, in nats.

    Two arrays of one shape -> scalar. Labels in between weigh the two.
    """
    xp = array_namespace(logits, labels)
    wide = at_least_float32(logits)
    targets = xp.astype(labels, wide.dtype, copy=False)
    # log(1 + exp(x)) as max(x, 0) + log(1 + exp(-|x|)): the exponential cannot overflow
    log_partition = xp.where(wide > 0.0, wide, xp.zeros_like(wide)) + xp.log1p(xp.exp(-xp.abs(wide)))
    return xp.mean(log_partition - wide * targets)


def binary_cross_entropy_backward(dloss: Array | float, logits: Array, labels: Array) -> Array:
    """Gradient of `binary_cross_entropy` by its logits: a scalar dloss -> dlogits in their shape."""
    xp = array_namespace(logits, labels)
    wide = at_least_float32(logits)
    targets = xp.astype(labels, wide.dtype, copy=False)
    # log(1 + exp(x)) - x target has the derivative sigmoid(x) - target
    small = xp.exp(-xp.abs(wide))
    sigmoid = xp.where(wide > 0.0, xp.ones_like(wide), small) / (1.0 + small)
    return xp.astype(dloss * (sigmoid - targets) / math.prod(wide.shape), logits.dtype, copy=False)
