"""`generate` against transformers: the same tokens, scores, filters and stopping on random models."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require
from generation_cases import is_decided, random_case, random_model, run

import minineo
from minineo.classes import GPTNeoForCausalLM
from minineo.generation import processors, sampling

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore::UserWarning")]  # theirs, where we are silent

OUTPUTS = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
FIELDS = [
    *("vocab_size", "hidden_size", "num_layers", "num_heads", "attention_types", "window_size"),
    *("max_position_embeddings", "eos_token_id", "bos_token_id", "pad_token_id", "tie_word_embeddings"),
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Hugging Face logs and warns where we are silent."""
    torch, transformers = require("torch"), require("transformers")
    before = transformers.logging.get_verbosity(), torch.get_num_threads()
    transformers.logging.set_verbosity(logging.CRITICAL)
    torch.set_num_threads(1)  # for models this small, threads only wait for each other
    yield
    transformers.logging.set_verbosity(before[0])
    torch.set_num_threads(before[1])


def twin(model: GPTNeoForCausalLM) -> Any:
    """The same model in transformers."""
    torch, transformers = require("torch"), require("transformers")
    fields = {name: getattr(model.config, name) for name in FIELDS}
    theirs = transformers.GPTNeoForCausalLM(transformers.GPTNeoConfig(**fields)).eval()
    keys = theirs.load_state_dict({name: torch.tensor(value) for name, value in model.params.items()}, strict=False)
    theirs.tie_weights()
    assert not keys.unexpected_keys
    assert set(keys.missing_keys) <= {"lm_head.weight"}
    return theirs


def run_theirs(theirs: Any, case: dict[str, Any], **more: Any) -> Any:
    torch = require("torch")
    mask = case["attention_mask"]
    mask = None if mask is None else torch.tensor(mask)
    return theirs.generate(torch.tensor(case["input_ids"]), attention_mask=mask, **(case["arguments"] | more))


def assert_close(ours: np.ndarray, theirs: Any) -> None:
    """Equal to 1e-5 of the largest value, with the same tokens at minus infinity."""
    theirs = theirs.numpy()
    finite = np.isfinite(theirs)
    np.testing.assert_array_equal(np.isfinite(ours), finite)
    np.testing.assert_allclose(ours[finite], theirs[finite], rtol=0, atol=1e-5 * np.abs(theirs[finite]).max(initial=1))


@pytest.mark.parametrize("beams", [False, True], ids=["greedy", "beams"])
@pytest.mark.parametrize("block", range(10))
def test_tokens_and_scores_are_theirs(beams: bool, block: int) -> None:
    ties = 0
    for seed in range(20 * block, 20 * block + 20):
        case = random_case(seed, beams)
        model = random_model(seed, **case["fields"])
        theirs = run_theirs(twin(model), case, **OUTPUTS)
        exact = run_theirs(twin(model).double(), case, **OUTPUTS)
        try:
            assert_same_output(run(model, case, **OUTPUTS), theirs, exact)
        except AssertionError as error:
            if is_decided(model, case):
                raise AssertionError(case) from error
            ties += 1
    assert ties <= 1


def assert_same_output(ours: Any, theirs: Any, exact: Any) -> None:
    """The same tokens. The scores, too, to 1e-5, or no farther from the float64 model's than 4 times theirs."""
    np.testing.assert_array_equal(ours.sequences, theirs.sequences.numpy())
    if "beam_indices" in theirs:
        np.testing.assert_array_equal(ours.beam_indices, theirs.beam_indices.numpy())
        assert_close(ours.sequences_scores, theirs.sequences_scores)
    steps = zip(ours.scores + ours.logits, theirs.scores + theirs.logits, exact.scores + exact.logits, strict=True)
    for our_step, their_step, exact_step in steps:
        finite = np.isfinite(our_step)
        np.testing.assert_array_equal(finite, np.isfinite(their_step.numpy()))
        a, b, c = our_step[finite], their_step.numpy()[finite], exact_step.numpy()[finite]
        their_error, scale = np.abs(b - c).max(initial=0), np.abs(c).max(initial=1)
        assert np.abs(a - c).max(initial=0) <= max(1e-5 * scale, 4 * their_error)


