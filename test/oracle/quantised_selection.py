#!/usr/bin/env python3
"""How quantisation moves the selection.

    python test/oracle/quantised_selection.py [--lape ./lape] [-t N] [--only NAME,...] [--write]
    python test/oracle/quantised_selection.py --real FILE.gguf [--only NAME,...]

The demo model is quantised by llama.cpp to every type that lape reads; neurons are found in each
and set to 0, as demo/run.sh does, and held against those of the model in BF16. K types and IQ4_XS
want rows of multiples of 256 numbers, which most of this model's, of 128, are not: llama.cpp would
take other types. So two rows are laid end to end, which leaves the neighbours of a number, but for
those across a row's end, as they were; quantised; and laid apart again in a copy in F32, of which
lape computes the same as of the blocks.

demo/MODEL.md's table must be this one; --write writes it. With --real the model is another one and
its files are read as llama.cpp makes them: only the selection is told, at the paper's rates.
"""

import argparse
import math
import os
import re
import sys
import tempfile

from peer_programs import contents, dequantized, ignored, quantise, rewrite, types_of
import gguf
import llama_cpp

import blocks
from studies import tables
from studies.ablation import judge
from studies.common import geometric, percent
from studies.program import Program
from studies.selection import jaccard
from studies.stages import LANGUAGES, PAPERS
from paths import DEMO, LAPE, ROOT

DOCUMENT = os.path.join(ROOT, "demo", "MODEL.md")
MARKS = "<!-- quantised: begin -->\n", "<!-- quantised: end -->"
NAMES = ["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_1", "Q5_0", "Q4_K_M", "Q4_1", "Q4_0", "IQ4_NL",
         "IQ4_XS", "Q3_K_M", "Q2_K"]
ROW = 256           # numbers that a row must have, or a multiple of it
# By what the table's figures may be off where llama.cpp was compiled to round otherwise: neurons,
# Jaccards (of 16 neurons, of English, one is .06), perplexity, own and other texts
NEAR = [2] + [0.07] * 8 + [0.1, 2, 2]


# ---- The files -----------------------------------------------------------------------------

def folded(path, to):
    """A copy in F32 whose matrices have rows of multiples of ROW."""
    def change(t):
        numbers = dequantized(t)
        if numbers.ndim == 2 and numbers.shape[1] % ROW:
            numbers = numbers.reshape(-1, math.lcm(numbers.shape[1], ROW))
        return numbers, None
    rewrite(path, to, change=change)


def unfolded(path, like, to):
    """The numbers of a folded file in F32, in the shapes of the model that it is of."""
    tensors = contents(path)[1]

    def numbers_of(t):
        numbers = dequantized(tensors[t.name]).astype("<f4").tobytes()
        if len(numbers) != 4 * t.n_elements:
            raise RuntimeError("%s has another size" % t.name)
        yield numbers
    with open(to, "wb") as copy:
        blocks.write_in_f32(copy, gguf.GGUFReader(like), numbers_of)


def said(types):
    return ", ".join("%d %s" % (n, name) for name, n in types.most_common())


# ---- What is measured ----------------------------------------------------------------------

def rates_of_the_demo():
    with open(os.path.join(ROOT, "demo", "run.sh"), encoding="utf-8") as file:
        return re.search(r'^rates="(.*)"$', file.read(), re.M).group(1).split()


def texts(part):
    return {name: os.path.join(ROOT, "demo", "text", "%s.%s.txt" % (name, part))
            for name in LANGUAGES}


class Study:
    """What lape finds in a model; with_matrix: and what it costs to take it away."""

    def __init__(self, lape, model, rates, with_matrix):
        counts = lape.temporary("counts.gguf")
        lape.count(model, texts("count"), counts)
        options = {key[2:]: value for key, value in zip(rates[::2], rates[1::2])}
        found = lape.find(counts, LANGUAGES, **options)
        os.unlink(counts)
        self.of = {name: found.of(name) for name in LANGUAGES}
        if with_matrix:
            self.plain, off = lape.perplexities(model, texts("eval"), self.of, found)
            self.change = {a: {b: percent(off[a][b], self.plain[b]) for b in LANGUAGES}
                           for a in LANGUAGES}

    def every(self):
        return set().union(*self.of.values())

    def selection(self, base):
        """Cells: neurons; Jaccard with another's, by language and of all."""
        return ["%d" % len(self.every())] + [
            "%.2f" % jaccard(self.of[name], base.of[name]) for name in LANGUAGES] + [
            "%.2f" % jaccard(self.every(), base.every())]

    def matrix(self, base):
        """Cells: perplexity against another's; own and other texts; where that changed most."""
        own, others, _, _ = judge(self.change)
        moved = {(a, b): self.change[a][b] - base.change[a][b]
                 for a in LANGUAGES for b in LANGUAGES}
        most = max(moved, key=lambda cell: abs(moved[cell]))
        worse = geometric(self.plain[name] / base.plain[name] for name in LANGUAGES)
        return ["%+.2f %%" % percent(worse, 1), "%+.1f %%" % own, "%+.1f %%" % others] + (
            ["%+.1f (%s off, %s)" % (moved[most], *most)] if abs(moved[most]) >= 0.05 else ["-"])


