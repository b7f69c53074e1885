"""The functions that run by default: the same as the reference's, with the same signatures, for speed.

They take NumPy arrays of float32 or float64, and hand over to the reference wherever they are asked for more: other
array libraries, 16-bit floats, intermediates. Property tests hold each against its reference.
"""

from minineo.fast import decoding, linear, transformer
from minineo.model.heads import Functions

FAST = Functions(transformer.transformer, linear.linear, decoding.Decoder)
