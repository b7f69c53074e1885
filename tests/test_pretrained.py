"""Models and files: saved, loaded, mapped, overridden, and refused with the reason."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import ALL_CLASSES, tiny, tokens

from minineo.checkpoints import CheckpointError, open_safetensors, save_safetensors
from minineo.classes import (
    GPTNeoForCausalLM,
    GPTNeoForQuestionAnswering,
    GPTNeoForSequenceClassification,
    GPTNeoForTokenClassification,
    GPTNeoModel,
)
from minineo.config import GPTNeoConfig

WEIGHTS = "model.safetensors"


def file_under(array: np.ndarray) -> np.memmap | None:
    """The memory map that an array is a view of."""
    base: Any = array
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    return base


@pytest.mark.parametrize("cls", ALL_CLASSES)
@pytest.mark.parametrize("fields", [{}, {"tie_word_embeddings": False, "intermediate_size": 20}])
@pytest.mark.parametrize("max_shard_size", ["50GB", 2000])
def test_saved_and_loaded_it_is_the_same_model(
    cls: Any, fields: dict[str, Any], max_shard_size: int | str, tmp_path: Path
) -> None:
    model = tiny(cls, **fields)
    model.save_pretrained(tmp_path / "new" / "folder", max_shard_size=max_shard_size)
    again = cls.from_pretrained(tmp_path / "new" / "folder")
    assert type(again) is cls
    assert list(again.params) == list(model.params)
    for name, array in model.params.items():
        assert again.params[name].dtype == np.float32
        np.testing.assert_array_equal(again.params[name], array)
    expected = model.config.to_dict() | {"architectures": [cls.__name__], "dtype": "float32"}
    assert again.config.to_dict() == expected
    np.testing.assert_array_equal(again(tokens(2, 5))[0], model(tokens(2, 5))[0])


def test_saving_again_over_the_file_that_is_mapped(tmp_path: Path) -> None:
    model = tiny(GPTNeoModel)
    model.save_pretrained(tmp_path)
    mapped = GPTNeoModel.from_pretrained(tmp_path)
    mapped.save_pretrained(tmp_path)
    again = GPTNeoModel.from_pretrained(tmp_path)
    for name, array in model.params.items():
        np.testing.assert_array_equal(mapped.params[name], array)
        np.testing.assert_array_equal(again.params[name], array)


class TestMemoryMap:
    def test_float32_weights_are_views_of_the_file(self, tmp_path: Path) -> None:
        tiny(GPTNeoForCausalLM).save_pretrained(tmp_path)
        for name, array in GPTNeoForCausalLM.from_pretrained(tmp_path).params.items():
            mapped = file_under(array)
            if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):  # the three are parts of one array
                assert mapped is None
                continue
            assert mapped is not None
            assert Path(str(mapped.filename)).name == WEIGHTS

    def test_editing_them_does_not_change_the_file(self, tmp_path: Path) -> None:
        tiny(GPTNeoModel).save_pretrained(tmp_path)
        before = (tmp_path / WEIGHTS).read_bytes()
        model = GPTNeoModel.from_pretrained(tmp_path)
        expected = model.params["wte.weight"] + 1.0
        model.params["wte.weight"] += 1.0
        np.testing.assert_array_equal(model.params["wte.weight"], expected)
        assert (tmp_path / WEIGHTS).read_bytes() == before

    @pytest.mark.parametrize("dtype", [np.float16, "float16", np.float64, "float64", np.dtype("float32"), None])
    def test_dtype(self, dtype: Any, tmp_path: Path) -> None:
        model = tiny(GPTNeoForCausalLM)
        model.save_pretrained(tmp_path)
        loaded = GPTNeoForCausalLM.from_pretrained(tmp_path, dtype=dtype)
        expected = np.dtype(np.float32 if dtype is None else dtype)
        assert loaded.dtype == expected
        for name, array in model.params.items():
            assert loaded.params[name].dtype == expected
            np.testing.assert_array_equal(loaded.params[name], array.astype(expected))

    @pytest.mark.parametrize("stored", [np.float16, np.float64])
    def test_other_files_become_float32_unless_asked_otherwise(self, stored: Any, tmp_path: Path) -> None:
        model = tiny(GPTNeoModel, dtype=stored)
        model.save_pretrained(tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["dtype"] == np.dtype(stored).name
        loaded = GPTNeoModel.from_pretrained(tmp_path)
        for name, array in model.params.items():
            np.testing.assert_array_equal(loaded.params[name], array.astype(np.float32))
            assert loaded.params[name].dtype == np.float32
        assert GPTNeoModel.from_pretrained(tmp_path, dtype=stored).dtype == stored

    @pytest.mark.parametrize("dtype", ["bfloat16", "int8", np.int32, "auto", "float"])
    def test_other_dtypes_are_refused(self, dtype: Any, tmp_path: Path) -> None:
        tiny(GPTNeoModel).save_pretrained(tmp_path)
        if dtype == "float":
            assert GPTNeoModel.from_pretrained(tmp_path, dtype=dtype).dtype == np.float64
        else:
            with pytest.raises(ValueError, match=r"dtype .*float16, float32 or float64"):
                GPTNeoModel.from_pretrained(tmp_path, dtype=dtype)


class TestHeads:
    @pytest.mark.parametrize(
        ("cls", "fields", "fresh"),
        [
            (GPTNeoForCausalLM, {"tie_word_embeddings": False}, ["lm_head.weight"]),
            (GPTNeoForSequenceClassification, {}, ["score.weight"]),
            (GPTNeoForTokenClassification, {}, ["classifier.weight", "classifier.bias"]),
            (GPTNeoForQuestionAnswering, {}, ["qa_outputs.weight", "qa_outputs.bias"]),
        ],
    )
    @pytest.mark.parametrize("dtype", [None, "float64"])
    def test_base_into_head(
        self, cls: Any, fields: dict[str, Any], fresh: list[str], dtype: str | None, tmp_path: Path
    ) -> None:
        base = tiny(GPTNeoModel, **fields)
        base.save_pretrained(tmp_path)
        message = f"{tmp_path} has no {', '.join(fresh)}: initialised at random"
        with pytest.warns(UserWarning, match=re.escape(message)) as caught:
            model = cls.from_pretrained(tmp_path, dtype=dtype)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        for name, array in base.params.items():
            np.testing.assert_array_equal(model.params[f"transformer.{name}"], array)
        for name in fresh:
            assert model.params[name].dtype == np.dtype(dtype or "float32")
            assert model.params[name].any() != name.endswith(".bias")

    def test_the_seed_draws_the_new_head(self, tmp_path: Path) -> None:
        tiny(GPTNeoModel).save_pretrained(tmp_path)
        heads = []
        for seed in (0, 0, 1):
            with pytest.warns(UserWarning, match="score.weight"):
                model = GPTNeoForSequenceClassification.from_pretrained(tmp_path, seed=seed)
            heads.append(model.params["score.weight"])
        np.testing.assert_array_equal(heads[0], heads[1])
        assert (heads[0] != heads[2]).any()

    def test_base_into_a_tied_language_model_lacks_nothing(self, tmp_path: Path) -> None:
        base = tiny(GPTNeoModel)
        base.save_pretrained(tmp_path)
        model = GPTNeoForCausalLM.from_pretrained(tmp_path)
        assert set(model.params) == {f"transformer.{name}" for name in base.params}

    @pytest.mark.parametrize("cls", ALL_CLASSES[1:])
    def test_head_into_base(self, cls: Any, tmp_path: Path) -> None:
        head = tiny(cls, tie_word_embeddings=False)
        head.save_pretrained(tmp_path)
        base = GPTNeoModel.from_pretrained(tmp_path)
        for name, array in base.params.items():
            np.testing.assert_array_equal(head.params[f"transformer.{name}"], array)

    def test_head_into_another_head(self, tmp_path: Path) -> None:
        tiny(GPTNeoForSequenceClassification).save_pretrained(tmp_path)
        with pytest.warns(UserWarning, match="has no classifier.weight, classifier.bias"):
            model = GPTNeoForTokenClassification.from_pretrained(tmp_path)
        assert "score.weight" not in model.params


class TestTies:
    def save(self, directory: Path, lm_head: Any) -> GPTNeoForCausalLM:
        """A file with a language-model head of its own beside a configuration that ties it."""
        model = tiny(GPTNeoForCausalLM)
        model.save_pretrained(directory)
        save_safetensors({**model.params, "lm_head.weight": lm_head(model)}, directory / WEIGHTS)
        return model

    def test_a_copy_of_the_embedding_is_dropped(self, tmp_path: Path) -> None:
        model = self.save(tmp_path, lambda model: model.params["transformer.wte.weight"])
        loaded = GPTNeoForCausalLM.from_pretrained(tmp_path)
        assert "lm_head.weight" not in loaded.params
        assert loaded.config.tie_word_embeddings
        np.testing.assert_array_equal(loaded(tokens(1, 4)).logits, model(tokens(1, 4)).logits)

    def test_two_tables_are_both_used_whatever_the_configuration_says(self, tmp_path: Path) -> None:
        model = self.save(tmp_path, lambda model: 2.0 * model.params["transformer.wte.weight"])
        with pytest.warns(UserWarning, match=r"ties lm_head\.weight to transformer\.wte\.weight, but the checkpoint"):
            loaded = GPTNeoForCausalLM.from_pretrained(tmp_path)
        assert not loaded.config.tie_word_embeddings
        np.testing.assert_allclose(loaded(tokens(1, 4)).logits, 2.0 * model(tokens(1, 4)).logits, rtol=1e-6)
        loaded.save_pretrained(tmp_path / "again")
        again = GPTNeoForCausalLM.from_pretrained(tmp_path / "again")  # and now without a warning
        np.testing.assert_array_equal(again(tokens(1, 4)).logits, loaded(tokens(1, 4)).logits)


class TestArguments:
    def test_fields_of_the_configuration_can_be_overridden(self, tmp_path: Path) -> None:
        tiny(GPTNeoModel).save_pretrained(tmp_path)
        with pytest.warns(UserWarning, match="score.weight"):
            model = GPTNeoForSequenceClassification.from_pretrained(tmp_path, num_labels=3, pad_token_id=0)
        assert model.config.num_labels == 3
        assert model.config.pad_token_id == 0
        assert model(tokens(2, 4)).logits.shape == (2, 3)

    def test_a_configuration_can_be_given(self, tmp_path: Path) -> None:
        model = tiny(GPTNeoModel)
        model.save_pretrained(tmp_path)
        config = GPTNeoConfig.from_dict(model.config.to_dict(), window_size=1)
        loaded = GPTNeoModel.from_pretrained(tmp_path, config=config, use_cache=False)
        assert loaded.config.window_size == 1
        assert loaded(tokens(1, 4)).past_key_values is None
        assert config.use_cache

    @pytest.mark.parametrize("name", ["torch_dtype", "devcie", "low_cpu_mem_usage"])
    def test_an_argument_that_nobody_knows_is_refused(self, name: str, tmp_path: Path) -> None:
        tiny(GPTNeoModel).save_pretrained(tmp_path)
        with pytest.raises(TypeError, match=f"from_pretrained has no argument '{name}'"):
            GPTNeoModel.from_pretrained(tmp_path, **{name: True})

    def test_the_path_may_be_a_string(self, tmp_path: Path) -> None:
        tiny(GPTNeoModel).save_pretrained(str(tmp_path))
        assert GPTNeoModel.from_pretrained(str(tmp_path)).config.num_layers == 2


class TestErrors:
    def test_no_such_directory(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"nowhere: no such directory.*EleutherAI/gpt-neo-125m"):
            GPTNeoModel.from_pretrained(tmp_path / "nowhere")

    def test_a_file_is_no_directory(self, tmp_path: Path) -> None:
        tiny(GPTNeoModel).save_pretrained(tmp_path)
        with pytest.raises(FileNotFoundError, match="no such directory"):
            GPTNeoModel.from_pretrained(tmp_path / WEIGHTS)

    @pytest.mark.parametrize(("name", "error"), [("config.json", FileNotFoundError), (WEIGHTS, CheckpointError)])
    def test_a_file_is_missing(self, name: str, error: type[Exception], tmp_path: Path) -> None:
        tiny(GPTNeoModel).save_pretrained(tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(error, match=re.escape(str(tmp_path)) + ".*" + re.escape(name)):
            GPTNeoModel.from_pretrained(tmp_path)

    def test_weights_of_other_shapes(self, tmp_path: Path) -> None:
        tiny(GPTNeoModel).save_pretrained(tmp_path)
        with pytest.raises(CheckpointError, match=r"wpe\.weight.*shape \(24, 12\), expected \(48, 12\)") as caught:
            GPTNeoModel.from_pretrained(tmp_path, max_position_embeddings=48)
        assert str(tmp_path / WEIGHTS) in str(caught.value)

    def test_a_parameter_is_missing(self, tmp_path: Path) -> None:
        tiny(GPTNeoModel).save_pretrained(tmp_path)
        arrays = dict(open_safetensors(tmp_path / WEIGHTS))
        del arrays["h.1.mlp.c_fc.bias"]
        save_safetensors(arrays, tmp_path / WEIGHTS)
        with pytest.raises(CheckpointError, match=r"h\.1\.mlp\.c_fc\.bias.*missing, expected shape \(48,\)"):
            GPTNeoModel.from_pretrained(tmp_path)

    def test_a_broken_generation_config_is_named(self, tmp_path: Path) -> None:
        tiny(GPTNeoModel).save_pretrained(tmp_path)
        (tmp_path / "generation_config.json").write_text("{")
        with pytest.raises(ValueError, match=r"generation_config\.json: not valid JSON"):
            GPTNeoModel.from_pretrained(tmp_path)
        (tmp_path / "generation_config.json").write_text("[]")
        with pytest.raises(ValueError, match=r"generation_config\.json: holds a JSON list, expected an object"):
            GPTNeoModel.from_pretrained(tmp_path)


def test_generation_defaults_travel_with_the_model(tmp_path: Path) -> None:
    tiny(GPTNeoForCausalLM).save_pretrained(tmp_path)
    assert GPTNeoForCausalLM.from_pretrained(tmp_path).generation_config == {}
    (tmp_path / "generation_config.json").write_text('{"max_length": 9, "eos_token_id": [1, 2]}')
    model = GPTNeoForCausalLM.from_pretrained(tmp_path)
    assert model.generation_config == {"max_length": 9, "eos_token_id": [1, 2]}
    model.save_pretrained(tmp_path / "again")
    assert GPTNeoForCausalLM.from_pretrained(tmp_path / "again").generation_config == model.generation_config


@pytest.mark.parametrize(
    ("cls", "fields", "more"),
    [
        (GPTNeoModel, {}, 0),
        (GPTNeoForCausalLM, {}, 0),  # a tied head counts once
        (GPTNeoForCausalLM, {"tie_word_embeddings": False}, 19 * 12),
        (GPTNeoForSequenceClassification, {}, 4 * 12),
        (GPTNeoForTokenClassification, {}, 4 * 12 + 4),
        (GPTNeoForQuestionAnswering, {}, 2 * 12 + 2),
    ],
)
def test_num_parameters(cls: Any, fields: dict[str, Any], more: int) -> None:
    block = 2 * (2 * 12) + 4 * 12 * 12 + 12 + (48 * 12 + 48) + (12 * 48 + 12)
    assert tiny(cls, **fields).num_parameters() == 19 * 12 + 24 * 12 + 2 * block + 2 * 12 + more


def test_the_text_of_a_model_says_what_it_is() -> None:
    model = tiny(GPTNeoForCausalLM)
    assert repr(model) == (
        "GPTNeoForCausalLM(2 layers, 3 heads, hidden size 12, vocabulary 19, "
        f"{model.num_parameters():,} parameters, float32)"
    )


def test_loading_and_running_does_not_warn(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cls in ALL_CLASSES:
            tiny(cls).save_pretrained(tmp_path / cls.__name__)
            cls.from_pretrained(tmp_path / cls.__name__)(tokens(2, 5))
