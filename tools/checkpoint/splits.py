"""What splits a text into words before BPE, by tokenizer.json or by the tokenizer's class."""

import json
import os

from checkpoint.settings import FLAG
from checkpoint.words import tokenizer_class
from guard import Refused

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
ENDINGS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
START = r"[^\r\n\p{L}\p{N}]?"
# What splits text into words -> its name in llama.cpp: a regular expression, or a kind of splitter.
SPLITS = {
    WORDS + r"\p{N}{1,3}" + ENDINGS: "llama-bpe",
    WORDS + r"\p{N}" + ENDINGS: "qwen2",
    START + UPPER + "*" + LOWER + "+|" + START + UPPER + "+" + LOWER + r"*|\p{N}"
    + ENDINGS.replace(r"[\r\n]*|", r"[\r\n/]*|", 1): "tekken",
    r" ?[^(\s|[.,!?…。，、।۔،])]+": "bloom",
}

NORMALIZED = {"qwen2": {"type": "NFC"}, "command-r": {"type": "NFC"}}      # all others: None

# Classes that split text in their own way, whatever tokenizer.json says.
OWN = {"GPT2Tokenizer": ("gpt-2", "phi-2"), "CodeGenTokenizer": ("gpt-2", "phi-2"),
       "Qwen2Tokenizer": ("qwen2",), "CohereTokenizer": ("command-r",)}


def splits_by(values, arch):
    """llama.cpp's name of what splits text into words; None when it is not known."""
    def splitter(part, **expected):
        part = dict(part)
        part.pop("trim_offsets", None)               # says where tokens were, not which
        return part == expected

    pre = values.get("pre_tokenizer")
    parts = pre.get("pretokenizers") if isinstance(pre, dict) and pre.get("type") == "Sequence" \
        and len(pre) == 2 else [pre]
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return None
    byte_level = dict(type="ByteLevel", add_prefix_space=False)
    words = parts and (splitter(parts[-1], **byte_level)
                       or splitter(parts[-1], use_regex=True, **byte_level))
    if len(parts) == 1 and words:
        return "phi-2" if arch == "phi2" else "gpt-2"
    if len(parts) == 2 and splitter(parts[0], type="Digits", individual_digits=True) and words:
        return "command-r"
    if len(parts) == 2 and splitter(parts[1], use_regex=False, **byte_level):
        pattern = parts[0].get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, dict) else None
        if isinstance(regex, str) and splitter(parts[0], type="Split", pattern={"Regex": regex},
                                               behavior="Isolated", invert=False):
            return SPLITS.get(regex)
    return None


def pre_tokenizer(path, values, arch, settings):
    """llama.cpp's name of what splits text into words."""
    name, normalizer = splits_by(values, arch), values.get("normalizer")
    if name is None:
        raise Refused(path, "the pre_tokenizer %.300s is none of gpt-2's, phi-2's, llama-bpe's, "
                      "qwen2's, tekken's, bloom's and command-r's: see --no-tokenizer"
                      % json.dumps(values.get("pre_tokenizer")))
    if normalizer != NORMALIZED.get(name):
        raise Refused(path, "the normalizer %.200s is not known with %s"
                      % (json.dumps(normalizer), name))
    own = OWN.get(tokenizer_class(settings))
    prefix = settings.get("add_prefix_space", FLAG, null=False)
    if own and name not in own or prefix:
        raise Refused(settings.path, "tokenizer_class %s, add_prefix_space %r is not what %s has: "
                      "%s" % (tokenizer_class(settings), prefix, os.path.basename(path), name))
    return name
