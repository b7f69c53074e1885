"""Text files as documents: which files, where documents end, and pieces that encode as the whole would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minineo.tokenizer.documents import document_pieces, lines_of, text_files, texts_of
from minineo.tokenizer.pretokenize import pretokenize

END = "<|endoftext|>"
SPACES = " \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u2028\u3000"
LINES = st.lists(st.text(st.sampled_from("ab'1!é" + SPACES), max_size=8) | st.just(END), max_size=12)


def written(folder: Path, content: bytes) -> Path:
    file = folder / "text.txt"
    file.write_bytes(content)
    return file


def expected_documents(text: str) -> list[str]:
    """Documents by a definition of their own: regular expressions over the whole text."""
    documents = re.split(rf"(?:^|(?<=\n)){re.escape(END)}\r*(?:\n|$(?!\n))", text)
    stripped = [re.sub(r"[ \t\r\n]+\Z", "", re.sub(r"\A([ \t\r]*\n)+", "", document)) for document in documents]
    return [document for document in stripped if document]


@settings(deadline=None)
@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.integers(0, 12))
def test_documents_in_pieces(tmp_path_factory, lines, line_end, ended, longest):
    text = line_end.join(lines) + line_end * ended
    file = written(tmp_path_factory.mktemp("documents"), text.encode())
    documents, words = [""], []
    for piece, last in document_pieces(lines_of(file, [END]), longest):
        assert piece
        documents[-1] += piece
        words += pretokenize(piece)
        documents += [""] * last
    assert documents.pop() == ""
    assert documents == expected_documents(text)
    assert words == [word for document in documents for word in pretokenize(document)]


def test_pieces_are_as_short_as_they_may_be(tmp_path):
    file = written(tmp_path, b"one\ntwo\nthree\n\n\nfour \n" + END.encode() + b"\nfive")
    pieces = list(document_pieces(lines_of(file, [END]), longest=4))
    assert pieces == [("one\ntwo", False), ("\nthree", False), ("\n\n\nfour", True), ("five", True)]


def test_texts_are_parted_at_separators_and_lose_nothing(tmp_path):
    file = written(tmp_path, b"one\r\n\n<|endoftext|>\ntwo <|endoftext|> in a line\n")
    assert list(texts_of([str(file)], [END])) == ["one\r\n\n", "two <|endoftext|> in a line\n"]


def test_a_byte_order_mark_is_left_out(tmp_path):
    file = written(tmp_path, b"\xef\xbb\xbfone\n\xef\xbb\xbftwo")
    assert list(lines_of(file, [END])) == ["one\n", "\ufefftwo", None]


def test_bytes_that_are_not_utf8_are_located(tmp_path):
    file = written(tmp_path, "é\n".encode() * 100_000 + b"a\xff")
    with pytest.raises(ValueError, match=r"text\.txt: not UTF-8 text \(invalid start byte at byte 300001\)"):
        list(lines_of(file, [END]))


def test_every_byte_is_seen(tmp_path):
    content = b"\xef\xbb\xbfone\r\n\n<|endoftext|>\nend"
    seen: list[bytes] = []
    list(lines_of(written(tmp_path, content), [END], (seen.append,)))
    assert b"".join(seen) == content


def test_files_of_a_folder_are_sorted_by_their_path_in_it(tmp_path):
    folder = tmp_path / "books"
    names = ["b.txt", "a/z.txt", "a/b/c.txt", "a.txt", "B.txt", "a/notes.md"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")
    found = text_files([folder / "b.txt", folder])
    inside = ["B.txt", "a.txt", "a/b/c.txt", "a/z.txt", "b.txt"]
    assert found == [("b.txt", folder / "b.txt")] + [(f"books/{name}", folder / name) for name in inside]
    assert text_files(str(folder)) == found[1:]  # one path, not a list of letters


def test_sources_without_text(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing: no such file or folder"):
        text_files([tmp_path / "nothing"])
    with pytest.raises(ValueError, match=r"holds no \.txt file"):
        text_files(tmp_path)
    with pytest.raises(ValueError, match="received none"):
        text_files([])
