"""The functions that run by default: the same as the reference's, with the same signatures, for speed.

They take NumPy arrays of float32 or float64. Where more is asked of the transformer, intermediates, dropout or 16-bit
floats, it hands over to the reference. Property tests hold each function against its reference.
"""

from minineo.fast import decoding, linear, transformer
from minineo.model.heads import Functions

FAST = Functions(transformer.transformer, linear.linear, decoding.Decoder)
