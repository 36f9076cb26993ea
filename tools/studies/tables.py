"""The files around `lape`, for the tools: tables with a commented header, neuron lists, counts.

Standard library only. What cannot be read is refused in one line that names the file.
"""

import array
import collections
import math
import re
import sys

from formats.gguf import TYPES, Gguf
from guard import Refused, is_label, new_file

# ---- Tables: `#` lines that say how they were made, the columns' names, rows -------------------

ESCAPED = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}        # in texts, by what is behind a \
ESCAPES = {letter: "\\" + name for name, letter in ESCAPED.items()}


def show(value):
    """A cell; six digits tell all that these experiments can."""
    return "%.6g" % value if isinstance(value, float) else str(value)


def write_bytes(path, data):
    """The file appears whole or not at all; a pipe takes it, too."""
    try:
        with new_file(path, streams=True) as file:
            file.write(data)
    except OSError as problem:
        raise Refused(path, "cannot be written: %s" % problem.strerror)


def write_text(path, text):
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def once(path, columns):
    """That no two columns have one name, of which a reader would see one alone."""
    for number, name in enumerate(columns):
        if name in columns[:number]:
            raise Refused(path, "two columns are named '%s'" % name)


def write_table(path, made, columns, rows):
    """made: the header's lines."""
    once(path, columns)
    lines = ["# " + line for line in made] + ["\t".join(columns)]
    lines += ["\t".join(show(value) for value in row) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def read_lines(path):
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            return file.read().split("\n")
    except OSError as problem:
        raise Refused("%s: cannot be read: %s" % (path, problem.strerror))


def unescaped(cell):
    """Text that `lape generate` has put into a table's cell, as it was."""
    return re.sub(r"\\([tnr\\])", lambda found: ESCAPED[found[1]], cell)


def escaped(text):
    """The same the other way, for a cell."""
    return re.sub(r"[\t\n\r\\]", lambda found: ESCAPES[found[0]], text)


def is_draw(selection):
    """Whether it is one draw of random neurons, at 0 or at their mean, as a matrix names them."""
    return re.fullmatch(r"random-\d+(-mean)?", selection) is not None


def in_order(rows, column):
    """The different cells of a column, as they come."""
    return list(dict.fromkeys(row[column] for row in rows))


def read_table(path):
    """The header's lines, and the rows by the columns' names, all of them text."""
    lines = [line for line in read_lines(path) if line]
    made = [line[2:] for line in lines if line.startswith("#")]
    cells = [line.split("\t") for line in lines if not line.startswith("#")]
    for row in cells[1:]:
        if len(row) != len(cells[0]):
            raise Refused("%s: a row has %d cells, the columns are %d: %s"
                          % (path, len(row), len(cells[0]), "\t".join(row)[:60]))
    if not cells:
        raise Refused("%s: no table: it ends before its columns are named" % path)
    once(path, cells[0])
    return made, [dict(zip(cells[0], row)) for row in cells[1:]]


# ---- Neuron lists ------------------------------------------------------------------------------

# What the header says to the experiments.
KEYS = ("model", "layers", "neurons", "languages", "method", "top", "filter", "bar", "tokens")
Neuron = collections.namedtuple("Neuron", "place lape languages p")    # place: (layer, index)


def check_labels(path, languages):
    """That every language has a label, and a different one."""
    for number, name in enumerate(languages):
        if not is_label(name) or name in languages[:number]:
            raise Refused("%s: '%s' is no language's label, or stands twice" % (path, name))


class NeuronList:
    """What `lape find` makes; model, layers, neurons (of a layer), languages, rows."""

    def __init__(self, path):
        made, table = read_table(path)
        self.path = path
        said = [line.split(": ", 1) for line in made if ": " in line]
        self.header = dict(said)
        self.model = self.header.get("model", "unknown")
        self.languages = self.header.get("languages", "").split()
        try:
            self.layers = int(self.header["layers"])
            self.neurons = int(self.header["neurons"])
            self.rows = [self.read_row(row) for row in table]
        except (KeyError, ValueError):
            raise Refused("%s: not a list of neurons, which has `# layers`, `# neurons`, "
                          "`# languages` and columns layer, neuron, lape, languages" % path)
        if not self.languages:
            raise Refused("%s: the header names no languages" % path)
        for name in KEYS:
            if sum(key == name for key, _ in said) > 1:
                raise Refused("%s: the header says '%s' twice" % (path, name))
        check_labels(path, self.languages)
        self.check()

    def read_row(self, row):
        languages = () if row["languages"] == "-" else tuple(row["languages"].split(","))
        p = [float(row["p_" + language]) for language in self.languages
             if "p_" + language in row]
        return Neuron((int(row["layer"]), int(row["neuron"])), row["lape"], languages, p)

    def check(self):
        for row, before in zip(self.rows, [None] + self.rows):
            layer, index = row.place
            if before and row.place <= before.place:
                raise Refused("%s: layer %d, neuron %d: neurons must ascend, each once"
                              % (self.path, layer, index))
            if not (0 <= layer < self.layers and 0 <= index < self.neurons):
                raise Refused("%s: layer %d, neuron %d: the header says %d layers of %d"
                              % (self.path, layer, index, self.layers, self.neurons))
            for language in row.languages:
                if language not in self.languages:
                    raise Refused("%s: language '%s' is not in the header" % (self.path, language))

    def of(self, language):
        """The places of a language's neurons."""
        return {row.place for row in self.rows if language in row.languages}

    def rate(self, name, default):
        """`top`, `filter` or `bar` as the header has it."""
        return float(self.header[name].split(",")[0]) if name in self.header else default

    def bar_value(self):
        """The activation probability above which a neuron belongs to a language."""
        match = re.search(r"threshold (\S+)$", self.header.get("bar", ""))
        if not match:
            raise Refused("%s: its header does not give the bar's threshold" % self.path)
        return float(match.group(1))


def save_neurons(path, like, sets):
    """A list of the shape of `like`, in which sets[label] are the places of each label."""
    labels = collections.defaultdict(list)
    for label, places in sets.items():
        for place in places:
            labels[place].append(label)
    lines = ["# language-specific neurons", "# model: " + like.model,
             *("# digest: " + digest for digest in [like.header.get("digest")] if digest),
             "# layers: %d" % like.layers, "# neurons: %d" % like.neurons,
             "# languages: " + " ".join(sets), "layer\tneuron\tlape\tlanguages"]
    lines += ["%d\t%d\t-\t%s" % (*place, ",".join(labels[place])) for place in sorted(labels)]
    write_text(path, "\n".join(lines) + "\n")


# ---- GGUF files: a model's values; counts, of which the experiments want a few tensors ----------

# What begins with a BOS where the file does not say so: as llama.cpp has it, and `lape generate`.
BEGINNING = "llama-bpe", "tekken"


def begins_with_bos(path):
    """Whether the model of a GGUF file was trained to have a begin-of-sequence token first."""
    values = Gguf(path).values
    by_default = (values.get("tokenizer.ggml.model") == "llama"
                  or values.get("tokenizer.ggml.pre") in BEGINNING)
    return (bool(values.get("tokenizer.ggml.add_bos_token", by_default))
            and "tokenizer.ggml.bos_token_id" in values)


def vocabulary_of(path):
    """How many tokens the model of a GGUF file knows, which must have a tokenizer."""
    tokens = Gguf(path).values.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list):
        raise Refused(path, "has no tokenizer, by which texts become tokens")
    return len(tokens)


