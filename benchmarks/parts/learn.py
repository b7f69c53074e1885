"""Learning a vocabulary: 8,000 merges on 25 MB, against the trainer of `tokenizers`, which is written in Rust."""

from __future__ import annotations

from typing import Any

from benchmarks.options import Options
from benchmarks.peers import MININEO, TOKENIZERS, Start, started
from benchmarks.report import Report
from benchmarks.texts import english, paragraphs
from benchmarks.timing import alternate

SIZE, MERGES = 25_000_000, 8_000
GOAL = 1 / 3  # of the speed of tokenizers


def run(options: Options) -> Report:
    """Learn with each from the same pieces of text, and check that they learn the same."""
    report = Report("learn", "Learning a vocabulary", quick=options.quick)
    size, merges = (50_000, 200) if options.quick else (SIZE, MERGES)
    text, description = english(size)
    texts = paragraphs(text)
    report.note(f"{description}, in {len(texts):,} pieces; tokenizers on {options.threads} threads")
    factory = "benchmarks.peers.tokenizers_:Learner"
    starts = {
        MININEO: Start(factory, (MININEO, texts)),
        TOKENIZERS: Start(factory, (TOKENIZERS, texts), (TOKENIZERS,)),
    }
    learned: dict[str, dict[str, int]] = {}
    with started(starts, options, report) as workers:

        def call(name: str) -> float:
            seconds, learned[name] = workers[name].call("time", merges)
            return float(seconds)

        calls: dict[str, Any] = {name: lambda name=name: call(name) for name in workers}
        results = alternate(calls, min(options.rounds, 3), report.failed, warm_up=False)
    work = f"learn {merges:,} merges"
    report.add(work, results, size / 1e6, "MB")
    if len(learned) == 2 and learned[MININEO] != learned[TOKENIZERS]:
        raise ValueError("minineo and tokenizers learned different vocabularies")
    report.claim(f"{work}, against tokenizers", report.ratio(work, TOKENIZERS), GOAL)
    return report
