"""Every name of a GPT-Neo model in one place: its parameters, as checkpoints have them, and its intermediates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

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


def intermediate_names(config: GPTNeoConfig, token_types: bool = True, head: bool = True) -> list[str]:
    """What a forward pass shows to its tap, in order of computation: with token types or without, with a head or not.

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
    types, logits = ["wtt"] * token_types, ["logits"] * head
    return ["wte", "wpe", *types, "embed", *blocks, "ln_f", *logits]


# Why a name of the table may be absent.
_ONLY = {"wtt": "only where token_type_ids are passed", "logits": "only by a model with a head"}


def matching(pattern: str, names: Sequence[str], argument: str) -> list[str]:
    """Those of the names that a name or glob stands for; `argument` is what to call it in messages.

    `*` stands for any characters, dots too, `?` for one, `[03]` for one of these (as `fnmatch` has it).

    >>> matching("h.*.out", ["embed", "h.0.attn.out", "h.0.mlp.act", "h.0.mlp.out"], "names")
    ['h.0.attn.out', 'h.0.mlp.out']

    Raises:
        ValueError: it stands for none of them; the message suggests the nearest.
        TypeError: it is no string.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"{argument}: received {pattern!r}, expected a name such as 'h.0.attn.pattern', or a glob.")
    found = [name for name in names if fnmatchcase(name, pattern)]
    if found:
        return found
    reason = f" It is computed {_ONLY[pattern]}." if pattern in _ONLY else ""
    raise ValueError(
        f"{argument}: received {pattern!r}, which this model does not compute here."
        f"{reason}{nearest(pattern, names) or f' The names are {shortened(names)}.'}"
    )


def nearest(name: str, names: Iterable[str]) -> str:
    """A sentence, with a space before it, that suggests what may have been meant; empty where no name is like it."""
    import difflib  # only where somebody mistyped: it is slow to import

    close = difflib.get_close_matches(name, names, n=3)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def shortened(names: Iterable[str]) -> str:
    """Names for a message, all or the first and the last."""
    listed = list(names)
    return ", ".join(listed if len(listed) <= 24 else [*listed[:20], "...", *listed[-2:]]) or "none"
