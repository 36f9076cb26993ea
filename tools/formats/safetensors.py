"""safetensors: a header in JSON that says where each tensor's bytes lie, and these."""

import math

from formats.gguf import TYPES
from formats.json_file import parse_json
from formats.plain_file import open_plain, size_of
from formats.stored import Stored, wrong_type
from guard import Refused, is_count

HEADER_LIMIT = 100_000_000   # the safetensors format's own limit

DTYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
OTHERS = {"BOOL": 1, "U8": 1, "I64": 8}              # of masks, which no model needs


def check_entry(path, name, entry, data_start, file_size):
    """One entry of a safetensors header as a Stored, once its bytes are known to be there."""
    entry = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPES and dtype not in OTHERS:
        raise wrong_type(path, name, dtype)
    for values in shape, offsets:
        if not isinstance(values, list) or len(values) > 8 or not all(map(is_count, values)):
            raise Refused(path, "tensor %s: shape or data_offsets are no short lists of counts"
                          % name)
    size = (OTHERS.get(dtype) or TYPES[DTYPES[dtype]].size) * math.prod(shape)
    if len(offsets) != 2 or offsets[1] - offsets[0] != size:
        raise Refused(path, "tensor %s: data_offsets are %s, but shape and type make %d bytes"
                      % (name, offsets, size))
    if data_start + offsets[1] > file_size:
        raise Refused(path, "tensor %s ends beyond the file: is the file cut off?" % name)
    return Stored(path, name, DTYPES.get(dtype, dtype), tuple(shape), data_start + offsets[0])


def check_tiling(path, header, size):
    """That the tensors fill the data, one after the other: so the format has it, and a hole or an
    overlap is the trace of a file that was not written as it was meant."""
    end = 0
    for name in sorted(header, key=lambda name: header[name]["data_offsets"]):
        start, end, before = header[name]["data_offsets"] + [end]
        if start != before:
            raise Refused(path, "tensor %s begins at byte %d of the data, where what is before it "
                          "ends at %d: no hole and no overlap are expected"
                          % (name, start, before))
    if end != size:
        raise Refused(path, "the tensors end at byte %d of the data: %d bytes are there, which "
                      "should all be of a tensor" % (end, size))


def read_safetensors(path):
    """name -> Stored for every tensor of one file."""
    with open_plain(path) as file:
        file_size = size_of(file)
        length = int.from_bytes(file.read(8), "little")
        if length > min(file_size - 8, HEADER_LIMIT):
            raise Refused(path, "a header of %d bytes does not fit: is it safetensors?" % length)
        raw = file.read(length)
        if raw[:1] != b"{":
            raise Refused(path, "the header is no JSON object: is it safetensors?")
        header = parse_json(path, raw)
    about = header.pop("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(text, str) for text in about.values()):
        raise Refused(path, "__metadata__ is not an object of texts")
    found = {name: check_entry(path, name, entry, 8 + length, file_size)
             for name, entry in header.items()}
    check_tiling(path, header, file_size - 8 - length)
    return found
