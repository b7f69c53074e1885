"""Hugging Face transformers on torch: float32, bfloat16, and compiled."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.peers.decoded import Decoded, Stamps
from benchmarks.peers.script import Script

messages: Any = transformers.logging
messages.set_verbosity_error()
messages.disable_progress_bar()


class Model:
    """A checkpoint, loaded."""

    def __init__(self, checkpoint: str, threads: int, dtype: str = "float32", compiled: bool = False) -> None:
        torch.set_num_threads(threads)
        self.model = self._load(checkpoint, dtype)
        self.run = self.model
        self.arguments: dict[str, Any] = {"do_sample": False, "pad_token_id": 0}
        if compiled:
            # One program for each length of a prompt, and one for all lengths of the growing cache. A static cache
            # would be faster still, but transformers then takes GPT-Neo's windows from the end of the empty cache.
            self.run = torch.compile(self.model.forward, dynamic=False)
            self.model.forward = torch.compile(self.model.forward, dynamic=True)

    @staticmethod
    def _load(checkpoint: str, dtype: str) -> Any:
        model: Any = transformers.GPTNeoForCausalLM.from_pretrained(checkpoint, dtype=getattr(torch, dtype))
        return model.eval()

    @torch.no_grad()
    def logits(self, ids: np.ndarray, last: int) -> np.ndarray:
        """Logits of the last positions, for comparing peers."""
        return np.asarray(self.run(torch.from_numpy(ids)).logits[:, -last:].float())

    @torch.no_grad()
    def forward(self, ids: np.ndarray, logits_to_keep: int = 0) -> float:
        """Seconds of one forward pass."""
        tensor = torch.from_numpy(ids)
        start = time.perf_counter()
        self.run(tensor, logits_to_keep=logits_to_keep, use_cache=False)
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
        tensor = torch.from_numpy(ids)
        if script is not None:
            arguments["logits_processor"] = transformers.LogitsProcessorList([Script(script)])
        if assistant is not None:
            arguments["assistant_model"] = self._load(assistant, "float32")
        attention_mask = torch.ones_like(tensor) if mask is None else torch.from_numpy(mask)
        stamps = Stamps()
        output = self.model.generate(
            tensor,
            attention_mask=attention_mask,
            max_new_tokens=new_tokens,
            streamer=stamps,
            **self.arguments,
            **arguments,
        )
        return stamps.decoded(output[:, ids.shape[1] :].numpy(), new_tokens)

    def cache_bytes(self, ids: np.ndarray, new_tokens: int) -> int:
        """Bytes that the key-value cache holds after a generation."""
        tensor = torch.from_numpy(ids)
        output = self.model.generate(
            tensor,
            attention_mask=torch.ones_like(tensor),
            max_new_tokens=new_tokens,
            return_dict_in_generate=True,
            **self.arguments,
        )
        storages = [x.untyped_storage() for layer in output.past_key_values.layers for x in (layer.keys, layer.values)]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
