"""JSON made wrong: values of a document replaced, moved, nested and doubled, and spellings that no writer has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple


class Raw(NamedTuple):
    """Text that is put into a document as it stands."""

    text: str


class Twice(NamedTuple):
    """An object in which one more entry follows, of a name that it has already."""

    content: dict[str, Any]
    name: str
    value: Any


def dumps(value: Any, ascii_only: bool = True) -> str:
    """JSON's text of a value that may hold `Raw` and `Twice`."""
    match value:
        case Raw(text):
            return text
        case Twice(content, name, again):
            pairs = [*content.items(), (name, again)]
            return "{" + ", ".join(f"{_text(k, ascii_only)}: {dumps(v, ascii_only)}" for k, v in pairs) + "}"
        case dict():
            return "{" + ", ".join(f"{_text(k, ascii_only)}: {dumps(v, ascii_only)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(dumps(item, ascii_only) for item in value) + "]"
    return _text(value, ascii_only)


def _text(value: Any, ascii_only: bool) -> str:
    return json.dumps(value, ensure_ascii=ascii_only)


def deep(levels: int, key: str | None = None) -> Raw:
    """Lists, or objects, that many in one another."""
    if key is None:
        return Raw("[" * levels + "]" * levels)
    return Raw(f'{{"{key}":' * levels + "1" + "}" * levels)


NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    7,
    255,
    256,
    2**31,
    2**32 - 1,
    2**53,
    2**63 - 1,
    2**63,
    2**64,
    10**9,
    10**12,
    10**20,
    -(10**9),
]
SPELLINGS = [
    *("NaN", "Infinity", "-Infinity", "-0", "1e999", "1e-999", "0.5", "1.0", "01", "+1", "0x10", "1_000"),
    *("9" * 400, "9" * 5000, "-" + "9" * 4000, "1" + "0" * 300 + ".5", "tru", "None", "", "'a'", '"\t"', '"\\x41"'),
    *('"\\ud800"', '"\\udc80"', '"a\\u0000b"', '"\\u202e"', '"\\uD83D\\uDE00"', '"' + "x" * 5000 + '"', '"%s%n{0}"'),
    *("[null]", "[[]]", "{}", "[]", "{,}", "[1,]", '{"a"}', '{"a":1', "/* */ 1", '"\x1b[31m"', '"\\u001b[31m"'),
    *(
        '"../../secret"',
        '"/etc/passwd"',
        '"..\\\\x"',
        '"C:\\\\x"',
        '"global"',
        '"Ġ"',
        '" "',
        '"a b"',
        '"<|endoftext|>"',
    ),
    *("[[[], " + "9" * 20 + "]]", '[[["global"], 1000000000000]]', "\"[['global', 1000000000000]]\""),
    *('[[["global", "local"], 5000]]', '[[["local"], 2]]', '{"0": ["a"]}', '{"0": "a", "00": "b"}', '{"x": "a"}'),
    *('{"content": "x"}', '{"content": ""}', '{"content": 1}', '{"content": "\\ud800", "special": true}'),
]
NAMES = [
    *("", " ", "\x00", "self", "__class__", "__dict__", "__init__", "__reduce_ex__", "__deepcopy__", "num_labels"),
    *("num_hidden_layers", "id2label", "attention_layers", "window", "to_dict", "../x", "__metadata__", "\ud800", "é"),
    *("weight_map", "added_tokens_decoder", "model_max_length", "pad_token", "eos_token_id", "num_beams", "dtype"),
    *("num_return_sequences", "prompt_lookup_num_tokens", "assistant_model", "streamer", "shape", "data_offsets"),
]


def nasty_value(random: Random) -> Any:
    """A value that a field was not made for."""
    if random.randrange(20) == 0:
        return large(random)
    match random.randrange(10):
        case 0 | 1 | 2:
            return random.choice(NUMBERS)
        case 3:
            return random.choice([None, True, False, "", [], {}, 0.5, -0.0, 1e30])
        case 4:
            return deep(random.choice([10, 90, 300, 480, 700, 980, 3000, 100_000]), random.choice([None, "a"]))
        case 5:
            return [random.choice(NUMBERS) for _ in range(random.choice([2, 65, 1000]))]
        case _:
            return Raw(random.choice(SPELLINGS))


