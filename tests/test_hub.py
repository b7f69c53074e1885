"""Models from the Hub: a server of our own stands for it, `huggingface_hub` and its cache are the real ones."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch_files
from conftest import require
from hub_server import TOKEN, HubServer
from tiny_models import tiny

import minineo
from minineo import FlaxGPTNeoForCausalLM, GPT2Tokenizer, GPTNeoConfig, GPTNeoForCausalLM, GPTNeoModel
from minineo.checkpoints import CheckpointError
from minineo.cli import main

pytestmark = pytest.mark.oracle

VOCABULARY = Path(__file__).parent / "data" / "vocabulary"
NAME = "own/tiny"
TOKENIZER = {"vocab.json", "merges.txt", "tokenizer_config.json"}
OTHERS = {"README.md": b"# Tiny", ".gitattributes": b"", "training_args.bin": b"?", "tf_model.h5": b"?"}


@pytest.fixture(scope="module")
def model() -> GPTNeoForCausalLM:
    vocabulary = json.loads((VOCABULARY / "vocab.json").read_text())
    return tiny(GPTNeoForCausalLM, vocab_size=len(vocabulary))


@pytest.fixture(scope="module")
def files(model: GPTNeoForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A model's files as they are on the Hub, with others that nobody needs."""
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text('{"max_new_tokens": 7}')
    return contents(folder) | contents(VOCABULARY) | OTHERS


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A server that huggingface_hub takes for the Hub, and an empty cache."""
    constants = require("huggingface_hub.constants", "hub")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with HubServer() as server:
        # as environment variables they are read when huggingface_hub is imported; test_environment_variables sets those
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        older = require("huggingface_hub.file_download")  # which until 0.3x had the template under a name of its own
        monkeypatch.setattr(older, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses"), raising=False)
        yield server


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def weights_in(model: Any, folder: Path, kind: str) -> dict[str, bytes]:
    """The files of weights of one format."""
    if kind == "bin":
        folder.mkdir()
        torch_files.save(folder / "pytorch_model.bin", model.params)
    elif kind == "flax":
        flax = FlaxGPTNeoForCausalLM(model.config)
        flax.save_pretrained(folder, flax_params(model))
    else:
        model.save_pretrained(folder, max_shard_size=20_000 if kind == "shards" else "5GB")
    return {name: content for name, content in contents(folder).items() if name != "config.json"}


def flax_params(model: GPTNeoForCausalLM) -> Any:
    from minineo.checkpoints.flax_names import to_flax

    return to_flax(model.params)


def assert_same(loaded: Any, model: GPTNeoForCausalLM) -> None:
    assert loaded.params.keys() == model.params.keys()
    for name, array in model.params.items():
        np.testing.assert_array_equal(loaded.params[name], array, strict=True)


def in_cache(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.glob("cache/models--*/snapshots/*/*")}


# -- what is downloaded, and when --------------------------------------------------------------------------------------


def test_load_gets_what_is_needed_once(hub: HubServer, files: dict[str, bytes], model: Any, tmp_path: Path) -> None:
    commit = hub.add(NAME, files)
    loaded, tokenizer = minineo.load(NAME)
    assert_same(loaded, model)
    assert loaded.generation_config == {"max_new_tokens": 7}
    assert tokenizer.name_or_path.endswith(commit)
    needed = TOKENIZER | {"config.json", "generation_config.json", "model.safetensors"}
    assert hub.files_asked_for == needed == in_cache(tmp_path)

    hub.log.clear()
    assert_same(minineo.load(NAME)[0], model)
    assert hub.files_asked_for == set()
    assert len(hub.log) == 2  # what is there, and which commit is main

    hub.log.clear()
    assert_same(minineo.load(NAME, revision=commit)[0], model)
    assert_same(minineo.load(NAME, local_files_only=True)[0], model)
    assert hub.log == []


@pytest.mark.parametrize(
    ("load", "needed"),
    [
        (GPTNeoConfig.from_pretrained, {"config.json"}),
        (GPT2Tokenizer.from_pretrained, TOKENIZER),
        (GPTNeoForCausalLM.from_pretrained, {"config.json", "generation_config.json", "model.safetensors"}),
        (GPTNeoModel.from_pretrained, {"config.json", "generation_config.json", "model.safetensors"}),
        (FlaxGPTNeoForCausalLM.from_pretrained, {"config.json", "generation_config.json", "model.safetensors"}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*lm_head")
def test_each_class_gets_its_files(load: Any, needed: set[str], hub: HubServer, files: dict[str, bytes]) -> None:
    hub.add(NAME, files)
    load(NAME)
    assert hub.files_asked_for == needed
    load(NAME, local_files_only=True)


def test_tokenizer_json_is_enough(hub: HubServer, files: dict[str, bytes], tmp_path: Path) -> None:
    GPT2Tokenizer.from_pretrained(VOCABULARY).save_pretrained(tmp_path / "tokenizer")
    hub.add(NAME, files | contents(tmp_path / "tokenizer"))
    assert GPT2Tokenizer.from_pretrained(NAME).encode("low") == GPT2Tokenizer.from_pretrained(VOCABULARY).encode("low")
    assert hub.files_asked_for == {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}


@pytest.mark.parametrize("kind", ["shards", "bin", "flax"])
def test_formats(kind: str, hub: HubServer, files: dict[str, bytes], model: Any, tmp_path: Path) -> None:
    weights = weights_in(model, tmp_path / "weights", kind)
    hub.add(NAME, {name: content for name, content in files.items() if name != "model.safetensors"} | weights)
    assert_same(GPTNeoForCausalLM.from_pretrained(NAME), model)
    assert hub.files_asked_for == {"config.json", "generation_config.json", *weights}
    assert len(weights) == {"shards": 3, "bin": 1, "flax": 1}[kind]


def test_one_format_of_several(hub: HubServer, files: dict[str, bytes], model: Any, tmp_path: Path) -> None:
    binary, flax = (weights_in(model, tmp_path / kind, kind) for kind in ("bin", "flax"))
    hub.add(NAME, files | binary | flax)
    for load, options, file in (
        (GPTNeoForCausalLM, {}, "model.safetensors"),
        (GPTNeoForCausalLM, {"from_flax": True}, "flax_model.msgpack"),
        (FlaxGPTNeoForCausalLM, {}, "flax_model.msgpack"),
        (FlaxGPTNeoForCausalLM, {"from_pt": True}, "model.safetensors"),
    ):
        hub.log.clear()
        load.from_pretrained(NAME, cache_dir=tmp_path / load.__name__ / str(options), **options)
        assert file in hub.files_asked_for
        assert len(hub.files_asked_for) == 3

    hub.add(NAME, files | binary, "old")
    require("huggingface_hub").hf_hub_download(NAME, "pytorch_model.bin", revision="old")
    hub.log.clear()
    assert_same(GPTNeoForCausalLM.from_pretrained(NAME, revision="old"), model)
    assert hub.files_asked_for == {"config.json", "generation_config.json"}  # the weights that are there will do


def test_revisions(hub: HubServer, files: dict[str, bytes], model: Any, tmp_path: Path) -> None:
    other = tiny(GPTNeoForCausalLM, seed=1, vocab_size=model.config.vocab_size)
    other.save_pretrained(tmp_path / "other")
    first = hub.add(NAME, files)
    hub.add(NAME, files | contents(tmp_path / "other"), "v1.0")
    hub.add(NAME, files | contents(tmp_path / "other"), "refs/pr/1")
    assert_same(GPTNeoForCausalLM.from_pretrained(NAME, revision="v1.0"), other)
    assert_same(GPTNeoForCausalLM.from_pretrained(NAME), model)
    hub.log.clear()
    assert_same(GPTNeoForCausalLM.from_pretrained(NAME, revision="refs/pr/1"), other)
    assert hub.files_asked_for == set()  # as in v1.0

    hub.add(NAME, files | {"README.md": b"# Tiny and new"})
    assert_same(GPTNeoForCausalLM.from_pretrained(NAME), model)
    assert hub.files_asked_for == set()  # what has not changed is not downloaded again
    hub.add(NAME, files | contents(tmp_path / "other") | {"README.md": b"# Better"})
    assert_same(GPTNeoForCausalLM.from_pretrained(NAME), other)
    assert_same(GPTNeoForCausalLM.from_pretrained(NAME, revision=first), model)


def test_force_download(hub: HubServer, files: dict[str, bytes]) -> None:
    hub.add(NAME, files)
    GPTNeoConfig.from_pretrained(NAME)
    hub.log.clear()
    GPTNeoConfig.from_pretrained(NAME, force_download=True)
    assert hub.files_asked_for == {"config.json"}
    with pytest.raises(ValueError, match="force_download"):
        GPTNeoConfig.from_pretrained(NAME, force_download=True, local_files_only=True)


def test_a_model_that_has_moved(hub: HubServer, files: dict[str, bytes], model: Any) -> None:
    hub.add(NAME, files)
    hub.renamed["tiny"] = NAME
    assert_same(minineo.load("tiny")[0], model)
    assert_same(minineo.load("tiny", local_files_only=True)[0], model)


def test_generate_takes_a_name(hub: HubServer, files: dict[str, bytes]) -> None:
    hub.add(NAME, files)
    arguments = {"max_new_tokens": 3, "do_sample": False}
    expected = minineo.generate("low", model=NAME, **arguments)
    only_weights = {name: content for name, content in files.items() if name not in TOKENIZER}
    hub.add("own/weights", only_weights)
    tokenizer = GPT2Tokenizer.from_pretrained(VOCABULARY)
    assert minineo.generate("low", model="own/weights", tokenizer=tokenizer, **arguments) == expected


# -- transfers that go wrong -------------------------------------------------------------------------------------------


def test_an_interrupted_transfer_goes_on(hub: HubServer, files: dict[str, bytes], model: Any, monkeypatch) -> None:
    # whole pieces are kept, of 10 MB; those of this model are smaller
    monkeypatch.setattr(require("huggingface_hub.constants"), "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.add(NAME, files)
    hub.cut["model.safetensors"] = 5000
    try:
        loaded = GPTNeoForCausalLM.from_pretrained(NAME)
    except ConnectionError:  # huggingface_hub 0.x and 1.0 give up, and go on when they are asked again
        loaded = GPTNeoForCausalLM.from_pretrained(NAME)
    assert_same(loaded, model)
    assert hub.ranges == ["bytes=5000-"]


def test_shards_that_have_arrived_are_kept(hub: HubServer, files: dict[str, bytes], model: Any, tmp_path: Path) -> None:
    shards = weights_in(model, tmp_path / "weights", "shards")
    hub.add(NAME, {name: content for name, content in files.items() if name != "model.safetensors"} | shards)
    last = sorted(shards)[-2]
    hub.spoil[last] = b"x" * len(shards[last])
    with pytest.raises(OSError, match=last):
        GPTNeoForCausalLM.from_pretrained(NAME)
    hub.spoil.clear()
    hub.log.clear()
    assert_same(GPTNeoForCausalLM.from_pretrained(NAME), model)
    assert hub.files_asked_for == {last}


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("how", ["another byte", "cut short"])
def test_a_damaged_file_is_not_kept(
    file: str, how: str, hub: HubServer, files: dict[str, bytes], model: Any, tmp_path: Path
) -> None:
    hub.add(NAME, files)
    content = files[file]
    hub.spoil[file] = content[:-1] + b"x" if how == "another byte" else content[:-9]
    with pytest.raises(OSError, match=rf"own/tiny: {file} arrived .*Try again\."):
        GPTNeoForCausalLM.from_pretrained(NAME)
    assert file not in in_cache(tmp_path)
    hub.spoil.clear()
    assert_same(GPTNeoForCausalLM.from_pretrained(NAME), model)


def test_a_file_of_the_wrong_size_in_the_cache(hub: HubServer, files: dict[str, bytes], model: Any, tmp_path) -> None:
    hub.add(NAME, files)
    minineo.load(NAME)
    digest = hashlib.sha256(files["model.safetensors"]).hexdigest()
    (tmp_path / "cache" / "models--own--tiny" / "blobs" / digest).write_bytes(files["model.safetensors"][:100])
    assert_same(minineo.load(NAME)[0], model)


# -- names, permissions, networks --------------------------------------------------------------------------------------


def test_no_such_model(hub: HubServer) -> None:
    with pytest.raises(FileNotFoundError, match=r"own/tiny: no such directory .*no such model on the Hub.*spelling"):
        minineo.load(NAME)


def test_a_private_model(hub: HubServer, files: dict[str, bytes], model: Any) -> None:
    hub.add(NAME, files, private=True)
    with pytest.raises(FileNotFoundError, match="if the model is private, log in"):
        minineo.load(NAME)
    assert_same(minineo.load(NAME, token=TOKEN)[0], model)


def test_no_such_revision(hub: HubServer, files: dict[str, bytes]) -> None:
    hub.add(NAME, files)
    minineo.load(NAME)
    for revision in ("v9", "0" * 40):
        with pytest.raises(FileNotFoundError, match=f"own/tiny has no revision {revision}: expected a branch"):
            minineo.load(NAME, revision=revision)


def test_a_token_is_not_shown(hub: HubServer, files: dict[str, bytes], model: Any) -> None:
    hub.add(NAME, files, private=True)
    assert_same(minineo.load(NAME, token=f"{TOKEN}\n")[0], model)  # as it is read from a file
    for token in ("", "hf_mine\nX: 1", "hf_mi ne", "hf_min\u00e9"):
        with pytest.raises(ValueError, match=r"token: received .*expected letters and digits") as raised:
            minineo.load(NAME, token=token)
        assert "hf_mi" not in str(raised.value)
        assert raised.value.__context__ is None
    with pytest.raises(TypeError, match="token: received a bytes, expected a str"):
        minineo.load(NAME, **cast(Any, {"token": b"hf_mine"}))


@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_gated_model(token: str | None, hub: HubServer, files: dict[str, bytes]) -> None:
    hub.add(NAME, files, gated=True)
    with pytest.raises(PermissionError, match=rf"own/tiny is gated: accept its conditions on {hub.endpoint}/own/tiny"):
        minineo.load(NAME, token=token)


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (403, PermissionError, r"the Hub refuses access \(403\).*hf auth login"),
        (429, ConnectionError, r"too many requests \(429\).*Wait"),
        (503, ConnectionError, r"answers with an error \(503\)\. Try again later"),
    ],
)
def test_the_hub_refuses(
    status: int, error: type[Exception], message: str, hub: HubServer, files: dict[str, bytes], model: Any
) -> None:
    hub.add(NAME, files)
    hub.status = status
    with pytest.raises(error, match=message):
        minineo.load(NAME)
    hub.status = None
    minineo.load(NAME)
    hub.status = status
    with pytest.warns(UserWarning, match=message + ".*Using what is in the cache"):
        assert_same(minineo.load(NAME)[0], model)


def test_a_server_that_is_not_there(hub: HubServer, files: dict[str, bytes], model: Any) -> None:
    hub.add(NAME, files)
    minineo.load(NAME)
    hub.__exit__()
    with pytest.warns(UserWarning, match="cannot be reached.*Using what is in the cache"):
        assert_same(minineo.load(NAME)[0], model)
    with pytest.raises(ConnectionError, match=r"own/other: no such directory, and http://127.* cannot be reached"):
        minineo.load("own/other")


def test_offline_without_all_in_the_cache(hub: HubServer, files: dict[str, bytes], monkeypatch) -> None:
    hub.add(NAME, files)
    GPT2Tokenizer.from_pretrained(NAME)
    hub.log.clear()
    with pytest.raises(FileNotFoundError, match=r"own/tiny is not in the cache with its config and .*local_files_only"):
        minineo.load(NAME, local_files_only=True)
    monkeypatch.setattr(require("huggingface_hub.constants"), "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"HF_HUB_OFFLINE=1.*minineo download own/tiny --revision v2\."):
        minineo.load(NAME, revision="v2")
    assert GPT2Tokenizer.from_pretrained(NAME).encode("low")
    assert hub.log == []


def test_parts_that_a_model_lacks(hub: HubServer, files: dict[str, bytes]) -> None:
    hub.add(NAME, {name: content for name, content in files.items() if name not in TOKENIZER})
    with pytest.raises(FileNotFoundError, match=r"own/tiny has no tokenizer\.json.*it holds .*README\.md"):
        minineo.load(NAME)
    hub.add("own/nothing", OTHERS)
    with pytest.raises(FileNotFoundError, match=r"own/nothing has no config\.json"):
        minineo.load("own/nothing")
    assert main(["download", "own/nothing"]) == 1
    assert hub.files_asked_for == set()  # nobody waits for weights that cannot be used


# -- files from strangers ----------------------------------------------------------------------------------------------


def test_hostile_lists_of_files(hub: HubServer, files: dict[str, bytes], model: Any, tmp_path: Path) -> None:
    hub.extra_names = ["../../evil", "/etc/passwd", "..\\evil", "a/../../config.json", "", ".", "vocab.json/../x"]
    hub.add(NAME, files)
    assert_same(minineo.load(NAME)[0], model)
    assert in_cache(tmp_path) == TOKENIZER | {"config.json", "generation_config.json", "model.safetensors"}
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "..\\evil", "a/b"])
def test_hostile_indices(name: str, hub: HubServer, files: dict[str, bytes]) -> None:
    index = json.dumps({"weight_map": {"transformer.wte.weight": name}}).encode()
    hub.extra_names = [name]
    others = {file: content for file, content in files.items() if file != "model.safetensors"}
    hub.add(NAME, others | {"model.safetensors.index.json": index})
    with pytest.raises(CheckpointError, match="expected the plain name of a file beside the index"):
        minineo.load(NAME)


def test_an_index_that_names_a_shard_that_is_not_there(hub: HubServer, files: dict[str, bytes]) -> None:
    index = json.dumps({"weight_map": {"transformer.wte.weight": "model-00001-of-00001.safetensors"}}).encode()
    others = {file: content for file, content in files.items() if file != "model.safetensors"}
    hub.add(NAME, others | {"model.safetensors.index.json": index})
    with pytest.raises(FileNotFoundError, match=r"own/tiny has no model-00001-of-00001\.safetensors"):
        minineo.load(NAME)


# -- the command line, and others who use the cache --------------------------------------------------------------------


def test_commands(hub: HubServer, files: dict[str, bytes], tmp_path: Path, capsys) -> None:
    hub.add(NAME, files)
    assert main(["download", NAME, "--cache-dir", str(tmp_path / "other")]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert {path.name for path in folder.iterdir()} == TOKENIZER | {
        *("config.json", "generation_config.json", "model.safetensors")
    }
    offline = ["--cache-dir", str(tmp_path / "other"), "--local-files-only"]
    hub.log.clear()
    for command in (
        ["generate", "low", "--max-new-tokens", "2", "--model", NAME],
        ["tokenize", "low", "--model", NAME],
        ["inspect", NAME],
        ["convert", NAME, str(tmp_path / "converted")],
    ):
        assert main([*command, *offline]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out
    assert hub.log == []
    assert minineo.load(tmp_path / "converted")

    for command in (["inspect", "own/none"], ["download", NAME, "--revision", "v9"], ["inspect", "none", *offline]):
        assert main(command) == 1
        error = capsys.readouterr().err
        assert error.startswith("minineo: ")
        assert error.count("\n") == 1


def test_environment_variables(hub: HubServer, files: dict[str, bytes], tmp_path: Path) -> None:
    hub.add(NAME, files, private=True)
    names = ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN", "TRANSFORMERS_OFFLINE")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.endpoint}

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "minineo", *arguments]
        return subprocess.run(command, env=environment | variables, capture_output=True, text=True, timeout=60)

    result = run("download", NAME, HF_TOKEN=TOKEN)
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.strip())
    assert folder.parent == tmp_path / "home" / "hub" / "models--own--tiny" / "snapshots"
    result = run("inspect", NAME, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert result.returncode == 0, result.stderr
    assert "model_type" in result.stdout
    result = run("inspect", NAME, HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path / "empty"))
    assert result.returncode == 1
    assert result.stderr.startswith(f"minineo: {NAME} is not in the cache")


def test_what_transformers_has_downloaded_is_found(hub: HubServer, files: dict[str, bytes], model: Any) -> None:
    transformers = require("transformers")
    hub.add(NAME, files)
    theirs = transformers.GPTNeoForCausalLM.from_pretrained(NAME)
    tokenizer = transformers.AutoTokenizer.from_pretrained(NAME)
    hub.log.clear()
    found, own_tokenizer = minineo.load(NAME)
    assert hub.files_asked_for <= {"special_tokens_map.json"}
    hub.__exit__()
    found, own_tokenizer = minineo.load(NAME, local_files_only=True)
    assert_same(found, model)
    assert own_tokenizer.encode("low lower") == tokenizer.encode("low lower")
    np.testing.assert_array_equal(theirs.transformer.wte.weight.detach(), found.params["transformer.wte.weight"])


def test_transformers_finds_what_was_downloaded_here(hub: HubServer, files: dict[str, bytes], model: Any) -> None:
    transformers = require("transformers")
    hub.add(NAME, files)
    minineo.load(NAME)
    hub.__exit__()
    theirs = transformers.GPTNeoForCausalLM.from_pretrained(NAME, local_files_only=True)
    np.testing.assert_array_equal(theirs.transformer.wte.weight.detach(), model.params["transformer.wte.weight"])
