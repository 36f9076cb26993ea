#!/usr/bin/env python3
"""Byte-level BPE against the tokenizers library, for every pre-tokenizer that lape knows.

    python test/byte_level.py [FAMILY ...]

Needs tokenizers, numpy and gguf, and ./lape. The last line on stdout is `N passed, N failed`.
"""

import glob
import os
import random
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHARED = os.environ.get("LAPE_SHARED") or os.path.join(ROOT, "..", "shared")
TEXTS = sorted(glob.glob(os.path.join(SHARED, "text", "*.valid.txt"))) or sorted(
    glob.glob(os.path.join(ROOT, "demo", "text", "*.txt")))
SHORTS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
WHITE = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
# As the families' tokenizer.json has them; None is ByteLevel's own.
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
ADDED = ["<tool>", "    ", "  ", "<é>"]
STOP = "<|end|>"


def library(family, lines):
    t = Tokenizer(models.BPE(ignore_merges=family in ("llama-bpe", "tekken")))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=PATTERNS[family] is None)
    first = []
    if family == "command-r":
        first = [pre_tokenizers.Digits(individual_digits=True)]
    elif PATTERNS[family]:
        first = [pre_tokenizers.Split(Regex(PATTERNS[family]), "isolated", invert=False)]
    t.pre_tokenizer = pre_tokenizers.Sequence(first + [level])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=2000, show_progress=False, special_tokens=[STOP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_tokens([AddedToken(s, normalized=False) for s in ADDED])
    return t


def checkpoint(path, family, t):
    """A model of one layer that is never run, with the tokenizer."""
    import json
    n, width = t.get_vocab_size(), 32
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("tokenizer"), w.add_block_count(1), w.add_context_length(64)
    w.add_embedding_length(width), w.add_feed_forward_length(width), w.add_head_count(1)
    w.add_layer_norm_rms_eps(1e-5), w.add_rope_freq_base(1e4)
    merges = [m if isinstance(m, str) else " ".join(m)
              for m in json.loads(t.to_str())["model"]["merges"]]
    tokens = [t.id_to_token(i) for i in range(n)]
    w.add_tokenizer_model("gpt2"), w.add_tokenizer_pre(family), w.add_token_list(tokens)
    w.add_token_types([3 if s == STOP else 4 if s in ADDED else 1 for s in tokens])
    w.add_token_merges(merges), w.add_eos_token_id(tokens.index(STOP))

    def put(name, *shape):
        w.add_tensor(name, np.zeros(shape, np.float32))
    put("token_embd.weight", n, width), put("output_norm.weight", width)
    for name in ("attn_norm", "ffn_norm"):
        put(f"blk.0.{name}.weight", width)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        put(f"blk.0.{name}.weight", width, width)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def lape(path, data, *flags):
    r = subprocess.run([os.path.join(ROOT, "lape"), "tokenize", path, *flags], input=data,
                       capture_output=True)
    if r.returncode:
        sys.exit(r.stderr.decode())
    return r.stdout


def scalars():
    """Every scalar value in contexts, on lines; the line end itself is among the hard strings."""
    for c in range(0x110000):
        if not 0xd800 <= c < 0xe000 and c != 10:
            x = chr(c)
            yield from (x, f"a {x} b", f"1{x} ", f"'{x}s")


def hard(n):
    """Random strings of what pre-tokenizers disagree about."""
    r = random.Random(1)
    parts = ["a", "B", "é", "e\u0301", "\u0301", "ǅ", "ʰ", "中", "国", "ß", "\u017f", "\u0e01\u0e34",
             "1", "23", "4567", "½", "Ⅷ", "٣", " ", "  ", "   ", " " * 9, "\t", "\r\n", "\r", "\n",
             "\n\n", "\u00a0", "\u3000", "\u2028", "\u0085", "\u200d", "👩\u200d💻", "🇫🇷", "👍🏽", "'s",
             "'S", "'ll", "'LL", "'Ve", "'re", "'\u017f", "'", "’s", "/", "//", "!", "...", "。",
             "，", "|", "(", ")", "...\n", "!/\r\n", "ABC", "abC", "don't", "DON'T", "<tool>",
             "<too", "<é>", "_", "\0", "\u0600", "हिन्दी", "Tiếng", "$x", "=", "[", "، "]
    return ["".join(r.choices(parts, k=r.randint(1, 14))) for _ in range(n)]


def different(t, path, lines):
    """How many lines have other ids, or do not come back; and the first of them."""
    bad, first = 0, None
    for start in range(0, len(lines), 1 << 18):
        some = lines[start:start + (1 << 18)]
        ids = lape(path, ("\n".join(some) + "\n").encode(), "--lines")
        got = ids.decode().split("\n")[:-1]
        want = [" ".join(map(str, e.ids)) for e in t.encode_batch_fast(some, add_special_tokens=False)]
        back = lape(path, ids, "--lines", "--decode")
        same = back == ("\n".join(some) + "\n").encode()
        wrong = [i for i in range(len(some)) if i >= len(got) or got[i] != want[i]]
        bad += len(wrong) + (not same)
        if wrong and first is None:
            first = f"{some[wrong[0]]!r}: {got[wrong[0]]}, not {want[wrong[0]]}"
    return bad, first


def main():
    lines = [x for p in TEXTS for x in open(p, encoding="utf-8").read().split("\n")]
    passed = failed = 0
    cases = {"texts": lines, "scalars": list(scalars()),
             "hard": [s.replace("\n", "\r") for s in hard(20000)]}
    whole = ["\n".join(lines), *hard(400), "\n".join(hard(20000))]
    with tempfile.TemporaryDirectory() as folder:
        for family in sys.argv[1:] or PATTERNS:
            t = library(family, lines)
            path = os.path.join(folder, family + ".gguf")
            checkpoint(path, family, t)
            result = {name: different(t, path, some) for name, some in cases.items()}
            bad, first = 0, None
            for s in whole:
                ids = lape(path, s.encode())
                if (list(map(int, ids.split())) != t.encode(s, add_special_tokens=False).ids or
                        lape(path, ids, "--decode") != s.encode()):
                    bad, first = bad + 1, first or repr(s[:200])
            result["whole texts"] = bad, first
            for name, (bad, first) in result.items():
                passed, failed = passed + (bad == 0), failed + (bad > 0)
                print(f"{family}, {name}: {bad} differ" + (f"; first {first}" if bad else ""),
                      flush=True)
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
