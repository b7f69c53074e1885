"""Each mistake that fuzzing found in a reader, by hand: a file as small as it can be, and what it must end in."""

from __future__ import annotations

import json
import os
import re
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch_files
from tiny_models import tiny, tokens

from minineo import GPT2Tokenizer, GPTNeoConfig, GPTNeoForCausalLM, json_file
from minineo.checkpoints import CheckpointError, read_state_dict, save_safetensors
from minineo.checkpoints.convert import convert
from minineo.checkpoints.torch_file import MAX_PICKLE_BYTES
from minineo.cli import main
from minineo.quoting import quote
from minineo.tokenizer.files import read_merges, read_vocab

VOCABULARY = Path(__file__).parent / "data" / "vocabulary"
DEEP = '{"x": ' + "[" * 300 + "]" * 300 + "}"  # json.loads takes it; what walks through it by calls does not


def checkpoint(folder: Path, **config: Any) -> Path:
    """A whole checkpoint, but for these fields."""
    tiny(GPTNeoForCausalLM).save_pretrained(folder)
    fields = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


# Memory and depth of JSON ---------------------------------------------------------------------------------------------

MANY = 30_000
BOMBS = {
    "lists": b"[" + b"[]," * MANY * 3 + b"1]",
    "lists in lists": b"[" + b"[[[]]]," * MANY + b"1]",
    "objects": b"[" + b"{}," * MANY * 3 + b"1]",
    "names": ("{" + ",".join(f'"{i:x}":{i}' for i in range(MANY)) + "}").encode(),
    "wide names": ("{" + ",".join(f'"{i:x}\U0001f600":[]' for i in range(MANY)) + "}").encode(),
    "strings": b"[" + b'"ab",' * MANY * 4 + b"1]",
    "numbers": b"[" + b"0.5," * MANY * 8 + b"1]",
    "a wide string": ('["' + "x" * MANY * 25 + '\U0001f600"]').encode(),
    "a string that becomes wide": ('["' + "x" * MANY * 40 + '\\ud83d\\ude00"]').encode(),
}


@pytest.mark.parametrize("case", BOMBS)
def test_json_takes_no_more_memory_than_promised(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_file, "SPARE_BYTES", 4 * 2**20)
    content = BOMBS[case]
    with pytest.raises(
        ValueError, match=r"may take [\d,]+ bytes of memory, expected at most [\d,]+; if the file is to"
    ):
        json_file.parse_json(content)
    while not fits(content):
        content = _shorter(content)
    tracemalloc.start()
    try:
        json_file.parse_json(content)  # the largest of its kind that is accepted
        assert tracemalloc.get_traced_memory()[1] < len(content) + json_file.SPARE_BYTES  # and the content itself
    finally:
        tracemalloc.stop()


def fits(content: bytes) -> bool:
    """Whether a text is accepted, or else refused because of the memory that it may take."""
    try:
        json_file.parse_json(content)
    except ValueError as error:
        if "bytes of memory" not in str(error):
            raise
        return False
    return True


def _shorter(content: bytes) -> bytes:
    """Three quarters of a list, an object, or a list of one string."""
    cut = content[: 3 * len(content) // 4]
    if b"," not in cut:
        return cut + b'"]'
    return cut[: cut.rfind(b",")] + (b"}" if cut.startswith(b"{") else b"]")


def test_who_trusts_a_larger_file_can_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_file, "SPARE_BYTES", 2**20)
    content = b"[" + b"[]," * 20_000 + b"1]"
    with pytest.raises(ValueError, match=r"set minineo\.json_file\.SPARE_BYTES higher"):
        json_file.parse_json(content)
    monkeypatch.setattr(json_file, "SPARE_BYTES", 2**22)
    assert len(json_file.parse_json(content)) == 20_001


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_file, "SPARE_BYTES", 10)
    (tmp_path / "config.json").write_text(" " * 50)
    with pytest.raises(ValueError, match=r"config\.json: not valid JSON \(has 50 bytes, expected at most 10\)"):
        GPTNeoConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "text", [r"\ud800", r"\udc00", r"\ude00\ud83d", r"\ud83d\ud83d\ude00", r"\uD83Dx", r"\\\ud800"]
)
def test_half_a_surrogate_pair(tmp_path: Path, text: str) -> None:
    (tmp_path / "vocab.json").write_text(f'{{"{text}": 0}}')
    with pytest.raises(ValueError, match=r"vocab\.json is not valid JSON: half a surrogate pair"):
        read_vocab(tmp_path / "vocab.json")


