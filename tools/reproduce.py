#!/usr/bin/env python3
"""Every experiment on the demo model, or on a real one, and a report of them.

    reproduce.py [--real FILE] [--texts DIR] [--model FILE] [--lape PATH] [-t N] [--write FILE]
                 [--again]

Tables land in demo/out/report/, with pictures where matplotlib is; the report is
demo/out/REPORT.md. doc/results.md's section between its marks must be what this run found; --write
puts it into FILE, and the pictures that it shows into demo/pictures/. Python's standard library
alone, but for the pictures.

With --texts, neurons are found in the beginnings of DIR/LANG.train.txt, what the model was trained
on, and everything is measured on those of DIR/LANG.valid.txt; tables land in demo/out/texts/, the
report is demo/out/TEXTS.md, and its section stands in demo/MODEL.md.

--model takes another model of the same languages, one that tools/train.py made, say; tables and
REPORT.md land in a folder of demo/out/ that has the model's name, and no document is held against
them.

With --real, the model is anybody's, and neurons are found at the paper's rates, which the program
has by default. It takes hours: progress is said, and what is done is not done again when the
command is given again. Tables land in demo/out/NAME/report/, NAME being the file's, the report is
demo/out/NAME/REPORT.md, and its section of doc/results.md is the one between marks of that name.
"""

import argparse
import os
import shutil
import subprocess
import sys

from guard import Refused, status_of
from studies import report, tables
from studies.stages import (LANGUAGES, OUT, PAPERS, ROOT, Stages, from_root, out_folder, sum_of,
                        words_of)

MODEL, PICTURES = "demo/model.gguf", "demo/pictures"
RESULTS, CARD = "doc/results.md", "demo/MODEL.md"       # the documents
SHOWN = ["layers", "matrix", "dose", "steer", "reliability", "overlap"]     # in RESULTS

# What bounds the time: a few minutes on two cores.
SEQ = ["--seq", "128"]
SWEEP = ["--top", "0.01,0.02,0.05", "--filter", "0.95,0.98,0.99", "--bar", "0.95,0.98,0.99,0.993",
         "--tokens", "512", "--enough", "50"]
OUTPUT = ["-n", "16", "--repeat-penalty", "1.2"]
PUSHES = ["--how", "replace,add,scale,diffmean", "--strength", "5,10"]
# Of --texts, with lists and code in them, only longer pieces tell their language.
LONG = ["-n", "64", "--repeat-penalty", "1.2", "--how", "replace,diffmean", "--strength", "5"]
# Of a real model: pushes that leave it fluent; parts that hold a few pieces.
REAL_OUTPUT = ["-n", "24", "--repeat-penalty", "1.2"]
REAL_PUSHES = ["--how", "replace,diffmean", "--strength", "1,2,3"]
REAL_PARTS = ["--of", "8"]
SEEN = ["--tokens", "1024"]             # of each text, for places of large activations
FOUND_ON = 3, 4          # of the lines to be counted, the sweep finds on 3 of 4
COUNTED, MEASURED = 150000, 30000       # bytes of each of --texts' files


class Run(Stages):
    """Which model and which texts, and where the tables, the report and the section go."""

    def __init__(self, args):
        self.texts, self.real = args.texts, args.real
        other = args.real or args.model
        base = out_folder(other) if other else OUT
        name = os.path.basename(base)
        folder = base + ("/texts" if args.texts else "/report")
        self.report = base + ("/TEXTS.md" if args.texts else "/REPORT.md")
        self.document = CARD if args.texts else RESULTS
        self.pictures, self.marks, bos = PICTURES, "results", []
        if args.model:
            folder = base + ("-texts" if args.texts else "")
            self.report, self.document = folder + "/REPORT.md", None
        if args.real:
            self.pictures, self.marks = "%s/%s" % (PICTURES, name), "results of " + name
            self.document = None if args.texts else RESULTS
            bos = ["--bos"] if tables.begins_with_bos(args.real) else []
        super().__init__(from_root(other or os.path.join(ROOT, MODEL)), folder, args.lape,
                         args.threads, SEQ + bos, quiet=not args.real)
        self.parts = report.IN_CARD if args.texts else (
            report.IN_REAL if args.real else report.IN_RESULTS)
        self.output = (REAL_OUTPUT if args.real else OUTPUT) + bos
        self.pushes = REAL_PUSHES if args.real else PUSHES
        where = self.tables + "/%s." if args.texts else "demo/text/%s."
        self.counted, self.held_out = where + "count.txt", where + "eval.txt"


