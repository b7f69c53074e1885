"""`minineo convert` and `minineo inspect`: checkpoints of every format into safetensors, whole or not at all."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_torch_file import with_weights, write_shards
from tiny_models import tiny, tokens
from torch_files import Stored, pickled, rebuild, write_zip

from minineo import GPTNeoForCausalLM, cli
from minineo.checkpoints import CheckpointError, read_state_dict, save_state_dict
from minineo.checkpoints.convert import convert
from minineo.checkpoints.flax_names import to_flax
from minineo.checkpoints.msgpack_file import write_msgpack

FORMATS = ["safetensors", "safetensors shards", "bin", "old bin", "bin shards", "one file", "flax"]


def a_checkpoint(kind: str, folder: Path) -> tuple[Path, GPTNeoForCausalLM]:
    """A checkpoint of a model in one of the formats, and the model."""
    model = tiny(GPTNeoForCausalLM)
    folder.mkdir()
    model.config.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 24}')
    (folder / "notes.txt").write_text("not mine to copy")
    match kind:
        case "safetensors":
            save_state_dict(model.params, folder)
        case "safetensors shards":
            save_state_dict(model.params, folder, max_shard_size=4000)
        case "bin shards":
            write_shards(model.params, folder)
        case "flax":
            write_msgpack(to_flax(model.params), folder / "flax_model.msgpack")
        case _:
            with_weights(model, folder, kind == "old bin")
    return (folder / "pytorch_model.bin" if kind == "one file" else folder), model


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    source, model = a_checkpoint(kind, tmp_path / "old")
    assert cli.main(["convert", str(source), str(tmp_path / "new")]) == 0
    assert sorted(os.listdir(tmp_path / "new")) == ["config.json", "model.safetensors", "tokenizer_config.json"]
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]
    loaded = GPTNeoForCausalLM.from_pretrained(tmp_path / "new")
    for name, array in model.params.items():
        np.testing.assert_array_equal(loaded.params[name], array, strict=True)
    assert "float32), written to" in capsys.readouterr().out

    for path in (source, tmp_path / "new"):
        assert cli.main(["inspect", str(path)]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"transformer\.h\.1\.attn\.attention\.k_proj\.weight +12 x 12 +F32 +144 +576", shown)
        assert f"{len(model.params)} tensors, {model.num_parameters():,} numbers" in shown


def test_another_dtype_and_shards(tmp_path: Path) -> None:
    source, model = a_checkpoint("bin", tmp_path / "old")
    arguments = ["--dtype", "float16", "--max-shard-size", "2KB"]
    assert cli.main(["convert", str(source), str(tmp_path / "new"), *arguments]) == 0
    assert (tmp_path / "new" / "model.safetensors.index.json").is_file()
    for name, array in read_state_dict(tmp_path / "new").items():
        np.testing.assert_array_equal(array, model.params[name].astype(np.float16), strict=True)
    assert json.loads((tmp_path / "new" / "config.json").read_text())["dtype"] == "float16"
    loaded = GPTNeoForCausalLM.from_pretrained(tmp_path / "new")
    np.testing.assert_allclose(loaded(tokens(2, 7)).logits, model(tokens(2, 7)).logits, rtol=0.05, atol=0.05)


def test_what_no_model_needs_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny(GPTNeoForCausalLM)
    more = {
        "transformer.h.0.attn.attention.bias": np.ones((1, 1, 24, 24), np.uint8),
        "transformer.h.0.attn.attention.masked_bias": np.array(-1e9, np.float32),
        "lm_head.weight": model.params["transformer.wte.weight"],
    }
    source = with_weights(model, tmp_path / "old", **more)
    assert cli.main(["convert", str(source), str(tmp_path / "new")]) == 0
    assert set(read_state_dict(tmp_path / "new")) == set(model.params)
    assert "left out, as no model needs them: transformer.h.0.attn" in capsys.readouterr().out


@pytest.mark.parametrize("head", ["untied", "different"])
def test_a_head_of_its_own_is_kept(tmp_path: Path, head: str) -> None:
    model = tiny(GPTNeoForCausalLM)
    wte = model.params["transformer.wte.weight"]
    source = with_weights(model, tmp_path / "old", **{"lm_head.weight": wte if head == "untied" else wte + 1})
    if head == "untied":
        config = json.loads((source / "config.json").read_text()) | {"tie_word_embeddings": False}
        (source / "config.json").write_text(json.dumps(config))
    assert convert(source, tmp_path / "new").left_out == []


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    program = pickled({"x": rebuild(Stored("0", "BFloat16Storage", 2), 0, (2,), (1,))})
    path = write_zip(tmp_path / "x.bin", program, {"0": np.array([0x3F80, 0xC000], "<u2").tobytes()})
    convert(path, tmp_path / "new")
    array = read_state_dict(tmp_path / "new")["x"]
    np.testing.assert_array_equal(array, np.array([1, -2], np.float32), strict=True)


def test_an_empty_directory_and_one_whose_parent_is_missing_will_do(tmp_path: Path) -> None:
    source, _ = a_checkpoint("bin", tmp_path / "old")
    (tmp_path / "empty").mkdir()
    for destination in (tmp_path / "empty", tmp_path / "a" / "b"):
        convert(source, destination)
        assert (destination / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("destination", "message"),
    [("old", "are the same"), ("old/.", "are the same"), ("full", "holds mine.txt already"), ("file", "is a file")],
)
def test_nothing_is_overwritten(
    tmp_path: Path, destination: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, _ = a_checkpoint("bin", tmp_path / "old")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["convert", str(source), str(tmp_path / destination)]) == 1
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("failing", ["save_state_dict", "_copy_beside"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_no_half_directory_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    source, _ = a_checkpoint("bin", tmp_path / "old")

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(f"minineo.checkpoints.convert.{failing}", fail)
    with pytest.raises(type(error)):
        convert(source, tmp_path / "new")
    assert os.listdir(tmp_path) == ["old"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dtype": "int8"}, ValueError, "dtype 'int8'"),
        ({"max_shard_size": "much"}, ValueError, "max_shard_size is 'much'"),
        ({"source": "absent"}, FileNotFoundError, "no such directory"),
        ({"source": "broken"}, CheckpointError, r"pytorch_model\.bin: begins with"),
    ],
)
def test_errors_come_before_anything_is_written(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    a_checkpoint("bin", tmp_path / "old")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "pytorch_model.bin").write_text("<html>")
    arguments = {"source": "old"} | arguments
    source = tmp_path / arguments.pop("source")
    with pytest.raises(error, match=message):
        convert(source, tmp_path / "new", **arguments)
    assert sorted(os.listdir(tmp_path)) == ["broken", "old"]
