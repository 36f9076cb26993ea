#!/usr/bin/env python3
"""Tests of tools/plot.py: every figure without a display, from small tables. Needs matplotlib.

    python3 test/oracle/test_plot.py
"""

import os
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

from paths import ROOT
import report
from studies import tables

NAMES = ["en", "zh", "fr"]
PAIRS = [(a, b) for a in NAMES for b in NAMES]
FIGURES = ["layers", "matrix", "baselines", "dose", "steer", "reliability", "overlap"]


def write_tables(folder, value=7.0, times=1):
    """All that plot.py draws; `value` stands once in the matrix, other changes are times as high."""
    def write(name, columns, rows, made=()):
        tables.write_table(os.path.join(folder, name + ".tsv"), list(made), columns.split(), rows)

    write("layers", "layer quarter en zh fr distinct",
          [[i, i + 1, i, 2, 1, i + 3] for i in range(4)])
    write("matrix", "selection off text neurons plain perplexity change percent spread",
          [[s, a, b, 3, 10, 11, 1, value if (s, a, b) == ("lape", "en", "zh") else 91.0 * (a == b),
            "-"] for s in ("lape", "random-1", "random") for a, b in PAIRS])
    write("matrix-summary", "selection neurons own own_spread others others_spread rows columns of",
          [["lape", 9, 10.0 * times, "-", 2.0, "-", 3, 3, 3],
           ["random", 9, 1.0, 0.5, 1.0, 0.1, 1, 1, 3]])
    write("dose", "off part neurons text plain perplexity change percent",
          [[a, part, 2, b, 10, 11, 1, times * part / 10 * (a == b)] for a, b in PAIRS
           for part in (0, 50, 100)])
    write("steer", "mode how strength prompt wanted outputs success perplexity distinct",
          [[mode, *push, a, b, 2, 50.0, 9.0, 0.5] for mode, push in (
              ("none", "--"), ("off", "--"), ("on", ("add", 5)), ("off+on", ("add", 5)))
           for a, b in PAIRS if a != b])
    write("steer-summary", "mode how strength success perplexity distinct",
          [["off+on", "add", 5, 50.0, 9.0, 0.5]], ["best: add 5"])
    write("reliability", "what of draw language tokens neurons jaccard",
          [["part", of, draw, a, 10, 3, 1 / of] for of in (4, 2, 1) for draw in range(1, of + 1)
           for a in NAMES] + [["halves", 2, "-", a, 5, 3, 0.5] for a in NAMES])
    write("overlap", "a b neurons_a neurons_b shared jaccard correlation",
          [[a, b, 3, 3, 1, 0.25, 0.5] for a, b in PAIRS])


def plot(*words):
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")}
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "plot.py"), *words],
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def read(*path):
    with open(os.path.join(*path), "rb") as file:
        return file.read()


