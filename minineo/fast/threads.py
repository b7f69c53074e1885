"""Threads: work shared out among the cores, while matrix products keep to the thread that asks for them.

NumPy's matrix products use all cores by themselves, its element-wise functions one; between two products the other
cores wait. Where there is much to do, it is the other way round here: each thread takes a share of the rows or heads
and does everything with it, products included, on its own core.

As many threads as BLAS, the library behind NumPy's matrix products, would use: `OPENBLAS_NUM_THREADS=1` or
`threadpoolctl` limit both. With a BLAS that cannot be told to keep to a thread, there is one.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from importlib import import_module
from typing import TypeVar

T = TypeVar("T")

# What OpenBLAS calls its functions: in NumPy's own packages, with 64-bit integers, and as distributions build it
NAMES = ("scipy_openblas_{}64_", "openblas_{}64_", "openblas_{}")
OWN_THREADS = (
    1  # what its `get_parallel` says where it has threads of its own; OpenMP's cannot be changed under a product
)

_lock = threading.Lock()
_here = threading.local()  # `busy` in a thread that is at work on a share
_inside = 0  # calls of `products_keep_to_their_thread` that have not ended
_before = 1  # BLAS's threads before the first of them
_idle: list[_Helper] = []


def count() -> int:
    """How many threads share the work: those that BLAS would use, were it not told to keep to one; 1 within a share."""
    functions = _openblas()
    if functions is None or getattr(_here, "busy", False):
        return 1
    return _before if _inside else max(1, functions[0]())


def each(function: Callable[[T], None], items: Iterable[T]) -> None:
    """Call the function with every item, in as many threads as there are; the caller's is one of them.

    An error ends the work, and is raised here once all threads have come to rest. Within a share there are no further
    shares: `each` then calls one by one.
    """
    items = list(items)
    threads = min(count(), len(items)) if len(items) > 1 else 1
    if threads == 1:
        for item in items:
            function(item)
        return
    todo = iter(items)

    def work() -> None:
        _here.busy = True
        try:
            for item in todo:
                function(item)
        except BaseException:
            for _ in todo:  # nothing is left for the others
                pass
            raise
        finally:
            _here.busy = False

    with products_keep_to_their_thread():
        helpers = _helpers(threads - 1)
        for helper in helpers:
            helper.begin(work)
        try:
            work()
        finally:
            errors = [helper.end() for helper in helpers]
            _idle.extend(helpers)
    for error in errors:
        if error is not None:
            raise error


class _Helper(threading.Thread):
    """A thread that waits for work, on a bare lock: what else there is to hand over work takes longer to wake."""

    def __init__(self) -> None:
        super().__init__(name="minineo", daemon=True)
        self.begun, self.done = threading.Lock(), threading.Lock()
        self.begun.acquire()
        self.done.acquire()
        self.work: Callable[[], None] | None = None
        self.error: BaseException | None = None

    def begin(self, work: Callable[[], None]) -> None:
        """Have the work done, in the caller's context, such as `np.errstate`."""
        context = copy_context()
        self.work = lambda: context.run(work)
        self.begun.release()

    def end(self) -> BaseException | None:
        """Wait for the end of the work, and what it raised; of work that has not begun by now, nothing is left."""
        if not self.begun.acquire(blocking=False):
            self.done.acquire()
        self.work, error, self.error = None, self.error, None
        return error

    def run(self) -> None:
        while True:
            self.begun.acquire()
            try:
                assert self.work is not None
                self.work()
            except BaseException as error:  # whatever it is, it is the caller's
                self.error = error
            self.done.release()


def _helpers(number: int) -> list[_Helper]:
    """Threads that wait for work; fewer where no more can be started, as at the end of the interpreter."""
    helpers: list[_Helper] = []
    if sys.is_finalizing():  # those that there are run no more
        return helpers
    try:
        for _ in range(number):
            try:
                helpers.append(_idle.pop())
            except IndexError:
                helpers.append(_Helper())
                helpers[-1].start()
    except RuntimeError:
        del helpers[-1]
    return helpers


@contextmanager
def products_keep_to_their_thread() -> Iterator[None]:
    """Within it, a matrix product runs on the thread that asks for it alone; for all of the process, while it lasts."""
    global _inside, _before
    functions = _openblas()
    if functions is None:
        yield
        return
    get_threads, set_threads = functions
    with _lock:
        if _inside == 0:
            _before = get_threads()
            set_threads(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                set_threads(_before)


@cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """OpenBLAS's functions that tell and set its number of threads; None where NumPy has another BLAS."""
    extension = import_module("numpy.linalg._umath_linalg")  # linked to BLAS, it shows that library's functions, too
    try:
        library = ctypes.CDLL(extension.__file__)
    except (OSError, TypeError):
        return None
    for name in NAMES:
        try:
            get_threads, set_threads, get_parallel = (
                library[name.format(what)] for what in ("get_num_threads", "set_num_threads", "get_parallel")
            )
        except AttributeError:
            continue
        get_threads.argtypes = get_parallel.argtypes = []
        set_threads.argtypes, set_threads.restype = [ctypes.c_int], None
        return (get_threads, set_threads) if get_parallel() == OWN_THREADS else None
    return None


def _after_fork() -> None:
    """A process that is forked off has none of its parent's threads, nor what they had not finished."""
    global _lock, _inside
    _lock, _here.busy = threading.Lock(), False
    _idle.clear()
    functions = _openblas()
    if _inside and functions is not None:
        _inside = 0
        functions[1](_before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
