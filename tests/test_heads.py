"""The heads and their losses, each against the formula on the base model's hidden states."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tiny_models import tiny, tokens

from minineo.classes import (
    GPTNeoForCausalLM,
    GPTNeoForQuestionAnswering,
    GPTNeoForSequenceClassification,
    GPTNeoForTokenClassification,
)
from minineo.model.transformer import transformer

PAD = 18

pytestmark = pytest.mark.usefixtures("reference")


def hidden(model: Any, ids: np.ndarray, **inputs: Any) -> np.ndarray:
    return transformer(model.params, model.config, ids, prefix="transformer.", **inputs).last_hidden_state


def mean_negative_log(logits: np.ndarray, labels: np.ndarray) -> float:
    """Cross-entropy of rows (N, C), leaving out the label -100."""
    losses = [
        math.log(math.fsum(np.exp(row - row.max()).tolist())) + row.max() - row[label]
        for row, label in zip(logits.astype(np.float64), labels.tolist(), strict=True)
        if label != -100
    ]
    return math.fsum(losses) / len(losses)


class TestCausalLM:
    @pytest.mark.parametrize("tied", [True, False])
    def test_logits_come_from_the_tied_or_the_own_table(self, tied: bool) -> None:
        model, ids = tiny(GPTNeoForCausalLM, tie_word_embeddings=tied), tokens(2, 5)
        table = model.params["transformer.wte.weight" if tied else "lm_head.weight"]
        np.testing.assert_array_equal(model(ids).logits, hidden(model, ids) @ table.T)
        assert ("lm_head.weight" in model.params) is not tied

    def test_the_loss_compares_each_position_with_the_next_label(self) -> None:
        model, ids = tiny(GPTNeoForCausalLM, dtype=np.float64), tokens(2, 6)
        labels = ids.copy()
        labels[0, 2:4] = -100
        output = model(ids, labels=labels)
        expected = mean_negative_log(output.logits[:, :-1].reshape(-1, 19), labels[:, 1:].ravel())
        assert float(output.loss) == pytest.approx(expected, rel=1e-12)

    def test_the_first_label_does_not_count(self) -> None:
        model, ids = tiny(GPTNeoForCausalLM), tokens(1, 4)
        other = ids.copy()
        other[0, 0] = (ids[0, 0] + 1) % 18
        assert float(model(ids, labels=ids).loss) == float(model(ids, labels=other).loss)

    def test_all_labels_ignored_gives_nan(self) -> None:
        assert math.isnan(tiny(GPTNeoForCausalLM)(tokens(1, 4), labels=np.full((1, 4), -100)).loss)

    @pytest.mark.parametrize(
        ("keep", "positions"),
        [
            (0, slice(None)),
            (1, slice(4, None)),
            (3, slice(2, None)),
            (5, slice(None)),
            (99, slice(None)),
            (np.int64(2), slice(3, None)),
            (np.array([0, 4, 2]), [0, 4, 2]),
            (np.array([-1]), [4]),
        ],
    )
    def test_logits_to_keep(self, keep: Any, positions: Any) -> None:
        model, ids = tiny(GPTNeoForCausalLM), tokens(2, 5)
        kept = model(ids, logits_to_keep=keep).logits
        np.testing.assert_allclose(kept, model(ids).logits[:, positions], rtol=1e-5, atol=1e-5)


class TestSequenceClassification:
    @pytest.mark.parametrize(
        ("ids", "last"),
        [
            ([3, 4, 5, PAD, PAD], 2),  # right padding
            ([PAD, PAD, 3, 4, 5], 4),  # left padding
            ([3, PAD, 4, PAD, 5], 4),  # the padding id inside the text
            ([3, PAD, 4, PAD, PAD], 2),
            ([3, 4, 5, 6, 7], 4),  # no padding
            ([3, PAD, PAD, PAD, PAD], 0),
            ([PAD, PAD, PAD, PAD, PAD], 0),  # nothing but padding
        ],
    )
    def test_reads_the_rightmost_token_that_is_not_padding(self, ids: list[int], last: int) -> None:
        model = tiny(GPTNeoForSequenceClassification)
        batch = np.array([[1, 2, 3, 4, 5], ids])
        expected = hidden(model, batch)[1, last] @ model.params["score.weight"].T
        np.testing.assert_allclose(model(batch).logits[1], expected, rtol=1e-5, atol=1e-6)

    def test_without_a_padding_id_reads_the_last_of_a_single_text(self) -> None:
        model, ids = tiny(GPTNeoForSequenceClassification, pad_token_id=None), np.array([[3, 4, PAD, PAD]])
        expected = hidden(model, ids)[:, -1] @ model.params["score.weight"].T
        np.testing.assert_array_equal(model(ids).logits, expected)

    def test_embeddings_as_input_are_read_at_their_end(self) -> None:
        model, ids = tiny(GPTNeoForSequenceClassification), np.array([[3, 4, 5], [3, 4, PAD]])
        embeds = model.params["transformer.wte.weight"][ids]
        expected = hidden(model, ids)[:, -1] @ model.params["score.weight"].T
        np.testing.assert_array_equal(model(inputs_embeds=embeds).logits, expected)

    @pytest.mark.parametrize("problem_type", [None, "single_label_classification"])
    @pytest.mark.parametrize("shape", [(3,), (3, 1)])
    def test_one_label_a_text(self, problem_type: str | None, shape: tuple[int, ...]) -> None:
        model = tiny(GPTNeoForSequenceClassification, problem_type=problem_type, dtype=np.float64)
        labels = np.array([0, 3, -100])
        output = model(tokens(3, 4), labels=labels.reshape(shape))
        assert float(output.loss) == pytest.approx(mean_negative_log(output.logits, labels), rel=1e-12)

    @pytest.mark.parametrize(("problem_type", "dtype"), [(None, np.float64), ("multi_label_classification", np.int64)])
    def test_several_labels_a_text(self, problem_type: str | None, dtype: Any) -> None:
        model = tiny(GPTNeoForSequenceClassification, problem_type=problem_type, dtype=np.float64)
        labels = np.array([[0, 1, 1, 0], [1, 1, 0, 0]], dtype)
        output = model(tokens(2, 4), labels=labels)
        chance = 1.0 / (1.0 + np.exp(-output.logits))
        expected = -np.mean(labels * np.log(chance) + (1 - labels) * np.log(1 - chance))
        assert float(output.loss) == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(
        ("num_labels", "problem_type", "shape"), [(1, None, (2,)), (1, None, (2, 1)), (3, "regression", (2, 3))]
    )
    def test_regression(self, num_labels: int, problem_type: str | None, shape: tuple[int, ...]) -> None:
        fields = {"num_labels": num_labels, "problem_type": problem_type}
        model = tiny(GPTNeoForSequenceClassification, dtype=np.float64, **fields)
        labels = np.arange(math.prod(shape)).reshape(shape) / 7.0
        output = model(tokens(2, 4), labels=labels)
        expected = np.mean((output.logits.ravel() - labels.ravel()) ** 2)
        assert float(output.loss) == pytest.approx(expected, rel=1e-12)


class TestTokenClassification:
    def test_logits_and_loss(self) -> None:
        model, ids = tiny(GPTNeoForTokenClassification, dtype=np.float64), tokens(2, 5)
        labels = np.array([[0, 1, 2, 3, -100], [-100, -100, 3, 2, 1]])
        output = model(ids, labels=labels)
        expected = hidden(model, ids) @ model.params["classifier.weight"].T + model.params["classifier.bias"]
        np.testing.assert_allclose(output.logits, expected, rtol=1e-12)
        loss = mean_negative_log(expected.reshape(-1, 4), labels.ravel())  # not shifted
        assert float(output.loss) == pytest.approx(loss, rel=1e-12)


class TestQuestionAnswering:
    def test_logits(self) -> None:
        model, ids = tiny(GPTNeoForQuestionAnswering, num_labels=5), tokens(2, 5)
        both = hidden(model, ids) @ model.params["qa_outputs.weight"].T + model.params["qa_outputs.bias"]
        output = model(ids)
        np.testing.assert_array_equal(output.start_logits, both[..., 0])
        np.testing.assert_array_equal(output.end_logits, both[..., 1])

    @pytest.mark.parametrize("shape", [(3,), (3, 1)])
    def test_positions_beyond_the_input_are_ignored(self, shape: tuple[int, ...]) -> None:
        model, ids = tiny(GPTNeoForQuestionAnswering, dtype=np.float64), tokens(3, 5)
        starts, ends = np.array([0, 4, 5]), np.array([3, 700, 5])
        output = model(ids, start_positions=starts.reshape(shape), end_positions=ends.reshape(shape))
        start_loss = mean_negative_log(output.start_logits[:2], starts[:2])
        end_loss = mean_negative_log(output.end_logits[:1], ends[:1])
        assert float(output.loss) == pytest.approx((start_loss + end_loss) / 2, rel=1e-12)

    def test_a_negative_position_counts_as_the_first(self) -> None:
        model, ids = tiny(GPTNeoForQuestionAnswering), tokens(1, 5)
        losses = [
            float(model(ids, start_positions=np.array([p]), end_positions=np.array([1])).loss) for p in (-7, 0, 1)
        ]
        assert losses[0] == losses[1] != losses[2]

    def test_no_loss_without_both(self) -> None:
        model, ids = tiny(GPTNeoForQuestionAnswering), tokens(1, 5)
        assert model(ids, start_positions=np.array([1])).loss is None
        assert math.isnan(model(ids, start_positions=np.array([9]), end_positions=np.array([9])).loss)


@pytest.mark.parametrize(
    ("cls", "labels"),
    [
        (GPTNeoForCausalLM, {"labels": np.zeros((2, 5), np.int64)}),
        (GPTNeoForSequenceClassification, {"labels": np.zeros(2, np.int64)}),
        (GPTNeoForTokenClassification, {"labels": np.zeros((2, 5), np.int64)}),
        (GPTNeoForQuestionAnswering, {"start_positions": np.zeros(2, np.int64), "end_positions": np.ones(2, int)}),
    ],
)
def test_losses_of_float16_models_are_float32(cls: Any, labels: dict[str, np.ndarray]) -> None:
    for dtype, wide in [(np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64)]:
        loss = tiny(cls, dtype=dtype)(tokens(2, 5), **labels).loss
        assert loss.dtype == wide
        assert np.isfinite(loss)
