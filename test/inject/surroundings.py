#!/usr/bin/env python3
"""What lape does where its surroundings fail: a full disk, a folder that cannot be written to, closed
descriptors, a standard output that takes nothing.

    python3 test/inject/surroundings.py [--quick]

What is right is told in expect.py. Beside that: a closed descriptor is never taken for a file of the
program's own, so that no message ends up in a result; a pipe that nobody reads ends the program
quietly, as it does others, or, where that signal is ignored, with its line.

Real file systems of little room, and one that is read only, want root; what cannot be made is listed
as skipped. Standard library only. The last line is `N passed, N failed`.
"""

import argparse
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile

import cases
import expect
from report import Checks

PAGE = 4096
FULL = "/dev/full"


class Surroundings:
    """Runs of all cases, and one line for each thing that is tried."""

    def __init__(self, place, quick):
        self.place, self.quick, self.checks = place, quick, Checks()
        self.cases = place.cases()
        self.writers = [case for case in self.cases if case.writes and case.status == 0]

    def start(self, case, older=True):
        before = case.start_files(older)
        self.place.set(before)
        return before

    def good(self, case):
        self.start(case)
        return cases.run(case, self.place)

    def say(self, what, tried, wrong):
        """The runs that went wrong, at most three of them, then the line of what was tried."""
        for line in wrong[:3]:
            print("   " + line)
        self.checks.say(not wrong and tried, "%s: %d runs%s" % (
            what, tried, ", %d with another end than expected" % len(wrong) if wrong else ""))


def line(case, wrong, now, how):
    """A run to try again, and what was wrong with it."""
    said = now[2].decode("utf-8", "replace").strip()
    return "lape %s [%s]: %s%s" % (shlex.join(case.words), how, wrong, " (%s)" % said if said else "")


# ---- A full disk ---------------------------------------------------------------------------------

def steps(size, quick):
    """How many bytes a file of `size` may have, so that it comes to an end at every place that
    matters: before, at and behind each block that is written, and one byte before the end."""
    every = {0, 1, size - 1, *range(PAGE - 1, size, PAGE), *range(PAGE, size, PAGE)}
    most = sorted(n for n in every if 0 <= n < size)
    return most if not quick else sorted({most[0], most[len(most) // 2], most[-1]})


def limited(bytes_):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))
    return limit


def file_limits(s):
    """A file that may not grow any more, as by `ulimit -f`."""
    for case in s.writers:
        good, tried, wrong = s.good(case), 0, []
        size = max(len(data) for data in good[3].values() if isinstance(data, bytes))
        for most in steps(size, s.quick):
            before = s.start(case, most % 2)
            now = cases.run(case, s.place, before=limited(most))
            bad = expect.complaint(case, before, good, now, "fwrite")
            if not bad and case.resumable and "out.partial" in now[3]:
                bad = expect.resumed(case, s.place, good)
            wrong += [line(case, bad, now, "ulimit of %d bytes" % most)] * bool(bad)
            tried += 1
        s.say("files that may not grow, " + case.name, tried, wrong)


class Small:
    """A file system of so many pages over the folder that cases run in."""

    def __init__(self, place, pages):
        self.at, self.size = place.out, pages * PAGE

    def __enter__(self):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d" % self.size, "none", self.at],
                       check=True, capture_output=True)

    def __exit__(self, *_):
        subprocess.run(["umount", self.at], check=True)

    def read_only(self):
        subprocess.run(["mount", "-o", "remount,ro", self.at], check=True)


