#!/usr/bin/env python3
"""Tests of texts of which every line is a piece, and of counts that are taken from others.

    LAPE=./lape python3 test/test_lines.py [NAME...]

Needs Python 3.8 and its standard library, and the demo model. What is expected is worked out from
runs on each line by itself, as a text of one piece. The last line is `N passed, N failed`.
"""

import math
import os
import struct
import subprocess
import sys

from paths import DEMO, LAPE, ROOT
import folder
import report
from formats.gguf import Gguf

SEQ = 24
STATISTICS = ["positive", "near_above", "near_below", "sum", "positive_sum", "histogram"]


def lines_of(language, n):
    path = os.path.join(ROOT, "demo", "text", language + ".eval.txt")
    with open(path, encoding="utf-8") as file:
        return [line.rstrip("\n") for line in file][:n]


# Cut, empty, of one token, of blanks, as Windows ends them; the last has no end.
ODD = ["", "a", "", "  ", "One line.\r", "of two", "\u65e5\u672c\u8a9e", "x" * 500, "the end"]


class Case(folder.Case):
    def run_lape(self, *words, status=0, stdin=b""):
        done = subprocess.run([LAPE, *map(str, words)], input=stdin, capture_output=True,
                              check=False)
        self.assertEqual(done.returncode, status, (words, done.stderr))
        return done.stderr if status else done.stdout

    def refused(self, culprit, *words, status=1, stdin=b""):
        with self.subTest(words[-1]):
            self.assertIn(culprit, self.run_lape(*words, status=status, stdin=stdin).decode())

    def ids(self, line):
        return [int(word) for word in self.run_lape("tokenize", DEMO, stdin=line.encode()).split()]

    def count(self, name, *words):
        out = self.path(name)
        self.run_lape("count", DEMO, *words, "-q", "-o", out)
        return out

    def numbers(self, path):
        """{statistic: numbers} of the file's only language, with its tokens and pieces."""
        file = Gguf(path)
        found = {name: struct.unpack("<%dq" % (len(data) // 8), data) for name, data in (
            (name, bytes(file.bytes_of("xx." + name))) for name in STATISTICS)}
        found["tokens"] = [file.values["lape-counts.tokens"][0]]
        found["pieces"] = [file.values["lape-counts.pieces"][0]]
        return found

    def alone(self, line, *words):
        """What a line counts as a text of one piece; None when it is too short for one."""
        ids = self.ids(line)[:SEQ]
        if len(ids) < 2:        # which is no piece
            return None
        raw = self.path("line.bin", struct.pack("<%dH" % len(ids), *ids))
        return self.numbers(self.count("line.gguf", "xx=" + raw, "--seq", len(ids), *words))

    def summed(self, parts):
        total = {}
        for part in parts:
            for name, numbers in part.items():
                total[name] = [a + b for a, b in zip(total.get(name, [0] * len(numbers)), numbers)]
        return total


class Lines(Case):
    def test_count(self):
        """The sum of what the lines count alone, those of one token left out."""
        lines = [line for line in lines_of("fr", 8) + lines_of("ja", 8) + ODD if line != "a"]
        text = self.path("text", "\n".join(lines))
        found = self.numbers(self.count("all.gguf", "xx=" + text, "--lines", "--seq", SEQ))
        parts = [part for part in map(self.alone, lines) if part]
        self.assertEqual({name: list(numbers) for name, numbers in found.items()},
                         self.summed(parts))
        self.assertTrue(16 < found["pieces"][0] < len(lines))

    def test_one_token(self):
        """A line of one token counts as that token at the start of any piece."""
        one = self.numbers(self.count("one.gguf", "xx=" + self.path("text", "\na\n\n"), "--lines"))
        ids = self.ids("a")
        self.assertEqual((len(ids), one["tokens"], one["pieces"]), (1, [1], [1]))
        self.assertEqual([i for i, n in enumerate(one["histogram"]) if n], ids)
        two = self.path("two.npy")
        raw = self.path("two.bin", struct.pack("<2H", ids[0], ids[0]))
        self.run_lape("trace", DEMO, raw, "--at", "act", "--seq", "2", "-q", "-o", two)
        with open(two, "rb") as file:
            values = struct.unpack("<%df" % (6 * 2 * 1024), file.read()[128:])
        first = [values[(layer * 2) * 1024 + j] > 0 for layer in range(6) for j in range(1024)]
        self.assertEqual(list(one["positive"]), list(map(int, first)))

    def test_bos(self):
        text = self.path("text", "\n".join(ODD))
        found = self.numbers(self.count("bos.gguf", "xx=" + text, "--lines", "--bos", "--seq", SEQ))
        kept = [min(len(self.ids(line)), SEQ - 1) for line in ODD if self.ids(line)]
        self.assertEqual(found["tokens"], [sum(kept) + len(kept)])
        self.assertEqual(found["histogram"][1], len(kept))

    def test_same_bytes(self):
        """Whatever the threads and batches; from standard input, too."""
        data = "\n".join(lines_of("vi", 20) + ODD)
        text = self.path("text", data)
        plain = self.read(self.count("a", "xx=" + text, "--lines", "--seq", SEQ))
        for more in (["--batch", 1], ["--batch", 3, "-t", 1], ["--batch", 500, "-t", 3]):
            other = self.count("b", "xx=" + text, "--lines", "--seq", SEQ, *more)
            self.assertEqual(self.read(other), plain, more)
        self.run_lape("count", DEMO, "xx=-", "--lines", "--seq", SEQ, "-q", "-o", self.path("c"),
                      stdin=data.encode())
        self.assertEqual(self.read(self.path("c")), plain)

    def read(self, path):
        with open(path, "rb") as file:
            return file.read()

    def test_long_lines(self):
        """A line longer than what is read at once, and lines on both sides of it."""
        short = lines_of("en", 2)
        text = self.path("text", "\n".join([short[0], "ab " * 700000, short[1]]))
        cut = self.path("cut", "\n".join([short[0], "ab " * 20, short[1]]))
        whole, short = (self.numbers(self.count("out", "xx=" + path, "--lines", "--seq", 8))
                        for path in (text, cut))
        self.assertEqual(whole["positive"], short["positive"])

    def test_tokens(self):
        """The line in which --tokens ends is cut, and the last."""
        lines = lines_of("es", 4)
        n = len(self.ids(lines[0])) + 3
        text = self.path("text", "\n".join(lines))
        found = self.numbers(self.count("a", "xx=" + text, "--lines", "--tokens", n))
        self.assertEqual((found["tokens"], found["pieces"]), ([n], [2]))

    def test_shards(self):
        """Lines in turn; together they are the whole, to the byte."""
        text = self.path("text", "\n".join(lines_of("id", 11) + ODD))
        shards = [self.count("s%d" % i, "xx=" + text, "--lines", "--seq", SEQ, "--shard",
                             "%d/3" % i) for i in (1, 2, 3)]
        self.run_lape("merge", *shards, "-q", "-o", self.path("merged"))
        whole = self.count("whole", "xx=" + text, "--lines", "--seq", SEQ)
        self.assertEqual(self.read(self.path("merged")), self.read(whole))

    def test_where_lines_end(self):
        """The same ids in other lines are another text, and the same lines the same."""
        one, two, same = (self.count(name, "xx=" + self.path(name + ".txt", text), "--lines")
                          for name, text in (("one", "one two\nthree"), ("two", "one\ntwo three"),
                                             ("same", "one two\n\nthree\n")))
        self.assertEqual(*(self.numbers(path)["histogram"] for path in (one, two)))
        self.run_lape("merge", one, two, "-q", "-o", self.path("both"))
        self.refused("counted already", "merge", one, same, "-o", self.path("out"))

    def test_other_settings(self):
        text = "xx=" + self.path("text", "\n".join(lines_of("id", 11)))
        lines = self.count("lines", text, "--lines", "--seq", SEQ)
        pieces = self.count("pieces", text, "--seq", SEQ)
        self.refused("pieces of 24", "merge", lines, pieces, "-o", self.path("out"))
        self.assertIn("piece: a line, of at most 24 tokens\n",
                      self.run_lape("info", lines).decode())

    def test_perplexity(self):
        """exp of the mean over lines of what each alone has, but for those that predict nothing."""
        lines = lines_of("zh", 6) + ODD
        text = self.path("text", "\n".join(lines))
        losses = []
        for line in lines:
            ids = self.ids(line)[:SEQ]
            if len(ids) < 2:
                continue
            raw = self.path("line.bin", struct.pack("<%dH" % len(ids), *ids))
            table = self.run_lape("ppl", DEMO, "xx=" + raw, "--seq", len(ids), "-q")
            losses.append(math.log(float(table.split()[-1])))
        for more in [], ["--batch", "1"], ["--batch", "99"]:
            table = self.run_lape("ppl", DEMO, "xx=" + text, "--lines", "--seq", SEQ, "-q", *more)
            found = float(table.split()[-1])
            self.assertAlmostEqual(found / math.exp(sum(losses) / len(losses)), 1, delta=1e-8)

    def test_refused(self):
        out = self.path("out")
        empty = self.path("empty", "\n\n")
        self.refused("no line has a token", "count", DEMO, "xx=" + empty, "--lines", "-o", out)
        one = self.path("one", "a\nb\n")
        self.refused("no line has two tokens", "ppl", DEMO, "xx=" + one, "--lines")
        bad = self.path("bad", b"good\n\nbad \xff\n")
        self.refused("line 3: byte 4 (0xFF)", "count", DEMO, "xx=" + bad, "--lines", "-o", out)
        archive = self.path("ids", b"PK\3\4" + bytes(range(128, 200)))
        self.refused("tools/convert.py ids", "count", DEMO, "xx=" + archive, "--lines", "-o", out)
        raw = self.path("ids.bin", bytes(64))
        self.refused("--lines are of text", "count", DEMO, "xx=" + raw, "--lines", "-o", out)
        self.assertFalse(os.path.exists(out))


class Minus(Case):
    """Answers are full texts less their prompts."""

    def setUp(self):
        super().setUp()
        self.pairs = [(a, b) for a, b in zip(lines_of("fr", 9), lines_of("ja", 9))]
        self.full = self.lines("full", [self.joined(a, b) for a, b in self.pairs])
        self.prompts = self.lines("prompts", [a for a, _ in self.pairs])

    def joined(self, prompt, answer):
        """So that the prompt's tokens are the text's first: a space begins a word."""
        ids = self.ids(prompt + " " + answer)
        self.assertEqual(ids[:len(self.ids(prompt))], self.ids(prompt))
        return prompt + " " + answer

    def lines(self, name, lines):
        return self.count(name + ".gguf", "xx=" + self.path(name, "\n".join(lines)), "--lines")

    def minus(self, full, prompts, status=0):
        out = self.path("answers.gguf")
        said = self.run_lape("merge", full, "--minus", prompts, "-q", "-o", out, status=status)
        return said.decode() if status else self.numbers(out)

    def test_answers(self):
        """What the answers' tokens count, by the trace of each full text."""
        positive, tokens, histogram = [0] * (6 * 1024), 0, [0] * 4096
        for prompt, answer in self.pairs:
            ids = self.ids(prompt + " " + answer)
            start = len(self.ids(prompt))
            raw = self.path("pair.bin", struct.pack("<%dH" % len(ids), *ids))
            self.run_lape("trace", DEMO, raw, "--at", "act", "-q", "-o", self.path("pair.npy"))
            with open(self.path("pair.npy"), "rb") as file:
                values = struct.unpack("<%df" % (6 * len(ids) * 1024), file.read()[128:])
            for layer in range(6):
                for t in range(start, len(ids)):
                    at = (layer * len(ids) + t) * 1024
                    for j in range(1024):
                        positive[layer * 1024 + j] += values[at + j] > 0
            tokens += len(ids) - start
            for i in ids[start:]:
                histogram[i] += 1
        found = self.minus(self.full, self.prompts)
        self.assertEqual(list(found["positive"]), positive)
        self.assertEqual((found["tokens"], list(found["histogram"])), ([tokens], histogram))

    def test_all_statistics(self):
        full, prompts = self.numbers(self.full), self.numbers(self.prompts)
        found = self.minus(self.full, self.prompts)
        for name in STATISTICS + ["tokens"]:
            self.assertEqual(list(found[name]), [a - b for a, b in zip(full[name], prompts[name])])
        self.assertEqual(found["pieces"], full["pieces"])

    def test_no_part(self):
        """Other texts, and the wrong way round: by language, layer and neuron, or by token."""
        other = self.lines("other", lines_of("zh", 4))
        self.assertRegex(self.minus(self.full, other, status=1),
                         r"other.gguf: language xx: -\d+ \w+ of \d+ tokens at (layer|row) \d+, ")
        self.assertIn("cannot be taken from", self.minus(self.prompts, self.full, status=1))
        third = self.count("yy.gguf", "yy=" + self.path("other"), "--lines")
        self.assertIn("language yy is not in the sum", self.minus(self.full, third, status=1))
        seq = self.count("seq.gguf", "xx=" + self.path("prompts"), "--lines", "--seq", "100")
        self.assertIn("counted otherwise", self.minus(self.full, seq, status=1))
        self.assertFalse(os.path.exists(self.path("answers.gguf")))

    def test_of_sums(self):
        """What is taken away goes from the sum of all."""
        more = self.lines("more", lines_of("vi", 3))
        out = self.path("out.gguf")
        self.run_lape("merge", self.full, more, "--minus", self.prompts, "-q", "-o", out)
        found, full, prompts, more = map(self.numbers, (out, self.full, self.prompts, more))
        self.assertEqual(list(found["sum"]), [a + b - c for a, b, c in zip(
            full["sum"], more["sum"], prompts["sum"])])


if __name__ == "__main__":
    sys.exit(report.main())
