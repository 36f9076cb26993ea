#!/usr/bin/env python3
"""Experiments around `lape`: the paper's tables, and some that it lacks, on any model and texts.

    experiments.py matrix MODEL LANG=TEXT... --counts C [--neurons F] -o DIR
    experiments.py dose MODEL LANG=TEXT... --counts C [--neurons F] -o DIR
    experiments.py steer MODEL LANG=PROMPTS... --check LANG=TEXT... --counts C [--neurons F] -o DIR
    experiments.py fallback MODEL LANG=PROMPTS... --check LANG=TEXT... --counts C -o DIR
    experiments.py reliability MODEL LANG=TEXT... -o DIR
    experiments.py layers NEURONS [--counts C] -o DIR
    experiments.py contexts MODEL LANG=TEXT... --neurons F [--counts C] -o DIR
    experiments.py sweep MODEL LANG=TEXT... --counts C -o DIR
    experiments.py purity MODEL LANG=TEXT... [--counts C] -o DIR

Each writes tables into DIR, tab-separated, with a header that says how they were made; `-h` after a
command lists its options. tools/plot.py draws them. Python's standard library alone.
"""

import argparse
import os
import sys

from guard import Refused, doubt, status_of, warnings_are_errors
from studies.ablation import dose, matrix, sweep
from studies.contexts import contexts
from studies.program import Failed
from studies.purity import purity
from studies.selection import layers, reliability
from studies.steering import fallback, steer

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def numbers(kind, low, high):
    """A list of numbers between commas, each in a range."""
    def parse(text):
        values = [kind(word) for word in text.split(",")]
        if not all(low <= value <= high for value in values):
            raise ValueError
        return values
    parse.__name__ = "numbers between commas"
    return parse


def number(kind, low, high):
    def parse(text):
        value = kind(text)
        if not low <= value <= high:
            raise ValueError
        return value
    parse.__name__ = "number (%g to %g)" % (low, high)
    return parse


def chosen(names):
    """Some of these names, between commas."""
    def parse(text):
        if not set(text.split(",")) <= set(names):
            raise ValueError
        return text.split(",")
    parse.__name__ = "list of some of " + ",".join(names)
    return parse


RATE = number(float, 0, 1)
MODES = "none", "off", "on", "off+on"        # of steering: which neurons are touched


def add_common(parser):
    parser.add_argument("-o", dest="output", metavar="DIR", required=True,
                        help="folder for the tables; made when it is not there")
    parser.add_argument("--lape", default=os.path.join(ROOT, "lape"), metavar="PATH",
                        help="the program (the one beside this folder)")
    parser.add_argument("-t", dest="threads", type=number(int, 1, 1024), metavar="N",
                        help="threads (all processors)")
    parser.add_argument("-q", dest="quiet", action="store_true", help="no progress")


def add_pieces(parser):
    parser.add_argument("--seq", type=number(int, 2, 1 << 24), metavar="N",
                        help="tokens in a piece of text (the model's context, at most 4096)")
    parser.add_argument("--tokens", type=number(int, 1, 10 ** 15), metavar="N",
                        help="of every text (all)")
    parser.add_argument("--bos", action="store_true",
                        help="begin with the begin-of-sequence token, every piece")


def add_rates(parser, what):
    for name, default in (("top", 0.01), ("filter", 0.95), ("bar", 0.95)):
        parser.add_argument("--" + name, type=RATE, default=default, metavar="R",
                            help="%s, as `lape find` has it (%g)" % (what, default))


def add_neurons(parser):
    parser.add_argument("--counts", required=True, metavar="C", help="what `lape count` made")
    parser.add_argument("--neurons", metavar="F",
                        help="what `lape find` made (found in the counts, by the rates below)")
    add_rates(parser, "without --neurons")


