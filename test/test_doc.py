#!/usr/bin/env python3
"""Tests of the documents: every example is run, every link and path leads somewhere, every option
is one that the program has; and of the man page, the completions and the installation.

    LAPE=./lape python3 test/test_doc.py [NAME...]

Examples run as they stand, in a copy of the tree where FILES lie under the names that the documents
give them. Those of NOT_RUN are listed before the last line, `N passed, N failed`, and counted in
neither, as is what is skipped since something is not installed. Standard library only.
"""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest

from paths import LAPE, ROOT
import arrays
import manual
import report
import test_convert
from formats.gguf import Gguf
from tree import copy_tree

# With libraries, where `make oracle` has installed them.
PATH = os.path.join(ROOT, ".venv", "bin") + os.pathsep + os.environ["PATH"]
README = "README.md"
DOCUMENTS = [README] + sorted("doc/" + name for name in os.listdir(os.path.join(ROOT, "doc"))
                              if name.endswith(".md")) + [
    "demo/MODEL.md", "test/README.md", "test/exercises/README.md"]
MOST_LINES = 300                       # of README.md

# What the names in examples stand for.
FILES = {"llama2-7b.gguf": "demo/model.gguf", "model.gguf": "demo/model.gguf",
         "text.txt": "demo/prompts/en.txt"}
FILES.update(("%s.txt" % name, "demo/text/%s.count.txt" % name) for name in ("en", "fr", "zh"))
# What the counts are of that a document's examples start from.
COUNTED = {"doc/checking.md": ["en", "zh"]}             # elsewhere all three
FILES.update(("%s.test.txt" % name, "demo/text/%s.eval.txt" % name) for name in ("en", "fr", "zh"))

# Examples that are not run, and why.
NOT_RUN = [
    (r"make gemma", "network"),
    (r"make test", "this is part of it"),
    (r"SHARDS=64 CORES=64 tools/slurm\.sbatch ", "root and Slurm; `make scale-test` runs it"),
    (r"tools/train\.py TEXTS ", "PyTorch, half an hour, and texts that are not here"),
    (r"tools/convert\.py hf model ", "the model that tools/train.py makes"),
    (r"tools/reproduce\.py --texts TEXTS", "texts that are not here"),
]
# Examples that are run where this is installed: a program, or a module of python3.
WANTED = [(r"parallel ", "parallel"), (r"tools/tensors\.py ", "numpy"),
          (r"tools/plot\.py ", "matplotlib"), (r"--judge .*py3langid", "py3langid")]
# Blocks that are no commands, by how they begin.
NO_COMMANDS = ("FFN(x) = ", "p_k  = ", "[positive - near_above, ", "positive - near_above ",
               "@inproceedings{", "1. Count: ", "h = LayerNorm", "JSD = ")
COMMAND = re.compile(r"(make|cc|\./lape|lape|python3|tools/\S+|seq|for|printf|[A-Z]+=\S+)( |$)")

# Files of others that documents speak of, and files that runs make.
NOT_HERE = {"activation.py", "identify.py", "ppl.py", "generation.py", "convert_hf_to_gguf.py",
            "neurons.tsv", "purity.tsv", "purity-lines.tsv"}
FOLDERS = ("test", "tools", "demo", "doc", ".ci")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


@functools.lru_cache(None)
def program():
    """(what it is, version, commands), as it says."""
    return manual.read_program(LAPE)


@functools.lru_cache(None)
def has(name):
    return bool(shutil.which(name)) or subprocess.run(
        [shutil.which("python3", path=PATH), "-c", "import " + name], stderr=subprocess.DEVNULL,
        check=False).returncode == 0


# ---- What documents hold -----------------------------------------------------------------------

def blocks(text):
    """Code: what is indented by four and more, or between fences."""
    found, lines, fenced = [], [], False
    for line in text.split("\n") + [""]:
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(line)
            continue
        if lines and (line or not fenced):
            found.append(textwrap.dedent("\n".join(lines)))
            lines = []
    return found


def prose(text):
    """All but code."""
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    return re.sub(r"(?m)^    .*", "", text)


def spans(text):
    """What is between backticks, in one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(text))]


def commands_of(block):
    """A block's commands; a loop is one."""
    text = re.sub(r"\\\n\s*", "", block)
    return [text] if text.startswith("for ") else [line for line in text.split("\n") if line]


