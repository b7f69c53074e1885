"""The data of a run: its tokenizer, chosen or learned, and its token files, found or written from text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minineo.tokenizer import GPT2Tokenizer
from minineo.tokenizer.documents import text_files, texts_of
from minineo.training.data import (
    SEPARATOR,
    Source,
    TokenFile,
    fingerprint_of,
    open_token_file,
    write_token_file,
)
from minineo.training.data_windows import windows_per_epoch
from minineo.training.options import TrainingOptions

FOLDER = "data"  # in the output directory, for token files
TOKEN_FILE = ".npy"


@dataclass(frozen=True)
class Corpus:
    """What a run learns from, and what it is measured on, if anything."""

    tokenizer: GPT2Tokenizer
    train: TokenFile
    validation: TokenFile | None

    def facts(self) -> dict[str, Any]:
        """What tells this data from other data: the vocabulary, and name and SHA-256 of each text."""
        facts: dict[str, Any] = {"vocabulary": fingerprint_of(self.tokenizer)}
        for name, file in (("train", self.train), ("validation", self.validation)):
            facts[name] = None if file is None else [[source.name, source.sha256] for source in file.sources]
        return facts


def check_sources(options: TrainingOptions) -> None:
    """Raise where data cannot be what is needed, as far as can be said without reading it.

    Raises:
        FileNotFoundError: a file, folder or tokenizer is not there.
        ValueError: there is too little text for one window, a token file without a tokenizer, or a folder of text with
            the output directory in it.
    """
    if options.tokenizer is not None and not Path(options.tokenizer).is_dir():
        raise FileNotFoundError(f"tokenizer: {options.tokenizer}: no such directory.")
    for name in ("train", "validation"):
        sources: tuple[str, ...] = getattr(options, name)
        if not sources:
            continue
        if _is_token_file(sources):
            if not Path(sources[0]).is_file():
                raise FileNotFoundError(f"{name}: {sources[0]}: no such file.")
            if options.tokenizer is None:
                raise ValueError(
                    f"{name}: {sources[0]} is a token file; pass the tokenizer that wrote it, --tokenizer."
                )
            continue
        _check_apart(name, sources, Path(options.output))
        size = sum(path.stat().st_size for _, path in text_files(sources))
        if name == "train" and size < options.max_position_embeddings:  # a token is at least a byte
            raise ValueError(
                f"train: {size} bytes of text are too few for one window of {options.max_position_embeddings} tokens. "
                "Use more text, or a smaller max_position_embeddings."
            )


def prepare(options: TrainingOptions, tokenizer: GPT2Tokenizer | None = None, progress: bool = False) -> Corpus:
    """Open the data of a run; what is text is first encoded into token files in the output directory.

    A token file that is there from an earlier start is used again if it was made of the same texts. Without a
    tokenizer, here or in the options, one is learned from the training text.

    Raises:
        FileNotFoundError, ValueError: as `check_sources`; and for text that is not UTF-8, a file of another vocabulary,
            and too little data.
        FileExistsError: a file that is no token file has the name of one that would be written.
    """
    check_sources(options)
    if tokenizer is None and options.tokenizer is not None:
        tokenizer = GPT2Tokenizer.from_pretrained(options.tokenizer)
    if tokenizer is None:
        files = [path for _, path in text_files(options.train)]
        texts = texts_of(files, [SEPARATOR])
        tokenizer = GPT2Tokenizer.train(
            texts, options.vocab_size, progress=progress, model_max_length=options.max_position_embeddings
        )
    train = _open("train", options.train, tokenizer, options.output, progress)
    windows_per_epoch(train.tokens, options.max_position_embeddings)
    validation = None
    if options.validation:
        validation = _open("validation", options.validation, tokenizer, options.output, progress)
        if len(validation.tokens) < 2:
            raise ValueError(f"validation: {len(validation.tokens)} tokens are too few to predict one. Use more text.")
        if not np.any(validation.tokens[1:] != validation.end_id):
            raise ValueError(
                "validation: documents of a token each leave none to predict but the ends. Use longer text."
            )
    return Corpus(tokenizer, train, validation)


def token_files(output: Path) -> tuple[Path, Path]:
    """Where texts are encoded to."""
    train, validation = (output / FOLDER / f"{name}{TOKEN_FILE}" for name in ("train", "validation"))
    return train, validation


def _check_apart(name: str, sources: Sequence[str], output: Path) -> None:
    """Raise where what the run writes would be read as text, in this run when it is resumed or in the next one."""
    for source in map(Path, sources):
        if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
            raise ValueError(
                f"output: {output} is part of {source}, and {name} reads all .txt files in there: samples and merges "
                "would become text to learn from. Choose an --output beside it, or pass the files one by one."
            )


def _is_token_file(sources: Sequence[str]) -> bool:
    return len(sources) == 1 and sources[0].endswith(TOKEN_FILE)


def _open(name: str, sources: Sequence[str], tokenizer: GPT2Tokenizer, output: str, progress: bool) -> TokenFile:
    if _is_token_file(sources):
        return open_token_file(sources[0], tokenizer)
    path = Path(output) / FOLDER / f"{name}{TOKEN_FILE}"
    if path.exists():
        try:
            found = open_token_file(path)
        except (ValueError, OSError) as error:  # written by somebody else: token files appear whole or not at all
            raise FileExistsError(f"output: {path} would be overwritten. Move it away first. ({error})") from error
        if found.fingerprint == fingerprint_of(tokenizer) and found.sources == _digests(sources):
            return found
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_token_file(sources, tokenizer, path, progress=progress)


def _digests(sources: Sequence[str]) -> tuple[Source, ...]:
    """The texts as they are now."""
    found = []
    for name, path in text_files(sources):
        with path.open("rb") as file:
            found.append(Source(name, hashlib.file_digest(file, "sha256").hexdigest()))
    return tuple(found)
