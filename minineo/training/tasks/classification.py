"""Text classification: one label for a whole text, by `GPTNeoForSequenceClassification`.

An example is `{"text": "...", "label": "..."}`.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from minineo.classes import GPTNeoForSequenceClassification
from minineo.config import GPTNeoConfig
from minineo.tokenizer import GPT2Tokenizer
from minineo.training.tasks.batches import Model, Row, run_model
from minineo.training.tasks.encoding import check_known_labels, encode_texts, label_fields
from minineo.training.tasks.examples import Example, check_text, read_examples
from minineo.training.tasks.metrics import Scores, accuracy, macro_f1

model_class = GPTNeoForSequenceClassification


def read(path: str | os.PathLike[str]) -> list[Example]:
    """Read examples from a file of JSON lines; raises what `read_examples` raises."""
    return read_examples(path, ("text", "label"), (), _problem)


def _problem(example: Example) -> str | None:
    return check_text(example, "text") or check_text(example, "label")


def config_fields(examples: Sequence[Example]) -> dict[str, Any]:
    """What the configuration has to say of the labels, which are numbered in alphabetical order."""
    labels = sorted({example["label"] for example in examples})
    return label_fields(labels) | {"problem_type": "single_label_classification"}


def encode(examples: Sequence[Example], tokenizer: GPT2Tokenizer, config: GPTNeoConfig) -> list[Row]:
    """Rows of input_ids and the label's number; texts are cut to the model's context.

    Raises:
        ValueError: a label is not one of the configuration's.
    """
    check_known_labels([(example["text"], [example["label"]]) for example in examples], config)
    found = encode_texts([example["text"] for example in examples], tokenizer, config)
    labels = [config.label2id[example["label"]] for example in examples]
    return [{"input_ids": ids, "labels": label} for ids, label in zip(found, labels, strict=True)]


def predict(model: Model, tokenizer: GPT2Tokenizer, texts: Sequence[str], workers: int = 1) -> list[str]:
    """The label of each text."""
    encoded = encode_texts(texts, tokenizer, model.config)
    best = run_model(model, encoded, lambda output, b: int(np.argmax(output.logits[b])), workers)
    return [model.config.id2label[label] for label in best]


def evaluate(model: Model, tokenizer: GPT2Tokenizer, examples: Sequence[Example], workers: int = 1) -> Scores:
    """Accuracy, and F1 as a mean over the labels."""
    return scores(examples, predict(model, tokenizer, [example["text"] for example in examples], workers))


def scores(examples: Sequence[Example], predicted: Sequence[str]) -> Scores:
    """How good these labels are."""
    expected = [example["label"] for example in examples]
    return {"accuracy": accuracy(expected, predicted), "macro_f1": macro_f1(expected, predicted)}


def baselines(train: Sequence[Example], validation: Sequence[Example]) -> dict[str, Scores]:
    """Scores to beat: the commonest label for every text, and naive Bayes, which counts words."""
    commonest = Counter(example["label"] for example in train).most_common(1)[0][0]
    return {
        "commonest label": scores(validation, [commonest] * len(validation)),
        "naive Bayes": scores(validation, naive_bayes(train, [example["text"] for example in validation])),
    }


def naive_bayes(train: Sequence[Example], texts: Sequence[str]) -> list[str]:
    """Labels by Bayes' rule, as if words came one by one, with chances that depend on the label alone.

    One is added to each count (Laplace), so that a word that was not seen with a label does not rule it out.
    """
    counts: dict[str, Counter[str]] = {example["label"]: Counter() for example in train}
    for example in train:
        counts[example["label"]].update(_words(example["text"]))
    vocabulary = {word for counter in counts.values() for word in counter}
    sizes = {label: counter.total() + len(vocabulary) for label, counter in counts.items()}
    texts_of = Counter(example["label"] for example in train)

    def log_probability(label: str, words: list[str]) -> float:
        return math.log(texts_of[label]) + sum(math.log((counts[label][word] + 1) / sizes[label]) for word in words)

    found = []
    for text in texts:
        words = [word for word in _words(text) if word in vocabulary]
        found.append(max(sorted(counts), key=lambda label: log_probability(label, words)))
    return found


def _words(text: str) -> list[str]:
    return [word for word in (part.strip(".,;:!?\"'()-") for part in text.lower().split()) if word]
