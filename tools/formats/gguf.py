"""GGUF, the container of ggml and llama.cpp: one reader, which trusts nothing, and one writer.

Typed values by key, then named tensors, little-endian (ggml's docs/gguf.md). Standard library only.
"""

import collections
import math
import mmap
import os
import shutil
import struct
import sys

from formats.plain_file import open_plain
from guard import Refused, new_file

# Types of values, by the format's own numbers, and how struct calls those that are numbers
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
LETTERS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q",
           I64: "q", F64: "d"}
ALIGNMENT = 32

# Types of tensors: ggml's number, numbers and bytes of a block
Type = collections.namedtuple("Type", "ggml block size")
TYPES = {"f32": Type(0, 1, 4), "f16": Type(1, 1, 2), "bf16": Type(30, 1, 2), "i64": Type(27, 1, 8),
         "q4_0": Type(2, 32, 18), "q4_1": Type(3, 32, 20), "q5_0": Type(6, 32, 22),
         "q5_1": Type(7, 32, 24), "q8_0": Type(8, 32, 34), "q2_k": Type(10, 256, 84),
         "q3_k": Type(11, 256, 110), "q4_k": Type(12, 256, 144), "q5_k": Type(13, 256, 176),
         "q6_k": Type(14, 256, 210), "iq4_nl": Type(20, 32, 18), "iq4_xs": Type(23, 256, 136)}
NAMES = {kind.ggml: name for name, kind in TYPES.items()}
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}    # llama.cpp's general.file_type


# ---- Reading -----------------------------------------------------------------------------------

# What a file says of a tensor: its dimensions, fastest first, ggml's number of its type, and where
# its numbers begin, from the first one's.
Tensor = collections.namedtuple("Tensor", "dims type offset")


class Gguf:
    """A file's values and tensors; its bytes stay mapped, and of numbers none is read before it is
    asked for."""

    LACK = "no GGUF file, or one that is cut off"

    def __init__(self, path):
        self.path, self.at, self.values, self.tensors = path, 0, {}, {}
        try:
            with open_plain(path) as file:
                self.raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.read()
        except OSError as problem:
            raise Refused(path, "cannot be read: %s" % problem.strerror)
        except (struct.error, KeyError, ValueError, TypeError, ArithmeticError, MemoryError,
                RecursionError):
            raise Refused(path, self.LACK)

    def read(self):
        """All but the numbers; one of many exceptions where something is not as it should be."""
        magic, version, tensors, values = self.take("4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):    # 3 but allows big-endian files
            raise ValueError
        for _ in range(values):
            self.once(self.values, self.string(), self.value(*self.take("I")))
        for _ in range(tensors):
            name, (rank,) = self.string(), self.take("I")
            if rank > 4:
                raise ValueError
            self.once(self.tensors, name, Tensor(self.take("%dQ" % rank), *self.take("IQ")))
        alignment = self.values.get("general.alignment", ALIGNMENT)
        if alignment < 1:
            raise ValueError
        self.start = self.at + -self.at % alignment

    def once(self, found, name, what):
        if name in found:
            raise ValueError("a name that is there twice")
        found[name] = what

    def take(self, form):
        """What comes next, in struct's letters; struct.error where the file ends before."""
        found = struct.unpack_from("<" + form, self.raw, self.at)
        self.at += struct.calcsize("<" + form)
        return found

    def string(self):
        length, = self.take("Q")
        if length > len(self.raw) - self.at:
            raise ValueError
        self.at += length
        return self.raw[self.at - length:self.at].decode("utf-8", "replace")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.take(LETTERS[kind])[0]
        kind, count = self.take("IQ")
        if count > len(self.raw) - self.at:              # each takes a byte at least
            raise ValueError
        return [self.value(kind) for _ in range(count)]

    def bytes_of(self, name):
        """What a tensor's numbers are made of; they must be there, and of a type that is known."""
        dims, kind, offset = self.tensors[name]
        if kind not in NAMES:
            raise Refused(self.path, "tensor %s is of a type that is not read, %d" % (name, kind))
        _, block, size = TYPES[NAMES[kind]]
        count, start = math.prod(dims), self.start + offset
        if not dims or dims[0] % block:
            raise Refused(self.path, "tensor %s has rows that are no whole blocks" % name)
        end = start + count // block * size
        if end > len(self.raw):
            raise Refused(self.path, "tensor %s ends beyond the file: is it cut off?" % name)
        return memoryview(self.raw)[start:end]


# ---- Writing -----------------------------------------------------------------------------------

# A tensor to be written: its dims fastest first, its type's name, its bytes as an iterable of
# pieces.
Output = collections.namedtuple("Output", "name dims type pieces")


def packed(kind, value):
    """The bytes of one value; those of a list follow each other."""
    if isinstance(value, list):
        return b"".join(packed(kind, item) for item in value)
    if kind == STRING:
        text = value.encode("utf-8", "replace")      # a file name may hold what UTF-8 cannot
        return struct.pack("<Q", len(text)) + text
    return struct.pack("<" + LETTERS[kind], value)


def size_of_tensor(tensor):
    """How many bytes its numbers and the padding behind them take."""
    kind = TYPES[tensor.type]
    size = math.prod(tensor.dims) // kind.block * kind.size
    return size + -size % ALIGNMENT


def check_room(path, tensors):
    """That there is room for what will be written, before hours are spent on writing it."""
    wanted = sum(map(size_of_tensor, tensors))
    try:
        disk = shutil.disk_usage(os.path.dirname(os.path.abspath(path)))
    except OSError:                                  # new_file() says what is wrong there
        return
    if wanted > disk.free and disk.total:            # some file systems do not tell
        raise Refused(path, "would be of %d bytes: %d are free there" % (wanted, disk.free))


def head_of(values, tensors):
    """Everything before the tensors' numbers; values is a list of (key, type, value or list)."""
    head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)))
    for key, kind, value in values:
        array = struct.pack("<IIQ", ARRAY, kind, len(value)) if isinstance(value, list) else None
        head += packed(STRING, key) + (array or struct.pack("<I", kind)) + packed(kind, value)
    offset = 0
    for tensor in tensors:
        name, dims, dtype, _ = tensor
        head += packed(STRING, name) + struct.pack(
            "<I%dQIQ" % len(dims), len(dims), *dims, TYPES[dtype].ggml, offset)
        offset += size_of_tensor(tensor)
    return head + bytes(-len(head) % ALIGNMENT)


def write_gguf(out, values, tensors, watched=False):
    """Write a file, open for bytes, piece by piece, with progress where someone watches."""
    out.write(head_of(values, tensors))
    try:
        for number, tensor in enumerate(tensors, 1):
            if watched:
                print("\r%d/%d %s\033[K" % (number, len(tensors), tensor.name), end="",
                      file=sys.stderr, flush=True)
            for piece in tensor.pieces:
                out.write(piece)
            out.write(bytes(-out.tell() % ALIGNMENT))
    finally:
        if watched:
            print("\r\033[K", end="", file=sys.stderr)


def write_new(path, values, tensors, inputs, quiet=False):
    """Write a file that appears whole or not at all, with progress where someone watches."""
    check_room(path, tensors)
    with new_file(path, inputs) as out:
        write_gguf(out, values, tensors, sys.stderr.isatty() and not quiet)
