"""Optimisers: each against its formula and against torch, over steps; and a mistake in any rule is seen."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from conftest import require
from derivatives import with_mistake
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ALL_CLASSES, tiny, tokens

from minineo.classes import GPTNeoForCausalLM
from minineo.training import optimisers, updates
from minineo.training.optimisers import SGD, AdamW, Muon, default_decay, is_matrix_in_block

Arrays = dict[str, np.ndarray]
Make = Callable[..., Any]

STEPS = 20
# One of each kind: matrices in a block (wide, tall), its bias and norm, embeddings, the last norm, a head.
SHAPES = {
    "transformer.wte.weight": (7, 4),
    "transformer.wpe.weight": (5, 4),
    "transformer.h.0.ln_1.weight": (4,),
    "transformer.h.0.attn.attention.q_proj.weight": (4, 4),
    "transformer.h.11.mlp.c_fc.weight": (16, 4),
    "transformer.h.11.mlp.c_fc.bias": (16,),
    "transformer.h.11.mlp.c_proj.weight": (4, 16),
    "transformer.ln_f.bias": (4,),
    "score.weight": (3, 4),
}
DECAYED = ["q_proj.weight", "c_fc.weight", "c_proj.weight", "score.weight"]
IN_BLOCK = DECAYED[:3]
OPTIMISERS: list[Make] = [
    lambda: SGD(),
    lambda: SGD(momentum=0.9, weight_decay=0.1),
    lambda: AdamW(betas=(0.8, 0.95), epsilon=1e-3, weight_decay=0.1),
    lambda: Muon(momentum=0.8, betas=(0.8, 0.95), epsilon=1e-3, weight_decay=0.1),
]
ALL = pytest.mark.parametrize("make", OPTIMISERS, ids=["SGD", "SGD with momentum", "AdamW", "Muon"])


def draw(seed: int, dtype: Any = np.float64, shapes: dict[str, tuple[int, ...]] = SHAPES) -> Arrays:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def gradients(step: int, dtype: Any = np.float64) -> Arrays:
    """Other ones, and of another size, in each step."""
    return {name: (0.5 + step % 3) * gradient for name, gradient in draw(1000 + step, dtype).items()}


def rate(step: int) -> float:
    return 0.01 * (1 + step % 4)


def run(optimiser: Any, dtype: Any = np.float64, start: int = 0, end: int = STEPS, params: Any = None) -> Arrays:
    params = draw(0, dtype) if params is None else params
    for step in range(start, end):
        optimiser.step(params, gradients(step, dtype), rate(step))
    return params


def largest_difference(actual: Arrays, expected: Arrays) -> float:
    """As a part of the parameter's largest value."""
    assert actual.keys() == expected.keys()
    return max(float(np.abs(actual[name] - x).max() / np.abs(x).max()) for name, x in expected.items())


# Which parameters -----------------------------------------------------------------------------------------------------


def test_decay_applies_to_matrices_of_linear_layers() -> None:
    assert [name for name, array in draw(0).items() if default_decay(name, array)] == [
        name for name in SHAPES if name.endswith(tuple(DECAYED))
    ]


@pytest.mark.parametrize("cls", ALL_CLASSES)
def test_decay_and_muon_in_every_head(cls: Any) -> None:
    params = tiny(cls, tie_word_embeddings=False).params
    linear = ["q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj"]
    heads = {"score", "classifier", "qa_outputs", "lm_head"}
    decayed = {tuple(name.split(".")[-2:]) for name, array in params.items() if default_decay(name, array)}
    own_head = {name.split(".")[0] for name in params} & heads
    assert decayed == {(layer, "weight") for layer in {*linear, *own_head}}
    orthogonal = [name for name, array in params.items() if is_matrix_in_block(name, array)]
    assert len(orthogonal) == 2 * len(linear)
    assert {name.split(".")[-2] for name in orthogonal} == set(linear)


