"""Read the text, and say what may come next: the prompt by a call of the model, each new token by its decoder.

Dimensions: N rows, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from operator import is_
from typing import Any

from array_api_compat import array_namespace

from minineo.arrays import Array, at_least_float32
from minineo.fast.choose import functions_for
from minineo.fast.transformer import is_fast
from minineo.generation.arguments import GenerationArguments
from minineo.generation.prompt import Context, next_token_logits
from minineo.model.cache import Cache
from minineo.model.heads import Decoder, causal_lm
from minineo.model.names import BASE_PREFIX
from minineo.pretrained import GPTNeoPreTrainedModel

CALL = GPTNeoPreTrainedModel.__call__


class Reader:
    """Gives the logits of the next token, (N, V), for a context that grows by one token from call to call.

    Once the prompt is read, a decoder goes on where there is one, which keeps keys and values in memory of its own; a
    context that has been read so has no cache. Otherwise the model is called for each token. Parameters that are
    replaced in between count from the next token on, as those that are changed in place do.
    """

    def __init__(self, model: Any, arguments: GenerationArguments) -> None:
        self.model, self.arguments = model, arguments
        self.make_decoder: Any = decoder_of(model) if arguments.use_cache and arguments.edits is None else None
        self.decoder: Decoder | None = None
        self.bound: tuple[Array, ...] = ()  # the parameters that the decoder computes with

    def __call__(self, context: Context) -> tuple[Array, Context]:
        """Read what is new in the context: logits for the token after it, and the context with what it leaves."""
        if self.decoder is None:
            if self.make_decoder is None or context.cache is None:
                return next_token_logits(self.model, context, self.arguments.use_cache, self.arguments.edits)
            mask, length = context.attention_mask, context.cache.length
            self.mask = None if mask is None else mask[:, :length]
            self.capacity = context.input_ids.shape[1] + self.arguments.steps
            self._bind(context.cache, self.mask)
            context = replace(context, cache=None, attention_mask=None)
        elif not all(map(is_, self.model.params.values(), self.bound)):
            cache, mask = self.decoder.cache(), self.mask
            if mask is not None:
                xp = array_namespace(mask)
                new = xp.ones((mask.shape[0], cache.length - mask.shape[1]), dtype=mask.dtype)
                mask = xp.concat([mask, new], axis=1)
            self._bind(cache, mask)
        assert self.decoder is not None
        return at_least_float32(self.decoder.step(context.input_ids[:, -1])), context

    def _bind(self, cache: Cache, mask: Array | None) -> None:
        params = self.model.params
        self.bound = tuple(params.values())
        self.decoder = self.make_decoder(params, self.model.config, cache, mask, self.capacity)

    def cache(self, context: Context) -> Cache | None:
        """The keys and values of all that has been read of the context."""
        return context.cache if self.decoder is None else self.decoder.cache()


def decoder_of(model: Any) -> Any:
    """What makes a decoder for this model; None where its library has none, or a call of it does something else."""
    if type(model).__call__ is not CALL or type(model).forward is not causal_lm:
        return None
    weight = model.params[f"{BASE_PREFIX}wte.weight"]
    return functions_for(weight).decoder if is_fast(weight) else None
