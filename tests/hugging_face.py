"""Hugging Face's GPT-Neo as an oracle: the same model there, in float32 or float64, and how far two outputs are apart.

Imported by oracle tests only, since it needs torch and transformers.
"""

from __future__ import annotations

import json
from types import MethodType
from typing import Any

import numpy as np
import torch
import transformers

from minineo.config import GPTNeoConfig
from minineo.layers.dropout import Masks
from minineo.model.cache import Cache

torch.set_num_threads(1)
transformers.utils.logging.set_verbosity_error()

Fields = dict[str, np.ndarray]


def oracle_model(class_name: str, config: GPTNeoConfig, params: dict[str, np.ndarray], dtype: Any = np.float32) -> Any:
    """The same model in `transformers`, computing in `dtype` throughout."""
    fields = json.loads(config.to_json_string())
    hf_config = transformers.GPTNeoConfig(**fields, attn_implementation="eager")
    model = getattr(transformers, class_name)(hf_config).eval()
    state = {name: torch.from_numpy(array.astype(dtype)) for name, array in params.items()}
    model = model.to(torch.float64 if dtype == np.float64 else torch.float32)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert missing == (["lm_head.weight"] if class_name == "GPTNeoForCausalLM" and config.tie_word_embeddings else [])
    if dtype == np.float64:
        model.loss_function = language_model_loss
        for block in getattr(model, "transformer", model).h:
            block.attn.attention._attn = MethodType(float64_attention, block.attn.attention)
    return model


def float64_attention(self: Any, q: Any, k: Any, v: Any, attention_mask: Any = None) -> tuple[Any, Any]:
    """GPTNeoSelfAttention._attn without its casts to float32, which would spoil an oracle in float64."""
    T, S = q.shape[-2], k.shape[-2]
    scores = torch.where(self.bias[:, :, S - T : S, :S], q @ k.transpose(-1, -2), torch.finfo(q.dtype).min)
    pattern = torch.softmax(scores if attention_mask is None else scores + attention_mask, dim=-1)
    return self.attn_dropout(pattern) @ v, pattern


def language_model_loss(logits: Any, labels: Any, vocab_size: int, **_: Any) -> Any:
    """ForCausalLMLoss without its cast to float32."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, vocab_size), labels[:, 1:].reshape(-1))


def drop_by(model: Any, masks: Masks) -> None:
    """Turn training on, and have each of its dropouts use our mask instead of one drawn by torch."""
    transformer = model.transformer
    dropouts = {"embed": transformer.drop}
    for i, block in enumerate(transformer.h):
        attention = block.attn.attention
        dropouts |= {f"h.{i}.attn.pattern": attention.attn_dropout, f"h.{i}.attn.out": attention.resid_dropout}
        dropouts |= {f"h.{i}.mlp.out": block.mlp.dropout}
    if hasattr(model, "dropout"):
        dropouts["classifier"] = model.dropout
    model.train()
    assert {id(module) for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {
        id(module) for module in dropouts.values()
    }
    for name, module in dropouts.items():
        module.forward = lambda x, name=name: x * torch.from_numpy(masks(name, tuple(x.shape), x.detach().numpy()))


def call(model: Any, inputs: dict[str, Any]) -> Any:
    """Call an oracle with NumPy inputs."""
    width = next(model.parameters()).dtype
    tensors = {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in inputs.items()}
    for name, value in tensors.items():
        if torch.is_tensor(value) and value.is_floating_point():
            tensors[name] = value.to(width)
    with torch.no_grad():
        return model(**tensors)


def fields_of(output: Any, config: GPTNeoConfig) -> Fields:
    """Every array of an output, ours or theirs, by name; of a local layer's cache, the part that can be seen again."""
    fields: Fields = {}
    for name, value in output.items():
        if name == "past_key_values":
            layers = value if isinstance(value, Cache) else [(layer.keys, layer.values) for layer in value.layers]
            for i, (k, v) in enumerate(layers):
                S, window = value.get_seq_length(), config.window(i)
                kept = S if window is None else min(S, window - 1)
                for key, array in [("k", np.asarray(k)), ("v", np.asarray(v))]:
                    # theirs are whole; ours have to be no longer than what is kept
                    fields[f"past.{i}.{key}"] = array if isinstance(value, Cache) else array[:, :, S - kept :]
        elif isinstance(value, tuple):
            fields |= {f"{name}.{i}": np.asarray(item) for i, item in enumerate(value)}
        else:
            fields[name] = np.asarray(value)
    return fields


