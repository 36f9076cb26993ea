"""How the tests that compare lape with other libraries run it, and say what they found."""

import os
import subprocess
import time
import traceback

import numpy as np
import torch
import transformers

from paths import ROOT



class Wrong(Exception):
    """A check's failure: what is not as it should be."""


class Missing(Exception):
    """What a check needs is not there."""


def demand(condition, text, *values):
    if not condition:
        raise Wrong(text % values)


class Program:
    """The program under test, and a folder for what is thrown away at the end."""

    def __init__(self, lape, scratch):
        self.lape_path, self.scratch = os.path.abspath(lape), scratch

    def new(self, name):
        """A path for a file that is thrown away at the end."""
        return os.path.join(self.scratch, name)

    def run(self, *command, given=None):
        """The standard output of a program that must succeed."""
        done = subprocess.run([str(word) for word in command], input=given, cwd=ROOT,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        error = done.stderr.decode(errors="replace").strip()
        demand(done.returncode == 0, "%s ends with status %d: %s",
               " ".join(map(str, command[:3])), done.returncode, error[-300:])
        return done.stdout

    def lape(self, *words, given=None):
        return self.run(self.lape_path, *words, given=given)

    def trace(self, path, ids, point, threads=2):
        """A tensor of the forward pass over the file at path, as one sequence."""
        np.save(self.new("ids.npy"), np.array(ids, dtype="<i4"))
        self.lape("trace", path, self.new("ids.npy"), "--at", point, "-o", self.new("trace.npy"),
                  "--seq", max(2, len(ids)), "-t", threads)
        return torch.from_numpy(np.load(self.new("trace.npy")))

    def generated(self, path, prompts, new_tokens, *words):
        """[(output text as printed, ids)] of prompts continued by the model at path."""
        given, output = self.new("prompts.txt"), self.new("generated.tsv")
        with open(given, "w", encoding="utf-8", newline="") as file:
            file.write("\n".join(prompts) + "\n")
        self.lape("generate", path, "-f", given, "-n", new_tokens, "-o", output, "-t", 2, "-q",
                  *words)
        with open(output, "rb") as file:
            head, *rows = file.read().split(b"\n")[:-1]
        demand(head == b"prompt\toutput\ttokens" and len(rows) == len(prompts), "%d rows, not %d",
               len(rows), len(prompts))
        cells = [row.split(b"\t") for row in rows]
        return [(text, [int(word) for word in ids.split()]) for _, text, ids in cells]


def be_quiet():
    """Two threads, and no word from transformers but errors."""
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def report(name, function, bench):
    """Runs a check, which returns what was measured, or raises Wrong or Missing, and prints its
    line; returns the line's first word."""
    start = time.monotonic()
    try:
        word, text = "ok", "%s [%.1f s]" % (function(bench), time.monotonic() - start)
    except Missing as missing:
        word, text = "skipped", missing
    except Wrong as wrong:
        word, text = "FAIL", str(wrong).replace("\n", " ")
    except Exception as problem:               # a crash of a check is a failure of it
        where = traceback.extract_tb(problem.__traceback__)[-1]
        word, text = "FAIL", "%s: %s (%s:%d)" % (
            type(problem).__name__, str(problem).replace("\n", " ")[:300],
            os.path.basename(where.filename), where.lineno)
    print("%s %s: %s" % (word, name, text), flush=True)
    return word


def summary(words):
    """Prints how many checks passed and failed; the exit status, 1 also when there was none."""
    passed, failed = words.count("ok"), words.count("FAIL")
    print("%d passed, %d failed" % (passed, failed))
    return int(failed > 0 or passed == 0)
