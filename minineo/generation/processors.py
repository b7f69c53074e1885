"""Change the scores of the next token: penalties, and tokens that must not come now.

Each function takes scores (N, V), of the next token in each of N rows, and returns new ones. A forbidden token gets
-inf. Equal to Hugging Face's logits processors; the repetition penalty is from CTRL (Keskar et al., 2019).

Dimensions: N rows, T positions so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

from array_api_compat import array_namespace, device

from minineo.arrays import Array, widest_integer
from minineo.generation.arguments import GenerationArguments, Processor
from minineo.generation.checks import functions


def build_processors(arguments: GenerationArguments, prompt_length: int, padding: Array | None) -> list[Processor]:
    """List the processors that the arguments ask for, in Hugging Face's order, the caller's own last.

    `arguments` after `with_lengths`; `padding` (N,) is how many positions at the left of each row are padding.
    """
    processors: list[Processor] = []
    if (penalty := arguments.repetition_penalty) != 1.0:
        processors.append(lambda ids, scores: penalise_repetition(ids, scores, penalty, padding))
    if (size := arguments.no_repeat_ngram_size) > 0:
        processors.append(lambda ids, scores: forbid_repeated_ngrams(ids, scores, size))
    ends = arguments.eos_token_ids
    words = [word for word in arguments.bad_words_ids or [] if list(word) not in [[end] for end in ends]]
    if words:
        processors.append(lambda ids, scores: forbid_words(ids, scores, words))
    if ends:
        processors.append(lambda ids, scores: forbid(scores, ends) if ids.shape[1] < arguments.min_length else scores)
    if suppressed := arguments.suppress_tokens:
        processors.append(lambda ids, scores: forbid(scores, suppressed))
    if not_first := arguments.begin_suppress_tokens:
        processors.append(lambda ids, scores: forbid(scores, not_first) if ids.shape[1] == prompt_length else scores)
    return processors + functions(arguments.logits_processor, "logits_processor")


def penalise_repetition(input_ids: Array, scores: Array, penalty: float, padding: Array | None = None) -> Array:
    """Make tokens that are in the text already less likely: positive scores are divided, negative ones multiplied."""
    xp = array_namespace(scores)
    if padding is not None:  # padding is not text, even where it is the end token
        columns = xp.arange(input_ids.shape[1], device=device(input_ids))
        input_ids = xp.where(columns[None, :] < padding[:, None], xp.full_like(input_ids, -1), input_ids)
    penalised = xp.where(scores < 0, scores * penalty, scores / penalty)
    return xp.where(token_mask(input_ids, scores.shape[1]), penalised, scores)


def forbid_repeated_ngrams(input_ids: Array, scores: Array, size: int) -> Array:
    """Forbid each token that would complete an n-gram of `size` tokens that its row holds already."""
    xp = array_namespace(scores)
    T = input_ids.shape[1]
    count = T - size + 1  # n-grams so far
    if count < 1:
        return scores
    completed = input_ids[:, size - 1 :]  # (N, count): the last token of each
    for i in range(size - 1):
        begins_alike = input_ids[:, i : i + count] == input_ids[:, T - size + 1 + i, None]
        completed = xp.where(begins_alike, completed, xp.full_like(completed, -1))
    return mask_out(scores, token_mask(completed, scores.shape[1]))


def forbid_words(input_ids: Array, scores: Array, words: Sequence[Sequence[int]]) -> Array:
    """Forbid the last token of each word (a list of ids) in the rows that end with the rest of it."""
    xp = array_namespace(scores)
    T = input_ids.shape[1]
    matches = [xp.full((input_ids.shape[0], 1), -1, dtype=input_ids.dtype, device=device(input_ids))]
    for length in {len(word) for word in words if len(word) - 1 <= T}:
        alike = xp.asarray(
            [word for word in words if len(word) == length], dtype=input_ids.dtype, device=device(input_ids)
        )
        tail = input_ids[:, None, T - length + 1 :]  # (N, 1, length - 1)
        begun = xp.all(tail == alike[None, :, :-1], axis=2)  # (N, words)
        last = xp.broadcast_to(alike[None, :, -1], begun.shape)
        matches.append(xp.where(begun, last, xp.full_like(last, -1)))
    return mask_out(scores, token_mask(xp.concat(matches, axis=1), scores.shape[1]))


def forbid(scores: Array, tokens: Sequence[int]) -> Array:
    """Forbid some tokens in every row."""
    xp = array_namespace(scores)
    ids = xp.asarray([list(tokens)], dtype=widest_integer(scores), device=device(scores))
    return mask_out(scores, token_mask(ids, scores.shape[1]))


def token_mask(tokens: Array, vocab_size: int) -> Array:
    """Which tokens of the vocabulary occur in each row: tokens (N, K) -> (N, V), boolean. Negative ids are skipped.

    Looks each (row, token) pair up in a sorted list of those that occur, since the array API has no scatter.
    """
    xp = array_namespace(tokens)
    N = tokens.shape[0]
    integer = widest_integer(tokens)
    first = xp.arange(N, dtype=integer, device=device(tokens))[:, None] * (vocab_size + 1)  # of each row's own range
    vocabulary = xp.arange(1, vocab_size + 1, dtype=integer, device=device(tokens))[None, :]  # 0 is for skipped ids
    occurring = xp.sort(xp.reshape(first + 1 + xp.astype(tokens, integer), (-1,)))
    wanted = xp.reshape(first + vocabulary, (-1,))
    places = xp.searchsorted(occurring, wanted)
    found = xp.take(occurring, xp.where(places < occurring.shape[0], places, xp.zeros_like(places)))
    return xp.reshape(found == wanted, (N, vocab_size))


def mask_out(scores: Array, mask: Array) -> Array:
    """Give the tokens where `mask` is true, a boolean array, the score -inf."""
    xp = array_namespace(scores)
    return xp.where(mask, xp.asarray(-xp.inf, dtype=scores.dtype, device=device(scores)), scores)
