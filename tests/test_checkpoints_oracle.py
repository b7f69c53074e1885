"""Checkpoints that transformers writes, read by us, and the other way round: every tensor equal, bit for bit."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require

from minineo.checkpoints import BFLOAT16, cast, describe, match, open_safetensors, read_state_dict, save_state_dict

pytestmark = pytest.mark.oracle

CLASSES = [
    "GPTNeoModel",
    "GPTNeoForCausalLM",
    "GPTNeoForSequenceClassification",
    "GPTNeoForTokenClassification",
    "GPTNeoForQuestionAnswering",
]
SETTINGS = {
    "vocab_size": 120,
    "hidden_size": 20,
    "num_layers": 2,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 1]],
    "window_size": 4,
    "max_position_embeddings": 32,
    "num_labels": 3,
}
TIED = {"lm_head.weight": "transformer.wte.weight"}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep transformers' load reports and progress bars out of the test run, and out of the other tests."""
    logger = require("transformers").logging.get_logger("transformers")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


def their_model(name: str, seed: int = 0, **settings: Any) -> Any:
    """A tiny model of transformers with every parameter re-drawn."""
    transformers, torch = require("transformers"), require("torch")
    generator = torch.Generator().manual_seed(seed)
    model = getattr(transformers, name)(transformers.GPTNeoConfig(**SETTINGS | settings))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def their_params(model: Any) -> dict[str, Any]:
    """Names and tensors without the tied head, in the order in which transformers has them."""
    return dict(model.named_parameters())


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in their_params(model).items()}


def bits_of_torch(tensor: Any) -> bytes:
    torch = require("torch")
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def their_load(name: str, directory: Path) -> tuple[Any, dict[str, Any]]:
    return getattr(require("transformers"), name).from_pretrained(directory, output_loading_info=True)


@pytest.mark.parametrize("max_shard_size", ["50GB", "20KB"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", CLASSES)
def test_we_read_what_they_write(tmp_path: Path, name: str, dtype: str, max_shard_size: str) -> None:
    torch = require("torch")
    model = their_model(name).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    assert (len(list(tmp_path.glob("model-*"))) > 1) == (max_shard_size == "20KB")

    state = read_state_dict(tmp_path)
    params, missing, unused = match(
        state, shapes_of(model), source=str(tmp_path), tied=TIED if "Causal" in name else None
    )
    assert missing == unused == []
    theirs = their_params(model)
    assert list(params) == list(theirs)
    for key, array in params.items():
        assert array.dtype == (BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype))
        assert array.tobytes() == bits_of_torch(theirs[key])
        wide = cast(array)
        assert wide.dtype == np.float32
        assert wide.tobytes() == bits_of_torch(theirs[key].float())

    spelling = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype]
    listed = {info.name: (info.dtype, info.shape) for info in describe(tmp_path)}
    assert listed == {key: (spelling, shape) for key, shape in shapes_of(model).items()}


@pytest.mark.parametrize("max_shard_size", ["50GB", "20KB", 3000])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", CLASSES)
def test_they_read_what_we_write(tmp_path: Path, name: str, dtype: str, max_shard_size: str | int) -> None:
    torch = require("torch")
    model = their_model(name).to(getattr(torch, dtype))
    params = {key: tensor.detach().numpy() for key, tensor in their_params(model).items()}
    model.config.save_pretrained(tmp_path)
    save_state_dict(params, tmp_path, max_shard_size=max_shard_size)
    loaded, info = their_load(name, tmp_path)
    assert not any(info.values()), info
    again = their_params(loaded)
    assert list(again) == list(params)
    assert all(bits_of_torch(again[key]) == array.tobytes() for key, array in params.items())


