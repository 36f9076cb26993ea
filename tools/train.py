#!/usr/bin/env python3
"""Trains a small multilingual LLaMA, its tokenizer too, on a folder of texts.

    train.py TEXTS -o MODEL [--minutes M | --steps N] [options]
    train.py TEXTS -o MODEL --resume [options that may change]

TEXTS holds LANG.train.txt and LANG.valid.txt of every language: UTF-8, any size; newlines are part
of the text. MODEL becomes a Hugging Face folder, for `tools/convert.py hf MODEL -o model.gguf`:
model.safetensors, config.json, tokenizer.model, tokenizer_config.json. Beside them are train.json
(all options, sizes and hash of the texts, steps, time, validation perplexities), checkpoint.pt (for
--resume), and ids/LANG.train.bin and ids/LANG.valid.bin (token ids, which lape reads as well).

    pip install torch transformers sentencepiece numpy safetensors

On one machine the same texts, options, number of threads and versions give the same weights, if
--steps ends the run; --minutes ends it, and lowers the learning rate, by the clock. Ctrl-C saves,
and --resume goes on. The defaults are those of the demo's model, which was made on one
thread: demo/MODEL.md has that run, demo/sweep.tsv others.
"""

import hashlib
import io
import json
import math
import os
import pickle
import signal
import sys
import time

from guard import LABELS_ARE, Refused, is_label, new_file, no_warnings
from train_options import options_parser

# What --resume may change: how long, how often, where. All else would make it another run.
CHANGEABLE = {"texts", "output", "resume", "steps", "minutes", "save_every", "evals", "log_every",
              "device", "threads", "weights"}
PARTS = ("train", "valid")
DEFAULT_STEPS = 3000         # where neither steps nor minutes are given
BLOCK = 1 << 20              # bytes of text that are encoded at a time
EVAL_TOKENS = 4096           # at once; and of every language, in validations on the way


def import_libraries():
    """Late, so that --help needs none of them."""
    global np, safetensors, sentencepiece, torch, transformers
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")   # cuBLAS is deterministic with it
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")       # threads wait asleep: cores may be shared
    try:
        import numpy as np
        import safetensors.torch
        import sentencepiece
        import torch
        import transformers
    except ImportError as problem:
        raise Refused("%s; see --help for what it needs" % problem)


# ---- Options -------------------------------------------------------------------------------------

def parse_options(words):
    """The options, completed by those of the run that is resumed; and its checkpoint, or None."""
    parser = options_parser(__doc__)
    args, checkpoint = parser.parse_args(words), None
    import_libraries()
    path, record = (os.path.join(args.output, name) for name in ("checkpoint.pt", "train.json"))
    if args.resume:
        if not os.path.exists(path):
            raise Refused("%s is not there: there is nothing to resume" % path)
        checkpoint = read_checkpoint(path)
        parser.set_defaults(**checkpoint["options"])
        args = parser.parse_args(words)
        for key, saved in checkpoint["options"].items():
            if key not in CHANGEABLE and getattr(args, key) != saved:
                raise Refused("--%s was %s and cannot change now" % (key.replace("_", "-"), saved))
    elif os.path.exists(path) or os.path.exists(record):
        raise Refused("%s holds a run already, with which --resume goes on" % args.output)
    check_options(args)
    args.steps = args.steps or (0 if args.minutes else DEFAULT_STEPS)
    return args, checkpoint


def read_checkpoint(path):
    """What save_checkpoint wrote."""
    try:
        with no_warnings(path):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, KeyError, RuntimeError, ValueError, pickle.UnpicklingError):
        raise Refused("%s is damaged: there is nothing to resume" % path)


def check_options(args):
    """Refuses what no model can be made of."""
    whole = ("vocab", "layers", "width", "heads", "kv_heads", "ffn", "tokenizer_bytes")
    parts = ("warmup", "activity_warmup", "bos", "final_lr", "coverage")
    low = ("steps", "seed", "minutes", "evals", "threads", "activity", "lr", "clip", "weight_decay")
    for names, good, wanted in ((whole, lambda x: x > 0, "above 0"),
                                (parts, lambda x: 0 <= x <= 1, "a part, from 0 to 1"),
                                (low, lambda x: 0 <= x < math.inf, "0 or more")):
        for name in names:
            if not good(getattr(args, name)):
                raise Refused("--%s has to be %s" % (name.replace("_", "-"), wanted))
    if args.width % (2 * args.heads) or args.heads % args.kv_heads:
        raise Refused("--width has to be a multiple of twice --heads, and --heads of --kv-heads")
    if not 2 <= args.context <= args.batch:
        raise Refused("--context has to be from 2 to --batch")


