"""The transformer: what is embedded, which layer is local, what a cache and padding do, and in which precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_models import ALL_CLASSES, tiny, tokens

from minineo.classes import GPTNeoForCausalLM, GPTNeoModel
from minineo.model.transformer import transformer
from minineo.tap import Recorder

pytestmark = pytest.mark.usefixtures("reference")


def test_embeddings_are_summed() -> None:
    model, trace = tiny(GPTNeoModel), Recorder()
    ids, types = tokens(2, 4, seed=1), tokens(2, 4, seed=2)
    positions = np.array([[3, 1, 0, 7], [2, 2, 2, 2]])
    model(ids, position_ids=positions, token_type_ids=types, tap=trace)
    wte, wpe = model.params["wte.weight"], model.params["wpe.weight"]
    np.testing.assert_array_equal(trace["wte"], wte[ids])
    np.testing.assert_array_equal(trace["wpe"], wpe[positions])
    np.testing.assert_array_equal(trace["wtt"], wte[types])  # token types share the tokens' own table
    np.testing.assert_array_equal(trace["embed"], wte[ids] + wpe[positions] + wte[types])


def test_positions_count_from_the_past_on() -> None:
    model, trace = tiny(GPTNeoModel), Recorder(["wpe"])
    past = model(tokens(2, 5)).past_key_values
    model(tokens(2, 3), past_key_values=past, tap=trace)
    np.testing.assert_array_equal(trace["wpe"], model.params["wpe.weight"][None, 5:8])


def test_embeddings_as_input() -> None:
    model, ids = tiny(GPTNeoModel), tokens(2, 5)
    embeds = model.params["wte.weight"][ids]
    np.testing.assert_array_equal(model(inputs_embeds=embeds)[0], model(ids)[0])


@pytest.mark.parametrize("layers", ["gl", "lg", "gg", "ll", "gllg", "lgg"])
def test_each_layer_is_local_or_global_as_the_configuration_says(layers: str) -> None:
    output = tiny(GPTNeoModel, layers, window_size=2)(tokens(1, 6), output_attentions=True)
    far = np.tril(np.ones((6, 6), bool), -2)
    for kind, pattern in zip(layers, output.attentions, strict=True):
        assert (pattern[0][:, far] > 0).all() if kind == "g" else not pattern[0][:, far].any()
        assert not pattern[0][:, np.triu(np.ones((6, 6), bool), 1)].any()


def test_a_mask_hides_keys_in_every_layer() -> None:
    model = tiny(GPTNeoModel, "glg")
    mask = np.array([[1, 1, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
    output = model(tokens(2, 6), mask, output_attentions=True)
    for pattern in output.attentions:
        assert not pattern[0, :, 3:, 2].any()
        assert not pattern[1, :, 2:, :2].any()


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_, np.float32])
def test_masks_of_any_dtype(dtype: Any) -> None:
    model, ids = tiny(GPTNeoModel), tokens(2, 5)
    mask = np.array([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    np.testing.assert_array_equal(model(ids, mask.astype(dtype))[0], model(ids, mask)[0])


@pytest.mark.parametrize("integer", [np.int32, np.uint8, np.int16])
def test_token_ids_of_any_integer_type(integer: Any) -> None:
    model, ids = tiny(GPTNeoModel), tokens(2, 5)
    np.testing.assert_array_equal(model(ids.astype(integer))[0], model(ids)[0])


@pytest.mark.parametrize("cls", ALL_CLASSES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("activation", ["gelu_new", "gelu", "silu", "relu"])
def test_every_intermediate_has_the_dtype_that_it_should(cls: Any, dtype: Any, activation: str) -> None:
    model, trace, ids = tiny(cls, dtype=dtype, activation_function=activation), Recorder(), tokens(2, 5)
    mask = np.array([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    output = model(ids, mask, positions, token_type_ids=ids, tap=trace)
    wide = np.float64 if dtype == np.float64 else np.float32
    for name, value in trace.items():
        assert value.dtype == (wide if name.endswith(("scores", "pattern")) else dtype), name
    assert output[0].dtype == dtype
    for keys, values in output.get("past_key_values", ()):
        assert keys.dtype == values.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_continuation_keeps_the_dtype(dtype: Any) -> None:
    model, trace = tiny(GPTNeoForCausalLM, dtype=dtype), Recorder()
    past = model(tokens(1, 5)).past_key_values
    output = model(tokens(1, 2), past_key_values=past, tap=trace)
    assert output.logits.dtype == output.past_key_values[1][0].dtype == dtype
    assert trace["h.1.ln_1"].dtype == dtype


def test_arguments_are_left_as_they_were() -> None:
    model, ids, mask = tiny(GPTNeoModel), tokens(2, 5), np.array([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    params = {name: array.copy() for name, array in model.params.items()}
    copies = ids.copy(), mask.copy()
    past = model(ids, mask).past_key_values
    kept = [(keys.copy(), values.copy()) for keys, values in past]
    model(ids, np.concatenate([mask, mask], axis=1), past_key_values=past)
    np.testing.assert_array_equal(ids, copies[0])
    np.testing.assert_array_equal(mask, copies[1])
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, params[name])
    for before, after in zip(kept, past, strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_class_adds_nothing_but_names() -> None:
    model, ids = tiny(GPTNeoForCausalLM), tokens(1, 4)
    base = transformer(model.params, model.config, ids, prefix="transformer.")
    np.testing.assert_array_equal(model(ids).logits, base.last_hidden_state @ model.params["transformer.wte.weight"].T)