@pytest.mark.parametrize("max_shard_size", [3000, 4000, "20KB", "50GB"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_files_are_the_same(tmp_path: Path, tied: bool, max_shard_size: str | int) -> None:
    """The same shards with the same tensors, and the same index to the byte."""
    model = their_model("GPTNeoForCausalLM", tie_word_embeddings=tied)
    model.save_pretrained(tmp_path / "theirs", max_shard_size=max_shard_size)
    params = {key: tensor.detach().numpy() for key, tensor in their_params(model).items()}
    save_state_dict(params, tmp_path / "ours", max_shard_size=max_shard_size)
    theirs = {path.name: path for path in (tmp_path / "theirs").glob("model*")}
    ours = {path.name: path for path in (tmp_path / "ours").iterdir()}
    assert ours.keys() == theirs.keys()
    for name, path in ours.items():
        if name.endswith(".json"):
            assert path.read_bytes() == theirs[name].read_bytes()
        else:
            read, expected = open_safetensors(path), open_safetensors(theirs[name])
            assert {key: array.tobytes() for key, array in read.items()} == {
                key: array.tobytes() for key, array in expected.items()
            }


@pytest.mark.parametrize("wanted", CLASSES)
@pytest.mark.parametrize("stored", CLASSES)
def test_every_class_into_every_class(tmp_path: Path, stored: str, wanted: str) -> None:
    """What is found, missing and unused is what transformers reports, and what is found is equal."""
    their_model(stored, tie_word_embeddings=False).save_pretrained(tmp_path)
    model, info = their_load(wanted, tmp_path)
    theirs = their_params(model)
    params, missing, unused = match(read_state_dict(tmp_path), shapes_of(model), source=str(tmp_path))
    assert set(missing) == set(info["missing_keys"])
    assert set(unused) == set(info["unexpected_keys"])
    assert params.keys() == theirs.keys() - set(missing)
    assert all(array.tobytes() == bits_of_torch(theirs[key]) for key, array in params.items())


def write_by_hand(directory: Path, model: Any, changes: dict[str, np.ndarray], without: str | None = None) -> None:
    params = {key: tensor.detach().numpy() for key, tensor in their_params(model).items() if key != without}
    model.config.save_pretrained(directory)
    save_state_dict(params | changes, directory)


@pytest.mark.parametrize("kind", ["equal", "different", "head only"])
def test_tied_checkpoints_that_hold_the_head(tmp_path: Path, kind: str) -> None:
    model = their_model("GPTNeoForCausalLM")
    wte = model.transformer.wte.weight.detach().numpy()
    head = wte + 1 if kind == "different" else wte
    write_by_hand(
        tmp_path, model, {"lm_head.weight": head}, without="transformer.wte.weight" if kind == "head only" else None
    )
    loaded, info = their_load("GPTNeoForCausalLM", tmp_path)
    assert not info["missing_keys"]
    expected = {key: bits_of_torch(tensor) for key, tensor in their_params(loaded).items()}
    assert ("lm_head.weight" in expected) == (kind == "different")

    def ours() -> tuple[dict[str, Any], list[str], list[str]]:
        return match(read_state_dict(tmp_path), shapes_of(model), source=str(tmp_path), tied=TIED)

    if kind == "different":
        with pytest.warns(UserWarning, match="different values"):
            params, missing, unused = ours()
    else:
        params, missing, unused = ours()
    assert missing == unused == []
    assert {key: array.tobytes() for key, array in params.items()} == expected


def test_old_mask_buffers(tmp_path: Path) -> None:
    model = their_model("GPTNeoForCausalLM")
    buffers = {}
    for i in range(2):
        buffers[f"transformer.h.{i}.attn.attention.bias"] = np.tril(np.ones((1, 1, 32, 32), np.bool_))
        buffers[f"transformer.h.{i}.attn.attention.masked_bias"] = np.array(-1e9, np.float32)
    write_by_hand(tmp_path, model, buffers)
    loaded, info = their_load("GPTNeoForCausalLM", tmp_path)
    assert set(info["unexpected_keys"]) <= set(buffers)
    params, missing, unused = match(read_state_dict(tmp_path), shapes_of(model), source=str(tmp_path), tied=TIED)
    assert missing == unused == []
    theirs = their_params(loaded)
    assert {key: array.tobytes() for key, array in params.items()} == {k: bits_of_torch(t) for k, t in theirs.items()}


def test_they_read_a_save_over_their_own_shards(tmp_path: Path) -> None:
    """Fewer and more shards than they wrote: nothing of theirs may be left to be read."""
    model = their_model("GPTNeoForCausalLM")
    for ours in ("50GB", "10KB", "20KB"):
        model.save_pretrained(tmp_path, max_shard_size="20KB")
        params = {name: cast(array) + 1 for name, array in read_state_dict(tmp_path).items()}
        save_state_dict(params, tmp_path, max_shard_size=ours)
        loaded, info = their_load("GPTNeoForCausalLM", tmp_path)
        assert not any(info.values())
        again = their_params(loaded)
        assert all(bits_of_torch(again[name]) == array.tobytes() for name, array in params.items())
        index = tmp_path / "model.safetensors.index.json"
        shards = {path.name for path in tmp_path.glob("model-*")}
        assert shards == (set() if ours == "50GB" else set(json.loads(index.read_text())["weight_map"].values()))
        for path in tmp_path.glob("model*"):
            path.unlink()
