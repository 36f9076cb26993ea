"""What all tools share: a refusal in one line, files that appear whole or not at all, warnings that
are refusals, and labels of languages. Standard library only.
"""

import contextlib
import os
import re
import subprocess
import sys
import warnings


class Refused(Exception):
    """What is not worked on: its file, if it has one, what is wrong, and what would be right."""

    def __init__(self, *parts):
        super().__init__(": ".join(parts))


def status_of(tool, work):
    """The exit status of a tool's work; why it could not be done is one line on stderr."""
    try:
        return work() or 0
    except subprocess.CalledProcessError as problem:
        print("%s: failed: %s" % (tool, " ".join(problem.cmd[:4])), file=sys.stderr)
    except (Refused, OSError) as problem:
        print("%s: %s" % (tool, problem), file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def complain(tool, text):
    """One line on stderr, whatever characters a hostile name brings along."""
    line = "".join(letter if letter.isprintable() else "?" for letter in text[:2001])
    print("%s: %s" % (tool, line if len(line) < 2000 else line[:2000] + "..."), file=sys.stderr)


# ---- Counts and labels --------------------------------------------------------------------------

def is_count(value):
    """Whether value is an integer from 0 up, and one that a file can need; True is none."""
    return type(value) is int and 0 <= value < 1 << 63


LABEL = "[A-Za-z0-9_-]{1,24}"        # of a language, as the program takes it
# What stands in tables where no language does: the row of the model as it is, a neuron of none.
RESERVED = ("none", "-")
LABELS_ARE = "1 to 24 letters, digits, _ or -, but neither none nor - alone"


def is_label(text):
    """Whether a text can be the label of a language."""
    return re.fullmatch(LABEL, text) is not None and text not in RESERVED


# ---- Warnings ----------------------------------------------------------------------------------

# These are about how a program is written, and not about what it was given.
OF_PROGRAMS = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def warnings_are_errors():
    """From here on a library that warns is an exception, which the tool says in a line of its own.

    A warning is doubt about the input. Said on the side it is overlooked, and the output believed.
    """
    warnings.resetwarnings()
    warnings.simplefilter("error")
    for kind in OF_PROGRAMS:
        warnings.simplefilter("ignore", kind)


@contextlib.contextmanager
def no_warnings(path):
    """What a library warns of while it works on a file is a refusal of that file."""
    with warnings.catch_warnings():
        warnings_are_errors()
        try:
            yield
        except Warning as warning:
            raise Refused(path, doubt(warning))


def doubt(warning):
    """A library's warning in one line of ours."""
    return "refused, since there is a warning of it: " + " ".join(str(warning).split())


# ---- Output ------------------------------------------------------------------------------------

@contextlib.contextmanager
def new_file(path, inputs=(), streams=False):
    """A file, open for bytes, that gets its name only when it is whole; nothing is left of it after
    a failure. A link stays a link: the file that it names is the one that is made anew. A pipe or
    a device takes what is written to it as it comes, if `streams` says that this serves.
    """
    if os.path.exists(path):
        if not os.path.isfile(path):
            if streams and not os.path.isdir(path):
                with opened(path, path, "wb") as file:
                    yield file
                return
            raise Refused(path, "is not a plain file: the name of a file to write is wanted")
        if any(os.path.samefile(path, source) for source in inputs):
            raise Refused(path, "is read as input too: another name is wanted")
    elif os.path.islink(path):
        raise Refused(path, "is a link to %s, which is not there: the name of a file to write is "
                      "wanted" % os.path.realpath(path))
    target = os.path.realpath(path)
    temporary = "%s.%d.tmp" % (target, os.getpid())
    file = opened(path, temporary, "xb")             # x: what has this name is not ours
    try:
        with file:
            yield file
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def opened(path, name, mode):
    """A file of this name, opened to become path."""
    try:
        return open(name, mode)
    except FileExistsError:
        raise Refused(path, "cannot be written: %s is in the way" % name)
    except OSError as problem:
        raise Refused(path, "cannot be written there: %s" % problem.strerror)
