"""The picture of an architecture: its numbers are the model's, and its SVG is harmless and complete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny, tiny_config

import minineo
from minineo import (
    GPTNeoConfig,
    GPTNeoForCausalLM,
    GPTNeoForQuestionAnswering,
    GPTNeoForSequenceClassification,
    GPTNeoForTokenClassification,
    GPTNeoModel,
)
from minineo.interpret.diagram import Diagram, diagram, parameters_per_part

CLASSES = (
    GPTNeoModel,
    GPTNeoForCausalLM,
    GPTNeoForSequenceClassification,
    GPTNeoForTokenClassification,
    GPTNeoForQuestionAnswering,
)
SVG = "{http://www.w3.org/2000/svg}"
HARMLESS = {"svg", "title", "desc", "rect", "path", "circle", "text"}


def config_of(layers: int, **fields: Any) -> GPTNeoConfig:
    types = [[["global", "local"], layers // 2], [["global"], layers % 2]]
    return GPTNeoConfig(num_layers=layers, attention_types=[part for part in types if part[1]], **fields)


def texts(picture: Diagram) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture.svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("tied", [True, False])
def test_parts_are_counted_as_the_model_counts_them(cls: Any, tied: bool) -> None:
    model = tiny(cls, "glg", tie_word_embeddings=tied)
    counts = parameters_per_part(cls, model.config)
    assert sum(counts.values()) == model.num_parameters()
    by_name = {
        "token embedding": ("wte",),
        "position embedding": ("wpe",),
        "attention": (".attn.",),
        "MLP": (".mlp.",),
        "layer norms": ("ln_",),
        "head": ("lm_head", "score.", "classifier.", "qa_outputs"),
    }
    for part, marks in by_name.items():
        size = sum(array.size for name, array in model.params.items() if any(mark in name for mark in marks))
        assert counts[part] == size, part
    shown = texts(diagram(model))
    assert shown[0] == f"{cls.__name__}, {model.num_parameters():,} parameters"
    assert {f"{count:,}" for count in counts.values()} - {"0"} <= {*shown}


@pytest.mark.parametrize("cls", CLASSES)
def test_numbers_in_the_right_column_add_up_to_the_model(cls: Any) -> None:
    model = tiny(cls, "gllg")
    root = ElementTree.fromstring(diagram(model).svg)
    column = [e.text for e in root.iter(f"{SVG}text") if e.get("x") == "736" and e.get("text-anchor") == "end"]
    numbers = [int(text.replace(",", "")) for text in column if text and re.fullmatch(r"[\d,]+", text)]
    assert sum(numbers) == model.num_parameters()


def test_layers_are_drawn_in_order_with_their_windows() -> None:
    shown = texts(diagram(tiny(GPTNeoForCausalLM, "gllg", window_size=3)))
    kinds = [text for text in shown if text == "global" or text.startswith("local")]
    assert kinds == ["global", "local, window 3", "local, window 3", "global"]


def test_how_much_of_the_context_a_window_shows_is_drawn() -> None:
    """The band of the mask is as high as the window, against a side that is the context."""
    config = tiny_config("l", max_position_embeddings=24, window_size=6)
    band = re.search(r'd="M(\d+) (\d+)L(\d+) (\d+)H[\d.]+L\1 ([\d.]+)Z"', diagram(config).svg)
    assert band is not None
    _, top, _, bottom, edge = (float(number) for number in band.groups())
    assert (edge - top) / (bottom - top) == 6 / 24


@pytest.mark.parametrize("layers", [1, 2, 6, 12, 24, 32, 33, 48, 1000])
def test_every_layer_counts_whether_it_is_drawn_or_not(layers: int) -> None:
    config = config_of(layers, hidden_size=16, num_heads=2, vocab_size=40)
    shown = texts(diagram(config))
    rows = [text for text in shown if text == "global" or text.startswith("local")]
    left_out = [
        sum(int(count) for count in re.findall(r"(\d+) (?:global|local)", text)) for text in shown if "⋮" in text
    ]
    assert len(rows) + sum(left_out) == layers
    assert len(rows) <= 32
    root = ElementTree.fromstring(diagram(config).svg)
    column = [e.text for e in root.iter(f"{SVG}text") if e.get("x") == "736" and e.get("text-anchor") == "end"]
    numbers = [int(text.replace(",", "")) for text in column if text and re.fullmatch(r"[\d,]+", text)]
    assert sum(numbers) == sum(parameters_per_part(GPTNeoForCausalLM, config).values())
    lowest = max(float(e.get("y", 0)) for e in root.iter(f"{SVG}text"))
    assert lowest < float(root.get("height", 0)) < lowest + 60


@settings(deadline=None, max_examples=25)
@given(heads=st.integers(1, 200), layers=st.integers(1, 40), window=st.integers(1, 5000))
def test_any_configuration_is_well_formed_and_stays_within_its_page(heads: int, layers: int, window: int) -> None:
    picture = diagram(config_of(layers, num_heads=heads, hidden_size=2 * heads, window_size=window))
    root = ElementTree.fromstring(picture.svg)
    width, height = (float(root.get(side, 0)) for side in ("width", "height"))
    for element in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(element.get(name, -1)) for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height


def test_it_is_a_picture_and_nothing_else() -> None:
    root = ElementTree.fromstring(diagram(tiny(GPTNeoForCausalLM)).svg)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= HARMLESS
    for element in root.iter():
        assert not any("href" in name or name.startswith("on") for name in element.attrib)
        assert not any("url(" in value for value in element.attrib.values())
    assert root[0].tag == f"{SVG}title"
    assert root[1].tag == f"{SVG}desc"


def test_names_are_escaped() -> None:
    hostile = type("<script>&", (GPTNeoForCausalLM,), {})
    model = tiny(GPTNeoForCausalLM)
    root = ElementTree.fromstring(diagram(hostile(model.config, model.params)).svg)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= HARMLESS
    assert (root[0].text or "").startswith("<script>&, ")


def test_a_configuration_is_drawn_as_its_language_model() -> None:
    model = tiny(GPTNeoForCausalLM)
    assert diagram(model.config).svg == diagram(model).svg == minineo.diagram(model).svg


def test_a_tied_head_is_called_tied() -> None:
    assert any("tied" in text for text in texts(diagram(tiny(GPTNeoForCausalLM))))
    assert not any("tied" in text for text in texts(diagram(tiny(GPTNeoForCausalLM, tie_word_embeddings=False))))


def test_it_is_saved_and_shown(tmp_path: Path) -> None:
    picture = diagram(tiny(GPTNeoForCausalLM))
    picture.save(tmp_path / "model.svg")
    assert (tmp_path / "model.svg").read_text(encoding="utf-8") == picture.svg == picture._repr_svg_()
    assert "<svg" not in repr(picture)
    with pytest.raises(ValueError, match=r"ends in \.svg"):
        picture.save(tmp_path / "model.png")


@pytest.mark.parametrize("wrong", ["gpt-neo", None, (1, 2), np.zeros(3)])
def test_what_is_no_model_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="expected a model or a GPTNeoConfig"):
        diagram(wrong)
