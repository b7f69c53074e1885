"""Windows of training data, in an order fixed by seed and step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minineo.training import data_windows
from minineo.training.data_windows import validation_windows, windows, windows_per_epoch


def drawn(N: int, length: int, seed: int, count: int) -> np.ndarray:
    """The first windows (count, length + 1), one a batch, of tokens that are their own places."""
    return np.concatenate([windows(np.arange(N), length, 1, seed, step) for step in range(count)])


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 60), st.integers(0, 2**70))
def test_every_token_is_a_target_once_an_epoch(length, more, seed):
    N = length + more
    per_epoch = windows_per_epoch(np.arange(N), length)
    for epoch in drawn(N, length, seed, 3 * per_epoch).reshape(3, per_epoch, length + 1):
        assert ((epoch[:, 1:] - epoch[:, :-1]) % N == 1).all()
        counts = np.bincount(epoch[:, 1:].ravel(), minlength=N)
        assert counts.min() == 1
        assert (counts - 1).sum() == -N % length  # no more than it takes to fill the last window
        assert counts.max() <= 2
        assert len(set(epoch[:, 0].tolist())) == per_epoch


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 70), st.integers(0, 9), st.integers(0, 2**40))
def test_a_batch_is_a_pure_function_of_seed_and_step(length, more, B, seed, step):
    tokens = np.arange(length + more).astype(np.uint16)
    batch = windows(tokens, length, B, seed, step)
    assert batch.shape == (B, length + 1)
    assert batch.dtype == np.int64
    data_windows._starts.cache_clear()
    rows = [windows(tokens, length, 1, seed, row) for row in reversed(range(step * B, (step + 1) * B))]
    assert np.concatenate(rows[::-1]).tolist() == batch.tolist()  # across the borders of epochs, too


def test_the_order_is_frozen():
    """A run that is resumed with a later version sees the batches that it would have seen."""
    assert windows(np.arange(100), 3, 4, 5, 9)[:, 0].tolist() == [99, 41, 29, 90]
    assert windows(np.arange(10), 4, 2, 2**64, 1).tolist() == [[9, 0, 1, 2, 3], [2, 3, 4, 5, 6]]


def test_epochs_and_seeds_differ_in_order_and_in_borders():
    N, length, epochs = 1_000, 50, 20
    starts = {seed: drawn(N, length, seed, epochs * 20)[:, 0].reshape(epochs, 20) for seed in (0, 1)}
    for found in starts.values():
        assert (found % length == found[:, :1] % length).all()  # here windows fit into the ring
        assert len(set((found[:, 0] % length).tolist())) > epochs / 2
        assert len({tuple((epoch // length).tolist()) for epoch in found}) == epochs
        assert len(set((found[:, 0] // length).tolist())) > epochs / 4
    assert (starts[0] != starts[1]).any(axis=1).all()


def test_every_order_and_every_border_occurs():
    found = [tuple(drawn(6, 2, seed, 3)[:, 0].tolist()) for seed in range(400)]
    assert len(set(found)) == 2 * 6  # two borders, and 3! orders
    assert min(found.count(order) for order in set(found)) > 400 / 12 / 2


def test_the_order_of_an_epoch_is_made_once():
    data_windows._starts.cache_clear()
    drawn(1_000, 10, seed=0, count=250)
    assert data_windows._starts.cache_info().misses == 3


def test_a_text_shorter_than_a_window_is_an_error():
    with pytest.raises(ValueError, match=r"has 8 tokens, and a window of length 8 needs 9"):
        windows(np.arange(8), 8, 1, 0, 0)
    assert sorted(windows(np.arange(9), 8, 1, 0, 0)[0].tolist()) == list(range(9))


@pytest.mark.parametrize(
    ("name", "value"),
    [("length", 0), ("length", 2.0), ("batch_size", 0), ("seed", -1), ("seed", None), ("step", -1), ("step", True)],
)
def test_arguments_out_of_range(name, value):
    arguments = {"length": 2, "batch_size": 1, "seed": 0, "step": 0} | {name: value}
    with pytest.raises(ValueError, match=f"{name}: received"):
        windows(np.arange(9), **arguments)


@pytest.mark.parametrize("tokens", [np.zeros((9, 9), int), np.zeros(9), np.zeros((), int)])
def test_tokens_of_another_shape_or_kind(tokens):
    with pytest.raises(ValueError, match="tokens: received"):
        windows(tokens, 2, 1, 0, 0)
    with pytest.raises(ValueError, match="tokens: received"):
        validation_windows(tokens, 2)


@given(st.integers(2, 60), st.integers(1, 12))
def test_validation_windows_have_every_later_token_as_target_once_in_order(N, length):
    found = list(validation_windows(np.arange(N).astype(np.uint16), length))
    assert all(window.dtype == np.int64 and (np.diff(window) == 1).all() for window in found)
    assert np.concatenate([window[0, 1:] for window in found]).tolist() == list(range(1, N))
    assert {window.shape for window in found[:-1]} <= {(1, length + 1)}


def test_validation_arguments():
    with pytest.raises(ValueError, match="has 1 tokens"):
        validation_windows(np.arange(1), 4)
    with pytest.raises(ValueError, match="length: received 0"):
        validation_windows(np.arange(9), 0)
