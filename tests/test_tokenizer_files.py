"""Tokenizer files: what is read, what is written, and what is said about broken ones."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minineo.tokenizer import AddedToken, GPT2Tokenizer, learn_bpe

VOCABULARY = Path(__file__).parent / "data" / "vocabulary"
TEXT = "The king's <|endoftext|> naïve 日本 🙂 [PAD]<a>  end "
TINY = {"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}


def write(folder: Path, **contents: object) -> Path:
    """Write files, named with `_` for the dot; anything that is not a string as JSON."""
    for name, content in contents.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "_".join(name.split("_")[:-1])).with_suffix("." + name.split("_")[-1]).write_text(
            text, encoding="utf-8"
        )
    return folder


def tokenizer_json(**changes: object) -> dict:
    content = {
        "added_tokens": [{"id": 3, "content": "<|endoftext|>", "special": True}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True},
        "post_processor": None,
        "model": {"type": "BPE", "vocab": TINY, "merges": ["a b"]},
    }
    return {**content, **changes}


def changed_tokenizer() -> GPT2Tokenizer:
    tokenizer = GPT2Tokenizer.from_pretrained(
        VOCABULARY, add_prefix_space=True, add_bos_token=True, padding_side="left"
    )
    tokenizer.add_special_tokens({"pad_token": "[PAD]", "extra_special_tokens": ["<a>"]})
    tokenizer.add_tokens([AddedToken("日本", lstrip=True), "new token"])
    tokenizer.model_max_length = 99
    return tokenizer


@pytest.mark.parametrize("left_out", [[], ["tokenizer.json"], ["vocab.json", "merges.txt", "special_tokens_map.json"]])
def test_what_is_saved_is_read(tmp_path: Path, left_out: list[str]) -> None:
    """Without tokenizer.json, the tokens added later are lost: vocab.json and merges.txt have no place for them."""
    tokenizer = changed_tokenizer() if "tokenizer.json" not in left_out else GPT2Tokenizer.from_pretrained(VOCABULARY)
    paths = tokenizer.save_pretrained(tmp_path / "new" / "folder")
    assert {Path(path).name for path in paths} == {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.json",
        "merges.txt",
    }
    for name in left_out:
        (tmp_path / "new" / "folder" / name).unlink()
    again = GPT2Tokenizer.from_pretrained(tmp_path / "new" / "folder")
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.added_tokens_decoder == tokenizer.added_tokens_decoder
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert again.all_special_ids == tokenizer.all_special_ids
    for name in ("add_prefix_space", "add_bos_token", "padding_side", "model_max_length", "errors", "vocab_size"):
        assert getattr(again, name) == getattr(tokenizer, name), name
    assert again.encode(TEXT) == tokenizer.encode(TEXT)


def test_unknown_settings_are_kept(tmp_path: Path) -> None:
    write(tmp_path, tokenizer_json=tokenizer_json(), tokenizer_config_json={"chat_template": "{{ x }}", "made_up": [1]})
    GPT2Tokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    config = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert (config["chat_template"], config["made_up"]) == ("{{ x }}", [1])


def test_vocabulary_and_merges_alone(tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(VOCABULARY / name, tmp_path)
    tokenizer = GPT2Tokenizer.from_pretrained(tmp_path)
    assert tokenizer.eos_token_id == 4095
    assert tokenizer.model_max_length > 10**20
    assert GPT2Tokenizer(tmp_path / "vocab.json", str(tmp_path / "merges.txt")).encode(TEXT) == tokenizer.encode(TEXT)


def test_windows_line_ends_in_merges(tmp_path: Path) -> None:
    write(tmp_path, vocab_json=TINY)
    (tmp_path / "merges.txt").write_bytes(b"#version: 0.2\r\na b\r\n")
    assert GPT2Tokenizer.from_pretrained(tmp_path).encode("ab") == [2]


def test_tokenizer_json_alone(tmp_path: Path) -> None:
    template = [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    content = tokenizer_json(
        pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False},
        post_processor={"type": "TemplateProcessing", "single": template},
        padding={"direction": "Left", "pad_token": "<|endoftext|>"},
        truncation={"direction": "Left"},
    )
    tokenizer = GPT2Tokenizer.from_pretrained(write(tmp_path, tokenizer_json=content))
    assert tokenizer.encode("aab") == [3, 0, 2]
    assert (tokenizer.padding_side, tokenizer.truncation_side, tokenizer.pad_token_id) == ("left", "left", 3)


def test_files_of_older_versions(tmp_path: Path) -> None:
    old = {"content": "<|endoftext|>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    write(
        tmp_path,
        vocab_json=TINY,
        merges_txt="#version: 0.2\na b\n",
        special_tokens_map_json={
            "bos_token": old,
            "eos_token": old,
            "pad_token": "[PAD]",
            "additional_special_tokens": ["<x>"],
        },
        added_tokens_json={"[PAD]": 4, "plain": 5, "<x>": 6},
        tokenizer_config_json={"model_max_length": 12},
    )
    tokenizer = GPT2Tokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("ab<|endoftext|>[PAD]plain<x>") == [2, 3, 4, 5, 6]
    assert tokenizer.decode([2, 3, 4, 5], skip_special_tokens=True) == "abplain"
    assert (tokenizer.model_max_length, tokenizer.extra_special_tokens) == (12, ["<x>"])


def test_added_tokens_in_the_configuration(tmp_path: Path) -> None:
    """As transformers 4 wrote them."""
    added = {"3": {"content": "<|endoftext|>", "special": True}, "7": {"content": "[PAD]", "special": True}}
    write(
        tmp_path,
        vocab_json=TINY,
        merges_txt="a b",
        tokenizer_config_json={"added_tokens_decoder": added, "pad_token": "[PAD]"},
    )
    assert GPT2Tokenizer.from_pretrained(tmp_path).pad_token_id == 7


def test_arguments_override_files(tmp_path: Path) -> None:
    tokenizer = GPT2Tokenizer.from_pretrained(VOCABULARY, pad_token="[PAD]", model_max_length=7, errors="strict")
    assert (tokenizer.pad_token_id, tokenizer.model_max_length, tokenizer.errors) == (4096, 7, "strict")
    with pytest.raises(TypeError, match=r"unknown argument pad_tokn; there are .*pad_token"):
        GPT2Tokenizer.from_pretrained(VOCABULARY, pad_tokn="[PAD]")


GOOD = {"vocab_json": TINY, "merges_txt": "#version: 0.2\na b\n"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has neither tokenizer.json nor both vocab.json and merges.txt"),
        ({"vocab_json": TINY}, "has neither"),
        ({**GOOD, "vocab_json": '{"a": 0,'}, r"vocab\.json is not valid JSON.*line 1"),
        ({**GOOD, "vocab_json": ["a"]}, r"vocab\.json: the content must be a JSON object, not \['a'\]"),
        ({**GOOD, "vocab_json": {"a": "0"}}, r"vocab\.json: the token 'a' has the id '0'"),
        ({**GOOD, "vocab_json": {"a": -1}}, r"vocab\.json: the token 'a' has the id -1"),
        ({**GOOD, "vocab_json": {**TINY, "c": 0}}, "the tokens 'a' and 'c' have the same id 0"),
        ({**GOOD, "merges_txt": "#version: 0.2\na b\na\n"}, r"merges\.txt, line 3: a merge must be two tokens"),
        ({**GOOD, "merges_txt": "a b c\n"}, r"merges\.txt, line 1"),
        ({**GOOD, "merges_txt": "b a\n"}, "merge 1, 'b' \\+ 'a', needs the token 'ba', which is not in the vocabulary"),
        ({**GOOD, "tokenizer_config_json": "[]"}, r"tokenizer_config\.json: the content must be a JSON object"),
        (
            {**GOOD, "tokenizer_config_json": {"added_tokens_decoder": {"1": {"content": "x"}}}},
            "contradicts the vocabulary",
        ),
        (
            {**GOOD, "tokenizer_config_json": {"added_tokens_decoder": {"9": {}}}},
            r"config\.json: added_tokens_decoder \(id 9\)\.content must be a string, not None",
        ),
        (
            {**GOOD, "tokenizer_config_json": {"bos_token": 5}},
            r"config\.json: bos_token must be a string or a JSON object, not 5",
        ),
        ({**GOOD, "added_tokens_json": {"x": "y"}}, r"added_tokens\.json: .* has the id 'y'"),
        ({"tokenizer_json": "{"}, r"tokenizer\.json is not valid JSON"),
        ({"tokenizer_json": {}}, r"tokenizer\.json: model must be a JSON object, not None"),
        ({"tokenizer_json": tokenizer_json(model={"type": "WordPiece"})}, "model.type is 'WordPiece', not 'BPE'"),
        (
            {"tokenizer_json": tokenizer_json(model={"type": "BPE", "vocab": TINY})},
            "model.merges must be a JSON list",
        ),
        (
            {"tokenizer_json": tokenizer_json(model={"type": "BPE", "vocab": TINY, "merges": [["a"]]})},
            r"tokenizer\.json, merge 1: a merge must be two tokens",
        ),
        ({"tokenizer_json": tokenizer_json(normalizer={"type": "NFC"})}, "its normalizer is {'type': 'NFC'}"),
        ({"tokenizer_json": tokenizer_json(pre_tokenizer={"type": "Split"})}, "pre_tokenizer.type is 'Split'"),
        (
            {"tokenizer_json": tokenizer_json(post_processor={"type": "RobertaProcessing"})},
            "post_processor is 'Roberta",
        ),
        (
            {"tokenizer_json": tokenizer_json(post_processor={"type": "TemplateProcessing", "single": []})},
            "at most one token before and after",
        ),
        ({"tokenizer_json": tokenizer_json(added_tokens=["x"])}, r"json: added_tokens\[0\] must be a JSON object"),
        ({"tokenizer_json": tokenizer_json(added_tokens=[{"content": "x"}])}, r"json: added_tokens: .* the id None"),
        ({"tokenizer_json": tokenizer_json(post_processor=["x"])}, r"json: post_processor must be a JSON object or"),
        (
            {"tokenizer_json": tokenizer_json(post_processor={"type": "TemplateProcessing", "single": [3]})},
            r"tokenizer\.json: post_processor\.single\[0\] must be a JSON object, not 3",
        ),
        ({"tokenizer_json": tokenizer_json(padding="x")}, r"tokenizer\.json: padding must be .*, not 'x'"),
        ({"tokenizer_json": tokenizer_json(padding={"direction": 5})}, r"padding\.direction must be a string, not 5"),
        ({"tokenizer_json": tokenizer_json(truncation={"direction": "Up"})}, "direction must be one of left, right"),
        ({"tokenizer_json": "[" * 100_000}, r"tokenizer\.json is not valid JSON: nested deeper than 100 levels"),
        ({**GOOD, "tokenizer_config_json": '{"x": ' + "9" * 5000 + "}"}, r"tokenizer_config\.json is not valid JSON"),
        ({**GOOD, "tokenizer_config_json": {"extra_special_tokens": 5}}, r"config\.json: extra_special_tokens must be"),
        (
            {**GOOD, "tokenizer_config_json": {"errors": "bogus"}},
            r"config\.json: errors must be one of replace, .*'bogus",
        ),
        (
            {**GOOD, "tokenizer_config_json": {"padding_side": []}},
            r"config\.json: padding_side must be one of left, righ",
        ),
        (
            {**GOOD, "tokenizer_config_json": {"add_bos_token": "no"}},
            r"config\.json: add_bos_token must be true or false",
        ),
        ({**GOOD, "tokenizer_config_json": {"model_max_length": -1}}, "model_max_length must be a number of tokens"),
        ({**GOOD, "tokenizer_config_json": '{"model_max_length": NaN}'}, "model_max_length must be a number of tokens"),
        (
            {**GOOD, "tokenizer_config_json": {"pad_token": {"content": "x", "lstrip": 1}}},
            r"config\.json: pad_token\.lstrip must be true or false or null, not 1",
        ),
        (
            {**GOOD, "special_tokens_map_json": {"pad_token": ""}},
            r"special_tokens_map\.json: pad_token: .* at least one",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, files: dict, message: str) -> None:
    write(tmp_path, **files)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        GPT2Tokenizer.from_pretrained(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_settings_do_not_replace_the_vocabulary(tmp_path: Path) -> None:
    write(tmp_path, **GOOD, tokenizer_config_json={"vocab": {"x": 0}, "merges": [], "pad_token": None, "errors": None})
    tokenizer = GPT2Tokenizer.from_pretrained(tmp_path)
    assert (tokenizer.encode("ab"), tokenizer.pad_token, tokenizer.errors) == ([2], None, "replace")


def test_arguments_that_are_wrong_are_not_blamed_on_the_files(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must be a string or an AddedToken, not 5"):
        GPT2Tokenizer.from_pretrained(VOCABULARY, pad_token=5)
    with pytest.raises(ValueError, match=r"errors must be one of replace, strict, .*, not 'bogus'"):
        GPT2Tokenizer({"a": 0}, [], errors="bogus")


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-2, 400),
        st.floats(),
        st.text(max_size=3),
        st.sampled_from(["a", "<|endoftext|>", "[PAD]", "Left", "ByteLevel", "TemplateProcessing", "ab c", 10**30]),
    ),
    lambda children: st.one_of(
        st.lists(children, max_size=3),
        st.dictionaries(st.sampled_from(["content", "type", "id", "Sequence", "3", "special"]), children, max_size=3),
    ),
    max_leaves=5,
)


def places(node: Any) -> list[tuple[Any, ...]]:
    """The way to each node of a JSON value, but of long lists and objects (vocabulary, merges) to a few only."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    few = list(children)
    few = few if len(few) < 50 else few[:2] + few[-2:]
    return [(), *((key, *rest) for key, child in few for rest in places(child))]


