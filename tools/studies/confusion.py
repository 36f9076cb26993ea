"""Language confusion: does a text stay in one language? The line-level pass rate of the Language
Confusion Benchmark (Marchisio et al., 2024, "Understanding and Mitigating Language Confusion in
LLMs", arXiv 2406.20052): the share of outputs all of whose lines are in the wanted language. As
there, a line of fewer than five words is too short to be judged and passed over, and so is an
output that has no other lines. Standard library only.
"""

import unicodedata

from studies.common import mean

FEWEST = 5               # words of a line that is judged
# Scripts that put no spaces between words, by how Unicode names their letters. The benchmark parts
# Chinese and Japanese with dictionaries; here so many letters are a word, about the mean of these.
UNSPACED = "CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"
LETTERS = 2


def is_unspaced(letter):
    return letter > "\u0e00" and letter.isalpha() and unicodedata.name(letter, "").startswith(
        UNSPACED)


def words_in(line):
    """How many words; what has neither letter nor digit is none."""
    letters = sum(map(is_unspaced, line))
    rest = "".join(" " if is_unspaced(letter) else letter for letter in line)
    return letters / LETTERS + sum(any(map(str.isalnum, word)) for word in rest.split())


def lines_of(text):
    """Those that are long enough to be judged."""
    return [line for line in text.split("\n") if words_in(line) >= FEWEST]


def line_languages(outputs, tell):
    """outputs: by key, texts; tell: of a list of texts, their languages. By key and text, the
    languages of its lines."""
    lines = {key: [lines_of(text) for text in texts] for key, texts in outputs.items()}
    told = iter(tell([line for texts in lines.values() for one in texts for line in one]))
    return {key: [[next(told) for _ in one] for one in texts] for key, texts in lines.items()}


def judged(outputs):
    """Of line_languages' outputs of one key, how many have a line that is judged."""
    return sum(bool(languages) for languages in outputs)


def pass_rate(outputs, wanted):
    """Percent of these that have all their lines in the wanted language; nan of none."""
    return 100 * mean(set(languages) == {wanted} for languages in outputs if languages)
