"""tokenizer.model, a protobuf that SentencePiece writes: its pieces, and settings of it."""

import math
import re
import struct

from formats.plain_file import read_small
from guard import Refused

# The fields that matter of each message: number -> (name, wire type, the schema's default).
VARINT, BYTES, FIXED32 = 0, 2, 5
PIECE = {1: ("piece", BYTES, b""), 2: ("score", FIXED32, bytes(4)), 3: ("type", VARINT, 1)}
TRAINER = {3: ("model_type", VARINT, 1), 24: ("treat_whitespace_as_suffix", VARINT, 0),
           35: ("byte_fallback", VARINT, 0), 40: ("unk_id", VARINT, 0), 41: ("bos_id", VARINT, 1),
           42: ("eos_id", VARINT, 2), 44: ("unk_surface", BYTES, b" \xe2\x81\x87 "),
           46: ("bos_piece", BYTES, b"<s>"), 47: ("eos_piece", BYTES, b"</s>")}
NORMALIZER = {2: ("precompiled_charsmap", BYTES, b""), 3: ("add_dummy_prefix", VARINT, 1),
              4: ("remove_extra_whitespaces", VARINT, 1), 5: ("escape_whitespaces", VARINT, 1)}
DENORMALIZER = {2: ("denormalizer_spec", BYTES, b"")}
MODEL_TYPES = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}
SUPPORTED = {"model_type": "BPE", "precompiled_charsmap": b"", "remove_extra_whitespaces": 0,
             "escape_whitespaces": 1, "treat_whitespace_as_suffix": 0,
             "unk_surface": b" \xe2\x81\x87 ", "denormalizer_spec": b""}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)   # of pieces, the same in GGUF
MODEL_FILE = 1 << 26                                 # a tokenizer.model is smaller than this
SPACE = "\u2581"                                     # how a piece writes a space


def varint(data, at):
    """The integer of seven bits a byte that starts at data[at], and where it ends."""
    value = 0
    for i, byte in enumerate(data[at:at + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise ValueError("a varint that does not end")


def fields(data):
    """(number, wire type, value) of every field of a protobuf message."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        value, end = varint(data, at) if tag & 7 in (VARINT, BYTES) else (None, at)
        if tag & 7 != VARINT:
            size = {1: 8, BYTES: value, FIXED32: 4}[tag & 7]
            value, end = data[end:end + size], end + size
            if end > len(data):
                raise ValueError("a field that does not end")
        at = end
        yield tag >> 3, tag & 7, value


def message(data, schema):
    """name -> value of a message's fields that matter; the last of several holds."""
    values = {name: default for name, _, default in schema.values()}
    for number, wire, value in fields(data):
        if number in schema:
            name, expected, _ = schema[number]
            if wire != expected:
                raise ValueError("a field of another type")
            # A number below zero is written as 64 bits of two's complement.
            values[name] = value - (1 << 64) if wire == VARINT and value >> 63 else value
    return values


def read_piece(path, data):
    """(text, score, type) of one piece of the vocabulary."""
    piece = message(data, PIECE)
    text, kind = piece["piece"].decode("utf-8"), piece["type"]
    score, = struct.unpack("<f", piece["score"])
    if kind == UNUSED:
        raise Refused(path, "piece %s is of type UNUSED, which is not supported" % text)
    if not text or not 1 <= kind <= BYTE or not math.isfinite(score) or (
            kind == BYTE and not re.fullmatch("<0x[0-9A-F]{2}>", text)):
        raise ValueError("an impossible piece")
    # SentencePiece marks a text's spaces first, and never finds a piece with a plain one. A reader
    # of GGUF does: llama.cpp's converter writes marked ones so.
    return text, score, NORMAL if kind == USER_DEFINED and " " in text else kind


def check_bytes(path, pieces, wanted):
    """The library takes no bytes without the setting, nor the setting without all bytes."""
    count = sum(kind == BYTE for _, _, kind in pieces)
    if count != 256 * bool(wanted):
        raise Refused(path, "has %d pieces for bytes, byte_fallback being %d: there are 256 with "
                      "it, and none without" % (count, wanted))


def read_sentencepiece(path):
    """The pieces and the settings of a tokenizer.model."""
    data, parts = read_small(path, MODEL_FILE), {1: [], 2: [], 3: [], 5: []}
    try:
        for number, wire, value in fields(data):
            if number in parts and wire == BYTES:
                parts[number].append(value)
        # A message that comes in parts is, by protobuf's rules, the message of the parts joined.
        spec = {}
        for number, schema in (2, TRAINER), (3, NORMALIZER), (5, DENORMALIZER):
            spec.update(message(b"".join(parts[number]), schema))
        spec["model_type"] = MODEL_TYPES.get(spec["model_type"], "unknown")
        for key, known in SUPPORTED.items():
            if spec[key] != known:
                raise Refused(path, "%s is %.30r: only %r is supported" % (key, spec[key], known))
        pieces = [read_piece(path, piece) for piece in parts[1]]
    except (ValueError, KeyError, struct.error):
        raise Refused(path, "is damaged, or not a SentencePiece model")
    unknown = [i for i, (_, _, kind) in enumerate(pieces) if kind == UNKNOWN]
    if unknown != [spec["unk_id"]] or len({text for text, _, _ in pieces}) < len(pieces):
        raise Refused(path, "has a piece twice, or not just one unknown piece, at unk_id")
    check_bytes(path, pieces, spec["byte_fallback"])
    return pieces, spec
