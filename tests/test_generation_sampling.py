"""Sampling follows the exact distribution: goodness of fit, and each filter against its definition, row by row."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from generation_cases import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from minineo.generation import sampling
from minineo.layers.softmax import softmax

DRAWS = 20_000


def assert_fits(counts: np.ndarray, probabilities: np.ndarray) -> None:
    """Pearson's chi-square test at one in a million; outcomes of probability 0 must not occur at all."""
    counts, probabilities = np.ravel(counts), np.ravel(probabilities).astype(np.float64)
    assert counts[probabilities == 0].sum() == 0
    expected = counts.sum() * probabilities / probabilities.sum()
    rare = expected < 5  # too few for the test: taken together as one outcome
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    present = expected > 0
    chi_square = float(np.sum((counts - expected)[present] ** 2 / expected[present]))
    degrees = int(present.sum()) - 1
    # Wilson and Hilferty (1931): the cube root of a chi-square variable is nearly normal.
    variance = 2 / (9 * degrees)
    assert chi_square < degrees * (1 - variance + 4.75 * math.sqrt(variance)) ** 3


def test_the_goodness_of_fit_test_can_fail() -> None:
    probabilities = np.array([0.5, 0.3, 0.2])
    assert_fits(np.array([10_050, 5_980, 3_970]), probabilities)
    with pytest.raises(AssertionError):
        assert_fits(np.array([10_400, 5_800, 3_800]), probabilities)
    with pytest.raises(AssertionError):
        assert_fits(np.array([19_999, 1]), np.array([1.0, 0.0]))


def probabilities_of(scores: np.ndarray) -> np.ndarray:
    scores = scores.astype(np.float64)
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_draws_follow_the_scores(scale: float) -> None:
    random = np.random.default_rng(0)
    scores = (scale * random.standard_normal(40)).astype(np.float32)
    scores[[0, 17, 39]] = -np.inf  # at both ends, where an off-by-one would show
    tokens = sampling.draw(np.tile(scores, (DRAWS, 1)), np.random.default_rng(1))
    assert tokens.shape == (DRAWS,)
    assert_fits(np.bincount(tokens, minlength=40), probabilities_of(scores))


