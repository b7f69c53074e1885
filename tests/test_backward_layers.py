"""The backward of every layer: against differences in float64, over random shapes; and a mistake in any is seen."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple

import array_api_strict as strict
import numpy as np
import pytest
from derivatives import check_gradients, with_mistake
from hypothesis import given, settings
from hypothesis import strategies as st

import minineo.layers
from minineo.config import GPTNeoConfig
from minineo.layers import activations, attention, dropout, embedding, layer_norm, linear, losses, mlp, softmax
from minineo.tap import Recorder

DEVICE = strict.Device("device1")
Function = Callable[..., Any]


class Sizes(NamedTuple):
    """Lengths of the axes of a random problem."""

    B: int
    T: int
    D: int
    M: int
    H: int


SIZES = st.builds(Sizes, *[st.integers(1, 5)] * 5)


class Problem(NamedTuple):
    """A forward of some arrays, its backward, and the values of the arrays."""

    forward: Function
    backward: Function
    arrays: list[np.ndarray]


def draw(random: Any, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [random.standard_normal(shape) for shape in shapes]


# One problem for each backward ----------------------------------------------------------------------------------------


def linear_problem(backward: Function, random: Any, n: Sizes) -> Problem:
    arrays = draw(random, (n.B, n.T, n.D), (n.M, n.D), (n.M,))
    return Problem(linear.linear, lambda dy, x, weight, bias: backward(dy, x, weight, bias), arrays)


def embedding_problem(backward: Function, random: Any, n: Sizes) -> Problem:
    ids = random.integers(n.M, size=(n.B, n.T))
    return Problem(
        lambda weight: embedding.embedding(ids, weight),
        lambda dy, weight: (backward(dy, ids, weight),),
        draw(random, (n.M, n.D)),
    )


def layer_norm_problem(backward: Function, random: Any, n: Sizes) -> Problem:
    epsilon = random.uniform(0.01, 1.0)  # large enough to matter, and to keep differences smooth
    return Problem(
        lambda x, weight, bias: layer_norm.layer_norm(x, weight, bias, epsilon),
        lambda dy, x, weight, bias: backward(dy, x, weight, epsilon),
        draw(random, (n.B, n.T, n.D), (n.D,), (n.D,)),
    )


def from_result(forward: Function) -> Function:
    """The problem of a function whose backward reads its result."""
    return lambda backward, random, n: Problem(
        forward, lambda dy, x: (backward(dy, forward(x)),), [2.0 * random.standard_normal((n.B, n.T, n.D))]
    )


def from_input(forward: Function) -> Function:
    """The problem of an activation; values keep off 0, where relu has a corner."""

    def problem(backward: Function, random: Any, n: Sizes) -> Problem:
        x = 2.0 * random.standard_normal((n.B, n.T, n.D))
        return Problem(forward, lambda dy, x: (backward(dy, x),), [x + np.copysign(0.01, x)])

    return problem


def cross_entropy_problem(backward: Function, random: Any, n: Sizes) -> Problem:
    V = n.M + 1
    labels = random.integers(V, size=(n.B, n.T))
    ignored = [-100, V, 0][random.integers(3)]  # 0 is a class, too
    labels[random.uniform(size=labels.shape) < 0.3] = ignored
    labels[0, 0] = V - 1
    return Problem(
        lambda logits: losses.cross_entropy(logits, labels, ignored),
        lambda dloss, logits: (backward(dloss, logits, labels, ignored),),
        [2.0 * random.standard_normal((n.B, n.T, V))],
    )


def loss_problem(forward: Function, targets: Function) -> Function:
    def problem(backward: Function, random: Any, n: Sizes) -> Problem:
        labels = targets(random, (n.B, n.D))
        return Problem(
            lambda logits: forward(logits, labels),
            lambda dloss, logits: (backward(dloss, logits, labels),),
            [2.0 * random.standard_normal((n.B, n.D))],
        )

    return problem


def draw_masks(random: Any) -> dropout.Masks:
    """Masks of dropout, every other time."""
    config = GPTNeoConfig(embed_dropout=0.4, attention_dropout=0.3, resid_dropout=0.2)
    masks = dropout.DropoutMasks(config, int(random.integers(2**63)))
    return [masks, dropout.no_masks][random.integers(2)]


def dropout_problem(backward: Function, random: Any, n: Sizes) -> Problem:
    shape, masks = (n.B, n.T, n.D), draw_masks(random)
    return Problem(
        lambda x: dropout.dropout(x, masks("embed", shape, like=x)),
        lambda dy, x: (backward(dy, masks("embed", shape, like=x)),),
        draw(random, shape),
    )


def attention_problem(backward: Function, random: Any, n: Sizes) -> Problem:
    T, S = n.T, n.T + n.M - 1
    window = [None, 1 + int(random.integers(S))][random.integers(2)]
    # often so few are real that some queries see nothing but padding
    real = [None, random.uniform(size=(n.B, S)) < random.uniform()][random.integers(2)]
    masks = draw_masks(random)

    def backward_of(dz: Any, q: Any, k: Any, v: Any) -> Any:
        trace = Recorder()
        attention.attention(q, k, v, window, real, trace, masks)
        return backward(dz, q, k, v, trace["pattern"], real, masks)

    arrays = draw(random, (n.B, n.H, T, n.D), (n.B, n.H, S, n.D), (n.B, n.H, S, n.D))
    return Problem(lambda q, k, v: attention.attention(q, k, v, window, real, masks=masks), backward_of, arrays)


def mlp_problem(backward: Function, random: Any, n: Sizes) -> Problem:
    masks = draw_masks(random)

    def backward_of(dy: Any, *arrays: Any) -> Any:
        trace = Recorder()
        mlp.mlp(*arrays, activations.gelu_new, trace, masks)
        return backward(dy, *arrays, activations.gelu_new_backward, trace["pre"], trace["act"], masks)

    arrays = draw(random, (n.B, n.T, n.D), (n.M, n.D), (n.M,), (n.D, n.M), (n.D,))
    return Problem(lambda *arrays: mlp.mlp(*arrays, activations.gelu_new, masks=masks), backward_of, arrays)


def zeros_and_ones(random: Any, shape: tuple[int, ...]) -> np.ndarray:
    return random.integers(2, size=shape)


def numbers(random: Any, shape: tuple[int, ...]) -> np.ndarray:
    return random.standard_normal(shape)


PROBLEMS: dict[Function, Function] = {
    linear.linear_backward: linear_problem,
    embedding.embedding_backward: embedding_problem,
    layer_norm.layer_norm_backward: layer_norm_problem,
    softmax.softmax_backward: from_result(softmax.softmax),
    softmax.log_softmax_backward: from_result(softmax.log_softmax),
    losses.cross_entropy_backward: cross_entropy_problem,
    losses.mean_squared_error_backward: loss_problem(losses.mean_squared_error, numbers),
    losses.binary_cross_entropy_backward: loss_problem(losses.binary_cross_entropy, zeros_and_ones),
    dropout.dropout_backward: dropout_problem,
    attention.attention_backward: attention_problem,
    mlp.mlp_backward: mlp_problem,
} | {activations.ACTIVATIONS_BACKWARD[name]: from_input(forward) for name, forward in activations.ACTIVATIONS.items()}


def by_name(function: Function) -> str:
    return function.__name__


def check(backward: Function, problem: Function, seed: int, sizes: Sizes) -> None:
    random = np.random.default_rng(seed)
    forward, backward_of, arrays = problem(backward, random, sizes)
    check_gradients(forward, backward_of, arrays, random)


def check_seeds(backward: Function, problem: Function) -> None:
    for seed in range(20):
        check(backward, problem, seed, Sizes(2, 3, 4, 3, 2))


# Tests ----------------------------------------------------------------------------------------------------------------


def test_every_layer_has_a_backward_that_is_tested_here() -> None:
    modules = [import_module(f"minineo.layers.{module.name}") for module in iter_modules(minineo.layers.__path__)]
    found = {
        function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if name.endswith("_backward") and not name.startswith("_") and function.__module__ == module.__name__
    }
    assert found == set(PROBLEMS)
    assert activations.ACTIVATIONS_BACKWARD.keys() == activations.ACTIVATIONS.keys()
    for name, backward in activations.ACTIVATIONS_BACKWARD.items():
        assert backward.__name__ == f"{activations.ACTIVATIONS[name].__name__}_backward"


@pytest.mark.parametrize("backward", PROBLEMS, ids=by_name)
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), sizes=SIZES)
def test_gradients_are_slopes(backward: Function, seed: int, sizes: Sizes) -> None:
    check(backward, PROBLEMS[backward], seed, sizes)


@pytest.mark.parametrize("backward", PROBLEMS, ids=by_name)
def test_float32_stays_float32(backward: Function) -> None:
    """And is close to float64."""
    random = np.random.default_rng(0)
    forward, backward_of, arrays = PROBLEMS[backward](backward, random, Sizes(3, 4, 5, 3, 2))
    dy = random.standard_normal(np.shape(forward(*arrays)))
    expected = backward_of(dy, *arrays)
    narrow = backward_of(dy.astype(np.float32) if dy.ndim else np.float32(dy), *(a.astype(np.float32) for a in arrays))
    for one, other in zip(narrow, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


def test_a_linear_layer_without_bias_has_no_gradient_for_one() -> None:
    x, weight = np.ones((2, 3)), np.ones((4, 3))
    assert linear.linear_backward(np.ones((2, 4)), x, weight)[2] is None


def test_a_row_that_many_ids_share_collects_all_of_them_without_rounding() -> None:
    """Also next to rows whose gradients are a million times larger, and rows that nobody looked up get exactly 0."""
    random = np.random.default_rng(1)
    ids = random.choice([1, 4, 6], size=(50, 40)).astype(np.uint8)
    dy = random.standard_normal((50, 40, 3)).astype(np.float32)
    dy[ids == 1] *= 1e6
    weight = np.zeros((300, 3), np.float32)
    expected = np.zeros((300, 3))
    np.add.at(expected, ids, dy)
    actual = embedding.embedding_backward(dy, ids, weight)
    np.testing.assert_allclose(actual[[1, 4, 6]], expected[[1, 4, 6]], rtol=1e-6)
    np.testing.assert_array_equal(np.delete(actual, [1, 4, 6], axis=0), 0.0)


def test_where_all_labels_are_ignored_the_gradient_is_zero() -> None:
    logits = np.random.default_rng(2).standard_normal((2, 3))
    gradient = losses.cross_entropy_backward(1.0, logits, np.full(2, -100))
    np.testing.assert_array_equal(gradient, 0.0)


def test_softmax_in_float32_where_one_entry_takes_nearly_all() -> None:
    """With the weighted mean subtracted only once, some rows here keep only one digit of seven."""
    random = np.random.default_rng(3)
    x, dy = random.standard_normal((2, 100, 9))
    x[:, 0] += 12.0
    y = softmax.softmax(x)
    exact = softmax.softmax_backward(dy, y)
    narrow = softmax.softmax_backward(dy.astype(np.float32), y.astype(np.float32))
    error = np.abs(narrow - exact).max(axis=-1) / np.abs(exact).max(axis=-1)
    assert error.max() < 1e-6


@pytest.mark.parametrize("large", [1e3, 1e4])
def test_large_logits_do_not_overflow(large: float) -> None:
    logits = np.array([[large, -large, 0.0]])
    assert np.isfinite(losses.binary_cross_entropy_backward(1.0, logits, np.array([[0, 1, 1]]))).all()
    assert np.isfinite(losses.cross_entropy_backward(1.0, logits, np.array([1]))).all()
    for backward in activations.ACTIVATIONS_BACKWARD.values():
        assert np.isfinite(backward(np.ones((1, 3)), logits)).all()


@pytest.mark.parametrize("backward", PROBLEMS, ids=by_name)
def test_on_the_second_device_of_a_strict_library(backward: Function) -> None:
    def move(value: Any) -> Any:
        return strict.asarray(value, device=DEVICE) if isinstance(value, np.ndarray | np.generic) else value

    def moved(*arguments: Any) -> Any:
        result = backward(*(move(argument) for argument in arguments))
        results = result if isinstance(result, tuple) else (result,)
        assert all(array.device == DEVICE for array in results)
        arrays = tuple(np.asarray(strict.asarray(array, device=strict.Device("CPU_DEVICE"))) for array in results)
        return arrays if isinstance(result, tuple) else arrays[0]

    for seed in range(4):
        check(moved, PROBLEMS[backward], seed, Sizes(2, 3, 4, 3, 2))


# Planted mistakes -----------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[Function, str, str]] = [
    (linear.linear_backward, "dy_rows.T @ x_rows", "-(dy_rows.T @ x_rows)"),
    (linear.linear_backward, "xp.sum(dy_rows, axis=0)", "xp.mean(dy_rows, axis=0)"),
    (linear.linear_backward, "dy_rows @ weight", "dy_rows @ weight[::-1]"),
    (embedding.embedding_backward, '("left", "right")', '("left", "left")'),
    (embedding.embedding_backward, "xp.take(xp.reshape(dy, (-1, D)), order, axis=0)", "xp.reshape(dy, (-1, D))"),
    (layer_norm.layer_norm_backward, "- along_one", ""),
    (layer_norm.layer_norm_backward, "- normalised * along_row", ""),
    (layer_norm.layer_norm_backward, "- normalised * along_row", "+ normalised * along_row"),
    (layer_norm.layer_norm_backward, "dnormalised = dy * weight", "dnormalised = dy"),
    (layer_norm.layer_norm_backward, " + epsilon", ""),
    (layer_norm.layer_norm_backward, "dy * normalised", "dy * centred"),
    (layer_norm.layer_norm_backward, "xp.reshape(dy, (-1, D))", "xp.reshape(dnormalised, (-1, D))"),
    (softmax.softmax_backward, "dy - xp.sum", "dy + xp.sum"),
    (softmax.softmax_backward, "range(2)", "range(0)"),
    (softmax.log_softmax_backward, "xp.exp(y) * ", ""),
    (softmax.log_softmax_backward, "dy - xp.exp(y)", "dy + xp.exp(y)"),
    (losses.cross_entropy_backward, "kept[..., None] & ", ""),
    (losses.cross_entropy_backward, "-dloss / count", "-dloss / labels.size"),
    (losses.cross_entropy_backward, "-dloss", "-1.0"),
    (losses.mean_squared_error_backward, "2.0 * ", ""),
    (losses.mean_squared_error_backward, " / math.prod(wide.shape)", ""),
    (losses.binary_cross_entropy_backward, "sigmoid - targets", "targets - sigmoid"),
    (losses.binary_cross_entropy_backward, "xp.where(wide > 0.0, xp.ones_like(wide), small)", "1.0"),
    (activations.gelu_backward, " + x * bell", ""),
    (activations.gelu_backward, "-0.5 * x * x", "-x * x"),
    (activations.gelu_new_backward, "2.0 / math.pi", "1.0 / math.pi"),
    (activations.gelu_fast_backward, "0.7978845608", "0.79"),
    (activations.relu_backward, "x > 0.0, dy, xp.zeros_like(dy)", "x > 0.0, xp.ones_like(dy), xp.zeros_like(dy)"),
    (activations.silu_backward, " * (1.0 + x * (1.0 - sigmoid))", ""),
    (activations.silu_backward, "x * (1.0", "-x * (1.0"),
    (activations.tanh_backward, "y * y", "y"),
    (attention.attention_backward, "xp.matrix_transpose(dscores) @ wide_q", "dscores[..., : q.shape[2]] @ wide_q"),
    (attention.attention_backward, "softmax_backward(dpattern, pattern)", "pattern * dpattern"),
    (attention.attention_backward, "dscores @ wide_k", "-dscores @ wide_k"),
    (
        attention.attention_backward,
        "xp.matrix_transpose(dropout(pattern, mask)) @ wide_dz",
        "pattern[..., :, :1] * wide_dz",
    ),
    (attention.attention_backward, "if real is not None", "if False"),
    (attention.attention_backward, "dropout(pattern, mask)", "pattern"),
    (
        attention.attention_backward,
        "dropout_backward(wide_dz @ xp.matrix_transpose(wide_v), mask)",
        "wide_dz @ xp.matrix_transpose(wide_v)",
    ),
    (
        attention.attention_backward,
        "softmax_backward(dpattern, pattern)",
        "softmax_backward(dpattern, dropout(pattern, mask))",
    ),
    (dropout.dropout_backward, "dy * mask", "dy"),
    (dropout.dropout_backward, "dy * mask", "dy * (mask > 0)"),
    (dropout.dropout_backward, "dy * mask", "dy * mask * mask"),
    (mlp.mlp_backward, "activation_backward(at_least_float32(dact), at_least_float32(pre))", "dact"),
    (mlp.mlp_backward, "at_least_float32(pre))", "at_least_float32(act))"),
    (mlp.mlp_backward, "linear_backward(dout, ", "linear_backward(dy, "),
    (mlp.mlp_backward, "return dx, dc_fc_weight", "return -dx, dc_fc_weight"),
]


@pytest.mark.parametrize(("backward", "right", "wrong"), MISTAKES)
def test_a_planted_mistake_is_seen(backward: Function, right: str, wrong: str) -> None:
    planted = with_mistake(backward, right, wrong)
    check_seeds(backward, PROBLEMS[backward])
    with pytest.raises((AssertionError, ValueError)):
        check_seeds(planted, PROBLEMS[backward])


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("1.0 - t * t", "1.0 + t * t"), ("3.0 * 0.044715", "0.044715"), ("0.5 * (1.0 + t) + ", ""), (" * du", "")],
)
def test_a_mistake_in_what_two_forms_of_gelu_share_is_seen(
    monkeypatch: pytest.MonkeyPatch, right: str, wrong: str
) -> None:
    planted = with_mistake(activations._gelu_tanh_backward, right, wrong)
    monkeypatch.setattr(activations, "_gelu_tanh_backward", planted)
    for backward in (activations.gelu_new_backward, activations.gelu_fast_backward):
        with pytest.raises(AssertionError):
            check(backward, PROBLEMS[backward], 0, Sizes(2, 3, 4, 3, 2))


def test_each_backward_has_a_planted_mistake() -> None:
    assert {backward for backward, _, _ in MISTAKES} == set(PROBLEMS)
