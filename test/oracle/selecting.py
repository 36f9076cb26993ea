"""The paper's selection of neurons, written from its formulas, and by itself the selection of its
released code; what `lape find` printed is held against both."""

import collections
import math

import numpy as np
import torch

from checking import demand

PRINTED_TOLERANCE = 1e-8   # relative, of numbers printed with nine digits
# Entropies equal or nearly so in exact arithmetic may differ in their last bits: which of them is
# selected is then not the formula's choice but that of the logarithm and the order of summation.
ENTROPY_TIE = 1e-12


def entropy_of(values):
    """[L F] of values [L, F, K], normalised over the languages."""
    total = values.sum(-1, keepdim=True)
    q = torch.where(total > 0, values / total, torch.zeros_like(values))
    return -torch.special.xlogy(q, q).sum(-1).flatten()


# What selects the lowest: a number for every neuron [L F], and values [L, F, ?] that, when they are
# the same in two neurons in whatever order, give the same number.
Score = collections.namedtuple("Score", "of values")


def score_of(method, p, means=None, penalty=0.):
    """By activation probabilities (or moves) and mean positive activations [L, F, K]."""
    if method == "lap":
        highest = p.amax(-1, keepdim=True)
        return Score(-highest.flatten(), highest)
    if method == "lave":
        return Score(entropy_of(means), means)
    if not penalty:
        return Score(entropy_of(p), p)
    languages = p.shape[-1]
    share = np.mean(1 / np.arange(1, languages + 1))
    even = entropy_of(p.clamp(min=1e-12)) / math.log(languages) if languages > 1 else 0
    return Score(even - penalty * p.amax(-1).flatten() / share, p)


# threshold and bar are -1 where there is none; entropy and score are [L F]; neurons {(layer,
# index): set of languages}
Selection = collections.namedtuple("Selection", "threshold bar entropy score neurons")


def select(p, languages, top, filter_rate, bar_rate, score=None):
    """The paper's selection (section 2.2 and the released code) of p [L, F, K] in float64, by
    entropy or another score [L F]."""
    values = p.flatten()

    def ranked(rate):
        rank = round(rate * len(values))
        return values.kthvalue(rank).values.item() if rank else -1.
    threshold, bar = ranked(filter_rate), ranked(bar_rate)
    entropy = entropy_of(p)
    score = entropy if score is None else score
    out = (p > threshold).sum(-1).flatten() == 0
    remaining = torch.where(out, torch.full_like(score, math.inf), score)
    order = torch.argsort(remaining, stable=True)[:round(top * len(score))]
    neurons = {}
    for i in sorted(order[remaining[order] < math.inf].tolist()):
        place = divmod(i, p.shape[1])
        neurons[place] = {label for k, label in enumerate(languages) if p[place][k] > bar}
    return Selection(threshold, bar, entropy, remaining, neurons)


def released(p, top, filter_rate, bar_rate):
    """The selection as the paper's released code goes about it: {(layer, index): set of columns},
    and entropies [L, F], infinite where the filter drops a neuron. None where it stops: at rank 0.
    """
    values = p.flatten()
    ranks = [round(rate * len(values)) for rate in (filter_rate, bar_rate)]
    if 0 in ranks:
        return None
    least, bar = (values.kthvalue(rank).values.item() for rank in ranks)
    q = (p / p.sum(-1, keepdim=True)).nan_to_num(nan=0.)
    entropy = -(q * torch.where(q > 0, q.log(), 0.)).sum(-1)
    entropy[(p > least).sum(-1) == 0] = math.inf
    flat = entropy.flatten()
    places = flat.topk(round(top * len(flat)), largest=False).indices
    # When the others run out it takes neurons that were dropped: without a language, as long as the
    # bar is not below the filter.
    places = places[flat[places] < math.inf]
    rows, columns = places // p.shape[1], places % p.shape[1]
    neurons = {place: set() for place in zip(rows.tolist(), columns.tolist())}
    for i, k in (p[rows, columns] > bar).nonzero().tolist():
        neurons[rows[i].item(), columns[i].item()].add(k)
    return neurons, entropy


def probabilities(tokens, positive):
    """p [L, F, K] in float64."""
    return torch.stack([torch.as_tensor(positive[label]).double() / tokens[label]
                        for label in tokens], -1)


Neurons = collections.namedtuple("Neurons", "header neurons columns")


def read_neurons(text):
    """What `lape find` printed: the header {key: value}, {(layer, index): set of languages}, and
    the numbers after the languages."""
    header, neurons, columns = {}, {}, {}
    lines = text.splitlines()
    for line in lines:
        if line.startswith("# ") and ": " in line:
            key, value = line[2:].split(": ", 1)
            header[key] = value
        elif line and not line.startswith(("#", "layer")):
            layer, index, entropy, labels, *rest = line.split("\t")
            neurons[int(layer), int(index)] = set(labels.split(",")) - {"-"}
            columns[int(layer), int(index)] = [float(value) for value in [entropy] + rest]
    return Neurons(header, neurons, columns)


def threshold_of(text):
    return float(text.split("threshold ")[1])


