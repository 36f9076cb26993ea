#!/usr/bin/env python3
"""Model files as people have them: split into several, a vocabulary alone, heads of any width.

    LAPE=./lape python3 test/test_split.py [NAME...]

By the standard library alone. The last line on stdout is `N passed, N failed`.
"""

import os
import subprocess
import sys

import report
import tiny
from test_diff import Case
from test_quantised import KINDS, QUANTISED, TEXT, Model

U16, I32 = tiny.U16, tiny.I32


# ---- Split models ------------------------------------------------------------------------------

def parts_of(file, sizes, **wrong):
    """The files of a model, with so many tensors each, as llama.cpp's gguf-split makes them."""
    names, parts = list(file["tensors"]), []
    assert sum(sizes) == len(names)
    for number, size in enumerate(sizes):
        values = {"split.no": (U16, number), "split.tensors.count": (I32, len(names)),
                  "split.count": (U16, len(sizes))}
        mine, names = names[:size], names[size:]
        parts.append({"magic": b"GGUF", "version": 3,
                      "values": dict(file["values"], **values) if number == 0 else values,
                      "tensors": {name: file["tensors"][name] for name in mine}})
    for key, (number, value) in wrong.items():
        key = "split." + key.replace("_", ".")
        parts[number]["values"][key] = parts[number]["values"][key][0], value
    return parts


class Split(Case):
    def setUp(self):
        super().setUp()
        self.file = tiny.with_tokenizer(tiny.sentencepiece())
        self.count = len(self.file["tensors"])
        self.whole = self.path("whole.gguf", tiny.to_bytes(self.file))
        self.path("text", TEXT)

    def write(self, parts, name="model", of=None):
        """Their files; the path of the first."""
        paths = [self.path("%s-%05d-of-%05d.gguf" % (name, i + 1, of or len(parts)),
                           tiny.to_bytes(part)) for i, part in enumerate(parts)]
        return paths[0]

    def ppl(self, model, *more):
        return self.lape(0, "ppl", model, "xx=text", "--seq", "16", "-q", *more)[0]

    def test_as_one(self):
        """Whichever tensors lie where, two tensors of a layer in two files or none in the first."""
        whole = self.ppl(self.whole), self.lape(0, "info", self.whole)[0]
        n = self.count
        for sizes in ([7, n - 7], [1, 1, n - 2], [0, n], [1] * n):
            first = self.write(parts_of(self.file, sizes))
            self.assertEqual((self.ppl(first), self.lape(0, "info", first)[0]), whole, sizes)
            self.assertEqual(self.ppl(first, "-t", "1"), whole[0])

    def test_other_model(self):
        """Not the first one's order of numbers alone: other weights, another result."""
        other = tiny.with_tokenizer(tiny.sentencepiece(), seed=2)
        parts = parts_of(self.file, [7, self.count - 7])
        changed = self.write([parts[0], parts_of(other, [7, self.count - 7])[1]], "changed")
        self.assertNotEqual(self.ppl(changed), self.ppl(self.whole))

    def test_refused(self):
        sizes = [7, 5, self.count - 12]
        first = self.write(parts_of(self.file, sizes))
        second = first.replace("00001-of", "00002-of")
        info = lambda culprits, path: self.refused(1, culprits, "info", path)
        info([second, "part 2 of 3"], second)
        moved = self.path("moved.gguf", tiny.to_bytes(parts_of(self.file, sizes)[0]))
        info([moved, "part 1 of 3", "-00001-of-00003.gguf"], moved)
        os.rename(second, self.path("away"))
        info([second, "No such file"], first)
        self.path(second, b"no model")
        info([second, "not a GGUF file"], first)
        self.path(second, open(self.whole, "rb").read())
        info([second, "part 1 of 0, not 2 of 3"], first)
        for wrong, culprit in (({"no": (1, 2)}, "part 3 of 3, not 2 of 3"),
                               ({"count": (1, 4)}, "part 2 of 4, not 2 of 3"),
                               ({"no": (1, 3)}, "00002-of-00003.gguf: value 'split.no' is 3"),
                               ({"no": (0, 3)}, "value 'split.no' is 3"),
                               ({"tensors_count": (0, self.count + 1)}, "split.tensors.count"),
                               ({"tensors_count": (0, self.count - 1)}, "split.tensors.count")):
            first = self.write(parts_of(self.file, sizes, **wrong), "wrong")
            info([first.replace("00001-of", "00002-of") if "not" in culprit else first, culprit],
                 first)
        parts = parts_of(self.file, sizes)
        del parts[0]["values"]["split.tensors.count"]
        info("split.tensors.count", self.write(parts, "uncounted"))
        parts = parts_of(self.file, sizes)
        parts[2]["tensors"]["token_embd.weight"] = self.file["tensors"]["token_embd.weight"]
        parts[0]["values"]["split.tensors.count"] = I32, self.count + 1
        info(["token_embd.weight", "stands twice"], self.write(parts, "twice"))

    def test_bake(self):
        """One file comes of it, which llama.cpp takes for one, and the whole model's is the same
        but for what says that there were parts."""
        self.lape(0, "count", self.whole, "xx=text", "yy=text", "--seq", "16", "-q", "-o", "counts")
        self.lape(0, "find", "counts", "--method", "random", "--top", ".3", "-q", "-o", "found")
        first = self.write(parts_of(self.file, [7, self.count - 7]))
        off = "--neurons", "found", "--off", "xx"
        hooked = self.ppl(self.whole, "--neurons", "found").split("\n")[2].split("\t")[1]
        for model in (self.whole, first):
            self.lape(0, "bake", model, *off, "-o", "baked.gguf")
            self.assertEqual(self.ppl("baked.gguf").split("\n")[1].split("\t")[1], hooked)
        self.assertNotEqual(self.ppl(self.whole).split("\n")[1].split("\t")[1], hooked)


