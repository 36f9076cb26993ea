"""Which lines of a text look like another language? What is counted as Vietnamese should be that.
Standard library only.
"""

import array
import collections
import hashlib
import math

from guard import Refused
from studies import tables
from studies.bayes import Bayes
from studies.common import model_and_files, program_of, say, write

# A line of a text that is taken for another language, and how much likelier that is, in nats.
Foreign = collections.namedtuple("Foreign", "language line like margin tokens text")


def key(ids):
    """What stands for a line, so that of a long text not all need be kept."""
    return hashlib.blake2b(array.array("i", ids).tobytes(), digest_size=16).digest()


def seen_in(lines, vocabulary):
    """Of a text: its tokens by id, and how often every line is there."""
    counts, times = [0] * vocabulary, collections.Counter()
    for ids in lines:
        for i in ids:
            counts[i] += 1
        times[key(ids)] += 1
    return counts, times


def known_from_counts(path, languages, model, vocabulary):
    """Naive Bayes over counts, of all their languages; a line's own tokens are not in them."""
    counts = tables.Counts(path)
    for language in languages:
        if language not in counts.languages:
            raise Refused(path, "has no counts of '%s'" % language)
    histograms = {language: counts.histogram(language) for language in counts.languages}
    for language, histogram in histograms.items():
        if len(histogram) != vocabulary:
            raise Refused(path, "counts tokens of a vocabulary of %d, and %s has one of %d"
                          % (len(histogram), model, vocabulary))
    return Bayes(histograms), {language: collections.Counter() for language in languages}


def known_from_texts(lape, model, texts, vocabulary):
    """Naive Bayes over the texts themselves; and how often each line is in its own."""
    seen = {language: seen_in(lape.tokenize_text(model, path), vocabulary)
            for language, path in texts.items()}
    return (Bayes({language: counts for language, (counts, _) in seen.items()}),
            {language: times for language, (_, times) in seen.items()})


def judged(bayes, own, ids, times):
    """The likeliest language of a line that is there `times` times in the histogram of its own,
    none of which counts; and by how much, in nats. Of equals its own, else the first."""
    likelihood = {own: bayes.without(own, ids, times)}
    likelihood.update((name, bayes.likelihood(name, ids)) for name in bayes.languages
                      if name != own)
    like = max(likelihood, key=likelihood.get)
    return like, likelihood[like] - likelihood[own]


def shown(line):
    """A line of a text as a table's cell."""
    return line.rstrip(b"\n").decode("utf-8", "replace").replace("\t", "\\t").replace("\r", "\\r")


def sifted(args, bayes, language, times, lines):
    """lines: (ids, bytes) of each of a text. How many there are, how many are taken for which
    language, and those that are taken for another."""
    found, taken, number = [], collections.Counter(), 0
    for number, (ids, line) in enumerate(lines, 1):
        if len(ids) >= args.shortest:
            like, margin = judged(bayes, language, ids, times[key(ids)])
            taken[like] += 1
            if like != language:
                found.append(Foreign(language, number, like, margin, len(ids), shown(line)))
    return number, taken, found


def purity(args):
    model, texts = model_and_files(args)
    lape, vocabulary = program_of(args), tables.vocabulary_of(model)
    if args.counts:
        bayes, times = known_from_counts(args.counts, texts, model, vocabulary)
        source = "the histograms of " + args.counts
    elif len(texts) < 2:
        raise Refused("texts of two languages are wanted, or --counts of them, to tell one from "
                      "the other")
    else:
        bayes, times = known_from_texts(lape, model, texts, vocabulary)
        source = "the tokens of these texts, each line being judged without it and its copies"
    rows, foreign = [], []
    for language, path in texts.items():
        with open(path, "rb") as text:
            number, taken, found = sifted(args, bayes, language, times[language],
                                          zip(lape.tokenize_text(model, path), text))
        total = sum(taken.values())
        share = len(found) / total if total else math.nan
        rows.append([language, number, total, len(found), share,
                     *(taken[name] for name in bayes.languages)])
        foreign += found
        say(args, "%s: %d of %d lines look like another language" % (language, len(found), total))
    about = ["model: " + model, "naive Bayes over " + source,
             "judged are lines of %d tokens and more" % args.shortest]
    write(args, "purity", about + ["share: of the judged lines, those that are foreign: taken for "
                                   "another language; then, how many are taken for which"],
          ["language", "lines", "judged", "foreign", "share", *bayes.languages], rows)
    write(args, "purity-lines", about + ["lines that are taken for another language, like; margin: "
                                         "by how much that is likelier, in nats"],
          Foreign._fields, foreign)
