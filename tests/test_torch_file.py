"""Files of torch.save, without torch: written by hand, and two that torch wrote itself."""

from __future__ import annotations

import json
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_models import tiny, tokens
from torch_files import Call, Stored, pickled, rebuild, save, tensor, write_old, write_zip

from minineo import GPTNeoForCausalLM
from minineo.checkpoints import BFLOAT16, CheckpointError, cast, describe, read_state_dict, save_state_dict
from minineo.checkpoints.safetensors_file import mapped_file
from minineo.checkpoints.torch_file import describe_torch, open_torch

DATA = Path(__file__).parent / "data" / "torch"
DTYPES = ["float32", "float16", "float64", "int64", "int32", "uint8", "bool"]
FORMATS = pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])


def some_arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "a.weight": random.standard_normal((3, 4)).astype(np.float32),
        "a.scalar": np.array(-1e9, np.float32),
        "a.empty": np.zeros((0, 4), np.float32),
        "a.mask": np.tril(np.ones((1, 1, 5, 5), np.bool_)),
        "b": np.arange(6),
        "c": random.standard_normal(7).astype(np.float16),
    }


def assert_same(read: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array, strict=True)


@FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_come_back(tmp_path: Path, protocol: int, old: bool) -> None:
    path = save(tmp_path / "x.bin", some_arrays(), old, protocol)
    assert_same(open_torch(path), some_arrays())
    spelling = ["F32", "F32", "F32", "BOOL", "I64", "F16"]
    expected = [
        (name, s, a.shape, a.nbytes, path) for (name, a), s in zip(some_arrays().items(), spelling, strict=True)
    ]
    assert describe(path) == describe_torch(path) == expected


@settings(max_examples=40, deadline=None)
@given(
    arrays=st.dictionaries(
        st.text("abc._19", min_size=1, max_size=12),
        hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, min_side=0, max_side=4)),
        max_size=5,
    ),
    old=st.booleans(),
    protocol=st.integers(2, 5),
)
def test_any_arrays_come_back(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray], old: bool, protocol: int
) -> None:
    path = save(tmp_path_factory.mktemp("any") / "x.bin", arrays, old, protocol)
    read = open_torch(path)
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        assert read[name].tobytes() == array.tobytes()


def test_arrays_are_views_of_the_file_and_never_change_it(tmp_path: Path) -> None:
    path = save(tmp_path / "x.bin", some_arrays())
    before = path.read_bytes()
    read = open_torch(path)
    assert mapped_file(read["a.weight"]) == str(path)
    read["a.weight"] += 1
    assert path.read_bytes() == before


@FORMATS
def test_shared_transposed_and_cut_out(tmp_path: Path, old: bool) -> None:
    numbers = np.arange(12, dtype=np.float32)
    storage = Stored("0", "FloatStorage", 12)
    views = {
        "matrix": rebuild(storage, 0, (3, 4), (4, 1)),
        "transposed": rebuild(storage, 0, (4, 3), (1, 4)),
        "last": rebuild(storage, 11, (), ()),
    }
    program = pickled(views)
    path = tmp_path / "x.bin"
    if old:
        write_old(path, program, {"0": (12, numbers.tobytes())})
    else:
        write_zip(path, program, {"0": numbers.tobytes()})
    read = open_torch(path)
    matrix = numbers.reshape(3, 4)
    assert_same(read, {"matrix": matrix, "transposed": matrix.T, "last": matrix[2, 3]})
    read["matrix"][0, 1] = -5
    assert read["transposed"][1, 0] == -5  # as in torch: they share their memory


def test_bfloat16(tmp_path: Path) -> None:
    program = pickled({"x": rebuild(Stored("0", "BFloat16Storage", 3), 0, (3,), (1,))})
    path = write_zip(tmp_path / "x.bin", program, {"0": np.array([0x3F80, 0xC000, 0x7F80], "<u2").tobytes()})
    read = open_torch(path)["x"]
    assert read.dtype == BFLOAT16
    np.testing.assert_array_equal(cast(read), np.array([1.0, -2.0, np.inf], np.float32), strict=True)


