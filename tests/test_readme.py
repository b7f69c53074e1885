"""What the README says, done."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_its_python_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert str(names["text"]).startswith("Once upon a time")


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (README.parent / target).exists(), target


def test_it_names_both_commands():
    text = README.read_text(encoding="utf-8")
    assert 'python -m pip install -e . && minineo generate "Once upon a time"\n' in text
    assert 'python -m pip install -e ".[test]" && python -m pytest\n' in text