def replace(node: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    changed = node.copy()
    changed[place[0]] = replace(node[place[0]], place[1:], value)
    return changed


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The files of a tokenizer that uses everything, as they are now and in two forms that older versions wrote."""
    folder = tmp_path_factory.mktemp("saved")
    vocab, merges = learn_bpe(["low lower lowest " * 5], 265, ["<|endoftext|>"], progress=False)
    tokenizer = GPT2Tokenizer(vocab, merges, pad_token="[PAD]", extra_special_tokens=["<a>"], add_bos_token=True)
    tokenizer.add_tokens([AddedToken("new", lstrip=True)])
    tokenizer.save_pretrained(folder)
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    content, config = json.loads(found["tokenizer.json"]), json.loads(found["tokenizer_config.json"])
    sides = {"padding": {"direction": "Left", "pad_token": "[PAD]"}, "truncation": {"direction": "Right"}}
    added = {str(token["id"]): token for token in content["added_tokens"]}
    old = {
        **found,
        "added_tokens.json": json.dumps({"[PAD]": 265, "<a>": 266, "new": 267}),
        "tokenizer_config.json": json.dumps({**config, "additional_special_tokens": ["<a>"]}),
    }
    del old["tokenizer.json"]
    return [
        {**found, "tokenizer.json": json.dumps(content | sides)},
        {**old, "tokenizer_config.json": json.dumps(config | {"added_tokens_decoder": added})},
        old,
    ]


@given(st.data())
@settings(deadline=None, max_examples=800)
def test_any_value_anywhere_in_any_file_is_used_or_refused_by_name(
    saved: list[dict[str, str]], data: st.DataObject
) -> None:
    directory = dict(data.draw(st.sampled_from(saved)))
    contents = {name: json.loads(text) for name, text in directory.items() if name.endswith(".json")}
    name, place = data.draw(st.sampled_from([(name, place) for name in contents for place in places(contents[name])]))
    directory[name] = json.dumps(replace(contents[name], place, data.draw(json_values)))
    error = None
    with TemporaryDirectory() as folder:
        for file, text in directory.items():
            (Path(folder) / file).write_text(text, encoding="utf-8")
        try:
            tokenizer = GPT2Tokenizer.from_pretrained(folder)
        except ValueError as raised:
            error = str(raised)
    if error is not None:
        assert folder in error
        assert name in error
        return
    with contextlib.suppress(ValueError):  # bytes that the vocabulary does not have any more
        tokenizer.decode(tokenizer.encode("low [PAD] new <a>é"), skip_special_tokens=True)


def test_paths_that_are_no_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such directory"):
        GPT2Tokenizer.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="is not a directory: give the one that holds"):
        GPT2Tokenizer.from_pretrained(tmp_path / "file")
    with pytest.raises(NotADirectoryError, match="it is a file"):
        GPT2Tokenizer.from_pretrained(VOCABULARY).save_pretrained(tmp_path / "file")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    write(tmp_path, **GOOD)
    (tmp_path / "vocab.json").write_bytes(b'{"\xff": 0}')
    with pytest.raises(ValueError, match=r"vocab\.json is not UTF-8 text"):
        GPT2Tokenizer.from_pretrained(tmp_path)
