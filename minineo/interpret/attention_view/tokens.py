"""Tokens as a person can see them: what has no shape of its own, or would change its neighbours', becomes a mark.

A token becomes a list of strings, by turns text that can be shown as it is and the name of something that cannot:
`["a", "U+200B", "b"]` is an `a`, a zero-width space and a `b`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from minineo.tokenizer import GPT2Tokenizer

Pieces = list[str]

NAMES = {"\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "NBSP"}
# Unicode's categories of what is not seen or acts on other text: controls, formats (zero-width characters, marks that
# turn the direction of writing), lone surrogates, private use, not assigned, line and paragraph separators
INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible_tokens(ids: Sequence[int], tokenizer: GPT2Tokenizer | None) -> tuple[list[Pieces], dict[int, str]]:
    """The pieces of each token and, for tokens that are part of a character, by position what that character is.

    Without a tokenizer, and for ids that it does not know, a token is the mark `#id`.
    """
    if tokenizer is None:
        return [["", f"#{index}"] for index in ids], {}
    known = [_bytes_or_none(tokenizer, index) for index in ids]
    shared = _shared_characters([raw or b"" for raw in known])
    shown: list[Pieces] = []
    for position, (index, raw) in enumerate(zip(ids, known, strict=True)):
        if raw is None:
            shown.append(["", f"#{index}"])
        elif position in shared:
            shown.append(["", raw.hex(" ").upper()])
        else:
            shown.append(pieces(raw))
    return shown, {position: character for position, character in shared.items() if character}


def pieces(raw: bytes) -> Pieces:
    r"""The pieces of a token's bytes; those that are no text are marks of their hexadecimal digits.

    >>> pieces(b" a\tb")
    [' a', '⇥', 'b']
    """
    try:
        text = raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return ["", raw.hex(" ").upper()]
    found = [""]
    for character in text:
        name = mark(character)
        if name is not None:
            found += [name, ""]
        elif unicodedata.combining(character) and not found[-1]:
            found[-1] = "◌" + character  # what it would sit on belongs to the token before
        else:
            found[-1] += character
    return found if found[-1] or len(found) == 1 else found[:-1]


def mark(character: str) -> str | None:
    r"""The name of a character that cannot be seen, None of one that can.

    >>> mark("\u200b"), mark("a")
    ('U+200B', None)
    """
    if character in NAMES:
        return NAMES[character]
    category = unicodedata.category(character)
    if category in INVISIBLE or (category == "Zs" and character != " "):
        return f"U+{ord(character):04X}"
    return None


def label(token: Pieces) -> str:
    """A token on one line, its spaces visible."""
    return "".join(piece if i % 2 else piece.replace(" ", "·") for i, piece in enumerate(token))


def _bytes_or_none(tokenizer: GPT2Tokenizer, index: int) -> bytes | None:
    try:
        return tokenizer.token_bytes(index)
    except ValueError:
        return None


def _shared_characters(tokens: Sequence[bytes]) -> dict[int, str]:
    """Which tokens hold a part of a character, by position, and the text that they and their neighbours make.

    Tokens belong together from one character's beginning to the next place where a token and a character end at once.
    Where that never comes, or the bytes are no text, each token stands alone and has none.
    """
    shared: dict[int, str] = {}
    position = 0
    while position < len(tokens):
        length, text = _group(tokens[position : position + 8])  # a character has at most 4 bytes
        if length > 1:
            shared |= dict.fromkeys(range(position, position + length), text)
        position += length
    return shared


def _group(tokens: Sequence[bytes]) -> tuple[int, str]:
    """How many of these tokens are text only together, and that text."""
    for length in range(1, len(tokens) + 1):
        try:
            text = b"".join(tokens[:length]).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            continue
        return length, "".join(mark(character) or character for character in text)
    return 1, ""
