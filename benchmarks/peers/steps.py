"""The steps that make minineo fast, one at a time: for each the way it was before and the way it is, on equal inputs.

Dimensions: H heads, T positions, D hidden size, d head size, M inner size, N rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache, partial
from typing import Any
from unittest import mock

import numpy as np

import minineo
from benchmarks.shapes import BUNDLED, Shape
from minineo.arrays import Array
from minineo.fast import activations, attention, cache, layer_norm, linear, threads, transformer
from minineo.fast.decoding import Decoder
from minineo.fast.linear import product
from minineo.layers import activations as reference_activations
from minineo.layers import attention as reference_attention
from minineo.layers import layer_norm as reference_layer_norm
from minineo.model import cache as reference_cache
from minineo.model.heads import REFERENCE, causal_lm

LAYERS = 12  # whose weights take turns, so that they are not in a cache when they come round again
ROUNDING = 1e-4  # of the largest number: sums taken in another order
ENOUGH = 0.2  # seconds in which a call is repeated; the best counts
CONTINUED = 48  # tokens after which a continuation begins again, so that its position stays what its name says
SHARING = (threads, transformer, attention, linear)  # the modules that ask for the number of threads

Work = Callable[[], Any]
Pair = tuple[Work, Work]  # before and after: they return the same, an array or equal arrays in a sequence


class Steps:
    """Every step by its name; the arrays of one of them at a time are in memory."""

    def __init__(self, shape: Shape, quick: bool) -> None:
        T, short, long, past, position = (64, 64, 64, 60, 16) if quick else (2048, 512, 1024, 1900, 256)
        D, M, window = shape.hidden_size, 4 * shape.hidden_size, shape.window_size
        gelu_name, one = f"gelu, {T} x {M}", f"token at position {position}"
        self.steps: dict[str, Callable[[], Pair]] = {
            f"{gelu_name}: x**3 -> fast": partial(gelu, T, M, power),
            f"{gelu_name}: reference -> fast": partial(gelu, T, M, reference_activations.gelu_new),
            f"layer norm, {T} x {D}: reference -> fast": partial(norm, T, D),
            f"scores, {short} positions: einsum -> matmul": partial(scores, shape, short),
            f"attention, global, {T}: reference -> fast": partial(attend, shape, T, None),
            f"attention, local, {T}: reference -> fast": partial(attend, shape, T, window),
            f"attention, global, {T}: BLAS's threads -> threads share heads": partial(attend_sharing, shape, T),
            f"q, k and v, 1 row, {LAYERS} layers: three products -> one": partial(qkv, D, 1, LAYERS),
            f"q, k and v, {long} rows, 2 layers: three products -> one": partial(qkv, D, long, 2),
            "8 single tokens, c_fc: stack of 8 matrices @ weight.T -> product": partial(products, D, 8, stacked),
            "8 rows, c_fc: x @ weight.T -> product": partial(products, D, 8, plain),
            "2 rows, c_fc: x @ weight.T -> product": partial(products, D, 2, plain),
            "8 rows, c_fc: one thread -> threads share slices": partial(products_sharing, D, 8),
            "1 row, c_fc, weights in memory: (in, out) -> (out, in)": partial(products, D, 1, plain, turned=True),
            "8 rows, c_fc, weights in memory: (in, out) -> (out, in)": partial(products, D, 8, plain, turned=True),
            f"keys and values of {past} positions: concatenate -> in place": partial(append, shape, past),
            f"{one}: no cache -> cache": partial(caching, shape, position),
            f"{one}, cache: reference -> fast": partial(layers_with_cache, shape, position),
            f"{one}, cache: call of the model -> decoder": partial(decoder, shape, position),
            f"forward, {long} tokens, all logits: reference -> fast": partial(forward, shape, long),
            f"forward, {long} tokens: all logits -> last logits": partial(prefill, shape, long),
            f"forward, {long} tokens, last logits: BLAS's threads -> threads share rows": partial(
                prefill_sharing, shape, long
            ),
            f"{BUNDLED.name}, token at position 128, cache: call of the model -> decoder": partial(
                decoder, BUNDLED, 128
            ),
        }
        self.enough = 0.0 if quick else ENOUGH
        self.pair: Pair = (lambda: None, lambda: None)

    def names(self) -> list[str]:
        """Of all steps, in order."""
        return list(self.steps)

    def prepare(self, name: str) -> float:
        """Make the arrays of a step; returns how far its two results differ, relative to the largest number.

        Raises:
            ValueError: they differ by more than rounding.
        """
        self.pair = (lambda: None, lambda: None)  # gives back the memory of the step before
        self.pair = self.steps[name]()
        before, after = (np.asarray(work()) for work in self.pair)
        if before.shape != after.shape or after.dtype != np.float32:
            raise ValueError(f"{name}: {after.dtype} {after.shape} after, {before.dtype} {before.shape} before")
        difference = float(np.abs(before - after).max() / np.abs(before).max())
        if not difference <= ROUNDING:
            raise ValueError(f"{name}: before and after differ by {difference:.2g} of the largest number")
        return difference

    def time(self, after: bool) -> float:
        """Seconds of the best of several calls of the step that was prepared."""
        work, best, end = self.pair[after], math.inf, time.perf_counter() + self.enough
        while (start := time.perf_counter()) < end or best == math.inf:
            work()
            best = min(best, time.perf_counter() - start)
        return best


def random(*shape: int) -> Array:
    """Numbers about the size of weights: the same for the same shape."""
    return 0.1 * np.random.default_rng(0).standard_normal(shape, np.float32)


def one_thread() -> int:
    """In place of `minineo.fast.threads.count`."""
    return 1


def sharing(work: Work) -> Pair:
    """Products shared out by BLAS or not at all, all else in one thread, against threads that share the work."""

    def alone() -> Any:
        with ExitStack() as stack:
            for module in SHARING:
                stack.enter_context(mock.patch.object(module, "count", one_thread))
            return work()

    return alone, work


def restarted(start: Callable[[], Work], calls: int) -> Work:
    """What `start` makes, made anew after so many calls: for work that goes on where its last call ended."""
    work: Work = start()
    left = calls

    def again() -> Any:
        nonlocal work, left
        if left == 0:
            work, left = start(), calls
        left -= 1
        return work()

    return again


# Layers


def power(x: Array) -> Array:
    """The formula of gelu_new as it stands in the literature."""
    y: Array = 0.5 * x * (1.0 + np.tanh(0.7978845608028654 * (x + 0.044715 * x**3)))
    return y


def gelu(N: int, M: int, before: Callable[[Array], Array]) -> Pair:
    """A formula against the fast one."""
    x = random(N, M)
    return lambda: before(x), lambda: activations.gelu_new(x)


def norm(N: int, D: int) -> Pair:
    """The reference against a few rows at a time."""
    x, weight, bias = random(N, D), random(D), random(D)
    return (
        lambda: reference_layer_norm.layer_norm(x, weight, bias, 1e-5),
        lambda: layer_norm.layer_norm(x, weight, bias, 1e-5),
    )


def heads(shape: Shape, T: int) -> list[Array]:
    """Queries, keys and values (1, H, T, d)."""
    return list(random(3, 1, shape.num_heads, T, shape.hidden_size // shape.num_heads))


def scores(shape: Shape, T: int) -> Pair:
    """Einsum, which loops by itself, against a matrix product, which is BLAS's."""
    q, k, _ = heads(shape, T)
    return lambda: np.einsum("bhqd,bhkd->bhqk", q, k), lambda: q @ k.swapaxes(-1, -2)


