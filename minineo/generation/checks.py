"""Checks of the arguments of `generate`: each error names the argument, what was received and what was expected."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from minineo.generation.arguments import GenerationArguments

Rule = tuple[Callable[[Any], bool], str]


def plain(value: Any) -> Any:
    """NumPy's numbers as Python's (which do not widen float32 arrays), arrays of them as lists."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def functions(value: Any, name: str) -> list[Callable[..., Any]]:
    """Accept None, one function or several."""
    several = [] if value is None else [value] if callable(value) else value
    if not isinstance(several, list | tuple) or not all(callable(function) for function in several):
        raise TypeError(f"{name}: received {value!r}, expected a function or a list of functions.")
    return list(several)


def strings(value: Any, name: str) -> list[str]:
    """Accept None, one string or several, none of them empty."""
    several = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(several, list | tuple) or not all(isinstance(text, str) for text in several):
        raise TypeError(f"{name}: received {value!r}, expected a string or a list of strings.")
    if "" in several:
        raise ValueError(f"{name}: received {value!r}, expected strings that are not empty.")
    return list(several)


def random_generator(seed: Any) -> np.random.Generator:
    """Make the source of random numbers of one call. A generator is used as it is, so that calls can share one."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer | np.random.Generator | None):
        raise TypeError(f"seed: received {seed!r}, expected an int, a numpy.random.Generator or None.")
    if isinstance(seed, int | np.integer) and seed < 0:
        raise ValueError(f"seed: received {seed}, expected an int that is not negative.")
    return np.random.default_rng(seed)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer_from(lowest: int) -> Callable[[Any], bool]:
    return lambda value: _is_integer(value) and value >= lowest


def _number(accepts: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda x: (_is_integer(x) or isinstance(x, float)) and math.isfinite(x) and accepts(x)


POSITIVE: Rule = _integer_from(1), "an int above 0"
NOT_NEGATIVE: Rule = _integer_from(0), "an int that is not negative"
SHARE: Rule = _number(lambda x: 0 < x <= 1), "a number above 0 and at most 1 (1: no limit)"
CUTOFF: Rule = _number(lambda x: 0 <= x < 1), "a number from 0 (no limit) up to, but not including, 1"
FLAG: Rule = (lambda value: isinstance(value, bool)), "True or False"

RULES: dict[str, Rule] = {
    "max_length": POSITIVE,
    "max_new_tokens": POSITIVE,
    "min_length": NOT_NEGATIVE,
    "min_new_tokens": NOT_NEGATIVE,
    "no_repeat_ngram_size": NOT_NEGATIVE,
    "repetition_penalty": (_number(lambda x: x > 0), "a number above 0 (1: no penalty)"),
    "num_return_sequences": POSITIVE,
    "num_beams": POSITIVE,
    "length_penalty": (_number(lambda x: True), "a finite number"),
    "early_stopping": (lambda x: isinstance(x, bool) or x == "never", "True, False or 'never'"),
    "do_sample": FLAG,
    "prompt_lookup_num_tokens": POSITIVE,
    "max_matching_ngram_size": POSITIVE,
    "num_assistant_tokens": POSITIVE,
    "assistant_confidence_threshold": (_number(lambda x: 0 <= x <= 1), "a number from 0 (never stop) to 1"),
    "use_cache": FLAG,
    "progress": FLAG,
    "return_dict_in_generate": FLAG,
    "output_scores": FLAG,
    "output_logits": FLAG,
}
# Greedy search ignores these, as in Hugging Face: a stored temperature need not be unset to search greedily.
SAMPLING_RULES: dict[str, Rule] = {
    "temperature": (_number(lambda x: x > 0), "a number above 0 (for greedy search pass do_sample=False)"),
    "top_k": (_integer_from(0), "an int that is not negative (0 or None: no limit)"),
    "top_p": SHARE,
    "min_p": (_number(lambda x: 0 <= x <= 1), "a number from 0 to 1"),
    "typical_p": SHARE,
    "epsilon_cutoff": CUTOFF,
    "eta_cutoff": CUTOFF,
}


def check_values(arguments: GenerationArguments, vocab_size: int) -> None:
    """Raise for a value that the argument cannot have, alone or beside the others."""
    for name, (is_right, expected) in (RULES | (SAMPLING_RULES if arguments.do_sample else {})).items():
        value = getattr(arguments, name)
        if value is not None and not is_right(value):
            raise ValueError(f"{name}: received {value!r}, expected {expected}.")
    _check_tokens(arguments, vocab_size)
    functions(arguments.logits_processor, "logits_processor")
    functions(arguments.stopping_criteria, "stopping_criteria")
    if strings(arguments.stop_strings, "stop_strings") and not hasattr(arguments.tokenizer, "decode"):
        raise ValueError("stop_strings: finding them needs the text, so pass tokenizer= as well.")
    random_generator(arguments.seed)
    if arguments.num_beams == 1 and not arguments.do_sample and arguments.num_return_sequences > 1:
        raise ValueError(
            f"num_return_sequences: received {arguments.num_return_sequences}, but greedy search finds one sequence. "
            "Pass do_sample=True or num_beams."
        )
    if 1 < arguments.num_beams < arguments.num_return_sequences:
        raise ValueError(
            f"num_return_sequences: received {arguments.num_return_sequences}, expected at most num_beams, "
            f"which is {arguments.num_beams}."
        )
    if arguments.num_beams > 1 and arguments.streamer is not None:
        raise ValueError("streamer: beam search knows its tokens only at the end. Pass num_beams=1 to stream.")
    if arguments.is_speculative:
        _check_speculation(arguments, vocab_size)


def _check_speculation(arguments: GenerationArguments, vocab_size: int) -> None:
    """Raise for what speculative decoding cannot do."""
    name = "prompt_lookup_num_tokens" if arguments.assistant_model is None else "assistant_model"
    for other, only in {"num_beams": 1, "num_return_sequences": 1, "use_cache": True}.items():
        if getattr(arguments, other) != only:
            raise ValueError(f"{name}: works with {other}={only} only, received {getattr(arguments, other)}.")
    assistant = arguments.assistant_model
    if assistant is None:
        return
    if arguments.prompt_lookup_num_tokens is not None:
        raise ValueError("assistant_model, prompt_lookup_num_tokens: received both, expected one source of guesses.")
    if not (callable(assistant) and hasattr(assistant, "config") and hasattr(assistant, "params")):
        raise TypeError(
            f"assistant_model: received {assistant!r}, expected a language model, such as minineo.load(path)[0]."
        )
    if assistant.config.vocab_size != vocab_size:
        raise ValueError(
            f"assistant_model: received a model of {assistant.config.vocab_size} tokens, expected {vocab_size}, the "
            "vocabulary of the model that it assists."
        )


def _check_tokens(arguments: GenerationArguments, vocab_size: int) -> None:
    """Raise for what is no token id. End tokens may lie outside the vocabulary: they never come."""
    if not all(_is_integer(token) for token in arguments.eos_token_ids):
        raise ValueError(f"eos_token_id: received {arguments.eos_token_id!r}, expected an int or a list of ints.")
    lists: dict[str, Sequence[int] | None] = {
        "pad_token_id": None if arguments.pad_token_id is None else [arguments.pad_token_id],
        "suppress_tokens": arguments.suppress_tokens,
        "begin_suppress_tokens": arguments.begin_suppress_tokens,
    }
    for name, tokens in lists.items():
        if tokens is not None and not _are_tokens(tokens, vocab_size):
            raise ValueError(f"{name}: received {getattr(arguments, name)!r}, expected ids from 0 to {vocab_size - 1}.")
    words = arguments.bad_words_ids
    if words is not None and not (
        isinstance(words, list) and all(_are_tokens(word, vocab_size) and word for word in words)
    ):
        raise ValueError(
            f"bad_words_ids: received {words!r}, expected a list of lists of ids from 0 to {vocab_size - 1}, "
            "such as [[50], [13, 7]]."
        )


def _are_tokens(value: Any, vocab_size: int) -> bool:
    return isinstance(value, list) and all(_is_integer(token) and 0 <= token < vocab_size for token in value)
