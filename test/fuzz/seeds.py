#!/usr/bin/env python3
"""Small sound files of every kind that the targets of fuzzing read, to start from.

    python3 test/fuzz/seeds.py FOLDER

writes FOLDER/TARGET/NAME. By the standard library and what the other tests make files with.
"""

import json
import os
import random
import struct
import subprocess
import sys
import tempfile

from paths import ROOT

import quants
import tiny
from test_split import parts_of

tiny.WIDTH = tiny.NEURONS = tiny.CONTEXT = 8         # mutations find more in less

PRES = ["gpt-2", "llama-bpe", "bloom", "qwen2", "phi-2", "tekken", "command-r"]
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu",
          "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2,
          "num_key_value_heads": 1, "num_hidden_layers": 1, "rms_norm_eps": 1e-5,
          "vocab_size": 20, "max_position_embeddings": 16, "tie_word_embeddings": True}


# ---- Models ------------------------------------------------------------------------------------

def small(family="llama"):
    """A model of one layer and three tokens."""
    file = tiny.model(family, 3)
    file["values"][family + ".block_count"] = tiny.U32, 1
    for name in [name for name in file["tensors"] if name.startswith("blk.1.")]:
        del file["tensors"][name]
    return file


def quantised(name):
    """The matrices that a type's blocks fit into are of it: of the widest model that is needed."""
    number, numbers, _, _ = quants.KINDS[name]
    file = small()
    values, tensors = file["values"], file["tensors"]
    width = max(numbers, tiny.WIDTH)
    values["llama.embedding_length"] = tiny.U32, width
    values["llama.attention.key_length"] = tiny.U32, 2
    values["llama.rope.dimension_count"] = tiny.U32, 2
    values["llama.feed_forward_length"] = tiny.U32, 2
    rows = {"attn_q": 4, "attn_k": 4, "attn_v": 4, "ffn_gate": 2, "ffn_up": 2, "token_embd": 3}
    for key, t in tensors.items():
        stem = key.split(".")[-2]
        if stem in rows:
            t.update(dims=[rows[stem], width], type=number)
            t["raw"] = b"".join(quants.block(name, i)
                                for i in range(rows[stem] * width // numbers))
        elif stem.endswith("norm"):
            t.update(dims=[width], raw=struct.pack("<%df" % width, *[1.0] * width))
        else:                                        # [width, few]: no row of blocks is so short
            few = 4 if stem == "attn_output" else 2
            t.update(dims=[width, few], type=tiny.F16, raw=b"\0\x30" * (width * few))
    return file


def converted(kind):
    """What tools/convert.py makes at random."""
    with tempfile.TemporaryDirectory() as folder:
        config, made = os.path.join(folder, "config.json"), os.path.join(folder, "model.gguf")
        with open(config, "w", encoding="utf-8") as file:
            json.dump(CONFIG, file)
        subprocess.run([sys.executable, os.path.join(ROOT, "tools", "convert.py"), "random",
                        config, "--type", kind, "-q", "-o", made], check=True)
        with open(made, "rb") as file:
            return file.read()


def models():
    for family in tiny.FAMILIES:
        yield family, tiny.to_bytes(small(family))
    for name in quants.QUANTISED + ["F16", "BF16"]:
        yield name, tiny.to_bytes(quantised(name))
    for kind in "f32", "bf16":
        yield "random-" + kind, converted(kind)
    words = [("sentencepiece", tiny.sentencepiece())]
    words += [(pre, tiny.byte_level(pre)) for pre in PRES]
    for name, values in words:
        yield "vocabulary-" + name, tiny.to_bytes(
            {"magic": b"GGUF", "version": 3, "tensors": {}, "values": dict(
                values, **{"general.architecture": (tiny.STRING, "llama")})})
    yield "with-words", tiny.to_bytes(tiny.with_tokenizer(tiny.sentencepiece()))


def split_models():
    file = small()
    count = len(file["tensors"])
    for first in 0, 3, count:
        one, two = map(tiny.to_bytes, parts_of(file, [first, count - first]))
        yield "at-%d" % first, struct.pack("<H", len(one)) + one + two


# ---- Counts and neurons ------------------------------------------------------------------------

def counts(rng, layers=2, neurons=3, vocab=64, labels=("en", "fr"), every=True, name="tiny",
           **more):
    statistics = ["positive", "near_above", "near_below", "sum", "positive_sum", "histogram"]
    file = {"magic": b"GGUF", "version": 3, "tensors": {}, "values": {
        "general.architecture": (tiny.STRING, "lape-counts"),
        "general.name": (tiny.STRING, name)}}
    values = {"layers": layers, "neurons": neurons, "vocabulary": vocab, "piece_length": 4,
              "bos": 0, **more}
    for key, value in values.items():
        file["values"]["lape-counts." + key] = tiny.U64, value
    file["values"]["lape-counts.near"] = tiny.DOUBLE, 1e-3
    file["values"]["lape-counts.languages"] = tiny.STRING, list(labels)
    file["values"]["lape-counts.tokens"] = tiny.U64, [8] * len(labels)
    file["values"]["lape-counts.pieces"] = tiny.U64, [2] * len(labels)
    file["values"]["lape-counts.parts"] = tiny.U64, [
        number for k in range(len(labels)) for number in (k, 7, k, 3)]
    for label in labels:
        for name in statistics if every else statistics[:1]:
            shape = [1, vocab] if name == "histogram" else [layers, neurons]
            many = shape[0] * shape[1]
            numbers = [rng.randrange(9) for _ in range(many)]
            if name == "histogram":
                numbers = ([2, 4, 1, 1] + [0] * many)[:many]
            file["tensors"]["%s.%s" % (label, name)] = {
                "dims": shape, "type": tiny.INT64, "raw": struct.pack("<%dq" % many, *numbers)}
    return tiny.to_bytes(file)


def counts_files():
    rng = random.Random(1)
    yield "two", counts(rng)
    yield "three", counts(rng, labels=("en", "fr", "zh"), every=False)
    yield "lines-of-products", counts(rng, lines=1, of=1, model_digest=77)
    yield "wide", counts(rng, layers=3, neurons=40, vocab=4)
    yield "one", counts(rng, labels=("en",))
    yield "nameless", counts(rng, name="")


def neuron_lists():
    head = ("# language-specific neurons\n# model: tiny\n# digest: 00112233445566ff\n"
            "# layers: %d\n# neurons: %d\n# languages: en fr zh\n# top: 0.01\n"
            "layer\tneuron\tlape\tlanguages\tp_en\n")
    yield "some", (head % (2, 32) + "0\t1\t.5\ten,fr\t.1\n0\t31\t.5\t-\n1\t0\t1\tzh\t1\n").encode()
    yield "large", (head % (32, 11008) + "0\t11007\t0\ten\n31\t5\t0\tfr,zh\n").encode()
    yield "none", (head % (1, 1)).encode()


# ---- Ids, texts, vocabularies ------------------------------------------------------------------

def ids():
    for kind, letter in (("<i4", "i"), ("<u2", "H"), ("|u1", "B"), ("<i8", "q")):
        for version in 1, 2, 3:
            head = "{'descr': '%s', 'fortran_order': False, 'shape': (2, 3), }\n" % kind
            raw = b"\x93NUMPY" + bytes([version, 0])
            raw += struct.pack("<H" if version == 1 else "<I", len(head)) + head.encode()
            yield "npy-%s-%d" % (letter, version), b"\0" + raw + struct.pack("<6" + letter,
                                                                            *range(6))
    yield "bin", b"\1" + struct.pack("<6H", *range(6))
    yield "bin-wide", b"\2" + struct.pack("<6I", *range(6))


SAMPLES = ["ab abc a'll 123 !?\n\nabc  \n x", "caf\u00e9 e\u0301\u0323 \u4e2d\u6587\u3002 <x><xb>a\u0301x",
           "\u1100\u1161\u11a8 \u0915\u094d \U0001f468 \u2581\u2581 bab<user>", "1 22 333 4444/\r\n\t(a.b),",
           "one line\ntwo lines\n\n", "0 1 2 300\n4"]


def texts(kinds=20, ways=range(8)):
    for kind in range(kinds):
        for n, sample in enumerate(SAMPLES):
            if n % 3 == kind % 3:                    # enough of them
                yield "%d-%d" % (kind, n), bytes([kind, ways[(kind + n) % len(ways)]]) + sample.encode()


def vocabularies():
    def text(s):
        return bytes([len(s.encode())]) + s.encode()
    words = [b"\6" + text("xy") + b"\1", b"\6" + text("cd") + b"\2", b"\0\x31\x62", b"\1\x30\x31",
             b"\2" + text("<x>"), b"\3", b"\x0c\x81", b"\5" + text("zz") + b"\4"]
    for kind in range(10):
        for settings in 0, 2, 3, 10:
            yield "%d-%d" % (kind, settings), bytes([kind, settings, 9, len(words)]) + b"".join(
                words) + SAMPLES[kind % 6].encode()


TARGETS = {"model": models, "split": split_models, "counts": counts_files, "partial": counts_files,
           "neurons": neuron_lists, "ids": ids, "text": texts, "encode": texts,
           "vocabulary": vocabularies}


def write(folder):
    """All seeds; which targets there are."""
    for target, make in TARGETS.items():
        os.makedirs(os.path.join(folder, target), exist_ok=True)
        for name, data in make():
            with open(os.path.join(folder, target, name), "wb") as file:
                file.write(data)
    return list(TARGETS)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    write(sys.argv[1])
