"""The training loop: draw a batch, find the gradients, shorten them if need be, take a step.

Dimensions: B windows of a batch, T positions.
"""

from __future__ import annotations

import math
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from minineo.arrays import Array
from minineo.checkpoints import cast
from minineo.classes import GPTNeoForCausalLM
from minineo.devices import current_device, to_device
from minineo.model.block import Params
from minineo.training import log
from minineo.training.checkpoint import DAMAGED, read_checkpoint
from minineo.training.checkpoint_files import directory_of
from minineo.training.clipping import clip_by_global_norm
from minineo.training.data_windows import windows
from minineo.training.device_step import DeviceTrainingStep
from minineo.training.distributed import Alone, join, share
from minineo.training.options import TrainingOptions, usable_cores
from minineo.training.output_directory import held
from minineo.training.plots import PICTURE_FILE, plot_losses
from minineo.training.reporter import Reporter, Step
from minineo.training.run import Run, start
from minineo.training.step import TrainingStep
from minineo.training.stop_request import StopRequest

AnyStep = TrainingStep | DeviceTrainingStep


def train(options: TrainingOptions, resume: bool = False, progress: bool = False) -> Path:
    """Train a language model, and return the directory that it is in: `options.output`.

    The directory then holds the model that had the lowest validation loss (without validation data, the last one) and
    its tokenizer, as `minineo.load` and `transformers` read them, the log, the samples, the picture of the losses, and
    the last checkpoints. `resume` continues, bit for bit, from the newest of them. Ctrl-C finishes the step, writes a
    checkpoint and stops. `progress` shows on standard error how it goes.

    Raises:
        ValueError, TypeError, FileNotFoundError, FileExistsError: options, data and output directory do not fit
            together, or another run writes there; no step has been made then, and nothing is left behind.
        FloatingPointError: the loss, a gradient or a parameter is infinite or no number. Earlier checkpoints stay.
        OSError: a checkpoint could not be written. Earlier ones stay.
        KeyboardInterrupt: after Ctrl-C.
    """
    processes = join()
    try:
        with held(Path(options.output)) if processes.rank == 0 else nullcontext():
            return _train(options, resume, progress, processes)
    except Stopped:
        raise
    except BaseException as error:
        processes.fail(error)
        raise


def _train(options: TrainingOptions, resume: bool, progress: bool, processes: Alone) -> Path:
    run = start(options, resume, progress and sys.stderr.isatty(), processes)
    workers = usable_cores() if options.workers is None else options.workers
    if run.on_gpu:
        workers = 1  # threads are for processors
    has_dropout = options.resid_dropout or options.embed_dropout or options.attention_dropout
    dropout_seed = options.seed if has_dropout else None
    is_first = processes.rank == 0
    with (
        current_device(next(iter(run.model.params.values()))),
        loss_and_grads_of(run, workers, dropout_seed) as loss_and_grads,
        Reporter(run, workers, progress and is_first) as reporter,
        StopRequest() as request,
    ):
        while run.position.step < run.steps:
            found = training_step(run, loss_and_grads, processes, request)
            if is_first:
                reporter.step(found)
            if found.stop:
                if is_first:
                    reporter.stopped()
                raise Stopped
        if is_first:
            finish(run, reporter)
    return run.output


def loss_and_grads_of(run: Run, workers: int, dropout_seed: int | None) -> AnyStep:
    """What computes a step's loss and gradients: on threads for NumPy, without them on a GPU."""
    checkpointing = run.options.gradient_checkpointing
    if run.on_gpu:
        return DeviceTrainingStep(run.model, checkpointing, dropout_seed)
    return TrainingStep(run.model, workers, checkpointing, dropout_seed)


def training_step(run: Run, loss_and_grads: AnyStep, processes: Alone, request: StopRequest) -> Step:
    """One update of the parameters.

    Raises:
        FloatingPointError: the loss, or a gradient, is infinite or no number. The parameters are what they were.
    """
    options, step = run.options, run.position.step
    T = options.max_position_embeddings
    batch = windows(run.corpus.train.tokens, T, options.batch_size, options.seed, step)
    rows = share(options.batch_size, processes.rank, processes.size)
    loss, grads = batch_gradients(loss_and_grads, batch, rows, step, options.gradient_accumulation)
    loss, grads, stop = processes.add_up(loss, grads, request.asked)
    norm = clip_by_global_norm(grads, options.max_grad_norm)
    rate = run.learning_rate()
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise run.diverged(f"the loss is {loss}, the norm of the gradients {norm}")
    run.optimizer.step(run.model.params, grads, rate, loss_and_grads.each)
    run.position.step += 1
    return Step(loss, norm, rate, stop)


def batch_gradients(loss_and_grads: AnyStep, batch: Array, rows: range, step: int, pieces: int) -> tuple[float, Params]:
    """What some rows of a batch (B, T + 1) add to its loss and gradients.

    They are computed in pieces one after another (gradient accumulation), which need less memory. A mean over the batch
    is the sum of its pieces' means, each weighted by its part of the windows.
    """
    loss = 0.0
    grads: Params = {}
    pieces = min(pieces, len(rows))
    for piece in range(pieces):
        inside = share(len(rows), piece, pieces)
        part = rows[inside.start : inside.stop]
        weight = len(part) / len(batch)
        piece_loss, piece_grads = loss_and_grads(batch[part.start : part.stop], step, part.start)
        loss += weight * piece_loss
        for name, gradient in piece_grads.items():
            if weight < 1.0:
                gradient *= weight
            if name in grads:
                grads[name] += gradient
        grads = grads or piece_grads
    return loss, grads


def finish(run: Run, reporter: Reporter) -> None:
    """Leave a usable model in the output directory, and the picture of the losses beside it."""
    model, which = best_model(run)
    exported = type(model)(
        model.config,
        {name: cast(to_device(array, "cpu"), np.dtype(run.options.dtype)) for name, array in model.params.items()},
    )
    exported.save_pretrained(run.output)
    run.corpus.tokenizer.save_pretrained(run.output)
    reporter.say(f"{run.output}: the model of {which}")
    try:
        plot_losses(log.read_log(run.output), run.output / PICTURE_FILE)
    except ImportError as error:
        reporter.say(str(error))


def best_model(run: Run) -> tuple[GPTNeoForCausalLM, str]:
    """The model whose validation loss was lowest, and which it is; without one, that of the last step."""
    best, last = run.position.best_step, f"the last step, {run.position.step}"
    if best is None:
        return run.model, last
    which = f"step {best}, where the validation loss was lowest: {run.position.best_loss:.4f}"
    if best == run.position.step:
        return run.model, which
    path = directory_of(run.output, best)
    try:
        return read_checkpoint(path).model, which
    except DAMAGED as error:
        warnings.warn(f"{path}, the best one, is damaged; the last step's model is taken ({error})", stacklevel=2)
        return run.model, last


class Stopped(KeyboardInterrupt):
    """Ctrl-C was pressed, and the run has been saved."""
