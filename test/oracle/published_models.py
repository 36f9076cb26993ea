#!/usr/bin/env python3
"""Published models, quantised as people have them, run by lape and by transformers, and compared.

    python test/oracle/published_models.py [--lape ./lape] [--shared ../shared] [--only NAME,NAME]

The files of MODELS are looked for where published.py says. One that is not there is skipped by its
name, and is not an error.
Every check prints one line for each model: `ok MODEL NAME: what was measured`, or `FAIL`.

transformers widens the weights itself, by the gguf package, makes its own tokenizer from the same
file, and computes in float32 with eager attention. The selection is test/oracle/selecting.py's.
"""

import argparse
import collections
import functools
import math
import os
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")

import torch                                                                 # noqa: E402
import transformers                                                          # noqa: E402

import published                                                              # noqa: E402
from checking import Program, be_quiet, demand, report, summary              # noqa: E402
from paths import LAPE, ROOT, SHARED                                         # noqa: E402
from reference import (FIXED_POINT, edited, follow, mean_loss, perplexities, # noqa: E402
                       push, read_counts, steering_edits, tally)
from selecting import (compare_selection, members, probabilities,            # noqa: E402
                       read_neurons, select)

# Rounding, of the size of what is compared: the largest logit, perplexities, a layer's gates. It is
# not the same at every token: where a model of Qwen's builds up its massive activations, at a
# piece's second token for instance, both programs' gates are up to 1e-2 from those in double from
# then on, and at other tokens 1e-5.
LOGITS = 1e-3
PERPLEXITY = 1e-4
NEAR = 1e-3                # of its layer's largest: a gate so near to zero may have either sign
# `lape count --near`: the default, .001, is less than such a token's error, by a few gates of Qwen's.
COUNT_NEAR = 1e-2
MEANS = 1e-3               # of mean activations, of their layer's

LANGUAGES = "en es fr id ja vi zh".split()
PIECE = 128                # tokens
COUNTED, READ = 1024, 256  # tokens of a language: for the counts, and for perplexity
TRACED = 600               # tokens of one sequence: more than Gemma's window of 512
TEXT_BYTES = 100000        # of each file that is tokenized
RATES = .01, .95, .95      # the paper's, and `lape find`'s: top, filter, bar
ABLATED = "en fr zh".split()
TRACED_LANGUAGES = "en zh".split()
NEW_TOKENS = 48
PROMPTS = ["The weather in the mountains", "Notre voisine du dessus", "¿A cuánto está el",
           "我们楼上"]

