"""The CUDA kernels against the reference layers: here by an emulation on a processor, with a GPU there (`-m gpu`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_emulation import compiled, use_emulated_kernels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import tiny, tokens

from minineo.classes import GPTNeoForCausalLM
from minineo.fast_cupy import FAST_CUPY, decoding, kernels
from minineo.fast_cupy.decoding import Decoder, can_decode, decoded
from minineo.layers.activations import gelu_new
from minineo.layers.attention import visible
from minineo.layers.layer_norm import layer_norm
from minineo.layers.softmax import softmax

pytestmark = pytest.mark.emulation

SETTINGS = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="session")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels", numbered=False)


@pytest.fixture(autouse=True)
def _emulated(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    use_emulated_kernels(monkeypatch, _folder)


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@SETTINGS
@given(rows=st.integers(1, 5), D=st.integers(1, 300), seed=st.integers(0, 99))
def test_layer_norm_and_gelu(rows: int, D: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, weight, bias = (random.normal(0.5, 2.0, shape).astype(np.float32) for shape in ((rows, D), D, D))
    assert_close(kernels.layer_norm(x, weight, bias, 1e-5), layer_norm(x, weight, bias, 1e-5), 2e-5)
    assert_close(kernels.gelu_new(x), gelu_new(x))


@SETTINGS
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 9), st.integers(0, 9)),
    window=st.none() | st.integers(1, 12),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
def test_masked_softmax(shape: tuple[int, ...], window: int | None, padded: bool, seed: int) -> None:
    B, H, T, past = shape
    S = T + past
    random = np.random.default_rng(seed)
    scores = random.normal(0, 4, (B, H, T, S)).astype(np.float32)
    real = random.random((B, S)) < 0.6 if padded else None
    masked = scores if real is None else np.where(real[:, None, None, :], scores, np.finfo(np.float32).min)
    expected = softmax(np.where(visible(T, S, window, scores), masked, np.float32(-np.inf)))
    assert_close(kernels.masked_softmax(scores, window, real, np.float32), expected)


@pytest.mark.parametrize("fields", [{}, {"tie_word_embeddings": False}, {"activation_function": "relu"}])
def test_the_transformer(fields: dict[str, Any]) -> None:
    model = tiny(GPTNeoForCausalLM, "glg", **fields)
    mask = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
    ids = tokens(2, 6)
    forward = type(model).forward
    output = forward(model.params, model.config, ids, attention_mask=mask, functions=FAST_CUPY)
    expected = model(ids, mask)
    assert_close(output.logits, expected.logits)
    more = {"attention_mask": np.ones((2, 8), np.int64), "past_key_values": output.past_key_values}
    continued = forward(model.params, model.config, tokens(2, 2), functions=FAST_CUPY, **more)
    more["past_key_values"] = expected.past_key_values
    assert_close(continued.logits, model(tokens(2, 2), **more).logits)


def test_parameters_of_two_dtypes_are_for_the_reference() -> None:
    model = tiny(GPTNeoForCausalLM, "gl")
    norm = "transformer.ln_f.weight"
    model.params[norm] = model.params[norm].astype(np.float64)
    output = type(model).forward(model.params, model.config, tokens(1, 4), functions=FAST_CUPY)
    assert_close(output.logits, type(model).forward(model.params, model.config, tokens(1, 4)).logits)
    assert not can_decode(model.params, model.config, 9)


def test_what_a_block_shares_fits_beside_what_its_sums_take() -> None:
    """A GPU refuses a launch with more than 48 KiB; nvrtc counts 272 bytes of static memory for `attend`."""
    assert 4 * decoding.SHARED_FLOATS + 272 <= 48 * 1024


@pytest.mark.parametrize("prompt", [1, 2, 7])
@pytest.mark.parametrize(
    ("layers", "fields"),
    [
        ("glg", {}),
        ("ll", {"window_size": 1}),
        ("gl", {"hidden_size": 40, "num_heads": 1, "tie_word_embeddings": False}),
    ],
)
def test_greedy_decoding(prompt: int, layers: str, fields: dict[str, Any]) -> None:
    model = tiny(GPTNeoForCausalLM, layers, **fields)
    ids = tokens(1, prompt)
    expected = model.generate(ids, max_new_tokens=8, eos_token_id=None)[0, prompt:]
    found = list(decoded(model.params, model.config, ids, cache_before_the_last(model, ids), 8))
    assert found == expected.tolist()


def cache_before_the_last(model: Any, ids: np.ndarray) -> Any:
    """The cache of all tokens but the last; of a single token, an empty one."""
    return model(ids[:, :-1]).past_key_values if ids.shape[1] > 1 else None


@pytest.mark.parametrize("prompt", [2, 7])
def test_the_logits_of_every_step(prompt: int) -> None:
    model = tiny(GPTNeoForCausalLM, "glgl", window_size=3)
    ids = tokens(1, 9)
    decoder = Decoder(model.params, model.config, ids[:, :prompt], cache_before_the_last(model, ids[:, :prompt]), 9)
    for position in range(prompt - 1, 9):
        assert int(decoder.position[0]) == position
        decoder.tokens[position] = ids[0, position]  # dictated
        decoder.step()
        assert_close(decoder.logits, model(ids[:, : position + 1]).logits[0, -1])


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.5, 0), (1.5, 5), (1.0, 19), (1.0, 1)])
def test_tokens_are_drawn_with_the_probabilities_of_the_softmax(temperature: float, top_k: int) -> None:
    model = tiny(GPTNeoForCausalLM, "g")
    logits = np.random.default_rng(5).normal(0, 1.5, 19).astype(np.float32)
    kept = np.where(logits >= np.sort(logits)[-top_k] if top_k else True, logits, -np.inf)
    expected = softmax(kept / temperature)
    ids = tokens(1, 1)
    decoder = Decoder(model.params, model.config, ids, None, 600, temperature, top_k, key=7)
    counts = np.zeros(19)
    for _ in range(400):
        arguments = (logits, decoder.tokens, decoder.position, temperature, top_k, decoder.key, 19)
        kernels.launch("choose_token", np.float32, 1, *arguments, threads=32)
        counts[decoder.tokens[int(decoder.position[0])]] += 1
    assert counts[expected == 0].sum() == 0
    deviations = (counts - 400 * expected)[expected > 0] / np.sqrt(400 * expected * (1 - expected) + 1e-9)[expected > 0]
    assert np.abs(deviations).max() < 4.5 or top_k == 1


def test_another_key_draws_other_tokens_and_the_same_key_the_same() -> None:
    model = tiny(GPTNeoForCausalLM, "gl")
    ids = tokens(1, 3)
    cache = cache_before_the_last(model, ids)
    drawn = [list(decoded(model.params, model.config, ids, cache, 12, temperature=1.5, key=key)) for key in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


MISTAKES = [
    ("query - window + 1", "query - window"),
    ("last - window + 1", "last - window"),
    ("j <= query; j += blockDim.x)\n        largest", "j < query; j += blockDim.x)\n        largest"),
    ("/ D + epsilon", "/ (D - 1) + epsilon"),
    ("0.044715f", "0.05f"),
    ("0x80000000u ? ~bits", "0x80000000u ? bits"),
    ("*position += 1", "*position += 2"),
    ("x[row] += sum", "x[row] = sum"),
    ("(last - first + parts) / parts", "(last - first + 1) / parts"),
    ("total += scale * one[i]", "total += one[i]"),
    ("done[head] = 0", "done[head] = 1"),
    ("__syncthreads();  // the parts of an earlier", "// the parts of an earlier"),
    ("+ float(bias[i]);\n    __syncthreads();", "+ float(bias[i]);"),
]


@pytest.fixture(scope="session")
def mistaken(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    source = kernels.source()
    missing = [right for right, _ in MISTAKES if right not in source]
    assert not missing, "not in the source any more"
    return compiled(tmp_path_factory.mktemp("mistakes"), [source.replace(*mistake) for mistake in MISTAKES])


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[wrong for _, wrong in MISTAKES])
def test_a_planted_mistake_is_seen(number: int, mistaken: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "module", lambda dtype: mistaken[number])
    with pytest.raises(AssertionError):
        _everything()


def _everything() -> None:
    test_layer_norm_and_gelu.hypothesis.inner_test(rows=2, D=100, seed=1)
    test_masked_softmax.hypothesis.inner_test(shape=(2, 2, 5, 4), window=3, padded=True, seed=1)
    test_the_logits_of_every_step(2)
    test_the_transformer({})
    test_greedy_decoding(7, "glg", {})
    test_tokens_are_drawn_with_the_probabilities_of_the_softmax(1.5, 5)
