"""A machine that runs the harmless part of pickle: data, and calls of a few functions that the caller lends it.

A pickle is not a description of objects but a program for a stack machine (Python's `pickletools` lists its
instructions). Its GLOBAL names any function of any module and its REDUCE calls it, so that Python's own machine runs
whatever the author of a file wished. This one knows the instructions that build numbers, strings, tuples, lists and
dictionaries, and looks every name up in the dictionary that it was given: nothing is ever imported.

It is bounded, too. Every instruction costs at most a few hundred bytes and the number of instructions is limited, an
argument is never longer than the bytes that are there, and keys are strings: Python scatters strings at random, while
integers and tuples can be chosen to meet in one slot of a dictionary, which then takes hours to fill. A value may hold
itself or be shared a million times, so nothing here, and nothing that a caller does, may walk through it unbounded.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, NamedTuple, NoReturn

from minineo.checkpoints.errors import quote

MAX_INSTRUCTIONS = 100_000  # a state dict needs about 25 for a tensor, gpt-neo-2.7B has 450 tensors


class PickleError(ValueError):
    """A pickle that is broken, or that does what no state dict needs."""


class Function(NamedTuple):
    """A function that a pickle may call; it gets the arguments as one tuple and has to distrust them."""

    call: Callable[[tuple[Any, ...]], object]


# What each instruction is followed by, as `struct` spells it.
NEW = {pickle.EMPTY_DICT: dict, pickle.EMPTY_LIST: list, pickle.EMPTY_TUPLE: tuple}
CONSTANTS = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False}
NUMBERS = {pickle.BININT: "<i", pickle.BININT1: "<B", pickle.BININT2: "<H", pickle.BINFLOAT: ">d"}
TEXTS = {
    pickle.BINUNICODE: ("<I", "utf-8"),
    pickle.SHORT_BINUNICODE: ("<B", "utf-8"),
    pickle.SHORT_BINSTRING: ("<B", "latin-1"),  # Python 2's
}
TUPLES = {pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}
PUTS = {pickle.BINPUT: "<B", pickle.LONG_BINPUT: "<I"}
GETS = {pickle.BINGET: "<B", pickle.LONG_BINGET: "<I"}


class PickleMachine:
    """Runs one pickle after the other from `file`, which is in memory: no claim of a length can make it read more.

    `admitted` are the values that GLOBAL may name, by (module, name); those that REDUCE may call are `Function`s.
    `persistent_load` turns the identifier of something that lies outside the pickle into a value.
    """

    def __init__(
        self,
        file: BytesIO,
        admitted: Mapping[tuple[str, str], object],
        persistent_load: Callable[[object], object],
    ) -> None:
        self.file = file
        self.admitted = admitted
        self.persistent_load = persistent_load
        self.left = MAX_INSTRUCTIONS
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.instructions: dict[bytes, Callable[[], None]] = {
            pickle.PROTO: self._proto,
            pickle.FRAME: self._frame,
            pickle.MARK: lambda: self.marks.append(len(self.stack)),
            pickle.LONG1: self._long1,
            pickle.TUPLE: lambda: self.stack.append(tuple(self._pop_to_mark())),
            pickle.MEMOIZE: lambda: self._put(len(self.memo)),
            pickle.GLOBAL: self._global,
            pickle.STACK_GLOBAL: self._stack_global,
            pickle.REDUCE: self._reduce,
            pickle.BUILD: self._build,
            pickle.BINPERSID: lambda: self.stack.append(self.persistent_load(self._pop())),
            pickle.APPEND: lambda: self._append([self._pop()]),
            pickle.APPENDS: lambda: self._append(self._pop_to_mark()),
            pickle.SETITEM: lambda: self._set_items(self._pop_many(2)),
            pickle.SETITEMS: lambda: self._set_items(self._pop_to_mark()),
        }

    def load(self) -> Any:
        """Run the pickle at which the file stands, and leave it behind its end.

        Raises:
            PickleError: it is broken, too long, or uses an instruction or a name that is not admitted.
        """
        self.stack, self.marks, self.memo = [], [], {}
        while (code := self._read(1)) != pickle.STOP:
            self.left -= 1
            if self.left < 0:
                raise PickleError(f"more than {MAX_INSTRUCTIONS:,} instructions, expected about 25 for a tensor")
            self._step(code)
        if len(self.stack) != 1 or self.marks:
            raise PickleError(f"ends with {len(self.stack)} values on the stack, expected one")
        return self.stack.pop()

    def _step(self, code: bytes) -> None:
        if code in NEW:
            self.stack.append(NEW[code]())
        elif code in CONSTANTS:
            self.stack.append(CONSTANTS[code])
        elif code in NUMBERS:
            self.stack.append(self._number(NUMBERS[code]))
        elif code in TEXTS:
            self.stack.append(self._text(*TEXTS[code]))
        elif code in TUPLES:
            self.stack.append(tuple(self._pop_many(TUPLES[code])))
        elif code in PUTS:
            self._put(self._number(PUTS[code]))
        elif code in GETS:
            self._get(self._number(GETS[code]))
        elif code in self.instructions:
            self.instructions[code]()
        else:
            self._refuse(code)

    def _refuse(self, code: bytes) -> NoReturn:
        from pickletools import opcodes  # 0.1 s that only an error is worth

        name = next((opcode.name for opcode in opcodes if opcode.code.encode("latin-1") == code), quote(code))
        raise PickleError(f"the instruction {name} at byte {self.file.tell() - 1}, which no state dict needs")

    # Bytes ------------------------------------------------------------------------------------------------------------

    def _read(self, size: int) -> bytes:
        found = self.file.read(size)
        if len(found) < size:
            raise PickleError("ends in the middle: the file is cut short")
        return found

    def _number(self, format_: str) -> Any:
        return struct.unpack(format_, self._read(struct.calcsize(format_)))[0]

    def _text(self, length: str, encoding: str) -> str:
        return _decode(self._read(self._number(length)), encoding)

    def _line(self) -> str:
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise PickleError("ends in the middle of a name: the file is cut short")
        return _decode(line[:-1], "utf-8")

    def _proto(self) -> None:
        version = self._number("<B")
        if not 2 <= version <= 5:
            raise PickleError(f"protocol {version}, expected 2 to 5")

    def _frame(self) -> None:
        self._number("<Q")  # how much to read ahead, which serves streams

    def _long1(self) -> None:
        self.stack.append(int.from_bytes(self._read(self._number("<B")), "little", signed=True))

    # Stack and memo ---------------------------------------------------------------------------------------------------

    def _pop_many(self, count: int) -> list[Any]:
        """Take the topmost values, in the order in which they were pushed, none from below the last mark."""
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise PickleError("takes more values from the stack than lie there")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _pop(self) -> Any:
        return self._pop_many(1)[0]

    def _pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise PickleError("takes values up to a mark that was not set")
        taken = self._pop_many(len(self.stack) - self.marks[-1])
        self.marks.pop()
        return taken

    def _top(self) -> Any:
        value = self._pop()
        self.stack.append(value)
        return value

    def _put(self, index: int) -> None:
        self.memo[index] = self._top()

    def _get(self, index: int) -> None:
        if index not in self.memo:
            raise PickleError(f"refers to value {index} of its memo, where nothing was put")
        self.stack.append(self.memo[index])

    # Objects ----------------------------------------------------------------------------------------------------------

    def _global(self) -> None:
        self._admit(self._line(), self._line())

    def _stack_global(self) -> None:
        self._admit(*self._pop_many(2))

    def _admit(self, module: object, name: object) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise PickleError("a name that is not a string")
        if (module, name) not in self.admitted:
            raise PickleError(
                f"names {quote(f'{module}.{name}')}, which no state dict needs: it may run any code when it is loaded "
                "with another reader, so find out who made this file before you do"
            )
        self.stack.append(self.admitted[module, name])

    def _reduce(self) -> None:
        function, arguments = self._pop_many(2)
        if not (isinstance(function, Function) and type(arguments) is tuple):
            raise PickleError(f"calls a {_kind(function)} with a {_kind(arguments)}, expected a function with a tuple")
        self.stack.append(function.call(arguments))

    def _build(self) -> None:
        """Drop the attributes of a dictionary: torch puts version numbers there."""
        state = self._pop()
        if type(self._top()) is not dict or type(state) is not dict:
            raise PickleError(f"sets the state of a {_kind(self._top())}, expected that of a dictionary")

    def _append(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise PickleError(f"appends to a {_kind(target)}, expected a list")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._top()
        keys, values = items[::2], items[1::2]
        if type(target) is not dict or len(keys) != len(values):
            raise PickleError(f"sets items of a {_kind(target)}, expected keys and values of a dictionary")
        for key, value in zip(keys, values, strict=True):
            if type(key) is not str:
                raise PickleError(f"a key is a {_kind(key)}, expected a string")
            target[key] = value


def _decode(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise PickleError(f"a string is not {encoding}: {error.reason}") from error


def _kind(value: object) -> str:
    """The type of a value, which may be too large to be shown."""
    return type(value).__name__
