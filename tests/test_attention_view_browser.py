"""The attention view in a real Chromium: by mouse, by keyboard, and that it asks nobody for anything.

Needs Playwright and a Chromium: pip install -e ".[browser]", and apt-get install chromium or the like.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require
from test_attention_view import HOSTILE, sharp

import minineo
from minineo.classes import GPTNeoForCausalLM
from minineo.interpret.attention_view import AttentionView
from minineo.tap import Recorder

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TEXT = "The king said to the queen that the king was old.\nThe queen said to the king that she was wise."


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    api = require("playwright.sync_api", "browser")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium on the PATH: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page in the browser, and all that it complained about or asked for."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, view: AttentionView, file: Path) -> Any:
        view.save(file)
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-ready=yes]")
        assert self.requests == [file.as_uri()]
        return self.page

    def close(self) -> None:
        loaded = self.page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
        self.page.close()
        assert loaded == []
        assert self.complaints == []
        assert len(self.requests) == 1


@pytest.fixture
def visit(chromium: Any) -> Iterator[Visit]:
    made = Visit(chromium, viewport={"width": 1440, "height": 900})
    yield made
    made.close()


@pytest.fixture(scope="module")
def bundled() -> tuple[AttentionView, list[np.ndarray], list[int]]:
    """A view of the bundled model, what its heads really do, and the tokens."""
    model, tokenizer = minineo.load()
    ids = tokenizer.encode(TEXT)
    trace = Recorder([f"h.{i}.attn.pattern" for i in range(6)])
    model(np.array([ids]), tap=trace)
    return minineo.attention_view(model, tokenizer, TEXT), [p[0] for p in trace.values()], ids


def listed(page: Any, name: str) -> list[tuple[int, str]]:
    """Positions and weights of one of the two lists, as shown."""
    rows = page.locator(f"#{name} button:visible").all()
    return [(int(row.locator(".place").inner_text()), row.locator(".value").inner_text()) for row in rows]


def check_lists(page: Any, pattern: np.ndarray, token: int) -> None:
    """Hold what is shown for a token against its row and its column."""
    after = pattern[token + 1 :, token]
    for name, weights, first in (("keys", pattern[token], 0), ("queries", after, token + 1)):
        shown = listed(page, name)
        assert len(shown) == min(9, int((np.rint(255 * np.sqrt(weights)) > 0).sum()))
        for place, value in shown:
            weight = 100 * float(weights[place - first])
            digits = 0.05 if "." in value else 0.5
            number = float(value.removesuffix(" %").removeprefix("<"))
            assert weight < 0.15 if value.startswith("<") else abs(number - weight) < digits + np.sqrt(weight) / 25.5
        if shown:
            largest = float(np.sort(weights)[::-1][: len(shown)].min())
            assert all(float(weights[place - first]) > 0.95 * largest - 1e-4 for place, _ in shown)


def test_hovering_shows_what_a_token_attends_to_and_what_attends_to_it(
    visit: Visit, bundled: Any, tmp_path: Path
) -> None:
    view, patterns, ids = bundled
    page = visit.open(view, tmp_path / "view.html")
    assert page.locator(".token").count() == len(ids)
    assert "Layer 0, head 0" in page.locator("#head-title").inner_text()
    for token in (3, 10, 0):
        page.locator(".token").nth(token).hover()
        check_lists(page, patterns[0][0], token)
        assert page.locator(".token.current").get_attribute("data-position") == str(token)
    page.locator("#summary").hover()
    assert page.locator(".token.current").get_attribute("data-position") == str(len(ids) - 1)  # the pinned one


def test_a_click_chooses_a_head_and_pins_a_token(visit: Visit, bundled: Any, tmp_path: Path) -> None:
    view, patterns, _ = bundled
    page = visit.open(view, tmp_path / "view.html")
    page.get_by_role("gridcell", name="Layer 3, head 2, local 64").click()
    assert "Layer 3, head 2 local 64" in page.locator("#head-title").inner_text().replace("\u00a0", " ")
    page.locator(".token").nth(5).click()
    page.locator("#summary").hover()
    check_lists(page, patterns[3][2], 5)
    assert page.locator(".token[aria-selected=true]").get_attribute("data-position") == "5"
    page.locator("#follow-heads").select_option("each")
    page.wait_for_function("document.querySelectorAll('#follow-rows tr:last-child .chip').length === 6")
    for layer, row in enumerate(page.locator("#follow-rows tr").all()):
        for head, chip in enumerate(row.locator(".chip").all()):
            position = int(chip.get_attribute("title").split()[-1])
            weights = patterns[layer][head][5]
            assert weights[position] > 0.97 * weights.max()
    page.locator("#follow-heads").select_option("mean")
    page.wait_for_function("document.querySelectorAll('#follow-rows tr:last-child .chip').length <= 4")
    first = page.locator("#follow-rows tr").nth(2).locator(".chip").first
    target = int(first.get_attribute("title").split()[-1])
    assert target == patterns[2][:, 5].mean(axis=0).argmax()
    first.click()
    assert page.locator(".token[aria-selected=true]").get_attribute("data-position") == str(target)
    picture = page.screenshot(path=tmp_path / "view.png")
    assert len(picture) > 50_000


def test_the_keyboard_reaches_everything(visit: Visit, bundled: Any, tmp_path: Path) -> None:
    view, patterns, ids = bundled
    last = len(ids) - 1
    page = visit.open(view, tmp_path / "view.html")
    press = page.keyboard.press
    focused = "document.activeElement.getAttribute('aria-label') || document.activeElement.id"
    press("Tab")
    assert page.evaluate(focused) == "help-button"
    press("Tab")
    assert page.evaluate(focused) == "Layer 0, head 0, global"
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        press(key)
    assert page.evaluate(focused) == "Layer 2, head 1, global"
    press("Tab")
    assert page.evaluate(focused).endswith(f"token {last}")
    press("ArrowLeft")
    press("ArrowLeft")
    check_lists(page, patterns[2][1], last - 2)
    page.wait_for_function(f"document.getElementById('live').textContent.startsWith('Token {last - 2}, ')")
    press("Home")
    press("ArrowRight")
    press("Enter")
    assert page.locator(".token[aria-selected=true]").get_attribute("data-position") == "1"
    press("]")
    assert "Layer 3, head 1" in page.locator("#head-title").inner_text()
    press("Escape")
    assert page.locator(".token[aria-selected=true]").count() == 0
    press("ArrowDown")
    assert page.evaluate("Number(document.activeElement.dataset.position)") > 1
    page.locator("#matrix").focus()
    press("End")
    press("ArrowUp")
    assert "lies ahead" in page.locator("#cell").inner_text()
    press("?")
    assert page.get_by_role("dialog").is_visible()
    press("Escape")
    assert not page.get_by_role("dialog").is_visible()


def test_focus_can_be_seen(visit: Visit, bundled: Any, tmp_path: Path) -> None:
    page = visit.open(bundled[0], tmp_path / "view.html")
    for _ in range(5):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"


def test_the_window_hides_tokens_and_says_so(visit: Visit, tmp_path: Path) -> None:
    model, window = sharp("gl", window_size=4), 4
    page = visit.open(minineo.attention_view(model, None, list(range(12)), layer=1), tmp_path / "view.html")
    page.locator(".token").nth(6).hover()
    beyond = [int(token.get_attribute("data-position")) for token in page.locator(".token.beyond").all()]
    assert beyond == [j for j in range(12) if abs(6 - j) >= window]
    assert "3 hidden by the window" in page.locator("#keys-rest").inner_text()
    box = page.locator("#matrix").bounding_box()
    margin, step = page.evaluate("[matrix.margin, matrix.size / matrix.span]")
    page.mouse.move(box["x"] + margin + 0.5 * step, box["y"] + margin + 8.5 * step)
    assert "(8) → “#0” (0): hidden, 8 back, and the window holds 4" in page.locator("#cell").inner_text()
    page.get_by_role("gridcell", name="Layer 0, head 0, global").click()
    assert page.locator(".token.beyond").count() == 0


def test_what_the_mouse_points_at_in_the_pattern_is_named(visit: Visit, bundled: Any, tmp_path: Path) -> None:
    view, patterns, ids = bundled
    page = visit.open(view, tmp_path / "view.html")
    box = page.locator("#matrix").bounding_box()
    margin, size = page.evaluate("[matrix.margin, matrix.size]")
    step = size / len(ids)
    page.mouse.move(box["x"] + margin + 1.5 * step, box["y"] + margin + 9.5 * step)
    said = page.locator("#cell").inner_text()
    assert "(9) → “king” (1): " in said
    assert abs(float(said.split(": ")[1].removesuffix(" %")) - 100 * patterns[0][0][9, 1]) < 0.7
    check_lists(page, patterns[0][0], 9)


def test_cells_of_the_pattern_have_the_colours_of_their_codes(visit: Visit, bundled: Any, tmp_path: Path) -> None:
    view, patterns, ids = bundled
    page = visit.open(view, tmp_path / "view.html")
    found = page.evaluate(
        """(cells) => {
          const canvas = document.getElementById("matrix-cells");
          const { width } = canvas;
          const { data } = canvas.getContext("2d").getImageData(0, 0, width, width);
          const step = matrix.size / T;
          return cells.map(([i, j]) => {
            const at = (n) => Math.floor((matrix.margin + (n + 0.5) * step) * matrix.ratio);
            const pixel = data.subarray(4 * (at(i) * width + at(j)));
            return ramp.findIndex((colour) => colour === packed(pixel));
          });
        }""",
        cells := [[i, j] for i in range(0, len(ids), 3) for j in range(0, i + 1, 2)],
    )
    expected = [int(np.rint(255 * np.sqrt(patterns[0][0][i, j]))) for i, j in cells]
    np.testing.assert_allclose(found, expected, atol=1)  # neighbouring codes may share a colour


def test_long_texts_say_what_was_not_kept(visit: Visit, tmp_path: Path) -> None:
    page = visit.open(minineo.attention_view(sharp("g"), None, list(range(18)), keep=2), tmp_path / "view.html")
    rest = page.locator("#keys-rest").inner_text()
    assert rest.startswith("16 more: ")
    page.locator(".token").nth(17).hover()
    assert page.locator("#keys button:visible").count() == 2


def test_hostile_text_stays_text(visit: Visit, tmp_path: Path) -> None:
    model, tokenizer = minineo.load()
    page = visit.open(minineo.attention_view(model, tokenizer, "\n".join(HOSTILE)), tmp_path / "view.html")
    assert page.locator("img, iframe, object, svg").count() == 0
    shown = page.locator("#text > div").first.inner_text()
    assert all(text in shown for text in HOSTILE if text.isascii() and text.isprintable())
    for token in (0, 5, 20):
        page.locator(".token").nth(token).hover()
    page.locator("#matrix").hover()


def test_right_to_left_text_is_walked_as_it_is_read(visit: Visit, tmp_path: Path) -> None:
    text = "שלום עולם " * 3
    tokenizer = minineo.GPT2Tokenizer.train([text] * 9, vocab_size=300, progress=False)
    page = visit.open(minineo.attention_view(sharp(vocab_size=300), tokenizer, text), tmp_path / "view.html")
    first, second = (page.locator(".token").nth(i).bounding_box() for i in range(2))
    assert second["x"] < first["x"]
    page.locator(".token").nth(1).focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.dataset.position") == "2"


def test_views_in_one_notebook_keep_to_themselves(chromium: Any, bundled: Any, tmp_path: Path) -> None:
    """Two frames, as a notebook shows them; the first one's changes are not seen in the second, nor in the page."""
    file = tmp_path / "notebook.html"
    frames = bundled[0]._repr_html_() + minineo.attention_view(sharp(), None, [1, 2, 3])._repr_html_()
    file.write_text(f"<!doctype html><title>{escape('a & b')}</title>{frames}", encoding="utf-8")
    visit = Visit(chromium)
    page = visit.page
    page.goto(file.as_uri())
    first, second = (page.frame_locator("iframe").nth(i) for i in range(2))
    first.locator("html[data-ready=yes]").wait_for()
    page.locator("iframe").nth(1).scroll_into_view_if_needed()
    second.locator("html[data-ready=yes]").wait_for()
    first.locator("#grid button").nth(8).click()
    assert "Layer 1, head 2" in first.locator("#head-title").inner_text()
    assert "Layer 0, head 0" in second.locator("#head-title").inner_text()
    assert page.evaluate("typeof state") == "undefined"
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith("about:")] == [file.as_uri()]
    page.close()


