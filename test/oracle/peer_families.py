#!/usr/bin/env python3
"""lape against llama.cpp: the same files in both, whichever program's converter wrote them.

    python test/oracle/peer_families.py [--lape ./lape] [--only FAMILY]

transformers makes and saves tiny random models of every family, with tokenizers trained on the
demo's texts. Checked is, of every one:

- tools/convert.py's file in both programs: the logits of every position;
- convert_hf_to_gguf.py's file in lape: the logits are those of transformers with weights rounded as
  the file has them, and the file says what tools/convert.py's says;
- that file without one key, or with one that changes the model: lape runs it as llama.cpp does, or
  refuses it;

and of every kind of tokenizer, the tokens of many lines in both. Prints a table with a row for
every family; the last line is `N passed, N failed`. peer_types.py has the quantised types.
"""

import argparse
import contextlib
import io
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import unicodedata

# First, since it says where llama.cpp's own gguf and converter lie
from peer_programs import TEXTS, Bench, Report, contents, ignored, load, relative, rewrite, run
import gguf
import llama_cpp
import numpy as np
import sentencepiece
import torch
import transformers

import family_models
import tokenizing
from paths import LAPE

CONVERT = family_models.CONVERT
VOCAB, PIECES, TOKENS = 2080, 2000, 90     # rows of embeddings, of which so many have a piece
Q = gguf.GGMLQuantizationType
# By how much llama.cpp's logits may differ, relative to the largest. It looks GELU up in a table of
# float16, and rounds the inputs of a product to the type of its weights (of Q8_0, to 8 bits).
TYPES = {"f32": 1e-3, "f16": 4e-3, "bf16": 3e-2, "q8_0": 0.1}
EXACT, WITH_SILU = 1e-5, ("llama", "mistral", "qwen2", "qwen3", "cohere", "olmo2", "stablelm", "phi3",
                          "smollm3", "granite")

# Sizes that rows of Q8_0 and llama.cpp's converter, which takes 4 widths for granted, can do.
WIDTH, NEURONS, HEAD = 96, 384, 32
GEMMA3_LINEAR = {"full_attention": dict(rope_type="linear", rope_theta=1e6, factor=8.0),
                 "sliding_attention": dict(rope_type="default", rope_theta=1e4)}
