#!/usr/bin/env python3
"""Tokenizers against the families' own libraries: sentencepiece and tokenizers.

    python test/oracle/tokenizing.py [--lape ./lape] [--shared ../shared] [KIND ...]

For every kind a tokenizer is trained here and brought in by tools/convert.py. Then ids are compared
over every line of the texts and over whole texts, over every Unicode scalar value in three contexts
and over random strings of hard characters; and the text of the same ids, of random ids and, while
it is printed, of `lape generate`. Words that are added to a vocabulary stand in those strings at
random. Prints a line a check and writes build/tokenizers.json; the last line is `N passed, N
failed`.

Needs transformers, tokenizers, sentencepiece, unicodedata2, safetensors and numpy.
"""

import argparse
import codecs
import collections
import concurrent.futures
import glob
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile

os.environ.update(RAYON_NUM_THREADS="1",       # a process for every processor does as well
                  HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import numpy as np                                                           # noqa: E402
import sentencepiece                                                         # noqa: E402
import transformers                                                          # noqa: E402
import unicodedata2                                                          # noqa: E402
from safetensors.numpy import save_file                                      # noqa: E402
from sentencepiece import sentencepiece_model_pb2                            # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer                          # noqa: E402
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers  # noqa: E402

from paths import LAPE, ROOT, SHARED                                         # noqa: E402
from report import Checks                                                    # noqa: E402

LINE = 1 << 16             # lines in a batch
PACK = 64                  # scalar values in a line
HARD = 100000              # hard strings for a kind
LIMIT = 300                # seconds for any run of lape: it takes two or three
WHOLE = 1 << 21            # characters of a text that is compared as a whole, too
NEW_TOKENS = 600

# ---- Hard strings ---------------------------------------------------------------------------

ALPHABETS = [
    [" "], ["\u2581", " ", "\u2581\u2581"], ["\t", "\r", "\v", "\f", " "],
    [chr(c) for c in range(32) if c != 10] + ["\x7f", "\x80", "\x85", "\x9f"],
    ["\0", "a", " "], ["a"], ["\r", " ", "/", "!", "\u00a0", "x", "1"],
    ["\u00a0", "\u2003", "\u200b", "\u200d", "\u2028", "\u3000", "\ufeff", "\u00ad", "\u202e"],
    ["\u0301", "\u0308", "\u0323", "\u20e3", "\ufe0f", "e", "o", "\u1ec7", "\u0345"],
    ["\U0001f468", "\u200d", "\U0001f469", "\U0001f467", "\U0001f3fd", "\u2764", "\ufe0f",
     "\U0001f1eb", "\U0001f1f7", "\U0001f600", "\U0001f3f4", "\U000e0067", "\U000e007f"],
    [chr(c) for c in range(0x4e00, 0x9fff, 37)], [chr(c) for c in range(0x3041, 0x30ff)],
    [chr(c) for c in range(0xac00, 0xd7a3, 97)] + [chr(c) for c in range(0x1100, 0x1180)],
    list("0123456789") + ["\u0663", "\u0967", "\uff15", "\u00b2", "\u00bd", "\u2167", ",", "."],
    ["1", "22", "333", "4444", "\u0663", " ", "a", "\u2167"],
    [chr(c) for c in range(0x20, 0x7f)], [chr(c) for c in range(0xa0, 0x250)],
    [chr(c) for c in range(0x370, 0x590)], [chr(c) for c in range(0x590, 0x700)],
    [chr(c) for c in range(0x900, 0x980)] + [chr(c) for c in range(0xe00, 0xe5c)],
    ["\ufffd", "\ufffe", "\uffff", "\U0010ffff", "\U00010000", "\ud7ff", "\ue000", "\U0001fffe"],
    # What pre-tokenizers disagree about: shortened words in any case, the long s and the Kelvin
    # sign among them, what ends a word of BLOOM's, letters of every kind of case.
    ["'s", "'S", "'t", "'re", "'rE", "'ve", "'Ve", "'m", "'ll", "'LL", "'d", "'\u017f", "'", "''",
     "\u2019s", "don't", "DON'T", "l'", "\u212a", " "],
    list("(|.,!?)[]/\\") + ["\u2026", "\u3002", "\uff0c", "\u3001", "\u0964", "\u06d4", "\u060c",
                            " ", "...", "//", "a", "1", "\r"],
    ["A", "b", "\u01c5", "\u02b0", "\u00aa", "\u4e2d", "\u0301", "\u00df", "\u1e9e", "\u0130", "C",
     "d", "\u10d0", "\u1c90", " "],
    # What normal forms do: exclusions, singletons, Hangul, marks out of order and blocked.
    ["\u0958", "\u0915\u093c", "\u212b", "\u0344", "\u0374", "\u2126", "\u1100", "\u1161", "\u11a8",
     "\uac00", "\u11a7", "\u0301", "\u0327", "\u0323", "\u0307", "\u0345", "\u03b1", "a", "q",
     "\u0f71", "\u0f72", "\u0f73", "\u0bc6", "\u0bbe", "\ufb2c", "\U0001d15e", "\u1e9b", "\u0344",
     "\uf900", "\U0002f800", "\u0338", "<"],
]


def any_character(rng):
    code = rng.choice((0x80, 0x800, 0x10000, 0x110000))
    character = chr(rng.randrange(code))
    return " " if character == "\n" or "\ud800" <= character <= "\udfff" else character


def hard_strings(n, words, pieces, seed=1):
    """Strings without newlines: runs from the alphabets above, words, and the spellings of
    pieces, which are no more than text where they stand in one."""
    rng = random.Random(seed)
    spellings = [piece.replace("\u2581", " ") for piece in pieces if "\n" not in piece]
    found = []
    while len(found) < n:
        parts = []
        for _ in range(rng.randint(1, 7)):
            kind, length = rng.randrange(10), rng.randint(1, 8)
            if kind < 5:
                alphabet = rng.choice(ALPHABETS)
                parts += [rng.choice(alphabet) for _ in range(length)]
            elif kind < 7:
                parts += [rng.choice(words) for _ in range(rng.randint(1, 3))]
            elif kind < 9:
                parts += [rng.choice(spellings) for _ in range(rng.randint(1, 4))]
            else:
                parts += [any_character(rng) for _ in range(length)]
        found.append("".join(parts))
    return found


def sprinkled(strings, words, rng):
    """The strings, most of them with some of the words in them: as they are, in normal forms, and
    with a mark that joins their last letter."""
    found = []
    for string in strings:
        for _ in range(rng.randrange(4)):
            word = rng.choice(words)
            if rng.randrange(4) == 0:
                word = unicodedata2.normalize(rng.choice(("NFC", "NFD")), word)
            at = rng.choice((0, len(string), rng.randint(0, len(string))))
            word += "\u0301" * (rng.randrange(8) == 0)
            string = string[:at] + word + string[at:]
        found.append(string)
    return found


def cut(string, words):
    """The words in a string and what is between, in turn: the leftmost, the longest at a place."""
    pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.split("(%s)" % pattern, string) if words else [string]


# A character between letters; between white space and a number; between an apostrophe and white
# space.
CONTEXTS = ["a{}B", " {}1", "'{} "]


def scalar_strings(context):
    """Every Unicode scalar value but the newline in a context, some to a string."""
    codes = [chr(c) for c in range(0x110000) if not 0xd800 <= c < 0xe000 and c != 10]
    return ["".join(map(context.format, codes[i:i + PACK])) for i in range(0, len(codes), PACK)]


# ---- Where the library knows another Unicode ------------------------------------------------

# Its regular expressions are Unicode 16's, as lape is. The two that follow are not.
#
# Digits asks Rust's char::is_numeric, which is Unicode 17's: digits of Tolong Siki, and numbers
# after Chinese signs.
DIGITS_OF_17 = [*range(0x11de0, 0x11dea), *range(0x16ff4, 0x16ff7)]
# NFC is Unicode 9's: marks that came later have no combining class, so that they are not sorted
# and keep those before and after them from being sorted and composed ...
MARKS_AFTER_9 = [
    0x7fd, *range(0x897, 0x8a0), *range(0x8ca, 0x8d4), 0x9fe, 0xc3c, 0xd3b, 0xd3c, 0xeba, 0x1715,
    *range(0x1abf, 0x1acf), *range(0x1df6, 0x1dfb), 0xa82c, *range(0x10d24, 0x10d28),
    *range(0x10d69, 0x10d6e), 0x10eab, 0x10eac, 0x10efd, 0x10efe, 0x10eff, *range(0x10f46, 0x10f51),
    *range(0x10f82, 0x10f86), 0x11070, 0x1133b, 0x113ce, 0x113cf, 0x113d0, 0x1145e, 0x11839,
    0x1183a, 0x1193d, 0x1193e, 0x11943, 0x119e0, 0x11a34, 0x11a47, 0x11a99, 0x11d42, 0x11d44,
    0x11d45, 0x11d97, 0x11f41, 0x11f42, 0x1612f, 0x16ff0, 0x16ff1, 0x1e08f,
    *range(0x1e130, 0x1e137), 0x1e2ae, *range(0x1e2ec, 0x1e2f0), *range(0x1e4ec, 0x1e4f0), 0x1e5ee,
    0x1e5ef]
# ... and letters that came later stay in two: of Todhri, Tulu-Tigalari, Dives Akuru, Gurung Khema
# and Kirat Rai.
LETTERS_AFTER_9 = [0x105c9, 0x105e4, 0x11383, 0x11385, 0x1138e, 0x11391, 0x113c5, 0x113c7, 0x113c8,
                   0x11938, *range(0x16121, 0x16129), 0x16d68, 0x16d69, 0x16d6a]
NFC_KINDS = ("qwen2", "command-r")


def newer_characters(kind):
    """What is not the same to the library that tokenizes a kind's text and to Unicode 16."""
    codes = DIGITS_OF_17 if kind == "command-r" else []
    if kind in NFC_KINDS:
        codes = codes + MARKS_AFTER_9 + LETTERS_AFTER_9
        codes = codes + [ord(x) for c in LETTERS_AFTER_9
                         for x in unicodedata2.normalize("NFD", chr(c))]
    return {chr(c) for c in codes}


def newer_differ():
    """Of the characters listed above, those that the library does treat as Unicode 16 does: there
    should be none. With U+0334 and U+0345, of classes 1 and 240, any other class shows."""
    digits, nfd = pre_tokenizers.Digits(individual_digits=True), normalizers.NFD()
    number = pre_tokenizers.Split(Regex(r"\p{N}"), "isolated")
    same = [c for c in DIGITS_OF_17 if len(digits.pre_tokenize_str("a" + chr(c))) ==
            len(number.pre_tokenize_str("a" + chr(c)))]
    for c in MARKS_AFTER_9:
        marks = ("\u0345" + chr(c), chr(c) + "\u0334")
        same += [c] * all(nfd.normalize_str(s) == unicodedata2.normalize("NFD", s) for s in marks)
    return same + [c for c in LETTERS_AFTER_9
                   if nfd.normalize_str(chr(c)) == unicodedata2.normalize("NFD", chr(c))]


# ---- The libraries' tokenizers --------------------------------------------------------------

SHORTS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
WHITE = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
# As the families' tokenizer.json and transformers' tokenizer classes have them; None is
# ByteLevel's own.
PATTERNS = {
    "gpt-2": None,
    "phi-2": None,
    "command-r": None,  # after single digits
    "llama-bpe": SHORTS + r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + WHITE,
    "qwen2": SHORTS + r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + WHITE,
    "tekken": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
              r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
              r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + WHITE,
    "bloom": r" ?[^(\s|[.,!?…。，、।۔،])]+",
}
# Words added to byte-level tokenizers: text -> whether it is normalized. The second of these holds
# such as are in the vocabulary, too, overlap, or are in another normal form; none shares letters
# with the special token, under which the library would hide them.
ADDED = dict.fromkeys(["<tool>", "    ", "  ", "<é>", "<e\u0301", "\t\t"], False)
MORE = {"the": False, "a": False, "\u00f1": False, "\u0120a": False, "os": True, "qu": True,
        "b\u00e1n": True, "Kikundi": True, "Kiku": False, "ku": True, "\u00f3": False,
        "u\u0301x": True, "u\u0301": False, " b": True, "   ": True, "    ": False,
        "\u1ec7": True, "\u212b": True, "\t1": True, "\n ": False}
STOP = "<|end|>"
ALPHABET = pre_tokenizers.ByteLevel.alphabet()
BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]    # which the alphabet shows as such
BYTE = {chr(b): b for b in BYTES}
BYTE.update((chr(256 + i), b) for i, b in enumerate(sorted({*range(256)} - {*BYTES})))
LETTER = {b: c for c, b in BYTE.items()}


