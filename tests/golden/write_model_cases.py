"""Write the frozen model outputs that tests/test_golden.py replays without torch.

Run it as `PYTHONPATH=tests python tests/golden/write_model_cases.py`.

Outputs are those of transformers in float64, rounded to float32. `model_cases.json` says what each case is, and
`model_cases.npz` holds its inputs and outputs, named `case/input/...` and `case/piece/field`. Parameters follow from
the case's seed, by `random_models.draw_params`.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from hugging_face import call, fields_of, oracle_model
from random_models import draw_params, take_positions

from minineo import classes
from minineo.config import GPTNeoConfig

HERE = Path(__file__).parent
CONFIG = {
    "vocab_size": 23,
    "hidden_size": 12,
    "num_heads": 4,
    "num_layers": 2,
    "attention_types": [[["global", "local"], 1]],
    "window_size": 4,
    "max_position_embeddings": 16,
    "num_labels": 3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
random = np.random.RandomState(0)
B, T = 3, 12
IDS = random.randint(1, 23, size=(B, T))
PADDING = [0, 3, 7]
LEFT = np.array([[0] * n + [1] * (T - n) for n in PADDING])
RIGHT = LEFT[:, ::-1].copy()
POSITIONS = np.maximum(np.cumsum(LEFT, axis=1) - 1, 0)
LABELS = np.where(random.uniform(size=(B, T)) < 0.25, -100, IDS)
ALL = {"output_hidden_states": True, "output_attentions": True}
LEFT_PADDED = {"input_ids": IDS * LEFT, "attention_mask": LEFT, "position_ids": POSITIONS}

# name: (class, fields of the configuration that differ, inputs, where to cut the input for the cache)
Case = tuple[str, dict[str, Any], dict[str, Any], list[int]]
CASES: dict[str, Case] = {
    "base": ("GPTNeoModel", {}, {"input_ids": IDS, **ALL}, [0, T]),
    "row of padding": ("GPTNeoModel", {}, {"input_ids": IDS, "attention_mask": LEFT * [[1], [0], [1]], **ALL}, [0, T]),
    "two global layers": ("GPTNeoModel", {"attention_types": [[["global"], 2]]}, {"input_ids": IDS}, [0, T]),
    "window 1": ("GPTNeoModel", {"window_size": 1}, {"input_ids": IDS}, [0, 5, T]),
    "window beyond the text": ("GPTNeoModel", {"window_size": 99}, {"input_ids": IDS}, [0, 5, T]),
    "large epsilon": ("GPTNeoModel", {"layer_norm_epsilon": 0.1}, {"input_ids": IDS}, [0, T]),
    "square weights": ("GPTNeoModel", {"intermediate_size": 12}, {"input_ids": IDS}, [0, T]),
    "embeddings": ("GPTNeoModel", {}, {"inputs_embeds": random.standard_normal((B, T, 12)).astype(np.float32)}, [0, T]),
    **{
        name: ("GPTNeoModel", {"activation_function": name, "intermediate_size": 36}, {"input_ids": IDS}, [0, T])
        for name in ["gelu", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "tanh"]
    },
    "loss": ("GPTNeoForCausalLM", {}, {"input_ids": IDS, "labels": LABELS}, [0, T]),
    "untied head": ("GPTNeoForCausalLM", {"tie_word_embeddings": False}, {"input_ids": IDS, "labels": IDS}, [0, T]),
    "left padding": ("GPTNeoForCausalLM", {}, {**LEFT_PADDED, "labels": np.where(LEFT, IDS, -100)}, [0, T]),
    "right padding": ("GPTNeoForCausalLM", {}, {"input_ids": IDS * RIGHT, "attention_mask": RIGHT}, [0, T]),
    "pieces": ("GPTNeoForCausalLM", {}, {"input_ids": IDS}, [0, 5, 6, 10, T]),
    "pieces with left padding": ("GPTNeoForCausalLM", {}, LEFT_PADDED, [0, 6, 7, 8, T]),
    "positions and token types": (
        "GPTNeoForCausalLM",
        {},
        {"input_ids": IDS, "position_ids": random.randint(16, size=(B, T)), "token_type_ids": IDS[::-1].copy()},
        [0, T],
    ),
    "logits of the last two": ("GPTNeoForCausalLM", {}, {"input_ids": IDS, "logits_to_keep": 2}, [0, T]),
    "logits of some": ("GPTNeoForCausalLM", {}, {"input_ids": IDS, "logits_to_keep": np.array([7, 0])}, [0, T]),
    "one class of three": (
        "GPTNeoForSequenceClassification",
        {},
        {**LEFT_PADDED, "labels": np.array([2, 0, 1])},
        [0, T],
    ),
    "classes at once": (
        "GPTNeoForSequenceClassification",
        {},
        {"input_ids": IDS * RIGHT, "attention_mask": RIGHT, "labels": np.eye(3, dtype=np.float32)},
        [0, T],
    ),
    "regression": (
        "GPTNeoForSequenceClassification",
        {"num_labels": 1},
        {"input_ids": IDS * (IDS != 5), "labels": np.array([0.5, -1.0, 2.0], np.float32)},
        [0, T],
    ),
    "regression of three": (
        "GPTNeoForSequenceClassification",
        {"problem_type": "regression"},
        {"input_ids": IDS, "labels": random.standard_normal((B, 3)).astype(np.float32)},
        [0, T],
    ),
    "tokens": (
        "GPTNeoForTokenClassification",
        {},
        {"input_ids": IDS, "labels": np.where(LABELS < 0, -100, LABELS % 3)},
        [0, T],
    ),
    "answer": (
        "GPTNeoForQuestionAnswering",
        {},
        {**LEFT_PADDED, "start_positions": np.array([3, 4, 12]), "end_positions": np.array([5, 40, 11])},
        [0, T],
    ),
}


def main() -> None:
    arrays: dict[str, np.ndarray] = {}
    described: dict[str, Any] = {}
    for seed, (name, (class_name, fields, inputs, cuts)) in enumerate(CASES.items()):
        config = GPTNeoConfig(**(CONFIG | fields))
        params = draw_params(getattr(classes, class_name).parameter_shapes(config), config, seed)
        arrays |= {f"{name}/input/{key}": value for key, value in inputs.items() if isinstance(value, np.ndarray)}
        flags = {key: value for key, value in inputs.items() if not isinstance(value, np.ndarray)}
        described[name] = {"class": class_name, "config": CONFIG | fields, "seed": seed, "cuts": cuts, "flags": flags}
        model, cache = oracle_model(class_name, config, params, np.float64), None
        for piece, (start, stop) in enumerate(pairwise(cuts)):
            output = call(model, take_positions(inputs, start, stop) | ({"past_key_values": cache} if cache else {}))
            cache = output.get("past_key_values") if len(cuts) > 2 else None
            for field, value in fields_of(output, config).items():
                if not field.startswith("past") or name.startswith("pieces"):
                    arrays[f"{name}/{piece}/{field}"] = value.astype(np.float32)
    (HERE / "model_cases.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    np.savez_compressed(HERE / "model_cases.npz", **arrays)


if __name__ == "__main__":
    main()
