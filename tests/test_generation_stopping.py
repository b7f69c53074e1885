"""Stop strings: found when the last token completes them, wherever they began."""

from __future__ import annotations

import numpy as np
import pytest
from generation_cases import random_model

from minineo.generation.stopping import completes_stop_string


class Pieces:
    """A tokenizer whose tokens are given byte strings."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def decode(self, ids: list[int]) -> str:
        return b"".join(self.pieces[i] for i in ids).decode("utf-8", errors="replace")


def first_stop(pieces: list[bytes], *stop_strings: str) -> int | None:
    """After how many tokens the text stops, if it does."""
    tokenizer = Pieces(*pieces)
    reach = max(len(stop.encode()) for stop in stop_strings)
    for n in range(1, len(pieces) + 1):
        if completes_stop_string(list(range(n))[-reach:], stop_strings, tokenizer):
            return n
    return None


@pytest.mark.parametrize(
    ("pieces", "stops", "expected"),
    [
        ([b"stop"], ["stop"], 1),
        ([b"st", b"op"], ["stop"], 2),
        ([b"st", b"opera"], ["stop"], 2),
        ([b"las", b"topper"], ["stop"], 2),
        ([b"s", b"to", b"pped"], ["stop"], 3),
        ([b"s", b"t", b"o", b"p"], ["stop"], 4),
        ([b"unstoppable"], ["stop"], 1),
        ([b"sto", b" p"], ["stop"], None),
        ([b"a", b"b", b"c"], ["x", "c"], 3),
        ([b"x", b"ab", b"c"], ["abcd", "bc"], 3),
        ([b"caf", b"\xc3", b"\xa9", b"!"], ["\u00e9"], 3),  # one character in two tokens
        ([b"\xf0\x9f", b"\x98", b"\x80"], ["\U0001f600"], 3),  # one in three
        ([b"\xa9", b"ab\xc3", b"\xa9c"], ["b\u00e9c"], 3),  # after half a character
        ([b"ab\xc3", b"zz"], ["bz"], None),
        ([b"ab", b"\xc3", b"\xa9", b"cd"], ["ab\u00e9c"], 4),
        ([b"\n", b"\n"], ["\n\n"], 2),
    ],
)
def test_where_a_text_stops(pieces: list[bytes], stops: list[str], expected: int | None) -> None:
    assert first_stop(pieces, *stops) == expected


def test_a_stop_string_that_was_there_before_does_not_count() -> None:
    """Only what the newest token completes: a prompt may hold stop strings."""
    tokenizer = Pieces(b"stop", b"x", b"p")
    assert not completes_stop_string([0, 1], ["stop"], tokenizer)
    assert not completes_stop_string([0, 2], ["stop"], tokenizer)
    assert completes_stop_string([1, 0], ["stop"], tokenizer)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_generate_stops_after_the_stop_string(num_beams: int) -> None:
    """Each row by itself; the stop string stays, padding follows."""
    model = random_model(10, eos_token_id=3)
    tokenizer = Pieces(*(bytes([97 + i % 26]) + str(i).encode() for i in range(31)))
    prompt = np.array([[5, 6, 7], [8, 9, 10]])
    whole = model.generate(prompt, max_new_tokens=20, min_new_tokens=20, num_beams=num_beams)
    cut = tokenizer.decode(whole[0][6:8])[1:-1]  # from within one token into the next
    output = model.generate(
        prompt, max_new_tokens=20, min_new_tokens=20, num_beams=num_beams, stop_strings=cut, tokenizer=tokenizer
    )
    text = tokenizer.decode([token for token in output[0] if token != 3])
    assert text.find(cut) >= 0
    assert len(text) - (text.find(cut) + len(cut)) <= 2  # ends with the token that completes it
    if num_beams == 1:
        np.testing.assert_array_equal(output[0][:8], whole[0][:8])
        assert (output[0][8:] == 3).all()


def test_only_the_end_of_the_text_is_decoded() -> None:
    """Generation must not become quadratic for the sake of a stop string."""
    longest = 0

    class Counting(Pieces):
        def decode(self, ids: list[int]) -> str:
            nonlocal longest
            longest = max(longest, len(ids))
            return super().decode(ids)

    tokenizer = Counting(*(bytes([97 + i % 26]) for i in range(31)))
    random_model(10, eos_token_id=None).generate(
        np.array([[5, 6, 7]]), max_new_tokens=40, stop_strings=["\u00e9\u00e9", "!!"], tokenizer=tokenizer
    )
    assert longest == 4  # bytes of the longest stop string, and so tokens
