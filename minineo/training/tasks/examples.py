"""Examples of a task, read from a file of JSON lines: one object a line, checked, with errors that name the line."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

Example = dict[str, Any]


def read_examples(
    path: str | os.PathLike[str],
    required: Collection[str],
    optional: Collection[str],
    check: Callable[[Example], str | None],
) -> list[Example]:
    """Read the examples of a file; blank lines are passed over.

    Args:
        path: a file of JSON lines in UTF-8, with or without a byte-order mark.
        required: keys that each example has.
        optional: keys that it may have besides.
        check: says what is wrong with an example that has these keys, or None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no examples, or one is wrong; the message names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Expected a file of JSON lines, one example a line.")
    examples = []
    for number, raw in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        if raw.strip():
            example = _parse(raw, f"{path}, line {number}")
            problem = _check_keys(example, required, optional) or check(example)
            if problem is not None:
                raise ValueError(f"{path}, line {number}: {problem}.")
            examples.append(example)
    if not examples:
        raise ValueError(f"{path}: no examples in it. Expected JSON lines, each with {', '.join(required)}.")
    return examples


def check_text(example: Example, key: str) -> str | None:
    """What is wrong with a text of an example: it has to be a str with something in it."""
    text = example[key]
    if not isinstance(text, str):
        return f"{key}: received a {type(text).__name__}, expected a text"
    return None if text.strip() else f"{key}: received an empty text"


def quoted(text: str) -> str:
    """A text, or where it is long how it begins: to be found again in its file."""
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def spread(examples: list[Example], most: int | None) -> list[Example]:
    """At most so many of the examples, spread evenly over them; None: all."""
    if most is None or most >= len(examples):
        return examples
    return [examples[i * len(examples) // most] for i in range(most)]


def _parse(raw: bytes, where: str) -> Example:
    try:
        example = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not valid JSON in UTF-8 ({error}).") from error
    if not isinstance(example, dict):
        raise ValueError(f"{where}: holds a JSON {type(example).__name__}, expected an object.")
    return example


def _check_keys(example: Example, required: Collection[str], optional: Collection[str]) -> str | None:
    missing = [key for key in required if key not in example]
    unknown = [key for key in example if key not in required and key not in optional]
    known = f"expected {', '.join(required)}" + (f" and perhaps {', '.join(optional)}" if optional else "")
    if missing:
        return f"has no {', '.join(missing)} (it has {', '.join(example) or 'nothing'}); {known}"
    return f"has an unknown key {unknown[0]!r}; {known}" if unknown else None
