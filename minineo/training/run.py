"""A run of the training loop: begun from its options, or continued from its newest checkpoint."""

from __future__ import annotations

import dataclasses
import reprlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from array_api_compat import array_namespace

from minineo.classes import GPTNeoForCausalLM
from minineo.devices import all_to_device, check_device, current_device
from minineo.layers.activations import activation
from minineo.tokenizer import GPT2Tokenizer
from minineo.training import checkpoint, checkpoint_files, log
from minineo.training.checkpoint import Position
from minineo.training.corpus import Corpus, check_sources, prepare, token_files
from minineo.training.data import fingerprint_of, open_token_file
from minineo.training.distributed import Alone
from minineo.training.optimisers import SGD, AdamW, Muon, Optimiser
from minineo.training.options import FIELDS, TrainingOptions, check_length
from minineo.training.output_directory import check_output, nothing_left
from minineo.training.plots import PICTURE_FILE
from minineo.training.schedule import learning_rate

# What may be another when a run is continued: paths, since the data itself is compared; where and how fast it is
# computed; and all that is written.
MAY_CHANGE = {
    *("train", "validation", "tokenizer", "vocab_size", "gradient_accumulation", "gradient_checkpointing", "workers"),
    *("device", *(name for name, option in FIELDS.items() if option.table == "output")),
}
# These may change too, with a warning: a run is made longer or shorter, or goes on more carefully where it diverged.
CHANGE_THE_STEPS_TO_COME = (
    *("steps", "epochs", "hold_steps", "learning_rate", "min_learning_rate", "warmup_steps", "max_grad_norm"),
)


@dataclass
class Run:
    """All that a run has: `steps` is its length, `position` how far it is; the rest speaks for itself."""

    options: TrainingOptions
    corpus: Corpus
    model: GPTNeoForCausalLM
    optimizer: Optimiser
    steps: int
    position: Position

    @property
    def output(self) -> Path:
        """The directory that all is written to."""
        return Path(self.options.output)

    @property
    def on_gpu(self) -> bool:
        """Whether the parameters are on a GPU."""
        return self.options.device != "cpu"

    def learning_rate(self) -> float:
        """The learning rate of the step that comes next."""
        return _learning_rate(self.options, self.position.step, self.steps)

    def check(self) -> None:
        """Raise where the last updates have ruined the parameters, or what the optimiser remembers.

        Raises:
            FloatingPointError: naming an array that holds what is no finite number.
        """
        for name, array in (self.model.params | self.optimizer.state).items():
            xp = array_namespace(array)
            if not bool(xp.all(xp.isfinite(array))):
                raise self.diverged(f"{name} holds numbers that are infinite or none")

    def diverged(self, what: str) -> FloatingPointError:
        """The error of a run that has become useless, and what to do."""
        last = max(self.position.step - 1, 0)
        rate = _learning_rate(self.options, last, self.steps)
        return FloatingPointError(
            f"after step {self.position.step}, {what}, at a learning rate of {rate:.3g}. The checkpoints of earlier "
            "steps are as they were: go on from the last one with --resume and a lower learning_rate, more "
            "warmup_steps or a smaller max_grad_norm; where there is none yet, begin again with these."
        )

    def save(self) -> Path:
        """Write a checkpoint, then remove those that are not to be kept.

        Raises:
            FloatingPointError: the parameters are ruined. Nothing is written then.
            OSError: it could not be written.
        """
        self.check()
        self.position.sizes = log.file_sizes(self.output)
        path = checkpoint.save_checkpoint(
            self.output,
            self.model,
            self.corpus.tokenizer,
            self.optimizer.state,
            self.position,
            dataclasses.asdict(self.options),
            self.corpus.facts(),
        )
        checkpoint_files.remove_old(self.output, self.options.keep_checkpoints, self.position.best_step)
        return path


def start(options: TrainingOptions, resume: bool, progress: bool, processes: Alone) -> Run:
    """A run, begun or continued by the first of the processes that train together; the others get it from that one.

    Raises:
        ValueError: there are more processes than windows in a batch, or several for a GPU.
        ImportError, OSError: the device needs CuPy, or a GPU, and it is not there.
    """
    if options.batch_size < processes.size:
        raise ValueError(
            f"batch_size: received {options.batch_size} for {processes.size} processes, expected at least a window for "
            "each."
        )
    check_device(options.device)
    if processes.size > 1 and options.device != "cpu":
        raise ValueError(
            f"device: received {options.device!r} for {processes.size} processes, which can train together on 'cpu' "
            "only. Start without mpiexec."
        )
    if processes.rank == 0:
        run = continue_run(options, progress) if resume else begin(options, progress)
        # not the tokens, which are in a file that all can open
        processes.broadcast((run.corpus.tokenizer, run.corpus.train.path, run.model, run.optimizer, run.position))
        return run
    tokenizer, path, model, optimizer, position = processes.broadcast(None)
    corpus = Corpus(tokenizer, open_token_file(path, tokenizer), None)
    steps = number_of_steps(options, len(corpus.train.tokens))
    return Run(options, corpus, model, optimizer, steps, position)


