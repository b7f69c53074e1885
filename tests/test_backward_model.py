"""The gradients of every head by all its parameters: against differences of the loss; and a mistake in any is seen."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from derivatives import check_loss_gradients, plant, with_mistake
from labelled_models import HEADS, Inputs, draw_case, draw_masks
from random_models import computing_with
from tiny_models import tiny, tokens

from minineo import classes
from minineo.config import GPTNeoConfig
from minineo.layers.dropout import no_masks
from minineo.model import backward, heads, heads_backward
from minineo.model.names import intermediate_names
from minineo.tap import Recorder


# The reference's backward is the subject here; test_fast_training.py holds the fast one against it.
@pytest.fixture(autouse=True)
def reference_layers() -> Iterator[None]:
    with computing_with("reference"):
        yield


SEEDS = range(0, 36, 3)  # 1 to 4 layers, all activations


# Differences, without an oracle ---------------------------------------------------------------------------------------


def check_head(class_name: str, seed: int) -> None:
    """Hold the gradients by all parameters against differences of the loss."""
    model, inputs = draw_case(class_name, seed, np.float64)
    check_loss_gradients(model, inputs, np.random.default_rng(seed))


def check_seeds(class_name: str) -> None:
    for seed in SEEDS:
        check_head(class_name, seed)


@pytest.mark.parametrize("class_name", HEADS)
def test_gradients_are_slopes(class_name: str) -> None:
    check_seeds(class_name)


MISTAKES: list[tuple[Any, str, str, str]] = [
    (backward, "transformer_backward", "streams[i], real", "streams[i + 1], real"),
    (backward, "transformer_backward", "streams[i], real", "streams[i], None"),
    (backward, "block_backward", "dmid = dy + dmid", "dmid = dmid"),
    (backward, "block_backward", "dmid = dy + dmid", "dmid = dy - dmid"),
    (backward, "block_backward", "return dmid + dx", "return dx"),
    (backward, "block_backward", 'trace["resid_mid"]', "x"),
    (backward, "feed_forward_backward", 'trace["act"]', 'trace["pre"]'),
    (backward, "feed_forward_backward", "return dx,", "return -dx,"),
    (backward, "self_attention_backward", "dx_from_q + dx_from_k + dx_from_v", "dx_from_q + dx_from_k"),
    (backward, "self_attention_backward", "merge_heads(dk), x", "-merge_heads(dk), x"),
    (backward, "embed_backward", "dwte + embedding_backward(dy, token_type_ids, wte)", "dwte"),
    (backward, "embed_backward", "dwte + embedding_backward(dy, input_ids, wte)", "dwte"),
    (backward, "embed_backward", "xp.broadcast_to(position_ids, (B, T))", "xp.zeros((B, T), dtype=xp.int64)"),
    (heads_backward, "loss_backward", "trace, input_ids", "trace, None"),
    (heads_backward, "add_gradients", "grads[name] + other if", "other if"),
    (heads_backward, "add_gradients", "grads[name] + other if", "grads[name] if"),
    (heads_backward, "causal_lm_head_backward", "labels[:, 1:]", "labels[:, :-1]"),
    (heads_backward, "causal_lm_head_backward", "hidden[:, :-1, :], params", "hidden[:, 1:, :], params"),
    (heads_backward, "sequence_classification_head_backward", "dpooled, hidden, input_ids", "dpooled, hidden, None"),
    (heads_backward, "sequence_classification_head_backward", '"score.weight": dscore', '"score.weight": -dscore'),
    (heads_backward, "last_token_backward", "xp.zeros_like(hidden)", "dy[:, None, :]"),
    (heads_backward, "classification_loss_backward", "return cross_entropy", "return -cross_entropy"),
    (heads_backward, "classification_loss_backward", "return binary_cross_entropy", "return mean_squared_error"),
    (
        heads_backward,
        "classification_loss_backward",
        "mean_squared_error_backward(dloss",
        "binary_cross_entropy_backward(dloss",
    ),
    (heads_backward, "token_classification_head_backward", "(1.0, ", "(2.0, "),
    (heads_backward, "question_answering_head_backward", "[dstart, dend]", "[dend, dstart]"),
    (heads_backward, "question_answering_head_backward", "(0.5, logits[:, :, 1], end", "(1.0, logits[:, :, 1], end"),
    (heads_backward, "position_loss_backward", ", ignore_index=T", ""),
]
HEAD_OF = {
    "transformer_backward": HEADS[3],  # reads all positions, of which some see nothing but padding
    "sequence_classification_head_backward": HEADS[1],
    "last_token_backward": HEADS[1],
    "classification_loss_backward": HEADS[1],
    "token_classification_head_backward": HEADS[2],
    "question_answering_head_backward": HEADS[3],
    "position_loss_backward": HEADS[3],
}


@pytest.mark.parametrize(("module", "function", "right", "wrong"), MISTAKES)
def test_a_planted_mistake_is_seen(
    monkeypatch: pytest.MonkeyPatch, module: Any, function: str, right: str, wrong: str
) -> None:
    plant(monkeypatch, module, function, right, wrong)
    with pytest.raises((AssertionError, ValueError, IndexError)):
        check_seeds(HEAD_OF.get(function, "GPTNeoForCausalLM"))


def test_each_backward_has_a_planted_mistake() -> None:
    functions = {
        name
        for module in (backward, heads_backward)
        for name, value in vars(module).items()
        if name.endswith("_backward") and value.__module__ == module.__name__
    }
    assert {function for _, function, _, _ in MISTAKES} >= functions


# What loss_and_grads takes and gives ----------------------------------------------------------------------------------

IDS = tokens(2, 6)
MASK = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
HEAD_INPUTS: dict[str, Inputs] = {
    "GPTNeoForCausalLM": {"labels": np.where(MASK == 1, IDS, -100)},
    "GPTNeoForSequenceClassification": {"labels": np.array([3, 0])},
    "GPTNeoForTokenClassification": {"labels": np.where(MASK == 1, IDS % 4, -100)},
    "GPTNeoForQuestionAnswering": {"start_positions": np.array([0, 9]), "end_positions": np.array([5, 2])},
}


def inputs_of(class_name: str) -> Inputs:
    positions = np.maximum(MASK.cumsum(1) - 1, 0)
    others = {"attention_mask": MASK, "position_ids": positions, "token_type_ids": IDS[:, ::-1].copy()}
    return {"input_ids": IDS, **others, **HEAD_INPUTS[class_name]}


@pytest.mark.parametrize("class_name", HEADS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loss_and_gradients_have_the_names_shapes_and_dtypes_of_the_parameters(class_name: str, dtype: Any) -> None:
    model = tiny(getattr(classes, class_name), dtype=dtype)
    inputs = inputs_of(class_name)
    before = {name: array.copy() for name, array in (model.params | inputs).items()}
    loss, grads = model.loss_and_grads(**inputs)
    np.testing.assert_allclose(loss, model(**inputs).loss, rtol=1e-5)
    assert list(grads) == list(model.params)
    for name, gradient in grads.items():
        assert (gradient.shape, gradient.dtype) == (model.params[name].shape, dtype)
    for name, array in (model.params | inputs).items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("class_name", HEADS)
@pytest.mark.parametrize("activation", ["gelu_new", "gelu"])
def test_on_the_second_device_of_a_strict_library(class_name: str, activation: str) -> None:
    def move(values: Inputs) -> Inputs:
        return {name: strict.asarray(value, device=strict.Device("device1")) for name, value in values.items()}

    model = tiny(getattr(classes, class_name), "glg", activation_function=activation, tie_word_embeddings=False)
    inputs = inputs_of(class_name)
    _, expected = model.loss_and_grads(**inputs)
    _, grads = type(model)(model.config, move(model.params)).loss_and_grads(**move(inputs))
    assert list(grads) == list(expected)
    for name, gradient in grads.items():
        assert gradient.device == strict.Device("device1")
        assert gradient.dtype == strict.float32
        array = np.asarray(strict.asarray(gradient, device=strict.Device("CPU_DEVICE")))
        np.testing.assert_allclose(array, expected[name], atol=1e-5 * np.abs(expected[name]).max() + 1e-7, rtol=0)


def test_a_tied_tables_gradient_is_lookup_plus_projection() -> None:
    tied = tiny(classes.GPTNeoForCausalLM, dtype=np.float64)
    wte = tied.params["transformer.wte.weight"]
    config = GPTNeoConfig.from_dict(tied.config.to_dict(), tie_word_embeddings=False)
    untied = classes.GPTNeoForCausalLM(config, tied.params | {"lm_head.weight": wte})
    inputs = inputs_of("GPTNeoForCausalLM")
    both, apart = tied.loss_and_grads(**inputs)[1], untied.loss_and_grads(**inputs)[1]
    np.testing.assert_allclose(
        both["transformer.wte.weight"], apart["transformer.wte.weight"] + apart["lm_head.weight"], rtol=1e-12
    )


def test_only_what_backward_reads_is_kept() -> None:
    """And nothing of it in vain: what is wrong with any one of them is wrong with the gradients."""
    model = tiny(classes.GPTNeoForCausalLM, "g")
    names = backward.intermediates_read(model.config)
    assert names < set(intermediate_names(model.config))
    assert not any(name.endswith(("scores", "attn.out", "mlp.out")) for name in names)
    trace = Recorder(names)
    model(IDS, tap=trace)
    assert set(trace) == names
    for name in names:
        wrong = trace | {name: np.full_like(trace[name], np.nan)}
        grads = heads_backward.loss_backward(
            heads.causal_lm, model.params, model.config, wrong, IDS, {"labels": IDS}, {}
        )
        assert any(np.isnan(gradient).any() for gradient in grads.values()), name


def check_checkpointing(class_name: str, dtype: Any) -> None:
    """The same loss and gradients with and without, bit for bit, also with dropout, padding and a window."""
    for seed in (8, 15, 19, 23, 25, 26, 34):  # most have several layers, and windows shorter than the text
        model, inputs = draw_case(class_name, seed, dtype)
        for masks in (no_masks, draw_masks(seed)):
            loss, expected = model.loss_and_grads(**inputs, masks=masks)
            same_loss, grads = model.loss_and_grads(**inputs, masks=masks, checkpointing=True)
            np.testing.assert_array_equal(same_loss, loss)
            assert list(grads) == list(expected)
            for name, gradient in grads.items():
                np.testing.assert_array_equal(gradient, expected[name], err_msg=f"{name}, seed {seed}")


@pytest.mark.parametrize("class_name", HEADS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_checkpointing_changes_nothing(class_name: str, dtype: Any) -> None:
    check_checkpointing(class_name, dtype)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("block(params, at, streams[i]", "block(params, at, streams[i + 1]"),
        ("config.window(i)", "None"),
        ("config.window(i), real, None", "config.window(i), None, None"),
        ("config, kept, block_masks)\n        dx,", "config, kept)\n        dx,"),
    ],
)
def test_a_mistake_in_running_a_block_again_is_seen(monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    planted = with_mistake(backward.transformer_backward, right, wrong)
    monkeypatch.setattr(heads_backward, "transformer_backward", planted)
    with pytest.raises(AssertionError):
        check_checkpointing("GPTNeoForCausalLM", np.float64)


def test_checkpointing_takes_less_memory() -> None:
    """The residual stream alone is kept, and of 8 layers the intermediates of one at a time."""
    model = tiny(classes.GPTNeoForCausalLM, "gl" * 4, hidden_size=36, max_position_embeddings=96)
    streams = {f"h.{i}.resid_post" for i in range(8)}
    assert backward.intermediates_read(model.config, checkpointing=True) == {"embed", *streams, "ln_f", "logits"}
    ids = tokens(4, 96)

    def peak(checkpointing: bool) -> int:
        tracemalloc.start()
        model.loss_and_grads(ids, labels=ids, checkpointing=checkpointing)
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    assert peak(True) < 0.4 * peak(False)


@pytest.mark.parametrize("class_name", HEADS)
def test_where_all_labels_are_ignored_the_gradients_are_zero(class_name: str) -> None:
    if class_name == "GPTNeoForSequenceClassification":
        labels = {"labels": np.array([-100, -100])}
    else:
        value = 99 if class_name == "GPTNeoForQuestionAnswering" else -100
        labels = {name: np.full_like(array, value) for name, array in HEAD_INPUTS[class_name].items()}
    loss, grads = tiny(getattr(classes, class_name)).loss_and_grads(**(inputs_of(class_name) | labels))
    assert np.isnan(loss)
    assert not any(gradient.any() for gradient in grads.values())


@pytest.mark.parametrize("class_name", HEADS)
def test_without_labels(class_name: str) -> None:
    model = tiny(getattr(classes, class_name))
    with pytest.raises(ValueError, match=f"{class_name}: without (labels|start_positions and end_positions) there is"):
        model.loss_and_grads(IDS)


def test_a_model_without_a_head() -> None:
    with pytest.raises(TypeError, match="GPTNeoModel has no loss to differentiate"):
        tiny(classes.GPTNeoModel).loss_and_grads(IDS)


def test_inputs_are_checked_as_in_a_call() -> None:
    model = tiny(classes.GPTNeoForCausalLM)
    with pytest.raises(ValueError, match="labels: received shape"):
        model.loss_and_grads(IDS, labels=IDS[:, 1:])
    with pytest.raises(TypeError, match="takes no argument 'start_positions'"):
        model.loss_and_grads(IDS, start_positions=IDS)
    with pytest.raises(ValueError, match="leave logits_to_keep at 0"):
        model.loss_and_grads(IDS, labels=IDS, logits_to_keep=2)
