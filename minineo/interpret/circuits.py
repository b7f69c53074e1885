"""The two circuits of a head (Elhage et al. 2021): QK says where it looks, OV what it moves when it looks there.

Each is a product of two of the head's matrices, which never act apart: a score is q . k, and what is read as a value is
written by out_proj. As everywhere in GPT-Neo, weights are (out, in), q, k and v have no bias, and scores are not
divided by the square root of the head size.

Dimensions: D hidden size, d head size, V vocabulary, N chosen tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minineo.arrays import Array
from minineo.classes import GPTNeoForCausalLM
from minineo.interpret.inputs import (
    Model,
    check_index,
    check_language_model,
    check_model,
    check_token,
    parameter,
    to_numpy,
    unembedding,
)
from minineo.layers.layer_norm import layer_norm


@dataclass(frozen=True, eq=False)
class QKCircuit:
    """Where a head looks.

    matrix (D, D): the score of a query for a key is `x_query @ matrix @ x_key`, of what ln_1 gives at both. It has rank
    d at most. tokens (N,) and scores (N, N), query before key, where tokens were chosen, else None.
    """

    layer: int
    head: int
    matrix: np.ndarray[Any, Any]
    tokens: np.ndarray[Any, Any] | None
    scores: np.ndarray[Any, Any] | None


@dataclass(frozen=True, eq=False)
class OVCircuit:
    """What a head moves.

    matrix (D, D): `matrix @ x` is what the head adds to the stream for a position that it attends to fully, of what
    ln_1 gives there; out_proj's bias belongs to no head. eigenvalues (d,), complex: those that are not 0 of the circuit
    from tokens to logits. copying_score: their sum by the sum of their sizes, from -1 to 1; where it is near 1, a head
    that looks at a token makes the same token likelier. tokens (N,) and logits (N, N), source before output, where
    tokens were chosen, else None.
    """

    layer: int
    head: int
    matrix: np.ndarray[Any, Any]
    eigenvalues: np.ndarray[Any, Any]
    copying_score: float
    tokens: np.ndarray[Any, Any] | None
    logits: np.ndarray[Any, Any] | None


def qk_circuit(model: Model, layer: int, head: int, tokens: Sequence[int] | str | None = None) -> QKCircuit:
    """The QK circuit of a head, and on request the scores of tokens for tokens.

    `tokens` are ids, or "all": that takes 4 * V * V bytes in float32, 67 MB for 4,096 tokens and 10 GB for 50,257. A
    token is read as its embedding after ln_1, without a position; in layer 0 these are the scores of the model but for
    positions, in later layers the direct path only.

    Raises:
        ValueError, TypeError: layer, head or a token is out of range.
    """
    q_rows, k_rows, _, _ = head_weights(model, layer, head)
    ids = chosen_tokens(model, tokens)
    scores = None
    if ids is not None:
        read = read_tokens(model, layer, ids)
        scores = (read @ q_rows.T) @ (read @ k_rows.T).T
    return QKCircuit(layer, head, q_rows.T @ k_rows, ids, scores)


def ov_circuit(model: GPTNeoForCausalLM, layer: int, head: int, tokens: Sequence[int] | str | None = None) -> OVCircuit:
    """The OV circuit of a head, its copying score, and on request what tokens do to the logits of tokens.

    `tokens` as for `qk_circuit`, and as much memory. The last layer norm is taken without its scale, which depends on
    the whole stream; a logit is what it is above the mean of all tokens, since what raises all of them changes nothing.

    Raises:
        ValueError, TypeError: layer, head or a token is out of range; a model without logits.
    """
    check_language_model(model)
    _, _, v_rows, out_columns = head_weights(model, layer, head)
    ids = chosen_tokens(model, tokens)
    read, write = read_tokens(model, layer, np.arange(model.config.vocab_size)), write_directions(model)
    # The circuit of all tokens, (write out)(v read), is V x V; the two products the other way round are d x d, and AB
    # has the eigenvalues of BA, but for zeros.
    small = (read @ v_rows.T).T.astype(np.float64) @ (write @ out_columns)
    eigenvalues = np.linalg.eigvals(small)
    size = float(np.abs(eigenvalues).sum())
    score = float(eigenvalues.sum().real) / size if size > 0.0 else 0.0
    logits = None if ids is None else (read[ids] @ v_rows.T) @ (write[ids] @ out_columns).T
    return OVCircuit(layer, head, out_columns @ v_rows, eigenvalues, score, ids, logits)


def head_weights(model: Model, layer: int, head: int) -> tuple[Array, Array, Array, Array]:
    """The head's own part of q_proj, k_proj and v_proj, rows (d, D), and of out_proj, columns (D, d)."""
    check_model(model)
    layer = check_index("layer", layer, model.config.num_layers)
    head = check_index("head", head, model.config.num_heads)
    d = model.config.head_size
    own = slice(head * d, (head + 1) * d)
    at = f"h.{layer}.attn.attention"
    q, k, v, out = (parameter(model, f"{at}.{name}_proj.weight") for name in ("q", "k", "v", "out"))
    return q[own], k[own], v[own], out[:, own]


def chosen_tokens(model: Model, tokens: Sequence[int] | str | None) -> np.ndarray[Any, Any] | None:
    """Token ids as an array (N,), all of them for "all"."""
    if tokens is None:
        return None
    if isinstance(tokens, str):
        if tokens != "all":
            raise ValueError(f'tokens: received {tokens!r}, expected a list of token ids, or "all".')
        return np.arange(model.config.vocab_size)
    if not isinstance(tokens, Iterable):
        raise TypeError(f'tokens: received {tokens!r}, expected a list of token ids, or "all".')
    return np.array([check_token("tokens", token, model) for token in tokens], np.int64)


def read_tokens(model: Model, layer: int, ids: Array) -> Array:
    """What a head of that layer reads of each token alone: its embedding after ln_1, (N, D)."""
    embedded = to_numpy(model.params[f"{model.prefix}wte.weight"])[ids]
    weight, bias = parameter(model, f"h.{layer}.ln_1.weight"), parameter(model, f"h.{layer}.ln_1.bias")
    return layer_norm(embedded, weight, bias, model.config.layer_norm_epsilon)


def write_directions(model: GPTNeoForCausalLM) -> Array:
    """How much each number of the stream raises each token's logit above the mean of all: (V, D)."""
    weighted = to_numpy(unembedding(model)) * parameter(model, "ln_f.weight")
    centred = weighted - weighted.mean(axis=1, keepdims=True)  # ln_f subtracts the mean of the stream
    return centred - centred.mean(axis=0)
