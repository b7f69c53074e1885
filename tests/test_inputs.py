"""Wrong inputs: each is an error that says what was received and what was expected."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from tiny_models import ALL_CLASSES, tiny, tiny_config, tokens

from minineo.classes import (
    GPTNeoForCausalLM,
    GPTNeoForQuestionAnswering,
    GPTNeoForSequenceClassification,
    GPTNeoForTokenClassification,
    GPTNeoModel,
)

IDS = tokens(2, 5)
EMBEDS = np.zeros((2, 5, 12), np.float32)


def ones(*shape: int, dtype: Any = np.int64) -> np.ndarray:
    return np.ones(shape, dtype)


def raises(error: type[Exception], message: str) -> Any:
    return pytest.raises(error, match=re.escape(message))


WRONG_INPUTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({}, ValueError, "exactly one of input_ids and inputs_embeds: received neither"),
    ({"input_ids": IDS, "inputs_embeds": EMBEDS}, ValueError, "received both"),
    ({"input_ids": [[1, 2]]}, TypeError, "input_ids: received a list, expected an array, such as np.array"),
    ({"input_ids": "Once"}, TypeError, "input_ids: received a str, expected an array"),
    ({"input_ids": IDS[0]}, ValueError, "input_ids: received shape (5,), expected (batch, positions)"),
    ({"input_ids": IDS[0]}, ValueError, "pass input_ids[None, :]"),
    ({"input_ids": IDS[None]}, ValueError, "input_ids: received shape (1, 2, 5), expected (batch, positions)"),
    ({"input_ids": np.int64(3)}, ValueError, "input_ids: received shape (), expected (batch, positions)"),
    ({"input_ids": IDS[:, :0]}, ValueError, "input_ids: received shape (2, 0), expected at least one token"),
    ({"input_ids": IDS[:0]}, ValueError, "input_ids: received shape (0, 5), expected at least one token"),
    ({"input_ids": IDS.astype(np.float32)}, TypeError, "input_ids: received dtype float32, expected integers"),
    ({"input_ids": IDS > 3}, TypeError, "input_ids: received dtype bool, expected integers"),
    ({"input_ids": np.array([[0, 19]])}, ValueError, "input_ids: received 19, expected 0 ... 18 (vocab_size is 19)"),
    ({"input_ids": np.array([[0, -1]])}, ValueError, "input_ids: received -1, expected 0 ... 18 (vocab_size is 19)"),
    (
        {"inputs_embeds": EMBEDS[0]},
        ValueError,
        "inputs_embeds: received shape (5, 12), expected (batch, positions, 12)",
    ),
    ({"inputs_embeds": EMBEDS[..., :3]}, ValueError, "received shape (2, 5, 3), expected (batch, positions, 12)"),
    ({"inputs_embeds": EMBEDS[:, :0]}, ValueError, "received shape (2, 0, 12), expected (batch, positions, 12)"),
    ({"inputs_embeds": EMBEDS.astype(np.float64)}, TypeError, "inputs_embeds: received dtype float64, expected"),
    (
        {"inputs_embeds": EMBEDS.astype(np.int64)},
        TypeError,
        "received dtype int64, expected the parameters' own, float32",
    ),
    (
        {"input_ids": IDS, "attention_mask": ones(2, 4)},
        ValueError,
        "attention_mask: received shape (2, 4), expected (2, 5)",
    ),
    ({"input_ids": IDS, "attention_mask": ones(5)}, ValueError, "attention_mask: received shape (5,), expected (2, 5)"),
    (
        {"input_ids": IDS, "attention_mask": [[1] * 5] * 2},
        TypeError,
        "attention_mask: received a list, expected an array",
    ),
    (
        {"input_ids": IDS, "position_ids": ones(5)},
        ValueError,
        "position_ids: received shape (5,), expected (2, 5) or (1, 5)",
    ),
    ({"input_ids": IDS, "position_ids": 24 * ones(2, 5)}, ValueError, "position_ids: received 24, expected 0 ... 23"),
    ({"input_ids": IDS, "position_ids": -ones(2, 5)}, ValueError, "(max_position_embeddings is 24)"),
    ({"input_ids": IDS, "position_ids": ones(2, 5, dtype=float)}, TypeError, "position_ids: received dtype float64"),
    (
        {"input_ids": IDS, "token_type_ids": ones(1, 5)},
        ValueError,
        "token_type_ids: received shape (1, 5), expected (2, 5)",
    ),
    (
        {"input_ids": IDS, "token_type_ids": 19 * ones(2, 5)},
        ValueError,
        "token_type_ids: received 19, expected 0 ... 18",
    ),
    (
        {"input_ids": IDS, "past_key_values": ((1, 2),)},
        TypeError,
        "past_key_values: received a tuple, expected output.past",
    ),
    ({"input_ids": IDS, "labls": IDS}, TypeError, "takes no argument 'labls'"),
]


@pytest.mark.parametrize("cls", ALL_CLASSES)
@pytest.mark.parametrize(("inputs", "error", "message"), WRONG_INPUTS)
def test_wrong_inputs_of_every_class(cls: Any, inputs: dict[str, Any], error: type[Exception], message: str) -> None:
    with raises(error, message):
        tiny(cls)(**inputs)


@pytest.mark.parametrize("cls", ALL_CLASSES)
def test_an_unknown_argument_is_told_the_known_ones(cls: Any) -> None:
    known = {"GPTNeoModel": "none", "GPTNeoForCausalLM": "labels, logits_to_keep"}
    with raises(TypeError, f"{cls.__name__} takes no argument 'lables'; beyond the transformer's inputs it takes "):
        tiny(cls)(IDS, lables=IDS)
    if cls.__name__ in known:
        with raises(TypeError, known[cls.__name__]):
            tiny(cls)(IDS, lables=IDS)


class TestLength:
    def test_up_to_the_last_position_and_no_farther(self) -> None:
        model = tiny(GPTNeoModel, "l", hidden_size=2, num_heads=1, max_position_embeddings=2048)
        for length in (2047, 2048):
            assert model(tokens(1, length)).last_hidden_state.shape == (1, length, 2)
        with raises(
            ValueError, "2049 positions (0 cached and 2049 new), but the model has max_position_embeddings = 2048"
        ):
            model(tokens(1, 2049))

    def test_the_hint_fits_the_mistake(self) -> None:
        with pytest.raises(ValueError, match=r"expected \(batch, positions\)\.$"):
            tiny(GPTNeoModel)(IDS[None])

    def test_cached_positions_count(self) -> None:
        model = tiny(GPTNeoModel, max_position_embeddings=8)
        past = model(tokens(1, 6)).past_key_values
        assert model(tokens(1, 2), past_key_values=past).past_key_values.length == 8
        with raises(ValueError, "9 positions (6 cached and 3 new), but the model has max_position_embeddings = 8"):
            model(tokens(1, 3), past_key_values=past)

    def test_embeddings_count_as_tokens_do(self) -> None:
        with raises(ValueError, "The input has 5 positions (0 cached and 5 new)"):
            tiny(GPTNeoModel, max_position_embeddings=4)(inputs_embeds=EMBEDS)

    def test_padding_may_go_beyond_when_positions_are_given(self) -> None:
        model, mask = tiny(GPTNeoModel, max_position_embeddings=4), np.array([[0, 0, 1, 1, 1]])
        out = model(IDS[:1], mask, np.array([[0, 0, 0, 1, 2]])).last_hidden_state
        np.testing.assert_allclose(out[:, 2:], model(IDS[:1, 2:]).last_hidden_state, rtol=1e-4, atol=1e-5)


class TestCache:
    def past(self, layers: str = "gl", **fields: Any) -> Any:
        return tiny(GPTNeoModel, layers, **fields)(IDS).past_key_values

    def test_of_another_batch(self) -> None:
        with raises(
            ValueError, "keys of shape (2, 3, 5, 4) in layer 0, expected (1, 3, 5, 4), which is (batch, heads, "
        ):
            tiny(GPTNeoModel)(IDS[:1], past_key_values=self.past())

    def test_of_a_model_with_more_layers(self) -> None:
        with raises(ValueError, "past_key_values: received 3 layers, expected 2"):
            tiny(GPTNeoModel)(IDS, past_key_values=self.past("glg"))

    @pytest.mark.parametrize(
        ("layers", "fields", "layer", "received", "expected"),
        [
            ("gl", {"num_heads": 2}, 0, (2, 2, 5, 6), (2, 3, 5, 4)),
            ("gl", {"hidden_size": 6}, 0, (2, 3, 5, 2), (2, 3, 5, 4)),
            ("gl", {"window_size": 4}, 1, (2, 3, 3, 4), (2, 3, 2, 4)),
            ("lg", {}, 0, (2, 3, 2, 4), (2, 3, 5, 4)),
        ],
    )
    def test_of_another_model(
        self, layers: str, fields: dict[str, Any], layer: int, received: tuple[int, ...], expected: tuple[int, ...]
    ) -> None:
        with raises(ValueError, f"keys of shape {received} in layer {layer}, expected {expected}"):
            tiny(GPTNeoModel)(IDS, past_key_values=self.past(layers, **fields))

    def test_the_mask_covers_the_past(self) -> None:
        with raises(
            ValueError,
            "received shape (2, 5), expected (2, 10): one entry for each of 5 cached and 5 new positions",
        ):
            tiny(GPTNeoModel)(IDS, ones(2, 5), past_key_values=self.past())


class TestLabels:
    @pytest.mark.parametrize(
        ("labels", "error", "message"),
        [
            (ones(2, 4), ValueError, "labels: received shape (2, 4), expected (2, 5)"),
            (ones(10), ValueError, "labels: received shape (10,), expected (2, 5)"),
            (ones(2, 5, dtype=np.float32), TypeError, "labels: received dtype float32, expected integers"),
            (19 * ones(2, 5), ValueError, "labels: received 19, expected 0 ... 18, or -100 to ignore it"),
            (-ones(2, 5), ValueError, "labels: received -1, expected 0 ... 18, or -100 to ignore it"),
            ([[1] * 5] * 2, TypeError, "labels: received a list, expected an array"),
        ],
    )
    def test_of_a_language_model(self, labels: Any, error: type[Exception], message: str) -> None:
        with raises(error, message):
            tiny(GPTNeoForCausalLM)(IDS, labels=labels)

    def test_of_a_tagger(self) -> None:
        with raises(ValueError, "labels: received 4, expected 0 ... 3, or -100 to ignore it"):
            tiny(GPTNeoForTokenClassification)(IDS, labels=4 * ones(2, 5))
        with raises(ValueError, "labels: received shape (2,), expected (2, 5)"):
            tiny(GPTNeoForTokenClassification)(IDS, labels=ones(2))

    @pytest.mark.parametrize(
        ("fields", "labels", "error", "message"),
        [
            ({}, ones(3), ValueError, "labels: received shape (3,), expected (2,) or (2, 1)"),
            ({}, 4 * ones(2), ValueError, "labels: received 4, expected 0 ... 3"),
            ({}, ones(2, dtype=np.float32), ValueError, "labels: received shape (2,), expected (2, 4)"),
            ({}, ones(2, 4, dtype=np.complex64), TypeError, "labels: received dtype complex64, expected real numbers"),
            ({"num_labels": 1}, ones(2, 2), ValueError, "labels: received shape (2, 2), expected (2,) or (2, 1)"),
            ({"problem_type": "regression"}, ones(2), ValueError, "labels: received shape (2,), expected (2, 4)"),
            (
                {"problem_type": "single_label_classification"},
                ones(2, dtype=np.float32),
                TypeError,
                "labels: received dtype float32, expected integers",
            ),
        ],
    )
    def test_of_a_classifier(
        self, fields: dict[str, Any], labels: np.ndarray, error: type[Exception], message: str
    ) -> None:
        with raises(error, message):
            tiny(GPTNeoForSequenceClassification, **fields)(IDS, labels=labels)

    @pytest.mark.parametrize(
        ("positions", "error", "message"),
        [
            (ones(3), ValueError, "end_positions: received shape (3,), expected (2,) or (2, 1)"),
            (ones(2, dtype=np.float32), TypeError, "end_positions: received dtype float32, expected integers"),
            ([1, 2], TypeError, "end_positions: received a list, expected an array"),
        ],
    )
    def test_of_a_question_answerer(self, positions: Any, error: type[Exception], message: str) -> None:
        with raises(error, message):
            tiny(GPTNeoForQuestionAnswering)(IDS, start_positions=ones(2), end_positions=positions)


def test_a_classifier_needs_a_padding_id_for_more_than_one_text() -> None:
    model = tiny(GPTNeoForSequenceClassification, pad_token_id=None)
    with raises(ValueError, "A batch of 2 texts needs config.pad_token_id"):
        model(IDS)
    model.config.pad_token_id = 0
    assert model(IDS).logits.shape == (2, 4)


@pytest.mark.parametrize(
    ("keep", "error", "message"),
    [
        (-1, ValueError, "logits_to_keep: received -1, expected 0 (all) or the number of last positions"),
        (np.array([0, 5]), ValueError, "logits_to_keep: received [0 5], expected positions of the input, 0 ... 4"),
        (np.array([-6]), ValueError, "logits_to_keep: received [-6], expected positions of the input"),
        (np.array([1.0]), TypeError, "logits_to_keep: received dtype float64, expected integers"),
        ([1], TypeError, "logits_to_keep: received a list, expected an array"),
    ],
)
def test_logits_to_keep(keep: Any, error: type[Exception], message: str) -> None:
    with raises(error, message):
        tiny(GPTNeoForCausalLM)(IDS, logits_to_keep=keep)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (
            np.array([[0.0, -np.inf]]),
            ValueError,
            "attention_mask: received -inf, expected 1 at tokens and 0 at padding",
        ),
        (np.array([[2, 1]]), ValueError, "attention_mask: received 2, expected 1 at tokens"),
        (np.array([[np.nan, 1]]), ValueError, "attention_mask: received nan, expected 1 at tokens"),
        (np.array([["a", "b"]]), TypeError, "attention_mask: received dtype <U1, expected integers or booleans"),
        (np.array([[None, 1]]), TypeError, "attention_mask: received dtype object, expected integers or booleans"),
    ],
)
def test_masks_that_mean_something_else(mask: np.ndarray, error: type[Exception], message: str) -> None:
    with raises(error, message):
        tiny(GPTNeoModel)(IDS[:1, :2], mask)


@pytest.mark.parametrize("keep", [1, np.array([0, 1, 2, 3, 4])])
def test_labels_need_all_logits(keep: Any) -> None:
    with raises(ValueError, "labels need logits at all positions: leave logits_to_keep at 0"):
        tiny(GPTNeoForCausalLM)(IDS, labels=IDS, logits_to_keep=keep)


class TestParams:
    def changed(self, **changes: Any) -> GPTNeoForTokenClassification:
        model = tiny(GPTNeoForTokenClassification)
        params = {name: changes.get(name.replace(".", "_"), array) for name, array in model.params.items()}
        return GPTNeoForTokenClassification(model.config, params)

    @pytest.mark.parametrize(
        ("wrong", "error", "message"),
        [
            (np.zeros((4, 11), np.float32), ValueError, "classifier.weight: received shape (4, 11), expected (4, 12)"),
            (np.zeros((4, 12), np.int64), TypeError, "classifier.weight: received dtype int64, expected a floating"),
            ([[0.0] * 12] * 4, TypeError, "classifier.weight: received a list, expected an array"),
            (None, ValueError, "params has no 'classifier.weight', expected an array of shape (4, 12)"),
        ],
    )
    def test_that_do_not_fit(self, wrong: Any, error: type[Exception], message: str) -> None:
        with raises(error, message):
            self.changed(classifier_weight=wrong)

    def test_that_are_missing_or_too_many(self) -> None:
        config, params = tiny_config(), tiny(GPTNeoModel).params
        with raises(ValueError, "params has no 'transformer.wte.weight', expected an array of shape (19, 12)"):
            GPTNeoForCausalLM(config, params)
        with raises(ValueError, "params has 'lm_head.weight', expected exactly the names"):
            GPTNeoModel(config, params | {"lm_head.weight": params["wte.weight"]})

    def test_the_dictionary_is_copied_and_the_arrays_are_not(self) -> None:
        params = tiny(GPTNeoModel).params
        model = GPTNeoModel(tiny_config(), params)
        assert model.params is not params
        assert all(model.params[name] is array for name, array in params.items())

    def test_a_configuration_of_another_kind(self) -> None:
        for config, kind in [({"vocab_size": 3}, "dict"), (None, "NoneType"), (GPTNeoModel, "type")]:
            with raises(TypeError, f"config: received a {kind}, expected a GPTNeoConfig"):
                GPTNeoModel(config)

    def test_an_unknown_activation_is_refused_at_once(self) -> None:
        with raises(ValueError, "activation_function: received 'gleu', expected one of gelu_new, "):
            GPTNeoModel(tiny_config(activation_function="gleu"))
