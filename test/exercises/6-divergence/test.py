#!/usr/bin/env python3
"""Exercise 6: another score. README.md, one folder up, says what to do.

    LAPE=./lape python3 test/exercises/6-divergence/test.py [NAME...]
"""

import itertools
import math
import struct
import sys

import paths                                                    # noqa: F401: finds the rest
import exercise
import report
import test_methods
import tiny

RATES = [(0.05, 0.9, 0.9), (0.01, 0.95, 0.95), (0.3, 0.0, 0.5), (0.002, 0.5, 0.99)]


def divergence(p):
    """Of q and the uniform distribution u: how far both are from their mean m, by Kullback and
    Leibler, on average."""
    if not sum(p):
        return 0.0
    u = 1 / len(p)
    q = sorted(float(value / sum(p)) for value in p)

    def far(a, m):
        return math.fsum(x * math.log(x / y) for x, y in zip(a, m) if x)
    mean = [(x + u) / 2 for x in q]
    return (far(q, mean) + far([u] * len(q), mean)) / 2


class Divergence(exercise.Case):
    def setUp(self):
        super().setUp()
        self.counts = self.counted("counts", languages=exercise.LANGUAGES)
        self.labels, self.p = exercise.probabilities(self.counts)

    def clear(self, scores, top, filtered):
        """The last neuron that is selected and the first that is not have the same p, so that their
        places decide, or scores that no rounding confuses."""
        least = test_methods.threshold(self.p, filtered)
        order = [i for i in exercise.in_order(scores) if max(self.p[i]) > least]
        cut = round(top * len(scores))
        for i, j in zip(order[cut - 1:], order[cut:cut + 1]):
            alike = sorted(exercise.shares(self.p[i])) == sorted(exercise.shares(self.p[j]))
            self.assertTrue(scores[j] - scores[i] > 1e-10 or alike, (top, filtered))

    def same(self, method, scores):
        """The selection, and of which languages each is, at several rates."""
        for top, filtered, bar in RATES:
            self.clear(scores, top, filtered)
            wanted = test_methods.select(exercise.in_order(scores), self.p, top, filtered, bar)
            found = exercise.table(self.lape(
                "find", self.counts, "--method", method, "--top", repr(top), "--filter",
                repr(filtered), "--bar", repr(bar)))
            self.assertEqual(
                {1024 * layer + neuron: row[1] for (layer, neuron), row in found.items()},
                {i: ",".join(self.labels[k] for k in of) or "-" for i, of in wanted.items()})

    def test_selection(self):
        self.same("jsd", [-divergence(row) for row in self.p])

    def test_ties(self):
        """Of the same p in other languages, the first places are selected."""
        tokens, rows = 997, list(itertools.permutations([389, 461, 484, 668, 808]))
        labels = ["a", "b", "c", "d", "e"]
        values = {"general.architecture": (tiny.STRING, "lape-counts"),
                  "general.name": (tiny.STRING, "x"), "lape-counts.layers": (tiny.U32, 1),
                  "lape-counts.neurons": (tiny.U32, len(rows)),
                  "lape-counts.languages": (tiny.STRING, labels),
                  "lape-counts.tokens": (tiny.U64, [tokens] * len(labels))}
        tensors = {label + ".positive": {
            "dims": [1, len(rows)], "type": tiny.INT64,
            "raw": struct.pack("<%dq" % len(rows), *column)}
            for label, column in zip(labels, zip(*rows))}
        with open(self.path("ties"), "wb") as file:
            file.write(tiny.to_bytes({"magic": b"GGUF", "version": 3, "values": values,
                                      "tensors": tensors}))
        found = self.lape("find", self.path("ties"), "--method", "jsd", "--filter", "0", "--top",
                          "0.25")
        self.assertEqual(list(exercise.table(found)), [(0, i) for i in range(len(rows) // 4)])

    def test_lape(self):
        """LAPE is what it was."""
        self.same("lape", [exercise.entropy(exercise.shares(row)) for row in self.p])

    def test_list(self):
        """The list names the method; its column is LAPE, whatever was selected by."""
        listing = self.lape("find", self.counts, "--method", "jsd")
        self.assertIn("\n# method: jsd\n", listing)
        for (layer, neuron), row in exercise.table(listing).items():
            wanted = exercise.entropy(exercise.shares(self.p[1024 * layer + neuron]))
            self.assertAlmostEqual(float(row[0]), wanted, delta=1e-8)

    def test_one_language(self):
        """One language is never far from itself: nothing could be told apart."""
        self.refused("find", self.counts, "--langs", "en", "--method", "jsd")


if __name__ == "__main__":
    sys.exit(report.main())
