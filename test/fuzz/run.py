#!/usr/bin/env python3
"""Runs the targets of build/fuzz/fuzz, one after the other, from seeds and from what was found before.

    python3 test/fuzz/run.py [-h] [--seconds N] [--replay] [TARGET...]

`make fuzz SECONDS=N` builds it first. What leads to new code stays in build/fuzz/corpus/TARGET, the
inputs of findings in build/fuzz/findings/TARGET. With --replay each seed and each input of
test/fuzz/regressions/ goes once through build/fuzz/replay, which any compiler makes: what
`make test` does. The last line on stdout is `N passed, N failed`, in targets.
"""

import argparse
import glob
import os
import re
import subprocess
import sys
import tempfile
import time

from paths import ROOT

import seeds

BUILD = os.path.join(ROOT, "build", "fuzz")
KNOWN = os.path.join(ROOT, "test", "fuzz", "regressions")
DICTIONARY = os.path.join(ROOT, "test", "fuzz", "dictionary")
LIMITS = {"model": 16384, "split": 8192, "counts": 12288, "partial": 8192, "neurons": 4096,
          "ids": 4096, "text": 1024, "encode": 1024, "vocabulary": 1024}
SAN = {"ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=0:handle_abort=1",
       "UBSAN_OPTIONS": "print_stacktrace=1"}
WHY = re.compile("^(FOUND: .*|SUMMARY: .*|==[0-9]+== ?ERROR: .*|.*: runtime error: .*)$", re.M)


def files_of(*folders):
    return sorted(path for folder in folders for path in glob.glob(os.path.join(folder, "*"))
                  if os.path.isfile(path))


def edges(log):
    """[(executions, edges)] as libFuzzer says them on its way."""
    return [(int(n), int(cov)) for n, cov in re.findall(r"^#(\d+)\t.*?cov: (\d+)", log, re.M)]


def new_at_the_end(seen):
    """Edges that the last tenth of all executions added."""
    before = [cov for n, cov in seen if n <= seen[-1][0] * .9]
    return seen[-1][1] - (before or [0])[-1]


def show(*columns):
    print("%-12s%12s%10s%8s%8s  %s" % columns, flush=True)


def fuzz(target, folder, room, seconds):
    """One run of libFuzzer, which ends with the first finding. Whether there was none."""
    corpus, findings = (os.path.join(BUILD, kind, target) for kind in ("corpus", "findings"))
    for path in corpus, findings:
        os.makedirs(path, exist_ok=True)
    before = set(files_of(findings))
    command = [os.path.join(BUILD, "fuzz"), "--target=" + target, corpus,
               os.path.join(folder, target), *[d for d in [os.path.join(KNOWN, target)]
                                               if os.path.isdir(d)],
               "-max_total_time=%d" % seconds, "-timeout=20", "-rss_limit_mb=3000",
               "-max_len=%d" % LIMITS[target], "-dict=" + DICTIONARY, "-close_fd_mask=1",
               "-use_value_profile=1", "-reload=0", "-artifact_prefix=%s%s" % (findings, os.sep)]
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
                          env=dict(os.environ, TMPDIR=room, **SAN))
    log = done.stderr.decode(errors="replace")
    with open(os.path.join(BUILD, target + ".log"), "w", encoding="utf-8") as file:
        file.write(log)
    seen = edges(log)
    seen = seen or [(0, 0)]                           # a seed alone is a finding
    found = sorted(set(files_of(findings)) - before)
    show(target, seen[-1][0], int(seen[-1][0] / (time.monotonic() - start)), seen[-1][1], new_at_the_end(seen),
         "none" if done.returncode == 0 else " ".join(os.path.relpath(p, ROOT) for p in found))
    if done.returncode:
        print("  " + "\n  ".join(WHY.findall(log)[:4] or log[-500:].split("\n")))
    return done.returncode == 0


def replay(target, folder, room):
    """Every input once, without a fuzzer. Whether all went through."""
    inputs = files_of(os.path.join(folder, target), os.path.join(KNOWN, target))
    done = subprocess.run([os.path.join(BUILD, "replay"), target, *inputs], check=False,
                          env=dict(os.environ, TMPDIR=room), stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE)
    if done.returncode:
        print("%s: status %d after\n%s" % (target, done.returncode,
                                           done.stderr.decode(errors="replace")[-500:]))
    return done.returncode == 0


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="of: " + " ".join(LIMITS))
    parser.add_argument("--seconds", type=int, default=60, help="of every target (60)")
    parser.add_argument("--replay", action="store_true")
    args = parser.parse_args(words)
    for target in args.targets:
        if target not in LIMITS:
            parser.error("no target is called " + target)
    failed, targets = 0, args.targets or list(LIMITS)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None   # inputs become files there
    with tempfile.TemporaryDirectory(prefix="lape-seeds.") as folder, \
            tempfile.TemporaryDirectory(prefix="lape-fuzz.", dir=memory) as room:
        seeds.write(folder)
        if not args.replay:
            show("target", "executions", "/s", "edges", "new", "findings")
        for target in targets:
            failed += not (replay(target, folder, room) if args.replay
                           else fuzz(target, folder, room, args.seconds))
    print("%d passed, %d failed" % (len(targets) - failed, failed))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
