#!/usr/bin/env python3
"""lape beside its rivals, in turns on the same machine: a table, and no verdict of a test.

    make bench [BENCH="--runs 5 --only gemm,count --large MODEL.gguf"]

Every figure is run --runs times, lape and its rival one after the other, and the ratio is made of
each such pair; medians are told, and the least and greatest ratio. The machine's own limits come
first. Wants what test/oracle/requirements.txt holds and Debian's libopenblas0; llama.cpp's rows want
what `make peers` makes. A row whose rival is not there says so.
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
import report
import tokenizing

BENCH = os.path.join(ROOT, "build", "bench")
LIBRARY_RATES, TIME_AND_PEAK = (os.path.join(ROOT, "test", "bench", name)
                                for name in ("library_rates.py", "time_and_peak.py"))
LLAMA_PYTHON = os.path.join(ROOT, ".peers", "bin", "python")
TEXTS = os.path.join(SHARED, "text")
GEMMS = {"LLaMA-2-7B": [(512, 4096, 4096), (512, 11008, 4096), (512, 4096, 11008)],
         "demo": [(1024, 128, 128), (1024, 1024, 128), (1024, 128, 1024)]}
# TinyLlama-1.1B's shape, of random weights.
BILLION = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048,
           "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
           "num_key_value_heads": 4, "vocab_size": 32000, "max_position_embeddings": 4096,
           "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
           "hidden_act": "silu", "torch_dtype": "bfloat16"}


class Bench:
    """The options, a folder for models and ids, and the table as it grows."""

    def __init__(self, args, folder):
        self.args, self.folder, self.rows = args, folder, []
        self.configs = {"demo's shape": demo_config(), "1.1B": BILLION,
                        "4 layers of it": dict(BILLION, num_hidden_layers=4)}

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
        path = self.path("ids.%d.%d.bin" % (vocab, count))
        np.random.default_rng(0).integers(3, vocab, count).astype("<u2").tofile(path)
        return path

    def tell(self, what, target, ours, theirs, unit, rival):
        """A row; the ratio of every pair. Rivals that are not there leave theirs empty."""
        if None in theirs:
            theirs = []
        ratios = [a / b for a, b in zip(ours, theirs)]
        missed = bool(ratios) and not good(ratios, target)
        row = (what, "%.4g %s" % (median(ours), unit),
               "%s %.4g %s" % (rival, median(theirs), unit) if theirs else rival + ": absent",
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


def rival(name, *words):
    """(rate, peak bytes of no file) of library_rates.py; (None, 0) where its library is absent."""
    python = LLAMA_PYTHON if name == "llama" and os.path.exists(LLAMA_PYTHON) else sys.executable
    done, figures = measured(python, LIBRARY_RATES, name, *words, stdout=subprocess.PIPE)
    if not figures:
        print("absent: %s: %s" % (name, done.stderr.strip().split("\n")[-1]), flush=True)
        return None, 0
    return json.loads(done.stdout.strip().split("\n")[-1]), figures[2]


def in_turns(runs, *works):
    """What each work gives in each run: one after the other, so that each sees the same machine."""
    return zip(*[[work() for work in works] for _ in range(runs)])


# ---- Rows ----------------------------------------------------------------------------------------

def gemm(bench):
    for name, shapes in GEMMS.items():
        for shape in shapes:
            for threads in sorted({1, bench.args.threads}):
                def ours(kind):
                    out = run(BENCH, "--gemm", "%d,%d,%d" % shape, "-t", threads, "--type",
                              kind)
                    return float(re.search(r"([0-9.]+) GFLOP/s", out)[1])

                blas, f32, bf16 = in_turns(
                    bench.args.runs, lambda: rival("sgemm", *shape, "-t", threads)[0],
                    lambda: ours("f32"), lambda: ours("bf16"))
                for kind, rates in ("f32", f32), ("bf16", bf16):
                    bench.tell("%s, %d x %d x %d, %s, -t %d" % ((name,) + shape + (kind, threads)),
                               ">= 0.95", rates, blas, "GFLOP/s", "OpenBLAS")


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
        bench.tell("count, %s, f32" % name, ">= 1.5", f32, [rate for rate, _ in hooks], "tokens/s",
                   "transformers")
        bench.tell("its peak of memory", "<= 0.5", [1e-6 * peak for _, peak in rates[0]],
                   [1e-6 * peak for _, peak in hooks], "MB", "transformers")
        bench.tell("count, %s, f32" % name, ">= 1.0", f32, llama, "tokens/s", "llama.cpp")
        bench.tell("count, %s, bf16" % name, ">= 1.0", bf16, llama_bf16, "tokens/s", "llama.cpp")


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
    took, peaks, _ = zip(*[timed(LAPE, "info", large) for _ in range(bench.args.runs)])
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


ROWS = {f.__name__: f for f in (gemm, threads, start, tokenizer, count, attention, generate)}


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
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, args.folder or folder)
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
