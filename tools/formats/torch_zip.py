"""PyTorch's files, without PyTorch: zip archives of a pickle and of the numbers of its tensors.

load() gives what torch.save wrote, save() writes what torch.load reads; bytes_of() gives a large
tensor's numbers piece by piece. A pickle is a program: here it can do no more than make tensors,
dicts, lists, tuples and plain values.
"""

import collections
import math
import os
import struct
import zipfile

from formats.pickles import Machine
from formats.plain_file import SMALL_FILE, open_plain, size_of
from formats.stored import CHUNK
from guard import Refused, is_count, no_warnings

# The storages that torch.save names, as struct's letters; H of bfloat16 needs a step more.
STORAGES = {"ByteStorage": "B", "CharStorage": "b", "ShortStorage": "h", "IntStorage": "i",
            "LongStorage": "q", "BoolStorage": "?", "HalfStorage": "e", "BFloat16Storage": "H",
            "FloatStorage": "f", "DoubleStorage": "d"}
FAR = 256                    # numbers: what is so far apart is read one by one
NAMES = {letter: name for name, letter in STORAGES.items()}
INTEGERS = "Bbhiq"
DIMENSIONS = 64              # of a tensor, as PyTorch has it
PICKLE = 1 << 24             # a pickle is smaller than this
BEFORE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."     # how the files of PyTorch before 1.6 begin

# A storage: its letter, its length, its numbers, or where in the file they start.
Storage = collections.namedtuple("Storage", "code count numbers start", defaults=(None, None))
Tensor = collections.namedtuple("Tensor", "storage offset shape strides")


def is_integers(value):
    return isinstance(value, Tensor) and value.storage.code in INTEGERS


def tensor_of(code, shape, numbers):
    """A Tensor of numbers in row-major order."""
    strides = tuple(math.prod(shape[i + 1:]) for i in range(len(shape)))
    return Tensor(Storage(code, len(numbers), numbers), 0, tuple(shape), strides)


def numbers_of(tensor):
    """The numbers of a Tensor in row-major order."""
    places = [tensor.offset] if math.prod(tensor.shape) else []
    for length, stride in zip(tensor.shape, tensor.strides):
        places = [place + i * stride for place in places for i in range(length)]
    return [tensor.storage.numbers[place] for place in places]


def merged(tensor):
    """[(length, stride)] that lead to a Tensor's numbers in the same order, as few as can be: one
    of stride 1 where the numbers follow each other. No more than 62, since none is of length 1."""
    found = []
    for length, stride in zip(tensor.shape, tensor.strides):
        if found and found[-1][1] == length * stride:
            found[-1] = found[-1][0] * length, stride
        elif length != 1:
            found.append((length, stride))
    return found or [(1, 1)]


def places(start, dims):
    """From a start, the places that [(length, stride)] lead to, in order."""
    if not dims:
        yield start
        return
    length, stride = dims[0]
    for i in range(length):
        yield from places(start + i * stride, dims[1:])


def bytes_of(path, tensor):
    """The bytes of the integers of a Tensor that load() left in the file, in row-major order, piece
    by piece."""
    code, size = tensor.storage.code, struct.calcsize("=" + tensor.storage.code)
    *outer, (length, stride) = merged(tensor)
    most = max(1, CHUNK // (size * max(1, stride)))
    with open(path, "rb") as file:
        for start in places(tensor.offset, outer):
            if stride > FAR:                         # all between would be read again and again
                for at in range(length):
                    raw = os.pread(file.fileno(), size, tensor.storage.start
                                   + size * (start + at * stride))
                    if len(raw) < size:
                        raise Refused(path, "became shorter while it was read")
                    yield raw
                continue
            for at in range(0, length, most):
                count = min(most, length - at)
                wanted = size * ((count - 1) * stride + 1)
                file.seek(tensor.storage.start + size * (start + at * stride))
                raw = file.read(wanted)
                if len(raw) < wanted:
                    raise Refused(path, "became shorter while it was read")
                if stride == 0:                      # one number, again and again
                    raw *= count
                elif stride > 1:
                    raw = memoryview(raw).cast(code)[::stride].tobytes()
                yield raw


# ---- Reading --------------------------------------------------------------------------------

class Flagged(ValueError):
    """A tensor whose numbers are not those that are stored, but what becomes of them."""


def rebuild_tensor(storage, offset, shape, strides, _grad=False, _hooks=None, flags=None):
    """What stands for torch._utils._rebuild_tensor_v2: a view that lies within its storage."""
    if flags:                                        # neg, conj
        raise Flagged
    if not isinstance(storage, Storage) or not len(shape) == len(strides) <= DIMENSIONS or not all(
            map(is_count, (offset,) + shape + strides)):
        raise ValueError("no tensor")
    size, count = math.prod(shape), storage.count
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides))
    # More numbers than the storage has take a stride of 0: a few bytes that claim terabytes.
    if size > count or size and last >= count:
        raise ValueError("a tensor beyond its storage")
    return Tensor(storage, offset, shape, strides)


