#!/usr/bin/env python3
"""Tests of the methods of `lape find`, of tools/changes.py, and of `lape bake`.

    LAPE=./lape python3 test/test_methods.py [NAME...]

Needs Python 3.8 and its standard library, and the demo model. Scores are worked out here with
fractions and forty digits; so is how far training moved a neuron, in models made here whose
weights are whole numbers over 256, which F32, F16, BF16 and Q8_0 hold exactly. A baked file is
compared byte by byte with its source, the elements of the neurons' columns made 0. The last line on
stdout is `N passed, N failed`.
"""

import decimal
import itertools
import math
import os
import random
import re
import resource
import struct
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import report
import tiny
from paths import DEMO, LAPE, ROOT
from test_diff import (BF16, CHANGES, F32, STRING, U32, WITHOUT_NUMPY, Case, Counts, Gguf, Language,
                       Tensor, bytes_of, gguf_file, npy, read)
from test_split import parts_of

decimal.getcontext().prec = 40
F16, Q8_0, GGUF_F32 = 1, 8, 6
KINDS = {"F32": F32, "F16": F16, "BF16": BF16, "Q8_0": Q8_0}


# ---- The methods, worked out once more -------------------------------------------------------

def entropy(values):
    """Of values normalised to sum 1."""
    total, h = sum(values), Decimal(0)
    for value in values:
        if value:
            q = Fraction(value) / total
            q = Decimal(q.numerator) / q.denominator
            h -= q * q.ln()
    return h


def penalised(values, penalty):
    """Entropy over its most, less the highest value over the mean of 1/1 .. 1/K."""
    n = len(values)
    h = entropy([max(value, Fraction(1e-12)) for value in values])
    share = sum(Fraction(1, k + 1) for k in range(n)) / n
    least = Fraction(penalty) * max(values) / share
    return (h / Decimal(n).ln() if n > 1 else 0) - Decimal(least.numerator) / least.denominator


def scores(method, p, means=None, penalty=0.0):
    """What `find` takes the lowest of, of rows of fractions: activation probabilities (or moves),
    and mean positive activations."""
    if method == "lap":
        return [-max(row) for row in p]
    if method == "lave":
        return [entropy(row) for row in means]
    return [penalised(row, penalty) if penalty else entropy(row) for row in p]


def in_order(found, rows):
    """The neurons by score, then place. Scores that rounding might confuse would make a test of
    luck: only those of the same numbers, and entropies of 0, may be as near."""
    order = sorted(range(len(found)), key=lambda i: (found[i], i))
    for i, j in zip(order, order[1:]):
        tie = found[i] == found[j] and (sorted(rows[i]) == sorted(rows[j]) or found[i] == 0)
        assert tie or found[j] - found[i] > Decimal("1e-11"), (i, j, rows[i], rows[j])
    return order


def threshold(p, rate):
    values = sorted(value for row in p for value in row)
    rank = round(rate * len(values))
    return values[rank - 1] if rank else -1


def select(order, p, top, filter_rate, bar_rate):
    """{neuron: the numbers of its languages} by the README's three steps."""
    least, bar = threshold(p, filter_rate), threshold(p, bar_rate)
    active = [i for i in order if max(p[i]) > least][:round(top * len(p))]
    return {i: [k for k, value in enumerate(p[i]) if value > bar] for i in active}


class Listing:
    """What `find` prints."""

    def __init__(self, text):
        lines = text.splitlines()
        self.comments = [line for line in lines if line.startswith("#")]
        self.header = dict(line[2:].split(": ", 1) for line in self.comments if ": " in line)
        self.columns, *rows = [line.split("\t") for line in lines[len(self.comments):]]
        self.labels = [name[2:] for name in self.columns[4:]]
        width = int(self.header["neurons"])
        self.p = {int(row[0]) * width + int(row[1]): row[4:] for row in rows}
        self.lape = {int(row[0]) * width + int(row[1]): row[2] for row in rows}
        self.neurons = {int(row[0]) * width + int(row[1]): [
            self.labels.index(name) for name in row[3].split(",") if name != "-"] for row in rows}


class MethodCase(Case):
    def find(self, *args):
        return Listing(self.lape(0, "find", *args, "-q")[0])

    def order(self, n, *args):
        """In which order `find` takes all of n neurons: each is what one more of them adds."""
        taken = []
        for size in range(1, n + 1):
            found = set(self.find(*args, "--filter", "0", "--top", repr(size / n)).neurons)
            self.assertEqual(len(found), size)
            self.assertLess(set(taken), found)
            taken += found - set(taken)
        return taken

    def check_selection(self, order, p, rates, *args):
        options = [word for pair in zip(("--top", "--filter", "--bar"), map(repr, rates))
                   for word in pair]
        self.assertEqual(self.find(*args, *options).neurons, select(order, p, *rates),
                         (args, rates))


# ---- Scores of counts ------------------------------------------------------------------------

