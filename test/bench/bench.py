#!/usr/bin/env python3
"""lape beside its rivals, in turns on the same machine: a table, and no verdict of a test.

    make bench [BENCH="--runs 5 --only gemm,count --large MODEL.gguf"]

Every figure is run --runs times, lape and its rival one after the other, and the ratio is made of
each such pair; medians are told, and the least and greatest ratio. The machine's own limits come
first. Wants what test/oracle/requirements.txt holds and Debian's libopenblas0; llama.cpp's rows want
what `make peers` makes, and the rows of published models those that LAPE_REAL (../shared/real:.models)
has. A row whose rival is not there says so.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np

from paths import DEMO, LAPE, ROOT, SHARED
import published
import report
import tokenizing

BENCH = os.path.join(ROOT, "build", "bench")
LIBRARY_RATES, TIME_AND_PEAK = (os.path.join(ROOT, "test", "bench", name)
                                for name in ("library_rates.py", "time_and_peak.py"))
LLAMA_PYTHON = os.path.join(ROOT, ".peers", "bin", "python")
TEXTS = os.path.join(SHARED, "text")
GEMMS = {"LLaMA-2-7B": [(512, 4096, 4096), (512, 11008, 4096), (512, 4096, 11008)],
         "Qwen2.5 0.5B": [(512, 4864, 896), (512, 896, 4864)],
         "demo": [(1024, 128, 128), (1024, 1024, 128), (1024, 128, 1024)]}
# TinyLlama-1.1B's shape, of random weights.
BILLION = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048,
           "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
           "num_key_value_heads": 4, "vocab_size": 32000, "max_position_embeddings": 4096,
           "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
           "hidden_act": "silu", "torch_dtype": "bfloat16"}
QWEN = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896,
        "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": True, "hidden_act": "silu"}
GEMMA = {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_size": 640,
         "intermediate_size": 2048, "num_hidden_layers": 18, "num_attention_heads": 4,
         "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144,
         "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
         "rope_local_base_freq": 1e4, "sliding_window": 512, "sliding_window_pattern": 6,
         "query_pre_attn_scalar": 256, "hidden_activation": "gelu_pytorch_tanh",
         "tie_word_embeddings": True}
GEMMA_FILE = "gemma-3-270m-q4_k_m.gguf"


class Bench:
    """The options, a folder for models and ids, and the table as it grows."""

    def __init__(self, args, folder):
        self.args, self.folder, self.rows = args, folder, []
        self.configs = {"demo's shape": demo_config(), "1.1B": BILLION,
                        "4 layers of it": dict(BILLION, num_hidden_layers=4),
                        "Qwen2.5 0.5B's shape": QWEN, "Gemma 3 270M's shape": GEMMA}
        self.peak = None                 # of the registers, on all threads, in GFLOP/s

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def config(self, name):
        """The folder of a config.json."""
        os.makedirs(self.path(name), exist_ok=True)
        with open(self.path(name, "config.json"), "w", encoding="utf-8") as f:
            json.dump(self.configs[name], f)
        return self.path(name)

    def random_model(self, name, kind):
        """A GGUF of random weights; made once."""
        model = self.path("%s.%s.gguf" % (name, kind))
        if not os.path.exists(model):
            run(sys.executable, os.path.join(ROOT, "tools", "convert.py"), "random",
                os.path.join(self.config(name), "config.json"), "-o", model, "-q", "--type", kind)
        return model

    def random_ids(self, count, vocab):
        path = self.path("ids.%d.%d.npy" % (vocab, count))
        np.save(path, np.random.default_rng(0).integers(3, vocab, count).astype("<u4"))
        return path

    def tell(self, what, target, ours, theirs, unit, rival):
        """A row; the ratio of every pair. Rivals that are not there leave theirs empty."""
        if None in theirs:
            theirs = []
        ratios = [a / b for a, b in zip(ours, theirs)]
        missed = bool(ratios) and not good(ratios, target)
        row = (what, "%.4g %s" % (median(ours), unit),
               "%s %.4g %s" % (rival, median(theirs), unit) if theirs else rival + ": no figure",
               spread(ratios), target + missed * ": missed")
        self.rows.append(row)
        print("; ".join(row), flush=True)


def good(ratios, target):
    sign, bound = target.split()
    return median(ratios) >= float(bound) if sign == ">=" else median(ratios) <= float(bound)


def demo_config():
    """The demo model's, from what `lape info` says of it, for longer pieces."""
    info = dict(line.split(": ", 1) for line in run(LAPE, "info", DEMO).splitlines()
                if ": " in line)
    heads = re.match(r"(\d+) of (\d+), (\d+)", info["heads"])
    return dict(BILLION, hidden_size=int(info["width"]), num_hidden_layers=int(info["layers"]),
                intermediate_size=int(info["neurons"].split()[0]),
                num_attention_heads=int(heads[1]), num_key_value_heads=int(heads[3]),
                vocab_size=int(info["vocabulary"].split(",")[0]), tie_word_embeddings=True)


