"""The document of an attention view: markup, style, script and data in one file that asks nobody for anything.

Its Content-Security-Policy forbids every request, and every script and style but the ones that stand here, by their
hashes. Tokens are data: they stand in a script element that is not executed, as JSON without a single `<`, and the page
shows them by `textContent` alone.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

SCRIPTS = ("data.js", "paint.js", "heads.js", "text.js", "matrix.js", "follow.js", "view.js")  # in order of use


def document(title: str, meta: Mapping[str, Any], blobs: Mapping[str, str]) -> str:
    """The page that shows `meta` (tokens, layers, heads) and `blobs` (base64 by element id)."""
    style = _asset("view.css")
    script = "".join(_asset(name) for name in SCRIPTS)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'; "
        "form-action 'none'"
    )
    data = [_data_element("meta", "application/json", _json(meta))]
    data += [_data_element(name, "application/octet-stream", blob) for name, blob in blobs.items()]
    parts = {
        "{{policy}}": policy,
        "{{title}}": html.escape(title),
        "{{style}}": style,
        "{{data}}": "\n".join(data),
        "{{script}}": script,
    }
    page = _asset("view.html")
    for place, content in parts.items():
        before, _, after = page.rpartition(place)  # the last one: what was put in before stands above it
        page = before + content + after
    return page


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """What a policy calls an inline script or style that may be used."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")


def _data_element(name: str, kind: str, content: str) -> str:
    return f'<script type="{kind}" id="{name}">{content}</script>'


def _json(meta: Mapping[str, Any]) -> str:
    """JSON that can end no script element and begin no comment: ASCII, and `<` as its number."""
    return json.dumps(meta, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
