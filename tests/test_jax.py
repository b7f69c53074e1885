"""JAX arrays: calls and generation as with NumPy's; jit, grad and vmap of the pure functions; grad is our backward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from conftest import require
from tiny_models import ALL_CLASSES, IDS, LABELS, MASK, tiny, tokens

from minineo.classes import (
    GPTNeoForCausalLM,
    GPTNeoForSequenceClassification,
    GPTNeoForTokenClassification,
    GPTNeoModel,
)
from minineo.layers.dropout import DropoutMasks
from minineo.model import heads
from minineo.model.heads_backward import loss_and_grads

pytestmark = pytest.mark.oracle

WITH_LOSS = [cls for cls in ALL_CLASSES if cls is not GPTNeoModel]
TOLERANCES = {np.float32: 1e-5, np.float64: 1e-10}


@pytest.fixture(autouse=True, scope="module")
def _compiles_quickly() -> Iterator[None]:
    """What is compiled here runs once: most of the time would go into making it fast."""
    config = require("jax").config
    config.update("jax_disable_most_optimizations", True)
    yield
    config.update("jax_disable_most_optimizations", False)


def moved(value: Any) -> Any:
    """NumPy's arrays as JAX's, in dictionaries too."""
    jnp = require("jax").numpy
    if isinstance(value, dict):
        return {name: moved(item) for name, item in value.items()}
    return jnp.asarray(value)


def on_jax(model: Any) -> Any:
    return type(model)(model.config, moved(model.params))


@contextmanager
def numbers(dtype: Any) -> Iterator[None]:
    """With 64-bit numbers, or without them, as JAX is by default."""
    jax = require("jax")
    with jax.enable_x64(dtype is np.float64):
        yield


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Equal but for that part of the largest value."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-30))


@pytest.mark.parametrize("cls", ALL_CLASSES)
class TestEveryClass:
    def inputs(self, cls: Any) -> dict[str, np.ndarray]:
        positions = np.maximum(MASK.cumsum(1) - 1, 0)
        return {"input_ids": IDS, "attention_mask": MASK, "position_ids": positions, **LABELS[cls.__name__]}

    def test_apply_in_jit(self, cls: Any) -> None:
        jax = require("jax")
        model = tiny(cls)
        inputs = self.inputs(cls) | {"token_type_ids": IDS[:, ::-1].copy()}
        output = jax.jit(model.apply)(moved(model.params), **moved(inputs))
        expected = model(**inputs, use_cache=False)
        assert list(output) == sorted(expected.keys())  # JAX sorts the keys of dictionaries
        for name, value in expected.items():
            assert_close(output[name], value)

    def test_vmap_over_a_batch(self, cls: Any) -> None:
        jax = require("jax")
        model = tiny(cls, pad_token_id=None)
        ids = tokens(3, 6)
        params = moved(model.params)
        output = jax.jit(jax.vmap(lambda row: model.apply(params, row[None, :])))(moved(ids))
        first = next(iter(model(ids[:1], use_cache=False).keys()))
        rows = np.concatenate([np.asarray(model(ids[i : i + 1], use_cache=False)[first]) for i in range(3)])
        assert_close(output[first][:, 0], rows)


@pytest.mark.parametrize(("cls", "dtype"), [(GPTNeoForCausalLM, np.float32), *((cls, np.float64) for cls in WITH_LOSS)])
def test_grad_is_the_hand_written_backward(cls: Any, dtype: Any) -> None:
    """Differentiated by JAX, forward gives what backward, written by hand, gives in NumPy."""
    model = tiny(cls, "gl", dtype=dtype, tie_word_embeddings=cls is GPTNeoForCausalLM)
    check_gradients(model, {"attention_mask": MASK, **LABELS[cls.__name__]}, dtype)


@pytest.mark.parametrize("activation", ["gelu", "gelu_fast", "relu", "silu", "tanh"])
def test_grad_of_every_activation(activation: str) -> None:
    model = tiny(GPTNeoForCausalLM, "g", activation_function=activation, tie_word_embeddings=False)
    check_gradients(model, {"labels": IDS}, np.float32)


def test_grad_with_dropout() -> None:
    rates = dict.fromkeys(("resid_dropout", "embed_dropout", "attention_dropout", "classifier_dropout"), 0.3)
    model = tiny(GPTNeoForTokenClassification, "gl", **rates)
    check_gradients(model, {"labels": IDS % 4}, np.float32, masks=DropoutMasks(model.config, seed=1, step=2))


def test_the_hand_written_backward_runs_on_jax_arrays_and_in_jit() -> None:
    jax = require("jax")
    model = tiny(GPTNeoForCausalLM, "gl")
    loss, grads = model.loss_and_grads(IDS, MASK, labels=IDS)

    def both(params: Any, input_ids: Any, mask: Any) -> Any:
        inputs = {"attention_mask": mask}
        return loss_and_grads(heads.causal_lm, params, model.config, input_ids, inputs, {"labels": input_ids})

    found = jax.jit(both)(moved(model.params), moved(IDS), moved(MASK))
    assert_close(found[0], loss)
    for name, gradient in grads.items():
        assert_close(found[1][name], gradient)


def check_gradients(model: Any, inputs: dict[str, np.ndarray], dtype: Any, **masks: Any) -> None:
    jax = require("jax")
    loss, grads = model.loss_and_grads(IDS, **inputs, **masks)
    with numbers(dtype):
        params, arrays = moved(model.params), moved({"input_ids": IDS, **inputs})
        loss_of = jax.value_and_grad(lambda params: model.apply(params, **arrays, **masks)["loss"])
        value, found = jax.jit(loss_of)(params)
    assert_close(value, loss, TOLERANCES[dtype])
    # some are 0 but for rounding: a shift of all scores of a softmax changes nothing
    largest = max(float(np.abs(gradient).max()) for gradient in grads.values())
    for name, gradient in grads.items():
        scale = max(1.0, 0.01 * largest / float(np.abs(gradient).max()))
        assert_close(found[name], gradient, TOLERANCES[dtype] * scale)


def test_gradients_of_each_text_of_a_batch() -> None:
    jax = require("jax")
    model = tiny(GPTNeoForCausalLM, "gl")
    ids = tokens(3, 6)

    def loss(params: Any, row: Any) -> Any:
        return heads.causal_lm(params, model.config, row[None, :], labels=row[None, :], use_cache=False).loss

    found = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))(moved(model.params), moved(ids))
    for i in range(3):
        _, grads = model.loss_and_grads(ids[i : i + 1], labels=ids[i : i + 1])
        for name, gradient in grads.items():
            assert_close(found[name][i], gradient)


@pytest.mark.parametrize(
    "options",
    [{}, {"do_sample": True, "top_p": 0.6, "seed": 1}, {"num_beams": 2}],
)
def test_generation(options: dict[str, Any]) -> None:
    model = tiny(GPTNeoForCausalLM, "gl")
    expected = model.generate(IDS, MASK, max_new_tokens=2, **options)  # with each token, JAX compiles for new shapes
    found = on_jax(model).generate(moved(IDS), moved(MASK), max_new_tokens=2, **options)
    np.testing.assert_array_equal(np.asarray(found), expected)


def test_calls_and_a_cached_continuation() -> None:
    model = tiny(GPTNeoForCausalLM, "gl")
    other = on_jax(model)
    ids, mask = (np.concatenate([array, array[:, -1:]], axis=1) for array in (IDS, MASK))
    first = other(moved(IDS), moved(MASK), labels=moved(IDS))
    assert_close(first.loss, model(IDS, MASK, labels=IDS).loss)
    second = other(moved(ids[:, 6:]), moved(mask), past_key_values=first.past_key_values)
    assert_close(second.logits, model(ids, mask).logits[:, 6:])


def test_mixtures_are_errors_that_name_both() -> None:
    model = tiny(GPTNeoForSequenceClassification)
    with pytest.raises(TypeError, match=r"input_ids: received an array of jax, but the model's .* of numpy"):
        model(moved(IDS))
    with pytest.raises(TypeError, match=r"labels: received an array of numpy, but the model's parameters are of jax"):
        on_jax(model)(moved(IDS), labels=np.array([1, 2]))
