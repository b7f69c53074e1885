"""Byte-pair encoding: words -> token ids by applying learned merges in order (Gage, 1994; Sennrich et al., 2016).

A word begins as one token per UTF-8 byte. Of all neighbours that some merge joins, the pair whose merge was learned
first (the lowest rank; the leftmost of several) becomes one token, and so on until no merge applies.
"""

import heapq
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

from minineo.quoting import quote
from minineo.tokenizer.pretokenize import BYTE_TO_CHARACTER, chunks, pretokenize

Pair = tuple[int, int]

NO_MERGE = 1 << 62
"""A rank above every real one, for neighbours that no merge joins."""

LONG_WORD = 64
"""Bytes from which on a heap beats looking through all pairs for the lowest rank."""

LARGEST_CACHE = 1 << 17
"""Words remembered. A book has some tens of thousands, so this is seldom full; it bounds memory near 40 MB."""


class BytePairEncoder:
    """A vocabulary with its merges, ready to encode.

    `vocab` maps tokens (spelled as in vocabulary files) to ids, `merges` lists the pairs of tokens to join, first
    learned first. Bytes may be missing from the vocabulary: a text that needs one raises a `ValueError`.
    """

    def __init__(self, vocab: dict[str, int], merges: Sequence[tuple[str, str]]) -> None:
        self.byte_ids = {byte: vocab[name] for byte, name in BYTE_TO_CHARACTER.items() if name in vocab}
        self.ranks: dict[Pair, int] = {}
        self.merged: list[int] = []
        """The id that the merge of each rank makes."""
        for rank, (left, right) in enumerate(merges):
            for token in (left, right, left + right):
                if token not in vocab:
                    raise ValueError(
                        f"merge {rank + 1}, {quote(left)} + {quote(right)}, needs the token {quote(token)}, "
                        "which is not in the vocabulary: vocabulary and merges do not belong together"
                    )
            self.ranks[vocab[left], vocab[right]] = rank
            self.merged.append(vocab[left + right])
        self._cache = _Cache(self)

    def encode(self, text: str) -> list[int]:
        """Ids of a text without special tokens."""
        ids: list[int] = []
        for chunk in chunks(text):
            ids.extend(chain.from_iterable(map(self._cache.__getitem__, pretokenize(chunk))))
        return ids

    def encode_words(self, text: str) -> Iterator[tuple[str, Sequence[int]]]:
        """Each word of a text with its ids."""
        for chunk in chunks(text):
            for word in pretokenize(chunk):
                yield word, self._cache[word]

    def encode_word(self, word: str) -> list[int]:
        """Ids of one word. Lone surrogates become the three bytes that UTF-8 would have for them."""
        data = word.encode("utf-8", "surrogatepass")
        try:
            ids = [self.byte_ids[byte] for byte in data]
        except KeyError as missing:
            byte = missing.args[0]
            raise ValueError(
                f"cannot encode {word[:40]!r}: the vocabulary has no token for byte 0x{byte:02X} "
                f"({BYTE_TO_CHARACTER[byte]!r} in vocabulary files); a byte-level vocabulary has all 256"
            ) from None
        merge = merge_short if len(ids) < LONG_WORD else merge_long
        return merge(ids, self.ranks, self.merged)


class _Cache(dict[str, Sequence[int]]):
    """Words seen so far with their ids. As a dictionary that fills itself, a word seen before costs one lookup."""

    def __init__(self, encoder: BytePairEncoder) -> None:
        self.encoder = encoder

    def __missing__(self, word: str) -> Sequence[int]:
        ids = tuple(self.encoder.encode_word(word))
        if len(word) < LONG_WORD:
            if len(self) >= LARGEST_CACHE:
                self.clear()
            self[word] = ids
        return ids

    def __reduce__(self) -> tuple[type["_Cache"], tuple[BytePairEncoder]]:
        return _Cache, (self.encoder,)  # a copy or a pickle starts empty


def merge_short(ids: list[int], ranks: dict[Pair, int], merged: Sequence[int]) -> list[int]:
    """Merge a word of `n` tokens, with one look over all pairs for each merge: O(n^2), the fastest when n is small.

    `ranks` gives the rank of the merge that joins a pair, `merged` the id that the merge of a rank makes.
    """
    ids = list(ids)
    pair_ranks = [ranks.get(pair, NO_MERGE) for pair in pairwise(ids)]
    while pair_ranks and (rank := min(pair_ranks)) < NO_MERGE:
        left = pair_ranks.index(rank)
        ids[left : left + 2] = [merged[rank]]
        del pair_ranks[left]
        if left > 0:
            pair_ranks[left - 1] = ranks.get((ids[left - 1], ids[left]), NO_MERGE)
        if left < len(pair_ranks):
            pair_ranks[left] = ranks.get((ids[left], ids[left + 1]), NO_MERGE)
    return ids


def merge_long(ids: list[int], ranks: dict[Pair, int], merged: Sequence[int]) -> list[int]:
    """Merge like `merge_short`, in O(n log n): a linked list of tokens, and a heap of the pairs that can be merged.

    So a word of a million letters takes seconds. The heap holds `rank * n + position`: the smallest is the
    lowest rank and, among equals, the leftmost. An entry whose pair has changed since is skipped when it comes up.
    """
    ids, n, gone = list(ids), len(ids), -1
    previous, following = list(range(-1, n - 1)), list(range(1, n + 1))
    heap = [ranks[pair] * n + left for left, pair in enumerate(pairwise(ids)) if pair in ranks]
    heapq.heapify(heap)
    while heap:
        rank, left = divmod(heapq.heappop(heap), n)
        right = following[left]
        if right == n or ranks.get((ids[left], ids[right])) != rank:
            continue
        ids[left], ids[right] = merged[rank], gone
        after, before = following[right], previous[left]
        following[left] = after
        if after < n:
            previous[after] = left
            if (pair := (ids[left], ids[after])) in ranks:
                heapq.heappush(heap, ranks[pair] * n + left)
        if before >= 0 and (pair := (ids[before], ids[left])) in ranks:
            heapq.heappush(heap, ranks[pair] * n + before)
    return [token for token in ids if token != gone]
