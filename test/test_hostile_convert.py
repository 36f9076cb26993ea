#!/usr/bin/env python3
"""Hostile files, and how tools/convert.py refuses them: in one line, soon, with little memory, and
with nothing left. Each test is a kind of fault: a value that is used before its type is looked at,
work that grows with a number in a file and not with its size, a file that never ends.

By the standard library alone. The last line on stdout is `N passed, N failed`.
"""

import json
import os
import struct
import sys
import tempfile

import report
import test_convert
from checkpoint.splits import SPLITS
from test_convert import (PIECES, USER, CountsCase, Pt, added, pickled, run_forked, sentencepiece,
                          weights)
from test_fields_convert import CONFIGS

# Of every conversion: processor time, memory, the largest file, and time by the clock.
LIMITS = """
import resource, signal
for what, most in ((resource.RLIMIT_CPU, 5), (resource.RLIMIT_AS, 2 << 30),
                   (resource.RLIMIT_FSIZE, 1 << 26), (resource.RLIMIT_CORE, 0)):
    resource.setrlimit(what, (most, most))
signal.alarm(8)
"""
STRANGE = ([], [1], {}, {"x": []}, 7, -1, 0.5, "x", True, [[]], [{}])


class Hostile(CountsCase):
    """Conversions within limits."""

    def refuse(self, *words, args=(), prelude=""):
        super().refuse(*words, args=args, prelude=LIMITS + prelude)

    def refuse_run(self, *args, words=()):
        done = run_forked([*args, "-o", self.out], LIMITS)
        self.assert_refused(done, *words)

    def configure(self, base, **values):
        """config.json of one of the bases, some of it replaced; there are no weights."""
        return self.write("config.json", dict(CONFIGS[base], **values))

    def refuse_config(self, path, *words):
        """By both commands that read one."""
        self.refuse(*words)
        self.refuse_run("random", path, words=words)


class Files(Hostile):
    """What is no plain file, or no small one."""

    NAMES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer.model",
             "tokenizer_config.json")

    def replaced(self, name, make):
        """A checkpoint in which something else has a file's name."""
        self.checkpoint()
        path = os.path.join(self.model, name)
        if os.path.lexists(path):
            os.remove(path)
        make(path)
        try:
            self.refuse(name, "is not a plain file")
        finally:
            (os.rmdir if os.path.isdir(path) else os.remove)(path)

    def test_pipes(self):
        for name in self.NAMES:
            with self.subTest(name):
                self.replaced(name, os.mkfifo)

    def test_devices(self):
        for name in self.NAMES:
            with self.subTest(name):
                self.replaced(name, lambda path: os.symlink("/dev/zero", path))

    def test_folders(self):
        self.replaced("tokenizer.json", os.mkdir)

    def test_shard(self):
        self.checkpoint()
        os.remove(os.path.join(self.model, "model.safetensors"))
        os.mkfifo(os.path.join(self.model, "pipe"))
        self.write("model.safetensors.index.json", {"weight_map": {"x": "pipe"}})
        self.refuse("pipe: is not a plain file")

    def test_merges(self):
        self.checkpoint(architectures=["Qwen2ForCausalLM"])
        tensors = dict(weights())
        for layer in range(2):
            for part, size in ("q", 32), ("k", 16), ("v", 16):
                tensors["model.layers.%d.self_attn.%s_proj.bias" % (layer, part)] = (
                    "F32", [size], bytes(4 * size))
        self.write("model.safetensors", test_convert.safetensors(tensors))
        self.write("vocab.json", {"a": 0})
        os.symlink("/dev/zero", os.path.join(self.model, "merges.txt"))
        self.refuse("merges.txt: is not a plain file")

    def test_of_the_other_commands(self):
        pipe = os.path.join(self.dir, "pipe.npy")
        gguf = os.path.join(self.dir, "pipe.gguf")
        for path in pipe, gguf:
            os.mkfifo(path)
        for args in (["random", pipe], ["counts", "en=" + gguf], ["neurons", pipe],
                     ["counts", "en=" + pipe, "--tokens", "en=9"], ["counts", "en=/dev/zero"]):
            with self.subTest(args[:2]):
                self.refuse_run(*args, words=["is not a plain file"])
        self.assert_refused(run_forked(["ids", pipe, "-o", self.out + ".npy"], LIMITS),
                            "is not a plain file")
        done = run_forked(["counts", gguf, "-o", self.out + "LANG"], LIMITS)
        self.assert_refused(done, "is not a plain file")

    def test_large(self):
        for name, size in (("config.json", 1 << 25), ("tokenizer_config.json", 1 << 25),
                           ("tokenizer.model", 1 << 27)):
            with self.subTest(name):
                self.checkpoint()
                with open(os.path.join(self.model, name), "ab") as file:
                    file.truncate(size)
                self.refuse(name, "is larger than")
                os.remove(os.path.join(self.model, name))

    def test_array(self):
        path = self.write("x.npy", b"\x93NUMPY")
        os.truncate(path, 1 << 33)
        self.refuse_run("counts", "en=" + path, "--tokens", "en=9", words=["is larger than"])


