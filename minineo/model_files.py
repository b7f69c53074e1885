"""A model's files: configuration, weights and defaults for generation, read and written as `transformers` has them."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minineo.checkpoints import cast, floating_dtype, match, read_state_dict, save_state_dict
from minineo.checkpoints.directory import WEIGHTS_NAME, Format
from minineo.checkpoints.save import SAFETENSORS, Layout
from minineo.config import GENERATION_CONFIG_FILE, GPTNeoConfig
from minineo.json_file import read_json_object, write_text
from minineo.layers.activations import activation
from minineo.location import inside, resolve, split_hub_options
from minineo.model.block import Params
from minineo.model.initialise import initialise
from minineo.model.names import BASE_PREFIX

if TYPE_CHECKING:
    from minineo.pretrained import GPTNeoPreTrainedModel


def read_model(
    model_class: type[GPTNeoPreTrainedModel[Any]],
    name_or_path: str | os.PathLike[str],
    config: GPTNeoConfig | None,
    options: dict[str, Any],
    dtype: Any,
    seed: int,
    formats: Sequence[Format],
) -> tuple[GPTNeoConfig, Params, dict[str, Any]]:
    """Configuration, parameters and generation defaults for a class; the arguments are those of `from_pretrained`.

    `options` are fields of the configuration, and what the Hub is asked with.
    """
    hub, fields = split_hub_options(options)
    path = resolve(name_or_path, ["config", "weights"] if config is None else ["weights"], formats=formats, **hub)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such directory; it is a file. Expected the folder that it is in.")
    config = GPTNeoConfig.from_pretrained(path) if config is None else config
    unknown = [name for name in fields if not hasattr(config, name)]
    if unknown:
        raise TypeError(f"from_pretrained has no argument {unknown[0]!r}, nor the configuration such a field.")
    config = GPTNeoConfig.from_dict(config.to_dict(), **fields)
    try:
        activation(config.activation_function)  # before the weights are read
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    params = read_params(model_class, path, config, dtype, seed, formats)
    if "lm_head.weight" in params and config.tie_word_embeddings:  # the file has two tables, whatever it says
        config = GPTNeoConfig.from_dict(config.to_dict(), tie_word_embeddings=False)
    defaults = inside(path, GENERATION_CONFIG_FILE)
    return config, params, read_json_object(defaults) if defaults.is_file() else {}


def read_params(
    model_class: type[GPTNeoPreTrainedModel[Any]],
    path: Path,
    config: GPTNeoConfig,
    dtype: Any,
    seed: int,
    formats: Sequence[Format],
) -> Params:
    """All parameters of a checkpoint directory; those that it lacks are drawn, with a warning that names them."""
    floats = floating_dtype(dtype)
    shapes = model_class.parameter_shapes(config)
    state = read_state_dict(path, formats)
    file = path / WEIGHTS_NAME
    source = str(file if file.is_file() else path)  # for what is in none of its files
    found, missing, _ = match(state, shapes, source=source, base_prefix=BASE_PREFIX, tied=model_class.tied(config))
    if missing:
        warnings.warn(
            f"{path} has no {', '.join(missing)}: initialised at random. Train the model before you use them.",
            stacklevel=4,  # the line that called from_pretrained
        )
    drawn = initialise({name: shapes[name] for name in missing}, config, seed)
    params: Params = {name: cast(array, floats) for name, array in found.items()}
    return params | {name: array.astype(floats, copy=False) for name, array in drawn.items()}


def write_model(
    directory: str | os.PathLike[str],
    architecture: str,
    config: GPTNeoConfig,
    params: Params,
    generation_config: dict[str, Any],
    max_shard_size: int | str,
    layout: Layout = SAFETENSORS,
) -> None:
    """Write configuration, parameters in a format's layout, and defaults for generation; `save_pretrained` says how.

    `architecture` is the name of the class that `transformers` is to load the model with.
    """
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    save_state_dict(params, path, max_shard_size, layout)
    written = {"architectures": [architecture], "dtype": str(next(iter(params.values())).dtype)}
    GPTNeoConfig.from_dict(config.to_dict() | written).save_pretrained(path)
    if generation_config:
        text = json.dumps(generation_config, indent=2, sort_keys=True) + "\n"
        write_text(path / GENERATION_CONFIG_FILE, text)