# ---- Ablation written into quantised weights ---------------------------------------------------

class Bake(Case):
    def test_every_type(self):
        """A projection that can hold no zero becomes F32; the result is the ablation's."""
        self.path("text", TEXT)
        for kind in QUANTISED:
            with self.subTest(kind):
                model = self.path("model.gguf", Model([kind]).bytes(False))
                ppl = lambda path, *more: self.lape(
                    0, "ppl", path, "xx=text", "--seq", "16", "-q", *more)[0].split("\n")
                self.lape(0, "count", model, "xx=text", "yy=text", "--seq", "16", "-q", "-o",
                          "counts")
                self.lape(0, "find", "counts", "--method", "random", "--top", ".2", "--filter", "0",
                          "--bar", "0", "-q", "-o", "found")
                rows = [row.split("\t")[1] for row in ppl(model, "--neurons", "found")[1:3]]
                self.assertNotEqual(*rows)
                self.lape(0, "bake", model, "--neurons", "found", "--off", "xx", "-o", "baked.gguf")
                self.assertEqual(ppl("baked.gguf")[1].split("\t")[1], rows[1])
                size = os.path.getsize(self.path("baked.gguf"))
                _, numbers, length, *_ = KINDS[kind]
                more = 0 if kind == "Q8_0" else tiny.WIDTH * tiny.NEURONS * (4 - length / numbers)
                self.assertEqual(size, os.path.getsize(model) + more * len(self.layers("found")))

    def layers(self, listed):
        """Those with neurons of xx."""
        with open(self.path(listed), encoding="utf-8") as file:
            rows = [line.split("\t") for line in file if line[0].isdigit()]
        return {row[0] for row in rows if "xx" in row[3].split(",")}


# ---- Vocabularies ------------------------------------------------------------------------------

