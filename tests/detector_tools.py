"""What the detectors share: tiny models of a port, inputs, checkpoints on disk, and ways to be wrong."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import by_hand
import numpy as np
from random_models import draw_params
from safetensors.numpy import save_file

PADDINGS = [0, 1, 3, 8]
PAD = 0


def tiny_config(neo: Any, layers: str = "gl", **fields: Any) -> Any:
    """A configuration whose layers are spelt g for global and l for local."""
    kinds = [{"g": "global", "l": "local"}[letter] for letter in layers]
    small = {
        "vocab_size": 19,
        "hidden_size": 12,
        "num_layers": len(layers),
        "attention_types": [[kinds, 1]],
        "num_heads": 3,
        "window_size": 4,
        "max_position_embeddings": 24,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return neo.GPTNeoConfig(**(small | fields))


def tiny(neo: Any, name: str, layers: str = "gl", seed: int = 0, dtype: Any = np.float32, **fields: Any) -> Any:
    """A model of the class of that name, every parameter drawn at random."""
    config = tiny_config(neo, layers, **fields)
    with must_work(f"making a {name}"):
        model_class = getattr(neo, name)
        return model_class(config, draw_params(shapes(neo, name, config), config, seed, dtype))


def shapes(neo: Any, name: str, config: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint, spelt out: what a checkpoint holds is not for the port to say."""
    prefix = "" if name == "GPTNeoModel" else "transformer."
    D, V = config.hidden_size, config.vocab_size
    M = 4 * D if config.intermediate_size is None else config.intermediate_size
    found: dict[str, tuple[int, ...]] = {"wte.weight": (V, D), "wpe.weight": (config.max_position_embeddings, D)}
    for i in range(config.num_layers):
        for part, shape in [("ln_1", (D,)), ("ln_2", (D,)), ("mlp.c_fc", (M, D)), ("mlp.c_proj", (D, M))]:
            found |= {f"h.{i}.{part}.weight": shape, f"h.{i}.{part}.bias": shape[:1]}
        for projection in ("q", "k", "v", "out"):
            found[f"h.{i}.attn.attention.{projection}_proj.weight"] = (D, D)
        found[f"h.{i}.attn.attention.out_proj.bias"] = (D,)
    found |= {"ln_f.weight": (D,), "ln_f.bias": (D,)}
    found = {prefix + key: shape for key, shape in found.items()}
    if name == "GPTNeoForSequenceClassification":
        found["score.weight"] = (config.num_labels, D)
    if name == "GPTNeoForCausalLM" and not config.tie_word_embeddings:
        found["lm_head.weight"] = (V, D)
    return found


@contextmanager
def must_work(what: str) -> Iterator[None]:
    """A port that stops where it should work has the mistake too."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{what} failed: {error!r}") from error


def must_refuse(action: Callable[[], Any], *words: str) -> None:
    """A ValueError that names what is wrong, not a crash further down and not a result."""
    message = "no error at all"
    try:
        action()
    except ValueError as error:
        message = str(error)
    except Exception as error:
        raise AssertionError(f"expected a ValueError, not {error!r}") from error
    missing = [word for word in words if word not in message]
    assert not missing, f"expected a ValueError that names {missing}, found {message}"


def assert_close(a: Any, b: Any, what: str = "") -> None:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape, f"{what}: shapes {a.shape} and {b.shape}"
    assert np.max(np.abs(a - b)) <= 1e-5 * np.max(np.abs(b)), f"{what}: {np.max(np.abs(a - b))}"


def assert_as_by_hand(model: Any, ids: list[int]) -> None:
    """A GPTNeoModel gives what plain loops give."""
    params = {name: array.tolist() for name, array in model.params.items()}
    with must_work("the forward pass"):
        ours = model(np.array([ids])).last_hidden_state[0]
    assert_close(ours, by_hand.forward(params, model.config, ids), "last hidden state")


def changed(a: np.ndarray, b: np.ndarray) -> list[bool]:
    """At which positions two hidden states (1, T, D) differ by more than rounding."""
    return (np.max(np.abs(a - b), axis=(0, 2)) > 1e-5 * np.max(np.abs(a))).tolist()


def ids_of(T: int, B: int = 1, seed: int = 0) -> np.ndarray:
    """Token ids (B, T), none of them PAD."""
    return np.random.RandomState(seed).randint(1, 19, size=(B, T))


def left_padded(ids: np.ndarray, padding: int) -> dict[str, np.ndarray]:
    """The inputs for a text (1, T) behind `padding` tokens of padding; its positions count from its first token."""
    mask = np.array([[0] * padding + [1] * ids.shape[1]])
    padded = np.concatenate([np.full((1, padding), PAD), ids], axis=1)
    return {"input_ids": padded, "attention_mask": mask, "position_ids": np.maximum(np.cumsum(mask, axis=1) - 1, 0)}


def generate(model: Any, inputs: dict[str, np.ndarray], **arguments: Any) -> np.ndarray:
    """The logits (steps, B, V) from which four new tokens are chosen."""
    with must_work("generation"):
        output = model.generate(
            **inputs, max_new_tokens=4, return_dict_in_generate=True, output_logits=True, pad_token_id=PAD, **arguments
        )
    return np.stack(output.logits)


def load(neo: Any, name: str, config: Any, tensors: dict[str, np.ndarray]) -> Any:
    """Write a checkpoint as Hugging Face lays it out, and read it; a warning is no excuse for what follows."""
    with tempfile.TemporaryDirectory() as directory:
        fields = {key: value for key, value in config.to_dict().items() if key != "attention_layers"}
        (Path(directory) / "config.json").write_text(json.dumps(fields), encoding="utf-8")
        save_file({key: np.ascontiguousarray(a) for key, a in tensors.items()}, Path(directory) / "model.safetensors")
        with warnings.catch_warnings(action="ignore"):
            return getattr(neo, name).from_pretrained(directory)
