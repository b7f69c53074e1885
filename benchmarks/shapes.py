"""The shapes of real models, and checkpoints with random weights in them, the same for every peer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minineo
from benchmarks.options import Options


@dataclass(frozen=True)
class Shape:
    """A model's dimensions, with layers that alternate between global and local."""

    name: str
    hidden_size: int
    num_layers: int
    num_heads: int
    vocab_size: int = 50257
    window_size: int = 256
    positions: int = 2048
    compiled: bool = False  # whether to wait minutes for torch.compile

    def config(self, layers: list[Any] | None = None) -> minineo.GPTNeoConfig:
        """The configuration; `layers` are its attention_types where they do not alternate."""
        return minineo.GPTNeoConfig(
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            vocab_size=self.vocab_size,
            window_size=self.window_size,
            max_position_embeddings=self.positions,
            attention_types=layers or [[["global", "local"], self.num_layers // 2]],
            bos_token_id=self.vocab_size - 1,
            eos_token_id=self.vocab_size - 1,
        )


M125 = Shape("125M", 768, 12, 12, compiled=True)
M33 = Shape("TinyStories-33M", 768, 4, 16)
M1 = Shape("TinyStories-1M", 64, 8, 16)
BUNDLED = Shape("3.5M", 192, 6, 6, vocab_size=4096, window_size=64, positions=256)  # like the bundled model
TINY = Shape("tiny", 32, 2, 2, vocab_size=4096, window_size=16)  # with room for the bundled tokenizer


def wanted(options: Options) -> list[Shape]:
    """The shapes to run."""
    if options.quick:
        return [TINY]
    return [shape for shape in (M125, M33, M1) if options.shapes is None or shape.name in options.shapes]


def main_shape(options: Options) -> Shape:
    """The one shape of the parts that need no others."""
    return TINY if options.quick else M125


def checkpoint(shape: Shape, options: Options) -> Path:
    """A folder with a checkpoint of this shape, written once a run: weights as Hugging Face initialises them."""
    directory = options.workspace / shape.name
    if not directory.exists():
        minineo.GPTNeoForCausalLM(shape.config(), seed=0).save_pretrained(directory)
    return directory
