#!/usr/bin/env python3
"""Tests of tools/tensors.py: how far one tensor is from another.

    python3 test/test_tensors.py [NAME...]

The tool needs numpy; without it all but that it says so is skipped. What is expected is worked out
here, exactly, with fractions, and without numpy. Needs ./lape and the demo model, too. The last
line on stdout is `N passed, N failed`.
"""

import collections
import contextlib
import io
import math
import os
import random
import re
import resource
import struct
import subprocess
import sys
import unittest
from fractions import Fraction
from unittest import mock

from paths import DEMO, ROOT
import report
from arrays import LETTER, Headers, bytes_of, npy, product
from test_diff import TEXT, Case, Tensor, read, run

TOOLS = os.path.join(ROOT, "tools")
TOOL = os.path.join(TOOLS, "tensors.py")
INFINITY, NAN = float("inf"), float("nan")

try:
    import numpy
except ImportError:
    numpy = None
else:
    import tensors
needs_numpy = unittest.skipUnless(numpy, "numpy is not installed")


class ToolCase(Case):
    """The tool, run in this process: as good as a new one, and a hundred times as fast."""

    def attempt_words(self, *words):
        """Status, what it prints, and what it says of what is wrong."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = tensors.main(list(words))
            except SystemExit as end:
                status = end.code
        return status, out.getvalue(), err.getvalue()

    def tool(self, status, *words):
        """What a run prints, and its one line on stderr, "" for none."""
        got, printed, message = self.attempt_words(*words)
        self.assertEqual(got, status, (words, message))
        self.assertRegex(message, r"\Atensors\.py: [^\r\n]+\n\Z" if status else r"\A\Z")
        return printed, message

    def refused(self, status, culprits, *words):
        """Fails with this status and one line that holds every culprit; prints nothing."""
        with self.subTest(" ".join(words)[-200:]):
            printed, message = self.tool(status, *words)
            for culprit in [culprits] if isinstance(culprits, str) else culprits:
                self.assertIn(culprit, message)
            self.assertEqual(printed, "")


# ---- Two tensors ---------------------------------------------------------------------------------

def last_place(x):
    """binary32's unit in the last place at x: 2^-149 where it is subnormal or 0."""
    exponent = int(x.hex().split("p")[1]) if x else -200
    return Fraction(2) ** (max(exponent, -126) - 23)


def measure(x, y):
    """How far y is from x: absolutely, relative to x, in units of binary32's last place."""
    if x == y or (x != x and y != y):
        return 0, 0, 0
    if not math.isfinite(x) or not math.isfinite(y):
        return INFINITY, INFINITY, INFINITY
    far = abs(Fraction(y) - Fraction(x))
    return far, far / abs(Fraction(x)) if x else INFINITY, far / last_place(x)


def as_float(x):
    try:
        return float(x)
    except OverflowError:
        return INFINITY


WORST = ["largest absolute difference", "largest relative difference",
         "largest difference in ulp of binary32"]


class Verdict:
    """What the tool printed of two tensors, in parts."""

    def __init__(self, text):
        lines = collections.deque(text.splitlines())
        self.unequal, self.n = map(int, re.fullmatch(r"unequal: (\d+) of (\d+) numbers",
                                                     lines.popleft()).groups())
        self.worst = []                  # of each measure: value, place, both numbers
        for what in WORST:
            value, place, x, y = re.fullmatch(
                re.escape(what) + r": (\S+) at \[([\d, ]*)\]: (\S+), in the other (\S+)",
                lines.popleft()).groups()
            place = tuple(int(word) for word in place.split(", ") if word)
            self.worst.append((float(value), place, x, y))
        assert lines.popleft() == "ulp\tnumbers\tpercent"
        self.classes, self.layers = [], None
        while lines and re.match(r"0\t|to |more\t", lines[0]):
            self.classes.append(lines.popleft().split("\t"))
        if lines and lines[0] == "layer\tunequal\tabsolute\trelative\tulp":
            lines.popleft()
            self.layers = []
            while lines and lines[0][:1].isdigit():
                self.layers.append([float(word) for word in lines.popleft().split("\t")])
        self.rest = list(lines)


