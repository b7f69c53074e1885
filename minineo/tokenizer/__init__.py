"""Text <-> token ids: pre-tokenisation, byte-level BPE, learning merges, and `GPT2Tokenizer`."""

from minineo.tokenizer.added import AddedToken
from minineo.tokenizer.encoding import BatchEncoding
from minineo.tokenizer.gpt2 import GPT2Tokenizer
from minineo.tokenizer.learn import learn_bpe
from minineo.tokenizer.stream import StreamDecoder

__all__ = ["AddedToken", "BatchEncoding", "GPT2Tokenizer", "StreamDecoder", "learn_bpe"]
