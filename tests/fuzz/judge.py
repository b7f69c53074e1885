"""Reads the folder of a case as users do, and judges what came of it: each way ends well, or in a documented error."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fuzz.cases import CONFIGURATIONS, TOKENIZERS
from fuzz.seeds import TEXT
from fuzz.watch import MOST_SECONDS, SPARE_BYTES, watch
from minineo import (
    FlaxGPTNeoForCausalLM,
    GPT2Tokenizer,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    GPTNeoForSequenceClassification,
)
from minineo.checkpoints import CheckpointError, describe, read_state_dict
from minineo.checkpoints.convert import convert

LONGEST_MESSAGE = 3000

# What docs/files.md promises, by what is read. Exactly these: UnicodeDecodeError is a ValueError, too.
OF_WEIGHTS = (CheckpointError, FileNotFoundError)
OF_A_CONFIGURATION = (ValueError, TypeError, FileNotFoundError)
OF_A_TOKENIZER = (ValueError, FileNotFoundError)
OF_A_MODEL = (CheckpointError, ValueError, TypeError, FileNotFoundError)
OF_A_CALL = (ValueError, TypeError)
ALL_CLASSES = (GPTNeoForCausalLM, GPTNeoForSequenceClassification, FlaxGPTNeoForCausalLM)
Errors = tuple[type[Exception], ...]


class Step(NamedTuple):
    """One thing that is done with a folder, and the errors that may come of it."""

    name: str
    call: Callable[[], Any]
    errors: Errors
    names_a_file: bool = True


class Verdict(NamedTuple):
    """What came of a case."""

    accepted: bool
    refused_by: str | None
    """The exception of the step that reads the file which was made wrong."""
    seconds: float
    """Of the processor, for all steps."""
    nbytes: int
    """Of memory, beyond twice the files."""
    problems: list[str]


def judge(format_: str, folder: Path, thorough: bool) -> Verdict:
    """Take the steps of a format; those that need a file which was refused only where it is `thorough`."""
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    refused_by, nbytes = None, 0
    problems: list[str] = []
    slow: list[str] = []
    began = time.process_time()
    for step in _steps(format_, folder):
        if refused_by and not thorough:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seen = watch(step.call, folder.parent)
        nbytes = max(nbytes, seen.nbytes - 2 * size)
        problems += [f"{step.name}: {event}" for event in seen.events]
        if seen.seconds > MOST_SECONDS:
            slow.append(f"{step.name}: took {seen.seconds:.1f} s")
        if seen.nbytes > 2 * size + SPARE_BYTES:
            problems.append(f"{step.name}: took {seen.nbytes >> 20} MB for files of {size:,} bytes")
        if seen.error is not None:
            refused_by = refused_by or type(seen.error).__name__
            problems += [f"{step.name}: {problem}" for problem in _complaints(step, seen.error, folder)]
    seconds = time.process_time() - began
    if seconds > MOST_SECONDS:  # or it was the machine that had other work
        problems += slow
    return Verdict(refused_by is None, refused_by, seconds, nbytes, problems)


def _complaints(step: Step, error: Exception, folder: Path) -> Iterator[str]:
    if type(error) not in step.errors:
        yield f"{type(error).__name__}, which is not documented: {str(error)[:300]!r}"
        return
    message = str(error)
    if step.names_a_file and str(folder) not in message:
        yield f"names no file: {message[:300]!r}"
    if len(message) > LONGEST_MESSAGE:
        yield f"a message of {len(message):,} characters: {message[:200]!r}"
    if not message.isascii():
        try:
            message.encode()
        except UnicodeEncodeError:
            yield f"a message that cannot be printed: {message[:300]!r}"


def _steps(format_: str, folder: Path) -> Iterator[Step]:
    if format_ in TOKENIZERS or format_ == "folder":
        yield Step("tokenizer", lambda: _use_tokenizer(GPT2Tokenizer.from_pretrained(folder), folder), OF_A_TOKENIZER)
    if format_ in TOKENIZERS:
        return
    if format_ == "config.json" or format_ == "folder":
        yield Step(
            "configuration", lambda: _use_config(GPTNeoConfig.from_pretrained(folder), folder), OF_A_CONFIGURATION
        )
    if format_ not in CONFIGURATIONS:
        yield Step("describe", lambda: describe(folder), OF_WEIGHTS)
        yield Step("read", lambda: _touch(read_state_dict(folder)), OF_WEIGHTS)
        yield Step("convert", lambda: _convert(folder), OF_A_MODEL)
    classes = ALL_CLASSES if format_ != "generation_config.json" else ALL_CLASSES[:1]
    for cls in classes:
        loaded: list[Any] = []
        yield Step(cls.__name__, lambda cls=cls, loaded=loaded: loaded.append(cls.from_pretrained(folder)), OF_A_MODEL)
        if loaded:
            call = partial(_use_model, loaded[0])
            yield Step(f"{cls.__name__}, called", call, OF_A_CALL, names_a_file=False)


def _touch(state: dict[str, np.ndarray]) -> None:
    """Read the first and the last number of each array: one outside of its file would end the process."""
    for array in state.values():
        if array.size:
            _ = array[(0,) * array.ndim], array[(-1,) * array.ndim]


def _use_config(config: GPTNeoConfig, folder: Path) -> None:
    """What was accepted is written, and read again the same."""
    repr(config)
    config.save_pretrained(folder / "saved")
    same = GPTNeoConfig.from_pretrained(folder / "saved") == config
    shutil.rmtree(folder / "saved")
    assert same, "a configuration that is another when it is read again"


def _convert(folder: Path) -> None:
    convert(folder, folder.parent / "converted")
    state = read_state_dict(folder.parent / "converted")
    shutil.rmtree(folder.parent / "converted")
    assert state or not read_state_dict(folder)


def _use_model(model: Any) -> None:
    input_ids = np.zeros((1, 2), np.int64)
    model(input_ids)
    if hasattr(model, "generate"):
        model.generate(input_ids)


def _use_tokenizer(tokenizer: GPT2Tokenizer, folder: Path) -> None:
    """What was accepted encodes, decodes, is written, and is read again to the same ids."""
    try:
        ids = tokenizer(TEXT)["input_ids"]
    except ValueError as error:
        if "cannot encode" not in str(error):  # a vocabulary that lacks bytes may lack those of this text
            raise
        ids = []
    tokenizer.decode(ids)
    tokenizer.save_pretrained(folder / "saved")
    again = GPT2Tokenizer.from_pretrained(folder / "saved")
    shutil.rmtree(folder / "saved")
    assert not ids or again(TEXT)["input_ids"] == ids, "a tokenizer that is another when it is read again"
