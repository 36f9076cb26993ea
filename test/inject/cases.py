"""Every command of lape, with every option that makes it read or write something else, on tiny
models: what inject.py and surroundings.py let go wrong.

A case runs in a folder of its own, `out` beside `in`, which has what is read. It is judged by its
run when nothing goes wrong.
"""

import os
import random
import struct
import subprocess

from paths import LAPE, ROOT   # first: it lets the other folders be looked in
import tiny

SHIM = os.path.join(ROOT, "build", "inject", "fail.so")
OLDER = b"an older result\n"
SECONDS = 60
TEXTS = {"en": b"the weather in the mountains is fine, and the cab is back at a hut by the lake.\n"
               b"abc cab bac\nwho reads? my sister does\n",
         "fr": b"le temps est beau en montagne, et le train arrive \xc3\xa0 la gare vers midi.\n"
               b"la baca abab\nqui lit ? ma s\xc5\x93ur\n"}
PROMPTS = b"the weather\nle temps\nabc\n"


class Case:
    """A command; the files that lie where it runs; what may be left when it fails."""

    def __init__(self, name, words, stdin=b"", files=None, status=0, loud=False, resumable=False):
        self.name, self.stdin, self.files = name, stdin, dict(files or {})
        self.status, self.loud, self.resumable = status, loud, resumable
        self.words = words.split() + ([] if loud or name.startswith("help") else ["-q"])
        self.writes = "-o" in self.words

    def start_files(self, older):
        """With or without an older file where the result goes."""
        return {**({"out": OLDER} if older and "out" in self.words else {}), **self.files}


# ---- What is read ----------------------------------------------------------------------------

def quantised(model):
    """Its down projections in a type that has no zeros, which bake has to widen."""
    rng = random.Random(4)
    for name, tensor in model["tensors"].items():
        if "ffn_down" in name:
            tensor["type"] = tiny.Q4_0
            tensor["raw"] = b"".join(struct.pack("<e", .05) + rng.randbytes(16)
                                     for _ in range(tiny.WIDTH))
    return model


def split(model):
    """The two files that it becomes."""
    names = list(model["tensors"])
    parts = []
    for number, mine in enumerate((names[:9], names[9:])):
        values = {"split.no": (tiny.U16, number), "split.count": (tiny.U16, 2),
                  "split.tensors.count": (tiny.I32, len(names))}
        parts.append({"magic": b"GGUF", "version": 3,
                      "values": dict(model["values"], **values) if number == 0 else values,
                      "tensors": {name: model["tensors"][name] for name in mine}})
    return parts


def npy(ids):
    header = ("{'descr': '<i4', 'fortran_order': False, 'shape': (%d,), }" % len(ids)).ljust(117)
    return b"\x93NUMPY\1\0" + struct.pack("<H", 118) + header.encode() + b"\n" + struct.pack(
        "<%di" % len(ids), *ids)


def models():
    byte_level = tiny.with_tokenizer(tiny.byte_level())
    parts = split(tiny.with_tokenizer(tiny.byte_level()))
    return {"model": byte_level, "quantised": quantised(tiny.with_tokenizer(tiny.byte_level())),
            "pieces": tiny.with_tokenizer(tiny.sentencepiece()),
            "plain": tiny.with_tokenizer(tiny.byte_level(), "gpt2"),
            "vocabulary": {**byte_level, "tensors": {}},
            "split-00001-of-00002.gguf": parts[0], "split-00002-of-00002.gguf": parts[1]}


