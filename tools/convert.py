#!/usr/bin/env python3
"""Other programs' checkpoints, activation counts and lists of neurons in, the last two also out.

    convert.py hf DIR -o model.gguf [--type keep|f32|f16|bf16|q8_0] [--name NAME] [--no-tokenizer]
    convert.py random CONFIG.json -o model.gguf [--type bf16|f16|f32] [--seed N] [--name NAME]
    convert.py counts LANG=FILE.pt ... -o counts.gguf [--name MODELNAME]
    convert.py counts LANG=FILE.npy ... --tokens LANG=N ... -o counts.gguf [--name MODELNAME]
    convert.py counts counts.gguf -o activation.LANG.pt
    convert.py neurons FILE.neuron.pth --langs A,B,... -o neurons.tsv [--neurons N] [--name MODEL]
    convert.py neurons neurons.tsv -o FILE.neuron.pth [--langs A,B,...]

It needs Python 3.8 and nothing else; only making numbers narrower (f16, bf16, q8_0) takes numpy.
Every byte that is read counts as hostile until it is checked: a length against the bytes that are
there, an offset against the file, a pickle against a short list of names. What is not known exactly
is refused in one line, since a guess would give a model that runs and is subtly wrong.
"""

import argparse
import array
import collections
import contextlib
import json
import math
import os
import random
import re
import signal
import struct
import sys
import unicodedata
import zlib

import torch_zip
from gguf_file import (ALIGNMENT, BOOL, F32, I32, STRING, TYPES, U32, U64, Gguf, Output,
                       write_gguf)
from guard import LABELS_ARE, Refused, doubt, is_label, new_file, no_warnings, warnings_are_errors
from torch_zip import is_count
from weights import widened

try:
    import numpy
except ImportError:
    numpy = None

CHUNK = 1 << 22              # bytes of a tensor in memory at a time, rounded to whole heads
SMALL_FILE = 1 << 28         # what is read whole (JSON, the tokenizer) is smaller than this
HEADER_LIMIT = 100_000_000   # the safetensors format's own limit


def complain(text):
    """One line on stderr, whatever characters a hostile name brings along."""
    line = "".join(letter if letter.isprintable() else "?" for letter in text)
    print("convert.py: " + (line if len(line) < 2000 else line[:2000] + "..."), file=sys.stderr)


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


# ---- GGUF, the one container that is written ------------------------------------------------

FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}    # llama.cpp's general.file_type


def write_model(args, metadata, tensors, inputs):
    """Write args.output, with progress where someone watches."""
    with new_file(args.output, inputs) as out:
        write_gguf(out, metadata, tensors, sys.stderr.isatty() and not args.quiet)


# ---- Number types ---------------------------------------------------------------------------

def narrowed(x, dtype):
    """An array of float32 as f16 or bf16; OverflowError where a result is not finite."""
    if dtype == "f16":
        narrow = x.astype("<f2")                     # to nearest even
        finite = numpy.isfinite(narrow)
    else:
        bits = x.view("<u4")
        # To nearest even: add half a unit of the last place that stays, less one bit where that
        # place is even, then cut. (NaNs may wrap around, hence the look at x too.)
        narrow = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
        finite = numpy.isfinite(x) & (narrow & 0x7F80 != 0x7F80)
    if not finite.all():
        raise OverflowError
    return narrow


def quantised(x):
    """An array of float32 as q8_0: blocks of an f16 scale and 32 int8, as ggml's reference."""
    blocks = x.reshape(-1, 32)
    scale = abs(blocks).max(axis=1, keepdims=True) / numpy.float32(127)
    inverse = 1 / scale
    inverse[~numpy.isfinite(inverse)] = 0            # blocks of zeros, and of next to nothing
    scaled = blocks * inverse
    whole = numpy.floor(abs(scaled))
    whole += abs(scaled) - whole >= 0.5              # half goes away from zero, as in C's roundf
    q = numpy.copysign(whole, scaled).astype("i1")
    return numpy.concatenate([narrowed(scale, "f16").view("u1"), q.view("u1")], axis=1)


def recast(raw, have, want):
    """Numbers of type `have` as type `want`; OverflowError where `want` cannot hold one."""
    if have == want:
        return raw
    wide = widened(raw, have)
    if want == "f32":
        return wide
    x = numpy.frombuffer(wide, "<f4")
    with numpy.errstate(all="ignore"):               # what overflows is looked for in the result
        return (quantised(x) if want == "q8_0" else narrowed(x, want)).tobytes()


# ---- safetensors ----------------------------------------------------------------------------

DTYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
OTHERS = {"BOOL": 1, "U8": 1, "I64": 8}              # of masks, which no model needs

# A tensor in a file: where its numbers start, whether they lie there column by column, and the
# runs of rows (first, how many) it is made of, if not simply of all.
Stored = collections.namedtuple("Stored", "path name dtype shape start columns runs",
                                defaults=(False, None))


def wrong_type(path, name, dtype):
    return Refused(path, "tensor %s is of type %s: only F32, F16 and BF16 are read" % (name, dtype))


def check_entry(path, name, entry, data_start, file_size):
    """One entry of a safetensors header as a Stored, once its bytes are known to be there."""
    entry = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPES and dtype not in OTHERS:
        raise wrong_type(path, name, dtype)
    for values in shape, offsets:
        if not isinstance(values, list) or len(values) > 8 or not all(map(is_count, values)):
            raise Refused(path, "tensor %s: shape or data_offsets are no short lists of counts"
                          % name)
    size = (OTHERS.get(dtype) or TYPES[DTYPES[dtype]].size) * math.prod(shape)
    if len(offsets) != 2 or offsets[1] - offsets[0] != size:
        raise Refused(path, "tensor %s: data_offsets are %s, but shape and type make %d bytes"
                      % (name, offsets, size))
    if data_start + offsets[1] > file_size:
        raise Refused(path, "tensor %s ends beyond the file: is the file cut off?" % name)
    return Stored(path, name, DTYPES.get(dtype, dtype), tuple(shape), data_start + offsets[0])


def check_tiling(path, header, size):
    """That the tensors fill the data, one after the other: so the format has it, and a hole or an
    overlap is the trace of a file that was not written as it was meant."""
    end = 0
    for name in sorted(header, key=lambda name: header[name]["data_offsets"]):
        start, end, before = header[name]["data_offsets"] + [end]
        if start != before:
            raise Refused(path, "tensor %s begins at byte %d of the data, where what is before it "
                          "ends at %d: no hole and no overlap are expected"
                          % (name, start, before))
    if end != size:
        raise Refused(path, "the tensors end at byte %d of the data: %d bytes are there, which "
                      "should all be of a tensor" % (end, size))


