#!/usr/bin/env python3
"""What lape leaves behind when it is stopped, killed, robbed of its model, or not alone.

    python3 test/inject/moments.py [--quick] [--seed S]

At a random moment of a run, commands that write get

- SIGINT, SIGTERM, SIGHUP or SIGPIPE: the run ends by that signal, and everything lies there as it did
  before, but for what --save-every has saved, which is good to go on from; or the run was done, and
  its result is there, whole. One that was told to ignore the signal goes on, as under nohup.
- a model that is cut short: status 1 and one line, and nothing left behind; or the run was done.
- SIGKILL, a count that saves all the time: what lies there then is a saved state and files that are
  called temporary, nothing else. Gone on with, it ends with the very bytes of a run that was left
  alone.
- company: two commands with the same -o. The result is that of the one or of the other.

Standard library only. The last line is `N passed, N failed`.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

import cases
import expect
from paths import DEMO, LAPE
from report import Checks

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE]
TEMPORARY = re.compile(r"out(\.partial)?\.\d+\.\d+\.tmp")
LONG = "en=../in/long.txt fr=../in/fr.txt --seq 24 -t 2"
SAVING = "count ../in/model --batch 4 --save-every .004 -o out " + LONG
# How often, and how often in the quick form.
TIMES = {"stop": (40, 4), "cut": (60, 8), "kill": (200, 10), "race": (150, 20)}


def commands():
    """Those that write, for so long that a moment can be hit."""
    ablated = "--neurons ../in/neurons -o out"
    return [
        cases.Case("count", "count ../in/model -o out " + LONG),
        cases.Case("count, loud", "count ../in/model -o out " + LONG, loud=True),
        cases.Case("count --save-every", SAVING, resumable=True),
        cases.Case("ppl", "ppl ../in/model %s %s" % (LONG, ablated)),
        cases.Case("generate", "generate ../in/model -t 1 -p the -n 500 --off en " + ablated),
        cases.Case("bake", "bake ../in/demo --off en --neurons ../in/demo.neurons -o out"),
        cases.Case("trace", "trace ../in/model ../in/long.txt --at resid --seq 24 -t 1 -o out"),
        cases.Case("merge", "merge %s -o out" % " ".join(["../in/demo.counts"] + ["../in/demo.more"])),
    ]


def cut_commands():
    """Those that go on reading their model's file."""
    text = "en=../in/demo.txt --seq 32 -o out"
    return [
        cases.Case("count", "count cut -t 2 --batch 1 " + text),
        cases.Case("count --save-every", "count cut -t 1 --batch 1 --save-every .01 " + text,
                   resumable=True),
        cases.Case("ppl", "ppl cut -t 2 --batch 1 " + text),
        cases.Case("generate", "generate cut -t 2 -p The -n 60 -o out"),
        cases.Case("bake", "bake cut --neurons ../in/demo.neurons --off en -o out"),
        cases.Case("trace", "trace cut ../in/demo.txt --at logits --tokens 400 -t 1 -o out"),
    ]


def more_inputs(folder):
    """A long text; the demo model, whose file is large enough to be cut, and what goes with it."""
    def path(name):
        return os.path.join(folder, "in", name)

    with open(path("long.txt"), "wb") as file:
        file.write(cases.TEXTS["en"] * 300)
    with open(path("demo.txt"), "wb") as file:
        file.write(cases.TEXTS["en"] * 25)
    os.symlink(DEMO, path("demo"))
    for name, shard in ("demo.counts", "1/2"), ("demo.more", "2/2"):
        subprocess.run([LAPE, "count", "demo", "en=en.txt", "fr=fr.txt", "--seq", "8", "--shard",
                        shard, "-o", name, "-q"], cwd=path(""), check=True)
    subprocess.run([LAPE, "find", "demo.counts", "--top", ".1", "--filter", ".3", "-o",
                    "demo.neurons", "-q"], cwd=path(""), check=True)


