"""Attention, fast: in blocks of queries that look only at the keys they can see.

Dimensions: B batch, H heads, T new positions (queries), S positions seen (keys), d head size, R rows of a block.
"""

from __future__ import annotations

import math

import numpy as np

from minineo.arrays import Array
from minineo.layers import attention as reference
from minineo.tap import Tap, no_tap

ROWS = 128  # queries in a block: with 2,048 keys its scores take 1 MiB, which stays in a core's cache

# What to add to the scores of a block: column j of its last R keys lies ahead of row i where j > i; column j of the
# first R keys lies before the window of row i where j < i.
_AHEAD = np.where(np.tri(ROWS, dtype=bool), np.float32(0.0), np.float32(-math.inf))
_BEHIND = _AHEAD.T.copy()


def attention(
    q: Array, k: Array, v: Array, window: int | None = None, real: Array | None = None, tap: Tap = no_tap
) -> Array:
    """As `minineo.layers.attention.attention`, where nobody asks for the scores.

    The reference makes (B, H, T, S) scores, masks more than half of them and goes over all six times. Here a block of
    queries meets only the keys that its mask leaves: half of them in a global layer, about `window` in a local one, so
    that its cost grows with T times window. Its scores stay in the cache from the first product to the second, and
    the result is divided by the sums where the reference divides the far larger pattern.
    """
    if tap is not no_tap or q.dtype.itemsize < 4:
        return reference.attention(q, k, v, window, real, tap)
    B, H, T, d = q.shape
    S = k.shape[2]
    if T == 1 and (window is None or window >= S):
        return _attend_from_one(q, k, v, real)
    # made as (B, T, H, d), so that putting the heads side by side again needs no copy
    z = np.empty((B, T, H, d), v.dtype).transpose(0, 2, 1, 3)
    # one piece of memory for the scores of all blocks: new memory costs more than the product that fills it
    scratch = np.empty(max(ROWS * 2048, min(ROWS, T) * S), q.dtype)
    ones = np.ones(S, q.dtype)
    for start in range(0, T, ROWS):
        stop = min(start + ROWS, T)
        last = S - T + stop
        reach = 0 if window is None else S - T + start + 1 - window  # first key in the first query's window
        first = max(0, reach)
        for b in range(B):
            padding = None if real is None or real[b, first:last].all() else ~real[b, first:last]
            for heads in _groups(H, (stop - start) * (last - first)):
                shape = (heads.stop - heads.start, stop - start, last - first)
                scores = scratch[: math.prod(shape)].reshape(shape)
                np.matmul(q[b, heads, start:stop], k[b, heads, first:last].swapaxes(-1, -2), out=scores)
                mask_block(scores, None if window is None else first - reach, padding)
                scores -= scores.max(axis=-1, keepdims=True)
                np.exp(scores, out=scores)
                sums = np.matmul(scores, ones[: last - first])  # faster than sum, as a matrix product
                part = np.matmul(scores, v[b, heads, first:last])
                np.divide(part, sums[:, :, None], out=z[b, heads, start:stop])
    return z


def _attend_from_one(q: Array, k: Array, v: Array, real: Array | None) -> Array:
    """Attention of a single query (B, H, 1, d), as in decoding: it sees every key, so there is nothing to mask."""
    scores = np.matmul(q, k.swapaxes(-1, -2))
    if real is not None:
        np.copyto(scores, np.finfo(scores.dtype).min, where=~real[:, None, None, :])
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    z = np.matmul(scores, v)
    z /= np.add.reduce(scores, axis=-1, keepdims=True)
    return z


def _groups(H: int, size: int) -> list[slice]:
    """Heads in groups whose scores, `size` for each head, fit the cache together."""
    step = max(1, min(H, ROWS * 2048 // size))
    return [slice(i, min(i + step, H)) for i in range(0, H, step)]


def mask_block(scores: Array, shift: int | None, padding: Array | None) -> None:
    """Mask the scores (G, R, K) of one block in place: padding, what lies ahead, and what lies before the window.

    `shift` is how many of the first query's window lie before the first key; None in a global layer.
    """
    R = scores.shape[-2]
    if padding is not None:
        np.copyto(scores, np.finfo(scores.dtype).min, where=padding)
    if R > 1:
        scores[..., -R:] += _AHEAD[:R, :R]
        if shift is not None and shift < R:
            behind = scores[..., : R - shift]
            behind += _BEHIND[:R, shift : shift + behind.shape[-1]]
