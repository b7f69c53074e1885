"""Before peers are timed: that they compute the same."""

from __future__ import annotations

import numpy as np

from benchmarks.peers import BFLOAT16, LIMIT, MININEO
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
