"""Speculative decoding is exact: the text of plain greedy search, the distribution of plain sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import require
from generation_cases import is_decided, random_case, random_model, run
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generation_sampling import assert_fits, probabilities_of

import minineo
from minineo.classes import GPTNeoForCausalLM
from minineo.fast import cache as fast
from minineo.generation import generate_steps
from minineo.generation.speculative import accept_or_replace, prompt_lookup
from minineo.model import cache as reference

OUTPUTS = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}


def one_row(seed: int) -> dict[str, Any]:
    """A random case of one prompt, maybe padded on the left, with the cache on."""
    case = random_case(seed, beams=False)
    case["arguments"].pop("use_cache", None)
    mask = case["attention_mask"]
    return case | {"input_ids": case["input_ids"][-1:], "attention_mask": None if mask is None else mask[-1:]}


def other_model(model: GPTNeoForCausalLM, seed: int, noise: float) -> GPTNeoForCausalLM:
    """A model that mostly agrees: the same parameters, disturbed."""
    random = np.random.default_rng(seed)
    params = {
        name: value * (1 + noise * random.standard_normal(value.shape)).astype(value.dtype)
        for name, value in model.params.items()
    }
    return GPTNeoForCausalLM(model.config, params)


def assert_same(found: Any, plain: Any) -> None:
    """Tokens, scores, logits and the cache."""
    np.testing.assert_array_equal(found.sequences, plain.sequences)
    for name in ("scores", "logits"):
        assert len(found[name]) == len(plain[name])
        for ours, theirs in zip(found[name], plain[name], strict=True):
            finite = np.isfinite(theirs)
            np.testing.assert_array_equal(np.isfinite(ours), finite)
            largest = np.abs(theirs[finite]).max(initial=1)
            np.testing.assert_allclose(ours[finite], theirs[finite], rtol=0, atol=1e-5 * largest)
    assert found.past_key_values.length == plain.past_key_values.length
    for layer, expected in zip(found.past_key_values, plain.past_key_values, strict=True):
        for ours, theirs in zip(layer, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max(initial=1))


@pytest.mark.parametrize("layers", ["fast", "reference"])
@pytest.mark.parametrize("block", range(5))
def test_greedy_search_is_the_same(block: int, layers: str, request: pytest.FixtureRequest) -> None:
    """On random models, with every processor, end tokens, shortest lengths, and left padding."""
    if layers == "reference":
        request.getfixturevalue("reference")
    for seed in range(40 * block + 20 * (layers == "reference"), 40 * block + 20 * (layers == "reference") + 20):
        case = one_row(seed)
        model = random_model(seed, **case["fields"])
        plain = run(model, case, **OUTPUTS)
        smaller = random_model(seed + 1000, **(case["fields"] | {"window_size": 1 + seed % 5, "hidden_size": 12}))
        for speculation in (
            {"prompt_lookup_num_tokens": 1 + seed % 7, "max_matching_ngram_size": 1 + seed % 3},
            {"assistant_model": smaller, "num_assistant_tokens": 1 + seed % 6, "assistant_confidence_threshold": 0.0},
            {"assistant_model": other_model(model, seed, 0.05), "num_assistant_tokens": 5},
        ):
            try:
                assert_same(run(model, case, **OUTPUTS, **speculation), plain)
            except AssertionError as error:
                if is_decided(model, case):
                    raise AssertionError(case, speculation) from error


@pytest.mark.parametrize("seed", range(12))
def test_sampling_after_prompt_lookup_draws_the_same_text(seed: int) -> None:
    """Not only with the same probabilities: with the same random numbers."""
    case = one_row(seed)
    model = random_model(seed, **case["fields"])
    drawn = {"do_sample": True, "temperature": 0.7, "top_k": 5, "top_p": 0.9, "seed": seed}
    found = run(model, case, **OUTPUTS, **drawn, prompt_lookup_num_tokens=6, max_matching_ngram_size=1)
    assert_same(found, run(model, case, **OUTPUTS, **drawn))


@pytest.mark.parametrize(
    ("noise", "arguments"),
    [
        (0.4, {"num_assistant_tokens": 3, "assistant_confidence_threshold": 0.0}),
        (0.4, {"num_assistant_tokens": 2, "assistant_confidence_threshold": 0.5}),
        (0.2, {"num_assistant_tokens": 1, "top_k": 2, "temperature": 1.5}),
        (0.2, {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "top_p": 0.9}),
    ],
)
def test_sampling_with_an_assistant_has_the_same_distribution(noise: float, arguments: dict[str, Any]) -> None:
    """Of four tokens together, so that what follows an accepted or a replaced draft counts, too."""
    V, count, draws = 3, 4, 2500
    model = random_model(5, vocab_size=V, hidden_size=6, eos_token_id=None, window_size=8, bos_token_id=0)
    assistant = other_model(model, 1, noise)
    ids = np.array([[1, 2]])
    plain = {name: value for name, value in arguments.items() if "assistant" not in name} | {"do_sample": True}
    random = np.random.default_rng(0)
    found = np.zeros((V,) * count)
    for _ in range(draws):
        asked = arguments | plain | {"assistant_model": assistant, "max_new_tokens": count, "seed": random}
        tokens = model.generate(ids, **asked)
        found[tuple(tokens[0, 2:])] += 1
    assert_fits(found, joint_distribution(model, ids, plain, count))


def joint_distribution(model: GPTNeoForCausalLM, ids: np.ndarray, arguments: dict[str, Any], count: int) -> np.ndarray:
    """Probabilities of all texts of `count` tokens, from the scores that plain generation reports."""
    prefixes: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(count):
        longer: dict[tuple[int, ...], float] = {}
        for prefix, probability in prefixes.items():
            text = np.concatenate([ids, np.array([prefix], ids.dtype).reshape(1, -1)], axis=1)
            output = model.generate(text, **(arguments | {"max_new_tokens": 1}), **OUTPUTS, seed=0)
            for token, share in enumerate(probabilities_of(output.scores[0][0])):
                if share > 0:
                    longer[*prefix, token] = probability * share
        prefixes = longer
    probabilities = np.zeros((model.config.vocab_size,) * count)
    for tokens, probability in prefixes.items():
        probabilities[tokens] = probability
    return probabilities


@pytest.mark.parametrize("seed", range(3))
def test_a_draft_is_accepted_or_replaced_so_that_the_distribution_is_the_models(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, draft_scores = 2.0 * random.standard_normal((2, 1, 7)).astype(np.float32)
    scores[0, 0], draft_scores[0, 1] = -np.inf, -np.inf  # impossible for one, possible for the other
    p, q = probabilities_of(scores[0]), probabilities_of(draft_scores[0])
    counts, accepted = np.zeros(7), 0
    for draft in random.choice(7, size=20_000, p=q):
        token = int(accept_or_replace(scores, np.array([draft]), draft_scores, random)[0])
        counts[token] += 1
        accepted += token == draft
    assert_fits(counts, p)
    # as often as is possible at all: the overlap of the two distributions
    assert_fits(np.array([accepted, 20_000 - accepted]), np.array([np.minimum(p, q).sum(), 1 - np.minimum(p, q).sum()]))


def test_drafts_of_the_models_own_distribution_are_all_accepted() -> None:
    scores, random = np.random.default_rng(0).standard_normal((1, 50)).astype(np.float32), np.random.default_rng(1)
    assert all(accept_or_replace(scores, np.array([i % 50]), scores, random)[0] == i % 50 for i in range(2000))


def test_prompt_lookup() -> None:
    ids = np.array([[5, 1, 2, 3, 9, 1, 2, 4, 7, 2, 8, 1, 2]])
    assert prompt_lookup(ids, 3, 2).tolist() == [[3, 9, 1]]  # after the first "1 2"
    assert prompt_lookup(ids, 99, 2).shape == (1, 10)
    assert prompt_lookup(ids, 3, 1).tolist() == [[3, 9, 1]]
    assert prompt_lookup(ids, 3, 3).tolist() == [[3, 9, 1]]  # "8 1 2" is new, "1 2" is not
    assert prompt_lookup(ids[:, :-1], 2, 2).tolist() == [[2, 3]]  # "8 1" is new, "1" is not
    assert prompt_lookup(ids, 5, 2, ends=[1, 9]).tolist() == [[3]]
    assert prompt_lookup(ids[:, :4], 5, 2).shape == (1, 0)
    assert prompt_lookup(ids[:, :1], 5, 2).shape == (1, 0)
    assert prompt_lookup(np.array([[6, 6]]), 5, 2).tolist() == [[6]]


@pytest.mark.oracle
def test_prompt_lookup_finds_what_transformers_finds() -> None:
    torch, transformers = require("torch"), require("transformers")
    module = transformers.generation.candidate_generator
    random = np.random.default_rng(0)
    for _ in range(500):
        ids = random.integers(0, random.integers(2, 9), (1, random.integers(1, 40)))
        most, size, ends = int(random.integers(1, 9)), int(random.integers(1, 5)), [0, 3][: random.integers(0, 3)]
        theirs = module.PromptLookupCandidateGenerator(
            torch.tensor(ends) if ends else None, most, size, max_length=1000
        ).get_candidates(torch.tensor(ids))[0]
        found = prompt_lookup(ids, most, size, ends)
        np.testing.assert_array_equal(np.concatenate([ids, found], axis=1), theirs.numpy())


def forward_passes(monkeypatch: pytest.MonkeyPatch, model: GPTNeoForCausalLM) -> list[int]:
    """From now on, how many new positions each call of the model reads."""
    calls: list[int] = []
    call = GPTNeoForCausalLM.__call__

    def counted(self: GPTNeoForCausalLM, input_ids: np.ndarray, **more: Any) -> Any:
        if self is model:
            calls.append(input_ids.shape[1])
        return call(self, input_ids, **more)

    monkeypatch.setattr(GPTNeoForCausalLM, "__call__", counted)
    return calls


def test_a_prompt_that_repeats_itself_takes_fewer_forward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = minineo.load()
    ids = np.array([tokenizer.encode(3 * "The king went to the great forest, and saw a white bird in a golden tree. ")])
    plain = model.generate(ids, max_new_tokens=60)
    calls = forward_passes(monkeypatch, model)
    assert np.array_equal(model.generate(ids, max_new_tokens=60, prompt_lookup_num_tokens=10), plain)
    assert calls[0] == ids.shape[1]
    assert 60 / len(calls) > 1.5


def test_an_assistant_that_is_always_right_takes_one_pass_for_all_its_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(1, window_size=20, eos_token_id=None)
    ids = np.array([[4, 5, 6]])
    twin = GPTNeoForCausalLM(model.config, model.params)
    calls = forward_passes(monkeypatch, model)
    model.generate(
        ids, max_new_tokens=24, assistant_model=twin, num_assistant_tokens=5, assistant_confidence_threshold=0.0
    )
    assert calls == [3, 6, 6, 6, 5]  # one draft fewer where there is no room for the token after it


def test_the_assistant_stops_where_it_is_not_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(1, window_size=20, eos_token_id=None)
    calls = forward_passes(monkeypatch, model)
    twin = GPTNeoForCausalLM(model.config, model.params)
    model.generate(np.array([[4, 5]]), max_new_tokens=9, assistant_model=twin, assistant_confidence_threshold=1.0)
    assert calls == [2, 2, 2, 2, 2]  # a draft that it doubts is checked, but is the last


def test_an_assistant_with_a_shorter_context() -> None:
    model = random_model(3, eos_token_id=None)
    assistant = random_model(4, max_position_embeddings=9)
    ids = np.array([[4, 5, 6]])
    for length in (6, 7, 40):
        found = model.generate(ids, max_new_tokens=length, assistant_model=assistant, num_assistant_tokens=4)
        assert np.array_equal(found, model.generate(ids, max_new_tokens=length))
    long = np.array([[4, 5, 6] * 5])
    assert np.array_equal(model.generate(long, assistant_model=assistant), model.generate(long))


def test_stop_strings_criteria_processors_and_streamers_see_what_they_see_without() -> None:
    model, tokenizer = minineo.load()
    ids = np.array([tokenizer.encode("A bird sat in the tree. The bird sat in the tree. The bird")])
    seen: list[list[Any]] = []

    class Streamer:
        def put(self, tokens: np.ndarray) -> None:
            seen[-1].append(tokens.tolist())

        def end(self) -> None:
            seen[-1].append("end")

    def processor(text: np.ndarray, scores: np.ndarray) -> np.ndarray:
        seen[-1].append(("processor", text.tolist()))
        return scores

    def criterion(text: np.ndarray, scores: Any) -> bool:
        seen[-1].append(("criterion", text.shape, len(scores)))
        return False

    for speculation in ({}, {"prompt_lookup_num_tokens": 8}):
        seen.append([])
        arguments = {"stop_strings": "tree", "tokenizer": tokenizer, "streamer": Streamer(), "max_new_tokens": 30}
        more = {"logits_processor": processor, "stopping_criteria": criterion}
        model.generate(ids, **arguments, **more, **speculation, output_scores=True, return_dict_in_generate=True)
    assert seen[0] == seen[1]
    assert len(seen[0]) > 6


def test_from_text_to_text_and_step_by_step() -> None:
    text = "The bird sang. The bird sang. The"
    model, tokenizer = minineo.load()
    speculation = {"prompt_lookup_num_tokens": 5, "max_new_tokens": 30}
    assert minineo.generate(text, seed=1, **speculation) == minineo.generate(text, seed=1, max_new_tokens=30)
    pieces = minineo.stream(text, seed=1, **speculation)
    assert text + "".join(pieces) == minineo.generate(text, seed=1, max_new_tokens=30)
    ids = np.array([tokenizer.encode(text)])
    steps = list(generate_steps(model, ids, max_new_tokens=9, assistant_model=model))
    assert [step.tolist() for step in steps] == model.generate(ids, max_new_tokens=9)[:, ids.shape[1] :].T.tolist()


def test_progress_counts_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    model = random_model(1, eos_token_id=None)
    model.generate(np.array([[4, 5]]), max_new_tokens=9, prompt_lookup_num_tokens=3, progress=True)
    assert "9/9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt_lookup_num_tokens": 0}, "prompt_lookup_num_tokens: received 0, expected an int above 0"),
        ({"prompt_lookup_num_tokens": 2, "max_matching_ngram_size": 0}, "max_matching_ngram_size: received 0"),
        ({"prompt_lookup_num_tokens": 2, "num_beams": 2}, "prompt_lookup_num_tokens: works with num_beams=1 only"),
        ({"prompt_lookup_num_tokens": 2, "use_cache": False}, "works with use_cache=True only, received False"),
        ({"prompt_lookup_num_tokens": 2, "do_sample": True, "num_return_sequences": 2}, "num_return_sequences=1 only"),
        ({"assistant_model": random_model(0, vocab_size=30)}, "assistant_model: received a model of 30 tokens"),
        ({"assistant_model": random_model(0), "num_assistant_tokens": 0}, "num_assistant_tokens: received 0"),
        ({"assistant_model": random_model(0), "assistant_confidence_threshold": 1.5}, "from 0 .never stop. to 1"),
        ({"assistant_model": random_model(0), "prompt_lookup_num_tokens": 2}, "expected one source of guesses"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_model(0).generate(np.array([[4, 5]]), **arguments)


def test_one_prompt_at_a_time_and_a_model_that_is_one() -> None:
    with pytest.raises(ValueError, match=r"received 2 prompts, .* one at a time"):
        random_model(0).generate(np.array([[4], [5]]), prompt_lookup_num_tokens=2)
    with pytest.raises(TypeError, match="assistant_model: received 'gpt-neo', expected a language model"):
        random_model(0).generate(np.array([[4]]), assistant_model="gpt-neo")


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=8), st.data())
def test_rewinding_a_cache(pieces: list[tuple[int, bool]], data: st.DataObject) -> None:
    """Fast and reference: after each rewind what it would be, had what was taken back never come."""
    window = data.draw(st.one_of(st.none(), st.integers(1, 90)))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    kept = expected = fast.forget(fast.append(None, *random.standard_normal((2, 1, 2, 30, 3))), window)
    expected = tuple(array.copy() for array in expected)
    for T, touched in pieces:
        T = T if window is None else min(T, max(window - 1, 1))
        accepted = data.draw(st.integers(0, T if window is None or window > T else 0))
        k, v = random.standard_normal((2, 1, 2, T, 3))
        after = fast.forget(fast.append(kept, k, v), window)
        plain = reference.forget(reference.append(expected, k, v), window)
        if touched:  # somebody goes on from what will be taken back: his arrays must not change
            other = fast.append(after, *random.standard_normal((2, 1, 2, 3, 3)))
            copies = [array.copy() for array in other]
        before = [array.copy() for array in kept]
        rewound = fast.rewind(after, kept, T, accepted)
        expected = reference.forget(reference.append(expected, k[:, :, :accepted], v[:, :, :accepted]), window)
        by_reference = reference.rewind(plain, tuple(before), T, accepted)
        for found, theirs, wanted in zip(rewound, by_reference, expected, strict=True):
            assert np.array_equal(found, wanted)
            assert np.array_equal(theirs, wanted)
        # who goes on from there writes where the rest was, and `before` stays what it is
        fast.append(rewound, *random.standard_normal((2, 1, 2, 3, 3)))
        assert all(map(np.array_equal, kept, before))
        assert all(map(np.array_equal, rewound, expected))
        if touched:
            assert all(map(np.array_equal, other, copies))
        kept = rewound


def test_rewinding_several_steps_at_once() -> None:
    """As after drafts that an assistant made one by one, also where the window has moved into new buffers since."""
    for back in (1, 5, 20, 100):
        steps = [fast.forget(fast.append(None, *np.zeros((2, 1, 1, 9, 2))), 6)]
        for i in range(100):
            steps.append(fast.forget(fast.append(steps[-1], *np.full((2, 1, 1, 1, 2), 1.0 + i)), 6))
        wanted = steps[-1 - back][0].copy()
        rewound = fast.rewind(steps[-1], steps[-1 - back], back, 0)
        assert np.array_equal(rewound[0], wanted)
        following = fast.append(rewound, *np.full((2, 1, 1, 1, 2), -1.0))
        assert following[0][0, 0, :, 0].tolist() == [*wanted[0, 0, :, 0].tolist(), -1.0]


def test_rewinding_copies_nothing_that_grows() -> None:
    """One accepted of four each time: a thousand positions later there were a few buffers only."""
    kv = fast.forget(fast.append(None, *np.zeros((2, 1, 1, 1, 2))), None)
    buffers = set()
    for _ in range(1000):
        after = fast.forget(fast.append(kv, *np.zeros((2, 1, 1, 4, 2))), None)
        kv = fast.rewind(after, kv, 4, 1)
        buffers.add(id(kv.buffers.k))
    assert kv[0].shape[2] == 1001
    assert len(buffers) < 10


def test_a_window_that_is_too_small_to_rewind_says_so() -> None:
    before = np.zeros((1, 1, 2, 1)), np.zeros((1, 1, 2, 1))
    with pytest.raises(ValueError, match="keeps 2 positions cannot take back some of 4"):
        reference.rewind(before, before, 4, 1)
