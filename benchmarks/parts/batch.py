"""Decoding 8 prompts together: the weights are read once for all of them, so it should cost little more than one."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.options import Options
from benchmarks.parts.agree import check_tokens
from benchmarks.parts.prompts import random_ids
from benchmarks.peers import BFLOAT16, FLOAT32, LIMIT, MININEO, Start, models, only, started
from benchmarks.peers.decoded import Decoded
from benchmarks.report import Report
from benchmarks.shapes import checkpoint, main_shape
from benchmarks.timing import alternate

PROMPTS = 8
GOAL = 4.0  # times the tokens per second of one prompt


def run(options: Options) -> Report:
    """Measure one prompt, 8 of one length, and 8 of different lengths, padded on the left."""
    report = Report("batch", "Decoding a batch", limit=LIMIT, quick=options.quick)
    shape = main_shape(options)
    starts = only(models(str(checkpoint(shape, options)), options), (MININEO, FLOAT32, BFLOAT16))
    starts[LIMIT] = Start("benchmarks.peers.products:Model", (shape,))
    ids = random_ids(shape.vocab_size, PROMPTS, 32)
    everything = np.ones_like(ids)
    padded = (np.arange(32) >= 3 * np.arange(PROMPTS)[:, None]).astype(np.int64)
    works = {
        f"{shape.name}, 1 prompt": (ids[:1], everything[:1]),
        f"{shape.name}, 8 prompts": (ids, everything),
        f"{shape.name}, 8 prompts of 11 to 32 tokens": (ids, padded),
    }
    tokens = 4 if options.quick else 48
    with started(starts, options, report) as workers:
        for work, (prompts, mask) in works.items():
            calls = {name: partial(w.call, "decode", prompts, tokens, mask=mask) for name, w in workers.items()}
            results: dict[str, list[Decoded]] = alternate(calls, options.rounds, report.failed)
            check_tokens(results, report)
            report.add(work, {name: [r.each for r in runs] for name, runs in results.items()}, len(prompts), "tok")
    one, *several = works
    for work in several:
        single, batch = report.best(one), report.best(work)
        if single and batch:
            report.claim(f"{work}: tokens per second against 1 prompt", PROMPTS * single / batch, GOAL)
    return report
