#!/usr/bin/env python3
"""Tokenizers of older checkpoints, vocab.json and merges.txt, against transformers.

    python test/oracle/vocab_merges.py

Tiny models are saved with such files in the forms in which GPT-2, OPT, Qwen and Phi-2 were
published. tools/convert.py has to make the same of them as of the tokenizer.json that transformers
writes instead, and lape the same ids as transformers does. The last line on stdout is
`N passed, N failed`.
"""

import glob
import json
import os
import subprocess
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1")

import transformers                                                          # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers, trainers           # noqa: E402

from paths import LAPE, ROOT                                                 # noqa: E402
from report import Checks                                                    # noqa: E402

ROWS, END, FOUR = 640, "<|endoftext|>", ["<s>", "<pad>", "</s>", "<unk>"]
SMALL = dict(vocab_size=ROWS, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
LLAMA = dict(SMALL, intermediate_size=40, num_key_value_heads=2)


def added(text, special=False, **flags):
    return dict({"content": text, "lstrip": False, "normalized": False, "rstrip": False,
                 "single_word": False}, special=special, **flags)


def forms(n):
    """name -> class, settings, tokens before the others, files; n: how many tokens there are."""
    opt = {"bos_token": added("</s>"), "eos_token": added("</s>"), "unk_token": added("</s>"),
           "pad_token": added("<pad>")}
    return {
        "GPT-2": ("GPT2LMHeadModel", dict(SMALL, bos_token_id=0, eos_token_id=0), [END],
                  {"tokenizer_config": {"model_max_length": 64}}),
        "mGPT": ("GPT2LMHeadModel", dict(SMALL, bos_token_id=0, eos_token_id=2), FOUR, {
            "tokenizer_config": {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>"},
            "special_tokens_map": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                                   "pad_token": "<pad>"}}),
        "OPT": ("OPTForCausalLM", dict(SMALL, ffn_dim=40, word_embed_proj_dim=32),
                FOUR, {
                    "special_tokens_map": opt, "tokenizer_config": dict(
                        opt, add_bos_token=True, add_prefix_space=False,
                        tokenizer_class="GPT2Tokenizer")}),
        "Qwen 2": ("Qwen2ForCausalLM", LLAMA, [], {"tokenizer_config": {
            "tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": END,
            "unk_token": None, "additional_special_tokens": ["<|im_start|>"],
            "added_tokens_decoder": {str(n): added(END, True), str(n + 1): added(
                "<|im_start|>", True), str(n + 2): added("<tool>")}}}),
        "Qwen 1": ("Qwen2ForCausalLM", LLAMA, [], {"added_tokens": {
            END: n, "<|im_start|>": n + 1, "<tool>": n + 2}}),
        "Phi-2": ("PhiForCausalLM", LLAMA, [], {
            "added_tokens": {END: n, "  ": n + 2, "   ": n + 1}, "tokenizer_config": {
                "tokenizer_class": "CodeGenTokenizer", "add_prefix_space": False,
                "bos_token": END, "eos_token": END, "unk_token": END}}),
    }


def train(lines):
    """The vocabulary and the merges of a byte-level BPE."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=600, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(t.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [" ".join(m) for m in model["merges"]]


def write(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def run(*command, data=None):
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr.decode().strip())
    return done.stdout


def check(folder, name, settings, first, files, words, merges, lines):
    """What is wrong with one form, or None."""
    config = getattr(transformers, name.replace("LMHeadModel", "").replace("ForCausalLM", "")
                     + "Config")(**settings)
    getattr(transformers, name)(config).save_pretrained(folder)
    write(folder, "vocab.json", {text: i for i, text in enumerate(first + words)})
    write(folder, "merges.txt", "#version: 0.2\n" + "\n".join(merges) + "\n")
    for file, value in files.items():
        write(folder, file + ".json", value)
    converter = [sys.executable, os.path.join(ROOT, "tools", "convert.py"), "hf", folder, "-q",
                 "--name", "x", "-o"]
    older, newer = (os.path.join(folder, file) for file in ("older.gguf", "newer.gguf"))
    run(*converter, older)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(line, add_special_tokens=False)["input_ids"] for line in lines]
    said = run(LAPE, "tokenize", older, "--lines",
               data=("\n".join(lines) + "\n").encode()).decode()
    if said.split("\n")[:-1] != [" ".join(map(str, line)) for line in ids]:
        return "ids differ"
    for file in ["vocab", "added_tokens", "special_tokens_map", "tokenizer_config"]:
        path = os.path.join(folder, file + ".json")
        if os.path.exists(path):
            os.remove(path)
    tokenizer.save_pretrained(folder)
    run(*converter, newer)
    with open(older, "rb") as a, open(newer, "rb") as b:
        return None if a.read() == b.read() else "tokenizer.json gives another file"


def main():
    transformers.logging.set_verbosity_error()
    lines = [line for path in sorted(glob.glob(os.path.join(ROOT, "demo", "text", "*.txt")))
             for line in open(path, encoding="utf-8").read().split("\n")]
    lines += ["a <tool>  b   c\t\t1234 don't DON'T", "  ", "", "x " * 40]
    words, merges = train(lines)
    checks = Checks()
    for form, parts in forms(len(words)).items():
        with tempfile.TemporaryDirectory() as folder:
            def compared():
                wrong = check(folder, *parts, words, merges, lines)
                return wrong is None, wrong or "the same ids, the same file"
            checks.check(form, compared)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
