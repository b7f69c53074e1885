"""What a part finds out: times by piece of work and peer, claims with their goals, notes; as tables and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.workers import WorkerError

OWN = "minineo"


@dataclass(frozen=True)
class Timing:
    """One peer at one piece of work."""

    work: str
    peer: str
    runs: list[float]  # seconds
    amount: float | None = None  # what a run did, in `unit`
    unit: str = ""

    @property
    def best(self) -> float:
        """Seconds of the best run: what disturbs a run only ever makes it longer."""
        return min(self.runs)


@dataclass(frozen=True)
class Claim:
    """A figure with its goal."""

    text: str
    value: float
    goal: float
    at_least: bool  # else: at most
    unit: str = "x"

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass
class Report:
    """The results of one part."""

    part: str
    title: str
    limit: str | None = None  # the peer that is the limit
    quick: bool = False  # shapes are tiny: there is nothing to claim
    timings: list[Timing] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)  # what fits no table: curves, sizes

    def add(self, work: str, runs: dict[str, list[float]], amount: float | None = None, unit: str = "") -> None:
        """Note the runs of each peer at a piece of work, and print their table."""
        rows = [Timing(work, peer, seconds, amount, unit) for peer, seconds in runs.items() if seconds]
        self.timings += rows
        if rows:
            self._print(work, rows)

    def best(self, work: str, peer: str = OWN) -> float | None:
        """Seconds of a peer's best run, or None where it did not run."""
        return next((row.best for row in self.timings if (row.work, row.peer) == (work, peer)), None)

    def ratio(self, work: str, peer: str) -> float | None:
        """How many times as fast as a peer minineo is."""
        own, other = self.best(work), self.best(work, peer)
        return None if own is None or other is None else other / own

    def claim(self, text: str, value: float | None, goal: float, *, at_least: bool = True, unit: str = "x") -> None:
        """Hold a figure against its goal; None (a peer did not run) is no figure."""
        if value is None or self.quick:
            return
        claim = Claim(text, value, goal, at_least, unit)
        self.claims.append(claim)
        print(f"  {claim_line(asdict(claim))}", flush=True)

    def note(self, text: str) -> None:
        """Something that a reader of the figures should know."""
        if text not in self.notes:
            self.notes.append(text)
            print(f"  note: {text}", flush=True)

    def failed(self, peer: str, error: WorkerError) -> None:
        """A peer that does not work here."""
        self.note(f"{peer} does not work here: {error}")

    def _print(self, work: str, rows: Sequence[Timing]) -> None:
        own = next((row.best for row in rows if row.peer == OWN), None)
        limit = next((row.best for row in rows if row.peer == self.limit), None)
        lines: list[tuple[str, ...]] = [("", "best", "median", "rate", "minineo is", "of the limit", "runs")]
        lines += [self._cells(row, own, limit) for row in rows]
        print(f"\n{work}")
        filled = [i for i, column in enumerate(zip(*lines[1:], strict=True)) if any(column)]
        print_table([[line[i] for i in filled] for line in lines])

    def _cells(self, row: Timing, own: float | None, limit: float | None) -> tuple[str, ...]:
        return (
            row.peer + (" (limit)" if row.peer == self.limit else ""),
            seconds_text(row.best),
            seconds_text(statistics.median(row.runs)),
            "" if row.amount is None else f"{row.amount / row.best:,.4g} {row.unit}/s",
            "" if own is None or row.peer in (OWN, self.limit) else f"{row.best / own:.2f} x as fast",
            "" if limit is None else f"{limit / row.best:.0%}",
            str(len(row.runs)),
        )

    def save(self, folder: Path, threads: int) -> Path:
        """Write everything as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.part}.json"
        content = {"machine": describe(threads), **asdict(self)}
        path.write_text(json.dumps(content, indent=1, default=float) + "\n", encoding="utf-8")
        return path


def seconds_text(seconds: float) -> str:
    """A time with three digits and a fitting unit."""
    factor, unit = (1.0, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "us")
    return f"{seconds * factor:.3g} {unit}" if seconds * factor < 1000 else f"{seconds * factor:,.0f} {unit}"


def claim_line(claim: dict[str, Any]) -> str:
    """A claim as read from JSON, as a line."""
    value, goal = claim["value"], claim["goal"]
    reached = value >= goal if claim["at_least"] else value <= goal
    word = "at least" if claim["at_least"] else "at most"
    verdict = "reached" if reached else f"NOT reached, {value / goal:.0%} of it"
    return f"{claim['text']}: {value:.3g} {claim['unit']}, goal {word} {goal:g} {claim['unit']}: {verdict}"


def print_table(lines: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, the first flushed left, the others right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        first, *others = (f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True))
        print("  " + "  ".join([f"{first.strip():<{widths[0]}}", *others]).rstrip())
