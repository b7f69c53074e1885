"""The bundled model: its loss, its logits and how it goes on, as transformers and tokenizers have them."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require

from minineo.classes import GPTNeoForCausalLM
from minineo.tokenizer import GPT2Tokenizer

HERE = Path(__file__).parent
ASSETS = Path(str(files("minineo") / "assets"))
GOLDEN: dict[str, Any] = json.loads((HERE / "golden" / "bundled_model.json").read_text(encoding="utf-8"))
LARGEST_ERROR = 1e-5


@pytest.fixture(scope="module")
def model() -> GPTNeoForCausalLM:
    return GPTNeoForCausalLM.from_pretrained(ASSETS)


@pytest.fixture(scope="module")
def tokenizer() -> GPT2Tokenizer:
    return GPT2Tokenizer.from_pretrained(ASSETS)


def test_ids(tokenizer: GPT2Tokenizer) -> None:
    assert tokenizer((HERE / "data" / "happy_prince.txt").read_text(encoding="utf-8")).input_ids == GOLDEN["passage"]
    for prompt in GOLDEN["prompts"]:
        assert tokenizer(prompt["text"]).input_ids == prompt["ids"]


def test_loss(model: GPTNeoForCausalLM) -> None:
    ids = np.array([GOLDEN["passage"]])
    loss = model(ids, labels=ids).loss
    assert loss.dtype == np.float32
    assert abs(loss - GOLDEN["loss"]) < LARGEST_ERROR * GOLDEN["loss"]


def test_logits(model: GPTNeoForCausalLM) -> None:
    with np.load(HERE / "golden" / "bundled_model.npz") as file:
        expected = file["logits"]
    logits = model(np.array([GOLDEN["prompts"][0]["ids"]])).logits
    assert logits.dtype == np.float32
    assert np.max(np.abs(logits - expected)) < LARGEST_ERROR * np.max(np.abs(expected))


@pytest.mark.parametrize("prompt", GOLDEN["prompts"], ids=lambda prompt: prompt["text"])
def test_greedy_continuation(model: GPTNeoForCausalLM, prompt: dict[str, Any]) -> None:
    ids = list(prompt["ids"])
    for _ in prompt["continuation"]:
        ids.append(int(np.argmax(model(np.array([ids])).logits[0, -1])))
    assert ids == prompt["ids"] + prompt["continuation"]


@pytest.mark.parametrize("prompt", GOLDEN["prompts"], ids=lambda prompt: prompt["text"])
def test_greedy_generation(model: GPTNeoForCausalLM, prompt: dict[str, Any]) -> None:
    tokens = model.generate(np.array([prompt["ids"]]), max_new_tokens=len(prompt["continuation"]))
    assert tokens[0].tolist() == prompt["ids"] + prompt["continuation"]


def test_greedy_generation_of_a_batch(model: GPTNeoForCausalLM) -> None:
    """Prompts of different lengths, padded on the left, go on as each does alone."""
    prompts = GOLDEN["prompts"]
    longest = max(len(prompt["ids"]) for prompt in prompts)
    ids = np.array([[0] * (longest - len(prompt["ids"])) + prompt["ids"] for prompt in prompts])
    mask = np.array([[0] * (longest - len(prompt["ids"])) + [1] * len(prompt["ids"]) for prompt in prompts])
    tokens = model.generate(ids, attention_mask=mask, max_new_tokens=len(prompts[0]["continuation"]))
    assert tokens[:, longest:].tolist() == [prompt["continuation"] for prompt in prompts]


@pytest.mark.oracle
def test_against_transformers(model: GPTNeoForCausalLM) -> None:
    """The same numbers, from the same files, read by transformers itself."""
    torch, transformers = require("torch"), require("transformers")
    theirs = transformers.GPTNeoForCausalLM.from_pretrained(ASSETS, dtype=torch.float32)
    passage = torch.tensor([GOLDEN["passage"]])
    with torch.no_grad():
        expected = theirs(passage, labels=passage)
    ours = model(passage.numpy(), labels=passage.numpy())
    assert abs(ours.loss - float(expected.loss)) < LARGEST_ERROR * GOLDEN["loss"]
    logits = expected.logits.numpy()
    assert np.max(np.abs(ours.logits - logits)) < LARGEST_ERROR * np.max(np.abs(logits))
    for prompt in GOLDEN["prompts"]:
        ids = torch.tensor([prompt["ids"]])
        with torch.no_grad():
            logits = theirs(ids).logits.numpy()
        assert np.max(np.abs(model(ids.numpy()).logits - logits)) < LARGEST_ERROR * np.max(np.abs(logits))
        tokens = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=len(prompt["continuation"]), do_sample=False
        )
        assert tokens[0].tolist() == prompt["ids"] + prompt["continuation"]
