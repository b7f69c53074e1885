"""The tap: what a recorder keeps, what an editor changes, and what neither may disturb."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_models import ALL_CLASSES, tiny, tokens

from minineo.classes import GPTNeoForCausalLM, GPTNeoForQuestionAnswering, GPTNeoModel
from minineo.model.names import intermediate_names
from minineo.tap import Recorder, no_tap, under


@pytest.mark.parametrize("cls", ALL_CLASSES)
@pytest.mark.parametrize("typed", [False, True])
def test_the_recorded_names_are_the_listed_ones_in_order(cls: Any, typed: bool) -> None:
    model, ids, trace = tiny(cls, "glg"), tokens(1, 5), Recorder()
    model(ids, token_type_ids=ids if typed else None, tap=trace)
    absent = {"logits"} if cls is GPTNeoModel else set()
    absent |= set() if typed else {"wtt"}
    assert list(trace) == [name for name in intermediate_names(model.config) if name not in absent]


def test_shapes_are_those_of_the_list() -> None:
    model = tiny(GPTNeoForCausalLM, intermediate_size=30)
    B, T, D, H, d, M, V = 2, 5, 12, 3, 4, 30, 19
    trace = Recorder()
    model(tokens(B, T), token_type_ids=tokens(B, T), tap=trace)
    block = {
        **dict.fromkeys(["ln_1", "attn.out", "resid_mid", "ln_2", "mlp.out", "resid_post"], (B, T, D)),
        **dict.fromkeys(["attn.q", "attn.k", "attn.v", "attn.z"], (B, H, T, d)),
        **dict.fromkeys(["attn.scores", "attn.pattern"], (B, H, T, T)),
        **dict.fromkeys(["mlp.pre", "mlp.act"], (B, T, M)),
    }
    expected = {f"h.{i}.{name}": shape for i in range(2) for name, shape in block.items()}
    expected |= {"wte": (B, T, D), "wpe": (1, T, D), "wtt": (B, T, D), "embed": (B, T, D)}
    expected |= {"ln_f": (B, T, D), "logits": (B, T, V)}
    assert {name: value.shape for name, value in trace.items()} == expected


def test_shapes_after_a_cache_and_with_positions() -> None:
    model = tiny(GPTNeoForCausalLM, window_size=3)
    past = model(tokens(2, 6)).past_key_values
    trace = Recorder()
    model(tokens(2, 2), position_ids=np.array([[6, 7], [5, 6]]), past_key_values=past, logits_to_keep=1, tap=trace)
    assert trace["wpe"].shape == (2, 2, 12)
    assert trace["h.0.attn.k"].shape == (2, 3, 2, 4)  # the new ones only
    assert trace["h.0.attn.scores"].shape == (2, 3, 2, 8)  # a global layer keeps all that was seen
    assert trace["h.1.attn.scores"].shape == (2, 3, 2, 4)  # a local one the latest window - 1 positions
    assert trace["logits"].shape == (2, 1, 19)


@pytest.mark.usefixtures("reference")
def test_a_recorder_changes_nothing() -> None:
    model, ids = tiny(GPTNeoForCausalLM), tokens(2, 6)
    np.testing.assert_array_equal(model(ids, tap=Recorder()).logits, model(ids).logits)


def test_a_recorder_of_some_names_keeps_those() -> None:
    model = tiny(GPTNeoForCausalLM)
    trace = Recorder(["ln_f", "h.1.attn.pattern", "no such name"])
    output = model(tokens(1, 4), tap=trace, output_attentions=True)
    assert list(trace) == ["h.1.attn.pattern", "ln_f"]
    np.testing.assert_array_equal(trace["h.1.attn.pattern"], output.attentions[1])


@pytest.mark.parametrize("edited", intermediate_names(tiny(GPTNeoModel).config))
def test_an_edit_changes_what_comes_after_and_nothing_before(edited: str) -> None:
    model, ids = tiny(GPTNeoForCausalLM, dtype=np.float64), tokens(1, 5)
    inputs = {"input_ids": ids, "token_type_ids": ids[:, ::-1]}
    before, after = Recorder(), Recorder(tap=lambda name, value: 0.5 * value if name == edited else value)
    model(**inputs, tap=before)
    edited_logits = model(**inputs, tap=after).logits
    names = intermediate_names(model.config)
    at = names.index(edited)
    for name in names[:at]:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    np.testing.assert_array_equal(after[edited], 0.5 * before[edited])
    assert not np.allclose(edited_logits, before["logits"])


def test_a_patch_from_another_run_restores_its_output() -> None:
    model = tiny(GPTNeoForCausalLM)
    clean = Recorder()
    expected = model(tokens(1, 5, seed=1), tap=clean).logits
    patched = model(tokens(1, 5, seed=2), tap=lambda name, value: clean[name] if name == "h.0.resid_post" else value)
    np.testing.assert_array_equal(patched.logits, expected)


def test_edits_reach_the_outputs_that_the_model_returns() -> None:
    model = tiny(GPTNeoForCausalLM)

    def edit(name: str, value: Any) -> Any:
        return np.zeros_like(value) if name in ("h.0.attn.pattern", "embed") else value

    output = model(tokens(1, 4), tap=edit, output_attentions=True, output_hidden_states=True)
    assert not output.attentions[0].any()
    assert not output.hidden_states[0].any()
    assert output.attentions[1].any()


def test_edited_logits_are_what_the_loss_sees() -> None:
    model, ids = tiny(GPTNeoForCausalLM), tokens(1, 4)
    flat = model(ids, labels=ids, tap=lambda name, value: 0.0 * value if name == "logits" else value)
    assert float(flat.loss) == pytest.approx(np.log(19), rel=1e-6)
    answers = tiny(GPTNeoForQuestionAnswering)
    position = np.array([1])
    flat_answer = answers(
        ids,
        start_positions=position,
        end_positions=position,
        tap=lambda name, value: 0.0 * value if name == "logits" else value,
    )
    assert float(flat_answer.loss) == pytest.approx(np.log(4), rel=1e-6)


def test_names_stand_below_their_prefix_and_no_tap_costs_nothing() -> None:
    trace = Recorder()
    value = np.ones(1)
    assert under(trace, "h.0")("ln_1", value) is value
    assert under(under(trace, "h.0"), "attn")("q", value) is value
    assert list(trace) == ["h.0.ln_1", "h.0.attn.q"]
    assert under(no_tap, "h.0") is no_tap
    assert no_tap("x", value) is value
