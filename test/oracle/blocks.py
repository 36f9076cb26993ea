#!/usr/bin/env python3
"""The numbers that quantised tensors hold, by the gguf package.

    python test/oracle/blocks.py            test/blocks.tsv is what would be written now; the
                                            models of the folders of LAPE_REAL (published.py) as
                                            below
    python test/oracle/blocks.py golden     writes blocks.tsv, which test_blocks.c and
                                            test_quantised.py read
    python test/oracle/blocks.py FILE...    every tensor of these GGUF files as lape widens it, bit
                                            by bit; and counts, perplexities and text, byte by byte,
                                            from a copy whose numbers gguf has dequantised

It wants numpy and gguf; whole files want build/widen and ./lape (LAPE) beside. Every check prints
one line; the last is `N passed, N failed`.

Is gguf's dequantize, in numpy, what ggml's reference in C (dequantize_row_* in ggml-quants.c)
gives? Both were read type by type. They agree in what a block's bits mean and in which numbers
are multiplied and subtracted, but not always in the order: C has q d in Q4_0 to Q5_1, numpy d q; and
a C compiler may fuse d q - m. Neither can change a bit: a half has 11 significant bits, scales of
groups at most 7 (Q6_K; 6 in Q4_K and Q5_K; 5 in Q3_K and IQ4_XS, which go from -32 to 31; 4 in
Q2_K), and q at most 7 (Q8_0 and the levels of IQ4; 5 elsewhere). That makes 23 for all three factors
together, in IQ4_XS and Q6_K (-128 and -32 are one bit), and no exponent is near float32's ends: every
product is exact in whatever order, the sign of a zero included. What is rounded, once, is the one
sum of Q4_1, Q5_1, Q2_K, Q4_K and Q5_K, whose two sides are such products: d q + m and d s q - e o.
"""

import os
import random
import struct
import subprocess
import sys
import tempfile

import gguf
import numpy as np

from paths import LAPE, ROOT
import published
import quants
from report import Checks

CHECKS = Checks()
GOLDEN = os.path.join(ROOT, "test", "blocks.tsv")
WIDEN = os.path.join(ROOT, "build", "widen")
CHUNK = 1024         # blocks to a digest: the halves of one exponent and sign
PIECE = 1 << 22      # numbers of a file that are looked at together
HEAD = """\
# Made by `make golden-blocks`: what gguf %s makes of blocks of every type. Numbers are float32's
# bits, `x*n` standing for n times x; every NaN is written 7fc00000.
# type    name, ggml's number, numbers of a block, its bytes, where its f16 scales lie
# block   type, what it is, its bytes, its numbers
# digest  type, of every %d of the blocks that quants.block() makes the digest of their numbers:
#         the sum of bits of number j times (mixed(j) | 1), j from 0, in 64 bits
"""


def dequantized(name, blocks):
    """The bits of the numbers of blocks [n, bytes]."""
    with np.errstate(all="ignore"):
        return gguf.dequantize(blocks, gguf.GGMLQuantizationType[name]).view(np.uint32).ravel()


# ---- Golden blocks -----------------------------------------------------------------------------

def mixed(i):
    """quants.mixed() of many."""
    x = (i + np.uint64(1)) * np.uint64(0x9e3779b97f4a7c15)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xbf58476d1ce4e5b9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94d049bb133111eb)
    return x ^ x >> np.uint64(31)


