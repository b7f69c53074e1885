"""Clipping by global norm: by hand, against torch, in place, and a mistake in it is seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from conftest import require
from derivatives import with_mistake
from hypothesis import given
from hypothesis import strategies as st

from minineo.training import clipping
from minineo.training.clipping import clip_by_global_norm

Clip = Callable[..., float]


def draw(seed: int, dtype: Any = np.float64) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {"a": (), "b": (5,), "c": (3, 4), "d": (2, 3, 2), "e": (0, 3)}
    return {name: np.asarray(random.standard_normal(shape), dtype) for name, shape in shapes.items()}


def check_by_hand(clip: Clip = clip_by_global_norm) -> None:
    def check(before: list[list[float]], limit: float, norm: float, after: list[list[float]]) -> None:
        grads = {str(i): np.array(values) for i, values in enumerate(before)}
        assert clip(grads, limit) == pytest.approx(norm, rel=1e-14, nan_ok=True)
        for gradient, expected in zip(grads.values(), after, strict=True):
            np.testing.assert_allclose(gradient, expected, rtol=1e-6)

    check([[3.0], [0.0, -4.0]], 1.0, 5.0, [[0.6], [0.0, -0.8]])
    check([[3.0], [0.0, -4.0]], 10.0, 5.0, [[3.0], [0.0, -4.0]])
    check([[3.0], [0.0, -4.0]], math.inf, 5.0, [[3.0], [0.0, -4.0]])
    check([[0.0], [0.0, 0.0]], 1.0, 0.0, [[0.0], [0.0, 0.0]])
    check([[3.0], [math.nan, 1.0]], 1.0, math.nan, [[3.0], [math.nan, 1.0]])
    check([[3.0], [-math.inf, 1.0]], 1.0, math.inf, [[3.0], [-math.inf, 1.0]])


def test_by_hand() -> None:
    check_by_hand()
    assert clip_by_global_norm({}, 1.0) == 0.0


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("factor < 1.0", "True"),
        ("math.isfinite(norm) and ", ""),
        ("limit / (norm + EPSILON)", "1.0 / (norm + EPSILON)"),
        ("limit / (norm + EPSILON)", "limit / (norm + EPSILON) ** 2"),
        ("norm = global_norm(grads)", "norm = max(global_norm({name: grad}) for name, grad in grads.items())"),
        ("piece *= factor", "piece = piece * factor"),
        ("return norm", "return min(norm, limit)"),
    ],
)
def test_a_planted_mistake_is_seen(right: str, wrong: str) -> None:
    with pytest.raises((AssertionError, RuntimeWarning)):
        check_by_hand(with_mistake(clip_by_global_norm, right, wrong))


@given(st.integers(0, 2**32), st.floats(0.01, 10.0), st.sampled_from([np.float32, np.float64]))
def test_the_direction_stays_and_the_norm_is_at_most_the_limit(seed: int, limit: float, dtype: Any) -> None:
    grads, before = draw(seed, dtype), draw(seed, dtype)
    arrays = dict(grads)
    norm = clip_by_global_norm(grads, limit)
    assert type(norm) is float
    whole, whole_before = (np.concatenate([x.ravel().astype(float) for x in all_.values()]) for all_ in (grads, before))
    assert norm == pytest.approx(np.linalg.norm(whole_before), rel=1e-12)
    assert np.linalg.norm(whole) <= limit * (1.0 + 1e-6)
    np.testing.assert_allclose(whole, whole_before * min(1.0, limit / norm), rtol=1e-6)
    assert all(grads[name] is array and array.dtype == dtype for name, array in arrays.items())


def test_pieces_and_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minineo.fast.pieces.PIECE", 4)
    base = np.random.default_rng(0).standard_normal((6, 10))
    view, expected = base[:, ::2], base[:, ::2].copy()
    norm = clip_by_global_norm({"x": view}, 1.0)
    np.testing.assert_allclose(base[:, ::2], expected / np.linalg.norm(expected), rtol=2e-6)
    assert norm == pytest.approx(np.linalg.norm(expected), rel=1e-14)


def test_squares_that_float32_cannot_hold() -> None:
    grads = {"x": np.full(4, 1e30, np.float32), "y": np.full(4, 1e-30, np.float32)}
    assert clip_by_global_norm(grads, 1.0) == pytest.approx(2e30, rel=1e-6)
    np.testing.assert_allclose(grads["x"], 0.5, rtol=1e-6)
    assert clip_by_global_norm({"y": np.full(4, 1e-30, np.float32)}, 1.0) == pytest.approx(2e-30, rel=1e-6)


def test_on_the_second_device_of_a_strict_library() -> None:
    device = strict.Device("device1")
    grads = {name: strict.asarray(x, device=device, copy=True) for name, x in draw(0, np.float32).items()}
    expected = draw(0, np.float32)
    assert clip_by_global_norm(grads, 0.5) == pytest.approx(clip_by_global_norm(expected, 0.5), rel=1e-14)
    for name, gradient in grads.items():
        assert gradient.device == device
        on_cpu = np.asarray(strict.asarray(gradient, device=strict.Device("CPU_DEVICE")))
        np.testing.assert_array_equal(on_cpu, expected[name])


@pytest.mark.parametrize("limit", [0.0, -1.0, -math.inf, math.nan])
def test_limit_that_cannot_be(limit: float) -> None:
    grads = draw(0)
    with pytest.raises(ValueError, match=f"limit: received {limit}, expected a number above 0"):
        clip_by_global_norm(grads, limit)
    np.testing.assert_array_equal(grads["c"], draw(0)["c"])
    with pytest.raises(TypeError, match="limit: received None of type NoneType"):
        clip_by_global_norm(grads, None)


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "largest_error"), [(np.float32, 1e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize("limit", [0.01, 1.0, 4.0, 100.0])
def test_against_torch(dtype: Any, largest_error: float, limit: float) -> None:
    torch = require("torch")
    for seed in range(10):
        grads, params = draw(seed, dtype), []
        for gradient in draw(seed, dtype).values():
            params.append(torch.zeros(gradient.shape, dtype=torch.tensor(gradient).dtype))
            params[-1].grad = torch.tensor(gradient)
        norm = torch.nn.utils.clip_grad_norm_(params, limit)
        assert clip_by_global_norm(grads, limit) == pytest.approx(float(norm), rel=largest_error)
        for gradient, param in zip(grads.values(), params, strict=True):
            np.testing.assert_allclose(gradient, param.grad.numpy(), rtol=largest_error)


def test_epsilon_is_part_of_the_factor() -> None:
    grads = {"x": np.array([2e-6])}
    clip_by_global_norm(grads, 1e-6)
    assert grads["x"][0] == pytest.approx(2e-6 / 3, rel=1e-12)
    assert clipping.EPSILON == 1e-6
