"""GPT-2's tokenizer, which GPT-Neo uses: text <-> token ids, with the interface of Hugging Face's `GPT2Tokenizer`.

tokenizer = GPT2Tokenizer.from_pretrained(directory)
ids = tokenizer("Once upon a time", return_tensors="np").input_ids
text = tokenizer.decode(ids[0])
"""

import os
from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Any, Self

from minineo.location import resolve, split_hub_options
from minineo.tokenizer.added import AddedToken
from minineo.tokenizer.batch import UNLIMITED, Layout, make_rows, pad_rows, resolve_lengths
from minineo.tokenizer.codec import Codec
from minineo.tokenizer.encoding import FIELDS, BatchEncoding, Encoding, to_arrays
from minineo.tokenizer.files import Merges, check_merge, files_of, read_directory, read_merges, read_vocab
from minineo.tokenizer.inputs import Text, as_batch
from minineo.tokenizer.learn import learn_bpe
from minineo.tokenizer.saving import make_tokenizer_json, write_directory
from minineo.tokenizer.vocabulary import SPECIAL_TOKENS_ATTRIBUTES

END_OF_TEXT = "<|endoftext|>"


class GPT2Tokenizer(Codec):
    """Byte-level BPE with GPT-2's pre-tokenisation.

    `decode(encode(text)) == text` for every string, unless an added token strips the space around it (`lstrip`,
    `rstrip`). Text needs no unknown token: every byte is in the vocabulary. (With a vocabulary that lacks some bytes,
    a text that needs them raises a `ValueError`.) Lone surrogates, which UTF-8 does not have, are encoded as the
    three bytes that would be theirs, and decoded again; where `transformers` refuses such a text and `tiktoken`
    puts U+FFFD in their place, nothing is lost here.

    `vocab` maps tokens to ids and `merges` lists pairs of tokens (or each is the path of its file). A special token
    that is not in the vocabulary is added to it. Special tokens written out in a text become the special token;
    with `split_special_tokens=True` (here, or in a call) they stay ordinary text, as text from strangers should.
    `add_prefix_space` puts a space before a text that has none, so that its first word is encoded as inside
    a text. `errors` is what decoding does with bytes that are not UTF-8: "replace" (U+FFFD), "strict", "ignore".
    """

    model_input_names = ("input_ids", "attention_mask")
    is_fast = True  # in the sense of Hugging Face: offsets and word ids are available

    def __init__(
        self,
        vocab: dict[str, int] | str | os.PathLike[str],
        merges: Sequence[Any] | str | os.PathLike[str],
        errors: str = "replace",
        unk_token: AddedToken | str | None = END_OF_TEXT,
        bos_token: AddedToken | str | None = END_OF_TEXT,
        eos_token: AddedToken | str | None = END_OF_TEXT,
        pad_token: AddedToken | str | None = None,
        add_prefix_space: bool = False,
        *,
        sep_token: AddedToken | str | None = None,
        cls_token: AddedToken | str | None = None,
        mask_token: AddedToken | str | None = None,
        extra_special_tokens: Sequence[AddedToken | str] = (),
        added_tokens_decoder: dict[int, AddedToken] | None = None,
        add_bos_token: bool = False,
        add_eos_token: bool = False,
        split_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,
        model_max_length: int | None = None,
        padding_side: str = "right",
        truncation_side: str = "right",
        name_or_path: str = "",
    ) -> None:
        vocab = dict(vocab) if isinstance(vocab, dict) else read_vocab(vocab)
        special = {
            "bos_token": bos_token,
            "eos_token": eos_token,
            "unk_token": unk_token,
            "sep_token": sep_token,
            "pad_token": pad_token,
            "cls_token": cls_token,
            "mask_token": mask_token,
        }
        self._merges: Merges = (
            read_merges(merges)
            if isinstance(merges, str | os.PathLike)
            else [check_merge(merge, f"merges[{index}]") for index, merge in enumerate(merges)]
        )
        added = added_tokens_decoder or {}
        super().__init__(vocab, self._merges, added, special, extra_special_tokens, add_prefix_space, errors)
        self.add_bos_token = add_bos_token
        self.add_eos_token = add_eos_token
        self.split_special_tokens = split_special_tokens
        self.clean_up_tokenization_spaces = clean_up_tokenization_spaces
        self.model_max_length = UNLIMITED if model_max_length is None else int(model_max_length)
        self.padding_side = padding_side
        self.truncation_side = truncation_side
        self.name_or_path = name_or_path
        self.init_kwargs: dict[str, Any] = {}
        """What tokenizer_config.json had beyond the arguments; it is written back."""

    # -- files -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str], **arguments: Any) -> Self:
        """Read a tokenizer from a directory, or of a model on the Hub.

        `arguments` of the class override what the files say; `revision`, `token`, `cache_dir`, `local_files_only` and
        `force_download` are for the Hub (`minineo.location.HubOptions`).
        """
        hub, arguments = split_hub_options(arguments)
        directory = resolve(name_or_path, ["tokenizer"], **hub)
        settings, others = read_directory(directory)
        known = set(signature(cls.__init__).parameters) - {"self"}
        if unknown := sorted(set(arguments) - known):
            raise TypeError(f"unknown argument {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        try:
            tokenizer = cls(**{"name_or_path": str(name_or_path), **settings, **arguments})
        except ValueError as error:
            raise ValueError(f"cannot make a tokenizer of {files_of(directory)}: {error}") from error
        tokenizer.init_kwargs = others
        return tokenizer

    def save_pretrained(self, directory: str | os.PathLike[str]) -> tuple[str, ...]:
        """Write the tokenizer's files, for this class and for `transformers`; return their paths."""
        before = [self.bos_token] if self._around()[0] else []
        after = [self.eos_token] if self._around()[1] else []
        content = make_tokenizer_json(
            self._base, self._merges, self.added_tokens_decoder, self.add_prefix_space, (before, after)
        )
        config = {
            **self.init_kwargs,
            **self._special,
            "tokenizer_class": "GPT2Tokenizer",
            "add_bos_token": self.add_bos_token,
            "add_eos_token": self.add_eos_token,
            "add_prefix_space": self.add_prefix_space,
            "clean_up_tokenization_spaces": self.clean_up_tokenization_spaces,
            "errors": self.errors,
            "model_max_length": self.model_max_length,
            "padding_side": self.padding_side,
            "split_special_tokens": self.split_special_tokens,
            "truncation_side": self.truncation_side,
        }
        if self._extra:
            config["extra_special_tokens"] = self._extra
        return write_directory(directory, content, config)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        min_frequency: int = 2,
        progress: bool = True,
        **arguments: Any,
    ) -> Self:
        """Learn a tokenizer from texts; see `learn_bpe` for the order of ids and for ties.

        The vocabulary has at most `vocab_size` tokens, special ones and the 256 bytes included. Further arguments are
        those of the class, such as `bos_token`.
        """
        vocab, merges = learn_bpe(texts, vocab_size, special_tokens, min_frequency, progress)
        default = END_OF_TEXT if END_OF_TEXT in special_tokens else None
        arguments = {"bos_token": default, "eos_token": default, "unk_token": default, **arguments}
        named = {str(arguments[name]) for name in SPECIAL_TOKENS_ATTRIBUTES if arguments.get(name) is not None}
        arguments.setdefault("extra_special_tokens", [token for token in special_tokens if token not in named])
        return cls(vocab, merges, **arguments)

    @property
    def merges(self) -> Merges:
        """The pairs of tokens that are joined, first learned first."""
        return list(self._merges)

    # -- text -> model inputs ----------------------------------------------------------------------------------------

    def _around(self) -> tuple[list[int], list[int]]:
        """The ids that go before and after each text."""
        before = [self.bos_token_id] if self.add_bos_token and self.bos_token is not None else []
        after = [self.eos_token_id] if self.add_eos_token and self.eos_token is not None else []
        return before, after

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many tokens a call puts around a text, or around a pair."""
        return sum(map(len, self._around())) * (2 if pair else 1)

    def __call__(
        self,
        text: Any,
        text_pair: Any = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        truncation_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool = False,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        split_special_tokens: bool | None = None,
    ) -> BatchEncoding:
        """Encode a text, a pair of texts, or a batch (a list) of either, ready for a model.

        The result has `input_ids` and `attention_mask`, lists of ints for one text and lists of those for a batch;
        with `return_tensors="np"`, arrays of shape (rows, tokens). `padding` is True or "longest" (to the longest
        row) or "max_length"; `truncation` is True or "longest_first", "only_first", "only_second" (of a pair);
        without `max_length` they go by `model_max_length`. Padding needs a `pad_token`. What truncation cuts off
        comes as further rows with `return_overflowing_tokens`, each beginning with `stride` tokens of the one before;
        `overflow_to_sample_mapping` then says which text a row is from.
        """
        if return_tensors not in (None, "np"):
            raise ValueError(
                f"return_tensors={return_tensors!r} is not supported: minineo computes with NumPy arrays, "
                "use return_tensors='np' (torch.from_numpy and the like convert them), or None for lists"
            )
        plan = Layout(
            *resolve_lengths(padding, truncation, max_length, self.model_max_length),
            stride,
            pad_to_multiple_of,
            self.padding_side if padding_side is None else padding_side,
            self.truncation_side if truncation_side is None else truncation_side,
        )
        split = self.split_special_tokens if split_special_tokens is None else split_special_tokens
        around = self._around() if add_special_tokens else ([], [])
        pairs, batched = as_batch(text, text_pair, is_split_into_words)
        rows, samples = self._make_rows(pairs, plan, around, split, return_overflowing_tokens)
        wanted = {
            "input_ids": True,
            "token_type_ids": return_token_type_ids,
            "attention_mask": return_attention_mask is not False,
            "special_tokens_mask": return_special_tokens_mask,
            "offset_mapping": return_offsets_mapping,
            "length": return_length,
        }
        data = {name: [FIELDS[name](row) for row in rows] for name, asked in wanted.items() if asked}
        if return_overflowing_tokens:
            data["overflow_to_sample_mapping"] = samples
        if return_tensors == "np":
            return BatchEncoding(dict(to_arrays(data)), rows)
        if batched or return_overflowing_tokens:
            return BatchEncoding(dict(data), rows)
        return BatchEncoding({name: value if name == "length" else value[0] for name, value in data.items()}, rows)

    def _make_rows(
        self,
        pairs: list[tuple[Text, Text | None]],
        plan: Layout,
        around: tuple[list[int], list[int]],
        split_special_tokens: bool,
        overflow: bool,
    ) -> tuple[list[Encoding], list[int]]:
        """Lay out all texts; with `overflow`, keep the rows of what was cut off. Also says which text a row is from."""
        rows: list[Encoding] = []
        samples: list[int] = []
        longest = 0
        for sample, (text, text_pair) in enumerate(pairs):
            first = self.tokenize_text(text, split_special_tokens)
            second = None if text_pair is None else self.tokenize_text(text_pair, split_special_tokens)
            made = make_rows(first, second, *around, plan)
            made = made if overflow else made[:1]
            rows += [Encoding(tuple(spans), self.convert_ids_to_tokens) for spans in made]
            samples += [sample] * len(made)
            longest = max(longest, sum(len(span.ids) for span in made[0]))
        if plan.padding != "do_not_pad":
            rows = pad_rows(rows, longest, self._pad_id(), plan)
        return rows, samples

    def _pad_id(self) -> int:
        if self.pad_token_id is None:
            raise ValueError(
                "padding needs a padding token, and this tokenizer has none: choose one, such as "
                "tokenizer.pad_token = tokenizer.eos_token, or add one: "
                "tokenizer.add_special_tokens({'pad_token': '[PAD]'})"
            )
        return int(self.pad_token_id)

    def encode(self, text: Any, text_pair: Any = None, **arguments: Any) -> Any:
        """Ids of a text: `input_ids` of a call with the same arguments."""
        return self(text, text_pair, **arguments)["input_ids"]

    def tokenize(self, text: Any, pair: Any = None, add_special_tokens: bool = False, **arguments: Any) -> list[str]:
        """Tokens of a text, spelled as in the vocabulary."""
        return self(text, pair, add_special_tokens=add_special_tokens, **arguments).tokens()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(name_or_path={self.name_or_path!r}, vocab_size={self.vocab_size}, "
            f"len={len(self)}, model_max_length={self.model_max_length}, padding_side={self.padding_side!r}, "
            f"truncation_side={self.truncation_side!r}, special_tokens={self.special_tokens_map})"
        )
