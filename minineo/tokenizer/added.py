"""Added tokens: strings such as `<|endoftext|>` that are found in a text before any merge, and never split.

The rules are those of Hugging Face's `tokenizers`, whose files carry these tokens with the same five flags.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import regex
from regex import Pattern

Segment = tuple[int, int, int | None]
"""Start and stop in the text, and the id of the added token there, or None where there is ordinary text."""

MOST_CHARACTERS = 100_000
"""Of all added tokens together: to look for them takes 200 bytes and some microseconds of preparation for each, which
would be minutes for what a file could hold. Whoever needs more can set this higher."""

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class AddedToken:
    """A string that is one token wherever it occurs.

    `single_word` finds it only between characters that are not part of words; `lstrip` and `rstrip` take white space
    next to it along; tokens that are not `normalized` are looked for first; `special` ones (end of text, padding)
    can be skipped in decoding and kept out of untrusted text.
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None
    special: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.content, str) or not self.content:
            raise ValueError(f"an added token must be a string of at least one character, not {self.content!r}")
        if self.normalized is None:
            object.__setattr__(self, "normalized", not self.special)

    def __str__(self) -> str:
        return self.content

    @classmethod
    def of(cls, value: object, *, special: bool | None = None) -> "AddedToken":
        """An added token from a string, from a dictionary as files have them, or from another `AddedToken`."""
        if isinstance(value, AddedToken):
            return value
        if isinstance(value, str):
            return cls(value, special=bool(special))
        if isinstance(value, dict) and isinstance(value.get("content"), str):
            flags = {name: bool(value[name]) for name in FLAGS if value.get(name) is not None}
            if special is not None:
                flags["special"] = special
            return cls(value["content"], **flags)
        raise TypeError(f"a token must be a string or an AddedToken, not {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """The token as `tokenizer.json` has it, without its id."""
        return {"content": self.content, **{name: getattr(self, name) for name in FLAGS}}


class AddedTokenFinder:
    """Finds added tokens in text: first those that are not `normalized`, then the others in what is left."""

    def __init__(self, tokens: dict[int, AddedToken]) -> None:
        characters = sum(len(token.content) for token in tokens.values())
        if characters > MOST_CHARACTERS:
            raise ValueError(
                f"the added tokens have {characters:,} characters in all, expected at most {MOST_CHARACTERS:,}; to "
                "allow more, set minineo.tokenizer.added.MOST_CHARACTERS higher"
            )
        self.tokens = {token.content: (index, token) for index, token in tokens.items()}
        passes = [[token.content for token in tokens.values() if token.normalized == late] for late in (False, True)]
        # A named list matches the longest of its strings, in time that does not grow with their number.
        self.patterns = [regex.compile(r"\L<contents>", contents=contents) for contents in passes if contents]

    def segments(self, text: str, split_special_tokens: bool = False) -> list[Segment]:
        """Cut a text into added tokens and the ordinary text between them.

        With `split_special_tokens`, special tokens are left in the ordinary text, to be encoded character by
        character like anything else that a stranger typed.
        """
        segments: list[Segment] = [(0, len(text), None)] if text else []
        for pattern in self.patterns:
            if pattern.search(text):
                segments = [
                    piece for part in segments for piece in self._cut(text, part, pattern, split_special_tokens)
                ]
        return segments

    def _cut(self, text: str, part: Segment, pattern: Pattern[str], split_special_tokens: bool) -> Iterator[Segment]:
        """Cut one segment at the strings that the pattern finds in it."""
        first, last, found = part
        if found is not None:
            yield part
            return
        for match in pattern.finditer(text, first, last):
            index, token = self.tokens[match[0]]
            start, stop = match.span()
            if token.special and split_special_tokens:
                continue
            if token.single_word and not _stands_alone(text, start, stop, part):
                continue
            while token.lstrip and start > first and _is_space(text[start - 1]):
                start -= 1
            while token.rstrip and stop < last and _is_space(text[stop]):
                stop += 1
            if first < start:
                yield first, start, None
            yield max(first, start), stop, index
            first = stop
        if first < last:
            yield first, last, None


def _stands_alone(text: str, start: int, stop: int, part: Segment) -> bool:
    """Whether text[start:stop] has no letter, digit or underscore right before or after it within its part."""
    before = start > part[0] and _is_word_character(text[start - 1])
    after = stop < part[1] and _is_word_character(text[stop])
    return not (before or after)


def _is_word_character(character: str) -> bool:
    return regex.match(r"\w", character) is not None


def _is_space(character: str) -> bool:
    """Whether Unicode counts a character as white space; `str.isspace` has the separators 1C to 1F, too."""
    return regex.match(r"\s", character) is not None
