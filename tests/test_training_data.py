"""Training data: token files, and what is wrong with them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import tracemalloc
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minineo.tokenizer import AddedToken, GPT2Tokenizer
from minineo.training import data
from minineo.training.data import (
    Source,
    open_token_file,
    write_token_file,
)
from minineo.training.data_windows import windows

END = "<|endoftext|>"
STORY = "the cat sat on the mat and the dog sat on the log, while the king's hen sang to the other hens.\n"
TOKENIZER = GPT2Tokenizer.train([STORY], vocab_size=290, min_frequency=1, progress=False)


def write(folder: Path, content: str | bytes, tokenizer: GPT2Tokenizer = TOKENIZER) -> data.TokenFile:
    source = folder / "text.txt"
    source.write_bytes(content.encode() if isinstance(content, str) else content)
    return write_token_file(source, tokenizer, folder / "tokens.npy", progress=False)


def decoded(tokens: np.ndarray, end: int) -> list[str]:
    """The texts between end-of-text ids, the last of which ends the file."""
    borders = np.flatnonzero(tokens == end)
    assert borders[-1] == len(tokens) - 1
    return [TOKENIZER.decode(document[document != end]) for document in np.split(tokens, borders[:-1] + 1)]


# -- text -> token file ------------------------------------------------------------------------------------------------

SURROUNDING = st.sampled_from(["", "\n", "\r\n", " \t\n", "\n\n\n"])
DOCUMENT = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=30),
    st.lists(st.sampled_from(["the", " cat", "'s", "\n", "\r\n", " ", "\x1c", "\u3000", "é", "🙂"]), max_size=20).map(
        "".join
    ),
).map(lambda text: text.strip(" \t\r\n"))


@settings(deadline=None)
@given(st.lists(DOCUMENT, max_size=6), st.data(), st.integers(0, 10))
def test_documents_come_back(tmp_path_factory, documents, data_, longest):
    separators = [data_.draw(SURROUNDING) + "\n" + END + "\n" + data_.draw(SURROUNDING) for _ in documents]
    text = "".join(document + separator for document, separator in zip(documents, separators, strict=True))
    documents = [document for document in documents if document]
    folder = tmp_path_factory.mktemp("tokens")
    with mock.patch.object(data, "LONGEST_TEXT", longest):
        if not documents:
            with pytest.raises(ValueError, match=r"no text in text\.txt"):
                write(folder, text)
            return
        file = write(folder, text)
    assert decoded(file.tokens, file.end_id) == documents
    whole = [index for document in documents for index in [*TOKENIZER.encode(document), TOKENIZER.eos_token_id]]
    assert file.tokens.tolist() == whole  # also where documents are encoded in pieces
    assert file.documents == len(documents)
    assert file.bytes == sum(len(document.encode()) for document in documents)


def test_numpy_reads_a_token_file_and_facts_follow(tmp_path):
    content = f"{STORY}{END}\n  {STORY}".encode()
    file = write(tmp_path, content)
    plain = np.load(file.path, mmap_mode="r")
    assert plain.dtype == np.dtype("<u2")
    assert plain.tolist() == np.load(file.path).tolist() == file.tokens.tolist()
    assert isinstance(file.tokens, np.memmap)
    assert not file.tokens.flags.writeable
    facts = json.loads(file.path.read_bytes()[plain.offset + plain.nbytes :])
    digest = hashlib.sha256(content).hexdigest()
    assert facts.pop("fingerprint") == file.fingerprint == data.fingerprint_of(TOKENIZER)
    assert facts == {
        "format": "minineo token file 1",
        "vocab_size": 290,
        "end_id": TOKENIZER.eos_token_id,
        "documents": 2,
        "bytes": 2 * len(STORY) - 2 + 2,
        "sources": [{"name": "text.txt", "sha256": digest}],
    }
    assert file.sources == (Source("text.txt", digest),)
    assert file.vocab_size == 290


def test_windows_line_ends_are_kept_inside_documents_only(tmp_path):
    file = write(tmp_path, f"\r\none\r\ntwo\r\n\r\n{END}\r\n\r\n three \r\n")
    assert decoded(file.tokens, file.end_id) == ["one\r\ntwo", " three"]


def test_files_and_folders_in_order(tmp_path):
    folder = tmp_path / "books"
    (folder / "a").mkdir(parents=True)
    for name in ("b.txt", "a/x.txt", "a.txt"):
        (folder / name).write_text(name, encoding="utf-8")
    (folder / "a" / "ignored.md").write_text("no", encoding="utf-8")
    file = write_token_file([folder / "b.txt", str(folder)], TOKENIZER, tmp_path / "tokens", progress=False)
    assert decoded(file.tokens, file.end_id) == ["b.txt", "a.txt", "a/x.txt", "b.txt"]
    assert [source.name for source in file.sources] == ["b.txt", "books/a.txt", "books/a/x.txt", "books/b.txt"]


def test_special_tokens_in_a_line_go_by_the_tokenizer(tmp_path):
    text = f"one {END} two"
    assert write(tmp_path, text).tokens.tolist() == [*TOKENIZER.encode(text), TOKENIZER.eos_token_id]
    careful = GPT2Tokenizer(dict(TOKENIZER.get_vocab()), TOKENIZER.merges, split_special_tokens=True)
    tokens = write(tmp_path, text, careful).tokens.tolist()
    assert tokens.count(careful.eos_token_id) == 1
    assert careful.decode(tokens[:-1]) == text


@pytest.mark.parametrize(
    "arguments",
    [
        {"add_prefix_space": True},
        {"add_bos_token": True, "add_eos_token": True},
        {"extra_special_tokens": [AddedToken("cat", lstrip=True)]},
        {"extra_special_tokens": [AddedToken("cat", rstrip=True)]},
        {"extra_special_tokens": ["cat\nsat"]},
        {"extra_special_tokens": [AddedToken("cat", single_word=True)]},
    ],
)
def test_pieces_encode_as_the_whole_whatever_the_tokenizer(tmp_path, monkeypatch, arguments):
    tokenizer = GPT2Tokenizer(dict(TOKENIZER.get_vocab()), TOKENIZER.merges, **arguments)
    monkeypatch.setattr(data, "LONGEST_TEXT", 1)
    text = "the cat\nsat\n on\n\n the cat \n\ncat\nsat"
    whole = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    assert write(tmp_path, text, tokenizer).tokens.tolist() == whole


@pytest.mark.parametrize(("largest", "dtype"), [(65_535, "<u2"), (65_536, "<u4"), (90_000, "<u4")])
def test_ids_have_two_bytes_where_they_fit(tmp_path, largest, dtype):
    added = {largest: AddedToken("<last>")}
    tokenizer = GPT2Tokenizer(dict(TOKENIZER.get_vocab()), TOKENIZER.merges, added_tokens_decoder=added)
    file = write(tmp_path, "the<last>", tokenizer)
    assert file.tokens.dtype == np.dtype(dtype)
    assert file.tokens.tolist() == [*tokenizer.encode("the"), largest, tokenizer.eos_token_id]
    assert file.vocab_size == largest + 1


def test_neither_text_nor_ids_are_in_memory_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "LONGEST_TEXT", 2_000)
    write(tmp_path, STORY)  # fills caches
    (tmp_path / "text.txt").write_text(STORY * 3_000, encoding="utf-8")
    tracemalloc.start()
    file = write_token_file(tmp_path / "text.txt", TOKENIZER, tmp_path / "tokens.npy", progress=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file.bytes > 280_000
    assert file.documents == 1
    assert peak < 100_000


def test_progress_counts_bytes_on_standard_error(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(STORY * 20, encoding="utf-8")
    write_token_file(tmp_path / "text.txt", TOKENIZER, tmp_path / "tokens.npy")
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{len(STORY) * 20 / 1000:.2f}k/{len(STORY) * 20 / 1000:.2f}k" in err


# -- what goes wrong while it is written -------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "\n\n", f"{END}\n", f"\r\n{END}\r\n \t\n{END}"])
def test_no_text_is_an_error(tmp_path, content):
    with pytest.raises(ValueError, match=r"no text in text\.txt"):
        write(tmp_path, content)
    assert os.listdir(tmp_path) == ["text.txt"]


def test_a_tokenizer_without_end_of_text_is_an_error(tmp_path):
    tokenizer = GPT2Tokenizer(dict(TOKENIZER.get_vocab()), TOKENIZER.merges, eos_token=None)
    with pytest.raises(ValueError, match="has no eos_token"):
        write(tmp_path, STORY, tokenizer)


def test_impossible_outputs_are_errors_before_any_work(tmp_path):
    source = tmp_path / "text.txt"
    source.write_text(STORY, encoding="utf-8")
    with pytest.raises(ValueError, match="is one of the sources"):
        write_token_file(tmp_path, TOKENIZER, source)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_token_file(source, TOKENIZER, tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        write_token_file(source, TOKENIZER, tmp_path / "missing" / "tokens.npy")
    assert source.read_text(encoding="utf-8") == STORY


class Failing:
    """A method that raises an exception when it is called for the second time."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.calls = error, 0

    def __call__(self, text: str, split_special_tokens: bool) -> list[int]:
        self.calls += 1
        if self.calls == 2:
            raise self.error
        return [1, 2, 3]


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), OSError(errno.ENOSPC, "disk full")])
@pytest.mark.parametrize("where", ["encoding", "writing to the disk"])
def test_what_fails_in_the_middle_leaves_what_was_there(tmp_path, monkeypatch, before, error, where):
    old = write(tmp_path, STORY).path.read_bytes() if before else None
    if where == "encoding":
        monkeypatch.setattr(TOKENIZER, "encode_text", Failing(error), raising=False)
    else:
        monkeypatch.setattr(data.os, "fsync", mock.Mock(side_effect=error))
    with pytest.raises(type(error)):
        write(tmp_path, f"{STORY}{END}\n{STORY}")
    assert sorted(os.listdir(tmp_path)) == ["text.txt", "tokens.npy"][: 1 + before]
    assert old is None or (tmp_path / "tokens.npy").read_bytes() == old


