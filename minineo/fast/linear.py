"""Linear layer, fast: one matrix product for the whole batch, in the way that suits its number of rows."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minineo.arrays import Array
from minineo.fast.threads import count, each

FEW, SOME = 24, 64  # rows
WIDE = 8  # times D: turning a result of more columns than that costs more than it saves
# OpenBLAS reads matrices where they lie, without packing them first, if the product has no more than so many numbers
# (measured: 1,200) and takes no more than so many multiplications.
SMALL_RESULT, SMALL_WORK = 1_000, 1_000_000
WORTH_SLICING = 1 << 17  # numbers in a weight: a smaller one is multiplied before its slices are made
WORTH_SHARING = 1 << 19  # numbers in a weight: reading 2 MiB takes longer than waking another thread for it


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """As `minineo.layers.linear.linear`.

    NumPy multiplies a stack of matrices one by one, and reads the whole weight for each. As a single matrix of
    batch times positions rows, it is read once.
    """
    y = product(x.reshape(-1, x.shape[-1]), weight)
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[0])


def product(x: Array, weight: Array, out: Array | None = None) -> Array:
    """Multiply x (N, D) by weight.T of weight (M, D), into `out` (N, M) where it is given.

    BLAS repacks both matrices before it multiplies them, which pays where each number is used often. With one row
    nothing is repacked, and with hundreds it does not matter. Between them the weight, which is by far the larger, is
    - for a few rows, such as those of a batch that is decoded, taken in slices so small that BLAS reads them in place,
      by all threads: up to three times as fast with AVX-512, about as fast with older instructions;
    - for some more the left factor: BLAS divides that one more finely, and the threads wait less.
    """
    N, D = x.shape
    if out is None:
        out = np.empty((N, len(weight)), np.result_type(x, weight))
    if N <= 1 or N > SOME or weight.size < WORTH_SLICING:
        return np.matmul(x, weight.T, out=out)
    rows = min(SMALL_RESULT // N, SMALL_WORK // (N * D)) // 8 * 8
    if N > FEW or rows == 0:
        if len(weight) > WIDE * D:
            return np.matmul(x, weight.T, out=out)
        out[...] = np.matmul(weight, x.T).T
        return out
    parts = count() if weight.size >= WORTH_SHARING else 1
    step = -(-len(weight) // parts // rows) * rows
    each(lambda start: _in_slices(x, weight[start : start + step], rows, out[:, start:]), range(0, len(weight), step))
    return out


def _in_slices(x: Array, weight: Array, rows: int, out: Array) -> None:
    """Multiply x by weight.T into the first columns of out (N, ...), `rows` rows of the weight at a time."""
    (N, D), whole = x.shape, len(weight) // rows
    size = out.itemsize
    slices = as_strided(out, (whole, N, rows), (rows * size, out.strides[0], size))
    np.matmul(x, weight[: whole * rows].reshape(whole, rows, D).swapaxes(1, 2), out=slices)
    if len(weight) > whole * rows:
        np.matmul(x, weight[whole * rows :].T, out=out[:, whole * rows : len(weight)])
