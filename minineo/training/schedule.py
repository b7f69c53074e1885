"""The learning rate, step by step: a linear warm-up, then down along a cosine (Loshchilov & Hutter 2017) or a line.

With steps at the peak in between, the length of a run can be chosen late (Hu et al. 2024): a run that is to go on goes
on from before its rate began to fall.
"""

from __future__ import annotations

import math

from minineo.config_checks import check_integer
from minineo.training.checks import number, positive

DECAYS = ("cosine", "linear", "constant")


def learning_rate(
    step: int,
    steps: int,
    peak: float,
    warmup: int = 0,
    decay: str = "cosine",
    floor: float = 0.0,
    hold: int = 0,
) -> float:
    """Learning rate of one step, counted from 0, of a run of `steps` steps.

    Step 0 of `warmup` steps gets peak / warmup, each next one as much more, the last one the peak; without a warm-up
    step 0 gets the peak. So do `hold` steps more. Then the rate falls towards `floor` times the peak, which the step
    after the last one would get, or stays at the peak where decay is "constant". (The averages that AdamW divides by
    know little at first; a small step does less harm then.)

    >>> [learning_rate(step, 8, 1.0, warmup=4, decay="linear", floor=0.5) for step in range(8)]
    [0.25, 0.5, 0.75, 1.0, 0.9, 0.8, 0.7, 0.6]
    >>> [learning_rate(step, 6, 1.0, warmup=2, decay="linear", hold=2) for step in range(6)]
    [0.5, 1.0, 1.0, 1.0, 0.6666666666666667, 0.33333333333333337]

    Raises:
        ValueError: the step is not one of the run's, warm-up and hold take it all, or peak or floor cannot be.
    """
    peak = positive("peak", peak)
    floor = number("floor", floor, lambda x: 0.0 <= x <= 1.0, "a part of the peak, from 0 to 1")
    check_integer("steps", steps, minimum=1)
    check_integer("step", step, minimum=0)
    check_integer("warmup", warmup, minimum=0)
    check_integer("hold", hold, minimum=0)
    if step >= steps:
        raise ValueError(f"step: received {step}, expected less than {steps}, the steps of the run.")
    if warmup + hold >= steps:
        received = f"{warmup} and a hold of {hold}" if hold else str(warmup)
        raise ValueError(f"warmup: received {received}, expected less than {steps}, the steps of the run.")
    if decay not in DECAYS:
        raise ValueError(f"decay: received {decay!r}, expected one of {', '.join(DECAYS)}.")

    if step < warmup:
        return peak * ((step + 1) / warmup)
    top = max(warmup - 1, 0) + hold  # the last step that gets the peak
    if decay == "constant" or step <= top:
        return peak
    progress = (step - top) / (steps - top)
    left = 1.0 - progress if decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return peak * (floor + (1.0 - floor) * left)
