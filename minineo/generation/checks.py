"""Checks of the arguments of `generate`: each error names the argument, what was received and what was expected."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from minineo.quoting import quote

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
        raise TypeError(f"{name}: received {quote(value)}, expected a function or a list of functions.")
    return list(several)


def strings(value: Any, name: str) -> list[str]:
    """Accept None, one string or several, none of them empty."""
    several = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(several, list | tuple) or not all(isinstance(text, str) for text in several):
        raise TypeError(f"{name}: received {quote(value)}, expected a string or a list of strings.")
    if "" in several:
        raise ValueError(f"{name}: received {quote(value)}, expected strings that are not empty.")
    return list(several)


def streamer_methods(value: Any, name: str) -> None:
    """Accept None, or what takes tokens by `put(tokens)` and is told of the last by `end()`."""
    if value is not None and not all(callable(getattr(value, method, None)) for method in ("put", "end")):
        raise TypeError(f"{name}: received {quote(value)}, expected an object with the methods put(tokens) and end().")


def random_generator(seed: Any, name: str = "seed") -> np.random.Generator:
    """Make the source of random numbers of one call. A generator is used as it is, so that calls can share one."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer | np.random.Generator | None):
        raise TypeError(f"{name}: received {seed!r}, expected an int, a numpy.random.Generator or None.")
    if isinstance(seed, int | np.integer) and seed < 0:
        raise ValueError(f"{name}: received {seed}, expected an int that is not negative.")
    return np.random.default_rng(seed)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer_from(lowest: int) -> Callable[[Any], bool]:
    return lambda value: _is_integer(value) and value >= lowest


def _number(accepts: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda x: (_is_integer(x) or isinstance(x, float)) and abs(x) <= sys.float_info.max and accepts(x)


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

# These say themselves what is wrong: (value, name of the argument) -> TypeError or ValueError.
CHECKS: dict[str, Callable[[Any, str], object]] = {
    "logits_processor": functions,
    "stopping_criteria": functions,
    "stop_strings": strings,
    "seed": random_generator,
    "streamer": streamer_methods,
}


def from_where(name: str, origins: Mapping[str, str]) -> str:
    """A sentence for the end of a message: where a value comes from that the caller did not pass."""
    return f" {name} comes from {origins[name]}." if name in origins else ""


def check_values(arguments: GenerationArguments, vocab_size: int, origins: Mapping[str, str]) -> None:
    """Raise for a value that the argument cannot have, alone or beside the others.

    `origins` says where the values come from that the caller did not pass.
    """
    rules = RULES | _token_rules(vocab_size) | (SAMPLING_RULES if arguments.do_sample else {})
    for name, (is_right, expected) in rules.items():
        value = getattr(arguments, name)
        if value is not None and not is_right(value):
            raise ValueError(f"{name}: received {quote(value)}, expected {expected}.{from_where(name, origins)}")
    for name, check in CHECKS.items():
        try:
            check(getattr(arguments, name), name)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error}{from_where(name, origins)}") from None
    _check_combinations(arguments)
    if arguments.is_speculative:
        _check_speculation(arguments, vocab_size)


def _check_combinations(arguments: GenerationArguments) -> None:
    """Raise for arguments that contradict one another."""
    if arguments.stop_strings and not hasattr(arguments.tokenizer, "decode"):
        raise ValueError("stop_strings: finding them needs the text, so pass tokenizer= as well.")
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


def _token_rules(vocab_size: int) -> dict[str, Rule]:
    """What token ids can be. End and beginning tokens may lie outside the vocabulary: nobody may ever need them."""

    def are_tokens(value: Any) -> bool:
        return isinstance(value, list) and all(_is_integer(token) and 0 <= token < vocab_size for token in value)

    ids = f"ids from 0 to {vocab_size - 1}"
    return {
        "bos_token_id": (_is_integer, "an int"),
        "eos_token_id": (
            lambda value: all(map(_is_integer, value if isinstance(value, list) else [value])),
            "an int or a list of ints",
        ),
        "pad_token_id": (lambda value: are_tokens([value]), ids),
        "suppress_tokens": (are_tokens, f"a list of {ids}"),
        "begin_suppress_tokens": (are_tokens, f"a list of {ids}"),
        "bad_words_ids": (
            lambda words: isinstance(words, list) and all(are_tokens(word) and word for word in words),
            f"a list of lists of {ids}, such as [[50], [13, 7]]",
        ),
    }
