"""Where published models lie that tests run if they are there: in the folders that LAPE_REAL names,
parted by colons, or else in ../shared/real and in .models, where `make gemma` keeps its own.
"""

import glob
import os

from paths import ROOT, SHARED

FOLDERS = (os.environ.get("LAPE_REAL") or ":".join(
    [os.path.join(SHARED, "real"), os.path.join(ROOT, ".models")])).split(":")


def files(name="*.gguf"):
    """The paths of files of that name, in folders of these too; says so when there are none."""
    found = [path for folder in FOLDERS for path in sorted(
        glob.glob(os.path.join(folder, "**", name), recursive=True))]
    if not found:
        print("skipped %s: not in %s" % (name, " or ".join(FOLDERS)))
    return found
