"""The whole model on a strict array library and on its second device, where hidden NumPy is an error."""

from __future__ import annotations

from typing import Any

import array_api_strict as xp
import numpy as np
import pytest
from tiny_models import ALL_CLASSES, IDS, LABELS, MASK, tiny

from minineo.classes import (
    GPTNeoForCausalLM,
    GPTNeoForQuestionAnswering,
    GPTNeoForSequenceClassification,
    GPTNeoForTokenClassification,
    GPTNeoModel,
)
from minineo.layers.activations import ACTIVATIONS, erf
from minineo.layers.losses import binary_cross_entropy, cross_entropy, mean_squared_error
from minineo.layers.softmax import log_softmax, softmax
from minineo.model.cache import Cache
from minineo.model.outputs import ModelOutput
from minineo.tap import Recorder

CPU, SECOND = xp.Device("CPU_DEVICE"), xp.Device("device1")


def move(value: Any, device: Any) -> Any:
    """NumPy arrays as strict ones on a device, in dictionaries too."""
    if isinstance(value, dict):
        return {name: move(item, device) for name, item in value.items()}
    return xp.asarray(value, device=device) if isinstance(value, np.ndarray) else value


def strict(model: Any, device: Any) -> Any:
    return type(model)(model.config, move(model.params, device))


def assert_same(actual: Any, expected: Any, device: Any, name: str = "") -> None:
    """The strict library's value is on its device, of the same dtype, and equal but for rounding."""
    if isinstance(expected, ModelOutput | dict):
        assert list(actual.keys()) == list(expected.keys())
        for key, value in expected.items():
            assert_same(actual[key], value, device, f"{name} {key}")
    elif isinstance(expected, tuple | Cache):
        assert len(actual) == len(expected)
        for i, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_same(one, other, device, f"{name} {i}")
    else:
        assert actual.__array_namespace__() is xp, name
        assert actual.device == device, name
        assert str(actual.dtype).endswith(str(expected.dtype)), name
        moved = np.asarray(xp.asarray(actual, device=CPU))
        np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("device", [CPU, SECOND], ids=str)
class TestModel:
    @pytest.mark.parametrize("cls", ALL_CLASSES)
    @pytest.mark.parametrize("activation", ["gelu_new", "gelu"])
    def test_every_output_and_intermediate(self, cls: Any, activation: str, device: Any) -> None:
        model = tiny(cls, "glg", activation_function=activation, tie_word_embeddings=False)
        inputs = {
            "input_ids": IDS,
            "attention_mask": MASK,
            "position_ids": np.maximum(MASK.cumsum(1) - 1, 0),
            "token_type_ids": IDS[:, ::-1].copy(),
            **LABELS[cls.__name__],
        }
        flags = {"output_attentions": True, "output_hidden_states": True}
        ours, theirs = Recorder(), Recorder()
        expected = model(**inputs, **flags, tap=ours)
        output = strict(model, device)(**move(inputs, device), **flags, tap=theirs)
        assert_same(output, expected, device)
        assert_same(theirs, ours, device)

    @pytest.mark.parametrize("dtype", [np.int32, np.bool_, np.float32])
    def test_masks_of_any_dtype(self, dtype: Any, device: Any) -> None:
        model = tiny(GPTNeoModel)
        output = strict(model, device)(move(IDS, device), move(MASK.astype(dtype), device))
        assert_same(output.last_hidden_state, model(IDS, MASK).last_hidden_state, device)

    def test_embeddings_as_input(self, device: Any) -> None:
        model = tiny(GPTNeoForSequenceClassification)
        embeds = model.params["transformer.wte.weight"][IDS]
        output = strict(model, device)(inputs_embeds=move(embeds, device))
        assert_same(output, model(inputs_embeds=embeds), device)

    def test_decoding_with_a_cache(self, device: Any) -> None:
        model = tiny(GPTNeoForCausalLM, "gl", window_size=3)
        other = strict(model, device)
        past = other_past = None
        for start, end in [(0, 3), (3, 4), (4, 6)]:
            ids, mask = IDS[:, start:end], MASK[:, :end]
            expected = model(ids, mask, past_key_values=past)
            output = other(move(ids, device), move(mask, device), past_key_values=other_past)
            assert_same(output, expected, device)
            past, other_past = expected.past_key_values, output.past_key_values
        rows = np.array([1, 1, 0])
        assert_same(other_past.select(move(rows, device)), past.select(rows), device)

    @pytest.mark.parametrize("keep", [1, 99, np.array([0, 5])])
    def test_logits_to_keep(self, keep: Any, device: Any) -> None:
        model = tiny(GPTNeoForCausalLM)
        output = strict(model, device)(move(IDS, device), logits_to_keep=move(keep, device))
        assert_same(output.logits, model(IDS, logits_to_keep=keep).logits, device)

    @pytest.mark.parametrize(
        ("fields", "labels"),
        [
            ({"num_labels": 1}, np.array([0.5, -2.0], np.float32)),
            ({"problem_type": "regression"}, np.ones((2, 4), np.float32)),
            ({}, np.array([[0, 1, 1, 0], [1, 0, 0, 0]], np.float32)),
            ({"problem_type": "multi_label_classification"}, np.array([[0, 1, 1, 0], [1, 0, 0, 0]])),
            ({"pad_token_id": None}, None),
        ],
    )
    def test_every_kind_of_classification(self, fields: dict[str, Any], labels: np.ndarray | None, device: Any) -> None:
        model = tiny(GPTNeoForSequenceClassification, **fields)
        ids = IDS if labels is not None else IDS[:1]
        output = strict(model, device)(move(ids, device), labels=move(labels, device))
        assert_same(output, model(ids, labels=labels), device)


