"""What may be given to a tokenizer: a text or a pair of texts, a batch of either; each may come as a list of words."""

from collections.abc import Sequence
from typing import Any

Text = str | Sequence[str]
"""A string; or its words, with `is_split_into_words`."""


def as_batch(text: Any, text_pair: Any, split_into_words: bool) -> tuple[list[tuple[Text, Text | None]], bool]:
    """Give the texts or pairs of a call as a list, and whether they were given as a batch."""
    batched = isinstance(text, list | tuple)
    if split_into_words:
        if not batched:
            raise ValueError(f"is_split_into_words=True needs a list of words, not {_describe(text)}")
        batched = len(text) > 0 and isinstance(text[0], list | tuple)
    if not batched:
        return [_check(text, text_pair or None, split_into_words)], False  # an empty text_pair is none, as in HF
    if text_pair is not None:
        if isinstance(text_pair, str) or not isinstance(text_pair, list | tuple) or len(text_pair) != len(text):
            raise ValueError(
                f"a batch of {len(text)} texts needs a list of {len(text)} texts as text_pair, "
                f"not {_describe(text_pair)}"
            )
        return [_check(first, second, split_into_words) for first, second in zip(text, text_pair, strict=True)], True
    return [_check(*_as_pair(item, split_into_words), split_into_words) for item in text], True


def _as_pair(item: Any, split_into_words: bool) -> tuple[Any, Any]:
    """A batch may hold pairs: two texts in a list or tuple."""
    if isinstance(item, list | tuple) and len(item) == 2 and _is_text(item[0], split_into_words):
        return item[0], item[1]
    return item, None


def _is_text(value: Any, split_into_words: bool) -> bool:
    if split_into_words:
        return isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)
    return isinstance(value, str)


def _check(text: Any, pair: Any, split_into_words: bool) -> tuple[Text, Text | None]:
    wanted = "a list of words" if split_into_words else "a string"
    for value in [text] if pair is None else [text, pair]:
        if not _is_text(value, split_into_words):
            raise ValueError(
                f"a text must be {wanted}, and a batch a list of them (of an array, make one with .tolist()); "
                f"got {_describe(value)}"
            )
    return text, pair


def _describe(value: Any) -> str:
    size = f" of {len(value)}" if isinstance(value, list | tuple) else ""
    return f"{type(value).__name__}{size}: {value!r:.60}"
