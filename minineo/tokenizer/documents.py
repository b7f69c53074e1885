"""Documents from text files: parted at lines that hold a separator alone, read a piece at a time."""

import codecs
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

LONGEST_TEXT = 1_000_000  # characters of a document held at once
BLANK = " \t\r\n"

FilePath = str | os.PathLike[str]


def text_files(sources: FilePath | Iterable[FilePath]) -> list[tuple[str, Path]]:
    """List files, and of each folder all `*.txt` files below it, sorted by their path inside it.

    Returns:
        A name and the path of each: the file's own name, or the folder's with the path inside it.

    Raises:
        FileNotFoundError: where there is nothing under a name.
        ValueError: for a folder without such a file, and where no source is given.
    """
    found: list[tuple[str, Path]] = []
    for source in map(Path, [sources] if isinstance(sources, str | os.PathLike) else sources):
        if source.is_dir():
            # By a text, not by Path: on Windows paths are sorted without regard to upper and lower case.
            inside = {path.relative_to(source).as_posix(): path for path in source.rglob("*.txt") if path.is_file()}
            if not inside:
                raise ValueError(f"{source}: the folder holds no .txt file.")
            found += [(f"{source.resolve().name}/{name}", path) for name, path in sorted(inside.items())]
        elif source.exists():
            found.append((source.name, source))
        else:
            raise FileNotFoundError(f"{source}: no such file or folder.")
    if not found:
        raise ValueError("sources: received none, expected at least one text file or folder.")
    return found


def lines_of(
    file: FilePath, separators: Collection[str], seen: Collection[Callable[[bytes], object]] = ()
) -> Iterator[str | None]:
    """Lines of a UTF-8 file with their line ends (LF or CRLF) as they are, and None wherever a document ends.

    A document ends at a line that holds one of the `separators` alone, and at the end of the file. A byte-order mark
    is left out. Each function of `seen` gets the bytes of a line as it is read: a progress bar, a checksum.

    Raises:
        ValueError: when the file is not UTF-8; says where.
    """
    offset = 0
    with open(file, "rb") as opened:
        for raw in opened:
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{file}: not UTF-8 text ({error.reason} at byte {offset + error.start}).") from error
            if offset == 0:
                line = line.removeprefix(codecs.BOM_UTF8.decode("utf-8"))
            offset += len(raw)
            for see in seen:
                see(raw)
            yield None if line.rstrip("\r\n") in separators else line
    yield None


def texts_of(files: Iterable[FilePath], separators: Collection[str]) -> Iterator[str]:
    """Texts of files for learning a vocabulary: documents whole, cut between paragraphs where they are long."""
    for file in files:
        lines: list[str] = []
        size = 0
        for line in lines_of(file, separators):
            if line is None or (size > LONGEST_TEXT and not line.strip()):
                yield "".join(lines)
                lines, size = [], 0
            if line is not None:
                lines.append(line)
                size += len(line)


def document_pieces(lines: Iterable[str | None], longest: float = LONGEST_TEXT) -> Iterator[tuple[str, bool]]:
    """Cut documents into pieces that can be encoded one by one; with each, whether it is its document's last.

    `lines` come from `lines_of`. A document begins with its first line that is not blank and ends with its last visible
    character: blank lines (spaces and tabs count as blank) around it, and the line end before a separator, are no part
    of it. One of blank lines alone is none at all. A piece grows by whole lines until it has more than `longest`
    characters. As in `pretokenize.chunks`, the cut is between a visible character and white space, where no word can
    be cut in two.
    """
    parts: list[str] = []
    size = 0
    space = ""  # what follows the last visible character: part of the document only if more comes
    for line in lines:
        if line is None:
            if parts:
                yield "".join(parts), True
            parts, size, space = [], 0, ""
            continue
        visible = line.rstrip(BLANK)
        if not visible:
            space += line if parts else ""
            continue
        if size > longest and not parts[-1][-1].isspace():  # it may be white space of a kind that BLANK has not
            yield "".join(parts), False
            parts, size = [], 0
        parts.append(space + visible)
        size += len(parts[-1])
        space = line[len(visible) :]
