"""A training step of minineo, as `minineo train` makes it."""

from __future__ import annotations

import time

import numpy as np

import minineo
from minineo.training.optimisers import AdamW
from minineo.training.step import TrainingStep


class Model:
    """A checkpoint, loaded, with its optimiser; a batch is shared out among `workers` threads."""

    def __init__(self, checkpoint: str, workers: int) -> None:
        self.model = minineo.GPTNeoForCausalLM.from_pretrained(checkpoint)
        self.loss_and_grads = TrainingStep(self.model, workers)
        self.optimiser = AdamW(weight_decay=0.1)

    def step(self, windows: np.ndarray) -> tuple[float, float]:
        """Seconds of a step on windows (B, T + 1), and the loss."""
        start = time.perf_counter()
        loss, grads = self.loss_and_grads(windows)
        self.optimiser.step(self.model.params, grads, 1e-3, self.loss_and_grads.threads.map)
        return time.perf_counter() - start, loss
