"""Writing tokenizer files, Hugging Face's and OpenAI's: everything that `files` reads."""

import json
import os
from itertools import chain
from pathlib import Path
from typing import Any

from minineo.json_file import write_text
from minineo.tokenizer.added import AddedToken
from minineo.tokenizer.files import Merges
from minineo.tokenizer.vocabulary import SPECIAL_TOKENS_ATTRIBUTES


def write_directory(
    directory: str | os.PathLike[str], tokenizer_json: dict[str, Any], config: dict[str, Any]
) -> tuple[str, ...]:
    """Write a tokenizer in all formats that are in use; return the paths."""
    folder = Path(directory)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"cannot save into {directory}: it is a file, and a directory is needed")
    folder.mkdir(parents=True, exist_ok=True)
    model = tokenizer_json["model"]
    special = {name: config[name] for name in SPECIAL_TOKENS_ATTRIBUTES if config.get(name) is not None}
    contents = {
        "tokenizer_config.json": _to_json(config),
        "special_tokens_map.json": _to_json(special),
        "vocab.json": json.dumps(model["vocab"], ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *(" ".join(merge) for merge in model["merges"]), ""]),
        "tokenizer.json": _to_json(tokenizer_json),
    }
    for name, text in contents.items():
        write_text(folder / name, text)
    return tuple(str(folder / name) for name in contents)


def make_tokenizer_json(
    vocab: dict[str, int],
    merges: Merges,
    added: dict[int, AddedToken],
    prefix_space: bool,
    around: tuple[list[str], list[str]],
) -> dict[str, Any]:
    """Compose the content of tokenizer.json. `around` are the special tokens that go before and after each text."""
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    ids = {token.content: index for index, token in added.items()}

    def template(sequence: str, type_id: int) -> list[dict[str, Any]]:
        before, after = ([{"SpecialToken": {"id": token, "type_id": type_id}} for token in side] for side in around)
        return [*before, {"Sequence": {"id": sequence, "type_id": type_id}}, *after]

    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, **token.to_dict()} for index, token in added.items()],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "add_prefix_space": prefix_space},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": template("A", 0),
            "pair": template("A", 0) + template("B", 1),
            "special_tokens": {
                token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in dict.fromkeys(chain(*around))
            },
        },
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [list(merge) for merge in merges],
        },
    }


def _to_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
