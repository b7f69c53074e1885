"""The random models that other tests rest on: they must reach every case, or a test that passes says little."""

from __future__ import annotations

from typing import Any

import numpy as np
from random_models import ACTIVATIONS, CLASSES, draw_config, draw_inputs, draw_params

from minineo import classes
from minineo.tap import Recorder

CONFIGS = [draw_config(seed) for seed in range(240)]


def inputs_of(class_name: str) -> list[dict[str, Any]]:
    index = CLASSES.index(class_name)
    return [draw_inputs(class_name, config, seed * len(CLASSES) + index) for seed, config in enumerate(CONFIGS)]


def test_configurations_reach_every_case() -> None:
    assert {config.num_layers for config in CONFIGS} == {1, 2, 3, 4}
    assert {config.activation_function for config in CONFIGS} == set(ACTIVATIONS)
    assert {tuple(c.attention_layers) for c in CONFIGS if c.num_layers == 3} == {
        (a, b, c) for a in ("global", "local") for b in ("global", "local") for c in ("global", "local")
    }
    assert {config.tie_word_embeddings for config in CONFIGS} == {True, False}
    assert {1, 3, 5, 7} < {config.head_size for config in CONFIGS}
    assert any(config.intermediate_size is None for config in CONFIGS)
    assert any(config.intermediate_size == 3 * config.hidden_size for config in CONFIGS)
    assert any((config.intermediate_size or 0) % 2 for config in CONFIGS)
    assert {config.pad_token_id for config in CONFIGS} == {None, 0, 2}
    kinds = {(config.problem_type, config.num_labels > 1) for config in CONFIGS}
    assert kinds == {
        *((kind, several) for kind in (None, "regression") for several in (True, False)),
        *((kind, True) for kind in ("single_label_classification", "multi_label_classification")),
    }


def test_inputs_reach_every_case() -> None:
    for class_name in CLASSES:
        drawn = inputs_of(class_name)
        shapes = [inputs.get("input_ids", inputs.get("inputs_embeds")).shape[:2] for inputs in drawn]
        excess = [T - config.window_size for (_, T), config in zip(shapes, CONFIGS, strict=True)]
        assert min(excess) < 0 < max(excess)
        assert 0 in excess
        unused = [config.max_position_embeddings - T for (_, T), config in zip(shapes, CONFIGS, strict=True)]
        assert min(unused) == 0 < max(unused)
        assert {1, 2, 20} < {T for _, T in shapes}
        for name in ("attention_mask", "position_ids", "token_type_ids", "inputs_embeds"):
            assert 20 < sum(name in inputs for inputs in drawn) < 220, name
        rows = {
            (inputs["position_ids"].shape[0] == B)
            for inputs, (B, _) in zip(drawn, shapes, strict=True)
            if "position_ids" in inputs
        }
        assert rows == {True, False}
        masks = [inputs["attention_mask"] for inputs in drawn if "attention_mask" in inputs]
        assert any((mask[:, 0] == 0).any() for mask in masks)
        assert any((mask[:, -1] == 0).any() for mask in masks)
        assert any((mask.sum(axis=1) == 0).any() for mask in masks)


def test_labels_reach_every_case() -> None:
    labels = {name: [inputs["labels"] for inputs in inputs_of(name) if "labels" in inputs] for name in CLASSES[1:4]}
    assert any((array == -100).any() for array in labels["GPTNeoForCausalLM"])
    assert any((array == -100).any() for array in labels["GPTNeoForTokenClassification"])
    assert {(a.ndim, a.dtype.kind) for a in labels["GPTNeoForSequenceClassification"]} == {(1, "f"), (1, "i"), (2, "f")}
    keep = [inputs.get("logits_to_keep", 0) for inputs in inputs_of("GPTNeoForCausalLM")]
    assert {np.ndim(k) for k in keep} == {0, 1, 2}
    answers = [i for i in inputs_of("GPTNeoForQuestionAnswering") if "start_positions" in i]
    assert any((i["start_positions"] >= i["input_ids"].shape[1]).any() for i in answers if "input_ids" in i)


def test_attention_is_not_flat() -> None:
    """Scores that are all alike would let a mistake in them pass."""
    spreads = []
    for seed, config in enumerate(CONFIGS):
        model = classes.GPTNeoModel(
            config, draw_params(classes.GPTNeoModel.parameter_shapes(config), config, seed=seed)
        )
        random = np.random.RandomState(seed)
        trace = Recorder()
        model(random.randint(config.vocab_size, size=(2, config.max_position_embeddings)), tap=trace)
        for i in range(config.num_layers):
            scores = trace[f"h.{i}.attn.scores"]
            spreads.append(float(np.std(scores[np.isfinite(scores)])))
    assert 2.0 < np.median(spreads) < 8.0
