"""Training runs that take a second: a little text, and options of a tiny model."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minineo.training import loop
from minineo.training.checkpoint import read_checkpoint
from minineo.training.checkpoint_files import checkpoints
from minineo.training.options import TrainingOptions, options_from

WORDS = [
    "the",
    "king",
    "queen",
    "wolf",
    "bear",
    "went",
    "came",
    "saw",
    "old",
    "young",
    "to",
    "from",
    "home",
    "wood",
    "and",
]


def write_text(path: Path, words: int, seed: int = 0) -> Path:
    """A text of words drawn at random, in sentences, in documents."""
    random = np.random.default_rng(seed)
    lines = [" ".join(random.choice(WORDS, 8)) + "." for _ in range(words // 8)]
    lines[len(lines) // 2] = "<|endoftext|>"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tiny_options(folder: Path, output: str = "out", **changed: Any) -> TrainingOptions:
    """A run of 20 steps in `folder`, on texts that are written there."""
    train, validation = folder / "train.txt", folder / "valid.txt"
    if not train.exists():
        write_text(train, 1200)
        write_text(validation, 200, seed=1)
    options: dict[str, Any] = {
        "train": train,
        "validation": validation,
        "vocab_size": 270,
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 2,
        "max_position_embeddings": 16,
        "window_size": 4,
        "learning_rate": 0.01,
        "warmup_steps": 3,
        "batch_size": 6,
        "steps": 20,
        "workers": 1,
        "seed": 5,
        "output": folder / output,
        "log_every": 3,
        "eval_every": 8,
        "eval_windows": 5,
        "save_every": 5,
        "sample_every": 7,
        "sample_tokens": 5,
    }
    options |= changed
    if options["steps"] is not None:
        options["warmup_steps"] = min(options["warmup_steps"], options["steps"] - 1)
    return options_from(options)


def interrupted_at(step: int, options: TrainingOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until somebody presses Ctrl-C in the middle of a step."""
    original = loop.training_step

    def training_step(run: Any, *arguments: Any) -> Any:
        if run.position.step == step - 1:
            signal.raise_signal(signal.SIGINT)
        return original(run, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "training_step", training_step)
        with pytest.raises(KeyboardInterrupt):
            loop.train(options)


def everything_learned(options: TrainingOptions, step: int) -> dict[str, np.ndarray]:
    """Parameters and moments in the checkpoint of a step."""
    found = read_checkpoint(checkpoints(Path(options.output))[step])
    return found.model.params | found.moments


def assert_identical(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Same names, dtypes and bits."""
    assert list(one) == list(other)
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        assert value.tobytes() == other[name].tobytes(), name
