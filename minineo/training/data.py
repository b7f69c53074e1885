"""Training data: text files become one file of token ids.

A token file is a `.npy` file of one dimension, uint16 or uint32 (little-endian), with facts about it behind the array,
as one JSON object in UTF-8. NumPy reads as many ids as the header says and does not look further, so that
`np.load(path, mmap_mode="r")` reads it without this package.

Dimensions: N tokens of a file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from minineo.arrays import Array
from minineo.checkpoints.safetensors_file import temporary_beside
from minineo.tokenizer import GPT2Tokenizer
from minineo.tokenizer.documents import LONGEST_TEXT, FilePath, document_pieces, lines_of, text_files

SEPARATOR = "<|endoftext|>"
FORMAT = "minineo token file 1"
WRITE_IT = "Write it with write_token_file."
DTYPES = (np.dtype("<u2"), np.dtype("<u4"))


@dataclass(frozen=True)
class Source:
    """A text file that went into a token file: its name, with its folder's where a folder was read, and its SHA-256."""

    name: str
    sha256: str


@dataclass(frozen=True, eq=False)
class TokenFile:
    """A token file, opened.

    `tokens` (N,) is a read-only memory map. All ids are below `vocab_size`; `end_id` ends each of the `documents`,
    which had so many `bytes` in UTF-8. `fingerprint` is the vocabulary's, see `fingerprint_of`.
    """

    path: Path
    tokens: Array
    vocab_size: int
    end_id: int
    documents: int
    bytes: int
    sources: tuple[Source, ...]
    fingerprint: str


def fingerprint_of(tokenizer: GPT2Tokenizer) -> str:
    """SHA-256 of a tokenizer's tokens by id and of its merges: what a list of ids depends on."""
    tokens = sorted((index, token) for token, index in tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps([tokens, tokenizer.merges]).encode()).hexdigest()


# -- text -> token file ------------------------------------------------------------------------------------------------


def write_token_file(
    sources: FilePath | Iterable[FilePath], tokenizer: GPT2Tokenizer, output: FilePath, progress: bool = True
) -> TokenFile:
    """Encode text files into a token file, and open it.

    Documents are parted by lines that hold `<|endoftext|>` alone and by the ends of files; the tokenizer's end-of-text
    token follows each. Blank lines around a document and white space at its end are no part of it, line ends inside
    are kept as they are. Special tokens written in a line become the special token, as in any text, unless the
    tokenizer has `split_special_tokens`. Neither the text nor the ids are ever in memory as a whole.

    The file appears under its name when it is complete and on the disk. Whatever happens before that (an error, a full
    disk, Ctrl-C), what stood there stays.

    Args:
        sources: UTF-8 text files, or folders of which all `*.txt` files are read, sorted by path.
        tokenizer: must have an end-of-text token (`eos_token`).
        output: the file to write; its folder exists.
        progress: show a bar that counts bytes.

    Raises:
        FileNotFoundError: when a source, or the folder of `output`, is not there.
        ValueError: for a tokenizer without `eos_token`; when there is no text, or it is not UTF-8; when `output` is one
            of the sources.
    """
    files, output = text_files(sources), Path(output)
    if tokenizer.eos_token_id is None:
        raise ValueError("tokenizer: has no eos_token to end documents with. Set it: tokenizer.eos_token = ...")
    if any(output.exists() and output.samefile(path) for _, path in files):
        raise ValueError(f"output: {output} is one of the sources, and would be overwritten. Choose another name.")
    if output.is_dir():
        raise IsADirectoryError(f"output: {output} is a folder, expected the name of a file.")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"output: the folder {output.parent} does not exist. Make it first.")
    temporary = temporary_beside(output)
    try:
        with temporary.open("xb") as file:
            _write(file, files, tokenizer, progress)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
    return open_token_file(output, tokenizer)


def _write(file: BinaryIO, files: list[tuple[str, Path]], tokenizer: GPT2Tokenizer, progress: bool) -> None:
    """Write header, ids and facts; then the header again, since only now the number of ids is known."""
    from tqdm import tqdm  # not above: slow to import, and only this needs it

    vocab_size = max(tokenizer.get_vocab().values()) + 1
    dtype = DTYPES[vocab_size > 1 << 16]
    counts = Counter(tokens=0, documents=0, bytes=0)
    sources: list[Source] = []
    _write_header(file, dtype, 0)
    total = sum(path.stat().st_size for _, path in files)
    with tqdm(total=total, desc="encoding", unit="B", unit_scale=True, disable=not progress) as bar:
        for name, path in files:
            digest = hashlib.sha256()
            lines = lines_of(path, (SEPARATOR,), (digest.update, lambda raw: bar.update(len(raw))))
            for ids in _encode(lines, tokenizer, counts):
                file.write(_to_bytes(ids, dtype, vocab_size))
            sources.append(Source(name, digest.hexdigest()))
    if not counts["documents"]:
        names = ", ".join(name for name, _ in files)
        raise ValueError(f"sources: no text in {names}, only white space and separators. Pass files that hold text.")
    tokens = counts.pop("tokens")  # the header says it
    facts = {
        "format": FORMAT,
        "vocab_size": vocab_size,
        "end_id": tokenizer.eos_token_id,
        **counts,
        "sources": [asdict(source) for source in sources],
        "fingerprint": fingerprint_of(tokenizer),
    }
    file.write(json.dumps(facts).encode())
    file.seek(0)
    _write_header(file, dtype, tokens)


