"""The masks of dropout: what they hold, what they depend on, and what a model makes of them."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from derivatives import check_loss_gradients, plant, with_mistake
from hypothesis import given
from hypothesis import strategies as st
from labelled_models import HEADS, draw_case, draw_masks
from random_models import computing_with
from tiny_models import tiny, tokens

from minineo.classes import GPTNeoForCausalLM, GPTNeoForTokenClassification
from minineo.config import GPTNeoConfig
from minineo.layers import dropout
from minineo.layers.dropout import DropoutMasks, masks_under, no_masks
from minineo.model import backward, heads_backward

RATES = {"embed_dropout": 0.1, "attention_dropout": 0.25, "resid_dropout": 0.5, "classifier_dropout": 0.75}
RATE_OF = {"embed": 0.1, "h.0.attn.pattern": 0.25, "h.7.attn.out": 0.5, "h.7.mlp.out": 0.5, "classifier": 0.75}
CONFIG = GPTNeoConfig(**RATES)
LIKE = np.zeros(1, np.float32)
IDS = tokens(3, 6)


def check_what_masks_hold() -> None:
    """0 and 1 / (1 - rate), so many of each that the mean is 1, and neighbours that know nothing of each other."""
    for name, rate in RATE_OF.items():
        mask = DropoutMasks(CONFIG, seed=1)(name, (4, 50, 501), LIKE)
        assert mask.shape == (4, 50, 501)
        assert mask.dtype == np.float32
        kept = np.float32(1.0 / (1.0 - rate))
        assert set(np.unique(mask).tolist()) == {0.0, float(kept)}
        deviation = np.sqrt(rate / (1.0 - rate))  # of one entry
        assert abs(float(np.mean(mask, dtype=np.float64)) - 1.0) < 4.0 * deviation / np.sqrt(mask.size)
        for axis in range(3):
            one, next_one = np.split(np.moveaxis(mask, axis, 0)[: mask.shape[axis] // 2 * 2], 2)
            correlation = float(np.corrcoef(one.ravel(), next_one.ravel())[0, 1])
            assert abs(correlation) < 4.0 / np.sqrt(one.size), f"{name}, axis {axis}: {correlation}"


def test_what_masks_hold() -> None:
    check_what_masks_hold()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("1.0 / (1.0 - rate)", "1.0"),
        ("1.0 / (1.0 - rate)", "(1.0 - rate)"),
        ("bits >= round", "bits < round"),
        ("2**16", "2**15"),
        ("self.first_row + b", "self.first_row"),
        ("keep, device=device_of(like)), like.dtype", "keep, device=device_of(like)), np.float64"),
    ],
)
def test_a_mistake_in_what_masks_hold_is_seen(monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    monkeypatch.setattr(DropoutMasks, "__call__", with_mistake(DropoutMasks.__call__, right, wrong))
    with pytest.raises(AssertionError):
        check_what_masks_hold()


def test_the_same_question_has_the_same_answer() -> None:
    masks = DropoutMasks(CONFIG, seed=3, step=5)
    first = masks("embed", (2, 3, 4), LIKE)
    masks("h.0.attn.out", (2, 3, 4), LIKE)
    np.testing.assert_array_equal(masks("embed", (2, 3, 4), LIKE), first)
    np.testing.assert_array_equal(DropoutMasks(CONFIG, 3, 5)("embed", (2, 3, 4), LIKE), first)


def test_it_stays_the_same_in_later_versions() -> None:
    """Or else a run could not be resumed bit for bit."""
    config = GPTNeoConfig(embed_dropout=0.5, resid_dropout=0.5)
    assert DropoutMasks(config, step=7)("embed", (1, 2, 4), LIKE).tolist() == [[[2, 0, 2, 2], [0, 2, 0, 2]]]
    mask = DropoutMasks(config, 2**64 - 1, 1, first_row=9)("h.3.mlp.out", (1, 9), LIKE)
    assert mask.tolist() == [[2, 0, 0, 2, 2, 2, 0, 0, 2]]


def test_seed_step_row_and_name_each_make_another_mask() -> None:
    config = GPTNeoConfig(embed_dropout=0.5, attention_dropout=0.5, resid_dropout=0.5, classifier_dropout=0.5)
    places = [{}, {"seed": 1}, {"step": 1}, {"first_row": 1}, {"seed": 2**32}, {"step": 2**32}, {"first_row": 2**32}]
    found = [
        DropoutMasks(config, **place)(name, (1, 40, 40), LIKE).ravel()
        for place in places
        for name in ("embed", "h.0.attn.pattern", "h.0.attn.out", "h.1.attn.out", "h.11.attn.out", "h.0.mlp.out")
    ]
    largest = max(abs(float(np.corrcoef(one, other)[0, 1])) for one, other in combinations(found, 2))
    assert largest < 5.0 / np.sqrt(1600)


@given(seed=st.integers(0, 2**64 - 1), first=st.integers(0, 50), B=st.integers(0, 6), cut=st.integers(0, 6))
def test_parts_of_a_batch_get_the_masks_of_the_whole(seed: int, first: int, B: int, cut: int) -> None:
    cut = min(cut, B)
    for name in RATE_OF:
        whole = DropoutMasks(CONFIG, seed, first_row=first)(name, (B, 3, 5), LIKE)
        one = DropoutMasks(CONFIG, seed, first_row=first)(name, (cut, 3, 5), LIKE)
        other = DropoutMasks(CONFIG, seed, first_row=first + cut)(name, (B - cut, 3, 5), LIKE)
        np.testing.assert_array_equal(np.concatenate([one, other]), whole)


def test_a_model_computes_a_batch_in_parts_as_it_does_the_whole() -> None:
    model = tiny(GPTNeoForTokenClassification, "gl", dtype=np.float64)
    labels = IDS % 4
    loss, grads = model.loss_and_grads(IDS, labels=labels, masks=draw_masks(0))
    parts = [
        model.loss_and_grads(IDS[rows], labels=labels[rows], masks=draw_masks(0, first_row=rows.start))
        for rows in (slice(0, 1), slice(1, 3))
    ]
    assert float(loss) == pytest.approx((parts[0][0] + 2 * parts[1][0]) / 3, rel=1e-12)
    for name, gradient in grads.items():
        mean = (parts[0][1][name] + 2 * parts[1][1][name]) / 3
        np.testing.assert_allclose(mean, gradient, rtol=0, atol=1e-12 * np.abs(gradient).max())


def check_gradients_with_dropout(class_name: str) -> None:
    """Against differences of the loss, which the same masks make a smooth function; the reference's gradients."""
    for seed in (10, 13):
        model, inputs = draw_case(class_name, seed, np.float64)
        with computing_with("reference"):
            check_loss_gradients(model, inputs | {"masks": draw_masks(seed)}, np.random.default_rng(seed))


