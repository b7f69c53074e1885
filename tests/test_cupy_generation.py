"""`generate` by the replayed decoder: the kernels are emulated on a processor, where there is no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_emulation import use_emulated_kernels
from tiny_models import tiny, tokens

from minineo.classes import GPTNeoForCausalLM
from minineo.fast_cupy.decoding import can_decode, decoded
from minineo.generation import generate_steps

pytestmark = pytest.mark.emulation


@pytest.fixture(scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> list[int]:
    """How many steps the decoder was asked for, in each call that it did."""
    use_emulated_kernels(monkeypatch, _folder)
    steps: list[int] = []

    def counted(params: Any, config: Any, ids: Any, cache: Any, count: int, **sampling: Any) -> Any:
        steps.append(count)
        return decoded(params, config, ids, cache, count, **sampling)

    def decoder_for(params: Any, config: Any, length: int) -> Any:
        return counted if can_decode(params, config, length) else None

    monkeypatch.setattr("minineo.generation.replay.decoder_for", decoder_for)
    return steps


@pytest.mark.parametrize("prompt", [1, 5])
@pytest.mark.parametrize("options", [{"max_new_tokens": 9}, {"max_new_tokens": 9, "eos_token_id": None}, {}])
def test_greedy_search(prompt: int, options: dict[str, Any], calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(GPTNeoForCausalLM, "gl")
    ids = tokens(1, prompt).astype(np.int32)
    found = model.generate(ids, **options)
    assert len(calls) == 1
    monkeypatch.setattr("minineo.generation.replay.decoder_for", lambda *_: None)
    expected = model.generate(ids, **options)
    assert len(calls) == 1
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_an_end_token_ends_it(calls: list[int]) -> None:
    model = tiny(GPTNeoForCausalLM, "gl")
    ids = tokens(1, 3)
    tail = model.generate(ids, max_new_tokens=8, eos_token_id=None)[0, 3:].tolist()
    end = tail[3]
    found = model.generate(ids, max_new_tokens=8, eos_token_id=end)[0, 3:].tolist()
    assert found == tail[: tail.index(end) + 1]
    steps = [int(token[0]) for token in generate_steps(model, ids, max_new_tokens=8, eos_token_id=end)]
    assert steps == found
    assert calls == [8, 8, 8]


def test_sampling_is_decided_by_the_seed_and_keeps_to_top_k(calls: list[int]) -> None:
    model = tiny(GPTNeoForCausalLM, "gl")
    ids = tokens(1, 3)
    options = {"do_sample": True, "max_new_tokens": 12, "eos_token_id": None, "temperature": 2.0}
    texts = [model.generate(ids, seed=seed, **options).tolist() for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    greedy = model.generate(ids, max_new_tokens=12, eos_token_id=None)
    np.testing.assert_array_equal(model.generate(ids, top_k=1, seed=5, **options), greedy)
    assert len(calls) == 5


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 2},
        {"do_sample": True, "top_p": 0.5},
        {"do_sample": True, "num_return_sequences": 2},
        {"repetition_penalty": 1.5},
        {"no_repeat_ngram_size": 2},
        {"bad_words_ids": [[3]]},
        {"suppress_tokens": [3]},
        {"min_new_tokens": 3, "eos_token_id": 3},
        {"use_cache": False},
        {"logits_processor": [lambda ids, scores: scores]},
        {"stopping_criteria": [lambda ids, scores: False]},
        {"return_dict_in_generate": True, "output_scores": True},
        {"prompt_lookup_num_tokens": 2},
        {"edits": {"h.0.mlp.out": np.zeros_like}},
    ],
)
def test_what_it_cannot_do_is_done_by_the_search_of_all_libraries(options: dict[str, Any], calls: list[int]) -> None:
    model = tiny(GPTNeoForCausalLM, "gl", window_size=5)
    model.generate(tokens(1, 4), max_new_tokens=4, **options)
    assert calls == []


def test_several_texts_padding_and_other_models_are_not_for_it(calls: list[int]) -> None:
    model = tiny(GPTNeoForCausalLM, "gl")
    model.generate(tokens(2, 4), max_new_tokens=2)
    model.generate(tokens(1, 4), np.array([[0, 1, 1, 1]]), max_new_tokens=2)
    tiny(GPTNeoForCausalLM, "gl", dtype=np.float64).generate(tokens(1, 4), max_new_tokens=2)
    tiny(GPTNeoForCausalLM, "gl", activation_function="relu").generate(tokens(1, 4), max_new_tokens=2)
    assert calls == []
    model.generate(tokens(1, 4), np.ones((1, 4), np.int64), max_new_tokens=2)
    assert calls == [2]
