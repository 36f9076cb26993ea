"""Experiments that set neurons to 0 and look at perplexity: matrix, dose, sweep. Standard library
only.
"""

import math

from guard import Refused
from studies import tables
from studies.common import (about_neurons, language_files, mean, model_and_files, nats, neurons_of,
                            percent, program_of, say, spread, write)


def judge(change):
    """change[off][text], in percent or nats. How much of it falls on the language that is off, how
    much on the others; and in how many rows and columns it is the own that is hurt most."""
    off, text = list(change), list(next(iter(change.values())))
    both = [name for name in off if name in text]
    own = mean(change[name][name] for name in both)
    others = mean(change[a][b] for a in off for b in text if a != b)
    rows = sum(max(text, key=lambda b: change[a][b]) == a for a in both)
    columns = sum(max(off, key=lambda a: change[a][b]) == b for b in both)
    return own, others, rows, columns


# ---- matrix: deactivation, beside random control and baselines ---------------------------------

class Growing:
    """A baseline's selection, grown neuron by neuron: `lape find --method` at ever higher --top."""

    def __init__(self, lape, args, found, method):
        self.lape, self.counts, self.languages = lape, args.counts, found.languages
        self.all = found.layers * found.neurons
        self.options = {"method": method, "filter": found.rate("filter", args.filter),
                        "bar": found.rate("bar", args.bar)}
        self.known = {}

    def of(self, selected, language):
        """A language's neurons when so many are selected in all."""
        if selected not in self.known:
            found = self.lape.find(self.counts, self.languages, top=repr(selected / self.all),
                                   **self.options)
            self.known[selected] = {name: found.of(name) for name in self.languages}
        return self.known[selected][language]

    def first(self, language, n):
        """The first n neurons that the language gets; all it can get when that is fewer."""
        low, high = 0, self.all
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if len(self.of(middle, language)) >= n else (middle + 1, high)
        return self.of(low, language)


def selections(args, lape, found):
    """{selection: {language: neurons}}: the list, its baselines at equal budget, random draws."""
    lists = {}

    def add(name, by):
        if (name in lists or args.draws and (name + "-").startswith("random-")
                or args.means and name.endswith("-mean")):
            raise Refused("two selections of the table would be named %s" % name)
        lists[name] = by

    add(found.header.get("method", "list").split(",")[0],
        {language: found.of(language) for language in found.languages})
    for name, path in language_files(args.also).items():
        other = tables.NeuronList(path)
        if other.layers != found.layers or other.neurons != found.neurons:
            raise Refused("%s: is of another model than %s" % (path, found.path))
        add(name, {language: other.of(language) for language in other.languages})
    for method in args.methods.split(",") if args.methods else []:
        say(args, "baseline %s, as many neurons for every language" % method)
        growing = Growing(lape, args, found, method)
        add(method, {language: growing.first(language, len(found.of(language)))
                     for language in found.languages})
    for seed in range(1, args.draws + 1):
        draw = lape.find(args.counts, found.languages, method="random", like=found.path, seed=seed)
        lists["random-%d" % seed] = {language: draw.of(language) for language in draw.languages}
    return lists


def random_mean(changes):
    """Of several draws' change[off][text]: mean and spread."""
    first = changes[0]
    return ({off: {text: mean(c[off][text] for c in changes) for text in first[off]}
             for off in first},
            {off: {text: spread(c[off][text] for c in changes) for text in first[off]}
             for off in first})


def matrix(args):
    model, texts = model_and_files(args)
    lape = program_of(args)
    found = neurons_of(args, lape, list(texts))
    lists = selections(args, lape, found)
    sets = {(name, off): places for name, by in lists.items() for off, places in by.items()}
    say(args, "%d deactivations of %d texts" % (len(sets), len(texts)))
    plain, ablated = lape.perplexities(model, texts, sets, found)
    if args.means:
        for name in list(lists):
            say(args, "%s, at means" % name)
            lists[name + "-mean"] = lists[name]
            rows = lape.perplexities_at_means(model, texts, lists[name], found, args.counts)
            for off, places in lists[name].items():
                sets[name + "-mean", off], ablated[name + "-mean", off] = places, rows[off]
    change, loss = ({name: {off: {text: measure(ablated[name, off][text], plain[text])
                                  for text in texts} for off in by} for name, by in lists.items()}
                    for measure in (percent, nats))
    rows = [[name, off, text, len(lists[name][off]), plain[text], ablated[name, off][text],
             ablated[name, off][text] - plain[text], change[name][off][text],
             loss[name][off][text], "-"]
            for name, off in sets for text in texts]
    draws = {}
    for name in filter(tables.is_draw, lists):
        draws.setdefault("random-mean" if name.endswith("-mean") else "random", []).append(name)
    for kind, names in draws.items():
        change[kind], deviation = random_mean([change[name] for name in names])
        loss[kind], _ = random_mean([loss[name] for name in names])
        for off in found.languages:
            for text in texts:
                added = change[kind][off][text]
                rows.append([kind, off, text, len(found.of(off)), plain[text],
                             plain[text] * (1 + added / 100), plain[text] * added / 100, added,
                             loss[kind][off][text], deviation[off][text]])
    about = about_neurons(found) + [
        "perplexity of `text` when the neurons of `off` are 0, and its change; plain: of the model "
        "as it is", "nats: ln of perplexity by plain, which is the change of the loss",
        "selections: the list; baselines of as many neurons for every language; random-N, as many "
        "in the same layers; random, their mean, with the standard deviation of the percents"] + [
            "NAME-mean: NAME's neurons at their mean in the other languages"] * args.means
    write(args, "matrix", about, ["selection", "off", "text", "neurons", "plain", "perplexity",
                                  "change", "percent", "nats", "spread"], rows)
    write(args, "matrix-summary", about_neurons(found) + [
        "own: mean change in percent of the language that is off; others: of the other languages; "
        "for random, spread of these over the draws", "own_nats, others_nats: the same in nats",
        "rows: own is hurt most of all texts; columns: it is hurt most by its own; of `of`"],
        ["selection", "neurons", "own", "own_spread", "others", "others_spread", "own_nats",
         "others_nats", "rows", "columns", "of"],
        matrix_summary(lists, change, loss, draws, found, texts))