def pre_tokenizer(kind, digits=None):
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=PATTERNS[kind] is None)
    if kind == "command-r":
        return pre_tokenizers.Sequence(
            [digits or pre_tokenizers.Digits(individual_digits=True), level])
    if PATTERNS[kind] is None:
        return level
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERNS[kind]), "isolated", invert=False), level])


def finished(kind, vocabulary, merges, added):
    """A tokenizer of a kind, with what is added to the vocabulary."""
    t = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=kind in ("llama-bpe", "tekken")))
    if kind in NFC_KINDS:
        t.normalizer = normalizers.NFC()
    t.pre_tokenizer, t.decoder = pre_tokenizer(kind), decoders.ByteLevel()
    t.add_special_tokens([STOP])
    t.add_tokens([AddedToken(s, normalized=normalized) for s, normalized in added.items()])
    t.encode_special_tokens = True      # as lape: what is spelled like one in a text is text
    return t


def trained(kind, lines, added=ADDED, size=2000, whole=1500):
    """A tokenizer trained on the lines. Its last `whole` words are pieces to which no merges lead.
    """
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizer(kind)
    t.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=sorted(ALPHABET)))
    model = json.loads(t.to_str())["model"]
    words = collections.Counter(
        w for line in lines[:5000] for w, _ in t.pre_tokenizer.pre_tokenize_str(line))
    vocabulary = dict(model["vocab"])
    for word, _ in words.most_common(whole):
        vocabulary.setdefault(word, len(vocabulary))
    return finished(kind, vocabulary, [tuple(m) for m in model["merges"]], added)


