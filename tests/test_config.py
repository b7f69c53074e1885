"""The configuration: Hugging Face's fields, defaults, aliases and files, and errors that name the field."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import require

from minineo.config import GPTNeoConfig, expand_attention_types

# GPTNeoConfig().to_dict() of transformers 5.23, without its version and `_name_or_path`
DEFAULTS: dict[str, Any] = {
    "activation_function": "gelu_new",
    "architectures": None,
    "attention_dropout": 0.0,
    "attention_layers": ["global", "local"] * 12,
    "attention_types": [[["global", "local"], 12]],
    "bos_token_id": 50256,
    "chunk_size_feed_forward": 0,
    "classifier_dropout": 0.1,
    "dtype": None,
    "embed_dropout": 0.0,
    "eos_token_id": 50256,
    "hidden_size": 2048,
    "id2label": {0: "LABEL_0", 1: "LABEL_1"},
    "initializer_range": 0.02,
    "intermediate_size": None,
    "is_encoder_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "layer_norm_epsilon": 1e-05,
    "max_position_embeddings": 2048,
    "model_type": "gpt_neo",
    "num_heads": 16,
    "num_layers": 24,
    "output_attentions": False,
    "output_hidden_states": False,
    "pad_token_id": None,
    "problem_type": None,
    "resid_dropout": 0.0,
    "return_dict": True,
    "tie_word_embeddings": True,
    "use_cache": True,
    "vocab_size": 50257,
    "window_size": 256,
}

# Configurations that say something in every way that Hugging Face allows.
VARIANTS: list[dict[str, Any]] = [
    {},
    {"num_layers": 3, "attention_types": [[["global", "local"], 1], [["global"], 1]]},
    {"num_layers": 2, "attention_types": [[["local"], 2]], "window_size": 7, "intermediate_size": 96},
    {"num_labels": 5},
    {"id2label": {0: "no", 1: "yes", 2: "perhaps"}, "label2id": {"no": 0, "yes": 1, "perhaps": 2}},
    {"problem_type": "regression", "num_labels": 1},
    {"eos_token_id": [3, 4], "bos_token_id": None, "pad_token_id": 0},
    {"num_hidden_layers": 24, "num_attention_heads": 8},
    {"tie_word_embeddings": False, "use_cache": False, "output_hidden_states": True, "return_dict": False},
    {"dtype": "float16", "architectures": ["GPTNeoForCausalLM"]},
    {"resid_dropout": 0.1, "activation_function": "gelu", "gradient_checkpointing": True, "ours": {"a": [1, 2]}},
]


def test_every_field_and_default() -> None:
    assert {
        name: value for name, value in GPTNeoConfig().to_dict().items() if name != "transformers_version"
    } == DEFAULTS


@pytest.mark.parametrize("name", [name for name in DEFAULTS if name != "model_type"])
def test_every_field_is_an_attribute(name: str) -> None:
    assert getattr(GPTNeoConfig(), name) == DEFAULTS[name]


@pytest.mark.parametrize(
    ("attention_types", "layers"),
    [
        ([[["global", "local"], 12]], ["global", "local"] * 12),  # 24 layers, not the 2 of a mistaken reader
        ([[["global", "local"], 6]], ["global", "local"] * 6),
        ([[["global"], 3]], ["global"] * 3),
        ([[["global", "local"], 2], [["global"], 1]], ["global", "local", "global", "local", "global"]),
        ([[["local", "local", "global"], 2]], ["local", "local", "global"] * 2),
        ([[["global"], 0], [["local"], 1]], ["local"]),
        ([(("global", "local"), 1)], ["global", "local"]),
        ([], []),
    ],
)
def test_attention_types_are_written_out(attention_types: Any, layers: list[str]) -> None:
    assert expand_attention_types(attention_types) == layers
    if layers:
        config = GPTNeoConfig(num_layers=len(layers), attention_types=attention_types)
        assert config.attention_layers == layers
        windows = [256 if kind == "local" else None for kind in layers]
        assert [config.window(i) for i in range(len(layers))] == windows


def test_aliases_read_and_write_the_same_field() -> None:
    config = GPTNeoConfig(num_hidden_layers=24, num_attention_heads=32, torch_dtype="float16")
    assert (config.num_layers, config.num_heads, config.dtype) == (24, 32, "float16")
    assert (config.num_hidden_layers, config.num_attention_heads) == (24, 32)
    config.num_hidden_layers, config.num_attention_heads = 12, 8
    assert (config.num_layers, config.num_heads) == (12, 8)
    assert not {"num_hidden_layers", "num_attention_heads", "torch_dtype"} & config.to_dict().keys()


def test_sizes_that_follow_from_others() -> None:
    assert GPTNeoConfig().head_size == 128
    assert GPTNeoConfig().inner_size == 8192
    assert GPTNeoConfig(intermediate_size=6144).inner_size == 6144


class TestLabels:
    def test_their_number_makes_their_names(self) -> None:
        config = GPTNeoConfig(num_labels=3)
        assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
        assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
        config.num_labels = 1
        assert config.id2label == {0: "LABEL_0"}

    def test_their_names_make_their_number(self) -> None:
        config = GPTNeoConfig(id2label={"0": "no", "1": "yes", "2": "perhaps"})  # as JSON has the keys
        assert config.num_labels == 3
        assert config.id2label[1] == "yes"
        assert config.label2id == {"no": 0, "yes": 1, "perhaps": 2}

    def test_overriding_their_number_forgets_their_names(self) -> None:
        fields = GPTNeoConfig(id2label={0: "a", 1: "b", 2: "c"}).to_dict()
        assert GPTNeoConfig.from_dict(fields, num_labels=4).id2label[3] == "LABEL_3"


class TestFiles:
    @pytest.mark.parametrize("fields", VARIANTS)
    def test_written_and_read_again_nothing_is_lost(self, fields: dict[str, Any], tmp_path: Path) -> None:
        config = GPTNeoConfig(**fields)
        config.save_pretrained(tmp_path / "new" / "folder")
        again = GPTNeoConfig.from_pretrained(tmp_path / "new" / "folder")
        assert again == config
        assert again.to_dict() == config.to_dict() == GPTNeoConfig(**config.to_dict()).to_dict()
        assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["config.json"]

    def test_unknown_keys_are_kept_as_attributes_and_written_back(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(
            json.dumps({"model_type": "gpt_neo", "summary_type": "cls", "x": {"y": [1]}})
        )
        config = GPTNeoConfig.from_pretrained(tmp_path)
        assert config.summary_type == "cls"
        config.save_pretrained(tmp_path)
        written = json.loads((tmp_path / "config.json").read_text())
        assert written["summary_type"] == "cls"
        assert written["x"] == {"y": [1]}

    def test_the_file_itself_will_do_and_fields_may_be_overridden(self, tmp_path: Path) -> None:
        GPTNeoConfig(window_size=9).save_pretrained(tmp_path)
        config = GPTNeoConfig.from_pretrained(tmp_path / "config.json", num_attention_heads=4)
        assert (config.window_size, config.num_heads) == (9, 4)
        layers = {"num_layers": 1, "attention_types": [[["local"], 1]]}
        assert GPTNeoConfig.from_pretrained(str(tmp_path), **layers).attention_layers == ["local"]

    def test_defaults_of_every_architecture_go_without_saying(self) -> None:
        written = json.loads(GPTNeoConfig().to_json_string())
        assert not {"return_dict", "id2label", "architectures", "transformers_version", "dtype"} & written.keys()
        assert written["model_type"] == "gpt_neo"
        assert written["intermediate_size"] is None

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"{", "not valid JSON"),
            (b"", "not valid JSON"),
            (b"\xff\xfe{}", "not valid JSON"),
            (b'{"vocab_size": ' + b"9" * 5000 + b"}", "not valid JSON"),
            (b"[" * 100_000, "not valid JSON"),
            (b"[1, 2]", "holds a JSON list, expected an object"),
            (b'{"model_type": "gpt2"}', "model_type: received 'gpt2', expected 'gpt_neo'"),
            (b'{"num_layers": 7}', "num_layers is 7"),
            (b'{"hidden_size": "big"}', "hidden_size: received 'big' of type str, expected an int"),
            (b'{"layer_norm_epsilon": NaN}', "layer_norm_epsilon: received nan"),
            (b'{"head_size": 64}', "head_size: received 64, but GPTNeoConfig has a method or property of this name"),
            (b'{"id2label": {"a": "b"}}', "id2label: received {'a': 'b'}, expected keys that are integers"),
        ],
    )
    def test_errors_name_the_file(self, text: bytes, message: str, tmp_path: Path) -> None:
        path = tmp_path / "config.json"
        path.write_bytes(text)
        with pytest.raises((ValueError, TypeError), match=re.escape(message)) as caught:
            GPTNeoConfig.from_pretrained(tmp_path)
        assert str(caught.value).startswith(f"{path}: ")

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path}") + r".*: no such file.*config\.json"):
            GPTNeoConfig.from_pretrained(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"nowhere: no such directory"):
            GPTNeoConfig.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"vocab_size": 0}, ValueError, "vocab_size: received 0, expected at least 1"),
        ({"hidden_size": -8}, ValueError, "hidden_size: received -8, expected at least 1"),
        ({"hidden_size": 64.0}, TypeError, "hidden_size: received 64.0 of type float, expected an int"),
        ({"num_heads": 0}, ValueError, "num_heads: received 0, expected at least 1"),
        ({"num_heads": 15}, ValueError, "num_heads: received 15, expected a divisor of hidden_size, which is 2048"),
        ({"num_attention_heads": 15}, ValueError, "num_heads: received 15"),
        ({"num_layers": True}, TypeError, "num_layers: received True of type bool, expected an int"),
        ({"window_size": 0}, ValueError, "window_size: received 0, expected at least 1"),
        ({"max_position_embeddings": "2048"}, TypeError, "max_position_embeddings: received '2048' of type str"),
        ({"intermediate_size": 0}, ValueError, "intermediate_size: received 0, expected at least 1"),
        ({"bos_token_id": 1.5}, TypeError, "bos_token_id: received 1.5"),
        ({"eos_token_id": [1, "2"]}, TypeError, "eos_token_id: received '2'"),
        ({"pad_token_id": [1]}, TypeError, "pad_token_id: received [1]"),
        ({"pad_token_id": -2}, ValueError, "pad_token_id: received -2"),
        (
            {"resid_dropout": 1.0},
            ValueError,
            "resid_dropout: received 1.0, expected a number from 0 up to, but not incl",
        ),
        ({"attention_dropout": "0.1"}, TypeError, "attention_dropout: received '0.1' of type str, expected a float"),
        ({"layer_norm_epsilon": -1e-5}, ValueError, "layer_norm_epsilon: received -1e-05"),
        ({"initializer_range": float("inf")}, ValueError, "initializer_range: received inf"),
        ({"use_cache": 1}, TypeError, "use_cache: received 1, expected True or False"),
        ({"tie_word_embeddings": None}, TypeError, "tie_word_embeddings: received None, expected True or False"),
        (
            {"activation_function": None},
            TypeError,
            "activation_function: received None, expected a name like 'gelu_new'",
        ),
        (
            {"problem_type": "single_label_classification", "num_labels": 1},
            ValueError,
            "problem_type: received 'single_label_classification' with num_labels = 1",
        ),
        (
            {"attention_types": [[["global"], 3_000_000_000]], "num_layers": 3_000_000_000},
            ValueError,
            "attention_types: [['global'], 3000000000] stands for more than 2000 layers",
        ),
        ({"problem_type": "ranking"}, ValueError, "problem_type: received 'ranking', expected None or one of"),
        ({"num_labels": 0}, ValueError, "num_labels: received 0, expected at least 1"),
        ({"num_labels": 2, "id2label": {0: "a"}}, ValueError, "num_labels: received 2, but id2label names 1"),
        ({"id2label": ["no", "yes"]}, TypeError, "id2label: received ['no', 'yes'], expected a dictionary"),
        ({"model_type": "llama"}, ValueError, "model_type: received 'llama', expected 'gpt_neo'"),
        (
            {"attention_types": "global"},
            TypeError,
            "attention_types: received 'global', expected a list of [pattern, rep",
        ),
        ({"attention_types": [["global", 24]]}, ValueError, "attention_types: received the item ['global', 24]"),
        ({"attention_types": [[["global"], -1]]}, ValueError, "attention_types: received the item [['global'], -1]"),
        (
            {"attention_types": [[["sparse"], 24]]},
            ValueError,
            "received the kind 'sparse', expected 'global' or 'local'",
        ),
        ({"attention_types": [[["global"], 3]]}, ValueError, "stands for 3 layers, but num_layers is 24"),
        ({"num_layers": 3}, ValueError, "pass attention_types=[[['global', 'local'], 1], [['global'], 1]]"),
        ({"attention_layers": ["global"] * 24}, ValueError, "attention_layers: received ['global', 'global', "),
        ({"attention_layers": 24}, ValueError, "attention_layers: received 24"),
        ({"window": 9}, ValueError, "window: received 9, but GPTNeoConfig has a method or property of this name"),
    ],
)
def test_errors_name_the_field(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        GPTNeoConfig(**fields)


def test_what_the_error_about_num_layers_suggests_works() -> None:
    for num_layers in (1, 2, 3, 6, 7):
        with pytest.raises(ValueError, match="num_layers") as caught:
            GPTNeoConfig(num_layers=num_layers)
        suggested = str(caught.value).partition("pass attention_types=")[2].rstrip(".")
        config = GPTNeoConfig(num_layers=num_layers, attention_types=json.loads(suggested.replace("'", '"')))
        assert len(config.attention_layers) == num_layers


def test_nobody_shares_its_lists() -> None:
    types: list[Any] = [[["global", "local"], 12]]
    config = GPTNeoConfig(attention_types=types)
    types[0][0][0] = "local"
    config.to_dict()["attention_layers"][0] = "local"
    config.to_dict()["id2label"][0] = "changed"
    assert config == GPTNeoConfig()


def test_equality_and_text() -> None:
    assert GPTNeoConfig(window_size=3) == GPTNeoConfig(window_size=3) != GPTNeoConfig(window_size=4)
    assert GPTNeoConfig() != "GPTNeoConfig"
    assert repr(GPTNeoConfig(window_size=3)).startswith("GPTNeoConfig {\n")
    assert '"window_size": 3' in repr(GPTNeoConfig(window_size=3))
    with pytest.raises(TypeError, match="unhashable"):
        hash(GPTNeoConfig())


@pytest.mark.oracle
class TestTransformers:
    @pytest.mark.parametrize("fields", VARIANTS)
    def test_the_same_dictionary(self, fields: dict[str, Any]) -> None:
        theirs = require("transformers").GPTNeoConfig(**fields).to_dict()
        assert without_traces(GPTNeoConfig(**fields).to_dict()) == without_traces(theirs)

    @pytest.mark.parametrize("fields", VARIANTS)
    def test_files_both_ways(self, fields: dict[str, Any], tmp_path: Path) -> None:
        their_class = require("transformers").GPTNeoConfig
        ours, theirs = GPTNeoConfig(**fields), their_class(**fields)
        ours.save_pretrained(tmp_path / "ours")
        theirs.save_pretrained(tmp_path / "theirs")
        read_by_them = their_class.from_pretrained(tmp_path / "ours").to_dict()
        assert without_traces(read_by_them) == without_traces(theirs.to_dict())
        read_by_us = GPTNeoConfig.from_pretrained(tmp_path / "theirs").to_dict()
        assert without_traces(read_by_us) == without_traces(ours.to_dict())

    @pytest.mark.parametrize("fields", VARIANTS)
    def test_the_same_text_in_the_file(self, fields: dict[str, Any]) -> None:
        theirs = json.loads(require("transformers").GPTNeoConfig(**fields).to_json_string(use_diff=True))
        ours = json.loads(GPTNeoConfig(**fields).to_json_string())
        assert without_traces(ours) == without_traces(theirs)


def without_traces(fields: dict[str, Any]) -> dict[str, Any]:
    """Without what transformers notes about itself."""
    return {name: value for name, value in fields.items() if name not in ("transformers_version", "_name_or_path")}
