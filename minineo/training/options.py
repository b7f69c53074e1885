"""Every option of a training run, with its default, its description and its check; from TOML or from the command line.

Options are checked, all of them, before anything is computed or written. Model options have the names that they have in
`GPTNeoConfig`. This module imports no NumPy: how many threads NumPy may use has to be said before it is imported.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from minineo.config import GPTNeoConfig
from minineo.config_checks import check_integer
from minineo.device_names import gpu_number

OPTIMIZERS = ("adamw", "muon", "sgd")
DECAYS = ("cosine", "linear", "constant")
DTYPES = ("float32", "float16")
LOCAL_PROCESSES = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")  # where mpiexec says how many it has started here
MODEL_FIELDS = (
    *("hidden_size", "num_layers", "num_heads", "intermediate_size", "max_position_embeddings", "window_size"),
    *("attention_types", "activation_function", "resid_dropout", "embed_dropout", "attention_dropout"),
    "tie_word_embeddings",
)


@dataclass(frozen=True)
class TrainingOptions:
    """What a run does: on which data, which model, how it is optimised, and what is written where and when.

    Paths are relative to the working directory. A step is one update of the parameters by one batch.

    Raises:
        ValueError, TypeError: an option has a value that no run can have; the message names it.
    """

    train: Annotated[tuple[str, ...], "data", "text files, folders of them, or a token file, to learn from"] = ()
    validation: Annotated[tuple[str, ...], "data", "the same, to measure the loss on while training"] = ()
    tokenizer: Annotated[str | None, "data", "directory of one to use (default: learn it from the training text)"] = (
        None
    )
    vocab_size: Annotated[int, "data", "tokens of the vocabulary, where it is learned"] = 4096

    hidden_size: Annotated[int, "model", "width of the residual stream"] = 192
    num_layers: Annotated[int, "model", "transformer blocks"] = 6
    num_heads: Annotated[int, "model", "attention heads of a block"] = 6
    intermediate_size: Annotated[int | None, "model", "width of the MLP (default: 4 times the hidden size)"] = None
    max_position_embeddings: Annotated[int, "model", "tokens of context; training windows are as long"] = 256
    window_size: Annotated[int, "model", "tokens that a local layer sees"] = 64
    attention_types: Annotated[
        list[Any] | None, "model", 'such as [[["global", "local"], 3]] (default: alternating, global first)'
    ] = None
    activation_function: Annotated[str, "model", "of the MLP"] = "gelu_new"
    resid_dropout: Annotated[float, "model", "share of the blocks' outputs that is dropped"] = 0.0
    embed_dropout: Annotated[float, "model", "share of the embeddings that is dropped"] = 0.0
    attention_dropout: Annotated[float, "model", "share of the attention pattern that is dropped"] = 0.0
    tie_word_embeddings: Annotated[bool, "model", "the head is the token embedding"] = True

    optimizer: Annotated[str, "learning", "adamw, muon or sgd"] = "adamw"
    learning_rate: Annotated[float, "learning", "the highest, after warm-up"] = 1e-3
    min_learning_rate: Annotated[float, "learning", "the lowest, at the end of the decay"] = 0.0
    warmup_steps: Annotated[int, "learning", "steps over which the learning rate rises from 0"] = 0
    hold_steps: Annotated[int, "learning", "steps at the full learning rate, before it falls"] = 0
    decay: Annotated[str, "learning", "how the learning rate falls: cosine, linear or constant (not at all)"] = "cosine"
    weight_decay: Annotated[float, "learning", "pull of the linear layers' matrices towards 0"] = 0.1
    beta1: Annotated[float, "learning", "memory of AdamW's mean of gradients"] = 0.9
    beta2: Annotated[float, "learning", "memory of AdamW's mean of squared gradients"] = 0.95
    epsilon: Annotated[float, "learning", "least denominator in AdamW"] = 1e-8
    momentum: Annotated[float, "learning", "memory of SGD and Muon"] = 0.95
    max_grad_norm: Annotated[float, "learning", "longer gradients are shortened to this length (inf: none)"] = 1.0

    steps: Annotated[int | None, "run", "updates to make; pass this or epochs"] = None
    epochs: Annotated[float | None, "run", "passes over the data (default: 1)"] = None
    batch_size: Annotated[int, "run", "windows of a step, those of all pieces and processes together"] = 16
    gradient_accumulation: Annotated[int, "run", "pieces that a batch is computed in: more need less memory"] = 1
    gradient_checkpointing: Annotated[bool, "run", "compute blocks again in backward: slower, less memory"] = False
    seed: Annotated[int, "run", "of the first weights, the order of the data, dropout and samples"] = 0
    workers: Annotated[int | None, "run", "threads that share a batch (default: the usable cores)"] = None
    device: Annotated[str, "run", "where to compute: cpu, cuda (the first GPU), cuda:1, ..."] = "cpu"

    output: Annotated[str, "output", "directory for the model, checkpoints, log and samples"] = ""
    dtype: Annotated[str, "output", "of the weights of the finished model: float32 or float16"] = "float32"
    log_every: Annotated[int, "output", "steps between lines of the log"] = 10
    eval_every: Annotated[int, "output", "steps between measurements on the validation data"] = 500
    eval_windows: Annotated[int | None, "output", "windows of validation data to measure on (default: all)"] = None
    save_every: Annotated[int, "output", "steps between checkpoints"] = 500
    keep_checkpoints: Annotated[int, "output", "latest checkpoints to keep, beside the best on the validation data"] = 2
    sample_every: Annotated[int, "output", "steps between samples of text"] = 1000
    sample_prompts: Annotated[tuple[str, ...], "output", "beginnings of the samples"] = ("Once upon a time",)
    sample_tokens: Annotated[int, "output", "longest continuation in a sample"] = 60

    def __post_init__(self) -> None:
        for name, option in FIELDS.items():
            object.__setattr__(self, name, as_kind(name, getattr(self, name), option.kind))
        _check(self)
        self.model_config(self.vocab_size)

    def model_config(self, vocab_size: int, end_token_id: int | None = None) -> GPTNeoConfig:
        """The configuration of the model to train, with a vocabulary whose size only the tokenizer knows."""
        fields = {name: getattr(self, name) for name in MODEL_FIELDS}
        if self.attention_types is None:
            pairs = [[["global", "local"], self.num_layers // 2], [["global"], self.num_layers % 2]]
            fields["attention_types"] = [pair for pair in pairs if pair[1]]
        return GPTNeoConfig(vocab_size=vocab_size, bos_token_id=end_token_id, eos_token_id=end_token_id, **fields)


@dataclass(frozen=True)
class Option:
    """What is known of a field: its type, its table in a TOML file, its description, its default."""

    kind: Any
    table: str
    description: str
    default: Any


def fields_of(options: type) -> dict[str, Option]:
    """What is known of the fields of a dataclass whose types say it, as those of TrainingOptions do."""
    hints = get_type_hints(options, include_extras=True)
    found = {}
    for field in dataclasses.fields(options):
        kind, table, description = get_args(hints[field.name])
        found[field.name] = Option(kind, table, description, field.default)
    return found


FIELDS = fields_of(TrainingOptions)
TABLES = tuple(dict.fromkeys(option.table for option in FIELDS.values()))


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read options from a TOML file, in which each stands in its table: `[model]`, then `hidden_size = 192`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not TOML, or has a table or option that does not exist; the message names the nearest.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file. Expected a TOML file with the options of a run.")
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid TOML ({error}).") from error
    options: dict[str, Any] = {}
    for table, entries in content.items():
        if table in FIELDS and not isinstance(entries, dict):
            raise ValueError(f"{path}: {table} stands outside of a table; put it under [{FIELDS[table].table}].")
        if table not in TABLES or not isinstance(entries, dict):
            raise ValueError(f"{path}: [{table}] is no table of options; {_nearest(table, TABLES)}")
        for name, value in entries.items():
            if name not in FIELDS:
                raise ValueError(f"{path}: there is no option {name}; {_nearest(name, FIELDS)}")
            if table != FIELDS[name].table:
                raise ValueError(f"{path}: {name} stands under [{table}]; it belongs under [{FIELDS[name].table}].")
            options[name] = value
    return options


def options_from(given: Mapping[str, Any]) -> TrainingOptions:
    """Options by name, the others at their defaults.

    Raises:
        ValueError, TypeError: there is no such option, or it cannot have this value.
    """
    check_names(given, FIELDS)
    return TrainingOptions(**given)


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise for the name of an option that does not exist.

    Raises:
        ValueError: naming the nearest that does.
    """
    for name in given:
        if name not in known:
            raise ValueError(f"there is no option {name}; {_nearest(name, known)}")