def edges(kind, _, added=ADDED):
    """A tokenizer that merges the bytes on either side of every edge between two characters, and
    nothing else: wherever text is cut elsewhere, the ids are others."""
    near = [ord(c) for c in " \t\r\naAbs129'/!(."]
    pairs = {(a, b) for a in near for b in range(256)} | {(b, a) for a in near for b in range(256)}
    pairs |= {(a, b) for a in range(0x80, 0xc0) for b in range(0xc2, 0xf5)}
    vocabulary = {LETTER[b]: b for b in range(256)}
    merges = [(LETTER[a], LETTER[b]) for a, b in sorted(pairs)]
    random.Random(2).shuffle(merges)
    for a, b in merges:
        vocabulary[a + b] = len(vocabulary)
    return finished(kind, vocabulary, merges, added)


class ByteLevel:
    """tokenizers' tokenizer of a kind, Unicode 16 where the library's is another."""

    def __init__(self, kind, make, lines, added=ADDED):
        self.kind, self.t, self.added = kind, make(kind, lines, added), added
        self.pieces = [self.t.id_to_token(i) for i in range(self.t.get_vocab_size())]
        self.end = self.pieces.index(STOP)
        self.base = self.end             # all that is added follows on it
        self.newer = re.compile("[%s]" % "".join(newer_characters(kind) or "\n"))
        # A copy that leaves Unicode to Split and to unicodedata2, and added words to us.
        bare = json.loads(self.t.to_str())
        bare["added_tokens"] = []
        self.bare = Tokenizer.from_str(json.dumps(bare))
        self.bare.normalizer = None
        self.bare.pre_tokenizer = pre_tokenizer(
            kind, pre_tokenizers.Split(Regex(r"\p{N}"), "isolated", invert=False))

    def normal(self, string):
        if self.kind not in NFC_KINDS:
            return string
        if self.newer.search(string):
            return unicodedata2.normalize("NFC", string)
        return self.t.normalizer.normalize_str(string)

    def parts(self, string):
        """(stretch, None) and (None, id) in turn: what is added to the vocabulary is taken out
        first, the longest first, then what is normalized."""
        raw = {word for word, normalized in self.added.items() if not normalized}
        late = {self.normal(word): word for word in set(self.added) - raw}
        for part in cut(string, raw):
            if part in raw:
                yield None, self.t.token_to_id(part)
                continue
            for one in cut(self.normal(part), late):
                yield (None, self.t.token_to_id(late[one])) if one in late else (one, None)

    def encode(self, strings):
        found = [e.ids for e in self.t.encode_batch_fast(strings, add_special_tokens=False)]
        for i, string in enumerate(strings):
            if self.kind in NFC_KINDS and self.newer.search(string):
                found[i] = [id for text, word in self.parts(string) for id in (
                    self.bare.encode(text, add_special_tokens=False).ids if word is None
                    else [word])]
        return found

    def text(self, string):
        """What the ids of a string are the text of."""
        return b"".join(text.encode() if word is None else self.raw(word)
                        for text, word in self.parts(string)).decode(errors="replace")

    def raw(self, id):
        """The bytes that a token stands for."""
        piece = self.pieces[id]
        return (b"" if id == self.end else piece.encode() if id > self.base
                else bytes(BYTE[c] for c in piece))

    def spellings(self):
        return [self.raw(id).decode(errors="replace") for id in range(len(self.pieces))]

    def joined(self, ids):
        return b"".join(map(self.raw, ids))

    def decode(self, ids):
        return self.t.decode(ids, skip_special_tokens=True)

    def misread(self, id):
        """Whether the library, by its own rule, reads an added token as letters for bytes."""
        piece = self.pieces[id]
        return id > self.base and all(c in BYTE for c in piece) and not piece.isascii()

    errors = "replace"           # how the library shows bytes that are no characters
    begin, bos = [], None        # ids that lape puts before a prompt; the model's bos_token_id

    def save(self, folder):
        self.t.save(os.path.join(folder, "tokenizer.json"))


