"""Files <-> parameters: checkpoints as Hugging Face transformers writes and reads them."""

from minineo.checkpoints.directory import describe, read_state_dict
from minineo.checkpoints.dtypes import BFLOAT16, cast, floating_dtype
from minineo.checkpoints.errors import CheckpointError
from minineo.checkpoints.header import TensorInfo
from minineo.checkpoints.match import Matched, match
from minineo.checkpoints.safetensors_file import open_safetensors, save_safetensors
from minineo.checkpoints.save import save_state_dict

__all__ = [
    "BFLOAT16",
    "CheckpointError",
    "Matched",
    "TensorInfo",
    "cast",
    "describe",
    "floating_dtype",
    "match",
    "open_safetensors",
    "read_state_dict",
    "save_safetensors",
    "save_state_dict",
]
