"""`minineo finetune`: the options of a fine-tuning run from the command line, and its scores as a table.

It imports no NumPy before it has said how many threads NumPy may use.
"""

from __future__ import annotations

import argparse
from typing import Any

from minineo.training.command import add_options, limit_threads, with_flags
from minineo.training.finetuning_options import FIELDS, TASK_NAMES, finetuning_options_from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the task and all options of a run; those that are not given leave no trace in the result."""
    parser.add_argument("task", metavar="TASK", choices=TASK_NAMES, help=FIELDS["task"].description)
    add_options(parser, {name: option for name, option in FIELDS.items() if name != "task"})


def finetune(arguments: argparse.Namespace) -> None:
    """Fine-tune a model for a task."""
    given: dict[str, Any] = {name: value for name, value in vars(arguments).items() if name in FIELDS}
    if not given.get("train") or not given.get("output"):
        raise ValueError(
            "--train and --output are needed: "
            f"minineo finetune {arguments.task} --train examples.jsonl --output my-model"
        )
    try:
        options = finetuning_options_from(given)
    except (ValueError, TypeError) as error:
        raise ValueError(with_flags(str(error), given)) from error
    limit_threads(options.workers)

    from minineo.commands import print_table
    from minineo.training import finetuning

    found = finetuning.finetune(options, progress=True)
    if found.scores:
        print_table(finetuning.table(found.scores), right=(1, 2))
    print(f"\n{found.steps} steps, {found.seconds:.0f} s with measuring, written to {options.output}")
