#!/usr/bin/env python3
"""Quantised models by llama.cpp, in lape and in llama.cpp.

    python test/oracle/peer_types.py [--lape ./lape]

A random LLaMA whose rows are multiples of 256, so that no type falls back to another, is quantised
to every type that lape reads, all matrices alike; and by llama.cpp's mixes of types. lape computes
in float: its logits have to be those of transformers with the numbers that the gguf package makes
of the blocks. llama.cpp rounds what it multiplies by a quantised matrix to 8 bits, too; how far
that takes it from the same logits is printed, and held against BOUND. Every other type of ggml's is
refused, by its name or its number.
"""

import argparse
import os
import subprocess
import sys
import tempfile

from peer_programs import (Bench, Report, contents, dequantized, ignored, quantise, relative,
                           rewrite, types_of)
import gguf
import llama_cpp
import numpy as np
import torch
import transformers

import family_models
import peer_families
import quants
from paths import LAPE

TOKENS, HEADS = 90, 4
SETTINGS = dict(family_models.LLAMA, vocab_size=peer_families.VOCAB, hidden_size=256,
                intermediate_size=512, num_attention_heads=HEADS)
# llama.cpp's name of a quantisation of every type, where it is not the type's with MOSTLY_ before
ALONE = {"F32": "ALL_F32", "Q3_K": "MOSTLY_Q3_K_M", "Q4_K": "MOSTLY_Q4_K_M",
         "Q5_K": "MOSTLY_Q5_K_M"}
MIXES = ["Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M",
         "Q4_0", "IQ4_XS"]
# What llama.cpp can write that lape does not read
FOREIGN = ["TQ1_0", "TQ2_0", "IQ3_S", "IQ3_M"]
EXACT = 1e-5        # of the largest logit: lape, and llama.cpp where it rounds nothing, in F32
# llama.cpp from exact arithmetic: twice what was measured. Beside F16 it rounds to 11 bits, beside
# BF16 to 8; beside a quantised type to 8 with a scale for 32 numbers, or for 256 (K types, IQ4_XS).
BOUND = {"F32": EXACT, "F16": 3e-3, "BF16": 2e-2}
ROUNDED = 0.12


def exact(path, ids):
    """transformers' logits in float32, of the very numbers that the file has."""
    model = family_models.make_model("Llama", SETTINGS, 0)
    tensors = contents(path)[1]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, SETTINGS["num_hidden_layers"])
    for name, weight in model.named_parameters():
        stem, suffix = name.rsplit(".", 1)
        numbers = dequantized(tensors["%s.%s" % (names.get_name(stem), suffix)])
        if "q_proj" in name or "k_proj" in name:
            numbers = as_saved(numbers)
        weight.data = torch.from_numpy(np.ascontiguousarray(numbers))
    return family_models.push(model, ids)[0].float().numpy()


def as_saved(rows):
    """Undoes the order that llama.cpp's converter gives to rows that are rotated: of every head,
    the two of a pair beside each other instead of half a head apart."""
    head = SETTINGS["hidden_size"] // HEADS
    return rows.reshape(-1, head // 2, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def check_type(report, bench, plain, name, kind=None):
    """A file whose matrices are all of one type; or of that mix, where no type is given."""
    path = bench.at("quantised.gguf")
    ids = np.random.default_rng(0).integers(3, peer_families.PIECES, TOKENS).tolist()
    whose, want = "all " + kind if kind else "mix " + name[7:], []

    def ours():
        quantise(plain, path, name, pure=kind is not None)
        found = types_of(path)
        want.append(exact(path, ids))
        off = relative(bench.ours(path, ids), want[0])
        there = ", ".join("%d %s" % (n, one) for one, n in sorted(found.items()))
        return off <= EXACT and (kind is None or set(found) == {kind}), "%.1e; %s" % (off, there)

    def theirs():
        found = bench.theirs(path, ids)
        off = relative(found, want[0])
        same = (found.argmax(1) == want[0].argmax(1)).mean()
        return off <= BOUND.get(kind, ROUNDED), "%.1e; %.0f %% of argmaxes equal" % (
            off, 100 * same)
    report.check("%s, lape from exact arithmetic" % whose, ours)
    report.check("%s, llama.cpp from it" % whose, theirs)


def refusal(bench, path):
    """What lape says of a file that it does not read, in one line; the path left out."""
    done = subprocess.run([bench.lape, "info", path], capture_output=True, text=True)
    if done.returncode != 1 or done.stdout or done.stderr.count("\n") != 1:
        raise RuntimeError("not refused in one line: " + (done.stderr or done.stdout)[:200])
    return done.stderr.strip().replace(path + ": ", "").replace("lape: ", "")


def write_foreign(plain, path, kind):
    """The model with a tensor of zero bytes in another type."""
    numbers, size = gguf.GGML_QUANT_SIZES[kind]

    def change(t):
        if t.name != "blk.1.ffn_up.weight":
            return t.data, t.tensor_type
        return np.zeros((len(t.data), t.data.shape[-1] // numbers * size), np.uint8), kind
    rewrite(plain, path, change=change)


def check_refused(report, bench, plain):
    """All types of ggml's that are not read, and what llama.cpp writes in some of them."""
    path = bench.at("foreign.gguf")
    for kind in gguf.GGMLQuantizationType:
        if kind.name in quants.KINDS:
            continue

        def named():
            write_foreign(plain, path, kind)
            said = refusal(bench, path)
            numbered = "'blk.1.ffn_up.weight' is of ggml's type %d, " % kind
            return numbered + kind.name in said or numbered + "not known" in said, said
        report.check("refused, %s" % kind.name, named)
    for name in FOREIGN:
        def written():
            quantise(plain, path, "MOSTLY_" + name)
            said = refusal(bench, path)
            return any(kind in said for kind in set(types_of(path)) - set(quants.KINDS)), said
        report.check("refused, llama.cpp's %s" % name, written)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lape", default=LAPE)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    llama_cpp.llama_log_set(ignored, None)
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(os.path.abspath(options.lape), folder)
        plain, tokenizer = bench.at("plain.gguf"), bench.at("tokenizer")
        peer_families.train("llama", tokenizer)
        peer_families.save(family_models.make_model("Llama", SETTINGS, 0), bench.at("hf"),
                           tokenizer)
        peer_families.convert_theirs(bench.at("hf"), plain, "f32", "llama")
        for kind in quants.KINDS:
            check_type(report, bench, plain, ALONE.get(kind, "MOSTLY_" + kind), kind)
        for name in MIXES:
            check_type(report, bench, plain, "MOSTLY_" + name)
        check_refused(report, bench, plain)
    sys.exit(report.end())


if __name__ == "__main__":
    main()
