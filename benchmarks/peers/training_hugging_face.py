"""A training step of Hugging Face transformers with torch's AdamW."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
import transformers

messages: Any = transformers.logging
messages.set_verbosity_error()
messages.disable_progress_bar()


class Model:
    """A checkpoint, loaded, with its optimiser."""

    def __init__(self, checkpoint: str, threads: int) -> None:
        torch.set_num_threads(threads)
        model: Any = transformers.GPTNeoForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
        self.model = model.train()  # the configuration has no dropout
        matrices = [p for p in model.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if p.ndim != 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3)

    def step(self, windows: np.ndarray) -> tuple[float, float]:
        """Seconds of a step on windows (B, T + 1), and the loss."""
        tensor = torch.from_numpy(windows)
        start = time.perf_counter()
        self.optimizer.zero_grad()
        logits = self.model(tensor[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tensor[:, 1:].flatten())
        loss.backward()
        self.optimizer.step()
        return time.perf_counter() - start, loss.item()
