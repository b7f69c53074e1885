"""Language modelling: go on learning to predict the next token, on other texts, by `GPTNeoForCausalLM`.

An example is `{"text": "..."}`, a whole text such as a tale, with or without a `title`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from minineo.classes import GPTNeoForCausalLM
from minineo.config import GPTNeoConfig
from minineo.scoring import score
from minineo.tokenizer import GPT2Tokenizer
from minineo.training.tasks.batches import Model, Row
from minineo.training.tasks.examples import Example, check_text, quoted, read_examples
from minineo.training.tasks.metrics import Scores

model_class = GPTNeoForCausalLM


def read(path: str | os.PathLike[str]) -> list[Example]:
    """Read examples from a file of JSON lines; raises what `read_examples` raises."""
    return read_examples(path, ("text",), ("title",), lambda example: check_text(example, "text"))


def config_fields(examples: Sequence[Example]) -> dict[str, Any]:
    """Nothing: the model is what it was."""
    return {}


def encode(examples: Sequence[Example], tokenizer: GPT2Tokenizer, config: GPTNeoConfig) -> list[Row]:
    """Rows as long as the context, cut from the texts one after another; the end-of-text token follows each text.

    Special tokens that are written out become special tokens, as where the texts are scored.

    Raises:
        ValueError: a text has a single token, which nothing comes before.
    """
    stream: list[int] = []
    for example in examples:
        ids = tokenizer.encode(example["text"])
        if len(ids) < 2:
            raise ValueError(
                f"the text {quoted(example['text'])} has {len(ids)} token, expected at least 2. Leave it out, or make "
                "it part of another."
            )
        stream += [*ids, tokenizer.eos_token_id]
    T = config.max_position_embeddings
    rows = [stream[i : i + T] for i in range(0, len(stream), T)]
    # the model shifts labels by one itself; a single token would have none before it to be predicted from
    return [{"input_ids": row, "labels": row} for row in rows if len(row) > 1]


def evaluate(model: Model, tokenizer: GPT2Tokenizer, examples: Sequence[Example], workers: int = 1) -> Scores:
    """Bits per byte, as `minineo score` finds them for each text, weighted by its bytes."""
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(lambda e: score(e["text"], cast(GPTNeoForCausalLM, model), tokenizer), examples))
    size = sum(each.bytes for each in found)
    return {"bits_per_byte": sum(each.bits_per_byte * each.bytes for each in found) / size}


def baselines(train: Sequence[Example], validation: Sequence[Example]) -> dict[str, Scores]:
    """None: what there is to beat is the model before."""
    return {}
