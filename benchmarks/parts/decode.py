"""Greedy decoding, one row, early and late in the context. Seconds are per token, at the position named."""

from __future__ import annotations

from functools import partial

from benchmarks.options import Options
from benchmarks.parts.agree import check_logits, check_tokens
from benchmarks.parts.prompts import random_ids
from benchmarks.peers import BFLOAT16, COMPILED, FLOAT32, LIMIT, PICOGPT, Start, models, started
from benchmarks.peers.decoded import Decoded
from benchmarks.report import Report
from benchmarks.shapes import M1, M33, M125, TINY, Shape, checkpoint, wanted
from benchmarks.timing import alternate
from benchmarks.workers import Worker

EARLY, LATE = 32, 1900
NEW_TOKENS = 64
GOALS = {M125.name: 2.5, M33.name: 2.9, M1.name: 6.0}  # times as fast as HF float32
KEEPS = 0.85  # of its early speed, late


def run(options: Options) -> Report:
    """Measure all shapes at both positions."""
    report = Report("decode", "Greedy decoding", limit=LIMIT, quick=options.quick)
    for shape in wanted(options):
        starts = models(str(checkpoint(shape, options)), options)
        starts[LIMIT] = Start("benchmarks.peers.products:Model", (shape,))
        if not shape.compiled:
            del starts[COMPILED]
        with started(starts, options, report) as workers:
            check_logits(workers, random_ids(shape.vocab_size, 1, EARLY), shape.name, report)
            early, late = (EARLY, LATE) if shape != TINY else (16, 100)
            for position in (early, late):
                _measure(shape, position, workers, options, report)
            _claims(shape, early, late, report)
            if seconds := report.best(_work(shape, early), LIMIT):
                size = workers[LIMIT].call("weight_bytes")
                report.data[f"{shape.name}, weights read"] = {"bytes": size, "bytes per second": size / seconds}
                report.note(
                    f"{shape.name}: the products read {size / 1e6:.1f} MB of weights at {size / seconds / 1e9:.1f} GB/s"
                )
    return report


def _work(shape: Shape, position: int) -> str:
    return f"{shape.name}, decode at position {position}"


def _measure(shape: Shape, position: int, workers: dict[str, Worker], options: Options, report: Report) -> None:
    ids = random_ids(shape.vocab_size, 1, position)
    tokens = 8 if options.quick else NEW_TOKENS
    # without a cache a token costs a whole forward pass: a few of them tell enough
    counts = dict.fromkeys(workers, tokens) | {PICOGPT: 4 if position <= EARLY else 1}
    calls = {name: partial(worker.call, "decode", ids, counts[name]) for name, worker in workers.items()}
    results: dict[str, list[Decoded]] = alternate(calls, options.rounds, report.failed)
    check_tokens(results, report)
    report.add(_work(shape, position), {name: [r.each for r in runs] for name, runs in results.items()}, 1, "tok")
    first = {name: [r.first for r in runs] for name, runs in results.items() if name not in (LIMIT, PICOGPT)}
    report.add(f"{shape.name}, first token after {position}", first, position, "tok")


def _claims(shape: Shape, early: int, late: int, report: Report) -> None:
    work = _work(shape, early)
    if shape.name in GOALS:
        report.claim(f"{work}, against HF float32", report.ratio(work, FLOAT32), GOALS[shape.name])
    if shape == M125:
        report.claim(f"{work}, against HF bfloat16", report.ratio(work, BFLOAT16), 1.0)
    early_seconds, late_seconds = report.best(work), report.best(_work(shape, late))
    if shape == M125 and early_seconds and late_seconds:
        report.claim(f"{shape.name}, speed at {late} against at {early}", early_seconds / late_seconds, KEEPS)
