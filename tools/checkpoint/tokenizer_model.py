"""A tokenizer of tokenizer.model, and of the files beside it."""

import os

from checkpoint.settings import FLAG, OBJECT, Config
from checkpoint.spaces import (check_marked, is_gemma_class, is_llama_class, scheme_of_class,
                               space_scheme)
from checkpoint.words import added_metadata, added_words, check_ids
from formats.gguf import BOOL, F32, I32, STRING, U32
from formats.json_file import read_json
from formats.plain_file import SMALL_FILE, is_there
from formats.sentencepiece import (BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, UNUSED, USER_DEFINED,
                                   read_sentencepiece)
from guard import Refused

LAST = -1000.0                                       # the score of what text never becomes
PAIRS = 1 << 23              # letters that are compared, of each added word and each piece


def read_beside(directory, pieces):
    """tokenizer.json's path and what it says, where one is beside tokenizer.model, which comes
    before it: both have to be of one vocabulary."""
    path = os.path.join(directory, "tokenizer.json")
    if not is_there(path):
        return path, None
    values = read_json(path, SMALL_FILE)
    vocabulary = Config(path, values).part("model").get("vocab", OBJECT)
    if any(vocabulary.get(text) != i for i, (text, _, _) in enumerate(pieces)):
        raise Refused(path, "its vocab is not that of tokenizer.model beside it: only one of the "
                      "two can be right, and the other should go")
    return path, values


def overlap(one, other):
    """Whether two texts can share characters of a third."""
    return one in other or other in one or joins(one, other) or joins(other, one)


def joins(one, other):
    """Whether one ends as the other begins; in time by their length, however alike they are."""
    other = other[:len(one)]
    known, length = [0], 0                           # of other's parts: how long an end begins it
    for letter in other[1:] + one[-len(other):]:
        while length and (length == len(other) or other[length] != letter):
            length = known[length - 1]
        length += other[length] == letter
        known.append(length)
    return length > 0


def scheme_beside(settings, config, arch, values, prefix):
    """Where the space before a text goes when words are added to tokenizer.model; as space_scheme,
    and None where the class would not ask for a space just where the model does."""
    legacy = settings.get("legacy", FLAG, null=False) if "legacy" in settings.values else True
    if is_gemma_class(settings, arch):
        scheme, marked = "never", True
    elif is_llama_class(settings, config):
        scheme, marked = scheme_of_class(settings), False
    elif values is not None:
        scheme, marked = space_scheme(values)
    else:
        scheme, marked = ("always" if legacy else "first") if prefix else "never", True
    return (scheme if (scheme == "never") == (not prefix) else None), marked


def found_words(path, words, pieces, rows):
    """Of the words that are added to pieces those that are looked for. SentencePiece's own
    user-defined pieces are left to it."""
    check_ids(path, words, {text: i for i, (text, _, _) in enumerate(pieces)})
    found = []
    for word in words:
        text, _, kind = pieces[word.id] if word.id < len(pieces) else (word.text, 0, USER_DEFINED)
        if word.special:
            if text != word.text and kind in (NORMAL, USER_DEFINED):
                raise Refused(path, "the special token %.60s has the id %d, which is %.60s's"
                              % (word.text, word.id, text))
        elif kind in (CONTROL, UNKNOWN, BYTE):
            raise Refused(path, "the added token %.60s is not special: tokenizer.model has it as a "
                          "token that text never is" % word.text)
        elif word.id >= rows:
            raise Refused(path, "the added token %.60s has the id %d: config.json's vocab_size is "
                          "%d, and should be more" % (word.text, word.id, rows))
        elif kind == NORMAL or word.id >= len(pieces):
            found.append(word)
    return found


