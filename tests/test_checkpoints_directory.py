"""Checkpoint directories: one file or shards, read and written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minineo.checkpoints import CheckpointError, describe, read_state_dict, save_state_dict
from minineo.checkpoints import save as save_module
from minineo.checkpoints.save import parse_size, split_into_shards

SHARDS = [f"model-{i:05d}-of-00003.safetensors" for i in (1, 2, 3)]
INDEX = "model.safetensors.index.json"


def some_params(scale: float = 1.0) -> dict[str, np.ndarray]:
    return {name: np.full((5, 5), i * scale, np.float32) for i, name in enumerate("abcde")}  # 100 bytes each


def assert_same(read: dict[str, Any], params: dict[str, np.ndarray]) -> None:
    assert read.keys() == params.keys()
    for name, array in params.items():
        np.testing.assert_array_equal(read[name], array, strict=True)


def files(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


# Saving and reading back


def test_one_file(tmp_path: Path) -> None:
    save_state_dict(some_params(), tmp_path / "new" / "folder")
    assert files(tmp_path / "new" / "folder") == ["model.safetensors"]
    assert_same(read_state_dict(tmp_path / "new" / "folder"), some_params())


def test_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_state_dict(some_params(), tmp_path, max_shard_size=200)
    assert files(tmp_path) == [*SHARDS, INDEX]
    assert_same(read_state_dict(tmp_path), some_params())
    assert json.loads((tmp_path / INDEX).read_text()) == {
        "metadata": {"total_parameters": 125, "total_size": 500},
        "weight_map": {"a": SHARDS[0], "b": SHARDS[0], "c": SHARDS[1], "d": SHARDS[1], "e": SHARDS[2]},
    }
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Writing model shards" in captured.err


def test_describe(tmp_path: Path) -> None:
    save_state_dict(some_params(), tmp_path, max_shard_size=200)
    expected = [
        (name, "F32", (5, 5), 100, tmp_path / shard)
        for name, shard in zip("abcde", [SHARDS[0]] * 2 + [SHARDS[1]] * 2 + [SHARDS[2]], strict=True)
    ]
    assert describe(tmp_path) == expected
    assert describe(tmp_path / SHARDS[2]) == expected[4:]
    with pytest.raises(FileNotFoundError):
        describe(tmp_path / "absent")


@pytest.mark.parametrize("second", [1000, 300, 200, 100])
@pytest.mark.parametrize("first", [1000, 300, 200, 100])
def test_a_save_leaves_nothing_of_the_one_before(tmp_path: Path, first: int, second: int) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model-notes.safetensors").write_text("mine")
    save_state_dict(some_params(), tmp_path, max_shard_size=first)
    params = read_state_dict(tmp_path)
    for array in params.values():
        array += 1
    save_state_dict(params, tmp_path, max_shard_size=second)  # over the files that params are views of
    assert_same(params, {name: array + 1 for name, array in some_params().items()})
    assert_same(read_state_dict(tmp_path), params)
    written = 1 if second == 1000 else -(-500 // second) + 1
    assert len(files(tmp_path)) == written + 2
    assert {"config.json", "model-notes.safetensors"} < set(files(tmp_path))


@pytest.mark.parametrize("size", [1000, 200, 100])
@pytest.mark.parametrize("fail_at", [1, 2, 3])
def test_a_save_that_fails_while_writing_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, fail_at: int
) -> None:
    save_state_dict(some_params(), tmp_path, max_shard_size=200)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    write, calls = save_module.write_safetensors, []

    def failing(params: Any, path: Path) -> None:
        calls.append(path)
        write(params, path)
        if len(calls) == fail_at or size == 1000:
            raise OSError("disk full")

    monkeypatch.setattr(save_module, "write_safetensors", failing)
    with pytest.raises(OSError, match="disk full"):
        save_state_dict(some_params(2), tmp_path, max_shard_size=size)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


@pytest.mark.parametrize("fail_at", [1, 2, 3, 4])
def test_shards_of_two_saves_are_never_read_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    """Even when the computer stops between two renamings, and the shards have the same names."""
    save_state_dict(some_params(), tmp_path, max_shard_size=200)
    replace, calls = os.replace, []

    def failing(a: Path, b: Path) -> None:
        calls.append(b)
        if len(calls) == fail_at:
            raise OSError("power cut")
        replace(a, b)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="power cut"):
        save_state_dict(some_params(2), tmp_path, max_shard_size=200)
    with pytest.raises(CheckpointError, match="no weights"):
        read_state_dict(tmp_path)


def test_a_tensor_larger_than_a_shard_gets_one_of_its_own() -> None:
    sizes = {"a": 2, "big": 9, "b": 3, "c": 1, "exact": 5, "huge": 99}
    shards = list(split_into_shards(sizes, 5).values())
    assert shards == [["big"], ["a", "b"], ["c"], ["huge"], ["exact"]]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, 1), (10**20, 10**20), ("20KB", 20_000), ("5GB", 5 * 10**9), (" 1.5 mb ", 1_500_000), ("1TB", 10**12)],
)
def test_sizes(size: int | str, expected: int) -> None:
    assert parse_size(size) == expected


@pytest.mark.parametrize("size", [0, -5, True, 1.5, None, "", "5", "GB", "5GiB", "-5GB", "0GB", "5 apples"])
def test_no_sizes(tmp_path: Path, size: Any) -> None:
    with pytest.raises(ValueError, match=r'max_shard_size is .*, expected a positive number of bytes or .* "5GB"'):
        save_state_dict(some_params(), tmp_path, max_shard_size=size)
    assert files(tmp_path) == []


# Directories that cannot be read


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such directory"):
        read_state_dict(tmp_path / "absent")


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected model\.safetensors, .* or the index of shards; found nothing"):
        read_state_dict(tmp_path)
    for i in range(12):
        (tmp_path / f"{i:02d}.txt").touch()
    with pytest.raises(CheckpointError, match=r"found 00\.txt, .*09\.txt and 2 more$"):
        read_state_dict(tmp_path)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("tf_model.h5", "from_tf=True")],
)
def test_formats_that_are_not_read(tmp_path: Path, name: str, recipe: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=f"{name}: this format is not read, .*transformers: .*{recipe}"):
        read_state_dict(tmp_path)
    save_state_dict(some_params(), tmp_path)
    assert_same(read_state_dict(tmp_path), some_params())


def test_one_file_goes_before_shards(tmp_path: Path) -> None:
    save_state_dict(some_params(), tmp_path)
    (tmp_path / INDEX).write_text("broken")
    assert_same(read_state_dict(tmp_path), some_params())


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "weight_map is None"),
        ("{}", "weight_map is None"),
        ('{"weight_map": {}}', "weight_map is {}"),
        ('{"weight_map": ["a"]}', r"weight_map is \['a'\], expected an object"),
        ('{"weight_map": {"a": 3}}', "tensor 'a': file 3, expected the plain name"),
        ('{"weight_map": {"a": ""}}', "plain name"),
        ('{"weight_map": {"a": ".."}}', "plain name"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "tensor 'a': file '../x.safetensors', expected the plain name"),
        ('{"weight_map": {"a": "sub/x.safetensors"}}', "plain name"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "plain name"),
        ('{"weight_map": {"a": "C:x.safetensors"}}', "plain name"),
        ('{"weight_map": {"a": "sub\\\\x.safetensors"}}', "plain name"),
        ('{"weight_map": {"a": "x\\u0000"}}', "plain name"),
    ],
)
def test_a_bad_index(tmp_path: Path, index: str, message: str) -> None:
    (tmp_path / INDEX).write_text(index)
    for reader in (read_state_dict, describe):
        with pytest.raises(CheckpointError, match=message) as caught:
            reader(tmp_path)
        assert str(caught.value).startswith(f"{tmp_path / INDEX}: ")


def test_a_missing_shard(tmp_path: Path) -> None:
    save_state_dict(some_params(), tmp_path, max_shard_size=200)
    (tmp_path / SHARDS[1]).unlink()
    for reader in (read_state_dict, describe):
        with pytest.raises(CheckpointError, match=rf"{SHARDS[1]}: this shard is missing; {INDEX} expects tensor 'c'"):
            reader(tmp_path)


def test_a_tensor_missing_from_its_shard(tmp_path: Path) -> None:
    save_state_dict(some_params(), tmp_path, max_shard_size=200)
    (tmp_path / SHARDS[2]).write_bytes((tmp_path / SHARDS[1]).read_bytes())
    for reader in (read_state_dict, describe):
        with pytest.raises(CheckpointError, match=rf"{SHARDS[2]}: tensor 'e' is not in this shard, where {INDEX}"):
            reader(tmp_path)


def test_the_index_decides_between_two_tensors_of_one_name(tmp_path: Path) -> None:
    save_state_dict(some_params(), tmp_path, max_shard_size=200)
    other = tmp_path / "other"
    save_state_dict({"e": some_params()["e"], "a": some_params()["a"] - 7}, other)
    (other / "model.safetensors").rename(tmp_path / SHARDS[2])
    assert_same(read_state_dict(tmp_path), some_params())
    assert sorted(info.name for info in describe(tmp_path)) == list("abcde")


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    save_state_dict(some_params(), tmp_path, max_shard_size=200)
    path = tmp_path / SHARDS[1]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=rf"{SHARDS[1]}: tensor 'd': .* the file is cut short"):
        read_state_dict(tmp_path)
