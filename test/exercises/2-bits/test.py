#!/usr/bin/env python3
"""Exercise 2: LAPE in bits. README.md, one folder up, says what to do.

    LAPE=./lape python3 test/exercises/2-bits/test.py [NAME...]
"""

import math
import sys

import paths                                                    # noqa: F401: finds the rest
import exercise
import report
import test_methods

RATES = [["--top", "0.05", "--filter", "0.9", "--bar", "0.9"], ["--filter", "0", "--top", "0.2"],
         ["--penalty", "0.5"], ["--method", "lap"], ["--method", "lave"],
         ["--method", "random", "--seed", "3"]]


class Bits(exercise.Case):
    def setUp(self):
        super().setUp()
        self.counts = self.counted("counts", languages=exercise.LANGUAGES)

    def find(self, *options):
        return self.lape("find", self.counts, *options)

    def entropies(self, listing, unit):
        """Every LAPE of a list is its own p's, as the counts have them."""
        _, p = exercise.probabilities(self.counts)
        table = exercise.table(listing)
        self.assertGreater(len(table), 30)
        for (layer, neuron), (lape, _, _) in table.items():
            wanted = exercise.entropy(exercise.shares(p[1024 * layer + neuron])) / unit
            self.assertAlmostEqual(float(lape), wanted, delta=1e-8, msg=(layer, neuron))

    def test_bits(self):
        for rates in RATES:
            self.entropies(self.find(*rates, "--bits"), math.log(2))

    def test_nats(self):
        for rates in RATES:
            self.entropies(self.find(*rates), 1)

    def test_selection(self):
        """The neurons and all else that the list has are the same; comments may be more."""
        for rates in RATES:
            plain, bits = self.find(*rates), self.find(*rates, "--bits")
            one, other = exercise.table(plain), exercise.table(bits)
            self.assertEqual({at: row[1:] for at, row in one.items()},
                             {at: row[1:] for at, row in other.items()}, rates)
            comments = [line for line in plain.splitlines() if line.startswith("#")]
            self.assertEqual([line for line in bits.splitlines() if line in comments], comments)

    def test_definition(self):
        """And they are those that README.md's three steps select."""
        labels, p = exercise.probabilities(self.counts)
        scores = [exercise.entropy(exercise.shares(row)) for row in p]
        wanted = test_methods.select(exercise.in_order(scores), p, 0.05, 0.9, 0.9)
        found = exercise.table(self.find(*RATES[0], "--bits"))
        self.assertEqual({1024 * layer + neuron: row[1] for (layer, neuron), row in found.items()},
                         {i: ",".join(labels[k] for k in of) or "-" for i, of in wanted.items()})

    def test_read(self):
        """The list is still read."""
        with open(self.path("neurons"), "w", encoding="utf-8") as file:
            file.write(self.find("--bits"))
        self.lape("info", self.path("neurons"))


if __name__ == "__main__":
    sys.exit(report.main())