def attend(shape: Shape, T: int, window: int | None) -> Pair:
    """All scores, then a mask, against blocks of queries that meet only the keys they see."""
    q, k, v = heads(shape, T)
    return lambda: reference_attention.attention(q, k, v, window), lambda: attention.attention(q, k, v, window)


def attend_sharing(shape: Shape, T: int) -> Pair:
    """Fast attention whose heads are shared out."""
    q, k, v = heads(shape, T)
    return sharing(lambda: attention.attention(q, k, v))


# Products


def qkv(D: int, N: int, layers: int) -> Pair:
    """Three products with one input against one."""
    x, weights = random(N, D), random(layers, 3 * D, D)
    thirds = [np.split(weight, 3) for weight in weights]

    def after() -> list[Any]:
        results = [product(x, weight) for weight in weights]
        return [(y[:, :D], y[:, D : 2 * D], y[:, 2 * D :]) for y in results]

    return lambda: [[product(x, weight) for weight in three] for three in thirds], after


def plain(x: Array, weight: Array) -> Array:
    """As the formula says."""
    y: Array = x @ weight.T
    return y


def stacked(x: Array, weight: Array) -> Array:
    """What NumPy makes of a batch of single tokens (N, 1, D): a product for each."""
    y: Array = x[:, None] @ weight.T
    return y[:, 0]