def matrix_summary(lists, change, loss, draws, found, texts):
    rows = []
    for name in change:
        own, others, right, below = judge(change[name])
        single = [judge(change[draw]) for draw in draws.get(name, [])]
        by = lists.get(name) or {off: found.of(off) for off in found.languages}
        rows.append([name, sum(len(places) for places in by.values()), own,
                     spread(j[0] for j in single) if single else "-", others,
                     spread(j[1] for j in single) if single else "-",
                     *judge(loss[name])[:2], right, below,
                     len([text for text in texts if text in by])])
    return rows


# ---- dose: parts of a language's neurons -------------------------------------------------------

def lowest_first(found, language):
    """A language's neurons by ascending LAPE; ties by layer, then index."""
    rows = [row for row in found.rows if language in row.languages]
    try:
        score = {row.place: float(row.lape) for row in rows}
    except ValueError:
        score = {}
    if len(score) < len(rows) or any(map(math.isnan, score.values())):     # as in published lists
        raise Refused("%s: has no LAPE to order by" % found.path)
    return sorted(score, key=lambda place: (score[place], place))


def dose(args):
    model, texts = model_and_files(args)
    lape = program_of(args)
    found = neurons_of(args, lape, list(texts))
    order = {language: lowest_first(found, language) for language in found.languages}
    sets = {(off, part): set(places[:round(len(places) * part / 100)])
            for off, places in order.items() for part in args.percent}
    say(args, "%d deactivations of %d texts" % (len(sets), len(texts)))
    plain, ablated = lape.perplexities(model, texts, sets, found)
    rows = [[off, part, len(places), text, plain[text], ablated[off, part][text],
             ablated[off, part][text] - plain[text], percent(ablated[off, part][text], plain[text])]
            for (off, part), places in sets.items() for text in texts]
    write(args, "dose", about_neurons(found) + [
        "perplexity of `text` when `part` percent of the neurons of `off` are 0, lowest LAPE "
        "first"],
        ["off", "part", "neurons", "text", "plain", "perplexity", "change", "percent"], rows)


# ---- sweep: which rates? -----------------------------------------------------------------------

def sweep(args):
    model, texts = model_and_files(args)
    lape = program_of(args)
    lists = {(top, filter_, bar): lape.find(args.counts, list(texts), top=top, filter=filter_,
                                            bar=bar)
             for top in args.tops for filter_ in args.filters for bar in args.bars}
    sets = {(rates, off): found.of(off) for rates, found in lists.items() for off in texts}
    say(args, "%d settings, %d deactivations of %d texts" % (len(lists), len(sets), len(texts)))
    like = next(iter(lists.values()))
    plain, ablated = lape.perplexities(model, texts, sets, like)
    rows = []
    for rates in lists:
        change = {off: {text: percent(ablated[rates, off][text], plain[text]) for text in texts}
                  for off in texts}
        own, others, right, below = judge(change)
        margin = margin_of(change)
        sizes = [len(sets[rates, off]) for off in texts]
        rows.append([*rates, sum(sizes), min(sizes), own, others, right, below, len(texts), margin])
    best = choose(rows, args.enough)
    write(args, "sweep", [
        "model: " + like.model, "counts: " + args.counts,
        "best: --top %g --filter %g --bar %g" % tuple(best[:3]),
        "best is the setting of fewest neurons whose loss raises own perplexity by %g percent, or "
        "the one that raises it most where none does" % args.enough,
        "neurons: of all languages together; least: of the one with fewest",
        "own, others, rows, columns, of: as in matrix-summary",
        "margin: mean ln of own perplexity by plain, less that of the others"],
        ["top", "filter", "bar", "neurons", "least", "own", "others", "rows", "columns", "of",
         "margin"], rows)


def choose(rows, enough):
    """The row of fewest neurons (3) of those whose own change (5) is enough; or of most change."""
    reach = [row for row in rows if row[5] >= enough]
    return min(reach, key=lambda row: row[3]) if reach else max(rows, key=lambda row: row[5])


def margin_of(change):
    """Mean over languages of ln(perplexity by plain): own less others'."""
    log = {(a, b): math.log1p(value / 100) for a, row in change.items() for b, value in row.items()}
    return (mean(value for (a, b), value in log.items() if a == b)
            - mean(value for (a, b), value in log.items() if a != b))
