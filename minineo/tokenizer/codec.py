"""Between one text and its token ids, with added tokens found first and bytes put together last."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from operator import index as as_index
from reprlib import repr as short_repr
from typing import Any

from minineo.tokenizer.added import AddedToken
from minineo.tokenizer.align import align_words, number_words
from minineo.tokenizer.bpe import BytePairEncoder
from minineo.tokenizer.encoding import Alignment, Offset, TokenizedText
from minineo.tokenizer.inputs import Text
from minineo.tokenizer.pretokenize import token_to_bytes
from minineo.tokenizer.utf8 import codec_errors, decode_utf8
from minineo.tokenizer.vocabulary import Vocabulary


class Codec(Vocabulary):
    """A vocabulary that encodes and decodes texts, one at a time.

    `add_prefix_space` puts a space before every stretch of ordinary text that has none; `errors` is what decoding does
    with bytes that are not UTF-8.
    """

    def __init__(
        self,
        vocab: dict[str, int],
        merges: Sequence[tuple[str, str]],
        added: dict[int, AddedToken],
        special: dict[str, AddedToken | str | None],
        extra_special_tokens: Sequence[AddedToken | str],
        add_prefix_space: bool,
        errors: str,
    ) -> None:
        super().__init__(vocab, added, special, extra_special_tokens)
        self._encoder = BytePairEncoder(vocab, merges)
        self.add_prefix_space = add_prefix_space
        self.errors = errors
        codec_errors(errors)  # a wrong one is an error now, not when the first text has been generated

    # -- text -> ids -----------------------------------------------------------------------------------------------

    def _prefixed(self, text: str) -> str:
        return " " + text if self.add_prefix_space and text and not text.startswith(" ") else text

    def encode_text(self, text: str, split_special_tokens: bool) -> list[int]:
        """Ids of a text, nothing put around it. `split_special_tokens`: those written in it stay ordinary text."""
        ids: list[int] = []
        for start, stop, added in self._finder.segments(text, split_special_tokens):
            ids += self._encoder.encode(self._prefixed(text[start:stop])) if added is None else [added]
        return ids

    def align_text(self, text: str, split_special_tokens: bool) -> Alignment:
        """The characters and the word that each of these ids comes from."""
        offsets: list[Offset] = []
        sizes: list[int] = []
        for start, stop, added in self._finder.segments(text, split_special_tokens):
            if added is None:
                part = self._prefixed(text[start:stop])
                words = self._encoder.encode_words(part)
                more = align_words(words, self.token_bytes, start, prefixed=len(part) > stop - start)
            else:
                more = [(start, stop)], [1]
            offsets += more[0]
            sizes += more[1]
        return offsets, number_words(sizes)

    def align_listed_words(self, words: Sequence[str], split_special_tokens: bool) -> Alignment:
        """The same for a text that comes as a list of words: offsets are within each word."""
        each = [self.align_text(word, split_special_tokens)[0] for word in words]
        return [offset for offsets in each for offset in offsets], number_words(map(len, each))

    def tokenize_text(self, text: Text, split_special_tokens: bool) -> TokenizedText:
        """Ids and, on demand, alignment of a text or of the words it comes as."""
        if isinstance(text, str):
            ids = self.encode_text(text, split_special_tokens)
            return TokenizedText(ids, partial(self.align_text, text, split_special_tokens))
        ids = [index for word in text for index in self.encode_text(word, split_special_tokens)]
        return TokenizedText(ids, partial(self.align_listed_words, text, split_special_tokens))

    # -- ids -> text -----------------------------------------------------------------------------------------------

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """Text of token ids: an int, a list, an array, or a call's result. Rows of ids give a list of texts.

        Nothing is ever cleaned up: `clean_up_tokenization_spaces` is there because callers pass it, and would
        turn "y is ?" into "y is?". About ids that no token has, see `decode_bytes`.
        """
        if isinstance(token_ids, Mapping):
            token_ids = token_ids["input_ids"]
        if hasattr(token_ids, "tolist"):
            token_ids = token_ids.tolist()
        if isinstance(token_ids, int):
            token_ids = [token_ids]
        if not isinstance(token_ids, Sequence) or isinstance(token_ids, str | bytes):
            raise TypeError(_not_ids(token_ids))
        if len(token_ids) and (isinstance(token_ids[0], list | tuple) or getattr(token_ids[0], "ndim", 0)):
            return [self.decode(row, skip_special_tokens) for row in token_ids]
        return decode_utf8(self.decode_bytes(token_ids, skip_special_tokens), self.errors)

    def decode_bytes(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> bytes:
        """Bytes of token ids. An id above zero that no token has stands for none, as in `transformers`.

        For a model may have more rows than its tokenizer has tokens, and then it can choose one that means nothing.
        Negative ids (labels of -100, say) are a mistake: they raise a `ValueError`.
        """
        try:
            ids = list(map(as_index, token_ids))
        except TypeError:
            raise TypeError(_not_ids(token_ids)) from None
        if ids and min(ids) < 0:
            raise ValueError(self._no_such_id(min(ids)))
        if skip_special_tokens:
            ids = [index for index in ids if index not in self._skipped]
        return b"".join(map(self._bytes.get, ids, repeat(b"")))

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        """Texts of rows of token ids."""
        texts = self.decode(sequences, skip_special_tokens) if len(sequences) else []
        return [texts] if isinstance(texts, str) else texts

    def convert_tokens_to_string(self, tokens: Iterable[str]) -> str:
        """Text of tokens. Those that the vocabulary does not have are spelled byte by byte, too."""
        data = b"".join(
            self._bytes[self._ids[token]] if token in self._ids else token_to_bytes(token) for token in tokens
        )
        return decode_utf8(data, self.errors)


def _not_ids(value: object) -> str:
    return (
        "token ids must be an integer, a list or an array of integers, or rows of those; "
        f"got {type(value).__name__}: {short_repr(value)}"
    )
