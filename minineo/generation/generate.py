"""Generation: a prompt in, the prompt and its continuation out. Arguments, defaults and results are Hugging Face's.

The path of a call: `arguments` are resolved and checked, the `prompt` with its mask becomes a context, and `search` (or
`beam`, or `speculative`) asks the model for scores, lets `processors` and the filters of `sampling` change them,
appends the token that was chosen or drawn, and goes on until `stopping` says that every row is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from minineo.arrays import Array
from minineo.devices import current_device, on_its_device
from minineo.edits import editing
from minineo.generation.arguments import GenerationArguments, Processor, resolve, with_lengths
from minineo.generation.beam import beam_search
from minineo.generation.checks import random_generator
from minineo.generation.outputs import GenerateBeamDecoderOnlyOutput, GenerateDecoderOnlyOutput, Record
from minineo.generation.processors import build_processors
from minineo.generation.prompt import Context, prompt_context, prompt_ids
from minineo.generation.replay import replay, replay_decoder
from minineo.generation.sampling import build_filters
from minineo.generation.search import search
from minineo.generation.speculative import speculative_search
from minineo.generation.stopping import Stop, build_stop
from minineo.progress import with_progress

OUTPUT_ARGUMENTS = ("streamer", "return_dict_in_generate", "output_scores", "output_logits")


@on_its_device
def generate(
    model: Any,
    input_ids: Array | None = None,
    attention_mask: Array | None = None,
    generation_config: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Array | GenerateDecoderOnlyOutput | GenerateBeamDecoderOnlyOutput:
    """Continue each prompt, greedily unless told otherwise, by 20 tokens unless an end token comes first.

    input_ids (B, T), padded on the left, or None to begin with the beginning token; attention_mask (B, T), 1 where a
    token counts, derived from the padding token if not given. `arguments` are those of `GenerationArguments`;
    `generation_config` is a dictionary of defaults for them, which win over `model.generation_config`.

    Special tokens are those of `model.generation_config`, or of `model.config` where that is empty, which it is if the
    checkpoint has no generation_config.json. In two things the caller counts for more than in Hugging Face. A
    `max_length` that is passed wins over a `max_new_tokens` that is stored; there `max_new_tokens` always wins. And a
    `min_length` or `min_new_tokens` that is passed but cannot be reached is an error; there, as here for one that is
    stored, it only keeps the end tokens away.

    Returns the tokens (B * num_return_sequences, L), prompt included, in the type of `input_ids`, rows that end early
    filled with the padding token; or an output that holds them, with `return_dict_in_generate=True`.

    Raises:
        TypeError: an argument has an unknown name, or an array is of the wrong library or type.
        ValueError: an argument has an impossible value, or prompt and new tokens exceed `max_position_embeddings`.
    """
    if input_ids is None:
        input_ids = arguments.pop("inputs", None)  # Hugging Face's name
    plan = _plan(model, input_ids, attention_mask, generation_config, arguments)
    asked = plan.arguments
    wanted = asked.return_dict_in_generate
    record = Record(wanted and asked.output_scores, wanted and asked.output_logits, keep_cache=wanted)
    if asked.num_beams > 1:
        return _beams(model, plan, record)

    xp = array_namespace(plan.context.input_ids)
    columns = [xp.repeat(plan.context.input_ids, asked.num_return_sequences, axis=0)]
    if asked.streamer is not None:
        asked.streamer.put(xp.astype(columns[0], plan.dtype))
    for tokens in _search(model, plan, record):
        columns.append(tokens[:, None])
        if asked.streamer is not None:
            asked.streamer.put(xp.astype(tokens, plan.dtype))
    if asked.streamer is not None:
        asked.streamer.end()
    sequences = xp.astype(xp.concat(columns, axis=1), plan.dtype)
    if not wanted:
        return sequences
    return GenerateDecoderOnlyOutput(sequences, record.scores_so_far, record.logits_so_far, record.cache)


@on_its_device
def generate_steps(
    model: Any,
    input_ids: Array | None = None,
    attention_mask: Array | None = None,
    generation_config: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Iterator[Array]:
    """Yield the tokens of `generate` as they are found, (B * num_return_sequences,) at each step, prompt left out.

    Everything is checked before this returns. A row that has ended yields the padding token. Beam search, which knows
    its tokens only at the end, is a `ValueError`.
    """
    for name in OUTPUT_ARGUMENTS:
        if name in arguments:
            raise TypeError(f"{name}: is an argument of generate, generate_steps yields tokens only.")
    plan = _plan(model, input_ids, attention_mask, generation_config, arguments)
    if plan.arguments.num_beams > 1:
        raise ValueError("num_beams: beam search knows its tokens only at the end. Pass num_beams=1, or call generate.")
    return _steps(iter(_search(model, plan, Record())), plan.dtype, plan.context.input_ids)


def _steps(search: Iterator[Array], dtype: Any, prompt: Array) -> Iterator[Array]:
    """The steps of a search in that dtype. Between them the caller's current device is the caller's."""
    while True:
        with current_device(prompt):
            tokens = next(search, None)
            if tokens is None:
                return
            tokens = array_namespace(tokens).astype(tokens, dtype)
        yield tokens


@dataclass(frozen=True)
class _Plan:
    """All that a search needs, checked."""

    arguments: GenerationArguments
    context: Context
    processors: list[Processor]
    stop: Stop
    random: np.random.Generator
    dtype: Any  # of the caller's ids


def _plan(model: Any, input_ids: Any, attention_mask: Any, config: Any, given: Mapping[str, Any]) -> _Plan:
    stored = _as_dictionary(getattr(model, "generation_config", None))
    arguments, origins = resolve(model.config, stored, _as_dictionary(config), given)
    if input_ids is None and attention_mask is None:
        attention_mask = [[1]]  # the beginning token is text, even if it is the padding token, too
    if arguments.edits is not None:
        editing(arguments.edits, model.intermediate_names(token_types=False))  # raises now, not at the first step
    input_ids = prompt_ids(model, input_ids, arguments.bos_token_id)
    context = prompt_context(model, input_ids, attention_mask, arguments)
    prompt_length = input_ids.shape[1]
    arguments = with_lengths(arguments, origins, prompt_length, model.config.max_position_embeddings)
    padding = None
    if arguments.is_speculative and input_ids.shape[0] != 1:
        raise ValueError(
            f"input_ids: received {input_ids.shape[0]} prompts, but assistant_model and prompt_lookup_num_tokens "
            "work on one at a time. Call generate for each of them, or leave the argument out."
        )
    if context.attention_mask is not None:
        xp = array_namespace(input_ids)
        times = max(arguments.num_beams, arguments.num_return_sequences)
        padding = xp.repeat(xp.argmax(context.attention_mask, axis=1), times)
    processors = build_processors(arguments, prompt_length, padding) + build_filters(arguments)
    return _Plan(
        arguments, context, processors, build_stop(arguments), random_generator(arguments.seed), input_ids.dtype
    )


def _search(model: Any, plan: _Plan, record: Record) -> Iterable[Array]:
    asked = plan.arguments
    decoder = replay_decoder(model, plan.context, asked, record)
    if decoder is not None:
        tokens = replay(decoder, model, plan.context, asked, plan.stop, plan.random)
    else:
        run = speculative_search if asked.is_speculative else search
        tokens = run(model, plan.context, asked, plan.processors, plan.stop, plan.random, record)
    return with_progress(tokens, asked.progress, total=asked.steps, desc="generate", unit="token")


def _beams(model: Any, plan: _Plan, record: Record) -> Array | GenerateBeamDecoderOnlyOutput:
    xp = array_namespace(plan.context.input_ids)
    found = beam_search(model, plan.context, plan.arguments, plan.processors, plan.stop, plan.random, record)
    rows = found.scores.shape[0] * found.scores.shape[1]  # not -1 below: nothing can be derived from a size of 0
    sequences = xp.astype(xp.reshape(found.sequences, (rows, found.sequences.shape[2])), plan.dtype)
    if not plan.arguments.return_dict_in_generate:
        return sequences
    return GenerateBeamDecoderOnlyOutput(
        sequences,
        sequences_scores=xp.reshape(found.scores, (rows,)) if plan.arguments.output_scores else None,
        scores=record.scores_so_far,
        logits=record.logits_so_far,
        beam_indices=xp.reshape(found.origins, (rows, found.origins.shape[2])),
        past_key_values=record.cache,
    )


def _as_dictionary(config: Any) -> dict[str, Any]:
    return dict(config.to_dict() if hasattr(config, "to_dict") else config or {})
