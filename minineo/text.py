"""Text in, text out: load a model, continue a text, stream it as it comes.

>>> import minineo
>>> print(minineo.generate("Once upon a time", max_new_tokens=80, temperature=0.8, seed=0))
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Unpack, overload

import numpy as np

from minineo.arrays import Array, beside
from minineo.bundled import checkpoint_directory
from minineo.classes import GPTNeoForCausalLM
from minineo.device_names import gpu_number
from minineo.devices import check_device, to_device
from minineo.generation import generate_steps
from minineo.location import HubOptions
from minineo.tokenizer import GPT2Tokenizer, StreamDecoder

NameOrPath = str | os.PathLike[str]

TOKEN_ARGUMENTS = (
    *("input_ids", "inputs", "attention_mask", "pad_token_id"),
    *("streamer", "return_dict_in_generate", "output_scores", "output_logits"),
)
DEFAULT_NEW_TOKENS = 200  # or what the context still holds, if that is less


def load(
    name_or_path: NameOrPath | None = None, device: str = "cpu", dtype: Any = None, **hub: Unpack[HubOptions]
) -> tuple[GPTNeoForCausalLM, GPT2Tokenizer]:
    """Load a language model and its tokenizer from a checkpoint directory, or from the Hub, where it has this name.

    Without a name, the bundled model. `device` is where to calculate: "cpu", or with CuPy "cuda" or "cuda:1"; `dtype`
    in what ("float16", "float32", "float64"), None means float32. For the Hub there are `revision`, `token`,
    `cache_dir`, `local_files_only` and `force_download` (`minineo.location.HubOptions`).

    Raises:
        FileNotFoundError: there is no such directory, nor a model of that name.
        ValueError: a file in it is broken, or there is no such device.
        ImportError, OSError: the device needs CuPy, or a GPU, and it is not there; the Hub cannot be reached, or
            refuses (`minineo.checkpoints.hub.download`).
    """
    check_device(device)
    with checkpoint_directory(name_or_path, **hub) as directory:
        model = GPTNeoForCausalLM.from_pretrained(directory, dtype=dtype, device=device)
        return model, GPT2Tokenizer.from_pretrained(directory)


@overload
def generate(prompt: str, **arguments: Any) -> str: ...
@overload
def generate(prompt: Sequence[str], **arguments: Any) -> list[str]: ...
def generate(
    prompt: str | Sequence[str],
    *,
    max_new_tokens: int | None = None,
    do_sample: bool = True,
    temperature: float = 0.8,
    seed: int | np.random.Generator | None = None,
    model: GPTNeoForCausalLM | NameOrPath | None = None,
    tokenizer: GPT2Tokenizer | None = None,
    device: str | None = None,
    return_full_text: bool = True,
    **arguments: Any,
) -> str | list[str]:
    """Continue a text, or each of a list of texts.

    Samples until the end token or `max_new_tokens`; `do_sample=False` or `temperature=0` takes the likeliest token each
    time. `model` is a loaded model (with its `tokenizer`), a checkpoint directory, the name of a model on the Hub, or
    None, the bundled model. `device` is where to put what is loaded here ("cpu" by default, "cuda", "cuda:1"); a loaded
    model runs where it is.
    `arguments` are those of `model.generate`, `top_k=50` among its defaults.

    Returns the text with its continuation, or the continuation alone where `return_full_text` is False; special tokens
    are left out. A list gives a list, and so does `num_return_sequences` above 1: prompt by prompt.

    Raises:
        ValueError: the prompt, or what was asked for, is longer than the model's context.
    """
    model, tokenizer = model_and_tokenizer(model, tokenizer, device)
    prompts = [prompt] if isinstance(prompt, str) else _checked(prompt)
    arguments = _for_tokens(arguments, do_sample, temperature, tokenizer)
    input_ids, attention_mask = left_padded([_encode(text, tokenizer) for text in prompts], tokenizer)
    new_tokens = _new_tokens(max_new_tokens, input_ids, model, arguments)
    prompt_arrays = _on_the_models_device(model, input_ids, attention_mask)
    output: Array = model.generate(*prompt_arrays, max_new_tokens=new_tokens, seed=seed, **arguments)
    # beam search fills rows with -1 where no token stands for the end
    rows = [[int(token) for token in row if token >= 0] for row in to_device(output, "cpu")[:, input_ids.shape[1] :]]
    texts = [tokenizer.decode(row, skip_special_tokens=True) for row in rows]
    copies = len(texts) // len(prompts)
    if return_full_text:
        texts = [prompts[i // copies] + text for i, text in enumerate(texts)]
    return texts[0] if isinstance(prompt, str) and copies == 1 else texts


def stream(
    prompt: str,
    *,
    max_new_tokens: int | None = None,
    do_sample: bool = True,
    temperature: float = 0.8,
    seed: int | np.random.Generator | None = None,
    model: GPTNeoForCausalLM | NameOrPath | None = None,
    tokenizer: GPT2Tokenizer | None = None,
    device: str | None = None,
    **arguments: Any,
) -> Iterator[str]:
    """Continue a text, piece by piece as it is produced, without the prompt.

    Arguments as in `generate`. The pieces joined are what `generate` returns for the same seed with
    `return_full_text=False`; each is at least one character, and never half of one.

    >>> for piece in minineo.stream("Once upon a time", seed=0):
    ...     print(piece, end="", flush=True)
    """
    if not isinstance(prompt, str):
        raise TypeError(f"prompt: received a {type(prompt).__name__}, expected a str. generate takes lists of texts.")
    if arguments.get("num_return_sequences", 1) != 1:
        raise ValueError("num_return_sequences: a stream is one text. Call generate for several.")
    model, tokenizer = model_and_tokenizer(model, tokenizer, device)
    arguments = _for_tokens(arguments, do_sample, temperature, tokenizer)
    input_ids, attention_mask = left_padded([_encode(prompt, tokenizer)], tokenizer)
    new_tokens = _new_tokens(max_new_tokens, input_ids, model, arguments)
    prompt_arrays = _on_the_models_device(model, input_ids, attention_mask)
    steps = generate_steps(model, *prompt_arrays, max_new_tokens=new_tokens, seed=seed, **arguments)
    return _pieces(steps, StreamDecoder(tokenizer))


def _on_the_models_device(model: GPTNeoForCausalLM, *arrays: np.ndarray) -> list[Array]:
    weight = next(iter(model.params.values()))
    return [beside(array, like=weight) for array in arrays]


def _pieces(steps: Iterator[Array], decoder: StreamDecoder) -> Iterator[str]:
    for token in steps:
        if piece := decoder.put(int(token[0])):
            yield piece
    if piece := decoder.end():
        yield piece


def left_padded(rows: list[list[int]], tokenizer: GPT2Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of several lengths as input_ids and attention_mask, both (B, T); padding stands before the text."""
    T = max(map(len, rows))
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    input_ids = np.full((len(rows), T), 0 if padding is None else padding, np.int64)
    attention_mask = np.zeros((len(rows), T), np.int64)
    for i, row in enumerate(rows):
        input_ids[i, T - len(row) :] = row
        attention_mask[i, T - len(row) :] = 1
    return input_ids, attention_mask


