"""The program `lape`, as the experiments call it. Standard library only."""

import itertools
import math
import os
import re
import subprocess
import tempfile

from formats.npy import write_npy
from guard import Refused
from studies import tables

MOST_TEXTS = 200         # in one call: the program takes 255
MARK = "lape:mark:lape"  # which texts are not likely to hold


class Failed(Exception):
    """`lape` failed, and has said so itself in one line."""


class Program:
    def __init__(self, path, threads=None, quiet=False, pieces=()):
        """threads: None for all processors. pieces: how texts are cut, as options of `lape`."""
        self.path, self.threads, self.quiet, self.pieces = path, threads, quiet, list(pieces)
        self.folder = tempfile.TemporaryDirectory(prefix="lape.")
        self.files = itertools.count()       # next() of it is safe in several threads

    def temporary(self, name):
        """The path of a new file that goes when the program ends."""
        return os.path.join(self.folder.name, "%d-%s" % (next(self.files), name))

    def start(self, *words, how=subprocess.Popen, **options):
        try:
            return how([self.path, *words], **options)
        except OSError as problem:
            raise Refused("%s: cannot be run: %s" % (self.path, problem.strerror))

    def run(self, *words, quiet=False, **options):
        done = self.start(*words, *(["-q"] if quiet or self.quiet else []), how=subprocess.run,
                          check=False, **options)
        if done.returncode:
            raise Failed()
        return done

    def on_threads(self):
        return ["-t", str(self.threads)] if self.threads else []

    def count(self, model, texts, output, *options):
        self.run("count", model, *texts_of(texts), *self.pieces, *self.on_threads(), *options,
                 "-o", output)

    def merge(self, parts, output):
        self.run("merge", *parts, "-o", output, quiet=True)

    def find(self, counts, languages, output=None, **options):
        """A list of neurons, kept in `output` only; options as `lape find` has them: top=0.01,
        method="lap"."""
        path = output or self.temporary("found.tsv")
        words = [word for name, value in options.items()
                 for word in ("--" + name.replace("_", "-"), str(value))]
        self.run("find", counts, "--langs", ",".join(languages), *words, "-o", path, quiet=True)
        found = tables.NeuronList(path)
        if not output:
            os.unlink(path)
        return found

    def perplexities(self, model, texts, sets, like):
        """Plain, by text; and by key of sets, each a set of neurons that are at 0 together.

        Equal sets are computed once, and an empty one is the plain model. `like` is a NeuronList
        of the same model."""
        different = {frozenset(places) for places in sets.values()} - {frozenset()}
        label = {places: "L%d" % i for i, places in enumerate(sorted(different, key=sorted))}
        row = self.ppl(model, texts, {name: places for places, name in label.items()}, like)
        return row["none"], {key: row[label[frozenset(places)] if places else "none"]
                             for key, places in sets.items()}

    def perplexities_at_means(self, model, texts, by, like, counts):
        """By language, its neurons being at their mean in the counts' other languages."""
        return self.ppl(model, texts, by, like, "--counts", counts, "--off-how", "mean")

    def ppl(self, model, texts, sets, like, *options):
        """{"none" or a label of sets: {text: perplexity}}"""
        neurons, output = self.temporary("neurons.tsv"), self.temporary("ppl.tsv")
        tables.save_neurons(neurons, like, sets)
        self.run("ppl", model, *texts_of(texts), *self.pieces, *self.on_threads(), "-o", output,
                 *(["--neurons", neurons] if sets else []), *options)
        return {row.pop("off"): {text: float(value) for text, value in row.items()}
                for row in tables.read_table(output)[1]}

    def generate(self, model, prompts, tokens, *options):
        """(prompt, output, ids) of every line of the file; on one thread, quietly, since several
        of these run at once."""
        output = self.temporary("generated.tsv")
        self.run("generate", model, "-f", prompts, "-n", str(tokens), "-t", "1", *options,
                 "-o", output, quiet=True)
        rows = tables.read_table(output)[1]
        os.unlink(output)
        return [(row["prompt"], row["output"], [int(i) for i in row["tokens"].split()])
                for row in rows]

    def info(self, path):
        """What is said of a file, by key; the model that counts or neurons are of is "model"."""
        said = self.run("info", path, stdout=subprocess.PIPE, quiet=True).stdout.decode()
        lines = [line.split(": ", 1) for line in said.split("\n") if ": " in line]
        return {re.sub("^(counts|neurons) of ", "", key): value for key, value in lines}

    def tokenize(self, model, path):
        """The ids of a text."""
        with open(path, "rb") as text:
            done = self.run("tokenize", model, stdin=text, stdout=subprocess.PIPE, quiet=True)
        return [int(word) for word in done.stdout.split()]

    def tokenize_text(self, model, path):
        """The ids of every line of a text, a line at a time. What `lape` says of standard input,
        one line at most, becomes a refusal of the text."""
        with open(path, "rb") as text:
            process = self.start("tokenize", model, "--lines", "-q", stdin=text,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process:
            for line in process.stdout:
                yield [int(word) for word in line.split()]
            said = process.stderr.read().decode("utf-8", "replace").strip()
        if process.returncode:
            raise Refused(path, re.sub("^lape: ", "", said) or "lape tokenize failed")

    def tokenize_lines(self, model, lines):
        """The ids of every line, each encoded by itself."""
        done = self.run("tokenize", model, "--lines", stdout=subprocess.PIPE, quiet=True,
                        input="".join(line + "\n" for line in lines).encode())
        return [[int(word) for word in ids.split()] for ids in done.stdout.splitlines()]

    def decode(self, model, lists):
        """The bytes that lists of ids stand for. Line ends may be among them, so what tells one
        list's from the next is a line between: MARK, as the model writes it."""
        mark, = self.tokenize_lines(model, [MARK])
        lines = [mark] + [line for ids in lists for line in (ids, mark)]
        said = self.run("tokenize", model, "--decode", "--lines", stdout=subprocess.PIPE,
                        quiet=True, input="".join(
                            " ".join(map(str, ids)) + "\n" for ids in lines).encode()).stdout
        parts = said.split(said[:said.index(b"\n") + 1])
        if len(parts) != len(lists) + 2:
            raise Refused(model, "its tokenizer writes '%s' as what texts hold, too" % MARK)
        return [part[:-1] for part in parts[1:-1]]

    def trace(self, model, ids, at, *options):
        """The path of a tensor of the forward pass over a text's ids."""
        text, output = self.temporary("ids.npy"), self.temporary("trace.npy")
        write_npy(text, ids)
        self.run("trace", model, text, "--at", at, *options, *self.on_threads(), "-o", output,
                 quiet=True)
        os.unlink(text)
        return output

    def fluency(self, model, outputs):
        """outputs: by key, lists of ids. By key, the plain model's perplexity of them: as
        `lape ppl` has it, every output being a piece, behind a BOS where pieces have one. A key
        without an output of two tokens is left out."""
        lengths = sorted({len(ids) for lists in outputs.values() for ids in lists if len(ids) > 1})
        loss = {}                                # by key: outputs, and the sum of their mean losses
        for length in lengths:
            have = {key: [ids for ids in lists if len(ids) == length]
                    for key, lists in outputs.items()}
            have = {key: lists for key, lists in have.items() if lists}
            for key, value in self.fluency_of(model, have, length).items():
                n, total = loss.get(key, (0, 0.0))
                loss[key] = n + len(have[key]), total + len(have[key]) * math.log(value)
        return {key: math.exp(total / n) for key, (n, total) in loss.items()}

    def fluency_of(self, model, outputs, length):
        """The same of outputs that are all of one length."""
        keys, value = list(outputs), {}
        bos = ["--bos"] if "--bos" in self.pieces else []
        for start in range(0, len(keys), MOST_TEXTS):
            texts = {}
            for i, key in enumerate(keys[start:start + MOST_TEXTS]):
                texts["T%d" % i] = self.temporary("ids.npy")
                write_npy(texts["T%d" % i], sum(outputs[key], []))
            table = self.temporary("ppl.tsv")
            self.run("ppl", model, *texts_of(texts), "--seq", str(length + len(bos)), *bos,
                     *self.on_threads(), "-o", table, quiet=True)
            row = tables.read_table(table)[1][0]
            for i, key in enumerate(keys[start:start + MOST_TEXTS]):
                value[key] = float(row["T%d" % i])
        return value


def texts_of(texts):
    """LANG=FILE, as the program wants them."""
    return ["%s=%s" % item for item in texts.items()]
