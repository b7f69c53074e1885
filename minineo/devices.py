"""Devices: the one module that moves arrays between main memory, where NumPy computes, and a GPU, where CuPy does.

Nothing else asks where arrays are: the rest of the package computes in the library, and on the device, that its
arguments come from. Devices have torch's names (`minineo.device_names`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

import numpy as np
from array_api_compat import array_namespace, is_cupy_array, is_numpy_array

from minineo.arrays import Array, device_of
from minineo.device_names import gpu_number

INSTALL = 'pip install "minineo[cuda12]", or pip install "minineo[cuda13]": nvidia-smi says which CUDA the driver has'

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def to_device(array: Array, device: str) -> Array:
    """An array on a device: NumPy's on "cpu", CuPy's on "cuda" or "cuda:N"; the same array where it is there already.

    Raises:
        ValueError, TypeError: there is no such device; the message lists what there can be.
        ImportError: the device is a GPU and CuPy is not installed, or cannot be imported.
        OSError: CuPy is there, but no GPU or no driver.
    """
    number = gpu_number(device)
    if number is None:
        return _to_host(array)
    if device_name(array) == f"cuda:{number}":
        return array
    cupy = _cupy(device, number)
    with cupy.cuda.Device(number):
        return cupy.asarray(array)


def all_to_device(arrays: Mapping[str, Array], device: str) -> dict[str, Array]:
    """The arrays of a dictionary on a device, as `to_device` brings them there."""
    return {name: to_device(array, device) for name, array in arrays.items()}


def check_device(device: str) -> None:
    """Raise what `to_device` would raise, before anything is read that would then be in vain."""
    number = gpu_number(device)
    if number is not None:
        _cupy(device, number)


def current_device(array: Array) -> AbstractContextManager[Any]:
    """A context in which an array's device is the current one, if its library has such a thing.

    CuPy has, one for each thread: results are made on it, and arrays on other GPUs are refused.
    """
    device: AbstractContextManager[Any] = array.device if is_cupy_array(array) else nullcontext()
    return device


def on_its_device(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A method of a model, in which the device of the model's parameters is the current one."""

    @wraps(method)
    def run(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        model: Any = arguments[0]
        with current_device(next(iter(model.params.values()))):
            return method(*arguments, **named)

    return run


def device_name(array: Array) -> str:
    """The name of the device that an array is on: "cpu", "cuda:0", or what a library that has others calls it."""
    if is_numpy_array(array):
        return "cpu"
    return f"cuda:{array.device.id}" if is_cupy_array(array) else str(device_of(array))


def library_name(array: Array) -> str:
    """The name of the library that an array is of, such as numpy, cupy or jax."""
    return array_namespace(array).__name__.removeprefix("array_api_compat.").partition(".")[0]


def _to_host(array: Array) -> np.ndarray:
    host: np.ndarray = array.get() if is_cupy_array(array) else np.asarray(array)
    return host


def _cupy(device: str, number: int) -> Any:
    """CuPy, once it is certain that it can use this GPU."""
    try:
        cupy = import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise
        raise ImportError(f"device {device!r}: CuPy is not installed. Install it with {INSTALL}.") from error
    except ImportError as error:
        raise ImportError(f"device {device!r}: CuPy is installed but cannot be imported ({error}).") from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:  # CUDARuntimeError is one
        raise OSError(
            f"device {device!r}: CuPy is installed, but finds no GPU, or no driver for it ({error}). Run nvidia-smi to "
            "see which of the two is missing, or compute on device 'cpu'."
        ) from error
    if count == 0:
        raise OSError(f"device {device!r}: CuPy is installed, but finds no GPU. Compute on device 'cpu'.")
    if number >= count:
        there = "'cuda:0' is the only GPU" if count == 1 else f"there are GPUs 'cuda:0' to 'cuda:{count - 1}'"
        raise ValueError(f"device: received {device!r}, but {there}.")
    return cupy
