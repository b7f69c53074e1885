"""Validation: how well the model predicts text that it does not learn from, in nats a token and in bits a byte.

Dimensions: T positions of one window, V vocabulary.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from minineo.arrays import Array, beside
from minineo.classes import GPTNeoForCausalLM
from minineo.devices import on_its_device, to_device
from minineo.layers.softmax import log_softmax
from minineo.scoring import bits_per_byte
from minineo.tokenizer import GPT2Tokenizer
from minineo.training.data import TokenFile
from minineo.training.data_windows import validation_windows


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
    windows = [window[0] for window in validation_windows(file.tokens, model.config.max_position_embeddings)]
    if most is not None and most < len(windows):
        windows = [windows[i * len(windows) // most] for i in range(most)]
    with ThreadPoolExecutor(workers) as pool:
        losses = list(pool.map(lambda ids: token_losses(model, ids), windows))
    targets = np.concatenate([ids[1:] for ids in windows])
    nats = np.concatenate(losses).astype(np.float64)
    is_text = targets != file.end_id
    lengths = np.array([len(tokenizer.token_bytes(i)) for i in range(file.vocab_size)])
    size = int(np.sum(lengths[targets[is_text]]))
    return Evaluation(float(nats.mean()), bits_per_byte(float(nats[is_text].mean()), int(is_text.sum()), size))


@on_its_device
def token_losses(model: GPTNeoForCausalLM, ids: Array) -> Array:
    """-log p of every token of a window (T + 1,) but the first: (T,), in nats."""
    weight = model.params["transformer.wte.weight"]
    xp = array_namespace(weight)
    ids = beside(ids, like=weight)
    log_probabilities = log_softmax(model(ids[None, :-1], use_cache=False)["logits"][0, ...])
    losses = -xp.take_along_axis(log_probabilities, ids[1:, None], axis=-1)[:, 0]
    return to_device(losses, "cpu")
