"""The attention view: what the page holds is what the model computed, and nothing in a text can act in it.

The decoder here was written from the description in `minineo.interpret.attention_view.encoding`, not from its code.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ALL_CLASSES, tiny, tokens

import minineo
from minineo.classes import GPTNeoForCausalLM
from minineo.cli import main
from minineo.interpret.attention_view import encoding
from minineo.interpret.attention_view.tokens import label, pieces, visible_tokens
from minineo.tap import Recorder

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "]]>{{script}}{{data}}{{meta}}&lt;&#60;\"'`${alert(1)}",
    "a\u2028b\u2029c",
    "lone \ud83d surrogate \udc00",
    "right \u202eto left\u202c \u2066iso\u2069",
    "e\u0301\u0301 \u0301",
    "👩‍👩‍👧 🙂",
    "tab\tline\nend\r\n\x00\x07\x1b",
    "zero\u200bwidth\u200d\ufeff\u00ad",
    "مرحبا עברית",
    "javascript:alert(1)",
]


class Page(HTMLParser):
    """The elements of a document: data elements by id, and what else there is."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.data: dict[str, str] = {}
        self.script = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag == "script" and attributes.get("id"):
            self.data[str(attributes["id"])] = self.data.get(str(attributes["id"]), "") + data
        elif tag == "script":
            self.script += data

    @property
    def meta(self) -> dict[str, Any]:
        return json.loads(self.data["meta"])

    def bytes_of(self, name: str) -> bytes:
        return zlib.decompress(base64.b64decode(self.data[name]))


def decoded(page: Page, layer: int, head: int) -> tuple[np.ndarray, np.ndarray]:
    """A head's pattern (T, T), NaN where nothing is stored, and the sums of what was not kept (T,)."""
    meta, data = page.meta, page.bytes_of(f"h.{layer}.{head}")
    T, window = len(meta["tokens"]), meta["windows"][layer]
    pattern, rest = np.full((T, T), np.nan), np.zeros(T)
    first = [0 if window is None else max(0, i - window + 1) for i in range(T)]
    if meta["keep"][layer] is None:
        at = 0
        for i in range(T):
            n = i + 1 - first[i]
            pattern[i, first[i] : i + 1] = np.frombuffer(data[at : at + n], np.uint8)
            at += n
        assert at == len(data)
        return (pattern / 255) ** 2, rest
    counts, rest = data[:T], (np.frombuffer(data[T : 2 * T], np.uint8) / 255) ** 2
    at, cells = 2 * T, []
    for i in range(T):
        key = first[i]
        for _ in range(counts[i]):
            distance, at = data[at], at + 1
            if distance == 255:
                distance, at = int.from_bytes(data[at : at + 2], "little"), at + 2
            key += distance
            cells.append((i, key))
    assert len(data) - at == len(cells)
    for (i, j), code in zip(cells, data[at:], strict=True):
        pattern[i, j] = (code / 255) ** 2
    return pattern, rest


def recorded(model: Any, ids: list[int]) -> list[np.ndarray]:
    trace = Recorder([f"h.{i}.attn.pattern" for i in range(model.config.num_layers)])
    model(np.array([ids]), tap=trace)
    return [pattern[0].astype(np.float64) for pattern in trace.values()]


def allowed(weights: np.ndarray) -> np.ndarray:
    """The error that the documentation grants, and float32's."""
    return np.sqrt(weights) / 255 + 4e-6 + 1e-6


def sharp(layers: str = "glg", **fields: Any) -> GPTNeoForCausalLM:
    """A model with patterns that are not flat."""
    model = tiny(GPTNeoForCausalLM, layers, **fields)
    for name in model.params:
        if "q_proj" in name or "k_proj" in name:
            model.params[name] = 3.0 * model.params[name]
    return model


