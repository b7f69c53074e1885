"""What the five model classes share: construction, files, and the call.

A model is a configuration and a flat dictionary of parameters, keyed as the checkpoint is; calling it checks the inputs
and hands all three to a pure function of `minineo.model`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from minineo.arrays import Array, converted
from minineo.checkpoints import floating_dtype
from minineo.checkpoints.directory import FLAX_FORMATS, FORMATS
from minineo.config import GPTNeoConfig
from minineo.devices import all_to_device, check_device, device_name, on_its_device
from minineo.edits import Edits, editing
from minineo.fast import FAST
from minineo.fast.choose import functions_for
from minineo.fast.layout import laid_out
from minineo.fast.learning import loss_and_grads as fast_loss_and_grads
from minineo.layers.activations import activation
from minineo.layers.dropout import Masks, no_masks
from minineo.model.block import Params
from minineo.model.cache import Cache
from minineo.model.heads_backward import HEADS_BACKWARD, loss_and_grads
from minineo.model.initialise import initialise
from minineo.model.inputs import check_inputs, check_library, check_params
from minineo.model.names import BASE_PREFIX, Shapes, intermediate_names, parameter_shapes
from minineo.model.outputs import ModelOutput
from minineo.model_files import read_model, write_model
from minineo.tap import Tap, no_tap
from minineo.trace import trace

Output = TypeVar("Output", bound=ModelOutput)


class GPTNeoPreTrainedModel(Generic[Output]):
    """Base of the models, generic in what a call returns.

    `config` is a GPTNeoConfig, `params` a flat dictionary of arrays keyed as the checkpoint is, and `generation_config`
    the defaults for `generate` that came with the checkpoint, a plain dictionary.
    """

    forward: ClassVar[Callable[..., ModelOutput]]
    prefix: ClassVar[str] = BASE_PREFIX  # of the transformer's parameters
    returns_cache: ClassVar[bool] = True
    head_inputs: ClassVar[tuple[str, ...]] = ()  # what the call takes beyond the transformer's inputs
    trace = trace

    def __init__(self, config: GPTNeoConfig, params: Mapping[str, Array] | None = None, seed: int = 0) -> None:
        """Take over `params`, or draw them from `seed` as Hugging Face initialises a new model."""
        if not isinstance(config, GPTNeoConfig):
            raise TypeError(f"config: received a {type(config).__name__}, expected a GPTNeoConfig.")
        activation(config.activation_function)  # fail now, not at the first call
        shapes = self.parameter_shapes(config)
        self.config = config
        self.params: Params = laid_out(initialise(shapes, config, seed)) if params is None else dict(params)
        self.generation_config: dict[str, Any] = {}
        check_params(self.params, shapes)

    @classmethod
    def head_shapes(cls, config: GPTNeoConfig) -> Shapes:
        """Names and shapes of the parameters that stand on top of the transformer."""
        return {}

    @classmethod
    def parameter_shapes(cls, config: GPTNeoConfig) -> Shapes:
        """Names and shapes of all parameters, as a checkpoint of this class has them."""
        return parameter_shapes(config, cls.prefix) | cls.head_shapes(config)

    @classmethod
    def tied(cls, config: GPTNeoConfig) -> dict[str, str]:
        """Parameters that are another one under a second name, and that other one's name."""
        return {}

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        config: GPTNeoConfig | None = None,
        dtype: Any = None,
        device: str = "cpu",
        seed: int = 0,
        from_flax: bool = False,
        **config_fields: Any,
    ) -> Self:
        """Load a checkpoint directory that `transformers` or `save_pretrained` wrote, or a model on the Hub.

        float32 weights are memory-mapped and private: they cost no memory until they are read, and editing them does
        not change the file; only each layer's q, k and v are copied, to lie side by side for one product. Others are
        converted to `dtype`, where None means float32, and all are moved to `device` as `to` moves them. `config`
        replaces the directory's own, `config_fields` (such as `num_labels=3`) replace fields of it. Parameters of the
        head that the checkpoint lacks are drawn from `seed`, with a warning that names them. A checkpoint in Flax's
        format is read if there is no other, or with `from_flax=True`. For the Hub there are `revision`, `token`,
        `cache_dir`, `local_files_only` and `force_download` (`minineo.location.HubOptions`).

        Raises:
            FileNotFoundError: there is no such directory, nor a model of that name.
            ImportError, OSError: the device needs CuPy, or a GPU, and it is not there; the Hub cannot be reached, or
                refuses (`minineo.checkpoints.hub.download`).
            CheckpointError: a file is broken or does not fit; the message names the file, the tensor, what was found
                and what was expected. It is a ValueError.
        """
        check_device(device)
        formats = FLAX_FORMATS if from_flax else FORMATS
        config, params, generation_config = read_model(cls, name_or_path, config, config_fields, dtype, seed, formats)
        model = cls(config, laid_out(params))
        model.generation_config = generation_config
        return model.to(device)

    def save_pretrained(self, directory: str | os.PathLike[str], max_shard_size: int | str = "50GB") -> None:
        """Write configuration and weights as `transformers` reads them; `directory` is made if need be.

        What was there is replaced only once the new files are complete. Weights beyond `max_shard_size` bytes go into
        several files with an index.
        """
        architecture, params = type(self).__name__, all_to_device(self.params, "cpu")
        write_model(directory, architecture, self.config, params, self.generation_config, max_shard_size)

    def intermediate_names(self, token_types: bool = True) -> list[str]:
        """What `trace` and `edits` can name, in order of computation; the table is in `minineo.model.names`."""
        return intermediate_names(self.config, token_types, head=bool(self.head_inputs))

    def num_parameters(self) -> int:
        """How many numbers the model has learned; a tied head counts once."""
        return sum(int(array.size) for array in self.params.values())

    @property
    def dtype(self) -> Any:
        """Floating-point type of the parameters."""
        return self.params[f"{self.prefix}wte.weight"].dtype

    @property
    def device(self) -> str:
        """Where the parameters are: "cpu", "cuda:0", or what another library calls its device."""
        return device_name(self.params[f"{self.prefix}wte.weight"])

    @on_its_device
    def to(self, device: str | None = None, dtype: Any = None) -> Self:
        """Move the parameters to a device ("cpu": NumPy, "cuda" or "cuda:1": CuPy), convert them, or both.

        As in torch, the model itself is changed, and returned: `model = model.to("cuda")`. What stays as it is, is not
        copied. `dtype` is float16, float32 or float64; with float16, scores, softmax, norms and losses are computed in
        float32 all the same.

        Raises:
            ValueError, TypeError: there is no such device, or no such dtype in its library.
            ImportError, OSError: the device needs CuPy, or a GPU, and it is not there (`minineo.devices`).
        """
        params = self.params if device is None else all_to_device(self.params, device)
        if dtype is not None:
            params = {name: converted(array, floating_dtype(dtype).name) for name, array in params.items()}
        if any(params[name] is not array for name, array in self.params.items()):
            self.params = laid_out(params)
        return self

    def apply(
        self, params: Params, input_ids: Array | None = None, attention_mask: Array | None = None, **inputs: Any
    ) -> dict[str, Array]:
        """What a call gives for parameters that are passed: a pure function, for `jax.jit` and its relatives.

        Takes what a call takes and checks nothing, since values are not known while JAX traces. Returns a dictionary of
        the output's fields, without a cache unless `use_cache=True`, which JAX could not return.

        >>> logits = jax.jit(model.apply)(params, input_ids)["logits"]
        >>> gradients = jax.grad(lambda params: model.apply(params, input_ids, labels=input_ids)["loss"])(params)
        """
        inputs = {"use_cache": False, "attention_mask": attention_mask, **inputs}
        return dict(type(self).forward(params, self.config, input_ids, **inputs).items())

    @on_its_device
    def __call__(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        token_type_ids: Array | None = None,
        inputs_embeds: Array | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        tap: Tap = no_tap,
        masks: Masks = no_masks,
        edits: Edits | None = None,
        **head_inputs: Any,
    ) -> Output:
        """Run the model: its class says what goes in beside the tokens and what comes out.

        input_ids (B, T) of integers, or in their place inputs_embeds (B, T, D); attention_mask (B, S), 0 at padding,
        where S counts cached and new positions; position_ids and token_type_ids (B, T). `past_key_values` of an
        earlier output continue it. Flags that are None follow the configuration. `return_dict=False` gives a tuple.
        `edits` replace intermediates by functions of them or by arrays, under names or globs such as "h.3.attn.out"
        (`minineo.edits`); after them `tap` sees every intermediate, and may replace it, too (`minineo.tap`). There is
        no dropout but what `masks` say (`minineo.layers.dropout`).

        Raises:
            ValueError, TypeError: saying which input is wrong, what was received and what was expected.
        """
        weight = self._check_call(
            (input_ids, attention_mask, position_ids, token_type_ids, inputs_embeds, past_key_values),
            head_inputs,
            masks,
        )
        if edits is not None:
            tap = editing(edits, self.intermediate_names(token_types=token_type_ids is not None), tap)
        config = self.config
        output = type(self).forward(
            self.params,
            config,
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            token_type_ids=token_type_ids,
            inputs_embeds=inputs_embeds,
            past_key_values=past_key_values,
            use_cache=self.returns_cache and (config.use_cache if use_cache is None else use_cache),
            output_attentions=config.output_attentions if output_attentions is None else output_attentions,
            output_hidden_states=config.output_hidden_states if output_hidden_states is None else output_hidden_states,
            tap=tap,
            masks=masks,
            functions=functions_for(weight),
            **head_inputs,
        )
        as_output = config.return_dict if return_dict is None else return_dict
        return cast(Output, output if as_output else output.to_tuple())

    @on_its_device
    def loss_and_grads(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        token_type_ids: Array | None = None,
        inputs_embeds: Array | None = None,
        masks: Masks = no_masks,
        checkpointing: bool = False,
        **labels: Any,
    ) -> tuple[Array, Params]:
        """The loss, and its gradient by every parameter under that parameter's name, of its shape and dtype.

        Takes what the call takes, labels included. Where all labels are ignored, the loss is NaN and the gradients 0,
        as in PyTorch. For dropout pass `masks=DropoutMasks(model.config, seed=0, step=0)`, with another step each time.
        With `checkpointing` backward runs each block again instead of having its intermediates kept: the same gradients
        in less memory, for the time of another forward pass.

        Raises:
            ValueError, TypeError: as the call does, and where labels are missing or the class has no loss.
        """
        name = type(self).__name__
        if type(self).forward not in HEADS_BACKWARD:
            raise TypeError(f"{name} has no loss to differentiate; use a class with a head, such as GPTNeoForCausalLM.")
        inputs: dict[str, Any] = {
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "token_type_ids": token_type_ids,
            "inputs_embeds": inputs_embeds,
        }
        weight = self._check_call((input_ids, *inputs.values(), None), labels, masks)
        needed = [label for label in self.head_inputs if label != "logits_to_keep"]
        if any(labels.get(label) is None for label in needed):
            raise ValueError(f"loss_and_grads of {name}: without {' and '.join(needed)} there is no loss; pass them.")
        labels.pop("logits_to_keep", None)  # 0, or the check would have refused it beside labels
        compute = fast_loss_and_grads if functions_for(weight) is FAST else loss_and_grads
        loss, grads = compute(
            type(self).forward, self.params, self.config, input_ids, inputs, labels, masks, checkpointing
        )
        return loss, {name: grads[name] for name in self.params}

    def __repr__(self) -> str:
        config = self.config
        return (
            f"{type(self).__name__}({config.num_layers} layers, {config.num_heads} heads, hidden size "
            f"{config.hidden_size}, vocabulary {config.vocab_size}, {self.num_parameters():,} parameters, {self.dtype})"
        )

    def _check_call(self, inputs: tuple[Any, ...], head_inputs: dict[str, Any], masks: Masks) -> Array:
        """Raise for what the model cannot be called with; `inputs` are those of `check_inputs`. Returns a weight."""
        unknown = [name for name in head_inputs if name not in self.head_inputs]
        if unknown:
            raise TypeError(
                f"{type(self).__name__} takes no argument {unknown[0]!r}; beyond the transformer's inputs it takes "
                f"{', '.join(self.head_inputs) or 'none'}."
            )
        if not callable(masks):
            raise TypeError(
                f"masks: received a {type(masks).__name__}, expected a function such as "
                "DropoutMasks(model.config, seed=0, step=0)."
            )
        weight = self.params[f"{self.prefix}wte.weight"]
        check_inputs(self.config, weight, *inputs)
        for name, value in head_inputs.items():
            if not isinstance(value, Integral):  # logits_to_keep is an array or an int
                check_library(name, value, weight)
        input_ids, inputs_embeds = inputs[0], inputs[4]
        batch, positions = (input_ids if input_ids is not None else inputs_embeds).shape[:2]
        self._check_head_inputs(batch, positions, head_inputs)
        return weight

    def _check_head_inputs(self, batch: int, positions: int, head_inputs: dict[str, Any]) -> None:
        """Raise for labels that do not fit an input of (batch, positions)."""
