"""JSON: one object, of which no number, depth or repeated key is more than it may be."""

import collections
import json

from formats.plain_file import read_small
from guard import Refused, no_warnings

SETTINGS_FILE = 1 << 24      # a file of settings is smaller than this
DEEPEST = 64                 # objects and lists in each other; files in use have about eight
DIGITS = 4000                # of an integer: to read one takes time by the square of them


def integer(text):
    if len(text) > DIGITS:
        raise ValueError("too many digits")
    return int(text)


def check_depth(path, value):
    """That a value can be walked through, compared and shown by functions that call themselves."""
    level = [value]
    for _ in range(DEEPEST):
        level = [item for part in level
                 for item in (part.values() if isinstance(part, dict) else part)
                 if isinstance(item, (dict, list))]
        if not level:
            return
    raise Refused(path, "has objects or lists more than %d deep in each other: about eight are "
                  "expected" % DEEPEST)


def parse_json(path, raw):
    """The JSON object in raw bytes that come from path; no object in it names a key twice."""
    def once(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):                  # all but the last would be lost, silently
            counted = collections.Counter(key for key, _ in pairs)
            raise Refused(path, "the key %.200s is twice in one object: once is expected"
                          % counted.most_common(1)[0][0])
        return found

    try:
        with no_warnings(path):
            value = json.loads(raw.decode("utf-8"), object_pairs_hook=once, parse_int=integer)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refused(path, "does not hold a JSON object where one is expected")
    check_depth(path, value)
    return value


def read_json(path, most=SETTINGS_FILE):
    """The JSON object that a file holds."""
    return parse_json(path, read_small(path, most))
