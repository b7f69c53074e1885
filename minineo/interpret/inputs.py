"""What the analyses share: checks of what they are given, and intermediates and parameters as NumPy arrays.

A model may compute with any array library. What an analysis returns are NumPy arrays, ready to be printed and drawn.

Dimensions: B batch, T positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from minineo.arrays import Array, beside
from minineo.classes import GPTNeoForCausalLM
from minineo.devices import to_device
from minineo.model.inputs import check_ids, check_inputs, check_library
from minineo.pretrained import GPTNeoPreTrainedModel
from minineo.tokenizer import GPT2Tokenizer

Model = GPTNeoPreTrainedModel[Any]


def token_ids(model: Model, input_ids: Any, name: str = "input_ids") -> Array:
    """Tokens as the model takes them, (B, T): from such an array, one of a single text (T,), or lists of integers.

    Raises:
        ValueError, TypeError: saying what was received and what the model takes.
    """
    ids = known_tokens(model, input_ids, name)
    check_inputs(model.config, model.params[f"{model.prefix}wte.weight"], ids, None, None, None, None, None)
    return ids


def known_tokens(model: Model, input_ids: Any, name: str = "input_ids") -> Array:
    """The same for texts that may be longer than the context: (B, T).

    Lists become arrays of the model's own library; an array of another one is a TypeError, as in a call of the model.
    """
    check_model(model)
    weight = model.params[f"{model.prefix}wte.weight"]
    input_ids = from_lists(name, input_ids, weight)
    if not is_array_api_obj(input_ids):
        raise TypeError(
            f"{name}: received a {type(input_ids).__name__}, expected token ids: an array (T,) or (1, T) of integers, "
            'or a list, such as tokenizer.encode("Once upon a time").'
        )
    check_library(name, input_ids, weight)
    check_ids(name, input_ids, model.config.vocab_size, "vocab_size")
    return input_ids[None, :] if input_ids.ndim == 1 else input_ids


def from_lists(name: str, values: Any, like: Array) -> Any:
    """Integers in lists as an array of the library of `like`, on its device; anything else as it is."""
    if not isinstance(values, list | tuple):
        return values
    try:
        return beside(np.array(values, None if len(values) else np.int64), like)
    except ValueError as error:
        raise ValueError(
            f"{name}: received lists of different lengths, expected as many numbers in each. Pass one text at a time."
        ) from error


def text_tokens(
    model: Model, tokenizer: GPT2Tokenizer | None, text: str | Sequence[int] | Array, name: str = "text"
) -> Array:
    """The tokens of a str, or those that stand in its place, as the model takes them: (1, T).

    Raises:
        ValueError, TypeError: no tokens, more than the model has positions, or a str without a tokenizer.
    """
    check_model(model)
    if not isinstance(text, str):
        return one_text(model, text, name)
    if tokenizer is None:
        raise TypeError(f"tokenizer: received None beside a str, expected a tokenizer. Or pass token ids as {name}.")
    ids: list[int] = tokenizer.encode(text)
    if not ids:
        raise ValueError(f"{name}: received no tokens, expected at least one. Pass some text.")
    longest = model.config.max_position_embeddings
    if len(ids) > longest:
        raise ValueError(
            f"{name}: received {len(ids)} tokens, but the model has {longest} positions. Pass a shorter text, or a "
            f"part of its tokens: tokenizer.encode(text)[:{longest}]."
        )
    return one_text(model, ids, name)


def check_one_text(ids: Array, name: str = "input_ids", at_least: int = 1) -> None:
    """Raise ValueError unless the tokens (B, T) are one text of at least that many tokens."""
    if ids.ndim != 2 or ids.shape[0] != 1:
        raise ValueError(
            f"{name}: received shape {tuple(ids.shape)}, expected the tokens of one text, (T,) or (1, T). "
            f"Pass several one by one, such as {name}[0]."
        )
    if ids.shape[1] < at_least:
        raise ValueError(f"{name}: received {ids.shape[1]} tokens, expected at least {at_least}. Pass a longer text.")


def one_text(model: Model, input_ids: Any, name: str = "input_ids") -> Array:
    """The tokens of a single text, as the model takes them: (1, T)."""
    ids = token_ids(model, input_ids, name)
    check_one_text(ids, name)
    return ids


def check_model(model: Any) -> None:
    """Raise TypeError for what is no model: often the pair of model and tokenizer."""
    if not isinstance(model, GPTNeoPreTrainedModel):
        raise TypeError(f"model: received a {type(model).__name__}, expected a model such as minineo.load()[0].")


def check_language_model(model: Any) -> None:
    """Raise TypeError for a model without logits over tokens."""
    if not isinstance(model, GPTNeoForCausalLM):
        raise TypeError(
            f"model: received a {type(model).__name__}, expected a GPTNeoForCausalLM, which has logits over tokens."
        )


def check_index(name: str, index: Any, count: int, negative: bool = False) -> int:
    """The index as an int from 0, or ValueError with the valid range; with `negative`, -1 is the last, as in Python."""
    lowest = -count if negative else 0
    if isinstance(index, bool) or not isinstance(index, Integral) or not lowest <= int(index) < count:
        raise ValueError(f"{name}: received {index!r}, expected an int in {lowest} ... {count - 1}.")
    return int(index) % count


def check_token(name: str, token: Any, model: Model) -> int:
    """The token id, or an error that says how to get one from a word."""
    if isinstance(token, str):
        raise TypeError(f"{name}: received the text {token!r}, expected a token id: tokenizer.encode({token!r})[0].")
    return check_index(name, token, model.config.vocab_size)


def to_numpy(array: Array) -> np.ndarray[Any, Any]:
    """An array of any library, on any device, as one of NumPy; 16-bit floats are widened to float32."""
    array = to_device(array, "cpu")
    # bfloat16, which NumPy does not know, has the kind "V" of raw bytes
    narrow = array.dtype.kind in "fV" and array.dtype.itemsize < 4
    result: np.ndarray[Any, Any] = array.astype(np.float32) if narrow else array
    return result


def parameter(model: Model, name: str) -> np.ndarray[Any, Any]:
    """A parameter of the transformer, by its name without the prefix that the class gives it: `h.3.ln_1.weight`."""
    return to_numpy(model.params[f"{model.prefix}{name}"])


def unembedding(model: GPTNeoForCausalLM) -> Array:
    """The head's weight (V, D), which is the token embedding unless the configuration unties them."""
    tied = model.config.tie_word_embeddings
    return model.params[f"{model.prefix}wte.weight" if tied else "lm_head.weight"]


def intermediates(
    model: Model,
    input_ids: Array,
    names: Iterable[str],
    read: Callable[[str, Array], Any] = lambda name, value: to_numpy(value),
    **inputs: Any,
) -> dict[str, Any]:
    """Run the model, and return what `read(name, value)` makes of the intermediates of these names.

    What it does not return is not kept: the patterns of all layers (B, H, T, T) would need a lot of memory.
    """
    wanted, found = {*names}, {}

    def tap(name: str, value: Array) -> Array:
        if name in wanted:
            found[name] = read(name, value)
        return value

    model(input_ids, tap=tap, use_cache=False, **inputs)
    return found
