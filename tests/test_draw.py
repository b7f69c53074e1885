"""Pictures: what is drawn is what was given, labels are literal and legible, files are written and reproducible."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from io import BytesIO
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import require
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_pages import ROOT, fences
from tiny_models import tiny, tokens

import minineo
from minineo import GPT2Tokenizer, GPTNeoForCausalLM, GPTNeoModel, load
from minineo.layers.attention import visible
from minineo.tap import Recorder

require("matplotlib")
Figure = import_module("matplotlib.figure").Figure
to_rgba = import_module("matplotlib.colors").to_rgba
draw = import_module("minineo.interpret.draw")
labels, patterns, style, text_module = (
    import_module(f"minineo.interpret.draw.{name}") for name in ("labels", "patterns", "style", "text")
)
coarse, window_edge = patterns.coarse, patterns.window_edge
GAP, lay_out = text_module.GAP, text_module.lay_out

HOSTILE = [
    *("$x^2$", "$", "\\frac", "%", "_^{", "<script>", "&amp;", "]]>", "--", "\x00", "\x07", "\x7f", "\x85", "\r\n"),
    *("😀", "中文", "한국어", "עברית", "ﷺ", "\u202e", "\u200d", "\ufeff", "\ud800", "\U0010ffff", "\u0301", " " * 50),
    *("", "\n", "\t", "\u00a0", b"\xe2\x80", b"\xff\xfe", b"\xc3(", b"", " the", "x" * 500),
]


def a_pattern(T: int, S: int, window: int | None = None, seed: int = 0) -> np.ndarray:
    """Rows of numbers that sum to 1 over what the mask shows."""
    numbers = np.random.default_rng(seed).random((T, S)) * visible(T, S, window, like=np.zeros(1))
    return (numbers / numbers.sum(-1, keepdims=True)).astype(np.float32)


def ticks(axis: Any) -> dict[float, str]:
    return dict(zip(axis.get_ticklocs(), [label.get_text() for label in axis.get_ticklabels()], strict=True))


def written(figure: Any, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()


def overlap(axis: Any) -> bool:
    """Whether the labels of an axis run into each other."""
    axis.get_figure().draw_without_rendering()
    across = axis.axis_name == "x"
    boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
    spans = sorted((box.x0, box.x1) if across else (box.y0, box.y1) for box in boxes)
    return any(right > left for (_, right), (left, _) in pairwise(spans))


# Patterns -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("T", "S", "window"), [(5, 5, None), (5, 5, 2), (2, 7, 3), (1, 1, None), (40, 40, 7)])
def test_the_image_of_a_pattern_is_the_pattern(T: int, S: int, window: int | None) -> None:
    pattern = a_pattern(T, S, window)
    image = draw.attention_pattern(pattern, window=window).images[0]
    drawn = image.get_array()
    np.testing.assert_array_equal(np.ma.getdata(drawn), pattern)
    np.testing.assert_array_equal(np.ma.getmaskarray(drawn), ~visible(T, S, window, like=pattern))
    assert tuple(image.get_extent()) == (-0.5, S - 0.5, T - 0.5, -0.5)
    np.testing.assert_allclose(image.norm(pattern.max() / 4), 0.5, rtol=1e-5)  # the root: little is seen beside much


@settings(deadline=None)
@given(T=st.integers(1, 12), past=st.integers(0, 6), window=st.integers(1, 14))
def test_the_edge_parts_what_a_window_hides_from_what_it_shows(T: int, past: int, window: int) -> None:
    S = past + T
    x, y = window_edge(T, S, window)
    first = {int(row): int(left) for row, left in zip(y[::2], x[::2], strict=True)}
    np.testing.assert_array_equal(x[::2], x[1::2])
    np.testing.assert_array_equal(y[1::2] - y[::2], 1.0)
    shown = visible(T, S, window, like=np.zeros(1))
    for row in range(T):
        assert np.argmax(shown[row]) == first.get(row, 0)


def test_the_edge_is_drawn_where_it_belongs() -> None:
    """Window 3 of 5 positions: row 3 first sees key 1, row 4 key 2; cells reach half a unit around their number."""
    ax = draw.attention_pattern(a_pattern(5, 5, 3), window=3)
    (line,) = ax.lines
    assert line.get_xydata().tolist() == [[0.5, 2.5], [0.5, 3.5], [1.5, 3.5], [1.5, 4.5]]
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["ahead of the query", "before the window", "edge of the window of 3"]


def test_a_layer_that_hides_nothing_has_no_edge() -> None:
    for window in (None, 5, 9):
        ax = draw.attention_pattern(a_pattern(5, 5), window=window)
        assert len(ax.lines) == len(ax.patches) == 0
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["ahead of the query"]


def test_tokens_stand_at_keys_and_queries() -> None:
    ax = draw.attention_pattern(a_pattern(2, 4), [" the", "\n", b"\xe2\x80", "$x$"])
    assert ticks(ax.xaxis) == {0: "·the", 1: "⏎", 2: "\\xe2\\x80", 3: "$x$"}
    assert ticks(ax.yaxis) == {0: "\\xe2\\x80", 1: "$x$"}  # queries are the last positions


def test_values_are_written_into_small_patterns_only() -> None:
    pattern = a_pattern(3, 3)
    texts = {text.get_position(): text.get_text() for text in draw.attention_pattern(pattern).texts}
    assert {place: text for place, text in texts.items() if text} == {
        (j, i): f"{pattern[i, j]:.2f}" for i in range(3) for j in range(i + 1)
    }
    assert not draw.attention_pattern(a_pattern(30, 30)).texts


@pytest.mark.parametrize("count", [12, 200])
def test_labels_are_legible_however_many_there_are(count: int) -> None:
    names = [f" token{i % 7}" for i in range(count)]
    ax = draw.attention_pattern(a_pattern(count, count), names)
    for axis in (ax.xaxis, ax.yaxis):
        shown = ticks(axis)
        assert shown[0].startswith("·token0")
        assert all(int(text.split()[-1]) == place for place, text in shown.items() if " " in text)
        assert min(label.get_fontsize() for label in axis.get_ticklabels()) >= 6
        assert len(shown) > min(count, 25) - 1
        assert not overlap(axis)


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("what", ["pattern", "grid", "heat map", "bars"])
def test_nothing_is_clipped(what: str, count: int) -> None:
    names = [" somewhat longer token"] * count
    rows = 1 if count == 1 else 7
    numbers = np.random.default_rng(0).standard_normal((rows, count))
    long = "A title that says what there is to be seen"
    unit = "what is measured, and in which unit"
    ax = {
        "pattern": lambda: draw.attention_pattern(a_pattern(count, count, 2), names, 2, title="Title"),
        "grid": lambda: draw.attention_grid([np.broadcast_to(a_pattern(count, count), (1, 4, count, count))] * 2),
        "heat map": lambda: draw.heat_map(numbers, tokens=names, xlabel="x", ylabel="y", label=unit, title=long),
        "bars": lambda: draw.bars(numbers[0], names, xlabel="x", title="Title"),
    }[what]()
    ax.figure.draw_without_rendering()
    box, page = ax.get_tightbbox(), ax.figure.bbox
    assert box.x0 >= page.x0
    assert box.y0 >= page.y0
    assert box.x1 <= page.x1
    assert box.y1 <= page.y1


def test_a_pattern_that_looks_where_it_cannot_is_refused() -> None:
    with pytest.raises(ValueError, match="query 3 attends to key 0, which is hidden in a local layer of window 3"):
        draw.attention_pattern(a_pattern(4, 4), window=3)
    with pytest.raises(ValueError, match="query 0 attends to key 1, which is hidden in a global layer"):
        draw.attention_pattern(np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match="no more queries"):
        draw.attention_pattern(np.ones((3, 2)))
    with pytest.raises(ValueError, match="expected a matrix"):
        draw.attention_pattern(a_pattern(4, 4)[None])
    with pytest.raises(ValueError, match="tokens: received 3, expected 4"):
        draw.attention_pattern(a_pattern(4, 4), ["a"] * 3)
    with pytest.raises(TypeError, match="a list with one str or bytes"):
        draw.attention_pattern(a_pattern(4, 4), "text")


# Grids ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded() -> tuple[Any, Recorder]:
    model, trace = tiny(GPTNeoForCausalLM, "glg"), Recorder()
    model(tokens(2, 9), tap=trace)
    return model, trace


@pytest.mark.parametrize("batch", [0, 1])
def test_a_grid_holds_every_head_of_every_layer(recorded: Any, batch: int) -> None:
    model, trace = recorded
    ax = draw.attention_grid(trace, model.config, batch=batch)
    images = {(image.get_extent()[3], image.get_extent()[0]): image for image in ax.images}
    assert len(images) == model.config.num_layers * model.config.num_heads
    for (layer, head), image in images.items():
        np.testing.assert_array_equal(np.ma.getdata(image.get_array()), trace[f"h.{layer}.attn.pattern"][batch, head])
        assert (image.norm.vmin, image.norm.vmax) == (0.0, 1.0)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["0 global", "1 local\nwindow 3", "2 global"]
    assert [label.get_text() for label in ax.get_xticklabels()] == [str(head) for head in range(model.config.num_heads)]


def test_a_grid_has_the_edge_on_local_layers(recorded: Any) -> None:
    model, trace = recorded
    ax = draw.attention_grid(trace, model.config)
    assert len(ax.lines) == model.config.num_heads  # one local layer
    for head, line in enumerate(ax.lines):
        x, y = line.get_data()
        left, right, bottom, top = ax.images[model.config.num_heads + head].get_extent()
        edge = window_edge(9, 9, 3)
        np.testing.assert_allclose((x - left) / (right - left) * 9, edge[0])
        np.testing.assert_allclose((y - top) / (bottom - top) * 9, edge[1])


def test_a_grid_of_some_layers_says_which(recorded: Any) -> None:
    model, trace = recorded
    ax = draw.attention_grid({"h.1.attn.pattern": trace["h.1.attn.pattern"], "logits": np.zeros(3)}, model.config)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1 local\nwindow 3"]
    assert [label.get_text() for label in draw.attention_grid([trace["h.0.attn.pattern"]]).get_yticklabels()] == ["0"]


def test_a_grid_of_nothing_is_refused(recorded: Any) -> None:
    with pytest.raises(ValueError, match="there is none"):
        draw.attention_grid({"logits": np.zeros(3)})
    with pytest.raises(ValueError, match="expected \\(batch, heads, T, S\\)"):
        draw.attention_grid([a_pattern(3, 3)])
    with pytest.raises(ValueError, match="text 2 in the batch"):
        draw.attention_grid(recorded[1], batch=2)


def test_a_thumbnail_loses_no_peak() -> None:
    pattern = np.zeros((1000, 1000))
    pattern[700, 123] = 1.0
    small = coarse(pattern, 256)
    assert small.shape == (256, 256)
    assert np.argwhere(small == 1.0).tolist() == [[700 * 256 // 1000, 123 * 256 // 1000]]
    np.testing.assert_array_equal(coarse(pattern[:9, :8], 256), pattern[:9, :8])


# In one line ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled() -> tuple[GPTNeoForCausalLM, GPT2Tokenizer]:
    return load()


def test_attention_in_one_line(bundled: Any) -> None:
    model, tokenizer = bundled
    text = "Once upon a time, there was a king — a café."
    ids = np.array([tokenizer.encode(text)])
    output = model(ids, output_attentions=True)
    assert len(draw.attention(model, tokenizer, text).images) == 36
    assert len(draw.attention(model, tokenizer, text, layer=1).images) == 6
    ax = draw.attention(model, tokenizer, text, layer=3, head=2)
    np.testing.assert_array_equal(np.ma.getdata(ax.images[0].get_array()), output.attentions[3][0, 2])
    assert ax.get_title("left") == "Layer 3 (local, window 64), head 2"
    texts = [label.get_text() for label in ax.get_xticklabels()]
    assert "".join(texts).startswith("Once·upon·a·time")
    of_ids = draw.attention(model, tokenizer, ids, layer=3, head=2)
    assert [label.get_text() for label in of_ids.get_xticklabels()] == texts
    bare = draw.attention(model, None, ids[0].tolist(), layer=3, head=2)
    np.testing.assert_array_equal(np.ma.getdata(bare.images[0].get_array()), output.attentions[3][0, 2])
    assert bare.get_xticklabels()[1].get_text() == "1"


def test_attention_says_what_it_cannot_draw(bundled: Any) -> None:
    model, tokenizer = bundled
    with pytest.raises(ValueError, match="layer: received 6"):
        draw.attention(model, tokenizer, "text", layer=6)
    with pytest.raises(ValueError, match="head: received 6"):
        draw.attention(model, tokenizer, "text", layer=0, head=6)
    with pytest.raises(ValueError, match="Say which layer"):
        draw.attention(model, tokenizer, "text", head=1)
    with pytest.raises(ValueError, match="text"):
        draw.attention(model, tokenizer, "")
    with pytest.raises(ValueError, match="512"):
        draw.attention(model, tokenizer, "word " * 600)


def test_a_model_without_a_head_has_attention_too(bundled: Any) -> None:
    model, tokenizer = bundled
    base = GPTNeoModel(model.config, {name.removeprefix("transformer."): a for name, a in model.params.items()})
    assert len(draw.attention(base, tokenizer, "A king").images) == 36


# Text, heat map, bars -------------------------------------------------------------------------------------------------


def test_text_wraps_and_keeps_its_order() -> None:
    names = [style.token_labels([" word"])[0]] * 30 + ["end⏎", "new"]
    places = lay_out(names, 10.0, 200.0)
    assert places == sorted(places)
    assert all(x + labels.text_width(name, 10.0) <= 200.0 for name, (_, x) in zip(names, places, strict=True))
    assert places[-1] == (places[-2][0] + 1, 0.0)
    for (line, x), (next_line, next_x), name in zip(places[:-1], places[1:], names, strict=False):
        assert next_line > line or next_x == pytest.approx(x + labels.text_width(name, 10.0) + GAP)


def test_text_is_coloured_by_its_values() -> None:
    values = [np.nan, 0.0, 2.0, 4.0]
    ax = draw.coloured_text(["A", " king", "\n", " "], values, label="bits", nothing="not predicted", title="$x$")
    boxes = ax.patches[:4]
    assert boxes[0].get_facecolor() == to_rgba(style.HIDDEN)
    for box, value in zip(boxes[1:], values[1:], strict=True):
        assert box.get_facecolor() == pytest.approx(style.ON_PAPER(value / 4.0))
    assert [text.get_text() for text in ax.texts] == ["A", " king", "⏎", "·", "not predicted"]
    assert ax.child_axes[0].get_xlabel() == "bits"
    for box, text in zip(boxes, ax.texts, strict=False):
        assert contrast(box.get_facecolor(), text.get_color()) >= 4.5


@pytest.mark.parametrize("high", [1.5, 4.0])
def test_text_fits_into_axes_of_ones_own(high: float) -> None:
    figure = Figure(figsize=(5, high), layout="constrained")
    ax = figure.add_subplot()
    assert draw.coloured_text([" word"] * 60, np.arange(60.0), ax=ax) is ax
    assert len(figure.axes) == 1
    if high > 3:
        assert all(box.get_y() + box.get_height() < ax.get_ylim()[0] for box in ax.patches)


def test_a_heat_map_draws_its_values_and_names() -> None:
    values = np.array([[-1.0, 2.0, np.nan], [0.5, 0.0, -4.0]])
    ax = draw.heat_map(values, ["a b", "$c$"], tokens=[" x", "y", "z"], diverging=True, label="logit")
    np.testing.assert_array_equal(np.ma.getdata(ax.images[0].get_array()), values)
    assert ax.images[0].get_clim() == (-4.0, 4.0)
    assert ticks(ax.yaxis) == {0: "a b", 1: "$c$"}
    assert ticks(ax.xaxis) == {0: "·x", 1: "y", 2: "z"}
    assert [text.get_text() for text in ax.texts] == ["−1.00", "2.00", "", "0.50", "0.00", "−4.00"]
    ax = draw.heat_map(values, cells=[[" the", "b", "c"], ["d", "\n", "f"]])
    assert [text.get_text() for text in ax.texts] == ["·the", "b", "c", "d", "⏎", "f"]
    with pytest.raises(ValueError, match="rows: received 1"):
        draw.heat_map(values, ["one"])
    with pytest.raises(ValueError, match="cells"):
        draw.heat_map(values, cells=[["a"]])


def test_bars_are_as_long_as_their_values() -> None:
    ax = draw.bars([1.5, -0.25, 0.0], ["a", "$b$", "c"], xlabel="logit")
    assert [bar.get_width() for bar in ax.patches] == [1.5, -0.25, 0.0]
    assert ticks(ax.yaxis) == {0: "a", 1: "$b$", 2: "c"}
    assert [text.get_text() for text in ax.texts] == ["1.50", "−0.25", "0.00"]
    assert ax.yaxis_inverted()
    with pytest.raises(ValueError, match="one for each label"):
        draw.bars([1.0], [])


# Labels ---------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(token=st.text(max_size=20) | st.binary(max_size=20))
@example(token="\ud800")
def test_a_label_is_one_line_that_can_be_drawn(token: str | bytes) -> None:
    label = labels.token_label(token)
    assert len(label) <= labels.LONGEST * 10 + 1
    assert label.isprintable()
    assert " " not in label
    assert all(ord(character) in labels.glyphs() for character in label)
    assert bool(label) == bool(token)


def test_tokens_of_a_tokenizer_are_its_bytes(bundled: Any) -> None:
    _, tokenizer = bundled
    text = "café ☃\n"
    assert b"".join(draw.token_bytes(tokenizer, tokenizer.encode(text))) == text.encode()
    assert draw.token_bytes(tokenizer, np.array([tokenizer.eos_token_id])) == [b"<|endoftext|>"]


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_no_token_breaks_a_file(kind: str) -> None:
    """Warnings are errors here: a missing glyph would be one."""
    n = len(HOSTILE)
    for ax in (
        draw.coloured_text(HOSTILE, np.arange(float(n)), label="bits"),
        draw.heat_map(np.ones((1, n)), tokens=HOSTILE, cells=[HOSTILE], title=HOSTILE[0]),
    ):
        data = written(ax.figure, kind)
        assert data.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind])


def test_an_svg_holds_no_script_and_asks_for_nothing() -> None:
    ax = draw.attention_pattern(a_pattern(4, 4, 2), ["<script>", "</text>", "-->", "&lt;"], 2)
    data = written(ax.figure, "svg")
    for element in ElementTree.fromstring(data).iter():
        assert not element.tag.endswith("script")
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            if name.endswith("href"):
                assert value.startswith(("#", "data:image/png;base64,"))


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_picture_is_written_the_same_each_time(kind: str) -> None:
    first, second = (written(draw.attention_pattern(a_pattern(4, 4, 2), window=2).figure, kind) for _ in range(2))
    assert first == second


def test_a_file_is_named_as_matplotlib_expects(tmp_path: Any) -> None:
    figure = draw.bars([1.0], ["a"]).figure
    for name in ("a.png", "a.svg"):
        figure.savefig(tmp_path / name)
        figure.savefig(str(tmp_path / name), dpi=50, metadata={"Title": "bars"})
        assert (tmp_path / name).stat().st_size > 500


# Style ----------------------------------------------------------------------------------------------------------------


def contrast(one: Any, other: Any) -> float:
    low, high = sorted((style.luminance(one), style.luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [style.SEQUENTIAL, style.DIVERGING, style.ON_PAPER])
def test_words_can_be_read_on_every_colour(colours: Any) -> None:
    for colour in colours(np.linspace(0, 1, 101)):
        assert contrast(colour, style.readable_on(colour)) >= 4.5


def test_the_diverging_map_is_even_in_lightness() -> None:
    """CIE lightness rises to the middle and falls after it, in steps that are alike, and on both sides the same."""
    y = np.array([style.luminance(colour) for colour in style.DIVERGING(np.linspace(0, 1, 41))])
    lightness = 116 * np.where(y > 0.008856, np.cbrt(y), 7.787 * y + 16 / 116) - 16
    steps = np.diff(lightness)
    assert (steps[:20] > 0).all()
    assert (steps[20:] < 0).all()
    assert np.abs(steps).max() < 1.6 * np.abs(steps).min()
    np.testing.assert_allclose(lightness, lightness[::-1], atol=6)


def test_the_middle_of_the_diverging_map_is_zero() -> None:
    assert style.limits(np.array([-3.0, 1.0, np.nan, np.inf]), diverging=True) == (-3.0, 3.0)
    assert style.limits(np.array([0.25, 0.5]), diverging=False) == (0.0, 0.5)
    assert style.limits(np.array([-10.0, -2.0]), diverging=False) == (-10.0, 0.0)  # logarithms of shares
    assert style.limits(np.zeros(2), diverging=False) == (0.0, 1.0)
    assert style.limits(np.array([np.nan]), diverging=True) == (-1.0, 1.0)
    assert min(style.DIVERGING(0.5)[:3]) > 0.94


def test_steps_between_labels_are_round() -> None:
    for least in range(1, 130):
        step = style.every(least)
        assert least <= step < 2.5 * least + 1
        assert str(step).rstrip("0") in ("1", "2", "5")


@pytest.mark.parametrize(
    "call",
    [
        lambda ax: draw.attention_pattern(a_pattern(4, 4), ax=ax),
        lambda ax: draw.attention_grid([a_pattern(4, 4)[None, None]], ax=ax),
        lambda ax: draw.heat_map(np.eye(3), ax=ax),
        lambda ax: draw.bars([1.0, 2.0], ["a", "b"], ax=ax),
        lambda ax: draw.coloured_text(["a", "b"], [1.0, 2.0], ax=ax),
    ],
)
def test_axes_of_ones_own_are_drawn_on(call: Any) -> None:
    figure = Figure(figsize=(6, 4))
    ax = figure.subfigures(1, 2)[1].add_subplot()
    assert call(ax) is ax
    assert figure.axes == [ax]
    assert written(figure, "png").startswith(b"\x89PNG")
    with pytest.raises(TypeError, match="expected matplotlib Axes"):
        call(figure)


def test_a_notebook_shows_what_is_returned() -> None:
    formatters = require("IPython.core.formatters")
    ax = draw.bars([1.0], ["a"])
    for shown in (ax, ax.figure):
        data, metadata = formatters.DisplayFormatter().format(shown)
        assert data["image/png"].startswith(b"\x89PNG")
        assert metadata["image/png"]["width"] == round(100 * ax.figure.get_figwidth())


def test_drawing_needs_no_pyplot_and_chooses_no_backend() -> None:
    code = (
        "import sys, numpy as np, minineo, minineo.interpret\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from minineo.interpret import draw\n"
        "import io\n"
        "draw.heat_map(np.eye(3)).figure.savefig(io.BytesIO())\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_an_error_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules['matplotlib'] = None\n"
        "try:\n"
        "    from minineo.interpret import draw\n"
        "except ImportError as error:\n"
        "    assert 'pip install \"minineo[plot]\"' in str(error), error\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_pictures_of_the_page_can_be_drawn(bundled: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks are marked py and not python, since that page is also run where there is no matplotlib."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    page = (ROOT / "docs" / "looking-inside.md").read_text(encoding="utf-8")
    model, tokenizer = bundled
    input_ids = np.array([tokenizer.encode("The king went to the forest")])
    trace = Recorder()
    model(input_ids, tap=trace)
    names = {"model": model, "tokenizer": tokenizer, "input_ids": input_ids, "trace": trace, "np": np}
    names["minineo"] = minineo
    blocks = [block.content for block in fences(page[page.index("## Pictures") :]) if block.language == "py"]
    assert len(blocks) >= 5
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "head.png").read_bytes().startswith(b"\x89PNG")
