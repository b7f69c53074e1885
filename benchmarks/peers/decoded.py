"""What a peer says of one call of `generate`, and the streamer that times it from outside."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Decoded:
    """One call of `generate`."""

    tokens: list[list[int]]  # new ones, row by row
    first: float  # seconds until the first new token: reading the prompt
    each: float  # seconds for each step after it; with speculative decoding, for each token
    steps: int  # how often the model was asked, the first time included

    @property
    def new_tokens(self) -> int:
        """How many tokens each row got."""
        return len(self.tokens[0])


class Stamps:
    """A streamer, as minineo and transformers take it, that notes when the prompt and each token came by.

    It sees what a user sees: all the work around the model is in the figures.
    """

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.times: list[float] = []
        self.sizes: list[int] = []

    def put(self, value: Any) -> None:
        """Called with the prompt, then with each new token."""
        self.times.append(time.perf_counter())
        self.sizes.append(math.prod(value.shape))

    def end(self) -> None:
        """Called at the end."""

    def decoded(self, tokens: np.ndarray, expected: int, steps: int | None = None) -> Decoded:
        """The result, given the new tokens (B, N), and how often the model ran, if not once for each call of `put`."""
        if tokens.shape[1] != expected:
            raise ValueError(f"the end token came up after {tokens.shape[1]} of {expected} tokens")
        first, *later = self.times[1:]
        rest = expected - self.sizes[1] // len(tokens)  # speculative decoding may bring several tokens at once
        each = (later[-1] - first) / rest if rest else (first - self.start) / expected
        return Decoded(tokens.tolist(), first - self.start, each, steps or 1 + len(later))
