#!/usr/bin/env python3
"""Every family of models against transformers: tiny random models, made and saved by transformers,
converted by tools/convert.py, run by lape and lape64.

    python test/oracle/family_models.py [--lape ./lape] [--lape64 ./lape64] [--only FAMILY]
                                        [--table] [--tokenizers]

For every model: logits, gates and activations in float32; logits of lape64 against the reference in
double; counts within the near-zero bound; perplexity and greedy tokens, plain and with random
neurons at 0. transformers computes norms, softmax and rotary tables in float32 even in a model of
doubles: in the double reference these are computed in double. Then models that transformers saved
with settings that lape does not know: convert.py has to refuse them.

Prints a table with a row for every family. After a full run doc/checking.md's table must be this one,
where figures may be up to twice its own, since another processor rounds otherwise; --table writes
it. What it says of tokenizers is what test/oracle/tokenizing.py left in build/tokenizers.json; with
--tokenizers that has to be there.
"""

import argparse
import collections
import contextlib
import copy
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1")

import gguf                                                                  # noqa: E402
import numpy as np                                                           # noqa: E402
import tokenizers                                                            # noqa: E402
import torch                                                                 # noqa: E402
import transformers                                                          # noqa: E402

from paths import LAPE, ROOT                                                 # noqa: E402
from report import Checks, between                                           # noqa: E402

DOCUMENT = os.path.join(ROOT, "doc", "checking.md")
RESULTS = os.path.join(ROOT, "build", "tokenizers.json")
CONVERT = os.path.join(ROOT, "tools", "convert.py")
VOCAB, TOKENS, GREEDY = 331, 90, 32
SINGLE, DOUBLE = 1e-4, 1e-9        # what logits may differ by
# Gates and activations relative to the layer's largest, if above 1; perplexity relative.
LIMITS = dict(logits=SINGLE, gate=SINGLE, act=SINGLE, perplexity=1e-5, double=DOUBLE)
FACTOR = 2                         # what figures of another processor may exceed the table's by
# Continuing the first crosses windows of 17 and 40 tokens, continuing the second one of 64.
PROMPTS = ["Open the window, then",
           "Choose the language of this document, then click OK. 打开文件"]
IN_FILE = ("Gemma2", "Gemma3", "Granite")       # whose files say how attention is scaled
LAST_NORM = r"(model\.norm|ln_f|decoder\.final_layer_norm|final_layernorm)\.weight"
# A family's models are saved in turn as one file, as several, and as transformers 4 and older did.
FORMS = [("safetensors", torch.float32), ("shards", torch.bfloat16), ("bin", torch.float16)]

# Settings that the classes name alike; every model adds its own.
PLAIN = dict(vocab_size=VOCAB, bos_token_id=1, eos_token_id=None, pad_token_id=0)
LLAMA = dict(PLAIN, hidden_size=72, intermediate_size=200, num_hidden_layers=3,
             num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=128)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
              high_freq_factor=4.0, original_max_position_embeddings=32)
LINEAR = dict(rope_type="linear", rope_theta=10000.0, factor=2.5)
GEMMA3_ROPE = {"full_attention": dict(rope_type="linear", rope_theta=1e6, factor=8.0),
               "sliding_attention": dict(rope_type="default", rope_theta=1e4)}
GPT2 = dict(PLAIN, n_embd=48, n_layer=3, n_head=4, n_positions=128)
OPT = dict(PLAIN, hidden_size=48, ffn_dim=100, num_hidden_layers=3, num_attention_heads=4,
           max_position_embeddings=128, word_embed_proj_dim=48)
BLOOM = dict(PLAIN, hidden_size=48, n_layer=3, n_head=4)
GEMMA = dict(LLAMA, head_dim=20, rms_norm_eps=1e-6)

# Gemma 2 of so many layers scales by the width of a head, 96 / 6 here, when its file, as llama.cpp
# writes it, does not say.
WIDE_LAYERS = 46

