"""Weights in one file that torch.save wrote: a zip (since torch 1.6) or the format before it, opened as a memory map.

The zip holds `NAME/data.pkl`, a pickle of the state dict in which each tensor is a view into a storage, the storages
as `NAME/data/KEY`, uncompressed, and `NAME/byteorder`. The old format is five pickles (a magic number, a version, facts
about the machine, the state dict, the keys of the storages), then for each key the number of elements (8 bytes) and
the elements. The pickles are run by our own machine, which knows what a state dict needs and nothing else (see
`pickle_machine`): a file from a stranger can be damaged or senseless, but it cannot do anything.

Nothing here allocates by a size that the file claims: pickles and the zip's directory are read up to a fixed size,
and everything else stays in the file.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from minineo.arrays import Array
from minineo.checkpoints.dtypes import NUMPY_DTYPES
from minineo.checkpoints.errors import CheckpointError, quote
from minineo.checkpoints.header import TensorInfo
from minineo.checkpoints.pickle_machine import PickleError
from minineo.checkpoints.safetensors_file import regular_file
from minineo.checkpoints.torch_pickle import StateDictMachine, Storage, Tensor, check_state_dict

MAX_PICKLE_BYTES = 8 * 2**20  # gpt-neo-2.7B's has about 50 kB
MAX_ZIP_DIRECTORY_BYTES = 2 * 2**20  # about 100 bytes for a tensor; in Python's memory it grows tenfold
MAX_SHARED_BYTES = 16 * 2**20  # of tensors that share storages, beyond twice what those have

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
OLD_VERSION = 1001
LOCAL_HEADER = struct.Struct("<4s22xHH")  # of an entry in a zip: signature, ..., lengths of its name and of extra data
ENCRYPTED = 0x1


class Contents(NamedTuple):
    """What a file holds: its tensors, and the byte at which each storage begins."""

    tensors: dict[str, Tensor]
    places: dict[str, int]


def open_torch(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Open a state dict that torch.save wrote without reading its tensors, and without torch.

    Each array is a view into the file, as those of `open_safetensors` are. Tensors that shared memory when they were
    saved (a tied head) share it again; one that was transposed or cut out of another is a view with strides.

    Returns:
        Arrays by name, in the order of the state dict, with the dtype and shape they were stored with; bfloat16 as its
        raw bits (dtype `BFLOAT16`, see `cast`).

    Raises:
        CheckpointError: when the file is damaged, holds anything but a state dict, or a pickle that would run code.
    """
    path = regular_file(path)
    with path.open("rb") as file:
        contents = _read_contents(file, path)
        mapped = np.memmap(file, dtype=np.uint8, mode="c")
    arrays = {}
    for name, (storage, offset, shape, strides) in contents.tensors.items():
        begin = contents.places[storage.key] + offset * storage.itemsize
        steps = tuple(stride * storage.itemsize for stride in strides)
        arrays[name] = np.ndarray(shape, NUMPY_DTYPES[storage.dtype], buffer=mapped, offset=begin, strides=steps)
    return arrays


def describe_torch(path: str | os.PathLike[str]) -> list[TensorInfo]:
    """List the tensors of a file that torch.save wrote, reading nothing but its pickle and its table of contents."""
    path = regular_file(path)
    with path.open("rb") as file:
        tensors = _read_contents(file, path).tensors
    return [TensorInfo(name, t.storage.dtype, t.shape, t.nbytes, path) for name, t in tensors.items()]


def _read_contents(file: BinaryIO, path: Path) -> Contents:
    start = file.read(8)
    file.seek(0)
    try:
        if start.startswith(b"PK\x03\x04"):
            contents, storages = _read_zip(file)
        elif start.startswith(b"\x80"):
            contents, storages = _read_old(file)
        elif start == b"version ":
            raise PickleError("a Git LFS pointer, not the weights themselves; fetch them with `git lfs pull`")
        else:
            raise PickleError(f"begins with {start!r}, expected a zip or a pickle, as torch.save writes them")
        _check_shared(contents.tensors, storages)
    except PickleError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return contents


def _check_shared(tensors: Mapping[str, Tensor], storages: Mapping[str, Storage]) -> None:
    """Refuse many large tensors made of one small storage; a tied head may double what is there."""
    claimed = sum(tensor.nbytes for tensor in tensors.values())
    present = sum(storage.nbytes for storage in storages.values())
    if claimed > 2 * present + MAX_SHARED_BYTES:
        raise PickleError(f"its tensors have {claimed} bytes, expected at most twice the {present} of its storages")