# ---- Texts, tokenizer, ids -----------------------------------------------------------------------

def text_path(args, language, part):
    return os.path.join(args.texts, "%s.%s.txt" % (language, part))


def find_languages(args):
    """Those of --langs, or all that have a text to train on; in both cases with both texts."""
    found = sorted(name[:-10] for name in os.listdir(args.texts) if name.endswith(".train.txt"))
    languages = list(dict.fromkeys(args.langs.split(","))) if args.langs else found
    for language in languages:
        if not is_label(language):
            raise Refused("%r is no label of a language: it should be %s" % (language, LABELS_ARE))
    for path in (text_path(args, language, part) for language in languages for part in PARTS):
        if not os.path.isfile(path) or not os.path.getsize(path):
            raise Refused("%s is not there, or empty" % path)
    if not languages:
        raise Refused("%s has no LANG.train.txt" % args.texts)
    return languages


def hash_texts(args, languages):
    """SHA-256 over names, sizes and bytes: what a run was trained on."""
    total = hashlib.sha256()
    for language in languages:
        for part in PARTS:
            path = text_path(args, language, part)
            total.update(b"%s.%s %d\n" % (language.encode(), part.encode(), os.path.getsize(path)))
            with open(path, "rb") as file:
                for block in iter(lambda: file.read(BLOCK), b""):
                    total.update(block)
    return total.hexdigest()


def mixture(args, languages):
    """The part of the windows that is of each language."""
    weights = np.array([os.path.getsize(text_path(args, language, "train"))
                        for language in languages]) ** args.temper
    if args.mix:
        weights[:] = 1
    for word in filter(None, args.mix.split(",")):
        language, _, weight = word.partition("=")
        try:
            weights[languages.index(language)] = float(weight)
        except ValueError:
            raise Refused("--mix: %s is not LANG=WEIGHT with a LANG of %s" % (word, languages))
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise Refused("--mix and --temper have to give weights above 0")
    return weights / weights.sum()


def blocks(path):
    """A text in pieces of about BLOCK bytes, each but the last ending with a line."""
    rest, data = b"", True
    with open(path, "rb") as file:
        while data:
            data = file.read(BLOCK)
            rest += data
            cut = rest.rfind(b"\n") + 1 if data else len(rest)
            try:
                text, rest = rest[:cut].decode("utf-8"), rest[cut:]
            except UnicodeDecodeError:
                raise Refused("%s is not UTF-8" % path)
            if text:
                yield text


def sample_lines(args, languages, weights):
    """Lines of all languages, --tokenizer-bytes or what there is, shared as the mix says."""
    for number, language in enumerate(languages):
        random = np.random.default_rng([args.seed, number])
        path = text_path(args, language, "train")
        part = weights[number] * args.tokenizer_bytes / os.path.getsize(path)
        for block in blocks(path):
            lines = block.split("\n")
            keep = random.random(len(lines)) < part
            yield from (line for line, kept in zip(lines, keep) if kept and line)


def make_tokenizer(args, languages, weights):
    """The bytes of a SentencePiece model. No line has a newline in it: it stays the byte <0x0A>."""
    if args.tokenizer:
        with open(args.tokenizer, "rb") as file:
            return file.read()
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sample_lines(args, languages, weights), model_writer=model,
            model_type="bpe", vocab_size=args.vocab, character_coverage=args.coverage,
            byte_fallback=True, split_digits=True, normalization_rule_name="identity",
            remove_extra_whitespaces=False, add_dummy_prefix=True, unk_id=0, bos_id=1, eos_id=2,
            pad_id=-1, max_sentence_length=BLOCK, num_threads=1, minloglevel=2)
    except RuntimeError as problem:
        raise Refused("the tokenizer cannot be trained: " + " ".join(str(problem).split()))
    return model.getvalue()