@ALL
def test_decays_chooses_the_parameters(make: Make) -> None:
    """Without a gradient only the decayed parameters move (but for momentum, of which there is none yet)."""
    optimiser = make()
    optimiser.weight_decay, optimiser.decays = 0.5, lambda name, array: array.ndim == 1
    params = draw(0)
    optimiser.step(params, {name: np.zeros(shape) for name, shape in SHAPES.items()}, 0.1)
    for name, before in draw(0).items():
        np.testing.assert_allclose(params[name], before * (0.95 if before.ndim == 1 else 1.0), rtol=1e-12)


# The formulas, written otherwise: each moment as a sum over all steps before ------------------------------------------


@cache
def sgd_by_sums(momentum: float, weight_decay: float) -> Arrays:
    params, pushes = draw(0), []
    for step in range(STEPS):
        grads = gradients(step)
        pushes.append({name: grads[name] + weight_decay * decayed(name) * x for name, x in params.items()})
        for name in params:
            velocity = sum(momentum ** (step - s) * push[name] for s, push in enumerate(pushes))
            params[name] = params[name] - rate(step) * velocity
    return params


@cache
def adamw_by_sums(betas: tuple[float, float], epsilon: float, weight_decay: float) -> Arrays:
    params = draw(0)
    for step in range(STEPS):
        for name, x in params.items():
            seen = [gradients(s)[name] for s in range(step + 1)]
            shrunk = x - rate(step) * weight_decay * decayed(name) * x
            # Weighted means, with weights that sum to one: what the bias correction makes of the averages
            mean = np.average(seen, axis=0, weights=[betas[0] ** (step - s) for s in range(step + 1)])
            square = np.average(np.square(seen), axis=0, weights=[betas[1] ** (step - s) for s in range(step + 1)])
            params[name] = shrunk - rate(step) * mean / (np.sqrt(square) + epsilon)
    return params


@cache
def muon_by_svd(momentum: float, weight_decay: float) -> Arrays:
    params = {name: array for name, array in draw(0).items() if name.endswith(tuple(IN_BLOCK))}
    for step in range(STEPS):
        for name, x in params.items():
            seen = [gradients(s)[name] for s in range(step + 1)]
            average = sum((1 - momentum) * momentum ** (step - s) * gradient for s, gradient in enumerate(seen))
            update = orthogonal_by_svd((1 - momentum) * seen[-1] + momentum * average)
            scale = 0.2 * math.sqrt(max(x.shape))
            params[name] = x - rate(step) * weight_decay * x - rate(step) * scale * update
    return params


def orthogonal_by_svd(matrix: np.ndarray) -> np.ndarray:
    U, S, Vt = np.linalg.svd(matrix, full_matrices=False)
    S = S / max(math.sqrt(float(np.sum(S * S))), 1e-7)
    for _ in range(5):
        S = 3.4445 * S - 4.7750 * S**3 + 2.0315 * S**5
    return U * S @ Vt


def decayed(name: str) -> bool:
    return name.endswith(tuple(DECAYED))


def check_sgd() -> None:
    assert largest_difference(run(SGD(weight_decay=0.1)), sgd_by_sums(0.0, 0.1)) < 1e-12
    assert largest_difference(run(SGD(momentum=0.9, weight_decay=0.1)), sgd_by_sums(0.9, 0.1)) < 1e-12


def check_adamw() -> None:
    assert largest_difference(run(AdamW()), adamw_by_sums((0.9, 0.999), 1e-8, 0.01)) < 1e-12
    # an epsilon as large as gradients are, so that its place matters
    assert largest_difference(run(AdamW((0.8, 0.95), 0.3, 0.5)), adamw_by_sums((0.8, 0.95), 0.3, 0.5)) < 1e-12


def check_muon() -> None:
    params = run(Muon(momentum=0.8, betas=(0.7, 0.9), epsilon=0.1, weight_decay=0.5))
    expected = adamw_by_sums((0.7, 0.9), 0.1, 0.5) | muon_by_svd(0.8, 0.5)
    assert largest_difference(params, expected) < 1e-12


def test_sgd() -> None:
    check_sgd()


def test_adamw() -> None:
    check_adamw()


def test_muon() -> None:
    check_muon()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32), st.sampled_from([1e-3, 1.0, 1e3]))