def large(random: Random) -> Any:
    """A string or a list or an object that is much longer than a field expects, all of whose entries differ."""
    entries = random.choice([1000, 20_000])
    match random.randrange(4):
        case 0:
            return random.choice("xé ") * random.choice([10_000, 300_000, 3_000_000])
        case 1:
            return [f"<{i}>" for i in range(entries)]
        case 2:
            return [{"id": 300 + i, "content": f"<{i}>", "special": True} for i in range(entries)]
        case _:
            return {f"<{i}>": 300 + i for i in range(entries)}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or index) of a document."""
    stack = [value]
    while stack:
        container = stack.pop()
        if isinstance(container, dict | list):
            for key in container if isinstance(container, dict) else range(len(container)):
                yield container, key
                stack.append(container[key])


def change(document: Any, random: Random) -> Any:
    """Change one place of a document, in place; returns the document, or what stands for it now."""
    found = _some_places(document, random)
    if not found or random.random() < 0.02:
        return random.choice([nasty_value(random), [document], {"a": document}, Twice({"a": document}, "a", document)])
    container, key = found[0]
    kind = random.choice([_replace, _replace, _replace, _remove, _rename, _twice, _swap, _nest, _nudge, _repeat])
    kind(container, key, found[-1], random)
    return document


def _some_places(document: Any, random: Random) -> list[tuple[Any, Any]]:
    """Two places: any, or, since most of a vocabulary is alike, those at the top."""
    top = [(document, key) for key in document] if isinstance(document, dict) and len(document) < 100 else []
    every = list(places(document))
    pool = top if top and random.random() < 0.4 else every
    return random.choices(pool, k=2) if pool else []


def _replace(container: Any, key: Any, other: Any, random: Random) -> None:
    container[key] = nasty_value(random)


def _remove(container: Any, key: Any, other: Any, random: Random) -> None:
    del container[key]


def _rename(container: Any, key: Any, other: Any, random: Random) -> None:
    if isinstance(container, dict):
        container[random.choice([*NAMES, str(other[1])])] = container.pop(key)
    else:
        container.insert(key, random.choice(NAMES))


def _twice(container: Any, key: Any, other: Any, random: Random) -> None:
    if isinstance(container, dict):
        inner = dict(container)
        container.clear()
        container["a"] = Twice(inner, key, random.choice([inner[key], nasty_value(random)]))
    else:
        container.append(container[key])


def _swap(container: Any, key: Any, other: Any, random: Random) -> None:
    container[key] = json.loads(dumps_or_null(other[0][other[1]]))


def _nest(container: Any, key: Any, other: Any, random: Random) -> None:
    container[key] = random.choice([[container[key]], {"a": container[key]}, [[container[key]] * 2] * 2])


def _nudge(container: Any, key: Any, other: Any, random: Random) -> None:
    value = container[key]
    if type(value) is int:
        container[key] = value + random.choice([-1, 1, 2, 256, -value, value])
    elif isinstance(value, str):
        container[key] = random.choice([value + "x", value[:-1], value * 2, value.upper(), value + "\ud800"])
    else:
        container[key] = nasty_value(random)


def _repeat(container: Any, key: Any, other: Any, random: Random) -> None:
    count = random.choice([2, 2 if isinstance(container[key], dict | list) else 300])
    if isinstance(container, list):
        container[key:key] = [container[key]] * count
    else:
        container.update({f"{key}{i}": container[key] for i in range(count)})


def dumps_or_null(value: Any) -> str:
    """A value's own JSON, or null where it has been made wrong already."""
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return "null"


def bomb(random: Random) -> bytes:
    """A document of a megabyte or more that would take many times its size in memory."""
    unit, end = random.choice(
        [
            ("[],", "1]"),
            ("{},", "1]"),
            ("0.5,", "1]"),
            ('"\\u4e00\\u4e00",', "1]"),
            ("[", ""),
            ("[[],", ""),
            ("1e1,", "1]"),
        ]
    )
    count = random.choice([2**18, 2**20]) // len(unit) * random.choice([1, 4])
    return f"[{unit * count}{end}".encode()


def keyed_bomb(random: Random) -> bytes:
    """The same of an object whose names differ."""
    value = random.choice(["0", "[]", "{}", '"x"', "0.1", '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'])
    wide = random.choice(["", "", "é", "\u4e00", "\U0001f600"])
    count = random.choice([20_000, 100_000])
    return ("{" + ",".join(f'"{i:x}{wide}":{value}' for i in range(count)) + "}").encode()


def string_bomb(random: Random) -> bytes:
    """One long string, of which one character makes Python take four bytes for each."""
    length = random.choice([10**6, 4 * 10**6])
    return ('{"a":"' + "x" * length + random.choice(["", "\U0001f600", "\\ud83d\\ude00", '\\"']) + '"}').encode()


BOMBS: list[Callable[[Random], bytes]] = [bomb, keyed_bomb, string_bomb]


def mutate_json(content: bytes, random: Random) -> bytes:
    """The text of a JSON file with one to three mistakes in it."""
    if random.random() < 0.01:
        return random.choice(BOMBS)(random)
    document = json.loads(content)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        if isinstance(document, dict | list):
            document = change(document, random)
    text = dumps(document, ascii_only=random.random() < 0.7)
    return text.encode("utf-8", "surrogatepass" if random.random() < 0.3 else "replace")