class Vocabulary(Case):
    """A file without weights, as llama.cpp publishes them."""

    def test_tokenize(self):
        for values, pre in ((tiny.sentencepiece(), "llama"), (tiny.byte_level(), "gpt2")):
            file = tiny.with_tokenizer(values)
            model = self.path("model.gguf", tiny.to_bytes(file))
            alone = self.path("alone.gguf", tiny.to_bytes(dict(file, tensors={})))
            ids = [self.text("tokenize", path) for path in (model, alone)]
            self.assertTrue(len(ids[0].split()) > 20)
            self.assertEqual(ids[0], ids[1])
            self.assertEqual(self.text("tokenize", alone, "--decode", text=ids[0]),
                             self.text("tokenize", model, "--decode", text=ids[0]))
            printed = self.lape(0, "info", alone)[0]
            self.assertIn("%d tokens" % len(values["tokenizer.ggml.tokens"][1]), printed)
            self.assertIn(pre, printed)
            self.refused(1, ["alone.gguf", "missing"], "ppl", alone, "xx=text")

    def test_ends_at_once(self):
        """Without tensors there is nothing to pad the values for."""
        data = tiny.to_bytes(dict(tiny.with_tokenizer(tiny.sentencepiece()), tensors={}))
        cut = data.rstrip(b"\0") + bytes(4)     # of the last value: its type, and false
        self.assertLess(len(cut), len(data))
        self.assertEqual(self.text("tokenize", self.path("cut.gguf", cut)),
                         self.text("tokenize", self.path("whole.gguf", data)))

    def test_weights_are_not_looked_at(self):
        """Of an architecture that is not known, the text is tokenized all the same."""
        file = tiny.with_tokenizer(tiny.sentencepiece())
        plain = self.text("tokenize", self.path("model.gguf", tiny.to_bytes(file)))
        file["values"]["general.architecture"] = tiny.STRING, "unheard-of"
        del file["tensors"]["blk.0.attn_q.weight"]
        other = self.path("other.gguf", tiny.to_bytes(file))
        self.assertEqual(self.text("tokenize", other), plain)
        self.refused(1, "unheard-of", "info", other)

    def test_refused(self):
        file = tiny.with_tokenizer(tiny.sentencepiece())
        fewer = dict(file, values=dict(file["values"]))
        fewer["values"]["tokenizer.ggml.scores"] = tiny.FLOAT, [0.0]
        for name, bad, culprit in (("none", tiny.model(), "no tokenizer"),
                                   ("scores", dict(fewer, tensors={}), "1 scores"),
                                   ("more", dict(tiny.model(vocab=20), values=file["values"]),
                                    "vocabulary of 20")):
            path = self.path(name + ".gguf", tiny.to_bytes(bad))
            self.refused(1, [path, culprit], "tokenize", path)

    def text(self, *args, text=TEXT.decode()):
        done = subprocess.run([os.path.abspath(os.environ.get("LAPE", "./lape")), *args],
                              input=text.encode(), capture_output=True, check=True)
        return done.stdout.decode()


# ---- Heads -------------------------------------------------------------------------------------

class Heads(Case):
    def test_odd_width(self):
        """Where nothing is rotated, heads may have any width (families.py holds their numbers
        against transformers'); where something is, they must be even."""
        width = tiny.WIDTH, tiny.HEADS
        self.addCleanup(lambda: (setattr(tiny, "WIDTH", width[0]), setattr(tiny, "HEADS", width[1]),
                                 tiny.weights.cache_clear()))
        tiny.WIDTH, tiny.HEADS = 30, 2
        tiny.weights.cache_clear()
        self.path("text", TEXT)
        for family in tiny.FAMILIES:
            model = self.path(family + ".gguf", tiny.to_bytes(
                tiny.with_tokenizer(tiny.sentencepiece(), family)))
            args = "ppl", model, "xx=text", "--seq", "16", "-q"
            if family in tiny.ROTARY:
                self.refused(1, "even", *args)
            else:
                self.assertRegex(self.lape(0, *args)[0], r"none\t[0-9.]+\n")


if __name__ == "__main__":
    sys.exit(report.main())
