"""Decide which rows are done: an end token, a stop string, the length, or a condition of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from array_api_compat import array_namespace, device

from minineo.arrays import Array
from minineo.generation.arguments import GenerationArguments
from minineo.generation.checks import functions, strings

REPLACEMENT = "\ufffd"  # what bytes that are no character, or not yet one, decode to

Stop = Callable[[Array, Any], Array]  # (ids so far (N, T), scores so far or None) -> which rows are done (N,), boolean


def build_stop(arguments: GenerationArguments) -> Stop:
    """Make the function that says which rows are done. `arguments` after `with_lengths`."""
    ends, longest, tokenizer = arguments.eos_token_ids, arguments.max_length, arguments.tokenizer
    stop_strings = strings(arguments.stop_strings, "stop_strings")
    reach = max((len(text.encode()) for text in stop_strings), default=0)  # in tokens, each of which is a byte or more
    criteria = functions(arguments.stopping_criteria, "stopping_criteria")

    def stop(input_ids: Array, scores: Any) -> Array:
        xp = array_namespace(input_ids)
        done = xp.full((input_ids.shape[0],), input_ids.shape[1] >= longest, dtype=xp.bool, device=device(input_ids))
        for end in ends:
            done = done | (input_ids[:, -1] == end)
        if stop_strings:
            tails = [[int(token) for token in row] for row in input_ids[:, -reach:]]
            matches = [completes_stop_string(tail, stop_strings, tokenizer) for tail in tails]
            done = done | xp.asarray(matches, device=device(input_ids))
        for criterion in criteria:
            done = done | xp.asarray(criterion(input_ids, scores), dtype=xp.bool, device=device(input_ids))
        return done

    return stop


def completes_stop_string(ids: list[int], stop_strings: Sequence[str], tokenizer: Any) -> bool:
    """Whether the last token completes a stop string: one occurs in the text that was not there without that token.

    It may have begun tokens earlier, in the prompt even, and the last token may go on beyond it.
    """
    text = tokenizer.decode(ids)
    before = tokenizer.decode(ids[:-1]) if len(ids) > 1 else ""
    known = len(before.rstrip(REPLACEMENT))  # a character that only the last token completes is not known before
    return any(text.find(stop_string, max(0, known - len(stop_string) + 1)) >= 0 for stop_string in stop_strings)
