"""Traces: what is kept, under which names, and how it is shown."""

from __future__ import annotations

import pickle
from html.parser import HTMLParser
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import ALL_CLASSES, tiny, tokens

from minineo.classes import GPTNeoForCausalLM, GPTNeoForTokenClassification, GPTNeoModel
from minineo.interpret import Trace
from minineo.model.names import intermediate_names
from minineo.tap import Recorder

B, T = 2, 5


def labels_of(cls: Any) -> dict[str, np.ndarray]:
    """Arguments that give a loss."""
    position = np.array([1, 2])
    per_token, per_text = {"labels": tokens(B, T, below=4)}, {"labels": np.array([1, 3])}
    return {
        "GPTNeoModel": {},
        "GPTNeoForCausalLM": per_token,
        "GPTNeoForSequenceClassification": per_text,
        "GPTNeoForTokenClassification": per_token,
        "GPTNeoForQuestionAnswering": {"start_positions": position, "end_positions": position},
    }[cls.__name__]


@pytest.mark.parametrize("cls", ALL_CLASSES)
def test_all_names_in_order_of_computation_with_whatever_the_call_takes(cls: Any) -> None:
    model, ids = tiny(cls, "glg"), tokens(B, T)
    inputs = labels_of(cls) | {
        "attention_mask": np.array([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]]),
        "position_ids": np.arange(T)[None, :],
        "token_type_ids": tokens(B, T, seed=1),
        "output_hidden_states": True,
        "output_attentions": True,
    }
    output, trace = model.trace(ids, **inputs)
    expected = Recorder()
    model(ids, tap=expected, **inputs)
    assert list(trace) == list(expected) == model.intermediate_names()
    for name, value in expected.items():
        np.testing.assert_array_equal(trace[name], value, err_msg=name)
    np.testing.assert_array_equal(output.hidden_states[1], trace["h.0.resid_post"])
    np.testing.assert_array_equal(output.attentions[2], trace["h.2.attn.pattern"])
    if cls is not GPTNeoModel:
        np.testing.assert_array_equal(output.loss, model(ids, **inputs).loss)


@pytest.mark.parametrize("cls", ALL_CLASSES)
def test_the_names_of_a_call_are_those_that_it_computes(cls: Any) -> None:
    model, ids = tiny(cls), tokens(B, T)
    assert list(model.trace(ids)[1]) == model.intermediate_names(token_types=False)
    assert list(model.trace(ids, token_type_ids=ids)[1]) == model.intermediate_names()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("h.1.attn.pattern", ["h.1.attn.pattern"]),
        ("h.*.attn.pattern", ["h.0.attn.pattern", "h.1.attn.pattern"]),
        ("*.resid_post", ["h.0.resid_post", "h.1.resid_post"]),
        ("h.1.mlp.*", ["h.1.mlp.pre", "h.1.mlp.act", "h.1.mlp.out"]),
        ("*.attn.[qk]", ["h.0.attn.q", "h.0.attn.k", "h.1.attn.q", "h.1.attn.k"]),
        (["ln_f", "embed", "embed"], ["embed", "ln_f"]),
        (("ln_f", "w*"), ["wte", "wpe", "ln_f"]),
        (lambda name: name.endswith("mlp.act"), ["h.0.mlp.act", "h.1.mlp.act"]),
        ([], []),
    ],
)
def test_only_what_is_wanted_is_kept(names: Any, expected: list[str]) -> None:
    model, ids = tiny(GPTNeoForCausalLM), tokens(1, 4)
    _, everything = model.trace(ids)
    _, trace = model.trace(ids, names)
    assert list(trace) == expected
    for name in expected:
        np.testing.assert_array_equal(trace[name], everything[name])


def test_one_layer_is_not_the_eleventh() -> None:
    _, trace = tiny(GPTNeoModel, "g" * 12).trace(tokens(1, 2), "h.1.*")
    assert len(trace) == 14
    assert all(name.startswith("h.1.") for name in trace)


