"""The published GPT-Neo checkpoints: their configurations are read, have the sizes that were published, and run.

The facts are those of the `config.json` of each on the Hugging Face Hub, where 125M, 1.3B and 2.7B are EleutherAI's
(Black et al. 2021, https://doi.org/10.5281/zenodo.5297715) and the others are TinyStories' (Eldan and Li 2023,
https://arxiv.org/abs/2305.07759), whose names count without embeddings, more or less.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import require
from torch_files import save

from minineo import GPTNeoConfig, GPTNeoForCausalLM, GPTNeoModel
from minineo.pretrained import GPTNeoPreTrainedModel


class Published(NamedTuple):
    """What distinguishes one checkpoint from the others, and its number of parameters, the tied head counted once."""

    num_layers: int
    hidden_size: int
    num_heads: int
    attention_types: list[Any]
    parameters: int


PUBLISHED = {
    "gpt-neo-125m": Published(12, 768, 12, [[["global", "local"], 6]], 125_198_592),
    "gpt-neo-1.3B": Published(24, 2048, 16, [[["global", "local"], 12]], 1_315_575_808),
    "gpt-neo-2.7B": Published(32, 2560, 20, [[["global", "local"], 16]], 2_651_307_520),
    "TinyStories-1M": Published(8, 64, 16, [[["global", "local"], 4]], 3_745_984),
    "TinyStories-3M": Published(8, 128, 16, [[["global", "local"], 4]], 8_278_400),
    "TinyStories-8M": Published(8, 256, 16, [[["global", "local"], 4]], 19_702_528),
    "TinyStories-28M": Published(8, 512, 16, [[["global", "local"], 4]], 51_987_968),
    "TinyStories-33M": Published(4, 768, 16, [[["global", "local"], 2]], 68_514_048),
    "TinyStories-1Layer-21M": Published(1, 1024, 16, [[["global"], 1]], 66_155_520),
    "TinyStories-2Layers-33M": Published(2, 1024, 16, [[["global", "local"], 1]], 78_748_672),
}
LARGE = ("gpt-neo-1.3B", "gpt-neo-2.7B")
NAMES = pytest.mark.parametrize("name", PUBLISHED)


def config_json(name: str) -> dict[str, Any]:
    """The fields of a published config.json, those that only older versions of transformers read among them."""
    published = PUBLISHED[name]
    return {
        "activation_function": "gelu_new",
        "architectures": ["GPTNeoForCausalLM"],
        "attention_dropout": 0,
        "attention_layers": (["global", "local"] * published.num_layers)[: published.num_layers],
        "attention_types": published.attention_types,
        "bos_token_id": 50256,
        "embed_dropout": 0,
        "eos_token_id": 50256,
        "gradient_checkpointing": False,
        "hidden_size": published.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": None,
        "layer_norm_epsilon": 1e-05,
        "max_position_embeddings": 2048,
        "model_type": "gpt_neo",
        "num_heads": published.num_heads,
        "num_layers": published.num_layers,
        "resid_dropout": 0,
        "summary_activation": None,
        "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "torch_dtype": "float32",
        "transformers_version": "4.28.1",
        "use_cache": True,
        "vocab_size": 50257,
        "window_size": 256,
    }


def read_config(name: str, folder: Path) -> GPTNeoConfig:
    (folder / "config.json").write_text(json.dumps(config_json(name)))
    return GPTNeoConfig.from_pretrained(folder)


@NAMES
def test_the_configuration_is_read(tmp_path: Path, name: str) -> None:
    published, config = PUBLISHED[name], read_config(name, tmp_path)
    assert (config.num_layers, config.hidden_size, config.num_heads) == published[:3]
    assert config.attention_layers == [("global", "local")[i % 2] for i in range(published.num_layers)]
    assert (config.window_size, config.max_position_embeddings, config.vocab_size) == (256, 2048, 50257)
    assert config.tie_word_embeddings
    config.save_pretrained(tmp_path / "again")
    assert GPTNeoConfig.from_pretrained(tmp_path / "again") == config


@NAMES
def test_the_number_of_parameters(tmp_path: Path, name: str) -> None:
    shapes = GPTNeoForCausalLM.parameter_shapes(read_config(name, tmp_path))
    assert sum(map(math.prod, shapes.values())) == PUBLISHED[name].parameters
    assert shapes["transformer.wte.weight"] == (50257, PUBLISHED[name].hidden_size)
    assert shapes["transformer.wpe.weight"] == (2048, PUBLISHED[name].hidden_size)


def draw(shapes: dict[str, tuple[int, ...]], wte: str) -> dict[str, np.ndarray]:
    """Random parameters, quickly: one row of numbers over and over, and embeddings that are windows of it."""
    row = 0.02 * np.random.default_rng(0).standard_normal(1_000_003, dtype=np.float32)
    params = {name: np.resize(row, shape) for name, shape in shapes.items() if name != wte}
    V, D = shapes[wte]
    return params | {wte: np.lib.stride_tricks.sliding_window_view(row[: V + D - 1], D)}


@NAMES
def test_it_runs_in_its_true_shapes(tmp_path: Path, name: str) -> None:
    """The two largest with two of their layers, and without the head, which would copy half a gigabyte."""
    config = read_config(name, tmp_path)
    model_class: type[GPTNeoPreTrainedModel[Any]] = GPTNeoForCausalLM
    if name in LARGE:
        model_class = GPTNeoModel
        config = GPTNeoConfig.from_dict(config.to_dict(), num_layers=2, attention_types=[[["global", "local"], 1]])
    shapes = model_class.parameter_shapes(config)
    model = model_class(config, draw(shapes, f"{model_class.prefix}wte.weight"))
    output = model(np.array([[50256, 0, 50255]]))
    assert output[0].shape == (1, 3, config.hidden_size if name in LARGE else 50257)
    assert output[0].dtype == np.float32
    assert np.isfinite(output[0]).all()
    assert output[0].std() > 0.001


def test_the_smallest_is_read_from_a_file_of_torch(tmp_path: Path) -> None:
    """As it was published: pytorch_model.bin, with mask buffers in every layer."""
    config = read_config("TinyStories-1M", tmp_path)
    shapes = GPTNeoForCausalLM.parameter_shapes(config)
    params = draw(shapes, "transformer.wte.weight")
    stored = {name: np.ascontiguousarray(array) for name, array in params.items()}
    mask = np.tril(np.ones((1, 1, 2048, 2048), np.bool_))
    for i in range(config.num_layers):
        stored[f"transformer.h.{i}.attn.attention.bias"] = mask
        stored[f"transformer.h.{i}.attn.attention.masked_bias"] = np.array(-1e9, np.float32)
    save(tmp_path / "pytorch_model.bin", stored)
    model = GPTNeoForCausalLM.from_pretrained(tmp_path)
    assert model.num_parameters() == PUBLISHED["TinyStories-1M"].parameters
    for name, array in params.items():
        np.testing.assert_array_equal(model.params[name], array)


@pytest.mark.oracle
@NAMES
def test_transformers_counts_the_same(name: str) -> None:
    torch, transformers = require("torch"), require("transformers")
    with torch.device("meta"):
        model = transformers.GPTNeoForCausalLM(transformers.GPTNeoConfig(**config_json(name)))
    model.tie_weights()
    assert model.num_parameters() == PUBLISHED[name].parameters
    shapes = GPTNeoForCausalLM.parameter_shapes(GPTNeoConfig.from_dict(config_json(name)))
    assert {key: tuple(parameter.shape) for key, parameter in model.named_parameters()} == shapes
