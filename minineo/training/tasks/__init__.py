"""Tasks that a language model can be fine-tuned for, each a module with the same functions.

`TASKS` has them by name: `read` examples, `encode` them for the model, `evaluate` beside `baselines`, and `predict`,
which `language` has none of: there `model.generate` goes on with a text.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

from minineo.config import GPTNeoConfig
from minineo.tokenizer import GPT2Tokenizer
from minineo.training.tasks import answers, classification, language, tokens
from minineo.training.tasks.batches import Model, Row
from minineo.training.tasks.examples import Example
from minineo.training.tasks.metrics import Scores


class Task(Protocol):
    """What each of these modules has, beside functions of its own."""

    @property
    def model_class(self) -> type[Model]:
        """The class of the model."""

    def read(self, path: str | os.PathLike[str]) -> list[Example]:
        """Read examples from a file of JSON lines."""

    def config_fields(self, examples: Sequence[Example]) -> dict[str, Any]:
        """What the configuration has to say because of the training examples."""

    def encode(self, examples: Sequence[Example], tokenizer: GPT2Tokenizer, config: GPTNeoConfig) -> list[Row]:
        """What the model takes, labels included."""

    def evaluate(self, model: Model, tokenizer: GPT2Tokenizer, examples: Sequence[Example], workers: int = 1) -> Scores:
        """How well the model does."""

    def baselines(self, train: Sequence[Example], validation: Sequence[Example]) -> dict[str, Scores]:
        """How well does what needs no model."""


TASKS: dict[str, Task] = {
    "classification": classification,
    "tokens": tokens,
    "answers": answers,
    "language": language,
}
