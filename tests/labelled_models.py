"""Random models of the four heads, with inputs that have labels, for tests of gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from random_models import CLASSES, draw_config, draw_inputs, draw_params

from minineo import classes
from minineo.config import GPTNeoConfig
from minineo.layers.dropout import RATES, DropoutMasks

HEADS = CLASSES[1:]
LABELS = ("labels", "start_positions", "end_positions")
Inputs = dict[str, Any]


def draw_case(class_name: str, seed: int, dtype: Any) -> tuple[Any, Inputs]:
    """A random model and inputs with labels, as `random_models` draws them."""
    model_class = getattr(classes, class_name)
    config = draw_config(seed)
    model = model_class(config, draw_params(model_class.parameter_shapes(config), config, seed, dtype))
    draws = (draw_inputs(class_name, config, 1000 * seed + CLASSES.index(class_name) + 7 * i) for i in range(100))
    inputs = next(draw for draw in draws if any(name in draw for name in LABELS))
    flags = ("output_hidden_states", "output_attentions", "use_cache")
    inputs = {name: value for name, value in inputs.items() if name not in flags}
    if "inputs_embeds" in inputs:
        inputs["inputs_embeds"] = inputs["inputs_embeds"].astype(dtype)
    return model, inputs


def draw_masks(seed: int, **where: int) -> DropoutMasks:
    """Masks of dropout at random rates, each a different one."""
    rates = np.random.default_rng(seed).permutation([0.1, 0.3, 0.5, 0.7])
    fields = {field: float(rate) for field, rate in zip(RATES.values(), rates, strict=True)}
    return DropoutMasks(GPTNeoConfig(**fields), seed, **where)


def shape_of(inputs: Inputs) -> tuple[int, int]:
    return inputs["input_ids" if "input_ids" in inputs else "inputs_embeds"].shape[:2]
