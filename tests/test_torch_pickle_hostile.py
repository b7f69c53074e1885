"""Hostile files of torch's format: nothing in them is ever run, and each ends in the one error, soon and small.

Each case is a pickle, put into a zip and into the old format. Whatever they would run writes a file, which must not
appear; with Python's own pickle it does (`test_they_are_hostile`).
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_files import Call, Name, Stored, pickled, rebuild, tensor, write_old, write_zip

from minineo.checkpoints import CheckpointError
from minineo.checkpoints.torch_file import MAX_PICKLE_BYTES, describe_torch, open_torch
from minineo.checkpoints.torch_pickle import ADMITTED

MARKER = "it-has-run"
TOUCH = f"open({MARKER!r}, 'w').close()"


def program(*instructions: bytes, protocol: int = 2) -> bytes:
    return pickle.PROTO + bytes([protocol]) + b"".join(instructions) + pickle.STOP


def text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(raw)) + raw


def name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def by_stack(module: str, name: str) -> bytes:
    return text(module) + text(name) + pickle.STACK_GLOBAL


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + pickle.MARK + b"".join(arguments) + pickle.TUPLE + pickle.REDUCE


class Reduced:
    """An object that Python's pickle rebuilds by any call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


# What runs code when it is loaded with Python's pickle.
RUNS_CODE = {
    "os.system": pickle.dumps(Reduced(os.system, f"touch {MARKER}"), 2),
    "eval": pickle.dumps(Reduced(eval, TOUCH), 2),
    "exec": pickle.dumps(Reduced(exec, TOUCH), 2),
    "exec, protocol 0": pickle.dumps(Reduced(exec, TOUCH), 0),
    "exec, protocol 3": pickle.dumps(Reduced(exec, TOUCH), 3),
    "exec, protocol 4": pickle.dumps(Reduced(exec, TOUCH), 4),
    "exec, protocol 5": pickle.dumps(Reduced(exec, TOUCH), 5),
    "exec as a tensor": pickle.dumps({"x": Reduced(exec, TOUCH)}, 2),
    "exec as a key": program(pickle.EMPTY_DICT, call(name("builtins", "exec"), text(TOUCH)), text("x"), pickle.SETITEM),
    "exec and then dropped": program(call(name("builtins", "exec"), text(TOUCH)), pickle.POP, pickle.EMPTY_DICT),
    "subprocess": pickle.dumps(Reduced(subprocess.check_call, ["touch", MARKER]), 2),
    "open": program(call(name("builtins", "open"), text(MARKER), text("w"))),
    "getattr": program(
        call(
            call(call(name("builtins", "getattr"), name("builtins", "__dict__"), text("get")), text("exec")),
            text(TOUCH),
        )
    ),
    "nested name": program(call(by_stack("os", "path.os.system"), text(f"touch {MARKER}")), protocol=4),
    "name put together on the stack": program(
        text("builtins"),
        pickle.BINPUT + b"\x00",
        text("exec"),
        pickle.BINPUT + b"\x01",
        pickle.TUPLE2,
        pickle.POP,
        pickle.BINGET + b"\x00",
        pickle.BINGET + b"\x01",
        pickle.STACK_GLOBAL,
        pickle.MARK,
        text(TOUCH),
        pickle.TUPLE,
        pickle.REDUCE,
        protocol=4,
    ),
    "INST": b"(S" + repr(TOUCH).encode() + b"\nibuiltins\nexec\n.",
    "OBJ": program(pickle.MARK, name("builtins", "exec"), text(TOUCH), pickle.OBJ),
    "NEWOBJ": program(
        name("subprocess", "Popen"), pickle.MARK, text(f"touch {MARKER}"), pickle.TUPLE, pickle.NEWOBJ, pickle.POP,
        call(name("builtins", "exec"), text(TOUCH)),
    ),
    "copyreg": program(
        call(name("copyreg", "_reconstructor"), name("builtins", "object"), name("builtins", "object"), pickle.NONE),
        pickle.POP,
        call(name("builtins", "exec"), text(TOUCH)),
    ),
    "behind a dictionary": program(
        name("collections", "OrderedDict"), pickle.EMPTY_TUPLE, pickle.REDUCE,
        call(name("builtins", "exec"), text(TOUCH)), pickle.POP,
    ),
}  # fmt: skip

