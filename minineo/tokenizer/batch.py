"""From tokenised texts to rows of a batch: truncation, overflow, special tokens around the texts, padding.

All of it as `tokenizers` does it, to which `transformers` hands these arguments.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

from minineo.tokenizer.encoding import Encoding, Span, TokenizedText

UNLIMITED = int(1e30)
"""The `model_max_length` of a tokenizer that was not told one; the value that Hugging Face writes into files."""

SIDES = ("left", "right")
PADDING = ("longest", "max_length", "do_not_pad")
TRUNCATION = ("longest_first", "only_first", "only_second", "do_not_truncate")

Window = tuple[int, int]
"""The tokens [start, stop) of a text."""


@dataclass(frozen=True)
class Layout:
    """How rows are cut and filled: the arguments of a call, checked and made consistent."""

    padding: str
    truncation: str
    max_length: int | None
    stride: int = 0
    pad_to_multiple_of: int | None = None
    padding_side: str = "right"
    truncation_side: str = "right"

    def __post_init__(self) -> None:
        _check_choice("padding", self.padding, PADDING)
        _check_choice("truncation", self.truncation, TRUNCATION)
        _check_choice("padding_side", self.padding_side, SIDES)
        _check_choice("truncation_side", self.truncation_side, SIDES)
        _check_integer("max_length", self.max_length, 0)
        _check_integer("stride", self.stride, 0)
        _check_integer("pad_to_multiple_of", self.pad_to_multiple_of, 1)
        both = self.truncation != "do_not_truncate" and self.padding != "do_not_pad"
        if both and self.max_length is not None and self.max_length % (self.pad_to_multiple_of or 1):
            raise ValueError(
                f"rows cannot be cut to max_length {self.max_length} and be a multiple of "
                f"{self.pad_to_multiple_of} long: make max_length a multiple of pad_to_multiple_of"
            )


def resolve_lengths(
    padding: bool | str, truncation: bool | str | None, max_length: int | None, model_max_length: int
) -> tuple[str, str, int | None]:
    """Decide what `padding`, `truncation` and `max_length` mean together.

    `max_length` alone means truncation. Without it, it is the model's; where the model's is not known, nothing is
    cut and nothing filled up to it.
    """
    if truncation is None and padding is False and max_length is not None:
        truncation = True
    padding = {True: "longest", False: "do_not_pad"}[padding] if isinstance(padding, bool) else padding
    truncation = "longest_first" if truncation is True else truncation or "do_not_truncate"
    if padding == "longest" and truncation == "do_not_truncate" and max_length is not None:
        warnings.warn(
            f"max_length={max_length} has no effect with padding=True and no truncation: "
            "use padding='max_length' to fill up to it, truncation=True to cut there",
            stacklevel=3,
        )
    if max_length is None and model_max_length < UNLIMITED // 10:
        if padding == "max_length" or truncation != "do_not_truncate":
            max_length = model_max_length
    elif max_length is None:
        padding = "do_not_pad" if padding == "max_length" else padding
        truncation = "do_not_truncate"
    return padding, truncation, max_length


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        booleans = "" if name.endswith("side") else "True, False, "
        raise ValueError(f"{name} must be one of {booleans}{', '.join(map(repr, choices))}, not {value!r}")


def _check_integer(name: str, value: object, least: int) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")


def windows(length: int, size: int, stride: int, side: str) -> list[Window]:
    """Cut `length` tokens into windows of at most `size`, of which neighbours share `stride` tokens.

    The first window is what truncation keeps, the others are the overflow. `side` is the side that is cut off.
    """
    if length <= size:
        return [(0, length)]
    if size == 0:
        return [(0, 0), (0, length)]
    _check_stride(stride, size)
    found: list[Window] = []
    for skipped in range(0, length, size - stride):
        if side == "right":
            found.append((skipped, min(skipped + size, length)))
        else:
            found.append((max(length - skipped - size, 0), length - skipped))
        if skipped + size >= length:
            break
    return found


def _check_stride(stride: int, size: int) -> None:
    if 0 < stride >= size:
        raise ValueError(
            f"stride {stride} is too large: at most {size} tokens of a text are kept (max_length less the special "
            f"tokens and the other text), and windows that share {stride} would never reach its end"
        )


def kept_lengths(first: int, second: int | None, size: int, strategy: str) -> tuple[int, int]:
    """How many tokens of the first and of the second text are kept, so that together they have `size`."""
    total = first + (second or 0)
    if strategy == "do_not_truncate" or total <= size:
        return first, second or 0
    if size == 0:
        return 0, 0
    if strategy == "longest_first":
        if second is None:
            return size, 0
        shorter, longer = sorted((first, second))
        longer = shorter if shorter > size else max(shorter, size - shorter)
        if shorter + longer > size:
            shorter, longer = size // 2, size - size // 2
        return (shorter, longer) if first <= second else (longer, shorter)
    if strategy == "only_second" and second is None:
        raise ValueError("truncation='only_second' needs a text_pair to cut: use 'only_first' or True for single texts")
    cut = first if strategy == "only_first" else second or 0
    kept = cut - (total - size)
    if kept <= 0:
        raise ValueError(
            f"truncation={strategy!r} would have to take {total - size} of the {cut} tokens of that text to reach "
            "max_length: allow a larger max_length or use truncation='longest_first'"
        )
    return (kept, second or 0) if strategy == "only_first" else (first, kept)


def make_rows(
    first: TokenizedText, second: TokenizedText | None, before: list[int], after: list[int], plan: Layout
) -> list[list[Span]]:
    """Lay out one text or a pair: the row to use, then the rows that hold what it has no room for.

    `before` and `after` are ids that go around each text.
    """
    added = (len(before) + len(after)) * (1 if second is None else 2)
    size = UNLIMITED if plan.max_length is None or plan.truncation == "do_not_truncate" else plan.max_length - added
    if size < 0:
        raise ValueError(f"max_length {plan.max_length} has no room for the {added} special tokens of each row")
    _check_stride(plan.stride, size)
    lengths = len(first.ids), None if second is None else len(second.ids)
    kept = kept_lengths(*lengths, size, plan.truncation)

    def sides(text: TokenizedText, sequence: int) -> list[list[Span]]:
        cuts = windows(len(text.ids), kept[sequence], plan.stride, plan.truncation_side)
        return [_around(text, window, sequence, before, after) for window in cuts]

    if second is None:
        return sides(first, 0)
    firsts, seconds = sides(first, 0), sides(second, 1)
    return (
        [firsts[0] + seconds[0]]
        + [left + right for left in firsts[1:] for right in seconds]
        + [firsts[0] + right for right in seconds[1:]]
    )


def _around(text: TokenizedText, window: Window, sequence: int, before: list[int], after: list[int]) -> list[Span]:
    """A window of a text with the special tokens around it."""
    start, stop = window
    spans = [
        Span(before, sequence),
        Span(text.ids[start:stop], sequence, text, start, sequence),
        Span(after, sequence),
    ]
    return [span for span in spans if span.ids]


def pad_rows(rows: list[Encoding], longest: int, pad_id: int, plan: Layout) -> list[Encoding]:
    """Fill rows to one length: `longest`, or the layout's `max_length`, rounded up to the multiple wanted."""
    length = longest
    if plan.padding == "max_length" and plan.max_length is not None:
        length = plan.max_length
    multiple = plan.pad_to_multiple_of or 1
    length = -(-length // multiple) * multiple
    padded = []
    for row in rows:
        padding = Span([pad_id] * (length - len(row)), attention=0)
        spans = (padding, *row.spans) if plan.padding_side == "left" else (*row.spans, padding)
        padded.append(replace(row, spans=spans))
    return padded
