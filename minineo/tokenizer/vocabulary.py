"""Which tokens there are: the learned vocabulary, the tokens added to it, and the names of special ones.

`GPT2Tokenizer` inherits these names, which are those of Hugging Face's tokenizers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import index as as_index
from typing import Any

from minineo.quoting import quote
from minineo.tokenizer.added import AddedToken, AddedTokenFinder
from minineo.tokenizer.pretokenize import token_to_bytes

SPECIAL_TOKENS_ATTRIBUTES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


def _special_token(name: str) -> Any:
    """Make the attribute that holds a special token (a string, or None)."""
    return property(lambda self: self._special[name], lambda self, value: self._set_special(name, value))


def _special_token_id(name: str) -> Any:
    """Make the attribute that holds a special token's id."""

    def get(self: "Vocabulary") -> int | None:
        token = self._special[name]
        return None if token is None else self._ids[token]

    def put(self: "Vocabulary", value: int | None) -> None:
        self._set_special(name, None if value is None else self._token(value))

    return property(get, put)


class Vocabulary:
    """Tokens and their ids, both ways.

    `vocab` maps the learned tokens to ids. `added` maps further ids to tokens that are found in a text before any
    merge. `special` maps names (`pad_token`, ...) to tokens; those that do not exist yet are added at the end.
    """

    bos_token = _special_token("bos_token")
    eos_token = _special_token("eos_token")
    unk_token = _special_token("unk_token")
    sep_token = _special_token("sep_token")
    pad_token = _special_token("pad_token")
    cls_token = _special_token("cls_token")
    mask_token = _special_token("mask_token")
    bos_token_id = _special_token_id("bos_token")
    eos_token_id = _special_token_id("eos_token")
    unk_token_id = _special_token_id("unk_token")
    sep_token_id = _special_token_id("sep_token")
    pad_token_id = _special_token_id("pad_token")
    cls_token_id = _special_token_id("cls_token")
    mask_token_id = _special_token_id("mask_token")

    def __init__(
        self,
        vocab: dict[str, int],
        added: dict[int, AddedToken],
        special: dict[str, AddedToken | str | None],
        extra_special_tokens: Sequence[AddedToken | str] = (),
    ) -> None:
        self._base = vocab
        self._ids = dict(vocab)
        self._tokens = {index: token for token, index in vocab.items()}
        if len(self._tokens) < len(vocab):
            duplicate = next(token for token, index in vocab.items() if self._tokens[index] != token)
            other = self._tokens[vocab[duplicate]]
            raise ValueError(f"the tokens {quote(duplicate)} and {quote(other)} have the same id {vocab[duplicate]}")
        self._bytes = {index: token_to_bytes(token) for token, index in vocab.items()}
        self._next_id = max(self._tokens, default=-1) + 1
        self._added: dict[int, AddedToken] = {}
        for index, token in sorted(added.items()):
            self._add(token, index)
        self._special: dict[str, str | None] = dict.fromkeys(SPECIAL_TOKENS_ATTRIBUTES)
        self._extra = [str(AddedToken.of(token)) for token in extra_special_tokens]
        for name, value in special.items():
            self._special[name] = None if value is None else str(value)
        contents = {token.content for token in self._added.values()}
        for value in [*(special[name] for name in SPECIAL_TOKENS_ATTRIBUTES if name in special), *extra_special_tokens]:
            if value is not None and str(value) not in contents:
                self._add(AddedToken.of(value, special=True))
                contents.add(str(value))
        self._find_added()

    def _add(self, token: AddedToken, index: int | None = None) -> None:
        """Make a string an added token: under the id it has, the id given, or the next free one."""
        content = token.content
        known = self._ids.get(content)
        index = known if index is None else index
        index = self._next_id if index is None else index
        if (known is not None and known != index) or self._tokens.get(index, content) != content:
            raise ValueError(
                f"the added token {quote(content)} with id {index} contradicts the vocabulary, where {quote(content)} "
                f"has id {known} and id {index} is {quote(self._tokens.get(index))}"
            )
        data = content.encode("utf-8", "surrogatepass")
        if self._bytes.setdefault(index, data) != data:
            raise ValueError(
                f"{quote(content)} cannot be added: in the vocabulary it already spells the bytes "
                f"{quote(self._bytes[index])}, not these characters, and the two could not be told apart when decoding"
            )
        self._ids[content], self._tokens[index] = index, content
        self._next_id = max(self._next_id, index + 1)
        self._added[index] = token

    def _find_added(self) -> None:
        """Bring what is derived from the added tokens up to date."""
        self._finder = AddedTokenFinder(self._added)
        self._skipped = frozenset(index for index, token in self._added.items() if token.special)

    def _token(self, index: int) -> str:
        try:
            return self._tokens[as_index(index)]
        except KeyError:
            raise ValueError(self._no_such_id(index)) from None

    def _no_such_id(self, index: int) -> str:
        hint = "; labels of -100 have to be replaced by a token id first" if index == -100 else ""
        return f"there is no token with id {index}: ids go from {min(self._tokens)} to {max(self._tokens)}{hint}"

    def _set_special(self, name: str, value: object) -> None:
        if value is not None and not isinstance(value, str | AddedToken):
            raise ValueError(f"{name} must be a string, an AddedToken or None, not {value!r}")
        if value is not None and str(value) not in self._ids:
            raise ValueError(
                f"{name} cannot be {str(value)!r}, which is not in the vocabulary: choose a token that is "
                f"(tokenizer.{name} = tokenizer.eos_token, say), or add it: "
                f"tokenizer.add_special_tokens({{{name!r}: {str(value)!r}}})"
            )
        self._special[name] = None if value is None else str(value)

    # -- sizes and dictionaries ------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Number of learned tokens, without those added later (see `len`)."""
        return len(self._base)

    def __len__(self) -> int:
        """Number of all tokens: what a model's embedding needs rows for."""
        return len(self._ids)

    def __bool__(self) -> bool:
        return True

    def get_vocab(self) -> dict[str, int]:
        """All tokens, added ones included, with their ids."""
        return dict(self._ids)

    @property
    def vocab(self) -> dict[str, int]:
        """All tokens with their ids."""
        return self.get_vocab()

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The added tokens by id."""
        return dict(sorted(self._added.items()))

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """The ids of the added tokens."""
        return {token.content: index for index, token in sorted(self._added.items())}

    def get_added_vocab(self) -> dict[str, int]:
        """The ids of the added tokens."""
        return self.added_tokens_encoder

    # -- special tokens --------------------------------------------------------------------------------------------

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The named special tokens that are set."""
        return {name: token for name, token in self._special.items() if token is not None}

    @property
    def extra_special_tokens(self) -> list[str]:
        """Special tokens without a name of their own."""
        return list(self._extra)

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token once: named ones first."""
        return list(dict.fromkeys([*self.special_tokens_map.values(), *self._extra]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`."""
        return [self._ids[token] for token in self.all_special_tokens]

    def add_tokens(
        self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        """Add tokens that are found in a text before any merge; those not in the vocabulary get the next ids.

        Returns how many became added tokens or changed. The model's embedding must then have `len(tokenizer)` rows.
        """
        if isinstance(new_tokens, str | AddedToken):
            new_tokens = [new_tokens]
        changed = 0
        for value in new_tokens:
            token = AddedToken.of(value, special=special_tokens or None)
            if special_tokens and not token.special:
                token = replace(token, special=True)
            if token not in self._added.values():
                self._add(token)
                changed += 1
        self._find_added()
        return changed

    def add_special_tokens(self, special_tokens_dict: dict[str, Any], replace_extra_special_tokens: bool = True) -> int:
        """Add special tokens and give them their names: `{"pad_token": "[PAD]", "extra_special_tokens": ["<a>"]}`."""
        tokens: list[AddedToken] = []
        extra: list[AddedToken] | None = None
        for name, value in special_tokens_dict.items():
            if name in ("extra_special_tokens", "additional_special_tokens"):
                if isinstance(value, str) or not isinstance(value, Sequence):
                    raise ValueError(f"{name} must be a list of tokens, not {value!r}")
                extra = [AddedToken.of(token, special=True) for token in value]
                tokens += extra
            elif name in SPECIAL_TOKENS_ATTRIBUTES:
                tokens.append(AddedToken.of(value, special=True))
            else:
                known = ", ".join((*SPECIAL_TOKENS_ATTRIBUTES, "extra_special_tokens"))
                raise ValueError(f"there is no special token with the name {name!r}; the names are {known}")
        changed = self.add_tokens(tokens, special_tokens=True)
        for name in SPECIAL_TOKENS_ATTRIBUTES:
            if name in special_tokens_dict:
                self._special[name] = str(special_tokens_dict[name])
        if extra is not None:
            kept = [] if replace_extra_special_tokens and extra else self._extra
            self._extra = list(dict.fromkeys([*kept, *map(str, extra)]))
        return changed

    # -- tokens <-> ids --------------------------------------------------------------------------------------------

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> Any:
        """The id of a token, or the ids of several; a token that does not exist has the id of `unk_token` (or None)."""
        if isinstance(tokens, str):
            return self._ids.get(tokens, self.unk_token_id)
        return [self._ids.get(token, self.unk_token_id) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or the tokens of several."""
        ids = ids.tolist() if hasattr(ids, "tolist") else ids
        if isinstance(ids, int):
            return self._token(ids)
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._token(index) for index in ids if index not in skipped]

    def token_bytes(self, index: int) -> bytes:
        """The bytes that a token id stands for; a character may need those of several tokens."""
        try:
            return self._bytes[as_index(index)]
        except KeyError:
            raise ValueError(self._no_such_id(index)) from None
