"""Tokenizer files: vocab.json and merges.txt (OpenAI), tokenizer.json and tokenizer_config.json (Hugging Face).

A directory has tokenizer.json, or vocab.json with merges.txt; where it has both, tokenizer.json counts, as in
`transformers`. Settings and names of special tokens are in tokenizer_config.json, in older directories also in
special_tokens_map.json and added_tokens.json. Every error names the file.
"""

import json
import os
from itertools import chain
from pathlib import Path
from typing import Any

from minineo.tokenizer.added import AddedToken
from minineo.tokenizer.vocabulary import SPECIAL_TOKENS_ATTRIBUTES

Merges = list[tuple[str, str]]


def read_directory(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Read all files of a tokenizer: `vocab`, `merges`, `added_tokens_decoder` and the settings that are there."""
    folder = Path(directory)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{directory} is not a directory: give the one that holds tokenizer.json, or vocab.json and merges.txt"
        )
    if (folder / "tokenizer.json").is_file():
        found = read_tokenizer_json(folder / "tokenizer.json")
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        found = {
            "vocab": read_vocab(folder / "vocab.json"),
            "merges": read_merges(folder / "merges.txt"),
            "added_tokens_decoder": {},
        }
    else:
        raise FileNotFoundError(f"{directory} has neither tokenizer.json nor both vocab.json and merges.txt")
    settings = _read_settings(folder)
    if "add_bos_token" in found:  # tokenizer.json says itself what goes around a text
        settings = {name: value for name, value in settings.items() if name not in ("add_bos_token", "add_eos_token")}
    return {**found, **settings}


def read_vocab(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read vocab.json: a JSON object from tokens to ids."""
    return _check_vocab(_read_object(Path(path)), path)


def read_merges(path: str | os.PathLike[str]) -> Merges:
    """Read merges.txt: after a version line, one merge a line, its two tokens parted by a space."""
    merges: Merges = []
    for number, line in enumerate(_read_text(Path(path)).split("\n"), start=1):
        if line and not line.startswith("#version"):
            merges.append(check_merge(line, f"{path}, line {number}"))
    return merges


def read_tokenizer_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read tokenizer.json, which must describe a byte-level BPE with GPT-2's pre-tokenisation."""
    content = _read_object(Path(path))
    model = _expect(content.get("model"), dict, f"{path}: 'model'")
    pre_tokenizer = _expect(content.get("pre_tokenizer"), dict, f"{path}: 'pre_tokenizer'")
    for what, value, wanted in (
        ("model type", model.get("type", "BPE"), ("BPE",)),
        ("model.continuing_subword_prefix", model.get("continuing_subword_prefix"), (None, "")),
        ("model.end_of_word_suffix", model.get("end_of_word_suffix"), (None, "")),
        ("model.dropout", model.get("dropout"), (None, 0)),
        ("model.ignore_merges", model.get("ignore_merges", False), (False,)),
        ("normalizer", content.get("normalizer"), (None,)),
        ("pre_tokenizer type", pre_tokenizer.get("type"), ("ByteLevel",)),
        ("pre_tokenizer.use_regex", pre_tokenizer.get("use_regex", True), (True,)),
    ):
        if value not in wanted:
            raise ValueError(f"{path} is not a tokenizer like GPT-2's: its {what} is {value!r}, not {wanted[0]!r}")
    added = _expect(content.get("added_tokens", []), list, f"{path}: 'added_tokens'")
    return {
        "vocab": _check_vocab(_expect(model.get("vocab"), dict, f"{path}: 'model.vocab'"), path),
        "merges": [
            check_merge(merge, f"{path}, merge {number}")
            for number, merge in enumerate(_expect(model.get("merges"), list, f"{path}: 'model.merges'"), start=1)
        ],
        "added_tokens_decoder": _added_tokens({token.get("id"): token for token in added}, path),
        "add_prefix_space": bool(pre_tokenizer.get("add_prefix_space", False)),
        **_read_post_processor(content.get("post_processor"), path),
        **_read_sides(content),
    }


def _read_post_processor(post_processor: dict[str, Any] | None, path: str | os.PathLike[str]) -> dict[str, bool]:
    """Whether a special token goes before and after each text, from the template for single texts."""
    kind = (post_processor or {}).get("type")
    if post_processor is None or kind == "ByteLevel":  # concerns offsets only
        return {"add_bos_token": False, "add_eos_token": False}
    if kind != "TemplateProcessing":
        raise ValueError(f"{path} is not a tokenizer like GPT-2's: its post_processor is {kind!r}")
    pieces = ["text" if "Sequence" in piece else "token" for piece in post_processor.get("single", [])]
    if pieces not in (["text"], ["token", "text"], ["text", "token"], ["token", "text", "token"]):
        raise ValueError(f"{path}: post_processor.single must be a text with at most one token before and after it")
    return {"add_bos_token": pieces[0] == "token", "add_eos_token": pieces[-1] == "token"}


def _read_sides(content: dict[str, Any]) -> dict[str, str]:
    """Padding and truncation that were saved with the tokenizer."""
    found = {}
    if content.get("padding"):
        found["padding_side"] = str(content["padding"].get("direction", "Right")).lower()
        found["pad_token"] = content["padding"].get("pad_token")
    if content.get("truncation"):
        found["truncation_side"] = str(content["truncation"].get("direction", "Right")).lower()
    return found


def _read_settings(folder: Path) -> dict[str, Any]:
    """Read tokenizer_config.json, and what older directories have beside it."""
    path = folder / "tokenizer_config.json"
    settings = _read_object(path) if path.is_file() else {}
    if "added_tokens_decoder" in settings:
        added = _expect(settings["added_tokens_decoder"], dict, f"{path}: 'added_tokens_decoder'")
        settings["added_tokens_decoder"] = _added_tokens(added, path)
        return settings
    path = folder / "special_tokens_map.json"
    if path.is_file():
        settings.update(_read_object(path))
    path = folder / "added_tokens.json"
    if path.is_file() and not (folder / "tokenizer.json").is_file():
        special = [settings.get(name) for name in SPECIAL_TOKENS_ATTRIBUTES]
        names = {value.get("content") if isinstance(value, dict) else value for value in special}
        tokens = {index: {"content": token, "special": token in names} for token, index in _read_object(path).items()}
        settings["added_tokens_decoder"] = _added_tokens(tokens, path)
    return settings


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
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
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


# -- reading and checking pieces ---------------------------------------------------------------------------------------


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    return dict(_expect(content, dict, str(path)))


def _expect(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{where} must be a JSON {'object' if kind is dict else 'list'}, not {value!r:.60}")
    return value


def _check_vocab(vocab: dict[str, Any], path: str | os.PathLike[str]) -> dict[str, int]:
    for token, index in vocab.items():
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise ValueError(f"{path}: the token {token!r} has the id {index!r}, which must be an integer from 0 on")
    return vocab


def check_merge(merge: Any, where: str) -> tuple[str, str]:
    """Give the two tokens of a merge, which may be written as one string with a space between them."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if (
        not isinstance(parts, list | tuple)
        or len(parts) != 2
        or not all(isinstance(part, str) and part for part in parts)
    ):
        raise ValueError(f"{where}: a merge must be two tokens parted by one space, not {parts!r:.60}")
    return parts[0], parts[1]


def _added_tokens(tokens: dict[Any, Any], path: str | os.PathLike[str]) -> dict[int, AddedToken]:
    found = {}
    for index, token in tokens.items():
        try:
            found[int(index)] = AddedToken.of(token)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: bad added token {token!r:.80} with id {index!r}: {error}") from None
    return found


def _to_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
