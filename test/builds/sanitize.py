#!/usr/bin/env python3
"""The program watched while it runs: reads and writes out of place, undefined behaviour, races,
values that were never set.

    python3 test/builds/sanitize.py [--quick] [WATCH...]

    address   clang -fsanitize=address,undefined: make test-program
    thread    clang -fsanitize=thread: make test-program, and the commands with four threads
    memory    valgrind's memcheck, of a build for AVX2, which is all that it knows: the C tests and
              the commands

Commands are those of test/inject/cases.py, every option on tiny models; what they print and write
has to be what they do unwatched; but not under valgrind, nor do checks of numbers count there: up to
3.19 at least, it makes -0 of -(1 x 0) + 0 where a processor's vfnmadd makes 0. --quick leaves out address; of thread all of make test-program but
the C tests; of memory the C tests SLOW and two commands of three. What is not installed is said,
and not counted.

Builds and runs in folders of its own, but for the program in ./lape and build/inject/fail.so, which
`make sanitize` builds. Standard library only. The last line is `N passed, N failed`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

from paths import ROOT
import cases
import portable
from report import Checks
from tree import copy_tree

BUILDS = {"address": "-O1 -g -march=native -fsanitize=address,undefined -fno-sanitize-recover=all",
          "thread": "-O1 -g -march=native -fsanitize=thread",
          "memory": "-O1 -g -march=x86-64-v3"}
VALGRIND = ["valgrind", "-q", "--error-exitcode=99", "--leak-check=full",
            "--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"]
NEEDS = {"address": "clang", "thread": "clang", "memory": "valgrind"}
SLOW = ["test_model", "test_blocks"]
FOUND = re.compile(r"ThreadSanitizer|AddressSanitizer|runtime error|^==\d+== ", re.M)


def run(words, where):
    done = subprocess.run(words, cwd=where, env={**os.environ, "MAKEFLAGS": ""},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
    return done.returncode, done.stdout


def build(watch, folder, targets):
    """In a copy of the tree."""
    copy_tree(folder, "demo", "doc", "test", "tools")
    compiler = "CC=cc" if watch == "memory" else "CC=clang"
    status, said = run(["make", "-s", compiler, "CFLAGS=" + BUILDS[watch], *targets], folder)
    if status:
        raise RuntimeError(said[-2000:])


def closing(status, said, memory=False):
    """(whether it went well, the closing line or what was found)"""
    last = said.strip().split("\n")[-1]
    found = FOUND.search(said)
    good = not found and re.fullmatch(r"\d+ passed, \d+ failed", last) and (
        memory or (status == 0 and last.endswith(", 0 failed")))
    return good, last if good else said[found.start() if found else -1500:][:1500]


def program_tests(checks, watch, folder):
    checks.check(watch + ": make test-program", lambda: closing(*run(
        ["make", "-s", "CC=clang", "CFLAGS=" + BUILDS[watch], "test-program"], folder)))


def c_tests(checks, watch, folder, names):
    for name in names:
        words = [*(VALGRIND if watch == "memory" else []), os.path.join(folder, "build", name)]
        checks.check("%s: %s" % (watch, name), lambda: closing(*run(words, ROOT),
                                                                memory=watch == "memory"))


def commands(checks, watch, folder, step):
    """Of the cases, every step-th."""
    wrap = VALGRIND if watch == "memory" else []
    plain, wrong, tried = cases.LAPE, [], 0
    with tempfile.TemporaryDirectory(prefix="sanitize.") as at:
        place = cases.Place(at)
        for case in place.cases()[::step]:
            if "--version" in case.words:
                continue
            ends = []
            for program, around in (plain, ()), (os.path.join(folder, "lape"), wrap):
                if around != () and "-t" in case.words and watch == "thread":
                    case.words[case.words.index("-t") + 1] = "4"
                place.set(case.start_files(True))
                cases.LAPE = program
                ends.append(cases.run(case, place, wrap=around))
            tried += 1
            said = ends[1][2].decode(errors="replace")
            same = ends[0][0] == ends[1][0] and (
                watch == "memory" or ends[0][:2] + ends[0][3:] == ends[1][:2] + ends[1][3:])
            if FOUND.search(said) or not same:
                wrong.append("%s: status %s: %s" % (case.name, ends[1][0], said[:1500]))
    cases.LAPE = plain
    for line in wrong[:5]:
        print("   " + line)
    checks.say(tried and not wrong, "%s: %d commands%s" % (
        watch, tried, ", %d of them not as unwatched" % len(wrong) if wrong else ""))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("watch", nargs="*", metavar="WATCH", help=", ".join(BUILDS))
    options = parser.parse_args()
    watches = options.watch or [w for w in BUILDS if w != "address" or not options.quick]
    if set(watches) - set(BUILDS):
        parser.error("no such watch: " + " ".join(watches))
    checks = Checks()
    for watch in watches:
        start = time.time()
        if not shutil.which(NEEDS[watch]):
            print("--   %s: not run: %s is not installed" % (watch, NEEDS[watch]))
            continue
        if watch == "memory" and not portable.identical.X86:
            print("--   memory: not run: its build is for x86-64")
            continue
        names = [n for n in portable.PROGRAMS if not options.quick or n not in SLOW]
        with tempfile.TemporaryDirectory(prefix="sanitize.") as folder:
            build(watch, folder, ["lape"] + ["build/" + name for name in names])
            if watch == "memory" or options.quick:
                c_tests(checks, watch, folder, names)
            else:
                program_tests(checks, watch, folder)
            if watch != "address":
                commands(checks, watch, folder, 3 if options.quick and watch == "memory" else 1)
        print("     %s: %.0f s" % (watch, time.time() - start), flush=True)
    sys.exit(checks.end())


if __name__ == "__main__":
    main()
