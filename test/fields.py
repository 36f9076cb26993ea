"""What the tests of fields share: rows of fields with changes of each, their table, and the test
that every change comes to what its row says.
"""

import collections
import copy
import os
import sys
import tempfile

from paths import ROOT
import report
import test_convert

DOCUMENT = os.path.join(ROOT, "test", "README.md")
USED, REFUSED, HARMLESS = "used", "refused", "harmless"
GONE = object()                                      # a value that takes its key away

# A row of the table: the file, the fields, what the reader does with them and why, and changes:
# (base, place, value, what becomes of it). A base is the name of files that are converted as they
# are; a place is a path of keys in the file.
Row = collections.namedtuple("Row", "file fields does changes")


def put(values, place, value):
    """The values with one at a place changed; at no place, with those of an object added."""
    values = copy.deepcopy(values)
    if not place:
        values.update(value)
        return values
    inner = values
    for key in place[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else inner[key]
    if value is GONE:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return values


def table(rows):
    """The rows as Markdown."""
    lines = ["| File | Field | What is done with it |\n", "|---|---|---|\n"]
    for row in rows:
        names = ", ".join("`%s`" % name.replace("|", "\\|") for name in row.fields)
        lines.append("| %s | %s | %s |\n" % (row.file, names, row.does))
    return "".join(lines)


class Fields(test_convert.Case):
    """Each change of a field against the files as they were."""

    mark, rows, bases = None, [], []                 # of the document; those of a test's own

    def files(self, base):
        """Writes a base's files; name -> contents of those that changes are made in."""
        raise NotImplementedError

    def change(self, content, row, place, value):
        """A file's contents after a change."""
        return value if place is None else put(content or {}, place, value)

    def empty(self):
        for name in os.listdir(self.model):
            os.remove(os.path.join(self.model, name))

    def result(self):
        """The bytes that are written; None and the message of a refusal."""
        done = test_convert.run_forked(["hf", self.model, "-o", self.out, "-q", "--name", "x"])
        if done.returncode:
            self.assert_refused(done)
            return None, done.stderr
        with open(self.out, "rb") as file:
            raw = file.read()
        os.remove(self.out)
        return raw, ""

    def changed(self, row, base, place, value):
        """The result of the base's files with one change."""
        content = self.files(base).get(row.file)
        self.write(row.file, self.change(content, row, place, value))
        return self.result()

    def test_changes(self):
        whole = {}
        for base in self.bases:
            self.files(base)
            whole[base], message = self.result()
            self.assertEqual(message, "", base)
        for row in self.rows:
            for base, place, value, expected in row.changes:
                with self.subTest(file=row.file, base=base, place=place, value=value):
                    raw, message = self.changed(row, base, place, value)
                    found = REFUSED if raw is None else HARMLESS if raw == whole[base] else USED
                    self.assertEqual(found, expected, message)

    def test_rows(self):
        """What becomes of changes is what the row says; where that is harmless it says why."""
        for row in self.rows:
            kinds = {kind for _, _, _, kind in row.changes}
            for kind in kinds - {HARMLESS}:
                self.assertRegex(row.does, r"\b" + kind, row.fields)
            if kinds == {HARMLESS}:
                self.assertRegex(row.does, "^harmless: .", row.fields)

    def test_document(self):
        if self.mark:
            self.assertEqual(report.between(DOCUMENT, self.mark), table(self.rows),
                             "write it with --write")


def main(mark, rows):
    """Runs the test; with --write on the command line, writes its table instead."""
    if os.access("/dev/shm", os.W_OK):               # thousands of small files: in memory, if any
        tempfile.tempdir = "/dev/shm"
    if sys.argv[1:] == ["--write"]:
        report.between(DOCUMENT, mark, table(rows))
        return 0
    return report.main()
