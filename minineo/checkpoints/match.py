"""Match a checkpoint's names with a model's, strictly: a weight that is silently missed is a model that babbles.

GPT-Neo checkpoints come in several shapes, all read by Hugging Face transformers: with the prefix `transformer.` (saved
from a model with a head) or without (saved from the base model), with or without the tied `lm_head.weight`, and, from
before 2023, with mask buffers that are no weights.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from minineo.arrays import Array
from minineo.checkpoints.dtypes import is_floating
from minineo.checkpoints.errors import CheckpointError, quote
from minineo.checkpoints.safetensors_file import mapped_file

Shape = tuple[int, ...]

MASK_BUFFER = re.compile(r"(transformer\.)?h\.\d+\.attn\.attention\.(bias|masked_bias)")

HEAD_PARAMETERS = {
    "lm_head.weight",
    "score.weight",
    "classifier.weight",
    "classifier.bias",
    "qa_outputs.weight",
    "qa_outputs.bias",
}
"""The parameters of every head: a checkpoint with one head may be loaded into a model with another, or with none."""


class Matched(NamedTuple):
    """What a checkpoint gives to a model."""

    params: dict[str, Array]
    """The checkpoint's arrays under the model's names."""
    missing: list[str]
    """Parameters of the model's head that the checkpoint does not have; the caller initialises them."""
    unused: list[str]
    """Parameters of another head, which this model does not have."""


def match(
    state: Mapping[str, Array],
    expected: Mapping[str, Shape],
    *,
    source: str,
    base_prefix: str = "transformer.",
    tied: Mapping[str, str] | None = None,
) -> Matched:
    """Find each parameter of a model in a checkpoint.

    Two tied tensors that differ are both kept, with a warning, as in transformers: `params` then has a name (such as
    `lm_head.weight`) that `expected` has not, and the model must use it. Comparing them is the only reading done here.

    Args:
        state: the checkpoint's arrays by name.
        expected: the model's parameters by name, with their shapes. If some names begin with `base_prefix`, those
            that do not are the head's, and only these may be missing.
        source: the file or directory, for messages about arrays that do not know their own file.
        base_prefix: what names may have or lack in front, in `state` and in `expected`.
        tied: parameters that are not expected because they equal another, for instance
            `{"lm_head.weight": "transformer.wte.weight"}`.

    Raises:
        CheckpointError: naming every parameter that is missing, unexpected, of a wrong shape or not floating-point.
    """
    tied = tied or {}
    prefixed = any(name.startswith(base_prefix) for name in expected)
    heads = {name for name in expected if prefixed and not name.startswith(base_prefix)}
    model_name = {name: name for name in (*heads, *tied)}
    for name in expected:
        if name not in heads:
            bare = name.removeprefix(base_prefix)
            model_name[bare] = model_name[base_prefix + bare] = name
    shapes = {**expected, **{twin: expected[original] for twin, original in tied.items()}}

    params: dict[str, Array] = {}
    unused: list[str] = []
    problems: list[str] = []
    for name, array in state.items():
        target = model_name.get(name)
        if target in params:
            problems.append(f"{_place(array, name, source)}: found twice, expected once (it is {target} in the model)")
        elif target is not None:
            problems += _misfits(array, name, shapes[target], source)
            params[target] = array
        elif name in HEAD_PARAMETERS:
            unused.append(name)
        elif not MASK_BUFFER.fullmatch(name):
            problems.append(f"{_place(array, name, source)}: unexpected, the model has no such parameter")

    for twin, original in tied.items():
        if twin in params and original not in params:
            params[original] = params.pop(twin)
    missing = [name for name in expected if name not in params]
    problems += [
        f"{source}: tensor {name!r}: missing, expected shape {expected[name]}" for name in missing if name not in heads
    ]
    if problems:
        raise CheckpointError(_report(problems, source))
    _drop_equal_twins(params, tied, source)
    return Matched({name: params[name] for name in (*expected, *tied) if name in params}, missing, unused)


def _misfits(array: Array, name: str, shape: Shape, source: str) -> Iterator[str]:
    if tuple(array.shape) != tuple(shape):
        yield f"{_place(array, name, source)}: shape {tuple(array.shape)}, expected {tuple(shape)}"
    if not is_floating(array.dtype):
        yield f"{_place(array, name, source)}: dtype {array.dtype}, expected a floating-point one"


def _place(array: Array, name: str, source: str) -> str:
    return f"{mapped_file(array) or source}: tensor {quote(name)}"


def _report(problems: list[str], source: str, limit: int = 10) -> str:
    if len(problems) == 1:
        return problems[0]
    lines = [f"{source} does not fit the model, {len(problems)} problems:", *problems[:limit]]
    if len(problems) > limit:
        lines.append(f"... and {len(problems) - limit} more")
    return "\n  ".join(lines)


def _drop_equal_twins(params: dict[str, Array], tied: Mapping[str, str], source: str) -> None:
    """Drop each tied tensor that equals its original; keep one that differs, and say so."""
    for twin, original in tied.items():
        if twin not in params:
            continue
        if same_bits(params[twin], params[original]):
            del params[twin]
        else:
            warnings.warn(
                f"{source}: the configuration ties {twin} to {original}, but the checkpoint has different values for "
                "the two; both are used, as they are; set tie_word_embeddings=False in the configuration",
                stacklevel=6,  # whoever called from_pretrained
            )


def same_bits(a: Array, b: Array, rows: int = 1024) -> bool:
    """Compare two tensors of the same shape piece by piece, so that a difference is found without reading them all."""
    if a.dtype != b.dtype:
        return False
    a, b = (array.view(f"u{array.dtype.itemsize}") for array in (a, b))
    return all(np.array_equal(a[i : i + rows], b[i : i + rows]) for i in range(0, len(a), rows))
