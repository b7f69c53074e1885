"""The transformer, fast: the reference's loop over the fast layers, adding to one residual stream in place.

Dimensions: B batch, T new positions, S positions seen (past and new), D hidden size, H heads, d head size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minineo.arrays import Array
from minineo.config import GPTNeoConfig
from minineo.fast.activations import activation
from minineo.fast.attention import attention
from minineo.fast.cache import append, forget
from minineo.fast.layer_norm import layer_norm
from minineo.fast.layout import qkv_weight
from minineo.fast.linear import linear, product
from minineo.fast.mlp import mlp
from minineo.fast.threads import count, each
from minineo.layers.dropout import Masks, no_masks
from minineo.model import transformer as reference
from minineo.model.block import Params
from minineo.model.cache import Cache, KeysAndValues
from minineo.model.outputs import BaseModelOutputWithPast
from minineo.tap import Tap, no_tap

FEWEST, ROWS = 256, 512  # rows that a thread takes at a time: products of fewer are slow, those of more leave the cache


def transformer(
    params: Params,
    config: GPTNeoConfig,
    input_ids: Array | None = None,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    token_type_ids: Array | None = None,
    inputs_embeds: Array | None = None,
    past_key_values: Cache | None = None,
    use_cache: bool = True,
    output_attentions: bool = False,
    output_hidden_states: bool = False,
    tap: Tap = no_tap,
    masks: Masks = no_masks,
    prefix: str = "",
) -> BaseModelOutputWithPast:
    """As `minineo.model.transformer.transformer`, which does the work where intermediates or dropout are asked for.

    Without anybody to look at them, intermediates need not outlive their use: the residual stream is one array that
    every block adds to, and keys and values are written into a cache that has room for them.
    """
    arguments = (input_ids, attention_mask, position_ids, token_type_ids, inputs_embeds, past_key_values, use_cache)
    weight = params[f"{prefix}wte.weight"]
    plain = tap is no_tap and masks is no_masks and not output_attentions and not output_hidden_states
    if not plain or not is_fast(weight):
        return reference.transformer(
            params, config, *arguments, output_attentions, output_hidden_states, tap=tap, masks=masks, prefix=prefix
        )
    past = 0 if past_key_values is None else past_key_values.length
    # in the order of its rows, which are added to in place; given embeddings may lie otherwise
    x = np.ascontiguousarray(
        reference.embed(params, input_ids, position_ids, token_type_ids, inputs_embeds, past, no_tap, prefix)
    )
    real = None if attention_mask is None or attention_mask.all() else attention_mask != 0
    qkv = np.empty((*x.shape[:2], 3 * config.hidden_size), x.dtype)  # all layers use this memory in turn
    kept: list[KeysAndValues] = []
    for i in range(config.num_layers):
        window, before = config.window(i), None if past_key_values is None else past_key_values[i]
        kv = _add_block(params, f"{prefix}h.{i}", x, window, real, before, config, qkv)
        if use_cache:
            kept.append(forget(kv, window))
    x = layer_norm(x, params[f"{prefix}ln_f.weight"], params[f"{prefix}ln_f.bias"], config.layer_norm_epsilon)
    return BaseModelOutputWithPast(x, Cache(tuple(kept), past + x.shape[1]) if use_cache else None)


def is_fast(weight: Any) -> bool:
    """Whether the fast functions compute with such arrays: NumPy's, of float32 or float64."""
    return isinstance(weight, np.ndarray) and weight.dtype.itemsize >= 4


def _add_block(
    params: Params,
    at: str,
    x: Array,
    window: int | None,
    real: Array | None,
    past: KeysAndValues | None,
    config: GPTNeoConfig,
    qkv: Array,
) -> KeysAndValues:
    """Add what one block adds to the residual stream x (B, T, D), in place; returns its keys and values.

    Between attention and attention each position goes its own way, so that threads share the rows: what they read and
    write stays near their core. `qkv` (B, T, 3 D) is overwritten; what is returned may be a view of it.
    """
    B, T, D = x.shape
    H, epsilon = config.num_heads, config.layer_norm_epsilon
    rows, qkv_rows = x.reshape(-1, D), qkv.reshape(-1, 3 * D)
    projections = query_key_value(params, at)

    def project(part: slice) -> None:
        normed = layer_norm(rows[part], params[f"{at}.ln_1.weight"], params[f"{at}.ln_1.bias"], epsilon)
        for columns, weight in projections:
            product(normed, weight, out=qkv_rows[part, columns])

    each(project, row_parts(len(rows)))
    q, k, v = qkv.reshape(B, T, 3, H, D // H).transpose(2, 0, 3, 1, 4)
    k, v = kv = append(past, k, v)
    real_keys = None if real is None else real[:, -k.shape[2] :]
    z = attention(q, k, v, window, real_keys).transpose(0, 2, 1, 3).reshape(-1, D)

    def add(part: slice) -> None:
        stream = rows[part]
        stream += linear(
            z[part], params[f"{at}.attn.attention.out_proj.weight"], params[f"{at}.attn.attention.out_proj.bias"]
        )
        stream += mlp(
            layer_norm(stream, params[f"{at}.ln_2.weight"], params[f"{at}.ln_2.bias"], epsilon),
            params[f"{at}.mlp.c_fc.weight"],
            params[f"{at}.mlp.c_fc.bias"],
            params[f"{at}.mlp.c_proj.weight"],
            params[f"{at}.mlp.c_proj.bias"],
            activation(config.activation_function),
        )

    each(add, row_parts(len(rows)))
    return kv


def row_parts(N: int) -> list[slice]:
    """Share out N rows, as many parts to each thread; all in one part where the parts' products would be slow ones."""
    threads = count()
    if threads < 2 or threads * FEWEST > N:  # BLAS makes better use of all cores than a few threads of theirs
        return [slice(0, N)]
    step = -(-N // (threads * -(-N // (threads * ROWS))))
    return [slice(start, min(start + step, N)) for start in range(0, N, step)]


def query_key_value(params: Params, at: str) -> list[tuple[slice, Array]]:
    """The weights that make q, k and v, each with its columns of them: one for all three, or three."""
    weight = qkv_weight(params, at)
    if weight is not None:
        return [(slice(None), weight)]
    weights = [params[f"{at}.attn.attention.{name}_proj.weight"] for name in "qkv"]
    return [(slice(i * len(w), (i + 1) * len(w)), w) for i, w in enumerate(weights)]
