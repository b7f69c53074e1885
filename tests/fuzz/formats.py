"""Files of weights and of merges made wrong where it matters: lengths, offsets, instructions, heads, names, lines."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path
from random import Random

from fuzz.byte_changes import LARGE, NUMBERS
from fuzz.json_text import BOMBS, mutate_json
from minineo.checkpoints import msgpack_format as msgpack
from minineo.checkpoints.msgpack_format import Reader

# safetensors ----------------------------------------------------------------------------------------------------------


def mutate_safetensors(content: bytes, random: Random) -> bytes:
    """A header with mistakes; most often its length is right, and sometimes the body has another."""
    length = int.from_bytes(content[:8], "little")
    header, body = content[8 : 8 + length], content[8 + length :]
    if random.random() < 0.02:
        header = random.choice(BOMBS)(random)
    else:
        header = mutate_json(header, random) if random.random() < 0.8 else _move_tensors(header, random)
    length = len(header) if random.random() < 0.9 else random.choice(LARGE)
    body += random.choice([b"", b"", b"", bytes(4), bytes(-len(header) % 8)])
    return length.to_bytes(8, "little") + header + body


def _move_tensors(header: bytes, random: Random) -> bytes:
    """Exchange places, shapes and dtypes of tensors, so that all is in order but for what it says."""
    entries = json.loads(header)
    names = [name for name in entries if name != "__metadata__"]
    first, second = random.choices(names, k=2)
    field = random.choice(["data_offsets", "shape", "dtype"])
    match random.randrange(4):
        case 0:
            entries[first][field], entries[second][field] = entries[second][field], entries[first][field]
        case 1:
            entries[first]["dtype"] = random.choice(
                ["F16", "BF16", "I32", "F64", "F8_E4M3", "F4", "BOOL", "U64", "C64"]
            )
        case 2:
            entries[first]["shape"] = random.choice(
                [[0, 2**62], [2**32, 2**32], [1] * 65, [], entries[first]["shape"][::-1]]
            )
        case _:
            begin, end = entries[first]["data_offsets"]
            entries[first]["data_offsets"] = [begin + random.choice([-4, 4]), end + random.choice([-4, 0, 4])]
    return json.dumps(entries).encode()


# torch ----------------------------------------------------------------------------------------------------------------


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(raw)) + raw


COMMAND = "touch it-has-run"
SNIPPETS = [
    _global("os", "system") + _text(COMMAND) + pickle.TUPLE1 + pickle.REDUCE,
    _global("builtins", "exec") + _text("open('it-has-run', 'w')") + pickle.TUPLE1 + pickle.REDUCE + pickle.POP,
    _global("builtins", "__import__") + _text("antigravity") + pickle.TUPLE1 + pickle.REDUCE,
    _text("posix") + _text("system") + pickle.STACK_GLOBAL + _text(COMMAND) + pickle.TUPLE1 + pickle.REDUCE,
    pickle.MARK + _text(COMMAND) + pickle.INST + b"os\nsystem\n",
    pickle.MARK + _global("os", "system") + _text(COMMAND) + pickle.OBJ,
    _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.NEWOBJ,
    _global("torch._utils", "_rebuild_tensor_v2") + pickle.EMPTY_TUPLE + pickle.REDUCE,
    _global("torch", "FloatStorage"),
    _global("torch", "load"),
    *(pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE, pickle.NONE, pickle.MARK, pickle.POP, pickle.POP_MARK),
    *(pickle.DUP, pickle.STOP, pickle.BINPERSID, pickle.BUILD, pickle.TUPLE, pickle.SETITEMS, pickle.APPENDS),
    *(pickle.BINGET + b"\0", pickle.BINPUT + b"\0", pickle.LONG_BINPUT + b"\xff" * 4, pickle.EXT1 + b"\1"),
    *(_text("x"), _text("\ud800"), _text("a\x1b[31m"), _text("../../x"), _text("lm_head.weight"), _text("x" * 70_000)),
    pickle.EMPTY_TUPLE + pickle.TUPLE1 * 3000,
    pickle.BINUNICODE + b"\xff\xff\xff\x7f" + b"x",
    pickle.BINBYTES8 + b"\xff" * 8,
    pickle.LONG1 + b"\xff" + b"\x7f" * 255,
    b"\x8b" + struct.pack("<i", 2**30),
]
INTEGERS = [
    *(pickle.BININT1 + bytes([n]) for n in (0, 1, 2, 255)),
    *(pickle.BININT + struct.pack("<i", n) for n in (-1, 2**31 - 1, -(2**31), 10**6)),
    *(pickle.LONG1 + bytes([9]) + n.to_bytes(9, "little", signed=True) for n in (2**40, 2**62, 2**63, 2**64, -(2**40))),
    *(pickle.NEWTRUE, pickle.NONE, pickle.BINFLOAT + struct.pack(">d", 2.0)),
]


def instructions(program: bytes) -> list[bytes]:
    """A pickle cut into its instructions; what follows its end is one piece more."""
    starts = [place for _, _, place in pickletools.genops(program)]
    pieces = [program[a:b] for a, b in zip(starts, [*starts[1:], starts[-1] + 1], strict=True)]
    return [*pieces, program[starts[-1] + 1 :]]


def mutate_pickle(program: bytes, random: Random) -> bytes:
    """A pickle with instructions left out, doubled, exchanged, replaced or put in."""
    pieces = instructions(program)
    for _ in range(min(len(pieces) - 2, random.choice([1, 1, 2, 4]))):
        i, j = random.randrange(len(pieces) - 1), random.randrange(len(pieces) - 1)
        match random.randrange(7):
            case 0:
                del pieces[i]
            case 1:
                pieces[i:i] = pieces[i : i + random.choice([1, 5, 50])]
            case 2:
                pieces[i], pieces[j] = pieces[j], pieces[i]
            case 3:
                pieces[i] = random.choice(SNIPPETS)
            case 4:
                pieces.insert(i, random.choice(SNIPPETS))
            case _:
                numbers = [k for k, piece in enumerate(pieces) if piece[:1] in (b"K", b"M", b"J", b"\x8a")] or [i]
                pieces[random.choice(numbers)] = random.choice(INTEGERS)
    return b"".join(pieces)


def mutate_old_torch(content: bytes, random: Random) -> bytes:
    """One of the five pickles of the old format, or what follows them."""
    parts, rest = [], content
    for _ in range(5):
        *pieces, after = instructions(rest)
        parts.append(b"".join(pieces))
        rest = after
    which = random.choice([0, 1, 2, 3, 3, 3, 3, 3, 4, 5])
    if which == 5:
        place = random.randrange(len(rest))
        rest = rest[:place] + random.choice(LARGE).to_bytes(8, "little") + rest[place + 8 :]
    else:
        parts[which] = mutate_pickle(parts[which], random)
    return b"".join(parts) + rest


# Where the numbers of a zip are: by the signature of a record, offsets and widths of its fields (APPNOTE.TXT 4.3)
ZIP_FIELDS = {
    b"PK\x03\x04": [(4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)],
    b"PK\x01\x02": [(6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (34, 2), (42, 4)],
    b"PK\x05\x06": [(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)],
}


def mutate_zip(content: bytes, random: Random) -> bytes:
    """A zip with another pickle or other entries in it, or with a wrong number in its records."""
    if random.random() < 0.4:
        return _patch_zip(content, random)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [[entry.filename, archive.read(entry)] for entry in archive.infolist()]
    program = next(entry for entry in entries if entry[0].endswith("data.pkl"))
    entry = random.choice(entries)
    match random.randrange(10):
        case 0:
            entries.remove(entry)
        case 1:
            entries.append([random.choice([entry[0], "../x", "/etc/x", "model/constants.pkl", "a/data.pkl"]), entry[1]])
        case 2:
            entry[0] = random.choice(["../x", "x/data.pkl", "model/data/0", "\ud83d/x", entry[0] + "x", "x" * 60_000])
        case 3:
            entry[1] = random.choice([b"", entry[1] * 2, entry[1][:-1], b"big", bytes(2**20)])
        case _:
            program[1] = mutate_pickle(program[1], random)
    buffer = io.BytesIO()
    compression = zipfile.ZIP_STORED if random.random() < 0.95 else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in {name.encode("utf-8", "replace").decode(): data for name, data in entries}.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _patch_zip(content: bytes, random: Random) -> bytes:
    signature = random.choice(list(ZIP_FIELDS))
    places = [i for i in range(len(content) - 22) if content[i : i + 4] == signature]
    if not places:
        return content[:-1]
    offset, width = random.choice(ZIP_FIELDS[signature])
    place = random.choice(places) + offset
    old = int.from_bytes(content[place : place + width], "little")
    number = random.choice([*NUMBERS, old + 1, old - 1, old ^ 8, old + 64]) % 256**width
    return content[:place] + number.to_bytes(width, "little") + content[place + width :]


# msgpack --------------------------------------------------------------------------------------------------------------


def heads(content: bytes) -> list[tuple[int, int]]:
    """Where each value of a Flax file begins, and where what it holds begins; arrays (`ext`) are stepped into."""
    reader, found = Reader(memoryview(content), Path("seed")), []
    while reader.position < reader.end:
        begin = reader.position
        value = reader.value()
        found.append((begin, reader.position))
        if value.kind in ("str", "bin"):
            reader.take(value.size)
    return found


HEADS = [
    *(msgpack.map_head(n) for n in (0, 1, 3, 15, 16, 2**16, 2**32 - 1)),
    *(msgpack.array_head(n) for n in (0, 1, 3, 65, 2**16, 2**32 - 1)),
    *(msgpack.binary_head(n) for n in (0, 4, 2**16, 2**32 - 1)),
    *(msgpack.extension_head(code, n) for code in (0, 1, 2, 3) for n in (1, 16, 2**32 - 1)),
    *(msgpack.whole_number(n) for n in (0, 1, 127, 128, 2**32, 2**64 - 1)),
    *(msgpack.text(name) for name in ("", "a", "kernel", "a/b", "é", "x" * 300, "__msgpack_chunked_array__", "0")),
    *(msgpack.text(name) for name in ("float32", "float16", "bfloat16", "float64", "bool", "complex64", "object")),
    *(b"\xc0", b"\xc1", b"\xc2", b"\xc3", b"\xca\0\0\0\0", b"\xff", b"\xd0\x80", b"\xa1\xff"),
]


def mutate_msgpack(content: bytes, random: Random) -> bytes:
    """Heads of values exchanged for others, values left out, doubled or moved."""
    for _ in range(random.choice([1, 1, 2])):
        try:
            found = heads(content)
        except ValueError:  # the first change made it so
            break
        i, j = random.randrange(len(found)), random.randrange(len(found))
        (begin, inside), (other, other_inside) = found[i], found[j]
        after = found[i + 1][0] if i + 1 < len(found) else len(content)
        match random.randrange(6):
            case 0 | 1:
                content = content[:begin] + random.choice(HEADS) + content[inside:]
            case 2:
                content = content[:begin] + content[other:other_inside] + content[inside:]
            case 3:
                content = content[:begin] + random.choice([b"", random.choice(HEADS)]) + content[after:]
            case 4:
                content = content[:after] + content[begin:after] * random.choice([1, 2, 100]) + content[after:]
            case _:
                content = content[:begin] + (msgpack.map_head(1) + msgpack.text("a")) * 100 + content[begin:]
    return content


# merges.txt -----------------------------------------------------------------------------------------------------------

LINES = [
    *("", " ", "a", "a b c", " a b", "a  b", "a\tb", "a b ", "\ufeffa b", "#version: 0.2", "é b", "\u2028", "\0 a"),
    *("Ġ t", "x" * 100_000, "a " * 50_000, "\x85 a", "a\x0bb", "\U0001f600 a", "a\rb"),
]


def mutate_merges(content: bytes, random: Random) -> bytes:
    """Lines left out, doubled, exchanged, replaced, or very many of them."""
    lines = content.decode().split("\n")
    if random.random() < 0.02:
        return random.choice([b"\n", b"a b\n", b"aa bb\n", b" \n", b"\r", "\U0001f600 a\n".encode()]) * 10**6
    for _ in range(random.choice([1, 1, 2, 5])):
        i, j = random.randrange(len(lines)), random.randrange(len(lines))
        match random.randrange(5):
            case 0:
                del lines[i]
            case 1:
                lines.insert(j, lines[i])
            case 2:
                lines[i], lines[j] = lines[j], lines[i]
            case _:
                lines[i] = random.choice(LINES)
    return random.choice(["\n", "\n", "\n", "\r\n"]).join(lines).encode("utf-8", "surrogatepass")