def make_inputs(folder):
    """What all cases read: by hand, or by lape when nothing goes wrong."""
    def write(name, data):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)

    def lape(*words):
        subprocess.run([LAPE, *words, "-q"], cwd=folder, check=True)

    for name, model in models().items():
        write(name, tiny.to_bytes(model))
    for label, text in TEXTS.items():
        write(label + ".txt", text)
    ids = list(TEXTS["en"])
    write("en.npy", npy(ids))
    write("en.bin", struct.pack("<%dH" % len(ids), *ids))
    write("prompts.txt", PROMPTS)
    write("full.txt", b"abc cab. it is\nab ab, so\n")
    write("part.txt", b"abc cab.\nab ab,\n")
    texts = ["en=en.txt", "fr=fr.txt", "--seq", "8"]
    lape("count", "model", *texts, "-o", "counts")
    for shard in "12":
        lape("count", "model", *texts, "--shard", shard + "/2", "-o", "shard" + shard)
    for name in "full", "part":
        lape("count", "model", "en=%s.txt" % name, "--lines", "-o", name)
    for name, top in ("neurons", ".3"), ("few", ".1"):
        lape("find", "counts", "--top", top, "--filter", ".3", "--bar", ".3", "-o", name)


# ---- The cases ---------------------------------------------------------------------------------

TWO = "en=../in/en.txt fr=../in/fr.txt --seq 8"
STEERED = "--neurons ../in/neurons --counts ../in/counts --off en --on fr"
SAVING = "count ../in/model -t 1 --batch 12 --save-every 1e-9 " + TWO
FIND = "find ../in/counts --filter .3 --bar .3 --top .2"


def read_cases():
    """Those that print, and write no file."""
    return [
        Case("help", "-h"), Case("help count", "count -h"), Case("help version", "--version"),
        *[Case("info " + what, "info ../in/" + what) for what in (
            "model", "quantised", "pieces", "vocabulary", "split-00001-of-00002.gguf", "counts",
            "neurons")],
        Case("tokenize", "tokenize ../in/model", TEXTS["fr"]),
        Case("tokenize --lines --bos", "tokenize ../in/pieces --lines --bos", b"abc ab\ncc\n"),
        Case("tokenize --decode", "tokenize ../in/model --decode", b"104 101 260 108\n"),
        Case("tokenize --decode --lines", "tokenize ../in/vocabulary --decode --lines",
             b"104 101\n99\n"),
        Case("diff", "diff ../in/counts ../in/counts --langs fr,en"),
        Case("find", FIND),
        Case("ppl", "ppl ../in/model -t 1 " + TWO),
        Case("generate -p", "generate ../in/model -t 1 -n 6 -p the"),
        Case("generate -f", "generate ../in/model -t 1 -n 6 -f ../in/prompts.txt --temp 1 "
             "--top-p .9 --repeat-penalty 1.2 --seed 5"),
    ]


def count_cases(saved):
    count = "count ../in/model -t 1 " + TWO
    return [
        Case("count", count + " -o out"),
        Case("count, loud", count + " -o out", loud=True),
        Case("count --bos --batch 2 -t 2", "count ../in/model -t 2 --batch 2 --bos -o out " + TWO),
        Case("count --lines --near", "count ../in/pieces -t 1 en=../in/part.txt --lines --near 1 "
             "-o out"),
        Case("count --of product --tokens", count + " --of product --tokens 32 -o out"),
        Case("count --shard", count + " --shard 2/2 -o out"),
        Case("count of .npy", "count ../in/model -t 1 en=../in/en.npy --seq 8 -o out"),
        Case("count of .bin, split model", "count ../in/split-00001-of-00002.gguf -t 1 "
             "en=../in/en.bin --seq 8 -o out"),
        Case("count of -", "count ../in/model -t 1 en=- --seq 8 -o out", TEXTS["en"]),
        Case("count --save-every", SAVING + " -o out", resumable=True),
        Case("count --resume", SAVING + " --resume -o out", files={"out.partial": saved},
             resumable=True),
        Case("count beside a saved one", count + " -o out", files={"out.partial": saved}),
    ]