class Compared:
    """Which part of an output is compared: all of it, but for one kind of padding, where the two differ on purpose.

    A position that is itself padding, and sees nothing but padding, mixes the values of what it sees evenly. In a local
    layer transformers adds to these the real positions *before* the window: it marks what lies outside the window with
    the lowest number and what is padding by adding the lowest number, so a real key outside and padding inside come out
    alike. minineo never looks outside the window. So rows that are padded on the left (nothing real lies before their
    padding) agree everywhere, and others at every position that is attended to; nobody reads the rest.
    """

    def __init__(
        self, class_name: str, config: GPTNeoConfig, inputs: dict[str, Any], B: int, start: int, stop: int
    ) -> None:
        """For a call on the positions from `start` to `stop`; those before are in the cache."""
        self.inputs = inputs
        self.seen = agreeing_positions(config, inputs.get("attention_mask"), B, stop)
        self.new = self.seen[:, start:]
        self.read = read_positions(class_name, config, inputs, B, stop - start)

    def part(self, name: str, array: np.ndarray) -> np.ndarray:
        """Those entries of an output field (as `fields_of` names it) that are to be equal."""
        if name == "loss":
            return array[None] if self.new[self.read].all() else array[None][:0]
        if name.startswith("past"):
            return np.moveaxis(array, 2, 1)[self.seen[:, self.seen.shape[1] - array.shape[2] :]]
        if name.startswith("attentions"):
            return np.moveaxis(array, 2, 1)[self.new]
        if name == "logits" and array.ndim == 2:  # one row a text
            return array[(self.new | ~self.read).all(axis=1)]
        keep = self.inputs.get("logits_to_keep", 0)
        if isinstance(keep, np.ndarray):
            kept = np.take_along_axis(self.new, keep, axis=1) if keep.ndim == 2 else self.new[:, keep]
            return array[kept if name == "logits" else self.new]
        return array[self.new[:, -keep:] if name == "logits" else self.new]


def agreeing_positions(config: GPTNeoConfig, mask: np.ndarray | None, B: int, T: int) -> np.ndarray:
    """At which positions (B, T) the two agree."""
    agree = np.ones((B, T), bool)
    if mask is None or "local" not in config.attention_layers:
        return agree
    for b in range(B):
        for i in range(T):
            start = max(0, i - config.window_size + 1)
            agree[b, i] = mask[b, start : i + 1].any() or not mask[b, :start].any()
    return agree


def read_positions(class_name: str, config: GPTNeoConfig, inputs: dict[str, Any], B: int, T: int) -> np.ndarray:
    """Which positions (B, T) decide the loss, or a text's class."""
    read = np.ones((B, T), bool)
    if class_name == "GPTNeoForSequenceClassification":
        read[:] = False
        for b in range(B):
            last = T - 1
            if "input_ids" in inputs and config.pad_token_id is not None:
                last = max((t for t in range(T) if inputs["input_ids"][b, t] != config.pad_token_id), default=0)
            read[b, last] = True
    elif class_name != "GPTNeoForQuestionAnswering" and "labels" in inputs:
        read = inputs["labels"] != -100
        if class_name == "GPTNeoForCausalLM":
            read = np.concatenate([read[:, 1:], np.zeros((B, 1), bool)], axis=1)
    return read


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference, as a part of the largest value; 0 where there is nothing to compare."""
    difference = largest_difference(ours, theirs)
    return difference / float(np.nanmax(np.abs(theirs))) if difference else 0.0


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference; both have to be NaN in the same places (a loss without labels is)."""
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    difference = np.abs(a.astype(np.float64) - b)
    return float(np.max(difference, initial=0.0, where=~np.isnan(difference)))
