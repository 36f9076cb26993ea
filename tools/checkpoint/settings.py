"""Settings: JSON files of a checkpoint, each value checked to be of its kind and size."""

import os

from formats.json_file import read_json
from formats.plain_file import is_there
from guard import Refused, is_count

INTEGER, NUMBER, FLAG = "a positive integer", "a positive number", "true or false"
TEXT, OBJECT, LIST, TEXTS = "a text", "an object", "a list", "a list of texts"
IDS = "an id, or a list of ids"
IS = {INTEGER: lambda value: is_count(value) and 0 < value < 1 << 31,
      NUMBER: lambda value: type(value) in (int, float) and 1e-37 < value < 3e38,
      FLAG: lambda value: isinstance(value, bool), TEXT: lambda value: isinstance(value, str),
      OBJECT: lambda value: isinstance(value, dict), LIST: lambda value: isinstance(value, list),
      TEXTS: lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
      IDS: lambda value: all(type(one) is int and -1 << 31 <= one < 1 << 31 for one in (
          value if isinstance(value, list) else [value]))}
# Sizes that lape reads up to. What is made for each layer, head or token is then bounded, too.
MOST = {"hidden_size": 1 << 20, "intermediate_size": 1 << 22, "num_hidden_layers": 1 << 12,
        "num_attention_heads": 1 << 12, "num_key_value_heads": 1 << 12, "head_dim": 1 << 12,
        "vocab_size": 1 << 24}
# And numbers that it reads between.
EPSILON, BASE, SCALE = (0, 0.99), (1, 1e30), (1e-6, 1e6)
BETWEEN = {"rms_norm_eps": EPSILON, "layer_norm_eps": EPSILON, "layer_norm_epsilon": EPSILON,
           "rope_theta": BASE, "rope_local_base_freq": BASE, "factor": (1e-3, 1e6),
           "query_pre_attn_scalar": SCALE, "attn_logit_softcapping": SCALE,
           "final_logit_softcapping": SCALE, "logit_scale": SCALE, "attention_multiplier": SCALE,
           "embedding_multiplier": SCALE, "residual_multiplier": SCALE, "logits_scaling": SCALE}


class Config:
    """A JSON file of settings, or an object in it, over the defaults of those that it leaves out.
    """

    def __init__(self, path, values, defaults=None):
        self.path, self.values, self.defaults = path, values, defaults or {}

    def get(self, key, kind, null=None):
        """The setting, checked to be of its kind; `null` is what null stands for, if anything."""
        value = self.may(key, kind)
        value = null if value is None else value
        if value is None:
            raise Refused(self.path, "%s is None: %s is expected" % (key, kind))
        return value

    def may(self, key, kind):
        """The setting, checked to be of its kind, or None where it is null or absent."""
        value = self.values.get(key, self.defaults.get(key))
        if value is not None and not IS[kind](value):
            raise Refused(self.path, "%s is %.200r: %s is expected" % (key, value, kind))
        if value is not None:
            self.check_size(key, kind, value)
        return value

    def check_size(self, key, kind, value):
        """That a number of its kind is one that lape reads."""
        if kind == INTEGER and value > MOST.get(key, value):
            raise Refused(self.path, "%s is %d: at most %d is expected" % (key, value, MOST[key]))
        least, most = BETWEEN.get(key, (value, value))
        if kind == NUMBER and not least <= value <= most:
            raise Refused(self.path, "%s is %r: a number from %g to %g is expected"
                          % (key, value, least, most))

    def part(self, key):
        """The settings in an object, none where it is null or absent."""
        return Config(self.path, self.may(key, OBJECT) or {})

    def id(self, key):
        """A token's id; of several the first, since others end a turn of a chat. None without."""
        value = self.may(key, IDS)
        return next(iter(value), None) if isinstance(value, list) else value


def read_optional(directory, name):
    """A JSON file that a checkpoint may lack, as a Config."""
    path = os.path.join(directory, name)
    return Config(path, read_json(path) if is_there(path) else {})