@pytest.mark.parametrize("class_name", HEADS)
def test_gradients_with_dropout_are_slopes(class_name: str) -> None:
    check_gradients_with_dropout(class_name)


@pytest.mark.parametrize(
    ("module", "function", "right", "wrong"),
    [
        (backward, "transformer_backward", 'masks_under(masks, f"h.{i}")', "no_masks"),
        (backward, "transformer_backward", 'masks_under(masks, f"h.{i}")', "masks_under(masks, 'h.0')"),
        (backward, "transformer_backward", "prefix, masks)", "prefix)"),
        (backward, "block_backward", 'masks_under(masks, "mlp")', "no_masks"),
        (backward, "block_backward", 'masks_under(masks, "mlp")', "masks_under(masks, 'attn')"),
        (backward, "block_backward", 'masks_under(masks, "attn")', "no_masks"),
        (backward, "feed_forward_backward", "        masks,\n", ""),
        (backward, "self_attention_backward", "linear_backward(dout, ", "linear_backward(dy, "),
        (backward, "self_attention_backward", "real, masks)", "real)"),
        (backward, "embed_backward", "dy = dropout_backward(dy, ", "dropout_backward(dy, "),
        (heads_backward, "loss_backward", "**labels, masks=masks", "**labels"),
        (heads_backward, "loss_backward", "**inputs, masks=masks", "**inputs"),
        (heads_backward, "token_classification_head_backward", "dropout(hidden, mask)", "hidden"),
        (heads_backward, "token_classification_head_backward", "dropout_backward(ddropped, mask)", "ddropped"),
    ],
)
def test_a_mistake_in_the_backward_of_dropout_is_seen(
    monkeypatch: pytest.MonkeyPatch, module: Any, function: str, right: str, wrong: str
) -> None:
    plant(monkeypatch, module, function, right, wrong)
    with pytest.raises(AssertionError):
        check_gradients_with_dropout("GPTNeoForTokenClassification")  # the only one with a dropout of its own


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_masks_are_of_the_dtype_and_on_the_device_of_the_value(dtype: str) -> None:
    expected = DropoutMasks(CONFIG)("embed", (2, 3), np.zeros(1, dtype))
    assert expected.dtype == dtype
    if dtype == "float16":  # the strict library has none
        return
    device = strict.Device("device1")
    mask = DropoutMasks(CONFIG)("embed", (2, 3), strict.zeros(1, dtype=getattr(strict, dtype), device=device))
    assert mask.device == device
    assert str(mask.dtype).endswith(dtype)
    np.testing.assert_array_equal(np.asarray(strict.asarray(mask, device=strict.Device("CPU_DEVICE"))), expected)


