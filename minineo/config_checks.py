"""Checks of a configuration's fields: a value that no model can have is an error that names the field."""

from __future__ import annotations

import math
import sys
from typing import Any

from minineo.quoting import quote

_PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
_POSITIVE_INTEGERS = ("vocab_size", "max_position_embeddings", "hidden_size", "num_layers", "num_heads", "window_size")
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_PROBABILITIES = ("resid_dropout", "embed_dropout", "attention_dropout", "classifier_dropout")
_FLAGS = ("use_cache", "tie_word_embeddings", "output_attentions", "output_hidden_states", "return_dict")


def check_fields(config: Any) -> None:
    """Raise where a field has a value that no model can have."""
    for name in _POSITIVE_INTEGERS:
        check_integer(name, getattr(config, name), minimum=1)
    if config.intermediate_size is not None:
        check_integer("intermediate_size", config.intermediate_size, minimum=1)
    if config.hidden_size % config.num_heads:
        raise ValueError(
            f"num_heads: received {config.num_heads}, expected a divisor of hidden_size, which is {config.hidden_size}."
        )
    for name in _TOKEN_IDS:
        value = getattr(config, name)
        for token in value if name == "eos_token_id" and isinstance(value, list) else [value]:
            if token is not None:
                check_integer(name, token, minimum=-1)  # -1 stands for "none" in some old files
    for name in (*_PROBABILITIES, "layer_norm_epsilon", "initializer_range"):
        check_real(name, getattr(config, name), below=1.0 if name in _PROBABILITIES else math.inf)
    for name in _FLAGS:
        if not isinstance(getattr(config, name), bool):
            raise TypeError(f"{name}: received {quote(getattr(config, name))}, expected True or False.")
    if not isinstance(config.activation_function, str):
        raise TypeError(
            f"activation_function: received {quote(config.activation_function)}, expected a name like 'gelu_new'."
        )
    if config.problem_type is not None and config.problem_type not in _PROBLEM_TYPES:
        raise ValueError(
            f"problem_type: received {quote(config.problem_type)}, expected None or one of {_PROBLEM_TYPES}."
        )
    if config.problem_type == "single_label_classification" and config.num_labels == 1:
        raise ValueError(
            "problem_type: received 'single_label_classification' with num_labels = 1, expected at least 2 labels to "
            "choose from. For a yes or no use num_labels=2, for a number problem_type='regression'."
        )


def check_integer(name: str, value: Any, minimum: int, maximum: int = 2**63 - 1) -> None:
    """Raise unless `value` is an int (True is none) from `minimum` to `maximum`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: received {quote(value)} of type {type(value).__name__}, expected an int.")
    if value < minimum:
        raise ValueError(f"{name}: received {quote(value)}, expected at least {minimum}.")
    if value > maximum:
        raise ValueError(f"{name}: received {quote(value)}, expected at most {maximum}.")


def check_real(name: str, value: Any, below: float) -> None:
    """Raise unless `value` is a number from 0 up to, but not including, `below`."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name}: received {quote(value)} of type {type(value).__name__}, expected a float.")
    if not 0.0 <= value < below or value > sys.float_info.max:  # an int can be larger than any float
        raise ValueError(
            f"{name}: received {quote(value)}, expected a number from 0 up to, but not including, {below}."
        )
