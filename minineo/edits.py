"""Edits: intermediates replaced on their way through a forward pass, by functions or by arrays.

Two experiments are made of this. *Ablation* takes a part's contribution away, and what the model then cannot do is what
the part was for. *Activation patching* puts in what the part computed for another prompt (Vig et al. 2020; Meng et al.
2022), and what then changes is what the part had told the rest.

>>> output = model(input_ids, edits={"h.3.attn.out": np.zeros_like})  # without the attention of layer 3
>>> _, clean = model.trace(other_ids, names="h.3.attn.out")
>>> output = model(input_ids, edits=clean)  # with that of another prompt: a trace is a mapping of names to arrays
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from array_api_compat import array_namespace, is_array_api_obj

from minineo.arrays import Array, device_of
from minineo.devices import device_name, library_name
from minineo.model.names import matching
from minineo.tap import Tap, no_tap

Edit = Callable[[Array], Array] | Array
Edits = Mapping[str, Edit]


def editing(edits: Edits, names: Sequence[str], tap: Tap = no_tap) -> Tap:
    """The tap that edits values and then shows them to `tap`.

    Keys are names or globs (`"h.*.mlp.out"`, see `minineo.model.names.matching`) among `names`, those that the pass
    computes. A name that several keys stand for is edited by each of them, in the order of the dictionary.

    Raises:
        ValueError: a key stands for none of the names; the message suggests the nearest.
        TypeError: `edits` is no mapping, or holds something that is neither a function nor an array.
    """
    if not isinstance(edits, Mapping):
        raise TypeError(
            f"edits: received a {type(edits).__name__}, expected a dictionary of names and functions or arrays, "
            'such as {"h.0.attn.out": np.zeros_like}.'
        )
    edits_of: dict[str, list[Edit]] = {}
    for key, edit in edits.items():
        for name in matching(key, names, "edits"):
            edits_of.setdefault(name, []).append(edit)
        if not is_array_api_obj(edit) and not callable(edit):
            raise TypeError(
                f"edits, {key!r}: received a {type(edit).__name__}, expected a function of the value, or an array."
            )
    if not edits_of:
        return tap

    def edit_and_show(name: str, value: Array) -> Array:
        for edit in edits_of.get(name, ()):
            value = edited(name, value, edit)
        return tap(name, value)

    return edit_and_show


def edited(name: str, value: Array, edit: Edit) -> Array:
    """What `edit` makes of a value: an array of the same shape, library and dtype (other floats are cast to it).

    The function gets a copy, and what it returns is copied. So it may change its argument in place, keep it, or return
    an array that is changed later: neither the inputs nor a cache nor another run's trace can be hurt by it.

    Raises:
        ValueError: the result has another shape.
        TypeError: the result is no array, or one of another library, or not of floats.
    """
    xp = array_namespace(value)
    is_array = is_array_api_obj(edit)
    result = edit if is_array else edit(xp.asarray(value, copy=True))
    what = f"edits, {name!r}: received an array" if is_array else f"edits, {name!r}: the function returned"
    if not is_array_api_obj(result):
        forgotten = " Does it lack a return statement?" if result is None else ""
        raise TypeError(
            f"{what} a {type(result).__name__}, expected an array of shape {tuple(value.shape)}.{forgotten}"
        )
    _check_result(what if is_array else f"{what} an array", result, value, is_array)
    return xp.asarray(result, dtype=value.dtype, copy=True)


def _check_result(what: str, result: Any, value: Array, is_array: bool) -> None:
    xp = array_namespace(value)
    if array_namespace(result) is not xp:
        received, expected = library_name(result), library_name(value)
        raise TypeError(f"{what} of {received}, expected one of {expected}, as the model's parameters are.")
    if device_of(result) != device_of(value):
        received, expected = device_name(result), device_name(value)
        raise TypeError(f"{what} on {received}, expected one on {expected}, as the model's parameters are.")
    if not xp.isdtype(result.dtype, "real floating"):
        raise TypeError(f"{what} of dtype {result.dtype}, expected floats, as the value it replaces ({value.dtype}).")
    if result.shape != value.shape:
        hint = (
            " A continuation of a cache, as each step of generate is, computes new positions only: use a function."
            if is_array and result.ndim == value.ndim
            else ""
        )
        raise ValueError(
            f"{what} of shape {tuple(result.shape)}, expected {tuple(value.shape)}, that of what it replaces.{hint}"
        )
