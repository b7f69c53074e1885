"""Attention patterns in few bytes: eight bits a weight, only what a query can see and, of long texts, the largest.

A weight w becomes the code round(255 sqrt(w)) and is read back as (code / 255)^2. The square root gives small weights
most of the codes: the error is at most sqrt(w) / 255 + 4e-6, 0.4 points of 100 % and 0.04 points of 1 %.

Dimensions: L layers, H heads, T positions, P cells along one side of a thumbnail, R rows of a block, N entries kept.
"""

from __future__ import annotations

import base64
import zlib

import numpy as np

CELLS = 64  # most cells along one side of a thumbnail
DENSE_LIMIT = 8_000_000  # weights up to which a document holds all of them
KEEP = 32  # entries of a row that are kept where it does not
ROWS = 256  # rows whose largest entries are found at a time: only the keys that they see need be looked at


def quantise(weights: np.ndarray) -> np.ndarray:
    """Codes (uint8) of weights between 0 and 1."""
    codes: np.ndarray = np.rint(255.0 * np.sqrt(np.clip(weights, 0.0, 1.0))).astype(np.uint8)
    return codes


def visible_entries(T: int, window: int | None) -> int:
    """How many weights a pattern has that the mask does not hide.

    >>> visible_entries(4, None), visible_entries(4, 2)
    (10, 7)
    """
    reach = T if window is None else min(window, T)
    return reach * (reach + 1) // 2 + (T - reach) * reach


def encode_dense(pattern: np.ndarray, window: int | None) -> bytes:
    """All visible weights of one head's pattern (T, T): codes, row after row."""
    codes = quantise(pattern[_seen(len(pattern), window)])
    return codes.tobytes()


def encode_sparse(pattern: np.ndarray, window: int | None, keep: int) -> bytes:
    """The `keep` largest weights of each row of one head's pattern (T, T), without those whose code is 0.

    First one byte a row: how many of its weights are kept. Then one byte a row: the code of what the others add up to.
    Then the kept keys in ascending order, each as its distance from the one before in that row (the first from the
    first key that the row sees), in one byte, or in three: 255 and the distance, low byte first. Then their codes.
    """
    T = len(pattern)
    parts = [_kept_entries(pattern, window, keep, start, min(start + ROWS, T)) for start in range(0, T, ROWS)]
    counts, rest, distances, codes = (np.concatenate(part) for part in zip(*parts, strict=True))
    return b"".join([counts.tobytes(), quantise(rest).tobytes(), _pack_distances(distances), codes.tobytes()])


def _kept_entries(
    pattern: np.ndarray, window: int | None, keep: int, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of rows `start` to `stop`: entries kept (R,), sums of the others (R,), distances between keys and codes (N,)."""
    first_seen = np.arange(start, stop) * 0 if window is None else np.maximum(np.arange(start, stop) - window + 1, 0)
    left = int(first_seen[0])  # what lies before it no row of the block sees
    weights = pattern[start:stop, left:stop]
    codes = quantise(weights)
    kept = codes > 0
    if keep < stop - left:
        largest = np.argpartition(weights, -keep, axis=1)[:, -keep:]
        among = np.zeros_like(kept)
        np.put_along_axis(among, largest, True, axis=1)
        kept &= among
    rows, keys = np.nonzero(kept)
    begins_row = np.diff(rows, prepend=-1) > 0
    before = np.where(begins_row, first_seen[rows] - left, np.roll(keys, 1))
    rest = np.where(kept, 0.0, weights).sum(axis=1)
    return kept.sum(axis=1).astype(np.uint8), rest, keys - before, codes[kept]


def thumbnail(pattern: np.ndarray) -> np.ndarray:
    """Codes (P, P) of one head's pattern (T, T), the largest weight of each cell; P is T or, if less, `CELLS`."""
    T = len(pattern)
    P = min(T, CELLS)
    edges = np.arange(P) * T // P
    pooled = np.maximum.reduceat(np.maximum.reduceat(pattern, edges, axis=0), edges, axis=1)
    return quantise(pooled)


def compress(data: bytes) -> str:
    """Bytes as the page holds them: zlib's format, in base64."""
    return base64.b64encode(zlib.compress(data, 6)).decode("ascii")


def _seen(T: int, window: int | None) -> np.ndarray:
    """Which keys each query may look at, (T, T) booleans."""
    seen = np.tri(T, dtype=bool)
    return seen if window is None else seen & ~np.tri(T, k=-window, dtype=bool)


def _pack_distances(distances: np.ndarray) -> bytes:
    """Distances in one byte each, or in three where one does not hold them."""
    long = distances >= 255
    sizes = np.where(long, 3, 1)
    places = np.cumsum(sizes) - sizes
    packed = np.zeros(int(sizes.sum()), np.uint8)
    packed[places] = np.minimum(distances, 255)
    packed[places[long] + 1] = distances[long] & 255
    packed[places[long] + 2] = distances[long] >> 8
    return packed.tobytes()
