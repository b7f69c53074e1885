"""What the models return: Hugging Face's outputs, readable by attribute, by key and by position."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from dataclasses import dataclass, fields
from typing import Any

from minineo.arrays import Array
from minineo.model.cache import Cache


class ModelOutput:
    """Base of the outputs. Keys and positions count only the fields that are not None, as in Hugging Face.

    Two outputs are equal only if they are one object (hence eq=False below): arrays have no single truth value.

    >>> output.logits is output["logits"] is output[0]
    True
    >>> logits, past_key_values = output.to_tuple()
    """

    def _present(self) -> dict[str, Any]:
        named = ((field.name, getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]
        return {name: value for name, value in named if value is not None}

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are not None, in order."""
        return tuple(self._present().values())

    def keys(self) -> KeysView[str]:
        """Names of the fields that are not None."""
        return self._present().keys()

    def values(self) -> ValuesView[Any]:
        """Values of the fields that are not None."""
        return self._present().values()

    def items(self) -> ItemsView[str, Any]:
        """Names and values of the fields that are not None."""
        return self._present().items()

    def get(self, name: str, default: Any = None) -> Any:
        """The field of that name, or `default` where there is none."""
        return self._present().get(name, default)

    def __getitem__(self, key: str | int | slice) -> Any:
        return self._present()[key] if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()


@dataclass(eq=False)
class BaseModelOutputWithPast(ModelOutput):
    """Of `GPTNeoModel`: last_hidden_state (B, T, D)."""

    last_hidden_state: Array
    past_key_values: Cache | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


@dataclass(eq=False)
class CausalLMOutputWithPast(ModelOutput):
    """Of `GPTNeoForCausalLM`: logits (B, T, V) before the softmax, loss a scalar in nats a token."""

    loss: Array | None = None
    logits: Array | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


@dataclass(eq=False)
class SequenceClassifierOutputWithPast(ModelOutput):
    """Of `GPTNeoForSequenceClassification`: logits (B, num_labels), loss a scalar."""

    loss: Array | None = None
    logits: Array | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


@dataclass(eq=False)
class TokenClassifierOutput(ModelOutput):
    """Of `GPTNeoForTokenClassification`: logits (B, T, num_labels), loss a scalar."""

    loss: Array | None = None
    logits: Array | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


@dataclass(eq=False)
class QuestionAnsweringModelOutput(ModelOutput):
    """Of `GPTNeoForQuestionAnswering`: start_logits and end_logits (B, T), loss a scalar."""

    loss: Array | None = None
    start_logits: Array | None = None
    end_logits: Array | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None
