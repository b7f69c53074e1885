"""Extractive question answering: where in a context the answer stands, by `GPTNeoForQuestionAnswering`.

An example is `{"question": "...", "context": "...", "answers": {"text": ["..."], "answer_start": [17]}}`, as SQuAD has
it: each answer is a piece of the context, beginning at that character. Training uses the first one.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from minineo.arrays import Array
from minineo.classes import GPTNeoForQuestionAnswering
from minineo.config import GPTNeoConfig
from minineo.tokenizer import GPT2Tokenizer
from minineo.training.tasks.batches import Model, Row, run_model
from minineo.training.tasks.examples import Example, check_text, quoted, read_examples
from minineo.training.tasks.metrics import Scores, exact_match, f1_of_answer

model_class = GPTNeoForQuestionAnswering
LONGEST_ANSWER = 16  # tokens

Spans = list[tuple[int, int]]
"""For each token the characters [start, stop) of the context that it stands for; (0, 0) if it is of the question."""


def read(path: str | os.PathLike[str]) -> list[Example]:
    """Read examples from a file of JSON lines; raises what `read_examples` raises."""
    return read_examples(path, ("question", "context", "answers"), ("id", "title"), _problem)


def _problem(example: Example) -> str | None:
    problem = check_text(example, "question") or check_text(example, "context")
    if problem is not None:
        return problem
    answers = example["answers"]
    texts, starts = (answers.get(name) if isinstance(answers, dict) else None for name in ("text", "answer_start"))
    if not isinstance(texts, list) or not isinstance(starts, list) or not texts or len(texts) != len(starts):
        return f'answers: received {answers!r}, expected {{"text": [...], "answer_start": [...]}}, one entry or more'
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not text.strip() or isinstance(start, bool) or not isinstance(start, int):
            return f"answers: received {text!r} at {start!r}, expected a text and the character at which it begins"
        if start < 0 or not example["context"].startswith(text, start):
            return f"answers: {text!r} does not stand at character {start} of the context"
    return None


def config_fields(examples: Sequence[Example]) -> dict[str, Any]:
    """Nothing: the head has two outputs, for the first and the last token, whatever the examples are."""
    return {}


def encode(examples: Sequence[Example], tokenizer: GPT2Tokenizer, config: GPTNeoConfig) -> list[Row]:
    """Rows of input_ids and the positions of the answer's first and last token.

    The question comes first, so that every token of the context can look back at it. A context that does not fit is
    cut at its end; an example whose answer is lost is left out, with a warning.
    """
    rows: list[Row] = []
    for example, (row, spans) in zip(examples, _encode_pairs(examples, tokenizer, config), strict=True):
        start = example["answers"]["answer_start"][0]
        stop = start + len(example["answers"]["text"][0])
        inside = [i for i, (a, b) in enumerate(spans) if a < stop and b > start]
        if inside and spans[inside[-1]][1] >= stop:
            rows.append({"input_ids": row, "start_positions": inside[0], "end_positions": inside[-1]})
    if len(rows) < len(examples):
        warnings.warn(
            f"{len(examples) - len(rows)} of {len(examples)} examples are left out: their answers stand beyond "
            f"{config.max_position_embeddings} tokens, the model's context",
            stacklevel=3,
        )
    return rows


def _encode_pairs(
    examples: Sequence[Example], tokenizer: GPT2Tokenizer, config: GPTNeoConfig
) -> list[tuple[list[int], Spans]]:
    """Ids of question and context, and the span of each token in the context."""
    T = config.max_position_embeddings
    found = []
    for example in examples:
        length = len(tokenizer.encode(example["question"], split_special_tokens=True))
        if length >= T:
            raise ValueError(
                f"the question {quoted(example['question'])} has {length} tokens, the context of the model only {T}."
            )
        encoded = tokenizer(
            example["question"],
            example["context"],
            truncation="only_second",
            max_length=T,
            return_offsets_mapping=True,
            split_special_tokens=True,
        )
        of_context = encoded.sequence_ids(0)
        offsets = encoded["offset_mapping"]
        spans = [span if of_context[i] == 1 else (0, 0) for i, span in enumerate(offsets)]
        found.append((encoded["input_ids"], spans))
    return found


def predict(model: Model, tokenizer: GPT2Tokenizer, examples: Sequence[Example], workers: int = 1) -> list[str]:
    """The answer to each question, a piece of its context."""
    encoded = _encode_pairs(examples, tokenizer, model.config)
    texts = [row for row, _ in encoded]
    logits = run_model(model, texts, lambda output, b: (output.start_logits[b], output.end_logits[b]), workers)
    found = []
    for example, (_, spans), (starts, ends) in zip(examples, encoded, logits, strict=True):
        first, last = best_span(
            starts[: len(spans)], ends[: len(spans)], [i for i, (a, b) in enumerate(spans) if b > a]
        )
        found.append(example["context"][spans[first][0] : spans[last][1]].strip())
    return found


def best_span(start_logits: Array, end_logits: Array, allowed: Sequence[int]) -> tuple[int, int]:
    """First and last position of the likeliest answer: the largest sum of their logits, both (T,).

    It begins and ends at `allowed` positions, and has at most LONGEST_ANSWER of them.
    """
    scores = start_logits[:, None] + end_logits[None, :]
    positions = np.arange(len(start_logits))
    length = positions[None, :] - positions[:, None] + 1
    is_context = np.isin(positions, allowed)
    possible = (length >= 1) & (length <= LONGEST_ANSWER) & is_context[:, None] & is_context[None, :]
    first, last = np.unravel_index(np.argmax(np.where(possible, scores, -np.inf)), scores.shape)
    return int(first), int(last)


def evaluate(model: Model, tokenizer: GPT2Tokenizer, examples: Sequence[Example], workers: int = 1) -> Scores:
    """Exact match, and F1 of words, as a mean over the questions."""
    return scores(examples, predict(model, tokenizer, examples, workers))


def scores(examples: Sequence[Example], predicted: Sequence[str]) -> Scores:
    """How good these answers are."""
    pairs = [(example["answers"]["text"], answer) for example, answer in zip(examples, predicted, strict=True)]
    return {
        "exact_match": sum(exact_match(*pair) for pair in pairs) / len(pairs),
        "f1": sum(f1_of_answer(*pair) for pair in pairs) / len(pairs),
    }


def baselines(train: Sequence[Example], validation: Sequence[Example]) -> dict[str, Scores]:
    """Scores to beat: the commonest answer to every question; of those in the context the commonest, last or next.

    Answers are those of the training examples. The next one is the first behind what the question quotes, if it quotes.
    """
    counts = Counter(example["answers"]["text"][0] for example in train)
    ranked = [answer for answer, _ in counts.most_common()]
    inside = [[a for a in ranked if a in example["context"]] or ranked[:1] for example in validation]
    last = [max(found, key=example["context"].rfind) for found, example in zip(inside, validation, strict=True)]
    following = [
        min(found, key=lambda answer: (distance(example, answer), -len(answer)))
        for found, example in zip(inside, validation, strict=True)
    ]
    return {
        "commonest answer": scores(validation, [ranked[0]] * len(validation)),
        "commonest in the context": scores(validation, [found[0] for found in inside]),
        "last in the context": scores(validation, last),
        "next after the quotation": scores(validation, following),
    }


def distance(example: Example, answer: str) -> float:
    """Characters from the end of what the question quotes to the answer; infinite if it does not stand behind it."""
    context = example["context"]
    quotation = re.search('"(.+)"', example["question"])
    begin = context.find(quotation[1]) + len(quotation[1]) if quotation and quotation[1] in context else 0
    found = context.find(answer, begin)
    return math.inf if found < 0 else found - begin
