"""Flax's files: round trips, the very bytes of msgpack's own library, and files that are broken or made to harm."""

from __future__ import annotations

import contextlib
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from minineo.checkpoints import CheckpointError, describe, msgpack_file, msgpack_format, read_state_dict
from minineo.checkpoints.dtypes import BFLOAT16
from minineo.checkpoints.flax_names import checkpoint_name, flatten, flax_name, from_flax, to_flax, unflatten
from minineo.checkpoints.msgpack_file import open_msgpack, write_msgpack
from minineo.checkpoints.msgpack_format import MOST_VALUES
from minineo.checkpoints.save import FLAX, save_state_dict
from minineo.config import GPTNeoConfig
from minineo.model.names import parameter_shapes

GOLDEN = Path(__file__).parent / "golden" / "flax_model"
FLAX_WROTE = (GOLDEN / "flax_model.msgpack").read_bytes()

DTYPES = ["bool", "u1", "i1", "<u2", "<i2", "<f2", "<u4", "<i4", "<f4", "<u8", "<i8", "<f8", "<c8"]
KEYS = st.text(st.characters(exclude_characters="/", codec="utf-8"), min_size=1, max_size=40)
ARRAYS = st.sampled_from(DTYPES).flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, min_side=0, max_side=20)))
TREES = st.dictionaries(KEYS, ARRAYS | st.dictionaries(KEYS, ARRAYS, min_size=1, max_size=3), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("msgpack") / "model.msgpack"


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert list(a) == list(b)
    for name, array in b.items():
        assert (a[name].shape, a[name].dtype) == (array.shape, array.dtype)
        assert a[name].tobytes() == array.tobytes()


# What is written is what msgpack writes, and is read back


@given(tree=TREES)
def test_round_trip(file: Path, tree: dict[str, Any]) -> None:
    write_msgpack(tree, file)
    assert_same(open_msgpack(file), flatten(tree))


@given(tree=TREES, most=st.integers(1, 200))
def test_round_trip_of_arrays_in_pieces(file: Path, tree: dict[str, Any], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(msgpack_file, "MAX_CHUNK_BYTES", most)
        write_msgpack(tree, file)
    assert_same(open_msgpack(file), flatten(tree))


@pytest.mark.oracle
@given(tree=TREES)
def test_bytes_are_those_of_the_library(file: Path, tree: dict[str, Any]) -> None:
    msgpack = require("msgpack")

    def encoded(value: Any) -> Any:
        return msgpack.ExtType(1, msgpack.packb((value.shape, value.dtype.name, value.tobytes())))

    write_msgpack(tree, file)
    assert file.read_bytes() == msgpack.packb(tree, default=encoded, strict_types=True)


def test_bytes_are_those_of_flax(file: Path) -> None:
    (file.parent / "theirs.msgpack").write_bytes(FLAX_WROTE)
    write_msgpack(unflatten(open_msgpack(file.parent / "theirs.msgpack")), file)
    assert file.read_bytes() == FLAX_WROTE


def test_bfloat16(file: Path) -> None:
    array = np.array([[1, 2, 3]], np.uint16).view(BFLOAT16)
    write_msgpack({"a": array}, file)
    assert b"bfloat16" in file.read_bytes()
    assert_same(open_msgpack(file), {"a": array})


def test_arrays_are_views_of_the_file(file: Path) -> None:
    write_msgpack({"a": np.zeros((2, 3), np.float32)}, file)
    before = file.read_bytes()
    array = open_msgpack(file)["a"]
    assert isinstance(array.base, np.memmap)
    array += 1  # private
    assert file.read_bytes() == before


@pytest.mark.parametrize("value", [np.zeros(2, complex), np.array(["a"]), np.array([None])])
def test_what_cannot_be_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match="tensor 'a/b': cannot save dtype"):
        write_msgpack({"a": {"b": value}}, tmp_path / "x.msgpack")


# Names and directories


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_names_go_both_ways(prefix: str) -> None:
    config = GPTNeoConfig(num_layers=2, attention_types=[[["global"], 2]], hidden_size=4, num_heads=2, vocab_size=5)
    shapes = parameter_shapes(config, prefix) | {"lm_head.weight": (5, 4)}
    params = {name: np.zeros(shape) for name, shape in shapes.items()}
    tree = to_flax(params)
    assert all(checkpoint_name(flax_name(name)) == name for name in params)
    inner = tree["transformer"] if prefix else tree
    assert inner["h"]["0"]["mlp"]["c_fc"]["kernel"].shape == (4, 16)
    assert inner["wte"]["embedding"].shape == (5, 4)
    assert set(inner["ln_f"]) == {"scale", "bias"}
    assert tree["lm_head"]["kernel"].shape == (4, 5)
    back = from_flax(tree)
    assert all(
        np.shares_memory(back[name], array) and back[name].shape == array.shape for name, array in params.items()
    )


def test_names_that_are_none() -> None:
    with pytest.raises(ValueError, match=r"a/scale: a second array for a\.weight"):
        from_flax({"a": {"kernel": np.zeros((2, 2)), "scale": np.zeros(2)}})
    with pytest.raises(ValueError, match=r"a/kernel: received shape \(2,\)"):
        from_flax({"a": {"kernel": np.zeros(2)}})
    for leaves in ({"a": 1, "a/b": 2}, {"a/b": 1, "a": 2}):
        with pytest.raises(ValueError, match=r"which is an array|already arrays below"):
            unflatten(leaves)


def test_describe_as_it_is_read() -> None:
    listed = describe(GOLDEN)
    state = read_state_dict(GOLDEN)
    assert [info.name for info in listed] == list(state)
    assert all(info.shape == state[info.name].shape and info.nbytes == state[info.name].nbytes for info in listed)
    assert describe(GOLDEN / "flax_model.msgpack") == listed


def test_shards(tmp_path: Path) -> None:
    state = read_state_dict(GOLDEN)
    save_state_dict(state, tmp_path, "2KB", FLAX)
    index = json.loads((tmp_path / "flax_model.msgpack.index.json").read_text())["weight_map"]
    assert "transformer/h/0/attn/attention/q_proj/kernel" in index
    assert all(re.fullmatch(r"flax_model-\d{5}-of-\d{5}\.msgpack", shard) for shard in index.values())
    read = read_state_dict(tmp_path)
    assert_same({name: read[name] for name in state}, state)
    save_state_dict(state, tmp_path, layout=FLAX)
    assert [path.name for path in tmp_path.iterdir()] == ["flax_model.msgpack"]


# Files that cannot be read


def ext(content: bytes, code: int = 1) -> bytes:
    return msgpack_format.extension_head(code, len(content)) + content


def tensor(shape: bytes = b"\x91\x02", dtype: bytes = b"\xa5uint8", content: bytes = b"\xc4\x02ab") -> bytes:
    return b"\x93" + shape + dtype + content


def one(value: bytes) -> bytes:
    return b"\x81\xa1a" + value


CHUNKED = msgpack_format.text("__msgpack_chunked_array__")
PIECES = b"\xa6chunks\x81\xa10" + ext(tensor())
BROKEN: list[tuple[bytes, str]] = [
    (b"", "the file is empty"),
    (b"version https://git-lfs", "a Git LFS pointer"),
    (b"\x93\x01\x02\x03", "byte 0: the checkpoint is a array, expected a map"),
    (b"\x80", "an empty map"),
    (b"\xdf\xff\xff\xff\xff", "byte 0: map of 4294967295, but only 0 bytes follow"),
    (one(ext(tensor())) + b"x", "byte 19: 1 bytes follow the checkpoint"),
    (one(b"\x01"), "byte 3: 'a' is a int, expected an array or a map"),
    (one(b"\xc0"), "'a' is a nil"),
    (one(b"\xcb" + bytes(8)), "'a' is a float"),
    (one(b"\xff"), "'a' is a negative int"),
    (one(b"\xc1"), "'a' is a byte 0xc1"),
    (b"\x81\x05" + ext(tensor()), "a key is a int, expected a str"),
    (b"\x81\xa1\xff" + ext(tensor()), "a key is not UTF-8"),
    (b"\x81\xd9\xff" + b"a" * 255 + ext(tensor()), "a key has 255 bytes, expected at most 200"),
    (b"\x82\xa1a" + ext(tensor()) + b"\xa1a" + ext(tensor()), "'a' occurs twice"),
    (b"\x81\xa1a" * 40 + ext(tensor()), "nested deeper than 16"),
    (one(ext(tensor(), code=5)), "'a' is an ext of type 5, expected 1"),
    (one(ext(b"\x92\xcb" + bytes(8) + b"\xcb" + bytes(8), code=2)), "'a' is an ext of type 2"),
    (one(ext(b"\x92\x01\x02")), "not .shape, dtype, bytes."),
    (one(ext(tensor(shape=b"\x91\xff"))), "a dimension of 'a' is a negative int"),
    (one(ext(tensor(shape=b"\x91\x03"))), "'a' has 2 bytes, expected 3 for U8 of shape"),
    (one(ext(tensor(shape=b"\x91\xcf" + b"\xff" * 8))), "2.*63 bytes"),
    (one(ext(tensor(shape=b"\xdc\x00\x41" + b"\x01" * 65))), "65 dimensions"),
    (one(ext(tensor(dtype=b"\xa6object"))), "dtype 'object', expected one of bool"),
    (one(ext(tensor(dtype=b"\xa2O8"))), "dtype 'O8'"),
    (one(ext(tensor(content=b"\xc6\xff\xff\xff\xffab"))), "bin of 4294967295, but only 2 bytes"),
    (one(ext(tensor() + b"x")), "'a' ends at byte"),
    (one(b"\xc9\xff\xff\xff\xff\x01" + tensor()), "ext of 4294967295"),
    (one(b"\x82" + CHUNKED + b"\xc3" + PIECES), "a cut array with 2 entries"),
    (one(b"\x83" + CHUNKED + b"\xc3\xa5shape\x81\xa10\x03" + PIECES), "'a' has 2 bytes, expected 3"),
    (one(b"\x83" + CHUNKED + b"\xc3\xa5shape\x81\xa11\x02" + PIECES), "has '1', expected '0'"),
    (one(b"\x83" + CHUNKED + b"\xc3\xa5shape\x80\xa6chunks\x80"), "0 pieces"),
]


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_broken_files(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as raised:
        open_msgpack(file)
    assert str(file) in str(raised.value)
    with pytest.raises(CheckpointError, match=message):
        describe(file)


def test_the_parts_of_broken_files_are_whole(file: Path) -> None:
    for content in (
        one(ext(tensor())),
        one(ext(tensor(), code=3)),
        one(b"\x83" + CHUNKED + b"\xc3\xa5shape\x81\xa10\x02" + PIECES),
    ):
        file.write_bytes(content)
        assert open_msgpack(file)["a"].tobytes() == b"ab"


@given(cut=st.integers(0, len(FLAX_WROTE) - 1))
def test_files_that_are_cut_short(file: Path, cut: int) -> None:
    file.write_bytes(FLAX_WROTE[:cut])
    with pytest.raises(CheckpointError, match=re.escape(str(file))):
        open_msgpack(file)


@given(at=st.integers(0, 2000), new=st.binary(min_size=1, max_size=6))
def test_files_that_are_changed(file: Path, at: int, new: bytes) -> None:
    """Read as something else or refused, but nothing else happens."""
    file.write_bytes(FLAX_WROTE[:at] + new + FLAX_WROTE[at + len(new) :])
    with contextlib.suppress(CheckpointError):
        for array in open_msgpack(file).values():
            array.tobytes()


@given(content=st.binary(max_size=100))
def test_noise(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(CheckpointError):
        open_msgpack(file)


def test_many_small_arrays_are_too_many(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = MOST_VALUES // 40  # in all, what is held for them before they are too many stays below 64 MB
    monkeypatch.setattr(msgpack_format, "MOST_VALUES", most)
    empty = ext(tensor(shape=b"\x91\x00", content=b"\xc4\x00"))
    entries = [msgpack_format.text(f"{i:x}") + empty for i in range(most)]
    file.write_bytes(msgpack_format.map_head(most) + b"".join(entries))
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=f"more than {most} values"):
        open_msgpack(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64e6 / 40


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a file"):
        open_msgpack(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_msgpack(tmp_path / "absent.msgpack")
