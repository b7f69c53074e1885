"""GPT-Neo that a person can read, run, trust and teach from: a from-scratch reference implementation in NumPy."""

from minineo.classes import (
    GPTNeoForCausalLM,
    GPTNeoForQuestionAnswering,
    GPTNeoForSequenceClassification,
    GPTNeoForTokenClassification,
    GPTNeoModel,
)
from minineo.config import GPTNeoConfig
from minineo.scoring import score
from minineo.text import generate, load, stream
from minineo.tokenizer import GPT2Tokenizer

__version__ = "0.1.0"

__all__ = [
    "GPT2Tokenizer",
    "GPTNeoConfig",
    "GPTNeoForCausalLM",
    "GPTNeoForQuestionAnswering",
    "GPTNeoForSequenceClassification",
    "GPTNeoForTokenClassification",
    "GPTNeoModel",
    "generate",
    "load",
    "score",
    "stream",
]