@pytest.mark.parametrize("text", [r"\ud83d\ude00", r"\\ud800", r"\u4e00", r"\"\uD83D\uDE00\n"])
def test_whole_surrogate_pairs(tmp_path: Path, text: str) -> None:
    (tmp_path / "vocab.json").write_text(f'{{"{text}": 0}}')
    assert read_vocab(tmp_path / "vocab.json") == {json.loads(f'"{text}"'): 0}


@pytest.mark.parametrize(("levels", "fits"), [(json_file.MOST_LEVELS, True), (json_file.MOST_LEVELS + 1, False)])
def test_depth(levels: int, fits: bool) -> None:
    content = b"[" * levels + b"]" * levels
    if fits:
        json_file.parse_json(content)
    else:
        with pytest.raises(ValueError, match="nested deeper than 100 levels"):
            json_file.parse_json(content)


def test_a_deep_configuration(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    for name in ("config.json", "generation_config.json"):
        kept = (tmp_path / "config.json").read_text()
        (tmp_path / name).write_text(DEEP)
        with pytest.raises(ValueError, match=rf"{name}: not valid JSON \(nested deeper"):
            GPTNeoForCausalLM.from_pretrained(tmp_path)
        (tmp_path / "config.json").write_text(kept)


def test_a_header_that_would_become_large(tmp_path: Path) -> None:
    header = ("{" + ",".join(f'"{i:x}":{i}' for i in range(200_000)) + "}").encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match="the header is not valid JSON in UTF-8: may take"):
        read_state_dict(tmp_path)


@pytest.mark.parametrize("line", ["\n", "a b\n", "aa bb\n", "\r"])
def test_very_many_merges(tmp_path: Path, line: str) -> None:
    path = tmp_path / "merges.txt"
    path.write_text(line * 1_000_000, newline="")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"merges\.txt"):
            read_merges(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * path.stat().st_size + json_file.SPARE_BYTES
    finally:
        tracemalloc.stop()


def test_a_merge_of_very_many_parts(tmp_path: Path) -> None:
    (tmp_path / "merges.txt").write_text("a " * 5_000_000)
    with pytest.raises(ValueError, match="must be two tokens"):
        read_merges(tmp_path / "merges.txt")


def test_a_large_text_is_refused_soon() -> None:
    content = b'["' + b"\\u4e00 \xf0\x9f\x98\x80" * 5_000_000 + b'"]'
    began = time.process_time()
    with pytest.raises(ValueError, match="may take"):
        json_file.parse_json(content)
    assert time.process_time() - began < 1


def test_a_vocabulary_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_bytes(json.dumps({"a": 0}).encode("utf-16"))
    with pytest.raises(ValueError, match=r"vocab\.json is not UTF-8 text"):
        read_vocab(tmp_path / "vocab.json")


def test_a_long_token_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("x" * 100_000 + " a")
    with pytest.raises(ValueError, match="needs the token 'xxx") as caught:
        GPT2Tokenizer.from_pretrained(tmp_path)
    assert len(str(caught.value)) < 1000


# Configurations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_labels": 10**9, "id2label": None}, "num_labels: received 1000000000, expected at most 50000"),
        ({"attention_types": [[[], 10**20]]}, "stands for more than 2000 layers"),
        ({"attention_types": [[["global"], 10**12]]}, "stands for more than 2000 layers"),
        ({"attention_types": "[['global', 10**12]]"}, "expected a list of [pattern, repeats] pairs"),
        ({"num_layers": 10**9}, "stands for 2 layers, but num_layers is 1000000000"),
        ({"layer_norm_epsilon": 10**400}, "layer_norm_epsilon: received 1000"),
        ({"hidden_size": 10**4000}, "expected at most 9223372036854775807"),
        ({"id2label": {"0": ["a"]}}, "expected labels that are strings"),
        ({"label2id": 3, "id2label": {"0": "a"}}, "label2id: received 3, expected a dictionary"),
        ({"__deepcopy__": 1}, "'__deepcopy__': such names are Python's own"),
        ({"__class__": 1}, "'__class__': such names are Python's own"),
        ({"__dict__": {}}, "'__dict__': such names are Python's own"),
    ],
)
def test_configurations(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)) as caught:
        GPTNeoConfig.from_pretrained(checkpoint(tmp_path, **fields))
    assert str(caught.value).startswith(f"{tmp_path}")
    assert len(str(caught.value)) < 600


