"""The outputs: by attribute, by key, by position, and what each class fills in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_models import ALL_CLASSES, tiny, tokens

from minineo.classes import GPTNeoForCausalLM, GPTNeoForQuestionAnswering, GPTNeoModel
from minineo.model.cache import Cache
from minineo.model.outputs import CausalLMOutputWithPast

FIELDS = {
    "GPTNeoModel": ["last_hidden_state", "past_key_values", "hidden_states", "attentions"],
    "GPTNeoForCausalLM": ["loss", "logits", "past_key_values", "hidden_states", "attentions"],
    "GPTNeoForSequenceClassification": ["loss", "logits", "past_key_values", "hidden_states", "attentions"],
    "GPTNeoForTokenClassification": ["loss", "logits", "hidden_states", "attentions"],
    "GPTNeoForQuestionAnswering": ["loss", "start_logits", "end_logits", "hidden_states", "attentions"],
}


def labels(cls: Any, B: int, T: int) -> dict[str, np.ndarray]:
    match cls.__name__:
        case "GPTNeoModel":
            return {}
        case "GPTNeoForQuestionAnswering":
            return {"start_positions": np.zeros(B, np.int64), "end_positions": np.ones(B, np.int64)}
        case "GPTNeoForSequenceClassification":
            return {"labels": np.ones(B, np.int64)}
    return {"labels": np.ones((B, T), np.int64)}


@pytest.mark.parametrize("cls", ALL_CLASSES)
def test_everything_asked_for_is_there_in_hugging_faces_order(cls: Any) -> None:
    output = tiny(cls)(tokens(2, 4), **labels(cls, 2, 4), output_attentions=True, output_hidden_states=True)
    assert list(output.keys()) == FIELDS[cls.__name__]
    assert len(output.to_tuple()) == len(output) == len(FIELDS[cls.__name__])
    for position, name in enumerate(output):
        assert output[name] is output[position] is getattr(output, name) is output.get(name)
        assert name in output


@pytest.mark.parametrize("cls", ALL_CLASSES)
def test_what_was_not_asked_for_is_none_and_has_no_place(cls: Any) -> None:
    output = tiny(cls)(tokens(2, 4), use_cache=False)
    assert output.hidden_states is None
    assert output.attentions is None
    expected = [n for n in FIELDS[cls.__name__] if n.endswith(("logits", "last_hidden_state"))]
    assert list(output.keys()) == expected
    assert "attentions" not in output
    assert output.get("attentions", 7) == 7
    with pytest.raises(KeyError):
        output["attentions"]
    with pytest.raises(IndexError):
        output[len(expected)]


@pytest.mark.parametrize("cls", ALL_CLASSES)
def test_return_dict_false_gives_the_tuple(cls: Any) -> None:
    model = tiny(cls)
    as_tuple = model(tokens(1, 4), return_dict=False)
    as_output = model(tokens(1, 4))
    assert type(as_tuple) is tuple
    assert len(as_tuple) == len(as_output)
    np.testing.assert_array_equal(as_tuple[0], as_output[0])
    model.config.return_dict = False
    assert type(model(tokens(1, 4))) is tuple
    assert model(tokens(1, 4), return_dict=True)[0].shape == as_output[0].shape


def test_slices_and_loops() -> None:
    output = CausalLMOutputWithPast(loss=np.float32(1.0), logits=np.zeros((1, 2, 3)))
    assert output[:1] == (output.loss,)
    assert dict(output.items()).keys() == {"loss", "logits"}
    assert list(output) == ["loss", "logits"]
    assert [np.shape(value) for value in output.values()] == [(), (1, 2, 3)]


def test_equality_is_identity() -> None:
    model = tiny(GPTNeoModel)
    first, second = model(tokens(2, 3)), model(tokens(2, 3))
    assert first in [second, first]
    assert first != second


def test_the_configuration_decides_where_the_call_does_not() -> None:
    model = tiny(GPTNeoForCausalLM, output_attentions=True, output_hidden_states=True, use_cache=False)
    output = model(tokens(1, 3))
    assert output.past_key_values is None
    assert len(output.attentions) == 2
    assert len(output.hidden_states) == 3
    silent = model(tokens(1, 3), output_attentions=False, output_hidden_states=False, use_cache=True)
    assert list(silent.keys()) == ["logits", "past_key_values"]
    assert isinstance(silent.past_key_values, Cache)


def test_hidden_states_are_the_stream_before_each_block_and_the_end() -> None:
    model, trace = tiny(GPTNeoModel, "glg"), {}
    output = model(tokens(1, 3), output_hidden_states=True, tap=lambda name, value: trace.setdefault(name, value))
    expected = [trace[name] for name in ("embed", "h.0.resid_post", "h.1.resid_post", "ln_f")]
    assert all(a is b for a, b in zip(output.hidden_states, expected, strict=True))
    assert output.hidden_states[-1] is output.last_hidden_state


def test_a_question_answerer_and_a_tagger_return_no_cache() -> None:
    for cls in (GPTNeoForQuestionAnswering, ALL_CLASSES[3]):
        assert "past_key_values" not in tiny(cls)(tokens(1, 3), use_cache=True)
