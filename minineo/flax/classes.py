"""The classes that Flax's users hold: the names, arguments and outputs of `transformers` 4, without Flax.

`params` is Flax's nested dictionary. A call turns it into the flat one that the rest of minineo computes with, by
transposed views, and runs the same pure functions as all other classes do. Arrays are NumPy's until JAX's are given:

    model.params = jax.tree.map(jax.numpy.asarray, model.params)
    logits = jax.jit(lambda params, input_ids: model(input_ids, params=params).logits)(model.params, input_ids)

Dimensions: B batch, T new positions, L positions that a cache has room for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, ClassVar, Generic, TypeVar, cast

import numpy as np
from array_api_compat import is_jax_array

from minineo.arrays import Array, beside, converted
from minineo.checkpoints.directory import FLAX_FORMATS, FORMATS
from minineo.checkpoints.dtypes import floating_dtype
from minineo.checkpoints.flax_names import flatten, flax_name, from_flax, to_flax, turned_shape, unflatten
from minineo.checkpoints.save import FLAX, SAFETENSORS
from minineo.classes import GPTNeoForCausalLM, GPTNeoModel
from minineo.config import GPTNeoConfig
from minineo.fast.choose import functions_for
from minineo.flax.cache import empty_cache, layers_of, nested
from minineo.flax.checks import check_call, check_train
from minineo.flax.forward import forward
from minineo.flax.outputs import FlaxBaseModelOutputWithPast, FlaxCausalLMOutput, register_with_jax
from minineo.flax.randomness import masks_for, seed_of
from minineo.layers.activations import activation
from minineo.location import Part, resolve, split_hub_options
from minineo.model.block import Params
from minineo.model.initialise import initialise
from minineo.model.inputs import check_params
from minineo.model.names import Shapes
from minineo.model.outputs import ModelOutput
from minineo.model_files import write_model
from minineo.pretrained import GPTNeoPreTrainedModel

Tree = dict[str, Any]
Output = TypeVar("Output", bound=ModelOutput)


class FlaxGPTNeoPreTrainedModel(Generic[Output]):
    """Base of the Flax models, generic in what a call returns."""

    counterpart: ClassVar[type[GPTNeoPreTrainedModel[Any]]]  # the class of the same model with flat parameters
    make_output: ClassVar[Callable[..., ModelOutput]]

    def __init__(
        self,
        config: GPTNeoConfig,
        input_shape: tuple[int, ...] = (1, 1),
        seed: int = 0,
        dtype: Any = "float32",
        _do_init: bool = True,
    ) -> None:
        """Draw parameters from `seed`, unless `_do_init` is False: then the model holds none, and calls pass `params`.

        `dtype` is what a call computes in, whatever the parameters are stored in; JAX's arrays can have "bfloat16",
        too. `input_shape` is taken as Flax takes it, and changes nothing.
        """
        if not isinstance(config, GPTNeoConfig):
            raise TypeError(f"config: received a {type(config).__name__}, expected a GPTNeoConfig.")
        activation(config.activation_function)
        self.config = config
        self.input_shape = input_shape
        self.dtype = "bfloat16" if "bfloat16" in str(dtype) else floating_dtype(dtype).name
        self.generation_config: dict[str, Any] = {}
        self._is_initialized = _do_init
        self._params: Tree = self.init_weights(seed, input_shape) if _do_init else {}

    @property
    def params(self) -> Tree:
        """The parameters as Flax nests them: `params["transformer"]["wte"]["embedding"]`."""
        self._check_initialized()
        return self._params

    @params.setter
    def params(self, params: Mapping[str, Any]) -> None:
        self._check_initialized()
        self._check_params(params)
        self._params = unflatten(flatten(params))

    def _check_initialized(self) -> None:
        if not self._is_initialized:
            raise ValueError(
                "params: the model was made with _do_init=False and holds none. Keep those that init_weights or "
                "from_pretrained gave, and pass them to each call: model(input_ids, params=params)."
            )

    @property
    def required_params(self) -> set[tuple[str, ...]]:
        """The way to every parameter, such as `("transformer", "wte", "embedding")`."""
        return {tuple(name.split("/")) for name in self._shapes()}

    def _shapes(self) -> Shapes:
        """Shapes of the parameters by Flax's names, such as `transformer/wte/embedding`."""
        flat = self.counterpart.parameter_shapes(self.config)
        return {flax_name(name): turned_shape(flax_name(name), shape) for name, shape in flat.items()}

    def _check_params(self, params: Mapping[str, Any]) -> None:
        """Raise unless `params` holds floating-point arrays of one library under exactly these names and shapes."""
        if not isinstance(params, Mapping):
            raise TypeError(f"params: received a {type(params).__name__}, expected nested dictionaries of arrays.")
        check_params(flatten(params), self._shapes())

    def init_weights(
        self, rng: Any = 0, input_shape: tuple[int, ...] = (1, 1), params: Mapping[str, Any] | None = None
    ) -> Tree:
        """Parameters as Flax initialises them: nested, float32, of JAX's arrays if `rng` is a key of jax.random.

        `rng` can be a seed or a NumPy generator, too. Those in `params` are kept, and only the others drawn. (The
        numbers are NumPy's: from the same key Flax drew others, of the same distribution.)
        """
        drawn = to_flax(initialise(self.counterpart.parameter_shapes(self.config), self.config, seed_of(rng)))
        if is_jax_array(rng):
            drawn = unflatten({name: beside(np.asarray(array), like=rng) for name, array in flatten(drawn).items()})
        if params is not None:
            drawn = unflatten(flatten(drawn) | flatten(params))
            self._check_params(drawn)
        return drawn

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        config: GPTNeoConfig | None = None,
        dtype: Any = "float32",
        seed: int = 0,
        from_pt: bool = False,
        _do_init: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Load a checkpoint, from `flax_model.msgpack` if it is there, else from any other format that minineo reads.

        `from_pt=True` takes the other formats even where there is a Flax one. The parameters are NumPy's, as
        `GPTNeoForCausalLM.from_pretrained` loads them, which takes the same `kwargs`; `dtype` is for computing. With
        `_do_init=False` returns the model, which then holds no parameters, and the parameters.

        Raises:
            FileNotFoundError, CheckpointError: as `GPTNeoForCausalLM.from_pretrained` does.
        """
        flax_files = [name for format_ in FLAX_FORMATS for name in (format_.weights_name, format_.index_name)]
        hub, kwargs = split_hub_options(kwargs)
        formats = FORMATS if from_pt else (*FLAX_FORMATS, *FORMATS)
        parts: list[Part] = ["config", "weights"] if config is None else ["weights"]
        directory = resolve(name_or_path, parts, formats=formats, **hub)
        from_flax = not from_pt and any((directory / name).is_file() for name in flax_files)
        flat = cls.counterpart.from_pretrained(directory, config=config, seed=seed, from_flax=from_flax, **kwargs)
        model = cls(flat.config, seed=seed, dtype=dtype, _do_init=False)
        model.generation_config = flat.generation_config
        if not _do_init:
            return model, to_flax(flat.params)
        model._is_initialized = True
        model._params = to_flax(flat.params)
        return model

    def save_pretrained(
        self,
        directory: str | os.PathLike[str],
        params: Mapping[str, Any] | None = None,
        max_shard_size: int | str = "10GB",
        safe_serialization: bool = False,
    ) -> None:
        """Write `flax_model.msgpack` and `config.json` as `transformers` 4 reads them; `directory` is made if need be.

        Weights beyond `max_shard_size` go into several files with an index. With `safe_serialization` the weights are
        written as safetensors, under the names that all other classes have.
        """
        tree = self.params if params is None else params
        self._check_params(tree)
        architecture, layout = type(self).__name__.removeprefix("Flax"), SAFETENSORS if safe_serialization else FLAX
        flat, defaults = from_flax(tree), self.generation_config
        write_model(directory, architecture, self.config, flat, defaults, max_shard_size, layout)

    def init_cache(self, batch_size: int, max_length: int, like: Array | None = None) -> Tree:
        """An empty static cache for `past_key_values`, with room for `max_length` positions, prompt included.

        Its arrays are of the library of `like`, by default of the model's parameters.
        """
        most = self.config.max_position_embeddings
        sizes: tuple[Any, ...] = (batch_size, max_length)
        if not all(isinstance(size, Integral) for size in sizes):
            raise TypeError(
                f"init_cache: received batch_size {batch_size!r} and max_length {max_length!r}, expected ints."
            )
        if not 1 <= max_length <= most or batch_size < 1:
            raise ValueError(
                f"init_cache: received batch_size {batch_size} and max_length {max_length}, expected at least 1 and "
                f"1 ... {most} (max_position_embeddings)."
            )
        like = next(iter(flatten(self.params).values())) if like is None else like
        return empty_cache(self.config, batch_size, max_length, self.counterpart.prefix, self._as_dtype(like))

    def __call__(
        self,
        input_ids: Array,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        params: Mapping[str, Any] | None = None,
        past_key_values: Mapping[str, Any] | None = None,
        train: bool = False,
        dropout_rng: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Output:
        """Run the model: input_ids and position_ids (B, T) of integers, attention_mask (B, T), 0 at padding.

        `params` stand in for the model's own: so it is a function of them, to be jitted or differentiated. With
        `past_key_values` of `init_cache` or of an earlier output, position_ids have to be given, and attention_mask is
        (B, L): it speaks of all that the cache has room for. Flags that are None follow the configuration. `train`
        turns dropout on, which draws from `dropout_rng`: a key of jax.random, or for NumPy's arrays a seed (other
        numbers each time need another seed) or a NumPy generator. `return_dict=False` gives a tuple.

        NumPy's arrays are moved to the library of the parameters; no other mixture of libraries is accepted.

        Raises:
            ValueError, TypeError: saying which input is wrong, what was received and what was expected.
        """
        check_train(train)
        config, prefix = self.config, self.counterpart.prefix
        flat = self._flat_params(params)
        weight = flat[f"{prefix}wte.weight"]
        past = None if past_key_values is None else layers_of(past_key_values, config, prefix)
        inputs = check_call(config, weight, input_ids, attention_mask, position_ids, past)
        output, layers = forward(
            self.counterpart.forward,
            flat,
            config,
            *inputs,
            past,
            masks_for(config, train, dropout_rng, weight),
            functions_for(weight),
            output_attentions=config.output_attentions if output_attentions is None else output_attentions,
            output_hidden_states=config.output_hidden_states if output_hidden_states is None else output_hidden_states,
        )
        cache = None if layers is None else nested(layers, config, prefix)
        as_flax = self.make_output(output[0], cache, output.get("hidden_states"), output.get("attentions"))
        as_output = config.return_dict if return_dict is None else return_dict
        return cast(Output, as_flax if as_output else as_flax.to_tuple())

    def _flat_params(self, params: Mapping[str, Any] | None) -> Params:
        """Parameters under the checkpoint's names, in the dtype to compute in; the model's own for None."""
        if params is not None:
            self._check_params(params)
        flat = from_flax(self.params if params is None else params)
        if any(map(is_jax_array, flat.values())):
            register_with_jax()
        return {name: self._as_dtype(array) for name, array in flat.items()}

    def _as_dtype(self, array: Array) -> Array:
        return converted(array, self.dtype)

    def __repr__(self) -> str:
        config = self.config
        return (
            f"{type(self).__name__}({config.num_layers} layers, {config.num_heads} heads, hidden size "
            f"{config.hidden_size}, vocabulary {config.vocab_size}, computing in {self.dtype})"
        )


class FlaxGPTNeoModel(FlaxGPTNeoPreTrainedModel[FlaxBaseModelOutputWithPast]):
    """The transformer alone: tokens to last_hidden_state (B, T, D)."""

    counterpart = GPTNeoModel
    make_output = FlaxBaseModelOutputWithPast


class FlaxGPTNeoForCausalLM(FlaxGPTNeoPreTrainedModel[FlaxCausalLMOutput]):
    """The language model: tokens to logits (B, T, V) for each next token."""

    counterpart = GPTNeoForCausalLM
    make_output = FlaxCausalLMOutput
