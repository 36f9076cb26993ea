"""vocab.json and merges.txt, which are older than tokenizer.json."""

import os

from checkpoint.settings import FLAG
from checkpoint.splits import ENDINGS, WORDS
from checkpoint.words import Word, added_words, special_tokens, tokenizer_class
from formats.json_file import read_json
from formats.plain_file import SMALL_FILE, read_small
from guard import Refused, is_count

# The tokenizer's class, where no file names it; what splits text in each, if not ByteLevel itself,
# and which special tokens are <|endoftext|> where no file names them.
CLASSES = {"gpt2": "GPT2Tokenizer", "opt": "GPT2Tokenizer", "phi2": "CodeGenTokenizer",
           "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer"}
SPLITTERS = {"GPT2Tokenizer": (None, ("bos_token", "eos_token", "unk_token")),
             "CodeGenTokenizer": (None, ("bos_token", "eos_token", "unk_token")),
             "Qwen2Tokenizer": (WORDS + r"\p{N}" + ENDINGS,
                                ("eos_token", "unk_token", "pad_token"))}


def plain_files(path, settings, arch):
    """What tokenizer.json would say, from vocab.json at path and merges.txt, which are older, and
    the added words.

    Completes the settings by what the tokenizer's class assumes.
    """
    directory, vocabulary = os.path.dirname(path), read_json(path, SMALL_FILE)
    name = tokenizer_class(settings) or CLASSES.get(arch)
    if name not in SPLITTERS or not all(map(is_count, vocabulary.values())):
        raise Refused(path, "does not give every token an id, or tokenizer_class, %r, is none of "
                      "%s: see --no-tokenizer" % (name, ", ".join(SPLITTERS)))
    split, assumed = SPLITTERS[name]
    level = {"type": "ByteLevel",
             "add_prefix_space": settings.get("add_prefix_space", FLAG, null=False)}
    pre = level if split is None else {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False},
        dict(level, use_regex=False)]}
    words = {word.text: word for word in added_words(directory, settings)}
    known = dict({text: word.id for text, word in words.items()}, **vocabulary)
    settings.values = dict(
        dict.fromkeys(assumed if "<|endoftext|>" in known else (), "<|endoftext|>"),
        **settings.values)
    for text in special_tokens(settings):
        if text not in known:
            raise Refused(path, "the special token %.60s has no id here, nor in added_tokens.json"
                          % text)
        words[text] = Word(words[text].id if text in words else known[text], text, True, False)
    merges = os.path.join(directory, "merges.txt")
    try:
        lines = read_small(merges).decode("utf-8").replace("\r\n", "\n").split("\n")
    except ValueError:
        raise Refused(merges, "is not UTF-8")
    return {"pre_tokenizer": pre, "normalizer": split and {"type": "NFC"},
            "model": {"type": "BPE", "vocab": vocabulary, "merges": [
                line for line in lines[lines[0].startswith("#version"):] if line]}
            }, list(words.values())
