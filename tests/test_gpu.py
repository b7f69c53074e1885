"""The parity suite of a GPU: CuPy's results against NumPy's and the reference's. `python -m pytest -m gpu` runs it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ALL_CLASSES, IDS, LABELS, MASK, tiny, tokens

import minineo
from minineo.classes import GPTNeoForCausalLM, GPTNeoModel
from minineo.devices import check_device, to_device
from minineo.fast_cupy import kernels
from minineo.layers.activations import gelu_new
from minineo.layers.attention import visible
from minineo.layers.layer_norm import layer_norm
from minineo.layers.softmax import softmax
from minineo.tap import Recorder
from minineo.training.device_step import DeviceTrainingStep
from minineo.training.optimisers import AdamW, Muon
from minineo.training.step import TrainingStep

pytestmark = pytest.mark.gpu

TOLERANCES = {"float32": 1e-5, "float16": 4e-3, "float64": 1e-12}
DTYPES = ["float32", "float16"]
SETTINGS = settings(max_examples=50, deadline=None)


@pytest.fixture(autouse=True)
def _gpu() -> None:
    try:
        check_device("cuda")
    except (ImportError, OSError) as error:
        pytest.skip(str(error))


def there(value: Any) -> Any:
    """NumPy's arrays on the GPU, in dictionaries too."""
    if isinstance(value, dict):
        return {name: there(item) for name, item in value.items()}
    return to_device(value, "cuda") if isinstance(value, np.ndarray) else value


def assert_close(actual: Any, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    found = to_device(actual, "cpu")
    assert type(actual).__module__.startswith("cupy")
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-30))


@SETTINGS
@given(rows=st.integers(1, 9), D=st.integers(1, 3000), seed=st.integers(0, 999), dtype=st.sampled_from(DTYPES))
def test_layer_norm_and_gelu(rows: int, D: int, seed: int, dtype: str) -> None:
    random = np.random.default_rng(seed)
    x, weight, bias = (random.normal(0.5, 2.0, shape).astype(dtype) for shape in ((rows, D), D, D))
    x, weight, bias = there(x), there(weight), there(bias)
    expected = to_device(layer_norm(x, weight, bias, 1e-5), "cpu")
    assert_close(kernels.layer_norm(x, weight, bias, 1e-5), expected, TOLERANCES[dtype])
    wide = gelu_new(to_device(x, "cpu").astype(np.float32)).astype(dtype)
    assert_close(kernels.gelu_new(x), wide, TOLERANCES[dtype])


