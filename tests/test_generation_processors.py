"""Each processor against its definition, written as loops over rows and tokens."""

from __future__ import annotations

import numpy as np
from generation_cases import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from minineo.generation import processors

V = 9
IDS = st.integers(1, 7).flatmap(
    lambda T: st.lists(st.lists(st.integers(0, 5), min_size=T, max_size=T), min_size=1, max_size=3)
)
WORDS = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=6)


def scores_for(rows: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, V)).astype(np.float32)


def assert_forbids(output: np.ndarray, scores: np.ndarray, forbidden: list[set[int]]) -> None:
    assert output.dtype == scores.dtype
    for row, before, tokens in zip(output, scores, forbidden, strict=True):
        assert set(np.flatnonzero(np.isneginf(row)).tolist()) == tokens
        np.testing.assert_array_equal(row[np.isfinite(row)], before[np.isfinite(row)])


@settings(deadline=None)
@given(rows=IDS, size=st.integers(1, 4))
def test_no_ngram_comes_twice(rows: list[list[int]], size: int) -> None:
    forbidden = []
    for row in rows:
        ngrams = [tuple(row[i : i + size]) for i in range(len(row) - size + 1)]
        forbidden.append({token for token in range(V) if (*row[len(row) - size + 1 :], token)[-size:] in ngrams})
        if len(row) < size - 1:
            forbidden[-1] = set()
    scores = scores_for(len(rows))
    assert_forbids(processors.forbid_repeated_ngrams(np.array(rows), scores, size), scores, forbidden)


@settings(deadline=None)
@given(rows=IDS, words=WORDS)
def test_no_bad_word_is_completed(rows: list[list[int]], words: list[list[int]]) -> None:
    forbidden = [{word[-1] for word in words if [*row, word[-1]][-len(word) :] == word} for row in rows]
    scores = scores_for(len(rows))
    assert_forbids(processors.forbid_words(np.array(rows), scores, words), scores, forbidden)


@settings(deadline=None)
@given(rows=IDS, penalty=st.floats(0.2, 5), data=st.data())
def test_repeated_tokens_are_penalised(rows: list[list[int]], penalty: float, data: st.DataObject) -> None:
    padding = [data.draw(st.integers(0, len(row) - 1)) for row in rows]
    scores = scores_for(len(rows))
    output = processors.penalise_repetition(np.array(rows), scores, penalty, np.array(padding))
    assert output.dtype == np.float32
    for row, skipped, before, after in zip(rows, padding, scores, output, strict=True):
        for token in range(V):
            expected = before[token]
            if token in row[skipped:]:
                expected = expected * penalty if expected < 0 else expected / penalty
            np.testing.assert_allclose(after[token], expected, rtol=1e-6)


@given(rows=st.lists(st.lists(st.integers(-1, V - 1), min_size=3, max_size=3), min_size=1, max_size=4))
def test_token_mask(rows: list[list[int]]) -> None:
    mask = processors.token_mask(np.array(rows), V)
    assert mask.tolist() == [[token in row for token in range(V)] for row in rows]


def test_a_bad_word_that_is_the_end_token_is_allowed() -> None:
    """As in Hugging Face: forbidding the end token by itself would mean never to end."""
    model = random_model(9, eos_token_id=4)

    def end_now(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return scores + 100 * (np.arange(31) == 4).astype(scores.dtype)

    prompt = np.array([[5, 6, 7]])
    assert model.generate(prompt, bad_words_ids=[[4]], logits_processor=end_now)[0, 3:].tolist() == [4]
    assert 4 not in model.generate(prompt, bad_words_ids=[[4]], eos_token_id=None)[0, 3:]


def test_suppressed_tokens() -> None:
    model = random_model(9, eos_token_id=None)
    prompt = np.array([[5, 6, 7]])
    asked = {"return_dict_in_generate": True, "output_scores": True, "max_new_tokens": 3}
    scores = model.generate(prompt, suppress_tokens=[4, 8], begin_suppress_tokens=[2], **asked).scores
    forbidden = [np.flatnonzero(np.isneginf(step[0])).tolist() for step in scores]
    assert forbidden == [[2, 4, 8], [4, 8], [4, 8]]
