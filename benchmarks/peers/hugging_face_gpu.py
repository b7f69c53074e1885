"""Hugging Face transformers on torch with a GPU, eager."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.peers.decoded import Decoded, Stamps

messages: Any = transformers.logging
messages.set_verbosity_error()
messages.disable_progress_bar()


class Model:
    """A checkpoint, loaded; seconds are those until the GPU is done."""

    def __init__(self, checkpoint: str, dtype: str = "float32") -> None:
        model: Any = transformers.GPTNeoForCausalLM.from_pretrained(checkpoint, dtype=getattr(torch, dtype))
        self.model = model.eval().to("cuda")
        self.optimiser: Any = None

    @torch.no_grad()
    def logits(self, ids: np.ndarray, last: int) -> np.ndarray:
        """Logits of the last positions, for comparing peers."""
        return np.asarray(self.model(torch.from_numpy(ids).cuda(), use_cache=False).logits[:, -last:].float().cpu())

    @torch.no_grad()
    def forward(self, ids: np.ndarray) -> float:
        """Seconds of one forward pass."""
        tensor = torch.from_numpy(ids).cuda()
        torch.cuda.synchronize()
        start = time.perf_counter()
        self.model(tensor, use_cache=False)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    def decode(self, ids: np.ndarray, new_tokens: int) -> Decoded:
        """Greedy generation."""
        tensor, stamps = torch.from_numpy(ids).cuda(), Stamps()
        output = self.model.generate(
            tensor,
            attention_mask=torch.ones_like(tensor),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
            streamer=stamps,
        )
        return stamps.decoded(output[:, ids.shape[1] :].cpu().numpy(), new_tokens)

    def step(self, windows: np.ndarray) -> float:
        """Seconds of a training step on windows (B, T + 1)."""
        if self.optimiser is None:
            self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.1)
        start = time.perf_counter()
        tensor = torch.from_numpy(windows).cuda()
        self.optimiser.zero_grad()
        logits = self.model(tensor[:, :-1], use_cache=False).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tensor[:, 1:].flatten()).backward()
        self.optimiser.step()
        torch.cuda.synchronize()
        return time.perf_counter() - start