# What the page holds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", [1, 2, 7, 24])
def test_all_weights_are_there_within_the_stated_error(T: int) -> None:
    model = sharp()
    ids = tokens(1, T)[0].tolist()
    page = Page(minineo.attention_view(model, None, ids).html)
    for layer, patterns in enumerate(recorded(model, ids)):
        for head, expected in enumerate(patterns):
            found, _ = decoded(page, layer, head)
            hidden = np.isnan(found)
            np.testing.assert_array_equal(expected[hidden], 0.0)
            assert hidden.sum() == T * T - encoding.visible_entries(T, model.config.window(layer))
            assert (np.abs(found - expected)[~hidden] <= allowed(expected[~hidden])).all()


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_largest_weights_of_each_row_are_there_and_the_sum_of_the_others(keep: int) -> None:
    model = sharp("gl", window_size=9)
    ids = tokens(1, 24)[0].tolist()
    page = Page(minineo.attention_view(model, None, ids, keep=keep).html)
    assert page.meta["keep"] == [keep, keep]
    for layer, patterns in enumerate(recorded(model, ids)):
        for head, expected in enumerate(patterns):
            found, rest = decoded(page, layer, head)
            for row, (weights, expected_row) in enumerate(zip(found, expected, strict=True)):
                kept = ~np.isnan(weights)
                assert kept.sum() <= keep
                assert (np.abs(weights - expected_row)[kept] <= allowed(expected_row[kept])).all()
                dropped = expected_row[~kept]
                if kept.sum() == keep:
                    assert dropped.max() <= expected_row[kept].min()
                else:
                    assert dropped.max() < (0.5 / 255) ** 2 * 1.001  # its code is 0
                assert abs(rest[row] - dropped.sum()) <= allowed(dropped.sum()), row


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 700), st.none() | st.integers(1, 700), st.integers(1, 255), st.integers(0, 2**32 - 1))
def test_any_distance_between_keys_is_encoded(T: int, window: int | None, keep: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    distance = np.arange(T)[:, None] - np.arange(T)[None, :]
    seen = (distance >= 0) & (distance < (window or T))
    few = rng.random((T, T)) < min(1.0, 4 / T)  # far apart
    pattern = np.where(seen & few, rng.random((T, T)), 0.0).astype(np.float32)
    blob = encoding.compress(encoding.encode_sparse(pattern, window, keep))
    page = Page("")
    page.data = {
        "meta": json.dumps({"tokens": [0] * T, "windows": [window], "keep": [keep]}),
        "h.0.0": blob,
    }
    found, _ = decoded(page, 0, 0)
    kept = ~np.isnan(found)
    assert (kept.sum(axis=1) == np.minimum(keep, (pattern >= (0.5 / 255) ** 2).sum(axis=1))).all()
    assert (np.abs(found - pattern)[kept] <= allowed(pattern[kept])).all()


@given(st.lists(st.floats(0, 1, width=32), min_size=1))
def test_quantisation_is_as_exact_as_stated(weights: list[float]) -> None:
    array = np.array(weights)
    read = (encoding.quantise(array) / 255.0) ** 2
    assert (np.abs(read - array) <= np.sqrt(array) / 255 + 4e-6).all()


@pytest.mark.parametrize("T", [3, 64, 65, 200])
def test_thumbnails_hold_the_largest_weight_of_each_cell(T: int) -> None:
    pattern = np.random.default_rng(T).random((T, T)) * np.tri(T)
    P = min(T, 64)
    expected = np.zeros((P, P))
    cell = [max(p for p in range(P) if p * T // P <= i) for i in range(T)]
    for i in range(T):
        for j in range(T):
            expected[cell[i], cell[j]] = max(expected[cell[i], cell[j]], pattern[i, j])
    np.testing.assert_array_equal(encoding.thumbnail(pattern), np.rint(255 * np.sqrt(expected)))


def test_the_page_names_layers_windows_and_the_first_choice() -> None:
    model = sharp("gll", window_size=5)
    meta = Page(minineo.attention_view(model, None, [1, 2, 3], layer=2, head=1).html).meta
    assert (meta["windows"], meta["heads"], meta["layer"], meta["head"]) == ([None, 5, 5], 3, 2, 1)
    assert meta["tokens"] == [["", "#1"], ["", "#2"], ["", "#3"]]


def test_a_long_text_keeps_some_of_each_row_and_narrow_layers_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "DENSE_LIMIT", 100)
    monkeypatch.setattr(encoding, "KEEP", 4)
    page = Page(minineo.attention_view(sharp("gl", window_size=3), None, [1] * 24).html)
    assert page.meta["keep"] == [4, None]


def test_a_model_of_another_library_can_be_shown() -> None:
    xp = require("array_api_strict", "test")
    model = sharp()
    expected = minineo.attention_view(model, None, [1, 2, 3, 4]).html
    model.params = {name: xp.asarray(array) for name, array in model.params.items()}
    found = minineo.attention_view(model, None, [1, 2, 3, 4], layer=np.int64(0)).html
    for a, b in zip(*(decoded(Page(html), 1, 2)[0] for html in (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, atol=1 / 255)


@pytest.mark.parametrize("cls", ALL_CLASSES)
def test_every_class_of_models_can_be_shown(cls: Any) -> None:
    assert Page(minineo.attention_view(tiny(cls), None, [[1, 2, 3]]).html).meta["heads"] == 3


def test_a_short_text_takes_little() -> None:
    model, tokenizer = minineo.load()
    view = minineo.attention_view(model, tokenizer, "The king said to the queen that the king was old. " * 3)
    assert len(view.html) < 300_000
    assert len(repr(view)) < 120


# What a text cannot do -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_adds_no_element_and_comes_back_whole(text: str) -> None:
    model, tokenizer = minineo.load()
    innocent, page = (Page(minineo.attention_view(model, tokenizer, t).html) for t in ("word", text))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in innocent.elements]
    assert page.script == innocent.script
    assert "<" not in page.data["meta"]
    assert page.data["meta"].isascii()
    ids = tokenizer.encode(text)
    shown = page.meta["tokens"]
    assert shown == [list(token) for token in visible_tokens(ids, tokenizer)[0]]
    plain = "".join("".join(token[::2]) for token in shown)
    assert all(character.isprintable() for character in plain)


def test_the_document_asks_nobody() -> None:
    model, tokenizer = minineo.load()
    html = minineo.attention_view(model, tokenizer, "word").html
    page = Page(html)
    assert not re.search(
        r"(?i)https?:|//\w|url\(|@import|fetch\(|XMLHttpRequest|import\(|innerHTML|eval\(",
        html.split("<script type")[0],
    )
    assert not re.search(
        r"https?:|fetch\(|XMLHttpRequest|import\(|innerHTML|outerHTML|insertAdjacent|eval\(", page.script
    )
    assert not any({"src", "href", "srcset", "action"} & attributes.keys() for _, attributes in page.elements)
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_the_title_cannot_end_itself() -> None:
    model, tokenizer = minineo.load()
    html = minineo.attention_view(model, tokenizer, "</title><script>alert(1)</script>").html
    assert "<script>alert" not in html


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b" king", [" king"]),
        (b"\n", ["", "⏎"]),
        (b" a\tb", [" a", "⇥", "b"]),
        ("\u200b".encode(), ["", "U+200B"]),
        ("\u202ea".encode(), ["", "U+202E", "a"]),
        ("\u0301a".encode(), ["◌\u0301a"]),
        (b"\xf0\x9f", ["", "F0 9F"]),
        (b"\xed\xa0\xbd", ["", "U+D83D"]),
        (b"", [""]),
    ],
)
def test_what_cannot_be_seen_gets_a_mark(raw: bytes, expected: list[str]) -> None:
    assert pieces(raw) == expected


