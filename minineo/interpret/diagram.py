"""A model as a picture: its architecture with the true sizes, and where its parameters are. SVG, written by hand.

The residual stream is the line on the left. Embeddings begin it, each layer reads it (through a layer norm) and adds
to it twice, the head reads what has become of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minineo.classes import (
    GPTNeoForCausalLM,
    GPTNeoForQuestionAnswering,
    GPTNeoForSequenceClassification,
    GPTNeoForTokenClassification,
)
from minineo.config import GPTNeoConfig
from minineo.interpret.diagram_shapes import (
    FAINT,
    LEFT,
    MARGIN,
    MUTED,
    ORANGE,
    STREAM,
    WIDTH,
    box,
    document,
    heads,
    mask,
    number,
    plus,
    text,
)
from minineo.json_file import write_text
from minineo.model.names import BASE_PREFIX
from minineo.pretrained import GPTNeoPreTrainedModel

ModelClass = type[GPTNeoPreTrainedModel[Any]]

BOX = 534  # how wide the widest boxes are
ATTENTION, MLP = LEFT + 30, LEFT + 334  # where a layer's two boxes begin
RIGHT = WIDTH - MARGIN
ROW = 30  # a layer
MOST_LAYERS = 32  # of more, the first and the last are drawn
FIRST_LAYERS, LAST_LAYERS = 12, 4
COLOURS = {  # Okabe and Ito's, which colour-blind readers tell apart
    "token embedding": "#56B4E9",
    "position embedding": "#0072B2",
    "attention": ORANGE,
    "MLP": "#009E73",
    "layer norms": "#7f7f7f",
    "head": "#CC79A7",
}
PALE = {"global": "#fff3d6", "local": "#fbe3cf", "MLP": "#dcf3ea", "embedding": "#e2f1fb", "head": "#f8e6f0"}
HOW_TO_READ = (
    "The line on the left is the residual stream. A layer adds to it twice, what attention and what the MLP computed;",
    "grey bars are the layer norms before them, squares are heads, a triangle shows which earlier positions one sees.",
)


@dataclass(frozen=True)
class Diagram:
    """A picture of a model: `svg` is its text. Jupyter shows it, `save` writes it."""

    svg: str = field(repr=False)
    title: str

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture as an SVG file.

        Raises:
            ValueError: the name ends in something other than .svg.
        """
        if Path(path).suffix.lower() != ".svg":
            raise ValueError(f"path: received {os.fspath(path)!r}, expected a name that ends in .svg, which this is.")
        write_text(Path(path), self.svg)


def diagram(model: GPTNeoPreTrainedModel[Any] | GPTNeoConfig) -> Diagram:
    """Draw the architecture of a model with its true sizes; of a configuration alone, as the language model it makes.

    >>> minineo.diagram(model).save("model.svg")

    Raises:
        TypeError: it is neither a model nor a configuration.
    """
    if isinstance(model, GPTNeoConfig):
        return _draw(GPTNeoForCausalLM, model)
    if isinstance(model, GPTNeoPreTrainedModel):
        return _draw(type(model), model.config)
    raise TypeError(
        f"model: received a {type(model).__name__}, expected a model or a GPTNeoConfig. "
        "For the bundled model: model, tokenizer = minineo.load()."
    )


def parameters_per_part(cls: ModelClass, config: GPTNeoConfig) -> dict[str, int]:
    """How many parameters each part has; together they are all that the model has, and a tied head has none."""
    counts = dict.fromkeys(COLOURS, 0)
    for name, shape in cls.parameter_shapes(config).items():
        size = 1
        for length in shape:
            size *= length
        counts[_part(name.removeprefix(BASE_PREFIX))] += size
    return counts


def _part(name: str) -> str:
    """The part that a parameter belongs to."""
    if name.startswith(("wte.", "wpe.")):
        return "token embedding" if name.startswith("wte.") else "position embedding"
    if name.startswith(("h.", "ln_f.")):
        return "attention" if ".attn." in name else "MLP" if ".mlp." in name else "layer norms"
    return "head"


# Parts of the picture -------------------------------------------------------------------------------------------------


