"""The shape of a GPT-Neo model: every field and default of Hugging Face's `GPTNeoConfig` (transformers 5.23)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from minineo.config_checks import check_fields, check_integer
from minineo.json_file import read_json_object, write_text
from minineo.location import inside, resolve, split_hub_options
from minineo.quoting import quote

CONFIG_FILE = "config.json"
GENERATION_CONFIG_FILE = "generation_config.json"

# Far beyond any model: a file may claim any number, and memory is needed for each.
MOST_LAYERS = 2_000
MOST_LABELS = 50_000
MOST_FIELDS = 10_000

# Fields that Hugging Face keeps for every architecture: written to config.json only where they differ from these.
_COMMON_DEFAULTS: dict[str, Any] = {
    "architectures": None,
    "chunk_size_feed_forward": 0,
    "dtype": None,
    "is_encoder_decoder": False,
    "output_attentions": False,
    "output_hidden_states": False,
    "problem_type": None,
    "return_dict": True,
    "transformers_version": None,
}


class GPTNeoConfig:
    """Everything about a GPT-Neo model but its weights.

    Takes its fields as keyword arguments. Unknown ones are kept as attributes and written back, so that a file from
    elsewhere loses nothing. `num_hidden_layers` and `num_attention_heads` are aliases of `num_layers` and `num_heads`.
    A value that no model can have is a `ValueError` or `TypeError` that names the field.

    >>> config = GPTNeoConfig(num_layers=3, attention_types=[[["global", "local"], 1], [["global"], 1]])
    >>> config.attention_layers
    ['global', 'local', 'global']
    """

    model_type: ClassVar[str] = "gpt_neo"

    vocab_size: int = 50257
    max_position_embeddings: int = 2048
    hidden_size: int = 2048
    num_layers: int = 24
    attention_types: list[Any]  # [[["global", "local"], 12]]: the pattern between the inner brackets, 12 times
    attention_layers: list[str]  # attention_types written out, one entry a layer
    num_heads: int = 16
    intermediate_size: int | None = None  # None: 4 * hidden_size
    window_size: int = 256  # a local layer's position i sees positions i - window_size + 1 ... i
    activation_function: str = "gelu_new"
    resid_dropout: float = 0.0
    embed_dropout: float = 0.0
    attention_dropout: float = 0.0
    classifier_dropout: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    use_cache: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    pad_token_id: int | None = None
    tie_word_embeddings: bool = True

    architectures: list[str] | None
    dtype: str | None  # of the weights in the checkpoint; what to load them as is from_pretrained's dtype
    id2label: dict[int, str]
    label2id: dict[str, int]
    problem_type: str | None
    output_attentions: bool
    output_hidden_states: bool
    return_dict: bool

    def __init__(self, /, **fields: Any) -> None:
        fields = _without_aliases(fields)
        model_type = fields.pop("model_type", self.model_type)
        if model_type != self.model_type:
            raise ValueError(
                f"model_type: received {quote(model_type)}, expected {self.model_type!r}. "
                "This configuration is of another architecture, which minineo does not implement."
            )
        if fields.get("attention_types") is None:
            fields["attention_types"] = [[["global", "local"], 12]]
        expanded = expand_attention_types(fields["attention_types"])
        if fields.get("attention_layers") is None:
            fields["attention_layers"] = expanded
        self._set_labels(fields.pop("num_labels", None), fields.pop("id2label", None), fields.pop("label2id", None))
        for name, value in (_COMMON_DEFAULTS | fields).items():
            if name.startswith("__"):
                raise ValueError(f"{quote(name)}: such names are Python's own, and no field's.")
            if name in _RESERVED:
                raise ValueError(
                    f"{name}: received {quote(value)}, but GPTNeoConfig has a method or property of this name."
                )
            setattr(self, name, _copy(value))
        check_fields(self)
        if len(expanded) != self.num_layers:
            raise ValueError(
                f"attention_types: {quote(self.attention_types)} stands for {len(expanded)} layers, "
                f"but num_layers is {self.num_layers}. For alternating layers pass "
                f"attention_types={_alternating(self.num_layers)!r}."
            )
        if self.attention_layers != expanded:
            raise ValueError(
                f"attention_layers: received {quote(self.attention_layers)}, but attention_types "
                f"{quote(self.attention_types)} stands for {quote(expanded)}. "
                "Leave attention_layers out, or make the two agree."
            )

    @property
    def num_hidden_layers(self) -> int:
        """Hugging Face's common name of `num_layers`."""
        return self.num_layers

    @num_hidden_layers.setter
    def num_hidden_layers(self, value: int) -> None:
        self.num_layers = value

    @property
    def num_attention_heads(self) -> int:
        """Hugging Face's common name of `num_heads`."""
        return self.num_heads

    @num_attention_heads.setter
    def num_attention_heads(self, value: int) -> None:
        self.num_heads = value

    @property
    def head_size(self) -> int:
        """Width of one attention head, `d` in the layers' docstrings."""
        return self.hidden_size // self.num_heads

    @property
    def inner_size(self) -> int:
        """Width of the MLP's hidden layer: `intermediate_size`, or four times `hidden_size` where that is None."""
        return 4 * self.hidden_size if self.intermediate_size is None else self.intermediate_size

    @property
    def num_labels(self) -> int:
        """Number of classes of a classification head (1: regression)."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, value: int) -> None:
        check_integer("num_labels", value, minimum=1, maximum=MOST_LABELS)
        self.id2label = {i: f"LABEL_{i}" for i in range(value)}
        self.label2id = {label: i for i, label in self.id2label.items()}

    def window(self, layer: int) -> int | None:
        """How far layer `layer` looks back, itself included: `window_size` if it is local, None if global."""
        return self.window_size if self.attention_layers[layer] == "local" else None

    def to_dict(self) -> dict[str, Any]:
        """All fields as a dictionary that `GPTNeoConfig(**...)` takes back."""
        defaults = {name: getattr(self, name) for name in _MODEL_FIELDS}
        fields: dict[str, Any] = _copy(defaults | vars(self) | {"model_type": self.model_type})
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any], **overrides: Any) -> GPTNeoConfig:
        """Build a configuration from a dictionary, with `overrides` winning over what it says."""
        if len(fields) > MOST_FIELDS:
            raise ValueError(f"received {len(fields):,} fields, expected at most {MOST_FIELDS:,}.")
        fields = _without_aliases(fields)
        overrides = _without_aliases(overrides)
        if "attention_types" in overrides:
            fields.pop("attention_layers", None)
        if "num_labels" in overrides:
            fields.pop("id2label", None)
            fields.pop("label2id", None)
        return cls(**(fields | overrides))

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str], **overrides: Any) -> GPTNeoConfig:
        """Read `config.json` of a checkpoint directory (or that file itself), or of a model on the Hub.

        `overrides` are fields that replace the file's, and `revision`, `token`, `cache_dir`, `local_files_only` and
        `force_download` for the Hub (`minineo.location.HubOptions`).

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a GPT-Neo configuration; the message names the file and the field.
            ImportError, OSError: as `minineo.checkpoints.hub.download`.
        """
        hub, overrides = split_hub_options(overrides)
        path = resolve(name_or_path, ["config"], **hub)
        path = inside(path, CONFIG_FILE) if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file. Expected a directory that holds {CONFIG_FILE}.")
        fields = read_json_object(path)
        try:
            return cls.from_dict(fields, **overrides)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{path}: {error}") from error

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write `config.json` into `directory`, which is made if need be, as Hugging Face reads it."""
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / CONFIG_FILE, self.to_json_string())

    def to_json_string(self) -> str:
        """The text of `config.json`: GPT-Neo's own fields, and of the common ones those that are not the default."""
        fields = self.to_dict()
        if fields["id2label"] == {0: "LABEL_0", 1: "LABEL_1"}:  # the default of 2 labels goes without saying
            del fields["id2label"], fields["label2id"]
        fields = {name: value for name, value in fields.items() if value != _COMMON_DEFAULTS.get(name, ...)}
        return json.dumps(fields, indent=2, sort_keys=True) + "\n"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GPTNeoConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # fields can change, so a configuration is no dictionary key

    def __repr__(self) -> str:
        return f"GPTNeoConfig {self.to_json_string().rstrip()}"

    def _set_labels(self, num_labels: int | None, id2label: Any, label2id: Any) -> None:
        """Set `id2label` and `label2id`, in the former with integer keys again, which JSON turned into strings."""
        if id2label is None:
            self.num_labels = 2 if num_labels is None else num_labels
            return
        if not isinstance(id2label, dict) or not id2label:
            raise TypeError(f"id2label: received {quote(id2label)}, expected a dictionary like {{0: 'no', 1: 'yes'}}.")
        if label2id is not None and not isinstance(label2id, dict):
            raise TypeError(f"label2id: received {quote(label2id)}, expected a dictionary like {{'no': 0, 'yes': 1}}.")
        if any(isinstance(label, dict | list) for label in id2label.values()):
            raise TypeError(f"id2label: received {quote(id2label)}, expected labels that are strings.")
        if num_labels not in (None, len(id2label)):
            raise ValueError(
                f"num_labels: received {quote(num_labels)}, but id2label names {len(id2label)}. Pass one of the two."
            )
        try:
            self.id2label = {int(key): label for key, label in id2label.items()}
        except ValueError:
            raise ValueError(f"id2label: received {quote(id2label)}, expected keys that are integers.") from None
        self.label2id = {label: key for key, label in self.id2label.items()} if label2id is None else dict(label2id)