def read_safetensors(path):
    """name -> Stored for every tensor of one file."""
    file_size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(file_size - 8, HEADER_LIMIT):
            raise Refused(path, "a header of %d bytes does not fit: is it safetensors?" % length)
        raw = file.read(length)
        if raw[:1] != b"{":
            raise Refused(path, "the header is no JSON object: is it safetensors?")
        header = parse_json(path, raw)
    about = header.pop("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(text, str) for text in about.values()):
        raise Refused(path, "__metadata__ is not an object of texts")
    found = {name: check_entry(path, name, entry, 8 + length, file_size)
             for name, entry in header.items()}
    check_tiling(path, header, file_size - 8 - length)
    return found


def read_bin(path):
    """name -> Stored for every tensor of a PyTorch checkpoint."""
    found, names = torch_zip.load(path, lazy=True), {"f": "f32", "e": "f16", "H": "bf16"}
    if not isinstance(found, dict) or not all(
            isinstance(name, str) and isinstance(tensor, torch_zip.Tensor)
            for name, tensor in found.items()):
        raise Refused(path, "does not hold a dict of tensors")
    for name, tensor in found.items():
        code, shape, strides = tensor.storage.code, tensor.shape, tensor.strides
        lengths = [length for length in shape if length != 1]
        steps = [step for length, step in zip(shape, strides) if length != 1]
        straight = [math.prod(lengths[i + 1:]) for i in range(len(lengths))]
        columns = len(shape) == 2 == len(lengths) and steps == [1, shape[0]]
        if not columns and math.prod(shape) and steps != straight:
            raise Refused(path, "tensor %s is a view that is neither contiguous nor transposed"
                          % name)
        found[name] = Stored(path, name, names.get(code, code), shape, tensor.storage.start
                             + tensor.offset * struct.calcsize("=" + code), columns)
    return found


def find_weights(directory):
    """name -> Stored over the single file of weights, or over the shards that an index names."""
    for name, read in ("model.safetensors", read_safetensors), ("pytorch_model.bin", read_bin):
        single = os.path.join(directory, name)
        if os.path.isfile(single):
            return read(single)
        index = single + ".index.json"
        if os.path.isfile(index):
            return read_shards(directory, index, read)
    raise Refused(directory, "has neither model.safetensors nor pytorch_model.bin, nor an index of "
                  "shards: only safetensors and PyTorch checkpoints are read")


def read_shards(directory, index, read):
    """name -> Stored over the shards that the index names."""
    place = parse_json(index, read_small(index)).get("weight_map")
    shards = place.values() if isinstance(place, dict) else [None]
    if not all(isinstance(shard, str) and shard and shard == os.path.basename(shard)
               and shard.isprintable() for shard in shards):
        raise Refused(index, "weight_map does not name a file beside it for every tensor")
    found = {}
    for shard in sorted(set(shards)):
        for name, stored in read(os.path.join(directory, shard)).items():
            if name in found:
                raise Refused(stored.path, "tensor %s is in %s too" % (name, found[name].path))
            if place.get(name) != shard:
                raise Refused(stored.path, "holds tensor %s, which %s has %s" % (
                    name, index, "in " + place[name] if name in place else "nowhere"))
            found[name] = stored
    for name in place:
        if name not in found:
            raise Refused(index, "tensor %s is not in %s" % (name, place[name]))
    return found


def whole_array(stored):
    """All numbers of a tensor, as integers of their size."""
    numbers = array.array("I" if TYPES[stored.dtype].size == 4 else "H")
    with open(stored.path, "rb") as file:
        file.seek(stored.start)
        left = math.prod(stored.shape)
        while left:                                  # in pieces, since fromfile makes a copy
            step = min(left, CHUNK)
            try:
                numbers.fromfile(file, step)
            except EOFError:
                raise Refused(stored.path, "became shorter while it was read")
            left -= step
    return numbers


def stored_bytes(stored, rows=1):
    """The bytes of a tensor in order, in pieces of whole groups of so many rows."""
    row = TYPES[stored.dtype].size * math.prod(stored.shape[1:])
    step = rows * max(1, CHUNK // (rows * row or 1))
    runs = stored.runs or [(0, stored.shape[0])]
    steps = ((at, min(step, first + count - at)) for first, count in runs
             for at in range(first, first + count, step))
    if stored.columns:
        numbers = whole_array(stored)
        for first, count in steps:
            yield b"".join(numbers[i::stored.shape[0]].tobytes()
                           for i in range(first, first + count))
        return
    with open(stored.path, "rb") as file:
        for first, count in steps:
            file.seek(stored.start + first * row)
            raw = file.read(count * row)
            if len(raw) < count * row:
                raise Refused(stored.path, "became shorter while it was read")
            yield raw


def length_of(stored):
    """How many rows a tensor has in the end."""
    return sum(count for _, count in stored.runs) if stored.runs else stored.shape[0]


def paired_rows(raw, row, head_dim):
    """Rows of whole heads in llama.cpp's order, where the two rows of a rotary pair are neighbours.

    Checkpoints turn row i of a head with row i + d/2; llama.cpp turns row 2i with row 2i + 1.
    """
    raw, out, half = memoryview(raw), bytearray(), head_dim // 2
    for head in range(0, len(raw) // row, head_dim):
        for i in range(head, head + half):
            out += raw[i * row:(i + 1) * row]
            out += raw[(i + half) * row:(i + half + 1) * row]
    return bytes(out)


def one_more(raw):
    """1 + x of float32 numbers; the sum in double and its rounding are one rounding's result."""
    count = len(raw) // 4
    return struct.pack("<%df" % count, *(1 + x for x in struct.unpack("<%df" % count, raw)))


def converted(stored, want, how, head_dim):
    """The bytes of a tensor as type `want`, piece by piece."""
    for raw in stored_bytes(stored, head_dim if how == PAIRED else 1):
        if how == PAIRED:
            raw = paired_rows(raw, TYPES[stored.dtype].size * stored.shape[-1], head_dim)
        try:
            raw = recast(raw, stored.dtype, want)
            yield one_more(raw) if how == ONE_MORE else raw
        except OverflowError:
            raise Refused(stored.path, "tensor %s holds a number that %s cannot: take --type keep "
                          "or f32" % (stored.name, want))


# ---- Model families, a row of a table each --------------------------------------------------

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


# A tensor of a family: the names there and here ({} is the layer), its shape in names of sizes,
# and how it is rearranged, if it is.
Row = collections.namedtuple("Row", "theirs ours shape how", defaults=(None,))
PAIRED = "rows from rotated halves to rotated pairs"
TURNED = "rows become columns"
ONE_MORE = "1 is added"
REGROUPED = "rows of q, k and v, head by head, to all of q, all of k, all of v"
POSITIONS = "without the first two rows"

# A family: general.architecture; what config.json's model_type calls its class; the prefix of its
# tensors' names; other names of settings; what its class in transformers assumes where a key is
# absent; keys of which one value (of a tuple: one of them) is known; the key of its norms' epsilon
# and its name in GGUF; the rotary scalings known; every how-manieth layer looks beyond the sliding
# window; a function that makes metadata of its own from Config; the tensors; the names of tensors
# that say nothing new; and the key of the settings where a model of text is the language_model of a
# larger one.
Family = collections.namedtuple("Family", "gguf kind prefix aliases defaults only epsilon ropes "
                                "pattern own tensors ignored part", defaults=(None,))
# Keys that transformers asks for in every family, and their known values: weights that are stored
# in other ways, or in another file; layers that differ, or share what they keep; attention to what
# comes later; settings of a part that is taken for the model of text.
COMMON = {"quantization_config": None, "compression_config": None, "transformers_weights": None,
          "per_layer_config": None, "kv_sharing_modes": None, "is_causal": True, "decoder": None,
          "generator": None}
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads")
# What a model that has a part for text says for that too.
FOR_PARTS = ("architectures", "bos_token_id", "eos_token_id")
ROPE_KEYS = {"rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor",
             "original_max_position_embeddings", "partial_rotary_factor"}
RMS = ("rms_norm_eps", "layer_norm_rms_epsilon")


def both(theirs, ours, *how):
    """The rows of a weight and its bias; the bias has the first of the weight's sizes."""
    shape, how = how[0], how[1:]
    out = shape.split()[how == (TURNED,)]
    bias = how if how == (REGROUPED,) else ()
    return (Row(theirs + ".weight", ours + ".weight", shape, *how),
            Row(theirs + ".bias", ours + ".bias", out, *bias))


def mistral_own(config):
    """Mistral's class has a window unless it is null; LLaMA's has none, whatever its config is."""
    if config.values.get("sliding_window", 0) is None:
        return []
    return [("attention.sliding_window", U32, config.get("sliding_window", INTEGER))]


def gemma2_own(config):
    return [("attention.sliding_window", U32, config.get("sliding_window", INTEGER)),
            ("attention.scale", F32, config.get("query_pre_attn_scalar", NUMBER) ** -0.5),
            ("attn_logit_softcapping", F32, config.get("attn_logit_softcapping", NUMBER)),
            ("final_logit_softcapping", F32, config.get("final_logit_softcapping", NUMBER))]


def gemma3_own(config):
    return [("attention.sliding_window", U32, config.get("sliding_window", INTEGER)),
            ("attention.scale", F32, config.get("query_pre_attn_scalar", NUMBER) ** -0.5),
            ("rope.freq_base_swa", F32, config.get("rope_local_base_freq", NUMBER))]


def bloom_own(config):
    """Where sums are added up in parts, BLOOM's class leaves out the biases of two matrices."""
    if config.get("slow_but_exact", FLAG) and config.get("pretraining_tp", INTEGER) > 1:
        raise Refused(config.path, "slow_but_exact is True with a pretraining_tp of %d: only one "
                      "of them is known" % config.get("pretraining_tp", INTEGER))
    return []


def cohere_own(config):
    return [("logit_scale", F32, config.get("logit_scale", NUMBER))]


def nothing(config):
    return []


LAYER = "model.layers.{}."
ATTENTION = LAYER + "self_attn."
ENDS = (Row("model.embed_tokens.weight", "token_embd.weight", "vocab width"),
        Row("model.norm.weight", "output_norm.weight", "width"),
        Row("lm_head.weight", "output.weight", "vocab width"))
BEFORE = (Row(LAYER + "input_layernorm.weight", "blk.{}.attn_norm.weight", "width"),)
BETWEEN = (Row(LAYER + "post_attention_layernorm.weight", "blk.{}.ffn_norm.weight", "width"),)
QKVO = (Row(ATTENTION + "q_proj.weight", "blk.{}.attn_q.weight", "q width"),
        Row(ATTENTION + "k_proj.weight", "blk.{}.attn_k.weight", "kv width"),
        Row(ATTENTION + "v_proj.weight", "blk.{}.attn_v.weight", "kv width"),
        Row(ATTENTION + "o_proj.weight", "blk.{}.attn_output.weight", "width q"))
QKV_BIAS = (Row(ATTENTION + "q_proj.bias", "blk.{}.attn_q.bias", "q"),
            Row(ATTENTION + "k_proj.bias", "blk.{}.attn_k.bias", "kv"),
            Row(ATTENTION + "v_proj.bias", "blk.{}.attn_v.bias", "kv"))
QK_NORM = (Row(ATTENTION + "q_norm.weight", "blk.{}.attn_q_norm.weight", "head_dim"),
           Row(ATTENTION + "k_norm.weight", "blk.{}.attn_k_norm.weight", "head_dim"))
GATED = (Row(LAYER + "mlp.gate_proj.weight", "blk.{}.ffn_gate.weight", "neurons width"),
         Row(LAYER + "mlp.up_proj.weight", "blk.{}.ffn_up.weight", "neurons width"),
         Row(LAYER + "mlp.down_proj.weight", "blk.{}.ffn_down.weight", "width neurons"))
GEMMA2_NORMS = (
    Row(LAYER + "post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight", "width"),
    Row(LAYER + "pre_feedforward_layernorm.weight", "blk.{}.ffn_norm.weight", "width"),
    Row(LAYER + "post_feedforward_layernorm.weight", "blk.{}.post_ffw_norm.weight", "width"))


def one_more_norms(rows):
    """Gemma's norms multiply by 1 + weight; GGUF holds the sum."""
    return tuple(row._replace(how=ONE_MORE) if row.theirs.endswith("norm.weight") else row
                 for row in rows)


LLAMA = Family(
    gguf="llama", kind="llama", prefix="model.", aliases={},
    defaults={"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
              "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": None,
              "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
              "tie_word_embeddings": False},
    only={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    epsilon=RMS, ropes=("default", "linear", "llama3"), pattern=1, own=nothing,
    tensors=ENDS + BEFORE + tuple(row._replace(how=PAIRED) for row in QKVO[:2]) + QKVO[2:] + BETWEEN
    + GATED,
    ignored=r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")

QWEN2 = LLAMA._replace(
    gguf="qwen2", kind="qwen2", ropes=("default",),
    defaults=dict(LLAMA.defaults, vocab_size=151936, intermediate_size=22016,
                  num_key_value_heads=32, max_position_embeddings=32768),
    only={"hidden_act": "silu", "use_sliding_window": False},
    tensors=ENDS + BEFORE + QKVO + QKV_BIAS + BETWEEN + GATED)

GPT2 = Family(
    gguf="gpt2", kind="gpt2", prefix="transformer.",
    aliases={"hidden_size": "n_embd", "num_hidden_layers": "n_layer",
             "num_attention_heads": "n_head", "max_position_embeddings": "n_positions",
             "intermediate_size": "n_inner"},
    defaults={"vocab_size": 50257, "hidden_size": 768, "num_hidden_layers": 12,
              "num_attention_heads": 12, "max_position_embeddings": 1024,
              "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True},
    only={"activation_function": ("gelu_new", "gelu_pytorch_tanh"), "scale_attn_weights": True,
          "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False,
          "add_cross_attention": False},
    epsilon=("layer_norm_epsilon", "layer_norm_epsilon"), ropes=(), pattern=1, own=nothing,
    tensors=(Row("transformer.wte.weight", "token_embd.weight", "vocab width"),
             Row("transformer.wpe.weight", "position_embd.weight", "context width"))
    + both("transformer.ln_f", "output_norm", "width")
    + (Row("lm_head.weight", "output.weight", "vocab width"),)
    + both("transformer.h.{}.ln_1", "blk.{}.attn_norm", "width")
    + both("transformer.h.{}.attn.c_attn", "blk.{}.attn_qkv", "width qkv", TURNED)
    + both("transformer.h.{}.attn.c_proj", "blk.{}.attn_output", "width width", TURNED)
    + both("transformer.h.{}.ln_2", "blk.{}.ffn_norm", "width")
    + both("transformer.h.{}.mlp.c_fc", "blk.{}.ffn_up", "width neurons", TURNED)
    + both("transformer.h.{}.mlp.c_proj", "blk.{}.ffn_down", "neurons width", TURNED),
    ignored=r"transformer\.h\.\d+\.attn\.(masked_)?bias")

BLOOM = GPT2._replace(
    gguf="bloom", kind="bloom",
    aliases={"hidden_size": "n_embed", "num_hidden_layers": "n_layer",
             "num_attention_heads": "n_head", "max_position_embeddings": "seq_length"},
    defaults={"vocab_size": 250880, "hidden_size": 64, "num_hidden_layers": 2,
              "num_attention_heads": 8, "max_position_embeddings": 2048,
              "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True, "pretraining_tp": 1,
              "slow_but_exact": False},
    only={"apply_residual_connection_post_layernorm": False}, own=bloom_own,
    tensors=(Row("transformer.word_embeddings.weight", "token_embd.weight", "vocab width"),)
    + both("transformer.word_embeddings_layernorm", "token_embd_norm", "width")
    + both("transformer.ln_f", "output_norm", "width")
    + (Row("lm_head.weight", "output.weight", "vocab width"),)
    + both("transformer.h.{}.input_layernorm", "blk.{}.attn_norm", "width")
    + both("transformer.h.{}.self_attention.query_key_value", "blk.{}.attn_qkv", "qkv width",
           REGROUPED)
    + both("transformer.h.{}.self_attention.dense", "blk.{}.attn_output", "width width")
    + both("transformer.h.{}.post_attention_layernorm", "blk.{}.ffn_norm", "width")
    + both("transformer.h.{}.mlp.dense_h_to_4h", "blk.{}.ffn_up", "neurons width")
    + both("transformer.h.{}.mlp.dense_4h_to_h", "blk.{}.ffn_down", "width neurons"),
    ignored=r"(?!)")

DECODER = "model.decoder."
OPT = GPT2._replace(
    gguf="opt", kind="opt", prefix="model.", aliases={"intermediate_size": "ffn_dim"},
    defaults={"vocab_size": 50272, "hidden_size": 768, "intermediate_size": 3072,
              "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 2048,
              "layer_norm_eps": 1e-5, "tie_word_embeddings": True},
    only={"activation_function": "relu", "do_layer_norm_before": True, "enable_bias": True,
          "layer_norm_elementwise_affine": True, "_remove_final_layer_norm": False,
          "layer_norm_eps": 1e-5},
    epsilon=("layer_norm_eps", "layer_norm_epsilon"),
    tensors=(Row(DECODER + "embed_tokens.weight", "token_embd.weight", "vocab width"),
             Row(DECODER + "embed_positions.weight", "position_embd.weight", "context+2 width",
                 POSITIONS))
    + both(DECODER + "final_layer_norm", "output_norm", "width")
    + (Row("lm_head.weight", "output.weight", "vocab width"),)
    + both(DECODER + "layers.{}.self_attn_layer_norm", "blk.{}.attn_norm", "width")
    + both(DECODER + "layers.{}.self_attn.q_proj", "blk.{}.attn_q", "width width")
    + both(DECODER + "layers.{}.self_attn.k_proj", "blk.{}.attn_k", "width width")
    + both(DECODER + "layers.{}.self_attn.v_proj", "blk.{}.attn_v", "width width")
    + both(DECODER + "layers.{}.self_attn.out_proj", "blk.{}.attn_output", "width width")
    + both(DECODER + "layers.{}.final_layer_norm", "blk.{}.ffn_norm", "width")
    + both(DECODER + "layers.{}.fc1", "blk.{}.ffn_up", "neurons width")
    + both(DECODER + "layers.{}.fc2", "blk.{}.ffn_down", "width neurons"),
    ignored=r"(?!)")

PHI2 = LLAMA._replace(
    gguf="phi2", kind="phi", ropes=("default",),
    defaults={"vocab_size": 51200, "hidden_size": 2048, "intermediate_size": 8192,
              "num_hidden_layers": 24, "num_attention_heads": 32, "num_key_value_heads": None,
              "max_position_embeddings": 2048, "layer_norm_eps": 1e-5, "rope_theta": 10000.0,
              "partial_rotary_factor": 0.5, "tie_word_embeddings": False},
    only={"hidden_act": ("gelu_new", "gelu_pytorch_tanh"), "qk_layernorm": False},
    epsilon=("layer_norm_eps", "layer_norm_epsilon"),
    tensors=ENDS[:1] + both("model.final_layernorm", "output_norm", "width")
    + both("lm_head", "output", "vocab width")
    + both(LAYER + "input_layernorm", "blk.{}.attn_norm", "width") + QKVO[:3] + QKV_BIAS
    + both(ATTENTION + "dense", "blk.{}.attn_output", "width q")
    + both(LAYER + "mlp.fc1", "blk.{}.ffn_up", "neurons width")
    + both(LAYER + "mlp.fc2", "blk.{}.ffn_down", "width neurons"))

GEMMA = LLAMA._replace(
    gguf="gemma", kind="gemma", ropes=("default",),
    defaults=dict(LLAMA.defaults, vocab_size=256000, hidden_size=3072, intermediate_size=24576,
                  num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=16,
                  head_dim=256, max_position_embeddings=8192, tie_word_embeddings=True),
    # The first release says gelu and means its approximation, as transformers takes it.
    only={"hidden_act": ("gelu_pytorch_tanh", "gelu"), "attention_bias": False,
          "hidden_activation": ("gelu_pytorch_tanh", None), "tie_word_embeddings": True,
          "use_bidirectional_attention": (None, False)},
    tensors=one_more_norms(ENDS + BEFORE + QKVO + BETWEEN + GATED))

GEMMA2 = GEMMA._replace(
    gguf="gemma2", kind="gemma2", pattern=2, own=gemma2_own,
    aliases={"hidden_act": "hidden_activation"},
    only=dict(GEMMA.only, hidden_act="gelu_pytorch_tanh"),
    defaults=dict(GEMMA.defaults, hidden_size=2304, intermediate_size=9216, num_hidden_layers=26,
                  num_attention_heads=8, num_key_value_heads=4, sliding_window=4096,
                  query_pre_attn_scalar=256, attn_logit_softcapping=50.0,
                  final_logit_softcapping=30.0),
    tensors=one_more_norms(ENDS + BEFORE + QKVO + GEMMA2_NORMS + GATED))

GEMMA3 = GEMMA2._replace(
    gguf="gemma3", kind="gemma3_text", pattern=6, own=gemma3_own, ropes=("default", "linear"),
    defaults=dict(GEMMA2.defaults, vocab_size=262208, max_position_embeddings=131072,
                  rope_theta=1e6, rope_local_base_freq=1e4),
    only=dict(GEMMA2.only, attn_logit_softcapping=None, final_logit_softcapping=None,
              sliding_window_pattern=6, _sliding_window_pattern=6),
    tensors=one_more_norms(ENDS + BEFORE + QKVO + QK_NORM + GEMMA2_NORMS + GATED))

COHERE = LLAMA._replace(
    gguf="command-r", kind="cohere", ropes=("default",), own=cohere_own,
    defaults={"vocab_size": 256000, "hidden_size": 8192, "intermediate_size": 22528,
              "num_hidden_layers": 40, "num_attention_heads": 64, "num_key_value_heads": None,
              "max_position_embeddings": 8192, "layer_norm_eps": 1e-5, "rope_theta": 500000.0,
              "logit_scale": 0.0625, "tie_word_embeddings": True},
    only={"hidden_act": "silu", "attention_bias": False, "use_qk_norm": False,
          "tie_word_embeddings": True},
    epsilon=("layer_norm_eps", "layer_norm_epsilon"), tensors=ENDS + BEFORE + QKVO + GATED)

FAMILIES = {
    "LlamaForCausalLM": LLAMA,
    # With layer_types, transformers takes a Mistral for another model, whose windows those are.
    "MistralForCausalLM": LLAMA._replace(
        kind="mistral", own=mistral_own, only=dict(LLAMA.only, layer_types=None), defaults=dict(
            LLAMA.defaults, intermediate_size=14336, num_key_value_heads=8,
            max_position_embeddings=4096 * 32, sliding_window=4096)),
    "Qwen2ForCausalLM": QWEN2,
    "Qwen3ForCausalLM": QWEN2._replace(
        gguf="qwen3", kind="qwen3", defaults=dict(QWEN2.defaults, head_dim=128),
        only=dict(QWEN2.only, attention_bias=False),
        tensors=ENDS + BEFORE + QKVO + QK_NORM + BETWEEN + GATED),
    "GPT2LMHeadModel": GPT2,
    "BloomForCausalLM": BLOOM,
    "OPTForCausalLM": OPT,
    "PhiForCausalLM": PHI2,
    "GemmaForCausalLM": GEMMA,
    "Gemma2ForCausalLM": GEMMA2,
    "Gemma3ForCausalLM": GEMMA3,
    "Gemma3ForConditionalGeneration": GEMMA3._replace(
        kind="gemma3", part="text_config",
        ignored=r"(model\.)?(vision_tower|multi_modal_projector)\..*"),
    "CohereForCausalLM": COHERE,
}


def rope_sets(path, family, values):
    """The rotary settings of layers that look at everything, and of those with a window."""
    scaling, sets = (values.get(key) or {} for key in ("rope_scaling", "rope_parameters"))
    if family.pattern != 6:
        return scaling or sets, {}
    # Gemma 3's class takes rope_scaling for the first alone, and from rope_parameters two sets.
    if scaling and sets or not isinstance(sets, dict) or not (
            set(sets) <= {"full_attention", "sliding_attention"}):
        raise Refused(path, "the rotary settings are neither rope_scaling alone nor "
                      "rope_parameters of full_attention and sliding_attention")
    return scaling or sets.get("full_attention") or {}, sets.get("sliding_attention") or {}


def check_rope(path, family, values, rope):
    """That one set of rotary settings, or values around it, say nothing that is not known."""
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        raise Refused(path, "the rotary settings are not one set for all layers")
    for key, value in rope.items():
        if key not in ROPE_KEYS and value is not None:
            raise Refused(path, "the rotary setting %s is %r: it is not known" % (key, value))
    part = rope.get("partial_rotary_factor", values.get("partial_rotary_factor"))
    if "partial_rotary_factor" not in family.defaults and part not in (None, 1):
        raise Refused(path, "partial_rotary_factor is %r: only 1 is known" % (part,))
    key = "original_max_position_embeddings"         # the one outside would go first
    if rope.get("rope_type", rope.get("type")) == "llama3" and (
            values.get(key, rope.get(key)) != rope.get(key)):
        raise Refused(path, "%s is %r, and %r in the rotary settings: one number is expected"
                      % (key, values[key], rope.get(key)))


def rope_settings(path, family, values):
    """The rotary settings, which are rope_theta and rope_scaling, or rope_parameters: one dict."""
    rope, local = rope_sets(path, family, values)
    for one in rope, local:
        check_rope(path, family, values, one)
    found = {"rope_type": rope.get("rope_type", rope.get("type", "default")), "rope": rope}
    if found["rope_type"] not in family.ropes:
        raise Refused(path, "rope_type is %r: only %s is known"
                      % (found["rope_type"], " or ".join(map(repr, family.ropes))))
    for key in "rope_theta", "partial_rotary_factor":
        if key in rope:
            found[key] = rope[key]
    kind = local.get("rope_type", local.get("type", "default"))
    if kind != "default":
        raise Refused(path, "rope_type of sliding_attention is %r: only 'default' is known"
                      % (kind,))
    if "rope_theta" in local:
        found["rope_local_base_freq"] = local["rope_theta"]
    return found


def check_known(path, values, only):
    """That keys of which not every value is known have one that is."""
    for key, known in only.items():
        known = known if isinstance(known, tuple) else (known,)
        if not any(values.get(key, known[0]) is one or values.get(key, known[0]) == one
                   for one in known):
            raise Refused(path, "%s is %r: only %s is known"
                          % (key, values[key], " or ".join(map(repr, known))))


def settings_of_part(path, values, part):
    """The settings of a part, which is told nothing of the others around it."""
    if not isinstance(values.get(part), dict):
        raise Refused(path, "%s is not an object of settings" % part)
    check_known(path, values, dict(COMMON, tie_word_embeddings=True))
    return dict({key: values[key] for key in FOR_PARTS if key in values}, **values[part])


def read_config(path):
    """The family and the Config of a checkpoint."""
    values = parse_json(path, read_small(path))
    names = values.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or str(names[0]) not in FAMILIES:
        raise Refused(path, "architectures is %r: supported are %s"
                      % (names, ", ".join(sorted(FAMILIES))))
    family = FAMILIES[names[0]]
    if values.get("model_type") not in (None, family.kind):
        raise Refused(path, "model_type is %r: %s is %r" % (values["model_type"], names[0],
                                                            family.kind))
    if family.part:
        values = settings_of_part(path, values, family.part)
    for name, alias in family.aliases.items():
        if values.get(alias) is not None:
            # Of two names of a size one class takes the first, another the second.
            if name in SIZES and values.get(name) not in (None, values[alias]):
                raise Refused(path, "%s is %r and %s %r: both are names of one number"
                              % (name, values[name], alias, values[alias]))
            values[name] = values[alias]
    if family.ropes:
        values.update(rope_settings(path, family, values))
    check_known(path, values, dict(family.only, text_config=None, **COMMON))
    return family, Config(path, values, family.defaults)


def describe(family, config):
    """The sizes of a model and its metadata."""
    width, heads = config.get("hidden_size", INTEGER), config.get("num_attention_heads", INTEGER)
    kv = config.get("num_key_value_heads", INTEGER, null=heads)
    head_dim = config.get("head_dim", INTEGER, null=width // heads)
    if family.ropes and head_dim % 2 or heads % kv:
        raise Refused(config.path, "%d heads of size %d, %d for keys and values: an even size, and "
                      "a multiple of the heads for keys, are expected" % (heads, head_dim, kv))
    if family.gguf in ("gpt2", "bloom", "opt") and (kv != heads or head_dim * heads != width):
        raise Refused(config.path, "%d heads of size %d make no width of %d"
                      % (heads, head_dim, width))
    if family.gguf == "opt" and config.values.get("word_embed_proj_dim", width) != width:
        raise Refused(config.path, "word_embed_proj_dim is %r: only hidden_size, %d, is known"
                      % (config.values["word_embed_proj_dim"], width))
    context = config.get("max_position_embeddings", INTEGER)
    sizes = {"vocab": config.get("vocab_size", INTEGER), "width": width, "head_dim": head_dim,
             "q": heads * head_dim, "kv": kv * head_dim, "qkv": 3 * width, "heads": heads,
             "context": context, "context+2": context + 2,
             "neurons": config.get("intermediate_size", INTEGER, null=4 * width),
             "layers": config.get("num_hidden_layers", INTEGER)}
    check_layers(family, config, sizes["layers"])
    metadata = [
        ("vocab_size", U32, sizes["vocab"]),
        ("context_length", U32, context),
        ("embedding_length", U32, width),
        ("block_count", U32, sizes["layers"]),
        ("feed_forward_length", U32, sizes["neurons"]),
        ("attention.head_count", U32, heads),
        ("attention.head_count_kv", U32, kv),
        ("attention.key_length", U32, head_dim),
        ("attention.value_length", U32, head_dim),
    ] + rope_metadata(family, config, head_dim) + [
        ("attention." + family.epsilon[1], F32, config.get(family.epsilon[0], NUMBER)),
    ] + family.own(config)
    return sizes, [("%s.%s" % (family.gguf, key), kind, value) for key, kind, value in metadata]


def check_layers(family, config, layers):
    """That layer_types, where it is, says what the family's pattern is."""
    types = config.values.get("layer_types")
    if types is not None and (not isinstance(types, list) or len(types) != layers or any(
            kind != ("sliding_attention" if (i + 1) % family.pattern else "full_attention")
            for i, kind in enumerate(types))):
        raise Refused(config.path, "layer_types is %.60r...: expected is full_attention for every "
                      "layer of a number divisible by %d, and sliding_attention for all others"
                      % (types, family.pattern))


def rope_metadata(family, config, head_dim):
    """What GGUF says about rotary positions."""
    if not family.ropes:
        return []
    if "partial_rotary_factor" in family.defaults:
        head_dim = int(head_dim * config.get("partial_rotary_factor", NUMBER))
        if head_dim % 2 or head_dim < 2:
            raise Refused(config.path, "partial_rotary_factor %r turns %d numbers of a head: an "
                          "even number is expected"
                          % (config.get("partial_rotary_factor", NUMBER), head_dim))
    found = [("rope.dimension_count", U32, head_dim),
             ("rope.freq_base", F32, config.get("rope_theta", NUMBER))]
    if config.values["rope_type"] == "linear":
        factor = Config(config.path, config.values["rope"], {}).get("factor", NUMBER)
        found += [("rope.scaling.type", STRING, "linear"), ("rope.scaling.factor", F32, factor)]
    return found


def rope_factors(config, sizes):
    """LLaMA 3.1's divisors of the rotary frequencies, as the tensor that llama.cpp reads."""
    if config.values.get("rope_type") != "llama3":
        return []
    rope = Config(config.path, config.values["rope"], {})
    factor, low, high = (rope.get(key, NUMBER) for key in (
        "factor", "low_freq_factor", "high_freq_factor"))
    context = rope.get("original_max_position_embeddings", INTEGER)
    if not low < high:
        raise Refused(config.path, "low_freq_factor is %r, high_freq_factor %r: the first should "
                      "be less" % (low, high))
    factors, dim = [], sizes["head_dim"]
    for i in range(0, dim, 2):
        turns = context / (2 * math.pi * config.get("rope_theta", NUMBER) ** (i / dim))
        smooth = min(1, max(0, (turns - low) / (high - low)))
        factors.append(1 / ((1 - smooth) / factor + smooth))
    return [Output("rope_freqs.weight", (dim // 2,), "f32",
                   [struct.pack("<%df" % len(factors), *factors)])]


def arranged(stored, how, sizes):
    """A tensor with its rows in the order in which they are written."""
    if how == TURNED:
        return stored._replace(shape=stored.shape[::-1], columns=not stored.columns)
    if how == POSITIONS:
        return stored._replace(runs=[(2, stored.shape[0] - 2)])
    if how == REGROUPED:
        size = sizes["head_dim"]
        return stored._replace(runs=[((3 * head + part) * size, size) for part in range(3)
                                     for head in range(sizes["heads"])])
    return stored


def rows_of(family, layers):
    """The rows of a family's table, layer by layer; lazily, since a config may claim millions."""
    yield from (row for row in family.tensors if "{}" not in row.theirs)
    for layer in range(layers):
        for row in family.tensors:
            if "{}" in row.theirs:
                yield row._replace(theirs=row.theirs.format(layer), ours=row.ours.format(layer))


def plan_tensors(family, config, sizes, stored):
    """[(Row, Stored)] to be written; every tensor stored has to be known and of its shape."""
    plan, known = [], set()
    tied = config.get("tie_word_embeddings", FLAG)
    if family.part:
        names = [re.sub(r"^(model\.)?language_model\.", r"\1", name) for name in stored]
        if len(set(names)) < len(names):
            raise Refused(config.path, "the checkpoint has tensors under two names")
        stored = dict(zip(names, stored.values()))
    # A checkpoint of the model without its head lacks the prefix.
    if not any(name.startswith(family.prefix) for name in stored):
        stored = {name if name.startswith("lm_head.") else family.prefix + name: tensor
                  for name, tensor in stored.items()}
    for row in rows_of(family, sizes["layers"]):
        known.add(row.theirs)
        tensor = stored.get(row.theirs)
        copy = tied and row.ours == "output.weight"
        if copy and tensor is None:
            continue
        if tensor is None:
            raise Refused(config.path, "calls for tensor %s, which the checkpoint does not hold"
                          % row.theirs)
        if tensor.dtype not in FILE_TYPES:
            raise wrong_type(tensor.path, row.theirs, tensor.dtype)
        shape = [sizes[size] for size in row.shape.split()]
        if list(tensor.shape) != shape:
            raise Refused(tensor.path, "tensor %s has the shape %s: config.json calls for %s"
                          % (row.theirs, list(tensor.shape), shape))
        if not copy:
            plan.append((row, arranged(tensor, row.how, sizes)))
        elif any(a != b for a, b in zip(stored_bytes(tensor), stored_bytes(plan[0][1]))):
            raise Refused(tensor.path, "tensor %s differs from the embeddings that config.json "
                          "ties it to: set tie_word_embeddings to false" % row.theirs)
    for name in sorted(set(stored) - known):
        if not re.fullmatch(family.ignored, name):
            raise Refused(stored[name].path, "tensor %s is not of the model that config.json "
                          "describes" % name)
    return plan


def choose_type(stored, asked):
    """The type a tensor is written in: vectors as f32, matrices as asked for."""
    if len(stored.shape) == 1:
        return "f32"
    want = stored.dtype if asked == "keep" else asked
    if want not in (stored.dtype, "f32") and numpy is None:
        raise Refused(stored.path, "--type %s needs numpy, which is not installed: pip install "
                      "numpy, or take --type keep or f32" % want)
    if stored.shape[-1] % TYPES[want].block:
        raise Refused(stored.path, "tensor %s has rows of %d numbers: q8_0 wants multiples of %d"
                      % (stored.name, stored.shape[-1], TYPES[want].block))
    return want


# ---- The tokenizer: SentencePiece's protobuf ------------------------------------------------

# The fields that matter of each message: number -> (name, wire type, the schema's default).
VARINT, BYTES, FIXED32 = 0, 2, 5
PIECE = {1: ("piece", BYTES, b""), 2: ("score", FIXED32, bytes(4)), 3: ("type", VARINT, 1)}
TRAINER = {3: ("model_type", VARINT, 1), 24: ("treat_whitespace_as_suffix", VARINT, 0),
           35: ("byte_fallback", VARINT, 0), 40: ("unk_id", VARINT, 0), 41: ("bos_id", VARINT, 1),
           42: ("eos_id", VARINT, 2), 44: ("unk_surface", BYTES, b" \xe2\x81\x87 "),
           46: ("bos_piece", BYTES, b"<s>"), 47: ("eos_piece", BYTES, b"</s>")}
NORMALIZER = {2: ("precompiled_charsmap", BYTES, b""), 3: ("add_dummy_prefix", VARINT, 1),
              4: ("remove_extra_whitespaces", VARINT, 1), 5: ("escape_whitespaces", VARINT, 1)}
DENORMALIZER = {2: ("denormalizer_spec", BYTES, b"")}
MODEL_TYPES = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}
SUPPORTED = {"model_type": "BPE", "precompiled_charsmap": b"", "remove_extra_whitespaces": 0,
             "escape_whitespaces": 1, "treat_whitespace_as_suffix": 0,
             "unk_surface": b" \xe2\x81\x87 ", "denormalizer_spec": b""}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)   # of pieces, the same in GGUF
SPACE = "\u2581"                                     # how a piece writes a space
LAST = -1000.0                                       # the score of what text never becomes


def varint(data, at):
    """The integer of seven bits a byte that starts at data[at], and where it ends."""
    value = 0
    for i, byte in enumerate(data[at:at + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise ValueError("a varint that does not end")


def fields(data):
    """(number, wire type, value) of every field of a protobuf message."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        value, end = varint(data, at) if tag & 7 in (VARINT, BYTES) else (None, at)
        if tag & 7 != VARINT:
            size = {1: 8, BYTES: value, FIXED32: 4}[tag & 7]
            value, end = data[end:end + size], end + size
            if end > len(data):
                raise ValueError("a field that does not end")
        at = end
        yield tag >> 3, tag & 7, value


def message(data, schema):
    """name -> value of a message's fields that matter; the last of several holds."""
    values = {name: default for name, _, default in schema.values()}
    for number, wire, value in fields(data):
        if number in schema:
            name, expected, _ = schema[number]
            if wire != expected:
                raise ValueError("a field of another type")
            # A number below zero is written as 64 bits of two's complement.
            values[name] = value - (1 << 64) if wire == VARINT and value >> 63 else value
    return values


def read_piece(path, data):
    """(text, score, type) of one piece of the vocabulary."""
    piece = message(data, PIECE)
    text, kind = piece["piece"].decode("utf-8"), piece["type"]
    score, = struct.unpack("<f", piece["score"])
    if kind == UNUSED:
        raise Refused(path, "piece %s is of type UNUSED, which is not supported" % text)
    if not text or not 1 <= kind <= BYTE or not math.isfinite(score) or (
            kind == BYTE and not re.fullmatch("<0x[0-9A-F]{2}>", text)):
        raise ValueError("an impossible piece")
    # SentencePiece marks a text's spaces first, and never finds a piece with a plain one. A reader
    # of GGUF does: llama.cpp's converter writes marked ones so.
    return text, score, NORMAL if kind == USER_DEFINED and " " in text else kind


def check_bytes(path, pieces, wanted):
    """The library takes no bytes without the setting, nor the setting without all bytes."""
    count = sum(kind == BYTE for _, _, kind in pieces)
    if count != 256 * bool(wanted):
        raise Refused(path, "has %d pieces for bytes, byte_fallback being %d: there are 256 with "
                      "it, and none without" % (count, wanted))


def read_sentencepiece(path):
    """The pieces and the settings of a tokenizer.model."""
    data, parts = read_small(path), {1: [], 2: [], 3: [], 5: []}
    try:
        for number, wire, value in fields(data):
            if number in parts and wire == BYTES:
                parts[number].append(value)
        # A message that comes in parts is, by protobuf's rules, the message of the parts joined.
        spec = {}
        for number, schema in (2, TRAINER), (3, NORMALIZER), (5, DENORMALIZER):
            spec.update(message(b"".join(parts[number]), schema))
        spec["model_type"] = MODEL_TYPES.get(spec["model_type"], "unknown")
        for key, known in SUPPORTED.items():
            if spec[key] != known:
                raise Refused(path, "%s is %.30r: only %r is supported" % (key, spec[key], known))
        pieces = [read_piece(path, piece) for piece in parts[1]]
    except (ValueError, KeyError, struct.error):
        raise Refused(path, "is damaged, or not a SentencePiece model")
    unknown = [i for i, (_, _, kind) in enumerate(pieces) if kind == UNKNOWN]
    if unknown != [spec["unk_id"]] or len({text for text, _, _ in pieces}) < len(pieces):
        raise Refused(path, "has a piece twice, or not just one unknown piece, at unk_id")
    check_bytes(path, pieces, spec["byte_fallback"])
    return pieces, spec


# ---- The tokenizer: the files beside a vocabulary, and the words that they add to it -----------

# A word that is added to a vocabulary: it is found in a text as it reads, before the text goes to
# the tokenizer's model; a normalized one only then, in normal form, in what is left. A special one
# is not looked for: what is spelled like it in a text is text.
Word = collections.namedtuple("Word", "id text special normalized")
FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
LISTED = ("additional_special_tokens", "extra_special_tokens")


def read_optional(directory, name):
    """A JSON file that a checkpoint may lack, as a Config."""
    path = os.path.join(directory, name)
    return Config(path, parse_json(path, read_small(path)) if os.path.isfile(path) else {}, {})


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
    return settings


def tokenizer_class(settings):
    """The name of the tokenizer's class, if one is given; the same for its fast form."""
    name = settings.values.get("tokenizer_class")
    if not isinstance(name, (str, type(None))):
        raise Refused(settings.path, "tokenizer_class is %.60r: a name is expected" % name)
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
    entries = settings.values.get("added_tokens_decoder")
    if entries is None:
        return None
    if not isinstance(entries, dict) or not all(re.fullmatch("[0-9]{1,18}", key)
                                                for key in entries):
        raise Refused(settings.path, "added_tokens_decoder is not an object of ids")
    named, listed = special_tokens(settings, NAMED), special_tokens(settings, LISTED)
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
    older, special = read_optional(directory, "added_tokens.json"), special_tokens(settings)
    words = [read_word(older.path, number, {"content": text, "special": text in special})
             for text, number in older.values.items()]
    return sorted(words)


def check_others(path, words, directory, settings):
    """Refuses words of tokenizer.json of which the files beside it say something else."""
    said, named = words_of_decoder(settings), special_tokens(settings, NAMED)
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
    entries = values.get("added_tokens") or []
    if not isinstance(entries, list):
        raise Refused(path, "added_tokens are not a list")
    words = []
    for entry in entries:
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


# ---- The tokenizer: BPE in tokenizer.json, or in vocab.json and merges.txt ----------------------

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
IGNORES_MERGES = {"llama-bpe": (True,), "tekken": (True,)}     # all others: (None, False)
NORMALIZED = {"qwen2": {"type": "NFC"}, "command-r": {"type": "NFC"}}      # all others: None
# The tokenizer's class, where no file names it; what splits text in each, if not ByteLevel itself,
# and which special tokens are <|endoftext|> where no file names them.
CLASSES = {"gpt2": "GPT2Tokenizer", "opt": "GPT2Tokenizer", "phi2": "CodeGenTokenizer",
           "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer"}
SPLITTERS = {"GPT2Tokenizer": (None, ("bos_token", "eos_token", "unk_token")),
             "CodeGenTokenizer": (None, ("bos_token", "eos_token", "unk_token")),
             "Qwen2Tokenizer": (WORDS + r"\p{N}" + ENDINGS,
                                ("eos_token", "unk_token", "pad_token"))}
# Classes that split text in their own way, whatever tokenizer.json says.
OWN = {"GPT2Tokenizer": ("gpt-2", "phi-2"), "CodeGenTokenizer": ("gpt-2", "phi-2"),
       "Qwen2Tokenizer": ("qwen2",), "CohereTokenizer": ("command-r",)}
TOP_KEYS = {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
            "post_processor", "decoder", "model"}
MODEL_KEYS = {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
              "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}
# SentencePiece's spaces in tokenizer.json: a normalizer's, and a splitter's that is left without
# any; who writes text again, with and without the space before it.
MARK = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
NO_SPACES = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
             "invert": False}
WRITERS = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
           {"type": "ByteFallback"}, {"type": "Fuse"}]
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


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
    if own and name not in own or settings.values.get("add_prefix_space"):
        raise Refused(settings.path, "tokenizer_class %s, add_prefix_space %r is not what %s has: "
                      "%s" % (tokenizer_class(settings), settings.values.get("add_prefix_space"),
                              os.path.basename(path), name))
    return name


def plain_files(path, settings, arch):
    """What tokenizer.json would say, from vocab.json at path and merges.txt, which are older, and
    the added words.

    Completes the settings by what the tokenizer's class assumes.
    """
    directory, vocabulary = os.path.dirname(path), parse_json(path, read_small(path))
    name = tokenizer_class(settings) or CLASSES.get(arch)
    if name not in SPLITTERS or not all(map(is_count, vocabulary.values())):
        raise Refused(path, "does not give every token an id, or tokenizer_class, %r, is none of "
                      "%s: see --no-tokenizer" % (name, ", ".join(SPLITTERS)))
    split, assumed = SPLITTERS[name]
    level = {"type": "ByteLevel", "add_prefix_space": bool(settings.values.get("add_prefix_space"))}
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


def read_bpe(path, values):
    """(text -> id, pairs that merge) of a tokenizer.json's model."""
    model = values.get("model")
    vocabulary, merges = model.get("vocab"), model.get("merges")
    try:
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)
                  for merge in merges]
        for left, right in merges:
            if left not in vocabulary or right not in vocabulary or (
                    left + right not in vocabulary or " " in left + right):
                raise ValueError
        if len(set(vocabulary.values())) < len(vocabulary) or len(set(merges)) < len(merges) or (
                not all(is_count(number) and is_text(text)
                        for text, number in vocabulary.items())):
            raise ValueError
    except (AttributeError, TypeError, ValueError):
        raise Refused(path, "vocab does not give every token an id of its own, or merges are not "
                      "pairs of its tokens that make one of its tokens, each once")
    return vocabulary, merges


def check_model(path, values, kind, **known):
    """Refuses parts of a tokenizer.json, and settings of its model, that are not known. known: the
    values of a setting that are, the first of them where the key is absent."""
    model = values.get("model")
    model = model if isinstance(model, dict) else {}
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
    return re.search(r"[A-Za-z0-9][\s\S]*[!-/:-@\[-`{-~]", text) is None


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


def space_scheme(values):
    """Where SentencePiece's space before a text goes by tokenizer.json: "first" (before the text
    alone), "always" (before every stretch between added words), "never"; or None. And whether the
    text that words are looked for in has its spaces marked."""
    pre, normalizer = values.get("pre_tokenizer"), values.get("normalizer")
    if normalizer == MARK and pre in (None, NO_SPACES):
        return "never", True
    if normalizer is None and isinstance(pre, dict) and pre == {
            "type": "Metaspace", "replacement": SPACE, "split": False,
            "prepend_scheme": pre.get("prepend_scheme")}:
        scheme = pre["prepend_scheme"]
        return (scheme if scheme in ("first", "always", "never") else None), False
    return None, False


def is_llama_class(settings, config):
    """Whether the class is LlamaTokenizer, which does not ask tokenizer.json about spaces. A
    Mistral has another, whatever it says."""
    mistral = config.values.get("model_type") == "mistral" or (
        config.values["architectures"] == ["MistralForCausalLM"])
    return tokenizer_class(settings) in (None, "LlamaTokenizer") and not mistral


def scheme_of_class(settings):
    """LlamaTokenizer's."""
    if settings.get("add_prefix_space", FLAG, null=True):
        return "always" if settings.get("legacy", FLAG, null=False) else "first"
    return "never"


def is_gemma_class(settings, arch):
    return tokenizer_class(settings) == "GemmaTokenizer" or (
        tokenizer_class(settings) is None and arch.startswith("gemma"))


def check_spaces(path, values, words, arch, settings, config):
    """Whether a text starts with a space of the tokenizer's own, by tokenizer.json and the class
    of the tokenizer, which have to agree."""
    scheme, marked = space_scheme(values)
    found = [word for word in words if not word.special]
    if scheme is None or scheme == "always" and found:
        raise Refused(path, "the normalizer %.200s and the pre_tokenizer %.200s are not known%s: "
                      "Metaspace with prepend_scheme first and without split is"
                      % (json.dumps(values.get("normalizer")),
                         json.dumps(values.get("pre_tokenizer")),
                         " with added tokens" if scheme else ""))
    own = scheme
    if tokenizer_class(settings) == "LlamaTokenizer" and is_llama_class(settings, config):
        own = scheme_of_class(settings)
    elif is_gemma_class(settings, arch):
        own = "never"
    if own != scheme and (found or "never" in (own, scheme)):
        raise Refused(settings.path, "the tokenizer's class has the space before a text %s, and "
                      "tokenizer.json %s" % (own, scheme))
    if marked:
        check_marked(path, found)
    return scheme != "never"


def check_marked(path, found):
    """Refuses words that are looked for where spaces are marked, and have any."""
    for word in found:
        if word.normalized and (" " in word.text or SPACE in word.text):
            raise Refused(path, "the added token %.60s is normalized and has a space: that is not "
                          "known with this normalizer" % word.text)


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
    unknown = values["model"].get("unk_token")
    if unknown is not None:
        fixed[unknown if isinstance(unknown, str) else ""] = UNKNOWN
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


def ranks(texts, merges):
    """Scores that go by the order of merges, for readers that know of scores alone."""
    first = {}
    for rank, merge in enumerate(merges):
        first.setdefault("".join(merge), -float(rank))
    return [first.get(text, -float(len(merges))) for text in texts]


def begins_with(values):
    """The ids with which the post_processor begins and ends a text; None where it says nothing."""
    post = values.get("post_processor")
    posts = post.get("processors") if isinstance(post, dict) and post.get("type") == "Sequence" \
        else [post]
    for post in posts:
        if isinstance(post, dict) and post.get("type") == "TemplateProcessing":
            kinds = ["Sequence" in item for item in post["single"]]
            at = kinds.index(True)
            ids = [[number for item in items
                    for number in post["special_tokens"][item["SpecialToken"]["id"]]["ids"]]
                   for items in (post["single"][:at], post["single"][at + 1:])]
            if any(len(one) > 1 for one in ids):
                raise ValueError
            return [one[0] if one else None for one in ids]
        if post is not None and post.get("type") != "ByteLevel":
            raise ValueError
    return None


def ends_metadata(path, values, texts, rows, config, settings):
    """The keys for the tokens that begin and end a text."""
    try:
        ends = begins_with(values)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise Refused(path, "the post_processor is more than one token before or after a text")
    metadata, numbers = [], {text: number for number, text in texts.items()}
    for place, name in enumerate(("bos", "eos")):
        number = config.values.get(name + "_token_id")
        if isinstance(number, list) and number:
            number = number[0]                       # the others end a turn of a chat
        if type(number) is not int:
            token = settings.values.get(name + "_token")
            token = token.get("content") if isinstance(token, dict) else token
            number = numbers.get(token) if isinstance(token, str) else None
        if number is not None and not 0 <= number < rows:
            raise Refused(config.path, "the id of %s is %d: there are %d tokens"
                          % (name, number, rows))
        if number is not None:
            metadata.append(("tokenizer.ggml.%s_token_id" % name, U32, number))
        added = ends is not None and ends[place] is not None
        if added and ends[place] != number:
            raise Refused(path, "the post_processor adds token %d to a text, which is not %s, %s"
                          % (ends[place], name, number))
        metadata.append(("tokenizer.ggml.add_%s_token" % name, BOOL,
                         settings.get("add_%s_token" % name, FLAG, null=added)))
    return metadata


def json_metadata(directory, config, rows, arch, settings):
    """The tokenizer's keys from tokenizer.json, or the files that came before it; else none."""
    path, older = (os.path.join(directory, name) for name in ("tokenizer.json", "vocab.json"))
    if os.path.isfile(path):
        values = parse_json(path, read_small(path))
        words = added_words(directory, settings, path, values)
    elif os.path.isfile(older):
        path = older
        values, words = plain_files(older, settings, arch)
    else:
        return []
    model = values.get("model")
    ranked = isinstance(model, dict) and model.get("byte_fallback") is True
    texts, types, metadata, merges = (
        read_ranked(path, values, words, arch, settings, config) if ranked else
        read_byte_level(path, values, words, arch, settings))
    if not texts or max(texts) >= rows:
        raise Refused(path, "has tokens up to id %d: config.json's vocab_size is %d, and should be "
                      "more" % (max(texts, default=-1), rows))
    tokens = [texts.get(i, "[PAD%d]" % i) for i in range(rows)]
    metadata += [
        ("tokenizer.ggml.tokens", STRING, tokens),
        ("tokenizer.ggml.token_type", I32, [types.get(i, UNUSED) for i in range(rows)]),
        ("tokenizer.ggml.merges", STRING, [" ".join(merge) for merge in merges]),
    ]
    if ranked:
        metadata.append(("tokenizer.ggml.scores", F32, ranks(tokens, merges)))
    return metadata + added_metadata(words) + ends_metadata(path, values, texts, rows, config,
                                                            settings)


# ---- The tokenizer: SentencePiece's model with the files beside it ------------------------------

def read_beside(directory, pieces):
    """tokenizer.json's path and what it says, where one is beside tokenizer.model, which comes
    before it: both have to be of one vocabulary."""
    path = os.path.join(directory, "tokenizer.json")
    if not os.path.isfile(path):
        return path, None
    values = parse_json(path, read_small(path))
    model = values.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or any(
            vocabulary.get(text) != i for i, (text, _, _) in enumerate(pieces)):
        raise Refused(path, "its vocab is not that of tokenizer.model beside it: only one of the "
                      "two can be right, and the other should go")
    return path, values


def overlap(one, other):
    """Whether two texts can share characters of a third."""
    return one in other or other in one or any(
        one.endswith(other[:n]) or other.endswith(one[:n])
        for n in range(1, min(len(one), len(other))))


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
        number = config.values.get(name + "_token_id")
        if name == "eos" and isinstance(number, list) and number:
            number = number[0]                       # the others end a turn of a chat
        number = number if type(number) is int else own_end(path, texts, spec, name)
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


def tokenizer_metadata(directory, config, rows, arch):
    """The tokenizer's keys for so many rows of embeddings; none without a tokenizer."""
    settings = read_settings(directory)
    whole = os.path.isfile(os.path.join(directory, "tokenizer.model"))
    return (pieces_metadata if whole else json_metadata)(directory, config, rows, arch, settings)


NO_TOKENIZER = [("tokenizer.ggml.model", STRING, "none")]      # llama.cpp wants it said


def convert_hf(args):
    """The command hf: a Hugging Face checkpoint becomes a GGUF model."""
    adapter = os.path.join(args.directory, "adapter_config.json")
    if os.path.exists(adapter):
        raise Refused(adapter, "an adapter would change these weights: a checkpoint that it is "
                      "merged into is wanted, without it")
    family, config = read_config(os.path.join(args.directory, "config.json"))
    sizes, settings = describe(family, config)
    plan = plan_tensors(family, config, sizes, find_weights(args.directory))
    tensors, volume = rope_factors(config, sizes), collections.Counter()
    for row, stored in plan:
        want = choose_type(stored, args.type)
        volume[want] += math.prod(stored.shape)
        dims = stored.shape[:0:-1] + (length_of(stored),)
        tensors.append(Output(row.ours, dims, want,
                              converted(stored, want, row.how, sizes["head_dim"])))
    tokenizer = [] if args.no_tokenizer else tokenizer_metadata(
        args.directory, config, sizes["vocab"], family.gguf)
    metadata = [
        ("general.architecture", STRING, family.gguf),
        ("general.name", STRING,
         args.name or os.path.basename(os.path.abspath(args.directory))),
        ("general.file_type", U32, FILE_TYPES[max(volume, key=volume.get)]),
    ]
    write_model(args, metadata + settings + (tokenizer or NO_TOKENIZER), tensors,
               {s.path for _, s in plan})
    if family.part and not args.quiet:
        complain("%s: the model of text alone: what sees pictures is left out" % args.directory)
    if not tokenizer and not args.quiet:
        complain("%s: without tokenizer.model, tokenizer.json or vocab.json the model takes token "
                 "ids only" % args.directory)


PERIOD = (1 << 20) - 3       # random numbers before they repeat: a prime, so that no rows are alike


def random_pieces(tile, start, count, size):
    """The bytes of so many random numbers, from some place of the tile on."""
    start = start % PERIOD
    while count:
        step = min(count, PERIOD - start)
        yield tile[start * size:(start + step) * size]
        start, count = 0, count - step


def convert_random(args):
    """The command random: a checkpoint of a configuration's shape, its numbers without meaning."""
    family, config = read_config(args.config)
    sizes, settings = describe(family, config)
    rng = random.Random(args.seed)
    numbers = [rng.gauss(0, 0.02) for _ in range(PERIOD)]
    single = struct.pack("<%df" % PERIOD, *numbers)
    upper = bytearray(2 * PERIOD)                    # a bfloat16 is the upper half of a float32
    upper[0::2], upper[1::2] = single[2::4], single[3::4]
    tiles = {"f32": single, "bf16": upper, "f16": struct.pack("<%de" % PERIOD, *numbers),
             "norm": struct.pack("<%df" % PERIOD, *(1 + x for x in numbers))}
    tiles = {name: memoryview(tile) for name, tile in tiles.items()}
    tensors = rope_factors(config, sizes)
    if sizes["layers"] > 10000:
        raise Refused(config.path, "num_hidden_layers is %d: at most 10000 are expected"
                      % sizes["layers"])
    for row in rows_of(family, sizes["layers"]):
        if row.ours == "output.weight" and config.get("tie_word_embeddings", FLAG):
            continue
        shape = [sizes[size] for size in row.shape.split()]
        shape = shape[::-1] if row.how == TURNED else shape
        shape[0] -= 2 * (row.how == POSITIONS)
        want = args.type if len(shape) == 2 else "f32"
        tile = tiles["norm" if row.ours.endswith("norm.weight") else want]
        tensors.append(Output(row.ours, tuple(shape[::-1]), want, random_pieces(
            tile, zlib.crc32(row.ours.encode()), math.prod(shape), TYPES[want].size)))
    metadata = [("general.architecture", STRING, family.gguf),
                ("general.name", STRING, args.name or "random"),
                ("general.file_type", U32, FILE_TYPES[args.type])]
    write_model(args, metadata + settings + NO_TOKENIZER, tensors, [args.config])


# ---- Counts ---------------------------------------------------------------------------------

NPY_HEADER = re.compile(rb"{'descr': '[<|]([iu])([1248])', 'fortran_order': False, "
                        rb"'shape': \((\d{1,9}), (\d{1,9})\), } *\n")


def load_npy(path):
    """(layers, neurons) and the numbers, row by row, of an array of integers that numpy saved."""
    with open(path, "rb") as file:
        raw = file.read()
    start = 10 if raw[6:7] == b"\1" else 12
    size = int.from_bytes(raw[8:start], "little")
    header = NPY_HEADER.fullmatch(raw[start:start + size])
    if raw[:6] != b"\x93NUMPY" or not header:
        raise Refused(path, "is not as numpy.save writes an array of integers, layers by neurons")
    kind, size, layers, neurons = (group.decode() for group in header.groups())
    shape, numbers = (int(layers), int(neurons)), raw[start + len(header[0]):]
    if not all(shape) or len(numbers) != math.prod(shape) * int(size):
        raise Refused(path, "%d bytes of numbers are not %s x %s of %s bytes" % (
            len(numbers), layers, neurons, size))
    code = {"1": "b", "2": "h", "4": "i", "8": "q"}[size]
    return shape, struct.unpack("<%d%s" % (math.prod(shape), code.upper() if kind == "u" else code),
                                numbers)


def is_integers(value):
    return isinstance(value, torch_zip.Tensor) and value.storage.code in torch_zip.INTEGERS


def load_activations(path):
    """The token total, (layers, neurons) and the counts of a file of the released code."""
    saved = torch_zip.load(path)
    saved = saved if isinstance(saved, dict) else {}
    total, counts = saved.get("n", saved.get("total_tokens")), saved.get("over_zero")
    if is_integers(total) and total.shape == ():
        total, = torch_zip.numbers_of(total)
    if not is_count(total) or total == 0:
        raise Refused(path, "has no token total of 1 or more under n or total_tokens")
    if not is_integers(counts) or len(counts.shape) != 2 or not all(counts.shape):
        raise Refused(path, "has no tensor of integers, layers by neurons, under over_zero")
    return total, counts.shape, torch_zip.numbers_of(counts)


def check_counts(path, language, numbers, total, shape):
    """That every count is one of so many tokens."""
    if min(numbers) < 0 or max(numbers) > total:
        place = next(i for i, count in enumerate(numbers) if not 0 <= count <= total)
        raise Refused(path, "%s, layer %d, neuron %d: the count is %d, and should be from 0 to the "
                      "%d tokens" % ((language,) + divmod(place, shape[1])
                                     + (numbers[place], total)))


def read_counts(language, path, tokens):
    """(token total, (layers, neurons), counts as bytes of i64) of one language."""
    if path.endswith(".npy"):
        total, (shape, numbers) = tokens[language], load_npy(path)
    else:
        total, shape, numbers = load_activations(path)
    check_counts(path, language, numbers, total, shape)
    return total, shape, struct.pack("<%dq" % len(numbers), *numbers)


def convert_counts(args):
    """The command counts: activation files of the paper's released code become a counts file."""
    if args.files[0][0] is None:
        return export_counts(args)
    files = dict(sorted(args.files))                 # by code point: for labels, by bytes
    totals, tensors = [], []
    for language, path in files.items():
        total, shape, counts = read_counts(language, path, dict(args.tokens))
        totals.append(total)
        tensors.append(Output(language + ".positive", shape[::-1], "i64", [counts]))
        if tensors[-1].dims != tensors[0].dims:
            raise Refused(path, "%d layers of %d neurons, where %s has %d of %d: all files should "
                          "be of one model" % (shape + (min(files),) + tensors[0].dims[::-1]))
    metadata = [
        ("general.architecture", STRING, "lape-counts"),
        ("general.name", STRING, args.name or "unknown"),
        ("lape-counts.layers", U32, shape[0]),
        ("lape-counts.neurons", U32, shape[1]),
        ("lape-counts.languages", STRING, list(files)),
        ("lape-counts.tokens", U64, totals),
    ]
    write_model(args, metadata, tensors, files.values())


class CountsFile(Gguf):
    """Counts as lape and this tool write them: of no other version, nothing unlike ALIGNMENT."""

    LACK = "is damaged, or not GGUF of version 3"

    def read(self):
        super().read()
        version, = struct.unpack_from("<I", self.raw, 4)
        if version != 3 or self.values.get("general.alignment", ALIGNMENT) != ALIGNMENT:
            raise ValueError


def read_counts_file(path):
    """(layers, neurons) and language -> (token total, counts) of what `lape count` wrote."""
    head = CountsFile(path)
    layers, neurons, languages, totals = (head.values.get("lape-counts." + key) for key in (
        "layers", "neurons", "languages", "tokens"))
    if head.values.get("general.architecture") != "lape-counts" or not (
            is_count(layers) and is_count(neurons) and layers * neurons
            and isinstance(languages, list) and isinstance(totals, list)
            and len(languages) == len(totals) and all(map(is_count, totals))
            and all(isinstance(name, str) and is_label(name) for name in languages)
            and len(set(languages)) == len(languages)):
        raise Refused(path, "is not a counts file, or says no layers, neurons, languages, tokens")
    end = 0
    for name, (dims, kind, offset) in head.tensors.items():
        if kind != TYPES["i64"].ggml or offset != end + -end % ALIGNMENT:
            raise Refused(path, "tensor %s is no integers that begin where those before it end"
                          % name)
        end = offset + 8 * math.prod(dims)
    if not 0 <= len(head.raw) - head.start - end < ALIGNMENT:
        raise Refused(path, "has %d bytes of tensors, which should be %d"
                      % (len(head.raw) - head.start, end))
    found, count = {}, layers * neurons
    for language, total in zip(languages, totals):
        dims, _, offset = head.tensors.get(language + ".positive", (None, None, 0))
        if dims != (neurons, layers):
            raise Refused(path, "has no tensor %s.positive of %d x %d integers"
                          % (language, layers, neurons))
        found[language] = total, struct.unpack_from("<%dq" % count, head.raw,
                                                      head.start + offset)
        check_counts(path, language, found[language][1], total, (layers, neurons))
    return (layers, neurons), found


def export_counts(args):
    """A counts file becomes activation files as the paper's released code writes them."""
    path = args.files[0][1]
    shape, found = read_counts_file(path)
    with contextlib.ExitStack() as files:
        for language, (total, numbers) in found.items():
            code = "i" if max(numbers) < 1 << 31 else "q"
            file = files.enter_context(new_file(args.output.replace("LANG", language), [path]))
            torch_zip.save(file, {"n": total,
                                  "over_zero": torch_zip.tensor_of(code, shape, numbers)})


# ---- Lists of neurons -----------------------------------------------------------------------

# Neurons a layer of the models whose lists the paper's authors publish under these names.
RELEASED = {"BLOOM-7B": 16384, "LLaMA-2-7B": 11008, "LLaMA-2-13B": 13824, "LLaMA-2-70B": 28672,
            "Mistral-7B": 14336, "OPT-6.7B": 16384, "Phi-2-2.7B": 10240}


def read_lists(path):
    """layer -> index -> languages, by their place, how many they are, and how many layers."""
    lists = torch_zip.load(path)
    if not isinstance(lists, list) or not lists or not all(
            isinstance(layers, list) and len(layers) == len(lists[0]) > 0 for layers in lists):
        raise Refused(path, "is not a list by language of lists by layer, all of one length")
    found = [collections.defaultdict(list) for _ in lists[0]]
    for language, layers in enumerate(lists):
        for layer, tensor in enumerate(layers):
            if not is_integers(tensor) or len(tensor.shape) != 1:
                raise Refused(path, "language %d, layer %d: no tensor of indices"
                              % (language, layer))
            for index in torch_zip.numbers_of(tensor):
                if index < 0 or language in found[layer][index]:
                    raise Refused(path, "language %d, layer %d: index %d is below 0, or twice there"
                                  % (language, layer, index))
                found[layer][index].append(language)
    return found, len(lists), len(lists[0])


def lists_to_table(args, path):
    """The lists of the paper's authors become a table that lape reads."""
    found, count, layers = read_lists(path)
    name = os.path.basename(path).split(".neuron")[0]
    neurons = args.neurons or RELEASED.get(name)
    if len(args.langs or ()) != count:
        raise Refused(path, "has lists of %d languages: --langs A,B,... should name as many"
                      % count)
    if neurons is None:
        raise Refused(path, "does not say how many neurons a layer has: give --neurons N")
    lines = ["# language-specific neurons", "# model: %s" % (args.name or "unknown"),
             "# layers: %d" % layers, "# neurons: %d" % neurons,
             "# languages: " + " ".join(args.langs), "layer\tneuron\tlape\tlanguages"]
    for layer, members in enumerate(found):
        for index in sorted(members):
            if index >= neurons:
                raise Refused(path, "layer %d has a neuron %d, of %d" % (layer, index, neurons))
            lines.append("%d\t%d\tnan\t%s" % (layer, index, ",".join(
                args.langs[language] for language in members[index])))
    with new_file(args.output, [path]) as out:
        out.write(("\n".join(lines) + "\n").encode("utf-8", "replace"))


def table_head(lines):
    """Of a table: the line that names its columns, layers, neurons a layer, and languages; or a
    ValueError."""
    start = next(i for i, line in enumerate(lines + ["end"]) if line and line[0] != "#")
    found = re.findall("^# (layers|neurons|languages): (.*)$", "\n".join(lines[:start]), re.M)
    said = dict(found)
    languages = said.get("languages", "").split(" ")
    if lines[start:] == [] or lines[start].split("\t")[:4] != [
            "layer", "neuron", "lape", "languages"] or len(found) != 3 or not all(
                re.fullmatch("[1-9][0-9]{0,7}", said.get(key, "")) for key in ("layers", "neurons")
            ) or not all(map(is_label, languages)) or len(set(languages)) < len(languages):
        raise ValueError("no head")
    return start, int(said["layers"]), int(said["neurons"]), languages


def read_table(path):
    """(layers, neurons a layer, languages) and (layer, index, languages) of every line."""
    try:
        lines = read_small(path).decode("utf-8").split("\n")
        start, layers, neurons, languages = table_head(lines)
    except ValueError:
        raise Refused(path, "is neither lists as torch.save writes them, nor a table as lape find "
                      "does")
    rows, last = [], (-1, -1)
    for number, line in enumerate(lines[start + 1:], start + 2):
        part = re.match(r"([0-9]{1,8})\t([0-9]{1,8})\t[^\t]*\t([^\t]+)(\t|$)", line)
        if not line or line[0] == "#":
            continue
        place = (int(part[1]), int(part[2])) if part else last
        members = [] if not part or part[3] == "-" else part[3].split(",")
        if place <= last or place[0] >= layers or place[1] >= neurons or not (
                set(members) <= set(languages)) or len(set(members)) < len(members):
            raise Refused(path, "line %d is no layer, neuron, lape and languages of the header, in "
                          "ascending order" % number)
        rows.append(place + (members,))
        last = place
    return layers, languages, rows


def table_to_lists(args, path):
    """A table of neurons becomes lists as the paper's authors write them."""
    layers, languages, rows = read_table(path)
    order = args.langs or languages
    for language in order:
        if language not in languages:
            raise Refused(path, "has no language %s: it has %s" % (language, " ".join(languages)))
    none = sum(not members for _, _, members in rows)
    if none and not args.quiet:
        complain("%s: %d neurons of no language are left out" % (path, none))
    lists = {language: [[] for _ in range(layers)] for language in order}
    for layer, index, members in rows:
        for language in members:
            if language in lists:
                lists[language][layer].append(index)
    with new_file(args.output, [path]) as out:
        torch_zip.save(out, [[torch_zip.tensor_of("q", (len(indices),), indices)
                              for indices in lists[language]] for language in order])


def convert_neurons(args):
    """The command neurons: from lists to a table, or back."""
    with open(args.file, "rb") as file:
        archive = file.read(2) == b"PK"
    (lists_to_table if archive else table_to_lists)(args, args.file)


# ---- The command line -----------------------------------------------------------------------

def language_file(text):
    """LANG=FILE of the command line as a pair; (None, FILE.gguf) of a counts file."""
    language, _, path = text.partition("=")
    if text.endswith(".gguf") and "=" not in text:
        return None, text
    if not path or not is_label(language):
        raise argparse.ArgumentTypeError("%r: LANG=FILE is expected, LANG being %s"
                                         % (text, LABELS_ARE))
    return language, path


def language_tokens(text):
    """LANG=N of the command line as a pair."""
    language, _, number = text.partition("=")
    if not re.fullmatch("0*[1-9][0-9]{0,17}", number):
        raise argparse.ArgumentTypeError("%r: LANG=N is expected, N being 1 or more" % text)
    return language, int(number)


def labels(text):
    """A,B,... of the command line as a list of labels."""
    found = text.split(",")
    if len(set(found)) < len(found) or not all(map(is_label, found)):
        raise argparse.ArgumentTypeError("%r: A,B,... is expected, each label once, of %s"
                                         % (text, LABELS_ARE))
    return found


def positive(text):
    if not re.fullmatch("0*[1-9][0-9]{0,6}", text):
        raise argparse.ArgumentTypeError("%r: a number from 1 up is expected" % text)
    return int(text)


def parse_arguments(argv):
    """The command line; wrong usage ends the program with status 2."""
    parser = argparse.ArgumentParser(prog="convert.py", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    hf = commands.add_parser("hf", help="a Hugging Face checkpoint becomes a GGUF model")
    hf.add_argument("directory", metavar="DIR", help="holds config.json and the weights")
    hf.add_argument("--type", choices=["keep", "f32", "f16", "bf16", "q8_0"], default="keep",
                    help="of the matrices (default: as they are)")
    hf.add_argument("--no-tokenizer", action="store_true", help="for a model that takes token ids")
    hf.set_defaults(run=convert_hf)
    noise = commands.add_parser("random", help="a configuration becomes a GGUF model of that size "
                                "with random weights")
    noise.add_argument("config", metavar="CONFIG.json", help="a Hugging Face config.json")
    noise.add_argument("--type", choices=["bf16", "f16", "f32"], default="bf16",
                       help="of the matrices (default: bf16)")
    noise.add_argument("--seed", type=int, default=0, help="of the numbers (default: 0)")
    noise.set_defaults(run=convert_random)
    counts = commands.add_parser("counts", help="activation counts (.pt, .npy) become a counts "
                                 "file, or FILE.gguf becomes .pt files")
    counts.add_argument("files", metavar="LANG=FILE", nargs="+", type=language_file,
                        help="or one FILE.gguf; -o is then a name that LANG stands in")
    counts.add_argument("--tokens", metavar="LANG=N", type=language_tokens, action="append",
                        default=[], help="that LANG's .npy file counts; a .pt file says it itself")
    counts.set_defaults(run=convert_counts)
    neurons = commands.add_parser("neurons", help="the paper's authors' lists (.neuron.pth) become "
                                  "a table of neurons, or a table such lists")
    neurons.add_argument("file", metavar="FILE")
    neurons.add_argument("--langs", metavar="A,B,...", type=labels,
                         help="of the lists, in their order")
    neurons.add_argument("--neurons", metavar="N", type=positive,
                         help="a layer of the model, which lists do not say")
    neurons.set_defaults(run=convert_neurons)
    for command in (hf, noise, counts, neurons):
        command.add_argument("-o", dest="output", metavar="FILE", required=True)
        command.add_argument("--name", help="of the model, for general.name")
        command.add_argument("-q", dest="quiet", action="store_true", help="no progress, no notes")
    args = parser.parse_args(argv)
    if args.command == "counts" and len(dict(args.files)) < len(args.files):
        counts.error("a language is given twice")
    if args.command == "counts" and args.files[0][0] is None:
        if len(args.files) > 1 or args.tokens or "LANG" not in os.path.basename(args.output):
            counts.error("FILE.gguf is wanted alone, and -o with LANG in its name")
    elif args.command == "counts":
        arrays = {language for language, path in args.files if path.endswith(".npy")}
        if arrays != {language for language, _ in args.tokens} or len(arrays) < len(args.tokens):
            counts.error("--tokens LANG=N is wanted once for every LANG=FILE.npy, and for no other")
    return args


def main(argv):
    args = parse_arguments(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)        # to clean up then too
    warnings_are_errors()
    try:
        args.run(args)
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except Refused as problem:
        complain(str(problem))
        return 1
    except Warning as warning:                       # that no reader has caught
        complain("%s: %s" % (args.command, doubt(warning)))
        return 1
    except OSError as problem:                       # one without a name comes from writing
        complain("%s: %s" % (problem.filename or args.output, problem.strerror))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
