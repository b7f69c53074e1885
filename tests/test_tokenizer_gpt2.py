"""GPT2Tokenizer: the interface, on a vocabulary that stays when the bundled model is trained anew."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minineo.tokenizer import AddedToken, BatchEncoding, GPT2Tokenizer

VOCABULARY = Path(__file__).parent / "data" / "vocabulary"
SCRIPTS = Path(__file__).parent / "data" / "scripts.txt"
END = 4095

shared = GPT2Tokenizer.from_pretrained(VOCABULARY)


@pytest.fixture
def tokenizer() -> GPT2Tokenizer:
    """A tokenizer of its own for each test, since tests change it."""
    return copy.deepcopy(shared)


# -- text and back ---------------------------------------------------------------------------------------------------

every_character = st.characters()  # lone surrogates included
snippets = st.sampled_from(
    [
        "<|endoftext|>",
        "<|endoftext",
        "|>",
        " ",
        "  ",
        "\r\n",
        "'s",
        "’s",
        "日本",
        "👩‍👩‍👧",
        "e\u0301",
        "\ud83d",
        "\ude00",
        "Ġ",
        "\x00",
    ]
)
anything = st.one_of(st.text(every_character), st.lists(st.one_of(snippets, st.text(every_character))).map("".join))


@given(anything)
@settings(deadline=None, max_examples=1000)
def test_decode_gives_every_string_back(text: str) -> None:
    assert shared.decode(shared.encode(text)) == text
    assert shared.decode(shared.encode(text, split_special_tokens=True)) == text
    assert shared.decode(np.array(shared.encode(text), dtype=np.int64)) == text


@given(anything, st.booleans(), st.booleans())
@settings(deadline=None, max_examples=300)
def test_offsets_cover_the_text_and_tokens_spell_it(text: str, prefix: bool, split: bool) -> None:
    tokenizer = GPT2Tokenizer(shared._base, shared._merges, add_prefix_space=prefix)
    encoding = tokenizer(text, return_offsets_mapping=True, split_special_tokens=split)
    offsets = encoding.offset_mapping
    assert len(offsets) == len(encoding.input_ids) == len(encoding.word_ids())
    assert {place for start, stop in offsets for place in range(start, stop)} == set(range(len(text)))
    assert offsets == sorted(offsets)
    assert tokenizer.convert_tokens_to_string(encoding.tokens()) == tokenizer.decode(encoding.input_ids)
    for index, (start, stop) in zip(encoding.input_ids, offsets, strict=True):
        whole = tokenizer.token_bytes(index).decode("utf-8", "ignore")
        assert whole.removeprefix(" ") in text[start:stop]


def test_the_file_of_many_scripts_comes_back() -> None:
    text = SCRIPTS.read_bytes().decode()
    assert shared.decode(shared(text).input_ids) == text


# -- special and added tokens ----------------------------------------------------------------------------------------


def test_special_tokens_in_a_text(tokenizer: GPT2Tokenizer) -> None:
    assert tokenizer.encode("a<|endoftext|>b") == [64, END, 65]
    assert END not in tokenizer.encode("a<|endoftext|>b", split_special_tokens=True)
    tokenizer.split_special_tokens = True
    assert END not in tokenizer.encode("a<|endoftext|>b")
    assert END in tokenizer.encode("a<|endoftext|>b", split_special_tokens=False)


def test_names_of_special_tokens(tokenizer: GPT2Tokenizer) -> None:
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token) == ("<|endoftext|>",) * 3
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (END,) * 3
    assert tokenizer.pad_token is tokenizer.pad_token_id is tokenizer.mask_token is None
    assert tokenizer.all_special_tokens == ["<|endoftext|>"]
    assert tokenizer.all_special_ids == [END]


def test_setting_the_padding_token(tokenizer: GPT2Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"tokenizer.pad_token = tokenizer.eos_token"):
        tokenizer(["a", "b c"], padding=True)
    tokenizer.pad_token = tokenizer.eos_token
    assert tokenizer.pad_token_id == END
    assert tokenizer(["a", "b c"], padding=True).input_ids == [[64, END], tokenizer.encode("b c")]
    tokenizer.pad_token_id = 0
    assert tokenizer.pad_token == "!"
    tokenizer.pad_token = None
    assert tokenizer.pad_token_id is None
    with pytest.raises(ValueError, match=r"add_special_tokens\({'pad_token': '\[PAD\]'}\)"):
        tokenizer.pad_token = "[PAD]"
    assert tokenizer.add_special_tokens({"pad_token": "[PAD]"}) == 1
    assert (tokenizer.pad_token, tokenizer.pad_token_id, len(tokenizer), tokenizer.vocab_size) == (
        "[PAD]",
        4096,
        4097,
        4096,
    )
    assert tokenizer.encode("[PAD]") == [4096]
    assert tokenizer.decode([64, 4096], skip_special_tokens=True) == "a"
    with pytest.raises(ValueError, match="no token with id 9999"):
        tokenizer.pad_token_id = 9999
    with pytest.raises(ValueError, match="must be a string"):
        tokenizer.pad_token = 5


def test_added_tokens(tokenizer: GPT2Tokenizer) -> None:
    assert tokenizer.add_tokens(["new token", "日本", "zz"]) == 3
    assert tokenizer.get_added_vocab() == {
        "<|endoftext|>": END,
        "new token": 4096,
        "日本": 4097,
        "zz": tokenizer.vocab["zz"],
    }
    text = "a new token in 日本 zzz"
    assert tokenizer.tokenize(text) == ["a", "Ġ", "new token", "Ġin", "Ġ", "日本", "Ġ", "zz", "z"]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text
    assert tokenizer.convert_tokens_to_string(tokenizer.tokenize(text)) == text
    assert tokenizer.add_tokens("new token") == 0
    with pytest.raises(ValueError, match="already spells the bytes"):
        tokenizer.add_tokens("é")  # the vocabulary's name for the byte E9
    with pytest.raises(ValueError, match="at least one character"):
        tokenizer.add_tokens([""])
    with pytest.raises(TypeError, match="string or an AddedToken, not 5"):
        tokenizer.add_tokens([5])


def test_the_longest_added_token_wins(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.add_tokens(["<a", "<a>b", "<a>"])
    assert tokenizer.tokenize("<a>b<a>c<a") == ["<a>b", "<a>", "c", "<a"]


def test_special_tokens_are_found_before_other_added_ones(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.add_tokens(["a<b>c"])
    tokenizer.add_special_tokens({"cls_token": "<b>"})
    assert tokenizer.tokenize("a<b>c") == ["a", "<b>", "c"]
    assert tokenizer.tokenize("a<b>c", split_special_tokens=True) == ["a<b>c"]


def test_flags_of_added_tokens(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.add_tokens(
        [AddedToken("qq", single_word=True), AddedToken("<L>", lstrip=True), AddedToken("<R>", rstrip=True)]
    )
    assert tokenizer.tokenize("qqx qq_ qq") == ["q", "q", "x", "Ġ", "q", "q", "_", "Ġ", "qq"]
    assert tokenizer.tokenize("a \n<L> b") == ["a", "<L>", "Ġb"]
    assert tokenizer.tokenize("a <R> \nb") == ["a", "Ġ", "<R>", "b"]
    assert tokenizer("a \n<L> b", return_offsets_mapping=True).offset_mapping == [(0, 1), (1, 6), (6, 8)]


def test_extra_special_tokens(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.add_special_tokens({"extra_special_tokens": ["<a>", "<b>"], "cls_token": "<cls>"})
    assert tokenizer.all_special_tokens == ["<|endoftext|>", "<cls>", "<a>", "<b>"]
    assert tokenizer.decode(tokenizer.encode("x<a>y<cls>"), skip_special_tokens=True) == "xy"
    with pytest.raises(ValueError, match="no special token with the name 'padding'"):
        tokenizer.add_special_tokens({"padding": "<p>"})


def test_a_beginning_for_every_text(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.add_bos_token = True
    assert tokenizer.encode("a") == [END, 64]
    assert tokenizer.encode("a", add_special_tokens=False) == [64]
    assert tokenizer.tokenize("a") == ["a"]
    assert tokenizer.num_special_tokens_to_add(pair=True) == 2
    encoding = tokenizer("a", "b", return_special_tokens_mask=True, return_token_type_ids=True)
    assert encoding.input_ids == [END, 64, END, 65]
    assert encoding.special_tokens_mask == [1, 0, 1, 0]
    assert encoding.token_type_ids == [0, 0, 1, 1]
    assert encoding.sequence_ids() == [None, 0, None, 1]


def test_prefix_space(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.add_prefix_space = True
    assert tokenizer.tokenize("the") == ["Ġthe"] == tokenizer.tokenize(" the")
    assert tokenizer("the", return_offsets_mapping=True).offset_mapping == [(0, 3)]
    assert tokenizer.encode("") == []


# -- calling ---------------------------------------------------------------------------------------------------------


def test_an_encoding_is_read_by_key_and_by_attribute(tokenizer: GPT2Tokenizer) -> None:
    encoding = tokenizer("the king", return_offsets_mapping=True)
    assert encoding.input_ids == encoding["input_ids"] == tokenizer.encode("the king")
    assert encoding.attention_mask == [1] * len(encoding.input_ids)
    assert list(encoding) == ["input_ids", "attention_mask", "offset_mapping"]
    assert encoding.offset_mapping == [(0, 3), (3, 8)]
    assert encoding[0].tokens == encoding.tokens() == ["the", "Ġking"]
    assert encoding.token_to_chars(1) == (3, 8)
    assert (encoding.char_to_token(3), encoding.char_to_token(99)) == (1, None)
    assert dict(**encoding) == encoding.data
    assert pickle.loads(pickle.dumps(encoding)).input_ids == encoding.input_ids
    assert isinstance(encoding, BatchEncoding)
    with pytest.raises(AttributeError, match="no 'token_type_ids'; it has input_ids, attention_mask, offset_mapping"):
        _ = encoding.token_type_ids


def test_shapes(tokenizer: GPT2Tokenizer) -> None:
    assert tokenizer("a").input_ids == [64]
    assert tokenizer(["a"]).input_ids == [[64]]
    assert tokenizer([("a", "b")]).input_ids == [[64, 65]]
    assert tokenizer(["a", "b"], is_split_into_words=True).input_ids == [64, 65]
    for text, shape in (("a b", (1, 2)), (["a b"] * 3, (3, 2)), ("", (1, 0)), ([], (0, 0))):
        array = tokenizer(text, return_tensors="np").input_ids
        assert (array.shape, array.dtype) == (shape, np.int64)
    assert tokenizer("a b", return_tensors="np", return_offsets_mapping=True).offset_mapping.shape == (1, 2, 2)
    assert tokenizer.encode("a b", return_tensors="np").shape == (1, 2)


def test_words_and_their_labels(tokenizer: GPT2Tokenizer) -> None:
    encoding = tokenizer(["Once", "", "upon", "xylophone"], is_split_into_words=True, return_offsets_mapping=True)
    assert encoding.word_ids() == [0, 2] + [3] * (len(encoding.input_ids) - 2)
    assert encoding.offset_mapping[:3] == [(0, 4), (0, 4), (0, 1)]


def test_padding_and_truncation(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.pad_token = tokenizer.eos_token
    texts = ["a b c d", "a"]
    four, one = tokenizer(texts).input_ids
    assert tokenizer(texts, padding=True).input_ids == [four, one + [END] * 3]
    assert tokenizer(texts, padding="longest", padding_side="left").input_ids == [four, [END] * 3 + one]
    assert tokenizer(texts, padding=True).attention_mask == [[1] * 4, [1, 0, 0, 0]]
    assert tokenizer(texts, padding="max_length", max_length=5).input_ids == [[*four, END], one + [END] * 4]
    assert tokenizer(texts, padding="max_length", max_length=3).input_ids == [four, one + [END] * 2]
    assert tokenizer(texts, max_length=2).input_ids == [four[:2], one]
    assert tokenizer(texts, truncation=True, max_length=2, truncation_side="left").input_ids == [four[2:], one]
    assert tokenizer(texts, truncation=True, max_length=2, padding=True).input_ids == [four[:2], [*one, END]]
    assert tokenizer(texts, padding=True, pad_to_multiple_of=8, return_tensors="np").input_ids.shape == (2, 8)
    assert tokenizer("a " * 500, truncation=True, return_tensors="np").input_ids.shape == (1, 256)
    assert tokenizer("a", padding="max_length", return_tensors="np").input_ids.shape == (1, 256)
    tokenizer.padding_side = "left"
    assert tokenizer(texts, padding=True).input_ids[1] == [END] * 3 + one


def test_overflow(tokenizer: GPT2Tokenizer) -> None:
    arguments = {"truncation": True, "max_length": 3, "stride": 1, "return_overflowing_tokens": True}
    encoding = tokenizer(["a b c d e f", "g"], **arguments)
    ids = tokenizer.encode("a b c d e f")
    assert encoding.input_ids == [ids[:3], ids[2:5], ids[4:], tokenizer.encode("g")]
    assert encoding.overflow_to_sample_mapping == [0, 0, 0, 1]
    pair = tokenizer("a b", "c d e f", **{**arguments, "max_length": 4, "truncation": "only_second"})
    assert [tokenizer.decode(row) for row in pair.input_ids] == ["a bc d", "a b d e", "a b e f"]


def test_both_texts_of_a_pair_overflow(tokenizer: GPT2Tokenizer) -> None:
    """The order of the rows is that of `tokenizers`: further parts of the first text before those of the second."""
    encoding = tokenizer("a b c d", "w x y z", max_length=5, return_overflowing_tokens=True)
    rows = [tokenizer.decode(row) for row in encoding.input_ids]
    assert rows == ["a bw x", " c dw x", " c d y z", "a b y z"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"text": 5}, ValueError, "a text must be a string.*got int: 5"),
        ({"text": None}, ValueError, "got NoneType"),
        ({"text": ["a", 5]}, ValueError, "got int: 5"),
        ({"text": np.array(["a"])}, ValueError, r"make one with .tolist\(\)"),
        ({"text": ["a"], "text_pair": "b"}, ValueError, "a batch of 1 texts needs a list of 1 texts as text_pair"),
        ({"text": "a", "is_split_into_words": True}, ValueError, "needs a list of words"),
        ({"text": "a", "return_tensors": "pt"}, ValueError, "use return_tensors='np'"),
        ({"text": "a", "return_tensors": "tf"}, ValueError, "use return_tensors='np'"),
        ({"text": "a", "padding": "longer"}, ValueError, "padding must be one of True, False, 'longest'"),
        ({"text": "a", "truncation": "longest"}, ValueError, "truncation must be one of True, False, 'longest_first'"),
        ({"text": "a", "padding_side": "top"}, ValueError, "padding_side must be one of 'left', 'right', not 'top'"),
        ({"text": "a", "truncation_side": "top"}, ValueError, "truncation_side must be one of"),
        ({"text": "a", "max_length": -1}, ValueError, "max_length must be an integer of at least 0, not -1"),
        ({"text": "a b c", "max_length": 2, "stride": 2}, ValueError, "stride 2 is too large"),
        ({"text": ["a", "a b"], "return_tensors": "np"}, ValueError, "from 1 to 2 tokens.*padding=True"),
        ({"text": "a b", "truncation": "only_second", "max_length": 1}, ValueError, "needs a text_pair"),
        (
            {"text": "a", "text_pair": "b c d", "truncation": "only_first", "max_length": 2},
            ValueError,
            "larger max_length",
        ),
        (
            {"text": "a", "padding": True, "truncation": True, "max_length": 5, "pad_to_multiple_of": 4},
            ValueError,
            "multiple",
        ),
        ({"text": "a", "paddingg": True}, TypeError, "paddingg"),
    ],
)
def test_wrong_arguments_are_named(
    tokenizer: GPT2Tokenizer, arguments: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tokenizer(**arguments)


def test_a_length_that_has_no_effect_is_said(tokenizer: GPT2Tokenizer) -> None:
    tokenizer.pad_token = tokenizer.eos_token
    with pytest.warns(UserWarning, match="max_length=5 has no effect") as caught:
        tokenizer("a", padding=True, max_length=5)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer("a " * 1000)


# -- ids and tokens --------------------------------------------------------------------------------------------------


def test_decode_takes_what_users_have(tokenizer: GPT2Tokenizer) -> None:
    ids = tokenizer.encode("the king")
    for given_ids in (
        ids,
        tuple(ids),
        np.array(ids),
        np.array(ids, dtype=np.int32),
        list(np.array(ids)),
        {"input_ids": ids},
    ):
        assert tokenizer.decode(given_ids) == "the king"
    assert tokenizer.decode(64) == tokenizer.decode(np.int64(64)) == "a"
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([ids, ids]) == tokenizer.batch_decode(np.array([ids, ids])) == ["the king"] * 2
    assert tokenizer.batch_decode([np.array(ids), np.array(ids[:1])]) == ["the king", "the"]
    assert tokenizer.batch_decode([]) == []
    assert tokenizer.batch_decode([ids, [END]], skip_special_tokens=True) == ["the king", ""]


def test_ids_that_no_token_has(tokenizer: GPT2Tokenizer) -> None:
    """A model may have more rows than there are tokens: its text must not be lost for one of them."""
    for ids in ([64, 4096, 65], [10**30, 64, 65], np.array([64, 65, 99_999])):
        assert tokenizer.decode(ids) == tokenizer.decode(ids, skip_special_tokens=True) == "ab"
    assert tokenizer.decode(4096) == ""
    assert tokenizer.batch_decode(np.array([[64, 5000], [5000, 5000]])) == ["a", ""]
    with pytest.raises(ValueError, match=r"there is no token with id -1: ids go from 0 to 4095"):
        tokenizer.decode([64, -1])
    with pytest.raises(ValueError, match="labels of -100 have to be replaced"):
        tokenizer.decode([-100])
    with pytest.raises(ValueError, match="no token with id 4096"):
        tokenizer.convert_ids_to_tokens([4096])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("abc", "str: 'abc'"),
        (["abc"], r"list: \['abc'\]"),
        ([1.5], r"list: \[1\.5\]"),
        (1.5, "float: 1.5"),
        (None, "NoneType: None"),
        ([[1], [None]], r"list: \[None\]"),
        (np.array([1.0]), r"list: \[1\.0\]"),
        (b"abc", "bytes: b'abc'"),
    ],
)
def test_what_is_no_id(tokenizer: GPT2Tokenizer, value: object, shown: str) -> None:
    with pytest.raises(TypeError, match=rf"token ids must be an integer, a list or an array.*; got {shown}"):
        tokenizer.decode(value)


def test_conversion(tokenizer: GPT2Tokenizer) -> None:
    assert tokenizer.convert_tokens_to_ids("a") == 64
    assert tokenizer.convert_tokens_to_ids(["a", "no such token"]) == [64, END]
    assert tokenizer.convert_ids_to_tokens(64) == "a"
    assert tokenizer.convert_ids_to_tokens([64, END], skip_special_tokens=True) == ["a"]
    assert tokenizer.convert_ids_to_tokens(np.array([64, END])) == ["a", "<|endoftext|>"]
    assert tokenizer.convert_tokens_to_string(["Ġa", "Ã", "©"]) == " aé"
    assert tokenizer.get_vocab()["a"] == 64
    assert len(tokenizer.get_vocab()) == len(tokenizer) == tokenizer.vocab_size == 4096


def test_errors_in_decoding(tokenizer: GPT2Tokenizer) -> None:
    half = tokenizer.encode("é")[:1]
    assert tokenizer.decode(half) == "\ufffd"
    tokenizer.errors = "ignore"
    assert tokenizer.decode(half) == ""
    tokenizer.errors = "strict"
    with pytest.raises(UnicodeDecodeError):
        tokenizer.decode(half)


def test_a_copy_is_independent(tokenizer: GPT2Tokenizer) -> None:
    other = pickle.loads(pickle.dumps(tokenizer))
    other.add_tokens("new token")
    assert len(tokenizer) == 4096
    assert other.tokenize("a new token") == ["a", "Ġ", "new token"]
    assert "vocab_size=4096" in repr(other)
    assert tokenizer
