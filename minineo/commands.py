"""The commands of the command line: each prints what it finds on standard output and raises what goes wrong.

Each imports what it needs when it is run, so that no command waits for what another needs.
"""

from __future__ import annotations

import argparse
import math
import sys
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from minineo.location import HubOptions


def generate(options: argparse.Namespace) -> None:
    """Print the prompt and its continuation as it is produced; beam search knows its text only at the end."""
    from minineo import text

    prompt = read_text(options.prompt, "prompt")
    model, tokenizer = text.load(options.model, device=options.device, **hub_options(options))
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
    model, tokenizer = text.load(options.model, device=options.device, **hub_options(options))
    found = scoring.score(content, model, tokenizer, options.stride, progress=sys.stderr.isatty())
    rows = [
        ("loss", f"{found.loss:.4f}", "nats a token"),
        ("perplexity", f"{found.perplexity:.4f}", ""),
        ("bits per byte", f"{found.bits_per_byte:.4f}", ""),
        ("tokens", f"{found.tokens:,}", "predicted"),
        ("bytes", f"{found.bytes:,}", ""),
        ("windows", f"{found.windows:,}", ""),
    ]
    print_table(rows, right=(1,))


def tokenize(options: argparse.Namespace) -> None:
    """Print a table of the text's tokens: id, bytes, token as the vocabulary spells it, and text."""
    from minineo.bundled import checkpoint_directory
    from minineo.tokenizer import GPT2Tokenizer

    content = read_text(options.text, "text")
    with checkpoint_directory(options.model, ["tokenizer"], **hub_options(options)) as directory:
        tokenizer = GPT2Tokenizer.from_pretrained(directory)
    ids: list[int] = tokenizer.encode(content)
    rows = [("id", "token", "bytes", "text")]
    for token_id, token in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        raw = tokenizer.token_bytes(token_id)
        rows.append((str(token_id), token, raw.hex(" "), _shown(raw)))
    print_table(rows, right=(0,))
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
    from minineo.tokenizer.documents import texts_of

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


def inspect(options: argparse.Namespace) -> None:
    """Print a checkpoint's configuration and parameters, from its headers alone, however large it is."""
    from minineo.bundled import checkpoint_directory
    from minineo.checkpoints import describe
    from minineo.quoting import quote

    with checkpoint_directory(options.checkpoint, ["weights"], ["config"], **hub_options(options)) as checkpoint:
        tensors = describe(checkpoint)
        _print_config(checkpoint)
    rows = [("parameter", "shape", "dtype", "numbers", "bytes")]
    for tensor in tensors:
        shape = " x ".join(map(str, tensor.shape)) or "scalar"
        name = tensor.name if tensor.name.isprintable() else quote(tensor.name)  # or it could command the terminal
        rows.append((name, shape, tensor.dtype, f"{math.prod(tensor.shape):,}", f"{tensor.nbytes:,}"))
    print_table(rows, right=(3, 4))
    files = len({tensor.file for tensor in tensors})
    numbers = sum(math.prod(tensor.shape) for tensor in tensors)
    size = sum(tensor.nbytes for tensor in tensors)
    print(
        f"\n{len(tensors)} tensors, {numbers:,} numbers, {size:,} bytes ({size / 1e6:.1f} MB) "
        f"in {files} file{'s' if files != 1 else ''}"
    )


def convert(options: argparse.Namespace) -> None:
    """Write a checkpoint of any format as safetensors, and say what was written and what was left out."""
    from minineo.checkpoints.convert import convert as convert_checkpoint
    from minineo.location import resolve

    source = resolve(options.source, ["weights"], ["config", "tokenizer"], **hub_options(options))
    found = convert_checkpoint(
        source, options.destination, options.dtype, options.max_shard_size, progress=sys.stderr.isatty()
    )
    numbers = sum(int(array.size) for array in found.params.values())
    dtypes = ", ".join(sorted({str(array.dtype) for array in found.params.values()}))
    print(f"{len(found.params)} tensors, {numbers:,} numbers ({dtypes}), written to {options.destination}")
    if found.copied:
        print(f"with {', '.join(found.copied)}")
    if found.left_out:
        print(f"left out, as no model needs them: {', '.join(found.left_out)}")


def download(options: argparse.Namespace) -> None:
    """Download a model from the Hugging Face Hub, unless it is in the cache, and print the folder that it is in."""
    from minineo.checkpoints import hub
    from minineo.location import ALL_PARTS, EXAMPLE, is_hub_name

    if not is_hub_name(options.name):
        raise ValueError(f"{options.name}: no name of a model on the Hub; expected one such as {EXAMPLE}.")
    print(hub.download(options.name, [], ALL_PARTS, **hub_options(options)))


def add_hub_arguments(add: Callable[..., Any]) -> None:
    """Add what can be said about a model on the Hub; `add` is a parser's `add_argument`."""
    add("--revision", metavar="REV", help="of a model on the Hub: branch, tag or commit (default: main)")
    add("--token", metavar="TOKEN", help="for the Hub (default: HF_TOKEN, or what `hf auth login` keeps)")
    add(
        "--cache-dir",
        metavar="DIR",
        help="where downloads are kept (default: HF_HUB_CACHE, or the folder hub in HF_HOME)",
    )
    add("--local-files-only", action="store_true", help="do not ask the Hub; take what was downloaded before")
    add("--force-download", action="store_true", help="download again what was downloaded before")


def hub_options(options: argparse.Namespace) -> HubOptions:
    """What was said about the Hub, as `load` and `from_pretrained` take it."""
    return {
        "revision": options.revision,
        "token": options.token,
        "cache_dir": options.cache_dir,
        "local_files_only": options.local_files_only,
        "force_download": options.force_download,
    }


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
    print_table([(name, str(value)) for name, value in shown.items()])
    print()


def read_text(argument: str | None, what: str) -> str:
    """The argument or, where there is none, standard input without the line end that a shell puts there."""
    if argument is not None:
        return argument
    if sys.stdin.isatty():
        print(f"minineo: reading the {what} from the keyboard; end it with Ctrl-D", file=sys.stderr)
    return _read_file("-").removesuffix("\n").removesuffix("\r")


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


def print_table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
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
