"""The transformer on CuPy's arrays: the reference's loop, with a kernel in place of each chain of array operations.

Dimensions: B batch, T new positions, S positions seen (past and new), D hidden size, H heads, d head size.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from minineo.arrays import Array, at_least_float32
from minineo.config import GPTNeoConfig
from minineo.fast_cupy import kernels
from minineo.layers import activations
from minineo.layers.attention import merge_heads, split_heads
from minineo.layers.dropout import Masks, no_masks
from minineo.layers.linear import linear
from minineo.model import transformer as reference
from minineo.model.block import Params
from minineo.model.cache import Cache, KeysAndValues, append, forget
from minineo.model.outputs import BaseModelOutputWithPast
from minineo.tap import Tap, no_tap


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
    """As `minineo.model.transformer.transformer`, which does the work where more is asked for than the result."""
    arguments = (input_ids, attention_mask, position_ids, token_type_ids, inputs_embeds, past_key_values, use_cache)
    plain = tap is no_tap and masks is no_masks and not output_attentions and not output_hidden_states
    if not plain or not has_kernels(params):
        return reference.transformer(
            params, config, *arguments, output_attentions, output_hidden_states, tap=tap, masks=masks, prefix=prefix
        )
    past = 0 if past_key_values is None else past_key_values.length
    x = reference.embed(params, input_ids, position_ids, token_type_ids, inputs_embeds, past, no_tap, prefix)
    real = None if attention_mask is None else attention_mask != 0
    kept: list[KeysAndValues] = []
    for i in range(config.num_layers):
        window, before = config.window(i), None if past_key_values is None else past_key_values[i]
        x, kv = _block(params, f"{prefix}h.{i}", x, window, real, before, config)
        if use_cache:
            kept.append(forget(kv, window))
    weight, bias = params[f"{prefix}ln_f.weight"], params[f"{prefix}ln_f.bias"]
    x = kernels.layer_norm(x, weight, bias, config.layer_norm_epsilon)
    return BaseModelOutputWithPast(x, Cache(tuple(kept), past + x.shape[1]) if use_cache else None)


def has_kernels(params: Params) -> bool:
    """Whether there are kernels for the dtype of these parameters, which has to be one for all of them."""
    dtypes = {array.dtype for array in params.values()}
    return len(dtypes) == 1 and str(dtypes.pop()) in kernels.NUMBERS


def _block(
    params: Params,
    at: str,
    x: Array,
    window: int | None,
    real: Array | None,
    past: KeysAndValues | None,
    config: GPTNeoConfig,
) -> tuple[Array, KeysAndValues]:
    """As `minineo.model.block.block`."""
    epsilon, H = config.layer_norm_epsilon, config.num_heads
    normed = kernels.layer_norm(x, params[f"{at}.ln_1.weight"], params[f"{at}.ln_1.bias"], epsilon)
    attn = f"{at}.attn.attention"
    q, k, v = (split_heads(linear(normed, params[f"{attn}.{name}_proj.weight"]), H) for name in "qkv")
    k, v = kv = append(past, k, v)
    z = merge_heads(_attention(q, k, v, window, None if real is None else real[:, -k.shape[2] :]))
    x = x + linear(z, params[f"{attn}.out_proj.weight"], params[f"{attn}.out_proj.bias"])
    normed = kernels.layer_norm(x, params[f"{at}.ln_2.weight"], params[f"{at}.ln_2.bias"], epsilon)
    pre = linear(normed, params[f"{at}.mlp.c_fc.weight"], params[f"{at}.mlp.c_fc.bias"])
    act = _activation(pre, config.activation_function)
    return x + linear(act, params[f"{at}.mlp.c_proj.weight"], params[f"{at}.mlp.c_proj.bias"]), kv


def _attention(q: Array, k: Array, v: Array, window: int | None, real: Array | None) -> Array:
    """As `minineo.layers.attention.attention`: (B, H, T, d)."""
    xp = array_namespace(q)
    scores = at_least_float32(q) @ xp.matrix_transpose(at_least_float32(k))
    return kernels.masked_softmax(scores, window, real, v.dtype) @ v


def _activation(x: Array, name: str) -> Array:
    if activations.activation(name) is activations.gelu_new:
        return kernels.gelu_new(x)
    return array_namespace(x).astype(activations.activation(name)(at_least_float32(x)), x.dtype, copy=False)
