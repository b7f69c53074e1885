"""Reading tokenizer files: vocab.json and merges.txt (OpenAI), tokenizer.json and tokenizer_config.json (Hugging Face).

A directory has tokenizer.json, or vocab.json with merges.txt; where it has both, tokenizer.json counts, as in
`transformers`. Settings and names of special tokens are in tokenizer_config.json, in older directories also in
special_tokens_map.json and added_tokens.json. Whatever is in them, an error names the file and the field: each value
goes through `expect` before it is used.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO, TextIOWrapper
from pathlib import Path
from reprlib import repr as short_repr  # bounded in length and in depth
from typing import Any

from minineo.json_file import check_memory, parse_json, read_bytes
from minineo.location import inside
from minineo.quoting import quote
from minineo.tokenizer.added import FLAGS, AddedToken
from minineo.tokenizer.batch import SIDES
from minineo.tokenizer.utf8 import ERRORS
from minineo.tokenizer.vocabulary import SPECIAL_TOKENS_ATTRIBUTES

Merges = list[tuple[str, str]]

NAMES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
EXTRA = ("extra_special_tokens", "additional_special_tokens")
BOOLEANS = (
    "add_prefix_space",
    "add_bos_token",
    "add_eos_token",
    "split_special_tokens",
    "clean_up_tokenization_spaces",
)
CHOICES = {"errors": ERRORS, "padding_side": SIDES, "truncation_side": SIDES}
OTHERS = ("added_tokens_decoder", "model_max_length", "name_or_path")
SETTINGS = frozenset((*SPECIAL_TOKENS_ATTRIBUTES, *EXTRA, *BOOLEANS, *CHOICES, *OTHERS))

LINE_COSTS = {"\n": 260, "\r": 260}  # bytes of memory that a merge takes: two strings in a tuple
NULL = type(None)
JSON_TYPES = {
    dict: "a JSON object",
    list: "a JSON list",
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    NULL: "null",
}


def read_directory(directory: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read all files of a tokenizer: the arguments of `GPT2Tokenizer` that they hold, and what else they set."""
    folder = Path(directory)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{directory} is not a directory: give the one that holds tokenizer.json, or vocab.json and merges.txt"
        )
    for name in NAMES:
        inside(folder, name)  # none of them may be a link to another place
    if (folder / "tokenizer.json").is_file():
        found = read_tokenizer_json(folder / "tokenizer.json")
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        found = {"vocab": read_vocab(folder / "vocab.json"), "merges": read_merges(folder / "merges.txt")}
    else:
        raise FileNotFoundError(f"{directory} has neither tokenizer.json nor both vocab.json and merges.txt")
    settings, others = _read_all_settings(folder)
    if "add_bos_token" in found:  # tokenizer.json says itself what goes around a text
        settings = {name: value for name, value in settings.items() if name not in ("add_bos_token", "add_eos_token")}
    return {**found, **settings}, others


def files_of(directory: str | os.PathLike[str]) -> str:
    """Name the files of a tokenizer that are in a directory, for errors that concern several of them."""
    return f"{', '.join(name for name in NAMES if (Path(directory) / name).is_file())} in {directory}"


# -- vocabulary and merges ---------------------------------------------------------------------------------------------


