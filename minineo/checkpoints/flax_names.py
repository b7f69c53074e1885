"""Names of parameters: Flax's nested dictionaries <-> the checkpoint's flat names.

Flax's linear layer multiplies by its `kernel` (in, out) as it is, so it is the checkpoint's `weight` (out, in)
transposed. A table of embeddings is `embedding`, a layer norm's weight `scale`; biases are biases in both.

    transformer/h/0/attn/attention/q_proj/kernel    transformer.h.0.attn.attention.q_proj.weight, transposed
    transformer/h/0/ln_1/scale                      transformer.h.0.ln_1.weight
    transformer/wte/embedding                       transformer.wte.weight
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minineo.arrays import Array

# Flax's name of a `weight`, by the layer that it belongs to; all others are linear layers.
_EMBEDDINGS = ("wte", "wpe")
_LAYER_NORMS = ("ln_1", "ln_2", "ln_f")
_WEIGHTS = ("kernel", "embedding", "scale")


def to_flax(params: Mapping[str, Array]) -> dict[str, Any]:
    """Flax's nested dictionary of a model's parameters, which are views of them."""
    leaves = {flax_name(name): array for name, array in params.items()}
    return unflatten({name: _turned(name, array) for name, array in leaves.items()})


def from_flax(tree: Mapping[str, Any]) -> dict[str, Array]:
    """A model's parameters under the checkpoint's names, views of the arrays in Flax's nested dictionary.

    Raises:
        ValueError: two of them would have the same name, or a kernel is no matrix.
    """
    params: dict[str, Array] = {}
    for name, array in flatten(tree).items():
        target = checkpoint_name(name)
        if target in params:
            raise ValueError(f"{name}: a second array for {target}, expected one of {', '.join(_WEIGHTS)}.")
        params[target] = _turned(name, array)
    return params


def flax_name(name: str) -> str:
    """Where Flax keeps a parameter: `transformer.wte.weight` -> `transformer/wte/embedding`."""
    *modules, last = name.split(".")
    if last == "weight" and modules:
        last = "embedding" if modules[-1] in _EMBEDDINGS else "scale" if modules[-1] in _LAYER_NORMS else "kernel"
    return "/".join([*modules, last])


def checkpoint_name(name: str) -> str:
    """What the checkpoint calls a parameter of Flax's: `transformer/wte/embedding` -> `transformer.wte.weight`."""
    *modules, last = name.split("/")
    return ".".join([*modules, "weight" if last in _WEIGHTS else last])


def are_flax_names(names: Iterable[str]) -> bool:
    """Whether they are those of a Flax model's parameters, joined by dots: `transformer.wte.embedding`."""
    names = list(names)
    return any(name.rpartition(".")[2] in _WEIGHTS for name in names) and not any("/" in name for name in names)


def turned_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape on the other side of a parameter that Flax has under this name (`a/b/kernel`) in this shape."""
    return shape[::-1] if name.endswith("/kernel") else shape


def _turned(name: str, array: Array) -> Array:
    if not name.endswith("/kernel"):
        return array
    if array.ndim != 2:
        raise ValueError(f"{name}: received shape {tuple(array.shape)}, expected two dimensions, (in, out).")
    return array.T


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dictionaries, each under its way there: `{"a": {"b": 1}}` -> `{"a/b": 1}`."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        leaves |= flatten(value, f"{name}/") if isinstance(value, Mapping) else {name: value}
    return leaves


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries with these leaves: `{"a/b": 1}` -> `{"a": {"b": 1}}`.

    Raises:
        ValueError: a name goes on below another, as `a` and `a/b` do.
    """
    tree: dict[str, Any] = {}
    for name, value in leaves.items():
        *way, last = name.split("/")
        inner = tree
        for key in way:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise ValueError(f"{name}: stands below {key!r}, which is an array.")
        if last in inner:
            raise ValueError(f"{name}: there are already arrays below this name.")
        inner[last] = value
    return tree
