"""What a tokenizer returns: rows of token ids with what is known about each token, readable by key and by attribute.

The names are those of Hugging Face's `BatchEncoding` (a whole batch) and `Encoding` (one row of it).
"""

from collections import UserDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

Offset = tuple[int, int]
Alignment = tuple[list[Offset], list[int]]
"""For each token, the characters [start, stop) it comes from, and the number of its word."""


class TokenizedText:
    """The ids of one text. Where each token comes from is worked out only when somebody asks."""

    def __init__(self, ids: list[int], align: Callable[[], Alignment]) -> None:
        self.ids = ids
        self._align = align

    @cached_property
    def alignment(self) -> Alignment:
        """Offsets and word numbers of all tokens."""
        return self._align()


@dataclass(frozen=True)
class Span:
    """Some of a row's tokens: `ids` begin at token `start` of `text`; without a text, the tokenizer put them in."""

    ids: Sequence[int]
    type_id: int = 0
    text: TokenizedText | None = None
    start: int = 0
    sequence: int | None = None
    """0 for the text itself, 1 for `text_pair`, None for tokens that the tokenizer put in."""
    attention: int = 1
    """0 for padding."""


@dataclass(frozen=True)
class Encoding:
    """One row of a batch: its tokens, span by span."""

    spans: tuple[Span, ...]
    names: Callable[[list[int]], list[str]]
    """Gives the tokens for ids."""

    def __len__(self) -> int:
        return sum(len(span.ids) for span in self.spans)

    def _repeat(self, value: Callable[[Span], Any]) -> list[Any]:
        return [item for span in self.spans for item in [value(span)] * len(span.ids)]

    def _aligned(self, which: int, otherwise: Any) -> list[Any]:
        """Offsets (which = 0) or word numbers (1) of all tokens."""
        values: list[Any] = []
        for span in self.spans:
            if span.text is None:
                values += [otherwise] * len(span.ids)
            else:
                values += span.text.alignment[which][span.start : span.start + len(span.ids)]
        return values

    @property
    def ids(self) -> list[int]:
        """Token ids."""
        return list(chain.from_iterable(span.ids for span in self.spans))

    @property
    def tokens(self) -> list[str]:
        """Tokens, spelled as in the vocabulary."""
        return self.names(self.ids)

    @property
    def type_ids(self) -> list[int]:
        """0 for tokens of the first text, 1 for tokens of the second."""
        return self._repeat(lambda span: span.type_id)

    @property
    def attention_mask(self) -> list[int]:
        """1 for tokens, 0 for padding."""
        return self._repeat(lambda span: span.attention)

    @property
    def special_tokens_mask(self) -> list[int]:
        """1 for tokens that the tokenizer put in, 0 for tokens of the text (special ones in the text, too)."""
        return self._repeat(lambda span: int(span.text is None))

    @property
    def offsets(self) -> list[Offset]:
        """The characters [start, stop) of each token in its text; (0, 0) for tokens that the tokenizer put in."""
        return self._aligned(0, (0, 0))

    @property
    def word_ids(self) -> list[int | None]:
        """The number of each token's word in its text; None for tokens that the tokenizer put in."""
        return self._aligned(1, None)

    @property
    def sequence_ids(self) -> list[int | None]:
        """Which text each token comes from: 0, 1, or None."""
        return self._repeat(lambda span: span.sequence)


FIELDS: dict[str, Callable[[Encoding], Any]] = {
    "input_ids": lambda row: row.ids,
    "token_type_ids": lambda row: row.type_ids,
    "attention_mask": lambda row: row.attention_mask,
    "special_tokens_mask": lambda row: row.special_tokens_mask,
    "offset_mapping": lambda row: row.offsets,
    "length": len,
}
"""What a batch can hold of each row, under Hugging Face's names."""


class BatchEncoding(UserDict[str, Any]):
    """A dictionary of model inputs (`input_ids`, `attention_mask`, ...), whose values are attributes, too.

    An integer key gives one row as an `Encoding`.
    """

    def __init__(self, data: dict[str, Any] | None = None, encodings: Sequence[Encoding] = ()) -> None:
        super().__init__(data)
        self.encodings = list(encodings)

    def __getitem__(self, key: str | int) -> Any:
        return self.encodings[key] if isinstance(key, int) else self.data[key]

    def __getattr__(self, name: str) -> Any:
        if name != "data" and name in self.data:
            return self.data[name]
        raise AttributeError(f"this encoding has no {name!r}; it has {', '.join(self.__dict__.get('data', {}))}")

    def tokens(self, batch_index: int = 0) -> list[str]:
        """Tokens of one row."""
        return self.encodings[batch_index].tokens

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """The number of each token's word, for one row: how labels of words become labels of tokens."""
        return self.encodings[batch_index].word_ids

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """Which text (0, 1, or None) each token of one row comes from."""
        return self.encodings[batch_index].sequence_ids

    def token_to_chars(self, batch_index: int, token_index: int | None = None) -> Offset | None:
        """The characters [start, stop) of a token, None if the tokenizer put it in. A lone index is the token's."""
        row, index = (0, batch_index) if token_index is None else (batch_index, token_index)
        encoding = self.encodings[row]
        return None if encoding.sequence_ids[index] is None else encoding.offsets[index]

    def char_to_token(self, batch_index: int, char_index: int | None = None, sequence_index: int = 0) -> int | None:
        """The first token that holds a character; None where none does. A lone index is the character's."""
        row, position = (0, batch_index) if char_index is None else (batch_index, char_index)
        encoding = self.encodings[row]
        for index, (sequence, (start, stop)) in enumerate(zip(encoding.sequence_ids, encoding.offsets, strict=True)):
            if sequence == sequence_index and start <= position < stop:
                return index
        return None


def to_arrays(data: dict[str, list[Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """Turn lists of rows into int64 arrays of shape (rows, tokens)."""
    lengths = sorted({len(row) for row in data["input_ids"]})
    if len(lengths) > 1:
        raise ValueError(
            f"the rows have from {lengths[0]} to {lengths[-1]} tokens and do not fit one array: "
            "use padding=True, or truncation=True with max_length, or return_tensors=None"
        )
    arrays = {name: np.asarray(rows, dtype=np.int64) for name, rows in data.items()}
    if not data["input_ids"]:
        arrays = {name: array.reshape(0, 0) for name, array in arrays.items()}
    return arrays