class Counts(Gguf):
    """Counts of activations: tokens of every language; arrays are read when wanted."""

    LACK = "no counts: `lape count` makes those"

    def read(self):
        super().read()
        value = self.values
        if value["general.architecture"] != "lape-counts":
            raise ValueError
        self.model = value["general.name"]
        self.layers, self.neurons = value["lape-counts.layers"], value["lape-counts.neurons"]
        self.piece = value.get("lape-counts.piece_length", 0)      # 0: imported, not known
        self.languages = value["lape-counts.languages"]
        check_labels(self.path, self.languages)
        if len(value["lape-counts.tokens"]) != len(self.languages):
            raise ValueError
        self.tokens = dict(zip(self.languages, value["lape-counts.tokens"]))

    def numbers(self, name):
        """A tensor's integers."""
        dims, kind, offset = self.tensors.get(name, ((), None, 0))
        start, size = self.start + offset, 8 * math.prod(dims)
        if kind != TYPES["i64"].ggml or start + size > len(self.raw):
            raise Refused("%s: has no tensor '%s' of 64-bit integers" % (self.path, name))
        numbers = array.array("q", self.raw[start:start + size])
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers

    def positive(self, language):
        """Tokens above zero of every neuron, layer by layer."""
        return self.numbers(language + ".positive")

    def mean(self, language, place):
        """Of a neuron's activation, over all tokens of a language."""
        at = place[0] * self.neurons + place[1]
        return self.numbers(language + ".sum")[at] / (1 << 20) / self.tokens[language]

    def histogram(self, language):
        """Tokens by id."""
        return self.numbers(language + ".histogram")
