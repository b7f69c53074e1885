"""Training: loss, gradients and AdamW, of a model like the bundled one."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.options import Options
from benchmarks.peers import FLOAT32, HUGGING_FACE, LIMIT, MININEO, Start, started
from benchmarks.report import Report
from benchmarks.shapes import BUNDLED, TINY, checkpoint
from benchmarks.timing import alternate
from benchmarks.workers import Worker

BATCH = 16
STEPS = 3  # in a row
GOAL = 1.3


def run(options: Options) -> Report:
    """Measure some steps in a row, on the same windows."""
    report = Report("train", "Training", limit=LIMIT, quick=options.quick)
    shape = TINY if options.quick else BUNDLED
    positions = 16 if options.quick else shape.positions
    path = str(checkpoint(shape, options))
    starts = {
        MININEO: Start("benchmarks.peers.training_own:Model", (path, options.threads), blas_threads=1),
        FLOAT32: Start("benchmarks.peers.training_hugging_face:Model", (path, options.threads), HUGGING_FACE),
        LIMIT: Start("benchmarks.peers.products:Training", (shape,)),
    }
    windows = np.random.default_rng(0).integers(0, shape.vocab_size, (BATCH, positions + 1))
    work = f"{shape.name}, {BATCH} windows of {positions} tokens, {STEPS} steps"
    with started(starts, options, report) as workers:
        calls = {name: partial(_steps, worker, windows) for name, worker in workers.items()}
        results = alternate(calls, options.rounds, report.failed)
    losses = {name: [loss for run in runs for loss in run[1]] for name, runs in results.items() if name != LIMIT}
    for name, found in losses.items():
        if not np.allclose(found, losses[MININEO][: len(found)], rtol=1e-3):
            report.note(f"the losses of {name} are not minineo's")
    seconds = {name: [run[0] for run in runs] for name, runs in results.items()}
    report.add(work, seconds, BATCH * positions * STEPS, "tok")
    report.claim(f"{work}: against {FLOAT32} with torch.optim.AdamW", report.ratio(work, FLOAT32), GOAL)
    return report


def _steps(worker: Worker, windows: np.ndarray) -> tuple[float, list[float]]:
    """Seconds of some steps in a row, and their losses."""
    runs = [worker.call("step", windows) for _ in range(STEPS)]
    return sum(seconds for seconds, _ in runs), [loss for _, loss in runs]
