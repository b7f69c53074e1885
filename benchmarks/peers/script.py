"""A logits processor that dictates a text, so that random weights "write" what a trained model would."""

from __future__ import annotations

from typing import Any


class Script:
    """Lets only one token through at each position: that of the text, `tokens`, which begins with the prompt.

    The model does all its work; only the choice is made for it. How many drafted tokens are accepted then depends
    on the text, as it would if a model had written it. Works on NumPy arrays and torch tensors.
    """

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores (B, V) in which one token is left."""
        dictated = self.tokens[min(input_ids.shape[1], len(self.tokens) - 1)]
        forced = scores + float("-inf")
        forced[:, dictated] = 0.0
        return forced
