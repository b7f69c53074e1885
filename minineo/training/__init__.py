"""Learning: optimisers, their schedule, the data, and the loop that turns them into a trained model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minineo.training.clipping import clip_by_global_norm
    from minineo.training.data import TokenFile, open_token_file, write_token_file
    from minineo.training.data_windows import windows
    from minineo.training.loop import train
    from minineo.training.optimisers import SGD, AdamW, Muon
    from minineo.training.options import TrainingOptions
    from minineo.training.schedule import learning_rate
    from minineo.training.step import TrainingStep

_PLACES = {
    "AdamW": "optimisers",
    "Muon": "optimisers",
    "SGD": "optimisers",
    "TokenFile": "data",
    "TrainingOptions": "options",
    "TrainingStep": "step",
    "clip_by_global_norm": "clipping",
    "learning_rate": "schedule",
    "open_token_file": "data",
    "train": "loop",
    "windows": "data_windows",
    "write_token_file": "data",
}

__all__ = [
    "SGD",
    "AdamW",
    "Muon",
    "TokenFile",
    "TrainingOptions",
    "TrainingStep",
    "clip_by_global_norm",
    "learning_rate",
    "open_token_file",
    "train",
    "windows",
    "write_token_file",
]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: the command line reads the options of a run before it imports NumPy."""
    if name not in _PLACES:
        raise AttributeError(f"module 'minineo.training' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"minineo.training.{_PLACES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