# family: class, then the settings of each of its models
FAMILIES = {
    "llama": ("Llama", [
        dict(LLAMA), dict(LLAMA, num_key_value_heads=6, tie_word_embeddings=True),
        dict(LLAMA, rope_parameters=LLAMA3, head_dim=16), dict(LLAMA, rope_parameters=LINEAR)]),
    "mistral": ("Mistral", [
        dict(LLAMA, sliding_window=17),
        dict(LLAMA, head_dim=20, num_key_value_heads=6, sliding_window=None,
             tie_word_embeddings=True),
        dict(LLAMA, num_key_value_heads=1, sliding_window=64)]),
    "qwen2": ("Qwen2", [
        dict(LLAMA), dict(LLAMA, num_key_value_heads=6, tie_word_embeddings=True),
        dict(LLAMA, num_key_value_heads=1, rms_norm_eps=1e-5)]),
    "qwen3": ("Qwen3", [
        dict(LLAMA, head_dim=12), dict(LLAMA, head_dim=20, tie_word_embeddings=True),
        dict(LLAMA, head_dim=16, num_key_value_heads=6)]),
    "gpt2": ("GPT2LMHead", [
        dict(GPT2), dict(GPT2, n_inner=75, tie_word_embeddings=False),
        dict(GPT2, n_head=3, n_embd=45, n_layer=2)]),
    "opt": ("OPT", [
        dict(OPT), dict(OPT, hidden_size=45, word_embed_proj_dim=45, num_attention_heads=3,
             tie_word_embeddings=False),
        dict(OPT, ffn_dim=77)]),
    "bloom": ("Bloom", [
        dict(BLOOM), dict(BLOOM, n_head=6, tie_word_embeddings=False),
        dict(BLOOM, n_head=3, hidden_size=45)]),
    "phi2": ("Phi", [
        dict(LLAMA, num_key_value_heads=6, partial_rotary_factor=0.5),
        dict(LLAMA, hidden_size=96, partial_rotary_factor=0.5, tie_word_embeddings=True),
        dict(LLAMA, num_key_value_heads=6, hidden_size=120, partial_rotary_factor=0.4)]),
    "gemma": ("Gemma", [
        dict(GEMMA), dict(GEMMA, num_key_value_heads=1), dict(GEMMA, num_key_value_heads=6)]),
    "gemma2": ("Gemma2", [
        dict(GEMMA, num_hidden_layers=4, sliding_window=17, query_pre_attn_scalar=20),
        dict(GEMMA, num_hidden_layers=3, sliding_window=40, query_pre_attn_scalar=144,
             attn_logit_softcapping=1.5, final_logit_softcapping=2.5),
        dict(GEMMA, num_hidden_layers=2, sliding_window=300, query_pre_attn_scalar=20,
             num_key_value_heads=6),
        dict(GEMMA, num_hidden_layers=WIDE_LAYERS, hidden_size=96, query_pre_attn_scalar=16)]),
    "gemma3": ("Gemma3", [
        dict(GEMMA, num_hidden_layers=7, sliding_window=17, query_pre_attn_scalar=20),
        dict(GEMMA, num_hidden_layers=6, sliding_window=40, query_pre_attn_scalar=144,
             rope_parameters=GEMMA3_ROPE),
        dict(GEMMA, num_hidden_layers=12, sliding_window=9, query_pre_attn_scalar=20,
             num_key_value_heads=6)]),
    "gemma3 that sees": ("Gemma3ForConditionalGeneration", [
        dict(GEMMA, num_hidden_layers=7, sliding_window=17, query_pre_attn_scalar=20,
             rope_scaling=dict(rope_type="linear", factor=8.0))]),
    "cohere": ("Cohere", [
        dict(LLAMA, logit_scale=0.25), dict(LLAMA, num_key_value_heads=6, logit_scale=0.8),
        dict(LLAMA, num_key_value_heads=1)]),
    "olmo2": ("Olmo2", [
        dict(LLAMA), dict(LLAMA, num_key_value_heads=6, head_dim=20, tie_word_embeddings=True),
        dict(LLAMA, num_key_value_heads=1, rms_norm_eps=1e-6)]),
    "stablelm": ("StableLm", [
        dict(LLAMA, use_qkv_bias=True, partial_rotary_factor=0.5),
        dict(LLAMA, num_key_value_heads=6, hidden_size=96, tie_word_embeddings=True),
        dict(LLAMA, num_key_value_heads=1, hidden_size=120, partial_rotary_factor=0.4,
             use_qkv_bias=True, layer_norm_eps=1e-4)]),
    "phi3": ("Phi3", [
        dict(LLAMA, sliding_window=17),
        dict(LLAMA, num_key_value_heads=6, head_dim=20, partial_rotary_factor=0.7,
             tie_word_embeddings=True),
        dict(LLAMA, num_key_value_heads=1, sliding_window=64, partial_rotary_factor=0.5)]),
    "smollm3": ("SmolLM3", [
        dict(LLAMA, num_hidden_layers=5),
        dict(LLAMA, num_hidden_layers=8, num_key_value_heads=6, head_dim=20,
             no_rope_layers=[1, 1, 1, 0] * 2, tie_word_embeddings=False),
        dict(LLAMA, num_hidden_layers=4, num_key_value_heads=1)]),
    "granite": ("Granite", [
        dict(LLAMA, embedding_multiplier=12.0, residual_multiplier=0.22,
             attention_multiplier=0.03, logits_scaling=0.25),
        dict(LLAMA, num_key_value_heads=6, head_dim=20, embedding_multiplier=0.4,
             residual_multiplier=3.0, attention_multiplier=0.7, logits_scaling=4.0,
             tie_word_embeddings=True),
        dict(LLAMA, num_key_value_heads=1, embedding_multiplier=5.0, attention_multiplier=0.15)]),
}

