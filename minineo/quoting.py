"""Values in messages, in one short line each, whatever they are: a file may have been made by anybody."""

from __future__ import annotations

from reprlib import Repr

_abridge = Repr()
_abridge.maxlist = _abridge.maxtuple = _abridge.maxdict = 20
_abridge.maxstring = _abridge.maxlong = _abridge.maxother = 100


def quote(value: object, limit: int = 100) -> str:
    """Show a value as Python writes it, with what is too long or too deep left out.

    Half a surrogate pair, which no terminal can show, is written as its number.
    """
    if isinstance(value, str):
        return repr(value) if len(value) <= limit else f"{value[:limit]!r}... ({len(value)} characters)"
    text = _abridge.repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
