"""Write what transformers and tokenizers say about the bundled model, for tests/test_bundled_model.py.

Run it as `PYTHONPATH=tests python tests/golden/write_bundled_model.py`.

`bundled_model.json`: ids of a passage and the loss on it, ids of three prompts and their greedy continuations.
`bundled_model.npz`: logits of the first prompt. The model runs in float64, its results are rounded to float32.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from hugging_face import call, oracle_model
from tokenizers import ByteLevelBPETokenizer

from minineo.classes import GPTNeoForCausalLM

HERE = Path(__file__).parent
ASSETS = HERE.parents[1] / "minineo" / "assets"
PASSAGE = HERE.parent / "data" / "happy_prince.txt"
PROMPTS = ["Once upon a time", "The king's daughter said,", "Far away, where the swallows fly,"]
NEW_TOKENS = 40
SMALLEST_MARGIN = 1e-3  # between the best token and the next: rounding must not decide


def main() -> None:
    tokenizer = ByteLevelBPETokenizer(str(ASSETS / "vocab.json"), str(ASSETS / "merges.txt"))
    ours = GPTNeoForCausalLM.from_pretrained(ASSETS)
    model = oracle_model("GPTNeoForCausalLM", ours.config, ours.params, np.float64)
    passage = np.array([tokenizer.encode(PASSAGE.read_text(encoding="utf-8")).ids])
    loss = float(call(model, {"input_ids": passage, "labels": passage}).loss)
    prompts = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        continuation = []
        for _ in range(NEW_TOKENS):
            logits = call(model, {"input_ids": np.array([ids + continuation])}).logits[0, -1].numpy()
            second, first = np.sort(logits)[-2:]
            assert first - second > SMALLEST_MARGIN, f"{prompt!r}: choose another prompt"
            continuation.append(int(np.argmax(logits)))
        prompts.append({"text": prompt, "ids": ids, "continuation": continuation})
        print(prompt + "|" + tokenizer.decode(continuation))
    golden = {"passage": passage[0].tolist(), "loss": loss, "prompts": prompts}
    (HERE / "bundled_model.json").write_text(json.dumps(golden) + "\n", encoding="utf-8")
    logits = call(model, {"input_ids": np.array([prompts[0]["ids"]])}).logits.numpy().astype(np.float32)
    np.savez_compressed(HERE / "bundled_model.npz", logits=logits)


if __name__ == "__main__":
    main()