@settings(max_examples=30, deadline=None)
def test_orthogonalise_acts_on_singular_values_only(N: int, M: int, seed: int, size: float) -> None:
    matrix = size * np.random.default_rng(seed).standard_normal((N, M))
    before = matrix.copy()
    result = updates.orthogonalise(matrix)
    assert result.shape == (N, M)
    np.testing.assert_array_equal(matrix, before)
    # The iteration lifts rounding, too: by 3.4445 in each of the five steps where a singular value is near 0
    np.testing.assert_allclose(result, orthogonal_by_svd(matrix), atol=1e-12)
    np.testing.assert_allclose(result, updates.orthogonalise(matrix.T).T, atol=1e-12)


def test_orthogonalise_brings_singular_values_near_one() -> None:
    random = np.random.default_rng(0)
    U, V = (np.linalg.qr(random.standard_normal((20, 20)))[0] for _ in range(2))
    values = np.geomspace(0.01, 1.0, 20)
    singular = np.linalg.svd(updates.orthogonalise((U * values / np.linalg.norm(values)) @ V), compute_uv=False)
    assert singular.min() > 0.68
    assert singular.max() < 1.21


# Planted mistakes -----------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[Any, str, str, Callable[[], None]]] = [
    (updates.sgd, " + decay * param", "", check_sgd),
    (updates.sgd, "param -=", "param +=", check_sgd),
    (updates.sgd_with_momentum, "velocity += gradient", "velocity += (1.0 - momentum) * gradient", check_sgd),
    (updates.sgd_with_momentum, "gradient + decay * param", "gradient", check_sgd),
    (
        updates.sgd_with_momentum,
        "param -= learning_rate * velocity",
        "param -= learning_rate * (velocity + decay * param)",
        check_sgd,
    ),
    (updates.adamw, "1.0 - betas[0] ** step", "1.0", check_adamw),
    (updates.adamw, "1.0 - betas[1] ** step", "1.0", check_adamw),
    (updates.adamw, "1.0 - betas[1] ** step", "1.0 - betas[1] ** (step + 1)", check_adamw),
    (updates.adamw, "first *= betas[0]", "first *= betas[1]", check_adamw),
    (updates.adamw, "(1.0 - betas[1]) * gradient * gradient", "(1.0 - betas[1]) * abs(gradient)", check_adamw),
    (updates.adamw, "1.0 - learning_rate * decay", "1.0 - decay", check_adamw),
    (updates.adamw, "param *= 1.0 - learning_rate * decay", "gradient = gradient + decay * param", check_adamw),
    (updates.adamw, " + epsilon", "", check_adamw),
    (updates.adamw, "math.sqrt(correction2) + epsilon", "(math.sqrt(correction2) + epsilon)", check_adamw),
    (updates.muon, "(1.0 - momentum) * gradient + momentum * average", "average", check_muon),
    (updates.muon, "ADAMW_RMS * ", "", check_muon),
    (updates.muon, "max(param.shape)", "param.shape[0]", check_muon),
    (updates.muon, "1.0 - learning_rate * decay", "1.0", check_muon),
    (updates.orthogonalise, "if is_tall else matrix", "if not is_tall else matrix", check_muon),
    (updates.orthogonalise, "C * (gram @ gram)", "C * gram", check_muon),
    (updates.orthogonalise, "range(ITERATIONS)", "range(ITERATIONS - 1)", check_muon),
    (optimisers.default_decay, "array.ndim == 2 and ", "", check_adamw),
    (optimisers.default_decay, " and not name.endswith(EMBEDDINGS)", "", check_adamw),
    (optimisers.is_matrix_in_block, " and IN_BLOCK.search(name) is not None", "", check_muon),
]