# What a family's checkpoints are tokenized with, and the names of that in RESULTS.
NOT_COMPARED = "not compared", []
TOKENIZERS = {
    "llama": ("SentencePiece BPE (1, 2), llama-bpe (3)", ["spm", "llama-bpe"]),
    "mistral": ("SentencePiece BPE, tekken", ["spm", "tekken"]),
    "qwen2": ("qwen2", ["qwen2"]), "qwen3": ("qwen2", ["qwen2"]), "gpt2": ("gpt-2", ["gpt-2"]),
    "opt": ("gpt-2", ["gpt-2"]), "bloom": ("bloom", ["bloom"]), "phi2": ("phi-2", ["phi-2"]),
    "gemma": ("SentencePiece BPE", ["spm"]), "gemma2": ("SentencePiece BPE", ["spm"]),
    "gemma3": ("SentencePiece BPE", ["spm"]), "gemma3 that sees": ("SentencePiece BPE", ["spm"]),
    "cohere": ("command-r", ["command-r"]),
    "olmo2": NOT_COMPARED, "stablelm": NOT_COMPARED, "phi3": ("SentencePiece BPE", ["spm"]),
    "smollm3": ("llama-bpe", ["llama-bpe"]), "granite": NOT_COMPARED,
}

# Settings that change what a model computes and that lape does not know, and the word that
# convert.py's refusal has to hold.
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32)
DYNAMIC = dict(rope_type="dynamic", rope_theta=10000.0, factor=4.0)
LONG = dict(rope_type="longrope", rope_theta=10000.0, short_factor=[1.0] * 6, long_factor=[4.0] * 6)
STABLELM = dict(LLAMA, partial_rotary_factor=0.5)
REFUSED = [
    ("llama", dict(LLAMA, rope_parameters=YARN), "yarn"),
    ("llama", dict(LLAMA, rope_parameters=DYNAMIC), "dynamic"),
    ("llama", dict(LLAMA, attention_bias=True), "attention_bias"),
    ("llama", dict(LLAMA, mlp_bias=True), "mlp_bias"),
    ("llama", dict(LLAMA, hidden_act="gelu"), "hidden_act"),
    ("qwen2", dict(LLAMA, use_sliding_window=True, sliding_window=17, max_window_layers=1),
     "use_sliding_window"),
    ("qwen3", dict(LLAMA, attention_bias=True), "attention_bias"),
    ("gpt2", dict(GPT2, scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx"),
    ("gpt2", dict(GPT2, scale_attn_weights=False), "scale_attn_weights"),
    ("gpt2", dict(GPT2, activation_function="gelu"), "activation_function"),
    ("opt", dict(OPT, do_layer_norm_before=False), "do_layer_norm_before"),
    ("opt", dict(OPT, word_embed_proj_dim=24), "word_embed_proj_dim"),
    ("opt", dict(OPT, enable_bias=False), "enable_bias"),
    ("opt", dict(OPT, layer_norm_elementwise_affine=False), "layer_norm_elementwise_affine"),
    ("bloom", dict(BLOOM, apply_residual_connection_post_layernorm=True),
     "apply_residual_connection_post_layernorm"),
    ("phi2", dict(LLAMA, qk_layernorm=True), "qk_layernorm"),
    ("gemma", dict(GEMMA, hidden_activation="gelu"), "hidden_act"),
    ("gemma", dict(GEMMA, tie_word_embeddings=False), "tie_word_embeddings"),
    ("gemma2", dict(GEMMA, layer_types=["full_attention"] * 3), "layer_types"),
    ("gemma3", dict(GEMMA, layer_types=["full_attention"] * 3), "layer_types"),
    ("gemma3", dict(GEMMA, use_bidirectional_attention=True), "use_bidirectional_attention"),
    ("gemma3", dict(GEMMA, final_logit_softcapping=20.0), "final_logit_softcapping"),
    ("cohere", dict(LLAMA, use_qk_norm=True), "use_qk_norm"),
    ("olmo2", dict(LLAMA, attention_bias=True), "attention_bias"),
    ("olmo2", dict(LLAMA, hidden_act="gelu"), "hidden_act"),
    ("olmo2", dict(LLAMA, rope_parameters=YARN), "yarn"),
    ("stablelm", dict(STABLELM, use_parallel_residual=True), "use_parallel_residual"),
    ("stablelm", dict(STABLELM, qk_layernorm=True), "qk_layernorm"),
    ("stablelm", dict(STABLELM, hidden_act="gelu"), "hidden_act"),
    ("stablelm", dict(STABLELM, rope_parameters=DYNAMIC), "dynamic"),
    ("phi3", dict(LLAMA, rope_parameters=LONG), "long_factor"),
    ("phi3", dict(LLAMA, hidden_act="gelu"), "hidden_act"),
    ("smollm3", dict(LLAMA, no_rope_layers=[1, 0, 1]), "no_rope_layers"),
    ("smollm3", dict(LLAMA, no_rope_layer_interval=3), "no_rope_layers"),
    ("smollm3", dict(LLAMA, use_sliding_window=True, sliding_window=17), "use_sliding_window"),
    ("smollm3", dict(LLAMA, attention_bias=True), "attention_bias"),
    ("smollm3", dict(LLAMA, mlp_bias=True), "mlp_bias"),
    ("granite", dict(LLAMA, attention_bias=True), "attention_bias"),
    ("granite", dict(LLAMA, mlp_bias=True), "mlp_bias"),
    ("granite", dict(LLAMA, hidden_act="gelu"), "hidden_act"),
]


def make_model(name, settings, seed):
    """A random model in float32 whose weights, biases and norms all matter.

    Embeddings enter small and the layers add much, so that a tied model does not just repeat its
    last token.
    """
    torch.manual_seed(seed)
    if name.endswith("Generation"):                  # a model of text is part of it
        config = transformers.Gemma3Config(
            text_config=settings, image_token_index=3, mm_tokens_per_image=4, vision_config=dict(
                hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                image_size=16, patch_size=8))
        suffix = ""
    else:
        config = getattr(transformers, name.replace("LMHead", "")
                         + ("TextConfig" if name == "Gemma3" else "Config"))(**settings)
        suffix = "Model" if name == "GPT2LMHead" else "ForCausalLM"
    config._attn_implementation = "eager"
    model = getattr(transformers, name + suffix)(config).eval()
    scale = config.get_text_config().hidden_size ** 0.5 if name.startswith("Gemma") else 1
    gain = 1.2 if any(re.search("gate_(up_)?proj", key)
                      for key, _ in model.named_parameters()) else 1.8
    with torch.no_grad():
        for key, weight in model.named_parameters():
            noise = torch.randn_like(weight)
            if weight.dim() == 1:
                weight.add_(0.2 * noise)
            elif re.search(r"embed|\.w[tp]e\.", key):
                weight.copy_(0.15 / scale * noise)
            else:                                   # GPT-2's Conv1D, .c_..., is turned
                weight.copy_(gain / weight.shape[".c_" not in key] ** 0.5 * noise)
            if re.search(LAST_NORM, key):           # for logits of some size
                weight.add_(scale * (1 + 0.2 * torch.randn_like(weight)))
            if "embeddings_layernorm" in key:       # BLOOM's norm makes embeddings large again
                weight.mul_(0.15)
    return model


def make_tokenizer():
    """Byte-level BPE as large as the models' vocabulary, trained on the demo's texts."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.train(sorted(glob.glob(os.path.join(ROOT, "demo", "text", "*.eval.txt"))),
               tokenizers.trainers.BpeTrainer(
                   vocab_size=VOCAB, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False,
                   initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made)


def save(model, tokenizer, form, folder):
    """Saves a model in one of FORMS; what it rounds is rounded in the model too. "bin" is what
    transformers 4 and older saved."""
    form, dtype = form
    for weight in model.parameters():
        weight.data = weight.data.to(dtype).float()
    model = copy.deepcopy(model).to(dtype)
    tokenizer.save_pretrained(folder)
    if form == "bin":
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), os.path.join(folder, "pytorch_model.bin"))
        return
    model.save_pretrained(folder, max_shard_size="60KB" if form == "shards" else "1GB")
    if (len(glob.glob(os.path.join(folder, "*.safetensors"))) > 1) != (form == "shards"):
        raise RuntimeError("%s are not what transformers saved" % form)


def activations_of(model):
    """The activation module of every layer."""
    base = getattr(model, "model", None) or model.transformer
    layers = getattr(base, "decoder", getattr(base, "language_model", base))
    layers = getattr(layers, "layers", None) or layers.h
    for layer in layers:
        mlp = getattr(layer, "mlp", layer)
        yield next(getattr(mlp, name) for name in ("act_fn", "activation_fn", "gelu_impl", "act")
                   if hasattr(mlp, name))


@contextlib.contextmanager
def watched(model, ablated=None):
    """Two lists that get each layer's gates and activations. ablated: {layer: neurons set to 0}."""
    gates, activations, handles = [], [], []

    def keep(layer):
        def hook(module, inputs, output):
            gates.append(inputs[0].flatten(0, -2))
            activations.append(output.flatten(0, -2))
            if ablated and layer in ablated:
                output = output.clone()
                output[..., ablated[layer]] = 0
            return output
        return hook
    for layer, module in enumerate(activations_of(model)):
        handles.append(module.register_forward_hook(keep(layer)))
    try:
        with torch.no_grad():
            yield gates, activations
    finally:
        for handle in handles:
            handle.remove()


def push(model, ids, ablated=None):
    """Logits [T, V], gates and activations [L, T, F]."""
    with watched(model, ablated) as (gates, activations):
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    return logits, torch.stack(gates), torch.stack(activations)


def continued(model, ids, ablated=None):
    """The greedy tokens after ids, as transformers generates them, with its cache."""
    prompt = torch.tensor([ids])
    with watched(model, ablated):
        return model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=GREEDY, do_sample=False,
            pad_token_id=0)[0, len(ids):].tolist()


@contextlib.contextmanager
def no_float32():
    """What asks for float32 of a double gets double."""
    to, softmax, single = torch.Tensor.to, torch.nn.functional.softmax, torch.Tensor.float

    def wider(dtype):
        return torch.float64 if dtype in (torch.float32, torch.float) else dtype

    torch.Tensor.to = lambda self, *a, **k: (
        to(self, *map(wider, a), **{n: wider(v) for n, v in k.items()}))
    torch.Tensor.float = lambda self, *a, **k: to(self, torch.float64)
    torch.nn.functional.softmax = lambda x, dim=-1, dtype=None, **k: softmax(x, dim=dim)
    try:
        yield
    finally:
        torch.Tensor.to, torch.nn.functional.softmax, torch.Tensor.float = to, softmax, single


def in_double(model, path):
    """The same model in double: what the file at path holds in float32, rounded so, and rotary
    frequencies that are double throughout."""
    wide, config = type(model)(model.config).eval().double(), model.config.get_text_config()
    wide.load_state_dict(model.state_dict())
    factors = [t.data for t in gguf.GGUFReader(path).tensors if t.name == "rope_freqs.weight"]
    for module in wide.modules():
        if re.fullmatch("Gemma.*RMSNorm", type(module).__name__):     # stored as 1 + w
            module.weight.data = (1 + module.weight.float()).double() - 1
        if type(module).__name__ == "BloomGelu":     # writes sqrt(2 / pi) with eight digits
            module.forward = lambda x: torch.nn.functional.gelu(x, approximate="tanh")
        for name in ("eps", "variance_epsilon", "scaling", "logit_scale", "embedding_multiplier",
                     "residual_multiplier"):
            if isinstance(getattr(module, name, None), float) and (
                    name != "scaling" or type(module).__name__.startswith(IN_FILE)):
                setattr(module, name, float(np.float32(getattr(module, name))))
        for name in list(module._buffers):
            if name.endswith("inv_freq"):
                module._buffers[name] = exact_frequencies(module, name, config, factors)
            elif name == "embed_scale":
                module._buffers[name] = torch.tensor(float(config.hidden_size) ** .5,
                                                     dtype=torch.float64)
    return wide


def exact_frequencies(module, name, config, factors):
    """base^(-2 i / d), divided by the model's linear factor, or by the factors in its file."""
    n = len(module._buffers[name])
    kind = re.sub("_?(original_)?inv_freq$", "", name)
    parameters = config.rope_parameters[kind] if kind else config.rope_parameters
    exact = float(parameters["rope_theta"]) ** (-torch.arange(n, dtype=torch.float64) / n)
    if parameters["rope_type"] == "linear":
        return exact / parameters["factor"]
    return exact / torch.tensor(np.array(factors[0])).double() if factors else exact


class Bench:
    """One model: its folder as transformers saved it, and what lape makes of it."""

    def __init__(self, options, tokenizer, folder):
        self.options, self.tokenizer, self.folder = options, tokenizer, folder

    def at(self, name):
        return os.path.join(self.folder, name)

    def call(self, *command):
        return subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True)

    def run(self, *command):
        done = self.call(*command)
        if done.returncode:
            raise RuntimeError("%s: %s" % (" ".join(map(str, command[:3])), done.stderr.strip()))
        return done.stdout

    def convert(self, model, form):
        save(model, self.tokenizer, form, self.at("hf"))
        return sys.executable, CONVERT, "hf", self.at("hf"), "-o", self.at("model.gguf"), "-q"

    def hide(self, key):
        """Takes a value out of the file, as it were: its key is one that nobody asks for."""
        with open(self.at("model.gguf"), "rb+") as file:
            head = file.read(1 << 16)
            if head.count(key.encode()) != 1:
                raise RuntimeError("%s does not stand once in the file" % key)
            file.seek(head.index(key.encode()))
            file.write(key.upper().encode())

    def trace(self, program, ids, point):
        np.save(self.at("ids.npy"), np.array(ids, dtype="<i4"))
        self.run(program, "trace", self.at("model.gguf"), self.at("ids.npy"), "--at", point, "-o",
                 self.at("trace.npy"), "--seq", max(2, len(ids)))
        return torch.from_numpy(np.load(self.at("trace.npy")))

    def compare(self, model, form, seed):
        """What one model differs by; raises what is wrong with it."""
        self.run(*self.convert(model, form))
        if model.config.get_text_config().num_hidden_layers == WIDE_LAYERS:
            self.hide("gemma2.attention.scale")
        ids = np.random.default_rng(seed).integers(3, VOCAB, TOKENS).tolist()
        logits, gates, activations = push(model, ids)
        found = {"logits": worst(self.trace(self.options.lape, ids, "logits"), logits)}
        for point, theirs in (("gate", gates), ("act", activations)):
            ours = self.trace(self.options.lape, ids, point).reshape(theirs.shape)
            found[point] = max(worst(a, b) / max(1, b.abs().max().item())
                               for a, b in zip(ours, theirs))
        wide = in_double(model, self.at("model.gguf"))
        with no_float32():
            exact = push(wide, ids)[0]
        found["double"] = worst(self.trace(self.options.lape64, ids, "logits"), exact)
        found["size"] = logits.abs().max().item()
        found["counts"] = self.count(gates)
        off = self.draw_neurons()
        found["perplexity"] = self.perplexities(model, ids, logits, off)
        found.update(self.greedy(model, off))
        return found

    def count(self, gates):
        """How many counts of the text differ, all being within the near-zero bound."""
        self.run(self.options.lape, "count", self.at("model.gguf"), "xx=" + self.at("ids.npy"),
                 "--seq", TOKENS, "-q", "-o", self.at("counts.gguf"))
        of = {t.name: torch.from_numpy(np.array(t.data))
              for t in gguf.GGUFReader(self.at("counts.gguf")).tensors}
        ours, theirs = (gates > 0).sum(1), of["xx.positive"]
        if not ((ours >= theirs - of["xx.near_above"])
                & (ours <= theirs + of["xx.near_below"])).all():
            raise RuntimeError("counts are beyond the bound")
        return int((ours != theirs).sum())

    def draw_neurons(self):
        """Random neurons, by layer, that neurons.tsv gives to the language xx."""
        self.run(self.options.lape, "find", self.at("counts.gguf"), "--method", "random", "--top",
                 "0.3", "--filter", "0", "--bar", "0", "-q", "-o", self.at("neurons.tsv"))
        off = collections.defaultdict(list)
        with open(self.at("neurons.tsv")) as file:
            for line in file:
                if line[0].isdigit():
                    layer, neuron, _, languages, *_ = line.split("\t")
                    if languages != "xx":
                        raise RuntimeError("neuron of %s" % languages)
                    off[int(layer)].append(int(neuron))
        return off

    def perplexities(self, model, ids, logits, off):
        """The relative error of perplexity, plain and with the neurons at 0."""
        rows = self.run(self.options.lape, "ppl", self.at("model.gguf"), "xx=" + self.at("ids.npy"),
                        "--seq", TOKENS, "-q", "--neurons", self.at("neurons.tsv")).splitlines()
        ablated = push(model, ids, off)[0]
        if worst(ablated, logits) < 1e-2 or len(rows) != 3:
            raise RuntimeError("ablation changes nothing")
        return max(abs(float(row.split("\t")[1]) / perplexity(x, ids) - 1)
                   for row, x in zip(rows[1:], (logits, ablated)))

    def greedy(self, model, off):
        """How many tokens after the prompts are transformers' own, of how many, and how many
        different ones there are. No token may be less likely than another beyond rounding."""
        with open(self.at("prompts.txt"), "w", encoding="utf-8") as file:
            file.write("\n".join(PROMPTS))
        equal, seen = 0, set()
        switches = ["--neurons", self.at("neurons.tsv"), "--off", "xx"]
        for ablated, words in ((None, []), (off, switches)):
            _, *rows, _ = self.run(self.options.lape, "generate", self.at("model.gguf"), "-f",
                            self.at("prompts.txt"), "-n", GREEDY, *words).split("\n")
            for prompt, row in zip(PROMPTS, rows, strict=True):
                ids = self.tokenizer(prompt)["input_ids"]
                ours = [int(word) for word in row.split("\t")[2].split()]
                theirs = continued(model, ids, ablated)
                if (len(ours), len(theirs)) != (GREEDY, GREEDY):
                    raise RuntimeError("%d and %d tokens" % (len(ours), len(theirs)))
                logits = push(model, ids + ours, ablated)[0][len(ids) - 1:-1]
                behind = (logits.amax(-1) - logits[range(GREEDY), ours]).max().item()
                if behind > SINGLE:
                    raise RuntimeError("a greedy token is %g below the likeliest" % behind)
                equal += next((i for i in range(GREEDY) if ours[i] != theirs[i]), GREEDY)
                seen |= set(ours)
        return {"equal": equal, "greedy": 2 * GREEDY * len(PROMPTS), "distinct": len(seen)}

    def refuse(self, model, word):
        """Says what convert.py says, which is one line about the word and leaves no file."""
        done = self.call(*self.convert(model, FORMS[0]))
        if done.returncode != 1 or os.path.exists(self.at("model.gguf")) or (
                done.stderr.count("\n") != 1 or word not in done.stderr):
            raise RuntimeError("not refused: %s" % (done.stderr.strip() or "converted"))
        return done.stderr.split("config.json: ")[-1].strip()


