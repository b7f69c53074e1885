"""Each fast function against its reference, on random shapes, windows, masks and dtypes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny, tokens

from minineo import fast
from minineo.classes import GPTNeoForCausalLM, GPTNeoModel
from minineo.fast import activations, attention, cache, layer_norm, linear, mlp
from minineo.fast.transformer import transformer
from minineo.layers import activations as reference_activations
from minineo.layers import attention as reference_attention
from minineo.layers import layer_norm as reference_layer_norm
from minineo.layers import linear as reference_linear
from minineo.layers import mlp as reference_mlp
from minineo.model import cache as reference_cache
from minineo.model.transformer import transformer as reference_transformer
from minineo.tap import Recorder

DTYPES = st.sampled_from([np.float32, np.float64])
SIZES = st.integers(1, 9)
many = settings(deadline=None, max_examples=150)
few = settings(deadline=None, max_examples=40)


def drawn(seed: int, *shape: int, dtype: type = np.float32, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)


def assert_close(found: np.ndarray, expected: np.ndarray, largest: float | None = None) -> None:
    """To 1e-5 of the largest value (of what is expected, unless said otherwise) in float32, to 1e-13 in float64."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert np.all(np.isfinite(found))
    tolerance = 1e-5 if found.dtype == np.float32 else 1e-13
    largest = np.abs(expected).max(initial=0.0) if largest is None else largest
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * largest)


@many
@given(st.integers(0, 999), st.lists(SIZES, min_size=1, max_size=3), SIZES, SIZES, st.booleans(), DTYPES)
def test_linear(seed, batch, inputs, outputs, with_bias, dtype):
    x, weight = drawn(seed, *batch, inputs, dtype=dtype), drawn(seed + 1, outputs, inputs, dtype=dtype)
    bias = drawn(seed + 2, outputs, dtype=dtype) if with_bias else None
    before = x.copy()
    assert_close(linear.linear(x, weight, bias), reference_linear.linear(x, weight, bias))
    assert np.array_equal(x, before)


@few
@given(st.integers(0, 999), st.integers(1, 1200), st.integers(1, 100), DTYPES)
def test_layer_norm(seed, rows, width, dtype):
    x = 3.0 + drawn(seed, 1, rows, width, dtype=dtype)
    x[0, 0] = 1000.0 + 1e-3 * x[0, 0]  # nearly constant
    weight, bias = drawn(seed + 1, width, dtype=dtype), drawn(seed + 2, width, dtype=dtype)
    expected = reference_layer_norm.layer_norm(x, weight, bias, 1e-5)
    found = layer_norm.layer_norm(x, weight, bias, 1e-5)
    assert_close(found[:, 1:], expected[:, 1:])
    # where a mean of 1000 is taken off, the last digits of 1000 are what remains: compare with more digits
    exact = reference_layer_norm.layer_norm(x[:, :1].astype(np.float64), weight, bias, 1e-5)
    error = np.abs(expected[:, :1] - exact).max()
    assert np.abs(found[:, :1] - exact).max() <= 4.0 * error + 1e-6 * np.abs(exact).max()


@few
@given(st.integers(0, 999), st.integers(1, 1200), st.integers(1, 100), DTYPES, st.sampled_from([0.1, 1.0, 30.0]))
def test_gelu_new(seed, rows, width, dtype, scale):
    x = drawn(seed, rows, width, dtype=dtype, scale=scale)
    # of the largest x: where gelu is all but 0, it is the difference of numbers as large as x
    assert_close(activations.gelu_new(x), reference_activations.gelu_new(x), largest=np.abs(x).max())


@pytest.mark.parametrize("name", reference_activations.ACTIVATIONS)
def test_every_activation_has_a_fast_one_or_is_the_reference(name):
    x = drawn(0, 3, 50, scale=2.0)
    assert_close(activations.activation(name)(x), reference_activations.activation(name)(x))
    with pytest.raises(ValueError, match="activation_function"):
        activations.activation("no such")


@few
@given(st.integers(0, 999), st.integers(1, 3), st.sampled_from([1, 2, 255, 256, 257, 600]), SIZES, SIZES, DTYPES)
def test_mlp(seed, batch, positions, width, inner, dtype):
    arguments = [
        drawn(seed, batch, positions, width, dtype=dtype),
        drawn(seed + 1, inner, width, dtype=dtype),
        drawn(seed + 2, inner, dtype=dtype),
        drawn(seed + 3, width, inner, dtype=dtype),
        drawn(seed + 4, width, dtype=dtype),
    ]
    expected = reference_mlp.mlp(*arguments, reference_activations.gelu_new)
    assert_close(mlp.mlp(*arguments, activations.gelu_new), expected)


