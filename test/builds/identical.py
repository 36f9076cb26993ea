#!/usr/bin/env python3
"""The same bits everywhere: five results of the demo model, made by every build and in every way of
running it that is listed below, against the digests in test/builds/identical.tsv.

    python3 test/builds/identical.py [--only WORD] [--table] [--write]

Prints a line for each way with its digest. One that cannot run on this machine is said so, and not
counted as passed. Builds in double have digests of their own. --only: the ways whose name holds
WORD. --table: puts the table into doc/checking.md; without it, the table there must be the one that
this run made, if all of it ran. --write: sets the digests anew, from the definition's build (make
spec).

Standard library only. The last line is `N passed, N failed`.
"""

import argparse
import concurrent.futures
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from paths import ROOT
from report import Checks, between

GOLDEN = os.path.join(ROOT, "test", "builds", "identical.tsv")
DOCUMENT = os.path.join(ROOT, "doc", "checking.md")
MODEL = "demo/model.gguf"
LANGUAGES = ["en", "zh"]
PROMPT = "Open the file and choose the language of the document. 打开文件"
PROMPTS = ["The window", "Choose a file from the list"]
RESULTS = ["logits", "counts", "neurons", "matrix", "generated"]


class Way:
    """A build and how it is run."""

    def __init__(self, name, cc="cc", flags=None, runner=None, threads=2, batch=None,
                 prompt=None, strict=None, target=None, logits_only=False):
        self.name, self.cc, self.flags, self.strict = name, cc, flags, strict
        self.target, self.logits_only = target, logits_only or bool(prompt)
        self.runner, self.threads, self.batch, self.prompt = runner, threads, batch, prompt
        self.needs = [cc] + (runner or "").split()[:1]
        self.real = "double" if flags and "REAL64" in flags else "float"

    def variables(self):
        """What make is given."""
        given = {"CC": self.cc if self.cc != "cc" else None, "CFLAGS": self.flags,
                 "STRICT": self.strict}
        return [name + "=" + value for name, value in given.items() if value]

    def how(self):
        build = " ".join(["make"] + [self.target] * bool(self.target) + [v.replace("=", '="', 1) + '"' if " " in v else v
                                     for v in self.variables()])
        run = ([self.runner] if self.runner else []) + [self.target or "lape"]
        if self.threads != 2:
            run.append("-t %d" % self.threads)
        if self.batch:
            run.append("--batch %d" % self.batch)
        if self.prompt:
            run = ["test/builds/prompt.c, " + self.prompt]
        return build + "; " + " ".join(run) if len(run) > 1 or self.prompt else build

    def missing(self):
        """Why it cannot run here, or None."""
        for program in self.needs:
            if not shutil.which(program):
                return "%s is not installed" % program
        if self.runner:
            return None
        for flag, feature in (("v4", "avx512f"), ("v3", "avx2")):
            if self.flags and "x86-64-" + flag in self.flags and feature not in processor():
                return "this processor has no " + feature
        return None


def processor():
    try:
        with open("/proc/cpuinfo") as f:
            return f.read()
    except OSError:
        return ""


X86 = os.uname().machine == "x86_64"
WAYS = [Way("definition", flags="-O2 -DLAPE_SPEC"), Way("default")]
WAYS += [Way("%s %s" % (cc, level), cc, level + " -march=native")
         for cc in ("gcc", "clang") for level in ("-O0", "-O2", "-O3")]
if X86:
    WAYS += [Way("%s, x86-64%s" % (cc, level), cc, "-O2 -march=x86-64" + level)
             for cc in ("gcc", "clang") for level in ("", "-v3", "-v4")]
WAYS += [Way("definition, clang -O0", "clang", "-O0 -march=native -DLAPE_SPEC"),
         *[Way("%s, allowed to fuse" % cc, cc, "-O3 -march=native",
               strict="-std=c11 -ffp-contract=fast") for cc in ("gcc", "clang")],
         Way("OpenMP", "gcc", "-O3 -march=native -fopenmp", threads=3),
         Way("musl", "musl-gcc", "-O3 -march=native -static"),
         Way("musl, x86-64", "musl-gcc", "-O2 -static"),
         Way("tcc", "tcc", "-O2")]
