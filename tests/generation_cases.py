"""Random small models, prompts and arguments for the tests of generation, the same on every machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from minineo.classes import GPTNeoForCausalLM
from minineo.config import GPTNeoConfig


def uniform(seed: int, count: int) -> np.ndarray:
    """Numbers in [0, 1) that no NumPy release changes: only the raw bits of a bit generator are promised to stay."""
    return (np.random.PCG64(seed).random_raw(count) >> np.uint64(11)) * 2.0**-53


def random_model(seed: int, **fields: Any) -> GPTNeoForCausalLM:
    """A model with every parameter drawn at random, biases and norms too, so that its next tokens vary."""
    defaults: dict[str, Any] = {
        "vocab_size": 31,
        "hidden_size": 24,
        "num_layers": 2,
        "num_heads": 3,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 4,
        "max_position_embeddings": 48,
        "eos_token_id": 3,
        "bos_token_id": 1,
        "tie_word_embeddings": False,  # tied, a random model repeats its last token
    }
    config = GPTNeoConfig(**(defaults | fields))
    params = {}
    for i, (name, shape) in enumerate(sorted(GPTNeoForCausalLM.parameter_shapes(config).items())):
        values = uniform(1000 * seed + i, int(np.prod(shape))).reshape(shape) - 0.5
        scale = 1.5 if "wte" in name else 3.0 if "wpe" in name else 5.0 / np.sqrt(shape[-1]) if len(shape) == 2 else 1.0
        params[name] = (values * scale + (1.0 if "ln_" in name and name.endswith("weight") else 0.0)).astype(np.float32)
    return GPTNeoForCausalLM(config, params)


def random_case(seed: int, beams: bool) -> dict[str, Any]:
    """What to ask of which model: `fields`, `input_ids`, `attention_mask` (or None) and `arguments`, all plain data.

    `beams` is for beam search, else greedy search.
    """
    random = np.random.default_rng(seed)

    def pick(*options: Any) -> Any:
        return options[random.integers(len(options))]

    V = int(pick(23, 31, 57))
    eos = pick(3, [3, 5], [2, 4, 6], [2, 4, 6, 8], [2, 4, 6, 8], None)
    ends = [] if eos is None else [eos] if isinstance(eos, int) else eos
    fields = {
        "vocab_size": V,
        "attention_types": pick([[["global", "local"], 1]], [[["local"], 1], [["global"], 1]], [[["global"], 2]]),
        "window_size": int(pick(1, 3, 8, 100)),
        "tie_word_embeddings": bool(pick(True, False, False, False)),
        "eos_token_id": eos,
        "pad_token_id": pick(None, None, 0, 9, V - 1),
    }
    B, T = int(random.integers(1, 5)), int(random.integers(1, 9))
    ids = random.integers(10, V - 1, (B, T))
    mask = None
    if random.random() < 0.5:  # left padding of different widths
        widths = random.integers(0, T, B)
        mask = (np.arange(T)[None, :] >= widths[:, None]).astype(int)
        filler = fields["pad_token_id"] if fields["pad_token_id"] is not None else ends[0] if ends else 0
        ids = np.where(mask == 1, ids, filler)
    arguments: dict[str, Any] = {}
    if random.random() < 0.7:
        arguments["max_new_tokens"] = int(random.integers(1, 25))
    elif random.random() < 0.7:
        arguments["max_length"] = T + int(random.integers(1, 25))
    if random.random() < 0.3:
        arguments["repetition_penalty"] = float(pick(1.3, 0.7, 2.0))
    if random.random() < 0.3:
        arguments["no_repeat_ngram_size"] = int(pick(1, 2, 3) if V > 50 else pick(2, 3))
    if random.random() < 0.3:
        arguments["bad_words_ids"] = [[int(t)] for t in random.integers(0, V, 2)] + [
            [int(t) for t in random.integers(0, V, 2)] for _ in range(40)
        ]
    if random.random() < 0.2:
        arguments["suppress_tokens"] = [int(t) for t in random.integers(0, V, 3)]
    if random.random() < 0.2:
        arguments["begin_suppress_tokens"] = [int(t) for t in random.integers(0, V, 5)]
    room = arguments.get("max_new_tokens") or arguments.get("max_length", T + 20) - T
    if random.random() < 0.2:
        arguments["min_new_tokens"] = int(random.integers(0, room + 1))
    elif random.random() < 0.2:
        arguments["min_length"] = int(random.integers(0, T + room + 1))
    if random.random() < 0.2:
        arguments["use_cache"] = False
    if beams:
        arguments["num_beams"] = int(random.integers(2, 5))
        arguments["num_return_sequences"] = int(random.integers(1, arguments["num_beams"] + 1))
        arguments["length_penalty"] = float(pick(1.0, 1.0, 0.0, 2.0, -1.0, 0.6))
        arguments["early_stopping"] = pick(False, True, "never")
    return {
        "seed": seed,
        "fields": fields,
        "input_ids": ids.tolist(),
        "attention_mask": None if mask is None else mask.tolist(),
        "arguments": arguments,
    }


def run(model: GPTNeoForCausalLM, case: dict[str, Any], **more: Any) -> Any:
    """What our `generate` makes of a case."""
    mask = case["attention_mask"]
    mask = None if mask is None else np.array(mask)
    return model.generate(np.array(case["input_ids"]), attention_mask=mask, **(case["arguments"] | more))


def is_decided(model: GPTNeoForCausalLM, case: dict[str, Any]) -> bool:
    """Whether rounding errors in the scores leave every step as it is.

    About one random beam search in a thousand meets two beams whose scores are equal to all of float32's digits; which
    of them comes first then depends on the order in which a matrix product was summed.
    """
    more = {"return_dict_in_generate": True, "output_scores": True}
    clean = run(model, case, **more)
    for seed in range(30):
        noise = np.random.default_rng(seed)

        def blur(ids: np.ndarray, scores: np.ndarray, noise: np.random.Generator = noise) -> np.ndarray:
            return scores * (1 + 5e-7 * noise.standard_normal(scores.shape).astype(scores.dtype))

        blurred = run(model, case, **more, logits_processor=blur)
        if not np.array_equal(clean.sequences, blurred.sequences):
            return False
        if not all(np.allclose(a, b, atol=1e-3) for a, b in zip(clean.scores, blurred.scores, strict=True)):
            return False
    return True
