#!/usr/bin/env python3
"""Exercise 3: the neurons of the up projection. README.md, one folder up, says what to do.

    LAPE=./lape python3 test/exercises/3-up/test.py [NAME...]
"""

import shutil
import sys

from paths import DEMO
import exercise
import forward
import report
import tiny

SEQ, TOKENS, NEAR = 16, 32, 1e-3                     # NEAR is --near's
OFF = 1e-4               # what float and double make of a number is some 1e-6 apart
FEW = ["--seq", str(SEQ), "--tokens", str(TOKENS)]


class Up(exercise.Case):
    few = FEW

    def between(self, count, values, low, high, off=OFF):
        """As many values are in (low, high), but for those that are near an end."""
        self.assertLessEqual(sum(low + off < x < high - off for x in values), count)
        self.assertLessEqual(count, sum(low - off < x < high + off for x in values))

    def test_count(self):
        model, ids = forward.Model(DEMO), exercise.first_ids("en", TOKENS)
        values = exercise.by_neuron([model.run(ids[at:at + SEQ])[1]
                                     for at in range(0, TOKENS, SEQ)])
        _, found = exercise.counts(self.counted("counts", "--of", "up"))
        for i, of in enumerate(values):
            self.between(found["en.positive"][i], of, 0, float("inf"))
            self.between(found["en.near_above"][i], of, 0, NEAR)
            self.between(found["en.near_below"][i], of, -NEAR, 0)
            self.assertAlmostEqual(found["en.sum"][i] / 2 ** 20, sum(of), delta=TOKENS * OFF)
            self.assertAlmostEqual(found["en.positive_sum"][i] / 2 ** 20,
                                   sum(x for x in of if x > 0), delta=TOKENS * OFF)
        self.assertEqual(found["en.histogram"], exercise.counts(self.counted("plain"))[1][
            "en.histogram"])

    def test_merge(self):
        """Such counts add up with each other, and not with counts of activations."""
        en, zh, both, plain = (self.counted(name, *up, languages=of) for name, of, up in (
            ("en", ["en"], ["--of", "up"]), ("zh", ["zh"], ["--of", "up"]), ("both", ["en", "zh"], ["--of", "up"]),
            ("plain", ["fr"], [])))
        self.lape("merge", zh, en, "-o", self.path("sum"))
        self.assertEqual(exercise.counts(self.path("sum")), exercise.counts(both))
        self.refused("merge", self.path("sum"), plain, "-o", self.path("x"))
        self.refused("merge", plain, self.path("sum"), "-o", self.path("x"))
        shutil.copy(en, self.path("new.partial"))
        self.refused("count", DEMO, *exercise.corpora("en"), *FEW, "--resume", "-o",
                     self.path("new"))
        self.assertEqual(exercise.counts(self.counted("new", "--of", "up", "--resume")),
                         exercise.counts(en))

    def test_steering(self):
        """Their means are not those of neurons: nothing is pushed by them."""
        up, plain = (self.counted(name, *option, languages=["en", "zh"]) for name, option in (
            ("up", ["--of", "up"]), ("plain", [])))
        self.lape("find", up, "-o", self.path("neurons"))
        words = ["generate", DEMO, "-p", "The", "-n", "2", "--neurons", self.path("neurons"),
                 "--on", "zh", "--counts"]
        self.lape(*words, plain)
        self.refused(*words, up)

    def test_without_gate(self):
        """A model that has no gate has nothing beside its neurons, and says so."""
        with open(self.path("gpt2.gguf"), "wb") as file:
            file.write(tiny.to_bytes(tiny.model("gpt2")))
        with open(self.path("ids.bin"), "wb") as file:
            file.write(bytes([1, 0, 2, 0, 3, 0]))
        words = ["count", self.path("gpt2.gguf"), "en=" + self.path("ids.bin"), "--seq", "3",
                 "-o", self.path("x")]
        self.lape(*words)
        self.refused(*words, "--of", "up")


if __name__ == "__main__":
    sys.exit(report.main())
