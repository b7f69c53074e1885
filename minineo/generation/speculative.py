"""Speculative decoding: guess several tokens cheaply, check them all in one forward pass (Leviathan et al., 2023).

A forward pass over a few tokens takes hardly longer than over one: both read every weight once. So somebody cheaper
drafts the next tokens, the model reads all of them at once, and that gives what it would have said after each. The
drafts are either what followed the same words earlier in the text (prompt lookup, Saxena, 2023) or the output of a
smaller model, the assistant.

**Why the text stays what it was.** Whatever is drafted, position after position the token comes from the model's own
scores, changed by the same processors, which see the same ids as without drafts. A draft only decides how far the
scores at hand reach: after the first position where another token was taken, they belong to a text that did not come
about, and are thrown away. So:

- Greedy search takes the likeliest token of the model at each position, and so the same text.
- Sampling after prompt lookup draws each token from the model's distribution, with the same random numbers in the same
  order: for one seed even the same text.
- Sampling with an assistant reuses its random choice (Leviathan et al., 2023; Chen et al., 2023). A draft x, drawn from
  the assistant's distribution q, is accepted with probability min(1, p(x) / q(x)), where p is the model's. Otherwise
  the token is drawn from max(0, p - q), normalised; they sum to the probability of a rejection. So a token y comes
  with probability min(p(y), q(y)) + max(0, p(y) - q(y)) = p(y).

What differs is rounding: a product of several rows is not summed in the order of a product of one.

Dimensions: n drafts, T positions so far, V vocabulary; there is one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from minineo.arrays import Array, widest_float
from minineo.config import GPTNeoConfig
from minineo.fast.cache import rewind
from minineo.generation.arguments import GenerationArguments, Processor
from minineo.generation.outputs import Record
from minineo.generation.processors import mask_out
from minineo.generation.prompt import Context, last_logits, next_token_logits
from minineo.generation.sampling import draw
from minineo.generation.search import process
from minineo.generation.stopping import Stop
from minineo.layers.softmax import softmax
from minineo.model.cache import Cache


@dataclass(frozen=True)
class Drafts:
    """Guesses of the next tokens, (1, n), and the scores (1, V) that each was drawn from, none where none was drawn."""

    tokens: Array
    scores: Sequence[Array] = ()


Drafter = Callable[[Context, int], Drafts]  # (the text so far, how many drafts at most) -> drafts


def speculative_search(
    model: Any,
    context: Context,
    arguments: GenerationArguments,
    processors: Sequence[Processor],
    stop: Stop,
    random: np.random.Generator,
    record: Record,
) -> Iterator[Array]:
    """Yield what `minineo.generation.search.search` yields, with fewer forward passes: one token (1,) after the other.

    The prompt is read without drafts: a local layer then keeps its window only, and could not take drafts back.
    """
    xp = array_namespace(context.input_ids)
    drafter = _drafter(arguments, processors, random)
    most = _most_drafts(model.config)
    longest = context.input_ids.shape[1] + arguments.steps
    hoped = most  # drafts that are likely to be of use
    done = False
    while not done:
        T, before = context.input_ids.shape[1], context.cache
        # the last position gives one more token, so that drafts for all of the rest would be one too many
        drafts = drafter(context, 0 if before is None else min(most, hoped, longest - T - 1))
        n = drafts.tokens.shape[1]
        logits, read = last_logits(model, context.extend(drafts.tokens), n + 1, True, arguments.edits)
        for i in range(n + 1):
            scores = process(processors, context.input_ids, logits[:, i, :])
            record.add(logits[:, i, :], scores)
            token = _choose(scores, drafts, i, arguments.do_sample, random)
            context = context.append(token)
            done = bool(xp.all(stop(context.input_ids, record.scores_so_far)))
            yield token
            if done or i == n or int(token[0]) != int(drafts.tokens[0, i]):
                break
        if n and arguments.assistant_model is None:  # looking up finds as many as it may, and each one costs a row
            hoped = 2 * (context.input_ids.shape[1] - T)
        if read.cache is not None:
            context = replace(context, cache=_rewound(read.cache, before, context.input_ids.shape[1] - 1))
        record.cache = context.cache


def _choose(scores: Array, drafts: Drafts, i: int, do_sample: bool, random: np.random.Generator) -> Array:
    """The next token (1,): the draft at position i, or another, so that it is distributed as `scores` (1, V) say."""
    if not do_sample:
        return array_namespace(scores).argmax(scores, axis=1)
    if i >= len(drafts.scores):
        return draw(scores, random)
    return accept_or_replace(scores, drafts.tokens[:, i], drafts.scores[i], random)


def accept_or_replace(scores: Array, token: Array, draft_scores: Array, random: np.random.Generator) -> Array:
    """Turn a token (1,) that was drawn from softmax(draft_scores) into one that is distributed as softmax(scores).

    Both scores are (1, V). The token stays what it is as often as that is possible. Probabilities in float64, as in
    `minineo.generation.sampling.draw`.
    """
    xp = array_namespace(scores)
    p, q = (softmax(xp.astype(x, widest_float(x))) for x in (scores, draft_scores))
    x = int(token[0])
    if random.random() * float(q[0, x]) < float(p[0, x]):
        return token
    surplus = p - q
    missing = surplus > 0.0
    if not bool(xp.any(missing)):  # p and q are the same but for rounding
        return draw(scores, random)
    return draw(mask_out(xp.log(xp.where(missing, surplus, xp.ones_like(surplus))), ~missing), random)


def prompt_lookup(input_ids: Array, most: int, ngram_size: int, ends: Sequence[int] = ()) -> Array:
    """What followed when the text (1, T) last held its own last words: (1, n), n at most `most`, maybe 0.

    Looks for the last `ngram_size` tokens, else for one fewer, and so on, and takes the first place, as Hugging Face
    does, and what follows there up to an end token.
    """
    xp = array_namespace(input_ids)
    T = input_ids.shape[1]
    ids = input_ids[0, :]
    for size in range(min(ngram_size, T - 1), 0, -1):
        # which n-grams of the text are alike, by where they start; the text's end itself is not among them
        matches = xp.ones((T - size,), dtype=xp.bool, device=device(ids))
        for i in range(size):
            matches = matches & (ids[i : T - size + i] == ids[T - size + i])
        if bool(xp.any(matches)):
            start = int(xp.argmax(xp.astype(matches, ids.dtype))) + size
            found = ids[start : start + most]
            for end in ends:
                later = xp.cumulative_sum(xp.astype(found == end, ids.dtype)) > 0
                found = found[: found.shape[0] - int(xp.sum(xp.astype(later, ids.dtype)))]
            return found[None, :]
    return input_ids[:, :0]


@dataclass
class Assistant:
    """Drafts by a smaller model, which goes on from the text as if it were its own.

    It applies the same processors and filters: the more alike the two distributions, the more drafts are accepted. Its
    caches since the last check are kept, one for each draft, so that it can go back to the last that was accepted.
    """

    model: Any
    arguments: GenerationArguments
    processors: Sequence[Processor]
    random: np.random.Generator
    caches: list[Cache] = field(default_factory=list)

    def __call__(self, context: Context, most: int) -> Drafts:
        """Draft up to `most` tokens, no more than it has positions for, and none after one that it doubts."""
        T = context.input_ids.shape[1]
        own = replace(context, cache=self._back_to(T - 1))
        scores: list[Array] = []
        room = self.model.config.max_position_embeddings - T + 1  # nobody reads the last draft
        for _ in range(min(most, self.arguments.num_assistant_tokens, room)):
            logits, own = next_token_logits(self.model, own, use_cache=True)
            if own.cache is not None:
                self.caches.append(own.cache)
            scores.append(process(self.processors, own.input_ids, logits))
            sampled = self.arguments.do_sample
            token = draw(scores[-1], self.random) if sampled else array_namespace(logits).argmax(scores[-1], axis=1)
            own = own.append(token)
            # Whether to go on may depend on the drafts so far: they are checked before what comes of it.
            if float(softmax(scores[-1])[0, int(token[0])]) < self.arguments.assistant_confidence_threshold:
                break
        return Drafts(own.input_ids[:, T:], scores)

    def _back_to(self, length: int) -> Cache | None:
        """The cache of the last draft that was accepted: no longer than `length`. The later ones are given up."""
        accepted = [cache for cache in self.caches if cache.length <= length]
        if not accepted:
            return None
        self.caches = [_rewound(self.caches[-1], accepted[-1], accepted[-1].length)]
        return self.caches[0]


def _drafter(arguments: GenerationArguments, processors: Sequence[Processor], random: np.random.Generator) -> Drafter:
    if arguments.assistant_model is not None:
        return Assistant(arguments.assistant_model, arguments, processors, random)
    count, size = arguments.prompt_lookup_num_tokens or 0, arguments.max_matching_ngram_size

    def look_up(context: Context, most: int) -> Drafts:
        return Drafts(prompt_lookup(context.input_ids, min(most, count), size, arguments.eos_token_ids))

    return look_up


def _most_drafts(config: GPTNeoConfig) -> int:
    """How many drafts a local layer can take back: it must still hold all new positions, the last token and drafts."""
    windows = [config.window(i) for i in range(config.num_layers)]
    return max(0, min(window - 2 for window in [*windows, config.max_position_embeddings] if window is not None))


def _rewound(cache: Cache, before: Cache | None, length: int) -> Cache:
    """The cache as it was at `length`, which is not before `before`, of which it is the continuation."""
    if before is None or cache.length == length:
        return cache
    new, kept = cache.length - before.length, length - before.length
    return Cache(tuple(rewind(kv, past, new, kept) for kv, past in zip(cache, before, strict=True)), length)