# Models besides those of family_models.py: the size by which llama.cpp knows the 27 billion
# parameters of Gemma 3, as that of Gemma 2 there, whose queries are scaled by width / heads; and
# the other scaling.
MORE = {
    "gemma3": [dict(family_models.GEMMA, num_hidden_layers=62, sliding_window=17,
                    query_pre_attn_scalar=WIDTH // 6),
               dict(family_models.GEMMA, num_hidden_layers=6, sliding_window=17,
                    rope_parameters=GEMMA3_LINEAR)],
}
# Families whose heads share the width in llama.cpp, and those that it wants no tied embeddings of.
SHARED, UNTIED = ("olmo2", "stablelm", "phi3", "granite"), ("olmo2", "stablelm")
KINDS = {"qwen2": "qwen2", "qwen3": "qwen2", "gpt2": "gpt-2", "bloom": "bloom", "phi2": "phi-2",
         "gemma": "gemma", "gemma2": "gemma", "gemma3": "gemma", "cohere": "command-r",
         "olmo2": "gpt-2", "stablelm": "gpt-2", "smollm3": "llama-bpe"}


def kind_of(family, settings):
    """The tokenizer a model gets, by llama.cpp's name where it is byte-level BPE."""
    if family == "llama" and "rope_parameters" in settings:
        return "llama-bpe"
    if family == "mistral" and settings.get("head_dim"):
        return "tekken"
    return KINDS.get(family, "llama")


def models_of(family):
    """class name, settings and tokenizer of every model of a family."""
    name, models = family_models.FAMILIES[family]
    for settings in models + MORE.get(family, []):
        deep = settings.get("num_hidden_layers", 0) > 40
        kind = kind_of(family, settings)
        settings = dict(settings, vocab_size=VOCAB)
        settings["n_embd" if "n_embd" in settings else "hidden_size"] = WIDTH
        settings.pop("n_inner", None)
        if "intermediate_size" in settings:
            settings["intermediate_size"] = NEURONS
        if "head_dim" in settings:
            settings["head_dim"] = HEAD
        if family in SHARED:
            settings.pop("head_dim", None)
        if family in UNTIED:
            settings["tie_word_embeddings"] = False
        if family == "phi3":        # whose windows llama.cpp passes over; heads are of 16 numbers
            settings.update(sliding_window=None, partial_rotary_factor=0.5)
        if family in ("gemma2", "gemma3") and not deep:
            settings["query_pre_attn_scalar"] = HEAD     # all else llama.cpp cannot know
        yield name, settings, kind


# ---- Tokenizers -----------------------------------------------------------------------------

def lines_of_texts():
    for name in sorted(os.listdir(TEXTS)):
        with open(os.path.join(TEXTS, name), encoding="utf-8") as file:
            yield from file.read().split("\n")


def train(kind, folder):
    """A tokenizer of a kind, as the files of a checkpoint in a new folder."""
    os.makedirs(folder)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    if kind in tokenizing.PATTERNS:
        tokenizing.trained(kind, list(lines_of_texts()), size=PIECES, whole=0).save(
            os.path.join(folder, "tokenizer.json"))
    else:
        settings = train_sentencepiece(kind, os.path.join(folder, "tokenizer.model"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
        json.dump(settings, file)


def train_sentencepiece(kind, path):
    """As LLaMA's or Gemma's; the latter adds no space before a text. Both have pieces that are
    always taken whole. Returns tokenizer_config.json."""
    user = ["<tool>", "\u2581\u2581", "\n\n"] if kind == "gemma" else ["<tool>"]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines_of_texts(), model_writer=model, vocab_size=PIECES,
        model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, add_dummy_prefix=kind != "gemma",
        user_defined_symbols=user, minloglevel=2)
    with open(path, "wb") as file:
        file.write(model.getvalue())
    added = ["<unk>", "<s>", "</s>"] + user
    return {"tokenizer_class": kind.capitalize() + "Tokenizer",
            "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True,
            "added_tokens_decoder": {str(i): {"content": text, "special": i < 3}
                                     for i, text in enumerate(added)}}


# ---- The two converters ---------------------------------------------------------------------

def convert_ours(folder, path, kind):
    run(sys.executable, CONVERT, "hf", folder, "-o", path, "--type", kind, "--name", "x", "-q")


def convert_theirs(folder, path, kind, pre, *flags):
    """Runs convert_hf_to_gguf.py. It knows a byte-level BPE by the hash of what the published one
    makes of a text; of one that was trained here it has to be told which it is."""
    import conversion
    import convert_hf_to_gguf
    conversion.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
    logging.disable(logging.WARNING)
    argv = ["convert_hf_to_gguf.py", folder, "--outfile", path, "--outtype", kind, *flags]
    try:
        argv, sys.argv = sys.argv, argv
        with contextlib.redirect_stderr(io.StringIO()):
            convert_hf_to_gguf.main()
    finally:
        sys.argv = argv


# Keys that only one of the files has. What is absent has a default, in both programs the same; that
# is what the logits show, and the files without one key.
ALONE = {
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.scale",
    "rope.dimension_count", "rope.freq_base", "rope.scaling.type", "vocab_size",
    "attention.sliding_window",     # of Mistral, which llama.cpp does not know
    "rope.scaling.original_context_length",      # of Phi-3, where it says what the past was
    "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.add_space_prefix", "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.eos_token_id",  # where config.json has none and the tokenizer does
    "tokenizer.ggml.added_tokens", "tokenizer.ggml.added_normalized"}       # lape's own


def unlike(ours, theirs):
    """What two files say differently, and which keys just one of them has."""
    (keys, tensors), (other_keys, other_tensors) = contents(ours), contents(theirs)
    arch, found, alone = keys["general.architecture"], [], []
    for key in sorted(set(keys) | set(other_keys)):
        a, b = keys.get(key), other_keys.get(key)
        if a is None or b is None:
            if not key.startswith("general."):
                alone.append(key.replace(arch + ".", ""))
        elif a != b and key not in ("general.name", "general.basename"):
            if not same_pieces(key, keys, other_keys):
                found.append(key)
    for name in sorted(set(tensors) | set(other_tensors)):
        a, b = tensors.get(name), other_tensors.get(name)
        if a is None or b is None or not same_tensor(name, a, b):
            found.append(name)
    return found + [key for key in alone if key not in ALONE], alone


def same_pieces(key, keys, other_keys):
    """Whether lists differ only in pieces that no merge makes. Those that are not of a tokenizer's
    model have no score of their own, convert_hf_to_gguf.py takes <unk> for a control piece and
    writes a space for U+2581 in user-defined ones, and takes the letters of those of byte-level BPE
    for bytes."""
    if key not in ("tokenizer.ggml." + name for name in ("tokens", "scores", "token_type")):
        return False
    kinds = keys["tokenizer.ggml.token_type"]
    return len(keys[key]) == len(other_keys[key]) and all(
        kind not in (gguf.TokenType.NORMAL, gguf.TokenType.BYTE)
        for kind, a, b in zip(kinds, keys[key], other_keys[key]) if a != b)


def same_tensor(name, a, b):
    """llama.cpp's converter computes the divisors of frequencies in float32, tools/convert.py in
    double; it keeps positions in F32, whatever type is asked for."""
    if name == "rope_freqs.weight":
        return np.allclose(a.data, b.data, rtol=2e-7, atol=0)
    if name == "position_embd.weight" and b.tensor_type == Q.F32:
        return list(a.shape) == list(b.shape)
    return (list(a.shape) == list(b.shape) and a.tensor_type == b.tensor_type
            and a.data.tobytes() == b.data.tobytes())


def rounded(model, kind):
    """The model with matrices as llama.cpp's converter writes them in a type."""
    copy = type(model)(model.config).eval()
    copy.load_state_dict(model.state_dict())
    kind = Q[kind.upper()]
    turned = {m.weight for m in copy.modules() if type(m).__name__ == "Conv1D"}
    for name, weight in copy.named_parameters():
        if weight.dim() == 2 and not name.endswith("wpe.weight"):
            x = (weight.T if weight in turned else weight).detach().numpy()
            x = gguf.quants.dequantize(gguf.quants.quantize(np.ascontiguousarray(x), kind), kind)
            x = torch.from_numpy(np.array(x))
            weight.data = x.T if weight in turned else x
    return copy


# Models of a shape that llama.cpp does not read; test/oracle/family_models.py holds these.
NOT_THERE = {("phi2", 1): "keys that heads share, which llama.cpp's Phi-2 has not"}


# ---- The checks -----------------------------------------------------------------------------

def bound(family, dtype="f32"):
    return EXACT if dtype == "f32" and family in WITH_SILU else TYPES[dtype]


def save(model, folder, tokenizer):
    """The model as transformers saves it, with a tokenizer, and with two settings that published
    checkpoints have and transformers has stopped writing."""
    model.save_pretrained(folder)
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
    path = os.path.join(folder, "config.json")
    with open(path) as file:
        config = json.load(file)
    if config["model_type"] == "gpt2":
        config["n_ctx"] = config["n_positions"]
    if config["model_type"] == "bloom":
        config["seq_length"] = 128
    with open(path, "w") as file:
        json.dump(config, file)


def check_model(report, bench, family, i, first):
    """Both converters' files of one model, in all types if it is the first of its family."""
    name, settings, kind = first[:3]
    what, hf = "%s %d" % (family, i), bench.at("hf")
    model = family_models.make_model(name, settings, i)
    save(model, hf, bench.at("tokenizers/" + kind))
    ids = np.random.default_rng(i).integers(3, PIECES, TOKENS).tolist()
    report.models[family] += 1
    # llama.cpp has no windows in LLaMA's architecture, which is Mistral's too: its converter drops
    # them, and on a file that has one it agrees as long as the window is not full.
    window = settings.get("sliding_window") if family == "mistral" else None
    if window:
        model = family_models.make_model(name, dict(settings, sliding_window=None), i)
    for dtype in list(TYPES)[:1 if i else None]:
        ours, theirs = bench.at("ours-%s.gguf" % dtype), bench.at("theirs-%s.gguf" % dtype)

        def same():
            convert_ours(hf, ours, dtype)
            return relative(bench.ours(ours, ids)[:window], bench.theirs(ours, ids)[:window])

        def its():
            convert_theirs(hf, theirs, dtype, kind)
            want = family_models.push(rounded(model, dtype), ids)[0]
            return family_models.worst(torch.from_numpy(bench.ours(theirs, ids)), want)

        def alike():
            found, alone = unlike(ours, theirs)
            report.alone[family].update(alone)
            return not found, ", ".join(found) if found else "%d keys of one only" % len(alone)
        report.measure(family, "same file " + dtype, what, bound(family, dtype), same)
        report.measure(family, "its file " + dtype, what, family_models.SINGLE, its)
        report.check("%s, the two files %s" % (what, dtype), alike)
    if i == 0 and family not in ("gpt2", "bloom"):      # which have q, k and v as one anyway

        def fused():
            convert_theirs(hf, bench.at("fused.gguf"), "f32", kind, "--fuse-qkv")
            if "blk.0.attn_qkv.weight" not in contents(bench.at("fused.gguf"))[1]:
                raise RuntimeError("q, k and v are not one tensor")
            want = family_models.push(model, ids)[0]
            ours = torch.from_numpy(bench.ours(bench.at("fused.gguf"), ids))
            return family_models.worst(ours, want)
        report.measure(family, "its file f32", what + " fused", family_models.SINGLE, fused)


# Keys that llama.cpp reads, and of which files say something else than what is usual.
CHANGES = [("attention.sliding_window_pattern", 3, gguf.GGUFValueType.UINT32),
           ("attention.causal", False, gguf.GGUFValueType.BOOL),
           ("rope.freq_base", 500.0, gguf.GGUFValueType.FLOAT32),
           ("rope.freq_base_swa", 500.0, gguf.GGUFValueType.FLOAT32),
           ("rope.scale_linear", 2.0, gguf.GGUFValueType.FLOAT32)]


def check_keys(report, bench, family, what, path):
    """A file of llama.cpp's without each of its keys, and with others. A key that is not there may
    not matter to lape, as long as nothing changes then."""
    keys = contents(path)[0]
    arch, ids = keys["general.architecture"] + ".", list(range(3, 3 + TOKENS))
    changes = [(key,) for key in keys if key.startswith(arch)]
    for change in changes + [(arch + key, value, kind) for key, value, kind in CHANGES]:
        def work():
            rewrite(path, bench.at("changed.gguf"), change)
            try:
                ours = bench.ours(bench.at("changed.gguf"), ids)
            except RuntimeError as e:
                return True, "refused: " + str(e).split(".gguf: ")[-1]
            try:
                want, said = bench.theirs(bench.at("changed.gguf"), ids), "runs, %.1e"
            except RuntimeError:
                want, said = bench.ours(path, ids), "llama.cpp refuses it; as before, %.1e"
            off = relative(ours, want)
            return off <= bound(family), said % off
        report.check("%s %s %s" % (what, "with" if change[1:] else "without", change[0]), work)


def hard(n):
    """Random strings of what pre-tokenizers disagree about."""
    rng = random.Random(1)
    parts = ["a", "B", "\u00e9", "e\u0301", "\u0301", "\u01c5", "\u02b0", "\u4e2d", "\u56fd", "1",
             "23", "4567", "\u00bd", "\u2167", "\u0663", " ", "  ", "   ", " " * 9, "\t", "\r\n", "\r",
             "\n", "\n\n", "\u00a0", "\u3000", "\u2028", "\u200d", "\U0001f469\u200d\U0001f4bb", "'s",
             "'S", "'ll", "'LL", "'re", "'", "\u2019s", "/", "//", "!", "...", "\u3002", "|", "(", ")",
             "...\n", "!/\r\n", "ABC", "abC", "don't", "DON'T", "<tool>", "<too", "_", "$x"]
    return ["".join(rng.choices(parts, k=rng.randint(1, 14))) for _ in range(n)]


def check_tokens(report, bench, kind, path, whose):
    """Lines of the texts and hard strings: how many have other ids than in llama.cpp. After a piece
    that is taken whole llama.cpp adds a space again, as it does before a text, and sentencepiece
    does not: such lines are held against sentencepiece. Of llama.cpp's deviations from the original
    regular expressions these lines show none, so no other difference is let pass."""
    def work():
        vocabulary, spaced = load(path, vocab_only=True), None
        if kind == "llama":
            spaced = sentencepiece.SentencePieceProcessor(bench.at("hf/tokenizer.model"))
        lines, strings, bad, explained = list(lines_of_texts()), hard(600), [], 0
        got = bench.tokens(path, "\n".join(lines) + "\n", "--lines")
        got += [bench.tokens(path, text)[0] for text in strings]
        for text, ids in zip(lines + strings, got):
            if kind in tokenizing.NFC_KINDS:        # which llama.cpp leaves to others
                text = unicodedata.normalize("NFC", text)
            want = vocabulary.tokenize(text.encode(), add_bos=False) if text else []
            known = spaced and "<tool>" in text and ids == spaced.encode(text)
            explained += ids != want and bool(known)
            if ids != want and not known:
                bad.append(text)
        first = "; first %r" % bad[0] if bad else ""
        return (len(got) == len(lines + strings) and not bad, "%d of %d lines differ, %d more as "
                "explained%s" % (len(bad), len(got), explained, first))
    report.check("tokens, %s, %s file" % (kind, whose), work)


def check_without_tokenizer(report, bench):
    """Models that take ids only, of either converter: llama.cpp wants that said."""
    ids, path = list(range(3, 3 + TOKENS)), bench.at("none.gguf")

    def same():
        run(sys.executable, CONVERT, "hf", bench.at("hf"), "-o", path, "-q", "--no-tokenizer")
        return relative(bench.ours(path, ids), bench.theirs(path, ids))

    def its():
        rewrite(bench.at("theirs-f32.gguf"), path,
                ("tokenizer.ggml.model", "none", gguf.GGUFValueType.STRING))
        return relative(bench.ours(path, ids), bench.theirs(path, ids))
    report.measure("llama", "same file f32", "llama 0 without a tokenizer", EXACT, same)
    report.measure("llama", "same file f32", "llama 0 of tokenizer none", EXACT, its)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lape", default=LAPE)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    llama_cpp.llama_log_set(ignored, None)
    report, known = Report(), set()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(os.path.abspath(options.lape), folder)
        train("llama", bench.at("tokenizers/llama"))
        for family in family_models.FAMILIES:
            if options.only not in family or family in ("opt", "gemma3 that sees"):
                continue
            for i, model in enumerate(models_of(family)):
                kind = model[2]
                if (family, i) in NOT_THERE:
                    print("skipped: %s %d: %s" % (family, i, NOT_THERE[family, i]))
                    continue
                if not os.path.isdir(bench.at("tokenizers/" + kind)):
                    train(kind, bench.at("tokenizers/" + kind))
                shutil.rmtree(bench.at("hf"), ignore_errors=True)
                check_model(report, bench, family, i, model)
                if kind not in known:
                    known.add(kind)
                    check_tokens(report, bench, kind, bench.at("ours-f32.gguf"), "our")
                    check_tokens(report, bench, kind, bench.at("theirs-f32.gguf"), "its")
                if family == "llama" and i == 0:
                    check_without_tokenizer(report, bench)
                if i == 0 or "rope_parameters" in model[1]:
                    check_keys(report, bench, family, "%s %d" % (family, i),
                               bench.at("theirs-f32.gguf"))
    print("opt: llama.cpp has no OPT: test/oracle/family_models.py holds it against transformers")
    for family, alone in report.alone.items():
        print("%s: keys of one file only: %s" % (family, ", ".join(sorted(alone))))
    columns = [side + kind for side in ("same file ", "its file ") for kind in TYPES]
    print(report.table(columns))
    sys.exit(report.end())


if __name__ == "__main__":
    main()
