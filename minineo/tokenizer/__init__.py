"""Text <-> token ids: pre-tokenisation, byte-level BPE, learning merges, and `GPT2Tokenizer`.

The path of a call: `gpt2` takes it. `inputs` makes a list of what came (a text, a pair, a batch), and for each text
`codec` lets `added` find the special tokens in it, `pretokenize` cut the rest into words, and `bpe` turn each word into
ids by applying merges. `batch` cuts and pads the ids to rows, and `encoding` gives them their names; where tokens come
from in the text, `align` works out when somebody asks.

The way back: `vocabulary` knows the bytes of each id, `codec` joins them, and `utf8` makes text of them; `stream` does
that one id at a time. Beside the path, `learn` makes a vocabulary and its merges from texts, `files` reads them and
`saving` writes them.
"""

from minineo.tokenizer.added import AddedToken
from minineo.tokenizer.encoding import BatchEncoding
from minineo.tokenizer.gpt2 import GPT2Tokenizer
from minineo.tokenizer.learn import learn_bpe
from minineo.tokenizer.stream import StreamDecoder

__all__ = ["AddedToken", "BatchEncoding", "GPT2Tokenizer", "StreamDecoder", "learn_bpe"]
