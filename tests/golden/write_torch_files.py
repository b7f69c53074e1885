"""Writes tests/data/torch: a state dict as torch.save writes it, in both formats, and its numbers for NumPy.

Needs torch; the files there were written by torch 2 (see `zip.bin`, `old.bin`). Run it from the root of a clone:

    python tests/golden/write_torch_files.py
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent.parent / "data" / "torch"


def state_dict() -> OrderedDict[str, torch.Tensor]:
    """Every kind of number and of view that a checkpoint has."""
    torch.manual_seed(0)
    matrix = torch.randn(5, 4)
    state = OrderedDict(
        matrix=matrix,
        tied=matrix,
        transposed=matrix.T,
        cut_out=matrix[1:4, ::2],
        scalar=torch.tensor(-1e9),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.randn(3)),
        half=torch.randn(3).half(),
        bfloat16=torch.randn(3).bfloat16(),
        double=torch.randn(2).double(),
        mask=torch.ones(1, 1, 3, 3).tril().bool(),
        old_mask=torch.ones(1, 1, 3, 3).tril().byte(),
        positions=torch.arange(4),
        int32=torch.arange(4).int(),
    )
    state._metadata = OrderedDict({"": {"version": 1}})
    return state


def main() -> None:
    """Write the three files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    state = state_dict()
    torch.save(state, FOLDER / "zip.bin")
    torch.save(state, FOLDER / "old.bin", _use_new_zipfile_serialization=False)
    # what minineo's `cast` makes of them: floating-point numbers are float32, others stay what they are
    arrays = {name: (t.float() if t.is_floating_point() else t).detach().numpy() for name, t in state.items()}
    np.savez(FOLDER / "expected.npz", **arrays)


if __name__ == "__main__":
    main()
