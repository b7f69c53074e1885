"""Write what `tokenizers` says about tests/data/scripts.txt, for tests/test_bpe.py and tests/test_tokenizer_learn.py.

Run it as `python tests/golden/write_tokenizer.py`. `lines` and `whole`: ids with tests/data/vocabulary, line by line
and of the file at once; `merges`: what its trainer learns on the lines, 600 tokens with one special token.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer

HERE = Path(__file__).parent
VOCABULARY = HERE.parent / "data" / "vocabulary"


def main() -> None:
    text = (HERE.parent / "data" / "scripts.txt").read_bytes().decode()
    tokenizer = ByteLevelBPETokenizer(str(VOCABULARY / "vocab.json"), str(VOCABULARY / "merges.txt"))
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        text.split("\n"), vocab_size=600, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False
    )
    content = {
        "lines": [tokenizer.encode(line).ids for line in text.split("\n")],
        "whole": tokenizer.encode(text).ids,
        "merges": json.loads(trained.to_str())["model"]["merges"],
        "vocab": sorted(trained.get_vocab(), key=trained.get_vocab().__getitem__),
    }
    (HERE / "tokenizer.json").write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
