"""Tiny random models of every family, as GGUF files that tests make byte by byte.

A file is a dict that a test may change anywhere before to_bytes() writes it: "magic", "version",
"values" {key: (type, value)}, "tensors" {name: {"dims": rows first, "type", "raw"}}, and what
follows from these unless it is there: "n_values", "n_tensors", an "align"ment other than 32, a
tensor's "offset", its or a value's "name" where that is not its key, a "filler" between tensors.
A list of values is an array.
"""

import copy
import functools
import random
import re
import struct

U8, I8, U16, I16, U32, I32, FLOAT, BOOL, STRING, ARRAY, U64, I64, DOUBLE = range(13)
LETTERS = "BbHhIif?  Qqd"
F32, F16, Q4_0, Q8_0, INT64, BF16 = 0, 1, 2, 8, 27, 30
LAYERS, WIDTH, NEURONS, HEADS, CONTEXT = 2, 32, 32, 2, 24

# family -> whether its norms are LayerNorm, without a gate, one norm a layer; what it has besides
FAMILIES = {
    "llama": (False, False, False, ""), "qwen2": (False, False, False, ""),
    "qwen3": (False, False, False, "heads"), "gpt2": (True, True, False, "learned"),
    "opt": (True, True, False, "learned"), "bloom": (True, True, False, "embedding"),
    "phi2": (True, True, True, ""), "gemma": (False, False, False, ""),
    "gemma2": (False, False, False, "post"), "gemma3": (False, False, False, "heads post"),
    "command-r": (True, False, True, ""), "olmo2": (False, False, False, "whole post alone"),
    "stablelm": (True, False, False, ""), "phi3": (False, False, False, "fused"),
    "smollm3": (False, False, False, ""), "granite": (False, False, False, ""),
}
ROTARY = [name for name in FAMILIES if name not in ("gpt2", "opt", "bloom")]
LAYER_NORM = [name for name, what in FAMILIES.items() if what[0]]
PLAIN = [name for name, what in FAMILIES.items() if what[1]]
SPACE = "\u2581"
# SentencePiece's: text, score, kind
PIECES = [("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3), ("a", -1, 1), ("b", -2, 1),
          (SPACE, -3, 1), ("ab", -4, 1), (SPACE + "ab", -5, 1), ("c", -6, 1), ("bc", -7, 1),
          ("<w>", 0, 4), ("abc", -8, 1), (SPACE + "a", -9, 1), ("cc", -10, 1)]


def floats(rng, count, size=.4, middle=0.0):
    return struct.pack("<%df" % count, *(middle + rng.uniform(-size, size) for _ in range(count)))


def tensor(rng, *dims, size=.4, middle=0.0):
    count = 1
    for length in dims:
        count *= length
    return {"dims": list(dims), "type": F32, "raw": floats(rng, count, size, middle)}


def shapes(family, vocab):
    """Name -> dimensions, of all that the family cannot do without."""
    layer_norm, plain, parallel, more = FAMILIES[family]
    made = {"token_embd.weight": [vocab, WIDTH], "output_norm.weight": [WIDTH]}
    if more == "learned":
        made["position_embd.weight"] = [CONTEXT, WIDTH]
    if more == "embedding":
        made["token_embd_norm.weight"] = [WIDTH]
    for layer in range(LAYERS):
        start = "blk.%d." % layer
        before = ["attn_norm"] + ([] if parallel else ["ffn_norm"])
        for name in ([] if "alone" in more else before) + (
                ["post_attention_norm", "post_ffw_norm"] if "post" in more else []):
            made[start + name + ".weight"] = [WIDTH]
        for name in ["attn_q_norm", "attn_k_norm"] if "heads" in more or "whole" in more else []:
            made[start + name + ".weight"] = [WIDTH // HEADS if "heads" in more else WIDTH]
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"]:
            made[start + name + ".weight"] = [WIDTH, WIDTH]
        for name in ["ffn_up"] + ([] if plain or more == "fused" else ["ffn_gate"]):
            made[start + name + ".weight"] = [NEURONS * (1 + (more == "fused")), WIDTH]
        made[start + "ffn_down.weight"] = [WIDTH, NEURONS]
    return made


@functools.lru_cache(None)
def weights(family, vocab, seed):
    rng = random.Random("%s %d" % (family, seed))
    return {name: tensor(rng, *dims, size=.3 if len(dims) == 1 else .4,
                         middle=float(len(dims) == 1))
            for name, dims in shapes(family, vocab).items()}


def model(family="llama", vocab=len(PIECES), seed=1):
    """A model without a tokenizer, whose numbers all matter."""
    epsilon = "layer_norm_epsilon" if FAMILIES[family][0] else "layer_norm_rms_epsilon"
    values = {"general.architecture": (STRING, family), "general.name": (STRING, "tiny")}
    for key, value in [("block_count", LAYERS), ("embedding_length", WIDTH),
                       ("feed_forward_length", NEURONS), ("attention.head_count", HEADS),
                       ("context_length", CONTEXT)]:
        values["%s.%s" % (family, key)] = U32, value
    values["%s.attention.%s" % (family, epsilon)] = FLOAT, 1e-5
    if family == "granite":                          # llama.cpp wants this
        values["granite.logit_scale"] = FLOAT, 2.0
    return {"magic": b"GGUF", "version": 3, "values": values,
            "tensors": copy.deepcopy(weights(family, vocab, seed))}


def keys(prefix, **values):
    return {prefix + key: value for key, value in values.items()}


def sentencepiece():
    """The values of a SentencePiece tokenizer of PIECES."""
    return keys("tokenizer.ggml.", model=(STRING, "llama"),
                tokens=(STRING, [text for text, _, _ in PIECES]),
                scores=(FLOAT, [float(score) for _, score, _ in PIECES]),
                token_type=(I32, [kind for _, _, kind in PIECES]), bos_token_id=(U32, 1),
                eos_token_id=(U32, 2), add_bos_token=(BOOL, True), add_eos_token=(BOOL, False))


def alphabet():
    """GPT-2's characters for the bytes 0 to 255."""
    printable = [b for b in range(256) if 32 < b < 127 or 160 < b != 173]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) if b in printable else chr(256 + others.index(b)) for b in range(256)]


