"""What `minineo finetune` writes is read by transformers, and predicts the same there, for each of the four tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require
from finetuning_cases import EXAMPLES, tiny_options

from minineo.tokenizer import GPT2Tokenizer
from minineo.training.finetuning import finetune
from minineo.training.tasks import TASKS, answers, classification, tokens

pytestmark = pytest.mark.oracle


def fine_tuned(task: str, folder: Path) -> tuple[Any, Any, Any, Any]:
    """Model and tokenizer of a short run, as minineo and as transformers load them."""
    transformers = require("transformers")
    options = tiny_options(folder, task, epochs=3, validation=None)
    finetune(options)
    cls = TASKS[task].model_class
    own, theirs = (
        cls.from_pretrained(options.output),
        getattr(transformers, cls.__name__).from_pretrained(options.output),
    )
    return own, GPT2Tokenizer.from_pretrained(options.output), theirs, _their_tokenizer(options.output)


def _their_tokenizer(folder: str) -> Any:
    return require("transformers").AutoTokenizer.from_pretrained(folder)


def logits_of(model: Any, encoded: Any) -> Any:
    torch = require("torch")
    with torch.no_grad():
        return model(**encoded)


def close(found: np.ndarray, expected: Any) -> bool:
    expected = expected.numpy()
    return bool(np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max())


def test_texts_get_the_same_labels(tmp_path):
    own, tokenizer, theirs, their_tokenizer = fine_tuned("classification", tmp_path)
    texts = [example["text"] for example in EXAMPLES["classification"]] + ["Once"]
    encoded = their_tokenizer(texts, padding=True, return_tensors="pt")  # the padding token has been saved
    expected = logits_of(theirs, encoded).logits
    assert close(own(encoded["input_ids"].numpy(), encoded["attention_mask"].numpy()).logits, expected)
    labels = [theirs.config.id2label[int(label)] for label in expected.argmax(-1)]
    assert classification.predict(own, tokenizer, texts) == labels


def test_words_get_the_same_labels(tmp_path):
    own, tokenizer, theirs, their_tokenizer = fine_tuned("tokens", tmp_path)
    words = EXAMPLES["tokens"][0]["words"]
    encoded = their_tokenizer(" ".join(words), return_offsets_mapping=True, return_tensors="pt")
    offsets = encoded.pop("offset_mapping")[0].tolist()
    expected = logits_of(theirs, encoded).logits
    assert close(own(encoded["input_ids"].numpy()).logits, expected)
    labels = expected.argmax(-1)[0].tolist()
    starts = [sum(len(word) + 1 for word in words[:i]) for i in range(len(words))]
    at = [next(i for i, (a, b) in enumerate(offsets) if a <= start < b) for start in starts]
    assert tokens.predict(own, tokenizer, [words])[0] == [theirs.config.id2label[labels[i]] for i in at]


def test_questions_get_the_same_answers(tmp_path):
    own, tokenizer, theirs, their_tokenizer = fine_tuned("answers", tmp_path)
    found = answers.predict(own, tokenizer, EXAMPLES["answers"])
    for example, answer in zip(EXAMPLES["answers"], found, strict=True):
        encoded = their_tokenizer(
            example["question"], example["context"], return_offsets_mapping=True, return_tensors="pt"
        )
        offsets = encoded.pop("offset_mapping")[0].tolist()
        expected = logits_of(theirs, encoded)
        output = own(encoded["input_ids"].numpy())
        assert close(output.start_logits, expected.start_logits)
        assert close(output.end_logits, expected.end_logits)
        of_context = [i for i, which in enumerate(encoded.sequence_ids(0)) if which == 1]
        spans = [(a, b) for a in of_context for b in of_context if 0 <= b - a < answers.LONGEST_ANSWER]
        first, last = max(spans, key=lambda s: float(expected.start_logits[0, s[0]] + expected.end_logits[0, s[1]]))
        assert answer == example["context"][offsets[first][0] : offsets[last][1]].strip()


def test_text_is_continued_the_same(tmp_path):
    own, _, theirs, their_tokenizer = fine_tuned("language", tmp_path)
    encoded = their_tokenizer("Once the", return_tensors="pt")
    assert close(own(encoded["input_ids"].numpy()).logits, logits_of(theirs, encoded).logits)
    expected = theirs.generate(**encoded, max_new_tokens=12, do_sample=False)
    found = own.generate(encoded["input_ids"].numpy(), max_new_tokens=12, do_sample=False)
    assert found.tolist() == expected.tolist()
