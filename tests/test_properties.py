"""Properties of whole models, on random configurations with every parameter re-drawn, so that attention is not flat.

In float64, where nothing but the order of a sum may differ; comparisons of numbers that have gone through the very
same operations are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from random_models import draw_params
from tiny_models import ALL_CLASSES, tiny, tiny_config

from minineo.classes import GPTNeoForCausalLM
from minineo.config import GPTNeoConfig
from minineo.model.inputs import check_cache

layers = st.text("gl", min_size=1, max_size=3)
seeds = st.integers(0, 2**32 - 1)
lengths = st.integers(1, 9)
windows = st.integers(1, 11)


def draw_model(layers: str, seed: int, window: int, dtype: Any = np.float64, **fields: Any) -> GPTNeoForCausalLM:
    random = np.random.default_rng(seed)
    heads, size = int(random.integers(1, 4)), int(random.integers(1, 5))
    size = max(size, -(-4 // heads))  # layer norm leaves little of a hidden size below 4
    fields = {"num_heads": heads, "hidden_size": heads * size} | fields
    config = tiny_config(layers, window_size=window, **fields)
    return GPTNeoForCausalLM(config, draw_params(GPTNeoForCausalLM.parameter_shapes(config), config, seed, dtype))


def draw_ids(seed: int, B: int, T: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(18, size=(B, T))


def other_token(ids: np.ndarray, row: int, position: int) -> np.ndarray:
    changed = ids.copy()
    changed[row, position] = (changed[row, position] + 1) % 18
    return changed


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    scale = float(np.max(np.abs(expected), initial=1.0))
    np.testing.assert_allclose(actual, expected, rtol=0.0, atol=1e-11 * scale)


@settings(deadline=None, max_examples=50)
@given(layers, seeds, lengths, st.integers(0, 3))
def test_a_window_no_shorter_than_the_text_is_global(layers: str, seed: int, T: int, beyond: int) -> None:
    local = draw_model(layers, seed, T + beyond)
    everywhere = [["global"], len(layers)]
    config = GPTNeoConfig.from_dict(local.config.to_dict(), attention_types=[everywhere])
    ids = draw_ids(seed, 2, T)
    np.testing.assert_array_equal(local(ids).logits, GPTNeoForCausalLM(config, local.params)(ids).logits)


@settings(deadline=None, max_examples=80)
@given(layers, seeds, lengths, windows, st.data())
def test_changing_a_token_changes_nothing_before_it(
    layers: str, seed: int, T: int, window: int, data: st.DataObject
) -> None:
    model, ids = draw_model(layers, seed, window), draw_ids(seed, 2, T)
    position = data.draw(st.integers(0, T - 1))
    before, after = model(ids).logits, model(other_token(ids, 1, position)).logits
    np.testing.assert_array_equal(after[1, :position], before[1, :position])
    assert (after[1, position] != before[1, position]).any()


@settings(deadline=None, max_examples=80)
@given(seeds, st.integers(1, 6), st.integers(0, 5), st.integers(0, 3))
def test_one_local_layer_sees_as_far_as_its_window_and_no_farther(seed: int, window: int, at: int, more: int) -> None:
    T = at + window + 1 + more
    model, ids = draw_model("l", seed, window, num_heads=2, hidden_size=8), draw_ids(seed, 1, T)
    before, after = model(ids).logits[0], model(other_token(ids, 0, at)).logits[0]
    np.testing.assert_array_equal(after[at + window :], before[at + window :])
    changed = np.any(after != before, axis=-1)
    assert changed[at]
    # the last position in the window does see it, unless the chance of random scores leaves it no weight at all
    pattern = model(ids, output_attentions=True).attentions[0][0, :, at + window - 1, at]
    assume(pattern.max() > 1e-9)
    assert changed[at + window - 1]


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(2, 4), st.integers(2, 3))
def test_stacked_local_layers_reach_farther_by_a_window_each(seed: int, window: int, depth: int) -> None:
    reach = depth * (window - 1)
    model, ids = draw_model("l" * depth, seed, window, num_heads=2, hidden_size=8), draw_ids(seed, 1, reach + 2)
    before, after = model(ids).logits[0], model(other_token(ids, 0, 0)).logits[0]
    np.testing.assert_array_equal(after[reach + 1], before[reach + 1])


@settings(deadline=None, max_examples=50)
@given(layers, seeds, lengths, windows)
def test_rows_of_a_batch_are_independent(layers: str, seed: int, T: int, window: int) -> None:
    model, ids = draw_model(layers, seed, window), draw_ids(seed, 3, T)
    together = model(ids).logits
    for row in range(3):
        assert_close(together[row], model(ids[row : row + 1]).logits[0])
    np.testing.assert_array_equal(model(other_token(ids, 1, 0)).logits[[0, 2]], together[[0, 2]])


@pytest.mark.parametrize("pads", [0, 1, 3, 8])
@pytest.mark.parametrize("pad_token", [0, 18])
@settings(deadline=None, max_examples=15)
@given(layers, seeds, lengths, windows)
def test_padding_on_the_left_changes_nothing(
    pads: int, pad_token: int, layers: str, seed: int, T: int, window: int
) -> None:
    model, width = draw_model(layers, seed, window), T + max(pads, 2)
    ids = draw_ids(seed, 2, width)
    mask = (np.arange(width) >= np.array([[pads], [2]])).astype(np.int64)
    padded = np.where(mask == 1, ids, pad_token)
    logits = model(padded, mask, np.maximum(mask.cumsum(1) - 1, 0)).logits
    assert np.isfinite(logits).all()
    for row, padding in enumerate([pads, 2]):
        assert_close(logits[row, padding:], model(ids[row : row + 1, padding:]).logits[0])


@settings(deadline=None, max_examples=50)
@given(layers, seeds, lengths, windows, st.integers(1, 4))
def test_padding_on_the_right_changes_nothing(layers: str, seed: int, T: int, window: int, pads: int) -> None:
    model, ids = draw_model(layers, seed, window), draw_ids(seed, 2, T)
    padded = np.pad(ids, ((0, 0), (0, pads)), constant_values=18)
    mask = np.pad(np.ones_like(ids), ((0, 0), (0, pads)))
    assert_close(model(padded, mask).logits[:, :T], model(ids).logits)


@settings(deadline=None, max_examples=80)
@given(layers, seeds, windows, st.lists(st.integers(1, 5), min_size=2, max_size=5))
@example("l", 0, 1, [1, 1, 1])
@example("gl", 1, 4, [5, 3, 1, 5])
@example("l", 2, 3, [1, 5, 2])
def test_a_cache_changes_nothing_wherever_the_text_is_split(
    layers: str, seed: int, window: int, parts: list[int]
) -> None:
    model, ids = draw_model(layers, seed, window), draw_ids(seed, 2, sum(parts))
    expected = model(ids).logits
    cache, start = None, 0
    for part in parts:
        output = model(ids[:, start : start + part], past_key_values=cache)
        cache, start = output.past_key_values, start + part
        assert_close(output.logits, expected[:, start - part : start])
        assert check_cache(cache, 2, model.config, model.params["transformer.wte.weight"]) == start


@settings(deadline=None, max_examples=80)
@given(
    layers,
    seeds,
    windows,
    st.lists(st.integers(1, 4), min_size=2, max_size=4),
    st.lists(st.integers(0, 5), min_size=2, max_size=3),
)
@example("gl", 0, 3, [4, 1, 1], [3, 0])
@example("l", 1, 2, [1, 1, 3], [4, 0])
def test_a_cache_changes_nothing_on_padded_batches(
    layers: str, seed: int, window: int, parts: list[int], pads: list[int]
) -> None:
    T = sum(parts)
    model, ids = draw_model(layers, seed, window), draw_ids(seed, len(pads), T)
    mask = (np.arange(T) >= np.minimum(pads, T - 1)[:, None]).astype(np.int64)  # the padding may be longer than a part
    ids[mask == 0] = 18
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    expected = model(ids, mask, positions).logits
    cache, start = None, 0
    for part in parts:
        end = start + part
        output = model(ids[:, start:end], mask[:, :end], positions[:, start:end], past_key_values=cache)
        assert np.isfinite(output.logits).all()
        seen = mask[:, start:end] == 1  # what padding itself computes is nobody's business
        assert_close(output.logits[seen], expected[:, start:end][seen])
        cache, start = output.past_key_values, end


@settings(deadline=None, max_examples=40)
@given(layers, seeds, lengths, windows)
def test_attention_patterns_are_distributions(layers: str, seed: int, T: int, window: int) -> None:
    model, ids = draw_model(layers, seed, window), draw_ids(seed, 2, T)
    mask = (np.random.default_rng(seed).random((2, T)) < 0.5).astype(np.int64)
    for attention_mask in (None, mask):
        for pattern in model(ids, attention_mask, output_attentions=True).attentions:
            np.testing.assert_allclose(pattern.sum(-1), 1.0, rtol=1e-13)
            assert (pattern >= 0.0).all()


@pytest.mark.parametrize("cls", ALL_CLASSES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_text_of_nothing_but_padding_gives_finite_numbers(cls: Any, dtype: Any) -> None:
    model, ids = tiny(cls, "glg", dtype=dtype), np.full((3, 6), 18)
    mask = np.array([[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]])
    for value in model(ids, mask, use_cache=False).values():
        assert np.isfinite(value).all()


@settings(deadline=None, max_examples=40)
@given(layers, seeds, lengths, windows)
def test_embeddings_as_input_are_tokens_as_input(layers: str, seed: int, T: int, window: int) -> None:
    model, ids = draw_model(layers, seed, window), draw_ids(seed, 2, T)
    embeds = model.params["transformer.wte.weight"][ids]
    np.testing.assert_array_equal(model(inputs_embeds=embeds).logits, model(ids).logits)


@settings(deadline=None, max_examples=30)
@given(layers, seeds, lengths, windows)
def test_float32_is_close_to_float64(layers: str, seed: int, T: int, window: int) -> None:
    wide = draw_model(layers, seed, window, num_heads=2, hidden_size=8)
    narrow = GPTNeoForCausalLM(wide.config, {name: array.astype(np.float32) for name, array in wide.params.items()})
    exact = GPTNeoForCausalLM(wide.config, {name: array.astype(np.float64) for name, array in narrow.params.items()})
    ids = draw_ids(seed, 2, T)
    expected = exact(ids).logits
    assert np.max(np.abs(narrow(ids).logits - expected)) < 1e-4 * np.max(np.abs(expected))


def test_the_models_here_are_worth_testing() -> None:
    # flat attention, or heads that agree, would let most mistakes pass
    model = draw_model("gl", 0, 5, num_heads=3, hidden_size=12)
    for pattern in model(draw_ids(0, 2, 8), output_attentions=True).attentions:
        assert pattern[:, :, -1].max() > 0.5
        assert np.abs(pattern[:, 0] - pattern[:, 1]).max() > 0.2
