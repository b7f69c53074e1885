"""Checks of what an optimiser is given: each error says what was received, what was expected and what to change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from array_api_compat import array_namespace, is_writeable_array

from minineo.arrays import Array
from minineo.devices import device_name, library_name

Arrays = dict[str, Array]


def number(name: str, value: Any, accepts: Callable[[float], bool], expected: str) -> float:
    """A finite number that `accepts` is content with, as a Python float: NumPy's float64 would widen float32 arrays."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: received {value!r} of type {type(value).__name__}, expected {expected}.")
    if not (math.isfinite(value) and accepts(float(value))):
        raise ValueError(f"{name}: received {value!r}, expected {expected}.")
    return float(value)


def not_negative(name: str, value: Any) -> float:
    """A finite number from 0."""
    return number(name, value, lambda x: x >= 0.0, "a finite number that is not negative")


def positive(name: str, value: Any) -> float:
    """A finite number above 0."""
    return number(name, value, lambda x: x > 0.0, "a finite number above 0")


def share_kept(name: str, value: Any) -> float:
    """How much of a running average is kept in each step: a number from 0 up to, but not including, 1."""
    return number(name, value, lambda x: 0.0 <= x < 1.0, "a number from 0 up to, but not including, 1, such as 0.9")


def check_gradients(params: Arrays, grads: Arrays) -> None:
    """Raise unless there is a gradient for each parameter and none else, and parameters can be changed in place."""
    check_names("grads", grads, "parameters", params)
    for name, param in params.items():
        check_like(f"grads[{name!r}]", grads[name], f"params[{name!r}]", param)
        xp = array_namespace(param)
        if param.dtype not in (xp.float32, xp.float64):
            raise ValueError(
                f"params[{name!r}]: received {param.dtype}, expected float32 or float64. In 16 bits most updates are "
                "lost to rounding: load the model with dtype='float32'."
            )
        if not is_writeable_array(param):
            raise ValueError(
                f"params[{name!r}]: received an array that cannot be changed in place. Copy it first, with "
                "numpy.array(...) or cupy.array(...)."
            )


def check_names(what: str, received: Mapping[str, Any], of_what: str, expected: Mapping[str, Any]) -> None:
    """Raise unless two dictionaries have the same keys."""
    missing = [name for name in expected if name not in received]
    extra = [name for name in received if name not in expected]
    if missing or extra:
        found = [f"{len(missing)} missing ({_some(missing)})"] if missing else []
        found += [f"{len(extra)} unknown ({_some(extra)})"] if extra else []
        raise ValueError(f"{what}: {' and '.join(found)}, expected exactly the names of the {of_what}.")


def check_like(what: str, received: Array, of_what: str, expected: Array) -> None:
    """Raise unless an array is of the same library, shape and dtype as another, and on the same device."""
    libraries = [library_name(array) for array in (received, expected)]
    if libraries[0] != libraries[1]:
        raise TypeError(
            f"{what}: received an array of {libraries[0]}, expected one of {libraries[1]}, as {of_what} is. Convert it "
            f"with {libraries[1]}.asarray(...)."
        )
    devices = [device_name(array) for array in (received, expected)]
    if devices[0] != devices[1]:
        raise TypeError(f"{what}: received an array on {devices[0]}, expected one on {devices[1]}, where {of_what} is.")
    if received.shape != expected.shape or received.dtype != expected.dtype:
        raise ValueError(
            f"{what}: received shape {received.shape} and {received.dtype}, expected {expected.shape} and "
            f"{expected.dtype}, as {of_what} has."
        )


def _some(names: list[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