def can_mount(place):
    try:
        with Small(place, 1):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def full_disks(s):
    for case in s.writers:
        good, tried, wrong = s.good(case), 0, []
        pages = sum(-(-len(data) // PAGE) for data in good[3].values() if isinstance(data, bytes))
        sizes = range(1, pages + 4)
        for size in sizes if not s.quick else [1, pages - 1 or 1, pages + 3]:
            with Small(s.place, size):
                try:
                    before = s.start(case, False)
                except OSError:      # what has to lie there from the start has no room
                    continue
                now = cases.run(case, s.place)
                bad = expect.complaint(case, before, good, now)
                wrong += [line(case, bad, now, "disk of %d pages" % size)] * bool(bad)
                tried += 1
        s.say("a full disk, " + case.name, tried, wrong)


# ---- A folder that cannot be written to --------------------------------------------------------

def refused(s, case, wrong, how, before):
    now = cases.run(case, s.place)
    bad = expect.complaint(case, before, (0, b"", b"", before), now, "fwrite")
    wrong += [line(case, bad, now, how)] * bool(bad)


def read_only_folders(s, mounted):
    wrong = []
    for case in s.writers:
        if mounted:
            small = Small(s.place, 64)
            with small:
                before = s.start(case)
                small.read_only()
                refused(s, case, wrong, "read-only", before)
            continue
        before = s.start(case)
        os.chmod(s.place.out, 0o555)
        refused(s, case, wrong, "mode 555", before)
        os.chmod(s.place.out, 0o755)
    s.say("a folder that cannot be written to", len(s.writers), wrong)


# ---- Closed descriptors ------------------------------------------------------------------------

def ended(case, good, now, closed):
    """What is wrong with a run whose descriptors `closed` were: those that it needs it must miss,
    and the others it must not."""
    status, out, said, found = now
    needs = (0 in closed and bool(case.stdin)) or (1 in closed and bool(good[1]))
    if needs and status != 1:
        return "status %s, without what it needs" % status
    if not needs and (status != good[0] or (1 not in closed and out != good[1])):
        return "status %s, with all that it needs" % status
    if needs and 2 not in closed and expect.message(said, case.loud):
        return expect.message(said, case.loud)
    return expect.same_files(case, found, case.start_files(True) if needs else good[3])


def closed_descriptors(s):
    for closed in (0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2):
        wrong = []
        shut = " ".join("%d>&-" % fd for fd in closed)
        for case in s.cases:
            good = s.good(case)
            s.start(case)
            now = cases.run(case, s.place, wrap=["sh", "-c", 'exec "$@" ' + shut, "sh"])
            bad = ended(case, good, now, closed)
            wrong += [line(case, bad, now, shut)] * bool(bad)
        s.say("closed: " + shut, len(s.cases), wrong)


# ---- A standard output that takes nothing --------------------------------------------------------

def printing(s):
    for case in s.cases:
        good = s.good(case)
        if good[1]:
            yield case, good, s.start(case)


def full_output(s):
    tried, wrong = 0, []
    for case, good, before in printing(s):
        with open(FULL, "wb") as full:
            now = cases.run(case, s.place, stdout=full)
        bad = expect.complaint(case, before, good, now, "fwrite")
        wrong += [line(case, bad, now, "> " + FULL)] * bool(bad)
        tried += 1
    s.say("standard output to " + FULL, tried, wrong)


def deaf(s, case, stream, ignore):
    """A run whose `stream` is a pipe that nobody reads."""
    def no_signal():
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return cases.run(case, s.place, before=no_signal if ignore else None, **{stream: writing})
    finally:
        os.close(writing)


def closed_pipes(s):
    for ignored in False, True:
        tried, wrong = 0, []
        for case, good, before in printing(s):
            now = deaf(s, case, "stdout", ignored)
            bad = (expect.complaint(case, before, good, now, "fwrite") if ignored else
                   "status %s and not the signal's" % now[0] if now[0] != -signal.SIGPIPE else
                   "not quiet" if now[2] else expect.same_files(case, now[3], before))
            wrong += [line(case, bad, now, "stdout: closed pipe")] * bool(bad)
            tried += 1
        s.say("standard output a pipe that nobody reads, the signal %s" % (
            "ignored" if ignored else "as it is"), tried, wrong)


def closed_pipe_of_messages(s):
    """Progress that nobody reads: `lape count ... 2>&1 | head`. Nothing is left half done."""
    wrong, loud = [], [case for case in s.cases if case.loud]
    for case in loud:
        good = s.good(case)
        for ignored in False, True:
            before = s.start(case)
            now = deaf(s, case, "stderr", ignored)
            bad = (expect.same_files(case, now[3], before) if now[0] == -signal.SIGPIPE else
                   expect.same_files(case, now[3], good[3]) if now[0] == 0 else
                   "status %s" % now[0])
            wrong += [line(case, bad, now, "stderr: closed pipe")] * bool(bad)
    s.say("standard error a pipe that nobody reads", 2 * len(loud), wrong)


# ---- The command line ----------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer sizes of files and disks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="surroundings.") as folder:
        s = Surroundings(cases.Place(folder), options.quick)
        mounts = can_mount(s.place)
        file_limits(s)
        if mounts:
            full_disks(s)
        else:
            print("skipped: a full disk: no file system can be mounted here, which root can")
        if mounts or os.geteuid():
            read_only_folders(s, mounts)
        else:
            print("skipped: a folder that cannot be written to: root can write, and not mount")
        closed_descriptors(s)
        if os.path.exists(FULL):
            full_output(s)
        else:
            print("skipped: standard output to %s: there is none" % FULL)
        closed_pipes(s)
        closed_pipe_of_messages(s)
    return s.checks.end()


if __name__ == "__main__":
    sys.exit(main())
