"""`minineo score FILE`, as a process, against the forward passes that its sliding window needs."""

from __future__ import annotations

import math
import subprocess
import sys
import time

from benchmarks.options import Options
from benchmarks.parts.prompts import random_ids
from benchmarks.peers import MININEO, models, only, started
from benchmarks.report import Report
from benchmarks.shapes import checkpoint, main_shape
from benchmarks.texts import bundled_tokenizer, english
from benchmarks.timing import alternate

WINDOWS = 3
GOAL = 0.9  # of the speed of the forward passes: there is also text to read and encode, and a loss to take
OWN = "minineo"


def run(options: Options) -> Report:
    """Measure a file of three windows; a file of a few words tells what start-up takes of that."""
    report = Report("score", "Scoring a file", limit="its forward passes", quick=options.quick)
    usage = subprocess.run([*_command(), "--help"], capture_output=True, text=True)
    if usage.returncode:
        report.note("`minineo score` does not exist yet")
        return report
    shape = main_shape(options)
    path = checkpoint(shape, options)
    tokenizer = bundled_tokenizer()
    tokenizer.save_pretrained(path)
    window, stride = shape.positions, shape.positions // 2
    arguments = ["--model", str(path)]
    if "--stride" in usage.stdout:
        arguments += ["--stride", str(stride)]
    ids = tokenizer.encode(english(8 * window * WINDOWS)[0])[: window + stride * (WINDOWS - 1)]
    long, short = options.workspace / "long.txt", options.workspace / "short.txt"
    long.write_text(tokenizer.decode(ids), encoding="utf-8")
    short.write_text("A few words.", encoding="utf-8")
    passes = math.ceil((len(ids) - window) / stride) + 1

    prompt = random_ids(4096, 1, window)
    with started(only(models(str(path), options), (MININEO,)), options, report) as workers:
        calls = {
            OWN: lambda: _seconds([*_command(), str(long), *arguments]),
            "start-up": lambda: _seconds([*_command(), str(short), *arguments]),
            "its forward passes": lambda: sum(
                workers[MININEO].call("forward", prompt, window if first else stride)
                for first in [True] + [False] * (passes - 1)
            ),
        }
        results = alternate(calls, min(options.rounds, 3), report.failed)
    startup = min(results.pop("start-up"))
    results[OWN] = [seconds - startup for seconds in results[OWN]]
    work = f"{shape.name}, score {len(ids):,} tokens in {passes} windows of {window}"
    report.note(f"less {startup:.2f} s for start-up")
    report.add(work, results, len(ids), "tok")
    own, passes_alone = report.best(work), report.best(work, "its forward passes")
    if own and passes_alone:
        report.claim(f"{work}: speed against its forward passes", passes_alone / own, GOAL)
    return report


def _command() -> list[str]:
    return [sys.executable, "-m", "minineo", "score"]


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - start
