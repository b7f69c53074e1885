"""Causal self-attention (Vaswani et al. 2017), global or within a window, as GPT-Neo has it (Black et al. 2021).

Two things set GPT-Neo apart. Scores are *not* divided by the square root of the head size. And in a local layer a
position sees only the `window` latest positions, itself among them (after Child et al. 2019); layers alternate between
local and global, so that what is too far away for one layer arrives through the next.

Dimensions: B batch, H heads, T new positions (queries), S positions seen (keys: those cached, then the new ones),
d head size, D = H * d hidden size.
"""

from __future__ import annotations

import math

from array_api_compat import array_namespace

from minineo.arrays import Array, at_least_float32, device_of, scalar
from minineo.layers.dropout import Masks, dropout, dropout_backward, no_masks
from minineo.layers.softmax import softmax, softmax_backward
from minineo.tap import Tap, no_tap


def split_heads(x: Array, num_heads: int) -> Array:
    """Give each head its own slice of the hidden size: (B, T, D) -> (B, H, T, d)."""
    xp = array_namespace(x)
    B, T, D = x.shape
    return xp.permute_dims(xp.reshape(x, (B, T, num_heads, D // num_heads)), (0, 2, 1, 3))


def merge_heads(x: Array) -> Array:
    """Put the heads side by side again: (B, H, T, d) -> (B, T, D)."""
    xp = array_namespace(x)
    B, H, T, d = x.shape
    return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (B, T, H * d))


def visible(T: int, S: int, window: int | None, like: Array) -> Array:
    """Which keys each query may look at: (T, S) booleans, in the array library and on the device of `like`.

    The queries are the last T of the S positions. Position i sees position j where 0 <= i - j, and in a local layer
    i - j < window.

    >>> visible(4, 4, 2, np.zeros(1)).astype(int)
    array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [0, 1, 1, 0],
           [0, 0, 1, 1]])
    """
    xp = array_namespace(like)
    positions = xp.arange(S, device=device_of(like))
    distance = positions[S - T :, None] - positions[None, :]
    return distance >= 0 if window is None else (distance >= 0) & (distance < window)


def attention(
    q: Array,
    k: Array,
    v: Array,
    window: int | None = None,
    real: Array | None = None,
    tap: Tap = no_tap,
    masks: Masks = no_masks,
) -> Array:
    """Mix the values of the positions that each position looks at, in the proportions that its scores give.

    q (B, H, T, d), k and v (B, H, S, d), where the queries are the last T of the S positions; `window` is None in a
    global layer; real (B, S) booleans are False at padding, None where there is none -> (B, H, T, d).

    Intermediates: `scores` after masking and `pattern`, both (B, H, T, S) and never narrower than float32; `z` is the
    result. Dropout is for the pattern: in training some positions are not seen, at random.
    """
    xp = array_namespace(q, k, v)
    # float32 whatever the weights are: unscaled scores overflow float16
    scores = at_least_float32(q) @ xp.matrix_transpose(at_least_float32(k))
    # What lies ahead or before the window is -inf: never seen. Padding gets the smallest number there is: not seen
    # beside anything else, but a row in which all is padding (nobody reads it) then mixes evenly instead of dividing
    # zero by zero. (Hugging Face lets such a row see past its window, too; no other row differs.)
    if real is not None:
        scores = xp.where(real[:, None, None, :], scores, scalar(float(xp.finfo(scores.dtype).min), like=scores))
    seen = visible(q.shape[2], k.shape[2], window, like=q)
    scores = tap("scores", xp.where(seen, scores, scalar(-math.inf, like=scores)))
    pattern = tap("pattern", softmax(scores))
    dropped = dropout(pattern, masks("pattern", pattern.shape, pattern))
    return tap("z", xp.astype(dropped, v.dtype, copy=False) @ v)


def attention_backward(
    dz: Array, q: Array, k: Array, v: Array, pattern: Array, real: Array | None = None, masks: Masks = no_masks
) -> tuple[Array, Array, Array]:
    """Gradients of `attention`, global or local, from what it took and its intermediate `pattern` (B, H, T, S).

    dz (B, H, T, d) -> dq (B, H, T, d), dk and dv (B, H, S, d).
    """
    xp = array_namespace(dz, q, k, v, pattern)
    wide_dz = xp.astype(dz, pattern.dtype, copy=False)
    wide_q, wide_k, wide_v = (xp.astype(x, pattern.dtype, copy=False) for x in (q, k, v))
    mask = masks("pattern", pattern.shape, pattern)
    # z = pattern v is a product of two factors: each one's gradient is dz times the other, transposed
    dv = xp.matrix_transpose(dropout(pattern, mask)) @ wide_dz
    dpattern = dropout_backward(wide_dz @ xp.matrix_transpose(wide_v), mask)
    # No mask is needed here: where it hid a key the pattern is 0, and so is the gradient. Only a row in which all is
    # padding has a pattern that is not 0 there; its scores were replaced by a constant, which has no gradient.
    dscores = softmax_backward(dpattern, pattern)
    if real is not None:
        dscores = xp.where(real[:, None, None, :], dscores, xp.zeros_like(dscores))
    # scores = q k^T: as above
    dq = dscores @ wide_k
    dk = xp.matrix_transpose(dscores) @ wide_q
    return (
        xp.astype(dq, q.dtype, copy=False),
        xp.astype(dk, k.dtype, copy=False),
        xp.astype(dv, v.dtype, copy=False),
    )
