#!/usr/bin/env python3
"""Kernels broken on purpose must be caught: by test_model, which holds every kernel against its
definition, and by the digests of test/builds/identical.tsv.

    python3 test/builds/test_broken.py

Standard library only. The last line on stdout is `N passed, N failed`.
"""

import os
import subprocess
import sys
import tempfile

import identical
from paths import ROOT
from report import Checks
from tree import copy_tree

# What is broken, the text in model.c, and what takes its place.
BREAKS = [
    ("nothing", []),
    ("reassociated: every piece of k sums from 0, and the pieces are added", [
        ("sum[r][v] = s.from ? vec_load(s.from + r * s.from_row + v * LANES) : vec_all(0);",
         "sum[r][v] = vec_all(0);"),
        ("vec_store(s.to + r * s.to_row + v * LANES, sum[r][v]);",
         "vec_store(s.to + r * s.to_row + v * LANES, !s.from ? sum[r][v] : "
         "vec_fma(vec_all(1), vec_load(s.from + r * s.from_row + v * LANES), sum[r][v]));")]),
    ("a product rounded before it is added", [
        ("vec_fma(vec_all(x.at[r * x.row]), w[v], sum[r][v])",
         "vec_fma(vec_all(1), vec_fma(vec_all(x.at[r * x.row]), w[v], vec_all(0)), "
         "sum[r][v])")]),
    ("two lanes swapped", [
        ("to[k * width + r] = r < rows ? x[r * x_row + k] : 0;",
         "to[k * width + (r < 2 ? 1 - r : r)] = r < rows ? x[r * x_row + k] : 0;")]),
    ("the sum of a softmax taken backwards", [
        ("        for (int r = 0; r < lanes; r++) sum[r] += s[i + r];\n    }",
         "    }\n    for (size_t i = (size_t)keys * WIDTH; i > 0; i -= WIDTH)\n"
         "        for (int r = 0; r < lanes; r++) sum[r] += s[i - WIDTH + r];")]),
]


def broken_copy(folder, changes):
    """The sources with the changes made, each of which must have its place."""
    copy_tree(folder, "test")
    path = os.path.join(folder, "model.c")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    for old, new in changes:
        if old not in text:
            sys.exit("model.c has no longer: " + old)
        text = text.replace(old, new)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    subprocess.run(["make", "-s", "-C", folder, "lape", "build/test_model"], check=True,
                   env={**os.environ, "MAKEFLAGS": ""})


def caught(changes):
    """Who notices them: test_model, and the results whose digests differ."""
    with tempfile.TemporaryDirectory() as folder:
        broken_copy(folder, changes)
        test = subprocess.run([os.path.join(folder, "build", "test_model")], cwd=ROOT,
                              stdout=subprocess.DEVNULL)
        way = identical.Way("broken")
        results = identical.make_results(way, os.path.join(folder, "lape"), folder)
        golden = identical.read_golden()
        return test.returncode != 0, [n for n in identical.RESULTS if results[n] != golden["float", n]]


def main():
    checks = Checks()
    for name, changes in BREAKS:
        by_test, results = caught(changes)
        good = by_test == bool(changes) and bool(results) == bool(changes)
        checks.say(good, "%s: test_model %s, other digests: %s" % (
            name, "fails" if by_test else "passes", ", ".join(results) or "none"))
    sys.exit(checks.end())


if __name__ == "__main__":
    main()
