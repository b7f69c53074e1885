"""Batches: rows of different lengths, padded to one, and the gradients of a batch, shared out among threads.

Dimensions: B rows of a batch, T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from minineo.arrays import Array
from minineo.classes import GPTNeoForCausalLM
from minineo.layers.dropout import DropoutMasks, no_masks
from minineo.model.block import Params
from minineo.pretrained import GPTNeoPreTrainedModel
from minineo.training.distributed import share
from minineo.training.step import sum_of_shares

Row = dict[str, list[int] | int]
"""What a model takes, for one text: `input_ids` (T,), and labels for the text (an int) or for each token (T,)."""

Model = GPTNeoPreTrainedModel[Any]
Result = TypeVar("Result")

IGNORED = -100  # the label of what is not counted
CHUNK = 8  # batches that are sorted by length together


def pad(rows: Sequence[Row], pad_token_id: int | None) -> dict[str, Array]:
    """Make rows a batch: input_ids, attention_mask and labels (B, T) padded on the right, labels of texts (B,)."""
    if pad_token_id is None:
        raise ValueError("pad_token_id: the configuration has none to pad with, such as tokenizer.eos_token_id.")
    lengths = [len(ids(row)) for row in rows]
    T = max(lengths)
    batch = {"attention_mask": np.array([[1] * length + [0] * (T - length) for length in lengths])}
    for name in rows[0]:
        filler = pad_token_id if name == "input_ids" else IGNORED
        values = [row[name] for row in rows]
        batch[name] = np.array(
            [value + [filler] * (T - len(value)) if isinstance(value, list) else value for value in values]
        )
    return batch


def ids(row: Row) -> list[int]:
    """The token ids of a row."""
    value = row["input_ids"]
    assert isinstance(value, list)
    return value


def batches(rows: Sequence[Row], batch_size: int, seed: int, epoch: int = 0) -> list[list[Row]]:
    """All rows in batches, in an order that is fixed by seed and epoch.

    Rows of like length are put together, so that little is padded: shuffled rows are sorted by length within some
    batches' worth of them, and the batches shuffled again.
    """
    random = np.random.default_rng([seed, epoch])
    order = [int(i) for i in random.permutation(len(rows))]
    size = CHUNK * batch_size
    chunks = [sorted(order[i : i + size], key=lambda row: len(ids(rows[row]))) for i in range(0, len(order), size)]
    found = [[rows[i] for i in chunk[j : j + batch_size]] for chunk in chunks for j in range(0, len(chunk), batch_size)]
    return [found[int(i)] for i in random.permutation(len(found))]


def counted(model: Model, batch: dict[str, Array]) -> int:
    """Of how many labels the loss of a batch is the mean."""
    labels = batch.get("labels")
    if labels is None or labels.ndim == 1:
        return len(batch["input_ids"])
    if isinstance(model, GPTNeoForCausalLM):
        labels = labels[:, 1:]  # position t is compared with label t + 1
    return int(np.count_nonzero(labels != IGNORED))


def loss_and_grads(
    model: Model, rows: Sequence[Row], pool: ThreadPoolExecutor, workers: int, seed: int = 0, step: int = 0
) -> tuple[float, Params]:
    """Loss and gradients of a batch, each worker computing those of some rows, with dropout as the model's config says.

    A mean over a batch is the mean of its shares, each weighted by how many labels count in it.
    """
    batch = pad(rows, model.config.pad_token_id)
    total = counted(model, batch)

    def compute(part: int) -> tuple[float, Params] | None:
        mine = share(len(rows), part, workers)
        piece = {name: array[mine.start : mine.stop] for name, array in batch.items()}
        if not mine or counted(model, piece) == 0:
            return None  # the mean of no labels is no number
        weight = counted(model, piece) / total
        masks = DropoutMasks(model.config, seed, step, mine.start) if has_dropout(model) else no_masks
        loss, grads = model.loss_and_grads(**piece, masks=masks)
        for gradient in grads.values():
            gradient *= weight
        return float(loss) * weight, grads

    return sum_of_shares([found for found in pool.map(compute, range(workers)) if found is not None])


def has_dropout(model: Model) -> bool:
    """Whether anything is dropped in training."""
    config = model.config
    rates = (config.embed_dropout, config.attention_dropout, config.resid_dropout, config.classifier_dropout)
    return any(rates)


def run_model(
    model: Model, texts: Sequence[list[int]], read: Callable[[Any, int], Result], workers: int = 1, batch_size: int = 16
) -> list[Result]:
    """Run the model over the ids of texts, and return what `read(output, b)` finds in row b of an output, for each.

    Padding changes no result: it stands on the right, where no token looks.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # texts of like length together: little is padded
    parts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]

    def compute(part: list[int]) -> list[tuple[int, Result]]:
        batch = pad([{"input_ids": texts[i]} for i in part], model.config.pad_token_id)
        output = model(**batch, use_cache=False)
        return [(i, read(output, b)) for b, i in enumerate(part)]

    with ThreadPoolExecutor(workers) as pool:
        found = dict(pair for pairs in pool.map(compute, parts) for pair in pairs)
    return [found[i] for i in range(len(texts))]
