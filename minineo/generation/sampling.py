"""Draw the next token: reshape its distribution (temperature, top-k, nucleus, ...), then draw from exactly that.

Each filter takes scores (N, V) and returns new ones, in which the tokens that it drops have -inf. Equal to Hugging
Face's logits warpers. Sources: top-k, Fan et al. (2018); top-p (nucleus), Holtzman et al. (2020); min-p, Nguyen et al.
(2024); typical, Meister et al. (2023); epsilon and eta, Hewitt et al. (2022).

Dimensions: N rows, V vocabulary (in beam search: the continuations of all beams of a text).
"""

from __future__ import annotations

import math

import numpy as np
from array_api_compat import array_namespace, device

from minineo.arrays import Array, widest_float, widest_integer
from minineo.generation.arguments import GenerationArguments, Processor
from minineo.generation.processors import mask_out
from minineo.layers.softmax import log_softmax, softmax


def build_filters(arguments: GenerationArguments) -> list[Processor]:
    """List the filters that the arguments ask for, in Hugging Face's order; none unless `do_sample`."""
    if not arguments.do_sample:
        return []
    # Beam search needs tokens that do not end the text, so it keeps one more than there are end tokens.
    keep = 1 if arguments.num_beams == 1 else max(1, len(arguments.eos_token_ids)) + 1
    filters: list[Processor] = []
    if (temperature := arguments.temperature) != 1.0:
        filters.append(lambda ids, scores: scores / temperature)
    if k := arguments.top_k:
        filters.append(lambda ids, scores: top_k(scores, max(k, keep)))
    if (p := arguments.top_p) < 1.0:
        filters.append(lambda ids, scores: top_p(scores, p, keep))
    if (share := arguments.min_p) is not None:
        filters.append(lambda ids, scores: min_p(scores, share, keep))
    if (mass := arguments.typical_p) < 1.0:
        filters.append(lambda ids, scores: typical_p(scores, mass, keep))
    if (epsilon := arguments.epsilon_cutoff) > 0.0:
        filters.append(lambda ids, scores: epsilon_cutoff(scores, epsilon, keep))
    if (eta := arguments.eta_cutoff) > 0.0:
        filters.append(lambda ids, scores: eta_cutoff(scores, eta, keep))
    return filters


def top_k(scores: Array, k: int) -> Array:
    """Keep the k most likely tokens, and those as likely as the last of them."""
    return mask_out(scores, scores < _kth_largest(scores, k))


def top_p(scores: Array, p: float, keep: int = 1) -> Array:
    """Keep the fewest most likely tokens whose probabilities sum to at least p, but no fewer than `keep`."""
    xp = array_namespace(scores)
    order = xp.argsort(scores, axis=1, stable=False)  # the unlikely tokens first
    tail = xp.cumulative_sum(softmax(xp.take_along_axis(scores, order, axis=1)), axis=1)
    ranks = xp.arange(scores.shape[1], device=device(scores))
    dropped = (tail <= 1.0 - p) & (ranks < scores.shape[1] - keep)
    return mask_out(scores, _unsort(dropped, order))


def min_p(scores: Array, share: float, keep: int = 1) -> Array:
    """Drop tokens less likely than `share` of the most likely one, but no more than leaves `keep`."""
    xp = array_namespace(scores)
    probabilities = softmax(scores)
    unlikely = probabilities < share * xp.max(probabilities, axis=1, keepdims=True)
    return mask_out(scores, unlikely & (scores < _kth_largest(scores, keep)))


def typical_p(scores: Array, mass: float, keep: int = 1) -> Array:
    """Keep the tokens whose surprise is nearest to the mean surprise, until their probabilities sum to `mass`."""
    xp = array_namespace(scores)
    log_probabilities = log_softmax(scores)
    distance = xp.abs(-log_probabilities - _entropy(log_probabilities)[:, None])
    order = xp.argsort(distance, axis=1, stable=False)
    distance = xp.take_along_axis(distance, order, axis=1)
    summed = xp.cumulative_sum(softmax(xp.take_along_axis(scores, order, axis=1)), axis=1)
    # the first that reaches the mass
    last = xp.sum(xp.astype(summed < mass, widest_integer(scores)), axis=1, keepdims=True)
    last = xp.minimum(last, xp.full_like(last, scores.shape[1] - 1))
    ranks = xp.arange(scores.shape[1], device=device(scores))
    dropped = (distance > xp.take_along_axis(distance, last, axis=1)) & (ranks >= keep)
    return mask_out(scores, _unsort(dropped, order))


