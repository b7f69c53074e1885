"""A logits processor that dictates a text, so that random weights "write" what a trained model would."""

from __future__ import annotations

from typing import Any


class Script:
    """Gives one token the highest score at each position: that of the text, `tokens`, which begins with the prompt.

    The model does all its work; only the choice is made for it. How many drafted tokens are accepted then depends
    on the text, as it would if a model had written it. Works on NumPy arrays and torch tensors.
    """

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores (B, V) of 1 for one token and 0 for the others.

        Not -inf: transformers passes over drafts that a processor forbids, and would look the text up there.
        """
        dictated = self.tokens[min(input_ids.shape[1], len(self.tokens) - 1)]
        forced = 0.0 * scores
        forced[:, dictated] = 1.0
        return forced
