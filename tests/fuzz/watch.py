"""Watches one call: what it opens and runs (audit events), the time and the memory that it takes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

MOST_SECONDS = 2.0
SPARE_BYTES = 64 * 2**20

# Paths are the first argument of these events; files may be opened, looked up and written only where the case is.
WITH_A_PATH = (
    *("open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.chmod", "os.utime"),
    *("shutil.rmtree", "shutil.copyfile"),
)
# What reading does besides: memory maps, warnings, signatures of functions, writing JSON.
HARMLESS = ("mmap.__new__", "sys._getframe", "object.__getattr__", "builtins.id")


class Seen(NamedTuple):
    """What a call did."""

    value: Any
    error: Exception | None
    seconds: float
    """By the clock on the wall, which costs nothing to read."""
    nbytes: int
    """By how much the process was larger than before at the moment when it was largest; 0 where it cannot be told."""
    events: list[str]
    """Audit events that reading a checkpoint has no use for."""


class _Auditor:
    """The hook, which cannot be taken off again: it listens only while a folder is set."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.events: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None or event in HARMLESS:
            return
        folder, self.folder = self.folder, None  # what is done here is not to be watched
        try:
            if event == "import" and arguments[0] in sys.modules:
                return
            if not (event in WITH_A_PATH and self._is_inside(arguments[0], folder)):
                self.events.append(f"{event} {str(arguments)[:200]}")
        finally:
            self.folder = folder

    def _is_inside(self, path: Any, folder: Path) -> bool:
        if isinstance(path, int):  # a file that is open already
            return True
        return Path(os.path.realpath(os.fsdecode(path))).is_relative_to(folder)


_auditor: _Auditor | None = None


def watch(call: Callable[[], Any], folder: Path) -> Seen:
    """Make a call that is to touch nothing outside of `folder`."""
    global _auditor
    _auditor = _auditor or _Auditor()
    value, error = None, None
    before, began = _reset_peak(), time.perf_counter()
    _auditor.events, _auditor.folder = [], folder.resolve()
    try:
        value = call()
    except (Exception, RecursionError, MemoryError) as raised:
        error = raised
    finally:
        _auditor.folder = None
    seconds = time.perf_counter() - began
    return Seen(value, error, seconds, max(0, _status("VmHWM") - before), _auditor.events)


def _reset_peak() -> int:
    """Let Linux forget how large the process has been; returns how large it is."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    """A number of bytes from what Linux says of this process, or 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
