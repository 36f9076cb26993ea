"""Runs a command and prints its seconds and the peak of its memory in bytes; its output is dropped.

    python3 -S measure.py COMMAND...

A process of its own and small, since the system counts a child's peak from that of its parent.
"""

import os
import subprocess
import sys
import time

start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(time.perf_counter() - start, usage.ru_maxrss * 1024)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
