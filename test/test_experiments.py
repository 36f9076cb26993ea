#!/usr/bin/env python3
"""Tests of tools/experiments.py: its sums against values worked out by hand, its tables against
what `lape` itself says when asked directly, its messages.

    LAPE=./lape python3 test/test_experiments.py [NAME...]

Standard library only; the demo model with tiny settings.
"""

import array
import collections
import contextlib
import functools
import hashlib
import io
import math
import os
import random
import struct
import subprocess
import sys
import tempfile
import types
import unittest
import unittest.mock
import warnings

from paths import DEMO, LAPE, ROOT
import experiments
import report
import reproduce
from formats.npy import Floats, write_npy
from studies import (ablation, bayes, common, confusion, contexts, purity, selection, steering,
                     tables)
from studies import report as study_report
from studies.program import Program
from studies.second import Second

LANGUAGES = ["fr", "en", "zh"]
RATES = ["--top", ".06", "--filter", ".9", "--bar", ".9"]
SHARED = tempfile.TemporaryDirectory(prefix="test_experiments.")


def shared(name):
    return os.path.join(SHARED.name, name)


def write(name, text):
    os.makedirs(os.path.dirname(shared(name)), exist_ok=True)
    with open(shared(name), "w", encoding="utf-8") as file:
        file.write(text)
    return shared(name)


def texts(kind):
    return ["%s=%s/demo/text/%s.%s.txt" % (name, ROOT, name, kind) for name in LANGUAGES]


def lape(*words):
    return subprocess.run([LAPE, *words, "-q"], check=True, stdout=subprocess.PIPE).stdout.decode()


@functools.lru_cache(None)
def counts():
    lape("count", DEMO, *texts("count"), "--seq", "64", "--tokens", "3072", "-o",
         shared("counts.gguf"))
    return shared("counts.gguf")


@functools.lru_cache(None)
def neurons():
    lape("find", counts(), *RATES, "--langs", ",".join(LANGUAGES), "-o", shared("neurons.tsv"))
    return shared("neurons.tsv")


@functools.lru_cache(None)
def prompts():
    given = {"en": "The window is\nOpen the\n", "fr": "Les enfants\nLe matin\n",
             "zh": "打开\n我们\n"}
    return tuple("%s=%s" % (name, write(name + ".prompts", given[name])) for name in LANGUAGES)


def run(*words):
    """The program's own process: status, what it says on stderr."""
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "experiments.py"), *words,
                           "--lape", LAPE], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          cwd=SHARED.name, timeout=120)
    return done.returncode, done.stderr.decode()


def made(name, command, *words):
    """The folder of an experiment that must go well."""
    folder = shared(name)
    status, said = run(command, *words, "-o", folder, "-q")
    if status or said:
        raise AssertionError("%s: %d: %s" % (command, status, said))
    return folder


def rows(folder, name, **wanted):
    return [row for row in tables.read_table(os.path.join(folder, name + ".tsv"))[1]
            if all(row[key] == value for key, value in wanted.items())]


class Sums(unittest.TestCase):
    """Values by hand."""

    def test_jaccard(self):
        self.assertEqual(selection.jaccard({1, 2, 3}, {2, 3, 4, 5}), 2 / 5)
        self.assertEqual(selection.jaccard({1}, set()), 0)
        self.assertEqual(selection.jaccard(set(), set()), 1)

    def test_wilson(self):
        # 10 of 100, as tables of the score interval have it
        low, high = selection.wilson(10, 100)
        self.assertAlmostEqual(low, 0.05523, 5)
        self.assertAlmostEqual(high, 0.17437, 5)
        # the ends solve (p - p0)^2 = z^2 p (1 - p) / n
        for end in (low, high):
            self.assertAlmostEqual((0.1 - end) ** 2, selection.Z ** 2 * end * (1 - end) / 100)
        self.assertAlmostEqual(selection.wilson(0, 10)[0], 0)

    def test_overdispersion(self):
        # p = 1/4; (2-1)^2 and (0-1)^2 by 4 x 3/16, over one degree of freedom
        self.assertAlmostEqual(selection.overdispersion([2, 0], [4, 4]), 2 / 0.75)
        self.assertAlmostEqual(selection.overdispersion([1, 1], [4, 4]), 0)
        self.assertEqual(selection.overdispersion([0, 0], [4, 4]), 1)
        draw = random.Random(1)
        many = [selection.overdispersion([sum(draw.random() < .3 for _ in range(50))
                                          for _ in range(16)], [50] * 16) for _ in range(200)]
        self.assertAlmostEqual(common.mean(many), 1, delta=0.1)

    def test_correlation(self):
        self.assertAlmostEqual(selection.correlation([1, 2, 3], [2, 4, 6]), 1)
        self.assertAlmostEqual(selection.correlation([1, 2, 3], [1, 3, 2]), 0.5)
        self.assertTrue(math.isnan(selection.correlation([1, 1], [1, 2])))

    def test_quarters(self):
        self.assertEqual([selection.quarter(i, 8) for i in range(8)], [1, 1, 2, 2, 3, 3, 4, 4])
        self.assertEqual([selection.quarter(i, 6) for i in range(6)], [1, 1, 2, 3, 3, 4])

    def test_parts_of_the_whole(self):
        groups = selection.parts_of_the_whole(list("abcd"))
        self.assertEqual(groups[4, 3], ["c"])
        self.assertEqual(groups[2, 1], ["a", "c"])
        self.assertEqual(groups[2, 2], ["b", "d"])
        self.assertEqual(groups[1, 1], list("abcd"))
        self.assertEqual(len(groups), 7)

    def test_judge(self):
        change = {"a": {"a": 10, "b": 2}, "b": {"a": 12, "b": 6}}
        # own (10 + 6) / 2, others (2 + 12) / 2; row a is right, row b is not; column a is b's,
        # column b is right
        self.assertEqual(ablation.judge(change), (8, 7, 1, 1))
        self.assertAlmostEqual(
            ablation.margin_of({"a": {"a": 100, "b": 0}, "b": {"a": 0, "b": 0}}), math.log(2) / 2)

    def test_random_mean(self):
        value, deviation = ablation.random_mean([{"a": {"t": 1.0}}, {"a": {"t": 3.0}}])
        self.assertEqual(value, {"a": {"t": 2}})
        self.assertAlmostEqual(deviation["a"]["t"], math.sqrt(2))

    def test_choose(self):
        few, many, more = ([0, 0, 0, n, 0, own] for n, own in ((5, 24), (9, 26), (12, 40)))
        self.assertEqual(ablation.choose([few, more, many], 25), many)
        self.assertEqual(ablation.choose([few, many, more], 50), more)

    def test_next_off(self):
        following = functools.partial(steering.next_off, prompt="b",
                                      languages=["a", "b", "c"])
        self.assertEqual(following(off=[], taken=["a", "a", "b"]), "b")
        self.assertEqual(following(off=["b"], taken=["b", "b", "c"]), "c")
        self.assertEqual(following(off=["b"], taken=["b"]), "a")
        self.assertIsNone(following(off=["b", "a", "c"], taken=["b"]))

    def test_best_push(self):
        summary = [{"mode": mode, "how": how, "success": success, "perplexity": perplexity}
                   for mode, how, success, perplexity in (
                       ("on", "add", 99, 1), ("off+on", "add", 50, 9), ("off+on", "scale", 60, 10),
                       ("off+on", "replace", 90, 11))]
        self.assertEqual(steering.best_push(summary, 10)["how"], "scale")
        self.assertEqual(steering.best_push(summary, 1)["how"], "replace")

    def test_distinct(self):
        self.assertEqual(steering.distinct([[1, 1, 2], [1]]), 3 / 4)


class NaiveBayes(unittest.TestCase):
    def setUp(self):
        self.bayes = bayes.Bayes({"a": [8, 2, 0], "b": [2, 8, 0]})

    def test_probabilities(self):
        self.assertAlmostEqual(self.bayes.log["a"][0], math.log(8.1 / 10.3))
        self.assertAlmostEqual(self.bayes.log["a"][2], math.log(0.1 / 10.3))
        self.assertAlmostEqual(sum(map(math.exp, self.bayes.log["b"])), 1)

    def test_classes(self):
        self.assertEqual(self.bayes.classify([0, 0, 1]), "a")
        self.assertEqual(self.bayes.classify([1, 0, 1]), "b")
        self.assertEqual(self.bayes.classify([2]), "a")     # equals: the first
        self.assertEqual(self.bayes.classify([]), "-")

    def test_without(self):
        """What is left out has to be in the histogram; by hand."""
        self.assertAlmostEqual(self.bayes.likelihood("a", [0, 1]),
                               math.log(8.1 / 10.3) + math.log(2.1 / 10.3))
        self.assertAlmostEqual(self.bayes.without("a", [0, 0, 1], 1),
                               2 * math.log(6.1 / 7.3) + math.log(1.1 / 7.3))
        self.assertAlmostEqual(self.bayes.without("a", [0, 0, 1], 2),
                               2 * math.log(4.1 / 4.3) + math.log(0.1 / 4.3))
        self.assertAlmostEqual(self.bayes.without("a", [0, 1, 2], 0),
                               self.bayes.likelihood("a", [0, 1, 2]))

    def test_confusion(self):
        table = bayes.confusion(self.bayes, {"a": [0, 0, 1, 1, 0], "b": [1, 1]}, 2)
        self.assertEqual(table, {"a": {"a": 1, "b": 1}, "b": {"a": 0, "b": 1}})
        self.assertEqual(bayes.accuracy(table), 0.75)


