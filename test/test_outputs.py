#!/usr/bin/env python3
"""More tests of the program `lape`: where results go, and models and texts that go wrong quietly.

    LAPE=./lape python3 test/test_outputs.py [NAME...]

Standard library only. The last line on stdout is `N passed, N failed`; what is skipped is listed
before it and counted in neither.
"""

import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import threading

import report
import tiny
from paths import DEMO, LAPE
from test_cli import SHARED, Case, counts, integers, neurons, npy, read, run, text_path

NAN = struct.pack("<f", float("nan"))
BIAS = "blk.%d.attn_%s.bias"


def patient(*arguments, cwd, seconds=60):
    """A run that must not wait: for what is never written it would wait forever."""
    return subprocess.run([LAPE, *arguments], cwd=cwd, stdin=subprocess.DEVNULL, timeout=seconds,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


# ---- Where results go -------------------------------------------------------------------------

class Places(Case):
    find = ["find", "-q", "--top", ".05"]

    def listed(self, *more):
        """What `find` prints where it has no -o."""
        return self.works(*self.find, counts(), *more)

    def test_link(self):
        """A link stays one; what it points to is replaced."""
        os.mkdir(self.path("folder"))
        target = self.path("target", b"older")
        for link, to in ("link", "target"), ("folder/up", "../target"), ("second", "link"):
            os.symlink(to, self.path(link))
            self.path("target", b"older")
            self.works(*self.find, counts(), "-o", link)
            self.assertEqual(os.readlink(self.path(link)), to)
            self.assertFalse(os.path.islink(target))
            self.assertEqual(read(target), self.listed())
        self.assertEqual(sorted(os.listdir(self.path("folder"))), ["up"])

    def test_link_to_nothing(self):
        os.symlink("nowhere", self.path("link"))
        message = self.refused_by_link("link")
        self.assertRegex(message, r"\Alape: link: cannot write: [^\n]+\n\Z")
        self.assertEqual(os.readlink(self.path("link")), "nowhere")

    def refused_by_link(self, link):
        """files() follows links, which this one has no end for."""
        done = patient(*self.find, counts(), "-o", link, cwd=self.directory)
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertEqual(os.listdir(self.directory), [link])
        return done.stderr.decode()

    def test_pipe(self):
        """A named pipe is written to, and stays one."""
        pipe, got = self.path("pipe"), []
        os.mkfifo(pipe)
        reader = threading.Thread(target=lambda: got.append(read(pipe)), daemon=True)
        reader.start()
        done = patient(*self.find, counts(), "-o", pipe, cwd=self.directory)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertTrue(stat.S_ISFIFO(os.lstat(pipe).st_mode))
        reader.join(20)
        self.assertEqual(got, [self.listed()])
        self.assertEqual(os.listdir(self.directory), ["pipe"])

    def test_pipe_and_signal(self):
        """What ends by a signal takes away what it began, but not a pipe."""
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        running = subprocess.Popen([LAPE, "generate", DEMO, "-p", "The", "-n", "100000", "-o", pipe],
                                   stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        with open(pipe, "rb"):               # which waits until it is opened to write
            running.terminate()
            self.assertEqual(running.communicate(timeout=60)[1], b"")
        self.assertEqual(running.returncode, -signal.SIGTERM)
        self.assertEqual(os.listdir(self.directory), ["pipe"])
        self.assertTrue(stat.S_ISFIFO(os.stat(pipe).st_mode))

    def test_device(self):
        """A device stays one: as root, a file could take its place."""
        null = self.path("null")
        try:
            os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            open(null, "wb").close()
        except OSError as error:
            self.skipTest("no device can be made here, which root can: %s" % error)
        before = os.lstat(null)
        for arguments in [*self.find, counts()], ["merge", counts()], [
                "bake", DEMO, "--neurons", neurons(), "--off", "en"]:
            self.assertEqual(self.works(*arguments, "-o", null), b"")
            after = os.lstat(null)
            self.assertEqual((after.st_mode, after.st_rdev, after.st_ino),
                             (before.st_mode, before.st_rdev, before.st_ino))
        self.assertEqual(os.listdir(self.directory), ["null"])

    def test_two_at_once(self):
        """What two runs write to one place is all of one or all of the other; a file that is
        called like a temporary one is somebody's."""
        whole = [["--top", "1", "--filter", "0"], ["--top", ".9", "--filter", "0"]]
        expected = [self.listed(*more) for more in whole]
        self.assertNotEqual(*expected)
        own = {name: self.path(name, b"mine") for name in ("out.tmp", "out.partial.tmp")}
        for _ in range(30):
            runs = [subprocess.Popen([LAPE, *self.find, counts(), *more, "-o", self.path("out")],
                                     stderr=subprocess.PIPE) for more in whole]
            for one in runs:
                self.assertEqual((one.communicate(timeout=60)[1], one.returncode), (b"", 0))
            self.assertIn(read(self.path("out")), expected)
            self.assertEqual(sorted(os.listdir(self.directory)), sorted(["out", *own]))
            os.remove(self.path("out"))
        self.assertEqual({read(path) for path in own.values()}, {b"mine"})

    def test_out_of_memory(self):
        """A run that has not memory enough says so in a line, and leaves nothing."""
        told = 0
        for megabytes in range(4, 40):
            def limit(most=megabytes << 20):
                resource.setrlimit(resource.RLIMIT_AS, (most, most))
            done = subprocess.run([LAPE, "ppl", DEMO, "en=" + text_path("en"), "-q", "-t", "1",
                                   "-o", "out"], cwd=self.directory, preexec_fn=limit,
                                  stdin=subprocess.DEVNULL, capture_output=True)
            if done.returncode == 0:
                break
            if b"Sanitizer" in done.stderr:
                self.skipTest("a sanitizer wants all of the address space")
            self.assertEqual(os.listdir(self.directory), [], megabytes)
            told += done.stderr.startswith(b"lape: out of memory")
        self.assertEqual(done.returncode, 0)
        self.assertGreater(told, 0)

    def test_no_such_folder(self):
        """It is told before anything is read: a pipe that nobody writes to is never opened."""
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        text, few = "en=" + pipe, ["--seq", "8", "--tokens", "8"]
        for arguments in [
                ["count", DEMO, text, *few], ["count", pipe, text, *few], ["ppl", pipe, text, *few],
                ["ppl", DEMO, "en=" + text_path("en"), "--neurons", pipe, *few],
                ["trace", DEMO, pipe, "--at", "embd"], ["trace", pipe, pipe, "--at", "logits"],
                ["find", pipe], ["find", counts(), "--method", "random", "--like", pipe],
                ["merge", pipe], ["merge", counts(), pipe],
                ["bake", pipe, "--neurons", pipe, "--off", "en"],
                ["bake", DEMO, "--neurons", pipe, "--off", "en"], ["generate", DEMO, "-f", pipe]]:
            with self.subTest(arguments[0]):
                done = patient(*arguments, "-o", "no/out", cwd=self.directory, seconds=9)
                self.assertEqual((done.returncode, done.stdout), (1, b""))
                self.assertRegex(done.stderr, rb"\Alape: no/out: cannot write: [^\n]+\n\Z")
                self.assertEqual(os.listdir(self.directory), ["pipe"])


# ---- Models -----------------------------------------------------------------------------------

class Models(Case):
    def model(self, file, name="model"):
        return self.path(name, tiny.to_bytes(file))

    def ids(self, numbers=tuple(range(14)) * 3):
        return self.path("ids.bin", integers(list(numbers), "<u2"))

    def perplexity(self, file):
        table = self.works("ppl", self.model(file), "xx=" + self.ids(), "--seq", "7", "-q")
        return table.decode().split()[-1]

    def logits(self, file):
        self.works("trace", self.model(file), self.ids(), "--at", "logits", "-o", self.path("out"))
        return read(self.path("out"))

    def test_context_of_one(self):
        """A piece of one token has no place for another behind its begin-of-sequence token."""
        file = tiny.with_tokenizer(tiny.sentencepiece())
        file["values"]["llama.context_length"] = tiny.U32, 1
        model = self.model(file)
        self.refused(1, "two tokens", "trace", model, self.ids(), "--at", "embd", "--bos", "-o",
                     self.path("out"))

    def test_logits_that_are_no_numbers(self):
        """One row of the output, be it of a token that the text has not."""
        for family, vocab, row in ("llama", 14, 13), ("llama", 5000, 4990), ("gpt2", 5000, 4096):
            file = tiny.model(family, vocab)
            raw = bytearray(file["tensors"]["token_embd.weight"]["raw"])
            raw[128 * row:128 * (row + 1)] = NAN * tiny.WIDTH
            file["tensors"]["output.weight"] = {"dims": [vocab, tiny.WIDTH], "type": tiny.F32,
                                                "raw": bytes(raw)}
            ids, model = self.ids(range(13)), self.model(file)
            message = self.refused(1, ids, "ppl", model, "xx=" + ids, "--seq", "6", "-q")
            self.assertIn("not numbers", message)

    def biases(self, fused, without=""):
        """A model with a bias of q, k and v, in one tensor or in three; of some it is 0."""
        file = tiny.model("qwen2")
        for layer in range(tiny.LAYERS):
            parts = {letter: tiny.floats(tiny.random.Random(letter + str(layer)), tiny.WIDTH)
                     for letter in "qkv"}
            parts.update({letter: bytes(4 * tiny.WIDTH) for letter in without})
            raw = {"qkv": b"".join(parts.values())} if fused else parts
            for name, numbers in raw.items():
                file["tensors"][BIAS % (layer, name)] = {
                    "dims": [len(numbers) // 4], "type": tiny.F32, "raw": numbers}
        return file

    def test_bias_in_one_tensor(self):
        """As in three, and none of the three is lost."""
        plain = tiny.model("qwen2")
        seen = {self.logits(plain)}
        for without in "", "q", "k", "v", "qk":
            one, three = self.biases(True, without), self.biases(False, without)
            self.assertEqual(self.logits(one), self.logits(three))
            self.assertEqual(self.perplexity(one), self.perplexity(three))
            seen.add(self.logits(one))
        self.assertEqual(len(seen), 6)
        self.assertEqual(self.logits(self.biases(True, "qkv")), self.logits(plain))

    def test_bias_twice(self):
        for letter in "qkv":
            file = self.biases(True)
            name = BIAS % (1, letter)
            file["tensors"][name] = self.biases(False)["tensors"][name]
            model = self.model(file)
            for arguments in ["info", model], ["ppl", model, "xx=" + self.ids(), "-q"]:
                self.assertIn(name, self.refused(1, model, *arguments))

    def test_bias_of_a_norm(self):
        """RMSNorm adds none: to pass over it would be another model."""
        for family in set(tiny.FAMILIES) - set(tiny.LAYER_NORM):
            for name in "output_norm.bias", "blk.1.attn_norm.bias":
                file = tiny.model(family)
                file["tensors"][name] = {"dims": [tiny.WIDTH], "type": tiny.F32, "raw": bytes(128)}
                model = self.model(file)
                for arguments in ["info", model], ["generate", model, "-p", "x"], [
                        "count", model, "xx=" + self.ids(), "-o", self.path("out")]:
                    self.assertIn(name, self.refused(1, model, *arguments))

    def test_tensor_of_another_shape(self):
        """Of every tensor of every family, matrix or vector; and one that is not there."""
        for family in tiny.FAMILIES:
            file = tiny.model(family)
            for name in [name for name in file["tensors"] if not name.startswith("blk.0.")]:
                changed = dict(file, tensors=dict(file["tensors"]))
                old = changed["tensors"].pop(name)
                if name != "token_embd_norm.weight":
                    self.assertIn(name, self.refused(1, "", "info", self.model(changed)))
                changed["tensors"][name] = dict(old, dims=[2] + old["dims"], raw=old["raw"] * 2)
                self.assertIn(name, self.refused(1, "", "info", self.model(changed)))

    def test_bias_of_another_length(self):
        """Where the family may have one."""
        for family in tiny.FAMILIES:
            file = tiny.model(family)
            for name in ["output.weight"] + [name for name in file["tensors"]
                                             if not name.startswith("blk.0.")]:
                bias = name.replace(".weight", ".bias")
                changed = dict(file, tensors=dict(file["tensors"]))
                changed["tensors"][bias] = {"dims": [3], "type": tiny.F32, "raw": bytes(12)}
                self.assertIn(bias, self.refused(1, "", "info", self.model(changed)))

    def test_large_vocabulary(self):
        """2^24 tokens are enough for any; the file has no more on the disk than its head."""
        file = tiny.model()
        last = file["tensors"].pop("token_embd.weight")
        file["tensors"]["token_embd.weight"] = dict(last, dims=[2 ** 24 + 1, tiny.WIDTH], raw=b"")
        model = self.model(file)
        with open(model, "ab") as f:
            f.truncate(os.path.getsize(model) + (2 ** 24 + 1) * tiny.WIDTH * 4)
        self.assertIn("2^24", self.refused(1, model, "info", model))

    def test_rotary_factors(self):
        """Angles that are no numbers, or beyond what sine and cosine are made for, are none."""
        file = tiny.with_tokenizer(tiny.sentencepiece())
        plain = self.logits(file)
        half = tiny.WIDTH // tiny.HEADS // 2
        for factor, good in (1, True), (8, True), (0, False), (-1, False), (1e-12, False), (
                float("nan"), False):
            file["tensors"]["rope_freqs.weight"] = {
                "dims": [half], "type": tiny.F32, "raw": struct.pack("<f", factor) * half}
            if good:
                self.assertEqual(self.logits(file) == plain, factor == 1)
                continue
            message = self.refused(1, "rotary angles", "trace", self.model(file), self.ids(), "--at",
                                   "logits", "-o", self.path("none"))
            self.assertIn("rope_freqs.weight", message)
        del file["tensors"]["rope_freqs.weight"]
        file["values"].update({"llama.rope.scaling.type": (tiny.STRING, "linear"),
                               "llama.rope.scaling.factor": (tiny.FLOAT, .001)})
        few = ["generate", self.model(file), "-p", "ab", "-t", "1", "-o", self.path("none"), "-n"]
        message = self.refused(1, "rotary angles of 11000", *few, "1100000")  # 2^30 / 1000 are good
        self.works(*few, "9")
        self.assertNotIn("rope_freqs", message)

    def test_wide_layers(self):
        """Gemma 2's model of 46 layers, and Gemma 3's of 62, scale as if the heads shared the
        width: that is what attention.scale says in words."""
        for family, layers in ("gemma2", 46), ("gemma3", 62):
            made = {}
            for count in layers, layers - 1:
                file = tiny.model(family)
                file["values"][family + ".block_count"] = tiny.U32, count
                file["values"][family + ".attention.key_length"] = tiny.U32, 8
                for name in list(file["tensors"]):
                    for letter, dims in ("q", [16, 32]), ("k", [16, 32]), ("v", [16, 32]), (
                            "output", [32, 16]):
                        if name.endswith("attn_%s.weight" % letter):
                            file["tensors"][name] = tiny.tensor(tiny.random.Random(name), *dims)
                    if "_q_norm" in name or "_k_norm" in name:
                        file["tensors"][name] = tiny.tensor(tiny.random.Random(name), 8, middle=1.0)
                for name in [name for name in file["tensors"] if name.startswith("blk.1.")]:
                    for layer in range(2, count):
                        file["tensors"][name.replace("blk.1.", "blk.%d." % layer)] = (
                            file["tensors"][name])
                made[count] = [self.logits(file)]
                for width in 8, tiny.WIDTH / tiny.HEADS:
                    file["values"][family + ".attention.scale"] = tiny.FLOAT, width ** -.5
                    made[count].append(self.logits(file))
            self.assertEqual(made[layers][0], made[layers][2])
            self.assertEqual(made[layers - 1][0], made[layers - 1][1])
            self.assertNotEqual(made[layers][0], made[layers][1])
            file["values"][family + ".block_count"] = tiny.U32, layers
            file["values"][family + ".attention.head_count"] = tiny.U32, tiny.WIDTH + 1
            del file["values"][family + ".attention.scale"]
            self.refused(1, "%d heads cannot share a width of %d" % (tiny.WIDTH + 1, tiny.WIDTH),
                         "info", self.model(file))

    def test_one_tensor_for_all(self):
        """Of q, k and v: refused where it is of another shape."""
        file = tiny.model("qwen2")
        for letter in "qkv":
            del file["tensors"]["blk.1.attn_%s.weight" % letter]
        for rows, good in (3 * tiny.WIDTH, True), (3 * tiny.WIDTH - 1, False):
            file["tensors"]["blk.1.attn_qkv.weight"] = tiny.tensor(tiny.random.Random(1), rows,
                                                                   tiny.WIDTH)
            if good:
                self.works("info", self.model(file))
            else:
                self.refused(1, "blk.1.attn_qkv.weight", "info", self.model(file))

    def test_told(self):
        """What info says of a model, by what its file has."""
        for family in tiny.FAMILIES:
            for own, window in (False, 0), (True, 5):
                file = tiny.model(family)
                if own:
                    file["tensors"]["output.weight"] = file["tensors"]["token_embd.weight"]
                if window and family != "olmo2":
                    file["values"][family + ".attention.sliding_window"] = tiny.U32, window
                told = dict(line.split(": ", 1) for line in
                            self.works("info", self.model(file)).decode().splitlines())
                self.assertEqual(told["family"], family)
                self.assertEqual(told["output"], "its own" if own else "the embedding")
                self.assertEqual("rotary base" in told, family in tiny.ROTARY)
                if family not in ("gemma2", "gemma3", "olmo2"):
                    self.assertEqual(told["attention window"], "5" if window else "none")

    def test_added_tokens(self):
        key = "tokenizer.ggml.added_"
        file = tiny.with_tokenizer(tiny.sentencepiece())
        for ids, normal in ((tiny.U32, [3]), (tiny.BOOL, [False])), ((tiny.I32, [3]), None), (
                (tiny.I32, [3]), (tiny.U8, [0])), ((tiny.I32, [3]), (tiny.BOOL, [False] * 2)), (
                (tiny.I32, [3] * 99), (tiny.BOOL, [False] * 99)):
            values = {key + "tokens": ids, **({key + "normalized": normal} if normal else {})}
            model = self.model(dict(file, values={**file["values"], **values}))
            self.assertIn("added", self.refused(1, model, "tokenize", model))

    def test_settings_of_spaces(self):
        file = tiny.with_tokenizer(tiny.sentencepiece())
        for name in "add_space_prefix", "remove_extra_whitespaces":
            key = "tokenizer.ggml." + name
            model = self.model(dict(file, values={**file["values"], key: (tiny.FLOAT, 1.0)}))
            self.assertIn(key, self.refused(1, model, "tokenize", model))

    def test_no_vocabulary(self):
        """What llama.cpp's converter calls a tokenizer that is none."""
        for kind in "none", "no_vocab":
            file = tiny.model()
            file["values"]["tokenizer.ggml.model"] = tiny.STRING, kind
            model = self.model(file)
            self.assertIn(b"takes token ids only: it has no tokenizer", self.works("info", model))
            self.assertIn("no tokenizer", self.refused(1, model, "tokenize", model))

    def test_long_texts(self):
        """More than is read at once; each token of this one is 4096 characters long, and the first
        is the space in front."""
        values, word = tiny.sentencepiece(), "x" * 4096
        values["tokenizer.ggml.tokens"][1].append(word)
        values["tokenizer.ggml.scores"][1].append(0.0)
        values["tokenizer.ggml.token_type"][1].append(4)
        model = self.model(tiny.with_tokenizer(values))
        text = self.path("text", word * 700)
        for most, tokens in ("10000", 700), ("600", 600), ("300", 296):
            self.works("count", model, "xx=" + text, "--seq", "8", "--batch", "4", "-q", "--tokens",
                       most, "-o", self.path("out"))
            self.assertIn(b"\nxx\t%d\t%d\t" % (tokens // 8 * 8, tokens // 8),
                          self.works("info", self.path("out")))
        values["tokenizer.ggml.tokens"][1][-1] += "x"
        self.assertIn("a word of 4097 bytes, more than 4096", self.refused(
            1, "token %d" % (len(values["tokenizer.ggml.tokens"][1]) - 1), "tokenize",
            self.model(tiny.with_tokenizer(values), "too long")))
        few = ["--seq", "8", "--batch", "4"]
        done = run("ppl", model, "xx=-", *few, stdin=read(text), cwd=self.directory)
        self.assertEqual(done.stdout, self.works("ppl", model, "xx=" + text, *few, "-q"))
        ids = self.path("long.bin", struct.pack("<8H", *range(8)) * (1 << 17))
        few = self.path("few.bin", struct.pack("<8H", *range(8)) * 4)
        self.assertEqual(self.works("ppl", model, "xx=" + ids, "--seq", "8", "--tokens", "32", "-q"),
                         self.works("ppl", model, "xx=" + few, "--seq", "8", "-q"))

    def test_no_gate(self):
        """A family without one has nothing that goes up beside it, and no product of the two."""
        for family in tiny.FAMILIES:
            model = self.model(tiny.model(family))
            for at in "up", "product":
                arguments = ["trace", model, self.ids(), "--at", at, "-o", self.path("out")]
                if family in tiny.PLAIN:
                    self.assertIn("gate", self.refused(1, model, *arguments))
                else:
                    self.works(*arguments)
                    os.remove(self.path("out"))

    def test_no_number_stays_one(self):
        """OPT's max(0, x) of what is no number is no number, and does not become 0."""
        file = tiny.model("opt")
        raw = file["tensors"]["blk.1.ffn_up.weight"]["raw"]
        file["tensors"]["blk.1.ffn_up.weight"]["raw"] = raw[:4 * 5 * 32] + NAN * 32 + raw[4 * 6 * 32:]
        self.works("trace", self.model(file), self.ids(range(14)), "--at", "act", "--layer", "1",
                   "-o", self.path("out"))
        numbers = struct.unpack("<%df" % (14 * tiny.NEURONS), read(self.path("out"))[-14 * 128:])
        self.assertEqual({i % tiny.NEURONS for i, x in enumerate(numbers) if x != x}, {5})
        self.assertTrue(all(x >= 0 for x in numbers if x == x) and 0 in numbers)

    def test_perplexity_beyond_all_numbers(self):
        file = tiny.model()
        rows = [tiny.floats(tiny.random.Random(i), tiny.WIDTH, 1e5) for i in range(14)]
        file["tensors"]["output.weight"] = {"dims": [14, tiny.WIDTH], "type": tiny.F32,
                                            "raw": b"".join(rows)}
        ids = self.ids()
        self.assertIn("perplexity of e^", self.refused(1, ids, "ppl", self.model(file), "xx=" + ids,
                                                       "--seq", "7", "-q"))

    def test_list_without_a_model(self):
        """It serves, as far as its shape fits."""
        file, members = self.model(tiny.model()), {"xx": {(0, 1), (1, 2)}}
        listed, nameless = self.path("list", neuron_list(members)), neuron_list(members)
        nameless = self.path("nameless", nameless.replace(b"# model: tiny\n", b""))
        few = ["ppl", file, "xx=" + self.ids(), "--seq", "7", "-q", "--neurons"]
        self.assertEqual(self.works(*few, listed), self.works(*few, nameless))

    def unsupported(self):
        """A model whose tokenizer is of another kind, and the same one without it."""
        values = tiny.sentencepiece()
        values["tokenizer.ggml.model"] = tiny.STRING, "bert"
        return (self.model(tiny.with_tokenizer(values), "bert"),
                self.model(tiny.model(), "none"))

    def test_unsupported_tokenizer(self):
        """It serves where no text is, like one that has none."""
        bert, none = self.unsupported()
        numbers = list(range(14)) * 3
        forms = [self.ids(), self.path("ids.npy", npy(integers(numbers, "<i8"), "<i8"))]
        members = {"xx": {(0, 1), (1, 2)}}
        listed = self.path("list", neuron_list(members))
        for path in forms:
            made = set()
            for model in bert, none:
                few = ["xx=" + path, "--seq", "7", "--tokens", "30", "-q"]
                table = self.works("ppl", model, *few, "--neurons", listed)
                self.works("count", model, *few, "-o", self.path("counts"))
                self.works("trace", model, path, "--at", "resid", "-o", self.path("out"))
                made.add((table, tiny.without_digest(read(self.path("counts"))),
                          read(self.path("out"))))
            self.assertEqual(len(made), 1)
        self.assertIn("tokenizer 'bert'", self.works("info", bert).decode())
        self.works("bake", bert, "--neurons", listed, "--off", "xx", "-o", self.path("baked"))
        baked = read(self.path("baked"))
        self.assertEqual(len(baked), os.path.getsize(bert))
        self.assertNotEqual(baked, read(bert))

    def test_unsupported_tokenizer_and_text(self):
        bert, text = self.unsupported()[0], self.path("text", b"Words." * 99)
        for path, arguments in [
                (text, ["count", bert, "xx=" + text, "-o", self.path("out"), "-q"]),
                (text, ["ppl", bert, "xx=" + text, "--tokens", "30", "-q"]),
                (text, ["trace", bert, text, "--at", "embd", "-o", self.path("out")]),
                (bert, ["tokenize", bert]), (bert, ["tokenize", bert, "--decode"]),
                (bert, ["generate", bert, "-p", "x"]), (bert, ["generate", bert, "-f", text])]:
            self.assertIn("tokenizer 'bert'", self.refused(1, path, *arguments, stdin=b"3"))


def neuron_list(members):
    """A list of neurons of the tiny model."""
    lines = ["# model: tiny", "# layers: %d" % tiny.LAYERS, "# neurons: %d" % tiny.NEURONS,
             "# languages: " + " ".join(members), "layer\tneuron\tlape\tlanguages"]
    for label, places in members.items():
        lines += ["%d\t%d\t0\t%s" % (*place, label) for place in sorted(places)]
    return ("\n".join(lines) + "\n").encode()


class Positions(Case):
    """A model that has learned its positions ends behind the last one."""

    def setUp(self):
        super().setUp()
        values = tiny.byte_level()
        del values["tokenizer.ggml.eos_token_id"]
        self.model = self.path("model", tiny.to_bytes(tiny.with_tokenizer(values, "gpt2")))

    def rows(self, table):
        rows = [line.split("\t") for line in table.decode().split("\n")]
        self.assertEqual((rows[0], rows.pop()), (["prompt", "output", "tokens"], [""]))
        return rows[1:]

    def test_table(self):
        """Every prompt has its row, those that are too long an empty one, and its note."""
        context = tiny.CONTEXT
        lengths = [1, 5, context - 1, context, context + 1, 3 * context, 2]
        prompts = self.path("prompts", b"".join(b"z" * n + b"\n" for n in lengths))
        arguments = ["generate", self.model, "-f", prompts, "-n", str(2 * context)]
        done = run(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        made = [max(0, context + 1 - n) for n in lengths]
        for row, n, new in zip(self.rows(done.stdout), lengths, made):
            self.assertEqual((row[0], len(row[2].split())), ("z" * n, new))
            self.assertEqual(row[1] == "", new == 0)
        notes = done.stderr.decode().splitlines()
        self.assertEqual(sorted(notes), ["lape: line %d: stopped after %d tokens: the model has "
                                         "learned %d positions" % (line, new, context)
                                         for line, new in enumerate(made, 1)])
        self.assertEqual(self.works(*arguments, "-q"), done.stdout)
        self.works(*arguments, "-q", "-o", self.path("out"))
        self.assertEqual(read(self.path("out")), done.stdout)

    def test_up_to_the_last(self):
        """Nothing is cut, and nothing said, where what was asked for has a place."""
        done = run("generate", self.model, "-p", "zz", "-n", str(tiny.CONTEXT - 1))
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        longer = run("generate", self.model, "-p", "zz", "-n", "999")
        self.assertEqual((longer.returncode, longer.stdout), (0, done.stdout))
        self.assertIn(b"stopped after %d tokens" % (tiny.CONTEXT - 1), longer.stderr)

    def test_texts_that_are_longer(self):
        ids = self.path("ids.bin", integers([3] * 60, "<u2"))
        self.refused(1, "%d positions" % tiny.CONTEXT, "ppl", self.model, "xx=" + ids, "--seq",
                     str(tiny.CONTEXT + 1), "-q")
        self.works("ppl", self.model, "xx=" + ids, "--seq", str(tiny.CONTEXT), "-q")


# ---- Words and files that are no good ---------------------------------------------------------

class Together(Case):
    """Prompts that go on together give what each gives alone."""

    WAYS = [[], ["--repeat-penalty", "1.3"], ["--temp", "0.9", "--seed", "7"],
            ["--neurons", "NEURONS", "--counts", "COUNTS", "--off", "en", "--on", "fr", "--how",
             "diffmean", "--strength", "3", "--temp", "1", "--top-p", "0.8"]]

    def rows(self, prompts, *more):
        path = self.path("prompts", b"\n".join(prompts) + b"\n")
        more = [{"NEURONS": neurons(), "COUNTS": counts()}.get(word, word) for word in more]
        return self.works("generate", DEMO, "-f", path, *more, "-q").split(b"\n")[1:-1]

    def test_ways(self):
        prompts = [b"The", b"The weather in the mountains is", b"Le matin", b"A", b"The", b"\xe6\x97"
                   b"\xa9\xe4\xb8\x8a"]
        for way in self.WAYS:
            with self.subTest(way=way):
                made = self.rows(prompts, "-n", "12", *way)
                self.assertEqual(made, [self.rows([prompt], "-n", "12", *way)[0]
                                        for prompt in prompts])
                self.assertEqual(made[0], made[4])
                self.assertEqual(len(set(made)), 5)

    def test_many(self):
        """More than go on at once, and longer ones: 70 short prompts, and some of 900 tokens."""
        short = [b"The %s" % word for word in (b"a", b"b", b"c", b"d", b"e", b"f", b"g")]
        long = [b"The weather. " * n for n in (10, 300, 250, 280, 1, 300, 290)]
        alone = {prompt: self.rows([prompt], "-n", "5")[0] for prompt in short + long}
        self.assertEqual(len(set(alone.values())), len(alone))
        for prompts in (short * 10, long + short, short + long[::-1]):
            self.assertEqual(self.rows(prompts, "-n", "5"), [alone[prompt] for prompt in prompts])


class Refused(Case):
    def test_labels(self):
        """Those that tables have for no language; what begins with - is taken for an option."""
        file = text_path("en")
        for label, culprit in ("none", "not none or -"), ("-", "no option '-="):
            self.refused(2, culprit, "count", DEMO, label + "=" + file, "-o", self.path("out"))
            self.refused(2, culprit, "ppl", DEMO, "en=" + file, label + "=" + file)
            for command in ["find", counts()], ["diff", counts(), counts()]:
                self.refused(1, "no language '%s'" % label, *command, "--langs", label)

    def test_labels_in_files(self):
        for label in "none", "-":
            bad = self.path("list", neuron_list({"xx": {(0, 1)}}).replace(b"xx", label.encode()))
            self.refused(1, "'%s'" % label, "info", bad)

    def test_one_language(self):
        """Its entropy says nothing: every neuron has 0."""
        text, one = text_path("en"), self.path("one")
        self.works("count", DEMO, "en=" + text, "--seq", "32", "--tokens", "64", "-q", "-o", one)
        for more in [], ["--method", "lave"], ["--penalty", "1"]:
            self.refused(1, one + ": one language", "find", one, *more, "-o", self.path("out"))
        for method in "lap", "random":
            self.works("find", one, "--method", method, "-q")

    def tried(self, culprit, name, data):
        """A text or ids that `count`, `ppl` and `trace` refuse in the same words."""
        path, out = self.path(name, data), ["-q", "-o", self.path("out")]
        for arguments in ["count", DEMO, "xx=" + path], ["ppl", DEMO, "xx=" + path], [
                "trace", DEMO, path, "--at", "embd"]:
            self.assertIn(culprit, self.refused(1, path, *arguments, *out))

    def made_counts(self, change=None, name="made", tokens=4, positive=(0, 1, 2, 3, 4, 0)):
        """A file of counts of two languages, after change(values, tensors)."""
        key = "lape-counts."
        values = {"general.architecture": (tiny.STRING, "lape-counts"),
                  "general.name": (tiny.STRING, "tiny"), key + "layers": (tiny.U64, 2),
                  key + "neurons": (tiny.U64, 3), key + "languages": (tiny.STRING, ["aa", "bb"]),
                  key + "tokens": (tiny.U64, [tokens, tokens])}
        tensors = {label + ".positive": {"dims": [2, 3], "type": tiny.INT64,
                                         "raw": struct.pack("<6q", *positive)}
                   for label in ("aa", "bb")}
        if change:
            change(values, tensors)
        return self.path(name, tiny.to_bytes({"magic": b"GGUF", "version": 3, "values": values,
                                              "tensors": tensors}))

    def test_values_of_counts(self):
        rows = b"\naa\t4\t0\t10\nbb\t4\t0\t10\n"
        told = self.works("info", self.made_counts())
        self.assertIn(rows, told)
        self.assertIn(b"\nvocabulary: 0\npiece: 0 tokens\nnear: 0\n", told)   # it has none
        u64, f64 = tiny.U64, tiny.DOUBLE
        for key, value, culprit in (
                ("languages", (tiny.STRING, []), "empty or differ"),
                ("tokens", (u64, [4]), "differ in length"),
                ("pieces", (u64, [4, 4, 4]), "differ in length"), ("pieces", (tiny.U32, [1, 1]), ""),
                ("vocabulary", (u64, 1 << 40), ""), ("piece_length", (u64, 1 << 40), ""),
                ("bos", (u64, 2), ""), ("lines", (u64, 2), ""), ("of", (u64, 2), ""),
                ("of", (f64, 1.0), ""), ("near", (f64, -1.0), ""), ("near", (f64, 1e7), ""),
                ("model_digest", (tiny.U32, 7), ""), ("parts", (tiny.U32, [0, 5, 0, 1]), ""),
                ("parts", (u64, [0, 5, 0]), "four numbers"),
                ("parts", (u64, [0, 5, 1, 3, 0, 5, 1, 3]),
                 "language aa: shard 2 of 3 of its text is counted already"),
                ("unheard_of", (u64, 1), "")):
            path = self.made_counts(lambda values, _: values.update({"lape-counts." + key: value}))
            self.refused(1, culprit or "lape-counts." + key, "info", path)

        def none_named(values, tensors):
            values.update({"lape-counts.languages": (tiny.STRING, []),
                           "lape-counts.tokens": (tiny.U64, [])})
            tensors.clear()
        self.refused(1, "empty", "info", self.made_counts(none_named))
        nameless = self.made_counts(lambda values, _: values.pop("general.architecture"))
        for command in "find", "info", "diff":
            self.refused(1, "general.architecture", command, nameless, *[nameless] *
                         (command == "diff"))

    def test_as_many_as_there_may_be(self):
        """Of many parts each is held against few others: seconds would else be hours. A text is cut
        in 64 ways at most, and there are 4096 languages at most, in sums too."""
        def parts(rows):
            flat = [number for row in rows for number in row]
            return self.made_counts(lambda values, _: values.update({
                "lape-counts.parts": (tiny.U64, flat)}))

        def languages(labels, name):
            return self.made_counts(lambda values, tensors: (
                tensors.update({label + ".positive": tensors["aa.positive"] for label in labels}),
                tensors.pop("aa.positive"), tensors.pop("bb.positive"), values.update({
                    "lape-counts.languages": (tiny.STRING, labels),
                    "lape-counts.tokens": (tiny.U64, [4] * len(labels))})), name)

        many = 300000
        path, seconds = parts([0, 5, i, many] for i in range(1, many)), 20
        limit = lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        self.works("info", path, preexec_fn=limit)
        cuts = [[0, 5, i, 64 * (i + 1)] for i in range(65)]
        self.works("info", parts(cuts[:64]))
        self.refused(1, "cut in more than 64 ways", "info", parts(cuts))
        self.refused(1, "bb: a shard of 12 of its text has a piece that is counted already, in one "
                     "of 8", "info", parts([[1, 5, 0, 8], [1, 5, 4, 12]]))

        most = ["l%05d" % i for i in range(4096)]
        self.works("info", languages(most, "most"))
        self.refused(1, "4097 languages are more than 4096", "info", languages(most + ["z"], "many"))
        self.refused(1, "language z is one more than 4096", "merge", "most", languages(["z"], "one"),
                     "-o", self.path("out"))

    def test_tensors_of_counts(self):
        def change(**changed):
            return lambda _, tensors: tensors["aa.positive"].update(changed)
        same = self.made_counts(change(dims=[1, 1, 2, 3]), "same")
        self.assertEqual(self.works("info", same), self.works("info", self.made_counts()))
        six = struct.pack("<6d", 0, 1, 2, 3, 4, 0)
        for changed in (dict(type=28, raw=six), dict(dims=[2, 2, 3], raw=bytes(96)),
                        dict(dims=[2, 1, 2, 3], raw=bytes(96)), dict(dims=[3, 2]), dict(dims=[6]),
                        dict(dims=[4, 3], raw=bytes(96)), dict(type=tiny.F32, raw=bytes(24))):
            self.refused(1, "aa.positive", "info", self.made_counts(change(**changed)))

    def test_sums_beyond_64_bits(self):
        most = self.made_counts(tokens=2 ** 63 - 1)
        more = self.made_counts(name="more", tokens=1, positive=(1, 0, 1, 1, 1, 1))
        self.refused(1, "beyond 64 bits", "merge", most, more, "-o", self.path("out"))
        self.refused(1, "beyond 64 bits", "merge", more, most, "-o", self.path("out"))
        def with_sums(first):
            def change(values, tensors):
                for label in "aa", "bb":
                    tensors[label + ".sum"] = dict(tensors[label + ".positive"], raw=struct.pack(
                        "<6q", first, 0, 0, 0, 0, 0))
            return change
        least, one = (self.made_counts(with_sums(first), str(first)) for first in (-2 ** 63, 1))
        self.refused(1, "beyond 64 bits", "merge", one, "--minus", least, "-o", self.path("out"))

    def test_other_counts(self):
        """Of another model, of as many layers, neurons or tokens, but not of all three."""
        def changed(**more):
            def change(values, tensors):
                values.update({"lape-counts." + key: (tiny.U64, value)
                               for key, value in more.items()})
                for tensor in tensors.values():
                    tensor["dims"] = [values["lape-counts." + key][1] for key in ("layers", "neurons")]
            return change
        made, rest = self.made_counts(), dict(positive=(1, 0, 1, 1, 1, 1))
        for more, culprit in (dict(vocabulary=9), "vocabulary 9"), (dict(layers=3, neurons=2),
                                                                    "3 x 2, "), (
                dict(layers=1, neurons=6), "1 x 6, "):
            other = self.made_counts(changed(**more), "other", **rest)
            self.refused(1, culprit, "merge", made, other, "-o", self.path("out"))
        shape = self.made_counts(lambda values, tensors: (values.update(
            {"lape-counts.neurons": (tiny.U64, 2)}), [t.update(dims=[2, 2], raw=t["raw"][:32])
                                                      for t in tensors.values()]), "shape", **rest)
        self.refused(1, "2 x 2, ", "merge", made, shape, "-o", self.path("out"))

    def test_sum_of_imported_counts(self):
        """They have no statistic but one; of which model they are, not all have to say."""
        def digest(values, _):
            values["lape-counts.model_digest"] = tiny.U64, 7
        def other_name(values, tensors):
            values["lape-counts.languages"] = tiny.STRING, ["aa", "cc"]
            tensors["cc.positive"] = tensors.pop("bb.positive")
        one = self.made_counts(digest, "one")
        two = self.made_counts(other_name, "two", positive=(1, 0, 1, 1, 1, 1))
        for pair in (one, two), (two, one):
            self.works("merge", *pair, "-o", self.path("sum"))
            told = self.works("info", self.path("sum")).decode()
            self.assertIn("digest: none", told)
            self.assertIn("\naa\t8\t0\t15\nbb\t4\t0\t10\ncc\t4\t0\t5\n", told)
        self.assertIn(b"digest: 0000000000000007\n", self.works("info", one))

    def test_array_of_nothing(self):
        for descr in "<i4", "<u2", "|u1":
            self.tried("holds no numbers", "none.npy", npy(b"", descr, "(0,)"))

    def test_archive_as_text(self):
        archive = b"PK\3\4\0\0\x08\x08" + b"archive/data.pkl" + bytes(64)
        for name in "ids.pt", "ids.txt", "ids":
            self.tried("tools/convert.py ids FILE -o ids.npy", name, archive)
        text = self.path("text", read(text_path("en")).replace(b"e", b"PK\3\4", 1)[1:])
        self.works("ppl", DEMO, "xx=" + text, "--seq", "32", "--tokens", "32", "-q")

    def test_big_endian(self):
        head = b"GGUF" + struct.pack(">IQQ", 3, 1, 1)
        for version in 2, 3:
            bad = self.path("big.gguf", head[:4] + struct.pack(">I", version) + read(DEMO)[8:])
            for arguments in ["info", bad], ["tokenize", bad], ["find", bad], ["merge", bad, "-o",
                                                                               self.path("out")]:
                self.assertIn("big-endian", self.refused(1, bad, *arguments))
        self.assertIn("big-endian", self.refused(1, "big", "info", self.path("big", head)))


if __name__ == "__main__":
    with SHARED:
        sys.exit(report.main())
