"""Attention, fast: in blocks of queries that look only at the keys they can see.

Dimensions: B batch, H heads, T new positions (queries), S positions seen (keys), d head size, R rows of a block.
"""

from __future__ import annotations

import math

import numpy as np

from minineo.arrays import Array
from minineo.fast.threads import count, each
from minineo.layers import attention as reference
from minineo.tap import Tap, no_tap

ROWS = 128  # queries in a block: with 2,048 keys its scores take 1 MiB, which stays in a core's cache
SCORES = 2 * ROWS * 2048  # of several heads together, where they are short
WORTH_SHARING = 1 << 25  # multiplications: fewer take hardly longer than waking a thread
READING_WORTH_SHARING = 1 << 19  # numbers in the keys: reading 2 MiB takes longer than that

# What to mask of a block: column j of its last R keys lies ahead of row i where j > i; column j of the first R keys
# lies before the window of row i where j < i.
_AHEAD = ~np.tri(ROWS, dtype=bool)
_BEHIND = _AHEAD.T.copy()


def attention(
    q: Array, k: Array, v: Array, window: int | None = None, real: Array | None = None, tap: Tap = no_tap
) -> Array:
    """As `minineo.layers.attention.attention`, where nobody asks for the scores.

    The reference makes (B, H, T, S) scores, masks more than half of them and goes over all six times. Here a block of
    queries meets only the keys that its mask leaves: half of them in a global layer, about `window` in a local one, so
    that its cost grows with T times window. Its scores stay in the cache from the first product to the second, and
    the result is divided by the sums where the reference divides the far larger pattern. Each thread takes some heads.
    """
    if tap is not no_tap or q.dtype.itemsize < 4:
        return reference.attention(q, k, v, window, real, tap)
    B, H, T, d = q.shape
    S = k.shape[2]
    # made as (B, T, H, d), so that putting the heads side by side again needs no copy
    z = np.empty((B, T, H, d), v.dtype).transpose(0, 2, 1, 3)
    if T == 1 and (window is None or window >= S):
        padding = None if real is None or real.all() else ~real[:, None, None, :]
        attend_from_one(q, k, v, padding, np.empty((B, H, 1, S), q.dtype), z)
        return z

    def attend(part: tuple[int, slice]) -> None:
        b, heads = part
        padding = None if real is None or real[b].all() else ~real[b]
        _attend(q[b, heads], k[b, heads], v[b, heads], window, padding, z[b, heads])

    if B * H * T * S * d < WORTH_SHARING:
        for b in range(B):
            attend((b, slice(None)))
    else:
        share, fit = -(-H // count()), max(1, SCORES // (min(ROWS, T) * widest(S, window)))
        step = -(-share // -(-share // fit))  # as many heads each time, so that all threads end together
        each(attend, [(b, slice(i, i + step)) for b in range(B) for i in range(0, H, step)])
    return z


def attend_from_one(q: Array, k: Array, v: Array, padding: Array | None, scores: Array, z: Array) -> None:
    """Attention of a single query into z, both (B, H, 1, d), as in decoding: it sees every key, none is ahead.

    `padding` (B, 1, 1, S) is True at keys that do not count, or None; `scores` (B, H, 1, S) is overwritten.

    Keys and values are read once, faster by several cores than by one, so that threads share the heads of a batch. Not
    those of a single text: BLAS's own threads, which have just multiplied its one row with a weight, keep spinning on
    their cores for a while, and another thread would get there too late.
    """
    B, H = q.shape[:2]
    if B == 1 or k.size < READING_WORTH_SHARING:
        _attend_from_one(q, k, v, padding, scores, z)
        return

    def attend(heads: slice) -> None:
        _attend_from_one(q[:, heads], k[:, heads], v[:, heads], padding, scores[:, heads], z[:, heads])

    step = -(-H // count())
    each(attend, [slice(i, i + step) for i in range(0, H, step)])


def _attend_from_one(q: Array, k: Array, v: Array, padding: Array | None, scores: Array, z: Array) -> None:
    """As `attend_from_one`, for the heads that are given, by the caller's thread."""
    np.matmul(q, k.swapaxes(-1, -2), out=scores)
    if padding is not None:
        np.copyto(scores, np.finfo(scores.dtype).min, where=padding)
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    np.matmul(scores, v, out=z)
    z /= np.add.reduce(scores, axis=-1, keepdims=True)


def widest(S: int, window: int | None) -> int:
    """How many keys a block of queries sees at most."""
    return S if window is None else min(S, window + ROWS)


def _attend(q: Array, k: Array, v: Array, window: int | None, padding: Array | None, z: Array) -> None:
    """Attention of some heads into z: q and z (G, T, d), k and v (G, S, d), padding (S,) or None."""
    (G, T, _), S = q.shape, k.shape[1]
    if T >= ROWS:  # worth laying out what every block of queries reads as its products read it
        k, v = np.ascontiguousarray(k.swapaxes(-1, -2)).swapaxes(-1, -2), np.ascontiguousarray(v)
    # one piece of memory for the scores of all blocks: new memory costs more than the product that fills it
    scratch = np.empty(G * min(ROWS, T) * widest(S, window), q.dtype)
    ones = np.ones(S, q.dtype)
    for start in range(0, T, ROWS):
        stop = min(start + ROWS, T)
        last = S - T + stop
        reach = 0 if window is None else S - T + start + 1 - window  # first key in the first query's window
        first = max(0, reach)
        shape = (G, stop - start, last - first)
        scores = scratch[: math.prod(shape)].reshape(shape)
        np.matmul(q[:, start:stop], k[:, first:last].swapaxes(-1, -2), out=scores)
        shift = None if window is None else first - reach
        mask_block(scores, shift, None if padding is None else padding[first:last])
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        sums = np.matmul(scores, ones[: last - first])  # faster than sum, as a matrix product
        np.divide(np.matmul(scores, v[:, first:last]), sums[:, :, None], out=z[:, start:stop])


def mask_block(scores: Array, shift: int | None, padding: Array | None) -> None:
    """Mask the scores (G, R, K) of one block in place: padding, what lies ahead, and what lies before the window.

    `shift` is how many of the first query's window lie before the first key; None in a global layer.
    """
    R = scores.shape[-2]
    if padding is not None:
        np.copyto(scores, np.finfo(scores.dtype).min, where=padding)
    if R > 1:
        np.copyto(scores[..., -R:], -math.inf, where=_AHEAD[:R, :R])
        if shift is not None and shift < R:
            behind = scores[..., : R - shift]
            np.copyto(behind, -math.inf, where=_BEHIND[:R, shift : shift + behind.shape[-1]])
