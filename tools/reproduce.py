#!/usr/bin/env python3
"""Every experiment on the demo model, and a report of them.

    reproduce.py [--texts DIR] [--model FILE] [--lape PATH] [-t N] [--write FILE] [--again]

Tables land in demo/out/report/, with pictures where matplotlib is; the report is
demo/out/REPORT.md. README.md's section between its marks must be what this run found; --write puts
it into FILE, and the pictures that it shows into demo/pictures/. Python's standard library alone,
but for the pictures.

With --texts, neurons are found in the beginnings of DIR/LANG.train.txt, what the model was trained
on, and everything is measured on those of DIR/LANG.valid.txt; tables land in demo/out/texts/, the
report is demo/out/TEXTS.md, and its section stands in demo/MODEL.md.

--model takes another model of the same languages, one that tools/train.py made, say; tables and
REPORT.md land in a folder of demo/out/ that has the model's name, and no document is held against
them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time

from guard import Refused
from lab import report, tables

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODEL, OUT, PICTURES = "demo/model.gguf", "demo/out", "demo/pictures"
LANGUAGES = ["en", "zh", "fr", "es", "vi", "id", "ja"]
MARKS = "<!-- results: begin -->\n", "<!-- results: end -->\n"
SHOWN = ["layers", "matrix", "dose", "steer", "reliability", "overlap"]     # in README.md

# What bounds the time: a few minutes on two cores.
SEQ = ["--seq", "128"]
SWEEP = ["--top", "0.01,0.02,0.05", "--filter", "0.95,0.98,0.99", "--bar", "0.95,0.98,0.99,0.993",
         "--tokens", "512", "--enough", "50"]
OUTPUT = ["-n", "16", "--repeat-penalty", "1.2"]
PUSHES = ["--how", "replace,add,scale,diffmean", "--strength", "5,10"]
# Of --texts, with lists and code in them, only longer pieces tell their language.
LONG = ["-n", "64", "--repeat-penalty", "1.2", "--how", "replace,diffmean", "--strength", "5"]
FOUND_ON = 3, 4          # of the lines to be counted, the sweep finds on 3 of 4
COUNTED, MEASURED = 150000, 30000       # bytes of each of --texts' files


class Run:
    """Where the texts are, and where the tables go; everything is relative to the top folder."""

    def __init__(self, args):
        self.lape, self.texts, self.start = args.lape, args.texts, time.time()
        self.threads = ["-t", str(args.threads)] if args.threads else []
        self.tables, self.report, self.document = (
            (OUT + "/texts", OUT + "/TEXTS.md", "demo/MODEL.md") if args.texts else
            (OUT + "/report", OUT + "/REPORT.md", "README.md"))
        self.model = MODEL
        if args.model:
            name = os.path.splitext(os.path.basename(args.model))[0]
            if not os.path.isfile(args.model) or name == "report" or (
                    ("-" + name).endswith("-texts")):
                raise Refused(args.model, "is no file, or has the name of other tables' folder in "
                              + OUT)
            self.model, self.document = os.path.abspath(args.model), None
            self.tables = "%s/%s%s" % (OUT, name, "-texts" if args.texts else "")
            self.report = self.tables + "/REPORT.md"
        self.parts = report.IN_CARD if args.texts else report.IN_README
        where = self.tables + "/%s." if args.texts else "demo/text/%s."
        self.counted, self.held_out = where + "count.txt", where + "eval.txt"

    def say(self, text):
        print("%4.0f s  %s" % (time.time() - self.start, text), flush=True)

    def call(self, *words):
        subprocess.run(words, cwd=ROOT, check=True)

    def count(self, texts, output):
        self.call(self.lape, "count", self.model, *texts, *SEQ, *self.threads, "-q", "-o", output)

    def experiment(self, name, *words):
        self.say(name)
        self.call(sys.executable, "tools/experiments.py", name, *words, "-o", self.tables, "-q",
                  "--lape", self.lape, *self.threads)


def words_of(form):
    return [language + "=" + form % language for language in LANGUAGES]


def lines_of(path, most=None):
    """A text's lines that are not empty, from its first `most` bytes."""
    with open(os.path.join(ROOT, path), "rb") as file:
        lines = file.read(most).decode("utf-8", "ignore").split("\n")
    return [line for line in (lines[:-1] if most else lines) if line]


def write_lines(path, lines):
    tables.write_text(os.path.join(ROOT, path), "\n".join(lines) + "\n")


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


def rates(run):
    """The options that the sweep has chosen."""
    made, _ = tables.read_table(os.path.join(ROOT, run.tables, "sweep.tsv"))
    return next(line for line in made if line.startswith("best: ")).split()[1:]


