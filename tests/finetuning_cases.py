"""A tiny language model on disk, and eight examples of each task that it can learn by heart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minineo.classes import GPTNeoForCausalLM
from minineo.config import GPTNeoConfig
from minineo.tokenizer import GPT2Tokenizer
from minineo.training.finetuning_options import FinetuningOptions

WHO = ["the king", "the queen", "the old wolf", "the bear"]
WHAT = ["went home", "saw the wood", "came back at noon, singing"]
TEXTS = [f"Once {who} {what}." for who in WHO for what in WHAT][:8]

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "classification": [
        {"text": text, "label": "animal" if "wolf" in text or "bear" in text else "human"} for text in TEXTS
    ],
    "tokens": [
        {
            "words": text.split(),
            "labels": ["WHO" if word in " ".join(WHO) and word != "the" else "O" for word in text.split()],
        }
        for text in TEXTS
    ],
    "answers": [
        {
            "question": f"Who {what}?",
            "context": f"Then {who} {what}, and {other} slept.",
            "answers": {"text": [who], "answer_start": [5]},
        }
        for who, other, what in zip(WHO * 2, (WHO * 2)[1:] + WHO[:1], (WHAT * 3)[:8], strict=True)
    ],
    "language": [{"text": " ".join(TEXTS)}, {"text": " ".join(reversed(TEXTS)), "title": "Backwards"}],
}


def write_model(folder: Path, seed: int = 0, **fields: Any) -> Path:
    """A language model that has learned nothing, with a vocabulary of its own."""
    tokenizer = GPT2Tokenizer.train(TEXTS, 290, progress=False)
    config = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_layers": 2,
        "attention_types": [[["global", "local"], 1]],
        "num_heads": 4,
        "window_size": 8,
        "max_position_embeddings": 64,
        "bos_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    model = GPTNeoForCausalLM(GPTNeoConfig(**(config | fields)), seed=seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_examples(path: Path, examples: list[Any]) -> Path:
    path.write_text("".join(json.dumps(example) + "\n" for example in examples), encoding="utf-8")
    return path


def tiny_options(folder: Path, task: str, **changed: Any) -> FinetuningOptions:
    """A run in `folder`, whose training examples are its validation examples, too."""
    model, data = folder / "model", folder / f"{task}.jsonl"
    if not model.exists():
        write_model(model)
    if not data.exists():
        write_examples(data, EXAMPLES[task])
    options = {
        "task": task,
        "train": data,
        "validation": data,
        "model": model,
        "output": folder / f"out-{task}",
        "epochs": 40,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "workers": 1,
    }
    return FinetuningOptions(**(options | changed))