def operations(config, length, output=False):
    """Of a token's weights and, in pieces of so many, its attention; in GFLOP. The output is not
    computed where counts alone are wanted."""
    width, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim", width // heads)
    attention = width * head * (2 * heads + 2 * config["num_key_value_heads"])
    layer = attention + 3 * width * config["intermediate_size"] + heads * head * (length + 1)
    return 2e-9 * (config["num_hidden_layers"] * layer + output * width * config["vocab_size"])


def median(values):
    return sorted(values)[len(values) // 2]


def spread(values):
    return "%.3g (%.3g to %.3g)" % (median(values), min(values), max(values)) if values else "-"


def machine(threads):
    """What it is, and its limits: the part of the table that no program can pass."""
    with open("/proc/cpuinfo") as f:
        name = re.search("model name\\s*: (.*)", f.read())
    limits = run(BENCH, "-t", threads).splitlines()
    return "%s, %d threads, load %.2f; %s" % (name[1] if name else platform.machine(), threads,
                                             os.getloadavg()[0], "; ".join(limits))


def run(*words):
    done = subprocess.run([str(w) for w in words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit("%s: %s" % (" ".join(map(str, words)), done.stderr.strip()[-500:]))
    return done.stdout


def measured(*words, **streams):
    """A process that has ended, and its (seconds, peak bytes, those of no file), or None."""
    done = subprocess.run([sys.executable, "-S", TIME_AND_PEAK, *map(str, words)], cwd=ROOT,
                          text=True, stderr=subprocess.PIPE, **streams)
    if done.returncode:
        return done, None
    seconds, peak, own = done.stderr.split()[-3:]
    return done, (float(seconds), int(peak), int(own))


def timed(*words, stdin=None):
    """(seconds, peak bytes, those of no file) of a process whose output nobody wants."""
    with open(stdin or os.devnull, "rb") as source:
        done, figures = measured(*words, stdin=source, stdout=subprocess.DEVNULL)
    return figures or sys.exit("%s: %s" % (" ".join(map(str, words)), done.stderr.strip()[-500:]))


def rival(name, *words, **environment):
    """(rate, peak bytes of no file) of library_rates.py; (None, 0) where its library is absent, or
    fails."""
    llama = name.startswith("llama") and os.path.exists(LLAMA_PYTHON)
    done, figures = measured(LLAMA_PYTHON if llama else sys.executable, LIBRARY_RATES, name, *words,
                             stdout=subprocess.PIPE, env={**os.environ, **environment})
    if not figures:
        print("no figure: %s: %s" % (name, done.stderr.strip().split("\n")[-1]), flush=True)
        return None, 0
    return json.loads(done.stdout.strip().split("\n")[-1]), figures[2]


def in_turns(runs, *works):
    """What each work gives in each run: one after the other, so that each sees the same machine."""
    return zip(*[[work() for work in works] for _ in range(runs)])


# ---- Rows ----------------------------------------------------------------------------------------

def blas_kinds():
    """OpenBLAS's kernels to try: those that it chooses itself, and those for AVX-512, which it does
    not choose on every processor that has them."""
    with open("/proc/cpuinfo") as f:
        return [{}] + [{"OPENBLAS_CORETYPE": "SKYLAKEX"}] * ("avx512f" in f.read())


def best_product(shape, threads):
    """Of OpenBLAS with any of its kernels, and MKL."""
    words = (*shape, "-t", threads)
    rates = [rival("sgemm", *words, **kind)[0] for kind in blas_kinds()] + [
        rival("mkl", *words)[0]]
    return max((rate for rate in rates if rate), default=None)


def product_rate(program, shape, threads, kind="f32"):
    out = run(program, "--gemm", "%d,%d,%d" % shape, "-t", threads, "--type", kind)
    return float(re.search(r"([0-9.]+) GFLOP/s", out)[1])


def gemm(bench):
    for name, shapes in GEMMS.items():
        for shape in shapes:
            for threads in sorted({1, bench.args.threads}):
                best, f32, bf16 = in_turns(
                    bench.args.runs, lambda: best_product(shape, threads),
                    lambda: product_rate(BENCH, shape, threads),
                    lambda: product_rate(BENCH, shape, threads, "bf16"))
                for kind, rates in ("f32", f32), ("bf16", bf16):
                    bench.tell("%s, %d x %d x %d, %s, -t %d" % ((name,) + shape + (kind, threads)),
                               ">= 1.0", rates, best, "GFLOP/s", "OpenBLAS or MKL")


def avx2(bench):
    """The same built for x86-64-v3, beside OpenBLAS's kernels for AVX2."""
    program = bench.path("bench-avx2")
    if platform.machine() != "x86_64":
        return
    run("make", "-B", "build/bench", "CFLAGS=-O3 -march=x86-64-v3")
    shutil.copy(BENCH, program)
    run("make", "build/bench")
    for name in "LLaMA-2-7B", "Qwen2.5 0.5B":
        for shape in GEMMS[name]:
            ours, blas = in_turns(
                bench.args.runs, lambda: product_rate(program, shape, 1),
                lambda: rival("sgemm", *shape, OPENBLAS_CORETYPE="HASWELL")[0])
            bench.tell("AVX2, %d x %d x %d, f32, -t 1" % shape, ">= 1.0", ours, blas, "GFLOP/s",
                       "OpenBLAS's Haswell")


def count(bench):
    """One piece of 2048 tokens where a model is large, many where it is small. Of memory, what is
    no file's: the pages of mapped weights are the system's to drop."""
    for name, tokens, batches in ("demo's shape", 65536, (1, 2, 4, 8)), ("1.1B", 2048, (1,)):
        ids = bench.random_ids(tokens, bench.configs[name]["vocab_size"])
        words = ids, 2048, "-t", bench.args.threads
        models = {kind: bench.random_model(name, kind) for kind in ("f32", "bf16")}

        def ours(kind):
            spent, _, own = timed(LAPE, "count", models[kind], "en=" + ids, "--seq", 2048, "-q",
                                  "-t", bench.args.threads, "-o", bench.path("counts.gguf"))
            return tokens / spent, own

        hooks, *rates = in_turns(
            bench.args.runs, lambda: rival("hooks", bench.config(name), *words, "--batch", *batches),
            lambda: ours("f32"), lambda: rival("llama", models["f32"], *words),
            lambda: ours("bf16"), lambda: rival("llama", models["bf16"], *words))
        f32, llama, bf16, llama_bf16 = ([rate for rate, _ in turn] for turn in rates)
        bench.tell("count, %s, f32" % name, ">= 1.5" if tokens > 2048 else ">= 1.2", f32,
                   [rate for rate, _ in hooks], "tokens/s", "transformers")
        for kind, rate in ("f32", f32), ("bf16", bf16):
            tell_share(bench, "count, %s, %s" % (name, kind), rate,
                       operations(bench.configs[name], 2048))
        bench.tell("its peak of memory", "<= 0.5", [1e-6 * peak for _, peak in rates[0]],
                   [1e-6 * peak for _, peak in hooks], "MB", "transformers")
        bench.tell("count, %s, f32" % name, ">= 1.0", f32, llama, "tokens/s", "llama.cpp")
        bench.tell("count, %s, bf16" % name, ">= 1.0", bf16, llama_bf16, "tokens/s", "llama.cpp")


def tell_share(bench, what, rates, each):
    """Of the registers' peak, of so many GFLOP a token."""
    bench.tell(what, ">= 0.8", [rate * each for rate in rates], [bench.peak] * len(rates),
               "GFLOP/s", "registers")


def shapes(bench):
    """Counting on the shapes of two small published models, random weights in f32."""
    for name in "Qwen2.5 0.5B's shape", "Gemma 3 270M's shape":
        model, config = bench.random_model(name, "f32"), bench.configs[name]
        for length, batches in (128, (1, 2, 4, 8)), (1024, (1, 2)):
            tokens = 8192
            ids = bench.random_ids(tokens, config["vocab_size"])
            ours, hooks = in_turns(
                bench.args.runs, lambda: tokens / timed(
                    LAPE, "count", model, "en=" + ids, "--seq", length, "-q", "-t",
                    bench.args.threads, "-o", bench.path("counts.gguf"))[0],
                lambda: rival("hooks", bench.config(name), ids, length, "-t", bench.args.threads,
                              "--batch", *batches)[0])
            what = "count, %s, f32, --seq %d" % (name, length)
            bench.tell(what, ">= 1.15", ours, hooks, "tokens/s", "transformers")
            tell_share(bench, what, ours, operations(config, min(length, 512)))


def quantised(bench):
    """Gemma 3 270M as it is published, in Q4_K_M."""
    model, threads = next(iter(published.files(GEMMA_FILE)), None), bench.args.threads
    if not model:
        return
    plain, tokens, runs = bench.random_model("Gemma 3 270M's shape", "f32"), 8192, bench.args.runs
    ids = bench.random_ids(tokens, GEMMA["vocab_size"])

    def count_rate(path):
        return tokens / timed(LAPE, "count", path, "en=" + ids, "--seq", 512, "-q", "-t", threads,
                              "-o", bench.path("counts.gguf"))[0]

    q4, f32, llama, steps, llama_steps, copied = in_turns(
        runs, lambda: count_rate(model), lambda: count_rate(plain),
        lambda: rival("llama", model, ids, 512, "-t", threads)[0],
        lambda: run(BENCH, model, "--seq", 2, "-n", 40, "-t", threads),
        lambda: rival("llama_steps", model, ids, 40, "-t", threads)[0],
        lambda: copy_rate(threads))
    rate, weights = zip(*[re.search(r"([0-9.]+) tokens/s, ([0-9.]+) GB/s", out).groups()
                          for out in steps])
    bench.tell("count, Gemma 3 270M in Q4_K_M, --seq 512", ">= 0.95", q4, f32, "tokens/s", "its F32")
    bench.tell("count, Gemma 3 270M in Q4_K_M, --seq 512", ">= 1.0", q4, llama, "tokens/s",
               "llama.cpp's prefill")
    bench.tell("generate, Gemma 3 270M in Q4_K_M", ">= 0.4", [float(x) for x in weights], copied,
               "GB/s", "copying")
    bench.tell("generate, Gemma 3 270M in Q4_K_M", ">= 0.7", [float(x) for x in rate], llama_steps,
               "tokens/s", "llama.cpp")
    q8, copied = in_turns(runs, lambda: product_rate(BENCH, (1, 262144, 640), threads, "q8_0"),
                          lambda: copy_rate(threads))
    bench.tell("one token's output in Q8_0, 262144 x 640", ">= 0.7",
               [each * 34 / 32 / 2 for each in q8], copied, "GB/s", "copying")
    matrix(bench, model)
    together(bench, model)


def matrix(bench, model):
    """Perplexities with every language off: eight rows, seven texts."""
    names, tokens = ("en", "zh", "fr", "es", "vi", "id", "ja"), 256
    files = ["%s=%s" % (name, os.path.join(ROOT, "demo", "text", name + ".%s.txt"))
             for name in names]
    counts, neurons, table = (bench.path(name) for name in ("m.gguf", "m.tsv", "ppl.tsv"))
    options = "--seq", 128, "-t", bench.args.threads, "-q"
    run(LAPE, "count", model, *[name % "count" for name in files], "--tokens", 1024, *options, "-o",
        counts)
    run(LAPE, "find", counts, "-q", "-o", neurons)
    rows = (1 + len(names)) * len(names) * tokens
    rates = [rows / timed(LAPE, "ppl", model, *[name % "eval" for name in files], "--tokens", tokens,
                          "--neurons", neurons, *options, "-o", table)[0]
             for _ in range(bench.args.runs)]
    tell_share(bench, "ppl, Gemma 3 270M in Q4_K_M, a matrix of 8 rows", rates,
               operations(GEMMA, 128, True))


def together(bench, model):
    """Twelve prompts in one run, and in runs of their own."""
    with open(os.path.join(ROOT, "demo", "prompts", "en.txt"), encoding="utf-8") as f:
        prompts = f.read().splitlines()[:12]
    paths = [bench.path("prompts.txt")] + [bench.path("prompt.%d.txt" % i) for i in range(12)]
    for path, lines in zip(paths, [prompts] + [[line] for line in prompts]):
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")

    def seconds(path):
        return timed(LAPE, "generate", model, "-f", path, "-n", 20, "-q", "-t", bench.args.threads,
                     "-o", bench.path("generated.tsv"))[0]

    group, alone = in_turns(bench.args.runs, lambda: seconds(paths[0]),
                            lambda: sum(seconds(path) for path in paths[1:]))
    bench.tell("generate -f, 12 prompts, 20 tokens each, Gemma 3 270M", ">= 6",
               [12 * 20 / each for each in group], [12 * 20 / each for each in alone], "tokens/s",
               "one by one")


def attention(bench):
    """Its share of the time beside its share of the operations, of one piece of 4096 tokens."""
    length, c = 4096, BILLION
    model = bench.random_model("4 layers of it", "bf16")
    width, head = c["hidden_size"], c["hidden_size"] // c["num_attention_heads"]
    keys = 2 * head * c["num_key_value_heads"]
    products = 2 * length * (2 * width * width + width * keys + 3 * width * c["intermediate_size"])
    scores = 2 * 2 * width * length * (length + 1) / 2
    fair = scores / (scores + products)
    out = run(BENCH, model, "--profile", "--seq", length, "--batch", 1, "-n", 1, "-t",
              bench.args.threads)
    share = float(re.search(r"^heads +([0-9.]+) %", out, re.M)[1]) / 100
    bench.tell("attention's share, 1.1B's shape, 4096 tokens", "<= 1.5", [share], [fair], "of the time",
               "of the operations")


def generate(bench):
    """Bytes of weights that a token reads, beside what copying reads and writes."""
    for kind in "f32", "bf16":
        model = bench.random_model("1.1B", kind)

        def ours():
            out = run(BENCH, model, "--seq", 2, "--batch", 1, "-n", 16, "-t",
                      bench.args.threads)
            return float(re.search(r"one by one.* ([0-9.]+) GB/s", out)[1])

        a, b = in_turns(bench.args.runs, ours, lambda: copy_rate(bench.args.threads))
        bench.tell("generate, 1.1B, " + kind, ">= 0.8", a, b, "GB/s", "copying")


def copy_rate(threads):
    return float(re.search(r"copying: ([0-9.]+)", run(BENCH, "-t", threads))[1])


def threads(bench):
    for name, model, tokens in (("demo model", DEMO, 65536),
                                ("4 layers of 1.1B", bench.random_model("4 layers of it", "bf16"),
                                 4096)):
        ids = bench.random_ids(tokens, 2048)

        def with_threads(n):
            return tokens / timed(LAPE, "count", model, "en=" + ids, "--seq", 1024, "-q", "-t", n,
                                  "-o", bench.path("counts.gguf"))[0]

        two, one = in_turns(bench.args.runs, lambda: with_threads(2), lambda: with_threads(1))
        bench.tell("count, %s, -t 2" % name, ">= 1.9", two, one, "tokens/s", "-t 1")


def start(bench):
    """All that comes before the first weight is read, of a large model."""
    large = bench.args.large or bench.random_model("1.1B", "bf16")
    size = os.path.getsize(large)
    took, _, peaks = zip(*[timed(LAPE, "info", large) for _ in range(bench.args.runs)])
    bench.tell("start on %.1f GB" % (1e-9 * size), "<= 1", took, [.1] * len(took), "s", "the limit")
    bench.tell("its peak of memory", "<= 0.01", [1e-6 * peak for peak in peaks],
               [1e-6 * size] * len(peaks), "MB", "the file")


def tokenizer(bench):
    """Lines of seven languages; of both kinds of tokenizer, learnt from them."""
    folder = bench.path("tokenizers")
    shutil.rmtree(folder, ignore_errors=True)      # of an earlier run that kept its folder
    os.makedirs(folder)
    lines = [line for path in tokenizing.texts(os.path.dirname(TEXTS))
             for line in tokenizing.read(path).split("\n")]
    for kind, make, name in (
            ("spm", lambda: tokenizing.SentencePiece(tokenizing.TRAININGS[0], folder, lines),
             "sentencepiece"),
            ("llama-bpe", lambda: tokenizing.ByteLevel("llama-bpe", tokenizing.trained, lines),
             "tokenizers")):
        reference = make()
        lape = tokenizing.Lape(LAPE, reference, kind, folder, kind)
        source = {"spm": getattr(reference, "model", "") + ".model",
                  "llama-bpe": os.path.join(folder, kind, "tokenizer.json")}[kind]
        text = bench.path("lines.txt")
        with open(text, "w", encoding="utf-8") as out:
            out.write("\n".join(lines))
        size = 1e-6 * os.path.getsize(text)

        def ours():
            return size / timed(LAPE, "tokenize", lape.path, "--lines", "-q", stdin=text)[0]

        a, b = in_turns(bench.args.runs, ours, lambda: rival(name, source, text)[0])
        bench.tell("tokenize, " + kind, ">= 2", a, b, "MB/s", name)


ROWS = {f.__name__: f for f in (gemm, avx2, threads, start, tokenizer, count, shapes, quantised,
                                attention, generate)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=5, help="of every figure (5)")
    parser.add_argument("-t", dest="threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", help="rows: " + ",".join(ROWS))
    parser.add_argument("--large", metavar="GGUF", help="for the start (the 1.1B model)")
    parser.add_argument("--write", metavar="FILE", help="the table goes between its marks `bench`")
    parser.add_argument("--folder", help="for models and ids, kept (one of its own)")
    args = parser.parse_args()
    names = args.only.split(",") if args.only else ROWS
    limits = machine(args.threads)
    print(limits, flush=True)
    if args.folder:
        os.makedirs(args.folder, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, args.folder or folder)
        bench.peak = float(re.search("registers: ([0-9.]+)", limits)[1])
        for name in names:
            ROWS[name](bench)
    if args.write:
        report.between(args.write, "bench", table(limits, args.runs, bench.rows))


def table(limits, runs, rows):
    lines = ["| what | lape | against | ratio | wanted |", "|---|---|---|---|---|",
             *("| %s |" % " | ".join(row) for row in rows)]
    return "%s. Medians of %d runs; ratio (least to greatest).\n\n%s\n" % (
        limits, runs, "\n".join(lines))


if __name__ == "__main__":
    main()
