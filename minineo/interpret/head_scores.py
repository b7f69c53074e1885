"""What attention heads look for: the previous token, the same token, or what followed it last time.

An induction head attends from a token to the one that followed the same token earlier, and so continues what has been
there before (Elhage et al. 2021; Olsson et al. 2022, "In-context learning and induction heads").

Dimensions: L layers, H heads, B batch, T positions.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from minineo.arrays import Array
from minineo.interpret.inputs import Model, check_model, intermediates, to_numpy, token_ids

MEASURES = ("mean", "mul", "abs")
RANDOM_TEXTS = 4
RANDOM_LENGTH = 25  # as in Olsson et al. 2022


class HeadScores(NamedTuple):
    """How much each head is of a kind: scores (L, H), where 1 is a perfect one.

    `kind` is "previous token", "duplicate token" or "induction"; `measure` how it was measured; `windows` (L,) says how
    far back each layer sees, None: everywhere.
    """

    scores: np.ndarray[Any, Any]
    kind: str
    measure: str
    windows: tuple[int | None, ...]


def previous_token_scores(model: Model, input_ids: Any, measure: str = "mean") -> HeadScores:
    """How much each head attends from a token to the one before it.

    input_ids (T,), (B, T) without padding, or a list. `measure` is one of:

    - "mean": the attention to such positions, averaged over the queries that have one. A head that does nothing else
      scores 1. It is the prefix matching score of Olsson et al. 2022, where it is applied to induction.
    - "mul" and "abs": the overlap of pattern and ideal as `detect_head` of TransformerLens measures it: the share of
      all attention that is so, and 1 less the mean distance of the two over the queries, from -1 to 1. Queries without
      such a position count too, and lower both.

    A head whose window does not reach such a position cannot attend to it, and scores accordingly.

    Raises:
        ValueError, TypeError: the tokens are out of range or none has such a position before it; an unknown measure.
    """
    return _scores(model, input_ids, "previous token", measure)


def duplicate_token_scores(model: Model, input_ids: Any, measure: str = "mean") -> HeadScores:
    """How much each head attends from a token to earlier occurrences of the same token (Wang et al. 2022).

    Arguments and errors as those of `previous_token_scores`.
    """
    return _scores(model, input_ids, "duplicate token", measure)


def induction_scores(model: Model, input_ids: Any = None, measure: str = "mean", seed: int = 0) -> HeadScores:
    """How much each head attends from a token to those that followed it earlier (Olsson et al. 2022).

    Without input_ids the texts are `random_repeated_tokens(model, seed=seed)`: in a sequence of random tokens that
    comes twice nothing but the first time helps to predict the second, so that with "mean" this is the paper's prefix
    matching score. Arguments and errors as those of `previous_token_scores`.
    """
    ids = random_repeated_tokens(model, seed=seed) if input_ids is None else input_ids
    return _scores(model, ids, "induction", measure)


def random_repeated_tokens(
    model: Model, length: int | None = None, repeats: int = 2, texts: int = RANDOM_TEXTS, seed: int = 0
) -> Array:
    """Texts of random tokens that come again: (texts, repeats * length), in the model's array library.

    No token comes twice in one sequence, so that each has one earlier occurrence. `length` is 25, or what context and
    vocabulary allow; a local layer sees the earlier occurrence only where its window is longer.

    Raises:
        ValueError: there are not so many tokens, or not so many positions.
    """
    check_model(model)
    V, longest = model.config.vocab_size, model.config.max_position_embeddings
    counts = {"repeats": (repeats, 2), "texts": (texts, 1)} | ({} if length is None else {"length": (length, 2)})
    for name, (count, least) in counts.items():
        if isinstance(count, bool) or not isinstance(count, int | Integral) or count < least:
            raise ValueError(f"{name}: received {count!r}, expected an int from {least}.")
    most = min(V, longest // repeats)
    length = min(RANDOM_LENGTH, most) if length is None else length
    if not 2 <= length <= most:
        raise ValueError(
            f"length: {length} tokens, {repeats} times, do not fit: a context of {longest} and a vocabulary of {V} "
            f"allow 2 ... {most}."
        )
    random = np.random.default_rng(seed)
    once = [random.choice(V, length, replace=False) for _ in range(texts)]
    return token_ids(model, np.tile(np.stack(once), (1, repeats)).tolist())


def _scores(model: Model, input_ids: Any, kind: str, measure: str) -> HeadScores:
    if measure not in MEASURES:
        raise ValueError(f"measure: received {measure!r}, expected one of {', '.join(map(repr, MEASURES))}.")
    ids = token_ids(model, input_ids)
    ideal = IDEALS[kind](to_numpy(ids))
    if not ideal.any():
        reason = "has only one token" if ids.shape[1] == 1 else "no token comes again before the last"
        raise ValueError(f"input_ids: {reason}, so that there is no {kind} to attend to. Pass a longer text.")
    L = model.config.num_layers
    names = [f"h.{i}.attn.pattern" for i in range(L)]
    scores = intermediates(model, ids, names, lambda _, pattern: overlap(to_numpy(pattern), ideal, measure))
    return HeadScores(np.stack(list(scores.values())), kind, measure, tuple(model.config.window(i) for i in range(L)))


def overlap(pattern: Array, ideal: Array, measure: str) -> Array:
    """How well the patterns of heads (B, H, T, T) fit an ideal one (B, T, T) of booleans: (H,)."""
    wanted = ideal[:, None, :, :]
    there = np.sum(pattern * wanted, axis=(0, 2, 3), dtype=np.float64)
    if measure == "mean":
        score = there / np.sum(ideal.any(axis=2))
    elif measure == "mul":
        score = there / np.sum(pattern, axis=(0, 2, 3), dtype=np.float64)
    else:
        queries = pattern.shape[0] * pattern.shape[2]
        score = 1.0 - np.sum(np.abs(pattern - wanted), axis=(0, 2, 3), dtype=np.float64) / queries
    result: np.ndarray[Any, Any] = score.astype(pattern.dtype)
    return result


def previous_tokens(ids: Array) -> Array:
    """Where a previous-token head looks: (B, T) -> (B, T, T) booleans, query before key."""
    B, T = ids.shape
    return np.broadcast_to(np.eye(T, k=-1, dtype=bool), (B, T, T))


def duplicate_tokens(ids: Array) -> Array:
    """Where a duplicate-token head looks, earlier occurrences of the same token: (B, T) -> (B, T, T) booleans."""
    same: np.ndarray[Any, Any] = np.tril(ids[:, :, None] == ids[:, None, :], k=-1)
    return same


def induction_tokens(ids: Array) -> Array:
    """Where an induction head looks, at what followed earlier occurrences: (B, T) -> (B, T, T) booleans."""
    followed = np.zeros((*ids.shape, ids.shape[1]), bool)
    followed[:, :, 1:] = duplicate_tokens(ids)[:, :, :-1]
    return followed


IDEALS = {"previous token": previous_tokens, "duplicate token": duplicate_tokens, "induction": induction_tokens}
