"""Score a text: how well a model predicts each token of it, from as much text before as its context holds.

With the sliding window of Hugging Face's guide "Perplexity of fixed-length models": the whole text is encoded at once,
windows as long as the context begin every `stride` tokens, and in each only the tokens count that no earlier window
held. The last window is the first that reaches the end of the text.

Dimensions: T positions of one window, D hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace
from tqdm import tqdm

from minineo.arrays import Array, at_least_float32, beside
from minineo.classes import GPTNeoForCausalLM
from minineo.devices import on_its_device, to_device
from minineo.fast import FAST
from minineo.fast.choose import functions_for
from minineo.fast.losses import token_losses
from minineo.fast.transformer import is_fast
from minineo.layers.softmax import log_softmax
from minineo.model.names import BASE_PREFIX
from minineo.text import NameOrPath, model_and_tokenizer
from minineo.tokenizer import GPT2Tokenizer

CHUNK = 256  # positions that get logits at a time: all of a window's, (T, V), would be the largest array by far


@dataclass(frozen=True)
class Score:
    """How well a text was predicted.

    `loss` is the mean of -log p in nats a token, `perplexity` its exponential, `bits_per_byte` the loss in bits, shared
    out over the bytes of the text, so that models with different vocabularies can be compared. `tokens` were predicted:
    all but the first (of each window, where the windows do not overlap). `bytes` are those of the text in UTF-8.
    """

    loss: float
    perplexity: float
    bits_per_byte: float
    tokens: int
    bytes: int
    windows: int


def score(
    text: str,
    model: GPTNeoForCausalLM | NameOrPath | None = None,
    tokenizer: GPT2Tokenizer | None = None,
    stride: int | None = None,
    progress: bool = False,
) -> Score:
    """Score a text with a sliding window; a smaller `stride` gives each token more context and takes longer.

    `model` is a loaded model (with its `tokenizer`) or a checkpoint directory; None is the bundled model. `stride` is
    in tokens, by default half the model's context. Documents parted by `<|endoftext|>` are one text: the special token
    is encoded as such, and predicted like any other.

    The loss is the guide's, and has its weights: each window's mean counts as often as the window has new tokens, less
    one. That is the number of predictions in the first window; in later ones, which overlap, it is one too few, which
    shows only where the stride is a few tokens.

    Raises:
        ValueError: the text has fewer than two tokens, or tokens that the model does not know; the stride is not
            between 2 and the context.
    """
    if not isinstance(text, str):
        raise TypeError(f"text: received a {type(text).__name__}, expected a str.")
    model, tokenizer = model_and_tokenizer(model, tokenizer)
    longest = model.config.max_position_embeddings
    stride = max(2, longest // 2) if stride is None else stride
    if isinstance(stride, bool) or not isinstance(stride, int) or not 2 <= stride <= longest:
        raise ValueError(f"stride: received {stride!r}, expected an int from 2 to {longest}, the model's context.")
    ids = np.array(tokenizer.encode(text), np.int64)
    if len(ids) < 2:
        raise ValueError(f"text: {len(ids)} tokens are too few, the first is not predicted. Pass a longer text.")
    if ids.max() >= model.config.vocab_size:
        raise ValueError(
            f"tokenizer: gave token {ids.max()} for this text, expected tokens below {model.config.vocab_size}, the "
            "size of the model's vocabulary. Pass the tokenizer that the model was trained with."
        )
    total, weights, tokens, count = 0.0, 0, 0, 0
    with tqdm(total=len(ids), disable=not progress, desc="score", unit="token") as bar:
        for begin, end, new in windows(len(ids), longest, stride):
            predicted = min(new, end - begin - 1)  # nothing comes before the first token of a window
            if new > 1:
                total += float(np.mean(window_losses(model, ids[begin:end], predicted), dtype=np.float64)) * (new - 1)
            weights, tokens, count = weights + new - 1, tokens + predicted, count + 1
            bar.update(new)
    loss, size = total / weights, len(text.encode("utf-8", "surrogatepass"))
    return Score(loss, _exp(loss), bits_per_byte(loss, tokens, size), tokens, size, count)


def bits_per_byte(loss: float, tokens: int, size: int) -> float:
    """A mean loss in nats a token, over that many tokens, as bits for each byte of their text, which has `size`."""
    return loss / math.log(2.0) * tokens / size


def windows(length: int, longest: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield where each window begins and ends, and how many of its tokens, the last ones, are new."""
    seen = 0
    for begin in range(0, length, stride):
        end = min(begin + longest, length)
        yield begin, end, end - seen
        seen = end
        if end == length:
            return


@on_its_device
def window_losses(model: GPTNeoForCausalLM, ids: Array, predicted: int) -> Array:
    """-log p, in nats, of each of the last `predicted` tokens of a window (T,), given all before it: (predicted,)."""
    config, params = model.config, model.params
    head = params[f"{BASE_PREFIX}wte.weight" if config.tie_word_embeddings else "lm_head.weight"]
    ids = beside(ids, like=head)
    functions = functions_for(head)
    hidden = functions.transformer(
        params, config, ids[None, :-1], prefix=BASE_PREFIX, use_cache=False
    ).last_hidden_state
    hidden, labels = hidden[0, -predicted:, :], ids[-predicted:]
    if functions is FAST and is_fast(head):
        return token_losses(hidden, head, labels)
    xp = array_namespace(hidden)
    losses = []
    for i in range(0, predicted, CHUNK):
        part = slice(i, min(i + CHUNK, predicted))
        log_probabilities = log_softmax(at_least_float32(functions.linear(hidden[part, :], head)))
        losses.append(-xp.take_along_axis(log_probabilities, labels[part, None], axis=1)[:, 0])
    return to_device(xp.concat(losses), "cpu")


def _exp(x: float) -> float:
    return math.exp(x) if x < 709.0 else math.inf
