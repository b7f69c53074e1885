"""One forward pass without a cache: all logits, as scoring and training need them, or the last position's alone."""

from __future__ import annotations

from functools import partial

from benchmarks.options import Options
from benchmarks.parts.agree import check_logits
from benchmarks.parts.prompts import random_ids
from benchmarks.peers import COMPILED, FLOAT32, LIMIT, Start, models, started
from benchmarks.report import Report
from benchmarks.shapes import M1, M33, M125, TINY, Shape, checkpoint, wanted
from benchmarks.timing import alternate

LENGTHS = (128, 1024, 2048)
# Times as fast as HF float32. For 125M they are the seconds that were asked for on a machine where HF took
# 0.249, 2.06 and 6.2 s: 0.150, 1.25 and 2.7.
GOALS = {
    (M125.name, 128): 1.66,
    (M125.name, 1024): 1.65,
    (M125.name, 2048): 2.3,
    (M33.name, 2048): 3.0,
    (M1.name, 2048): 10.0,
}


def run(options: Options) -> Report:
    """Measure all shapes at all lengths."""
    report = Report("forward", "Forward pass", limit=LIMIT, quick=options.quick)
    for shape in wanted(options):
        starts = models(str(checkpoint(shape, options)), options)
        starts[LIMIT] = Start("benchmarks.peers.products:Model", (shape,))
        if not shape.compiled:
            del starts[COMPILED]
        with started(starts, options, report) as workers:
            lengths = LENGTHS if shape != TINY else (16, 128)
            check_logits(workers, random_ids(shape.vocab_size, 1, max(lengths)), shape.name, report)
            for length in lengths:
                for keep in (0, 1):
                    ids = random_ids(shape.vocab_size, 1, length)
                    calls = {name: partial(worker.call, "forward", ids, keep) for name, worker in workers.items()}
                    if keep:  # it computes all logits in any case
                        calls.pop("picoGPT's way", None)
                    work = _work(shape, length, keep)
                    report.add(work, alternate(calls, options.rounds, report.failed), length, "tok")
                if goal := GOALS.get((shape.name, length)):
                    work = _work(shape, length, 0)
                    report.claim(f"{work}, against HF float32", report.ratio(work, FLOAT32), goal)
            if seconds := report.best(_work(shape, length, 0), LIMIT):
                rate = workers[LIMIT].call("operations", length) / seconds / 1e9
                report.data[f"{shape.name}, GFLOP/s of the products"] = rate
                report.note(f"{shape.name}: the products run at {rate:.0f} GFLOP/s ({length} tokens)")
    return report


def _work(shape: Shape, length: int, keep: int) -> str:
    return f"{shape.name}, forward, {length} tokens{', last logits only' if keep else ''}"
