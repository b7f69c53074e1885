"""Write what transformers says about the bundled model on two texts, for the notebook that compares the whole model.

Run it as `PYTHONPATH=tests python tests/golden/write_notebook_values.py`.

`notebooks/data/transformers.npz`, for each text: `input_ids` (1, T); of the last position, to keep the file small, the
`hidden_states` (7, D), which are the embeddings, the residual stream after blocks 0 to 4 and the last layer norm's
result, the `attentions` (6, H, T) and the `logits` (V,); the `loss` of the text. The model runs in float64, its results
are rounded to float32. `version` is that of transformers.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
from hugging_face import call, oracle_model

import minineo

FILE = Path(__file__).parents[2] / "notebooks" / "data" / "transformers.npz"
TEXTS = {
    "prompt": "A woodcutter lived in the forest. One day the woodcutter went into the",
    "winter": "A woodcutter lived in the forest. It was a cold winter. The snow lay deep upon the ground, and the wind "
    "blew all night long. The birds sat in the bare trees and had nothing to eat. The river was frozen, and the roads "
    "were white, and nobody was to be seen far and wide. At last the sun came back, and the ice began to melt. One day "
    "the woodcutter went into the",
}


def values(model: object, input_ids: np.ndarray) -> dict[str, np.ndarray]:
    """What the model of transformers gives for one text."""
    inputs = {"input_ids": input_ids, "labels": input_ids, "output_hidden_states": True, "output_attentions": True}
    output = call(model, inputs)
    return {
        "input_ids": input_ids,
        "hidden_states": np.stack([state[0, -1].numpy() for state in output.hidden_states]).astype(np.float32),
        "attentions": np.stack([pattern[0, :, -1].numpy() for pattern in output.attentions]).astype(np.float32),
        "logits": output.logits[0, -1].numpy().astype(np.float32),
        "loss": np.float32(output.loss),
    }


def main() -> None:
    ours, tokenizer = minineo.load()
    model = oracle_model("GPTNeoForCausalLM", ours.config, ours.params, np.float64)
    arrays = {"version": np.array(version("transformers"))}
    for name, text in TEXTS.items():
        found = values(model, tokenizer(text, return_tensors="np").input_ids)
        arrays |= {f"{name}/{key}": value for key, value in found.items()}
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