def run_all(run):
    counted, held_out = words_of(run.counted), words_of(run.held_out)
    prompts = words_of("demo/prompts/%s.txt")
    counts, neurons = run.tables + "/counts.gguf", run.tables + "/neurons.tsv"
    if run.texts:
        take_texts(run)
    split_texts(run)
    run.say("count")
    run.count(words_of(run.tables + "/sweep.%s.find.txt"), run.tables + "/sweep.counts.gguf")
    run.count(counted, counts)
    run.experiment("sweep", run.model, *words_of(run.tables + "/sweep.%s.judge.txt"), *SEQ, *SWEEP,
                   "--counts", run.tables + "/sweep.counts.gguf")
    run.call(run.lape, "find", counts, *rates(run), "--langs", ",".join(LANGUAGES), "-q",
             "-o", neurons)
    found = ["--counts", counts, "--neurons", neurons]
    run.experiment("layers", neurons, "--counts", counts)
    run.experiment("matrix", run.model, *held_out, *SEQ, *found)
    if run.texts:
        run.experiment("steer", run.model, prompts[0], "--check", *held_out, *found, *LONG)
        return
    run.experiment("reliability", run.model, *counted, *SEQ, *rates(run))
    run.experiment("dose", run.model, *held_out, *SEQ, *found)
    run.experiment("fallback", run.model, *prompts, "--check", *held_out, *found, *OUTPUT)
    run.experiment("steer", run.model, *prompts, "--check", *held_out, *found, *OUTPUT, *PUSHES)


def can_draw():
    return subprocess.run([sys.executable, "-c", "import matplotlib"], check=False,
                          stderr=subprocess.DEVNULL).returncode == 0


def draw(run, folder, *words):
    run.say("pictures")
    subprocess.run([sys.executable, "tools/plot.py", run.tables, "-o", folder, *words], cwd=ROOT,
                   check=True, stdout=subprocess.DEVNULL)


def with_section(path, section):
    """The file's text with the section between its marks; None when it has no marks."""
    text = "\n".join(tables.read_lines(path))
    if text.count(MARKS[0]) != 1 or text.count(MARKS[1]) != 1:
        return None
    before, rest = text.split(MARKS[0])
    return before + MARKS[0] + section + MARKS[1] + rest.split(MARKS[1])[1]


def settle(run, section, write):
    """Writes the section into a file, or checks the run's document; whether that went well."""
    document = write or run.document
    if not document:
        return True
    path = os.path.join(ROOT, document)
    new = with_section(path, section)
    if new is None:
        if write:
            raise Refused("%s: lacks the marks %s" % (path, MARKS[0].strip()))
        run.say("%s has no section of results" % run.document)
        return True
    if write:
        tables.write_text(path, new)
    elif new != "\n".join(tables.read_lines(path)):
        run.say("%s's results are not this run's: --write it anew" % run.document)
        return False
    run.say("%s holds this run's results" % document)
    return True


def write_report(run, drawn):
    """Of the demo's texts, all; of others, what the model card tells."""
    results = report.Results(os.path.join(ROOT, run.tables))
    section = report.section(results, run.parts)
    tables.write_text(os.path.join(ROOT, run.report),
                      section if run.texts else report.whole(results, drawn))
    run.say("wrote " + run.report)
    return section


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--texts", metavar="DIR", help="measure on DIR's texts, not on the demo's")
    parser.add_argument("--model", metavar="FILE", help="another model of the same languages")
    parser.add_argument("--lape", default="./lape", metavar="PATH", help="the program (./lape)")
    parser.add_argument("-t", dest="threads", type=int, metavar="N",
                        help="threads (all processors)")
    parser.add_argument("--write", metavar="FILE", help="put the results between FILE's marks")
    parser.add_argument("--again", action="store_true",
                        help="only the report, from the tables that are there")
    args = parser.parse_args()
    try:
        run = Run(args)
        drawn = not args.texts and can_draw()
        if args.write and not drawn and not args.texts:
            raise Refused("--write wants pictures, too: run it by a python with matplotlib")
        if not args.again:
            shutil.rmtree(os.path.join(ROOT, run.tables), ignore_errors=True)
            os.makedirs(os.path.join(ROOT, run.tables))
            run_all(run)
        if drawn:
            draw(run, run.tables)
        elif not args.texts:
            run.say("no pictures: %s has no matplotlib" % sys.executable)
        if args.write and drawn:
            draw(run, PICTURES, "--svg", "--only", ",".join(SHOWN))
        return 0 if settle(run, write_report(run, drawn), args.write) else 1
    except subprocess.CalledProcessError as problem:
        print("reproduce.py: failed: %s" % " ".join(problem.cmd[:4]), file=sys.stderr)
    except (Refused, OSError) as problem:
        print("reproduce.py: %s" % problem, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
