"""`minineo train`: the options of a run, from a TOML file and from the command line, which wins.

It imports no NumPy before it has said how many threads NumPy may use.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from minineo.training.checkpoint_files import stored_options
from minineo.training.options import FIELDS, Option, options_from, read_toml, usable_cores

# OpenBLAS, MKL, and what is built with OpenMP
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all options of a run, each as `--its-name`; those that are not given leave no trace in the result."""
    parser.add_argument("--config", metavar="FILE", help="TOML file with options, in tables named as the groups below")
    parser.add_argument("--resume", action="store_true", help="continue the run in --output from its newest checkpoint")
    add_options(parser, FIELDS)


def add_options(parser: argparse.ArgumentParser, fields: Mapping[str, Option]) -> None:
    """Add an option for each field, in groups named as the tables are."""
    tables = dict.fromkeys(option.table for option in fields.values())
    groups = {table: parser.add_argument_group(f"[{table}]") for table in tables}
    for name, option in fields.items():
        groups[option.table].add_argument(
            _flag(name), default=argparse.SUPPRESS, help=_help(option), **_kind(option.kind)
        )


def train(arguments: argparse.Namespace) -> None:
    """Train a language model."""
    given = typed = {name: value for name, value in vars(arguments).items() if name in FIELDS}
    if arguments.config is not None:
        given = _over(read_toml(arguments.config), given)
    if arguments.resume:
        given = _over(_stored_options(given), given)
    if not given.get("train") or not given.get("output"):
        raise ValueError(
            "--train and --output are needed, here or in a file, --config: "
            "minineo train --train stories.txt --output my-model"
        )
    try:
        options = options_from(given)
    except (ValueError, TypeError) as error:
        raise ValueError(with_flags(str(error), typed)) from error
    limit_threads(options.workers)

    from minineo.training.loop import train as run_training

    run_training(options, resume=arguments.resume, progress=True)


def limit_threads(workers: int | None) -> None:
    """Let matrix products keep to their thread where several threads share a batch, unless the user has said otherwise.

    Otherwise each of them would start as many threads as there are cores. It has no effect once NumPy is imported.
    """
    workers = usable_cores() if workers is None else workers
    if workers > 1 and not any(name in os.environ for name in THREAD_VARIABLES):
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def with_flags(message: str, typed: Collection[str]) -> str:
    """An error that begins with names of options, those as they were typed on the command line."""
    names, colon, rest = message.partition(": ")
    return ", ".join(_flag(name) if name in typed else name for name in names.split(", ")) + colon + rest


def _stored_options(given: dict[str, Any]) -> dict[str, Any]:
    """The options that a run was begun with, so that they need not be given again."""
    if "output" not in given:
        raise ValueError("--resume: pass the --output of the run to continue.")
    return stored_options(Path(given["output"]))


def _over(options: dict[str, Any], winning: dict[str, Any]) -> dict[str, Any]:
    """The options, where others do not replace them; a length replaces any length, be it in steps or in epochs."""
    if "steps" in winning or "epochs" in winning:
        options = {name: value for name, value in options.items() if name not in ("steps", "epochs")}
    return options | winning


def _kind(kind: Any) -> dict[str, Any]:
    """What argparse has to know to read an option of this type."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if bool in kinds:
        return {"action": argparse.BooleanOptionalAction}
    if tuple[str, ...] in kinds:
        return {"nargs": "+", "metavar": "TEXT"}
    if list[Any] in kinds:
        return {"type": _json, "metavar": "JSON"}
    number = next((number for number in (int, float) if number in kinds), None)
    return {"metavar": "TEXT"} if number is None else {"type": number, "metavar": "N" if number is int else "X"}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"received {text!r}, expected JSON ({error})") from error


def _help(option: Option) -> str:
    if option.default in (None, (), ""):
        return option.description
    default = ", ".join(map(repr, option.default)) if isinstance(option.default, tuple) else option.default
    return f"{option.description} (default: {default})".replace("%", "%%")
