"""The training loop: draw a batch, find the gradients, shorten them if need be, take a step.

Dimensions: B windows of a batch, T positions.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np

from minineo.arrays import Array
from minineo.checkpoints import cast
from minineo.model.block import Params
from minineo.training import log
from minineo.training.checkpoint import read_checkpoint
from minineo.training.checkpoint_files import directory_of
from minineo.training.clipping import clip_by_global_norm
from minineo.training.data import windows
from minineo.training.distributed import share
from minineo.training.options import TrainingOptions, usable_cores
from minineo.training.plots import PICTURE_FILE, plot_losses
from minineo.training.reporter import Reporter, Step
from minineo.training.run import Run, begin, continue_run
from minineo.training.step import TrainingStep


def train(options: TrainingOptions, resume: bool = False, progress: bool = False) -> Path:
    """Train a language model, and return the directory that it is in: `options.output`.

    The directory then holds the model that had the lowest validation loss (without validation data, the last one) and
    its tokenizer, as `minineo.load` and `transformers` read them, the log, the samples, the picture of the losses, and
    the last checkpoints. `resume` continues, bit for bit, from the newest of them. Ctrl-C finishes the step, writes a
    checkpoint and stops. `progress` shows on standard error how it goes.

    Raises:
        ValueError, TypeError, FileNotFoundError, FileExistsError: options, data and output directory do not fit
            together; nothing has been computed then, and nothing written but token files.
        FloatingPointError: the loss, or a gradient, is infinite or no number. Earlier checkpoints stay.
        OSError: a checkpoint could not be written. Earlier ones stay.
        KeyboardInterrupt: after Ctrl-C.
    """
    bars = progress and sys.stderr.isatty()
    run = continue_run(options, bars) if resume else begin(options, bars)
    workers = usable_cores() if options.workers is None else options.workers
    has_dropout = options.resid_dropout or options.embed_dropout or options.attention_dropout
    dropout_seed = options.seed if has_dropout else None
    with (
        TrainingStep(run.model, workers, options.gradient_checkpointing, dropout_seed) as loss_and_grads,
        Reporter(run, workers, progress) as reporter,
        StopRequest() as stop,
    ):
        while run.position.step < run.steps:
            found = training_step(run, loss_and_grads)
            reporter.step(found)
            if stop.asked:
                reporter.save()
                reporter.say(
                    f"stopped after step {run.position.step} of {run.steps}; to go on: "
                    f"minineo train --resume --output {run.output}"
                )
                raise KeyboardInterrupt
        finish(run, reporter)
    return run.output


def training_step(run: Run, loss_and_grads: TrainingStep) -> Step:
    """One update of the parameters.

    Raises:
        FloatingPointError: the loss, or a gradient, is infinite or no number. The parameters are what they were.
    """
    options, step = run.options, run.position.step
    T = options.max_position_embeddings
    batch = windows(run.corpus.train.tokens, T, options.batch_size, options.seed, step)
    loss, grads = batch_gradients(loss_and_grads, batch, step, options.gradient_accumulation)
    norm = clip_by_global_norm(grads, options.max_grad_norm)
    rate = run.learning_rate()
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise FloatingPointError(
            f"step {step + 1}: the loss is {loss}, the norm of the gradients {norm}, at a learning rate of {rate:.3g}. "
            "Try a lower learning_rate, more warmup_steps or a smaller max_grad_norm. The checkpoints of earlier steps "
            "are as they were."
        )
    run.optimizer.step(run.model.params, grads, rate, loss_and_grads.threads.map)
    run.position.step += 1
    return Step(loss, norm, rate)


def batch_gradients(loss_and_grads: TrainingStep, batch: Array, step: int, pieces: int) -> tuple[float, Params]:
    """Loss and gradients of a batch (B, T + 1), computed in pieces one after another, which need less memory.

    A mean over a batch is the mean of its pieces, each weighted by its windows.
    """
    loss = 0.0
    grads: Params = {}
    for piece in range(pieces):
        rows = share(len(batch), piece, pieces)
        weight = len(rows) / len(batch)
        piece_loss, piece_grads = loss_and_grads(batch[rows.start : rows.stop], step, rows.start)
        loss += weight * piece_loss
        for name, gradient in piece_grads.items():
            gradient *= weight
            if name in grads:
                grads[name] += gradient
        grads = grads or piece_grads
    return loss, grads


def finish(run: Run, reporter: Reporter) -> None:
    """Leave a usable model in the output directory, and the picture of the losses beside it."""
    model, which = run.model, f"the last step, {run.position.step}"
    best = run.position.best_step
    if best is not None:
        which = f"step {best}, where the validation loss was lowest: {run.position.best_loss:.4f}"
        if best != run.position.step:
            model = read_checkpoint(directory_of(run.output, best)).model
    exported = type(model)(
        model.config, {name: cast(array, np.dtype(run.options.dtype)) for name, array in model.params.items()}
    )
    exported.save_pretrained(run.output)
    run.corpus.tokenizer.save_pretrained(run.output)
    reporter.say(f"{run.output}: the model of {which}")
    try:
        plot_losses(log.read_log(run.output), run.output / PICTURE_FILE)
    except ImportError as error:
        reporter.say(str(error))


class StopRequest:
    """Ctrl-C asks for a stop once the step is finished: in the middle of it, half of the parameters are new.

    A second Ctrl-C ends the process as usual. In another thread than the main one, signals are left alone.
    """

    def __init__(self) -> None:
        self.asked = False
        self._previous: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