def encode(tokenizer, path):
    """The ids of a text, block by block: those of the whole text.

    A newline never joins what is around it, so cuts after it change nothing; and with a newline in
    front a block does not get the space that only the beginning of a text gets."""
    front = len(tokenizer.encode("\n"))
    for number, block in enumerate(blocks(path)):
        yield tokenizer.encode("\n" + block)[front:] if number else tokenizer.encode(block)


def map_ids(tokenizer, source, target):
    """A text's ids, raw as lape reads them: 16 bits each if the vocabulary fits in, else 32."""
    dtype = "<u2" if tokenizer.vocab_size() <= 1 << 16 else "<u4"
    if not os.path.exists(target):
        with new_file(target) as file:
            for ids in encode(tokenizer, source):
                file.write(np.array(ids, dtype).tobytes())
    return np.memmap(target, dtype, "r")


def bytes_of_pieces(tokenizer):
    """How many bytes of text each token stands for."""
    return np.array([
        0 if tokenizer.is_control(i) else 1 if tokenizer.is_byte(i) else
        len(tokenizer.id_to_piece(i).replace("\u2581", " ").encode())
        for i in range(tokenizer.vocab_size())])


class Data:
    """The texts as ids, mapped, so that their size does not matter."""

    def __init__(self, args):
        self.languages = find_languages(args)
        self.weights, self.hash = mixture(args, self.languages), hash_texts(args, self.languages)
        folder = os.path.join(args.output, "ids")
        path = os.path.join(args.output, "tokenizer.model")
        os.makedirs(folder, exist_ok=True)
        if not args.resume:
            for name in os.listdir(folder):               # of a run that did not come to training
                os.unlink(os.path.join(folder, name))
            write(path, make_tokenizer(args, self.languages, self.weights))
        self.tokenizer = sentencepiece.SentencePieceProcessor(model_file=path)
        if any("\n" in self.tokenizer.id_to_piece(i) for i in range(self.tokenizer.vocab_size())):
            raise Refused("%s has pieces with newlines, at which texts are cut here" % path)
        if (self.tokenizer.bos_id(), self.tokenizer.eos_id()) != (1, 2):
            raise Refused("%s has not <s> and </s> as 1 and 2, LLaMA's ids" % path)
        self.piece_bytes = bytes_of_pieces(self.tokenizer)
        self.ids = {(language, part): map_ids(
            self.tokenizer, text_path(args, language, part),
            os.path.join(folder, "%s.%s.bin" % (language, part)))
            for language in self.languages for part in PARTS}
        for (language, part), ids in self.ids.items():
            if len(ids) <= args.context:
                raise Refused("%s has %d tokens, not more than --context" % (
                    text_path(args, language, part), len(ids)))

    def windows(self, args, step):
        """The windows of a step, [batch, context + 1]; they depend on seed and step alone."""
        random = np.random.default_rng([args.seed, step])
        rows = np.empty((args.batch // args.context, args.context + 1), np.int64)
        for row, which in zip(rows, random.choice(len(self.languages), len(rows), p=self.weights)):
            ids = self.ids[self.languages[which], "train"]
            start = random.integers(len(ids) - args.context)
            row[:] = ids[start:start + args.context + 1]
        rows[random.random(len(rows)) < args.bos, 0] = self.tokenizer.bos_id()
        return torch.from_numpy(rows)

    def summary(self):
        """language -> its part of the windows, and its tokens and bytes."""
        table = {}
        for language, weight in zip(self.languages, self.weights):
            table[language] = row = {"part": round(float(weight), 6)}
            for part in PARTS:
                ids = self.ids[language, part]
                row[part + "_tokens"], row[part + "_bytes"] = len(ids), self.count_bytes(ids)
        return table

    def count_bytes(self, ids):
        return int(self.piece_bytes @ np.bincount(ids.ravel(), minlength=len(self.piece_bytes)))


# ---- The model and its loss ----------------------------------------------------------------------

def make_model(args, vocab):
    torch.manual_seed(args.seed)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=vocab, hidden_size=args.width, intermediate_size=args.ffn,
        num_hidden_layers=args.layers, num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads, max_position_embeddings=args.context, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": args.rope_base},
        initializer_range=args.init, tie_word_embeddings=args.tied == "yes"))


