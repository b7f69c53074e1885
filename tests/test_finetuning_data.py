"""The data sets of the guides: what their page says of them, and that the script makes them again."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_pages import ROOT

from minineo.training.tasks import TASKS

DATA = ROOT / "docs" / "finetuning" / "data"
FILES = [f"{task}/{split}.jsonl" for task in TASKS for split in ("train", "validation")]


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_what_the_page_says(name):
    page = (DATA / "README.md").read_text(encoding="utf-8")
    content = (DATA / name).read_bytes()
    examples = TASKS[name.partition("/")[0]].read(DATA / name)
    row = f"| `{name}` | {len(examples):,} | {len(content):,} | `{hashlib.sha256(content).hexdigest()}` |"
    assert row in page
    assert len(content) < 450_000


@pytest.mark.parametrize("task", list(TASKS))
def test_nothing_is_in_both_parts(task):
    def texts(split: str) -> set[str]:
        examples = TASKS[task].read(DATA / task / f"{split}.jsonl")
        key = next(key for key in ("context", "words", "text") if key in examples[0])
        return {str(example[key]) for example in examples}

    assert not texts("train") & texts("validation")


def test_labelled_words_have_no_quotation_marks():
    for split in ("train", "validation"):
        for example in TASKS["tokens"].read(DATA / "tokens" / f"{split}.jsonl"):
            assert not any('"' in word for word in example["words"])
            assert set(example["labels"]) == {"SPEECH", "O"}


def test_the_speaker_stands_behind_what_was_said():
    for split in ("train", "validation"):
        for example in TASKS["answers"].read(DATA / "answers" / f"{split}.jsonl"):
            quote = re.fullmatch(r'Who said "(.*)"\?', example["question"])
            assert quote is not None
            assert 0 <= example["context"].index(quote[1]) < example["answers"]["answer_start"][0]


@pytest.mark.corpus
def test_the_script_makes_the_same_files(tmp_path: Path):
    if "MININEO_CORPUS" not in os.environ:
        pytest.skip("MININEO_CORPUS names no folder with train.txt and valid.txt")
    subprocess.run([sys.executable, DATA / "make.py", "--output", tmp_path], check=True, capture_output=True)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes(), name


def test_the_script_refuses_another_text(tmp_path: Path):
    (tmp_path / "valid.txt").write_text("Once upon a time.", encoding="utf-8")
    found = subprocess.run([sys.executable, DATA / "make.py", tmp_path], capture_output=True, text=True, check=False)
    assert found.returncode != 0
    assert "not the text that these data sets are made from" in found.stderr
