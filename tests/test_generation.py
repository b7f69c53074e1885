"""`generate` without an oracle: frozen results of transformers, properties, the arguments and their errors."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import array_api_strict
import numpy as np
import pytest
from generation_cases import random_case, random_model, run

from minineo.classes import GPTNeoForCausalLM
from minineo.generation import GenerateBeamDecoderOnlyOutput, GenerateDecoderOnlyOutput, generate, generate_steps
from minineo.layers.softmax import log_softmax

GOLDEN = json.loads((Path(__file__).parent / "golden" / "generation.json").read_text())
PROMPT = np.array([[5, 6, 7], [8, 9, 10]])


class Spy:
    """A model that notes how it is called."""

    def __init__(self, model: GPTNeoForCausalLM) -> None:
        self.model, self.config, self.params = model, model.config, model.params
        self.calls: list[dict[str, Any]] = []

    def __call__(self, input_ids: np.ndarray, **rest: Any) -> Any:
        self.calls.append({"input_ids": input_ids} | rest)
        return self.model(input_ids, **rest)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['seed']}-{'beams' if 'beam_indices' in case else ''}")
def test_frozen_results_of_transformers(case: dict[str, Any]) -> None:
    output = run(random_model(case["seed"], **case["fields"]), case, return_dict_in_generate=True, output_scores=True)
    np.testing.assert_array_equal(output.sequences, case["sequences"])
    assert len(output.scores) == case["steps"]
    if "beam_indices" in case:
        np.testing.assert_array_equal(output.beam_indices, case["beam_indices"])
        np.testing.assert_allclose(output.sequences_scores, case["sequences_scores"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("beams", [False, True], ids=["greedy", "beams"])
def test_every_array_library_gives_the_same_tokens(beams: bool) -> None:
    """array_api_strict's second device refuses hidden NumPy and everything that is not in the standard."""
    device = array_api_strict.Device("device1")
    for seed in range(6):
        case = random_case(seed, beams)
        model = random_model(seed, **case["fields"])
        strict = GPTNeoForCausalLM(
            model.config, {name: array_api_strict.asarray(value, device=device) for name, value in model.params.items()}
        )
        ids = array_api_strict.asarray(np.array(case["input_ids"]), device=device)
        mask = case["attention_mask"]
        mask = None if mask is None else array_api_strict.asarray(np.array(mask), device=device)
        sampling = {"do_sample": True, "seed": 1, "temperature": 0.7, "top_p": 0.8, "min_p": 0.01, "typical_p": 0.9}
        for more in ({}, sampling | {"epsilon_cutoff": 1e-3, "eta_cutoff": 1e-3}):
            output = strict.generate(ids, attention_mask=mask, **(case["arguments"] | more))
            assert output.device == device
            on_host = np.asarray(array_api_strict.asarray(output, device=array_api_strict.Device("CPU_DEVICE")))
            np.testing.assert_array_equal(on_host, run(model, case, **more))


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("padding", [0, 1, 3, 8])
def test_padding_changes_nothing(padding: int, num_beams: int) -> None:
    """Neither the positions nor the mask nor the repetition penalty may notice it."""
    model = random_model(5, eos_token_id=None, window_size=3)
    text = np.array([[5, 6, 7, 8]])
    padded = np.concatenate([np.full((1, padding), 11), text], axis=1)
    mask = np.concatenate([np.zeros((1, padding), int), np.ones_like(text)], axis=1)
    arguments = {
        "max_new_tokens": 12,
        "num_beams": num_beams,
        "repetition_penalty": 1.5,
        "return_dict_in_generate": True,
    }
    alone = model.generate(text, **arguments, output_logits=True)
    together = model.generate(padded, attention_mask=mask, **arguments, output_logits=True)
    np.testing.assert_array_equal(together.sequences[:, padding:], alone.sequences)
    for a, b in zip(alone.logits, together.logits, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(a).max())


