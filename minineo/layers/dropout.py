"""Dropout: in training, numbers are set to zero at random, so that none can rely on another (Srivastava et al. 2014).

Which ones is said by a mask of the value's shape: 0 at those that are dropped, 1 / (1 - rate) at those that are kept,
so that the expected value stays what it is without dropout. Layers take `masks`, a function that gives the mask of an
intermediate by its name, as they take a `tap`.

Dimensions: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from minineo.arrays import Array, device_of
from minineo.config import GPTNeoConfig
from minineo.config_checks import check_real

Masks = Callable[[str, tuple[int, ...], Array], Array | None]

# The last part of the names of what is dropped, and the field of the configuration that says at what rate.
RATES = {
    "embed": "embed_dropout",
    "pattern": "attention_dropout",
    "out": "resid_dropout",
    "classifier": "classifier_dropout",
}


def dropout(x: Array, mask: Array | None) -> Array:
    """Multiply x by a mask of its shape; None drops nothing."""
    return x if mask is None else x * mask


def dropout_backward(dy: Array, mask: Array | None) -> Array:
    """Gradient of `dropout` by x: what was dropped had no say in the result, what was kept was scaled."""
    return dy if mask is None else dy * mask


def no_masks(name: str, shape: tuple[int, ...], like: Array) -> Array | None:
    """Drop nothing; what a pass asks for masks when there is no dropout."""
    return None


def masks_under(masks: Masks, prefix: str) -> Masks:
    """The masks for a part of the model, whose names then stand below `prefix`."""
    return masks if masks is no_masks else lambda name, shape, like: masks(f"{prefix}.{name}", shape, like)


class DropoutMasks:
    """The masks of one training step, at the rates of a configuration: `masks(name, shape, like)`.

    Names are those of the intermediates that are dropped: `embed`, `h.3.attn.pattern`, `h.3.attn.out`, `h.3.mlp.out`;
    and `classifier`, what a token classifier reads. A name's mask is the same whenever it is asked for: backward asks
    again, so that nobody has to keep it. And each row of the batch has its own, drawn from nothing but the seed, the
    step, its number and the name: a batch that is computed in parts, told by `first_row` where each one begins, gets
    the masks of the whole.

    >>> masks = DropoutMasks(GPTNeoConfig(embed_dropout=0.5), seed=0, step=7)
    >>> masks("embed", (1, 2, 4), like=np.zeros(1))
    array([[[2., 0., 2., 2.],
            [0., 2., 0., 2.]]])
    """

    def __init__(self, config: GPTNeoConfig, seed: int = 0, step: int = 0, first_row: int = 0) -> None:
        """`first_row` is the number, in the whole batch, of the first row of the values that are dropped.

        Raises:
            ValueError, TypeError: a rate, the seed, the step or the row is none, naming which.
        """
        self.rates = {part: getattr(config, field) for part, field in RATES.items()}
        for part, rate in self.rates.items():  # a configuration's fields can have been changed
            check_real(RATES[part], rate, below=1.0)
        self.seed, self.step = _word("seed", seed), _word("step", step)
        self.first_row = _word("first_row", first_row)

    def __call__(self, name: str, shape: tuple[int, ...], like: Array) -> Array | None:
        """The mask (B, ...) of the intermediate `name`, of the dtype and on the device of `like`; None at rate 0."""
        rate = self.rates[name.rpartition(".")[2]]
        if rate == 0.0:
            return None
        keep = np.empty(shape, bool)
        for b in range(shape[0]):
            bits = _random_bits(self.seed, self.step, self.first_row + b, name, keep[b].size)
            keep[b] = np.reshape(bits >= round(rate * 2**16), shape[1:])
        xp = array_namespace(like)
        return xp.astype(xp.asarray(keep, device=device_of(like)), like.dtype) * (1.0 / (1.0 - rate))


def _random_bits(seed: int, step: int, row: int, name: str, count: int) -> Array:
    """That many uniform random integers below 2^16: fine enough for a rate, and four in one draw.

    Philox (Salmon et al. 2011) turns a key and a counter into random bits, without a state that depends on what was
    drawn before. The counter goes up in its first word; what tells masks apart stands in the others and in the key.
    """
    name_as_number = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
    key = np.array([seed, step], np.uint64)
    counter = np.array([0, row, name_as_number, 0], np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(-(-count // 4))
    return words.astype("<u8", copy=False).view("<u2")[:count]  # in the same order on every processor


def _word(name: str, value: Any) -> int:
    """The value as an int, if it is one and fits a word of Philox's key and counter."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: received {value!r} of type {type(value).__name__}, expected an int.")
    if not 0 <= value < 2**64:
        raise ValueError(f"{name}: received {value}, expected an int from 0 up to, but not including, 2^64.")
    return int(value)