# LLaMA 2's and Mistral's settings, and Gemma's.
TRAININGS = [
    dict(vocab_size=2000),
    dict(vocab_size=2000, add_dummy_prefix=False,
         user_defined_symbols=["<tag>", "\u2581\u2581", "\u2581\u2581\u2581\u2581", "\t", "</i>",
                               "\n\n"]),
]


class SentencePiece:
    """sentencepiece's, trained on the lines."""

    errors = "each"              # every byte that is no character by itself
    begin, bos, end, added = [1], 1, 2, {}

    def __init__(self, settings, folder, lines):
        self.model = os.path.join(folder, "spm%d" % len(settings))
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_prefix=self.model, model_type="bpe",
            normalization_rule_name="identity", remove_extra_whitespaces=False,
            byte_fallback=True, split_digits=True, allow_whitespace_only_pieces=True,
            character_coverage=.9995, minloglevel=2, num_threads=1, **settings)
        self.t = sentencepiece.SentencePieceProcessor(model_file=self.model + ".model")
        self.prefix = settings.get("add_dummy_prefix", True)
        self.pieces = [self.t.id_to_piece(i) for i in range(len(self.t))]

    def encode(self, strings):
        return self.t.encode(list(strings), num_threads=1)

    def text(self, string):
        return string.replace("\u2581", " ")

    def raw(self, id):
        if self.t.is_unknown(id):
            return " \u2047 ".encode()
        if self.t.is_control(id):
            return b""
        piece = self.pieces[id]
        return bytes([int(piece[3:5], 16)]) if self.t.is_byte(id) else (
            piece.replace("\u2581", " ").encode())

    def spellings(self):
        return self.pieces

    def joined(self, ids):
        """A dummy prefix is taken off the first token that is not control."""
        raws = list(map(self.raw, ids))
        first = next((i for i, id in enumerate(ids) if not self.t.is_control(id)), None)
        if (self.prefix and first is not None and not self.t.is_unknown(ids[first])
                and not self.t.is_byte(ids[first]) and raws[first].startswith(b" ")):
            raws[first] = raws[first][1:]
        return b"".join(raws)

    def decode(self, ids):
        return self.t.decode(ids)

    def misread(self, _):
        return False

    def save(self, folder):
        shutil.copy(self.model + ".model", os.path.join(folder, "tokenizer.model"))