def test_a_field_that_is_called_self(tmp_path: Path) -> None:
    assert GPTNeoConfig.from_pretrained(checkpoint(tmp_path, self=1)).to_dict()["self"] == 1


@pytest.mark.parametrize("fields", [{"vocab_size": 10**12}, {"hidden_size": 3 * 10**12}, {"window_size": 10**12}])
def test_sizes_that_the_weights_do_not_have(tmp_path: Path, fields: dict[str, int]) -> None:
    checkpoint(tmp_path, **fields)
    tracemalloc.start()
    try:
        if "window_size" in fields:
            GPTNeoForCausalLM.from_pretrained(tmp_path)(tokens(1, 3))
        else:
            with pytest.raises(CheckpointError, match="shape"):
                GPTNeoForCausalLM.from_pretrained(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_more_beams_than_a_file_may_ask_for(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"num_beams": 2000000000}')
    model = GPTNeoForCausalLM.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"num_beams: received 2000000000, expected at most 100 from a file"):
        model.generate(tokens(1, 3))
    assert model.generate(tokens(1, 3), num_beams=2, max_new_tokens=1).shape == (1, 4)


def test_a_temperature_beyond_all_floats(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"do_sample": true, "temperature": 1' + "0" * 400 + "}")
    with pytest.raises(ValueError, match="temperature: received 1000"):
        GPTNeoForCausalLM.from_pretrained(tmp_path).generate(tokens(1, 3))


def test_an_activation_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{tmp_path}: activation_function: received 'lu_new'"):
        GPTNeoForCausalLM.from_pretrained(checkpoint(tmp_path, activation_function="lu_new"))


def test_a_tensor_that_is_a_pair_of_offsets(tmp_path: Path) -> None:
    header = b'{"x": [0, 4]}'
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointError, match=r"tensor 'x' is \[0, 4\], expected a JSON object"):
        read_state_dict(tmp_path)


