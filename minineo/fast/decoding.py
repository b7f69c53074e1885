"""Decoding, fast: one new token for each row of a batch at a time, in memory that does not grow with the text.

The transformer as a function of arrays looks up its parameters, checks its inputs, and makes a new array for each
intermediate and a new cache for each token. That is nothing beside a prompt, but as much as the products beside a
single token of a small model. Here all of it is done once, before the first token.

Dimensions: B batch, H heads, S positions, D hidden size, d head size, M inner size, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minineo.arrays import Array
from minineo.config import GPTNeoConfig
from minineo.fast.activations import activation
from minineo.fast.attention import attend_from_one
from minineo.fast.layer_norm import layer_norm_rows
from minineo.fast.linear import product
from minineo.fast.transformer import query_key_value
from minineo.model.block import Params
from minineo.model.cache import Cache, kept_positions
from minineo.model.names import BASE_PREFIX


class _Layer(NamedTuple):
    """One block: its parameters, and its keys and values (2, B, H, capacity, d) with room for what is still to come."""

    ln_1: tuple[Array, Array]
    qkv: list[tuple[slice, Array]]  # for each weight, its columns of q, k and v
    out_proj: tuple[Array, Array]
    ln_2: tuple[Array, Array]
    c_fc: tuple[Array, Array]
    c_proj: tuple[Array, Array]
    kv: Array
    scores: Array
    window: int | None


class Decoder:
    """Goes on from a cache, token by token; `capacity` is how many positions there will be at most.

    A global layer's keys and values have room for all of them. A local layer's are a **ring** of `window` entries:
    position t is written to entry t % window, over the position that has just left the window. Attention does not mind
    the order of its keys, so what is in the ring is just what the query sees: nothing needs moving, and nothing masking
    but padding.

    `attention_mask` (B, S) is that of the cache's positions, or None if none of them is padding.
    """

    def __init__(
        self, params: Params, config: GPTNeoConfig, cache: Cache, attention_mask: Array | None, capacity: int
    ) -> None:
        self.config, self.length = config, cache.length
        self.wte, self.wpe = params[f"{BASE_PREFIX}wte.weight"], params[f"{BASE_PREFIX}wpe.weight"]
        self.ln_f = params[f"{BASE_PREFIX}ln_f.weight"], params[f"{BASE_PREFIX}ln_f.bias"]
        self.head = self.wte if config.tie_word_embeddings else params["lm_head.weight"]
        self.activation = activation(config.activation_function)
        (B, H, _, d), D, dtype = cache[0][0].shape, config.hidden_size, self.wte.dtype
        self.layers = [_layer(params, config, i, cache, capacity) for i in range(config.num_layers)]
        self.normed, self.z, self.out = (np.empty((B, D), dtype) for _ in range(3))
        self.inner = np.empty((B, config.inner_size), dtype)
        self.qkv = np.empty((B, 3 * D), dtype)
        # the same memory as attention sees it
        self.q, self.k_and_v = self.qkv[:, :D].reshape(B, H, 1, d), self.qkv[:, D:].reshape(B, 2, H, d).swapaxes(0, 1)
        self.z_heads = self.z.reshape(B, H, 1, d)
        self.positions: Array | int = cache.length  # of the next token
        self.padding: Array | None = None
        if attention_mask is not None:
            self.positions = np.count_nonzero(attention_mask, axis=1)  # padding has no position
            self.padding = np.zeros((B, 1, 1, capacity), np.bool_)
            self.padding[:, 0, 0, : self.length] = attention_mask == 0
            self.last_padding = int(np.flatnonzero(self.padding.any(axis=0))[-1]) if self.padding.any() else -1

    def step(self, tokens: Array) -> Array:
        """Logits (B, V) for what follows one more token (B,) of each row."""
        x = self.wte[tokens]
        x += self.wpe[self.positions]
        self.positions += 1
        epsilon = self.config.layer_norm_epsilon
        for layer in self.layers:
            layer_norm_rows(x, *layer.ln_1, epsilon, self.normed)
            for columns, weight in layer.qkv:
                product(self.normed, weight, out=self.qkv[:, columns])
            self._attend(layer)
            self._add(x, self.z, *layer.out_proj)
            layer_norm_rows(x, *layer.ln_2, epsilon, self.normed)
            product(self.normed, layer.c_fc[0], out=self.inner)
            self.inner += layer.c_fc[1]
            self._add(x, self.activation(self.inner), *layer.c_proj)
        layer_norm_rows(x, *self.ln_f, epsilon, self.normed)
        self.length += 1
        return product(self.normed, self.head)

    def _attend(self, layer: _Layer) -> None:
        """Put the new keys and values where they belong, and attend from the new query, into z."""
        entry = self.length if layer.window is None else self.length % layer.window
        seen = min(self.length + 1, layer.kv.shape[3])
        layer.kv[:, :, :, entry] = self.k_and_v
        k, v = layer.kv[:, :, :, :seen]
        padding = None if self.padding is None else self._padding(layer.window, seen)
        attend_from_one(self.q, k, v, padding, layer.scores[..., :seen], self.z_heads)

    def _add(self, x: Array, y: Array, weight: Array, bias: Array) -> None:
        """Add a linear layer of y to the residual stream x (B, D)."""
        product(y, weight, out=self.out)
        self.out += bias
        x += self.out

    def _padding(self, window: int | None, seen: int) -> Array | None:
        """Which entries are padding, (B, 1, 1, seen), or None: in a ring they are not in the order of the text."""
        assert self.padding is not None
        first = 0 if window is None else max(0, self.length + 1 - window)
        if first > self.last_padding:
            return None
        padding = self.padding[..., first : self.length + 1]
        return padding if first == 0 else np.roll(padding, first % seen, axis=-1)

    def cache(self) -> Cache:
        """The keys and values so far, as a forward pass would have left them."""
        layers = []
        for layer in self.layers:
            keep = kept_positions(self.length, layer.window)
            entries = np.arange(self.length - keep, self.length)
            if layer.window is not None:
                entries %= layer.window
            k, v = layer.kv[:, :, :, entries]
            layers.append((k, v))
        return Cache(tuple(layers), self.length)


def _layer(params: Params, config: GPTNeoConfig, i: int, cache: Cache, capacity: int) -> _Layer:
    """Block i, with what the cache holds for it in its buffers."""
    at, window = f"{BASE_PREFIX}h.{i}", config.window(i)

    def pair(name: str) -> tuple[Array, Array]:
        return params[f"{at}.{name}.weight"], params[f"{at}.{name}.bias"]

    k, v = cache[i]
    B, H, S, d = k.shape
    room = capacity if window is None else min(window, capacity)
    kv = np.empty((2, B, H, room, d), k.dtype)
    entries = np.arange(cache.length - S, cache.length) % room
    kv[0][:, :, entries] = k
    kv[1][:, :, entries] = v
    return _Layer(
        pair("ln_1"),
        query_key_value(params, at),
        pair("attn.attention.out_proj"),
        pair("ln_2"),
        pair("mlp.c_fc"),
        pair("mlp.c_proj"),
        kv,
        np.empty((B, H, 1, room), k.dtype),
        window,
    )