def test_the_cache_changes_nothing_on_a_padded_batch() -> None:
    model = random_model(6, window_size=3)
    ids, mask = np.array([[3, 3, 5, 6], [7, 8, 9, 10]]), np.array([[0, 0, 1, 1], [1, 1, 1, 1]])
    arguments = {"attention_mask": mask, "max_new_tokens": 15, "return_dict_in_generate": True, "output_scores": True}
    cached, uncached = (model.generate(ids, **arguments, use_cache=use_cache) for use_cache in (True, False))
    np.testing.assert_array_equal(cached.sequences, uncached.sequences)
    for a, b in zip(cached.scores, uncached.scores, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(a).max())
    assert cached.past_key_values.length == cached.sequences.shape[1] - 1
    assert uncached.past_key_values is None


def test_rows_are_independent() -> None:
    model = random_model(10, eos_token_id=[2, 4, 6])
    together = model.generate(PROMPT, max_new_tokens=15)
    for prompt, row in zip(PROMPT, together, strict=True):
        alone = model.generate(prompt[None], max_new_tokens=15)[0]
        np.testing.assert_array_equal(row[: len(alone)], alone)
        assert set(row[len(alone) :]) <= {2}  # the first end token is the padding


def test_what_the_model_is_given() -> None:
    """The prompt once for all samples, then one token at a time, with positions that skip the padding."""
    spy = Spy(random_model(8, eos_token_id=None))
    ids, mask = np.array([[0, 0, 5], [7, 8, 9]]), np.array([[0, 0, 1], [1, 1, 1]])
    generate(spy, ids, attention_mask=mask, do_sample=True, num_return_sequences=2, max_new_tokens=3, seed=0)
    assert [call["input_ids"].shape for call in spy.calls] == [(2, 3), (4, 1), (4, 1)]
    np.testing.assert_array_equal(spy.calls[0]["position_ids"], [[0, 0, 0], [0, 1, 2]])
    np.testing.assert_array_equal(spy.calls[1]["position_ids"], [[1], [1], [3], [3]])
    np.testing.assert_array_equal(spy.calls[2]["position_ids"], [[2], [2], [4], [4]])
    np.testing.assert_array_equal(spy.calls[2]["attention_mask"], [[0, 0, 1, 1, 1]] * 2 + [[1] * 5] * 2)
    assert all(call["logits_to_keep"] == 1 for call in spy.calls)


def test_defaults(capfd: pytest.CaptureFixture[str]) -> None:
    """20 new tokens, greedy, shortened to what the model holds; nothing is printed and nothing is changed."""
    model = random_model(9, eos_token_id=None)
    before = PROMPT.copy()
    output = model.generate(PROMPT)
    assert output.shape == (2, 23)
    assert output.dtype == np.int64
    np.testing.assert_array_equal(output[:, :3], before)
    np.testing.assert_array_equal(PROMPT, before)
    assert model.generate(np.ones((1, 40), int)).shape == (1, 48)
    np.testing.assert_array_equal(model.generate(inputs=PROMPT), output)
    np.testing.assert_array_equal(model.generate(PROMPT.tolist()), output)
    assert model.generate()[0, 0] == model.config.bos_token_id
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
def test_ids_keep_their_type(dtype: type) -> None:
    model = random_model(9)
    for arguments in ({}, {"num_beams": 2}, {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2}):
        output = model.generate(PROMPT.astype(dtype), **arguments)
        assert output.dtype == dtype
        np.testing.assert_array_equal(output, model.generate(PROMPT, **arguments))
    assert next(generate_steps(model, PROMPT.astype(dtype))).dtype == dtype


def test_lengths() -> None:
    model = random_model(9, eos_token_id=None)
    assert model.generate(PROMPT, max_length=10).shape == (2, 10)  # counts the prompt
    assert model.generate(PROMPT, max_new_tokens=10).shape == (2, 13)  # does not
    assert model.generate(PROMPT, max_length=10, max_new_tokens=4).shape == (2, 7)  # wins
    assert model.generate(PROMPT, max_length=48).shape == (2, 48)


