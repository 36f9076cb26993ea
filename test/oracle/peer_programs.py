"""Both programs at work on the same files, for peer_*.py, and quantised_selection.py.

llama.cpp comes as the library of llama-cpp-python. Its source, for convert_hf_to_gguf.py and the
published vocabularies, lies where LLAMA_CPP says.
"""

import collections
import ctypes
import multiprocessing
import os
import subprocess
import sys

from paths import ROOT
from report import Checks

os.environ.update(HF_HUB_OFFLINE="1", GGML_NO_BACKTRACE="1")
LLAMA_CPP = os.path.join(ROOT, ".peers", "llama.cpp")
sys.path[:0] = [LLAMA_CPP, os.path.join(LLAMA_CPP, "gguf-py")]   # its converter wants its own gguf

import gguf                                                                  # noqa: E402
import llama_cpp                                                             # noqa: E402
import numpy as np                                                           # noqa: E402

TEXTS = os.path.join(ROOT, "demo", "text")


def run(*command, data=None):
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, input=data)
    if done.returncode:
        raise RuntimeError(done.stderr.decode().strip())
    return done.stdout


def contents(path):
    """The metadata and the tensors of a file."""
    file = gguf.GGUFReader(path)
    return ({f.name: f.contents() for f in file.fields.values() if f.name[:5] != "GGUF."},
            {t.name: t for t in file.tensors})


def rewrite(path, to, key=("",), change=lambda t: (t.data, t.tensor_type)):
    """A copy of a file with one key removed, (key,), or added or changed, (key, value, type); and
    with other tensors: change(tensor) has what each becomes, and its type, None for numpy's own."""
    file = gguf.GGUFReader(path)
    w = gguf.GGUFWriter(to, file.fields["general.architecture"].contents())
    for f in file.fields.values():
        if f.name[:5] != "GGUF." and f.name not in ("general.architecture", key[0]):
            w.add_key_value(f.name, f.contents(), *f.types[:1] + f.types[1:][-1:])
    if len(key) > 1:
        w.add_key_value(*key)
    for t in file.tensors:
        data, kind = change(t)
        w.add_tensor(t.name, data, raw_dtype=kind)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def dequantized(tensor):
    """Its numbers in float32, [rows, columns]."""
    return np.array(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)


def quantise(path, to, name, pure=False):
    """By llama.cpp: its mix of types of that name; if pure, all matrices in the one of the name."""
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.pure = getattr(llama_cpp, "LLAMA_FTYPE_" + name), pure
    settings.nthread, settings.allow_requantize = 2, True
    if llama_cpp.llama_model_quantize(path.encode(), to.encode(), ctypes.byref(settings)):
        raise RuntimeError("llama.cpp does not quantise it")


def types_of(path):
    """Of the matrices of a file, how many are of which type."""
    return collections.Counter(t.tensor_type.name for t in contents(path)[1].values()
                               if len(t.shape) > 1)


# ---- The two programs -----------------------------------------------------------------------

def load(path, n_ctx=256, **more):
    """A model in llama.cpp, with keys and values in F32."""
    return llama_cpp.Llama(path, n_ctx=n_ctx, type_k=0, type_v=0, n_threads=2, verbose=False,
                           **more)


def save_logits(path, ids, to):
    llm = load(path, n_ctx=max(256, len(ids)), logits_all=True)
    llm.eval(ids)
    np.save(to, np.array(llm.scores[:len(ids)]))


class Bench:
    """A folder, and both programs at work in it."""

    def __init__(self, lape, folder):
        self.lape, self.folder = lape, folder

    def at(self, name):
        return os.path.join(self.folder, name)

    def ours(self, path, ids):
        """The logits by lape."""
        np.save(self.at("ids.npy"), np.array(ids, dtype="<i4"))
        run(self.lape, "trace", path, self.at("ids.npy"), "--at", "logits", "-o",
            self.at("ours.npy"), "--seq", len(ids))
        return np.load(self.at("ours.npy"))

    def theirs(self, path, ids):
        """The logits by llama.cpp, in a process of its own: it aborts on what it cannot run. Not
        in a fork of this one, whose threads of OpenMP, PyTorch's, a fork would wait for."""
        to = self.at("theirs.npy")
        work = multiprocessing.get_context("forkserver").Process(target=quiet, args=(
            save_logits, path, ids, to))
        work.start()
        work.join()
        if work.exitcode:
            raise RuntimeError("llama.cpp does not run it")
        return np.load(to)

    def tokens(self, path, text, *flags):
        out = run(self.lape, "tokenize", path, *flags, data=text.encode()).decode()
        return [list(map(int, line.split())) for line in out.split("\n")[:-1]]


def quiet(work, *args):
    """Does work without a word on standard output or error, which ggml's aborts would write to."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    work(*args)


@llama_cpp.llama_log_callback
def ignored(level, text, data):
    """llama.cpp's log."""


def relative(a, b):
    """The largest difference by the largest number of b."""
    if a.shape != b.shape:
        raise RuntimeError("shapes %s and %s" % (a.shape, b.shape))
    return float(abs(a.astype(np.float64) - b).max() / abs(b).max())


class Report(Checks):
    """Keeps the worst measure of each check by family."""

    def __init__(self):
        super().__init__()
        self.most = collections.defaultdict(dict)
        self.models, self.alone = collections.Counter(), collections.defaultdict(set)

    def measure(self, family, column, what, bound, work):
        def small():
            value = work()
            self.most[family][column] = max(value, self.most[family].get(column, 0))
            return value <= bound, "%.1e" % value
        self.check("%s, %s" % (what, column), small)

    def table(self, columns):
        """A row for every family: the worst of each measure."""
        lines = ["| family | models | " + " | ".join(columns) + " |", "|---" * 10 + "|"]
        for family, most in self.most.items():
            lines.append("| %s | %d | %s |" % (family, self.models[family], " | ".join(
                "%.1e" % most[c] if c in most else "?" for c in columns)))
        return "\n".join(lines)