def _size_of(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


# The zip format -------------------------------------------------------------------------------------------------------


class _BoundedReader(io.BufferedReader):
    """A file that refuses to be read in large pieces: the zipfile module reads as much as the file tells it to."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as usual, up to the size of a directory."""
        if size is not None and size > MAX_ZIP_DIRECTORY_BYTES:
            raise PickleError(f"a zip with a directory of {size} bytes, expected at most {MAX_ZIP_DIRECTORY_BYTES}")
        return super().read(size)


def _read_zip(file: BinaryIO) -> tuple[Contents, dict[str, Storage]]:
    entries, folder = _zip_entries(file)
    if f"{folder}/constants.pkl" in entries:
        raise PickleError("a TorchScript program, expected a state dict: save model.state_dict() with torch.save")
    _check_byteorder(file, entries, f"{folder}/byteorder")

    machine = StateDictMachine(io.BytesIO(_read_entry(file, entries[f"{folder}/data.pkl"], MAX_PICKLE_BYTES)))
    tensors = check_state_dict(machine.load())
    places = {}
    for key, storage in machine.storages.items():
        name = f"{folder}/data/{key}"
        if name not in entries:
            raise PickleError(f"storage {quote(key)} is not in the zip: the file is incomplete")
        if entries[name].file_size != storage.nbytes:
            raise PickleError(
                f"storage {quote(key)} has {entries[name].file_size} bytes, expected {storage.nbytes} for "
                f"{storage.numel} numbers of type {storage.dtype}"
            )
        places[key] = _place(file, entries[name])
    _check_no_overlap(places, machine.storages)
    return Contents(tensors, places), machine.storages


def _zip_entries(file: BinaryIO) -> tuple[dict[str, zipfile.ZipInfo], str]:
    """The entries of a zip by name, and the folder in it that holds everything."""
    raw = io.FileIO(file.fileno(), closefd=False)
    with _zip_errors(), _BoundedReader(raw) as bounded, zipfile.ZipFile(bounded) as archive:
        listed = archive.infolist()
    entries = {entry.filename: entry for entry in listed}
    if len(entries) < len(listed):
        raise PickleError("a zip in which one name occurs twice")
    folders = [name.removesuffix("/data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise PickleError(f"a zip with {len(folders)} entries data.pkl, expected one, as torch.save writes it")
    return entries, folders[0]


@contextmanager
def _zip_errors() -> Iterator[None]:
    """Turn what the zipfile module raises for a damaged file, which is of many kinds, into our own error."""
    try:
        yield
    except PickleError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, OSError, struct.error) as error:
        raise PickleError(f"a zip that is damaged or cut short ({error})") from error


def _place(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Find the byte at which an entry's content begins; it has to be there as it is, and whole."""
    name = quote(entry.filename)
    if entry.flag_bits & ENCRYPTED:
        raise PickleError(f"the entry {name} of the zip is encrypted")
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise PickleError(f"the entry {name} of the zip is compressed, expected it stored, as torch.save does")
    if not 0 <= entry.header_offset <= _size_of(file) - LOCAL_HEADER.size:
        raise PickleError(f"the entry {name} of the zip begins outside the file")
    file.seek(entry.header_offset)
    signature, name_length, extra_length = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    begin: int = entry.header_offset + LOCAL_HEADER.size + name_length + extra_length
    if signature != b"PK\x03\x04" or begin + entry.file_size > _size_of(file):
        raise PickleError(f"the entry {name} of the zip is not where its directory says, or cut short")
    return begin


def _read_entry(file: BinaryIO, entry: zipfile.ZipInfo, limit: int) -> bytes:
    if entry.file_size > limit:
        raise PickleError(f"{quote(entry.filename)} has {entry.file_size} bytes, expected at most {limit}")
    file.seek(_place(file, entry))
    return file.read(entry.file_size)


def _check_byteorder(file: BinaryIO, entries: Mapping[str, zipfile.ZipInfo], name: str) -> None:
    order = _read_entry(file, entries[name], limit=100) if name in entries else b"little"  # torch before 2.1 wrote none
    if order != b"little":
        raise PickleError(f"its byte order is {quote(order)}, expected little; save it again on a usual machine")


def _check_no_overlap(places: Mapping[str, int], storages: Mapping[str, Storage]) -> None:
    """Make sure that no two storages share bytes: a change in one would change the other."""
    end = 0
    for key in sorted(places, key=lambda key: (places[key], storages[key].nbytes)):
        if places[key] < end:
            raise PickleError(f"storage {quote(key)} of the zip overlaps another")
        end = places[key] + storages[key].nbytes


# The format before it -------------------------------------------------------------------------------------------------


def _read_old(file: BinaryIO) -> tuple[Contents, dict[str, Storage]]:
    pickles = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    machine = StateDictMachine(pickles)
    for expected in (MAGIC_NUMBER, OLD_VERSION):
        found = machine.load()
        if type(found) is not int or found != expected:
            raise PickleError(f"a pickle that does not begin with torch's magic number and version {OLD_VERSION}")
    system = machine.load()
    if type(system) is not dict or system.get("little_endian") is not True:
        raise PickleError("its byte order is not little; save it again on a usual machine")
    tensors = check_state_dict(machine.load())
    return Contents(tensors, _old_places(machine, machine.load(), _size_of(file), file)), machine.storages


def _old_places(machine: StateDictMachine, keys: object, size: int, file: BinaryIO) -> dict[str, int]:
    """Where each storage's numbers begin: after the pickles they follow one another, each after its 8-byte count."""
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise PickleError("the keys of its storages are not a list of strings")
    if len(set(keys)) < len(keys) or set(keys) != set(machine.storages):
        raise PickleError("the keys of its storages are not those that its tensors have")
    places = {}
    position = machine.file.tell()
    for key in keys:
        storage = machine.storages[key]
        file.seek(position)
        numel = int.from_bytes(file.read(8), "little")
        if numel != storage.numel:
            raise PickleError(f"storage {quote(key)} has {numel} numbers, expected {storage.numel}")
        places[key] = position + 8
        position += 8 + storage.nbytes
        if position > size:
            raise PickleError(f"storage {quote(key)} ends at byte {position} of {size}: the file is cut short")
    if position < size:
        raise PickleError(f"{size - position} bytes follow the last storage, expected none")
    return places
