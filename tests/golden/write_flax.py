"""Write what Flax's GPT-Neo computes, which tests/test_flax.py replays without it; or check what minineo has saved.

transformers 5 has no Flax, so that this needs an environment of its own (Python 3.11):

    pip install transformers==4.49.0 flax==0.8.5 jax==0.4.30 jaxlib==0.4.30 "numpy<2" scipy msgpack

    python tests/golden/write_flax.py                  writes flax.json, flax.npz and flax_model/ beside itself
    python tests/golden/write_flax.py check FOLDER     loads a folder that a FlaxGPTNeo model of minineo has saved, with
                                                       its expected.npz, and prints how far the logits are apart

`flax.json` says which versions wrote it and what each case is; `flax.npz` holds inputs and outputs, as
`case/input/...` and `case/piece/field`. Parameters follow from the case's seed: `flax_parameters.drawn`, in the order
of the sorted names.
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import flax
import jax
import jaxlib
import numpy as np
import transformers
from flax.traverse_util import flatten_dict, unflatten_dict
from flax_parameters import drawn

jax.config.update("jax_default_matmul_precision", "highest")
HERE = Path(__file__).parent
CONFIG = {
    "vocab_size": 23,
    "hidden_size": 12,
    "num_heads": 3,
    "num_layers": 2,
    "attention_types": [[["global", "local"], 1]],
    "window_size": 4,
    "max_position_embeddings": 16,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
B, T = 3, 12
random = np.random.RandomState(0)
IDS = random.randint(23, size=(B, T))
LEFT = np.array([[0] * n + [1] * (T - n) for n in [0, 3, 7]])
RIGHT = LEFT[:, ::-1].copy()
HOLES = random.randint(2, size=(B, T))
POSITIONS = np.maximum(np.cumsum(LEFT, axis=1) - 1, 0)
MODEL, CAUSAL = "FlaxGPTNeoModel", "FlaxGPTNeoForCausalLM"

# name: (class, fields of the configuration that differ, inputs, where to cut for the cache, length of the cache)
Case = tuple[str, dict[str, Any], dict[str, Any], list[int], int]
CASES: dict[str, Case] = {
    "base": (MODEL, {}, {}, [0, T], 0),
    "tied head": (CAUSAL, {}, {}, [0, T], 0),
    "untied head": (CAUSAL, {"tie_word_embeddings": False}, {}, [0, T], 0),
    "left padding": (CAUSAL, {}, {"attention_mask": LEFT, "position_ids": POSITIONS}, [0, T], 0),
    "right padding": (CAUSAL, {}, {"attention_mask": RIGHT}, [0, T], 0),
    "holes": (MODEL, {}, {"attention_mask": HOLES}, [0, T], 0),
    "row of padding": (MODEL, {}, {"attention_mask": LEFT * [[1], [0], [1]]}, [0, T], 0),
    "random positions": (MODEL, {}, {"position_ids": random.randint(16, size=(B, T))}, [0, T], 0),
    "window 1": (MODEL, {"window_size": 1}, {}, [0, T], 0),
    "window beyond the text": (MODEL, {"window_size": 99}, {}, [0, T], 0),
    "four layers": (
        CAUSAL,
        {"num_layers": 4, "attention_types": [[["local", "global"], 2]], "intermediate_size": 7},
        {},
        [0, T],
        0,
    ),
    "large epsilon": (MODEL, {"layer_norm_epsilon": 0.1}, {}, [0, T], 0),
    **{
        name: (MODEL, {"activation_function": name}, {}, [0, T], 0)
        for name in ["gelu", "gelu_pytorch_tanh", "relu", "silu"]
    },
    "one token at a time": (CAUSAL, {}, {}, list(range(9)), 10),
    "several at a time": (CAUSAL, {}, {}, [0, 5, 6, 10, T], 16),
    "cache with left padding": (CAUSAL, {}, {"attention_mask": LEFT, "position_ids": POSITIONS}, [0, 6, 7, 8, T], 14),
    "cache of the base model": (MODEL, {"window_size": 2}, {}, [0, 3, 4, 5], 5),
}


def model_of(class_name: str, fields: dict[str, Any], seed: int) -> Any:
    config = transformers.GPTNeoConfig(**(CONFIG | fields))
    model = getattr(transformers, class_name)(config)
    shapes = {name: array.shape for name, array in flatten_dict(model.params, sep="/").items()}
    model.params = unflatten_dict(drawn(shapes, seed), sep="/")
    return model


def pieces(inputs: dict[str, Any], cuts: list[int], length: int) -> list[dict[str, Any]]:
    """The arguments of each call: all at once, or piece by piece with the whole mask and the piece's positions."""
    if not length:
        return [{"input_ids": IDS, **inputs}]
    mask = np.ones((B, length), np.int64)
    if "attention_mask" in inputs:
        mask[:, :T] = inputs["attention_mask"]
    positions = inputs.get("position_ids", np.broadcast_to(np.arange(T), (B, T)))
    return [
        {"input_ids": IDS[:, a:b], "attention_mask": mask, "position_ids": positions[:, a:b]} for a, b in pairwise(cuts)
    ]


