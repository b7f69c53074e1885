"""The prompt, its mask and its positions: what the model is given before and after every new token.

Dimensions: B batch, T positions so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array

from minineo.arrays import Array, at_least_float32, widest_integer
from minineo.edits import Edits
from minineo.generation.arguments import GenerationArguments
from minineo.model.cache import Cache
from minineo.model.inputs import check_ids, check_library, check_mask


@dataclass(frozen=True)
class Context:
    """What a model has been given so far: ids (B, T), the mask (B, T) or None if nothing is padded, and the cache.

    With `room`, (B, at least T), the ids are the first T of its columns, and `append` writes the next there.
    """

    input_ids: Array
    attention_mask: Array | None
    cache: Cache | None = None
    room: Array | None = None

    def append(self, tokens: Array) -> Context:
        """The context with one more token (B,) in each row; with `room`, only the latest context can be continued."""
        if self.room is None or self.attention_mask is not None:
            return self.extend(tokens[:, None])
        T = self.input_ids.shape[1]
        self.room[:, T] = tokens
        return replace(self, input_ids=self.room[:, : T + 1])

    def with_room(self, more: int) -> Context:
        """The context with room for so many more tokens, where arrays can be written to: none is copied to append."""
        if self.room is not None or not is_numpy_array(self.input_ids):
            return self
        B, T = self.input_ids.shape
        room = np.concatenate([self.input_ids, np.zeros((B, more), self.input_ids.dtype)], axis=1)
        return replace(self, input_ids=room[:, :T], room=room)

    def extend(self, tokens: Array) -> Context:
        """The context with more tokens (B, n). The mask grows by ones, also in rows that have ended."""
        xp = array_namespace(self.input_ids)
        ids = xp.concat([self.input_ids, tokens], axis=1)
        mask = self.attention_mask
        if mask is not None:
            mask = xp.concat([mask, xp.ones_like(tokens)], axis=1)
        return replace(self, input_ids=ids, attention_mask=mask, room=None)

    def select(self, rows: Array) -> Context:
        """The context of some rows, in the order of the integer array `rows`, repeats allowed."""
        xp = array_namespace(self.input_ids)
        mask, cache = self.attention_mask, self.cache
        return Context(
            xp.take(self.input_ids, rows, axis=0),
            None if mask is None else xp.take(mask, rows, axis=0),
            None if cache is None else cache.select(rows),
        )


def next_token_logits(
    model: Any, context: Context, use_cache: bool, edits: Edits | None = None
) -> tuple[Array, Context]:
    """Run the model on the tokens that it has not seen yet: logits (B, V) for the next token, and the new cache."""
    logits, context = last_logits(model, context, 1, use_cache, edits)
    return logits[:, -1, :], context


def last_logits(
    model: Any, context: Context, count: int, use_cache: bool, edits: Edits | None = None
) -> tuple[Array, Context]:
    """As `next_token_logits`, for the tokens after each of the last `count` positions: (B, count, V)."""
    seen = 0 if context.cache is None else context.cache.get_seq_length()
    output = model(
        context.input_ids[:, seen:],
        attention_mask=context.attention_mask,
        position_ids=None if context.attention_mask is None else positions(context.attention_mask)[:, seen:],
        past_key_values=context.cache,
        use_cache=use_cache,
        logits_to_keep=count,
        edits=edits,
    )
    return at_least_float32(output.logits), replace(context, cache=output.past_key_values if use_cache else None)


def repeat_rows(logits: Array, context: Context, times: int) -> tuple[Array, Context]:
    """Repeat each row `times` times, neighbours of one another: the prompt is read once, however often continued."""
    if times == 1:
        return logits, context
    xp = array_namespace(logits)
    rows = xp.arange(times * logits.shape[0], device=device(logits)) // times
    return xp.take(logits, rows, axis=0), context.select(rows)


def positions(attention_mask: Array) -> Array:
    """Position of each token, counted from the first that is not padding: (B, T). Padding gets 0, which nobody sees."""
    xp = array_namespace(attention_mask)
    counted = xp.cumulative_sum(attention_mask, axis=1) - 1
    return xp.where(attention_mask == 0, xp.zeros_like(counted), counted)


def prompt_ids(model: Any, input_ids: Any, bos_token_id: int | None) -> Array:
    """The prompt as an array: lists become one of the model's library, None becomes the beginning token."""
    if isinstance(input_ids, Mapping):
        raise TypeError(
            f"input_ids: received a {type(input_ids).__name__}, expected an array of token ids. Pass what it holds: "
            "generate(**encoding), or generate(encoding.input_ids), where encoding = tokenizer(text, "
            'return_tensors="np").'
        )
    texts = input_ids if isinstance(input_ids, list | tuple) else [input_ids]
    if any(isinstance(text, str) for text in texts):
        raise TypeError(
            f"input_ids: received a {type(input_ids).__name__} of text, expected token ids. "
            'Pass tokenizer(text, return_tensors="np").input_ids, or call minineo.generate, which takes text.'
        )
    weight = next(iter(model.params.values()))
    xp = array_namespace(weight)
    if input_ids is None:
        if bos_token_id is None:
            raise ValueError("input_ids: there is no prompt, and no bos_token_id to begin with.")
        if not 0 <= bos_token_id < model.config.vocab_size:
            raise ValueError(
                f"bos_token_id: received {bos_token_id}, expected an id from 0 to {model.config.vocab_size - 1}, since "
                "it is the prompt where none is passed."
            )
        input_ids = [[bos_token_id]]
    if isinstance(input_ids, list | tuple):
        try:
            return xp.asarray(input_ids, device=device(weight))
        except (ValueError, TypeError) as error:
            raise ValueError(
                "input_ids: the rows differ in length. Pad the shorter ones on the left, and pass attention_mask: "
                'tokenizer(texts, padding=True, padding_side="left", return_tensors="np").'
            ) from error
    return input_ids


