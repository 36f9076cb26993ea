#!/usr/bin/env python3
"""Every field of the files that lape reads: GGUF models and counts, lists of neurons, .npy, .bin,
texts.

    LAPE=./lape python3 test/test_fields.py [NAME...]

FIELDS has a row a field, and changes of it, each tried on a tiny file: what the program makes of it
has to become something else ("used"), the file has to be refused in one line ("refused"), or
nothing changes ("harmless"), and then the row says why it may. test/README.md shows the table; with
--write this program writes it. By the standard library alone. The last line on stdout is
`N passed, N failed`.
"""

import os
import struct
import subprocess
import sys

from paths import LAPE
import fields
import tiny
from arrays import npy
from fields import GONE, HARMLESS, REFUSED, USED, Row, put
from tiny import (BF16, BOOL, DOUBLE, F16, F32, FAMILIES, FLOAT, I8, I32, I64, INT64, LAYER_NORM,
                  NEURONS, PLAIN, Q4_0, Q8_0, ROTARY, STRING, U8, U16, U32, U64, WIDTH)

IDS = [(7 * i * i + 3 * i) % 13 for i in range(40)]
TEXT = "ab abc  cc bab<w> 1111 \u00e9 e\u0301 ab"
NAN = float("nan")
OTHERS = [name for name in FAMILIES if name not in ROTARY]         # whose positions do not rotate
EXACT = struct.unpack("<f", struct.pack("<f", 1e-5))[0]

# ---- Files to change --------------------------------------------------------------------------


def byte_level():
    """GPT-2's, with tokens that tell one family's words from another's."""
    values = tiny.byte_level()
    values["tokenizer.ggml.tokens"][1].extend(["11", "1111", "e\u0301"])
    values["tokenizer.ggml.token_type"][1].extend([1, 1, 4])
    values["tokenizer.ggml.merges"][1].extend(["1 1", "11 11"])
    return values


def ranked():
    """SentencePiece's, with merges in place of scores."""
    values = tiny.sentencepiece()
    del values["tokenizer.ggml.scores"]
    return dict(values, **{"tokenizer.ggml.merges": (STRING, ["a b", tiny.SPACE + " ab"])})


def added():
    """A word that stands in the text in two forms, and is looked for as it is spelled."""
    return dict(byte_level(), **{"tokenizer.ggml.pre": (STRING, "qwen2"),
                                 "tokenizer.ggml.added_tokens": (I32, [264]),
                                 "tokenizer.ggml.added_normalized": (BOOL, [False])})


