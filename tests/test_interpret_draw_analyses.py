"""Pictures of analyses: they show the numbers that they were given, with everything labelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import require
from tiny_models import tiny, tokens

import minineo
from minineo import interpret
from minineo.classes import GPTNeoForCausalLM

IDS = [5, 3, 9, 3, 9]
TEXTS = ["Once", " upon", "\n", b"\xe2\x80", " $x$"]


@pytest.fixture
def draw() -> Any:
    require("matplotlib")
    return interpret.draw


@pytest.fixture
def model() -> GPTNeoForCausalLM:
    return tiny(GPTNeoForCausalLM)


def shown(ax: Any) -> np.ndarray:
    return np.asarray(ax.images[0].get_array())


def labels(ax: Any, axis: str) -> list[str]:
    return [label.get_text() for label in getattr(ax, f"get_{axis}ticklabels")()]


def assert_scale(ax: Any, low: float, high: float) -> None:
    assert ax.images[0].norm.vmin == pytest.approx(low)
    assert ax.images[0].norm.vmax == pytest.approx(high)
    assert ax.images[0].colorbar.ax.get_ylabel()


def test_logit_lens(draw, model):
    found = interpret.logit_lens(model, IDS)
    ax = draw.logit_lens(found, TEXTS)
    np.testing.assert_allclose(shown(ax), found.top_probabilities[::-1, :, 0])
    assert labels(ax, "y") == ["h.1.resid_post", "h.0.resid_post", "embed"]
    assert labels(ax, "x")[1] == "·upon"
    assert_scale(ax, 0.0, 1.0)


def test_logit_lens_with_its_guesses_written(draw):
    model, tokenizer = minineo.load()
    ids = tokenizer.encode("The king said")
    found = interpret.logit_lens(model, ids)
    ax = draw.logit_lens(found, draw.token_bytes(tokenizer, ids), tokenizer)
    written = {(round(text.get_position()[0]), round(text.get_position()[1])): text.get_text() for text in ax.texts}
    for position in range(len(ids)):
        guess = tokenizer.decode([found.top_tokens[-1, position, 0]])
        assert written[position, 0] == guess.replace(" ", "·")
    assert len(written) == len(ids) * (model.config.num_layers + 1)


def test_direct_logit_attribution(draw, model):
    found = interpret.direct_logit_attribution(model, IDS, 4, 2)
    ax = draw.direct_logit_attribution(found)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(list(found.parts.values()))
    assert labels(ax, "y") == list(found.parts)
    ax = draw.direct_logit_attribution(found, by="head")
    np.testing.assert_allclose(shown(ax), found.heads)
    largest = float(np.abs(found.heads).max())
    assert_scale(ax, -largest, largest)
    ax = draw.direct_logit_attribution(found, TEXTS, by="position")
    np.testing.assert_allclose(shown(ax), found.sources.sum(axis=1))
    with pytest.raises(ValueError, match="by: received 'layer', expected 'part', 'head', or 'position'"):
        draw.direct_logit_attribution(found, by="layer")
    with pytest.raises(ValueError, match="'position' with the tokens"):
        draw.direct_logit_attribution(found, by="position")


def test_ablation_scores(draw, model):
    found = interpret.ablation_scores(model, IDS)
    ax = draw.ablation_scores(found)
    np.testing.assert_allclose(shown(ax)[:, :3], found.heads)
    np.testing.assert_allclose(shown(ax)[:, 3], found.mlps)
    assert labels(ax, "x") == ["0", "1", "2", "MLP"]
    largest = float(np.abs(found.heads).max())
    assert_scale(ax, -largest, largest)


@pytest.mark.parametrize("site", ["resid_pre", "z"])
def test_activation_patching(draw, model, site):
    found = interpret.activation_patching(model, IDS, tokens(1, 5), 4, site=site)
    ax = draw.activation_patching(found, TEXTS)
    np.testing.assert_allclose(shown(ax), found.normalised)
    assert labels(ax, "x")[0] == ("0" if site == "z" else "Once")
    largest = max(1.0, float(np.abs(found.normalised).max()))
    assert_scale(ax, -largest, largest)  # 0 has the middle colour


@pytest.mark.parametrize("name", ["previous_token_scores", "duplicate_token_scores", "induction_scores"])
def test_head_scores(draw, model, name):
    found = getattr(interpret, name)(model, IDS)
    ax = getattr(draw, name)(found)
    np.testing.assert_allclose(shown(ax), found.scores)
    assert labels(ax, "y") == ["layer 0, global", "layer 1, local 3"]
    assert_scale(ax, 0.0, 1.0)
    assert found.kind.capitalize() in ax.get_title(loc="left")


def test_circuits(draw, model):
    some = [3, 9, 5]
    qk, ov = interpret.qk_circuit(model, 1, 2, some), interpret.ov_circuit(model, 1, 2, some)
    for ax, values in ((draw.qk_circuit(qk, TEXTS[:3]), qk.scores), (draw.ov_circuit(ov, TEXTS[:3]), ov.logits)):
        np.testing.assert_allclose(shown(ax), values)
        assert labels(ax, "x") == labels(ax, "y") == ["Once", "·upon", "⏎"]
        assert "head 2 of layer 1" in ax.get_title(loc="left")
    with pytest.raises(ValueError, match="no matrix of tokens to draw"):
        draw.qk_circuit(interpret.qk_circuit(model, 1, 2), TEXTS)


def test_attention_distance(draw, model):
    found = interpret.attention_distance(model, IDS)
    ax = draw.attention_distance(found)
    points = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    assert points == pytest.approx(found.distances.reshape(-1).tolist())
    edges = [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1 and line.get_marker() != "o"]
    assert edges == [2]  # of the local layer alone
    brief = draw.attention_distance(interpret.attention_distance(model, IDS[:3]))  # the window hides nothing
    assert not [line for line in brief.lines if line.get_xdata()[0] == 2 == line.get_xdata()[-1]]
    assert labels(ax, "y") == ["layer 0, global", "layer 1, local 3"]


def test_texts(draw, model):
    found = interpret.surprisal(model, IDS)
    for ax in (draw.surprisal(found, TEXTS), draw.token_probabilities(found.probabilities, TEXTS)):
        written = [text.get_text() for text in ax.texts]
        assert written[:2] == ["Once", " upon"]
        assert "not predicted" in written


def test_axes_of_ones_own(draw, model):
    figure = require("matplotlib.figure").Figure()
    ax = figure.add_subplot()
    assert draw.ablation_scores(interpret.ablation_scores(model, IDS), ax=ax) is ax
    other = figure.add_subplot()
    assert draw.attention_distance(interpret.attention_distance(model, IDS), ax=other) is other
