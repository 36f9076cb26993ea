"""Settings: JSON files of a checkpoint, each value checked to be of its kind."""

import os

from formats.json_file import parse_json, read_small
from guard import Refused, is_count

INTEGER, NUMBER, FLAG = "a positive integer", "a positive number", "true or false"
IS = {INTEGER: lambda value: is_count(value) and 0 < value < 1 << 31,
      NUMBER: lambda value: type(value) in (int, float) and 1e-37 < value < 3e38,
      FLAG: lambda value: isinstance(value, bool)}


class Config:
    """A JSON file of settings over the defaults of those that it leaves out."""

    def __init__(self, path, values, defaults):
        self.path, self.values, self.defaults = path, values, defaults

    def get(self, key, kind, null=None):
        """The setting, checked to be of its kind; `null` is what null stands for, if anything."""
        value = self.values.get(key, self.defaults.get(key))
        value = null if value is None else value
        if not IS[kind](value):
            raise Refused(self.path, "%s is %r: %s is expected" % (key, value, kind))
        return value


def read_optional(directory, name):
    """A JSON file that a checkpoint may lack, as a Config."""
    path = os.path.join(directory, name)
    return Config(path, parse_json(path, read_small(path)) if os.path.isfile(path) else {}, {})
