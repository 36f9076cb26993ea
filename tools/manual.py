#!/usr/bin/env python3
"""The man page of `lape`, and what completes its command line in bash and zsh, from what the
program says of itself: `lape --version`, `lape -h`, `lape COMMAND -h`.

    manual.py DIR [--lape PATH]

Writes DIR/lape.1, DIR/lape.bash and DIR/_lape. Python's standard library alone.
"""

import argparse
import collections
import os
import re
import subprocess
import sys

from guard import Refused, new_file, status_of

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

Command = collections.namedtuple("Command", "name words what options")
Option = collections.namedtuple("Option", "name value help")     # a flag's value is ""

FILES = {"FILE", "NEURONS", "COUNTS"}        # values that are files
ASKED = ["help", "-h", "--help", "--version"]  # in place of a command

# The page's own words; test/test_doc.py runs the examples.
DETAILS = """Results go to the standard output or to -o FILE, which appears whole or not at all.
LANG is a language's label, of 1 to 24 letters, digits, _ or -. A text is one file in UTF-8, or
holds token ids: .npy of integers, or .bin. A model is a file in GGUF with llama.cpp's names;
tools/convert.py, which comes with the source, makes it from a Hugging Face folder."""
STATUS = [("0", "It is done; of diff: every count is within the bound."),
          ("1", "It failed."), ("2", "Wrong usage.")]
STATUS_SAYS = "What is not 0 comes with one line on the standard error that says what and where."
EXAMPLES = [
    ("Count in texts of three languages, and select:",
     ["lape count model.gguf en=en.txt fr=fr.txt zh=zh.txt -o counts.gguf",
      "lape find counts.gguf -o neurons.tsv"]),
    ("Perplexity of other texts, as it is and with each language's neurons at 0:",
     ["lape ppl model.gguf en=en.test.txt fr=fr.test.txt zh=zh.test.txt --neurons neurons.tsv"]),
    ("Write in French after an English prompt:",
     ['lape generate model.gguf -p "The weather today" --neurons neurons.tsv '
      "--counts counts.gguf --off en --on fr"]),
]
PAPER = ("Tang et al., Language-Specific Neurons: The Key to Multilingual Capabilities in Large "
         "Language Models, ACL 2024, arXiv 2402.16438")


# ---- What the program says ---------------------------------------------------------------------

def ask(lape, *words):
    done = subprocess.run([lape, *words], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                          encoding="utf-8", check=True)
    return done.stdout


def read_options(lines):
    """Options of `lape COMMAND -h`: "  NAME VALUE   help", with lines of more help below."""
    found = []
    for line in lines:
        option = re.fullmatch(r"  (--?[a-z-]+) (\S*)   +(.*)", line)
        if option:
            found.append(Option(*option.groups()))
        elif found and line.startswith(" " * 9):
            found[-1] = found[-1]._replace(help=found[-1].help + " " + line.strip())
        else:
            raise Refused("the program's help", "is no option's: " + line)
    return [option._replace(help=" ".join(option.help.split())) for option in found]


def read_command(lape, name):
    used, what, empty, *options = ask(lape, name, "-h").rstrip("\n").split("\n")
    words = used.split(" ", 2)
    if words[:2] != ["lape", name] or len(words) < 3 or empty:
        raise Refused("the program's help", "begins otherwise: " + used)
    return Command(name, words[2], what.strip(), read_options(options))


def read_program(lape):
    """(what it is, in two lines; version; commands)"""
    listing, version = ask(lape, "-h"), ask(lape, "--version").split()[1]
    names = re.findall(r"(?m)^  lape ([a-z]+) +\S", listing)
    return listing.split("\n")[:2], version, [read_command(lape, name) for name in names]


def choices(option):
    """The words that an option takes: "a|b|c"."""
    return option.value.split("|") if "|" in option.value else []


# ---- The page ----------------------------------------------------------------------------------

def roff(text):
    """As groff's man macros print it letter by letter."""
    for letter, escape in (("\\", "\\e"), ("-", "\\-"), ("`", "\\(ga"), ("'", "\\(aq"),
                           ("^", "\\(ha"), ("~", "\\(ti")):
        text = text.replace(letter, escape)
    return "\\&" + text if text.startswith(".") else text


