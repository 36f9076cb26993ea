#!/usr/bin/env python3
"""tools/train.py: its parts, by hand; its runs, repeated, stopped and resumed; and a run of three
minutes, whose model lape reads, counts and measures.

    make train-test
    python test/oracle/test_train.py [--minutes 3] [--threads 0] [Parts] [Runs] [Whole]

The texts of the long run are LANG.train.txt and LANG.valid.txt in LAPE_SHARED/text (default
../shared/text), or else the demo's. Wants what tools/train.py does, and ./lape (or LAPE).
The last line on stdout is `N passed, N failed`.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import warnings
from unittest import mock

from paths import LAPE, ROOT, SHARED
import report
import train

train.import_libraries()
import numpy as np                                                           # noqa: E402
import torch                                                                 # noqa: E402

SHARED_TEXTS = os.path.join(SHARED, "text")
LANGUAGES = "en es fr id ja vi zh".split()
TRAIN = [sys.executable, os.path.join(ROOT, "tools", "train.py")]
# A model so small that a step takes milliseconds.
TINY = ("--langs en,ja --layers 2 --width 32 --heads 2 --kv-heads 1 --ffn 48 --vocab 1000 "
        "--coverage .98 --context 32 --batch 256 --threads 1 --weights f32 --log-every 0").split()
STEPS = 40
OPTIONS = argparse.Namespace(minutes=3.0, threads=0)


def demo_texts(folder):
    """The demo's texts under the names that train.py wants."""
    os.makedirs(folder, exist_ok=True)
    for language in LANGUAGES:
        for ours, theirs in (("count", "train"), ("eval", "valid")):
            shutil.copy(os.path.join(ROOT, "demo", "text", "%s.%s.txt" % (language, ours)),
                        os.path.join(folder, "%s.%s.txt" % (language, theirs)))
    return folder


def read(*path):
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def quietly(*words):
    """train.py in this process; its exit status."""
    with contextlib.redirect_stdout(io.StringIO()):
        return train.main([str(word) for word in words])


