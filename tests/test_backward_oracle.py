"""The gradients of every head by all its parameters, against torch and transformers.

The largest error of each parameter's gradient is below 1e-5 of its largest value in float32, 1e-9 in float64. Where
float32 itself is coarser than that, both are compared with transformers in float64, and minineo may be no farther from
it than 4 times what transformers is, there or in a model that differs by rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType
from typing import Any

import numpy as np
import pytest
from conftest import require
from labelled_models import HEADS, Inputs, draw_case, draw_masks, shape_of
from random_models import LAYERS, computing_with

from minineo.config import GPTNeoConfig
from minineo.layers.attention import visible
from minineo.layers.dropout import Masks, no_masks

pytestmark = pytest.mark.oracle

LARGEST_TORCH_ERROR = {np.float32: 1e-5, np.float64: 1e-9}
TIMES_THEIR_ERROR = 4


@pytest.fixture(scope="module")
def oracle() -> Any:
    require("torch")
    require("transformers")
    import hugging_face

    return hugging_face


class Errors:
    """The largest errors by class and dtype, shown at the end of the test run: release notes quote them."""

    def __init__(self) -> None:
        self.largest: dict[tuple[str, str, str], float] = {}
        self.configurations: dict[tuple[str, str], int] = {}
        self.gradients = 0
        self.settled_in_float64: list[float] = []

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("largest error of gradients against torch, as a part of each one's largest value")
        for (class_name, dtype, layers), error in sorted(self.largest.items()):
            own = self.configurations.get((class_name, dtype), 0)
            terminalreporter.write_line(
                f"{class_name:32} {dtype:8} {layers:9} {error:.1e}   {own} configurations with their own attention"
            )
        terminalreporter.write_line(
            f"{self.gradients} gradients; {len(self.settled_in_float64)} of them, with errors of up to "
            f"{max(self.settled_in_float64, default=0.0):.1e}, settled in float64"
        )


@pytest.fixture(scope="module")
def errors(request: pytest.FixtureRequest) -> Errors:
    errors = Errors()
    request.config.pluginmanager.register(errors, "gradient errors")
    return errors


def blind_positions(config: GPTNeoConfig, inputs: Inputs) -> np.ndarray:
    """Positions (B, T) that see nothing but padding, in one layer at least.

    There the two differ on purpose. The pattern is even, because all scores have the same lowest value: in minineo by
    being replaced by it, so that they are constants, in transformers by adding it, so that the sum is rounded to it.
    The gradient of the second does not know of the rounding and goes on to q and k, though no change of them changes
    anything.
    """
    B, T = shape_of(inputs)
    real = inputs.get("attention_mask", np.ones((B, T))) != 0
    windows = {config.window(i) for i in range(config.num_layers)}
    seen = [(visible(T, T, window, real) & real[:, None, :]).any(axis=-1) for window in windows]
    return ~np.all(seen, axis=0)


def with_constant_padding(oracle: Any, model: Any) -> Any:
    """The oracle with the attention that minineo has at positions that see nothing but padding."""
    torch = oracle.torch

    def attend(self: Any, q: Any, k: Any, v: Any, attention_mask: Any = None) -> Any:
        T, S = q.shape[-2], k.shape[-2]
        scores = q @ k.transpose(-1, -2)
        if attention_mask is not None:
            scores = torch.where(attention_mask == 0, scores, torch.finfo(q.dtype).min)
        pattern = torch.softmax(torch.where(self.bias[:, :, S - T : S, :S], scores, -torch.inf), dim=-1)
        return self.attn_dropout(pattern) @ v, pattern

    for block in model.transformer.h:
        block.attn.attention._attn = MethodType(attend, block.attn.attention)
    return model


def their_gradients(oracle: Any, model: Any, inputs: Inputs) -> dict[str, np.ndarray]:
    """The gradients that torch finds."""
    width = next(model.parameters()).dtype
    tensors = {name: oracle.torch.from_numpy(array) for name, array in inputs.items()}
    tensors = {name: value.to(width) if value.is_floating_point() else value for name, value in tensors.items()}
    # without a mask, transformers may read a jump in position_ids as the start of another text
    tensors.setdefault("attention_mask", oracle.torch.ones(shape_of(inputs), dtype=oracle.torch.long))
    model(**tensors).loss.backward()
    return {
        name: np.zeros(weight.shape) if weight.grad is None else weight.grad.numpy()
        for name, weight in model.named_parameters()
    }


def ignore_blind_labels(class_name: str, inputs: Inputs, blind: np.ndarray) -> Inputs:
    """Inputs in which no label of a token is compared with logits at a position that sees nothing but padding."""
    if class_name not in ("GPTNeoForCausalLM", "GPTNeoForTokenClassification"):
        return inputs
    compared = np.roll(blind, 1, axis=1) if class_name == "GPTNeoForCausalLM" else blind
    return inputs | {"labels": np.where(compared, -100, inputs["labels"])}


class Oracle:
    """The gradients of transformers for a random case; its attention is replaced only where it has to be."""

    def __init__(self, oracle: Any, class_name: str, seed: int, dtype: Any, masks: Masks = no_masks) -> None:
        self.oracle, self.class_name, self.masks = oracle, class_name, masks
        self.model, self.inputs = draw_case(class_name, seed, dtype)
        blind = blind_positions(self.model.config, self.inputs)
        if seed % 4:
            self.inputs = ignore_blind_labels(class_name, self.inputs, blind)
        read = oracle.read_positions(class_name, self.model.config, self.inputs, *blind.shape)
        self.blind_is_read = bool((blind & read).any())

    def gradients(self, dtype: Any, params: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        params = self.model.params if params is None else params
        model = self.oracle.oracle_model(self.class_name, self.model.config, params, dtype)
        if self.blind_is_read:
            model = with_constant_padding(self.oracle, model)
        if self.masks is not no_masks:
            self.oracle.drop_by(model, self.masks)
        return their_gradients(self.oracle, model, self.inputs)

    def error_in_float32(self, name: str) -> float:
        """How far float32 is from float64 in a gradient: the farthest of nine models that differ only by rounding.

        Of a single one the distance is a matter of luck, and not seldom a fifth of what it is next door.
        """
        random = np.random.default_rng(0)
        errors = []
        for steps in [0.0, *[2.0**-23] * 8]:
            near = {
                key: (array * (1.0 + steps * random.integers(-1, 2, array.shape))).astype(np.float32)
                for key, array in self.model.params.items()
            }
            narrow, wide = (self.gradients(dtype, near)[name] for dtype in (np.float32, np.float64))
            errors.append(self.oracle.largest_difference(narrow, wide))
        return max(errors)


def own_gradients(theirs: Oracle) -> Iterator[tuple[str, str, np.ndarray]]:
    """Minineo's gradients, of the reference layers and of the fast ones, with their names."""
    for layers in LAYERS:
        with computing_with(layers):
            _, grads = theirs.model.loss_and_grads(**theirs.inputs, masks=theirs.masks)
        assert grads.keys() == theirs.model.params.keys()
        for name, gradient in grads.items():
            yield layers, name, gradient


