"""Notebooks as their files have them: cells, what they print, and what they share with the library's source."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
Cell = dict[str, Any]
Output = dict[str, Any]


def cells(path: Path, kind: str | None = None) -> list[Cell]:
    """The cells of a notebook, all or those of one kind ("code", "markdown"), with their source as one string."""
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": joined(cell["source"])} for cell in found if kind in (None, cell["cell_type"])]


def joined(text: str | list[str]) -> str:
    """A text of a notebook file, where it is a string or a list of lines."""
    return text if isinstance(text, str) else "".join(text)


def tags(cell: Cell) -> list[str]:
    """Tags of a cell, such as `varies`: what it prints is not the same on every run."""
    found: list[str] = cell["metadata"].get("tags", [])
    return found


def shown(output: Output) -> dict[str, str]:
    """What an output shows, by type: `stdout` or a MIME type."""
    if output["output_type"] == "stream":
        return {output["name"]: joined(output["text"])}
    return {
        mime: joined(content) for mime, content in output.get("data", {}).items() if isinstance(content, str | list)
    }


def comparable(cell: Cell) -> list[tuple[str, str]]:
    """What a fresh run of the cell has to show again: texts, tables without markup, that there is a picture."""
    found = []
    for output in cell["outputs"]:
        for mime, content in sorted(shown(output).items()):
            if mime == "text/html":
                content = text_of(content)
            elif mime.startswith("image/"):
                content = "a picture"
            found.append((mime, content))
    return found


def text_of(html: str) -> str:
    """The text of a piece of HTML, without its markup, styles and scripts."""
    parser = _TextOf()
    parser.feed(html)
    return " ".join("".join(parser.pieces).split())


class _TextOf(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.skipping = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.skipping = tag in ("style", "script")
        self.pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self.skipping = False
        self.pieces.append(" ")

    def handle_data(self, data: str) -> None:
        if not self.skipping:
            self.pieces.append(data)


def code_lines(source: str) -> list[str]:
    """Lines of code, without blank ones and comments."""
    return [line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]


def runs_of_lines(source: str, length: int) -> set[tuple[str, ...]]:
    """All runs of so many lines of code that follow each other, blanks aside; imports do not count."""
    lines = [re.sub(r"\s", "", line) for line in code_lines(source) if not re.match(r"\s*(import|from)\b", line)]
    return {tuple(lines[i : i + length]) for i in range(len(lines) - length + 1)}