def begin(options: TrainingOptions, progress: bool = False) -> Run:
    """A run at step 0: its data prepared, its parameters drawn.

    Raises:
        FileExistsError: the output directory holds another run, a model, or a file that would be overwritten.
        FileNotFoundError, ValueError: the data is not there, too small, or does not fit the options.
    """
    output = Path(options.output)
    check_output(output, PICTURE_FILE)
    check_sources(options)
    activation(options.activation_function)  # is there one of this name?
    with nothing_left(token_files(output)):
        corpus = prepare(options, progress=progress)
        steps = number_of_steps(options, len(corpus.train.tokens))
        check_length(options, steps)
        check_prompts(options, corpus)
    config = options.model_config(corpus.train.vocab_size, corpus.train.end_id)
    model = GPTNeoForCausalLM(config, seed=options.seed).to(options.device)
    log.cut_files(output, {})
    return Run(options, corpus, model, make_optimizer(options), steps, Position())


def continue_run(options: TrainingOptions, progress: bool = False) -> Run:
    """A run as its newest checkpoint has it.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it is of another configuration or other data; the message names what differs.
    """
    output = Path(options.output)
    checkpoint_files.remove_unfinished(output)
    found = checkpoint.newest_checkpoint(output)
    # an option that came later was at its default
    stored = {name: _as_json(option.default) for name, option in FIELDS.items()} | found.options
    fixed = [name for name in FIELDS if name not in MAY_CHANGE and name not in CHANGE_THE_STEPS_TO_COME]
    asked = {name: _as_json(getattr(options, name)) for name in fixed}
    checkpoint.check_same(found.path, "configuration", stored, asked)
    config = options.model_config(found.model.config.vocab_size, found.tokenizer.eos_token_id)
    fields = {name: value for name, value in config.to_dict().items() if name not in ("architectures", "dtype")}
    checkpoint.check_same(found.path, "configuration", found.model.config.to_dict(), fields)
    if options.tokenizer is not None:
        tokenizer = GPT2Tokenizer.from_pretrained(options.tokenizer)
        checkpoint.check_same(found.path, "vocabulary", found.data, {"vocabulary": fingerprint_of(tokenizer)})
    corpus = prepare(options, found.tokenizer, progress)
    checkpoint.check_same(found.path, "data set", found.data, corpus.facts())
    check_prompts(options, corpus)
    steps = number_of_steps(options, len(corpus.train.tokens))
    if found.position.step > steps:
        raise ValueError(f"steps: received {steps}, but {found.path} has made {found.position.step}. Pass more.")
    check_length(options, steps)
    changed = [name for name in CHANGE_THE_STEPS_TO_COME if getattr(options, name) != stored.get(name)]
    if changed:
        warnings.warn(f"{', '.join(changed)}: not what the run was begun with; steps to come follow it", stacklevel=2)
    optimizer = make_optimizer(options)
    model = found.model.to(options.device)
    with current_device(next(iter(model.params.values()))):
        optimizer.load_state(all_to_device(found.moments, options.device), found.position.step, model.params)
    checkpoint_files.remove_later(output, found.position.step)  # all of them were damaged
    log.cut_files(output, found.position.sizes)
    return Run(options, corpus, found.model, optimizer, steps, found.position)


def check_prompts(options: TrainingOptions, corpus: Corpus) -> None:
    """Raise where a sample could not even begin: better now than after a thousand steps."""
    for prompt in options.sample_prompts:
        tokens = len(corpus.tokenizer.encode(prompt))
        if tokens >= options.max_position_embeddings:
            raise ValueError(
                f"sample_prompts: {reprlib.repr(prompt)} has {tokens} tokens, expected fewer than "
                f"max_position_embeddings, which is {options.max_position_embeddings}."
            )


def number_of_steps(options: TrainingOptions, tokens: int) -> int:
    """How many updates a run makes: as many as were asked for, or as the epochs need."""
    if options.steps is not None:
        return options.steps
    epochs = 1.0 if options.epochs is None else options.epochs
    return max(1, round(epochs * tokens / (options.batch_size * options.max_position_embeddings)))


def make_optimizer(options: TrainingOptions) -> Optimiser:
    """The optimiser that the options name."""
    betas, epsilon = (options.beta1, options.beta2), options.epsilon
    if options.optimizer == "sgd":
        return SGD(options.momentum, options.weight_decay)
    if options.optimizer == "muon":
        return Muon(options.momentum, betas, epsilon, options.weight_decay)
    return AdamW(betas, epsilon, options.weight_decay)


def _learning_rate(options: TrainingOptions, step: int, steps: int) -> float:
    floor = options.min_learning_rate / options.learning_rate
    return learning_rate(
        step, steps, options.learning_rate, options.warmup_steps, options.decay, floor, options.hold_steps
    )


def _as_json(value: Any) -> Any:
    """The value as a JSON file gives it back: lists where there were tuples."""
    return [_as_json(item) for item in value] if isinstance(value, list | tuple) else value
