"""Whole checkpoints to begin with, as folders of files: minineo's own, and small ones that torch and Flax wrote."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch_files
from tiny_models import tiny

from minineo import FlaxGPTNeoForCausalLM, GPT2Tokenizer, GPTNeoForCausalLM
from minineo.checkpoints import save_state_dict

Folder = dict[str, bytes]
DATA = Path(__file__).parents[1] / "data"
FLAX = Path(__file__).parents[1] / "golden" / "flax_model"
GENERATION = {"eos_token_id": 18, "do_sample": True, "temperature": 0.9, "top_k": 5, "max_length": 20, "num_beams": 2}
TEXT = "Once upon a time, the Happy Prince had 2 sapphires... \u4e00\U0001f600 <|endoftext|> <a>  x\n"


@cache
def checkpoints() -> dict[str, list[Folder]]:
    """Checkpoints of a model, by the format of their weights."""
    model = tiny(GPTNeoForCausalLM)
    model.generation_config = GENERATION
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        model.save_pretrained(root / "one")
        model.save_pretrained(root / "shards", max_shard_size=3000)
        FlaxGPTNeoForCausalLM.from_pretrained(root / "one").save_pretrained(root / "flax")
        FlaxGPTNeoForCausalLM.from_pretrained(root / "one").save_pretrained(root / "flax shards", max_shard_size=3000)
        for dtype in ("float16", "float64"):
            _beside_config(root / dtype, root / "one")
            save_state_dict({name: array.astype(dtype) for name, array in model.params.items()}, root / dtype)
        for old in (False, True):
            _beside_config(root / f"torch {old}", root / "one")
            torch_files.save(root / f"torch {old}" / "pytorch_model.bin", model.params, old)
        _torch_shards(root / "torch shards", root / "one", model.params)
        found = {path.name: _read(path) for path in root.iterdir()}
    torch_wrote = {old: (DATA / "torch" / f"{'old' if old else 'zip'}.bin").read_bytes() for old in (False, True)}
    config = {"config.json": found["one"]["config.json"]}
    return {
        "safetensors": [found["one"], found["float16"], found["float64"]],
        "shards": [found["shards"], found["torch shards"], found["flax shards"]],
        "torch zip": [found["torch False"], config | {"pytorch_model.bin": torch_wrote[False]}],
        "torch old": [found["torch True"], config | {"pytorch_model.bin": torch_wrote[True]}],
        "msgpack": [found["flax"], _read(FLAX)],
    }


def _beside_config(folder: Path, source: Path) -> None:
    folder.mkdir()
    shutil.copy(source / "config.json", folder)


def _torch_shards(folder: Path, source: Path, params: dict[str, np.ndarray]) -> None:
    _beside_config(folder, source)
    names = list(params)
    halves = {"pytorch_model-1.bin": names[: len(names) // 2], "pytorch_model-2.bin": names[len(names) // 2 :]}
    for file, some in halves.items():
        torch_files.save(folder / file, {name: params[name] for name in some})
    weight_map = {name: file for file, some in halves.items() for name in some}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _read(folder: Path) -> Folder:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@cache
def tokenizers() -> dict[str, list[Folder]]:
    """Folders of a tokenizer by the file that is to be made wrong: a small vocabulary first, then that of the tests."""
    learned = GPT2Tokenizer.train([TEXT] * 9, 300, progress=False, model_max_length=24)
    learned.add_tokens(["<a>"])
    learned.pad_token = "<|endoftext|>"
    with TemporaryDirectory() as temporary:
        learned.save_pretrained(temporary)
        written = _read(Path(temporary))
        GPT2Tokenizer.from_pretrained(DATA / "vocabulary").save_pretrained(temporary)
        larger = _read(Path(temporary))
    written["added_tokens.json"] = json.dumps({"<a>": len(learned) - 1, "<b>": 1000}).encode()
    openai = {
        name: written[name] for name in ("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json")
    }
    return {
        "tokenizer.json": [written, larger],
        "vocab.json": [openai, _read(DATA / "vocabulary")],
        "merges.txt": [openai, _read(DATA / "vocabulary")],
        "tokenizer_config.json": [
            written,
            {name: content for name, content in written.items() if name != "tokenizer.json"},
        ],
        "special_tokens_map.json": [openai],
        "added_tokens.json": [openai],
    }
