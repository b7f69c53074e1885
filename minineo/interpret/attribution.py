"""Direct logit attribution: a logit as a sum, to which the embeddings and every head and MLP contribute a term.

The residual stream is a sum, the head is linear, and so is the layer norm between them once its scale is taken as a
given ("frozen"; Elhage et al. 2021, "A mathematical framework for transformer circuits"; Wang et al. 2022). What a part
does *through* later layers counts as theirs: hence "direct".

Dimensions: L layers, H heads, T positions, d head size, D = H * d hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minineo.arrays import Array
from minineo.classes import GPTNeoForCausalLM
from minineo.interpret.inputs import intermediates, one_text, parameter, to_numpy, unembedding
from minineo.interpret.intervention import check_target


@dataclass(frozen=True, eq=False)
class DirectLogitAttribution:
    """A logit, or a difference of two, and what it is the sum of.

    logit: as the model gives it. embed (2,): the token's and the position's embedding. attention (L,) and mlp (L,):
    what they add to the stream. final_bias: the share of the last layer norm's bias.

    attention is heads.sum(axis=1) + attention_bias: heads (L, H), and out_proj's bias, attention_bias (L,), which is no
    head's. heads is sources.sum(axis=2): sources (L, H, T), by the position whose value a head has moved.
    """

    logit: float
    embed: np.ndarray[Any, Any]
    attention: np.ndarray[Any, Any]
    mlp: np.ndarray[Any, Any]
    heads: np.ndarray[Any, Any]
    attention_bias: np.ndarray[Any, Any]
    sources: np.ndarray[Any, Any]
    final_bias: float

    @property
    def parts(self) -> dict[str, float]:
        """The terms that sum to the logit, under the names of the intermediates, in order of computation."""
        named = {"wte": float(self.embed[0]), "wpe": float(self.embed[1])}
        for i, (attention, mlp) in enumerate(zip(self.attention, self.mlp, strict=True)):
            named |= {f"h.{i}.attn.out": float(attention), f"h.{i}.mlp.out": float(mlp)}
        return named | {"ln_f.bias": self.final_bias}


def direct_logit_attribution(
    model: GPTNeoForCausalLM, input_ids: Any, target: int, against: int | None = None, position: int = -1
) -> DirectLogitAttribution:
    """What the logit of `target` after `position` is made of, or its difference from that of `against`.

    input_ids (T,), (1, T) or a list; tokens by their ids. A single logit contains what raises all tokens alike; a
    difference does not, and says why one token wins over another.

    Raises:
        ValueError, TypeError: a token or the position is out of range, several texts, a model without logits.
    """
    ids = one_text(model, input_ids)
    target, against, position = check_target(model, target, against, position, ids.shape[1])
    L, H = model.config.num_layers, model.config.num_heads
    last = f"h.{L - 1}.resid_post"
    names = [f"h.{i}.{part}" for i in range(L) for part in ("attn.pattern", "attn.v", "mlp.out")]
    # nothing after `position` matters to it
    found = intermediates(model, ids[:, : position + 1], ["wte", "wpe", last, "logits", *names], _last_position)

    head = unembedding(model)
    direction = to_numpy(head[target, :] if against is None else head[target, :] - head[against, :])
    reads = reading_direction(model, found[last], direction)
    sources = np.zeros((L, H, ids.shape[1]), reads.dtype)
    attention_bias = np.zeros(L, reads.dtype)
    for i in range(L):
        out_proj = parameter(model, f"h.{i}.attn.attention.out_proj.weight")
        # (H, d): how much each number of a head's output counts
        by_head = np.reshape(reads @ out_proj, (H, -1))
        values = np.einsum("hjd,hd->hj", found[f"h.{i}.attn.v"], by_head)
        sources[i, :, : position + 1] = found[f"h.{i}.attn.pattern"] * values
        attention_bias[i] = reads @ parameter(model, f"h.{i}.attn.attention.out_proj.bias")
    heads = sources.sum(axis=2)
    logits = found["logits"]
    return DirectLogitAttribution(
        logit=float(logits[target]) - (0.0 if against is None else float(logits[against])),
        embed=np.array([found["wte"] @ reads, found["wpe"] @ reads]),
        attention=heads.sum(axis=1) + attention_bias,
        mlp=np.array([found[f"h.{i}.mlp.out"] @ reads for i in range(L)]),
        heads=heads,
        attention_bias=attention_bias,
        sources=sources,
        final_bias=float(parameter(model, "ln_f.bias") @ direction),
    )


def _last_position(name: str, value: Array) -> Array:
    """Of one text what belongs to its last position, for each head if there are heads; values v of all positions."""
    if name.endswith(".v"):
        return to_numpy(value[0, ...])
    return to_numpy(value[0, ..., -1, :])


def reading_direction(model: GPTNeoForCausalLM, residual: Array, direction: Array) -> Array:
    """The vector c (D,) for which c . x is the last layer norm of x, without its bias, along `direction` (D,).

    The norm's scale is frozen at that of `residual` (D,), the finished stream; what is left of it is linear: a mean is
    subtracted, each number multiplied by a weight.
    """
    weighted = parameter(model, "ln_f.weight") * direction
    variance = np.mean((residual - residual.mean()) ** 2)
    scale = np.sqrt(variance + np.asarray(model.config.layer_norm_epsilon, residual.dtype))
    # (x - mean(x)) . w is x . (w - mean(w)): the mean may be taken from either
    return (weighted - weighted.mean()) / scale
