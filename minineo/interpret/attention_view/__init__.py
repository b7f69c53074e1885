"""The attention of a model on a text, as one HTML document to look at, without a network.

>>> view = minineo.attention_view(model, tokenizer, "The king said to the man")
>>> view.save("king.html")

`tokens` makes tokens visible, `encoding` makes patterns small, `document` joins both with the page's HTML, CSS and
JavaScript, and `view` is what a user calls.
"""

from minineo.interpret.attention_view.view import AttentionView, attention_view

__all__ = ["AttentionView", "attention_view"]
