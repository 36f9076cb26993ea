"""How the Python tests end: `N passed, N failed`, what is skipped being listed and counted in
neither."""

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
