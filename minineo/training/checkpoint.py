"""Checkpoints of a run: Hugging Face directories with the optimiser's state, written whole or not at all.

`output/checkpoints/step-00000500` holds what `save_pretrained` of model and tokenizer writes, so that it can be used as
a model, and beside it `optimizer.safetensors` (the moments) and `training.json` (the step, the options, the data and
where the log stands). It is written under another name, brought to the disk, and renamed: a process that is killed, at
whichever moment, leaves the checkpoints before it as they were.
"""

from __future__ import annotations

import json
import reprlib
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from minineo.arrays import Array
from minineo.checkpoints import open_safetensors
from minineo.checkpoints.safetensors_file import write_safetensors
from minineo.classes import GPTNeoForCausalLM
from minineo.json_file import read_json_object
from minineo.tokenizer import GPT2Tokenizer
from minineo.training.checkpoint_files import (
    TRAINING_FILE,
    checkpoints,
    directory_of,
    flush,
    flush_files,
    no_checkpoint,
    temporary_directory,
)

OPTIMIZER_FILE = "optimizer.safetensors"
DAMAGED = (ValueError, TypeError, KeyError, OSError)  # what reading a damaged checkpoint raises


@dataclass
class Position:
    """Where a run stands: `step` updates are made; the validation loss was lowest, `best_loss`, after `best_step`.

    `seconds` have been spent, and `sizes` are those of the files that grow, in bytes: what stands beyond belongs to
    steps that will be made again.
    """

    step: int = 0
    best_step: int | None = None
    best_loss: float | None = None
    seconds: float = 0.0
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint directory holds: enough to go on as if the run had never been interrupted."""

    path: Path
    model: GPTNeoForCausalLM
    tokenizer: GPT2Tokenizer
    moments: dict[str, Array]
    position: Position
    options: dict[str, Any]
    data: dict[str, Any]


def save_checkpoint(
    output: Path,
    model: GPTNeoForCausalLM,
    tokenizer: GPT2Tokenizer,
    moments: Mapping[str, Array],
    position: Position,
    options: Mapping[str, Any],
    data: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of a step, and return its path.

    Raises:
        OSError: it could not be written, as on a full disk. Nothing of it is left then, and earlier ones are intact.
    """
    path = directory_of(output, position.step)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_directory(path)
    try:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_safetensors(moments, temporary / OPTIMIZER_FILE)
        record = {"position": asdict(position), "options": dict(options), "data": dict(data)}
        (temporary / TRAINING_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        flush_files(temporary)
        temporary.rename(path)
        flush(path.parent)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{path}: the checkpoint could not be written ({error}). Earlier checkpoints are intact: make room, then "
            "continue from the last one with --resume."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def newest_checkpoint(output: Path) -> Checkpoint:
    """Read the newest checkpoint of a run that can be read; a damaged one is passed over with a warning.

    Raises:
        FileNotFoundError: there is none.
    """
    for path in reversed(checkpoints(output).values()):
        try:
            return read_checkpoint(path)
        except DAMAGED as error:
            warnings.warn(f"{path} is damaged, trying the one before it ({error})", stacklevel=2)
    raise no_checkpoint(output)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint directory, with arrays in memory, which may be changed.

    Raises:
        ValueError, TypeError, KeyError, OSError: a file is missing or damaged.
    """
    model = GPTNeoForCausalLM.from_pretrained(path)
    model.params = {name: np.array(value) for name, value in model.params.items()}
    moments = {name: np.array(value) for name, value in open_safetensors(path / OPTIMIZER_FILE).items()}
    record = read_json_object(path / TRAINING_FILE)
    tokenizer = GPT2Tokenizer.from_pretrained(path)
    position = Position(**record["position"])
    return Checkpoint(path, model, tokenizer, moments, position, record["options"], record["data"])


def check_same(path: Path, what: str, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise unless the checkpoint has what is asked for, in every field that is.

    Raises:
        ValueError: naming the first field that differs.
    """
    for name, value in asked.items():
        if stored.get(name) != value:
            raise ValueError(
                f"{path}: the checkpoint is of another {what}: {name} is {reprlib.repr(stored.get(name))} there, and "
                f"{reprlib.repr(value)} was asked for. Resume with what it was begun with, or begin a new run with "
                "another --output."
            )