# Words added to SentencePiece's: with spaces as they read and as pieces write them, overlapping,
# some that are pieces. Those for the model with user-defined symbols share no letters with them.
SPM_MORE = {"b\u00e1nh": False, "a b": True, " c": False, "\u2581x": False, "nh m": True,
            "b\u00e1": True, "ss\u2581": False, "\u8a9e\u8a9e": True, "e": False, "os": True,
            "\u2581de": False, "a": True}
SPM_PLAIN = {"b\u00e1nh": False, "nhm": True, "b\u00e1": True, "\u8a9e\u8a9e": True, "e": False,
             "os": True, "ue": True}


def entries(words, size, known):
    """id -> what added_tokens_decoder says of each word: those that are not known follow on."""
    found = {}
    for word, normalized in words.items():
        number = known.get(word, size)
        size += number == size
        found[number] = {"content": word, "lstrip": False, "rstrip": False, "single_word": False,
                         "normalized": normalized, "special": False}
    return found


class SpmWords(SentencePiece):
    """sentencepiece's with words beside it: they are taken out first, and there is a space before
    the text alone."""

    def __init__(self, settings, folder, lines, words):
        super().__init__(settings, folder, lines)
        self.added = words
        self.words = entries(words, len(self.pieces), {p: i for i, p in enumerate(self.pieces)})
        self.base = len(self.pieces)
        self.pieces += [word["content"] for id, word in sorted(self.words.items())
                        if id >= self.base]
        self.ids = {word["content"]: id for id, word in self.words.items()}
        model = sentencepiece_model_pb2.ModelProto()
        with open(self.model + ".model", "rb") as file:
            model.ParseFromString(file.read())
        model.normalizer_spec.add_dummy_prefix = False
        self.bare = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())

    def encode(self, strings):
        raw = {word for word, normalized in self.added.items() if not normalized}
        found = []
        for string in strings:
            ids, processor = [], self.t
            for part in cut(string, raw):
                for one in [part] if part in raw else cut(part, set(self.added) - raw):
                    if one:
                        ids += [self.ids[one]] if one in self.added else processor.encode(one)
                        processor = self.bare
            found.append(ids)
        return found

    def raw(self, id):
        return (self.pieces[id].replace("\u2581", " ").encode() if id >= self.base
                else super().raw(id))

    def joined(self, ids):
        raws = list(map(self.raw, ids))
        first = next((i for i, raw in enumerate(raws) if raw), None)
        if self.prefix and first is not None and raws[first].startswith(b" ") and (
                ids[first] >= self.base or not self.t.is_unknown(ids[first])
                and not self.t.is_byte(ids[first])):
            raws[first] = raws[first][1:]
        return b"".join(raws)

    def text(self, string):
        return self.joined(self.encode([string])[0]).decode(errors="each")

    def decode(self, ids):
        return self.joined(ids).decode(errors="each")

    def settings(self):
        return {"tokenizer_class": "LlamaTokenizer" if self.prefix else "GemmaTokenizer",
                "legacy": False, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                "add_bos_token": True, "added_tokens_decoder": self.words}

    def save(self, folder):
        super().save(folder)
        with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
            json.dump(self.settings(), file)


class Ranked:
    """LLaMA's tokenizer.json and nothing else, as transformers saves it; Gemma's too."""

    errors = "replace"
    begin, bos, end = [], None, 2

    def __init__(self, reference, folder, name):
        self.added, self.folder = reference.added, os.path.join(folder, name)
        os.mkdir(self.folder)
        reference.save(self.folder)
        with open(os.path.join(self.folder, "config.json"), "w", encoding="ascii") as file:
            json.dump({"model_type": "llama"}, file)
        transformers.AutoTokenizer.from_pretrained(self.folder).save_pretrained(self.folder)
        with open(os.path.join(self.folder, "tokenizer.json"), encoding="utf-8") as file:
            values = json.load(file)
        self.t = Tokenizer.from_str(json.dumps(values))
        self.t.encode_special_tokens = True
        self.pieces = [self.t.id_to_token(i) for i in range(self.t.get_vocab_size())]
        self.special = {token["id"] for token in values["added_tokens"] if token["special"]}
        self.unknown = self.t.token_to_id(values["model"]["unk_token"] or "")
        self.prefix = values["normalizer"] is None

    def encode(self, strings):
        return [e.ids for e in self.t.encode_batch_fast(strings, add_special_tokens=False)]

    def is_byte(self, id):
        return re.fullmatch("<0x[0-9A-F]{2}>", self.pieces[id]) is not None

    def raw(self, id):
        if id == self.unknown:
            return " \u2047 ".encode()
        if id in self.special:
            return b""
        piece = self.pieces[id]
        return bytes([int(piece[3:5], 16)]) if self.is_byte(id) else (
            piece.replace("\u2581", " ").encode())

    def joined(self, ids):
        raws = list(map(self.raw, ids))
        first = next((i for i, raw in enumerate(raws) if raw), None)
        if self.prefix and first is not None and raws[first].startswith(b" ") and not (
                self.is_byte(ids[first]) or ids[first] == self.unknown):
            raws[first] = raws[first][1:]
        return b"".join(raws)

    def text(self, string):
        return self.joined(self.encode([string])[0]).decode()

    def decode(self, ids):
        return self.t.decode(ids, skip_special_tokens=True)

    def misread(self, id):
        """Bytes, which the library takes in runs, and strips of a space; and what is unknown."""
        return self.is_byte(id) or id == self.unknown

    def spellings(self):
        return self.pieces

    def save(self, folder):
        for name in "tokenizer.json", "tokenizer_config.json":
            shutil.copy(os.path.join(self.folder, name), folder)


