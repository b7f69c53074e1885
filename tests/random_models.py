"""Random GPT-Neo models and inputs, drawn from a seed without torch, for tests that compare with an oracle.

Every parameter is drawn, biases and layer norms too: those of a new model are 0 and 1, so a dropped bias would pass.
And each is scaled so that attention is not flat: scores spread over several units.

The generator is NumPy's RandomState, whose numbers are promised never to change: golden files rest on them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from minineo.config import GPTNeoConfig
from minineo.model import heads

CLASSES = [
    "GPTNeoModel",
    "GPTNeoForCausalLM",
    "GPTNeoForSequenceClassification",
    "GPTNeoForTokenClassification",
    "GPTNeoForQuestionAnswering",
]
CLASSES_WITH_CACHE = CLASSES[:3]
ACTIVATIONS = ["gelu_new", "gelu", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish", "tanh"]
MASKS = ["none", "ones", "left", "right", "holes", "row of padding"]
POSITIONS = ["default", "from mask", "random", "shared"]
PROBLEMS = [None, "regression", "single_label_classification", "multi_label_classification"]

LAYERS = ["reference", "fast"]
INTERMEDIATES = {"output_hidden_states": "hidden_states", "output_attentions": "attentions"}


@contextmanager
def computing_with(layers: str) -> Iterator[None]:
    """Let models on NumPy compute with the reference layers, or with the fast ones, as they do by themselves.

    The fast ones hand over to the reference where INTERMEDIATES are asked for.
    """
    with pytest.MonkeyPatch.context() as patch:
        if layers == "reference":
            patch.setattr("minineo.fast.choose.FAST", heads.REFERENCE)
        yield


def draw_config(seed: int) -> GPTNeoConfig:
    """A small configuration; layers and activations go round with the seed, the rest is drawn."""
    random = np.random.RandomState(seed)
    num_layers = 1 + seed % 4
    num_heads = 1 + random.randint(7)
    head_size = max(1 + random.randint(16), math.ceil(6 / num_heads))
    hidden_size = num_heads * head_size
    longest = 1 + random.randint(24)
    num_labels = [1, 2, 3, 5][random.randint(4)]
    return GPTNeoConfig(
        num_layers=num_layers,
        num_heads=num_heads,
        hidden_size=hidden_size,
        attention_types=_draw_pattern(random, num_layers),
        window_size=[1, 2, 3, 5, 1 + longest // 2, longest, longest + 1, 40][random.randint(8)],
        activation_function=ACTIVATIONS[seed // 4 % len(ACTIVATIONS)],
        intermediate_size=[None, 3 * hidden_size, 2 * hidden_size + 1, 7][random.randint(4)],
        vocab_size=[3, 11, 50, 97][random.randint(4)],
        max_position_embeddings=longest + [0, 1, 9][random.randint(3)],
        layer_norm_epsilon=[1e-5, 1e-6, 1e-3, 0.1][random.randint(4)],
        tie_word_embeddings=bool(random.randint(2)),
        num_labels=num_labels,
        problem_type=PROBLEMS[random.randint(2 if num_labels == 1 else 4)],
        pad_token_id=[None, 0, 2][random.randint(3)],
        eos_token_id=None,
        bos_token_id=None,
    )


def _draw_pattern(random: np.random.RandomState, num_layers: int) -> list[Any]:
    """`attention_types` for that many layers: one pattern, one for each layer, or one that is repeated."""
    kinds = [["global", "local"][random.randint(2)] for _ in range(num_layers)]
    match random.randint(3):
        case 0:
            return [[kinds, 1]]
        case 1:
            return [[[kind], 1] for kind in kinds]
        case _:
            length = 1 if num_layers % 2 else num_layers // 2
            return [[kinds[:length], num_layers // length]]


def draw_params(shapes: dict[str, tuple[int, ...]], config: GPTNeoConfig, seed: int, dtype: Any = np.float32) -> dict:
    """Parameters of the given names and shapes, all random."""
    random = np.random.RandomState(seed)
    return {name: _draw(name, shape, config, random).astype(dtype) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...], config: GPTNeoConfig, random: np.random.RandomState) -> np.ndarray:
    values = random.standard_normal(shape)
    if name.endswith(".bias"):
        return 0.5 * values
    if len(shape) == 1:
        return 1.0 + 0.3 * values
    if name.endswith(("wte.weight", "wpe.weight")):
        return 0.5 * values
    if name.endswith(("q_proj.weight", "k_proj.weight")):
        # inputs are normalised, so the components of q and k have this scale times 1, and their product, summed
        # over the head, a standard deviation of about 3
        return values * math.sqrt(3.0 / math.sqrt(config.head_size)) / math.sqrt(shape[1])
    return values / math.sqrt(shape[1])


def draw_inputs(class_name: str, config: GPTNeoConfig, seed: int) -> dict[str, Any]:
    """Arguments of a call of that class: what a call may have is there or not, by chance."""
    random = np.random.RandomState(seed)
    T = 1 + random.randint(config.max_position_embeddings)
    B = 1 + random.randint(4)
    if class_name == "GPTNeoForSequenceClassification" and config.pad_token_id is None:
        B = 1
    ids = random.randint(config.vocab_size, size=(B, T))
    mask = draw_mask(MASKS[random.randint(len(MASKS))], B, T, random)
    if mask is not None and config.pad_token_id is not None and random.randint(2):
        ids[mask == 0] = config.pad_token_id
    inputs: dict[str, Any] = {"input_ids": ids}
    if random.randint(5) == 0:
        inputs = {"inputs_embeds": random.standard_normal((B, T, config.hidden_size)).astype(np.float32)}
    inputs |= {
        "attention_mask": mask,
        "position_ids": draw_positions(POSITIONS[random.randint(len(POSITIONS))], mask, (B, T), config, random),
        "token_type_ids": random.randint(config.vocab_size, size=(B, T)) if random.randint(3) == 0 else None,
        "output_hidden_states": bool(random.randint(4)),
        "output_attentions": bool(random.randint(4)),
    }
    if class_name in CLASSES_WITH_CACHE:
        inputs["use_cache"] = [None, True, False][random.randint(3)]
    inputs |= draw_head_inputs(class_name, config, (B, T), mask, random)
    return {name: value for name, value in inputs.items() if value is not None}


def draw_mask(kind: str, B: int, T: int, random: np.random.RandomState) -> np.ndarray | None:
    """An attention mask (B, T) with padding on the left, on the right, scattered, or over one whole row."""
    if kind == "none":
        return None
    mask = np.ones((B, T), np.int64)
    if kind == "holes":
        mask = (random.uniform(size=(B, T)) < 0.7).astype(np.int64)
        mask[np.arange(B), random.randint(T, size=B)] = 1
    for row, padding in enumerate(random.randint(T, size=B)):
        if kind == "left":
            mask[row, :padding] = 0
        if kind == "right":
            mask[row, T - padding :] = 0
    if kind == "row of padding":
        mask[random.randint(B)] = 0
    return mask


def draw_positions(
    kind: str, mask: np.ndarray | None, shape: tuple[int, int], config: GPTNeoConfig, random: np.random.RandomState
) -> np.ndarray | None:
    """Position ids (B, T) or (1, T)."""
    if kind == "default":
        return None
    if kind == "from mask":
        return None if mask is None else np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    return random.randint(config.max_position_embeddings, size=shape if kind == "random" else (1, shape[1]))


def draw_head_inputs(
    class_name: str,
    config: GPTNeoConfig,
    shape: tuple[int, int],
    mask: np.ndarray | None,
    random: np.random.RandomState,
) -> dict[str, Any]:
    """Labels, three times in four, and what else the head takes."""
    B, T = shape
    without_labels = random.randint(4) == 0
    match class_name:
        case "GPTNeoForCausalLM" if without_labels:
            keep = random.randint(-T, T, size=[(3,), (B, 2)][random.randint(2)])
            return {"logits_to_keep": [0, 1, T + 2, keep % T][random.randint(4)]}
        case "GPTNeoForCausalLM" | "GPTNeoForTokenClassification" if not without_labels:
            classes = config.vocab_size if class_name == "GPTNeoForCausalLM" else config.num_labels
            labels = random.randint(classes, size=(B, T))
            labels[random.uniform(size=(B, T)) < 0.2] = -100
            return {"labels": labels}
        case "GPTNeoForSequenceClassification" if not without_labels:
            return {"labels": _draw_text_labels(config, B, random)}
        case "GPTNeoForQuestionAnswering" if not without_labels:
            # the answer may lie beyond the input, where it does not count
            ends = random.randint(T + 3, size=(2, B) if random.randint(2) else (2, B, 1))
            return {"start_positions": ends[0], "end_positions": ends[1]}
    return {}


def _draw_text_labels(config: GPTNeoConfig, B: int, random: np.random.RandomState) -> np.ndarray:
    problem, C = config.problem_type, config.num_labels
    if problem is None:
        problem = "regression" if C == 1 else PROBLEMS[2 + random.randint(2)]
    if problem == "regression":
        shapes = [(B,), (B, 1)] if C == 1 else [(B, C)]
        return random.standard_normal(shapes[random.randint(len(shapes))]).astype(np.float32)
    if problem == "single_label_classification":
        return random.randint(C, size=(B,))
    return random.randint(2, size=(B, C)).astype(np.float32)


def take_positions(inputs: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    """The arguments of a call on the positions from `start` to `stop` only, which continues the cache of those before.

    An attention mask counts from the first position. Labels of whole texts stay as they are; an array of positions that
    are to be kept belongs to the whole input, so it is left out unless all of it is taken.
    """
    T = next(inputs[name].shape[1] for name in ("input_ids", "inputs_embeds") if name in inputs)
    if (start, stop) == (0, T):
        return dict(inputs)
    taken = dict(inputs)
    for name in ("input_ids", "inputs_embeds", "position_ids", "token_type_ids"):
        if name in inputs:
            taken[name] = inputs[name][:, start:stop]
    if "attention_mask" in inputs:
        taken["attention_mask"] = inputs["attention_mask"][:, :stop]
    if "labels" in inputs and np.issubdtype(inputs["labels"].dtype, np.integer) and inputs["labels"].ndim == 2:
        taken["labels"] = inputs["labels"][:, start:stop]
    if isinstance(inputs.get("logits_to_keep"), np.ndarray):
        del taken["logits_to_keep"]
    return taken
