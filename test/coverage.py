#!/usr/bin/env python3
"""Which lines and branches of the C the tests reach, by gcc's gcov.

    python3 test/coverage.py [-h] [--quick] [--all]

Copies of the tree are built under build/coverage/ with `gcc -O0 --coverage` and run there: with
-march=native the tests of `make test-program` and the quick form of `make inject`; some of them also
in the builds that have other kernels: plain x86-64, AVX2, the definition and double.

A line counts as reached if it was run in one of the programs that its source was compiled into. Of
a branch, the n-th way out of a line is the n-th way of that line wherever it has as many; where a
build makes more of it, as of a macro, the build that makes most counts. Functions of the kernels that are
always inlined, for constants, are functions here: as copies, each would have ways that its
constants close.

Told are for every file how many lines and ways there are and how many were reached, then those that
were not. test/coverage.tsv has reasons why some cannot be. They still count as not reached; a reason
for what was reached is a failure, unless it begins with "by chance", and so is anything without one,
less than 98 % of the lines, or less than 95 % of the ways.

--quick: the tests in C, some of the others and failing calls, on one build. It must not fall below
96 and 90 %, a floor under what these were when it was chosen, and lists nothing. --all: what has a
reason is listed, too.

Wants gcc with its gcov (GCC=gcc-13 takes gcov-13) and make. Standard library only. The last line is
`N passed, N failed`.
"""

import argparse
import collections
import concurrent.futures
import glob
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time

from paths import ROOT
from report import Checks
from tree import copy_tree

GCC = os.environ.get("GCC", "gcc")
GCOV = "gcov".join(GCC.rsplit("gcc", 1))
HERE = os.path.join(ROOT, "build", "coverage")
REASONS = os.path.join(ROOT, "test", "coverage.tsv")
SOURCES = ["lape.c", "model.c", "tokenizer.c", "base.c", "lape.h"]
FLOORS = {False: (98, 95), True: (96, 90)}     # percent of lines and of ways: whole, quick
QUICK = ["test/test_outputs.py", "test/test_lines.py", "test/test_ablation.py", "test/test_split.py",
         "test/test_fields.py", "test/test_fields_tokenizer.py", "test/fuzz/test_replay.py"]
# They find gcov's own calls in the program too, which is why `make inject` alone judges them.
INJECT = [["python3", "test/inject/%s.py" % name, "--quick"]
          for name in ("inject", "surroundings", "moments")]
BLOCKS, MODEL = ["build/test_blocks"], ["build/test_model"]
SPEC = [["python3", "test/test_ablation.py"], ["python3", "test/test_lines.py"],
        ["python3", "test/test_outputs.py", "Models.test_wide_layers"],
        ["python3", "test/test_fields.py"]]
CORES = os.cpu_count() or 1


# ---- Builds and runs ---------------------------------------------------------------------------

def variable(name):
    """The words of a variable of the Makefile."""
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        text = file.read().replace("\\\n", " ")
    return re.search("^%s *= *(.*)$" % name, text, re.M)[1].split()


def understood(*flags):
    """Whether the compiler knows them, and, of an -march, this processor what comes of it."""
    ask = [GCC, *flags, "-dM", "-E", "-x", "c", os.devnull]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    if done.returncode:
        return False
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            have = file.read()
    except OSError:
        have = ""
    return "__AVX2__" not in done.stdout or "avx2" in have