@st.composite
def attention_inputs(draw):
    """q, k, v, window, real: fewer queries than a block and more, with a past and without, padding anywhere."""
    B, H, d = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    T = draw(st.one_of(st.integers(1, 20), st.integers(120, 300)))
    S = T + draw(st.one_of(st.just(0), st.integers(0, 200)))
    window = draw(st.one_of(st.none(), st.integers(1, 12), st.integers(1, S + 5)))
    dtype, seed = draw(DTYPES), draw(st.integers(0, 999))
    arrays = [drawn(seed + i, B, H, n, d, dtype=dtype, scale=2.0) for i, n in enumerate((T, S, S))]
    real = draw(st.one_of(st.none(), st.just(np.random.default_rng(seed).random((B, S)) < draw(st.floats(0.0, 1.0)))))
    return *arrays, window, real


@many
@given(attention_inputs())
def test_attention(inputs):
    q, k, v, window, real = inputs
    before = [array.copy() for array in (q, k, v)]
    found = attention.attention(q, k, v, window, real)
    assert_close(found, reference_attention.attention(q, k, v, window, real))
    assert all(map(np.array_equal, (q, k, v), before))


def test_attention_makes_no_square_matrix():
    """At 8,192 positions one matrix of scores would take 268 MB for each head."""
    import tracemalloc

    T = 8192
    q = drawn(0, 1, 1, T, 4)
    tracemalloc.start()
    attention.attention(q, q, q, window=None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6


def test_the_reference_shows_intermediates_in_place_of_the_fast_functions():
    trace = Recorder()
    q = drawn(0, 1, 2, 5, 3)
    attention.attention(q, q, q, tap=trace)
    assert list(trace) == ["scores", "pattern", "z"]
    model = tiny(GPTNeoForCausalLM, "gl")
    trace = Recorder()
    model(tokens(1, 4), tap=trace)
    assert "h.1.attn.pattern" in trace


@few
@given(st.lists(st.integers(1, 70), min_size=1, max_size=8), st.one_of(st.none(), st.integers(1, 90)), st.data())
def test_cache(lengths, window, data):
    """Appending and forgetting in any order of pieces, also twice to the same past, as with the reference."""
    kept = expected = None
    for i, T in enumerate(lengths):
        k, v = drawn(i, 2, 3, T, 4), drawn(i + 100, 2, 3, T, 4)
        if kept is not None and data.draw(st.booleans()):
            elsewhere = cache.append(kept, -k, -v)  # a continuation that is given up must leave no trace
            cache.forget(elsewhere, window)
        both, both_expected = cache.append(kept, k, v), reference_cache.append(expected, k, v)
        for found, wanted in zip(both, both_expected, strict=True):
            assert np.array_equal(found, wanted)
        previous = None if kept is None else (kept, [array.copy() for array in kept])
        kept, expected = cache.forget(both, window), reference_cache.forget(both_expected, window)
        for found, wanted in zip(kept, expected, strict=True):
            assert np.array_equal(found, wanted)
        if previous is not None:
            assert all(map(np.array_equal, *previous))


def test_a_local_layers_cache_stays_as_small_as_its_window():
    window, kv = 100, None
    for i in range(300):
        kv = cache.forget(cache.append(kv, drawn(i, 1, 2, 7, 4), drawn(i, 1, 2, 7, 4)), window)
        assert kv[0].shape[2] <= window - 1
        assert kv.buffers.k.shape[2] <= window - 1 + cache.SPARE + 7


def test_a_growing_cache_is_copied_a_few_times_only():
    kv, buffers = None, set()
    for i in range(2000):
        kv = cache.forget(cache.append(kv, drawn(i, 1, 1, 1, 2), drawn(i, 1, 1, 1, 2)), None)
        buffers.add(id(kv.buffers.k))
        assert kv[0].shape[2] == i + 1
    assert len(buffers) < 12


@few
@given(st.integers(0, 99), st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 12), st.booleans())
def test_transformer(seed, pieces, window, padded):
    model = tiny(GPTNeoModel, "lg", window_size=window)
    ids = tokens(2, sum(pieces), seed=seed)
    mask = (
        (np.arange(ids.shape[1])[None, :] >= np.array([[0], [min(3, pieces[0])]])).astype(np.int64) if padded else None
    )
    past, start, found = None, 0, []
    for piece in pieces:
        stop = start + piece
        seen = None if mask is None else mask[:, :stop]
        output = transformer(model.params, model.config, ids[:, start:stop], seen, past_key_values=past)
        past, start = output.past_key_values, stop
        found.append(output.last_hidden_state)
    expected = reference_transformer(model.params, model.config, ids, mask).last_hidden_state
    assert_close(np.concatenate(found, axis=1), expected)


def test_models_on_numpy_use_the_fast_functions(monkeypatch):
    def seen(*arguments, **more):
        raise AssertionError("the fast transformer")

    monkeypatch.setattr("minineo.fast.choose.FAST", fast.FAST._replace(transformer=seen))
    with pytest.raises(AssertionError, match="the fast transformer"):
        tiny(GPTNeoModel, "g")(tokens(1, 2))
