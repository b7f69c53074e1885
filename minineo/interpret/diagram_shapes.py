"""The shapes that a diagram is made of, as SVG text; what is written is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

WIDTH, MARGIN = 760, 24
STREAM = 40  # where the line of the residual stream is
LEFT = 66  # where boxes begin
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
INK, MUTED, FAINT = "#1f2328", "#57606a", "#d0d7de"
ORANGE = "#E69F00"


def text(x: float, y: float, words: str, size: int = 13, fill: str = INK, **attributes: str) -> str:
    """Words that begin at x on the line y, or end or have their middle there (`text_anchor`)."""
    more = "".join(f" {name.replace('_', '-')}={quoteattr(value)}" for name, value in attributes.items())
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}"{more}>{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, fill: str, stroke: str = FAINT, more: str = "") -> str:
    """A rectangle with round corners, from its upper left one."""
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f'<rect {place} rx="4" fill="{fill}" stroke="{stroke}"{more}/>'


def number(x: float, y: float, count: int) -> str:
    """A number of parameters, in the column on the right."""
    return text(x, y, f"{count:,}", fill=MUTED, text_anchor="end", font_variant_numeric="tabular-nums")


def plus(y: float) -> str:
    """Where something is added to the residual stream."""
    return (
        f'<circle cx="{STREAM}" cy="{y:g}" r="7" fill="white" stroke="{MUTED}"/>'
        f'<path d="M{STREAM - 4} {y:g}h8M{STREAM} {y - 4:g}v8M{STREAM + 7} {y:g}H{LEFT}" stroke="{MUTED}"/>'
    )


def mask(x: float, y: float, side: float, share: float) -> str:
    """A small picture of what a layer's positions see: all before, or the `share` of it that a window lets through."""
    path = f"M{x:g} {y:g}L{x + side:g} {y + side:g}"
    path += f"H{x + side * (1 - share):g}L{x:g} {y + side * share:g}Z" if share < 1 else f"H{x:g}Z"
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" fill="white" stroke="{FAINT}"/>'
        f'<path d="{path}" fill="{ORANGE}"/>'
    )


def heads(x: float, y: float, width: float, count: int) -> str:
    """A square for each head, as long as they can be told apart."""
    pitch = min(11.0, width / count)
    if pitch < 3.0:
        return ""
    squares = "".join(f"M{x + i * pitch:g} {y:g}h{0.75 * pitch:g}v9h-{0.75 * pitch:g}z" for i in range(count))
    return f'<path d="{squares}" fill="{ORANGE}"/>'


def document(title: str, description: str, drawn: Iterable[str], height: float) -> str:
    """The SVG: a page of its own colour, so that it can be read on a dark one, that shrinks with its surroundings."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
            f'height="{height:g}" style="max-width:100%;height:auto" font-family={quoteattr(FONT)}>',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(description)}</desc>",
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" rx="8" fill="white" stroke="{FAINT}"/>',
            *drawn,
            "</svg>",
            "",
        ]
    )