def lines_of(path, most=None):
    """A text's lines that are not empty, from its first `most` bytes."""
    with open(os.path.join(ROOT, path), "rb") as file:
        lines = file.read(most).decode("utf-8", "ignore").split("\n")
    return [line for line in (lines[:-1] if most else lines) if line]


def write_lines(path, lines):
    """A file that says so already keeps its time, by which stages know it."""
    path, text = os.path.join(ROOT, path), "\n".join(lines) + "\n"
    if not os.path.exists(path) or "\n".join(tables.read_lines(path)) != text:
        tables.write_text(path, text)


def take_texts(run):
    """The beginnings of --texts' files: as much as the demo's own, or some times more."""
    for language in LANGUAGES:
        for part, target, most in (("train", run.counted, COUNTED),
                                   ("valid", run.held_out, MEASURED)):
            path = os.path.join(os.path.abspath(run.texts), "%s.%s.txt" % (language, part))
            write_lines(target % language, lines_of(path, most))


def split_texts(run):
    """The lines that are to be counted, in two: to find on, and to judge rates by."""
    for language in LANGUAGES:
        lines = lines_of(run.counted % language)
        middle = len(lines) * FOUND_ON[0] // FOUND_ON[1]
        for name, part in (("find", lines[:middle]), ("judge", lines[middle:])):
            write_lines("%s/sweep.%s.%s.txt" % (run.tables, language, name), part)


def sweep_rates(run):
    """The options of the sweep's choice; made on sentences that nothing else is measured on."""
    split_texts(run)
    part = run.tables + "/sweep.%s."
    counts = run.tables + "/sweep.counts.gguf"
    run.count(words_of(part + "find.txt"), counts, "count for the sweep")
    run.experiment("sweep", run.model, *words_of(part + "judge.txt"), *run.pieces, *SWEEP,
                   "--counts", counts)
    made, _ = tables.read_table(run.path("sweep.tsv"))
    return next(line for line in made if line.startswith("best: ")).split()[1:]


def run_all(run):
    """What takes long comes last."""
    counted, held_out = words_of(run.counted), words_of(run.held_out)
    prompts = words_of("demo/prompts/%s.txt")
    counts, neurons = run.tables + "/counts.gguf", run.tables + "/neurons.tsv"
    if run.texts:
        take_texts(run)
    rates = PAPERS if run.real else sweep_rates(run)
    if run.real:
        tables.write_table(run.path("model.tsv"), ["which file all of this is about"],
                           ["file", "bytes", "sha256"],
                           [[os.path.basename(run.real), os.path.getsize(run.real),
                             sum_of(run.real)]])
    run.count(counted, counts)
    run.find(counts, LANGUAGES, neurons, *rates)
    found = ["--counts", counts, "--neurons", neurons]
    run.experiment("layers", neurons, "--counts", counts)
    run.experiment("matrix", run.model, *held_out, *run.pieces, *found)
    if run.texts:
        run.experiment("steer", run.model, prompts[0], "--check", *held_out, *found, *LONG)
        return
    run.experiment("contexts", run.model, *held_out, *run.pieces, *found, *SEEN)
    run.experiment("reliability", run.model, *counted, *run.pieces, *rates,
                   *(REAL_PARTS if run.real else []))
    run.experiment("dose", run.model, *held_out, *run.pieces, *found)
    for name, pushes in (("fallback", []), ("steer", run.pushes)):
        run.experiment(name, run.model, *prompts, "--check", *held_out, *found, *run.output,
                       *pushes)


