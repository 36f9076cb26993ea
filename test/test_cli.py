#!/usr/bin/env python3
"""Tests of the program `lape` as a user meets it: commands, options, files, messages, exit status.

    LAPE=./lape python3 test/test_cli.py [NAME...]

Needs Python 3.8 and its standard library, the demo model, and tools/convert.py. What fails must
say so in one line on stderr that names the culprit, exit with 1 (2 for wrong usage), and leave no
file behind. The last line on stdout is `N passed, N failed`; what is skipped is listed before it
and counted in neither.
"""

import functools
import itertools
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import folder
import report
import tiny
from paths import DEMO, LAPE, ROOT

LANGUAGES = ["en", "es", "fr", "id", "ja", "vi", "zh"]
LAYERS, NEURONS, VOCAB = 6, 1024, 4096
SMALL_VOCAB, WIDE_VOCAB = 16, 70000      # of the models without a tokenizer made here

# Every command's options: a flag takes no value, a text any, a number has a range.
FLAG, TEXT = "flag", "text"
ALL = {"-q": FLAG, "-h": FLAG}
PIECES = {"--seq": (2, 1 << 24), "--tokens": (1, 10 ** 15), "--batch": (1, 1 << 20),
          "--bos": FLAG, "--lines": FLAG, "-t": (1, 1024), "-o": TEXT}
OPTIONS = {
    "info": dict(ALL),
    "tokenize": dict(ALL, **{"--bos": FLAG, "--decode": FLAG, "--lines": FLAG}),
    "count": dict(ALL, **PIECES, **{"--near": (0.0, 1e6), "--of": TEXT, "--shard": TEXT, "--resume": FLAG,
                                    "--save-every": (0.0, 1e9)}),
    "merge": dict(ALL, **{"-o": TEXT, "--minus": TEXT}),
    "find": dict(ALL, **{"-o": TEXT, "--method": TEXT, "--top": (0.0, 1.0),
                         "--filter": (0.0, 1.0), "--bar": (0.0, 1.0), "--langs": TEXT,
                         "--like": TEXT, "--seed": (0, 10 ** 15), "--penalty": (0.0, 1e6)}),
    "bake": dict(ALL, **{"-o": TEXT, "--neurons": TEXT, "--off": TEXT, "--any-model": FLAG}),
    "ppl": dict(ALL, **PIECES, **{"--neurons": TEXT, "--any-model": FLAG, "--counts": TEXT,
                                  "--off-how": TEXT}),
    "generate": dict(ALL, **{
        "-o": TEXT, "-t": (1, 1024), "--neurons": TEXT, "--counts": TEXT, "--off": TEXT,
        "--on": TEXT, "--how": TEXT, "--off-how": TEXT, "--strength": (-1e6, 1e6), "--any-model": FLAG, "-p": TEXT,
        "-f": TEXT, "-n": (1, 1 << 24), "--temp": (0.0, 1e6), "--top-p": (0.0, 1.0),
        "--repeat-penalty": (1e-6, 1e6), "--seed": (0, 10 ** 15)}),
}


def text_path(language, kind="count"):
    return os.path.join(ROOT, "demo", "text", "%s.%s.txt" % (language, kind))


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
    return path


# ---- Files to work on, made once ------------------------------------------------------------

SHARED = tempfile.TemporaryDirectory(prefix="test_cli.")


def shared(name):
    return os.path.join(SHARED.name, name)


def run(*args, stdin=b"", cwd=None, **options):
    options = dict({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}, **options)
    return subprocess.run([LAPE] + list(args), input=stdin, cwd=cwd or SHARED.name, timeout=300,
                          **options)


def must(*args, **options):
    """What a run prints that the tests build on; they make no sense where it fails."""
    done = run(*args, **options)
    if done.returncode:
        raise RuntimeError("lape %s: %d: %s" % (" ".join(args), done.returncode,
                                                done.stderr.decode("utf-8", "replace")))
    return done.stdout


@functools.lru_cache(None)
def counts():
    """Counts of three languages, 512 tokens of each in pieces of 64."""
    path = shared("three.gguf")
    must("count", DEMO, "fr=" + text_path("fr"), "en=" + text_path("en"), "ja=" + text_path("ja"),
         "--seq", "64", "--tokens", "512", "-q", "-o", path)
    return path


@functools.lru_cache(None)
def neurons():
    """A list of neurons of these three languages."""
    path = shared("three.tsv")
    must("find", counts(), "--top", ".05", "--filter", ".9", "--bar", ".9", "-q", "-o", path)
    return path


@functools.lru_cache(None)
def long_count():
    """The arguments of a count that takes a while, its seconds, and the counts."""
    text = b"".join(read(text_path(language)) for language in ("en", "ja", "fr"))
    repeats, seconds = 1, 0
    while True:
        corpora = ["%s=%s" % (language, write(shared(language + ".txt"), text * repeats))
                   for language in "ab"]
        arguments = ["count", DEMO] + corpora + ["--seq", "64", "-q", "-t", "1", "--batch", "4",
                                                 "--tokens", str(1000 * repeats)]
        start = time.monotonic()
        must(*arguments, "-o", shared("long.gguf"))
        seconds = time.monotonic() - start
        if seconds > 1.2 or repeats > 10000:
            return arguments, seconds, shared("long.gguf")
        repeats *= max(2, min(20, int(2 / seconds)))


def ids_of(text):
    return [int(word) for word in must("tokenize", DEMO, stdin=text).split()]


@functools.lru_cache(None)
def demo_ids():
    """The first 512 ids of the English text."""
    return tuple(ids_of(read(text_path("en")))[:512])


@functools.lru_cache(None)
def altered(name, *changes):
    """The demo model with bytes replaced by as many others."""
    data = read(DEMO)
    for old, new in changes:
        assert data.count(old) == 1 and len(old) == len(new), (old, data.count(old))
        data = data.replace(old, new)
    return write(shared(name), data)


def of_another_name():
    name = b"general.name" + struct.pack("<IQ", 8, 4)
    return altered("renamed.gguf", (name + b"demo", name + b"omed"))


def without_bos():
    return altered("no-bos.gguf", (b"tokenizer.ggml.bos_token_id", b"tokenizer.ggml.xxx_token_id"))


