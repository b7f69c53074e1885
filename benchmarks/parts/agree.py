"""Before peers are timed: that they compute the same."""

from __future__ import annotations

import numpy as np

from benchmarks.peers import BFLOAT16, COMPILED, FLOAT32, LIMIT, MININEO
from benchmarks.peers.decoded import Decoded
from benchmarks.report import Report
from benchmarks.workers import Worker, WorkerError

TOLERANCE = 1e-4  # of the largest logit: float32 rounding over a dozen layers, far below any mistake


def check_logits(workers: dict[str, Worker], ids: np.ndarray, work: str, report: Report) -> None:
    """Compare the last logits of every peer with minineo's; leave out (and say so) a peer that computes others."""
    if MININEO not in workers:
        return
    own = workers[MININEO].call("logits", ids, 8)
    for name in [name for name in workers if name not in (MININEO, LIMIT)]:
        try:
            theirs = workers[name].call("logits", ids, 8)
        except WorkerError as error:
            report.failed(name, error)
            del workers[name]
            continue
        difference = float(np.abs(theirs - own).max() / np.abs(own).max())
        report.data.setdefault("difference of logits", {})[f"{work}, {name}"] = difference
        if name == BFLOAT16:  # rounds to 8 bits: different by nature
            report.note(f"{name} is off by {difference:.1%} of the largest logit")
        elif difference > TOLERANCE:
            raise ValueError(f"{work}: the logits of {name} differ from minineo's by {difference:.2g} of the largest")


def check_tokens(results: dict[str, list[Decoded]], report: Report) -> None:
    """Greedy tokens have to be the same in every row: another text would be another amount of work."""
    if not results.get(MININEO):
        return
    own = results[MININEO][0].tokens
    for name, runs in results.items():
        if name == LIMIT or not runs:
            continue
        theirs = runs[0].tokens
        if theirs != [row[: len(theirs[0])] for row in own]:
            if name == COMPILED:
                report.note(f"{name} is left out where it chooses other tokens than {FLOAT32}")
                results[name] = []
                continue
            if name != BFLOAT16:
                raise ValueError(f"{name} chose the tokens {theirs}, minineo {own}")
            report.note(f"{name} chooses other tokens, since its rounding is coarse")