@pytest.mark.parametrize(("function", "right", "wrong", "check"), MISTAKES)
def test_a_planted_mistake_is_seen(
    function: Any, right: str, wrong: str, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = with_mistake(function, right, wrong)
    monkeypatch.setattr(updates if hasattr(updates, function.__name__) else optimisers, function.__name__, planted)
    if function is default_decay:  # bound as a default value before it was planted
        monkeypatch.setattr(AdamW.__init__, "__defaults__", (*AdamW.__init__.__defaults__[:-1], planted))
    with pytest.raises((AssertionError, ValueError)):
        check()


# In place, in pieces, in any library ----------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_change_in_place_and_gradients_do_not(make: Make, dtype: Any) -> None:
    params, grads, optimiser = draw(0, dtype), gradients(0, dtype), make()
    arrays = dict(params)
    for _ in range(2):
        optimiser.step(params, grads, 0.1)
    for name, array in params.items():
        assert array is arrays[name]
        assert array.dtype == dtype
        assert np.any(array != draw(0, dtype)[name])
        np.testing.assert_array_equal(grads[name], gradients(0, dtype)[name])
    assert all(array.dtype == dtype for array in optimiser.state.values())
    assert optimiser.steps == 2


@ALL
def test_float32_is_float64_but_for_rounding(make: Make) -> None:
    assert largest_difference(run(make(), np.float32), run(make())) < 1e-5


@ALL
def test_pieces_give_the_same_bits(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(make(), np.float32)
    monkeypatch.setattr("minineo.fast.pieces.PIECE", 8)
    in_pieces = run(make(), np.float32)
    for name, array in whole.items():
        np.testing.assert_array_equal(in_pieces[name], array)


@ALL
def test_threads_give_the_same_bits(make: Make) -> None:
    params, expected, optimiser = draw(0), run(make()), make()
    with ThreadPoolExecutor(3) as threads:
        for step in range(STEPS):
            optimiser.step(params, gradients(step), rate(step), threads.map)
    assert all(np.array_equal(params[name], x) for name, x in expected.items())


@ALL
def test_views_and_unusual_shapes(make: Make) -> None:
    shapes = {"a": (), "b": (0, 3), "c": (3, 0), "d": (2, 3, 4), "e": (6,), "h.0.f.weight": (5, 3)}
    plain, grads = draw(0, shapes=shapes), draw(1, shapes=shapes)
    views = {name: np.repeat(array[..., None], 2, axis=-1)[..., 0] for name, array in plain.items()}
    views["d"], views["h.0.f.weight"] = views["d"].copy("F"), views["h.0.f.weight"].copy("F")
    one, other = make(), make()
    for _ in range(3):
        one.step(plain, grads, 0.1)
        other.step(views, grads, 0.1)
    for name, array in plain.items():
        np.testing.assert_allclose(views[name], array, rtol=1e-12)
        assert array.size == 0 or np.any(array != draw(0, shapes=shapes)[name])


@ALL
def test_on_the_second_device_of_a_strict_library(make: Make) -> None:
    device, cpu = strict.Device("device1"), strict.Device("CPU_DEVICE")
    params = {name: strict.asarray(array, device=device, copy=True) for name, array in draw(0, np.float32).items()}
    optimiser = make()
    for step in range(3):
        grads = {name: strict.asarray(x, device=device) for name, x in gradients(step, np.float32).items()}
        optimiser.step(params, grads, rate(step))
    assert all(array.device == device for array in [*params.values(), *optimiser.state.values()])
    moved = {name: np.asarray(strict.asarray(array, device=cpu)) for name, array in params.items()}
    assert largest_difference(moved, run(make(), np.float32, end=3)) < 1e-6


@pytest.mark.parametrize("make", OPTIMISERS[:3], ids=["SGD", "SGD with momentum", "AdamW"])
def test_scratch_memory_is_small(make: Make) -> None:
    shape = {"h.0.x.weight": (1024, 1024)}
    params, grads, optimiser = draw(0, np.float32, shape), draw(1, np.float32, shape), make()
    optimiser.step(params, grads, 0.1)
    tracemalloc.start()
    try:
        optimiser.step(params, grads, 0.1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < params["h.0.x.weight"].nbytes / 4


@ALL
def test_a_model_learns(make: Make) -> None:
    model, ids = tiny(GPTNeoForCausalLM), tokens(2, 8)
    optimiser, losses = make(), []
    for _ in range(30):
        loss, grads = model.loss_and_grads(ids, labels=ids)
        losses.append(float(loss))
        optimiser.step(model.params, grads, 0.02)
    assert losses[-1] < 0.5 * losses[0]


# State ----------------------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("half", [0, 1, STEPS // 2])
def test_a_loaded_state_goes_on_bit_for_bit(make: Make, half: int) -> None:
    whole, first, second = make(), make(), make()
    expected = run(whole, np.float32)
    params = run(first, np.float32, end=half)
    saved = {name: array.copy() for name, array in first.state.items()}
    for array in saved.values():
        array.flags.writeable = False  # as arrays of a memory-mapped file are
    second.load_state(saved, first.steps, params)
    run(second, np.float32, start=half, params=params)
    assert second.steps == STEPS
    for name, array in expected.items():
        np.testing.assert_array_equal(params[name], array)
    assert second.state.keys() == whole.state.keys()
    for name, array in whole.state.items():
        np.testing.assert_array_equal(second.state[name], array)


def test_names_of_the_state() -> None:
    q, bias = "transformer.h.0.attn.attention.q_proj.weight", "transformer.h.11.mlp.c_fc.bias"
    states: dict[str, set[str]] = {}
    for name, make in zip(["SGD", "momentum", "AdamW", "Muon"], OPTIMISERS, strict=True):
        optimiser = make()
        run(optimiser, end=1)
        assert all(optimiser.state[key].shape == SHAPES[key.rpartition(".")[0]] for key in optimiser.state)
        states[name] = set(optimiser.state)
    assert states["SGD"] == set()
    assert states["momentum"] == {f"{name}.momentum" for name in SHAPES}
    assert states["AdamW"] == {f"{name}.{moment}_moment" for name in SHAPES for moment in ("first", "second")}
    assert {key for key in states["Muon"] if key.startswith((q, bias))} == {
        f"{q}.momentum",
        f"{bias}.first_moment",
        f"{bias}.second_moment",
    }


def without(state: Arrays, part: str) -> Arrays:
    return {key: array for key, array in state.items() if part not in key}


@pytest.mark.parametrize("at_once", [True, False], ids=["when loaded", "in the next step"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: without(state, "wte.weight.second"), r"1 missing \(transformer.wte.weight.second_moment\)"),
        (lambda state: state | {"x.first_moment": np.zeros(3)}, r"1 unknown \(x.first_moment\)"),
        (lambda state: state | {"score.weight.first_moment": np.zeros((4, 3))}, r"shape \(4, 3\).*expected \(3, 4\)"),
        (lambda state: state | {"score.weight.first_moment": np.zeros((3, 4), np.float32)}, "float32, expected .*64"),
        (lambda state: {}, r"18 missing \(transformer.wte.weight.first_moment.*, \.\.\.\)"),
    ],
)
def test_a_state_of_another_model(change: Any, message: str, at_once: bool) -> None:
    optimiser = AdamW()
    run(optimiser, end=2)
    state, other, params = change(dict(optimiser.state)), AdamW(), draw(0)
    if at_once:
        with pytest.raises(ValueError, match=message):
            other.load_state(state, 2, params)
        assert (other.state, other.steps) == ({}, 0)
    else:
        other.load_state(state, 2)
        with pytest.raises(ValueError, match=message):
            other.step(params, gradients(2), 0.1)
        assert other.steps == 2
        assert largest_difference(params, draw(0)) == 0.0


def test_a_state_of_another_optimiser() -> None:
    momentum = SGD(momentum=0.9)
    run(momentum, end=1)
    with pytest.raises(ValueError, match=r"'transformer.wte.weight.momentum', but this AdamW keeps .*first_moment"):
        AdamW().load_state(momentum.state, 1)
    with pytest.raises(ValueError, match="this SGD keeps nothing"):
        SGD().load_state(momentum.state, 1)
    with pytest.raises(ValueError, match="steps: received -1"):
        momentum.load_state({}, -1)
    with pytest.raises(TypeError, match=r"steps: received 1\.0 of type float"):
        momentum.load_state({}, 1.0)


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [SGD, AdamW, Muon])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_weight_decay_that_cannot_be(make: Make, value: float) -> None:
    with pytest.raises(ValueError, match=f"weight_decay: received {value}, expected a finite number that is not neg"):
        make(weight_decay=value)


@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, math.nan])
def test_averages_that_cannot_be(value: float) -> None:
    for name, make in {
        "momentum": lambda: SGD(momentum=value),
        r"betas\[0\]": lambda: AdamW(betas=(value, 0.9)),
        r"betas\[1\]": lambda: Muon(betas=(0.9, value)),
    }.items():
        with pytest.raises(ValueError, match=f"{name}: received {value}, expected a number from 0"):
            make()
    with pytest.raises(ValueError, match=r"momentum: received"):
        Muon(momentum=value)