ONE = Stored("0", "FloatStorage", 2)
V2 = ("torch._utils", "_rebuild_tensor_v2")
VIEW = (ONE, 0, (2,), (1,))

# What asks for nonsense of the functions and instructions that a state dict does use.
NONSENSE = {
    "a class of torch": pickled({"x": Call("torch", "device", "cuda")}),
    "torch.load": pickled({"x": Call("torch", "load", "x.bin")}),
    "torch.hub": pickled({"x": Call("torch.hub", "load", "a/b", "c")}),
    "torch.storage._load_from_bytes": pickled({"x": Call("torch.storage", "_load_from_bytes", b"")}),
    "a dtype": pickled({"x": Name("torch", "float32")}),
    "a storage that is called": pickled({"x": Call("torch", "FloatStorage", 3)}),
    "a dictionary that is called": program(pickle.EMPTY_DICT, pickle.EMPTY_TUPLE, pickle.REDUCE),
    "a call with a list": program(name("collections", "OrderedDict"), pickle.EMPTY_LIST, pickle.REDUCE),
    "an OrderedDict of pairs": pickled(Call("collections", "OrderedDict", [("x", 1)])),
    "a size of nothing": pickled({"x": Call("torch", "Size")}),
    "a parameter of nothing": pickled({"x": Call("torch._utils", "_rebuild_parameter", 1, True, None)}),
    "a tensor of nothing": pickled({"x": Call(*V2)}),
    "a tensor of a tensor": pickled({"x": rebuild(rebuild(*VIEW), 0, (2,), (1,))}),
    "attributes of a storage": program(name("torch", "FloatStorage"), pickle.EMPTY_DICT, pickle.BUILD),
    "attributes of a function": program(name(*V2), pickle.EMPTY_DICT, pickle.BUILD),
    "attributes that are none": program(pickle.EMPTY_DICT, text("x"), pickle.BUILD),
    "items of a function": program(name(*V2), text("call"), pickle.NONE, pickle.SETITEM),
    "items without values": program(pickle.EMPTY_DICT, pickle.MARK, text("x"), pickle.SETITEMS),
    "a key that is a number": program(pickle.EMPTY_DICT, pickle.BININT1 + b"\x01", pickle.NONE, pickle.SETITEM),
    "a key that is a list": program(pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.NONE, pickle.SETITEM),
    "a list that is no list": program(pickle.EMPTY_TUPLE, pickle.NONE, pickle.APPEND),
    "an empty stack": program(pickle.REDUCE),
    "nothing": program(),
    "two values": program(pickle.NONE, pickle.NONE),
    "a mark left": program(pickle.EMPTY_DICT, pickle.MARK),
    "no mark": program(pickle.EMPTY_DICT, pickle.SETITEMS),
    "across a mark": program(pickle.EMPTY_DICT, pickle.MARK, text("x"), pickle.SETITEM),
    "an empty memo": program(pickle.BINGET + b"\x07"),
    "an extension": program(b"\x82\x01"),
    "an unknown instruction": program(b"\xff"),
    "protocol 6": program(pickle.EMPTY_DICT, protocol=6),
    "bytes": program(pickle.SHORT_BINBYTES + b"\x01x"),
    "a name that is a number": program(pickle.NONE, text("x"), pickle.STACK_GLOBAL, protocol=4),
    "a name in another language": program(pickle.GLOBAL + b"t\xffrch\nx\n"),
    "half a character": program(text("\ud800")),
    "an identifier that is no tuple": program(text("storage"), pickle.BINPERSID),
    "a module as a storage": program(text("module"), pickle.TUPLE1, pickle.BINPERSID),
    "a storage without a type": pickled({"x": rebuild(Stored("0", "Size", 2), 0, (2,), (1,))}),
    "a storage with a number as key": pickled({"x": rebuild(Stored(0, "FloatStorage", 2), 0, (2,), (1,))}),
    "a storage of -1": pickled({"x": rebuild(Stored("0", "FloatStorage", -1), 0, (0,), (1,))}),
    "a storage of True": pickled({"x": rebuild(Stored("0", "FloatStorage", True), 0, (1,), (1,))}),
    "a storage of 2**62": pickled({"x": rebuild(Stored("0", "FloatStorage", 2**62), 0, (2**62,), (1,))}),
    "a storage of 2**90": pickled({"x": rebuild(Stored("0", "FloatStorage", 2**90), 0, (2,), (1,))}),
    "a storage that is a view": pickled({"x": rebuild(Stored("0", "FloatStorage", 2, (("1", 0, 2),)), 0, (2,), (1,))}),
    "a storage of two types": pickled(
        {"x": rebuild(*VIEW), "y": rebuild(Stored("0", "HalfStorage", 4), 0, (4,), (1,))}
    ),
    "a storage elsewhere": pickled({"x": rebuild(Stored("../../model/data.pkl", "ByteStorage", 2), 0, (2,), (1,))}),
    "a view before the storage": pickled({"x": rebuild(ONE, -1, (2,), (1,))}),
    "a view behind the storage": pickled({"x": rebuild(ONE, 1, (2,), (1,))}),
    "a view far behind": pickled({"x": rebuild(ONE, 2**62, (1,), (1,))}),
    "a view that steps out": pickled({"x": rebuild(ONE, 0, (2,), (2,))}),
    "a view that steps far out": pickled({"x": rebuild(ONE, 0, (2,), (2**63 - 1,))}),
    "a view that steps back": pickled({"x": rebuild(ONE, 1, (2,), (-1,))}),
    "a shape that is negative": pickled({"x": rebuild(ONE, 0, (-2, -1), (1, 1))}),
    "a shape that overflows": pickled({"x": rebuild(ONE, 0, (2**32, 2**32), (1, 1))}),
    "an empty shape that overflows": pickled({"x": rebuild(ONE, 0, (0, 2**62, 2), (1, 1, 1))}),
    "a shape that repeats one number": pickled({"x": rebuild(ONE, 0, (2**40,), (0,))}),
    "a shape of 65 dimensions": pickled({"x": rebuild(ONE, 0, (1,) * 65, (1,) * 65)}),
    "a shape without strides": pickled({"x": rebuild(ONE, 0, (2,), ())}),
    "a shape of floats": pickled({"x": rebuild(ONE, 0, (2.0,), (1,))}),
    "a shape of shapes": pickled({"x": rebuild(ONE, 0, ((2,),), (1,))}),
    "an offset of True": pickled({"x": rebuild(ONE, True, (1,), (1,))}),
}  # fmt: skip