def products(D: int, N: int, before: Callable[[Array, Array], Array], turned: bool = False) -> Pair:
    """N rows times the c_fc of every layer, `turned` those that lie as (in, out) in memory before; after, minineo's."""
    x, weights = random(N, D), random(LAYERS, 4 * D, D)
    others = [np.ascontiguousarray(weight.T).T for weight in weights] if turned else list(weights)
    return lambda: [before(x, weight) for weight in others], lambda: [product(x, weight) for weight in weights]


def products_sharing(D: int, N: int) -> Pair:
    """N rows times the c_fc of every layer, whose slices are shared out."""
    x, weights = random(N, D), random(LAYERS, 4 * D, D)
    return sharing(lambda: [product(x, weight) for weight in weights])


# Decoding


def append(shape: Shape, past: int) -> Pair:
    """One position more: new arrays for all of them against a place in room that is there."""
    _, k, v = heads(shape, past)
    new = k[:, :, :1], v[:, :, :1]

    def start() -> Work:
        kv = cache.forget((k, v), None)

        def step() -> Any:
            nonlocal kv
            kv = cache.forget(cache.append(kv, *new), None)
            return kv

        return step

    return lambda: reference_cache.forget(reference_cache.append((k, v), *new), None), restarted(start, past)


@lru_cache(maxsize=1)
def model(shape: Shape) -> minineo.GPTNeoForCausalLM:
    """A model with random weights."""
    return minineo.GPTNeoForCausalLM(shape.config(), seed=0)


def token_ids(shape: Shape, T: int) -> Array:
    """Random ids (1, T)."""
    return np.random.default_rng(0).integers(shape.vocab_size, size=(1, T))


def fast(shape: Shape, ids: Array, **inputs: Any) -> Any:
    """A call of the model."""
    return model(shape)(ids, **inputs)


def reference(shape: Shape, ids: Array, **inputs: Any) -> Any:
    """A call of the reference."""
    return causal_lm(model(shape).params, model(shape).config, ids, functions=REFERENCE, **inputs)


def continued(shape: Shape, position: int) -> Work:
    """One token after another, each a call of the model with the cache of the last."""
    ids = token_ids(shape, position + 1)
    first = fast(shape, ids[:, :-1], logits_to_keep=1).past_key_values

    def start() -> Work:
        past = first

        def step() -> Any:
            nonlocal past
            output = fast(shape, ids[:, -1:], past_key_values=past, logits_to_keep=1)
            past = output.past_key_values
            return output.logits

        return step

    return restarted(start, CONTINUED)


def caching(shape: Shape, position: int) -> Pair:
    """Everything again for each token against the keys and values of before."""
    ids = token_ids(shape, position + 1)
    return lambda: fast(shape, ids, logits_to_keep=1, use_cache=False).logits, continued(shape, position)


def layers_with_cache(shape: Shape, position: int) -> Pair:
    """The reference's layers against the fast ones, both with a cache."""
    ids = token_ids(shape, position + 1)
    past = reference(shape, ids[:, :-1], logits_to_keep=1).past_key_values
    return (
        lambda: reference(shape, ids[:, -1:], past_key_values=past, logits_to_keep=1).logits,
        continued(shape, position),
    )


def decoder(shape: Shape, position: int) -> Pair:
    """A call for each token against a decoder, whose memory is there beforehand."""
    ids = token_ids(shape, position + 1)
    past = fast(shape, ids[:, :-1], logits_to_keep=1).past_key_values

    def start() -> Work:
        own = Decoder(model(shape).params, model(shape).config, past, None, position + CONTINUED)
        return lambda: own.step(ids[:, -1])[:, None]

    return continued(shape, position), restarted(start, CONTINUED)


# Whole prompts


def forward(shape: Shape, T: int) -> Pair:
    """The reference's layers against the fast ones."""
    ids = token_ids(shape, T)
    return lambda: reference(shape, ids, use_cache=False).logits, lambda: fast(shape, ids, use_cache=False).logits


def prefill(shape: Shape, T: int) -> Pair:
    """Logits of all positions against those of the last, which alone are needed to go on."""
    ids = token_ids(shape, T)
    return lambda: fast(shape, ids).logits[:, -1:], lambda: fast(shape, ids, logits_to_keep=1).logits


def prefill_sharing(shape: Shape, T: int) -> Pair:
    """A prompt whose rows and heads are shared out."""
    ids = token_ids(shape, T)
    return sharing(lambda: fast(shape, ids, logits_to_keep=1).logits)
