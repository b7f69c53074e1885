"""The GPT-Neo transformer: embeddings, blocks that alternate between global and local attention, a last layer norm.

A pure function of parameters, configuration and inputs; `GPTNeoModel` and the heads are built on it.

Dimensions: B batch, T new positions, S positions seen (past and new), D hidden size, V vocabulary.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from minineo.arrays import Array, device_of
from minineo.config import GPTNeoConfig
from minineo.layers.dropout import Masks, dropout, masks_under, no_masks
from minineo.layers.embedding import embedding
from minineo.layers.layer_norm import layer_norm
from minineo.model.block import Params, block
from minineo.model.cache import Cache, forget
from minineo.model.outputs import BaseModelOutputWithPast
from minineo.tap import Recorder, Tap, no_tap, under


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
    """Turn tokens into hidden states.

    input_ids (B, T) of integers, or in their place inputs_embeds (B, T, D); attention_mask (B, S), 0 at padding;
    position_ids and token_type_ids (B, T). Positions default to those that follow the past. Inputs are not checked
    here (`minineo.model.inputs` does). `masks` are those of dropout, in training; the parameters' names begin with
    `prefix`.

    Returns last_hidden_state (B, T, D); past_key_values unless `use_cache` is False; on request hidden_states, the
    residual stream before each block and then the last hidden state, and attentions, each layer's pattern (B, H, T, S).
    """
    hidden_state_names = ["embed", *(f"h.{i}.resid_post" for i in range(config.num_layers - 1)), "ln_f"]
    attention_names = [f"h.{i}.attn.pattern" for i in range(config.num_layers)]
    if output_hidden_states or output_attentions:
        tap = recorder = Recorder({*hidden_state_names, *attention_names}, tap)

    past = 0 if past_key_values is None else past_key_values.length
    x = embed(params, input_ids, position_ids, token_type_ids, inputs_embeds, past, tap, prefix, masks)
    T = x.shape[1]
    xp = array_namespace(x)
    real = None if attention_mask is None else xp.astype(attention_mask, xp.bool)
    kept = []
    for i in range(config.num_layers):
        window = config.window(i)
        layer_past = None if past_key_values is None else past_key_values[i]
        name = f"h.{i}"
        x, kv = block(
            params, f"{prefix}{name}", x, window, real, layer_past, config, under(tap, name), masks_under(masks, name)
        )
        if use_cache:
            kept.append(forget(kv, window))
    x = layer_norm(x, params[f"{prefix}ln_f.weight"], params[f"{prefix}ln_f.bias"], config.layer_norm_epsilon)
    x = tap("ln_f", x)

    return BaseModelOutputWithPast(
        last_hidden_state=x,
        past_key_values=Cache(tuple(kept), past + T) if use_cache else None,
        hidden_states=tuple(recorder[name] for name in hidden_state_names) if output_hidden_states else None,
        attentions=tuple(recorder[name] for name in attention_names) if output_attentions else None,
    )


def embed(
    params: Params,
    input_ids: Array | None,
    position_ids: Array | None,
    token_type_ids: Array | None,
    inputs_embeds: Array | None,
    past: int,
    tap: Tap,
    prefix: str,
    masks: Masks = no_masks,
) -> Array:
    """Sum the embeddings of tokens, positions and token types: (B, T, D), the start of the residual stream."""
    wte = params[f"{prefix}wte.weight"]
    x = tap("wte", embedding(input_ids, wte) if inputs_embeds is None else inputs_embeds)
    if position_ids is None:
        xp = array_namespace(x)
        position_ids = xp.arange(past, past + x.shape[1], device=device_of(x))[None, :]
    total = x + tap("wpe", embedding(position_ids, params[f"{prefix}wpe.weight"]))
    if token_type_ids is not None:
        total = total + tap("wtt", embedding(token_type_ids, wte))  # token types share the tokens' own table
    return tap("embed", dropout(total, masks("embed", total.shape, total)))
