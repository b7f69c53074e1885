"""The frozen values of notebooks/data: what transformers gave, and what minineo has to give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import require

import minineo

FILE = Path(__file__).parents[1] / "notebooks" / "data" / "transformers.npz"
LARGEST_ERROR = 1e-5  # of the largest value
TEXTS = ("prompt", "winter")
FIELDS = ("hidden_states", "attentions", "logits", "loss")


@pytest.fixture(scope="module")
def frozen() -> dict[str, np.ndarray]:
    with np.load(FILE) as file:
        return dict(file)


@pytest.mark.parametrize("text", TEXTS)
def test_minineo_gives_the_frozen_values(frozen: dict[str, np.ndarray], text: str) -> None:
    model, _ = minineo.load()
    ids = frozen[f"{text}/input_ids"]
    output = model(ids, labels=ids, output_hidden_states=True, output_attentions=True)
    assert output.hidden_states is not None
    assert output.attentions is not None
    assert output.logits is not None
    ours = {
        "hidden_states": np.stack([state[0, -1] for state in output.hidden_states]),
        "attentions": np.stack([pattern[0, :, -1] for pattern in output.attentions]),
        "logits": output.logits[0, -1],
        "loss": output.loss,
    }
    for field in FIELDS:
        theirs = frozen[f"{text}/{field}"]
        assert np.shape(ours[field]) == theirs.shape
        assert np.abs(ours[field] - theirs).max() < LARGEST_ERROR * np.abs(theirs).max(), field


def test_one_text_is_shorter_than_the_window_and_one_is_longer(frozen: dict[str, np.ndarray]) -> None:
    model, tokenizer = minineo.load()
    window = model.config.window_size
    assert frozen["prompt/input_ids"].shape[1] < window < frozen["winter/input_ids"].shape[1]
    for text in TEXTS:
        ids = frozen[f"{text}/input_ids"]
        assert tokenizer(tokenizer.decode(ids[0]), return_tensors="np").input_ids.tolist() == ids.tolist()


@pytest.mark.oracle
def test_transformers_gives_the_frozen_values(frozen: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    require("torch")
    require("transformers")
    monkeypatch.syspath_prepend(Path(__file__).parent / "golden")
    from hugging_face import oracle_model
    from write_notebook_values import values

    ours, _ = minineo.load()
    model = oracle_model("GPTNeoForCausalLM", ours.config, ours.params, np.float64)
    for text in TEXTS:
        for field, found in values(model, frozen[f"{text}/input_ids"]).items():
            expected = frozen[f"{text}/{field}"]
            assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max(), field
