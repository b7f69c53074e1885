"""What `generate` can be asked for: Hugging Face's names, defaults and meanings (transformers 5.23).

What the caller passes wins over the dictionary that he passes as `generation_config`, that over the checkpoint's
`generation_config.json`, and that over the defaults below. A checkpoint without such a file has the special tokens of
its `config.json`; one with it has those that the file names, and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from minineo.arrays import Array
from minineo.edits import Edits
from minineo.generation.checks import check_values, from_where, plain
from minineo.quoting import quote

Processor = Callable[[Array, Array], Array]  # (ids so far (N, T), scores (N, V)) -> new scores (N, V)
Criterion = Callable[[Array, Any], Any]  # (ids so far (N, T), scores so far or None) -> which rows are done, (N,)

MOST_STORED = 100  # beams, or sequences to return, that a checkpoint may ask for
DEFAULT_NEW_TOKENS = 20  # where neither max_length nor max_new_tokens is given
NONE_HAS_A_MEANING = {"top_k", "eos_token_id", "pad_token_id"}  # elsewhere None stands for the default
SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")

# Where a value that the caller did not pass comes from, in words for messages.
CONFIG = "the checkpoint's config.json (model.config)"
STORED = "the checkpoint's generation_config.json (model.generation_config)"
PRESET = "the argument generation_config"


@dataclass(frozen=True)
class GenerationArguments:
    """The arguments of `generate`; `resolve` makes one from what the caller passed."""

    # How long. `max_length` and `min_length` count the prompt; the `new_tokens` forms do not, and win over them.
    max_length: int | None = None
    max_new_tokens: int | None = None
    min_length: int = 0
    min_new_tokens: int | None = None
    eos_token_id: int | Sequence[int] | None = None  # one or several: each of them ends its row
    pad_token_id: int | None = None  # fills rows that end before others do; None: the (first) end token
    bos_token_id: int | None = None  # the prompt where none is given
    stop_strings: str | Sequence[str] | None = None  # text that ends its row, and stays in it
    tokenizer: Any = None  # for `stop_strings`: anything with `decode(ids) -> str`
    stopping_criteria: Criterion | Sequence[Criterion] | None = None

    # Which token.
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: Sequence[Sequence[int]] | None = None
    suppress_tokens: Sequence[int] | None = None
    begin_suppress_tokens: Sequence[int] | None = None
    logits_processor: Processor | Sequence[Processor] | None = None

    # The distribution that `do_sample` draws from; greedy search ignores it.
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = 50
    top_p: float = 1.0
    min_p: float | None = None
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    seed: int | np.random.Generator | None = None

    # How many.
    num_return_sequences: int = 1
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False

    # Speculative decoding: guesses that the model checks several at a time. The text is the same, or as likely.
    prompt_lookup_num_tokens: int | None = None  # guess at most so many: what followed the last ones before
    max_matching_ngram_size: int = 2  # how many last tokens to look for at most
    assistant_model: Any = None  # a smaller model of the same vocabulary, which guesses
    num_assistant_tokens: int = 20  # how many tokens it may guess at a time
    assistant_confidence_threshold: float = 0.4  # it stops after a token that it gives a lower probability

    # What is changed inside the model at each step (`minineo.edits`), but not inside an assistant. With a cache a step
    # computes new positions only: first all of the prompt, then one position, or several where guesses are checked.
    edits: Edits | None = None

    # How it runs and what comes back.
    use_cache: bool = True
    streamer: Any = None
    progress: bool = False
    return_dict_in_generate: bool = False
    output_scores: bool = False
    output_logits: bool = False

    @property
    def eos_token_ids(self) -> list[int]:
        """The end tokens, as a list."""
        ids = self.eos_token_id
        return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)

    @property
    def is_speculative(self) -> bool:
        """Whether tokens are guessed first, and then checked."""
        return self.prompt_lookup_num_tokens is not None or self.assistant_model is not None

    @property
    def steps(self) -> int:
        """How many tokens may come, once `with_lengths` has settled it."""
        return self.max_new_tokens or 0

    @property
    def padding_id(self) -> int | None:
        """What fills a row that has ended, or None where no token ends rows and none was named."""
        if self.pad_token_id is None and self.eos_token_ids:
            return self.eos_token_ids[0]
        return self.pad_token_id


NAMES = tuple(field.name for field in fields(GenerationArguments))


def resolve(
    config: Any, stored: Mapping[str, Any], preset: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[GenerationArguments, dict[str, str]]:
    """Put together and check the arguments of one call.

    `config` is the model's; `stored` is its `generation_config`, `preset` the one of the call, and unknown keys in
    either are ignored; `given` is what the caller passed: an unknown name there is a `TypeError` that suggests the
    nearest. Returns the arguments, and for those that the caller did not pass where they come from, for messages.
    """
    for name in given:
        if name not in NAMES:
            raise TypeError(f"generate() got an unexpected argument {name!r}. {_suggestion(name)}")
    # As in Hugging Face, a generation_config.json leaves no special token to config.json, not even one it lacks.
    special = {} if stored else {name: getattr(config, name, None) for name in SPECIAL_TOKENS}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, source in ((CONFIG, special), (STORED, stored), (PRESET, preset)):
        known = {name: plain(value) for name, value in source.items() if name in NAMES and value is not None}
        values |= known
        origins |= dict.fromkeys(known, origin)
    padding = values.get("pad_token_id")
    if isinstance(padding, int) and not 0 <= padding < config.vocab_size:
        del values["pad_token_id"]  # -1 stands for none in some old files
    if given.get("max_length") is not None:
        values.pop("max_new_tokens", None)  # a length that the caller names wins over either that is stored
    named = {name: plain(value) for name, value in given.items() if value is not None or name in NONE_HAS_A_MEANING}
    origins = {name: origin for name, origin in origins.items() if name not in named}
    _check_stored(values, origins)
    arguments = GenerationArguments(**(values | named))
    check_values(arguments, config.vocab_size, origins)
    # A token that the model cannot produce ends nothing: -1 in some old files, 50256 beside a small test vocabulary.
    possible = [token for token in arguments.eos_token_ids if 0 <= token < config.vocab_size]
    return replace(arguments, eos_token_id=possible), origins


def with_lengths(
    arguments: GenerationArguments, origins: Mapping[str, str], prompt_length: int, max_positions: int
) -> GenerationArguments:
    """Settle `max_length`, `max_new_tokens` and `min_length`, or raise `ValueError` where they do not fit the model.

    `origins` as `resolve` returns them: a minimum beyond the greatest length is an error only where the caller named
    it. One that is stored was meant for longer texts; until the greatest length is reached, no end token comes.
    """
    if prompt_length >= max_positions:
        raise ValueError(
            f"The prompt alone has {prompt_length} tokens, but the model has {max_positions} positions "
            "(max_position_embeddings), of which at least 1 must be left for a new token. Shorten the prompt."
        )
    new, longest = arguments.max_new_tokens, arguments.max_length
    asked = "max_length" if new is None else "max_new_tokens"
    if new is None:  # Hugging Face, too, shortens its default to what the model still holds
        new = min(DEFAULT_NEW_TOKENS, max_positions - prompt_length) if longest is None else longest - prompt_length
    if prompt_length + new > max_positions:
        raise ValueError(
            f"The prompt has {prompt_length} tokens and {new} new ones are asked for, but the model has "
            f"{max_positions} positions (max_position_embeddings). Shorten the prompt or ask for fewer tokens."
            f"{from_where(asked, origins)}"
        )
    if new < 1:
        raise ValueError(
            f"max_length={longest} counts the prompt, which has {prompt_length} tokens already. Pass a larger "
            f"max_length, or max_new_tokens, which does not count the prompt.{from_where(asked, origins)}"
        )
    shortest, name = arguments.min_length, "min_length"
    if arguments.min_new_tokens is not None:
        shortest, name = prompt_length + arguments.min_new_tokens, "min_new_tokens"
    if shortest > prompt_length + new and name not in origins:
        raise ValueError(
            f"{name} asks for at least {shortest - prompt_length} new tokens after a prompt of {prompt_length}, "
            f"but at most {new} can come (max_length or max_new_tokens).{from_where(asked, origins)}"
        )
    return replace(arguments, max_length=prompt_length + new, max_new_tokens=new, min_length=shortest)


def _check_stored(values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Raise for more work than a file, which may come from anybody, should make of a call."""
    for name in ("num_beams", "num_return_sequences"):
        value = values.get(name)
        if origins.get(name) == STORED and isinstance(value, int) and value > MOST_STORED:
            raise ValueError(
                f"{name}: received {quote(value)}, expected at most {MOST_STORED} from a file. If you want as many, "
                f"pass {name} yourself.{from_where(name, origins)}"
            )


def _suggestion(name: str) -> str:
    import difflib  # only where somebody mistyped: it is slow to import

    nearest = difflib.get_close_matches(name, (*NAMES, "attention_mask", "input_ids", "generation_config"), n=1)
    return f"Did you mean {nearest[0]!r}?" if nearest else f"The arguments are: {', '.join(NAMES)}."