def test_parts_of_a_character_say_what_they_are_part_of() -> None:
    _, tokenizer = minineo.load()
    ids = tokenizer.encode("a🙂b")
    shown, characters = visible_tokens(ids, tokenizer)
    parts = [position for position, token in enumerate(shown) if len(token) == 2]
    assert "".join(shown[position][1].replace(" ", "") for position in parts) == "🙂".encode().hex().upper()
    assert characters == dict.fromkeys(parts, "🙂")
    assert label([" a", "⇥", " b"]) == "·a⇥·b"


# As a user meets it --------------------------------------------------------------------------------------------------


def test_it_is_shown_in_a_frame_that_keeps_to_itself(tmp_path: Path) -> None:
    view = minineo.attention_view(sharp(), None, [1, 2, 3])
    frame = Page(view._repr_html_()).elements
    assert [tag for tag, _ in frame] == ["iframe"]
    assert frame[0][1]["srcdoc"] == view.html
    assert frame[0][1]["sandbox"] == "allow-scripts"
    view.save(tmp_path / "view.html")
    assert (tmp_path / "view.html").read_text(encoding="utf-8") == view.html


def test_a_bar_counts_layers(capsys: pytest.CaptureFixture[str]) -> None:
    minineo.attention_view(sharp("glg"), None, [1, 2], progress=True)
    assert "3/3" in capsys.readouterr().err
    minineo.attention_view(sharp("glg"), None, [1, 2])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((None, ""), {}, TypeError, "tokenizer"),
        ((None, []), {}, ValueError, "at least one token"),
        ((None, [1] * 25), {}, ValueError, "25 positions"),
        ((None, [[1], [2]]), {}, ValueError, r"\(2, 1\)"),
        ((None, [0.5]), {}, TypeError, "float64"),
        ((None, [99]), {}, ValueError, "99"),
        ((None, [1]), {"layer": 3}, ValueError, "layer: received 3, expected an int in 0 ... 2"),
        ((None, [1]), {"head": -1}, ValueError, "head: received -1"),
        ((None, [1]), {"keep": 0}, ValueError, "keep: received 0"),
    ],
)
def test_what_cannot_be_shown_is_said(arguments: Any, options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        minineo.attention_view(sharp(), *arguments, **options)


def test_a_thing_that_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match=r"model: received a str"):
        minineo.attention_view("tales", None, [1])  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize("choice", [[], ["--layer", "1"], ["--layer", "1", "--head", "2"]])
def test_the_command_draws_pictures(suffix: str, choice: list[str], tmp_path: Path) -> None:
    require("matplotlib", "plot")
    file = tmp_path / f"king.{suffix}"
    assert main(["attention", "The king", "--out", str(file), *choice]) == 0
    assert file.read_bytes().startswith({"png": b"\x89PNG", "svg": b"<?xml"}[suffix])


def test_the_example_of_the_help_works(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["attention", "--help"])
    example = capsys.readouterr().out.split("example:\n", 1)[1]
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(example)[1:]) == 0
    assert (tmp_path / "king.html").exists()


def test_the_command_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "king.html"
    file.write_text("old", encoding="utf-8")
    assert main(["attention", "The king", "--out", str(file), "--layer", "1"]) == 0
    meta = Page(file.read_text(encoding="utf-8")).meta
    assert (meta["layer"], [label(token) for token in meta["tokens"]]) == (1, ["The", "·king"])
    assert str(file) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["The king", "--out", "king.pdf"], ".html, .png, .svg"),
        (["The king", "--out", "no/such/place/king.html"], "no/such/place"),
        (["", "--out", "king.html"], "no tokens"),
        (["king " * 600, "--out", "king.html"], "512 positions"),
        (["king", "--out", "king.html", "--layer", "6"], "layer"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["attention", *arguments]) == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
