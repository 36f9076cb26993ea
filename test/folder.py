"""What a test of files has: a folder of its own, which goes when the test is over."""

import os
import tempfile
import unittest


class Case(unittest.TestCase):
    maxDiff = 2000

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix=type(self).__module__ + ".")
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name

    def path(self, name, data=None):
        """A path in this test's own directory, with a file there if there are data."""
        path = os.path.join(self.directory, name)
        if data is not None:
            with open(path, "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
        return path