def test_the_file_appears_when_it_is_complete(tmp_path, monkeypatch):
    fsync = mock.Mock(side_effect=lambda _: list(tmp_path.glob("tokens.npy")) == [] or pytest.fail("too early"))
    monkeypatch.setattr(data.os, "fsync", fsync)
    assert write(tmp_path, STORY).path.exists()
    fsync.assert_called_once()


@pytest.mark.parametrize("ids", [[1, 290], [-1, 2]])
def test_ids_outside_the_vocabulary_are_not_written(tmp_path, monkeypatch, ids):
    monkeypatch.setattr(TOKENIZER, "encode_text", lambda *_: list(ids), raising=False)
    with pytest.raises(ValueError, match="expected 0 to 289"):
        write(tmp_path, STORY)
    assert os.listdir(tmp_path) == ["text.txt"]


def test_text_that_is_not_utf8_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"text\.txt: not UTF-8 text .* at byte 4"):
        write(tmp_path, b"one \xff")
    assert os.listdir(tmp_path) == ["text.txt"]


# -- token file -> ids -------------------------------------------------------------------------------------------------


def test_another_vocabulary_is_an_error(tmp_path):
    path = write(tmp_path, STORY).path
    assert open_token_file(path, TOKENIZER).documents == 1
    other = GPT2Tokenizer.train(["other words"], vocab_size=262, min_frequency=1, progress=False)
    with pytest.raises(ValueError, match="another vocabulary, of 290 tokens, than this tokenizer's, of 262"):
        open_token_file(path, other)
    swapped = TOKENIZER.merges
    swapped[0], swapped[1] = swapped[1], swapped[0]  # same tokens, other ids for the same text
    with pytest.raises(ValueError, match="another vocabulary"):
        open_token_file(path, GPT2Tokenizer(dict(TOKENIZER.get_vocab()), swapped))


