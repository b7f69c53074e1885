"""Pre-tokenisation and merging: the rules one by one, and long words in reasonable time."""

from __future__ import annotations

import copy
import json
import pickle
import random
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minineo.tokenizer.bpe import LARGEST_CACHE, LONG_WORD, BytePairEncoder, merge_long, merge_short
from minineo.tokenizer.files import read_merges, read_vocab
from minineo.tokenizer.pretokenize import (
    BYTE_TO_CHARACTER,
    bytes_to_token,
    chunks,
    pretokenize,
    token_to_bytes,
)

VOCABULARY = Path(__file__).parent / "data" / "vocabulary"
SCRIPTS = Path(__file__).parent / "data" / "scripts.txt"


@pytest.fixture(scope="module")
def encoder() -> BytePairEncoder:
    return BytePairEncoder(read_vocab(VOCABULARY / "vocab.json"), read_merges(VOCABULARY / "merges.txt"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("Hello world", ["Hello", " world"]),
        ("I'll we're they've I'm he's can't she'd", None),
        ("he'll", ["he", "'ll"]),
        ("HE'LL", ["HE", "'", "LL"]),
        ("he’ll", ["he", "’", "ll"]),
        ("'l l", ["'", "l", " l"]),
        ("'llama", ["'ll", "ama"]),
        ("a  b", ["a", " ", " b"]),
        ("a   b", ["a", "  ", " b"]),
        ("a \n b", ["a", " \n", " b"]),
        ("a\nb", ["a", "\n", "b"]),
        ("end ", ["end", " "]),
        ("end  ", ["end", "  "]),
        ("\n", ["\n"]),
        ("x2y 3", ["x", "2", "y", " 3"]),
        ("don't!?", ["don", "'t", "!?"]),
        ("日本語 中文", ["日本語", " 中文"]),
        ("देवनागरी", ["द", "े", "वन", "ा", "गर", "ी"]),  # vowel signs are marks, not letters
        ("½Ⅻ²", ["½Ⅻ²"]),  # numbers of every kind
        ("a\x1cb", ["a", "\x1c", "b"]),
        ("a\u00a0b", ["a", "\u00a0", "b"]),
        ("a\u3000\u3000b", ["a", "\u3000", "\u3000", "b"]),
        ("a\u0558b", ["a", "\u0558", "b"]),  # a letter only since Unicode 18
    ],
)
def test_words(text: str, words: list[str] | None) -> None:
    found = pretokenize(text)
    assert "".join(found) == text
    if words is not None:
        assert found == words


def test_contractions_are_words_of_their_own() -> None:
    for ending in ("s", "t", "re", "ve", "m", "ll", "d"):
        assert pretokenize(f"it'{ending}") == ["it", f"'{ending}"]
        assert pretokenize(f"é'{ending}") == ["é", f"'{ending}"]


@given(st.text(st.characters(codec="ascii")))
@settings(deadline=None, max_examples=300)
def test_the_ascii_pattern_is_the_general_one(text: str) -> None:
    with_another = pretokenize(text + "\u00e9")  # what is not ASCII goes by the general pattern
    assert pretokenize(text + "x") == [*with_another[:-1], with_another[-1].replace("\u00e9", "x")]


@given(st.text(), st.integers(1, 12))
@settings(deadline=None, max_examples=300)
def test_chunks_change_no_word(text: str, size: int) -> None:
    assert [word for chunk in chunks(text, size) for word in pretokenize(chunk)] == pretokenize(text)


def test_chunks_are_small_where_they_can_be() -> None:
    text = SCRIPTS.read_bytes().decode()
    assert max(map(len, chunks(text, 100))) < 250
    assert "".join(chunks(text, 100)) == text
    assert list(chunks("a" * 1000, 10)) == ["a" * 1000]


def test_byte_table() -> None:
    assert len(set(BYTE_TO_CHARACTER.values())) == 256
    assert [BYTE_TO_CHARACTER[byte] for byte in (0, 10, 32, 33, 126, 127, 160, 161, 173, 255)] == list("ĀĊĠ!~ġł¡Ńÿ")
    assert all(token_to_bytes(bytes_to_token(bytes([byte]))) == bytes([byte]) for byte in range(256))
    assert token_to_bytes("[PAD ]") == b"[PAD ]"
    assert token_to_bytes("日本") == "日本".encode()


