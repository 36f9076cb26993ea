#!/usr/bin/env python3
"""Numbers at their ends: what the program makes of those that no sound file or text would have.

    LAPE=./lape python3 test/test_numbers.py [NAME...]

Needs Python 3.9 and its standard library. Models are random and tiny; counts are made here, and what
is selected of them is worked out with fractions. The last line on stdout is `N passed, N failed`.
"""

import os
import random
import struct
from fractions import Fraction

import report
import tiny
from test_diff import Counts, Gguf, Language, bytes_of, npy, run
from test_methods import MethodCase, in_order, scores

NAN, INFINITY = float("nan"), float("inf")
RATES = [(.01, .95, .95), (.25, 0, .5), (.5, .3, .8), (1, .5, 0), (1, .9, .3), (1, 0, 0)]


def counted(tokens, positive):
    """Counts of a layer's neurons, positive[neuron][language], of languages l00, l01, ..."""
    return Counts(1, len(positive), None, {
        "l%02d" % k: Language(n, None, {"positive": [row[k] for row in positive]})
        for k, n in enumerate(tokens)})


class Numbers(MethodCase):
    def ids(self, numbers, name="ids.npy"):
        return self.path(name, npy(bytes_of(list(numbers), "<i4"), "<i4"))

    def numbers(self, counts, name):
        return list(Gguf(self.path(counts)).numbers(name))

    def model(self, file, name="model"):
        return self.path(name, tiny.to_bytes(file))

    def selects(self, tokens, positive, order=None):
        """Whatever the rates, `find` selects what the formulas say."""
        p = [[Fraction(count, n) for count, n in zip(row, tokens)] for row in positive]
        order = order or in_order(scores("lape", p), p)
        path = self.path("counts", counted(tokens, positive).file())
        for rates in RATES:
            self.check_selection(order, p, rates, path)
        return path

    # ---- Tokens ----------------------------------------------------------------------------

    def test_ids_at_the_vocabulary_s_end(self):
        """The last id is counted, and the one behind it is refused by number and place, in every
        type of integer and by every command that reads ids."""
        model = self.model(tiny.model())
        last = len(tiny.PIECES) - 1
        self.lape(0, "count", model, "xx=" + self.ids([last] * 16), "--seq", "8", "-q", "-o",
                  self.path("counts"))
        self.assertEqual(self.numbers("counts", "xx.histogram"), [0] * last + [16])
        for wrong in last + 1, -1, 2 ** 31 - 1, -2 ** 31:
            ids = self.ids([last] * 5 + [wrong] + [0] * 10)
            for words in ["count", model, "xx=" + ids, "--seq", "8", "-q", "-o", self.path("out")], [
                    "ppl", model, "xx=" + ids, "--seq", "8", "-q"]:
                self.refused(1, "id %d at place 5 is outside the vocabulary of %d" % (
                    wrong, last + 1), *words)

    # ---- Weights ---------------------------------------------------------------------------

    def unsound(self, family, name, value):
        """A model one of whose numbers is `value`: of the embedding, a number of token 3."""
        file = tiny.model(family)
        one = file["tensors"][name]
        raw = bytearray(one["raw"])
        struct.pack_into("<f", raw, 4 * (3 * tiny.WIDTH + 5 if len(one["dims"]) > 1 else 5), value)
        one["raw"] = bytes(raw)
        return self.model(file)

    def test_weights_that_are_no_numbers(self):
        """Wherever one is, of every family: perplexities are refused, and counts, unless it has no
        part in them, as the last layer's last products have none; then they are what they were.
        """
        ids = self.ids([3, 5, 3, 7, 1, 3, 2, 4] * 4)
        for family in tiny.FAMILIES:
            plain, passed = self.model(tiny.model(family), "plain"), set()
            self.lape(0, "count", plain, "xx=" + ids, "--seq", "8", "-q", "-o", self.path("want"))
            want = self.numbers("want", "xx.positive")
            for name in tiny.shapes(family, len(tiny.PIECES)):
                model = self.unsound(family, name, NAN)
                self.refused(1, "not numbers", "ppl", model, "xx=" + ids, "--seq", "8", "-q")
                words = "count", model, "xx=" + ids, "--seq", "8", "-q", "-o", self.path("out")
                done = run(*words, cwd=self.directory)
                if done.returncode:
                    printed, message = self.ended(done, 1)
                    self.assertIn("not numbers", message)
                    self.assertEqual(printed, "")
                    self.assertFalse(os.path.exists(self.path("out")))
                    continue
                passed.add(name)
                self.assertEqual(self.numbers("out", "xx.positive"), want, (family, name))
                os.remove(self.path("out"))
            self.assertFalse([name for name in passed if name != "output_norm.weight" and
                              not name.startswith("blk.%d." % (tiny.LAYERS - 1))], family)
            self.assertIn("output_norm.weight", passed)

    def test_infinite_weights(self):
        """They are computed with as IEEE 754 has it, which ends in what is no number; but a logit
        that is infinite is at its cap where there is one."""
        ids = self.ids([3, 5, 3, 7, 1, 3, 2, 4] * 4)
        for family in tiny.FAMILIES:
            for name in tiny.shapes(family, len(tiny.PIECES)):
                for value in INFINITY, -INFINITY:
                    words = "ppl", self.unsound(family, name, value), "xx=" + ids, "--seq", "8", "-q"
                    if (family, name) == ("gemma2", "output_norm.weight"):
                        self.lape(0, *words)
                    else:
                        self.refused(1, "not numbers", *words)

    def test_layer_of_zeros(self):
        """It has neurons that never fire, of which none is selected; the others are as they are.
        """
        ids = [3, 5, 3, 7, 1, 3, 2, 4] * 4
        for family in "llama", "gemma", "opt":
            file = tiny.model(family)
            for name, one in file["tensors"].items():
                if name.startswith("blk.1."):
                    one["raw"] = bytes(len(one["raw"]))
            model, plain = self.model(file), self.model(tiny.model(family), "plain")
            texts = ["aa=" + self.ids(ids, "aa.npy"), "bb=" + self.ids(ids[::-1], "bb.npy")]
            for path, out in (model, "counts"), (plain, "plain counts"):
                self.lape(0, "count", path, *texts, "--seq", "8", "-q", "-o", self.path(out))
            for name in "aa.positive", "bb.positive":
                self.assertEqual(self.numbers("counts", name), self.numbers(
                    "plain counts", name)[:tiny.NEURONS] + [0] * tiny.NEURONS)
            for rates in (1, .5, .5), (1, .3, 0):
                found = self.find(self.path("counts"), *[
                    word for pair in zip(("--top", "--filter", "--bar"), map(str, rates))
                    for word in pair])
                self.assertTrue(found.neurons and max(found.neurons) < tiny.NEURONS, found.neurons)
            table, _ = self.lape(0, "ppl", model, *texts, "--seq", "8", "-q")
            self.assertEqual(len(table.splitlines()), 2)

    # ---- Counts ----------------------------------------------------------------------------

    def test_equal_languages(self):
        """Two of the same counts: what is one's is the other's; they share p, and the entropy of
        two alone is ln 2 for every neuron that fires, so that ties go by place."""
        rng = random.Random(1)
        positive = [[n, n] for n in (rng.randrange(1, 1000) for _ in range(40))]
        path = self.selects([1000, 1000], positive, list(range(40)))
        found = self.find(path, "--top", "1", "--filter", "0", "--bar", ".5")
        self.assertEqual(len(found.neurons), 40)
        self.assertTrue(all(members in ([], [0, 1]) for members in found.neurons.values()))
        self.assertEqual(set(found.lape.values()), {"0.693147181"})
        self.selects([1000] * 3, [[a, a, rng.randrange(1000)] for a, _ in positive])

    def test_never_firing(self):
        """No probability: q and LAPE are 0, which would be first; but it is above no threshold,
        and so only --filter 0 lets it in, as the released code would."""
        rng = random.Random(2)
        positive = [[rng.randrange(1, 900) for _ in range(3)] for _ in range(30)]
        positive[7] = positive[21] = [0, 0, 0]
        path = self.selects([900, 900, 900], positive)
        for least in ".05", ".5", ".95":
            found = self.find(path, "--top", "1", "--filter", least)
            self.assertFalse({7, 21} & set(found.neurons))
        found = self.find(path, "--top", "1", "--filter", "0", "--bar", "0")
        self.assertEqual((found.lape[7], found.neurons[21]), ("0", [0, 1, 2]))

    def test_seventy_languages(self):
        """As many as that: selected as the formulas say, and carried from texts to the matrix."""
        rng = random.Random(3)
        tokens = [rng.randrange(1000, 2000) for _ in range(70)]
        self.selects(tokens, [[int(n * rng.random() ** 4) for n in tokens] for _ in range(30)])
        model = self.model(tiny.model())
        texts = ["l%02d=%s" % (k, self.ids(rng.choices(range(2 + k % 9), k=24), "%d.npy" % k))
                 for k in range(70)]
        counts, listed = self.path("all"), self.path("list")
        self.lape(0, "count", model, *texts, "--seq", "8", "-q", "-o", counts)
        self.lape(0, "find", counts, "--top", ".5", "--filter", ".5", "-q", "-o", listed)
        table = [line.split("\t") for line in self.lape(
            0, "ppl", model, *texts, "--seq", "8", "--neurons", listed, "-q")[0].splitlines()]
        labels = ["l%02d" % k for k in range(70)]
        self.assertEqual((table[0], [row[0] for row in table[1:]]),
                         (["off"] + labels, ["none"] + labels))
        self.assertTrue(all(len(row) == 71 and min(map(float, row[1:])) > 0 for row in table[1:]))

    def test_large_counts(self):
        """Near 2^40, where neighbours differ in the twelfth digit: p and selection are exact."""
        rng = random.Random(4)
        tokens = [2 ** 40 + 7, 2 ** 40 - 3, 2 ** 40]
        middle = [n // 2 for n in tokens]
        positive = [[n + rng.randrange(-2, 3) for n in middle] for _ in range(20)] + [
            [0, rng.randrange(2 ** 40 - 3), n] for n in (2 ** 40, 1, 2 ** 39)] + [list(tokens)]
        p = [[Fraction(count, n) for count, n in zip(row, tokens)] for row in positive]
        path = self.path("counts", counted(tokens, positive).file())
        highest = sorted({row[2] for row in p})
        for k, value in enumerate(highest[:-1]):       # between any two neighbours of one language
            rank = sum(v <= value for row in p for v in row)
            found = self.find(path, "--top", "1", "--filter", repr(rank / (3 * len(p))))
            self.assertEqual(set(found.neurons), {i for i, row in enumerate(p)
                                                  if max(row) > value}, (k, value))


if __name__ == "__main__":
    raise SystemExit(report.main())
