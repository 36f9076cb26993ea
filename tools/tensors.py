#!/usr/bin/env python3
"""How far one tensor is from another: the largest differences and where they are, how all of them
are distributed, by layer, and a verdict.

    tensors.py REFERENCE OTHER [--tolerance X]

Both are .npy files of floating-point numbers in C order, of any precision, as `lape trace` and
numpy.save write them, and of one shape; dimensions of 1 at the front do not matter. Exit status 0
when no number is off by more than X (0), 1 when one is, or a file is no such tensor. Needs numpy,
and some megabytes of memory, whatever the size of the tensors.
"""

import argparse
import math
import os
import re
import stat
import sys

from guard import Refused

try:
    import numpy as np
except ImportError:
    sys.exit("tensors.py: needs numpy: python3 -m pip install numpy")

PIECE = 1 << 18                      # numbers at a time: they stay in the processor's cache
MOST_DIMENSIONS, LONGEST_HEADER = 8, 4095


# ---- .npy files ----------------------------------------------------------------------------------

# numpy's own reader takes any Python dict, keys that are there twice, and numbers behind the last:
# nobody writes such files, so they are not what they seem.
KEY, VALUE = "descr|fortran_order|shape", r"'[^']*'|False|\([0-9, ]*\)"
PAIR = re.compile("'(%s)' *: *(%s)" % (KEY, VALUE))
HEADER = re.compile(r"\{{ *(?:{0}, *){{2}}{0}(?:, *)?\}} *\n?".format(
    "'(?:%s)' *: *(?:%s) *" % (KEY, VALUE)))
TYPE = re.compile("'[<|=]([iu][1248]|f[248])'")
SHAPE = re.compile(r"\( *(?:[0-9]+ *, *)*(?:[0-9]+ *)?\)")


def opened(path):
    # what is no plain file may wait for a writer for ever: it is not even opened
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise Refused(path, "not a regular file")
    return open(path, "rb", buffering=0)


class Tensor:
    """An open file's numbers, which stay there until a piece of them is asked for."""

    def __init__(self, file):
        self.file, self.path = file, file.name
        self.size = os.fstat(file.fileno()).st_size
        if self.size == 0:
            raise Refused(self.path, "the file is empty")
        self.parse(self.header())
        while len(self.shape) > 1 and self.shape[0] == 1:        # many tools have one for the batch
            del self.shape[0]

    def header(self):
        """The text before the numbers."""
        start = self.file.read(12)
        if len(start) < 12 or start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3):
            raise Refused(self.path, "not a .npy file of version 1, 2 or 3")
        before = 10 if start[6] == 1 else 12
        length = int.from_bytes(start[8:before], "little")
        self.start = before + length
        if self.start > self.size or length > LONGEST_HEADER:
            raise Refused(self.path, "the .npy header is cut short")
        self.file.seek(before)
        return self.file.read(length).decode("latin-1")

    def parse(self, header):
        of = dict(PAIR.findall(header)) if HEADER.fullmatch(header) else {}
        kind = TYPE.fullmatch(of.get("descr", ""))
        if (len(of) != 3 or not kind or of["fortran_order"] != "False"
                or not SHAPE.fullmatch(of["shape"])):
            raise Refused(self.path, "the .npy file does not hold little-endian integers or "
                          "floating-point numbers in C order")
        if kind[1][0] != "f":
            raise Refused(self.path, "holds integers; tensors of floating-point numbers are "
                          "compared")
        self.type = np.dtype("<" + kind[1])
        self.shape = [int(length) for length in re.findall("[0-9]+", of["shape"])]
        self.n, odd = divmod(self.size - self.start, self.type.itemsize)
        if self.start == self.size:
            raise Refused(self.path, "the .npy file holds no numbers")
        if len(self.shape) > MOST_DIMENSIONS:
            raise Refused(self.path, "has more than %d dimensions" % MOST_DIMENSIONS)
        if odd or math.prod(self.shape) != self.n:
            raise Refused(self.path, "the .npy file is not as long as its shape says")

    def numbers(self, start, stop):
        """In double precision, exactly."""
        at = self.start + start * self.type.itemsize
        try:
            stored = np.memmap(self.file, self.type, "r", at, (stop - start,))
        except (OSError, ValueError) as problem:     # it has shrunk meanwhile, for example
            raise Refused(self.path, "cannot be mapped: %s" % problem)
        return stored.astype(np.float64)


# ---- Differences ---------------------------------------------------------------------------------

MEASURES = ["absolute difference", "relative difference", "difference in ulp of binary32"]
# Differences in ulp: 0, up to 1, up to 2, up to 4, ... and more.
BOUNDS = np.array([0.0] + [2.0 ** i for i in range(32)])
CLASSES = ["0"] + ["to %d" % bound for bound in BOUNDS[1:]] + ["more"]
EXPONENT = np.uint64(0x7FF0000000000000)


def measure(x, y):
    """How far each y is from an x that it is not equal to, by each of MEASURES.

    The unit of the last place is that of x in binary32. A number against what is none is infinitely
    far by all of them.
    """
    # the power of two of x alone; of 0 and of what is subnormal, the least one of normal numbers
    power = np.maximum((x.view(np.uint64) & EXPONENT).view(np.float64), 2.0 ** -126)
    absolute = abs(y - x)
    far = [absolute, absolute / abs(x), absolute / (power * 2.0 ** -23)]
    return [np.where(np.isnan(m), np.inf, m) for m in far]