def byte_level(pre="gpt-2"):
    """The values of a byte-level BPE of 262 tokens: ids 0 to 255 are bytes."""
    tokens = alphabet() + ["ab", "abc", "\u0120a", "<s>", "</s>", "<w>"]
    return keys("tokenizer.ggml.", model=(STRING, "gpt2"), pre=(STRING, pre),
                tokens=(STRING, tokens), token_type=(I32, [1] * 259 + [3, 3, 4]),
                merges=(STRING, ["a b", "ab c", "\u0120 a"]), bos_token_id=(U32, 259),
                eos_token_id=(U32, 260), add_bos_token=(BOOL, False))


def with_tokenizer(values, family="llama", **more):
    made = model(family, len(values["tokenizer.ggml.tokens"][1]), **more)
    made["values"].update(values)
    return made


def put_string(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def put_value(kind, value, *_):
    one = put_string if kind == STRING else lambda item: struct.pack("<" + LETTERS[kind], item)
    if isinstance(value, bytes) and kind != STRING:
        return struct.pack("<I", kind) + value                     # what no such type may hold
    if isinstance(value, list):
        return struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(map(one, value))
    return struct.pack("<I", kind) + one(value)


def to_bytes(file):
    values, tensors = file["values"], file["tensors"]
    align = file.get("align", 32)
    head = file["magic"] + struct.pack(
        "<IQQ", file["version"], file.get("n_tensors", len(tensors)),
        file.get("n_values", len(values)))
    for key, value in values.items():
        head += put_string(value[2] if len(value) > 2 else key) + put_value(*value)
    data, filler = b"", file.get("filler", b"\0")
    for name, t in tensors.items():
        dims = t["dims"][::-1]
        head += put_string(t.get("name", name)) + struct.pack(
            "<I%dQIQ" % len(dims), len(dims), *dims, t["type"], t.get("offset", len(data)))
        data += t["raw"] + filler * (-len(t["raw"]) % align)
    return head + filler * (-len(head) % align) + data + file.get("end", b"")


def without_digest(data):
    """Counts or a list of neurons, which say what model they are of to the bit, without that."""
    data = re.sub(rb"(lape-counts\.model_digest.{4}).{8}", rb"\1", data, flags=re.S)
    return re.sub(rb"# digest: [0-9a-f]{16}\n", b"", data)