@needs_numpy
class Tensors(ToolCase):
    def files(self, x, y, descr="<f4", other=None, shape=None, other_shape=None):
        other = other or descr
        return [self.path("a.npy", npy(bytes_of(x, descr), descr, shape)),
                self.path("b.npy", npy(bytes_of(y, other), other, other_shape or shape))]

    def close(self, got, want, digits):
        """A number printed with so many digits; the measures are rounded once or twice before."""
        want = as_float(want)
        if not math.isfinite(want) or want == 0:
            self.assertEqual(got, want)
        else:
            self.assertTrue(math.isclose(got, want, rel_tol=6 * 10.0 ** -digits), (got, want))

    def check(self, x, y, dims, *args, tolerance=0, **options):
        """Runs it, and holds all that it prints against numbers worked out here."""
        files = self.files(x, y, **options)
        digits = "%.17g" if "<f8" in options.values() else "%.9g"
        round_trip = [struct.unpack("<%d%s" % (len(v), LETTER[d]), bytes_of(v, d))
                      for v, d in ((x, options.get("descr", "<f4")),
                                   (y, options.get("other") or options.get("descr", "<f4")))]
        x, y = ([float(v) for v in numbers] for numbers in round_trip)
        all_of = [measure(a, b) for a, b in zip(x, y)]
        most = [max(m[i] for m in all_of) for i in range(3)]
        passes = as_float(most[0]) <= tolerance
        printed, message = self.tool(0 if passes else 1, *files, *args)
        for numbers in 1, 5:             # read at a time
            with mock.patch.object(tensors, "PIECE", numbers):
                self.assertEqual(self.tool(0 if passes else 1, *files, *args), (printed, message))
        v = Verdict(printed)
        self.assertEqual((v.unequal, v.n), (sum(m[0] > 0 for m in all_of), len(x)))
        for i, (value, place, a, b) in enumerate(v.worst):
            self.close(value, most[i], 9)
            self.assertEqual(len(place), len(dims))
            at = 0
            for p, d in zip(place, dims):
                self.assertLess(p, d)
                at = at * d + p
            self.assertEqual(all_of[at][i], most[i], (WORST[i], place))
            self.assertEqual((a, b), (digits % x[at], digits % y[at]), (WORST[i], place))
        self.check_classes(v.classes, [m[2] for m in all_of])
        self.assertEqual(v.layers is not None, len(dims) > 2)
        plane = len(x) // dims[0] if len(dims) > 2 else 1
        for layer, row in enumerate(v.layers or []):
            of = all_of[layer * plane:(layer + 1) * plane]
            self.assertEqual(row[:2], [layer, sum(m[0] > 0 for m in of)])
            for i in range(3):
                self.close(row[2 + i], max(m[i] for m in of), 6)
        self.assertEqual(len(v.layers or []), dims[0] if len(dims) > 2 else 0)
        if passes:
            self.assertEqual(v.rest, ["no number is off by more than %.9g" % tolerance])
        else:
            self.assertEqual(v.rest, [])
            self.assertIn("b.npy", message)
            self.assertIn(" %.17g, more than %.17g " % (as_float(most[0]), tolerance), message)
            self.assertIn("--tolerance", message)
        return v

    def check_classes(self, classes, ulps):
        """0, up to 1, up to 2, up to 4, ..., up to 2^31, more; the last that is not empty ends."""
        bounds = [0] + [1 << i for i in range(32)] + [INFINITY]
        names = ["0"] + ["to %d" % (1 << i) for i in range(32)] + ["more"]
        counts = [0] * len(bounds)
        for ulp in ulps:
            counts[next(i for i, bound in enumerate(bounds) if ulp <= bound)] += 1
        last = max(i for i, count in enumerate(counts) if count)
        want = [[name, str(count)] for name, count in zip(names, counts)][:last + 1]
        self.assertEqual([row[:2] for row in classes], want)
        for (_, _, percent), count in zip(classes, counts):
            self.assertAlmostEqual(float(percent), 100 * count / len(ulps), delta=.06)

    def test_equal(self):
        numbers = [0.0, -1.5, 3.25, 1024.0, 2.0 ** -14, -2.0 ** -24, 65504.0]
        for descr in "<f2", "<f4", "<f8":
            for other in "<f2", "<f4", "<f8":
                v = self.check(numbers, numbers, [7], descr=descr, other=other)
                self.assertEqual(v.worst[0][0], 0)
        same = self.path("a.npy", npy(bytes_of(numbers, "<f4")))
        self.tool(0, same, same)

    def test_random(self):
        """Every pair of types; some numbers alike, the others by little or much off."""
        rng = random.Random("tensors")
        for descr in "<f2", "<f4", "<f8":
            for other in "<f2", "<f4", "<f8":
                for dims in (11,), (3, 5), (2, 3, 4), (5, 1, 3), (2, 2, 2, 3):
                    x = [rng.uniform(-1, 1) * 10.0 ** rng.randrange(-4, 4)
                         for _ in range(product(dims))]
                    y = [v * (1 + rng.choice([0, 0, 1]) * rng.gauss(0, 1)
                              * 10.0 ** rng.randrange(-8, 0)) for v in x]
                    with self.subTest(descr + other, dims=dims):
                        self.check(x, y, dims, descr=descr, other=other, shape=dims)

    def test_one_number_off(self):
        """Wherever it is, its place is told."""
        dims, base = (2, 3, 4), [float(i + 1) for i in range(24)]
        for at in range(24):
            other = list(base)
            other[at] += .5
            v = self.check(base, other, dims, shape=dims)
            place = (at // 12, at // 4 % 3, at % 4)
            self.assertEqual([worst[:2] for worst in v.worst],
                             [(.5, place), (float("%.9g" % (.5 / base[at])), place),
                              (.5 / float(last_place(base[at])), place)])
            self.assertEqual([row[1] for row in v.layers], [at < 12, at >= 12])

    def test_measures_have_their_own_places(self):
        """The largest absolute, relative and ulp differences, each elsewhere."""
        x, y = [1000.0, 0.001, 1.9999, 1.0], [1001.0, 0.003, 1.9999, 1.0]
        v = self.check(x, y, [4])
        self.assertEqual([worst[1] for worst in v.worst], [(0,), (1,), (1,)])
        # just below a power of two the relative difference is half of that just above, in ulp
        x, y = [1 + 2 ** -20, 2 - 2 ** -20], [1.0, 2 - 2 ** -20 + 2.5 * 2 ** -20]
        v = self.check(x, y, [2], descr="<f8")
        self.assertEqual([worst[1] for worst in v.worst], [(1,), (1,), (1,)])
        x, y = [1 + 2 ** -20, 2 - 2 ** -20], [1.0, 2 - 2 ** -20 + 1.5 * 2 ** -20]
        v = self.check(x, y, [2], descr="<f8")
        self.assertEqual([worst[1] for worst in v.worst], [(1,), (0,), (1,)])

    def test_last_places(self):
        """One float further is one ulp, from the number nearer to 0, and all over the range."""
        ups = [2.0 ** e * f for e in range(-149, 127) for f in (1, 1.5) if e > -149 or f == 1]
        after = [struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", v))[0]
                                                 + 1))[0] for v in ups]
        self.assertEqual(self.check(ups, after, [len(ups)]).worst[2][0], 1)
        for x, y in list(zip(ups, after))[::40]:
            self.assertEqual(self.check([x], [y], [1]).worst[2][0], 1)
            self.assertEqual(self.check([-x], [-y], [1], descr="<f8").worst[2][0], 1)

    def test_classes(self):
        steps = [0, 2 ** -20, .5, 1, 1 + 2 ** -20, 2, 2 + 2 ** -20, 3, 4, 5, 8, 9]
        steps += [2.0 ** i + off for i in range(4, 32) for off in (-.5, 0, .5)]
        self.check([1.0] * len(steps), [1 + s * 2 ** -23 for s in steps], [len(steps)],
                   descr="<f8")
        for step in steps + [2 ** 31 + 1, 2.0 ** 40]:
            self.check([1.0], [1 - step * 2 ** -23], [1], descr="<f8")

    def test_tolerance(self):
        x, y = [1.0, 2.0, 3.0, -8.0], [1.25, 2.0, 3.0, -8.5]
        for tolerance in ".5", "0.5", "5e-1", ".50001", "8", "1e300":
            self.check(x, y, [4], "--tolerance", tolerance, tolerance=float(tolerance))
        for tolerance in "0", ".25", ".49999", "1e-300":
            v = self.check(x, y, [4], "--tolerance", tolerance, tolerance=float(tolerance))
            self.assertEqual(v.worst[0][:2], (.5, (3,)))
        self.check(x, [1.0, 2.0, NAN, -8.0], [4], "--tolerance", "1e300", tolerance=1e300)
        self.check(x, [1.0, 2.0, INFINITY, -8.0], [4], "--tolerance", "1e300", tolerance=1e300)
        for tolerance in "-1", "x", "", "nan", "inf", "-0.1", "1e301":
            self.refused(2, "--tolerance", *self.files(x, y), "--tolerance", tolerance)

    def test_nan(self):
        for descr in "<f2", "<f4", "<f8":
            self.check([NAN, 1.0], [NAN, 1.0], [2], descr=descr)
            self.check([NAN, 1.0], [1.0, 1.0], [2], descr=descr)
            self.check([1.0, 2.0], [1.0, NAN], [2], descr=descr)
            self.check([NAN], [INFINITY], [1], descr=descr)
        self.check([NAN, INFINITY], [NAN, INFINITY], [2], descr="<f2", other="<f8")

    def test_infinities_alike(self):
        for descr in "<f2", "<f4", "<f8":
            self.check([INFINITY, -INFINITY, 1.0], [INFINITY, -INFINITY, 1.0], [3], descr=descr)

    def test_infinity_in_the_other(self):
        for descr in "<f2", "<f4", "<f8":
            self.check([1.0, 2.0], [1.0, INFINITY], [2], descr=descr)
            self.check([0.0, 2.0], [-INFINITY, 3.0], [2], descr=descr)

    def test_infinity_in_the_reference(self):
        """Infinitely far, by every measure."""
        for x in INFINITY, -INFINITY:
            for y in 1.0, 0.0, -x, NAN:
                self.check([1.0, x], [2.0, y], [2])
                self.check([x], [y], [1])
                self.check([1.0, x] * 4, [1.0, y] * 4, [2, 2, 2], shape=(2, 2, 2))

    def test_zeros(self):
        self.check([0.0, -0.0, 0.0, 1.0], [-0.0, 0.0, 0.0, 1.0], [4])
        self.check([0.0, -0.0], [-0.0, 0.0], [2], descr="<f2", other="<f8")
        self.check([1.0, 2.0], [0.0, -0.0], [2])

    def test_zero_in_the_reference(self):
        """Binary32's last place at 0 is 2^-149, the distance to its neighbours."""
        self.check([0.0, 1.0], [2.0 ** -149, 1.0], [2])
        self.check([0.0, 1.0], [1.5, 1.0], [2])

    def test_subnormals(self):
        tiny = 2.0 ** -149
        x, y = [tiny, 5 * tiny, -9 * tiny, 2.0 ** -126, 1.0], [2 * tiny, 4 * tiny, 9 * tiny,
                                                               2.0 ** -126 - tiny, 1.0]
        self.check(x, y, [5])
        self.check(x, y, [5], "--tolerance", "1e-40", tolerance=1e-40)
        self.check(x, y, [5], descr="<f8", other="<f4")
        self.check([2.0 ** -24, 2.0 ** -14 - 2.0 ** -24], [3 * 2.0 ** -24, 2.0 ** -14], [2],
                   descr="<f2")
        self.check([2.0 ** -1074, 2.0 ** -1060], [2.0 ** -1073, 0.0], [2], descr="<f8")

    def test_every_half(self):
        """All finite halves mean what Python says they mean."""
        halves = struct.unpack("<63488e", struct.pack("<63488H", *range(0x7c00),
                                                      *range(0x8000, 0xfc00)))
        a = self.path("a.npy", npy(bytes_of(halves, "<f2"), "<f2"))
        self.tool(0, a, self.path("b.npy", npy(bytes_of(halves, "<f4"), "<f4")))
        self.tool(0, self.path("b.npy", npy(bytes_of(halves, "<f8"), "<f8")), a)

    def test_beyond_binary32(self):
        """Doubles out of float's range, and such as only the difference of leaves double's."""
        self.check([1e300, 1.0], [1.1e300, 1.0], [2], descr="<f8")
        self.check([1e300, 1.0], [1.1e300, 1.0], [2], "--tolerance", "1e299", descr="<f8",
                   tolerance=1e299)
        self.check([1.0, 2.0], [1 + 2 ** -52, 2.0], [2], descr="<f8")

    def test_leading_ones(self):
        x, y = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 3.5, 4.0, 5.0, 7.0]
        for shape, other, dims in (((1, 6), (6,), [6]), ((6,), (1, 1, 6), [6]),
                                   ((1, 1, 2, 3), (2, 3), [2, 3]),
                                   ((1, 3, 1, 2), (3, 1, 2), [3, 1, 2]),
                                   ((1, 2, 3), (1, 2, 3), [2, 3]),
                                   ((1, 1, 1, 1, 1, 1, 6, 1), (6, 1), [6, 1])):
            with self.subTest(shape=shape, other=other):
                self.check(x, y, dims, shape=shape, other_shape=other)
        self.check([1.0], [2.0], [1], shape=(1, 1, 1), other_shape=(1,))

    def test_shapes_differ(self):
        numbers = [float(i) for i in range(12)]
        for shape, other in (((12,), (3, 4)), ((3, 4), (4, 3)), ((12,), (12, 1)),
                             ((2, 1, 6), (2, 6)), ((1, 12), (12, 1)), ((2, 2, 3), (2, 6))):
            self.refused(1, ["a.npy", "b.npy"],
                         *self.files(numbers, numbers, shape=shape, other_shape=other))
        self.refused(1, ["a.npy", "b.npy", "12", "11"],
                     *self.files(numbers, numbers[:11], descr="<f4"))

    def test_scalar(self):
        """NumPy's arrays without a dimension."""
        one, two = (self.path(name, npy(bytes_of([v], "<f4"), shape="()"))
                    for name, v in (("a.npy", 1.0), ("b.npy", 2.0)))
        self.tool(0, one, one)
        printed, _ = self.tool(1, one, two)
        self.assertEqual(Verdict(printed).worst[0], (1, (), "1", "2"))

    def test_usage(self):
        a, b = self.files([1.0], [1.0])
        self.refused(2, ["REFERENCE", "OTHER"])
        self.refused(2, "OTHER", a)
        self.refused(2, "none", a, b, "none")
        for option in "-o", "--seq", "-t", "-q", "--at", "--near", "--tol":
            self.refused(2, option, a, b, option, "1")
        self.refused(2, "--tolerance", a, b, "--tolerance")
        self.tool(0, "--tolerance", "1", a, b)

    def test_help(self):
        for words in ["-h"], ["--help"], ["none", "-h"]:
            shown, _ = self.tool(0, *words)
            for word in "REFERENCE", "OTHER", "--tolerance", "status":
                self.assertIn(word, shown)

    def test_traced(self):
        """What `lape trace` writes."""
        paths = [self.path(name) for name in ("a.npy", "b.npy")]
        for path, seq in zip(paths, ("64", "16")):
            done = run("trace", DEMO, TEXT, "--at", "attn_out", "--tokens", "64", "--seq", seq,
                       "-o", path)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.tool(0, paths[0], paths[0])
        x, y = (Tensor(read(path)) for path in paths)
        v = Verdict(self.tool(1, *paths)[0])
        far = [measure(*pair)[0] for pair in zip(x.numbers(), y.numbers())]
        self.assertEqual((v.n, v.unequal), (len(far), sum(d > 0 for d in far)))
        self.assertGreater(v.unequal, v.n // 2)
        layer, token, column = v.worst[0][1]
        self.assertEqual(measure(x.row(layer, token)[column], y.row(layer, token)[column])[0],
                         max(far))
        self.assertEqual(len(v.layers), x.shape[0])


@needs_numpy
class TensorHeaders(Headers, ToolCase):
    """Of floating-point numbers, on either side."""

    descr = "<f4"
    wrong = "<i4", "<u4", "<i2", "<u2", "<i8", "|u1", "|i1"
    wrong_is = "integers"

    def setUp(self):
        super().setUp()
        self.whole = self.path("whole.npy", self.array())

    def pairs(self, path):
        return [self.whole, path], [path, self.whole], [path, path]

    def reads(self, path):
        # some have another shape than the array that it is held against
        self.tool(0, path, path)

    def refuses(self, path, culprits):
        for pair in self.pairs(path):
            self.refused(1, culprits, *pair)

    def attempt(self, path):
        return self.attempt_words(self.whole, path)

    def test_same_numbers(self):
        """Whatever the header is like, the numbers are where it ends."""
        for how in dict(version=2), dict(version=3), dict(descr="=f4"), dict(descr="|f4"):
            path = self.path("other.npy", self.array(**how))
            for pair in self.pairs(path):
                self.tool(0, *pair)

    def test_too_many_dimensions(self):
        for ones in 8, 9, 500:
            self.bad(self.array(shape="(" + "1, " * ones + "4)"), "dimensions")

    def test_no_file(self):
        """A pipe is not waited for."""
        os.mkfifo(self.path("pipe.npy"))
        for path in self.path("pipe.npy"), "/dev/null":
            self.refuses(path, [path])
        self.refuses(self.path("two\nlines"), ["two?lines"])


# ---- A program of its own ------------------------------------------------------------------------

class ProgramCase(Case):
    def run_tool(self, *words, **options):
        return subprocess.run([sys.executable, TOOL, *words], stdin=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=600,
                              **{"stdout": subprocess.PIPE, **options})


class Program(ProgramCase):
    def pair(self):
        return [self.path(name, npy(bytes_of(numbers, "<f4")))
                for name, numbers in (("a.npy", [1.0, 2.0]), ("b.npy", [1.0, 2.5]))]

    def test_without_numpy(self):
        """One line says what is missing, whether it is or not."""
        self.path("numpy.py", b"raise ImportError('none here')\n")
        done = self.run_tool(*self.pair(), env=dict(os.environ, PYTHONPATH=self.directory))
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, r"\Atensors\.py: needs numpy[^\n]*\n\Z")

    @needs_numpy
    def test_status(self):
        a, b = self.pair()
        for words, status in ([a, a], 0), ([a, b], 1), ([a, b, "--tolerance", ".5"], 0), (
                [a, self.path("none")], 1), ([a], 2), (["-h"], 0):
            done = self.run_tool(*words)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (status, status > 0))
            self.assertEqual(done.stdout != "", status == 0 or words == [a, b])

    @needs_numpy
    @unittest.skipUnless(os.path.exists("/dev/full"), "there is no /dev/full")
    def test_output_that_fails(self):
        a, _ = self.pair()
        with open("/dev/full", "w") as full:
            done = self.run_tool(a, a, stdout=full)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Atensors\.py: the output: [^\n]+\n\Z")
        shut = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, TOOL, a, a]
        done = subprocess.run(shut, stderr=subprocess.PIPE, universal_newlines=True)
        self.assertEqual((done.returncode, done.stderr), (1, "tensors.py: the output: is closed\n"))


