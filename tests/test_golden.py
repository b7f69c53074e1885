"""Frozen outputs of transformers, replayed without it: a selection of cases of all five classes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_models import CLASSES, INTERMEDIATES, LAYERS, computing_with, draw_params, take_positions

from minineo import classes
from minineo.config import GPTNeoConfig

GOLDEN = Path(__file__).parent / "golden"
CASES: dict[str, Any] = json.loads((GOLDEN / "model_cases.json").read_text(encoding="utf-8"))
LARGEST_ERROR = {"float32": 1e-5, "float64": 1e-7}  # what is stored is float32


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "model_cases.npz") as file:
        return dict(file)


def below(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def field(output: Any, name: str) -> np.ndarray:
    """An array of an output by the name that it has in the file, such as `hidden_states.1` or `past.0.k`."""
    first, *rest = name.split(".")
    if first == "past":
        return output.past_key_values[int(rest[0])]["kv".index(rest[1])]
    return output[first][int(rest[0])] if rest else output[first]


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_outputs(arrays: dict[str, np.ndarray], name: str, dtype: str, layers: str) -> None:
    with computing_with(layers):
        replay(arrays, name, dtype, INTERMEDIATES if layers == "fast" else {})


def replay(arrays: dict[str, np.ndarray], name: str, dtype: str, left_out: dict[str, str]) -> None:
    case = CASES[name]
    config = GPTNeoConfig(**case["config"])
    model_class = getattr(classes, case["class"])
    params = draw_params(model_class.parameter_shapes(config), config, case["seed"])
    model = model_class(config, {key: array.astype(dtype) for key, array in params.items()})
    inputs = below(arrays, f"{name}/input/") | {k: v for k, v in case["flags"].items() if k not in left_out}
    if "inputs_embeds" in inputs:
        inputs["inputs_embeds"] = inputs["inputs_embeds"].astype(dtype)
    cache = None
    for piece, (start, stop) in enumerate(pairwise(case["cuts"])):
        output = model(**take_positions(inputs, start, stop), past_key_values=cache)
        cache = output.get("past_key_values") if stop < case["cuts"][-1] else None
        expected = {
            key: array
            for key, array in below(arrays, f"{name}/{piece}/").items()
            if not key.startswith(tuple(left_out.values()))
        }
        assert {key.split(".")[0] for key in expected} - {"past"} == {*output} - {"past_key_values"}
        for key, theirs in expected.items():
            ours = field(output, key)
            assert ours.dtype == dtype
            assert ours.shape == theirs.shape, key
            if name == "right padding":  # what padding sees in a local layer differs, and nobody reads it
                real = inputs["attention_mask"][:, :, None] == 1
                ours, theirs = np.where(real, ours, 0.0), np.where(real, theirs, 0.0)
            assert np.max(np.abs(ours - theirs)) < LARGEST_ERROR[dtype] * np.max(np.abs(theirs)), key


def test_selection_covers_all_classes() -> None:
    assert {case["class"] for case in CASES.values()} == set(CLASSES)
