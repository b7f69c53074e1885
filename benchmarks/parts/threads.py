"""One thread against several: the time, how many cores are busy, and whether the results agree."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import numpy as np

from benchmarks.options import Options, available_cores
from benchmarks.parts.prompts import random_ids
from benchmarks.report import Report
from benchmarks.shapes import TINY, checkpoint, main_shape
from benchmarks.timing import alternate
from benchmarks.workers import Worker

ROUNDING = 1e-5  # of the largest logit: sums taken in another order
OVERSUBSCRIBED = 1.05  # busy cores for each thread asked for; more would be threads beyond those


def run(options: Options) -> Report:
    """Measure minineo alone, once with one thread and once with all."""
    report = Report("threads", "Threads", quick=options.quick)
    shape, several = main_shape(options), max(2, options.threads)
    if several > available_cores():
        report.note(f"{several} threads on {available_cores()} core: there is nothing to gain")
    path = str(checkpoint(shape, options))
    ids = random_ids(shape.vocab_size, 1, 64 if shape == TINY else 1024)
    with ExitStack() as stack:
        counts = {f"minineo, {several} threads": several, "minineo, 1 thread": 1}
        factory = "benchmarks.peers.own:Model"
        workers = {name: stack.enter_context(Worker(factory, path, threads=n)) for name, n in counts.items()}
        calls = {name: partial(worker.call, "forward", ids) for name, worker in workers.items()}
        forward = alternate(calls, options.rounds, report.failed)
        report.add(f"{shape.name}, forward, {ids.size} tokens", forward, ids.size, "tok")
        prompt, tokens = ids[:, :32], 8 if options.quick else 48
        calls = {name: partial(_each, worker, prompt, tokens) for name, worker in workers.items()}
        report.add(f"{shape.name}, decode", alternate(calls, options.rounds, report.failed), 1, "tok")

        busy = {name: worker.call("threads_used", ids) for name, worker in workers.items()}
        report.data["busy cores"] = busy
        for name, cores in busy.items():
            text = f"{name}, forward: busy cores for each thread"
            report.claim(text, cores / counts[name], OVERSUBSCRIBED, at_least=False, unit="cores")
        many, one = (worker.call("logits", ids, ids.size) for worker in workers.values())
    difference = float(np.abs(many - one).max() / np.abs(one).max())
    text = f"{shape.name}, logits with {several} threads against 1, of the largest"
    report.claim(text, difference, ROUNDING, at_least=False, unit="")
    return report


def _each(worker: Worker, prompt: np.ndarray, tokens: int) -> float:
    return float(worker.call("decode", prompt, tokens).each)
