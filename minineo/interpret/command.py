"""`minineo attention`: the attention of a model on a text, as a page or as a picture, in a file.

It imports NumPy and the model only when it is run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from minineo.commands import add_hub_arguments, hub_options, read_text

SUFFIXES = (".html", ".png", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the text, the file to write, and what to choose of the model."""
    parser.add_argument("text", nargs="?", metavar="TEXT", help="the text (default: standard input)")
    help_text = "file to write, replaced if it is there: .html, a page to explore; .png or .svg, a still picture"
    parser.add_argument("--out", "-o", required=True, metavar="FILE", help=help_text)
    help_text = "directory of a checkpoint, or name of a model on the Hugging Face Hub (default: the bundled model)"
    parser.add_argument("--model", metavar="MODEL", help=help_text)
    help_text = "layer, from 0 (default: all of them; in a page, where to begin)"
    parser.add_argument("--layer", type=int, metavar="N", help=help_text)
    parser.add_argument("--head", type=int, metavar="N", help="head, from 0 (default: as for --layer)")
    add_hub_arguments(parser.add_argument)


def attention(options: argparse.Namespace) -> None:
    """Show what a model attends to in a text: as a page that needs no network, or as a picture."""
    path = Path(options.out)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"--out: received {options.out!r}, expected a file that ends in {', '.join(SUFFIXES)}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such directory.")
    from minineo import text

    content = read_text(options.text, "text")
    model, tokenizer = text.load(options.model, **hub_options(options))
    if suffix == ".html":
        from minineo.interpret.attention_view import attention_view

        layer, head = options.layer or 0, options.head or 0
        view = attention_view(model, tokenizer, content, layer=layer, head=head, progress=sys.stderr.isatty())
        view.save(path)
    else:
        from minineo.interpret import draw

        drawn = draw.attention(model, tokenizer, content, layer=options.layer, head=options.head)
        figure = drawn.get_figure(root=True)
        assert figure is not None, "a drawing stands on a figure"
        figure.savefig(path)
    print(f"{path.stat().st_size / 1000:,.0f} kB, written to {path}")