class Build:
    """A copy of the tree, and what is run in it."""

    def __init__(self, name, flags, targets, commands):
        self.tree = os.path.join(HERE, name)
        self.name, self.flags, self.targets, self.commands = name, flags, targets, commands

    def make(self):
        copy_tree(self.tree, "demo", "test", "tools")
        flags = "-O0 --coverage -Dalways_inline=unused -include test/coverage.h " + self.flags
        done = subprocess.run(["make", "-j%d" % CORES, "CC=" + GCC, "CFLAGS=" + flags,
                               *self.targets], cwd=self.tree, env=environment(),
                              capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit("%s: make failed:\n%s" % (self.name, done.stderr[-2000:]))

    def run(self, command):
        """Whether it passed, its last line, and the seconds that it took. It has a folder for its
        counts: what is killed while it writes them spoils no other's."""
        begun = time.monotonic()
        folder = os.path.join(self.tree, "counts", command[len(command) > 1].replace("/", "_"))
        gcov = {"GCOV_PREFIX": folder, "GCOV_PREFIX_STRIP": "99", "GCOV_ERROR_FILE": os.devnull}
        os.makedirs(folder, exist_ok=True)
        done = subprocess.run(command, cwd=self.tree, env={**environment(), **gcov}, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        said = done.stdout.decode("utf-8", "replace")
        with open(folder + ".log", "w", encoding="utf-8") as log:
            log.write(said)
        return done.returncode == 0, (said.splitlines() or ["nothing"])[-1], \
            time.monotonic() - begun


def environment():
    """Nothing of what make and the user tell the tests about the tree at hand."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith(("MAKE", "MFLAGS", "LAPE"))}


def builds(quick):
    native = "-march=native" if understood("-march=native") else ""
    tests = ["build/test_" + name for name in ("model", "blocks", "gguf", "tokenizer", "lape")]
    programs = QUICK if quick else variable("PROGRAM")
    commands = [[test] for test in tests] + [["python3", test] for test in programs]
    made = [Build("native", native, ["lape", *tests, "build/bench", "build/fuzz/replay",
                                     "build/inject/fail.so"], commands + INJECT[:3 - 2 * quick])]
    if not quick:
        made += [Build(name, flags, ["lape", *BLOCKS, *MODEL], commands)
                 for name, flags, commands in (
                     ("x86-64", "-march=x86-64", [BLOCKS]), ("avx2", "-march=x86-64-v3", [BLOCKS]),
                     ("definition", native + " -DLAPE_SPEC", SPEC),
                     ("double", native + " -DLAPE_REAL64", [BLOCKS, MODEL]))
                 if understood(*flags.split())]
    return made


# ---- What was reached ------------------------------------------------------------------------

class Line:
    """A line of a source: whether it was run, and how often each way out of it was taken, by how
    many ways there are."""

    def __init__(self):
        self.function, self.count, self.by_number = "", 0, {}

    def add(self, found):
        self.function = self.function or found.get("function_name", "")
        self.count += found["count"]
        taken = [way["count"] for way in found["branches"] if not way["throw"]]
        if taken:
            before = self.by_number.get(len(taken), [0] * len(taken))
            self.by_number[len(taken)] = [a + b for a, b in zip(before, taken)]

    @property
    def ways(self):
        return self.by_number[max(self.by_number)] if self.by_number else []

    def missed(self):
        return self.count == 0 or 0 in self.ways


def read_counts(lines, tree):
    """Adds what gcov says of every object of a build, by every command that ran it."""
    notes = {os.path.basename(path): path
             for folder in ("", "build", os.path.join("build", "fuzz"))
             for path in glob.glob(os.path.join(tree, folder, "*.gcno"))}
    for path in sorted(glob.glob(os.path.join(tree, "counts", "*", "*.gcda"))):
        note = path[:-4] + "gcno"
        shutil.copy(notes[os.path.basename(note)], note)
        done = subprocess.run([GCOV, "--json-format", "--branch-probabilities", "--stdout", path],
                              cwd=tree, capture_output=True, text=True, check=False)
        if done.returncode:
            print("not read: " + done.stderr)
            continue
        for file in json.loads(done.stdout)["files"]:
            name = os.path.normpath(file["file"])
            for found in file["lines"] if name in lines else []:
                lines[name][found["line_number"]].add(found)


# ---- What was not ------------------------------------------------------------------------------

class Reasons:
    """test/coverage.tsv: file, function, the line as it reads there, and why."""

    def __init__(self):
        self.used, self.of = set(), {}
        with open(REASONS, encoding="utf-8") as file:
            for row in file.read().splitlines():
                if row and not row.startswith("#"):
                    *key, why = row.split("\t")
                    self.of[tuple(key)] = why

    def find(self, *key):
        if key in self.of:
            self.used.add(key)
        return self.of.get(key)

    def unused(self):
        """What is reached by chance may be reached."""
        return [key for key, why in self.of.items()
                if key not in self.used and not why.startswith("by chance")]


def told(name, number, line, text):
    """A line that was not run, or one of whose ways (+ taken, - not) was not taken."""
    ways = "".join("-+"[way > 0] for way in line.ways) if line.count else "not run"
    return "%s:%d: %s: [%s] %s" % (name, number, line.function, ways, text)


def share(part, whole):
    return "%d of %d, %.2f %%" % (part, whole, 100 * part / whole if whole else 100)


def judge(lines, quick, show_all, checks):
    reasons, rows, listed, explained = Reasons(), [], [], []
    for name in SOURCES:
        with open(os.path.join(ROOT, name), encoding="utf-8") as file:
            texts = [text.strip() for text in file.read().split("\n")]
        found = lines[name]
        ways = [way for line in found.values() for way in line.ways]
        rows.append((name, sum(line.count > 0 for line in found.values()), len(found),
                     sum(way > 0 for way in ways), len(ways)))
        for number, line in sorted(found.items()):
            if line.missed():
                why = reasons.find(name, line.function, texts[number - 1])
                say = told(name, number, line, texts[number - 1])
                (explained if why else listed).append(say + ("  # " + why if why else ""))
    rows.append(("all", *map(sum, list(zip(*rows))[1:])))
    print("\n| file | lines | ways of branches |\n|---|---|---|")
    for name, run, of_lines, taken, of_ways in rows:
        print("| `%s` | %s | %s |" % (name, share(run, of_lines), share(taken, of_ways)))
    for say in (explained if show_all else []) + ([] if quick else listed):
        print(say)
    print()
    for what, part, whole, floor in (("lines", *rows[-1][1:3], FLOORS[quick][0]),
                                     ("ways", *rows[-1][3:5], FLOORS[quick][1])):
        checks.say(100 * part >= floor * whole, "%s: %s; at least %d %%" % (
            what, share(part, whole), floor))
    if not quick:
        checks.say(not listed, "%d lines not reached, or not every way out of them, and no reason "
                   "in test/coverage.tsv" % len(listed))
        checks.say(not reasons.unused(), "reasons that stand for nothing: %s" % (
            "; ".join(" ".join(key) for key in reasons.unused()) or "none"))


# ---- The command line ----------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    checks, begun = Checks(), time.monotonic()
    shutil.rmtree(HERE, ignore_errors=True)
    made = builds(options.quick)
    for build in made:
        os.makedirs(build.tree)
    with concurrent.futures.ThreadPoolExecutor(CORES) as pool:
        for build in made:
            build.make()
        runs = [(build, command, pool.submit(build.run, command))
                for build in made for command in build.commands]
        for build, command, run in runs:
            good, last, seconds = run.result()
            said = "%s: %s: %s, %.0f s" % (build.name, " ".join(command), last, seconds)
            if command in INJECT:
                print("     " + said)
            else:
                checks.say(good, said)
    lines = {name: collections.defaultdict(Line) for name in SOURCES}
    for build in made:
        read_counts(lines, build.tree)
    judge(lines, options.quick, options.all, checks)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("%.0f s, %.0f s of processors" % (time.monotonic() - begun,
                                           used.ru_utime + used.ru_stime))
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