class Json(Hostile):
    """Text that is JSON, and does harm when it is read or walked through."""

    def test_depth(self):
        for depth in 80, 900, 200000:
            with self.subTest(depth):
                self.write("config.json", b'{"x": ' + b"[" * depth + b"]" * depth + b"}")
                self.refuse("config.json", "JSON" if depth > 900 else "deep")

    def test_depth_of_a_decoder(self):
        deep = []
        for _ in range(500):
            deep = {"x": deep}
        self.checkpoint()
        self.write("tokenizer.json", {"decoder": deep})
        self.refuse("tokenizer.json", "deep")

    def test_digits(self):
        self.write("config.json", b'{"hidden_size": ' + b"9" * 4200 + b"}")
        self.refuse("config.json", "JSON")


class Settings(Hostile):
    """config.json: types, and sizes that nothing in the folder bears out."""

    def test_rotary_settings(self):
        for base in "gemma3", "llama":
            for key in "rope_scaling", "rope_parameters":
                for value in (*STRANGE[:2], *STRANGE[4:]):
                    with self.subTest(base=base, key=key, value=value):
                        path = self.configure(base, **{key: value})
                        self.refuse_run("random", path, words=[key])

    def test_rotary_sets(self):
        for name in "full_attention", "sliding_attention":
            for value in ([], "x", 7, True, [1]):
                with self.subTest(name=name, value=value):
                    path = self.configure("sets", rope_parameters={name: value})
                    self.refuse_run("random", path, words=[name])

    def test_rotary_part(self):
        for part in 1e30, 1e9, 4:
            path = self.configure("phi", partial_rotary_factor=part)
            self.refuse_config(path, "partial_rotary_factor")

    def test_architectures(self):
        for value in ([["LlamaForCausalLM"]], "LlamaForCausalLM", [7], [{}], {}, 7):
            self.refuse_config(self.configure("llama", architectures=value), "architectures")

    def test_sizes(self):
        most = {"hidden_size": 1 << 20, "intermediate_size": 1 << 22, "num_hidden_layers": 1 << 12,
                "num_attention_heads": 1 << 12, "head_dim": 1 << 12, "vocab_size": 1 << 24}
        for key, value in most.items():
            for larger in (1 << 31) - 2, 2 * value:
                with self.subTest(key=key, value=larger):
                    path = self.configure("llama", **{key: larger})
                    self.refuse_run("random", path, words=[key, "at most"])

    def test_head_of_random(self):
        """As many divisors as half a head."""
        path = self.configure("llama3", head_dim=(1 << 31) - 2)
        self.refuse_config(path, "head_dim", "at most")

    def test_heads_without_size(self):
        self.refuse_config(self.configure("llama", hidden_size=2, head_dim=None,
                                          num_attention_heads=4, num_key_value_heads=4),
                           "4 heads of size 0")

    def test_head_by_width(self):
        self.refuse_config(self.configure("llama", hidden_size=1 << 20, head_dim=None,
                                          num_attention_heads=1), "heads of size 1048576")

    def test_more_than_the_disk(self):
        sizes = dict(hidden_size=1 << 20, intermediate_size=1 << 22, num_hidden_layers=1 << 12)
        self.refuse_run("random", self.configure("llama", **sizes), words=["bytes", "are free"])

    def test_numbers(self):
        """Those that the program refuses are not written."""
        for base, key, values in (
                ("llama", "rms_norm_eps", (1, 5000, 2 ** 64)), ("llama", "rope_theta", (0.5, 1e31)),
                ("granite", "attention_multiplier", (1e20,)), ("granite", "logits_scaling", (1e-7,)),
                ("gemma2", "attn_logit_softcapping", (1e9,)), ("cohere", "logit_scale", (1e9,))):
            for value in values:
                with self.subTest(key=key, value=value):
                    path = self.configure(base, **{key: value})
                    self.refuse_run("random", path, words=[key, "a number from"])

    def test_layers_without_positions(self):
        for value in ("x", 7, {}, True):
            path = self.configure("smollm3", no_rope_layers=value)
            self.refuse_run("random", path, words=["no_rope_layers"])