def rebuild_parameter(tensor, *_):
    """What stands for torch._utils._rebuild_parameter: the tensor."""
    if not isinstance(tensor, Tensor):
        raise ValueError("no tensor")
    return tensor


class Bare(collections.OrderedDict):
    """An ordered dict that has no attributes, whatever BUILD wants to give it."""

    def __init__(self):
        super().__init__()


GLOBALS = {("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
           ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
           ("collections", "OrderedDict"): Bare}
GLOBALS.update({("torch", name): letter for name, letter in STORAGES.items()})


class Archive:
    """The pickle of an archive, which may name tensors, storages and ordered dicts only.

    Lazy, it leaves the storages in the file until they are wanted, and takes a state_dict, which
    comes with versions of its modules as an attribute: hence a BUILD.
    """

    def __init__(self, path, archive, lazy):
        self.path, self.archive, self.lazy, self.storages = path, archive, lazy, {}
        self.left = size_of(archive.fp)
        self.check_places()
        self.prefix, = [name[:-8] for name in archive.namelist() if name.endswith("/data.pkl")]
        order = "little"
        if self.prefix + "byteorder" in archive.namelist():
            order = self.entry("byteorder").decode("ascii")
        self.order = {"little": "<", "big": ">"}[order]
        if lazy and order != "little":
            raise ValueError("big-endian numbers")

    def load(self):
        """What the pickle makes."""
        if self.archive.getinfo(self.prefix + "data.pkl").file_size > PICKLE:
            raise ValueError("a pickle beyond all need")
        return Machine(self.find_class, self.persistent_load, self.builds).run(
            self.entry("data.pkl"))

    def builds(self, value):
        """Whether BUILD is harmless: a state_dict's versions of modules, which are passed over."""
        return self.lazy and isinstance(value, Bare)

    def check_places(self):
        """That no two entries have one name, or one byte; some versions of zipfile only warn."""
        names = collections.Counter(self.archive.namelist()).most_common(1)
        if names and names[0][1] > 1:
            raise Refused(self.path, "the entry %.200s is there twice: once is expected"
                          % names[0][0])
        end, before = 0, None
        for info in sorted(self.archive.infolist(), key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise Refused(self.path, "the entries %.200s and %.200s lie over each other: every "
                              "one should have bytes of its own" % (before, info.filename))
            end, before = self.start_of(info) + info.compress_size, info.filename

    def find_class(self, module, name):
        if (module, name) == ("torch._utils", "_rebuild_tensor_v3"):
            raise Refused(self.path, "holds numbers of a type that came with PyTorch 2, as uint16 "
                          "did: those that it had before are read")
        if (module, name) not in GLOBALS:
            raise Refused(self.path, "refused: the pickle wants %s.%s: only tensors in dicts, "
                          "lists and tuples are read" % (module, name))
        return GLOBALS[module, name]

    def found(self, name):
        """A plain entry; all of them together are stored in no more than the file."""
        info = self.archive.getinfo(self.prefix + name)
        self.left -= info.file_size
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or (
                self.left < 0):
            raise ValueError("a compressed entry")
        return info

    def entry(self, name):
        return self.archive.read(self.found(name))

    def start_of(self, info):
        """Where in the file an entry's bytes start."""
        file = self.archive.fp
        file.seek(info.header_offset)
        head = file.read(30)                         # much as in the directory
        start = info.header_offset + 30 + sum(struct.unpack("<HH", head[26:]))
        named = file.read(int.from_bytes(head[26:28], "little"))
        name = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
        if head[:4] != b"PK\3\4" or named != name or info.flag_bits & 1 or (
                start + info.compress_size > self.archive.start_dir):
            raise ValueError("an entry beyond the data")
        return start

    def place(self, name):
        """Where in the file an entry's bytes start, and how many there are."""
        info = self.found(name)
        return self.start_of(info), info.file_size

    def persistent_load(self, identity):
        kind, code, key, _, count = identity
        if kind != "storage" or code not in NAMES or not is_count(count) or type(key) is not str:
            raise ValueError("no storage")
        width = struct.calcsize("=" + code)
        if key not in self.storages:
            self.storages[key] = (self.place if self.lazy else self.entry)("data/" + key)
        stored = self.storages[key]
        size = stored[1] if self.lazy else len(stored)
        if size != count * width:
            raise Refused(self.path, "storage %s claims %d numbers of %d bytes: %d bytes are there"
                          % (key, count, width, size))
        if self.lazy:
            return Storage(code, count, None, stored[0])
        if (code, key) not in self.storages:
            numbers = struct.unpack("%s%d%s" % (self.order, count, code), stored)
            if code == "H":
                wide = struct.pack("=%dI" % count, *(number << 16 for number in numbers))
                numbers = struct.unpack("=%df" % count, wide)
            self.storages[code, key] = Storage(code, count, numbers)
        return self.storages[code, key]


def load(path, lazy=False):
    """What torch.save wrote to path: dicts, lists, tuples, plain values, and Tensors."""
    with open_plain(path) as file:
        if not lazy and size_of(file) > SMALL_FILE:
            raise Refused(path, "is larger than %d MiB: not what its name says"
                          % (SMALL_FILE >> 20))
        if file.read(len(BEFORE)) == BEFORE:
            raise Refused(path, "is as torch.save wrote before PyTorch 1.6: expected is an "
                          "archive, as torch.save(torch.load(FILE), NEW) of a later one makes it")
        try:
            with no_warnings(path), zipfile.ZipFile(file) as archive:
                return Archive(path, archive, lazy).load()
        except Refused:
            raise
        except Flagged:
            raise Refused(path, "holds a tensor that stands for its numbers negated or conjugated: "
                          "only those as they are stored are read")
        except Exception:     # a hostile zip or pickle can make these modules raise nearly anything
            raise Refused(path, "is damaged, or not as torch.save has written since PyTorch 1.6")


# ---- Writing --------------------------------------------------------------------------------

def of_text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def of_int(value):
    if -1 << 31 <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def of_tuple(values):
    return b"(" + b"".join(map(of_int, values)) + b"t"


def pickled(value, storages):
    """The opcodes that make value; the storages of its tensors are added to the list."""
    if isinstance(value, dict):
        return b"}(" + b"".join(of_text(key) + pickled(item, storages)
                                for key, item in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(pickled(item, storages) for item in value) + b"e"
    if isinstance(value, int):
        return of_int(value)
    storage = value.storage
    storages.append(storage)
    return (b"ctorch._utils\n_rebuild_tensor_v2\n((" + of_text("storage")
            + b"ctorch\n%s\n" % NAMES[storage.code].encode() + of_text(str(len(storages) - 1))
            + of_text("cpu") + of_int(storage.count) + b"tQ" + of_int(value.offset)
            + of_tuple(value.shape) + of_tuple(value.strides)
            + b"\x89ccollections\nOrderedDict\n)RtR")


def save(file, value):
    """Write dicts, lists, integers and Tensors to an open file; the same bytes always."""
    storages = []
    program = b"\x80\x02" + pickled(value, storages) + b"."
    with zipfile.ZipFile(file, "w") as archive:
        def add(name, data):
            archive.writestr(zipfile.ZipInfo("archive/" + name), data)

        add("data.pkl", program)
        add("byteorder", "little")
        for key, storage in enumerate(storages):
            add("data/%d" % key, struct.pack("<%d%s" % (storage.count, storage.code),
                                             *storage.numbers))
        add("version", "3\n")
