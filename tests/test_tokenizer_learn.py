"""Learning merges: ties, frequencies, ids; equal to the trainer of `tokenizers`."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import require

from minineo.tokenizer import GPT2Tokenizer, learn_bpe
from minineo.tokenizer.learn import count_words, merge_pair

SCRIPTS = Path(__file__).parent / "data" / "scripts.txt"
GOLDEN = Path(__file__).parent / "golden" / "tokenizer.json"


def learn(texts: list[str], vocab_size: int, special: list[str] | None = None, min_frequency: int = 1):
    return learn_bpe(texts, vocab_size, special or [], min_frequency, progress=False)


def test_the_most_frequent_pair_comes_first() -> None:
    assert learn(["abab abab cd"], 259)[1][0] == ("a", "b")
    vocab, merges = learn(["aaabdaaabac"], 259)
    assert merges == [("a", "a"), ("a", "b"), ("aa", "ab")]
    assert [vocab["aa"], vocab["ab"], vocab["aaab"]] == [256, 257, 258]


def test_ties_go_to_the_lowest_ids() -> None:
    """b-c, c-d and d-e occur equally often; so do the pairs of the second text, where the left id decides."""
    assert learn(["bcde"], 257)[1] == [("b", "c")]
    assert learn(["zy xw", "vu"], 257)[1] == [("v", "u")]
    assert learn(["ac ab"], 258)[1] == [("a", "b"), ("a", "c")]


def test_special_tokens_have_the_first_ids_then_bytes_in_the_order_of_their_characters() -> None:
    vocab, _ = learn(["hi"], 258, ["<s>", "</s>"])
    tokens = sorted(vocab, key=vocab.__getitem__)
    assert tokens[:5] == ["<s>", "</s>", "!", '"', "#"]
    assert tokens[2:] == sorted(tokens[2:])
    assert len(vocab) == 258


def test_min_frequency_ends_learning() -> None:
    text = ["ab"] * 3 + ["cd"] * 2 + ["ef"]
    assert learn(text, 300, min_frequency=4)[1] == []
    assert learn(text, 300, min_frequency=3)[1] == [("a", "b")]
    assert learn(text, 300, min_frequency=2)[1] == [("a", "b"), ("c", "d")]
    assert learn(text, 300, min_frequency=0)[1] == [("a", "b"), ("c", "d"), ("e", "f")]


def test_no_word_reaches_from_one_text_into_the_next() -> None:
    assert count_words(["ab", "cd ef", "ab"], progress=False) == Counter({"ab": 2, "cd": 1, " ef": 1})


def test_merging_a_pair_says_how_counts_change() -> None:
    word, changes = merge_pair([1, 1, 1, 2, 1, 1], (1, 1), 9)
    assert word == [9, 1, 2, 9]
    totals: Counter[tuple[int, int]] = Counter()
    for pair, change in changes:
        totals[pair] += change
    assert {pair: change for pair, change in totals.items() if change} == {
        (1, 1): -1,
        (9, 1): 1,
        (2, 1): -1,
        (2, 9): 1,
    }


def test_golden_merges() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    lines = SCRIPTS.read_bytes().decode().split("\n")
    vocab, merges = learn_bpe(lines, 600, ["<|endoftext|>"], progress=False)
    assert merges == [tuple(merge) for merge in golden["merges"]]
    assert sorted(vocab, key=vocab.__getitem__) == golden["vocab"]


def test_train_gives_a_tokenizer(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = GPT2Tokenizer.train(
        ["low lower lowest"] * 5, 270, special_tokens=["<|endoftext|>", "<pad>"], min_frequency=2, pad_token="<pad>"
    )
    assert len(tokenizer) <= 270
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1)
    assert tokenizer.tokenize("low lowest<|endoftext|>") == ["low", "Ġlowest", "<|endoftext|>"]
    assert tokenizer.decode(tokenizer.encode("lowest naïve 日本")) == "lowest naïve 日本"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "merging" in captured.err
    assert GPT2Tokenizer.train(["aa"], 257, special_tokens=[], progress=False).eos_token is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("one text", 300), TypeError, r"pass \[text\]"),
        (([b"bytes"], 300), TypeError, "must hold strings, not bytes"),
        ((["a"], 256), ValueError, "256 bytes and 1 special tokens need 257"),
        ((["a"], 300.0), TypeError, "must be integers"),
    ],
)
def test_wrong_input_is_named(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GPT2Tokenizer.train(*arguments, progress=False)
    with pytest.raises(TypeError, match="list of strings"):
        learn_bpe(["a"], 300, "<s>")


def test_progress_bars_are_imported_only_by_those_who_learn() -> None:
    code = "import sys, minineo.tokenizer; print('tqdm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def learned_by_tokenizers(texts: list[str], vocab_size: int, special: list[str], min_frequency: int):
    tokenizers = require("tokenizers")
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        texts, vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=special, show_progress=False
    )
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(8))
def test_random_texts_teach_the_same_as_tokenizers(seed: int) -> None:
    """Few letters, so that there are ties, overlaps, and tokens that two merges make."""
    generator = random.Random(seed)
    for _ in range(40):
        letters = generator.choice(["a", "ab", "abc", "ab ", "abcd \n", "aé", "🙂a"])
        texts = [
            "".join(generator.choices(letters, k=generator.randint(0, generator.choice([10, 60, 400]))))
            for _ in range(generator.randint(0, 6))
        ]
        special = generator.choice([[], ["<|e|>"], ["a", "<x>"], ["aa", "ab", "<x>"], ["aaa"]])
        size = 256 + len(special) + generator.choice([0, 1, 2, 3, 5, 10, 30, 100])
        frequency = generator.choice([0, 1, 2, 3, 10])
        assert learn(texts, size, special, frequency) == learned_by_tokenizers(texts, size, special, frequency)


@pytest.mark.oracle
@pytest.mark.corpus
def test_the_corpus_teaches_the_same_as_tokenizers() -> None:
    require("tokenizers")
    folder = os.environ.get("MININEO_CORPUS")
    if not folder:
        pytest.skip("MININEO_CORPUS is not set to a folder with valid.txt")
    text = (Path(folder) / "valid.txt").read_text(encoding="utf-8")
    for size, frequency in ((2000, 2), (8000, 5)):
        ours = learn([text], size, ["<|endoftext|>"], frequency)
        assert ours == learned_by_tokenizers([text], size, ["<|endoftext|>"], frequency)
