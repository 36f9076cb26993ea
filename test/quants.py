"""Blocks of quantised tensors, in the standard library: what each is worth, written down from the
formats themselves, and a generator of blocks that test_blocks.c has, too. blocks.py holds both
against the gguf package.

A weight is made of halves (f16) and whole numbers. All products of these are multiples of 2^-24
below 2^28, and so are their sums: double holds them exactly, and packing them as float32 rounds
each weight once.
"""

import struct

# name -> ggml's number, numbers and bytes of a block, where its f16 scales lie; of the types that
# are no blocks, whose numbers are taken as scales, the two bytes that hold the exponent
KINDS = {
    "F32": (0, 1, 4, [2]), "F16": (1, 1, 2, [0]), "BF16": (30, 1, 2, [0]),
    "Q4_0": (2, 32, 18, [0]), "Q4_1": (3, 32, 20, [0, 2]), "Q5_0": (6, 32, 22, [0]),
    "Q5_1": (7, 32, 24, [0, 2]), "Q8_0": (8, 32, 34, [0]), "Q2_K": (10, 256, 84, [80, 82]),
    "Q3_K": (11, 256, 110, [108]), "Q4_K": (12, 256, 144, [0, 2]),
    "Q5_K": (13, 256, 176, [0, 2]), "Q6_K": (14, 256, 210, [208]), "IQ4_NL": (20, 32, 18, [0]),
    "IQ4_XS": (23, 256, 136, [0]),
}
QUANTISED = [name for name, kind in KINDS.items() if kind[1] > 1]
LEVELS = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]


# ---- What blocks are worth ---------------------------------------------------------------------

def half(block, at):
    return struct.unpack_from("<e", block, at)[0]


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
    return grouped(struct.unpack("<32b", b[2:]), half(b, 0), [1])


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
    return grouped([x - 32 for x in q], half(b, 208), struct.unpack("<16b", b[192:208]))


def iq4_nl(b):
    return grouped([LEVELS[q] for q in nibbles(b[2:], 16)], half(b, 0), [1])


def iq4_xs(b):
    top, = struct.unpack_from("<H", b, 2)
    scales = joined([q for byte in b[4:8] for q in (byte & 15, byte >> 4)],
                    [top >> 2 * g & 3 for g in range(8)], 4)
    return grouped([LEVELS[q] for q in nibbles(b[8:], 16)], half(b, 0), [s - 32 for s in scales])


BLOCK = {"Q4_0": q4_0, "Q4_1": q4_1, "Q5_0": q5_0, "Q5_1": q5_1, "Q8_0": q8_0, "Q2_K": q2_k,
         "Q3_K": q3_k, "Q4_K": q4_k, "Q5_K": q5_k, "Q6_K": q6_k, "IQ4_NL": iq4_nl,
         "IQ4_XS": iq4_xs}


def widened(name, block):
    """A block's float32 numbers, as bytes."""
    if name == "F32":
        return block
    if name == "BF16":
        return b"\0\0" + block
    numbers = [half(block, 0)] if name == "F16" else BLOCK[name](block)
    return struct.pack("<%df" % len(numbers), *numbers)


# ---- Any number of blocks ----------------------------------------------------------------------

FINITE = 63488              # halves that are numbers
STEP, START = 40503, 12345  # prime to FINITE: i STEP + START goes through all of them, too


def mixed(i):
    """splitmix64's number i (Steele et al., 2014): as random as is wanted here."""
    mask = (1 << 64) - 1
    x = (i + 1) * 0x9e3779b97f4a7c15 & mask
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9 & mask
    x = (x ^ x >> 27) * 0x94d049bb133111eb & mask
    return x ^ x >> 31


def finite(i):
    """The bits of half i, positive ones first."""
    return i % (FINITE // 2) | i // (FINITE // 2) << 15


def block(name, i):
    """Block i < FINITE: random bytes, and for scales every half that is a number once."""
    number, _, size, places = KINDS[name]
    words = (size + 7) // 8
    made = bytearray(b"".join(struct.pack("<Q", mixed((number << 32) + i * words + w))
                              for w in range(words))[:size])
    for at, which in zip(places, (i, (i * STEP + START) % FINITE)):
        struct.pack_into("<H", made, at, finite(which))
    return bytes(made)