def from_page(text):
    """A man page's examples."""
    lines = "\n".join(re.findall(r"(?ms)^\.RS\n(.*?)\n\.RE$", text))
    for escape, letter in (("\\&", ""), ("\\-", "-"), ("\\(aq", "'"), ("\\(ga", "`"),
                           ("\\(ha", "^"), ("\\(ti", "~"), ("\\e", "\\")):
        lines = lines.replace(escape, letter)
    return lines.split("\n")


def examples():
    """(document, command) of all, in order. A block that is none, and none of NO_COMMANDS, is taken
    for commands, and fails as such."""
    found = []
    for document in DOCUMENTS:
        for block in blocks(read(document)):
            if not block.startswith(NO_COMMANDS):
                found += [(document, line) for line in commands_of(block)]
    return found


def headings(text):
    """The anchors of a document's headings."""
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"(?m)^#+ (.*)$", prose(text))]


def links(text):
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(text))
            if not re.match(r"https?://", link)]


# ---- Examples ----------------------------------------------------------------------------------

class Tree:
    """A copy of what is needed of this tree, and the files that examples speak of."""

    def __init__(self):
        self.holder = tempfile.TemporaryDirectory(prefix="test_doc.")
        self.path = os.path.join(self.holder.name, "lape")
        self.document = None
        copy_tree(self.path, "tools", "demo")
        if os.path.exists(os.path.join(ROOT, "build", "compile")):
            os.mkdir(self.of("build"))
            shutil.copy2(os.path.join(ROOT, "build", "compile"), self.of("build"))
        shutil.copy2(LAPE, self.of("lape"))
        # make's own level goes, by which it would say which folder it enters
        self.environment = {name: value for name, value in os.environ.items()
                            if name not in ("MAKELEVEL", "LAPE", "PREFIX")}
        self.environment.update(DESTDIR=self.of("root"), PATH=self.path + os.pathsep + PATH)

    def of(self, *names):
        return os.path.join(self.path, *names)

    def run(self, command, **more):
        return subprocess.run(["sh", "-c", command], cwd=self.path, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
                              errors="replace", timeout=1200, check=False,
                              env=dict(self.environment, **more))

    def must(self, command):
        done = self.run(command)
        if done.returncode:
            raise RuntimeError("%s: %s" % (command, done.stderr))

    def files(self):
        """FILES as they were, whatever an example has made of them."""
        for name, source in FILES.items():
            new, old = os.stat(self.of(source)), os.path.exists(self.of(name)) and os.stat(
                self.of(name))
            if not old or (old.st_size, old.st_mtime_ns) != (new.st_size, new.st_mtime_ns):
                shutil.copy2(self.of(source), self.of(name))

    def begin(self, document):
        """What a document's examples start from: counts and neurons, another program's counts and
        tensors, which are the same, a token file and a Hugging Face folder."""
        self.files()
        if document == self.document:
            return
        self.document = document
        texts = " ".join("%s=%s.txt" % (name, name)
                         for name in COUNTED.get(document, ["en", "fr", "zh"]))
        self.must("./lape count model.gguf %s -q -o counts.gguf && "
                  "./lape find counts.gguf --top 0.05 -q -o neurons.tsv" % texts)
        counts = Gguf(self.of("counts.gguf"))
        for name in "en", "zh":
            columns, rows = counts.tensors[name + ".positive"].dims
            with open(self.of(name + ".npy"), "wb") as file:
                file.write(arrays.npy(bytes(counts.bytes_of(name + ".positive")), "<i8",
                                      (rows, columns)))
        ids = list(map(int, self.run("./lape tokenize model.gguf < en.txt").stdout.split()))
        pt = test_convert.Pt()
        with open(self.of("id.en.train.llama"), "wb") as file:
            file.write(pt.file(pt.tensor(ids, (len(ids),), "q")))
        for folder in "ours", "Llama-2-7b-hf":
            os.makedirs(self.of(folder), exist_ok=True)
        if not os.path.islink(self.of("theirs")):
            os.symlink("ours", self.of("theirs"))
        vocab = len(test_convert.PIECES)
        case = test_convert.Case()
        case.model = self.of("Llama-2-7b-hf")
        case.checkpoint(test_convert.weights(vocab=vocab), vocab_size=vocab)
        case.write("tokenizer.model", test_convert.sentencepiece())


@functools.lru_cache(None)
def tree():
    return Tree()


def why_not(command):
    return next((why for form, why in NOT_RUN if re.match(form, command)), None)


