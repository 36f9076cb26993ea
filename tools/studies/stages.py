"""A study of one model, stage by stage, for tools/real.py and tools/reproduce.py: calls of the
program and of tools/experiments.py, each said beforehand and written down in stages.tsv afterwards.
A stage that stands there is not done again while its command, the files that it names and its
output stay as they were. Standard library only.
"""

import hashlib
import os
import subprocess
import sys
import time

from guard import Refused
from studies import tables

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = "demo/out"                        # tables, in folders of their models' names
TAKEN = "report", "texts"               # names there that no model may have
LANGUAGES = ["en", "zh", "fr", "es", "vi", "id", "ja"]          # of the demo's sentences
PAPERS = ["--top", "0.01", "--filter", "0.95", "--bar", "0.95"]
# What every experiment writes last.
LAST = {"matrix": "matrix-summary", "dose": "dose", "steer": "steer-generations",
        "fallback": "fallback-generations", "reliability": "reliability-bar", "layers": "overlap",
        "sweep": "sweep", "contexts": "contexts"}
COLUMNS = ["stage", "seconds", "files", "command"]


def sum_of(path):
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def from_root(path):
    """As it is called from the top folder, where all stages run; what lies elsewhere, in full."""
    path = os.path.abspath(path)
    return os.path.relpath(path, ROOT) if path.startswith(ROOT + os.sep) else path


def out_folder(model):
    """The folder for a model's tables, of the model's name."""
    name = os.path.splitext(os.path.basename(model))[0]
    if not os.path.isfile(model) or ("-" + name).endswith(tuple("-" + one for one in TAKEN)):
        raise Refused(model, "is no file, or has the name of other tables' folder in " + OUT)
    return "%s/%s" % (OUT, name)


def words_of(form):
    """LANG=FILE of every language."""
    return [language + "=" + form % language for language in LANGUAGES]


class Stages:
    """Paths are relative to the top folder. threads: None for all processors; pieces: how texts
    are cut, as options."""

    def __init__(self, model, folder, lape, threads, pieces, quiet):
        self.model, self.tables, self.lape = model, folder, lape
        self.threads = ["-t", str(threads)] if threads else []
        self.pieces, self.quiet = list(pieces), ["-q"] if quiet else []
        self.start = time.time()

    def say(self, text):
        print("%4.0f s  %s" % (time.time() - self.start, text), flush=True)

    def path(self, name):
        return os.path.join(ROOT, self.tables, name)

    def signature(self, words):
        """Of the files that words name, alone or as LANG=FILE: their names, sizes and times."""
        files = [os.path.join(ROOT, word.partition("=")[2] or word) for word in words]
        known = [(path, os.stat(path)) for path in files if os.path.isfile(path)]
        said = ["%s %d %d\n" % (path, stat.st_size, stat.st_mtime_ns) for path, stat in known]
        return hashlib.sha256("".join(said).encode()).hexdigest()[:16]

    def done(self):
        """The stages that were done, by name."""
        path = self.path("stages.tsv")
        rows = tables.read_table(path)[1] if os.path.exists(path) else []
        return {row["stage"]: row for row in rows}

    def stage(self, name, output, program, words, rest=()):
        """Calls a program with words, `-o output`, and the rest, which does not change results."""
        was, rows = {"command": " ".join(words), "files": self.signature(words)}, self.done()
        target = output if name not in LAST else "%s/%s.tsv" % (output, LAST[name])
        if os.path.exists(os.path.join(ROOT, target)) and all(
                rows.get(name, {}).get(key) == value for key, value in was.items()):
            self.say("%s: there already, in %s" % (name, target))
            return
        self.say(name)
        start = time.time()
        subprocess.run([*program, *words, "-o", output, *rest, *self.quiet], cwd=ROOT, check=True)
        rows[name] = {"stage": name, "seconds": "%.1f" % (time.time() - start), **was}
        tables.write_table(self.path("stages.tsv"), ["what was done, on which files (a digest of "
                           "names, sizes and times), and how long it took"], COLUMNS,
                           [[row[column] for column in COLUMNS] for row in rows.values()])

    def count(self, texts, output, name="count"):
        """What was counted before a break is not counted again."""
        self.stage(name, output, [self.lape], ["count", self.model, *texts, *self.pieces,
                                               "--save-every", "300", "--resume"],
                   self.threads)

    def find(self, counts, languages, output, *options):
        self.stage("find", output, [self.lape], ["find", counts, *options, "--langs",
                                                 ",".join(languages)])

    def experiment(self, name, *words):
        self.stage(name, self.tables, [sys.executable, "tools/experiments.py"],
                   [name, *words], ["--lape", self.lape, *self.threads])
