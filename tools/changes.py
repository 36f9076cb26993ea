#!/usr/bin/env python3
"""How far training in each language has moved every neuron, as counts that `lape find` reads.

    changes.py BASE LANG=MODEL... -o FILE

BASE is a model in GGUF, each MODEL the same trained further in a language. A neuron's change is
|tuned - base| / |base| over all its weights: its row of the gate, its row of the up projection, its
column of the down projection. `lape find FILE` then takes changes for activation probabilities: it
selects by their entropy over languages, and all of its options but --method lave serve.

FILE has integers, as counts do: `LANG.positive` over `lape-counts.tokens` is the change. The tokens
are a power of two, such that the largest integer is just below 2^53, from 2^52 on (or the tokens
2^62): what find divides are doubles. Since no count is above its tokens, changes that reach 1 are
all divided by the least power of two above the largest; `general.description` in FILE says by what.
That touches --penalty alone, which times this number does the same.

Python's standard library suffices; with numpy the same bytes come several times as fast, those of
quantised types twenty times: 7 billion weights in minutes. Sums are of 64 bits, in order: of n
weights of a neuron a change is off by at most (n + 4) 2^-53 of itself, and half an integer.
"""

import argparse
import math
import signal
import struct
import sys

from formats.gguf import NAMES, STRING, U32, U64, Gguf, Output, write_gguf
from formats.weights import numbers_of, numpy
from guard import LABELS_ARE, Refused, is_label, new_file, status_of

PARTS = "ffn_gate", "ffn_up", "ffn_down"
CHUNK = 1 << 20              # weights of a matrix in memory at once, of each model


# ---- Models ------------------------------------------------------------------------------------

def files_of(path):
    """The file, and the others that a split model has, as llama.cpp's gguf-split names them."""
    first = Gguf(path)
    number, count = (first.values.get("split." + key, 0) for key in ("no", "count"))
    if not isinstance(count, int) or count < 2:
        return [first]
    ending = "-%05d-of-%05d.gguf"
    if number != 0 or not path.endswith(ending % (1, count)):
        raise Refused(path, "is of a model in %d files, and not the first of them by its name"
                      % count)
    stem = path[:-len(ending % (1, count))]
    files = [first] + [Gguf(stem + ending % (i + 1, count)) for i in range(1, count)]
    for i, file in enumerate(files):
        if (file.values.get("split.no"), file.values.get("split.count")) != (i, count):
            raise Refused(file.path, "is not part %d of %d, as its name says" % (i + 1, count))
    return files