class Examples(unittest.TestCase):
    """A test a command; they are added below, in their order."""

    def example(self, document, command):
        self.assertRegex(command, COMMAND, "%s: neither a command nor one of NO_COMMANDS"
                         % document)
        for form, name in WANTED:
            if re.search(form, command) and not has(name):
                self.skipTest("%s is not installed: %s: %s" % (
                    name, document, command.split("\n")[0]))
        tree().begin(document)
        done = tree().run(command)
        self.assertEqual(done.returncode, 0, "%s: %s\n%s" % (document, command, done.stderr))
        if command.startswith("for "):                         # what is off would be said
            self.assertEqual(done.stdout, "", done.stderr)
        if re.match("make demo( |$)", command):
            self.assertIn(done.stdout.strip(), map(str.strip, blocks(read("doc/results.md"))),
                          "doc/results.md has not what make demo prints")

    def test_page(self):
        """Those of the man page."""
        page = manual.page(*program())
        found = from_page(page)
        self.assertEqual(found, [line for _, lines in manual.EXAMPLES for line in lines])
        for command in found:
            with self.subTest(command):
                tree().begin("lape.1")
                done = tree().run(command)
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_not_run(self):
        """Every one that is listed is there."""
        for form, _ in NOT_RUN + WANTED:
            self.assertTrue([c for _, c in examples() if re.search(form, c)], form)


def add_examples():
    for number, (document, command) in enumerate(examples()):
        if not why_not(command):
            setattr(Examples, "test_%02d" % number,
                    lambda self, d=document, c=command: self.example(d, c))


# ---- Links, paths, names -----------------------------------------------------------------------

@functools.lru_cache(None)
def names_here():
    """Of all files of the tree but what runs have made."""
    found = {name for name in os.listdir(ROOT) if os.path.isfile(os.path.join(ROOT, name))}
    for folder in FOLDERS:
        for _, folders, files in os.walk(os.path.join(ROOT, folder)):
            folders[:] = [name for name in folders if name not in ("out", "__pycache__")]
            found.update(files)
    return found


@functools.lru_cache(None)
def tools_options():
    """What the tools and the tests take."""
    found = {"--help"}
    for folder in "tools", "test":
        for where, _, files in os.walk(os.path.join(ROOT, folder)):
            for name in files:
                if name.endswith((".py", ".c")):
                    found.update(re.findall(r'"(--[a-z][a-z0-9-]*)"', read(
                        os.path.join(where, name))))
    return found


class Documents(unittest.TestCase):
    def every(self, find, check):
        for document in DOCUMENTS:
            for item in find(read(document)):
                with self.subTest("%s: %s" % (document, item)):
                    check(document, item)

    def test_links(self):
        self.every(links, self.link)

    def link(self, document, link):
        path, _, anchor = link.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(document), path)
                                if path else document)
        self.assertTrue(os.path.exists(os.path.join(ROOT, path)), path)
        if anchor:
            self.assertIn(anchor, headings(read(path)))

    def test_linked_once(self):
        """README.md leads to every document, once."""
        found = [link.split("#")[0] for link in links(read(README))]
        for document in DOCUMENTS:
            if document.startswith("doc/"):
                self.assertEqual(found.count(document), 1, document)

    def test_length(self):
        self.assertLessEqual(read(README).count("\n"), MOST_LINES)

    def test_paths(self):
        self.every(lambda text: " ".join(spans(text)).split(), self.path)

    def path(self, _, word):
        word = word.strip(".,;:")
        if re.fullmatch(r"(%s)/[\w./-]*" % "|".join(map(re.escape, FOLDERS)), word):
            self.assertTrue(word.startswith("demo/out/") or os.path.exists(
                os.path.join(ROOT, word)), "no such file")
        elif re.fullmatch(r"[\w-]+\.(c|h|py|sh|md|sbatch|tsv)", word):
            self.assertIn(word, names_here() | NOT_HERE)

    def test_targets(self):
        self.every(lambda text: [span for span in spans(text) if re.match("make ", span)],
                   self.targets)

    def targets(self, _, span):
        known = set(" ".join(re.findall(r"(?m)^([\w. /-]+):", read("Makefile"))).split())
        for word in shlex.split(span.split(";")[0])[1:]:
            if "=" not in word and not word.startswith("-"):
                self.assertIn(word, known)