def test_the_cases_end_early_in_many_ways() -> None:
    """The comparison above means little unless end tokens come, at different times in different rows."""
    ended = cut = 0
    for seed in range(200):
        case = random_case(seed, beams=seed % 2 == 1)
        new = run(random_model(seed, **case["fields"]), case)[:, len(case["input_ids"][0]) :]
        ends = np.isin(new, np.atleast_1d(case["fields"]["eos_token_id"] or -1))
        ended += int(ends.any(axis=1).sum())
        cut += len(set(ends.argmax(axis=1)[ends.any(axis=1)])) > 1
    assert ended > 150
    assert cut > 20


SAMPLINGS = [
    {"temperature": 0.7},
    {"temperature": 1.9, "top_k": 5},
    {"top_k": 0, "top_p": 0.6},
    {"top_k": None, "min_p": 0.2},
    {"top_k": 0, "typical_p": 0.5},
    {"top_k": 0, "epsilon_cutoff": 0.03},
    {"top_k": 0, "eta_cutoff": 0.2},
    {"temperature": 0.8, "top_k": 12, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.95, "repetition_penalty": 1.4},
]


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("sampling_arguments", SAMPLINGS, ids=str)
def test_the_sampled_distribution_is_theirs(sampling_arguments: dict[str, Any], num_beams: int) -> None:
    """What the first token is drawn from: all filters, in their order, with what beam search keeps for itself."""
    for seed in range(5):
        model = random_model(seed, vocab_size=200, eos_token_id=[3, 4])
        case = {
            "input_ids": [[5, 6, 7], [3, 8, 9]],
            "attention_mask": [[1, 1, 1], [0, 1, 1]],
            "arguments": {"do_sample": True, "num_beams": num_beams, "max_new_tokens": 1} | sampling_arguments,
        }
        require("torch").manual_seed(0)
        theirs = run_theirs(twin(model), case, **OUTPUTS)
        assert_close(run(model, case, seed=0, **OUTPUTS).scores[0], theirs.scores[0])


WORDS = [[5], [6, 7], [0, 1], [1, 2, 3], list(range(25))] + [[a, b] for a in range(6) for b in range(0, 9, 2)]
# A class of theirs, the arguments it is made with, and our function of ids, scores and the values of these arguments.
PROCESSORS: list[tuple[str, dict[str, Any], Callable[..., np.ndarray]]] = [
    *(
        (name, {argument: value, "min_tokens_to_keep": keep}, ours)
        for name, argument, values, ours in [
            ("TopKLogitsWarper", "top_k", (1, 4, 1000), lambda _, s, k, keep: sampling.top_k(s, max(k, keep))),
            ("TopPLogitsWarper", "top_p", (0.05, 0.5, 0.9), lambda _, *rest: sampling.top_p(*rest)),
            ("MinPLogitsWarper", "min_p", (0.0, 0.1, 0.7, 1.0), lambda _, *rest: sampling.min_p(*rest)),
            ("TypicalLogitsWarper", "mass", (0.05, 0.5, 0.9), lambda _, *rest: sampling.typical_p(*rest)),
            ("EpsilonLogitsWarper", "epsilon", (0.001, 0.1, 0.9), lambda _, *rest: sampling.epsilon_cutoff(*rest)),
            ("EtaLogitsWarper", "epsilon", (0.001, 0.1, 0.9), lambda _, *rest: sampling.eta_cutoff(*rest)),
        ]
        for value in values
        for keep in (1, 3)
    ),
    *(("RepetitionPenaltyLogitsProcessor", {"penalty": p}, processors.penalise_repetition) for p in (0.5, 1.3)),
    *(("NoRepeatNGramLogitsProcessor", {"ngram_size": n}, processors.forbid_repeated_ngrams) for n in (1, 2, 3, 30)),
    ("NoBadWordsLogitsProcessor", {"bad_words_ids": WORDS}, processors.forbid_words),
    ("SuppressTokensLogitsProcessor", {"suppress_tokens": [0, 8]}, lambda _, *rest: processors.forbid(*rest)),
]


