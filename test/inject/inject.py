#!/usr/bin/env python3
"""Every call of the C library that lape makes, failing: memory, files, writing, threads.

    python3 test/inject/inject.py              what is told below
    python3 test/inject/inject.py --quick      a sample of it
    python3 test/inject/inject.py --case 'find -o' --call rename --how once --at 1

Each command is run with its first call of a function failing, then its second, and so on until a run
had none to fail; for every function, with one call failing (an older file lies where the result
goes) and with all from that one on (none does). A function that is called more than --most times has
its first calls and its last fail, and some between. Afterwards everything has to be as expect.py has
it. It also holds against what is expected the order in which results are written down for good:
fsync of the file, rename, fsync of the folder.

Wants glibc, and the shim of fail.c, which `make inject` builds. Standard library only. The last line
is `N passed, N failed`.
"""

import argparse
import collections
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile

import cases
import expect
from cases import SHIM
from paths import LAPE, ROOT
from report import Checks

WAYS = [("once", True), ("on", False)]           # how it fails, and whether an older file is there
ODD_READS = [("eintr", True), ("short", True)]   # those that are no failures, of read
SHOWN = 3                                        # failing runs of a function that are listed

# What the program may call that is not let fail here, and why not.
CANNOT = set("""_ITM_deregisterTMCloneTable _ITM_registerTMCloneTable __cxa_finalize __gmon_start__
    __libc_start_main __libc_start_call_main __stack_chk_fail stderr stdin stdout environ
    __errno_location __ctype_b_loc exit _exit abort free munmap ferror feof clearerr fileno fcntl
    memchr memcmp memcpy memmove memset qsort snprintf vsnprintf strcat strchr strrchr strcmp strcpy
    strncpy strcspn strerror strlen strncmp strspn strtod strtol strtoull strtoul sqrt sqrtf fma fmaf
    strsignal getpid isatty clock_gettime time sched_yield kill raise pause sigemptyset sigfillset
    sigaddset sigdelset sigprocmask pthread_sigmask pthread_self pthread_kill pthread_cond_broadcast
    pthread_cond_destroy pthread_cond_init pthread_cond_signal pthread_cond_wait pthread_join
    pthread_mutex_destroy pthread_mutex_init pthread_mutex_lock pthread_mutex_unlock dirname basename
    siglongjmp __sigsetjmp _setjmp longjmp""".split())
ALIASES = {"putc": "fputc", "putchar": "fputc", "puts": "fputs", "__sysv_signal": "signal",
           "__cxa_atexit": "atexit", "open64": "open", "fopen64": "fopen"}


# ---- One run -----------------------------------------------------------------------------------

def told_run(case, place, **plan):
    """A run under the shim, and the lines that it tells."""
    reading, writing = os.pipe()
    environment = {"LD_PRELOAD": SHIM, "FAIL_TOLD": str(writing)}
    environment.update({"FAIL_" + name.upper(): str(value) for name, value in plan.items()})
    try:
        now = cases.run(case, place, environment, writing)
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return now, pipe.read().decode("utf-8", "replace").splitlines()


class Trial:
    """A case, with an older file or without, and its good run."""

    def __init__(self, case, place, older):
        self.case, self.place, self.older = case, place, older
        self.before = case.start_files(older)
        place.set(self.before)
        self.good, lines = told_run(case, place)
        self.calls = {words[1]: int(words[2]) for words in map(str.split, lines)
                      if words[0] == "calls"}
        self.trace = [line for line in lines if not line.startswith("calls ")]
        if self.good[0] != case.status or not self.calls:
            raise RuntimeError("%s: status %s: %s" % (
                case.name, self.good[0], self.good[2].decode("utf-8", "replace").strip()))

    def fail(self, call, at, how):
        """Whether a call failed; and what is wrong then, or None."""
        self.place.set(self.before)
        now, lines = told_run(self.case, self.place, call=call, at=at, how=how)
        hit = bool(lines)
        odd = how in ("eintr", "short")
        wrong = expect.complaint(self.case, self.before, self.good, now,
                                 call if hit and not odd else None)
        if hit and odd and not wrong and now[0] != self.good[0]:
            wrong = "no failure, and it failed"
        if wrong or not self.case.resumable or "out.partial" not in now[3]:
            return hit, wrong, now
        return hit, expect.resumed(self.case, self.place, self.good), now


# ---- All of a case -------------------------------------------------------------------------------

def chosen(count, most, rng):
    """Which calls fail, of so many: all, or the first and last ones and some between."""
    if not most or count <= most:
        return list(range(1, count + 1))
    ends = most // 3
    between = rng.sample(range(ends + 1, count - ends + 1), most - 2 * ends)
    return sorted({*range(1, ends + 1), *between, *range(count - ends + 1, count + 1)})


class Counter:
    """What has been tried, and the lines of what went wrong."""

    def __init__(self):
        self.tried = collections.Counter()
        self.wrong = collections.defaultdict(list)

    def note(self, case, call, at, how, hit, wrong, now):
        self.tried[call] += hit
        if wrong:
            said = now[2].decode("utf-8", "replace").strip()
            self.wrong[call, wrong].append("inject.py --case %s --call %s --how %s --at %d: %s%s" % (
                shlex.quote(case.name), call, how, at, wrong, " (%s)" % said if said else ""))


