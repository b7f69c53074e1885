"""Each fast function of training against its reference, on random shapes, windows, masks and dtypes."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import with_mistake
from hypothesis import given
from hypothesis import strategies as st
from labelled_models import HEADS, draw_case, draw_masks
from random_models import computing_with
from test_fast import DTYPES, SIZES, assert_close, attention_inputs, drawn, few
from tiny_models import tiny

from minineo.classes import GPTNeoForCausalLM
from minineo.fast import activations, attention_training, embedding, layer_norm, losses
from minineo.fast.training import TrainingPass
from minineo.layers import activations as reference_activations
from minineo.layers import attention as reference_attention
from minineo.layers import embedding as reference_embedding
from minineo.layers import layer_norm as reference_layer_norm
from minineo.layers import linear as reference_linear
from minineo.layers import losses as reference_losses
from minineo.layers.dropout import DropoutMasks, no_masks
from minineo.model.heads import causal_lm
from minineo.model.heads_backward import loss_backward
from minineo.tap import Recorder
from minineo.training.step import TrainingStep

DROPOUT = {"resid_dropout": 0.2, "embed_dropout": 0.1, "attention_dropout": 0.3}


@few
@given(
    st.integers(0, 999),
    st.integers(1, 1200),
    st.integers(1, 100),
    DTYPES,
    st.sampled_from([0.1, 1.0, 30.0]),
    st.sampled_from(sorted(reference_activations.ACTIVATIONS)),
)
def test_activation_and_slope(seed, rows, width, dtype, scale, name):
    x = drawn(seed, rows, width, dtype=dtype, scale=scale)
    act, slope = np.empty_like(x), np.empty_like(x)
    activations.activation_and_slope(name, x, act, slope)
    assert_close(act, reference_activations.activation(name)(x), largest=np.abs(x).max())
    expected = reference_activations.ACTIVATIONS_BACKWARD[name](np.ones_like(x), x)
    assert_close(slope, expected, largest=max(1.0, np.abs(x).max()))


@few
@given(st.integers(0, 999), st.integers(1, 1200), st.integers(1, 100), DTYPES)
def test_layer_norm(seed, rows, width, dtype):
    x, dy, dx = (drawn(seed + i, rows, width, dtype=dtype) for i in range(3))
    weight, bias = drawn(seed + 3, width, dtype=dtype), drawn(seed + 4, width, dtype=dtype)
    y, normalised, deviation = np.empty_like(x), np.empty_like(x), np.empty((rows, 1), dtype)
    layer_norm.layer_norm_to_keep(x, weight, bias, 1e-2, y, normalised, deviation)
    assert_close(y, reference_layer_norm.layer_norm(x, weight, bias, 1e-2))

    expected, *expected_of_params = reference_layer_norm.layer_norm_backward(dy, x, weight, 1e-2)
    before = dx.copy()
    found = layer_norm.layer_norm_backward(dy, normalised, deviation, weight, dx)
    assert_close(dx, before + expected, largest=max(np.abs(before).max(), np.abs(dy * weight).max() * 10.0))
    for gradient, expected_gradient in zip(found, expected_of_params, strict=True):
        assert_close(gradient, expected_gradient, largest=np.sqrt(rows) * np.abs(dy).max())


@few
@given(attention_inputs(), st.booleans(), st.sampled_from([0.3, 3.0, 20.0]))
def test_attention(inputs, with_mask, scale):
    _, k, v, window, real = inputs
    B, H, T, d = k.shape  # in training there is no past
    k = (k * scale).astype(k.dtype)
    q = drawn(5, B, H, T, d, dtype=k.dtype)
    dz = drawn(6, B, H, T, d, dtype=k.dtype)
    mask = (np.random.default_rng(7).random((B, H, T, T)) < 0.7).astype(k.dtype) / 0.7 if with_mask else None
    masks = no_masks if mask is None else lambda name, shape, like: mask
    trace = Recorder()
    expected = reference_attention.attention(q, k, v, window, real, trace, masks)
    z, dq, dk, dv = (np.empty_like(q) for _ in range(4))
    exponentials = np.empty(attention_training.room_for_exponentials(B, H, T, window), q.dtype)
    sums = np.empty((B, H, T, 1), q.dtype)
    attention_training.attention_to_keep(q, k, v, window, real, mask, z, exponentials, sums)
    assert_close(z, expected)

    expected_gradients = reference_attention.attention_backward(dz, q, k, v, trace["pattern"], real, masks)
    attention_training.attention_backward(dz, q, k, v, window, real, mask, z, exponentials, sums, dq, dk, dv)
    # of the largest gradient that a pattern's could be: where it is all but one-hot, what is left is rounding
    largest = T * np.abs(dz).max() * np.abs(v).max() * max(np.abs(q).max(), np.abs(k).max())
    for found, gradient in zip((dq, dk, dv), expected_gradients, strict=True):
        assert_close(found, gradient, largest=max(np.abs(gradient).max(), 1e-2 * largest))


@few
@given(
    st.integers(0, 999),
    st.sampled_from([1, 2, 511, 512, 513, 1100]),
    SIZES,
    st.integers(1, 40),
    DTYPES,
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_linear_cross_entropy(seed, rows, width, classes, dtype, ignored):
    hidden, weight = drawn(seed, rows, width, dtype=dtype), drawn(seed + 1, classes, width, dtype=dtype, scale=5.0)
    labels = np.random.default_rng(seed).integers(0, classes, rows)
    labels[np.random.default_rng(seed + 1).random(rows) < ignored] = -100
    loss, dhidden, dweight = losses.linear_cross_entropy(hidden, weight, labels)
    logits = reference_linear.linear(hidden, weight)
    expected = reference_losses.cross_entropy(logits, labels)
    assert loss.dtype == dtype
    np.testing.assert_allclose(loss, expected, rtol=1e-5 if dtype == np.float32 else 1e-13)
    dlogits = reference_losses.cross_entropy_backward(1.0, logits, labels)
    for found, gradient in zip(
        (dhidden, dweight), reference_linear.linear_backward(dlogits, hidden, weight), strict=False
    ):
        assert_close(found, gradient)
    half = losses.linear_cross_entropy(hidden, weight, labels, count=2 * max(1, np.count_nonzero(labels != -100)))
    assert_close(half[1], dhidden / 2.0)
    if np.any(labels != -100):
        np.testing.assert_allclose(half[0], loss / 2.0, rtol=1e-6)


@few
@given(st.integers(0, 999), st.integers(1, 3), st.integers(0, 40), st.integers(1, 30), SIZES, DTYPES)
def test_embedding_backward(seed, batch, positions, rows, width, dtype):
    ids = np.random.default_rng(seed).integers(0, rows, (batch, positions))
    dy, weight = drawn(seed, batch, positions, width, dtype=dtype), drawn(seed, rows, width, dtype=dtype)
    expected = reference_embedding.embedding_backward(dy, ids, weight)
    assert_close(embedding.embedding_backward(dy, ids, weight), expected, largest=max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("fields", [{}, {"tie_word_embeddings": False}, DROPOUT], ids=["tied", "untied", "dropout"])
def test_a_batch_in_shares_has_the_gradients_of_the_reference(workers, checkpointing, fields):
    model = tiny(GPTNeoForCausalLM, "glg", dtype=np.float64, **fields)
    windows = np.random.default_rng(1).integers(0, model.config.vocab_size, (5, 9))
    windows[1, 4:] = -100
    windows[:, -1] = -100  # the reference compares the last position with nothing
    labels = windows[:, :-1]
    masks = DropoutMasks(model.config, seed=3, step=7)
    trace = Recorder()
    inputs = {"input_ids": np.maximum(labels, 0), "masks": masks}
    expected_loss = causal_lm(model.params, model.config, **inputs, labels=labels, tap=trace).loss
    expected = loss_backward(
        causal_lm, model.params, model.config, trace, inputs["input_ids"], {"labels": labels}, {}, masks
    )
    with TrainingStep(model, workers, checkpointing, dropout_seed=3) as step:
        for _ in range(2):  # the second time in used memory
            loss, grads = step(windows, 7)
            np.testing.assert_allclose(loss, expected_loss, rtol=1e-13)
            assert grads.keys() == expected.keys()
            for name, gradient in expected.items():
                assert_close(grads[name], gradient)


def test_workers_that_are_none():
    with pytest.raises(ValueError, match="workers: received 0"):
        TrainingStep(tiny(GPTNeoForCausalLM), workers=0)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("class_name", HEADS)
def test_gradients_of_every_head_are_those_of_the_reference(class_name, checkpointing):
    for seed in range(40):  # 1 to 4 layers, all activations, padding, given embeddings, positions and token types
        check_gradients(class_name, seed, checkpointing)


def check_gradients(class_name, seed, checkpointing):
    model, inputs = draw_case(class_name, seed, np.float64)
    masks = draw_masks(seed) if seed % 3 == 0 else no_masks
    with computing_with("reference"):
        expected_loss, expected = model.loss_and_grads(**inputs, masks=masks)
    loss, grads = model.loss_and_grads(**inputs, masks=masks, checkpointing=checkpointing)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-12)
    assert loss.dtype == expected_loss.dtype
    assert list(grads) == list(model.params)
    overall = max(np.abs(gradient).max() for gradient in expected.values())
    for name, gradient in grads.items():
        largest = np.abs(expected[name]).max()
        largest = largest if largest > 1e-10 * overall else overall  # some are 0 but for rounding
        np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=1e-11 * largest, err_msg=f"{seed} {name}")


MISTAKES = [
    (attention_training, "attention_backward", "dscores *= exponential", "pass"),
    (attention_training, "attention_backward", "np.copyto(dscores, 0.0, where=~real[b, keys])", "pass"),
    (attention_training, "attention_backward", "dscores *= mask[b, :, queries, keys]", "pass"),
    (attention_training, "attention_backward", "dk[b, :, keys] +=", "dk[b, :, keys] ="),
    (attention_training, "attention_backward", "dz[b, :, queries] / total", "dz[b, :, queries]"),
    (attention_training, "attention_to_keep", "if not small", "if False"),
    (attention_training, "blocks", "start + 1 - window", "start + 2 - window"),
    (layer_norm, "layer_norm_backward", "product += along_one[:, None]", "pass"),
    (layer_norm, "layer_norm_backward", "np.multiply(kept, along_row[:, None], out=product)", "product[...] = 0.0"),
    (layer_norm, "layer_norm_backward", "product /= deviation[piece]", "pass"),
    (layer_norm, "layer_norm_backward", "dx[piece] += product", "dx[piece] = product"),
    (activations, "gelu_new_and_slope", "square *= 3.0 * 0.044715 * scale", "square *= 0.044715 * scale"),
    (losses, "linear_cross_entropy", "1.0 / count", "1.0 / rows.size"),
    (losses, "_to_gradient", "logits[index, labels] -= 1.0", "pass"),
]


@pytest.mark.parametrize(("module", "function", "right", "wrong"), MISTAKES)
def test_a_planted_mistake_is_seen(module, function, right, wrong, monkeypatch):
    monkeypatch.setattr(module, function, with_mistake(getattr(module, function), right, wrong))
    with pytest.raises((AssertionError, RuntimeWarning)):
        check_layers()


PASS_MISTAKES = [
    ("forward", '_apply(x, self.masks("embed", embedded.shape, x))', "pass"),
    ("backward", '_apply(dx, self.masks("embed", (B, T, D), dx))', "pass"),
    ("_mlp_half_backward", "dpre[rows] *= kept.slope[rows]", "pass"),
    ("_mlp_half_backward", "dout.T @ kept.act", "dout.T @ kept.slope"),
    ("_mlp_half_backward", '_dropped(dx, self.masks(f"h.{i}.mlp.out", (B, T, D), dx))', "dx"),
    ("_attention_half_backward", "dqkv.T @ kept.ln_1", "dqkv.T @ kept.ln_2"),
    ("_attention_half_backward", 'enumerate("qkv")', 'enumerate("kqv")'),
    ("_attention_half_backward", "kept.deviation_1", "kept.deviation_2"),
    ("_embed_backward", "dwte += embedding_backward", "dwte = embedding_backward"),
    ("_embed_backward", "np.arange(T)[None, :] if position_ids is None else position_ids", "np.arange(T)[None, :]"),
]


@pytest.mark.parametrize(("method", "right", "wrong"), PASS_MISTAKES)
def test_a_mistake_in_the_pass_is_seen(method, right, wrong, monkeypatch):
    monkeypatch.setattr(TrainingPass, method, with_mistake(getattr(TrainingPass, method), right, wrong))
    with pytest.raises(AssertionError):
        check_heads()


def check_heads():
    for seed in range(12):
        for class_name in HEADS:
            check_gradients(class_name, seed, checkpointing=False)


def check_layers():
    """Hypothesis would look long for the smallest example of a mistake; any will do."""
    for seed in range(30):
        check = test_attention.hypothesis.inner_test
        random = np.random.default_rng(seed)
        B, H, T, d = random.integers(1, 3), 2, random.choice([1, 7, 70, 150]), 3
        q, k, v = (drawn(seed + i, B, H, T, d) for i in range(3))
        real = random.random((B, T)) < 0.8 if seed % 2 else None
        check((q, k, v, [None, 5, 66][seed % 3], real), bool(seed % 4 == 0), [0.3, 20.0][seed % 2])
        test_layer_norm.hypothesis.inner_test(seed, 20, 8, np.float32)
        test_linear_cross_entropy.hypothesis.inner_test(seed, 600, 5, 9, np.float32, 0.5)
        test_activation_and_slope.hypothesis.inner_test(seed, 20, 8, np.float32, 1.0, "gelu_new")
