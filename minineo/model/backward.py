"""Backward through the transformer: from the gradient of its result to that of every parameter, by the chain rule.

The steps of the forward pass in reverse order (reverse-mode differentiation, Linnainmaa 1970; for networks Rumelhart,
Hinton & Williams 1986). What a step needs to know of the forward pass is read from `trace`, the intermediates that a
`Recorder` kept under their names; a block whose intermediates are not all there is run again first, from what it took
(gradient checkpointing, Griewank & Walther 2000; Chen et al. 2016). Gradients stand under the names of the parameters.

Dimensions: B batch, T positions, D hidden size.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from minineo.arrays import Array, device_of
from minineo.config import GPTNeoConfig
from minineo.layers.activations import ACTIVATIONS_BACKWARD
from minineo.layers.attention import attention_backward, merge_heads, split_heads
from minineo.layers.dropout import Masks, dropout_backward, masks_under, no_masks
from minineo.layers.embedding import embedding_backward
from minineo.layers.layer_norm import layer_norm_backward
from minineo.layers.linear import linear_backward
from minineo.layers.mlp import mlp_backward
from minineo.model.block import Params, block
from minineo.tap import Recorder

Trace = dict[str, Array]

_READ_IN_BLOCK = {
    *("ln_1", "attn.q", "attn.k", "attn.v", "attn.pattern", "attn.z", "resid_mid"),
    *("ln_2", "mlp.pre", "mlp.act"),
}


def intermediates_read(config: GPTNeoConfig, checkpointing: bool = False) -> set[str]:
    """Names of the intermediates that backward reads. The others, such as the scores, need not be kept.

    With `checkpointing` only those that have to be: the residual stream between the blocks, and what the head reads.
    """
    layers = range(config.num_layers)
    streams = {"embed", *(f"h.{i}.resid_post" for i in layers)}
    inside_blocks = set() if checkpointing else {f"h.{i}.{name}" for i in layers for name in _READ_IN_BLOCK}
    return {*streams, *inside_blocks, "ln_f", "logits"}


def transformer_backward(
    dy: Array,
    params: Params,
    config: GPTNeoConfig,
    trace: Trace,
    input_ids: Array | None = None,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    token_type_ids: Array | None = None,
    masks: Masks = no_masks,
    prefix: str = "",
) -> Params:
    """Gradients of all the transformer's parameters, from that of its last hidden state, dy (B, T, D).

    The inputs are those that `transformer` took, without a past; input_ids are None where it took inputs_embeds.
    """
    xp = array_namespace(dy)
    real = None if attention_mask is None else xp.astype(attention_mask, xp.bool)
    streams = [trace["embed"], *(trace[f"h.{i}.resid_post"] for i in range(config.num_layers))]
    weight = params[f"{prefix}ln_f.weight"]
    dx, dweight, dbias = layer_norm_backward(dy, streams[-1], weight, config.layer_norm_epsilon)
    grads = {f"{prefix}ln_f.weight": dweight, f"{prefix}ln_f.bias": dbias}
    for i in reversed(range(config.num_layers)):
        at, block_masks = f"{prefix}h.{i}", masks_under(masks, f"h.{i}")
        kept = inside(trace, f"h.{i}")
        if not kept.keys() >= _READ_IN_BLOCK:
            kept = Recorder(_READ_IN_BLOCK)
            block(params, at, streams[i], config.window(i), real, None, config, kept, block_masks)
        dx, block_grads = block_backward(dx, params, at, streams[i], real, config, kept, block_masks)
        grads |= block_grads
    return grads | embed_backward(dx, params, input_ids, position_ids, token_type_ids, prefix, masks)


def inside(trace: Trace, prefix: str) -> Trace:
    """The intermediates of a part of the model, under their names in that part."""
    return {name.removeprefix(f"{prefix}."): value for name, value in trace.items() if name.startswith(f"{prefix}.")}


def block_backward(
    dy: Array,
    params: Params,
    at: str,
    x: Array,
    real: Array | None,
    config: GPTNeoConfig,
    trace: Trace,
    masks: Masks = no_masks,
) -> tuple[Array, Params]:
    """Gradients of `block`: of its input, dx (B, T, D), and of its parameters, from that of its result, dy (B, T, D).

    x is what the block took, `trace` what it left, without `h.3.` before the names.
    """
    epsilon = config.layer_norm_epsilon
    dnormed, grads = feed_forward_backward(
        dy, params, f"{at}.mlp", trace["ln_2"], config, inside(trace, "mlp"), masks_under(masks, "mlp")
    )
    # A residual sum x + f(x) hands its gradient on twice: unchanged to x, and through f, to be added. However deep the
    # model, the first way is free of factors.
    dmid, dweight, dbias = layer_norm_backward(dnormed, trace["resid_mid"], params[f"{at}.ln_2.weight"], epsilon)
    grads |= {f"{at}.ln_2.weight": dweight, f"{at}.ln_2.bias": dbias}
    dmid = dy + dmid

    dnormed, attention_grads = self_attention_backward(
        dmid,
        params,
        f"{at}.attn.attention",
        trace["ln_1"],
        real,
        config,
        inside(trace, "attn"),
        masks_under(masks, "attn"),
    )
    dx, dweight, dbias = layer_norm_backward(dnormed, x, params[f"{at}.ln_1.weight"], epsilon)
    grads |= {f"{at}.ln_1.weight": dweight, f"{at}.ln_1.bias": dbias}
    return dmid + dx, grads | attention_grads


def feed_forward_backward(
    dy: Array, params: Params, at: str, x: Array, config: GPTNeoConfig, trace: Trace, masks: Masks = no_masks
) -> tuple[Array, Params]:
    """Gradients of `mlp`: of its input, dx (B, T, D), and of its parameters, from that of its result, dy (B, T, D)."""
    names = [f"{at}.{name}" for name in ("c_fc.weight", "c_fc.bias", "c_proj.weight", "c_proj.bias")]
    c_fc_weight, c_fc_bias, c_proj_weight, c_proj_bias = (params[name] for name in names)
    dx, *gradients = mlp_backward(
        dy,
        x,
        c_fc_weight,
        c_fc_bias,
        c_proj_weight,
        c_proj_bias,
        ACTIVATIONS_BACKWARD[config.activation_function],
        trace["pre"],
        trace["act"],
        masks,
    )
    return dx, dict(zip(names, gradients, strict=True))


def self_attention_backward(
    dy: Array,
    params: Params,
    at: str,
    x: Array,
    real: Array | None,
    config: GPTNeoConfig,
    trace: Trace,
    masks: Masks = no_masks,
) -> tuple[Array, Params]:
    """Gradients of `self_attention`: of its input, dx (B, T, D), and of its parameters, from dy (B, T, D)."""
    out_weight, out_bias = params[f"{at}.out_proj.weight"], params[f"{at}.out_proj.bias"]
    dout = dropout_backward(dy, masks("out", dy.shape, dy))
    dz, dout_weight, dout_bias = linear_backward(dout, merge_heads(trace["z"]), out_weight, out_bias)
    grads = {f"{at}.out_proj.weight": dout_weight, f"{at}.out_proj.bias": dout_bias}

    q, k, v = trace["q"], trace["k"], trace["v"]
    dq, dk, dv = attention_backward(split_heads(dz, config.num_heads), q, k, v, trace["pattern"], real, masks)
    dx_from_q, grads[f"{at}.q_proj.weight"], _ = linear_backward(merge_heads(dq), x, params[f"{at}.q_proj.weight"])
    dx_from_k, grads[f"{at}.k_proj.weight"], _ = linear_backward(merge_heads(dk), x, params[f"{at}.k_proj.weight"])
    dx_from_v, grads[f"{at}.v_proj.weight"], _ = linear_backward(merge_heads(dv), x, params[f"{at}.v_proj.weight"])
    return dx_from_q + dx_from_k + dx_from_v, grads  # one x was read three times


def embed_backward(
    dy: Array,
    params: Params,
    input_ids: Array | None,
    position_ids: Array | None,
    token_type_ids: Array | None,
    prefix: str,
    masks: Masks = no_masks,
) -> Params:
    """Gradients of the two tables, from that of the sum of embeddings, dy (B, T, D)."""
    xp = array_namespace(dy)
    dy = dropout_backward(dy, masks("embed", dy.shape, dy))
    B, T, _ = dy.shape
    wte, wpe = params[f"{prefix}wte.weight"], params[f"{prefix}wpe.weight"]
    if position_ids is None:
        position_ids = xp.arange(T, device=device_of(dy))[None, :]
    dwpe = embedding_backward(dy, xp.broadcast_to(position_ids, (B, T)), wpe)
    dwte = xp.zeros_like(wte)  # where embeddings were given, no token was looked up
    if input_ids is not None:
        dwte = dwte + embedding_backward(dy, input_ids, wte)
    if token_type_ids is not None:
        dwte = dwte + embedding_backward(dy, token_type_ids, wte)
    return {f"{prefix}wte.weight": dwte, f"{prefix}wpe.weight": dwpe}
