"""The command line: `python -m benchmarks` runs every part, `python -m benchmarks decode forward` those two.

NumPy and everything that loads it is imported only after the number of threads is set: BLAS reads it when it is loaded.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import timing
from benchmarks.options import Options, available_cores, set_threads
from benchmarks.peers import CHOICES
from benchmarks.workers import WorkerError

if TYPE_CHECKING:
    from benchmarks.report import Report

SHAPES = ("125M", "TinyStories-33M", "TinyStories-1M")
RESULTS = Path(__file__).parent / "results"

PARTS = {
    "decode": "greedy decoding, one token after another, early and late in the context",
    "forward": "one forward pass over a prompt, with all logits and with the last alone",
    "batch": "decoding 8 prompts together against one",
    "speculative": "prompt lookup and a draft model against plain greedy decoding",
    "score": "`minineo score FILE` against the forward passes that it needs",
    "layers": "each fast layer against its reference and torch's",
    "steps": "each single step that makes minineo fast: before and after",
    "memory": "time and memory of local layers over the length; size of the key-value cache",
    "threads": "one thread against several: time, busy cores, and whether the results agree",
    "tokenizer": "encoding English, with a cold and a warm cache",
    "learn": "learning a vocabulary",
    "train": "one training step: loss, gradients, AdamW",
    "startup": "`import minineo`, and `minineo generate` up to its first token",
    "gpu": "decoding, a forward pass and a training step on a GPU (only where it is named)",
}
ON_REQUEST = ("gpu",)  # it needs a GPU and CuPy


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and return the exit status: 0, also where a goal is missed; 1 where something went wrong."""
    given = _parser().parse_args(arguments)
    if given.parts == ["summary"]:
        return _summarise(given.output or RESULTS)
    set_threads(given.threads)
    if given.quick:
        timing.PAUSE = 0.0
    status = 0
    output = given.output or (None if given.quick else RESULTS)
    with tempfile.TemporaryDirectory(prefix="minineo-benchmarks-") as workspace:
        options = Options(
            workspace=Path(workspace),
            threads=given.threads,
            rounds=1 if given.quick else given.rounds,
            quick=given.quick,
            peers=None if given.peers is None else tuple(given.peers),
            shapes=None if given.shapes is None else tuple(given.shapes),
        )
        for part in given.parts or [name for name in PARTS if name not in ON_REQUEST]:
            print(f"\n== {part}: {PARTS[part]}", flush=True)
            try:
                report: Report = importlib.import_module(f"benchmarks.parts.{part}").run(options)
            except (ValueError, WorkerError) as error:  # the other parts can still run
                print(f"  {part} FAILED: {error}\n{getattr(error, 'details', '')}")
                status = 1
                continue
            if output is not None:
                print(f"\n  written: {report.save(output, options.threads)}")
    return status if output is None else _summarise(output) or status


def _summarise(folder: Path) -> int:
    """Make plots and the table of claims from the JSON files of all parts, those of earlier runs included."""
    from benchmarks import plots, summary

    reports = summary.read(folder)
    summary.write(reports, folder)
    plots.draw(reports, folder)
    return 0


def _part(name: str) -> str:
    if name not in PARTS and name != "summary":
        raise argparse.ArgumentTypeError(f"received {name!r}, expected one of {', '.join([*PARTS, 'summary'])}")
    return name


def _parser() -> argparse.ArgumentParser:
    listing = "\n".join(f"  {name:<12} {text}" for name, text in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure minineo and its peers, side by side in one run.",
        epilog=f"parts (default: all):\n{listing}\n  {'summary':<12} plots and table again, from the JSON files",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("parts", nargs="*", type=_part, metavar="PART", help="what to run, see below")
    add("--threads", type=int, default=available_cores(), metavar="N", help="threads for each peer (default: all)")
    add("--rounds", type=int, default=5, metavar="N", help="times that each peer runs (default: 5)")
    add("--peers", nargs="+", choices=CHOICES, metavar="PEER", help=f"only these: {', '.join(CHOICES)}")
    add(
        "--shapes",
        nargs="+",
        choices=SHAPES,
        metavar="SHAPE",
        help=f"in decode and forward, only these: {', '.join(SHAPES)}",
    )
    add("--output", type=Path, metavar="DIR", help="for JSON and plots (default: benchmarks/results; --quick: none)")
    add("--quick", action="store_true", help="tiny shapes, one round: shows that it runs, not how fast")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