@pytest.mark.parametrize("value", [0.0, -1e-8, math.nan])
def test_epsilon_that_cannot_be(value: float) -> None:
    with pytest.raises(ValueError, match=r"epsilon: received .*, expected a finite number above 0"):
        AdamW(epsilon=value)


def test_values_of_the_wrong_type() -> None:
    with pytest.raises(TypeError, match=r"weight_decay: received '0\.1' of type str"):
        AdamW(weight_decay="0.1")
    with pytest.raises(TypeError, match="momentum: received True"):
        SGD(momentum=True)
    with pytest.raises(TypeError, match=r"betas: received 0\.9, expected two numbers"):
        AdamW(betas=0.9)
    with pytest.raises(TypeError, match=r"decays: received .* expected a function"):
        AdamW(decays=["wte"])


@ALL
def test_numbers_of_numpy_do_not_widen(make: Make) -> None:
    optimiser = AdamW((np.float64(0.8), np.float32(0.5)), np.float64(1e-3), np.float64(0.1))
    params = draw(0, np.float32)
    optimiser.step(params, gradients(0, np.float32), np.float64(0.1))
    assert {type(value) for value in (*optimiser.betas, optimiser.epsilon, optimiser.weight_decay)} == {float}
    make().step(params, gradients(0, np.float32), np.float64(0.1))
    assert {array.dtype for array in params.values()} == {np.dtype(np.float32)}