class Neurons:
    """The activations of the last forward pass, and the penalty on them."""

    def __init__(self, model):
        self.layers = [None] * len(model.model.layers)    # [windows, tokens, neurons] each
        for number, layer in enumerate(model.model.layers):
            layer.mlp.act_fn.register_forward_hook(
                lambda module, x, act, number=number: self.layers.__setitem__(number, act))

    def penalty(self, kind):
        return sum(PENALTIES[kind](torch.relu(act)) for act in self.layers)

    def active(self):
        """The part of all activations that is above zero."""
        return float(sum((act > 0).float().mean() for act in self.layers)) / len(self.layers)


def mean_activation(positive):
    return positive.mean(dtype=torch.float32)


def strength_by_window(positive):
    """[windows, neurons], the root mean square."""
    return positive.float().square().mean(1).add(1e-8).sqrt()


def group_activation(positive):
    return strength_by_window(positive).mean()


def root_activation(positive):
    return strength_by_window(positive).sqrt().mean()


def rare_activation(positive):
    root = strength_by_window(positive).sqrt()            # [windows, neurons]
    return (root.mean(0).square() / root.square().mean(0).sqrt()).mean()


# Of one layer's positive activations [windows, tokens, neurons]; see --activity-kind.
PENALTIES = {"mean": mean_activation, "group": group_activation, "root": root_activation,
             "rare": rare_activation}


def losses(model, neurons, kind, windows):
    """Cross-entropy and penalty of windows [batch, context + 1]."""
    logits = model(input_ids=windows[:, :-1], use_cache=False).logits
    entropy = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1),
                                                windows[:, 1:].flatten())
    return entropy, neurons.penalty(kind)


def make_optimizers(args, model):
    """AdamW; with muon, only of embeddings and vectors, and Muon of the layers' matrices."""
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    matrices = [weight for weight in model.model.layers.parameters() if weight.dim() == 2]
    others = [model.model.embed_tokens.weight] + [model.lm_head.weight] * (args.tied == "no")
    muon = args.optimizer == "muon"
    adamw = torch.optim.AdamW(
        [{"params": others + matrices * (not muon), "weight_decay": args.weight_decay},
         {"params": vectors, "weight_decay": 0.0}], betas=(.9, .95), fused=True)
    return [adamw] + muon * [torch.optim.Muon(matrices, weight_decay=args.weight_decay,
                                              adjust_lr_fn="match_rms_adamw")]


def learning_rate(args, progress):
    """Up in a line, down in half a cosine; progress runs from 0 to 1."""
    if progress < args.warmup:
        return args.lr * progress / args.warmup
    rest = (progress - args.warmup) / max(1 - args.warmup, 1e-9)
    return args.lr * (args.final_lr + (1 - args.final_lr) * (1 + math.cos(math.pi * rest)) / 2)


# ---- Validation ----------------------------------------------------------------------------------

