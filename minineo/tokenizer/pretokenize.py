"""Pre-tokenisation: text -> words, the pieces that no merge may cross, as in GPT-2 (Radford et al., 2019).

A "word" is a run of letters, of digits, of other visible characters (each with at most one space in front), or of
white space. Merges work on the UTF-8 bytes of a word; vocabulary files spell each byte as one printable character.
"""

import re
from collections.abc import Iterator

import regex

PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
"""GPT-2's pattern as published. Contractions match in lower case and with the ASCII apostrophe only; a run of white
space leaves its last character to the word that follows it."""

ASCII_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^ \t-\rA-Za-z0-9]+|[ \t-\r]+(?![^ \t-\r])|[ \t-\r]+"
"""The same for text that is all ASCII, where the standard library's `re` is twice as fast. (Its own `\\s` would add
the separators 1C to 1F, which Unicode does not count as white space.)"""

NEWER_THAN_UNICODE_16 = """
    0558 058B-058C 088F 0C5C 0CDC 208F 209D-209F A7CE-A7CF A7D2 A7D4 A7DD A7E2 A7F1 AB6C-AB6D 107BB-107BF
    10940-10959 10EC5-10EC7 10ED9-10EEE 11B0A 11DB0-11DDB 11DE0-11DE9 11DF1 1246F 12475-1247F 12550-12686
    16EA0-16EB8 16EBB-16ED3 16FF2-16FF6 187F8-187FF 18CD6-18CDA 18D09-18D20 18D80-18DF2 18E00-19191 191A0-191D2
    1B123-1B128 1B168 1D6A6 1DF1F-1DF24 1DF2B-1DF81 1DF90-1DF96 1DFCD-1DFFF 1E6C0-1E6DE 1E6E0-1E6E2 1E6E4-1E6E5
    1E6E7-1E6ED 1E6F0-1E6F4 1E6FE-1E6FF 2B73A-2B73F 2B81E 2CEA2-2CEAD 323B0-3FFFD
"""
"""Letters and digits that Unicode 17 and 18 added. What counts as a letter decides where words end, and with that the
ids, so it must not depend on the release of `regex` that is installed: tiktoken and tokenizers go by Unicode 16."""


def _character_class(ranges: str) -> str:
    """Regular-expression ranges (without brackets) for hexadecimal code points such as `0558 058B-058C`."""
    return "".join(re.sub(r"[0-9A-F]+", lambda match: rf"\U{match[0]:0>8}", ranges).split())


_NEWER = _character_class(NEWER_THAN_UNICODE_16)
_UNICODE_16_PATTERN = (
    PATTERN.replace(r"[^\s\p{L}\p{N}]", rf"(?:[^\s\p{{L}}\p{{N}}]|[{_NEWER}])")
    .replace(r" ?\p{L}+", rf" ?(?:(?![{_NEWER}])\p{{L}})+")
    .replace(r" ?\p{N}+", rf" ?(?:(?![{_NEWER}])\p{{N}})+")
)

_find_words = regex.compile(PATTERN).findall
_find_words_ascii = re.compile(ASCII_PATTERN).findall
_find_words_unicode_16 = regex.compile(_UNICODE_16_PATTERN).findall
_find_newer = regex.compile(rf"[{_NEWER}]").search
_find_boundary = regex.compile(r"\S(?=\s)").search


def pretokenize(text: str) -> list[str]:
    """Split text into words; joined, they are the text again."""
    if text.isascii():
        return _find_words_ascii(text)
    if _find_newer(text):
        return _find_words_unicode_16(text)
    return _find_words(text)


def chunks(text: str, size: int = 8_192) -> Iterator[str]:
    """Cut a long text into pieces whose words, one piece after the other, are the words of the text.

    Pieces have about `size` characters: little enough to stay in the processor's cache from one step to the next.
    No word holds white space after something else, and none looks back, so a cut between a visible character and
    white space changes nothing. Where there is no such place (one endless word), a piece is as long as it must be.
    """
    start = 0
    while len(text) - start > size and (boundary := _find_boundary(text, start + size)):
        yield text[start : boundary.end()]
        start = boundary.end()
    if start < len(text):
        yield text[start:]


def bytes_to_unicode() -> dict[int, str]:
    """GPT-2's table of one printable character for each of the 256 bytes, in the order of the characters.

    Printable Latin-1 stands for itself; the others (space, control characters, ...) follow from U+0100 on. So a space
    is written `Ġ` and a newline `Ċ`, and vocabulary files stay readable text whatever bytes a token has.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable}
    table.update({byte: chr(256 + index) for index, byte in enumerate(others)})
    return table


BYTE_TO_CHARACTER = bytes_to_unicode()
CHARACTER_TO_BYTE = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}


def token_to_bytes(token: str) -> bytes:
    """Give the bytes that a token of the vocabulary stands for.

    A token with a character outside the table was not made by merging bytes (`[PAD ]`, say): it stands for itself.
    """
    try:
        return bytes([CHARACTER_TO_BYTE[character] for character in token])
    except KeyError:
        return token.encode("utf-8", "surrogatepass")


def bytes_to_token(data: bytes) -> str:
    """Spell bytes the way vocabulary files do; the inverse of `token_to_bytes` for tokens made of bytes."""
    return "".join([BYTE_TO_CHARACTER[byte] for byte in data])
