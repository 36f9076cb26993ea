#!/usr/bin/env python3
"""Mutation testing: small faults are put into the C, one at a time, and the tests have to notice.

    python3 test/mutants.py                    300 mutants
    python3 test/mutants.py --quick            20, and the quickest tests alone
    python3 test/mutants.py --only 3fa2c1      those of these numbers
    python3 test/mutants.py --go-on            300, without those that an earlier run has judged
    python3 test/mutants.py --list             all that may be drawn

A mutant is one change of one place in the method (lape.c) or the forward pass (model.c): another
operator, a constant one more, one less or 0, a statement left out, a condition negated, two
arguments swapped. Each is compiled in a copy of the tree under build/mutants/, and the tests of
`make test-program` that can see it are run, until one fails or does not end. Which are drawn
depends on the seed and on their own lines only: an edit elsewhere changes no other mutant.

What does not compile is not counted, nor what the compiler turns into the same code; others are
drawn in their place. test/mutants.tsv lists mutants that no result can tell from the original, and
why; a row whose line is no longer there is an error. Of the others SHARE are to be noticed; by the
quickest tests alone, fewer.

Standard library only. The last line is `N passed, N failed`.
"""

import argparse
import concurrent.futures
import hashlib
import os
import queue
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time

from paths import ROOT
from report import Checks
from tree import copy_tree

SHARE = {False: 0.97, True: 0.8}       # whole, quick
# Into a cache, with the loop that does nothing else: no number is another for it.
FETCHING = re.compile(r"^(?: *for \(.*\)\n)?.*\bfetch(?:_in_order)?\(.*$", re.M)
FLAGS = "-O1 -march=native"
PLACE = os.path.join(ROOT, "build", "mutants")
RESULTS = os.path.join(ROOT, "build", "mutants.tsv")
TABLE = os.path.join(ROOT, "test", "mutants.tsv")

# What is mutated, by the headings in the files.
CHAPTERS = {
    "lape.c": ["Counts", "The hook that counts", "Finding language-specific neurons",
               "Neuron lists", "Ablation and steering", "Pushing pieces through the model",
               "Perplexity", "Generation", "lape count", "lape merge, lape find", "lape ppl"],
    "model.c": ["Tensor types", "Numbers", "Room for a forward pass", "The definition", "Kernels",
                "Steps of the forward pass", "The forward pass"]}

# The tests, the quickest to notice first: C tests that include the file go before the others.
C_TESTS = ["test_blocks", "test_lape", "test_model", "test_tokenizer", "test_gguf"]
PYTHON_TESTS = ["test_ablation", "test_lines", "test_split", "test_diff", "test_outputs",
                "test_cli", "test_golden", "test_methods", "test_quantised", "test_fields",
                "test_fields_tokenizer", "test_bench", "fuzz/test_replay"]
SLOW_TESTS = ["test_doc", "test_experiments"]      # for those that are left
QUICK_TESTS = C_TESTS + PYTHON_TESTS[:2]
ENDLESS = None, -signal.SIGXCPU, -signal.SIGKILL   # statuses of what was ended from outside
BUILDS = {"test_bench": "build/bench", "fuzz/test_replay": "build/fuzz/replay"}


# ---- Mutants -----------------------------------------------------------------------------------

TOKEN = re.compile(r"""(?P<skip>/\*.*?\*/ | //[^\n]* | ^[ ]*\#(?:[^\n]*\\\n)*[^\n]*
                         | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*')
                     | (?P<number>0[xX][0-9a-fA-F.]+(?:[pP][-+]?[0-9]+)?[uUlLfF]*
                         | [0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?[uUlLfF]* | \.[0-9]+)
                     | (?P<word>[A-Za-z_]\w*)
                     | (?P<sign><<=|>>=|\.\.\.|->|\+\+|--|<<|>>|[-+*/%&|^<>=!]=|&&|\|\||[^\s\w])
                  """, re.S | re.M | re.X)

