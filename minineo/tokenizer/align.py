"""Which characters of a text each token comes from."""

from collections.abc import Callable, Iterable, Sequence

from minineo.tokenizer.encoding import Offset


def align_words(
    words: Iterable[tuple[str, Sequence[int]]], token_bytes: Callable[[int], bytes], start: int, prefixed: bool
) -> tuple[list[Offset], list[int]]:
    """Offsets of the tokens of consecutive words with their ids, and how many tokens each word has.

    The words begin at character `start`. Where a token holds only some bytes of a character, it comes from the whole
    character. With `prefixed`, the first character is a space that was put in: it counts as part of the next one.
    """
    offsets: list[Offset] = []
    sizes: list[int] = []
    position = start
    for word, ids in words:
        characters = _characters_of_bytes(word, position)
        if prefixed:
            characters = [start, *(character - 1 for character in characters[1:])]
        position += len(word) - prefixed
        prefixed = False
        first = 0
        for index in ids:
            last = first + len(token_bytes(index))
            offsets.append((characters[first], characters[last - 1] + 1))
            first = last
        sizes.append(len(ids))
    return offsets, sizes


def _characters_of_bytes(word: str, start: int) -> list[int]:
    """The character that each byte of a word belongs to, where its first character is number `start`."""
    if word.isascii():
        return list(range(start, start + len(word)))
    characters: list[int] = []
    current = start - 1
    for byte in word.encode("utf-8", "surrogatepass"):
        current += byte & 0xC0 != 0x80  # bytes 10xxxxxx continue a character, all others begin one
        characters.append(current)
    return characters


def number_words(sizes: Iterable[int]) -> list[int]:
    """The number of the word of each token, for words with these numbers of tokens."""
    return [number for number, size in enumerate(sizes) for _ in range(size)]