def near_enough(a, b, tolerance=PRINTED_TOLERANCE):
    return abs(a - b) <= tolerance * max(1, abs(a), abs(b))


def ties_between(theirs, ours, p, values):
    """How many neurons two selections differ by, all of them being ties but for rounding. Values
    that are the same in two neurons make a tie without rounding."""
    different = set(theirs.neurons) ^ set(ours.neurons)
    if not different:
        return 0
    demand(len(theirs.neurons) == len(ours.neurons), "%d neurons are selected, not %d",
           len(theirs.neurons), len(ours.neurons))
    width = p.shape[1]
    score = {place: ours.score[place[0] * width + place[1]].item() for place in
             set(ours.neurons) | set(theirs.neurons)}
    cutoff = max(score[place] for place in ours.neurons)
    for place in different:
        demand(abs(score[place] - cutoff) < ENTROPY_TIE * max(1, abs(cutoff)),
               "layer %d, neuron %d is %s, its score %.12g, the last selected %.12g", *place,
               "selected" if place in theirs.neurons else "not selected", score[place], cutoff)
    chosen = {}
    for layer in range(p.shape[0]):            # equal rows: the first ones are selected
        for index in range(width):
            row = tuple(sorted(values[layer, index].tolist()))
            taken = (layer, index) in theirs.neurons
            above = p[layer, index].max() > ours.threshold
            demand(not (above and taken and chosen.get(row) is False),
                   "layer %d, neuron %d is selected before an equal one", layer, index)
            chosen[row] = taken if above else chosen.get(row)
    return len(different)


def compare_selection(theirs, languages, p, top, filter_rate, bar_rate, score=None):
    """Demands what `lape find` printed to be the selection by a score, the entropy of p if none is
    given; returns the number of ties."""
    score = score or score_of("lape", p)
    ours = select(p, languages, top, filter_rate, bar_rate, score.of)
    demand(theirs.header["languages"].split() == list(languages), "the languages are %s, not %s",
           theirs.header["languages"], " ".join(languages))
    demand(near_enough(threshold_of(theirs.header["filter"]), ours.threshold)
           and near_enough(threshold_of(theirs.header["bar"]), ours.bar),
           "thresholds %s and %s, not %.9g and %.9g", theirs.header["filter"],
           theirs.header["bar"], ours.threshold, ours.bar)
    ties = ties_between(theirs, ours, p, score.values)
    compare_members(theirs, languages, p, ours.bar, ours.entropy)
    return ties


def compare_members(theirs, languages, p, bar, entropy):
    """Demands the languages and the numbers of the neurons that were printed."""
    for (layer, index), labels in theirs.neurons.items():
        row = p[layer, index]
        wanted = {label for k, label in enumerate(languages) if row[k] > bar}
        demand(labels == wanted, "layer %d, neuron %d is of %s, not of %s", layer, index,
               sorted(labels), sorted(wanted))
        numbers = [entropy[layer * p.shape[1] + index].item()] + row.tolist()
        demand(all(map(near_enough, theirs.columns[layer, index], numbers)),
               "layer %d, neuron %d: %s is printed, not %s", layer, index,
               theirs.columns[layer, index], numbers)


def compare_drawn(theirs, languages, p, top, filter_rate, bar_rate):
    """Demands of random neurons all but which they are: their number, that the filter lets them
    pass, their languages."""
    ours = select(p, languages, top, filter_rate, bar_rate)
    demand(len(theirs.neurons) == len(ours.neurons), "%d neurons are drawn, not %d",
           len(theirs.neurons), len(ours.neurons))
    for place in theirs.neurons:
        demand(p[place].max() > ours.threshold, "layer %d, neuron %d is drawn, which the filter "
               "drops", *place)
    compare_members(theirs, languages, p, ours.bar, ours.entropy)


def by_layer(neurons):
    """(layer, language) -> how many neurons."""
    return collections.Counter((layer, label) for (layer, _), labels in neurons.items()
                               for label in labels)


def compare_released(theirs, languages, p, top, filter_rate, bar_rate):
    """Demands the selection of the released code; returns the neurons at its edge, whose entropies
    rounding or the order of equals may put on either side, or None where it makes no selection."""
    found = released(p, top, filter_rate, bar_rate)
    if not found:
        return None
    neurons, entropy = found
    demand(len(theirs.neurons) == len(neurons), "%d neurons are selected, the released code has %d",
           len(theirs.neurons), len(neurons))
    last = max((entropy[place].item() for place in neurons), default=-1)
    edge = 0
    for place in set(theirs.neurons) | set(neurons):
        if abs(entropy[place].item() - last) < ENTROPY_TIE:
            edge += (place in theirs.neurons) != (place in neurons)
            continue
        demand(place in theirs.neurons and place in neurons, "layer %d, neuron %d is selected by "
               "one of the two", *place)
        labels = {languages[k] for k in neurons[place]}
        demand(theirs.neurons[place] == labels, "layer %d, neuron %d is of %s, not of %s", *place,
               sorted(theirs.neurons[place]), sorted(labels))
    return edge


def members(neurons, label):
    """The neurons of a language, as a frozenset."""
    return frozenset(place for place, labels in neurons.items() if label in labels)