def outputs_of(model: Any, calls: list[dict[str, Any]], length: int) -> list[dict[str, np.ndarray]]:
    """Every array of every output, by names such as `hidden_states.1`."""
    cache = model.init_cache(B, length) if length else None
    found = []
    for inputs in calls:
        output = model(**inputs, past_key_values=cache, output_attentions=True, output_hidden_states=True)
        cache = output.get("past_key_values")
        fields: dict[str, np.ndarray] = {}
        for name, value in output.items():
            if name == "past_key_values":
                fields |= {f"past/{key}": np.asarray(array) for key, array in flatten_dict(value, sep="/").items()}
            elif isinstance(value, tuple):
                fields |= {f"{name}.{i}": np.asarray(item) for i, item in enumerate(value)}
            else:
                fields[name] = np.asarray(value)
        found.append(fields)
    return found


def versions() -> dict[str, str]:
    modules = (transformers, flax, jax, jaxlib, np)
    return {module.__name__: module.__version__ for module in modules} | {"python": sys.version.split()[0]}


def write() -> None:
    arrays: dict[str, np.ndarray] = {}
    described: dict[str, Any] = {}
    for seed, (name, (class_name, fields, inputs, cuts, length)) in enumerate(CASES.items()):
        model = model_of(class_name, fields, seed)
        calls = pieces(inputs, cuts, length)
        described[name] = {"class": class_name, "config": CONFIG | fields, "seed": seed, "length": length}
        for i, (call, output) in enumerate(zip(calls, outputs_of(model, calls, length), strict=True)):
            arrays |= {f"{name}/{i}/input/{key}": value for key, value in call.items()}
            # of a cache, the last piece's is the whole; the others' are in it
            arrays |= {
                f"{name}/{i}/{key}": value
                for key, value in output.items()
                if not key.startswith("past") or i == len(calls) - 1
            }
    content = {"versions": versions(), "cases": described}
    (HERE / "flax.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    np.savez_compressed(HERE / "flax.npz", **arrays)
    model_of(CAUSAL, {}, list(CASES).index("tied head")).save_pretrained(HERE / "flax_model")


def check(folder: Path) -> None:
    with np.load(folder / "expected.npz") as file:
        expected = dict(file)
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    model, info = getattr(transformers, f"Flax{name}").from_pretrained(folder), versions()
    ours = expected["logits"]
    theirs = np.asarray(model(expected["input_ids"])[0])
    error = np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs))
    print(f"transformers {info['transformers']}, flax {info['flax']}: Flax{name}, relative error {error:.2g}")
    assert error < 1e-5


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        check(Path(sys.argv[2]))
    else:
        write()