class Moments:
    def __init__(self, place, options):
        self.place, self.quick, self.checks = place, options.quick, Checks()
        self.rng = random.Random(options.seed)
        self.files = {}

    def times(self, what):
        return TIMES[what][self.quick]

    def more(self, what, hit, tried):
        """Whether to go on: a short run is over before some of the moments."""
        return hit < self.times(what) and tried < 3 * self.times(what)

    def good(self, case):
        """The run that is left alone, and how long it takes."""
        self.start(case, False)
        begun = time.monotonic()
        now = cases.run(case, self.place)
        if now[0] != 0:
            raise RuntimeError("%s: %s" % (case.name, now[2].decode("utf-8", "replace")))
        return now, time.monotonic() - begun

    def start(self, case, older):
        before = {**case.start_files(older), **self.files}
        self.place.set(before)
        return before

    def interrupted(self, case, most, what, before=None):
        """A run to which `what` happens some time in the next `most` seconds."""
        running = subprocess.Popen([LAPE, *case.words], cwd=self.place.out, preexec_fn=before,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        time.sleep(self.rng.uniform(0, most))
        what(running)
        try:
            out, said = running.communicate(timeout=cases.SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate()
            return None, b"", b"", self.place.found()
        return running.returncode, out, said, self.place.found()

    def tell(self, what, hit, tried, wrong):
        for line in sorted(set(wrong))[:3]:
            print("   %s (%d times)" % (line, wrong.count(line)))
        self.checks.say(not wrong and hit, "%s: %d of %d runs hit%s" % (
            what, hit, tried, ", %d with another end than expected" % len(wrong) if wrong else
            "" if hit else ": too late, all of them"))


def described(wrong, now):
    said = TEMPORARY.sub("out.PID.N.tmp", wrong or "")
    told = now[2].decode("utf-8", "replace").strip().split("\n")[-1]
    return said + (" (%s)" % told if told.startswith("lape:") else "")


# ---- Stopped -----------------------------------------------------------------------------------

def stopped(case, number, before, good, now):
    """What is wrong with a run that got this signal; None: nothing."""
    status, _, said, found = now
    if status is None:
        return "hangs"
    if status not in (0, -number):
        return "status %d" % status
    if len([line for line in said.split(b"\n") if line.startswith(b"lape:")]) > 1:
        return "more than one line"
    if expect.same_files(case, found, good[3]) is None:
        return None                  # it had its name already
    return expect.same_files(case, found, before if status else good[3])


def stops(m):
    for case in commands():
        good, most = m.good(case)
        for number in STOPS:
            hit, tried, wrong = 0, 0, []
            while m.more("stop", hit, tried):
                before = m.start(case, tried % 2)
                now = m.interrupted(case, most, lambda running: running.send_signal(number))
                bad = stopped(case, number, before, good, now)
                if not bad and case.resumable and "out.partial" in now[3]:
                    bad = expect.resumed(case, m.place, good)
                wrong += [described(bad, now)] * bool(bad)
                hit, tried = hit + (now[0] != 0), tried + 1
            m.tell("%s, %s" % (signal.Signals(number).name, case.name), hit, tried, wrong)


def ignored_stops(m):
    """Who starts a program may have it ignore a signal; then it does."""
    case = commands()[0]
    good, most = m.good(case)
    for number in STOPS:
        wrong, times = [], 2 if m.quick else 10
        for _ in range(times):
            m.start(case, True)
            now = m.interrupted(case, most, lambda running: running.send_signal(number),
                                lambda: signal.signal(number, signal.SIG_IGN))
            bad = "status %s" % now[0] if now[0] != 0 else expect.same_files(case, now[3], good[3])
            wrong += [described(bad, now)] * bool(bad)
        m.tell("%s ignored, %s" % (signal.Signals(number).name, case.name), times, times, wrong)


# ---- The model is cut short --------------------------------------------------------------------

def cuts(m):
    with open(DEMO, "rb") as file:
        model = file.read()
    m.files = {"cut": model}
    for case in cut_commands():
        good, most = m.good(case)
        hit, tried, wrong = 0, 0, []
        while m.more("cut", hit, tried):
            before = m.start(case, tried % 2)
            size = m.rng.choice([0, 4096, len(model) // 2 & -4096])
            now = m.interrupted(case, most, lambda _: os.truncate(
                os.path.join(m.place.out, "cut"), size))
            now[3]["cut"] = model    # what was done to it is not the program's doing
            bad = expect.complaint(case, before, good, now)
            wrong += [described(bad, now)] * bool(bad)
            hit, tried = hit + (now[0] != 0), tried + 1
        m.tell("model cut short, " + case.name, hit, tried, wrong)
    m.files = {}


# ---- Killed ------------------------------------------------------------------------------------

def kills(m):
    """Killed once, and again while it goes on; then it may end."""
    case = cases.Case("count --save-every --resume", SAVING + " --resume", resumable=True)
    good, most = m.good(case)
    hit, saved, wrong = 0, 0, []
    for _ in range(m.times("kill")):
        m.place.set({})
        for _ in range(2):
            now = m.interrupted(case, most, subprocess.Popen.kill)
            hit += now[0] != 0
        saved += "out.partial" in now[3]
        left = [name for name in now[3] if not TEMPORARY.fullmatch(name)]
        now = cases.run(case, m.place)
        bad = ("left: " + ", ".join(left) if set(left) - {"out", "out.partial"} else
               "status %s" % now[0] if now[0] != 0 else
               "other bytes than of a run left alone" if now[3]["out"] != good[3]["out"] else
               "the saved state is left behind" if "out.partial" in now[3] else None)
        wrong += [described(bad, now)] * bool(bad)
    m.tell("SIGKILL, %d with a saved state, %s" % (saved, case.name), hit, 2 * m.times("kill"), wrong)


# ---- Two at once -------------------------------------------------------------------------------

def pairs():
    counts, ablated = "find ../in/counts --filter 0 -o out --top ", "bake ../in/demo -o out --off "
    return [("find", [counts + ".5", counts + "1"]),
            ("bake", [ablated + "%s --neurons ../in/demo.neurons" % label for label in ("en", "fr")]),
            ("count", ["count ../in/model --seq 8 -t 1 -o out en=../in/%s.txt" % label
                       for label in ("en", "fr")]),
            ("count --save-every", ["%s en=../in/%s.txt -o out" % (
                "count ../in/model --seq 8 --batch 2 -t 1 --save-every 1e-9", label)
                                    for label in ("en", "fr")])]


def races(m):
    for name, words in pairs():
        two = [cases.Case(name, one) for one in words]
        good = [m.good(case)[0][3]["out"] for case in two]
        wrong, first = [], 0
        for i in range(m.times("race")):
            m.start(two[0], i % 2)
            runs = [subprocess.Popen([LAPE, *case.words], cwd=m.place.out, stderr=subprocess.PIPE)
                    for case in two[::1 if i % 4 < 2 else -1]]
            ends = [(one.communicate(timeout=cases.SECONDS)[1], one.returncode) for one in runs]
            found = m.place.found()
            bad = ("status %s" % [status for _, status in ends] if ends != [(b"", 0)] * 2 else
                   "neither's bytes" if found.get("out") not in good else
                   "left: " + ", ".join(found) if set(found) != {"out"} else None)
            first += found.get("out") == good[0]
            wrong += [described(bad, (None, None, ends[0][0] or ends[1][0]))] * bool(bad)
        m.tell("two at once, %d times the one and %d the other, %s" % (
            first, m.times("race") - first, name), m.times("race"), m.times("race"), wrong)


# ---- The command line ----------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the moments")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (1)")
    parser.add_argument("--only", choices=["stops", "ignored", "cuts", "kills", "races"])
    options = parser.parse_args()
    for number in STOPS:                    # whoever started this may ignore one, as nohup does
        signal.signal(number, signal.SIG_DFL)
    parts = {"stops": stops, "ignored": ignored_stops, "cuts": cuts, "kills": kills, "races": races}
    with tempfile.TemporaryDirectory(prefix="moments.") as folder:
        m = Moments(cases.Place(folder), options)
        more_inputs(folder)
        for name, part in parts.items():
            if options.only in (None, name):
                part(m)
    return m.checks.end()


if __name__ == "__main__":
    sys.exit(main())
