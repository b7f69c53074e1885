"""One case: a folder made wrong in one way, drawn from the name of its format and a number, and so always the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from fuzz import formats
from fuzz.byte_changes import mutate_bytes, splice
from fuzz.json_text import Raw, dumps, mutate_json
from fuzz.seeds import Folder, checkpoints, tokenizers

Mutation = Callable[[bytes, Random], bytes]

# Of each format: which file is made wrong, and what does it by its structure.
WEIGHTS: Mapping[str, tuple[str, Mutation]] = {
    "safetensors": ("model.safetensors", formats.mutate_safetensors),
    "torch zip": ("pytorch_model.bin", formats.mutate_zip),
    "torch old": ("pytorch_model.bin", formats.mutate_old_torch),
    "msgpack": ("flax_model.msgpack", formats.mutate_msgpack),
}
CONFIGURATIONS = ("config.json", "generation_config.json")
TOKENIZERS = (
    *("tokenizer.json", "vocab.json", "merges.txt"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
FORMATS = (*WEIGHTS, "shards", "folder", *CONFIGURATIONS, *TOKENIZERS)

SECRET = "secret.bin"
"""A file beside the case's folder, which nothing in the folder may lead to."""


def make_case(format_: str, number: int, folder: Path) -> str:
    """Make the folder of a case; returns what was done, for who looks into it."""
    random = Random(f"{format_} {number}")
    folder.mkdir()
    if format_ == "folder":
        return _make_folder_case(random, folder)
    if format_ == "shards":
        return _make_index_case(random, folder)
    if format_ in WEIGHTS:
        seeds = checkpoints()[format_]
        file, mutate = WEIGHTS[format_]
    else:
        seeds = tokenizers()[format_] if format_ in TOKENIZERS else checkpoints()["safetensors"][:1]
        file, mutate = format_, formats.mutate_merges if format_ == "merges.txt" else mutate_json
    files = dict(seeds[0] if random.random() < 0.7 else random.choice(seeds))  # the first are the smallest
    how = random.choices(["structure", "bytes", "spliced"], [0.7, 0.25, 0.05])[0]
    if how == "structure":
        files[file] = mutate(files[file], random)
    elif how == "bytes":
        files[file] = mutate_bytes(files[file], random)
    else:
        files[file] = splice(files[file], random.choice([*files.values(), *random.choice(seeds).values()]), random)
    _write(folder, files)
    return f"{file}: {how}"


def _write(folder: Path, files: Folder) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


SHARDS = [
    *(
        "",
        ".",
        "..",
        "../secret.bin",
        "../../etc/passwd",
        "/etc/passwd",
        "./a",
        "a/../../secret.bin",
        "C:\\x",
        "..\\secret.bin",
    ),
    *(
        "\0",
        "a\0b",
        "x" * 255,
        "x" * 300,
        "x" * 100_000,
        "\ud800",
        "\udcff",
        "config.json",
        "model.safetensors",
        "nothing",
    ),
    *(
        "%2e%2e%2fsecret.bin",
        "~",
        "~/x",
        "$HOME",
        "a\nb",
        "\x1b[31m",
        " ",
        "con",
        "secret.bin",
        "link",
        "fifo",
        "folder",
    ),
]


def _make_index_case(random: Random, folder: Path) -> str:
    """An index that names other files, or that is wrong as JSON, or shards that are."""
    files = dict(random.choice(checkpoints()["shards"]))
    index = next(name for name in files if name.endswith(".index.json"))
    how = random.choice(["names", "names", "structure", "bytes", "shard", "moved"])
    document = json.loads(files[index])
    names = list(document["weight_map"])
    if how == "names":
        for name in random.choices(names, k=random.choice([1, 1, len(names)])):
            document["weight_map"][name] = random.choice(SHARDS)
        files[index] = dumps(document).encode()
    elif how == "moved":
        first, second = random.choices(names, k=2)
        document["weight_map"][first] = document["weight_map"][second]
        document["weight_map"][random.choice(["x", "\ud800", first])] = document["weight_map"].pop(second)
        files[index] = dumps(document).encode()
    elif how == "shard":
        shard = random.choice([name for name in files if name not in (index, "config.json")])
        files[shard] = mutate_bytes(files[shard], random)
    else:
        files[index] = (mutate_json if how == "structure" else mutate_bytes)(files[index], random)
    _write(folder, files)
    os.symlink(folder.parent / SECRET, folder / "link")
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    return f"{index}: {how}"


def _make_folder_case(random: Random, folder: Path) -> str:
    """A file that is something else: a link to anywhere, a folder, a pipe, a device, empty, or not there."""
    files = dict(random.choice(random.choice(list((checkpoints() | tokenizers()).values()))))
    name = random.choice(list(files))
    content = files.pop(name)
    _write(folder, files)
    place, secret = folder / name, folder.parent / SECRET
    kinds: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "empty": lambda: place.write_bytes(b""),
        "folder": place.mkdir,
        "pipe": lambda: os.mkfifo(place),
        "link to a file outside": lambda: place.symlink_to(secret),
        "relative link outside": lambda: place.symlink_to(f"../{SECRET}"),
        "link to nothing": lambda: place.symlink_to("../nothing"),
        "link to itself": lambda: place.symlink_to(name),
        "link to a device": lambda: place.symlink_to(
            random.choice(["/dev/zero", "/dev/random", "/dev/stdin", "/proc/self/mem"])
        ),
        "link to the folder": lambda: place.symlink_to("."),
        "link of two": lambda: ((folder / "step").symlink_to(secret), place.symlink_to("step")),
        "link through a folder": lambda: (
            (folder / "way").symlink_to(folder.parent),
            place.symlink_to(f"way/{SECRET}"),
        ),
        "link to another file": lambda: place.symlink_to(random.choice(list(files) or ["x"])),
        "link to itself, inside": lambda: ((folder / "real").write_bytes(content), place.symlink_to("real")),
        "unreadable text": lambda: place.write_bytes(
            random.choice([b"\xff\xfe" + content, b"\xef\xbb\xbf" + content, bytes(1000)])
        ),
        "other file": lambda: place.write_bytes(random.choice(list(files.values()) or [b"x"])),
        "a number": lambda: place.write_text(
            dumps(Raw(random.choice(["1", "NaN", '"x"', "[]", "{}", "null", "[" * 100_000])))
        ),
    }
    kind = random.choice(list(kinds))
    kinds[kind]()
    return f"{name}: {kind}"
