"""Three tokenizers with one vocabulary. Each is made anew for every cold run, in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

Merges = Sequence[tuple[str, str]]
Encode = Callable[[str], list[int]]

GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


def own(vocab: dict[str, int], merges: Merges) -> Encode:
    """The tokenizer of minineo, `GPT2Tokenizer`."""
    from minineo import GPT2Tokenizer

    return GPT2Tokenizer(vocab, merges).encode


def hugging_face(vocab: dict[str, int], merges: Merges) -> Encode:
    """`tokenizers`, which is what transformers' tokenizer runs."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return lambda text: tokenizer.encode(text).ids


def openai(vocab: dict[str, int], merges: Merges) -> Encode:
    """`tiktoken`, which merges in the order of the ids."""
    import tiktoken

    from minineo.tokenizer.pretokenize import token_to_bytes

    tokens = [*(name for name in vocab if len(name) == 1), *(left + right for left, right in merges)]
    ranks = {token_to_bytes(name): vocab[name] for name in tokens}
    return tiktoken.Encoding(
        "benchmark", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={}
    ).encode_ordinary


class Encoder:
    """One of them, not used yet."""

    def __init__(self, make: str, vocab: dict[str, int], merges: Merges) -> None:
        self.encode = {"minineo": own, "tokenizers": hugging_face, "tiktoken": openai}[make](vocab, merges)

    def time(self, text: str) -> float:
        """Seconds to encode a text."""
        start = time.perf_counter()
        self.encode(text)
        return time.perf_counter() - start

    def ids(self, text: str) -> list[int]:
        """The ids, for comparing peers."""
        return list(self.encode(text))


class Learner:
    """Learns a vocabulary, with minineo or with the trainer of `tokenizers`."""

    def __init__(self, which: str, texts: list[str]) -> None:
        self.learn = {"minineo": self._own, "tokenizers": self._hugging_face}[which]
        self.texts = texts

    def time(self, merges: int) -> tuple[float, dict[str, int]]:
        """Seconds to learn that many merges, and the vocabulary."""
        start = time.perf_counter()
        vocab = self.learn(256 + 1 + merges)
        return time.perf_counter() - start, vocab

    def _own(self, vocab_size: int) -> dict[str, int]:
        from minineo import GPT2Tokenizer

        return GPT2Tokenizer.train(self.texts, vocab_size, progress=False).get_vocab()

    def _hugging_face(self, vocab_size: int) -> dict[str, int]:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(self.texts, trainer)
        return dict(tokenizer.get_vocab())