def usable_cores() -> int:
    """Cores that this process may use: those that it is allowed to, shared with the others that mpiexec started."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = next((int(os.environ[name]) for name in LOCAL_PROCESSES if name in os.environ), 1)
    return max(1, allowed // processes)


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}."


def as_kind(name: str, value: Any, kind: Any) -> Any:
    """The value, as the field's type has it: a path for a list of one, an int where a float is meant."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if value is None and NoneType in kinds:
        return None
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if tuple[str, ...] in kinds:
        texts = [value] if isinstance(value, str | os.PathLike) else value
        if isinstance(texts, list | tuple) and all(isinstance(text, str | os.PathLike) for text in texts):
            return tuple(os.fspath(text) for text in texts)
        raise TypeError(f"{name}: received {value!r}, expected a text or a list of texts.")
    if str in kinds and isinstance(value, os.PathLike):
        return os.fspath(value)
    plain = tuple(get_origin(kind) or kind for kind in kinds)
    if not isinstance(value, plain) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join(sorted(kind.__name__ for kind in plain if kind is not NoneType))
        raise TypeError(f"{name}: received {value!r} of type {type(value).__name__}, expected {names}.")
    return value


def _check(options: TrainingOptions) -> None:
    """Raise where an option has a value that no run can have; the model's are checked by its configuration."""
    if not options.train:
        raise ValueError(
            "train: received nothing, expected text files to learn from, folders of them, or a token file."
        )
    for name in ("train", "validation"):
        if "" in getattr(options, name):
            raise ValueError(f"{name}: received an empty name, expected a file or a folder (. is this one).")
    if options.tokenizer == "":
        raise ValueError("tokenizer: received an empty name, expected a directory.")
    if not options.output:
        raise ValueError("output: received nothing, expected a directory for the model, its checkpoints and the log.")
    for name in (
        *("vocab_size", "num_layers", "batch_size", "gradient_accumulation", "log_every", "eval_every", "save_every"),
        *("keep_checkpoints", "sample_every", "sample_tokens"),
    ):
        check_integer(name, getattr(options, name), minimum=1)
    for name in ("steps", "workers", "eval_windows"):
        if getattr(options, name) is not None:
            check_integer(name, getattr(options, name), minimum=1)
    for name in ("warmup_steps", "hold_steps"):
        check_integer(name, getattr(options, name), minimum=0)
    check_integer("seed", options.seed, minimum=0, maximum=2**64 - 1)
    _check_optimizer(options)
    for name, choices in (("optimizer", OPTIMIZERS), ("decay", DECAYS), ("dtype", DTYPES)):
        if getattr(options, name) not in choices:
            raise ValueError(f"{name}: received {getattr(options, name)!r}, expected one of {', '.join(choices)}.")
    gpu_number(options.device)  # raises where it is no name of a device
    if options.steps is not None and options.epochs is not None:
        raise ValueError(f"steps, epochs: received {options.steps} and {options.epochs}, expected one of the two.")
    if options.epochs is not None and not 0.0 < options.epochs < math.inf:
        raise ValueError(f"epochs: received {options.epochs}, expected a positive number.")
    if options.steps is not None:
        check_length(options, options.steps)
    if options.gradient_accumulation > options.batch_size:
        raise ValueError(
            f"gradient_accumulation: received {options.gradient_accumulation}, expected at most batch_size, which is "
            f"{options.batch_size}: a piece has at least one window."
        )
    if options.max_position_embeddings < 2:
        raise ValueError("max_position_embeddings: received 1, expected at least 2 tokens of context.")


