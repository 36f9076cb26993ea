"""The files beside a vocabulary, and the words that they add to it."""

import collections
import re

from checkpoint.settings import LIST, OBJECT, TEXT, Config, read_optional
from formats.gguf import BOOL, I32
from guard import Refused, is_count

# A word that is added to a vocabulary: it is found in a text as it reads, before the text goes to
# the tokenizer's model; a normalized one only then, in normal form, in what is left. A special one
# is not looked for: what is spelled like it in a text is text.
Word = collections.namedtuple("Word", "id text special normalized")
FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
LISTED = ("additional_special_tokens", "extra_special_tokens")


# ---- Settings ------------------------------------------------------------------------------------

def read_settings(directory):
    """tokenizer_config.json, completed by special_tokens_map.json, which is older: no one reads
    that beside a list of added tokens."""
    settings = read_optional(directory, "tokenizer_config.json")
    older = read_optional(directory, "special_tokens_map.json")
    if settings.values.get("added_tokens_decoder") is None:
        for name in NAMED:
            texts = special_tokens(settings, [name]) + special_tokens(older, [name])
            if len(set(texts)) > 1:
                raise Refused(older.path, "%s is %.60s: in tokenizer_config.json it is %.60s"
                              % (name, texts[1], texts[0]))
        settings.values = dict(older.values, **settings.values)
    for key, known in (("sp_model_kwargs", (None, {})), ("fix_mistral_regex", (None, False)),
                       ("fast_tokenizer_files", (None, [], ["tokenizer.json"]))):
        if settings.values.get(key) not in known:
            raise Refused(settings.path, "%s is %.200r: only %r is known"
                          % (key, settings.values[key], known[-1]))
    settings.may("added_tokens_decoder", OBJECT)
    return settings


def tokenizer_class(settings):
    """The name of the tokenizer's class, if one is given; the same for its fast form."""
    name = settings.may("tokenizer_class", TEXT)
    return re.sub("Fast$", "", name) if name else None


def special_tokens(settings, keys=NAMED + LISTED):
    """The texts of the tokens that are named as special."""
    tokens = []
    for key in keys:
        value = settings.values.get(key)
        value = list(value.values()) if key in LISTED and isinstance(value, dict) else value
        tokens += value if isinstance(value, list) else [value]
    texts = [token.get("content") if isinstance(token, dict) else token for token in tokens]
    if not all(text is None or isinstance(text, str) for text in texts):
        raise Refused(settings.path, "a special token has no text for a name")
    return [text for text in texts if text is not None]


# ---- Words ---------------------------------------------------------------------------------------

def read_word(path, number, entry, wanted=()):
    """A Word from an entry of a file, which has to give the wanted flags itself."""
    if not isinstance(entry, dict) or not set(wanted) <= set(entry):
        raise Refused(path, "the added token %.20s is not an object with all flags, which are %s"
                      % (number, ", ".join(FLAGS)))
    unknown, text = set(entry) - {"id", "content", *FLAGS}, entry.get("content")
    flags = {name: entry.get(name, False) for name in FLAGS}
    flags["normalized"] = entry.get("normalized", not flags["special"])
    if not is_count(number) or not isinstance(text, str) or not is_text(text) or not all(
            isinstance(flag, bool) for flag in flags.values()):
        raise Refused(path, "the added token %.20s has no id, no text, or a flag that is neither "
                      "true nor false" % number)
    if unknown:
        raise Refused(path, "the added token %.60s has %.60s, which is not known"
                      % (text, min(unknown)))
    if not flags["special"] and any(flags[name] for name in FLAGS[:3]):
        raise Refused(path, "the added token %.60s takes the spaces beside it, or whole words "
                      "only: that is not known" % text)
    return Word(number, text, flags["special"], flags["normalized"])


def is_text(text):
    """Whether there is something in a string, all of it characters."""
    try:
        return bool(text.encode("utf-8"))
    except UnicodeEncodeError:
        return False


def words_of_decoder(settings):
    """The words of tokenizer_config.json, in the order of their ids; None where it has no list."""
    entries = settings.may("added_tokens_decoder", OBJECT)
    if entries is None:
        return None
    if not all(re.fullmatch("[0-9]{1,18}", key) for key in entries):
        raise Refused(settings.path, "added_tokens_decoder is not an object of ids")
    named, listed = (set(special_tokens(settings, keys)) for keys in (NAMED, LISTED))
    words = []
    for number in sorted(entries, key=int):
        word = read_word(settings.path, int(number), entries[number])
        if not word.special and word.text in listed and word.text not in named:
            raise Refused(settings.path, "%.60s is one of the additional special tokens, and not "
                          "special in added_tokens_decoder" % word.text)
        words.append(word._replace(special=word.special or word.text in named))
    return words


def words_of_older(directory, settings):
    """The words of added_tokens.json, which says no more than their ids."""
    older, special = read_optional(directory, "added_tokens.json"), set(special_tokens(settings))
    words = [read_word(older.path, number, {"content": text, "special": text in special})
             for text, number in older.values.items()]
    return sorted(words)


def check_others(path, words, directory, settings):
    """Refuses words of tokenizer.json of which the files beside it say something else."""
    said, named = words_of_decoder(settings), set(special_tokens(settings, NAMED))
    differ = {word for word in words if not word.special and word.text in named}
    if said is not None:             # added_tokens.json is then read by no one
        differ |= {word for word in set(words) ^ set(said) if not word.special}
    else:
        known = {(word.id, word.text) for word in words}
        differ |= {word for word in words_of_older(directory, settings)
                   if (word.id, word.text) not in known}
    if differ:
        raise Refused(path, "the added token %.60s is not the same here, in tokenizer_config.json "
                      "and in added_tokens.json" % min(differ).text)


def added_words(directory, settings, path=None, values=None):
    """The words that files add to a vocabulary, in the order in which they are added. values:
    what tokenizer.json at path says, where there is one."""
    if values is None:
        words = words_of_decoder(settings)
        return words_of_older(directory, settings) if words is None else words
    words = []
    for entry in Config(path, values).may("added_tokens", LIST) or []:
        special = isinstance(entry, dict) and entry.get("special") is True
        number = entry.get("id") if isinstance(entry, dict) else None
        words.append(read_word(path, number, entry, FLAGS[4:] if special else FLAGS))
    check_others(path, words, directory, settings)
    return words


def check_ids(path, words, base):
    """Refuses ids that the libraries would not give, whatever the files say: a word that the
    vocabulary has keeps its id there, and others follow on it in their order."""
    last, texts, numbers = -1, set(), set()
    for word in words:
        number = base.get(word.text, max(last + 1, len(base)))
        last = max(last, number)
        if word.text in texts or word.id in numbers:
            raise Refused(path, "the added token %.60s, or its id %d, is there twice"
                          % (word.text, word.id))
        if number != word.id and (not word.special or word.text in base):
            raise Refused(path, "the id of the added token %.60s is %d: by the vocabulary and the "
                          "words before it, it should be %d" % (word.text, word.id, number))
        texts.add(word.text)
        numbers.add(word.id)


def added_metadata(words):
    """The keys for the words that are looked for in a text."""
    found = sorted(word for word in words if not word.special)
    return [("tokenizer.ggml.added_tokens", I32, [word.id for word in found]),
            ("tokenizer.ggml.added_normalized", BOOL, [word.normalized for word in found])
            ] if found else []
