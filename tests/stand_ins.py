"""Stand-ins for CuPy where there is no GPU: modules that devices.py takes for CuPy, with arrays of another library.

`cupy_of_strict` hands out arrays of array_api_strict on its second device, which, as CuPy's, refuse to become NumPy's
unasked. What the package does with CuPy's arrays is then done, but for CuPy's own kernels.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest

GPU, HOST = strict.Device("device1"), strict.Device("CPU_DEVICE")


def cupy_with(count: int) -> SimpleNamespace:
    """What `minineo.devices` uses of CuPy, on a machine with so many GPUs."""
    runtime = SimpleNamespace(getDeviceCount=lambda: count)

    def asarray(array: Any) -> Any:
        return strict.asarray(array, device=GPU, copy=True)

    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, Device=nullcontext), asarray=asarray)


def on_host(array: Any) -> np.ndarray:
    """An array of either library in main memory."""
    is_strict = not isinstance(array, np.ndarray | np.generic)
    return np.array(strict.asarray(array, device=HOST)) if is_strict else np.asarray(array)


def use_cupy_of_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let "cuda" stand for array_api_strict's second device."""
    monkeypatch.setattr("minineo.devices.import_module", lambda name: cupy_with(1))
    monkeypatch.setattr("minineo.devices._to_host", on_host)
