"""Attention distance and surprisal: by loops, with padding, and for texts longer than the context."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted_models import ODD, by_hand, make, odd
from tiny_models import tiny, tokens

import minineo
from minineo import interpret
from minineo.classes import GPTNeoForCausalLM, GPTNeoModel
from minineo.layers.softmax import softmax

PASSAGE = (Path(__file__).parent / "data" / "happy_prince.txt").read_text(encoding="utf-8")

# Attention distance ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ODD))
def test_distance_by_a_loop(name):
    model, ids = odd(name), tokens(2, 9)
    found = interpret.attention_distance(model, ids)
    for layer, pattern in enumerate(model(ids, output_attentions=True).attentions):
        window = model.config.window(layer)
        assert found.windows[layer] == window
        farthest = [i if window is None else min(i, window - 1) for i in range(9)]
        assert found.longest[layer] == pytest.approx(sum(farthest) / 9, rel=1e-12)
        for head in range(model.config.num_heads):
            total = sum((i - j) * pattern[b, head, i, j] for b in range(2) for i in range(9) for j in range(9))
            assert found.distances[layer, head] == pytest.approx(total / 18, rel=1e-12, abs=1e-15)
            assert found.distances[layer, head] <= found.longest[layer]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_distance(side):
    model, ids = odd("global and local"), tokens(1, 6)
    padding = np.full((1, 4), 18)
    padded = np.concatenate([padding, ids] if side == "left" else [ids, padding], axis=1)
    mask = (padded != 18).astype(np.int64)
    alone, found = interpret.attention_distance(model, ids), interpret.attention_distance(model, padded, mask)
    np.testing.assert_allclose(found.distances, alone.distances, rtol=1e-10)
    np.testing.assert_allclose(found.longest, alone.longest)
    for one_text in ((padded[0], mask[0]), (padded[0].tolist(), mask[0].tolist()), (padded, mask.tolist())):
        np.testing.assert_allclose(interpret.attention_distance(model, *one_text).distances, found.distances)


def test_a_previous_token_head_looks_back_by_one():
    model = by_hand(1)
    make(model, 0, "previous token")
    found = interpret.attention_distance(model, np.zeros(12, np.int64))
    assert found.distances[0, 0] == pytest.approx(11 / 12, abs=1e-4)  # the first has nowhere to look


def test_wrong_masks():
    model = tiny(GPTNeoModel)
    with pytest.raises(ValueError, match=r"attention_mask: received shape \(1, 2\), expected \(1, 3\)"):
        interpret.attention_distance(model, [1, 2, 3], np.ones((1, 2)))
    with pytest.raises(ValueError, match="all is padding"):
        interpret.attention_distance(model, [1, 2, 3], np.zeros((1, 3), np.int64))
    with pytest.raises(TypeError, match="attention_mask: received a str"):
        interpret.attention_distance(model, [1, 2, 3], "111")


# Surprisal ------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 60), st.integers(1, 23), st.booleans())
def test_each_token_by_the_model_on_the_window_that_first_holds_it(length, stride, tied):
    model = tiny(GPTNeoForCausalLM, dtype=np.float64, tie_word_embeddings=tied)  # a context of 24
    ids = tokens(1, length, seed=length)[0]
    found = interpret.surprisal(model, ids, stride=stride)
    assert np.isnan([found.probabilities[0], found.bits[0]]).all()
    for i in range(1, length):
        late = max(0, i - 24 + 1)  # the first window that reaches i begins at a multiple of the stride, no earlier
        begin = -(-late // stride) * stride
        expected = softmax(model(ids[None, begin:i]).logits[0, -1])[ids[i]]
        assert found.probabilities[i] == pytest.approx(expected, rel=1e-9)
        assert found.bits[i] == pytest.approx(-math.log2(expected), rel=1e-9)
    assert found.bits_per_token == pytest.approx(found.bits[1:].mean(), rel=1e-12)
    np.testing.assert_array_equal(found.tokens, ids)
    np.testing.assert_array_equal(interpret.token_probabilities(model, ids, stride), found.probabilities)


def test_it_is_the_score_token_by_token():
    model, tokenizer = minineo.load()
    text = PASSAGE * 3  # longer than the context
    found = interpret.surprisal(model, tokenizer(text, return_tensors="np").input_ids, tokenizer)
    assert found.sizes.sum() == len(text.encode())
    assert len(found.tokens) > 512
    assert found.bits.dtype == np.float32
    score = minineo.score(PASSAGE, model, tokenizer)
    short = interpret.surprisal(model, tokenizer.encode(PASSAGE), tokenizer)
    assert short.bits_per_token == pytest.approx(score.loss / math.log(2), rel=1e-6)
    assert short.bits_per_byte == pytest.approx(score.bits_per_byte, rel=1e-6)
    assert interpret.surprisal(model, tokenizer.encode("Once upon")).bits_per_byte is None


def test_a_bar_on_request(capsys):
    model = tiny(GPTNeoForCausalLM)
    interpret.surprisal(model, tokens(1, 50))
    assert capsys.readouterr().err == ""
    interpret.surprisal(model, tokens(1, 50), progress=True)
    assert "surprisal" in capsys.readouterr().err


def test_wrong_texts():
    model = tiny(GPTNeoForCausalLM)
    with pytest.raises(ValueError, match="received 1 tokens, expected at least 2"):
        interpret.surprisal(model, [1])
    with pytest.raises(ValueError, match=r"shape \(2, 3\), expected the tokens of one text"):
        interpret.surprisal(model, tokens(2, 3))
    with pytest.raises(ValueError, match=r"received 19, expected 0 \.\.\. 18"):
        interpret.surprisal(model, [1, 19])
    for stride in (0, 24, 1.0):
        with pytest.raises(ValueError, match=r"stride: received .* from 1 to 23"):
            interpret.token_probabilities(model, [1, 2], stride)
