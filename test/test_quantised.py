#!/usr/bin/env python3
"""Models of quantised tensors: every command makes of them what it makes of the same numbers in
F32, and refuses what it refuses there.

    LAPE=./lape python3 test/test_quantised.py [NAME...]

The numbers are dequantised by tools/formats/weights.py, held against blocks.tsv first; no code of
the program's has a part in it. By the standard library alone. The last line on stdout is `N passed, N
failed`.
"""

import itertools
import math
import os
import random
import struct
import subprocess
import sys

from paths import ROOT
import quants
import report
import tiny
from quants import KINDS, QUANTISED, weights
from test_diff import CHANGES, WITHOUT_NUMPY, Case

F32, MIXED = "F32", "of every type"
TEXT = b"ab abc  cc bab<w> ab c abcc a bc ab ab cab abc b a cc c abab ca\n" * 2
HALF_NAN, HALF_INFINITY = 0x7e00, 0x7c00
tiny.WIDTH, tiny.NEURONS = 256, 768      # rows are one block of the larger types, and three


# ---- Models ------------------------------------------------------------------------------------

def with_scales(kind, block, scales):
    """A block with other scales, as bits of halves."""
    block = bytearray(block)
    for at, scale in zip(KINDS[kind][3], scales):
        struct.pack_into("<H", block, at, scale)
    return bytes(block)


