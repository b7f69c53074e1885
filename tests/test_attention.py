"""Attention against three nested loops, and the facts about it that ports get wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minineo.layers.attention import attention, merge_heads, split_heads, visible
from minineo.tap import Recorder


def loops(q: np.ndarray, k: np.ndarray, v: np.ndarray, window: int | None, real: np.ndarray | None) -> np.ndarray:
    """Attention number by number; a query that may look at nothing but padding mixes what it may see evenly."""
    B, H, T, d = q.shape
    S = k.shape[2]
    z = np.zeros((B, H, T, d))
    for b, h, t in np.ndindex(B, H, T):
        position = S - T + t
        seen = [s for s in range(S) if s <= position and (window is None or position - s < window)]
        kept = [s for s in seen if real is None or real[b, s]]
        scores = {s: math.fsum((q[b, h, t] * k[b, h, s]).tolist()) if kept else 0.0 for s in kept or seen}
        weights = {s: math.exp(score - max(scores.values())) for s, score in scores.items()}
        for s, weight in weights.items():
            z[b, h, t] += weight / math.fsum(weights.values()) * v[b, h, s]
    return z


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    T=st.integers(1, 7),
    past=st.integers(0, 5),
    window=st.none() | st.integers(1, 14),
    padded=st.booleans(),
)
def test_equals_three_loops(seed: int, T: int, past: int, window: int | None, padded: bool) -> None:
    random = np.random.default_rng(seed)
    B, H, d = (int(n) for n in random.integers(1, 4, size=3))
    q, k, v = (2.0 * random.standard_normal((B, H, n, d)) for n in (T, past + T, past + T))
    real = random.random((B, past + T)) < 0.6 if padded else None
    np.testing.assert_allclose(attention(q, k, v, window, real), loops(q, k, v, window, real), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("window", [None, 1, 2, 3, 5, 9])
@pytest.mark.parametrize(("T", "S"), [(1, 1), (4, 4), (1, 6), (3, 7)])
def test_visible_is_what_its_definition_says(T: int, S: int, window: int | None) -> None:
    seen = visible(T, S, window, like=np.zeros(1))
    assert seen.shape == (T, S)
    for t, j in np.ndindex(T, S):
        i = S - T + t
        assert seen[t, j] == (i - j >= 0 and (window is None or i - j < window))


def test_heads_are_contiguous_slices_of_the_hidden_size() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 12))
    heads = split_heads(x, 4)
    assert heads.shape == (2, 4, 3, 3)
    np.testing.assert_array_equal(heads[1, 2], x[1, :, 6:9])
    np.testing.assert_array_equal(merge_heads(heads), x)


def test_scores_are_not_divided_by_the_root_of_the_head_size() -> None:
    trace = Recorder(["scores"])
    q = k = v = np.full((1, 1, 1, 16), 2.0)
    attention(q, k, v, tap=trace)
    np.testing.assert_array_equal(trace["scores"], [[[[64.0]]]])


def test_masked_scores_are_so_low_that_nothing_gets_through() -> None:
    random = np.random.default_rng(1)
    q, k, v = (100.0 * random.standard_normal((2, 2, 5, 4)).astype(np.float32) for _ in range(3))
    real = np.array([[False, True, True, True, True], [True, True, True, True, True]])
    trace = Recorder()
    attention(q, k, v, 3, real, trace)
    assert list(trace) == ["scores", "pattern", "z"]
    hidden = ~(visible(5, 5, 3, q) & real[:, None, None, :])
    hidden = np.broadcast_to(hidden, (2, 2, 5, 5))
    assert np.max(trace["scores"][hidden]) < -1e5
    some = np.broadcast_to((visible(5, 5, 3, q) & real[:, None, None, :]).any(-1, keepdims=True), hidden.shape)
    np.testing.assert_array_equal(trace["pattern"][hidden & some], 0.0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("window", [None, 2])
def test_rows_that_see_only_padding_are_finite(dtype: type, window: int | None) -> None:
    q, k, v = (np.random.default_rng(2).standard_normal((2, 1, 4, 3)).astype(dtype) for _ in range(3))
    real = np.array([[False] * 4, [False, False, False, True]])
    trace = Recorder()
    assert np.isfinite(attention(q, k, v, window, real, trace)).all()
    np.testing.assert_allclose(trace["pattern"].sum(-1), 1.0, rtol=1e-6)


def test_float16_scores_beyond_its_range_are_computed_in_float32() -> None:
    q = np.full((1, 1, 2, 8), 200.0, np.float16)
    k = np.stack([q[0, 0, 0], 0.5 * q[0, 0, 0]])[None, None]
    trace = Recorder()
    z = attention(q, k, k, tap=trace)
    assert z.dtype == np.float16
    assert trace["scores"].dtype == trace["pattern"].dtype == np.float32
    assert trace["scores"][0, 0, 1].tolist() == [320000.0, 160000.0]  # float16 ends at 65504
    np.testing.assert_array_equal(z, q)


def test_a_window_no_shorter_than_the_text_is_global() -> None:
    q, k, v = (np.random.default_rng(3).standard_normal((2, 2, 6, 4)) for _ in range(3))
    for window in (6, 7, 100):
        np.testing.assert_array_equal(attention(q, k, v, window), attention(q, k, v))
    assert not np.allclose(attention(q, k, v, 5), attention(q, k, v))


def test_a_window_of_one_copies_the_values() -> None:
    q, k, v = (np.random.default_rng(4).standard_normal((2, 2, 6, 4)) for _ in range(3))
    np.testing.assert_allclose(attention(q, k, v, 1), v, rtol=1e-15)
