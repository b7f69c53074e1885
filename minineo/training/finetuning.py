"""Fine-tuning: a model that has learned to predict text goes on to learn a task from a few hundred examples.

The loop is the same for all tasks; what is particular about each stands in `minineo.training.tasks`.
"""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minineo.bundled import checkpoint_directory
from minineo.checkpoints import cast, describe
from minineo.config import GPTNeoConfig
from minineo.json_file import write_text
from minineo.tokenizer import GPT2Tokenizer
from minineo.training import log
from minineo.training.clipping import clip_by_global_norm
from minineo.training.finetuning_options import FinetuningOptions
from minineo.training.optimisers import AdamW
from minineo.training.options import usable_cores
from minineo.training.output_directory import check_output, held
from minineo.training.schedule import learning_rate
from minineo.training.stop_request import StopRequest
from minineo.training.tasks import TASKS, Task
from minineo.training.tasks.batches import Model, Row, batches, loss_and_grads
from minineo.training.tasks.examples import Example, spread
from minineo.training.tasks.metrics import Scores

SCORES_FILE = "scores.json"
BETAS = (0.9, 0.999)
LOG_EVERY = 10


@dataclass(frozen=True)
class Outcome:
    """What a run came to: scores on the held-out examples, of the baselines and of the model before and after.

    `seconds` is the time that all of it took, reading and measuring included.
    """

    scores: dict[str, Scores]
    steps: int
    seconds: float


def finetune(options: FinetuningOptions, progress: bool = False) -> Outcome:
    """Fine-tune a model for a task, and write it to the directory `options.output`.

    The directory then holds the model of the last step and its tokenizer, as `from_pretrained` of minineo and of
    `transformers` read them, the log and, if there are held-out examples, their scores. Ctrl-C finishes the step,
    writes the model as it is and stops. `progress` shows on standard error how it goes.

    Raises:
        ValueError, TypeError, FileNotFoundError, FileExistsError: options, examples, model and output directory do not
            fit together, or another run writes there. No step has been made then, and nothing is left behind.
        FloatingPointError: the loss, a gradient or a parameter is infinite or no number. Nothing is written then but
            the log.
        KeyboardInterrupt: after Ctrl-C.
    """
    with held(Path(options.output)):
        return _finetune(options, progress)


def _finetune(options: FinetuningOptions, progress: bool) -> Outcome:
    """Read, measure, learn, write, measure again."""
    began = time.perf_counter()
    task, output = TASKS[options.task], Path(options.output)
    check_output(output, SCORES_FILE)
    train = spread(task.read(options.train), options.limit)
    validation = None if options.validation is None else spread(task.read(options.validation), options.limit)
    model, tokenizer = prepare(task, options, train)
    rows = encode(task, options.train, train, model, tokenizer)
    if validation is not None:
        encode(task, str(options.validation), validation, model, tokenizer)  # an unknown label is found before training
    log.cut_files(output, {})
    workers = usable_cores() if options.workers is None else options.workers
    scores: dict[str, Scores] = {}
    if validation is not None:
        scores = task.baselines(train, validation)
        say(f"measuring the model before, on {len(validation)} held-out examples", progress)
        scores["before"] = task.evaluate(model, tokenizer, validation, workers)
    steps = learn(model, rows, options, workers, progress)
    save(model, tokenizer, options)
    if steps < number_of_steps(options, rows):
        say(f"stopped after step {steps}; {output} holds the model as it is", progress)
        raise KeyboardInterrupt
    if validation is not None:
        say("measuring the model after", progress)
        written = task.model_class.from_pretrained(output)  # what the files hold, be it in 16 bits
        scores["after"] = task.evaluate(written, tokenizer, validation, workers)
    outcome = Outcome(scores, steps, time.perf_counter() - began)
    if validation is not None:
        write_text(output / SCORES_FILE, json.dumps(asdict(outcome), indent=2) + "\n")
    return outcome


def prepare(task: Task, options: FinetuningOptions, examples: list[Example]) -> tuple[Model, GPT2Tokenizer]:
    """The model to begin with, with a head for the task drawn at random unless it has one, and its tokenizer.

    Both get a token to pad with, the end-of-text token, if they have none.

    Raises:
        ValueError: the tokenizer has no end-of-text token, or is another model's; the model's head is for other labels.
    """
    with checkpoint_directory(options.model) as directory, warnings.catch_warnings():
        tokenizer = GPT2Tokenizer.from_pretrained(directory)
        if tokenizer.eos_token_id is None:
            raise ValueError("model: its tokenizer has no eos_token, which marks where a text ends.")
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        fields = task.config_fields(examples)
        check_head(task, directory, fields.get("label2id"))
        fields |= {"pad_token_id": tokenizer.pad_token_id}
        if options.dropout is not None:
            names = ("embed_dropout", "attention_dropout", "resid_dropout", "classifier_dropout")
            fields |= dict.fromkeys(names, options.dropout)
        warnings.filterwarnings("ignore", message=".*initialised at random")  # so it shall be
        model = task.model_class.from_pretrained(directory, seed=options.seed, **fields)
        model.params = {name: np.array(value) for name, value in model.params.items()}  # in memory, to be changed
        if len(tokenizer) > model.config.vocab_size:
            raise ValueError(
                f"model: {directory} has a tokenizer of {len(tokenizer)} tokens, the model's vocabulary only "
                f"{model.config.vocab_size}. Use the tokenizer that the model was trained with."
            )
    return model, tokenizer


