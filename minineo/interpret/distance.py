"""Attention distance: how far back each head looks, beside how far it could.

The mean distance, weighted by the pattern, as Vig & Belinkov 2019 measure it ("Analyzing the structure of attention in
a transformer language model"). In GPT-Neo the window of a local layer is its bound.

Dimensions: L layers, H heads, B batch, T positions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import is_array_api_obj

from minineo.arrays import Array
from minineo.generation.prompt import positions
from minineo.interpret.inputs import Model, from_lists, intermediates, to_numpy, token_ids
from minineo.model.inputs import check_library, check_mask


class AttentionDistance(NamedTuple):
    """How far back heads look, in positions.

    distances (L, H): the mean over queries and keys, 0 for a head that looks only at where it stands. windows (L,): how
    many positions a layer sees, itself among them, or None where it sees all; so a distance is less than its window.
    longest (L,): the mean over queries of the farthest that they could look.
    """

    distances: np.ndarray[Any, Any]
    windows: tuple[int | None, ...]
    longest: np.ndarray[Any, Any]


def attention_distance(model: Model, input_ids: Any, attention_mask: Any = None) -> AttentionDistance:
    """The mean distance from query to key for each head, weighted by its attention.

    input_ids (T,), (B, T) or a list; attention_mask the same, 0 at padding, which neither looks nor is looked at: a
    text is as far from start to end with padding as without.

    Raises:
        ValueError, TypeError: tokens are out of range, or the mask has another shape or nothing but padding.
    """
    ids = token_ids(model, input_ids)
    B, T = ids.shape
    inputs: dict[str, Any] = {}
    real = np.ones((B, T), bool)
    if attention_mask is not None:
        attention_mask = from_lists("attention_mask", attention_mask, ids)
        if is_array_api_obj(attention_mask) and attention_mask.ndim == 1:
            attention_mask = attention_mask[None, :]
        check_library("attention_mask", attention_mask, ids)
        check_mask(attention_mask, B, 0, T)
        inputs = {"attention_mask": attention_mask, "position_ids": positions(attention_mask)}
        real = to_numpy(attention_mask).astype(bool)
        if not real.any():
            raise ValueError("attention_mask: all is padding, so that nothing attends. Pass a 1 for each token.")
    L = model.config.num_layers
    windows = tuple(model.config.window(i) for i in range(L))
    place = np.arange(T)

    def mean_distance(_: str, pattern: Array) -> Array:
        pattern = to_numpy(pattern)
        distance = (place[:, None] - place[None, :]).astype(pattern.dtype)
        return np.einsum("bhij,ij->bih", pattern, distance)[real].mean(axis=0)  # over queries, (H,)

    distances = intermediates(model, ids, [f"h.{i}.attn.pattern" for i in range(L)], mean_distance, **inputs)
    back = place - np.argmax(real, axis=1)[:, None]  # to the first token of each text
    longest = [(back if window is None else np.minimum(back, window - 1))[real].mean() for window in windows]
    return AttentionDistance(np.stack(list(distances.values())), windows, np.array(longest))
