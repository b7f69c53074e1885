"""GPT-Neo that a person can read, run, trust and teach from: a from-scratch reference implementation in NumPy."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minineo.classes import (
        GPTNeoForCausalLM,
        GPTNeoForQuestionAnswering,
        GPTNeoForSequenceClassification,
        GPTNeoForTokenClassification,
        GPTNeoModel,
    )
    from minineo.config import GPTNeoConfig
    from minineo.flax.classes import FlaxGPTNeoForCausalLM, FlaxGPTNeoModel
    from minineo.interpret.attention_view import attention_view
    from minineo.interpret.diagram import diagram
    from minineo.scoring import score
    from minineo.text import generate, load, stream
    from minineo.tokenizer import GPT2Tokenizer

__version__ = "0.1.0"

__all__ = [
    "FlaxGPTNeoForCausalLM",
    "FlaxGPTNeoModel",
    "GPT2Tokenizer",
    "GPTNeoConfig",
    "GPTNeoForCausalLM",
    "GPTNeoForQuestionAnswering",
    "GPTNeoForSequenceClassification",
    "GPTNeoForTokenClassification",
    "GPTNeoModel",
    "attention_view",
    "diagram",
    "generate",
    "load",
    "score",
    "stream",
]

_PLACES = {
    "FlaxGPTNeoForCausalLM": "minineo.flax.classes",
    "FlaxGPTNeoModel": "minineo.flax.classes",
    "GPT2Tokenizer": "minineo.tokenizer",
    "GPTNeoConfig": "minineo.config",
    "attention_view": "minineo.interpret.attention_view",
    "diagram": "minineo.interpret.diagram",
    "generate": "minineo.text",
    "load": "minineo.text",
    "score": "minineo.scoring",
    "stream": "minineo.text",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: nobody waits for what he does not use."""
    if name not in __all__:
        raise AttributeError(f"module 'minineo' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_PLACES.get(name, "minineo.classes")), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
