"""How likely a model found each token of a text, and how surprised it was.

Surprisal, -log2 p in bits (Shannon 1948), is what a perfect code would spend on the token; how long people look at a
word grows with it (Hale 2001; Levy 2008; Smith & Levy 2013).

Dimensions: T tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from minineo.classes import GPTNeoForCausalLM
from minineo.interpret.inputs import check_language_model, check_one_text, known_tokens, to_numpy
from minineo.progress import with_progress
from minineo.scoring import window_losses, windows
from minineo.tokenizer import GPT2Tokenizer


@dataclass(frozen=True, eq=False)
class Surprisal:
    """How surprising each token of a text is, given all before it that the context holds.

    tokens (T,) ids; probabilities (T,); bits (T,), -log2 of them. Both are NaN for the first token, which nothing comes
    before. bits_per_token is the mean of the others. With a tokenizer, sizes (T,) are the tokens' bytes, and
    bits_per_byte all bits by all bytes, the first token's too, as in `minineo.score`; without one they are None.
    """

    tokens: np.ndarray[Any, Any]
    probabilities: np.ndarray[Any, Any]
    bits: np.ndarray[Any, Any]
    bits_per_token: float
    sizes: np.ndarray[Any, Any] | None
    bits_per_byte: float | None


def token_probabilities(
    model: GPTNeoForCausalLM, input_ids: Any, stride: int | None = None, progress: bool = False
) -> np.ndarray[Any, Any]:
    """The probability of each token given those before it: (T,), NaN for the first. Arguments as for `surprisal`."""
    probabilities: np.ndarray[Any, Any] = np.exp(-_losses(model, input_ids, stride, progress)[1])
    return probabilities


def surprisal(
    model: GPTNeoForCausalLM,
    input_ids: Any,
    tokenizer: GPT2Tokenizer | None = None,
    stride: int | None = None,
    progress: bool = False,
) -> Surprisal:
    """The surprisal of each token in bits.

    input_ids (T,), (1, T) or a list, of any length: a text longer than the context is read in windows that begin every
    `stride` tokens (by default half the context), so that each token has at least context - stride tokens before it.
    With the `tokenizer` bits are counted by the byte, too. `progress` shows a bar.

    Raises:
        ValueError, TypeError: fewer than two tokens, several texts, tokens or stride out of range, no logits.
    """
    ids, losses = _losses(model, input_ids, stride, progress)
    bits = losses / np.asarray(math.log(2.0), losses.dtype)
    total = float(np.sum(bits[1:], dtype=np.float64))
    sizes = None if tokenizer is None else np.array([len(tokenizer.decode_bytes([int(token)])) for token in ids])
    return Surprisal(
        tokens=ids,
        probabilities=np.exp(-losses),
        bits=bits,
        bits_per_token=total / (len(ids) - 1),
        sizes=sizes,
        bits_per_byte=None if sizes is None else total / int(sizes.sum()),
    )


def _losses(
    model: GPTNeoForCausalLM, input_ids: Any, stride: int | None, progress: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Token ids (T,), and -log p of each in nats (T,), NaN for the first."""
    check_language_model(model)
    longest = model.config.max_position_embeddings
    stride = max(1, longest // 2) if stride is None else stride
    # windows that did not overlap would leave the first token of each without anything before it
    if isinstance(stride, bool) or not isinstance(stride, int | Integral) or not 1 <= stride < longest:
        raise ValueError(
            f"stride: received {stride!r}, expected an int from 1 to {longest - 1}: less than the context."
        )
    texts = known_tokens(model, input_ids)
    check_one_text(texts, at_least=2)  # the first is not predicted
    ids = texts[0, :]
    losses = np.full(ids.shape[0], np.nan, to_numpy(model.params[f"{model.prefix}ln_f.bias"]).dtype)
    parts = list(windows(ids.shape[0], longest, stride))
    for begin, end, new in with_progress(parts, progress, desc="surprisal", unit="window"):
        predicted = min(new, end - begin - 1)
        losses[end - predicted : end] = to_numpy(window_losses(model, ids[begin:end], predicted))
    return to_numpy(ids), losses
