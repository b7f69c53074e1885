"""What the pages in docs/ say, done: their Python runs, what they quote is in the code, their links lead somewhere."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
from markdown_pages import ROOT, broken_links, fences, links, outside_fences, run_python

import minineo.layers
from minineo.model import backward, heads_backward

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BACKWARD_PAGES = sorted((DOCS / "backward").glob("*.md"))


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def test_there_are_pages() -> None:
    assert len(BACKWARD_PAGES) >= 13


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_python_of_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pages are written for somebody who stands in the root of a clone; what they write goes elsewhere
    (tmp_path / "docs").symlink_to(DOCS, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    run_python(page)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_formulas_survive_github(page: Path) -> None:
    """GitHub may read them as Markdown first, which takes signs for markup and eats backslashes before them."""
    prose = re.sub(r"`[^`\n]*`", "", outside_fences(page.read_text(encoding="utf-8")))
    displayed = re.findall(r"\$\$(.*?)\$\$", prose, re.DOTALL)
    rest = re.sub(r"\$\$.*?\$\$", "", prose, flags=re.DOTALL)
    assert "$$" not in rest
    for paragraph in rest.split("\n\n"):
        assert paragraph.count("$") % 2 == 0, paragraph
    for formula in displayed:
        assert not re.search(r"^\s*[-+=>#]", formula, re.MULTILINE), formula
    inline = re.findall(r"\$([^$]*)\$", rest)
    for formula in inline:
        assert formula == formula.strip(), formula
        assert "\n" not in formula, formula
    for formula in displayed + inline:
        assert not re.search(r"\\[^a-zA-Z]|\*|}_", formula), formula


@pytest.mark.parametrize("page", BACKWARD_PAGES, ids=name_of)
def test_what_a_page_quotes_stands_in_the_code(page: Path) -> None:
    """A quotation is a block marked ```py; its lines are in a file that the page links to."""
    text = page.read_text(encoding="utf-8")
    sources = [(page.parent / target).read_text(encoding="utf-8") for target in links(text) if target.endswith(".py")]
    lines = {line.strip() for source in sources for line in source.splitlines()}
    quoted = [line.strip() for block in fences(text) if block.language == "py" for line in block.content.splitlines()]
    assert [line for line in quoted if line and line not in lines] == []


@pytest.mark.parametrize("page", BACKWARD_PAGES, ids=name_of)
def test_a_page_proves_what_it_says(page: Path) -> None:
    blocks = fences(page.read_text(encoding="utf-8"))
    assert any(block.language == "python" and "assert " in block.content for block in blocks)


def test_every_backward_has_a_page_that_the_map_leads_to() -> None:
    layers = [import_module(f"minineo.layers.{module.name}") for module in iter_modules(minineo.layers.__path__)]
    functions = {
        name
        for module in [*layers, backward, heads_backward]
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if name.endswith("_backward") and not name.startswith("_")
    }
    pages = [page.read_text(encoding="utf-8") for page in BACKWARD_PAGES if page.name != "README.md"]
    assert sorted(name for name in functions if not any(f"`{name}`" in page for page in pages)) == []
    reached = set(links((DOCS / "backward" / "README.md").read_text(encoding="utf-8")))
    assert {page.name for page in BACKWARD_PAGES} - {"README.md"} <= reached


# The checks themselves ------------------------------------------------------------------------------------------------


def write(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_blocks_of_a_page_share_their_names(tmp_path: Path) -> None:
    page = write(tmp_path, "```python\na = 2\n```\n\nso\n\n```sh\nrm\n```\n\n```python\nb = a + 1\n```\n")
    assert run_python(page)["b"] == 3


def test_what_a_block_prints_is_compared(tmp_path: Path) -> None:
    assert run_python(write(tmp_path, "```python\nprint(2)\n```\n\n```text\n2\n```\n"))
    with pytest.raises(AssertionError, match="line 6"):
        run_python(write(tmp_path, "```python\nprint(2)\n```\n\n```text\n3\n```\n"))


def test_text_after_other_words_is_not_what_a_block_prints(tmp_path: Path) -> None:
    run_python(write(tmp_path, "```python\nprint(2)\n```\n\nA file:\n\n```text\n3\n```\n"))


def test_a_false_assertion_and_its_line_are_seen(tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as raised:
        run_python(write(tmp_path, "words\n\n```python\nx = 1\nassert x == 2\n```\n"))
    assert raised.traceback[-1].lineno == 4  # counted from 0


def test_a_block_that_is_not_closed_is_seen() -> None:
    with pytest.raises(AssertionError, match="not closed"):
        fences("```python\nx = 1\n")


def test_broken_links_are_seen() -> None:
    page = ROOT / "README.md"
    assert list(broken_links(page)) == []
    assert links("[a](b.md) `[c](d.md)` $x](y)$\n```\n[e](f.md)\n```\n[g](h.md#i)") == ["b.md", "h.md#i"]


@pytest.mark.parametrize("target", ["nowhere.md", "../outside.md", "#no-such-heading", "README.md#no-such-heading"])
def test_a_link_that_leads_nowhere_is_seen(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.setattr("markdown_pages.ROOT", folder)
    for there in (folder / "README.md", tmp_path / "outside.md"):
        there.write_text("# One heading\n", encoding="utf-8")
    page = write(folder, f"# Here: `a`\n[right](README.md#one-heading), [here](#here-a), [wrong]({target})\n")
    assert list(broken_links(page)) == [target]