def perplexity(logits, ids):
    loss = torch.nn.functional.cross_entropy(logits[:-1].double(), torch.tensor(ids[1:]))
    return loss.exp().item()


def worst(a, b):
    if a.shape != b.shape:
        raise RuntimeError("shapes %s and %s" % (tuple(a.shape), tuple(b.shape)))
    return (a.double() - b.double()).abs().max().item()


def read_tokenizers():
    """{kind: {"lines": N, "different": N}} as tokenizing.py found; {} when it has not run."""
    if not os.path.exists(RESULTS):
        return {}
    with open(RESULTS) as file:
        return json.load(file)


LINES = "lines tokenized otherwise"
HEADER = ["family", "tokenizer", LINES, "models", "gates off by", "logits off by", "in double",
          "greedy tokens equal"]
NOT_RUN = "not run"


def table_row(family, found, results):
    """The cells of a family's row: the worst of each measure, and the sum of its tokenizers'."""
    name, kinds = TOKENIZERS[family]
    lines = NOT_RUN if kinds else "-"
    if kinds and all(kind in results for kind in kinds):
        lines = "{:,} of {:,}".format(*(sum(results[kind][key] for kind in kinds)
                                        for key in ("different", "lines")))
    figures = ["%.1e" % max(f[key] for f in found) for key in ("gate", "logits", "double")]
    greedy = "{:,} of {:,}".format(*(sum(f[key] for f in found) for key in ("equal", "greedy")))
    return [family, name, lines, str(len(found)), *figures, greedy]


