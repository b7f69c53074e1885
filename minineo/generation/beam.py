"""Beam search: keep the `num_beams` most likely beginnings of each text, and the best texts that have ended.

The algorithm is Hugging Face's (transformers 5.23), in its order of operations, so that the tokens are the same.

Dimensions: B prompts, n beams (or K candidates) of each, L positions so far, S new tokens so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from minineo.arrays import Array, widest_integer
from minineo.generation.arguments import GenerationArguments, Processor
from minineo.generation.outputs import Record
from minineo.generation.prompt import Context, next_token_logits, repeat_rows
from minineo.generation.sampling import draw_several, largest
from minineo.generation.search import process
from minineo.generation.stopping import Stop
from minineo.layers.softmax import log_softmax
from minineo.progress import with_progress

FORBIDDEN = -1.0e9  # Hugging Face's stand-in for minus infinity; adding it marks a hypothesis as not to be chosen


@dataclass(frozen=True)
class Hypotheses:
    """Some texts, n for each prompt.

    sequences (B, n, L), prompt included; scores (B, n), sums of log-probabilities; origins (B, n, S), which of the
    B * n rows each new token continued, -1 after the end; ended (B, n), whether the text is complete.
    """

    sequences: Array
    scores: Array
    origins: Array
    ended: Array

    def select(self, chosen: Array) -> Hypotheses:
        """Some texts of each prompt, by their indices: chosen (B, m)."""
        xp = array_namespace(chosen)
        B, n = self.scores.shape
        rows = xp.reshape(chosen + n * xp.arange(B, device=device(chosen))[:, None], (-1,))

        def take(array: Array) -> Array:
            flat = xp.reshape(array, (B * n, *array.shape[2:]))
            return xp.reshape(xp.take(flat, rows, axis=0), (*chosen.shape, *array.shape[2:]))

        return Hypotheses(take(self.sequences), take(self.scores), take(self.origins), take(self.ended))

    def best(self, scores: Array, count: int) -> Hypotheses:
        """The `count` texts of each prompt with the highest of these scores (B, n), best first, which become theirs."""
        values, chosen = largest(scores, count)
        return replace(self.select(chosen), scores=values)


def beam_search(
    model: Any,
    context: Context,
    arguments: GenerationArguments,
    processors: Sequence[Processor],
    stop: Stop,
    random: np.random.Generator,
    record: Record,
) -> Hypotheses:
    """Find the `num_return_sequences` best texts for each prompt, best first: (B, num_return_sequences, L)."""
    xp = array_namespace(context.input_ids)
    n = times = arguments.num_beams
    # Enough candidates that n of them go on, even if every end token is among the best of every beam.
    K = max(2, 1 + len(arguments.eos_token_ids)) * n
    running, finished = _start(context.input_ids, n)
    hopeful = xp.ones((running.scores.shape[0], 1), dtype=xp.bool, device=device(context.input_ids))
    for step in with_progress(range(1, arguments.steps + 1), arguments.progress, desc="generate", unit="token"):
        logits, context = next_token_logits(model, context, arguments.use_cache, arguments.edits)
        logits, context = repeat_rows(logits, context, times)
        times = 1
        log_probabilities = process(processors, context.input_ids, log_softmax(logits))
        record.add(logits, log_probabilities)
        record.cache = context.cache

        candidates = _extend(running, log_probabilities, K, random if arguments.do_sample else None)
        rows = xp.reshape(candidates.sequences, (-1, candidates.sequences.shape[2]))
        ended = xp.reshape(stop(rows, record.scores_so_far), candidates.scores.shape)
        candidates = replace(candidates, ended=ended)
        running = candidates.best(_lowered(candidates.scores, ended), n)
        finished = _finish(finished, candidates, hopeful, step, arguments)

        hopeful = hopeful & _can_improve(running, finished, step, arguments)
        full = arguments.early_stopping is True and bool(xp.all(finished.ended))
        if full or not bool(xp.any(hopeful)) or bool(xp.all(ended)):
            break
        context = context.select(xp.reshape(running.origins[:, :, -1], (-1,)))
        context = context.append(xp.reshape(running.sequences[:, :, -1], (-1,)))
    return _trimmed(finished, arguments.num_return_sequences)


def _start(prompt: Array, n: int) -> tuple[Hypotheses, Hypotheses]:
    """The n beams of each prompt, all alike, and n places for finished texts, all empty."""
    xp = array_namespace(prompt)
    B, L = prompt.shape
    place = device(prompt)
    empty = Hypotheses(
        sequences=xp.broadcast_to(prompt[:, None, :], (B, n, L)),
        scores=xp.full((B, n), FORBIDDEN, dtype=xp.float32, device=place),
        origins=xp.zeros((B, n, 0), dtype=widest_integer(prompt), device=place),
        ended=xp.zeros((B, n), dtype=xp.bool, device=place),
    )
    # Only the first beam counts at first: from all of them the same token would be chosen n times.
    first = xp.broadcast_to(xp.arange(n, device=place) == 0, (B, n))
    return replace(empty, scores=xp.where(first, xp.zeros_like(empty.scores), empty.scores)), empty


def _extend(running: Hypotheses, log_probabilities: Array, K: int, random: np.random.Generator | None) -> Hypotheses:
    """Continue the beams by one token: the K most likely continuations of each prompt, or K drawn ones.

    log_probabilities (B * n, V) of the next token.
    """
    xp = array_namespace(log_probabilities)
    B, n = running.scores.shape
    V = log_probabilities.shape[1]
    scores = xp.reshape(xp.reshape(log_probabilities, (B, n, V)) + running.scores[:, :, None], (B, n * V))
    if random is None:
        values, chosen = largest(scores, K)
    else:
        chosen = draw_several(scores, K, random)
        values = xp.take_along_axis(scores, chosen, axis=1)
    beams, tokens = chosen // V, chosen % V
    texts = running.select(beams)
    origins = beams + n * xp.arange(B, device=device(beams))[:, None]
    return Hypotheses(
        sequences=xp.concat([texts.sequences, tokens[:, :, None]], axis=2),
        scores=values,
        origins=xp.concat([texts.origins, origins[:, :, None]], axis=2),
        ended=texts.ended,
    )


def _finish(
    finished: Hypotheses, candidates: Hypotheses, hopeful: Array, step: int, arguments: GenerationArguments
) -> Hypotheses:
    """Let the candidates that have just ended compete with the texts that ended before, for the n places.

    Texts that end early are filled with the padding token, or else the first end token. As in Hugging Face, a padding
    token of id 0 counts as none here, and where neither is named they are filled with -1, which is no token. (There,
    -1 fills them also where a padding token is named but no end token.)
    """
    xp = array_namespace(candidates.scores)
    n = arguments.num_beams
    # Only the n best candidates may end a text: the others are there to go on in place of those that end.
    eligible = candidates.ended & (xp.arange(candidates.scores.shape[1], device=device(hopeful)) < n)
    scores = candidates.scores / step**arguments.length_penalty
    if arguments.early_stopping is True:
        scores = _lowered(scores, xp.all(finished.ended, axis=1, keepdims=True))
    scores = _lowered(_lowered(scores, ~hopeful), ~eligible)

    fill = arguments.padding_id or next(iter(arguments.eos_token_ids), -1)
    one = finished.sequences[:, :, :1]
    everything = Hypotheses(
        xp.concat([xp.concat([finished.sequences, xp.full_like(one, fill)], axis=2), candidates.sequences], axis=1),
        xp.concat([finished.scores, scores], axis=1),
        xp.concat([xp.concat([finished.origins, xp.full_like(one, -1)], axis=2), candidates.origins], axis=1),
        xp.concat([finished.ended, eligible], axis=1),
    )
    return everything.best(everything.scores, n)


def _can_improve(running: Hypotheses, finished: Hypotheses, step: int, arguments: GenerationArguments) -> Array:
    """Whether the best beam could still end better than the worst of the finished texts does: (B, 1).

    A guess, as in Hugging Face: the beam's score is taken to stay what it is, at its present length, or at the greatest
    length if `early_stopping` is "never" and length is rewarded.
    """
    xp = array_namespace(running.scores)
    longest = arguments.early_stopping == "never" and arguments.length_penalty > 0.0
    length = arguments.steps if longest else step
    best = running.scores[:, :1] / length**arguments.length_penalty
    worst = xp.min(finished.scores, axis=1, keepdims=True)
    worst = xp.where(finished.ended, worst, xp.full_like(finished.scores, FORBIDDEN))
    return xp.any(best > worst, axis=1, keepdims=True)


def _trimmed(finished: Hypotheses, count: int) -> Hypotheses:
    """The first `count` texts of each prompt, cut off where the longest of them ends."""
    xp = array_namespace(finished.origins)
    sequences, origins = finished.sequences[:, :count, :], finished.origins[:, :count, :]
    steps = int(xp.max(xp.sum(xp.astype(origins >= 0, origins.dtype), axis=2)))
    prompt_length = sequences.shape[2] - origins.shape[2]
    return Hypotheses(
        sequences[:, :, : prompt_length + steps],
        finished.scores[:, :count],
        origins[:, :, :steps],
        finished.ended[:, :count],
    )


def _lowered(scores: Array, mask: Array) -> Array:
    """Scores that are not to be chosen where `mask` is true."""
    xp = array_namespace(scores)
    return xp.where(mask, scores + FORBIDDEN, scores)
