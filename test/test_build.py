#!/usr/bin/env python3
"""Tests of how the program is built: by GNU's make and by the BSDs', by README's one line, from a
folder that is not written to, and always the same bytes; and of what lies at the top.

    python3 test/test_build.py [NAME...]

What takes a make, git or a compiler that is not there is skipped. Standard library only. The last
line is `N passed, N failed`.
"""

import concurrent.futures
import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
import unittest

from paths import ROOT
import folder
import report
from tree import copy_tree

# What need not be named in README.md.
USUAL = {".ci", ".clang-format", ".gitignore", "LICENSE", "Makefile", "README.md"}
OLD = 1e9                              # a time
# Beside each target by itself.
GIVEN = ["lape OPENMP=1 CC=some-cc CFLAGS=-O2", "lape STRICT=-std=c11 WARN=-Wall", "exercise N=3",
         "real MODEL=x.gguf", "gemma FILE=y.gguf", "reproduce MODEL=x.gguf WRITE=README.md",
         "card TEXTS=/texts WRITE=x", "fuzz SECONDS=3 TARGET=model", "inject QUICK=1",
         "quantised WRITE=1", "bare SUITE=bookworm", "train-test MINUTES=2", "bench BENCH=kernels",
         "install PREFIX=/usr DESTDIR=/root"]


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


@functools.lru_cache(None)
def makes():
    """(GNU's, a BSD's), each None if it is not here."""
    found = {}
    for name in "gmake", "make", "bmake":
        if shutil.which(name):
            said = subprocess.run([name, "--version"], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT).stdout
            found.setdefault(b"GNU Make" in said, name)
    return found.get(True), found.get(False)


def run(words, where, status=0):
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKE")}
    done = subprocess.run(words, cwd=where, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
    if (done.returncode == 0) != (status == 0):
        raise AssertionError("%s: %d: %s" % (words, done.returncode, done.stderr))
    return done.stdout


class Case(folder.Case):
    def tree(self, name, *folders):
        copy_tree(self.path(name), *folders)
        return self.path(name)


class Makes(Case):
    def test_same_commands(self):
        """Of every target, and with every variable, the two makes run the same."""
        gnu, bsd = makes()
        if not gnu or not bsd:
            self.skipTest("%s is not installed" % ("a BSD's make, bmake," if gnu else "GNU make"))
        tree = self.tree("tree", "test", "tools")
        targets = set(" ".join(re.findall(r"(?m)^([\w. /-]+):", read("Makefile"))).split())
        targets = sorted(targets - {".PHONY", "force"})
        self.assertGreater(len(targets), 40)

        def commands(make, given):
            said = run([make, "-n", *given.split()], tree)
            return re.sub(r"[ \t]+", " ", re.sub(r"\\\n", "", said)).strip().split("\n")

        for given in targets + GIVEN + [""]:
            with self.subTest(given):
                self.assertEqual(commands(bsd, given), commands(gnu, given))

    def make(self, name):
        if not name:
            self.skipTest("not installed")
        tree = self.tree("tree", "test")
        program = os.path.join(tree, "build", "test_gguf")

        def builds(flags, touched=None):
            """Whether the program is made anew, where all files but one are of one age."""
            for path, _, names in os.walk(tree):
                for each in names:
                    os.utime(os.path.join(path, each), (OLD, OLD))
            if touched:
                os.utime(os.path.join(tree, touched))
            run([name, "build/test_gguf", "CFLAGS=" + flags], tree)
            return os.stat(program).st_mtime != OLD

        self.assertTrue(builds("-O0"))
        self.assertFalse(builds("-O0"))
        self.assertTrue(builds("-O0 -g"))
        self.assertFalse(builds("-O0 -g"))
        self.assertTrue(builds("-O0 -g", "base.c"))
        self.assertFalse(builds("-O0 -g"))
        for wrong in ["exercise"], ["exercise", "N=99"], ["real"]:
            run([name, "CFLAGS=-O0", *wrong], tree, status=1)

    def test_anew_gnu(self):
        """Made anew when a source or the flags change, and only then."""
        self.make(makes()[0])

    def test_anew_bsd(self):
        self.make(makes()[1])


class Line(Case):
    def test_same_bytes(self):
        """README's line, in two folders that are not written to, makes one and the same program."""
        line, = re.findall(r"(?m)^    (cc .*)$", read("README.md"))
        words = shlex.split(line)
        if not shutil.which(words[0]):
            self.skipTest("there is no %s" % words[0])
        at = words.index("-o") + 1
        trees = [self.tree("short"), self.tree("elsewhere/a-longer-name")]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda tree: self.build(words[:at] + [tree + ".lape"] + words[at + 1:],
                                                  tree), trees))
        first, second = (self.bytes(tree + ".lape") for tree in trees)
        self.assertEqual(first, second)
        for tree in trees:
            self.assertNotIn(tree.encode(), first)
        said = run([trees[0] + ".lape", "--version"], self.directory)
        self.assertRegex(said, r"^lape \d")

    def build(self, words, tree):
        before = sorted(os.listdir(tree))
        os.chmod(tree, 0o555)
        try:
            run(words, tree)
        finally:
            os.chmod(tree, 0o755)
        self.assertEqual(sorted(os.listdir(tree)), before)

    def bytes(self, path):
        with open(path, "rb") as file:
            return file.read()


class Top(unittest.TestCase):
    def test_named(self):
        """What is kept at the top is named in README.md."""
        if not shutil.which("git") or not os.path.exists(os.path.join(ROOT, ".git")):
            self.skipTest("no git, or no clone of it")
        names = {path.split("/")[0] for path in run(["git", "ls-files"], ROOT).splitlines()}
        self.assertGreater(len(names), 10)
        readme = read("README.md")
        for name in sorted(names - USUAL):
            with self.subTest(name):
                self.assertRegex(readme, r"[`( ]%s[`/ ]" % re.escape(name))


if __name__ == "__main__":
    sys.exit(report.main())
