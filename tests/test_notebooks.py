"""The notebooks: how they are built, and (with `-m notebooks`) that a fresh run shows what was committed."""

from __future__ import annotations

import json
import logging
import os
import re
from html import escape
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import require
from notebook_pages import FOLDER, ROOT, Cell, cells, code_lines, comparable, runs_of_lines, shown, tags

PROMPT = "A woodcutter lived in the forest. One day the woodcutter went into the"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_SECONDS = 90
LARGEST = 1_500_000  # bytes: code hosts show no larger ones
ABSOLUTE_PATH = re.compile(r"(?<![\w.<:/])/(home|root|tmp|usr|opt|work|mnt|var|Users)/|[A-Z]:\\\\?Users")
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_the_index_lists_every_notebook_in_order():
    listed = re.findall(r"\]\((\d\d-[\w-]+\.ipynb)\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert listed == [path.name for path in NOTEBOOKS]
    assert PROMPT in (FOLDER / "README.md").read_text(encoding="utf-8")


@EACH
def test_it_begins_with_a_title_a_goal_and_a_question_and_follows_the_prompt(path: Path):
    first = cells(path)[0]
    assert first["cell_type"] == "markdown"
    assert re.match(r"# \S", first["source"])
    assert "**Goal.**" in first["source"]
    assert "**Question.**" in first["source"]
    assert any(PROMPT in cell["source"] for cell in cells(path, "code"))


@EACH
def test_it_ends_with_a_summary_and_references(path: Path):
    last = cells(path)[-1]
    assert last["cell_type"] == "markdown"
    summary, _, references = last["source"].partition("## References")
    assert summary.startswith("## Summary")
    assert len(re.findall(r"^- ", references, flags=re.MULTILINE)) >= 2


@EACH
def test_it_invites_to_try_something(path: Path):
    all_cells = cells(path)
    followed = [after["cell_type"] for cell, after in pairwise(all_cells) if _invites(cell)]
    assert len(followed) >= 2
    assert set(followed) == {"code"}


def _invites(cell: Cell) -> bool:
    return cell["cell_type"] == "markdown" and "**Try it.**" in cell["source"]


@EACH
def test_cells_are_short(path: Path):
    assert path.stat().st_size < LARGEST
    for cell in cells(path, "code"):
        assert len(code_lines(cell["source"])) <= 15, cell["source"]
    for cell in cells(path, "markdown")[:-1]:
        words = len(re.sub(r"\]\([^)]*\)", "]", cell["source"]).split())
        assert words <= 150, f"{words} words are a wall of text: {cell['source']}"


@EACH
def test_it_imports_at_the_top(path: Path):
    first, *others = cells(path, "code")
    assert re.search(r"^(import|from) ", first["source"], flags=re.MULTILINE)
    for cell in others:
        assert not re.search(r"^(import|from) ", cell["source"], flags=re.MULTILINE), cell["source"]


@EACH
def test_outputs_are_those_of_one_run_from_top_to_bottom(path: Path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        types = {mime for output in cell["outputs"] for mime in shown(output)}
        assert "stderr" not in types, cell["source"]
        assert all(output["output_type"] != "error" for output in cell["outputs"]), cell["source"]
        if any(mime.startswith("image/") for mime in types):
            assert cell["metadata"].get("alt"), f"a picture needs a text that stands for it: {cell['source']}"


@EACH
def test_it_names_nothing_of_the_machine_that_ran_it(path: Path):
    for cell in cells(path):
        texts = [cell["source"]]
        for output in cell.get("outputs", []):
            texts += [content for mime, content in shown(output).items() if not mime.startswith("image/")]
        for text in texts:
            assert not ABSOLUTE_PATH.search(text), text[:500]
            assert not re.search(r" at 0x[0-9a-f]{6,}", text), f"an address in memory: {text[:500]}"
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    assert set(metadata) == {"kernelspec", "language_info"}, "save it with: python notebooks/run.py"


@EACH
def test_its_links_lead_somewhere(path: Path):
    for cell in cells(path, "markdown"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", cell["source"]):
            assert target.startswith("https://") or (FOLDER / target).exists(), target


@EACH
def test_it_calls_the_library_and_does_not_copy_it(path: Path):
    library: dict[tuple[str, ...], str] = {}
    for module in sorted((ROOT / "minineo").rglob("*.py")):
        library |= dict.fromkeys(runs_of_lines(module.read_text(encoding="utf-8"), 3), module.name)
    for cell in cells(path, "code"):
        copied = [f"{library[run]}: {run}" for run in runs_of_lines(cell["source"], 3) if run in library]
        assert copied == []


@pytest.mark.notebooks
@EACH
def test_a_fresh_run_shows_what_was_committed(path: Path, monkeypatch: pytest.MonkeyPatch):
    require("nbclient", extra="notebooks")
    require("matplotlib", extra="notebooks")
    monkeypatch.syspath_prepend(FOLDER)
    from run import execute

    before = _seconds_of_children()
    fresh = [cell for cell in execute(path).cells if cell.cell_type == "code"]
    assert _seconds_of_children() - before < MOST_SECONDS
    for committed, cell in zip(cells(path, "code"), fresh, strict=True):
        if "varies" not in tags(committed):
            assert comparable(cell) == comparable(committed), committed["source"]


def _seconds_of_children() -> float:
    """Seconds of a processor that processes started here, and ended since, have used; other work does not add to it."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.notebooks
@EACH
def test_it_becomes_a_page_without_warnings(path: Path, caplog: pytest.LogCaptureFixture):
    nbconvert = require("nbconvert", extra="notebooks")
    with caplog.at_level(logging.WARNING):
        html, _ = nbconvert.HTMLExporter(template_name="classic").from_filename(str(path))
    assert not [record.getMessage() for record in caplog.records]
    pictures = [text for cell in cells(path) for text in _alts(cell)]
    assert re.findall(r'<img alt="([^"]*)"', html) == [escape(text, quote=False) for text in pictures]


def _alts(cell: Cell) -> list[str]:
    """The texts that stand for the pictures of a cell: its own, or those of Markdown that holds pictures."""
    markdown = [cell["source"]] if cell["cell_type"] == "markdown" else []
    found = []
    for output in cell.get("outputs", []):
        if "image/png" in shown(output):
            found.append(cell["metadata"]["alt"])
        markdown.append(shown(output).get("text/markdown", ""))
    return found + re.findall(r"!\[([^\]]*)\]\(", "\n".join(markdown))


@pytest.mark.notebooks
def test_a_notebook_that_asks_for_the_network_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    nbformat = require("nbformat", extra="notebooks")
    require("nbclient", extra="notebooks")
    monkeypatch.syspath_prepend(FOLDER)
    from run import execute

    source = "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=1)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbformat.write(notebook, tmp_path / "page.ipynb")
    with pytest.raises(Exception, match=r"without a network, and this one asked for 192\.0\.2\.1"):
        execute(tmp_path / "page.ipynb")
