"""What a neuron sees: the places in texts at which its activation is largest, each with the tokens
around it. Standard library only.
"""

import collections
import heapq
import os
import re

from formats.npy import Floats
from guard import Refused
from studies import tables
from studies.ablation import lowest_first
from studies.common import about_neurons, model_and_files, neurons_of, program_of, say, write

MOST = 1 << 28           # bytes of activations at a time, if pieces are not longer
BEFORE, AFTER = 10, 5    # tokens that are shown around a place
OPEN, CLOSE = "\u27e6", "\u27e7"                            # around the token itself

# The activation at a token, of which text it is, from 0, and the how manieth there.
Place = collections.namedtuple("Place", "activation text token")


# ---- Activations, some pieces at a time --------------------------------------------------------

class Pieces:
    """How texts are cut: as `lape trace` does it, but in calls that each bring no more than MOST
    bytes, of all layers when a piece of these is not too long, else of a layer at a time."""

    def __init__(self, args, found, longest, layers):
        self.bos = int(args.bos)
        self.seq = args.seq or longest
        self.tokens = self.seq - self.bos                       # of the text, in a piece
        row = 4 * self.seq * found.neurons
        self.together = len(layers) > 1 and row * found.layers <= MOST
        row *= found.layers if self.together else 1
        self.at_once = self.tokens * max(1, MOST // row)
        self.options = ["--seq", str(self.seq)] + ["--bos"] * self.bos

    def row(self, token):
        """Of a token among those of a call; every piece has a row more where it has a BOS."""
        return token + self.bos * (token // self.tokens + 1)

    def start(self, token):
        """The first token of the same piece."""
        return token - token % self.tokens


def activations(lape, model, found, pieces, ids, layers):
    """(layer, first token, a function from index of a neuron to its activations), the tokens of a
    text from its first to its last; of every layer that is wanted."""
    for first in range(0, len(ids), pieces.at_once):
        part = ids[first:first + pieces.at_once]
        rows = [pieces.row(token) for token in range(len(part))]
        for group in [layers] if pieces.together else [[layer] for layer in layers]:
            only = [] if pieces.together else ["--layer", str(group[0])]
            path = lape.trace(model, part, "act", *pieces.options, *only)
            array = Floats(path)
            shape = ([found.layers] if pieces.together else []) + [rows[-1] + 1, found.neurons]
            if list(array.shape) != shape:
                raise Refused(found.path, "is of another model: the activations of %s are %s, not "
                              "%s" % (model, array.shape, tuple(shape)))
            for layer in group:
                yield layer, first, lambda index, plane=layer if pieces.together else 0: (
                    array.column(plane, index, rows))
            os.unlink(path)


def largest(args, lape, found, pieces, texts, wanted):
    """texts: ids, by language. Of every wanted neuron the places of largest activation, largest
    first; of equals, the first."""
    best = {place: [] for place in wanted}
    layers = sorted({layer for layer, _ in wanted})
    for text, (language, ids) in enumerate(texts.items()):
        say(args, "%s: %d tokens" % (language, len(ids)))
        for layer, first, column in activations(lape, args.words[0], found, pieces, ids, layers):
            for place in best:
                if place[0] == layer:
                    new = [Place(value, text, first + i) for i, value in enumerate(
                        column(place[1]))]
                    best[place] = heapq.nlargest(args.places, best[place] + new,
                                                 key=lambda one: one.activation)
    return best


# ---- Places, as they are shown -----------------------------------------------------------------

def excerpts(lape, model, pieces, texts, places):
    """By (text, token), the token in brackets among its neighbours; of those before it, the ones
    of its piece, which are all that the model has seen."""
    lists, ids_of = [], list(texts.values())
    for text, token in places:
        ids = ids_of[text]
        start = max(pieces.start(token), token - BEFORE)
        lists += [ids[start:token], ids[start:token + 1], ids[start:token + 1 + AFTER]]
    said, found = lape.decode(model, lists), {}
    for i, place in enumerate(places):
        before, up_to, all_of = said[3 * i:3 * i + 3]
        parts = before, up_to[len(before):], all_of[len(up_to):]
        found[place] = "%s{}%s{}%s".format(OPEN, CLOSE) % tuple(
            tables.escaped(part.decode("utf-8", "replace")) for part in parts)
    return found


def texts_of(args, lape, model, files):
    """The ids of every text."""
    texts = {}
    for language, path in files.items():
        if path.endswith((".npy", ".bin")):
            raise Refused(path, "a text is wanted, no file of ids")
        texts[language] = lape.tokenize(model, path)[:args.tokens]
        if not texts[language]:
            raise Refused(path, "the file is empty")
    return texts


def means_of(args, found, texts):
    """A function of a language and a neuron: its mean activation, as it was counted."""
    if not args.counts:
        return lambda language, place: "-"
    counts = tables.Counts(args.counts)
    for language in texts:
        if language not in counts.languages:
            raise Refused("%s: has no counts of '%s'" % (args.counts, language))
    if (counts.layers, counts.neurons) != (found.layers, found.neurons):
        raise Refused("%s: is of another model than %s" % (args.counts, found.path))
    return counts.mean


def check_model(lape, model, *made):
    """That files are of the model by its name and digest, as the program checks it where it reads
    them; an older file has no digest, and an imported one no name."""
    for path in made:
        of = lape.info(path)
        for key, same in (("model", "%s, the model is %s"),
                          ("digest", "a model of digest %s, this one's is %s")):
            if of[key] != model[key] and not re.match("unknown|none", of[key]):
                raise Refused(path, "made from " + same % (of[key], model[key]))


def contexts(args):
    model, files = model_and_files(args)
    lape = program_of(args)
    found = neurons_of(args, lape, list(files))
    about = lape.info(model)
    check_model(lape, about, found.path, *[args.counts] * bool(args.counts))
    longest = min(4096, int(about["context"]))
    first = {language: lowest_first(found, language)[:args.top] for language in files}
    wanted = list(dict.fromkeys(place for places in first.values() for place in places))
    if not wanted:
        raise Refused(found.path, "has no neurons of " + ", ".join(files))
    mean_of = means_of(args, found, files)
    texts = texts_of(args, lape, model, files)
    pieces = Pieces(args, found, longest, {layer for layer, _ in wanted})
    best = largest(args, lape, found, pieces, texts, wanted)
    shown = excerpts(lape, model, pieces, texts, list(dict.fromkeys(
        (one.text, one.token) for places in best.values() for one in places)))
    rows = {row.place: row for row in found.rows}
    names = list(files)
    write(args, "contexts", about_neurons(found) + [
        "the places in all texts (%s) at which a neuron's activation is largest, the token in "
        "%s%s; of every language, the neurons of lowest LAPE" % (
            ", ".join("%s: %d tokens" % (name, len(ids)) for name, ids in texts.items()), OPEN,
            CLOSE),
        "pieces of %d tokens%s; what stands before a token is of its piece" % (
            pieces.seq, ", the first of which is a begin-of-sequence token and is left out"
            if args.bos else ""),
        "languages: all that the neuron belongs to; token: its number in the text, from 0",
        "mean: the neuron's mean activation in the text's language, as it was counted"],
        ["language", "layer", "neuron", "lape", "languages", "place", "activation", "mean", "text",
         "token", "context"],
        [[language, *place, rows[place].lape, ",".join(rows[place].languages), number,
          one.activation, mean_of(names[one.text], place), names[one.text], one.token,
          shown[one.text, one.token]]
         for language, places in first.items() for place in places
         for number, one in enumerate(best[place], 1)])
