"""What `generate` returns with `return_dict_in_generate=True`: Hugging Face's outputs.

Dimensions: N sequences (B * num_return_sequences), L their length, V vocabulary, S steps (the new tokens).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from minineo.arrays import Array
from minineo.model.cache import Cache
from minineo.model.outputs import ModelOutput


@dataclass(eq=False)
class GenerateDecoderOnlyOutput(ModelOutput):
    """Of greedy search and sampling: sequences (N, L), prompt included; on request scores and logits, S of (N, V)."""

    sequences: Array
    scores: tuple[Array, ...] | None = None
    logits: tuple[Array, ...] | None = None
    past_key_values: Cache | None = None


@dataclass(eq=False)
class GenerateBeamDecoderOnlyOutput(ModelOutput):
    """Of beam search: sequences (N, L), best first; on request their scores (N,), and scores and logits of each step.

    Those are of all beams, (B * num_beams, V). `beam_indices` (N, S) says which of these rows each new token continued,
    -1 after the end.
    """

    sequences: Array
    sequences_scores: Array | None = None
    scores: tuple[Array, ...] | None = None
    logits: tuple[Array, ...] | None = None
    beam_indices: Array | None = None
    past_key_values: Cache | None = None


@dataclass
class Record:
    """What a search leaves beside its tokens: its context, and the scores and logits of each step if asked for."""

    keep_scores: bool = False
    keep_logits: bool = False
    keep_cache: bool = False
    scores: list[Array] = field(default_factory=list)
    logits: list[Array] = field(default_factory=list)
    cache: Cache | None = None

    def add(self, logits: Array, scores: Array) -> None:
        """Keep what one step saw: logits as the model gave them, and the scores that the processors made of them."""
        if self.keep_logits:
            self.logits.append(logits)
        if self.keep_scores:
            self.scores.append(scores)

    @property
    def scores_so_far(self) -> tuple[Array, ...] | None:
        """All scores until now, or None where they are not kept."""
        return tuple(self.scores) if self.keep_scores else None

    @property
    def logits_so_far(self) -> tuple[Array, ...] | None:
        """All logits until now, or None where they are not kept."""
        return tuple(self.logits) if self.keep_logits else None
