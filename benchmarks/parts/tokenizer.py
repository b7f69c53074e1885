"""Encoding English: cold (a tokenizer that has seen no text) and warm (one that has seen this text before)."""

from __future__ import annotations

from benchmarks.options import Options
from benchmarks.peers import MININEO, TIKTOKEN, TOKENIZERS, Start, started
from benchmarks.report import Report
from benchmarks.texts import english, vocabulary
from benchmarks.timing import alternate
from benchmarks.workers import Worker

SIZE = 3_400_000
COLD_GOAL, WARM_GOAL = 3.0, 0.6  # times as fast as tokenizers, as tiktoken


def run(options: Options) -> Report:
    """Measure cold and warm in the same processes, new ones in each round."""
    report = Report("tokenizer", "Encoding", quick=options.quick)
    vocab = vocabulary()
    text, description = english(30_000 if options.quick else SIZE)
    report.note(f"{description}, with {vocab.description}; one text, one thread")
    factory = "benchmarks.peers.tokenizers_:Encoder"
    starts = {
        name: Start(factory, (name, vocab.ids, vocab.merges), () if name == MININEO else (name,))
        for name in (MININEO, TOKENIZERS, TIKTOKEN)
    }
    cold: dict[str, list[float]] = {}
    warm: dict[str, list[float]] = {}
    for turn in range(options.rounds):
        with started(starts, options, report) as workers:
            for name, seconds in _round(workers, text, report, rounds=1).items():
                cold.setdefault(name, []).extend(seconds)
            for name, seconds in _round(workers, text, report, rounds=2).items():
                warm.setdefault(name, []).extend(seconds)
            if turn == 0:
                _check(workers, text)
    megabytes = len(text.encode()) / 1e6
    report.add("encode, cold", cold, megabytes, "MB")
    report.add("encode, warm", warm, megabytes, "MB")
    report.claim("encode, cold, against tokenizers", report.ratio("encode, cold", TOKENIZERS), COLD_GOAL)
    report.claim("encode, warm, against tiktoken", report.ratio("encode, warm", TIKTOKEN), WARM_GOAL)
    return report


def _round(workers: dict[str, Worker], text: str, report: Report, rounds: int) -> dict[str, list[float]]:
    calls = {name: lambda worker=worker: worker.call("time", text) for name, worker in workers.items()}
    return alternate(calls, rounds, report.failed, warm_up=False)


def _check(workers: dict[str, Worker], text: str) -> None:
    """All have to give the same ids."""
    ids = {name: worker.call("ids", text) for name, worker in workers.items()}
    for name, theirs in ids.items():
        if theirs != ids.get(MININEO, theirs):
            raise ValueError(f"{name} encodes the text in another way than minineo")