class Model:
    """What of a GGUF model its neurons are made of."""

    def __init__(self, path):
        self.path, self.files = path, files_of(path)
        self.values, self.holder = self.files[0].values, {}
        for file in self.files:
            for name in file.tensors:
                if name in self.holder:
                    raise Refused(file.path, "tensor %s is in another file, too" % name)
                if file.tensors[name].type in NAMES:
                    file.bytes_of(name)                      # they are there: no file is cut off
                self.holder[name] = file
        self.family = self.values.get("general.architecture")
        self.layers, self.width, self.neurons = (self.size(key) for key in (
            "block_count", "embedding_length", "feed_forward_length"))
        self.has_gate = "blk.0.ffn_gate.weight" in self.holder
        for layer in range(self.layers):
            for part in self.parts():
                self.check(layer, part)

    def size(self, key):
        found = self.values.get("%s.%s" % (self.family, key))
        if type(found) is not int or not 0 < found <= 1 << 24:
            raise Refused(self.path, "is no model that says its %s" % key)
        return found

    def shape(self):
        return self.family, self.layers, self.width, self.neurons, self.has_gate

    def parts(self):
        """The matrices of a feed-forward; one without a gate has two."""
        return PARTS if self.has_gate else PARTS[1:]

    def columns(self, part):
        return self.neurons if part == "ffn_down" else self.width

    def check(self, layer, part):
        name = "blk.%d.%s.weight" % (layer, part)
        columns = self.columns(part)
        rows = self.width if part == "ffn_down" else self.neurons
        tensor = self.holder[name].tensors[name] if name in self.holder else None
        if not tensor or tensor.dims != (columns, rows) or tensor.type not in NAMES:
            raise Refused(self.path, "has no tensor %s of %d x %d numbers of a type that is read"
                          % (name, rows, columns))

    def rows(self, layer, part):
        """Pieces of a matrix: the first row of each, and the numbers of its rows."""
        name = "blk.%d.%s.weight" % (layer, part)
        file, columns = self.holder[name], self.columns(part)
        raw, kind = file.bytes_of(name), NAMES[file.tensors[name].type]
        rows = self.width if part == "ffn_down" else self.neurons
        step, size = max(CHUNK // columns, 1), len(raw) // rows
        for row in range(0, rows, step):
            yield row, numbers_of(raw[row * size:(row + step) * size], kind)


# ---- Changes -----------------------------------------------------------------------------------

def add_squares(total, first, a, b, columns, by_row):
    """Adds the squares of b - a, in order, to a neuron's total: that of each row or each column."""
    at = first
    for start in range(0, len(a), columns):
        if by_row:
            total[at] = sum_on(total[at], a[start:start + columns], b[start:start + columns])
            at += 1
        else:
            for j in range(columns):
                d = b[start + j] - a[start + j]
                total[j] += d * d


def sum_on(total, a, b):
    for x, y in zip(a, b):
        d = y - x
        total += d * d
    return total


def add_squares_fast(total, first, a, b, columns, by_row):
    """The same with numpy, in the same order, so to the same bits."""
    squares = numpy.subtract(b, a, dtype="f8").reshape(-1, columns)
    squares *= squares
    if by_row:
        rows = slice(first, first + len(squares))
        squares[:, 0] += total[rows]
        total[rows] = numpy.add.accumulate(squares, axis=1, out=squares)[:, -1]
    else:
        for row in squares:
            total += row


def layer_sums(models, layer):
    """Sums of squares by neuron: of the first model's weights, then of what the others are off."""
    base = models[0]
    new = numpy.zeros if numpy else lambda n: [0.0] * n
    sums = [new(base.neurons) for _ in models]
    add = add_squares_fast if numpy else add_squares
    for part in base.parts():
        columns, by_row = base.columns(part), part != "ffn_down"
        for pieces in zip(*(model.rows(layer, part) for model in models)):
            first, a = pieces[0]
            nothing = numpy.zeros_like(a) if numpy else [0.0] * len(a)
            add(sums[0], first, nothing, a, columns, by_row)
            for total, (_, b) in zip(sums[1:], pieces[1:]):
                add(total, first, a, b, columns, by_row)
    return [list(map(float, total)) for total in sums]


def relative(change, size):
    """Of two sums of squares; 0 of a neuron that was 0 and stayed so."""
    if change == 0:
        return 0.0
    return math.sqrt(change / size) if size else math.inf


def changes_of(base, tuned, say):
    """Every neuron's change in every model of `tuned`, layer by layer."""
    found = [[] for _ in tuned]
    for layer in range(base.layers):
        say("layer %d of %d" % (layer + 1, base.layers))
        size, *changes = layer_sums([base] + tuned, layer)
        for model, own, change in zip(tuned, found, changes):
            for neuron, sums in enumerate(zip(change, size)):
                own.append(relative(*sums))
                if not math.isfinite(own[-1]):
                    raise Refused(model.path, "layer %d, neuron %d: weights that are not finite, "
                                  "or changed from 0" % (layer, neuron))
    return found


# ---- Counts ------------------------------------------------------------------------------------

def as_counts(changes):
    """The changes as integers, how many of these make a whole, and what the changes are divided
    by before."""
    exponent = math.frexp(max(map(max, changes)))[1]     # the largest is below 2^exponent
    most = 53 - min(max(exponent, -9), 0)                # 2^62 at most: the tokens of a language
    shift = most - max(exponent, 0)
    return ([[round(math.ldexp(change, shift)) for change in own] for own in changes], 1 << most,
            1 << max(exponent, 0))


def write_changes(out, base, languages, changes, watched):
    counts, whole, divisor = as_counts(changes)
    values = [
        ("general.architecture", STRING, "lape-counts"),
        ("general.name", STRING, base.values.get("general.name") or "unknown"),
        ("general.description", STRING, "|tuned - base| / |base| of every neuron's weights, "
         "divided by %d, is positive / tokens: no counts of activations" % divisor),
        ("lape-counts.layers", U32, base.layers),
        ("lape-counts.neurons", U32, base.neurons),
        ("lape-counts.languages", STRING, languages),
        ("lape-counts.tokens", U64, [whole] * len(languages)),
    ]
    tensors = [Output(language + ".positive", (base.neurons, base.layers), "i64",
                      [struct.pack("<%dq" % len(own), *own)])
               for language, own in zip(languages, counts)]
    write_gguf(out, values, tensors, watched)


# ---- The command line --------------------------------------------------------------------------

def language_file(text):
    language, _, path = text.partition("=")
    if not path or not is_label(language):
        raise argparse.ArgumentTypeError("%r: LANG=FILE is wanted, LANG being %s"
                                         % (text, LABELS_ARE))
    return language, path


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        prog="changes.py", description=__doc__.split("\n\n", 1)[0],
        epilog=__doc__.split("\n\n", 2)[2], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", metavar="BASE", help="before training in the languages")
    parser.add_argument("tuned", metavar="LANG=MODEL", nargs="+", type=language_file, help="after")
    parser.add_argument("-o", dest="output", metavar="FILE", required=True)
    parser.add_argument("-q", dest="quiet", action="store_true", help="no progress")
    args = parser.parse_intermixed_args(argv)
    if len(dict(args.tuned)) < len(args.tuned):
        parser.error("a language is named twice")
    return args


def run(args):
    watched = sys.stderr.isatty() and not args.quiet

    def say(text):
        if watched:
            print("\r%s\033[K" % text, end="", file=sys.stderr, flush=True)
    files = sorted(args.tuned)                           # by code point: for labels, by bytes
    base = Model(args.base)
    tuned = []
    for _, path in files:
        tuned.append(Model(path))
        if tuned[-1].shape() != base.shape():
            raise Refused(path, "is no model like %s: family, layers, width and neurons differ"
                          % args.base)
    inputs = [file.path for model in [base] + tuned for file in model.files]
    with new_file(args.output, inputs) as out:           # that it can be, is known before the work
        try:
            changes = changes_of(base, tuned, say)
        finally:
            say("\r")
        write_changes(out, base, [language for language, _ in files], changes, watched)


def main(argv):
    args = parse_arguments(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)        # to clean up then too
    if numpy:
        numpy.seterr(all="ignore")                       # what is no number is looked for, after
    return status_of("changes.py", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
