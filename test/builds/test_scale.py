#!/usr/bin/env python3
"""Counting by a scheduler: Slurm's (tools/slurm.sbatch) and GNU parallel, both run for real.

Slurm is a node of its own, started here for two tasks at once and stopped again. What is not
installed is said and counted neither as passed nor as failed: Debian's slurm-wlm, parallel.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from paths import DEMO, LAPE, ROOT
import report

TEXTS = ["%s=%s" % (language, os.path.join(ROOT, "demo", "text", language + ".count.txt"))
         for language in ("en", "fr", "zh")]
SEQ = ["--seq", "64"]
CONFIG = """\
ClusterName=test
SlurmctldHost=%(host)s(127.0.0.1)
SlurmUser=root
SlurmctldPort=%(port)d
SlurmdPort=%(next)d
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
StateSaveLocation=%(folder)s/state
SlurmdSpoolDir=%(folder)s/spool
SlurmctldPidFile=%(folder)s/slurmctld.pid
SlurmdPidFile=%(folder)s/slurmd.pid
SlurmctldLogFile=%(folder)s/slurmctld.log
SlurmdLogFile=%(folder)s/slurmd.log
NodeName=%(host)s NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=%(host)s Default=YES MaxTime=INFINITE State=UP
"""


def missing(*programs):
    """A word of what is not installed, or None."""
    absent = [p for p in programs if not shutil.which(p)]
    return ", ".join(absent) + " not installed" if absent else None


def run(*words, **how):
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True, **how)


class Slurm:
    """A controller and one node with two processors."""

    def __init__(self, folder):
        for name in "state", "spool":
            os.makedirs(os.path.join(folder, name))
        port = 20000 + os.getpid() % 20000
        config = os.path.join(folder, "slurm.conf")
        with open(config, "w", encoding="ascii") as f:
            f.write(CONFIG % {"host": os.uname().nodename, "port": port, "next": port + 1,
                              "folder": folder})
        self.environment = dict(os.environ, SLURM_CONF=config)
        self.daemons = [
            subprocess.Popen([daemon, "-D"], env=self.environment, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL) for daemon in ("slurmctld", "slurmd")]
        self.wait(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%t"), "the node is not up")

    def ask(self, *words):
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True,
                              timeout=60, check=False)
        return done.stdout

    def wait(self, condition, problem):
        for _ in range(600):
            if condition():
                return
            time.sleep(.1)
        raise RuntimeError(problem)

    def finish(self):
        """Waits until no job is left."""
        self.wait(lambda: not self.ask("squeue", "-h").strip(), "jobs do not end")

    def stop(self):
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in self.daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


class Scale(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.whole = self.path("whole.gguf")
        run(LAPE, "count", DEMO, *TEXTS, *SEQ, "-q", "-o", self.whole)

    def path(self, name):
        return os.path.join(self.folder, name)

    def same(self, path):
        with open(self.whole, "rb") as a, open(path, "rb") as b:
            self.assertEqual(a.read(), b.read())

    @unittest.skipIf(missing("parallel"), missing("parallel"))
    def test_parallel(self):
        """The line of doc/speed.md, but for the model, the texts and their places."""
        line = ("seq 5 | parallel -j 2 --halt now,fail=1 %s count %s %s -t 1 -q --shard {}/5 "
                "-o counts.{}.gguf && %s merge counts.?.gguf -o counts.gguf"
                % (LAPE, DEMO, " ".join(TEXTS + SEQ), LAPE))
        run("sh", "-c", line, cwd=self.folder)
        self.same(self.path("counts.gguf"))

    @unittest.skipIf(missing("sbatch", "slurmctld", "slurmd") or os.getuid() != 0 and "not root",
                     missing("sbatch", "slurmctld", "slurmd") or "needs root")
    def test_slurm(self):
        slurm = Slurm(self.path("slurm"))
        self.addCleanup(slurm.stop)
        script = os.path.join(ROOT, "tools", "slurm.sbatch")

        def submit(counts, model=DEMO):
            done = run(script, model, counts, *TEXTS, *SEQ, "-q", cwd=self.folder,
                       env=dict(slurm.environment, LAPE=LAPE, SHARDS="5"))
            self.assertRegex(done.stdout, r"^[0-9]+ [0-9]+\n$")
            slurm.finish()

        submit("counts.gguf")
        self.same(self.path("counts.gguf"))
        self.assertEqual([n for n in os.listdir(self.folder) if "-of-" in n], [])
        # A shard that fails keeps the merge from running; the others' work is there the next time.
        submit("other.gguf", self.path("later.gguf"))
        self.assertFalse(os.path.exists(self.path("other.gguf")))
        shutil.copy(DEMO, self.path("later.gguf"))
        part = self.path("other.gguf.3-of-5")
        with open(part, "w", encoding="ascii") as f:
            f.write("kept")                # which no merge takes
        submit("other.gguf", self.path("later.gguf"))
        self.assertFalse(os.path.exists(self.path("other.gguf")))
        with open(part, encoding="ascii") as f:
            self.assertEqual(f.read(), "kept")
        run(LAPE, "count", self.path("later.gguf"), *TEXTS, *SEQ, "-q", "--shard", "3/5", "-o", part)
        submit("other.gguf", self.path("later.gguf"))
        self.same(self.path("other.gguf"))

    def test_usage(self):
        done = subprocess.run([os.path.join(ROOT, "tools", "slurm.sbatch")], capture_output=True,
                              text=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("SHARDS=64 tools/slurm.sbatch MODEL COUNTS", done.stderr)


if __name__ == "__main__":
    sys.exit(report.main())
