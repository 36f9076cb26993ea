"""Experiments that look at the selection itself: reliability, layers. Standard library only.
"""

import math
import os

from guard import Refused
from studies import tables
from studies.common import about_neurons, mean, model_and_files, program_of, say, write

Z = 1.959963984540054    # standard deviations on either side of a 95 % interval


# ---- reliability: is the selection that of the language, or of the sample? ---------------------

def jaccard(a, b):
    """Of two sets, what they share of what they have; 1 when both are empty."""
    return len(a & b) / len(a | b) if a | b else 1.0


def wilson(positive, n):
    """The 95 % interval of a probability, of `positive` in n."""
    p, square = positive / n, Z * Z
    middle = (p + square / (2 * n)) / (1 + square / n)
    half = Z / (1 + square / n) * math.sqrt(p * (1 - p) / n + square / (4 * n * n))
    return middle - half, middle + half


def overdispersion(positive, tokens):
    """How many times the variance between parts is that of independent tokens (chi-square by its
    degrees of freedom): neighbours in a text are alike. 1 where nothing varies."""
    n = sum(tokens)
    p = sum(positive) / n
    if not 0 < p < 1 or len(tokens) < 2:
        return 1.0
    return sum((x - p * t) ** 2 / (p * (1 - p) * t)
               for x, t in zip(positive, tokens)) / (len(tokens) - 1)


def count_parts(args, lape):
    """The paths of counts of every --of-th piece, by the first: given, or made and kept."""
    if args.parts_given:
        return args.parts_given, None
    model, texts = model_and_files(args)
    folder = os.path.join(args.output, "parts")
    os.makedirs(folder, exist_ok=True)
    paths = []
    for i in range(1, args.of + 1):
        say(args, "counting part %d of %d" % (i, args.of))
        paths.append(os.path.join(folder, "part-%02d-of-%d.gguf" % (i, args.of)))
        lape.count(model, texts, paths[-1], "--shard", "%d/%d" % (i, args.of))
    return paths, list(texts)


def parts_of_the_whole(paths):
    """{(denominator, draw): parts}: 16 sixteenths, 8 eighths, ... and the whole, of every so many
    pieces, which is what `lape count --shard draw/denominator` would count."""
    groups, n = {}, len(paths)
    while n:
        for draw in range(n):
            groups[n, draw + 1] = paths[draw::n]
        n //= 2
    return groups


def reliability(args):
    lape = program_of(args)
    if args.of < 4 or args.of & (args.of - 1) or \
            (args.parts_given and len(args.parts_given) not in (4, 8, 16, 32, 64)):
        raise Refused("the parts must be 4, 8, 16, 32 or 64")
    paths, languages = count_parts(args, lape)
    whole = tables.Counts(paths[0])
    languages = languages or whole.languages
    lists = {}
    for (n, draw), group in parts_of_the_whole(paths).items():
        merged = group[0]
        if len(group) > 1:
            merged = lape.temporary("merged.gguf")
            lape.merge(group, merged)
        lists[n, draw] = lape.find(merged, languages, top=args.top, filter=args.filter,
                                   bar=args.bar)
        if n == 1:
            whole = tables.Counts(merged)
    full = lists[1, 1]
    about = about_neurons(full)[:1] + about_neurons(full)[2:] + [
        "%d parts: every %d-th piece of %d tokens" % (len(paths), len(paths), whole.piece)]
    write(args, "reliability", about + [
        "overlap (Jaccard: shared by all that either has) of a language's neurons: as found in "
        "1/of of the tokens, and in all of them; halves: in one half and in the other"],
        ["what", "of", "draw", "language", "tokens", "neurons", "jaccard"],
        overlap_rows(lists, full, whole))
    write(args, "reliability-bar", about + [
        "selected: a language's neurons; within: those whose 95 % interval (Wilson) of the "
        "activation probability holds the bar, as if tokens were independent",
        "dispersion: how many times a neuron's counts vary between parts more than independent "
        "tokens' would, mean; within_dispersed: as within, with so many times fewer tokens"],
        ["language", "tokens", "bar", "selected", "within", "within_percent", "dispersion",
         "within_dispersed", "within_dispersed_percent"],
        bar_rows(full, whole, [tables.Counts(path) for path in paths]))