def check_found(path, found, pieces, scheme, marked):
    """Refuses words that the libraries look for in another way than by the file that is written."""
    if scheme not in ("first", "never"):
        raise Refused(path, "the added token %.60s is not special: that is known with a space "
                      "before the whole text alone, as of LlamaTokenizer with legacy false"
                      % found[0].text)
    if marked:
        check_marked(path, found)
    own = [text.replace(SPACE, " ") for text, _, kind in pieces if kind == USER_DEFINED]
    work = len(found) * sum(map(len, own)) + len(own) * sum(len(word.text) for word in found)
    if work > PAIRS:
        raise Refused(path, "has %d added tokens, and tokenizer.model looks for %d pieces of its "
                      "own: fewer, or shorter ones, are expected" % (len(found), len(own)))
    for word in found:
        for text in own:
            if overlap(word.text.replace(SPACE, " "), text):
                raise Refused(path, "the added token %.60s may overlap with %.60s, which "
                              "tokenizer.model looks for: which goes first is not known"
                              % (word.text, text))


def pieces_metadata(directory, config, rows, arch, settings):
    """The tokenizer's keys from tokenizer.model and the words that are added to it."""
    path = os.path.join(directory, "tokenizer.model")
    pieces, spec = read_sentencepiece(path)
    if len(pieces) > rows:
        raise Refused(path, "has %d pieces: config.json's vocab_size is %d, and should not be less"
                      % (len(pieces), rows))
    prefix = bool(spec["add_dummy_prefix"])
    if not is_gemma_class(settings, arch) and (
            settings.get("add_prefix_space", FLAG, null=prefix) != prefix):
        raise Refused(settings.path, "add_prefix_space is %r, and tokenizer.model's "
                      "add_dummy_prefix is not" % (not prefix))
    beside, values = read_beside(directory, pieces)
    words = added_words(directory, settings, beside, values)
    source = settings.path if values is None else beside
    found = found_words(source, words, pieces, rows)
    if found:
        check_found(source, found, pieces,
                    *scheme_beside(settings, config, arch, values, prefix))
    added = {word.id: word for word in words}
    for number in range(len(pieces), rows):          # rows that training rounded up to, mostly
        word = added.get(number)
        pieces.append(("[PAD%d]" % number, LAST, UNUSED) if word is None else
                      (word.text, LAST, CONTROL if word.special else USER_DEFINED))
    texts, scores, types = map(list, zip(*pieces))
    metadata = [
        ("tokenizer.ggml.model", STRING, "llama"),
        ("tokenizer.ggml.pre", STRING, "default"),
        ("tokenizer.ggml.tokens", STRING, texts),
        ("tokenizer.ggml.scores", F32, scores),
        ("tokenizer.ggml.token_type", I32, types),
        ("tokenizer.ggml.unknown_token_id", U32, spec["unk_id"]),
    ] + added_metadata(found)
    for name in ("bos", "eos"):
        number = config.id(name + "_token_id")
        if name == "bos" and isinstance(config.values.get("bos_token_id"), list):
            number = None                            # only ends may be several
        number = own_end(path, texts, spec, name) if number is None else number
        if number >= rows:
            raise Refused(config.path, "the id of %s is %d: there are %d tokens"
                          % (name, number, rows))
        if number >= 0:                              # -1: the tokenizer has no such token
            metadata.append(("tokenizer.ggml.%s_token_id" % name, U32, number))
    return metadata + [
        ("tokenizer.ggml.add_bos_token", BOOL, settings.get("add_bos_token", FLAG, null=True)),
        ("tokenizer.ggml.add_eos_token", BOOL, settings.get("add_eos_token", FLAG, null=False)),
        ("tokenizer.ggml.add_space_prefix", BOOL, prefix),
    ]


def own_end(path, texts, spec, name):
    """tokenizer.model's own id of bos or eos, which it names too; below zero when it has none."""
    number, text = spec[name + "_id"], spec[name + "_piece"]
    if number >= 0 and (number >= len(texts) or texts[number].encode() != text):
        raise Refused(path, "%s_id is %d, which is not the piece %.60s" % (
            name, number, text.decode(errors="replace")))
    return number