def unpacked(raw):
    return struct.unpack("<%df" % (len(raw) // 4), raw)


def some_block(kind, rng):
    """A block of random bytes whose numbers are of a weight's size."""
    block = quants.block(kind, rng.randrange(quants.FINITE))
    ones = with_scales(kind, block, [0x3c00, 0x3c00])
    most = max(map(abs, unpacked(quants.widened(kind, ones)))) or 1
    scales = [struct.pack("<e", rng.choice([-1, 1]) * rng.uniform(.1, .25) / most)
              for _ in range(2)]
    return with_scales(kind, block, [struct.unpack("<H", scale)[0] for scale in scales])


class Model:
    """A tiny model with a tokenizer, its matrices being of a type each, and the same in F32. Its
    blocks are drawn from a few: dequantising is slow here."""

    def __init__(self, kinds, seed=1):
        rng = random.Random("%s %d" % (kinds, seed))
        pool = {kind: [some_block(kind, rng) for _ in range(29)] for kind in kinds}
        values = tiny.sentencepiece()
        self.file = {"magic": b"GGUF", "version": 3, "tensors": {},
                     "values": dict(tiny.model()["values"], **values)}
        self.kind, self.blocks, self.dims = {}, {}, {}
        for i, (name, dims) in enumerate(tiny.shapes("llama", len(tiny.PIECES)).items()):
            kind = kinds[i % len(kinds)]
            if len(dims) == 1:
                self.file["tensors"][name] = tiny.tensor(rng, *dims, size=.3, middle=1.)
                continue
            count = dims[0] * dims[1] // KINDS[kind][1]
            self.kind[name], self.dims[name] = kind, dims
            self.blocks[name] = [rng.choice(pool[kind]) for _ in range(count)]

    def bytes(self, wide):
        """The file, in F32 if it is to be wide."""
        known = {}
        for name, blocks in self.blocks.items():
            kind = self.kind[name]
            if wide:
                for block in set(blocks):
                    if (kind, block) not in known:
                        known[kind, block] = quants.widened(kind, block)
                blocks = [known[kind, block] for block in blocks]
            self.file["tensors"][name] = {"dims": self.dims[name], "raw": b"".join(blocks),
                                          "type": KINDS[F32 if wide else kind][0]}
        return tiny.to_bytes(self.file)


# ---- Tests -------------------------------------------------------------------------------------

class Dequantiser(Case):
    """What the tests below take for granted: tools/formats/weights.py reads blocks as gguf does."""

    def test_golden(self):
        seen = set()
        with open(os.path.join(ROOT, "test", "blocks.tsv"), encoding="utf-8") as file:
            rows = [line.rstrip("\n").split("\t") for line in file if line.startswith("block")]
        for _, kind, what, block, bits in rows:
            want = []
            for word in bits.split():
                word, _, times = word.partition("*")
                want += [int(word, 16)] * int(times or 1)
            block = bytes.fromhex(block)
            for raw in (quants.widened(kind, block),                 # and many at once with numpy
                        weights.widened(block * 3, kind.lower())[4 * len(want):8 * len(want)]):
                found = struct.unpack("<%dI" % (len(raw) // 4), raw)
                found = [0x7fc00000 if math.isnan(x) else bits
                         for x, bits in zip(unpacked(raw), found)]
                self.assertEqual(found, want, (kind, what))
            seen.add(kind)
        self.assertEqual(seen, set(KINDS))


class Runs(Case):
    RUNS = {"count": ["count", "MODEL", "xx=text", "--seq", "16", "-o", "out"],
            "ppl": ["ppl", "MODEL", "xx=text", "--seq", "16", "-o", "out"],
            "one token": ["generate", "MODEL", "-p", "ab", "-n", "12", "-o", "out"],
            "sampled": ["generate", "MODEL", "-f", "prompts", "-n", "8", "--temp", "1", "--seed",
                        "3", "-o", "out"],
            "residuals": ["trace", "MODEL", "text", "--at", "resid", "--seq", "16", "-o", "out"],
            "logits": ["trace", "MODEL", "text", "--at", "logits", "--seq", "16", "-o", "out"]}

    def setUp(self):
        super().setUp()
        self.path("text", TEXT)
        self.path("prompts", b"ab c\nabc\ncc a b\n")

    def made(self, model, run, status=0):
        """A run's output file, or its one line of refusal."""
        out = self.path("out")
        _, message = self.lape(status, *[model if word == "MODEL" else word
                                         for word in self.RUNS[run]], "-q")
        if status:
            self.assertFalse(os.path.exists(out))
            return message.replace(model, "MODEL")
        with open(out, "rb") as file:
            data = file.read()
        os.remove(out)
        return data

    def pair(self, model, name="model"):
        """Two files: the model, and it in F32."""
        return (self.path(name + ".gguf", model.bytes(False)),
                self.path(name + ".f32.gguf", model.bytes(True)))


class Quantised(Runs):
    def check_runs(self, kinds):
        ours, wide = self.pair(Model(kinds))
        for run in self.RUNS:
            data = self.made(ours, run)
            self.assertEqual(*map(tiny.without_digest, (data, self.made(wide, run))), run)
            if run == "logits":
                self.assertGreater(len(set(unpacked(data[128:]))), 100)

    def test_every_type(self):
        for kind in QUANTISED:
            with self.subTest(kind):
                self.check_runs([kind])

    def test_mixed(self):
        self.check_runs(QUANTISED)
        self.check_runs(QUANTISED[::-1])

    def test_threads(self):
        """The same from one thread and from three."""
        for kind in "Q5_0", "Q6_K":
            model = self.path("model.gguf", Model([kind]).bytes(False))
            for run in "count", "one token", "logits":
                found = set()
                for threads in "1", "3":
                    self.RUNS["threaded"] = self.RUNS[run] + ["-t", threads]
                    found.add(self.made(model, "threaded"))
                del self.RUNS["threaded"]
                self.assertEqual(len(found), 1, (kind, run))

    def test_vectors(self):
        """A norm's weights may be quantised, too."""
        for kind in QUANTISED:
            with self.subTest(kind):
                model = Model(["Q8_0"])
                rng = random.Random(kind)
                del model.file["tensors"]["output_norm.weight"]
                model.kind["output_norm.weight"] = kind
                model.dims["output_norm.weight"] = [256]
                model.blocks["output_norm.weight"] = [some_block(kind, rng) for _ in range(
                    256 // KINDS[kind][1])]
                ours, wide = self.pair(model)
                self.assertEqual(self.made(ours, "logits"), self.made(wide, "logits"))

    def test_moves(self):
        """How far neurons have moved is by the numbers of two models, whatever their types."""
        base, xx, yy = (self.pair(Model([kind]), kind) for kind in ("Q4_K", "Q3_K", "IQ4_XS"))
        made = set()
        for models in itertools.product(base, xx, yy):
            words = ["%s%s" % pair for pair in zip(("", "xx=", "yy="), models)]
            for start in [], WITHOUT_NUMPY:
                if start and models[0] != base[0]:
                    continue                             # slow
                subprocess.run([sys.executable, *start, CHANGES, *words, "-o",
                                self.path("changes")], check=True, timeout=120)
                made.add(open(self.path("changes"), "rb").read())
        self.assertEqual(len(made), 1)
        found = self.lape(0, "find", self.path("changes"), "--top", "1", "--filter", "0", "-q")[0]
        self.assertEqual(found.count("\n0\t"), tiny.NEURONS)


class Hostile(Runs):
    """Blocks whose scales are no numbers, and rows that are no blocks."""
    TENSORS = ["blk.0.ffn_gate.weight", "blk.0.attn_v.weight", "blk.1.ffn_down.weight",
               "token_embd.weight"]

    def test_scales(self):
        for kind in QUANTISED:
            for i in range(len(KINDS[kind][3])):
                for bad in HALF_NAN, HALF_INFINITY, HALF_INFINITY | 0x8000:
                    self.check_scale(kind, i, bad)

    def check_scale(self, kind, i, bad):
        """Scale i of one block being bad: the same refusal as with its numbers in F32."""
        model = Model([kind])
        at = (i + bad) % len(self.TENSORS)
        blocks = model.blocks[self.TENSORS[at]]
        place = 3 * (256 // KINDS[kind][1])            # the fourth row: the text has this token
        scales = [bad if s == i else 0x1c00 for s in range(2)]
        blocks[place] = with_scales(kind, blocks[place], scales)
        numbers = unpacked(quants.widened(kind, blocks[place]))
        self.assertFalse(all(map(math.isfinite, numbers)))
        ours, wide = self.pair(model)
        for run in "ppl", "one token", "count":
            if run == "count" and at == 2:             # behind every neuron that is counted
                continue
            with self.subTest(kind=kind, scale=i, bad=hex(bad), run=run, tensor=self.TENSORS[at]):
                message = self.made(ours, run, 1)
                self.assertEqual(message, self.made(wide, run, 1))
                self.assertRegex(message, "not numbers")

    def test_rows(self):
        """Rows that end inside a block, and data that end before the last one does."""
        for kind, (number, numbers, size, _) in KINDS.items():
            if kind not in QUANTISED:
                continue
            for columns in {numbers // 2, numbers - 1, numbers + 1, 1, 48, 240}:
                name = "blk.0.attn_q.weight"
                model = Model([kind])
                data = model.bytes(False)
                tensor = model.file["tensors"][name]
                model.file["tensors"][name] = dict(tensor, dims=[256, columns])
                bad = self.path("bad.gguf", tiny.to_bytes(model.file))
                for run in self.RUNS["ppl"], ["info", "MODEL"]:
                    self.refused(1, [bad, "'%s'" % name, kind, str(columns), str(numbers)],
                                 *[bad if word == "MODEL" else word for word in run])
            cut = self.path("cut.gguf", data[:-size])
            last = list(model.file["tensors"])[-1]
            self.refused(1, [cut, "'%s'" % last, "cut short"], "info", cut)

    def test_other_types(self):
        """Every type that is not read is refused by its number, with the tensor's name."""
        name, model = "blk.1.ffn_up.weight", Model(["Q8_0"])
        model.bytes(False)
        model.file["tensors"][name]["raw"] = bytes(768 * 256 * 8)      # as many as the largest has
        for number in range(64):
            if number in [kind[0] for kind in KINDS.values()]:
                continue
            model.file["tensors"][name]["type"] = number
            bad = self.path("bad.gguf", tiny.to_bytes(model.file))
            self.refused(1, [bad, "'%s'" % name, "%d" % number], "ppl", bad, "xx=text")


if __name__ == "__main__":
    sys.exit(report.main())
