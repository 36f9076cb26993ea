#!/usr/bin/env python3
"""Every family of models against transformers: tiny random models, made and saved by transformers,
converted by tools/convert.py, run by lape and lape64.

    python test/families.py [--lape ./lape] [--lape64 ./lape64] [--only FAMILY]

For every model: logits, gates and activations in float32; logits of lape64 against the reference in
double; counts within the near-zero bound; greedy tokens, plain and with random neurons at 0.
transformers computes norms, softmax and rotary tables in float32 even in a model of doubles: in
the double reference these are computed in double. Prints a table with a row for every family.
"""

import argparse
import collections
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1")

import gguf                                                                  # noqa: E402
import numpy as np                                                           # noqa: E402
import torch                                                                 # noqa: E402
import transformers                                                          # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONVERT = os.path.join(ROOT, "tools", "convert.py")
VOCAB, TOKENS, GREEDY = 331, 90, 32
SINGLE, DOUBLE = 1e-4, 1e-9        # what logits may differ by

# Settings that the classes name alike; every model adds its own.
PLAIN = dict(vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, pad_token_id=0)
LLAMA = dict(PLAIN, hidden_size=72, intermediate_size=200, num_hidden_layers=3,
             num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=128)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
              high_freq_factor=4.0, original_max_position_embeddings=32)
LINEAR = dict(rope_type="linear", rope_theta=10000.0, factor=2.5)
GPT2 = dict(PLAIN, n_embd=48, n_layer=3, n_head=4, n_positions=128)
OPT = dict(PLAIN, hidden_size=48, ffn_dim=100, num_hidden_layers=3, num_attention_heads=4,
           max_position_embeddings=128, word_embed_proj_dim=48)
BLOOM = dict(PLAIN, hidden_size=48, n_layer=3, n_head=4)
GEMMA = dict(LLAMA, head_dim=20, rms_norm_eps=1e-6)

# family: class, then the settings of each of its models
FAMILIES = {
    "llama": ("Llama", [
        dict(LLAMA), dict(LLAMA, num_key_value_heads=6, tie_word_embeddings=True),
        dict(LLAMA, rope_parameters=LLAMA3, head_dim=16), dict(LLAMA, rope_parameters=LINEAR)]),
    "mistral": ("Mistral", [
        dict(LLAMA, sliding_window=17), dict(LLAMA, head_dim=20, sliding_window=None),
        dict(LLAMA, num_key_value_heads=1, sliding_window=64)]),
    "qwen2": ("Qwen2", [
        dict(LLAMA), dict(LLAMA, num_key_value_heads=6, tie_word_embeddings=True),
        dict(LLAMA, num_key_value_heads=1, rms_norm_eps=1e-5)]),
    "qwen3": ("Qwen3", [
        dict(LLAMA, head_dim=12), dict(LLAMA, head_dim=20, tie_word_embeddings=True),
        dict(LLAMA, head_dim=16, num_key_value_heads=6)]),
    "gpt2": ("GPT2LMHead", [
        dict(GPT2), dict(GPT2, n_inner=75), dict(GPT2, n_head=3, n_embd=42, n_layer=2)]),
    "opt": ("OPT", [
        dict(OPT), dict(OPT, num_attention_heads=3, enable_bias=True), dict(OPT, ffn_dim=77)]),
    "bloom": ("Bloom", [
        dict(BLOOM), dict(BLOOM, n_head=6), dict(BLOOM, n_head=3, hidden_size=42)]),
    "phi2": ("Phi", [
        dict(LLAMA, num_key_value_heads=6, partial_rotary_factor=0.5),
        dict(LLAMA, num_key_value_heads=6, num_attention_heads=6, hidden_size=96,
             partial_rotary_factor=0.5),
        dict(LLAMA, num_key_value_heads=6, hidden_size=120, partial_rotary_factor=0.4)]),
    "gemma": ("Gemma", [
        dict(GEMMA), dict(GEMMA, num_key_value_heads=1), dict(GEMMA, num_key_value_heads=6)]),
    "gemma2": ("Gemma2", [
        dict(GEMMA, num_hidden_layers=4, sliding_window=17, query_pre_attn_scalar=20),
        dict(GEMMA, num_hidden_layers=3, sliding_window=40, query_pre_attn_scalar=144),
        dict(GEMMA, num_hidden_layers=2, sliding_window=300, query_pre_attn_scalar=20,
             num_key_value_heads=6)]),
    "gemma3": ("Gemma3", [
        dict(GEMMA, num_hidden_layers=7, sliding_window=17, query_pre_attn_scalar=20),
        dict(GEMMA, num_hidden_layers=6, sliding_window=40, query_pre_attn_scalar=144),
        dict(GEMMA, num_hidden_layers=12, sliding_window=9, query_pre_attn_scalar=20,
             num_key_value_heads=6)]),
    "gemma3 that sees": ("Gemma3ForConditionalGeneration", [
        dict(GEMMA, num_hidden_layers=7, sliding_window=17, query_pre_attn_scalar=20,
             rope_scaling=dict(rope_type="linear", factor=8.0))]),
    "cohere": ("Cohere", [
        dict(LLAMA, logit_scale=0.25), dict(LLAMA, num_key_value_heads=6, logit_scale=0.0625),
        dict(LLAMA, num_key_value_heads=1)]),
}


