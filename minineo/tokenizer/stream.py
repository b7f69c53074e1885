"""Text from token ids one by one: what has become certain is given out, half a character is kept back."""

import codecs
from typing import TYPE_CHECKING

from minineo.tokenizer.utf8 import codec_errors

if TYPE_CHECKING:
    from minineo.tokenizer.gpt2 import GPT2Tokenizer


class StreamDecoder:
    """Decodes ids as they are generated. All pieces joined are `tokenizer.decode` of all ids.

    A token may end within a character, so `put` keeps back the bytes of an unfinished one (three at most). It waits for
    nothing else: bytes that can no longer become a character come out as U+FFFD at once, and neither spaces nor line
    ends are waited for.
    """

    def __init__(self, tokenizer: "GPT2Tokenizer", skip_special_tokens: bool = True) -> None:
        self.tokenizer = tokenizer
        self.skip_special_tokens = skip_special_tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")(codec_errors(tokenizer.errors))

    def put(self, token_id: int) -> str:
        """Take the next token id; give the text that is certain now (often a word, sometimes nothing)."""
        return self._decoder.decode(self.tokenizer.decode_bytes([token_id], self.skip_special_tokens))

    def end(self) -> str:
        """Give what is left: U+FFFD for a character that was never finished, or nothing. Then start anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