def can_draw():
    return subprocess.run([sys.executable, "-c", "import matplotlib"], check=False,
                          stderr=subprocess.DEVNULL).returncode == 0


def draw(run, folder, *words):
    run.say("pictures")
    subprocess.run([sys.executable, "tools/plot.py", run.tables, "-o", folder, *words], cwd=ROOT,
                   check=True, stdout=subprocess.DEVNULL)


def with_section(path, section, marks="results"):
    """The file's text with the section between its marks; None when it has no marks."""
    text = "\n".join(tables.read_lines(path))
    begin, end = ("<!-- %s: %s -->\n" % (marks, side) for side in ("begin", "end"))
    if text.count(begin) != 1 or text.count(end) != 1:
        return None
    before, rest = text.split(begin)
    return before + begin + section + end + rest.split(end)[1]


def settle(run, section, write):
    """Writes the section into a file, or checks the run's document; whether that went well."""
    document = write or run.document
    if not document:
        return True
    path = os.path.join(ROOT, document)
    new = with_section(path, section, run.marks)
    if new is None:
        if write:
            raise Refused("%s: lacks the marks <!-- %s: begin -->" % (path, run.marks))
        run.say("%s has no section of %s" % (run.document, run.marks))
        return True
    if write:
        tables.write_text(path, new)
    elif new != "\n".join(tables.read_lines(path)):
        run.say("%s's results are not this run's: --write it anew" % run.document)
        return False
    run.say("%s holds this run's results" % document)
    return True


def pictures_from(run, document):
    """The folder of pictures, as a link in a document names it."""
    folder = os.path.dirname(os.path.join(ROOT, document or ""))
    return os.path.relpath(os.path.join(ROOT, run.pictures), folder)


def write_report(run, drawn, document):
    """Of the demo's texts, all; of others, what the model card tells. Returns the section of the
    document, where pictures are named as from its folder."""
    results = report.Results(os.path.join(ROOT, run.tables))
    section = report.section(results, run.parts, pictures_from(run, document))
    tables.write_text(os.path.join(ROOT, run.report),
                      section if run.texts else report.whole(results, drawn))
    run.say("wrote " + run.report)
    return section


def work(args):
    run = Run(args)
    drawn = not args.texts and can_draw()
    if args.write and not drawn and not args.texts:
        raise Refused("--write wants pictures, too: run it by a python with matplotlib")
    if not args.again:
        if not run.real:
            shutil.rmtree(os.path.join(ROOT, run.tables), ignore_errors=True)
        os.makedirs(os.path.join(ROOT, run.tables), exist_ok=True)
        run_all(run)
    if drawn:
        draw(run, run.tables)
    elif not args.texts:
        run.say("no pictures: %s has no matplotlib" % sys.executable)
    if args.write and drawn:
        draw(run, run.pictures, "--svg", "--only", ",".join(SHOWN))
    section = write_report(run, drawn, args.write or run.document)
    return 0 if settle(run, section, args.write) else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--real", metavar="FILE", help="a real model, at the paper's rates; goes on "
                                                      "where it was broken off")
    which.add_argument("--model", metavar="FILE", help="another model of the same languages")
    parser.add_argument("--texts", metavar="DIR", help="measure on DIR's texts, not on the demo's")
    parser.add_argument("--lape", default="./lape", metavar="PATH", help="the program (./lape)")
    parser.add_argument("-t", dest="threads", type=int, metavar="N",
                        help="threads (all processors)")
    parser.add_argument("--write", metavar="FILE", help="put the results between FILE's marks")
    parser.add_argument("--again", action="store_true",
                        help="only the report, from the tables that are there")
    args = parser.parse_args()
    return status_of("reproduce.py", lambda: work(args))


if __name__ == "__main__":
    sys.exit(main())