# ---- More numbers than there is memory for -------------------------------------------------------

LAYERS, TOKENS, COLUMNS = 4, 50000, 1000
ROOM = 300 << 20                         # bytes, less than either file has


def sparse(path, descr, numbers):
    """An array of zeros but for {place: number}, which takes next to no room on the disk."""
    size = int(descr[2:])
    start = npy(b"", descr, (LAYERS, TOKENS, COLUMNS))
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(len(start) + LAYERS * TOKENS * COLUMNS * size)
        for at, number in numbers.items():
            file.seek(len(start) + at * size)
            file.write(bytes_of([number], descr))
    return path


def little_room():
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))


@needs_numpy
class Large(ProgramCase):
    def test_bounded_memory(self):
        """200 million numbers, in less memory than they take in either file."""
        plane = TOKENS * COLUMNS
        n = LAYERS * plane
        first, middle, last = 7, 2 * plane + 123 * COLUMNS + 456, n - 1
        a = sparse(self.path("a.npy"), "<f2", {first: 1.0, middle: 2.0, last: 4.0})
        b = sparse(self.path("b.npy"), "<f4", {first: 1.0, middle: 2.5, last: 4.25})
        self.assertLess(ROOM, min(os.path.getsize(a), os.path.getsize(b)))
        done = self.run_tool(a, b, preexec_fn=little_room,
                             env=dict(os.environ, OPENBLAS_NUM_THREADS="1"))
        self.assertEqual((done.returncode, done.stderr), (
            1, "tensors.py: %s: is off by 0.5, more than 0 (--tolerance)\n" % b))
        v = Verdict(done.stdout)
        place = (2, 123, 456)
        self.assertEqual((v.unequal, v.n), (2, n))
        self.assertEqual(v.worst, [(.5, place, "2", "2.5"), (.25, place, "2", "2.5"),
                                   (2.0 ** 21, place, "2", "2.5")])
        self.assertEqual([row for row in v.classes if row[1] != "0"], [
            ["0", str(n - 2), "100"], ["to %d" % 2 ** 19, "1", "5e-07"],
            ["to %d" % 2 ** 21, "1", "5e-07"]])
        self.assertEqual(v.layers, [[0, 0, 0, 0, 0], [1, 0, 0, 0, 0],       # of six digits
                                    [2, 1, .5, .25, 2097150], [3, 1, .25, .0625, 2 ** 19]])


if __name__ == "__main__":
    sys.exit(report.main())
