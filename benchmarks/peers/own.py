"""Minineo, as a user calls it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import minineo
from benchmarks.peers.decoded import Decoded, Stamps
from benchmarks.peers.script import Script
from minineo.fast.decoding import Decoder


class Counted(minineo.GPTNeoForCausalLM):
    """A model that counts its calls: with speculative decoding there are fewer of them than tokens.

    Since its call is another one, it never decodes by `minineo.fast.decoding`: for speculative decoding alone.
    """

    calls = 0

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """As ever."""
        self.calls += 1
        return super().__call__(*inputs, **named)


class Model:
    """A checkpoint, loaded."""

    def __init__(self, checkpoint: str) -> None:
        self.model = minineo.GPTNeoForCausalLM.from_pretrained(checkpoint)
        self.counted = Counted(self.model.config, self.model.params)

    def logits(self, ids: np.ndarray, last: int) -> np.ndarray:
        """Logits of the last positions, for comparing peers."""
        return np.asarray(self.model(ids).logits)[:, -last:]

    def forward(self, ids: np.ndarray, logits_to_keep: int = 0) -> float:
        """Seconds of one forward pass."""
        start = time.perf_counter()
        self.model(ids, logits_to_keep=logits_to_keep, use_cache=False)
        return time.perf_counter() - start

    def decode(
        self,
        ids: np.ndarray,
        new_tokens: int,
        mask: np.ndarray | None = None,
        script: list[int] | None = None,
        assistant: str | None = None,
        **arguments: Any,
    ) -> Decoded:
        """Greedy generation; `script` dictates the tokens, `assistant` is the checkpoint of a draft model."""
        if script is not None:
            arguments["logits_processor"] = [Script(script)]
        if assistant is not None:
            arguments["assistant_model"] = minineo.GPTNeoForCausalLM.from_pretrained(assistant)
        speculative = assistant is not None or "prompt_lookup_num_tokens" in arguments
        self.counted.calls = 0
        stamps = Stamps()
        model = self.counted if speculative else self.model
        output = model.generate(ids, mask, max_new_tokens=new_tokens, streamer=stamps, **arguments)
        calls = self.counted.calls if speculative else new_tokens
        return stamps.decoded(np.asarray(output)[:, ids.shape[1] :], new_tokens, calls)

    def cache_bytes(self, ids: np.ndarray, new_tokens: int) -> int:
        """Bytes that the key-value cache holds while so many tokens are generated, room to grow included."""
        cache = self.model(ids, use_cache=True, logits_to_keep=1).past_key_values
        decoder = Decoder(self.model.params, self.model.config, cache, None, ids.shape[1] + new_tokens)
        return sum(layer.kv.nbytes for layer in decoder.layers)

    def threads_used(self, ids: np.ndarray) -> float:
        """Processor seconds a second of a forward pass: how many cores were busy."""
        busy, start = time.process_time(), time.perf_counter()
        self.model(ids, use_cache=False)
        return (time.process_time() - busy) / (time.perf_counter() - start)
