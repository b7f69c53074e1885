"""Look inside a model: what its layers guess, what its parts contribute, what its heads look for.

Each analysis is a function of a model and tokens that returns NumPy arrays, whatever library the model computes with;
the function of the same name in `minineo.interpret.draw` draws what it returned.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from minineo.trace import Trace

if TYPE_CHECKING:
    from minineo.interpret import draw
    from minineo.interpret.ablation import AblationScores, ablation_scores, without_heads
    from minineo.interpret.attribution import DirectLogitAttribution, direct_logit_attribution
    from minineo.interpret.circuits import OVCircuit, QKCircuit, ov_circuit, qk_circuit
    from minineo.interpret.distance import AttentionDistance, attention_distance
    from minineo.interpret.head_scores import (
        HeadScores,
        duplicate_token_scores,
        induction_scores,
        previous_token_scores,
        random_repeated_tokens,
    )
    from minineo.interpret.lens import LogitLens, logit_lens
    from minineo.interpret.patching import ActivationPatching, activation_patching
    from minineo.interpret.probabilities import Surprisal, surprisal, token_probabilities

__all__ = [
    "AblationScores",
    "ActivationPatching",
    "AttentionDistance",
    "DirectLogitAttribution",
    "HeadScores",
    "LogitLens",
    "OVCircuit",
    "QKCircuit",
    "Surprisal",
    "Trace",
    "ablation_scores",
    "activation_patching",
    "attention_distance",
    "direct_logit_attribution",
    "draw",
    "duplicate_token_scores",
    "induction_scores",
    "logit_lens",
    "ov_circuit",
    "previous_token_scores",
    "qk_circuit",
    "random_repeated_tokens",
    "surprisal",
    "token_probabilities",
    "without_heads",
]

_NAMES = {
    "ablation": ("AblationScores", "ablation_scores", "without_heads"),
    "attribution": ("DirectLogitAttribution", "direct_logit_attribution"),
    "circuits": ("OVCircuit", "QKCircuit", "ov_circuit", "qk_circuit"),
    "distance": ("AttentionDistance", "attention_distance"),
    "head_scores": (
        *("HeadScores", "duplicate_token_scores", "induction_scores", "previous_token_scores"),
        "random_repeated_tokens",
    ),
    "lens": ("LogitLens", "logit_lens"),
    "patching": ("ActivationPatching", "activation_patching"),
    "probabilities": ("Surprisal", "surprisal", "token_probabilities"),
}
_PLACES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, and matplotlib only for what draws."""
    if name not in __all__:
        raise AttributeError(f"module 'minineo.interpret' has no attribute {name!r}")
    if name == "draw":
        return import_module("minineo.interpret.draw")
    value = globals()[name] = getattr(import_module(f"minineo.interpret.{_PLACES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