def merge_by_definition(ids: list[int], ranks: dict[tuple[int, int], int], merged: list[int]) -> list[int]:
    while True:
        found = [(ranks[pair], place) for place, pair in enumerate(pairwise(ids)) if pair in ranks]
        if not found:
            return ids
        rank, place = min(found)
        ids = [*ids[:place], merged[rank], *ids[place + 2 :]]


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_both_ways_of_merging_follow_the_definition(data: st.DataObject) -> None:
    """For any merges, also such as no text teaches: out of order, or making one token in two ways."""
    pairs = data.draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), unique=True, max_size=12))
    merged = [data.draw(st.integers(0, 5)) for _ in pairs]
    ranks = {pair: rank for rank, pair in enumerate(pairs)}
    ids = data.draw(st.lists(st.integers(0, 5), max_size=30))
    expected = merge_by_definition(ids, ranks, merged)
    assert merge_short(ids, ranks, merged) == expected
    assert merge_long(ids, ranks, merged) == expected


def test_words_around_the_limit_of_the_short_way(encoder: BytePairEncoder) -> None:
    generator = random.Random(0)
    for length in range(LONG_WORD - 3, LONG_WORD + 4):
        word = "".join(generator.choices("thequickbrownfox", k=length))
        ids = [encoder.byte_ids[byte] for byte in word.encode()]
        assert encoder.encode_word(word) == merge_by_definition(ids, encoder.ranks, encoder.merged)


@pytest.mark.parametrize("unit", ["a", "the", " ", "\n", "-", "7", "😀", "日", "é", "random"])
def test_a_million_characters_without_a_break(encoder: BytePairEncoder, unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    if unit == "random":
        text = "".join(random.Random(1).choices("etaoinshrdlucmfwypvbgk", k=1_000_000))
    begin = time.process_time()
    ids = encoder.encode(text)
    seconds = time.process_time() - begin
    tokens = {index: token for token, index in read_vocab(VOCABULARY / "vocab.json").items()}
    assert b"".join(token_to_bytes(tokens[index]) for index in ids) == text.encode()
    assert seconds < 60  # some seconds; by repeated scans it would be hours


def test_the_cache_is_bounded(encoder: BytePairEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minineo.tokenizer.bpe.LARGEST_CACHE", 100)
    expected = [encoder.encode_word(f"w{letter}") for letter in "abc"]
    for number in range(1000):
        encoder.encode("w" + "".join(chr(97 + int(digit)) for digit in str(number)))
        assert len(encoder._cache) <= 100
    encoder.encode("a" * 10_000)
    assert max(map(len, encoder._cache)) < LONG_WORD < LARGEST_CACHE
    assert [encoder.encode(f"w{letter}") for letter in "abc"] == expected


def test_a_vocabulary_without_some_bytes() -> None:
    encoder = BytePairEncoder({"a": 0, "b": 1, "ab": 2}, [("a", "b")])
    assert encoder.encode("abba") == [2, 1, 0]
    with pytest.raises(ValueError, match=r"cannot encode ' é'.*no token for byte 0x20 \('Ġ'"):
        encoder.encode("ab é")


@pytest.mark.parametrize(
    ("merge", "missing"),
    [(("a", "x"), "'x'"), (("y", "b"), "'y'"), (("b", "a"), "'ba'")],
    ids=["right", "left", "both"],
)
def test_merges_need_their_tokens(merge: tuple[str, str], missing: str) -> None:
    with pytest.raises(ValueError, match=rf"merge 2.*needs the token {missing}"):
        BytePairEncoder({"a": 0, "b": 1, "ab": 2}, [("a", "b"), merge])


def test_copies_and_pickles_encode_the_same(encoder: BytePairEncoder) -> None:
    text = SCRIPTS.read_bytes().decode()
    expected = encoder.encode(text)
    assert pickle.loads(pickle.dumps(encoder)).encode(text) == expected
    assert copy.deepcopy(encoder).encode(text) == expected


def test_golden_ids(encoder: BytePairEncoder) -> None:
    """Ids by `tokenizers`, frozen by tests/golden/write_tokenizer.py."""
    golden = json.loads((Path(__file__).parent / "golden" / "tokenizer.json").read_text(encoding="utf-8"))
    lines = SCRIPTS.read_bytes().decode().split("\n")
    assert [encoder.encode(line) for line in lines] == golden["lines"]
    assert encoder.encode("\n".join(lines)) == golden["whole"]
