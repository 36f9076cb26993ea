#!/usr/bin/env python3
"""The vocabularies that llama.cpp publishes with its source, in lape.

    python test/oracle/peer_vocabularies.py [--lape ./lape]

models/ggml-vocab-NAME.gguf has hard cases in NAME.gguf.inp, and the ids that the vocabulary's own
library gave them in .out. What `lape tokenize` opens has to give these ids in every case, and those
of llama.cpp itself, and those of sentencepiece or tokenizers with the file's data; a vocabulary
without cases is asked another's. What lape refuses is listed.
"""

import argparse
import glob
import os
import subprocess
import sys
import tempfile

from peer_programs import LLAMA_CPP, Bench, Report, contents, ignored, load
import gguf
import llama_cpp
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
import tokenizers

import tokenizing
from paths import LAPE

MODELS = os.path.join(LLAMA_CPP, "models")
BETWEEN = "\n__ggml_vocab_test__\n"
OPENED = ["baichuan", "command-r", "gpt-2", "llama-bpe", "llama-spm", "qwen2"]
LENT = "llama-spm"       # whose cases those get that have none


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def cases_of(path):
    """Texts, and their published ids, or None."""
    if not os.path.exists(path + ".inp"):
        return cases_of(os.path.join(MODELS, "ggml-vocab-%s.gguf" % LENT))[0], None
    texts = read(path + ".inp").split(BETWEEN)
    rows = [list(map(int, ids.split())) for ids in read(path + ".out").split("\n")]
    if texts.pop() or rows.pop():       # every case ends so, and every line
        raise RuntimeError("the last case is cut off")
    if len(texts) != len(rows):
        raise RuntimeError("%d cases and %d lines of ids" % (len(texts), len(rows)))
    return texts, rows


def by_sentencepiece(keys):
    """sentencepiece's ids of a text, by a model of the file's pieces and scores."""
    model, name = sentencepiece_model_pb2.ModelProto(), "tokenizer.ggml."
    for text, score, kind in zip(*(keys[name + x] for x in ("tokens", "scores", "token_type"))):
        model.pieces.add(piece=text, score=score, type=kind)      # of the same numbers in both
    spec = model.trainer_spec
    spec.model_type, spec.vocab_size, spec.byte_fallback = spec.BPE, len(model.pieces), True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = keys.get(name + "add_space_prefix", True)
    model.normalizer_spec.remove_extra_whitespaces = False
    return sentencepiece.SentencePieceProcessor(
        model_proto=model.SerializeToString()).encode


def by_tokenizers(keys):
    """The same of byte-level BPE, with the words and the normal form that its family has."""
    kind, name = keys["tokenizer.ggml.pre"], "tokenizer.ggml."
    pieces = keys[name + "tokens"]
    merges = [tuple(merge.split(" ")) for merge in keys[name + "merges"]]
    made = tokenizers.Tokenizer(tokenizers.models.BPE(
        {piece: i for i, piece in enumerate(pieces)}, merges, ignore_merges=kind == "llama-bpe"))
    if kind in tokenizing.NFC_KINDS:
        made.normalizer = tokenizers.normalizers.NFC()
    made.pre_tokenizer = tokenizing.pre_tokenizer(kind)
    made.add_tokens([tokenizers.AddedToken(piece, normalized=False) for piece, kind in zip(
        pieces, keys[name + "token_type"]) if kind == gguf.TokenType.USER_DEFINED])
    return lambda text: made.encode(text, add_special_tokens=False).ids


def compared(texts, ours, theirs):
    bad = [text for text, a, b in zip(texts, ours, theirs) if a != b]
    return len(ours) == len(theirs) and not bad, "%d of %d equal" % (
        len(texts) - len(bad), len(texts)) + ("; first %r" % bad[0] if bad else "")


def check_vocabulary(report, bench, name, path):
    texts, published = cases_of(path)
    ours = [bench.tokens(path, text)[0] if text else [] for text in texts]

    def as_llama_cpp():
        model = load(path, vocab_only=True)
        return compared(texts, ours, [model.tokenize(text.encode(), add_bos=False)
                                      if text else [] for text in texts])

    def as_library():
        keys = contents(path)[0]
        pieces = keys["tokenizer.ggml.model"] == "llama"
        encode = by_sentencepiece(keys) if pieces else by_tokenizers(keys)
        return compared(texts, ours, [encode(text) for text in texts])
    if published:
        report.check("%s, as published" % name, lambda: compared(texts, ours, published))
    report.check("%s, as llama.cpp" % name, as_llama_cpp)
    report.check("%s, as its library" % name, as_library)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lape", default=LAPE)
    options = parser.parse_args()
    llama_cpp.llama_log_set(ignored, None)
    report, opened, refused = Report(), [], []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(os.path.abspath(options.lape), folder)
        for path in sorted(glob.glob(os.path.join(MODELS, "ggml-vocab-*.gguf"))):
            name = os.path.basename(path)[len("ggml-vocab-"):-len(".gguf")]
            done = subprocess.run([bench.lape, "tokenize", path], input=b"a", capture_output=True)
            if done.returncode:
                said = done.stderr.decode().strip().replace(path + ": ", "")
                refused.append("%s: %s" % (name, said))
                continue
            opened.append(name)
            check_vocabulary(report, bench, name, path)
    report.check("vocabularies that open", lambda: (opened == OPENED, " ".join(opened)))
    report.check("the others are refused in one line", lambda: (
        all(line.count("\n") == 0 and ": lape: " in line for line in refused), len(refused)))
    print("\n".join(refused))
    sys.exit(report.end())


if __name__ == "__main__":
    main()