class Folder(unittest.TestCase):
    """Tests with the demo's texts, in a folder of their own."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="train.")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.texts = demo_texts(os.path.join(cls.folder, "texts"))

    def path(self, name):
        return os.path.join(self.folder, name)

    def data(self, name, *words):
        """The options of a command line, and their texts as ids."""
        args, _ = train.parse_options([self.texts, "-o", self.path(name), *TINY, *words])
        os.makedirs(args.output, exist_ok=True)
        return args, train.Data(args)


class Parts(Folder):

    def test_penalties(self):
        """Two windows of two tokens; each of the first two neurons works in one of them."""
        positive = torch.tensor([[[1., 0, 2], [3, 0, 2]], [[0, 2, 2], [0, 0, 2]]])
        two, third = positive[:, :, :2], positive[:, :, 2:]
        value = {kind: [float(f(x)) for x in (two, third)] for kind, f in train.PENALTIES.items()}
        self.assertEqual(value["mean"], [6 / 8, 2])
        silent = 1e-4                                     # the root of what keeps it from 0
        self.assertAlmostEqual(value["group"][0], (5 ** .5 + 2 ** .5 + 2 * silent) / 4, places=6)
        self.assertAlmostEqual(value["group"][1], 2, places=6)
        strong = np.array([5 ** .5, 2 ** .5])             # root mean squares in their windows
        dim = 1e-8 ** .25
        self.assertAlmostEqual(value["root"][0], (strong ** .5).mean() / 2 + dim / 2, places=6)
        self.assertAlmostEqual(value["root"][1], 2 ** .5, places=6)
        # in one of two windows: (x / 2)^2 / (x / sqrt 2), but for dim; in both: x
        self.assertAlmostEqual(value["rare"][0], (strong ** .5).mean() / 8 ** .5, delta=dim)
        self.assertAlmostEqual(value["rare"][1], 2 ** .5, places=6)

    def test_losses_of_a_model(self):
        """Nothing but the embedding reaches gates and logits, so that numpy can follow."""
        args, _ = train.parse_options([self.texts, "-o", self.path("none"), *TINY])
        model = train.make_model(args, 50)
        neurons = train.Neurons(model)
        with torch.no_grad():
            for layer in model.model.layers:
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
                layer.mlp.gate_proj.weight.mul_(30)       # where silu is far from half its input
        windows = torch.randint(50, (4, args.context + 1), generator=torch.manual_seed(1))
        with torch.no_grad():
            entropy, penalty = train.losses(model, neurons, "mean", windows)
        embedding = model.model.embed_tokens.weight.detach().double().numpy()
        x = embedding[windows[:, :-1].numpy()]
        x /= np.sqrt((x ** 2).mean(-1, keepdims=True) + 1e-5)
        want, active = 0, []
        for layer in model.model.layers:
            gate = x @ layer.mlp.gate_proj.weight.detach().double().numpy().T
            want += np.maximum(gate / (1 + np.exp(-gate)), 0).mean()
            active.append((gate > 0).mean())
        self.assertGreater(want, .1)
        self.assertAlmostEqual(float(penalty), want, places=5)
        self.assertAlmostEqual(neurons.active(), np.mean(active), places=5)
        logits = x @ embedding.T
        chosen = np.take_along_axis(logits, windows[:, 1:, None].numpy(), 2)[..., 0]
        self.assertAlmostEqual(float(entropy),
                               (np.log(np.exp(logits).sum(-1)) - chosen).mean(), places=5)

    def test_learning_rate(self):
        args = argparse.Namespace(lr=2., warmup=.2, final_lr=.1)
        rates = [train.learning_rate(args, progress) for progress in (0, .1, .2, .6, 1)]
        np.testing.assert_allclose(rates, [0, 1, 2, 1.1, .2], atol=1e-12)

    def test_encoding_by_blocks(self):
        """Blocks are cut from a text without adding or losing anything, in bytes as in ids."""
        args, data = self.data("blocks")
        path = self.path("lines.txt")
        text = "\n\n  one\r\n" + read(self.texts, "ja.valid.txt").decode() + "\n\n last  line"
        with open(path, "wb") as file:
            file.write(text.encode())
        whole, before = data.tokenizer.encode(text), train.BLOCK
        try:
            for train.BLOCK in 1, 7, 100, 1000, 1 << 20:
                self.assertEqual("".join(train.blocks(path)), text)
                ids = [i for block in train.encode(data.tokenizer, path) for i in block]
                self.assertEqual(ids, whole)
        finally:
            train.BLOCK = before
        in_front = 1                                      # the space before every text
        self.assertEqual(data.count_bytes(np.array(whole)), len(text.encode()) + in_front)

    def test_windows(self):
        args, data = self.data("windows", "--mix", "en=3", "--bos", ".25", "--batch", "64000")
        windows = data.windows(args, 5).numpy()
        self.assertEqual(windows.shape, (2000, 33))
        np.testing.assert_array_equal(windows, data.windows(args, 5).numpy())
        self.assertFalse((windows == data.windows(args, 6).numpy()).all())
        args.seed += 1
        self.assertFalse((windows == data.windows(args, 5).numpy()).all())
        places = {row.tobytes(): language for language in ("en", "ja") for row in
                  np.lib.stride_tricks.sliding_window_view(
                      data.ids[language, "train"].astype(np.int64), 33)[:, 1:]}
        found = [places[row.tobytes()] for row in windows[:, 1:]]
        self.assertAlmostEqual(found.count("en") / 2000, .75, delta=.05)
        self.assertAlmostEqual((windows[:, 0] == data.tokenizer.bos_id()).mean(), .25, delta=.05)

    def test_validation(self):
        """Perplexity per token and per byte, of a model that finds every token as likely."""
        args, data = self.data("uniform")
        model = train.make_model(args, args.vocab)
        with torch.no_grad():
            model.model.embed_tokens.weight.zero_()
        for language, row in train.validate(args, data, model).items():
            pieces = len(data.ids[language, "valid"]) // args.context
            self.assertEqual(row["tokens"], pieces * (args.context - 1))
            size = len(read(self.texts, language + ".valid.txt"))
            self.assertTrue(.9 * size < row["bytes"] < size)
            self.assertAlmostEqual(row["perplexity"] / args.vocab, 1, places=5)
            self.assertAlmostEqual(row["perplexity_per_byte"],
                                   args.vocab ** (row["tokens"] / row["bytes"]), places=3)

    def test_refusals(self):
        run = self.path("refused")
        self.assertEqual(quietly(self.texts, "-o", run, *TINY, "--steps", 2), 0)
        again = [self.texts, "-o", run, "--resume"]
        for words, what in (
                ([self.texts, "-o", run, *TINY], "holds a run already"),
                (again + ["--ffn", "64"], "--ffn was 48 and cannot change"),
                ([self.texts, "-o", self.path("new"), "--resume"], "nothing to resume"),
                ([self.folder, "-o", self.path("new")], "no LANG.train.txt"),
                ([self.texts, "-o", self.path("new"), "--langs", "de"], "de.train.txt is not"),
                ([self.texts, "-o", self.path("new"), "--langs", "en,none"], "'none' is no label"),
                ([self.texts, "-o", self.path("new"), "--langs", "-"], "'-' is no label"),
                ([self.texts, "-o", self.path("new"), "--langs", "../en"], "'../en' is no label"),
                ([self.texts, "-o", self.path("new"), "--mix", "de=2"], "de=2 is not LANG=WEIGHT"),
                ([self.texts, "-o", self.path("new"), "--width", "100"], "multiple"),
                ([self.texts, "-o", self.path("new"), "--vocab", "99999"], "cannot be trained"),
                ([self.texts, "-o", self.path("new"), *TINY, "--context", "9000", "--batch",
                  "9000"], "not more than --context")):
            with self.assertRaisesRegex(train.Refused, what):
                quietly(*words)
        other = demo_texts(self.path("other"))
        with open(os.path.join(other, "ja.train.txt"), "ab") as file:
            file.write(b".")
        with self.assertRaisesRegex(train.Refused, "the texts have changed"):
            quietly(other, *again[1:])
        checkpoint = os.path.join(run, "checkpoint.pt")
        with mock.patch.object(train.torch, "load", lambda *_, **__: warnings.warn("doubt")):
            with self.assertRaisesRegex(train.Refused, "a warning of it: doubt"):
                quietly(*again)
        for data in read(checkpoint)[:-99], b"", b"PK", b"\x80\2}.":
            with open(checkpoint, "wb") as file:
                file.write(data)
            with self.assertRaisesRegex(train.Refused, "is damaged"):
                quietly(*again)

    def test_what_is_written(self):
        """A link stays one; what has the temporary file's name is not written over."""
        folder = self.path("links")
        os.mkdir(folder)
        link = os.path.join(folder, "link")
        os.symlink("target", link)
        with self.assertRaisesRegex(train.Refused, "is a link to"):
            train.write(link, b"new")
        with open(link, "w"):
            pass
        train.write(link, b"new")
        self.assertEqual((os.readlink(link), read(folder, "target")), ("target", b"new"))
        with open("%s.%d.tmp" % (os.path.join(folder, "target"), os.getpid()), "w") as file:
            file.write("theirs")
        with self.assertRaisesRegex(train.Refused, "is in the way"):
            train.write(link, b"newer")
        self.assertEqual((read(file.name), read(folder, "target")), (b"theirs", b"new"))


