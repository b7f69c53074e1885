"""The pickle in a file that torch wrote: which tensors a state dict has, and in which storage the numbers of each lie.

torch pickles a tensor as the call `_rebuild_tensor_v2(storage, offset, size, stride, ...)`: a view into a storage, a
flat row of numbers that lies elsewhere in the file, so that tensors can share one (a tied head) or be transposed. The
functions that a state dict calls stand here anew: they write down what they are told, and check it.
"""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any, NamedTuple, NoReturn

from minineo.checkpoints.dtypes import BITS
from minineo.checkpoints.errors import quote
from minineo.checkpoints.header import MAX_DIMENSIONS
from minineo.checkpoints.pickle_machine import Function, PickleError, PickleMachine


class StorageType(NamedTuple):
    """One of torch's storage classes, by what it holds."""

    dtype: str
    """As safetensors spells it."""


class Storage(NamedTuple):
    """A flat row of numbers somewhere in the file."""

    key: str
    dtype: str
    numel: int

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return BITS[self.dtype] // 8

    @property
    def nbytes(self) -> int:
        """Bytes of all numbers."""
        return self.numel * self.itemsize


class Tensor(NamedTuple):
    """A view into a storage; offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its own numbers."""
        return math.prod(self.shape) * self.storage.itemsize


STORAGE_TYPES = {
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "DoubleStorage": "F64",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
}


class StateDictMachine(PickleMachine):
    """Runs the pickles of one file, and remembers the storages that they name.

    `storages` are found by their keys.
    """

    def __init__(self, file: BytesIO) -> None:
        super().__init__(file, ADMITTED, self._storage)
        self.storages: dict[str, Storage] = {}

    def _storage(self, identifier: object) -> Storage:
        """Read what torch calls a storage: ("storage", type, key, device, numel) and, in old files, None."""
        if type(identifier) is not tuple or len(identifier) not in (5, 6) or identifier[0] != "storage":
            raise PickleError("a persistent identifier that is not that of a storage")
        _, kind, key, _, numel, *view = identifier
        if not isinstance(kind, StorageType) or type(key) is not str or not _is_size(numel):
            raise PickleError("a storage whose type, key or number of elements is not one")
        if view not in ([], [None]):
            raise PickleError(f"storage {quote(key)} is a view of another, which torch wrote before version 0.4 only")
        storage = Storage(key, kind.dtype, numel)
        if self.storages.setdefault(key, storage) != storage:
            raise PickleError(f"storage {quote(key)} occurs with two types or sizes")
        return storage


def check_state_dict(value: object) -> dict[str, Tensor]:
    """Make sure that what a pickle held is a state dict: tensors by name.

    Raises:
        PickleError: saying what it is instead. A training checkpoint, with a state dict among other things, is refused:
            which of the things in it was meant is for its owner to say.
    """
    if type(value) is not dict:
        raise PickleError(f"holds a {type(value).__name__}, expected a state dict (names and tensors)")
    others = [name for name, entry in value.items() if not isinstance(entry, Tensor)]
    if others:
        raise PickleError(
            f"the entry {quote(others[0])} is a {type(value[others[0]]).__name__}, expected a tensor: not a state "
            "dict; if it holds one, save that alone with torch.save(checkpoint[NAME], FILE)"
        )
    for name in value:
        if not name.isprintable():
            raise PickleError(f"a tensor's name is {quote(name)}, expected one that can be printed")
    return value


def _rebuild_tensor(arguments: tuple[Any, ...]) -> Tensor:
    """Write down a view (storage, offset, size, stride, ...) once it is known to lie within its storage."""
    storage, offset, shape, strides = arguments[:4] if len(arguments) >= 4 else (None,) * 4
    if not isinstance(storage, Storage):
        raise PickleError("a tensor without a storage")
    if not (_is_size(offset) and _are_sizes(shape) and _are_sizes(strides) and len(shape) == len(strides)):
        _refuse_view(storage, "an offset, shape and strides that are not integers from 0 to 2**63 - 1, or not as many")
    numel = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if numel and (last >= storage.numel or numel > storage.numel):
        _refuse_view(storage, f"offset {offset}, shape {quote(shape)} and strides {quote(strides)}")
    # NumPy multiplies the dimensions that are not zero to judge whether an array is too big, so an empty tensor may be.
    if math.prod(n for n in shape if n) * storage.itemsize >= 2**63:
        _refuse_view(storage, f"shape {quote(shape)}")
    if not numel:
        return Tensor(storage, 0, shape, (0,) * len(shape))
    return Tensor(storage, offset, shape, tuple(s if n > 1 else 0 for n, s in zip(shape, strides, strict=True)))


def _refuse_view(storage: Storage, found: str) -> NoReturn:
    raise PickleError(
        f"a tensor in storage {quote(storage.key)}: {found}, expected a view within its {storage.numel} numbers"
    )


def _rebuild_parameter(arguments: tuple[Any, ...]) -> Tensor:
    """The tensor of a parameter (tensor, requires_grad, backward_hooks)."""
    if len(arguments) != 3 or not isinstance(arguments[0], Tensor):
        raise PickleError("a parameter without a tensor")
    return arguments[0]


def _ordered_dict(arguments: tuple[Any, ...]) -> dict[str, Any]:
    if arguments:
        raise PickleError("an OrderedDict made from arguments, expected an empty one that is filled")
    return {}


def _size(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(arguments) != 1 or type(arguments[0]) is not tuple:
        raise PickleError("a torch.Size without its tuple")
    return arguments[0]


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63  # `type`, since True is an int too


def _are_sizes(values: object) -> bool:
    return type(values) is tuple and len(values) <= MAX_DIMENSIONS and all(map(_is_size, values))


ADMITTED: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): Function(_ordered_dict),
    ("torch", "Size"): Function(_size),
    ("torch._utils", "_rebuild_tensor"): Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Function(_rebuild_parameter),
} | {("torch", name): StorageType(dtype) for name, dtype in STORAGE_TYPES.items()}
"""All that a pickle may name. Everything else ends in an error, before anything of it is done."""