def prompt_context(model: Any, input_ids: Array, attention_mask: Any, arguments: GenerationArguments) -> Context:
    """Check the prompt (ids as `prompt_ids` made them) and its mask, which is derived from the padding if not given."""
    weight = next(iter(model.params.values()))
    check_library("input_ids", input_ids, weight)
    if input_ids.ndim != 2:
        raise ValueError(
            f"input_ids: received shape {tuple(input_ids.shape)}, expected (batch, positions). "
            "For one prompt pass [ids], or ids[None, :] of an array."
        )
    check_ids("input_ids", input_ids, model.config.vocab_size, "vocab_size")
    xp = array_namespace(input_ids)
    if xp.iinfo(input_ids.dtype).max < model.config.vocab_size - 1:
        raise TypeError(
            f"input_ids: received dtype {input_ids.dtype}, which cannot hold every id up to "
            f"{model.config.vocab_size - 1}. Pass int64."
        )
    input_ids = xp.astype(input_ids, widest_integer(input_ids))
    if attention_mask is None:
        mask = _mask_of_padding(input_ids, arguments)
    else:
        mask = _checked_mask(attention_mask, input_ids)
    if mask is None or bool(xp.all(mask == 1)):
        return Context(input_ids, None)
    if not bool(xp.all(mask[:, -1] == 1)):  # Hugging Face goes on, as if the prompt did not have its last token
        derived = (
            f" No attention_mask was passed, so every token that is pad_token_id ({arguments.padding_id}) was taken "
            "for padding; if it is text here, pass an attention_mask of ones."
        )
        raise ValueError(
            "A row of the prompt ends with padding (the attention mask is 0 at its last position), so there is nothing "
            f"to continue. Pad on the left: tokenizer.padding_side = 'left'.{derived if attention_mask is None else ''}"
        )
    return Context(input_ids, mask)


def _checked_mask(mask: Any, input_ids: Array) -> Array:
    """The caller's mask, an array or lists, as integers; raise unless the model could take it."""
    xp = array_namespace(input_ids)
    if isinstance(mask, list | tuple):
        mask = xp.asarray(mask, device=device(input_ids))
    check_library("attention_mask", mask, input_ids)
    B, T = input_ids.shape
    check_mask(mask, B, 0, T)
    return xp.astype(mask, widest_integer(mask))


def _mask_of_padding(input_ids: Array, arguments: GenerationArguments) -> Array | None:
    """The mask that the padding tokens imply, as Hugging Face derives it: none where padding is the end token."""
    padding = arguments.padding_id
    if padding is None or padding in arguments.eos_token_ids:
        return None
    xp = array_namespace(input_ids)
    return xp.astype(input_ids != padding, input_ids.dtype)