class Runs(Folder):

    def run_train(self, name, *words, status=0, stop_at=None):
        """train.py as a process of its own, sent Ctrl-C when it has written a line of a step."""
        process = subprocess.Popen(TRAIN + [self.texts, "-o", self.path(name), *words],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in process.stdout:
            if stop_at and line.startswith("step %d," % stop_at):
                process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
        self.assertEqual(process.wait(), status, errors)
        return json.loads(read(self.path(name), "train.json"))

    def test_repeated_stopped_and_resumed(self):
        """Weights, bit by bit, in float32: one run, the same once more, and in two parts."""
        for optimizer in "adamw", "muon":
            kind = ["--optimizer", optimizer, "--activity-kind", "rare", "--steps", str(STEPS)]
            once, again, other, parts = (optimizer + n for n in ("1", "2", "3", "4"))
            whole = self.run_train(once, *TINY, *kind)
            weights = read(self.path(once), "model.safetensors")
            self.assertEqual(quietly(self.texts, "-o", self.path(again), *TINY, *kind), 0)
            self.assertEqual(read(self.path(again), "model.safetensors"), weights)
            self.assertEqual(quietly(self.texts, "-o", self.path(other), *TINY, *kind,
                                     "--seed", 1), 0)
            self.assertNotEqual(read(self.path(other), "model.safetensors"), weights)
            stopped = self.run_train(parts, *TINY, *kind, status=128 + signal.SIGINT, stop_at=9)
            self.assertTrue(9 <= stopped["steps"] < STEPS, stopped["steps"])
            self.assertFalse(stopped["finished"])
            self.assertNotEqual(read(self.path(parts), "model.safetensors"), weights)
            resumed = self.run_train(parts, "--resume")
            self.assertEqual(read(self.path(parts), "model.safetensors"), weights)
            self.assertEqual(resumed["validation"], whole["validation"])
            self.assertTrue(resumed["finished"])

    def test_learns(self):
        """A run lowers the loss, and one with a penalty leaves fewer neurons active."""
        active = {}
        for strength in "0", "3":
            args, checkpoint = train.parse_options(
                [self.texts, "-o", self.path("learns" + strength), *TINY, "--steps", "60",
                 "--activity", strength, "--activity-warmup", "0"])
            os.makedirs(args.output)
            run = train.Run(args, train.Data(args), checkpoint, 0)
            first = train.validate(args, run.data, run.model)
            with contextlib.redirect_stdout(io.StringIO()):
                run.train()
            last = train.validate(args, run.data, run.model)
            for language, row in first.items():
                self.assertLess(last[language]["perplexity"], .9 * row["perplexity"])
            active[strength] = run.neurons.active()
        self.assertLess(active["3"], .7 * active["0"])


class Whole(unittest.TestCase):
    """A run of OPTIONS.minutes, and what lape makes of its model."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="train.")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.hf, cls.gguf = os.path.join(cls.folder, "hf"), os.path.join(cls.folder, "model.gguf")
        # So short a run wants many small steps, and a penalty that does not come before learning.
        cls.texts, words = SHARED_TEXTS, "--optimizer muon --batch 1024 --activity .1 --evals 1".split()
        if not os.path.isfile(os.path.join(SHARED_TEXTS, "en.train.txt")):
            # 120 kB: what so much is repeated is soon known by heart, and then validation suffers;
            # and most of 4096 pieces would be in them once or twice.
            cls.texts, words = demo_texts(os.path.join(cls.folder, "texts")), words + (
                "--steps 220 --vocab 2048 --coverage .98".split())
        print("texts: %s, %g minutes" % (cls.texts, OPTIONS.minutes), flush=True)
        subprocess.run(TRAIN + [cls.texts, "-o", cls.hf, "--minutes", str(OPTIONS.minutes),
                                "--threads", str(OPTIONS.threads), *words],
                       check=True)
        subprocess.run([sys.executable, os.path.join(ROOT, "tools", "convert.py"), "hf", cls.hf,
                        "-o", cls.gguf], check=True)
        cls.record = json.loads(read(cls.hf, "train.json"))

    @classmethod
    def lape(cls, command, *words):
        return subprocess.run([LAPE, command, *map(str, words), "-q"], check=True,
                              stdout=subprocess.PIPE, text=True).stdout

    def corpora(self, part):
        return ["%s=%s" % (language, os.path.join(self.texts, "%s.%s.txt" % (language, part)))
                for language in LANGUAGES]

    def test_better_than_unigram(self):
        """Than a model that knows each language's frequencies of tokens, and no more."""
        context = self.record["options"]["context"]
        for language, row in self.record["validation"].items():
            ids = {part: np.fromfile(os.path.join(self.hf, "ids", "%s.%s.bin" % (language, part)),
                                     "<u2").astype(np.int64) for part in train.PARTS}
            counts = np.bincount(ids["train"], minlength=self.record["options"]["vocab"]) + 1
            pieces = ids["valid"][:len(ids["valid"]) // context * context].reshape(-1, context)
            unigram = np.exp(-np.log(counts / counts.sum())[pieces[:, 1:]].mean())
            print("%s: perplexity %.1f, of a unigram model %.1f" % (
                language, row["perplexity"], unigram), flush=True)
            self.assertLess(row["perplexity"], .6 * unigram)

    def test_lape_agrees(self):
        lines = self.lape("ppl", self.gguf, *self.corpora("valid")).splitlines()
        values = dict(zip(lines[0].split("\t")[1:], map(float, lines[1].split("\t")[1:])))
        self.assertEqual(set(values), set(LANGUAGES))
        for language, value in values.items():
            want = self.record["validation"][language]["perplexity"]
            self.assertLess(abs(value / want - 1), 1e-3, language)

    def test_analysis(self):
        counts = os.path.join(self.folder, "counts.gguf")
        neurons = os.path.join(self.folder, "neurons.tsv")
        self.lape("count", self.gguf, *self.corpora("valid"), "--tokens", 4096, "-o", counts)
        self.lape("find", counts, "--top", ".05", "-o", neurons)
        print(self.lape("info", neurons), flush=True)
        with open(neurons, encoding="utf-8") as file:
            heading, *rows = [line.split() for line in file if not line.startswith("#")]
        self.assertIn("layer", heading)
        self.assertGreater(len(rows), .01 * self.record["neurons"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=3.0, help="of the long run")
    parser.add_argument("--threads", type=int, default=0, help="of the long run (0: all)")
    _, names = parser.parse_known_args(namespace=OPTIONS)
    sys.argv[1:] = names
    return report.main()


if __name__ == "__main__":
    sys.exit(main())