class Lines(unittest.TestCase):
    """The line-level pass rate, by hand."""

    def test_words(self):
        for line, words in (("", 0), (" - — ... ", 0), ("It's well-known, isn't it?", 4),
                            ("No. 5 is here", 4), ("我们打开窗户。", 3), ("ひらがな カー!", 3),
                            ("我用Python 3写", 3.5), ("ภาษา", 2), ("Xin chào các bạn nhé", 5)):
            self.assertEqual(confusion.words_in(line), words, line)

    def test_lines(self):
        self.assertEqual(confusion.lines_of(" is open and we sing\n\nso\nit is a new day\n"),
                         [" is open and we sing", "it is a new day"])
        self.assertEqual(confusion.lines_of("only four words here\n"), [])
        self.assertEqual(len(confusion.lines_of("我" * 10 + "\n" + "我" * 9)), 1)

    def test_languages(self):
        """Every line's answer comes to the line; all are asked at once."""
        asked = []

        def tell(lines):
            asked.append(lines)
            return [line[0] for line in lines]

        told = confusion.line_languages({
            "k": ["a b c d e\nf g h i j", "too short"], "l": ["k l m n o\nx\np q r s t"]}, tell)
        self.assertEqual(told, {"k": [["a", "f"], []], "l": [["k", "p"]]})
        self.assertEqual(len(asked), 1)

    def test_pass_rate(self):
        outputs = [["en", "en"], ["en", "fr"], ["fr"], []]
        self.assertAlmostEqual(confusion.pass_rate(outputs, "en"), 100 / 3)
        self.assertEqual(confusion.judged(outputs), 3)
        self.assertTrue(math.isnan(confusion.pass_rate([[], []], "en")))

    def test_over_pairs(self):
        """A pair without a line to judge has no say; the perplexity's mean is geometric."""
        self.assertEqual(steering.over_pairs("lpr", [50, math.nan, 100]), 75)
        self.assertEqual(steering.over_pairs("second_lpr", [50, "-"]), "-")
        self.assertAlmostEqual(steering.over_pairs("perplexity", [2, 8]), 4)
        self.assertTrue(math.isnan(steering.over_pairs("distinct", [1, math.nan])))

    def test_unescaped(self):
        """What the program escapes."""
        self.assertEqual(tables.unescaped(r"a\nb\tc\rd\\ne\\\nf"), "a\nb\tc\rd\\ne\\\nf")

    def test_tokens_of_lines(self):
        """Each line's as if it stood alone."""
        lines = ["The window is open.", "我们", " x"]
        alone = [[int(word) for word in subprocess.run(
            [LAPE, "tokenize", DEMO], input=line.encode(), check=True,
            stdout=subprocess.PIPE).stdout.split()] for line in lines]
        program = Program(LAPE, quiet=True)
        self.assertEqual(program.tokenize_lines(DEMO, lines), alone)
        self.assertEqual(program.tokenize_lines(DEMO, []), [])


