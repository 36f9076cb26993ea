#!/usr/bin/env python3
"""Seeds and what was found before, once through build/fuzz/replay: what `make test` does of fuzzing."""

import sys

import run

if __name__ == "__main__":
    sys.exit(run.main(["--replay"]))