# What an unknown field of a file must not replace.
_RESERVED = {name for name in vars(GPTNeoConfig) if name not in GPTNeoConfig.__annotations__}
_MODEL_FIELDS = [
    name
    for name in GPTNeoConfig.__annotations__
    if name not in (*_COMMON_DEFAULTS, "model_type", "id2label", "label2id")
]


def expand_attention_types(attention_types: Sequence[Any]) -> list[str]:
    """Write out GPT-Neo's run-length notation, one entry a layer.

    >>> expand_attention_types([[["global", "local"], 2], [["global"], 1]])
    ['global', 'local', 'global', 'local', 'global']
    """
    expected = 'a list of [pattern, repeats] pairs such as [[["global", "local"], 12]]'
    if not isinstance(attention_types, list | tuple):
        raise TypeError(f"attention_types: received {quote(attention_types)}, expected {expected}.")
    layers: list[str] = []
    for item in attention_types:
        match item:
            case [list() | tuple() as pattern, int() as repeats] if repeats >= 0 and not isinstance(repeats, bool):
                unknown = [kind for kind in pattern if kind not in ("global", "local")]
                if unknown:
                    raise ValueError(
                        f"attention_types: received the kind {quote(unknown[0])}, expected 'global' or 'local'."
                    )
                if len(layers) + max(1, len(pattern)) * repeats > MOST_LAYERS:
                    raise ValueError(f"attention_types: {quote(item)} stands for more than {MOST_LAYERS} layers.")
                layers.extend(list(pattern) * repeats)
            case _:
                raise ValueError(f"attention_types: received the item {quote(item)}, expected {expected}.")
    return layers


def _alternating(num_layers: int) -> list[Any]:
    pairs = [[["global", "local"], num_layers // 2]] if num_layers >= 2 else []
    return pairs + ([[["global"], 1]] if num_layers % 2 else [])


def _without_aliases(fields: dict[str, Any]) -> dict[str, Any]:
    """A copy in which the names that Hugging Face also accepts are replaced by GPT-Neo's own."""
    aliases = {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads", "torch_dtype": "dtype"}
    return {aliases.get(name, name): value for name, value in fields.items()}


def _copy(value: Any) -> Any:
    """A deep copy of what JSON can hold, so that nobody shares lists with the configuration."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list | tuple) else value