class OptionsInDocuments(unittest.TestCase):
    def test_known(self):
        """No document names an option that neither the program has nor a tool."""
        known = {option.name for command in program()[2] for option in command.options}
        for document in DOCUMENTS:
            for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", " ".join(
                    spans(read(document)))):
                with self.subTest(document):
                    self.assertIn(option, known | tools_options())

    def test_table(self):
        """doc/commands.md's table of options is the program's."""
        told = {}
        for name, of in re.findall(r"(?m)^\| `(--?[a-z-]+)[^`]*` \| ([a-z ]+) \|",
                                   read("doc/commands.md")):
            self.assertNotIn(name, told)
            told[name] = sorted(c.name for c in program()[2]) if of == "all" else sorted(of.split())
        there = {}
        for command in program()[2]:
            for option in command.options:
                there.setdefault(option.name, []).append(command.name)
        self.assertEqual(told, {name: sorted(of) for name, of in there.items()})

    def test_words(self):
        """And the words that some options take."""
        rows = dict(re.findall(r"(?m)^\| `(--?[a-z-]+)[^`]*` \| [a-z ]+ \| (.*?) *\|$",
                               read("doc/commands.md")))
        for option in manual.options_of(program()[2]):
            if manual.choices(option):
                words = re.findall("`([^`]*)`", re.split("[:(]", rows[option.name])[0])
                self.assertEqual(words, manual.choices(option), option.name)

    def test_commands(self):
        """Its table of commands has all, and no option that a command does not take."""
        rows = re.findall(r"(?m)^\| `lape ([a-z]+)[^`]*`.*$", read("doc/commands.md"))
        self.assertEqual(sorted(rows), sorted(c.name for c in program()[2]))
        for command in program()[2]:
            row, = re.findall(r"(?m)^\| `lape %s .*$" % command.name, read("doc/commands.md"))
            used = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", " ".join(spans(row))))
            self.assertLessEqual(used, {option.name for option in command.options})


# ---- Man page, completion, installation --------------------------------------------------------

def said(command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
                          check=False, **more)


