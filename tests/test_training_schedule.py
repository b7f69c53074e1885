"""The learning rate by step: its ends, its shape, and a mistake in any part of it is seen."""

from __future__ import annotations

import doctest
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from derivatives import with_mistake
from hypothesis import given
from hypothesis import strategies as st

from minineo.training import schedule
from minineo.training.schedule import learning_rate

Rate = Callable[..., float]


def rates(function: Rate, steps: int, *arguments: Any, **options: Any) -> list[float]:
    return [function(step, steps, *arguments, **options) for step in range(steps)]


def check_by_hand(function: Rate = learning_rate) -> None:
    def check(expected: list[float], *arguments: Any, **options: Any) -> None:
        np.testing.assert_allclose(rates(function, len(expected), *arguments, **options), expected, rtol=1e-14)

    check([0.5, 1.0, 1.5, 2.0, 1.5, 1.0, 0.5], 2.0, warmup=4, decay="linear")
    check([2.0, 1.5, 1.0, 0.5], 2.0, decay="linear")
    check([2.0, 1.75, 1.5, 1.25], 2.0, decay="linear", floor=0.5)
    half = math.sqrt(0.5)  # the cosine of 45 degrees
    check([1.0, 2.0, 1.0 + half, 1.0, 1.0 - half], 2.0, 2)
    check([2.0, 1.8 * (1 + half) / 2 + 0.2, 1.1, 1.8 * (1 - half) / 2 + 0.2], 2.0, 0, "cosine", 0.1)
    check([1.0, 2.0, 2.0, 2.0], 2.0, 2, "constant", floor=0.1)
    check([1.0, 2.0, 2.0, 2.0, 1.0], 2.0, 2, "linear", hold=2)
    check([2.0, 2.0, 1.0], 2.0, decay="linear", hold=1)
    check([3.0], 3.0)
    check([1.5, 3.0, 1.65], 3.0, 2, floor=0.1)


def test_by_hand() -> None:
    check_by_hand()


MISTAKES = [
    ("(step + 1) / warmup", "step / warmup"),
    ("step < warmup", "step <= warmup"),
    ("(step - top)", "step"),
    ("(steps - top)", "(steps - 1 - top)"),
    ("max(warmup - 1, 0)", "warmup"),
    (" or step <= top:", ":"),
    (" + hold  #", "  #"),
    ("1.0 - progress if", "progress if"),
    ("0.5 * (1.0", "(1.0"),
    ("math.pi * progress", "progress"),
    ("floor + (1.0 - floor) * left", "max(floor, left)"),
    ("floor + (1.0 - floor) * left", "floor + left"),
    ('decay == "constant" or ', ""),
]


@pytest.mark.parametrize(("right", "wrong"), MISTAKES)
def test_a_planted_mistake_is_seen(right: str, wrong: str) -> None:
    with pytest.raises((AssertionError, ZeroDivisionError)):
        check_by_hand(with_mistake(learning_rate, right, wrong))


@given(st.data(), st.integers(2, 60), st.floats(1e-6, 10.0), st.floats(0.0, 1.0), st.sampled_from(schedule.DECAYS))
def test_up_to_the_peak_then_down_to_the_floor(data: Any, steps: int, peak: float, floor: float, decay: str) -> None:
    warmup = data.draw(st.integers(0, steps - 1))
    values = rates(learning_rate, steps, peak, warmup, decay, floor)
    top = max(warmup - 1, 0)
    assert all(type(value) is float for value in values)
    assert values[top] == peak
    assert values[0] == pytest.approx(peak / max(warmup, 1), rel=1e-15)
    assert values[: top + 1] == sorted(values[: top + 1])
    falling = np.asarray(values[top:])
    assert (np.diff(falling) <= 1e-15 * peak).all()
    assert falling[-1] >= floor * peak * (1.0 - 1e-15)
    if decay == "linear":  # as far above the floor as a step is long
        assert falling[-1] - floor * peak == pytest.approx((1.0 - floor) * peak / (steps - top), rel=1e-9, abs=1e-15)


def test_the_last_step_still_learns() -> None:
    for decay in ("cosine", "linear"):
        assert 0.0 < learning_rate(99, 100, 3e-4, 10, decay) < 4e-6


def test_the_example() -> None:
    results = doctest.testmod(schedule)
    assert (results.attempted, results.failed) == (2, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peak": 0.0}, "peak: received 0.0, expected a finite number above 0"),
        ({"peak": -1e-3}, "peak: received -0.001"),
        ({"peak": math.nan}, "peak: received nan"),
        ({"peak": math.inf}, "peak: received inf"),
        ({"floor": -0.1}, "floor: received -0.1, expected a part of the peak, from 0 to 1"),
        ({"floor": 1.1}, "floor: received 1.1"),
        ({"floor": math.nan}, "floor: received nan"),
        ({"step": 10}, "step: received 10, expected less than 10, the steps of the run"),
        ({"step": -1}, "step: received -1"),
        ({"steps": 0}, "steps: received 0, expected at least 1"),
        ({"warmup": -1}, "warmup: received -1"),
        ({"warmup": 10}, "warmup: received 10, expected less than 10, the steps of the run"),
        ({"decay": "exponential"}, "decay: received 'exponential', expected one of cosine, linear, constant"),
    ],
)
def test_values_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        learning_rate(**({"step": 0, "steps": 10, "peak": 1e-3} | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peak": "3e-4"}, "peak: received '3e-4' of type str"),
        ({"floor": None}, "floor: received None of type NoneType"),
        ({"warmup": 2.5}, "warmup: received 2.5 of type float"),
        ({"step": 1.0}, "step: received 1.0 of type float"),
        ({"steps": True}, "steps: received True of type bool"),
    ],
)
def test_types_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message.replace(".", r"\.")):
        learning_rate(**({"step": 0, "steps": 10, "peak": 1e-3} | change))
