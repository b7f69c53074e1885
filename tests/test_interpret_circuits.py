"""QK and OV circuits against what a trace of the model has computed, and by the definition of eigenvalues."""

from __future__ import annotations

import numpy as np
import pytest
from interpreted_models import ODD, V, by_hand, make, odd
from tiny_models import tiny, tokens

from minineo import interpret
from minineo.classes import GPTNeoForCausalLM, GPTNeoModel
from minineo.layers.layer_norm import layer_norm
from minineo.tap import Recorder


@pytest.mark.parametrize("name", sorted(ODD))
def test_against_scores_and_outputs_of_the_model(name):
    model, ids = odd(name), tokens(1, 8)
    trace = Recorder()
    model(ids, tap=trace)
    for i in range(model.config.num_layers):
        read = trace[f"h.{i}.ln_1"][0]
        written = np.zeros_like(read)
        for h in range(model.config.num_heads):
            qk, ov = interpret.qk_circuit(model, i, h), interpret.ov_circuit(model, i, h)
            assert (qk.layer, qk.head, ov.layer, ov.head) == (i, h, i, h)
            scores = trace[f"h.{i}.attn.scores"][0, h]
            seen = np.isfinite(scores)
            np.testing.assert_allclose((read @ qk.matrix @ read.T)[seen], scores[seen], rtol=1e-10, atol=1e-10)
            written += trace[f"h.{i}.attn.pattern"][0, h] @ (read @ ov.matrix.T)
        written += model.params[f"transformer.h.{i}.attn.attention.out_proj.bias"]
        np.testing.assert_allclose(written, trace[f"h.{i}.attn.out"][0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", sorted(ODD))
def test_tokens_by_the_definition(name):
    model = odd(name)
    params, epsilon = model.params, model.config.layer_norm_epsilon
    layer, head = model.config.num_layers - 1, model.config.num_heads - 1
    at = f"transformer.h.{layer}.ln_1"
    read = layer_norm(params["transformer.wte.weight"], params[f"{at}.weight"], params[f"{at}.bias"], epsilon)
    qk = interpret.qk_circuit(model, layer, head, "all")
    np.testing.assert_allclose(qk.scores, read @ qk.matrix @ read.T, rtol=1e-10, atol=1e-12)
    ov = interpret.ov_circuit(model, layer, head, "all")
    unembed = params["transformer.wte.weight" if model.config.tie_word_embeddings else "lm_head.weight"]
    written = read @ ov.matrix.T
    logits = ((written - written.mean(axis=1, keepdims=True)) * params["transformer.ln_f.weight"]) @ unembed.T
    logits -= logits.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(ov.logits, logits, rtol=1e-10, atol=1e-12)
    # the d eigenvalues are those of the full V x V matrix, of which the others are 0
    full = np.linalg.eigvals(logits)
    full = full[np.argsort(-np.abs(full))]
    own = ov.eigenvalues[np.argsort(-np.abs(ov.eigenvalues))]
    np.testing.assert_allclose(np.abs(own), np.abs(full[: len(own)]), rtol=1e-6, atol=1e-8)
    assert ov.copying_score == pytest.approx(full.sum().real / np.abs(full).sum(), rel=1e-6)
    some = [5, 0, 18]
    np.testing.assert_allclose(interpret.qk_circuit(model, layer, head, some).scores, qk.scores[np.ix_(some, some)])
    np.testing.assert_allclose(interpret.ov_circuit(model, layer, head, some).logits, ov.logits[np.ix_(some, some)])


@pytest.mark.parametrize(("sign", "expected"), [(1.0, 1.0), (-1.0, -1.0)])
def test_a_head_that_copies_and_one_that_forbids(sign, expected):
    model = by_hand(1)
    make(model, 0, "induction")
    model.params["transformer.h.0.attn.attention.out_proj.weight"] *= sign
    found = interpret.ov_circuit(model, 0, 0, "all")
    assert found.copying_score == pytest.approx(expected, abs=1e-5)
    assert (np.argmax(sign * found.logits, axis=1) == np.arange(V)).all()


def test_a_head_that_writes_nothing():
    assert interpret.ov_circuit(by_hand(1), 0, 0).copying_score == 0.0


def test_without_tokens_there_is_no_large_matrix():
    model = tiny(GPTNeoForCausalLM)
    assert interpret.qk_circuit(model, 0, 0).scores is None
    found = interpret.ov_circuit(model, 0, 0)
    assert (found.tokens, found.logits) == (None, None)
    assert found.matrix.dtype == np.float32
    assert found.eigenvalues.shape == (4,)


def test_wrong_arguments():
    model = tiny(GPTNeoForCausalLM)
    for circuit in (interpret.qk_circuit, interpret.ov_circuit):
        with pytest.raises(ValueError, match=r"layer: received 2, expected an int in 0 \.\.\. 1"):
            circuit(model, 2, 0)
        with pytest.raises(ValueError, match=r"head: received 3, expected an int in 0 \.\.\. 2"):
            circuit(model, 0, 3)
        with pytest.raises(ValueError, match=r"tokens: received 19, expected an int in 0 \.\.\. 18"):
            circuit(model, 0, 0, [1, 19])
        with pytest.raises(ValueError, match=r"tokens: received 'some'"):
            circuit(model, 0, 0, "some")
        with pytest.raises(TypeError, match="tokens: received 3, expected a list of token ids"):
            circuit(model, 0, 0, 3)
    with pytest.raises(TypeError, match="received a GPTNeoModel"):
        interpret.ov_circuit(tiny(GPTNeoModel), 0, 0)
    assert interpret.qk_circuit(tiny(GPTNeoModel), 0, 0).matrix.shape == (12, 12)
