"""Files that torch.save writes, read by us: every tensor equal bit for bit, and whole models with equal logits."""

from __future__ import annotations

import json
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require
from random_models import draw_config, draw_params

from minineo import GPTNeoForCausalLM
from minineo.checkpoints import BFLOAT16, CheckpointError, describe
from minineo.checkpoints.torch_file import open_torch

pytestmark = pytest.mark.oracle

SAVES = {
    "zip": {},
    "old": {"_use_new_zipfile_serialization": False},
    "zip, protocol 4": {"pickle_protocol": 4},
    "zip, protocol 5": {"pickle_protocol": 5},
    "old, protocol 4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}
DTYPES = ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]


def bits(tensor: Any) -> bytes:
    torch = require("torch")
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else bits(tensor[None])


def assert_same(path: Path, state: dict[str, Any]) -> None:
    read = open_torch(path)
    assert list(read) == list(state)
    for name, tensor in state.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        assert read[name].dtype == (BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)), name
        assert read[name].shape == tuple(tensor.shape), name
        assert read[name].tobytes() == (bits(tensor) if tensor.numel() else b""), name
    assert [(info.name, info.shape) for info in describe(path)] == [(n, tuple(t.shape)) for n, t in state.items()]


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_view(tmp_path: Path, dtype: str, save: str) -> None:
    torch = require("torch")
    torch.manual_seed(0)
    x = (3 * torch.randn(6, 5)).to(getattr(torch, dtype))
    state = OrderedDict(
        x=x,
        tied=x,
        transposed=x.T,
        rows=x[2:4],
        columns=x[:, 1::2],
        scalar=x[3, 2],
        alone=x[0, 0].clone(),
        empty=x[:0],
        one=x[None, :1, None],
        permuted=x.reshape(2, 3, 5).permute(2, 0, 1),
        diagonal=x.diagonal(),
        clone=x.clone(),
    )
    torch.save(state, tmp_path / "x.bin", **SAVES[save])
    assert_same(tmp_path / "x.bin", state)


@pytest.mark.parametrize("save", SAVES)
def test_parameters_and_plain_dictionaries(tmp_path: Path, save: str) -> None:
    torch = require("torch")
    layer = torch.nn.Linear(3, 2)
    torch.save(dict(layer.named_parameters()), tmp_path / "x.bin", **SAVES[save])
    assert_same(tmp_path / "x.bin", dict(layer.named_parameters()))


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_whole_model_has_the_same_logits(tmp_path: Path, shards: int, dtype: str, save: str) -> None:
    torch = require("torch")
    require("transformers")
    import hugging_face

    config = draw_config(6)
    params = draw_params(GPTNeoForCausalLM.parameter_shapes(config), config, 0)
    theirs = hugging_face.oracle_model("GPTNeoForCausalLM", config, params).to(getattr(torch, dtype))
    state = theirs.state_dict()
    config.save_pretrained(tmp_path)
    if shards == 1:
        torch.save(state, tmp_path / "pytorch_model.bin", **SAVES[save])
    else:
        weight_map = {}
        for i in range(shards):
            file = f"pytorch_model-{i + 1:05d}-of-{shards:05d}.bin"
            part = {name: state[name] for name in list(state)[i::shards]}
            torch.save(part, tmp_path / file, **SAVES[save])
            weight_map |= dict.fromkeys(part, file)
        index = {"metadata": {}, "weight_map": weight_map}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))

    ours = GPTNeoForCausalLM.from_pretrained(tmp_path)
    theirs = theirs.float().eval()
    for name, array in ours.params.items():
        np.testing.assert_array_equal(array, theirs.state_dict()[name].numpy())
    input_ids = np.arange(min(config.max_position_embeddings, 12))[None] % config.vocab_size
    with torch.no_grad():
        expected = theirs(torch.from_numpy(input_ids)).logits
    assert hugging_face.relative_error(ours(input_ids).logits, expected.numpy()) < 1e-5


@pytest.mark.parametrize("save", SAVES)
def test_what_is_no_state_dict(tmp_path: Path, save: str) -> None:
    torch = require("torch")
    layer = torch.nn.Linear(3, 2)
    wholes = {
        "Linear": layer,
        "expected a state dict": torch.ones(3),
        "'state_dict' is a dict": {"state_dict": layer.state_dict(), "epoch": 3},
        "which no state dict needs": {"x": np.ones(3)},
    }
    for message, whole in wholes.items():
        torch.save(whole, tmp_path / "x.bin", **SAVES[save])
        with pytest.raises(CheckpointError, match=message):
            open_torch(tmp_path / "x.bin")


def test_a_program(tmp_path: Path) -> None:
    torch = require("torch")
    torch.save(torch.nn.Linear(1, 1).state_dict(), tmp_path / "x.bin")
    with zipfile.ZipFile(tmp_path / "x.bin", "a") as archive:
        archive.writestr("x/constants.pkl", b"")
    with pytest.raises(CheckpointError, match="TorchScript"):
        open_torch(tmp_path / "x.bin")