@pytest.mark.parametrize(
    ("cls", "names", "message"),
    [
        (GPTNeoForCausalLM, "h.0.attn.patern", "Did you mean 'h.0.attn.pattern'"),
        (GPTNeoForCausalLM, ["ln_f", "h.7.attn.*"], r"received 'h.7.attn.\*'.*Did you mean 'h.*attn"),
        (GPTNeoForCausalLM, "h.2.ln_1", "Did you mean 'h.[01].ln_1'"),
        (GPTNeoForCausalLM, "wtt", "only where token_type_ids are passed"),
        (GPTNeoModel, "logits", "only by a model with a head"),
        (GPTNeoModel, "zzz", "The names are wte, wpe, embed, h.0.ln_1.*, ln_f"),
        (GPTNeoModel, lambda name: False, "no to every name"),
    ],
)
def test_a_name_that_is_not_computed_is_an_error_that_suggests_the_nearest(cls: Any, names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(cls).trace(tokens(1, 3), names)


@pytest.mark.parametrize("names", [3, [3], np.ones((1, 3))])
def test_names_that_are_none_are_an_error(names: Any) -> None:
    with pytest.raises(TypeError, match="names: received"):
        tiny(GPTNeoModel).trace(tokens(1, 3), names)


def test_a_glob_need_not_match_what_this_call_leaves_out() -> None:
    assert list(tiny(GPTNeoModel).trace(tokens(1, 3), "wt*")[1]) == ["wte"]


def test_later_passes_do_not_write_into_a_trace() -> None:
    model, ids = tiny(GPTNeoForCausalLM, "gl", window_size=4), tokens(2, 6)
    output, trace = model.trace(ids)
    before = {name: value.copy() for name, value in trace.items()}
    cache = output.past_key_values
    for _ in range(3):  # the fast path appends to buffers in place
        cache = model(tokens(2, 1), past_key_values=cache).past_key_values
    model(ids)
    for name, value in before.items():
        np.testing.assert_array_equal(trace[name], value, err_msg=name)


def test_a_trace_of_a_continuation() -> None:
    model, ids = tiny(GPTNeoForCausalLM, "gl", window_size=3), tokens(1, 6)
    past = model(ids[:, :4]).past_key_values  # of the fast path: views of buffers with room behind them
    output, trace = model.trace(ids[:, 4:], past_key_values=past, logits_to_keep=1)
    assert trace["h.0.attn.k"].shape == (1, 3, 2, 4)
    assert trace["h.0.attn.pattern"].shape == (1, 3, 2, 6)
    before = {name: value.copy() for name, value in trace.items()}
    model(ids[:, :1], past_key_values=past)
    model(ids[:, :1], past_key_values=output.past_key_values)
    for name, value in before.items():
        np.testing.assert_array_equal(trace[name], value, err_msg=name)


def test_a_tap_is_asked_before_a_value_is_kept() -> None:
    model, ids = tiny(GPTNeoForCausalLM), tokens(1, 3)
    seen = []

    def tap(name: str, value: Any) -> Any:
        seen.append(name)
        return 2.0 * value if name == "logits" else value

    output, trace = model.trace(ids, "logits", tap=tap)
    assert seen == model.intermediate_names(token_types=False)
    np.testing.assert_allclose(output.logits, 2.0 * model(ids).logits, rtol=1e-4)
    np.testing.assert_array_equal(trace["logits"], output.logits)


def test_output_as_a_tuple_and_mistakes_of_the_call() -> None:
    model, ids = tiny(GPTNeoForTokenClassification), tokens(1, 3)
    (logits,), trace = model.trace(ids, "logits", return_dict=False)
    np.testing.assert_array_equal(logits, trace["logits"])
    with pytest.raises(TypeError, match="takes no argument 'label'"):
        model.trace(ids, label=ids)
    with pytest.raises(ValueError, match="exactly one of input_ids"):
        model.trace()


def test_embeddings_in_place_of_tokens() -> None:
    embeds = np.random.default_rng(0).standard_normal((1, 4, 12)).astype(np.float32)
    _, trace = tiny(GPTNeoModel).trace(inputs_embeds=embeds, names="wte")
    np.testing.assert_array_equal(trace["wte"], embeds)


# --- the mapping ---


def some_trace(**arrays: Any) -> Trace:
    return Trace({name.replace("_", "."): np.asarray(value, np.float32) for name, value in arrays.items()})


def test_a_trace_is_a_mapping_that_cannot_be_changed() -> None:
    trace = some_trace(a_q=[1.0], b=[2.0])
    assert (list(trace), len(trace), "a.q" in trace, "c" in trace) == (["a.q", "b"], 2, True, False)
    assert trace.get("c") is None
    assert [float(value[0]) for value in trace.values()] == [1.0, 2.0]
    with pytest.raises(TypeError):
        trace["a.q"] = np.ones(1)
    assert trace == trace
    assert trace != some_trace(a_q=[1.0], b=[2.0])  # as outputs: arrays have no single truth value
    assert list(pickle.loads(pickle.dumps(trace))) == ["a.q", "b"]


def test_a_name_that_was_not_recorded_is_a_key_error_that_says_what_was() -> None:
    _, trace = tiny(GPTNeoForCausalLM).trace(tokens(1, 3), "h.*.attn.pattern")
    with pytest.raises(KeyError, match=r"Did you mean 'h.0.attn.pattern'.*Recorded are h.0.attn.pattern, h.1.attn.p"):
        trace["h.0.attn.patern"]
    with pytest.raises(KeyError, match=r"'h\.0\.mlp\.act' was not recorded"):
        trace["h.0.mlp.act"]
    with pytest.raises(KeyError, match="Recorded are none"):
        Trace({})["ln_f"]


# --- how it is shown ---


def test_the_table_of_a_trace() -> None:
    scores = [[-1.5, -np.inf], [2.0, np.finfo(np.float32).min]]
    trace = Trace({"h.0.attn.scores": np.array(scores, np.float32), "ln_f": np.zeros((1, 2, 3))})
    assert repr(trace).split("\n") == [
        "Trace of 2 intermediates, 6.4e-05 MB",
        "name             shape      dtype     min  max  not counted",
        "h.0.attn.scores  (2, 2)     float32  -1.5    2  1 -inf, 1 at padding",
        "ln_f             (1, 2, 3)  float64     0    0",
    ]


def test_infinities_and_nan_are_counted_and_not_in_the_range() -> None:
    text = repr(some_trace(a=[np.nan, np.inf, np.inf, 3.0], b=[np.nan], c=np.zeros((0, 4))))
    lines = [line.split() for line in text.split("\n")[2:]]
    assert lines[0] == ["a", "(4)", "float32", "3", "3", "2", "inf,", "1", "NaN"]
    assert lines[1] == ["b", "(1)", "float32", "1", "NaN"]
    assert lines[2] == ["c", "(0,", "4)", "float32"]


def test_a_small_model_is_shown_whole_and_a_large_one_at_both_ends() -> None:
    whole = repr(tiny(GPTNeoForCausalLM, "g" * 6).trace(tokens(1, 3))[1])
    assert len(whole.split("\n")) == 2 + 6 * 14 + 5
    deep = tiny(GPTNeoForCausalLM, "g" * 12).trace(tokens(1, 3))[1]
    lines = repr(deep).split("\n")
    names = [line.split()[0] for line in lines[2:]]
    assert "... 93 more ..." in lines[62]
    assert names[:60] == list(deep)[:60]
    assert names[61:] == list(deep)[-20:]
    assert deep._repr_html_().count("<tr>") == 1 + 60 + 1 + 20


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8))
def test_the_range_is_that_of_the_values(values: list[float]) -> None:
    low, high = repr(some_trace(a=values)).split("\n")[2].split()[-2:]
    assert float(low) == pytest.approx(min(values), rel=1e-3)
    assert float(high) == pytest.approx(max(values), rel=1e-3)


