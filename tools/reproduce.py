#!/usr/bin/env python3
"""Every experiment on the demo model, and a report of them.

    reproduce.py [--lape PATH] [-t N] [--write FILE] [--again]

Tables land in demo/out/report/, with pictures where matplotlib is; the report is
demo/out/REPORT.md. README.md's section between its marks must be what this run found; --write puts
it into FILE, and the pictures that it shows into demo/pictures/. Python's standard library alone,
but for the pictures.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time

from lab import report, tables

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODEL, OUT, TABLES, PICTURES = "demo/model.gguf", "demo/out", "demo/out/report", "demo/pictures"
LANGUAGES = ["en", "zh", "fr", "es", "vi", "id", "ja"]
MARKS = "<!-- results: begin -->\n", "<!-- results: end -->\n"
SHOWN = ["layers", "matrix", "dose", "steer", "reliability", "overlap"]     # in README.md

# What bounds the time: a few minutes on two cores.
SEQ = ["--seq", "128"]
SWEEP = ["--top", "0.01,0.02,0.04,0.08,0.16", "--filter", "0.95", "--bar", "0.95,0.97,0.99",
         "--tokens", "512"]
OUTPUT = ["-n", "16", "--repeat-penalty", "1.2"]
PUSHES = ["--how", "replace,add,scale,diffmean", "--strength", "5,20"]
FOUND_ON = 3, 4          # of the sentences of *.count.txt, the sweep finds on 3 of 4


class Run:
    def __init__(self, args):
        self.lape, self.start = args.lape, time.time()
        self.threads = ["-t", str(args.threads)] if args.threads else []

    def say(self, text):
        print("%4.0f s  %s" % (time.time() - self.start, text), flush=True)

    def call(self, *words):
        subprocess.run(words, cwd=ROOT, check=True)

    def count(self, texts, output):
        self.call(self.lape, "count", MODEL, *texts, *SEQ, *self.threads, "-q", "-o", output)

    def experiment(self, name, *words):
        self.say(name)
        self.call(sys.executable, "tools/experiments.py", name, *words, "-o", TABLES, "-q",
                  "--lape", self.lape, *self.threads)


def words_of(form):
    return [language + "=" + form % language for language in LANGUAGES]


def split_texts():
    """The sentences that were written to be counted, in two: to find on, and to judge rates by."""
    for language in LANGUAGES:
        lines = tables.read_lines(os.path.join(ROOT, "demo/text/%s.count.txt" % language))
        lines = [line for line in lines if line]
        middle = len(lines) * FOUND_ON[0] // FOUND_ON[1]
        for name, part in (("find", lines[:middle]), ("judge", lines[middle:])):
            tables.write_text(os.path.join(ROOT, TABLES, "sweep.%s.%s.txt" % (language, name)),
                              "\n".join(part) + "\n")


def rates():
    """The options that the sweep has chosen."""
    made, _ = tables.read_table(os.path.join(ROOT, TABLES, "sweep.tsv"))
    return next(line for line in made if line.startswith("best: ")).split()[1:]


def run_all(run):
    counted, held_out = words_of("demo/text/%s.count.txt"), words_of("demo/text/%s.eval.txt")
    prompts = words_of("demo/prompts/%s.txt")
    counts, neurons = TABLES + "/counts.gguf", TABLES + "/neurons.tsv"
    split_texts()
    run.say("count")
    run.count(words_of(TABLES + "/sweep.%s.find.txt"), TABLES + "/sweep.counts.gguf")
    run.count(counted, counts)
    run.experiment("sweep", MODEL, *words_of(TABLES + "/sweep.%s.judge.txt"), *SEQ, *SWEEP,
                   "--counts", TABLES + "/sweep.counts.gguf")
    run.call(run.lape, "find", counts, *rates(), "--langs", ",".join(LANGUAGES), "-q",
             "-o", neurons)
    found = ["--counts", counts, "--neurons", neurons]
    run.experiment("layers", neurons, "--counts", counts)
    run.experiment("reliability", MODEL, *counted, *SEQ, *rates())
    run.experiment("matrix", MODEL, *held_out, *SEQ, *found)
    run.experiment("dose", MODEL, *held_out, *SEQ, *found)
    run.experiment("fallback", MODEL, *prompts, "--check", *held_out, *found, *OUTPUT)
    run.experiment("steer", MODEL, *prompts, "--check", *held_out, *found, *OUTPUT, *PUSHES)


def can_draw():
    return subprocess.run([sys.executable, "-c", "import matplotlib"], check=False,
                          stderr=subprocess.DEVNULL).returncode == 0


def draw(run, folder, *words):
    run.say("pictures")
    subprocess.run([sys.executable, "tools/plot.py", TABLES, "-o", folder, *words], cwd=ROOT,
                   check=True, stdout=subprocess.DEVNULL)


def with_section(path, section):
    """The file's text with the section between its marks; None when it has no marks."""
    text = "\n".join(tables.read_lines(path))
    if text.count(MARKS[0]) != 1 or text.count(MARKS[1]) != 1:
        return None
    before, rest = text.split(MARKS[0])
    return before + MARKS[0] + section + MARKS[1] + rest.split(MARKS[1])[1]


def settle_readme(run, section, write):
    """Writes the section into a file, or checks README.md's; whether that went well."""
    path = os.path.join(ROOT, write or "README.md")
    new = with_section(path, section)
    if new is None:
        if write:
            raise tables.Refused("%s: lacks the marks %s" % (path, MARKS[0].strip()))
        run.say("README.md has no section of results")
        return True
    if write:
        tables.write_text(path, new)
    elif new != "\n".join(tables.read_lines(path)):
        run.say("README.md's results are not this run's: make reproduce WRITE=README.md")
        return False
    run.say("%s holds this run's results" % (write or "README.md"))
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--lape", default="./lape", metavar="PATH", help="the program (./lape)")
    parser.add_argument("-t", dest="threads", type=int, metavar="N",
                        help="threads (all processors)")
    parser.add_argument("--write", metavar="FILE", help="put the results between FILE's marks")
    parser.add_argument("--again", action="store_true",
                        help="only the report, from the tables that are there")
    args = parser.parse_args()
    run = Run(args)
    try:
        drawn = can_draw()
        if args.write and not drawn:
            raise tables.Refused("--write wants pictures, too: run it by a python with matplotlib")
        if not args.again:
            shutil.rmtree(os.path.join(ROOT, TABLES), ignore_errors=True)
            os.makedirs(os.path.join(ROOT, TABLES))
            run_all(run)
        if drawn:
            draw(run, TABLES)
        else:
            run.say("no pictures: %s has no matplotlib" % sys.executable)
        if args.write:
            draw(run, PICTURES, "--svg", "--only", ",".join(SHOWN))
        results = report.Results(os.path.join(ROOT, TABLES))
        tables.write_text(os.path.join(ROOT, OUT, "REPORT.md"), report.whole(results, drawn))
        run.say("wrote %s/REPORT.md" % OUT)
        return 0 if settle_readme(run, report.section(results), args.write) else 1
    except subprocess.CalledProcessError as problem:
        print("reproduce.py: failed: %s" % " ".join(problem.cmd[:4]), file=sys.stderr)
    except tables.Refused as problem:
        print("reproduce.py: %s" % problem, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
