"""Parameters of the cases in flax.json, drawn by the script that writes them and by the test that replays them."""

from __future__ import annotations

import math

import numpy as np


def drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Parameters by Flax's names, `a/b/kernel`, all random."""
    random = np.random.RandomState(seed)
    params = {}
    for name in sorted(shapes):
        values = random.standard_normal(shapes[name])
        if name.endswith("scale"):
            values = 1.0 + 0.3 * values
        elif name.endswith("kernel"):
            values *= (2.5 if "q_proj" in name or "k_proj" in name else 1.0) / math.sqrt(shapes[name][0])
        else:
            values *= 0.5
        params[name] = values.astype(np.float32)
    return params
