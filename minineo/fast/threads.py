"""Threads: work shared out among the cores, while matrix products keep to the thread that asks for them.

NumPy's matrix products use all cores by themselves, its element-wise functions one; between two products the other
cores wait. Where there is much to do, it is the other way round here: each thread takes a share of the rows or heads
and does everything with it, products included, on its own core.

As many threads as BLAS, the library behind NumPy's matrix products, would use: `OPENBLAS_NUM_THREADS=1` or
`threadpoolctl` limit both. With a BLAS that cannot be told to keep to a thread (any but OpenBLAS), there is one.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import TypeVar

T = TypeVar("T")

# What OpenBLAS calls its functions: in NumPy's own packages, with 64-bit integers, and as distributions build it
NAMES = ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_", "openblas_{}_num_threads")

_lock = threading.Lock()
_inside = 0  # calls of `products_keep_to_their_thread` that have not ended
_before = 1  # BLAS's threads before the first of them


def count() -> int:
    """How many threads share the work: those that BLAS would use, were it not told to keep to one."""
    functions = _openblas()
    if functions is None:
        return 1
    return _before if _inside else max(1, functions[0]())


def each(function: Callable[[T], None], items: Iterable[T]) -> None:
    """Call the function with every item, in as many threads as there are; the caller's is one of them.

    An error in any of them is raised here, once all threads have come to rest.
    """
    items = list(items)
    threads = min(count(), len(items)) if len(items) > 1 else 1
    todo = iter(items)

    def work() -> None:
        for item in todo:
            function(item)

    if threads == 1:
        work()
        return
    with products_keep_to_their_thread():
        others = [_pool().submit(work) for _ in range(threads - 1)]
        try:
            work()
        finally:
            errors = [other.exception() for other in others]
    for error in errors:
        if error is not None:
            raise error


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
            get_threads, set_threads = library[name.format("get")], library[name.format("set")]
        except AttributeError:
            continue
        get_threads.argtypes, get_threads.restype = [], ctypes.c_int
        set_threads.argtypes, set_threads.restype = [ctypes.c_int], None
        return get_threads, set_threads
    return None


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="minineo")


if hasattr(os, "register_at_fork"):  # a process that is forked off has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
