"""Changes of files by chance, each by the structure of its format; the same of the same seed."""

import io
import json
import pickletools
import struct
import zipfile

NUMBERS = [0, 1, -1, 2, 3, 255, 4096, 65536, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 32, (1 << 63) - 1,
           1 << 63, (1 << 64) - 1, 1 << 64, 10 ** 40, -10 ** 40, 0.5, -0.0, 1e-300, 1e300]
TEXTS = ["", "x", "\0", "\ud800", "<s>", " ", "\u2581", "\n", "x" * 5000, "../x", "/dev/zero", "%s%n"]


def strange(rng, depth=0):
    """A value of JSON of any type."""
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind < 3:
        return rng.choice(NUMBERS)
    if kind < 5:
        return rng.choice(TEXTS)
    if kind == 5:
        return rng.choice([None, True, False, float("inf"), float("nan")])
    if kind == 6:
        return [strange(rng, depth + 1)] * rng.choice([0, 1, 2, 3, 1000])
    if kind == 7:
        return {rng.choice(TEXTS): strange(rng, depth + 1) for _ in range(rng.randrange(3))}
    value = strange(rng, depth + 1)
    for _ in range(rng.choice([2, 70, 800])):
        value = [value] if rng.randrange(2) else {"x": value}
    return value


def places(value, found, limit=3000):
    """All (holder, key) in a value, some of them where there are many."""
    todo = [value]
    while todo and len(found) < limit:
        holder = todo.pop(0)
        for key in list(holder if isinstance(holder, dict) else range(len(holder)))[:300]:
            found.append((holder, key))
            if isinstance(holder[key], (dict, list)):
                todo.append(holder[key])
    return found


def json_value(rng, value):
    """A change at one or more places of an object."""
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        found = places(value, [])
        if not found:
            return strange(rng)
        holder, key = rng.choice(found)
        what = rng.randrange(8)
        if what == 0:
            del holder[key]
        elif what == 1:
            other, name = rng.choice(found)
            if name in other if isinstance(other, dict) else name < len(other):
                holder[key] = json.loads(json.dumps(other[name]))
        elif what == 2 and isinstance(holder, dict):
            holder[rng.choice(TEXTS + list(holder))] = strange(rng)
        elif what == 3 and isinstance(holder, list):
            holder.extend([holder[key]] * rng.choice([1, 1000]))
        elif what == 4 and isinstance(holder[key], (int, float)):
            holder[key] = holder[key] * rng.choice([-1, 2, 0.5, 1 << 20]) + rng.choice([0, 1])
        else:
            holder[key] = strange(rng)
    return value


def as_json(rng, data):
    text = json.dumps(json_value(rng, json.loads(data)))
    if rng.randrange(12) == 0:                       # a key twice, or what no library writes
        text = text.replace("{", rng.choice(['{"x": 1, "x": 2, ', "{,", "{" * 1000, "["]), 1)
    return text.encode()


def as_safetensors(rng, data):
    length = int.from_bytes(data[:8], "little")
    header, rest = as_json(rng, data[8:8 + length]), data[8 + length:]
    return struct.pack("<Q", rng.choice([len(header)] * 9 + [1 << 62])) + header + rest


# ---- Protobuf -----------------------------------------------------------------------------------

def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def message(data):
    """[number, wire type, value] of every field."""
    found, at = [], 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            value, shift, at = value | (data[at] & 127) << shift, shift + 7, at + 1
            if data[at - 1] < 128:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            found.append([tag >> 3, 0, number()])
            continue
        size = number() if tag & 7 == 2 else {1: 8, 5: 4}[tag & 7]
        found.append([tag >> 3, tag & 7, data[at:at + size]])
        at += size
    return found


def joined(fields):
    out = []
    for number, wire, value in fields:
        out.append(varint(number << 3 | wire))
        if isinstance(value, int):
            out.append(varint(value))
        else:
            out.append((varint(len(value)) if wire == 2 else b"") + value)
    return b"".join(out)


