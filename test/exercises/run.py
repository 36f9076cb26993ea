#!/usr/bin/env python3
"""Whether the exercises can be done: each one's test fails on the program as it is, and passes on
the program with its solution.

    python3 test/exercises/run.py [N...]

With numbers, only these exercises. Two checks an exercise. Programs are built in folders of their
own, by `make lape`; git or patch puts a solution in. Where neither is installed, that is said, and
solutions are counted as neither passed nor failed. Standard library only. The last line is
`N passed, N failed`.
"""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

from paths import ROOT
import report
from tree import copy_tree

HERE = os.path.join(ROOT, "test", "exercises")
WAYS = [["git", "apply", "-C1"], ["patch", "-p1", "-N", "-F1", "-i"]]  # to put a patch in


def exercises(numbers):
    """Their folders' names, in order."""
    names = sorted(name for name in os.listdir(HERE) if re.match(r"\d+-", name))
    chosen = [name for name in names if not numbers or name.split("-")[0] in numbers]
    if len(chosen) < len(set(numbers)):
        sys.exit("run.py: the exercises are %s" % ", ".join(names))
    return chosen


def run(words, folder, **variables):
    """Its exit status and what it says. The folder is no part of a repository."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("GIT_") and name != "MAKELEVEL"}
    environment.update(variables, GIT_CEILING_DIRECTORIES=os.path.dirname(folder))
    done = subprocess.run(words, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                          errors="replace", check=False)
    return done.returncode, done.stdout.strip()


def build(folder, patch=None):
    """The program, with a patch; RuntimeError where that does not go."""
    folder = os.path.realpath(folder)
    copy_tree(folder)
    way = [way for way in WAYS if shutil.which(way[0])]
    for words in ([way[0] + [patch]] if patch else []) + [["make", "-s", "lape"]]:
        status, said = run(words, folder)
        if status:
            raise RuntimeError("%s: %s" % (" ".join(words), said))
    return os.path.join(folder, "lape")


def test(name, lape):
    """(checks that pass, that fail, what is said) of an exercise's test."""
    said = run([sys.executable, os.path.join(HERE, name, "test.py")], ROOT, LAPE=lape)[1]
    counts = re.search(r"^(\d+) passed, (\d+) failed\Z", said, re.M)
    if not counts:
        raise RuntimeError("the test ended without its closing line: " + said)
    return int(counts[1]), int(counts[2]), said


def before(name, lape):
    """The test fails, but for what is to stay as it is."""
    passed, failed, _ = test(name, lape.result())
    return passed and failed, "as it is: %d passed, %d failed" % (passed, failed)


def after(name, folder):
    lape = build(os.path.join(folder, name), os.path.join(HERE, name, "solution.patch"))
    passed, failed, said = test(name, lape)
    return passed and not failed, "solved: %d passed, %d failed%s" % (
        passed, failed, "\n" + said if failed else "")


def main():
    names, checks = exercises(sys.argv[1:]), report.Checks()
    patched = any(shutil.which(way[0]) for way in WAYS)
    with tempfile.TemporaryDirectory(prefix="exercises.") as folder, \
            concurrent.futures.ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:
        lape = pool.submit(build, os.path.join(folder, "as it is"))
        work = [(name, pool.submit(what, name, *more)) for name in names
                for what, more in [(before, [lape])] + [(after, [folder])] * patched]
        for name, done in work:
            checks.check(name, done.result)
    if not patched:
        print("skipped: neither git nor patch is installed: %d solutions" % len(names))
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