WAYS += [Way("threads: %d" % n, threads=n) for n in (1, 2, 3, 7)]
WAYS += [Way("batch: %s" % (n if n < 1000 else "whole"), batch=n) for n in (1, 7, 64, 1000)]
WAYS += [Way("prompt: " + how, prompt=how) for how in ("alone", "packed", "steps")]
if X86:
    # Which kernels it takes is all that is new: they make all five results above, without emulators.
    WAYS += [Way("one for all x86-64: " + machine, target="lape-x86-64", runner=runner,
                 logits_only=bool(runner))
             for machine, runner in (("this one", None),
                                     ("AVX2", "qemu-x86_64 -cpu Haswell"),
                                     ("without fma", "qemu-x86_64 -cpu Nehalem"))]
WAYS += [Way("double: " + name, cc, flags + " -DLAPE_REAL64", runner=runner)
         for name, cc, flags, runner in (
             ("definition", "gcc", "-O2 -DLAPE_SPEC", None),
             ("gcc -O0", "gcc", "-O0 -march=native", None),
             ("gcc -O3", "gcc", "-O3 -march=native", None),
             ("clang -O3", "clang", "-O3 -march=native", None),
             ("aarch64", "aarch64-linux-gnu-gcc", "-O2 -static", "qemu-aarch64"))]
WAYS += [Way(name, cc + "-gcc", flags, runner="qemu-" + qemu) for name, cc, flags, qemu in (
    ("aarch64", "aarch64-linux-gnu", "-O2 -static", "aarch64"),
    ("riscv64", "riscv64-linux-gnu", "-O2 -static", "riscv64"),
    ("arm, 32-bit", "arm-linux-gnueabihf", "-O2 -static -mfpu=vfpv4", "arm"),
    ("s390x, big-endian", "s390x-linux-gnu", "-O2 -static -fexcess-precision=fast", "s390x"))]


BUILDING = threading.Lock()      # what stands at one place is built by one at a time


def digest(data):
    return hashlib.sha256(data).hexdigest()


def read(*path):
    with open(os.path.join(*path), "rb") as f:
        return f.read()


def build(way):
    """The program that it runs, built in a place of its own."""
    if way.target:
        with BUILDING:
            subprocess.run(["make", "-s", way.target], cwd=ROOT, check=True, capture_output=True,
                           text=True)
        return os.path.join(ROOT, way.target)
    to = "build/identical/" + "".join(c if c.isalnum() else "_" for c in way.name)
    words = ["make", "-s", "identical-prompt" if way.prompt else "identical-lape", "TO=" + to,
             *way.variables()]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True)
    return os.path.join(ROOT, to)


