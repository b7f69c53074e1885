"""What each single step brings that makes minineo fast: the same result the way it was before, and the way it is."""

from __future__ import annotations

from functools import partial

from benchmarks.options import Options
from benchmarks.peers import MININEO, Start, started
from benchmarks.report import Report
from benchmarks.shapes import main_shape
from benchmarks.timing import alternate

BEFORE = "before"


def run(options: Options) -> Report:
    """Measure every step, before and after, in one process."""
    report = Report("steps", "Steps", quick=options.quick)
    shape = main_shape(options)
    start = Start("benchmarks.peers.steps:Steps", (shape, options.quick))
    with started({MININEO: start}, options, report) as workers:
        if MININEO not in workers:
            return report
        worker, differences = workers[MININEO], report.data.setdefault("differences of the results", {})
        report.note(f"{shape.name}; each step alone: what it replaced, and {MININEO} with it")
        for name in worker.call("names"):
            differences[name] = worker.call("prepare", name)
            calls = {BEFORE: partial(worker.call, "time", False), MININEO: partial(worker.call, "time", True)}
            report.add(name, alternate(calls, options.rounds, report.failed))
    return report
