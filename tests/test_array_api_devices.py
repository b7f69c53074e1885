"""A strict array library on its second device: backward, dropout, generation and edits; devices that are mixed up."""

from __future__ import annotations

from typing import Any

import array_api_strict as xp
import numpy as np
import pytest
from test_array_api import SECOND, assert_same, move, strict
from tiny_models import ALL_CLASSES, IDS, LABELS, MASK, tiny, tokens

from minineo.classes import GPTNeoForCausalLM, GPTNeoForTokenClassification, GPTNeoModel
from minineo.generation import generate_steps
from minineo.layers.dropout import DropoutMasks
from minineo.model.heads_backward import loss_and_grads
from minineo.tap import Recorder
from minineo.training.clipping import clip_by_global_norm
from minineo.training.optimisers import SGD, AdamW, Muon

THIRD = xp.Device("device2")
WITH_LOSS = [cls for cls in ALL_CLASSES if cls is not GPTNeoModel]
POSITIONS = np.maximum(MASK.cumsum(1) - 1, 0)
DROPOUT = dict.fromkeys(("resid_dropout", "embed_dropout", "attention_dropout", "classifier_dropout"), 0.3)


def reference_gradients(model: Any, inputs: dict[str, Any], labels: dict[str, Any], **how: Any) -> Any:
    """The reference's on NumPy arrays: what the strict library computes with, so that only rounding can differ."""
    ids, others = inputs.get("input_ids"), {name: value for name, value in inputs.items() if name != "input_ids"}
    return loss_and_grads(type(model).forward, model.params, model.config, ids, others, labels, **how)


@pytest.mark.parametrize("cls", WITH_LOSS)
@pytest.mark.parametrize(
    ("fields", "inputs"),
    [
        ({"window_size": 2, "tie_word_embeddings": False}, {"input_ids": IDS, "attention_mask": MASK}),
        ({"activation_function": "silu"}, {"input_ids": IDS, "position_ids": POSITIONS, "token_type_ids": IDS}),
        ({"intermediate_size": 7, "pad_token_id": None}, {"inputs_embeds": "of one text"}),
    ],
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients(cls: Any, fields: dict[str, Any], inputs: dict[str, Any], checkpointing: bool) -> None:
    model = tiny(cls, "lg", **fields)
    labels = LABELS[cls.__name__]
    if "inputs_embeds" in inputs:
        labels = {name: value[:1] for name, value in labels.items()}
        inputs = {"inputs_embeds": model.params["transformer.wte.weight"][IDS[:1]]}
    loss, grads = reference_gradients(model, inputs, labels, checkpointing=checkpointing)
    found = strict(model, SECOND).loss_and_grads(
        **move(inputs, SECOND), **move(labels, SECOND), checkpointing=checkpointing
    )
    assert_same(found, (loss, {name: grads[name] for name in model.params}), SECOND)


@pytest.mark.parametrize("cls", WITH_LOSS)
def test_dropout(cls: Any) -> None:
    model = tiny(cls, "gl", **DROPOUT)
    masks = DropoutMasks(model.config, seed=4, step=1)
    loss, grads = reference_gradients(model, {"input_ids": IDS}, LABELS[cls.__name__], masks=masks)
    labels = move(LABELS[cls.__name__], SECOND)
    found = strict(model, SECOND).loss_and_grads(move(IDS, SECOND), masks=masks, **labels)
    assert_same(found, (loss, {name: grads[name] for name in model.params}), SECOND)


@pytest.mark.parametrize("make", [AdamW, Muon, lambda: SGD(0.9, 0.1)])
def test_steps_of_training(make: Any) -> None:
    model, optimisers = tiny(GPTNeoForCausalLM, "gl"), [make(), make()]
    other = strict(model, SECOND)
    other.params = {name: xp.asarray(array, copy=True) for name, array in other.params.items()}
    model.params = {name: array.copy() for name, array in model.params.items()}
    for _ in range(2):
        _, grads = reference_gradients(model, {"input_ids": IDS}, {"labels": IDS})
        _, others = other.loss_and_grads(move(IDS, SECOND), labels=move(IDS, SECOND))
        norms = [clip_by_global_norm(gradients, 1.0) for gradients in (grads, others)]
        assert norms[1] == pytest.approx(norms[0], rel=1e-5)
        optimisers[0].step(model.params, grads, 1e-3)
        optimisers[1].step(other.params, others, 1e-3)
    for name, array in model.params.items():
        moved = np.asarray(xp.asarray(other.params[name], device=xp.Device("CPU_DEVICE")))
        # AdamW divides gradients that are 0 but for rounding by their own size
        np.testing.assert_allclose(moved, array, rtol=0, atol=2e-3 if name.endswith("bias") else 1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_cache": False},
        {"do_sample": True, "seed": 0},
        {"do_sample": True, "seed": 1, "top_p": 0.7, "temperature": 1.3, "top_k": 4},
        {"num_beams": 3, "num_return_sequences": 2},
    ],
)
def test_generation_and_its_steps(options: dict[str, Any]) -> None:
    model = tiny(GPTNeoForCausalLM, "gl")
    other = strict(model, SECOND)
    arguments = {"max_new_tokens": 5, **options}
    expected = model.generate(IDS, MASK, **arguments)
    assert_same(other.generate(move(IDS, SECOND), move(MASK, SECOND), **arguments), expected, SECOND)
    if "num_beams" not in options:
        steps = list(generate_steps(other, move(IDS, SECOND), move(MASK, SECOND), **arguments))
        assert_same(xp.stack(steps, axis=1), expected[:, 6:], SECOND)


