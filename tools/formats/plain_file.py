"""Plain files, opened for reading: no pipe that nobody writes to, and no device that never ends."""

import os
import stat

from guard import Refused

SMALL_FILE = 1 << 28         # what is read whole (the tokenizer, counts) is smaller than this


def open_plain(path):
    """A file, open for bytes; anything but a plain file is refused before a byte of it is read."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)    # a pipe would wait here
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise Refused(path, "is not a plain file: one is wanted to read from")
    return os.fdopen(number, "rb")


def size_of(file):
    """How many bytes an open file has."""
    return os.fstat(file.fileno()).st_size


def read_small(path, most=SMALL_FILE):
    """The bytes of a file that is meant to be small."""
    with open_plain(path) as file:
        raw = file.read(most + 1) if size_of(file) <= most else b""
        if len(raw) > most or size_of(file) > most:
            raise Refused(path, "is larger than %d MiB: not what its name says" % (most >> 20))
        return raw


def is_there(path):
    """Whether a name is taken, by whatever: what is no plain file is not passed over, but refused
    when it is opened."""
    return os.path.lexists(path)
