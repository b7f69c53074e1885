"""The tap: how every intermediate of a forward pass can be seen and changed, by one mechanism and no hooks framework.

A forward pass takes an optional function `tap(name, value) -> value` and calls it on each named intermediate. A tap
that keeps what it is given is a trace; one that returns something else is an edit. The names are listed in
`minineo.model.names.intermediate_names`.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from minineo.arrays import Array

Tap = Callable[[str, Array], Array]


def no_tap(name: str, value: Array) -> Array:
    """Pass the value on; what a forward pass calls when nobody looks."""
    return value


def under(tap: Tap, prefix: str) -> Tap:
    """The tap for a part of the model, whose names then stand below `prefix`."""
    return tap if tap is no_tap else lambda name, value: tap(f"{prefix}.{name}", value)


class Recorder(dict[str, Array]):
    """A tap that keeps intermediates under their names, in order of computation: all, or only those in `names`.

    >>> trace = Recorder()
    >>> output = model(input_ids, tap=trace)
    >>> trace["h.0.attn.pattern"].shape
    (1, 6, 5, 5)
    """

    def __init__(self, names: Container[str] | None = None, tap: Tap = no_tap) -> None:
        super().__init__()
        self.names = names
        self.tap = tap  # asked first: what it hands on is what is kept

    def __call__(self, name: str, value: Array) -> Array:
        """Keep the value if its name is wanted, and pass it on."""
        value = self.tap(name, value)
        if self.names is None or name in self.names:
            self[name] = value
        return value
