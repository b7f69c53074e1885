"""Minineo on a GPU, as a user calls it."""

from __future__ import annotations

import time
from typing import Any

import cupy
import numpy as np

import minineo
from benchmarks.peers.decoded import Decoded, Stamps
from minineo.training.device_step import DeviceTrainingStep
from minineo.training.optimisers import AdamW


class Model:
    """A checkpoint, loaded; seconds are those until the GPU is done."""

    def __init__(self, checkpoint: str, dtype: str = "float32") -> None:
        self.model = minineo.GPTNeoForCausalLM.from_pretrained(checkpoint, dtype=dtype, device="cuda")
        self.optimiser = AdamW(weight_decay=0.1)

    def logits(self, ids: np.ndarray, last: int) -> np.ndarray:
        """Logits of the last positions, for comparing peers."""
        return np.asarray(self.model(cupy.asarray(ids), use_cache=False).logits[:, -last:].get())

    def forward(self, ids: np.ndarray) -> float:
        """Seconds of one forward pass."""
        moved = cupy.asarray(ids)
        cupy.cuda.Device().synchronize()
        start = time.perf_counter()
        self.model(moved, use_cache=False)
        cupy.cuda.Device().synchronize()
        return time.perf_counter() - start

    def decode(self, ids: np.ndarray, new_tokens: int) -> Decoded:
        """Greedy generation."""
        stamps = Stamps()
        output: Any = self.model.generate(
            cupy.asarray(ids), max_new_tokens=new_tokens, eos_token_id=None, streamer=stamps
        )
        return stamps.decoded(output.get()[:, ids.shape[1] :], new_tokens)

    def step(self, windows: np.ndarray) -> float:
        """Seconds of a training step on windows (B, T + 1)."""
        start = time.perf_counter()
        _, grads = DeviceTrainingStep(self.model)(windows)
        self.optimiser.step(self.model.params, grads, 1e-3)
        cupy.cuda.Device().synchronize()
        return time.perf_counter() - start

    def gpu(self) -> str:
        """The name of the GPU."""
        return str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())

    def bandwidth(self) -> float:
        """Bytes a second that the GPU's memory reads and writes: of the best of ten copies of a gigabyte."""
        source = cupy.ones(2**28, cupy.float32)
        target = cupy.empty_like(source)
        best = np.inf
        for _ in range(10):
            cupy.cuda.Device().synchronize()
            start = time.perf_counter()
            cupy.copyto(target, source)
            cupy.cuda.Device().synchronize()
            best = min(best, time.perf_counter() - start)
        return float(2 * source.nbytes / best)

    def weight_bytes(self) -> int:
        """Bytes that decoding a token has to read: all parameters but the table of positions."""
        return sum(array.nbytes for name, array in self.model.params.items() if not name.endswith("wpe.weight"))
