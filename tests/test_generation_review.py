"""`generate` at the edges: where values come from, what a wrong one is told, prompts that look padded, start-up."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from generation_cases import random_model

from minineo.generation import generate_steps

PROMPT = np.array([[5, 6, 7], [8, 9, 10]])


def test_what_is_slow_to_import_is_imported_when_needed() -> None:
    program = (
        "import sys; from minineo import GPTNeoForCausalLM, GPT2Tokenizer, generate; "
        "print([name for name in ('tqdm', 'difflib') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [{}, {"num_beams": 2}, {"do_sample": True}], ids=str)
def test_progress_counts_the_tokens(arguments: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    model = random_model(9, eos_token_id=None)
    model.generate(PROMPT, max_new_tokens=7, **arguments)
    assert not capsys.readouterr().err
    model.generate(PROMPT, max_new_tokens=7, progress=True, **arguments)
    # beam search leaves its last step before the bar has counted it
    assert ("6/7" if "num_beams" in arguments else "7/7") in capsys.readouterr().err


def test_progress_of_single_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(generate_steps(random_model(9, eos_token_id=None), PROMPT, max_new_tokens=7, progress=True))) == 7
    assert "7/7" in capsys.readouterr().err


@pytest.mark.parametrize("num_beams", [1, 2])
def test_outputs_are_equal_to_themselves_only(num_beams: int) -> None:
    first, second = (
        random_model(9).generate(PROMPT, num_beams=num_beams, return_dict_in_generate=True) for _ in range(2)
    )
    assert first == first
    assert first != second
