"""Single layers on arrays of a model's size: minineo's fast ones, its reference, torch's, and the least to be done."""

from __future__ import annotations

import importlib
import math
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.shapes import Shape

EPSILON = 1e-5
Work = Callable[[], Any]


def arrays(shape: Shape, tokens: int) -> dict[str, np.ndarray]:
    """Inputs and weights, the same for everybody."""
    D, H = shape.hidden_size, shape.num_heads
    sizes: dict[str, tuple[int, ...]] = {
        "x": (1, tokens, D),
        "wide": (1, tokens, 4 * D),
        "weight": (D,),
        "bias": (D,),
        "linear": (D, D),
        "c_fc": (4 * D, D),
        "c_fc_bias": (4 * D,),
        "c_proj": (D, 4 * D),
    } | dict.fromkeys("qkv", (1, H, tokens, D // H))
    rng = np.random.default_rng(0)
    return {name: 0.1 * rng.standard_normal(size, np.float32) for name, size in sizes.items()}


class Layers:
    """The layers of one package with minineo's names and signatures: `minineo.fast` or `minineo.layers`."""

    def __init__(self, shape: Shape, tokens: int, package: str) -> None:
        a = arrays(shape, tokens)
        names = ("layer_norm", "activations", "linear", "mlp", "attention")
        norm, act, lin, mlp, att = (importlib.import_module(f"{package}.{name}") for name in names)
        gelu, window = act.activation("gelu_new"), shape.window_size
        self.works: dict[str, Work] = {
            "layer norm": lambda: norm.layer_norm(a["x"], a["weight"], a["bias"], EPSILON),
            "gelu": lambda: gelu(a["wide"]),
            "linear": lambda: lin.linear(a["x"], a["linear"], a["bias"]),
            "mlp": lambda: mlp.mlp(a["x"], a["c_fc"], a["c_fc_bias"], a["c_proj"], a["bias"], gelu),
            "attention, global": lambda: att.attention(a["q"], a["k"], a["v"]),
            "attention, local": lambda: att.attention(a["q"], a["k"], a["v"], window),
        }

    def time(self, work: str) -> float:
        """Seconds of one call."""
        start = time.perf_counter()
        self.works[work]()
        return time.perf_counter() - start

    def result(self, work: str) -> np.ndarray:
        """What it computes, for comparing peers."""
        return np.asarray(self.works[work]())

    def peak(self, work: str) -> int:
        """Bytes allocated at most during one call, the result included."""
        self.works[work]()
        tracemalloc.start()
        self.works[work]()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak


class Torch:
    """torch's functions; for attention the fused one, which transformers does not use for GPT-Neo."""

    def __init__(self, shape: Shape, tokens: int, threads: int) -> None:
        import torch
        from torch.nn import functional

        torch.set_num_threads(threads)
        a = {name: torch.from_numpy(array) for name, array in arrays(shape, tokens).items()}
        distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
        near = (distance >= 0) & (distance < shape.window_size)

        def gelu(x: Any) -> Any:
            return functional.gelu(x, approximate="tanh")

        def mlp() -> Any:
            inner = gelu(functional.linear(a["x"], a["c_fc"], a["c_fc_bias"]))
            return functional.linear(inner, a["c_proj"], a["bias"])

        attention: Any = functional.scaled_dot_product_attention
        qkv = [a[name] for name in "qkv"]
        self.works: dict[str, Work] = {
            "layer norm": lambda: functional.layer_norm(a["x"], a["weight"].shape, a["weight"], a["bias"], EPSILON),
            "gelu": lambda: gelu(a["wide"]),
            "linear": lambda: functional.linear(a["x"], a["linear"], a["bias"]),
            "mlp": mlp,
            "attention, global": lambda: attention(*qkv, is_causal=True, scale=1.0),
            "attention, local": lambda: attention(*qkv, attn_mask=near, scale=1.0),
        }
        torch.set_grad_enabled(False)

    time = Layers.time
    result = Layers.result


class Least:
    """What cannot be left out: element-wise layers read and write their array once, the others multiply matrices."""

    def __init__(self, shape: Shape, tokens: int) -> None:
        a = arrays(shape, tokens)
        x, wide, inner = a["x"][0], a["wide"], a["wide"][0].copy()
        y, scaled, z = np.empty_like(x), np.empty_like(wide), np.empty_like(a["x"])
        self.works: dict[str, Work] = {
            "layer norm": lambda: np.multiply(a["x"], math.pi, out=z),
            "gelu": lambda: np.multiply(wide, math.pi, out=scaled),
            "linear": lambda: np.matmul(x, a["linear"].T, out=y),
            "mlp": lambda: np.matmul(np.matmul(x, a["c_fc"].T, out=inner), a["c_proj"].T, out=y),
        }

    time = Layers.time
