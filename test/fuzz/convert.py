#!/usr/bin/env python3
"""tools/convert.py on files that are changed by chance, as many as there is time for.

A small checkpoint of every family, kind of tokenizer and way to store weights, and one of each
other kind of file, are changed by their structure (mutate.py) and converted, each in a process of
its own with little memory and time. What is wrong is kept in a folder, with the command that shows
it again: another status than 0 or 1, more on stderr than one line of the tool's, what is left after
a failure, a process that is killed; and a model that is made and that `lape info` refuses. By the
standard library alone. The last line on stdout is `N passed, N failed`.
"""

import argparse
import collections
import os
import random
import resource
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback

from paths import LAPE
sys.path.append(sys.path.pop(0))      # last: the tool, too, is called convert
import convert
import test_convert
import test_fields_convert
import test_fields_tokenizer
from fields import Fields
from mutate import mutated
from test_convert import Pt, counts_file, npy_file

SECONDS, MEMORY, FILE = 10, 3 << 30, 1 << 26         # of a conversion
Base = collections.namedtuple("Base", "files args out")
Done = collections.namedtuple("Done", "status out err")


# ---- What is changed ----------------------------------------------------------------------------

def folder_of(path):
    """name -> contents of the files in a folder."""
    found = {}
    for name in sorted(os.listdir(path)):
        with open(os.path.join(path, name), "rb") as file:
            found[name] = file.read()
    return found


def checkpoints():
    """The bases of the tests of fields, by name."""
    for module in test_fields_convert, test_fields_tokenizer:
        for kind in vars(module).values():
            if not (isinstance(kind, type) and issubclass(kind, Fields) and kind.bases):
                continue
            case = kind("test_rows")
            case.setUp()
            for base in case.bases:
                case.files(base)
                yield base, folder_of(case.model)
            case.doCleanups()


def others():
    """A file of each other kind, by name, with the command that reads it."""
    pt = Pt()
    lists = pt.file([[pt.tensor([0, 5], (2,), "q"), pt.tensor([], (0,), "q")],
                     [pt.tensor([5], (1,), "q"), pt.tensor([3], (1,), "q")]])
    ids = Pt()
    yield "counts.pt", counts_file([1, 2, 3, 4, 5, 6], (2, 3), 9), ["counts", "en={}"], "out.gguf"
    yield ("counts.npy", npy_file("<i8", (2, 3), struct.pack("<6q", *range(6))),
           ["counts", "en={}", "--tokens", "en=9"], "out.gguf")
    yield "x.neuron.pth", lists, ["neurons", "{}", "--langs", "b,a", "--neurons", "6"], "out.tsv"
    yield ("neurons.tsv", test_convert.Released.TABLE.encode(), ["neurons", "{}"], "out.pth")
    yield "id.en", ids.file(ids.tensor([1, 2, 3, 4], (2, 2), "q")), ["ids", "{}"], "out.npy"


