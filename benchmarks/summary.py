"""All parts together: the claims as a Markdown table, with the machine on which they were measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.machine import summary
from benchmarks.report import seconds_text

Reports = dict[str, dict[str, Any]]
FILE = "summary.md"


def read(folder: Path) -> Reports:
    """The JSON files of a folder, by part."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def write(reports: Reports, folder: Path) -> None:
    """Write the tables, and print where."""
    lines = ["# What was measured", "", "Made by `python -m benchmarks summary` from the JSON files beside it.", ""]
    machines = {part: summary(report["machine"]) for part, report in reports.items()}
    for machine in dict.fromkeys(machines.values()):
        parts = [part for part, its in machines.items() if its == machine]
        lines.append(f"- {machine}: {', '.join(parts)}")
    lines += ["", "## Goals", "", "| | measured | goal | |", "|---|---|---|---|"]
    for report in reports.values():
        lines += [_claim_row(claim) for claim in report["claims"]]
    for report in reports.values():
        lines += ["", f"## {report['title']}", "", *_times(report), *(f"- {note}" for note in report["notes"])]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"  written: {path}")


def _claim_row(claim: dict[str, Any]) -> str:
    value, goal, at_least = claim["value"], claim["goal"], claim["at_least"]
    reached = value >= goal if at_least else value <= goal
    unit = claim["unit"] and f" {claim['unit']}"
    sign = ">=" if at_least else "<="
    return f"| {claim['text']} | {value:.3g}{unit} | {sign} {goal:.3g}{unit} | {'' if reached else 'not reached'} |"


def _times(report: dict[str, Any]) -> list[str]:
    """A row for each piece of work, a column for each peer: the best time."""
    timings = report["timings"]
    peers = list(dict.fromkeys(timing["peer"] for timing in timings))
    if not peers:
        return []
    best = {(timing["work"], timing["peer"]): seconds_text(min(timing["runs"])) for timing in timings}
    works = dict.fromkeys(timing["work"] for timing in timings)
    rows = [f"| {work} | {' | '.join(best.get((work, peer), '') for peer in peers)} |" for work in works]
    return [f"| best time | {' | '.join(peers)} |", "|---" * (len(peers) + 1) + "|", *rows, ""]
