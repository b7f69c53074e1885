"""The same numbers as Hugging Face: random configurations of all five classes, against transformers and torch.

The largest error of every output field is below 1e-5 of its largest value. Where float32 itself is coarser than that (a
loss near zero, a difference of nearly equal numbers), both are compared with transformers in float64, and minineo may
be no farther from it than 4 times what transformers is.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from conftest import require
from random_models import (
    CLASSES,
    CLASSES_WITH_CACHE,
    INTERMEDIATES,
    LAYERS,
    computing_with,
    draw_config,
    draw_inputs,
    draw_params,
    take_positions,
)

from minineo import classes
from minineo.config import GPTNeoConfig

pytestmark = pytest.mark.oracle

SEEDS = [range(first, first + 24) for first in range(0, 240, 24)]  # 240 configurations in ten blocks
LARGEST_ERROR = {np.float32: 1e-5, np.float64: 1e-12}
TIMES_THEIR_ERROR = 4


class Errors:
    """The largest errors by class, layers and dtype, shown at the end of the test run: release notes quote them."""

    def __init__(self) -> None:
        self.largest: dict[tuple[str, str, str], float] = {}
        self.fields = 0
        self.settled_in_float64 = 0

    def add(self, class_name: str, layers: str, dtype: Any, error: float) -> None:
        self.fields += 1
        key = class_name, layers, np.dtype(dtype).name
        self.largest[key] = max(error, self.largest.get(key, 0.0))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("largest error against transformers, as a part of the field's largest value")
        for (class_name, layers, dtype), error in sorted(self.largest.items()):
            terminalreporter.write_line(f"{class_name:32} {layers:10} {dtype:8} {error:.1e}")
        terminalreporter.write_line(
            f"{self.fields} output fields, {self.settled_in_float64} of them settled in float64"
        )


@pytest.fixture(scope="module")
def errors(request: pytest.FixtureRequest) -> Errors:
    errors = Errors()
    request.config.pluginmanager.register(errors, "parity errors")
    return errors


@pytest.fixture(scope="module")
def oracle() -> Any:
    require("torch")
    require("transformers")
    import hugging_face

    return hugging_face


class Case:
    """A random model and its inputs, here and there."""

    def __init__(self, oracle: Any, class_name: str, seed: int, dtype: Any = np.float32) -> None:
        model_class = getattr(classes, class_name)
        self.oracle, self.class_name, self.seed, self.dtype = oracle, class_name, seed, dtype
        self.config = draw_config(seed)
        self.params = draw_params(model_class.parameter_shapes(self.config), self.config, seed, dtype)
        self.model = model_class(self.config, self.params)
        self.their_models: dict[Any, Any] = {}
        self.inputs = draw_inputs(class_name, self.config, seed * len(CLASSES) + CLASSES.index(class_name))
        if "inputs_embeds" in self.inputs:
            self.inputs["inputs_embeds"] = self.inputs["inputs_embeds"].astype(dtype)
        self.tokens = self.inputs.get("input_ids", self.inputs.get("inputs_embeds"))

    def cut(self, seed: int) -> list[int]:
        """Where to cut the input for a continuation with the cache: 0, some positions between, and the end."""
        T = self.tokens.shape[1]
        random = np.random.RandomState(seed)
        return [0, *(t for t in range(1, T) if random.uniform() < [0.2, 0.5, 1.0][seed % 3]), T]

    def run(self, call: Callable[..., Any], cuts: list[int]) -> list[dict[str, np.ndarray]]:
        """Call a model on each piece of the input, continuing with the cache, and collect all arrays."""
        outputs, cache = [], None
        for start, stop in pairwise(cuts):
            inputs = take_positions(self.inputs, start, stop)
            if len(cuts) > 2:
                inputs |= {"use_cache": True, "past_key_values": cache}
            output = call(inputs)
            outputs.append(self.oracle.fields_of(output, self.config))
            cache = output.get("past_key_values")
        return outputs

    def ours(self, cuts: list[int], layers: str) -> list[dict[str, np.ndarray]]:
        left_out = INTERMEDIATES if layers == "fast" else {}
        with computing_with(layers):
            return self.run(lambda inputs: self.model(**{k: v for k, v in inputs.items() if k not in left_out}), cuts)

    def their_model(self, dtype: Any) -> Any:
        if dtype not in self.their_models:
            self.their_models[dtype] = self.oracle.oracle_model(self.class_name, self.config, self.params, dtype)
        return self.their_models[dtype]

    def theirs(self, cuts: list[int], dtype: Any) -> list[dict[str, np.ndarray]]:
        model = self.their_model(dtype)

        def call(inputs: dict[str, Any]) -> Any:
            if inputs.get("use_cache") is False and "position_ids" in inputs and "attention_mask" not in inputs:
                # Without a cache and a mask, transformers reads a jump in position_ids as the start of another text in
                # the same row, and lets neither see the other. minineo does not: a mask of ones makes them agree.
                inputs = inputs | {"attention_mask": np.ones(self.tokens.shape[:2], np.int64)}
            return self.oracle.call(model, inputs)

        return self.run(call, cuts)

    def widen_attentions(self, fields: dict[str, np.ndarray], S: int) -> None:
        """Give our attentions a column for each of the S positions: a local layer's cache has dropped the oldest."""
        for name, pattern in fields.items():
            if name.startswith("attentions") and self.config.window(int(name.split(".")[1])) is not None:
                fields[name] = np.pad(pattern, [(0, 0)] * 3 + [(S - pattern.shape[3], 0)])

    def compare(self, cuts: list[int], errors: Errors) -> None:
        """Compare every array of every output, computed with the reference layers and with the fast ones."""
        theirs = self.theirs(cuts, self.dtype)
        for layers in LAYERS:
            self.compare_layers(cuts, layers, theirs, errors)

    def compare_layers(self, cuts: list[int], layers: str, theirs: list[dict[str, np.ndarray]], errors: Errors) -> None:
        ours = self.ours(cuts, layers)
        exact: list[dict[str, np.ndarray]] = []
        limit = LARGEST_ERROR[self.dtype]
        for piece, (mine, others) in enumerate(zip(ours, theirs, strict=True)):
            left_out = tuple(INTERMEDIATES.values()) if layers == "fast" else ()
            assert list(mine) == [name for name in others if not name.startswith(left_out)]
            inputs = take_positions(self.inputs, cuts[piece], cuts[piece + 1])
            compared = self.oracle.Compared(
                self.class_name, self.config, inputs, self.tokens.shape[0], *cuts[piece:][:2]
            )
            self.widen_attentions(mine, cuts[piece + 1])
            for name in mine:
                place = f"{name} of {self.class_name}, {layers}, seed {self.seed}, positions {cuts[piece : piece + 2]}"
                assert mine[name].shape == others[name].shape, place
                assert mine[name].dtype == self.dtype, place
                assert name == "loss" or np.isfinite(mine[name]).all(), place
                a, b = (compared.part(name, fields[name]) for fields in (mine, others))
                error = self.oracle.relative_error(a, b)
                if error < limit or self.dtype == np.float64:
                    assert error < limit, place
                    errors.add(self.class_name, layers, self.dtype, error)
                    continue
                exact = exact or self.theirs(cuts, np.float64)
                c = compared.part(name, exact[piece][name])
                distance, their_distance = (self.oracle.largest_difference(x, c) for x in (a, b))
                assert distance <= TIMES_THEIR_ERROR * their_distance, f"{error}: {place}"
                errors.settled_in_float64 += 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_outputs(oracle: Any, errors: Errors, class_name: str, seeds: range, dtype: Any) -> None:
    """The input as a whole, and in pieces of one token or several, each continuing the cache of the one before."""
    for seed in seeds if dtype == np.float32 else seeds[::4]:
        case = Case(oracle, class_name, seed, dtype)
        case.compare([0, case.tokens.shape[1]], errors)
        if class_name in CLASSES_WITH_CACHE:
            case.compare(case.cut(seed), errors)


