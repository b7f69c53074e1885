"""The command line: `minineo generate`, `score`, `tokenize`, `train-tokenizer` and `inspect`.

An error is one line on standard error and exit status 1 (2 for a command that was typed wrong); Ctrl-C ends quietly
with 130; a reader that closes the pipe early is no error.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

DESCRIPTION = "GPT-Neo that a person can read, run, trust and teach from."
BUNDLED = "the bundled model"
LONGEST_TEXT = 1_000_000  # characters held at once while a vocabulary is learned


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            _prepare_streams()
            options = _parser().parse_args(arguments)
            options.run(options)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python flushes standard output again at exit: give it somewhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"minineo: {message}", file=sys.stderr)
        return 1
    return 0


def _prepare_streams() -> None:
    """Let output that is not UTF-8 show what it can instead of failing on a letter, and do without closed streams."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    for output in (sys.stdout, sys.stderr):
        getattr(output, "reconfigure", lambda **_: None)(errors="backslashreplace")


def generate(options: argparse.Namespace) -> None:
    """Print the prompt and its continuation as it is produced; beam search knows its text only at the end."""
    from minineo import text  # here and below: no command waits for what it does not need

    prompt = _read_text(options.prompt, "prompt")
    model, tokenizer = text.load(options.model, device=options.device)
    arguments: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
        if getattr(options, name) is not None
    }
    arguments |= {"model": model, "tokenizer": tokenizer}
    if options.num_beams != 1:
        arguments |= {"num_beams": options.num_beams, "do_sample": False, "progress": sys.stderr.isatty()}
        print(text.generate(prompt, **arguments))
        return
    pieces = text.stream(prompt, **arguments)
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def score(options: argparse.Namespace) -> None:
    """Print how well a model predicts a text file."""
    from minineo import scoring, text

    content = _read_file(options.file)
    model, tokenizer = text.load(options.model)
    found = scoring.score(content, model, tokenizer, options.stride, progress=sys.stderr.isatty())
    rows = [
        ("loss", f"{found.loss:.4f}", "nats a token"),
        ("perplexity", f"{found.perplexity:.4f}", ""),
        ("bits per byte", f"{found.bits_per_byte:.4f}", ""),
        ("tokens", f"{found.tokens:,}", "predicted"),
        ("bytes", f"{found.bytes:,}", ""),
        ("windows", f"{found.windows:,}", ""),
    ]
    _print_table(rows, right=(1,))


def tokenize(options: argparse.Namespace) -> None:
    """Print a table of the text's tokens: id, bytes, token as the vocabulary spells it, and text."""
    from minineo.tokenizer import GPT2Tokenizer

    content = _read_text(options.text, "text")
    with _directory(options.model) as directory:
        tokenizer = GPT2Tokenizer.from_pretrained(directory)
    ids: list[int] = tokenizer.encode(content)
    rows = [("id", "token", "bytes", "text")]
    for token_id, token in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        raw = tokenizer.token_bytes(token_id)
        rows.append((str(token_id), token, raw.hex(" "), _shown(raw)))
    _print_table(rows, right=(0,))
    print(f"\n{len(ids)} tokens, {len(content)} characters, {len(content.encode('utf-8', 'surrogatepass'))} bytes")


def _shown(raw: bytes) -> str:
    """The text of a token in quotes or, where it is a part of a character only, its bytes as Python writes them."""
    try:
        return repr(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(raw)


def train_tokenizer(options: argparse.Namespace) -> None:
    """Learn a vocabulary from text files and write it as a directory that transformers reads, too."""
    from minineo.tokenizer import GPT2Tokenizer

    special = options.special_token or ["<|endoftext|>"]
    for file in options.files:
        if not Path(file).is_file():
            raise FileNotFoundError(f"{file}: no such file.")
    tokenizer = GPT2Tokenizer.train(
        texts_of(options.files, special),
        vocab_size=options.vocab_size,
        min_frequency=options.min_frequency,
        special_tokens=special,
    )
    tokenizer.save_pretrained(options.output)
    print(f"{len(tokenizer)} tokens, written to {options.output}")


def texts_of(files: Iterable[str], separators: Sequence[str]) -> Iterator[str]:
    """Texts of UTF-8 files, parted at lines that hold a separator alone, and between paragraphs where they are long."""
    for file in files:
        lines: list[str] = []
        size = 0
        try:
            with open(file, encoding="utf-8", newline="") as opened:
                for line in opened:
                    separator = line.rstrip("\r\n") in separators
                    if separator or (size > LONGEST_TEXT and not line.strip()):
                        yield "".join(lines)
                        lines, size = [], 0
                    if not separator:
                        lines.append(line)
                        size += len(line)
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}).") from error
        yield "".join(lines)


def inspect(options: argparse.Namespace) -> None:
    """Print a checkpoint's configuration and parameters, from its headers alone, however large it is."""
    from minineo.checkpoints import describe

    with _directory(options.checkpoint) as checkpoint:
        if not checkpoint.exists():
            raise FileNotFoundError(f"{checkpoint}: no such file or directory.")
        tensors = describe(checkpoint)
        _print_config(checkpoint)
    rows = [("parameter", "shape", "dtype", "numbers", "bytes")]
    for tensor in tensors:
        shape = " x ".join(map(str, tensor.shape)) or "scalar"
        rows.append((tensor.name, shape, tensor.dtype, f"{_count(tensor.shape):,}", f"{tensor.nbytes:,}"))
    _print_table(rows, right=(3, 4))
    files = len({tensor.file for tensor in tensors})
    numbers = sum(_count(tensor.shape) for tensor in tensors)
    size = sum(tensor.nbytes for tensor in tensors)
    print(
        f"\n{len(tensors)} tensors, {numbers:,} numbers, {size:,} bytes ({size / 1e6:.1f} MB) "
        f"in {files} file{'s' if files != 1 else ''}"
    )


