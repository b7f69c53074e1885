"""The decoder against calls of the reference, products of few rows, threads, and how weights lie in memory."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fast import DTYPES, assert_close, drawn
from tiny_models import tiny, tokens

from minineo import fast
from minineo.classes import GPTNeoForCausalLM
from minineo.fast import attention, layout, linear, losses, threads, transformer
from minineo.fast.decoding import Decoder
from minineo.generation.generate import generate_steps
from minineo.generation.prompt import positions
from minineo.generation.reading import decoder_of
from minineo.layers.attention import attention as reference_attention
from minineo.layers.softmax import log_softmax
from minineo.model.heads import REFERENCE, causal_lm
from minineo.model.transformer import transformer as reference_transformer

few = settings(deadline=None, max_examples=40)


@st.composite
def prompts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray | None]:
    """Ids (B, T), and a mask with padding anywhere but at the end, or None."""
    B, T, seed = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(0, 99))
    ids = tokens(B, T, seed=seed)
    if draw(st.booleans()):
        return ids, None
    mask = (np.random.default_rng(seed).random((B, T)) < draw(st.floats(0.0, 1.0))).astype(np.int64)
    mask[:, -1] = 1
    return ids, mask


@pytest.mark.parametrize("share", [False, True])
@few
@given(prompts(), st.integers(1, 12), st.sampled_from(["gl", "lg", "ll", "gg"]), st.integers(1, 25), DTYPES)
def test_a_decoder_gives_what_calls_of_the_reference_give(share, prompt, window, layers, steps, dtype):
    with pytest.MonkeyPatch.context() as patch:
        if share:
            patch.setattr(linear, "WORTH_SLICING", 0)
            patch.setattr(linear, "WORTH_SHARING", 0)
            patch.setattr(attention, "READING_WORTH_SHARING", 0)
            for module in (linear, attention, threads):
                patch.setattr(module, "count", lambda: 3)
        check_decoder(prompt, window, layers, steps, dtype)


def check_decoder(
    prompt: tuple[np.ndarray, np.ndarray | None], window: int, layers: str, steps: int, dtype: Any
) -> None:
    ids, mask = prompt
    model = tiny(GPTNeoForCausalLM, layers, window_size=window, dtype=dtype)
    steps = min(steps, model.config.max_position_embeddings - ids.shape[1])
    first: dict[str, Any] = {} if mask is None else {"attention_mask": mask, "position_ids": positions(mask)}
    output = causal_lm(model.params, model.config, ids, functions=REFERENCE, **first)
    cache, decoder = output.past_key_values, None
    buffers: list[int] = []
    for step in range(steps):
        new = tokens(len(ids), 1, seed=step)
        more: dict[str, Any] = {}
        if mask is not None:
            mask = np.concatenate([mask, np.ones_like(new)], axis=1)
            more = {"attention_mask": mask, "position_ids": positions(mask)[:, -1:]}
        if decoder is None:
            seen = None if mask is None else mask[:, :-1]
            decoder = Decoder(model.params, model.config, cache, seen, ids.shape[1] + steps)
            buffers = [layer.kv.ctypes.data for layer in decoder.layers]
        output = causal_lm(model.params, model.config, new, past_key_values=cache, functions=REFERENCE, **more)
        cache = output.past_key_values
        assert_close(decoder.step(new[:, 0]), output.logits[:, 0])
    assert decoder is not None
    assert [layer.kv.ctypes.data for layer in decoder.layers] == buffers
    for layer, kept, expected in zip(decoder.layers, decoder.cache(), cache, strict=True):
        if layer.window is not None:
            assert layer.kv.shape[3] <= layer.window
        for found, wanted in zip(kept, expected, strict=True):
            assert_close(found, wanted)
    assert decoder.cache().length == cache.length


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("sequences", [1, 3])
def test_generate_decodes_so_and_returns_the_cache_of_calls(padded, sequences, monkeypatch):
    model = tiny(GPTNeoForCausalLM, "gl", window_size=5)
    ids, mask = tokens(2, 6), None
    if padded:
        mask = np.ones_like(ids)
        mask[0, :3] = 0
    steps = []
    plain = Decoder.step

    def counted(self: Decoder, new: np.ndarray) -> np.ndarray:
        steps.append(len(new))
        return plain(self, new)

    monkeypatch.setattr(Decoder, "step", counted)
    arguments: dict[str, Any] = {"max_new_tokens": 8, "do_sample": sequences > 1, "seed": 3, "eos_token_id": None}
    arguments |= {"num_return_sequences": sequences, "return_dict_in_generate": True, "output_logits": True}
    found = model.generate(ids, mask, **arguments)
    assert steps == [2 * sequences] * 7
    monkeypatch.setattr("minineo.fast.choose.FAST", REFERENCE)
    expected = model.generate(ids, mask, **arguments)
    assert len(steps) == 7
    assert np.array_equal(found.sequences, expected.sequences)
    for logits, wanted in zip(found.logits, expected.logits, strict=True):
        assert_close(logits, wanted)
    assert found.past_key_values.length == expected.past_key_values.length
    for kept, its in zip(found.past_key_values, expected.past_key_values, strict=True):
        assert_close(kept[0], its[0])
        assert_close(kept[1], its[1])


def test_a_model_whose_call_is_another_one_is_called():
    class Doubtful(GPTNeoForCausalLM):
        def __call__(self, *inputs: Any, **named: Any) -> Any:
            output = super().__call__(*inputs, **named)
            output.logits[..., 7] += 1000.0
            return output

    model = tiny(GPTNeoForCausalLM, "gl")
    assert decoder_of(model) is Decoder
    doubtful = Doubtful(model.config, model.params)
    assert decoder_of(doubtful) is None
    assert np.all(doubtful.generate(tokens(1, 3), max_new_tokens=5)[:, 3:] == 7)


@few
@given(st.integers(0, 99), st.integers(1, 80), st.integers(1, 60), st.integers(1, 700), DTYPES, st.booleans())
def test_product(seed, rows, width, wide, dtype, share):
    x, weight = drawn(seed, rows, width, dtype=dtype), drawn(seed + 1, wide, width, dtype=dtype)
    expected = x @ weight.T
    out = np.full((rows, wide + 3), np.nan, dtype)  # a part of a wider array, as q, k and v write to
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "WORTH_SLICING", 0)
        if share:
            patch.setattr(linear, "WORTH_SHARING", 0)
            patch.setattr(linear, "count", lambda: 3)
            patch.setattr(threads, "count", lambda: 3)
        assert_close(linear.product(x, weight), expected)
        linear.product(x, weight, out=out[:, 1:-2])
    assert_close(np.ascontiguousarray(out[:, 1:-2]), expected)
    assert np.isnan(out[:, 0]).all()
    assert np.isnan(out[:, -2:]).all()


@pytest.mark.parametrize("rows", [2, 5, 12])
def test_product_of_a_few_rows_with_a_long_weight(rows):
    """Long enough for many slices and a rest, and too long a row for any slice."""
    for width in (64, 600_000):
        x, weight = drawn(0, rows, width), drawn(1, 3001 if width == 64 else 3, width)
        assert_close(linear.product(x, weight), x @ weight.T)


@few
@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 40), st.integers(1, 12), st.booleans())
def test_threads_that_share_rows_and_heads_give_what_the_reference_gives(seed, B, T, window, padded):
    model = tiny(GPTNeoForCausalLM, "lg", window_size=window, max_position_embeddings=64)
    ids = tokens(B, T, seed=seed)
    mask = (np.random.default_rng(seed).random((B, T)) < 0.7).astype(np.int64) if padded else None
    expected = reference_transformer(model.params, model.config, ids, mask, prefix="transformer.")
    with pytest.MonkeyPatch.context() as patch:
        for module in (transformer, attention, threads):
            patch.setattr(module, "count", lambda: 3)
        patch.setattr(transformer, "FEWEST", 1)
        patch.setattr(transformer, "ROWS", 4)
        patch.setattr(attention, "WORTH_SHARING", 0)
        found = transformer.transformer(model.params, model.config, ids, mask, prefix="transformer.")
    assert_close(found.last_hidden_state, expected.last_hidden_state)


@given(st.integers(1, 5000), st.integers(1, 9))
def test_row_parts_are_all_rows_once(rows, threads_):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformer, "count", lambda: threads_)
        parts = transformer.row_parts(rows)
    assert np.array_equal(np.concatenate([np.arange(rows)[part] for part in parts]), np.arange(rows))
    if len(parts) > 1:
        assert len(parts) % threads_ == 0  # no core is without work
        sizes = [part.stop - part.start for part in parts]
        assert max(sizes) <= transformer.ROWS
        assert min(sizes[:-1]) >= transformer.FEWEST // 2


def test_q_k_and_v_lie_in_one_array_and_can_be_edited_in_place():
    model = tiny(GPTNeoForCausalLM, "gl")
    params = layout.laid_out(model.params)
    names = [f"transformer.h.1.attn.attention.{name}_proj.weight" for name in "qkv"]
    weight = layout.qkv_weight(params, "transformer.h.1")
    assert weight is not None
    for name, array in model.params.items():
        assert np.array_equal(params[name], array)
    params[names[1]][0, 0] = 17.0
    assert weight[params[names[0]].shape[0], 0] == 17.0
    again = layout.laid_out(params)
    assert all(again[name] is params[name] for name in params)


@pytest.mark.parametrize("order", ["kqv", "qvk", "qqq", "turned", "foreign"])
def test_arrays_that_lie_otherwise_are_three_products(order):
    model = tiny(GPTNeoForCausalLM, "gl")
    params = layout.laid_out(model.params)
    at = "transformer.h.0"
    names = [f"{at}.attn.attention.{name}_proj.weight" for name in "qkv"]
    q, k, v = (params[name] for name in names)
    if order == "turned":  # same base, same beginning, same shape
        arrays = [q, k.T, v]
    elif order == "foreign":  # memory that is no array's
        arrays = [np.ndarray(w.shape, w.dtype, buffer=bytearray(w.tobytes())) for w in (q, k, v)]
    else:
        arrays = [{"q": q, "k": k, "v": v}[name] for name in order]
    swapped = params | dict(zip(names, arrays, strict=True))
    assert layout.qkv_weight(swapped, at) is None
    expected = causal_lm(swapped, model.config, tokens(1, 5), functions=REFERENCE).logits
    assert_close(causal_lm(swapped, model.config, tokens(1, 5), functions=fast.FAST).logits, expected)
    separate = {name: array.copy() for name, array in params.items()}
    assert layout.qkv_weight(separate, at) is None


def test_laying_out_weights_of_another_order_makes_rows():
    """Flax's files hold weights turned, as (in, out), of which the parameters are turned views."""
    model = tiny(GPTNeoForCausalLM, "gl")
    params = layout.laid_out({name: np.asfortranarray(array) for name, array in model.params.items()})
    weight = layout.qkv_weight(params, "transformer.h.0")
    assert weight is not None
    assert weight.flags.c_contiguous
    ids = tokens(2, 5)
    expected = causal_lm(model.params, model.config, ids, functions=REFERENCE).logits
    found = causal_lm(params, model.config, ids[:, :4], functions=fast.FAST)
    assert_close(found.logits, expected[:, :4])
    decoder = Decoder(params, model.config, found.past_key_values, None, 9)
    assert_close(decoder.step(ids[:, 4]), expected[:, 4])