def epsilon_cutoff(scores: Array, epsilon: float, keep: int = 1) -> Array:
    """Drop tokens less likely than `epsilon`, but no more than leaves `keep`."""
    return mask_out(scores, (softmax(scores) < epsilon) & (scores < _kth_largest(scores, keep)))


def eta_cutoff(scores: Array, epsilon: float, keep: int = 1) -> Array:
    """Drop tokens less likely than `epsilon`, or less where the distribution is flat; leave at least `keep`."""
    xp = array_namespace(scores)
    log_probabilities = log_softmax(scores)
    flat = math.sqrt(epsilon) * xp.exp(-_entropy(log_probabilities))
    cutoff = xp.minimum(flat, xp.full_like(flat, epsilon))[:, None]
    return mask_out(scores, (xp.exp(log_probabilities) < cutoff) & (scores < _kth_largest(scores, keep)))


def draw(scores: Array, random: np.random.Generator) -> Array:
    """Draw one token in each row with the probabilities softmax(scores): (N, V) -> (N,).

    Where a uniform number falls among the cumulative probabilities decides. In float64 where there is one: in
    float32 the sum over a vocabulary is off by more than the smallest probabilities.
    """
    xp = array_namespace(scores)
    scores = xp.astype(scores, widest_float(scores))
    largest = xp.max(scores, axis=1, keepdims=True)
    if not bool(xp.all(xp.isfinite(largest))):
        raise ValueError("No token can be drawn: in some row every score is -inf, or one is NaN or +inf.")
    cumulative = xp.cumulative_sum(xp.exp(scores - largest), axis=1)
    uniform = xp.asarray(random.random((scores.shape[0], 1)), dtype=scores.dtype, device=device(scores))
    return xp.sum(xp.astype(cumulative <= uniform * cumulative[:, -1:], widest_integer(scores)), axis=1)


def draw_several(scores: Array, count: int, random: np.random.Generator) -> Array:
    """Draw `count` different tokens in each row, one after the other, without replacement: (N, V) -> (N, count)."""
    xp = array_namespace(scores)
    # Where fewer than `count` tokens are possible, the impossible ones follow after all others.
    scores = xp.astype(scores, widest_float(scores))
    scores = xp.where(scores < -1e30, xp.full_like(scores, -1e30), scores)
    tokens = xp.arange(scores.shape[1], device=device(scores))
    drawn: list[Array] = []
    for _ in range(count):
        drawn.append(draw(scores, random)[:, None])
        scores = mask_out(scores, tokens[None, :] == drawn[-1])
    return xp.concat(drawn, axis=1)


def largest(scores: Array, count: int) -> tuple[Array, Array]:
    """The `count` largest of each row (N, V), largest first, and where they are: two arrays (N, count)."""
    xp = array_namespace(scores)
    if hasattr(xp, "argpartition"):  # not in the array API; much faster than to sort a vocabulary
        candidates = xp.argpartition(scores, -count, axis=1)[:, -count:]
        candidates = xp.sort(candidates, axis=1)
    else:
        candidates = xp.argsort(scores, axis=1, descending=True)[:, :count]
    values = xp.take_along_axis(scores, candidates, axis=1)
    order = xp.argsort(values, axis=1, descending=True)
    return xp.take_along_axis(values, order, axis=1), xp.take_along_axis(candidates, order, axis=1)


def _entropy(log_probabilities: Array) -> Array:
    """Mean surprise in nats, (N, V) -> (N,). A token of probability 0 adds nothing."""
    xp = array_namespace(log_probabilities)
    surprise = xp.where(log_probabilities > -xp.inf, -log_probabilities, xp.zeros_like(log_probabilities))
    return xp.sum(xp.exp(log_probabilities) * surprise, axis=1)


def _kth_largest(scores: Array, k: int) -> Array:
    """The k-th largest score of each row (the smallest, where there are fewer): (N, V) -> (N, 1)."""
    xp = array_namespace(scores)
    if k == 1:
        return xp.max(scores, axis=1, keepdims=True)
    return largest(scores, min(k, scores.shape[1]))[0][:, -1:]


def _unsort(values: Array, order: Array) -> Array:
    """Put values that stand in the sorted order of `order` back in the order of the vocabulary: (N, V)."""
    xp = array_namespace(values)
    return xp.take_along_axis(values, xp.argsort(order, axis=1, stable=False), axis=1)
