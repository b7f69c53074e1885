"""Pictures of what happens in a model, with matplotlib (extra `plot`); each function returns the Axes it drew on.

`ax=` draws into a figure of yours. Without it the picture has its own, which Jupyter shows and
`ax.figure.savefig("picture.png")` (or `.svg`, `.pdf`) writes.
"""

try:
    import matplotlib.figure  # noqa: F401
except ImportError as error:
    raise ImportError('pictures need matplotlib, which is not installed: pip install "minineo[plot]"') from error

from minineo.interpret.draw.charts import bars, heat_map
from minineo.interpret.draw.heads import (
    attention_distance,
    duplicate_token_scores,
    induction_scores,
    ov_circuit,
    previous_token_scores,
    qk_circuit,
    surprisal,
    token_probabilities,
)
from minineo.interpret.draw.interventions import (
    ablation_scores,
    activation_patching,
    direct_logit_attribution,
    logit_lens,
)
from minineo.interpret.draw.labels import token_bytes
from minineo.interpret.draw.patterns import attention, attention_grid, attention_pattern
from minineo.interpret.draw.text import coloured_text

__all__ = [
    "ablation_scores",
    "activation_patching",
    "attention",
    "attention_distance",
    "attention_grid",
    "attention_pattern",
    "bars",
    "coloured_text",
    "direct_logit_attribution",
    "duplicate_token_scores",
    "heat_map",
    "induction_scores",
    "logit_lens",
    "ov_circuit",
    "previous_token_scores",
    "qk_circuit",
    "surprisal",
    "token_bytes",
    "token_probabilities",
]