def _embeddings(config: GPTNeoConfig, counts: dict[str, int], y: float) -> list[str]:
    rows = (
        ("token embedding", f"Token embedding, {config.vocab_size:,} tokens × {config.hidden_size:,}"),
        (
            "position embedding",
            f"Position embedding, {config.max_position_embeddings:,} positions × {config.hidden_size:,}",
        ),
    )
    drawn = []
    for i, (part, words) in enumerate(rows):
        top = y + 38 * i
        drawn += [
            box(LEFT, top, BOX, 30, PALE["embedding"]),
            f'<rect x="{LEFT}" y="{top:g}" width="5" height="30" fill="{COLOURS[part]}"/>',
            text(LEFT + 16, top + 20, words),
            number(RIGHT, top + 20, counts[part]),
            plus(top + 15),
        ]
    return drawn


def _layer(config: GPTNeoConfig, layer: int, count: int, y: float) -> list[str]:
    """One row: layer norm and attention, layer norm and MLP, parameters."""
    window = config.window(layer)
    kind = "global" if window is None else "local"
    share = 1.0 if window is None else min(1.0, window / config.max_position_embeddings)
    norm = f'height="{ROW - 4}" width="5" fill="{COLOURS["layer norms"]}"'
    sizes = f"{config.hidden_size:,} → {config.inner_size:,} → {config.hidden_size:,}"
    return [
        plus(y + ROW / 2 - 2),
        text(LEFT + 22, y + 17.5, str(layer), text_anchor="end", fill=MUTED),
        box(ATTENTION, y, 292, ROW - 4, PALE[kind]),
        f'<rect x="{ATTENTION}" y="{y:g}" {norm}/>',
        mask(ATTENTION + 14, y + 4, ROW - 12, share),
        text(ATTENTION + 42, y + 17.5, "global" if window is None else f"local, window {window:,}"),
        heads(ATTENTION + 184, y + 8.5, 100, config.num_heads),
        box(MLP, y, 200, ROW - 4, PALE["MLP"]),
        f'<rect x="{MLP}" y="{y:g}" {norm}/>',
        text(MLP + 16, y + 17.5, sizes),
        number(RIGHT, y + 17.5, count),
    ]


def _layers(config: GPTNeoConfig, per_layer: int, y: float) -> tuple[list[str], float]:
    """The columns' names and a row for each layer, of very many the first and the last -> drawn, where it ends."""
    how_many = "1 head" if config.num_heads == 1 else f"{config.num_heads:,} heads"
    drawn = [
        text(LEFT + 22, y, "layer", 11, MUTED, text_anchor="end"),
        text(ATTENTION, y, f"attention, {how_many} of size {config.head_size:,}", 11, MUTED),
        text(MLP, y, f"MLP, {config.activation_function}", 11, MUTED),
        text(RIGHT, y, "parameters", 11, MUTED, text_anchor="end"),
    ]
    y += 8
    L = config.num_layers
    for layer in range(L):
        if L <= MOST_LAYERS or layer < FIRST_LAYERS or layer >= L - LAST_LAYERS:
            drawn += _layer(config, layer, per_layer, y)
            y += ROW
        elif layer == FIRST_LAYERS:
            left_out = config.attention_layers[FIRST_LAYERS : L - LAST_LAYERS]
            kinds = f"{left_out.count('global'):,} global and {left_out.count('local'):,} local"
            last = L - LAST_LAYERS - 1
            drawn += [
                text(ATTENTION, y + 17.5, f"⋮  layers {layer} to {last}: {kinds}", fill=MUTED),
                number(RIGHT, y + 17.5, per_layer * len(left_out)),
            ]
            y += ROW
    return drawn, y


def _head_words(cls: ModelClass, config: GPTNeoConfig) -> str:
    """What reads the last hidden state, and what comes out."""
    D = f"{config.hidden_size:,}"
    labels = f"{config.num_labels:,} label" + ("" if config.num_labels == 1 else "s")
    if issubclass(cls, GPTNeoForCausalLM):
        tied = ", tied: the token embedding again" if config.tie_word_embeddings else ", a table of its own"
        return f"Head lm_head, {D} → {config.vocab_size:,} logits{tied}"
    if issubclass(cls, GPTNeoForSequenceClassification):
        return f"Head score, {D} → {labels}, read at a text's last token"
    if issubclass(cls, GPTNeoForTokenClassification):
        return f"Head classifier, {D} → {labels} for each token"
    if issubclass(cls, GPTNeoForQuestionAnswering):
        return f"Head qa_outputs, {D} → 2 logits for each token: start, end"
    return ""