codecs.register_error("each", lambda e: ("\ufffd" * (e.end - e.start), e.end))


# ---- lape's ---------------------------------------------------------------------------------

SMALL = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1,
             max_position_embeddings=4096)
LLAMA = {"embed_tokens": "vocab 32", "norm": "32", "layers.0.input_layernorm": "32",
         "layers.0.post_attention_layernorm": "32", "layers.0.mlp.gate_proj": "32 32",
         "layers.0.mlp.up_proj": "32 32", "layers.0.mlp.down_proj": "32 32",
         **{"layers.0.self_attn.%s_proj" % x: "32 32" for x in "qkvo"}}
PHI = {"embed_tokens": "vocab 32", "final_layernorm": "32 bias", "lm_head": "vocab 32 bias",
       "layers.0.input_layernorm": "32 bias", "layers.0.mlp.fc1": "32 32 bias",
       "layers.0.mlp.fc2": "32 32 bias", "layers.0.self_attn.dense": "32 32 bias",
       **{"layers.0.self_attn.%s_proj" % x: "32 32 bias" for x in "qkv"}}


def run(*command, given=None):
    """The standard output of a program that must succeed, and not hang."""
    done = subprocess.run(command, input=given, capture_output=True, timeout=LIMIT)
    if done.returncode:
        raise RuntimeError("%s: %s" % (command[:3], done.stderr.decode(errors="replace")[:300]))
    return done.stdout


