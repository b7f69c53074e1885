"""Scoring a text: the windows, the numbers, the command, and the loop of Hugging Face's guide as an oracle."""

from __future__ import annotations

import io
import math
import tracemalloc
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from conftest import require
from generation_cases import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

import minineo
from minineo import scoring
from minineo.classes import GPTNeoForCausalLM
from minineo.cli import main
from minineo.tokenizer import GPT2Tokenizer

PASSAGE = (Path(__file__).parent / "data" / "happy_prince.txt").read_text(encoding="utf-8")
TEXT = PASSAGE + "<|endoftext|>\n" + PASSAGE[::-1] + PASSAGE.upper()


@pytest.fixture(scope="module")
def bundled() -> tuple[GPTNeoForCausalLM, GPT2Tokenizer]:
    return minineo.load()


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(2, 40), st.data())
def test_windows_hold_each_token_as_new_once(length, longest, data):
    stride = data.draw(st.integers(1, longest))
    found = list(scoring.windows(length, longest, stride))
    assert [i for begin, end, new in found for i in range(end - new, end)] == list(range(length))
    assert all(begin == i * stride and new <= end - begin <= longest for i, (begin, end, new) in enumerate(found))
    assert [end for _, end, _ in found].count(length) == 1


def guide_from_logits(model: GPTNeoForCausalLM, ids: np.ndarray, longest: int, stride: int) -> float:
    """The guide's loss, by its definition, from all logits of each window, in float64."""
    total, weights, seen = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + longest, len(ids))
        window, new = ids[begin:end], end - seen
        logits = model(window[None, :]).logits[0, :-1].astype(np.float64)
        losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(window) - 1), window[1:]]
        total += losses[-min(new, len(losses)) :].mean() * (new - 1) if new > 1 else 0.0
        weights, seen = weights + new - 1, end
        if end == len(ids):
            break
    return total / weights