def _top(words: str, norms: int, head: int | None, y: float) -> tuple[list[str], float]:
    """The final layer norm and the head; `head` is None where there is none -> drawn, where it ends."""
    drawn = [
        f'<path d="M{STREAM} {y + 15:g}H{LEFT}" stroke="{MUTED}"/>',
        box(LEFT, y, BOX, 30, "#f3f4f6"),
        f'<rect x="{LEFT}" y="{y:g}" width="5" height="30" fill="{COLOURS["layer norms"]}"/>',
        text(LEFT + 16, y + 20, "Final layer norm ln_f" + ("" if words else ", the last hidden state")),
        number(RIGHT, y + 20, norms),
    ]
    if not words:
        return drawn, y + 30
    dashes = "" if head else ' stroke-dasharray="5 3"'
    return [
        *drawn,
        f'<path d="M{LEFT + 24} {y + 30:g}v8" stroke="{MUTED}"/>',
        box(LEFT, y + 38, BOX, 30, PALE["head"], COLOURS["head"] if not head else FAINT, dashes),
        f'<rect x="{LEFT}" y="{y + 38:g}" width="5" height="30" fill="{COLOURS["head"]}"/>',
        text(LEFT + 16, y + 58, words),
        number(RIGHT, y + 58, head or 0),
    ], y + 68


def _shares(counts: dict[str, int], y: float) -> tuple[list[str], float]:
    """A bar divided as the parameters are, and each part's number and share -> drawn, where it ends."""
    total, x, wide = sum(counts.values()), float(MARGIN), RIGHT - MARGIN
    drawn = [text(MARGIN, y, "Where the parameters are", font_weight="600")]
    y += 12
    present = {part: count for part, count in counts.items() if count}
    for i, (part, count) in enumerate(present.items()):
        share = count / total
        drawn.append(f'<rect x="{x:g}" y="{y:g}" width="{wide * share:.3f}" height="16" fill="{COLOURS[part]}"/>')
        x += wide * share
        left, line = MARGIN + (i % 2) * 368, y + 40 + 22 * (i // 2)
        drawn += [
            f'<rect x="{left}" y="{line - 10:g}" width="11" height="11" fill="{COLOURS[part]}"/>',
            text(left + 18, line, part),
            number(left + 282, line, count),
            text(left + 344, line, f"{share:.1%}" if share >= 0.001 else "< 0.1%", fill=MUTED, text_anchor="end"),
        ]
    return drawn, y + 40 + 22 * ((len(present) - 1) // 2)


def _draw(cls: ModelClass, config: GPTNeoConfig) -> Diagram:
    """The whole picture, from top to bottom."""
    counts = parameters_per_part(cls, config)
    total, L, D = sum(counts.values()), config.num_layers, config.hidden_size
    final_norm = 2 * D  # weight and bias
    per_layer = (counts["attention"] + counts["MLP"] + counts["layer norms"] - final_norm) // L
    layers = "1 layer" if L == 1 else f"{L:,} layers"
    title = f"{cls.__name__}, {total:,} parameters"
    facts = f"{layers}, hidden size {D:,}, at most {config.max_position_embeddings:,} tokens"
    kinds = config.attention_layers
    description = (
        f"{facts}. Layers with global attention: {kinds.count('global')}, within a window of "
        f"{config.window_size:,}: {kinds.count('local')}. Parameters: "
        + ", ".join(f"{part}: {count:,}" for part, count in counts.items())
        + "."
    )
    embeddings = _embeddings(config, counts, 84)
    rows, y = _layers(config, per_layer, 184)
    words = _head_words(cls, config)
    top, y = _top(words, final_norm, counts["head"], y + 14)
    stream = f'<path d="M{STREAM} 92V{y - (53 if words else 15):g}" stroke="{MUTED}" stroke-width="2"/>'
    shares, y = _shares(counts, y + 46)
    notes = [text(MARGIN, y + 32 + 16 * i, words, 11, MUTED) for i, words in enumerate(HOW_TO_READ)]
    header = [
        text(MARGIN, 38, title, 18, font_weight="600"),
        text(MARGIN, 60, facts, fill=MUTED),
    ]
    return Diagram(
        document(title, description, [*header, stream, *embeddings, *rows, *top, *shares, *notes], y + 68), title
    )
