"""msgpack, the binary cousin of JSON in which Flax writes its checkpoints (Furuhashi 2008, https://msgpack.org).

Each value begins with one byte that says what it is and, for small ones, how large. Only what Flax's checkpoints are
made of is here: maps, arrays, texts, bytes, whole numbers, true and false, and `ext`, bytes with a type number whose
meaning the application decides. Anything else is named, so that an error can say what was found.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, NoReturn

from minineo.checkpoints.errors import CheckpointError

# What a first byte means: the kind of the value, and how many bytes after it hold its size (or the number itself).
_SIZED = {
    0xC4: ("bin", 1),
    0xC5: ("bin", 2),
    0xC6: ("bin", 4),
    0xC7: ("ext", 1),
    0xC8: ("ext", 2),
    0xC9: ("ext", 4),
    0xCC: ("int", 1),
    0xCD: ("int", 2),
    0xCE: ("int", 4),
    0xCF: ("int", 8),
    0xD9: ("str", 1),
    0xDA: ("str", 2),
    0xDB: ("str", 4),
    0xDC: ("array", 2),
    0xDD: ("array", 4),
    0xDE: ("map", 2),
    0xDF: ("map", 4),
}
_FIXED_EXT = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_BOOLEANS = {0xC2: 0, 0xC3: 1}
_OTHERS = {0xC0: "nil", 0xCA: "float", 0xCB: "float"} | dict.fromkeys(range(0xD0, 0xD4), "negative int")

MOST_VALUES = 200_000
"""A file can claim much in few bytes: this many values take a second to read. A model with 32 layers has 5,000."""


class Value(NamedTuple):
    """What the first bytes of a value say."""

    kind: str
    """map, array, str, bin, ext, int (not negative), bool, or the name of what Flax's checkpoints do not hold."""
    size: int
    """Bytes of a str, bin or ext; entries of a map or an array; the number itself of an int or a bool (0 or 1)."""
    code: int = 0
    """The type number of an ext."""


class Reader:
    """Walks through msgpack in a buffer from `position` to `end`; `path` is the file, for messages.

    Nothing is allocated by a size that the file claims: every claim is first held against the bytes that are left.
    """

    def __init__(self, data: memoryview, path: Path) -> None:
        self.data = data
        self.path = path
        self.position = 0
        self.end = len(data)
        self.values = 0

    def value(self) -> Value:
        """Read the head of the next value; what it holds follows."""
        begin = self.position
        self.values += 1
        if self.values > MOST_VALUES:
            self.fail(f"more than {MOST_VALUES} values, which no checkpoint has")
        found = self._value(self.take(1)[0])
        # each entry of an array takes a byte at least, each of a map two
        least = found.size * {"map": 2, "array": 1, "str": 1, "bin": 1, "ext": 1}.get(found.kind, 0)
        if least > self.end - self.position:
            self.fail(
                f"{found.kind} of {found.size}, but only {self.end - self.position} bytes follow: the file is cut "
                "short or damaged",
                begin,
            )
        return found

    def _value(self, first: int) -> Value:
        if first < 0x80:
            return Value("int", first)
        if first < 0xC0:
            kind, mask = ("map", 0x0F) if first < 0x90 else ("array", 0x0F) if first < 0xA0 else ("str", 0x1F)
            return Value(kind, first & mask)
        if first in _BOOLEANS:
            return Value("bool", _BOOLEANS[first])
        if first in _FIXED_EXT:
            return Value("ext", _FIXED_EXT[first], self._signed_byte())
        if first in _SIZED:
            kind, width = _SIZED[first]
            size = int.from_bytes(self.take(width), "big")
            return Value(kind, size, self._signed_byte() if kind == "ext" else 0)
        return Value("negative int" if first >= 0xE0 else _OTHERS.get(first, f"byte {first:#04x}"), 0)

    def expect(self, kind: str, what: str) -> Value:
        """Read the head of the next value, which has to be of that kind; `what` says what it is for."""
        begin = self.position
        found = self.value()
        if found.kind != kind:
            self.fail(f"{what} is a {found.kind}, expected a {kind}", begin)
        return found

    def text(self, what: str, longest: int) -> str:
        """Read a short text (older writers have no kind for text and take that for bytes)."""
        begin = self.position
        found = self.value()
        if found.kind not in ("str", "bin"):
            self.fail(f"{what} is a {found.kind}, expected a str", begin)
        if found.size > longest:
            self.fail(f"{what} has {found.size} bytes, expected at most {longest}", begin)
        try:
            return bytes(self.take(found.size)).decode("utf-8")
        except UnicodeDecodeError as error:
            self.fail(f"{what} is not UTF-8: {error}", begin)

    def take(self, count: int) -> memoryview:
        """The next `count` bytes, without copying them."""
        begin, stop = self.position, self.position + count
        if stop > self.end:
            self.fail(f"{count} bytes expected, but only {self.end - begin} follow: the file is cut short", begin)
        self.position = stop
        return self.data[begin:stop]

    def fail(self, what: str, at: int | None = None) -> NoReturn:
        """Raise the error for what stands at byte `at`, by default the next one."""
        raise CheckpointError(f"{self.path}: byte {self.position if at is None else at}: {what}")

    def _signed_byte(self) -> int:
        return int.from_bytes(self.take(1), "big", signed=True)


def map_head(entries: int) -> bytes:
    """Begin a map: so many pairs of key and value follow."""
    return _head(entries, 0x80, 16, {2: 0xDE, 4: 0xDF})


def array_head(entries: int) -> bytes:
    """Begin an array: so many values follow."""
    return _head(entries, 0x90, 16, {2: 0xDC, 4: 0xDD})


def text(value: str) -> bytes:
    """A whole text."""
    encoded = value.encode("utf-8")
    return _head(len(encoded), 0xA0, 32, {1: 0xD9, 2: 0xDA, 4: 0xDB}) + encoded


def binary_head(size: int) -> bytes:
    """Begin so many bytes."""
    return _head(size, 0, 0, {1: 0xC4, 2: 0xC5, 4: 0xC6})


def extension_head(code: int, size: int) -> bytes:
    """Begin so many bytes of an application's own type."""
    fixed = {length: first for first, length in _FIXED_EXT.items()}
    head = bytes([fixed[size]]) if size in fixed else _head(size, 0, 0, {1: 0xC7, 2: 0xC8, 4: 0xC9})
    return head + code.to_bytes(1, "big")


def whole_number(value: int) -> bytes:
    """A number that is not negative."""
    return _head(value, 0, 128, {1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF})


TRUE = b"\xc3"


def _head(number: int, small: int, below: int, widths: dict[int, int]) -> bytes:
    """A first byte with the number in it if it is below `below`, else one that says how wide the number after it is."""
    if number < below:
        return bytes([small | number])
    width = next(width for width in widths if number < 256**width)
    return bytes([widths[width]]) + number.to_bytes(width, "big")