def replaced(name: str, value: Any) -> Callable[[Arrays], Arrays]:
    return lambda arrays: arrays | {name: value}


Q, WTE = "transformer.h.0.attn.attention.q_proj.weight", "transformer.wte.weight"
READ_ONLY = np.broadcast_to(1.0, (4, 4))


@ALL
@pytest.mark.parametrize(
    ("which", "change", "error", "message"),
    [
        ("grads", lambda grads: without(grads, "wte"), ValueError, r"grads: 1 missing \(transformer.wte.weight\)"),
        (
            "grads",
            replaced("lm_head.weight", np.ones(3)),
            ValueError,
            r"1 unknown \(lm_head.weight\), expected exactly",
        ),
        ("params", lambda params: without(params, "h.0"), ValueError, "grads: 2 unknown"),
        ("grads", replaced(Q, np.ones((4, 1))), ValueError, r"q_proj.weight'\]: received shape \(4, 1\)"),
        ("grads", replaced(Q, np.ones((4, 4), np.float32)), ValueError, "float32, expected .* float64"),
        ("grads", replaced(Q, strict.ones((4, 4))), TypeError, "array of array_api_strict, expected one of numpy"),
        ("params", replaced(Q, READ_ONLY), ValueError, r"q_proj.weight'\]: received an array that cannot be changed"),
        ("both", replaced(Q, np.ones((4, 4), np.float16)), ValueError, "received float16, expected float32 or float64"),
        ("both", replaced(Q, np.ones((4, 4), np.int64)), ValueError, "received int64, expected float32 or float64"),
    ],
)
def test_parameters_and_gradients_that_do_not_fit(
    make: Make, which: str, change: Any, error: Any, message: str
) -> None:
    optimiser, params, grads = make(), draw(0), gradients(0)
    params, bad_params = params, change(dict(params)) if which in ("params", "both") else params
    bad_grads = change(dict(grads)) if which in ("grads", "both") else grads
    with pytest.raises(error, match=message):
        optimiser.step(bad_params, bad_grads, 0.1)
    assert (optimiser.state, optimiser.steps) == ({}, 0)
    assert largest_difference(params, draw(0)) == 0.0


@ALL
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_learning_rate_that_cannot_be(make: Make, value: float) -> None:
    params = draw(0)
    with pytest.raises(ValueError, match=f"learning_rate: received {value}"):
        make().step(params, gradients(0), value)
    assert largest_difference(params, draw(0)) == 0.0


