#!/usr/bin/env python3
"""Tests of what neurons that are off become, which product is counted, and whose model it was.

    LAPE=./lape python3 test/test_ablation.py [NAME...]

Needs Python 3.8 and its standard library, and the demo model. A neuron that is always its mean is a
bias of the down projection: a model that is written so here is what ablation by mean is held
against. Products are worked out from traced tensors. The last line is `N passed, N failed`.
"""

import os
import struct
import subprocess
import sys

from paths import DEMO, LAPE
import folder
import report
import tiny
from formats.gguf import Gguf

MEMBERS = {"aa": [(0, 3), (0, 17), (1, 5)], "bb": [(0, 3), (1, 30)], "cc": [(1, 0)]}
IDS = [(7 * i + i * i) % 14 for i in range(64)]


class Case(folder.Case):
    def run_lape(self, *words, status=0):
        done = subprocess.run([LAPE, *map(str, words)], capture_output=True, check=False)
        self.assertEqual(done.returncode, status, (words, done.stderr))
        self.assertEqual(done.stderr.count(b"\n"), int(status != 0), done.stderr)
        return (done.stderr if status else done.stdout).decode()

    def refused(self, culprit, *words, status=1):
        with self.subTest(culprit):
            self.assertIn(culprit, self.run_lape(*words, status=status))

    def model(self, name="model", family="gpt2", **values):
        file = tiny.model(family)
        file["values"].update(values)
        return file, self.path(name, tiny.to_bytes(file))

    def ids(self, name="ids.bin", ids=IDS):
        return self.path(name, struct.pack("<%dH" % len(ids), *ids))

    def count(self, model, name="counts", *more):
        """Three languages that have other tokens."""
        texts = ["%s=%s" % (label, self.ids(label + ".bin", IDS[start:] + IDS[:start - 16]))
                 for label, start in (("aa", 0), ("bb", 20), ("cc", 37))]
        out = self.path(name)
        self.run_lape("count", model, *texts, "--seq", "16", "-q", "-o", out, *more)
        return out

    def listed(self, members=None):
        lines = ["# model: tiny", "# layers: 2", "# neurons: 32",
                 "# languages: " + " ".join(members or MEMBERS), "layer\tneuron\tlape\tlanguages"]
        rows = {}
        for label, places in (members or MEMBERS).items():
            for place in places:
                rows.setdefault(place, []).append(label)
        lines += ["%d\t%d\t0\t%s" % (*place, ",".join(rows[place])) for place in sorted(rows)]
        return self.path("list.tsv", ("\n".join(lines) + "\n").encode())

    def means(self, counts):
        """{(language, layer, neuron): mean activation}"""
        file = Gguf(counts)
        labels, tokens = (file.values["lape-counts." + key] for key in ("languages", "tokens"))
        means = {}
        for label, n in zip(labels, tokens):
            sums = struct.unpack("<64q", bytes(file.bytes_of(label + ".sum")))
            for place, value in enumerate(sums):
                means[label, place // 32, place % 32] = value / 2 ** 20 / n
        return means

    def table(self, *words):
        rows = [row.split("\t") for row in self.run_lape("ppl", *words, "-q").splitlines()]
        return {row[0]: list(map(float, row[1:])) for row in rows[1:]}


def with_constant(file, layer, neuron, value):
    """The model whose neuron adds what it would if it were always that."""
    name = "blk.%d.ffn_down." % layer
    down = file["tensors"][name + "weight"]
    bias = file["tensors"].setdefault(name + "bias", {"dims": [32], "type": tiny.F32,
                                                      "raw": bytes(128)})
    weights = list(struct.unpack("<1024f", down["raw"]))
    added = list(struct.unpack("<32f", bias["raw"]))
    for row in range(32):
        added[row] += value * weights[row * 32 + neuron]
        weights[row * 32 + neuron] = 0
    down["raw"], bias["raw"] = struct.pack("<1024f", *weights), struct.pack("<32f", *added)


class Mean(Case):
    def others(self, means, label, place):
        others = [means[other, *place] for other in MEMBERS if other != label]
        return sum(others) / len(others)

    def test_perplexity(self):
        """As a model that has the means in its biases."""
        _, model = self.model()
        counts, listed = self.count(model), self.listed()
        text = "xx=" + self.ids()
        found = self.table(model, text, "--seq", "16", "--neurons", listed, "--counts", counts,
                           "--off-how", "mean")
        zero = self.table(model, text, "--seq", "16", "--neurons", listed, "--off-how", "zero")
        self.assertEqual(zero, self.table(model, text, "--seq", "16", "--neurons", listed))
        self.assertEqual(found["none"], zero["none"])
        means = self.means(counts)
        for label, places in MEMBERS.items():
            file = tiny.model("gpt2")
            for place in places:
                with_constant(file, *place, self.others(means, label, place))
            other = self.path("other", tiny.to_bytes(file))
            want, = self.table(other, text, "--seq", "16")["none"]
            self.assertAlmostEqual(found[label][0] / want, 1, delta=2e-6)
            self.assertGreater(abs(found[label][0] / zero[label][0] - 1), 2e-5, label)

    def test_generation(self):
        """The same of what is generated, also with other neurons strengthened."""
        file = tiny.with_tokenizer(tiny.sentencepiece(), "gpt2")
        model = self.path("model", tiny.to_bytes(file))
        members = {"aa": MEMBERS["aa"], "bb": [(0, j) for j in range(32)],
                   "cc": [(1, j) for j in range(0, 32, 3)]}
        counts, listed = self.count(model), self.listed(members)
        means, words = self.means(counts), ["-p", "abc", "-n", "19", "--temp", "2", "-q"]
        for place in members["bb"]:
            with_constant(file, *place, self.others(means, "bb", place))
        other = self.path("other", tiny.to_bytes(file))
        steer = ["--neurons", listed, "--counts", counts]
        plain = self.run_lape("generate", model, *words)
        found = self.run_lape("generate", model, *words, *steer, "--off", "bb", "--off-how", "mean")
        self.assertEqual(found, self.run_lape("generate", other, *words))
        both = self.run_lape("generate", model, *words, *steer, "--off", "bb", "--off-how", "mean",
                             "--on", "cc", "--how", "add", "--strength", "40")
        on = self.run_lape("generate", other, *words, *steer, "--any-model", "--on", "cc", "--how",
                           "add", "--strength", "40")
        self.assertEqual(both, on)
        self.assertEqual(len({plain, found, both}), 3)

    def test_refused(self):
        _, model = self.model()
        counts, listed = self.count(model), self.listed()
        text = ["ppl", model, "xx=" + self.ids(), "--seq", "16"]
        self.refused("--counts", *text, "--neurons", listed, "--off-how", "mean", status=2)
        self.refused("--neurons", *text, "--counts", counts, "--off-how", "mean", status=2)
        self.refused("zero mean", *text, "--off-how", "median", status=2)
        one = self.path("one")
        self.run_lape("count", model, "aa=" + self.ids(), "--seq", "16", "-q", "-o", one)
        only = self.listed({"aa": MEMBERS["aa"]})
        self.refused("no other language", *text, "--neurons", only, "--counts", one, "--off-how",
                     "mean")
        lacks = self.listed({"aa": MEMBERS["aa"], "dd": MEMBERS["bb"]})
        self.refused("lack language dd", *text, "--neurons", lacks, "--counts", counts, "--off-how",
                     "mean")
        worded = self.path("worded", tiny.to_bytes(tiny.with_tokenizer(tiny.sentencepiece())))
        self.refused("--off-how mean", "generate", worded, "-p", "a", "--neurons", self.listed(),
                     "--off", "aa", "--off-how", "mean", status=2)
        self.refused("--off-how mean goes with --counts", "generate", worded, "-p", "a", "--neurons",
                     self.listed(), "--on", "bb", "--how", "scale", "--off", "aa", "--off-how",
                     "mean", status=2)
        self.refused("--on goes with --counts", "generate", worded, "-p", "a", "--neurons",
                     self.listed(), "--on", "bb", "--off", "aa", "--off-how", "mean", status=2)


class Product(Case):
    def test_counts(self):
        """Every statistic of the traced tensor, which is the product of two others."""
        _, model = self.model(family="llama")
        text, out = self.ids(), self.path("out.npy")
        traced = {}
        for at in "act", "up", "product":
            self.run_lape("trace", model, text, "--at", at, "--seq", "16", "-q", "-o", out)
            with open(out, "rb") as file:
                traced[at] = struct.unpack("<4096f", file.read()[128:])
        rounded = [struct.unpack("<f", struct.pack("<f", a * b))[0]
                   for a, b in zip(traced["act"], traced["up"])]
        self.assertEqual(list(traced["product"]), rounded)
        self.run_lape("count", model, "xx=" + text, "--seq", "16", "--of", "product", "--near",
                      ".01", "-q", "-o", self.path("counts"))
        file, near = Gguf(self.path("counts")), struct.unpack("<f", struct.pack("<f", .01))[0]
        want = {"positive": [0] * 64, "near_above": [0] * 64, "near_below": [0] * 64,
                "sum": [0] * 64}
        for at, value in enumerate(rounded):
            place = at // 2048 * 32 + at % 32
            want["positive"][place] += value > 0
            want["near_above"][place] += 0 < value < near
            want["near_below"][place] += -near <= value <= 0
            want["sum"][place] += round(value * 2 ** 20)
        for name, numbers in want.items():
            self.assertEqual(list(struct.unpack("<64q", bytes(file.bytes_of("xx." + name)))),
                             numbers, name)
        self.assertIn("active: the product\n", self.run_lape("info", self.path("counts")))

    def test_apart_from_gates(self):
        """They are not added up, compared, or taken for means of neurons."""
        _, model = self.model(family="llama")
        product, gate = self.count(model, "product", "--of", "product"), self.count(
            model, "gate", "--of", "gate")
        with open(gate, "rb") as a, open(self.count(model, "plain"), "rb") as b:
            self.assertEqual(a.read(), b.read())
        self.refused("of the product, near", "merge", gate, product, "-o", self.path("out"))
        self.refused("counts the product, ", "diff", gate, product)
        self.refused("means of neurons", "ppl", model, "xx=" + self.ids(), "--seq", "16",
                     "--neurons", self.listed(), "--counts", product, "--off-how", "mean")
        self.run_lape("find", product, "-q", "-o", self.path("found"))
        _, plain = self.model("plain", "gpt2")
        for words in (["count", plain, "xx=" + self.ids(), "--seq", "16", "--of", "product"],
                      ["trace", plain, self.ids(), "--at", "product"]):
            self.refused("gate", *words, "-o", self.path("out"))
        self.assertFalse(os.path.exists(self.path("out")))


class Digest(Case):
    """Of the same name and shape, and yet another model."""

    def told(self, path):
        shown = self.run_lape("info", path)
        return next(line for line in shown.split("\n") if line.startswith("digest: "))

    def test_told(self):
        """A model, its counts and its list tell the same; another one something else."""
        file, model = self.model(family="llama")
        counts, listed = self.count(model), self.path("found")
        self.run_lape("find", counts, "--top", "1", "--filter", "0", "-q", "-o", listed)
        self.run_lape("merge", counts, "-o", self.path("merged"))
        same = {self.told(path) for path in (model, counts, listed, self.path("merged"))}
        self.assertEqual(len(same), 1)
        seen = {self.told(self.path("again", tiny.to_bytes(file)))}
        self.assertEqual(seen, same)
        tensors = file["tensors"]
        for change in range(5):
            other = tiny.model("llama")
            if change == 0:
                other["values"]["llama.rope.freq_base"] = tiny.FLOAT, 5e5
            elif change == 1:
                other["values"]["general.author"] = tiny.STRING, "x"
            elif change == 2:
                raw = other["tensors"]["blk.1.ffn_up.weight"]["raw"]
                other["tensors"]["blk.1.ffn_up.weight"]["raw"] = raw[:-1] + b"\x3c"
            elif change == 3:
                other = tiny.model("llama", seed=2)
            else:
                other["tensors"] = dict(reversed(tensors.items()))
            seen.add(self.told(self.path("other", tiny.to_bytes(other))))
        self.assertEqual(len(seen), 6)

    def test_refused(self):
        """Lists and counts, unless told not to; what says nothing passes, and says so to info."""
        file, model = self.model(family="llama")
        counts, listed = self.count(model), self.path("found")
        self.run_lape("find", counts, "--top", "1", "--filter", "0", "-q", "-o", listed)
        other = self.path("other", tiny.to_bytes(tiny.model("llama", seed=2)))
        words = ["xx=" + self.ids(), "--seq", "16", "-q", "--neurons", listed]
        self.run_lape("ppl", model, *words)
        self.refused(self.told(other)[8:], "ppl", other, *words)
        self.run_lape("ppl", other, *words, "--any-model")
        for path in counts, listed:
            with open(path, "rb") as file:
                self.assertIn("digest", file.read().decode("latin-1"))
        with open(listed, "rb") as file:
            old = self.path("old", tiny.without_digest(file.read()))
        words[-1] = old
        self.run_lape("ppl", other, *words)
        self.refused("counts", "ppl", other, *words, "--counts", counts, "--off-how", "mean")
        self.assertIn("by its name alone", self.run_lape("info", old))
        self.refused("another model of the name tiny", "merge", counts, self.count(other, "more"),
                     "-o", self.path("out"))

    def test_bad_headers(self):
        header = ("# model: tiny\n%s# layers: 2\n# neurons: 32\n# languages: aa\n"
                  "layer\tneuron\tlape\tlanguages\n0\t1\t0\taa\n")
        good = "# digest: 00000000000000ff\n"
        self.run_lape("info", self.path("good", (header % good).encode()))
        for bad in ("# digest: ff\n", "# digest: 0000000000000000\n", "# digest:\n", good * 2,
                    "# digest: 00000000000000fg\n", "# digest: 00000000000000fff\n"):
            path = self.path("bad", (header % bad).encode())
            self.refused("# digest", "info", path)

    def test_split(self):
        """A model of several files has the digest of the whole."""
        file, model = self.model(family="llama")
        tensors = list(file["tensors"].items())
        for number, part in enumerate((tensors[:9], tensors[9:])):
            values = dict(file["values"] if number == 0 else {}, **{
                "split.no": (tiny.U16, number), "split.count": (tiny.U16, 2),
                "split.tensors.count": (tiny.I32, len(tensors))})
            self.path("m-%05d-of-00002.gguf" % (number + 1),
                      tiny.to_bytes(dict(file, values=values, tensors=dict(part))))
        self.assertEqual(self.told(self.path("m-00001-of-00002.gguf")), self.told(model))

    def test_demo(self):
        self.assertRegex(self.told(DEMO), "digest: [0-9a-f]{16}$")


if __name__ == "__main__":
    sys.exit(report.main())
