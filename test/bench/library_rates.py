#!/usr/bin/env python3
"""What lape is timed against, each as a process of its own, which prints its rate.

    library_rates.py LIBRARY ...
        sgemm T O K          OpenBLAS, by ctypes: GFLOP/s of x [T, K] times w [O, K] transposed
        mkl T O K            the same by PyTorch, which has MKL
        hooks CONFIG IDS N   transformers with a hook on every gate: tokens/s, best batch size
        llama MODEL IDS N    llama.cpp's prefill, without hooks: tokens/s
        llama_steps MODEL IDS N     llama.cpp, N tokens one by one: tokens/s
        sentencepiece MODEL TEXT | tokenizers JSON TEXT     MB/s, line by line

-t N: threads. What is timed has been done once before, or a little of it.
"""

import argparse
import ctypes
import json
import statistics
import sys
import time


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def sgemm(args):
    import numpy as np
    tokens, outputs, inputs = map(int, args.words)
    blas = ctypes.CDLL("libopenblas.so.0")
    blas.openblas_set_num_threads(args.threads)
    random = np.random.default_rng(0)
    x = random.random((tokens, inputs), np.float32)
    w = random.random((outputs, inputs), np.float32)
    out = np.empty((tokens, outputs), np.float32)
    row_major, plain, transposed = 101, 111, 112
    whole, real = ctypes.c_int, ctypes.c_float
    pointer = ctypes.POINTER(real)

    def multiply():
        blas.cblas_sgemm(row_major, plain, transposed, whole(tokens), whole(outputs),
                         whole(inputs), real(1), x.ctypes.data_as(pointer), whole(inputs),
                         w.ctypes.data_as(pointer), whole(inputs), real(0),
                         out.ctypes.data_as(pointer), whole(outputs))

    flops = 2 * tokens * outputs * inputs
    times = 1 + int(2e9 / flops)
    multiply()
    spent = statistics.median(seconds(lambda: [multiply() for _ in range(times)]) for _ in range(5))
    if not np.allclose(out[0], x[0] @ w.T, rtol=1e-3):
        sys.exit("sgemm: not the product")
    return 1e-9 * flops * times / spent


def mkl(args):
    import torch
    torch.set_num_threads(args.threads)
    tokens, outputs, inputs = map(int, args.words)
    x, w, out = (torch.rand(rows, columns) for rows, columns in (
        (tokens, inputs), (outputs, inputs), (tokens, outputs)))
    flops = 2 * tokens * outputs * inputs
    times = 1 + int(2e9 / flops)
    torch.mm(x, w.t(), out=out)
    spent = statistics.median(seconds(lambda: [torch.mm(x, w.t(), out=out) for _ in range(times)])
                              for _ in range(5))
    return 1e-9 * flops * times / spent


def read_ids(path, count):
    import numpy as np
    return np.load(path)[:count].astype(np.int64)


def hooks(args):
    """As the paper's counting would be done on transformers: act_fn's output is counted."""
    import torch
    import transformers
    torch.set_num_threads(args.threads)
    config, length = transformers.AutoConfig.from_pretrained(args.words[0]), int(args.words[2])
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).model.eval()
    over = [torch.zeros(config.intermediate_size, dtype=torch.int64) for _ in model.layers]
    for layer, count in zip(model.layers, over):
        layer.mlp.act_fn.register_forward_hook(
            lambda module, x, act, count=count: count.add_((act > 0).sum((0, 1))))
    ids = torch.from_numpy(read_ids(args.words[1], None))
    rates = []
    with torch.no_grad():
        model(ids[None, :64], use_cache=False)
        for batch in args.batch:
            rows = ids[:batch * length].view(batch, length)
            rates.append(rows.numel() / seconds(lambda: model(rows, use_cache=False)))
    return max(rates)


def llama_model(args, length):
    import llama_cpp
    return llama_cpp.Llama(args.words[0], n_ctx=length, n_batch=length, n_threads=args.threads,
                           n_threads_batch=args.threads, verbose=False)


def llama(args):
    length = int(args.words[2])
    ids, model = read_ids(args.words[1], length).tolist(), llama_model(args, length)
    model.eval(ids[:64])
    model.reset()
    return length / seconds(lambda: model.eval(ids))


def llama_steps(args):
    steps = int(args.words[2])
    ids, model = read_ids(args.words[1], steps + 1).tolist(), llama_model(args, 512)
    model.eval(ids[:1])                          # which touches all pages
    return steps / seconds(lambda: [model.eval([i]) for i in ids[1:]])


def read_lines(path):
    with open(path, encoding="utf-8", newline="\n") as f:
        text = f.read()
    return text.split("\n"), 1e-6 * len(text.encode())


def sentencepiece(args):
    from sentencepiece import SentencePieceProcessor
    pieces = SentencePieceProcessor(model_file=args.words[0])
    lines, size = read_lines(args.words[1])
    return size / seconds(lambda: [pieces.encode(line) for line in lines])


def tokenizers(args):
    from tokenizers import Tokenizer
    known = Tokenizer.from_file(args.words[0])
    lines, size = read_lines(args.words[1])
    return size / seconds(lambda: [known.encode(line).ids for line in lines])


RIVALS = {f.__name__: f for f in (sgemm, mkl, hooks, llama, llama_steps, sentencepiece,
                                  tokenizers)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("rival", choices=RIVALS)
    parser.add_argument("words", nargs="+")
    parser.add_argument("-t", dest="threads", type=int, default=1)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2, 4])
    args = parser.parse_args()
    print(json.dumps(RIVALS[args.rival](args)))


if __name__ == "__main__":
    main()
