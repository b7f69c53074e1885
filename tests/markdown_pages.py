"""Markdown pages: their blocks of Python, run and compared with what the page says they print; their links."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Fence(NamedTuple):
    """A fenced block: the word after the opening fence, the line on which its content begins, and the content."""

    language: str
    line: int
    content: str


def fences(text: str) -> list[Fence]:
    """All fenced blocks of a page, in order."""
    found = []
    opening: tuple[str, int] | None = None
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.startswith("```"):
            continue
        if opening is None:
            opening = line.removeprefix("```").strip(), number
        else:
            language, start = opening
            found.append(Fence(language, start + 1, "".join(lines[start : number - 1])))
            opening = None
    assert opening is None, f"the block of line {opening} is not closed"
    return found


def outside_fences(text: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```[ \t]*$", "", text, flags=re.DOTALL | re.MULTILINE)


def run_python(page: Path) -> dict[str, object]:
    """Run the ```python blocks of a page in one namespace, top to bottom, and return that namespace.

    Where only blank lines part a block from a ```text block, the latter is what it has to print.
    """
    text = page.read_text(encoding="utf-8")
    blocks = fences(text)
    lines = text.splitlines()
    names: dict[str, object] = {}
    for i, block in enumerate(blocks):
        if block.language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            # empty lines before it, so that a traceback gives the line of the page
            exec(compile("\n" * (block.line - 1) + block.content, str(page), "exec"), names)
        after = blocks[i + 1] if i + 1 < len(blocks) else None
        if after is not None and after.language == "text":
            closing = block.line + block.content.count("\n")
            if not any(line.strip() for line in lines[closing : after.line - 2]):
                assert printed.getvalue().rstrip() == after.content.rstrip(), f"{page.name}, line {after.line}"
    return names


def links(text: str) -> list[str]:
    """Where the links of a page lead; code and formulas have none."""
    prose = re.sub(r"`[^`\n]*`", lambda code: "`" * len(code[0]), outside_fences(text))
    return re.findall(r"\]\(([^)\s]*)\)", re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$", "", prose, flags=re.DOTALL))


def broken_links(page: Path) -> Iterator[str]:
    """Links that lead to no file of the repository or to no heading of a page; those to the web are not followed."""
    for target in links(page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page.resolve()
        there = file.exists() and file.is_relative_to(ROOT.resolve())
        if not there or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            yield target


def anchors(text: str) -> set[str]:
    """The names under which GitHub makes the headings of a page reachable."""
    headings = re.findall(r"^#+ +(.*?) *$", outside_fences(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
