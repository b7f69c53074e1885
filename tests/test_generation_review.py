"""`generate` at the edges: where values come from, what a wrong one is told, prompts that look padded, start-up."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from generation_cases import random_model

from minineo.generation import generate, generate_steps

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


def test_special_tokens_of_a_generation_config_are_all_there_are() -> None:
    """A checkpoint with such a file has no end token that only its config.json names. A caller's does not count."""
    model = random_model(10, eos_token_id=[2, 4, 6])
    ends_early = model.generate(PROMPT, max_new_tokens=30)
    assert ends_early.shape[1] < 33
    np.testing.assert_array_equal(model.generate(PROMPT, generation_config={"max_new_tokens": 30}), ends_early)
    model.generation_config = {"max_new_tokens": 30}
    assert model.generate(PROMPT).shape[1] == 33
    with pytest.raises(ValueError, match="no bos_token_id to begin with"):
        model.generate()
    model.generation_config |= {"eos_token_id": [2, 4, 6]}
    np.testing.assert_array_equal(model.generate(PROMPT), ends_early)
    np.testing.assert_array_equal(model.generate(PROMPT, generation_config={"eos_token_id": None}), ends_early)
    assert model.generate(PROMPT, eos_token_id=None).shape[1] == 33


WRONG_VALUES: list[tuple[str, Any]] = [
    *(("pad_token_id", value) for value in ("x", [1], 1.0, True)),
    *(("eos_token_id", value) for value in ("x", [[1]], 5.0, True, {"a": 1})),
    *(("bos_token_id", value) for value in ("x", [1], 1.5, True)),
    *((name, value) for name in ("suppress_tokens", "begin_suppress_tokens") for value in ("x", 5, [31], [True])),
    *(("bad_words_ids", value) for value in ("x", [5], [[]], [[31]])),
    *(("stop_strings", value) for value in (5, [5], [""])),
    *(
        (name, "x")
        for name in ("logits_processor", "stopping_criteria", "streamer", "seed", "max_length", "min_length")
    ),
    *((name, "x") for name in ("do_sample", "num_beams", "use_cache", "early_stopping", "repetition_penalty")),
]


@pytest.mark.parametrize(("name", "value"), WRONG_VALUES, ids=str)
def test_a_wrong_value_is_named_with_where_it_comes_from(name: str, value: Any) -> None:
    model = random_model(9)

    def message(**arguments: Any) -> str:
        with pytest.raises((TypeError, ValueError)) as caught:
            model.generate(PROMPT, **arguments)
        return str(caught.value)

    named = f"{name}: received {value!r}, expected"
    assert message(**{name: value}).startswith(named)
    assert "comes from" not in message(**{name: value})
    preset = message(generation_config={name: value})
    assert preset.startswith(named)
    assert preset.endswith(f" {name} comes from the argument generation_config.")
    model.generation_config = {name: value}
    stored = message()
    assert stored.startswith(named)
    assert stored.endswith(f" {name} comes from the checkpoint's generation_config.json (model.generation_config).")


def test_a_wrong_stored_value_that_the_caller_replaces_is_no_matter() -> None:
    model = random_model(9)
    model.generation_config = {"pad_token_id": "x", "num_beams": 0, "max_new_tokens": "many"}
    assert model.generate(PROMPT, pad_token_id=0, num_beams=1, max_length=8).shape == (2, 8)


def test_a_sampling_value_counts_only_when_it_is_used() -> None:
    model = random_model(9)
    model.generation_config = {"temperature": "hot"}
    model.generate(PROMPT)
    with pytest.raises(
        ValueError, match=r"temperature: received 'hot', .* comes from the checkpoint's generation_conf"
    ):
        model.generate(PROMPT, do_sample=True)


def test_stored_lengths_that_do_not_fit_are_named() -> None:
    model = random_model(9)
    for stored, message in (
        (
            {"max_length": 3},
            r"max_length=3 counts the prompt, .* max_length comes from the checkpoint's generation_con",
        ),
        ({"max_new_tokens": 46}, r"46 new ones .* max_new_tokens comes from the checkpoint's generation_config\.json"),
        ({"max_length": 49}, r"46 new ones .* max_length comes from the checkpoint's generation_config\.json"),
    ):
        model.generation_config = stored
        with pytest.raises(ValueError, match=message):
            model.generate(PROMPT)


@pytest.mark.parametrize("stored", [{"min_length": 30}, {"min_new_tokens": 20}], ids=str)
def test_a_stored_minimum_does_not_forbid_a_short_call(stored: dict[str, int]) -> None:
    """It was meant for longer texts: there is no end token up to the length that is asked for."""
    model = random_model(10, eos_token_id=[2, 4, 6])
    free = model.generate(PROMPT, max_new_tokens=12)
    endless = model.generate(PROMPT, max_new_tokens=12, suppress_tokens=[2, 4, 6])
    assert not np.array_equal(free, endless)
    np.testing.assert_array_equal(model.generate(PROMPT, max_new_tokens=12, generation_config=stored), endless)
    model.generation_config = stored | {"eos_token_id": [2, 4, 6]}
    np.testing.assert_array_equal(model.generate(PROMPT, max_new_tokens=12), endless)
    with pytest.raises(ValueError, match=r"asks for at least .* at most 12 can come"):
        model.generate(PROMPT, max_new_tokens=12, **stored)


@pytest.mark.parametrize("num_beams", [0, -1, 1.0, True])
def test_beams_are_counted(num_beams: Any) -> None:
    for function in (generate, generate_steps):
        with pytest.raises(ValueError, match=f"num_beams: received {num_beams}, expected an int above 0"):
            function(random_model(9), PROMPT, num_beams=num_beams)