def overlap_rows(lists, full, whole):
    rows = []
    for (n, draw), found in lists.items():
        for language in full.languages:
            rows.append(["part", n, draw, language, whole.tokens[language] // n,
                         len(found.of(language)), jaccard(found.of(language), full.of(language))])
    for language in full.languages:
        one, other = lists[2, 1].of(language), lists[2, 2].of(language)
        rows.append(["halves", 2, "-", language, whole.tokens[language] // 2, len(one | other),
                     jaccard(one, other)])
    return rows


def bar_rows(full, whole, parts):
    bar, rows = full.bar_value(), []
    for language in full.languages:
        tokens = whole.tokens[language]
        positive = whole.positive(language)
        at = [layer * full.neurons + index for layer, index in sorted(full.of(language))]
        of_parts = [part.positive(language) for part in parts]
        part_tokens = [part.tokens[language] for part in parts]
        factor = mean(overdispersion([x[i] for x in of_parts], part_tokens) for i in at)
        fewer = tokens / factor if at and factor > 1 else tokens
        within = sum(wilson(positive[i], tokens)[0] <= bar for i in at)
        dispersed = sum(wilson(positive[i] * fewer / tokens, fewer)[0] <= bar for i in at)
        share = 100 / len(at) if at else math.nan
        rows.append([language, tokens, bar, len(at), within, within * share, factor, dispersed,
                     dispersed * share])
    return rows


# ---- layers: where they are, and what languages share ------------------------------------------

def correlation(a, b):
    """Pearson's."""
    x, y = mean(a), mean(b)
    top = math.fsum((p - x) * (q - y) for p, q in zip(a, b))
    below = math.fsum((p - x) ** 2 for p in a) * math.fsum((q - y) ** 2 for q in b)
    return top / math.sqrt(below) if below > 0 else math.nan


def probabilities(found, path):
    """{language: p of neurons}: of all from counts, else of the selected, where the list has them;
    and a word on which."""
    if path:
        counts = tables.Counts(path)
        missing = [name for name in found.languages if name not in counts.languages]
        if missing:
            raise Refused("%s: has no counts of '%s'" % (path, missing[0]))
        return {name: [x / counts.tokens[name] for x in counts.positive(name)]
                for name in found.languages}, "over all neurons"
    if all(len(row.p) == len(found.languages) for row in found.rows):
        return {name: [row.p[k] for row in found.rows]
                for k, name in enumerate(found.languages)}, "over the selected neurons only"
    return None, "not known: neither the list nor counts give them"


def quarter(layer, layers):
    return 4 * layer // layers + 1


def layers(args):
    if len(args.words) != 1:
        raise Refused("one list of neurons is wanted; -h tells more")
    found = tables.NeuronList(args.words[0])
    about = about_neurons(found)
    sets = {language: found.of(language) for language in found.languages}
    every = set().union(*sets.values())
    where = {layer: [sum(place[0] == layer for place in places)
                     for places in [*sets.values(), every]] for layer in range(found.layers)}
    p, over = probabilities(found, args.counts)
    write(args, "layers", about + [
        "neurons of every language by layer, from 0; distinct: of any language, each once"],
        ["layer", "quarter", *sets, "distinct"],
        [[layer, quarter(layer, found.layers), *row] for layer, row in where.items()])
    write(args, "quarters", about + ["the same by quarter of the layers"],
          ["quarter", *sets, "distinct"],
          [[q, *(sum(column) for column in zip(*(
              row for layer, row in where.items() if quarter(layer, found.layers) == q)))]
           for q in sorted({quarter(layer, found.layers) for layer in where})])
    write(args, "overlap", about + [
        "shared: neurons of both languages; jaccard: by those of either; correlation: of the two "
        "languages' activation probabilities, " + over],
        ["a", "b", "neurons_a", "neurons_b", "shared", "jaccard", "correlation"],
        [[a, b, len(sets[a]), len(sets[b]), len(sets[a] & sets[b]), jaccard(sets[a], sets[b]),
          correlation(p[a], p[b]) if p else "-"] for a in sets for b in sets])