def made(tokens, positive, sums=None, layers=1):
    """Counts of neurons [positive by language, ...] and their sums of positive activations, in
    units of 2^-20; no sums: as imported."""
    languages = {}
    for k, number in enumerate(tokens):
        of = {"positive": [row[k] for row in positive]}
        if sums:
            of.update(positive_sum=[row[k] for row in sums], sum=[-row[k] for row in sums])
        languages["abcdefgh"[k] * 2] = Language(number, None, of)
    counts = Counts(layers, len(positive) // layers, None, languages)
    return counts.file()


class Scores(MethodCase):
    RATES = [(.01, .95, .95), (.25, 0, .5), (.5, .3, .8), (1, .5, 0), (1, .9, .3), (0, 0, 0)]

    def shares(self, tokens, positive):
        return [[Fraction(count, n) for count, n in zip(row, tokens)] for row in positive]

    def random_rows(self, rng, tokens, neurons=13):
        """Counts with zeros, a neuron that is never on, one always, one twice, one permuted."""
        rows = [[rng.randrange(1, n + 1) if rng.random() < .8 else 0 for n in tokens]
                for _ in range(neurons - 5)]
        same = [min(tokens) // 3 + k for k in range(len(tokens))]
        return ([[0] * len(tokens), same] + rows[:4] + [list(tokens), same[::-1]] + rows[4:] +
                [list(same)])

    def test_orders(self):
        """Every method's whole order, and selections, of counts of 2 to 5 languages."""
        for k, same in (2, True), (3, False), (5, True), (5, False):
            rng = random.Random(k)
            tokens = [4000 if same else rng.randrange(3000, 5000) for _ in range(k)]
            positive, sums = self.random_rows(rng, tokens), self.random_rows(rng, tokens)
            p, means = self.shares(tokens, positive), self.shares(tokens, sums)
            path = self.path("counts", made(tokens, positive, sums))
            for method, penalty in [("lape", 0), ("lap", 0), ("lave", 0), ("lape", .109375),
                                    ("lape", .7), ("lape", 50.)]:
                with self.subTest(languages=k, method=method, penalty=penalty):
                    rows = {"lap": [[max(row)] for row in p], "lave": means}.get(method, p)
                    args = [path, "--method", method] + ["--penalty", repr(penalty)] * (penalty > 0)
                    found = scores(method, p, means, penalty)
                    order = in_order(found, rows)
                    self.assertEqual(self.order(len(p), *args), order)
                    for rates in self.RATES:
                        self.check_selection(order, p, rates, *args)

    def test_default_is_lape(self):
        path = self.path("counts", Counts.at_random("default").file())
        found = self.lape(0, "find", path, "-q")
        self.assertEqual(self.lape(0, "find", path, "-q", "--method", "lape"), found)
        self.assertEqual(self.lape(0, "find", path, "-q", "--penalty", "0"), found)

    def test_lap_by_hand(self):
        """The highest probability first, whatever the other languages'; ties by place."""
        path = self.path("counts", made([100, 10], [[50, 0], [0, 7], [69, 6], [70, 0], [1, 9],
                                                    [90, 9], [0, 0]]))
        self.assertEqual(self.order(7, path, "--method", "lap"), [4, 5, 1, 3, 2, 0, 6])

    def test_lave_by_hand(self):
        """Means are over all tokens, and over positive activations alone; counts of activations
        above zero have no part in the score, but in filter and languages."""
        tokens, positive = [100, 1000], [[10, 400], [10, 500], [10, 200], [50, 100]]
        sums = [[64, 64], [64, 640], [64, 0], [64, 128]]      # by mean 10:1, 1:1, 1:0, 5:1
        path = self.path("counts", made(tokens, positive, sums))
        self.assertEqual(self.order(4, path, "--method", "lave"), [2, 0, 3, 1])
        found = self.find(path, "--method", "lave", "--filter", ".75", "--top", "1", "--bar", ".5")
        self.assertEqual(found.neurons, {1: [1], 3: [0]})
        self.assertEqual(found.p[3], ["0.5", "0.1"])
        want = entropy([Fraction(1, 2), Fraction(1, 10)])
        self.assertAlmostEqual(float(found.lape[3]), float(want), 8)

    def test_penalty_by_hand(self):
        """An even neuron that is always on, and one that is on in a quarter of one language:
        1 - X / share against 0 - X / 4 / share."""
        for k, share in (2, Fraction(3, 4)), (3, Fraction(11, 18)):
            turn = share * Fraction(4, 3)
            path = self.path("counts", made([100] * k, [[100] * k, [25] + [0] * (k - 1)]))
            for factor, order in (.99, [1, 0]), (1.01, [0, 1]):
                self.assertEqual(self.order(2, path, "--penalty", repr(float(turn) * factor)),
                                 order, (k, factor))

    def test_one_language(self):
        """Its entropy is 0 for every neuron, whatever the penalty; its probability is not."""
        path = self.path("counts", made([10], [[3], [0], [9], [3], [10]]))
        for penalty in "0", "1e-3", "1":
            self.refused(1, "one language", "find", path, "--penalty", penalty)
        self.assertEqual(self.order(5, path, "--method", "lap"), [4, 2, 0, 3, 1])

    def test_floor(self):
        """p of less than 1e-12, here a count of 40, are that in a penalised entropy, and what they
        are elsewhere."""
        path = self.path("counts", made([4 * 10 ** 13] * 2, [
            [0, 0], [1, 0], [100, 0], [40, 40], [80, 20], [1000, 1], [30, 39], [10 ** 13, 0]]))
        self.assertEqual(self.order(8, path, "--penalty", "1e-9"), [7, 5, 2, 4, 0, 1, 3, 6])
        self.assertEqual(self.order(8, path), [0, 1, 2, 7, 5, 4, 6, 3])

    def test_languages(self):
        """Of counts of four languages three in another order: the first of equal scores, the
        languages that were named, K = 3."""
        rng = random.Random("langs")
        tokens = [rng.randrange(3000, 5000) for _ in range(4)]
        positive, sums = self.random_rows(rng, tokens), self.random_rows(rng, tokens)
        path = self.path("counts", made(tokens, positive, sums))
        some = [3, 0, 1]
        p = self.shares([tokens[k] for k in some], [[row[k] for k in some] for row in positive])
        means = self.shares([tokens[k] for k in some], [[row[k] for k in some] for row in sums])
        for method, penalty in ("lap", 0), ("lave", 0), ("lape", .3):
            args = [path, "--langs", "dd,aa,bb", "--method", method] + (
                ["--penalty", repr(penalty)] * (penalty > 0))
            order = in_order(scores(method, p, means, penalty),
                             {"lap": [[max(row)] for row in p], "lave": means}.get(method, p))
            self.assertEqual(self.order(len(p), *args), order)
            for rates in self.RATES:
                self.check_selection(order, p, rates, *args)
            self.assertEqual(self.find(*args).labels, ["dd", "aa", "bb"])

    def test_header(self):
        path = self.path("counts", made([100, 200], [[10, 50], [90, 0]], [[5, 5], [1, 3]]))
        for args, line in [
                ([], "lape"), (["--method", "lap"], "lap"), (["--method", "lave"], "lave"),
                (["--penalty", "0.109375"], "lape, penalty 0.109375"),
                (["--method", "random"], "random, seed 0"),
                (["--method", "random", "--seed", "7"], "random, seed 7")]:
            found = self.find(path, *args, "--top", "1", "--filter", "0", "--bar", ".5")
            self.assertEqual(found.header, {
                "model": "made", "layers": "1", "neurons": "2", "languages": "aa bb",
                "tokens": "100 200", "method": line, "top": "1", "filter": "0, threshold -1",
                "bar": "0.5, threshold 0.1"})
            self.assertEqual(found.columns,
                             ["layer", "neuron", "lape", "languages", "p_aa", "p_bb"])
            self.assertEqual(found.p, {0: ["0.1", "0.25"], 1: ["0.9", "0"]})
            self.assertEqual(found.lape[1], "0")

    def test_refused(self):
        counts = Counts.at_random("refused")
        path, like = self.path("counts", counts.file()), self.path("like")
        self.lape(0, "find", path, "-q", "-o", like)
        imported = self.path("imported", counts.imported().file())
        half = counts.copy(bb=counts.languages["bb"].copy(positive_sum=None))
        self.refused(1, ["aa", "sums"], "find", imported, "--method", "lave", "-o",
                     self.path("out"))
        self.refused(1, ["bb", "sums"], "find", self.path("half", half.file()), "--method", "lave")
        self.find(self.path("half"), "--method", "lave", "--langs", "cc,aa")
        for method in "lape", "lap":
            self.find(imported, "--method", method)
        below = made([10, 10], [[1, 2], [3, 4]], [[5, 1], [2, -3]])
        self.refused(1, "bb: -3 positive_sum of 10 tokens at layer 0, neuron 1", "find",
                     self.path("below", below), "--method", "lave")
        for method in "lap", "lave", "random":
            self.refused(2, "--penalty", "find", path, "--method", method, "--penalty", ".1")
            self.find(path, "--method", method, "--penalty", "0")
        for method in "lape", "lap", "lave":
            self.refused(2, "--like", "find", path, "--method", method, "--like", like)
        for method in "lape", "lap", "lave", "random":
            self.refused(2, path, "find", path, path, "--method", method)
        for method in "", "LAP", "lap ", "la", "entropy", "pv":
            self.refused(2, "lape lap lave random", "find", path, "--method", method)
        for penalty in "-1", "-1e-9", "nan", "1e7", "":
            self.refused(2, "--penalty", "find", path, "--penalty", penalty)


# ---- Models whose weights are whole numbers over 256 -----------------------------------------

def encoded(kind, numbers):
    """Whole numbers of at most 127, over 256."""
    if kind == Q8_0:
        return b"".join(struct.pack("<e32b", 1 / 256, *numbers[at:at + 32])
                        for at in range(0, len(numbers), 32))
    floats = [n / 256 for n in numbers]
    if kind == F16:
        return struct.pack("<%de" % len(floats), *floats)
    raw = struct.pack("<%df" % len(floats), *floats)
    if kind == F32:
        return raw
    return b"".join(raw[at + 2:at + 4] for at in range(0, len(raw), 4))


class Model:
    """A model without a tokenizer; plain has its feed-forward no gate."""

    def __init__(self, family="llama", seed=0, layers=3, width=32, neurons=64, vocab=16):
        self.family, self.layers, self.width, self.neurons = family, layers, width, neurons
        self.name, self.vocab = "made", vocab
        self.plain = family == "gpt2"
        rng = random.Random("%s %s" % (family, seed))
        shapes = {"token_embd": (vocab, width)}
        vectors = {"output_norm.weight": width}
        if self.plain:
            shapes["position_embd"] = (64, width)
            vectors["output_norm.bias"] = width
        for layer in range(layers):
            start = "blk.%d." % layer
            for norm in "attn_norm", "ffn_norm":
                vectors[start + norm + ".weight"] = width
                if self.plain:
                    vectors[start + norm + ".bias"] = width
            if self.plain:
                vectors.update({start + "ffn_up.bias": neurons, start + "ffn_down.bias": width})
            for name in "attn_q", "attn_k", "attn_v", "attn_output":
                shapes[start + name] = width, width
            for name in self.parts():
                shapes[start + name] = (width, neurons) if name == "ffn_down" else (neurons, width)
        self.matrices = {name: (shape, [rng.randrange(-63, 64) for _ in range(shape[0] * shape[1])])
                         for name, shape in shapes.items()}
        self.vectors = {name: [rng.uniform(.5, 1.5) for _ in range(size)]
                        for name, size in vectors.items()}

    def parts(self):
        return ["ffn_up", "ffn_down"] if self.plain else ["ffn_gate", "ffn_up", "ffn_down"]

    def places(self, part, neuron):
        """Where its weights are in a matrix."""
        if part == "ffn_down":
            return range(neuron, self.width * self.neurons, self.neurons)
        return range(neuron * self.width, (neuron + 1) * self.width)

    def changed(self, *changes):
        """A copy; a change is (layer, matrices of the feed-forward, neuron, function of a weight).
        """
        new = Model.__new__(Model)
        new.__dict__.update(self.__dict__, matrices={
            name: (shape, list(numbers)) for name, (shape, numbers) in self.matrices.items()})
        for layer, parts, neuron, function in changes:
            for part in parts:
                numbers = new.matrices["blk.%d.%s" % (layer, part)][1]
                for place in self.places(part, neuron):
                    numbers[place] = function(numbers[place])
        return new

    def weights_of(self, layer, neuron):
        return [self.matrices["blk.%d.%s" % (layer, part)][1][place] for part in self.parts()
                for place in self.places(part, neuron)]

    def file(self, kind=F32, kinds=None, order=None):
        """The matrices of one type, those of `kinds` of another; the tensors in this order."""
        prefix = self.family + "."
        epsilon = "attention.layer_norm_%sepsilon" % ("" if self.plain else "rms_")
        values = [("general.architecture", STRING, self.family),
                  ("general.name", STRING, self.name)]
        values += [(prefix + key, U32, value) for key, value in [
            ("block_count", self.layers), ("embedding_length", self.width),
            ("feed_forward_length", self.neurons), ("attention.head_count", 2),
            ("context_length", 64)]]
        values.append((prefix + epsilon, GGUF_F32, 1e-5))
        tensors = []
        for name, (shape, numbers) in self.matrices.items():
            own = (kinds or {}).get(name, kind)
            tensors.append((name + ".weight", shape, own, encoded(own, numbers)))
        for name, numbers in self.vectors.items():
            tensors.append((name, (len(numbers),), F32, bytes_of(numbers, "<f4")))
        return gguf_file(values, order(tensors) if order else tensors)


def moved(base, tuned):
    """|tuned - base| / |base| of every neuron; 0 of one that is 0 in both. The sums of squares are
    whole numbers, so nothing is rounded but the quotient and its root."""
    found = []
    for layer in range(base.layers):
        for neuron in range(base.neurons):
            a, b = base.weights_of(layer, neuron), tuned.weights_of(layer, neuron)
            change = sum((y - x) ** 2 for x, y in zip(a, b))
            found.append(math.sqrt(change / sum(x * x for x in a)) if change else 0.0)
    return found


def negated(n):
    return -n


def doubled(n):
    return 2 * n


def zeroed(_):
    return 0


# ---- Change of weights -----------------------------------------------------------------------

class Moved(MethodCase):
    def changes(self, status, *args, plain=False):
        """A run of tools/changes.py, with numpy where it is or without; its words on stderr."""
        start = [sys.executable] + WITHOUT_NUMPY * plain + [CHANGES]
        done = subprocess.run(start + list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=120, cwd=self.directory)
        message = done.stderr.decode("utf-8", "replace")
        self.assertEqual((done.returncode, done.stdout), (status, b""), (args, message))
        if status != 2:
            self.assertRegex(message, r"\Achanges.py: [^\r\n]+\n\Z" if status else r"\A\Z")
        self.assertEqual([n for n in os.listdir(self.directory) if n.endswith(".tmp")], [])
        return message

    def pv(self, base, *tuned, rates=(1, 0, 0), options=()):
        """What find takes from the changes."""
        self.changes(0, base, *tuned, "-o", self.path("changes"))
        words = [word for pair in zip(("--top", "--filter", "--bar"), map(repr, rates))
                 for word in pair]
        return self.find(self.path("changes"), *words, *options)

    def refused_pv(self, status, culprits, *args, out="out"):
        with self.subTest(" ".join(args)[-200:]):
            before = sorted(os.listdir(self.directory))
            message = self.changes(status, *args, "-o", self.path(out))
            for culprit in [culprits] if isinstance(culprits, str) else culprits:
                self.assertIn(culprit, message)
            self.assertEqual(sorted(os.listdir(self.directory)), before, "files left")

    def models(self, family):
        """A base, of which one neuron is 0, and two that were trained further."""
        rng = random.Random("tuned " + family)
        base = Model(family).changed((1, Model(family).parts(), 9, zeroed))
        parts = base.parts()
        some = lambda n: n + rng.randrange(-20, 21)
        aa = base.changed(
            (0, parts, 1, negated), (0, parts, 2, zeroed), (0, parts, 3, doubled),
            (1, parts[:1], 4, negated), (1, parts[-2:-1], 5, doubled), (1, parts[-1:], 6, zeroed),
            (2, parts, 7, negated), (2, parts, 63, some), (0, parts[-1:], 0, some))
        bb = base.changed(
            (0, parts, 1, doubled), (1, parts[:1], 4, zeroed), (2, parts[-1:], 7, negated),
            (2, parts, 0, some), (2, parts[:1], 62, some), (2, parts, 61, some))
        return base, aa, bb

    def test_known_changes(self):
        """By what factor each neuron has moved; the same whatever the types of the files."""
        for family in "llama", "gpt2":
            base, aa, bb = self.models(family)
            want = list(zip(moved(base, aa), moved(base, bb)))
            self.assertEqual(want[1:5], [(2, 1), (1, 0), (1, 0), (0, 0)])
            self.assertEqual(want[64 + 9], (0, 0))           # a neuron of zeros that stays one
            self.assertEqual(sum(max(row) > 0 for row in want), 12)
            printed, files = set(), set()
            for kind, other in itertools.product(KINDS, KINDS):
                if kind != other and kind != "F32" and other != "F32":
                    continue
                with self.subTest(family=family, base=kind, tuned=other):
                    words = [self.path("base", base.file(KINDS[kind]))] + [
                        "%s=%s" % (name, self.path(name, model.file(KINDS[other])))
                        for name, model in (("bb", bb), ("aa", aa))]
                    found = self.pv(*words)
                    self.assertEqual(found.header["method"], "lape")
                    self.assertEqual(found.header["model"], "made")
                    self.assertEqual(found.labels, ["aa", "bb"])
                    self.assertEqual(found.p, {i: ["%.9g" % (value / 4) for value in row]
                                               for i, row in enumerate(want)})
                    printed.add(self.lape(0, "find", self.path("changes"), "-q")[0])
                    files.add(read(self.path("changes")))
                    self.changes(0, *words, "-o", self.path("plain"), plain=True)
                    files.add(read(self.path("plain")))
            self.assertEqual((len(printed), len(files)), (1, 1))

    def test_scale(self):
        """Integers up to 2^53 over a power of two, which holds the largest: the changes, or, where
        these reach 1, a part of them that the file names."""
        base = Model()
        step = lambda n: n + 1
        times = lambda n: lambda x: n * x
        for function, by in (step, 1), (zeroed, 2), (negated, 4), (times(4), 4), (times(6), 8):
            tuned = base.changed((0, base.parts(), 5, function), (1, base.parts()[1:2], 7, step))
            moves = moved(base, tuned)
            self.changes(0, self.path("base", base.file()), "aa=" + self.path("aa", tuned.file(
                F32)), "bb=" + self.path("base"), "-o", self.path("changes"))
            file = Gguf(self.path("changes"))
            (tokens, same), found = file.values["lape-counts.tokens"], file.numbers("aa.positive")
            self.assertEqual((tokens, same), (tokens, tokens))
            self.assertEqual(tokens & (tokens - 1), 0)
            self.assertTrue(1 << 52 <= max(found) < 1 << 53 <= tokens, (max(found), tokens))
            self.assertEqual(list(found), [round(Fraction(move) / by * tokens) for move in moves])
            self.assertIn("divided by %d," % by, file.values["general.description"])
            self.assertEqual(set(file.numbers("bb.positive")), {0})

    def test_small_changes(self):
        """The tokens of a language are within 64 bits; where nothing has changed, all are 0."""
        base = Model()
        data = bytearray(base.file())
        self.path("base", data)
        file = Gguf(self.path("base"))
        at = file.start + file.tensors["blk.1.ffn_up.weight"][2]
        weight, = struct.unpack_from("<f", data, at)
        struct.pack_into("<f", data, at, weight * (1 + 2 ** -20))
        for name, n in (("aa", 1), ("bb", 0)):
            self.path(name, data if n else base.file())
            self.changes(0, self.path("base"), "%s=%s" % (name, self.path(name)), "-o",
                         self.path("changes"))
            made = Gguf(self.path("changes"))
            tokens, = made.values["lape-counts.tokens"]
            self.assertEqual(tokens, 1 << (62 if n else 53))
            found = [value for value in made.numbers(name + ".positive") if value]
            size = math.sqrt(sum(x * x for x in base.weights_of(1, 0))) / 256
            self.assertEqual(len(found), n)
            for value in found:
                self.assertAlmostEqual(value / tokens / (abs(weight) * 2 ** -20 / size), 1, 9)

    def test_selection(self):
        """Lowest entropy of moves first, filter and bar by moves; penalised; fewer languages."""
        for family in "llama", "gpt2":
            base, aa, bb = self.models(family)
            files = [self.path("base", base.file())] + [
                "%s=%s" % (name, self.path(name, model.file(BF16)))
                for name, model in (("aa", aa), ("bb", bb))]
            moves = {"aa": moved(base, aa), "bb": moved(base, bb)}
            for labels, penalty in (("aa", "bb"), 0), (("aa", "bb"), .3), (("bb", "aa"), .05):
                p = [[Fraction(moves[k][i]) for k in labels] for i in range(3 * 64)]
                found = scores("lape", p, None, penalty)
                order = sorted(range(len(p)), key=lambda i: (found[i], i))
                # the largest change is 2: all are divided by 4, and so is what the penalty adds
                options = ["--langs", ",".join(labels)] + (
                    ["--penalty", repr(4 * penalty)] * (penalty > 0))
                for rates in (.01, .95, .95), (.05, .9, .97), (1, .95, .5), (.03, .95, 0):
                    got = self.pv(*files, rates=rates, options=options)
                    self.assertEqual(got.neurons, select(order, p, *rates), (labels, rates))
                    self.assertEqual(got.header["method"], "lape, penalty %g" % (
                        4 * penalty) if penalty else "lape")
            two = self.pv(*files, options=["--langs", "bb,aa"])
            self.assertEqual(two.labels, ["bb", "aa"])
            self.assertEqual(two.p, {i: ["%.9g" % (move / 4), "%.9g" % (moves["aa"][i] / 4)]
                                     for i, move in enumerate(moves["bb"])})

    def test_not_finite(self):
        """A weight that is no number, and a neuron that was 0 and is not: no ratio, no selection.
        """
        base = Model()
        changed = self.path("aa", base.changed((2, ["ffn_up"], 3, negated)).file())
        plain = self.path("base", base.file())
        for part, value in ("ffn_gate", math.nan), ("ffn_up", math.inf), ("ffn_down", -math.inf):
            broken = bytearray(base.file())
            path = self.path("broken", broken)
            file = Gguf(path)
            start = file.start + file.tensors["blk.1.%s.weight" % part][2]
            struct.pack_into("<f", broken, start + 4 * base.places(part, 5)[1], value)
            self.path("broken", broken)
            self.refused_pv(1, [path, "layer 1, neuron 5"], plain, "aa=" + changed, "bb=" + path)
            self.refused_pv(1, [changed, "layer 1, neuron 5"], path, "aa=" + changed)
        dead = self.path("dead", base.changed((0, base.parts(), 63, zeroed)).file())
        self.refused_pv(1, [changed, "layer 0, neuron 63"], dead, "dd=" + dead, "aa=" + changed)
        self.pv(plain, "dd=" + dead, "ee=" + plain)

    def test_order_of_words(self):
        """The models may stand anywhere among the options, and in any order."""
        base, aa, bb = self.models("llama")
        base, aa, bb = self.path("base", base.file()), self.path("a", aa.file()), self.path(
            "b", bb.file())
        found, out = set(), self.path("out")
        for words in ([base, "aa=" + aa, "bb=" + bb, "-o", out],
                      ["-o", out, base, "bb=" + bb, "-q", "aa=" + aa],
                      [base, "-o", out, "bb=" + bb, "aa=" + aa, "-q"]):
            self.changes(0, *words)
            found.add(read(out))
        self.assertEqual(len(found), 1)

    def test_list_serves(self):
        """The list ablates, bakes and is told about as any other; so are the changes."""
        base, aa, bb = self.models("llama")
        path, listed = self.path("base", base.file()), self.path("list.tsv")
        self.pv(path, "aa=" + self.path("aa", aa.file()), "bb=" + self.path("bb", bb.file()))
        self.lape(0, "find", self.path("changes"), "--top", "1", "-q", "-o", listed)
        ids = self.path("ids.npy", npy(bytes_of(list(range(16)) * 4, "<i4"), "<i4"))
        table = self.lape(0, "ppl", path, "xx=" + ids, "--seq", "16", "--neurons", listed, "-q")[0]
        self.assertRegex(table, r"\Aoff\txx\nnone\t[0-9.]+\naa\t[0-9.]+\nbb\t[0-9.]+\n\Z")
        self.assertEqual(len(set(re.findall(r"\t([0-9.]+)", table))), 3)
        self.assertIn("neurons of model: made", self.lape(0, "info", listed)[0])
        self.assertIn("counts of model: made", self.lape(0, "info", self.path("changes"))[0])
        self.lape(0, "bake", path, "--neurons", listed, "--off", "aa", "-o", self.path("baked"))
        self.refused(1, "sums of activations", "find", self.path("changes"), "--method", "lave")

    def test_split(self):
        """Models of several files, as llama.cpp splits them; each file in its place."""
        file, tuned = tiny.model(), tiny.model(seed=2)
        base = self.path("base", tiny.to_bytes(file))
        self.changes(0, base, "aa=" + self.path("aa", tiny.to_bytes(tuned)), "-o",
                     self.path("whole"))
        sizes = [9, len(tuned["tensors"]) - 9]
        names = ["aa-%05d-of-00002.gguf" % (i + 1) for i in range(2)]
        first, second = [self.path(name, tiny.to_bytes(part))
                         for name, part in zip(names, parts_of(tuned, sizes))]
        self.changes(0, base, "aa=" + first, "-o", self.path("parts"))
        self.assertEqual(read(self.path("parts")), read(self.path("whole")))
        self.refused_pv(1, [second, "not the first"], base, "aa=" + second)
        self.refused_pv(1, [second, "read as input"], base, "aa=" + first, out=names[1])
        self.path(names[1], tiny.to_bytes(parts_of(tuned, sizes)[0]))
        self.refused_pv(1, [second, "part 2 of 2"], base, "aa=" + first)
        twice = parts_of(tuned, sizes)[1]
        twice["tensors"]["blk.0.ffn_up.weight"] = tuned["tensors"]["blk.0.ffn_up.weight"]
        self.path(names[1], tiny.to_bytes(twice))
        self.refused_pv(1, [second, "blk.0.ffn_up.weight"], base, "aa=" + first)
        os.remove(second)
        self.refused_pv(1, [second, "No such file"], base, "aa=" + first)

    def test_refused(self):
        base, path = Model(), self.path("base", Model().file())
        aa = "aa=" + path
        for words in [path], [aa], [path, "-=" + path], [path, aa, "--langs", "aa"]:
            self.refused_pv(2, "LANG=MODEL", *words)
        for word in path, "=" + path, "aa=", "a.a=" + path, "x" * 25 + "=" + path, "none=" + path:
            self.refused_pv(2, ["LANG=FILE", word], path, word)
            self.refused_pv(2, ["LANG=FILE", word], path, aa, word)
        self.refused_pv(2, "twice", path, aa, "bb=" + path, aa)
        for out in "base", "aa":
            self.refused_pv(1, [self.path(out), "read as input"], path,
                            "aa=" + self.path("aa", base.file()), out=out)
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        for out in "no/out", "pipe", ".":
            self.refused_pv(1, out, path, aa, out=out)
        others = {"layers": Model(layers=2), "width": Model(width=64), "neurons": Model(neurons=96),
                  "family": Model("qwen2"), "kind": Model("gpt2")}
        for name, other in others.items():
            other = self.path(name, other.file())
            self.refused_pv(1, [other, "family, layers, width and neurons"], path, aa,
                            "bb=" + other)
        for bad in self.path("none"), self.path("text", b"text\n" * 99), self.path(
                "cut", base.file()[:-999]), self.path("counts", Counts.at_random("pv").file()), (
                    self.directory), self.path("empty", b""), os.devnull, DEMO + "/x":
            self.refused_pv(1, bad, bad, aa)
            self.refused_pv(1, bad, path, aa, "bb=" + bad)

    def test_refused_by_find(self):
        """What the program said of models it now says of their changes."""
        path = self.path("base", Model().file())
        tuned = self.path("tuned", Model().changed((0, ["ffn_up"], 3, negated)).file())
        self.pv(path, "aa=" + tuned, "bb=" + path)
        changes = self.path("changes")
        self.refused(2, "--langs", "find", changes, "--langs", "aa,aa")
        self.refused(1, "'cc'", "find", changes, "--langs", "cc")
        self.refused(1, [changes, "one language"], "find", changes, "--langs", "aa")
        self.refused(2, "-o", "find", changes, "-o", changes)
        for words in ["--method", "pv"], ["--base", path], ["--tuned"]:
            self.refused(2, words[0], "find", changes, *words)

    def test_damaged(self):
        """Matrices that are not those of a model, one at a time."""
        base = self.path("base", tiny.to_bytes(tiny.model()))
        for change, culprit in (
                (lambda t: t.pop("blk.1.ffn_up.weight"), "blk.1.ffn_up.weight"),
                (lambda t: t["blk.0.ffn_down.weight"].update(dims=[16, 512]), "ffn_down"),
                (lambda t: t["blk.0.ffn_down.weight"].update(dims=[1 << 16]), "ffn_down"),
                (lambda t: t["blk.0.ffn_gate.weight"].update(type=16), "ffn_gate"),
                (lambda t: t["blk.0.ffn_gate.weight"].update(offset=1 << 40), "beyond the file"),
                (lambda t: t["token_embd.weight"].update(type=10, dims=[9, 128]), "whole blocks"),
                (lambda t: t["token_embd.weight"].update(dims=[1 << 62, 1 << 62]), "beyond")):
            file = tiny.model()
            change(file["tensors"])
            bad = self.path("bad", tiny.to_bytes(file))
            self.refused_pv(1, [bad, culprit], base, "aa=" + bad)
        for key in "block_count", "embedding_length", "feed_forward_length":
            for value in (tiny.U32, 0), (tiny.STRING, "2"), (tiny.FLOAT, 2.0), (tiny.U32, 1 << 31):
                file = tiny.model()
                file["values"]["llama." + key] = value
                bad = self.path("bad", tiny.to_bytes(file))
                self.refused_pv(1, [bad, key], base, "aa=" + bad)


# ---- An ablation written into the weights ----------------------------------------------------

def neuron_list(model, members, name=None):
    """A list of neurons {language: [(layer, neuron), ...]} by hand."""
    lines = ["# language-specific neurons", "# model: %s" % (name or model.name),
             "# layers: %d" % model.layers, "# neurons: %d" % model.neurons,
             "# languages: " + " ".join(members), "layer\tneuron\tlape\tlanguages"]
    for place in sorted(set().union(*members.values())):
        own = [label for label in members if place in members[label]]
        lines.append("%d\t%d\t0\t%s" % (*place, ",".join(own)))
    return ("\n".join(lines) + "\n").encode()


def zeroed_columns(path, places):
    """The file's bytes with these columns of its down projections made 0."""
    file = Gguf(path)
    data = bytearray(file.data)
    for layer, neuron in places:
        (rows, columns), kind, offset = file.tensors["blk.%d.ffn_down.weight" % layer]
        for row in range(rows):
            if kind == Q8_0:
                at, size = (row * columns // 32 + neuron // 32) * 34 + 2 + neuron % 32, 1
            else:
                size = 4 if kind == F32 else 2
                at = (row * columns + neuron) * size
            at += file.start + offset
            data[at:at + size] = bytes(size)
    return bytes(data)


class Bake(Case):
    def setUp(self):
        super().setUp()
        rng = random.Random("ids")
        ids = [rng.randrange(16) for _ in range(128)]
        self.ids = ["xx=" + self.path("ids.npy", npy(bytes_of(ids, "<i4"), "<i4")), "--seq", "32"]

    def bake(self, model, listed, off, name="baked"):
        printed, _ = self.lape(0, "bake", model, "--neurons", listed, "--off", off, "-o",
                               self.path(name))
        self.assertEqual(printed, "")
        return self.path(name)

    def table(self, model, *args):
        """{off: the perplexities as they are printed}"""
        rows = [line.split("\t") for line in self.lape(0, "ppl", model, "-q", *args)[0].split("\n")]
        return {row[0]: row[1:] for row in rows[1:-1]}

    def members(self, model):
        """Languages of some neurons, of none, of all, of one."""
        rng = random.Random("members")
        places = list(itertools.product(range(model.layers), range(model.neurons)))
        edges = [(0, 0), (model.layers - 1, model.neurons - 1), (1, 31), (1, 32)]
        return {"aa": set(rng.sample(places, 15) + edges), "bb": set(rng.sample(places, 25)),
                "empty": set(), "all": set(places), "last": {(model.layers - 1, 5)}}

    def check(self, model, **how):
        """Every language: the bytes, and perplexity to the last character."""
        path, members = self.path("model", model.file(**how)), self.members(model)
        listed = self.path("list.tsv", neuron_list(model, members))
        hooked = self.table(path, *self.ids, "--neurons", listed)
        self.assertEqual(hooked["empty"], hooked["none"])
        self.assertEqual(len({row[0] for row in hooked.values()}), len(members))
        for label, places in members.items():
            baked = self.bake(path, listed, label)
            self.assertTrue(read(baked) == zeroed_columns(path, places), label)
            self.assertEqual(self.table(baked, *self.ids)["none"], hooked[label], label)
        self.assertEqual(read(self.bake(path, listed, "empty")), read(path))

    def test_types(self):
        """In every type, with a gate and without."""
        for family, kind in itertools.product(["llama", "gpt2"], KINDS):
            with self.subTest(family=family, kind=kind):
                self.check(Model(family), kind=KINDS[kind])

    def test_mixed_types(self):
        """Down projections of other types, and so of other sizes, in other layers."""
        names = ["blk.%d.ffn_down" % layer for layer in range(3)]
        for kinds in itertools.permutations([F32, BF16, Q8_0]):
            with self.subTest(kinds=kinds):
                self.check(Model(), kinds=dict(zip(names, kinds)), kind=F16)

    def test_order_of_tensors(self):
        """Layers backwards, down projections first or last, in any order."""
        is_down = lambda tensor: "ffn_down.weight" in tensor[0]
        shuffle = lambda tensors: random.Random("order").sample(tensors, len(tensors))
        for order in (lambda tensors: tensors[::-1], shuffle,
                      lambda tensors: sorted(tensors, key=is_down),
                      lambda tensors: sorted(tensors, key=is_down)[::-1]):
            self.check(Model(seed=2), kind=BF16, order=order)

    def test_one_after_the_other(self):
        """Both of two languages baked are the ablation of all that is in either; the list of
        neurons still fits."""
        model = Model(seed=4)
        members = self.members(model)
        both = dict(members, both=members["aa"] | members["bb"])
        path, listed = self.path("model", model.file(F16)), self.path("list.tsv",
                                                                    neuron_list(model, both))
        hooked = self.table(path, *self.ids, "--neurons", listed)
        once = self.bake(path, listed, "aa", "once")
        self.assertEqual(self.table(once, *self.ids, "--neurons", listed)["bb"], hooked["both"])
        self.assertEqual(self.table(once, *self.ids, "--neurons", listed)["aa"], hooked["aa"])
        twice = self.bake(once, listed, "bb", "twice")
        self.assertEqual(read(twice), read(self.bake(path, listed, "both")))
        self.assertEqual(read(self.bake(once, listed, "aa")), read(once))

    def test_demo(self):
        """Perplexity of several languages, and generated text, greedy and drawn."""
        counts, listed = self.path("counts"), self.path("list.tsv")
        text = lambda label, kind: "%s=%s" % (label, os.path.join(ROOT, "demo", "text", "%s.%s.txt"
                                                                  % (label, kind)))
        self.lape(0, "count", DEMO, text("ja", "count"), text("en", "count"), "--seq", "64",
                  "--tokens", "512", "-q", "-o", counts)
        self.lape(0, "find", counts, "--top", ".06", "-q", "-o", listed)
        corpora = [text(label, "eval") for label in ("zh", "en", "ja")]
        corpora += ["--seq", "64", "--tokens", "256"]
        hooked = self.table(DEMO, *corpora, "--neurons", listed)
        for label in "en", "ja":
            baked = self.bake(DEMO, listed, label)
            with open(listed, encoding="utf-8") as file:
                rows = [line.split("\t") for line in file if line[0].isdigit()]
            places = {(int(row[0]), int(row[1])) for row in rows if label in row[3].split(",")}
            self.assertGreater(len(places), 20)
            self.assertTrue(read(baked) == zeroed_columns(DEMO, places))
            self.assertNotEqual(hooked[label], hooked["none"])
            self.assertEqual(self.table(baked, *corpora)["none"], hooked[label])
            differ = 0
            for prompt in "You can open the window", "\u79c1\u306f", "Le chat":
                for drawn in [], ["--temp", "1", "--seed", "3", "--top-p", ".9"]:
                    args = ["-p", prompt, "-n", "24", "-q"] + drawn
                    plain = self.lape(0, "generate", DEMO, *args)[0]
                    ablated = self.lape(0, "generate", DEMO, *args, "--neurons", listed, "--off",
                                        label)[0]
                    self.assertEqual(self.lape(0, "generate", baked, *args)[0], ablated)
                    differ += ablated != plain
            self.assertGreater(differ, 2)
            digest = re.compile("digest: [0-9a-f]{16}\n")
            told, plain = (self.lape(0, "info", path)[0] for path in (baked, DEMO))
            self.assertEqual(digest.sub("", told), digest.sub("", plain))
            self.assertNotEqual(told, plain)

    def trace(self, model, at):
        ids = self.path("short.npy", npy(bytes_of(list(range(16)), "<i4"), "<i4"))
        self.lape(0, "trace", model, ids, "--at", at, "-q", "-o", self.path("out.npy"))
        return Tensor(read(self.path("out.npy")))

    def test_trace(self):
        """Activations are what they are up to the first layer with neurons of the language; what
        that layer's feed-forward adds is not. With all neurons 0 nothing is added."""
        model = Model(seed=5)
        members = {"aa": {(1, 7), (1, 8), (2, 0)}, "all": self.members(model)["all"]}
        path, listed = self.path("model", model.file()), self.path("list.tsv",
                                                                 neuron_list(model, members))
        for off, first in ("aa", 1), ("all", 0):
            baked = self.bake(path, listed, off)
            for at, same in ("act", first), ("gate", first), ("down", first - 1):
                before, after = self.trace(path, at), self.trace(baked, at)
                for layer in range(model.layers):
                    equal = before.plane(layer) == after.plane(layer)
                    self.assertEqual(equal, layer <= same, (off, at, layer))
        self.assertEqual(set(self.trace(baked, "down").numbers()), {0})
        self.assertNotIn(0, self.trace(path, "down").numbers())

    def test_refused(self):
        model = Model()
        path = self.path("model", model.file())
        members = self.members(model)
        listed = self.path("list.tsv", neuron_list(model, members))
        args = ["--neurons", listed, "--off", "aa"]
        out = ["-o", self.path("out")]
        self.refused(2, "-o", "bake", path, *args)
        for some in [], args[:2], args[2:]:
            self.refused(2, ["--neurons", "--off"], "bake", path, *some, *out)
        os.symlink(path, self.path("symlink"))
        os.link(path, self.path("hard link"))
        for same in path, listed, self.path("symlink"), self.path("hard link"):
            self.refused(2, "-o names a file that is read, too", "bake", path, *args, "-o", same)
        self.assertEqual(read(path), model.file())
        self.refused(1, [listed, "'cc'"], "bake", path, *args[:3], "cc", *out)
        self.refused(1, [listed, "''"], "bake", path, *args[:3], "", *out)
        for other in Model(layers=2), Model(neurons=96):
            other = self.path("other", neuron_list(other, self.members(other)))
            for more in [], ["--any-model"]:
                self.refused(1, other, "bake", path, "--neurons", other, *args[2:], *out, *more)
        renamed = self.path("renamed", neuron_list(model, members, name="another"))
        self.refused(1, [renamed, "another", "--any-model"], "bake", path, "--neurons", renamed,
                     *args[2:], *out)
        self.lape(0, "bake", path, "--neurons", renamed, *args[2:], *out, "--any-model", "-q")
        self.assertEqual(read(self.path("out")), read(self.bake(path, listed, "aa")))
        os.remove(self.path("out"))
        for bad in self.path("missing"), self.path("text", b"text\n" * 99), self.path(
                "cut", model.file()[:-999]):
            self.refused(1, bad, "bake", bad, *args, *out)
            self.refused(1, bad, "bake", path, "--neurons", bad, *args[2:], *out)
        self.refused(1, self.path("no/out"), "bake", path, *args, "-o", self.path("no/out"))
        self.refused(2, "too many", "bake", path, path, *args, *out)

    def test_overlap(self):
        """Two down projections in the same bytes, and in some of the same."""
        model = Model()
        data, path = bytearray(model.file()), self.path("model", model.file())
        file, name = Gguf(path), b"blk.1.ffn_down.weight"
        offset = file.tensors["blk.0.ffn_down.weight"][2]
        listed = self.path("list.tsv", neuron_list(model, self.members(model)))
        for place in offset, offset + 64:                # after the name come 4 + 2 * 8 + 4 bytes
            struct.pack_into("<Q", data, data.index(name) + len(name) + 24, place)
            self.refused(1, [path, "overlap"], "bake", self.path("model", data), "--neurons",
                         listed, "--off", "aa", "-o", self.path("out"))

    def test_disk_full(self):
        """One line, status 1, and neither the file nor a part of it."""
        model = Model()
        path = self.path("model", model.file())
        listed = self.path("list.tsv", neuron_list(model, self.members(model)))
        args = ["bake", path, "--neurons", listed, "--off", "aa", "-o", self.path("out")]
        if os.path.exists("/dev/full"):
            os.symlink("/dev/full", self.path("out"))
            _, message = self.lape(1, *args)
            self.assertRegex(message, re.escape(self.path("out")) + ": .*No space left")
            self.assertEqual(os.readlink(self.path("out")), "/dev/full")
            os.unlink(self.path("out"))
            self.assertEqual(sorted(os.listdir(self.directory)), ["ids.npy", "list.tsv", "model"])
        size = len(model.file())
        for limit in 0, 4096, size - 1:
            with self.subTest(limit=limit):
                done = subprocess.run([LAPE] + args, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE,
                                                                            (limit, limit)))
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertRegex(done.stderr, rb"\Alape: [^\r\n]+: cannot write: [^\r\n]+\n\Z")
                self.assertEqual(sorted(os.listdir(self.directory)),
                                 ["ids.npy", "list.tsv", "model"])


if __name__ == "__main__":
    sys.exit(report.main())
