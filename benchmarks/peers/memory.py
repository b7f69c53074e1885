"""Models without a head whose layers are all of one kind, which measure the memory of their own process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shapes import Shape

WARM_UP = 64  # tokens


class Process:
    """What the two have in common: subclasses set `run`."""

    run: Any

    def time(self, ids: np.ndarray) -> float:
        """Seconds of one forward pass."""
        start = time.perf_counter()
        self.run(ids)
        return time.perf_counter() - start

    def peak(self, ids: np.ndarray) -> int | None:
        """Bytes that this process needs at most during a forward pass beyond what it held before; None if not Linux."""
        self.run(ids[:, :WARM_UP])
        status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
        if not reset.exists():
            return None
        reset.write_text("5")  # sets the peak, VmHWM, back to what is held now
        before = _field(status, "VmRSS")
        self.run(ids)
        return _field(status, "VmHWM") - before


class Own(Process):
    """Those of minineo."""

    def __init__(self, shape: Shape, layers: list[Any]) -> None:
        import minineo

        model = minineo.GPTNeoModel(shape.config(layers), seed=0)
        self.run = lambda ids: model(ids, use_cache=False)


class HuggingFace(Process):
    """Those of transformers."""

    def __init__(self, shape: Shape, layers: list[Any], threads: int) -> None:
        import torch
        import transformers

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        fields = shape.config(layers).to_dict()
        model: Any = transformers.GPTNeoModel(transformers.GPTNeoConfig(**fields))
        model.eval()
        self.run = lambda ids: model(torch.from_numpy(ids), use_cache=False)


def _field(status: Path, name: str) -> int:
    line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])
