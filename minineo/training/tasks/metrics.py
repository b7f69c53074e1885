"""Scores of predictions: accuracy, F1 of classes, and for answers exact match and F1 of words, as SQuAD has them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

Scores = dict[str, float]
"""What was measured, by name: `{"accuracy": 0.75, ...}`."""


def accuracy(expected: Sequence[str], predicted: Sequence[str | None]) -> float:
    """The share that is right."""
    return sum(a == b for a, b in zip(expected, predicted, strict=True)) / len(expected)


def f1_of_classes(expected: Sequence[str], predicted: Sequence[str | None]) -> dict[str, float]:
    """F1 of each class that is expected anywhere: the harmonic mean of precision and recall (van Rijsbergen 1979)."""
    right = Counter(a for a, b in zip(expected, predicted, strict=True) if a == b)
    there, found = Counter(expected), Counter(predicted)
    return {name: 2.0 * right[name] / (there[name] + found[name]) for name in sorted(there)}


def macro_f1(expected: Sequence[str], predicted: Sequence[str | None]) -> float:
    """The mean F1 of the classes, whether they are frequent or not: guessing the commonest gives little."""
    scores = f1_of_classes(expected, predicted)
    return sum(scores.values()) / len(scores)


def normalised(answer: str) -> list[str]:
    """The words of an answer without capitals, punctuation and articles, as SQuAD compares them."""
    text = "".join(character for character in answer.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def exact_match(expected: Sequence[str], predicted: str) -> float:
    """1 if the answer is one of those expected, up to what `normalised` takes away, else 0."""
    return float(any(normalised(answer) == normalised(predicted) for answer in expected))


def f1_of_answer(expected: Sequence[str], predicted: str) -> float:
    """F1 of the words that an answer shares with the expected one, the best of them."""
    return max(_f1_of_words(normalised(answer), normalised(predicted)) for answer in expected)


def _f1_of_words(expected: list[str], predicted: list[str]) -> float:
    if not expected or not predicted:
        return float(expected == predicted)
    shared = (Counter(expected) & Counter(predicted)).total()
    return 2.0 * shared / (len(expected) + len(predicted))
