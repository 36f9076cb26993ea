#!/usr/bin/env python3
"""What lape asks the system for beside memory and its files: nothing. By strace, over all commands
of cases.py.

    python3 test/inject/opened.py [--quick]

Every path that a call names has to be one that the command line names, or what comes of it: the
temporary file and the saved counts beside a result, the parts of a split model, the folder of a
result, which is written down for good. Then there are what the loader reads, libraries and their
list, and what SYSTEM tells. No other program is run, no process started but threads, no socket
opened. A list is printed of what was opened that no command line names.

Wants Linux and strace, or says that it is skipped. Standard library only. The last line is
`N passed, N failed`.
"""

import argparse
import collections
import os
import re
import shutil
import sys
import tempfile

import cases
from report import Checks

# What the C library asks on its own, and why.
SYSTEM = {
    "/etc/ld.so.preload": "the loader",
    "/etc/ld.so.cache": "the loader",
    "/sys/devices/system/cpu/online": "sysconf(_SC_NPROCESSORS_ONLN): how many threads",
    "/proc/stat": "the same, by an older C library",
    "/proc/meminfo": "sysconf(_SC_PHYS_PAGES), by an older C library: how many pieces at once",
    "/proc/sys/vm/overcommit_memory": "malloc of threads, when it gives memory back",
}
LIBRARY = re.compile(r"(/usr)?(/local)?/lib[\w./+-]*\.so[\w.]*$")
# Calls that start something, or speak to something.
NEVER = ("fork", "vfork", "execveat", "socket", "socketpair", "connect", "bind", "listen", "accept",
         "sendto", "recvfrom", "ptrace", "mount", "chroot", "kill")
TRACED = "%file,%network,%process"


def calls(log):
    """(name, what stands between its brackets) of every call."""
    with open(log, encoding="utf-8", errors="replace") as file:
        return re.findall(r"(?m)^(?:\d+ +)?(\w+)\((.*)$", file.read())


def named(case, folder):
    """Paths that the command line names."""
    words = [word for word in case.words]
    words += [word.split("=", 1)[1] for word in case.words if "=" in word]
    return {os.path.normpath(os.path.join(folder, word)) for word in words}


def foreign(path, mine, out):
    """Whether a path is neither of the command line nor of what comes of it."""
    path = os.path.normpath(os.path.join(out, path))
    if path in mine or path == out:
        return False
    whole = re.sub(r"(\.\d+\.\d+\.tmp|\.partial(\.\d+\.\d+\.tmp)?)$", "", path)
    part = re.sub(r"-\d{5}-of-", "-00001-of-", path)
    # a link's target is a result of its own
    linked = {os.path.realpath(p) for p in mine if os.path.islink(p)}
    return whole not in mine | linked and part not in mine and path not in linked


def look(case, place, log):
    """What a run does that it should not, and what it opens of the system's."""
    place.set(case.start_files(True))
    wrap = ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=" + TRACED, "-o", log]
    status, _, said, _ = cases.run(case, place, wrap=wrap)
    wrong, system = [], collections.Counter()
    if status != case.status:
        wrong.append("status %s: %s" % (status, said.decode(errors="replace")))
    mine = named(case, place.out)
    found = calls(log)
    if [name for name, _ in found].count("execve") != 1:
        wrong.append("runs another program")
    for name, rest in found:
        if name in NEVER or (name in ("clone", "clone3") and "CLONE_THREAD" not in rest):
            wrong.append("%s(%s" % (name, rest[:80]))
        for path in [] if name == "execve" else re.findall(r'"([^"]*)"', rest):
            if path in SYSTEM or LIBRARY.match(path):
                system[path] += 1
            elif path and foreign(path, mine, place.out):
                wrong.append("%s of %s" % (name, path))
    return wrong, system


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="all the same: it takes a second")
    parser.parse_args()
    checks = Checks()
    if not shutil.which("strace"):
        print("skipped: strace is not installed")
        return checks.end()
    system = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        place = cases.Place(os.path.realpath(folder))
        log = os.path.join(folder, "log")
        for case in place.cases():
            wrong, found = look(case, place, log)
            system.update(found)
            checks.say(not wrong, case.name + "".join("\n   " + line for line in wrong[:5]))
    for path, times in sorted(system.items()):
        print("     %4d x %s: %s" % (times, path, SYSTEM.get(path, "the loader")))
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
