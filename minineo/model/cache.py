"""Key-value cache: keys and values of the positions already seen, so that a continuation computes only new ones.

Dimensions: B batch, H heads, S positions kept, T new positions, d head size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from array_api_compat import array_namespace

from minineo.arrays import Array

KeysAndValues = tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class Cache:
    """What a forward pass leaves for the next: per layer the keys and values (B, H, S, d), and the positions seen.

    Nothing is ever written into a cache. Each forward pass makes a new one, and the one that it was given can be
    continued in another way. A local layer keeps the `window_size - 1` latest positions: the next position sees
    those and itself.
    """

    layers: tuple[KeysAndValues, ...] = field(repr=False)
    length: int

    def get_seq_length(self) -> int:
        """Number of positions seen so far, padding included (a local layer may have dropped some of them)."""
        return self.length

    def select(self, rows: Array) -> Cache:
        """The cache of some rows of the batch, in the order of the integer array `rows`, repeats allowed."""
        xp = array_namespace(rows, *self.layers[0])
        return Cache(tuple((xp.take(k, rows, axis=0), xp.take(v, rows, axis=0)) for k, v in self.layers), self.length)

    def __len__(self) -> int:
        """Number of layers, as of the tuple of pairs that Hugging Face's models once returned."""
        return len(self.layers)

    def __getitem__(self, layer: int) -> KeysAndValues:
        return self.layers[layer]

    def __iter__(self) -> Iterator[KeysAndValues]:
        return iter(self.layers)


def kept_positions(seen: int, window: int | None) -> int:
    """How many of the positions seen so far a layer keeps: all, or those that the next query can still see."""
    return seen if window is None else min(seen, window - 1)


def append(past: KeysAndValues | None, k: Array, v: Array) -> KeysAndValues:
    """Put new keys and values (B, H, T, d) after those of the past."""
    if past is None:
        return k, v
    xp = array_namespace(k, *past)
    return xp.concat([past[0], k], axis=2), xp.concat([past[1], v], axis=2)


def forget(kv: KeysAndValues, window: int | None) -> KeysAndValues:
    """Drop the oldest positions: of those so far, the next query of a local layer sees the window - 1 latest."""
    S = kv[0].shape[2]
    first = S - kept_positions(S, window)
    if first == 0:
        return kv
    xp = array_namespace(*kv)
    k, v = kv
    # copies, since a view would keep the dropped positions in memory
    return xp.asarray(k[:, :, first:, :], copy=True), xp.asarray(v[:, :, first:, :], copy=True)


def rewind(kv: KeysAndValues, before: KeysAndValues, new: int, kept: int) -> KeysAndValues:
    """Take back all but the first `kept` of the `new` positions by which `kv` continued `before`.

    What the window has dropped since then comes back from `before`. A local layer that has dropped some of the new
    positions, too, can only lose all of them or none (`kept` is 0 or `new`): else it is a `ValueError`.
    """
    S, past = kv[0].shape[2], before[0].shape[2]
    if kept == new:
        return kv
    if kept == 0:
        return before
    if past + new == S:
        return kv[0][:, :, : past + kept, :], kv[1][:, :, : past + kept, :]
    if new > S:
        raise ValueError(f"rewind: a layer that keeps {S} positions cannot take back some of {new}; continue by fewer.")
    xp = array_namespace(*before, *kv)
    dropped, first = max(0, past + kept - S), S - new
    k, v = (
        xp.concat([old[:, :, dropped:, :], now[:, :, first : first + kept, :]], axis=2)
        for old, now in zip(before, kv, strict=True)
    )
    return k, v
