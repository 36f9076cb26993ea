#!/usr/bin/env python3
"""The C on other compilers, machines and systems: without a warning, and the C tests pass.

    python3 test/builds/portable.py [--quick] [--only WORD]

Of each compiler below that is here, and every other gcc-N, the program and the C tests are built in
a folder of its own, warnings being errors, and the tests are run, in an emulator where they are of
another machine. --quick: compilers of this machine alone, and the quickest of the tests.

For SYSTEMS all of it is compiled and linked against their own headers and libraries, which zig
brings (`pip install ziglang`, or a zig in the path): nothing of it is run. What cannot be done on
this machine is said, and not counted. That the results have the same bits, identical.py tests.

Standard library only. The last line is `N passed, N failed`.
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

import identical
from paths import ROOT
from report import Checks
from tree import copy_tree

PROGRAMS = ["test_model", "test_blocks", "test_gguf", "test_tokenizer", "test_lape"]
QUICKEST = ["test_gguf", "test_tokenizer", "test_lape"]
ALL = ["lape"] + ["build/" + name for name in PROGRAMS]
WARN = "-Wall -Wextra -Wpedantic -Werror"
SYSTEMS = ["aarch64-macos", "x86_64-macos", "x86_64-freebsd", "x86_64-netbsd", "x86_64-openbsd"]
ZIG_PYTHON = os.path.join(ROOT, ".venv", "bin", "python")

BY_NAME = {way.name: way for way in identical.WAYS}
NATIVE = ["gcc -O3", "clang -O2", "musl", "tcc"]
EMULATED = ["arm, 32-bit", "s390x, big-endian"]
GCCS = sorted({name for folder in os.environ["PATH"].split(os.pathsep) if os.path.isdir(folder)
               for name in os.listdir(folder) if re.fullmatch(r"gcc-\d+", name)})


def ways(quick):
    found = [identical.Way(name, name, "-O2 -march=native") for name in GCCS]
    found += [identical.Way("gcc, pedantic errors", "gcc", "-O2 -pedantic-errors")]
    return [BY_NAME[name] for name in NATIVE] + found + [
        BY_NAME[name] for name in ([] if quick else EMULATED)]


def make(folder, targets, variables):
    """What it says, if that is anything of note."""
    done = subprocess.run(["make", "-s", "-k", *targets, "WARN=" + WARN, *variables], cwd=folder,
                          env={**os.environ, "MAKEFLAGS": ""}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
    if done.returncode:
        return done.stdout.strip() or "make ends with status %d" % done.returncode
    return ""


def for_tcc(folder):
    """It makes one byte of \\u2581 in a string, so tests are given the characters themselves; and as
    it warns where exit() keeps a function's end from being reached, warnings are let be."""
    path = os.path.join(folder, "test", "test_tokenizer.c")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(re.sub(r"\\u([0-9a-f]{4})|\\U([0-9a-f]{8})",
                       lambda m: chr(int(m.group(1) or m.group(2), 16)), text))
    return ["WARN=-Wall"]


def try_way(way, programs):
    """(good, what is to be said) of a build of all, and a run of some; good is None where it cannot
    run."""
    missing = way.missing()
    if missing:
        return None, "not run: " + missing
    with tempfile.TemporaryDirectory(prefix="portable.") as folder:
        copy_tree(folder, "test")
        more = for_tcc(folder) if way.cc == "tcc" else []
        wrong = make(folder, ALL, [*way.variables(), *more])
        if wrong:
            return False, wrong
        passed = 0
        for name in programs:
            words = (way.runner or "").split() + [os.path.join(folder, "build", name)]
            done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
            last = re.search(r"(\d+) passed, 0 failed\n$", done.stdout)
            if done.returncode or not last:
                return False, "%s: %s" % (name, done.stdout[-1000:])
            passed += int(last.group(1))
    return True, "%d checks of %d programs" % (passed, len(programs))


# ---- Systems whose headers zig has -------------------------------------------------------------

def zig():
    """A command, or None."""
    if shutil.which("zig"):
        return "zig"
    for python in ZIG_PYTHON, sys.executable:
        if os.path.exists(python) and subprocess.run(
                [python, "-c", "import ziglang"], stderr=subprocess.DEVNULL).returncode == 0:
            return python + " -m ziglang"
    return None


def try_system(system):
    command = zig()
    if not command:
        return None, "not run: zig is not installed"
    with tempfile.TemporaryDirectory(prefix="portable.") as folder:
        copy_tree(folder, "test")
        wrong = make(folder, ALL, ["CC=%s cc -target %s" % (command, system), "CFLAGS=-O0"])
    return not wrong, wrong or "compiled and linked, not run"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="this machine alone, and of the tests %s"
                        % " and ".join(QUICKEST))
    parser.add_argument("--only", default="", help="those whose name holds this word")
    options = parser.parse_args()
    programs = [name for name in PROGRAMS if not options.quick or name in QUICKEST]
    tasks = [(way.name, try_way, way, programs) for way in ways(options.quick)]
    tasks += [(system, try_system, system) for system in SYSTEMS]
    tasks = [task for task in tasks if options.only in task[0]]
    checks = Checks()
    os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)     # where the tests are run
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        done = [(name, pool.submit(*task)) for name, *task in tasks]
        for name, future in done:
            good, said = future.result()
            if good is None:
                print("--   %s: %s" % (name, said), flush=True)
            else:
                checks.say(good, "%s: %s" % (name, said))
    sys.exit(checks.end())


if __name__ == "__main__":
    main()
