"""Transformer block: attention and MLP, each reading the normalised residual stream and adding to it (as in GPT-2).

Parameters are looked up by the checkpoint's names: `params[f"{at}.ln_1.weight"]`, where `at` is `transformer.h.3`.

Dimensions: B batch, T new positions, D hidden size.
"""

from __future__ import annotations

from minineo.arrays import Array
from minineo.config import GPTNeoConfig
from minineo.layers.activations import activation
from minineo.layers.attention import attention, merge_heads, split_heads
from minineo.layers.dropout import Masks, dropout, masks_under, no_masks
from minineo.layers.layer_norm import layer_norm
from minineo.layers.linear import linear
from minineo.layers.mlp import mlp
from minineo.model.cache import KeysAndValues, append
from minineo.tap import Tap, no_tap, under

Params = dict[str, Array]


def block(
    params: Params,
    at: str,
    x: Array,
    window: int | None,
    real: Array | None,
    past: KeysAndValues | None,
    config: GPTNeoConfig,
    tap: Tap = no_tap,
    masks: Masks = no_masks,
) -> tuple[Array, KeysAndValues]:
    """Apply one block to the residual stream x (B, T, D), looking `window` positions back (None: all).

    `at` is where its parameters stand, such as `transformer.h.3`; real (B, S) is False at padding, where S counts all
    positions so far, and None where there is no padding. Returns the residual stream after the block, and the keys and
    values of the past followed by the new ones.
    """
    epsilon = config.layer_norm_epsilon
    normed = tap("ln_1", layer_norm(x, params[f"{at}.ln_1.weight"], params[f"{at}.ln_1.bias"], epsilon))
    out, kv = self_attention(
        params,
        f"{at}.attn.attention",
        normed,
        window,
        real,
        past,
        config,
        under(tap, "attn"),
        masks_under(masks, "attn"),
    )
    x = tap("resid_mid", x + out)
    normed = tap("ln_2", layer_norm(x, params[f"{at}.ln_2.weight"], params[f"{at}.ln_2.bias"], epsilon))
    out = mlp(
        normed,
        params[f"{at}.mlp.c_fc.weight"],
        params[f"{at}.mlp.c_fc.bias"],
        params[f"{at}.mlp.c_proj.weight"],
        params[f"{at}.mlp.c_proj.bias"],
        activation(config.activation_function),
        under(tap, "mlp"),
        masks_under(masks, "mlp"),
    )
    return tap("resid_post", x + out), kv


def self_attention(
    params: Params,
    at: str,
    x: Array,
    window: int | None,
    real: Array | None,
    past: KeysAndValues | None,
    config: GPTNeoConfig,
    tap: Tap = no_tap,
    masks: Masks = no_masks,
) -> tuple[Array, KeysAndValues]:
    """Project to queries, keys and values, attend, and project back: x (B, T, D) -> (B, T, D), and keys with values.

    `at` is where the parameters stand, such as `transformer.h.3.attn.attention`; the rest is as for `block`.
    """
    # q, k and v have no bias, out_proj has one: so it is in every GPT-Neo checkpoint
    q = tap("q", split_heads(linear(x, params[f"{at}.q_proj.weight"]), config.num_heads))
    k = tap("k", split_heads(linear(x, params[f"{at}.k_proj.weight"]), config.num_heads))
    v = tap("v", split_heads(linear(x, params[f"{at}.v_proj.weight"]), config.num_heads))
    k, v = append(past, k, v)
    real_keys = None if real is None else real[:, -k.shape[2] :]  # a local layer's cache has dropped the oldest
    z = merge_heads(attention(q, k, v, window, real_keys, tap, masks))
    out = linear(z, params[f"{at}.out_proj.weight"], params[f"{at}.out_proj.bias"])
    return tap("out", dropout(out, masks("out", out.shape, out))), (k, v)
