"""Threads that share the work: all of it is done, once, and errors, forks, and the end of a program are survived."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from test_fast import drawn

from minineo.fast import cache, threads


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three threads share the work, whatever machine and BLAS this is."""
    monkeypatch.setattr(threads, "_openblas", lambda: (lambda: 3, lambda _: None))
    assert threads.count() == 3


@pytest.mark.usefixtures("three_threads")
def test_each_calls_with_every_item_and_raises_what_was_raised():
    done: list[int] = []
    threads.each(done.append, range(100))
    assert sorted(done) == list(range(100))
    before = threads.count()

    def fail(i: int) -> None:
        if i == 3:
            raise KeyError(i)

    with pytest.raises(KeyError):
        threads.each(fail, range(10))
    assert threads.count() == before
    threads.each(done.append, [])


def test_blas_keeps_to_its_thread_within_and_has_its_threads_back_after(monkeypatch):
    set_to: list[int] = [4]
    monkeypatch.setattr(threads, "_openblas", lambda: (lambda: set_to[-1], set_to.append))
    assert threads.count() == 4
    with threads.products_keep_to_their_thread():
        with threads.products_keep_to_their_thread():
            assert threads.count() == 4
        assert set_to == [4, 1]
    assert set_to == [4, 1, 4]
    monkeypatch.setattr(threads, "_openblas", lambda: None)  # another BLAS, which cannot be told
    assert threads.count() == 1
    done: list[int] = []
    threads.each(done.append, range(3))
    with threads.products_keep_to_their_thread():
        assert done == [0, 1, 2]


FORKED = """
import os
from minineo.fast import threads
threads._openblas = lambda: (lambda: 2, lambda n: None)
done = []
threads.each(done.append, range(5))
child = os.fork()
if child == 0:
    threads.each(done.append, range(5))
    os._exit(0 if len(done) == 10 else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes fork on POSIX systems only")
def test_a_forked_process_has_threads_of_its_own():
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=60)


@pytest.mark.usefixtures("three_threads")
def test_shares_within_shares_are_done_one_by_one():
    done: list[tuple[int, int]] = []
    threads.each(lambda i: threads.each(lambda j: done.append((i, j)), range(4)), range(5))
    assert sorted(done) == [(i, j) for i in range(5) for j in range(4)]
    assert threads.count() == 3


@pytest.mark.usefixtures("three_threads")
def test_an_error_in_another_thread_ends_the_work_and_is_raised():
    caller, done = threading.get_ident(), []

    def fail_elsewhere(i: int) -> None:
        done.append(i)
        if threading.get_ident() != caller:
            raise KeyError(i)
        time.sleep(0.001)

    with pytest.raises(KeyError):
        threads.each(fail_elsewhere, range(10_000))
    assert len(done) < 10_000


def test_a_job_is_done_once_or_not_at_all_and_never_after_its_end():
    threads._hand_over([threads._Job(lambda: None)])  # somebody is there to help
    done: list[int] = []
    for i in range(300):
        job = threads._Job(lambda i=i: done.append(i))
        threads._hand_over([job])
        while i % 3 == 0 and i not in done:
            time.sleep(0.0001)
        job.end()
        before = list(done)
        if i % 10 == 0:
            time.sleep(0.001)
        assert done == before
    assert len(set(done)) == len(done)


INTERRUPTED = """
import gc, signal, threading, time, weakref
from minineo.fast import threads
threads_of_blas = [3]
threads._openblas = lambda: (lambda: threads_of_blas[-1], threads_of_blas.append)
caller, ended, begun = threading.get_ident(), [], []
class Big: pass
big = Big()
def slow(i, big=big):
    begun.append(i)
    if threading.get_ident() != caller:
        time.sleep(0.6)
        ended.append(i)
    else:
        while len(begun) < 3:
            time.sleep(0.001)
signal.signal(signal.SIGALRM, signal.default_int_handler)
for _ in range(3):
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    begun.clear()
    ended.clear()
    try:
        threads.each(slow, range(3))
    except KeyboardInterrupt:
        print(len(ended) == 2, threads_of_blas[-1])
print(threads.count(), threading.active_count())
kept = weakref.ref(big)
del slow, big
time.sleep(0.1)
gc.collect()
print(kept() is None)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="timers of signals are there on POSIX systems only")
def test_an_interrupt_is_raised_when_all_have_come_to_rest_and_costs_no_thread():
    run = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60)
    assert run.stdout == "True 3\n" * 3 + "3 3\nTrue\n", run.stderr


@pytest.mark.usefixtures("three_threads")
def test_threads_see_the_callers_error_state():
    def overflow(_: int) -> None:
        np.full(4, 1e38, np.float32) * np.float32(1e38)
        time.sleep(0.001)

    with np.errstate(over="ignore"):
        threads.each(overflow, range(30))


@pytest.mark.usefixtures("three_threads")
def test_several_callers_at_once():
    found: list[int] = []

    def call() -> None:
        for _ in range(20):
            threads.each(found.append, range(50))

    callers = [threading.Thread(target=call) for _ in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=60)
    assert sorted(found) == sorted(list(range(50)) * 100)


LATE = """
import threading, time
from minineo.fast import threads
threads._openblas = lambda: (lambda: 2, lambda n: None)
done = []
def late():
    time.sleep(0.3)
    threads.each(done.append, range(5))
    print(sorted(done))
threading.Thread(target=late).start()
"""


def test_a_thread_that_outlives_the_main_one_works_alone():
    run = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60)
    assert run.stdout == "[0, 1, 2, 3, 4]\n", run.stderr


def test_two_threads_may_continue_one_cache():
    k, T = drawn(0, 1, 8, 300, 32), 40
    for _ in range(60):
        past = cache.forget((k, k), None)
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        start = threading.Barrier(2)

        def extend(i: int, past=past, found=found, start=start) -> None:
            new = np.full((1, 8, T, 32), float(i + 1), np.float32)
            start.wait()
            found[i] = cache.append(past, new, new)

        both = [threading.Thread(target=extend, args=(i,)) for i in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        for i in range(2):
            assert np.all(found[i][0][:, :, -T:] == i + 1)
