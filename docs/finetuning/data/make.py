"""Make the four data sets of the fine-tuning guides from three public-domain books.

python docs/finetuning/data/make.py FOLDER

FOLDER holds the corpus that the bundled model was trained on (default: the environment variable MININEO_CORPUS). Its
`valid.txt` is what the model was not trained on: Oscar Wilde's fairy tales, "Ozma of Oz" and "The Railway Children".
The same file always makes the same data sets, byte for byte. See the README beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = "valid.txt"
SHA256 = "e252c86955b5d09ef7cd00684c2aa81f4cee91223e7ecc61fee3959214f823d9"
BOOKS = {"wilde": "The Happy Prince", "baum": "The Girl in the Chicken-Coop", "nesbit": "The Beginning of Things"}
"""The name of each book, its author's, and the title of its first document."""

BLANK = "----"
VERBS = (
    "said|cried|asked|answered|replied|exclaimed|declared|remarked|returned|continued|whispered|shouted|enquired|"
    "retorted|suggested|agreed|demanded|screamed|murmured|added|called|inquired|interrupted|repeated|growled"
)
SPEAKER = r"(?:the |little |old )*(?:(?:Mrs|Mr|Dr)\. )?[A-Z]\w+(?:-\w+)*(?: [A-Z]\w+(?:-\w+)*)*"

Example = dict[str, Any]


class Document(NamedTuple):
    """A tale, or a chapter: the book it is from, its number there, its title and its paragraphs."""

    book: str
    number: int
    title: str
    paragraphs: list[str]

    @property
    def held_out(self) -> bool:
        """The second document of a book, the sixth, the tenth, ... are for validation, in all four data sets."""
        return self.number % 4 == 1


# -- the books ---------------------------------------------------------------------------------------------------------


def read_books(folder: Path) -> list[Document]:
    """The documents of the three books, after a look at whether it is the text that the data sets are made from."""
    content = (folder / SOURCE).read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise SystemExit(f"{folder / SOURCE}: not the text that these data sets are made from (SHA-256 {SHA256}).")
    documents: list[Document] = []
    firsts = {title: book for book, title in BOOKS.items()}
    for text in content.decode("utf-8").split("\n<|endoftext|>\n"):
        title, *paragraphs = text.strip("\n").split("\n\n")
        book = firsts.get(title) or documents[-1].book
        number = 0 if title in firsts else documents[-1].number + 1
        documents.append(Document(book, number, title, paragraphs))
    return documents


# -- language: whole tales by Wilde ------------------------------------------------------------------------------------


def language(documents: list[Document]) -> Iterator[tuple[Document, Example]]:
    """Wilde's tales, one a line: {"title": ..., "text": ...}."""
    for document in documents:
        if document.book == "wilde":
            yield document, {"title": document.title, "text": "\n\n".join([document.title, *document.paragraphs])}


# -- classification: who wrote this paragraph? -------------------------------------------------------------------------

# words that begin no sentence, where a capital means a name
INSIDE = re.compile(r"(?:(?<=[\w,;] )|(?<=Mrs\. )|(?<=Mr\. )|(?<=Dr\. ))[^\W\d_][\w'-]*")
WORD = re.compile(r"[^\W\d_][\w'-]*")


def classification(documents: list[Document]) -> Iterator[tuple[Document, Example]]:
    """Paragraphs of 20 to 90 words with the author as label, names blanked: {"text": ..., "label": ...}.

    Names would give the book away, so they are replaced by a dash, as novels of the time did ("Miss B----").
    """
    inside = Counter(word for document in documents for p in document.paragraphs for word in INSIDE.findall(p))
    names = {word for word in inside if is_name(word) and inside[word] > inside[word[0].lower() + word[1:]]}
    for document in documents:
        for paragraph in document.paragraphs:
            if 20 <= len(paragraph.split()) <= 90:
                yield document, {"text": blank_names(paragraph, names), "label": document.book}


def is_name(word: str) -> bool:
    """Whether a word inside a sentence is one that the author chose to write with a capital."""
    return word[0].isupper() and word.partition("'")[0] != "I"


def blank_names(text: str, names: set[str]) -> str:
    """Replace words with a capital inside a sentence, and where a sentence begins those that always have one."""
    text = INSIDE.sub(lambda match: BLANK if is_name(match[0]) else match[0], text)
    return WORD.sub(
        lambda match: BLANK if match[0] in names or match[0].removesuffix("'s") in names else match[0], text
    )


