"""One safetensors file: opened without reading, refused when damaged, written whole or not at all."""

from __future__ import annotations

import json
import os
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from minineo.checkpoints import BFLOAT16, CheckpointError, describe, open_safetensors, save_safetensors
from minineo.checkpoints import safetensors_file as module
from minineo.checkpoints.dtypes import NUMPY_DTYPES
from minineo.checkpoints.safetensors_file import mapped_file

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def write_raw(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    """Write a safetensors file by hand, as wrong as the test wants it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def every_dtype() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    dtypes = [dtype for dtype in NUMPY_DTYPES.values() if dtype.kind in "biuf"]
    arrays = {str(dtype): rng.integers(0, 2, (3, 5)).astype(dtype) for dtype in dtypes}
    return arrays | {"scalar": np.array(1.5, np.float32), "empty": np.zeros((0, 4), np.float32)}


# Opening


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    written = every_dtype()
    save_file(written, tmp_path / "x.safetensors", metadata={"format": "pt"})
    read = open_safetensors(tmp_path / "x.safetensors")
    assert read.keys() == written.keys()
    for name, array in written.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        assert read[name].tobytes() == array.tobytes()
        assert type(read[name]) is np.ndarray


def test_an_edit_stays_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"w": np.arange(6, dtype=np.float32)}, path)
    before = path.read_bytes()
    array = open_safetensors(path)["w"]
    array[:] = -1
    assert (array == -1).all()
    assert path.read_bytes() == before
    assert open_safetensors(path)["w"].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("padding", range(8))
def test_unaligned_tensors(tmp_path: Path, padding: int) -> None:
    values = np.arange(6, dtype=np.float64).reshape(2, 3)
    header = json.dumps({"w": {"dtype": "F64", "shape": [2, 3], "data_offsets": [0, 48]}}).encode() + b" " * padding
    array = open_safetensors(write_raw(tmp_path / "x", header, values.tobytes()))["w"]
    np.testing.assert_array_equal(array, values)
    np.testing.assert_array_equal(array @ array.T, values @ values.T)
    assert mapped_file(array) == str(tmp_path / "x")


def test_bfloat16_is_raw_bits_that_nothing_takes_for_numbers(tmp_path: Path) -> None:
    header = {"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    array = open_safetensors(write_raw(tmp_path / "x", header, b"\x80\x3f\x00\xc0"))["w"]  # 1 and -2
    assert array.dtype == BFLOAT16
    assert array["bfloat16"].tolist() == [0x3F80, 0xC000]
    with pytest.raises(TypeError):
        array + array


def test_complex_numbers(tmp_path: Path) -> None:
    header = {"w": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}
    path = write_raw(tmp_path / "x", header, np.array([1, -2], "<f4").tobytes())
    assert open_safetensors(path)["w"].tolist() == [1 - 2j]


def test_tensors_in_any_order_and_of_no_size(tmp_path: Path) -> None:
    header = {
        "end": {"dtype": "F32", "shape": [0], "data_offsets": [8, 8]},
        "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        "start": {"dtype": "F32", "shape": [7, 0], "data_offsets": [0, 0]},
        "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
    }
    read = open_safetensors(write_raw(tmp_path / "x", header, np.array([1, 2], "<f4").tobytes()))
    assert {name: (array.tolist(), array.shape) for name, array in read.items()} == {
        "start": ([[]] * 7, (7, 0)),
        "a": (1.0, ()),
        "b": ([2.0], (1,)),
        "end": ([], (0,)),
    }


def test_no_tensors_at_all(tmp_path: Path) -> None:
    assert open_safetensors(write_raw(tmp_path / "x", {})) == {}


def test_mapped_file_of_other_arrays() -> None:
    assert mapped_file(np.zeros(3)[1:]) is None


# Memory


def sparse_file(path: Path, tensors: int, rows: int, columns: int) -> Path:
    """A file of float32 zeros that takes no room on the disk."""
    nbytes = rows * columns * 4
    header = {
        f"t{i}": {"dtype": "F32", "shape": [rows, columns], "data_offsets": [i * nbytes, (i + 1) * nbytes]}
        for i in range(tensors)
    }
    write_raw(path, header)
    try:
        os.truncate(path, path.stat().st_size + tensors * nbytes)
    except OSError as error:
        pytest.skip(f"no sparse files here: {error}")
    return path


def resident_bytes(path: Path) -> int:
    """How much of a file's map is in this process's memory: the sum of Rss over its entries in smaps."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        field = line.split()[0]
        if not field.endswith(":"):
            inside = line.endswith(str(path))
        elif inside and field == "Rss:":
            total += 1024 * int(line.split()[1])
    return total


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/smaps, which only Linux has")
def test_opening_500_megabytes_touches_no_page(tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "x.safetensors", tensors=125, rows=1000, columns=1000)
    start = time.perf_counter()
    arrays = open_safetensors(path)
    seconds = time.perf_counter() - start
    assert sum(array.nbytes for array in arrays.values()) == 500_000_000
    assert seconds < 0.5  # 1 to 2 ms in practice
    assert resident_bytes(path) == 0

    assert arrays["t60"][500].sum() == 0
    assert 0 < resident_bytes(path) < 4_000_000  # the row, and what the system reads ahead: not the other tensors


def test_describing_needs_no_memory(tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "x.safetensors", tensors=4, rows=2**20, columns=2**18)  # 4 TiB
    assert describe(path)[1] == ("t1", "F32", (2**20, 2**18), 2**40, path)


@pytest.mark.parametrize(
    ("header", "length"),
    [
        pytest.param(b"{}", 99_999_999, id="header length"),
        pytest.param({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, None, id="tensor"),
        pytest.param({"w": {"dtype": "F32", "shape": [2**40, 0], "data_offsets": [0, 2**42]}}, None, id="empty tensor"),
    ],
)
def test_nothing_is_allocated_by_a_claimed_size(tmp_path: Path, header: object, length: int | None) -> None:
    path = write_raw(tmp_path / "x", header, length=length)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            open_safetensors(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


# Refusing


def changed(**fields: object) -> dict[str, Any]:
    return {"w": ENTRY | fields}


BROKEN = {
    "empty": (b"", "0 bytes, too short"),
    "seven bytes": (b"\0" * 7, "7 bytes, too short"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "header over the limit": ((100_000_001, b"{}", b""), "header of 100000001 bytes, expected at most 100000000"),
    "header beyond the file": ((3, b"{}", b""), "2 bytes follow .* expected at least 3"),
    "not UTF-8": ((None, b'{"\xff": 1}', b""), "not valid JSON in UTF-8"),
    "not JSON": ((None, b"{]", b""), "not valid JSON"),
    "NaN": ((None, b'{"w": NaN}', b""), "NaN is not JSON"),
    "half a surrogate pair": ((None, b'{"\\ud800": {}}', b""), "not valid JSON in UTF-8"),
    "too deep": ((None, b'{"w": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b""), "not valid JSON"),
    "not an object": ((None, b"[1, 2]", b""), r"the header is \[1, 2\], expected a JSON object"),
    "tensor twice": ((None, b'{"w": 1, "v": 1, "w": 1}', b""), "'w' occurs twice"),
    "metadata not strings": ({"__metadata__": {"a": 1}}, "__metadata__ is {'a': 1}, expected"),
    "tensor not an object": ({"w": 3}, "tensor 'w' is 3, expected a JSON object"),
    "no dtype": ({"w": {"shape": [2, 3], "data_offsets": [0, 24]}}, "tensor 'w': dtype None, expected one of BOOL"),
    "unknown dtype": (changed(dtype="F31"), "tensor 'w': dtype 'F31', expected one of"),
    "unhashable dtype": (changed(dtype=["F32"]), "tensor 'w': dtype .*, expected one of"),
    "no shape": ({"w": {"dtype": "F32", "data_offsets": [0, 24]}}, "tensor 'w': shape None, expected"),
    "shape a number": (changed(shape=6), "tensor 'w': shape 6, expected a list"),
    "negative": (changed(shape=[-2, -3]), r"tensor 'w': shape \[-2.0, -3.0\], expected"),
    "minus zero": (changed(shape=[2, 3], data_offsets=[-0.0, 24]), "tensor 'w': data_offsets"),
    "fraction": (changed(shape=[2.0, 3]), "tensor 'w': shape"),
    "bool": (changed(shape=[True, 6]), "tensor 'w': shape"),
    "a million digits": ((None, b'{"w": {"shape": [1' + b"0" * 10**6 + b"]}}", b""), "data_offsets None"),
    "65 dimensions": (changed(shape=[1] * 65), "at most 64"),
    "overflow": (changed(shape=[2**32, 2**32]), r"less than 2\*\*63 bytes"),
    "overflow beside zero": (changed(shape=[0, 2**40, 2**40], data_offsets=[0, 0]), r"less than 2\*\*63 bytes"),
    "wrong size": (changed(shape=[2, 2]), r"\[0, 24\] hold 24 bytes, expected 16 for F32 of shape \[2, 2\]"),
    "three offsets": (changed(data_offsets=[0, 24, 24]), r"data_offsets \[0, 24, 24\], expected \[begin, end\]"),
    "end before begin": (changed(data_offsets=[24, 0]), "data_offsets"),
    "bool offset": (changed(data_offsets=[False, 24]), "data_offsets"),
    "cut": ({"w": ENTRY}, "tensor 'w': ends at byte 24, but only 0 bytes follow the header: the file is cut short"),
    "one byte short": ((None, json.dumps({"w": ENTRY}).encode(), b"\0" * 23), "only 23 bytes follow"),
    "one byte more": ((None, json.dumps({"w": ENTRY}).encode(), b"\0" * 25), "25 bytes follow the header, expected 24"),
    "hole at the start": (changed(data_offsets=[8, 32]), "begins at byte 8 and leaves a hole before it, expected 0"),
    "hole between": ({"w": ENTRY, "v": ENTRY | {"data_offsets": [25, 49]}}, "tensor 'v': .* leaves a hole"),
    "overlap": ({"w": ENTRY, "v": ENTRY | {"data_offsets": [20, 44]}}, "tensor 'v': .* overlaps .* expected 24"),
    "the same place": ({"w": ENTRY, "v": ENTRY}, "tensor 'v': .* overlaps"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_damaged_file_is_one_error_that_names_it(tmp_path: Path, case: str) -> None:
    content, message = BROKEN[case]
    path = tmp_path / "x.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, tuple):
        length, header, data = content
        write_raw(path, header, data, length)
    else:
        write_raw(path, content)
    for reader in (open_safetensors, describe):
        with pytest.raises(CheckpointError, match=message) as caught:
            reader(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600


def test_a_dtype_that_numpy_lacks_is_listed_but_not_opened(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "x", {"w": {"dtype": "F4", "shape": [3, 2], "data_offsets": [0, 3]}}, b"\0" * 3)
    assert describe(path) == [("w", "F4", (3, 2), 3, path)]
    with pytest.raises(CheckpointError, match="tensor 'w': NumPy has no dtype F4; convert"):
        open_safetensors(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_safetensors(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="not a file"):
        open_safetensors(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a file"):
        open_safetensors(tmp_path / "pipe")


# The library decides what is valid

# What it accepts and we refuse: see the docstring of minineo.checkpoints.header.
DELIBERATE = ("occurs twice", "at most 64 integers", "less than 2**63 bytes", "NumPy has no dtype")

sizes = st.sampled_from([0, 1, 2, 3, 4, 8, 16, 24, -1, 2**31, 2**62, 2**63, 2**64, 10**30, 1.0, True, None, "1"])
fields = {
    "dtype": st.sampled_from(["F32", "F16", "BF16", "U8", "BOOL", "F8_E4M3", "F6_E2M3", "F4", "f32", "X", "", None, 3]),
    "shape": st.lists(sizes, max_size=4) | sizes,
    "data_offsets": st.lists(sizes, min_size=1, max_size=3) | sizes,
    "more": st.just([{}]),
}


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """A valid file of a few tensors, with up to three things changed: fields, names, bytes, length."""
    header: dict[str, Any] = {}
    position = 0
    for name in draw(st.lists(st.text(max_size=2), max_size=4, unique=True)):
        dtype, itemsize = draw(st.sampled_from([("F32", 4), ("F64", 8), ("BF16", 2), ("I8", 1), ("BOOL", 1)]))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        nbytes = int(np.prod(shape, dtype=np.int64)) * itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + nbytes]}
        position += nbytes
    names = list(header)
    for _ in range(draw(st.integers(0, 2)) if names else 0):
        field = draw(st.sampled_from(sorted(fields)))
        header[draw(st.sampled_from(names))][field] = draw(fields[field])
    if draw(st.booleans()):
        header["__metadata__"] = draw(st.sampled_from([{"format": "pt"}, {}, None, {"a": 1}, [], "x"]))
    order = draw(st.permutations(sorted(header)))
    text = json.dumps({name: header[name] for name in order}, ensure_ascii=draw(st.booleans())).encode()
    text += b" " * draw(st.integers(0, 8))
    content = bytearray(len(text).to_bytes(8, "little") + text + draw(st.binary(min_size=position, max_size=position)))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, len(content)))
        width = draw(st.integers(0, 2))
        content[at : at + width] = draw(
            st.sampled_from([b"", b"0", b"1", b"-", b".", b'"', b",", b"\xff", b"\0", b" "])
        )
    return bytes(content)


def open_with_library(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]] | None:
    try:
        tensors = safetensors.deserialize(content)
    except safetensors.SafetensorError:
        return None
    return {name: (info["dtype"], tuple(info["shape"]), bytes(info["data"])) for name, info in tensors}


def open_or_reason(path: Path) -> dict[str, np.ndarray] | str:
    try:
        return open_safetensors(path)
    except CheckpointError as error:
        return str(error)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=damaged_files())
def test_the_library_and_we_accept_the_same_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    theirs = open_with_library(content)
    arrays = open_or_reason(tmp_path / "x")
    if isinstance(arrays, str):
        assert theirs is None or any(reason in arrays for reason in DELIBERATE), arrays
        return
    spelling = {dtype: name for name, dtype in NUMPY_DTYPES.items()}
    ours = {name: (spelling[array.dtype], array.shape, array.tobytes()) for name, array in arrays.items()}
    assert ours == theirs


# Saving


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    params = every_dtype() | {
        "transposed": rng.normal(size=(3, 4)).astype(np.float32).T,
        "strided": rng.normal(size=(6, 4))[::2, ::-1],
        "big-endian": rng.normal(size=5).astype(">f4"),
        "read-only": np.broadcast_to(np.float32(2), (3, 3)),
    }
    save_safetensors(params, tmp_path / "x.safetensors")
    for read in (load_file(tmp_path / "x.safetensors"), open_safetensors(tmp_path / "x.safetensors")):
        assert read.keys() == params.keys()
        for name, array in params.items():
            assert read[name].dtype == array.dtype.newbyteorder("=")
            np.testing.assert_array_equal(read[name], array, strict=name != "big-endian")
    with safetensors.safe_open(tmp_path / "x.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt"}
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_metadata_of_ones_own(tmp_path: Path) -> None:
    save_safetensors({"w": np.ones(1)}, tmp_path / "x", metadata={"a": "b"})
    with safetensors.safe_open(tmp_path / "x", framework="np") as file:
        assert file.metadata() == {"a": "b"}


@pytest.mark.parametrize("dtype", [BFLOAT16, object, "U3", np.complex64])
def test_a_dtype_that_cannot_be_saved(tmp_path: Path, dtype: Any) -> None:
    with pytest.raises(TypeError, match=r"tensor 'w': cannot save dtype .*expected one of bool, uint8"):
        save_safetensors({"w": np.zeros(2, dtype)}, tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_saving_over_the_file_that_the_arrays_are_views_of(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_safetensors({"a": np.arange(5000, dtype=np.float32), "b": np.ones(5000, np.float32)}, path)
    params = open_safetensors(path)
    params["a"] *= 2
    save_safetensors({"b": params["b"], "a": params["a"]}, path)
    np.testing.assert_array_equal(params["b"], np.ones(5000))
    again = open_safetensors(path)
    np.testing.assert_array_equal(again["a"], 2 * np.arange(5000))
    np.testing.assert_array_equal(again["b"], np.ones(5000))


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "x.safetensors"
    save_safetensors({"w": np.ones(3)}, path)

    def half(arrays: object, filename: Path, metadata: object) -> None:
        Path(filename).write_bytes(b"half")
        raise error

    monkeypatch.setattr(module, "save_file", half)
    with pytest.raises(type(error)):
        save_safetensors({"w": np.zeros(3)}, path)
    assert open_safetensors(path)["w"].tolist() == [1, 1, 1]
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(("fsync", os.fstat(fd).st_size)), fsync(fd))[1])
    monkeypatch.setattr(
        os, "replace", lambda a, b: (calls.append(("replace", Path(a).parent, Path(b))), replace(a, b))[1]
    )
    save_safetensors({"w": np.ones(3)}, tmp_path / "x")
    assert calls == [("fsync", (tmp_path / "x").stat().st_size), ("replace", tmp_path, tmp_path / "x")]


def test_a_new_file_has_ordinary_permissions(tmp_path: Path) -> None:
    save_safetensors({"w": np.ones(3)}, tmp_path / "x")
    (tmp_path / "ordinary").touch()
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
