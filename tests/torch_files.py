"""Files as torch.save writes them, written by hand without torch, so that each part of them can be made wrong."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
STORAGE_NAMES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


class Name:
    """Something that a pickle names without importing it: `Name("torch", "FloatStorage")`."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """A call that a pickle makes when it is loaded."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self.function, self.arguments = Name(module, name), arguments


class Stored:
    """A storage: a flat row of numbers under a key."""

    def __init__(self, key: Any, storage: str, numel: Any, view: tuple[Any, ...] = ()) -> None:
        self.identifier = ("storage", Name("torch", storage), key, "cpu", numel, *view)


class _Pickler(pickle._Pickler):  # the one in Python, whose parts can be replaced
    def persistent_id(self, value: Any) -> Any:
        return value.identifier if isinstance(value, Stored) else None

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, Name):
            if self.proto >= 4:
                self.save(value.module)
                self.save(value.name)
                self.write(pickle.STACK_GLOBAL)
            else:
                self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def pickled(value: Any, protocol: int = 2) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol).dump(value)
    return file.getvalue()


def tensor(key: str, array: np.ndarray) -> Call:
    """The call that torch pickles for a tensor in a storage of its own."""
    strides = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides)
    storage = Stored(key, STORAGE_NAMES[array.dtype.name], array.size)
    return rebuild(storage, 0, array.shape, strides[: array.ndim])


def rebuild(storage: Any, offset: Any, shape: Any, strides: Any) -> Call:
    return Call("torch._utils", "_rebuild_tensor_v2", storage, offset, shape, strides, False, OrderedDict())


def write_zip(
    path: Path,
    program: bytes,
    storages: Mapping[str, bytes],
    *,
    byteorder: bytes | None = b"little",
    compression: int = zipfile.ZIP_STORED,
    extra: Mapping[str, bytes] | None = None,
    change: Callable[[bytes], bytes] = bytes,
) -> Path:
    """A zip with that pickle and these storages; `change` doctors its bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("model/data.pkl", program)
        if byteorder is not None:
            archive.writestr("model/byteorder", byteorder)
        for key, content in storages.items():
            archive.writestr(f"model/data/{key}", content)
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    path.write_bytes(change(buffer.getvalue()))
    return path


def write_old(
    path: Path,
    program: bytes,
    storages: Mapping[str, tuple[int, bytes]],
    *,
    magic: Any = MAGIC_NUMBER,
    version: Any = 1001,
    little_endian: Any = True,
    keys: Any = None,
) -> Path:
    """A file in the format before the zip; storages are numbers of elements and bytes."""
    system = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickled(magic), pickled(version), pickled(system), program]
    parts.append(pickled(list(storages) if keys is None else keys))
    parts += [struct.pack("<q", numel) + content for numel, content in storages.values()]
    path.write_bytes(b"".join(parts))
    return path


def save(path: Path, arrays: Mapping[str, np.ndarray], old: bool = False, protocol: int = 2) -> Path:
    """Write arrays as torch.save writes a state dict."""
    keys = {name: str(number) for number, name in enumerate(arrays)}
    program = pickled(OrderedDict((name, tensor(keys[name], array)) for name, array in arrays.items()), protocol)
    if old:
        return write_old(path, program, {keys[name]: (array.size, array.tobytes()) for name, array in arrays.items()})
    return write_zip(path, program, {keys[name]: array.tobytes() for name, array in arrays.items()})
