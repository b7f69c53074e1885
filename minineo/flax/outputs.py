"""What the Flax models return: fields of the same names and in the same order as in `transformers` 4."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from typing import Any

from minineo.arrays import Array
from minineo.model.outputs import ModelOutput


@dataclass(eq=False)
class FlaxBaseModelOutputWithPast(ModelOutput):
    """Of `FlaxGPTNeoModel`: last_hidden_state (B, T, D); past_key_values only where they were given."""

    last_hidden_state: Array | None = None
    past_key_values: dict[str, Any] | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


@dataclass(eq=False)
class FlaxCausalLMOutput(ModelOutput):
    """Of `FlaxGPTNeoForCausalLM`: logits (B, T, V) before the softmax; past_key_values only where they were given."""

    logits: Array | None = None
    past_key_values: dict[str, Any] | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


@cache
def register_with_jax() -> None:
    """Tell JAX what an output consists of, so that a function that returns one can be jitted."""
    register = import_module("jax").tree_util.register_pytree_node
    for output in (FlaxBaseModelOutputWithPast, FlaxCausalLMOutput):
        names = [field.name for field in fields(output)]
        register(
            output,
            lambda value, names=names: ([getattr(value, name) for name in names], None),
            lambda _, values, output=output: output(*values),
        )
