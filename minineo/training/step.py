"""Loss and gradients of one batch, its rows shared out among threads.

NumPy's matrix products use all cores by themselves, its element-wise functions one. With a thread for each core, and
matrix products that keep to their thread (OPENBLAS_NUM_THREADS=1), all of a training step runs on all cores.

Dimensions: B windows of a batch, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np

from minineo.arrays import Array
from minineo.classes import GPTNeoForCausalLM
from minineo.fast.learning import language_model_head
from minineo.fast.training import TrainingPass
from minineo.fast.workspace import Workspace
from minineo.layers.dropout import DropoutMasks, Masks, no_masks
from minineo.model.block import Params
from minineo.model.heads_backward import add_gradients
from minineo.model.names import BASE_PREFIX
from minineo.training.distributed import share


class TrainingStep:
    """Computes a language model's loss and gradients, batch after batch, on `workers` threads.

    Use it in a `with` statement, or close it: it holds threads, and memory that is used again in each step. With
    `checkpointing`, less of that: blocks run again in backward. `dropout_seed` draws the masks of dropout, at the rates
    of the model's configuration; None drops nothing.

    The gradients of a batch are the sum of its shares', in their order, so that they are the same in every run with the
    same number of workers; another number of workers rounds differently.
    """

    def __init__(
        self,
        model: GPTNeoForCausalLM,
        workers: int = 1,
        checkpointing: bool = False,
        dropout_seed: int | None = None,
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers: received {workers!r}, expected the number of threads, at least 1.")
        self.model, self.checkpointing, self.dropout_seed = model, checkpointing, dropout_seed
        self.workspaces = [Workspace() for _ in range(workers)]
        self.threads = ThreadPoolExecutor(workers)
        self.each = self.threads.map  # how the optimiser goes on

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads."""
        self.threads.shutdown()

    def __call__(self, windows: Array, step: int = 0, first_row: int = 0) -> tuple[float, Params]:
        """The mean loss of windows (B, T + 1), in nats a token, and its gradients by all parameters.

        Each position but the last is told to predict the next one; where that is -100, it is not counted. `step` and
        `first_row`, the number of the first window in its batch, say which dropout masks to draw.
        """
        counted = int(np.count_nonzero(windows[:, 1:] != -100))
        workers = min(len(self.workspaces), len(windows))
        parts = [share(len(windows), part, workers) for part in range(workers)]
        shares = [
            self.threads.submit(
                self._share, windows[rows.start : rows.stop], step, first_row + rows.start, counted, space
            )
            for rows, space in zip(parts, self.workspaces, strict=False)
        ]
        return sum_of_shares([found.result() for found in shares])

    def _share(
        self, windows: Array, step: int, first_row: int, counted: int, workspace: Workspace
    ) -> tuple[float, Params]:
        """What some windows add to the loss and to the gradients of a batch in which `counted` positions count."""
        params, config = self.model.params, self.model.config
        masks: Masks = no_masks
        if self.dropout_seed is not None:
            masks = DropoutMasks(config, self.dropout_seed, step, first_row)
        input_ids, targets = np.maximum(windows[:, :-1], 0), windows[:, 1:]
        inputs = dict.fromkeys(("attention_mask", "position_ids", "token_type_ids", "inputs_embeds"))
        run = TrainingPass(
            params, config, {"input_ids": input_ids, **inputs}, BASE_PREFIX, masks, self.checkpointing, workspace
        )
        hidden = run.forward()
        loss, dhidden, head_grads = language_model_head(params, config, hidden, targets, counted)
        return float(loss), add_gradients(run.backward(dhidden), head_grads)


def sum_of_shares(shares: Sequence[tuple[float, Params]]) -> tuple[float, Params]:
    """Add up losses and gradients, into the first share's arrays."""
    loss, grads = shares[0]
    for other_loss, others in shares[1:]:
        loss += other_loss
        for name, gradient in grads.items():
            gradient += others[name]
    return loss, grads
