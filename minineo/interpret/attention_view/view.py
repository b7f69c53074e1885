"""`minineo.attention_view`: run a model on a text once, keep its patterns as small as they can be, and show them.

Dimensions: L layers, H heads, T positions, P cells along one side of a thumbnail.
"""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from minineo.arrays import Array
from minineo.interpret.attention_view import encoding
from minineo.interpret.attention_view.document import document
from minineo.interpret.attention_view.tokens import label, visible_tokens
from minineo.interpret.inputs import check_index, intermediates, text_tokens, to_numpy
from minineo.json_file import write_text
from minineo.pretrained import GPTNeoPreTrainedModel
from minineo.progress import with_progress
from minineo.tokenizer import GPT2Tokenizer

HEIGHT = 820  # of the frame in a notebook, in CSS pixels


class AttentionView:
    """An HTML document that shows attention patterns: as `html`, in a file, or in a notebook's cell."""

    def __init__(self, html: str, summary: str) -> None:
        self.html = html
        self.summary = summary

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the document as one file that a browser opens without a network; one that is there is replaced."""
        write_text(Path(path), self.html)

    def _repr_html_(self) -> str:
        """The document in a frame of its own, in which scripts run but reach neither the notebook nor another view."""
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" sandbox="allow-scripts" title="{html.escape(self.summary)}" '
            f'style="width: 100%; height: {HEIGHT}px; border: 0" loading="lazy"></iframe>'
        )

    def __repr__(self) -> str:
        return f"AttentionView({self.summary}, {len(self.html) / 1e6:.1f} MB; .save('attention.html') writes it)"


def attention_view(
    model: GPTNeoPreTrainedModel[Any],
    tokenizer: GPT2Tokenizer | None,
    text: str | Sequence[int] | Array,
    *,
    layer: int = 0,
    head: int = 0,
    keep: int | None = None,
    progress: bool = False,
) -> AttentionView:
    """Show what every head of every layer attends to in a text, in a document that needs no network.

    `text` is a str or token ids, (T,) or (1, T); without a `tokenizer` tokens are shown as their ids. `layer` and
    `head` are those chosen at first. `keep` is how many weights of each row are kept, the largest, with the sum of the
    others; None keeps all of them up to 8 million in all, and 32 a row beyond. `progress` shows a bar that counts
    layers.

    Raises:
        ValueError: the text has no tokens, or more than the model has positions; there is no such layer or head.
        TypeError: the model is none of this package's, or there is a str but no tokenizer.
    """
    input_ids = text_tokens(model, tokenizer, text)
    config = model.config
    layer, head = check_index("layer", layer, config.num_layers), check_index("head", head, config.num_heads)
    ids = [int(index) for index in to_numpy(input_ids)[0]]
    windows = [config.window(i) for i in range(config.num_layers)]
    keep = _kept(keep, len(ids), windows, config.num_heads)
    thumbnails, blobs = _encode_patterns(model, input_ids, windows, keep, progress)
    tokens, characters = visible_tokens(ids, tokenizer)
    meta = {
        "tokens": tokens,
        "characters": characters,
        "windows": windows,
        "heads": config.num_heads,
        "keep": [None if keep is None or _reach(len(ids), window) <= keep else keep for window in windows],
        "cells": min(len(ids), encoding.CELLS),
        "layer": layer,
        "head": head,
    }
    beginning = "".join(map(label, tokens[:12])).replace("·", " ").strip()
    summary = f"{config.num_layers} layers x {config.num_heads} heads, {len(ids)} tokens"
    page = document(f"Attention: {beginning}", meta, {"thumbnails": encoding.compress(thumbnails), **blobs})
    return AttentionView(page, summary)


def _encode_patterns(
    model: GPTNeoPreTrainedModel[Any], input_ids: Array, windows: list[int | None], keep: int | None, progress: bool
) -> tuple[bytes, dict[str, str]]:
    """All thumbnails, (L, H, P, P) codes, and every head's pattern under its element's id, from one forward pass.

    Only one layer's patterns, (H, T, T), are there at a time: each is encoded when the forward pass shows it.
    """
    thumbnails: list[bytes] = []
    blobs: dict[str, str] = {}
    names = [f"h.{layer}.attn.pattern" for layer in range(len(windows))]
    layers = iter(with_progress(range(len(windows)), progress, desc="attention", unit="layer"))

    def encode(name: str, value: Array) -> None:
        layer = next(layers)
        window = windows[layer]
        for head, pattern in enumerate(to_numpy(value)[0]):
            if keep is None or _reach(len(pattern), window) <= keep:
                data = encoding.encode_dense(pattern, window)
            else:
                data = encoding.encode_sparse(pattern, window, keep)
            blobs[f"h.{layer}.{head}"] = encoding.compress(data)
            thumbnails.append(encoding.thumbnail(pattern).tobytes())

    unread = {"logits_to_keep": 1} if "logits_to_keep" in model.head_inputs else {}
    intermediates(model, input_ids, names, encode, **unread)
    next(layers, None)  # the bar is complete once it has been asked for more
    return b"".join(thumbnails), blobs


def _reach(T: int, window: int | None) -> int:
    """How many keys the last query sees."""
    return T if window is None else min(window, T)


def _kept(keep: int | None, T: int, windows: list[int | None], heads: int) -> int | None:
    """How many weights of a row to keep; None for all."""
    if keep is None:
        weights = heads * sum(encoding.visible_entries(T, window) for window in windows)
        return None if weights <= encoding.DENSE_LIMIT else encoding.KEEP
    if isinstance(keep, bool) or not isinstance(keep, int | Integral) or not 1 <= keep <= 255:
        raise ValueError(f"keep: received {keep!r}, expected an int from 1 to 255, or None.")
    return int(keep)
