"""StreamDecoder: all of the text, as early as it is certain, and never half a character."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minineo.tokenizer import GPT2Tokenizer, StreamDecoder

VOCABULARY = Path(__file__).parent / "data" / "vocabulary"
tokenizer = GPT2Tokenizer.from_pretrained(VOCABULARY)
END = 4095


def byte_ids(data: bytes) -> list[int]:
    return [tokenizer._encoder.byte_ids[byte] for byte in data]


def pieces(data: bytes) -> list[str]:
    decoder = StreamDecoder(tokenizer)
    return [*map(decoder.put, byte_ids(data)), decoder.end()]


ids = st.lists(
    st.one_of(st.integers(0, 4200), st.sampled_from([*byte_ids(b"\xf0\x9f\x98\x80\xe2\x82\xacA\xed\xa0\xff"), END]))
)


@given(ids, st.booleans(), st.sampled_from(["replace", "ignore"]))
@settings(deadline=None, max_examples=500)
def test_pieces_joined_are_the_decoded_text(token_ids: list[int], skip: bool, errors: str) -> None:
    other = GPT2Tokenizer(tokenizer._base, tokenizer._merges, errors=errors)
    decoder = StreamDecoder(other, skip_special_tokens=skip)
    found = [*map(decoder.put, token_ids), decoder.end()]
    assert "".join(found) == other.decode(token_ids, skip_special_tokens=skip)


@given(st.text())
@settings(deadline=None, max_examples=300)
def test_each_character_comes_with_its_last_byte(text: str) -> None:
    expected = [piece for character in text for piece in [""] * (len(character.encode()) - 1) + [character]]
    assert pieces(text.encode()) == [*expected, ""]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xf0\x9fA", ["", "", "\ufffdA", ""]),  # not silent after half a character
        (b"\xffA", ["\ufffd", "A", ""]),  # certain at once
        (b"\xe2\xe2\x82\xac", ["", "\ufffd", "", "€", ""]),
        (b"\xe0\x80", ["", "\ufffd\ufffd", ""]),
        (b"\xf0\x9f\x98", ["", "", "", "\ufffd"]),  # the end flushes
        (b"ab", ["a", "b", ""]),  # no waiting for a space
    ],
)
def test_broken_bytes(data: bytes, expected: list[str]) -> None:
    assert pieces(data) == expected


def test_special_tokens_are_skipped_or_not() -> None:
    euro = byte_ids("€".encode())
    for skip, text in ((True, "€"), (False, "\ufffd<|endoftext|>\ufffd\ufffd")):
        decoder = StreamDecoder(tokenizer, skip_special_tokens=skip)
        found = "".join(
            [decoder.put(euro[0]), decoder.put(END), decoder.put(euro[1]), decoder.put(euro[2]), decoder.end()]
        )
        assert found == text == tokenizer.decode([euro[0], END, *euro[1:]], skip_special_tokens=skip)


def test_after_the_end_a_new_text_begins() -> None:
    decoder = StreamDecoder(tokenizer)
    assert decoder.put(byte_ids(b"\xe2")[0]) == ""
    assert decoder.end() == "\ufffd"
    assert decoder.end() == ""
    assert decoder.put(np.int64(64)) == "a"


def test_an_id_that_no_token_has() -> None:
    """It changes nothing, not even within a character."""
    decoder = StreamDecoder(tokenizer)
    euro = byte_ids("€".encode())
    assert [decoder.put(index) for index in (5000, *euro[:2], 4096, euro[2])] == ["", "", "", "", "€"]
    with pytest.raises(ValueError, match="no token with id -1"):
        decoder.put(-1)
    with pytest.raises(TypeError, match=r"token ids must be .*; got list: \[1\.5\]"):
        decoder.put(1.5)
