"""GPT-Neo once more, in plain Python numbers and loops: slow, but it shares nothing with what it judges.

What the package computes with arrays is spelt out here, without NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Vector = list[float]


def gelu_new(x: float) -> float:
    return 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def linear(x: Vector, weight: list[Vector], bias: Vector | None = None) -> Vector:
    """One row of the weight for each output."""
    return [dot(row, x) + (bias[i] if bias else 0.0) for i, row in enumerate(weight)]


def normalise(x: Vector, weight: Vector, bias: Vector, epsilon: float) -> Vector:
    mean = sum(x) / len(x)
    variance = sum((value - mean) ** 2 for value in x) / len(x)
    return [(v - mean) / math.sqrt(variance + epsilon) * w + b for v, w, b in zip(x, weight, bias, strict=True)]


def attend(q: list[Vector], k: list[Vector], v: list[Vector], window: int | None) -> list[Vector]:
    """One head: what each position makes of the values that it looks at."""
    mixed = []
    for i in range(len(q)):
        first = 0 if window is None else max(0, i - window + 1)
        scores = [dot(q[i], k[j]) for j in range(first, i + 1)]
        exponentials = [math.exp(score - max(scores)) for score in scores]
        pattern = [e / sum(exponentials) for e in exponentials]
        mixed.append([dot(pattern, [v[j][c] for j in range(first, i + 1)]) for c in range(len(v[0]))])
    return mixed


def forward(params: dict[str, Any], config: Any, ids: Sequence[int]) -> list[Vector]:
    """Last hidden state (T, D) of one text; `params` are those of GPTNeoModel, as nested lists."""
    H, d = config.num_heads, config.hidden_size // config.num_heads
    heads = [slice(h * d, (h + 1) * d) for h in range(H)]
    stream = [
        [a + b for a, b in zip(params["wte.weight"][token], params["wpe.weight"][position], strict=True)]
        for position, token in enumerate(ids)
    ]

    def norm(rows: list[Vector], name: str) -> list[Vector]:
        weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
        return [normalise(row, weight, bias, config.layer_norm_epsilon) for row in rows]

    def add(a: Vector, b: Vector) -> Vector:
        return [x + y for x, y in zip(a, b, strict=True)]

    for layer, kind in enumerate(config.attention_layers):
        at, attention, mlp = (f"h.{layer}{part}" for part in ("", ".attn.attention", ".mlp"))
        normed = norm(stream, f"{at}.ln_1")
        q, k, v = ([linear(row, params[f"{attention}.{n}_proj.weight"]) for row in normed] for n in "qkv")
        window = config.window_size if kind == "local" else None
        results = [attend(*([row[head] for row in rows] for rows in (q, k, v)), window) for head in heads]
        joined = [[value for mixed in results for value in mixed[i]] for i in range(len(ids))]
        out_weight, out_bias = params[f"{attention}.out_proj.weight"], params[f"{attention}.out_proj.bias"]
        stream = [add(row, linear(z, out_weight, out_bias)) for row, z in zip(stream, joined, strict=True)]
        inner = [
            linear(r, params[f"{mlp}.c_fc.weight"], params[f"{mlp}.c_fc.bias"]) for r in norm(stream, f"{at}.ln_2")
        ]
        acts = [[gelu_new(x) for x in row] for row in inner]
        outs = [linear(row, params[f"{mlp}.c_proj.weight"], params[f"{mlp}.c_proj.bias"]) for row in acts]
        stream = [add(row, out) for row, out in zip(stream, outs, strict=True)]
    return norm(stream, "ln_f")
