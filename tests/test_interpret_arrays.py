"""Analyses of models on other array libraries: the same NumPy arrays, and no hidden NumPy on the way."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from conftest import require
from tiny_models import tiny, tokens

import minineo
from minineo import interpret
from minineo.classes import GPTNeoForCausalLM

IDS = tokens(1, 8, below=5)
OTHER = tokens(1, 8, seed=1)
ANALYSES: dict[str, Any] = {
    "logit lens": lambda model, ids, other: interpret.logit_lens(model, ids, after_attention=True),
    "attribution": lambda model, ids, other: interpret.direct_logit_attribution(model, ids, 3, 4, 5),
    "ablation": lambda model, ids, other: interpret.ablation_scores(model, ids, "zero"),
    "ablation by means": lambda model, ids, other: interpret.ablation_scores(model, ids, "mean", 3, reference=other),
    "patching": lambda model, ids, other: interpret.activation_patching(model, ids, other, 3),
    "patching heads": lambda model, ids, other: interpret.activation_patching(model, ids, other, 3, 4, "z", 5),
    "previous token": lambda model, ids, other: interpret.previous_token_scores(model, ids),
    "induction": lambda model, ids, other: interpret.induction_scores(model),
    "qk": lambda model, ids, other: interpret.qk_circuit(model, 1, 2, [3, 4]),
    "ov": lambda model, ids, other: interpret.ov_circuit(model, 1, 2, [3, 4]),
    "distance": lambda model, ids, other: interpret.attention_distance(model, ids, ids * 0 + 1),
    "surprisal": lambda model, ids, other: interpret.surprisal(model, ids),
    "a list": lambda model, ids, other: interpret.surprisal(model, [1, 2, 3]),
}


def fields(found: Any) -> dict[str, Any]:
    return found._asdict() if isinstance(found, tuple) else dataclasses.asdict(found)


def assert_same(actual: Any, expected: Any) -> None:
    for name, value in fields(expected).items():
        other = fields(actual)[name]
        assert type(other) is type(value), name
        if isinstance(value, np.ndarray):
            assert other.shape == value.shape, name
            assert other.dtype.kind == value.dtype.kind, name
            if name == "eigenvalues":
                value, other = np.sort(np.abs(value)), np.sort(np.abs(other))
            np.testing.assert_allclose(other, value, rtol=1e-4, atol=1e-4, err_msg=name)
        elif isinstance(value, float):
            assert other == pytest.approx(value, rel=1e-4, abs=1e-4), name
        else:
            assert other == value, name


def on(model: GPTNeoForCausalLM, convert: Any) -> GPTNeoForCausalLM:
    return GPTNeoForCausalLM(model.config, {name: convert(array) for name, array in model.params.items()})


@pytest.mark.parametrize("name", sorted(ANALYSES))
@pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
def test_array_api_strict(name, device, monkeypatch):
    xp = pytest.importorskip("array_api_strict")
    there, host = xp.Device(device), xp.Device("CPU_DEVICE")
    # np.asarray refuses the second device: what comes back has to come from it on purpose
    for module in ("minineo.interpret.inputs", "minineo.scoring"):
        __import__(module)
        monkeypatch.setattr(
            sys.modules[module],
            "to_device",
            lambda array, _: array if isinstance(array, np.ndarray) else np.asarray(xp.asarray(array, device=host)),
        )
    model = tiny(GPTNeoForCausalLM, "glg", tie_word_embeddings=False)
    strict = on(model, lambda array: xp.asarray(array, device=there))
    found = ANALYSES[name](strict, *(xp.asarray(ids, device=there) for ids in (IDS, OTHER)))
    assert_same(found, ANALYSES[name](model, IDS, OTHER))


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["patching heads", "surprisal"])
def test_jax(name):
    jnp = require("jax.numpy")
    model = tiny(GPTNeoForCausalLM, "gl")
    assert_same(
        ANALYSES[name](on(model, jnp.asarray), jnp.asarray(IDS), jnp.asarray(OTHER)), ANALYSES[name](model, IDS, OTHER)
    )


@pytest.mark.parametrize("name", sorted(ANALYSES))
def test_float16(name):
    model = tiny(GPTNeoForCausalLM, "gl")
    narrow = on(model, lambda array: array.astype(np.float16))
    found = fields(ANALYSES[name](narrow, IDS, OTHER))
    for field, value in found.items():
        if isinstance(value, np.ndarray):
            assert value.dtype != np.float16, field
            assert np.isfinite(value[1:]).all(), field


def test_another_librarys_tokens():
    xp = pytest.importorskip("array_api_strict")
    with pytest.raises(TypeError, match="input_ids: received an array of"):
        interpret.logit_lens(tiny(GPTNeoForCausalLM), xp.asarray(IDS))


def test_what_the_tokenizer_returns_is_said_to_hold_the_tokens():
    model, tokenizer = minineo.load()
    with pytest.raises(TypeError, match=r"input_ids: received a BatchEncoding, expected token ids"):
        interpret.logit_lens(model, tokenizer("Once"))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [("induction_scores", ()), ("previous_token_scores", ([1, 2],)), ("qk_circuit", (0, 0)), ("surprisal", ([1, 2],))],
)
def test_what_load_returns_is_said_to_be_no_model(function, arguments):
    with pytest.raises(TypeError, match="model: received a tuple, expected a"):
        getattr(interpret, function)((tiny(GPTNeoForCausalLM), None), *arguments)


def test_importing_is_cheap():
    """The package imports neither its analyses nor matplotlib until they are used."""
    late = "{'matplotlib', 'tqdm', 'minineo.interpret.lens'}"
    code = f"import sys, minineo.interpret; print(sorted({late} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert "logit_lens" in dir(interpret)
    with pytest.raises(AttributeError, match=r"minineo.interpret.* has no attribute 'logit_lense'"):
        _ = interpret.logit_lense
