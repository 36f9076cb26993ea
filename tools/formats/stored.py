"""Tensors that lie in a file, and their bytes, piece by piece."""

import array
import collections
import math

from formats.gguf import TYPES
from guard import Refused

CHUNK = 1 << 22              # bytes of a tensor in memory at a time, rounded to whole heads

# A tensor in a file: where its numbers start, whether they lie there column by column, and the
# runs of rows (first, how many) it is made of, if not simply of all.
Stored = collections.namedtuple("Stored", "path name dtype shape start columns runs",
                                defaults=(False, None))


def wrong_type(path, name, dtype):
    return Refused(path, "tensor %s is of type %s: only F32, F16 and BF16 are read" % (name, dtype))


def whole_array(stored):
    """All numbers of a tensor, as integers of their size."""
    numbers = array.array("I" if TYPES[stored.dtype].size == 4 else "H")
    with open(stored.path, "rb") as file:
        file.seek(stored.start)
        left = math.prod(stored.shape)
        while left:                                  # in pieces, since fromfile makes a copy
            step = min(left, CHUNK)
            try:
                numbers.fromfile(file, step)
            except EOFError:
                raise Refused(stored.path, "became shorter while it was read")
            left -= step
    return numbers


def stored_bytes(stored, rows=1):
    """The bytes of a tensor in order, in pieces of whole groups of so many rows."""
    row = TYPES[stored.dtype].size * math.prod(stored.shape[1:])
    step = rows * max(1, CHUNK // (rows * row or 1))
    runs = stored.runs or [(0, stored.shape[0])]
    steps = ((at, min(step, first + count - at)) for first, count in runs
             for at in range(first, first + count, step))
    if stored.columns:
        numbers = whole_array(stored)
        for first, count in steps:
            yield b"".join(numbers[i::stored.shape[0]].tobytes()
                           for i in range(first, first + count))
        return
    with open(stored.path, "rb") as file:
        for first, count in steps:
            file.seek(stored.start + first * row)
            raw = file.read(count * row)
            if len(raw) < count * row:
                raise Refused(stored.path, "became shorter while it was read")
            yield raw


def length_of(stored):
    """How many rows a tensor has in the end."""
    return sum(count for _, count in stored.runs) if stored.runs else stored.shape[0]