def make_model(name, settings, seed):
    """A random model in float32 whose weights, biases and norms all matter."""
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
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.6 / weight.shape[-1] ** 0.5 if "embed" not in key else 0.5)
            else:
                weight.add_(torch.randn_like(weight) * 0.2)
    return model


def activations_of(model):
    """The activation module of every layer."""
    base = getattr(model, "model", None) or model.transformer
    layers = getattr(base, "decoder", getattr(base, "language_model", base))
    layers = getattr(layers, "layers", None) or layers.h
    for layer in layers:
        mlp = getattr(layer, "mlp", layer)
        yield next(getattr(mlp, name) for name in ("act_fn", "activation_fn", "gelu_impl", "act")
                   if hasattr(mlp, name))


def push(model, ids, ablated=None):
    """Logits [T, V], gates and activations [L, T, F]; ablated: {layer: neurons}."""
    gates, activations, handles = [], [], []

    def keep(layer):
        def hook(module, inputs, output):
            gates.append(inputs[0].reshape(len(ids), -1))
            activations.append(output.reshape(len(ids), -1))
            if ablated and layer in ablated:
                output = output.clone()
                output[..., ablated[layer]] = 0
            return output
        return hook
    for layer, module in enumerate(activations_of(model)):
        handles.append(module.register_forward_hook(keep(layer)))
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    for handle in handles:
        handle.remove()
    return logits, torch.stack(gates), torch.stack(activations)


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
        for name in ("eps", "variance_epsilon", "scaling"):
            if isinstance(getattr(module, name, None), float) and (
                    name != "scaling" or type(module).__name__.startswith(("Gemma2", "Gemma3"))):
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
    def __init__(self, options, folder):
        self.options, self.folder = options, folder

    def at(self, name):
        return os.path.join(self.folder, name)

    def run(self, *command):
        done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError("%s: %s" % (" ".join(map(str, command[:3])), done.stderr.strip()))
        return done.stdout

    def trace(self, program, ids, point):
        np.save(self.at("ids.npy"), np.array(ids, dtype="<i4"))
        self.run(program, "trace", self.at("model.gguf"), self.at("ids.npy"), "--at", point, "-o",
                 self.at("trace.npy"), "--seq", max(2, len(ids)))
        return torch.from_numpy(np.load(self.at("trace.npy")))

    def compare(self, model, seed):
        """What one model differs by; raises what is wrong with it."""
        model.save_pretrained(self.at("hf"))
        self.run(sys.executable, CONVERT, "hf", self.at("hf"), "-o", self.at("model.gguf"), "-q")
        rng = np.random.default_rng(seed)
        ids = rng.integers(3, VOCAB, TOKENS).tolist()
        logits, gates, activations = push(model, ids)
        found = {"logits": worst(self.trace(self.options.lape, ids, "logits"), logits)}
        shape = gates.shape
        for point, ours in (("gate", gates), ("act", activations)):
            theirs = self.trace(self.options.lape, ids, point).reshape(shape)
            found[point] = worst(theirs, ours) / max(1, ours.abs().max().item())
        wide = in_double(model, self.at("model.gguf"))
        with no_float32():
            exact = push(wide, ids)[0]
        found["double"] = worst(self.trace(self.options.lape64, ids, "logits"), exact)
        found["size"] = logits.abs().max().item()
        found["counts"] = self.count(gates)
        found["ablated"] = self.ablate(model, ids, logits)
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

    def ablate(self, model, ids, logits):
        """The relative error of perplexity, plain and with random neurons at 0."""
        self.run(self.options.lape, "find", self.at("counts.gguf"), "--method", "random", "--top",
                 "0.3", "--filter", "0", "--bar", "0", "-q", "-o", self.at("neurons.tsv"))
        rows = self.run(self.options.lape, "ppl", self.at("model.gguf"), "xx=" + self.at("ids.npy"),
                        "--seq", TOKENS, "-q", "--neurons", self.at("neurons.tsv")).splitlines()
        off = collections.defaultdict(list)
        with open(self.at("neurons.tsv")) as file:
            for line in file:
                if line[0].isdigit():
                    off[int(line.split("\t")[0])].append(int(line.split("\t")[1]))
        ablated = push(model, ids, off)[0]
        if worst(ablated, logits) < 1e-2:
            raise RuntimeError("ablation changes nothing")
        return max(abs(float(row.split("\t")[1]) / perplexity(x, ids) - 1)
                   for row, x in zip(rows[1:], (logits, ablated)))


