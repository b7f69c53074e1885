"""The shortest way to write GPT-Neo down in NumPy, as picoGPT does for GPT-2: no cache, one head at a time.

What speed costs a reader can be judged against this: it is all there is to the model, in float32.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from benchmarks.peers.decoded import Decoded

Array = Any  # of NumPy
Params = dict[str, Array]


def gelu(x: Array) -> Array:
    """The tanh form."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x: Array) -> Array:
    """Over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer_norm(x: Array, p: Params, name: str) -> Array:
    """Over the last axis."""
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return p[f"{name}.weight"] * (x - mean) / np.sqrt(variance + 1e-5) + p[f"{name}.bias"]


def attention(x: Array, p: Params, name: str, heads: int, window: int | None) -> Array:
    """Every head over all pairs of positions, masked afterwards."""
    i, j = np.indices((len(x), len(x)))
    seen = (j <= i) if window is None else (j <= i) & (i - j < window)
    q, k, v = (np.split(x @ p[f"{name}.{which}_proj.weight"].T, heads, axis=-1) for which in "qkv")
    out = [softmax(np.where(seen, q[h] @ k[h].T, np.float32(-1e9))) @ v[h] for h in range(heads)]
    return np.hstack(out) @ p[f"{name}.out_proj.weight"].T + p[f"{name}.out_proj.bias"]


def gpt_neo(ids: Array, p: Params, heads: int, windows: list[int | None]) -> Array:
    """Tokens (T,) to logits (T, V)."""
    x = p["wte.weight"][ids] + p["wpe.weight"][: len(ids)]
    for i, window in enumerate(windows):
        x = x + attention(layer_norm(x, p, f"h.{i}.ln_1"), p, f"h.{i}.attn.attention", heads, window)
        inner = layer_norm(x, p, f"h.{i}.ln_2") @ p[f"h.{i}.mlp.c_fc.weight"].T + p[f"h.{i}.mlp.c_fc.bias"]
        x = x + gelu(inner) @ p[f"h.{i}.mlp.c_proj.weight"].T + p[f"h.{i}.mlp.c_proj.bias"]
    return layer_norm(x, p, "ln_f") @ p["wte.weight"].T


class Model:
    """A checkpoint, loaded."""

    def __init__(self, checkpoint: str) -> None:
        config = json.loads((Path(checkpoint) / "config.json").read_text())
        params = load_file(Path(checkpoint) / "model.safetensors")
        self.params = {name.removeprefix("transformer."): array for name, array in params.items()}
        self.heads = config["num_heads"]
        self.windows = [config["window_size"] if kind == "local" else None for kind in config["attention_layers"]]

    def _run(self, ids: Array) -> Array:
        return gpt_neo(ids, self.params, self.heads, self.windows)

    def logits(self, ids: Array, last: int) -> Array:
        """Logits of the last positions, for comparing peers."""
        return np.stack([self._run(row)[-last:] for row in ids])

    def forward(self, ids: Array, logits_to_keep: int = 0) -> float:
        """Seconds of one forward pass; it knows nothing of keeping fewer logits."""
        start = time.perf_counter()
        for row in ids:
            self._run(row)
        return time.perf_counter() - start

    def decode(self, ids: Array, new_tokens: int) -> Decoded:
        """Greedy generation of one row: the whole text again for every token."""
        tokens, start = ids[0], time.perf_counter()
        for _ in range(new_tokens):
            tokens = np.append(tokens, self._run(tokens)[-1].argmax())
        each = (time.perf_counter() - start) / new_tokens
        return Decoded([tokens[ids.shape[1] :].tolist()], each, each, new_tokens)
