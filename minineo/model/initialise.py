"""Random parameters for a new model, drawn as Hugging Face draws them (GPT-2's scheme)."""

from __future__ import annotations

import numpy as np

from minineo.config import GPTNeoConfig
from minineo.model.block import Params
from minineo.model.names import Shapes


def initialise(shapes: Shapes, config: GPTNeoConfig, seed: int = 0) -> Params:
    """Draw float32 NumPy parameters of the given names and shapes.

    Matrices and embeddings are normal with standard deviation `initializer_range`, biases 0, layer-norm weights 1.
    """
    random = np.random.default_rng(seed)
    return {name: _draw(name, shape, config.initializer_range, random) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...], scale: float, random: np.random.Generator) -> np.ndarray:
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if len(shape) == 1:  # the only weights that are vectors are those of layer norms
        return np.ones(shape, np.float32)
    return random.standard_normal(shape, np.float32) * np.float32(scale)
