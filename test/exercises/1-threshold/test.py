#!/usr/bin/env python3
"""Exercise 1: a neuron is active above T. README.md, one folder up, says what to do.

    LAPE=./lape python3 test/exercises/1-threshold/test.py [NAME...]
"""

import shutil
import struct
import sys

from paths import DEMO
import exercise
import forward
import report

SEQ, TOKENS = 16, 32
NEAR = 1e-4              # what float and double make of a neuron is some 1e-6 apart
FEW = ["--seq", str(SEQ), "--tokens", str(TOKENS)]


class Threshold(exercise.Case):
    few = FEW

    def test_count(self):
        """Tokens above T, of both signs; the other numbers that are counted stay as they were."""
        model, ids = forward.Model(DEMO), exercise.first_ids("en", TOKENS)
        values = exercise.by_neuron([model.run(ids[at:at + SEQ])[0]
                                     for at in range(0, TOKENS, SEQ)])
        _, plain = exercise.counts(self.counted("plain"))
        for t in 0.0, 0.125, -0.125:
            _, found = exercise.counts(self.counted("counts", "--threshold", repr(t)))
            for i, (count, of) in enumerate(zip(found["en.positive"], values)):
                self.assertLessEqual(sum(a > t + NEAR for a in of), count, (t, i))
                self.assertLessEqual(count, sum(a > t - NEAR for a in of), (t, i))
            for name in set(plain) - {"en.positive"}:
                self.assertEqual(found[name], plain[name], name)

    def test_equal(self):
        """What equals T is not above it."""
        self.lape("trace", DEMO, exercise.text("en"), "--at", "act", "--layer", "0", *FEW,
                  "-o", self.path("act.npy"))
        act = exercise.array(self.path("act.npy"))
        width = len(act) // TOKENS
        for neuron in range(0, width, width // 4):
            most = max(act[neuron::width])
            bits, = struct.unpack("<i", struct.pack("<f", most))
            below, = struct.unpack("<f", struct.pack("<i", bits + (1 if most < 0 else -1)))
            for t, count in (most, 0), (below, act[neuron::width].count(most)):
                _, found = exercise.counts(self.counted("counts", "--threshold", repr(t)))
                self.assertEqual(found["en.positive"][neuron], count, (neuron, t))

    def test_merge(self):
        """Counts above one T add up; those above another are refused, also by --resume."""
        t = "--threshold", "0.125"
        en, zh, both = (self.counted(name, *t, languages=of) for name, of in (
            ("en", ["en"]), ("zh", ["zh"]), ("both", ["en", "zh"])))
        self.lape("merge", zh, en, "-o", self.path("sum"))
        self.assertEqual(exercise.counts(self.path("sum")), exercise.counts(both))
        for other in (self.counted("zero", languages=["fr"]),
                      self.counted("more", "--threshold", "0.25", languages=["fr"])):
            self.refused("merge", self.path("sum"), other, "-o", self.path("x"))
            self.refused("merge", other, self.path("sum"), "-o", self.path("x"))
        shutil.copy(en, self.path("new.partial"))
        self.refused("count", DEMO, *exercise.corpora("en"), *FEW, "--resume", "-o",
                     self.path("new"))
        self.assertEqual(exercise.counts(self.counted("new", *t, "--resume")), exercise.counts(en))

    def test_zero(self):
        """Above zero is what it was: the same bytes."""
        with open(self.counted("plain"), "rb") as one, open(
                self.counted("zero", "--threshold", "0"), "rb") as other:
            self.assertEqual(one.read(), other.read())


if __name__ == "__main__":
    sys.exit(report.main())