@pytest.mark.parametrize("device", [CPU, SECOND], ids=str)
class TestLayers:
    @pytest.mark.parametrize("name", [*ACTIVATIONS, "erf", "softmax", "log_softmax"])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_elementwise(self, name: str, dtype: Any, device: Any) -> None:
        function = {**ACTIVATIONS, "erf": erf, "softmax": softmax, "log_softmax": log_softmax}[name]
        x = np.linspace(-8.0, 8.0, 33, dtype=dtype).reshape(3, 11)
        assert_same(function(move(x, device)), function(x), device)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_losses(self, dtype: Any, device: Any) -> None:
        logits = np.linspace(-8.0, 8.0, 12, dtype=dtype).reshape(3, 4)
        for labels in (np.array([0, -100, 3]), np.array([-100, -100, -100]), np.array([1, 2, 3], np.int32)):
            assert_same(
                cross_entropy(move(logits, device), move(labels, device)), cross_entropy(logits, labels), device
            )
        for loss in (mean_squared_error, binary_cross_entropy):
            for targets in (np.ones((3, 4), np.float32), np.ones((3, 4), np.int64), np.ones((3, 4), np.bool_)):
                assert_same(loss(move(logits, device), move(targets, device)), loss(logits, targets), device)


class TestMixtures:
    """Two libraries in one call: an error that names both, whichever is whose."""

    def inputs(self, cls: Any) -> dict[str, np.ndarray]:
        return {"input_ids": IDS, "attention_mask": MASK, "position_ids": MASK, "token_type_ids": IDS}

    @pytest.mark.parametrize("cls", ALL_CLASSES)
    def test_inputs_of_another_library(self, cls: Any) -> None:
        model = tiny(cls)
        inputs = self.inputs(cls) | LABELS[cls.__name__]
        for name in inputs:
            with pytest.raises(
                TypeError, match=f"{name}: received an array of array_api_strict.*parameters are of numpy"
            ):
                model(**(inputs | {name: move(inputs[name], CPU)}))
            with pytest.raises(
                TypeError, match=f"{name}: received an array of numpy.*parameters are of array_api_strict"
            ):
                strict(model, CPU)(**(move(inputs, CPU) | {name: inputs[name]}))

    def test_embeddings_cache_and_positions_of_another_library(self) -> None:
        model = tiny(GPTNeoForCausalLM)
        embeds = model.params["transformer.wte.weight"][IDS]
        with pytest.raises(TypeError, match=r"inputs_embeds: received an array of array_api_strict.*numpy"):
            model(inputs_embeds=move(embeds, CPU))
        past = strict(model, CPU)(move(IDS, CPU)).past_key_values
        with pytest.raises(TypeError, match=r"past_key_values: received an array of array_api_strict.*numpy"):
            model(IDS, past_key_values=past)
        with pytest.raises(TypeError, match=r"logits_to_keep: received an array of array_api_strict.*numpy"):
            model(IDS, logits_to_keep=move(np.array([0]), CPU))

    def test_parameters_of_two_libraries(self) -> None:
        model = tiny(GPTNeoModel)
        params = model.params | {"ln_f.bias": move(model.params["ln_f.bias"], CPU)}
        with pytest.raises(TypeError, match=r"ln_f\.bias: received an array of array_api_strict.*numpy"):
            GPTNeoModel(model.config, params)

    def test_layers_refuse_them_too(self) -> None:
        with pytest.raises(TypeError):
            cross_entropy(np.zeros((2, 3)), move(np.array([0, 1]), CPU))


def test_each_head_is_tested_here() -> None:
    heads = {GPTNeoForTokenClassification, GPTNeoForQuestionAnswering, GPTNeoForSequenceClassification}
    assert heads | {GPTNeoModel, GPTNeoForCausalLM} == set(ALL_CLASSES)
    assert set(LABELS) == {cls.__name__ for cls in ALL_CLASSES}