@cache
def _bundled() -> tuple[GPTNeoForCausalLM, GPT2Tokenizer]:
    return load()


def model_and_tokenizer(
    model: GPTNeoForCausalLM | NameOrPath | None, tokenizer: GPT2Tokenizer | None, device: str | None = None
) -> tuple[GPTNeoForCausalLM, GPT2Tokenizer]:
    """The model and tokenizer that the caller means."""
    if model is None and device in (None, "cpu"):
        loaded, its_tokenizer = _bundled()
        return loaded, tokenizer or its_tokenizer
    if model is None or isinstance(model, str | os.PathLike):
        if tokenizer is not None and model is not None:  # which may have none of its own
            return GPTNeoForCausalLM.from_pretrained(model, device=device or "cpu"), tokenizer
        loaded, its_tokenizer = load(model, device or "cpu")
        return loaded, tokenizer or its_tokenizer
    if not isinstance(model, GPTNeoForCausalLM):
        raise TypeError(
            f"model: received a {type(model).__name__}, expected a GPTNeoForCausalLM, a path, a name or None."
        )
    if tokenizer is None:
        raise TypeError("tokenizer: received None beside a loaded model, expected the tokenizer that belongs to it.")
    if device is not None and model.device not in (device, f"cuda:{gpu_number(device)}"):
        raise ValueError(
            f"device: received {device!r} beside a model that is loaded, on {model.device}. Move it there first, with "
            f"model.to({device!r}), or leave device out."
        )
    return model, tokenizer


def _checked(prompts: Any) -> list[str]:
    if not isinstance(prompts, Iterable):
        raise TypeError(f"prompt: received a {type(prompts).__name__}, expected a str or a list of str.")
    texts = list(prompts)
    wrong = [type(text).__name__ for text in texts if not isinstance(text, str)]
    if wrong:
        raise TypeError(f"prompt: received a list with a {wrong[0]} in it, expected a str or a list of str.")
    if not texts:
        raise ValueError("prompt: received an empty list, expected at least one text.")
    return texts


def _encode(text: str, tokenizer: GPT2Tokenizer) -> list[int]:
    """Token ids of a prompt; an empty one is begun with the token that stands between documents."""
    ids: list[int] = tokenizer.encode(text)
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if not ids and start is None:
        raise ValueError("The prompt is empty and the tokenizer has no bos_token to begin with. Pass some text.")
    return ids or [start]


def _for_tokens(
    arguments: dict[str, Any], do_sample: bool, temperature: float, tokenizer: GPT2Tokenizer
) -> dict[str, Any]:
    """The arguments for `model.generate`, without those that make no sense where texts go in and come out."""
    for name in TOKEN_ARGUMENTS:
        if name in arguments:
            raise TypeError(f"{name}: is for token ids, and this takes and returns text. Call model.generate with it.")
    sampling = {"do_sample": do_sample, "temperature": temperature}
    if temperature == 0:  # the limit in which only the likeliest token has a chance
        sampling = {"do_sample": False}
    arguments = arguments | sampling | {"tokenizer": tokenizer}
    if tokenizer.eos_token_id is not None:
        arguments["pad_token_id"] = tokenizer.eos_token_id  # rows that end early are filled with what no text shows
    return arguments


def _new_tokens(
    asked: int | None, input_ids: np.ndarray, model: GPTNeoForCausalLM, arguments: dict[str, Any]
) -> int | None:
    """How many tokens to generate; the default is shortened to what the context still holds."""
    if asked is not None or arguments.get("max_length") is not None:
        return asked
    room: int = model.config.max_position_embeddings - input_ids.shape[1]
    return max(1, min(DEFAULT_NEW_TOKENS, room))  # no room: let generate say so
