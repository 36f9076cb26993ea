#!/usr/bin/env python3
"""Tests of `lape trace` and `lape diff`: tensors out, and a verdict on counts.

    LAPE=./lape python3 test/test_diff.py [NAME...]

Needs Python 3.8 and its standard library, and the demo model. What is expected is worked out here:
bounds and selections by brute force; traced tensors from each other and the weights, or from the
trace of a part. The last line on stdout is `N passed, N failed`.
"""

import io
import math
import os
import random
import re
import struct
import subprocess
import sys
from fractions import Fraction

from paths import DEMO, LAPE, ROOT
import folder
import report
import tiny
from arrays import Headers, bytes_of, npy, product
from formats.gguf import NAMES, Gguf as Reader, Output, write_gguf

TEXT = os.path.join(ROOT, "demo", "text", "en.count.txt")
CHANGES = os.path.join(ROOT, "tools", "changes.py")
# Before a tool and its words: it runs as if numpy were not installed.
WITHOUT_NUMPY = ["-c", "import runpy, sys; sys.modules['numpy'] = None; del sys.argv[0]; "
                 "sys.path.insert(0, %r); runpy.run_path(sys.argv[0], run_name='__main__')"
                 % os.path.join(ROOT, "tools")]


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
    return path


# ---- .npy ------------------------------------------------------------------------------------

