"""Logit lens: its last stage is the model, its others what a model cut short says."""

from __future__ import annotations

import numpy as np
import pytest
from interpreted_models import ODD, odd
from tiny_models import tiny, tokens

from minineo import interpret
from minineo.classes import GPTNeoForCausalLM, GPTNeoModel
from minineo.config import GPTNeoConfig
from minineo.layers.softmax import softmax


def assert_guesses(found: interpret.LogitLens, stage: int, logits: np.ndarray, ids: np.ndarray) -> None:
    """The stage says what these logits (T, V) say."""
    probabilities = softmax(logits)
    order = np.argsort(-probabilities, axis=1)
    K = found.top_tokens.shape[2]
    np.testing.assert_array_equal(found.top_tokens[stage], order[:, :K])
    np.testing.assert_allclose(found.top_probabilities[stage], -np.sort(-probabilities)[:, :K], rtol=1e-10)
    for i, following in enumerate(ids[1:]):
        assert found.next_probabilities[stage, i] == pytest.approx(probabilities[i, following], rel=1e-10)
        assert found.next_ranks[stage, i] == order[i].tolist().index(following)


@pytest.mark.parametrize("name", sorted(ODD))
def test_every_stage_is_a_model_without_the_layers_after_it(name):
    model, ids = odd(name), tokens(1, 7)
    found = interpret.logit_lens(model, ids, top=19)
    L = model.config.num_layers
    assert found.stages == ("embed", *(f"h.{i}.resid_post" for i in range(L)))
    kinds = [[[kind], 1] for kind in model.config.attention_layers]
    for layers in range(1, L + 1):
        config = GPTNeoConfig.from_dict(
            model.config.to_dict() | {"num_layers": layers, "attention_types": kinds[:layers], "attention_layers": None}
        )
        names = GPTNeoForCausalLM.parameter_shapes(config)
        short = GPTNeoForCausalLM(config, {name: model.params[name] for name in names})
        assert_guesses(found, layers, short(ids).logits[0], ids[0])


def test_stages_after_attention():
    model, ids = tiny(GPTNeoForCausalLM, "gl", dtype=np.float64), tokens(1, 5)
    found = interpret.logit_lens(model, ids, top=3, after_attention=True)
    assert found.stages == ("embed", "h.0.resid_mid", "h.0.resid_post", "h.1.resid_mid", "h.1.resid_post")
    without_mlp = model(ids, edits={"h.1.mlp.out": np.zeros_like}).logits[0]
    assert_guesses(found, 3, without_mlp, ids[0])
    without_all = model(ids, edits={"h.*.mlp.out": np.zeros_like, "h.*.attn.out": np.zeros_like}).logits[0]
    assert_guesses(found, 0, without_all, ids[0])
    assert found.top_tokens.shape == (5, 5, 3)


def test_shapes_and_dtypes():
    model = tiny(GPTNeoForCausalLM)
    found = interpret.logit_lens(model, [3, 1, 4])
    assert found.top_tokens.shape == found.top_probabilities.shape == (3, 3, 5)
    assert found.next_probabilities.shape == found.next_ranks.shape == (3, 2)
    assert found.top_probabilities.dtype == np.float32
    assert interpret.logit_lens(model, [3]).next_ranks.shape == (3, 0)
    assert interpret.logit_lens(model, [3], top=np.int64(2)).top_tokens.shape == (3, 1, 2)


def test_wrong_arguments():
    model = tiny(GPTNeoForCausalLM)
    for top in (0, 20, 2.0, True):
        with pytest.raises(ValueError, match=r"top: received .* 1 \.\.\. 19"):
            interpret.logit_lens(model, [1, 2], top=top)
    with pytest.raises(ValueError, match=r"shape \(2, 3\), expected the tokens of one text"):
        interpret.logit_lens(model, tokens(2, 3))
    with pytest.raises(ValueError, match="at least one token"):
        interpret.logit_lens(model, [])
    with pytest.raises(ValueError, match="input_ids: received lists of different lengths"):
        interpret.logit_lens(model, [[1, 2], [3]])
    with pytest.raises(ValueError, match="max_position_embeddings"):
        interpret.logit_lens(model, tokens(1, 25))
    with pytest.raises(TypeError, match="received a GPTNeoModel, expected a GPTNeoForCausalLM"):
        interpret.logit_lens(tiny(GPTNeoModel), [1, 2])
