"""Loss and gradients of one batch by the reference's functions, in whatever library and wherever the parameters are.

What `minineo train --device cuda` computes with: a GPU has no use for the threads, the pieces and the kept memory of
`minineo.training.step`, which is for NumPy.

Dimensions: B windows of a batch, T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

from array_api_compat import array_namespace

from minineo.arrays import Array, beside
from minineo.classes import GPTNeoForCausalLM
from minineo.config import GPTNeoConfig
from minineo.layers.dropout import DropoutMasks, Masks, no_masks
from minineo.layers.linear import linear, linear_backward
from minineo.layers.losses import cross_entropy, cross_entropy_backward
from minineo.model.backward import intermediates_read, transformer_backward
from minineo.model.block import Params
from minineo.model.heads_backward import add_gradients
from minineo.model.names import BASE_PREFIX
from minineo.model.transformer import transformer
from minineo.tap import Recorder


class DeviceTrainingStep:
    """As `minineo.training.step.TrainingStep`, without threads."""

    each: Callable[[Callable[[str], Any], Iterable[str]], Iterable[Any]] = map  # how the optimiser goes on

    def __init__(self, model: GPTNeoForCausalLM, checkpointing: bool = False, dropout_seed: int | None = None) -> None:
        self.model, self.checkpointing, self.dropout_seed = model, checkpointing, dropout_seed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, windows: Array, step: int = 0, first_row: int = 0) -> tuple[float, Params]:
        """The mean loss of NumPy's windows (B, T + 1), in nats a token, and its gradients, where the parameters are."""
        params, config = self.model.params, self.model.config
        masks: Masks = no_masks
        if self.dropout_seed is not None:
            masks = DropoutMasks(config, self.dropout_seed, step, first_row)
        moved = beside(windows, like=params[f"{BASE_PREFIX}wte.weight"])
        loss, grads = next_token_loss_and_grads(params, config, moved, masks, self.checkpointing)
        return float(loss), grads


def next_token_loss_and_grads(
    params: Params, config: GPTNeoConfig, windows: Array, masks: Masks = no_masks, checkpointing: bool = False
) -> tuple[Array, Params]:
    """The loss of predicting each token of windows (B, T + 1) but the first, and its gradients; -100 is not counted."""
    xp = array_namespace(windows)
    input_ids, targets = windows[:, :-1], windows[:, 1:]
    input_ids = xp.where(input_ids < 0, xp.zeros_like(input_ids), input_ids)
    trace = Recorder(intermediates_read(config, checkpointing))
    transformer(params, config, input_ids, use_cache=False, tap=trace, masks=masks, prefix=BASE_PREFIX)
    head = f"{BASE_PREFIX}wte.weight" if config.tie_word_embeddings else "lm_head.weight"
    hidden = trace["ln_f"]
    logits = linear(hidden, params[head])
    dlogits = cross_entropy_backward(1.0, logits, targets)
    dhidden, dhead, _ = linear_backward(dlogits, hidden, params[head])
    grads = transformer_backward(dhidden, params, config, trace, input_ids, masks=masks, prefix=BASE_PREFIX)
    return cross_entropy(logits, targets), add_gradients(grads, {head: dhead})
