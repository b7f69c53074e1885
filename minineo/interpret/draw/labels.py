"""Tokens as labels: every space, line end and half character is seen, and no character asks for a missing glyph.

A token of a byte-level tokenizer is a few bytes that need not be text: pass `bytes` (`token_bytes` gives them), or a
str where it is known to be one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.textpath import text_to_path

if TYPE_CHECKING:
    from minineo.tokenizer import GPT2Tokenizer

Token = str | bytes

LONGEST = 16  # characters of a label: a longer one is cut, and says so
SIGNS = {" ": "·", "\n": "⏎", "\t": "⇥"}
# What is looked for when DejaVu Sans, which comes with matplotlib, has no glyph. Fonts in colours are none of these:
# matplotlib draws outlines.
MORE_FAMILIES = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR", "WenQuanYi Zen Hei"),
    *("Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic"),
    *("Noto Sans", "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Thai", "Noto Emoji", "Segoe UI Symbol"),
)


def token_bytes(tokenizer: GPT2Tokenizer, input_ids: Iterable[int]) -> list[bytes]:
    """The bytes of each token, special tokens as they are written: what pictures take as `tokens`."""
    return [tokenizer.decode_bytes([int(token_id)]) for token_id in input_ids]


def token_labels(tokens: Sequence[Token]) -> list[str]:
    """The labels of several tokens; see `token_label`."""
    if isinstance(tokens, str | bytes):
        raise TypeError(f"tokens: received one {type(tokens).__name__}, expected a list with one str or bytes a token.")
    return [token_label(token) for token in tokens]


def token_label(token: Token, longest: int = LONGEST, space: str = SIGNS[" "]) -> str:
    r"""One line of visible characters for a token; what has none is escaped as in Python.

    No more than `longest` characters; `space` stands for a space.

    >>> token_label(" the"), token_label("\n"), token_label(b"\xe2\x80"), token_label("\0")
    ('·the', '⏎', '\\xe2\\x80', '\\x00')
    """
    if not isinstance(token, str | bytes):
        raise TypeError(f"tokens: received a {type(token).__name__} ({token!r}), expected str or bytes.")
    text = token.decode("utf-8", "surrogateescape") if isinstance(token, bytes) else token
    shown = [space if character == " " else visible_character(character) for character in text]
    if len(shown) > longest:
        shown = [*shown[: longest - 1], "…"]
    label = "".join(shown)
    return "◌" + label if text and unicodedata.combining(text[0]) else label  # nothing to combine with


def visible_character(character: str) -> str:
    """The character itself, a sign that stands for it, or its escape where it cannot be drawn or would not be seen."""
    code = ord(character)
    if character in SIGNS:
        return SIGNS[character]
    if 0xDC80 <= code <= 0xDCFF:  # how "surrogateescape" keeps a byte that is no text
        return f"\\x{code - 0xDC00:02x}"
    # C: control, format (zero width, direction), surrogate, unassigned; Z: spaces of other kinds
    if unicodedata.category(character)[0] in "CZ" or code not in glyphs():
        return character.encode("unicode_escape").decode("ascii")
    return character


@cache
def families() -> tuple[str, ...]:
    """The fonts that labels are drawn in, in order of preference: those of the list that are installed."""
    installed = set(font_manager.get_font_names())
    return ("DejaVu Sans", *(family for family in MORE_FAMILIES if family in installed))


@cache
def glyphs() -> frozenset[int]:
    """Every code point that one of `families` can draw."""
    return frozenset(code for family in families() for code in FT2Font(font_manager.findfont(family)).get_charmap())


@cache
def text_width(label: str, size: float) -> float:
    """How wide a label is in type of that size, both in points."""
    font = FontProperties(family=list(families()), size=size)
    return float(text_to_path.get_text_width_height_descent(label, font, ismath=False)[0])


def fit(label: str, size: float, width: float) -> str:
    """The label, cut where it is wider than `width` points; nothing where not even a character has room."""
    if text_width(label, size) <= width:
        return label
    for kept in range(len(label) - 1, 0, -1):
        if text_width(label[:kept] + "…", size) <= width:
            return label[:kept] + "…"
    return ""


def literal() -> dict[str, Any]:
    """Arguments for a matplotlib Text that shows a token as it is: dollars are no formula, nothing is sent to TeX."""
    return {"parse_math": False, "usetex": False, "fontfamily": list(families())}