@pytest.mark.parametrize("use_cache", [True, False])
def test_float16_is_not_decoded_in_float16(use_cache):
    """Scores beyond float16's range, which are computed in float32."""
    model = tiny(GPTNeoForCausalLM, "gl", dtype=np.float16)
    for name in model.params:
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            model.params[name] *= np.float16(400.0)
    assert decoder_of(model) is None
    arguments: dict[str, Any] = {"return_dict_in_generate": True, "output_logits": True, "eos_token_id": None}
    logits = model.generate(tokens(1, 3), max_new_tokens=6, use_cache=use_cache, **arguments).logits
    assert all(np.isfinite(step).all() for step in logits)


@pytest.mark.parametrize("padded", [False, True])
def test_parameters_replaced_between_two_tokens_count_as_edited_ones_do(padded):
    def texts(edit: str) -> np.ndarray:
        model = tiny(GPTNeoForCausalLM, "gl", window_size=4)
        mask = np.ones((2, 5), np.int64)
        mask[0, : 2 if padded else 0] = 0
        found = []
        steps = generate_steps(model, tokens(2, 5), mask, max_new_tokens=12, eos_token_id=None)
        for step, new in enumerate(steps):
            found.append(new)
            name = "transformer.ln_f.weight"
            if edit == "replaced" and step in (3, 7):
                model.params[name] = -2.0 * model.params[name]
            elif edit == "in place" and step in (3, 7):
                model.params[name] *= -2.0
        return np.stack(found)

    assert np.array_equal(texts("replaced"), texts("in place"))
    assert not np.array_equal(texts("replaced"), texts("none"))