def deep(levels: int, around: bytes) -> bytes:
    return program(pickle.EMPTY_TUPLE, around * levels)


def doubling(levels: int) -> bytes:
    """Nested tuples, each of which holds the one before twice: 2**levels of them for who walks through."""
    return pickle.EMPTY_TUPLE + b"".join(
        pickle.BINPUT + bytes([i]) + pickle.BINGET + bytes([i]) + pickle.TUPLE2 for i in range(levels)
    )


def itself() -> bytes:
    return program(pickle.EMPTY_DICT, pickle.BINPUT + b"\x00", text("x"), pickle.BINGET + b"\x00", pickle.SETITEM)


def long_text(claimed: int) -> bytes:
    return program(pickle.BINUNICODE + struct.pack("<I", claimed) + b"abc")


# What asks for time or memory.
BOMBS = {
    "deep tuples": deep(80_000, pickle.TUPLE1),
    "deep lists": program(pickle.EMPTY_LIST * 40_000, pickle.APPEND * 39_999),
    "deep dictionaries": program((pickle.EMPTY_DICT + text("x")) * 30_000, pickle.EMPTY_DICT, pickle.SETITEM * 30_000),
    "doubled tuples as the whole": program(doubling(200)),
    "doubled tuples as a key": program(pickle.EMPTY_DICT, doubling(200), pickle.NONE, pickle.SETITEM),
    "doubled tuples as a shape": program(
        call(name(*V2), pickle.MARK + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu")
             + pickle.BININT1 + b"\x02" + pickle.TUPLE + pickle.BINPERSID,
             pickle.BININT1 + b"\x00", doubling(200), pickle.EMPTY_TUPLE)
    ),
    "doubled tuples as a tensor": program(pickle.EMPTY_DICT, text("x"), doubling(200), pickle.SETITEM),
    "a dictionary that holds itself": itself(),
    "a million instructions": program(pickle.EMPTY_DICT * 1_000_000),
    "a million marks": program(pickle.MARK * 1_000_000),
    "a text of 4 GB": long_text(2**32 - 1),
    "a frame of 2**64": program(pickle.FRAME + b"\xff" * 8, pickle.EMPTY_TUPLE, protocol=4),
    "bytes of 2**63": program(pickle.BINBYTES8 + struct.pack("<Q", 2**63 - 1), protocol=4),
    "a number of 2 GB": program(pickle.LONG4 + struct.pack("<i", 2**31 - 1)),
    "a number of a million digits": program(pickle.LONG + b"9" * 1_000_000 + b"L\n"),
    "a memo index of 2**32": program(pickle.EMPTY_TUPLE, pickle.LONG_BINPUT + b"\xff" * 4),
    "one name of 15 MB": program(pickle.GLOBAL + b"x" * (MAX_PICKLE_BYTES - 2**20) + b"\ny\n"),
    "a long key": program(pickle.EMPTY_DICT, text("x" * 10_000_000), pickle.NONE, pickle.SETITEM),
}  # fmt: skip

