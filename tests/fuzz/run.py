"""Runs cases in worker processes, begins a new one behind a case that ends or hangs it, and counts what came of all."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fuzz.watch import MOST_SECONDS

TESTS = Path(__file__).parents[1]
PATIENCE = 60.0  # seconds by the clock on the wall until a worker that says nothing counts as hanging
LONGEST_RUN = 500  # cases of one process

Case = tuple[str, int]
"""A format and a number."""


@dataclass
class Tally:
    """What came of the cases of one format."""

    format: str
    cases: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    nbytes: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, number: int, result: dict[str, Any]) -> None:
        """Count one case."""
        self.cases += 1
        self.accepted += result["accepted"]
        self.refused.update([result["refused_by"]] if result["refused_by"] else [])
        self.seconds = max(self.seconds, result["seconds"])
        self.nbytes = max(self.nbytes, result["nbytes"])
        self.problems += [f"{self.format}, case {number} ({result['what']}): {text}" for text in result["problems"]]


def run(plan: Sequence[Case], progress: Callable[[Case], object] = lambda case: None) -> list[Tally]:
    """Run cases, each of which counts, whatever it does to the process; the tallies are those of their formats."""
    tallies = {format_: Tally(format_) for format_, _ in plan}
    done = 0
    while done < len(plan):
        for result in _results(plan[done : done + LONGEST_RUN]):
            format_, number = plan[done]
            tallies[format_].add(number, result)
            progress(plan[done])
            done += 1
    return list(tallies.values())


def _results(cases: Sequence[Case]) -> Iterator[dict[str, Any]]:
    """Results of cases in one process, in order; the last may be that it died or hung, and further ones are missing."""
    with subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", "fuzz.worker", json.dumps(cases)],
        env={**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines, said = _lines(process.stdout), _collected(process.stderr)
        begun = False
        try:
            while (line := lines.get(timeout=PATIENCE)) is not None:
                result = json.loads(line)
                begun = result is None
                if result is not None:
                    yield result
        except queue.Empty:
            said.append(f"nothing for {PATIENCE:.0f} s: it hangs")
        finally:
            process.kill()
        process.wait()
    if begun:
        last_words = "".join(said[:1] if "Fatal" in said[0] else said[-12:]) if said else ""
        yield _failed(f"the process ended ({process.returncode}): {last_words.strip()}")
    elif process.returncode > 0:
        raise RuntimeError(f"the worker did not get to its cases: {''.join(said)[-2000:]}")


def _failed(problem: str) -> dict[str, Any]:
    seconds = MOST_SECONDS
    return {"accepted": False, "refused_by": None, "seconds": seconds, "nbytes": 0, "problems": [problem], "what": "?"}


def _lines(stream: IO[str]) -> queue.Queue[str | None]:
    """The lines of a stream as they come, so that waiting for one can be given up; None after the last."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _collected(stream: IO[str]) -> list[str]:
    said: list[str] = []
    threading.Thread(target=lambda: said.extend(stream), daemon=True).start()
    return said


def table(tallies: list[Tally]) -> str:
    """Counts by format, and the worst time and memory."""
    rows = [("format", "cases", "accepted", "refused by", "most time", "most memory", "problems")]
    for tally in tallies:
        refused = ", ".join(f"{name} {count:,}" for name, count in tally.refused.most_common())
        row = (tally.format, f"{tally.cases:,}", f"{tally.accepted:,}", refused)
        rows.append((*row, f"{tally.seconds:.2f} s", f"{tally.nbytes / 2**20:.0f} MB", str(len(tally.problems))))
    total = f"{sum(tally.cases for tally in tallies):,}", f"{sum(tally.accepted for tally in tallies):,}"
    rows.append(("all", *total, "", "", "", str(sum(len(tally.problems) for tally in tallies))))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