def check_head(task: Task, directory: Path, label2id: Mapping[str, int] | None) -> None:
    """Raise where a checkpoint has a head for other labels, or other numbers of them, than those to be learned.

    Raises:
        ValueError: naming both.
    """
    config = GPTNeoConfig.from_pretrained(directory)
    head = task.model_class.head_shapes(config)
    has_head = any(tensor.name in head for tensor in describe(directory))
    if label2id is not None and has_head and config.label2id != label2id:
        raise ValueError(
            f"model: the head of {directory} is for the labels {', '.join(config.label2id)}, the examples have "
            f"{', '.join(label2id)}. Use examples with the model's labels, or begin with a model without this head."
        )


def encode(task: Task, path: str, examples: list[Example], model: Model, tokenizer: GPT2Tokenizer) -> list[Row]:
    """What the model takes, for examples of a file.

    Raises:
        ValueError: an example does not fit the model, or none is left; the message names the file.
    """
    try:
        rows = task.encode(examples, tokenizer, model.config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not rows:
        raise ValueError(f"{path}: no example is left that fits into the context of the model.")
    return rows


def learn(model: Model, rows: list[Row], options: FinetuningOptions, workers: int, progress: bool) -> int:
    """Change the model's parameters by as many steps as the epochs need, or until Ctrl-C; returns how many.

    Raises:
        FloatingPointError: the loss, or a gradient, is infinite or no number.
    """
    steps = number_of_steps(options, rows)
    optimizer = AdamW(BETAS, weight_decay=options.weight_decay)
    with (
        ThreadPoolExecutor(workers) as pool,
        StopRequest() as stop,
        tqdm(total=steps, unit="step", disable=None if progress else True) as bar,
    ):
        for step, batch in enumerate(_endless(rows, options)):
            loss, grads = loss_and_grads(model, batch, pool, workers, options.seed, step)
            norm = clip_by_global_norm(grads, options.max_grad_norm)
            rate = learning_rate(step, steps, options.learning_rate, int(options.warmup * steps), "linear")
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise FloatingPointError(
                    f"step {step + 1}: the loss is {loss}, the norm of the gradients {norm}, at a learning rate of "
                    f"{rate:.3g}. Try a lower learning_rate or more warmup. No model has been written."
                )
            optimizer.step(model.params, grads, rate, pool.map)
            bar.update()
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            if optimizer.steps % LOG_EVERY == 0 or optimizer.steps == steps:
                record = {"step": optimizer.steps, "loss": loss, "learning_rate": rate, "gradient_norm": norm}
                log.append_log(Path(options.output), record)
            if optimizer.steps == steps or stop.asked:
                break
    return optimizer.steps


def number_of_steps(options: FinetuningOptions, rows: list[Row]) -> int:
    """How many updates the epochs need."""
    return max(1, round(options.epochs * math.ceil(len(rows) / options.batch_size)))


def _endless(rows: list[Row], options: FinetuningOptions) -> Iterator[list[Row]]:
    """The batches of one epoch after another."""
    epoch = 0
    while True:
        yield from batches(rows, options.batch_size, options.seed, epoch)
        epoch += 1


def say(line: str, progress: bool) -> None:
    """Show on standard error what is being done."""
    if progress:
        print(line, file=sys.stderr)


def save(model: Model, tokenizer: GPT2Tokenizer, options: FinetuningOptions) -> None:
    """Write model and tokenizer to the output directory.

    Raises:
        FloatingPointError: a parameter is infinite or no number: there is nothing to be written.
    """
    params = {name: cast(array, np.dtype(options.dtype)) for name, array in model.params.items()}
    for name, array in params.items():
        if not np.isfinite(array).all():
            raise FloatingPointError(
                f"{name} has become infinite or no number, in {options.dtype}. Try a lower learning_rate"
                f"{' or dtype float32' if options.dtype != 'float32' else ''}. No model has been written."
            )
    tokenizer.save_pretrained(options.output)
    type(model)(model.config, params).save_pretrained(options.output)  # last: with its config.json all is there


def table(scores: Mapping[str, Mapping[str, float]]) -> list[tuple[str, ...]]:
    """Scores as rows of a table, under a heading."""
    names = list(next(iter(scores.values())))
    return [("", *names), *((who, *(f"{values[name]:.3f}" for name in names)) for who, values in scores.items())]