def test_it_fits_every_width_in_light_and_in_dark(visit: Visit, bundled: Any, tmp_path: Path) -> None:
    page = visit.open(bundled[0], tmp_path / "view.html")
    for width in (360, 800, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#matrix").bounding_box()["width"] > 280
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        # the change is told before a frame is drawn
        page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
        script = "[getComputedStyle(document.body).backgroundColor, ramp[0], colours.ink]"
        colours.append(page.evaluate(script))
    assert all(light != dark for light, dark in zip(*colours, strict=True))


def test_hovering_answers_within_a_frame(visit: Visit, tmp_path: Path) -> None:
    """1,024 tokens in this test. Script, style and layout, the better half of 40 moves: the machine may be busy."""
    model = GPTNeoForCausalLM(
        minineo.GPTNeoConfig(
            vocab_size=50,
            hidden_size=8,
            num_layers=2,
            attention_types=[[["global", "local"], 1]],
            num_heads=2,
            window_size=256,
            max_position_embeddings=1024,
        )
    )
    ids = np.random.default_rng(0).integers(50, size=1024)
    page = visit.open(minineo.attention_view(model, None, ids, keep=32), tmp_path / "view.html")
    times = page.evaluate(
        """async () => {
          const times = [];
          for (let k = 0; k < 40; k++) {
            const begin = performance.now();
            point((k * 37) % T);
            document.body.getBoundingClientRect();
            times.push(performance.now() - begin);
            await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));
          }
          return times.sort((a, b) => a - b);
        }"""
    )
    assert times[20] < 50  # about 5 on an idle machine