def fail_all(case, place, options, rng):
    done = Counter()
    for how, older in WAYS + ODD_READS:
        trial = Trial(case, place, older)
        for call, count in trial.calls.items():
            if (how, older) in ODD_READS and call != "read":
                continue
            for at in chosen(count, options.most, rng) + ([] if options.quick else [count + 1]):
                hit, wrong, now = trial.fail(call, at, how)
                if at > count and hit:
                    wrong = wrong or "call %d of %d failed" % (at, count)
                elif at <= count and not hit and call != "inside" and "2" not in case.words:
                    wrong = wrong or "call %d of %d was not made" % (at, count)
                done.note(case, call, at, how, hit, wrong, now)
    return done


# ---- Written down for good -----------------------------------------------------------------------

def not_durable(trace):
    """What is missing around a rename; None: nothing. The file's bytes are on the disk before it has
    its name, all of them, and the name is before anything else is said."""
    synced, waiting = {}, None
    for line in trace:
        what, size, rest = line.split(" ", 2)
        if what == "fsync":
            synced[os.path.basename(rest)] = size
        if what == "fsync_folder":
            waiting = None
        if what == "rename":
            name = os.path.basename(rest.split("\t")[0])
            if waiting or synced.get(name) != size:
                return waiting or "rename without fsync of all of the file before"
            waiting = "rename without fsync of the folder after"
    return waiting


# ---- Is every call known? ------------------------------------------------------------------------

def shim_calls():
    """The functions that fail.c can let fail."""
    with open(os.path.join(ROOT, "test", "inject", "fail.c"), encoding="utf-8") as file:
        names = re.search(r"#define NAMES.*?/\*", file.read(), re.S).group()
    return set(re.findall(r"_\((\w+)\)", names))


def unknown_calls():
    """What the program imports that is neither let fail nor known not to; None without nm."""
    try:
        listed = subprocess.run(["nm", "-D", "--undefined-only", LAPE], capture_output=True,
                                check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    names = {line.split()[-1].split("@")[0] for line in listed.splitlines()}
    names = {ALIASES.get(name, name) for name in names} | {"calloc"}
    return sorted(names - shim_calls() - CANNOT)


# ---- The command line ----------------------------------------------------------------------------

def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a sample: --most 5")
    parser.add_argument("--most", type=int, help="calls of a function that fail, each way (300; 0: all)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (1)")
    parser.add_argument("--case", help="only those whose name holds this")
    parser.add_argument("--call", help="with --case, --how and --at: this one run, shown")
    parser.add_argument("--how", default="once", choices=["once", "on", "eintr", "short"])
    parser.add_argument("--at", type=int, default=1)
    options = parser.parse_args()
    if options.most is None:
        options.most = 5 if options.quick else 300
    return options


def show(case, place, options):
    """One run, all of it, to look at."""
    trial = Trial(case, place, dict(WAYS + ODD_READS)[options.how])
    hit, wrong, now = trial.fail(options.call, options.at, options.how)
    print("lape %s\ncalls of %s: %d; failed: %s\nstatus: %s\nstderr: %s\nlies there: %s\n%s" % (
        " ".join(case.words), options.call, trial.calls.get(options.call, 0), hit, now[0],
        now[2].decode("utf-8", "replace").strip(),
        ", ".join("%s (%d bytes)" % (name, len(data)) for name, data in sorted(now[3].items())),
        wrong or "as it should be"))
    return bool(wrong)


def all_cases(chosen_cases, place, options):
    checks, total, orders = Checks(), collections.Counter(), []
    unknown = unknown_calls()
    if unknown is None:
        print("skipped: whether every call is known: there is no nm that reads the program")
    else:
        checks.say(not unknown, "every call is let fail, or known not to" +
                   ": not " * bool(unknown) + " ".join(unknown))
    for case in chosen_cases:
        rng = random.Random("%d %s" % (options.seed, case.name))
        try:
            done = fail_all(case, place, options, rng)
        except RuntimeError as problem:              # it does not work when nothing fails
            checks.say(False, str(problem))
            continue
        for lines in done.wrong.values():
            print("\n".join(lines[:SHOWN]))
            if lines[SHOWN:]:
                print("   ... and so %d more" % len(lines[SHOWN:]))
        bad = sum(map(len, done.wrong.values()))
        checks.say(not bad, "%s: %d failures of %d functions injected%s" % (
            case.name, sum(done.tried.values()), len([n for n in done.tried.values() if n]),
            ", %d with another end than expected" % bad if bad else ""))
        total += done.tried
        if case.writes and case.status == 0:
            orders.append((case, not_durable(Trial(case, place, True).trace)))
    print("injected: " + ", ".join("%s %d" % pair for pair in total.most_common()))
    for case, wrong in orders:
        checks.say(not wrong, "%s: %s" % (case.name, wrong or "fsync, rename, fsync of the folder"))
    return checks.end()


def main():
    options = arguments()
    if not os.path.exists(SHIM):
        sys.exit("no %s: `make inject` builds it" % SHIM)
    with tempfile.TemporaryDirectory(prefix="inject.") as folder:
        place = cases.Place(folder)
        found = [case for case in place.cases() if (options.case or "") in case.name]
        if options.call:
            exact = [case for case in found if case.name == options.case]
            return show(exact[0] if exact else found[0], place, options)
        return all_cases(found, place, options)


if __name__ == "__main__":
    sys.exit(main())