class Manual(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix="test_doc.")
        self.addCleanup(holder.cleanup)
        self.folder = holder.name
        done = self.make(LAPE)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def path(self, name):
        return os.path.join(self.folder, name)

    def make(self, lape):
        return said([sys.executable, os.path.join(ROOT, "tools", "manual.py"), self.folder,
                     "--lape", lape])

    def lines(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read().split("\n")

    def test_page(self):
        """Every command with every option, in the program's order; the version."""
        lines = self.lines("lape.1")
        _, version, commands = program()
        self.assertEqual(said([LAPE, "--version"]).stdout, "lape %s\n" % version)
        self.assertIn('"lape %s"' % version, lines[0])
        found = [line[4:] for line in lines if line.startswith(".SS ")]
        self.assertEqual(found, [command.name for command in commands])
        options = [line[3:].replace("\\-", "-") for line in lines if line.startswith(".B \\-")]
        self.assertEqual(options, [" ".join(filter(None, (option.name, option.value)))
                                   for command in commands for option in command.options])
        for command in commands:                     # and these are the lines of its help
            listed = said([LAPE, command.name, "-h"]).stdout
            self.assertEqual(listed.count("\n  -"), len(command.options))

    @unittest.skipUnless(has("groff"), "groff is not installed")
    def test_groff(self):
        done = said(["groff", "-man", "-ww", "-z", self.path("lape.1")])
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    @unittest.skipUnless(has("bash"), "bash is not installed")
    def test_bash(self):
        _, _, commands = program()
        names = [command.name for command in commands] + manual.ASKED
        cases = [(["lape", ""], names), (["lape", "t"], ["tokenize", "trace"]),
                 (["lape", "x"], []), (["lape", "count", "demo"], []),
                 (["lape", "find", "--m"], ["--method"]), (["lape", "merge", "--n"], []),
                 (["lape", "find", "--method", ""], "lape lap lave random".split()),
                 (["lape", "find", "x", "--method", "r"], ["random"]),
                 (["lape", "generate", "--how", ""], "replace add scale diffmean".split()),
                 (["lape", "trace", "--at", "at"], ["attn_norm", "attn_out"]),
                 (["lape", "ppl", "--seq", "-"], []), (["lape", "ppl", "-o", ""], [])]
        cases += [(["lape", command.name, "-"], [o.name for o in command.options])
                  for command in commands]
        for words, wanted in cases:
            with self.subTest(words):
                done = said(["bash", "-c", 'source "$1"; shift; COMP_WORDS=("$@") '
                             'COMP_CWORD=$(($# - 1)); _lape; printf "%s\\n" "${COMPREPLY[@]}"',
                             "bash", self.path("lape.bash"), *words])
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertEqual(done.stdout.split(), wanted)

    def test_words(self):
        """The words are those that the program takes: it lists or refuses others."""
        words = {option.name: manual.choices(option)
                 for option in manual.options_of(program()[2]) if manual.choices(option)}
        self.assertEqual(sorted(words), ["--at", "--how", "--method", "--of", "--off-how"])
        model, text = (os.path.join(ROOT, "demo", *path) for path in (
            ["model.gguf"], ["text", "en.eval.txt"]))
        few = ["--tokens", "2", "--seq", "2", "-q", "-o", self.path("x.npy")]
        for word in words["--at"]:
            done = said([LAPE, "trace", model, text, "--at", word, *few])
            self.assertEqual((done.returncode, done.stderr), (0, ""), word)
        for word in words["--how"]:
            done = said([LAPE, "generate", model, "-p", "x", "-n", "1", "-q", "--how", word])
            self.assertEqual((done.returncode, done.stderr), (0, ""), word)
        for word in words["--off-how"]:
            done = said([LAPE, "generate", model, "-p", "x", "-n", "1", "-q", "--off-how", word])
            self.assertEqual((done.returncode, done.stderr), (0, ""), word)
        for word in words["--of"]:
            done = said([LAPE, "count", model, "en=" + text, "--of", word, *few])
            self.assertEqual((done.returncode, done.stderr), (0, ""), word)
        for word in words["--method"]:
            done = said([LAPE, "find", self.path("none"), "--method", word])
            self.assertIn("No such file", done.stderr, word)

    @unittest.skipUnless(has("zsh"), "zsh is not installed")
    def test_zsh(self):
        done = said(["zsh", "-n", self.path("_lape")])
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_other_help(self):
        """What the program says otherwise than is known is refused, and nothing is written."""
        help_of = said([LAPE, "find", "-h"]).stdout
        os.remove(self.path("lape.1"))
        for old, new in (("  --top R   ", "  --top R "), ("lape find", "lape fund"),
                         ("\n\n", "\n")):
            self.assertIn(old, help_of)
            with open(self.path("other"), "w", encoding="utf-8") as file:
                file.write('#!/bin/sh\n[ "$1 $2" = "find -h" ] || exec "%s" "$@"\ncat <<\'END\'\n%s'
                           "END\n" % (LAPE, help_of.replace(old, new, 1)))
            os.chmod(self.path("other"), 0o755)
            done = self.make(self.path("other"))
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertRegex(done.stderr, r"\Amanual\.py: the program's help: .*\n\Z")
            self.assertFalse(os.path.exists(self.path("lape.1")))


class Installing(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix="test_doc.")
        self.addCleanup(holder.cleanup)
        self.root = os.path.join(holder.name, "a root")
        self.bin = os.path.join(holder.name, "bin")

    def files(self):
        return sorted(os.path.relpath(os.path.join(where, name), self.root)
                      for where, _, names in os.walk(self.root) for name in names)

    def make(self, what, **more):
        done = tree().run("make -s %s PREFIX=/usr DESTDIR='%s'" % (what, self.root), **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def test_all(self):
        """What is installed is there and works; what was there before stays."""
        self.make("install")
        self.assertEqual(self.files(), [
            "usr/bin/lape", "usr/share/bash-completion/completions/lape",
            "usr/share/man/man1/lape.1", "usr/share/zsh/site-functions/_lape"])
        for name in self.files():
            mode = os.stat(os.path.join(self.root, name)).st_mode & 0o777
            self.assertEqual(mode, 0o755 if name == "usr/bin/lape" else 0o644, name)
        done = said([os.path.join(self.root, "usr/bin/lape"), "--version"])
        self.assertEqual(done.stdout, "lape %s\n" % program()[1])
        other = os.path.join(self.root, "usr/share/man/man1/other.1")
        with open(other, "w", encoding="ascii"):
            pass
        self.make("uninstall")
        self.assertEqual(self.files(), ["usr/share/man/man1/other.1"])
        self.make("uninstall")                       # nothing is there to be removed

    def test_without_python(self):
        """The program alone, and a word about the rest."""
        os.mkdir(self.bin)
        for name in "sh", "make", "install", "rm":
            os.symlink(shutil.which(name), os.path.join(self.bin, name))
        tree().must("make -s lape")
        done = self.make("-o lape install", PATH=self.bin)
        self.assertEqual(self.files(), ["usr/bin/lape"])
        self.assertIn("no python3", done.stdout)
        self.make("uninstall", PATH=self.bin)
        self.assertEqual(self.files(), [])


def main():
    add_examples()
    left = [(document, command, why_not(command)) for document, command in examples()
            if why_not(command)]
    for item in left:
        print("not run: %s: %s: %s" % item)
    print("not run: %d examples" % len(left))
    return report.main()


if __name__ == "__main__":
    sys.exit(main())
