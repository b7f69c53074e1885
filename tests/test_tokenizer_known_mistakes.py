"""Mistakes that other tokenizers for GPT-2's vocabulary made, one test each."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from minineo.tokenizer import GPT2Tokenizer, StreamDecoder
from minineo.tokenizer.pretokenize import pretokenize

VOCABULARY = Path(__file__).parent / "data" / "vocabulary"
END = 4095


@pytest.fixture
def tokenizer() -> GPT2Tokenizer:
    return GPT2Tokenizer.from_pretrained(VOCABULARY)


def test_contractions_have_no_typo() -> None:
    """The pattern had `'l l` for `'ll` (latitudegames/GPT-3-Encoder#5)."""
    assert pretokenize("we'll they'll") == ["we", "'ll", " they", "'ll"]
    assert pretokenize("we'l l") == ["we", "'", "l", " l"]


def test_runs_of_white_space_stay_together() -> None:
    """A split written by hand broke runs of white space (ohdearquant/lattice#330)."""
    assert pretokenize("a    b\n\n\n  c \t ") == ["a", "   ", " b", "\n\n\n ", " c", " \t "]
    assert pretokenize("    x") == ["   ", " x"]


def test_letters_are_those_of_unicode() -> None:
    """A pattern without Unicode classes fails on CJK (ggml-org/llama.cpp#3252)."""
    assert pretokenize("我能吞下 玻璃123而 가나다") == ["我能吞下", " 玻璃", "123", "而", " 가나다"]
    assert pretokenize("Ελλάδα Росси́я") == ["Ελλάδα", " Росси", "\u0301", "я"]


def test_bytes_are_mapped_not_characters(tokenizer: GPT2Tokenizer) -> None:
    """Characters were mapped where bytes should be (huggingface/transformers#537)."""
    assert tokenizer.tokenize("ÿ") == ["Ã", "¿"]
    assert tokenizer.tokenize("日") == ["æ", "Ĺ", "¥"]
    assert tokenizer.decode(tokenizer.encode("日")) == "日"


@pytest.mark.parametrize("text", ["a ", "a  ", " ", "\n", "a\n", "\n\n", "\t", " a", "\r\n"])
def test_white_space_at_the_ends_is_kept(tokenizer: GPT2Tokenizer, text: str) -> None:
    """A trailing space was dropped, a lone newline gave nothing (huggingface/transformers#5340, #7950)."""
    assert tokenizer.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("clean_up", [None, False, True])
@pytest.mark.parametrize("text", ["y is ?", "a , b . c ! n 't 's", "do n't"])
def test_decoding_cleans_nothing_up(tokenizer: GPT2Tokenizer, text: str, clean_up: bool | None) -> None:
    """`y is ?` became `y is?` (huggingface/transformers#21119)."""
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=clean_up) == text
    assert tokenizer.batch_decode([ids], clean_up_tokenization_spaces=clean_up) == [text]


def test_special_tokens_are_whole_or_kept_out(tokenizer: GPT2Tokenizer) -> None:
    """`<|endoftext|>` was split into pieces; or let in from untrusted text (karpathy/minGPT#140)."""
    text = "one<|endoftext|>two <|endoftext|>"
    assert tokenizer.encode(text).count(END) == 2
    untrusted = tokenizer(text, split_special_tokens=True).input_ids
    assert END not in untrusted
    assert tokenizer.decode(untrusted) == tokenizer.decode(untrusted, skip_special_tokens=True) == text


def test_added_tokens_are_decoded(tokenizer: GPT2Tokenizer) -> None:
    """One with a space crashed decoding, or they were ignored (huggingface/transformers#1133, karpathy/minbpe#64)."""
    tokenizer.add_tokens(["a token with spaces", "<naïve 日本>"])
    text = "x a token with spaces<naïve 日本>y"
    ids = tokenizer.encode(text)
    assert {4096, 4097} < set(ids)
    assert tokenizer.decode(ids) == tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.convert_tokens_to_string(tokenizer.convert_ids_to_tokens(ids)) == text


@pytest.mark.parametrize("codes", [[0xD800], [97, 0xDFFF, 98], [0xD83D, 0xDE00], [0xDC80, 0xDCFF], [0xDE00, 0xD83D]])
def test_lone_surrogates_are_kept(tokenizer: GPT2Tokenizer, codes: list[int]) -> None:
    """They crashed encoding (huggingface/transformers#8886, openai/tiktoken#82)."""
    text = "".join(map(chr, codes))
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    decoder = StreamDecoder(tokenizer)
    assert "".join([*map(decoder.put, ids), decoder.end()]) == text
    assert tokenizer(text, return_offsets_mapping=True).offset_mapping[-1][1] == len(text)


def test_time_does_not_grow_with_the_square_of_a_word(tokenizer: GPT2Tokenizer) -> None:
    """512 KiB without a break took 119 s (openai/tiktoken#195, openai/harmony#151)."""

    def seconds(length: int) -> float:
        begin = time.process_time()
        tokenizer.encode("theking" * (length // 7))
        return time.process_time() - begin

    times = [min(seconds(length) for _ in range(3)) for length in (1 << 12, 1 << 14, 1 << 16)]
    for shorter, longer in pairwise(times):
        assert longer < 10 * shorter  # four times the length: 4 times the work, or 16 if it were the square


def test_truncated_utf8_is_no_error(tokenizer: GPT2Tokenizer) -> None:
    """Strict decoding panicked (guillaume-be/rust-bert#27)."""
    ids = tokenizer.encode("👩")
    assert [tokenizer.decode(ids[:length]) for length in range(1, 5)] == ["\ufffd", "\ufffd", "\ufffd", "👩"]
    assert tokenizer.decode([*ids[:2], 64, *ids[3:]]) == "\ufffda\ufffd"


def test_streaming_keeps_characters_whole_and_never_stops(tokenizer: GPT2Tokenizer) -> None:
    """Emoji were destroyed, streams fell silent or stalled (ferrox#124, Swiftlet#7, transformers#36708)."""
    decoder = StreamDecoder(tokenizer)
    assert [decoder.put(index) for index in tokenizer.encode("🙂")] == ["", "", "", "🙂"]
    half = tokenizer.encode("🙂")[:2]
    assert [decoder.put(index) for index in [*half, 64, 65]] == ["", "", "\ufffda", "b"]
    without_spaces = [decoder.put(index) for index in tokenizer.encode("abcdefghij" * 20)]
    assert all(without_spaces)
    assert decoder.put(half[0]) == ""
    assert decoder.end() == "\ufffd"