def write_cases():
    return [
        Case("merge", "merge ../in/shard1 ../in/shard2 -o out"),
        Case("merge --minus", "merge ../in/full --minus ../in/part -o out"),
        Case("find -o", FIND + " -o out"),
        Case("find -o LINK", FIND + " -o link", files={"link": ("target",), "target": OLDER}),
        *[Case("find " + more, "%s %s -o out" % (FIND, more)) for more in (
            "--method lap", "--method lave", "--method random --seed 3", "--penalty .1",
            "--method random --like ../in/few", "--langs fr,en")],
        Case("ppl --neurons", "ppl ../in/model -t 1 --neurons ../in/neurons -o out " + TWO),
        Case("ppl --off-how mean", "ppl ../in/model -t 2 --lines en=../in/part.txt -o out "
             "--neurons ../in/neurons --counts ../in/counts --off-how mean"),
        Case("generate -p -o", "generate ../in/plain -t 1 -n 40 -p the -o out"),
        Case("generate -f -o, steered", "generate ../in/model -t 1 -n 4 -f ../in/prompts.txt -o out "
             "--how diffmean --strength 2 " + STEERED),
        Case("bake", "bake ../in/model --neurons ../in/neurons --off en -o out"),
        Case("bake quantised, --any-model", "bake ../in/quantised --neurons ../in/neurons --off fr "
             "--any-model -o out"),
        Case("trace embd", "trace ../in/model ../in/en.txt --at embd -t 1 --tokens 20 -o out"),
        Case("trace logits -t 2", "trace ../in/model ../in/en.bin --at logits --seq 8 --bos -t 2 "
             "--tokens 16 -o out"),
    ]


def in_place(folder):
    """A sum that takes the place of a part of it; and what must not."""
    with open(os.path.join(folder, "in", "shard1"), "rb") as file:
        shard = file.read()
    return [Case("merge in place", "merge out ../in/shard2 -o out", files={"out": shard}),
            Case("find onto what it reads", "find out --top .2 -o out", files={"out": shard},
                 status=2)]


class Place:
    """A folder with what is read, and one to run in that is set anew for every run."""

    def __init__(self, folder):
        self.folder = folder
        self.out = os.path.join(folder, "out")
        for name in "in", "out":
            os.mkdir(os.path.join(folder, name))
        make_inputs(os.path.join(folder, "in"))

    def set(self, files):
        for name in os.listdir(self.out):
            os.remove(os.path.join(self.out, name))
        for name, data in files.items():
            path = os.path.join(self.out, name)
            if isinstance(data, tuple):
                os.symlink(data[0], path)
                continue
            with open(path, "wb") as file:
                file.write(data)

    def found(self):
        """name -> bytes, or where a link points to."""
        files = {}
        for name in os.listdir(self.out):
            path = os.path.join(self.out, name)
            if os.path.islink(path):
                files[name] = (os.readlink(path),)
                continue
            with open(path, "rb") as file:
                files[name] = file.read()
        return files

    def cases(self):
        return read_cases() + count_cases(self.saved()) + write_cases() + in_place(self.folder)

    def saved(self):
        """What --save-every leaves of a count that fails after its third save."""
        self.set({})
        environment = {"LD_PRELOAD": SHIM, "FAIL_CALL": "rename", "FAIL_AT": "4", "FAIL_TOLD": "2"}
        subprocess.run([LAPE, *SAVING.split(), "-o", "out", "-q"], cwd=self.out,
                       env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
        return self.found().get("out.partial", b"")


def run(case, place, environment=None, told=None, wrap=(), before=None, **streams):
    """Exit status (None: it hangs), what it printed and said, and what lies there then. `before` is
    called in the new process; streams take the place of the pipes."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    try:
        done = subprocess.run([*wrap, LAPE, *case.words], cwd=place.out, input=case.stdin,
                              timeout=SECONDS, env={**os.environ, **(environment or {})},
                              pass_fds=[told] if told else [], preexec_fn=before, **streams)
    except subprocess.TimeoutExpired:
        return None, b"", b"", place.found()
    return done.returncode, done.stdout or b"", done.stderr or b"", place.found()
