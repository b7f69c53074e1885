"""Each fast layer against the reference that it replaces and against torch, on a whole prompt."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.options import Options
from benchmarks.peers import MININEO, REFERENCE, TORCH, Start, started
from benchmarks.report import Report
from benchmarks.shapes import main_shape
from benchmarks.timing import alternate
from benchmarks.workers import Worker

LEAST = "the least work"
WORKS = ("layer norm", "gelu", "linear", "mlp", "attention, global", "attention, local")
CALLS = 5  # in a row; the best of them counts, since one is short


def run(options: Options) -> Report:
    """Measure time and allocated memory of each layer."""
    report = Report("layers", "Layers", limit=LEAST, quick=options.quick)
    shape, tokens = main_shape(options), 64 if options.quick else 2048
    module = "benchmarks.peers.layers"
    starts = {
        MININEO: Start(f"{module}:Layers", (shape, tokens, "minineo.fast")),
        REFERENCE: Start(f"{module}:Layers", (shape, tokens, "minineo.layers")),
        TORCH: Start(f"{module}:Torch", (shape, tokens, options.threads), ("torch",)),
        LEAST: Start(f"{module}:Least", (shape, tokens)),
    }
    report.note(f"{shape.name}, {tokens} tokens; the limit: one pass over the array, or the matrix products")
    with started(starts, options, report) as workers:
        if MININEO not in workers:
            return report
        for work in WORKS:
            _check(work, workers)
            able = {name: w for name, w in workers.items() if not (name == LEAST and work.startswith("attention"))}
            calls = {name: partial(_best, worker, work) for name, worker in able.items()}
            report.add(f"{shape.name}, {work}", alternate(calls, options.rounds, report.failed))
            for name in (MININEO, REFERENCE):
                if name in workers:
                    peak = workers[name].call("peak", work)
                    report.data[f"{work}, bytes allocated, {name}"] = peak
                    print(f"  {name} allocates {peak / 1e6:.1f} MB")
    return report


def _best(worker: Worker, work: str) -> float:
    return min(float(worker.call("time", work)) for _ in range(CALLS))


def _check(work: str, workers: dict[str, Worker]) -> None:
    """All have to compute the same, and in float32: a hidden float64 is slow."""
    own = workers[MININEO].call("result", work)
    if own.dtype != np.float32:
        raise ValueError(f"{work}: float32 in gives {own.dtype} out")
    for name, worker in workers.items():
        if name in (MININEO, LEAST):
            continue
        difference = np.abs(worker.call("result", work) - own).max() / np.abs(own).max()
        if difference > 1e-4:
            raise ValueError(f"{work}: {name} differs from minineo by {difference:.2g} of the largest number")
