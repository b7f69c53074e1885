"""What the tasks share on the way from texts to rows: labels by name, and texts no longer than the context."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from minineo.config import GPTNeoConfig
from minineo.tokenizer import GPT2Tokenizer
from minineo.training.tasks.examples import quoted


def label_fields(labels: Sequence[str]) -> dict[str, Any]:
    """The configuration's fields for labels, in the order of their numbers.

    Raises:
        ValueError: there is only one.
    """
    if len(labels) < 2:
        raise ValueError(f"labels: all examples have the label {labels[0]!r}, expected at least two labels to tell.")
    return {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}


def check_known_labels(labelled: Iterable[tuple[str, Sequence[str]]], config: GPTNeoConfig) -> None:
    """Raise unless the model has all labels of all texts; each text comes with its labels.

    Raises:
        ValueError: naming the label, and quoting its text.
    """
    for text, labels in labelled:
        for label in labels:
            if label not in config.label2id:
                raise ValueError(
                    f"unknown label {label!r} of {quoted(text)}, expected one of {', '.join(config.label2id)}: those "
                    "of the examples that the model has learned from."
                )


def encode_texts(texts: Sequence[str], tokenizer: GPT2Tokenizer, config: GPTNeoConfig) -> list[list[int]]:
    """The ids of each text, cut where it is longer than the context, with a warning."""
    found = [tokenizer.encode(text, split_special_tokens=True) for text in texts]
    warn_of_cuts([len(ids) for ids in found], config)
    return [ids[: config.max_position_embeddings] for ids in found]


def warn_of_cuts(lengths: Sequence[int], config: GPTNeoConfig) -> None:
    """Warn if texts of so many tokens do not all fit into the context."""
    longest = config.max_position_embeddings
    cut = sum(length > longest for length in lengths)
    if cut:
        warnings.warn(
            f"{cut} of {len(lengths)} texts are longer than {longest} tokens, the model's context, and are cut there",
            stacklevel=4,
        )