class Deviation:
    """What is known of the numbers from a place on: how many are unequal, the largest difference by
    each measure and the first place that has it, and how many there are in each class."""

    def __init__(self, start):
        self.unequal = 0
        self.worst = [(0.0, start)] * len(MEASURES)
        self.classes = np.zeros(len(CLASSES), np.int64)

    def note(self, i, value, at):
        if value > self.worst[i][0]:
            self.worst[i] = value, at

    def add(self, x, y, start):
        """Numbers that lie in the files from `start` on."""
        at = np.flatnonzero((x != y) & ((x == x) | (y == y)))        # one NaN is as good as another
        self.unequal += len(at)
        self.classes[0] += len(x) - len(at)
        if len(at) == 0:
            return
        far = measure(x[at], y[at])
        for i, values in enumerate(far):
            first = values.argmax()
            self.note(i, float(values[first]), start + int(at[first]))
        self.classes += np.bincount(np.searchsorted(BOUNDS, far[-1]), minlength=len(CLASSES))

    def merge(self, later):
        self.unequal += later.unequal
        self.classes += later.classes
        for i, worst in enumerate(later.worst):
            self.note(i, *worst)


def deviation(a, b, start, stop):
    made = Deviation(start)
    for at in range(start, stop, PIECE):
        end = min(at + PIECE, stop)
        with np.errstate(all="ignore"):              # infinities and NaN are told by the verdict
            made.add(a.numbers(at, end), b.numbers(at, end), at)
    return made


def compare(a, b):
    """The deviation of all numbers, and a line for each layer where there are layers."""
    whole, rows = Deviation(0), []
    layers = a.shape[0] if len(a.shape) > 2 else 1
    plane = a.n // layers
    for layer in range(layers):
        part = deviation(a, b, layer * plane, (layer + 1) * plane)
        whole.merge(part)
        if len(a.shape) > 2:
            largest = tuple(value for value, _ in part.worst)
            rows.append("%d\t%d\t%.6g\t%.6g\t%.6g" % ((layer, part.unequal) + largest))
    return whole, rows


# ---- What is printed -----------------------------------------------------------------------------

def worst_line(what, worst, a, b):
    value, at = worst
    digits = "%.17g" if 8 in (a.type.itemsize, b.type.itemsize) else "%.9g"    # tell two apart
    place = ", ".join(str(i) for i in np.unravel_index(at, tuple(a.shape)))
    x, y = (digits % tensor.numbers(at, at + 1)[0] for tensor in (a, b))
    return "largest %s: %.9g at [%s]: %s, in the other %s" % (what, value, place, x, y)


def class_lines(classes, n):
    last = np.flatnonzero(classes)[-1]
    return ["ulp\tnumbers\tpercent"] + [
        "%s\t%d\t%.4g" % (name, count, 100 * count / n)
        for name, count in zip(CLASSES[:last + 1], classes.tolist())]


def report(a, b, whole, rows):
    lines = ["unequal: %d of %d numbers" % (whole.unequal, a.n)]
    lines += [worst_line(what, worst, a, b) for what, worst in zip(MEASURES, whole.worst)]
    lines += class_lines(whole.classes, a.n)
    if rows:
        lines.append("layer\tunequal\tabsolute\trelative\tulp")
    return lines + rows


def put(lines):
    if sys.stdout is None:                           # Python's word for one that is closed
        raise Refused("the output", "is closed")
    try:
        print("\n".join(lines), flush=True)
    except OSError as problem:                       # what is left of it is not tried again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Refused("the output", problem.strerror)


def judge(a, b, allowed):
    """Prints the comparison; raises unless every number is within what is allowed."""
    if a.shape != b.shape:
        raise Refused(b.path, "another shape than %s: %d numbers in %d dimensions, not %d in %d"
                      % (a.path, b.n, len(b.shape), a.n, len(a.shape)))
    whole, rows = compare(a, b)
    lines = report(a, b, whole, rows)
    off = whole.worst[0][0]
    if off <= allowed:
        lines.append("no number is off by more than %.9g" % allowed)
    put(lines)
    if off > allowed:
        raise Refused(b.path, "is off by %.17g, more than %.17g (--tolerance)" % (off, allowed))


# ---- Command line --------------------------------------------------------------------------------

def complain(text):
    """One line on stderr, whatever a name holds."""
    line = "".join(letter if letter.isprintable() else "?" for letter in text)
    print("tensors.py: " + line, file=sys.stderr)


class Parser(argparse.ArgumentParser):
    def error(self, message):
        complain("%s; tensors.py -h tells what is wanted" % message)
        sys.exit(2)


def tolerance(text):
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1e300:
        raise argparse.ArgumentTypeError("wants a number from 0 to 1e+300, not '%s'" % text)
    return value


def parse_arguments(argv):
    about, _, details = __doc__.split("\n\n")
    parser = Parser(prog="tensors.py", description=about, epilog=details, allow_abbrev=False)
    parser.add_argument("reference", metavar="REFERENCE", help="the .npy file to measure from")
    parser.add_argument("other", metavar="OTHER", help="the .npy file that is judged")
    parser.add_argument("--tolerance", type=tolerance, default=0.0, metavar="X",
                        help="absolute difference that passes (0)")
    return parser.parse_args(argv)


def main(argv):
    args = parse_arguments(argv)
    try:
        with opened(args.reference) as file, opened(args.other) as other:
            judge(Tensor(file), Tensor(other), args.tolerance)
    except KeyboardInterrupt:
        return 130
    except Refused as problem:
        complain(str(problem))
        return 1
    except OSError as problem:
        complain("%s: %s" % (problem.filename or "a file", problem.strerror))
        return 1
    except MemoryError:
        complain("out of memory")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
