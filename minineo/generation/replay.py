"""Greedy search and sampling of a single text by a decoder that needs no host: on a GPU, a replayed graph of launches.

Dimensions: T positions so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minineo.arrays import Array, beside
from minineo.devices import to_device
from minineo.fast.choose import decoder_for
from minineo.generation.arguments import GenerationArguments
from minineo.generation.outputs import Record
from minineo.generation.prompt import Context
from minineo.generation.stopping import Stop

# What such a decoder knows nothing of: where it is asked for, `minineo.generation.search` does it.
NOT_HERE = (
    *("min_length", "min_new_tokens", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids"),
    *("suppress_tokens", "begin_suppress_tokens", "logits_processor", "stopping_criteria", "top_p", "min_p"),
    *("typical_p", "epsilon_cutoff", "eta_cutoff", "num_return_sequences", "use_cache", "return_dict_in_generate"),
    *("edits", "prompt_lookup_num_tokens", "assistant_model"),
)

Decoder = Callable[..., Iterator[int]]


def replay_decoder(model: Any, context: Context, arguments: GenerationArguments, record: Record) -> Decoder | None:
    """The decoder that can do all that is asked for: one text, greedily or drawn by temperature and top_k alone."""
    defaults = GenerationArguments()
    others = [name for name in NOT_HERE if getattr(arguments, name) not in (getattr(defaults, name), [])]
    if others or context.input_ids.shape[0] != 1 or context.attention_mask is not None or record.keep_scores:
        return None
    return decoder_for(model.params, model.config, context.input_ids.shape[1] + arguments.steps)


def replay(
    decoder: Decoder,
    model: Any,
    context: Context,
    arguments: GenerationArguments,
    stop: Stop,
    random: np.random.Generator,
) -> Iterator[Array]:
    """Yield what `minineo.generation.search.search` yields, (1,) at each step.

    Sampling draws each token with the same probability, but by other random numbers.
    """
    tokens = context.input_ids
    sampling: dict[str, Any] = {}
    if arguments.do_sample:
        key = int(random.integers(2**63))
        sampling = {"temperature": float(arguments.temperature), "top_k": arguments.top_k or 0, "key": key}
    cache = None  # of all tokens but the last, with which the decoder begins
    if tokens.shape[1] > 1:
        cache = model(tokens[:, :-1], use_cache=True, logits_to_keep=1).past_key_values
    text = to_device(tokens, "cpu")
    for token in decoder(model.params, model.config, tokens, cache, arguments.steps, **sampling):
        text = np.concatenate([text, [[token]]], axis=1)
        yield beside(np.array([token], text.dtype), like=tokens)
        if stop(text, None)[0]:
            return
