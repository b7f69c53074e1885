"""Every mistake that a port of GPT-Neo is known to have made: minineo has none, and its tests would see each.

A row says what the mistake is, where it was reported, which detector sees it, and how it is planted: each plant changes
a function of the reference to what a port did. The detector has to pass without the plant and to fail with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import detectors
import plants
import pytest
from random_models import LAYERS, computing_with

from minineo import classes


@dataclass(frozen=True)
class Mistake:
    """What is wrong, where it was reported (a GitHub repository and number), what sees it and how to plant it."""

    name: str
    reported: tuple[str, ...]
    detector: Callable[[Any], None]
    plant: plants.Plant


WINDOW = (
    "NVIDIA/TensorRT-Model-Connect#660",
    "nntile/nntile#468",
    "EleutherAI/gpt-neo#174",
    "deepspeedai/DeepSpeed#1112",
)
WINDOW_EDGE = ("huggingface/transformers#39408", "apple/axlearn#1009", "sgl-project/sglang#34354")
PADDED_POSITIONS = (
    "huggingface/transformers#14521",
    "huggingface/transformers#24694",
    "TransformerLensOrg/TransformerLens#1609",
)
PADDED_CACHE = ("huggingface/transformers#18104", "huggingface/transformers#4130", "huggingface/transformers#13175")
TIED = ("ggml-org/llama.cpp#12567", "huggingface/transformers#38870")
LAST_POSITION = ("EleutherAI/gpt-neo#273", "guillaume-be/rust-bert#321")
POOLING = ("huggingface/transformers#24979", "huggingface/transformers#46782", "huggingface/transformers#12022")
FLOAT64 = ("cupy/cupy#7418",)
no_cache_check = plants.replace("minineo.model.inputs.check_cache", lambda cache, *_: cache.length)

MISTAKES = [
    Mistake(
        "local window ignored",
        WINDOW,
        detectors.local_window_is_used,
        plants.replace("minineo.layers.attention.visible", plants.no_window),
    ),
    Mistake("window one too wide", WINDOW_EDGE, detectors.window_ends_where_it_should, plants.window_moved_by(+1)),
    Mistake("window one too narrow", WINDOW_EDGE, detectors.window_ends_where_it_should, plants.window_moved_by(-1)),
    Mistake(
        "cache one shorter than the window",
        WINDOW_EDGE,
        detectors.window_ends_where_it_should,
        plants.both(plants.replace("minineo.model.transformer.forget", plants.forget_one_too_many), no_cache_check),
    ),
    Mistake(
        "scores divided by the square root of the head size",
        ("huggingface/transformers#20828",),
        detectors.scores_are_not_scaled,
        plants.replace("minineo.model.block.attention", plants.scaled_attention),
    ),
    Mistake(
        "attention_types: repeats ignored",
        ("nntile/nntile#373",),
        detectors.attention_types_are_expanded,
        plants.replace("minineo.config.expand_attention_types", plants.patterns_only),
    ),
    Mistake(
        "attention_types: each kind repeated, not the pattern",
        ("nntile/nntile#373",),
        detectors.attention_types_are_expanded,
        plants.replace("minineo.config.expand_attention_types", plants.each_kind_repeated),
    ),
    Mistake(
        "no causal mask",
        ("nntile/nntile#373",),
        detectors.attention_is_causal,
        plants.replace("minineo.layers.attention.visible", plants.no_causal_mask),
    ),
    Mistake(
        "no causal mask where a cache is continued",
        ("nntile/nntile#373",),
        detectors.attention_is_causal,
        plants.replace("minineo.layers.attention.visible", plants.no_causal_mask_with_cache),
    ),
    Mistake(
        "weight names silently missed",
        ("nntile/nntile#354",),
        detectors.files_are_read_strictly,
        plants.replace("minineo.model_files.match", plants.lenient_match),
    ),
    Mistake(
        "weights under the wrong names",
        ("nntile/nntile#354",),
        detectors.files_are_read_strictly,
        plants.replace("minineo.model_files.match", plants.keys_for_queries),
    ),
    Mistake(
        "GPT-2's transposed weights assumed in attention",
        ("lablup/mlxcel#926",),
        detectors.weights_are_not_transposed,
        plants.replace("minineo.model.block.linear", plants.transposed_if_square),
    ),
    Mistake(
        "GPT-2's transposed weights assumed in the MLP",
        ("lablup/mlxcel#926",),
        detectors.weights_are_not_transposed,
        plants.replace("minineo.layers.mlp.linear", plants.transposed_if_square),
    ),
    Mistake(
        "positions of left-padded prompts count the padding",
        PADDED_POSITIONS,
        detectors.padding_on_the_left_changes_nothing,
        plants.replace("minineo.generation.prompt.positions", plants.positions_that_count_padding),
    ),
    Mistake(
        "position_ids ignored",
        PADDED_POSITIONS,
        detectors.padding_on_the_left_changes_nothing,
        plants.replace("minineo.model.transformer.embed", plants.default_positions),
    ),
    Mistake(
        "cache with padding: the padding of the past forgotten",
        PADDED_CACHE,
        detectors.cache_and_padding_agree,
        plants.replace("minineo.model.block.attention", plants.past_padding_forgotten),
    ),
    Mistake(
        "cache with padding: the mask of other keys",
        PADDED_CACHE,
        detectors.cache_and_padding_agree,
        plants.replace("minineo.model.block.self_attention", plants.mask_of_the_first_keys),
    ),
    Mistake(
        "cache with padding: positions count the padding",
        PADDED_CACHE,
        detectors.cache_and_padding_agree,
        plants.replace("minineo.model.transformer.embed", plants.default_positions_with_cache),
    ),
    Mistake(
        "mask value not low enough",
        ("TransformerLensOrg/TransformerLens#385",),
        detectors.mask_is_low_enough,
        plants.attention_with_mask_value(-1e5),
    ),
    Mistake(
        "scores in float16",
        ("huggingface/transformers#11076",),
        detectors.scores_do_not_overflow,
        plants.replace("minineo.layers.attention.at_least_float32", lambda x: x),
    ),
    Mistake(
        "tied head expected in the file",
        TIED,
        detectors.tied_head_may_be_absent,
        plants.replace("minineo.model_files.match", plants.head_always_expected),
    ),
    Mistake("untied head taken for a tied one", TIED, detectors.tied_head_may_be_absent, plants.head_never_read),
    Mistake(
        "mask buffers taken for weights",
        ("karpathy/minGPT#122",),
        detectors.mask_buffers_are_dropped,
        plants.mask_buffers_unknown,
    ),
    Mistake(
        "MLP of four times the hidden size, whatever the configuration says",
        ("TransformerLensOrg/TransformerLens: its GPT-Neo loader",),
        detectors.mlp_has_its_own_width,
        plants.replace("minineo.config.GPTNeoConfig.inner_size", property(lambda config: 4 * config.hidden_size)),
    ),
    Mistake(
        "exact gelu for the tanh form",
        ("aws-neuron/transformers-neuronx#12",),
        detectors.gelu_is_the_tanh_form,
        plants.exact_gelu,
    ),
    Mistake(
        "layer-norm epsilon of another model",
        ("huggingface/candle#271",),
        detectors.layer_norm_epsilon_counts,
        plants.fixed_epsilon(1e-12),
    ),
    Mistake(
        "layer-norm epsilon not read from the configuration",
        ("huggingface/candle#271",),
        detectors.layer_norm_epsilon_counts,
        plants.fixed_epsilon(1e-5),
    ),
    Mistake(
        "past the last position: a crash below",
        LAST_POSITION,
        detectors.last_position_is_the_last,
        plants.replace("minineo.pretrained.check_inputs", lambda *_: None),
    ),
    Mistake(
        "past the last position: the last one again",
        LAST_POSITION,
        detectors.last_position_is_the_last,
        plants.both(
            plants.replace("minineo.pretrained.check_inputs", lambda *_: None),
            plants.replace("minineo.model.transformer.embedding", plants.clipped_embedding),
        ),
    ),
    Mistake(
        "classifier pools the last position",
        POOLING,
        detectors.classifier_reads_the_last_token,
        plants.replace("minineo.model.heads.last_token", plants.pool_the_last),
    ),
    Mistake(
        "classifier pools before the first padding id",
        POOLING,
        detectors.classifier_reads_the_last_token,
        plants.replace("minineo.model.heads.last_token", plants.pool_before_the_first_padding),
    ),
    Mistake(
        "classifier pools by the number of tokens",
        POOLING,
        detectors.classifier_reads_the_last_token,
        plants.replace("minineo.model.heads.last_token", plants.pool_by_length),
    ),
    Mistake(
        "float64 from a constant in the MLP",
        FLOAT64,
        detectors.numbers_stay_float32,
        plants.replace("minineo.model.block.mlp", plants.wide_mlp),
    ),
    Mistake(
        "float64 from a constant in the softmax",
        FLOAT64,
        detectors.numbers_stay_float32,
        plants.replace("minineo.layers.attention.softmax", plants.wide_softmax),
    ),
    Mistake(
        "float64 from epsilon in the layer norm",
        FLOAT64,
        detectors.numbers_stay_float32,
        plants.replace("minineo.model.transformer.layer_norm", plants.wide_layer_norm),
    ),
]


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("detector", {mistake.detector: None for mistake in MISTAKES}, ids=lambda d: d.__name__)
def test_minineo_has_none_of_them(detector: Callable[[Any], None], layers: str) -> None:
    with computing_with(layers):
        detector(classes)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_planted_mistake_is_seen(mistake: Mistake, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake.plant(monkeypatch)
    with computing_with("reference"), pytest.raises(AssertionError):
        mistake.detector(classes)
