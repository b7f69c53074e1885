"""The peers: which there are, what each needs, and how to start those that are wanted and installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.workers import Worker, WorkerError

MININEO = "minineo"
FLOAT32, BFLOAT16, COMPILED = "HF float32", "HF bfloat16", "torch.compile"
PICOGPT = "picoGPT's way"
LIMIT = "matrix products alone"
TIKTOKEN, TOKENIZERS = "tiktoken", "tokenizers"
REFERENCE, TORCH = "the reference", "torch"  # for single layers
CHOICES = (MININEO, FLOAT32, BFLOAT16, COMPILED, PICOGPT, TIKTOKEN, TOKENIZERS, REFERENCE, TORCH)

INSTALL = 'pip install -e ".[bench]"'
HUGGING_FACE = ("torch", "transformers")  # packages


@dataclass(frozen=True)
class Start:
    """How to start a peer: the factory of its worker with its arguments, and the packages that it needs.

    `blas_threads` are those of its matrix products, where they are not to be as many as the options say.
    """

    factory: str
    arguments: tuple[Any, ...] = ()
    needs: tuple[str, ...] = ()
    blas_threads: int | None = None


def models(checkpoint: str, options: Options) -> dict[str, Start]:
    """The peers that run a model, with a checkpoint for each to load."""
    hugging_face = "benchmarks.peers.hugging_face:Model"
    common = (checkpoint, options.threads)
    return {
        MININEO: Start("benchmarks.peers.own:Model", (checkpoint,)),
        FLOAT32: Start(hugging_face, common, HUGGING_FACE),
        BFLOAT16: Start(hugging_face, (*common, "bfloat16"), HUGGING_FACE),
        COMPILED: Start(hugging_face, (*common, "float32", True), HUGGING_FACE),
        PICOGPT: Start("benchmarks.peers.picogpt:Model", (checkpoint,)),
    }


@contextmanager
def started(starts: dict[str, Start], options: Options, report: Report) -> Iterator[dict[str, Worker]]:
    """Workers for the peers that are wanted and installed; the report says which are not installed or do not start."""
    with ExitStack() as stack:
        workers = {}
        for name, start in starts.items():
            missing = [package for package in start.needs if find_spec(package) is None]
            if not options.wants(name) and name != report.limit:
                continue
            if missing:
                report.note(f"{name} is left out, since {' and '.join(missing)} cannot be imported: {INSTALL}")
                continue
            try:
                workers[name] = stack.enter_context(Worker(start.factory, *start.arguments, threads=start.blas_threads))
            except WorkerError as error:
                report.failed(name, error)
        yield workers


def only(starts: dict[str, Start], names: Iterable[str]) -> dict[str, Start]:
    """Some of the peers, in the order of `names`."""
    return {name: starts[name] for name in names}