def int64(rows, *numbers):
    return {"dims": [rows, len(numbers) // rows], "type": INT64,
            "raw": struct.pack("<%dq" % len(numbers), *numbers)}


def counts():
    values = {"general.architecture": (STRING, "lape-counts"), "general.name": (STRING, "tiny"),
              "general.author": (STRING, "x")}
    for key, value in [("layers", (U64, 2)), ("neurons", (U64, 2)), ("vocabulary", (U64, 3)),
                       ("piece_length", (U64, 5)), ("bos", (U64, 0)), ("near", (DOUBLE, .001)),
                       ("languages", (STRING, ["aa", "bb"])), ("tokens", (U64, [20, 20])),
                       ("pieces", (U64, [2, 4])), ("parts", (U64, [0, 7, 0, 1, 1, 9, 0, 2]))]:
        values["lape-counts." + key] = value
    tensors = {}
    for label, tokens in ("aa", 10), ("bb", 20):
        tensors[label + ".positive"] = int64(2, 1, tokens, 3, 0)
        tensors[label + ".near_above"] = int64(2, 1, 0, 1, 0)
        tensors[label + ".near_below"] = int64(2, 0, 0, 2, 1)
        tensors[label + ".sum"] = int64(2, -5, 1 << 22, 9, -1)
        tensors[label + ".positive_sum"] = int64(2, 4, 1 << 23, 10, 0)
        tensors[label + ".histogram"] = int64(1, 15, 5, 0)
    return {"magic": b"GGUF", "version": 3, "values": values, "tensors": tensors}


LIST = """# language-specific neurons
# model: tiny
# layers: 2
# neurons: 32
# languages: aa bb
# tokens: 10 20
# method: lape
# top: 0.1
# filter: 0.5, threshold 0.1
# bar: 0.5, threshold 0.1
layer\tneuron\tlape\tlanguages\tp_aa\tp_bb
0\t3\t0.5\taa\t0.5\t0.25
0\t9\t0.5\taa,bb\t0.5\t0.25
1\t0\t0.25\tbb\t0.125\t0.5
1\t5\t0.25\t-\t0.1\t0.1
"""
NUMBERS = struct.pack("<40i", *IDS)

BASES = {name: (lambda name=name: tiny.model(name)) for name in FAMILIES}
BASES.update({
    "spm": lambda: tiny.with_tokenizer(tiny.sentencepiece()),
    "ranked": lambda: tiny.with_tokenizer(ranked()),
    "bpe": lambda: tiny.with_tokenizer(byte_level()),
    "added": lambda: tiny.with_tokenizer(added()),
    "counts": counts, "list": LIST.encode, "npy": lambda: npy(NUMBERS, "<i4"),
    "bin": lambda: struct.pack("<40H", *IDS), "text": TEXT.encode, "prompts": b"ab c\nabc\n".strip})
TOKENIZERS = ["spm", "ranked", "bpe", "added"]
NAMES = {"npy": "file.npy", "bin": "file.bin", "text": "file.txt"}
TRACE = ["trace", "file", "ids.bin", "--at", "logits", "-t", "1", "-o", "out"]
WORDS = [["tokenize", "file"],
         ["generate", "file", "-f", "prompts", "-n", "30", "--temp", "9", "-t", "1", "-q"]]
# What is done with a base's file: the whole of it has to come out, one way or another.
RUNS = {
    "llama": [TRACE, ["count", "file", "xx=ids.bin", "--seq", "8", "-q", "-o", "out"]],
    "counts": [["merge", "file", "-o", "out"], ["find", "file", "-q"]],
    "list": [["ppl", "spm.gguf", "xx=ids.bin", "--seq", "8", "-q", "--neurons", "file"],
             ["info", "file"]],
    "prompts": [["generate", "spm.gguf", "-f", "file", "-n", "5", "-q", "-o", "out"]]}
RUNS.update({base: WORDS for base in TOKENIZERS})
RUNS.update({base: [["trace", "spm.gguf", NAMES[base], "--at", "embd", "-o", "out"]]
             for base in ("npy", "bin", "text")})


# ---- Changes of them --------------------------------------------------------------------------

def value(base, key, kind, new, becomes):
    return base, ("values", key), (kind, new), becomes


def each(bases, key, kind, new, becomes):
    """A value "<family>.<key>" of several families; GONE takes it away."""
    return [(base, ("values", "%s.%s" % (base, key)), GONE if new is GONE else (kind, new), becomes)
            for base in bases]


def but(*names):
    return [name for name in FAMILIES if name not in names]


def own(family, **more):
    """Values of a family, under names with "__" for dots."""
    return {"%s.%s" % (family, key.replace("__", ".")): new for key, new in more.items()}


def raw(dims, kind=F32, byte=b"\x3d"):
    """A tensor of some number, the bytes being alike."""
    size = 1
    for length in dims:
        size *= length
    size = {F32: 4 * size, F16: 2 * size, BF16: 2 * size, INT64: 8 * size, Q4_0: size // 32 * 18,
            Q8_0: size // 32 * 34}[kind]
    return {"dims": list(dims), "type": kind, "raw": byte * size}


def more_tensor(bases, name, dims, becomes):
    return [(base, ("tensors", name), raw(dims), becomes) for base in bases]


def norms(family):
    """The norms of a family's first layer, and those of no layer."""
    return [name for name in tiny.model(family)["tensors"]
            if "norm" in name and not name.startswith("blk.1.")]


def needed():
    """Every tensor of every family left out, of the layers but the first one's."""
    return [(family, ("tensors", name), GONE, REFUSED) for family in FAMILIES
            for name in tiny.shapes(family, 14) if not name.startswith("blk.1.")]


def norm_biases():
    changes = []
    for family in FAMILIES:
        for name in norms(family):
            length = tiny.shapes(family, 14)[name]
            changes += more_tensor([family], name.replace(".weight", ".bias"), length,
                                   USED if family in LAYER_NORM else REFUSED)
    return changes


def fused(family):
    """q, k and v in one tensor."""
    made = {"blk.0.attn_%s.weight" % letter: GONE for letter in "qkv"}
    return family, ("tensors",), dict(made, **{"blk.0.attn_qkv.weight": raw([3 * WIDTH, WIDTH])})


def typed(kind, becomes):
    return "llama", ("tensors", "blk.0.attn_q.weight"), raw([WIDTH, WIDTH], kind), becomes


def places():
    """Where tensors lie: two exchanged, one beside the grid, in another, beyond the end."""
    names = ["blk.0.attn_q.weight", "blk.0.attn_v.weight"]
    file, offset = tiny.model(), {}
    at = 0
    for name, tensor in file["tensors"].items():
        offset[name] = at
        at += len(tensor["raw"])
    exchanged = {name: dict(file["tensors"][name], offset=offset[other])
                 for name, other in zip(names, names[::-1])}
    one = ("tensors", names[0], "offset")
    beside = put(dict(file, end=bytes(64)), ("tensors", name, "offset"), offset[name] + 4)
    return [("llama", ("tensors",), exchanged, USED),
            ("llama", (), beside, REFUSED),
            ("llama", one, offset[names[1]], REFUSED), ("llama", one, at, REFUSED),
            ("llama", one, 1 << 62, REFUSED)]


def tokens(base, *places):
    """A base's tokens with one changed: (place, text), or (place, GONE)."""
    texts = list(BASES[base]()["values"]["tokenizer.ggml.tokens"][1])
    for place, text in places:
        texts[place:place + 1] = [] if text is GONE else [text]
    return texts


def word(base, key, kind, new, becomes):
    """A value of a tokenizer."""
    return base, ("values", "tokenizer.ggml." + key), GONE if new is GONE else (kind, new), becomes


def words(*bases_and_more):
    *bases, key, kind, new, becomes = bases_and_more
    return [word(base, key, kind, new, becomes) for base in bases]


def counted(key, kind, new, becomes):
    return ("counts", ("values", "lape-counts." + key), GONE if new is GONE else (kind, new),
            becomes)


def more_tokens():
    return put(put(counts(), ("values", "lape-counts.tokens"), (U64, [21, 20])),
               ("tensors", "aa.histogram"), int64(1, 15, 5, 1))


def listed(old, new, becomes):
    """The list of neurons with some text in place of other."""
    assert LIST.count(old) == 1 or not old, old
    return "list", None, (LIST.replace(old, new) if old else new + LIST).encode(), becomes


def array(becomes, *, data=NUMBERS, descr="<i4", **how):
    """A .npy file; what is not said is as in the base."""
    return "npy", None, npy(data, descr, **how), becomes


def replaced(base, old, new, becomes):
    """A file of bytes with some in place of others."""
    content = BASES[base]()
    assert content.count(old) == 1, old
    return base, None, content.replace(old, new), becomes


KINDS = tiny.sentencepiece()["tokenizer.ggml.token_type"][1]
SCORES = tiny.sentencepiece()["tokenizer.ggml.scores"][1]
GGUF, MODEL, WEIGHTS, TOKENIZER = "GGUF", "model: values", "model: tensors", "model: tokenizer"
COUNTS, NEURON_LIST = "counts", "neurons"
LAYOUT = "rope.scaling.original_context_length"

FIELDS = [
    Row(GGUF, ["magic", "version"],
        "refused unless GGUF, 2 or 3: both are the same but for big-endian files, which are "
        "refused",
        [("llama", ("magic",), b"GGML", REFUSED), ("llama", ("version",), 2, HARMLESS),
         ("llama", ("version",), 1, REFUSED), ("llama", ("version",), 4, REFUSED),
         ("llama", ("version",), 3 << 24, REFUSED)]),
    Row(GGUF, ["number of values", "number of tensors"],
        "refused unless there are so many", [
            ("llama", ("n_values",), len(tiny.model()["values"]) + 1, REFUSED),
            ("llama", ("n_values",), len(tiny.model()["values"]) - 1, REFUSED),
            ("llama", ("n_values",), 1 << 40, REFUSED),
            ("llama", ("n_tensors",), len(tiny.model()["tensors"]) + 1, REFUSED),
            ("llama", ("n_tensors",), len(tiny.model()["tensors"]) - 1, REFUSED),
            ("llama", ("n_tensors",), 1 << 40, REFUSED)]),
    Row(GGUF, ["value: type"],
        "refused unless what the key calls for, integers and numbers being of any width, and 1 "
        "and 0 as good as true and false; refused are arrays of arrays, and types that GGUF does "
        "not define, wherever they are", [
            value("llama", "llama.block_count", U8, 2, HARMLESS),
            value("llama", "llama.block_count", I64, 2, HARMLESS),
            value("llama", "llama.block_count", I8, -2, REFUSED),
            value("llama", "llama.block_count", FLOAT, 2.0, REFUSED),
            value("llama", "llama.block_count", STRING, "2", REFUSED),
            value("llama", "llama.block_count", U32, [2], REFUSED),
            value("llama", "llama.attention.layer_norm_rms_epsilon", DOUBLE, EXACT, HARMLESS),
            value("llama", "llama.attention.layer_norm_rms_epsilon", U32, 0, REFUSED),
            value("spm", "tokenizer.ggml.add_bos_token", U32, 1, HARMLESS),
            value("spm", "tokenizer.ggml.add_bos_token", U32, 2, REFUSED),
            value("spm", "tokenizer.ggml.add_bos_token", STRING, "1", REFUSED),
            value("llama", "any.key", 13, b"", REFUSED),
            value("llama", "any.key", 9, struct.pack("<IQ", 9, 0), REFUSED)]),
    Row(GGUF, ["value: key"], "used; refused where it is there twice", [
        ("llama", ("values", "x"), (U32, 2, "llama.block_count"), REFUSED),
        ("llama", ("values", "x"), (FLOAT, .5, "llama.logit_scale"), USED)]),
    Row(GGUF, ["values of other prefixes"],
        "harmless: what other programs note, and what would be of another family", [
            value("llama", key, U32, 7, HARMLESS)
            for key in ("gpt2.block_count", "llamas.expert_count", "quantize.imatrix.entries_count",
                        "adapter.lora.alpha", "any", "")]),
    Row(GGUF, ["general.alignment"],
        "used; refused unless a power of two up to 65536 that all tensors keep to", [
            value("llama", "general.alignment", U32, 32, HARMLESS),
            value("llama", "general.alignment", U32, 4, USED),
            value("llama", "general.alignment", U32, 65536, REFUSED),
            value("llama", "general.alignment", U32, 48, REFUSED),
            value("llama", "general.alignment", U32, 0, REFUSED),
            value("llama", "general.alignment", U32, 1 << 17, REFUSED),
            value("llama", "general.alignment", FLOAT, 32.0, REFUSED)]),
    Row(GGUF, ["padding", "bytes behind the last tensor"],
        "harmless: no tensor has them", [
            ("llama", ("filler",), b"x", HARMLESS), ("llama", ("end",), b"more\n", HARMLESS)]),
    Row(GGUF, ["tensor: name"],
        "used; refused where one is missing, is there twice, or is none that the family has", [
            ("llama", ("tensors", "x"), dict(raw([WIDTH]), name="output_norm.weight"), REFUSED),
            ("llama", ("tensors", "x"), raw([WIDTH]), REFUSED),
            ("llama", ("tensors", "output.weight"), raw([14, WIDTH]), USED)]),
    Row(GGUF, ["tensor: dimensions"],
        "refused unless those that the values call for; more of them, of 1, are harmless", [
            ("llama", ("tensors", "blk.0.attn_q.weight", "dims"), [16, 64], REFUSED),
            ("llama", ("tensors", "blk.0.attn_q.weight", "dims"), [1024], REFUSED),
            ("llama", ("tensors", "blk.0.attn_q.weight", "dims"), [1, WIDTH, WIDTH], HARMLESS),
            ("llama", ("tensors", "blk.0.attn_q.weight", "dims"), [2, 16, WIDTH], REFUSED),
            ("llama", ("tensors", "blk.0.attn_q.weight", "dims"), [1, 1, 1, WIDTH, WIDTH],
             REFUSED),
            ("llama", ("tensors", "blk.0.attn_q.weight", "dims"), [], REFUSED),
            ("llama", ("tensors", "blk.0.attn_q.weight", "dims"), [0, WIDTH], REFUSED),
            ("llama", ("tensors", "token_embd.weight", "dims"), [7, 64], REFUSED),
            ("llama", ("tensors", "output_norm.weight", "dims"), [1, WIDTH], HARMLESS)]),
    Row(GGUF, ["tensor: type"], "used: those that README names; others are refused", [
        typed(F32, USED), typed(F16, USED), typed(BF16, USED), typed(Q8_0, USED),
        typed(Q4_0, USED), typed(INT64, REFUSED),
        ("llama", ("tensors", "blk.0.attn_q.weight", "type"), 99, REFUSED)]),
    Row(GGUF, ["tensor: offset"],
        "used; refused unless aligned, in the file, and apart from all others", places()),
    Row(GGUF, ["tensor: the numbers"], "used", [
        (family, ("tensors", name, "raw"), tiny.model(family, seed=2)["tensors"][name]["raw"], USED)
        for family in FAMILIES for name in tiny.shapes(family, 14)
        if not name.startswith("blk.0.")]),
    Row(MODEL, ["general.architecture"],
        "refused unless a family whose values and tensors are there", [
            ("llama", ("values", "general.architecture"), GONE, REFUSED),
            value("llama", "general.architecture", STRING, "llama4", REFUSED),
            value("llama", "general.architecture", STRING, "qwen2", REFUSED),
            value("llama", "general.architecture", STRING, "lape-counts", REFUSED),
            value("llama", "general.architecture", U32, 1, REFUSED)]),
    Row(MODEL, ["general.name"], "used: counts and neurons tell which model they are of", [
        value("llama", "general.name", STRING, "other", USED),
        value("llama", "general.name", U32, 1, USED),
        ("llama", ("values", "general.name"), GONE, USED)]),
    Row(MODEL, ["general.type", "general.author", "general.version", "general.organization",
                "general.basename", "general.finetune", "general.size_label", "general.license",
                "general.url", "general.tags", "general.languages", "general.base_model.count",
                "general.quantization_version", "general.file_type", "general.sampling.temp",
                "general.parameter_count", "general.any_other"],
        "harmless: who made it and what it is called; types are told by the tensors, and how text "
        "is drawn by options", [
            value("llama", "general." + key, kind, new, HARMLESS) for key, kind, new in (
                ("type", STRING, "adapter"), ("author", STRING, "x"), ("version", STRING, "9"),
                ("organization", STRING, "x"), ("basename", STRING, "x"),
                ("finetune", STRING, "x"), ("size_label", STRING, "7B"), ("license", STRING, "x"),
                ("url", STRING, "x"), ("tags", STRING, ["x"]), ("languages", STRING, ["en"]),
                ("base_model.count", U32, 1), ("quantization_version", U32, 1),
                ("file_type", U32, 2), ("sampling.temp", FLOAT, .5), ("parameter_count", U64, 9),
                ("any_other", BOOL, True))]),
    Row(MODEL, ["split.count"],
        "refused above 1: the other tensors are in other files; 0, what a merged file has, and 1 "
        "say that there are none", [
            value("llama", "split.count", U32, 3, REFUSED),
            value("llama", "split.count", I32, -1, REFUSED),
            value("llama", "split.count", STRING, "3", REFUSED),
            value("llama", "split.count", U16, 0, HARMLESS),
            value("llama", "split.count", U16, 1, HARMLESS)]),
    Row(MODEL, ["split.no", "split.tensors.count"],
        "harmless: with all tensors it is no part", [
            value("llama", "split.no", U32, 1, HARMLESS),
            value("llama", "split.tensors.count", I32, 99, HARMLESS)]),
    Row(MODEL, ["block_count", "embedding_length", "feed_forward_length"],
        "refused where it is missing, or not what the tensors' dimensions are", [
            change for key in ("block_count", "embedding_length", "feed_forward_length")
            for change in (each(FAMILIES, key, U32, 16, REFUSED) + each(FAMILIES, key, U32, 1,
                           REFUSED) + each(FAMILIES, key, U32, GONE, REFUSED))]),
    Row(MODEL, ["attention.head_count"], "used; refused where it is missing, or does not fit the "
        "tensors' dimensions", [
            *each(but("qwen3", "gemma3"), "attention.head_count", U32, 4, USED),
            *each(["qwen3", "gemma3"], "attention.head_count", U32, 4, REFUSED),
            *each(FAMILIES, "attention.head_count", U32, GONE, REFUSED),
            *each(FAMILIES, "attention.head_count", U32, 0, REFUSED),
            *each(FAMILIES, "attention.head_count", U32, 3, REFUSED)]),
    Row(MODEL, ["attention.head_count_kv", "attention.key_length", "attention.value_length"],
        "refused unless what the tensors' dimensions are, which it is too where it is missing", [
            *each(FAMILIES, "attention.head_count_kv", U32, 2, HARMLESS),
            *each(FAMILIES, "attention.head_count_kv", U32, 1, REFUSED),
            *each(FAMILIES, "attention.head_count_kv", U32, [2, 2], REFUSED),
            *each(FAMILIES, "attention.key_length", U32, 16, HARMLESS),
            *each(FAMILIES, "attention.key_length", U32, 8, REFUSED),
            *each(FAMILIES, "attention.value_length", U32, 16, HARMLESS),
            *each(FAMILIES, "attention.value_length", U32, 8, REFUSED)]),
    Row(MODEL, ["context_length"], "used: pieces are so long; refused where it is missing, and "
        "unless there are so many positions where these are learned", [
            *each(but("gpt2", "opt"), "context_length", U32, 12, USED),
            *each(["gpt2", "opt"], "context_length", U32, 12, REFUSED),
            *each(FAMILIES, "context_length", U32, 0, REFUSED),
            *each(FAMILIES, "context_length", U32, GONE, REFUSED)]),
    Row(MODEL, ["attention.sliding_window"],
        "used by every family but OLMo-2, where it is refused unless 0: OLMo-3's files, of the "
        "same name, have it in some layers; refused where negative", [
            *each(but("olmo2"), "attention.sliding_window", U32, 4, USED),
            *each(["olmo2"], "attention.sliding_window", U32, 4, REFUSED),
            *each(but("gemma2"), "attention.sliding_window", U32, 0, HARMLESS),
            *each(FAMILIES, "attention.sliding_window", I32, -1, REFUSED)]),
    Row(MODEL, ["attention.sliding_window_pattern"],
        "refused unless the family's: 2 in Gemma 2, 6 in Gemma 3, none in others", [
            *each(["gemma2"], "attention.sliding_window_pattern", U32, 2, HARMLESS),
            *each(["gemma3"], "attention.sliding_window_pattern", U32, 6, HARMLESS),
            *each(but("gemma2"), "attention.sliding_window_pattern", U32, 2, REFUSED),
            *each(["gemma2"], "attention.sliding_window_pattern", U32, 6, REFUSED),
            *each(["gemma3"], "attention.sliding_window_pattern", BOOL, [True, False], REFUSED)]),
    Row(MODEL, ["attention.causal"], "refused unless true", [
        *each(FAMILIES, "attention.causal", BOOL, True, HARMLESS),
        *each(FAMILIES, "attention.causal", BOOL, False, REFUSED),
        *each(FAMILIES, "attention.causal", U32, 0, REFUSED),
        *each(FAMILIES, "attention.causal", FLOAT, 1.0, REFUSED)]),
    Row(MODEL, ["attention.max_alibi_bias"], "used by BLOOM; refused elsewhere", [
        *each(["bloom"], "attention.max_alibi_bias", FLOAT, 4.0, USED),
        *each(["bloom"], "attention.max_alibi_bias", FLOAT, 0.0, REFUSED),
        *each(but("bloom"), "attention.max_alibi_bias", FLOAT, 8.0, REFUSED)]),
    Row(MODEL, ["rope.dimension_count", "rope.freq_base"],
        "used; refused unless an even part of a head, and from 1 to 1e30; refused where positions "
        "are not rotary", [
            *each(ROTARY, "rope.dimension_count", U32, 8, USED),
            *each(ROTARY, "rope.dimension_count", U32, 7, REFUSED),
            *each(ROTARY, "rope.dimension_count", U32, 18, REFUSED),
            *each(ROTARY, "rope.freq_base", FLOAT, 100.0, USED),
            *each(ROTARY, "rope.freq_base", FLOAT, .5, REFUSED),
            *each(OTHERS, "rope.dimension_count", U32, 16, REFUSED),
            *each(OTHERS, "rope.freq_base", FLOAT, 1e4, REFUSED)]),
    Row(MODEL, ["rope.scaling.type", "rope.scaling.factor"],
        "used: linear with a factor; refused are other types than that and none, one without the "
        "other, and both where positions are not rotary", [
            *((name, ("values",), own(name, rope__scaling__type=(STRING, "linear"),
                                      rope__scaling__factor=(FLOAT, 2.0)), USED)
              for name in ROTARY),
            *((name, ("values",), own(name, rope__scaling__type=(STRING, "yarn"),
                                      rope__scaling__factor=(FLOAT, 2.0)), REFUSED)
              for name in ROTARY),
            *each(ROTARY, "rope.scaling.type", STRING, "linear", REFUSED),
            *each(ROTARY, "rope.scaling.type", STRING, "none", HARMLESS),
            *each(OTHERS, "rope.scaling.type", STRING, "none", REFUSED),
            *each(FAMILIES, "rope.scaling.factor", FLOAT, 2.0, REFUSED)]),
    Row(MODEL, ["rope.freq_base_swa"],
        "used by Gemma 2 and 3, in layers with a window; harmless where no layer has one; refused "
        "in other families", [
            *each(["gemma2"], "rope.freq_base_swa", FLOAT, 100.0, USED),
            ("gemma3", ("values",), own("gemma3", attention__sliding_window=(U32, 4)), USED),
            ("gemma3", ("values",), own("gemma3", rope__freq_base_swa=(FLOAT, 100.0),
                                        attention__sliding_window=(U32, 40)), USED),
            *each(["gemma3"], "rope.freq_base_swa", FLOAT, 100.0, HARMLESS),
            *each(["gemma3"], "rope.freq_base_swa", FLOAT, 0.0, REFUSED),
            *each(but("gemma2", "gemma3"), "rope.freq_base_swa", FLOAT, 1e4, REFUSED)]),
    Row(MODEL, ["attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon"],
        "used: the one of the family's norm; refused where it is missing, outside 0 to .999, or "
        "the other one", [
            change for name in FAMILIES
            for mine, other in [("epsilon", "rms_epsilon")[::1 if name in LAYER_NORM else -1]]
            for change in (each([name], "attention.layer_norm_" + mine, FLOAT, .5, USED) +
                           each([name], "attention.layer_norm_" + mine, FLOAT, GONE, REFUSED) +
                           each([name], "attention.layer_norm_" + mine, FLOAT, -.5, REFUSED) +
                           each([name], "attention.layer_norm_" + other, FLOAT, .5, REFUSED))]),
    Row(MODEL, ["attention.scale", "attn_logit_softcapping", "final_logit_softcapping",
                "logit_scale"],
        "used by every family, Granite dividing by the last, and refused there without it; refused "
        "where negative, or no number", [
            *each(["granite"], "logit_scale", FLOAT, GONE, REFUSED),
            *each(["granite"], "logit_scale", FLOAT, 0.0, REFUSED), *[
            change for key in ("attention.scale", "attn_logit_softcapping",
                               "final_logit_softcapping", "logit_scale")
            for change in (each(FAMILIES, key, FLOAT, .5, USED) +
                           each(["llama"], key, FLOAT, -1.0, REFUSED) +
                           each(["llama"], key, FLOAT, NAN, REFUSED) +
                           each(["llama"], key, U32, 1, REFUSED))]]),
    Row(MODEL, ["embedding_scale", "residual_scale"],
        "used by Granite; refused where not above 0, and in other families, which some program "
        "would scale", [
            change for key in ("embedding_scale", "residual_scale")
            for change in (each(["granite"], key, FLOAT, .5, USED) +
                           each(["granite"], key, FLOAT, 1.0, HARMLESS) +
                           each(["granite"], key, FLOAT, 0.0, REFUSED) +
                           each(["granite"], key, FLOAT, NAN, REFUSED) +
                           each(["granite"], key, U32, 1, REFUSED) +
                           each(but("granite"), key, FLOAT, .5, REFUSED))]),
    Row(MODEL, ["use_parallel_residual"],
        "harmless in StableLM, where tensors say whether it is so; refused in other families", [
            *each(["stablelm"], "use_parallel_residual", BOOL, True, HARMLESS),
            *each(["stablelm"], "use_parallel_residual", BOOL, False, HARMLESS),
            *each(but("stablelm"), "use_parallel_residual", BOOL, False, REFUSED)]),
    Row(MODEL, ["vocab_size", "tensor_data_layout", LAYOUT, "rope.scaling.finetuned"],
        "harmless: the embedding's rows are the vocabulary, q and k have one order in GGUF, and "
        "the others tell of the past; but in Granite the last is refused unless true, since false "
        "is a model without positions there", [
            *each(FAMILIES, "vocab_size", U32, 7, HARMLESS),
            *each(FAMILIES, "tensor_data_layout", STRING, "Meta AI original pth", HARMLESS),
            *each(FAMILIES, LAYOUT, U32, 8, HARMLESS),
            *each(FAMILIES, "rope.scaling.finetuned", BOOL, True, HARMLESS),
            *each(but("granite"), "rope.scaling.finetuned", BOOL, False, HARMLESS),
            *each(["granite"], "rope.scaling.finetuned", BOOL, False, REFUSED)]),
    Row(MODEL, ["expert_count", "expert_used_count", "attention.clamp_kqv", "pooling_type",
                "rope.scale_linear", "rope.scaling.attn_factor", "rope.scaling.yarn_beta_fast",
                "swin_norm", "any other of the family"],
        "refused: some program heeds it, and computes something else", [
            change for key in ("expert_count", "expert_used_count", "attention.clamp_kqv",
                               "pooling_type", "rope.scale_linear", "rope.scaling.attn_factor",
                               "rope.scaling.yarn_beta_fast", "swin_norm", "any_other", "")
            for change in each(FAMILIES, key, U32, 1, REFUSED)]),
    Row(WEIGHTS, ["token_embd", "position_embd", "token_embd_norm", "output_norm", "attn_norm",
                  "ffn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up",
                  "ffn_down", "attn_q_norm", "attn_k_norm", "post_attention_norm", "post_ffw_norm"],
        "refused where one is missing that the family has, or there that it has not, or of another "
        "size: ffn_up holds ffn_gate too in Phi-3, and OLMo-2's norms of q and k have all heads", [
            *needed(),
            ("phi3", ("tensors", "blk.0.ffn_up.weight"), raw([NEURONS, WIDTH]), REFUSED),
            ("llama", ("tensors", "blk.0.ffn_up.weight"), raw([2 * NEURONS, WIDTH]), REFUSED),
            *((family, ("tensors", "blk.0.attn_q_norm.weight"), raw([size]), REFUSED)
              for family, size in (("olmo2", WIDTH // tiny.HEADS), ("qwen3", WIDTH))),
            *((family, ("tensors", name), raw(dims), REFUSED) for family in FAMILIES
              for name, dims in [
                  ("position_embd.weight", [tiny.CONTEXT, WIDTH]),
                  ("token_embd_norm.weight", [WIDTH]), ("blk.0.ffn_norm.weight", [WIDTH]),
                  ("blk.0.attn_norm.weight", [WIDTH]),
                  ("blk.0.ffn_gate.weight", [NEURONS, WIDTH]),
                  ("blk.0.attn_q_norm.weight", [WIDTH // tiny.HEADS]),
                  ("blk.0.post_ffw_norm.weight", [WIDTH])]
              if name not in tiny.shapes(family, 14))]),
    Row(WEIGHTS, ["output"], "used; where it is missing, token_embd is that too",
        more_tensor(FAMILIES, "output.weight", [14, WIDTH], USED)),
    Row(WEIGHTS, ["attn_qkv"], "used in place of attn_q, attn_k and attn_v; refused beside them", [
        *((*fused(family), USED) for family in FAMILIES),
        *more_tensor(FAMILIES, "blk.0.attn_qkv.weight", [3 * WIDTH, WIDTH], REFUSED)]),
    Row(WEIGHTS, ["bias of attn_q, attn_k, attn_v or attn_qkv, attn_output, ffn_down, output"],
        "used, where it is there, in every family; refused where it is of another length, or there "
        "in both ways", [
            *(change for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_down")
              for change in more_tensor(FAMILIES, "blk.0.%s.bias" % name, [WIDTH], USED)),
            *more_tensor(FAMILIES, "blk.0.attn_qkv.bias", [3 * WIDTH], USED),
            *more_tensor(FAMILIES, "output.bias", [14], USED),
            *more_tensor(["llama"], "blk.0.attn_qkv.bias", [2 * WIDTH], REFUSED),
            ("llama", ("tensors",), {"blk.0.attn_qkv.bias": raw([3 * WIDTH]),
                                     "blk.0.attn_v.bias": raw([WIDTH])}, REFUSED)]),
    Row(WEIGHTS, ["bias of ffn_up, ffn_gate"],
        "used, where it is there, of ffn_up without a gate; else refused", [
            *more_tensor(PLAIN, "blk.0.ffn_up.bias", [NEURONS], USED),
            *more_tensor(but(*PLAIN), "blk.0.ffn_up.bias", [NEURONS], REFUSED),
            *more_tensor(FAMILIES, "blk.0.ffn_gate.bias", [NEURONS], REFUSED)]),
    Row(WEIGHTS, ["bias of a norm"],
        "used, where it is there, by families of LayerNorm; refused by those of RMSNorm",
        norm_biases()),
    Row(WEIGHTS, ["rope_freqs"],
        "used, where it is there, by families of rotary positions; refused elsewhere", [
            *more_tensor(ROTARY, "rope_freqs.weight", [8], USED),
            *more_tensor(OTHERS, "rope_freqs.weight", [8], REFUSED),
            *more_tensor(["llama"], "rope_freqs.weight", [4], REFUSED)]),
    Row(WEIGHTS, ["attn_sinks, ffn_gate_inp, ffn_gate_exps, rope_factors_long, layers beyond "
                  "block_count, any other"], "refused", [
        change for name in ("blk.0.attn_sinks.weight", "blk.0.ffn_gate_inp.weight",
                            "blk.0.ffn_gate_exps.weight", "rope_factors_long.weight",
                            "blk.2.attn_norm.weight", "blk.0.attn_q.scale", "any.other")
        for change in more_tensor(["llama", "gpt2", "gemma3"], name, [WIDTH], REFUSED)]),
    Row(TOKENIZER, ["tokenizer.ggml.model"],
        "refused, for texts alone, unless llama or gpt2, and the rest is of that kind", [
            *words(*TOKENIZERS, "model", STRING, "bert", REFUSED),
            *words(*TOKENIZERS, "model", STRING, "none", REFUSED),
            *words(*TOKENIZERS, "model", STRING, GONE, REFUSED),
            word("spm", "model", STRING, "gpt2", REFUSED),
            word("bpe", "model", STRING, "llama", REFUSED), word("bpe", "model", U32, 1, REFUSED)]),
    Row(TOKENIZER, ["tokenizer.ggml.tokens"],
        "used; refused unless as many as the embedding's rows, each there once", [
            word("spm", "tokens", STRING, tokens("spm", (7, "xy")), USED),
            word("bpe", "tokens", STRING, tokens("bpe", (261, "cc")), USED),
            word("spm", "tokens", STRING, tokens("spm", (7, "a")), REFUSED),
            word("bpe", "tokens", STRING, tokens("bpe", (258, "a")), REFUSED),
            word("bpe", "tokens", STRING, tokens("bpe", (97, "zz")), REFUSED),
            *(word(base, "tokens", STRING, tokens(base, (5, GONE)), REFUSED)
              for base in TOKENIZERS),
            *words(*TOKENIZERS, "tokens", STRING, GONE, REFUSED)]),
    Row(TOKENIZER, ["tokenizer.ggml.scores"],
        "used; refused where it is missing, of another length, or no number; harmless beside "
        "merges, which decide", [
            word("spm", "scores", FLOAT, SCORES[:6] + [-99.0] + SCORES[7:], USED),
            word("spm", "scores", FLOAT, SCORES[:6] + [NAN] + SCORES[7:], REFUSED),
            word("spm", "scores", FLOAT, SCORES[:6], REFUSED),
            word("spm", "scores", FLOAT, GONE, REFUSED),
            word("spm", "scores", I32, [0] * 14, REFUSED),
            *words("ranked", "bpe", "added", "scores", FLOAT, [1.0], HARMLESS)]),
    Row(TOKENIZER, ["tokenizer.ggml.token_type"],
        "used; refused unless one of 1 to 6 for each token", [
            word("spm", "token_type", I32, KINDS[:7] + [3] + KINDS[8:], USED),
            word("spm", "token_type", I32, KINDS[:7] + [5] + KINDS[8:], USED),
            word("spm", "token_type", I32, KINDS[:9] + [4] + KINDS[10:], USED),
            word("spm", "token_type", I32, KINDS[:7] + [7] + KINDS[8:], REFUSED),
            word("spm", "token_type", I32, KINDS[:7] + [2] + KINDS[8:], REFUSED),
            word("spm", "token_type", I32, KINDS[:7] + [6] + KINDS[8:], REFUSED),
            word("spm", "token_type", I32, KINDS[:7], REFUSED),
            word("spm", "token_type", U32, KINDS, REFUSED),
            *words(*TOKENIZERS, "token_type", I32, GONE, REFUSED)]),
    Row(TOKENIZER, ["tokenizer.ggml.merges"],
        "used, with gpt2 and in place of scores; refused unless each is of two tokens, makes one, "
        "and is there once", [
            word("bpe", "merges", STRING, ["a b"], USED),
            word("bpe", "merges", STRING, GONE, REFUSED),
            word("bpe", "merges", STRING, ["a b", "a b"], REFUSED),
            word("bpe", "merges", STRING, ["a c"], REFUSED),
            word("bpe", "merges", STRING, ["ab"], REFUSED),
            word("ranked", "merges", STRING, ["b c"], USED),
            word("ranked", "merges", STRING, ["a <w>"], REFUSED),
            word("spm", "merges", STRING, ["b c"], USED),
            word("ranked", "merges", STRING, GONE, REFUSED)]),
    Row(TOKENIZER, ["tokenizer.ggml.pre"],
        "used with gpt2, and refused unless known; harmless with llama, whose pieces do without", [
            word("bpe", "pre", STRING, "llama-bpe", USED),
            word("bpe", "pre", STRING, "qwen2", USED),
            word("bpe", "pre", STRING, "default", REFUSED),
            word("bpe", "pre", STRING, "made-up", REFUSED),
            word("bpe", "pre", STRING, GONE, REFUSED),
            *words("spm", "ranked", "pre", STRING, "default", HARMLESS)]),
    Row(TOKENIZER, ["tokenizer.ggml.added_tokens", "tokenizer.ggml.added_normalized"],
        "used; refused unless both are there and of one length, and each is a token, of type 1 or "
        "4, there once", [
            word("added", "added_normalized", BOOL, [True], USED),
            ("spm", ("values",), {"tokenizer.ggml.added_tokens": (I32, [11]),
                                  "tokenizer.ggml.added_normalized": (BOOL, [False])}, USED),
            word("added", "added_tokens", I32, [256], USED),
            word("added", "added_tokens", I32, [259], REFUSED),
            word("added", "added_tokens", I32, [9999], REFUSED),
            word("added", "added_tokens", I32, [-1], REFUSED),
            word("added", "added_tokens", I32, [256, 257], REFUSED),
            word("added", "added_tokens", I32, GONE, REFUSED),
            word("added", "added_normalized", BOOL, GONE, REFUSED),
            word("added", "added_normalized", I32, [1], REFUSED),
            ("added", ("values",), {"tokenizer.ggml.added_tokens": (I32, [256, 256]),
                                    "tokenizer.ggml.added_normalized": (BOOL, [True, True])},
             REFUSED)]),
    Row(TOKENIZER, ["tokenizer.ggml.add_space_prefix", "tokenizer.ggml.remove_extra_whitespaces"],
        "used with llama, true where it is missing, and refused when true with gpt2; refused when "
        "true", [
            *words("spm", "ranked", "add_space_prefix", BOOL, False, USED),
            *words("spm", "ranked", "add_space_prefix", BOOL, True, HARMLESS),
            *words("bpe", "added", "add_space_prefix", BOOL, True, REFUSED),
            *words("bpe", "added", "add_space_prefix", BOOL, False, HARMLESS),
            *words(*TOKENIZERS, "remove_extra_whitespaces", BOOL, True, REFUSED),
            *words(*TOKENIZERS, "remove_extra_whitespaces", BOOL, False, HARMLESS)]),
    Row(TOKENIZER, ["tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                    "tokenizer.ggml.add_bos_token"],
        "used; refused where there is no such token", [
            word("spm", "bos_token_id", U32, 3, USED), word("spm", "bos_token_id", U32, GONE, USED),
            word("spm", "eos_token_id", U32, 6, USED), word("spm", "eos_token_id", U32, GONE, USED),
            word("spm", "add_bos_token", BOOL, False, USED),
            word("bpe", "add_bos_token", BOOL, True, USED),
            *words(*TOKENIZERS, "bos_token_id", U32, 9999, REFUSED),
            *words(*TOKENIZERS, "eos_token_id", U32, 9999, REFUSED),
            *words(*TOKENIZERS, "eos_token_id", I32, -1, REFUSED)]),
    Row(TOKENIZER, ["tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_sep_token"],
        "harmless: texts and prompts never end so, whatever it says", [
            *words(*TOKENIZERS, "add_eos_token", BOOL, True, HARMLESS),
            *words(*TOKENIZERS, "add_sep_token", BOOL, True, HARMLESS)]),
    Row(TOKENIZER, ["tokenizer.ggml.unknown_token_id", "tokenizer.ggml.padding_token_id",
                    "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.mask_token_id",
                    "tokenizer.ggml.eot_token_id", "tokenizer.ggml.fim_pre_token_id",
                    "tokenizer.chat_template", "tokenizer.chat_templates",
                    "tokenizer.chat_template.NAME",
                    "tokenizer.huggingface.json"],
        "harmless: no text becomes those tokens, what is unknown has its type, and chats are not "
        "held", [
            *(word("spm", key + "_token_id", U32, 3, HARMLESS)
              for key in ("unknown", "padding", "seperator", "mask", "eot", "fim_pre")),
            value("spm", "tokenizer.chat_template", STRING, "x", HARMLESS),
            value("spm", "tokenizer.chat_templates", STRING, ["x"], HARMLESS),
            value("spm", "tokenizer.chat_template.tool_use", STRING, "x", HARMLESS),
            value("spm", "tokenizer.huggingface.json", STRING, "{}", HARMLESS)]),
    Row(TOKENIZER, ["tokenizer.ggml.precompiled_charsmap", "tokenizer.ggml.escape_whitespaces",
                    "tokenizer.ggml.treat_whitespace_as_suffix", "tokenizer.ggml.token_type_count",
                    "tokenizer.rwkv.world", "any other"],
        "refused, for texts alone: text is not known to become the same tokens", [
            value(base, "tokenizer." + key, U8, [1], REFUSED) for base in TOKENIZERS
            for key in ("ggml.precompiled_charsmap", "ggml.escape_whitespaces", "rwkv.world",
                        "ggml.treat_whitespace_as_suffix", "ggml.token_type_count", "any")]),
    Row(COUNTS, ["general.architecture", "general.name"],
        "refused unless lape-counts; used, and refused where it is missing", [
            value("counts", "general.architecture", STRING, "llama", REFUSED),
            value("counts", "general.name", STRING, "other", USED),
            ("counts", ("values", "general.name"), GONE, REFUSED)]),
    Row(COUNTS, ["general.*, values of other prefixes"],
        "harmless: who made the file, and what other programs note", [
            value("counts", "general.author", STRING, "y", HARMLESS),
            value("counts", "any.other", U32, 1, HARMLESS)]),
    Row(COUNTS, ["lape-counts.layers", "lape-counts.neurons", "lape-counts.vocabulary"],
        "refused unless the tensors' dimensions", [
            counted(key, U64, new, REFUSED) for key in ("layers", "neurons", "vocabulary")
            for new in (0, 1, 4, 1 << 40)] + [
            counted("layers", U64, GONE, REFUSED), counted("neurons", U64, GONE, REFUSED)]),
    Row(COUNTS, ["lape-counts.piece_length", "lape-counts.bos", "lape-counts.near"],
        "used; refused outside their ranges", [
            counted("piece_length", U64, 6, USED), counted("piece_length", U64, 1 << 31, REFUSED),
            counted("bos", U64, 1, USED), counted("bos", U64, 2, REFUSED),
            counted("near", DOUBLE, .002, USED), counted("near", DOUBLE, -1.0, REFUSED),
            counted("near", DOUBLE, NAN, REFUSED), counted("near", U64, 0, REFUSED)]),
    Row(COUNTS, ["lape-counts.languages"],
        "used; refused unless each is a label, has tensors, and they ascend", [
            counted("languages", STRING, ["bb", "aa"], REFUSED),
            counted("languages", STRING, ["aa", "ba"], REFUSED),
            counted("languages", STRING, ["aa", "cc"], REFUSED),
            counted("languages", STRING, ["aa", "aa"], REFUSED),
            counted("languages", STRING, ["aa", "none"], REFUSED),
            counted("languages", STRING, ["aa", "b b"], REFUSED),
            counted("languages", STRING, ["aa"], REFUSED),
            counted("languages", STRING, GONE, REFUSED)]),
    Row(COUNTS, ["lape-counts.tokens", "lape-counts.pieces"],
        "used; refused unless one of each language, and tokens no fewer than a neuron was above "
        "zero", [
            ("counts", (), more_tokens(), USED), counted("tokens", U64, [9, 20], REFUSED),
            counted("tokens", U64, [20, 21], REFUSED),
            counted("tokens", U64, [10, 1 << 63], REFUSED), counted("tokens", U64, [10], REFUSED),
            counted("tokens", U64, GONE, REFUSED), counted("pieces", U64, [2, 5], USED),
            counted("pieces", U64, [2], REFUSED), counted("pieces", I64, [2, 4], REFUSED),
            counted("pieces", U64, GONE, USED)]),
    Row(COUNTS, ["lape-counts.parts"],
        "used: nothing is added twice; refused unless four numbers each, of a language and a "
        "shard, and nothing is there twice", [
            counted("parts", U64, [0, 8, 0, 1, 1, 9, 0, 2], USED),
            counted("parts", U64, GONE, USED),
            counted("parts", U64, [2, 7, 0, 1], REFUSED),
            counted("parts", U64, [0, 7, 1, 1], REFUSED),
            counted("parts", U64, [0, 7, 0, 1 << 31], REFUSED),
            counted("parts", U64, [0, 7, 0, 1, 0, 7, 0, 1], REFUSED),
            counted("parts", U64, [0, 7, 0, 2, 0, 7, 2, 4], REFUSED),
            counted("parts", U64, [0, 7, 0], REFUSED)]),
    Row(COUNTS, ["any other lape-counts value", "any other tensor"], "refused", [
        counted("more", U64, 1, REFUSED), ("counts", ("tensors", "cc.sum"), int64(2, 1, 2, 3, 4),
                                           REFUSED)]),
    Row(COUNTS, ["positive", "near_above", "near_below", "sum", "positive_sum", "histogram"],
        "used; refused unless of 64-bit integers, from 0 to the language's tokens (sums may be "
        "more, sum less than 0), histogram all of the tokens, and where positive is missing", [
            *(("counts", ("tensors", "aa." + name), int64(2, 2, 2, 2, 2), USED)
              for name in ("positive", "near_above", "near_below", "sum", "positive_sum")),
            ("counts", ("tensors", "aa.histogram"), int64(1, 4, 16, 0), USED),
            ("counts", ("tensors", "aa.histogram"), int64(1, 4, 6, 0), REFUSED),
            ("counts", ("tensors", "aa.sum"), int64(2, -99, 1 << 50, 0, 0), USED),
            *(("counts", ("tensors", "aa." + name), int64(2, 2, 21, 2, 2), REFUSED)
              for name in ("positive", "near_above", "near_below")),
            *(("counts", ("tensors", "aa." + name), int64(2, 2, -1, 2, 2), REFUSED)
              for name in ("positive", "near_above", "near_below", "positive_sum")),
            ("counts", ("tensors", "aa.histogram"), int64(1, 15, 6, -1), REFUSED),
            ("counts", ("tensors", "aa.positive"), GONE, REFUSED),
            *(("counts", ("tensors", "aa." + name), GONE, USED)
              for name in ("near_above", "near_below", "sum", "positive_sum", "histogram")),
            ("counts", ("tensors", "aa.sum", "type"), DOUBLE, REFUSED),
            ("counts", ("tensors", "aa.sum", "dims"), [4, 1], REFUSED)]),
    Row(NEURON_LIST, ["# model"],
        "used; refused unless the model's, unknown, or missing; --any-model takes it", [
            listed("model: tiny", "model: other", REFUSED),
            listed("model: tiny", "model:", REFUSED), listed("model: tiny", "model:tiny", REFUSED),
            listed("# model: tiny", "# model: other\n# model: tiny", REFUSED),
            listed("model: tiny", "model: unknown", USED)]),
    Row(NEURON_LIST, ["# layers", "# neurons", "# languages"],
        "used; refused unless the model's, and labels, each there once", [
            listed("layers: 2", "layers: 3", REFUSED),
            listed("neurons: 32", "neurons: 33", REFUSED),
            listed("layers: 2", "layers: two", REFUSED), listed("# layers: 2\n", "", REFUSED),
            listed("layers: 2", "layers:12", REFUSED), listed("layers: 2", "layers:2", REFUSED),
            listed("# layers: 2", "# layers: 2\n# layers: 2", REFUSED),
            listed("# layers: 2", "# layers: 2\n# layers:6", REFUSED),
            listed("languages: aa bb", "languages:aa bb", REFUSED),
            listed("# languages: aa bb", "# languages: aa bb\n# languages: cc", REFUSED),
            listed("# neurons: 32\n", "", REFUSED), listed("# languages: aa bb\n", "", REFUSED),
            listed("languages: aa bb", "languages: bb aa", USED),
            listed("languages: aa bb", "languages: aa bb cc", USED),
            listed("languages: aa bb", "languages: aa", REFUSED),
            listed("languages: aa bb", "languages: aa bb aa", REFUSED),
            listed("languages: aa bb", "languages: aa  bb", REFUSED)]),
    Row(NEURON_LIST, ["# tokens", "# method", "# top", "# filter", "# bar", "other comments"],
        "harmless: how the neurons were found, which does not change them", [
            listed("tokens: 10 20", "tokens: 1", HARMLESS),
            listed("method: lape", "method: x", HARMLESS), listed("# top: 0.1\n", "", HARMLESS),
            listed("filter: 0.5", "filter: 9", HARMLESS), listed("bar: 0.5", "bar: x", HARMLESS),
            listed("0\t9", "# layers: 7\n0\t9", HARMLESS), listed("", "# more\n", HARMLESS)]),
    Row(NEURON_LIST, ["names of the columns"], "refused unless the four known ones first", [
        listed("neuron\tlape", "lape\tneuron", REFUSED),
        listed("layer\tneuron\tlape\tlanguages", "layer\tneuron", REFUSED)]),
    Row(NEURON_LIST, ["layer", "neuron", "languages"],
        "used; refused unless numbers that the model has, in ascending order, and languages of the "
        "header", [
            listed("0\t3\t", "0\t4\t", USED), listed("0\t3\t", "0\t9\t", REFUSED),
            listed("0\t3\t", "1\t3\t", REFUSED), listed("0\t3\t", "2\t3\t", REFUSED),
            listed("0\t3\t", "0\t32\t", REFUSED), listed("0\t3\t", "0\t 3\t", REFUSED),
            listed("aa,bb", "bb", USED), listed("aa,bb", "bb,aa", HARMLESS),
            listed("aa,bb", "aa,cc", REFUSED), listed("aa,bb", "", REFUSED),
            listed("\t-\t", "\taa\t", USED)]),
    Row(NEURON_LIST, ["lape", "p_LANG", "further columns"],
        "harmless: the score and the probabilities that neurons were found by, not asked again", [
            listed("0\t3\t0.5", "0\t3\tx", HARMLESS), listed("aa,bb\t0.5\t0.25", "aa,bb", HARMLESS),
            listed("\t0.125\t0.5", "\t9\tx\ty", HARMLESS),
            listed("\tp_aa\tp_bb", "\tp_bb", HARMLESS)]),
    Row(NEURON_LIST, ["empty lines", "carriage returns, byte-order mark"],
        "harmless: a line of nothing says nothing; the others are refused", [
            listed("1\t0\t", "\n\n1\t0\t", HARMLESS), listed("", "\ufeff", REFUSED),
            ("list", None, LIST.replace("\n", "\r\n").encode(), REFUSED),
            listed("layers: 2", "layers: 2\r", REFUSED)]),
    Row(".npy", ["magic", "version"], "refused unless NUMPY; 1, 2 or 3 are the same but for the "
        "header's length", [
            replaced("npy", b"NUMPY", b"NUMPX", REFUSED), array(HARMLESS, version=2),
            array(HARMLESS, version=3), replaced("npy", b"NUMPY\1\0", b"NUMPY\1\1", HARMLESS),
            replaced("npy", b"NUMPY\1", b"NUMPY\0", REFUSED), array(REFUSED, version=4)]),
    Row(".npy", ["the header's length"], "refused unless in the file, and before the numbers", [
        array(REFUSED, length=60000), array(REFUSED, length=20), array(REFUSED, length=119)]),
    Row(".npy", ["descr"],
        "used: little-endian integers; others are refused", [
            array(HARMLESS, descr="<u4"), array(USED, descr="<u2", shape=(80,)),
            array(HARMLESS, descr="|i4"), array(HARMLESS, descr="=i4"),
            array(REFUSED, descr=">i4"), array(REFUSED, descr="<f4"), array(REFUSED, descr="<c4"),
            array(REFUSED, descr="|S4"), array(REFUSED, descr="<i3", shape=(40,))]),
    Row(".npy", ["fortran_order"], "refused unless False", [
        array(REFUSED, order="True"), array(REFUSED, order="Falsehood")]),
    Row(".npy", ["order of the three keys", "any other key"],
        "harmless; refused, as is a key that is there twice, or not", [
            array(HARMLESS, header="{'shape': (40,), 'descr':'<i4','fortran_order': False}\n"),
            array(HARMLESS, header="{'shape': (40,), 'descr':'<i4','fortran_order': False} "),
            *(array(REFUSED, header="{'descr': '<i4', 'fortran_order': False, " + rest) for rest in (
                "'shape': (40,), 'more': 1, }", "'shape': (40,), 'descr': '<i4', }", "}",
                "'shape': (40,), } x", "'shape': (40,), ", "'shapes': (40,), }",
                "'shape': (40,)"))]),
    Row(".npy", ["shape"],
        "refused unless as many numbers as there are; harmless otherwise: ids are one text, row "
        "after row", [
            array(HARMLESS, shape=(4, 10)), array(HARMLESS, shape=(1, 40)),
            array(REFUSED, shape=(41,)), array(REFUSED, shape=(39,)), array(REFUSED, shape=(0,)),
            array(REFUSED, shape="()"), array(REFUSED, shape="(4 10)"), array(REFUSED, shape="(40"),
            array(REFUSED, shape="(,40)"), array(REFUSED, shape="(-40,)"),
            array(HARMLESS, shape=(1, 1, 1, 1, 1, 1, 1, 1, 40))]),
    Row(".npy", ["the numbers"], "used; refused are ids that the vocabulary has not", [
        array(USED, data=NUMBERS[4:] + NUMBERS[:4]),
        array(REFUSED, data=struct.pack("<2i", 3, 14)),
        array(REFUSED, data=struct.pack("<2i", 3, -1))]),
    Row(".bin", ["the numbers"],
        "used; refused are ids that the vocabulary has not, and half an id", [
            ("bin", None, struct.pack("<40H", *IDS[::-1]), USED),
            ("bin", None, struct.pack("<2H", 3, 14), REFUSED),
            ("bin", None, struct.pack("<40HB", *IDS, 1), REFUSED)]),
    Row("text", ["characters"],
        "used, all of them: carriage returns, NUL, a byte-order mark and the last end of a line "
        "are characters as others are; refused is what is not UTF-8, or an archive", [
            replaced("text", b"abc", b"bc", USED), replaced("text", b"abc", b"ab\r\nc", USED),
            replaced("text", b"abc", b"ab\0c", USED),
            ("text", None, b"\xef\xbb\xbf" + TEXT.encode(), USED),
            ("text", None, TEXT.encode() + b"\n", USED),
            ("text", None, TEXT.encode() + b"\xff", REFUSED),
            ("text", None, TEXT.encode()[:-1] + b"\xc3", REFUSED),
            ("text", None, b"PK\3\4" + TEXT.encode(), REFUSED)]),
    Row("prompts", ["characters"],
        "used, carriage returns and a byte-order mark too; refused is what is not UTF-8", [
            replaced("prompts", b" c", b" cc", USED), replaced("prompts", b" c", b" c\r", USED),
            ("prompts", None, b"\xef\xbb\xbfab c\nabc", USED),
            replaced("prompts", b" c", b" \xff", REFUSED)]),
    Row("prompts", ["empty lines, the last end of a line"], "harmless: nothing is no prompt", [
        ("prompts", None, b"\n\nab c\n\nabc\n\n", HARMLESS)]),
]


# ---- The test ---------------------------------------------------------------------------------

def packed(content):
    return content if isinstance(content, bytes) else tiny.to_bytes(content)


class Fields(fields.Fields):
    """Each file by itself, in a folder with what the commands want besides."""

    mark, rows, bases = "fields", FIELDS, list(BASES)

    def setUp(self):
        super().setUp()
        self.write("ids.bin", struct.pack("<40H", *IDS))
        self.write("prompts", b"ab c\nabc\n")
        self.write("spm.gguf", packed(BASES["spm"]()))
        self.others = set(os.listdir(self.model))

    def files(self, base):
        """The base whose file is at work; what is in it."""
        for name in set(os.listdir(self.model)) - self.others:
            os.remove(os.path.join(self.model, name))
        self.base, self.name = base, NAMES.get(base, "file")
        content = BASES[base]()
        self.write(self.name, packed(content))
        return content

    def change(self, content, row, place, value):
        """Of the values or tensors as a whole, several are added, or taken away."""
        if place not in (("values",), ("tensors",)):
            return super().change(content, row, place, value)
        for key, new in value.items():
            content = put(content, place + (key,), new)
        return content

    def changed(self, row, base, place, value):
        content = self.change(self.files(base), row, place, value)
        self.write(self.name, packed(content))
        return self.result()

    def lape(self, arguments):
        """What a run prints and writes; None and its message where it refuses."""
        done = subprocess.run([LAPE, *arguments], cwd=self.model, input=TEXT.encode(), timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        left = set(os.listdir(self.model)) - self.others - {self.name}
        message = done.stderr.decode("utf-8", "replace")
        if done.returncode:
            self.assertEqual(done.returncode, 1, (arguments, message))
            self.assertRegex(message, r"\Alape: [^\r\n]+\n\Z")
            self.assertEqual((done.stdout, left), (b"", set()), message)
            return None, message
        self.assertEqual(message, "", arguments)
        made = done.stdout
        if left:
            self.assertEqual(left, {"out"})
            with open(os.path.join(self.model, "out"), "rb") as file:
                made += tiny.without_digest(file.read())
            os.remove(os.path.join(self.model, "out"))
        return made, ""

    def result(self):
        made = b""
        for arguments in RUNS.get(self.base, [TRACE]):
            part, message = self.lape(arguments)
            if part is None:
                return None, message
            made += part + b"\n"
        return made, ""

    def test_ids_all_the_same(self):
        """A tokenizer that is refused leaves the model to ids."""
        self.files("llama")
        plain = self.lape(TRACE)
        for base in TOKENIZERS:
            content = put(self.files(base), ("values", "tokenizer.any"), (U32, 1))
            made = self.lape(TRACE)
            self.write("file", tiny.to_bytes(content))
            self.assertEqual(self.lape(TRACE), made)
            self.assertIsNotNone(made[0])
            self.assertIsNone(self.lape(WORDS[0])[0])
        self.assertIsNotNone(plain[0])


if __name__ == "__main__":
    sys.exit(fields.main(Fields.mark, FIELDS))