ALL = RUNS_CODE | NONSENSE | BOMBS
assert len(ALL) >= 90


def write(content: bytes, folder: Path, old: bool) -> Path:
    if old:
        return write_old(folder / "x.bin", content, {"0": (2, bytes(8))})
    return write_zip(folder / "x.bin", content, {"0": bytes(8)})


def refuse(path: Path) -> str:
    """Open a file that must be refused within 2 seconds."""
    for reader in (open_torch, describe_torch):
        began = time.process_time()
        with pytest.raises(CheckpointError) as caught:
            reader(path)
        assert time.process_time() - began < 2
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message) < 600
    return message


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize("case", ALL)
def test_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, old: bool) -> None:
    monkeypatch.chdir(tmp_path)
    refuse(write(ALL[case], tmp_path, old))
    assert os.listdir(tmp_path) == ["x.bin"]


@pytest.mark.parametrize("case", BOMBS)
def test_it_takes_little_memory(tmp_path: Path, case: str) -> None:
    path = write(BOMBS[case], tmp_path, old=False)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            open_torch(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * path.stat().st_size + 64 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("case", RUNS_CODE)
def test_they_are_hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """The cases are worth something: with Python's pickle they run what they hold."""
    monkeypatch.chdir(tmp_path)
    script = "import pickle, sys; pickle.load(sys.stdin.buffer)"
    subprocess.run([sys.executable, "-S", "-c", script], input=RUNS_CODE[case], capture_output=True, check=False)
    assert os.listdir(tmp_path) == [MARKER]


@pytest.mark.parametrize("place", ["magic", "version", "little_endian", "keys"])
def test_every_pickle_of_the_old_format_is_distrusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    state = pickled({"x": tensor("0", np.zeros(2, np.float32))})
    wrong = Call("builtins", "exec", TOUCH)
    message = refuse(write_old(tmp_path / "x.bin", state, {"0": (2, bytes(8))}, **{place: wrong}))
    assert "names 'builtins.exec', which no state dict needs" in message
    assert os.listdir(tmp_path) == ["x.bin"]


# Hostile zips ---------------------------------------------------------------------------------------------------------


STATE = pickled({"x": tensor("0", np.zeros(2, np.float32)), "y": tensor("1", np.ones(2, np.float32))})
CENTRAL, END = b"PK\x01\x02", b"PK\x05\x06"


def a_zip(folder: Path, change: Callable[[bytes], bytes] = bytes, **options: Any) -> Path:
    return write_zip(folder / "x.bin", STATE, {"0": bytes(8), "1": bytes(8)}, change=change, **options)


def put(content: bytes, signature: bytes, which: int, offset: int, value: bytes) -> bytes:
    """Overwrite a field of the zip's directory."""
    place = -1
    for _ in range(which + 1):
        place = content.index(signature, place + 1)
    place += offset
    return content[:place] + value + content[place + len(value) :]


# entries in order: data.pkl, byteorder, data/0, data/1; offsets of fields as in the zip specification, 4.3.12
ZIPS: dict[str, Callable[[bytes], bytes]] = {
    "encrypted": lambda z: put(z, CENTRAL, 2, 8, b"\x01\x00"),
    "compressed pickle": lambda z: put(z, CENTRAL, 0, 10, b"\x08\x00"),
    "compressed storage": lambda z: put(z, CENTRAL, 2, 10, b"\x08\x00"),
    "sizes that differ": lambda z: put(z, CENTRAL, 2, 20, struct.pack("<I", 4)),
    "an entry behind the end": lambda z: put(z, CENTRAL, 3, 42, struct.pack("<I", 2**31)),
    "an entry that is another": lambda z: put(z, CENTRAL, 3, 42, struct.pack("<I", z.index(b"model/data/0") - 30)),
    "an entry in the middle of another": lambda z: put(z, CENTRAL, 3, 42, struct.pack("<I", 3)),
    "an entry of 4 GB": lambda z: put(z, CENTRAL, 3, 20, struct.pack("<II", 2**32 - 2, 2**32 - 2)),
    "a pickle of 4 GB": lambda z: put(z, CENTRAL, 0, 20, struct.pack("<II", 2**32 - 2, 2**32 - 2)),
    "a local header that is none": lambda z: put(z, b"PK\x03\x04", 3, 0, b"PK\x07\x08"),
    "a local name that is too long": lambda z: put(z, b"PK\x03\x04", 3, 26, b"\xff\xff\xff\xff"),
    "a directory of 4 GB": lambda z: put(z, END, 0, 12, struct.pack("<I", 2**32 - 2)),
    "a directory behind the end": lambda z: put(z, END, 0, 16, struct.pack("<I", 2**32 - 2)),
    "no directory": lambda z: z[: z.index(CENTRAL)],
    "a name twice": lambda z: z.replace(b"model/data/1", b"model/data/0"),
    "no pickle": lambda z: z.replace(b"model/data.pkl", b"model/date.pkl"),
    "a storage under another name": lambda z: z.replace(b"model/data/1", b"../../data/1"),
}  # fmt: skip


@pytest.mark.parametrize("case", ZIPS)
def test_hostile_zips(tmp_path: Path, case: str) -> None:
    assert set(open_torch(a_zip(tmp_path))) == {"x", "y"}
    refuse(a_zip(tmp_path, ZIPS[case]))


def test_a_zip_that_unpacks_to_much_more(tmp_path: Path) -> None:
    program = b"\x80\x02" + bytes(100_000_000)
    refuse(write_zip(tmp_path / "x.bin", program, {}, compression=zipfile.ZIP_DEFLATED))


def test_a_zip_with_a_huge_directory(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    entry = struct.pack("<4s6H3I5H2I", CENTRAL, 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 300_000
    buffer.write(b"PK\x03\x04" + bytes(26) + directory)
    buffer.write(struct.pack("<4s4H2IH", END, 0, 0, 0xFFFF, 0xFFFF, len(directory), 30, 0))
    (tmp_path / "x.bin").write_bytes(buffer.getvalue())
    assert "directory of" in refuse(tmp_path / "x.bin")


def test_many_large_tensors_of_one_storage(tmp_path: Path) -> None:
    """Converting them to another dtype would take a thousand times the file."""
    storage = Stored("0", "HalfStorage", 2**20)
    views = {f"x{i}": rebuild(storage, 0, (2**20,), (1,)) for i in range(1000)}
    path = write_zip(tmp_path / "x.bin", pickled(views), {"0": bytes(2**21)})
    assert "expected at most twice" in refuse(path)


def test_a_pipe(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "x.bin")
    with pytest.raises(CheckpointError, match="not a file"):
        open_torch(tmp_path / "x.bin")


def test_no_other_name_is_admitted() -> None:
    """Written out once more, so that none is added by accident."""
    storages = ["Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool", "ComplexFloat"]
    assert set(ADMITTED) == {
        ("collections", "OrderedDict"),
        ("torch", "Size"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        *(("torch", f"{kind}Storage") for kind in storages),
    }