def compare(theirs: Oracle, place: str, errors: Errors, dtype: Any) -> bool:
    """Compare each parameter's gradient with that of transformers; whether there was more to compare than zeros."""
    exact = theirs.gradients(np.float64)
    others = exact if dtype == np.float64 else theirs.gradients(dtype)
    overall = max(np.abs(gradient).max() for gradient in exact.values())
    for layers, name, gradient in own_gradients(theirs):
        largest = np.abs(exact[name]).max()
        # some are 0 but for rounding, such as that of a bias which moves all scores of a softmax alike
        largest = largest if largest > 1e-10 * overall else overall
        distance = theirs.oracle.largest_difference(gradient, others[name])
        error = distance / largest if distance else 0.0
        errors.gradients += 1
        if dtype == np.float64 or error < LARGEST_TORCH_ERROR[dtype]:
            assert error < LARGEST_TORCH_ERROR[dtype], f"{error:.1e}: {name} of {place}, {layers}"
            key = theirs.class_name, np.dtype(dtype).name, layers
            errors.largest[key] = max(error, errors.largest.get(key, 0.0))
            continue
        ours = theirs.oracle.largest_difference(gradient, exact[name])
        assert ours <= TIMES_THEIR_ERROR * theirs.error_in_float32(name), f"{error:.1e}: {name} of {place}, {layers}"
        errors.settled_in_float64.append(error)
    return bool(overall > 0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("class_name", HEADS)
def test_gradients_are_those_of_torch(oracle: Any, errors: Errors, class_name: str, dtype: Any) -> None:
    own_attention = 0
    for seed in range(132):
        theirs = Oracle(oracle, class_name, seed, dtype)
        some = compare(theirs, f"{class_name}, seed {seed}", errors, dtype)
        own_attention += some and not theirs.blind_is_read
    errors.configurations[class_name, np.dtype(dtype).name] = own_attention
    assert own_attention >= 60


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("class_name", HEADS)
def test_gradients_with_dropout_are_those_of_torch(oracle: Any, errors: Errors, class_name: str, dtype: Any) -> None:
    for seed in range(0, 132, 7):
        theirs = Oracle(oracle, class_name, seed, dtype, draw_masks(seed))
        compare(theirs, f"{class_name} with dropout, seed {seed}", errors, dtype)
