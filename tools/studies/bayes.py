"""Which language are these tokens? Naive Bayes over the token histograms that counts hold.

A language's probability of a token is (its count + ALPHA) / (all its counts + ALPHA V); every
language is as likely as the others beforehand. Standard library only.
"""

import collections
import math

ALPHA = 0.1      # less than Laplace's 1: counts of some thousand tokens are not drowned by it


class Bayes:
    def __init__(self, histograms):
        """histograms: of each language, its tokens by id; all of one vocabulary."""
        self.histograms, self.languages = histograms, list(histograms)
        self.log, self.whole = {}, {}
        for language, counts in histograms.items():
            whole = self.whole[language] = sum(counts) + ALPHA * len(counts)
            self.log[language] = [math.log((n + ALPHA) / whole) for n in counts]

    def likelihood(self, language, ids):
        """The logarithm of the tokens' probability in a language."""
        return math.fsum(self.log[language][i] for i in ids)

    def without(self, language, ids, times):
        """The same, had the language's histogram been made without these tokens, which are in it so
        many times."""
        counts, whole = self.histograms[language], self.whole[language] - times * len(ids)
        return math.fsum(n * math.log((counts[i] - times * n + ALPHA) / whole)
                         for i, n in collections.Counter(ids).items())

    def classify(self, ids):
        """The likeliest language, the first of equals; "-" of no tokens."""
        if not ids:
            return "-"
        return max(self.languages, key=lambda name: self.likelihood(name, ids))


def pieces(ids, length):
    """Whole pieces; what is left at the end is dropped."""
    return [ids[i:i + length] for i in range(0, len(ids) - length + 1, length)]


def confusion(bayes, held_out, length):
    """held_out: of each language, ids that were not counted. By language, how many of its pieces
    of `length` tokens are taken for which language."""
    table = {}
    for language, ids in held_out.items():
        found = [bayes.classify(piece) for piece in pieces(ids, length)]
        table[language] = {name: found.count(name) for name in bayes.languages}
    return table


def accuracy(table):
    """Mean over languages of the share that is recognised, so that long texts weigh no more."""
    shares = [row.get(name, 0) / sum(row.values()) for name, row in table.items()]
    return math.fsum(shares) / len(shares)
