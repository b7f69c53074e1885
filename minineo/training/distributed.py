"""Several processes that train one model together (data parallelism): each computes its rows of every batch.

All have the same parameters, and take the same step with the same gradients: the sum of what each has computed, found
by one Allreduce a step over MPI (the Message Passing Interface). `mpiexec -n 4 minineo train ...` starts four; the
first one, rank 0, prepares the data and does all that is written or shown.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
import time
import traceback
from typing import Any, NoReturn, TextIO

import numpy as np

from minineo.model.block import Params

# what mpiexec sets: MPICH's, OpenMPI's and their relatives'
LAUNCHED = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")  # a shell of Slurm's has some, too
TOLD_IN_ONE_LINE = (ValueError, TypeError, OSError, ImportError, MemoryError, FloatingPointError)


class Alone:
    """The only process of a run."""

    rank = 0
    size = 1

    def broadcast(self, value: Any) -> Any:
        """The first process's value."""
        return value

    def add_up(self, loss: float, grads: Params, stop: bool) -> tuple[float, Params, bool]:
        """The sums of what the processes have found; whether any of them is to stop."""
        return loss, grads, stop

    def fail(self, error: BaseException) -> None:
        """Let no other process wait for one that has failed."""


class Processes(Alone):
    """One of the processes that mpiexec has started."""

    def __init__(self) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise ImportError(
                "started by mpiexec, but mpi4py cannot be imported "
                f'({error}): pip install "minineo[mpi]", or start without mpiexec.'
            ) from error
        self.mpi = MPI
        self.world = MPI.COMM_WORLD
        self.rank = self.world.Get_rank()
        self.size = self.world.Get_size()

    def broadcast(self, value: Any) -> Any:
        """The first process's value, whatever the others pass."""
        return self.world.bcast(value, root=0)

    def add_up(self, loss: float, grads: Params, stop: bool) -> tuple[float, Params, bool]:
        """The sums of what the processes have found, in one Allreduce; whether any of them is to stop."""
        numbers = np.array([loss, stop], next(iter(grads.values())).dtype)
        flat = np.concatenate([numbers, *(gradient.reshape(-1) for gradient in grads.values())])
        self.world.Allreduce(self.mpi.IN_PLACE, flat)
        begin = len(numbers)
        summed: Params = {}
        for name, gradient in grads.items():
            summed[name] = flat[begin : begin + gradient.size].reshape(gradient.shape)
            begin += gradient.size
        return float(flat[0]), summed, bool(flat[1] > 0.0)

    def fail(self, error: BaseException) -> NoReturn:
        """Tell what has happened, and end all processes: the others would wait for this one for ever."""
        try:
            if self.rank:
                time.sleep(3.0)  # what has happened to all of them, the first one tells
            if isinstance(error, TOLD_IN_ONE_LINE):
                words = f"minineo: process {self.rank} of {self.size}: {error}\n"
            else:
                words = "".join(traceback.format_exception(error))
            sys.stderr.write(words)
            sys.stderr.flush()
            _wait_until_read(sys.stderr)
        finally:  # whether or not there is anywhere to say it
            self.world.Abort(130 if isinstance(error, KeyboardInterrupt) else 1)
        raise SystemExit(1)  # unreachable: Abort does not return


def _wait_until_read(stream: TextIO, seconds: float = 10.0) -> None:
    """Wait while something stands unread in a pipe, for some seconds at most.

    mpiexec passes on what its processes print, but reads no more of it once one of them has asked for an Abort: on a
    busy machine the reason would be lost.
    """
    try:
        import fcntl
        import termios

        is_pipe = stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
        end = time.monotonic() + seconds
        while is_pipe and time.monotonic() < end:
            if not struct.unpack("i", fcntl.ioctl(stream.fileno(), termios.FIONREAD, bytes(4)))[0]:
                return
            time.sleep(0.01)
    except (ImportError, OSError):  # not a file, or not Unix: who reads cannot be asked
        time.sleep(0.5)


def join() -> Alone:
    """The processes that this one was started with by mpiexec, or itself alone.

    Raises:
        ImportError: it was started with others by mpiexec, and mpi4py is not installed.
    """
    sizes = {os.environ[name] for name in SIZES if name in os.environ}
    is_launched = any(name in os.environ for name in LAUNCHED) and sizes != {"1"}
    return Processes() if is_launched else Alone()


def share(rows: int, part: int, parts: int) -> range:
    """The rows that a part has: as many as any other, or one more or less."""
    return range(rows * part // parts, rows * (part + 1) // parts)