def _encode(lines: Iterable[str | None], tokenizer: GPT2Tokenizer, counts: Counter[str]) -> Iterator[list[int]]:
    """Ids of documents piece by piece, the end-of-text token after each document; counts what goes by."""
    added = tokenizer.added_tokens_decoder.values()
    cut_changes_ids = tokenizer.add_prefix_space or any(
        token.lstrip or token.rstrip or token.content.split() != [token.content] for token in added
    )  # a space put before a piece, and white space that a token takes along, depend on what stands around
    for text, last in document_pieces(lines, math.inf if cut_changes_ids else LONGEST_TEXT):
        ids = tokenizer.encode_text(text, tokenizer.split_special_tokens) + [tokenizer.eos_token_id] * last
        counts.update(tokens=len(ids), documents=int(last), bytes=len(text.encode()))
        yield ids


def _to_bytes(ids: list[int], dtype: np.dtype[Any], vocab_size: int) -> bytes:
    if not 0 <= min(ids) <= max(ids) < vocab_size:
        raise ValueError(f"tokenizer: gave ids from {min(ids)} to {max(ids)}, expected 0 to {vocab_size - 1}.")
    return np.array(ids, dtype).tobytes()


def _write_header(file: BinaryIO, dtype: np.dtype[Any], tokens: int) -> None:
    """Write the header of a `.npy` file; NumPy leaves room in it, so that its size is the same for any length."""
    npy.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": (tokens,)})


# -- token file -> ids -------------------------------------------------------------------------------------------------


def open_token_file(path: FilePath, tokenizer: GPT2Tokenizer | None = None) -> TokenFile:
    """Open a token file without reading its ids: the operating system fetches a page when it is first used.

    Raises:
        FileNotFoundError: when it is not there.
        ValueError: when it is empty, truncated or no token file, or was written with another vocabulary than
            the `tokenizer`'s.
    """
    path = Path(path)
    with path.open("rb") as file:
        dtype, tokens = _read_header(file, path)
        begin = file.tell()
        end, size = begin + tokens * dtype.itemsize, os.fstat(file.fileno()).st_size
        if size < end:
            raise ValueError(f"{path}: truncated: it has {size:,} bytes, {tokens:,} ids need {end:,}. {WRITE_IT}")
        file.seek(end)
        facts = _read_facts(file, path)
    if tokenizer is not None and facts["fingerprint"] != fingerprint_of(tokenizer):
        raise ValueError(
            f"{path}: written with another vocabulary, of {facts['vocab_size']} tokens, than this tokenizer's, of "
            f"{len(tokenizer)}. Write the file again with this tokenizer, or pass the one that it was written with."
        )
    sources = tuple(Source(**source) for source in facts.pop("sources"))
    return TokenFile(path, np.memmap(path, dtype, "r", begin, (tokens,)), sources=sources, **facts)


def _read_header(file: BinaryIO, path: Path) -> tuple[np.dtype[Any], int]:
    """Dtype and number of the ids."""
    try:
        if npy.read_magic(file) != (1, 0):
            raise ValueError("another version of .npy")
        shape, _, dtype = npy.read_array_header_1_0(file)
        if len(shape) != 1 or not shape[0] or dtype not in DTYPES:
            raise ValueError(f"{dtype} {shape}, expected one dimension of uint16 or uint32, little-endian")
    except ValueError as error:
        what = "not a token file" if os.fstat(file.fileno()).st_size else "the file is empty"
        raise ValueError(f"{path}: {what} ({error}). {WRITE_IT}") from error
    return dtype, shape[0]


def _read_facts(file: BinaryIO, path: Path) -> dict[str, Any]:
    """The facts behind the array, without the name of the format."""
    try:
        facts = json.loads(file.read())
    except (ValueError, RecursionError):
        facts = None
    if isinstance(facts, dict) and facts.pop("format", None) == FORMAT:
        return facts
    raise ValueError(
        f"{path}: truncated, or not a token file: behind the ids, the facts of a {FORMAT!r} are missing. {WRITE_IT}"
    )
