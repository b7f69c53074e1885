"""The list of names: that of Hugging Face's checkpoints, written out once by hand for a small model."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import ALL_CLASSES, tiny_config

from minineo.classes import (
    GPTNeoForCausalLM,
    GPTNeoForQuestionAnswering,
    GPTNeoForSequenceClassification,
    GPTNeoForTokenClassification,
    GPTNeoModel,
)
from minineo.model.names import intermediate_names, parameter_shapes

ONE_LAYER = {
    "wte.weight": (19, 12),
    "wpe.weight": (24, 12),
    "h.0.ln_1.weight": (12,),
    "h.0.ln_1.bias": (12,),
    "h.0.attn.attention.q_proj.weight": (12, 12),
    "h.0.attn.attention.k_proj.weight": (12, 12),
    "h.0.attn.attention.v_proj.weight": (12, 12),
    "h.0.attn.attention.out_proj.weight": (12, 12),
    "h.0.attn.attention.out_proj.bias": (12,),
    "h.0.ln_2.weight": (12,),
    "h.0.ln_2.bias": (12,),
    "h.0.mlp.c_fc.weight": (30, 12),
    "h.0.mlp.c_fc.bias": (30,),
    "h.0.mlp.c_proj.weight": (12, 30),
    "h.0.mlp.c_proj.bias": (12,),
    "ln_f.weight": (12,),
    "ln_f.bias": (12,),
}


def test_parameters_of_the_transformer() -> None:
    config = tiny_config("l", intermediate_size=30)
    assert parameter_shapes(config) == ONE_LAYER
    assert parameter_shapes(config, "transformer.") == {f"transformer.{n}": s for n, s in ONE_LAYER.items()}


@pytest.mark.parametrize(
    ("cls", "fields", "head"),
    [
        (GPTNeoForCausalLM, {}, {}),
        (GPTNeoForCausalLM, {"tie_word_embeddings": False}, {"lm_head.weight": (19, 12)}),
        (GPTNeoForSequenceClassification, {}, {"score.weight": (4, 12)}),
        (GPTNeoForTokenClassification, {}, {"classifier.weight": (4, 12), "classifier.bias": (4,)}),
        (GPTNeoForQuestionAnswering, {}, {"qa_outputs.weight": (2, 12), "qa_outputs.bias": (2,)}),
    ],
)
def test_parameters_of_the_heads(cls: Any, fields: dict[str, Any], head: dict[str, tuple[int, ...]]) -> None:
    config = tiny_config("l", intermediate_size=30, **fields)
    assert cls.parameter_shapes(config) == {f"transformer.{n}": s for n, s in ONE_LAYER.items()} | head


def test_the_base_has_no_prefix() -> None:
    assert GPTNeoModel.parameter_shapes(tiny_config("l", intermediate_size=30)) == ONE_LAYER


@pytest.mark.parametrize("cls", ALL_CLASSES)
def test_the_inner_size_is_four_times_the_hidden_size_unless_given(cls: Any) -> None:
    shapes = cls.parameter_shapes(tiny_config("gl"))
    prefix = cls.prefix
    assert shapes[f"{prefix}h.1.mlp.c_fc.weight"] == (48, 12)
    assert shapes[f"{prefix}h.1.mlp.c_proj.weight"] == (12, 48)


def test_intermediates_are_listed_once_each() -> None:
    names = intermediate_names(tiny_config("glgl"))
    assert len(set(names)) == len(names) == 4 + 4 * 14 + 2
    assert names[:5] == ["wte", "wpe", "wtt", "embed", "h.0.ln_1"]
    assert names[-3:] == ["h.3.resid_post", "ln_f", "logits"]
