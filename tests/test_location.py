"""What a name or path stands for, and links that lead out of a checkpoint's folder."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from tiny_models import tiny

import minineo
from minineo import GPT2Tokenizer, GPTNeoConfig, GPTNeoForCausalLM
from minineo.checkpoints import CheckpointError, read_state_dict
from minineo.cli import main
from minineo.location import inside, is_hub_name, resolve

VOCABULARY = Path(__file__).parent / "data" / "vocabulary"


@pytest.mark.parametrize("name", ["gpt2", "EleutherAI/gpt-neo-125m", "own/_my_model.v1", "a" * 96])
def test_names_on_the_hub(name: str) -> None:
    assert is_hub_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "a/b/c", "./a", "../a", "a/..", "a/", "/a", "~/a", "a--b", "a..b", "a.", "-a", ".a", "a b", "a/b\n", "é"),
        *("C:\\a", "model.safetensors", "own/pytorch_model.bin", "config.json", "a" * 97),
    ],
)
def test_no_names_on_the_hub(name: str) -> None:
    assert not is_hub_name(name)
    error = FileNotFoundError if name else ValueError
    with pytest.raises(error, match=r"(?s)(no such directory|an empty name).*such as EleutherAI/gpt-neo-125m"):
        resolve(name)


def test_a_path_object_is_never_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such directory"):
        minineo.load(Path("own/tiny"))


def test_what_is_on_disk_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    tiny(GPTNeoForCausalLM).save_pretrained("own/tiny")
    assert resolve("own/tiny") == Path("own/tiny")
    assert GPTNeoForCausalLM.from_pretrained("own/tiny", revision="v2").config.num_layers == 2


def test_without_huggingface_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    for load in (
        minineo.load,
        GPTNeoForCausalLM.from_pretrained,
        GPTNeoConfig.from_pretrained,
        GPT2Tokenizer.from_pretrained,
        minineo.FlaxGPTNeoForCausalLM.from_pretrained,
    ):
        with pytest.raises(ImportError, match=r'own/tiny: no such directory.*pip install "minineo\[hub\]"'):
            load("own/tiny")
    for command in (["generate", "Once", "--model"], ["inspect"], ["download"], ["tokenize", "Once", "--model"]):
        assert main([*command, "own/tiny"]) == 1
        error = capsys.readouterr().err
        assert error.startswith("minineo: own/tiny: no such directory")
        assert error.count("\n") == 1


def test_download_takes_names_only(capsys) -> None:
    assert main(["download", "./own/tiny"]) == 1
    assert "./own/tiny: no name of a model on the Hub" in capsys.readouterr().err


class TestLinks:
    """A checkpoint's folder may come from anybody: its links lead nowhere but into it, or into the Hub's cache."""

    def test_out_of_the_folder(self, tmp_path: Path) -> None:
        tiny(GPTNeoForCausalLM).save_pretrained(tmp_path / "real")
        shutil.copytree(VOCABULARY, tmp_path / "real", dirs_exist_ok=True)
        (tmp_path / "real" / "generation_config.json").write_text("{}")
        for name, read, error in (
            ("model.safetensors", GPTNeoForCausalLM.from_pretrained, CheckpointError),
            ("config.json", GPTNeoForCausalLM.from_pretrained, ValueError),
            ("generation_config.json", GPTNeoForCausalLM.from_pretrained, ValueError),
            ("vocab.json", GPT2Tokenizer.from_pretrained, ValueError),
            ("tokenizer_config.json", GPT2Tokenizer.from_pretrained, ValueError),
        ):
            for target in (tmp_path / "real" / name, Path("..") / "real" / name):
                folder = tmp_path / "linked"
                shutil.copytree(tmp_path / "real", folder)
                (folder / name).unlink()
                (folder / name).symlink_to(target)
                with pytest.raises(error, match=rf"{name}: a link to .*outside of its folder"):
                    read(folder)
                shutil.rmtree(folder)

    def test_shards(self, tmp_path: Path) -> None:
        tiny(GPTNeoForCausalLM).save_pretrained(tmp_path / "real", max_shard_size=3000)
        shard = next((tmp_path / "real").glob("model-00001*"))
        shard.rename(tmp_path / "elsewhere")
        shard.symlink_to("../elsewhere")
        with pytest.raises(CheckpointError, match="outside of its folder"):
            read_state_dict(tmp_path / "real")

    def test_within_the_folder_and_to_the_folder(self, tmp_path: Path) -> None:
        tiny(GPTNeoForCausalLM).save_pretrained(tmp_path / "real")
        (tmp_path / "real" / "model.safetensors").rename(tmp_path / "real" / "weights")
        (tmp_path / "real" / "model.safetensors").symlink_to("weights")
        (tmp_path / "way").symlink_to("real")
        assert GPTNeoForCausalLM.from_pretrained(tmp_path / "way").config.num_layers == 2

    @pytest.mark.parametrize(
        ("place", "target", "allowed"),
        [
            ("models--own--tiny/snapshots/abc", "../../blobs/123", True),
            ("models--own--tiny/snapshots/abc", "../../../blobs/12/123", True),  # shared by all models of the cache
            ("models--own--tiny/snapshots/abc", "../../../models--own--other/blobs/123", False),
            ("models--own--tiny/snapshots/abc", "../../../secret", False),
            ("models--own--tiny/snapshots/abc", "../../refs/main", False),
            ("other/snapshots/abc", "../../blobs/123", False),
            ("models--own--tiny/abc", "../../blobs/123", False),
        ],
    )
    def test_in_the_hubs_cache(self, place: str, target: str, allowed: bool, tmp_path: Path) -> None:
        folder = tmp_path / place
        file = (folder / target).resolve()
        for path in (folder, file.parent):
            path.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
        (folder / "config.json").symlink_to(target)
        if allowed:
            assert inside(folder, "config.json").read_text() == "{}"
        else:
            with pytest.raises(ValueError, match="outside of its folder"):
                inside(folder, "config.json")

    def test_a_blob_that_is_a_link_itself(self, tmp_path: Path) -> None:
        folder, blobs = tmp_path / "models--a--b" / "snapshots" / "c", tmp_path / "models--a--b" / "blobs"
        folder.mkdir(parents=True)
        blobs.mkdir()
        (blobs / "123").symlink_to("/etc/hostname")
        (folder / "config.json").symlink_to("../../blobs/123")
        with pytest.raises(ValueError, match="a link to /etc/hostname, outside"):
            inside(folder, "config.json")