def test_parameters_sizes_and_metadata(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    view = rebuild(Stored("0", "FloatStorage", 6), 0, Call("torch", "Size", (2, 3)), (3, 1))
    state = OrderedDict(x=Call("torch._utils", "_rebuild_parameter", view, True, OrderedDict()))
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    assert_same(open_torch(write_zip(tmp_path / "x.bin", pickled(state), {"0": array.tobytes()})), {"x": array})


def test_a_zip_from_before_byteorder_was_written(tmp_path: Path) -> None:
    array = np.ones(3, np.float32)
    path = write_zip(tmp_path / "x.bin", pickled({"x": tensor("0", array)}), {"0": array.tobytes()}, byteorder=None)
    assert_same(open_torch(path), {"x": array})


@pytest.mark.parametrize("name", ["zip.bin", "old.bin"])
def test_files_that_torch_wrote(name: str) -> None:
    expected = np.load(DATA / "expected.npz")
    read = {name: cast(array) for name, array in open_torch(DATA / name).items()}
    assert_same(read, {name: expected[name] for name in read})
    assert set(read) == set(expected)
    again = open_torch(DATA / name)
    assert np.shares_memory(again["tied"], again["matrix"])


# Directories ----------------------------------------------------------------------------------------------------------


def with_weights(model: GPTNeoForCausalLM, directory: Path, old: bool = False, **more: np.ndarray) -> Path:
    directory.mkdir(exist_ok=True)
    model.config.save_pretrained(directory)
    save(directory / "pytorch_model.bin", model.params | more, old)
    return directory


def assert_same_model(directory: Path, model: GPTNeoForCausalLM) -> None:
    loaded = GPTNeoForCausalLM.from_pretrained(directory)
    assert_same(loaded.params, model.params)
    np.testing.assert_allclose(loaded(tokens(2, 7)).logits, model(tokens(2, 7)).logits, rtol=1e-5, atol=1e-5)


@FORMATS
def test_a_model(tmp_path: Path, old: bool) -> None:
    model = tiny(GPTNeoForCausalLM)
    assert_same_model(with_weights(model, tmp_path, old), model)


def test_what_old_checkpoints_hold(tmp_path: Path) -> None:
    """The head though it is tied, mask buffers, and names without prefix."""
    model = tiny(GPTNeoForCausalLM)
    params = {name.removeprefix("transformer."): array for name, array in model.params.items()}
    params["lm_head.weight"] = params["wte.weight"]
    for i in range(2):
        params[f"h.{i}.attn.attention.bias"] = np.tril(np.ones((1, 1, 24, 24), np.uint8))
        params[f"h.{i}.attn.attention.masked_bias"] = np.array(-1e9, np.float32)
    model.config.save_pretrained(tmp_path)
    save(tmp_path / "pytorch_model.bin", params)
    assert_same_model(tmp_path, model)


def write_shards(arrays: dict[str, np.ndarray], directory: Path) -> dict[str, str]:
    weight_map = {}
    for i, names in enumerate((list(arrays)[::2], list(arrays)[1::2]), start=1):
        file = f"pytorch_model-{i:05d}-of-00002.bin"
        save(directory / file, {name: arrays[name] for name in names})
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return weight_map


def test_shards(tmp_path: Path) -> None:
    model = tiny(GPTNeoForCausalLM)
    model.config.save_pretrained(tmp_path)
    write_shards(model.params, tmp_path)
    assert_same_model(tmp_path, model)
    assert {info.name for info in describe(tmp_path)} == set(model.params)


def test_shards_that_are_missing_or_incomplete(tmp_path: Path) -> None:
    arrays = some_arrays()
    write_shards(arrays, tmp_path)
    first, second = (tmp_path / f"pytorch_model-{i:05d}-of-00002.bin" for i in (1, 2))
    second.write_bytes(first.read_bytes())
    for reader in (read_state_dict, describe):
        with pytest.raises(CheckpointError, match=r"a\.scalar' is not in this shard, where pytorch_model\.bin\.index"):
            reader(tmp_path)
    second.unlink()
    with pytest.raises(CheckpointError, match=r"00002-of-00002\.bin: this shard is missing; pytorch_model\.bin\.index"):
        read_state_dict(tmp_path)


def test_safetensors_are_preferred(tmp_path: Path) -> None:
    save_state_dict(some_arrays(), tmp_path, max_shard_size=100)
    (tmp_path / "pytorch_model.bin").write_text("broken")
    assert read_state_dict(tmp_path).keys() == some_arrays().keys()


def test_one_file(tmp_path: Path) -> None:
    path = save(tmp_path / "anything.pt", some_arrays())
    assert_same(read_state_dict(path), some_arrays())


def test_only_headers_are_read(tmp_path: Path) -> None:
    """A file of 3 GB, which has holes where its numbers would be, opens at once."""
    numel = 3 * 2**28
    path = tmp_path / "large.bin"
    program = pickled({"x": rebuild(Stored("0", "FloatStorage", numel), 0, (3, 2**28), (2**28, 1))})
    write_old(path, program, {"0": (numel, b"")})
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 4 * numel)
    assert describe(path)[0].shape == (3, 2**28)
    assert open_torch(path)["x"][2, 2**28 - 1] == 0


