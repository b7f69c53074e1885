"""Windows of training data: what a step learns from, drawn in an order that is fixed by a seed.

Dimensions: B windows of a batch, N tokens of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from minineo.arrays import Array


def windows(tokens: Array, length: int, batch_size: int, seed: int, step: int) -> Array:
    """Draw the batch of a step, the same whenever it is drawn: `windows[:, :-1]` are inputs, `windows[:, 1:]` targets.

    The tokens are read as a ring, the first after the last (which ends a document, as any other end of text does). In
    each epoch the ring is cut, beginning at another token, into windows of `length` targets, each with the token before
    its first target; so every token is a target once. (Where `length` does not divide N, the last window runs on
    into the first: fewer than `length` tokens are targets twice, others in each epoch.) The windows of an epoch come
    in random order, those of the next follow at once, within a batch too.

    Args:
        tokens: (N,) ids, such as the `tokens` of a `TokenFile`.
        length: targets of a window.
        batch_size: B.
        seed: 0 or more; another seed gives another order.
        step: which batch, from 0 on.

    Returns:
        (B, length + 1), int64.

    Raises:
        ValueError: when a window does not fit into the tokens, or an argument is not in its range.
    """
    per_epoch = windows_per_epoch(tokens, length)
    for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("step", step, 0)):
        _check(name, value, least)
    numbers = range(step * batch_size, (step + 1) * batch_size)
    starts = [_starts(len(tokens), length, seed, number // per_epoch)[number % per_epoch] for number in numbers]
    return tokens[(np.array(starts)[:, None] + np.arange(length + 1)) % len(tokens)].astype(np.int64)


def windows_per_epoch(tokens: Array, length: int) -> int:
    """How many windows of `length` targets make every token (N,) a target; raises what `windows` raises."""
    _check("length", length, 1)
    _check_tokens(tokens, length)
    return -(-len(tokens) // length)


@lru_cache(maxsize=4)
def _starts(total: int, length: int, seed: int, epoch: int) -> Array:
    """Where the windows of an epoch begin, in the order in which they are drawn.

    The order sorts random numbers, since NumPy promises that a bit generator's numbers stay what they are in later
    versions, but not that `Generator.permutation` does; and a run may be resumed with another version.
    """
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch,)))
    first = bits.random_raw() % total
    order = np.argsort(bits.random_raw(-(-total // length)), kind="stable")
    starts = (first + order * length) % total
    starts.setflags(write=False)  # the cache gives the same array to every caller
    return starts


def validation_windows(tokens: Array, length: int) -> Iterator[Array]:
    """Cut tokens (N,) into consecutive windows (1, length + 1), int64: each token but the first is a target once.

    The last window is shorter where `length` does not divide N - 1; a mean over windows has to be weighted by targets.

    Raises:
        ValueError: when there are fewer than two tokens, or an argument is not in its range.
    """
    _check("length", length, 1)
    _check_tokens(tokens, 1)
    return (tokens[None, i : i + length + 1].astype(np.int64) for i in range(0, len(tokens) - 1, length))


def _check(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: received {value!r}, expected an integer of {least} or more.")


def _check_tokens(tokens: Array, length: int) -> None:
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise ValueError(f"tokens: received {tokens.dtype} {tokens.shape}, expected integers of one dimension.")
    if len(tokens) < length + 1:
        raise ValueError(
            f"tokens: the text has {len(tokens)} tokens, and a window of length {length} needs {length + 1}. "
            "Use more text, or shorter windows."
        )
