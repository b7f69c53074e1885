"""The one error that a damaged or unsuitable checkpoint gives."""

from __future__ import annotations

from collections.abc import Iterable

from minineo.quoting import quote

__all__ = ["CheckpointError", "quote", "some_of"]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: the message names file and tensor, what was found and what was expected."""


def some_of(items: Iterable[object], limit: int = 10) -> str:
    """Join the first few of many things, and say how many were left out."""
    shown = [str(item) for item in items]
    rest = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {rest} more" if rest > 0 else "")