@SETTINGS
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 80), st.integers(0, 600)),
    window=st.none() | st.integers(1, 300),
    padded=st.booleans(),
    seed=st.integers(0, 999),
    dtype=st.sampled_from(DTYPES),
)
def test_masked_softmax(shape: Any, window: int | None, padded: bool, seed: int, dtype: str) -> None:
    B, H, T, past = shape
    random = np.random.default_rng(seed)
    scores = random.normal(0, 4, (B, H, T, T + past)).astype(np.float32)
    real = random.random((B, T + past)) < 0.6 if padded else None
    masked = scores if real is None else np.where(real[:, None, None, :], scores, np.finfo(np.float32).min)
    expected = softmax(np.where(visible(T, T + past, window, scores), masked, np.float32(-np.inf))).astype(dtype)
    assert_close(kernels.masked_softmax(there(scores), window, there(real), dtype), expected, TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("cls", ALL_CLASSES)
class TestEveryClass:
    def test_a_call(self, cls: Any, dtype: str) -> None:
        model = tiny(cls, "glg", dtype=np.float64, tie_word_embeddings=False)
        inputs = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": IDS, **LABELS[cls.__name__]}
        expected = model(**inputs, use_cache=False)
        model.to("cuda", dtype=dtype)
        for flags in ({}, {"output_attentions": True}):  # the fast functions, and the reference's
            output = model(**there(inputs), use_cache=False, **flags)
            for name, value in expected.items():
                found = to_device(output[name], "cpu").astype(np.float64)
                atol = max(TOLERANCES[dtype], 1e-12) * 4 * np.abs(value).max()
                np.testing.assert_allclose(found, value, rtol=0, atol=atol)

    def test_loss_and_grads(self, cls: Any, dtype: str) -> None:
        if cls is GPTNeoModel or dtype == "float16":
            return
        model = tiny(cls, "gl", dtype=np.dtype(dtype))
        inputs = {"input_ids": IDS, "attention_mask": MASK, **LABELS[cls.__name__]}
        loss, grads = model.loss_and_grads(**inputs)
        found_loss, found = model.to("cuda").loss_and_grads(**there(inputs))
        largest = max(float(np.abs(gradient).max()) for gradient in grads.values())
        assert float(found_loss) == pytest.approx(float(loss), rel=TOLERANCES[dtype])
        for name, gradient in grads.items():
            scale = max(1.0, 0.01 * largest / float(np.abs(gradient).max()))
            assert_close(found[name], gradient, 2 * TOLERANCES[dtype] * scale)


def test_float16_keeps_scores_softmax_and_losses_in_float32() -> None:
    model = tiny(GPTNeoForCausalLM, "gl").to("cuda", dtype="float16")
    trace = Recorder()
    output = model(there(IDS), labels=there(IDS), tap=trace)
    assert output.loss.dtype == np.float32
    wide = {"h.0.attn.scores", "h.0.attn.pattern", "h.1.attn.scores", "h.1.attn.pattern"}
    assert {name for name, value in trace.items() if value.dtype == np.float32} == wide


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prompt", [1, 2, 40])
def test_replayed_decoding_gives_the_tokens_of_the_search(prompt: int, dtype: str) -> None:
    from minineo.fast_cupy.decoding import Decoder

    model = tiny(GPTNeoForCausalLM, "glgl", window_size=7, max_position_embeddings=96, hidden_size=48)
    ids = tokens(1, prompt)
    expected = model.generate(ids, max_new_tokens=50, eos_token_id=None)
    model.to("cuda", dtype=dtype)
    if dtype == "float32":
        found = model.generate(there(ids), max_new_tokens=50, eos_token_id=None)
        np.testing.assert_array_equal(to_device(found, "cpu"), expected)
    text = there(expected)
    cache = model(text[:, :1]).past_key_values  # dictated tokens: logits can be compared in float16, too
    decoder = Decoder(model.params, model.config, text[:, :2], cache, text.shape[1])
    for position in range(1, text.shape[1]):
        decoder.tokens[position] = text[0, position]
        decoder.step()
    logits = to_device(model(text).logits[0, -1], "cpu").astype(np.float32)
    assert_close(decoder.logits, logits, 4 * TOLERANCES[dtype])


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"repetition_penalty": 1.3}, {"prompt_lookup_num_tokens": 3}])
def test_other_searches(options: dict[str, Any]) -> None:
    model = tiny(GPTNeoForCausalLM, "gl", window_size=6)
    ids = tokens(1, 5)
    expected = model.generate(ids, max_new_tokens=10, **options)
    found = model.to("cuda").generate(there(ids), max_new_tokens=10, **options)
    np.testing.assert_array_equal(to_device(found, "cpu"), expected)


def test_texts() -> None:
    greedy = {"do_sample": False, "max_new_tokens": 30}
    assert minineo.generate("Once upon a time", device="cuda", **greedy) == minineo.generate(
        "Once upon a time", **greedy
    )
    text = minineo.generate("Once upon a time", device="cuda", seed=3)
    pieces = minineo.stream("Once upon a time", device="cuda", seed=3)
    assert "Once upon a time" + "".join(pieces) == text


@pytest.mark.parametrize("make", [AdamW, Muon])
def test_training_steps(make: Any) -> None:
    here, gpu = tiny(GPTNeoForCausalLM, "gl"), tiny(GPTNeoForCausalLM, "gl").to("cuda")
    optimisers = [make(), make()]
    with TrainingStep(here) as step:
        for i in range(3):
            windows = tokens(3, 9, seed=i)
            loss, grads = step(windows)
            found_loss, found = DeviceTrainingStep(gpu)(windows)
            assert found_loss == pytest.approx(loss, rel=1e-4)
            optimisers[0].step(here.params, grads, 1e-3)
            optimisers[1].step(gpu.params, found, 1e-3)
    for name, array in here.params.items():
        assert_close(gpu.params[name], array, 1e-3)


def test_mixtures_are_errors_that_name_both() -> None:
    model = tiny(GPTNeoForCausalLM)
    with pytest.raises(TypeError, match="received an array of cupy, but the model's parameters are of numpy"):
        model(there(IDS))
    with pytest.raises(TypeError, match="received an array of numpy, but the model's parameters are of cupy"):
        model.to("cuda")(IDS)
