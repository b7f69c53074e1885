"""Alternating runs: a round calls every peer once, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from benchmarks.workers import WorkerError

T = TypeVar("T")

PAUSE = 0.3  # seconds between two peers: OpenMP's threads spin for up to 0.2 s after their work, OpenBLAS's for less
BUDGET = 60.0  # seconds that one peer may take for one piece of work, warm-up included, before rounds leave it out


def alternate(
    calls: Mapping[str, Callable[[], T]], rounds: int, failed: Callable[[str, WorkerError], None], warm_up: bool = True
) -> dict[str, list[T]]:
    """Call each peer once to warm up (unless told not to), then `rounds` times in turn; return what the calls returned.

    A peer that fails is reported to `failed` and left out. One whose budget is spent has fewer rounds, at least one.
    """
    results: dict[str, list[T]] = {name: [] for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    for turn in range(-1 if warm_up else 0, rounds):
        for name, call in calls.items():
            if name not in results or (results[name] and spent[name] > BUDGET):
                continue
            _progress(f"{name}, {'warm-up' if turn < 0 else f'round {turn + 1} of {rounds}'}")
            time.sleep(PAUSE)
            start = time.perf_counter()
            try:
                result = call()
            except WorkerError as error:
                failed(name, error)
                del results[name]
                continue
            spent[name] += time.perf_counter() - start
            if turn >= 0:
                results[name].append(result)
    _progress("")
    return results


def _progress(text: str) -> None:
    """Say on a terminal what is running; a log has no use for it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
