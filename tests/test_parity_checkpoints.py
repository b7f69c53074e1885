"""Checkpoints go both ways: what transformers writes gives the same logits here, and what minineo writes, there."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require
from random_models import CLASSES, draw_config, draw_params

from minineo import classes
from minineo.config import GPTNeoConfig
from minineo.pretrained import GPTNeoPreTrainedModel

pytestmark = pytest.mark.oracle

LARGEST_ERROR = 1e-5
HEADS = CLASSES[1:]
SEEDS = [5, 10, 15]


@pytest.fixture(scope="module")
def oracle() -> Any:
    require("torch")
    require("transformers")
    import hugging_face

    return hugging_face


def a_config(seed: int, **fields: Any) -> GPTNeoConfig:
    return GPTNeoConfig.from_dict(draw_config(seed).to_dict(), **fields)


def a_model(class_name: str, config: GPTNeoConfig, seed: int = 0) -> GPTNeoPreTrainedModel[Any]:
    model_class = getattr(classes, class_name)
    return model_class(config, draw_params(model_class.parameter_shapes(config), config, seed))


def their_model(oracle: Any, model: GPTNeoPreTrainedModel[Any]) -> Any:
    return oracle.oracle_model(type(model).__name__, model.config, model.params)


def load_theirs(oracle: Any, class_name: str, directory: Path) -> tuple[Any, dict[str, Any]]:
    """The model and what transformers says about loading it."""
    model_class = getattr(oracle.transformers, class_name)
    return model_class.from_pretrained(directory, dtype=oracle.torch.float32, output_loading_info=True)


def assert_equal_outputs(oracle: Any, ours: GPTNeoPreTrainedModel[Any], theirs: Any) -> None:
    """Compare both on one text, longer than the window where the positions suffice."""
    config = ours.config
    inputs = {"input_ids": np.arange(min(config.max_position_embeddings, 12))[None, :] % config.vocab_size}
    mine = oracle.fields_of(ours(**inputs), config)
    others = oracle.fields_of(oracle.call(theirs.eval(), inputs), config)
    assert list(mine) == list(others)
    for name in mine:
        assert mine[name].dtype == np.float32
        assert oracle.relative_error(mine[name], others[name]) < LARGEST_ERROR, name


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("seed", SEEDS)
def test_theirs_read_by_us(oracle: Any, tmp_path: Path, class_name: str, dtype: str, seed: int) -> None:
    model = a_model(class_name, a_config(seed))
    their_model(oracle, model).to(getattr(oracle.torch, dtype)).save_pretrained(tmp_path)
    ours = type(model).from_pretrained(tmp_path)
    theirs, _ = load_theirs(oracle, class_name, tmp_path)
    assert_equal_outputs(oracle, ours, theirs)
    widened = {name: tensor.numpy() for name, tensor in theirs.state_dict().items() if name in ours.params}
    assert widened.keys() == ours.params.keys()
    for name, array in widened.items():
        np.testing.assert_array_equal(ours.params[name], array, strict=True)


@pytest.mark.parametrize("max_shard_size", ["50GB", 20_000])
@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("seed", SEEDS)
def test_ours_read_by_them(oracle: Any, tmp_path: Path, class_name: str, max_shard_size: Any, seed: int) -> None:
    model = a_model(class_name, a_config(seed))
    model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    theirs, report = load_theirs(oracle, class_name, tmp_path)
    assert not any(report.values()), report
    assert_equal_outputs(oracle, model, theirs)
    assert theirs.config.architectures == [class_name]
    assert_equal_outputs(oracle, type(model).from_pretrained(tmp_path), theirs)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("class_name", HEADS)
def test_a_head_read_into_the_base(oracle: Any, tmp_path: Path, class_name: str, tied: bool) -> None:
    model = a_model(class_name, a_config(6, tie_word_embeddings=tied))
    their_model(oracle, model).save_pretrained(tmp_path / "theirs")
    model.save_pretrained(tmp_path / "ours")
    theirs, _ = load_theirs(oracle, "GPTNeoModel", tmp_path / "theirs")
    assert_equal_outputs(oracle, classes.GPTNeoModel.from_pretrained(tmp_path / "theirs"), theirs)
    assert_equal_outputs(oracle, classes.GPTNeoModel.from_pretrained(tmp_path / "ours"), theirs)
    theirs, report = load_theirs(oracle, "GPTNeoModel", tmp_path / "ours")
    assert not report["missing_keys"]
    assert_equal_outputs(oracle, classes.GPTNeoModel.from_pretrained(tmp_path / "ours"), theirs)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("class_name", HEADS)
def test_the_base_read_into_a_head(oracle: Any, tmp_path: Path, class_name: str, tied: bool) -> None:
    """The head is new, so what lies under it is compared, and then the whole, once transformers has read it back."""
    base = a_model("GPTNeoModel", a_config(7, tie_word_embeddings=tied))
    their_model(oracle, base).save_pretrained(tmp_path / "base")
    new = sorted(
        set(getattr(classes, class_name).parameter_shapes(base.config)) - {f"transformer.{n}" for n in base.params}
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = getattr(classes, class_name).from_pretrained(tmp_path / "base")
    assert [all(name in str(w.message) for name in new) for w in caught] == ([True] if new else [])
    for name, array in base.params.items():
        np.testing.assert_array_equal(ours.params[f"transformer.{name}"], array, strict=True)
    ours.save_pretrained(tmp_path / "head")
    theirs, report = load_theirs(oracle, class_name, tmp_path / "head")
    assert not any(report.values()), report
    assert_equal_outputs(oracle, ours, theirs)
