"""The fast functions for CuPy's arrays: the same signatures as the reference's, with kernels of our own.

The package is named `fast_cupy`, so that nobody takes it for CuPy itself. Its kernels are

- in `kernels.cu`, layers in one pass over their data, where array operations make a dozen: gelu, layer norm, mask with
  softmax;
- in `decoding.cu`, the steps of decoding a token, five launches for a layer, which read each weight once and nothing
  else of size. They are captured once as a CUDA graph and replayed for every token (`minineo.fast_cupy.decoding`).

What they compute is the reference's; float64, activations other than gelu_new, dropout and whoever looks at
intermediates are handed over to it.
"""

from minineo.fast_cupy import transformer
from minineo.layers import linear
from minineo.model.heads import Functions

FAST_CUPY = Functions(transformer.transformer, linear.linear)