def counts_gguf():
    """A counts file, as the tool itself makes it."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = os.path.join(folder, "en.pt"), os.path.join(folder, "out.gguf")
        with open(source, "wb") as file:
            file.write(counts_file([1, 2, 3, 4, 5, 6], (2, 3), 9))
        convert.main(["counts", "en=" + source, "-o", out, "-q"])
        with open(out, "rb") as file:
            return file.read()


def all_bases():
    found = []
    for _, files in checkpoints():
        found.append(Base(files, ["hf", "", "--name", "x"], "out.gguf"))
        found.append(Base({"config.json": files["config.json"]},
                          ["random", "config.json", "--name", "x"], "out.gguf"))
    for name, data, args, out in others():
        found.append(Base({name: data}, [arg.replace("{}", name) for arg in args], out))
    found.append(Base({"counts.gguf": counts_gguf()}, ["counts", "counts.gguf"], "activation.LANG.pt"))
    return found


# ---- One conversion -----------------------------------------------------------------------------

def arguments(base, folder, out):
    """The command line over files in a folder."""
    found = []
    for arg in base.args:
        label, equals, name = arg.rpartition("=")
        inside = name in base.files or name == ""
        found.append(label + equals + os.path.join(folder, name).rstrip("/") if inside else arg)
    return found + ["-o", os.path.join(out, base.out), "-q"]


def child(args, err):
    """Runs in a process of its own, which it ends."""
    status = 99
    try:
        os.dup2(err.fileno(), 2)
        sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace")
        convert.PERIOD = 1021                        # of random numbers, which take their time
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(SECONDS)
        status = convert.main(args)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 98
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def run(args):
    with tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        number = os.fork()
        if number == 0:
            child(args, err)
        status = os.waitpid(number, 0)[1]
        err.seek(0)
        said = err.read().decode("utf-8", "replace")
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status), said


def problem_of(status, said, out, model):
    """What is wrong with how a conversion ended, or None."""
    left = os.listdir(out)
    if status < 0:
        return "killed by signal %d after up to %d seconds" % (-status, SECONDS)
    if status not in (0, 1):
        return "status %d" % status
    if status == 1 and (not said.startswith("convert.py: ") or said.count("\n") != 1):
        return "no refusal in one line"
    if "refused, since reading it fails" in said:    # by the last handler: no reader has seen it
        return "not foreseen"
    if status == 1 and left:
        return "left behind: %s" % left
    if status == 0 and (said or not left):
        return "no output, or more than that"
    if status == 0 and model and os.path.exists(LAPE):
        done = subprocess.run([LAPE, "info", os.path.join(out, left[0])], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60)
        if done.returncode:
            return "lape info: %s" % done.stderr.decode(errors="replace").strip()
    return None


def attempt(base, files, work):
    """Converts the files; (status, stderr, what is wrong)."""
    folder, out = os.path.join(work, "in"), os.path.join(work, "out")
    for path in folder, out:
        shutil.rmtree(path, ignore_errors=True)
        os.mkdir(path)
    for name, data in files.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
    status, said = run(arguments(base, folder, out))
    return status, said, problem_of(status, said, out, base.args[0] in ("hf", "random"))


def keep(place, base, work, problem, said):
    """Saves a finding, and prints it with the command that shows it again."""
    os.makedirs(place)
    shutil.copytree(os.path.join(work, "in"), os.path.join(place, "in"))
    command = [sys.executable, convert.__file__] + arguments(base, os.path.join(place, "in"), place)
    with open(os.path.join(place, "command"), "w", encoding="utf-8") as file:
        file.write(" ".join(map(shlex.quote, command)) + "\n" + said)
    print("FAIL %s: %s: %s" % (place, problem, said.strip()[-300:]), flush=True)


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10, help="of work (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the changes (default: 0)")
    parser.add_argument("--keep", metavar="DIR", default="build/fuzz-convert",
                        help="where findings are kept (default: build/fuzz-convert)")
    args = parser.parse_args(argv)
    if os.access("/dev/shm", os.W_OK):
        tempfile.tempdir = "/dev/shm"
    rng, bases, count, ends = random.Random(args.seed), all_bases(), 0, collections.Counter()
    until = time.monotonic() + args.seconds
    with tempfile.TemporaryDirectory() as work:
        for base in bases:                           # as they are, all are converted
            status, said, problem = attempt(base, base.files, work)
            if status or problem:
                raise SystemExit("a base is refused: %s: %s" % (base.args, said or problem))
        while time.monotonic() < until:
            base, count = rng.choice(bases), count + 1
            files = dict(base.files)
            for _ in range(rng.choice([1, 1, 1, 2])):
                name = rng.choice(sorted(files))
                try:
                    files[name] = mutated(rng, name, files[name])
                except Exception:                    # what is changed already may be no such file
                    files[name] = files[name][:len(files[name]) // 2]
            status, said, problem = attempt(base, files, work)
            ends["findings" if problem else "acceptances" if status == 0 else "refusals"] += 1
            if problem:
                keep(os.path.abspath(os.path.join(args.keep, "%d-%d" % (args.seed, count))), base,
                     work, problem, said)
    print("%d executions: %d refusals, %d acceptances, %d findings"
          % (count, ends["refusals"], ends["acceptances"], ends["findings"]))
    print("%d passed, %d failed" % (count - ends["findings"], ends["findings"]))
    return int(ends["findings"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