class Tensor:
    """What a .npy file of lape's holds; its header must be as the format wants it."""

    def __init__(self, data):
        assert data[:10] == b"\x93NUMPY\1\0" + struct.pack("<H", 118), data[:10]
        header = data[10:128]
        match = re.fullmatch(rb"\{'descr': '<f4', 'fortran_order': False, "
                             rb"'shape': \(([0-9, ]*)\), \} *\n", header)
        assert match, header
        self.shape = [int(word) for word in re.findall(rb"\d+", match.group(1))]
        self.raw = data[128:]
        assert len(self.raw) == 4 * product(self.shape), (len(self.raw), self.shape)

    def plane(self, layer):
        size = len(self.raw) // self.shape[0]
        return self.raw[layer * size:(layer + 1) * size]

    def row(self, *place):
        """The numbers of [token], or of [layer, token]."""
        columns, at = self.shape[-1], 0
        for i, length in zip(place, self.shape):
            at = at * length + i
        return struct.unpack_from("<%df" % columns, self.raw, 4 * at * columns)

    def numbers(self):
        return struct.unpack("<%df" % (len(self.raw) // 4), self.raw)


# ---- GGUF ------------------------------------------------------------------------------------

U32, STRING, U64, F64 = 4, 8, 10, 12
F32, I64, BF16 = 0, 27, 30


class Gguf(Reader):
    """Of every tensor dimensions (rows first), type and where it lies; the file's bytes."""

    def __init__(self, path):
        super().__init__(path)
        self.data = read(path)
        self.tensors = {name: (list(dims[::-1]), kind, offset)
                        for name, (dims, kind, offset) in self.tensors.items()}

    def numbers(self, name):
        dims, kind, offset = self.tensors[name]
        n, at = product(dims), self.start + offset
        if kind == BF16:
            raw = bytearray(4 * n)
            raw[2::4] = self.data[at:at + 2 * n:2]
            raw[3::4] = self.data[at + 1:at + 2 * n:2]
            return struct.unpack("<%df" % n, bytes(raw))
        return struct.unpack_from("<%d%s" % (n, {F32: "f", I64: "q"}[kind]), self.data, at)

    def times(self, name, x):
        """A matrix times a vector, in double precision."""
        (rows, columns), w = self.tensors[name][0], self.numbers(name)
        assert len(x) == columns
        return [sum(map(float.__mul__, w[i * columns:(i + 1) * columns], x)) for i in range(rows)]


def gguf(values, tensors):
    """A file of values (key, type, value; lists are arrays) and tensors (name, rows, integers)."""
    return gguf_file(values, [
        (name, (rows, len(numbers) // rows), I64, struct.pack("<%dq" % len(numbers), *numbers))
        for name, rows, numbers in tensors])


def gguf_file(values, tensors):
    """The same of tensors (name, dimensions, rows first, type, bytes)."""
    made = io.BytesIO()
    write_gguf(made, values, [Output(name, dims[::-1], NAMES[kind], [raw])
                              for name, dims, kind, raw in tensors])
    return made.getvalue()


# ---- What every test needs ---------------------------------------------------------------------

def run(*args, **options):
    return subprocess.run([LAPE] + list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=600, **options)


class Case(folder.Case):
    def lape(self, status, *args):
        """What a run prints, and its one line on stderr, "" for none."""
        return self.ended(run(*args, cwd=self.directory), status)

    def ended(self, done, status):
        """The same of a run that has ended, which is to have this status."""
        message = done.stderr.decode("utf-8", "replace")
        self.assertEqual(done.returncode, status, (done.args, message))
        self.assertRegex(message, r"\Alape: [^\r\n]+\n\Z" if status else r"\A\Z")
        self.assertEqual([n for n in os.listdir(self.directory) if n.endswith(".tmp")], [])
        return done.stdout.decode(), message

    def refused(self, status, culprits, *args):
        """Fails with this status and one line that holds every culprit; prints and leaves nothing.
        """
        with self.subTest(" ".join(args)[-200:]):
            before = sorted(os.listdir(self.directory))
            printed, message = self.lape(status, *args)
            for culprit in [culprits] if isinstance(culprits, str) else culprits:
                self.assertIn(culprit, message)
            self.assertEqual(printed, "")
            self.assertEqual(sorted(os.listdir(self.directory)), before, "files left")


# ---- lape trace ------------------------------------------------------------------------------

class Trace(Case):
    NAMES = "embd attn_norm q k v heads attn_out ffn_norm gate act up down resid logits".split()

    @classmethod
    def setUpClass(cls):
        cls.model = Gguf(DEMO)
        values = cls.model.values
        value = lambda key: values["llama." + key]
        cls.layers, cls.vocab, width = (value("block_count"), value("vocab_size"),
                                        value("embedding_length"))
        cls.heads, cls.kv_heads = (value("attention.head_count"), value("attention.head_count_kv"))
        cls.head = value("attention.key_length")
        cls.epsilon = value("attention.layer_norm_rms_epsilon")
        cls.bos = values["tokenizer.ggml.bos_token_id"]
        cls.columns = dict.fromkeys(cls.NAMES, width)
        cls.columns.update(q=cls.heads * cls.head, k=cls.kv_heads * cls.head,
                           v=cls.kv_heads * cls.head, heads=cls.heads * cls.head,
                           logits=cls.vocab)
        for name in "gate", "act", "up":
            cls.columns[name] = value("feed_forward_length")
        rng = random.Random("ids")
        cls.ids = [rng.randrange(3, cls.vocab) for _ in range(20)]

    def ids_file(self, ids):
        return self.path("ids.npy", npy(bytes_of(ids, "<i4"), "<i4"))

    def trace(self, name, file, *args):
        output = self.path("out.npy")
        if "-t" not in args:
            args += ("-t", "1")
        printed, _ = self.lape(0, "trace", DEMO, file, "--at", name, "-q", "-o", output, *args)
        self.assertEqual(printed, "")
        tensor = Tensor(read(output))
        os.remove(output)
        return tensor

    def is_layered(self, name):
        return name not in ("embd", "logits")

    def test_shapes_and_planes(self):
        file = self.ids_file(self.ids)
        for name in self.NAMES:
            with self.subTest(name):
                plane, whole = [len(self.ids), self.columns[name]], self.trace(name, file)
                self.assertEqual(whole.shape, [self.layers] * self.is_layered(name) + plane)
                self.assertTrue(all(map(math.isfinite, whole.numbers())))
                if not self.is_layered(name):
                    continue
                for layer in range(self.layers):
                    one = self.trace(name, file, "--layer", str(layer))
                    self.assertEqual(one.shape, plane)
                    self.assertEqual(one.raw, whole.plane(layer), layer)
                self.assertEqual(len({whole.plane(layer) for layer in range(self.layers)}),
                                 self.layers, "planes are the same")

    def assert_rows(self, whole, parts):
        """The whole is the parts one below the other, layer by layer."""
        planes = whole.shape[0] if len(whole.shape) == 3 else 1
        self.assertEqual(whole.shape[-2], sum(part.shape[-2] for part in parts))
        for layer in range(planes):
            rows = b"".join(p.plane(layer) if planes > 1 else p.raw for p in parts)
            self.assertEqual(whole.plane(layer) if planes > 1 else whole.raw, rows, layer)

    def test_pieces(self):
        """A piece knows nothing of those before it; the last one is shorter."""
        for name in self.NAMES:
            with self.subTest(name):
                whole = self.trace(name, self.ids_file(self.ids), "--seq", "8")
                parts = [self.trace(name, self.ids_file(self.ids[at:at + 8])) for at in (0, 8, 16)]
                self.assertEqual([part.shape[-2] for part in parts], [8, 8, 4])
                self.assert_rows(whole, parts)
        one_piece = self.trace("resid", self.ids_file(self.ids))
        cut = self.trace("resid", self.ids_file(self.ids), "--seq", "8")
        self.assertNotEqual(one_piece.raw, cut.raw)
        self.assertEqual(one_piece.plane(0)[:8 * 4 * self.columns["resid"]],
                         cut.plane(0)[:8 * 4 * self.columns["resid"]])
        for seq in "20", "21", "16777216":
            longer = self.trace("resid", self.ids_file(self.ids), "--seq", seq)
            self.assertEqual(longer.raw, one_piece.raw)

    def test_pieces_of_one_token(self):
        """Pieces of 2 of which the last has one token; a text of one token."""
        for ids in self.ids[:5], self.ids[:1]:
            whole = self.trace("attn_out", self.ids_file(ids), "--seq", "2")
            parts = [self.trace("attn_out", self.ids_file(ids[at:at + 2]))
                     for at in range(0, len(ids), 2)]
            self.assert_rows(whole, parts)

    def test_bos(self):
        """Every piece gets a row more, and is what its ids behind the BOS's are."""
        for name in "embd", "k", "attn_out", "logits":
            for seq, rows in (8, 20 + 3), (20, 20 + 2), (21, 20 + 1), (2, 20 + 20), (0, 20 + 1):
                with self.subTest(name, seq=seq):
                    options = ["--seq", str(seq)] if seq else []
                    whole = self.trace(name, self.ids_file(self.ids), "--bos", *options)
                    self.assertEqual(whole.shape[-2], rows)
                    step = seq - 1 if seq else 20
                    parts = [[self.bos] + self.ids[at:at + step] for at in range(0, 20, step)]
                    if seq != 2 or name == "k":
                        self.assert_rows(whole, [self.trace(name, self.ids_file(part))
                                                 for part in parts])

    def test_tokens(self):
        for name in "embd", "q", "logits":
            for n, options in (1, []), (7, []), (11, ["--seq", "8"]), (11, ["--seq", "8", "--bos"]):
                few = self.trace(name, self.ids_file(self.ids), "--tokens", str(n), *options)
                self.assert_rows(few, [self.trace(name, self.ids_file(self.ids[:n]), *options)])
            for n in "20", "21", "1000000000000000":
                self.assertEqual(self.trace(name, self.ids_file(self.ids), "--tokens", n).raw,
                                 self.trace(name, self.ids_file(self.ids)).raw)

    def test_forms_of_ids(self):
        """.npy of any integer type, .bin, and text, which is what its ids are."""
        want = self.trace("gate", self.ids_file(self.ids)).raw
        for descr in "<i2", "<u2", "<u4", "<i8":
            file = self.path("x.npy", npy(bytes_of(self.ids, descr), descr))
            self.assertEqual(self.trace("gate", file).raw, want, descr)
        file = self.path("x.npy", npy(bytes_of(self.ids, "<i4"), "<i4", version=2))
        self.assertEqual(self.trace("gate", file).raw, want)
        file = self.path("x.bin", bytes_of(self.ids, "<u2"))
        self.assertEqual(self.trace("gate", file).raw, want)
        text = read(TEXT)[:200]
        encoded = subprocess.run([LAPE, "tokenize", DEMO], input=text, stdout=subprocess.PIPE,
                                 check=True, timeout=120).stdout
        ids = [int(word) for word in encoded.split()]
        self.assertGreater(len(ids), 40)
        file = self.path("x.txt", text)
        for options in [], ["--seq", "16", "--bos"]:
            self.assertEqual(self.trace("down", file, *options).raw,
                             self.trace("down", self.ids_file(ids), *options).raw)

    def test_threads(self):
        file = self.ids_file(self.ids)
        for name in "logits", "resid", "act":
            one = self.trace(name, file, "-t", "1").raw
            self.assertEqual(one, self.trace(name, file, "-t", "3").raw, name)
            output = self.path("all.npy")
            self.lape(0, "trace", DEMO, file, "--at", name, "-o", output)
            self.assertEqual(one, Tensor(read(output)).raw, name)

    def test_embedding(self):
        """The rows of the model's bf16 embedding, to the bit."""
        (vocab, width), kind, offset = self.model.tensors["token_embd.weight"]
        self.assertEqual((vocab, kind), (self.vocab, BF16))
        ids = self.ids + [0, vocab - 1, self.bos]
        rows = self.trace("embd", self.ids_file(ids)).raw
        for i, token in enumerate(ids):
            at = self.model.start + offset + 2 * token * width
            raw = self.model.data[at:at + 2 * width]
            row = b"".join(b"\0\0" + raw[2 * j:2 * j + 2] for j in range(width))
            self.assertEqual(rows[4 * i * width:4 * (i + 1) * width], row, token)

    def test_relations(self):
        """What holds between the tensors of one forward pass, whatever it computes."""
        file = self.ids_file(self.ids)
        of = {name: self.trace(name, file) for name in
              ("embd", "attn_out", "gate", "act", "down", "resid")}
        for gate, act in zip(of["gate"].numbers(), of["act"].numbers()):
            self.assertLess(abs(act - gate / (1 + math.exp(-gate))), 1e-5)
        for layer in range(self.layers):
            for token in range(len(self.ids)):
                before = (of["resid"].row(layer - 1, token) if layer else of["embd"].row(token))
                for x, a, d, y in zip(before, of["attn_out"].row(layer, token),
                                      of["down"].row(layer, token), of["resid"].row(layer, token)):
                    self.assertLess(abs(x + a + d - y), 1e-4)

    def norm(self, x, name):
        scale = 1 / math.sqrt(sum(v * v for v in x) / len(x) + self.epsilon)
        return [v * scale * w for v, w in zip(x, self.model.numbers(name))]

    def close(self, got, want, what):
        self.assertEqual(len(got), len(want), what)
        most = max(map(abs, want))
        self.assertGreater(most, 1e-3, what)
        for x, y in zip(got, want):
            self.assertLess(abs(x - y), 1e-5 * most, what)

    def test_every_name_is_what_it_says(self):
        """Each tensor is a step or two from another. For the first token all of them: it attends to
        itself alone and is not rotated."""
        file = self.ids_file(self.ids)
        of = {name: self.trace(name, file) for name in self.NAMES}
        for layer, token in (0, 0), (self.layers - 1, 0), (1, 13), (self.layers - 1, 19):
            x = {name: of[name].row(layer, token) if self.is_layered(name) else of[name].row(token)
                 for name in self.NAMES}
            start = x["embd"] if layer == 0 else of["resid"].row(layer - 1, token)
            block, product_of = "blk.%d." % layer, self.model.times
            self.close(x["attn_norm"], self.norm(start, block + "attn_norm.weight"), "attn_norm")
            for name in ("q", "k", "v") if token == 0 else "v":
                weight = "%sattn_%s.weight" % (block, name)
                self.close(x[name], product_of(weight, x["attn_norm"]), name)
            if token == 0:
                seen = [v for i in range(self.heads)
                        for v in x["v"][i * self.kv_heads // self.heads * self.head:][:self.head]]
                self.close(x["heads"], seen, "heads")
            self.close(x["attn_out"], product_of(block + "attn_output.weight", x["heads"]),
                       "attn_out")
            middle = list(map(float.__add__, start, x["attn_out"]))
            self.close(x["ffn_norm"], self.norm(middle, block + "ffn_norm.weight"), "ffn_norm")
            for name in "gate", "up":
                weight = "%sffn_%s.weight" % (block, name)
                self.close(x[name], product_of(weight, x["ffn_norm"]), name)
            inner = list(map(float.__mul__, x["act"], x["up"]))
            self.close(x["down"], product_of(block + "ffn_down.weight", inner), "down")
            if layer == self.layers - 1:
                last = self.norm(x["resid"], "output_norm.weight")
                self.close(x["logits"], product_of("token_embd.weight", last), "logits")

    def test_rotation(self):
        """Later tokens are rotated: lengths of q and k stay, their numbers do not."""
        file = self.ids_file(self.ids)
        for name in "q", "k":
            x, token = self.trace("attn_norm", file).row(1, 5), self.trace(name, file).row(1, 5)
            plain = self.model.times("blk.1.attn_%s.weight" % name, x)
            self.assertGreater(max(abs(a - b) for a, b in zip(plain, token)), 1e-2)
            for at in range(0, len(plain), 2):
                self.assertAlmostEqual(math.hypot(*plain[at:at + 2]), math.hypot(*token[at:at + 2]),
                                       delta=1e-4)


class TraceRefused(Case):
    def test_usage(self):
        file, output = self.path("ids.bin", bytes_of([3, 4], "<u2")), self.path("out.npy")
        trace = ["trace", DEMO, file]
        for name in "frob", "", "Embd", "gate ", "logit", "0":
            self.refused(2, ["embd", "logits", name], *trace, "--at", name, "-o", output)
        self.refused(2, "--at", *trace, "-o", output)
        self.refused(2, "--at", *trace, "-o", output, "--at")
        self.refused(2, "-o", *trace, "--at", "embd")
        self.refused(2, "lape trace MODEL FILE", "trace", DEMO, "--at", "embd", "-o", output)
        self.refused(2, "lape trace", "trace", "--at", "embd", "-o", output)
        self.refused(2, "none", *trace, "none", "--at", "embd", "-o", output)
        self.refused(2, file, *trace, "--at", "embd", "-o", file)
        trace += ["--at", "gate", "-o", output]
        for layer in "-1", "x", "", "1.5", "65537", "99999999999999999999":
            self.refused(2, "--layer", *trace, "--layer", layer)
        for option, value in ("--seq", "1"), ("--tokens", "0"), ("--batch", "1"), ("--near", "1"):
            self.refused(2, option, *trace, option, value)

    def test_layers(self):
        file, output = self.path("ids.bin", bytes_of([3, 4], "<u2")), self.path("out.npy")
        trace, layers = ["trace", DEMO, file, "-o", output, "--at"], len([
            name for name in Gguf(DEMO).tensors if name.endswith("ffn_gate.weight")])
        for layer in layers, layers + 1, 65536:
            self.refused(1, "--layer %d" % layer, *trace, "gate", "--layer", str(layer))
        for name in "embd", "logits":
            for layer in "0", "1", "60000":
                self.refused(1, "--layer " + layer, *trace, name, "--layer", layer)

    def test_files(self):
        output = self.path("out.npy")
        options, good = ["--at", "resid", "-o", output], self.path("g.bin", b"\3\0\4\0")
        for name, data in (
                ("past.npy", npy(bytes_of([3, 4096, 4], "<i4"), "<i4")),
                ("below.npy", npy(bytes_of([3, -1], "<i8"), "<i8")), ("past.bin", b"\3\0\0\20"),
                ("far.npy", npy(bytes_of([3, 3 - 2 ** 63], "<i8"), "<i8")),
                ("odd.bin", b"\3\0\4"), ("floats.npy", npy(bytes_of([3.0, 4.0], "<f4"))),
                ("none.npy", npy(b"", "<i4")), ("no.npy", b"\3\0\4\0"), ("empty.bin", b""),
                ("empty.txt", b""), ("empty.npy", b""), ("latin.txt", b"caf\xe9")):
            self.refused(1, name, "trace", DEMO, self.path(name, data), *options)
        self.refused(1, "missing.txt", "trace", DEMO, self.path("missing.txt"), *options)
        self.refused(1, self.directory, "trace", DEMO, self.directory, *options)
        self.refused(1, "missing.gguf", "trace", self.path("missing.gguf"), good, *options)
        self.refused(1, "g.bin", "trace", good, good, *options)
        self.refused(1, "nowhere", "trace", DEMO, good, "--at", "resid", "-o",
                     self.path(os.path.join("nowhere", "out.npy")))

    def test_ids_cut_short(self):
        """Fewer ids than the shape says, or more."""
        for shape in "(4, 3)", "(5,)", "(3,)", "(4, 0)", "(2, 4)":
            path = self.path("cut.npy", npy(bytes_of([3, 4, 5, 6], "<i4"), "<i4", shape))
            self.refused(1, "cut.npy", "trace", DEMO, path, "--at", "gate", "-o",
                         self.path("out.npy"))

    def test_no_bos(self):
        key, data = b"tokenizer.ggml.bos_token_id", read(DEMO)
        self.assertEqual(data.count(key), 1)
        model = self.path("no-bos.gguf", data.replace(key, b"tokenizer.ggml.xxx_token_id"))
        self.refused(1, "--bos", "trace", model, self.path("ids.bin", b"\3\0"), "--bos", "--at",
                     "gate", "-o", self.path("out.npy"))

    def test_old_result_stays(self):
        output = self.path("out.npy", b"older")
        self.refused(1, "4096", "trace", DEMO, self.path("x.bin", b"\0\20"), "--at", "gate", "-o",
                     output)
        self.assertEqual(read(output), b"older")


class IdHeaders(Headers, Case):
    """Of token ids."""

    descr = "<i4"
    wrong = ("<f2", "<f4", "<f8", "<i3", "<i0", "<u16", ">i4", ">u2", "|i", "i4", "<i-4",
             "<i4294967300", "<i4,<i4", "<i4x", "<i44")
    wrong_is = "integers"

    def setUp(self):
        super().setUp()
        self.model = self.path("tiny.gguf", tiny.to_bytes(tiny.model()))

    def words(self, path):
        return ["trace", self.model, path, "--at", "embd", "-t", "1", "-o", self.path("out.npy")]

    def reads(self, path):
        self.lape(0, *self.words(path))
        os.remove(self.path("out.npy"))

    def refuses(self, path, culprits):
        self.refused(1, culprits, *self.words(path))

    def attempt(self, path):
        done = run(*self.words(path))
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def test_dimensions_do_not_matter(self):
        """Ids are one text, row after row."""
        plain, other = self.path("plain.npy"), self.path("other.npy")
        for path, shape in (plain, "(4,)"), (other, "(" + "1, " * 500 + "4)"):
            ids = self.path("ids.npy", npy(self.numbers, self.descr, shape))
            self.lape(0, *self.words(ids)[:-1], path)
        self.assertEqual(read(plain), read(other))


# ---- lape diff -----------------------------------------------------------------------------------

PER_NEURON = ["positive", "near_above", "near_below", "sum", "positive_sum"]


class Language:
    def __init__(self, tokens, pieces, of):
        self.tokens, self.pieces, self.of = tokens, pieces, of

    def copy(self, **changed):
        new = Language(self.tokens, self.pieces, dict(self.of))
        for name, value in changed.items():
            if name in ("tokens", "pieces"):
                setattr(new, name, value)
            elif value is None:
                new.of.pop(name, None)
            else:
                new.of[name] = value
        return new


class Counts:
    """Counts as doc/commands.md tells of them."""

    def __init__(self, layers, neurons, vocab, languages, near=.001, model="made"):
        self.layers, self.neurons, self.vocab = layers, neurons, vocab
        self.languages, self.near, self.model = languages, near, model

    @classmethod
    def at_random(cls, seed, labels=("aa", "bb", "cc"), layers=3, neurons=20, vocab=11):
        rng = random.Random(seed)
        size, languages = layers * neurons, {}
        for label in labels:
            tokens = rng.randrange(500, 1500)
            positive = [int(tokens * rng.random() ** 3) for _ in range(size)]
            above = [rng.randrange(min(4, p + 1)) for p in positive]
            below = [rng.randrange(min(4, tokens - p + 1)) for p in positive]
            sums = [rng.randrange(-1 << 40, 1 << 40) for _ in range(size)]
            histogram = [0] * vocab
            for _ in range(tokens):
                histogram[rng.randrange(vocab)] += 1
            languages[label] = Language(tokens, tokens // 50, {
                "positive": positive, "near_above": above, "near_below": below, "sum": sums,
                "positive_sum": [abs(s) for s in sums], "histogram": histogram})
        return cls(layers, neurons, vocab, languages)

    def copy(self, **changed):
        """With these languages changed, or left out when None."""
        languages = {**self.languages, **changed}
        return Counts(self.layers, self.neurons, self.vocab,
                      {k: v for k, v in languages.items() if v}, self.near, self.model)

    def counted(self, label, positive):
        return self.copy(**{label: self.languages[label].copy(positive=positive)})

    def imported(self):
        """As from the released code's files: nothing but `positive`."""
        new = self.copy(**{label: Language(l.tokens, None, {"positive": l.of["positive"]})
                           for label, l in self.languages.items()})
        new.vocab = new.near = None
        return new

    def file(self):
        labels = sorted(self.languages)
        languages = [self.languages[label] for label in labels]
        values = [("general.architecture", STRING, "lape-counts"),
                  ("general.name", STRING, self.model),
                  ("lape-counts.layers", U64, self.layers),
                  ("lape-counts.neurons", U64, self.neurons)]
        if self.vocab is not None:
            values += [("lape-counts.vocabulary", U64, self.vocab),
                       ("lape-counts.piece_length", U64, 50), ("lape-counts.bos", U64, 0),
                       ("lape-counts.near", F64, self.near)]
        values += [("lape-counts.languages", STRING, labels),
                   ("lape-counts.tokens", U64, [l.tokens for l in languages])]
        if self.vocab is not None:
            values += [("lape-counts.pieces", U64, [l.pieces for l in languages])]
        return gguf(values, [(label + "." + name, 1 if name == "histogram" else self.layers,
                              l.of[name])
                             for label, l in zip(labels, languages)
                             for name in PER_NEURON + ["histogram"] if name in l.of])


def bounds(reference, i):
    """The lowest and the highest count that is no error."""
    of = reference.of
    return of["positive"][i] - of["near_above"][i], of["positive"][i] + of["near_below"][i]


def table_row(counts, label, a, b):
    """The row that a language's counts make, and how many are outside."""
    differ = outside = 0
    worst = ((-1, -1), 0)
    for i, (x, y) in enumerate(zip(a.of["positive"], b.of["positive"])):
        low, high = bounds(a, i)
        far = max(low - y, y - high, 0)
        differ += x != y
        outside += not low <= y <= high
        if (far, abs(x - y)) > worst[0]:
            worst = (far, abs(x - y)), i
    i = worst[1]
    return [label, a.tokens, differ, outside, i // counts.neurons, i % counts.neurons,
            a.of["positive"][i], a.of["near_above"][i], a.of["near_below"][i],
            b.of["positive"][i]], outside


def select(counts, labels, top, filter_rate, bar):
    """LAPE by the README's three steps: {(layer, neuron): languages}."""
    size = counts.layers * counts.neurons
    p = [[Fraction(counts.languages[k].of["positive"][i], counts.languages[k].tokens)
          for k in labels] for i in range(size)]
    ranked = sorted(value for row in p for value in row)

    def threshold(rate):
        rank = round(rate * len(ranked))
        return ranked[rank - 1] if rank else -1

    def entropy(row):
        total = sum(row)
        return -sum(float(v / total) * math.log(v / total) for v in sorted(row) if v)

    active = [i for i in range(size) if max(p[i]) > threshold(filter_rate)]
    lowest = sorted((entropy(p[i]), i) for i in active)
    budget = round(top * size)
    if budget < len(lowest):             # no rounding may decide who is in
        score, i = lowest[budget - 1] if budget else (-1, None)
        after, j = lowest[budget]
        assert (i is None or after - score > 1e-9 or after == score == 0
                or sorted(p[i]) == sorted(p[j]))
    return {(i // counts.neurons, i % counts.neurons):
            [k for k, v in zip(labels, p[i]) if v > threshold(bar)] for _, i in lowest[:budget]}


HEADING = "language tokens differ outside layer neuron count|near above|near below|other"
HEADING = HEADING.replace(" ", "\t", 6).replace("|", "\t").split("\t")
RATES = (.3, .5, .6)                     # --top, --filter, --bar of most tests


class CountsCase(Case):
    def pair(self, a, b):
        return [self.path("a.gguf", a.file()), self.path("b.gguf", b.file())]

    def found(self, file, labels, rates):
        """The selection that `lape find` makes."""
        options = [word for pair in zip(("--top", "--filter", "--bar"), map(repr, rates))
                   for word in pair]
        text, _ = self.lape(0, "find", file, "-q", "--langs", ",".join(labels), *options)
        rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
        at = [rows[0].index(name) for name in ("layer", "neuron", "languages")]
        rows = [[row[i] for i in at] for row in rows[1:]]
        return {(int(layer), int(neuron)): [] if languages == "-" else languages.split(",")
                for layer, neuron, languages in rows}

    def check(self, a, b, labels=None, rates=RATES, brute=True):
        """Runs it on two files, and holds all that it prints against brute force."""
        files = self.pair(a, b)
        options = [word for pair in zip(("--top", "--filter", "--bar"), map(repr, rates))
                   for word in pair]
        if labels:
            options += ["--langs", ",".join(labels)]
        labels = labels or sorted(a.languages)
        rows = [table_row(a, k, a.languages[k], b.languages[k]) for k in labels]
        outside = sum(n for _, n in rows)
        printed, message = self.lape(1 if outside else 0, "diff", *files, *options)
        lines = [line.split("\t") for line in printed.splitlines()]
        self.assertEqual(lines[0], HEADING)
        self.assertEqual(lines[1:len(rows) + 1], [list(map(str, row)) for row, _ in rows])
        lines = lines[len(rows) + 1:]
        if outside:
            self.assertIn("b.gguf", message)
            self.assertIn("%d of %d" % (outside, a.layers * a.neurons * len(labels)), message)
        else:
            self.assertRegex(lines.pop()[0], r"every count is within the bound\b.* %g\b" % a.near)
        if len(labels) == 1:                             # which no neurons are selected for
            self.assertEqual(lines, [])
            return rows, []
        old, new = (select(c, labels, *rates) if brute else self.found(file, labels, rates)
                    for c, file in zip((a, b), files))
        name = lambda s, place: (",".join(s[place]) or "-") if place in s else "not selected"
        changed = [[str(place[0]), str(place[1]), name(old, place), name(new, place)]
                   for place in sorted(set(old) | set(new)) if old.get(place) != new.get(place)]
        self.assertEqual(lines.pop(), [
            "selection: %d neurons in the reference, %d in the other, %d changed" %
            (len(old), len(new), len(changed))])
        if changed:
            self.assertEqual(lines[0], ["layer", "neuron", "reference", "other"])
        self.assertEqual(lines[1:], changed)
        return rows, changed


class Bound(CountsCase):
    def test_same(self):
        for seed in range(3):
            a = Counts.at_random(seed)
            rows, changed = self.check(a, a)
            self.assertEqual([row[2:6] for row, _ in rows], [[0] * 4] * 3)
            self.assertEqual(changed, [])

    def other(self, rng, a, beyond):
        """Other counts, of which none or some are outside by 1 to `beyond`."""
        new = {}
        for label, l in a.languages.items():
            positive = []
            for i, count in enumerate(l.of["positive"]):
                low, high = bounds(l, i)
                count = rng.choice([count, low - rng.randrange(beyond + 1), rng.randint(low, high),
                                    high + rng.randrange(beyond + 1)])
                positive.append(min(max(count, 0), l.tokens))
            new[label] = l.copy(positive=positive)
        return a.copy(**new)

    def test_random(self):
        rng, seen = random.Random("counts"), set()
        for seed in range(10):
            a = Counts.at_random(seed, ("de", "en", "x-_9", "z" * 24)[:1 + seed % 4])
            for beyond in 0, 1, 300:
                rows, _ = self.check(a, self.other(rng, a, beyond))
                seen.add(any(outside for _, outside in rows))
                if beyond == 0:
                    self.assertEqual([outside for _, outside in rows], [0] * len(rows))
        self.assertEqual(seen, {False, True})

    def test_edges(self):
        """One count at each bound passes, and is outside one further, at any place."""
        a, places = Counts.at_random("edges"), random.Random("places")
        size = a.layers * a.neurons
        l = a.languages["bb"]
        cases = [(above, below) for above in (0, 1, 7) for below in (0, 1, 7)]
        for above, below in cases:
            i = places.choice([0, size - 1, places.randrange(size)])
            at = lambda numbers, v: numbers[:i] + [v] + numbers[i + 1:]
            reference = a.copy(bb=l.copy(positive=at(l.of["positive"], 100),
                                         near_above=at(l.of["near_above"], above),
                                         near_below=at(l.of["near_below"], below)))
            for count, outside in ((100 - above, 0), (100 - above - 1, 1), (100 + below, 0),
                                   (100 + below + 1, 1), (0, 1), (l.tokens, 1), (100, 0)):
                with self.subTest(above=above, below=below, count=count):
                    other = reference.counted("bb", at(l.of["positive"], count))
                    rows, _ = self.check(reference, other)
                    self.assertEqual([n for _, n in rows], [0, outside, 0])
                    self.assertEqual(rows[1][0][4:],
                                     [i // a.neurons, i % a.neurons, 100, above, below, count]
                                     if count != 100 else rows[1][0][4:])

    def test_worst(self):
        """The one furthest outside; of those alike, the one that differs most; then the first."""
        a = Counts.at_random("worst", ("xx",), 2, 4)
        make = lambda above, below, count: (
            a.copy(xx=a.languages["xx"].copy(positive=[100] * 8, near_above=above,
                                             near_below=below)),
            a.counted("xx", count))
        zeros = [0] * 8
        for above, below, count, place in (
                (zeros, [0, 50, 0, 0, 0, 0, 0, 0], [100, 150, 100, 101, 100, 100, 98, 100], 6),
                (zeros, [0, 50, 0, 0, 9, 0, 0, 0], [100, 150, 100, 102, 111, 100, 98, 100], 4),
                (zeros, zeros, [100, 100, 100, 101, 100, 99, 100, 100], 3),
                ([50] * 8, [50] * 8, [100, 101, 100, 97, 100, 103, 100, 101], 3),
                ([9] * 8, [0] * 8, [91, 100, 101, 100, 100, 100, 100, 100], 2)):
            rows, _ = self.check(*make(above, below, count))
            self.assertEqual(rows[0][0][4] * 4 + rows[0][0][5], place)

    def test_extremes(self):
        """Counts near the largest there are."""
        most = (1 << 63) - 1
        a = Counts(1, 3, 1, {"xx": Language(most, 1, {
            "positive": [most, 0, 5], "near_above": [0, 0, most], "near_below": [0, most, most],
            "sum": [-1 << 63] * 3, "positive_sum": [most] * 3, "histogram": [most]})})
        for count, outside in ([most, 0, 5], 0), ([most, most, 5], 0), ([0, 0, 0], 1), (
                [most - 1, 0, most], 1), ([0, most, most], 1):
            rows, _ = self.check(a, a.counted("xx", count), brute=False)
            self.assertEqual(rows[0][1], outside)

    def test_other_statistics_do_not_matter(self):
        """Sums, pieces, the other's near counts, and its model's name."""
        a, other = Counts.at_random("a"), Counts.at_random("b")
        b = a.copy(**{k: l.copy(pieces=3, **{name: other.languages[k].of[name]
                                             for name in ("sum", "positive_sum")},
                                near_above=[0] * 60, near_below=None)
                      for k, l in a.languages.items()})
        b.model, b.near = "another", .5
        self.check(a, b)

    def test_near(self):
        """The bound is that of the reference, and the line tells its distance."""
        a = Counts.at_random("near")
        for near in 0.0, .25, 1e-5:
            a.near = near
            self.check(a, a)
            self.check(a, a.counted("aa", [0] * 60))

    def test_languages_in_any_order(self):
        a = Counts.at_random("langs", ("aa", "bb", "cc", "dd"))
        b = self.other(random.Random("langs"), a, 3)
        for labels in ["bb"], ["cc", "aa"], ["dd", "cc", "bb", "aa"], ["aa", "bb", "cc", "dd"]:
            self.check(a, b, labels)

    def test_languages_of_one_file_only(self):
        a = Counts.at_random("langs", ("aa", "bb", "cc"))
        b = a.copy(bb=None, zz=a.languages["bb"])
        self.check(a, b, ["cc", "aa"])
        self.check(a, a.copy(bb=None), ["aa"])
        self.check(a.copy(bb=None), a, ["aa", "cc"])

    def test_one_language_outside(self):
        """Outside only in a language that --langs leaves out."""
        a = Counts.at_random("one")
        b = a.counted("cc", [l.tokens for l in [a.languages["cc"]] * 60])
        self.assertEqual([n > 0 for _, n in self.check(a, b)[0]], [False, False, True])
        self.assertEqual([n for _, n in self.check(a, b, ["aa", "bb"])[0]], [0, 0])

    def test_imported(self):
        """Counts with nothing but `positive` can be judged, and can judge nothing."""
        a = Counts.at_random("imported")
        for b in a, self.other(random.Random(1), a, 0), self.other(random.Random(2), a, 2):
            self.check(a, b.imported())
        for other in a, a.imported():
            self.refused(1, ["a.gguf", "aa", "near"], "diff", *self.pair(a.imported(), other))
        for name in "near_above", "near_below":
            lacking = a.copy(bb=a.languages["bb"].copy(**{name: None}))
            self.refused(1, ["a.gguf", "bb", "near"], "diff", *self.pair(lacking, a))
            self.check(lacking, a, ["aa", "cc"])
            self.check(a, lacking)


class Selection(CountsCase):
    def changed(self, seed, share):
        """Counts, and others of which a share is quite different."""
        a, rng = Counts.at_random(seed, layers=4, neurons=30), random.Random(seed)
        b = a.copy(**{k: l.copy(positive=[rng.randrange(l.tokens + 1) if rng.random() < share
                                          else v for v in l.of["positive"]])
                      for k, l in a.languages.items()})
        return a, b

    def test_brute_force(self):
        kinds = set()
        for seed in range(6):
            a, b = self.changed(seed, .02 if seed % 2 else .2)
            for rates in (.3, .5, .6), (.1, .9, .8), (1.0, 0.0, .9), (.05, .99, 0.0), (.2, .3, 1.0):
                for row in self.check(a, b, rates=rates)[1]:
                    kinds.add(tuple(w if w in ("-", "not selected") else "some" for w in row[2:]))
            self.check(a, b, ["cc", "aa"])
        self.assertLessEqual({("some", "some"), ("some", "not selected"),
                              ("not selected", "some")}, kinds)
        self.assertIn("-", {word for kind in kinds for word in kind})

    def test_find(self):
        """The two lists are those that `lape find` makes of the two files."""
        for seed in range(6):
            a, b = self.changed(seed, .05)
            self.check(a, b, brute=False)
            self.check(a, b, ["bb", "aa"], (.2, .7, .5), brute=False)
            self.assertEqual(self.found(self.pair(a, b)[0], ["bb", "aa"], RATES),
                             select(a, ["bb", "aa"], *RATES))

    def test_default_rates(self):
        a, b = self.changed("rates", .5)
        a, b = (Counts(20, 30, c.vocab, {k: l.copy(**{
            name: l.of[name] * 5 for name in PER_NEURON}) for k, l in c.languages.items()})
                for c in (a, b))
        files = self.pair(a, b)
        plain = run("diff", *files).stdout
        told = run("diff", *files, "--top", ".01", "--filter", ".95", "--bar", ".95").stdout
        self.assertEqual(plain, told)
        self.assertIn(b"\nselection: 6 neurons in the reference, 6 in the other, ", plain)
        self.assertNotEqual(plain, run("diff", *files, "--top", ".05").stdout)

    def test_nothing_selected(self):
        a, b = self.changed("none", .3)
        for rates in (0.0, .5, .5), (.3, 1.0, .5):
            self.assertEqual(self.check(a, b, rates=rates)[1], [])

    def test_changed_within_the_bound(self):
        """A count within the bound can change the selection: no failure, but it is listed."""
        a = Counts.at_random("within")
        rng = random.Random("within")
        wide = a.copy(**{k: l.copy(near_above=[min(v, 40) for v in l.of["positive"]],
                                   near_below=[min(l.tokens - v, 40) for v in l.of["positive"]])
                         for k, l in a.languages.items()})
        b = wide.copy(**{k: l.copy(positive=[rng.randint(*bounds(l, i)) for i in range(60)])
                         for k, l in wide.languages.items()})
        rows, changed = self.check(wide, b)
        self.assertEqual([n for _, n in rows], [0, 0, 0])
        self.assertGreater(len(changed), 0)


class Incomparable(CountsCase):
    def test_texts(self):
        a = Counts.at_random("texts")
        l = a.languages["bb"]
        histogram = list(l.of["histogram"])
        histogram[0] += 1
        more = a.copy(bb=l.copy(tokens=l.tokens + 1, histogram=histogram))
        self.refused(1, ["b.gguf", "bb", str(l.tokens), str(l.tokens + 1)], "diff",
                     *self.pair(a, more))
        self.refused(1, ["b.gguf", "bb", str(l.tokens), str(l.tokens + 1)], "diff",
                     *self.pair(more, a))
        self.refused(1, ["b.gguf", "bb"], "diff", *self.pair(a, more.imported()))
        for i, j in (0, 1), (9, 10), (10, 0):
            histogram = list(l.of["histogram"])
            histogram[i] -= 1
            histogram[j] += 1
            other = a.copy(bb=l.copy(histogram=histogram))
            self.refused(1, ["b.gguf", "bb"], "diff", *self.pair(a, other))
            self.check(a, other, ["aa", "cc"])
        larger = a.copy()                # of as many tokens, but of another vocabulary
        larger.vocab += 1
        for label, l in larger.languages.items():
            larger.languages[label] = l.copy(histogram=l.of["histogram"] + [0])
        self.refused(1, ["b.gguf", "aa", "other tokens"], "diff", *self.pair(a, larger))
        l = a.languages["bb"]
        self.check(a, a.copy(bb=l.copy(histogram=None)))
        self.check(a.copy(bb=l.copy(histogram=None)), a)

    def test_shapes(self):
        a = Counts.at_random("shapes", layers=4, neurons=6)
        for layers, neurons in (4, 5), (3, 6), (6, 4), (3, 8), (5, 6), (1, 24):
            other = Counts.at_random("shapes", layers=layers, neurons=neurons)
            self.refused(1, ["b.gguf", "%d x %d" % (layers, neurons), "4 x 6"], "diff",
                         *self.pair(a, other))

    def test_languages(self):
        a = Counts.at_random("languages")
        less, other = a.copy(bb=None), a.copy(bb=None, dd=a.languages["bb"])
        self.refused(1, "b.gguf", "diff", *self.pair(a, less))
        self.refused(1, "b.gguf", "diff", *self.pair(less, a))
        self.refused(1, ["b.gguf", "bb"], "diff", *self.pair(a, other))
        renamed = a.copy(bb=None, bc=a.languages["bb"])
        self.refused(1, ["b.gguf", "bb"], "diff", *self.pair(a, renamed))
        self.refused(1, "bb", "diff", *self.pair(a, other), "--langs", "aa,bb")
        self.refused(1, "dd", "diff", *self.pair(a, other), "--langs", "aa,dd")
        for list in "xx", "", "aa,", ",aa", "aa bb", "aa,,bb", "AA":
            self.refused(1, "'", "diff", *self.pair(a, a), "--langs", list)
        self.refused(2, "--langs", "diff", *self.pair(a, a), "--langs", "aa,bb,aa")

    def test_no_tokens(self):
        a = Counts.at_random("none", ("aa",))
        zeros = {name: [0] * len(v) for name, v in a.languages["aa"].of.items()}
        a = a.copy(aa=Language(0, 0, zeros))
        _, message = self.lape(1, "diff", *self.pair(a, a))
        self.assertIn("aa", message)

    def test_rates(self):
        files = self.pair(*[Counts.at_random("rates")] * 2)
        for option in "--top", "--filter", "--bar":
            for rate in "-.1", "1.1", "x", "", "nan":
                self.refused(2, option, "diff", *files, option, rate)

    def test_files(self):
        a = Counts.at_random("files")
        counts = self.path("a.gguf", a.file())
        array = self.path("x.npy", npy(bytes_of([1.0, 2.0], "<f4")))
        text = self.path("text.txt", b"Words, and no counts of them.\n")
        empty = self.path("empty", b"")
        cut = self.path("cut", a.file()[:-40])
        wrong = self.path("wrong", a.counted("aa", [a.languages["aa"].tokens + 1] * 60).file())
        lacking = self.path("lacking", a.copy(aa=a.languages["aa"].copy(positive=None)).file())
        for bad in text, empty, cut, wrong, lacking, DEMO, self.path("missing"), self.directory:
            for pair in [counts, bad], [bad, counts], [bad, bad]:
                self.refused(1, bad, "diff", *pair)
        self.refused(1, array, "diff", counts, array)
        self.refused(1, array, "diff", array, counts)

    def test_tensors(self):
        """Are another program's: a line says which."""
        array = self.path("x.npy", npy(bytes_of([1.0, 2.0], "<f4")))
        counts = self.path("a.gguf", Counts.at_random("tensors").file())
        for other in array, counts, self.path("missing.npy"):
            self.refused(1, [array, "tools/tensors.py"], "diff", array, other)
        self.refused(2, "--tolerance", "diff", array, array, "--tolerance", "1")
        self.refused(2, "--tolerance", "diff", counts, counts, "--tolerance", "1e9")


class Real(CountsCase):
    def test_against_itself(self):
        """Counts as `lape count` makes them, and as the writer here writes them again."""
        path = self.path("en.gguf")
        self.lape(0, "count", DEMO, "en=" + TEXT, "-q", "-o", path)
        printed, _ = self.lape(0, "diff", path, path)
        file = Gguf(path)
        of = {name: list(file.numbers("en." + name)) for name in PER_NEURON + ["histogram"]}
        tokens = file.values["lape-counts.tokens"][0]
        first = [of[name][0] for name in PER_NEURON[:3]]
        lines = [line.split("\t") for line in printed.splitlines()]
        self.assertEqual(lines[0], HEADING)
        self.assertEqual(lines[1], list(map(str, ["en", tokens, 0, 0, 0, 0] + first + first[:1])))
        self.assertEqual(len(lines), 3)                  # one language: no selection
        layers, neurons = file.tensors["en.positive"][0]
        a = Counts(layers, neurons, len(of["histogram"]), {"en": Language(tokens, 1, of)},
                   file.values["lape-counts.near"])
        again = self.path("again.gguf", a.file())
        for pair in [path, again], [again, path]:
            self.assertEqual(self.lape(0, "diff", *pair)[0], printed)
        self.assertGreater(sum(of["near_above"]), 0)
        self.assertGreater(sum(of["near_below"]), 0)
        at = max(range(layers * neurons), key=of["near_below"].__getitem__)
        for step in 0, 1:
            count = list(of["positive"])
            count[at] += of["near_below"][at] + step
            rows, _ = self.check(a, a.counted("en", count), rates=(.01, .95, .95), brute=False)
            self.assertEqual(rows[0][1], step)

    def test_near_zero_bounds_traced_gates(self):
        """The counts of a text are those of its traced gates and activations."""
        text = self.path("text.txt", read(TEXT)[:1500])
        counts, gates, acts = self.path("c.gguf"), self.path("g.npy"), self.path("a.npy")
        self.lape(0, "count", DEMO, "en=" + text, "--seq", "64", "--near", ".05", "-q", "-o",
                  counts)
        file = Gguf(counts)
        tokens = file.values["lape-counts.tokens"][0]
        for name, path in ("gate", gates), ("act", acts):
            self.lape(0, "trace", DEMO, text, "--seq", "64", "--tokens", str(tokens), "--at", name,
                      "-o", path)
        gate, act = Tensor(read(gates)), Tensor(read(acts))
        layers, rows, columns = gate.shape
        self.assertEqual(rows, tokens)
        near, = struct.unpack("<f", struct.pack("<f", .05))
        layer, want = 3, [[0] * columns for _ in range(3)]
        for token in range(rows):
            for j, (g, a) in enumerate(zip(gate.row(layer, token), act.row(layer, token))):
                want[0][j] += a > 0
                want[1][j] += 0 < g < near
                want[2][j] += -near <= g <= 0
        for name, numbers in zip(PER_NEURON, want):
            got = file.numbers("en." + name)[layer * columns:(layer + 1) * columns]
            self.assertEqual(list(got), numbers, name)

    def test_usage(self):
        path = self.path("a.gguf", Counts.at_random("usage").file())
        self.refused(2, "lape diff REFERENCE OTHER", "diff", path)
        self.refused(2, "lape diff", "diff")
        self.refused(2, "none", "diff", path, path, "none")
        self.refused(2, "--like", "diff", path, path, "--like", path)
        for option in "-o", "--seq", "-t", "--at", "--near":
            self.refused(2, option, "diff", path, path, option, "1")
        self.assertEqual(self.lape(0, "diff", path, path, "-q"), self.lape(0, "diff", path, path))


if __name__ == "__main__":
    sys.exit(report.main())
