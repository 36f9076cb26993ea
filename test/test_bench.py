#!/usr/bin/env python3
"""build/bench measures what it is asked for, and refuses the rest. Rates are not looked at here."""

import os
import re
import subprocess
import sys
import unittest

import report
from paths import DEMO, ROOT

BENCH = os.path.join(ROOT, "build", "bench")
NUMBER = "[0-9]+\\.[0-9] "


class Bench(unittest.TestCase):
    def run_bench(self, status, *words):
        done = subprocess.run([BENCH, *words], capture_output=True, text=True)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def works(self, *words):
        done = self.run_bench(0, *words)
        self.assertEqual(done.stderr, "")
        return done.stdout

    def refused(self, status, why, *words):
        done = self.run_bench(status, *words)
        self.assertEqual((done.stdout, done.stderr.count("\n")), ("", 1))
        self.assertIn(why, done.stderr)

    def test_machine(self):
        self.assertRegex(self.works("-t", "1"),
                         "^registers: %sGFLOP/s\ncopying: %sGB/s\n$" % (NUMBER, NUMBER))

    def test_product(self):
        for kind in "f32", "f16", "bf16", "q8_0":
            self.assertRegex(self.works("--gemm", "5,33,64", "--type", kind, "-t", "1"),
                             "^5 x 33 x 64, %s, 1 threads: %sGFLOP/s" % (kind, NUMBER))

    def test_model(self):
        *operations, steps = self.works(DEMO, "--seq", "64", "--batch", "2", "--profile").split(
            "\n")[:-1]
        self.assertRegex(operations.pop(0), "^128 tokens in pieces of 64, [0-9]+ threads: ")
        share = [float(line.split()[1]) for line in operations]
        self.assertAlmostEqual(sum(share), 100, delta=1)
        self.assertRegex(steps, "^64 tokens one by one, [0-9]+ threads: .* of weights$")
        rate, speed = re.search(r"([0-9.]+) tokens/s, ([0-9.]+) GB/s", steps).groups()
        self.assertAlmostEqual(float(speed), 1e-9 * float(rate) * os.path.getsize(DEMO),
                               delta=.06 + .03 * float(speed))   # its embedding is its output too
        pieces, steps = self.works(DEMO, "--seq", "64", "-n", "5").splitlines()
        self.assertRegex(pieces, "^64 tokens in pieces of 64")
        self.assertRegex(steps, "^5 tokens one by one")

    def test_help(self):
        said = self.works("-h")
        for option in "-t", "--gemm", "--type", "--seq", "--batch", "-n", "--profile":
            self.assertIn(option, said)

    def test_refusals(self):
        for shape in "", "1", "1,2", "1,2,3,4", "0,1,1", "1,0,1", "1,1,0", "a,1,1", "-1,1,1", "1,1,":
            self.refused(2, "--gemm", "--gemm", shape)
        self.refused(2, "multiples of 32", "--gemm", "1,1,33", "--type", "q8_0")
        self.refused(2, "--type", "--gemm", "1,1,32", "--type", "f8")
        for words in ("-t",), ("-t", "0"), ("-t", "x"), ("--seq", "0"), ("-x",), (DEMO, DEMO):
            self.refused(2, words[-1], *words)
        self.refused(1, "/nowhere", "/nowhere")
        self.refused(1, "too many", DEMO, "--seq", str(1 << 24), "--batch", str(1 << 20))


if __name__ == "__main__":
    sys.exit(report.main())
