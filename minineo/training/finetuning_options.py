"""Every option of a fine-tuning run, with its default, its description and its check.

This module imports no NumPy: how many threads NumPy may use has to be said before it is imported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from minineo.config_checks import check_integer
from minineo.training.options import DTYPES, as_kind, check_names, fields_of

TASK_NAMES = ("classification", "tokens", "answers", "language")


@dataclass(frozen=True)
class FinetuningOptions:
    """What a fine-tuning run does: for which task, on which examples, from which model on, and how.

    Paths are relative to the working directory. An epoch is one pass over the training examples, a step one update of
    the parameters by one batch of them.

    Raises:
        ValueError, TypeError: an option has a value that no run can have; the message names it.
    """

    task: Annotated[str, "data", "classification, tokens, answers or language"] = ""
    train: Annotated[str, "data", "file of JSON lines with the examples to learn from"] = ""
    validation: Annotated[str | None, "data", "the same, held out, to measure the result on"] = None
    model: Annotated[
        str | None, "data", "directory or Hub name of the model to begin with (default: the bundled one)"
    ] = None
    limit: Annotated[int | None, "data", "examples to use of each file, for a trial (default: all)"] = None

    epochs: Annotated[float, "learning", "passes over the training examples"] = 3.0
    batch_size: Annotated[int, "learning", "examples of a step"] = 16
    learning_rate: Annotated[float, "learning", "the highest, after warm-up; it then falls to 0 along a line"] = 5e-4
    warmup: Annotated[float, "learning", "share of the steps over which the learning rate rises from 0"] = 0.1
    weight_decay: Annotated[float, "learning", "pull of the linear layers' matrices towards 0"] = 0.01
    max_grad_norm: Annotated[float, "learning", "longer gradients are shortened to this length"] = 1.0
    dropout: Annotated[float | None, "learning", "share that is dropped (default: what the model's config says)"] = None

    output: Annotated[str, "run", "directory for the model, the scores and the log"] = ""
    dtype: Annotated[str, "run", "of the weights that are written: float32 or float16"] = "float32"
    seed: Annotated[int, "run", "of the new head, the order of the examples and dropout"] = 0
    workers: Annotated[int | None, "run", "threads that share a batch (default: the usable cores)"] = None

    def __post_init__(self) -> None:
        for name, option in FIELDS.items():
            object.__setattr__(self, name, as_kind(name, getattr(self, name), option.kind))
        _check(self)


FIELDS = fields_of(FinetuningOptions)


def finetuning_options_from(given: Mapping[str, Any]) -> FinetuningOptions:
    """Options by name, the others at their defaults.

    Raises:
        ValueError, TypeError: there is no such option, or it cannot have this value.
    """
    check_names(given, FIELDS)
    return FinetuningOptions(**given)


def _check(options: FinetuningOptions) -> None:
    """Raise where an option has a value that no run can have."""
    for name, choices in (("task", TASK_NAMES), ("dtype", DTYPES)):
        if getattr(options, name) not in choices:
            raise ValueError(f"{name}: received {getattr(options, name)!r}, expected one of {', '.join(choices)}.")
    if not options.train:
        raise ValueError("train: received nothing, expected a file of JSON lines with the examples to learn from.")
    if not options.output:
        raise ValueError("output: received nothing, expected a directory for the model, the scores and the log.")
    check_integer("batch_size", options.batch_size, minimum=1)
    check_integer("seed", options.seed, minimum=0, maximum=2**64 - 1)
    for name in ("limit", "workers"):
        if getattr(options, name) is not None:
            check_integer(name, getattr(options, name), minimum=1)
    for name in ("epochs", "learning_rate"):
        if not 0.0 < getattr(options, name) < math.inf:
            raise ValueError(f"{name}: received {getattr(options, name)}, expected a positive number.")
    if not options.max_grad_norm > 0.0:
        raise ValueError(
            f"max_grad_norm: received {options.max_grad_norm}, expected a positive number; inf shortens nothing."
        )
    if not 0.0 <= options.weight_decay < math.inf:
        raise ValueError(f"weight_decay: received {options.weight_decay}, expected 0 or a positive number.")
    for name in ("warmup", "dropout"):
        value = getattr(options, name)
        if value is not None and not 0.0 <= value < 1.0:
            raise ValueError(f"{name}: received {value}, expected a share from 0 to below 1.")
