"""What the README says, done."""

from __future__ import annotations

from markdown_pages import ROOT, broken_links, fences, run_python

README = ROOT / "README.md"


def test_its_python_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sum(block.language == "python" for block in fences(README.read_text(encoding="utf-8"))) >= 3
    assert str(run_python(README)["text"]).startswith("Once upon a time")


def test_its_links_lead_somewhere():
    assert list(broken_links(README)) == []


def test_it_names_both_commands():
    text = README.read_text(encoding="utf-8")
    assert 'python -m pip install -e . && minineo generate "Once upon a time"\n' in text
    assert 'python -m pip install -e ".[test]" && python -m pytest\n' in text
