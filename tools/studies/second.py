"""A second opinion on the language of a text, beside naive Bayes over the counts: of a judge that
knows nothing of what the model under study reads or writes. It is py3langid, a classifier that
others trained, on other text, and that has its model in its package, where it is installed; or the
command that --judge names, any that reads texts, one a line, and answers a label for each. The
standard library serves for everything else.
"""

import re
import subprocess

from guard import LABEL, Refused
from studies.tables import read_lines

NAME = "py3langid"
# What ends a line to any reader, Python's among them.
LINE_ENDS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


class Second:
    """Tells the languages of a study, if it is here and knows them all; else why it does not."""

    def __init__(self, languages, command=None):
        """command: of the shell, to be asked in place of py3langid."""
        self.name, self.lacks, self.ask = NAME, None, None
        if command:
            self.name = "--judge " + " ".join(command.split())
            self.ask = lambda texts: self.answers(command, texts)
        else:
            self.ask, self.lacks = installed(languages)

    def tell(self, texts):
        """The likeliest language of each; "-" of no text, or where there is no judge."""
        texts = [LINE_ENDS.sub(" ", text) for text in texts]
        asked = [text for text in texts if text.strip()]
        if not self.ask or not asked:
            return ["-"] * len(texts)
        told = iter(self.ask(asked))
        return [next(told) if text.strip() else "-" for text in texts]

    def answers(self, command, texts):
        """What the command answers: a line for each, and nothing is guessed of fewer or more."""
        try:
            done = subprocess.run(command, shell=True, check=False, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, input="".join(
                                      text + "\n" for text in texts).encode())
        except (OSError, ValueError) as problem:
            raise Refused(self.name, "cannot be run: %s" % problem)
        if done.returncode:
            raise Refused(self.name, "exit status %d%s" % (done.returncode, last_of(done.stderr)))
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        if len(lines) != len(texts):
            raise Refused(self.name, "answers %s to %d texts, a label for each is wanted%s" % (
                "%d lines" % len(lines) if lines else "nothing", len(texts),
                last_of(done.stderr)))
        for number, line in enumerate(lines, 1):
            if not re.fullmatch(LABEL, line.strip()):
                raise Refused(self.name, "line %d of its answer is no language's label: %.40r"
                              % (number, line))
        return [line.strip() for line in lines]

    def accuracy(self, held_out):
        """Mean over languages of the share of their files' lines that is recognised."""
        lines = [(language, line) for language, path in held_out.items()
                 for line in read_lines(path) if line.strip()]
        told = self.tell([line for _, line in lines])
        right = {language: [] for language in held_out}
        for (language, _), found in zip(lines, told):
            right[language].append(found == language)
        return sum(sum(share) / len(share) for share in right.values()) / len(right)

    def about(self):
        if self.lacks:
            return "second: -, since " + self.lacks
        return "second: what %s takes the output for" % self.name


def installed(languages):
    """py3langid, as a function of texts; or None, and why."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return None, NAME + " is not installed"
    classifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    unknown = [name for name in languages if name not in classifier.labels]
    if unknown:
        return None, "%s does not know '%s'" % (NAME, unknown[0])
    classifier.set_languages(list(languages))
    return lambda texts: [classifier.classify(text)[0] for text in texts], None


def last_of(said):
    """The last line that a command has said on the side, as it can be shown, behind a colon."""
    lines = said.decode("utf-8", "replace").strip().splitlines() or [""]
    shown = "".join(letter if letter.isprintable() else "?" for letter in lines[-1][:200])
    return ": " + shown if shown else ""