def test_traces_and_edits() -> None:
    model = tiny(GPTNeoForCausalLM, "gl")
    patch = np.full((2, 6, 12), 0.25, np.float32)
    edits = {"h.1.attn.out": patch, "h.0.mlp.act": lambda value: 2.0 * value}
    ours, theirs = Recorder(), Recorder()
    expected = model(IDS, edits=edits, tap=ours)
    moved = edits | {"h.1.attn.out": move(patch, SECOND)}
    output = strict(model, SECOND)(move(IDS, SECOND), edits=moved, tap=theirs)
    assert_same(output.logits, expected.logits, SECOND)
    assert_same(theirs, ours, SECOND)


class TestMixedDevices:
    """Arrays of one library on two devices: an error that names both."""

    words = r"{}: received an array on .*device2.*parameters are on .*device1"

    @pytest.mark.parametrize("cls", ALL_CLASSES)
    def test_inputs_and_labels(self, cls: Any) -> None:
        model = strict(tiny(cls), SECOND)
        inputs = {"input_ids": IDS, "attention_mask": MASK, "position_ids": POSITIONS, "token_type_ids": IDS}
        inputs |= LABELS[cls.__name__]
        for name in inputs:
            mixed = move(inputs, SECOND) | {name: move(inputs[name], THIRD)}
            with pytest.raises(TypeError, match=self.words.format(name)):
                model(**mixed)
            if cls is not GPTNeoModel:
                with pytest.raises(TypeError, match=self.words.format(name)):
                    model.loss_and_grads(**mixed)

    def test_parameters(self) -> None:
        model = tiny(GPTNeoForTokenClassification)
        params = move(model.params, SECOND) | {"classifier.bias": move(model.params["classifier.bias"], THIRD)}
        with pytest.raises(TypeError, match=self.words.format("classifier.bias")):
            GPTNeoForTokenClassification(model.config, params)

    def test_embeddings_cache_and_positions_to_keep(self) -> None:
        model = tiny(GPTNeoForCausalLM)
        here, there = strict(model, SECOND), strict(model, THIRD)
        with pytest.raises(TypeError, match=self.words.format("inputs_embeds")):
            here(inputs_embeds=there.params["transformer.wte.weight"][None, :4, :])
        past = there(move(IDS, THIRD)).past_key_values
        with pytest.raises(TypeError, match=self.words.format("past_key_values")):
            here(move(IDS, SECOND), past_key_values=past)
        with pytest.raises(TypeError, match=self.words.format("logits_to_keep")):
            here(move(IDS, SECOND), logits_to_keep=move(np.array([0]), THIRD))

    def test_generation(self) -> None:
        model = strict(tiny(GPTNeoForCausalLM), SECOND)
        with pytest.raises(TypeError, match=self.words.format("input_ids")):
            model.generate(move(IDS, THIRD))
        with pytest.raises(TypeError, match=r"attention_mask: received an array on .*device2"):
            model.generate(move(IDS, SECOND), move(MASK, THIRD))

    def test_edits(self) -> None:
        model = strict(tiny(GPTNeoForCausalLM), SECOND)
        with pytest.raises(TypeError, match=r"h\.0\.mlp\.out.* on .*device2.*, expected one on .*device1"):
            model(move(IDS, SECOND), edits={"h.0.mlp.out": move(np.zeros((2, 6, 12), np.float32), THIRD)})

    def test_gradients_and_the_optimiser(self) -> None:
        params = {"x": xp.ones(3, device=SECOND)}
        with pytest.raises(TypeError, match=r"grads\['x'\]: received an array on .*device2.*expected one on .*device1"):
            AdamW().step(params, {"x": xp.ones(3, device=THIRD)}, 0.1)


def test_float16_keeps_scores_softmax_and_losses_in_float32() -> None:
    """On NumPy: the strict library has no float16. Norms are widened inside, and come out as the model's."""
    model = tiny(GPTNeoForCausalLM, "gl", dtype=np.float16)
    trace = Recorder()
    output = model(tokens(2, 6), labels=tokens(2, 6), tap=trace)
    wide = {f"h.{i}.attn.{name}" for i in (0, 1) for name in ("scores", "pattern")}
    assert {name for name, value in trace.items() if value.dtype == np.float32} == wide
    assert {str(value.dtype) for value in trace.values()} == {"float16", "float32"}
    assert output.loss.dtype == np.float32
    # squares that float16 cannot hold: the norm is that of float32
    model.params["transformer.wte.weight"] = model.params["transformer.wte.weight"] * np.float16(2000)
    model(tokens(1, 4), tap=trace)
    assert np.abs(trace["embed"].astype(np.float32) ** 2).max() > np.finfo(np.float16).max
    assert np.isfinite(trace["h.0.ln_1"]).all()
