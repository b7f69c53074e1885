"""The log of a run: JSON lines, one object a line, and the samples of text that the model wrote as it learned.

A line of `log.jsonl` has `step` (updates made so far) and either what the training step found (`loss` in nats a token,
`learning_rate`, `gradient_norm`, `tokens` so far, `tokens_per_second`) or what the validation found (`validation_loss`,
`bits_per_byte`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOG_FILE = "log.jsonl"
SAMPLES_FILE = "samples.txt"
GROWING = {LOG_FILE: b'{"step": ', SAMPLES_FILE: b"=== step "}  # and how each of them begins


def append_log(output: Path, record: Mapping[str, Any]) -> None:
    """Add a line to the log."""
    _append(output / LOG_FILE, json.dumps(record) + "\n")


def append_sample(output: Path, step: int, text: str) -> None:
    """Add a sample of text, under a heading with the step."""
    _append(output / SAMPLES_FILE, f"=== step {step}\n\n{text}\n\n")


def read_log(output: Path) -> list[dict[str, Any]]:
    """All lines of the log."""
    return [json.loads(line) for line in (output / LOG_FILE).read_text(encoding="utf-8").splitlines()]


def check_files(output: Path) -> None:
    """Raise where a file of the user's has the name of one that a run writes.

    Raises:
        FileExistsError: naming it.
    """
    for name, beginning in GROWING.items():
        path = output / name
        if not path.exists():
            continue
        with open(path, "rb") as file:
            found = file.read(len(beginning))
        if found not in (b"", beginning):
            raise FileExistsError(
                f"output: {path} is of no training run, and would be overwritten. Move it away first."
            )


def file_sizes(output: Path) -> dict[str, int]:
    """Bytes of the files that grow, to be kept in a checkpoint."""
    return {name: (output / name).stat().st_size if (output / name).exists() else 0 for name in GROWING}


def cut_files(output: Path, sizes: Mapping[str, int]) -> None:
    """Cut the files that grow to what they were at a checkpoint: the steps beyond it will be made, and told, again."""
    for name in GROWING:
        if (output / name).exists():
            with open(output / name, "r+b") as file:
                # a file that is shorter, because somebody edited it, stays as it is
                file.truncate(min(sizes.get(name, 0), file.seek(0, 2)))


def _append(path: Path, text: str) -> None:
    with open(path, "a", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write(text)
