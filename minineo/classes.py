"""The five classes that users hold: Hugging Face's names, arguments, outputs and defaults around pure functions."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from minineo.config import GPTNeoConfig
from minineo.generation import generate
from minineo.model import heads
from minineo.model.inputs import (
    check_answer_positions,
    check_classification_labels,
    check_labels,
    check_logits_to_keep,
)
from minineo.model.names import BASE_PREFIX, Shapes
from minineo.model.outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)
from minineo.pretrained import GPTNeoPreTrainedModel


class GPTNeoModel(GPTNeoPreTrainedModel[BaseModelOutputWithPast]):
    """The transformer alone: tokens to last_hidden_state (B, T, D)."""

    forward = staticmethod(heads.base_model)
    prefix = ""


class GPTNeoForCausalLM(GPTNeoPreTrainedModel[CausalLMOutputWithPast]):
    """The language model: tokens to logits (B, T, V) for each next token, and text by `generate`.

    Takes labels (B, T), which may be input_ids themselves (they are shifted inside; -100 is ignored), and
    logits_to_keep: 0 for logits at all positions, k for the last k, or an array of positions, (K,) or (B, K).
    """

    forward = staticmethod(heads.causal_lm)
    head_inputs = ("labels", "logits_to_keep")
    generate = generate

    @classmethod
    def head_shapes(cls, config: GPTNeoConfig) -> Shapes:
        """The head's weight, unless it is the token embedding."""
        return {} if config.tie_word_embeddings else {"lm_head.weight": (config.vocab_size, config.hidden_size)}

    @classmethod
    def tied(cls, config: GPTNeoConfig) -> dict[str, str]:
        """The head's weight is the token embedding, unless the configuration says otherwise."""
        return {"lm_head.weight": f"{BASE_PREFIX}wte.weight"} if config.tie_word_embeddings else {}

    def _check_head_inputs(self, batch: int, positions: int, head_inputs: dict[str, Any]) -> None:
        labels, logits_to_keep = head_inputs.get("labels"), head_inputs.get("logits_to_keep", 0)
        check_logits_to_keep(logits_to_keep, batch, positions)
        if labels is not None:
            check_labels("labels", labels, (batch, positions), self.config.vocab_size)
            if not isinstance(logits_to_keep, int | Integral) or logits_to_keep:
                raise ValueError("labels need logits at all positions: leave logits_to_keep at 0.")


class GPTNeoForSequenceClassification(GPTNeoPreTrainedModel[SequenceClassifierOutputWithPast]):
    """A classifier of whole texts: tokens to logits (B, num_labels), read at each row's last token.

    Takes labels: (B,) integers for one class a text, (B, num_labels) floats of 0 and 1 for several at once, floats of
    the logits' shape (or (B,) if there is one label) for regression. `config.problem_type` says which.
    """

    forward = staticmethod(heads.sequence_classification)
    head_inputs = ("labels",)

    @classmethod
    def head_shapes(cls, config: GPTNeoConfig) -> Shapes:
        """A weight without a bias."""
        return {"score.weight": (config.num_labels, config.hidden_size)}

    def _check_head_inputs(self, batch: int, positions: int, head_inputs: dict[str, Any]) -> None:
        labels = head_inputs.get("labels")
        if batch != 1 and self.config.pad_token_id is None:
            raise ValueError(
                f"A batch of {batch} texts needs config.pad_token_id, to find the last token of each that is not "
                "padding. Set it to the id that you pad with, or pass one text at a time."
            )
        if labels is not None:
            check_classification_labels(labels, batch, self.config)


class GPTNeoForTokenClassification(GPTNeoPreTrainedModel[TokenClassifierOutput]):
    """A classifier of tokens: tokens to logits (B, T, num_labels). Takes labels (B, T), -100 where there is none."""

    forward = staticmethod(heads.token_classification)
    head_inputs = ("labels",)
    returns_cache = False

    @classmethod
    def head_shapes(cls, config: GPTNeoConfig) -> Shapes:
        """A weight and a bias."""
        return {"classifier.weight": (config.num_labels, config.hidden_size), "classifier.bias": (config.num_labels,)}

    def _check_head_inputs(self, batch: int, positions: int, head_inputs: dict[str, Any]) -> None:
        labels = head_inputs.get("labels")
        if labels is not None:
            check_labels("labels", labels, (batch, positions), self.config.num_labels)


class GPTNeoForQuestionAnswering(GPTNeoPreTrainedModel[QuestionAnsweringModelOutput]):
    """An extractive question answerer: tokens to start_logits and end_logits (B, T).

    Takes start_positions and end_positions (B,), the answer's first and last token; those beyond T are ignored.
    """

    forward = staticmethod(heads.question_answering)
    head_inputs = ("start_positions", "end_positions")
    returns_cache = False

    @classmethod
    def head_shapes(cls, config: GPTNeoConfig) -> Shapes:
        """A weight and a bias: one row for starts, one for ends."""
        return {"qa_outputs.weight": (2, config.hidden_size), "qa_outputs.bias": (2,)}

    def _check_head_inputs(self, batch: int, positions: int, head_inputs: dict[str, Any]) -> None:
        for name, answers in head_inputs.items():
            if answers is not None:
                check_answer_positions(name, answers, batch)