def check_length(options: TrainingOptions, steps: int) -> None:
    """Raise where warm-up and hold leave nothing of a run of so many steps."""
    if options.warmup_steps + options.hold_steps >= steps:
        raise ValueError(
            f"warmup_steps, hold_steps: received {options.warmup_steps} and {options.hold_steps} for a run of "
            f"{steps} steps, expected fewer in all."
        )


def _check_optimizer(options: TrainingOptions) -> None:
    if not 0.0 < options.learning_rate < math.inf:
        raise ValueError(
            f"learning_rate: received {options.learning_rate}, expected a positive number such as 0.001; with 0 "
            "nothing would be learned."
        )
    if not 0.0 <= options.min_learning_rate <= options.learning_rate:
        raise ValueError(
            f"min_learning_rate: received {options.min_learning_rate}, expected a number from 0 to learning_rate, "
            f"which is {options.learning_rate}."
        )
    for name in ("beta1", "beta2", "momentum"):
        if not 0.0 <= getattr(options, name) < 1.0:
            raise ValueError(f"{name}: received {getattr(options, name)}, expected a number from 0 to below 1.")
    if not 0.0 <= options.weight_decay < math.inf:
        raise ValueError(f"weight_decay: received {options.weight_decay}, expected 0 or a positive number.")
    if not 0.0 < options.epsilon < math.inf:
        raise ValueError(f"epsilon: received {options.epsilon}, expected a positive number.")
    if not options.max_grad_norm > 0.0:
        raise ValueError(
            f"max_grad_norm: received {options.max_grad_norm}, expected a positive number; inf shortens nothing."
        )
