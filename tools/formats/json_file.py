"""Small files that are read whole, and JSON."""

import collections
import json
import os

from guard import Refused, no_warnings

SMALL_FILE = 1 << 28         # what is read whole (JSON, the tokenizer) is smaller than this


def read_small(path):
    """The bytes of a file that is meant to be small."""
    if os.path.getsize(path) > SMALL_FILE:
        raise Refused(path, "is larger than %d MiB: not what its name says" % (SMALL_FILE >> 20))
    with open(path, "rb") as file:
        return file.read()


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
            value = json.loads(raw.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refused(path, "does not hold a JSON object where one is expected")
    return value