def _print_config(checkpoint: Path) -> None:
    from minineo.config import CONFIG_FILE, GPTNeoConfig

    if not (checkpoint / CONFIG_FILE).is_file():
        return
    try:
        fields = GPTNeoConfig.from_pretrained(checkpoint).to_dict()
    except (ValueError, TypeError) as error:
        warnings.warn(str(error), stacklevel=2)  # the weights can be shown all the same
        return
    shown = {name: value for name, value in sorted(fields.items()) if value is not None}
    _print_table([(name, str(value)) for name, value in shown.items()])
    print()


def _directory(path: str | None) -> Any:
    """The checkpoint that a command means, as a context manager; without a path, the bundled one."""
    from contextlib import nullcontext
    from importlib.resources import as_file, files

    return as_file(files("minineo") / "assets") if path is None else nullcontext(Path(path))


def _count(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _read_text(argument: str | None, what: str) -> str:
    """The argument or, where there is none, standard input without the line end that a shell puts there."""
    if argument is not None:
        return argument
    if sys.stdin.isatty():
        print(f"minineo: reading the {what} from the keyboard; end it with Ctrl-D", file=sys.stderr)
    try:
        content = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not UTF-8 text ({error.reason} at byte {error.start}).") from error
    return content.removesuffix("\n").removesuffix("\r")


def _read_file(path: str) -> str:
    """All of a UTF-8 file, line ends as they are; "-" is standard input."""
    if path != "-" and not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        name = "standard input" if path == "-" else path
        raise ValueError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start}).") from error


def _print_table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print rows in columns, those in `right` flushed right; East Asian characters count for two."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = []
        for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _width(cell))
            cells.append(space + cell if i in right else cell + space)
        print("  ".join(cells).rstrip())


def _width(text: str) -> int:
    """Columns that a terminal needs."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"minineo: warning: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _temperature(text: str) -> float:
    value = float(text)
    if not value >= 0.0:
        raise argparse.ArgumentTypeError(f"received {text}, expected 0 (greedy) or a positive number")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="minineo", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"minineo {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_generate(commands)

    add = _command(commands, "score", score, "measure how well a model predicts a text", "minineo score story.txt")
    add("file", metavar="FILE", help="UTF-8 text (-: standard input); documents parted by <|endoftext|> are one text")
    add("--model", metavar="DIR", help=f"directory of a checkpoint (default: {BUNDLED})")
    add("--stride", type=int, metavar="N", help="tokens between the beginnings of windows (default: half the context)")

    add = _command(commands, "tokenize", tokenize, "show the tokens of a text", 'minineo tokenize "Once upon a time"')
    add("text", nargs="?", metavar="TEXT", help="the text (default: standard input)")
    add("--model", metavar="DIR", help=f"directory of the tokenizer (default: {BUNDLED})")

    example = "minineo train-tokenizer stories.txt --vocab-size 4096 --output my-tokenizer"
    add = _command(commands, "train-tokenizer", train_tokenizer, "learn a vocabulary from text files", example)
    add("files", nargs="+", metavar="FILE", help="UTF-8 text; lines that hold a special token alone part documents")
    add("--vocab-size", type=int, default=4096, metavar="N", help="tokens to end up with (default: 4096)")
    add("--min-frequency", type=int, default=2, metavar="N", help="least count of a pair to be merged (default: 2)")
    add("--special-token", action="append", metavar="TOKEN", help="may be repeated (default: <|endoftext|>)")
    add("--output", "-o", required=True, metavar="DIR", help="directory to write")

    example = "minineo inspect path/to/checkpoint"
    add = _command(commands, "inspect", inspect, "show what a checkpoint holds", example)
    help_text = f"directory, or one .safetensors file (default: {BUNDLED})"
    add("checkpoint", nargs="?", metavar="CHECKPOINT", help=help_text)
    return parser


def _add_generate(commands: Any) -> None:
    example = 'minineo generate "Once upon a time" --max-new-tokens 80 --temperature 0.8 --seed 0'
    add = _command(commands, "generate", generate, "continue a text", example)
    add("prompt", nargs="?", metavar="PROMPT", help="the text to continue (default: standard input)")
    add("--model", metavar="DIR", help=f"directory of a checkpoint (default: {BUNDLED})")
    add("--max-new-tokens", type=int, metavar="N", help="longest continuation (default: 200 or what the model holds)")
    add("--temperature", type=_temperature, metavar="T", help="below 1 safer, above 1 wilder, 0 greedy (default: 0.8)")
    add("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens (default: 50; 0: from all)")
    add("--top-p", type=float, metavar="P", help="draw from the likeliest tokens that hold a share P of the chances")
    add("--min-p", type=float, metavar="P", help="draw from tokens at least P times as likely as the likeliest")
    add("--repetition-penalty", type=float, metavar="R", help="above 1: shun tokens that were used before")
    add("--seed", type=int, metavar="N", help="same seed, same text")
    add("--num-beams", type=int, default=1, metavar="N", help="search the likeliest text with N beams; no sampling")
    add("--device", default="cpu", metavar="DEVICE", help="where to run (default: cpu)")


def _command(commands: Any, name: str, run: Any, summary: str, example: str) -> Any:
    """Add a command; returns the function that adds its arguments."""
    command = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    return command.add_argument


def _version() -> str:
    from importlib.metadata import version

    return version("minineo")
