"""`generate` at the edges: where values come from, what a wrong one is told, prompts that look padded, start-up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import UserDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require
from generation_cases import random_model
from test_generation_oracle import twin

from minineo.classes import GPTNeoForCausalLM
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


class Encoding(UserDict[str, Any]):
    """What a tokenizer returns."""


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            Encoding(input_ids=PROMPT),
            r"received a Encoding, .* generate\(\*\*encoding\), or generate\(encoding.input_ids",
        ),
        ({"input_ids": PROMPT}, r"received a dict, .* generate\(\*\*encoding\)"),
        ("hello", "received a str of text, expected token ids.*or call minineo.generate, which takes text"),
        (["hello", "world"], "received a list of text, expected token ids.*or call minineo.generate"),
    ],
)
def test_prompts_that_are_no_arrays(prompt: Any, message: str) -> None:
    model = random_model(9)
    for call in (lambda: model.generate(prompt), lambda: model.generate(inputs=prompt)):
        with pytest.raises(TypeError, match=message):
            call()
    encoding = Encoding(input_ids=PROMPT, attention_mask=PROMPT * 0 + 1)
    np.testing.assert_array_equal(model.generate(**encoding), model.generate(PROMPT))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64, np.float32, list])
def test_masks_of_every_type(dtype: Any) -> None:
    """What the model takes, generate takes."""
    model = random_model(9)
    mask = np.array([[0, 1, 1], [1, 1, 1]])
    expected = model.generate(PROMPT, attention_mask=mask)
    assert not np.array_equal(expected, model.generate(PROMPT))
    given = mask.tolist() if dtype is list else mask.astype(dtype)
    np.testing.assert_array_equal(model.generate(PROMPT, attention_mask=given), expected)


def test_a_last_token_that_looks_like_padding() -> None:
    """An error says where the mask comes from. Hugging Face continues what is left without that token."""
    model = random_model(5, eos_token_id=3, pad_token_id=11)
    prompt = np.array([[5, 6, 11]])
    with pytest.raises(
        ValueError, match=r"No attention_mask was passed, .* pad_token_id \(11\) .* pass an attention_mask of on"
    ):
        model.generate(prompt)
    with pytest.raises(ValueError, match=r"tokenizer.padding_side = 'left'\.$"):
        model.generate(prompt, attention_mask=np.array([[1, 1, 0]]))
    same = random_model(5, eos_token_id=3, pad_token_id=3).generate(prompt)
    np.testing.assert_array_equal(model.generate(prompt, attention_mask=prompt * 0 + 1), same)


def test_a_beginning_token_is_no_padding() -> None:
    model = random_model(5, bos_token_id=1, pad_token_id=1, eos_token_id=3)
    np.testing.assert_array_equal(model.generate(), model.generate([[1]], attention_mask=[[1]]))
    with pytest.raises(ValueError, match="bos_token_id: received 50256, expected an id from 0 to 30, since it is the"):
        random_model(5, bos_token_id=50256).generate()


@pytest.mark.parametrize("end", [None, 3])
def test_beams_with_nothing_left_to_choose(end: int | None) -> None:
    """No token may come twice, and all have come: the prompt comes back, as from Hugging Face."""
    model = random_model(3, vocab_size=7, eos_token_id=None)
    prompt = np.array([[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0]])
    asked = {"num_beams": 2, "no_repeat_ngram_size": 1, "num_return_sequences": 2, "eos_token_id": end}
    output = model.generate(prompt, **asked, return_dict_in_generate=True, output_scores=True)
    np.testing.assert_array_equal(output.sequences, np.repeat(prompt, 2, axis=0))
    assert output.beam_indices.shape == (4, 0)
    np.testing.assert_array_equal(output.sequences_scores, np.full(4, -1e9, np.float32))
    np.testing.assert_array_equal(model.generate(prompt, **asked), output.sequences)


@pytest.mark.parametrize(("padding", "end", "fill"), [(None, 3, 3), (0, 3, 3), (29, 3, 29), (None, None, -1)])
def test_what_fills_beams_that_end_early(padding: int | None, end: int | None, fill: int) -> None:
    """As in Hugging Face: the padding token unless it is 0, else the end token, else -1."""
    model = random_model(10, eos_token_id=end, pad_token_id=padding)

    def first_row_first(ids: np.ndarray, scores: Any) -> np.ndarray:
        return (ids[:, 0] == PROMPT[0, 0]) & (ids.shape[1] >= 5)

    asked = {"max_new_tokens": 8, "num_beams": 2, "suppress_tokens": [3]}
    output = model.generate(PROMPT, stopping_criteria=first_row_first, **asked)
    assert output.shape == (2, 11)
    assert output[0, 5:].tolist() == [fill] * 6


FILES: list[dict[str, Any] | None] = [
    None,
    {"transformers_version": "5.23.0"},
    {"max_new_tokens": 25},
    {"eos_token_id": 2},
    {"eos_token_id": None, "pad_token_id": 5},
    {"bos_token_id": 1, "eos_token_id": [4, 6], "pad_token_id": 5, "min_length": 8},
]


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("content", FILES, ids=str)
def test_files_mean_what_they_mean_to_transformers(content: dict[str, Any] | None, tmp_path: Path) -> None:
    torch, transformers = require("torch"), require("transformers")
    random_model(10, eos_token_id=[2, 4, 6], pad_token_id=0).save_pretrained(tmp_path)
    if content is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(content))
    ours = GPTNeoForCausalLM.from_pretrained(tmp_path)
    theirs = transformers.GPTNeoForCausalLM.from_pretrained(tmp_path).eval()
    for more in ({}, {"max_new_tokens": 4}, {"num_beams": 3, "max_new_tokens": 30}, {"eos_token_id": 6}):
        expected = theirs.generate(torch.tensor(PROMPT), **more)
        np.testing.assert_array_equal(ours.generate(PROMPT, **more), expected.numpy())


@pytest.mark.oracle
def test_beams_with_nothing_left_are_those_of_transformers() -> None:
    torch = require("torch")
    model = random_model(3, vocab_size=7, eos_token_id=None)
    prompt = np.array([[0, 1, 2, 3, 4, 5, 6]])
    asked = {"num_beams": 2, "no_repeat_ngram_size": 1, "max_new_tokens": 5}
    asked |= {"return_dict_in_generate": True, "output_scores": True}
    ours, theirs = model.generate(prompt, **asked), twin(model).generate(torch.tensor(prompt), **asked)
    np.testing.assert_array_equal(ours.sequences, theirs.sequences.numpy())
    np.testing.assert_array_equal(ours.beam_indices, theirs.beam_indices.numpy())
    np.testing.assert_array_equal(ours.sequences_scores, theirs.sequences_scores.numpy())
