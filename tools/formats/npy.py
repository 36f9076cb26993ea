"""Arrays of integers as numpy.save writes them, and of floats as `lape trace` does, without numpy.
"""

import math
import mmap
import re
import struct

from formats.plain_file import open_plain, read_small
from guard import Refused

NPY_HEADER = re.compile(rb"{'descr': '[<|]([iu])([1248])', 'fortran_order': False, "
                        rb"'shape': \((\d{1,9}), (\d{1,9})\), } *\n")


def load_npy(path):
    """(layers, neurons) and the numbers, row by row, of an array of integers that numpy saved."""
    raw = read_small(path)
    start = 10 if raw[6:7] == b"\1" else 12
    size = int.from_bytes(raw[8:start], "little")
    header = NPY_HEADER.fullmatch(raw[start:start + size])
    if raw[:6] != b"\x93NUMPY" or not header:
        raise Refused(path, "is not as numpy.save writes an array of integers, layers by neurons")
    kind, size, layers, neurons = (group.decode() for group in header.groups())
    shape, numbers = (int(layers), int(neurons)), raw[start + len(header[0]):]
    if not all(shape) or len(numbers) != math.prod(shape) * int(size):
        raise Refused(path, "%d bytes of numbers are not %s x %s of %s bytes" % (
            len(numbers), layers, neurons, size))
    code = {"1": "b", "2": "h", "4": "i", "8": "q"}[size]
    return shape, struct.unpack("<%d%s" % (math.prod(shape), code.upper() if kind == "u" else code),
                                numbers)


def npy_head(kind, count):
    """What stands before the numbers of an array of one dimension; kind: '<i4', for example."""
    head = "{'descr': '%s', 'fortran_order': False, 'shape': (%d,), }" % (kind, count)
    head += " " * (-(11 + len(head)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode()


FLOATS = re.compile(rb"{'descr': '<f([48])', 'fortran_order': False, "
                    rb"'shape': \((\d{1,9}), (\d{1,9}), (?:(\d{1,9}), )?\), } *\n")


class Floats:
    """What `lape trace` writes: rows by columns, or such planes; numbers are read when wanted."""

    def __init__(self, path):
        with open_plain(path) as file:
            self.raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size = int.from_bytes(self.raw[8:10], "little")
        header = FLOATS.fullmatch(self.raw[10:10 + size])
        if self.raw[:8] != b"\x93NUMPY\1\0" or not header:
            raise Refused(path, "is not as `lape trace` writes an array")
        self.start, self.size = 10 + size, int(header[1])
        self.shape = tuple(int(group) for group in header.groups()[1:] if group)
        if len(self.raw) - self.start != math.prod(self.shape) * self.size:
            raise Refused(path, "is not as long as its shape says")
        self.number = struct.Struct("<f" if self.size == 4 else "<d")

    def column(self, plane, column, rows):
        """The numbers of these rows."""
        below, across = self.shape[-2:]
        start = self.start + (plane * below * across + column) * self.size
        return [self.number.unpack_from(self.raw, start + row * across * self.size)[0]
                for row in rows]


def write_npy(path, ids):
    """Integers of 32 bits in numpy's format."""
    with open(path, "wb") as file:
        file.write(npy_head("<i4", len(ids)))
        file.write(struct.pack("<%di" % len(ids), *ids))
