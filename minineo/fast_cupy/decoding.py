"""Decoding on a GPU: the launches of one token, captured once as a CUDA graph, are replayed for every token.

All that a token needs stands still in memory: the residual stream, the keys and values of all positions (a static
cache), the tokens, and the position, which the last kernel moves on. So a replay takes no argument, and the host has
nothing to do but to start it and to read the token. What it costs is then to read each weight once, which is the limit
of decoding a single text.

Dimensions: D hidden size, M inner size, H heads, d head size, S positions there is room for, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from minineo.arrays import Array
from minineo.config import GPTNeoConfig
from minineo.devices import to_device
from minineo.fast_cupy.kernels import THREADS, contiguous, launch
from minineo.fast_cupy.transformer import has_kernels
from minineo.layers.activations import activation, gelu_new
from minineo.model.block import Params
from minineo.model.cache import Cache
from minineo.model.names import BASE_PREFIX

WARPS = THREADS // 32  # rows of a weight that a block multiplies at a time
SHARED_FLOATS = 12 * 1024 - 128  # that a block may have: 48 KiB without asking for more, less what sums of a block take
PARTS = 16  # blocks that share the positions which a head attends to
MOST_BLOCKS = 2048  # of the head's product, whose rows they share: each block makes the layer norm anew
CHOOSING = 1024  # threads of the one block that chooses the token


class Decoder:
    """What decoding one text needs, on the device.

    `cache` is that of all tokens (1, T) but the last one, with which `step` goes on; None if there is but one. There is
    room for S positions.
    A temperature of 0 takes the likeliest token each time; otherwise one is drawn, from the `top_k` likeliest if that
    is not 0, by noise that `key` alone decides.
    """

    def __init__(
        self,
        params: Params,
        config: GPTNeoConfig,
        tokens: Array,
        cache: Cache | None,
        S: int,
        temperature: float = 0.0,
        top_k: int = 0,
        key: int = 0,
    ) -> None:
        self.params, self.config, self.S = params, config, S
        self.temperature, self.top_k, self.key = temperature, top_k, np.uint64(key)
        weight = params[f"{BASE_PREFIX}wte.weight"]
        xp, self.dtype = array_namespace(weight), weight.dtype
        T, D = tokens.shape[1], config.hidden_size
        self.tokens = xp.zeros((S + 1,), dtype=xp.int64)
        self.tokens[:T] = tokens[0]
        self.position = xp.full((1,), T - 1, dtype=xp.int32)
        shape = (config.num_heads, S, config.head_size)
        self.keys = [xp.zeros(shape, dtype=self.dtype) for _ in range(config.num_layers)]
        self.values = [xp.zeros(shape, dtype=self.dtype) for _ in range(config.num_layers)]
        for i, (past_keys, past_values) in enumerate(cache or ()):
            kept = past_keys.shape[2]  # a local layer has dropped the positions before them, and never asks for them
            self.keys[i][:, T - 1 - kept : T - 1] = past_keys[0]
            self.values[i][:, T - 1 - kept : T - 1] = past_values[0]
        self.x, self.q, self.z = (xp.zeros((D,), dtype=xp.float32) for _ in range(3))
        self.found = xp.zeros((config.num_heads, PARTS, config.head_size + 2), dtype=xp.float32)
        self.done = xp.zeros((config.num_heads,), dtype=xp.int32)
        self.act = xp.zeros((config.inner_size,), dtype=xp.float32)
        self.logits = xp.zeros((config.vocab_size,), dtype=xp.float32)

    def step(self) -> None:
        """Launch all kernels of one token."""
        params, D, V = self.params, self.config.hidden_size, self.config.vocab_size
        wte, wpe = params[f"{BASE_PREFIX}wte.weight"], params[f"{BASE_PREFIX}wpe.weight"]
        launch("embed_token", self.dtype, _blocks(D, THREADS), self.tokens, self.position, wte, wpe, self.x, D)
        for i in range(self.config.num_layers):
            self._block(i)
        head = wte if self.config.tie_word_embeddings else params["lm_head.weight"]
        self._normed_product(f"{BASE_PREFIX}ln_f", head, None, self.logits)
        choice = (self.temperature, self.top_k, self.key, V)
        launch("choose_token", self.dtype, 1, self.logits, self.tokens, self.position, *choice, threads=CHOOSING)

    def _block(self, i: int) -> None:
        params, config, at = self.params, self.config, f"{BASE_PREFIX}h.{i}"
        D, d, attn = config.hidden_size, config.head_size, f"{BASE_PREFIX}h.{i}.attn.attention"
        norm = (params[f"{at}.ln_1.weight"], params[f"{at}.ln_1.bias"], config.layer_norm_epsilon)
        weights = [params[f"{attn}.{name}_proj.weight"] for name in "qkv"]
        keys, values = self.keys[i], self.values[i]
        launch(
            *("project_qkv", self.dtype, _blocks(3 * D, WARPS), self.x, *norm, *weights, self.position),
            *(self.q, keys, values, D, d, self.S),
            shared_floats=D,
        )
        launch(
            *("attend", self.dtype, config.num_heads * PARTS, self.q, keys, values, self.position, self.z),
            *(self.found, self.done, PARTS, d, self.S, config.window(i) or 0),
            shared_floats=WARPS * d + _blocks(self.S, PARTS),
        )
        self._project_and_add(self.z, f"{attn}.out_proj")
        self._normed_product(f"{at}.ln_2", params[f"{at}.mlp.c_fc.weight"], params[f"{at}.mlp.c_fc.bias"], self.act)
        self._project_and_add(self.act, f"{at}.mlp.c_proj")

    def _normed_product(self, norm: str, weight: Array, bias: Array | None, y: Array) -> None:
        outputs, D = weight.shape
        blocks = min(_blocks(outputs, WARPS), MOST_BLOCKS)
        normed = (self.params[f"{norm}.weight"], self.params[f"{norm}.bias"], self.config.layer_norm_epsilon)
        launch("normed_product", self.dtype, blocks, self.x, *normed, weight, bias, y, D, outputs, shared_floats=D)

    def _project_and_add(self, y: Array, at: str) -> None:
        weight, bias = self.params[f"{at}.weight"], self.params[f"{at}.bias"]
        outputs, inputs = weight.shape
        sizes = (inputs, outputs)
        blocks = _blocks(outputs, WARPS)
        launch("project_and_add", self.dtype, blocks, y, weight, bias, self.x, *sizes, shared_floats=inputs)


def decoded(
    params: Params, config: GPTNeoConfig, tokens: Array, cache: Cache | None, steps: int, **sampling: Any
) -> Iterator[int]:
    """Yield up to `steps` tokens that continue tokens (1, T), whose cache is that of all but the last of them.

    `sampling` is as for `Decoder`. Nothing but the token itself is copied to the host.
    """
    T = tokens.shape[1]
    params = {name: contiguous(array) for name, array in params.items()}
    decoder = Decoder(params, config, tokens, cache, T + steps, **sampling)
    step = decoder.step
    for position in range(T, T + steps):
        step()
        yield int(to_device(decoder.tokens[position], "cpu"))
        if position == T:  # not before: the first step has compiled and loaded the kernels
            step = captured(decoder.step)


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """The launches of `step`, as a CUDA graph: one call starts all of them."""
    cupy = import_module("cupy")
    cupy.cuda.get_current_stream().synchronize()  # what is to be there at the first replay, is there
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        step()
        graph = stream.end_capture()

    def replay() -> None:
        graph.launch(stream)
        stream.synchronize()

    return replay


def can_decode(params: Params, config: GPTNeoConfig, S: int) -> bool:
    """Whether there are kernels for such a model, and room for S positions in what a block of threads shares."""
    shared = max(WARPS * config.head_size + _blocks(S, PARTS), config.inner_size, config.hidden_size)
    return has_kernels(params) and activation(config.activation_function) is gelu_new and shared <= SHARED_FLOATS


def _blocks(count: int, each: int) -> int:
    return -(-count // each)