def test_a_truncated_file_is_an_error_wherever_it_ends(tmp_path):
    path = write(tmp_path, "the cat").path
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"tokens\.npy: (the file is empty|not a token file|truncated)"):
            open_token_file(path)
    path.write_bytes(content + b"x")
    with pytest.raises(ValueError, match="truncated, or not a token file"):
        open_token_file(path)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, np.int64),
        np.zeros((3, 1), np.uint16),
        np.zeros(3, ">u2"),
        np.zeros(0, np.uint16),
        np.zeros(3, np.uint16),
        np.zeros((), np.uint16),
        np.array([{}]),
    ],
)
def test_another_array_is_no_token_file(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=r"a\.npy: .*not a token file"):
        open_token_file(tmp_path / "a.npy")


@pytest.mark.parametrize("behind", [b"[]", b"{}", b'"format"', b'{"format": "other"}', b"\xff", b"[" * 100_000])
def test_other_facts_are_no_token_file(tmp_path, behind):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(3, np.uint16))
    path.write_bytes(path.read_bytes() + behind)
    with pytest.raises(ValueError, match="not a token file"):
        open_token_file(path)


@pytest.mark.parametrize("content", [STORY.encode(), b"\x93NUMPY\x02\x00", pickle.dumps([1]), b"PK\x03\x04"])
def test_another_file_is_no_token_file(tmp_path, content):
    path = tmp_path / "tokens.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"tokens\.npy: not a token file"):
        open_token_file(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_token_file(tmp_path / "nothing.npy")


def test_a_window_from_a_token_file(tmp_path):
    tokens = write(tmp_path, STORY * 4).tokens
    batch = windows(tokens, 16, 3, 0, 0)
    assert type(batch) is np.ndarray
    ring = np.concatenate([tokens, tokens]).tolist()
    assert all(any(ring[i : i + 17] == row for i in range(len(tokens))) for row in batch.tolist())
