"""Learning merges from text: byte-pair encoding as a compression of words (Sennrich et al., 2016; bytes: GPT-2).

Every word is a list of tokens, at first one per byte. The pair of neighbours that occurs most often becomes a new
token, everywhere; then the next; until the vocabulary is as large as wanted. Most words do not contain the pair, so
pairs are counted once and then only changed where a merge changes a word. Merges and ids are those that the
byte-level trainer of Hugging Face's `tokenizers` learns on the same text.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import count, pairwise

from minineo.tokenizer.bpe import Pair
from minineo.tokenizer.pretokenize import BYTE_TO_CHARACTER, bytes_to_token, chunks, pretokenize

Vocabulary = dict[str, int]
Merges = list[tuple[str, str]]
Places = set[int]
"""Which words hold a pair, by their index."""


def learn_bpe(
    texts: Iterable[str],
    vocab_size: int,
    special_tokens: Sequence[str] = (),
    min_frequency: int = 2,
    progress: bool = True,
) -> tuple[Vocabulary, Merges]:
    """Learn a vocabulary of at most `vocab_size` tokens, and the merges that make it.

    Ids go to the special tokens first, then to the 256 bytes (in the order of the characters that spell them in
    vocabulary files), then to merged tokens as they are learned. Learning ends early when no pair occurs
    `min_frequency` times. Ties: of pairs that occur equally often, the one with the lowest id on the left comes first,
    then the one with the lowest id on the right. Each text is taken as it is, special tokens in it are ordinary
    text, and no word reaches from one text into the next. `progress` shows bars on standard error.
    """
    _check_arguments(vocab_size, special_tokens, min_frequency)
    counts = count_words(texts, progress)
    tokens = list(dict.fromkeys([*special_tokens, *sorted(BYTE_TO_CHARACTER.values())]))
    merges = learn_merges(counts, tokens, vocab_size, min_frequency, progress)
    return {token: index for index, token in enumerate(tokens)}, merges


def _check_arguments(vocab_size: int, special_tokens: Sequence[str], min_frequency: int) -> None:
    if isinstance(special_tokens, str) or not all(isinstance(token, str) and token for token in special_tokens):
        raise TypeError(f"special_tokens must be a list of strings of at least one character, not {special_tokens!r}")
    if not isinstance(vocab_size, int) or not isinstance(min_frequency, int):
        raise TypeError(f"vocab_size and min_frequency must be integers, not {vocab_size!r} and {min_frequency!r}")
    smallest = 256 + len(set(special_tokens))
    if vocab_size < smallest:
        raise ValueError(
            f"vocab_size {vocab_size} is too small: the 256 bytes and {smallest - 256} special tokens need {smallest}"
        )


def count_words(texts: Iterable[str], progress: bool = True) -> Counter[str]:
    """How often each word occurs in the texts."""
    from tqdm import tqdm  # not above: slow to import, and only learning needs it

    if isinstance(texts, str):
        raise TypeError("texts must be a list (or another iterable) of strings, not one string: pass [text]")
    counts: Counter[str] = Counter()
    with tqdm(desc="reading", unit="char", unit_scale=True, disable=not progress) as bar:
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"texts must hold strings, not {type(text).__name__}: {text!r:.60}")
            for chunk in chunks(text, size=1 << 16):
                counts.update(pretokenize(chunk))
                bar.update(len(chunk))
    return counts


def learn_merges(
    counts: Counter[str], tokens: list[str], vocab_size: int, min_frequency: int, progress: bool = True
) -> Merges:
    """Learn merges on counted words, and append each new token to `tokens`, whose indices are the ids.

    A merge can make a token that is there already (a special one, or one that another merge made): it keeps its id.
    """
    from tqdm import tqdm  # not above: slow to import, and only learning needs it

    ids = {token: index for index, token in enumerate(tokens)}
    words = [[ids[character] for character in bytes_to_token(word.encode("utf-8", "surrogatepass"))] for word in counts]
    queue = PairQueue(words, list(counts.values()))
    merges: Merges = []
    with tqdm(desc="merging", unit="token", total=vocab_size, initial=len(tokens), disable=not progress) as bar:
        while len(tokens) < vocab_size and (best := queue.pop(min_frequency)):
            pair, places = best
            token = tokens[pair[0]] + tokens[pair[1]]
            if token not in ids:
                ids[token] = len(tokens)
                tokens.append(token)
                bar.update()
            merges.append((tokens[pair[0]], tokens[pair[1]]))
            queue.merge(pair, ids[token], places)
    return merges


class PairQueue:
    """Words as lists of ids, the count of each pair of neighbours, and a queue with the most frequent pair first.

    An entry of the queue is (-count, pair, serial, places). Merging a pair also takes away pairs that overlap it,
    so an entry can be out of date when it comes up: it then goes back with its present count.
    """

    def __init__(self, words: list[list[int]], word_counts: list[int]) -> None:
        self.words = words
        self.word_counts = word_counts
        self.pair_counts: Counter[Pair] = Counter()
        self.entries: list[tuple[int, Pair, int, Places]] = []
        self.serial = count()  # between equal pairs: places have no order
        places: defaultdict[Pair, Places] = defaultdict(set)
        for index, (word, word_count) in enumerate(zip(words, word_counts, strict=True)):
            for pair in pairwise(word):
                self.pair_counts[pair] += word_count
                places[pair].add(index)
        self._push(places)

    def _push(self, places: dict[Pair, Places]) -> None:
        for pair, where in places.items():
            if self.pair_counts[pair] > 0:
                heapq.heappush(self.entries, (-self.pair_counts[pair], pair, next(self.serial), where))

    def pop(self, min_frequency: int) -> tuple[Pair, Places] | None:
        """Take out the most frequent pair and where it is; None when no pair is frequent enough."""
        while self.entries:
            negative_count, pair, serial, places = heapq.heappop(self.entries)
            if -negative_count == self.pair_counts[pair]:
                return (pair, places) if -negative_count >= max(min_frequency, 1) else None
            heapq.heappush(self.entries, (-self.pair_counts[pair], pair, serial, places))
        return None

    def merge(self, pair: Pair, token: int, places: Places) -> None:
        """Replace the pair by the token in the words at these places, and count and queue the pairs that this makes."""
        new_places: defaultdict[Pair, Places] = defaultdict(set)
        for index in places:
            self.words[index], changes = merge_pair(self.words[index], pair, token)
            for changed, difference in changes:
                self.pair_counts[changed] += difference * self.word_counts[index]
                if difference > 0:
                    new_places[changed].add(index)
        self._push(new_places)


def merge_pair(word: list[int], pair: Pair, token: int) -> tuple[list[int], list[tuple[Pair, int]]]:
    """Replace a pair by a token everywhere in a word; give the new word and by how much which pair counts change."""
    left, right = pair
    merged: list[int] = []
    changes: list[tuple[Pair, int]] = []
    copied, position, last = 0, 0, len(word) - 1
    while (position := _index(word, left, position, last)) < last:
        if word[position + 1] != right:
            position += 1
            continue
        merged += word[copied:position]
        if merged:
            changes += [((merged[-1], left), -1), ((merged[-1], token), 1)]
        copied = position = position + 2
        merged.append(token)
        if copied <= last:
            changes += [((right, word[copied]), -1), ((token, word[copied]), 1)]
    return merged + word[copied:], changes


def _index(word: list[int], token: int, start: int, stop: int) -> int:
    """Where the token comes next in word[start:stop]; stop, if it does not."""
    try:
        return word.index(token, start, stop)
    except ValueError:
        return stop
