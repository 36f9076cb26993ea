#!/usr/bin/env python3
"""The vocabularies that llama.cpp publishes with its source, in lape.

    python test/peer_vocabularies.py [--lape ./lape]

models/ggml-vocab-NAME.gguf has hard cases in NAME.gguf.inp, and the ids that the vocabulary's own
library gave them in .out. What `lape tokenize` opens has to give these ids in every case, and those
of llama.cpp itself; a vocabulary without cases is asked another's. transformers makes a tokenizer of
the file's data where it can: that is held against lape, too. What lape refuses is listed.
"""

import argparse
import glob
import os
import subprocess
import sys
import tempfile

from both import LLAMA_CPP, ROOT, Bench, Report, ignored, load
import llama_cpp
import transformers

MODELS = os.path.join(LLAMA_CPP, "models")
BETWEEN = "\n__ggml_vocab_test__\n"
OPENED = ["baichuan", "command-r", "gpt-2", "llama-bpe", "llama-spm", "qwen2"]
LENT = "llama-spm"       # whose cases those get that have none


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def cases_of(path):
    """Texts, and their published ids, or None."""
    if not os.path.exists(path + ".inp"):
        return cases_of(os.path.join(MODELS, "ggml-vocab-%s.gguf" % LENT))[0], None
    texts = read(path + ".inp").split(BETWEEN)
    rows = [list(map(int, line.split())) for line in read(path + ".out").split("\n")]
    if texts[-1] == "":         # the last case ends as every other, the last line, too
        texts, rows = texts[:-1], rows[:-1]
    if len(texts) != len(rows):
        raise RuntimeError("%d cases and %d lines of ids" % (len(texts), len(rows)))
    return texts, rows


def compared(texts, ours, theirs):
    bad = [text for text, a, b in zip(texts, ours, theirs) if a != b]
    return not bad, "%d of %d equal" % (len(texts) - len(bad), len(texts)) + (
        "; first %r" % bad[0] if bad else "")


def check_vocabulary(report, bench, name, path):
    texts, published = cases_of(path)
    ours = []

    def as_published():
        ours.extend(bench.tokens(path, text)[0] if text else [] for text in texts)
        return compared(texts, ours, published)

    def as_llama_cpp():
        if not ours:
            ours.extend(bench.tokens(path, text)[0] if text else [] for text in texts)
        vocabulary = load(path, vocab_only=True)
        return compared(texts, ours, [vocabulary.tokenize(text.encode(), add_bos=False)
                                      if text else [] for text in texts])

    def as_transformers():
        made = transformers.AutoTokenizer.from_pretrained(MODELS, gguf_file=os.path.basename(path))
        return compared(texts, ours, [made.encode(text, add_special_tokens=False)
                                      for text in texts])
    if published:
        report.check("%s, as published" % name, as_published)
    report.check("%s, as llama.cpp" % name, as_llama_cpp)
    report.check("%s, as transformers" % name, as_transformers)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lape", default=os.path.join(ROOT, "lape"))
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    llama_cpp.llama_log_set(ignored, None)
    report, opened, refused = Report(), [], []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(os.path.abspath(options.lape), folder)
        for path in sorted(glob.glob(os.path.join(MODELS, "ggml-vocab-*.gguf"))):
            name = os.path.basename(path)[len("ggml-vocab-"):-len(".gguf")]
            done = subprocess.run([bench.lape, "tokenize", path], input=b"a", capture_output=True)
            if done.returncode:
                said = done.stderr.decode().strip().replace(path + ": ", "")
                refused.append("%s: %s" % (name, said))
                continue
            opened.append(name)
            check_vocabulary(report, bench, name, path)
    report.check("vocabularies that open", lambda: (opened == OPENED, " ".join(opened)))
    report.check("the others are refused in one line", lambda: (
        all(line.count("\n") == 0 and ": lape: " in line for line in refused), len(refused)))
    print("\n".join(refused))
    print("%d passed, %d failed" % (report.passed, report.failed))
    sys.exit(report.failed != 0)


if __name__ == "__main__":
    main()