@pytest.mark.parametrize("asked", [{"min_new_tokens": 6}, {"min_length": 9}, {"min_length": 0, "min_new_tokens": 6}])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_minimum_lengths(asked: dict[str, int], num_beams: int) -> None:
    """No end token among the first six, though the model wants nothing else; one right after."""
    model = random_model(9, vocab_size=31, eos_token_id=[4, 5])

    def end_now(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return scores + 100 * np.isin(np.arange(31), [4, 5]).astype(scores.dtype)

    new = model.generate(PROMPT, num_beams=num_beams, logits_processor=end_now, **asked)[:, 3:]
    assert new.shape == (2, 7)
    assert not np.isin(new[:, :6], [4, 5]).any()
    assert np.isin(new[:, 6], [4, 5]).all()


def test_a_row_that_has_ended_is_padded() -> None:
    model = random_model(10, eos_token_id=[2, 4, 6])
    output = model.generate(PROMPT, max_new_tokens=30, pad_token_id=29)
    ends = [int(np.argmax(np.isin(row[3:], [2, 4, 6]))) + 3 for row in output]
    assert ends[0] != ends[1]  # else this shows nothing
    assert max(ends) == output.shape[1] - 1
    for row, end in zip(output, ends, strict=True):
        assert (row[end + 1 :] == 29).all()


def test_an_explicit_none_is_no_end_token() -> None:
    model = random_model(10, eos_token_id=[2, 4, 6])
    assert model.generate(PROMPT, max_new_tokens=30).shape[1] < 33
    assert model.generate(PROMPT, max_new_tokens=30, eos_token_id=None).shape[1] == 33


def test_stored_defaults_yield_to_the_caller() -> None:
    model = random_model(9, eos_token_id=None)
    model.generation_config = {"max_new_tokens": 4, "transformers_version": "5.23.0", "pad_token_id": None}
    assert model.generate(PROMPT).shape == (2, 7)
    assert model.generate(PROMPT, max_new_tokens=5).shape == (2, 8)
    assert model.generate(PROMPT, max_length=9).shape == (2, 9)
    assert model.generate(PROMPT, generation_config={"max_new_tokens": 6}).shape == (2, 9)
    assert model.generate(PROMPT, generation_config={"max_new_tokens": 6}, max_new_tokens=7).shape == (2, 10)


def test_masks_that_follow_from_the_padding_token() -> None:
    """As in Hugging Face: padding is masked if the padding token has no other meaning."""
    model = random_model(5, eos_token_id=3, pad_token_id=11)
    padded = np.array([[11, 11, 5, 6], [5, 6, 7, 8]])
    mask = np.array([[0, 0, 1, 1], [1, 1, 1, 1]])
    masked, unmasked = model.generate(padded, attention_mask=mask), model.generate(padded, attention_mask=mask * 0 + 1)
    assert not np.array_equal(masked, unmasked)
    np.testing.assert_array_equal(model.generate(padded), masked)
    np.testing.assert_array_equal(model.generate(padded, pad_token_id=3), unmasked)
    np.testing.assert_array_equal(model.generate(padded, attention_mask=mask.astype(bool)), masked)
    ends = np.where(mask == 1, padded, 3)  # padded with the end token, which may be text
    unmasked = model.generate(ends, attention_mask=mask * 0 + 1, pad_token_id=3)
    assert not np.array_equal(unmasked, model.generate(ends, attention_mask=mask, pad_token_id=3))
    np.testing.assert_array_equal(model.generate(ends, pad_token_id=3), unmasked)


def test_steps_are_the_columns_of_generate() -> None:
    model = random_model(10, eos_token_id=[2, 4, 6])
    for arguments in ({}, {"do_sample": True, "seed": 3, "num_return_sequences": 2}):
        steps = list(generate_steps(model, PROMPT, **arguments))
        np.testing.assert_array_equal(np.stack(steps, axis=1), model.generate(PROMPT, **arguments)[:, 3:])


def test_steps_come_one_by_one_and_are_checked_at_once() -> None:
    spy = Spy(random_model(7, eos_token_id=None))
    steps = generate_steps(spy, PROMPT)
    assert not spy.calls
    next(steps)
    assert len(spy.calls) == 1
    for wrong, error, message in (
        ({"temperatur": 1.0}, TypeError, "temperature"),
        ({"num_beams": 2}, ValueError, "num_beams: beam search"),
        ({"streamer": object()}, TypeError, "streamer: "),
        ({"max_new_tokens": 100}, ValueError, "48 positions"),
    ):
        with pytest.raises(error, match=message):
            generate_steps(spy, PROMPT, **wrong)
    assert len(spy.calls) == 1


def test_streamer() -> None:
    """First the prompt, then each step's tokens, then the end."""
    events: list[Any] = []

    class Streamer:
        def put(self, value: np.ndarray) -> None:
            events.append(value)

        def end(self) -> None:
            events.append("end")

    model = random_model(10, eos_token_id=[2, 4, 6])
    output = model.generate(PROMPT, do_sample=True, num_return_sequences=2, seed=0, streamer=Streamer())
    assert events.pop() == "end"
    np.testing.assert_array_equal(events[0], np.repeat(PROMPT, 2, axis=0))
    np.testing.assert_array_equal(np.stack(events[1:], axis=1), output[:, 3:])


def test_seeds() -> None:
    model = random_model(9, eos_token_id=None)

    def sample(seed: Any) -> list[list[int]]:
        return model.generate(PROMPT, do_sample=True, seed=seed).tolist()

    assert sample(1) == sample(1) == sample(np.int64(1)) == sample(np.random.default_rng(1))
    assert sample(1) != sample(2)
    assert sample(None) != sample(None)
    shared = np.random.default_rng(1)
    assert sample(shared) == sample(1)
    assert sample(shared) != sample(1)  # it goes on where it was
    hot = {"do_sample": True, "temperature": 3.0, "num_beams": 3}
    beams = [model.generate(PROMPT, **hot, seed=seed).tolist() for seed in (1, 1, 2)]
    assert beams[0] == beams[1] != beams[2]


def test_processors_of_the_callers_own() -> None:
    """They come after ours and before the filters, one after the other, on what the text is so far."""
    model = random_model(9, eos_token_id=None)
    seen: list[np.ndarray] = []

    def only_odd(input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        seen.append(input_ids)
        assert np.isneginf(scores[:, 1]).all()  # ours came first
        return np.where(np.arange(scores.shape[1]) % 2 == 1, scores, -np.inf).astype(scores.dtype)

    def only_large(input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        assert np.isneginf(scores[:, 0]).all()  # the first one came before
        return np.where(np.arange(scores.shape[1]) >= 20, scores, -np.inf).astype(scores.dtype)

    for arguments in ({}, {"do_sample": True, "top_k": 3}, {"num_beams": 3}):
        seen.clear()
        output = model.generate(
            PROMPT, logits_processor=[only_odd, only_large], suppress_tokens=[1], max_new_tokens=6, seed=0, **arguments
        )
        assert set(output[:, 3:].flat) <= {21, 23, 25, 27, 29}
        assert [ids.shape[1] for ids in seen] == [3, 4, 5, 6, 7, 8]
    model.generate(PROMPT, logits_processor=lambda ids, scores: scores)
    with pytest.raises(ValueError, match="expected the scores"):
        model.generate(PROMPT, logits_processor=lambda ids, scores: None)


def test_stopping_criteria_of_the_callers_own() -> None:
    model = random_model(7)
    plain = model.generate(PROMPT, eos_token_id=None)
    until_8 = model.generate(PROMPT, eos_token_id=None, stopping_criteria=lambda ids, scores: ids.shape[1] >= 8)
    np.testing.assert_array_equal(until_8, plain[:, :8])
    scores_seen: list[Any] = []

    def each_row(ids: np.ndarray, scores: Any) -> np.ndarray:
        scores_seen.append(scores)
        return np.array([ids.shape[1] >= 5, ids.shape[1] >= 7])

    kept = {"return_dict_in_generate": True, "output_scores": True}
    output = model.generate(PROMPT, pad_token_id=0, stopping_criteria=[each_row], **kept).sequences
    assert output.shape == (2, 7)
    assert (output[0, 5:] == 0).all()
    assert [len(scores) for scores in scores_seen] == [1, 2, 3, 4]


def test_outputs() -> None:
    model = random_model(9, eos_token_id=None)
    asked = {"max_new_tokens": 4, "return_dict_in_generate": True}
    output = model.generate(PROMPT, **asked)
    assert isinstance(output, GenerateDecoderOnlyOutput)
    assert list(output.keys()) == ["sequences", "past_key_values"]
    output = model.generate(PROMPT, **asked, output_scores=True, output_logits=True, suppress_tokens=[4])
    assert output[0] is output["sequences"] is output.sequences
    assert [scores.shape for scores in output.scores] == [(2, 31)] * 4
    for scores, logits in zip(output.scores, output.logits, strict=True):
        assert np.isneginf(scores[:, 4]).all()
        assert np.isfinite(logits[:, 4]).all()
        np.testing.assert_array_equal(np.delete(scores, 4, axis=1), np.delete(logits, 4, axis=1))
    output = model.generate(PROMPT, **asked, num_beams=3, num_return_sequences=2, output_scores=True)
    assert isinstance(output, GenerateBeamDecoderOnlyOutput)
    assert list(output.keys()) == ["sequences", "sequences_scores", "scores", "beam_indices", "past_key_values"]
    assert output.sequences.shape == (4, 7)
    assert [scores.shape for scores in output.scores] == [(6, 31)] * 4
    assert "sequences_scores" not in model.generate(PROMPT, **asked, num_beams=3)


def test_scores_of_16_bit_models_are_widened() -> None:
    model = random_model(9)
    half = GPTNeoForCausalLM(model.config, {name: value.astype(np.float16) for name, value in model.params.items()})
    output = half.generate(PROMPT, return_dict_in_generate=True, output_scores=True, output_logits=True)
    assert {array.dtype for array in output.scores + output.logits} == {np.dtype(np.float32)}


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -0.5])
def test_wide_beams_find_the_best_of_all_texts(length_penalty: float) -> None:
    """Of every text of up to three tokens, ended by token 3 or not, scored one by one."""
    model = random_model(11, vocab_size=5, eos_token_id=3)
    prompt = [1, 2]
    texts = [list(text) for text in itertools.product(range(5), repeat=3) if 3 not in text[:2]]
    texts += [[3], *([a, 3] for a in range(5) if a != 3)]
    scores = []
    for text in texts:
        log_probabilities = log_softmax(model(np.array([prompt + text])).logits[0].astype(np.float64))
        total = sum(log_probabilities[len(prompt) - 1 + i, token] for i, token in enumerate(text))
        scores.append(total / len(text) ** length_penalty)
    order = np.argsort(scores)[::-1]
    output = model.generate(
        np.array([prompt]),
        max_new_tokens=3,
        num_beams=100,
        num_return_sequences=6,
        length_penalty=length_penalty,
        early_stopping="never",
        return_dict_in_generate=True,
        output_scores=True,
    )
    expected = [(prompt + texts[i] + [3, 3])[:5] for i in order[:6]]
    assert output.sequences.tolist() == expected
    np.testing.assert_allclose(output.sequences_scores, np.array(scores)[order[:6]], rtol=1e-5)


def test_when_beam_search_stops() -> None:
    """True: with the first num_beams endings. False: when the beams look worse than those. "never": when they must be.

    Where length is punished no beam gets better by growing, so that "never" means False.
    """

    def steps(seed: int, **arguments: Any) -> int:
        model = random_model(seed, eos_token_id=[2, 4, 6])
        asked = {"max_new_tokens": 30, "return_dict_in_generate": True, "output_scores": True}
        return len(model.generate(PROMPT, num_beams=3, **asked, **arguments).scores)

    at_once, usual, never = (
        np.array([steps(seed, early_stopping=early) for seed in range(12)]) for early in (True, False, "never")
    )
    assert (at_once <= usual).all()
    assert (usual <= never).all()
    assert (at_once < usual).any()
    assert (usual < never).any()
    for seed in range(12):
        counts = {steps(seed, early_stopping=early, length_penalty=-1.0) for early in (False, "never")}
        assert len(counts) == 1


def test_progress_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    random_model(9).generate(PROMPT, progress=True)
    out, err = capfd.readouterr()
    assert not out
    assert "token" in err


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"temperatur": 1.0}, TypeError, "'temperatur'. Did you mean 'temperature'"),
    ({"max_tokens": 5}, TypeError, "Did you mean 'max_new_tokens'"),
    ({"attention_masks": None}, TypeError, "Did you mean 'attention_mask'"),
    ({"zzzz": 1}, TypeError, "The arguments are: max_length"),
    ({"max_length": 0}, ValueError, "max_length: received 0, expected an int above 0"),
    ({"max_length": 3}, ValueError, "max_length=3 counts the prompt, which has 3 tokens"),
    ({"max_new_tokens": 0}, ValueError, "max_new_tokens: received 0"),
    ({"max_new_tokens": 2.0}, ValueError, "max_new_tokens: received 2.0"),
    ({"max_new_tokens": True}, ValueError, "max_new_tokens: received True"),
    ({"max_new_tokens": 46}, ValueError, "prompt has 3 tokens and 46 new ones .* 48 positions"),
    ({"max_length": 49}, ValueError, "prompt has 3 tokens and 46 new ones .* 48 positions"),
    ({"min_length": -1}, ValueError, "min_length: received -1"),
    ({"min_new_tokens": 21}, ValueError, "at least 21 new tokens after a prompt of 3, but at most 20"),
    ({"min_length": 30}, ValueError, "at least 27 new tokens"),
    ({"do_sample": "yes"}, ValueError, "do_sample: received 'yes', expected True or False"),
    ({"do_sample": True, "temperature": 0.0}, ValueError, "temperature: received 0.0, .*pass do_sample=False"),
    ({"do_sample": True, "temperature": -1}, ValueError, "temperature: received -1"),
    ({"do_sample": True, "temperature": float("nan")}, ValueError, "temperature: received nan"),
    ({"do_sample": True, "temperature": "hot"}, ValueError, "temperature: received 'hot'"),
    ({"do_sample": True, "top_k": -1}, ValueError, "top_k: received -1"),
    ({"do_sample": True, "top_k": 2.5}, ValueError, "top_k: received 2.5"),
    ({"do_sample": True, "top_p": 0.0}, ValueError, "top_p: received 0.0"),
    ({"do_sample": True, "top_p": 1.1}, ValueError, "top_p: received 1.1"),
    ({"do_sample": True, "min_p": 1.1}, ValueError, "min_p: received 1.1"),
    ({"do_sample": True, "typical_p": 0.0}, ValueError, "typical_p: received 0.0"),
    ({"do_sample": True, "epsilon_cutoff": 1.0}, ValueError, "epsilon_cutoff: received 1.0"),
    ({"do_sample": True, "eta_cutoff": -0.1}, ValueError, "eta_cutoff: received -0.1"),
    ({"repetition_penalty": 0.0}, ValueError, "repetition_penalty: received 0.0"),
    ({"no_repeat_ngram_size": -1}, ValueError, "no_repeat_ngram_size: received -1"),
    ({"num_beams": 0}, ValueError, "num_beams: received 0"),
    ({"num_beams": 2, "early_stopping": "always"}, ValueError, "early_stopping: received 'always'"),
    ({"num_beams": 2, "length_penalty": float("inf")}, ValueError, "length_penalty: received inf"),
    ({"num_return_sequences": 2}, ValueError, "num_return_sequences: received 2, but greedy search finds one"),
    ({"num_beams": 2, "num_return_sequences": 3}, ValueError, "num_return_sequences: received 3, .* num_beams"),
    ({"num_beams": 2, "streamer": SimpleNamespace(put=print, end=print)}, ValueError, "streamer: beam search"),
    ({"eos_token_id": "end"}, ValueError, "eos_token_id: received"),
    ({"pad_token_id": 31}, ValueError, "pad_token_id: received 31, expected ids from 0 to 30"),
    ({"suppress_tokens": [31]}, ValueError, "suppress_tokens: received"),
    ({"bad_words_ids": [5]}, ValueError, "bad_words_ids: received"),
    ({"bad_words_ids": [[]]}, ValueError, "bad_words_ids: received"),
    ({"stop_strings": "x"}, ValueError, "stop_strings: .*pass tokenizer="),
    ({"stop_strings": [""]}, ValueError, "stop_strings: received"),
    ({"stop_strings": 5}, TypeError, "stop_strings: received 5"),
    ({"logits_processor": 5}, TypeError, "logits_processor: received 5"),
    ({"stopping_criteria": [5]}, TypeError, "stopping_criteria: received"),
    ({"seed": "one"}, TypeError, "seed: received 'one'"),
    ({"seed": True}, TypeError, "seed: received True"),
    ({"seed": -1}, ValueError, "seed: received -1"),
    (
        {"attention_mask": np.ones((2, 4), int)},
        ValueError,
        r"attention_mask: received shape \(2, 4\), expected \(2, 3\)",
    ),
    ({"attention_mask": np.full((2, 3), 2)}, ValueError, "attention_mask: received 2, expected 1 at tokens and 0 at"),
    ({"attention_mask": np.full((2, 3), -np.inf)}, ValueError, "attention_mask: received -inf, expected 1 at tokens"),
    ({"attention_mask": np.ones((2, 3), complex)}, TypeError, "attention_mask: received dtype complex128"),
    ({"attention_mask": np.array([[1, 1, 0], [1, 1, 1]])}, ValueError, "ends with padding.*padding_side"),
]


