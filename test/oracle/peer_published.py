#!/usr/bin/env python3
"""Published quantised models: llama.cpp's logits beside lape's.

    python test/oracle/peer_published.py [--lape ./lape]

Of 450 tokens each of an English and a Chinese text, on the file as it is and on a copy in F32 with
the same numbers, on which lape's logits are the same, too (blocks.py): how far llama.cpp's are at
most, by the largest logit, and how often both have the same token first. lape's are those of
exact arithmetic to some 4e-4 of 48, as transformers has them. The files are looked for where
published.py says; what is not there is skipped.
"""

import argparse
import os
import sys
import tempfile

from peer_programs import TEXTS, Bench, Report, ignored, run
import gguf
import llama_cpp

import blocks
import published
from paths import LAPE, ROOT

NAMES = ["gemma-3-270m-q4_k_m.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"]
TOKENS, LANGUAGES = 450, ("en", "zh")
# What is let pass: the difference by the largest logit, and the share of equal first tokens
QUANTISED, IN_F32 = (0.2, 0.9), (2e-3, 0.995)


def write_copy(path, to):
    """In F32, as gguf dequantises it."""
    with open(to, "wb") as copy:
        blocks.write_in_f32(copy, gguf.GGUFReader(path), blocks.pieces)


def apart(a, b):
    """The largest difference, the largest number of b, and the rows whose largest is at one place;
    row by row, since a vocabulary may have a quarter of a million pieces."""
    if a.shape != b.shape:
        raise RuntimeError("shapes %s and %s" % (a.shape, b.shape))
    rows = [(float(abs(x - y).max()), float(abs(y).max()), x.argmax() == y.argmax())
            for x, y in zip(a, b)]
    most, largest, same = zip(*rows)
    return max(most), max(largest), sum(same)


def check_file(report, bench, path):
    name, copy = os.path.basename(path), bench.at("f32.gguf")
    ids, ours = {}, {}
    for language in LANGUAGES:
        with open(os.path.join(TEXTS, language + ".eval.txt"), "rb") as file:
            said = run(bench.lape, "tokenize", path, "--bos", data=file.read())
        ids[language] = list(map(int, said.split()))[:TOKENS]
        ours[language] = bench.ours(path, ids[language])
    write_copy(path, copy)
    for kind, file, (bound, share) in (("as it is", path, QUANTISED), ("in F32", copy, IN_F32)):
        def near():
            each = [apart(bench.theirs(file, ids[language]), ours[language])
                    for language in LANGUAGES]
            most, largest = max(one[0] for one in each), max(one[1] for one in each)
            same = sum(one[2] for one in each) / sum(map(len, ids.values()))
            return most <= bound * largest and same >= share, (
                "up to %.2g of %.2g apart, %.1f %% of argmaxes equal" % (
                    most, largest, 100 * same))
        report.check("%s %s" % (name, kind), near)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lape", default=LAPE)
    options = parser.parse_args()
    llama_cpp.llama_log_set(ignored, None)
    report = Report()
    os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
    for path in [path for name in NAMES for path in published.files(name)[:1]]:
        with tempfile.TemporaryDirectory(dir=os.path.join(ROOT, "build")) as folder:
            check_file(report, Bench(os.path.abspath(options.lape), folder), path)
    sys.exit(report.end())


if __name__ == "__main__":
    main()
