"""Attention for training, fast: in blocks of queries, keeping what backward reads.

Dimensions: B batch, H heads, T positions, d head size, R rows of a block, K keys that a block sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from minineo.arrays import Array
from minineo.fast.attention import mask_block

ROWS = 64  # queries in a block: a local layer of a short window then computes few scores that it masks
LARGEST = 30.0  # exponentials of scores up to here, times gradients of any usual size, are far from float32's limits

Block = tuple[int, slice, slice]


def blocks(B: int, T: int, window: int | None) -> Iterator[Block]:
    """Where to look: row of the batch, queries, and the keys that any of these queries sees."""
    for b in range(B):
        for start in range(0, T, ROWS):
            stop = min(start + ROWS, T)
            first = 0 if window is None else max(0, start + 1 - window)
            yield b, slice(start, stop), slice(first, stop)


def room_for_exponentials(B: int, H: int, T: int, window: int | None) -> int:
    """How many numbers `attention_to_keep` keeps of its pattern."""
    return sum(
        H * (queries.stop - queries.start) * (keys.stop - keys.start) for _, queries, keys in blocks(B, T, window)
    )


def attention_to_keep(
    q: Array,
    k: Array,
    v: Array,
    window: int | None,
    real: Array | None,
    mask: Array | None,
    z: Array,
    exponentials: Array,
    sums: Array,
) -> None:
    """As `minineo.layers.attention.attention`, into z (B, H, T, d); mask (B, H, T, T) is dropout's, or None.

    What backward needs of the pattern goes into `exponentials`, one block after the other, and `sums` (B, H, T, 1). The
    pattern is their quotient, but that division can wait until it is one of z, which is far smaller.
    """
    B, H, T, _ = q.shape
    ones = np.ones((T, 1), q.dtype)
    # Softmax subtracts each row's maximum so that no exponential overflows. No score is larger than the longest query
    # times the longest key; where that is small, there is nothing to fear, and two of six passes can be left out.
    small = real is None and math.sqrt(np.vecdot(q, q).max() * np.vecdot(k, k).max()) <= LARGEST
    for (b, queries, keys), scores in _kept(exponentials, B, H, T, window):
        np.matmul(q[b, :, queries], k[b, :, keys].swapaxes(-1, -2), out=scores)
        shift = None if window is None else keys.start - (queries.start + 1 - window)
        mask_block(scores, shift, None if real is None or real[b, keys].all() else ~real[b, keys])
        if not small:
            scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        total = np.matmul(scores, ones[keys], out=sums[b, :, queries])
        mixed = scores if mask is None else scores * mask[b, :, queries, keys]
        np.divide(np.matmul(mixed, v[b, :, keys]), total, out=z[b, :, queries])


def attention_backward(
    dz: Array,
    q: Array,
    k: Array,
    v: Array,
    window: int | None,
    real: Array | None,
    mask: Array | None,
    z: Array,
    exponentials: Array,
    sums: Array,
    dq: Array,
    dk: Array,
    dv: Array,
) -> None:
    """Gradients of `attention_to_keep` into dq, dk and dv, from dz; all (B, H, T, d)."""
    B, H, T, _ = q.shape
    dk[...] = 0.0
    dv[...] = 0.0
    for (b, queries, keys), exponential in _kept(exponentials, B, H, T, window):
        total = sums[b, :, queries]
        # the pattern is exponential / total: divide the small dz, not the pattern
        dz_block = dz[b, :, queries] / total
        dropped = exponential if mask is None else exponential * mask[b, :, queries, keys]
        dv[b, :, keys] += np.matmul(dropped.swapaxes(-1, -2), dz_block)
        dscores = np.matmul(dz_block, v[b, :, keys].swapaxes(-1, -2))
        if mask is not None:
            dscores *= mask[b, :, queries, keys]
        # Softmax: take off the mean weighted by the pattern, which is dz . z whatever the keys (Dao et al. 2022); then
        # what rounding has left of it, as the reference does.
        dscores -= np.vecdot(dz_block, z[b, :, queries])[..., None]
        dscores -= np.vecdot(exponential, dscores)[..., None] / total
        dscores *= exponential
        if real is not None:
            np.copyto(dscores, 0.0, where=~real[b, keys])
        np.matmul(dscores, k[b, :, keys], out=dq[b, :, queries])
        dk[b, :, keys] += np.matmul(dscores.swapaxes(-1, -2), q[b, :, queries])


def _kept(exponentials: Array, B: int, H: int, T: int, window: int | None) -> Iterator[tuple[Block, Array]]:
    """Each block with its part of `exponentials`, (H, R, K)."""
    offset = 0
    for block in blocks(B, T, window):
        _, queries, keys = block
        shape = (H, queries.stop - queries.start, keys.stop - keys.start)
        yield block, exponentials[offset : offset + math.prod(shape)].reshape(shape)
        offset += math.prod(shape)
