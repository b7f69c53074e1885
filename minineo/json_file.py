"""JSON files: read with errors that name the file, in bounded memory, and written whole or not at all."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

SPARE_BYTES = 64 * 2**20
"""Reading a file takes at most this much memory beyond twice its size; what would take more is refused. A vocabulary of
70,000 tokens needs about as much. Whoever trusts a larger one can set this higher."""

MOST_LEVELS = 100  # of lists and objects in one another: who walks through them needs a call for each

# What json.loads takes at most for each of these characters, measured: `[]`, 2 bytes of a file, are 88 of memory.
_COSTS = {",": 40, "[": 90, "{": 90, '"': 45, ":": 250}

# A character beyond U+FFFF may be spelled as a pair, "\ud83d\ude00"; an escape with a group 1 is only half of one.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPES = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F])|.)", re.DOTALL)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object in UTF-8; anything else is a ValueError that names the file."""
    try:
        content = parse_json(read_bytes(path))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a JSON {type(content).__name__}, expected an object.")
    return content


def read_bytes(path: Path) -> bytes:
    """Read a file that has the size of a text; a larger one is a ValueError."""
    size = path.stat().st_size
    if size > SPARE_BYTES:
        raise ValueError(f"has {size:,} bytes, expected at most {SPARE_BYTES:,}")
    return path.read_bytes()


def parse_json(content: bytes, file_size: int | None = None, **hooks: Any) -> Any:
    """The value of a JSON text in UTF-8, which is a file or part of a larger one; `hooks` are those of `json.loads`.

    Raises:
        ValueError: it is not JSON, has half a surrogate pair in it, which is no text, would take more memory than
            `SPARE_BYTES` says, or is nested deeper than `MOST_LEVELS`.
    """
    check_memory(content, _COSTS, len(content) if file_size is None else file_size)
    if _SURROGATE.search(content) and any(escape[1] for escape in _ESCAPES.finditer(content)):
        raise ValueError("half a surrogate pair")
    try:
        value = json.loads(content.decode("utf-8"), **hooks)
    except RecursionError:
        raise ValueError(f"nested deeper than {MOST_LEVELS} levels") from None
    _check_levels(value)
    return value


def check_memory(content: bytes, costs: dict[str, int], file_size: int) -> None:
    """Raise a ValueError where a text would take too much memory; `costs` says what some characters stand for."""
    allowed = 2 * file_size + SPARE_BYTES
    widest = (
        1
        if content.isascii()
        else 4
        if re.search(rb"[\xf0-\xff]", content)
        else 2
        if re.search(rb"[\xc4-\xff]", content)
        else 1
    )
    text = widest * len(content)
    needed = max(2.3 * text, text + 6.3 * len(content) if rb"\u" in content else 0)  # the text, and a string as long
    needed += sum(cost * content.count(character.encode()) for character, cost in costs.items())
    if needed > allowed:
        raise ValueError(
            f"may take {needed:,.0f} bytes of memory, expected at most {allowed:,}; if the file is to be trusted, set "
            "minineo.json_file.SPARE_BYTES higher"
        )


def _check_levels(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_LEVELS + 1):
        if not level:
            return
        level = [
            entry
            for outer in level
            for entry in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(entry, dict | list)
        ]
    raise ValueError(f"nested deeper than {MOST_LEVELS} levels")


def write_text(path: Path, text: str) -> None:
    """Write a file under another name first, so that at no moment half of it stands under its own."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