class Plots(unittest.TestCase):
    def setUp(self):
        self.keep = tempfile.TemporaryDirectory()
        self.folder = self.keep.name
        self.pictures = os.path.join(self.folder, "pictures")
        write_tables(self.folder)

    def tearDown(self):
        self.keep.cleanup()

    def draw(self, *words):
        status, said, wrong = plot(self.folder, "-o", self.pictures, *words)
        self.assertEqual((status, wrong), (0, ""))
        return said

    def text_of(self, name):
        """The words and numbers of an SVG."""
        svg = xml.dom.minidom.parseString(read(self.pictures, name + ".svg"))
        return [node.firstChild.data for node in svg.getElementsByTagName("text")]

    def test_all_figures(self):
        self.draw()
        self.assertEqual(sorted(os.listdir(self.pictures)),
                         sorted(name + kind for name in FIGURES for kind in (".png", ".svg")))
        for name in FIGURES:
            self.assertEqual(read(self.pictures, name + ".png")[:4], b"\x89PNG")
            for label in NAMES if name != "baselines" else ["lape", "random"]:
                self.assertIn(label, self.text_of(name), name)

    def test_labels(self):
        """Every figure says what is on its axes."""
        self.draw("--svg")
        for name, labels in {
                "layers": ["layer, from 0", "neurons"],
                "matrix": ["perplexity of text in", "neurons at 0", "change in percent"],
                "baselines": ["change of perplexity, percent"],
                "dose": ["change of perplexity, percent", "other texts, mean"],
                "steer": ["wanted language", "language of the prompt", "off+on, add 5"],
                "reliability": ["overlap (Jaccard)", "one half and the other"],
                "overlap": ["language", "correlation of probabilities"]}.items():
            for label in labels:
                self.assertIn(label, self.text_of(name))

    def test_numbers_are_the_tables(self):
        self.draw("--svg", "--only", "matrix")
        cells = self.text_of("matrix")
        self.assertEqual((cells.count("7"), cells.count("91")), (1, 6))
        write_tables(self.folder, 33.0)
        self.draw("--svg", "--only", "matrix")
        cells = self.text_of("matrix")
        self.assertEqual((cells.count("7"), cells.count("33")), (0, 1))

    def test_wide(self):
        """Percents of thousands beside some: a scale that shows both, and says so."""
        self.draw("--svg")
        narrow = {name: self.text_of(name) for name in ("matrix", "baselines", "dose")}
        write_tables(self.folder, 1951.7, 100)
        self.draw("--svg")
        self.assertEqual(self.text_of("matrix").count("1952"), 1)
        for name, cells in narrow.items():
            marks = ["0", "10", "100", "1000"]
            if name == "matrix":           # its cells are numbers as well, the bar's stand last
                self.assertEqual(self.text_of(name)[-5:-1], marks)
                self.assertNotIn("1000", cells)
            else:
                self.assertLessEqual(set(marks), set(self.text_of(name)))
                self.assertFalse(set(marks) <= set(cells), name)

    def test_same_bytes(self):
        self.draw()
        first = {name: read(self.pictures, name) for name in os.listdir(self.pictures)}
        self.draw()
        for name, data in first.items():
            self.assertEqual(read(self.pictures, name), data, name)

    def test_small(self):
        self.draw("--svg")
        for name in os.listdir(self.pictures):
            self.assertLess(len(read(self.pictures, name)), 60000, name)

    def test_links(self):
        """A picture goes where a link of its name leads."""
        os.mkdir(self.pictures)
        for kind in "png", "svg":
            link = os.path.join(self.pictures, "layers." + kind)
            os.symlink("target." + kind, link)
            status, _, wrong = plot(self.folder, "-o", self.pictures, "--only", "layers")
            self.assertEqual((status, wrong.count("\n")), (1, 1))
            self.assertIn("is a link to", wrong)
            with open(link, "w"):
                pass
        self.draw("--only", "layers")
        for kind in "png", "svg":
            self.assertTrue(os.path.islink(os.path.join(self.pictures, "layers." + kind)))
            self.assertGreater(os.path.getsize(os.path.join(self.pictures, "target." + kind)), 999)
        self.assertEqual(len(os.listdir(self.pictures)), 4)

    def test_warnings(self):
        """Of matplotlib, as one line and a refusal."""
        with open(os.path.join(self.folder, "sitecustomize.py"), "w") as file:
            file.write("import io, warnings\nclass Doubtful(io.StringIO):\n"
                       "    def getvalue(self):\n        warnings.warn('doubt\\nand more')\n"
                       "        return super().getvalue()\nio.StringIO = Doubtful\n")
        os.environ["PYTHONPATH"] = self.folder
        self.addCleanup(os.environ.pop, "PYTHONPATH")
        status, _, wrong = plot(self.folder, "-o", self.pictures, "--only", "layers", "--svg")
        self.assertEqual((status, wrong), (1, "plot.py: %s: a figure: refused, since there is a "
                                              "warning of it: doubt and more\n" % self.folder))

    def test_what_is_there(self):
        for name in os.listdir(self.folder):
            if name.endswith(".tsv") and name != "layers.tsv":
                os.unlink(os.path.join(self.folder, name))
        self.draw("--svg")
        self.assertEqual(os.listdir(self.pictures), ["layers.svg"])
        os.unlink(os.path.join(self.folder, "layers.tsv"))
        status, _, wrong = plot(self.folder)
        self.assertEqual((status, wrong.count("\n")), (1, 1))
        self.assertIn("no table", wrong)

    def test_bad_table(self):
        for text in ("layer\ten\n0\tmany\n", "layer\ten\n0\n", "en\n1\n"):
            tables.write_text(os.path.join(self.folder, "layers.tsv"), text)
            status, _, wrong = plot(self.folder, "-o", self.pictures, "--only", "layers")
            self.assertEqual((status, wrong.count("\n")), (1, 1), wrong)
        status, _, wrong = plot(self.folder, "--only", "nonsense")
        self.assertEqual(status, 2)


if __name__ == "__main__":
    sys.exit(report.main())