def add_outputs(parser):
    parser.add_argument("--check", nargs="+", required=True, metavar="LANG=TEXT",
                        help="text that was not counted, to see whether naive Bayes tells the "
                             "languages")
    parser.add_argument("-n", dest="tokens_out", type=number(int, 2, 1 << 20), default=24,
                        metavar="N", help="tokens to generate (24)")
    parser.add_argument("--bos", action="store_true",
                        help="perplexities of outputs and of held-out text are behind the "
                             "begin-of-sequence token")
    parser.add_argument("--no-perplexity", action="store_true",
                        help="of outputs and of held-out text: their columns are nan")
    parser.add_argument("--judge", metavar="COMMAND",
                        help="a second judge beside naive Bayes: a command of the shell that reads "
                             "texts, one a line, and prints the label of each, one a line "
                             "(py3langid, where it is installed)")
    parser.add_argument("--repeat-penalty", type=number(float, 1e-6, 1e6), default=1.2, metavar="R",
                        help="on tokens seen before (1.2; 1: none)")


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function, words, about):
        sub = commands.add_parser(function.__name__, help=about, description=about + ".",
                                  allow_abbrev=False)
        sub.add_argument("words", nargs="*", metavar=words)
        sub.set_defaults(function=function)
        add_common(sub)
        return sub

    model_and_texts = "MODEL LANG=TEXT"
    sub = command(matrix, model_and_texts, "perplexity under deactivation, beside random neurons "
                                           "and the baselines")
    add_neurons(sub)
    add_pieces(sub)
    sub.add_argument("--means", action="store_true",
                     help="set the neurons to their mean in the other languages, too")
    sub.add_argument("--draws", type=number(int, 0, 1000), default=5, metavar="N",
                     help="of random neurons (5)")
    sub.add_argument("--methods", default="lap,lave", metavar="A,B",
                     help="baselines, each of as many neurons for every language (lap,lave)")
    sub.add_argument("--also", nargs="+", default=[], metavar="NAME=F",
                     help="other lists to compare, as they are: of changes.py's counts, say")
    sub = command(dose, model_and_texts, "parts of every language's neurons ablated, lowest LAPE "
                                         "first")
    add_neurons(sub)
    add_pieces(sub)
    sub.add_argument("--percent", type=numbers(float, 0, 100), default=[0, 10, 25, 50, 100],
                     metavar="A,B", help="of a language's neurons (0,10,25,50,100)")
    sub = command(steer, "MODEL LANG=PROMPTS", "from every prompt language to every other of "
                                               "--check, prompts one a line")
    add_neurons(sub)
    add_outputs(sub)
    sub.add_argument("--modes", type=chosen(MODES), default=MODES, metavar="A,B",
                     help="of these: " + ",".join(MODES))
    sub.add_argument("--how", default="replace,add,scale,diffmean", metavar="A,B",
                     help="ways to push, as `lape generate` has them (replace,add,scale,diffmean)")
    sub.add_argument("--strength", type=numbers(float, -1e6, 1e6), default=[1.0, 10.0],
                     metavar="X,Y", help="each with every way (1,10)")
    sub = command(fallback, "MODEL LANG=PROMPTS", "languages switched off one after the other, and "
                                                  "where the output goes")
    add_neurons(sub)
    add_outputs(sub)
    sub = command(reliability, model_and_texts, "the selection from parts of the text, and how "
                                                "near the bar it is")
    add_rates(sub, "of the selection")
    add_pieces(sub)
    sub.add_argument("--of", type=number(int, 4, 64), default=16, metavar="N",
                     help="parts to count by themselves, into DIR/parts: 4, 8, 16, 32 or 64 (16)")
    sub.add_argument("--parts", dest="parts_given", nargs="+", metavar="C",
                     help="counts of --shard 1/N, 2/N, ... that are there, in place of model and "
                          "texts")
    sub = command(layers, "NEURONS", "neurons by layer and language, and what languages share")
    sub.add_argument("--counts", metavar="C",
                     help="for the languages' correlation over all neurons")
    sub = command(contexts, model_and_texts, "the places in texts at which a language's neurons of "
                                             "lowest LAPE are most active")
    sub.add_argument("--neurons", metavar="F", required=True, help="what `lape find` made")
    sub.add_argument("--counts", metavar="C",
                     help="for the neurons' mean activations in the texts' languages")
    sub.add_argument("--top", type=number(int, 1, 10 ** 6), default=5, metavar="N",
                     help="neurons of every language (5)")
    sub.add_argument("--places", type=number(int, 1, 10 ** 6), default=10, metavar="N",
                     help="of every neuron, in all texts together (10)")
    add_pieces(sub)
    sub = command(sweep, model_and_texts, "a grid of find's rates, judged by deactivation; take "
                                          "text that nothing is reported on")
    sub.add_argument("--counts", required=True, metavar="C", help="what `lape count` made")
    add_pieces(sub)
    sub.add_argument("--enough", type=number(float, 0, 1e9), default=25.0, metavar="X",
                     help="the fewest neurons are best that raise their language's perplexity by X "
                          "percent on average (25)")
    for name, default in (("top", "0.01,0.02,0.04,0.08"), ("filter", "0.95"),
                          ("bar", "0.95,0.97,0.99")):
        sub.add_argument("--" + name, dest=name + "s", type=numbers(float, 0, 1),
                         default=default, metavar="R,S", help="to be tried (%s)" % default)
    sub = command(purity, model_and_texts, "lines of texts that look like another language, before "
                                           "they are counted")
    sub.add_argument("--counts", metavar="C", help="what `lape count` made of other text, to know "
                                                   "the languages by (the texts themselves)")
    sub.add_argument("--shortest", type=number(int, 1, 1 << 24), default=12, metavar="N",
                     help="tokens of a line that is judged; shorter ones are not (12)")
    args, more = parser.parse_known_args(argv)
    if any(word.startswith("-") for word in more):
        parser.error("unknown option: " + next(word for word in more if word.startswith("-")))
    args.words += more             # what stands behind options
    args.line = argv
    return args


def main(argv):
    args = parse_arguments(argv)
    warnings_are_errors()

    def work():
        try:
            os.makedirs(args.output, exist_ok=True)
            args.function(args)
        except Warning as warning:
            raise Refused(args.command, doubt(warning))
        except Failed:
            return 1
        return 0
    return status_of("experiments.py", work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
