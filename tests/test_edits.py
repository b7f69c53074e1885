"""Edits: what replaces an intermediate, in a call and in generation, and what an edit cannot do by mistake."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ALL_CLASSES, tiny, tokens

import minineo
from minineo.classes import GPTNeoForCausalLM, GPTNeoForQuestionAnswering, GPTNeoModel
from minineo.generation import generate_steps
from minineo.tap import Recorder

NAMES = tiny(GPTNeoForCausalLM).intermediate_names()


def same(value: Any) -> Any:
    return value


def halve(value: Any) -> Any:
    return 0.5 * value


# --- what an edit changes ---


@pytest.mark.parametrize("cls", ALL_CLASSES)
def test_an_identity_changes_nothing(cls: Any) -> None:
    model, ids = tiny(cls), tokens(2, 5)
    for edits in ({"*": same}, {}, {"h.*": same, "h.0.*": same}):
        plain, edited = Recorder(), Recorder()
        model(ids, tap=plain)
        output = model(ids, tap=edited, edits=edits)
        assert list(edited) == list(plain)
        for name in plain:
            np.testing.assert_array_equal(edited[name], plain[name], err_msg=name)
        np.testing.assert_allclose(output[0], model(ids)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_replaces_a_value_and_what_comes_after_it(name: str) -> None:
    model, ids = tiny(GPTNeoForCausalLM, dtype=np.float64), tokens(2, 5)
    inputs = {"input_ids": ids, "token_type_ids": ids[:, ::-1], "labels": ids}
    expected = Recorder(tap=lambda its_name, value: 0.5 * value if its_name == name else value)
    expected_output = model(**inputs, tap=expected)
    output, trace = model.trace(**inputs, edits={name: halve})
    for its_name in expected:
        np.testing.assert_array_equal(trace[its_name], expected[its_name], err_msg=its_name)
    assert float(output.loss) == float(expected_output.loss)
    assert not np.allclose(output.logits, model(**inputs).logits)


@pytest.mark.parametrize("name", NAMES)
def test_an_array_from_another_prompt_takes_the_place_of_the_value(name: str) -> None:
    model, ids = tiny(GPTNeoForCausalLM), tokens(1, 5)
    inputs = {"input_ids": ids, "token_type_ids": ids}
    _, other = model.trace(ids[:, ::-1], name, token_type_ids=ids[:, ::-1], position_ids=np.arange(5)[None, ::-1])
    by_array, trace = model.trace(**inputs, edits={name: other[name]})
    by_function = model(**inputs, edits={name: lambda value: other[name]})
    as_trace = model(**inputs, edits=other)
    np.testing.assert_array_equal(trace[name], other[name])
    np.testing.assert_array_equal(by_array.logits, by_function.logits)
    np.testing.assert_array_equal(by_array.logits, as_trace.logits)


def test_the_whole_of_another_pass_gives_its_output() -> None:
    model = tiny(GPTNeoForCausalLM)
    output, trace = model.trace(tokens(1, 5, seed=1))
    np.testing.assert_array_equal(model(tokens(1, 5, seed=2), edits=trace).logits, output.logits)


def test_a_name_that_several_keys_stand_for_is_edited_in_their_order() -> None:
    model, ids = tiny(GPTNeoModel, dtype=np.float64), tokens(1, 4)
    double_then_add = {"h.*.ln_1": lambda value: 2.0 * value, "h.1.ln_1": lambda value: value + 1.0}
    _, trace = model.trace(ids, "h.1.ln_1", edits={"h.1.ln_1": double_then_add["h.1.ln_1"]})
    _, both = model.trace(ids, "h.*.ln_1", edits=double_then_add)
    _, plain = model.trace(ids, "h.*.ln_1")
    np.testing.assert_array_equal(both["h.0.ln_1"], 2.0 * plain["h.0.ln_1"])
    _, reverse = model.trace(ids, "h.1.ln_1", edits=dict(reversed(double_then_add.items())))
    np.testing.assert_array_equal(trace["h.1.ln_1"], plain["h.1.ln_1"] + 1.0)
    np.testing.assert_allclose(reverse["h.1.ln_1"] - both["h.1.ln_1"], 1.0, atol=1e-12)


def test_edits_come_first_and_the_tap_sees_what_they_made() -> None:
    model, ids = tiny(GPTNeoForCausalLM), tokens(1, 4)
    seen = []

    def tap(name: str, value: Any) -> Any:
        seen.append((name, value.copy()))
        return value + 1.0 if name == "logits" else value

    output, trace = model.trace(ids, "logits", tap=tap, edits={"logits": np.zeros_like})
    assert [name for name, _ in seen] == model.intermediate_names(token_types=False)
    assert not seen[-1][1].any()
    np.testing.assert_array_equal(output.logits, 1.0)
    np.testing.assert_array_equal(trace["logits"], 1.0)


def test_edits_reach_what_the_model_returns() -> None:
    model, ids = tiny(GPTNeoForCausalLM, "glg"), tokens(1, 4)
    edits = {"h.1.attn.pattern": np.zeros_like, "h.0.resid_post": np.zeros_like, "ln_f": np.ones_like}
    output = model(ids, labels=ids, output_attentions=True, output_hidden_states=True, edits=edits)
    assert [bool(pattern.any()) for pattern in output.attentions] == [True, False, True]
    assert [bool(state.any()) for state in output.hidden_states] == [True, False, True, True]
    np.testing.assert_array_equal(output.hidden_states[-1], 1.0)
    flat = model(ids, labels=ids, edits={"logits": np.zeros_like})
    assert float(flat.loss) == pytest.approx(np.log(19), rel=1e-6)
    answers, position = tiny(GPTNeoForQuestionAnswering), np.array([1])
    positions = {"start_positions": position, "end_positions": position}
    assert float(answers(ids, **positions, edits={"logits": np.zeros_like}).loss) == pytest.approx(np.log(4), rel=1e-6)


def test_without_edits_no_tap_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = tiny(GPTNeoModel), tokens(1, 3)
    expected = model(ids)[0]
    monkeypatch.setattr("minineo.fast.transformer.reference.transformer", None)  # who edits or looks is sent there
    np.testing.assert_array_equal(model(ids)[0], expected)
    np.testing.assert_array_equal(model(ids, edits=None)[0], expected)
    np.testing.assert_array_equal(model(ids, edits={})[0], expected)
    with pytest.raises(TypeError):
        model(ids, edits={"ln_f": same})


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(NAMES), st.integers(1, 5), st.integers(0, 3), st.sampled_from(["gl", "lg", "gg"]))
def test_edits_by_position_do_not_reach_back(name: str, T: int, at: int, layers: str) -> None:
    """Attention is causal: an edit at a position changes nothing before it."""
    model, ids, at = tiny(GPTNeoForCausalLM, layers), tokens(1, T), min(at, T - 1)
    inputs = {"input_ids": ids, "token_type_ids": ids}

    def edit(value: Any) -> Any:
        axis = {"scores": 2, "pattern": 2, "q": 2, "k": 2, "v": 2, "z": 2}.get(name.rpartition(".")[2], 1)
        value[(slice(None),) * axis + (at,)] = 0.25
        return value

    changed, plain = model(**inputs, edits={name: edit}).logits, model(**inputs, edits={name: same}).logits
    np.testing.assert_array_equal(changed[:, :at], plain[:, :at])


# --- what an edit cannot do by mistake ---


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layers", ["gg", "ll"])
def test_changing_the_argument_in_place_hurts_nothing_but_the_value(name: str, layers: str) -> None:
    model, ids = tiny(GPTNeoForCausalLM, layers), tokens(1, 5)
    embeds = np.random.default_rng(0).standard_normal((1, 5, 12)).astype(np.float32)
    past = model(ids).past_key_values
    kept = []

    def zero(value: Any) -> Any:
        value[...] = 0.0
        kept.append(value)
        return value

    def spoil(value: Any) -> Any:
        result = value.copy()
        value[...] = np.nan
        return result

    params = {key: value.copy() for key, value in model.params.items()}
    keys_and_values = [(k.copy(), v.copy()) for k, v in past]
    for first in ({"input_ids": ids}, {"inputs_embeds": embeds.copy()}):
        inputs = first | {"token_type_ids": ids, "past_key_values": past}
        by_hand = model(**inputs, edits={name: np.zeros_like})
        in_place = model(**inputs, edits={name: zero})
        np.testing.assert_array_equal(in_place.logits, by_hand.logits)
        np.testing.assert_array_equal(
            model(**inputs, edits={name: spoil}).logits, model(**inputs, edits={name: same}).logits
        )
        before = [(k.copy(), v.copy()) for k, v in in_place.past_key_values]
        for value in kept:  # an edit that keeps what it was given, and changes it when all is over
            value[...] = np.nan
        for pair, old in zip(in_place.past_key_values, before, strict=True):
            np.testing.assert_array_equal(pair, old)
        assert not np.isnan(in_place.logits).any()
        np.testing.assert_array_equal(first.get("inputs_embeds", embeds), embeds)
    for key, value in model.params.items():
        np.testing.assert_array_equal(value, params[key], err_msg=key)
    for pair, old in zip(past, keys_and_values, strict=True):
        np.testing.assert_array_equal(pair, old)


def test_a_patch_is_not_shared_with_the_cache() -> None:
    model, ids = tiny(GPTNeoForCausalLM, "gg"), tokens(1, 4)
    patch = np.ones((1, 3, 4, 4), np.float32)
    output = model(ids, edits={"h.0.attn.k": patch, "h.1.attn.v": lambda value: patch})
    patch[...] = np.nan
    assert not np.isnan(output.past_key_values[0][0]).any()
    assert not np.isnan(output.past_key_values[1][1]).any()


def test_a_result_is_cast_to_the_float_of_the_value() -> None:
    model, ids = tiny(GPTNeoForCausalLM), tokens(1, 4)
    output, trace = model.trace(ids, edits={"*": lambda value: value.astype(np.float64)})
    assert {value.dtype for value in trace.values()} == {np.dtype(np.float32)}
    assert output.logits.dtype == np.float32
    wide = model(ids, edits={"h.0.mlp.act": lambda value: value.astype(np.float64) * 0.5}).logits
    np.testing.assert_array_equal(wide, model(ids, edits={"h.0.mlp.act": halve}).logits)


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (
            lambda value: None,
            TypeError,
            r"'ln_f': the function returned a NoneType, expected an array of shape \(1, 4,",
        ),
        (lambda value: None, TypeError, "return statement"),
        (lambda value: 0.0, TypeError, "returned a float"),
        (lambda value: value.sum(), ValueError, r"of shape \(\), expected \(1, 4, 12\)"),
        (lambda value: value[:, 1:], ValueError, r"returned an array of shape \(1, 3, 12\), expected \(1, 4, 12\)"),
        (lambda value: value.tolist(), TypeError, "returned a list"),
        (lambda value: value > 0, TypeError, "returned an array of dtype bool"),
        (lambda value: value.astype(np.int64), TypeError, "dtype int64, expected floats"),
        (lambda value: value + 1j, TypeError, "dtype complex64"),
        (lambda value: strict.asarray(value), TypeError, "of array_api_strict, expected one of numpy"),
        (np.zeros((1, 5, 12), np.float32), ValueError, r"'ln_f': received an array of shape \(1, 5, 12\)"),
        (np.zeros((12,), np.float32), ValueError, r"received an array of shape \(12,\), expected \(1, 4, 12\)"),
        (np.zeros((1, 4, 12), np.int64), TypeError, "received an array of dtype int64"),
        (strict.zeros((1, 4, 12)), TypeError, "received an array of array_api_strict"),
        (0.0, TypeError, "'ln_f': received a float, expected a function of the value, or an array"),
        (None, TypeError, "'ln_f': received a NoneType"),
    ],
)
def test_a_result_that_does_not_fit_is_an_error_that_names_it(edit: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        tiny(GPTNeoModel)(tokens(1, 4), edits={"ln_f": edit})


def test_an_error_inside_an_edit_is_the_users() -> None:
    def broken(value: Any) -> Any:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        tiny(GPTNeoModel)(tokens(1, 4), edits={"ln_f": broken})


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ("h.0.atn.out", ValueError, "edits: received 'h.0.atn.out'.*Did you mean 'h.0.attn.out'"),
        ("h.*.atn.out", ValueError, "Did you mean 'h.[01].attn.out'"),
        ("h.2.mlp.out", ValueError, "Did you mean 'h.[01].mlp.out'"),
        ("wtt", ValueError, "only where token_type_ids are passed"),
        ("logits", ValueError, "only by a model with a head"),
        (3, TypeError, "edits: received 3, expected a name"),
    ],
)
def test_a_key_that_stands_for_nothing_is_an_error(key: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        tiny(GPTNeoModel)(tokens(1, 4), edits={key: same})


@pytest.mark.parametrize("edits", [same, ["ln_f"], "ln_f", np.zeros(3)])
def test_edits_that_are_no_mapping_are_an_error(edits: Any) -> None:
    with pytest.raises(TypeError, match=r"edits: received a .*, expected a dictionary"):
        tiny(GPTNeoModel)(tokens(1, 4), edits=edits)


def test_any_array_library() -> None:
    model, ids = tiny(GPTNeoForCausalLM), tokens(1, 4)
    other = GPTNeoForCausalLM(model.config, {name: strict.asarray(value) for name, value in model.params.items()})
    edits = {"h.0.attn.out": halve, "h.1.mlp.pre": lambda value: strict.astype(value, strict.float64)}
    expected = model(ids, edits={"h.0.attn.out": halve}).logits
    edited = other(strict.asarray(ids), edits=edits).logits
    assert edited.dtype == strict.float32
    np.testing.assert_allclose(np.asarray(edited), expected, atol=1e-4)


# --- in generation ---

SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampling": {"do_sample": True, "seed": 1, "num_return_sequences": 2, "temperature": 0.7},
    "beams": {"num_beams": 3},
    "sampled beams": {"num_beams": 2, "do_sample": True, "seed": 3},
    "prompt lookup": {"prompt_lookup_num_tokens": 3},
    "assistant": {"assistant_model": tiny(GPTNeoForCausalLM, seed=5), "num_assistant_tokens": 3},
    "without a cache": {"use_cache": False},
}
LONG = {"max_position_embeddings": 40, "window_size": 6, "eos_token_id": None}


@pytest.mark.parametrize("how", SEARCHES)
def test_an_identity_changes_no_text(how: str) -> None:
    model, ids = tiny(GPTNeoForCausalLM, dtype=np.float64, **LONG), tokens(1, 6)
    arguments = SEARCHES[how] | {"max_new_tokens": 12}
    if how == "assistant":
        arguments["assistant_model"] = tiny(GPTNeoForCausalLM, seed=5, dtype=np.float64, **LONG)
    expected = model.generate(ids, **arguments)
    np.testing.assert_array_equal(model.generate(ids, **arguments, edits={"*": same}), expected)


def greedily(model: Any, ids: np.ndarray, steps: int, edits: Any) -> np.ndarray:
    """Greedy search without a cache: all positions are computed at each step."""
    for _ in range(steps):
        logits = model(ids, edits=edits).logits
        ids = np.concatenate([ids, logits[:, -1:].argmax(axis=-1)], axis=1)
    return ids


def without_first_head(value: Any) -> Any:
    value[:, 0] = 0.0
    return value


EDITS: dict[str, Any] = {
    "an MLP": {"h.1.mlp.out": np.zeros_like},
    "all attention": {"h.*.attn.out": np.zeros_like},
    "a head": {"h.0.attn.z": without_first_head},
    "keys": {"h.*.attn.k": lambda value: -3.0 * value},
    "values": {"h.*.attn.v": lambda value: -value},
    "queries": {"h.1.attn.q": halve},
    "logits": {"logits": lambda value: -value},
    "the pattern": {"h.0.attn.pattern": halve},
}


@pytest.mark.parametrize("what", EDITS)
@pytest.mark.parametrize("how", ["greedy", "prompt lookup", "assistant", "without a cache", "one beam of many"])
def test_an_edit_in_generation_is_the_edit_of_each_full_pass(what: str, how: str) -> None:
    model, ids = tiny(GPTNeoForCausalLM, "glg", seed=1, dtype=np.float64, **LONG), tokens(1, 6)
    arguments = SEARCHES.get(how, {}) | {"max_new_tokens": 12}
    if how == "assistant":
        arguments["assistant_model"] = tiny(GPTNeoForCausalLM, seed=5, dtype=np.float64, **LONG)
    if how == "one beam of many":
        arguments |= {"num_beams": 2, "max_new_tokens": 1}  # one step of beams is greedy search
    expected = greedily(model, ids, arguments["max_new_tokens"], EDITS[what])
    if arguments["max_new_tokens"] > 1:  # this model's text, of several words, is one that each of the edits changes
        assert not np.array_equal(expected, greedily(model, ids, arguments["max_new_tokens"], {}))
    np.testing.assert_array_equal(model.generate(ids, **arguments, edits=EDITS[what]), expected)


@pytest.mark.parametrize("cut", [1, 3, 6])
@pytest.mark.parametrize("what", EDITS)
def test_edited_keys_and_values_are_those_that_the_cache_hands_on(what: str, cut: int) -> None:
    model, ids = tiny(GPTNeoForCausalLM, "glg", dtype=np.float64, **LONG), tokens(2, 9)
    whole = model(ids, edits=EDITS[what]).logits
    first = model(ids[:, :cut], edits=EDITS[what])
    rest = model(ids[:, cut:], past_key_values=first.past_key_values, edits=EDITS[what]).logits
    np.testing.assert_allclose(np.concatenate([first.logits, rest], axis=1), whole, rtol=1e-9, atol=1e-9)


def test_each_step_edits_its_new_positions_only() -> None:
    model, ids = tiny(GPTNeoForCausalLM), tokens(1, 4)
    shapes: list[tuple[int, ...]] = []

    def note(value: Any) -> Any:
        shapes.append(value.shape)
        return value

    model.generate(ids, max_new_tokens=3, edits={"h.0.attn.k": note})
    assert shapes == [(1, 3, 4, 4), (1, 3, 1, 4), (1, 3, 1, 4)]
    shapes.clear()
    model.generate(ids, max_new_tokens=3, use_cache=False, edits={"h.0.attn.k": note})
    assert shapes == [(1, 3, 4, 4), (1, 3, 5, 4), (1, 3, 6, 4)]


def test_an_assistant_is_not_edited() -> None:
    model, assistant = tiny(GPTNeoForCausalLM, "glg", **LONG), tiny(GPTNeoForCausalLM, "gl", seed=5, **LONG)
    edits = {"h.2.mlp.out": np.zeros_like}  # in a layer that the assistant does not have: there it would be an error
    expected = model.generate(tokens(1, 4), max_new_tokens=6, edits=edits)
    assisted = model.generate(tokens(1, 4), assistant_model=assistant, max_new_tokens=6, edits=edits)
    np.testing.assert_array_equal(assisted, expected)


@pytest.mark.parametrize("how", SEARCHES)
def test_a_wrong_name_is_an_error_before_the_first_step(how: str) -> None:
    model = tiny(GPTNeoForCausalLM)
    with pytest.raises(ValueError, match=r"Did you mean 'h\.0\.mlp\.out'"):
        model.generate(tokens(1, 4), **SEARCHES[how], edits={"h.0.mpl.out": same})
    with pytest.raises(ValueError, match="only where token_type_ids are passed"):
        model.generate(tokens(1, 4), **SEARCHES[how], edits={"wtt": same})


def test_steps_are_checked_when_they_are_asked_for() -> None:
    with pytest.raises(ValueError, match=r"Did you mean 'h\.0\.mlp\.out'"):
        generate_steps(tiny(GPTNeoForCausalLM), tokens(1, 4), edits={"h.0.mpl.out": same})


def test_an_array_fits_the_prompt_and_then_says_what_to_do() -> None:
    model, ids = tiny(GPTNeoForCausalLM), tokens(1, 4)
    patch = np.zeros((1, 4, 12), np.float32)
    model.generate(ids, max_new_tokens=1, edits={"h.0.mlp.out": patch})
    with pytest.raises(ValueError, match=r"expected \(1, 1, 12\).*each step of generate is.*use a function"):
        model.generate(ids, max_new_tokens=2, edits={"h.0.mlp.out": patch})


def test_text_is_generated_with_edits() -> None:
    model, tokenizer = minineo.load()
    arguments: dict[str, Any] = {"model": model, "tokenizer": tokenizer, "max_new_tokens": 8, "seed": 0}
    plain = minineo.generate("Once upon a time", **arguments)
    edits = {"h.4.mlp.out": np.zeros_like}
    edited = minineo.generate("Once upon a time", **arguments, edits=edits)
    assert edited != plain
    pieces = minineo.stream("Once upon a time", **arguments, edits=edits)
    assert "Once upon a time" + "".join(pieces) == edited
    ids = SimpleNamespace(**tokenizer("Once upon a time", return_tensors="np")).input_ids
    greedy = minineo.generate("Once upon a time", do_sample=False, **arguments, edits=edits)
    assert greedy == tokenizer.decode(greedily(model, ids, 8, edits)[0])
