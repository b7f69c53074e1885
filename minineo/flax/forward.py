"""The Flax models' forward pass: the transformer as it is, with attention edited on its way.

Two things are different in Flax. Keys and values may lie in a static cache, which the queries' positions are not the
last of. And what a mask hides gets the lowest number there is, whether it is padding, ahead or before the window, so
that a position that sees nothing mixes *all* positions evenly. (Nobody reads such a position: it is padding itself.)
Both are edits of intermediates, made by a tap: `k` and `v` become those of the whole cache, `scores` are masked anew.

Dimensions: B batch, H heads, T new positions, L positions of the cache or, without one, T; d head size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace

from minineo.arrays import Array, device_of, scalar
from minineo.config import GPTNeoConfig
from minineo.flax.cache import LayerCache, insert
from minineo.layers.dropout import Masks
from minineo.model.block import Params
from minineo.model.heads import REFERENCE, Functions
from minineo.model.outputs import ModelOutput


def forward(
    head: Callable[..., ModelOutput],
    params: Params,
    config: GPTNeoConfig,
    input_ids: Array,
    attention_mask: Array | None,
    position_ids: Array | None,
    past: list[LayerCache] | None,
    masks: Masks,
    functions: Functions = REFERENCE,
    **flags: bool,
) -> tuple[ModelOutput, list[LayerCache] | None]:
    """Run a head of `minineo.model.heads`, and return its output with the static cache after it.

    input_ids and position_ids (B, T), attention_mask (B, L); `past` is a static cache with room for L positions.
    Without a mask and a cache nothing is edited, and `functions` may be fast ones. `flags` are output_attentions and
    output_hidden_states.
    """
    inputs: dict[str, Any] = {"position_ids": position_ids, "use_cache": False, "masks": masks, **flags}
    if attention_mask is None and past is None:
        return head(params, config, input_ids, functions=functions, **inputs), None
    edits = AttentionEdits(config, input_ids.shape[1], attention_mask, past)
    # The reference's own mask then only has to let through what the edit of the scores does: without windows, and the
    # queries taken for the last positions of the cache, it hides nothing that one of them may see.
    windowless = copy.copy(config)
    windowless.attention_layers = ["global"] * config.num_layers
    output = head(params, windowless, input_ids, tap=edits, **inputs)
    return output, None if past is None else edits.layers


class AttentionEdits:
    """A tap that has attention read from a static cache, and masks its scores as Flax does.

    `layers` is, after a forward pass, the cache with the new positions in it.
    """

    def __init__(self, config: GPTNeoConfig, T: int, mask: Array | None, past: list[LayerCache] | None) -> None:
        self.config = config
        self.T = T
        self.mask = mask
        self.layers = None if past is None else list(past)
        self.before = past

    def __call__(self, name: str, value: Array) -> Array:
        """Replace keys, values and scores of a layer, and pass all else on."""
        layer, _, part = name.removeprefix("h.").partition(".attn.")
        if part == "scores":
            return self._masked(int(layer), value)
        if part in ("k", "v") and self.layers is not None:
            return self._inserted(int(layer), part, value)
        return value

    def _inserted(self, i: int, part: str, new: Array) -> Array:
        """Put new keys or values (B, H, T, d) into the cache, and give all of it, (B, H, L, d)."""
        assert self.layers is not None
        xp = array_namespace(new)
        before = self.layers[i]
        whole = insert(before.k if part == "k" else before.v, xp.permute_dims(new, (0, 2, 1, 3)), before.index)
        if part == "k":
            self.layers[i] = before._replace(k=whole)
        else:  # the last of the two
            self.layers[i] = before._replace(v=whole, index=before.index + self.T)
        return xp.permute_dims(whole, (0, 2, 1, 3))

    def _masked(self, i: int, scores: Array) -> Array:
        """Give the scores (B, H, T, L) the lowest number where a query may not look."""
        xp = array_namespace(scores)
        T, L = scores.shape[2:]
        first = 0 if self.before is None else self.before[i].index
        queries, keys = (xp.arange(count, device=device_of(scores)) for count in (T, L))
        distance = (first + queries)[:, None] - keys[None, :]
        window = self.config.window(i)
        seen = (distance >= 0) if window is None else (distance >= 0) & (distance < window)
        if self.mask is not None:
            seen = seen & xp.astype(self.mask, xp.bool)[:, None, None, :]
        return xp.where(seen, scores, scalar(float(xp.finfo(scores.dtype).min), like=scores))
