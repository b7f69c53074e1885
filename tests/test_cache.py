"""The key-value cache: what it keeps, what it drops, and that nobody writes into it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tiny_models import tiny, tokens

from minineo.classes import GPTNeoForCausalLM, GPTNeoModel
from minineo.model.cache import Cache, append, forget


@pytest.mark.parametrize(("window", "kept"), [(1, 0), (2, 1), (3, 2), (6, 5), (7, 6), (8, 6), (40, 6)])
def test_a_local_layer_keeps_what_the_next_position_can_see(window: int, kept: int) -> None:
    cache = tiny(GPTNeoModel, "gl", window_size=window)(tokens(2, 6)).past_key_values
    assert [keys.shape for keys, _ in cache] == [(2, 3, 6, 4), (2, 3, kept, 4)]
    assert [values.shape for _, values in cache] == [(2, 3, 6, 4), (2, 3, kept, 4)]
    assert cache.length == cache.get_seq_length() == 6
    assert len(cache) == 2
    assert cache[1][0] is cache.layers[1][0]


@pytest.mark.parametrize("step", [1, 2, 5])
def test_it_stays_that_small_while_the_text_grows(step: int) -> None:
    model, cache = tiny(GPTNeoModel, "lg", window_size=4), None
    for i in range(20 // step):
        cache = model(tokens(1, step, seed=i), past_key_values=cache).past_key_values
        assert cache.length == (i + 1) * step
        assert cache[0][0].shape[2] == min(3, cache.length)
        assert cache[1][0].shape[2] == cache.length


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize("T", [6, 1])
def test_dropped_positions_are_not_kept_in_memory(T: int) -> None:
    model = tiny(GPTNeoModel, "gl", window_size=3)
    past = model(tokens(1, 6)).past_key_values
    keys, values = model(tokens(1, T), past_key_values=past).past_key_values[1]
    for array in (*past[1], keys, values):
        assert array.base is None
        assert array.nbytes == 1 * 3 * 2 * 4 * 4  # heads, positions, head size, bytes


def test_the_latest_positions_are_the_ones_kept() -> None:
    k = np.arange(5.0).reshape(1, 1, 5, 1)
    keys, values = forget((k, 10.0 * k), 3)
    assert keys.ravel().tolist() == [3.0, 4.0]
    assert values.ravel().tolist() == [30.0, 40.0]
    assert forget((k, k), None)[0] is k
    assert forget((k, k), 6)[0] is k


def test_append_puts_the_new_after_the_old() -> None:
    old, new = np.zeros((1, 1, 2, 1)), np.ones((1, 1, 1, 1))
    k, v = append((old, old - 1.0), new, new + 1.0)
    assert k.ravel().tolist() == [0.0, 0.0, 1.0]
    assert v.ravel().tolist() == [-1.0, -1.0, 2.0]
    assert append(None, old, new) == (old, new)


def test_a_cache_can_be_continued_twice() -> None:
    model = tiny(GPTNeoForCausalLM)
    past = model(tokens(1, 5)).past_key_values
    first = model(tokens(1, 1, seed=1), past_key_values=past).logits
    model(tokens(1, 3, seed=2), past_key_values=past)
    np.testing.assert_array_equal(model(tokens(1, 1, seed=1), past_key_values=past).logits, first)
    assert past.length == 5


def test_it_is_frozen() -> None:
    past = tiny(GPTNeoModel)(tokens(1, 2)).past_key_values
    with pytest.raises(dataclasses.FrozenInstanceError):
        past.length = 7
    with pytest.raises(TypeError):
        past[0] = past[1]


def test_its_text_is_short_and_equality_is_identity() -> None:
    past = tiny(GPTNeoModel)(tokens(1, 2)).past_key_values
    assert repr(past) == "Cache(length=2)"
    assert past == past
    assert past != Cache(past.layers, past.length)


def test_select_picks_and_repeats_rows() -> None:
    model, ids = tiny(GPTNeoForCausalLM, dtype=np.float64), tokens(3, 6)
    rows = np.array([2, 0, 0, 1])
    cache = model(ids).past_key_values
    selected = cache.select(rows)
    assert isinstance(selected, Cache)
    assert selected.length == 6
    for (keys, values), (some_keys, some_values) in zip(cache, selected, strict=True):
        np.testing.assert_array_equal(some_keys, keys[rows])
        np.testing.assert_array_equal(some_values, values[rows])
    step = tokens(4, 2, seed=5)
    expected = model(np.concatenate([ids[rows], step], axis=1)).logits[:, 6:]
    np.testing.assert_allclose(model(step, past_key_values=selected).logits, expected, rtol=1e-11, atol=1e-12)
    assert cache[0][0].shape[0] == 3