@pytest.mark.parametrize("turn", [(1, 0, 2), (2, 1, 0)])
def test_embeddings_that_do_not_lie_row_by_row(turn):
    model = tiny(GPTNeoForCausalLM, "gl")
    embeds = drawn(0, 2, 5, 12)
    lying = np.ascontiguousarray(embeds.transpose(turn)).transpose(np.argsort(turn))
    assert np.array_equal(lying, embeds)
    expected = causal_lm(model.params, model.config, inputs_embeds=embeds, functions=REFERENCE).logits
    assert_close(model(inputs_embeds=lying).logits, expected)
    assert_close(model(inputs_embeds=lying, position_ids=np.arange(5)[None, :]).logits, expected)


def test_a_cache_can_be_copied_and_pickled():
    model = tiny(GPTNeoForCausalLM, "gl")
    ids = tokens(2, 6)
    cache = model(ids[:, :4], use_cache=True).past_key_values
    expected = model(ids[:, 4:], past_key_values=cache).logits
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache)), copy.copy(cache)):
        assert_close(model(ids[:, 4:], past_key_values=other).logits, expected)


def test_a_cache_of_another_dtype_is_widened_as_the_reference_does():
    model, narrow = tiny(GPTNeoForCausalLM, "gl", dtype=np.float64), tiny(GPTNeoForCausalLM, "gl")
    ids = tokens(1, 5)
    cache = narrow(ids[:, :3], use_cache=True).past_key_values
    expected = causal_lm(model.params, model.config, ids[:, 3:], past_key_values=cache, functions=REFERENCE)
    found = causal_lm(model.params, model.config, ids[:, 3:], past_key_values=cache, functions=fast.FAST)
    assert_close(found.logits, expected.logits)
    assert found.past_key_values[0][0].dtype == np.float64