# A model's name here, its file, the id that its texts begin with, and how it is steered: away from
# English, into a language by diffmean, with a strength.
Real = collections.namedtuple("Real", "name file bos on strength")
MODELS = [
    Real("gemma", "gemma-3-270m-q4_k_m.gguf", [2], "fr", 3),
    Real("qwen", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", [], "zh", 2),
]


class Bench(Program):
    """A model's file, and what is computed once for several checks."""

    def __init__(self, lape, shared, scratch, real, path):
        super().__init__(lape, scratch)
        self.shared, self.real, self.path = shared, real, path
        self.bos = ["--bos"] * bool(real.bos)
        self.size = {}                       # the largest logit of a language, once it is known

    def loaded(self, kind, **settings):
        return kind.from_pretrained(os.path.dirname(self.path) or ".",
                                    gguf_file=os.path.basename(self.path), **settings)

    @functools.cached_property
    def model(self):
        model = self.loaded(transformers.AutoModelForCausalLM, dtype=torch.float32,
                            attn_implementation="eager").eval()
        demand(all(weight.dtype == torch.float32 for weight in model.parameters()),
               "the reference is not of float32")
        return model

    @functools.cached_property
    def tokenizer(self):
        return self.loaded(transformers.AutoTokenizer)

    def ids(self, text):
        """With the begin-of-sequence token, where the tokenizer puts one itself."""
        return self.tokenizer(text)["input_ids"]

    def demo_text(self, label, kind):
        return os.path.join(ROOT, "demo", "text", "%s.%s.txt" % (label, kind))

    def words(self, kind, labels=LANGUAGES):
        return ["%s=%s" % (label, self.demo_text(label, kind)) for label in labels]

    def pieces(self, label, kind, most):
        """The first `most` ids of a demo text, in pieces that each begin as texts do."""
        bos, text = self.real.bos, read_text(self.demo_text(label, kind))
        ids, length = self.ids(text)[len(bos):][:most], PIECE - len(bos)
        return torch.tensor([bos + ids[i:i + length]
                             for i in range(0, len(ids) - length + 1, length)])

    @functools.cached_property
    def counts_path(self):
        self.lape("count", self.path, *self.words("count"), *self.bos, "--seq", PIECE, "--tokens",
                  COUNTED, "--near", COUNT_NEAR, "-t", 2, "-q", "-o", self.new("counts.gguf"))
        return self.new("counts.gguf")

    @functools.cached_property
    def counts(self):
        return read_counts(self.counts_path)

    @functools.cached_property
    def statistics(self):
        """{language: statistics} by transformers."""
        return {label: tally(self.model, self.pieces(label, "count", COUNTED), statistics)
                for label in LANGUAGES}

    @functools.cached_property
    def neurons_path(self):
        self.lape("find", self.counts_path, "-q", "-o", self.new("neurons.tsv"))
        return self.new("neurons.tsv")

    @functools.cached_property
    def found(self):
        return read_neurons(read_text(self.neurons_path))

    @functools.cached_property
    def plain(self):
        """The prompts' greedy continuations by lape."""
        return self.generated(self.path, PROMPTS, NEW_TOKENS)


def read_text(path, most=-1):
    """A file's first bytes, up to a whole character."""
    with open(path, "rb") as file:
        return file.read(most).decode(errors="ignore" if most >= 0 else "strict")


def statistics(gates, activations):
    """Of a layer's gates and activations [T, F]."""
    fixed = torch.round(activations.double() * FIXED_POINT)
    return {"positive": (activations > 0).sum(0), "sum": fixed.sum(0).long(),
            "near": (gates.abs() < NEAR * gates.abs().max()).sum(0)}


# ---- Checks ---------------------------------------------------------------------------------

CHECKS = []


def check(function):
    CHECKS.append((function.__name__, function))
    return function


@check
def tokens(bench):
    """Every id of real texts. transformers leaves out the normal form C of Qwen's own tokenizer,
    which a GGUF file does not tell; these texts are in it already."""
    paths, total = [bench.demo_text(label, "eval") for label in LANGUAGES], 0
    folder = os.path.join(bench.shared, "text")
    if os.path.isdir(folder):
        paths += [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    for path in paths:
        text = read_text(path, TEXT_BYTES)
        theirs = [int(word) for word in bench.lape("tokenize", bench.path, *bench.bos,
                                                   given=text.encode()).split()]
        ours = bench.ids(text)
        differ = [i for i, pair in enumerate(zip(theirs, ours)) if pair[0] != pair[1]]
        at = differ[0] if differ else min(len(theirs), len(ours))
        demand(theirs == ours, "%s: id %d is %s, not %s", os.path.basename(path), at,
               theirs[at:at + 1], ours[at:at + 1])
        total += len(ours)
    return "%d ids of %d texts equal" % (total, len(paths))


def compare_logits(theirs, ours):
    """(worst difference, largest logit, argmaxes that differ) of [T, V]."""
    demand(theirs.shape == ours.shape, "logits are %s, not %s", theirs.shape, ours.shape)
    off = max((a - b).abs().max().item() for a, b in zip(theirs, ours))
    size = ours.abs().max().item()
    demand(off <= LOGITS * size, "a logit differs by %.3g, the largest being %.3g", off, size)
    best, second = ours.topk(2).values.T
    differ = theirs.argmax(-1) != ours.argmax(-1)
    gap = (best - second)[differ]
    demand(bool((gap <= LOGITS * size).all()), "%d argmaxes differ, with gaps of up to %.3g",
           len(gap), gap.max() if len(gap) else 0)
    return off, size, len(gap)


def compare_signs(theirs, gates, activations):
    """(signs that differ, the largest of their gates in parts of the layer's largest) of lape's
    activations [L, T, F]."""
    theirs = theirs.reshape(activations.shape)
    differ = (theirs > 0) != (activations > 0)
    scale = gates.abs().amax((1, 2), keepdim=True)
    size = (torch.maximum(theirs.abs(), gates.abs()) / scale)[differ]
    demand(bool((size < NEAR).all()), "%d signs differ, of gates of up to %.3g of their layer's",
           len(size), size.max() if len(size) else 0)
    return len(size), size.max().item() if len(size) else 0.


@check
def forward(bench):
    """Logits, and signs of activations, of a sequence in each of two languages."""
    found, signs, total = [], [], 0
    for label in TRACED_LANGUAGES:
        ids = bench.ids(read_text(bench.demo_text(label, "eval")))[:TRACED]
        logits, gates, activations = push(bench.model, ids)
        found.append(compare_logits(bench.trace(bench.path, ids, "logits"), logits))
        bench.size[label] = found[-1][1]
        del logits
        signs.append(compare_signs(bench.trace(bench.path, ids, "act"), gates, activations))
        total += activations.numel()
    return ("%s, %d tokens each: logits within %s, of which the largest is %s (%.2g of it); %d "
            "argmaxes differ; %d of %d activations have another sign, whose gates are at most %.2g "
            "of their layer's largest" % (
                " ".join(TRACED_LANGUAGES), TRACED, " ".join("%.2g" % off for off, _, _ in found),
                " ".join("%.1f" % size for _, size, _ in found),
                max(off / size for off, size, _ in found), sum(n for _, _, n in found),
                sum(n for n, _ in signs), total, max(size for _, size in signs)))


def compare_counts(theirs, ours):
    """One language's: (counts that differ, by how much in all, gates near zero, the worst mean in
    parts of its layer's)."""
    off = (theirs["positive"] - ours["positive"]).abs()
    beyond = off > ours["near"]
    demand(not beyond.any(), "%d counts differ by more than there are gates near zero",
           int(beyond.sum()))
    beyond = ((ours["positive"] < theirs["positive"] - theirs["near_above"])
              | (ours["positive"] > theirs["positive"] + theirs["near_below"]))
    demand(not beyond.any(), "%d counts are beyond lape's own bounds", int(beyond.sum()))
    scale = ours["sum"].double().abs().mean(-1, keepdim=True)
    mean = ((theirs["sum"] - ours["sum"]).abs() / scale).max().item()
    demand(mean <= MEANS, "a mean activation is off by %.3g of its layer's", mean)
    return int((off > 0).sum()), int(off.sum()), int(ours["near"].sum()), mean


@check
def counts(bench):
    """Counts of activations above zero, and the sums that steering takes its means from."""
    found, tokens = [], 0
    for label in LANGUAGES:
        n = bench.pieces(label, "count", COUNTED).numel()
        demand(bench.counts.tokens[label] == n, "%s: %d tokens, not %d", label,
               bench.counts.tokens[label], n)
        found.append(compare_counts(bench.counts.of[label], bench.statistics[label]))
        tokens += n
    differing, off, near, mean = zip(*found)
    return ("%d tokens: %d of %d counts differ, by %d in all, of %d gates near zero; means within "
            "%.1g of their layer's" % (
                tokens, sum(differing), len(LANGUAGES) * bench.statistics["en"]["near"].numel(),
                sum(off), sum(near), max(mean)))


def between(value, a, b):
    return min(a, b) <= value <= max(a, b)


def explained(place, a, b, p, q, near):
    """Whether two selections, a of p and b of q, may differ in a neuron: its own counts differ, by
    the gates `near` zero [L, F, K] at most, or it lies where those of others have moved a
    threshold, or the last score that is selected. All in parts of the tokens."""
    off = (p[place] - q[place]).abs()
    if off.any():
        return bool((off <= near[place] + 1e-12).all())
    if any(between(value, a.threshold, b.threshold) or between(value, a.bar, b.bar)
           for value in p[place].tolist()):
        return True
    index = place[0] * p.shape[1] + place[1]
    last = [max(x.score[i * p.shape[1] + j].item() for i, j in x.neurons) for x in (a, b)]
    return between(a.score[index].item(), *last)


@check
def selection(bench):
    """`lape find` of lape's counts against the formula, of these and of transformers' counts."""
    labels = bench.counts.languages
    p, q, near = (
        probabilities(bench.counts.tokens, {label: of[label][name] for label in labels})
        for of, name in ((bench.counts.of, "positive"), (bench.statistics, "positive"),
                         (bench.statistics, "near")))
    ties = compare_selection(bench.found, labels, p, *RATES)
    a, b = select(p, labels, *RATES), select(q, labels, *RATES)
    differ = [place for place in {**bench.found.neurons, **b.neurons}
              if bench.found.neurons.get(place) != b.neurons.get(place)]
    for place in differ:
        demand(explained(place, a, b, p, q, near), "layer %d, neuron %d is of %s, not of %s",
               *place, bench.found.neurons.get(place), b.neurons.get(place))
    return ("%d neurons (%s) as by the formula, %d ties; %d differ from transformers' counts', as "
            "differing counts explain" % (
                len(bench.found.neurons), " ".join("%s %d" % (
                    label, len(members(bench.found.neurons, label))) for label in labels),
                ties, len(differ)))


@check
def perplexity(bench):
    """Plain, and with a language's neurons at 0."""
    theirs = perplexities(bench.lape(
        "ppl", bench.path, *bench.words("eval", ABLATED), *bench.bos, "--neurons",
        bench.neurons_path, "--seq", PIECE, "--tokens", READ, "-t", 2, "-q"))
    off = []
    for row in ["none"] + ABLATED:
        neurons = members(bench.found.neurons, row)
        with edited(bench.model, {place: (0., 0.) for place in neurons}):
            for label in ABLATED:
                wanted = math.exp(mean_loss(bench.model, bench.pieces(label, "eval", READ), 256))
                off.append(abs(theirs[row][label] / wanted - 1))
                demand(off[-1] <= PERPLEXITY, "%s off, text %s: %.9g, not %.9g", row, label,
                       theirs[row][label], wanted)
    rise = [theirs[label][label] / theirs["none"][label] - 1 for label in ABLATED]
    demand(all(abs(value) > PERPLEXITY for value in rise), "ablation changes nothing: %s", rise)
    return "%d perplexities within %.1g; own language's change %s" % (
        len(off), max(off), " ".join("%s %+.1f%%" % (row, 100 * value)
                                     for row, value in zip(ABLATED, rise)))


def follow_all(bench, made, edits):
    """What was generated, held against transformers, near-ties being those of the bound."""
    tie = LOGITS * max(bench.size.values(), default=0)
    with edited(bench.model, edits):
        ties = [follow(bench.model, bench.ids(prompt), ids, NEW_TOKENS, tie)
                for prompt, (_, ids) in zip(PROMPTS, made)]
    return "%d tokens of %d prompts equal but for %d near-ties" % (
        sum(len(ids) for _, ids in made), len(made), sum(ties))


@check
def greedy(bench):
    """Greedy continuations."""
    return follow_all(bench, bench.plain, {})


@check
def steered(bench):
    """The same with English's neurons at 0, and another language's strengthened."""
    real = bench.real
    made = bench.generated(bench.path, PROMPTS, NEW_TOKENS, "--neurons", bench.neurons_path,
                           "--counts", bench.counts_path, "--off", "en", "--on", real.on, "--how",
                           "diffmean", "--strength", real.strength)
    text = follow_all(bench, made, steering_edits(bench.counts, bench.found.neurons, "diffmean",
                                                  real.strength, "en", real.on))
    changed = sum(a != b for a, b in zip(made, bench.plain))
    demand(changed, "steering changes nothing")
    return "en off, %s on, diffmean %g: %s; %d are not the plain ones" % (
        real.on, real.strength, text, changed)


# ---- The command line -----------------------------------------------------------------------

def run_checks(args, real, path):
    """The checks' words for one model."""
    with tempfile.TemporaryDirectory(prefix="lape-real-") as scratch:
        bench = Bench(args.lape, args.shared, scratch, real, path)
        return [report("%s %s" % (real.name, name), function, bench) for name, function in CHECKS
                if not args.only or name in args.only]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lape", default=LAPE, help="the program")
    parser.add_argument("--shared", default=SHARED, help="more texts")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,NAME",
                        help="of the checks: " + ", ".join(name for name, _ in CHECKS))
    args = parser.parse_args()
    be_quiet()
    words = []
    for real in MODELS:
        for path in published.files(real.file)[:1]:
            words += run_checks(args, real, path)
    status = summary(words)
    return status if words else 0


if __name__ == "__main__":
    sys.exit(main())