SELECTION = ["neurons", *LANGUAGES, "all"]
MATRIX = ["perplexity", "own text", "other texts", "most moved, points"]


def row(name, path, study, base, with_matrix):
    cells = study.selection(base) + (study.matrix(base) if with_matrix else [])
    cells = [name, said(types_of(path)), format(os.path.getsize(path), ",")] + cells
    print("| %s |" % " | ".join(cells), flush=True)
    return cells


def demo_rows(lape, names, folder):
    rates, (flat, blocked, copy) = rates_of_the_demo(), (
        os.path.join(folder, name + ".gguf") for name in ("flat", "blocks", "copy"))
    folded(DEMO, flat)
    base, fallen = Study(lape, DEMO, rates, True), {}
    rows = [row("BF16", DEMO, base, base, True)]
    for name in names:
        quantise(DEMO, blocked, "MOSTLY_" + name)
        there = types_of(blocked)
        quantise(flat, blocked, "MOSTLY_" + name)
        unfolded(blocked, DEMO, copy)
        rows.append(row(name, blocked, Study(lape, copy, rates, True), base, True))
        if there != types_of(blocked):
            fallen[name] = said(there)
    return rows, fallen


def real_rows(lape, path, names, folder):
    base, to = Study(lape, path, PAPERS, False), os.path.join(folder, "quantised.gguf")
    rows = [row("as it is", path, base, base, False)]
    for name in names:
        quantise(path, to, "MOSTLY_" + name)
        rows.append(row(name, to, Study(lape, to, PAPERS, False), base, False))
    return rows


# ---- The table -----------------------------------------------------------------------------

def as_table(rows, columns):
    head = ["type", "matrices", "bytes"] + columns
    return "".join("| %s |\n" % " | ".join(cells) for cells in [head, ["---"] * len(head)] + rows)


def section(rows, fallen):
    fell = "; ".join("%s into %s" % item for item in fallen.items())
    return "%s\nOf rows as they are llama.cpp would have made %s.\n" % (
        as_table(rows, SELECTION + MATRIX), fell)


def document():
    """What is before the marks, between and after."""
    with open(DOCUMENT, encoding="utf-8") as file:
        before, rest = file.read().split(MARKS[0])
    between, after = rest.split(MARKS[1])
    return before, between, after


def differs(rows):
    """A line where the document's table says something else of these rows."""
    there = [[cell.strip() for cell in line.strip("|\n").split("|")]
             for line in document()[1].split("\n") if line.startswith("| ")]
    there = {cells[0]: cells for cells in there}
    for cells in rows:
        known = there.get(cells[0], [])
        numbers = [[float(cell.split()[0]) for cell in line[3:-1]] for line in (cells, known)]
        if cells[:3] != known[:3] or any(
                abs(a - b) > near for a, b, near in zip(*numbers, NEAR)):
            return "%s says %s, found is %s" % (DOCUMENT, known, cells)
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lape", default=LAPE)
    parser.add_argument("--real", metavar="FILE")
    parser.add_argument("--only", default=",".join(NAMES))
    parser.add_argument("-t", "--threads", type=int)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    llama_cpp.llama_log_set(ignored, None)
    real, names = options.real, options.only.split(",")
    bos = ["--bos"] if real and tables.begins_with_bos(real) else []
    lape = Program(os.path.abspath(options.lape), options.threads, True, ["--seq", "128"] + bos)
    with tempfile.TemporaryDirectory() as folder:
        if real:
            real_rows(lape, real, names, folder)
            return 0
        rows, fallen = demo_rows(lape, names, folder)
    print("\n" + section(rows, fallen))
    if options.write:
        before, _, after = document()
        with open(DOCUMENT, "w", encoding="utf-8") as file:
            file.write(before + MARKS[0] + section(rows, fallen) + MARKS[1] + after)
    elif problem := differs(rows):
        print("FAIL " + problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