BINARY = {"+": ["-"], "-": ["+"], "*": ["/"], "/": ["*"], "%": ["/"], "<": ["<=", ">="],
          "<=": ["<", ">"], ">": [">=", "<="], ">=": [">", "<"], "==": ["!="], "!=": ["=="],
          "&&": ["||"], "||": ["&&"], "&": ["|"], "|": ["&"], "^": ["&"], "<<": [">>"],
          ">>": ["<<"], "+=": ["-=", "="], "-=": ["+=", "="], "*=": ["/=", "="], "/=": ["*=", "="],
          "|=": ["&=", "="], "&=": ["|=", "="]}
TYPES = set("""struct const static enum int char bool float double void unsigned size_t real vec
    uint8_t int8_t uint16_t int32_t uint32_t int64_t uint64_t FILE va_list typedef
    inline""".split())
NO_STATEMENT = TYPES | set("return if else for while do switch case default".split())
OPENS, CLOSES = "([{", ")]}"


class Mutant:
    """One change of a file: text[start:end] becomes `new`."""

    def __init__(self, file, text, function, start, end, new):
        self.file, self.function, self.start, self.end, self.new = file, function, start, end, new
        first = text.rfind("\n", 0, start) + 1
        last = text.find("\n", end)
        self.line = text.count("\n", 0, start) + 1
        self.before = " ".join(text[first:last].split())
        self.after = " ".join((text[first:start] + new + text[end:last]).split())

    def within(self, spans):
        return any(start <= self.start < end for start, end in spans)

    def key(self):
        return (self.file, self.function, self.before, self.after)

    def apply(self, text):
        lines = text.count("\n", self.start, self.end) - self.new.count("\n")
        return text[:self.start] + self.new + "\n" * lines + text[self.end:]


def tokens_of(text):
    """(kind, text, start, end) of all that is no comment, no string and not the preprocessor's."""
    return [(match.lastgroup, match.group(), match.start(), match.end())
            for match in TOKEN.finditer(text) if match.lastgroup != "skip"]


def other_numbers(number):
    if re.fullmatch(r"[0-9]+[uUlL]*", number):
        value = int(number.rstrip("uUlL"))
        return [str(n) for n in sorted({value + 1, max(value - 1, 0), 0} - {value})]
    whole = number.lower().startswith("0x") and "p" not in number.lower()
    return ["(%s + 1)" % number, "0"] + ["(%s - 1)" % number] * whole


class Scan:
    """The mutants of one file, from its tokens."""

    def __init__(self, file, text):
        self.file, self.text, self.tokens = file, text, tokens_of(text)
        self.found, self.function = [], ""
        self.partner, self.inside = {}, {}      # of a bracket, the other; of a token, the bracket
        opened = []
        for i, (_, token, _, _) in enumerate(self.tokens):
            self.inside[i] = opened[-1] if opened else None
            if token in OPENS:
                opened.append(i)
            elif token in CLOSES:
                j = opened.pop()
                self.partner[i], self.partner[j] = j, i

    def token(self, i):
        return self.tokens[i][1] if 0 <= i < len(self.tokens) else ""

    def add(self, first, last, new):
        """Tokens from first to last become `new`."""
        self.found.append(Mutant(self.file, self.text, self.function, self.tokens[first][2],
                                 self.tokens[last][3], new))

    def part(self, first, last):
        return self.text[self.tokens[first][2]:self.tokens[last][3]]

    def run(self):
        i = 0
        while i < len(self.tokens):       # the top level: functions, and what tables hold
            if self.token(i) == "{":
                end = self.partner[i]
                before = self.token(i - 1)
                if before == ")":
                    self.function = self.token(self.partner[i - 1] - 1)
                    self.body(i + 1, end)
                elif before == "=":
                    self.function = "-"
                    self.body(i + 1, end)
                i = end
            i += 1
        return self.found

    def body(self, first, end):
        for i in range(first, end):
            kind, token, at, after = self.tokens[i]
            if kind == "number" and not self.is_size(i):
                for new in other_numbers(token):
                    self.add(i, i, new)
            elif kind == "word":
                self.word(i, token)
            elif token in ("++", "--"):
                self.add(i, i, "--" if token == "++" else "++")
            elif token in BINARY and self.text[at - 1].isspace() and self.text[after].isspace():
                for new in BINARY[token]:
                    self.add(i, i, new)
            elif token in "-!" and not self.text[after].isspace():
                self.add(i, i, "")
            if self.token(self.inside[i]) == "{" and (
                    self.token(i - 1) in (";", "{", "}", ")", "else", "do") or
                    self.token(i - 1) == ":" and self.token(i - 3) == "case"):
                self.statement(i)

    def word(self, i, token):
        if token in ("true", "false"):
            self.add(i, i, "false" if token == "true" else "true")
        if self.token(i + 1) != "(":
            return
        end = self.partner[i + 1]
        if token in ("if", "while"):
            self.add(i + 1, end, "(!%s)" % self.part(i + 1, end))
        elif token not in ("for", "switch", "return", "sizeof"):
            for j in range(i + 2, end - 2):
                if (self.inside[j] == i + 1 and
                        self.token(j - 1) in "(," and self.token(j + 1) == "," and
                        self.token(j + 3) in ",)" and self.token(j) != self.token(j + 2) and
                        {self.tokens[j][0], self.tokens[j + 2][0]} <= {"word", "number"}):
                    self.add(j, j + 2, "%s, %s" % (self.token(j + 2), self.token(j)))

    def statement(self, i):
        """One that is an expression, or break, or continue, is left out; not what gives back."""
        kind, token, _, _ = self.tokens[i]
        if token in ("free", "munmap") or token.endswith("_free"):
            return
        if token in NO_STATEMENT or not (kind == "word" or token in ("++", "--", "*", "(")):
            return
        if self.token(i - 1) == ")" and self.token(self.partner[i - 1] - 1) not in (
                "if", "for", "while"):
            return
        j = i
        while self.token(j) != ";":
            if self.token(j) in CLOSES or self.token(j) in (":", "{"):
                return
            j = self.partner[j] + 1 if self.token(j) in OPENS else j + 1
        self.add(i, j, ";")

    def is_size(self, i):
        """An array's, where that is declared."""
        if self.token(i - 1) != "[" or self.token(i + 1) != "]":
            return False
        while self.token(i) not in (";", "{", "}", "=", ""):
            i -= 1
        return self.token(i) != "=" and self.token(i + 1) in TYPES


