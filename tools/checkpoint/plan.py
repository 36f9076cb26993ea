"""Which tensor of a checkpoint becomes which of the file that is written, and how."""

import re
import struct

from checkpoint.family import ONE_MORE, PAIRED, POSITIONS, REGROUPED, TURNED
from checkpoint.settings import FLAG
from formats.gguf import FILE_TYPES, TYPES
from formats.narrow import numpy, recast
from formats.stored import stored_bytes, wrong_type
from guard import Refused


def arranged(stored, how, sizes):
    """A tensor with its rows in the order in which they are written."""
    if how == TURNED:
        return stored._replace(shape=stored.shape[::-1], columns=not stored.columns)
    if how == POSITIONS:
        return stored._replace(runs=[(2, stored.shape[0] - 2)])
    if how == REGROUPED:
        size = sizes["head_dim"]
        return stored._replace(runs=[((3 * head + part) * size, size) for part in range(3)
                                     for head in range(sizes["heads"])])
    return stored


def rows_of(family, layers):
    """The rows of a family's table, layer by layer; lazily, since a config may claim millions."""
    yield from (row for row in family.tensors if "{}" not in row.theirs)
    for layer in range(layers):
        for row in family.tensors:
            if "{}" in row.theirs:
                yield row._replace(theirs=row.theirs.format(layer), ours=row.ours.format(layer))


def plan_tensors(family, config, sizes, stored):
    """[(Row, Stored)] to be written; every tensor stored has to be known and of its shape."""
    plan, known = [], set()
    tied = config.get("tie_word_embeddings", FLAG)
    if family.part:
        names = [re.sub(r"^(model\.)?language_model\.", r"\1", name) for name in stored]
        if len(set(names)) < len(names):
            raise Refused(config.path, "the checkpoint has tensors under two names")
        stored = dict(zip(names, stored.values()))
    # A checkpoint of the model without its head lacks the prefix.
    if not any(name.startswith(family.prefix) for name in stored):
        stored = {name if name.startswith("lm_head.") else family.prefix + name: tensor
                  for name, tensor in stored.items()}
    for row in rows_of(family, sizes["layers"]):
        known.add(row.theirs)
        tensor = stored.get(row.theirs)
        copy = tied and row.ours == "output.weight"
        if copy and tensor is None:
            continue
        if tensor is None:
            raise Refused(config.path, "calls for tensor %s, which the checkpoint does not hold"
                          % row.theirs)
        if tensor.dtype not in FILE_TYPES:
            raise wrong_type(tensor.path, row.theirs, tensor.dtype)
        shape = [sizes[size] for size in row.shape.split()]
        if list(tensor.shape) != shape:
            raise Refused(tensor.path, "tensor %s has the shape %s: config.json calls for %s"
                          % (row.theirs, list(tensor.shape), shape))
        if not copy:
            plan.append((row, arranged(tensor, row.how, sizes)))
        elif any(a != b for a, b in zip(stored_bytes(tensor), stored_bytes(plan[0][1]))):
            raise Refused(tensor.path, "tensor %s differs from the embeddings that config.json "
                          "ties it to: set tie_word_embeddings to false" % row.theirs)
    for name in sorted(set(stored) - known):
        if not re.fullmatch(family.ignored, name):
            raise Refused(stored[name].path, "tensor %s is not of the model that config.json "
                          "describes" % name)
    return plan


def choose_type(stored, asked):
    """The type a tensor is written in: vectors as f32, matrices as asked for."""
    if len(stored.shape) == 1:
        return "f32"
    want = stored.dtype if asked == "keep" else asked
    if want not in (stored.dtype, "f32") and numpy is None:
        raise Refused(stored.path, "--type %s needs numpy, which is not installed: pip install "
                      "numpy, or take --type keep or f32" % want)
    if stored.shape[-1] % TYPES[want].block:
        raise Refused(stored.path, "tensor %s has rows of %d numbers: q8_0 wants multiples of %d"
                      % (stored.name, stored.shape[-1], TYPES[want].block))
    return want


# ---- The numbers ---------------------------------------------------------------------------------

def paired_rows(raw, row, head_dim):
    """Rows of whole heads in llama.cpp's order, where the two rows of a rotary pair are neighbours.

    Checkpoints turn row i of a head with row i + d/2; llama.cpp turns row 2i with row 2i + 1.
    """
    raw, out, half = memoryview(raw), bytearray(), head_dim // 2
    for head in range(0, len(raw) // row, head_dim):
        for i in range(head, head + half):
            out += raw[i * row:(i + 1) * row]
            out += raw[(i + half) * row:(i + half + 1) * row]
    return bytes(out)


def one_more(raw):
    """1 + x of float32 numbers; the sum in double and its rounding are one rounding's result."""
    count = len(raw) // 4
    return struct.pack("<%df" % count, *(1 + x for x in struct.unpack("<%df" % count, raw)))


def converted(stored, want, how, head_dim):
    """The bytes of a tensor as type `want`, piece by piece."""
    for raw in stored_bytes(stored, head_dim if how == PAIRED else 1):
        if how == PAIRED:
            raw = paired_rows(raw, TYPES[stored.dtype].size * stored.shape[-1], head_dim)
        try:
            raw = recast(raw, stored.dtype, want)
            yield one_more(raw) if how == ONE_MORE else raw
        except OverflowError:
            raise Refused(stored.path, "tensor %s holds a number that %s cannot: take --type keep "
                          "or f32" % (stored.name, want))
