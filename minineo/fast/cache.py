"""Key-value cache, fast: appended to in place, with no copy that grows with the position.

Dimensions: B batch, H heads, S positions, d head size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from minineo.arrays import Array
from minineo.model import cache as reference
from minineo.model.cache import KeysAndValues, kept_positions

SPARE = 64  # positions that fit in place before a local layer moves its window into a new buffer


@dataclass
class _Buffers:
    """Room for keys and values, (B, H, capacity, d) each, of which the first `filled` positions are taken."""

    k: Array
    v: Array
    filled: int
    lock: Lock = field(default_factory=Lock)

    def claim(self, start: int, stop: int) -> bool:
        """Take positions `start` to `stop`; False unless they are the next, and there is room for them."""
        with self.lock:
            if start != self.filled or stop > self.k.shape[2]:
                return False
            self.filled = stop
            return True

    @classmethod
    def holding(cls, k: Array, v: Array, capacity: int) -> _Buffers:
        B, H, S, d = k.shape
        buffers = cls(np.empty((B, H, capacity, d), k.dtype), np.empty((B, H, capacity, d), v.dtype), S)
        buffers.k[:, :, :S] = k
        buffers.v[:, :, :S] = v
        return buffers


class Kept(tuple[Array, Array]):
    """Keys and values, as views of positions `start` to `stop` of buffers that have room for more behind them.

    A pair of arrays like any other; nothing that it shows ever changes. Whoever appends to the pair that ends where the
    buffers are filled takes the room there; whoever appends to an older one gets buffers of his own.
    """

    buffers: _Buffers
    start: int
    stop: int

    def __new__(cls, buffers: _Buffers, start: int, stop: int) -> Kept:
        """Show positions `start` to `stop` of the buffers."""
        kept = super().__new__(cls, (buffers.k[:, :, start:stop], buffers.v[:, :, start:stop]))
        kept.buffers, kept.start, kept.stop = buffers, start, stop
        return kept

    def __reduce__(self) -> tuple[type, tuple[KeysAndValues]]:
        """Be copied and pickled as a plain pair, without the buffers."""
        return tuple, ((self[0].copy(), self[1].copy()),)


def append(past: KeysAndValues | None, k: Array, v: Array) -> KeysAndValues:
    """As `minineo.model.cache.append`: written behind the past where there is room, copied only where there is none.

    Room doubles whenever it runs out, so that the copies add up to no more than the positions themselves.
    """
    if past is None:
        return k, v
    if past[0].dtype != k.dtype:
        return reference.append(past, k, v)
    S, T = past[0].shape[2], k.shape[2]
    if not isinstance(past, Kept) or not past.buffers.claim(past.stop, past.stop + T):
        capacity = S + T + max(SPARE, S if not isinstance(past, Kept) or past.start == 0 else 0)
        past = Kept(_Buffers.holding(*past, capacity), 0, S)
        past.buffers.claim(S, S + T)
    buffers, stop = past.buffers, past.stop + T
    buffers.k[:, :, past.stop : stop] = k
    buffers.v[:, :, past.stop : stop] = v
    return Kept(buffers, past.start, stop)


def forget(kv: KeysAndValues, window: int | None) -> KeysAndValues:
    """As `minineo.model.cache.forget`: the view moves on; what it leaves behind goes when the buffers are full."""
    S = kv[0].shape[2]
    keep = kept_positions(S, window)
    if isinstance(kv, Kept):
        return Kept(kv.buffers, kv.stop - keep, kv.stop)
    k, v = kv
    room = S if window is None else SPARE
    return Kept(_Buffers.holding(k[:, :, S - keep :], v[:, :, S - keep :], keep + max(SPARE, room)), 0, keep)


def rewind(kv: KeysAndValues, before: KeysAndValues, new: int, kept: int) -> KeysAndValues:
    """As `minineo.model.cache.rewind`: the view moves back, and the room behind it is free to be written again.

    So whoever rewinds a pair gives up the positions that he cuts off: `kv` itself must not be used any more. `before`
    and whatever else ends where the new view does, or earlier, stay as they are.
    """
    if not isinstance(kv, Kept):
        return reference.rewind(kv, before, new, kept)
    stop = kv.stop - new + kept
    start = stop - min(before[0].shape[2] + kept, kv[0].shape[2])
    if start < 0:  # the window has moved into new buffers since `before`, and left there what has to come back
        return reference.rewind(kv, before, new, kept)
    with kv.buffers.lock:
        if kv.stop == kv.buffers.filled:  # else somebody has continued `kv`: the room is his
            kv.buffers.filled = stop
    return Kept(kv.buffers, start, stop)