# Damage ---------------------------------------------------------------------------------------------------------------


@FORMATS
def test_a_file_that_is_cut_anywhere(tmp_path: Path, old: bool) -> None:
    path = save(tmp_path / "x.bin", some_arrays(), old)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        for reader in (open_torch, describe_torch):
            with pytest.raises(CheckpointError, match=r"x\.bin: "):
                reader(path)


@FORMATS
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_changed_bytes_give_arrays_or_the_one_error(
    tmp_path_factory: pytest.TempPathFactory, old: bool, data: st.DataObject
) -> None:
    path = save(tmp_path_factory.mktemp("changed") / "x.bin", some_arrays(), old)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        read = open_torch(path)
    except CheckpointError:
        return
    for array in read.values():
        array.sum() if array.dtype != BFLOAT16 else array.tobytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with b''"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\x10\0\0\0\0\0\0\0{}", "expected a zip or a pickle"),
        (b"PK\x03\x04 and no more", "damaged or cut short"),
        (pickled({"x": 1}), "does not begin with torch's magic number"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_torch(tmp_path / "x.bin")


def one(**options: Any) -> dict[str, Any]:
    return {"program": pickled({"x": tensor("0", np.ones(2, np.float32))}), "storages": {"0": bytes(8)}} | options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (one(byteorder=b"big"), "byte order is b'big', expected little"),
        (one(compression=zipfile.ZIP_DEFLATED), "is compressed, expected it stored"),
        (one(storages={}), "storage '0' is not in the zip"),
        (one(storages={"0": bytes(7)}), "storage '0' has 7 bytes, expected 8 for 2 numbers of type F32"),
        (one(storages={"0": bytes(9)}), "storage '0' has 9 bytes, expected 8"),
        (one(extra={"model/constants.pkl": b""}), "TorchScript"),
        (one(extra={"other/data.pkl": b""}), "2 entries data.pkl"),
        (one(program=b"\x80\x02}"), "cut short"),
    ],
)
def test_zips_that_are_none_of_torch(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_torch(write_zip(tmp_path / "x.bin", **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"magic": 7}, "does not begin with torch's magic number"),
        ({"version": 1000}, "does not begin with torch's magic number and version"),
        ({"little_endian": False}, "byte order is not little"),
        ({"keys": ["0", "0"]}, "keys of its storages are not those"),
        ({"keys": ["1"]}, "keys of its storages are not those"),
        ({"keys": []}, "keys of its storages are not those"),
        ({"keys": [0]}, "not a list of strings"),
        ({"storages": {"0": (3, bytes(12))}}, "storage '0' has 3 numbers, expected 2"),
        ({"storages": {"0": (2, bytes(7))}}, "cut short"),
        ({"storages": {"0": (2, bytes(10))}}, "2 bytes follow the last storage"),
    ],
)
def test_old_files_that_are_none_of_torch(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    options = {"program": one()["program"], "storages": {"0": (2, bytes(8))}} | options
    with pytest.raises(CheckpointError, match=message):
        open_torch(write_old(tmp_path / "x.bin", **options))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "holds a list, expected a state dict"),
        ({"state_dict": {"x": 1}, "epoch": 3}, "entry 'state_dict' is a dict, expected a tensor: not a state dict"),
        ({"epoch": 3}, "entry 'epoch' is a int, expected a tensor"),
        ({"a\nb": tensor("0", np.ones(2, np.float32))}, r"name is 'a\\nb', expected one that can be printed"),
    ],
)
def test_pickles_that_are_no_state_dict(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_torch(write_zip(tmp_path / "x.bin", pickled(value), {"0": bytes(8)}))
