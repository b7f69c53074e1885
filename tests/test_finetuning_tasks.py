"""The parts of the tasks: examples from files, rows, batches, predictions, and scores against hand-made cases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from finetuning_cases import EXAMPLES, write_examples, write_model
from hypothesis import given, settings
from hypothesis import strategies as st

from minineo.layers.losses import cross_entropy
from minineo.scoring import score
from minineo.tokenizer import GPT2Tokenizer
from minineo.training.tasks import TASKS, answers, batches, classification, language, metrics, tokens
from minineo.training.tasks.batches import Row
from minineo.training.tasks.examples import spread


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("tasks") / "model", initializer_range=0.5)


def model_for(task: str, folder: Any, **fields: Any) -> tuple[Any, GPT2Tokenizer]:
    """A model with a random head, without what is said about that."""
    tokenizer = GPT2Tokenizer.from_pretrained(folder)
    fields = TASKS[task].config_fields(EXAMPLES[task]) | {"pad_token_id": tokenizer.eos_token_id} | fields
    if task == "language":
        return TASKS[task].model_class.from_pretrained(folder, **fields), tokenizer
    with pytest.warns(UserWarning, match="initialised at random"):
        return TASKS[task].model_class.from_pretrained(folder, **fields), tokenizer


# Files ----------------------------------------------------------------------------------------------------------------

ANSWERS = {"text": ["the king"], "answer_start": [5]}
QUESTION = {"question": "Who?", "context": "Once the king sat."}


@pytest.mark.parametrize(
    ("task", "example", "words"),
    [
        ("classification", {"text": "a"}, "has no label (it has text); expected text, label"),
        ("classification", {"text": "a", "label": "x", "lable": 1}, "has an unknown key 'lable'"),
        ("classification", {"text": " ", "label": "x"}, "text: received an empty text"),
        ("classification", {"text": "a", "label": 0}, "label: received a int, expected a text"),
        ("classification", {}, "has no text, label (it has nothing)"),
        ("tokens", {"words": ["a", "b"], "labels": ["O"]}, "has 2 words and 1 labels, expected as many"),
        ("tokens", {"words": "a b", "labels": ["O", "O"]}, "words: received 'a b', expected a list of texts"),
        ("tokens", {"words": ["a b"], "labels": ["O"]}, "words: received 'a b', expected a word without white space"),
        ("tokens", {"words": [""], "labels": ["O"]}, "words: received '', expected a word"),
        ("tokens", {"words": ["a"], "labels": [1]}, "labels: received [1], expected a list of texts"),
        ("tokens", {"words": [], "labels": []}, "words: received []"),
        ("answers", QUESTION | {"answers": "the king"}, "answers: received 'the king', expected {"),
        ("answers", QUESTION | {"answers": {"text": [], "answer_start": []}}, "one entry or more"),
        (
            "answers",
            QUESTION | {"answers": ANSWERS | {"answer_start": [4]}},
            "'the king' does not stand at character 4",
        ),
        ("answers", QUESTION | {"answers": ANSWERS | {"answer_start": [-1]}}, "does not stand at character -1"),
        ("answers", QUESTION | {"answers": ANSWERS | {"answer_start": [5, 6]}}, "one entry or more"),
        ("answers", QUESTION | {"answers": ANSWERS | {"answer_start": ["5"]}}, "received 'the king' at '5'"),
        ("answers", QUESTION | {"answers": {"text": [" "], "answer_start": [4]}}, "received ' ' at 4"),
        ("answers", QUESTION | {"context": "", "answers": ANSWERS}, "context: received an empty text"),
        ("language", {"text": None}, "text: received a NoneType, expected a text"),
        ("language", ["a"], "holds a JSON list, expected an object"),
    ],
)
def test_a_wrong_example_is_named_by_its_line(task, example, words, tmp_path):
    path = write_examples(tmp_path / "data.jsonl", [EXAMPLES[task][0], example])
    with pytest.raises(ValueError, match=r"data\.jsonl, line 2: ") as raised:
        TASKS[task].read(path)
    assert words in str(raised.value)


@pytest.mark.parametrize("task", list(TASKS))
def test_right_examples_are_read_as_they_are(task, tmp_path):
    path = write_examples(tmp_path / "data.jsonl", EXAMPLES[task])
    assert TASKS[task].read(path) == EXAMPLES[task]


def test_line_ends_of_windows_and_blank_lines_do_no_harm(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes('\r\n{"text": "a\u2028b"}\r\n \n{"text": 1}'.encode())
    with pytest.raises(ValueError, match="line 4"):
        language.read(path)
    path.write_bytes('\r\n{"text": "a\u2028b"}\r\n\n'.encode())
    assert language.read(path) == [{"text": "a\u2028b"}]
    path.write_bytes('{"text": "a"}\n'.encode("utf-8-sig"))  # as some editors of Windows write it
    assert language.read(path) == [{"text": "a"}]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no examples in it"),
        (b"\n\n", "no examples in it"),
        (b"{", "line 1: not valid JSON"),
        (b"\xff", "line 1: not valid JSON"),
    ],
)
def test_a_file_that_holds_no_examples_is_an_error(content, words, tmp_path):
    (tmp_path / "data.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        language.read(tmp_path / "data.jsonl")


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl: no such file"):
        language.read(tmp_path / "nowhere.jsonl")


def test_spread_takes_some_of_all_parts():
    assert spread([{"i": i} for i in range(10)], 3) == [{"i": 0}, {"i": 3}, {"i": 6}]
    assert len(spread([{}], 5)) == len(spread([{}], None)) == 1


# Rows -----------------------------------------------------------------------------------------------------------------


def test_labels_of_texts_are_numbers_in_alphabetical_order(folder):
    model, tokenizer = model_for("classification", folder)
    row = classification.encode([{"text": "Once", "label": "human"}], tokenizer, model.config)[0]
    assert row == {"input_ids": tokenizer.encode("Once"), "labels": 1}


def test_the_token_that_a_word_begins_in_has_its_label(folder):
    model, tokenizer = model_for("tokens", folder)
    words = ["Once", "Zanzibar,", "king"]
    row = tokens.encode([{"words": words, "labels": ["O", "WHO", "WHO"]}], tokenizer, model.config)[0]
    pieces = tokenizer.tokenize("Once Zanzibar, king")
    assert row["input_ids"] == tokenizer.convert_tokens_to_ids(pieces)
    # no merge of this vocabulary joins the space to the Z; a space alone says nothing of the word that follows
    assert pieces[:4] == ["Once", "Ġ", "Z", "a"]
    labels = [-100] * len(pieces)
    labels[0], labels[2], labels[pieces.index("Ġking")] = 0, 1, 1
    assert row["labels"] == labels


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=6).filter(lambda word: word.split() == [word]), min_size=1, max_size=8))
def test_every_word_has_one_label_whatever_it_is_written_with(words):
    tokenizer = GPT2Tokenizer.train(["the king and the queen"], 270, progress=False)
    ((ids, first),) = tokens._encode_words([words], tokenizer)
    assert len(first) == len(words)
    assert all(a <= b for a, b in pairwise(first))  # the same token only where a word begins inside of it
    assert tokenizer.decode(ids) == " ".join(words)


def test_special_tokens_that_are_written_out_are_text(folder):
    model, tokenizer = model_for("classification", folder)
    text = "Once <|endoftext|>"
    rows = [
        classification.encode([{"text": text, "label": "human"}], tokenizer, model.config),
        tokens.encode(
            [{"words": text.split(), "labels": ["O", "O"]}], tokenizer, model_for("tokens", folder)[0].config
        ),
        answers.encode([QUESTION | {"question": text, "answers": ANSWERS}], tokenizer, model.config),
    ]
    assert all(tokenizer.eos_token_id not in batches.ids(row) for (row,) in rows)


def test_an_answer_is_the_tokens_that_hold_it(folder):
    model, tokenizer = model_for("answers", folder)
    row = answers.encode([QUESTION | {"answers": ANSWERS}], tokenizer, model.config)[0]
    ids = batches.ids(row)
    assert tokenizer.decode(ids[row["start_positions"] : row["end_positions"] + 1]) == " the king"
    assert tokenizer.decode(ids) == "Who?Once the king sat."


def test_a_question_that_leaves_no_room_is_an_error(folder):
    model, tokenizer = model_for("answers", folder)
    example = QUESTION | {"question": "z" * 70, "answers": ANSWERS}
    expected = r"the question 'z{60}\.\.\.' has \d+ tokens, the context of the model only 64"
    with pytest.raises(ValueError, match=expected):
        answers.encode([QUESTION | {"answers": ANSWERS}, example], tokenizer, model.config)
    special = example | {"question": "<|endoftext|>" * 20}  # 20 tokens if it were read as special tokens
    with pytest.raises(ValueError, match="the question"):
        answers.encode([special], tokenizer, model.config)


def test_what_does_not_fit_is_cut_with_a_warning(folder):
    long = "z" * 200
    model, tokenizer = model_for("classification", folder)
    with pytest.warns(UserWarning, match="1 of 1 texts are longer than 64 tokens"):
        row = classification.encode([{"text": long, "label": "human"}], tokenizer, model.config)[0]
    assert len(batches.ids(row)) == 64
    model, tokenizer = model_for("tokens", folder)
    with pytest.warns(UserWarning, match="are cut"):
        assert tokens.predict(model, tokenizer, [["a", long, "b"]])[0][2] is None
    lost = {"question": "Who?", "context": long + " king", "answers": {"text": ["king"], "answer_start": [201]}}
    with pytest.warns(UserWarning, match="1 of 2 examples are left out"):
        assert len(answers.encode([lost, QUESTION | {"answers": ANSWERS}], tokenizer, model.config)) == 1


def test_texts_are_learned_from_as_they_are_scored(folder):
    model, tokenizer = model_for("language", folder)
    text = "Once the king<|endoftext|>Once the bear"
    (row,) = language.encode([{"text": text}], tokenizer, model.config)
    assert row["input_ids"] == [*tokenizer.encode(text), tokenizer.eos_token_id]
    assert len(batches.ids(row)) == score(text, model, tokenizer).tokens + 2  # the first, and the end


def test_a_text_of_one_token_is_an_error(folder):
    model, tokenizer = model_for("language", folder)
    with pytest.raises(ValueError, match="the text 'O' has 1 token, expected at least 2"):
        language.encode([{"text": "O"}], tokenizer, model.config)


def test_texts_are_cut_into_rows_as_long_as_the_context(folder):
    model, tokenizer = model_for("language", folder, max_position_embeddings=64)
    rows = language.encode(EXAMPLES["language"], tokenizer, model.config)
    assert [len(batches.ids(row)) for row in rows[:-1]] == [64] * (len(rows) - 1)
    whole = [i for row in rows for i in batches.ids(row)]
    texts = [tokenizer.encode(example["text"]) for example in EXAMPLES["language"]]
    assert whole == [*texts[0], tokenizer.eos_token_id, *texts[1], tokenizer.eos_token_id]
    assert all(row["labels"] == row["input_ids"] for row in rows)


# Batches --------------------------------------------------------------------------------------------------------------


def rows_of(lengths: list[int]) -> list[Row]:
    return [{"input_ids": [i] * length, "labels": i} for i, length in enumerate(lengths)]


def test_padding_by_hand():
    batch = batches.pad([{"input_ids": [1, 2], "labels": [0, -100]}, {"input_ids": [3], "labels": [1]}], 9)
    assert {name: array.tolist() for name, array in batch.items()} == {
        "attention_mask": [[1, 1], [1, 0]],
        "input_ids": [[1, 2], [3, 9]],
        "labels": [[0, -100], [1, -100]],
    }
    assert batches.pad([{"input_ids": [1], "labels": 2}], 9)["labels"].tolist() == [2]
    with pytest.raises(ValueError, match="pad_token_id"):
        batches.pad([{"input_ids": [1]}], None)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_has_every_row_once_in_an_order_of_its_own(lengths, batch_size, seed, epoch):
    found = batches.batches(rows_of(lengths), batch_size, seed, epoch)
    assert sorted(row["labels"] for batch in found for row in batch) == list(range(len(lengths)))
    assert max(map(len, found)) <= batch_size
    assert len(found) == -(-len(lengths) // batch_size)
    assert found == batches.batches(rows_of(lengths), batch_size, seed, epoch)


def test_rows_of_like_length_come_together():
    lengths = [int(length) for length in np.random.default_rng(0).integers(1, 100, 64)]
    found = batches.batches(rows_of(lengths), 8, seed=0)
    padding = sum(max(len(batches.ids(row)) for row in batch) * len(batch) for batch in found) - sum(lengths)
    assert padding < 0.15 * sum(lengths)
    assert found != batches.batches(rows_of(lengths), 8, seed=0, epoch=1)


@pytest.mark.parametrize("task", list(TASKS))
def test_gradients_of_shares_are_those_of_the_batch(task, folder):
    model, tokenizer = model_for(task, folder, classifier_dropout=0.0)
    rows = TASKS[task].encode(EXAMPLES[task], tokenizer, model.config)
    batch = batches.pad(rows, model.config.pad_token_id)
    loss, grads = model.loss_and_grads(**batch)
    with ThreadPoolExecutor(3) as pool:
        found_loss, found = batches.loss_and_grads(model, rows, pool, 3)
    assert found_loss == pytest.approx(float(loss), rel=1e-6)
    largest = max(float(np.abs(gradient).max()) for gradient in grads.values())
    for name, gradient in grads.items():
        np.testing.assert_allclose(found[name], gradient, rtol=0, atol=1e-5 * largest)


def test_a_share_without_labels_counts_for_nothing(folder):
    model, _ = model_for("tokens", folder, classifier_dropout=0.0)
    rows: list[Row] = [{"input_ids": [1, 2], "labels": [0, 1]}, {"input_ids": [3, 4], "labels": [-100, -100]}]
    with ThreadPoolExecutor(2) as pool:
        loss, _ = batches.loss_and_grads(model, rows, pool, 2)
    logits = model(np.array([[1, 2]])).logits
    assert loss == pytest.approx(float(cross_entropy(logits, np.array([[0, 1]]))), rel=1e-5)


# Predictions ----------------------------------------------------------------------------------------------------------


def test_padding_changes_no_prediction(folder):
    texts = ["Once", "Once the king went home.", "the bear and the queen and the old wolf", "the"]
    model, tokenizer = model_for("classification", folder)
    assert classification.predict(model, tokenizer, texts) == [
        classification.predict(model, tokenizer, [text])[0] for text in texts
    ]
    model, tokenizer = model_for("tokens", folder)
    words = [text.split() for text in texts]
    assert tokens.predict(model, tokenizer, words, workers=2) == [
        tokens.predict(model, tokenizer, [each])[0] for each in words
    ]


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 30), st.integers(0, 2**32 - 1), st.data())
def test_the_best_span_is_the_best_of_all(T, seed, data):
    allowed = sorted(data.draw(st.sets(st.integers(0, T - 1), min_size=1)))
    starts, ends = np.random.default_rng(seed).standard_normal((2, T))
    possible = [
        (float(starts[a] + ends[b]), a, b) for a in allowed for b in allowed if 0 <= b - a < answers.LONGEST_ANSWER
    ]
    assert answers.best_span(starts, ends, allowed) == max(possible)[1:]


def test_an_answer_has_sixteen_tokens_at_most():
    starts, ends = np.zeros(20), np.zeros(20)
    starts[2], ends[17], ends[18] = 5.0, 5.0, 9.0
    assert answers.best_span(starts, ends, range(20)) == (2, 17)


def test_an_answer_is_a_piece_of_the_context(folder):
    model, tokenizer = model_for("answers", folder)
    for example, answer in zip(
        EXAMPLES["answers"], answers.predict(model, tokenizer, EXAMPLES["answers"]), strict=True
    ):
        assert answer in example["context"]


def test_bits_per_byte_of_texts_are_weighted_by_their_bytes(folder):
    model, tokenizer = model_for("language", folder)
    texts = [*(example["text"] for example in EXAMPLES["language"]), "Once the king"]
    each = [score(text, model, tokenizer) for text in texts]
    found = language.evaluate(model, tokenizer, [{"text": text} for text in texts], workers=2)
    bits = sum(one.bits_per_byte * one.bytes for one in each)
    assert found == {"bits_per_byte": pytest.approx(bits / sum(one.bytes for one in each))}


# Scores ---------------------------------------------------------------------------------------------------------------


def test_accuracy_and_f1_by_hand():
    expected, predicted = ["a", "a", "a", "b"], ["a", "a", "b", "b"]
    assert metrics.accuracy(expected, predicted) == 0.75
    # a: precision 1, recall 2/3; b: precision 1/2, recall 1
    assert metrics.f1_of_classes(expected, predicted) == pytest.approx({"a": 0.8, "b": 2 / 3})
    assert metrics.macro_f1(expected, predicted) == pytest.approx((0.8 + 2 / 3) / 2)


def test_the_commonest_class_alone_gives_half_an_f1_at_most():
    assert metrics.macro_f1(["a"] * 9 + ["b"], ["a"] * 10) == pytest.approx(18 / 19 / 2)


def test_what_is_not_predicted_is_wrong():
    assert metrics.accuracy(["a", "b"], ["a", None]) == 0.5
    assert metrics.f1_of_classes(["a", "b"], ["a", None]) == {"a": 1.0, "b": 0.0}


@pytest.mark.parametrize(
    ("expected", "predicted", "exact", "f1"),
    [
        (["the Rocket"], "Rocket,", 1.0, 1.0),
        (["the old Rocket"], "a Rocket", 0.0, 2 / 3),
        (["Peter"], "Bobbie", 0.0, 0.0),
        (["Peter", "her brother"], "her Brother", 1.0, 1.0),
        (["Peter"], "", 0.0, 0.0),
        (["Peter"], "the", 0.0, 0.0),
        (["Peter Peter"], "Peter", 0.0, 2 / 3),
    ],
)
def test_answers_are_compared_as_squad_does(expected, predicted, exact, f1):
    assert metrics.exact_match(expected, predicted) == exact
    assert metrics.f1_of_answer(expected, predicted) == pytest.approx(f1)


def test_naive_bayes_by_hand():
    train = [{"text": "old wolf", "label": "a"}, {"text": "old king", "label": "h"}, {"text": "king", "label": "h"}]
    # h: 2/3 and (1 + 1) / (3 + 3) for old; a: 1/3 and (1 + 1) / (2 + 3)
    assert classification.naive_bayes(train, ["old", "Wolf!", "the king", "unknown"]) == ["h", "a", "h", "h"]


def test_baselines_know_the_training_examples_only():
    train = [{"words": ["a", "b", "a"], "labels": ["X", "O", "X"]}]
    validation = [{"words": ["a", "b", "c"], "labels": ["X", "X", "X"]}]
    found = tokens.baselines(train, validation)
    assert found["commonest label"]["accuracy"] == 1.0
    assert found["commonest of each word"]["accuracy"] == pytest.approx(2 / 3)
    wolf = {"question": "?", "context": "the wolf", "answers": {"text": ["wolf"], "answer_start": [4]}}
    bear = {"question": "?", "context": "the bear", "answers": {"text": ["bear"], "answer_start": [4]}}
    both = bear | {"context": "the bear and the wolf"}
    found = answers.baselines([wolf, wolf, bear], [bear, both])
    assert {name: scores["exact_match"] for name, scores in found.items()} == {
        "commonest answer": 0.0,
        "commonest in the context": 0.5,
        "last in the context": 0.5,
        "next after the quotation": 1.0,  # no quotation: the first one
    }
    said = '"No," said the wolf. "Yes," said the bear. "No," said the wolf.'
    both = {"question": 'Who said "Yes"?', "context": said, "answers": {"text": ["bear"], "answer_start": [37]}}
    assert answers.baselines([wolf, wolf, bear], [both])["next after the quotation"]["exact_match"] == 1.0
    assert language.baselines([], []) == {}
