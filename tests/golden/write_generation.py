"""Write generation.json: what transformers generates for random cases, so that tests without torch can compare.

Run as `python tests/golden/write_generation.py`, with the "oracle" extra installed.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from generation_cases import is_decided, random_case, random_model
from test_generation_oracle import run_theirs, twin


def golden(seed: int, beams: bool) -> dict[str, Any]:
    case = random_case(seed, beams)
    model = random_model(seed, **case["fields"])
    assert is_decided(model, case), f"case {seed} hangs on rounding errors: leave it out"
    theirs = run_theirs(twin(model), case, return_dict_in_generate=True, output_scores=True)
    case["sequences"] = theirs.sequences.tolist()
    case["steps"] = len(theirs.scores)
    if beams:
        case["beam_indices"] = theirs.beam_indices.tolist()
        case["sequences_scores"] = [round(score, 6) for score in theirs.sequences_scores.tolist()]
    return case


def main() -> None:
    warnings.simplefilter("ignore")
    cases = [golden(seed, beams) for beams in (False, True) for seed in range(500, 525)]
    lines = ",\n".join(json.dumps(case) for case in cases)
    Path(__file__).with_name("generation.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