class _Page(HTMLParser):
    """Collects tags and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.open.append(tag)
        self.seen.append(tag)
        assert not any("color" in (value or "") for _, value in attributes)  # the page's own, light or dark

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_html_table_holds_what_the_text_holds_and_escapes_it() -> None:
    hostile = "</td><script>alert(1)</script>&amp;"
    trace = Trace({hostile: np.array([[1.0, -np.inf]]), "ln_f": np.zeros((1, 2, 3), np.float32)})
    page = _Page()
    page.feed(trace._repr_html_())
    page.close()
    assert page.open == []
    assert "script" not in page.seen
    text = repr(trace).replace("\n", " ").split()
    assert " ".join(page.text).split() == text


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_array_library(dtype: str) -> None:
    model = tiny(GPTNeoForCausalLM, dtype=np.dtype(dtype))
    other = GPTNeoForCausalLM(model.config, {name: strict.asarray(value) for name, value in model.params.items()})
    ids = tokens(1, 4)
    _, expected = model.trace(ids, "h.*")
    _, trace = other.trace(strict.asarray(ids), "h.*")
    assert list(trace) == list(expected)
    assert f"  {dtype}  " in repr(trace)
    assert repr(trace).split("\n")[1].split() == repr(expected).split("\n")[1].split()
    np.testing.assert_allclose(np.asarray(trace["h.1.mlp.out"]), expected["h.1.mlp.out"], atol=1e-4)


def test_half_precision_is_shown() -> None:
    _, trace = tiny(GPTNeoForCausalLM, dtype=np.float16).trace(tokens(1, 3), ["h.0.attn.scores", "ln_f"])
    assert [row.split()[-2:] for row in repr(trace).split("\n")[2:3]] == [["9", "-inf"]]
    assert repr(trace).count("float16") == 1  # scores are never narrower than float32


def test_the_listed_names_can_leave_out_what_a_call_leaves_out() -> None:
    config = tiny(GPTNeoModel).config
    everything = intermediate_names(config)
    assert intermediate_names(config, token_types=False) == [name for name in everything if name != "wtt"]
    assert intermediate_names(config, head=False) == everything[:-1]