class Letters:
    """A tokenizer with a token for each letter, and none for anything else."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - ord("a") for letter in text]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("length", "stride"), [(2, None), (16, None), (17, None), (50, 3), (50, 2), (33, 16), (49, 11)]
)
def test_loss_on_random_models(length, stride, tied, monkeypatch):
    monkeypatch.setattr(scoring, "CHUNK", 5)
    model = random_model(length, max_position_embeddings=16, tie_word_embeddings=tied)
    ids = np.random.default_rng(length).integers(0, 26, length)
    text = "".join(chr(ord("a") + i) for i in ids)
    found = minineo.score(text, model, Letters(), stride)
    expected = guide_from_logits(model, ids, 16, stride or 8)
    assert abs(found.loss - expected) < 1e-5 * expected
    assert found.perplexity == math.exp(found.loss)
    assert found.tokens == (length - found.windows if stride == 16 else length - 1)
    assert found.bytes == length
    assert found.bits_per_byte == pytest.approx(found.loss / math.log(2) * found.tokens / length, rel=1e-12)


def test_one_window_is_the_models_own_loss(bundled):
    model, tokenizer = bundled
    ids = np.array([tokenizer.encode(PASSAGE)])
    found = minineo.score(PASSAGE)
    assert found.loss == pytest.approx(float(model(ids, labels=ids).loss), rel=1e-6)
    assert (found.tokens, found.windows) == (ids.shape[1] - 1, 1)
    assert found.bytes == len(PASSAGE.encode())


def test_a_smaller_stride_takes_more_windows_and_predicts_the_same_tokens(bundled):
    some, more = minineo.score(TEXT, *bundled), minineo.score(TEXT, *bundled, stride=50)
    assert some.tokens == more.tokens == len(bundled[1].encode(TEXT)) - 1
    assert some.windows < more.windows


def test_endoftext_is_one_token(bundled):
    joined = minineo.score("Once<|endoftext|>Once", *bundled)
    assert joined.tokens == 2
    assert joined.bytes == len("Once<|endoftext|>Once")


def test_logits_of_all_positions_are_never_held():
    """512 positions of 50,000 tokens would be 102 MB, and their logarithms as much again."""
    model = random_model(0, vocab_size=50_000, max_position_embeddings=512)
    text = "".join(chr(ord("a") + i % 26) for i in range(512))
    tracemalloc.start()
    minineo.score(text, model, Letters())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * scoring.CHUNK * 50_000 * 4


@pytest.mark.parametrize("stride", [0, 1, -3, 33, 12.0, True, "12"])
def test_a_wrong_stride(stride):
    with pytest.raises(ValueError, match=r"stride: received .* from 2 to 32"):
        minineo.score(PASSAGE, random_model(0, max_position_embeddings=32), Letters(), stride=stride)


@pytest.mark.parametrize("text", ["", "a"])
def test_too_short(text):
    with pytest.raises(ValueError, match="too few"):
        minineo.score(text)


def test_not_a_text():
    with pytest.raises(TypeError, match="text: received a bytes"):
        minineo.score(b"Once upon a time")
    with pytest.raises(TypeError, match="tokenizer: received None"):
        minineo.score("Once upon a time", random_model(0))


def test_a_tokenizer_of_another_model():
    model = random_model(0, vocab_size=25)
    assert minineo.score("axy", model, Letters()).tokens == 2
    with pytest.raises(ValueError, match="tokenizer: gave token 25 for this text, expected tokens below 25"):
        minineo.score("axyz", model, Letters())


def test_progress_is_shown_on_request(capsys):
    minineo.score(PASSAGE)
    assert capsys.readouterr().err == ""
    minineo.score(PASSAGE, progress=True)
    assert "226/226" in capsys.readouterr().err


def test_the_command(capsys, monkeypatch, tmp_path):
    file = tmp_path / "story.txt"
    file.write_bytes(TEXT.encode())
    assert main(["score", str(file), "--stride", "100"]) == 0
    shown, errors = capsys.readouterr()
    found = minineo.score(TEXT, stride=100)
    cells = [line.split() for line in shown.splitlines()]
    assert cells[0] == ["loss", f"{found.loss:.4f}", "nats", "a", "token"]
    assert cells[1] == ["perplexity", f"{found.perplexity:.4f}"]
    assert cells[2] == ["bits", "per", "byte", f"{found.bits_per_byte:.4f}"]
    assert cells[3:] == [
        ["tokens", f"{found.tokens:,}", "predicted"],
        ["bytes", f"{found.bytes:,}"],
        ["windows", str(found.windows)],
    ]
    assert errors == ""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert main(["score", "-", "--stride", "100"]) == 0
    assert capsys.readouterr().out == shown


def test_errors_of_the_command(capsys, tmp_path):
    file = tmp_path / "latin.txt"
    file.write_bytes("caf\xe9 au lait".encode("latin-1"))
    assert main(["score", str(file)]) == 1
    assert "latin.txt: not UTF-8 text" in capsys.readouterr().err
    assert main(["score", str(tmp_path / "none.txt")]) == 1
    assert "none.txt: no such file" in capsys.readouterr().err


@pytest.mark.oracle
@pytest.mark.parametrize("stride", [None, 256, 60])
def test_against_the_guides_loop(stride, bundled):
    """Hugging Face's "Perplexity of fixed-length models", with the bundled model in transformers."""
    torch, transformers = require("torch"), require("transformers")
    theirs = transformers.GPTNeoForCausalLM.from_pretrained(files("minineo") / "assets", dtype=torch.float32)
    ids = torch.tensor([bundled[1].encode(TEXT)])
    longest, length = theirs.config.max_position_embeddings, ids.shape[1]
    total, count, seen, passes = 0.0, 0, 0, 0
    for begin in range(0, length, stride or longest // 2):
        end = min(begin + longest, length)
        window = ids[:, begin:end]
        labels = window.clone()
        labels[:, : seen - end] = -100
        with torch.no_grad():
            loss = theirs(window, labels=labels).loss
        predicted = int((labels != -100).sum()) - 1  # as the guide counts
        total, count, seen, passes = total + float(loss) * predicted, count + predicted, end, passes + 1
        if end == length:
            break
    found = minineo.score(TEXT, *bundled, stride=stride)
    assert found.windows == passes > 3
    assert found.loss == pytest.approx(total / count, rel=1e-6)
    assert found.perplexity == pytest.approx(float(torch.exp(torch.tensor(total / count))), rel=1e-5)
