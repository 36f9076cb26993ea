"""Blocks of every type, at random: the generator that test_blocks.c has, too, and what each block
is worth by tools/formats/weights.py. oracle/blocks.py holds both against the gguf package.
"""

import struct

from formats import weights
from formats.gguf import TYPES

# name -> where the f16 scales of a block lie; of the types that are no blocks, whose numbers are
# taken as scales, the two bytes that hold the exponent
SCALES = {"F32": [2], "F16": [0], "BF16": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0],
          "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2],
          "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0]}
# name -> ggml's number, numbers and bytes of a block, the scales' places
KINDS = {name: (*TYPES[name.lower()], places) for name, places in SCALES.items()}
QUANTISED = [name for name, kind in KINDS.items() if kind[1] > 1]


def widened(name, block):
    """A block's float32 numbers, as bytes, by the standard library alone."""
    kind = name.lower()
    return bytes((weights.one_by_one if kind in weights.BLOCK else weights.widened)(block, kind))


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