@ALL
def test_learning_rate_zero_changes_the_state_only(make: Make) -> None:
    optimiser, params = make(), draw(0)
    optimiser.step(params, gradients(0), 0.0)
    assert largest_difference(params, draw(0)) == 0.0
    assert all(np.any(array) for array in optimiser.state.values())


# torch ----------------------------------------------------------------------------------------------------------------

LARGEST_TORCH_ERROR = {np.float32: 1e-5, np.float64: 1e-12}
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def run_torch(make: Callable[[Any, dict[str, Any]], list[Any]], dtype: Any) -> Arrays:
    """Parameters after the steps with torch's optimisers, which `make(torch, params)` gives."""
    torch = require("torch")
    params = {name: torch.tensor(array, requires_grad=True) for name, array in draw(0, dtype).items()}
    its_optimisers = make(torch, params)
    for step in range(STEPS):
        for name, gradient in gradients(step, dtype).items():
            params[name].grad = torch.tensor(gradient)
        for optimiser in its_optimisers:
            optimiser.param_groups[0]["lr"] = optimiser.param_groups[-1]["lr"] = rate(step)
            optimiser.step()
    return {name: param.detach().numpy() for name, param in params.items()}


def groups(params: dict[str, Any], weight_decay: float) -> list[dict[str, Any]]:
    """Torch's way to decay some parameters only."""
    return [
        {"params": [param for name, param in params.items() if decayed(name)], "weight_decay": weight_decay},
        {"params": [param for name, param in params.items() if not decayed(name)], "weight_decay": 0.0},
    ]


@pytest.mark.oracle
@BOTH
def test_adamw_and_its_defaults_against_torch(dtype: Any) -> None:
    expected = run_torch(lambda torch, params: [torch.optim.AdamW(params.values())], dtype)
    params = run(AdamW(decays=lambda name, array: True), dtype)
    assert largest_difference(params, expected) < LARGEST_TORCH_ERROR[dtype]


@pytest.mark.oracle
@BOTH
def test_adamw_against_torch_with_two_groups(dtype: Any) -> None:
    expected = run_torch(
        lambda torch, params: [torch.optim.AdamW(groups(params, 0.5), betas=(0.8, 0.95), eps=0.1)], dtype
    )
    assert largest_difference(run(AdamW((0.8, 0.95), 0.1, 0.5), dtype), expected) < LARGEST_TORCH_ERROR[dtype]


@pytest.mark.oracle
@BOTH
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_against_torch(dtype: Any, momentum: float) -> None:
    expected = run_torch(lambda torch, params: [torch.optim.SGD(groups(params, 0.5), momentum=momentum)], dtype)
    assert largest_difference(run(SGD(momentum, 0.5), dtype), expected) < LARGEST_TORCH_ERROR[dtype]


def torch_muon(torch: Any, params: dict[str, Any]) -> list[Any]:
    matrices = {name: param for name, param in params.items() if name.endswith(tuple(IN_BLOCK))}
    others = {name: param for name, param in params.items() if name not in matrices}
    return [
        torch.optim.Muon(matrices.values(), weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups(others, 0.1)),
    ]


@pytest.mark.oracle
@BOTH
def test_muon_against_torch_in_full_precision(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own code with one change: its Newton-Schulz iteration does not round to bfloat16."""
    monkeypatch.setattr(require("torch").Tensor, "bfloat16", lambda tensor: tensor.clone())
    expected = run_torch(torch_muon, dtype)
    assert largest_difference(run(Muon(momentum=0.9), dtype), expected) < LARGEST_TORCH_ERROR[dtype]


@pytest.mark.oracle
def test_muon_against_torch_as_it_is() -> None:
    """In bfloat16, of 8 bits, torch's parameters are elsewhere by less than a hundredth of the way that they went."""
    start, expected, params = draw(0), run_torch(torch_muon, np.float64), run(Muon(momentum=0.9))
    for name, array in params.items():
        way = np.linalg.norm(expected[name] - start[name])
        assert np.linalg.norm(array - expected[name]) < 0.01 * way, name
