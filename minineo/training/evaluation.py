"""Validation: how well the model predicts text that it does not learn from, in nats a token and in bits a byte.

Dimensions: T positions of one window, V vocabulary.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from minineo.arrays import Array
from minineo.classes import GPTNeoForCausalLM
from minineo.layers.softmax import log_softmax
from minineo.tokenizer import GPT2Tokenizer
from minineo.training.data import TokenFile


@dataclass(frozen=True)
class Evaluation:
    """`loss` is the mean of -log p over all tokens, in nats.

    `bits_per_byte` leaves out the tokens that part documents, which stand for no byte: models with different
    vocabularies can be compared by it.
    """

    loss: float
    bits_per_byte: float


def evaluate(
    model: GPTNeoForCausalLM, file: TokenFile, tokenizer: GPT2Tokenizer, most: int | None = None, workers: int = 1
) -> Evaluation:
    """Predict every token of a file but the first, from those before it in windows as long as the context.

    The windows do not overlap. With `most`, only so many are looked at, spread evenly over the file.
    """
    windows = windows_of(file.tokens, model.config.max_position_embeddings, most)
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            losses = list(pool.map(lambda ids: token_losses(model, ids), windows))
    else:
        losses = [token_losses(model, ids) for ids in windows]
    targets = np.concatenate([ids[1:] for ids in windows])
    nats = np.concatenate(losses).astype(np.float64)
    sizes = np.array([len(tokenizer.token_bytes(i)) if i != file.end_id else 0 for i in range(file.vocab_size)])
    is_text = targets != file.end_id
    size = int(sizes[targets].sum())
    bits_per_byte = float(nats[is_text].sum()) / math.log(2.0) / size if size else math.nan
    return Evaluation(float(nats.mean()), bits_per_byte)


def windows_of(tokens: Array, length: int, most: int | None) -> list[Array]:
    """Windows (T + 1,) of `length` predictions, the last one shorter; each begins with the last token of another."""
    begins = list(range(0, len(tokens) - 1, length))
    if most is not None and most < len(begins):
        begins = [begins[i * len(begins) // most] for i in range(most)]
    return [np.asarray(tokens[begin : begin + length + 1], np.int64) for begin in begins]


def token_losses(model: GPTNeoForCausalLM, ids: Array) -> Array:
    """-log p of every token of a window (T + 1,) but the first: (T,), in nats."""
    weight = model.params["transformer.wte.weight"]
    xp = array_namespace(weight)
    ids = xp.asarray(ids, device=weight.device)
    log_probabilities = log_softmax(model(ids[None, :-1], use_cache=False)["logits"][0])
    losses = -xp.take_along_axis(log_probabilities, ids[1:, None], axis=-1)[:, 0]
    return np.asarray(losses.get() if hasattr(losses, "get") else losses)
