#!/usr/bin/env python3
"""Tests of tools/convert.py, by the standard library alone.

Every checkpoint, tokenizer and .pt file is made here byte by byte, tools/convert.py runs in a
process of its own, and what it writes is taken apart by a GGUF reader of our own. What is expected
of the numbers is worked out with struct, one at a time. The last line on stdout is
`N passed, N failed`; what is skipped is listed before it and counted in neither.
"""

import ast
import contextlib
import functools
import io
import json
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import tempfile
import traceback
import unittest
import unittest.mock
import warnings
import zipfile

from paths import LAPE, SHARED
import convert                       # so that processes forked from this one have all it needs
import report
from formats.gguf import Gguf as Reader, head_of

CONVERT = convert.__file__
try:
    import numpy                     # only so that processes forked from this one have it loaded
except ImportError:
    numpy = None
needs_numpy = unittest.skipUnless(numpy, "numpy is not installed")
OFFICIAL = os.path.join(SHARED, "official")
needs_official = unittest.skipUnless(os.path.isdir(OFFICIAL), "no " + OFFICIAL)
needs_lape = unittest.skipUnless(os.path.exists(LAPE), "no ./lape: make it first")


# ---- Numbers, one at a time -----------------------------------------------------------------

def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def bits_of(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


def bf16_bits(x):
    """The bfloat16 next to x, of two as near the even one."""
    low = bits_of(x) >> 16
    gap = bits_of(x) & 0xFFFF
    return low + (gap > 0x8000 or (gap == 0x8000 and low & 1))


def encode(numbers, dtype):
    """The bytes of numbers in one of safetensors' or GGUF's plain types."""
    if dtype == "BF16":
        return struct.pack("<%dH" % len(numbers), *map(bf16_bits, numbers))
    return struct.pack("<%d%s" % (len(numbers), {"F32": "f", "F16": "e"}[dtype]), *numbers)


def decode(raw, dtype):
    if dtype == "BF16":
        halves = struct.unpack("<%dH" % (len(raw) // 2), raw)
        return struct.unpack("<%df" % len(halves),
                             struct.pack("<%dI" % len(halves), *(h << 16 for h in halves)))
    size, letter = {"F32": (4, "f"), "F16": (2, "e")}[dtype]
    return struct.unpack("<%d%s" % (len(raw) // size, letter), raw)


def q8_0(numbers):
    """ggml's reference: d = amax / 127, q = roundf(x * (1 / d)), in float32 all the way."""
    out = b""
    for at in range(0, len(numbers), 32):
        block = numbers[at:at + 32]
        d = f32(max(map(abs, block)) / 127)
        inverse = f32(1 / d) if d else 0.0
        out += struct.pack("<e", d)
        for x in block:
            y = f32(x * inverse)
            q = int(abs(y) + 0.5)
            out += struct.pack("<b", -q if y < 0 else q)
    return out


# ---- Checkpoints ----------------------------------------------------------------------------

CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 64,
          "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
          "vocab_size": 12, "max_position_embeddings": 99, "rms_norm_eps": 1e-5,
          "rope_theta": 5000.0, "rope_scaling": None, "torch_dtype": "bfloat16",
          "hidden_act": "silu", "tie_word_embeddings": False}
WIDTH, HEADS, KV, HEAD, NEURONS, VOCAB = 32, 4, 2, 8, 64, 12
F32_TYPE, F16_TYPE, Q8_0_TYPE, I64_TYPE, BF16_TYPE = 0, 1, 8, 27, 30
GGML = {"F32": F32_TYPE, "F16": F16_TYPE, "BF16": BF16_TYPE}

OURS = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight"}
for _layer in range(2):
    for _theirs, _ours in (
            ("input_layernorm", "attn_norm"), ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"), ("post_attention_layernorm", "ffn_norm"),
            ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down")):
        OURS["model.layers.%d.%s.weight" % (_layer, _theirs)] = "blk.%d.%s.weight" % (
            _layer, _ours)


def shapes(layers=2, width=WIDTH, q=HEADS * HEAD, kv=KV * HEAD, neurons=NEURONS, vocab=VOCAB):
    """name -> shape of a LLaMA's tensors."""
    found = {"model.embed_tokens.weight": [vocab, width], "model.norm.weight": [width],
             "lm_head.weight": [vocab, width]}
    for layer in range(layers):
        for name, shape in (
                ("input_layernorm", [width]), ("self_attn.q_proj", [q, width]),
                ("self_attn.k_proj", [kv, width]), ("self_attn.v_proj", [kv, width]),
                ("self_attn.o_proj", [width, q]), ("post_attention_layernorm", [width]),
                ("mlp.gate_proj", [neurons, width]), ("mlp.up_proj", [neurons, width]),
                ("mlp.down_proj", [width, neurons])):
            found["model.layers.%d.%s.weight" % (layer, name)] = shape
    return found


def product(shape):
    size = 1
    for length in shape:
        size *= length
    return size


@functools.lru_cache(maxsize=None)
def random_weights(dtype, **sizes):
    rng = random.Random(1)
    return {name: (dtype, shape, encode([rng.gauss(0, 1) for _ in range(product(shape))], dtype))
            for name, shape in shapes(**sizes).items()}


def weights(dtype="BF16", **sizes):
    """name -> (dtype, shape, bytes) of a small random model, the same every time."""
    return dict(random_weights(dtype, **sizes))


def safetensors(tensors, metadata=True):
    header, data = {"__metadata__": {"format": "pt"}} if metadata else {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def paired(raw, rows, head):
    """llama.cpp's order of rows: h*d + 2*i + s comes from h*d + s*d/2 + i."""
    size = len(raw) // rows
    out = [None] * rows
    for h in range(rows // head):
        for i in range(head // 2):
            for s in range(2):
                row = h * head + s * head // 2 + i
                out[h * head + 2 * i + s] = raw[row * size:(row + 1) * size]
    return b"".join(out)


def expected(name, tensor, head=HEAD):
    """A tensor's bytes in a GGUF file that keeps its type."""
    dtype, shape, raw = tensor
    if len(shape) == 1:
        return encode(decode(raw, dtype), "F32")
    return paired(raw, shape[0], head) if "q_proj" in name or "k_proj" in name else raw


# ---- SentencePiece models -------------------------------------------------------------------

def varint(value):
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """One protobuf field: int and bool as varint, float as fixed32, str and bytes by length."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
PIECES = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL),
          ("a", -3.0, NORMAL), ("\u2581", -4.0, NORMAL), ("\u2581the", -0.5, None),
          ("\u8a9e", -1.25, NORMAL), ("<user>", 0.0, USER)]


def added(text, special=False, **flags):
    """What a file says of a token that is added to a vocabulary."""
    return dict({"content": text, "lstrip": False, "rstrip": False, "single_word": False,
                 "normalized": False, "special": special}, **flags)


def sentencepiece(pieces=PIECES, trainer=((3, 2),), normalizer=((4, 0),)):
    """A ModelProto; a piece without a type leaves the field out, as do all other defaults."""
    out = b""
    for text, score, kind in pieces:
        out += field(1, field(1, text) + field(2, score) + (field(3, kind) if kind else b""))
    return (out + field(2, b"".join(field(*item) for item in trainer))
            + field(3, b"".join(field(*item) for item in normalizer)))


# ---- .pt files ------------------------------------------------------------------------------

class Global:
    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    def __init__(self, function, *args):
        self.function, self.args = function, args


class Persistent:
    def __init__(self, identity):
        self.identity = identity


def pickled(value):
    """The pickle opcodes that make value, but for the frame around them."""
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        raw = value.to_bytes(10, "little", signed=True)
        return b"J" + raw[:4] if -1 << 31 <= value < 1 << 31 else b"\x8a\x0a" + raw
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(map(pickled, value)) + b"t"
    if isinstance(value, dict):
        return b"}(" + b"".join(pickled(k) + pickled(v) for k, v in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(pickled, value)) + b"e"
    if isinstance(value, Global):
        return ("c%s\n%s\n" % (value.module, value.name)).encode()
    if isinstance(value, Call):
        return pickled(value.function) + pickled(value.args) + b"R"
    if isinstance(value, Persistent):
        return pickled(value.identity) + b"Q"
    raise TypeError(value)


STORAGE = {"b": "CharStorage", "B": "ByteStorage", "h": "ShortStorage", "i": "IntStorage",
           "q": "LongStorage", "f": "FloatStorage", "e": "HalfStorage", "H": "BFloat16Storage"}


class Pt:
    """A .pt file in the making: tensors leave their storages here."""

    def __init__(self, order="<"):
        self.order, self.storages = order, {}

    def tensor(self, numbers, shape, letter="i", offset=0, strides=None, claim=None):
        key = str(len(self.storages))
        self.storages[key] = struct.pack("%s%d%s" % (self.order, len(numbers), letter), *numbers)
        if strides is None:
            strides = tuple(product(shape[i + 1:]) for i in range(len(shape)))
        storage = Persistent(("storage", Global("torch", STORAGE[letter]), key, "cpu",
                              len(numbers) if claim is None else claim))
        return Call(Global("torch._utils", "_rebuild_tensor_v2"), storage, offset, tuple(shape),
                    tuple(strides), False, Call(Global("collections", "OrderedDict")))

    def file(self, value, compression=zipfile.ZIP_STORED, order_entry=True, drop=()):
        """The bytes of the archive; value may be pickle opcodes already."""
        body = value if isinstance(value, bytes) else pickled(value)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", compression) as archive:
            if "data.pkl" not in drop:
                archive.writestr("x/data.pkl", b"\x80\x02" + body + b".")
            if order_entry:
                archive.writestr("x/byteorder", {"<": "little", ">": "big"}[self.order])
            for key, raw in self.storages.items():
                if key not in drop:
                    archive.writestr("x/data/" + key, raw)
        return out.getvalue()


def npy_file(kind, shape, numbers, start=b"\x93NUMPY\1\0"):
    """What numpy.save writes of an array."""
    header = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (kind, tuple(shape))
    size = 2 if start[6] == 1 else 4
    length = -(-(8 + size + len(header) + 1) // 64) * 64 - 8 - size
    return start + length.to_bytes(size, "little") + header.ljust(length - 1).encode() + b"\n" + (
        numbers)


def counts_file(numbers, shape, total, **options):
    """A plain activation file."""
    pt = Pt()
    return pt.file({"n": total, "over_zero": pt.tensor(numbers, shape, **options)})


# ---- GGUF -----------------------------------------------------------------------------------

class Gguf(Reader):
    """A GGUF file taken apart: keys name -> (type, value), tensors name -> (type, dims, raw).

    The type of an array is "[T]". Every offset, every byte of padding and the end are checked.
    """

    TYPES = {4: ("u32", "I"), 5: ("i32", "i"), 6: ("f32", "f"), 7: ("bool", "?"), 10: ("u64", "Q"),
             12: ("f64", "d")}
    SIZES = {F32_TYPE: (1, 4), F16_TYPE: (1, 2), Q8_0_TYPE: (32, 34), I64_TYPE: (1, 8),
             BF16_TYPE: (1, 2)}

    def __init__(self, path):
        super().__init__(path)
        self.raw, self.keys, infos, self.tensors = bytes(self.raw), self.values, self.tensors, {}
        assert self.raw[4:8] == struct.pack("<I", 3)
        start = at = self.skip_padding(self.at)
        for name, (dims, kind, offset) in infos.items():
            assert start + offset == at, name
            block, size = self.SIZES[kind]
            assert dims[0] % block == 0
            end = at + product(dims) // block * size
            self.tensors[name] = (kind, list(dims), self.raw[at:end])
            at = self.skip_padding(end)
        assert at == len(self.raw)

    def value(self, kind):
        if kind == 8:
            return "string", self.string()
        if kind == 9:
            kind, count = self.take("IQ")
            items = [self.value(kind) for _ in range(count)]
            return "[%s]" % items[0][0], [item for _, item in items]
        name, letter = self.TYPES[kind]
        return name, self.take(letter)[0]

    def skip_padding(self, at):
        end = at + -at % 32
        assert self.raw[at:end] == bytes(end - at)
        return end


# ---- The tests ------------------------------------------------------------------------------

# As if numpy were not installed: what has it, or has seen that it is there, is imported anew.
WITHOUT_NUMPY = """
import sys
sys.modules['numpy'] = None
for name in list(sys.modules):
    if name.startswith(('formats.', 'checkpoint.')):
        del sys.modules[name]
"""
with open(CONVERT, encoding="utf-8") as _file:
    PROGRAM = compile(_file.read(), CONVERT, "exec")


def warning(name, kind="UserWarning"):
    """A prelude after which a library's function warns, in two lines, whenever it is called."""
    return ("import {0}, warnings\ndef doubtful(*args, real={1}, warn=warnings.warn, **options):\n"
            "    warn('doubt\\nand more', {2})\n    return real(*args, **options)\n"
            "{1} = doubtful\n".format(name.split(".")[0], name, kind))


def run_forked(args, prelude=""):
    """The program in a forked process: as good as a new interpreter, and ten times as fast."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            status = 99
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                sys.stdout = os.fdopen(1, "w", closefd=False)
                sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace")
                sys.argv = [CONVERT] + args
                exec(prelude)
                exec(PROGRAM, {"__name__": "__main__"})
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 98
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        status = os.waitpid(child, 0)[1]
        texts = []
        for file in out, err:
            file.seek(0)
            texts.append(file.read().decode("utf-8"))
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
    assert "Warning: " not in texts[1], texts[1]     # whatever the program says beside it
    return subprocess.CompletedProcess(args, code, *texts)


class Case(unittest.TestCase):
    """A directory of its own for each test, and the program run over it."""

    maxDiff = 2000

    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.dir = holder.name
        self.model = os.path.join(self.dir, "tiny")
        self.out = os.path.join(self.dir, "out.gguf")
        os.mkdir(self.model)

    def write(self, name, data):
        """A file in the model's directory: bytes as they are, all else as JSON."""
        with open(os.path.join(self.model, name), "wb") as file:
            file.write(data if isinstance(data, bytes) else json.dumps(data).encode())
        return os.path.join(self.model, name)

    def checkpoint(self, tensors=None, **config):
        """config.json (a value of ... leaves the key out) and model.safetensors."""
        merged = {k: v for k, v in dict(CONFIG, **config).items() if v is not ...}
        self.write("config.json", merged)
        self.write("model.safetensors", safetensors(weights() if tensors is None else tensors))

    def convert(self, *args, prelude=""):
        """The command hf over the model's directory, which has to succeed."""
        done = run_forked(["hf", self.model, "-o", self.out, "-q"] + list(args), prelude)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        return Gguf(self.out)

    def assert_refused(self, done, *words):
        """Exit status 1, one line with these words, and nothing left beside the input."""
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("convert.py: "), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assert_no_output()

    def assert_no_output(self):
        self.assertEqual([name for name in os.listdir(self.dir) if "out.gguf" in name], [])

    def refuse(self, *words, args=(), prelude=""):
        """The command hf over the model's directory, which has to be refused with these words."""
        done = run_forked(["hf", self.model, "-o", self.out] + list(args), prelude)
        self.assert_refused(done, *words)


class Weights(Case):
    """Tensors: their names, order of rows, types and bytes."""

    def check(self, gguf, tensors, head=HEAD, left_out=()):
        self.assertEqual(set(gguf.tensors), {OURS[name] for name in tensors} - set(left_out))
        for name, tensor in tensors.items():
            if OURS[name] not in left_out:
                kind, dims, raw = gguf.tensors[OURS[name]]
                self.assertEqual(dims, tensor[1][::-1], name)
                self.assertEqual(kind, F32_TYPE if len(dims) == 1 else GGML[tensor[0]], name)
                self.assertEqual(raw, expected(name, tensor, head), name)

    def test_types_are_kept(self):
        for dtype, file_type in (("F32", 0), ("F16", 1), ("BF16", 32)):
            with self.subTest(dtype):
                tensors = weights(dtype)
                self.checkpoint(tensors)
                gguf = self.convert()
                self.check(gguf, tensors)
                self.assertEqual(gguf.keys["general.file_type"], ("u32", file_type))

    def test_mixed_types_are_kept(self):
        tensors = dict(weights("F16"))
        tensors["lm_head.weight"] = weights("F32")["lm_head.weight"]
        self.checkpoint(tensors)
        gguf = self.convert()
        self.check(gguf, tensors)
        self.assertEqual(gguf.keys["general.file_type"], ("u32", 1))

    def test_rows_of_q_and_k(self):
        """The order spelled out: row r of q holds the number r."""
        tensors = weights("F32")
        name = "model.layers.1.self_attn.q_proj.weight"
        tensors[name] = ("F32", [32, 32], encode([float(i // 32) for i in range(1024)], "F32"))
        name = "model.layers.1.self_attn.k_proj.weight"
        tensors[name] = ("F32", [16, 32], encode([float(i // 32) for i in range(512)], "F32"))
        self.checkpoint(tensors)
        gguf = self.convert()
        head = [0, 4, 1, 5, 2, 6, 3, 7]
        for name, heads in (("blk.1.attn_q.weight", 4), ("blk.1.attn_k.weight", 2)):
            rows = decode(gguf.tensors[name][2], "F32")[::32]
            self.assertEqual(list(rows), [8 * h + i for h in range(heads) for i in head])

    def test_large_tensors_come_in_pieces(self):
        """Several pieces a tensor, in which heads stay whole: 3 heads of 200 rows of 8 kB each."""
        sizes = dict(layers=1, width=2048, q=2400, kv=600, neurons=2, vocab=3)
        rng = random.Random(2)
        tensors = {name: ("F32", shape, encode([1.5] * 2048, "F32") if len(shape) == 1 else
                          bytes(rng.getrandbits(8) for _ in range(1000)) * (product(shape) // 250)
                          + bytes(product(shape) % 250 * 4))
                   for name, shape in shapes(**sizes).items()}
        self.checkpoint(tensors, hidden_size=2048, head_dim=200, num_attention_heads=12,
                        num_key_value_heads=3, intermediate_size=2, vocab_size=3,
                        num_hidden_layers=1)
        self.check(self.convert(), tensors, head=200)

    def test_shards(self):
        tensors = weights()
        self.checkpoint(tensors)
        self.convert()
        with open(self.out, "rb") as file:
            single = file.read()
        os.remove(os.path.join(self.model, "model.safetensors"))
        names, place = sorted(tensors), {}
        for i in range(3):
            shard = "model-%05d-of-00003.safetensors" % (i + 1)
            self.write(shard, safetensors({n: tensors[n] for n in names[i::3]}, metadata=i == 1))
            place.update((name, shard) for name in names[i::3])
        self.write("model.safetensors.index.json", {"metadata": {}, "weight_map": place})
        self.convert()
        with open(self.out, "rb") as file:
            self.assertEqual(file.read(), single)

    def test_tied_embeddings(self):
        tensors = weights()
        copy = dict(tensors)
        del tensors["lm_head.weight"]
        self.checkpoint(tensors, tie_word_embeddings=True)
        self.check(self.convert(), tensors)
        copy["lm_head.weight"] = copy["model.embed_tokens.weight"]
        self.checkpoint(copy, tie_word_embeddings=True)
        self.check(self.convert(), copy, left_out=["output.weight"])

    def test_rotary_frequencies_are_passed_over(self):
        tensors = weights()
        extra = dict(tensors)
        extra["model.layers.0.self_attn.rotary_emb.inv_freq"] = ("F32", [4], bytes(16))
        self.checkpoint(extra)
        self.check(self.convert(), tensors)

    def every_number(self, dtype, numbers, prelude=""):
        """The embeddings, widened to F32, when they hold these 65536 halves."""
        tensors = weights(dtype, vocab=2048)
        tensors["model.embed_tokens.weight"] = (dtype, [2048, 32], struct.pack("<65536H", *numbers))
        self.checkpoint(tensors, vocab_size=2048)
        gguf = self.convert("--type", "f32", prelude=prelude)
        self.assertEqual(gguf.keys["general.file_type"], ("u32", 0))
        self.assertEqual({kind for kind, _, _ in gguf.tensors.values()}, {F32_TYPE})
        return tensors["model.embed_tokens.weight"][2], gguf.tensors["token_embd.weight"][2]

    def test_widening_bf16(self):
        raw, wide = self.every_number("BF16", range(65536))
        self.assertEqual(wide, struct.pack("<65536I", *(i << 16 for i in range(65536))))

    def test_widening_f16(self):
        """Every float16 but the infinities and NaNs, with numpy (where it is) and without."""
        numbers = [i if i & 0x7C00 != 0x7C00 else 0 for i in range(65536)]
        for prelude in "", WITHOUT_NUMPY:
            raw, wide = self.every_number("F16", numbers, prelude)
            self.assertEqual(wide, encode(decode(raw, "F16"), "F32"))

    def test_without_numpy(self):
        self.checkpoint()
        self.check(self.convert("--type", "bf16", prelude=WITHOUT_NUMPY), weights())
        os.remove(self.out)
        for kind in "f16", "q8_0":
            self.refuse(self.model, "--type " + kind, "numpy", "pip install", prelude=WITHOUT_NUMPY,
                        args=["--type", kind])

    # Ties and their neighbours, signs, zeros, denormals, the largest that fit; 32 a row.
    HARD = [0.0, -0.0, 1.0, -1.0, 1.00390625, 1.01171875, 1.0039063692092896, 1.0009765625 / 2,
            1.00048828125, 1.00146484375, 1.0004884004592896, -1.00048828125, 65503.99609375,
            65519.99609375, -65519.99609375, 5.960464477539063e-08, 2.9802322387695312e-08,
            2.9802325940409414e-08, 8.940696716308594e-08, 1e-30, -1e-40, 3.14159274, 0.1, -0.3,
            2049.0, 2051.0, 4098.0, 513.0, 127.5, -126.5, 0.5, 100.25]

    def narrowing(self, kind, dtype, ggml, file_type, largest=65520.0):
        rng = random.Random(3)
        numbers = [f32(x) for x in self.HARD * 4 if abs(x) < largest]
        while len(numbers) < 12 * 32:
            numbers.append(f32(rng.gauss(0, 1) * 10 ** rng.uniform(-6, 3)))
        tensors = weights(dtype)
        tensors["lm_head.weight"] = (dtype, [12, 32], encode(numbers, dtype))
        self.checkpoint(tensors)
        gguf = self.convert("--type", kind)
        self.assertEqual(gguf.keys["general.file_type"], ("u32", file_type))
        for name, tensor in tensors.items():
            got, dims, raw = gguf.tensors[OURS[name]]
            before = decode(expected(name, tensor), "F32" if len(dims) == 1 else dtype)
            if len(dims) == 1:
                want, form = F32_TYPE, encode(before, "F32")
            else:
                want, form = ggml, (q8_0(before) if kind == "q8_0" else
                                    encode(before, kind.upper()))
            self.assertEqual((got, raw), (want, form), name)

    @needs_numpy
    def test_narrowing_to_f16(self):
        self.narrowing("f16", "F32", F16_TYPE, 1)
        self.narrowing("f16", "BF16", F16_TYPE, 1, largest=65280.0)

    @needs_numpy
    def test_narrowing_to_bf16(self):
        self.narrowing("bf16", "F32", BF16_TYPE, 32)
        self.narrowing("bf16", "F16", BF16_TYPE, 32)

    @needs_numpy
    def test_narrowing_to_q8_0(self):
        for dtype in "F32", "F16", "BF16":
            self.narrowing("q8_0", dtype, Q8_0_TYPE, 7)

    @needs_numpy
    def test_q8_0_rounds_half_away_from_zero(self):
        numbers = [127.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, 126.5] + [0.0] * 24
        tensors = weights("F32")
        tensors["lm_head.weight"] = ("F32", [12, 32], encode(numbers + [0.0] * 352, "F32"))
        self.checkpoint(tensors)
        raw = self.convert("--type", "q8_0").tensors["output.weight"][2]
        self.assertEqual(struct.unpack("<e8b", raw[:10]), (1.0, 127, 1, -1, 2, 3, -3, 0, 127))
        self.assertEqual(raw[34:], bytes(11 * 34))

    @needs_numpy
    def test_what_does_not_fit_is_refused(self):
        name, inf = "model.layers.1.mlp.up_proj.weight", float("inf")
        nan, last = float("nan"), struct.unpack("<f", b"\xff" * 4)[0]     # last: the greatest NaN
        for kind, number in (("f16", 65520.0), ("f16", -1e30), ("f16", inf), ("f16", nan),
                             ("bf16", f32(3.4e38)), ("bf16", -inf), ("bf16", nan), ("bf16", last),
                             ("q8_0", 1e7), ("q8_0", inf), ("q8_0", nan)):
            with self.subTest(kind=kind, number=number):
                tensors = weights("F32")
                raw = bytearray(tensors[name][2])
                raw[400:404] = struct.pack("<f", number)
                tensors[name] = ("F32", [64, 32], bytes(raw))
                self.checkpoint(tensors)
                self.refuse("model.safetensors", name, kind, args=["--type", kind])

    @needs_numpy
    def test_q8_0_wants_rows_of_32(self):
        self.checkpoint(weights(neurons=40), intermediate_size=40)
        self.refuse("model.safetensors", "mlp.down_proj.weight", "40", "multiples of 32",
                    args=["--type", "q8_0"])


class Settings(Case):
    """config.json becomes metadata."""

    EXPECTED = {
        "tokenizer.ggml.model": ("string", "none"),
        "general.architecture": ("string", "llama"), "general.name": ("string", "tiny"),
        "general.file_type": ("u32", 32), "llama.vocab_size": ("u32", 12),
        "llama.context_length": ("u32", 99), "llama.embedding_length": ("u32", 32),
        "llama.block_count": ("u32", 2), "llama.feed_forward_length": ("u32", 64),
        "llama.attention.head_count": ("u32", 4), "llama.attention.head_count_kv": ("u32", 2),
        "llama.attention.key_length": ("u32", 8), "llama.attention.value_length": ("u32", 8),
        "llama.rope.dimension_count": ("u32", 8), "llama.rope.freq_base": ("f32", 5000.0),
        "llama.attention.layer_norm_rms_epsilon": ("f32", f32(1e-5))}

    def test_classic_form(self):
        self.checkpoint()
        self.assertEqual(self.convert().keys, self.EXPECTED)

    def test_form_of_transformers_5(self):
        self.checkpoint(rope_theta=..., rope_scaling=..., torch_dtype=..., dtype="bfloat16",
                        rope_parameters={"rope_theta": 5000.0, "rope_type": "default"})
        self.assertEqual(self.convert().keys, self.EXPECTED)

    def test_plain_rotary_positions_in_other_words(self):
        self.checkpoint(rope_scaling={"type": "default"})
        self.assertEqual(self.convert().keys, self.EXPECTED)

    def test_defaults_of_llama(self):
        self.checkpoint(weights(kv=32), num_key_value_heads=..., max_position_embeddings=...,
                        rms_norm_eps=..., rope_theta=..., rope_scaling=..., hidden_act=...,
                        tie_word_embeddings=..., torch_dtype=..., sliding_window=7)
        self.assertEqual(self.convert().keys, dict(self.EXPECTED, **{
            "llama.attention.head_count_kv": ("u32", 4), "llama.context_length": ("u32", 2048),
            "llama.rope.freq_base": ("f32", 10000.0),
            "llama.attention.layer_norm_rms_epsilon": ("f32", f32(1e-6))}))

    def test_defaults_of_mistral(self):
        self.checkpoint(weights(kv=16), architectures=["MistralForCausalLM"],
                        num_attention_heads=16, num_key_value_heads=..., rms_norm_eps=...,
                        max_position_embeddings=..., rope_theta=..., sliding_window=...)
        self.assertEqual(self.convert().keys, dict(self.EXPECTED, **{
            "llama.attention.head_count": ("u32", 16), "llama.attention.head_count_kv": ("u32", 8),
            "llama.attention.key_length": ("u32", 2), "llama.attention.value_length": ("u32", 2),
            "llama.rope.dimension_count": ("u32", 2), "llama.context_length": ("u32", 131072),
            "llama.rope.freq_base": ("f32", 10000.0),
            "llama.attention.sliding_window": ("u32", 4096),
            "llama.attention.layer_norm_rms_epsilon": ("f32", f32(1e-6))}))

    def test_sliding_window_of_mistral(self):
        key = "llama.attention.sliding_window"
        for window, written in ((77, ("u32", 77)), (None, None)):
            self.checkpoint(architectures=["MistralForCausalLM"], sliding_window=window)
            self.assertEqual(self.convert().keys.get(key), written)

    def test_head_size_of_its_own(self):
        for head_dim, q, kv in ((16, 64, 32), (None, 32, 16)):
            self.checkpoint(weights(q=q, kv=kv), head_dim=head_dim)
            self.assertEqual(self.convert().keys["llama.attention.key_length"], ("u32", q // 4))

    def test_name(self):
        self.checkpoint()
        self.assertEqual(self.convert("--name", "Größe 7").keys["general.name"],
                         ("string", "Größe 7"))

    def test_refusals(self):
        for change, words in (
                ({"architectures": ["T5LMHeadModel"]},
                 ["T5LMHeadModel", "LlamaForCausalLM", "MistralForCausalLM"]),
                ({"architectures": ...}, ["architectures", "LlamaForCausalLM"]),
                ({"architectures": [["LlamaForCausalLM"]]}, ["architectures"]),
                ({"rope_scaling": {"type": "linear"}}, ["factor"]),
                ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, ["dynamic"]),
                ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, ["low_freq_factor"]),
                ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
                                   "high_freq_factor": 4.0, "original_max_position_embeddings": 9}},
                 ["high_freq_factor"]),
                ({"rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 3}},
                 ["beta_fast"]),
                ({"partial_rotary_factor": 0.5}, ["partial_rotary_factor"]),
                ({"layer_types": ["full_attention", "sliding_attention"]}, ["layer_types"]),
                ({"rope_scaling": "dynamic"}, ["rope_scaling"]),
                ({"rope_scaling": ..., "rope_parameters": {"rope_type": "yarn"}}, ["yarn"]),
                ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, ["rotary"]),
                ({"attention_bias": True}, ["attention_bias"]),
                ({"mlp_bias": True}, ["mlp_bias"]),
                ({"hidden_act": "gelu"}, ["hidden_act", "gelu", "silu"]),
                ({"quantization_config": {"bits": 4}}, ["quantization_config"]),
                ({"num_key_value_heads": 3}, ["heads"]),
                ({"head_dim": 7}, ["heads"]),
                ({"hidden_size": "32"}, ["hidden_size"]),
                ({"hidden_size": True}, ["hidden_size"]),
                ({"vocab_size": -12}, ["vocab_size"]),
                ({"max_position_embeddings": 1 << 40}, ["max_position_embeddings"]),
                ({"rms_norm_eps": 0}, ["rms_norm_eps"]),
                ({"rope_theta": float("inf")}, ["rope_theta"]),
                ({"tie_word_embeddings": 1}, ["tie_word_embeddings"]),
                ({"num_hidden_layers": 2000000000}, ["num_hidden_layers", "at most"])):
            with self.subTest(str(change)):
                self.checkpoint(**change)
                self.refuse("config.json", *words)
        for text in b"", b"[1]", b"{", b"\xff", b"[" * 100000:
            with self.subTest(text[:9]):
                self.write("config.json", text)
                self.refuse("config.json", "JSON")
        os.remove(os.path.join(self.model, "config.json"))
        self.refuse("config.json", "No such file")


class Damage(Case):
    """Checkpoints that are not what they should be, and headers that lie."""

    def test_tensors_that_do_not_fit_the_config(self):
        name = "model.layers.0.mlp.up_proj.weight"
        for change, words in (
                ({name: None}, ["config.json", name]),
                ({"model.layers.2.mlp.up_proj.weight": ("BF16", [64, 32], bytes(4096))},
                 ["model.safetensors", "model.layers.2.mlp.up_proj.weight"]),
                ({"evil\n\x1b[2Jname": ("BF16", [1], bytes(2))}, ["evil??[2Jname"]),
                ({name: ("BF16", [32, 64], bytes(4096))}, ["model.safetensors", name, "[64, 32]"]),
                ({name: ("BF16", [], bytes(2))}, [name, "[]"]),
                ({name: ("I8", [64, 32], bytes(2048))}, ["model.safetensors", name, "I8"]),
                ({name: ("F64", [64, 32], bytes(16384))}, [name, "F64"])):
            with self.subTest(str(change)[:60]):
                tensors = dict(weights(), **change)
                self.checkpoint({k: v for k, v in tensors.items() if v})
                self.refuse(*words)

    def test_tied_copy_that_differs(self):
        self.checkpoint(tie_word_embeddings=True)
        self.refuse("model.safetensors", "lm_head.weight", "tie_word_embeddings")

    def entry(self, **change):
        """model.safetensors with one lie in the entry of one tensor."""
        whole = safetensors(weights())
        length, = struct.unpack("<Q", whole[:8])
        header = json.loads(whole[8:8 + length])
        header["model.norm.weight"].update(change)
        text = json.dumps(header).encode()
        self.write("model.safetensors", struct.pack("<Q", len(text)) + text + whole[8 + length:])
        self.refuse("model.safetensors", "model.norm.weight")

    def test_entries(self):
        self.checkpoint()
        size = sum(len(raw) for _, _, raw in weights().values())
        for change in (
                {"data_offsets": [size, size + 64]}, {"data_offsets": [size - 63, size + 1]},
                {"data_offsets": [1 << 62, (1 << 62) + 64]}, {"data_offsets": [-64, 0]},
                {"data_offsets": [128, 64]}, {"data_offsets": [0, 65]}, {"data_offsets": [0]},
                {"data_offsets": [0, 32, 64]}, {"data_offsets": [0.0, 64.0]},
                {"data_offsets": [False, 64]}, {"data_offsets": None}, {"data_offsets": {}},
                {"shape": [33]}, {"shape": [-32]}, {"shape": [-8, -4]}, {"shape": "32"},
                {"shape": [32.0]}, {"shape": [2 ** 62, 4]}, {"shape": [2 ** 62] * 999},
                {"shape": [10 ** 1000]}, {"shape": [1] * 100000}, {"shape": None},
                {"dtype": "F32"}, {"dtype": "BF17"}, {"dtype": None}, {"dtype": ["BF16"]},
                {"dtype": [[[]]]}):
            with self.subTest(str(change)[:60]):
                self.entry(**change)

    def test_headers(self):
        self.checkpoint()
        whole = safetensors(weights())
        self.write("model.safetensors", struct.pack("<Q", len(whole) - 7) + whole[8:])
        self.refuse("model.safetensors", "a header of %d bytes does not fit" % (len(whole) - 7))
        for name, raw in (
                ("empty", b""), ("seven bytes", whole[:7]), ("nothing else", whole[:8]),
                ("all ones", b"\xff" * 8 + whole[8:]), ("no length", bytes(8) + whole[8:]),
                ("cut header", struct.pack("<Q", 100) + whole[8:]),
                ("array", struct.pack("<Q", 2) + b"[]"), ("cut data", whole[:-1]),
                ("entry is no object", struct.pack("<Q", 7) + b'{"a":1}'),
                ("UTF-16", struct.pack("<Q", 6) + "{}".encode("utf-16")),
                ("deep", struct.pack("<Q", 200000) + b"[" * 200000)):
            with self.subTest(name):
                self.write("model.safetensors", raw)
                self.refuse("model.safetensors")

    def header(self, change):
        """model.safetensors, with change applied to its header's text and to its data."""
        whole = safetensors(weights())
        length, = struct.unpack("<Q", whole[:8])
        text, data = change(whole[8:8 + length], whole[8 + length:])
        self.write("model.safetensors", struct.pack("<Q", len(text)) + text + data)

    def test_rules_of_the_header(self):
        """What the format's description demands beyond JSON."""
        self.checkpoint()
        again = b'"model.norm.weight": {"dtype": "BF16", "shape": [32], "data_offsets": [%d, %d]}, '
        for name, change, words in (
                ("a name twice", lambda text, data: (
                    text.replace(b'"__m', again % (0, 64) + b'"__m'), data),
                 ["model.norm.weight", "twice"]),
                ("a key twice", lambda text, data: (text.replace(
                    b'"dtype": "BF16"', b'"dtype": "F32", "dtype": "BF16"', 1), data),
                 ["dtype", "twice"]),
                ("__metadata__ of a number", lambda text, data: (text.replace(b'"pt"', b"1"), data),
                 ["__metadata__", "texts"]),
                ("__metadata__ of a list", lambda text, data: (text.replace(b'"pt"', b'["pt"]'),
                                                               data), ["__metadata__", "texts"]),
                ("__metadata__ a text", lambda text, data: (text.replace(
                    b'{"format": "pt"}', b'"pt"'), data), ["__metadata__", "texts"]),
                ("__metadata__ null", lambda text, data: (text.replace(
                    b'{"format": "pt"}', b"null"), data), ["__metadata__", "texts"]),
                ("space before it", lambda text, data: (b" " + text, data), ["header"]),
                ("a mark before it", lambda text, data: (b"\xef\xbb\xbf" + text, data),
                 ["header"])):
            with self.subTest(name):
                self.header(change)
                self.refuse("model.safetensors", *words)
        self.header(lambda text, data: (text + b" " * (-len(text) % 8), data))
        self.convert()                               # padded, as the format allows

    def test_data_without_holes(self):
        """The tensors lie one after the other from the first byte to the last."""
        self.checkpoint()
        norm, first = "model.norm.weight", "model.embed_tokens.weight"
        size = sum(len(raw) for _, _, raw in weights().values())

        def moved(move):
            def change(text, data):
                header = json.loads(text)
                data = move(header, data)
                return json.dumps(header).encode(), data
            return change

        def from_byte(start):
            def move(header, data):
                for name, entry in header.items():
                    if name != "__metadata__" and entry["data_offsets"][0] >= start:
                        entry["data_offsets"] = [at + 2 for at in entry["data_offsets"]]
                return data[:start] + b"\0\0" + data[start:]
            return move

        def over(header, data):
            header[norm]["data_offsets"] = [0, 64]
            return data

        for name, move, words in (
                ("hole at the start", from_byte(0), [first, "byte 2 ", "ends at 0"]),
                ("hole", from_byte(768), [norm, "byte 770 ", "ends at 768"]),
                ("bytes at the end", lambda header, data: data + b"\0",
                 ["end at byte %d" % size, "%d bytes are there" % (size + 1)]),
                ("overlap", over, [first, "begins at byte 0", "ends at 64"])):
            with self.subTest(name):
                self.header(moved(move))
                self.refuse("model.safetensors", *words)
        tensors = weights()                          # no numbers are no hole, wherever they are
        for at in 0, 3, len(tensors):
            names = list(tensors)
            names.insert(at, "model.layers.0.self_attn.rotary_emb.inv_freq")
            self.checkpoint({name: tensors.get(name, ("F32", [0], b"")) for name in names})
            self.convert()
            os.remove(self.out)
        shard = safetensors(tensors)
        os.remove(os.path.join(self.model, "model.safetensors"))
        self.write("model.safetensors.index.json", {"weight_map": dict.fromkeys(tensors, "a")})
        self.write("a", shard + b"\0")
        self.refuse(os.path.join(self.model, "a") + ":", "bytes are there")

    def test_keys_twice(self):
        """In every JSON file that is read."""
        tensors = weights()
        self.checkpoint(tensors)
        self.write("tokenizer.model", sentencepiece())
        for name in "added_tokens.json", "tokenizer_config.json":
            path = self.write(name, b'{"a": {"b": 1, "c": 2, "b": 1}}')
            self.refuse(name, "the key b is twice")
            os.remove(path)
        os.remove(os.path.join(self.model, "tokenizer.model"))
        for name in "tokenizer.json", "vocab.json":
            path = self.write(name, b'{"a": 1, "a": 1}')
            self.refuse(name, "the key a is twice")
            os.remove(path)
        os.rename(os.path.join(self.model, "model.safetensors"), os.path.join(self.model, "a"))
        places = ", ".join('"%s": "a"' % name for name in tensors)
        index = "model.safetensors.index.json"
        self.write(index, ('{"weight_map": {%s, "lm_head.weight": "b"}}' % places).encode())
        self.refuse(index, "the key lm_head.weight is twice")
        os.remove(os.path.join(self.model, index))
        text = json.dumps(CONFIG).encode()
        for change in b'{"rope_theta": 1.0, ', b'{"x": [{"vocab_size": 1, "vocab_size": 2}], ':
            self.write("config.json", change + text[1:])
            self.refuse("config.json", "the key ", "is twice")

    def test_huge_header(self):
        """A header over the format's limit is refused unread, even where the file is that large."""
        self.checkpoint()
        with open(os.path.join(self.model, "model.safetensors"), "wb") as file:
            file.write(struct.pack("<Q", 200000000))
            file.truncate(300000000)
        self.refuse("model.safetensors", "200000000")

    def test_shards(self):
        self.checkpoint()
        os.remove(os.path.join(self.model, "model.safetensors"))
        tensors = weights()
        a, b = "a.safetensors", "b.safetensors"
        halves = [dict(list(tensors.items())[i::2]) for i in range(2)]
        self.write(a, safetensors(halves[0]))
        self.write(b, safetensors(halves[1]))
        index = "model.safetensors.index.json"
        place = dict({name: a for name in halves[0]}, **{name: b for name in halves[1]})
        moved = next(iter(halves[0]))
        for name, weight_map, words in (
                ("absent shard", dict(place, **{moved: "c.safetensors"}), ["c.safetensors"]),
                ("absent tensor", dict(place, nowhere=a), [index, "nowhere"]),
                ("a path", dict(place, **{moved: "../tiny/a.safetensors"}), [index]),
                ("NUL", dict(place, **{moved: "a\0"}), [index]),
                ("no name", dict(place, **{moved: ""}), [index]),
                ("a number", dict(place, **{moved: 1}), [index]),
                ("the directory above", dict(place, **{moved: ".."}), [".."]),
                ("no map", [], [index]), ("null", None, [index]), ("empty", {}, ["config.json"])):
            with self.subTest(name):
                self.write(index, {"weight_map": weight_map})
                self.refuse(*words)
        self.write(index, {"weight_map": place})
        self.write(b, safetensors(tensors))
        self.refuse(b, moved, a)

    def test_index_says_where(self):
        """Every tensor lies in the shard that the index names for it, and is named by it."""
        self.checkpoint()
        os.remove(os.path.join(self.model, "model.safetensors"))
        tensors = weights()
        inv, head = "model.layers.0.self_attn.rotary_emb.inv_freq", "lm_head.weight"
        halves = [dict(list(tensors.items())[i::2]) for i in range(2)]
        place = {name: "ab"[i] + ".safetensors" for i in range(2) for name in halves[i]}
        index = "model.safetensors.index.json"

        def written(place, halves):
            self.write(index, {"metadata": {"total_size": 1}, "weight_map": place})
            for name, half in zip("ab", halves):
                self.write(name + ".safetensors", safetensors(half))

        written(place, halves)
        self.convert()
        os.remove(self.out)
        other = {"a.safetensors": "b.safetensors", "b.safetensors": "a.safetensors"}[place[head]]
        written(dict(place, **{head: other}), halves)
        self.refuse(place[head], head, index, "in " + other)
        written({name: shard for name, shard in place.items() if name != head}, halves)
        self.refuse(place[head], head, index, "nowhere")
        written(place, [dict(halves[0], **{inv: ("F32", [4], bytes(16))}), halves[1]])
        self.refuse("a.safetensors", inv, "nowhere")

    def test_other_kinds_of_checkpoint(self):
        self.checkpoint()
        os.remove(os.path.join(self.model, "model.safetensors"))
        self.write("pytorch_model.bin", b"PK")
        self.refuse("pytorch_model.bin", "damaged")
        os.remove(os.path.join(self.model, "pytorch_model.bin"))
        self.refuse(self.model, "only safetensors and PyTorch checkpoints are read")


class Tokenizer(Case):
    """tokenizer.model and the JSON files beside it."""

    def keys(self, proto=None, **config):
        """The tokenizer's part of the metadata."""
        self.checkpoint(**config)
        self.write("tokenizer.model", sentencepiece() if proto is None else proto)
        return {name[len("tokenizer.ggml."):]: value for name, value in self.convert().keys.items()
                if name.startswith("tokenizer.")}

    EXPECTED = {
        "model": ("string", "llama"), "pre": ("string", "default"),
        "tokens": ("[string]", [text for text, _, _ in PIECES] + ["[PAD%d]" % i
                                                                  for i in range(8, 12)]),
        "scores": ("[f32]", [score for _, score, _ in PIECES] + [-1000.0] * 4),
        "token_type": ("[i32]", [kind or NORMAL for _, _, kind in PIECES] + [UNUSED] * 4),
        "bos_token_id": ("u32", 1), "eos_token_id": ("u32", 2), "unknown_token_id": ("u32", 0),
        "add_bos_token": ("bool", True), "add_eos_token": ("bool", False),
        "add_space_prefix": ("bool", True)}

    def test_keys(self):
        self.assertEqual(self.keys(), self.EXPECTED)

    def test_as_many_pieces_as_rows(self):
        pieces = PIECES + [(letter, -2.0, NORMAL) for letter in "bcde"]
        self.assertEqual(self.keys(sentencepiece(pieces))["tokens"],
                         ("[string]", [text for text, _, _ in pieces]))

    def test_special_tokens_are_names(self):
        self.write("special_tokens_map.json", {"additional_special_tokens": ["<one>", "<two>"],
                                               "pad_token": {"content": "<far>"}})
        self.write("added_tokens.json", {"<two>": 10, "<one>": 8, "<s>": 1, "<far>": 12})
        self.write("tokenizer_config.json", {"bos_token": "<s>"})
        keys = self.keys()
        self.assertEqual(keys["tokens"][1][8:], ["<one>", "[PAD9]", "<two>", "[PAD11]"])
        self.assertEqual(keys["token_type"][1][8:], [CONTROL, UNUSED, CONTROL, UNUSED])
        self.write("tokenizer_config.json", {"added_tokens_decoder": {
            "11": added("\u00fc", True), "0": added("<unk>", True)}})
        keys = self.keys()                           # which added_tokens.json has no part in
        self.assertEqual(keys["tokens"][1][8:], ["[PAD8]", "[PAD9]", "[PAD10]", "\u00fc"])
        self.assertEqual(keys["token_type"][1][8:], [UNUSED, UNUSED, UNUSED, CONTROL])
        self.assertEqual(keys["tokens"][1][:8], self.EXPECTED["tokens"][1][:8])
        self.assertEqual(keys["token_type"][1][:8], self.EXPECTED["token_type"][1][:8])
        self.assertEqual(keys["scores"], self.EXPECTED["scores"])
        self.assertNotIn("added_tokens", keys)

    WORDS = {"8": added("b\u00e1nh"), "9": added("<s>x", True), "10": added("a b", normalized=True)}

    def words(self, *ids, **settings):
        """The metadata with words of these ids, and with settings beside them."""
        self.write("tokenizer_config.json", dict({"added_tokens_decoder": {
            key: self.WORDS[key] for key in ids}, "legacy": False}, **settings))
        return self.keys()

    def test_added_words(self):
        expected = dict(
            self.EXPECTED, added_tokens=("[i32]", [8, 10]), added_normalized=("[bool]", [0, 1]),
            tokens=("[string]", [text for text, _, _ in PIECES] + ["b\u00e1nh", "<s>x", "a b",
                                                                   "[PAD11]"]),
            token_type=("[i32]", [kind or NORMAL for _, _, kind in PIECES] + [USER, CONTROL, USER,
                                                                              UNUSED]))
        self.assertEqual(self.words("10", "8", "9"), expected)
        for settings in ({"tokenizer_class": "LlamaTokenizer"},
                         {"tokenizer_class": "LlamaTokenizerFast", "add_prefix_space": True},
                         {"legacy": None}, {"pad_token": "<s>x"}):
            self.assertEqual(self.words("10", "8", "9", **settings), expected)

    def test_flags_that_are_left_out(self):
        """Of a token that is not special: it is normalized; added_tokens.json has none at all."""
        words = {"8": {"content": "x", "special": False}, "9": {"content": "y"}}
        self.write("tokenizer_config.json", {"added_tokens_decoder": words})
        keys = self.keys()
        os.remove(os.path.join(self.model, "tokenizer_config.json"))
        self.write("added_tokens.json", {"y": 9, "x": 8})
        self.assertEqual(self.keys(), keys)
        self.assertEqual(keys["added_tokens"], ("[i32]", [8, 9]))
        self.assertEqual(keys["added_normalized"], ("[bool]", [1, 1]))

    def test_words_that_the_pieces_have(self):
        """They stay pieces; those that the model itself looks for are left to it."""
        self.write("tokenizer_config.json", {"added_tokens_decoder": {
            "3": added("a"), "5": added("\u2581the"), "6": added("\u8a9e", True),
            "7": added("<user>", normalized=True), "8": added("new")}})
        keys = self.keys()
        self.assertEqual(keys["added_tokens"], ("[i32]", [3, 5, 8]))
        self.assertEqual(keys["added_normalized"], ("[bool]", [0, 0, 0]))
        self.assertEqual(keys["token_type"][1][:9], self.EXPECTED["token_type"][1][:8] + [USER])

    def beside(self, *words, **values):
        """tokenizer.json beside tokenizer.model."""
        vocabulary = {text: i for i, (text, _, _) in enumerate(PIECES)}
        self.write("tokenizer.json", dict({"model": {"vocab": vocabulary}, "added_tokens": [
            dict(word, id=number) for number, word in words]}, **values))

    def test_words_of_a_tokenizer_json_beside_it(self):
        expected = self.words("8", "9", "10")
        self.beside((1, added("<s>", True)), *((int(i), word) for i, word in self.WORDS.items()))
        self.assertEqual(self.words("8", "9", "10"), expected)
        self.write("tokenizer_config.json", {"legacy": False})
        self.assertEqual(self.keys(), expected)
        self.write("added_tokens.json", {"a b": 10})
        self.assertEqual(self.keys(), expected)

    def test_words_refused(self):
        """What libraries do in another way, or each in its own."""
        self.checkpoint()
        self.write("tokenizer.model", sentencepiece())
        for words, settings, says in (
                ({"9": added("x")}, {}, ["id of", "x", "9", "8"]),
                ({"8": added("a")}, {}, ["id of", "a", "8", "3"]),
                ({"4": added("x")}, {}, ["id of", "x", "4", "8"]),
                ({"8": added("x"), "9": added("x")}, {}, ["x", "twice"]),
                ({"8": added("x", lstrip=True)}, {}, ["spaces beside it"]),
                ({"8": added("x", rstrip=True)}, {}, ["spaces beside it"]),
                ({"8": added("x", single_word=True)}, {}, ["whole words"]),
                ({"8": added("x", single_word=1)}, {}, ["neither true nor false"]),
                ({"8": added("x", stride=1)}, {}, ["x", "stride"]),
                ({"1": added("<s>")}, {}, ["<s>", "not special"]),
                ({"0": added("<unk>")}, {}, ["<unk>", "not special"]),
                ({"5": added("x", True)}, {}, ["x", "\u2581the"]),
                ({str(i): added("x%d" % i) for i in range(8, 13)}, {}, ["x12", "vocab_size"]),
                ({"8": added("x<us")}, {}, ["x<us", "<user>"]),
                ({"8": added("r>")}, {}, ["r>", "<user>"]),
                ({"8": added("<user>s")}, {}, ["<user>s", "<user>"]),
                ({"8": added("x")}, {"legacy": True}, ["x", "LlamaTokenizer", "legacy false"]),
                ({"8": added("x")}, {"legacy": "no"}, ["legacy", "true or false"]),
                ({"8": added("x")}, {"tokenizer_class": "PreTrainedTokenizerFast"}, ["legacy"]),
                ({"8": added("x")}, {"tokenizer_class": "GemmaTokenizer"}, ["x", "legacy"]),
                ({"8": added("x")}, {"additional_special_tokens": ["x"]}, ["x", "not special"]),
                ({"8": added("x")}, {"extra_special_tokens": {"x": "x"}}, ["x", "not special"]),
                ({}, {"add_prefix_space": False}, ["add_prefix_space", "add_dummy_prefix"]),
                ({}, {"sp_model_kwargs": {"enable_sampling": True}}, ["sp_model_kwargs"]),
                ({}, {"fix_mistral_regex": True}, ["fix_mistral_regex"]),
                ({}, {"fast_tokenizer_files": ["tokenizer.4.0.json"]}, ["tokenizer.4.0.json"])):
            with self.subTest(words=words, settings=settings):
                self.write("tokenizer_config.json", dict(settings, added_tokens_decoder=words))
                self.refuse("tokenizer_config.json", *says)
        self.write("tokenizer_config.json", {"added_tokens_decoder": {"8": added("x")}})
        self.checkpoint(architectures=["MistralForCausalLM"], model_type="mistral")
        self.refuse("x", "legacy false")

    def test_contradictions_refused(self):
        self.checkpoint()
        self.write("tokenizer.model", sentencepiece())
        x, y = (8, added("x")), (9, added("y"))
        for words, others, says in (
                ([x], {"tokenizer_config": {"added_tokens_decoder": {}}}, ["x"]),
                ([x], {"tokenizer_config": {"added_tokens_decoder": {
                    "8": added("x", normalized=True)}}}, ["x"]),
                ([x], {"tokenizer_config": {"added_tokens_decoder": {"8": x[1], "9": y[1]}}},
                 ["y"]),
                ([x], {"tokenizer_config": {"pad_token": "x"}}, ["x"]),
                ([x], {"added_tokens": {"y": 9}}, ["y"]),
                ([x], {"added_tokens": {"x": 9}}, ["x"]),
                ([(8, dict(content="x", special=False))], {}, ["all flags", "normalized"]),
                ([(8, dict(content="x"))], {}, ["all flags"]),
                ([(None, added("x"))], {}, ["no id"])):
            with self.subTest(words=words, others=others):
                self.beside(*words)
                paths = [self.write(name + ".json", value) for name, value in others.items()]
                self.refuse("tokenizer.json", *says)
                for path in paths:
                    os.remove(path)
        for values, says in (
                ({"model": {"vocab": {"<unk>": 0}}}, ["vocab", "tokenizer.model"]),
                ({"model": {"vocab": [["<unk>", 0]]}}, ["vocab"]), ({"model": None}, ["vocab"]),
                ({"added_tokens": {"x": 8}}, ["added_tokens"])):
            with self.subTest(values=values):
                self.beside(**values)
                self.refuse("tokenizer.json", *says)

    def test_bytes(self):
        """All 256 or none, as the setting says."""
        pieces = PIECES + [("<0x%02X>" % i, 0.0, BYTE) for i in range(256)]
        self.checkpoint(weights(vocab=264), vocab_size=264)
        self.write("tokenizer.model", sentencepiece(pieces, ((3, 2), (35, 1))))
        self.assertEqual(self.convert().keys["tokenizer.ggml.token_type"][1][8:], [BYTE] * 256)
        os.remove(self.out)
        for some, trainer in ((pieces, ((3, 2),)), (PIECES, ((3, 2), (35, 1))),
                              (pieces[:-1], ((3, 2), (35, 1)))):
            self.write("tokenizer.model", sentencepiece(some, trainer))
            self.refuse("tokenizer.model", "pieces for bytes", "byte_fallback")

    def test_special_ids(self):
        pieces = [PIECES[i] for i in (1, 3, 0, 2, 4, 5)]
        trainer = ((3, 2), (40, 2), (41, 0), (42, 3))
        for config, ids, bos, eos in (
                ({}, trainer, 0, 3),
                ({}, trainer[:2] + ((41, -1), (42, -1)), None, None),
                ({"bos_token_id": 5, "eos_token_id": 4}, trainer, 5, 4),
                ({"bos_token_id": None, "eos_token_id": None}, trainer, 0, 3),
                ({"bos_token_id": [5], "eos_token_id": [11, 4]}, trainer, 0, 11),
                ({"eos_token_id": []}, trainer, 0, 3)):
            with self.subTest(config=config, ids=ids):
                keys = self.keys(sentencepiece(pieces, ids), **config)
                self.assertEqual(keys["unknown_token_id"], ("u32", 2))
                for name, number in (("bos_token_id", bos), ("eos_token_id", eos)):
                    self.assertEqual(keys.get(name), None if number is None else ("u32", number))

    def test_flags(self):
        self.write("tokenizer_config.json", {"add_bos_token": False, "add_eos_token": True})
        keys = self.keys(sentencepiece(normalizer=((3, 0), (4, 0))))
        self.assertEqual([keys[name] for name in ("add_bos_token", "add_eos_token",
                                                  "add_space_prefix")],
                         [("bool", False), ("bool", True), ("bool", False)])

    def test_protobuf_as_others_may_write_it(self):
        """Unknown fields of every wire type, a spec in two parts, a field given twice."""
        proto = (field(99, 1) + field(98, b"xyz") + varint(97 << 3 | 1) + bytes(8)
                 + varint(96 << 3 | 5) + bytes(4) + field(2, field(3, 1) + field(40, 7))
                 + sentencepiece(trainer=((3, 2), (40, 0), (1, "corpus"), (10, 0.5))))
        self.assertEqual(self.keys(proto), self.EXPECTED)

    def test_no_tokenizer(self):
        self.checkpoint()
        done = run_forked(["hf", self.model, "-o", self.out])
        self.assertEqual((done.returncode, done.stderr.count("\n")), (0, 1))
        self.assertIn("token ids only", done.stderr)
        self.assertEqual([(name, value[1]) for name, value in Gguf(self.out).keys.items()
                          if name.startswith("tokenizer.")], [("tokenizer.ggml.model", "none")])

    def test_refusals(self):
        self.checkpoint()
        bpe, plain = ((3, 2),), ((4, 0),)
        for proto, words in (
                (sentencepiece(trainer=()), ["unigram", "BPE"]),
                (sentencepiece(trainer=((3, 1),)), ["unigram", "BPE"]),
                (sentencepiece(trainer=((3, 3),)), ["word", "BPE"]),
                (sentencepiece(trainer=((3, 4),)), ["char", "BPE"]),
                (sentencepiece(trainer=((3, 9),)), ["unknown", "BPE"]),
                (sentencepiece(normalizer=plain + ((2, b"\0" * 5000),)), ["precompiled_charsmap"]),
                (sentencepiece(normalizer=()), ["remove_extra_whitespaces"]),
                (sentencepiece(normalizer=((4, 1),)), ["remove_extra_whitespaces"]),
                (sentencepiece(normalizer=plain + ((5, 0),)), ["escape_whitespaces"]),
                (sentencepiece(trainer=bpe + ((24, 1),)), ["treat_whitespace_as_suffix"]),
                (sentencepiece(trainer=bpe + ((44, "?"),)), ["unk_surface"]),
                (sentencepiece() + field(5, field(2, b"rules")), ["denormalizer_spec", "rules"]),
                (sentencepiece(PIECES + [("old", 0.0, UNUSED)]), ["old", "UNUSED"]),
                (sentencepiece(PIECES + [("x%d" % i, 0.0, NORMAL) for i in range(5)]),
                 ["13 pieces", "12"]),
                (sentencepiece(PIECES + [("<s>", 0.0, NORMAL)]), ["twice"]),
                (sentencepiece(PIECES + [("?", 0.0, UNKNOWN)]), ["unknown"]),
                (sentencepiece(PIECES[1:]), ["unknown"]),
                (sentencepiece(trainer=bpe + ((40, 1),)), ["unknown"]),
                (sentencepiece([]), ["unknown"]),
                (sentencepiece(PIECES + [("", 0.0, NORMAL)]), ["damaged"]),
                (sentencepiece(PIECES + [("x", 0.0, 7)]), ["damaged"]),
                (sentencepiece(PIECES + [("x", float("nan"), NORMAL)]), ["damaged"]),
                (sentencepiece(PIECES + [("<0x-1>", 0.0, BYTE)]), ["damaged"]),
                (sentencepiece(PIECES + [(b"\xff", 0.0, NORMAL)]), ["damaged"]),
                (sentencepiece(trainer=((3, b"2"),)), ["damaged"]),
                (sentencepiece()[:-1], ["damaged"]), (b"", ["unigram"]),
                (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", ["damaged"]),
                (b"\x0a" + b"\xff" * 30, ["damaged"]), (b"\x0b\x0c", ["damaged"]),
                (sentencepiece() + b"\x98\x06" + b"\x80" * 10 + b"\x01", ["damaged"]),
                (b"\x80", ["damaged"]), (b"version https://git-lfs", ["damaged"])):
            with self.subTest(proto[-20:]):
                self.write("tokenizer.model", proto)
                self.refuse("tokenizer.model", *words)

    def test_files_beside_it(self):
        self.checkpoint()
        self.write("tokenizer.model", sentencepiece())
        for name, value in (
                ("added_tokens.json", {"<x>": "8"}), ("added_tokens.json", {"<x>": [8]}),
                ("added_tokens.json", {"<x>": -1}), ("added_tokens.json", {"": 8}),
                ("added_tokens.json", {"\ud800": 8}), ("added_tokens.json", []),
                ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "y"}}}),
                ("tokenizer_config.json", {"added_tokens_decoder": {"8": "y"}}),
                ("tokenizer_config.json", {"added_tokens_decoder": {"8": {"content": 8}}}),
                ("tokenizer_config.json", {"added_tokens_decoder": ["y"]}),
                ("tokenizer_config.json", {"added_tokens_decoder": {"-8": {"content": "y"}}}),
                ("tokenizer_config.json", {"add_bos_token": "yes"}),
                ("tokenizer_config.json", {"add_prefix_space": "yes"}),
                ("special_tokens_map.json", b"[]"),
                ("tokenizer_config.json", b"nothing")):
            with self.subTest(str(value)):
                path = self.write(name, value)
                self.refuse(name)
                os.remove(path)
        for key in "bos_token_id", "eos_token_id":
            self.checkpoint(**{key: 12})
            self.refuse("config.json", key[:3], "12")
        self.checkpoint()
        for trainer in ((46, "<unk>"),), ((42, 3),), ((41, 99),):
            self.write("tokenizer.model", sentencepiece(trainer=((3, 2),) + trainer))
            self.refuse("tokenizer.model", "_id is", "not the piece")


class Families(Case):
    """What the families do to tensors and settings; every number of a tensor is its index."""

    def family(self, architecture, tensors, left_out=(), **config):
        """Conversion of tensors given by their shapes."""
        filled = {name: ("F32", shape, encode([float(i) for i in range(product(shape))], "F32"))
                  for name, shape in tensors.items()}
        base = {"architectures": [architecture], "vocab_size": 3, "hidden_size": 4,
                "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 6}
        self.write("config.json", dict(base, **config))
        self.write("model.safetensors", safetensors(filled))

    def numbers(self, gguf, name):
        return list(decode(gguf.tensors[name][2], "F32"))

    GPT2 = {"wte.weight": [3, 4], "wpe.weight": [5, 4], "ln_f.weight": [4], "ln_f.bias": [4],
            "h.0.ln_1.weight": [4], "h.0.ln_1.bias": [4], "h.0.ln_2.weight": [4],
            "h.0.ln_2.bias": [4], "h.0.attn.c_attn.weight": [4, 12], "h.0.attn.c_attn.bias": [12],
            "h.0.attn.c_proj.weight": [4, 4], "h.0.attn.c_proj.bias": [4], "h.0.attn.bias": [1],
            "h.0.mlp.c_fc.weight": [4, 16], "h.0.mlp.c_fc.bias": [16],
            "h.0.mlp.c_proj.weight": [16, 4], "h.0.mlp.c_proj.bias": [4]}

    def gpt2(self, **config):
        self.write("config.json", dict({
            "architectures": ["GPT2LMHeadModel"], "vocab_size": 3, "n_embd": 4, "n_layer": 1,
            "n_head": 2, "n_positions": 5}, **config))

    def test_gpt2(self):
        self.family("GPT2LMHeadModel", self.GPT2)
        self.gpt2()
        gguf = self.convert()
        self.assertEqual(gguf.tensors["blk.0.attn_qkv.weight"][1], [4, 12])
        self.assertEqual(self.numbers(gguf, "blk.0.attn_qkv.weight"),
                         [12.0 * i + j for j in range(12) for i in range(4)])
        self.assertEqual(gguf.tensors["blk.0.ffn_down.weight"][1], [16, 4])
        self.assertEqual(self.numbers(gguf, "position_embd.weight"), [float(i) for i in range(20)])
        self.assertEqual(len(gguf.tensors), 16)
        self.assertEqual(gguf.keys["gpt2.feed_forward_length"], ("u32", 16))

    def test_bloom(self):
        t, layer = "transformer.", "transformer.h.0."
        shapes = {t + "word_embeddings.weight": [3, 4], layer + "mlp.dense_h_to_4h.weight": [16, 4],
                  layer + "mlp.dense_4h_to_h.weight": [4, 16],
                  layer + "self_attention.dense.weight": [4, 4],
                  layer + "self_attention.query_key_value.weight": [12, 4]}
        shapes.update({name[:-6] + "bias": shape[:1] for name, shape in list(shapes.items())[1:]})
        for name in (t + "ln_f", t + "word_embeddings_layernorm", layer + "input_layernorm",
                     layer + "post_attention_layernorm"):
            shapes.update({name + ".weight": [4], name + ".bias": [4]})
        self.family("BloomForCausalLM", shapes, intermediate_size=None)
        gguf = self.convert()
        order = [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]
        self.assertEqual(self.numbers(gguf, "blk.0.attn_qkv.weight"),
                         [4.0 * row + i for row in order for i in range(4)])
        self.assertEqual(self.numbers(gguf, "blk.0.attn_qkv.bias"), [float(row) for row in order])
        self.assertIn("token_embd_norm.bias", gguf.tensors)

    def test_opt_positions(self):
        d, layer = "model.decoder.", "model.decoder.layers.0."
        shapes = {d + "embed_tokens.weight": [3, 4], d + "embed_positions.weight": [7, 4],
                  d + "final_layer_norm.weight": [4], d + "final_layer_norm.bias": [4],
                  layer + "fc1.weight": [6, 4], layer + "fc1.bias": [6],
                  layer + "fc2.weight": [4, 6], layer + "fc2.bias": [4]}
        for name in "q_proj", "k_proj", "v_proj", "out_proj":
            shapes.update({layer + "self_attn." + name + ".weight": [4, 4],
                           layer + "self_attn." + name + ".bias": [4]})
        for name in "self_attn_layer_norm", "final_layer_norm":
            shapes.update({layer + name + ".weight": [4], layer + name + ".bias": [4]})
        self.family("OPTForCausalLM", shapes, ffn_dim=6, max_position_embeddings=5)
        gguf = self.convert()
        self.assertEqual(gguf.tensors["position_embd.weight"][1], [4, 5])
        self.assertEqual(self.numbers(gguf, "position_embd.weight"),
                         [float(i) for i in range(8, 28)])

    def test_gemma_norms_and_plain_rows(self):
        tensors = {name: shape for name, shape in shapes(
            layers=1, width=4, q=4, kv=4, neurons=6, vocab=3).items() if name != "lm_head.weight"}
        self.family("GemmaForCausalLM", tensors, head_dim=2, num_key_value_heads=2,
                    hidden_act="gelu_pytorch_tanh")
        gguf = self.convert()
        self.assertEqual(self.numbers(gguf, "blk.0.attn_norm.weight"), [1.0, 2.0, 3.0, 4.0])
        self.assertEqual(self.numbers(gguf, "blk.0.attn_q.weight"), [float(i) for i in range(16)])
        self.assertEqual(gguf.keys["gemma.attention.key_length"], ("u32", 2))
        # What transformers makes of the settings of the first release and of later ones.
        whole = gguf.raw
        for change in ({"hidden_act": "gelu"}, {"hidden_act": "gelu", "hidden_activation": None},
                       {"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}, {}):
            self.family("GemmaForCausalLM", tensors, head_dim=2, num_key_value_heads=2, **change)
            self.assertEqual(self.convert().raw, whole)

    def test_qwen_and_phi(self):
        """Biases, norms of q and k, rows as they are, part of a head that turns."""
        layer, attention = "model.layers.0.", "model.layers.0.self_attn."
        tensors = shapes(layers=1, width=4, q=8, kv=4, neurons=6, vocab=3)
        common = dict(head_dim=4, num_key_value_heads=1)
        biases = {attention + "%s_proj.bias" % part: [8 if part == "q" else 4] for part in "qkv"}
        norms = {attention + part + "_norm.weight": [4] for part in "qk"}
        for name, extra, ours in (("qwen2", biases, ["attn_%s.bias" % part for part in "qkv"]),
                                  ("qwen3", norms, ["attn_q_norm.weight", "attn_k_norm.weight"])):
            self.family(name.title() + "ForCausalLM", dict(tensors, **extra), **common)
            gguf = self.convert()
            self.assertEqual(self.numbers(gguf, "blk.0.attn_q.weight"), list(range(32)))
            self.assertEqual(set(gguf.tensors), {"token_embd.weight", "output_norm.weight",
                                                 "output.weight"} | {"blk.0." + o for o in ours + [
                "attn_norm.weight", "ffn_norm.weight", "attn_q.weight", "attn_k.weight",
                "attn_v.weight", "attn_output.weight", "ffn_gate.weight", "ffn_up.weight",
                "ffn_down.weight"]})
            self.assertEqual(self.numbers(gguf, "blk.0." + ours[1]), [0, 1, 2, 3])
            self.assertEqual(gguf.keys["general.architecture"], ("string", name))
            self.assertEqual(gguf.keys[name + ".attention.layer_norm_rms_epsilon"],
                             ("f32", f32(1e-6)))
            self.assertEqual(gguf.keys[name + ".rope.freq_base"], ("f32", 10000.0))
        tensors = {"model.embed_tokens.weight": [3, 4], "model.final_layernorm.weight": [4],
                   "model.final_layernorm.bias": [4], "lm_head.weight": [3, 4], "lm_head.bias": [3],
                   layer + "input_layernorm.weight": [4], layer + "input_layernorm.bias": [4],
                   layer + "mlp.fc1.weight": [6, 4], layer + "mlp.fc1.bias": [6],
                   layer + "mlp.fc2.weight": [4, 6], layer + "mlp.fc2.bias": [4],
                   attention + "dense.weight": [4, 24], attention + "dense.bias": [4]}
        for part in "qkv":
            tensors.update({attention + part + "_proj.weight": [24, 4],
                            attention + part + "_proj.bias": [24]})
        self.family("PhiForCausalLM", tensors, head_dim=12, partial_rotary_factor=0.4)
        gguf = self.convert()
        self.assertEqual(gguf.keys["phi2.rope.dimension_count"], ("u32", 4))      # of 4.8
        self.assertEqual(gguf.keys["phi2.attention.layer_norm_epsilon"], ("f32", f32(1e-5)))
        self.assertEqual(self.numbers(gguf, "output.bias"), [0, 1, 2])
        self.assertEqual(gguf.tensors["blk.0.attn_output.weight"][1], [24, 4])
        self.assertEqual(len(gguf.tensors), 19)

    def gemma(self, architecture, norms, **config):
        """A Gemma 2 or 3 of one layer; every number of a tensor is its index."""
        tensors = {name: shape for name, shape in shapes(
            layers=1, width=4, q=8, kv=4, neurons=6, vocab=3).items() if name != "lm_head.weight"}
        for name in ("pre_feedforward_layernorm", "post_feedforward_layernorm") + norms:
            tensors["model.layers.0.%s.weight" % name] = [4]
        settings = dict(head_dim=4, num_key_value_heads=1, query_pre_attn_scalar=144, **config)
        self.family(architecture, tensors, **settings)
        return tensors, settings

    def test_gemma2(self):
        self.gemma("Gemma2ForCausalLM", ())
        gguf = self.convert()
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            self.assertEqual(self.numbers(gguf, "blk.0.%s.weight" % name), [1, 2, 3, 4])
        for key, value in (("attention.scale", 1 / 12), ("attn_logit_softcapping", 50.0),
                           ("final_logit_softcapping", 30.0), ("rope.freq_base", 10000.0)):
            self.assertEqual(gguf.keys["gemma2." + key], ("f32", f32(value)))
        self.assertEqual(gguf.keys["gemma2.attention.sliding_window"], ("u32", 4096))
        self.assertEqual(gguf.keys["gemma2.context_length"], ("u32", 8192))

    def test_gemma3(self):
        """The model of text alone, as a part of one that sees, under either prefix."""
        name, norms = "Gemma3ForCausalLM", ("self_attn.q_norm", "self_attn.k_norm")
        rope = {"rope_type": "linear", "factor": 8.0}
        tensors, settings = self.gemma(name, norms, rope_scaling=rope)
        gguf = self.convert()
        for name in ("post_attention_norm", "ffn_norm", "post_ffw_norm", "attn_q_norm"):
            self.assertEqual(self.numbers(gguf, "blk.0.%s.weight" % name), [1, 2, 3, 4])
        for key, value in (("attention.scale", 1 / 12), ("rope.freq_base", 1e6),
                           ("rope.freq_base_swa", 1e4), ("rope.scaling.factor", 8.0)):
            self.assertEqual(gguf.keys["gemma3." + key], ("f32", f32(value)))
        self.assertEqual(gguf.keys["gemma3.context_length"], ("u32", 131072))
        whole = gguf.raw
        two = {"full_attention": dict(rope, rope_theta=1e6),
               "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
        self.gemma("Gemma3ForCausalLM", norms, rope_parameters=two)
        self.assertEqual(self.convert().raw, whole)
        text = dict(settings, vocab_size=3, hidden_size=4, num_hidden_layers=1,
                    num_attention_heads=2, intermediate_size=6)
        sight = {"vision_tower.encoder.layers.0.mlp.fc1.weight": [2, 2],
                 "multi_modal_projector.mm_soft_emb_norm.weight": [2]}
        for prefix, other in (("language_model.model.", ""), ("model.language_model.", "model.")):
            named = {prefix + name[len("model."):]: shape for name, shape in tensors.items()}
            named.update({other + name: shape for name, shape in sight.items()})
            self.family("Gemma3ForConditionalGeneration", named)
            self.write("config.json", {"architectures": ["Gemma3ForConditionalGeneration"],
                                       "text_config": text, "vision_config": {"hidden_size": 2}})
            self.assertEqual(self.convert().raw, whole)
        done = run_forked(["hf", self.model, "-o", self.out])
        self.assertIn("tiny: the model of text alone", done.stderr.split("\n")[0])
        os.remove(self.out)
        for change in ({"text_config": 1}, {"text_config": dict(text, sliding_window_pattern=4)},
                       {"text_config": text, "quantization_config": {"bits": 4}}):
            self.write("config.json", dict({"architectures": ["Gemma3ForConditionalGeneration"]},
                                           **change))
            self.refuse("config.json", {1: "text_config", 2: "quantization_config"}[len(change)] if
                        change["text_config"] in (1, text) else "sliding_window_pattern")
        self.write("config.json", {"architectures": ["Gemma3ForConditionalGeneration"],
                                   "text_config": text})
        self.family("Gemma3ForConditionalGeneration", dict(named, **{"model.audio": [2]}),
                    text_config=text)
        self.refuse("model.audio")
        self.family("Gemma3ForConditionalGeneration", dict(named, **{"model.norm.weight": [4]}),
                    text_config=text)
        self.refuse("two names")

    def test_cohere(self):
        tensors = {name: shape for name, shape in shapes(
            layers=1, width=4, q=8, kv=4, neurons=6, vocab=3).items()
            if name != "lm_head.weight" and "post_attention" not in name}
        self.family("CohereForCausalLM", tensors, head_dim=4, num_key_value_heads=1,
                    logit_scale=0.25)
        gguf = self.convert()
        self.assertEqual(gguf.keys["general.architecture"], ("string", "command-r"))
        self.assertEqual(gguf.keys["command-r.logit_scale"], ("f32", 0.25))
        self.assertEqual(gguf.keys["command-r.rope.freq_base"], ("f32", 500000.0))
        self.assertEqual(self.numbers(gguf, "blk.0.attn_q.weight"), [float(i) for i in range(32)])
        self.assertEqual(len(gguf.tensors), 10)

    def later(self, name, arch, added=(), left_out=(), **config):
        """A model of one layer of a family that is LLaMA but for some tensors: one key-value head
        of two, heads of 4 numbers. Returns the file."""
        tensors = shapes(layers=1, width=4, q=8, kv=4, neurons=6, vocab=3)
        tensors = {key: shape for key, shape in tensors.items()
                   if not any(word in key for word in left_out)}
        self.family(name + "ForCausalLM", dict(tensors, **{
            "model.layers.0." + key: shape for key, shape in dict(added).items()}), **dict(
                dict(head_dim=4, num_key_value_heads=1), **config))
        gguf = self.convert()
        self.assertEqual(gguf.keys["general.architecture"], ("string", arch))
        self.arch = arch
        return gguf

    def has(self, gguf, tensors, **values):
        """The names of the layer's tensors, and values; "__" stands for a dot."""
        self.assertEqual({name[6:] for name in gguf.tensors if name.startswith("blk.0.")},
                         set(tensors.split()))
        for key, value in values.items():
            self.assertEqual(gguf.keys[self.arch + "." + key.replace("__", ".")], value, key)

    def test_olmo2(self):
        gguf = self.later("Olmo2", "olmo2", {
            "self_attn.q_norm.weight": [8], "self_attn.k_norm.weight": [4],
            "post_feedforward_layernorm.weight": [4]}, ["input_layernorm"])
        self.has(gguf, "attn_q.weight attn_k.weight attn_v.weight attn_output.weight "
                 "attn_q_norm.weight attn_k_norm.weight post_attention_norm.weight "
                 "ffn_gate.weight ffn_up.weight ffn_down.weight post_ffw_norm.weight",
                 attention__layer_norm_rms_epsilon=("f32", f32(1e-5)),
                 rope__freq_base=("f32", 10000.0), rope__dimension_count=("u32", 4),
                 context_length=("u32", 2048), attention__head_count_kv=("u32", 1))
        self.assertEqual(self.numbers(gguf, "blk.0.attn_q.weight"), list(range(32)))
        self.assertEqual(self.numbers(gguf, "blk.0.attn_q_norm.weight"), list(range(8)))
        self.assertEqual(self.numbers(gguf, "blk.0.attn_k_norm.weight"), list(range(4)))

    def test_stablelm(self):
        """LayerNorm, so that all norms have biases; those of q, k and v are as the config says."""
        norms = {"model.norm.bias": [4], "model.layers.0.input_layernorm.bias": [4],
                 "model.layers.0.post_attention_layernorm.bias": [4]}
        biases = {"model.layers.0.self_attn.%s_proj.bias" % part: [8 if part == "q" else 4]
                  for part in "qkv"}
        tensors = dict(shapes(layers=1, width=8, q=8, kv=4, neurons=6, vocab=3), **{
            name: [8] for name in norms})
        common = dict(hidden_size=8, num_key_value_heads=1, partial_rotary_factor=0.5)
        names = ("attn_norm.weight attn_norm.bias attn_q.weight attn_k.weight attn_v.weight "
                 "attn_output.weight ffn_norm.weight ffn_norm.bias ffn_gate.weight ffn_up.weight "
                 "ffn_down.weight")
        self.arch = "stablelm"
        for more, flag in ((biases, {"use_qkv_bias": True}), ({}, {"use_qkv_bias": False}),
                           ({}, {})):
            self.family("StableLmForCausalLM", dict(tensors, **more), **dict(common, **flag))
            gguf = self.convert()
            self.has(gguf, names + (" attn_q.bias attn_k.bias attn_v.bias" if more else ""),
                     attention__layer_norm_epsilon=("f32", f32(1e-5)),
                     rope__dimension_count=("u32", 2), context_length=("u32", 4096),
                     use_parallel_residual=("bool", False))
            self.assertNotIn("stablelm.attention.layer_norm_rms_epsilon", gguf.keys)
            self.assertEqual(self.numbers(gguf, "blk.0.attn_q.weight"), list(range(64)))
            self.assertEqual(self.numbers(gguf, "output_norm.bias"), list(range(8)))
        os.remove(self.out)
        self.family("StableLmForCausalLM", dict(tensors, **biases), **common)
        self.refuse("k_proj.bias")
        self.family("StableLmForCausalLM", tensors, head_dim=6, **common)
        self.refuse("2 heads of size 6 make no width of 8")

    def test_phi3(self):
        """One tensor of q, k and v, one of gate and up, each as it is."""
        added = {"self_attn.qkv_proj.weight": [16, 4], "mlp.gate_up_proj.weight": [12, 4]}
        without = ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"]
        names = ("attn_norm.weight attn_qkv.weight attn_output.weight ffn_norm.weight "
                 "ffn_up.weight ffn_down.weight")
        for window, given in ((9, {"sliding_window": 9}), (0, {"sliding_window": None}), (0, {})):
            gguf = self.later("Phi3", "phi3", added, without, **given)
            self.has(gguf, names, attention__sliding_window=("u32", window),
                     feed_forward_length=("u32", 6), rope__dimension_count=("u32", 4),
                     attention__layer_norm_rms_epsilon=("f32", f32(1e-5)))
            self.assertEqual(self.numbers(gguf, "blk.0.attn_qkv.weight"), list(range(64)))
            self.assertEqual(self.numbers(gguf, "blk.0.ffn_up.weight"), list(range(48)))
            self.assertEqual(gguf.tensors["blk.0.ffn_up.weight"][1], [4, 12])
        gguf = self.later("Phi3", "phi3", added, without, partial_rotary_factor=0.75, head_dim=4,
                          rope_scaling={"type": "default", "partial_rotary_factor": 0.5})
        self.has(gguf, names, rope__dimension_count=("u32", 2))
        os.remove(self.out)
        for kind in "su", "longrope", "yarn":
            self.family("Phi3ForCausalLM", {}, head_dim=4, num_key_value_heads=1, rope_scaling={
                "type": kind, "short_factor": [1.0] * 2, "long_factor": [2.0] * 2})
            self.refuse("config.json", "short_factor")

    def test_smollm3(self):
        gguf = self.later("SmolLM3", "smollm3", tie_word_embeddings=False)
        names = ("attn_norm.weight attn_q.weight attn_k.weight attn_v.weight attn_output.weight "
                 "ffn_norm.weight ffn_gate.weight ffn_up.weight ffn_down.weight")
        self.has(gguf, names, rope__freq_base=("f32", 2e6), context_length=("u32", 32768),
                 attention__layer_norm_rms_epsilon=("f32", f32(1e-6)))
        # Rows 0 to 3 of a head are those of two pairs, 0 with 2 and 1 with 3.
        order = [0, 2, 1, 3, 4, 6, 5, 7]
        self.assertEqual(self.numbers(gguf, "blk.0.attn_q.weight"),
                         [4 * row + i for row in order for i in range(4)])
        self.assertEqual(self.numbers(gguf, "blk.0.attn_k.weight"),
                         [4 * row + i for row in order[:4] for i in range(4)])
        self.assertEqual(self.numbers(gguf, "blk.0.attn_v.weight"), list(range(16)))
        gguf = self.later("SmolLM3", "smollm3", left_out=["lm_head"])      # tied, if not told
        self.has(gguf, names)
        self.assertNotIn("output.weight", gguf.tensors)

    def test_granite(self):
        gguf = self.later("Granite", "granite", embedding_multiplier=12.0, residual_multiplier=0.22,
                          attention_multiplier=0.0078125, logits_scaling=16.0)
        self.has(gguf, "attn_norm.weight attn_q.weight attn_k.weight attn_v.weight "
                 "attn_output.weight ffn_norm.weight ffn_gate.weight ffn_up.weight ffn_down.weight",
                 embedding_scale=("f32", 12.0), residual_scale=("f32", f32(0.22)),
                 attention__scale=("f32", 0.0078125), logit_scale=("f32", 16.0),
                 rope__freq_base=("f32", 10000.0))
        self.assertEqual(self.numbers(gguf, "blk.0.attn_k.weight"),
                         [4 * row + i for row in (0, 2, 1, 3) for i in range(4)])
        gguf = self.later("Granite", "granite")
        for key in "embedding_scale", "residual_scale", "attention.scale", "logit_scale":
            self.assertEqual(gguf.keys["granite." + key], ("f32", 1.0))

    def test_refusals(self):
        """What a family may have and this program has not."""
        bloom = "apply_residual_connection_post_layernorm"
        for name, change in (
                ("OPT", {"do_layer_norm_before": False}), ("OPT", {"word_embed_proj_dim": 2}),
                ("OPT", {"enable_bias": False}), ("OPT", {"layer_norm_elementwise_affine": False}),
                ("OPT", {"_remove_final_layer_norm": True}), ("Bloom", {bloom: True}),
                ("OPT", {"activation_function": "gelu"}), ("Phi", {"qk_layernorm": True}),
                ("Phi", {"hidden_act": "gelu"}), ("Phi", {"partial_rotary_factor": 0.75}),
                ("Qwen2", {"use_sliding_window": True}), ("Qwen2", {"hidden_act": "gelu"}),
                ("Qwen3", {"attention_bias": True}), ("Qwen3", {"use_sliding_window": True}),
                ("Cohere", {"use_qk_norm": True}), ("Cohere", {"attention_bias": True}),
                ("Cohere", {"tie_word_embeddings": False}), ("Gemma", {"attention_bias": True}),
                ("Gemma", {"hidden_act": "relu"}), ("Gemma", {"hidden_activation": "gelu"}),
                ("Gemma", {"tie_word_embeddings": False}),
                ("Gemma", {"use_bidirectional_attention": True}),
                ("Gemma2", {"hidden_act": "gelu"}), ("Gemma2", {"attention_bias": True}),
                ("Gemma2", {"query_pre_attn_scalar": None}),
                ("Gemma3", {"attn_logit_softcapping": 50.0}),
                ("Gemma3", {"final_logit_softcapping": 30.0}),
                ("Gemma3", {"sliding_window_pattern": 2}), ("Gemma3", {"sliding_window": None}),
                ("Olmo2", {"attention_bias": True}), ("Olmo2", {"hidden_act": "gelu"}),
                ("StableLm", {"use_parallel_residual": True}), ("StableLm", {"qk_layernorm": True}),
                ("StableLm", {"hidden_act": "relu"}), ("Phi3", {"hidden_act": "gelu"}),
                ("Phi3", {"sliding_window": 0}), ("SmolLM3", {"no_rope_layers": [0]}),
                ("SmolLM3", {"no_rope_layers": []}), ("SmolLM3", {"no_rope_layer_interval": 3}),
                ("SmolLM3", {"use_sliding_window": True}), ("SmolLM3", {"attention_bias": True}),
                ("SmolLM3", {"mlp_bias": True}), ("SmolLM3", {"hidden_act": "gelu"}),
                ("Granite", {"attention_bias": True}), ("Granite", {"mlp_bias": True}),
                ("Granite", {"hidden_act": "gelu"}), ("Granite", {"logits_scaling": 0}),
                ("Granite", {"residual_multiplier": None})):
            with self.subTest(name + str(change)):
                self.family(name + "ForCausalLM", {}, head_dim=2, num_key_value_heads=2, **change)
                self.refuse("config.json", next(iter(change)))
        for change in ({"scale_attn_by_inverse_layer_idx": True}, {"scale_attn_weights": False},
                       {"reorder_and_upcast_attn": True}, {"add_cross_attention": True},
                       {"activation_function": "relu"}):
            self.gpt2(**change)
            self.refuse("config.json", next(iter(change)))
        self.gpt2(n_head=3)
        self.refuse("config.json", "3 heads of size 1 make no width of 4")
        for rope in ("yarn", "dynamic", "longrope", "linear", "llama3"):
            for name in ("Llama", "Mistral", "Qwen2", "Gemma2", "Cohere", "Phi", "Gemma3", "Olmo2",
                         "StableLm", "Phi3", "SmolLM3", "Granite"):
                if rope in ("linear", "llama3") and name in ("Llama", "Mistral", "Gemma3")[
                        :2 + (rope == "linear")]:
                    continue
                self.family(name + "ForCausalLM", {}, head_dim=2, num_key_value_heads=2,
                            rope_scaling={"rope_type": rope, "factor": 2.0})
                self.refuse("config.json", "rope_type is '%s'" % rope)
        for name in ("Mixtral", "Qwen2Moe", "Qwen3Moe", "Olmoe", "DeepseekV3", "GptOss", "Cohere2",
                     "GPTNeoX", "Falcon", "Qwen3Next", "Olmo", "Olmo3", "GraniteMoe",
                     "GraniteMoeHybrid", "PhiMoE", "Phi4Multimodal", "StableLMEpoch"):
            self.family(name + "ForCausalLM", {})
            self.refuse("config.json", name + "ForCausalLM", "supported are BloomForCausalLM, ")

    def test_linear_scaling(self):
        self.checkpoint(rope_scaling={"type": "linear", "factor": 2.5})
        keys = self.convert().keys
        self.assertEqual(keys["llama.rope.scaling.type"], ("string", "linear"))
        self.assertEqual(keys["llama.rope.scaling.factor"], ("f32", 2.5))

    def test_llama3_scaling_as_released(self):
        """LLaMA 3.2's settings: by wavelengths, as its authors wrote it."""
        self.checkpoint(weights(q=512, kv=256), rope_scaling={
            "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}, rope_theta=500000.0, head_dim=128)
        raw = self.convert().tensors["rope_freqs.weight"][2]
        for i, got in enumerate(decode(raw, "F32")):
            wavelength = 2 * 3.141592653589793 * 500000.0 ** (i / 64)
            smooth = (8192 / wavelength - 1) / 3
            want = 1.0 if wavelength < 2048 else 32.0 if wavelength > 8192 else (
                1 / ((1 - smooth) / 32 + smooth))
            self.assertAlmostEqual(got / want, 1, places=6)
        self.assertEqual(sum(1 < x < 32 for x in decode(raw, "F32")), 6)

    def test_llama3_scaling(self):
        self.checkpoint(rope_scaling=None, rope_parameters={
            "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 100})
        gguf = self.convert()
        kind, dims, raw = gguf.tensors["rope_freqs.weight"]
        smooth = (100 / (2 * 3.141592653589793 * 10) - 1) / 3
        self.assertEqual((kind, dims), (F32_TYPE, [4]))
        for got, want in zip(decode(raw, "F32"), (1, 1 / ((1 - smooth) / 8 + smooth), 8, 8)):
            self.assertAlmostEqual(got, want, places=5)


class Bin(Case):
    """pytorch_model.bin gives what safetensors gives."""

    def test_same_bytes(self):
        for dtype, letter in ("F32", "f"), ("F16", "e"), ("BF16", "H"):
            self.checkpoint(weights(dtype))
            self.convert()
            with open(self.out, "rb") as file:
                want = file.read()
            os.remove(os.path.join(self.model, "model.safetensors"))
            self.write("pytorch_model.bin", self.bin(weights(dtype), letter))
            self.convert()
            with open(self.out, "rb") as file:
                self.assertEqual(file.read(), want)

    def bin(self, tensors, letter):
        """A checkpoint; a matrix of every two is the transposed view of its transpose."""
        pt, values = Pt(), {}
        for number, (name, (dtype, shape, raw)) in enumerate(sorted(tensors.items())):
            items = struct.unpack("<%d%s" % (product(shape), letter), raw)
            strides = None
            if len(shape) == 2 and number % 2:
                items = [items[i * shape[1] + j] for j in range(shape[1]) for i in range(shape[0])]
                strides = (1, shape[0])
            values[name] = pt.tensor(items, shape, letter, strides=strides)
        attribute = Call(Global("collections", "OrderedDict"))
        body = pickled(attribute) + pickled(values)[1:] + pickled({"_metadata": 1}) + b"b"
        return pt.file(body)

    def test_parameters(self):
        """Some checkpoints hold parameters, which are tensors with a flag."""
        self.checkpoint(weights("F32"))
        model = self.convert().raw
        os.remove(os.path.join(self.model, "model.safetensors"))
        pt, values, parameter = Pt(), {}, Global("torch._utils", "_rebuild_parameter")
        for name, (_, shape, raw) in weights("F32").items():
            made = pt.tensor(struct.unpack("<%df" % product(shape), raw), shape, "f")
            values[name] = Call(parameter, made, True, Call(Global("collections", "OrderedDict")))
        self.write("pytorch_model.bin", pt.file(values))
        self.assertEqual(self.convert().raw, model)
        os.remove(self.out)
        self.write("pytorch_model.bin", pt.file(dict(values, x=Call(parameter, 1, True))))
        self.refuse("pytorch_model.bin", "damaged")

    def test_hostile(self):
        self.checkpoint()
        os.remove(os.path.join(self.model, "model.safetensors"))
        mark = os.path.join(self.dir, "mark")
        rebuild = pickled(Global("torch._utils", "_rebuild_tensor_v2"))
        pt = Pt()
        good = pt.tensor([1.0] * 4, (2, 2), "f")
        for data, word in (
                (b"PK", "damaged"), (Pt().file({"x": 1}), "dict of tensors"),
                (Pt().file(pickled({"n": Call(Global("os", "system"), "touch " + mark)})),
                 "wants os.system"),
                (Pt().file(rebuild + pickled((None, {"__defaults__": (1,)})) + b"b"), "damaged"),
                (Pt().file(pickled(Global("collections", "OrderedDict")) + pickled({"x": 1})
                           + b"b"), "damaged"),
                (pt.file({"x": good}, compression=zipfile.ZIP_DEFLATED), "damaged"),
                (pt.file({"x": good}, drop=["0"]), "damaged"),
                (counts_file([1] * 6, (2, 3), 9), "dict of tensors"),
                (Pt(">").file({}), "damaged")):
            self.write("pytorch_model.bin", data)
            self.refuse("pytorch_model.bin", word)
        for options, word in ((dict(claim=5), "claims"), (dict(strides=(2, 2)), "damaged"),
                              (dict(offset=1), "damaged"), (dict(strides=(0, 1)), "neither")):
            pt = Pt()
            self.write("pytorch_model.bin", pt.file(
                {"x": pt.tensor([1.0] * 4, (2, 2), "f", **options)}))
            self.refuse("pytorch_model.bin", word)
        self.assertFalse(os.path.exists(mark))


class ByteLevel(Case):
    """tokenizer.json."""

    LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    NFC = {"type": "NFC"}

    def split(self, regex):
        return {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
            dict(self.LEVEL, use_regex=False)]}

    def file(self, pre=None, merges=("a b", "ab c"), **change):
        model = dict({"type": "BPE", "merges": list(merges), "vocab": {
            "a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}}, **change.pop("model", {}))
        self.checkpoint(bos_token_id=5)
        self.write("tokenizer.json", dict({
            "version": "1.0", "truncation": None, "padding": None,
            "pre_tokenizer": pre or self.LEVEL, "normalizer": None, "model": model,
            "decoder": self.LEVEL, "post_processor": None, "added_tokens": self.words(
                (5, added("<s>", True)), (6, added("  ")))}, **change))

    def words(self, *words):
        return [dict(word, id=number) for number, word in words]

    def keys(self, *args, **change):
        """The tokenizer's part of the metadata."""
        self.file(*args, **change)
        return {name[15:]: value for name, value in self.convert().keys.items()
                if name.startswith("tokenizer.ggml.")}

    def test_keys(self):
        for merges in ["a b", "ab c"], [["a", "b"], ["ab", "c"]]:
            self.assertEqual(self.keys(merges=merges), {
                "model": ("string", "gpt2"), "pre": ("string", "gpt-2"),
                "tokens": ("[string]", ["a", "b", "c", "ab", "abc", "<s>", "  "]
                           + ["[PAD%d]" % i for i in range(7, 12)]),
                "token_type": ("[i32]", [NORMAL] * 5 + [CONTROL, USER] + [UNUSED] * 5),
                "added_tokens": ("[i32]", [6]), "added_normalized": ("[bool]", [0]),
                "merges": ("[string]", ["a b", "ab c"]), "bos_token_id": ("u32", 5),
                "add_bos_token": ("bool", False), "add_eos_token": ("bool", False)})

    def test_splitters(self):
        words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        rest = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
        tekken = (r"[^\r\n\p{L}\p{N}]?" + upper + "*" + lower + r"+|[^\r\n\p{L}\p{N}]?" + upper
                  + "+" + lower + r"*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
        digits = {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, self.LEVEL]}
        for pre, name, merging, normalizer in (
                (self.split(words + r"\p{N}{1,3}" + rest), "llama-bpe", True, None),
                (self.split(words + r"\p{N}" + rest), "qwen2", False, self.NFC),
                (self.split(tekken), "tekken", True, None),
                (digits, "command-r", False, self.NFC),
                (self.split(" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"),
                 "bloom", False, None)):
            self.file(pre, model={"ignore_merges": merging}, normalizer=normalizer)
            self.assertEqual(self.convert().keys["tokenizer.ggml.pre"], ("string", name))
            os.remove(self.out)
            self.file(pre, model={"ignore_merges": not merging}, normalizer=normalizer)
            self.refuse("tokenizer.json", "ignore_merges", name)
            self.file(pre, model={"ignore_merges": merging},
                      normalizer=self.NFC if normalizer is None else None)
            self.refuse("tokenizer.json", "normalizer", name)
        for pre in (self.split(words), dict(self.LEVEL, add_prefix_space=True),
                    {"type": "Whitespace"}, dict(self.LEVEL, use_regex=False),
                    {"type": "Sequence", "pretokenizers": 1}):
            self.file(pre)
            self.refuse("tokenizer.json", "pre_tokenizer", "--no-tokenizer")
        self.assertEqual(self.convert("--no-tokenizer").keys["tokenizer.ggml.model"][1], "none")
        self.assertNotIn("tokenizer.ggml.tokens", self.convert("--no-tokenizer").keys)

    def test_added_bos(self):
        template = {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]}}}
        self.file(post_processor={"type": "Sequence", "processors": [self.LEVEL, template]})
        self.assertEqual(self.convert().keys["tokenizer.ggml.add_bos_token"], ("bool", True))

    def test_words_that_the_vocabulary_has(self):
        """They stay what text becomes by merges, and are found as they read, too."""
        keys = self.keys(added_tokens=self.words((0, added("a")), (3, added("ab", normalized=True)),
                                                 (5, added("\u00f1"))))
        self.assertEqual(keys["token_type"], ("[i32]", [NORMAL] * 5 + [USER] + [UNUSED] * 6))
        self.assertEqual(keys["added_tokens"], ("[i32]", [0, 3, 5]))
        self.assertEqual(keys["added_normalized"], ("[bool]", [0, 1, 0]))

    def test_special_tokens_that_text_becomes(self):
        """Single bytes and what merges take or make; where words that are tokens stay whole, all
        that may be a word."""
        vocabulary = {"a": 0, "b": 1, "ab": 2, "<a>": 3, "aa": 4, ".": 5}
        words = self.words(*((vocabulary[text], added(text, True))
                             for text in ("a", "ab", "<a>", "aa", ".")))
        model = {"vocab": vocabulary, "merges": ["a b"]}
        keys = self.keys(model=model, added_tokens=words)
        self.assertEqual(keys["token_type"][1][:6], [NORMAL] * 3 + [CONTROL] * 2 + [NORMAL])
        self.assertNotIn("added_tokens", keys)
        regex = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                 r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
        keys = self.keys(self.split(regex), model=dict(model, ignore_merges=True),
                         added_tokens=words)
        self.assertEqual(keys["token_type"][1][:6], [NORMAL] * 3 + [CONTROL] + [NORMAL] * 2)

    def test_refusals(self):
        words = self.words
        for change, word in (
                ({"model": {"merges": ["a b c"]}}, "merges"),
                ({"model": {"merges": ["b a"]}}, "merges"), ({"model": {"vocab": [1]}}, "vocab"),
                ({"model": {"merges": ["a b", "ab c", "a b"]}}, "each once"),
                ({"model": {"vocab": {"a": 0, "b": 0}}}, "vocab"),
                ({"model": {"type": "Unigram"}}, "Unigram"),
                ({"model": {"dropout": 0.5}}, "dropout"), ({"model": {"stride": 1}}, "stride"),
                ({"model": {"end_of_word_suffix": "</w>"}}, "end_of_word_suffix"),
                ({"model": {"continuing_subword_prefix": "##"}}, "continuing_subword_prefix"),
                ({"model": {"byte_fallback": 1}}, "byte_fallback"),
                ({"normalizer": {"type": "NFKC"}}, "normalizer"), ({"special": 1}, "special"),
                ({"version": "2.0"}, "2.0"), ({"decoder": {"type": "WordPiece"}}, "decoder"),
                ({"post_processor": {"type": "Roberta"}}, "post_processor"),
                ({"added_tokens": words((12, added("x", True)))}, "12"),
                ({"added_tokens": words((4, added("x", True)))}, "abc"),
                ({"added_tokens": words((4, added("x")))}, "should be 5"),
                ({"added_tokens": words((6, added("x")))}, "should be 5"),
                ({"added_tokens": words((6, added("x")), (5, added("y")))}, "should be 5"),
                ({"added_tokens": words((5, added("ab")))}, "should be 3"),
                ({"added_tokens": words((5, added("ab", True)))}, "should be 3"),
                ({"added_tokens": words((5, added("x")), (5, added("y", True)))}, "twice"),
                ({"added_tokens": words((5, added("x", rstrip=True)))}, "spaces beside it"),
                ({"added_tokens": words((5, dict(added("x"), stride=1)))}, "stride"),
                ({"added_tokens": [{"id": 5, "content": "x", "special": False}]}, "all flags"),
                ({"added_tokens": [1]}, "added token"), ({"added_tokens": {"x": 5}}, "a list is")):
            with self.subTest(change):
                self.file(**change)
                self.refuse("tokenizer.json", word)
        regex = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
                 r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
        twice = words((5, added("\u00e9", normalized=True)), (6, added("e\u0301", normalized=True)))
        self.file(self.split(regex), normalizer=self.NFC, added_tokens=twice)
        self.refuse("tokenizer.json", "normal form")
        twice[1]["normalized"] = False
        self.file(self.split(regex), normalizer=self.NFC, added_tokens=twice)
        keys = self.convert().keys
        self.assertEqual(keys["tokenizer.ggml.added_normalized"][1], [1, 0])
        self.assertEqual(keys["tokenizer.ggml.tokens"][1][5:7], ["\u00e9", "e\u0301"])
        twice[1].update(normalized=True, content="o\u0301")
        self.file(self.split(regex), normalizer=self.NFC, added_tokens=twice)
        keys = self.convert().keys                   # a normalized word is written in normal form
        self.assertEqual(keys["tokenizer.ggml.tokens"][1][5:7], ["\u00e9", "\u00f3"])
        os.remove(self.out)
        for settings in ({"add_prefix_space": True}, {"tokenizer_class": "Qwen2Tokenizer"},
                         {"tokenizer_class": "CohereTokenizerFast"}):
            self.file()
            self.write("tokenizer_config.json", settings)
            self.refuse("tokenizer_config.json", "gpt-2")


class Ranked(Case):
    """SentencePiece's BPE in tokenizer.json, where merges have ranks and no scores."""

    LEVEL, words, keys = ByteLevel.LEVEL, ByteLevel.words, ByteLevel.keys
    META = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first",
            "split": False}
    REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
             "invert": False}
    DECODER = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"}]}
    STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    FIRST = ["<unk>", "<s>"] + ["<0x%02X>" % i for i in range(256)]
    PIECES = FIRST + ["\u2581", "a", "b", "ab", "\u2581ab"]
    ROWS = 266

    def file(self, model=(), words=((0, added("<unk>", True)), (1, added("<s>", True))), **change):
        """As transformers 5 writes LLaMA's."""
        model = dict({"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": True,
                      "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "byte_fallback": True, "ignore_merges": False, "merges": [
                          ["a", "b"], ["\u2581", "ab"]],
                      "vocab": {text: i for i, text in enumerate(self.PIECES)}}, **dict(model))
        self.checkpoint(weights(vocab=self.ROWS), vocab_size=self.ROWS)
        self.write("tokenizer.json", dict({
            "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
            "pre_tokenizer": self.META, "post_processor": None, "model": model,
            "decoder": dict(self.DECODER, decoders=self.DECODER["decoders"] + [self.STRIP]),
            "added_tokens": self.words(*words)}, **change))

    EXPECTED = {
        "model": ("string", "llama"), "pre": ("string", "default"),
        "tokens": ("[string]", PIECES + ["[PAD263]", "[PAD264]", "[PAD265]"]),
        "token_type": ("[i32]", [CONTROL] * 2 + [BYTE] * 256 + [NORMAL] * 5 + [UNUSED] * 3),
        "scores": ("[f32]", [-2] * 261 + [0, -1] + [-2] * 3),
        "merges": ("[string]", ["a b", "\u2581 ab"]), "add_space_prefix": ("bool", True),
        "add_bos_token": ("bool", False), "add_eos_token": ("bool", False)}

    def test_keys(self):
        self.assertEqual(self.keys(), self.EXPECTED)
        scheme = dict(self.META, prepend_scheme="always")
        self.assertEqual(self.keys(pre_tokenizer=scheme, decoder=None), self.EXPECTED)
        expected = dict(self.EXPECTED, unknown_token_id=("u32", 0), token_type=(
            "[i32]", [UNKNOWN] + self.EXPECTED["token_type"][1][1:]))
        self.assertEqual(self.keys({"unk_token": "<unk>"}), expected)

    def test_without_a_space_before(self):
        """And in Gemma's form, whose normalizer leaves no spaces to its splitter."""
        expected = dict(self.EXPECTED, add_space_prefix=("bool", False))
        scheme = dict(self.META, prepend_scheme="never")
        self.assertEqual(self.keys(pre_tokenizer=scheme, decoder=self.DECODER), expected)
        for pre in self.SPLIT, None:
            self.assertEqual(self.keys(pre_tokenizer=pre, normalizer=self.REPLACE,
                                       decoder=self.DECODER), expected)

    def test_words(self):
        words = [(0, added("<unk>", True)), (262, added("\u2581ab")), (261, added("ab", True)),
                 (263, added("b\u00e1nh", normalized=True)), (264, added("a b"))]
        self.assertEqual(self.keys(words=words), dict(
            self.EXPECTED, added_tokens=("[i32]", [262, 263, 264]),
            added_normalized=("[bool]", [0, 1, 0]),
            tokens=("[string]", self.PIECES + ["b\u00e1nh", "a b", "[PAD265]"]),
            token_type=("[i32]", [CONTROL, NORMAL] + self.EXPECTED["token_type"][1][2:263]
                        + [USER, USER, UNUSED])))

    def test_refusals(self):
        word = (263, added("x"))
        prefix = {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"}, self.REPLACE]}
        always, never = (dict(self.META, prepend_scheme=name) for name in ("always", "never"))
        for change, says in (
                ({"model": {"byte_fallback": False}}, ["pre_tokenizer"]),
                ({"model": {"ignore_merges": True}}, ["ignore_merges"]),
                ({"model": {"dropout": 0.1}}, ["dropout"]),
                ({"model": {"unk_token": "<none>"}}, ["<none>"]),
                ({"model": {"unk_token": "ab"}}, ["ab", "unknown"]),
                ({"model": {"unk_token": ["<unk>"]}}, ["unk_token"]),
                ({"model": {"vocab": {"a": 0}, "merges": []}, "words": []}, ["<0x00>"]),
                ({"words": [(12, added("<0x0A>"))]}, ["<0x0A>", "not special"]),
                ({"words": [(0, added("<unk>"))], "model": {"unk_token": "<unk>"}}, ["<unk>"]),
                ({"words": [(265, added("x"))]}, ["should be 263"]),
                ({"words": [word] * 2}, ["twice"]),
                ({"words": [(263 + i, added("x%d" % i)) for i in range(4)]}, ["266", "vocab_size"]),
                ({"words": [word], "pre_tokenizer": always}, ["always", "added tokens"]),
                ({"pre_tokenizer": dict(self.META, split=True)}, ["Metaspace"]),
                ({"pre_tokenizer": dict(self.META, replacement="_")}, ["Metaspace"]),
                ({"pre_tokenizer": dict(self.META, prepend_scheme="last")}, ["last"]),
                ({"pre_tokenizer": dict(self.META, more=1)}, ["more"]),
                ({"pre_tokenizer": {"type": "Metaspace"}}, ["Metaspace"]),
                ({"pre_tokenizer": None}, ["Metaspace"]),
                ({"pre_tokenizer": None, "normalizer": prefix}, ["Prepend"]),
                ({"pre_tokenizer": None, "normalizer": prefix, "words": [word]}, ["Prepend"]),
                ({"normalizer": self.REPLACE}, ["Metaspace"]), ({"normalizer": 1}, ["Metaspace"]),
                ({"decoder": self.DECODER}, ["decoder", "Strip"]),
                ({"decoder": self.LEVEL}, ["decoder", "ByteFallback"]),
                ({"normalizer": self.REPLACE, "pre_tokenizer": None, "decoder": None, "words": [
                    (263, added("x y", normalized=True))]}, ["x y", "has a space"])):
            with self.subTest(change):
                self.file(**change)
                self.refuse("tokenizer.json", *says)
        for settings, change, says in (
                ({"legacy": True}, {"words": [word]}, ["always", "first"]),
                ({"add_prefix_space": False}, {}, ["never", "first"]),
                ({}, {"pre_tokenizer": never, "decoder": None}, ["first", "never"])):
            self.file(**change)
            self.write("tokenizer_config.json", dict(settings, tokenizer_class="LlamaTokenizer"))
            self.refuse("tokenizer_config.json", *says)
        self.write("tokenizer_config.json", {"tokenizer_class": "GemmaTokenizer"})
        self.file()
        self.refuse("tokenizer_config.json", "never", "first")

    def test_classes(self):
        """Those that agree, and those that do not ask."""
        word = (263, added("x"))
        for settings in ({"tokenizer_class": "LlamaTokenizer", "legacy": False},
                         {"tokenizer_class": "LlamaTokenizerFast", "add_prefix_space": None},
                         {"tokenizer_class": "PreTrainedTokenizerFast", "legacy": True},
                         {"add_prefix_space": False}):
            self.write("tokenizer_config.json", settings)
            keys = self.keys(words=[word])
            self.assertEqual((keys["add_space_prefix"][1], keys["added_tokens"][1]), (True, [263]))
        self.write("tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "legacy": True})
        self.assertTrue(self.keys()["add_space_prefix"][1])


class OlderFiles(Case):
    """vocab.json and merges.txt, from before there was tokenizer.json."""

    VOCAB = {"</s>": 0, "a": 1, "b": 2, "#": 3, "ab": 4, "#a": 5, "<pad>": 6}
    MERGES = "#version: 0.2\na b\n# a\n"

    def keys(self, architecture="GPT2LMHeadModel", vocab=VOCAB, merges=MERGES, **files):
        """The tokenizer's part of the metadata."""
        for name in os.listdir(self.model):
            os.remove(os.path.join(self.model, name))
        self.write("vocab.json", vocab)
        self.write("merges.txt", merges.encode() if isinstance(merges, str) else merges)
        for name, value in files.items():
            self.write(name + ".json", value)
        if architecture == "GPT2LMHeadModel":
            shapes = dict(Families.GPT2, **{"wte.weight": [9, 4]})
            Families.family(self, architecture, shapes)
            Families.gpt2(self, vocab_size=9)
        else:
            self.checkpoint(architectures=[architecture])
        return {name[15:]: value for name, value in self.convert().keys.items()
                if name.startswith("tokenizer.ggml.")}

    def test_keys(self):
        """In OPT's form, special tokens being in the vocabulary."""
        special = {"bos_token": {"content": "</s>"}, "eos_token": {"content": "</s>"},
                   "unk_token": "</s>", "pad_token": "<pad>"}
        expected = {
            "model": ("string", "gpt2"), "pre": ("string", "gpt-2"), "tokens": ("[string]", [
                "</s>", "a", "b", "#", "ab", "#a", "<pad>", "<new>", "[PAD8]"]),
            "token_type": ("[i32]", [CONTROL] + [NORMAL] * 5 + [CONTROL, USER, UNUSED]),
            "merges": ("[string]", ["a b", "# a"]), "bos_token_id": ("u32", 0),
            "add_bos_token": ("bool", True), "eos_token_id": ("u32", 0),
            "add_eos_token": ("bool", False), "added_tokens": ("[i32]", [7]),
            "added_normalized": ("[bool]", [1])}
        for files in (
                {"tokenizer_config": dict(special, add_bos_token=True),
                 "added_tokens": {"<new>": 7}},
                {"tokenizer_config": dict(
                    special, add_bos_token=True, tokenizer_class="GPT2TokenizerFast",
                    added_tokens_decoder={"7": {"content": "<new>"}}),
                 "added_tokens": {"<old>": 7}, "special_tokens_map": {"bos_token": "<old>"}},
                {"tokenizer_config": {"add_bos_token": True}, "added_tokens": {"<new>": 7},
                 "special_tokens_map": special},
                {"tokenizer_config": dict(special, add_bos_token=True, unk_token=None),
                 "special_tokens_map": {"unk_token": "nowhere"}, "added_tokens": {"<new>": 7}}):
            for merges in self.MERGES, "a b\r\n# a":
                self.assertEqual(self.keys(merges=merges, **files), expected)

    def test_words(self):
        """Those that are in the vocabulary stay there; of those that name a special token one that
        text becomes."""
        keys = self.keys(tokenizer_config={"bos_token": "a", "pad_token": "<pad>",
                                           "added_tokens_decoder": {
            "4": added("ab"), "7": added("<x>", True), "8": added("a b", normalized=True)}})
        self.assertEqual(keys["token_type"][1], [NORMAL] * 6 + [CONTROL, CONTROL, USER])
        self.assertEqual(keys["added_tokens"], ("[i32]", [4, 8]))
        self.assertEqual(keys["added_normalized"], ("[bool]", [0, 1]))
        self.assertEqual(keys["bos_token_id"], ("u32", 1))

    def test_same_as_tokenizer_json(self):
        """The file that stands for these: GPT-2's own special token, which no file names."""
        vocab = dict(self.VOCAB, **{"<|endoftext|>": 7})
        keys = self.keys(vocab=vocab)
        self.assertEqual(keys["token_type"][1][7], CONTROL)
        self.assertEqual(keys["eos_token_id"], ("u32", 7))
        with open(self.out, "rb") as file:
            older = file.read()
        self.write("tokenizer.json", {
            "normalizer": None, "pre_tokenizer": ByteLevel.LEVEL, "added_tokens": [
                dict(added("<|endoftext|>", True), id=7)],
            "model": {"type": "BPE", "vocab": vocab, "merges": ["a b", "# a"]}})
        self.write("tokenizer_config.json", {name: "<|endoftext|>" for name in (
            "bos_token", "eos_token", "unk_token")})
        self.write("vocab.json", b"passed over")
        self.convert()
        with open(self.out, "rb") as file:
            self.assertEqual(file.read(), older)

    def test_classes(self):
        """By architecture, or by name; Qwen's takes one digit at a time."""
        vocab = {"a": 0, "b": 1, "<|endoftext|>": 2, "ab": 3}
        for architecture, name, pre in (
                ("LlamaForCausalLM", "Qwen2Tokenizer", "qwen2"),
                ("LlamaForCausalLM", "CodeGenTokenizer", "gpt-2"),
                ("GPT2LMHeadModel", None, "gpt-2"),
                ("LlamaForCausalLM", "GPT2Tokenizer", "gpt-2")):
            keys = self.keys(architecture, vocab, "a b", tokenizer_config={"tokenizer_class": name})
            self.assertEqual(keys["pre"], ("string", pre))
            self.assertEqual(keys["eos_token_id"], ("u32", 2))
            self.assertEqual("bos_token_id" in keys, pre != "qwen2")

    def test_refusals(self):
        self.keys()
        os.remove(self.out)
        for name, value, words in (
                ("merges.txt", b"a", ["merges"]), ("merges.txt", b"a b ab", ["merges"]),
                ("merges.txt", b"a z", ["merges"]), ("merges.txt", b"b a", ["merges"]),
                ("merges.txt", b"a b\xff", ["merges.txt", "UTF-8"]),
                ("vocab.json", {"a": 0, "b": 0}, ["vocab"]), ("vocab.json", {"a": [0]}, ["an id"]),
                ("vocab.json", {"a": -1}, ["an id"]),
                ("vocab.json", dict(self.VOCAB, z=9), ["vocab_size", "id 9"]),
                ("vocab.json", [], ["JSON"]),
                ("tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"}, ["T5Tokenizer"]),
                ("tokenizer_config.json", {"tokenizer_class": ["GPT2Tokenizer"]}, ["a text is"]),
                ("tokenizer_config.json", {"add_prefix_space": True}, ["add_prefix_space"]),
                ("tokenizer_config.json", {"bos_token": "<far>"}, ["<far>", "no id"]),
                ("tokenizer_config.json", {"bos_token": 7}, ["no text"]),
                ("tokenizer_config.json", {"additional_special_tokens": [["x"]]}, ["no text"]),
                ("tokenizer_config.json", {"added_tokens_decoder": {"7": {
                    "content": "x", "lstrip": True}}}, ["spaces beside it"]),
                ("tokenizer_config.json", {"added_tokens_decoder": {"7": {
                    "content": "x", "special": "yes"}}}, ["neither true nor false"]),
                ("tokenizer_config.json", {"added_tokens_decoder": {"8": {"content": "x"}}},
                 ["x", "should be 7"]),
                ("tokenizer_config.json", {"added_tokens_decoder": {"7": {"content": "ab"}}},
                 ["ab", "should be 4"]),
                ("tokenizer_config.json", {"added_tokens_decoder": {"7": {
                    "content": "x", "special": False}}, "additional_special_tokens": ["x"]},
                 ["x", "not special"]),
                ("special_tokens_map.json", {"pad_token": "<far>"}, ["<far>", "no id"]),
                ("special_tokens_map.json", b"[]", ["special_tokens_map.json"]),
                ("special_tokens_map.json", {"pad_token": 1}, ["special_tokens_map", "no text"]),
                ("added_tokens.json", {"x": 8}, ["x", "should be 7"]),
                ("added_tokens.json", {"x": 7, "y": 8, "z": 9}, ["vocab_size", "id 9"])):
            with self.subTest(str(value)):
                path = os.path.join(self.model, name)
                before = open(path, "rb").read() if os.path.exists(path) else None
                self.write(name, value)
                self.refuse(*words)
                os.remove(path)
                if before:
                    self.write(name, before)
        self.write("special_tokens_map.json", {"bos_token": {"content": "a"}})
        self.write("tokenizer_config.json", {"bos_token": "b"})
        self.refuse("special_tokens_map.json", "bos_token is a", "it is b")
        for name in "special_tokens_map.json", "tokenizer_config.json", "merges.txt":
            os.remove(os.path.join(self.model, name))
        self.refuse("merges.txt", "No such file")
        self.assertEqual(self.convert("--no-tokenizer").keys["tokenizer.ggml.model"],
                         ("string", "none"))


class Random(Case):
    """The command random."""

    def test_reproducible(self):
        self.checkpoint()
        like = self.convert()
        os.remove(self.out)
        config, raws = os.path.join(self.model, "config.json"), []
        for args in ([], [], ["--seed", "1"], ["--type", "f16"]):
            done = run_forked(["random", config, "-o", self.out, "-q"] + args)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            gguf = Gguf(self.out)
            self.assertEqual({name: dims for name, (_, dims, _) in gguf.tensors.items()},
                             {name: dims for name, (_, dims, _) in like.tensors.items()})
            raws.append(gguf.raw)
        self.assertEqual(raws[0], raws[1])
        self.assertEqual(len(set(raws)), 3)
        numbers = decode(gguf.tensors["token_embd.weight"][2], "F16")
        self.assertLess(max(map(abs, numbers)), 0.2)

    # The settings as published; the numbers of parameters that their publishers, or PyTorch, count;
    # and those of vectors among them, which are written in four bytes each.
    LLAMA = dict(architectures=["LlamaForCausalLM"], vocab_size=32000, hidden_act="silu",
                 max_position_embeddings=4096, rms_norm_eps=1e-5, rope_scaling=None,
                 tie_word_embeddings=False, torch_dtype="float16", pretraining_tp=1)
    PUBLISHED = {
        "LLaMA-2-7B": (dict(LLAMA, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
                            num_attention_heads=32, num_key_value_heads=32),
                       6738415616, 65 * 4096),
        "LLaMA-2-13B": (dict(LLAMA, hidden_size=5120, intermediate_size=13824, num_hidden_layers=40,
                             num_attention_heads=40, num_key_value_heads=40),
                        13015864320, 81 * 5120),
        "LLaMA-2-70B": (dict(LLAMA, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
                             num_attention_heads=64, num_key_value_heads=8),
                        68976648192, 161 * 8192),
        "BLOOM-7B1": (dict(architectures=["BloomForCausalLM"], vocab_size=250880, hidden_size=4096,
                           n_layer=30, num_attention_heads=32, n_inner=None, pretraining_tp=4,
                           layer_norm_epsilon=1e-5, apply_residual_connection_post_layernorm=False,
                           slow_but_exact=False, seq_length=2048, offset_alibi=100),
                      7069016064, 30 * (4 + 3 + 1 + 4 + 1) * 4096 + 4 * 4096),
        "Mistral-7B": (dict(architectures=["MistralForCausalLM"], vocab_size=32000,
                            hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
                            num_attention_heads=32,
                            num_key_value_heads=8, hidden_act="silu", max_position_embeddings=32768,
                            rms_norm_eps=1e-5, rope_theta=10000.0, sliding_window=4096,
                            tie_word_embeddings=False), 7241732096, 65 * 4096)}

    def test_published_sizes(self):
        """The file that would be written, from its head, which says where every tensor starts."""
        names = {"__name__": "convert"}
        exec(PROGRAM, names)
        names["PERIOD"] = 1021                       # the numbers themselves are not wanted
        for model, (config, parameters, vectors) in self.PUBLISHED.items():
            with self.subTest(model):
                path = self.write("config.json", config)
                found = []
                names["write_new"] = lambda path, *rest: found.append(rest)
                names["main"](["random", path, "-o", self.out, "--name", model])
                metadata, tensors, *_ = found[0]
                self.assertEqual(sum(product(tensor.dims) for tensor in tensors), parameters)
                head = bytes(head_of(metadata, tensors))
                data = 2 * parameters + 2 * vectors  # all sizes are multiples of 32
                with Sparse(self.out, "w") as file:
                    file.write(head)
                    file.truncate(len(head) + data)
                at, gguf = len(head), Gguf.__new__(Gguf)
                gguf.raw, gguf.at = head, 24
                for _ in range(struct.unpack("<Q", head[16:24])[0]):
                    gguf.string()
                    gguf.value(*gguf.take("I"))
                for tensor in tensors:
                    self.assertEqual(gguf.string(), tensor.name)
                    dims = gguf.take("%dQ" % gguf.take("I")[0])
                    kind, offset = gguf.take("IQ")
                    self.assertEqual((dims, len(head) + offset), (tensor.dims, at))
                    self.assertEqual(kind, F32_TYPE if len(dims) == 1 else BF16_TYPE)
                    at += product(dims) * (4 if len(dims) == 1 else 2)
                self.assertEqual(at, os.path.getsize(self.out))
                if os.path.exists(LAPE):             # it maps what it is not asked to read
                    done = subprocess.run([LAPE, "info", self.out], stdout=subprocess.PIPE)
                    said = done.stdout.decode()
                    self.assertEqual(done.returncode, 0)
                    self.assertIn("model: %s\n" % model, said)
                    layers = config.get("num_hidden_layers", config.get("n_layer"))
                    self.assertIn("layers: %d\nwidth: %d\n" % (layers, config["hidden_size"]), said)

    @needs_lape
    def test_small_ones_run(self):
        """A layer of each, at a thirty-second of the width, in the program that reads them."""
        for model, (config, _, _) in self.PUBLISHED.items():
            small = dict(config, vocab_size=64, num_hidden_layers=1, max_position_embeddings=64)
            small.update({key: small[key] // 32 for key in ("hidden_size", "intermediate_size")
                          if key in small})
            if "n_layer" in small:
                small.update(n_layer=1, num_hidden_layers=1)
            path = self.write("config.json", small)
            ids = self.write("ids.bin", struct.pack("<20H", *range(20)))
            done = run_forked(["random", path, "-o", self.out, "-q", "--name", model])
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            done = subprocess.run([LAPE, "ppl", self.out, "xx=" + ids, "--seq", "20", "-q"],
                                  stdout=subprocess.PIPE)
            self.assertEqual(done.returncode, 0)
            # Weights of 0.02 say next to nothing: every token is about as likely.
            self.assertAlmostEqual(float(done.stdout.split()[-1]) / 64, 1, delta=0.5)


class CountsCase(Case):
    """What tests of the command counts share."""

    def pt(self, name, data):
        return "%s=%s" % (name, self.write(name + ".pt", data))

    def counts(self, *args):
        done = run_forked(["counts", *args, "-o", self.out])
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        return Gguf(self.out)

    def refuse_counts(self, *words, args=None, data=None):
        args = args or [self.pt("en", data)]
        self.assert_refused(run_forked(["counts", *args, "-o", self.out]), *words)


class Counts(CountsCase):
    """Activation files become a counts file."""

    def test_file(self):
        numbers = {"en": [0, 5, 7, 1, 2, 3], "de": [9, 0, 0, 0, 0, 9], "Zz-1_": [1] * 6}
        args = [self.pt(name, counts_file(values, (2, 3), 9)) for name, values in numbers.items()]
        gguf = self.counts("--name", "toy", *args)
        self.assertEqual(gguf.keys, {
            "general.architecture": ("string", "lape-counts"), "general.name": ("string", "toy"),
            "lape-counts.layers": ("u32", 2), "lape-counts.neurons": ("u32", 3),
            "lape-counts.languages": ("[string]", ["Zz-1_", "de", "en"]),
            "lape-counts.tokens": ("[u64]", [9, 9, 9])})
        self.assertEqual(gguf.tensors, {
            name + ".positive": (I64_TYPE, [3, 2], struct.pack("<6q", *values))
            for name, values in numbers.items()})
        self.assertEqual(self.counts(*args).keys["general.name"], ("string", "unknown"))

    def test_ways_to_write_the_same(self):
        """Types, byte orders, views, names of the total: one answer."""
        big, pts = 1 << 40, []
        pt = Pt()
        pts.append(pt.file({"total_tokens": big, "over_zero": pt.tensor(range(1, 7), (2, 3))}))
        pt = Pt(">")
        pts.append(pt.file({"n": big, "over_zero": pt.tensor(range(1, 7), (2, 3), "q")}))
        pt = Pt()
        pts.append(pt.file({"n": pt.tensor([big], (), "q"), "extra": "x", "over_zero": pt.tensor(
            [0, 1, 4, 2, 5, 3, 6, 0], (2, 3), "h", offset=1, strides=(1, 2))}, order_entry=False))
        pt = Pt()
        pts.append(pt.file({"n": big, "over_zero": pt.tensor(range(1, 7), (2, 3), "B")}))
        for data in pts:
            gguf = self.counts(self.pt("en", data))
            self.assertEqual(gguf.keys["lape-counts.tokens"], ("[u64]", [big]))
            self.assertEqual(gguf.tensors["en.positive"][2], struct.pack("<6q", *range(1, 7)))

    def test_counts_within_the_tokens(self):
        for numbers, place in (([0, 0, 0, 0, 10, 0], "layer 1, neuron 1"),
                               ([0, 0, -1, 0, 1, 0], "layer 0, neuron 2")):
            number = -1 if -1 in numbers else 10
            self.refuse_counts("en.pt", "en", place, "is %d," % number, "9 tokens",
                               data=counts_file(numbers, (2, 3), 9))
        self.counts(self.pt("en", counts_file([0, 9], (1, 2), 9)))

    def test_one_model(self):
        args = [self.pt("de", counts_file([1] * 6, (2, 3), 9)),
                self.pt("en", counts_file([1] * 6, (3, 2), 9))]
        self.refuse_counts("en.pt", "3 layers of 2", "de", args=args)

    def test_usage(self):
        file = self.write("a.pt", counts_file([1], (1, 1), 9))
        for args in (["en=" + file, "en=" + file], ["=" + file], ["en="], [file], ["e n=" + file],
                     ["e" * 25 + "=" + file], ["\u00e9=" + file], ["en\n=" + file], [],
                     ["none=" + file], ["-=" + file]):
            with self.subTest(str(args)):
                done = run_forked(["counts", *args, "-o", self.out])
                self.assertEqual(done.returncode, 2)
                self.assertNotIn("Traceback", done.stderr)
                self.assert_no_output()
        self.counts("e" * 24 + "=" + file)
        for label in "None", "none-", "_":           # not what stands for no language
            self.counts(label + "=" + file)

    def npy(self, name, data):
        return "%s=%s" % (name, self.write(name + ".npy", data))

    def test_npy(self):
        """Integers of every size, as numpy.save writes them."""
        for kind, letter in zip(("|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"),
                                "bBhHiIqQ"):
            for start in (b"\x93NUMPY\1\0", b"\x93NUMPY\2\0"):
                gguf = self.counts(self.npy("en", npy_file(kind, (2, 3), struct.pack(
                    "<6" + letter, *range(1, 7)), start)), "--tokens", "en=9")
                self.assertEqual(gguf.keys["lape-counts.tokens"], ("[u64]", [9]))
                self.assertEqual(gguf.tensors["en.positive"],
                                 (I64_TYPE, [3, 2], struct.pack("<6q", *range(1, 7))))
        self.counts(self.npy("en", npy_file("|u1", (1, 2), b"\0\1")),
                    self.pt("fr", counts_file([3, 4], (1, 2), 9)), "--tokens", "en=1")

    def test_npy_as_numpy_writes_it(self):
        if not numpy:
            self.skipTest("numpy is not installed")
        for dtype in "i1", "u2", "<i4", "i8":
            made = io.BytesIO()
            numpy.save(made, numpy.arange(6, dtype=dtype).reshape(2, 3))
            gguf = self.counts(self.npy("en", made.getvalue()), "--tokens", "en=9")
            self.assertEqual(gguf.tensors["en.positive"][2], struct.pack("<6q", *range(6)))

    def test_npy_refused(self):
        good = npy_file("<i4", (2, 3), struct.pack("<6i", *range(1, 7)))
        for data, word in (
                (good[:-1], "23 bytes"), (good + b"\0", "25 bytes"), (b"", "numpy"),
                (good[:9], "numpy"), (b"x" + good[1:], "numpy"),
                (npy_file("<f4", (2, 3), b"\0" * 24), "numpy"),
                (npy_file(">i4", (2, 3), b"\0" * 24), "numpy"),
                (npy_file("<i4", (6,), b"\0" * 24), "numpy"),
                (npy_file("<i4", (1, 2, 3), b"\0" * 24), "numpy"),
                (npy_file("<i4", (0, 3), b""), "bytes"),
                (npy_file("<i8", (10 ** 8, 10 ** 8), b"\0" * 8), "8 bytes"),
                (good.replace(b"False", b"True "), "numpy"),
                (npy_file("<i4", (1, 2), struct.pack("<2i", 1, 10)), "is 10,"),
                (npy_file("<i4", (1, 2), struct.pack("<2i", 1, -1)), "is -1,")):
            self.refuse_counts("en.npy", word, args=[self.npy("en", data), "--tokens", "en=9"])

    def test_npy_usage(self):
        array = self.npy("en", npy_file("|u1", (1, 2), b"\0\1"))
        pt = self.pt("fr", counts_file([3, 4], (1, 2), 9))
        for args in ([array], [array, "--tokens", "fr=9"], [array, "--tokens", "en=0"],
                     [array, "--tokens", "en"], [array, "--tokens", "en=-1"],
                     [array, "--tokens", "en=9", "--tokens", "en=8"], [pt, "--tokens", "fr=9"]):
            with self.subTest(str(args)):
                done = run_forked(["counts", *args, "-o", self.out])
                self.assertEqual(done.returncode, 2)
                self.assertNotIn("Traceback", done.stderr)
                self.assert_no_output()

    def test_contents(self):
        def made(total=9, numbers=(1, 2), shape=(1, 2), **options):
            pt = Pt()
            return pt.file({"n": total, "over_zero": pt.tensor(list(numbers), shape, **options)})

        pt = Pt()
        scalar = Call(Global("torch._utils", "_rebuild_tensor_v2"),
                      pt.tensor([9], (1,)).args[0], 0, (), (), False, None)
        self.counts(self.pt("en", pt.file({"n": scalar, "over_zero": pt.tensor([1], (1, 1))})))
        os.remove(self.out)
        pt = Pt()
        for data, word in (
                (made(0), "token total"), (made(-1), "token total"), (made("9"), "token total"),
                (made(True), "token total"), (made(1 << 63), "token total"),
                (made(None), "token total"),
                (pt.file({"n": pt.tensor([9.0], (), "f"), "over_zero": 1}), "token total"),
                (pt.file({"n": pt.tensor([9], (1,)), "over_zero": 1}), "token total"),
                (pt.file(()), "token total"), (pt.file({}), "token total"),
                (pt.file({"n": 9}), "over_zero"), (pt.file({"n": 9, "over_zero": 9}), "over_zero"),
                (made(letter="f"), "over_zero"), (made(shape=(2,)), "over_zero"),
                (made(numbers=(), shape=(0, 2)), "over_zero"),
                (made(numbers=(), shape=(1 << 60, 0)), "over_zero")):
            self.refuse_counts("en.pt", word, data=data)


class Ids(Case):
    """Token files of the paper's released code become arrays."""

    def ids(self, data):
        """What comes of a file: numpy's name of the type, and the bytes of the numbers."""
        out = os.path.join(self.dir, "ids.npy")
        done = run_forked(["ids", self.write("id.en.train.x", data), "-o", out, "-q"])
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        with open(out, "rb") as file:
            whole = file.read()
        end = whole.index(b"\n") + 1
        self.assertEqual((whole[:8], end % 64), (b"\x93NUMPY\1\0", 0))
        self.assertEqual(int.from_bytes(whole[8:10], "little"), end - 10)
        head = ast.literal_eval(whole[10:end].decode())
        self.assertEqual((sorted(head), head["fortran_order"]), (
            ["descr", "fortran_order", "shape"], False))
        kind, raw = head["descr"], whole[end:]
        self.assertEqual(head["shape"], (len(raw) // int(kind[2:]),))
        return kind, raw

    def refuse_ids(self, *words, data):
        done = run_forked(["ids", self.write("id.en", data), "-o", self.out + ".npy"])
        self.assert_refused(done, *words)

    def of(self, *args, **options):
        """A file of one tensor."""
        pt = Pt()
        return pt.file(pt.tensor(*args, **options))

    def test_types(self):
        """Every one stays what it is, and so does every number, which lape will judge."""
        for letter, kind in zip("bBhiq", ("|i1", "|u1", "<i2", "<i4", "<i8")):
            numbers = [0, 1, 127, *([] if letter == "B" else [-1, -128]),
                       *([1 << 62, -1 << 63] if letter == "q" else [])]
            self.assertEqual(self.ids(self.of(numbers, (len(numbers),), letter)), (
                kind, struct.pack("<%d%s" % (len(numbers), letter), *numbers)))

    def test_views(self):
        """In row-major order, of whatever part of a storage; places of each by hand."""
        for shape, offset, strides, places in (
                ((24,), 0, (1,), range(24)), ((5,), 7, (1,), range(7, 12)),
                ((6,), 1, (4,), range(1, 24, 4)), ((2, 12), 0, (12, 1), range(24)),
                ((3, 2), 2, (1, 4), [2, 6, 3, 7, 4, 8]),                  # transposed
                ((2, 3), 1, (8, 1), [1, 2, 3, 9, 10, 11]),                # columns of it
                ((2, 2, 2), 0, (2, 12, 1), [0, 1, 12, 13, 2, 3, 14, 15]),
                ((2, 1, 3), 0, (3, 99, 1), range(6)), ((3, 1), 5, (6, 1), [5, 11, 17]),
                ((4,), 3, (0,), [3] * 4), ((2, 3), 4, (1, 0), [4, 4, 4, 5, 5, 5]),
                ((3, 2), 4, (0, 1), [4, 5] * 3), ((), 9, (), [9]), ((1,), 23, (50,), [23])):
            for letter in "qh":
                with self.subTest(str((shape, strides, letter))):
                    numbers = [100 * i - 7 for i in range(24)]
                    _, raw = self.ids(self.of(numbers, shape, letter, offset, strides))
                    self.assertEqual(list(struct.unpack("<%d%s" % (len(places), letter), raw)),
                                     [numbers[place] for place in places])

    def test_pieces(self):
        """Of more numbers than are read at a time, straight and in steps."""
        import formats.torch_zip as torch_zip
        numbers = random.Random(1).sample(range(1 << 40), 1000)
        path = self.write("x", self.of(numbers, (1000,), "q"))
        tensor = torch_zip.load(path, lazy=True)
        for chunk in 1, 56, 8000, 1 << 20:
            for shape, strides in (((1000,), (1,)), ((333,), (3,)), ((10, 50), (100, 2)),
                                   ((50, 10), (1, 100)), ((300, 2), (1, 400)), ((40,), (0,))):
                view = torch_zip.rebuild_tensor(tensor.storage, 0, shape, strides)
                with unittest.mock.patch.object(torch_zip, "CHUNK", chunk):
                    pieces = list(torch_zip.bytes_of(path, view))
                self.assertLessEqual(max(map(len, pieces)), max(8, chunk))
                wanted = torch_zip.numbers_of(view._replace(storage=view.storage._replace(
                    numbers=numbers)))
                self.assertEqual(b"".join(pieces), struct.pack("<%dq" % len(wanted), *wanted))
        with open(path, "r+b") as file:              # between its reading and its copying
            file.truncate(4000)
        with self.assertRaisesRegex(torch_zip.Refused, "became shorter"):
            list(torch_zip.bytes_of(path, tensor))

    @needs_lape
    def test_lape_reads_them(self):
        """It counts them as it counts the same ids otherwise, and says which it does not know."""
        model = os.path.join(self.dir, "model.gguf")
        config = self.write("config.json", dict(CONFIG, vocab_size=300))
        self.assertEqual(run_forked(["random", config, "-o", model, "-q"]).returncode, 0)
        ids = [i * 7 % 300 for i in range(40)]
        self.ids(self.of(ids, (2, 20), "q"))
        said = []
        for path in os.path.join(self.dir, "ids.npy"), self.write(
                "ids.bin", struct.pack("<40H", *ids)):
            said.append(subprocess.run([LAPE, "ppl", model, "xx=" + path, "--seq", "20", "-q"],
                                       stdout=subprocess.PIPE, check=True).stdout)
        self.assertEqual(said[0], said[1])
        for number in -1, 300, 1 << 62, -1 << 63:
            self.ids(self.of([1, number], (2,), "q"))
            done = subprocess.run([LAPE, "ppl", model, "xx=" + os.path.join(self.dir, "ids.npy")],
                                  stderr=subprocess.PIPE)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"id %d at place 1 is outside" % number, done.stderr)

    def test_refused(self):
        """What is no single tensor of integers that are there."""
        pt = Pt()
        one = pt.tensor([1], (1,), "q")
        expected = "a tensor of integers, and nothing else, is expected"
        for value, word in (
                ({"ids": one}, "type dict"), ([one], "type list"), ((one, one), "type tuple"),
                (7, "type int"), (None, "type NoneType"), ("x", "type str"),
                (Call(Global("collections", "OrderedDict")), "type OrderedDict"),
                (pt.tensor([1.0], (1,), "f"), "from a FloatStorage"),
                (pt.tensor([1], (1,), "H"), "from a BFloat16Storage")):
            self.refuse_ids("id.en: holds", word, expected, data=pt.file(value))
        self.refuse_ids("holds no ids", data=self.of([], (0,), "q"))
        self.refuse_ids("holds no ids", data=self.of([1, 2], (2, 0), "q"))
        newer = Call(Global("torch._utils", "_rebuild_tensor_v3"), 0)
        self.refuse_ids("came with PyTorch 2, as uint16 did", data=Pt().file(newer))
        magic = b"\x8a\n" + (0x1950a86a20f9469cfc6c).to_bytes(10, "little")
        self.refuse_ids("before PyTorch 1.6", data=b"\x80\2" + magic + b".\x80\2M\xe9\3." * 9)
        whole, big = self.of([1] * 6, (6,), "q"), Pt(">")
        for name, data in (
                ("cut", whole[:-30]), ("text", b"1 2 3\n"), ("nothing", b""),
                ("beyond", self.of([1] * 6, (7,), "q")), ("steps", self.of([1] * 6, (6,), "q", 0,
                                                                           (2,))),
                ("offset", self.of([1] * 6, (6,), "q", 1)),
                ("terabytes", self.of([1] * 6, (1 << 40,), "q", 0, (0,))),
                ("big-endian", big.file(big.tensor([1], (1,), "q")))):
            with self.subTest(name):
                self.refuse_ids("id.en", "damaged", data=data)
        self.refuse_ids("claims 7 numbers of 8", data=self.of([1] * 6, (6,), "q", claim=7))
        self.refuse_ids("wants os.system", data=Pt().file(Call(Global("os", "system"), "true")))
        deep = self.of([1], (1,) * 64, "q", strides=(2, 3) * 32)           # dimensions of one
        self.assertEqual(self.ids(deep), ("<i8", struct.pack("<q", 1)))
        self.refuse_ids("damaged", data=self.of([1], (1,) * 65, "q", strides=(1,) * 65))

    def test_usage(self):
        path = self.write("x", self.of([1], (1,)))
        for args in (["ids", path], ["ids", path, "-o", self.out], ["ids", "-o", "x.npy"],
                     ["ids", path, path, "-o", "x.npy"],
                     ["ids", path, "-o", "x.npy", "--name", "x"]):
            done = run_forked(args)
            self.assertEqual(done.returncode, 2, args)
            self.assert_no_output()
        same = os.path.join(self.model, "x.npy")
        os.rename(path, same)
        self.assert_refused(run_forked(["ids", same, "-o", same]), "is read as input too")
        self.assert_refused(run_forked(["ids", path, "-o", self.out + ".npy"]), "No such file")
        full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"
        self.assert_refused(run_forked(["ids", same, "-o", self.out + ".npy"], full),
                            "File too large")


class TorchReader(pickle.Unpickler):
    """What torch.save wrote, a tensor being (type, shape, numbers); for files that are trusted."""

    def __init__(self, file):
        self.archive = zipfile.ZipFile(file)
        self.prefix = self.archive.namelist()[0][:-len("data.pkl")]
        super().__init__(io.BytesIO(self.archive.read(self.prefix + "data.pkl")))

    def find_class(self, module, name):
        if name == "_rebuild_tensor_v2":
            return lambda storage, offset, shape, strides, *_: (
                storage[0], shape, storage[1][offset:offset + product(shape)])
        return dict if name == "OrderedDict" else name

    def persistent_load(self, identity):
        _, name, key, _, count = identity
        letter = {v: k for k, v in STORAGE.items()}[name]
        raw = self.archive.read(self.prefix + "data/" + key)
        return name, list(struct.unpack("<%d%s" % (count, letter), raw))


def torch_read(path):
    with open(path, "rb") as file:
        reader = TorchReader(file)
        assert reader.archive.testzip() is None
        return reader.load()


class Released(CountsCase):
    """Files of the paper's released code, both ways."""

    LANGUAGES = ["en", "zh", "fr", "es", "vi", "id", "ja"]
    TABLE = ("# language-specific neurons\n# model: unknown\n# layers: 2\n# neurons: 6\n"
             "# languages: b a\nlayer\tneuron\tlape\tlanguages\n"
             "0\t0\tnan\tb\n0\t5\tnan\tb,a\n1\t3\tnan\ta\n")
    LISTS = [[[0, 5], []], [[5], [3]]]

    def lists(self, value, letter="q"):
        """A file of lists by language of lists by layer of indices."""
        pt = Pt()
        made = [[pt.tensor(part, (len(part),), letter) if isinstance(part, list) else part
                 for part in layers] if isinstance(layers, list) else layers
                for layers in value] if isinstance(value, list) else value
        return self.write("x.neuron.pth", pt.file(made))

    def neurons(self, *args):
        done = run_forked(["neurons", *args, "-o", self.out])
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        with open(self.out, "rb") as file:
            return file.read()

    def test_lists_to_table(self):
        for letter in "qi":
            path = self.lists(self.LISTS, letter)
            self.assertEqual(self.neurons(path, "--langs", "b,a", "--neurons", "6").decode(),
                             self.TABLE)
        path = self.lists([[[5, 0], []], [[5], [3]]])            # in any order
        table = self.neurons(path, "--langs", "b,a", "--neurons", "6", "--name", "mein Modell")
        self.assertEqual(table.decode(), self.TABLE.replace("unknown", "mein Modell"))
        os.rename(path, os.path.join(self.model, "Phi-2-2.7B.neuron.pth"))
        path = os.path.join(self.model, "Phi-2-2.7B.neuron.pth")
        self.assertIn(b"# neurons: 10240\n", self.neurons(path, "--langs", "b,a"))

    def read_lists(self):
        lists = torch_read(self.out)
        for name, shape, numbers in (tensor for layers in lists for tensor in layers):
            self.assertEqual((name, shape), ("LongStorage", (len(numbers),)))
        return [[numbers for _, _, numbers in layers] for layers in lists]

    def test_table_to_lists(self):
        path = self.write("n.tsv", self.TABLE.encode())
        raw = self.neurons(path)
        self.assertEqual(self.read_lists(), self.LISTS)
        self.assertEqual(self.neurons(path), raw)
        self.neurons(path, "--langs", "a,b")
        self.assertEqual(self.read_lists(), self.LISTS[::-1])
        self.neurons(path, "--langs", "a")
        self.assertEqual(self.read_lists(), self.LISTS[1:])
        # As lape find writes it, with a neuron of no language.
        found = self.TABLE.replace("languages\n0", "languages\tp_b\tp_a\n0").replace(
            "nan\tb\n", "0.5\tb\t0.25\t1e-05\n") + "1\t5\t0.6\t-\t0\t0\n"
        done = run_forked(["neurons", self.write("n.tsv", found.encode()), "-o", self.out])
        self.assertEqual(done.returncode, 0)
        self.assertIn(": 1 neurons of no language are left out\n", done.stderr)
        self.assertEqual(self.read_lists(), self.LISTS)

    @needs_lape
    def test_lape_reads_the_table(self):
        config = dict(CONFIG, intermediate_size=6, vocab_size=64)
        model, ids = os.path.join(self.dir, "model.gguf"), struct.pack("<20H", *range(20))
        done = run_forked(["random", self.write("config.json", config), "-o", model, "-q"])
        self.assertEqual(done.returncode, 0)
        table = self.write("n.tsv", self.neurons(self.lists(self.LISTS), "--langs", "b,a",
                                                 "--neurons", "6"))
        ids = self.write("ids.bin", ids)
        done = subprocess.run([LAPE, "ppl", model, "xx=" + ids, "--seq", "20", "-q", "--neurons",
                               table], stdout=subprocess.PIPE)
        rows = [line.split("\t") for line in done.stdout.decode().splitlines()]
        self.assertEqual(done.returncode, 0)
        self.assertEqual([row[0] for row in rows], ["off", "none", "b", "a"])
        self.assertEqual(len({row[1] for row in rows}), 4)       # each row has its own perplexity
        done = subprocess.run([LAPE, "info", table], stdout=subprocess.PIPE)
        self.assertIn(b"3 of 12 neurons; b 2 a 2\n", done.stdout)
        done = subprocess.run([LAPE, "count", model, "xx=" + ids, "--seq", "20", "-q", "-o",
                               os.path.join(self.dir, "c.gguf")])
        self.assertEqual(done.returncode, 0)
        counts = Gguf(os.path.join(self.dir, "c.gguf")).tensors["xx.positive"][2]
        self.assertEqual(run_forked(["counts", os.path.join(self.dir, "c.gguf"), "-o", os.path.join(
            self.dir, "activation.LANG")]).returncode, 0)
        self.assertEqual(torch_read(os.path.join(self.dir, "activation.xx")), {
            "n": 20, "over_zero": ("IntStorage", (2, 6), list(struct.unpack("<12q", counts)))})

    @needs_official
    def test_published_lists(self):
        """All seven files there and back, tensor for tensor; totals, and what is said of one."""
        totals = {"LLaMA-2-7B": [95, 583, 1022, 838, 836, 1068, 582],
                  "LLaMA-2-70B": [731, 5366, 6482, 5873, 5515, 6522]}
        names = sorted(name for name in os.listdir(OFFICIAL) if name.endswith(".neuron.pth"))
        self.assertEqual(len(names), 7)
        table = os.path.join(self.dir, "table.tsv")
        for name in names:
            path = os.path.join(OFFICIAL, name)
            there = torch_read(path)
            with open(table, "wb") as file:
                file.write(self.neurons(path, "--langs", ",".join(self.LANGUAGES[:len(there)])))
            self.neurons(table)
            self.assertEqual(torch_read(self.out), there)
            found = [sum(len(numbers) for _, _, numbers in layers) for layers in there]
            self.assertEqual(totals.get(name[:-11], found), found)
            if name == "LLaMA-2-7B.neuron.pth":
                self.assertEqual(there[1][4][2], [6147, 9114, 9292])
                with open(table) as file:
                    self.assertIn("\n4\t9114\tnan\tzh", file.read())
            if os.path.exists(LAPE):
                done = subprocess.run([LAPE, "info", table], stdout=subprocess.PIPE)
                self.assertIn("; " + " ".join("%s %d" % pair for pair in zip(
                    self.LANGUAGES, found)) + "\n", done.stdout.decode())

    @needs_official
    def test_published_counts(self):
        source = os.path.join(OFFICIAL, "llama2-7b.activation.%s.pt")
        counts = os.path.join(self.dir, "counts.gguf")
        for args, out in (["%s=%s" % (name, source % name) for name in ("en", "tr")], counts), (
                [counts], os.path.join(self.dir, "LANG.pt")):
            done = run_forked(["counts", *args, "-o", out])
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        for name in "en", "tr":
            self.assertEqual(torch_read(os.path.join(self.dir, name + ".pt")),
                             torch_read(source % name))

    def counts_gguf(self, **files):
        gguf = os.path.join(self.model, "c.gguf")
        args = [self.pt(name, data) for name, data in files.items()]
        self.assertEqual(run_forked(["counts", *args, "-o", gguf]).returncode, 0)
        return gguf

    def test_counts_out(self):
        big, pt = 1 << 40, Pt()
        gguf = self.counts_gguf(en=counts_file(range(6), (2, 3), 9), fr=pt.file({
            "n": big, "over_zero": pt.tensor([1, 2, 3, 4, 5, 1 << 31], (2, 3), "q")}))
        done = run_forked(["counts", gguf, "-o", os.path.join(self.dir, "a.LANG.train")])
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual(sorted(os.listdir(self.dir)), ["a.en.train", "a.fr.train", "tiny"])
        self.assertEqual(torch_read(os.path.join(self.dir, "a.en.train")), {
            "n": 9, "over_zero": ("IntStorage", (2, 3), list(range(6)))})
        self.assertEqual(torch_read(os.path.join(self.dir, "a.fr.train")), {
            "n": big, "over_zero": ("LongStorage", (2, 3), [1, 2, 3, 4, 5, 1 << 31])})
        for args in ([gguf, "-o", self.out], [gguf, "en=" + gguf, "-o", "x.LANG"],
                     [gguf, "--tokens", "en=1", "-o", "x.LANG"], [gguf, "-o", "LANG/x"]):
            self.assertEqual(run_forked(["counts"] + args).returncode, 2)
        before = sorted(os.listdir(self.dir))        # the first file fits, the second does not
        full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (%d, %d))" % (
            (os.path.getsize(os.path.join(self.dir, "a.en.train")),) * 2)
        done = run_forked(["counts", gguf, "-o", os.path.join(self.dir, "b.LANG")], full)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1))
        self.assertEqual(sorted(os.listdir(self.dir)), before)

    def test_counts_out_refused(self):
        """A counts file with every byte of its head changed, and cut anywhere."""
        gguf = self.counts_gguf(en=counts_file(range(6), (2, 3), 9))
        with open(gguf, "rb") as file:
            whole = file.read()
        out, refused = os.path.join(self.dir, "out.gguf.LANG"), 0
        lies = [whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1:]
                for at in range(0, len(whole), 3) for flip in (1, 128)]
        lies += [whole[:at] for at in range(0, len(whole), 19)]
        program = {"__name__": "convert"}
        exec(PROGRAM, program)
        for lie in lies:
            self.write("c.gguf", lie)
            with contextlib.redirect_stderr(io.StringIO()) as err:
                status = program["main"](["counts", gguf, "-o", out])
            self.assertIn(status, (0, 1), err.getvalue())
            self.assertEqual(err.getvalue().count("\n"), status)
            refused += status
            if not status:
                os.remove(os.path.join(self.dir, "out.gguf.en"))
        self.assertGreater(refused, len(lies) / 4)
        for old, new, words in (
                (b"lape-counts.layers", b"lape-counts.layerz", ["no layers"]),
                (b"en.positive", b"fr.positive", ["no tensor en.positive of 2 x 3"]),
                (struct.pack("<q", 5), struct.pack("<q", 10), ["is 10,", "9 tokens"]),
                (b"lape-counts", b"lape_counts", ["not a counts file"]),
                (struct.pack("<2Q", 3, 2), struct.pack("<2Q", 2, 3), ["no tensor en.positive"])):
            self.write("c.gguf", whole[::-1].replace(old[::-1], new[::-1], 1)[::-1]
                       if b"lape" not in old else whole.replace(old, new))
            done = run_forked(["counts", gguf, "-o", out])
            self.assert_refused(done, "c.gguf", *words)

    def test_counts_out_once(self):
        """Names that are there twice, labels of no language, integers that are another's."""
        gguf = self.counts_gguf(nome=counts_file(range(6), (2, 3), 9),
                                nose=counts_file(range(6), (2, 3), 9))
        with open(gguf, "rb") as file:
            whole = file.read()
        out = os.path.join(self.dir, "out.gguf.LANG")
        self.assertEqual(run_forked(["counts", gguf, "-o", out]).returncode, 0)
        for name in "nome", "nose":
            os.remove(os.path.join(self.dir, "out.gguf." + name))
        label = struct.pack("<Q", 4) + b"nose"

        def aligned(by):
            """64 bytes of two values more."""
            more = [struct.pack("<Q", len(key)) + key + struct.pack("<II", 4, by)
                    for key in (b"general.alignment", b"general.a_value")]
            count, = struct.unpack_from("<Q", whole, 16)
            return whole[:16] + struct.pack("<Q", count + 2) + b"".join(more) + whole[24:]

        self.write("c.gguf", aligned(32))
        self.assertEqual(run_forked(["counts", gguf, "-o", out]).returncode, 0)
        for name in "nome", "nose":
            os.remove(os.path.join(self.dir, "out.gguf." + name))
        at = whole.index(b"nose.positive") + 13
        self.assertEqual(struct.unpack_from("<I2QIQ", whole, at), (2, 3, 2, I64_TYPE, 64))
        for name, lie, words in (
                ("another version", whole[:4] + struct.pack("<I", 2) + whole[8:], ["version 3"]),
                ("another alignment", aligned(64), ["damaged"]),
                ("two languages", whole.replace(label, label.replace(b"s", b"m")), ["not a counts"]),
                ("no language", whole.replace(b"nose", b"none"), ["not a counts"]),
                ("two tensors", whole.replace(b"nose.positive", b"nome.positive"), ["damaged"]),
                ("two keys", whole.replace(struct.pack("<Q", 19) + b"lape-counts.neurons",
                                           struct.pack("<Q", 18) + b"lape-counts.layers").replace(
                    struct.pack("<Q", 7) + b"unknown", struct.pack("<Q", 8) + b"unknown."),
                 ["damaged"]),
                ("of one place", whole[:at + 24] + bytes(8) + whole[at + 32:], ["nose.positive"]),
                ("a hole", whole[:at + 24] + struct.pack("<Q", 96) + whole[at + 32:] + bytes(32),
                 ["nose.positive"]),
                ("of another type", whole[:at + 20] + struct.pack("<I", 28) + whole[at + 24:],
                 ["nose.positive"]),
                ("bytes at the end", whole + bytes(32), ["bytes of tensors"])):
            with self.subTest(name):
                self.assertNotEqual(lie, whole)
                self.write("c.gguf", lie)
                self.assert_refused(run_forked(["counts", gguf, "-o", out]), "c.gguf", *words)

    def refuse_neurons(self, *words, args=()):
        self.assert_refused(run_forked(["neurons", *args, "-o", self.out]), *words)

    def test_lists_refused(self):
        ab = ["--langs", "a,b", "--neurons", "6"]
        for value, args, words in (
                (self.LISTS, [], ["2 languages", "--langs"]),
                (self.LISTS, ["--langs", "a"], ["2 languages"]),
                (self.LISTS, ["--langs", "a,b,c", "--neurons", "6"], ["2 languages"]),
                (self.LISTS, ["--langs", "a,b"], ["--neurons N"]),
                (self.LISTS, ["--langs", "a,b", "--neurons", "5"], ["layer 0", "neuron 5, of 5"]),
                ([[[0]], [[0], [1]]], ab, ["all of one length"]), ([], ab, ["by language"]),
                ([[], []], ab, ["by language"]), ({"n": 1}, ab, ["by language"]),
                ([1, 2], ab, ["by language"]), ([[1], [2]], ab, ["language 0, layer 0: no tensor"]),
                ([[[0], [-1]], [[], []]], ab, ["language 0, layer 1: index -1"]),
                ([[[0], [1]], [[2, 2], []]], ab, ["language 1, layer 0: index 2"])):
            with self.subTest(str((value, args))):
                self.refuse_neurons("x.neuron.pth", *words, args=[self.lists(value)] + args)
        pt = Pt()
        for made in (pt.tensor([1.0], (1,), "f"), pt.tensor([1], (1, 1), "q")):
            path = self.write("x.neuron.pth", pt.file([[made], [made]]))
            self.refuse_neurons("no tensor of indices", args=[path] + ab)
        path = self.write("x.neuron.pth", Pt().file(pickled(Call(Global("os", "system"), "true"))))
        self.refuse_neurons("wants os.system", args=[path] + ab)
        path = self.write("x.neuron.pth", b"PK and no more")
        self.refuse_neurons("damaged", args=[path] + ab)
        for langs in "a,a", "", "a,,b", "a b", "a" * 25, "none", "a,none", "-,a":
            done = run_forked(["neurons", path, "--langs", langs, "-o", self.out])
            self.assertEqual(done.returncode, 2)
        for number in "0", "-1", "x", "1e3":
            done = run_forked(["neurons", path, "--langs", "a", "--neurons", number, "-o",
                               self.out])
            self.assertEqual(done.returncode, 2)

    def test_table_refused(self):
        for old, new, words in (
                ("layer\tneuron", "neuron\tlayer", ["neither"]), ("# layers: 2\n", "", ["neither"]),
                ("layers: 2", "layers: 0", ["neither"]), ("layers: 2", "layers: two", ["neither"]),
                ("languages: b a", "languages: b  a", ["neither"]),
                ("languages: b a", "languages: b a -", ["neither"]),
                ("languages: b a", "languages: none b a", ["neither"]),
                ("languages: b a", "languages: b a b", ["neither"]),
                ("languages: b a\n", "languages: a b\n# languages: b a\n", ["neither"]),
                ("layers: 2\n", "layers: 2\n# layers: 3\n", ["neither"]),
                ("\tlanguages\n0", "\tlanguages of it\n0", ["neither"]),
                ("layers: 2\n", "layers: 2\n0\t0\n", ["neither"]),
                ("nan\tb,a", "nan\tb,b", ["line 8"]), ("nan\tb,a", "nan\tnone", ["line 8"]),
                ("0\t5\tnan", "2\t5\tnan", ["line 8"]), ("0\t5\tnan", "0\t6\tnan", ["line 8"]),
                ("0\t5\tnan", "0\t0\tnan", ["line 8"]), ("0\t5\tnan", "0\t-5\tnan", ["line 8"]),
                ("nan\tb,a", "nan\tb,c", ["line 8"]), ("nan\tb,a", "nan", ["line 8"]),
                ("nan\tb,a", "nan\t", ["line 8"]), ("1\t3", "x\t3", ["line 9"])):
            with self.subTest(new):
                self.assertIn(old, self.TABLE)
                path = self.write("n.tsv", self.TABLE.replace(old, new).encode())
                self.refuse_neurons("n.tsv", *words, args=[path])
        for raw in b"", b"\xff", b"GGUF", b"#":
            self.refuse_neurons("n.tsv", "neither", args=[self.write("n.tsv", raw)])
        path = self.write("n.tsv", self.TABLE.encode())
        self.refuse_neurons("no language c", args=[path, "--langs", "a,c"])
        self.refuse_neurons("absent", "No such file", args=[path + "absent"])


class HostilePickles(CountsCase):
    """A .pt file holds a program; only one that makes tensors and plain values is run."""

    def test_names(self):
        mark = os.path.join(self.dir, "mark")
        for module, name, argument in (
                ("os", "system", "touch " + mark), ("posix", "system", "touch " + mark),
                ("builtins", "eval", "open(%r, 'w')" % mark), ("builtins", "getattr", "x"),
                ("__builtin__", "eval", "open(%r, 'w')" % mark), ("torch", "load", "x"),
                ("torch._utils", "_rebuild_tensor", "x"), ("collections", "deque", "x"),
                ("torch", "IntStorage.__class__", "x"), ("numpy.core.multiarray", "scalar", "x")):
            with self.subTest(name):
                body = pickled({"n": Call(Global(module, name), argument)})
                self.refuse_counts("en.pt", "refused: the pickle wants %s.%s" % (module, name),
                                   data=Pt().file(body))
                stacked = pickled(module) + pickled(name) + b"\x93" + pickled((argument,)) + b"R"
                self.refuse_counts("en.pt", "wants %s.%s" % (module, name),
                                   data=Pt().file(stacked))
        self.assertFalse(os.path.exists(mark))

    def test_opcodes(self):
        dictionary = pickled(Call(Global("collections", "OrderedDict")))
        rebuild = pickled(Global("torch._utils", "_rebuild_tensor_v2"))
        storage = pickled(Global("torch", "IntStorage"))
        for name, body in (
                ("BUILD of a dict", dictionary + pickled({"x": 1}) + b"b"),
                ("BUILD of a function", rebuild + pickled((None, {"__defaults__": (1,)})) + b"b"),
                ("memo of 2^22 slots", b"}r" + struct.pack("<I", 1 << 22)),
                ("memo by text", b"}p4000000000\n"),
                ("call of a storage", storage + b"K\x01\x85R"),
                ("call with no tensor", rebuild + b")R"),
                ("text beyond the end", b"X\xff\xff\xff\xffx"), ("empty stack", b"R"),
                ("bytes of 2^62", b"\x8e" + struct.pack("<Q", 1 << 62)),
                ("persistent text", b"Px\n"), ("persistent number", b"K\x01Q"),
                ("extension", b"\x82\x01"), ("no opcode", b"\xff"), ("nothing", b"")):
            with self.subTest(name):
                self.refuse_counts("en.pt", "damaged", data=Pt().file(body))

    def test_ways_to_call(self):
        """os.system by every opcode that calls or names, for counts and for a checkpoint."""
        mark = os.path.join(self.dir, "mark")
        self.checkpoint()
        os.remove(os.path.join(self.model, "model.safetensors"))
        system, args = pickled(Global("os", "system")), pickled(("touch " + mark,))
        tensor = pickled(Pt().tensor([1] * 6, (2, 3)))
        ordered, rebuild = Global("collections", "OrderedDict"), Global("torch._utils",
                                                                     "_rebuild_tensor_v2")
        for name, body, word in (
                ("REDUCE", system + args + b"R", "wants os.system"),
                ("INST", b"(" + pickled("touch " + mark) + b"ios\nsystem\n", "wants os.system"),
                ("OBJ", b"(" + system + pickled("touch " + mark) + b"o", "wants os.system"),
                ("NEWOBJ", system + args + b"\x81", "wants os.system"),
                ("NEWOBJ_EX", system + args + b"}\x92", "wants os.system"),
                ("in a persistent id", system + args + b"RQ", "wants os.system"),
                ("through a module", pickled("torch._utils") + pickled(
                    "_rebuild_tensor_v2.__globals__") + b"\x93",
                 "wants torch._utils._rebuild_tensor_v2.__globals__"),
                ("through a class", pickled("collections") + pickled("OrderedDict.__init__")
                 + b"\x93", "wants collections.OrderedDict.__init__"),
                ("getattr of getattr", pickled(Call(Global("builtins", "getattr"), Call(
                    Global("builtins", "getattr"), 1, "__class__"), "__base__")),
                 "wants builtins.getattr"),
                ("BUILD of a class", pickled(ordered) + pickled({"__len__": 1}) + b"b", "damaged"),
                ("BUILD of a function", pickled(rebuild) + pickled({"__call__": 1}) + b"b",
                 "damaged"),
                ("BUILD of a storage's type", pickled(Global("torch", "IntStorage"))
                 + pickled({"x": 1}) + b"b", "damaged"),
                ("BUILD of a tensor", tensor + pickled((None, {"shape": 1})) + b"b", "damaged"),
                ("new tensor, no storage", pickled(rebuild) + b")\x81", "damaged")):
            pt = Pt()
            pt.tensor([1] * 6, (2, 3))
            data = pt.file(body)
            with self.subTest(name):
                self.refuse_counts("en.pt", word, data=data)
                self.write("pytorch_model.bin", data)
                self.refuse("pytorch_model.bin", word)
        self.assertFalse(os.path.exists(mark))

    def test_bombs(self):
        """Small files that would take for ever, or all memory, or the whole stack."""
        self.checkpoint()
        os.remove(os.path.join(self.model, "model.safetensors"))
        twice = b")q\x01"
        for i in range(1, 60):                       # of a tuple of this tuple twice ...
            twice += b"h%ch%c\x86q%c" % (i, i, i + 1)
        stored = pickled({"n": 9})
        for name, body in (
                ("a key of 2^60 parts", twice + b"}h\x3cK\x01s"),
                ("by DUP", b"})" + b"2\x86" * 60 + b"K\x01s"),
                ("by POP", b")" + b"N0q\x01h\x01h\x01\x86" * 60 + b"N0q\x01}h\x01K\x01s"),
                ("by MEMOIZE", b")" + b"".join(b"\x94h%ch%c\x86" % (i, i) for i in range(60))
                 + b"\x94}h\x3cK\x01s"),
                ("by two PUTs", b")" + b"q\x02q\x01h\x01h\x01\x86" * 60
                 + b"q\x02q\x01}h\x01K\x01s"),
                ("depth", b"(" * 200000 + b"t" * 200000),
                ("lists", b"]" * 200000 + b"a" * 199999),
                ("memo", b"}r" + struct.pack("<I", 0x7FFFFFFF)),
                ("a long", b"\x8b\xff\xff\xff\x7f"),
                ("a negative long", b"\x8b\xff\xff\xff\xff"),
                ("a number of digits", b"I" + b"9" * 100000 + b"\n"),
                ("a frame", b"\x95" + struct.pack("<Q", 1 << 60) + stored),
                ("a bytearray", b"\x96" + struct.pack("<Q", 1 << 60))):
            with self.subTest(name):
                limit = "import resource; resource.setrlimit(resource.RLIMIT_CPU, (5, 5))"
                self.write("pytorch_model.bin", Pt().file(body))
                self.refuse("pytorch_model.bin", prelude=limit)
                done = run_forked(["counts", self.pt("en", Pt().file(body)), "-o", self.out], limit)
                self.assert_refused(done, "en.pt")

    def test_storages_in_a_checkpoint(self):
        """Storages that lie over each other, or that many tensors claim."""
        self.checkpoint(weights("F32"))
        model = self.convert().raw
        os.remove(self.out)
        os.remove(os.path.join(self.model, "model.safetensors"))
        pt, made = Pt(), {}
        for name, (_, shape, raw) in weights("F32").items():
            made[name] = pt.tensor(struct.unpack("<%df" % product(shape), raw), shape, "f")
        self.write("pytorch_model.bin", pt.file(made))
        self.assertEqual(self.convert().raw, model)
        os.remove(self.out)
        name = "model.embed_tokens.weight"
        for key, letter, count, word in (
                ("0", "f", 385, "claims"), ("0", "f", 1 << 61, "claims"), ("0", "e", 384, "claims"),
                ("0", "f", -1, "damaged"), ("99", "f", 384, "damaged"), ("", "f", 384, "damaged"),
                ("../../data.pkl", "f", 384, "damaged"), ("0", "f", True, "damaged")):
            with self.subTest(str((key, count))):
                storage = Persistent(("storage", Global("torch", STORAGE[letter]), key, "cpu",
                                      count))
                old = made[name].args
                lie = Call(made[name].function, storage, *old[1:])
                self.write("pytorch_model.bin", pt.file(dict(made, **{name: lie})))
                self.refuse("pytorch_model.bin", word)
        whole = pt.file(made)
        names = [b"x/data/%d" % i for i in range(21)]
        start = whole.rindex(b"PK\1\2", 0, whole.rindex(names[0])) + 42
        for where in (0, len(whole) - 60, 0xFFFFFFF0):           # of the first storage
            lie = whole[:start] + struct.pack("<I", where) + whole[start + 4:]
            self.write("pytorch_model.bin", lie)
            self.refuse("pytorch_model.bin", "damaged" if where else "x/data.pkl and x/data/0 lie")
        sizes = start - 22                           # a storage that claims more than the file
        lie = whole[:sizes] + struct.pack("<II", len(whole), len(whole)) + whole[sizes + 8:]
        self.write("pytorch_model.bin", lie)
        self.refuse("pytorch_model.bin", "damaged")

    def test_storages(self):
        for claim, words in ((7, ["claims 7 numbers of 4 bytes", "24 bytes"]),
                             (5, ["claims 5 numbers"]), (1 << 60, ["claims"]), (-6, ["damaged"])):
            self.refuse_counts("en.pt", *words, data=counts_file([1] * 6, (2, 3), 9, claim=claim))
        for key, count, word in (("no such", 6, "damaged"), ("../data.pkl", 6, "damaged"),
                                 (0, 6, "damaged"), ("0", 7, "claims 7 numbers")):
            pt = Pt()
            whole, made = pt.tensor([1] * 6, (2, 3)), pt.tensor([1] * 6, (2, 3))
            kind, storage, _, place, _ = made.args[0].identity
            made.args = (Persistent((kind, storage, key, place, count)),) + made.args[1:]
            self.refuse_counts("en.pt", word,
                               data=pt.file({"x": whole, "n": 9, "over_zero": made}))
        pt = Pt()
        made = pt.tensor([1] * 6, (2, 3))
        made.args = ("0",) + made.args[1:]
        self.refuse_counts("en.pt", "damaged", data=pt.file({"n": 9, "over_zero": made}))

    def test_views(self):
        for name, options in (
                ("offset", dict(offset=1)), ("far offset", dict(offset=1 << 62)),
                ("negative offset", dict(offset=-1)), ("stride", dict(strides=(4, 1))),
                ("negative stride", dict(strides=(-3, 1))), ("too few", dict(strides=(1,))),
                ("too many", dict(strides=(3, 1, 1))), ("wrapping", dict(strides=(1 << 64, 1)))):
            with self.subTest(name):
                self.refuse_counts("en.pt", "damaged",
                                   data=counts_file([1] * 6, (2, 3), 9, **options))
        for shape, strides in (((1 << 40, 1 << 40), (0, 0)), ((3, 3), (0, 1)), ((-2, -3), (3, 1)),
                               ((7, 1), (1, 1)), ((1 << 62, 4), (1, 1))):
            with self.subTest(str(shape)):
                self.refuse_counts("en.pt", "damaged",
                                   data=counts_file([1] * 6, shape, 9, strides=strides))

    def test_archives(self):
        pt = Pt()
        value = {"n": 9, "over_zero": pt.tensor([1] * 6, (2, 3))}
        whole = pt.file(value)
        strange = pt.file(value).replace(b"little", b"middle")
        other = io.BytesIO()
        with zipfile.ZipFile(other, "w") as archive:
            archive.writestr("x/data.pkl", b"\x80\x02}.")
            archive.writestr("y/data.pkl", b"\x80\x02}.")
        for name, data in (
                ("no zip", b"\x80\x02}."), ("empty", b""), ("cut", whole[:-30]),
                ("bad checksum", whole.replace(struct.pack("<6i", *[1] * 6), bytes(24))),
                ("compressed", pt.file(value, compression=zipfile.ZIP_DEFLATED)),
                ("no pickle", pt.file(value, drop=["data.pkl"])), ("two", other.getvalue()),
                ("no storage", pt.file(value, drop=["0"])), ("byte order", strange)):
            with self.subTest(name):
                self.refuse_counts("en.pt", "damaged", data=data)
        self.refuse_counts("absent.pt", "No such file", args=["en=absent.pt"])
        self.refuse_counts(self.dir, args=["en=" + self.dir])


    def test_entries_of_their_own(self):
        """No entry is there twice, and none has another's bytes, whatever zipfile says of it."""
        pt = Pt()
        value = {"n": 9, "over_zero": pt.tensor([1] * 6, (2, 3)), "x": pt.tensor([2] * 6, (2, 3))}
        whole = pt.file(value)
        self.counts(self.pt("en", whole))
        os.remove(self.out)
        last = whole.rindex(b"PK\1\2")             # of the directory: x/data/1
        first = whole.rindex(b"PK\1\2", 0, last)

        def placed(at):                              # with x/data/1 there
            return whole[:last + 42] + struct.pack("<I", at) + whole[last + 46:]

        place, = struct.unpack_from("<I", whole, first + 42)
        again = io.BytesIO(whole)
        with warnings.catch_warnings(), zipfile.ZipFile(again, "a") as archive:
            warnings.simplefilter("ignore")          # of what is written here
            archive.writestr("x/data.pkl", b"\x80\2" + pickled({"n": 1}) + b".")
        self.checkpoint()
        os.remove(os.path.join(self.model, "model.safetensors"))
        lie = "x/data/0 and x/data/1 lie over each other"
        for name, data, word in (
                ("one place", placed(place), lie), ("within", placed(place + 8), lie),
                ("too long", whole[:first + 20] + struct.pack("<II", 64, 64) + whole[first + 28:],
                 lie),
                ("of two sizes", whole[:first + 24] + struct.pack("<I", 20) + whole[first + 28:],
                 "damaged"),
                ("in the directory", placed(whole.index(b"PK\1\2") - 30), "damaged"),
                ("two of a name", whole.replace(b"x/data/1", b"x/data/0"),
                 "the entry x/data/0 is there twice"),
                ("two pickles", again.getvalue(), "the entry x/data.pkl is there twice")):
            with self.subTest(name):
                file = self.pt("en", data)
                self.write("pytorch_model.bin", data)
                for prelude in "", warning("zipfile.ZipFile.open") * (word != "damaged"):
                    self.refuse("pytorch_model.bin: ", word, prelude=prelude)
                    self.assert_refused(run_forked(["counts", file, "-o", self.out], prelude),
                                        "en.pt: ", word)

    def test_storages_may_be_shared(self):
        """Two tensors of one storage, as tied embeddings are."""
        self.checkpoint(weights("F32"), tie_word_embeddings=True)
        os.remove(os.path.join(self.model, "model.safetensors"))
        pt, made = Pt(), {}
        for name, (_, shape, raw) in weights("F32").items():
            if name != "lm_head.weight":
                made[name] = pt.tensor(struct.unpack("<%df" % product(shape), raw), shape, "f")
        made["lm_head.weight"] = made["model.embed_tokens.weight"]
        self.write("pytorch_model.bin", pt.file(made))
        self.convert()


class Warnings(CountsCase):
    """What a library warns of is refused, in one line of ours."""

    WORDS = "refused, since there is a warning of it: doubt and more\n"

    def test_of_files(self):
        self.checkpoint()
        for kind in "UserWarning", "FutureWarning", "RuntimeWarning", "BytesWarning":
            self.refuse("config.json: " + self.WORDS, prelude=warning("json.loads", kind))
        file = self.pt("en", counts_file([1] * 6, (2, 3), 9))
        for name in ("zipfile.ZipFile.__init__", "zipfile.ZipFile.read", "zipfile.ZipFile.infolist",
                     "struct.unpack", "pickletools.genops"):
            done = run_forked(["counts", file, "-o", self.out], warning(name))
            self.assert_refused(done, "en.pt: " + self.WORDS)

    def test_of_all_else(self):
        self.checkpoint()
        self.refuse("hf: " + self.WORDS, prelude=warning("os.replace"))

    @needs_numpy
    def test_of_numpy(self):
        self.checkpoint(weights("F32"))
        self.refuse("hf: " + self.WORDS, prelude=warning("numpy.frombuffer"),
                    args=["--type", "f16"])

    def test_of_programs(self):
        """That something will be written otherwise one day says nothing of a file."""
        self.checkpoint()
        for kind in "DeprecationWarning", "PendingDeprecationWarning", "ResourceWarning":
            self.convert(prelude=warning("json.loads", kind))


class Sparse(io.FileIO):
    """A file in which zeros that are written take no room."""

    def write(self, data):
        if len(data) > 4096 and bytes(data).count(0) == len(data):
            self.seek(len(data), 1)
            return len(data)
        return super().write(data)


class Memory(Case):
    """A checkpoint streams: one tensor and 200 MB are the most that is ever in memory."""

    WIDTH, VOCAB, BLOCK = 2048, 32000, bytes(1 << 20)

    def peak(self, *args, command=("hf", "-q")):
        """MB that the program needs at most, in an interpreter of its own."""
        code = ("import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); "
                "sys.exit(done.returncode)")
        done = subprocess.run([sys.executable, "-c", code, sys.executable, CONVERT, *command,
                               self.model, "-o", self.out] + list(args), stdout=subprocess.PIPE)
        self.assertEqual(done.returncode, 0)
        return int(done.stdout) / (1 << 20 if sys.platform == "darwin" else 1 << 10)

    def check(self, tensors, largest, *args):
        """The peak, where the embeddings alone would be more than is allowed."""
        self.assertGreater(4 * self.VOCAB * self.WIDTH >> 20, largest + 150)
        self.assertLess(self.peak(*args), largest + 200)
        os.remove(self.out)

    def zeros(self, file, shape):
        size = 4 * product(shape)
        for at in range(0, size, len(self.BLOCK)):
            file.write(self.BLOCK[:size - at])

    def gpt2(self):
        """GPT-2, whose matrices are turned, with a copy of the embeddings that are its head."""
        width, t = self.WIDTH, "transformer."
        tensors = {"lm_head.weight": [self.VOCAB, width], t + "wte.weight": [self.VOCAB, width],
                   t + "wpe.weight": [64, width], t + "ln_f.weight": [width],
                   t + "ln_f.bias": [width]}
        for name, shape in {"ln_1": [width], "ln_2": [width], "attn.c_attn": [width, 3 * width],
                            "attn.c_proj": [width, width], "mlp.c_fc": [width, 4 * width],
                            "mlp.c_proj": [4 * width, width]}.items():
            tensors.update({t + "h.0." + name + ".weight": shape,
                            t + "h.0." + name + ".bias": shape[-1:]})
        self.write("config.json", {"architectures": ["GPT2LMHeadModel"], "vocab_size": self.VOCAB,
                                   "n_embd": width, "n_layer": 1, "n_head": 16, "n_positions": 64})
        return tensors

    @needs_numpy
    def test_safetensors(self):
        tensors, header, at = self.gpt2(), {}, 0
        for name, shape in tensors.items():
            header[name] = {"dtype": "F32", "shape": shape,
                            "data_offsets": [at, at + 4 * product(shape)]}
            at += 4 * product(shape)
        text = json.dumps(header).encode()
        with Sparse(os.path.join(self.model, "model.safetensors"), "w") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + at)
        self.check(tensors, 64, "--type", "q8_0")    # what is turned has to be whole

    @needs_numpy
    def test_bin(self):
        """BLOOM, whose rows of q, k and v are regrouped."""
        width, t = self.WIDTH, "transformer."
        tensors = {t + "word_embeddings.weight": [self.VOCAB, width],
                   "lm_head.weight": [self.VOCAB, width]}
        for name in (t + "word_embeddings_layernorm", t + "ln_f", t + "h.0.input_layernorm",
                     t + "h.0.post_attention_layernorm"):
            tensors.update({name + ".weight": [width], name + ".bias": [width]})
        for name, rows, columns in (("self_attention.query_key_value", 3 * width, width),
                                    ("self_attention.dense", width, width),
                                    ("mlp.dense_h_to_4h", 4 * width, width),
                                    ("mlp.dense_4h_to_h", width, 4 * width)):
            tensors.update({t + "h.0." + name + ".weight": [rows, columns],
                            t + "h.0." + name + ".bias": [rows]})
        self.write("config.json", {"architectures": ["BloomForCausalLM"], "vocab_size": self.VOCAB,
                                   "hidden_size": width, "n_layer": 1, "n_head": 16})
        ordered, made = Global("collections", "OrderedDict"), {}
        for number, (name, shape) in enumerate(tensors.items()):
            storage = Persistent(("storage", Global("torch", "FloatStorage"), str(number), "cpu",
                                  product(shape)))
            strides = (shape[1], 1) if len(shape) == 2 else (1,)
            made[name] = Call(Global("torch._utils", "_rebuild_tensor_v2"), storage, 0,
                              tuple(shape), strides, False, Call(ordered))
        with Sparse(os.path.join(self.model, "pytorch_model.bin"), "w+") as file:
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("x/data.pkl", b"\x80\x02" + pickled(made) + b".")
                for number, shape in enumerate(tensors.values()):
                    with archive.open("x/data/%d" % number, "w", force_zip64=True) as entry:
                        self.zeros(entry, shape)
        self.check(tensors, 0, "--type", "f16")


    def test_ids(self):
        """Twenty million of them, and every second of these, in less than half of their size."""
        count = 20 * 10 ** 6
        self.model, self.out = os.path.join(self.dir, "ids"), os.path.join(self.dir, "ids.npy")
        for step in 1, 2:
            pt = Pt()
            tensor = pt.tensor([], (count // step,), "q", strides=(step,), claim=count)
            with Sparse(self.model, "w+") as file, zipfile.ZipFile(file, "w") as archive:
                archive.writestr("x/data.pkl", b"\x80\x02" + pickled(tensor) + b".")
                with archive.open("x/data/0", "w", force_zip64=True) as entry:
                    self.zeros(entry, (2 * count,))
            self.assertLess(self.peak(command=("ids", "-q")), 70)
            self.assertEqual(os.path.getsize(self.out), 128 + 8 * count // step)
            os.remove(self.out)


class Output(Case):
    """What becomes of the output file, and what a terminal shows."""

    def test_as_a_program(self):
        """Once with an interpreter of its own, in place of a fork of this one."""
        self.checkpoint()
        command = [sys.executable, CONVERT, "hf", self.model, "-q", "-o"]
        self.assertEqual(subprocess.run(command + [self.out]).returncode, 0)
        with open(self.out, "rb") as file:
            alone = file.read()
        self.convert()
        with open(self.out, "rb") as file:
            self.assertEqual(file.read(), alone)
        done = subprocess.run(command + [self.model], stderr=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (1, 1))

    def test_older_output(self):
        self.checkpoint()
        with open(self.out, "w") as file:
            file.write("older")
        self.assertIn("token_embd.weight", self.convert().tensors)
        self.assertEqual(sorted(os.listdir(self.dir)), ["out.gguf", "tiny"])

    def test_older_output_stays_when_the_new_one_fails(self):
        self.checkpoint(mlp_bias=True)
        with open(self.out, "w") as file:
            file.write("older")
        self.assertEqual(run_forked(["hf", self.model, "-o", self.out]).returncode, 1)
        with open(self.out) as file:
            self.assertEqual(file.read(), "older")

    def test_places_that_are_refused(self):
        self.checkpoint()
        weights_file = os.path.join(self.model, "model.safetensors")
        pipe = os.path.join(self.model, "pipe")      # no real device: a bug would replace it
        os.mkfifo(pipe)
        before = os.listdir(self.model)
        for out, word in ((self.model, "plain file"), (pipe, "plain file"),
                          (weights_file, "input"),
                          (os.path.join(self.dir, "no", "x"), "written")):
            done = run_forked(["hf", self.model, "-o", out, "-q"])
            self.assert_refused(done, out, word)
        self.assertEqual(os.listdir(self.model), before)

    def test_links(self):
        """A link stays one, and what it names is written; in place of nothing, nothing is."""
        self.checkpoint()
        folder = os.path.join(self.dir, "elsewhere")
        target, pipe = os.path.join(folder, "x"), os.path.join(folder, "pipe")
        os.mkdir(folder)
        os.mkfifo(pipe)
        os.symlink(os.path.join("elsewhere", "y"), self.out)
        os.symlink("x", os.path.join(folder, "y"))
        done = run_forked(["hf", self.model, "-o", self.out, "-q"])
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1))
        self.assertIn("out.gguf: is a link to " + os.path.realpath(target), done.stderr)
        self.assertEqual(sorted(os.listdir(folder)), ["pipe", "y"])
        with open(target, "w") as file:
            file.write("older")
        full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))"
        for prelude, status, start in ((full, 1, b"older"), ("", 0, b"GGUF\3")):
            done = run_forked(["hf", self.model, "-o", self.out, "-q"], prelude)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (status, status))
            self.assertEqual(os.readlink(self.out), os.path.join("elsewhere", "y"))
            self.assertEqual(os.readlink(os.path.join(folder, "y")), "x")
            self.assertFalse(os.path.islink(target))
            with open(target, "rb") as file:
                self.assertEqual(file.read(5), start)
            self.assertEqual(sorted(os.listdir(folder)), ["pipe", "x", "y"])
        for name, word in ((pipe, "plain file"), (os.path.join(self.model, "model.safetensors"),
                                                  "input"), (self.out, "is a link to")):
            os.remove(self.out)
            os.symlink(name, self.out)
            done = run_forked(["hf", self.model, "-o", self.out, "-q"])
            self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1))
            self.assertIn(word, done.stderr)
        self.assertEqual(sorted(os.listdir(self.dir)), ["elsewhere", "out.gguf", "tiny"])

    def test_others_files_beside_it(self):
        """What has the name of the temporary file is not written over, nor removed."""
        self.checkpoint()
        other = os.path.join(self.dir, "out.gguf.%d.tmp")
        done = run_forked(["hf", self.model, "-o", self.out, "-q"],
                          "import os\nwith open(%r %% os.getpid(), 'w') as file:\n"
                          "    file.write('theirs')" % other)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1))
        self.assertIn(".tmp is in the way", done.stderr)
        name, = (name for name in os.listdir(self.dir) if name != "tiny")
        with open(os.path.join(self.dir, name)) as file:
            self.assertEqual(file.read(), "theirs")

    def test_interrupt(self):
        """At the last moment before the file gets its name."""
        self.checkpoint()
        for how in "raise KeyboardInterrupt", "os.kill(os.getpid(), %d)" % signal.SIGTERM:
            prelude = "import os\ndef stop(*_): %s\nos.replace = stop\n" % how
            done = run_forked(["hf", self.model, "-o", self.out, "-q"], prelude)
            self.assertEqual((done.returncode, done.stderr), (130, "convert.py: interrupted\n"))
            self.assert_no_output()

    def test_full_disk(self):
        self.checkpoint()
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))"
        done = run_forked(["hf", self.model, "-o", self.out, "-q"], limit)
        self.assert_refused(done, "out.gguf", "File too large")

    def test_usage(self):
        for args in ([], ["hf"], ["hf", self.model], ["hf", self.model, "-o"], ["other"],
                     ["hf", self.model, "-o", self.out, "--type", "q4_0"]):
            done = run_forked(args)
            self.assertEqual(done.returncode, 2)
            self.assert_no_output()

    def test_progress_on_a_terminal(self):
        self.checkpoint()
        self.write("tokenizer.model", sentencepiece())
        for quiet, shown in (([], True), (["-q"], False)):
            try:
                ours, theirs = os.openpty()
            except OSError as error:
                self.skipTest("there is no terminal to be had: %s" % error)
            command = [sys.executable, CONVERT, "hf", self.model, "-o", self.out]
            done = subprocess.run(command + quiet, stderr=theirs)
            os.write(theirs, b"|")
            seen = os.read(ours, 65536)
            while not seen.endswith(b"|"):
                seen += os.read(ours, 65536)
            os.close(ours)
            os.close(theirs)
            self.assertEqual(done.returncode, 0)
            self.assertEqual(b"\r21/21 blk.1.ffn_down.weight" in seen, shown)
            self.assertNotIn(b"\n", seen)


if __name__ == "__main__":
    sys.exit(report.main())
