"""The command line: `minineo generate`, `score`, `tokenize`, `inspect`, `train`, `attention` and the others.

An error is one line on standard error and exit status 1 (2 for a command that was typed wrong); Ctrl-C ends quietly
with 130; a reader that closes the pipe early is no error.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, NoReturn

from minineo import commands
from minineo.interpret import command as interpreting

DESCRIPTION = "GPT-Neo that a person can read, run, trust and teach from."
BUNDLED = "the bundled model"
MODEL = f"directory of a checkpoint, or name of a model on the Hugging Face Hub (default: {BUNDLED})"
DEVICES = "where to compute: cpu, cuda (the first GPU), cuda:1, ... (default: cpu)"


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
    except Exception as error:
        if _interrupted(error):
            return 130
        if not isinstance(error, ValueError | TypeError | OSError | ImportError | MemoryError | FloatingPointError):
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"minineo: {message}", file=sys.stderr)
        return 1
    return 0


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: in the middle of an import it can come out as one of another kind."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _prepare_streams() -> None:
    """Let output that is not UTF-8 show what it can instead of failing on a letter, and do without closed streams."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    for output in (sys.stdout, sys.stderr):
        getattr(output, "reconfigure", lambda **_: None)(errors="backslashreplace")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    with suppress(OSError):  # nobody may be there to read it
        print(f"minineo: warning: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line.

    `complete`, if there is one, adds its arguments once they are needed: what defines them takes time to import.
    """

    complete: Callable[[argparse.ArgumentParser], None] | None = None

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """Parse, and name the option that comes nearest to one that does not exist."""
        if self.complete is not None:
            complete, self.complete = self.complete, None
            complete(self)
        known, unknown = super().parse_known_args(*arguments, **options)
        for word in unknown:
            close = get_close_matches(word.partition("=")[0], self._option_string_actions, n=1)
            if close and word.startswith("--"):
                self.error(f"there is no option {word}; did you mean {close[0]}?")
        return known, unknown


def _temperature(text: str) -> float:
    value = float(text)
    if not value >= 0.0:
        raise argparse.ArgumentTypeError(f"received {text}, expected 0 (greedy) or a positive number")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="minineo", description=DESCRIPTION)
    parser.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_generate(subparsers)

    add = _command(subparsers, commands.score, "measure how well a model predicts a text", "minineo score story.txt")
    add("file", metavar="FILE", help="UTF-8 text (-: standard input); documents parted by <|endoftext|> are one text")
    add("--model", metavar="MODEL", help=MODEL)
    add("--stride", type=int, metavar="N", help="tokens between the beginnings of windows (default: half the context)")
    add("--device", default="cpu", metavar="DEVICE", help=DEVICES)
    commands.add_hub_arguments(add)

    add = _command(subparsers, commands.tokenize, "show the tokens of a text", 'minineo tokenize "Once upon a time"')
    add("text", nargs="?", metavar="TEXT", help="the text (default: standard input)")
    add("--model", metavar="MODEL", help=MODEL)
    commands.add_hub_arguments(add)

    example = "minineo train-tokenizer stories.txt --vocab-size 4096 --output my-tokenizer"
    add = _command(subparsers, commands.train_tokenizer, "learn a vocabulary from text files", example)
    add("files", nargs="+", metavar="FILE", help="UTF-8 text; lines that hold a special token alone part documents")
    add("--vocab-size", type=int, default=4096, metavar="N", help="tokens to end up with (default: 4096)")
    add("--min-frequency", type=int, default=2, metavar="N", help="least count of a pair to be merged (default: 2)")
    add("--special-token", action="append", metavar="TOKEN", help="may be repeated (default: <|endoftext|>)")
    add("--output", "-o", required=True, metavar="DIR", help="directory to write")

    example = "minineo inspect path/to/checkpoint"
    add = _command(subparsers, commands.inspect, "show what a checkpoint holds", example)
    help_text = f"directory, one .safetensors, .bin or .msgpack file, or name on the Hub (default: {BUNDLED})"
    add("checkpoint", nargs="?", metavar="CHECKPOINT", help=help_text)
    commands.add_hub_arguments(add)

    example = "minineo download roneneldan/TinyStories-1M"
    add = _command(subparsers, commands.download, "download a model from the Hugging Face Hub", example)
    add("name", metavar="NAME", help="owner and name of the model, such as EleutherAI/gpt-neo-125m")
    commands.add_hub_arguments(add)

    example = "minineo convert path/to/old-checkpoint my-model --dtype float16"
    add = _command(subparsers, commands.convert, "turn a checkpoint of any format into safetensors", example)
    add("source", metavar="SRC", help="directory, one .bin, .safetensors or .msgpack file, or name on the Hub")
    add("destination", metavar="DST", help="directory to write, which is new or empty")
    add("--dtype", metavar="DTYPE", help="float16, float32 or float64 (default: as it is; bfloat16 becomes float32)")
    add("--max-shard-size", default="5GB", metavar="SIZE", help="largest file, such as 200MB (default: 5GB)")
    commands.add_hub_arguments(add)

    example = "minineo train --train stories.txt --output my-model --max-position-embeddings 64 --steps 10"
    _command_parser(subparsers, "train", "train a language model on text files", example).complete = _complete_train

    example = "minineo finetune classification --train train.jsonl --validation validation.jsonl --output my-classifier"
    summary = "fine-tune a model for a task, on labelled examples"
    _command_parser(subparsers, "finetune", summary, example).complete = _complete_finetune

    example = 'minineo attention "The king said to the queen" --out king.html'
    summary = "show what a model attends to in a text"
    add = _command_parser(subparsers, "attention", summary, example)
    add.set_defaults(run=interpreting.attention)
    interpreting.add_arguments(add)
    return parser


def _complete_train(parser: argparse.ArgumentParser) -> None:
    from minineo.training import command

    command.add_arguments(parser)
    parser.set_defaults(run=command.train)


def _complete_finetune(parser: argparse.ArgumentParser) -> None:
    from minineo.training import finetune_command

    finetune_command.add_arguments(parser)
    parser.set_defaults(run=finetune_command.finetune)


def _add_generate(subparsers: Any) -> None:
    example = 'minineo generate "Once upon a time" --max-new-tokens 80 --temperature 0.8 --seed 0'
    add = _command(subparsers, commands.generate, "continue a text", example)
    add("prompt", nargs="?", metavar="PROMPT", help="the text to continue (default: standard input)")
    add("--model", metavar="MODEL", help=MODEL)
    add("--max-new-tokens", type=int, metavar="N", help="longest continuation (default: 200 or what the model holds)")
    add("--temperature", type=_temperature, metavar="T", help="below 1 safer, above 1 wilder, 0 greedy (default: 0.8)")
    add("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens (default: 50; 0: from all)")
    add("--top-p", type=float, metavar="P", help="draw from the likeliest tokens that hold a share P of the chances")
    add("--min-p", type=float, metavar="P", help="draw from tokens at least P times as likely as the likeliest")
    add("--repetition-penalty", type=float, metavar="R", help="above 1: shun tokens that were used before")
    add("--seed", type=int, metavar="N", help="same seed, same text")
    add("--num-beams", type=int, default=1, metavar="N", help="search the likeliest text with N beams; no sampling")
    add("--device", default="cpu", metavar="DEVICE", help=DEVICES)
    commands.add_hub_arguments(add)


def _command(subparsers: Any, run: Callable[[argparse.Namespace], None], summary: str, example: str) -> Any:
    """Add a command, named as its function is; returns the function that adds its arguments."""
    parser = _command_parser(subparsers, run.__name__.replace("_", "-"), summary, example)
    parser.set_defaults(run=run)
    return parser.add_argument


def _command_parser(subparsers: Any, name: str, summary: str, example: str) -> _Parser:
    """Add a command; returns its parser."""
    command: _Parser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return command


class _Version(argparse.Action):
    """Print the version, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"minineo {version('minineo')}")
        parser.exit()
