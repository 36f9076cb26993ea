#!/usr/bin/env python3
"""Exercise 4: sampling from the K likeliest. README.md, one folder up, says what to do.

    LAPE=./lape python3 test/exercises/4-top-k/test.py [NAME...]
"""

import math
import os
import sys

from paths import DEMO, ROOT
import exercise
import forward
import report

PROMPT, LENGTH, MASK = "Open the file", 12, 2 ** 64 - 1


def fractions(seed):
    """Random numbers in [0, 1): splitmix64."""
    while True:
        seed = seed + 0x9e3779b97f4a7c15 & MASK
        z = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9 & MASK
        z = (z ^ z >> 27) * 0x94d049bb133111eb & MASK
        yield ((z ^ z >> 31) >> 11) / 2 ** 53


def drawn(logits, temperature, k, p, fraction):
    """One of the fewest that together have the part p of what the k likeliest have: the first at
    which the sum of weights is above a random part of theirs."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[:k]
    weights = [math.exp((logits[i] - logits[order[0]]) / temperature) for i in order]
    n, whole = 1, sum(weights)
    while n < len(order) and sum(weights[:n]) < p * whole:
        n += 1
    stop, at = fraction * sum(weights[:n]), 0.0
    for i, weight in zip(order, weights):
        at += weight
        if at > stop:
            return i
    return order[n - 1]


class TopK(exercise.Case):
    def generated(self, *options, prompt=PROMPT, n=LENGTH):
        """The ids that are written."""
        self.lape("generate", DEMO, "-p", prompt, "-n", str(n), *options, "-o", self.path("out"))
        with open(self.path("out"), encoding="utf-8") as file:
            return list(map(int, file.read().splitlines()[1].split("\t")[2].split()))

    def same(self, seed, temperature=1.0, k=None, p=1.0):
        """Every token is the one that its logits and its random number make."""
        options = ["--seed", str(seed), "--temp", repr(temperature), "--top-p", repr(p)]
        ids = self.generated(*options, *(["--top-k", str(k)] if k else []))
        before = exercise.ids_of(PROMPT, "--bos")
        logits = self.model.logits(before + ids[:-1], len(before) - 1)
        wanted = [drawn(row, temperature, k, p, fraction)
                  for row, fraction in zip(logits, fractions(seed))]
        self.assertEqual(ids, wanted)

    @classmethod
    def setUpClass(cls):
        cls.model = forward.Model(DEMO)

    def test_top_k(self):
        """Where all are about equally likely, one more or less would be seen at once."""
        self.same(1, 100.0, 5)
        self.same(2, 1.5, 40)

    def test_top_p(self):
        """Of the K likeliest those that have P of what these have."""
        self.same(3, 20.0, 10, 0.55)

    def test_one(self):
        """The likeliest, as transformers has them (test/golden.tsv)."""
        with open(os.path.join(ROOT, "test", "golden.tsv"), encoding="utf-8") as file:
            rows = [line.rstrip("\n").split("\t") for line in file if line.startswith("greedy\t")]
        for _, prompt, *wanted in rows:
            found = self.generated("--temp", "5", "--top-k", "1", prompt=prompt, n=len(wanted))
            self.assertEqual(found, list(map(int, wanted)), prompt)

    def test_all(self):
        """As many as there are, and more, are all; none are not to be had."""
        plain = self.generated("--temp", "3", "--seed", "4")
        for k in "4096", "100000":
            self.assertEqual(self.generated("--temp", "3", "--seed", "4", "--top-k", k), plain)
        for k in "0", "-1", "1.5":
            self.refused("generate", DEMO, "-p", PROMPT, "--top-k", k)

    def test_without(self):
        """Without the option the whole vocabulary is drawn from, or what has P of it."""
        self.same(5, 1.5)
        self.same(6, 2.0, p=0.7)


if __name__ == "__main__":
    sys.exit(report.main())
