"""The model of a tokenizer.json: a vocabulary, and pairs that merge."""

import json
import re
import unicodedata

from checkpoint.settings import IS, LIST, OBJECT, TEXT, TEXTS, Config
from checkpoint.spaces import check_spaces
from checkpoint.splits import NORMALIZED, pre_tokenizer
from checkpoint.words import check_ids, is_text
from formats.gguf import BOOL, STRING, U32
from formats.sentencepiece import BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, USER_DEFINED
from guard import Refused, is_count

TOP_KEYS = {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
            "post_processor", "decoder", "model"}
MODEL_KEYS = {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
              "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}

IGNORES_MERGES = {"llama-bpe": (True,), "tekken": (True,)}     # all others: (None, False)

# Who writes text again of tokens with marked spaces, and without the space before it.
WRITERS = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
           {"type": "ByteFallback"}, {"type": "Fuse"}]
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def read_bpe(path, values):
    """(text -> id, pairs that merge) of a tokenizer.json's model."""
    model = Config(path, values).part("model")
    vocabulary, merges = model.get("vocab", OBJECT), model.get("merges", LIST)
    try:
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else
                  tuple(merge) if IS[TEXTS](merge) else () for merge in merges]
        for left, right in merges:
            if left not in vocabulary or right not in vocabulary or (
                    left + right not in vocabulary or " " in left + right):
                raise ValueError
        if not all(is_count(number) and is_text(text) for text, number in vocabulary.items()) or (
                len(set(vocabulary.values())) < len(vocabulary)
                or len(set(merges)) < len(merges)):
            raise ValueError
    except ValueError:
        raise Refused(path, "vocab does not give every token an id of its own, or merges are not "
                      "pairs of its tokens that make one of its tokens, each once")
    return vocabulary, merges


def check_model(path, values, kind, **known):
    """Refuses parts of a tokenizer.json, and settings of its model, that are not known. known: the
    values of a setting that are, the first of them where the key is absent."""
    model = Config(path, values).part("model").values
    unknown = set(values) - TOP_KEYS | set(model) - MODEL_KEYS
    if unknown or values.get("version", "1.0") != "1.0":
        raise Refused(path, "has %.60r in version %.20r: that is not known"
                      % (min(unknown, default="nothing"), values.get("version")))
    known = dict(dict(type=("BPE",), dropout=(None, 0), continuing_subword_prefix=(None, ""),
                      end_of_word_suffix=(None, "")), **known)
    for key, options in known.items():
        value = model.get(key, "BPE" if key == "type" else None if None in options else False)
        if value not in options:
            raise Refused(path, "%s is %.60r: with %s, only %s is known"
                          % (key, value, kind, " or ".join(map(repr, options))))


def check_decoder(path, values, known):
    """Refuses a decoder that makes other text of tokens; without one there is nothing to differ."""
    decoder = values.get("decoder")
    if decoder is None or known == "ByteLevel" == (
            decoder.get("type") if isinstance(decoder, dict) else None):
        return                       # a ByteLevel's settings do nothing there
    if decoder != known:
        raise Refused(path, "the decoder %.300s is not known: %.300s is"
                      % (json.dumps(decoder), json.dumps(known)))


def may_be_word(text):
    """Whether a splitter could leave a text whole: none does, of those that ask the vocabulary
    for whole words, where a letter or number comes before a sign."""
    first = re.search("[A-Za-z0-9]", text)
    return not first or re.search(r"[!-/:-@\[-`{-~]", text[first.end():]) is None


def made_by_text(vocabulary, merges, whole):
    """The tokens that text can become, or needs on the way to others."""
    made = {text for text in vocabulary if len(text) == 1 or whole and may_be_word(text)}
    for left, right in merges:
        made.update((left, right, left + right))
    return made


def place(path, words, vocabulary, made):
    """(id -> text, id -> type) of a vocabulary and the words that are added to it."""
    check_ids(path, words, vocabulary)
    texts = {number: text for text, number in vocabulary.items()}
    types = dict.fromkeys(texts, NORMAL)
    for word in words:
        if texts.get(word.id, word.text) != word.text:
            raise Refused(path, "added_tokens: %.60s has the id %d, which is %.60s's"
                          % (word.text, word.id, texts[word.id]))
        texts[word.id] = word.text
        if not word.special:
            types.setdefault(word.id, USER_DEFINED)
        elif word.text not in vocabulary or word.text not in made:
            types[word.id] = CONTROL
    return texts, types


def write_forms(path, words, vocabulary, texts):
    """Writes normalized words in normal form, in which they are found and become text again. Of
    two that are one there only one could be found."""
    forms = {}
    for word in words:
        form = unicodedata.normalize("NFC", word.text)
        if word.special or not word.normalized:
            continue
        if forms.setdefault(form, word) != word:
            raise Refused(path, "the added tokens %.60s and %.60s are the same in normal form C"
                          % (forms[form].text, word.text))
        if word.text not in vocabulary:
            texts[word.id] = form


# ---- Both kinds ----------------------------------------------------------------------------------

def read_byte_level(path, values, words, arch, settings):
    """(id -> text, id -> type, the model's metadata) of a byte-level tokenizer.json."""
    pre = pre_tokenizer(path, values, arch, settings)
    whole = IGNORES_MERGES.get(pre, (None, False))
    check_model(path, values, pre, byte_fallback=(None, False), ignore_merges=whole)
    check_decoder(path, values, "ByteLevel")
    vocabulary, merges = read_bpe(path, values)
    texts, types = place(path, words, vocabulary, made_by_text(vocabulary, merges, True in whole))
    if pre in NORMALIZED:
        write_forms(path, words, vocabulary, texts)
    return texts, types, [("tokenizer.ggml.model", STRING, "gpt2"),
                          ("tokenizer.ggml.pre", STRING, pre)], merges


def read_ranked(path, values, words, arch, settings, config):
    """(id -> text, id -> type, the model's metadata) of SentencePiece's BPE in tokenizer.json,
    where the order of merges stands for scores."""
    check_model(path, values, "byte_fallback", byte_fallback=(True,), ignore_merges=(None, False))
    prefix = check_spaces(path, values, words, arch, settings, config)
    writers = {"type": "Sequence", "decoders": WRITERS + [STRIP] * prefix}
    check_decoder(path, values, writers)
    vocabulary, merges = read_bpe(path, values)
    made = made_by_text(vocabulary, merges, False)
    texts, types = place(path, words, vocabulary, made)
    fixed = dict.fromkeys(("<0x%02X>" % byte for byte in range(256)), BYTE)
    unknown = Config(path, values).part("model").may("unk_token", TEXT)
    if unknown is not None:
        fixed[unknown] = UNKNOWN
    for text, kind in fixed.items():
        if text not in vocabulary or text in made or any(
                word.text == text and not word.special for word in words):
            raise Refused(path, "%.60s is not a token, or is made by merges, or is added and not "
                          "special: bytes and the unknown token are none of these" % text)
        types[vocabulary[text]] = kind
    metadata = [("tokenizer.ggml.model", STRING, "llama"),
                ("tokenizer.ggml.pre", STRING, "default"),
                ("tokenizer.ggml.add_space_prefix", BOOL, prefix)]
    if unknown is not None:
        metadata.append(("tokenizer.ggml.unknown_token_id", U32, vocabulary[unknown]))
    return texts, types, metadata, merges