def validate(args, data, model, most=math.inf):
    """language -> a row of results, computed as `lape ppl` does: the text in pieces of --context
    tokens, no <s>, what is left at the end dropped; in float32."""
    table = {}
    for language in data.languages:
        ids = data.ids[language, "valid"]
        count = max(min(len(ids), most) // args.context, 1)
        pieces = ids[:count * args.context].reshape(count, args.context)
        loss = sum(piece_losses(model, pieces[at:at + max(EVAL_TOKENS // args.context, 1)])
                   for at in range(0, count, max(EVAL_TOKENS // args.context, 1)))
        table[language] = result(loss, pieces[:, 1:].size, data.count_bytes(pieces[:, 1:]))
    return table


def piece_losses(model, pieces):
    """The sum of the losses of every token but the first of each piece."""
    batch = torch.from_numpy(pieces.astype(np.int64)).to(model.device)
    with torch.no_grad():
        logits = model(input_ids=batch, use_cache=False).logits[:, :-1].flatten(0, 1)
        return float(torch.nn.functional.cross_entropy(logits, batch[:, 1:].flatten(),
                                                       reduction="none").double().sum())


def result(loss, tokens, size):
    """Perplexity per token, and per byte, which does not depend on the tokenizer."""
    return {"perplexity": math.exp(loss / tokens), "perplexity_per_byte": math.exp(loss / size),
            "tokens": tokens, "bytes": size}


def print_table(table):
    print("language\tperplexity\tper byte\ttokens\tbytes")
    for language, row in table.items():
        print("%s\t%.4f\t%.5f\t%d\t%d" % (language, *row.values()))


# ---- Saving --------------------------------------------------------------------------------------

def write(path, data):
    """Whole or not at all."""
    with new_file(path) as file:
        file.write(data)


def write_json(path, value):
    write(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def save_checkpoint(run):
    """All that --resume needs; the windows to come follow from seed and step."""
    file = io.BytesIO()
    torch.save({"options": vars(run.args), "hash": run.data.hash, "step": run.step,
                "seconds": run.seconds(), "prepared": run.prepared,
                "model": run.model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in run.optimizers]}, file)
    write(os.path.join(run.args.output, "checkpoint.pt"), file.getvalue())


def save_model(run):
    """The Hugging Face folder. The model keeps its weights as they were rounded for it."""
    args, model = run.args, run.model
    dtype = torch.bfloat16 if args.weights == "bf16" else torch.float32
    state = {name: weight.detach().to("cpu", dtype) for name, weight in model.named_parameters()}
    model.load_state_dict(state, strict=False)            # a tied matrix has one of its names
    write(os.path.join(args.output, "model.safetensors"),
          safetensors.torch.save(state, {"format": "pt"}))
    write_json(os.path.join(args.output, "config.json"), dict(
        model.config.to_dict(), architectures=["LlamaForCausalLM"],
        dtype="bfloat16" if args.weights == "bf16" else "float32"))
    write_json(os.path.join(args.output, "tokenizer_config.json"), {
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False,
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": False,
        "clean_up_tokenization_spaces": False, "model_max_length": args.context})


def save_record(run, table):
    """train.json: enough to repeat the run, and what came of it; no table if it was stopped."""
    args = run.args
    write_json(os.path.join(args.output, "train.json"), {
        "options": vars(args),
        "texts": {"sha256": run.data.hash, "languages": run.data.summary()},
        "parameters": run.model.num_parameters(), "neurons": args.layers * args.ffn,
        "steps": run.step, "tokens": run.step * run.step_tokens,
        "seconds": round(run.seconds(), 1), "finished": table is not None,
        "device": run.device.type, "dtype": run.dtype, "threads": torch.get_num_threads(),
        "versions": {library.__name__: str(library.__version__)
                     for library in (np, sentencepiece, torch, transformers)},
        "validation": table})


# ---- The run -------------------------------------------------------------------------------------

def choose_machine(args):
    """(device, "bf16" or "f32"); sets the threads, and what makes a run repeatable."""
    affinity = getattr(os, "sched_getaffinity", lambda process: range(os.cpu_count()))
    torch.set_num_threads(args.threads or len(affinity(0)))
    torch.use_deterministic_algorithms(True, warn_only=True)
    cuda = torch.cuda.is_available()
    device = torch.device(("cuda" if cuda else "cpu") if args.device == "auto" else args.device)
    if device.type == "cuda" and not cuda:
        raise Refused("--device cuda: torch finds none")
    flags = getattr(torch.cpu, "get_capabilities", dict)()
    fast = (torch.cuda.is_bf16_supported() if device.type == "cuda" else
            flags.get("avx512_bf16") or flags.get("amx_bf16"))
    return device, args.dtype if args.dtype != "auto" else "bf16" if fast else "f32"


class Run:
    """A run's state, of which a checkpoint is made."""

    def __init__(self, args, data, checkpoint, began):
        self.args, self.data, self.began = args, data, began
        self.device, self.dtype = choose_machine(args)
        self.model = make_model(args, data.tokenizer.vocab_size()).to(self.device)
        if self.device.type == "cpu":                     # where windows are short, it is faster
            self.model.set_attn_implementation("eager")
        self.neurons = Neurons(self.model)
        self.optimizers = make_optimizers(args, self.model)
        self.step, self.step_tokens = 0, args.batch // args.context * args.context
        self.prepared, self.stopped = self.seconds(), None
        if checkpoint:
            self.restore(checkpoint)

    def restore(self, checkpoint):
        if checkpoint["hash"] != self.data.hash:
            raise Refused("%s: the texts have changed since the run began" % self.args.texts)
        self.step, self.prepared = checkpoint["step"], checkpoint["prepared"]
        self.began = time.monotonic() - checkpoint["seconds"]
        self.model.load_state_dict(checkpoint["model"])
        for optimizer, state in zip(self.optimizers, checkpoint["optimizers"]):
            optimizer.load_state_dict(state)

    def seconds(self):
        """Since the beginning, without the time that it was stopped."""
        return time.monotonic() - self.began

    def progress(self):
        """From 0 to 1, by steps or by the clock, whichever is to end the run."""
        by_steps = self.step / self.args.steps if self.args.steps else 0
        left = 60 * self.args.minutes - self.prepared
        by_time = (self.seconds() - self.prepared) / max(left, 1e-9) if self.args.minutes else 0
        return min(max(by_steps, by_time), 1)

    def learn(self):
        """One step; its cross-entropy and penalty."""
        args = self.args
        progress = min(self.progress() + (.5 / args.steps if args.steps else 0), 1)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate(args, progress)
        windows = self.data.windows(args, self.step).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bf16"):
            entropy, penalty = losses(self.model, self.neurons, args.activity_kind, windows)
        strength = args.activity * min(progress / max(args.activity_warmup, 1e-9), 1)
        (entropy + strength * penalty).backward()
        if args.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), args.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return float(entropy.detach()), float(penalty.detach())

    def train(self):
        """Until the end or a signal, with checkpoints, validations and progress on the way."""
        args, progress = self.args, self.progress()
        log, saved = Log(self), time.monotonic()
        while progress < 1 and not self.stopped:
            before, values = progress, self.learn()
            if not math.isfinite(values[0]):
                raise Refused("step %d: the loss is infinite; --lr or --activity is too high, and "
                              "--resume goes on from the last checkpoint" % self.step)
            progress = self.progress()
            log.add(values, progress)
            if int(before * (args.evals + 1)) < int(progress * (args.evals + 1)) <= args.evals:
                table = validate(args, self.data, self.model, EVAL_TOKENS)
                print("perplexity: " + ", ".join("%s %.4g" % (language, row["perplexity"])
                                                 for language, row in table.items()), flush=True)
            if time.monotonic() - saved > 60 * args.save_every:
                save_checkpoint(self)
                saved = time.monotonic()


class Log:
    """Lines of progress, each over the steps since the last."""

    def __init__(self, run):
        self.run, self.first, self.began = run, run.progress(), time.monotonic()
        self.last, self.values = self.began, []

    def add(self, values, progress):
        self.values.append(values)
        run, now = self.run, time.monotonic()
        if now - self.last < run.args.log_every and progress < 1:
            return
        left = (now - self.began) * (1 - progress) / max(progress - self.first, 1e-9)
        print("step %d, %.1f %%: loss %.3f, activity %.4f, %.1f %% active, rate %.5f, %d tokens/s, "
              "ETA %d:%02d:%02d" % (
                  run.step, 100 * progress, *np.mean(self.values, 0), 100 * run.neurons.active(),
                  learning_rate(run.args, progress),
                  len(self.values) * run.step_tokens / (now - self.last),
                  left // 3600, left // 60 % 60, left % 60), flush=True)
        self.last, self.values = now, []


def describe(run):
    """What is about to be trained, and on what."""
    for language, row in run.data.summary().items():
        print("%s: %.1f %% of the windows, from %.2f MB, %d tokens" % (
            language, 100 * row["part"], row["train_bytes"] / 1e6, row["train_tokens"]))
    print("%.2f million parameters, %d neurons; %s on %s, %d threads; ready after %.0f s" % (
        run.model.num_parameters() / 1e6, run.args.layers * run.args.ffn, run.dtype,
        run.device.type, torch.get_num_threads(), run.seconds()), flush=True)


def catch_signals(run):
    """The first Ctrl-C, or kill, ends the run after its step; the second ends it at once."""
    def stop(number, frame):
        run.stopped = number
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def main(words=None):
    began = time.monotonic()
    args, checkpoint = parse_options(words)
    os.makedirs(args.output, exist_ok=True)
    run = Run(args, Data(args), checkpoint, began)
    describe(run)
    catch_signals(run)
    run.train()
    stopped = run.stopped
    save_checkpoint(run)
    save_model(run)
    table = None if stopped else validate(args, run.data, run.model)
    save_record(run, table)
    if stopped:
        print("stopped after step %d, saved; --resume goes on" % run.step)
        return 128 + stopped
    print_table(table)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Refused, OSError) as problem:
        print("train.py: %s" % problem, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("train.py: interrupted before the first step; nothing is saved", file=sys.stderr)
        sys.exit(130)