def make_results(way, program, folder):
    """The digest of each of RESULTS that this way makes."""
    def run(*words, **options):
        command = (way.runner or "").split() + [program, *words]
        return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, **options).stdout

    def at(name):
        return os.path.join(folder, name)

    if way.prompt:
        ids = subprocess.run([os.path.join(ROOT, "lape"), "tokenize", MODEL], cwd=ROOT, check=True,
                             input=PROMPT.encode(), stdout=subprocess.PIPE).stdout.split()
        with open(at("ids.bin"), "wb") as f:
            f.write(b"".join(int(i).to_bytes(4, "little") for i in ids))
        return {"logits": digest(run(MODEL, at("ids.bin"), way.prompt))}
    batch = ["--batch", str(way.batch)] if way.batch else []
    options = ["-q", "-t", str(way.threads)]
    with open(at("prompt.txt"), "w", encoding="utf-8") as f:
        f.write(PROMPT)
    with open(at("prompts.txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(PROMPTS))
    run("trace", MODEL, at("prompt.txt"), "--at", "logits", "-o", at("logits.npy"), *options)
    results = {"logits": digest(read(at("logits.npy"))[128:])}
    if way.logits_only:
        return results
    run("count", MODEL, *["%s=demo/text/%s.count.txt" % (l, l) for l in LANGUAGES], "--seq", "8",
        "--tokens", "528", "-o", at("counts"), *batch, *options)
    run("find", at("counts"), "-q", "--top", "0.05", "--filter", "0.9", "--bar", "0.9",
        "-o", at("neurons"))
    run("ppl", MODEL, *["%s=demo/text/%s.eval.txt" % (l, l) for l in LANGUAGES], "--seq", "64",
        "--tokens", "64", "--neurons", at("neurons"), "-o", at("matrix"), *batch, *options)
    run("generate", MODEL, "-f", at("prompts.txt"), "-n", "6", "--neurons", at("neurons"),
        "--counts", at("counts"), "--off", "en", "--on", "zh", "-o", at("generated"), *options)
    results.update({name: digest(read(at(name))) for name in RESULTS[1:]})
    return results


def examine(way):
    """Its digests, or None, and what is to be said of it."""
    missing = way.missing()
    if missing:
        return None, "not run: " + missing
    start = time.time()
    try:
        program = build(way)
        with tempfile.TemporaryDirectory() as folder:
            results = make_results(way, program, folder)
    except subprocess.CalledProcessError as e:
        text = e.stderr if isinstance(e.stderr, str) else (e.stderr or b"").decode(errors="replace")
        return {}, "failed: %s: %s" % (" ".join(e.cmd), text.strip() or e.returncode)
    return results, "%.0f s" % (time.time() - start)


def read_golden():
    with open(GOLDEN) as f:
        rows = [line.rstrip("\n").split("\t") for line in f if not line.startswith("#")]
    return {(real, name): value for real, name, value in rows}


def write_golden():
    """By the builds with the definition's loops, in float and in double."""
    with open(GOLDEN, "w") as f:
        f.write("# SHA-256 of what the definition's builds make of the demo model; "
                "test/builds/identical.py says how.\n")
        for way in WAYS:
            if way.name in ("definition", "double: definition"):
                results, said = examine(way)
                for name in RESULTS:
                    f.write("%s\t%s\t%s\n" % (way.real, name, results[name]))


def summary(results):
    """One digest for all the results of a way."""
    return digest("".join(n + results[n] for n in RESULTS if n in results).encode())[:16]


def table(rows):
    lines = ["| what | how | results | digest |", "|---|---|---|---|"]
    for way, results in rows:
        what = "logits" if way.logits_only else "all five"
        lines.append("| %s | `%s` | %s | `%s` |" % (way.name, way.how(), what, summary(results)))
    return "\n".join(lines) + "\n"


def check_table(rows, write):
    """Whether the document holds the table of this run."""
    new = table(rows)
    return between(DOCUMENT, "identical", new if write else None) == new or write


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    ways = [w for w in WAYS if options.only in w.name]
    if options.write:
        write_golden()
    golden = read_golden()
    checks, rows = Checks(), []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        slow_first = sorted(ways, key=lambda way: not way.runner)
        running = {way: pool.submit(examine, way) for way in slow_first}
        for way in ways:
            results, said = running[way].result()
            wrong = [n for n, d in (results or {}).items() if d != golden[way.real, n]]
            good = bool(results) and not wrong
            if good:
                rows.append((way, results))
            line = "%-32s %s  %s%s" % (way.name, summary(results) if results else "-" * 16, said,
                                       ", other " + ", ".join(wrong) if wrong else "")
            if results is None:
                print("--   " + line, flush=True)
            else:
                checks.say(good, line)
    if len(rows) == len(WAYS):
        good = check_table(rows, options.table)
        checks.say(good, "doc/checking.md's table" + (
            "" if good else " is not this run's; --table writes it"))
    sys.exit(checks.end())


if __name__ == "__main__":
    main()
