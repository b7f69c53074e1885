"""Scores of heads: ones made by hand score 1, definitions by loops, TransformerLens' formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted_models import ODD, P, V, by_hand, make, odd
from tiny_models import tiny, tokens

from minineo import interpret
from minineo.classes import GPTNeoForCausalLM, GPTNeoModel
from minineo.interpret.head_scores import IDEALS

SCORES = {
    "previous token": interpret.previous_token_scores,
    "duplicate token": interpret.duplicate_token_scores,
    "induction": interpret.induction_scores,
}
REPEATED = np.array([0, 3, 1, 5, 2, 4] * 2)


def test_a_previous_token_head_made_by_hand():
    model = by_hand(1)
    assert interpret.previous_token_scores(model, REPEATED).scores[0, 0] < 0.5
    make(model, 0, "previous token")
    assert interpret.previous_token_scores(model, REPEATED).scores[0, 0] == pytest.approx(1.0, abs=1e-4)
    assert interpret.duplicate_token_scores(model, REPEATED).scores[0, 0] < 1e-4
    # the first position has no previous one, and TransformerLens counts it
    mul = interpret.previous_token_scores(model, REPEATED, "mul").scores[0, 0]
    assert mul == pytest.approx((P - 1) / P, abs=1e-4)
    assert interpret.previous_token_scores(model, REPEATED, "abs").scores[0, 0] == pytest.approx(1 - 1 / P, abs=1e-4)


def test_a_duplicate_token_head_made_by_hand():
    model = by_hand(1)
    make(model, 0, "duplicate token")
    assert interpret.duplicate_token_scores(model, REPEATED).scores[0, 0] == pytest.approx(1.0, abs=1e-4)
    assert interpret.induction_scores(model, REPEATED).scores[0, 0] < 1e-4


def test_an_induction_head_made_by_hand_needs_the_head_before_it():
    model = by_hand(2)
    make(model, 1, "induction")
    assert interpret.induction_scores(model, REPEATED).scores[1, 0] < 0.5
    make(model, 0, "previous token")
    found = interpret.induction_scores(model, REPEATED)
    assert found.scores[1, 0] == pytest.approx(1.0, abs=1e-4)
    assert found.scores[0, 0] < 1e-4
    assert found.kind == "induction"
    assert found.windows == (None, None)
    # every seed draws other tokens, and the score is of the head
    drawn = interpret.induction_scores(model, seed=5)
    assert drawn.scores[1, 0] == pytest.approx(1.0, abs=1e-4)


def test_a_window_that_does_not_reach_scores_0():
    model = by_hand(1, window=V - 1)
    make(model, 0, "duplicate token")
    found = interpret.duplicate_token_scores(model, REPEATED)
    assert found.scores[0, 0] == 0.0
    assert found.windows == (V - 1,)


def looked_for(kind: str, ids: list[int], query: int, key: int) -> bool:
    if kind == "previous token":
        return key == query - 1
    if kind == "duplicate token":
        return key < query and ids[key] == ids[query]
    return 0 < key <= query and ids[key - 1] == ids[query] and key - 1 < query


@settings(deadline=None)
@given(st.sampled_from(sorted(IDEALS)), st.lists(st.integers(0, 4), min_size=1, max_size=9))
def test_where_a_head_should_look_by_a_loop(kind, ids):
    found = IDEALS[kind](np.array([ids]))[0]
    assert found.tolist() == [[looked_for(kind, ids, i, j) for j in range(len(ids))] for i in range(len(ids))]


@pytest.mark.parametrize("kind", sorted(SCORES))
@pytest.mark.parametrize("name", sorted(ODD))
def test_the_three_measures_by_a_loop(kind, name):
    model, ids = odd(name), tokens(2, 9, below=5)
    patterns = model(ids, output_attentions=True).attentions
    for layer, pattern in enumerate(patterns):
        for head in range(pattern.shape[1]):
            there, distance, eligible = 0.0, 0.0, 0
            for row, text in enumerate(ids.tolist()):
                for i in range(9):
                    wanted = [looked_for(kind, text, i, j) for j in range(9)]
                    eligible += any(wanted)
                    there += sum(pattern[row, head, i, j] for j in range(9) if wanted[j])
                    distance += sum(abs(pattern[row, head, i, j] - wanted[j]) for j in range(9))
            expected = {"mean": there / eligible, "mul": there / 18, "abs": 1 - distance / 18}
            for measure, value in expected.items():
                found = SCORES[kind](model, ids, measure).scores
                assert found.shape == (model.config.num_layers, model.config.num_heads)
                assert found[layer, head] == pytest.approx(value, abs=1e-12)


def test_random_repeated_tokens():
    model = tiny(GPTNeoForCausalLM)
    found = interpret.random_repeated_tokens(model, length=8, repeats=3, texts=5, seed=1)
    assert found.shape == (5, 24)
    assert (found[:, :8] == found[:, 8:16]).all()
    assert (found[:, :8] == found[:, 16:]).all()
    assert all(len(set(row.tolist())) == 8 for row in found)
    assert len({tuple(row) for row in found.tolist()}) == 5
    again = interpret.random_repeated_tokens(model, length=8, repeats=3, texts=5, seed=1)
    other = interpret.random_repeated_tokens(model, length=8, repeats=3, texts=5, seed=2)
    assert (found == again).all()
    assert (found != other).any()
    assert interpret.random_repeated_tokens(model).shape == (4, 24)  # what the context holds
    assert interpret.random_repeated_tokens(tiny(GPTNeoForCausalLM, vocab_size=4, **SPECIAL)).shape == (4, 8)


SPECIAL = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 13}, "length: 13 tokens, 2 times, do not fit: a context of 24 .* allow 2 ... 12"),
        ({"length": 1}, "length: received 1"),
        ({"repeats": 1}, "repeats: received 1, expected an int from 2"),
        ({"texts": 0}, "texts: received 0"),
    ],
)
def test_wrong_sizes_of_random_texts(arguments, message):
    with pytest.raises(ValueError, match=message):
        interpret.random_repeated_tokens(tiny(GPTNeoForCausalLM), **arguments)


def test_any_class_has_heads_to_score():
    assert interpret.previous_token_scores(tiny(GPTNeoModel), [1, 2, 3]).scores.dtype == np.float32


@pytest.mark.parametrize("kind", ["duplicate token", "induction"])
def test_a_text_without_repetition(kind):
    with pytest.raises(ValueError, match=f"no token comes again .* no {kind}"):
        SCORES[kind](tiny(GPTNeoForCausalLM), [1, 2, 3])


def test_wrong_arguments():
    model = tiny(GPTNeoForCausalLM)
    with pytest.raises(ValueError, match="only one token"):
        interpret.previous_token_scores(model, [1])
    with pytest.raises(ValueError, match="measure: received 'max', expected one of 'mean', 'mul', 'abs'"):
        interpret.previous_token_scores(model, [1, 2], "max")
    with pytest.raises(ValueError, match=r"input_ids: received 19, expected 0 \.\.\. 18"):
        interpret.previous_token_scores(model, [1, 19])
    with pytest.raises(TypeError, match="input_ids: received a str"):
        interpret.previous_token_scores(model, "Once")
