"""Text to work on, and GPT-2's vocabulary where it can be found."""

from __future__ import annotations

import base64
import importlib.util
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import minineo
from minineo.tokenizer.pretokenize import bytes_to_token

CORPUS = "MININEO_CORPUS"
PASSAGE = Path(__file__).parents[1] / "tests" / "data" / "happy_prince.txt"
END_OF_TEXT = "<|endoftext|>"


def english(size: int) -> tuple[str, str]:
    """About `size` bytes of English, and a description of it."""
    folder = os.environ.get(CORPUS)
    if folder:
        with open(Path(folder) / "train.txt", encoding="utf-8") as file:
            text = file.read(size).replace(END_OF_TEXT, "")
        if len(text.encode()) >= 0.9 * size:
            return text, f"{len(text.encode()) / 1e6:.1f} MB of the corpus in ${CORPUS}"
    text = "".join(_invented(size))
    return text, f"{len(text) / 1e6:.1f} MB of invented words (set {CORPUS} to a folder with train.txt for English)"


def _invented(size: int) -> Iterator[str]:
    """Sentences of pronounceable words, few of them frequent and many rare, as in a real text (Zipf's law)."""
    rng = random.Random(0)
    starts, middles, ends = ("", "b", "st", "gr", "m", "th", "w", "l"), "aeiou", ("", "n", "r", "ng", "st", "ly")
    syllables = [start + vowel + end for start in starts for vowel in middles for end in ends]
    words = ["".join(rng.choices(syllables, k=1 + min(3, i // 400))) for i in range(30_000)]
    weights = [1.0 / (rank + 2) for rank in range(len(words))]
    while size > 0:
        chosen = rng.choices(words, weights, k=rng.randint(4, 20))
        sentence = " ".join(chosen).capitalize() + rng.choice((". ", ".\n\n", ", and ", "! "))
        size -= len(sentence)
        yield sentence


def paragraphs(text: str, size: int = 10_000) -> list[str]:
    """The text in pieces of about `size` characters that end between paragraphs, for what takes many texts."""
    pieces: list[list[str]] = [[]]
    length = 0
    for paragraph in text.split("\n\n"):
        pieces[-1].append(paragraph)
        length += len(paragraph)
        if length > size:
            pieces.append([])
            length = 0
    return ["\n\n".join(piece) for piece in pieces if piece]


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level vocabulary: what it is, its tokens as vocabulary files spell them, and its merges in order."""

    description: str
    ids: dict[str, int]
    merges: list[tuple[str, str]]


def vocabulary() -> Vocabulary:
    """GPT-2's, as openai-whisper ships it, or else the bundled model's."""
    specification = importlib.util.find_spec("whisper")
    if specification is None or specification.origin is None:
        return _bundled()
    lines = (Path(specification.origin).parent / "assets" / "gpt2.tiktoken").read_text(encoding="utf-8").splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    ids = {bytes_to_token(token): rank for token, rank in ranks.items()} | {END_OF_TEXT: len(ranks)}
    merges = [_parents(token, ranks) for token in sorted(ranks, key=ranks.__getitem__) if len(token) > 1]
    return Vocabulary("GPT-2's vocabulary", ids, merges)


def _parents(token: bytes, ranks: dict[bytes, int]) -> tuple[str, str]:
    """The pair that a token was merged from: what earlier merges leave of its bytes."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        _, place = min((ranks.get(parts[i] + parts[i + 1], len(ranks)), i) for i in range(len(parts) - 1))
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    left, right = map(bytes_to_token, parts)
    return left, right


def _bundled() -> Vocabulary:
    tokenizer = bundled_tokenizer()
    merges_file = (files("minineo") / "assets" / "merges.txt").read_text(encoding="utf-8")
    lines = [line.split(" ") for line in merges_file.splitlines() if line and not line.startswith("#version")]
    why = "the bundled model's vocabulary of 4,096 tokens (pip install --no-deps openai-whisper for GPT-2's)"
    return Vocabulary(why, tokenizer.get_vocab(), [(left, right) for left, right in lines])


def bundled_tokenizer() -> minineo.GPT2Tokenizer:
    """The bundled model's."""
    return minineo.GPT2Tokenizer.from_pretrained(Path(str(files("minineo") / "assets")))
