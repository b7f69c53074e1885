"""What every part is told: how much to run, with whom, on how many threads, and where to leave files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# Everything that starts threads of its own reads one of these when it is loaded.
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",  # NumPy's matrix products
    "OMP_NUM_THREADS",  # torch
    "MKL_NUM_THREADS",  # torch, and NumPy from conda
    "VECLIB_MAXIMUM_THREADS",  # NumPy on macOS
    "RAYON_NUM_THREADS",  # tokenizers
)


@dataclass(frozen=True)
class Options:
    """Options of the command line, and a folder for checkpoints that goes when the run ends."""

    workspace: Path
    threads: int
    rounds: int
    quick: bool = False
    peers: tuple[str, ...] | None = None  # labels; None: all that are installed
    shapes: tuple[str, ...] | None = None  # names; None: all

    def wants(self, peer: str) -> bool:
        """Whether a peer is to run."""
        return self.peers is None or peer in self.peers


def set_threads(threads: int) -> None:
    """Limit the threads of every process started from now on (this one has loaded no library that reads it yet)."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))


def available_cores() -> int:
    """Cores that this process may use, which `taskset` or a container may have made fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