def test_nothing_to_do_is_done():
    model = tiny(GPTNeoForCausalLM, "gl")
    assert model(tokens(1, 4), logits_to_keep=np.array([], np.int64)).logits.shape == (1, 0, 19)
    assert linear.product(np.ones((0, 600), np.float32), np.ones((600, 600), np.float32)).shape == (0, 600)
    assert transformer.row_parts(0) == [slice(0, 0)]


def test_a_score_too_large_ahead_of_a_query_does_not_reach_it():
    q, k = drawn(0, 1, 1, 4, 3), drawn(1, 1, 1, 4, 3)
    q[..., 0], k[..., -1, :] = np.abs(q[..., 0]) + 2.0, [3e38, 0.0, 0.0]
    with np.errstate(all="ignore"):
        found, expected = attention.attention(q, k, k), reference_attention(q, k, k)
    assert np.all(np.isfinite(found[..., :-1, :]))
    assert_close(found[..., :-1, :], expected[..., :-1, :])


@few
@given(st.integers(0, 99), st.integers(1, 20), st.integers(1, 40), DTYPES)
def test_token_losses(seed, rows, vocabulary, dtype):
    hidden, weight = drawn(seed, rows, 6, dtype=dtype, scale=3.0), drawn(seed + 1, vocabulary, 6, dtype=dtype)
    labels = np.random.default_rng(seed).integers(vocabulary, size=rows)
    logits = hidden @ weight.T
    expected = -log_softmax(logits)[np.arange(rows), labels]
    for sharing in (1, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(losses, "SCORED", 3)
            for module in (losses, threads):
                patch.setattr(module, "count", lambda sharing=sharing: sharing)
            found = losses.token_losses(hidden, weight, labels)
        assert_close(found, expected, largest=np.abs(logits).max())
