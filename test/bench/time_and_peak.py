"""Runs a command; the last line on standard error is its seconds and its peak of memory in bytes.

    python3 -S time_and_peak.py COMMAND...

A process of its own and small, since the system counts a child's peak from that of its parent.
"""

import os
import subprocess
import sys
import time

start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(child.pid, 0)
if os.waitstatus_to_exitcode(status):
    sys.exit(1)
print(time.perf_counter() - start, usage.ru_maxrss * 1024, file=sys.stderr)
