"""One token after the other: greedy search takes the most likely token, sampling draws one.

Dimensions: N rows (B prompts, each continued num_return_sequences times), T positions so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from minineo.arrays import Array
from minineo.generation.arguments import GenerationArguments, Processor
from minineo.generation.outputs import Record
from minineo.generation.prompt import Context, repeat_rows
from minineo.generation.reading import Reader
from minineo.generation.sampling import draw
from minineo.generation.stopping import Stop


def search(
    model: Any,
    context: Context,
    arguments: GenerationArguments,
    processors: Sequence[Processor],
    stop: Stop,
    random: np.random.Generator,
    record: Record,
) -> Iterator[Array]:
    """Yield the next token of every row, (N,), until all rows are done. A row that has ended yields padding."""
    xp = array_namespace(context.input_ids)
    N = context.input_ids.shape[0] * arguments.num_return_sequences
    unfinished = xp.ones((N,), dtype=xp.bool, device=device(context.input_ids))
    times = arguments.num_return_sequences  # the prompt is read once, and then continued so many times
    read = Reader(model, arguments)
    for _ in range(arguments.steps):
        logits, context = read(context)
        logits, context = repeat_rows(logits, context, times)
        times, context = 1, context.with_room(arguments.steps)
        scores = process(processors, context.input_ids, logits)
        record.add(logits, scores)
        tokens = draw(scores, random) if arguments.do_sample else xp.argmax(scores, axis=1)
        if arguments.eos_token_ids:  # else rows end only together, or go on beyond their stop string, as Hugging Face's
            tokens = xp.where(unfinished, tokens, xp.full_like(tokens, arguments.padding_id))
        context = context.append(tokens)
        unfinished = unfinished & ~stop(context.input_ids, record.scores_so_far)
        yield tokens
        if not bool(xp.any(unfinished)):
            break
    if record.keep_cache:
        record.cache = read.cache(context)


def process(processors: Sequence[Processor], input_ids: Array, scores: Array) -> Array:
    """Let each processor change the scores (N, V) of the next token, in turn."""
    for processor in processors:
        changed = processor(input_ids, scores)
        if getattr(changed, "shape", None) != scores.shape:
            raise ValueError(
                f"logits_processor: {processor!r} returned {type(changed).__name__} of shape "
                f"{getattr(changed, 'shape', None)}, expected the scores, of shape {scores.shape}."
            )
        scores = changed
    return scores