def chapters(text):
    """{name: (start, end)}"""
    heads = list(re.finditer(r"^/\* ---- (.*?) -+(?: \*/)?$", text, re.M))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {head.group(1): (head.start(), end) for head, end in zip(heads, ends)}


def all_mutants(texts):
    """Each with a number that depends on its line and its place among its likes only."""
    found = []
    for file, names in CHAPTERS.items():
        place = chapters(texts[file])
        spans = [place[name] for name in names]
        idle = [match.span() for match in FETCHING.finditer(texts[file])]
        found += [m for m in Scan(file, texts[file]).run() if m.within(spans) and not m.within(idle)]
    seen = {}
    for m in found:
        seen[m.key()] = seen.get(m.key(), 0) + 1
        name = "\t".join(m.key()) + "\t%d" % seen[m.key()]
        m.number = hashlib.sha256(name.encode()).hexdigest()[:10]
    return found


def read_table(mutants):
    """{key: reason}, and what is wrong with the table."""
    table, wrong = {}, []
    known = {m.key() for m in mutants}
    with open(TABLE, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            fields = line.rstrip("\n").split("\t")
            if line.startswith("#"):
                continue
            if len(fields) != 5 or not all(fields):
                wrong.append("line %d has not five fields" % number)
            elif tuple(fields[:4]) in table:
                wrong.append("line %d stands twice" % number)
            elif tuple(fields[:4]) not in known:
                wrong.append("line %d is stale: %s has no such mutant" % (number, fields[0]))
            else:
                table[tuple(fields[:4])] = fields[4]
    return table, wrong


# ---- Building and testing ----------------------------------------------------------------------

def run(command, where, limit, environment=None):
    """Status and output; status None when it did not end in time. Nothing of it is left. The limit
    is of the processor's time in each process, since others may use the machine, too; what waits
    for ever ends after ten times as long and some minutes."""
    command = ["sh", "-c", 'ulimit -t %d; exec "$@"' % limit, "sh", *command]
    with subprocess.Popen(command, cwd=where, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, start_new_session=True,
                          env=environment) as process:
        try:
            output = process.communicate(timeout=300 + 10 * limit)[0]
            status = process.returncode
        except subprocess.TimeoutExpired:
            output, status = b"", None
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return status, output.decode("utf-8", "replace")


class Plan:
    """How the Makefile makes a program: what is compiled, with what, and what is linked."""

    def __init__(self, target):
        said = subprocess.run(["make", "-n", "-B", target, "CFLAGS=" + FLAGS], cwd=ROOT, check=True,
                              stdout=subprocess.PIPE, universal_newlines=True).stdout
        words = next(shlex.split(line) for line in said.splitlines() if " -o %s " % target in line)
        self.target = target
        self.sources = [word for word in words if word.endswith(".c")]
        self.libraries = [word for word in words if word.startswith("-l")]
        at = words.index("-o")
        self.compiler = [word for word in words[:at] + words[at + 2:]
                         if word not in self.sources + self.libraries and not word.startswith("-W")]


def includes(source, seen=None):
    """The C files that a source is made of."""
    seen = {source} if seen is None else seen
    with open(os.path.join(ROOT, source), encoding="utf-8") as file:
        for name in re.findall(r'^#include "(.*\.c)"', file.read(), re.M):
            path = os.path.normpath(os.path.join(os.path.dirname(source), name))
            if path not in seen:
                seen.add(path)
                includes(path, seen)
    return seen


class NotCompiled(Exception):
    pass


# With the first failure a test is over.
HASTE = """import os, runpy, sys, unittest
runner, init = unittest.TextTestRunner, unittest.TextTestRunner.__init__
runner.__init__ = lambda self, *a, **k: init(self, *a, **dict(k, failfast=True))
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Bench:
    """A copy of the tree in which mutants are made and tested, one after the other."""

    plans = {}       # by target
    plain = {}       # (compiler, source): path of the unmutated object

    def __init__(self, name):
        self.place = os.path.join(PLACE, name)
        copy_tree(self.place, "demo", "doc", "test", "tools")
        for folder in ("build/fuzz", "tmp"):
            os.makedirs(os.path.join(self.place, folder))
        run(["make", "-s", "build/compile"], self.place, 60)    # lape is no older: it stays as it is
        self.environment = dict(os.environ, TMPDIR=os.path.join(self.place, "tmp"),
                                FIRST_FAILURE="1")
        self.environment.setdefault("LAPE_SHARED", os.path.join(ROOT, "..", "shared"))
        self.environment.pop("LAPE", None)
        self.file, self.fresh = None, {}

    def object(self, plan, source, changed):
        """Its path: compiled here when the changed file is in it, else the unmutated one."""
        key = (tuple(plan.compiler), source)
        if changed is None or changed not in includes(source):
            return self.plain[key]
        if key not in self.fresh:
            name = os.path.join(self.place, "build", "m%d.o" % len(self.fresh))
            self.compile(plan, source, name)
            self.fresh[key] = name
        return self.fresh[key]

    def compile(self, plan, source, name):
        status, said = run([*plan.compiler, "-w", "-Werror=incompatible-pointer-types",
                            "-Werror=int-conversion", "-Werror=implicit-function-declaration",
                            "-c", "-o", name, source], self.place, 300)
        if status != 0:
            raise NotCompiled(said)

    def make_plain(self, plan):
        for source in plan.sources:
            key = (tuple(plan.compiler), source)
            if key not in self.plain:
                name = os.path.join(PLACE, "plain-%d.o" % len(self.plain))
                self.compile(plan, source, name)
                self.plain[key] = name

    def link(self, target, changed):
        plan = self.plans[target]
        objects = [self.object(plan, source, changed) for source in plan.sources]
        status, said = run([*plan.compiler, "-o", target, *objects, *plan.libraries], self.place,
                           60)
        if status != 0:
            raise NotCompiled(said)

    def mutate(self, m, text):
        """False when the compiler makes the same of it."""
        self.file, self.fresh = m.file, {}
        with open(os.path.join(self.place, m.file), "w", encoding="utf-8") as file:
            file.write(m.apply(text))
        other = False
        for plan in [self.plans["lape"]] + [self.plans["build/" + test] for test in C_TESTS]:
            for source in plan.sources:
                if m.file in includes(source) and not other:
                    with open(self.object(plan, source, m.file), "rb") as new, open(
                            self.plain[tuple(plan.compiler), source], "rb") as old:
                        other = new.read() != old.read()
        if other:
            os.unlink(os.path.join(self.place, "lape"))
        return other

    def restore(self, text):
        with open(os.path.join(self.place, self.file), "w", encoding="utf-8") as file:
            file.write(text)
        self.link("lape", None)

    def test(self, name, changed, limit):
        """Whether it passes, as test/run.sh has it."""
        if name in C_TESTS:
            self.link("build/" + name, changed)
            command = ["build/" + name]
        else:
            if not os.path.exists(os.path.join(self.place, "lape")):
                self.link("lape", changed)
            if name in BUILDS:
                self.link(BUILDS[name], changed)
            command = [sys.executable, "-c", HASTE, "test/%s.py" % name]
        status, said = run(command, self.place, limit, self.environment)
        shutil.rmtree(self.environment["TMPDIR"], ignore_errors=True)
        os.makedirs(self.environment["TMPDIR"], exist_ok=True)
        last = said.rstrip("\n").rpartition("\n")[2]
        return status == 0 and re.search(r"\d+ passed, 0 failed$", last) is not None, status, said


def tests_of(file):
    """Those that can see the file, in the order in which they are run."""
    def has(name, include):
        return any(file in includes(source) and (source != file) == include
                   for source in Bench.plans["build/" + name].sources)
    return ([name for name in C_TESTS if has(name, True)] +
            [name for name in C_TESTS if not has(name, True) and has(name, False)] + PYTHON_TESTS)


def judge(bench, m, text, tests, seconds):
    """What became of a mutant, and who noticed it."""
    try:
        try:
            if not bench.mutate(m, text):
                return "same code", ""
            for name in tests:
                good, status, _ = bench.test(name, m.file, 30 + seconds[name])
                if not good:
                    return "noticed", name + " (no end)" * (status in ENDLESS)
            return "survived", ""
        except NotCompiled:
            return "no C", ""
    finally:
        bench.restore(text)


# ---- A run -------------------------------------------------------------------------------------

def check_plain(benches, tests):
    """{test: seconds} on the unmutated copy, and those that fail there."""
    free = queue.Queue()
    for bench in benches:
        free.put(bench)

    def one(name):
        bench = free.get()
        begun = time.monotonic()
        good, _, said = bench.test(name, None, 1800)
        free.put(bench)
        return name, time.monotonic() - begun, good, said

    with concurrent.futures.ThreadPoolExecutor(len(benches)) as pool:
        done = list(pool.map(one, reversed(tests)))
    for name, _, good, said in done:
        if not good:
            print("%s fails on the unmutated copy:\n%s" % (name, said[-2000:]))
    return ({name: spent for name, spent, _, _ in done},
            [name for name, _, good, _ in done if not good])


def earlier(digest):
    """{number: (verdict, by)} of a run over the same C; what survived may be noticed by now."""
    if not os.path.exists(RESULTS):
        return {}
    with open(RESULTS, encoding="utf-8") as file:
        if file.readline().rstrip("\n") != "# " + digest:
            return {}
        rows = [line.split("\t") for line in file if line.endswith("\n")]
    return {row[0]: (row[1], row[2]) for row in rows if row[1] not in ("survived", "equal")}


def prepare(jobs):
    shutil.rmtree(PLACE, ignore_errors=True)
    os.makedirs(PLACE)
    benches = [Bench("copy-%d" % i) for i in range(jobs)]
    for target in ["lape", *("build/" + name for name in C_TESTS), *BUILDS.values()]:
        Bench.plans[target] = Plan(target)
        benches[0].make_plain(Bench.plans[target])
    for bench in benches:
        bench.link("lape", None)
    return benches


def main():
    parser = argparse.ArgumentParser(description="Mutation testing of lape.c and model.c.")
    parser.add_argument("--n", type=int, help="mutants (300)")
    parser.add_argument("--seed", default="1", help="which are drawn (1)")
    parser.add_argument("--jobs", type=int, default=2, help="at once (2)")
    parser.add_argument("--quick", action="store_true",
                        help="20 mutants, and of the tests %s" % ", ".join(QUICK_TESTS))
    parser.add_argument("--tests", nargs="+", metavar="NAME", help="these tests alone: a draft")
    parser.add_argument("--go-on", action="store_true", help="with what the last run found")
    parser.add_argument("--only", nargs="+", metavar="NUMBER", help="mutants of these numbers")
    parser.add_argument("--list", action="store_true", help="print all that may be drawn")
    options = parser.parse_args()
    options.n = options.n or (20 if options.quick else 300)

    texts = {}
    for file in CHAPTERS:
        with open(os.path.join(ROOT, file), encoding="utf-8") as source:
            texts[file] = source.read()
    mutants = all_mutants(texts)
    if options.list:
        for m in mutants:
            print(m.number, "%s:%d" % (m.file, m.line), m.before, "=>", m.after, sep="\t")
        return 0
    drawn = sorted(mutants, key=lambda m: hashlib.sha256(
        (options.seed + m.number).encode()).digest())
    if options.only:
        drawn = [m for m in mutants if m.number in options.only]
    wanted = len(drawn) if options.only else options.n

    checks = Checks()
    table, wrong = read_table(mutants)
    checks.say(not wrong, "%d mutants in %s change nothing%s" % (
        len(table), os.path.relpath(TABLE, ROOT), "".join("; " + text for text in wrong)))

    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 32, 1 << 32))
    resource.setrlimit(resource.RLIMIT_AS, (1 << 34, 1 << 34))
    begun = time.monotonic()
    benches = prepare(options.jobs)
    order = {file: tests_of(file) + SLOW_TESTS for file in CHAPTERS}
    only = options.tests or options.quick and QUICK_TESTS
    if only:
        order = {file: [name for name in tests if name in only] for file, tests in order.items()}
    every = list(dict.fromkeys(name for tests in order.values() for name in tests))
    seconds, failing = check_plain(benches, every)
    checks.say(not failing, "%d tests pass on the unmutated copy, in %.0f s" % (
        len(every) - len(failing), time.monotonic() - begun))
    if failing:
        return checks.end()

    digest = hashlib.sha256("".join(texts.values()).encode()).hexdigest()
    known = earlier(digest) if options.go_on else {}
    tally = {verdict: 0 for verdict in ("noticed", "survived", "equal", "no C", "same code")}
    left = iter(drawn)
    free = queue.Queue()
    for bench in benches:
        free.put(bench)

    def one(m):
        if m.key() in table:
            return m, "equal", table[m.key()], 0
        if m.number in known:
            return (m, *known[m.number], 0)
        bench = free.get()
        start = time.monotonic()
        try:
            verdict, by = judge(bench, m, texts[m.file], order[m.file], seconds)
        finally:
            free.put(bench)
        return m, verdict, by, time.monotonic() - start

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool, open(
            RESULTS, "w", encoding="utf-8") as log:
        log.write("# %s\n" % digest)
        running = set()
        while True:
            counted = tally["noticed"] + tally["survived"] + tally["equal"]
            while len(running) < min(options.jobs, wanted - counted):
                m = next(left, None)
                if m is None:
                    break
                running.add(pool.submit(one, m))
            if not running:
                break
            done, running = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                m, verdict, by, spent = future.result()
                tally[verdict] += 1
                log.write("%s\t%s\t%s\t%.1f\t%d\t%s\n" % (m.number, verdict, by, spent, m.line,
                                                       "\t".join(m.key())))
                log.flush()
                if verdict == "survived":
                    print("survived: %s %s:%d, %s\n    %s\n    %s" % (
                        m.number, m.file, m.line, m.function, m.before, m.after), flush=True)
    noticed, survived, equal = tally["noticed"], tally["survived"], tally["equal"]
    others = noticed + survived
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("%d mutants in %.0f min, %.0f of CPU: %d noticed, %d equal, %d survived; %d more did not "
          "compile, %d gave the same code" % (
              others + equal, (time.monotonic() - begun) / 60,
              (used.ru_utime + used.ru_stime) / 60, noticed, equal, survived, tally["no C"],
              tally["same code"]))
    share = SHARE[options.quick]
    checks.say(noticed >= share * others, "%.1f %% of %d are noticed; %.0f %% are wanted" % (
        100 * noticed / max(others, 1), others, 100 * share))
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