@pytest.mark.parametrize(
    ("arguments", "error", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else ""
)
def test_wrong_arguments_are_named_before_any_work(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    spy = Spy(random_model(9))
    with pytest.raises(error, match=message):
        generate(spy, PROMPT, **arguments)
    assert not spy.calls


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        (np.array([5, 6]), ValueError, r"shape \(2,\), .*For one prompt pass \[ids\]"),
        ([5, 6], ValueError, r"pass \[ids\]"),
        (np.zeros((1, 0), int), ValueError, "at least one token"),
        (np.zeros((0, 3), int), ValueError, "at least one token"),
        ([[]], (ValueError, TypeError), "input_ids"),
        ([[1, 2], [3]], ValueError, "rows differ in length. Pad"),
        (np.array([[1.0]]), TypeError, "dtype float64, expected integers"),
        (np.array([[31]]), ValueError, "received 31, expected 0 ... 30"),
        (np.array([[-1]]), ValueError, "received -1, expected 0 ... 30"),
        ("text", TypeError, "input_ids: received a str"),
        (array_api_strict.asarray([[1]]), TypeError, "Convert one to the other"),
        (np.ones((1, 48), int), ValueError, "prompt alone has 48 tokens, .* 48 positions .* at least 1 must be left"),
        (np.ones((1, 60), int), ValueError, "prompt alone has 60 tokens, .* 48 positions .* at least 1 must be left"),
    ],
)
def test_wrong_prompts_are_named_before_any_work(prompt: Any, error: type[Exception], message: str) -> None:
    spy = Spy(random_model(9))
    with pytest.raises(error, match=message):
        generate(spy, prompt)
    assert not spy.calls


def test_ids_must_fit_their_type() -> None:
    model = random_model(9, vocab_size=300)
    with pytest.raises(TypeError, match="uint8, which cannot hold"):
        model.generate(np.array([[5]], dtype=np.uint8))


def test_no_prompt_and_nothing_to_begin_with() -> None:
    with pytest.raises(ValueError, match="no bos_token_id to begin with"):
        random_model(9, bos_token_id=None).generate()


def test_greedy_search_ignores_what_shapes_sampling() -> None:
    """A stored temperature, even 0, need not be unset to search greedily."""
    model = random_model(9)
    np.testing.assert_array_equal(model.generate(PROMPT, temperature=0.0, top_p=0.0), model.generate(PROMPT))


def test_old_files_and_small_vocabularies() -> None:
    """An end token that cannot come ends nothing and pads nothing."""
    for eos in (-1, 50256, [50256, -1]):
        model = random_model(9, eos_token_id=eos, pad_token_id=-1)
        none = random_model(9, eos_token_id=None)
        for arguments in ({}, {"num_beams": 2}):
            np.testing.assert_array_equal(model.generate(PROMPT, **arguments), none.generate(PROMPT, **arguments))
