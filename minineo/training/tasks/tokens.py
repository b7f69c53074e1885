"""Token classification: a label for each word of a text, by `GPTNeoForTokenClassification`.

An example is `{"words": ["...", ...], "labels": ["...", ...]}`, with as many labels as words.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from minineo.classes import GPTNeoForTokenClassification
from minineo.config import GPTNeoConfig
from minineo.tokenizer import GPT2Tokenizer
from minineo.training.tasks.batches import IGNORED, Model, Row, run_model
from minineo.training.tasks.encoding import check_known_labels, label_fields, warn_of_cuts
from minineo.training.tasks.examples import Example, read_examples
from minineo.training.tasks.metrics import Scores, accuracy, macro_f1

model_class = GPTNeoForTokenClassification


def read(path: str | os.PathLike[str]) -> list[Example]:
    """Read examples from a file of JSON lines; raises what `read_examples` raises."""
    return read_examples(path, ("words", "labels"), (), _problem)


def _problem(example: Example) -> str | None:
    for name in ("words", "labels"):
        values = example[name]
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
            return f"{name}: received {values!r}, expected a list of texts"
    if len(example["words"]) != len(example["labels"]):
        return f"has {len(example['words'])} words and {len(example['labels'])} labels, expected as many"
    for word in example["words"]:
        if word.split() != [word]:
            return f"words: received {word!r}, expected a word without white space in it"
    return None


def config_fields(examples: Sequence[Example]) -> dict[str, Any]:
    """What the configuration has to say of the labels, which are numbered in alphabetical order."""
    return label_fields(sorted({label for example in examples for label in example["labels"]}))


def encode(examples: Sequence[Example], tokenizer: GPT2Tokenizer, config: GPTNeoConfig) -> list[Row]:
    """Rows of input_ids and labels; the token that a word begins in has the word's, the others are not counted.

    Raises:
        ValueError: a label is not one of the configuration's.
    """
    check_known_labels([(" ".join(example["words"]), example["labels"]) for example in examples], config)
    encoded = _encode_words([example["words"] for example in examples], tokenizer)
    warn_of_cuts([len(row) for row, _ in encoded], config)
    T = config.max_position_embeddings
    rows: list[Row] = []
    for example, (row, first) in zip(examples, encoded, strict=True):
        labels = [IGNORED] * len(row)
        for position, label in zip(first, example["labels"], strict=True):
            labels[position] = config.label2id[label]
        rows.append({"input_ids": row[:T], "labels": labels[:T]})
    return rows


def _encode_words(texts: Sequence[Sequence[str]], tokenizer: GPT2Tokenizer) -> list[tuple[list[int], list[int]]]:
    """The ids of each text, and the position of the token that each of its words begins in.

    Words are joined by spaces, as in the text that the model has learned from, where a space belongs to the token that
    follows it.
    """
    found = []
    for words in texts:
        encoded = tokenizer(" ".join(words), return_offsets_mapping=True, split_special_tokens=True)
        at = {character: i for i, (a, b) in enumerate(encoded["offset_mapping"]) for character in range(a, b)}
        starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
        found.append((encoded["input_ids"], [at[int(start)] for start in starts]))
    return found


def predict(
    model: Model, tokenizer: GPT2Tokenizer, texts: Sequence[Sequence[str]], workers: int = 1
) -> list[list[str | None]]:
    """The label of each word of each text; None for words beyond the model's context."""
    T = model.config.max_position_embeddings
    encoded = _encode_words(texts, tokenizer)
    warn_of_cuts([len(row) for row, _ in encoded], model.config)
    best = run_model(
        model, [row[:T] for row, _ in encoded], lambda output, b: np.argmax(output.logits[b], axis=-1), workers
    )
    names = model.config.id2label
    return [
        [names[int(labels[i])] if i < T else None for i in first]
        for (_, first), labels in zip(encoded, best, strict=True)
    ]


def evaluate(model: Model, tokenizer: GPT2Tokenizer, examples: Sequence[Example], workers: int = 1) -> Scores:
    """Accuracy over words, and F1 as a mean over the labels."""
    return scores(examples, predict(model, tokenizer, [example["words"] for example in examples], workers))


def scores(examples: Sequence[Example], predicted: Sequence[Sequence[str | None]]) -> Scores:
    """How good these labels are; a word without one is wrong."""
    expected = [label for example in examples for label in example["labels"]]
    found = [label for labels in predicted for label in labels]
    return {"accuracy": accuracy(expected, found), "macro_f1": macro_f1(expected, found)}


def baselines(train: Sequence[Example], validation: Sequence[Example]) -> dict[str, Scores]:
    """Scores to beat: the commonest label for all words, and the label that each word has most often."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for example in train:
        for word, label in zip(example["words"], example["labels"], strict=True):
            counts[word][label] += 1
    commonest = sum(counts.values(), Counter()).most_common(1)[0][0]
    by_word = {word: labels.most_common(1)[0][0] for word, labels in counts.items()}
    return {
        "commonest label": scores(validation, [[commonest for _ in example["words"]] for example in validation]),
        "commonest of each word": scores(
            validation, [[by_word.get(word, commonest) for word in example["words"]] for example in validation]
        ),
    }