# Folders and indices --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors", "vocab.json"])
def test_links_in_a_circle(tmp_path: Path, name: str) -> None:
    checkpoint(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to(name)
    if name == "generation_config.json":
        GPTNeoForCausalLM.from_pretrained(tmp_path)  # as if it were not there
        return
    with pytest.raises((FileNotFoundError, ValueError)) as caught:
        (GPT2Tokenizer if name == "vocab.json" else GPTNeoForCausalLM).from_pretrained(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("shard", ["x" * 300, "é" * 200, "a\nb", "\x1b[31m", "a\0"])
def test_names_of_shards_that_no_file_has(tmp_path: Path, shard: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointError, match="expected the plain name of a file") as caught:
        read_state_dict(tmp_path)
    str(caught.value).encode()


# Conversion -----------------------------------------------------------------------------------------------------------


def test_heads_that_are_numbers(tmp_path: Path) -> None:
    save_safetensors(
        {name: np.float32([1]).reshape(()) for name in ("lm_head.weight", "wte.weight")}, tmp_path / "a.safetensors"
    )
    assert set(convert(tmp_path / "a.safetensors", tmp_path / "new").params) == {"lm_head.weight", "wte.weight"}


def test_what_safetensors_cannot_hold(tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    torch_files.save(tmp_path / "b.bin", {"__metadata__": np.float32([1])})
    for file, message in (("a.safetensors", "'x': dtype complex64"), ("b.bin", "'__metadata__': dtype float32")):
        with pytest.raises(CheckpointError, match=message):
            convert(tmp_path / file, tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "b.bin"]


def test_names_that_would_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_safetensors({"\x1b[2Jx": np.float32([1])}, tmp_path / "a.safetensors")
    assert main(["inspect", str(tmp_path / "a.safetensors")]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert r"'\x1b[2Jx'" in printed


# Pickles --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
def test_a_long_name_of_wide_characters(tmp_path: Path, old: bool) -> None:
    name = "x" * (MAX_PICKLE_BYTES - 2000) + "\U0001f600"
    torch_files.save(tmp_path / "x.bin", {name: np.float32([1])}, old)
    tracemalloc.start()
    try:
        assert list(read_state_dict(tmp_path / "x.bin")) == [name]
        assert tracemalloc.get_traced_memory()[1] < 2 * (tmp_path / "x.bin").stat().st_size + json_file.SPARE_BYTES
    finally:
        tracemalloc.stop()


# Messages -------------------------------------------------------------------------------------------------------------


SHOWN = ["x" * 10**6, ["y" * 10**6] * 100, 10**2000, {str(i): i for i in range(10**4)}, "\ud800" * 500]


@pytest.mark.parametrize("value", SHOWN, ids=range(len(SHOWN)))
def test_values_are_shown_in_short(value: Any) -> None:
    text = quote(value)
    assert len(text) <= 700
    text.encode()


@pytest.mark.parametrize("tokens", [["a" * 3_000_000], [f"<{index:05}{'a' * 50}>" for index in range(5_000)]])
def test_added_tokens_without_end(tmp_path: Path, tokens: list[str]) -> None:
    GPT2Tokenizer.from_pretrained(VOCABULARY).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["added_tokens"] += [{"content": token, "id": 10_000 + index} for index, token in enumerate(tokens)]
    path.write_text(json.dumps(content), encoding="utf-8")
    began = time.process_time()
    with pytest.raises(ValueError, match=r"added tokens have [\d,]+ characters in all, expected at most 100,000"):
        GPT2Tokenizer.from_pretrained(tmp_path)
    assert time.process_time() - began < 2.0


def test_fields_without_end(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({f"x{index}": [] for index in range(100_000)}), encoding="utf-8")
    began = time.process_time()
    with pytest.raises(ValueError, match=r"config\.json: received 100,000 fields, expected at most 10,000"):
        GPTNeoConfig.from_pretrained(tmp_path)
    assert time.process_time() - began < 1.0


def test_special_tokens_without_end(tmp_path: Path) -> None:
    GPT2Tokenizer.from_pretrained(VOCABULARY).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    many = [f"<{index}>" for index in range(8_000)]
    content = json.loads(path.read_text(encoding="utf-8")) | {"additional_special_tokens": many}
    path.write_text(json.dumps(content), encoding="utf-8")
    began = time.process_time()
    tokenizer = GPT2Tokenizer.from_pretrained(tmp_path)
    assert time.process_time() - began < 2.0  # each was once looked for among all others: 11 seconds
    first = tokenizer.convert_tokens_to_ids("<0>")
    assert tokenizer.convert_tokens_to_ids(many) == list(range(first, first + len(many)))
