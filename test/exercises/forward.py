"""A forward pass of LLaMA's kind in plain Python, in double, a token and a head after the other. It
stands on the formulas alone: what the exercises' tests hold the program against.
"""

import math
import operator
import struct

from formats.gguf import Gguf, NAMES
from formats.weights import widened


def silu(x):
    return x / (1 + math.exp(-x))


def relu(x):
    return max(x, 0.0)


def matrix(file, name):
    """A tensor's rows."""
    dims, kind, _ = file.tensors[name]
    wide = bytes(widened(file.bytes_of(name), NAMES[kind]))
    numbers = struct.unpack("<%df" % (len(wide) // 4), wide)
    return [numbers[at:at + dims[0]] for at in range(0, len(numbers), dims[0])]


def dot(a, b):
    return sum(map(operator.mul, a, b))


def times(rows, x):
    return [dot(row, x) for row in rows]


def added(a, b):
    return list(map(operator.add, a, b))


class Model:
    """Its features are LLaMA's unless others are named; its weights and sizes are the file's."""

    def __init__(self, path, layer_norm=False, halves=False, act=silu):
        file = Gguf(path)
        self.layer_norm, self.halves, self.act = layer_norm, halves, act
        self.values, self.family = file.values, file.values["general.architecture"]
        self.of = {name: matrix(file, name) for name in file.tensors}
        self.layers = self.value("block_count")
        self.heads = self.value("attention.head_count")
        self.kv_heads = self.value("attention.head_count_kv", self.heads)
        self.head = self.value("embedding_length") // self.heads
        self.base = self.value("rope.freq_base", 10000.0)
        self.eps = self.value("attention.layer_norm_%sepsilon" % ("" if layer_norm else "rms_"))

    def value(self, key, otherwise=None):
        return self.values.get("%s.%s" % (self.family, key), otherwise)

    def norm(self, x, name):
        """(x - mean) / deviation, or x over its root mean square; times weights, plus a bias."""
        weight, = self.of[name + ".weight"]
        bias, = self.of.get(name + ".bias", [[0.0] * len(x)])
        if self.layer_norm:
            mean = sum(x) / len(x)
            x = [value - mean for value in x]
        scale = 1 / math.sqrt(dot(x, x) / len(x) + self.eps)
        return [value * scale * w + b for value, w, b in zip(x, weight, bias)]

    def rotated(self, x, position):
        """Every head's pairs of numbers turned by the position: neighbours, or those that are half
        a head apart."""
        x, d = list(x), self.head
        for start in range(0, len(x), d):
            for i in range(d // 2):
                a, b = (i, i + d // 2) if self.halves else (2 * i, 2 * i + 1)
                angle = position * self.base ** (-2 * i / d)
                one, other = x[start + a], x[start + b]
                x[start + a] = one * math.cos(angle) - other * math.sin(angle)
                x[start + b] = one * math.sin(angle) + other * math.cos(angle)
        return x

    def attention(self, q, keys, values):
        """What the heads of one token make of the tokens up to it."""
        d, made = self.head, []
        for head in range(self.heads):
            at = head // (self.heads // self.kv_heads) * d
            scores = [dot(q[head * d:head * d + d], key[at:at + d]) / math.sqrt(d) for key in keys]
            most = max(scores)
            weights = [math.exp(score - most) for score in scores]
            made += [dot(weights, column) / sum(weights)
                     for column in zip(*(value[at:at + d] for value in values))]
        return made

    def run(self, ids):
        """Of one text, (act, up, x): by layer and token what act makes of x W_gate, and x W_up;
        and by token what leaves the last layer."""
        x = [self.of["token_embd.weight"][i] for i in ids]
        act, up = [], []
        for layer in range(self.layers):
            def of(name, layer=layer):
                return self.of["blk.%d.%s.weight" % (layer, name)]

            def normed(name, layer=layer):
                return [self.norm(row, "blk.%d.%s" % (layer, name)) for row in x]
            h = normed("attn_norm")
            q = [self.rotated(times(of("attn_q"), row), t) for t, row in enumerate(h)]
            k = [self.rotated(times(of("attn_k"), row), t) for t, row in enumerate(h)]
            v = [times(of("attn_v"), row) for row in h]
            x = [added(row, times(of("attn_output"), self.attention(q[t], k[:t + 1], v[:t + 1])))
                 for t, row in enumerate(x)]
            h = normed("ffn_norm")
            act.append([list(map(self.act, times(of("ffn_gate"), row))) for row in h])
            up.append([times(of("ffn_up"), row) for row in h])
            x = [added(row, times(of("ffn_down"), list(map(operator.mul, a, u))))
                 for row, a, u in zip(x, act[-1], up[-1])]
        return act, up, x

    def logits(self, ids, first=0):
        """By token, from token `first` on."""
        head = self.of.get("output.weight", self.of["token_embd.weight"])
        return [times(head, self.norm(row, "output_norm")) for row in self.run(ids)[2][first:]]