class Tokenizers(Hostile):
    """Files of tokenizers."""

    LEVEL, words, split = (getattr(test_convert.ByteLevel, name) for name in (
        "LEVEL", "words", "split"))

    def refuse_json(self, *words, **change):
        test_convert.ByteLevel.file(self, **change)
        self.refuse("tokenizer.json: ", *words)

    def test_post_processor(self):
        """Ids that are none, and objects that are none."""
        single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A"}}]
        tokens = {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]}}
        for value in (
                *({"special_tokens": {"<s>": dict(tokens["<s>"], ids=ids)}} for ids in (
                    ["x"], [[5]], [{}], "x", {}, [0.5], [True], [1 << 40], [5, 5])),
                {"special_tokens": []}, {"special_tokens": {"<s>": 7}}, {"special_tokens": {}},
                {"single": "Sequence"}, {"single": ["Sequence"]}, {"single": [7]}, {"single": {}},
                {"single": [{"SpecialToken": 7}, single[1]]}, {"single": single[:1]},
                {"single": [{"SpecialToken": {"id": []}}, single[1]]}, {"type": []},
                {"type": "Sequence", "processors": {}}, {"type": "Sequence", "processors": [7]}):
            with self.subTest(str(value)):
                post = dict({"type": "TemplateProcessing", "single": single,
                             "special_tokens": tokens}, **value)
                self.refuse_json(post_processor=post)

    def test_model(self):
        """A model, a vocabulary and merges of other types."""
        test_convert.ByteLevel.file(self)
        for value in ([], "x", 7, True, None):
            test_convert.ByteLevel.file(self)
            self.write("tokenizer.json", {"model": value, "pre_tokenizer": self.LEVEL})
            self.refuse("tokenizer.json: ", "model")

    def test_vocabulary(self):
        for value in ([], "abc", 7, None):
            self.refuse_json("vocab", model={"vocab": value})

    def test_merges(self):
        """An object has keys, which are no merges."""
        for value in ({"a b": 1}, "a b", 7, [{"a": 1, "b": 2}], [["a", "b", "c"]], [[["a"], "b"]],
                      [7], [["a"]]):
            with self.subTest(str(value)):
                self.refuse_json("merges", model={"merges": value})

    def test_ids(self):
        for value in ("x", 0.5, {}, [[]], ["x"], 1 << 40):
            for kind in "json", "model":
                with self.subTest(kind=kind, value=value):
                    test_convert.ByteLevel.file(self)
                    if kind == "model":
                        os.remove(os.path.join(self.model, "tokenizer.json"))
                        path = self.write("tokenizer.model", sentencepiece())
                    self.checkpoint(bos_token_id=5, eos_token_id=value)
                    self.refuse("config.json: eos_token_id")
            os.remove(path)

    def test_a_long_word(self):
        """Letters without a sign: to look for one from each of them would take for ever."""
        long = "a" * 400000
        regex = next(regex for regex, name in SPLITS.items() if name == "llama-bpe")
        test_convert.ByteLevel.file(self, self.split(regex), added_tokens=[], model={
            "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, long: 5}, "ignore_merges": True})
        done = run_forked(["hf", self.model, "-o", self.out, "-q"], LIMITS)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_words_that_overlap(self):
        """Every end of one against every beginning of another."""
        one, other = "a" * 800000 + "b", "a" * 800000 + "c"
        self.checkpoint()
        self.write("tokenizer.model", sentencepiece(PIECES[:-1] + [(one, 0.0, USER)],
                                                    normalizer=((4, 0), (3, False))))
        self.write("tokenizer_config.json", {"add_prefix_space": False, "legacy": False,
                                             "added_tokens_decoder": {"8": added(other)}})
        done = run_forked(["hf", self.model, "-o", self.out, "-q"], LIMITS)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_many_words_that_overlap(self):
        pieces = [("u%05dx" % i, 0.0, USER) for i in range(4000)]
        size = len(PIECES) + len(pieces)
        rows = size + 4000
        self.checkpoint(weights(vocab=rows), vocab_size=rows)
        self.write("tokenizer.model", sentencepiece(PIECES + pieces,
                                                    normalizer=((4, 0), (3, False))))
        self.write("tokenizer_config.json", {
            "add_prefix_space": False, "legacy": False, "added_tokens_decoder": {
                str(size + i): added("y%05dz" % i) for i in range(4000)}})
        self.refuse("has 4000 added tokens")

    def test_many_special_words(self):
        """Each of the words against each of a list."""
        count = 60000
        test_convert.ByteLevel.file(self)
        self.write("tokenizer_config.json", {
            "additional_special_tokens": ["y%d" % i for i in range(count)],
            "added_tokens_decoder": {str(i): added("x%d" % i) for i in range(count)}})
        self.refuse("tokenizer.json")

    def test_prefix(self):
        for value in (7, "x", []):
            test_convert.ByteLevel.file(self)
            self.write("tokenizer_config.json", {"add_prefix_space": value})
            self.refuse("tokenizer_config.json: add_prefix_space")
        os.remove(os.path.join(self.model, "tokenizer_config.json"))


class Pickles(Hostile):
    """Pickles of little size and much work."""

    def refuse_pickle(self, body, *words):
        """As counts, and as a checkpoint."""
        data = Pt().file(body)
        self.refuse_run("counts", self.pt("en", data), words=["en.pt", *words])
        self.checkpoint()
        os.remove(os.path.join(self.model, "model.safetensors"))
        self.write("pytorch_model.bin", data)
        self.refuse("pytorch_model.bin")

    def test_deep_key(self):
        """To hash it, a function calls itself a million times."""
        self.refuse_pickle(b"})" + b"\x85" * 400000 + b"K\x01s", "damaged")

    def test_deep_key_of_a_call(self):
        self.refuse_pickle(b"ccollections\nOrderedDict\n](K\x01" + b"\x85" * 400000
                           + b"K\x02\x86e\x85R", "damaged")

    def test_deep_tuple(self):
        self.refuse_pickle(b")" + b"\x85" * 200000)

    def test_key_of_twice_itself(self):
        """Whose hash takes 2^60 steps; APPENDS of nothing hides that it is a tuple."""
        for hide in b"(e", b"(u":
            body = b")" + (hide + b"q\x01h\x01h\x01\x86") * 60 + hide + b"q\x01}h\x01K\x01s"
            self.refuse_pickle(body, "damaged")

    def test_keys_of_one_hash(self):
        prime = (1 << 61) - 1
        body = b"}(" + b"".join(b"\x8a\x10" + (i * prime).to_bytes(16, "little") + b"N"
                                for i in range(9, 60000)) + b"u"
        self.refuse_pickle(body, "damaged")

    def test_shape_of_many_dimensions(self):
        pt = Pt()
        huge = ((1 << 63) - 1,) * 60000
        data = pt.file({"n": 9, "over_zero": pt.tensor([1], huge, strides=huge)})
        self.refuse_run("counts", self.pt("en", data), words=["damaged"])

    def test_lists_in_lists(self):
        """A list of n that is n times in another is n^2 lists."""
        pt = Pt()
        empty = pickled(pt.tensor([], (0,), "q"))
        layers = b"](" + empty + b"q\x05" + b"h\x05" * 20000 + b"eq\x01"
        path = self.write("x.neuron.pth", pt.file(b"](" + layers + b"h\x01" * 20000 + b"e"))
        self.refuse_run("neurons", path, "--langs", "b,a", "--neurons", "6", words=["damaged"])

    def test_cycle(self):
        self.refuse_pickle(b"]q\x01h\x01a", "damaged")

    def test_one_storage_for_many_lists(self):
        """Each of a thousand layers has all of one storage."""
        pt = Pt()
        whole = pickled(pt.tensor(range(20000), (20000,), "q"))
        path = self.write("x.neuron.pth", pt.file(
            b"](](" + whole + b"q\x01" + b"h\x01" * 2000 + b"ee"))
        self.refuse_run("neurons", path, "--langs", "a", "--neurons", "9999999", words=["bytes"])

    def test_one_storage_for_many_tensors(self):
        pt, made = Pt(), {}
        for name, (_, shape, _) in weights("F32").items():
            big = pt.tensor([0.5] * 2048, (64, 32), "f") if not made else next(iter(made.values()))
            made[name] = big
        self.checkpoint()
        os.remove(os.path.join(self.model, "model.safetensors"))
        self.write("pytorch_model.bin", pt.file(made))
        self.refuse("pytorch_model.bin", "no more than two")

    def test_transposed_ids(self):
        """Each of the rows would be looked for in the whole storage."""
        pt, size = Pt(), 1500
        data = pt.file(pt.tensor([1] * size * size, (size, size), "q", strides=(1, size)))
        path, out = self.write("id.en", data), os.path.join(self.dir, "ids.npy")
        done = run_forked(["ids", path, "-o", out], LIMITS)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_text_for_a_name(self):
        self.refuse_pickle(b"K\x01K\x02\x93", "damaged")


class Tables(Hostile):
    """Tables of neurons."""

    def test_layers(self):
        table = test_convert.Released.TABLE.replace("layers: 2", "layers: 99999999")
        path = self.write("neurons.tsv", table.encode())
        self.refuse_run("neurons", path, words=["layers"])

    def test_many_languages(self):
        """Each line's languages against those of the head."""
        names = ["l%d" % i for i in range(20000)]
        lines = ["# layers: 1", "# neurons: 99999", "# languages: " + " ".join(names),
                 "layer\tneuron\tlape\tlanguages"]
        lines += ["0\t%d\tnan\tl0" % i for i in range(20000)] + ["0\tx"]
        path = self.write("neurons.tsv", "\n".join(lines).encode())
        self.refuse_run("neurons", path, words=["line 20005"])


class Unforeseen(Hostile):
    """What no reader has thought of is a line, too."""

    def test_exceptions(self):
        self.checkpoint()
        for raised in ("KeyError('x')", "MemoryError()", "RecursionError('deep')", "TypeError('x')",
                       "__import__('struct').error('x\\ny')", "OverflowError()", "IndexError()"):
            with self.subTest(raised):
                self.refuse(self.model, prelude="import os\ndef fails(*args):\n    raise %s\n"
                            "os.replace = fails\n" % raised)

    def test_memory(self):
        """A row of a file that is mostly a hole."""
        header = {"x": {"dtype": "F32", "shape": [1 << 32], "data_offsets": [0, 1 << 34]}}
        self.checkpoint()
        raw = json.dumps(header).encode()
        path = self.write("model.safetensors", struct.pack("<Q", len(raw)) + raw)
        os.truncate(path, 8 + len(raw) + (1 << 34))
        self.refuse("tiny")


if __name__ == "__main__":
    if os.access("/dev/shm", os.W_OK):               # many small files: in memory, if any
        tempfile.tempdir = "/dev/shm"
    sys.exit(report.main())
