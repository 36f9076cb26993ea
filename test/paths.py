"""Where things lie, for all tests; and that they may import each other, and what is in tools/.

Python looks for modules beside the program that it runs: every folder of tests has a link to this
one, which lets it look in the others, too.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
LAPE = os.path.abspath(os.environ.get("LAPE") or os.path.join(ROOT, "lape"))
DEMO = os.path.join(ROOT, "demo", "model.gguf")
SHARED = os.environ.get("LAPE_SHARED") or os.path.join(ROOT, "..", "shared")

sys.path[1:1] = [os.path.join(ROOT, folder) for folder in (
    "test", "test/oracle", "test/builds", "test/exercises", "test/inject", "tools")]