def page(about, version, commands):
    name, _, what = about[0].partition(": ")
    lines = ['.TH LAPE 1 "" "lape %s" "User Commands"' % version, ".SH NAME",
             "%s \\- %s" % (name, roff(what)), ".SH SYNOPSIS"]
    for command in commands:
        lines += [".B lape " + command.name, roff(command.words), ".br"]
    lines += [".B lape", roff("[-h | --help | help | --version]"), ".SH DESCRIPTION",
              roff(about[1]), ".PP", *map(roff, DETAILS.split("\n")), ".SH COMMANDS"]
    for command in commands:
        lines += [".SS " + command.name, ".B lape " + command.name, roff(command.words),
                  ".PP", roff(command.what[0].upper() + command.what[1:] + ".")]
        for option in command.options:
            lines += [".TP", ".B " + roff(("%s %s" % option[:2]).rstrip()), roff(option.help)]
    lines += [".SH EXIT STATUS"]
    for status, means in STATUS:
        lines += [".TP", ".B " + status, roff(means)]
    lines += [".PP", roff(STATUS_SAYS), ".SH EXAMPLES"]
    for i, (says, example) in enumerate(EXAMPLES):
        lines += [".PP"] * (i > 0) + [roff(says), ".PP", ".nf", ".RS", *map(roff, example), ".RE",
                                      ".fi"]
    return "\n".join(lines + [".SH SEE ALSO", roff(PAPER), ""])


# ---- Completion --------------------------------------------------------------------------------

def options_of(commands):
    """Every option once, as it is the same in all commands."""
    return list({option.name: option for command in commands
                 for option in command.options}.values())


def bash(version, commands):
    lines = ["# Completes lape %s in bash; written by tools/manual.py." % version,
             "_lape() {",
             "    local word=${COMP_WORDS[COMP_CWORD]} words=",
             "    COMPREPLY=()",
             "    case ${COMP_WORDS[COMP_CWORD - 1]} in"]
    every = options_of(commands)
    for option in every:
        if choices(option):
            lines += ["    %s) words='%s' ;;" % (option.name, " ".join(choices(option)))]
    # A file's name is what readline completes where nothing else is known; not so a number's.
    lines += ["    %s) compopt +o default 2>/dev/null; return ;;" % "|".join(
        option.name for option in every
        if option.value and option.value not in FILES and not choices(option)),
              "    %s) return ;;" % "|".join(o.name for o in every if o.value in FILES),
              "    *)", "        if ((COMP_CWORD == 1)); then",
              "            words='%s'" % " ".join([c.name for c in commands] + ASKED),
              "        elif [[ $word == -* ]]; then",
              "            case ${COMP_WORDS[1]} in"]
    for command in commands:
        lines += ["            %s) words='%s' ;;" % (
            command.name, " ".join(option.name for option in command.options))]
    return "\n".join(lines + [
        "            esac", "        fi ;;", "    esac",
        '    [[ $words ]] && COMPREPLY=($(compgen -W "$words" -- "$word"))',
        "    return 0", "}", "complete -o default -F _lape lape", ""])


def quoted(text):
    return "'%s'" % text.replace("'", "'\\''")


def zsh_option(option):
    says = re.sub(r"([\[\]:\\])", r"\\\1", option.help)
    takes = ""
    if option.value:
        takes = ":%s:%s" % (option.value if not choices(option) else "word",
                            "(%s)" % " ".join(choices(option)) if choices(option) else
                            "_files" if option.value in FILES else " ")
    return quoted("%s[%s]%s" % (option.name, says, takes))


def zsh(version, commands):
    lines = ["#compdef lape", "# Completes lape %s in zsh; written by tools/manual.py." % version,
             "", "# A file, or LANG=FILE", "_lape_files() { compset -P '*='; _files }", "",
             "_lape() {", "    local curcontext=$curcontext state line",
             "    local -a commands", "    commands=("]
    lines += ["        " + quoted("%s:%s" % (c.name, c.what.replace(":", "\\:"))) for c in commands]
    lines += ["        " + quoted("%s:%s" % (word, "which lape it is" if word == "--version" else
                                             "the commands")) for word in ASKED]
    lines += ["    )", "    _arguments -C '1: :->command' '*:: :->rest'", "    case $state in",
              "    command) _describe -t commands command commands ;;",
              "    rest)", "        case $line[1] in"]
    for command in commands:
        lines += ["        %s)" % command.name, "            _arguments \\"]
        lines += ["                %s \\" % zsh_option(option) for option in command.options]
        lines += ["                '*:file:_lape_files' ;;"]
    return "\n".join(lines + ["        esac ;;", "    esac", "}", "", '_lape "$@"', ""])


def work(args):
    about, version, commands = read_program(os.path.abspath(args.lape))
    os.makedirs(args.folder, exist_ok=True)
    for name, text in (("lape.1", page(about, version, commands)),
                       ("lape.bash", bash(version, commands)), ("_lape", zsh(version, commands))):
        with new_file(os.path.join(args.folder, name)) as file:
            file.write(text.encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("folder", metavar="DIR", help="made where it is not there")
    parser.add_argument("--lape", default=os.path.join(ROOT, "lape"), metavar="PATH",
                        help="the program (the one beside this folder)")
    args = parser.parse_args()
    return status_of("manual.py", lambda: work(args))


if __name__ == "__main__":
    sys.exit(main())