def test_without_dropout() -> None:
    masks = DropoutMasks(GPTNeoConfig(classifier_dropout=0.0))
    assert all(masks(name, (1, 2), LIKE) is None for name in RATE_OF)
    x = np.ones((1, 2))
    assert dropout.dropout(x, None) is x
    assert dropout.dropout_backward(x, None) is x
    assert no_masks("embed", (1, 2), LIKE) is None
    assert masks_under(no_masks, "h.0") is no_masks


def test_names_of_a_part_of_the_model() -> None:
    masks = DropoutMasks(CONFIG)
    inner = masks_under(masks_under(masks, "h.3"), "attn")("out", (1, 40), LIKE)
    np.testing.assert_array_equal(inner, masks("h.3.attn.out", (1, 40), LIKE))


def test_a_call_drops_nothing_unless_it_is_given_masks() -> None:
    """Whatever rates the configuration has."""
    with_rates, without = (tiny(GPTNeoForTokenClassification, **rates) for rates in (RATES, dict.fromkeys(RATES, 0.0)))
    np.testing.assert_array_equal(with_rates(IDS).logits, without(IDS).logits)
    loss, _ = with_rates.loss_and_grads(IDS, labels=IDS % 4)
    np.testing.assert_allclose(loss, without(IDS, labels=IDS % 4).loss, rtol=1e-6)
    assert not np.allclose(with_rates(IDS, masks=DropoutMasks(with_rates.config)).logits, without(IDS).logits)


@pytest.mark.parametrize("field", RATES)
def test_each_rate_counts(field: str) -> None:
    model = tiny(GPTNeoForTokenClassification, **(dict.fromkeys(RATES, 0.0) | {field: 0.5}))
    assert not np.allclose(model(IDS, masks=DropoutMasks(model.config)).logits, model(IDS).logits)


def test_what_is_dropped() -> None:
    """`embed`, `attn.out` and `mlp.out` are what comes after dropout, `pattern` is what comes before it."""
    model = tiny(GPTNeoForCausalLM, "g", dtype=np.float64)
    masks = draw_masks(0)
    trace: dict[str, Any] = {}

    def keep(name: str, value: Any) -> Any:
        return trace.setdefault(name, value)

    model(IDS, masks=masks, tap=keep)
    for name in ("embed", "h.0.attn.out", "h.0.mlp.out"):
        value = trace[name]
        np.testing.assert_array_equal(value == 0.0, masks(name, value.shape, value) == 0.0)
    pattern = trace["h.0.attn.pattern"]
    np.testing.assert_allclose(pattern.sum(axis=-1), 1.0, rtol=1e-12)
    dropped = pattern * masks("h.0.attn.pattern", pattern.shape, pattern)
    np.testing.assert_allclose(dropped @ trace["h.0.attn.v"], trace["h.0.attn.z"], rtol=1e-12)


@pytest.mark.parametrize("name", ["seed", "step", "first_row"])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (-1, ValueError, "received -1, expected an int from 0 up to"),
        (2**64, ValueError, "received 18446744073709551616, expected an int from 0 up to"),
        (0.5, TypeError, "received 0.5 of type float, expected an int"),
        (True, TypeError, "received True of type bool, expected an int"),
        (None, TypeError, "received None of type NoneType, expected an int"),
    ],
)
def test_places_that_are_none(name: str, value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{name}: {message}"):
        DropoutMasks(CONFIG, **{name: value})


@pytest.mark.parametrize("field", RATES)
@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan")])
def test_rates_that_are_none(field: str, rate: float) -> None:
    message = f"^{field}: received {rate}, expected a number from 0 up to, but not including, 1.0"
    with pytest.raises(ValueError, match=message):
        GPTNeoConfig(**{field: rate})
    config = GPTNeoConfig()
    setattr(config, field, rate)
    with pytest.raises(ValueError, match=message):
        DropoutMasks(config)


def test_masks_that_are_no_function() -> None:
    model = tiny(GPTNeoForCausalLM)
    message = r"masks: received a bool, expected a function such as DropoutMasks\(model.config, seed=0, step=0\)"
    with pytest.raises(TypeError, match=message):
        model.loss_and_grads(IDS, labels=IDS, masks=True)
