"""What all experiments need: their output, their texts, their neurons; means. Standard library
only.
"""

import math
import os
import statistics
import sys

from guard import LABELS_ARE, Refused, is_label
from studies import tables
from studies.program import Program
from studies.tables import write_table

# Columns that stand beside the languages' in tables of these experiments, or of `lape ppl`.
COLUMNS = ("distinct", "foreign", "judged", "language", "layer", "lines", "lpr", "most", "off",
           "perplexity", "prompt", "quarter", "second_lpr", "share", "step")


def say(args, text):
    if not args.quiet:
        print("%s: %s" % (args.command, text), file=sys.stderr, flush=True)


def output_path(args, name):
    return os.path.join(args.output, name + ".tsv")


def write(args, name, about, columns, rows):
    """A table of this experiment; about: what stands in it, line by line."""
    path = output_path(args, name)
    line = " ".join(args.line).replace("\n", " ")             # a judge's command may have several
    made = ["made by: tools/experiments.py " + line] + about
    write_table(path, made, columns, rows)
    say(args, "wrote " + path)


def language_files(words):
    """{LANG: FILE}, in order."""
    files = {}
    for word in words:
        label, _, path = word.partition("=")
        if not path or not is_label(label):
            raise Refused("LANG=FILE is wanted, LANG of %s: %s" % (LABELS_ARE, word))
        if label in COLUMNS:
            raise Refused("LANG=FILE is wanted, LANG being no column of a table: " + word)
        if label in files:
            raise Refused("a language is named twice: " + word)
        if not os.path.isfile(path):
            raise Refused("%s: no such file" % path)
        files[label] = path
    return files


def model_and_files(args):
    if not args.words or "=" in args.words[0]:
        raise Refused("MODEL is wanted, then LANG=FILE...; -h tells more")
    if len(args.words) == 1:
        raise Refused("LANG=FILE is wanted after MODEL")
    return args.words[0], language_files(args.words[1:])


def piece_options(seq=None, tokens=None, bos=False):
    """The program's options of how texts are cut into pieces; None: as it does by itself."""
    return [word for name, value in (("--seq", seq), ("--tokens", tokens)) if value is not None
            for word in (name, str(value))] + ["--bos"] * bos


def program_of(args):
    pieces = piece_options(*(getattr(args, name, None) for name in ("seq", "tokens")),
                           bos=getattr(args, "bos", False))
    return Program(args.lape, args.threads, args.quiet, pieces)


def neurons_of(args, lape, languages):
    """The list that is given, or the one that `find` makes of the counts for these languages."""
    if args.neurons:
        found = tables.NeuronList(args.neurons)
    else:
        found = lape.find(args.counts, languages, output_path(args, "neurons"), top=args.top,
                          filter=args.filter, bar=args.bar)
    missing = [language for language in languages if language not in found.languages]
    if missing:
        raise Refused("%s: has no neurons of '%s'; its languages: %s"
                      % (found.path, missing[0], " ".join(found.languages)))
    return found


def about_neurons(found):
    said = ["model: " + found.model, "neurons: " + found.path]
    return said + ["%s: %s" % (name, found.header[name])
                   for name in ("method", "top", "filter", "bar", "tokens") if name in found.header]


def percent(value, plain):
    return (value / plain - 1) * 100


def nats(value, plain):
    """The same as a difference of losses; such add up where percents do not."""
    return math.log(value / plain)


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values) if values else math.nan


def geometric(values):
    return math.exp(mean(math.log(value) for value in values))


def spread(values):
    """Standard deviation of a sample."""
    values = list(values)
    return statistics.stdev(values) if len(values) > 1 else math.nan
