"""What the numbers of a tensor are worth: those of every type that lape reads, as float32.

Written down from the formats themselves, in the standard library. A block is its bytes; with numpy
it may as well be as many arrays, array i of byte i of many blocks: the same lines then do all these
at once.

A weight is made of halves (f16) and whole numbers. All products of these are multiples of 2^-24
below 2^28, and so are their sums: double holds them exactly, and packing them as float32 rounds
each weight once.
"""

import struct

from formats.gguf import TYPES

try:
    import numpy
except ImportError:
    numpy = None

LEVELS = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]


# ---- What blocks are worth ---------------------------------------------------------------------

def half(block, at):
    if isinstance(block, bytes):
        return struct.unpack_from("<e", block, at)[0]
    return (block[at] | block[at + 1] << 8).astype("u2").view("f2").astype("f8")


def signed(data):
    return [(byte ^ 128) - 128 for byte in data]


def levels(q):
    return [LEVELS[i] if isinstance(i, int) else numpy.take(LEVELS, i) for i in q]


def bits(data, shifts, mask):
    """Of all bytes the bits at the first shift, then of all those at the second, ..."""
    return [byte >> shift & mask for shift in shifts for byte in data]


def parts(data, size):
    return [data[at:at + size] for at in range(0, len(data), size)]


def nibbles(data, size):
    """Of every `size` bytes the low halves, then the high ones."""
    return [q for part in parts(data, size) for q in bits(part, (0, 4), 15)]


def pairs(data):
    """Of every 32 bytes the lowest two bits, then the next two, ..."""
    return [q for part in parts(data, 32) for q in bits(part, (0, 2, 4, 6), 3)]


def joined(low, high, above):
    return [a | b << above for a, b in zip(low, high)]


def bit_by_bit(data):
    return [byte >> i & 1 for byte in data for i in range(8)]


def six_bits(s):
    """Eight scales and eight offsets out of twelve bytes."""
    first, second, third = s[:4], s[4:8], s[8:]
    top = [[byte >> 6 for byte in some] for some in (first, second)]
    return ([byte & 63 for byte in first] + joined(bits(third, [0], 15), top[0], 4),
            [byte & 63 for byte in second] + joined(bits(third, [4], 15), top[1], 4))


def grouped(q, d, scales, e=0.0, offsets=None):
    """d s q - e o; as many numbers to each scale as there are."""
    size = len(q) // len(scales)
    if offsets is None:
        return [d * scales[i // size] * x for i, x in enumerate(q)]
    return [d * scales[i // size] * x - e * offsets[i // size] for i, x in enumerate(q)]


def q4_0(b):
    return grouped([q - 8 for q in nibbles(b[2:], 16)], half(b, 0), [1])


def q4_1(b):
    return [half(b, 0) * q + half(b, 2) for q in nibbles(b[4:], 16)]


def q5_0(b):
    fives = joined(nibbles(b[6:], 16), bit_by_bit(b[2:6]), 4)
    return grouped([q - 16 for q in fives], half(b, 0), [1])


def q5_1(b):
    fives = joined(nibbles(b[8:], 16), bit_by_bit(b[4:8]), 4)
    return [half(b, 0) * q + half(b, 2) for q in fives]


def q8_0(b):
    return grouped(signed(b[2:]), half(b, 0), [1])


def q2_k(b):
    return grouped(pairs(b[16:80]), half(b, 80), bits(b[:16], [0], 15), half(b, 82),
                   bits(b[:16], [4], 15))


def q3_k(b):
    q = joined(pairs(b[32:96]), bits(b[:32], range(8), 1), 2)
    scales = joined(nibbles(b[96:104], 8), bits(b[104:108], (0, 2, 4, 6), 3), 4)
    return grouped([x - 4 for x in q], half(b, 108), [s - 32 for s in scales])


def q4_k(b):
    scales, offsets = six_bits(b[4:16])
    return grouped(nibbles(b[16:], 32), half(b, 0), scales, half(b, 2), offsets)


def q5_k(b):
    scales, offsets = six_bits(b[4:16])
    q = joined(nibbles(b[48:], 32), bits(b[16:48], range(8), 1), 4)
    return grouped(q, half(b, 0), scales, half(b, 2), offsets)


def q6_k(b):
    q = joined(nibbles(b[:128], 64), pairs(b[128:192]), 4)
    return grouped([x - 32 for x in q], half(b, 208), signed(b[192:208]))


def iq4_nl(b):
    return grouped(levels(nibbles(b[2:], 16)), half(b, 0), [1])


def iq4_xs(b):
    top = b[2] | b[3] << 8
    scales = joined([q for byte in b[4:8] for q in (byte & 15, byte >> 4)],
                    [top >> 2 * g & 3 for g in range(8)], 4)
    return grouped(levels(nibbles(b[8:], 16)), half(b, 0), [s - 32 for s in scales])


BLOCK = {"q4_0": q4_0, "q4_1": q4_1, "q5_0": q5_0, "q5_1": q5_1, "q8_0": q8_0, "q2_k": q2_k,
         "q3_k": q3_k, "q4_k": q4_k, "q5_k": q5_k, "q6_k": q6_k, "iq4_nl": iq4_nl,
         "iq4_xs": iq4_xs}


# ---- Many blocks ---------------------------------------------------------------------------------

def at_once(raw, kind):
    """The numbers of whole blocks, by numpy."""
    bytes_by_place = numpy.frombuffer(raw, "u1").reshape(-1, TYPES[kind].size).T.astype("i4")
    with numpy.errstate(all="ignore"):                   # a scale may be no number
        return numpy.array(BLOCK[kind](bytes_by_place), "<f4").T.tobytes()


def one_by_one(raw, kind):
    numbers = [x for block in parts(bytes(raw), TYPES[kind].size) for x in BLOCK[kind](block)]
    return struct.pack("<%df" % len(numbers), *numbers)


def widened(raw, kind):
    """The same numbers as float32, exactly but for the quantised types' one rounding."""
    if kind == "bf16":                               # a bfloat16 is the upper half of a float32
        wide = bytearray(2 * len(raw))
        wide[2::4] = raw[0::2]
        wide[3::4] = raw[1::2]
        return wide
    if kind == "f16" and numpy:
        return numpy.frombuffer(raw, "<f2").astype("<f4").tobytes()
    if kind == "f16":
        count = len(raw) // 2
        return struct.pack("<%df" % count, *struct.unpack("<%de" % count, raw))
    if kind in BLOCK:
        return (at_once if numpy else one_by_one)(raw, kind)
    return raw


def numbers_of(raw, kind):
    """A sequence of them: an array of float32 where numpy is, else floats."""
    wide = widened(raw, kind)
    if numpy:
        return numpy.frombuffer(wide, "<f4")
    return struct.unpack("<%df" % (len(wide) // 4), wide)
