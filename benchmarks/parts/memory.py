"""How time and memory grow with the length, for local layers and for global ones; and what the cache holds."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.options import Options
from benchmarks.parts.prompts import random_ids
from benchmarks.peers import FLOAT32, HUGGING_FACE, MININEO, Start, models, only, started
from benchmarks.report import Report
from benchmarks.shapes import M125, TINY, checkpoint, main_shape
from benchmarks.timing import alternate
from benchmarks.workers import WorkerError

LENGTHS = (512, 1024, 2048, 4096, 8192)
# 4 layers, and next to no vocabulary: attention is what is looked at
MODEL = replace(M125, name="4 layers of 125M's width", num_layers=4, vocab_size=512, positions=LENGTHS[-1])
LONGEST_HF = 4096  # transformers holds several arrays of (heads, T, T): 3 GB each at 8,192
GROWTH_GOAL = 1.15  # exponent of the length; 1 is linear, 2 is quadratic
CACHE_GOAL = 0.6  # of Hugging Face's bytes: half the layers keep 256 of 2,048 positions, which makes 0.56


def run(options: Options) -> Report:
    """Measure the growth, then the cache."""
    report = Report("memory", "Memory", quick=options.quick)
    _growth(options, report)
    _cache(options, report)
    return report


def _growth(options: Options, report: Report) -> None:
    lengths = (16, 32, 64) if options.quick else LENGTHS
    shape = replace(TINY, positions=64) if options.quick else MODEL
    curves: dict[str, dict[str, list[Any]]] = {}
    for length in lengths:
        starts = {name: start for name, start in _starts(shape, options).items() if _fits(name, length)}
        ids = random_ids(shape.vocab_size, 1, length)
        with started(starts, replace(options, peers=None), report) as workers:  # new processes: memory is given back
            peaks = {}
            for name, worker in workers.items():
                try:
                    peaks[name] = worker.call("peak", ids)
                except WorkerError as error:
                    report.failed(f"{name}, {length} tokens", error)
            calls = {name: partial(workers[name].call, "time", ids) for name in peaks}
            seconds = alternate(calls, min(options.rounds, 3), report.failed)
        report.add(f"{shape.name}, forward, {length} tokens", seconds, length, "tok")
        for name, peak in peaks.items():
            curve = curves.setdefault(name, {"length": [], "seconds": [], "bytes": []})
            curve["length"].append(length)
            curve["seconds"].append(min(seconds[name], default=None))
            curve["bytes"].append(peak)
            print(f"  {name}: {'memory is measured on Linux only' if peak is None else f'{peak / 1e6:.1f} MB at most'}")
    report.data["growth"] = curves
    report.note("the windows are 256 positions; memory is the peak of the process beyond what the model itself takes")
    for what in ("seconds", "bytes"):
        curve = curves.get(_own("local"), {})
        growth = _exponent(curve.get("length", []), curve.get(what, []))
        text = f"local layers, {what}: exponent of the length, from {lengths[-3]} to {lengths[-1]} tokens"
        report.claim(text, growth, GROWTH_GOAL, at_least=False, unit="")


def _own(kind: str) -> str:
    return f"minineo, {kind} layers"


def _starts(shape: Any, options: Options) -> dict[str, Start]:
    starts = {}
    for kind in ("local", "global"):
        layers = [[[kind], shape.num_layers]]
        if options.wants(MININEO):
            starts[_own(kind)] = Start("benchmarks.peers.memory:Own", (shape, layers))
        if options.wants(FLOAT32):
            arguments = (shape, layers, options.threads)
            starts[f"HF, {kind} layers"] = Start("benchmarks.peers.memory:HuggingFace", arguments, HUGGING_FACE)
    return starts


def _fits(name: str, length: int) -> bool:
    return name.startswith("minineo") or length <= LONGEST_HF


def _exponent(lengths: list[int], values: list[float | None]) -> float | None:
    """The slope over the last three lengths, both axes logarithmic."""
    if len(values) < 3 or not values[-1] or not values[-3]:
        return None
    return math.log(values[-1] / values[-3]) / math.log(lengths[-1] / lengths[-3])


def _cache(options: Options, report: Report) -> None:
    shape = main_shape(options)
    starts = only(models(str(checkpoint(shape, options)), options), (MININEO, FLOAT32))
    new_tokens = 8 if options.quick else 64
    ids = random_ids(shape.vocab_size, 1, shape.positions - new_tokens)
    sizes = {}
    print(f"\n{shape.name}, key-value cache after {shape.positions} tokens")
    with started(starts, options, report) as workers:
        for name, worker in workers.items():
            sizes[name] = worker.call("cache_bytes", ids, new_tokens)
            print(f"  {name}: {sizes[name] / 1e6:.1f} MB")
    report.data["cache bytes"] = sizes
    if len(sizes) == 2:
        ratio = sizes[MININEO] / sizes[FLOAT32]
        text = f"{shape.name}, bytes of the cache after {shape.positions} tokens against Hugging Face's"
        report.claim(text, ratio, CACHE_GOAL, at_least=False)
