"""Runs a command; the last line on standard error is its seconds, its peak of memory in bytes, and
that of what is no file's: pages of mapped files can be dropped, and read again.

    python3 -S time_and_peak.py COMMAND...

A process of its own and small, since the system counts a child's peak from that of its parent.
"""

import os
import re
import subprocess
import sys
import threading
import time

FIRST, EVERY = .0002, .02     # seconds between two looks at what is no file's: at first, in the end


def anonymous(pid):
    try:
        with open("/proc/%d/status" % pid, encoding="ascii", errors="replace") as file:
            found = re.search(r"RssAnon:\s*(\d+) kB", file.read())
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else 0


def watch(pid, seen, ended):
    pause = FIRST
    while not ended.wait(pause):
        seen.append(anonymous(pid))
        pause = min(2 * pause, EVERY)


start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:])
own, ended = [0], threading.Event()
threading.Thread(target=watch, args=(child.pid, own, ended), daemon=True).start()
_, status, usage = os.wait4(child.pid, 0)
seconds = time.perf_counter() - start
ended.set()
code = os.waitstatus_to_exitcode(status)
if code:
    sys.exit("ended by signal %d" % -code if code < 0 else 1)
print(seconds, usage.ru_maxrss * 1024, max(own), file=sys.stderr)
