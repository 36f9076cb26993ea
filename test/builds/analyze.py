#!/usr/bin/env python3
"""What analyzers say of the program's C, against test/builds/analyze.tsv.

    python3 test/builds/analyze.py [TOOL...]

    gcc        gcc -fanalyzer, and warnings beyond -Wall -Wextra
    clang      clang --analyze
    cppcheck
    stack      functions whose frame is larger than STACK bytes, or of no bounded size
    recursion  functions that call themselves, if by way of others; calls through pointers, which
               are of jobs, hooks and commands, are not followed

A finding is sound only if analyze.tsv has it with its reason, and a row there that nothing finds is
a failure, too, so that none outlives its line. First each tool has to find the faults of BROKEN. A
tool that is not installed is said so, and not counted.

Standard library only. The last line is `N passed, N failed`.
"""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

from paths import ROOT
from report import Checks

TABLE = os.path.join(ROOT, "test", "builds", "analyze.tsv")
SOURCES = ["lape.c", "model.c", "tokenizer.c", "base.c"]
STACK = 16384
STRICT = ["-std=c11", "-ffp-contract=off", "-I."]
# -O2: at -O0 and at -O3, gcc finds the same
GCC = ["gcc", "-c", "-O2", *STRICT, "-fanalyzer", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow",
       "-Wvla", "-Walloca", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wcast-qual",
       "-Wwrite-strings", "-Wpointer-arith", "-Wundef"]
CLANG = ["clang", "--analyze", *STRICT, "-Xclang", "-analyzer-output=text"]
CPPCHECK = ["cppcheck", "--std=c11", "--enable=warning,style,performance,portability", "-q", "-I.",
            "--template={file}:{line}:0: {severity}: {message} [{id}]"]

BROKEN = r"""
#include <stdlib.h>
int recursive(int n), around(int n);
int recursive(int n) { return n ? around(n - 1) : 0; }
int around(int n) { return n ? recursive(n) + 1 : 0; }
void use(char *at);
void frame(void) {
    char large[20000];
    use(large);
}
void sized(int n) {
    char any[n];
    use(any);
}
int null(int n) {
    int *p = NULL;
    if (n) return *p;
    return 0;
}
"""
EXPECTED = {"gcc": {"-Wanalyzer-null-dereference", "-Wvla"}, "clang": {"core.NullDereference"},
            "cppcheck": {"nullPointer"}, "stack": {"frame", "sized"},
            "recursion": {"recursive", "around"}}


def run(words, folder):
    """What a tool says; one that fails without saying anything of a line has not looked."""
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          encoding="utf-8", errors="replace")
    if done.returncode:
        raise RuntimeError("%s: %s" % (" ".join(words), done.stdout[-1000:]))
    return done.stdout


# ---- Findings: (check, file, line) -------------------------------------------------------------

def messages(command):
    """Of a compiler's form: FILE:LINE:COLUMN: warning: TEXT [CHECK]."""
    def find(source, folder, out):
        words = command + (["-o", out] if command is not CPPCHECK else []) + [source]
        found = re.findall(r"(?m)^([^\s:]+):(\d+):\d+: (?!note)\w+: .*\[([^]]+)\]$",
                           run(words, folder))
        return {(check, path, text_at(folder, path, line)) for path, line, check in found}
    return find


def text_at(folder, path, line):
    with open(os.path.join(folder, path), encoding="utf-8") as f:
        return f.read().split("\n")[int(line) - 1].strip()


def find_stack(source, folder, out):
    """Frames as they are built, at -O3, where small functions are part of those that call them."""
    run(["gcc", "-c", "-O3", *STRICT, "-fstack-usage", "-o", out, source], folder)
    with open(out[:-2] + ".su", encoding="utf-8") as f:
        rows = [line.split("\t") for line in f.read().splitlines()]
    return {(name.split(":")[-1], source, "frame") for name, size, kind in rows
            if int(size) > STACK or kind == "dynamic"}


def calls(source, folder, out):
    """Function -> those it calls, by gcc; static ones have their file before their name."""
    run(["gcc", "-c", "-O0", *STRICT, "-fcallgraph-info", "-o", out, source], folder)
    with open(out[:-2] + ".ci", encoding="utf-8") as f:
        edges = re.findall(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', f.read())
    graph = {}
    for caller, called in edges:
        graph.setdefault(caller, set()).add(called)
    return graph


def find_recursion(graphs):
    graph = {}
    for one in graphs:
        for caller, called in one.items():
            graph.setdefault(caller, set()).update(called)
    found = set()
    for start in graph:
        seen, ahead = set(), list(graph[start])
        while ahead:
            at = ahead.pop()
            if at not in seen:
                seen.add(at)
                ahead += graph.get(at, ())
        if start in seen:
            found.add((start.split(":")[-1], "*", "calls itself"))
    return found


TOOLS = {"gcc": messages(GCC), "clang": messages(CLANG), "cppcheck": messages(CPPCHECK),
         "stack": find_stack, "recursion": calls}


def findings(tool, sources, folder, pool):
    with tempfile.TemporaryDirectory() as outs:
        tasks = [pool.submit(TOOLS[tool], source, folder, os.path.join(outs, source[:-2] + ".o"))
                 for source in sources]
        parts = [task.result() for task in tasks]
    return find_recursion(parts) if tool == "recursion" else set().union(*parts)


# ---- Against the table -------------------------------------------------------------------------

def read_table():
    """tool, check, file, line, why; a line of * is any."""
    with open(TABLE, encoding="utf-8") as f:
        rows = [line.rstrip("\n").split("\t") for line in f if not line.startswith("#")]
    for row in rows:
        if len(row) != 5 or not row[4]:
            sys.exit("%s: not five columns: %s" % (TABLE, row))
    return [tuple(row) for row in rows]


def fits(row, tool, finding):
    return row[0] == tool and all(a in (b, "*") for a, b in zip(row[1:4], finding))


def see_broken(tool, pool):
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "broken.c"), "w", encoding="utf-8") as f:
            f.write(BROKEN)
        found = {check for check, _, _ in findings(tool, ["broken.c"], folder, pool)}
    return EXPECTED[tool] <= found, "finds %s" % ", ".join(sorted(EXPECTED[tool] & found))


def main():
    tools = sys.argv[1:] or list(TOOLS)
    if set(tools) - set(TOOLS):
        sys.exit(__doc__)
    checks, table = Checks(), read_table()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for tool in tools:
            program = tool if tool in ("clang", "cppcheck") else "gcc"
            if not shutil.which(program):
                print("--   %s: not run: %s is not installed" % (tool, program))
                continue
            checks.check(tool + ", what is broken", lambda: see_broken(tool, pool))
            found = sorted(findings(tool, SOURCES, ROOT, pool))
            known = [f for f in found if any(fits(row, tool, f) for row in table)]
            for finding in found:
                if finding not in known:
                    checks.say(False, "%s: %s" % (tool, ": ".join(finding)))
            for row in table:
                if row[0] == tool and not any(fits(row, tool, f) for f in found):
                    checks.say(False, "%s: nothing finds this any more: %s" % (tool, row[1:4]))
            checks.say(len(known) == len(found), "%s: %d findings, %d of them explained" % (
                tool, len(found), len(known)))
    sys.exit(checks.end())


if __name__ == "__main__":
    main()
