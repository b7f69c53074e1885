"""Peers as processes of their own, driven over pipes.

Two libraries in one process disturb each other: the threads of OpenBLAS and of OpenMP go on spinning for some
milliseconds after their work is done, on the cores that the next library is being timed on. A process that waits on
its pipe does nothing at all. So each peer has a process, only one works at a time, and between two of them lies a pause
longer than the spinning (`timing.PAUSE`). Memory can be measured per peer this way, too, and a peer that fails to
start, or is killed, takes nobody with it.

A worker times itself, inside; the way through the pipe is in no figure.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from benchmarks.options import THREAD_VARIABLES


class WorkerError(Exception):
    """What went wrong in a worker: the message is one line, `details` its traceback."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class Worker:
    """An object in a process of its own: `factory` is "module:name", called there with `arguments`."""

    def __init__(self, factory: str, *arguments: Any, threads: int | None = None) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process would share the state of thread pools
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, factory, arguments), daemon=True)
        with _threads(threads):
            self._process.start()
        theirs.close()
        try:
            self._receive()
        except WorkerError:
            self.close()
            raise

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the object and return what it returns, or raise WorkerError."""
        self._pipe.send((method, arguments, named))
        return self._receive()

    def _receive(self) -> Any:
        try:
            ok, value = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise WorkerError(f"its process died with exit status {self._process.exitcode}") from None
        if not ok:
            raise WorkerError(*value)
        return value

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """Set the variables that limit threads for a process started inside."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    if threads is not None:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _serve(pipe: Connection, factory: str, arguments: tuple[Any, ...]) -> None:
    """The worker's side: make the object, then answer calls until the pipe closes."""
    try:
        module, name = factory.split(":")
        made = getattr(importlib.import_module(module), name)(*arguments)
        pipe.send((True, None))
    except Exception as error:
        pipe.send((False, _described(error)))
        return
    while True:
        try:
            method, positional, named = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            pipe.send((True, getattr(made, method)(*positional, **named)))
        except Exception as error:
            pipe.send((False, _described(error)))


def _described(error: Exception) -> tuple[str, str]:
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line}"[:300], traceback.format_exc()
