"""Direct logit attribution: its parts sum to the model's logit, and each is what the model loses without it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted_models import ODD, odd
from random_models import draw_config, draw_params
from tiny_models import tiny, tokens

from minineo import interpret
from minineo.classes import GPTNeoForCausalLM
from minineo.tap import Recorder


def assert_sums(found: interpret.DirectLogitAttribution, logit: float) -> None:
    size = sum(abs(part) for part in found.parts.values())
    assert found.logit == pytest.approx(logit, rel=1e-12)
    assert sum(found.parts.values()) == pytest.approx(logit, abs=1e-12 * size)
    np.testing.assert_allclose(found.heads.sum(axis=1) + found.attention_bias, found.attention, atol=1e-12 * size)
    np.testing.assert_allclose(found.sources.sum(axis=2), found.heads, atol=1e-12 * size)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.data())
def test_the_parts_sum_to_the_logit(seed, data):
    config = draw_config(seed)
    model = GPTNeoForCausalLM(config, draw_params(GPTNeoForCausalLM.parameter_shapes(config), config, seed, np.float64))
    T = data.draw(st.integers(1, config.max_position_embeddings))
    ids = np.random.default_rng(seed).integers(config.vocab_size, size=T)
    position = data.draw(st.integers(-T, T - 1))
    target, against = data.draw(st.permutations(range(config.vocab_size)))[:2]
    logits = model(ids[None]).logits[0, position]
    assert_sums(interpret.direct_logit_attribution(model, ids, target, position=position), logits[target])
    difference = interpret.direct_logit_attribution(model, ids, target, against, position)
    assert_sums(difference, logits[target] - logits[against])


@pytest.mark.parametrize("name", sorted(ODD))
def test_each_part_is_what_the_finished_stream_loses_without_it(name):
    """Taken from the stream, with the layer norm's scale as it was: by the layer norm's formula."""
    model, ids = odd(name), tokens(1, 6)
    found = interpret.direct_logit_attribution(model, ids, 4, 7)
    trace = Recorder()
    logits = model(ids, tap=trace).logits[0, -1]
    assert_sums(found, logits[4] - logits[7])
    L, H = model.config.num_layers, model.config.num_heads
    stream = trace[f"h.{L - 1}.resid_post"][0, -1]
    deviation = np.sqrt(stream.var() + model.config.layer_norm_epsilon)
    head = model.params["transformer.wte.weight" if model.config.tie_word_embeddings else "lm_head.weight"]
    gain = model.params["transformer.ln_f.weight"]

    def share(vector: np.ndarray) -> float:
        return float((head[4] - head[7]) @ ((vector - vector.mean()) / deviation * gain))

    for name, value in found.parts.items():
        if name != "ln_f.bias":
            assert value == pytest.approx(share(trace[name][0, -1]), abs=1e-12)
    for i in range(L):
        out = model.params[f"transformer.h.{i}.attn.attention.out_proj.weight"]
        alone = np.zeros((H, H, model.config.head_size))
        for h in range(H):
            alone[h, h] = trace[f"h.{i}.attn.z"][0, h, -1]
            assert found.heads[i, h] == pytest.approx(share(out @ alone[h].reshape(-1)), abs=1e-12)


def test_a_local_layer_reads_nothing_before_its_window():
    model = odd("global and local")  # a window of 3
    found = interpret.direct_logit_attribution(model, tokens(1, 9), 1, position=6)
    assert found.sources.shape == (2, 3, 9)
    assert (found.sources[0, :, :7] != 0).all()
    assert (found.sources[1, :, 4:7] != 0).all()
    assert (found.sources[1, :, :4] == 0).all()
    assert (found.sources[:, :, 7:] == 0).all()


def test_float32_stays():
    found = interpret.direct_logit_attribution(tiny(GPTNeoForCausalLM), [1, 2, 3], 4)
    for array in (found.embed, found.attention, found.mlp, found.heads, found.attention_bias, found.sources):
        assert array.dtype == np.float32
    assert list(found.parts) == [
        "wte",
        "wpe",
        "h.0.attn.out",
        "h.0.mlp.out",
        "h.1.attn.out",
        "h.1.mlp.out",
        "ln_f.bias",
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((19,), ValueError, r"target: received 19, expected an int in 0 \.\.\. 18"),
        ((-1,), ValueError, "target: received -1"),
        ((1, 19), ValueError, "against: received 19"),
        ((1, 1), ValueError, "against: received 1, the target itself"),
        ((1, None, 3), ValueError, r"position: received 3, expected an int in -3 \.\.\. 2"),
        ((1, None, -4), ValueError, "position: received -4"),
        ((1, None, 0.0), ValueError, "position: received 0.0"),
        ((" the",), TypeError, r"target: received the text ' the', .* tokenizer.encode\(' the'\)\[0\]"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        interpret.direct_logit_attribution(tiny(GPTNeoForCausalLM), [1, 2, 3], *arguments)
