"""Models for tests of analyses: odd ones with random parameters, and ones whose heads are made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from tiny_models import tiny

from minineo.classes import GPTNeoForCausalLM
from minineo.config import GPTNeoConfig

# A single layer, one head, a window of 1, an untied head, local layers first: each has broken somebody's analysis.
ODD: dict[str, dict[str, Any]] = {
    "global and local": {},
    "one layer": {"layers": "g"},
    "one local layer with a window of 1": {"layers": "l", "window_size": 1},
    "one head": {"layers": "lg", "num_heads": 1},
    "untied": {"layers": "glg", "tie_word_embeddings": False},
    "large epsilon": {"layers": "gg", "layer_norm_epsilon": 0.1},
}


def odd(name: str, dtype: Any = np.float64, cls: Any = GPTNeoForCausalLM) -> Any:
    return tiny(cls, dtype=dtype, **({"layers": "gl"} | ODD[name]))


# Heads by hand --------------------------------------------------------------------------------------------------------
#
# The stream has a number for each position, one for each token, and one for each token as "the one before". What makes
# a score large enough for a pattern of zeros and ones is SHARP.

P, V = 12, 6  # positions, tokens
D = P + 2 * V
POSITION, TOKEN, BEFORE = slice(0, P), slice(P, P + V), slice(P + V, D)
SHARP = 10.0


def by_hand(layers: int, window: int | None = None) -> GPTNeoForCausalLM:
    """A model with one head a layer that sees tokens and positions, and of which no part does anything yet."""
    config = GPTNeoConfig(
        vocab_size=V,
        hidden_size=D,
        num_layers=layers,
        attention_types=[[["global" if window is None else "local"], layers]],
        num_heads=1,
        window_size=window or 1,
        max_position_embeddings=P,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPTNeoForCausalLM(config)
    for name, value in model.params.items():
        is_norm = name.endswith("weight") and value.ndim == 1
        model.params[name] = np.ones_like(value) if is_norm else np.zeros_like(value)
    np.fill_diagonal(model.params["transformer.wpe.weight"][:, POSITION], 1.0)
    np.fill_diagonal(model.params["transformer.wte.weight"][:, TOKEN], 1.0)
    return model


def make(model: GPTNeoForCausalLM, layer: int, kind: str) -> None:
    """Turn the head of that layer into one of the three kinds."""
    q, k, v, out = (np.zeros((D, D), np.float32) for _ in range(4))
    if kind == "previous token":
        # the query of position i is the key of position i - 1; the token found there is written as "the one before"
        q[POSITION, POSITION] = SHARP * np.eye(P, k=1)
        k[POSITION, POSITION] = np.eye(P)
        v[TOKEN, TOKEN] = np.eye(V)
        out[BEFORE, TOKEN] = np.eye(V)
    elif kind == "duplicate token":
        # the same token, but not the same position
        q[TOKEN, TOKEN] = k[TOKEN, TOKEN] = np.eye(V)
        q[POSITION, POSITION] = -np.eye(P)
        k[POSITION, POSITION] = np.eye(P)
        q *= SHARP
    else:
        # what is here is looked for as "the one before"; what is found there is said
        q[TOKEN, TOKEN] = SHARP * np.eye(V)
        k[TOKEN, BEFORE] = np.eye(V)
        v[TOKEN, TOKEN] = out[TOKEN, TOKEN] = np.eye(V)
        k[TOKEN, 0] = -SHARP  # the first position has attended to itself: its token was before nothing
    at = f"transformer.h.{layer}.attn.attention"
    for name, weight in (("q", q), ("k", k), ("v", v), ("out", out)):
        model.params[f"{at}.{name}_proj.weight"] = weight
