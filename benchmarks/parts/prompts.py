"""Random prompts."""

from __future__ import annotations

import numpy as np


def random_ids(vocab_size: int, *shape: int) -> np.ndarray:
    """Token ids without the end token, the same in every run."""
    return np.random.default_rng(0).integers(0, vocab_size - 1, shape, dtype=np.int64)
