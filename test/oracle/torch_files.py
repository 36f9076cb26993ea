#!/usr/bin/env python3
"""The files of the paper's released code, written by tools/convert.py, as PyTorch reads them, and
as PyTorch writes them, read by it.

    python test/oracle/torch_files.py

Lists of neurons (.neuron.pth) go to a table and back, counts (.pt) to a counts file and back:
torch.load(weights_only=True) has to find the same nesting, types, shapes and numbers. On random
files that torch.save writes, and on the published ones where they lie. Token files become arrays:
numpy has to load the numbers, of the type, that PyTorch has. The last line on stdout is `N passed,
N failed`.
"""

import os
import subprocess
import sys
import tempfile

import numpy
import torch

from paths import ROOT, SHARED
from report import Checks

OFFICIAL = os.path.join(SHARED, "official")
LANGUAGES = "en zh fr es vi id ja".split()


def convert(*args):
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "convert.py"), *args],
                          capture_output=True, text=True)
    if done.returncode or done.stderr:
        raise RuntimeError(done.stderr.strip())


def same(a, b):
    """The same types all the way down, and the same numbers of the same shape."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.is_contiguous() and torch.equal(a, b)
    return a == b


def lists_come_back(path, folder, *options):
    there = torch.load(path, weights_only=True)
    table, back = os.path.join(folder, "neurons.tsv"), os.path.join(folder, "back.pth")
    convert("neurons", path, "--langs", ",".join(LANGUAGES[:len(there)]), "-o", table, *options)
    convert("neurons", table, "-o", back)
    return all(same(there, torch.load(back, weights_only=True, mmap=mmap)) for mmap in (0, 1))


def counts_come_back(path, folder):
    counts, back = os.path.join(folder, "counts.gguf"), os.path.join(folder, "back.LANG.pt")
    convert("counts", "en=" + path, "-o", counts)
    convert("counts", counts, "-o", back)
    there, again = (torch.load(name, weights_only=True)
                    for name in (path, back.replace("LANG", "en")))
    if "n" not in there:                             # others' code, which counts in 64 bits
        there = {"n": int(there["total_tokens"]), "over_zero": there["over_zero"].int()}
    return same(there, again)


def ids_are_the_same(path, folder):
    array = os.path.join(folder, "ids.npy")
    convert("ids", path, "-o", array)
    there, here = torch.load(path, weights_only=True).numpy().reshape(-1), numpy.load(array)
    return here.dtype == there.dtype and numpy.array_equal(here, there)


def token_files(folder):
    """(check, file, options) of token files, as the released code saves them and otherwise."""
    torch.manual_seed(2)
    ids = torch.randint(32000, (60000,))
    views = {"long": ids, "long-of-all": torch.tensor([-1 << 63, (1 << 63) - 1, -1, 0]),
             "part": ids[777:5000], "steps": ids[5::7], "table": ids.view(300, 200),
             "transposed": ids.view(300, 200).T, "columns": ids.view(300, 200)[:, 3:50:2],
             "planes": ids.view(30, 20, 100).permute(2, 0, 1), "repeated": ids[:3].expand(7, 3),
             "one": ids[9], "parameter": torch.nn.Parameter(ids, requires_grad=False)}
    for kind in torch.int8, torch.uint8, torch.int16, torch.int32:
        views[str(kind)[6:]] = ids.to(kind)
    for name, view in views.items():
        path = os.path.join(folder, "id.en.train." + name)
        torch.save(view, path)
        yield ids_are_the_same, path, []


def refused_files(folder):
    """(file, word) of what torch.save writes that is no token file."""
    ids = torch.arange(9)
    for name, value, word, options in (
            ("floats", ids.float(), "FloatStorage", {}), ("bools", ids > 3, "BoolStorage", {}),
            ("dict", {"ids": ids}, "type dict", {}), ("list", [ids], "type list", {}),
            ("none", ids[:0], "no ids", {}), ("uint16", ids.to(torch.uint16), "PyTorch 2", {}),
            ("before-1.6", ids, "1.6", {"_use_new_zipfile_serialization": False})):
        path = os.path.join(folder, "refused." + name)
        torch.save(value, path, **options)
        yield path, word


def random_files(folder):
    """(check, file, options) of files that torch.save writes here."""
    torch.manual_seed(1)
    for number, rate in enumerate((0, 0.02, 0.5)):
        path = os.path.join(folder, "%d.neuron.pth" % number)
        torch.save([[torch.nonzero(torch.rand(300) < rate).flatten() for _ in range(9)]
                    for _ in range(2 + number)], path)
        yield lists_come_back, path, ["--neurons", "300"]
    for n in (1000, 99999744, 1 << 40):
        path = os.path.join(folder, "%d.pt" % n)
        kind = torch.int32 if n < 1 << 31 else torch.int64
        over_zero = (torch.rand(3, 7, dtype=torch.float64) * n).to(kind)
        torch.save({"n": n, "over_zero": over_zero}, path)
        yield counts_come_back, path, []
    names = sorted(os.listdir(OFFICIAL)) if os.path.isdir(OFFICIAL) else []
    for name in names:
        check = {"pth": lists_come_back, ".pt": counts_come_back}.get(name[-3:])
        if check:
            yield check, os.path.join(OFFICIAL, name), []
    if not names:
        print("skipped: the published files: no", OFFICIAL)


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        for check, path, options in [*random_files(folder), *token_files(folder)]:
            def there_and_back():
                good = check(path, folder, *options)
                return good, "comes back" if good else "comes back otherwise"
            checks.check(os.path.basename(path), there_and_back)
        for path, word in refused_files(folder):
            def refused():
                try:
                    ids_are_the_same(path, folder)
                except RuntimeError as problem:
                    return word in str(problem), problem
                return False, "is read"
            checks.check(os.path.basename(path), refused)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