def as_protobuf(rng, data, depth=0):
    fields = message(data)
    if not fields:
        return rng.choice([b"\x08", b"\x0a\xff\xff\xff\xff\x0f", b"\x07"])
    at = rng.randrange(len(fields))
    number, wire, value = fields[at]
    what = rng.randrange(7)
    if what < 3 and wire == 2 and depth == 0 and number in (1, 2, 3, 5):
        fields[at][2] = as_protobuf(rng, value, 1)
    elif what == 3:
        del fields[at]
    elif what == 4:
        fields[at:at] = [list(fields[at])] * rng.choice([1, 300])
    elif what == 5:
        fields[at][0] = rng.choice([0, 1, 2, 3, 35, 40, 41, 42, 44, 1 << 28])
    elif isinstance(value, int):
        fields[at][2] = rng.choice([n for n in NUMBERS if isinstance(n, int) and n >= 0])
    else:
        fields[at][2] = rng.choice([b"", value * 2, b"\xff\xfe", b"\0\0\xc0\x7f", b"x" * 5000])
    return joined(fields)


# ---- Pickles ------------------------------------------------------------------------------------

HOSTILE = [b"(", b")", b"]", b"}", b"t", b"\x85", b"\x86", b"\x87", b"e", b"u", b"s", b"a", b"0",
           b"1", b"2", b"R", b"b", b"Q", b"N", b"\x88", b"\x8f", b"\x90", b"\x81", b"\x94", b"\x93",
           b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"h\x02", b"K\x07", b"I9\n", b"L99L\n",
           b"r\xff\xff\xff\x7f", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"X\x01\0\0\0n",
           b"\x95" + b"\xff" * 8, b"cos\nsystem\n", b"ccollections\nOrderedDict\n", b"(eq\x03",
           b"\x85" * 70, b"\x85" * 20000, b"q\x01h\x01h\x01\x86" * 40, b"(eq\x01h\x01h\x01\x86" * 40]


def as_pickle(rng, data):
    at = [place for _, _, place in pickletools.genops(data)] + [len(data)]
    ops = [data[i:j] for i, j in zip(at, at[1:])]
    for _ in range(rng.choice([1, 1, 2, 5])):
        i = rng.randrange(len(ops))
        what = rng.randrange(5)
        if what == 0 and len(ops) > 1:
            del ops[i]
        elif what == 1:
            ops.insert(i, rng.choice(HOSTILE))
        elif what == 2:
            ops[i] = rng.choice(HOSTILE)
        elif what == 3:
            j = rng.randrange(len(ops))
            ops[i], ops[j] = ops[j], ops[i]
        else:
            j = min(len(ops), i + rng.randrange(1, 30))
            ops[j:j] = ops[i:j] * rng.choice([1, 3, 200])
    return b"".join(ops)


def as_archive(rng, data):
    """A zip with its pickle changed, or an entry left out, twice, or of other bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        entries = [[name, old.read(name)] for name in old.namelist()]
        what = rng.randrange(8)
        victim = rng.choice(entries)
        if what == 0:
            entries.remove(victim)
        elif what == 1:
            victim[1] = as_bytes(rng, victim[1])
        else:
            for entry in entries:
                if entry[0].endswith("data.pkl"):
                    entry[1] = as_pickle(rng, entry[1])
        for name, raw in entries:
            new.writestr(zipfile.ZipInfo(name), raw)
    return out.getvalue()


# ---- Bytes --------------------------------------------------------------------------------------

def as_bytes(rng, data):
    """Flips, cuts, splices, and numbers written over what is there."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(min(len(data), rng.choice([64, 1024, 1 << 30])) or 1)
        what = rng.randrange(6)
        if what == 0 and data:
            data[at:at + 1] = bytes([data[at] ^ 1 << rng.randrange(8)])
        elif what == 1:
            del data[at:]
        elif what == 2:
            data[at:at] = data[rng.randrange(len(data) + 1):][:rng.choice([1, 8, 100])]
        elif what == 3:
            del data[at:at + rng.choice([1, 8, 100])]
        else:
            size = rng.choice([1, 2, 4, 8])
            number = rng.choice([n for n in NUMBERS if isinstance(n, int)])
            data[at:at + size] = (number & (1 << 8 * size) - 1).to_bytes(size, "little")
    return bytes(data)


def mutated(rng, name, data):
    """The contents of a file of this name after a change."""
    if rng.randrange(4):
        for kind, fits in ((as_json, name.endswith(".json")), (as_archive, data[:2] == b"PK"),
                           (as_safetensors, name.endswith(".safetensors")),
                           (as_protobuf, name.endswith("tokenizer.model"))):
            if fits:
                return kind(rng, data)
    return as_bytes(rng, data)
