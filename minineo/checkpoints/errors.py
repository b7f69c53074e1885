"""The one error that a damaged or unsuitable checkpoint gives."""

from __future__ import annotations

from collections.abc import Iterable


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: the message names file and tensor, what was found and what was expected."""


def quote(name: object, limit: int = 100) -> str:
    """Show something that a file holds in one short line, whatever it is: the file may have been made by anybody."""
    text = repr(name)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def some_of(items: Iterable[object], limit: int = 10) -> str:
    """Join the first few of many things, and say how many were left out."""
    shown = [str(item) for item in items]
    rest = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {rest} more" if rest > 0 else "")