def perplexity(logits, ids):
    return torch.nn.functional.cross_entropy(logits[:-1].double(), torch.tensor(ids[1:])).exp().item()


def worst(a, b):
    if a.shape != b.shape:
        raise RuntimeError("shapes %s and %s" % (tuple(a.shape), tuple(b.shape)))
    return (a.double() - b.double()).abs().max().item()


def table(rows):
    """A row for every family: how many models, and the worst of each measure."""
    lines = ["| family | random models | logits off by | in double | perplexity, plain and ablated |",
             "|---|---|---|---|---|"]
    for family, found in rows.items():
        most = {key: max(f[key] for f in found) for key in ("logits", "double", "ablated")}
        lines.append("| %s | %d | %.1e | %.1e | %.1e |" % (
            family, len(found), most["logits"], most["double"], most["ablated"]))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lape", default=os.path.join(ROOT, "lape"))
    parser.add_argument("--lape64", default=os.path.join(ROOT, "lape64"))
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    passed, failed, rows = 0, 0, collections.defaultdict(list)
    for family, (name, models) in FAMILIES.items():
        if options.only not in family:
            continue
        for i, settings in enumerate(models):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    found = Bench(options, folder).compare(make_model(name, settings, i), i)
                    good = (found["logits"] <= SINGLE and found["double"] <= DOUBLE
                            and max(found["gate"], found["act"], found["ablated"]) <= SINGLE)
                    rows[family].append(found)
                    said = json.dumps({k: float("%.2g" % v) for k, v in found.items()})
                except Exception as e:
                    good, said = False, "%s: %s" % (type(e).__name__, e)
            passed, failed = passed + good, failed + (not good)
            print("%s %s %d: %s" % ("ok  " if good else "FAIL", family, i, said), flush=True)
    print(table(rows))
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