@functools.lru_cache(None)
def converted(name, vocab, layers=2, width=4, neurons=6, gate=1.0):
    """A LLaMA without a tokenizer: safetensors written here, put through tools/convert.py."""
    shapes = {"model.embed_tokens.weight": [vocab, width], "model.norm.weight": [width]}
    for layer in range(layers):
        start = "model.layers.%d." % layer
        shapes.update({start + "input_layernorm.weight": [width],
                       start + "post_attention_layernorm.weight": [width],
                       start + "mlp.gate_proj.weight": [neurons, width],
                       start + "mlp.up_proj.weight": [neurons, width],
                       start + "mlp.down_proj.weight": [width, neurons]})
        for letter in "qkvo":
            shapes[start + "self_attn.%s_proj.weight" % letter] = [width, width]
    rng, header, data = random.Random(name), {}, b""
    for tensor, shape in shapes.items():
        size = functools.reduce(int.__mul__, shape)
        most = gate if "gate" in tensor else 1
        raw = struct.pack("<%df" % size, *(rng.uniform(-most, most) for _ in range(size)))
        header[tensor] = {"dtype": "F32", "shape": shape,
                          "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    header = json.dumps(header).encode()
    directory = shared(name)
    os.mkdir(directory)
    write(os.path.join(directory, "model.safetensors"),
          struct.pack("<Q", len(header)) + header + data)
    config = {"architectures": ["LlamaForCausalLM"], "vocab_size": vocab, "hidden_size": width,
              "intermediate_size": neurons, "num_hidden_layers": layers,
              "num_attention_heads": 2 if width > 2 else 1, "max_position_embeddings": 32,
              "tie_word_embeddings": True, "hidden_act": "silu"}
    write(os.path.join(directory, "config.json"), json.dumps(config).encode())
    subprocess.run([sys.executable, os.path.join(ROOT, "tools", "convert.py"), "hf", directory,
                    "-q", "-o", directory + ".gguf"], check=True, timeout=300)
    return directory + ".gguf"


def without_tokenizer():
    return converted("small", SMALL_VOCAB)


def npy(data, descr="<i4", shape=None, order="False", version=1, colon=": "):
    """A .npy file around numbers that are bytes already."""
    size = int(descr[2:]) if descr[2:].isdigit() else 1
    shape = shape or "(%d,)" % (len(data) // size)
    header = "{'descr'@'%s', 'fortran_order'@%s, 'shape'@%s, }" % (descr, order, shape)
    header = header.replace("@", colon)
    length = "<H" if version == 1 else "<I"
    start = 8 + struct.calcsize(length)
    header += " " * (-(start + len(header) + 1) % 64) + "\n"
    return (b"\x93NUMPY" + bytes([version, 0]) + struct.pack(length, len(header))
            + header.encode() + data)


def integers(numbers, descr):
    """Numbers as the bytes that NumPy has them in."""
    letter = {"1": "b", "2": "h", "4": "i", "8": "q"}[descr[2]]
    letter = letter if descr[1] == "i" else letter.upper()
    order = ">" if descr[0] == ">" else "<"
    return struct.pack("%s%d%s" % (order, len(numbers), letter), *numbers)


# ---- What every test needs ------------------------------------------------------------------

class Case(folder.Case):
    def files(self):
        """What lies there: a change of any file shows."""
        return {name: (os.stat(self.path(name)).st_mtime_ns, os.stat(self.path(name)).st_size)
                for name in sorted(os.listdir(self.directory))}

    def works(self, *args, **options):
        """What a run prints that must succeed; with -q it must do so without a word besides."""
        done = run(*args, cwd=self.directory, **options)
        complaint = (args, done.stderr)
        self.assertEqual(done.returncode, 0, complaint)
        if "-q" in args:
            self.assertEqual(done.stderr, b"", complaint)
        left = [name for name in os.listdir(self.directory) if name.endswith(".tmp")]
        self.assertEqual(left, [], complaint)
        return done.stdout

    def refused(self, status, culprit, *args, stdin=b"", **options):
        """A run must fail with this status, one line that holds `culprit`, and no file left."""
        shown = " ".join(map(os.fsdecode, args))[-200:]
        with self.subTest(shown):
            before = self.files()
            done = run(*args, stdin=stdin, cwd=self.directory, **options)
            message = done.stderr.decode("utf-8", "replace")
            self.assertEqual(done.returncode, status, message)
            self.assertRegex(message, r"\Alape: [^\r\n]+\n\Z")
            self.assertIn(culprit, message)
            if done.stdout is not None:
                self.assertEqual(done.stdout, b"")
            self.assertEqual(self.files(), before, "files left or changed")
            return message
        return ""


# ---- Wrong usage ----------------------------------------------------------------------------

class Usage(Case):
    def test_commands(self):
        self.refused(2, "frobnicate", "frobnicate")
        self.refused(2, "command", "")
        self.refused(2, "Count", "Count", DEMO)
        self.refused(2, "version", "version")
        self.refused(2, "-q", "-q", "info", DEMO)
        self.refused(2, "bad??command", "bad\n\tcommand")

    def test_nothing_to_work_on(self):
        for command in OPTIONS:
            self.refused(2, "lape " + command, command)
            self.refused(2, "lape " + command, command, "-q")

    def test_unknown_options(self):
        known = set().union(*OPTIONS.values())
        for command, options in OPTIONS.items():
            for option in sorted(known - set(options)) + ["--frobnicate", "-x", "-", "--", "---o"]:
                self.refused(2, "'%s'" % option, command, DEMO, option, "1")
            self.refused(2, "'--seed=1'", command, DEMO, "--seed=1")

    def test_missing_values(self):
        for command, options in OPTIONS.items():
            for option in options:
                if options[option] != FLAG:
                    self.refused(2, option, command, DEMO, option)

    def test_numbers(self):
        for command, options in OPTIONS.items():
            for option, limits in options.items():
                if limits in (FLAG, TEXT):
                    continue
                low, high = limits
                bad = ["", "x", "1x", "x1", "1 1", "nan", "NaN", "inf", "-inf", "1e400", "-1e400",
                       "1,5", "--", "-", "."]
                if isinstance(low, int):
                    bad += ["-1", "+1", " 1", "1 ", "1.5", "1e1", "0x10", str(high + 1),
                            str(2 ** 64), str(2 ** 64 + low), "9" * 40]
                    bad += [str(low - 1)] if low else []
                else:
                    bad += ["%.17g" % (low - 1e-7 - abs(low) / 1e6)]
                    bad += ["%.17g" % (high + 1e-7 + high / 1e6)]
                for value in bad:
                    self.refused(2, option, command, DEMO, option, value)

    def test_no_output(self):
        self.refused(2, "-o", "count", DEMO, "en=" + text_path("en"))
        self.refused(2, "-o", "merge", counts(), counts())

    def test_languages(self):
        file, output = text_path("en"), self.path("out")
        long = "x" * 25
        for word in ["en", "=" + file, long + "=" + file, "e n=" + file, "e.n=" + file,
                     "\u00e9n=" + file, "en,fr=" + file, "en/=" + file, " =" + file]:
            self.refused(2, word, "count", DEMO, word, "-o", output)
            self.refused(2, word, "ppl", DEMO, word)
        self.refused(2, "e??n=", "count", DEMO, "e\n\x7fn=" + file, "-o", output)
        self.refused(2, "en=" + file, "ppl", DEMO, "en=" + text_path("fr"), "en=" + file)
        self.refused(2, "en=" + file, "count", DEMO, "en=" + file, "fr=" + file, "en=" + file,
                     "-o", output)
        self.refused(2, "LANG=FILE", "count", DEMO, "-o", output)
        self.refused(2, "LANG=FILE", "ppl", DEMO)
        for label in "x" * 24, "a", "Az09_-", "_":
            table = self.works("ppl", DEMO, label + "=" + file, "--seq", "32", "--tokens", "32",
                               "-q")
            self.assertEqual(table.split(b"\n")[0], b"off\t" + label.encode())

    def test_no_path(self):
        self.refused(2, "en=", "count", DEMO, "en=", "-o", self.path("out"))
        self.refused(2, "en=", "ppl", DEMO, "en=")

    def test_too_many_words(self):
        self.refused(2, "none", "info", DEMO, "none")
        self.refused(2, "none", "find", counts(), "none")
        self.refused(2, "none", "generate", DEMO, "none", "-p", "x")
        self.refused(2, "too many", "merge", *["none"] * 300, "-o", self.path("out"))

    def test_too_many_words_to_tokenize(self):
        self.refused(2, "none", "tokenize", DEMO, "none")

    def test_choices(self):
        self.refused(2, "lave-x", "find", counts(), "--method", "lave-x")
        self.refused(2, "--like", "find", counts(), "--like", neurons())
        self.refused(2, "en,fr,en", "find", counts(), "--langs", "en,fr,en")
        self.refused(2, "frob", "generate", DEMO, "-p", "x", "--how", "frob")
        self.refused(2, "--how", "generate", DEMO, "-p", "x", "--how", "")

    def test_short_texts(self):
        """What is said to do instead does, and one token more does not."""
        text = "en=" + self.path("short.txt", b"The window is open.\n")
        for bos in [], ["--bos"]:
            said = self.refused(1, "short.txt", "ppl", DEMO, text, "-q", *bos)
            would, = re.findall("; --seq ([0-9]+) would do$", said.strip())
            self.works("ppl", DEMO, text, "-q", *bos, "--seq", would)
            self.refused(1, "--seq " + would, "ppl", DEMO, text, "-q", *bos, "--seq",
                         str(int(would) + 1))
        for words in ["--tokens", "1"], ["--seq", "2", "--tokens", "1"]:
            self.assertNotIn("--seq", self.refused(1, "two", "ppl", DEMO, text, "-q", *words))
        self.works("ppl", DEMO, text, "-q", "--seq", "2", "--tokens", "1", "--bos")

    def test_prompts(self):
        prompts = self.path("prompts", b"One\n")
        self.refused(2, "-p", "generate", DEMO)
        self.refused(2, "-p", "generate", DEMO, "-p", "x", "-f", prompts)
        self.refused(2, "--neurons", "generate", DEMO, "-p", "x", "--off", "en")
        self.refused(2, "--neurons", "generate", DEMO, "-p", "x", "--on", "en", "--counts",
                     counts())
        for how in "replace", "add", "diffmean":
            self.refused(2, "--counts", "generate", DEMO, "-p", "x", "--on", "en", "--neurons",
                         neurons(), "--how", how)

    def test_shards(self):
        for shard in ["0/2", "3/2", "x", "", "1", "/", "1/", "/2", "1/0", "0/0", "1/2/3", "-1/2",
                      "1/-2", "1.5/2", "1/x", "x/2", " 1/2", "1/2 ", "1 / 2",
                      "4294967297/4294967298", "18446744073709551617/2"]:
            self.refused(2, "--shard", "count", DEMO, "en=" + text_path("en"), "-q", "-o",
                         self.path("out"), "--shard", shard)

    def test_help(self):
        listing = self.works("-h").decode()
        for others in [], ["--help"], ["help"]:
            self.assertEqual(listing, self.works(*others).decode())
        self.assertRegex(self.works("--version").decode(), r"^lape [0-9]+\.[0-9]+\n$")
        for command, options in OPTIONS.items():
            self.assertRegex(listing, r"(?m)^  lape %s " % command)
            shown = self.works(command, "-h").decode()
            self.assertEqual(shown.split()[:2], ["lape", command])
            self.assertEqual(set(re.findall(r"(?m)^  (--?[a-z-]+) ", shown)), set(options))
            self.assertLess(max(map(len, shown.split("\n"))), 101)
            self.assertEqual(self.works(command, "no such file", "-h", "-q").decode(), shown)
            self.refused(2, "--frobnicate", command, "-h", "--frobnicate")


# ---- Files that are no good -----------------------------------------------------------------

class Files(Case):
    def places(self):
        """Every place where a command takes a file: a function from path to arguments."""
        model, text, output = DEMO, "en=" + text_path("en"), self.path("out")
        few = ["--seq", "32", "--tokens", "32", "-q"]
        return {
            "info": lambda path: ["info", path],
            "tokenize": lambda path: ["tokenize", path],
            "count model": lambda path: ["count", path, text, "-o", output] + few,
            "count text": lambda path: ["count", model, "fr=" + path, "-o", output] + few,
            "merge": lambda path: ["merge", path, "-o", output],
            "merge second": lambda path: ["merge", counts(), path, "-o", output],
            "find": lambda path: ["find", path, "-o", output],
            "find like": lambda path: ["find", counts(), "--method", "random", "--like", path],
            "bake model": lambda path: ["bake", path, "--neurons", neurons(), "--off", "en", "-o",
                                        output],
            "bake neurons": lambda path: ["bake", model, "--neurons", path, "--off", "en", "-o",
                                          output],
            "ppl model": lambda path: ["ppl", path, text, "-o", output] + few,
            "ppl text": lambda path: ["ppl", model, text, "fr=" + path, "-o", output] + few,
            "ppl neurons": lambda path: ["ppl", model, text, "--neurons", path] + few,
            "generate": lambda path: ["generate", path, "-p", "x"],
            "generate prompts": lambda path: ["generate", model, "-f", path, "-o", output],
            "generate neurons": lambda path: ["generate", model, "-p", "x", "--off", "en",
                                              "--neurons", path],
            "generate counts": lambda path: ["generate", model, "-p", "x", "--on", "en",
                                             "--neurons", neurons(), "--counts", path],
        }

    def each_place(self, name, but=()):
        for place, arguments in self.places().items():
            if not place.endswith(tuple(but)):
                self.refused(1, name, *arguments(name))

    def test_missing(self):
        self.each_place("no such file.txt")
        self.each_place("no-directory/file")
        self.refused(1, "two??lines", "info", "two\n\rlines")

    def test_directory(self):
        os.mkdir(self.path("directory"))
        self.each_place("directory")

    def test_empty(self):
        self.path("empty.txt", b"")
        self.each_place("empty.txt")

    def test_onto_a_text(self):
        """A result does not take the place of a text that it is made from, whatever it is called."""
        text = self.path("text", read(text_path("en")))
        os.link(text, self.path("same"))
        for name in text, self.path("same"):
            self.refused(2, "-o names a file that is read", "count", DEMO, "fr=" + text_path("fr"),
                         "en=" + text, "--seq", "64", "-q", "-o", name)
        self.assertEqual(read(text), read(text_path("en")))

    def test_through_a_file(self):
        self.path("plain", b"x")
        self.each_place("plain/file")

    @unittest.skipUnless(os.path.exists("/dev/null"), "there is no /dev/null")
    def test_device(self):
        self.each_place("/dev/null")

    def test_text_instead(self):
        self.path("text", b"This is no file of numbers.\n" * 50)
        self.each_place("text", but=["text", "prompts"])

    def test_garbage_instead(self):
        rng = random.Random(5)
        self.path("garbage", bytes(rng.randrange(256) for _ in range(5000)))
        self.each_place("garbage")

    def test_mixed_up(self):
        kinds = {"model": DEMO, "counts": counts(), "neurons": neurons()}
        wanted = {"info": "model counts neurons", "merge": "counts", "find": "counts",
                  "merge second": "counts", "find like": "neurons", "ppl neurons": "neurons",
                  "bake neurons": "neurons",
                  "generate neurons": "neurons", "generate counts": "counts",
                  "count text": "neurons", "ppl text": "neurons", "generate prompts": "neurons"}
        for place, arguments in self.places().items():
            for kind, path in kinds.items():
                if kind not in wanted.get(place, "model"):
                    self.refused(1, path, *arguments(path))

    def test_truncated(self):
        whole = {"model": DEMO, "counts": counts()}
        for kind, path in whole.items():
            data = read(path)
            for length in 3, 10, 24, 100, 2000, len(data) // 2, len(data) - 100:
                cut = self.path("cut.gguf", data[:length])
                self.refused(1, cut, "info", cut)
                if kind == "model":
                    self.refused(1, cut, "tokenize", cut)
                else:
                    self.refused(1, cut, "find", cut, "-o", self.path("out"))

    def test_damaged_tokenizer(self):
        kind = b"tokenizer.ggml.model" + struct.pack("<IQ", 8, 5)
        other = altered("other-tokenizer.gguf", (kind + b"llama", kind + b"gptxx"))
        none = altered("no-scores.gguf", (b"tokenizer.ggml.scores", b"tokenizer.ggml.xxxxxx"))
        bos = b"tokenizer.ggml.bos_token_id" + struct.pack("<I", 4)
        beyond = altered("bos-beyond.gguf", (bos + struct.pack("<I", 1),
                                             bos + struct.pack("<I", VOCAB)))
        ids = self.path("ids.bin", integers(demo_ids()[:64], "<u2"))
        plain = self.works("ppl", DEMO, "en=" + ids, "--seq", "64", "-q")
        for path, culprit in (other, "gptxx"), (none, "tokenizer.ggml."), (
                beyond, "tokenizer.ggml.bos_token_id"):
            self.assertIn(culprit, self.refused(1, path, "tokenize", path))
            self.assertIn(culprit, self.refused(1, path, "generate", path, "-p", "x"))
            text = text_path("en")
            self.assertIn(culprit, self.refused(1, text, "ppl", path, "en=" + text, "-q"))
            # Where no text is, the model serves all the same.
            self.assertIn(culprit, self.works("info", path).decode())
            self.assertEqual(self.works("ppl", path, "en=" + ids, "--seq", "64", "-q"), plain)
            self.works("bake", path, "--neurons", neurons(), "--off", "en", "--any-model", "-o",
                       self.path("out"))

    def test_damaged_counts(self):
        data = read(counts())
        layers = b"lape-counts.layers" + struct.pack("<I", 10)
        self.assertEqual(data.count(layers), 1)
        at = data.index(layers) + len(layers)
        for value in 0, 5, 7, 1 << 32, 1 << 63:
            bad = self.path("bad.gguf", data[:at] + struct.pack("<Q", value) + data[at + 8:])
            self.refused(1, bad, "find", bad)
        tokens = struct.pack("<QQQ", 512, 512, 512)
        at = data.index(tokens)
        for value in 0, 200, 1 << 63:
            bad = self.path("bad.gguf", data[:at] + struct.pack("<Q", value) + data[at + 8:])
            self.refused(1, bad, "find", bad)
        for old, new in (b"en.positive", b"xx.positive"), (b"lape-counts.tokens",
                                                           b"lape-counts.tokenz"):
            bad = self.path("bad.gguf", data.replace(old, new))
            self.refused(1, old.decode(), "info", bad)

    def test_outputs(self):
        few = ["en=" + text_path("en"), "--seq", "32", "--tokens", "32", "-q"]
        runs = [["count", DEMO] + few, ["merge", counts()], ["find", counts(), "-q"],
                ["ppl", DEMO] + few, ["generate", DEMO, "-p", "x", "-n", "1"],
                ["bake", DEMO, "--neurons", neurons(), "--off", "en"]]
        os.mkdir(self.path("directory"))
        self.path("plain", b"x")
        os.mkdir(self.path("locked"), 0o555)
        places = ["no-directory/out", "directory", "plain/out", ""]
        if hasattr(os, "geteuid") and os.geteuid() != 0:
            places.append("locked/out")
        for arguments in runs:
            for place in places:
                self.refused(1, place + ": ", *arguments, "-o", place)
            self.assertEqual(os.listdir(self.path("directory")), [])
            self.assertEqual(os.listdir(self.path("locked")), [])


class Corpora(Case):
    """Texts and ids that cannot be counted."""

    def uncountable(self, culprit, name, data, model=DEMO, *options):
        path = self.path(name, data)
        options = options or ("--seq", "4")
        message = self.refused(1, path, "count", model, "xx=" + path, "-q", "-o",
                               self.path("out"), *options)
        self.assertIn(culprit, message or culprit)
        self.refused(1, path, "ppl", model, "xx=" + path, "-q", *options)

    def test_utf8(self):
        for bad in [b"\xff", b"\x80", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xed\xa0\x80",
                    b"\xc0\xaf", b"\xf5\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xfe"]:
            self.uncountable("byte 15 ", "bad.txt", b"Good until here" + bad + b" and after.")
        self.uncountable("byte 3 ", "cut.txt", b"abc\xe3\x81")
        self.uncountable("byte 100000 ", "long.txt", b"0123456789" * 10000 + b"\xff")

    def test_short(self):
        self.uncountable("--seq", "short.txt", b"Too short.", DEMO, "--seq", "1024")
        self.uncountable("--seq", "text.txt", read(text_path("en")), DEMO, "--seq", "100000")
        self.uncountable("--seq", "text.txt", read(text_path("en")), DEMO, "--seq", "64",
                         "--tokens", "63")
        exact = integers(demo_ids()[:64], "<u2")
        self.uncountable("--seq", "short.bin", exact[2:], DEMO, "--seq", "64")
        path = self.path("exact.bin", exact)
        self.works("count", DEMO, "xx=" + path, "--seq", "64", "-q", "-o", self.path("out"))
        self.works("count", DEMO, "xx=" + self.path("bos.bin", exact[2:]), "--seq", "64", "--bos",
                   "-q", "-o", self.path("out"))
        self.uncountable("--seq", "bos.bin", exact[4:], DEMO, "--seq", "64", "--bos")

    def test_shards_without_pieces(self):
        path = self.path("text.txt", read(text_path("en")))
        self.refused(1, path, "count", DEMO, "en=" + path, "--seq", "64", "--tokens", "128", "-q",
                     "--shard", "3/3", "-o", self.path("out"))

    def test_bin(self):
        good = integers([1, 2, 3, 4] * 4, "<u2")
        small, wide = without_tokenizer(), converted("wide", WIDE_VOCAB, layers=1, width=2)
        self.uncountable("id", "odd.bin", good + b"\0", small)
        self.uncountable("id %d at place 16 " % SMALL_VOCAB, "beyond.bin",
                         good + integers([SMALL_VOCAB], "<u2"), small)
        self.uncountable("id 65535 at place 0 ", "beyond.bin", b"\xff\xff" + good, small)
        for odd in 1, 2, 3:
            self.uncountable("id", "odd.bin", integers([69999] * 8, "<u4") + bytes(odd), wide)
        self.uncountable("id 70000 at place 8 ", "beyond.bin",
                         integers([69999] * 8 + [70000], "<u4"), wide)
        path = self.path("good.bin", integers([69999, 65536] * 8, "<u4"))
        self.works("count", wide, "xx=" + path, "--seq", "4", "-q", "-o", self.path("out"))
        self.assertEqual(self.works("info", self.path("out")).split(b"\n")[-2][:7], b"xx\t16\t4")

    def test_npy_out_of_vocabulary(self):
        small = without_tokenizer()
        for size, sign in itertools.product("1248", "iu"):
            descr = ("|" if size == "1" else "<") + sign + size
            top = 2 ** (8 * int(size) - (sign == "i")) - 1
            good = [1, 2, 3, SMALL_VOCAB - 1] * 2
            self.works("count", small, "xx=" + self.path("good.npy", npy(integers(good, descr),
                       descr)), "--seq", "4", "-q", "-o", self.path("out"))
            for bad in [SMALL_VOCAB, top] + ([-1, -top - 1] if sign == "i" else []):
                self.uncountable("id %d at place 5 " % bad, "beyond.npy",
                                 npy(integers(good[:5] + [bad] + good, descr), descr), small)

    def test_npy_kinds(self):
        small, good = without_tokenizer(), [1, 2, 3, 4] * 2
        for descr in ">i4", ">u2", ">i8":
            self.uncountable("little-endian", "kind.npy", npy(integers(good, descr), descr), small)
        for descr, size in ("<f4", 4), ("<f8", 8), ("<f2", 2), ("|b1", 1), ("|S4", 4), ("<U1", 4), (
                "<c8", 8), ("<i3", 3), ("<i16", 16), ("|O", 8), ("<M8[s]", 8), ("<i", 4), ("", 4):
            self.uncountable("integers", "kind.npy", npy(bytes(size * 8), descr), small)
        fortran = npy(integers(good, "<i4"), "<i4", "(2, 4)", "True")
        self.uncountable("C order", "kind.npy", fortran, small)

    def test_npy_spaces(self):
        """The header is a Python dict: spaces in it mean nothing."""
        small, numbers = without_tokenizer(), integers([1, 2, 3, 4] * 2, "<i4")
        for colon in ":", " :  ":
            self.uncountable("C order", "kind.npy",
                             npy(numbers, "<i4", "(2, 4)", "True", colon=colon), small)
            path = self.path("plain.npy", npy(numbers, "<i4", colon=colon))
            self.works("count", small, "xx=" + path, "--seq", "4", "-q", "-o", self.path("counts"))

    def test_npy_truncated(self):
        small = without_tokenizer()
        whole = npy(integers([1, 2, 3, 4] * 20, "<i4"), "<i4")
        start = len(whole) - 320
        short = b"{'descr': '<i"
        self.uncountable("", "cut.npy", whole[:8] + struct.pack("<H", len(short)) + short, small)
        for length in 1, 5, 6, 8, 9, 10, 11, 12, 50, start - 1, start + 1, start + 7, start + 318:
            self.uncountable("", "cut.npy", whole[:length], small)
        self.uncountable("", "huge.npy", whole[:8] + b"\xff\xff" + whole[10:], small)
        wide = npy(integers([1, 2, 3, 4] * 20, "<i4"), "<i4", version=2)
        self.uncountable("", "huge.npy", wide[:8] + b"\xff\xff\xff\xff" + wide[12:], small)
        self.uncountable("", "other.npy", b"\x93NUMPX" + whole[6:], small)

    def test_npy_truncated_between_numbers(self):
        whole = npy(integers([1, 2, 3, 4] * 20, "<i4"), "<i4")
        for length in len(whole) - 160, len(whole) - 4:
            self.uncountable("", "cut.npy", whole[:length], without_tokenizer())

    def test_activations_beyond_all_bounds(self):
        ids = self.path("ids.bin", integers([1, 2, 3, 4] * 8, "<u2"))
        for gate in 1e10, 1e38:
            model = converted("huge%g" % gate, SMALL_VOCAB, gate=gate)
            self.refused(1, "language xx, layer 0, neuron ", "count", model, "xx=" + ids, "--seq",
                         "8", "-q", "-o", self.path("out"))

    def test_options(self):
        small = without_tokenizer()
        ids = self.path("ids.bin", integers([1, 2, 3, 4] * 8, "<u2"))
        self.refused(1, "--bos", "count", small, "xx=" + ids, "--bos", "-q", "-o", self.path("out"))
        self.refused(1, "--bos", "tokenize", without_bos(), "--bos", stdin=b"x")
        many = self.path("many.bin", integers([1, 2, 3, 4] * 512, "<u2"))
        self.refused(1, "1048576 pieces of 2048", "count", small, "xx=" + many, "--seq", "2048",
                     "--batch", str(1 << 20), "-q", "-o", self.path("out"))


class Lists(Case):
    """Lists of neurons that do not fit or are no lists."""

    def setUp(self):
        super().setUp()
        self.lines = read(neurons()).decode().rstrip("\n").split("\n")
        self.columns = next(i for i, line in enumerate(self.lines) if line.startswith("layer\t"))
        self.rows = self.lines[self.columns + 1:]
        self.assertGreater(len(self.rows), 20)

    def use(self, path):
        """Commands that read a list."""
        few = ["--seq", "32", "--tokens", "32", "-q"]
        return [["ppl", DEMO, "en=" + text_path("en"), "--neurons", path] + few,
                ["generate", DEMO, "-p", "x", "-n", "1", "--off", "en", "--neurons", path],
                ["find", counts(), "-q", "--method", "random", "--like", path]]

    def bad(self, culprit, lines):
        """The list must be refused, by its path and the culprit."""
        path = self.path("bad.tsv", "\n".join(lines + [""]).encode("utf-8", "surrogateescape"))
        for arguments in self.use(path):
            self.assertIn(culprit, self.refused(1, path, *arguments) or culprit)
        if lines[0].startswith("#"):                 # else `info` takes it for something else
            self.assertIn(culprit, self.refused(1, path, "info", path) or culprit)

    def with_header(self, key, value):
        """The lines with another value of a key in the header, or without it."""
        start = "# %s:" % key
        lines = [line for line in self.lines if not line.startswith(start)]
        self.assertEqual(len(lines), len(self.lines) - 1)
        return lines if value is None else ["%s %s" % (start, value)] + lines

    def with_row(self, row, at=10):
        """The lines with another row, and the number of its line."""
        lines = list(self.lines)
        lines[self.columns + 1 + at] = row
        return "line %d:" % (self.columns + 2 + at), lines

    def test_good(self):
        path = self.path("good.tsv", "\n".join(self.lines).encode())    # no end of the last line
        for arguments in self.use(path):
            self.works(*arguments)

    def test_header(self):
        self.bad("line 1:", self.lines[self.columns:])                  # none at all
        self.bad("line 1:", self.rows)
        for key in "layers", "neurons", "languages":
            self.bad("line %d:" % self.columns, self.with_header(key, None))
        self.bad("line 1:", self.with_header("layers", "six"))
        self.bad("line 1:", self.with_header("layers", "-6"))
        self.bad("line 1:", self.with_header("layers", "99999999999999999999"))
        self.bad("line 1:", self.with_header("neurons", "1e9"))
        self.bad("", self.with_header("layers", "0"))
        self.bad("line 1:", self.with_header("languages", "en fr en"))
        self.bad("line 1:", self.with_header("languages", "en f.r ja"))
        self.bad("line 1:", self.with_header("languages", "en fr " + "x" * 25))
        self.bad("line 2:", ["# languages: en"] * 2)

    def test_columns(self):
        line = "line %d:" % (self.columns + 1)
        for columns in ["layer\tneuron\tscore\tlanguages", "neuron\tlayer\tlape\tlanguages",
                        "layer,neuron,lape,languages", "layer neuron lape languages", "layer"]:
            lines = list(self.lines)
            lines[self.columns] = columns
            self.bad(line, lines)
        self.bad("", self.lines[:self.columns])                         # ends before them
        self.bad("", self.lines[:1])
        lines = list(self.lines)
        del lines[self.columns]
        self.bad(line, lines)

    def test_rows(self):
        layer, neuron, score, languages = self.rows[10].split("\t")[:4]
        rest = "\t%s\t%s" % (score, languages)
        for row in ["%d\t%s" % (LAYERS, neuron) + rest, "%s\t%d" % (layer, NEURONS) + rest,
                    "-1\t%s" % neuron + rest, "%s\t-1" % layer + rest, "x\t1" + rest,
                    "%s\t" % layer + rest, "%s.0\t%s" % (layer, neuron) + rest,
                    " %s\t%s" % (layer, neuron) + rest, "4294967296\t%s" % neuron + rest,
                    "%s\t18446744073709551616" % layer + rest, layer, "%s\t%s" % (layer, neuron),
                    "%s\t%s\t%s" % (layer, neuron, score), "\t\t\t", "x",
                    "%s\t%s\t%s\txx" % (layer, neuron, score),
                    "%s\t%s\t%s\ten,xx" % (layer, neuron, score),
                    "%s\t%s\t%s\t" % (layer, neuron, score),
                    "%s\t%s\t%s\ten fr" % (layer, neuron, score)]:
            self.bad(*self.with_row(row))

    def test_order(self):
        self.bad(*self.with_row(self.rows[9]))                          # one twice
        _, lines = self.with_row(self.rows[11])
        lines[self.columns + 1 + 11] = self.rows[10]                    # two the other way around
        self.bad("line %d:" % (self.columns + 2 + 11), lines)
        self.bad("line %d:" % (self.columns + 3),
                 self.lines[:self.columns + 1] + self.rows[::-1])
        culprit, lines = self.with_row("2\t639\t0\t-", 11)             # a layer further back
        lines[self.columns + 1 + 10] = "3\t638\t0\t-"
        self.bad(culprit, lines)

    def test_garbage(self):
        rng = random.Random(3)
        self.bad("", ["# \udcff\udc80 \x00 \x01"])
        for _ in range(10):
            noise = bytes(rng.randrange(256) for _ in range(3000))
            path = self.path("noise.tsv", b"#" + noise)
            self.refused(1, path, "info", path)
        for _ in range(40):                          # a byte changed: taken or refused, no crash
            data = bytearray(read(neurons()))
            data[rng.randrange(len(data))] = rng.randrange(256)
            done = run("info", self.path("noise.tsv", bytes(data)))
            self.assertIn(done.returncode, (0, 1), done.stderr)
            self.assertEqual(done.stderr.count(b"\n"), done.returncode, done.stderr)

    def test_another_shape(self):
        for key, value in ("layers", LAYERS + 1), ("neurons", NEURONS + 1):
            path = self.path("shape.tsv", "\n".join(self.with_header(key, value)).encode())
            for arguments in self.use(path):
                self.refused(1, str(value), *arguments)
            for arguments in self.use(path)[:2]:
                self.refused(1, path, *arguments, "--any-model")

    def test_another_name(self):
        model, few = of_another_name(), ["--seq", "32", "--tokens", "32", "-q"]
        ppl = ["ppl", model, "en=" + text_path("en"), "--neurons", neurons()] + few
        steer = ["generate", model, "-p", "x", "-n", "1", "--on", "fr", "--neurons", neurons(),
                 "--counts", counts()]
        for arguments in ppl, steer:
            self.assertIn("--any-model", self.refused(1, neurons(), *arguments))
            self.works(*arguments, "--any-model")
        own = self.path("own.tsv", tiny.without_digest(
            "\n".join(self.with_header("model", "omed")).encode()))
        steer[steer.index(neurons())] = own
        self.assertIn("--any-model", self.refused(1, counts(), *steer))
        unnamed = self.path("own.tsv", tiny.without_digest(
            "\n".join(self.with_header("model", "unknown")).encode()))
        self.works(*["ppl", model, "en=" + text_path("en"), "--neurons", unnamed] + few)

    def test_name_of_two_lines(self):
        """A model's name may hold anything: it is refused, or the list can be read again."""
        name = b"general.name" + struct.pack("<IQ", 8, 4)
        model = altered("two-lines.gguf", (name + b"demo", name + b"d\nmo"))
        few = ["--seq", "32", "--tokens", "32", "-q"]
        done = run("count", model, "en=" + text_path("en"), "fr=" + text_path("fr"), *few, "-o",
                   self.path("counts"))
        if done.returncode == 0:
            self.works("find", self.path("counts"), "--filter", "0", "-q", "-o",
                       self.path("list.tsv"))
            self.works("ppl", model, "en=" + text_path("en"), *few, "--neurons",
                       self.path("list.tsv"))

    def test_counts_of_another_shape(self):
        ids = self.path("ids.bin", integers([1, 2, 3, 4] * 8, "<u2"))
        other = self.path("other.gguf")
        self.works("count", without_tokenizer(), "fr=" + ids, "--seq", "4", "-q", "-o", other)
        for more in [], ["--any-model"]:
            self.refused(1, other, "generate", DEMO, "-p", "x", "-n", "1", "--on", "fr",
                         "--neurons", neurons(), "--counts", other, *more)

    def test_languages(self):
        for option in "--off", "--on":
            message = self.refused(1, neurons(), "generate", DEMO, "-p", "x", option, "zh",
                                   "--neurons", neurons(), "--counts", counts())
            self.assertIn("'zh'", message or "'zh'")
        lacking = self.path("lacking.gguf")
        self.works("count", DEMO, "en=" + text_path("en"), "--seq", "64", "--tokens", "64", "-q",
                   "-o", lacking)
        self.refused(1, "fr", "generate", DEMO, "-p", "x", "--on", "fr", "--neurons", neurons(),
                     "--counts", lacking)
        self.refused(1, "fr", "find", lacking, "--method", "random", "--like", neurons())
        for langs in "xx", "en,xx", "", "en,", ",en", "e n", "x" * 30:
            self.refused(1, "language", "find", counts(), "--langs", langs, "-o", self.path("out"))


# ---- Standard output that cannot be written -------------------------------------------------

class Output(Case):
    def runs(self):
        few = ["en=" + text_path("en"), "--seq", "32", "--tokens", "32", "-q"]
        return [(["-h"], b""), (["--version"], b""), (["count", "-h"], b""), (["info", DEMO], b""),
                (["info", counts()], b""), (["info", neurons()], b""),
                (["tokenize", DEMO], b"Some text."),
                (["tokenize", DEMO], read(text_path("en")) * 4),
                (["tokenize", DEMO, "--decode"], b"100 101 102"),
                (["tokenize", DEMO, "--lines"], b"One.\nTwo.\n"),
                (["find", counts(), "-q"], b""), (["find", counts(), "--top", "1", "-q"], b""),
                (["ppl", DEMO] + few, b""), (["generate", DEMO, "-p", "x", "-n", "2"], b""),
                (["generate", DEMO, "-f", self.path("prompts", b"One\nTwo\n"), "-n", "2"], b"")]

    @unittest.skipUnless(os.path.exists("/dev/full"), "there is no /dev/full")
    def test_full(self):
        for arguments, text in self.runs():
            with open("/dev/full", "wb") as full:
                message = self.refused(1, "standard output", *arguments, stdin=text, stdout=full)
                self.assertIn("No space left", message or "No space left")

    def test_closed(self):
        for arguments, text in self.runs():
            self.refused(1, "standard output", *arguments, stdin=text, stdout=None,
                         preexec_fn=lambda: os.close(1))

    def test_closed_but_unused(self):
        output = self.path("out")
        self.works("find", counts(), "-q", "-o", output, stdout=None,
                   preexec_fn=lambda: os.close(1))
        self.assertEqual(read(output), self.works("find", counts(), "-q"))
        self.works("merge", counts(), "-o", output, stdout=None, preexec_fn=lambda: os.close(1))
        self.assertEqual(read(output), read(counts()))

    def test_closed_stdin(self):
        self.works("info", DEMO, preexec_fn=lambda: os.close(0))
        self.refused(1, "standard input", "tokenize", DEMO, preexec_fn=lambda: os.close(0))


# ---- What works -----------------------------------------------------------------------------

class Info(Case):
    def test_model(self):
        shown = self.works("info", DEMO, "-q").decode()
        for line in ["model: demo", "layers: %d" % LAYERS, "neurons: 1024 a layer, 6144 in all",
                     "vocabulary: %d" % VOCAB]:
            self.assertIn(line + "\n", shown)

    def test_counts(self):
        shown = self.works("info", counts(), "-q").decode().split("\n")
        self.assertIn("counts of model: demo", shown)
        self.assertIn("piece: 64 tokens", shown)
        rows = [line.split("\t") for line in shown if line[2:3] == "\t"]
        self.assertEqual([row[:3] for row in rows],
                         [["en", "512", "8"], ["fr", "512", "8"], ["ja", "512", "8"]])
        for row in rows:
            self.assertLess(0, int(row[3]))
            self.assertLess(int(row[3]), 512 * LAYERS * NEURONS)

    def test_neurons(self):
        shown = self.works("info", neurons(), "-q").decode().split("\n")
        self.assertIn("neurons of model: demo", shown)
        self.assertEqual(shown[5].split("\t"), ["layer", "en", "fr", "ja"])
        table = [list(map(int, line.split("\t"))) for line in shown[6:6 + LAYERS]]
        self.assertEqual([row[0] for row in table], list(range(LAYERS)))
        members = selected(read(neurons()))
        for column, language in enumerate(["en", "fr", "ja"], 1):
            for layer in range(LAYERS):
                self.assertEqual(table[layer][column], members[layer, language])


def selected(table):
    """(layer, language) -> how many neurons of a list."""
    number = {}
    for layer in range(LAYERS):
        for language in LANGUAGES:
            number[layer, language] = 0
    for line in table.decode().split("\n"):
        if line[:1].isdigit():
            fields = line.split("\t")
            for language in fields[3].split(","):
                if language != "-":
                    number[int(fields[0]), language] += 1
    return number


class Tokenize(Case):
    def there_and_back(self, text, *options):
        ids = self.works("tokenize", DEMO, "-q", *options, stdin=text)
        self.assertRegex(ids, rb"\A[0-9 \n]*\Z")
        self.assertEqual(self.works("tokenize", DEMO, "-q", "--decode", *options, stdin=ids), text)
        return ids

    def test_demo_texts(self):
        for language in LANGUAGES:
            for kind in "count", "eval":
                self.there_and_back(read(text_path(language, kind)))
                self.there_and_back(read(text_path(language, kind)), "--lines")

    def test_odd_texts(self):
        for text in ["", " ", "  two  spaces  ", "\n", "\n\n\nx", "tab\tand\rreturn", "\0", "a\0b",
                     "\U0001f600 \u0915\u094d\u0937 \u200b \ufeff", "<s></s><unk><0x41>",
                     "x" * 5000, " " * 3000, "\u4e00" * 3000, "e\u0301" * 500]:
            self.there_and_back(text.encode())

    def test_lines(self):
        text = b"One line.\n\nAnother  one. \n"
        ids = self.there_and_back(text, "--lines").split(b"\n")
        self.assertEqual(len(ids), 4)
        for line, its in zip(text.split(b"\n"), ids):
            self.assertEqual(self.works("tokenize", DEMO, stdin=line), its + b"\n")
        self.assertEqual(self.works("tokenize", DEMO, "--lines", stdin=b"x"),
                         self.works("tokenize", DEMO, "--lines", stdin=b"x\n"))

    def test_bos(self):
        plain = self.works("tokenize", DEMO, stdin=b"One.")
        self.assertEqual(self.works("tokenize", DEMO, "--bos", stdin=b"One."), b"1 " + plain)
        self.assertEqual(self.works("tokenize", DEMO, "--bos", stdin=b""), b"1\n")
        lines = self.works("tokenize", DEMO, "--bos", "--lines", stdin=b"One.\nOne.\n")
        self.assertEqual(lines, (b"1 " + plain) * 2)

    def test_spaces_between_ids(self):
        ids = self.works("tokenize", DEMO, stdin=b"Some text.")
        spaced = b"\n\t " + ids.replace(b" ", b" \t\r\n\n ") + b"\n"
        self.assertEqual(self.works("tokenize", DEMO, "--decode", stdin=spaced), b"Some text.")

    def test_bad_ids(self):
        for word in ["x", "-1", "1.5", "0x10", "1,2", str(VOCAB), "2147483647", "2147483648",
                     "18446744073709551616", "\u0661"]:
            for line in word, "5 6 " + word, word + " 5":
                message = self.refused(1, "standard input", "tokenize", DEMO, "--decode",
                                       stdin=line.encode())
                self.assertIn(word, message or word)
        message = self.refused(1, "line 1", "tokenize", DEMO, "--decode", "--lines",
                               stdin=b"5 x\n")
        self.assertIn("'x'", message or "'x'")

    def test_bad_text(self):
        self.refused(1, "standard input: byte 4 ", "tokenize", DEMO, stdin=b"abc \xff")
        self.refused(1, "line 1: byte 4 ", "tokenize", DEMO, "--lines", stdin=b"abc \xff\nx\n")


class Count(Case):
    def count(self, name, *args, model=DEMO):
        path = self.path(name)
        self.works("count", model, *args, "-q", "-o", path)
        return read(path)

    def test_ids_like_text(self):
        text = text_path("en")
        ids = ids_of(read(text))
        self.assertTrue(128 < len(ids) < 1 << 16)
        few = ["--seq", "128", "--tokens", "512"]
        expected = self.count("text", "en=" + text, *few)
        forms = {"%s%s.npy" % (sign, size): npy(integers(ids, "<%s%s" % (sign, size)),
                                                "<%s%s" % (sign, size))
                 for sign in "iu" for size in "248"}
        forms["u2.bin"] = integers(ids, "<u2")
        forms["second.npy"] = npy(integers(ids, "<u2"), "<u2", version=2)
        forms["third.npy"] = npy(integers(ids, "<i8"), "<i8", version=3)
        for name, data in forms.items():
            with self.subTest(name):
                self.assertEqual(self.count("ids", "en=" + self.path(name, data), *few), expected)

    def test_threads_and_batches(self):
        texts = ["en=" + text_path("en"), "ja=" + text_path("ja")]
        few = ["--seq", "96", "--tokens", "500"]                        # 5 pieces
        expected = self.count("plain", *texts, *few)
        for threads, batch in itertools.product(["1", "2", "3"], ["1", "2", "5"]):
            with self.subTest(threads=threads, batch=batch):
                got = self.count("out", *texts[::-1], *few, "-t", threads, "--batch", batch)
                self.assertEqual(got, expected)

    def test_shards(self):
        texts = ["en=" + text_path("en"), "fr=" + text_path("fr")]
        few = ["--seq", "64", "--tokens", "704"]                        # 11 pieces: 4, 4 and 3
        whole = self.count("whole", *texts, *few)
        for i in "123":
            self.count("shard" + i, *texts, *few, "--shard", i + "/3", "-t", i, "--batch", i)
        self.assertEqual(self.count("only", *texts, *few, "--shard", "1/1"), whole)
        for order in itertools.permutations("123"):
            with self.subTest(order):
                self.works("merge", *[self.path("shard" + i) for i in order], "-q", "-o",
                           self.path("merged"))
                self.assertEqual(read(self.path("merged")), whole)
        self.works("merge", self.path("shard2"), "-o", self.path("merged"))
        self.assertEqual(read(self.path("merged")), read(self.path("shard2")))

    def test_languages_apart(self):
        few = ["--seq", "64", "--tokens", "256"]
        texts = {language: "%s=%s" % (language, text_path(language)) for language in LANGUAGES}
        whole = self.count("whole", *texts.values(), *few)
        for language, text in texts.items():
            self.count(language, text, *few)
        self.works("merge", *map(self.path, LANGUAGES), "-q", "-o", self.path("merged"))
        self.assertEqual(read(self.path("merged")), whole)
        self.works("merge", *map(self.path, LANGUAGES[::-1]), "-o", self.path("merged"))
        self.assertEqual(read(self.path("merged")), whole)

    def test_merge_in_place(self):
        few = ["--seq", "64", "--tokens", "256"]
        whole = self.count("whole", "en=" + text_path("en"), "fr=" + text_path("fr"), *few)
        self.count("en", "en=" + text_path("en"), *few)
        self.count("fr", "fr=" + text_path("fr"), *few)
        self.works("merge", self.path("fr"), self.path("en"), "-o", self.path("fr"))
        self.assertEqual(read(self.path("fr")), whole)

    def test_merge_twice(self):
        """What would be counted twice is refused: a file with itself, a shard that is in both."""
        text, few = "en=" + text_path("en"), ["--seq", "64", "--tokens", "640"]
        for shard in "1/2", "2/2", "3/4", "4/4", "1/1":
            self.count(shard.replace("/", "of"), text, *few, "--shard", shard)
        self.count("other", "en=" + text_path("fr"), *few)
        self.works("merge", self.path("1of2"), self.path("4of4"), "-o", self.path("some"))
        for one, two in [("1of2", "1of2"), ("1of2", "3of4"), ("1of2", "1of1"), ("some", "4of4"),
                         ("some", "3of4"), ("1of1", "some")]:
            message = self.refused(1, self.path(two), "merge", self.path(one), self.path(two), "-o",
                                   self.path("out"))
            self.assertIn("language en", message)
        self.works("merge", self.path("1of2"), self.path("2of2"), "-o", self.path("both"))
        self.assertEqual(read(self.path("both")), read(self.path("1of1")))
        self.works("merge", self.path("both"), self.path("other"), "-o", self.path("out"))

    def test_merge_without_parts(self):
        """Files from before counts said which part of a text they are of, and imported ones."""
        old = self.path("old", read(counts()).replace(b"lape-counts.parts", b"lape-countz.parts"))
        self.refused(1, old, "merge", old, old, "-o", self.path("out"))
        head, data = b"lape-counts.parts" + struct.pack("<IIQ", 9, 10, 12), read(counts())
        at = data.index(head) + len(head)
        for place, value in (0, 3), (16, 1), (24, 0), (24, 1 << 31):    # language, shard, of
            bad = data[:at + place] + struct.pack("<Q", value) + data[at + place + 8:]
            self.assertIn("parts", self.refused(1, "bad", "info", self.path("bad", bad)))

    def test_merge_sums(self):
        other = self.path("other")
        self.works("count", DEMO, *("%s=%s" % (language, self.path(language + ".bin", integers(
            ids_of(read(text_path(language)))[:512][::-1], "<u2")))
            for language in ("en", "fr", "ja")), "--seq", "64", "-q", "-o", other)
        self.works("merge", counts(), other, "-o", self.path("twice"))
        more = [line.split(b"\t") for line in self.works("info", other).split(b"\n")]
        once = [line.split(b"\t") for line in self.works("info", counts()).split(b"\n")]
        twice = [line.split(b"\t") for line in self.works("info", self.path("twice")).split(b"\n")]
        rows = [row for row in zip(once, more, twice) if len(row[0]) == 4][1:]
        self.assertEqual(len(rows), 3)
        for one, other, two in rows:
            self.assertEqual([int(number) for number in two[1:]],
                             [int(a) + int(b) for a, b in zip(one[1:], other[1:])])

    def test_merge_of_others(self):
        few, text = ["--seq", "64", "--tokens", "64"], "en=" + text_path("en")
        self.count("plain", text, *few)
        ids = self.path("ids.bin", integers([1, 2, 3, 4] * 8, "<u2"))
        self.works("count", without_tokenizer(), "en=" + ids, "--seq", "4", "-q", "-o",
                   self.path("shape"))
        self.count("name", text, *few, model=of_another_name())
        self.count("piece", text, "--seq", "32", "--tokens", "64")
        self.count("near", text, *few, "--near", "0.002")
        self.count("bos", text, *few, "--bos")
        for other in "shape", "name", "piece", "near", "bos":
            for pair in ["plain", other], [other, "plain"]:
                self.refused(1, self.path(pair[1]), "merge", *map(self.path, pair), "-o",
                             self.path("out"))

    def test_options_matter(self):
        text = "en=" + text_path("en")
        few = ["--seq", "64", "--tokens", "256"]
        plain = self.count("plain", text, *few)
        self.assertNotEqual(self.count("bos", text, *few, "--bos"), plain)
        self.assertIn(b"BOS", self.works("info", self.path("bos")))
        self.assertNotEqual(self.count("near", text, *few, "--near", "0.1"), plain)
        self.assertEqual(self.count("out", text, *few, "--near", "1e-3"), plain)
        ragged = self.count("out", text, "--seq", "64", "--tokens", "319")
        self.assertEqual(ragged, plain)

    def test_standard_input(self):
        few = ["--seq", "64", "--tokens", "512"]
        from_file = self.count("file", "en=" + text_path("en"), *few)
        self.works("count", DEMO, "en=-", *few, "-q", "-o", self.path("input"),
                   stdin=read(text_path("en")))
        self.assertEqual(read(self.path("input")), from_file)
        expected = self.works("ppl", DEMO, "en=" + text_path("en"), *few, "-q")
        self.assertEqual(self.works("ppl", DEMO, "en=-", *few, "-q", stdin=read(text_path("en"))),
                         expected)
        self.refused(2, "fr=-", "count", DEMO, "en=-", "fr=-", "-q", "-o", self.path("out"))
        both = self.count("both", "en=" + text_path("en"), "fr=" + text_path("fr"), *few)
        self.works("count", DEMO, "en=" + text_path("en"), "fr=-", *few, "-q", "-o",
                   self.path("input"), stdin=read(text_path("fr")))
        self.assertEqual(read(self.path("input")), both)
        self.refused(1, "-: 0 tokens", "count", DEMO, "en=-", "-q", "-o", self.path("out"))

    def test_progress(self):
        done = run("count", DEMO, "en=" + text_path("en"), "--seq", "64", "--tokens", "130", "-o",
                   self.path("out"))
        self.assertEqual((done.returncode, done.stdout), (0, b""))
        self.assertIn(b"en: 128 tokens in 2 pieces", done.stderr)
        self.assertNotIn(b"\r", done.stderr)
        self.assertNotIn(b"context", done.stderr)
        lines = self.path("lines", b"Open the file.\n\nChoose a language.\nClose it.\n")
        done = run("count", DEMO, "xx=" + lines, "--lines", "-o", self.path("out"))
        self.assertRegex(done.stderr, rb"\Axx: \d+ tokens in 3 lines\n\d+ tokens in \d")
        few = ["--seq", "600", "--tokens", "600", "-o", self.path("out")]
        done = run("count", DEMO, "en=" + text_path("en"), *few)
        self.assertIn(b"pieces of 600 tokens are longer than the model's context of 128\n",
                      done.stderr)

    def on_terminal(self, *arguments, before=()):
        """What a run that works shows on a terminal: lines, each with what stood there before."""
        try:
            master, terminal = os.openpty()
        except OSError as problem:
            self.skipTest("no terminal can be made here: %s" % problem)
        running = subprocess.Popen([*before, LAPE, *arguments], cwd=self.directory, stderr=terminal,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        os.close(terminal)
        said, part = b"", b"x"
        while part:
            try:
                part = os.read(master, 1 << 16)
            except OSError:              # what Linux says when nobody writes any more
                part = b""
            said += part
        os.close(master)
        self.assertEqual(running.wait(), 0)
        return [line.split("\r\x1b[K") for line in said.decode().split("\r\n")]

    def shown(self, size, *arguments):
        """What a terminal shows of a count of texts a and b is right: a line for each, which is
        written anew as the count goes on, with its part of both by their sizes."""
        path = self.path("out")
        first, second, last, nothing = self.on_terminal("count", DEMO, *arguments, "-o", path)
        tokens = {row.split(b"\t")[0].decode(): int(row.split(b"\t")[1])
                  for row in must("info", path).split(b"\n")[-3:-1]}
        self.assertEqual(nothing, [""])
        self.assertRegex(last[-1], r"\A%d tokens in \d+\.\d s, \d+ tokens/s\Z" % sum(tokens.values()))
        seen = []
        for label, texts in ("a", first), ("b", second):
            self.assertRegex(texts[-1], r"\A%s: %d tokens in %d pieces, \d+ in the ragged end left "
                             r"out\Z" % (label, tokens[label], tokens[label] // 64))
            for text in filter(None, texts[:-1]):
                shown = re.fullmatch(r"%s: (\d+) tokens, \d+ tokens/s, (\d+) %%, (\d+) s left" % label,
                                     text)
                self.assertTrue(shown, text)
                seen.append(tuple(map(int, shown.groups())))
                second, done = label == "b", seen[-1][0]
                part = second * size["a"] + size[label] * (done - second * tokens["a"]) / tokens[label]
                self.assertAlmostEqual(seen[-1][1], 100 * part / sum(size.values()),
                                       delta=1 + 100 * 64 / tokens[label])      # the ragged end
        self.assertGreater(len(seen), 2)
        self.assertEqual([row[:2] for row in seen], sorted(row[:2] for row in seen))
        self.assertLessEqual(seen[-1][1], 100)

    def test_progress_on_a_terminal(self):
        """Of so many ids of each text, and of all that there are."""
        arguments, _, path = long_count()
        arguments = [word for word in arguments[2:] if word != "-q"]
        self.shown({"a": 1, "b": 1}, *arguments)
        self.assertEqual(read(self.path("out")), read(path))
        text, most = read(arguments[0][2:]), int(arguments[-1])
        size = {"a": 2 * most, "b": 3 * most}
        texts = ["%s=%s" % (label, self.path(label, text[:size[label]].decode("utf-8", "ignore")))
                 for label in "ab"]
        self.shown(size, *texts, *arguments[2:-2])

    def test_progress_without_an_end(self):
        """Of what a pipe gives nobody knows how much there is."""
        arguments, _, path = long_count()
        most = int(re.search(rb"\na\t(\d+)", must("info", path))[1])
        text = read(arguments[2][2:])
        text = self.path("text", text[:text.index(b"\n", 3 * most) + 1])
        lines = self.on_terminal("ppl", DEMO, "a=-", "--seq", "64", "-t", "1", "--batch", "4",
                                 before=["sh", "-c", 'cat "$0" | "$@"', text])
        self.assertEqual(len(lines), 3)
        shown = [re.fullmatch(r"a: (\d+) tokens, \d+ tokens/s", text) for text in lines[0][1:-1]]
        self.assertTrue(len(shown) > 1 and all(shown), lines[0])
        tokens = [int(match[1]) for match in shown]
        self.assertEqual(tokens, sorted(tokens))
        self.assertRegex(lines[0][-1], r"\Aa: \d+ tokens in \d+ pieces, ")


class Resume(Case):
    few = ["--seq", "64", "--tokens", "768", "-q"]

    def setUp(self):
        super().setUp()
        self.output, self.partial = self.path("out"), self.path("out.partial")
        self.texts = ["en=" + text_path("en"), "fr=" + text_path("fr")]

    def test_goes_on(self):
        """A count of fewer tokens is just what is saved on the way."""
        self.works("count", DEMO, *self.texts, "-o", self.path("whole"), *self.few)
        self.works("count", DEMO, *self.texts, "-o", self.partial, "--seq", "64", "--tokens",
                   "320", "-q")
        done = run("count", DEMO, *self.texts, "-o", self.output, "--seq", "64", "--tokens", "768",
                   "--resume")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"896 tokens in", done.stderr)                    # 2 x (768 - 320)
        self.assertEqual(read(self.output), read(self.path("whole")))
        self.assertEqual(sorted(self.files()), ["out", "whole"])

    def test_without_partial(self):
        self.works("count", DEMO, *self.texts, "-o", self.path("whole"), *self.few)
        self.works("count", DEMO, *self.texts, "-o", self.output, *self.few, "--resume",
                   "--save-every", "0.001", "-t", "1", "--batch", "1")
        self.assertEqual(read(self.output), read(self.path("whole")))
        self.assertEqual(sorted(self.files()), ["out", "whole"])

    def test_not_yet(self):
        """Nothing is saved before its time has come."""
        os.mkdir(self.partial)           # where it could not be
        self.path("out.partial/full", b"")
        whole = self.path("whole")
        self.works("count", DEMO, *self.texts, "-o", whole, *self.few)
        self.works("count", DEMO, *self.texts, "-o", self.output, *self.few, "--save-every",
                   "1000", "-t", "1", "--batch", "1")
        self.assertEqual(read(self.output), read(whole))
        self.refused(1, self.partial, "count", DEMO, *self.texts, "-o", self.output, *self.few,
                     "--save-every", "1e-9", "-t", "1", "--batch", "1")

    def test_others_refused(self):
        texts, few = self.texts, self.few
        self.works("count", DEMO, *texts, "-o", self.partial, "--seq", "64", "--tokens", "320",
                   "-q")
        before = read(self.partial)
        other = "fr=" + text_path("es")
        changed = self.path("changed.txt", read(text_path("en")).replace(b"e", b"a", 1))
        for arguments in [
                [DEMO, texts[0], other] + few, [DEMO, texts[0]] + few,
                [DEMO] + texts + [other.replace("fr=", "es=")] + few,
                [DEMO, texts[0], texts[1].replace("fr=", "xx=")] + few,
                [DEMO, texts[1].replace("fr=", "en="), texts[0].replace("en=", "fr=")] + few,
                [DEMO, "en=" + changed, texts[1]] + few,
                [DEMO] + texts + ["--seq", "32", "--tokens", "768", "-q"],
                [DEMO] + texts + ["--seq", "64", "--tokens", "256", "-q"],
                [DEMO] + texts + few + ["--bos"], [DEMO] + texts + few + ["--near", "0.01"],
                [DEMO] + texts + few + ["--shard", "1/2"],
                [of_another_name()] + texts + few]:
            self.refused(1, self.partial, "count", *arguments, "-o", self.output, "--resume")
        self.assertEqual(read(self.partial), before)
        self.works("count", DEMO, texts[0], other, *few, "-o", self.output)   # replaces it
        self.assertEqual(sorted(self.files()), ["changed.txt", "out"])

    def test_damaged_refused(self):
        whole = read(counts())
        for data in [b"", b"x", whole[:1000], whole[:-100], read(neurons())]:
            write(self.partial, data)
            self.refused(1, self.partial, "count", DEMO, *self.texts, *self.few, "-o",
                         self.output, "--resume")

    def test_others_temporaries(self):
        """A file beside the output is somebody's own, whatever its name."""
        names = ["out.tmp", "out.partial.tmp"]
        for name in names:
            self.path(name, b"mine")
        done = run("count", DEMO, *self.texts, "-o", self.output, *self.few, "--save-every", "0.01",
                   cwd=self.directory)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(self.files()), sorted(["out"] + names))
        for name in names:
            self.assertEqual(read(self.path(name)), b"mine")

    def start(self, arguments, *more):
        return subprocess.Popen([LAPE] + arguments + ["-o", self.output, *more],
                                stderr=subprocess.PIPE)

    def test_kill(self):
        arguments, seconds, expected = long_count()
        rng, kills, partials = random.Random(11), 0, 0
        for attempt in range(100):
            process = self.start(arguments, "--save-every", "0.05", "--resume")
            try:
                wait = seconds * rng.uniform(0.15, 0.5) * (1 + attempt / 20)
                _, message = process.communicate(timeout=wait)
                self.assertEqual(message, b"")
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            if process.returncode != -9:
                break
            kills += 1
            partials += os.path.exists(self.partial)
            if os.path.exists(self.output):        # of the run, nothing was left but to exit
                self.assertEqual(read(self.output), read(expected))
                os.remove(self.output)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(read(self.output), read(expected))
        self.assertFalse(os.path.exists(self.partial))
        if partials < 2:
            self.skipTest("killed %d times, %d with something saved: could not test"
                          % (kills, partials))

    def test_kill_in_the_first_language(self):
        """As soon as something is saved: the other language is not begun."""
        arguments, seconds, expected = long_count()
        process = self.start(arguments, "--save-every", "0.001")
        until = time.monotonic() + 10 * seconds
        while process.poll() is None and not os.path.exists(self.partial):
            self.assertLess(time.monotonic(), until, "nothing was ever saved")
            time.sleep(0.001)
        process.kill()
        process.communicate()
        if process.returncode != -9:
            self.skipTest("it ended before it could be killed")
        done = run(*arguments, "-o", self.output, "--resume")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(read(self.output), read(expected))
        self.assertFalse(os.path.exists(self.partial))

class Find(Case):
    def find(self, *args):
        """The comments, the names of the columns, and the rows."""
        lines = self.works("find", counts(), "-q", *args).decode().split("\n")
        self.assertEqual(lines.pop(), "")
        comments = [line for line in lines if line.startswith("#")]
        rows = [line.split("\t") for line in lines[len(comments):]]
        for one, two in zip(rows[1:], rows[2:]):
            self.assertLess((int(one[0]), int(one[1])), (int(two[0]), int(two[1])))
        self.assertTrue(all(len(row) == len(rows[0]) for row in rows))
        return comments, rows[0], rows[1:]

    def test_output(self):
        shown = self.works("find", counts(), "-q")
        self.works("find", counts(), "-q", "-o", self.path("out"))
        self.assertEqual(read(self.path("out")), shown)
        self.assertEqual(list(self.files()), ["out"])
        done = run("find", counts())
        self.assertEqual(done.stdout, shown)
        self.assertRegex(done.stderr, rb"\A61 of 6144 neurons; en \d+ fr \d+ ja \d+\n\Z")

    def test_languages(self):
        _, columns, whole = self.find("--top", "1", "--filter", "0")
        self.assertEqual(columns, ["layer", "neuron", "lape", "languages", "p_en", "p_fr", "p_ja"])
        for langs in ["ja,en", "en,ja", "ja,fr,en", "en,fr,ja"]:
            comments, columns, rows = self.find("--top", "1", "--filter", "0", "--langs", langs)
            names = langs.split(",")
            self.assertIn("# languages: " + " ".join(names), comments)
            self.assertEqual(columns[4:], ["p_" + name for name in names])
            places = [4 + ["en", "fr", "ja"].index(name) for name in names]
            self.assertEqual([row[:2] + row[4:] for row in rows],
                             [row[:2] + [row[place] for place in places] for row in whole])
            for row in rows:
                members = row[3].split(",") if row[3] != "-" else []
                self.assertEqual(members, [name for name in names if name in members])
        for method in "lape", "lave":       # all neurons would be ties of entropy 0
            self.assertIn("one language", self.refused(1, counts(), "find", counts(), "--langs",
                                                       "fr", "--method", method))
        self.works("find", counts(), "--langs", "fr", "--method", "lap", "-q")

    def test_top(self):
        for top, number in ("0", 0), ("0.00008", 0), ("0.01", 61), ("0.5", 3072), ("1", 6144):
            comments, _, rows = self.find("--top", top, "--filter", "0")
            self.assertEqual(len(rows), number)
            self.assertIn("# top: " + ("%.9g" % float(top)), comments)
        listed = self.works("find", counts(), "--top", "0", "-q", "-o", self.path("none.tsv"))
        self.assertEqual(listed, b"")
        table = self.works("ppl", DEMO, "en=" + text_path("en"), "--seq", "32", "--tokens", "32",
                           "--neurons", self.path("none.tsv"), "-q").split(b"\n")
        self.assertEqual({row.split(b"\t")[1] for row in table[1:-1]},
                         {table[1].split(b"\t")[1]})

    def test_filter_and_bar(self):
        everything = self.find("--top", "1", "--filter", "0", "--bar", "0")[2]
        self.assertEqual(len(everything), LAYERS * NEURONS)
        self.assertEqual({row[3] for row in everything}, {"en,fr,ja"})
        self.assertEqual(self.find("--top", "1", "--filter", "1")[2], [])
        self.assertEqual({row[3] for row in self.find("--bar", "1", "--filter", "0")[2]}, {"-"})
        some = self.find("--top", "1", "--filter", ".9", "--bar", ".9")
        limit = float(re.search(r"threshold (\S+)", "\n".join(some[0])).group(1))
        passing = [row[:2] for row in everything if max(map(float, row[4:])) > limit]
        self.assertEqual([row[:2] for row in some[2]], passing)
        for row in some[2]:
            above = [name for name, p in zip(["en", "fr", "ja"], row[4:]) if float(p) > limit]
            self.assertEqual(row[3], ",".join(above))

    def test_lowest_entropy(self):
        everything = self.find("--top", "1", "--filter", "0")[2]
        order = sorted(everything, key=lambda row: (float(row[2]), int(row[0]), int(row[1])))
        best = order[:5837]                           # most have 0: a few tokens of one language
        self.assertGreater(float(best[-1][2]), 0)
        chosen = self.find("--top", ".95", "--filter", "0")[2]
        self.assertEqual({tuple(row[:3]) for row in chosen}, {tuple(row[:3]) for row in best})

    def test_random(self):
        args = ["--method", "random", "--top", ".1", "--filter", ".5"]
        first = self.find(*args, "--seed", "7")
        self.assertEqual(self.find(*args, "--seed", "7"), first)
        self.assertNotEqual(self.find(*args, "--seed", "8")[2], first[2])
        self.assertEqual(len(first[2]), 614)
        self.assertNotEqual(self.find("--top", ".1", "--filter", ".5")[2], first[2])

    def test_like(self):
        args = ["--method", "random", "--like", neurons(), "-q"]
        like = selected(read(neurons()))
        self.assertGreater(sum(like.values()), 100)
        first = self.works("find", counts(), *args, "--seed", "3")
        self.assertEqual(self.works("find", counts(), *args, "--seed", "3"), first)
        other = self.works("find", counts(), *args, "--seed", "4")
        self.assertNotEqual(other, first)
        self.assertEqual(selected(first), like)
        self.assertEqual(selected(other), like)
        full = self.path("full.tsv")
        self.works("find", counts(), "--top", "1", "--filter", "0", "--bar", "0", "-q", "-o", full)
        drawn = self.works("find", counts(), "--method", "random", "--like", full, "-q")
        self.assertEqual(selected(drawn), selected(read(full)))


class Perplexity(Case):
    few = ["--seq", "64", "--tokens", "256", "-q"]

    def table(self, languages, *args):
        texts = ["%s=%s" % (language, text_path(language, "eval")) for language in languages]
        shown = self.works("ppl", DEMO, *texts, *self.few, *args).decode()
        self.assertTrue(shown.endswith("\n"))
        return [line.split("\t") for line in shown.split("\n")[:-1]]

    def test_plain(self):
        table = self.table(["fr", "en"])
        self.assertEqual(table[0], ["off", "fr", "en"])
        self.assertEqual([row[0] for row in table], ["off", "none"])
        for number in table[1][1:]:
            self.assertTrue(1 < float(number) < VOCAB, number)
        self.assertEqual(table[1][1], self.table(["fr"])[1][1])

    def test_ablated(self):
        plain = self.table(["zh", "ja", "en"])
        table = self.table(["zh", "ja", "en"], "--neurons", neurons())
        self.assertEqual(table[0], ["off", "zh", "ja", "en"])
        self.assertEqual([row[0] for row in table[1:]], ["none", "ja", "en", "fr"])
        self.assertEqual(table[1], plain[1])
        self.assertEqual({len(row) for row in table}, {4})
        for row in table[2:]:
            self.assertNotEqual(row[1:], plain[1][1:])
            self.assertTrue(all(float(number) > 1 for number in row[1:]))
        self.assertGreater(float(table[2][2]), float(table[1][2]))      # ja without ja's neurons

    def test_same_whatever_the_threads(self):
        expected = self.table(["en", "ja"], "--neurons", neurons())
        for threads, batch in ("1", "1"), ("2", "3"), ("3", "2"):
            self.assertEqual(self.table(["en", "ja"], "--neurons", neurons(), "-t", threads,
                                        "--batch", batch), expected)

    def test_output(self):
        shown = self.table(["en"], "--neurons", neurons())
        self.assertEqual(self.works("ppl", DEMO, "en=" + text_path("en", "eval"), *self.few,
                                    "--neurons", neurons(), "-o", self.path("out")), b"")
        written = read(self.path("out")).decode()
        self.assertEqual([line.split("\t") for line in written.split("\n")[:-1]], shown)
        self.assertEqual(list(self.files()), ["out"])

    def test_bos(self):
        table = self.table(["en"], "--bos")
        self.assertNotEqual(table, self.table(["en"]))
        ids = ids_of(read(text_path("en", "eval")))
        ids = sum(([1] + ids[63 * i:63 * (i + 1)] for i in range(4)), [])
        path = self.path("ids.bin", integers(ids, "<u2"))
        shown = self.works("ppl", DEMO, "en=" + path, *self.few).decode()
        self.assertEqual(shown.split("\n")[1].split("\t"), table[1])

    def test_ids(self):
        path = self.path("ids.bin", integers(demo_ids(), "<u2"))
        self.assertEqual(self.works("ppl", DEMO, "en=" + path, *self.few),
                         self.works("ppl", DEMO, "en=" + text_path("en"), *self.few))


class Generate(Case):
    def generate(self, *args, model=DEMO):
        return self.works("generate", model, "-q", *args)

    def rows(self, *args):
        """[prompt, output, [ids]] of a table."""
        lines = self.generate(*args).decode().split("\n")
        self.assertEqual(lines[0], "prompt\toutput\ttokens")
        self.assertEqual(lines.pop(), "")
        rows = [line.split("\t") for line in lines[1:]]
        self.assertTrue(all(len(row) == 3 for row in rows), rows)
        return [[prompt, output, list(map(int, ids.split()))] for prompt, output, ids in rows]

    def test_prompt(self):
        for prompt in "My grandmother", "Le chat ", "\u79c1\u306f", " two  spaces\n":
            shown = self.generate("-p", prompt, "-n", "8")
            self.assertTrue(shown.startswith(prompt.encode()), shown)
            self.assertEqual(self.generate("-p", prompt, "-n", "8"), shown)
            self.assertEqual(self.generate("-p", prompt, "-n", "8", "-t", "1"), shown)
            self.assertLess(len(self.generate("-p", prompt, "-n", "1")), len(shown))
            shown.decode()

    def test_table(self):
        prompts = ["My grandmother", "a\tb\\c\\n", "  two spaces", "cr\r", "\u79c1\u306f"]
        path = self.path("prompts", ("\n\n" + "\n\n".join(prompts)).encode())
        rows = self.rows("-f", path, "-n", "6")
        self.assertEqual([row[0] for row in rows],
                         ["My grandmother", "a\\tb\\\\c\\\\n", "  two spaces", "cr\\r",
                          "\u79c1\u306f"])
        plain = {"\\n": "\n", "\\t": "\t", "\\r": "\r", "\\\\": "\\"}
        for prompt, row in zip(prompts, rows):
            self.assertTrue(1 <= len(row[2]) <= 6)
            text = re.sub(r"\\.", lambda found: plain[found.group()], row[1])
            self.assertEqual(self.generate("-p", prompt, "-n", "6").decode(),
                             prompt + text + "\n")
            alone = self.path("alone", prompt.encode())
            self.assertEqual(self.rows("-f", alone, "-n", "6"), [row])

    def test_output(self):
        path = self.path("prompts", b"One\nTwo\n")
        shown = self.generate("-f", path, "-n", "3")
        self.assertEqual(self.generate("-f", path, "-n", "3", "-o", self.path("out")), b"")
        self.assertEqual(read(self.path("out")), shown)
        self.generate("-p", "One", "-n", "3", "-o", self.path("out"))
        self.assertEqual(read(self.path("out")), b"\n".join(shown.split(b"\n")[:2]) + b"\n")
        self.assertEqual(sorted(self.files()), ["out", "prompts"])

    def test_seeds(self):
        args = ["-p", "The", "-n", "24", "--temp", "1"]
        first = self.generate(*args, "--seed", "5")
        self.assertEqual(self.generate(*args, "--seed", "5"), first)
        others = {self.generate(*args, "--seed", seed) for seed in "6789"}
        self.assertGreater(len(others | {first}), 3)
        self.assertEqual(self.generate(*args), self.generate(*args, "--seed", "0"))

    def test_sampling(self):
        greedy = self.generate("-p", "The", "-n", "16")
        self.assertEqual(self.generate("-p", "The", "-n", "16", "--temp", "0", "--seed", "9"),
                         greedy)
        self.assertEqual(self.generate("-p", "The", "-n", "16", "--temp", "2", "--top-p", "0"),
                         greedy)
        self.assertEqual(self.generate("-p", "The", "-n", "16", "--repeat-penalty", "1"), greedy)
        once = self.rows("-f", self.path("prompts", b"The"), "-n", "40", "--repeat-penalty",
                         "1000000")[0][2]
        self.assertEqual(len(set(once)), len(once))

    def test_steering(self):
        args = ["-p", "The", "-n", "24"]
        steer = args + ["--neurons", neurons(), "--counts", counts()]
        plain = self.generate(*args)
        self.assertEqual(self.generate(*args, "--neurons", neurons()), plain)
        self.assertEqual(self.generate(*steer, "--on", "fr", "--how", "add", "--strength", "0"),
                         plain)
        self.assertEqual(self.generate(*steer, "--on", "fr", "--how", "diffmean", "--strength",
                                       "0"), plain)
        self.assertEqual(self.generate(*steer, "--on", "fr", "--how", "scale", "--strength", "1"),
                         plain)
        off = self.generate(*args, "--neurons", neurons(), "--off", "fr")
        self.assertEqual(self.generate(*steer, "--on", "fr", "--how", "scale", "--strength", "0"),
                         off)
        self.assertEqual(self.generate(*steer, "--on", "fr", "--how", "replace", "--strength",
                                       "0"), off)
        self.assertEqual(self.generate(*steer, "--on", "fr"),
                         self.generate(*steer, "--on", "fr", "--how", "replace", "--strength",
                                       "1"))
        strong = {how: self.generate(*steer, "--on", "fr", "--how", how, "--strength", "30")
                  for how in ("replace", "add", "scale", "diffmean")}
        self.assertNotIn(plain, strong.values())
        self.assertNotEqual(strong["add"], strong["scale"])
        backwards = self.generate(*steer, "--on", "fr", "--how", "add", "--strength", "-30")
        self.assertNotEqual(backwards, strong["add"])

    def test_empty_prompt(self):
        shown = self.generate("-p", "", "-n", "4")
        self.assertGreater(len(shown), 1)
        self.refused(1, "empty prompt", "generate", without_bos(), "-p", "", "-n", "4")
        switch = b"tokenizer.ggml.add_bos_token" + struct.pack("<I", 7)
        silent = altered("silent.gguf", (switch + b"\1", switch + b"\0"))
        self.refused(1, "empty prompt", "generate", silent, "-p", "", "-n", "4")
        self.works("generate", silent, "-p", "x", "-n", "4")
        nothing = self.path("nothing", b"\n\n\n")
        self.assertEqual(self.generate("-f", nothing), b"prompt\toutput\ttokens\n")

    def test_bad_prompts(self):
        self.refused(1, "byte 3 ", "generate", DEMO, "-p", b"abc\xff")
        bad = self.path("bad", b"abc\xff\n")
        self.refused(1, bad, "generate", DEMO, "-f", bad, "-o", self.path("out"))

    def test_bad_prompt_further_down(self):
        """The message tells the place in the file: its line, or its byte."""
        later = self.path("later", b"One\nTwo\nabc\xff\n")
        message = self.refused(1, later, "generate", DEMO, "-n", "1", "-f", later, "-o",
                               self.path("out"))
        self.assertRegex(message, r"line 3|byte 11 ")


class NoTokenizer(Case):
    """A checkpoint without a tokenizer takes ids and refuses text."""

    def test_ids(self):
        model, ids = without_tokenizer(), [1, 2, 3, 4, 15, 0] * 8
        path = self.path("ids.npy", npy(integers(ids, "<i4")))
        self.assertIn(b"no tokenizer", self.works("info", model, "-q"))
        other = self.path("yy.bin", integers(ids[::-1], "<u2"))
        both = ["yy=" + other, "--seq", "8", "-q", "-o"]
        self.works("count", model, "xx=" + path, *both, self.path("out"))
        raw = self.path("ids.bin", integers(ids, "<u2"))
        self.works("count", model, "xx=" + raw, *both, self.path("raw"))
        self.assertEqual(read(self.path("raw")), read(self.path("out")))
        self.works("find", self.path("out"), "--top", "1", "--filter", "0", "-q", "-o",
                   self.path("list.tsv"))
        table = self.works("ppl", model, "xx=" + path, "--seq", "8", "--neurons",
                           self.path("list.tsv"), "-q")
        self.assertRegex(table, rb"\Aoff\txx\nnone\t[0-9.]+\nxx\t[0-9.]+\nyy\t[0-9.]+\n\Z")

    def test_text(self):
        model, text = without_tokenizer(), self.path("text.txt", b"Words." * 100)
        for arguments in ["count", model, "en=" + text, "-q", "-o", self.path("out")], [
                "ppl", model, "en=" + text, "-q"]:
            self.assertIn("no tokenizer", self.refused(1, text, *arguments) or "no tokenizer")
        for arguments in ["tokenize", model], ["tokenize", model, "--decode"], [
                "generate", model, "-p", "x"]:
            self.assertIn("no tokenizer", self.refused(1, model, *arguments) or "no tokenizer")


if __name__ == "__main__":
    with SHARED:
        sys.exit(report.main())
