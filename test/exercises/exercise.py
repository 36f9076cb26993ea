"""What the tests of the exercises share: running the program, reading what it writes, p and entropy
from their definitions, and that everything else stays as it was.
"""

import math
import os
import struct
import subprocess
import tempfile
import unittest
from fractions import Fraction

from paths import DEMO, LAPE, ROOT
import identical
from formats.gguf import Gguf

LANGUAGES = ["en", "es", "fr", "id", "ja", "vi", "zh"]


def run(*words, **more):
    return subprocess.run([LAPE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          encoding="utf-8", check=False, **more)


def text(language, part="count"):
    return os.path.join(ROOT, "demo", "text", "%s.%s.txt" % (language, part))


def corpora(*languages):
    return ["%s=%s" % (language, text(language)) for language in languages]


def ids_of(words, *options):
    """A text's token ids."""
    return list(map(int, run("tokenize", DEMO, *options, input=words).stdout.split()))


def first_ids(language, n):
    """Of a text that is counted."""
    with open(text(language), encoding="utf-8") as file:
        return ids_of(file.read(64 * n))[:n]


def by_neuron(pieces):
    """The values that every neuron has, layer after layer, of what pieces have by layer and
    token."""
    return [values for layer in zip(*pieces) for values in zip(*sum(layer, []))]


def counts(path):
    """(tokens of each language, {tensor's name: its numbers}) of a file."""
    file = Gguf(path)
    return (dict(zip(file.values["lape-counts.languages"], file.values["lape-counts.tokens"])),
            {name: struct.unpack("<%dq" % (len(file.bytes_of(name)) // 8), file.bytes_of(name))
             for name in file.tensors})


def array(path):
    """The numbers of a .npy file of 32-bit floats."""
    with open(path, "rb") as file:
        raw = file.read()[128:]
    return struct.unpack("<%df" % (len(raw) // 4), raw)


def table(listing):
    """A list of neurons: {(layer, neuron): (lape, languages, [p])}."""
    rows = [line.split("\t") for line in listing.splitlines() if not line.startswith("#")]
    return {(int(layer), int(neuron)): (lape, members, p)
            for layer, neuron, lape, members, *p in rows[1:]}


def probabilities(path):
    """(labels, [p of each neuron, as fractions]) of a counts file."""
    tokens, found = counts(path)
    return list(tokens), list(zip(*([Fraction(count, n) for count in found[k + ".positive"]]
                                    for k, n in tokens.items())))


def shares(p):
    """p of one neuron normalised to sum 1; nothing where no language has any."""
    return [value / sum(p) for value in p if value]


def entropy(q):
    """In nats."""
    return -math.fsum(value * math.log(value) for value in q) + 0.0


def in_order(scores):
    """The neurons, the lowest scores first, then by place."""
    return sorted(range(len(scores)), key=lambda i: (scores[i], i))


class Case(unittest.TestCase):
    """A test has a folder of its own. few: how much of a text is counted, as options."""
    few = ["--tokens", "256"]

    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix="exercise.")
        self.addCleanup(holder.cleanup)
        self.path = lambda name: os.path.join(holder.name, name)

    def lape(self, *words):
        """What it prints; nothing may go wrong."""
        done = run(*words, "-q")
        if done.returncode or done.stderr:
            self.fail("lape %s\n%s" % (" ".join(words), done.stderr or done.returncode))
        return done.stdout

    def counted(self, name, *options, languages=("en",)):
        """The path of a counts file of the demo's texts."""
        self.lape("count", DEMO, *corpora(*languages), *self.few, *options, "-o", self.path(name))
        return self.path(name)

    def refused(self, *words):
        """It must fail with one line, which is not that there is no such option."""
        done = run(*words, "-q")
        self.assertIn(done.returncode, (1, 2), words)
        self.assertEqual(done.stdout, "")
        self.assertRegex(done.stderr, r"\Alape: [^\n]+\n\Z")
        self.assertNotIn(" has no option ", done.stderr)
        return done.stderr

    def test_rest(self):
        """Nothing else has changed: five results of the demo model have the bits that are
        recorded."""
        recorded = {name: digest for (real, name), digest in identical.read_golden().items()
                    if real == "float"}
        way = identical.Way("exercise")
        self.assertEqual(identical.make_results(way, LAPE, self.path("")), recorded)