def read_vocab(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read vocab.json: a JSON object from tokens to ids."""
    return _check_vocab(_read_object(Path(path)), path)


def read_merges(path: str | os.PathLike[str]) -> Merges:
    """Read merges.txt: after a version line, one merge a line, its two tokens parted by a space."""
    merges: Merges = []
    for number, line in enumerate(_read_lines(Path(path)), start=1):
        if line and not line.startswith("#version"):
            merges.append(check_merge(line, f"{path}, line {number}"))
    return merges


def read_tokenizer_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read tokenizer.json, which must describe a byte-level BPE with GPT-2's pre-tokenisation."""
    content = _read_object(Path(path))
    model = expect(content.get("model"), path, "model", dict)
    pre_tokenizer = expect(content.get("pre_tokenizer"), path, "pre_tokenizer", dict)
    for what, value, wanted in (
        ("model.type", model.get("type", "BPE"), ("BPE",)),
        ("model.continuing_subword_prefix", model.get("continuing_subword_prefix"), (None, "")),
        ("model.end_of_word_suffix", model.get("end_of_word_suffix"), (None, "")),
        ("model.dropout", model.get("dropout"), (None, 0)),
        ("model.ignore_merges", model.get("ignore_merges", False), (False,)),
        ("normalizer", content.get("normalizer"), (None,)),
        ("pre_tokenizer.type", pre_tokenizer.get("type"), ("ByteLevel",)),
        ("pre_tokenizer.use_regex", pre_tokenizer.get("use_regex", True), (True,)),
    ):
        if value not in wanted:
            raise ValueError(
                f"{path} is not a tokenizer like GPT-2's: its {what} is {short_repr(value)}, not {wanted[0]!r}"
            )
    merges = expect(model.get("merges"), path, "model.merges", list)
    prefix_space = expect(pre_tokenizer.get("add_prefix_space"), path, "pre_tokenizer.add_prefix_space", bool, NULL)
    added = [
        expect(token, path, f"added_tokens[{index}]", dict)
        for index, token in enumerate(expect(content.get("added_tokens", []), path, "added_tokens", list))
    ]
    return {
        "vocab": _check_vocab(expect(model.get("vocab"), path, "model.vocab", dict), path),
        "merges": [check_merge(merge, f"{path}, merge {number}") for number, merge in enumerate(merges, start=1)],
        "added_tokens_decoder": _added_tokens([(token.get("id"), token) for token in added], path, "added_tokens"),
        "add_prefix_space": bool(prefix_space),
        **_read_post_processor(content, path),
        **_read_sides(content, path),
    }


def _read_post_processor(content: dict[str, Any], path: str | os.PathLike[str]) -> dict[str, bool]:
    """Whether a special token goes before and after each text, from the template for single texts."""
    post_processor = expect(content.get("post_processor"), path, "post_processor", dict, NULL) or {"type": "ByteLevel"}
    kind = post_processor.get("type")
    if kind == "ByteLevel":  # concerns offsets only
        return {"add_bos_token": False, "add_eos_token": False}
    if kind != "TemplateProcessing":
        raise ValueError(f"{path} is not a tokenizer like GPT-2's: its post_processor is {short_repr(kind)}")
    pieces = [
        "text" if "Sequence" in expect(piece, path, f"post_processor.single[{index}]", dict) else "token"
        for index, piece in enumerate(expect(post_processor.get("single"), path, "post_processor.single", list))
    ]
    if pieces not in (["text"], ["token", "text"], ["text", "token"], ["token", "text", "token"]):
        raise ValueError(f"{path}: post_processor.single must be a text with at most one token before and after it")
    return {"add_bos_token": pieces[0] == "token", "add_eos_token": pieces[-1] == "token"}


def _read_sides(content: dict[str, Any], path: str | os.PathLike[str]) -> dict[str, Any]:
    """Padding and truncation that were saved with the tokenizer."""
    found: dict[str, Any] = {}
    for name in ("padding", "truncation"):
        if saved := expect(content.get(name), path, name, dict, NULL):
            side = expect(saved.get("direction", "Right"), path, f"{name}.direction", str).lower()
            found[f"{name}_side"] = _choose(side, path, f"{name}.direction", SIDES)
            if name == "padding" and saved.get("pad_token") is not None:
                found["pad_token"] = _added_token(saved["pad_token"], path, "padding.pad_token")
    return found


# -- settings ----------------------------------------------------------------------------------------------------------


def _read_all_settings(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read tokenizer_config.json, and what older directories have beside it: known settings, and others."""
    path = folder / "tokenizer_config.json"
    settings, others = _read_settings(path) if path.is_file() else ({}, {})
    if "added_tokens_decoder" in settings:
        return settings, others
    path = folder / "special_tokens_map.json"
    if path.is_file():
        settings.update(_read_settings(path)[0])
    path = folder / "added_tokens.json"
    if path.is_file() and not (folder / "tokenizer.json").is_file():
        names = {str(settings[name]) for name in SPECIAL_TOKENS_ATTRIBUTES if settings.get(name)}
        tokens = [(index, {"content": token, "special": token in names}) for token, index in _read_object(path).items()]
        settings["added_tokens_decoder"] = _added_tokens(tokens, path, "the content")
    return settings, others


def _read_settings(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a file of settings: those that `GPT2Tokenizer` knows, checked, and the others as they are."""
    content = _read_object(path)
    others = {name: value for name, value in content.items() if name not in SETTINGS}
    settings = {name: _check_setting(value, path, name) for name, value in content.items() if name in SETTINGS}
    # null is "none" for a special token, and "not set" for anything else.
    settings = {name: value for name, value in settings.items() if value is not None or name.endswith("_token")}
    older = settings.pop("additional_special_tokens", None)
    if older and not settings.get("extra_special_tokens"):
        settings["extra_special_tokens"] = older
    return settings, others


def _check_setting(value: Any, path: Path, name: str) -> Any:
    if value is None:
        return None
    if name in SPECIAL_TOKENS_ATTRIBUTES:
        return _added_token(value, path, name)
    if name in EXTRA:
        tokens = expect(value, path, name, list, dict)
        tokens = tokens.values() if isinstance(tokens, dict) else tokens
        return [_added_token(token, path, f"{name}[{index}]") for index, token in enumerate(tokens)]
    if name == "added_tokens_decoder":
        return _added_tokens(expect(value, path, name, dict).items(), path, name)
    if name in CHOICES:
        return _choose(value, path, name, CHOICES[name])
    if name == "model_max_length":
        if not 0 <= expect(value, path, name, int, float) < float("inf"):
            raise ValueError(f"{path}: {name} must be a number of tokens, not {value!r}")
        return int(value)
    return expect(value, path, name, bool if name in BOOLEANS else str)


# -- reading and checking pieces ---------------------------------------------------------------------------------------


def _read_lines(path: Path) -> Iterator[str]:
    try:
        content = read_bytes(path)
        check_memory(content, LINE_COSTS, len(content))
        for line in TextIOWrapper(BytesIO(content), encoding="utf-8"):
            yield line.removesuffix("\n")
    except ValueError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_bytes(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    return dict(expect(content, path, "the content", dict))


def expect(value: Any, path: str | os.PathLike[str], name: str, *types: type) -> Any:
    """Give back a value from a JSON file if it is of one of these types."""
    if type(value) not in types:  # not isinstance: true would be an integer
        wanted = " or ".join(JSON_TYPES[kind] for kind in types)
        raise ValueError(f"{path}: {name} must be {wanted}, not {short_repr(value)}")
    return value


def _choose(value: Any, path: str | os.PathLike[str], name: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"{path}: {name} must be one of {', '.join(choices)}, not {short_repr(value)}")
    return str(value)


def _check_vocab(vocab: dict[str, Any], path: str | os.PathLike[str]) -> dict[str, int]:
    for token, index in vocab.items():
        if type(index) is not int or index < 0:
            raise ValueError(
                f"{path}: the token {quote(token)} has the id {short_repr(index)}, which must be an integer from 0 on"
            )
    return vocab


def check_merge(merge: Any, where: str) -> tuple[str, str]:
    """Give the two tokens of a merge, which may be written as one string with a space between them."""
    parts = merge.split(" ", 2) if isinstance(merge, str) else merge
    if (
        not isinstance(parts, list | tuple)
        or len(parts) != 2
        or not all(isinstance(part, str) and part for part in parts)
    ):
        raise ValueError(f"{where}: a merge must be two tokens parted by one space, not {short_repr(parts)}")
    return parts[0], parts[1]


def _added_token(value: Any, path: str | os.PathLike[str], name: str, special: bool | None = True) -> AddedToken:
    """A token as files have it: its characters, or an object with them and with flags. None leaves `special` to it."""
    if isinstance(expect(value, path, name, str, dict), dict):
        expect(value.get("content"), path, f"{name}.content", str)
        for flag in FLAGS:
            expect(value.get(flag), path, f"{name}.{flag}", bool, NULL)
    try:
        return AddedToken.of(value, special=special)
    except ValueError as error:
        raise ValueError(f"{path}: {name}: {error}") from None


def _added_tokens(tokens: Iterable[tuple[Any, Any]], path: str | os.PathLike[str], name: str) -> dict[int, AddedToken]:
    """Added tokens by id, which is a string where it was the key of a JSON object."""
    found = {}
    for index, token in tokens:
        number = int(index) if isinstance(index, str) and index.isdecimal() and len(index) < 20 else index
        if type(number) is not int or number < 0:
            raise ValueError(
                f"{path}: {name}: the token {short_repr(token)} has the id {short_repr(index)}, "
                "which must be an integer from 0 on"
            )
        found[number] = _added_token(token, path, f"{name} (id {number})", special=None)
    return found