def as_text(rows):
    return "".join("| %s |\n" % " | ".join(row) for row in [HEADER] + rows).replace(
        "\n", "\n|%s\n" % ("---|" * len(HEADER)), 1)


def table_differs(rows):
    """Where doc/checking.md's table is not this run's, or None. What was not run is passed over;
    the tokenizers' texts may be others."""
    old = [line.strip("| \n").split(" | ") for line in between(DOCUMENT, "families").splitlines()]
    if [HEADER] + [row[:1] for row in rows] != old[:1] + [row[:1] for row in old[2:]]:
        return "other columns or families"
    for new, theirs in zip(rows, old[2:]):
        for column, a, b in zip(HEADER, new, theirs):
            if column == LINES:
                a, b = a.split(" of ")[0], b.split(" of ")[0]
            figures = all(re.fullmatch(r"\d\.\de[-+]\d+", cell) for cell in (a, b))
            if a not in (b, NOT_RUN) and not (figures and float(a) <= FACTOR * float(b)):
                return "%s, %s: %s there, %s here" % (new[0], column, b, a)
    return None


def examine(what, name, settings, seed, options, tokenizer):
    """What `what` found of a model on a bench, or None, and what is to be said of it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = what(Bench(options, tokenizer, folder), make_model(name, settings, seed))
        except Exception as e:
            return None, "%s: %s" % (type(e).__name__, str(e).replace("\n", " "))
    if isinstance(found, str):
        return found, found
    return found, " ".join("%s %.2g" % item if isinstance(item[1], float) else "%s %d" % item
                           for item in found.items())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lape", default=LAPE)
    parser.add_argument("--lape64", default=os.path.join(ROOT, "lape64"))
    parser.add_argument("--only", default="", help="families whose name holds this")
    parser.add_argument("--table", action="store_true", help="write doc/checking.md's table")
    parser.add_argument("--tokenizers", action="store_true", help="demand their results")
    options = parser.parse_args()
    torch.set_num_threads(1)           # the models are too small for more
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer, checks, rows, results = make_tokenizer(), Checks(), [], read_tokenizers()
    for family, (name, models) in FAMILIES.items():
        if options.only not in family:
            continue
        all_found = []
        for i, settings in enumerate(models):
            form = FORMS[i % len(FORMS)]
            found, said = examine(lambda bench, model: bench.compare(model, form, i), name,
                                  settings, i, options, tokenizer)
            beyond = [key for key, most in LIMITS.items() if found and not found[key] <= most]
            checks.say(found and not beyond, " ".join(["%s %d:" % (family, i), said, *beyond]))
            all_found += [found] if found else []
        if len(all_found) == len(models):
            rows.append(table_row(family, all_found, results))
    for family, settings, word in REFUSED:
        if options.only in family:
            found, said = examine(lambda bench, model: bench.refuse(model, word),
                                  FAMILIES[family][0], settings, 0, options, tokenizer)
            checks.say(found, "%s refused: %s" % (family, said))
    print(as_text(rows), end="")
    lacking = NOT_RUN in {row[2] for row in rows}
    if lacking and options.tokenizers:
        checks.say(False, "tokenizers: test/oracle/tokenizing.py has not left build/tokenizers.json")
    elif lacking:
        print("tokenizers: not run")
    if options.table and not checks.failed and not options.only:
        between(DOCUMENT, "families", as_text(rows))
    elif not options.only:
        wrong = table_differs(rows)
        checks.say(not wrong, "doc/checking.md's table" + (
            ": %s; --table writes it" % wrong if wrong else ""))
    sys.exit(checks.end() or not checks.passed)


if __name__ == "__main__":
    main()