@pytest.mark.parametrize("class_name", CLASSES)
def test_tuples(oracle: Any, class_name: str) -> None:
    """`return_dict=False` gives what is there in the same order."""
    for seed in range(20):
        case = Case(oracle, class_name, seed)
        ours = case.model(**case.inputs, return_dict=False)
        model = oracle.oracle_model(class_name, case.config, case.params)
        theirs = oracle.call(model, case.inputs | {"return_dict": False})
        assert [type(item) is tuple for item in ours] == [type(item) is tuple for item in theirs]
        assert [getattr(item, "shape", None) for item in ours] == [getattr(item, "shape", None) for item in theirs]


def test_padding_is_all_that_differs(oracle: Any) -> None:
    """Hold the one difference that `Compared` leaves out: padding on the right, beyond a local layer's window."""
    config = GPTNeoConfig(
        hidden_size=8, num_heads=2, num_layers=1, attention_types=[[["local"], 1]], window_size=2, vocab_size=11
    )
    params = draw_params(classes.GPTNeoModel.parameter_shapes(config), config, 0)
    inputs = {
        "input_ids": np.arange(6)[None, :],
        "attention_mask": np.array([[1, 1, 0, 0, 0, 0]]),
        "output_attentions": True,
    }
    ours = classes.GPTNeoModel(config, params)(**inputs).attentions[0]
    theirs = oracle.call(oracle.oracle_model("GPTNeoModel", config, params), inputs).attentions[0].numpy()

    agree = oracle.agreeing_positions(config, inputs["attention_mask"], 1, 6)[0]
    assert agree.tolist() == [True, True, True, False, False, False]
    np.testing.assert_allclose(ours[0, :, agree], theirs[0, :, agree], rtol=1e-5, atol=1e-6)
    # position 3 sees 2 and itself, both padding: half and half here, and there with the real positions 0 and 1 too
    np.testing.assert_allclose(ours[0, 0, 3], [0, 0, 1 / 2, 1 / 2, 0, 0])
    np.testing.assert_allclose(theirs[0, 0, 3], [1 / 4, 1 / 4, 1 / 4, 1 / 4, 0, 0])
