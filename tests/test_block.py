"""The block against its formula written once more with einsum, and its use of the past."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_models import tiny

from minineo.classes import GPTNeoModel
from minineo.config import GPTNeoConfig
from minineo.model.block import block, self_attention
from minineo.tap import Recorder


def formula(params: dict[str, Any], at: str, x: np.ndarray, window: int | None, config: GPTNeoConfig) -> np.ndarray:
    """One block in its textbook form: a full matrix of scores, and -inf where the mask is 0."""

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        variance = x.var(-1, keepdims=True)
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(variance + config.layer_norm_epsilon)
        return scaled * params[f"{at}.{name}.weight"] + params[f"{at}.{name}.bias"]

    def heads(x: np.ndarray, name: str) -> np.ndarray:
        weight = params[f"{at}.attn.attention.{name}.weight"].reshape(config.num_heads, -1, config.hidden_size)
        return np.einsum("btD,hdD->bthd", x, weight)

    T = x.shape[1]
    normed = norm(x, "ln_1")
    scores = np.einsum("bthd,bshd->bhts", heads(normed, "q_proj"), heads(normed, "k_proj"))
    mask = np.tril(np.ones((T, T)))
    if window is not None:
        mask -= np.tril(mask, -window)
    weights = np.exp(scores) * mask
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("bhts,bshd->bthd", weights, heads(normed, "v_proj")).reshape(x.shape)
    out_proj = f"{at}.attn.attention.out_proj"
    x = x + np.einsum("btD,OD->btO", mixed, params[f"{out_proj}.weight"]) + params[f"{out_proj}.bias"]
    inner = np.einsum("btD,MD->btM", norm(x, "ln_2"), params[f"{at}.mlp.c_fc.weight"]) + params[f"{at}.mlp.c_fc.bias"]
    inner = 0.5 * inner * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (inner + 0.044715 * inner**3)))
    return x + np.einsum("btM,DM->btD", inner, params[f"{at}.mlp.c_proj.weight"]) + params[f"{at}.mlp.c_proj.bias"]


@pytest.mark.parametrize("window", [None, 1, 3, 10])
@pytest.mark.parametrize("intermediate_size", [None, 36, 5])
def test_equals_the_formula(window: int | None, intermediate_size: int | None) -> None:
    model = tiny(GPTNeoModel, dtype=np.float64, intermediate_size=intermediate_size, layer_norm_epsilon=1e-3)
    x = np.random.default_rng(0).standard_normal((2, 6, 12))
    for at in ("h.0", "h.1"):
        out, (k, v) = block(model.params, at, x, window, None, None, model.config)
        np.testing.assert_allclose(out, formula(model.params, at, x, window, model.config), rtol=1e-11, atol=1e-12)
        assert k.shape == v.shape == (2, 3, 6, 4)


def test_the_residual_stream_is_added_to_and_never_replaced() -> None:
    model, trace = tiny(GPTNeoModel, dtype=np.float64), Recorder()
    x = np.random.default_rng(1).standard_normal((1, 4, 12))
    before = x.copy()
    out, _ = block(model.params, "h.0", x, None, None, None, model.config, trace)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(trace["resid_mid"], x + trace["attn.out"])
    np.testing.assert_array_equal(trace["resid_post"], trace["resid_mid"] + trace["mlp.out"])
    assert out is trace["resid_post"]


def test_q_k_and_v_have_no_bias_and_the_output_has_one() -> None:
    model, trace = tiny(GPTNeoModel), Recorder()
    zero = np.zeros((1, 3, 12), np.float32)
    out, (k, v) = self_attention(model.params, "h.0.attn.attention", zero, None, None, None, model.config, trace)
    assert not np.concatenate([trace["q"], k, v]).any()
    np.testing.assert_array_equal(out[0, 0], model.params["h.0.attn.attention.out_proj.bias"])


def test_continues_keys_and_values_of_the_past() -> None:
    model = tiny(GPTNeoModel, dtype=np.float64)
    x = np.random.default_rng(2).standard_normal((2, 5, 12))
    whole, (k, v) = block(model.params, "h.0", x, None, None, None, model.config)
    _, past = block(model.params, "h.0", x[:, :3], None, None, None, model.config)
    rest, (k_joined, v_joined) = block(model.params, "h.0", x[:, 3:], None, None, past, model.config)
    np.testing.assert_allclose(rest, whole[:, 3:], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(k_joined, k, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(v_joined, v, rtol=1e-12, atol=1e-13)
    assert past[0].shape[2] == 3
