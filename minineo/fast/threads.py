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
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from importlib import import_module
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")

# What OpenBLAS calls its functions: in NumPy's own packages, with 64-bit integers, and as distributions build it
NAMES = ("scipy_openblas_{}64_", "openblas_{}64_", "openblas_{}")
OWN_THREADS = (
    1  # what its `get_parallel` says where it has threads of its own; OpenMP's cannot be changed under a product
)

_lock = threading.RLock()
_here = threading.local()  # `busy` in a thread that is at work on a share
_inside = 0  # calls of `products_keep_to_their_thread` that have not ended
_before = 1  # BLAS's threads before the first of them
_jobs: SimpleQueue[_Job] = SimpleQueue()
_helpers = 0  # threads that wait for them


def count() -> int:
    """How many threads share the work: those that BLAS would use, were it not told to keep to one; 1 within a share."""
    functions = _openblas()
    if functions is None or getattr(_here, "busy", False):
        return 1
    return _before if _inside else max(1, functions[0]())


def each(function: Callable[[T], None], items: Iterable[T]) -> None:
    """Call the function with every item, in as many threads as there are; the caller's is one of them.

    An error or an interrupt ends the work, and is raised here once all threads have come to rest. Within a share there
    are no further shares: `each` then calls one by one.
    """
    items = list(items)
    threads = min(count(), len(items)) if len(items) > 1 else 1
    if threads == 1:
        for item in items:
            function(item)
        return
    todo = deque(items)

    def work() -> None:
        _here.busy = True
        try:
            while True:
                try:
                    item = todo.popleft()
                except IndexError:
                    return
                function(item)
        except BaseException:
            todo.clear()  # nothing is left for the others
            raise
        finally:
            _here.busy = False

    jobs = [_Job(work) for _ in range(threads - 1)]
    with products_keep_to_their_thread():
        try:
            _hand_over(jobs)
            work()
        finally:
            todo.clear()
            errors = _come_to_rest(jobs)
    if errors:
        try:
            raise errors[0]
        finally:
            del errors, jobs  # its traceback holds this frame, and the frame would hold it, and all arrays with it


class _Job:
    """Work for another thread, which is done once or, if its caller is quicker, not at all."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work, self.context = work, copy_context()  # with the caller's `np.errstate`
        self.claim, self.done = threading.Lock(), threading.Lock()
        self.done.acquire()
        self.finished = False
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do the work, unless it was claimed."""
        if self.claim.acquire(blocking=False):
            try:
                self.context.run(self.work)
            except BaseException as error:  # whatever it is, it is the caller's
                self.error = error
        self.finished = True
        self.done.release()

    def end(self) -> None:
        """Wait for the end of the work, or claim it; an interrupt at any moment leaves it so that `end` can go on."""
        while not self.finished:
            if self.claim.acquire(blocking=False):
                self.finished = True
            else:
                self.done.acquire()


def _hand_over(jobs: list[_Job]) -> None:
    """Have the jobs done by other threads, if such can be had: not at the end of the interpreter."""
    global _helpers
    if sys.is_finalizing():
        return
    with _lock:
        try:
            while _helpers < len(jobs):
                threading.Thread(target=_help, name="minineo", daemon=True).start()
                _helpers += 1
        except RuntimeError:  # no more can be started: what nobody takes up, the caller claims
            pass
    for job in jobs:
        _jobs.put(job)


def _help() -> None:
    """Do job after job. A bare queue wakes a thread sooner than a pool's futures do."""
    jobs = _jobs
    while True:
        jobs.get().run()


def _come_to_rest(jobs: list[_Job]) -> list[BaseException]:
    """End all jobs, and only then raise an interrupt; returns what the jobs have raised."""
    interrupt: BaseException | None = None
    for job in jobs:
        while not job.finished:
            try:
                job.end()
            except BaseException as error:  # raised by a signal's handler, while another thread still writes
                interrupt = error
    if interrupt is not None:
        raise interrupt
    errors = [job.error for job in jobs if job.error is not None]
    for job in jobs:
        job.error = None
    return errors


@contextmanager
def products_keep_to_their_thread() -> Iterator[None]:
    """Within it, a matrix product runs on the thread that asks for it alone; for all of the process, while it lasts."""
    global _inside, _before
    functions = _openblas()
    if functions is None:
        yield
        return
    get_threads, set_threads = functions
    inside = False
    try:
        with _lock:
            if _inside == 0:
                _before = get_threads()
            inside = True
            _inside += 1
            if _inside == 1:
                set_threads(1)
        yield
    finally:
        with _lock:
            if inside:
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
    global _lock, _inside, _jobs, _helpers
    _lock, _jobs, _helpers, _here.busy = threading.RLock(), SimpleQueue(), 0, False
    if _inside:
        _inside = 0
        functions = _openblas()
        if functions is not None:
            functions[1](_before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
