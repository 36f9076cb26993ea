"""A second opinion on the language of a text: py3langid, a classifier that others trained, on other
text, and that has its model in its package. It knows nothing of what the model under study reads or
writes, as naive Bayes over the counts does. It is asked where it is installed; the standard library
serves for everything else.
"""

from studies.tables import read_lines

NAME = "py3langid"


class Second:
    """Tells the languages of a study, if it is here and knows them all; else why it does not."""

    def __init__(self, languages):
        self.classifier, self.lacks = None, None
        try:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier
        except ImportError:
            self.lacks = NAME + " is not installed"
            return
        classifier = LanguageIdentifier.from_model_file(MODEL_FILE)
        unknown = [name for name in languages if name not in classifier.labels]
        if unknown:
            self.lacks = "%s does not know '%s'" % (NAME, unknown[0])
            return
        classifier.set_languages(list(languages))
        self.classifier = classifier

    def classify(self, text):
        """The likeliest language; "-" of no text, or where it is not asked."""
        if not self.classifier or not text.strip():
            return "-"
        return self.classifier.classify(text)[0]

    def accuracy(self, held_out):
        """Mean over languages of the share of their files' lines that is recognised."""
        shares = []
        for language, path in held_out.items():
            lines = [line for line in read_lines(path) if line.strip()]
            shares.append(sum(self.classify(line) == language for line in lines) / len(lines))
        return sum(shares) / len(shares)

    def about(self):
        return "second: what %s takes the output for" % NAME if self.classifier else (
            "second: -, since " + self.lacks)