# -- tokens: which words are spoken? -----------------------------------------------------------------------------------


def tokens(documents: list[Document]) -> Iterator[tuple[Document, Example]]:
    """Paragraphs of 12 to 80 words, with speech in them and without its marks: {"words": [...], "labels": [...]}.

    The label is SPEECH for a word that stands between quotation marks, O (outside) for others.
    """
    for document in documents:
        for paragraph in document.paragraphs:
            # a quotation in a quotation has single marks, which would tell; one left open runs on into the next
            if paragraph.count('"') % 2 or re.search(r"(^|[\s\"-])'", paragraph):
                continue
            words, labels = words_and_labels(paragraph)
            if 12 <= len(words) <= 80 and len(set(labels)) == 2:
                yield document, {"words": words, "labels": labels}


def words_and_labels(paragraph: str) -> tuple[list[str], list[str]]:
    """Words between white space, cut at quotation marks as well, and whether they stand inside of these."""
    words: list[str] = []
    labels: list[str] = []
    for i, part in enumerate(paragraph.split('"')):
        words += part.split()
        labels += ["SPEECH" if i % 2 else "O"] * len(part.split())
    return words, labels


# -- answers: who said that? -------------------------------------------------------------------------------------------

TAG = re.compile(rf'"([^"]+)[,.!?-]" (?:{VERBS}) ({SPEAKER})(?![\w\']|-\w| and | woman)')


def answers(documents: list[Document]) -> Iterator[tuple[Document, Example]]:
    """Some paragraphs, the last words of somebody in them, and who said them, as SQuAD has it.

    {"question": 'Who said "..."?', "context": ..., "answers": {"text": [...], "answer_start": [...]}}

    A context is the shortest run of paragraphs, from one of them on, in which two speakers are named; it has at most 60
    words. Runs begin at each paragraph, so that the same speech comes first in one context and last in another.
    """
    for document in documents:
        for context, tags in contexts(document.paragraphs):
            for match in tags:
                quote = " ".join(match[1].split()[-8:])
                if " " in quote and context.count(quote) == 1:
                    answer = {"text": [match[2]], "answer_start": [match.start(2)]}
                    yield document, {"question": f'Who said "{quote}"?', "context": context, "answers": answer}


def contexts(paragraphs: list[str]) -> Iterator[tuple[str, list[re.Match[str]]]]:
    """The contexts of a document, with the places in each where a speaker is named."""
    for first in range(len(paragraphs)):
        for last in range(first, len(paragraphs)):
            context = "\n\n".join(paragraphs[first : last + 1])
            tags = list(TAG.finditer(context))
            if len(context.split()) > 60:
                break
            if len({match[2] for match in tags}) >= 2:
                yield context, tags
                break


# -- files -------------------------------------------------------------------------------------------------------------

DATA_SETS = {"classification": classification, "language": language, "tokens": tokens, "answers": answers}
SPLITS = {"train": (False, 800), "validation": (True, 300)}
"""Whether the documents are held out, and how many paragraphs with labelled words are taken: those need most space."""


def spread(examples: list[Example], most: int) -> list[Example]:
    """At most so many of the examples, spread evenly over them."""
    return [examples[i * len(examples) // most] for i in range(most)] if len(examples) > most else examples


def write(path: Path, examples: Iterable[Example]) -> None:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(example, ensure_ascii=False) + "\n" for example in examples)
    path.write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    """Make all data sets."""
    parser = argparse.ArgumentParser(description="Make the data sets of the fine-tuning guides.")
    parser.add_argument("corpus", nargs="?", default=os.environ.get("MININEO_CORPUS"), help="folder with valid.txt")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder to write")
    arguments = parser.parse_args()
    if arguments.corpus is None:
        parser.error("name the folder of the corpus, or set MININEO_CORPUS")
    documents = read_books(Path(arguments.corpus))
    for name, make in DATA_SETS.items():
        for split, (held_out, most) in SPLITS.items():
            examples = [example for document, example in make(documents) if document.held_out == held_out]
            if name == "tokens":
                examples = spread(examples, most)
            path = arguments.output / name / f"{split}.jsonl"
            write(path, examples)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            print(f"{path}: {len(examples)} examples, {path.stat().st_size:,} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
