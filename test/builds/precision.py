#!/usr/bin/env python3
"""How far float is from double: lape against lape64, the same program, on the demo's texts.

    make precision

Prints the largest error of a gate by layer, how many counts differ and whether the selection does.
The tolerance it ends with is twice the largest error, rounded up to one digit; that float's counts
lie within the bound made of it is checked. Needs numpy, by which tools/tensors.py compares.
"""

import os
import subprocess
import sys
import tempfile

from paths import ROOT

MODEL = "demo/model.gguf"
LANGUAGES = ["en", "zh", "fr", "es", "vi", "id", "ja"]
RATES = {"the paper's": [], "the demo's": ["--top", "0.05", "--filter", "0.98", "--bar", "0.993"]}


def run(*words, fine=(0,)):
    done = subprocess.run([str(w) for w in words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in fine:
        sys.exit(" ".join(map(str, words)) + ": " + done.stderr)
    return done.stdout


def gate_errors(folder, language):
    """The largest absolute error by layer, over all the text."""
    text = "demo/text/%s.count.txt" % language
    paths = [os.path.join(folder, "gates%d.npy" % bits) for bits in (64, 32)]
    for program, path in zip(("./lape64", "./lape"), paths):
        run(program, "trace", MODEL, text, "--at", "gate", "--seq", 128, "-o", path)
    said = run(sys.executable, "tools/tensors.py", *paths, fine=(0, 1))
    if "layer\t" not in said:
        sys.exit("tools/tensors.py compares nothing: is numpy installed?")
    rows = said.split("layer\t")[1].splitlines()[1:]
    return [float(row.split("\t")[2]) for row in rows]


def count(program, path, *options):
    texts = ["%s=demo/text/%s.count.txt" % (l, l) for l in LANGUAGES]
    run(program, "count", MODEL, *texts, "--seq", 128, "-q", "-o", path, *options)


def round_up(x):
    """To one digit."""
    digits = "%.0e" % x
    first, power = int(digits[0]), int(digits[2:])
    return float(digits) if float(digits) >= x else float("%de%d" % (first + 1, power))


def main():
    worst = []
    with tempfile.TemporaryDirectory() as folder:
        print("largest |gate - gate in double| by layer")
        print("\t".join(["language"] + [str(l) for l in range(6)]))
        for language in LANGUAGES:
            errors = gate_errors(folder, language)
            worst = [max(pair) for pair in zip(errors, worst or errors)]
            print("\t".join([language] + ["%.2g" % e for e in errors]), flush=True)
        print("\t".join(["all"] + ["%.2g" % e for e in worst]))
        tolerance = round_up(2 * max(worst))
        double, single = os.path.join(folder, "64"), os.path.join(folder, "32")
        count("./lape64", double, "--near", tolerance)
        count("./lape", single)
        for name, rates in RATES.items():
            print("\ncounts in double, and with them those in float; %s rates" % name)
            print(run("./lape", "diff", double, single, *rates), end="")
        print("\ntolerance: %g" % tolerance)


if __name__ == "__main__":
    main()
