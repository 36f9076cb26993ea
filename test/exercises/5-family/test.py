#!/usr/bin/env python3
"""Exercise 5: a family as a row. README.md, one folder up, says what to do.

    LAPE=./lape python3 test/exercises/5-family/test.py [NAME...]
"""

import random
import struct
import sys

from paths import DEMO
import exercise
import forward
import report
import tiny

SIZES = [("block_count", 2), ("embedding_length", 24), ("feed_forward_length", 40),
         ("attention.head_count", 4), ("attention.head_count_kv", 2), ("context_length", 32)]
VOCAB, WIDTH, NEURONS, KV_WIDTH, LAYERS = 50, 24, 40, 12, 2
IDS = [7, 3, 49, 0, 12, 12, 31, 8, 25, 44, 1, 19]


def made(family, layer_norm):
    """A random model; LayerNorm's norms have biases, too."""
    rng = random.Random(5)
    kind = "" if layer_norm else "rms_"
    values = {"general.architecture": (tiny.STRING, family), "general.name": (tiny.STRING, "x"),
              "%s.attention.layer_norm_%sepsilon" % (family, kind): (tiny.FLOAT, 1e-5)}
    values.update(("%s.%s" % (family, key), (tiny.U32, size)) for key, size in SIZES)
    tensors = {"token_embd.weight": tiny.tensor(rng, VOCAB, WIDTH, size=1),
               "output.weight": tiny.tensor(rng, VOCAB, WIDTH)}
    norms = ["output_norm"]
    for start in ("blk.%d." % layer for layer in range(LAYERS)):
        norms += [start + "attn_norm", start + "ffn_norm"]
        for name, rows, columns in [
                ("attn_q", WIDTH, WIDTH), ("attn_k", KV_WIDTH, WIDTH), ("attn_v", KV_WIDTH, WIDTH),
                ("attn_output", WIDTH, WIDTH), ("ffn_gate", NEURONS, WIDTH),
                ("ffn_up", NEURONS, WIDTH), ("ffn_down", WIDTH, NEURONS)]:
            tensors[start + name + ".weight"] = tiny.tensor(rng, rows, columns)
    for name in norms:
        tensors[name + ".weight"] = tiny.tensor(rng, WIDTH, middle=1.0)
        if layer_norm:
            tensors[name + ".bias"] = tiny.tensor(rng, WIDTH)
    return {"magic": b"GGUF", "version": 3, "values": values, "tensors": tensors}


class Family(exercise.Case):
    def setUp(self):
        super().setUp()
        with open(self.path("ids.bin"), "wb") as file:
            file.write(struct.pack("<%dH" % len(IDS), *IDS))

    def write(self, family, layer_norm):
        with open(self.path("model.gguf"), "wb") as file:
            file.write(tiny.to_bytes(made(family, layer_norm)))
        return self.path("model.gguf")

    def same_logits(self, model, **features):
        """As the plain forward pass has them."""
        self.lape("trace", model, self.path("ids.bin"), "--at", "logits", "-o", self.path("x.npy"))
        found = exercise.array(self.path("x.npy"))
        wanted = sum(forward.Model(model, **features).logits(IDS), [])
        self.assertEqual(len(found), len(wanted))
        self.assertLess(max(abs(a - b) for a, b in zip(found, wanted)), 1e-4)

    def test_logits(self):
        self.same_logits(self.write("quoll", True), layer_norm=True, act=forward.relu)

    def test_name(self):
        """By its name, and in the list of names; not by another one."""
        self.assertIn("\nfamily: quoll\n", self.lape("info", self.write("quoll", True)))
        self.assertIn("quoll", self.refused("info", self.write("quolls", True)).split(":")[-1])

    def test_llama(self):
        """LLaMA is what it was: RMSNorm and SiLU."""
        self.same_logits(self.write("llama", False))
        self.assertIn("\nfamily: llama\n", self.lape("info", DEMO))


if __name__ == "__main__":
    sys.exit(report.main())