class Files(unittest.TestCase):
    def test_table(self):
        path = shared("table.tsv")
        tables.write_table(path, ["made: so"], ["a", "b"], [["x", 1 / 3], ["y", 2]])
        with open(path) as file:
            self.assertEqual(file.read(), "# made: so\na\tb\nx\t0.333333\ny\t2\n")
        self.assertEqual(tables.read_table(path), (["made: so"], [{"a": "x", "b": "0.333333"},
                                                                  {"a": "y", "b": "2"}]))

    def test_columns_of_one_name(self):
        """Neither written nor read: the last would hide the others."""
        with self.assertRaisesRegex(tables.Refused, "two columns are named 'off'"):
            tables.write_table(shared("twice.tsv"), [], ["off", "en", "off"], [[1, 2, 3]])
        self.assertFalse(os.path.exists(shared("twice.tsv")))
        with self.assertRaisesRegex(tables.Refused, "two columns are named 'en'"):
            tables.read_table(write("twice.tsv", "off\ten\ten\n1\t2\t3\n"))

    def test_links_and_pipes(self):
        """A link stays one, a pipe takes what is written, and nobody's file is written over."""
        folder = shared("links")
        os.mkdir(folder)
        link, target = (os.path.join(folder, name) for name in ("link", "target"))
        os.symlink("target", link)
        with self.assertRaisesRegex(tables.Refused, "link: is a link to .*target, which is not"):
            tables.write_text(link, "new")
        self.assertEqual(os.listdir(folder), ["link"])
        write(os.path.join("links", "target"), "older")
        tables.write_text(link, "new")
        self.assertEqual(os.readlink(link), "target")
        with open(target) as file:
            self.assertEqual(file.read(), "new")
        pipe = os.path.join(folder, "pipe")
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        tables.write_text(pipe, "through")
        self.assertEqual(os.read(reader, 99), b"through")
        os.close(reader)
        tables.write_text(os.devnull, "through")
        with self.assertRaisesRegex(tables.Refused, "links: is not a plain file"):
            tables.write_text(folder, "new")
        theirs = write(os.path.join("links", "target.%d.tmp" % os.getpid()), "theirs")
        with self.assertRaisesRegex(tables.Refused, "tmp is in the way"):
            tables.write_text(link, "newer")
        with open(theirs) as file:
            self.assertEqual(file.read(), "theirs")
        self.assertEqual(sorted(os.listdir(folder)),
                         ["link", "pipe", "target", os.path.basename(theirs)])

    def test_neurons(self):
        found = tables.NeuronList(neurons())
        self.assertEqual(found.languages, LANGUAGES)
        said = lape("info", neurons())
        for name in LANGUAGES:
            self.assertIn("%s %d" % (name, len(found.of(name))), said)
        self.assertEqual(found.rate("top", 0), 0.06)
        tables.save_neurons(shared("copy.tsv"), found, {name: found.of(name)
                                                        for name in LANGUAGES})
        said = lape("info", shared("copy.tsv"))
        for name in LANGUAGES:
            self.assertIn("%s %d" % (name, len(found.of(name))), said)

    def test_section(self):
        """What stands between a file's marks is replaced, and nothing else."""
        form = "a\n<!-- %s: begin -->\n%s\n<!-- %s: end -->\nb\n"
        path = write("marks.md", form % ("results", "old", "results")
                     + form % ("results of x", "older", "results of x"))
        self.assertEqual(reproduce.with_section(path, "new\n"),
                         form % ("results", "new", "results")
                         + form % ("results of x", "older", "results of x"))
        self.assertEqual(reproduce.with_section(path, "new\n", "results of x"),
                         form % ("results", "old", "results")
                         + form % ("results of x", "new", "results of x"))
        self.assertIsNone(reproduce.with_section(path, "new\n", "results of y"))

    def test_bar(self):
        """The bar in the header is the one that members are above, and others not."""
        found = tables.NeuronList(neurons())
        for row in found.rows:
            for name, p in zip(found.languages, row.p):
                self.assertEqual(name in row.languages, p > found.bar_value())

    def test_counts(self):
        read = tables.Counts(counts())
        self.assertEqual(read.languages, sorted(LANGUAGES))
        self.assertEqual((read.layers, read.piece, set(read.tokens.values())), (6, 64, {3072}))
        self.assertEqual(sum(read.histogram("en")), 3072)
        found = tables.NeuronList(neurons())
        for row in found.rows[:50]:
            at = row.place[0] * found.neurons + row.place[1]
            for name, p in zip(found.languages, row.p):
                self.assertAlmostEqual(read.positive(name)[at] / 3072, p, 8)

    def test_refused(self):
        with open(counts(), "rb") as file:
            good = file.read()
        for n in (0, 3, 8, 24, 100, len(good) // 2):
            path = shared("cut.gguf")
            with open(path, "wb") as file:
                file.write(good[:n])
            with self.assertRaises(tables.Refused, msg=str(n)):
                tables.Counts(path).histogram("zh")
        with self.assertRaises(tables.Refused):
            tables.Counts(DEMO)
        for text in ("", "a\tb\n1\n", "layer\tneuron\tlape\tlanguages\n0\t0\t1\ten\n",
                     "# layers: 1\n# neurons: 1\n# languages: en\nlayer\tneuron\tlape\tlanguages\n"
                     "0\t1\t1\ten\n",
                     "# layers: 1\n# neurons: 1\n# languages: en\nlayer\tneuron\tlape\tlanguages\n"
                     "0\t0\t1\tfr\n"):
            with self.assertRaises(tables.Refused, msg=text):
                tables.NeuronList(write("bad.tsv", text))

    def test_once(self):
        """Lists and counts in which something is there twice, or a label that is none."""
        good = ("# layers: 1\n# neurons: 2\n# languages: en fr\nlayer\tneuron\tlape\tlanguages\n"
                "0\t0\t1\ten\n0\t1\t1\tfr\n")
        self.assertEqual(len(tables.NeuronList(write("bad.tsv", good)).rows), 2)
        for old, new, word in (
                ("en fr", "en fr en", "'en'"), ("en fr", "en fr none", "'none'"),
                ("en fr", "en fr -", "'-'"), ("en fr", "en fr e.n", "'e.n'"),
                ("# layers", "# layers: 7\n# layers", "'layers' twice"),
                ("# languages", "# languages: en\n# languages", "'languages' twice"),
                ("0\t1\t1", "0\t0\t1", "must ascend")):
            with self.assertRaisesRegex(tables.Refused, word, msg=new):
                tables.NeuronList(write("bad.tsv", good.replace(old, new, 1)))
        with open(counts(), "rb") as file:
            whole = file.read()
        for old, new in ((b"zh.positive", b"fr.positive"), (b"zh", b"fr"), (b"zh", b"z."),
                         (b"lape-counts.bos", b"lape-counts.layers")):
            old, new = (struct.pack("<Q", len(name)) + name for name in (old, new))
            self.assertIn(old, whole)
            with open(shared("cut.gguf"), "wb") as file:
                file.write(whole.replace(old, new, 1))
            with self.assertRaises(tables.Refused, msg=str(new)):
                tables.Counts(shared("cut.gguf"))

    def test_npy(self):
        """What is written for `lape ppl` is what it reads."""
        ids = [int(word) for word in subprocess.run(
            [LAPE, "tokenize", DEMO], input=b"The window is open, and the children play.",
            check=True, stdout=subprocess.PIPE).stdout.split()]
        write_npy(shared("ids.npy"), ids)
        text = write("ids.txt", "The window is open, and the children play.")
        of_ids, of_text = (lape("ppl", DEMO, "x=" + path, "--seq", str(len(ids)))
                           for path in (shared("ids.npy"), text))
        self.assertEqual(of_ids, of_text)


class Ablation(unittest.TestCase):
    OPTIONS = ["--seq", "64", "--tokens", "128"]

    @functools.lru_cache(None)
    def matrix(self):
        return made("matrix", "matrix", DEMO, *texts("eval"), "--counts", counts(), "--neurons",
                    neurons(), "--draws", "2", "--means", *self.OPTIONS)

    def test_is_what_lape_says(self):
        self.compare("lape")

    def test_at_means(self):
        """The same neurons at their mean in the other languages: another change, also by `lape`."""
        self.compare("lape-mean", "--counts", counts(), "--off-how", "mean")
        zero, at_mean = (rows(self.matrix(), "matrix", selection=name, off="fr", text="fr")[0]
                         for name in ("lape", "lape-mean"))
        self.assertEqual(zero["neurons"], at_mean["neurons"])
        self.assertGreater(abs(float(zero["percent"]) - float(at_mean["percent"])), .1)

    def compare(self, selection, *options):
        lines = lape("ppl", DEMO, *texts("eval"), "--neurons", neurons(), *self.OPTIONS,
                     *options).split("\n")
        heads, plain = lines[0].split("\t"), [float(x) for x in lines[1].split("\t")[1:]]
        checked = 0
        for line in lines[2:-1]:
            off, *values = line.split("\t")
            for text, before, after in zip(heads[1:], plain, map(float, values)):
                row, = rows(self.matrix(), "matrix", selection=selection, off=off, text=text)
                for name, value in (("plain", before), ("perplexity", after),
                                    ("change", after - before), ("nats", math.log(after / before)),
                                    ("percent", (after / before - 1) * 100)):
                    self.assertAlmostEqual(float(row[name]), value, delta=abs(value) * 1e-5 + 1e-6)
                checked += 1
        self.assertEqual(checked, 9)

    def test_summary_in_nats(self):
        for kind in "lape", "lap", "random":
            nats = {(row["off"], row["text"]): float(row["nats"])
                    for row in rows(self.matrix(), "matrix", selection=kind)}
            row, = rows(self.matrix(), "matrix-summary", selection=kind)
            for name, own in (("own_nats", True), ("others_nats", False)):
                values = [value for (a, b), value in nats.items() if (a == b) == own]
                self.assertAlmostEqual(float(row[name]), sum(values) / len(values), 4)

    def test_equal_budget(self):
        sizes = {}
        for row in rows(self.matrix(), "matrix"):
            sizes.setdefault(row["off"], set()).add(row["neurons"])
        found = tables.NeuronList(neurons())
        self.assertEqual(sizes, {name: {str(len(found.of(name)))} for name in LANGUAGES})
        self.assertEqual({row["selection"] for row in rows(self.matrix(), "matrix-summary")},
                         {name + end for end in ("", "-mean") for name in (
                             "lape", "lap", "lave", "random-1", "random-2", "random")})

    def test_baseline_is_the_start_of_find(self):
        """The first n of a language: of the smallest --top that gives it so many."""
        args = types.SimpleNamespace(counts=counts(), filter=.9, bar=.9)
        found = tables.NeuronList(neurons())
        growing = ablation.Growing(Program(LAPE, quiet=True), args, found, "lap")
        for n in (1, 7, 30):
            first = growing.first("en", n)
            self.assertEqual(len(first), n)
            selected = next(m for m in sorted(growing.known) if growing.known[m]["en"] == first)
            self.assertEqual(len(growing.of(selected - 1, "en")), n - 1)
            self.assertLess(growing.of(selected - 1, "en"), first)

    def test_random(self):
        self.compare_draws("")

    def test_random_at_means(self):
        self.compare_draws("-mean")

    def compare_draws(self, end):
        draws = [float(rows(self.matrix(), "matrix", selection="random-%d%s" % (i, end), off="en",
                            text="fr")[0]["percent"]) for i in (1, 2)]
        row, = rows(self.matrix(), "matrix", selection="random" + end, off="en", text="fr")
        self.assertNotEqual(*draws)
        self.assertAlmostEqual(float(row["percent"]), sum(draws) / 2, 5)
        nats = sum(math.log1p(draw / 100) for draw in draws) / 2
        self.assertAlmostEqual(float(row["nats"]), nats, 5)
        self.assertAlmostEqual(float(row["spread"]), abs(draws[0] - draws[1]) / math.sqrt(2), 5)

    def test_report(self):
        """Its tables and sentences are of the tables' numbers."""
        results = study_report.Results(self.matrix())
        lape_row, = rows(self.matrix(), "matrix-summary", selection="lape")
        own = "%+.1f %%" % float(lape_row["own"])
        self.assertIn("| lape | %s | %s |" % (lape_row["neurons"], own),
                      study_report.summary_table(results))
        said = study_report.matrix_says(results)
        self.assertIn("its own text by " + own, said)
        best = max((row for row in rows(self.matrix(), "matrix-summary")
                    if not row["selection"].startswith("random")
                    and not row["selection"].endswith("-mean")),
                   key=lambda row: float(row["own"]) - float(row["others"]))["selection"]
        self.assertEqual("No baseline" in said, best == "lape")
        row, = rows(self.matrix(), "matrix", selection="lape", off="fr", text="zh")
        self.assertIn("%+.1f %%" % float(row["percent"]), study_report.matrix_table(results))

    def test_contrast(self):
        """Own text beside the other that is hurt most, and beside random neurons; by hand."""
        folder = shared("contrast")
        os.makedirs(folder, exist_ok=True)
        percents = {("lape", "a"): [30, 5, 2], ("lape", "b"): [4, 12, 3], ("lape", "c"): [1, -2, 9],
                    ("random", "a"): [6, 0, 0], ("random", "b"): [0, -1, 0],
                    ("random", "c"): [0, 0, 1]}
        tables.write_table(os.path.join(folder, "matrix.tsv"), ["made by: hand"],
                           ["selection", "off", "text", "neurons", "percent"],
                           [[name, off, text, 7, value] for (name, off), row in percents.items()
                            for text, value in zip("abc", row)])
        results = study_report.Results(folder)
        self.assertEqual(study_report.contrasts(results), [
            ("a", "7", 30, 5, "b", 6), ("b", "7", 12, 4, "a", -1), ("c", "7", 9, 1, "a", 1)])
        self.assertIn("at least 3.0 times as much as any other (b), and at least 5.0 times as much "
                      "as by as many random neurons (a)", study_report.contrast_says(results))
        self.assertIn("| b | 7 | +12.0 % | +4.0 % (a) | -1.0 % |",
                      study_report.contrast_table(results))

    def test_contrast_of_the_unhurt(self):
        """A language whose loss does it no harm is named, and is no one's multiple."""
        found = [("a", "7", -0.7, 2.1, "b", 0.1), ("b", "7", 12, 4, "a", -1)]
        with unittest.mock.patch.object(study_report, "contrasts", return_value=found):
            said = study_report.contrast_says(None)
        self.assertIn("Not hurt by the loss of its neurons is the text of a (-0.7 %). ", said)
        self.assertIn("at least 3.0 times as much as any other (b)", said)
        with unittest.mock.patch.object(study_report, "contrasts", return_value=found[:1]):
            self.assertNotIn("times", study_report.contrast_says(None))

    def test_nats_table(self):
        results = study_report.Results(self.matrix())
        row, = rows(self.matrix(), "matrix", selection="lape", off="fr", text="zh")
        line = next(line for line in study_report.nats_table(results).split("\n")
                    if line.startswith("| fr |"))
        self.assertEqual(line.split(" | ")[-1], "%+.2f |" % float(row["nats"]))
        self.assertEqual(line.count("**"), 2)

    def test_dose(self):
        folder = made("dose", "dose", DEMO, *texts("eval"), "--counts", counts(), "--neurons",
                      neurons(), "--percent", "0,50,100", *self.OPTIONS)
        for row in rows(folder, "dose", part="0"):
            self.assertEqual((row["perplexity"], row["percent"], row["neurons"]),
                             (row["plain"], "0", "0"))
        for row in rows(folder, "dose", part="100"):
            whole, = rows(self.matrix(), "matrix", selection="lape", off=row["off"],
                          text=row["text"])
            self.assertEqual(row["perplexity"], whole["perplexity"])
        found = tables.NeuronList(neurons())
        order = ablation.lowest_first(found, "fr")
        score = {row.place: float(row.lape) for row in found.rows}
        self.assertEqual([score[place] for place in order], sorted(score[p] for p in order))
        half, = rows(folder, "dose", part="50", off="fr", text="fr")
        self.assertEqual(int(half["neurons"]), round(len(order) / 2))
        tables.save_neurons(shared("half.tsv"), found, {"fr": set(order[:int(half["neurons"])])})
        said = lape("ppl", DEMO, *texts("eval"), "--neurons", shared("half.tsv"), *self.OPTIONS)
        self.assertAlmostEqual(float(said.split("\n")[2].split("\t")[1]),
                               float(half["perplexity"]), 3)

    def test_sweep(self):
        folder = made("sweep", "sweep", DEMO, *texts("eval"), "--counts", counts(), "--top",
                      ".02,.06", "--filter", ".9", "--bar", ".9", "--enough", "0", *self.OPTIONS)
        self.assertEqual([row["top"] for row in rows(folder, "sweep")], ["0.02", "0.06"])
        whole, = rows(self.matrix(), "matrix-summary", selection="lape")
        last = rows(folder, "sweep")[1]
        self.assertEqual([last[name] for name in ("neurons", "own", "others", "rows", "columns")],
                         [whole[name] for name in ("neurons", "own", "others", "rows", "columns")])
        self.assertIn("best: --top 0.02 --filter 0.9 --bar 0.9",
                      tables.read_table(os.path.join(folder, "sweep.tsv"))[0])


class Steering(unittest.TestCase):
    OPTIONS = ["-n", "12", "--counts"]

    def test_steer(self):
        folder = made("steer", "steer", DEMO, *prompts(), "--check", *texts("eval"), "-n", "12",
                      "--counts", counts(), "--neurons", neurons(), "--how", "add", "--strength",
                      "20")
        kept = rows(folder, "steer-generations")
        self.assertEqual(len(kept), 2 * 3 * (1 + 1 + 2 + 2))
        self.assertEqual(len(rows(folder, "steer")), 4 * 6)
        for row in rows(folder, "steer"):
            wanted = {} if row["mode"] in ("none", "off") else {"wanted": row["wanted"]}
            mine = [one["language"] for one in kept if one["mode"] == row["mode"]
                    and one["prompt"] == row["prompt"]
                    and all(one[key] == value for key, value in wanted.items())]
            self.assertEqual(float(row["success"]), 100 * mine.count(row["wanted"]) / 2)
        self.lines(rows(folder, "steer"), lambda row: (
            [one["output"] for one in kept if (one["mode"], one["prompt"]) == (
                row["mode"], row["prompt"]) and one["wanted"] in ("-", row["wanted"])],
            row["wanted"]))
        self.assertLessEqual({"0", "100"}, {row["lpr"] for row in rows(folder, "steer")})
        said = lape("generate", DEMO, "-f", prompts()[1].split("=")[1], "-n", "12",
                    "--repeat-penalty", "1.2", "--neurons", neurons(), "--counts", counts(),
                    "--off", "en", "--on", "zh", "--how", "add", "--strength", "20")
        same = [row["tokens"] for row in kept if (row["mode"], row["prompt"], row["wanted"])
                == ("off+on", "en", "zh")]
        self.assertEqual([line.split("\t")[2] for line in said.split("\n")[1:-1]], same)
        # prompts of one language: the wanted ones are those of --check
        few = made("steer-few", "steer", DEMO, prompts()[1], "--check", *texts("eval"), "-n", "12",
                   "--counts", counts(), "--neurons", neurons(), "--how", "add", "--strength", "20")
        self.assertEqual(rows(few, "steer"), rows(folder, "steer", prompt="en"))
        # fluency: the plain model's perplexity of these very tokens
        ids = [int(i) for line in same for i in line.split()]
        self.assertEqual(len(ids), 24)
        write_npy(shared("same.npy"), ids)
        value = lape("ppl", DEMO, "x=" + shared("same.npy"), "--seq", "12").split("\n")[1]
        row, = rows(folder, "steer", mode="off+on", prompt="en", wanted="zh")
        self.assertAlmostEqual(float(row["perplexity"]) / float(value.split("\t")[1]), 1, 5)

    def lines(self, table, outputs_of):
        """Line-level pass rates of a table's rows, from the outputs that are kept: of every line
        by itself. outputs_of: a row's outputs, and its wanted language."""
        judge_of = bayes.Bayes({name: tables.Counts(counts()).histogram(name)
                                for name in LANGUAGES})
        for row in table:
            outputs, wanted = outputs_of(row)
            good, judged = 0, 0
            for output in outputs:
                said = output.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
                lines = [line for line in said.split("\n") if confusion.words_in(line) >= 5]
                told = [judge_of.classify([int(word) for word in subprocess.run(
                    [LAPE, "tokenize", DEMO], input=line.encode(), check=True,
                    stdout=subprocess.PIPE).stdout.split()]) for line in lines]
                judged += bool(lines)
                good += bool(lines) and all(name == wanted for name in told)
            self.assertEqual(float(row["judged"]), 100 * judged / len(outputs))
            self.assertEqual(row["lpr"], "%.6g" % (100 * good / judged) if judged else "nan")

    def test_modes(self):
        """Only those that are wanted, without perplexities."""
        folder = made("modes", "steer", DEMO, prompts()[1], "--check", *texts("eval"), "-n", "12",
                      "--counts", counts(), "--neurons", neurons(), "--how", "add", "--strength",
                      "20", "--modes", "none,off+on", "--no-perplexity")
        self.assertEqual({row["mode"] for row in rows(folder, "steer")}, {"none", "off+on"})
        self.assertEqual({row["perplexity"] for name in ("steer", "steer-check", "steer-summary")
                          for row in rows(folder, name)}, {"nan"})
        made_so, _ = tables.read_table(os.path.join(folder, "steer-summary.tsv"))
        self.assertIn("best: add 20", made_so)

    def test_second_judge(self):
        """Another classifier stands beside naive Bayes: percents, agreement, its own accuracy."""
        write("py3langid/__init__.py", "")
        write("py3langid/langid.py", """MODEL_FILE = "model"
class LanguageIdentifier:
    labels = ["en", "fr", "zh", "de"]
    @classmethod
    def from_model_file(cls, path):
        return cls()
    def set_languages(self, languages):
        assert languages == ["fr", "en", "zh"]
    def classify(self, text):
        return ("zh" if any(c > "\\u3000" for c in text) else "fr"), 1.0
""")
        with unittest.mock.patch.dict(os.environ, PYTHONPATH=SHARED.name):
            folder = made("second", "steer", DEMO, *prompts(), "--check", *texts("eval"), "-n",
                          "12", "--counts", counts(), "--neurons", neurons(), "--how", "add",
                          "--strength", "20", "--no-perplexity")
        kept = rows(folder, "steer-generations", mode="off+on")
        self.assertEqual({row["second"] for row in kept}, {"fr", "zh"})
        for row in kept:
            self.assertEqual(row["second"], "zh" if any(c > "\u3000" for c in row["output"])
                             else "fr")
        for row in rows(folder, "steer", mode="off+on"):
            mine = [one for one in kept if all(one[key] == row[key]
                                               for key in ("prompt", "wanted"))]
            self.assertEqual(float(row["second"]),
                             50 * sum(one["second"] == row["wanted"] for one in mine))
            self.assertEqual(float(row["agree"]),
                             50 * sum(one["second"] == one["language"] for one in mine))
            rate = confusion.pass_rate([
                ["zh" if any(c > "\u3000" for c in line) else "fr"
                 for line in confusion.lines_of(tables.unescaped(one["output"]))]
                for one in mine], row["wanted"])
            self.assertEqual(row["second_lpr"], "%.6g" % rate)
        summary, = rows(folder, "steer-summary", mode="off+on")
        self.assertAlmostEqual(float(summary["agree"]), common.mean(
            float(row["agree"]) for row in rows(folder, "steer", mode="off+on")), 3)
        # right on all French and Chinese lines, and on no English one
        said = study_report.Results(folder).made("steer-check", "second")
        self.assertAlmostEqual(float(said), 2 / 3, 5)

    def test_no_second_judge(self):
        """Not installed, or ignorant of a language: its cells say nothing."""
        with unittest.mock.patch.dict(sys.modules, {"py3langid": None, "py3langid.langid": None}):
            second = Second(["en", "fr"])
        self.assertEqual(second.tell(["The window is open."]), ["-"])
        self.assertEqual(second.about(), "second: -, since py3langid is not installed")
        fake = types.SimpleNamespace(MODEL_FILE="", LanguageIdentifier=types.SimpleNamespace(
            from_model_file=lambda path: types.SimpleNamespace(labels=["en"])))
        with unittest.mock.patch.dict(sys.modules, {"py3langid": types.SimpleNamespace(),
                                                    "py3langid.langid": fake}):
            self.assertEqual(Second(["en", "fr"]).about(),
                             "second: -, since py3langid does not know 'fr'")
        self.assertEqual(steering.beside(["en", "fr"], ["-", "-"], "en"), ("-", "-"))
        self.assertEqual(steering.beside(["en", "fr"], ["en", "en"], "en"), (100, 50))

    def test_judge(self):
        """A command in py3langid's place: it is asked for real texts, one a line, and its answers
        are in its columns, its accuracy beside them."""
        command = ("tee -a '%s' | %s -c 'import sys\nfor x in sys.stdin: "
                   "print(\"zh\" if any(c > \"\\u3000\" for c in x) else \"fr\")'" % (
                       shared("asked"), sys.executable))
        given = [prompts()[1], "--check", *texts("eval"), "-n", "12", "--counts", counts(),
                 "--neurons", neurons(), "--no-perplexity", "--judge", command]
        folder = made("judge", "steer", DEMO, *given, "--how", "add", "--strength", "20")
        kept = rows(folder, "steer-generations")
        for row in kept:
            self.assertEqual(row["second"], "zh" if any(c > "\u3000" for c in row["output"])
                             else "fr")
        with open(shared("asked"), encoding="utf-8") as file:
            asked = file.read().split("\n")
        self.assertIn(tables.unescaped(kept[0]["output"]).replace("\n", " "), asked)
        results = study_report.Results(folder)
        self.assertAlmostEqual(float(results.made("steer-check", "second")), 2 / 3, 5)
        self.assertIn("what --judge tee -a '%s' | " % shared("asked"),
                      results.made("steer-generations", "second"))
        for row in rows(folder, "steer", mode="off+on"):
            self.assertEqual(float(row["second"]), 50 * sum(
                one["second"] == row["wanted"] for one in kept
                if (one["mode"], one["wanted"]) == ("off+on", row["wanted"])))
        folder = made("judge-fallback", "fallback", DEMO, *given)
        for row in rows(folder, "fallback"):
            self.assertIn(row["second_lpr"], ("0", "nan"))          # en is none of its answers
        self.assertEqual({row["second"] for row in rows(folder, "fallback-generations")} - {"zh"},
                         {"fr"})

    def test_lines_in_report(self):
        """Of a real model by both judges; nothing of tables that lack the rates."""
        folder = shared("lines-report")
        os.makedirs(folder)
        names = ["mode", "how", "strength", "lpr", "second_lpr", "judged"]
        tables.write_table(os.path.join(folder, "steer-summary.tsv"), [], names,
                           [["none", "-", "-", 25.0, "-", 100.0],
                            ["on", "add", 2, 50.0, 75.0, 80.0]])
        said = study_report.lines_table(study_report.Results(folder)).split("\n")
        self.assertEqual(said[2:4], ["| none | - | 25.0 % | 100.0 % |",
                                     "| on | add 2 | 50.0 % | 80.0 % |"])
        tables.write_table(os.path.join(folder, "model.tsv"), [], ["file"], [["x"]])
        said = study_report.lines_table(study_report.Results(folder)).split("\n")
        self.assertEqual(said[2:4], ["| none | - | 25.0 % | - | 100.0 % |",
                                     "| on | add 2 | 50.0 % | 75.0 % | 80.0 % |"])
        tables.write_table(os.path.join(folder, "steer-summary.tsv"), [], names[:3], [names[:3]])
        self.assertEqual(study_report.lines_table(study_report.Results(folder)), "")

    def test_judge_of_odd_texts(self):
        """Line ends within a text are spaces, whatever ends lines; no text is not asked for."""
        second = Second(["a"], "tee '%s' | sed 's/.*/x/'" % shared("odd"))
        self.assertEqual(second.tell(["a\nb\rc\u2028d\x0be", " \n", "", "\u00e9"]),
                         ["x", "-", "-", "x"])
        with open(shared("odd"), encoding="utf-8", newline="") as file:
            self.assertEqual(file.read(), "a b c d e\n\u00e9\n")
        self.assertEqual(second.tell([""]), ["-"])
        self.assertEqual(Second(["a"], "exit 3").tell([]), [])

    def test_judge_refused(self):
        """What a command does wrong is one line, with the last that it said itself."""
        for command, word in (
                ("echo de; echo worse >&2; exit 3", "exit status 3: worse"),
                ("nowhere-at-all", "exit status 127"), ("true", "answers nothing to 2 texts"),
                ("head -n 1", "answers 1 lines to 2 texts"), ("sed p", "answers 4 lines"),
                ("cat; echo much >&2", "line 1 of its answer is no language's label: 'a b'"),
                ("sed 's/.*//'", "no language's label: ''")):
            with self.assertRaisesRegex(tables.Refused, "--judge .*" + word) as told:
                Second(["a"], command).tell(["a b", "c d"])
            self.assertNotIn("\n", str(told.exception))
        folder = shared("judge-refused")
        status, said = run("steer", DEMO, *prompts(), "--check", *texts("eval"), "-n", "12",
                           "--counts", counts(), "--neurons", neurons(), "--no-perplexity", "-q",
                           "-o", folder, "--judge", "cat >&2; false")
        self.assertEqual((status, said.count("\n")), (1, 1), said)
        self.assertIn("--judge cat >&2; false: exit status 1", said)
        self.assertEqual(os.listdir(folder), [])

    def test_fluency_behind_bos(self):
        """Pieces with a BOS are a token longer, and the output's first token is predicted."""
        ids = [300, 400, 500]
        write_npy(shared("one.npy"), ids)
        said = lape("ppl", DEMO, "x=" + shared("one.npy"), "--seq", "4", "--bos")
        got = Program(LAPE, quiet=True, pieces=["--bos"]).fluency(DEMO, {"k": [ids]})
        self.assertAlmostEqual(got["k"], float(said.split("\n")[1].split("\t")[1]), 2)
        self.assertNotAlmostEqual(got["k"], Program(LAPE, quiet=True).fluency(
            DEMO, {"k": [ids]})["k"], 0)

    def test_fluency_of_different_lengths(self):
        """exp of the mean over outputs of their mean losses, whatever their lengths."""
        lists = [[300, 400, 500], [300, 600], [7]]
        program = Program(LAPE, quiet=True)
        got = program.fluency(DEMO, {"k": lists, "short": [[5]]})
        loss = []
        for ids in lists[:2]:
            write_npy(shared("one.npy"), ids)
            said = lape("ppl", DEMO, "x=" + shared("one.npy"), "--seq", str(len(ids)))
            loss.append(math.log(float(said.split("\n")[1].split("\t")[1])))
        self.assertEqual(list(got), ["k"])
        self.assertAlmostEqual(got["k"], math.exp(sum(loss) / 2), 3)

    def test_unsure(self):
        """Text whose language is not told is no ground for a tally."""
        wrong = [text.replace("/fr.eval", "/en.eval") for text in texts("eval")]
        folder = shared("unsure")
        status, said = run("steer", DEMO, *prompts(), "--check", *wrong, "-n", "12", "--counts",
                           counts(), "--neurons", neurons(), "-o", folder, "-q")
        self.assertEqual((status, said.count("\n")), (1, 1), said)
        self.assertIn("nothing is tallied", said)
        self.assertEqual(os.listdir(folder), ["steer-check.tsv"])
        row, = rows(folder, "steer-check", language="fr")
        self.assertGreater(int(row["en"]), int(row["fr"]))

    def test_fallback(self):
        folder = made("fallback", "fallback", DEMO, *prompts(), "--check", *texts("eval"), "-n",
                      "12", "--counts", counts(), "--neurons", neurons())
        steps = rows(folder, "fallback")
        self.assertEqual(len(steps), 3 * 4)
        for row in steps:
            off = [] if row["off"] == "-" else row["off"].split(",")
            self.assertEqual(len(off), int(row["step"]))
            self.assertEqual(off[:1], [row["prompt"]][:len(off)])
            self.assertEqual(sum(int(row[name]) for name in LANGUAGES), 2)
        self.lines(steps, lambda row: (
            [one["output"] for one in rows(folder, "fallback-generations", prompt=row["prompt"],
                                           step=row["step"])], row["prompt"]))
        # the union of two languages is off, not the last alone
        found = tables.NeuronList(neurons())
        row = next(row for row in steps if row["prompt"] == "en" and row["step"] == "2")
        tables.save_neurons(shared("two.tsv"), found, {"x": set().union(
            *(found.of(name) for name in row["off"].split(",")))})
        said = lape("generate", DEMO, "-f", prompts()[1].split("=")[1], "-n", "12",
                    "--repeat-penalty", "1.2", "--neurons", shared("two.tsv"), "--off", "x")
        self.assertEqual([line.split("\t")[2] for line in said.split("\n")[1:-1]],
                         [one["tokens"] for one in rows(folder, "fallback-generations",
                                                        prompt="en", step="2")])


class Selection(unittest.TestCase):
    @functools.lru_cache(None)
    def reliability(self):
        return made("reliability", "reliability", DEMO, *texts("count"), "--seq", "64", "--tokens",
                    "1024", "--of", "4", *RATES)

    def test_halves(self):
        found = []
        for half in ("1/2", "2/2"):
            path = shared("half.gguf")
            lape("count", DEMO, *texts("count"), "--seq", "64", "--tokens", "1024", "--shard", half,
                 "-o", path)
            lape("find", path, *RATES, "-o", shared("half.tsv"))
            found.append(tables.NeuronList(shared("half.tsv")))
        for row in rows(self.reliability(), "reliability", what="halves"):
            one, other = (x.of(row["language"]) for x in found)
            self.assertAlmostEqual(float(row["jaccard"]), len(one & other) / len(one | other), 5)
            self.assertLess(float(row["jaccard"]), 1)

    def test_draws(self):
        draws = [row["of"] for row in rows(self.reliability(), "reliability", what="part",
                                           language="en")]
        self.assertEqual(draws, ["4"] * 4 + ["2"] * 2 + ["1"])
        whole, = rows(self.reliability(), "reliability", what="part", language="en", of="1")
        self.assertEqual((whole["jaccard"], whole["tokens"]), ("1", "1024"))

    def test_bar(self):
        """Wilson's interval against the bar, neuron by neuron, from the list's own p."""
        lape("count", DEMO, *texts("count"), "--seq", "64", "--tokens", "1024", "-o",
             shared("k.gguf"))
        lape("find", shared("k.gguf"), *RATES, "-o", shared("k.tsv"))
        found = tables.NeuronList(shared("k.tsv"))
        bar, within = found.bar_value(), 0
        for k, name in enumerate(found.languages):
            near = sum(name in row.languages and
                       (row.p[k] - bar) ** 2 <= selection.Z ** 2 * bar * (1 - bar) / 1024
                       for row in found.rows)
            row, = rows(self.reliability(), "reliability-bar", language=name)
            self.assertEqual((int(row["within"]), int(row["selected"])),
                             (near, len(found.of(name))))
            within += near
        self.assertGreater(within, 0)

    def test_given_parts(self):
        parts = [os.path.join(self.reliability(), "parts", "part-%02d-of-4.gguf" % i)
                 for i in range(1, 5)]
        folder = made("given", "reliability", "--parts", *parts, *RATES)
        self.assertEqual([row["jaccard"] for row in rows(folder, "reliability", language="fr")],
                         [row["jaccard"] for row in rows(self.reliability(), "reliability",
                                                         language="fr")])

    def test_layers(self):
        """From a list alone, without probabilities."""
        path = write("list.tsv", "# model: toy\n# layers: 4\n# neurons: 9\n# languages: a b\n"
                     "layer\tneuron\tlape\tlanguages\n0\t1\t-\ta,b\n0\t2\t-\ta\n2\t0\t-\tb\n"
                     "3\t8\t-\ta,b\n3\t7\t-\t-\n".replace("3\t8\t-\ta,b\n3\t7\t-\t-\n",
                                                           "3\t7\t-\t-\n3\t8\t-\ta,b\n"))
        folder = made("layers", "layers", path)
        self.assertEqual([[row[x] for x in ("quarter", "a", "b", "distinct")]
                          for row in rows(folder, "layers")],
                         [["1", "2", "1", "2"], ["2", "0", "0", "0"], ["3", "0", "1", "1"],
                          ["4", "1", "1", "1"]])
        self.assertEqual([row["distinct"] for row in rows(folder, "quarters")],
                         ["2", "0", "1", "1"])
        row, = rows(folder, "overlap", a="a", b="b")
        self.assertEqual((row["neurons_a"], row["neurons_b"], row["shared"], row["jaccard"],
                          row["correlation"]), ("3", "3", "2", "0.5", "-"))

    def test_similarity(self):
        with_list = made("l1", "layers", neurons())
        with_counts = made("l2", "layers", neurons(), "--counts", counts())
        read = tables.Counts(counts())
        want = selection.correlation(read.positive("en"), read.positive("fr"))
        row, = rows(with_counts, "overlap", a="en", b="fr")
        self.assertAlmostEqual(float(row["correlation"]), want, 5)
        self.assertNotEqual(rows(with_list, "overlap", a="en", b="fr")[0]["correlation"],
                            row["correlation"])


def lines_of(language, kind="count"):
    with open("%s/demo/text/%s.%s.txt" % (ROOT, language, kind), encoding="utf-8") as file:
        return file.read().split("\n")[:-1]


def ids_of(lines):
    said = subprocess.run([LAPE, "tokenize", DEMO, "--lines"], input="\n".join(lines).encode(),
                          check=True, stdout=subprocess.PIPE).stdout.decode()
    return [[int(word) for word in line.split()] for line in said.split("\n")[:len(lines)]]


def odds(own, other, ids, vocabulary=4096):
    """How much likelier tokens are in the text `other` than in `own`, lists of lines of ids: the
    sum over tokens, one at a time, of what each has of them."""
    def log(lines, i):
        of_it = sum(line.count(i) for line in lines)
        return math.log((of_it + 0.1) / (sum(map(len, lines)) + 0.1 * vocabulary))
    return sum(log(other, i) - log(own, i) for i in ids)


class Purity(unittest.TestCase):
    """Lines of another language in a text."""

    SEVEN = "en zh fr es vi id ja".split()

    def sift(self, given, *more):
        """The rows of both tables, of texts that are lists of lines."""
        words = ["%s=%s" % (name, write(name + ".mixed", "\n".join(lines) + "\n"))
                 for name, lines in given.items()]
        folder = made("purity", "purity", DEMO, *words, *more)
        return {row["language"]: row for row in rows(folder, "purity")}, rows(
            folder, "purity-lines")

    def test_known_mixture(self):
        """English lines at known places of a Vietnamese text, few or as many as its own: all are
        found there, and no others; and of pure texts none."""
        pure = {name: lines_of(name) for name in ("en", "vi", "fr", "id")}
        table, foreign = self.sift(pure)
        self.assertEqual([(row["lines"], row["judged"], row["foreign"], row["share"])
                          for row in table.values()], [("200", "200", "0", "0")] * 4)
        self.assertEqual(foreign, [])
        for every, many in ((20, 10), (4, 50), (2, 100)):
            english, mixed, places = lines_of("en", "eval")[:many], [], []
            for i, line in enumerate(pure["vi"]):
                if i % every == 0:
                    mixed.append(english[i // every])
                    places.append(str(len(mixed)))
                mixed.append(line)
            table, foreign = self.sift(dict(pure, vi=mixed))
            self.assertEqual([row["line"] for row in foreign], places)
            self.assertEqual([row["text"] for row in foreign], english)
            self.assertEqual({(row["language"], row["like"]) for row in foreign}, {("vi", "en")})
            row = table.pop("vi")
            self.assertEqual((row["lines"], row["foreign"], row["en"], row["vi"], row["fr"]),
                             (str(200 + many), str(many), str(many), "200", "0"))
            self.assertAlmostEqual(float(row["share"]), many / (200 + many), 5)
            self.assertEqual({row["foreign"] for row in table.values()}, {"0"})

    def test_each_line_by_the_others(self):
        """Against histograms that are made anew for every line, of all that are not the same."""
        given = {"fr": lines_of("fr")[:12] + lines_of("es")[:6] + lines_of("fr")[:2],
                 "es": lines_of("es")[6:20] + lines_of("fr")[12:15] + lines_of("en")[:1] * 3,
                 "en": lines_of("en")[1:12]}
        ids = {name: ids_of(lines) for name, lines in given.items()}
        table, foreign = self.sift(given, "--shortest", "1")
        found = {(row["language"], int(row["line"])): row for row in foreign}
        expected = 0
        for own in given:
            for number, line in enumerate(ids[own], 1):
                rest = [other for other in ids[own] if other != line]
                ahead = {name: odds(rest, ids[name], line) for name in given if name != own}
                like = max(ahead, key=ahead.get)
                if ahead[like] > 0:
                    row, expected = found[own, number], expected + 1
                    self.assertEqual((row["like"], row["tokens"]), (like, str(len(line))))
                    self.assertAlmostEqual(float(row["margin"]), ahead[like], delta=1e-3)
        self.assertEqual(expected, len(found))
        self.assertGreater(expected, 10)
        self.assertEqual(sum(int(row["foreign"]) for row in table.values()), expected)
        self.assertEqual([row["like"] for row in foreign if row["language"] == "es"][-3:],
                         ["en"] * 3)

    def test_of_equals(self):
        """A line is its own text's; else the first's that is named."""
        known = bayes.Bayes({name: [2, 2] for name in "abc"})
        self.assertEqual(purity.judged(known, "b", [0, 1], 0), ("b", 0))
        self.assertEqual(purity.judged(known, "b", [0, 0], 1)[0], "a")

    def test_copies(self):
        """A line does not vouch for its copies, however many there are."""
        same = lines_of("en", "eval")[3]
        _, foreign = self.sift({"vi": lines_of("vi") + [same] * 300, "en": lines_of("en")})
        self.assertEqual([int(row["line"]) for row in foreign], list(range(201, 501)))
        self.assertEqual(len({row["margin"] for row in foreign}), 1)

    def test_counts(self):
        """By the histograms of counts, of all their languages, as they are."""
        given = {"fr": lines_of("fr", "eval")[:20] + lines_of("zh", "eval")[:5]
                 + lines_of("en", "eval")[:5]}
        table, foreign = self.sift(given, "--counts", counts())
        self.assertEqual([(row["line"], row["like"]) for row in foreign],
                         [(str(i), "zh" if i < 26 else "en") for i in range(21, 31)])
        self.assertEqual((table["fr"]["fr"], table["fr"]["zh"], table["fr"]["en"]),
                         ("20", "5", "5"))
        read = tables.Counts(counts())
        for row, line in zip(foreign, ids_of(given["fr"][20:])):
            own, other = (list(read.histogram(name)) for name in ("fr", row["like"]))
            margin = sum(math.log((other[i] + 0.1) / (sum(other) + 409.6))
                         - math.log((own[i] + 0.1) / (sum(own) + 409.6)) for i in line)
            self.assertAlmostEqual(float(row["margin"]), margin, delta=1e-3)

    def test_short_lines(self):
        """Are not judged, and make mistakes where they are: fewer, the longer they are."""
        line = lines_of("en", "eval")[0]
        size = len(ids_of([line])[0])
        given = {"vi": ["", "Anh", line, ""] + lines_of("vi"), "en": lines_of("en")}
        for shortest, judged in ((size, "1"), (size + 1, "0")):
            table, foreign = self.sift(given, "--shortest", str(shortest))
            self.assertEqual((table["vi"]["lines"], table["vi"]["foreign"]), ("204", judged))
            self.assertEqual([row["line"] for row in foreign], ["3"] * int(judged))
        table, foreign = self.sift(given, "--shortest", "2000")
        self.assertEqual((table["vi"]["judged"], table["vi"]["share"], foreign), ("0", "nan", []))
        wrong = []
        for size in 8, 12, 16:                       # as doc/results.md tells
            cut = {}
            for name in "en fr es vi id".split():
                ids = "\n".join(" ".join(map(str, ids[:size])) for ids in ids_of(
                    lines_of(name, "eval")))
                cut[name] = subprocess.run([LAPE, "tokenize", DEMO, "--decode", "--lines"],
                                           input=ids.encode(), check=True, stdout=subprocess.PIPE
                                           ).stdout.decode().split("\n")[:-1]
            _, foreign = self.sift(cut, "--counts", self.all_counts(), "--shortest", "1")
            wrong.append(len(foreign))
            self.assertLess(max(float(row["margin"]) for row in foreign), 5)
        self.assertEqual(wrong, [22, 7, 2])

    @functools.lru_cache(None)
    def all_counts(self):
        lape("count", DEMO, *["%s=%s/demo/text/%s.count.txt" % (name, ROOT, name)
                              for name in self.SEVEN], "-o", shared("all.gguf"))
        return shared("all.gguf")

    def test_limits(self):
        """What doc/results.md tells of them."""
        pure, english = {name: lines_of(name) for name in self.SEVEN}, lines_of("en", "eval")
        for own, found, others, least in ((200, 100, {}, 16.7), (100, 100, {}, 7.7),
                                          (50, 100, {}, 1.9), (25, 96, {("en", "vi"): 7}, 0.2),
                                          (5, 81, {("en", "vi"): 36, ("vi", "fr"): 1}, 0)):
            table, foreign = self.sift(dict(pure, vi=pure["vi"][:own] + english))
            margins = [float(row["margin"]) for row in foreign if row["text"] in english]
            self.assertEqual(len(margins), found)
            self.assertAlmostEqual(min(margins), least, delta=0.1)
            self.assertEqual(collections.Counter((row["language"], row["like"]) for row in foreign
                                                 if row["text"] not in english), others)
            self.assertEqual(int(table["vi"]["foreign"]), found + others.get(("vi", "fr"), 0))
        pages = ["Page %d of 100: read more of this on the next page" % i for i in range(1, 101)]
        _, foreign = self.sift(dict(pure, vi=pure["vi"] + pages))
        self.assertEqual(foreign, [])
        _, foreign = self.sift({"vi": pure["vi"] + english[:50], "fr": pure["fr"],
                                "ja": pure["ja"]})
        self.assertEqual(len(foreign), 1)

    def test_cells(self):
        """A line stands in the table as it is found, whatever parts cells and lines."""
        line = "\tThe window is open, and\tthe children\u2028play in it.\r"
        table, (row,) = self.sift({"vi": lines_of("vi") + [line], "en": lines_of("en")})
        self.assertEqual(row["text"], line.replace("\t", "\\t").replace("\r", "\\r"))
        self.assertEqual((row["line"], table["vi"]["lines"]), ("201", "201"))

    def test_refused(self):
        folder = shared("impure")
        en, fr = (text for text in texts("count") if "/fr" in text or "/en" in text)
        bad = shared("bad.txt")
        with open(bad, "wb") as file:
            file.write(b"The window\n\xff\n")
        for word, words in (
                ("texts of two languages", [DEMO, en]),
                ("has no counts of 'vi'", [DEMO, "vi=" + bad, "--counts", counts()]),
                ("has no tokenizer", [counts(), en, fr]), ("nowhere", ["nowhere", en, fr]),
                ("no counts", [DEMO, en, fr, "--counts", DEMO]),
                ("LANG being no column", [DEMO, en, "share" + fr[2:]]),
                ("experiments.py: %s: line 2: byte 0 (0xFF) is not valid" % bad,
                 [DEMO, en, "vi=" + bad])):
            status, said = run("purity", *words, "-o", folder, "-q")
            self.assertEqual((status, said.count("\n")), (1, 1), said)
            self.assertIn(word, said)
            self.assertEqual(os.listdir(folder), [])
        self.assertEqual(run("purity", DEMO, en, fr, "-o", folder, "--shortest", "0")[0], 2)
        with self.assertRaisesRegex(tables.Refused, "vocabulary of 4096, and m has one of 9"):
            purity.known_from_counts(counts(), ["en"], "m", 9)


class Contexts(unittest.TestCase):
    """Places of large activations, against those of one `lape trace` of the whole text."""

    SEQ, TOKENS = 64, 300

    def contexts(self, name, *words, most=contexts.MOST):
        """The rows of the table, made in calls of no more than so many bytes."""
        with unittest.mock.patch.object(contexts, "MOST", most):
            status = experiments.main([
                "contexts", DEMO, *texts("eval"), "--neurons", neurons(), "--lape", LAPE, "--seq",
                str(self.SEQ), "--tokens", str(self.TOKENS), "-q", "-o", shared(name), *words])
        self.assertEqual(status, 0)
        return rows(shared(name), "contexts")

    @functools.lru_cache(None)
    def ids(self, language):
        with open("%s/demo/text/%s.eval.txt" % (ROOT, language), "rb") as text:
            said = subprocess.run([LAPE, "tokenize", DEMO], stdin=text, check=True,
                                  stdout=subprocess.PIPE).stdout
        return said.decode().split()[:self.TOKENS]

    def traced(self, language, bos):
        """Of a text, activations by layer, token and neuron; without those of a BOS."""
        path = shared("%s.npy" % language)
        lape("trace", DEMO, "%s/demo/text/%s.eval.txt" % (ROOT, language), "--at", "act", "--seq",
             str(self.SEQ), "--tokens", str(self.TOKENS), *["--bos"] * bos, "-o", path)
        with open(path, "rb") as file:
            numbers = array.array("f", file.read()[128:])
        if sys.byteorder == "big":
            numbers.byteswap()
        kept = []
        for token in range(self.TOKENS):
            if bos and token % (self.SEQ - 1) == 0:
                kept.append(None)                              # a BOS has a row of its own
            kept.append(token)
        self.assertEqual(len(numbers), 6 * len(kept) * 1024)
        return lambda layer, neuron: [
            numbers[(layer * len(kept) + row) * 1024 + neuron]
            for row, token in enumerate(kept) if token is not None]

    def check(self, table, bos, top, places):
        found = tables.NeuronList(neurons())
        traced = {language: self.traced(language, bos) for language in LANGUAGES}
        wanted = []
        for language in LANGUAGES:
            for place in ablation.lowest_first(found, language)[:top]:
                line = [(-value, LANGUAGES.index(text), token, text) for text in LANGUAGES
                        for token, value in enumerate(traced[text](*place))]
                wanted += [[language, *map(str, place), str(number), "%.6g" % -value, text,
                            str(token)]
                           for number, (value, _, token, text) in enumerate(sorted(line)[:places],
                                                                            1)]
        self.assertEqual([[row[name] for name in ("language", "layer", "neuron", "place",
                                                  "activation", "text", "token")]
                          for row in table], wanted)

    def test_places(self):
        """In one call, in several of all layers, in one for each layer and piece."""
        whole = self.contexts("whole", "--bos", "--top", "30", "--places", "6")
        self.check(whole, True, 30, 6)
        piece = 4 * self.SEQ * 1024
        for name, most in (("pieces", 2 * 6 * piece), ("layers", 6 * piece - 1),
                           ("least", 1)):
            self.assertEqual(self.contexts(name, "--bos", "--top", "30", "--places", "6",
                                           most=most), whole)
        self.assertGreater(len({row["layer"] for row in whole}), 1)

    def test_without_bos(self):
        table = self.contexts("without", "--top", "2", "--places", "3", most=1 << 20)
        self.check(table, False, 2, 3)
        self.assertEqual({row["mean"] for row in table}, {"-"})

    def test_equals(self):
        """Of equal activations, the first."""
        with unittest.mock.patch.object(contexts, "activations", side_effect=lambda *_: [
                (1, first, lambda index: [2.0, 3.0, 2.0]) for first in (0, 3)]):
            best = contexts.largest(types.SimpleNamespace(places=4, words=[None], quiet=True), None,
                                    None, None, {"a": [], "b": []}, [(1, 5)])
        self.assertEqual([tuple(one) for one in best[1, 5]],
                         [(3, 0, 1), (3, 0, 4), (3, 1, 1), (3, 1, 4)])

    def test_calls(self):
        """No more bytes in one than MOST, but for a piece that is longer."""
        found = types.SimpleNamespace(layers=8, neurons=1 << 10)
        for most, layers, together, tokens in (
                (1 << 20, {1, 2}, False, 4 * 63), (1 << 22, {1, 2}, True, 2 * 63),
                (1 << 22, {1}, False, 16 * 63), (1, {1, 2}, False, 63)):
            with unittest.mock.patch.object(contexts, "MOST", most):
                pieces = contexts.Pieces(types.SimpleNamespace(bos=True, seq=64), found, 99, layers)
            self.assertEqual((pieces.together, pieces.at_once), (together, tokens), most)
        pieces = contexts.Pieces(types.SimpleNamespace(bos=False, seq=None), found, 99, {1})
        self.assertEqual((pieces.seq, pieces.tokens), (99, 99))

    def test_context(self):
        """The token in brackets, behind those of its piece, before five more of the text."""
        starts = 0
        for row in self.contexts("context", "--top", "8", "--bos"):
            ids, token = self.ids(row["text"]), int(row["token"])
            piece = token // (self.SEQ - 1) * (self.SEQ - 1)
            start = max(piece, token - contexts.BEFORE)
            said = [subprocess.run([LAPE, "tokenize", DEMO, "--decode"], check=True, input=" ".join(
                ids[start:end]).encode(), stdout=subprocess.PIPE).stdout
                    for end in (token, token + 1, token + 6)]
            before, rest = tables.unescaped(row["context"]).split("\u27e6")
            inside, after = rest.split("\u27e7")
            for text, wanted in ((before, said[0]), (inside, said[1][len(said[0]):]),
                                 (after, said[2][len(said[1]):])):
                self.assertEqual(text, wanted.decode("utf-8", "replace"))
            starts += start == piece
        self.assertGreater(starts, 0)

    def test_mean(self):
        """As `generate` takes it: of the counts, in the text's language."""
        read = tables.Counts(counts())
        for row in self.contexts("mean", "--top", "2", "--places", "2", "--counts", counts()):
            at = int(row["layer"]) * read.neurons + int(row["neuron"])
            self.assertEqual(row["mean"], "%.6g" % (
                read.numbers(row["text"] + ".sum")[at] / 2 ** 20 / 3072))

    def test_decode(self):
        """Each list by itself, line ends and none among them, and parts of characters."""
        program = Program(LAPE, quiet=True)
        line_end, = program.tokenize_lines(DEMO, ["The end"])
        lists = [[], [13], [13, 13], [300, 13, 400], line_end, [3 + 0xe6], []]
        alone = [subprocess.run([LAPE, "tokenize", DEMO, "--decode"], check=True, input=" ".join(
            map(str, ids)).encode(), stdout=subprocess.PIPE).stdout for ids in lists]
        self.assertIn(b"\n", alone[1])
        self.assertEqual(program.decode(DEMO, lists), alone)
        self.assertEqual(program.decode(DEMO, []), [])
        with self.assertRaisesRegex(tables.Refused, "as what texts hold, too"):
            mark, = program.tokenize_lines(DEMO, ["lape:mark:lape"])
            program.decode(DEMO, [mark])

    def test_report(self):
        folder = shared("seen")
        os.makedirs(folder)
        names = ["language", "layer", "neuron", "lape", "languages", "place", "activation", "text",
                 "context"]
        cells = [["en", 1, 2, 0.5, "en", 1, 2.25, "en", "a \u27e6b|\u27e7 \\n<c>_"],
                 ["en", 1, 2, 0.5, "en", 2, 2.0, "fr", "d"],
                 ["fr", 3, 4, 0.6, "en,fr", 1, 1.5, "f", "e"]]
        tables.write_table(os.path.join(folder, "contexts.tsv"), [], names, cells)
        results = study_report.Results(folder)
        self.assertIn("| en | 1 / 2 | 0.50 | 1 of 2 | 2.25 en: a \u27e6b&#124;\u27e7 &#92;n&#60;"
                      "c&#62;&#95;<br>2.00 fr: d |\n", study_report.contexts_table(results))
        said = study_report.contexts_says(results)
        self.assertIn("Of the 3 places at which these 2 neurons, of lowest LAPE, are most active, "
                      "1 are in text of a language that the neuron belongs to, 2 in other", said)
        self.assertIn("Most active in other text alone: 3 / 4. ", said)

    def test_arrays(self):
        """Of `lape trace`, and no others."""
        path = shared("act.npy")
        lape("trace", DEMO, prompts()[1][3:], "--at", "act", "--layer", "2", "-o", path)
        with open(path, "rb") as file:
            good = file.read()
        rows_here = (len(good) - 128) // 4096
        one = Floats(path)
        self.assertEqual(one.shape, (rows_here, 1024))
        self.assertEqual(one.column(0, 7, [1]), [
            struct.unpack_from("<f", good, 128 + 4 * (1024 + 7))[0]])
        doubles = good[:128].replace(b"<f4", b"<f8") + struct.pack(
            "<%dd" % (rows_here * 1024), *range(rows_here * 1024))
        for bad in good[:-1], good + b"x", good[:100], good.replace(b"<f4", b"<i4"), b"no", doubles:
            with open(path, "wb") as file:
                file.write(bad)
            if bad is doubles:
                self.assertEqual(Floats(path).column(0, 3, [2]), [2051])
                continue
            with self.assertRaisesRegex(tables.Refused, "act.npy: is not as"):
                Floats(path)

    def test_refused(self):
        """One line each."""
        given = ["--seq", "64", "--tokens", "64", "-q", "-o", shared("refused-contexts")]
        text = texts("eval")[0]
        with open(neurons(), encoding="utf-8") as file:
            good = file.read()
        fields = good.split("\n")
        head = [i for i, line in enumerate(fields) if not line.startswith("#")][0]
        bare = "\n".join(fields[:head + 1]) + "\n"
        other = ("# model: demo\n# layers: 6\n# neurons: 512\n# languages: fr\n"
                 "layer\tneuron\tlape\tlanguages\n0\t1\t0.5\tfr\n")
        for word, list_of, more in (
                ("has no neurons of fr", bare, []),
                ("has no LAPE to order by", other.replace("0.5", "-"), []),
                ("has no LAPE to order by", other.replace("0.5", "nan"), []),
                ("made from x, the model is demo", other.replace("model: demo", "model: x"), []),
                ("digest 00000000000000ab", "# digest: 00000000000000ab\n" + other, []),
                ("is of another model: the activations", other, []),
                ("has no neurons of 'en'", other, [texts("eval")[1]]),
                ("no counts", good, ["--counts", DEMO]),
                ("the file is empty", good, ["zh=" + write("empty.txt", "")]),
                ("no file of ids", good, ["zh=" + write("ids.npy", "x")])):
            status, said = run("contexts", DEMO, text, *more, "--neurons",
                               write("given.tsv", list_of), *given)
            self.assertEqual((status, said.count("\n")), (1, 1), said)
            self.assertIn(word, said)
            self.assertEqual(os.listdir(shared("refused-contexts")), [])
        self.assertEqual(run("contexts", DEMO, text, *given)[0], 2)             # --neurons
        self.assertEqual(run("contexts", DEMO, text, "--neurons", neurons(), "--top", "0",
                             *given)[0], 2)


class Complaints(unittest.TestCase):
    """One line, status 1 or 2, and no table."""

    def refused(self, status, word, *words):
        folder = shared("refused")
        got, said = run(*words, "-o", folder, "-q")
        self.assertEqual(got, status, said)
        self.assertIn(word, said)
        self.assertEqual(os.listdir(folder) if os.path.isdir(folder) else [], [])
        if status == 1:
            self.assertEqual(said.count("\n"), 1, said)

    def test_words(self):
        given = ["--counts", counts(), "--neurons", neurons()]
        text = texts("eval")[0]
        self.refused(1, "no such file", "matrix", DEMO, "en=nowhere.txt", *given)
        self.refused(1, "twice", "matrix", DEMO, text, text, *given)
        self.refused(1, "LANG=FILE", "matrix", DEMO, "e n=x", *given)
        for label in "none", "off", "perplexity":
            self.refused(1, "LANG=FILE", "matrix", DEMO, text, label + text[2:], *given)
        self.refused(2, "unknown option", "matrix", DEMO, text, "-" + text[2:], *given)
        with self.assertRaisesRegex(tables.Refused, "neither none nor -"):
            common.language_files(["-" + text[2:]])
        for name in "random", "random-2", "lape":
            self.refused(1, "two selections", "matrix", DEMO, *texts("eval"), *given, "--also",
                         name + "=" + neurons())
        self.refused(1, "two selections", "matrix", DEMO, *texts("eval"), *given, "--methods",
                     "lape", "--draws", "0")
        self.refused(1, "two selections", "matrix", DEMO, *texts("eval"), *given, "--means",
                     "--also", "lape-mean=" + neurons())
        self.refused(1, "two columns are named 'distinct'", "layers", write(
            "distinct.tsv", "# layers: 1\n# neurons: 2\n# languages: distinct\n"
            "layer\tneuron\tlape\tlanguages\n"))
        self.refused(1, "LANG=FILE", "matrix", DEMO, *given)
        self.refused(1, "MODEL", "matrix", text, *given)
        self.refused(1, "de", "dose", DEMO, text.replace("fr=", "de="), *given)
        self.refused(1, "nowhere.gguf", "matrix", "nowhere.gguf", text, *given)
        self.refused(1, "nowhere", "matrix", DEMO, text, "--counts", counts(), "--neurons",
                     "nowhere")
        self.refused(1, "model.gguf", "matrix", DEMO, text, "--counts", DEMO)
        self.refused(1, "lies", "layers", write("lies.tsv", "lies\n"))
        self.refused(1, "4, 8, 16", "reliability", DEMO, text, "--of", "5")
        self.refused(1, "--check", "steer", DEMO, *prompts(), "--check", text, *given)

    def test_warnings(self):
        """Of a library, as one line and a refusal."""
        for kind, status in ((UserWarning, 1), (DeprecationWarning, 0)):
            with unittest.mock.patch.object(selection.tables, "NeuronList", side_effect=(
                    lambda path: warnings.warn("doubt\nand more", kind))), \
                    unittest.mock.patch.object(selection, "about_neurons", side_effect=(
                        tables.Refused("past it"))), warnings.catch_warnings(), \
                    contextlib.redirect_stderr(io.StringIO()) as said:
                self.assertEqual(experiments.main(["layers", "x", "-o", shared("refused")]), 1)
            self.assertEqual(said.getvalue(), "experiments.py: layers: refused, since there is a "
                             "warning of it: doubt and more\n" if status else
                             "experiments.py: past it\n")

    def test_models_of_reproduce(self):
        """Whose tables would land, or delete, where others are."""
        for path in "..", ".", "/", "nowhere.gguf", write("report.gguf", ""), write(
                "texts.gguf", ""), write("a-texts.gguf", ""):
            for kind in "model", "real":
                args = dict({"model": None, "real": None, kind: path}, lape="", texts=None,
                            threads=None)
                with self.assertRaises(tables.Refused, msg=path):
                    reproduce.Run(types.SimpleNamespace(**args))
        results, card = "doc/results.md", "demo/MODEL.md"
        for given, folder, told, pieces, document, pictures in (
                ({"model": DEMO}, "demo/out/model", "demo/out/model/REPORT.md", [], None,
                 "demo/pictures"),
                ({"model": DEMO, "texts": "x"}, "demo/out/model-texts",
                 "demo/out/model-texts/REPORT.md", [], None, "demo/pictures"),
                ({"real": DEMO}, "demo/out/model/report", "demo/out/model/REPORT.md", ["--bos"],
                 results, "../demo/pictures/model"),
                ({}, "demo/out/report", "demo/out/REPORT.md", [], results, "../demo/pictures"),
                ({"texts": "x"}, "demo/out/texts", "demo/out/TEXTS.md", [], card, "pictures")):
            run = reproduce.Run(types.SimpleNamespace(**dict(
                {"lape": "", "texts": None, "threads": None, "model": None, "real": None},
                **given)))
            self.assertEqual((run.tables, run.report, run.pieces, run.document),
                             (folder, told, ["--seq", "128"] + pieces, document))
            self.assertEqual(reproduce.pictures_from(run, document), pictures)

    def test_stages_of_reproduce(self):
        """A real model's: the paper's rates, BOS where pieces and outputs have one, no sweep."""
        run = reproduce.Run(types.SimpleNamespace(lape="lape", texts=None, threads=2, model=None,
                                                  real=DEMO))
        run.tables = shared("stages")
        os.makedirs(run.tables)
        with unittest.mock.patch.object(run, "stage") as stage:
            reproduce.run_all(run)
        calls = {call.args[0]: call.args[3] for call in stage.call_args_list}
        self.assertEqual(list(calls), ["count", "find", "layers", "matrix", "contexts",
                                       "reliability", "dose", "fallback", "steer"])
        self.assertEqual({name for name in calls if "--bos" in calls[name]},
                         set(calls) - {"find", "layers"})
        self.assertEqual({name for name in calls if "--seq" in calls[name]},
                         {"count", "matrix", "contexts", "reliability", "dose"})
        for name in "find", "reliability":
            self.assertIn("--top 0.01 --filter 0.95 --bar 0.95", " ".join(calls[name]))
        file, = rows(run.tables, "model")
        with open(DEMO, "rb") as model:
            self.assertEqual(file, {"file": "model.gguf", "bytes": str(os.path.getsize(DEMO)),
                                    "sha256": hashlib.sha256(model.read()).hexdigest()})

    def test_usage(self):
        self.refused(2, "--draws", "matrix", DEMO, "--counts", "x", "--draws", "many")
        self.refused(2, "--modes", "steer", DEMO, "--counts", "x", "--check", "x", "--modes", "of")
        self.refused(2, "--top", "sweep", DEMO, "--counts", "x", "--top", "2")
        self.refused(2, "--nonsense", "layers", "x", "--nonsense")
        self.refused(2, "COMMAND", )

    def test_help(self):
        for name in ("matrix", "dose", "steer", "fallback", "reliability", "layers", "contexts",
                     "sweep", "purity"):
            with self.assertRaises(SystemExit) as end, open(os.devnull, "w") as nothing:
                sys.stdout, keep = nothing, sys.stdout
                try:
                    experiments.parse_arguments([name, "-h"])
                finally:
                    sys.stdout = keep
            self.assertEqual(end.exception.code, 0)

    def test_words_behind_options(self):
        args = experiments.parse_arguments(["matrix", "m", "--counts", "c", "-o", "d", "en=x",
                                            "fr=y"])
        self.assertEqual(args.words, ["m", "en=x", "fr=y"])


if __name__ == "__main__":
    sys.exit(report.main())