def test_rows_are_drawn_independently() -> None:
    scores = np.log(np.array([[0.7, 0.3], [0.2, 0.8]], np.float32))
    random = np.random.default_rng(2)
    pairs = np.array([sampling.draw(scores, random) for _ in range(DRAWS // 4)])
    counts = np.bincount(2 * pairs[:, 0] + pairs[:, 1], minlength=4)
    assert_fits(counts, np.array([0.14, 0.56, 0.06, 0.24]))


class Fixed(np.random.Generator):
    """A source of uniform numbers that are all the same."""

    value: float

    def random(self, size: Any = None, *_: Any) -> np.ndarray:
        return np.full(size, self.value)


def test_draws_at_the_ends_of_the_unit_interval() -> None:
    """A uniform number of 0, or of the largest float below 1, never gives a token that is forbidden."""
    fixed = Fixed(np.random.PCG64())
    scores = np.array([[-np.inf, 0.0, 1.0, -np.inf]], np.float32)
    fixed.value = 0.0
    assert sampling.draw(scores, fixed).tolist() == [1]
    fixed.value = np.nextafter(1.0, 0.0)
    assert sampling.draw(scores, fixed).tolist() == [2]


def test_tiny_probabilities_are_not_rounded_away() -> None:
    """50000 tokens of 3e-8 each: in float32 adding one of them to 1 changes nothing, and none would ever come."""
    scores = np.full((1, 50_001), math.log(3e-8), np.float32)
    scores[0, 0] = 0.0
    fixed = Fixed(np.random.PCG64())
    for share in (0.25, 0.5, 0.75):
        fixed.value = (1 + share * 0.0015) / 1.0015
        np.testing.assert_allclose(sampling.draw(scores, fixed), 50_000 * share, atol=20)


def test_draws_without_replacement() -> None:
    """The first as softmax has it, the second among the rest in the same proportions."""
    p = np.array([0.5, 0.25, 0.15, 0.1])
    scores = np.tile(np.log(p).astype(np.float32), (DRAWS, 1))
    pairs = sampling.draw_several(scores, 2, np.random.default_rng(4))
    expected = np.array([[0 if i == j else p[i] * p[j] / (1 - p[i]) for j in range(4)] for i in range(4)])
    assert_fits(np.bincount(4 * pairs[:, 0] + pairs[:, 1], minlength=16), expected)


def test_what_is_impossible_is_drawn_after_all_else() -> None:
    scores = np.array([[-np.inf, 0.0, -1.0e9, -np.inf, 1.0]], np.float32)
    drawn = sampling.draw_several(scores, 5, np.random.default_rng(0))[0].tolist()
    assert set(drawn[:2]) == {1, 4}
    assert drawn[2] == 2
    assert set(drawn[3:]) == {0, 3}


@pytest.mark.parametrize("broken", [[-np.inf, -np.inf], [np.nan, 0.0], [np.inf, 0.0]])
def test_scores_that_are_no_distribution(broken: list[float]) -> None:
    with pytest.raises(ValueError, match="No token can be drawn"):
        sampling.draw(np.array([[0.0, 0.0], broken], np.float32), np.random.default_rng(0))


def reference_top_k(p: np.ndarray, k: int) -> list[int]:
    return sorted(range(len(p)), key=lambda token: -p[token])[:k]


def reference_top_p(p: np.ndarray, share: float) -> list[int]:
    kept, total = [], 0.0
    for token in reference_top_k(p, len(p)):
        kept.append(token)
        total += p[token]
        if total >= share:
            break
    return kept


def reference_typical_p(p: np.ndarray, mass: float) -> list[int]:
    entropy = -sum(x * math.log(x) for x in p if x > 0)
    order = sorted((t for t in range(len(p)) if p[t] > 0), key=lambda token: abs(-math.log(p[token]) - entropy))
    kept, total = [], 0.0
    for token in order:
        kept.append(token)
        total += p[token]
        if total >= mass:
            break
    return kept


FILTERS: dict[str, tuple[list[float], Callable[..., Any], Callable[..., list[int]]]] = {
    "top_k": ([1, 3, 10, 1000], sampling.top_k, reference_top_k),
    "top_p": ([0.1, 0.5, 0.93], sampling.top_p, reference_top_p),
    "min_p": ([0.0, 0.05, 0.5, 1.0], sampling.min_p, lambda p, x: [t for t in range(len(p)) if p[t] >= x * max(p)]),
    "typical_p": ([0.1, 0.5, 0.93], sampling.typical_p, reference_typical_p),
}
ARGUMENTS = [(name, value) for name, (values, _, _) in FILTERS.items() for value in values]


@pytest.mark.parametrize(("name", "value"), ARGUMENTS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(2, 40), scale=st.floats(0.05, 6))
def test_filters_keep_what_their_definition_says(name: str, value: float, seed: int, size: int, scale: float) -> None:
    scores = (scale * np.random.default_rng(seed).standard_normal((2, size))).astype(np.float64)
    _, ours, reference = FILTERS[name]
    before = scores.copy()
    output = ours(scores, value)
    np.testing.assert_array_equal(scores, before)
    for row, kept_row in zip(scores, output, strict=True):
        kept = np.flatnonzero(np.isfinite(kept_row)).tolist()
        assert kept == sorted(reference(probabilities_of(row), value))
        np.testing.assert_array_equal(kept_row[kept], row[kept])


@pytest.mark.parametrize(
    "arguments",
    [
        {"top_k": 0},
        {"temperature": 0.6, "top_k": 0},
        {"temperature": 2.0, "top_k": 7},
        {"top_k": None, "top_p": 0.7},
        {"top_k": 0, "min_p": 0.15},
        {"top_k": 0, "typical_p": 0.6},
        {},
    ],
    ids=str,
)
def test_generate_samples_the_exact_distribution(arguments: dict[str, Any]) -> None:
    """The first new token of many samples, against the model's own logits filtered by the definitions above."""
    model = random_model(12, vocab_size=60, eos_token_id=None)
    prompt = np.array([[5, 6, 7]])
    output = model.generate(prompt, do_sample=True, seed=5, max_new_tokens=1, num_return_sequences=DRAWS, **arguments)
    logits = model(prompt).logits[0, -1].astype(np.float64) / arguments.get("temperature", 1.0)
    p = probabilities_of(logits)
    for name, value in ({"top_k": 50} | arguments).items():
        if name in FILTERS and value:
            kept = FILTERS[name][2](p, value)
            p = np.where(np.isin(np.arange(60), kept), p, 0.0)
            p = p / p.sum()
    assert_fits(np.bincount(output[:, 3], minlength=60), p)


def test_whole_texts_have_the_probabilities_of_their_tokens() -> None:
    """Two new tokens, the end token among them: each pair's probability is the product."""
    model = random_model(13, vocab_size=6, eos_token_id=3, hidden_size=12)
    prompt = np.array([[4, 2]])
    output = model.generate(prompt, do_sample=True, seed=6, top_k=0, max_new_tokens=2, num_return_sequences=DRAWS)
    expected = np.zeros((6, 6))
    first = softmax(model(prompt).logits[0, -1].astype(np.float64))
    for a, b in itertools.product(range(6), repeat=2):
        second = softmax(model(np.array([[4, 2, a]])).logits[0, -1].astype(np.float64))
        expected[a, b] = first[a] * (second[b] if a != 3 else b == 3)  # after the end comes padding
    assert_fits(np.bincount(6 * output[:, 2] + output[:, 3], minlength=36), expected)


def test_beam_sampling_draws_its_beams() -> None:
    """With one new token, the better of two draws without replacement comes back."""
    model = random_model(14, vocab_size=8, eos_token_id=None)
    prompt = np.tile([[5, 6, 7]], (DRAWS, 1))
    output = model.generate(prompt, do_sample=True, num_beams=2, seed=7, top_k=0, max_new_tokens=1)
    p = softmax(model(prompt[:1]).logits[0, -1].astype(np.float64))
    expected = np.zeros(8)
    for i, j in itertools.permutations(range(8), 2):
        expected[i if p[i] > p[j] else j] += p[i] * p[j] / (1 - p[i])
    assert_fits(np.bincount(output[:, 3], minlength=8), expected)


def test_beam_sampling_keeps_a_way_on() -> None:
    """However narrow the filter, one token more than there are end tokens, so that some beam can go on."""
    model = random_model(14, eos_token_id=[3, 4])
    asked = {"do_sample": True, "max_new_tokens": 1, "return_dict_in_generate": True, "output_scores": True, "seed": 0}
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"typical_p": 1e-6}, {"epsilon_cutoff": 0.99}):
        for num_beams, expected in ((1, 1), (2, 3)):
            output = model.generate(np.array([[5, 6, 7]]), num_beams=num_beams, **asked, **narrow)
            assert np.isfinite(output.scores[0]).sum(axis=1).tolist() == [expected] * num_beams
