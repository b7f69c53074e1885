"""A new model's parameters: drawn as Hugging Face draws them, the same again from the same seed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tiny_models import ALL_CLASSES, tiny_config

from minineo.classes import GPTNeoForCausalLM, GPTNeoForTokenClassification, GPTNeoModel


@pytest.mark.parametrize("cls", ALL_CLASSES)
def test_names_shapes_and_kinds(cls: Any) -> None:
    config = tiny_config("gl", hidden_size=48, vocab_size=200, initializer_range=0.05)
    model = cls(config)
    assert {name: array.shape for name, array in model.params.items()} == cls.parameter_shapes(config)
    for name, array in model.params.items():
        assert array.dtype == np.float32
        if name.endswith(".bias"):
            assert not array.any(), name
        elif ".ln_" in name or name.startswith("ln_f"):
            assert (array == 1.0).all(), name
        else:
            assert array.std() == pytest.approx(0.05, rel=5.0 / math.sqrt(2 * array.size)), name
            assert abs(array.mean()) < 5 * 0.05 / math.sqrt(array.size), name


def test_a_seed_decides() -> None:
    config = tiny_config()
    first, again, other = GPTNeoModel(config), GPTNeoModel(config, seed=0), GPTNeoModel(config, seed=1)
    for name, array in first.params.items():
        np.testing.assert_array_equal(array, again.params[name])
    assert (first.params["wte.weight"] != other.params["wte.weight"]).any()


def test_a_new_model_predicts_nothing_yet() -> None:
    model = GPTNeoForCausalLM(tiny_config())
    ids = np.arange(10)[None, :]
    assert float(model(ids, labels=ids).loss) == pytest.approx(math.log(19), abs=0.05)
    assert np.isfinite(GPTNeoForTokenClassification(tiny_config())(ids).logits).all()
