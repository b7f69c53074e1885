"""A GPU: greedy decoding, a forward pass and a training step of the 125M shape, against eager transformers on torch."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.options import Options
from benchmarks.parts.prompts import random_ids
from benchmarks.peers import HUGGING_FACE, MININEO, Start, started
from benchmarks.report import Report
from benchmarks.shapes import checkpoint, main_shape
from benchmarks.timing import alternate
from benchmarks.workers import Worker
from minineo.devices import check_device

PEER = "HF eager"
DTYPES = ("float32", "float16")
PROMPT, NEW_TOKENS = 32, 256
BATCH, LENGTH = 8, 2048
DECODING, LIMIT, FORWARD, TRAINING = 4.0, 2.0, 0.7, 0.7  # the goals: times HF's speed, times the limit's time


def run(options: Options) -> Report:
    """Measure both dtypes; where there is no GPU, or no CuPy, a ValueError says so."""
    try:
        check_device("cuda")
    except (ImportError, OSError) as error:
        raise ValueError(f"nothing was measured: {error}") from error
    report = Report("gpu", "On a GPU", quick=options.quick)
    for dtype in DTYPES:
        _measure(dtype, options, report)
    return report


def _measure(dtype: str, options: Options, report: Report) -> None:
    shape = main_shape(options)
    path = str(checkpoint(shape, options))
    starts = {
        MININEO: Start("benchmarks.peers.own_gpu:Model", (path, dtype)),
        PEER: Start("benchmarks.peers.hugging_face_gpu:Model", (path, dtype), HUGGING_FACE),
    }
    batch, length = (2, 64) if options.quick else (BATCH, LENGTH)
    with started(starts, options, report) as workers:
        if MININEO not in workers:
            return
        _compare(workers, random_ids(shape.vocab_size, 1, PROMPT), dtype, report)
        ids = random_ids(shape.vocab_size, 1, PROMPT)
        new = 8 if options.quick else NEW_TOKENS
        decoded = _alternate(workers, "decode", options, report, ids, new)
        work = f"{dtype}, greedy decoding"
        report.add(work, {name: [run.each for run in runs] for name, runs in decoded.items()}, 1, "tok")
        report.claim(f"{work}, against {PEER}", report.ratio(work, PEER), DECODING)
        _limit(workers[MININEO], work, dtype, report)
        work = f"{dtype}, forward of {batch} x {length}"
        ids = random_ids(shape.vocab_size, batch, length)
        report.add(work, _alternate(workers, "forward", options, report, ids), batch * length, "tok")
        report.claim(f"{work}, against {PEER}", report.ratio(work, PEER), FORWARD)
        if dtype == "float32":
            work = f"training step of {batch} x {length // 2}"
            windows = random_ids(shape.vocab_size, batch, length // 2 + 1)
            report.add(work, _alternate(workers, "step", options, report, windows), batch * length // 2, "tok")
            report.claim(f"{work}, against {PEER}", report.ratio(work, PEER), TRAINING)


def _alternate(workers: dict[str, Worker], method: str, options: Options, report: Report, *arguments: object) -> dict:
    calls = {name: partial(worker.call, method, *arguments) for name, worker in workers.items()}
    return alternate(calls, options.rounds, report.failed)


def _compare(workers: dict[str, Worker], ids: np.ndarray, dtype: str, report: Report) -> None:
    found = {name: np.asarray(worker.call("logits", ids, 1), np.float32) for name, worker in workers.items()}
    for name, logits in found.items():
        difference = float(np.abs(logits - found[MININEO]).max() / np.abs(logits).max())
        report.data[f"{dtype}, difference of logits, {name}"] = difference
        report.note(f"{dtype}: the logits of {name} differ from minineo's by {difference:.1g} of the largest")


def _limit(worker: Worker, work: str, dtype: str, report: Report) -> None:
    """How far decoding is from reading each weight once."""
    size, rate, seconds = worker.call("weight_bytes"), worker.call("bandwidth"), report.best(work)
    report.data |= {"gpu": worker.call("gpu"), "bytes a second": rate}
    report.note(f"{report.data['gpu']}: memory is read and written at {rate / 1e9:,.0f} GB/s")
    if seconds is not None and dtype == "float16":
        report.claim(f"{work}, times the time to read the weights", seconds * rate / size, LIMIT, at_least=False)
