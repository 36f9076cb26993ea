"""A copy of this tree, for what builds another program of it or changes it."""

import os
import shutil

from paths import ROOT


def copy_tree(to, *folders):
    """The files of the top, and the folders that are named, in which nothing is built. `to` is made
    if it is not there."""
    os.makedirs(to, exist_ok=True)
    for name in os.listdir(ROOT):
        if name.endswith((".c", ".h", ".md")) or name == "Makefile":
            shutil.copy2(os.path.join(ROOT, name), to)
    for name in folders:
        shutil.copytree(os.path.join(ROOT, name), os.path.join(to, name), symlinks=True,
                        ignore=shutil.ignore_patterns("out", "__pycache__"))
