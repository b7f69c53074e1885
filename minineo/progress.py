"""Progress bars, on standard error, for what takes long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def with_progress(items: Iterable[T], shown: bool, **options: Any) -> Iterable[T]:
    """The same items, with a bar that counts them if `shown`; `options` are tqdm's (total, desc, unit).

    tqdm is imported only for a bar that is shown: that takes as long as importing half of this package.
    """
    if not shown:
        return items
    from tqdm import tqdm

    return tqdm(items, **options)