@pytest.mark.parametrize(("name", "settings", "ours"), PROCESSORS)
def test_each_processor_is_theirs(name: str, settings: dict[str, Any], ours: Callable[..., np.ndarray]) -> None:
    torch, transformers = require("torch"), require("transformers")
    theirs = getattr(transformers, name)(**settings)
    for seed in range(20):
        random = np.random.default_rng(seed)
        scores = (random.standard_normal((4, 40)) * random.choice([0.1, 1, 4])).astype(np.float32)
        if seed % 2:
            scores[:, random.integers(0, 40, 8)] = -np.inf
        ids = random.integers(0, 9, (4, 20))
        before = scores.copy()
        output = ours(ids, scores, *settings.values())
        assert output.dtype == np.float32
        np.testing.assert_array_equal(scores, before)
        assert_close(output, theirs(torch.tensor(ids), torch.tensor(scores)))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_stop_strings_stop_where_theirs_do(num_beams: int) -> None:
    """Stop strings cut out of the text that comes anyway, so that they straddle tokens, characters and rows."""
    torch, transformers = require("torch"), require("transformers")
    tokenizer = transformers.GPT2TokenizerFast.from_pretrained(Path(minineo.__file__).parent / "assets")
    random = np.random.default_rng(num_beams)
    shortened = 0
    for seed in range(6):
        model = random_model(seed, vocab_size=4096, eos_token_id=None if seed % 4 == 0 else 7)
        theirs = twin(model)
        for _ in range(4):
            ids = random.integers(0, 4096, (int(random.integers(1, 4)), 4))
            whole = model.generate(ids, max_new_tokens=20, num_beams=num_beams)
            text = tokenizer.decode(whole[0])
            starts = random.integers(0, len(text) - 6, 2)
            stops = [text[i : i + int(random.integers(1, 7))].strip("\ufffd") for i in starts]
            stops = [stop for stop in stops if stop and "\ufffd" not in stop] or ["e"]
            more = {"max_new_tokens": 20, "num_beams": num_beams, "stop_strings": stops, "tokenizer": tokenizer}
            expected = theirs.generate(
                torch.tensor(ids), attention_mask=torch.ones(ids.shape, dtype=torch.int64), **more
            )
            output = model.generate(ids, **more)
            np.testing.assert_array_equal(output, expected.numpy(), err_msg=f"{seed} {stops}")
            shortened += not np.array_equal(output, whole)
    assert shortened > 10


def test_defaults_are_theirs() -> None:
    """20 new tokens or what the model holds, and the mask from a padding token that is not the end token."""
    torch = require("torch")
    for fields in ({}, {"pad_token_id": 9}, {"pad_token_id": 3}, {"eos_token_id": None, "pad_token_id": 9}):
        for prompt in ([[5, 6, 7]], [[9, 9, 5], [5, 6, 7]], [[3, 3, 5], [5, 9, 7]], [list(range(4, 9)) * 8]):
            model = random_model(1, **fields)
            expected = twin(model).generate(torch.tensor(prompt))
            np.testing.assert_array_equal(model.generate(np.array(prompt)), expected.numpy())
    model = random_model(1)
    np.testing.assert_array_equal(model.generate(), twin(model).generate().numpy())


@pytest.mark.parametrize(
    "stored",
    [
        {"max_length": 9},
        {"max_new_tokens": 4, "repetition_penalty": 1.7},
        {"eos_token_id": [4, 8], "pad_token_id": 2},
        {"num_beams": 3, "max_new_tokens": 6, "temperature": 0.3},
    ],
    ids=str,
)
def test_stored_defaults_mean_what_theirs_do(stored: dict[str, Any]) -> None:
    torch, transformers = require("torch"), require("transformers")
    model = random_model(2)
    theirs = twin(model)
    ids = [[5, 6, 7], [8, 9, 10]]
    model.generation_config = dict(stored)
    theirs.generation_config = transformers.GenerationConfig(**stored)
    np.testing.assert_array_equal(model.generate(np.array(ids)), theirs.generate(torch.tensor(ids)).numpy())


def test_a_streamer_of_theirs_gets_what_it_expects() -> None:
    """Their TextStreamer prints the same text from our tokens as from their own."""
    torch, transformers = require("torch"), require("transformers")
    tokenizer = transformers.GPT2TokenizerFast.from_pretrained(Path(minineo.__file__).parent / "assets")
    model = random_model(3, vocab_size=4096, eos_token_id=7)
    pieces: list[list[str]] = []

    class Collecting(transformers.TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            pieces[-1].append(text + ("|" if stream_end else ""))

    for generate, ids in ((model.generate, np.array([[5, 6]])), (twin(model).generate, torch.tensor([[5, 6]]))):
        pieces.append([])
        generate(ids, max_new_tokens=12, streamer=Collecting(tokenizer))
    assert pieces[0] == pieces[1]
    assert pieces[0][-1].endswith("|")
