"""Traces: the intermediates of a forward pass under their names, to be looked at.

>>> output, trace = model.trace(input_ids, names=["*.attn.pattern", "ln_f"])
>>> trace["h.0.attn.pattern"].shape  # (batch, heads, queries, keys)
(1, 6, 5, 5)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from array_api_compat import array_namespace

from minineo.arrays import Array
from minineo.model.names import matching, nearest, shortened
from minineo.tap import Recorder, Tap, no_tap

Names = str | Iterable[str] | Callable[[str], bool]

COLUMNS = ("name", "shape", "dtype", "min", "max", "not counted")
NUMBERS = ("min", "max")  # their columns are aligned on the right
MOST_ROWS = 120  # six or eight layers whole; of more, which look alike, the first and the last
FIRST_ROWS, LAST_ROWS = 60, 20


class Trace(Mapping[str, Array]):
    """Names of intermediates and their arrays, in order of computation. Shown, it is a table of them.

    The arrays are those of the pass, not copies, and the output shares some (its logits, keys and values in its cache):
    copy one before you write into it. No later pass writes into them.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = dict(arrays)

    def __getitem__(self, name: str) -> Array:
        if name not in self._arrays:
            suggestion = nearest(str(name), self._arrays)
            raise KeyError(f"{name!r} was not recorded.{suggestion} Recorded are {shortened(self._arrays)}.")
        return self._arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __eq__(self, other: object) -> bool:
        return self is other  # arrays have no single truth value

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        rows = [COLUMNS, *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if column in NUMBERS else cell.ljust(width)
                for cell, width, column in zip(row, widths, COLUMNS, strict=True)
            ).rstrip()
            for row in rows
        ]
        return "\n".join([self._title(), *lines])

    def _repr_html_(self) -> str:
        """The table for notebooks: without colours of its own, so that it suits a light page and a dark one."""

        def cells(row: Sequence[str], tag: str) -> str:
            aligned = zip(row, COLUMNS, strict=True)
            return "".join(
                f'<{tag} style="text-align: {"right" if column in NUMBERS else "left"}">{escape(cell)}</{tag}>'
                for cell, column in aligned
            )

        body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in self._rows())
        return (
            f"<div><p>{escape(self._title())}</p>"
            '<div style="max-height: 30em; overflow: auto"><table style="font-variant-numeric: tabular-nums">'
            f"<thead><tr>{cells(COLUMNS, 'th')}</tr></thead><tbody>{body}</tbody></table></div></div>"
        )

    def _title(self) -> str:
        megabytes = sum(array.size * _bytes(array) for array in self._arrays.values()) / 1e6
        return f"Trace of {len(self)} intermediates, {megabytes:,.3g} MB"

    def _rows(self) -> list[tuple[str, ...]]:
        names = list(self._arrays)
        if len(names) <= MOST_ROWS:
            return [_row(name, self._arrays[name]) for name in names]
        first, last = names[:FIRST_ROWS], names[-LAST_ROWS:]
        between = (f"... {len(names) - len(first) - len(last)} more ...", *[""] * (len(COLUMNS) - 1))
        rows = [_row(name, self._arrays[name]) for name in first + last]
        return [*rows[: len(first)], between, *rows[len(first) :]]


def trace(
    model: Any, input_ids: Array | None = None, names: Names | None = None, *, tap: Tap = no_tap, **inputs: Any
) -> tuple[Any, Trace]:
    """Run the model and keep its intermediates: the output, and a `Trace` of those that are wanted.

    `names` says which: a name or glob (`"h.*.attn.pattern"`, `"h.3.*"`, `"*.resid_post"`), several in a list, or a
    function of a name that says yes or no; None keeps all. Only these are kept in memory. All names, with shapes, are
    in `minineo.model.names.intermediate_names`; `model.intermediate_names()` lists them. `inputs` are whatever the call
    takes. A value that `edits` or `tap` change is kept as they leave it.

    >>> output, trace = model.trace(input_ids, names="h.3.*", attention_mask=attention_mask)

    Raises:
        ValueError: a name or glob stands for nothing that is computed; the message suggests the nearest.
        ValueError, TypeError: as the call does.
    """
    computed = model.intermediate_names(token_types=inputs.get("token_type_ids") is not None)
    recorder = Recorder(None if names is None else _wanted(names, computed), tap)
    output = model(input_ids, tap=recorder, **inputs)
    return output, Trace(recorder)


def _wanted(names: Any, computed: Sequence[str]) -> set[str]:
    if isinstance(names, str):
        return set(matching(names, computed, "names"))
    if callable(names):
        found = {name for name in computed if names(name)}
        if not found:
            raise ValueError(f"names: {names!r} says no to every name. There are {shortened(computed)}.")
        return found
    if not isinstance(names, Iterable):
        raise TypeError(
            f"names: received a {type(names).__name__}, expected a name or glob, a list of them or a predicate."
        )
    return {name for pattern in names for name in matching(pattern, computed, "names")}


def _bytes(array: Array) -> int:
    return int(array_namespace(array).finfo(array.dtype).bits) // 8


def _row(name: str, array: Array) -> tuple[str, ...]:
    """One intermediate in the table: its range is that of the numbers that mean something, the others are counted."""
    xp = array_namespace(array)
    nan = xp.isnan(array)
    masked = array == -xp.inf
    infinite = array == xp.inf
    padding = array == float(xp.finfo(array.dtype).min)  # the score of a key that is padding
    counts = {"-inf": masked, "at padding": padding, "inf": infinite, "NaN": nan}
    counted = {what: int(xp.sum(xp.astype(where, xp.int64))) for what, where in counts.items()}
    meant = array[~(nan | masked | infinite | padding)]
    low, high = (f"{float(xp.min(meant)):.4g}", f"{float(xp.max(meant)):.4g}") if meant.shape[0] else ("", "")
    beside = ", ".join(f"{count:,} {what}" for what, count in counted.items() if count)
    shape = "(" + ", ".join(map(str, array.shape)) + ")"
    return name, shape, str(array.dtype).rpartition(".")[2], low, high, beside
