"""The limit: nothing but a model's matrix products with its weights, in NumPy, on the same threads.

A model cannot be faster than these, unless it finds a faster product. For one token they read every weight once, so
they run at the speed of the memory; for many they run at the speed of the cores. The products inside attention are left
out (at 2,048 tokens and 125M they add a tenth), and so is everything that is no product.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.peers.decoded import Decoded
from benchmarks.shapes import Shape


class Model:
    """Weights of a shape's size, each in the order of memory, (out, in) or (in, out), whose product is faster here."""

    def __init__(self, shape: Shape) -> None:
        D = shape.hidden_size
        sizes = [(3 * D, D), (D, D), (4 * D, D), (D, 4 * D)] * shape.num_layers + [(shape.vocab_size, D)]
        self.random = np.random.default_rng(0)
        self.weights = [self.random.standard_normal(size, np.float32) for size in sizes]
        self.prepared: tuple[int, list[np.ndarray], list[np.ndarray], list[np.ndarray]] | None = None

    def _prepare(self, tokens: int) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """Inputs, weights as (in, out) views, and outputs for a number of tokens."""
        if self.prepared is None or self.prepared[0] != tokens:
            inputs = {
                n: self.random.standard_normal((tokens, n), np.float32) for n in {w.shape[1] for w in self.weights}
            }
            outputs = {n: np.empty((tokens, n), np.float32) for n in {w.shape[0] for w in self.weights}}
            xs = [inputs[w.shape[1]] for w in self.weights]
            ys = [outputs[w.shape[0]] for w in self.weights]
            laid_out = {w.shape: _faster_layout(x, w, y) for x, w, y in zip(xs, self.weights, ys, strict=True)}
            weights = [np.ascontiguousarray(w.T) if laid_out[w.shape] == "in, out" else w.T for w in self.weights]
            self.prepared = tokens, xs, weights, ys
        return self.prepared[1:]

    def forward(self, ids: np.ndarray, logits_to_keep: int = 0) -> float:
        """Seconds of the products of one forward pass."""
        xs, weights, ys = self._prepare(ids.size)
        start = time.perf_counter()
        for x, weight, y in zip(xs[:-1], weights[:-1], ys[:-1], strict=True):
            np.matmul(x, weight, out=y)
        keep = logits_to_keep or ids.size  # the last weight is the head
        np.matmul(xs[-1][:keep], weights[-1], out=ys[-1][:keep])
        return time.perf_counter() - start

    def decode(self, ids: np.ndarray, new_tokens: int, mask: np.ndarray | None = None) -> Decoded:
        """The products of that many tokens, of a single row: a batch cannot read the weights any faster than that."""
        each = sum(self.forward(ids[:1, :1]) for _ in range(new_tokens)) / new_tokens
        return Decoded([[0] * new_tokens] * len(ids), each, each, new_tokens)

    def weight_bytes(self) -> int:
        """Bytes read for one token."""
        return sum(weight.nbytes for weight in self.weights)

    def operations(self, tokens: int) -> int:
        """Multiplications and additions for that many tokens."""
        return 2 * tokens * sum(weight.size for weight in self.weights)


def _faster_layout(x: np.ndarray, weight: np.ndarray, y: np.ndarray) -> str:
    candidates = {"out, in": weight.T, "in, out": np.ascontiguousarray(weight.T)}
    seconds = dict.fromkeys(candidates, float("inf"))
    for _ in range(4):
        for name, candidate in candidates.items():
            start = time.perf_counter()
            np.matmul(x, candidate, out=y)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return min(seconds, key=seconds.__getitem__)


class Training(Model):
    """The products of a training step: each weight is in three, forward, for the input's gradient and for its own."""

    def step(self, windows: np.ndarray) -> tuple[float, float]:
        """Seconds of the products of one step on windows (B, T + 1); there is no loss."""
        tokens = windows.shape[0] * (windows.shape[1] - 1)
        xs, _, ys = self._prepare(tokens)
        seconds = 0.0
        for x, weight, y in zip(xs, self.weights, ys, strict=True):
            dweight, dx = np.empty_like(weight), np.empty_like(x)
            start = time.perf_counter()
            np.matmul(x, weight.T, out=y)
            np.matmul(y, weight, out=dx)
            np.matmul(y.T, x, out=dweight)
            seconds += time.perf_counter() - start
        return seconds, 0.0
