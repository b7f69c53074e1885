"""Bytes changed without regard to what they mean: flipped, cut, doubled, overwritten, spliced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

NUMBERS = [0, 1, 2, 7, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]
LARGE = [*NUMBERS, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1]

Change = Callable[[bytes, Random], bytes]


def flip(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice([1, 1, 2, 8, 64])):
        place = place_in(content, random)
        changed[place : place + 1] = bytes([content[place] ^ 1 << random.randrange(8)]) if content else b"x"
    return bytes(changed)


def overwrite(content: bytes, random: Random) -> bytes:
    """Put a number of 1, 2, 4 or 8 bytes over what is there."""
    width = random.choice([1, 2, 4, 8])
    place = place_in(content, random)
    number = random.choice(LARGE) % 256**width
    return content[:place] + number.to_bytes(width, random.choice(["little", "big"])) + content[place + width :]


def truncate(content: bytes, random: Random) -> bytes:
    return content[: place_in(content, random)]


def extend(content: bytes, random: Random) -> bytes:
    more = random.choice([b"\0", bytes(100), b"\n", random.randbytes(8), content, bytes(100_000)])
    return more + content if random.random() < 0.2 else content + more


def delete(content: bytes, random: Random) -> bytes:
    begin = place_in(content, random)
    return content[:begin] + content[begin + random.choice([1, 2, 8, 100]) :]


def double(content: bytes, random: Random) -> bytes:
    begin = place_in(content, random)
    piece = content[begin : begin + random.choice([1, 4, 30, 1000])]
    return content[:begin] + piece * random.choice([2, 2, 100]) + content[begin + len(piece) :]


def place_in(content: bytes, random: Random) -> int:
    """A place: anywhere, or near the beginning or the end, where headers are."""
    edge = min(len(content), 200)
    return random.choice(
        [random.randrange(len(content) + 1), random.randrange(edge + 1), len(content) - random.randrange(edge + 1)]
    ) % max(1, len(content))


CHANGES: Sequence[Change] = (flip, flip, flip, overwrite, overwrite, truncate, extend, delete, double)


def mutate_bytes(content: bytes, random: Random) -> bytes:
    for _ in range(random.choice([1, 1, 2])):
        content = random.choice(CHANGES)(content, random)
    return content


def splice(content: bytes, other: bytes, random: Random) -> bytes:
    """The beginning of one file and the end of another."""
    return content[: place_in(content, random)] + other[place_in(other, random) :]
