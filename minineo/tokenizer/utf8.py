"""Bytes -> text when the bytes need not be valid UTF-8, as those of a model need not be."""

import codecs

SURROGATE_AWARE = "minineo.replace"
"""The name under which Python's codecs know `_replace`."""

ERRORS = ("replace", "strict", "ignore", "backslashreplace", "surrogateescape", "surrogatepass")
"""What `errors` may be: "replace" (see `_replace`), and Python's own error handlers for decoding."""


def codec_errors(errors: str) -> str:
    """Which of Python's error handlers serves a tokenizer's `errors` argument."""
    if errors not in ERRORS:
        raise ValueError(f"errors must be one of {', '.join(ERRORS)}, not {errors!r}")
    return SURROGATE_AWARE if errors == "replace" else errors


def decode_utf8(data: bytes, errors: str = "replace") -> str:
    """Decode bytes. `errors`: "replace" (see `_replace`), or "strict", "ignore", ... as for `bytes.decode`."""
    return data.decode("utf-8", codec_errors(errors))


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Put U+FFFD where no character can be, as Unicode recommends, and give lone surrogates back.

    A Python string can hold half of a UTF-16 pair (from broken JSON, or a file name that is not UTF-8). UTF-8 has no
    bytes for it; encoding uses the three that would follow the pattern (ED A0 80 to ED BF BF), and here they become
    the same half again. So decoding gives back every string, and makes surrogates only of what was one.
    """
    if not isinstance(error, UnicodeDecodeError):
        raise error
    possible = error.object[error.start : error.start + 3]
    try:
        return possible.decode("utf-8", "surrogatepass"), error.start + 3
    except UnicodeDecodeError:
        return "\N{REPLACEMENT CHARACTER}", error.end


codecs.register_error(SURROGATE_AWARE, _replace)