class Lape:
    """A checkpoint with a tokenizer. All its weights are 0: any token is as likely as another."""

    def __init__(self, program, reference, kind, folder, name):
        self.program, self.path = program, os.path.join(folder, name + ".gguf")
        source = os.path.join(folder, name)
        os.mkdir(source)
        reference.save(source)
        phi, tensors = kind == "phi-2", {}
        for tensor, shape in (PHI if phi else LLAMA).items():
            shape = shape.replace("vocab", str(len(reference.pieces))).split()
            tensor = tensor if tensor == "lm_head" else "model." + tensor
            dims = [int(n) for n in shape if n != "bias"]
            tensors[tensor + ".weight"] = np.zeros(dims, np.float32)
            if "bias" in shape:
                tensors[tensor + ".bias"] = np.zeros(dims[:1], np.float32)
        save_file(tensors, os.path.join(source, "model.safetensors"))
        config = dict(SMALL, vocab_size=len(reference.pieces), tie_word_embeddings=not phi)
        config.update(architectures=["PhiForCausalLM" if phi else "LlamaForCausalLM"],
                      model_type="phi" if phi else "llama")
        config.update(bos_token_id=reference.bos, eos_token_id=reference.end)
        with open(os.path.join(source, "config.json"), "w", encoding="ascii") as file:
            json.dump(config, file)
        run(sys.executable, os.path.join(ROOT, "tools", "convert.py"), "hf", source, "-o",
            self.path, "-q")

    def tokenize(self, data, *flags):
        return run(self.program, "tokenize", self.path, *flags, given=data)

    def streamed(self, prompt, seed):
        """What `lape generate` prints, as it prints it: a message for every write."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs, subprocess.Popen(
                [self.program, "generate", self.path, "-p", prompt, "-n", str(NEW_TOKENS), "--temp",
                 "1", "--seed", str(seed), "-q"], stdout=theirs) as process:
            theirs.close()
            messages = list(iter(lambda: ours.recv(1 << 20), b""))
        if process.returncode:
            raise RuntimeError("generate ends with status %d" % process.returncode)
        return messages

    def generated(self, prompt, seed):
        """The ids of the same."""
        table = self.path + ".prompts"
        with open(table, "w", encoding="utf-8") as file:
            file.write(prompt + "\n")
        row = run(self.program, "generate", self.path, "-f", table, "-n", str(NEW_TOKENS), "--temp",
                  "1", "--seed", str(seed), "-q").split(b"\n")[1]
        return [int(word) for word in row.split(b"\t")[2].split()]


# ---- Checks ---------------------------------------------------------------------------------

class Tally:
    """How many strings were compared, how many differ, and the first that does."""

    def __init__(self):
        self.lines, self.different, self.first = 0, 0, None

    def add(self, same, string, *rest):
        self.lines += 1
        self.different += not same
        if not same and self.first is None:
            self.first = "%.150r%s" % (string, "".join(": %.150s" % (x,) for x in rest))


def compare_lines(reference, lape, strings, tally):
    """Ids of strings without newlines, and their text again."""
    numbers = [str(i) for i in range(len(reference.pieces))]
    for start in range(0, len(strings), LINE):
        some = strings[start:start + LINE]
        ids = lape.tokenize(("\n".join(some) + "\n").encode(), "--lines")
        back = lape.tokenize(ids, "--lines", "--decode").decode(errors="replace").split("\n")
        got = ids.decode().split("\n")
        if len(got) != len(some) + 1 or len(back) != len(got):
            raise RuntimeError("%d and %d lines for %d" % (len(got), len(back), len(some)))
        for string, ours, theirs, text in zip(some, got, reference.encode(some), back):
            theirs = " ".join([numbers[i] for i in theirs])
            same = ours == theirs and (text == string or text == reference.text(string))
            tally.add(same, string, ours, theirs, text)


def compare_whole(reference, lape, strings, tally):
    """The same of strings one by one, newlines and all."""
    for string in strings:
        ids = lape.tokenize(string.encode())
        theirs, = reference.encode([string])
        text = lape.tokenize(ids, "--decode").decode(errors="replace")
        same = list(map(int, ids.split())) == theirs and text == reference.text(string)
        tally.add(same, string, ids[:150].decode(), theirs[:30])


def compare_decoded(reference, lape, tally, rng):
    """Text of random ids, characters or not: some thousand lists, and a long one."""
    n = len(reference.pieces)
    fit = [i for i in range(n) if b"\n" not in reference.raw(i)]
    lists = [rng.choices(fit, k=rng.randint(1, 12)) for _ in range(20000)]
    given = "".join(" ".join(map(str, ids)) + "\n" for ids in lists).encode()
    lines = lape.tokenize(given, "--lines", "--decode").split(b"\n")
    long = rng.choices(range(n), k=100000)
    lines[-1] = lape.tokenize(" ".join(map(str, long)).encode(), "--decode")
    for ids, text in zip(lists + [long], lines):
        same = text == reference.joined(ids)
        if not any(map(reference.misread, ids)):
            same = same and text.decode(errors=reference.errors) == reference.decode(ids)
        tally.add(same, ids[:12], text[:100])


def compare_transformers(reference, lape, strings, tally):
    """With words beside LLaMA's model transformers has the same ids, but for texts that start with
    a space: it puts no other before them, as sentencepiece does."""
    if not getattr(reference, "words", None) or not reference.prefix:
        return
    folder = lape.path[:-len(".gguf")]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    for string in strings:
        if string[:1] not in (" ", "\u2581"):
            ids = tokenizer(string, add_special_tokens=False)["input_ids"]
            tally.add(reference.encode([string]) == [ids], string, ids)


# The end of bytes that may be the start of a character.
UNFINISHED = re.compile(rb"(?:[\xc0-\xf7]|[\xe0-\xf7][\x80-\xbf]|[\xf0-\xf7][\x80-\xbf]{2})\Z")


def compare_streamed(reference, lape, tally):
    """What generate prints token by token: whole characters, each as soon as it is there."""
    for seed, prompt in enumerate(["a", "\u00e9\u4e2d", " x", "\U0001f468\u200d\u2764 e\u0301"]):
        ids = reference.begin + reference.encode([prompt])[0]
        made = lape.generated(prompt, seed)
        want, shown = [], 0
        for end in range(len(ids), len(ids) + len(made) + 1):
            raw = reference.joined((ids + made)[:end])
            whole = UNFINISHED.sub(b"", raw)
            want.append(whole[shown:].decode(errors="each"))
            shown = max(shown, len(whole))
        want.append(raw[shown:].decode(errors="each"))
        got = lape.streamed(prompt, seed)
        text = [x.decode(errors="backslashreplace") for x in got]
        tally.add(text == [x for x in want if x] + ["\n"], prompt, text[-20:], want[-20:])


# Surrogates, too many bytes, beyond U+10FFFF, bytes that are nowhere, and characters cut off.
INVALID = [b"a\xed\xa0\x80", b"\xed\xbf\xbfb", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x9f\xbf",
           b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xff",
           b"\x80", b"a\xbf", b"\xc3", b"\xe4\xb8", b"\xe4\xb8a", b"\xf0\x9f\x98", b"\xf0\x9f\x98a"]


def compare_invalid(reference, lape, tally, rng):
    """Bytes that are no UTF-8: what sentencepiece takes for one character, U+FFFD, each of them
    is refused, and the first is named."""
    for i in range(200):
        raw = INVALID[i] if i < len(INVALID) else bytes(
            rng.choice((rng.randrange(256), rng.randrange(0x80, 0x100), 0x41, 0xe4, 0xb8))
            for _ in range(rng.randint(1, 6)))
        valid = raw.decode(errors="each")
        if reference.errors == "each":
            tally.add(reference.t.encode(raw) == reference.t.encode(valid), raw)
        done = subprocess.run([lape.program, "tokenize", lape.path], input=raw, capture_output=True)
        try:
            raw.decode()
            tally.add(done.returncode == 0, raw)
        except UnicodeDecodeError as e:
            wanted = b"byte %d (0x%02X) is not valid UTF-8" % (e.start, raw[e.start])
            tally.add(done.returncode == 1 and wanted in done.stderr, raw, done.stderr)


def texts(shared):
    """Paths of all text files there are."""
    return sorted(glob.glob(os.path.join(shared, "text", "*.txt"))) or sorted(
        glob.glob(os.path.join(ROOT, "demo", "text", "*.txt")))


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def compare_kind(kind, lape, shared):
    """[(check, Tally)] of a kind."""
    rng, paths = random.Random(1), texts(shared)
    found = collections.defaultdict(Tally)
    sample = [line for path in sorted(glob.glob(os.path.join(ROOT, "demo", "text", "*.count.txt")))
              for line in read(path).split("\n")]
    words = [word for line in sample for word in line.split(" ")]
    words += [unicodedata2.normalize("NFD", word) for word in words]
    apart = [(unicodedata2.normalize("NFD", s), s) for s in scalar_strings("{}")]
    apart = [a for a, s in apart if a != s]
    with tempfile.TemporaryDirectory(prefix="lape-tokens-") as folder:
        references = references_of(kind, folder, sample)
        for i, reference in enumerate(references):
            ours = Lape(lape, reference, kind, folder, "%s-%d" % (kind, i))
            # Words are worth comparing where words are pieces, cuts where cuts show.
            if kind not in PATTERNS or i != 1:
                for path in paths:
                    text = read(path)
                    compare_lines(reference, ours, text.split("\n"), found["lines of texts"])
                    if len(text) < WHOLE:
                        compare_whole(reference, ours, [text], found["whole texts"])
            if kind not in PATTERNS or i == 1:
                for context in CONTEXTS:
                    compare_lines(reference, ours, scalar_strings(context),
                                  found["scalar values"])
                compare_whole(reference, ours, [c.format("\n") for c in CONTEXTS],
                              found["scalar values"])
            hard = hard_strings(HARD // 2, words, reference.spellings() + [*ADDED, STOP], seed=i)
            hard += apart
            if reference.added:
                hard = sprinkled(hard, [word for word in reference.added if "\n" not in word], rng)
            compare_lines(reference, ours, hard, found["hard strings"])
            broken = [re.sub(r"[\rq/]", rng.choice(("\n", "\n ")), s) for s in hard]
            compare_whole(reference, ours, broken[:100] + ["", "\n".join(broken)],
                          found["hard strings, whole"])
            compare_transformers(reference, ours, hard[:20000], found["transformers"])
            compare_decoded(reference, ours, found["random ids"], rng)
            compare_streamed(reference, ours, found["streamed"])
        compare_invalid(reference, ours, found["no UTF-8"], rng)
    return [(name, tally) for name, tally in found.items() if tally.lines or name != "transformers"]


def references_of(kind, folder, sample):
    """What a kind is compared with: two tokenizers without words in it, or others with them."""
    if kind == "spm":
        return [SentencePiece(settings, folder, sample) for settings in TRAININGS]
    if kind in PATTERNS:
        return [ByteLevel(kind, trained, sample), ByteLevel(kind, edges, sample),
                ByteLevel(kind, trained, sample, MORE)]
    with_words = [SpmWords(settings, folder, sample, words) for settings, words in zip(
        TRAININGS, (SPM_MORE, SPM_PLAIN))]
    if kind == "spm-words":
        return with_words
    return [Ranked(reference, folder, "saved%d" % i) for i, reference in enumerate(with_words)]


KINDS = ["spm", "spm-words", "llama-json", *PATTERNS]


def finished_checks(work):
    """What compare_kind found; what ends it early is a failure like any other."""
    try:
        return work.result()
    except Exception as problem:
        tally = Tally()
        tally.add(False, "", type(problem).__name__, problem)
        return [("ends early", tally)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lape", default=LAPE, help="the program")
    parser.add_argument("--shared", default=SHARED,
                        help="texts that do not come with the program")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="of " + ", ".join(KINDS))
    args = parser.parse_args()
    if not set(args.kinds) <= set(KINDS):
        parser.error("the kinds are " + ", ".join(KINDS))
    same = newer_differ()
    checks = Checks()
    checks.say(not same, "newer characters: %s" % (
        "%s are no different" % ["U+%04X" % c for c in same] if same else "all differ, as listed"))
    table = {}
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        kinds = {kind: pool.submit(compare_kind, kind, os.path.abspath(args.lape), args.shared)
                 for kind in args.kinds or KINDS}
        for kind, work in kinds.items():
            found = finished_checks(work)
            for name, tally in found:
                checks.say(tally.lines > 0 and tally.different == 0,
                           "%s, %s: %d compared, %d differ%s" % (
                               kind, name, tally.lines, tally.different,
                               "; first %s" % tally.first if tally.first else ""))
            table[kind] = {"lines": sum(t.lines for _, t in found),
                           "different": sum(t.different for _, t in found)}
    os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
    with open(os.path.join(ROOT, "build", "tokenizers.json"), "w", encoding="ascii") as file:
        json.dump(table, file, indent=1)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
