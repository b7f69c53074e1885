"""Tiny models for tests without an oracle, every parameter drawn at random; by default a global and a local layer."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from random_models import draw_params

from minineo.classes import (
    GPTNeoForCausalLM,
    GPTNeoForQuestionAnswering,
    GPTNeoForSequenceClassification,
    GPTNeoForTokenClassification,
    GPTNeoModel,
)
from minineo.config import GPTNeoConfig
from minineo.pretrained import GPTNeoPreTrainedModel

ALL_CLASSES = [
    GPTNeoModel,
    GPTNeoForCausalLM,
    GPTNeoForSequenceClassification,
    GPTNeoForTokenClassification,
    GPTNeoForQuestionAnswering,
]

AnyModel = TypeVar("AnyModel", bound=GPTNeoPreTrainedModel[Any])


def tiny_config(layers: str = "gl", **fields: Any) -> GPTNeoConfig:
    """A configuration whose layers are spelt g for global and l for local."""
    kinds = [{"g": "global", "l": "local"}[letter] for letter in layers]
    small = {
        "vocab_size": 19,
        "hidden_size": 12,
        "num_layers": len(layers),
        "attention_types": [[kinds, 1]],
        "num_heads": 3,
        "window_size": 3,
        "max_position_embeddings": 24,
        "bos_token_id": 18,
        "eos_token_id": 18,
        "pad_token_id": 18,
        "num_labels": 4,
    }
    return GPTNeoConfig(**(small | fields))


def tiny(cls: type[AnyModel], layers: str = "gl", seed: int = 0, dtype: Any = np.float32, **fields: Any) -> AnyModel:
    """A model of that class and such a configuration."""
    config = tiny_config(layers, **fields)
    return cls(config, draw_params(cls.parameter_shapes(config), config, seed, dtype))


def tokens(B: int, T: int, seed: int = 0, below: int = 18) -> np.ndarray:
    """Token ids (B, T); by default none of them is the padding id of `tiny_config`."""
    return np.random.default_rng(seed).integers(below, size=(B, T))


# Two texts, one padded on the left, and labels for each class.
MASK = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
IDS = np.where(MASK == 1, tokens(2, 6), 18)
LABELS: dict[str, dict[str, np.ndarray]] = {
    "GPTNeoModel": {},
    "GPTNeoForCausalLM": {"labels": np.where(MASK == 1, IDS, -100)},
    "GPTNeoForSequenceClassification": {"labels": np.array([3, 0])},
    "GPTNeoForTokenClassification": {"labels": np.where(MASK == 1, IDS % 4, -100)},
    "GPTNeoForQuestionAnswering": {"start_positions": np.array([0, 9]), "end_positions": np.array([5, 2])},
}