def finite(i):
    half = quants.FINITE // 2
    return (i % half | i // half << 15).astype("<u2")


def all_blocks(name):
    """quants.block() of every number, [FINITE, bytes]."""
    number, _, size, places = quants.KINDS[name]
    words = (size + 7) // 8
    i = np.arange(quants.FINITE)
    made = mixed(np.arange(quants.FINITE * words, dtype=np.uint64) + np.uint64(number << 32))
    made = made.astype("<u8").view(np.uint8).reshape(quants.FINITE, -1)[:, :size].copy()
    for at, which in zip(places, (i, (i * quants.STEP + quants.START) % quants.FINITE)):
        made[:, at:at + 2] = finite(which).view(np.uint8).reshape(-1, 2)
    return made


def digests(name, blocks):
    numbers = dequantized(name, blocks).astype(np.uint64).reshape(quants.FINITE // CHUNK, -1)
    weights = mixed(np.arange(numbers.shape[1], dtype=np.uint64)) | np.uint64(1)
    return (numbers * weights).sum(axis=1, dtype=np.uint64)


def scaled(name, data, *scales):
    """A block of such bytes, with these bits for its scales, the last one for all others."""
    block = bytearray(data)
    for i, at in enumerate(quants.KINDS[name][3]):
        struct.pack_into("<H", block, at, scales[min(i, len(scales) - 1)])
    return bytes(block)


def full_blocks(name):
    """What a block is, and its bytes."""
    size = quants.KINDS[name][2]
    rng = random.Random(name)
    noise = [bytes(rng.randrange(256) for _ in range(size)) for _ in range(4)]
    ones, alternating = b"\xff" * size, b"\x55\xaa" * (size // 2)
    return [
        ("zeros", bytes(size)),
        ("ones, scale 1", scaled(name, ones, 0x3c00)),
        ("largest scales", scaled(name, ones, 0x7bff)),
        ("largest scales, apart in sign", scaled(name, ones, 0xfbff, 0x7bff)),
        ("smallest scales", scaled(name, alternating, 0x0001)),
        ("smallest scales, apart in sign", scaled(name, alternating, 0x8001, 0x0001)),
        ("scales of negative zero", scaled(name, noise[0], 0x8000)),
        ("scales of both zeros", scaled(name, noise[0], 0x0000, 0x8000)),
        ("alternating bits", scaled(name, alternating[::-1], 0x2e66, 0xb266)),
        ("random bytes", scaled(name, noise[1], 0xb801, 0x2c37)),
        ("infinite scales", scaled(name, noise[2], 0x7c00)),
        ("infinite scales, apart in sign", scaled(name, alternating, 0xfc00, 0x7c00)),
        ("scales that are no numbers", scaled(name, noise[3], 0x7e00)),
        ("one scale that is no number", scaled(name, alternating, 0x3c00, 0xfdff))]


def shortened(numbers):
    """Bits in hex, a run as `x*n`."""
    words, at = [], 0
    while at < len(numbers):
        end = at
        while end < len(numbers) and numbers[end] == numbers[at]:
            end += 1
        words.append("%08x" % numbers[at] + ("*%d" % (end - at) if end - at > 1 else ""))
        at = end
    return " ".join(words)


def golden_text():
    from importlib.metadata import version
    lines = []
    for name, (number, numbers, size, places) in quants.KINDS.items():
        lines.append(["type", name, number, numbers, size, ",".join(map(str, places))])
    for name in quants.KINDS:
        for what, block in full_blocks(name):
            found = dequantized(name, np.frombuffer(block, np.uint8).reshape(1, -1)).copy()
            found[np.isnan(found.view(np.float32))] = 0x7fc00000
            lines.append(["block", name, what, block.hex(), shortened(found)])
    for name in quants.KINDS:
        lines.append(["digest", name] + ["%016x" % x for x in digests(name, all_blocks(name))])
    return HEAD % (version("gguf"), CHUNK) + "".join(
        "\t".join(map(str, line)) + "\n" for line in lines)


def check_golden():
    """blocks.tsv as it is made now, and weights.py's own reading of many blocks."""
    with open(GOLDEN, encoding="utf-8") as file:
        there = file.read().split("\n", 1)[1]        # but for the version that made it
    CHECKS.say(there == golden_text().split("\n", 1)[1], "blocks.tsv is what gguf makes now")
    for name in quants.KINDS:
        blocks = all_blocks(name)
        some = random.Random(name).sample(range(quants.FINITE), 500)
        alike = all(quants.block(name, i) == blocks[i].tobytes() for i in some)
        values = b"".join(quants.widened(name, blocks[i].tobytes()) for i in some)
        wanted = dequantized(name, blocks[some]).tobytes()
        at_once = quants.weights.widened(blocks[some].tobytes(), name.lower())
        CHECKS.say(alike and values == wanted == at_once, "%s: quants.py makes %d blocks alike, and "
               "weights.py widens them so, one by one and at once" % (name, len(some)))


# ---- Whole files -------------------------------------------------------------------------------

def pieces(tensor):
    """A tensor's numbers by gguf, some rows at a time."""
    data = tensor.data.reshape(-1, tensor.data.shape[-1])
    rows = max(1, PIECE // int(tensor.shape[0]))
    for at in range(0, len(data), rows):
        yield gguf.dequantize(data[at:at + rows], tensor.tensor_type).astype(np.float32, copy=False)


def head_in_f32(reader):
    """The start of a copy whose tensors are all F32, one after the other."""
    with open(reader.data.filename, "rb") as file:
        head = file.read(reader.tensors[0].field.offset)
    offset = 0
    for tensor in reader.tensors:
        name = tensor.name.encode()
        dims = [int(n) for n in tensor.shape]
        head += struct.pack("<Q", len(name)) + name + struct.pack(
            "<I%dQIQ" % len(dims), len(dims), *dims, 0, offset)
        offset += -(-4 * int(tensor.n_elements) // reader.alignment) * reader.alignment
    return head + bytes(-len(head) % reader.alignment)


def write_in_f32(copy, reader, numbers_of):
    """A copy whose tensors are all F32, numbers_of(tensor) being the pieces of each."""
    copy.write(head_in_f32(reader))
    for tensor in reader.tensors:
        for piece in numbers_of(tensor):
            copy.write(piece)
        copy.write(bytes(-4 * int(tensor.n_elements) % reader.alignment))


def compare_numbers(path, reader, copy):
    """How many numbers lape widens to what gguf dequantises them to, None where they are not all;
    the latter become a copy."""
    widened, differ = subprocess.Popen([WIDEN, path], stdout=subprocess.PIPE), {}

    def compared(tensor):
        for numbers in pieces(tensor):
            theirs, ours = numbers.tobytes(), widened.stdout.read(numbers.nbytes)
            if theirs != ours:
                differ[tensor.name] = differ.get(tensor.name, 0) + (
                    len(ours) != len(theirs) or int(np.count_nonzero(
                        np.frombuffer(theirs, np.uint32) != np.frombuffer(ours, np.uint32))))
            yield theirs
    write_in_f32(copy, reader, compared)
    for tensor in reader.tensors:
        if tensor.name in differ:
            CHECKS.say(False, "%s: %s, %s: %d numbers differ" % (
                path, tensor.name, tensor.tensor_type.name, differ[tensor.name]))
    end = widened.stdout.read()
    whole = widened.wait() == 0 and not end and not differ
    return sum(int(tensor.n_elements) for tensor in reader.tensors) if whole else None


def texts(folder):
    """A short text of two languages and some prompts: file names."""
    made = []
    for language in "en", "zh":
        with open(os.path.join(ROOT, "demo", "text", language + ".eval.txt"), "rb") as file:
            lines = file.read().split(b"\n")[:4]
        made.append(os.path.join(folder, language + ".txt"))
        with open(made[-1], "wb") as file:
            file.write(b"\n".join(lines) + b"\n")
    made.append(os.path.join(folder, "prompts.txt"))
    with open(made[-1], "w", encoding="utf-8") as file:
        file.write("The weather in the mountains\nLe temps\n")
    return made


def outputs(model, folder):
    """What lape makes of a model, by what it is."""
    en, zh, prompts = texts(folder)
    out = os.path.join(folder, "out")
    words = ["en=" + en, "zh=" + zh, "--seq", "64"]
    runs = {"counts": ["count", model, *words], "perplexities": ["ppl", model, *words],
            "text": ["generate", model, "-f", prompts, "-n", "12", "--temp", "0"]}
    made = {}
    for what, run in runs.items():
        subprocess.run([LAPE, *run, "-q", "-o", out], check=True)
        with open(out, "rb") as file:
            made[what] = file.read()
    made["counts"] = without_digest(made["counts"])
    return made


def without_digest(counts):
    """Counts without the eight bytes that tell of which file they are."""
    key = b"lape-counts.model_digest"
    start = counts.index(key) + len(key) + 4  # its type
    return counts[:start] + counts[start + 8:]


def check_file(path):
    reader, name = gguf.GGUFReader(path), os.path.basename(path)
    types = sorted({tensor.tensor_type.name for tensor in reader.tensors})
    folder_of_copy = os.path.join(ROOT, "build")
    with tempfile.TemporaryDirectory(dir=folder_of_copy) as folder:
        with open(os.path.join(folder, "f32.gguf"), "wb") as copy:
            total = compare_numbers(path, reader, copy)
        CHECKS.say(total, "%s: %s numbers of %d tensors, %s, equal in every bit" % (
            name, format(total or 0, ","), len(reader.tensors), " ".join(types)))
        ours, theirs = outputs(path, folder), outputs(copy.name, folder)
    for what in ours:
        CHECKS.say(ours[what] == theirs[what], "%s: %s, %d bytes, as of its copy in F32" % (
            name, what, len(ours[what])))


def quantised(path):
    return any(tensor.tensor_type.name in quants.QUANTISED
               for tensor in gguf.GGUFReader(path).tensors)


# ---- All of it ---------------------------------------------------------------------------------

def main():
    if sys.argv[1:] == ["golden"]:
        with open(GOLDEN, "w", encoding="utf-8") as file:
            file.write(golden_text())
        return 0
    if not sys.argv[1:]:
        check_golden()
    for path in sys.argv[1:] or filter(quantised, published.files()):
        check_file(path)
    return CHECKS.end()


if __name__ == "__main__":
    sys.exit(main())
