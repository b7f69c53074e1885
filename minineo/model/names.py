"""Every name of a GPT-Neo model in one place: its parameters, as checkpoints have them, and its intermediates."""

from __future__ import annotations

from minineo.config import GPTNeoConfig

# Where the transformer's parameters stand in the checkpoint of a model with a head; without a head, at the top.
BASE_PREFIX = "transformer."

Shapes = dict[str, tuple[int, ...]]


def parameter_shapes(config: GPTNeoConfig, prefix: str = "") -> Shapes:
    """Names and shapes of the transformer's parameters, in the order in which a forward pass meets them."""
    D, M = config.hidden_size, config.inner_size
    shapes: Shapes = {"wte.weight": (config.vocab_size, D), "wpe.weight": (config.max_position_embeddings, D)}
    for i in range(config.num_layers):
        block: Shapes = {
            "ln_1.weight": (D,),
            "ln_1.bias": (D,),
            "attn.attention.q_proj.weight": (D, D),
            "attn.attention.k_proj.weight": (D, D),
            "attn.attention.v_proj.weight": (D, D),
            "attn.attention.out_proj.weight": (D, D),
            "attn.attention.out_proj.bias": (D,),
            "ln_2.weight": (D,),
            "ln_2.bias": (D,),
            "mlp.c_fc.weight": (M, D),
            "mlp.c_fc.bias": (M,),
            "mlp.c_proj.weight": (D, M),
            "mlp.c_proj.bias": (D,),
        }
        shapes |= {f"h.{i}.{name}": shape for name, shape in block.items()}
    shapes |= {"ln_f.weight": (D,), "ln_f.bias": (D,)}
    return {prefix + name: shape for name, shape in shapes.items()}


def intermediate_names(config: GPTNeoConfig) -> list[str]:
    """What a forward pass shows to its tap, in order of computation.

    | name | shape | what |
    |---|---|---|
    | `wte`, `wpe` | (B, T, D), (B or 1, T, D) | embeddings of the tokens and of their positions |
    | `wtt` | (B, T, D) | embeddings of the token types, only where `token_type_ids` are given |
    | `embed` | (B, T, D) | their sum, after dropout, where the residual stream begins |
    | `h.0.ln_1` | (B, T, D) | what attention reads |
    | `h.0.attn.q`, `.k`, `.v` | (B, H, T, d) | queries, keys and values of the new positions |
    | `h.0.attn.scores` | (B, H, T, S) | masked scores: -inf where the mask hides, the lowest float at padding |
    | `h.0.attn.pattern` | (B, H, T, S) | their softmax |
    | `h.0.attn.z` | (B, H, T, d) | values mixed by the pattern, head by head |
    | `h.0.attn.out` | (B, T, D) | what attention adds to the residual stream |
    | `h.0.resid_mid` | (B, T, D) | the residual stream after attention |
    | `h.0.ln_2` | (B, T, D) | what the MLP reads |
    | `h.0.mlp.pre`, `.act` | (B, T, M) | the MLP's inner layer before and after the activation |
    | `h.0.mlp.out` | (B, T, D) | what the MLP adds to the residual stream |
    | `h.0.resid_post` | (B, T, D) | the residual stream after the block |
    | `ln_f` | (B, T, D) | the last hidden state |
    | `logits` | (B, K, V) | the head's output; absent in `GPTNeoModel` |
    """
    block = [
        *("ln_1", "attn.q", "attn.k", "attn.v", "attn.scores", "attn.pattern", "attn.z", "attn.out", "resid_mid"),
        *("ln_2", "mlp.pre", "mlp.act", "mlp.out", "resid_post"),
    ]
    blocks = [f"h.{i}.{name}" for i in range(config.num_layers) for name in block]
    return ["wte", "wpe", "wtt", "embed", *blocks, "ln_f", "logits"]
