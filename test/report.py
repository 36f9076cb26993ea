"""How the Python tests end: `N passed, N failed`, what is skipped being listed and counted in
neither. And how tables that tests make get into documents.
"""

import sys
import unittest


class Result(unittest.TextTestResult):
    """Counts a test once, however many of its parts fail."""

    def __init__(self, *args):
        super().__init__(*args)
        self.passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1

    def failed(self):
        return len({getattr(test, "test_case", test).id()
                    for test, _ in self.failures + self.errors})


class Checks:
    """Counts checks that are no unittest's. Each prints a line."""

    def __init__(self):
        self.passed = self.failed = 0

    def say(self, good, text):
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)
        print("%-4s %s" % ("ok" if good else "FAIL", text), flush=True)

    def check(self, what, work):
        """work() returns whether it is good, and what to say; what it raises is a failure."""
        try:
            good, said = work()
        except Exception as problem:
            good, said = False, "%s: %s" % (type(problem).__name__, problem)
        self.say(good, "%s: %s" % (what, said))

    def end(self):
        """The closing line; returns the exit status."""
        print("%d passed, %d failed" % (self.passed, self.failed))
        return int(self.failed > 0)


def between(path, name, new=None):
    """What stands between a file's marks of this name; `new`, if it is given, replaces it."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    begin, end = "<!-- %s: begin -->\n" % name, "<!-- %s: end -->\n" % name
    before, rest = text.split(begin)
    old, after = rest.split(end)
    if new is not None:
        with open(path, "w", encoding="utf-8") as f:
            f.write(before + begin + new + end + after)
    return old


def main():
    """Runs the tests of the main module, or those that the command line names; the exit status."""
    load, module = unittest.defaultTestLoader, sys.modules["__main__"]
    suite = (load.loadTestsFromNames(sys.argv[1:], module) if sys.argv[1:] else
             load.loadTestsFromModule(module))
    result = unittest.TextTestRunner(resultclass=Result).run(suite)
    for test, reason in result.skipped:
        print("skipped: %s: %s" % (test.id(), reason))
    print("%d passed, %d failed" % (result.passed, result.failed()))
    return 1 if result.failed() or not result.passed else 0
