#!/usr/bin/env python3
"""What lape computes, computed again by well-known libraries, and compared.

    python test/oracle/commands.py [--lape ./lape] [--shared ../shared] [--only NAME,NAME]
    python test/oracle/commands.py golden

It wants torch, transformers, sentencepiece, numpy, gguf and protobuf.
Every check prints one line: `ok NAME: what was measured`, or `FAIL`, or `skipped` where it needs
the texts and the checkpoint in --shared and they are not there. `golden` writes golden.tsv, the
values that tests without these libraries compare with; lape has no part in it.

The forward pass is that of transformers (float32, eager attention), the tokenizer sentencepiece's,
and gguf reads and writes the files. The selection of neurons is written here from the paper's
formulas. No code of lape's or of convert.py's has a part in what they are compared with.
"""

import argparse
import collections
import contextlib
import copy
import functools
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import gguf                                                                  # noqa: E402
import numpy as np                                                           # noqa: E402
import sentencepiece                                                         # noqa: E402
import torch                                                                 # noqa: E402
import transformers                                                          # noqa: E402
from sentencepiece import sentencepiece_model_pb2 as spm                     # noqa: E402
from checking import (Missing, Program, Wrong, be_quiet, demand, report,     # noqa: E402
                      summary)
from paths import DEMO, LAPE, ROOT, SHARED                                   # noqa: E402
from reference import (FIXED_POINT, edited, follow, mean_loss, metadata,     # noqa: E402
                       perplexities, push, read_counts, steering_edits, tally)
from selecting import (by_layer, compare_drawn, compare_released,            # noqa: E402
                       compare_selection, members, probabilities, read_neurons, score_of, select)
from tokenizing import hard_strings                                          # noqa: E402

# Two float32 programs differ by rounding alone: around 1e-6 of the largest number of a layer, and
# logits here reach some tens. A wrong formula shows in the first digits.
LOGIT_TOLERANCE = 1e-4
GATE_TOLERANCE = 5e-5      # of gates and activations; relative to a layer's largest, if above 1
# Means over thousands of activations: rounding is of either sign and averages out. Half a unit of
# the fixed point is 4.8e-7, so cutting instead of rounding would show.
MEAN_TOLERANCE = 2e-7
LOSS_TOLERANCE = 1e-4      # nats, of values printed with five decimals
PERPLEXITY_TOLERANCE = 1e-5     # relative; float32 losses over thousands of tokens
LOGIT_TIE = 1e-4           # a gap between two logits that rounding may turn around
NUCLEUS_EDGE = 1e-5        # a token whose probability is this near to the edge may be in or out

NEAR = 1e-3                # `lape count --near`, its default
PIECE = 128                # tokens in a piece of the demo's texts
LANGUAGES = "en es fr id ja vi zh".split()
TOP = .05                  # selects enough neurons of so small a model for ablation to show

GOLDEN = os.path.join(ROOT, "test", "golden.tsv")
CONVERT = os.path.join(ROOT, "tools", "convert.py")
CHANGES = os.path.join(ROOT, "tools", "changes.py")
SEED = 1


# ---- Models ---------------------------------------------------------------------------------

HEAD_TENSORS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm",
                "output": "lm_head"}
LAYER_TENSORS = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj"}


def halves(weight, heads):
    """Rows of a GGUF file, where 2i and 2i + 1 turn together, as transformers has them: i and
    i + d/2."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)


def reference_state(reader):
    """The tensors of a GGUF model under transformers' names, in float32."""
    meta, state = metadata(reader), {}
    heads = {"attn_q": meta["llama.attention.head_count"],
             "attn_k": meta["llama.attention.head_count_kv"]}
    for tensor in reader.tensors:
        stem, weight = tensor.name.rsplit(".", 1)
        values = torch.from_numpy(
            np.array(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        if stem in HEAD_TENSORS:
            name = HEAD_TENSORS[stem]
        else:
            _, layer, stem = stem.split(".")
            name = "model.layers.%s.%s" % (layer, LAYER_TENSORS[stem])
        state["%s.%s" % (name, weight)] = (
            halves(values, heads[stem]) if stem in heads else values)
    return state


def reference_model(path):
    """A GGUF model as one of transformers, in float32."""
    reader = gguf.GGUFReader(path)
    meta, state = metadata(reader), reference_state(reader)
    tied = "lm_head.weight" not in state
    settings = dict(
        vocab_size=state["model.embed_tokens.weight"].shape[0],
        hidden_size=meta["llama.embedding_length"],
        intermediate_size=meta["llama.feed_forward_length"],
        num_hidden_layers=meta["llama.block_count"],
        num_attention_heads=meta["llama.attention.head_count"],
        num_key_value_heads=meta["llama.attention.head_count_kv"],
        head_dim=meta["llama.attention.key_length"],
        max_position_embeddings=meta["llama.context_length"],
        rms_norm_eps=meta["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": meta["llama.rope.freq_base"]},
        tie_word_embeddings=tied, attn_implementation="eager", dtype=torch.float32,
        bos_token_id=1, eos_token_id=2)
    window = meta.get("llama.attention.sliding_window")
    if window:
        model = transformers.MistralForCausalLM(
            transformers.MistralConfig(sliding_window=window, **settings))
    else:
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
    if tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    demand(model.config._attn_implementation == "eager", "the reference's attention is not eager")
    return model.eval()


# ---- Counts ---------------------------------------------------------------------------------

def statistics(gates, activations):
    """What a counts file holds of a layer's gates and activations [T, F]; and for the first three
    how many gates are so near to an edge that rounding may decide."""
    near = torch.tensor(NEAR, dtype=gates.dtype)
    fixed = torch.round(activations.double() * FIXED_POINT)          # half to even
    at_zero = gates.abs() <= GATE_TOLERANCE
    return {
        "positive": (activations > 0).sum(0),
        "near_above": ((gates > 0) & (gates < near)).sum(0),
        "near_below": ((gates <= 0) & (gates >= -near)).sum(0),
        "sum": fixed.sum(0).long(),
        "positive_sum": fixed.clamp(min=0).sum(0).long(),
        "positive edge": at_zero.sum(0),
        "near_above edge": (at_zero | ((gates - near).abs() <= GATE_TOLERANCE)).sum(0),
        "near_below edge": (at_zero | ((gates + near).abs() <= GATE_TOLERANCE)).sum(0),
    }


def reference_statistics(model, pieces):
    return tally(model, pieces, statistics)


def write_counts(path, tokens, positive, sums=None):
    """A counts file of another program: tokens {language: n}, positive {language: [L, F]}, sums of
    positive activations likewise."""
    layers, neurons = next(iter(positive.values())).shape
    writer = gguf.GGUFWriter(path, "lape-counts")
    writer.add_string("general.name", "unknown")
    writer.add_uint32("lape-counts.layers", layers)
    writer.add_uint32("lape-counts.neurons", neurons)
    writer.add_array("lape-counts.languages", list(tokens))
    writer.add_key_value("lape-counts.tokens", list(tokens.values()), gguf.GGUFValueType.ARRAY,
                         sub_type=gguf.GGUFValueType.UINT64)
    for name, statistic in ("positive", positive), ("positive_sum", sums or {}):
        for language, counts in statistic.items():
            writer.add_tensor("%s.%s" % (language, name),
                              np.ascontiguousarray(counts, dtype=np.int64))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- Tokenizers -----------------------------------------------------------------------------

def rebuilt_tokenizer(path):
    """sentencepiece's tokenizer from the metadata of a GGUF file."""
    meta = metadata(gguf.GGUFReader(path))
    proto = spm.ModelProto()
    texts, scores, kinds = (meta["tokenizer.ggml." + key]
                            for key in ("tokens", "scores", "token_type"))
    for text, score, kind in zip(texts, scores, kinds):
        proto.pieces.add(piece=text, score=score, type=kind)
    proto.trainer_spec.model_type = spm.TrainerSpec.BPE
    proto.trainer_spec.byte_fallback = 6 in kinds
    proto.trainer_spec.unk_id = meta["tokenizer.ggml.unknown_token_id"]
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = meta["tokenizer.ggml.add_space_prefix"]
    proto.normalizer_spec.remove_extra_whitespaces = False
    proto.normalizer_spec.escape_whitespaces = True
    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())


def as_lines(lists):
    return [" ".join(map(str, ids)).encode() for ids in lists]


# ---- The bench: what the checks share -------------------------------------------------------

class Bench(Program):
    """The program under test, and what is computed or made once for several checks."""

    def __init__(self, lape, shared, scratch):
        super().__init__(lape, scratch)
        self.shared_path = shared

    def shared(self, *names):
        path = os.path.join(self.shared_path, *names)
        if not os.path.exists(path):
            raise Missing("no " + self.shared_path)
        return path

    def has_shared(self):
        return os.path.exists(os.path.join(self.shared_path, "model"))

    @functools.cached_property
    def trained(self):
        """A trained checkpoint, where there is one, converted."""
        return self.convert(self.shared("model"), self.new("trained.gguf"))

    def convert(self, directory, output, kind="keep"):
        self.run(sys.executable, CONVERT, "hf", directory, "-o", output, "--type", kind, "-q",
                 "--name", "tiny")
        return output

    def forward(self, path, model, ids, threads=2):
        """Logits [T, V], gates and activations [L, T, F]; `model` is its reference, and says L."""
        shape = (model.config.num_hidden_layers, len(ids), -1)
        logits, gates, activations = (self.trace(path, ids, point, threads)
                                      for point in ("logits", "gate", "act"))
        return logits, gates.reshape(shape), activations.reshape(shape)

    @functools.cached_property
    def demo(self):
        return reference_model(DEMO)

    @functools.cached_property
    def tokenizer(self):
        return rebuilt_tokenizer(DEMO)

    @functools.lru_cache(maxsize=None)
    def ids(self, path, tokenizer=None):
        """A whole file's; by the demo's tokenizer if not told otherwise."""
        with open(path, encoding="utf-8", newline="") as file:
            return (tokenizer or self.tokenizer).encode(file.read())

    def pieces(self, path, length, most=None, tokenizer=None):
        ids = self.ids(path, tokenizer)[:most]
        return torch.tensor(ids[:len(ids) // length * length]).reshape(-1, length)

    def demo_text(self, language, kind):
        return os.path.join(ROOT, "demo", "text", "%s.%s.txt" % (language, kind))

    def demo_words(self, kind):
        return ["%s=%s" % (label, self.demo_text(label, kind)) for label in LANGUAGES]

    @functools.cached_property
    def texts(self):
        """All text files there are."""
        found = [self.demo_text(label, kind) for label in LANGUAGES for kind in ("count", "eval")]
        if self.has_shared():
            found += [self.shared("text", "%s.%s.txt" % (label, kind))
                      for label in LANGUAGES for kind in ("train", "valid")]
        return found

    @functools.cached_property
    def demo_statistics(self):
        """{language: statistics} of the demo's texts by transformers."""
        return {label: reference_statistics(
            self.demo, self.pieces(self.demo_text(label, "count"), PIECE)) for label in LANGUAGES}

    @functools.cached_property
    def demo_selection(self):
        """The selection from transformers' counts, lape having no part in it."""
        tokens = {label: self.pieces(self.demo_text(label, "count"), PIECE).numel()
                  for label in LANGUAGES}
        positive = {label: self.demo_statistics[label]["positive"] for label in LANGUAGES}
        return select(probabilities(tokens, positive), LANGUAGES, TOP, .95, .95)

    @functools.cached_property
    def demo_counts(self):
        """A file of counts by lape."""
        self.lape("count", DEMO, *self.demo_words("count"), "--seq", PIECE, "-t", 2, "-q",
                  "-o", self.new("demo-counts.gguf"))
        return self.new("demo-counts.gguf")

    @functools.cached_property
    def demo_neurons(self):
        """A file of neurons by lape."""
        self.lape("find", self.demo_counts, "--top", TOP, "-q", "-o", self.new("demo.tsv"))
        return self.new("demo.tsv")

    def read_demo_neurons(self):
        with open(self.demo_neurons, encoding="utf-8") as file:
            return read_neurons(file.read())

    @functools.cached_property
    def demo_losses(self):
        """{language: nats} of the demo's texts by transformers."""
        return {label: mean_loss(self.demo, self.pieces(self.demo_text(label, "eval"), PIECE))
                for label in LANGUAGES}

    @functools.lru_cache(maxsize=None)
    def ablated_losses(self, off):
        """The same with the neurons of `off`, a frozenset, at 0."""
        with edited(self.demo, {place: (0., 0.) for place in off}):
            return {label: mean_loss(self.demo, self.pieces(self.demo_text(label, "eval"), PIECE))
                    for label in LANGUAGES}

    def prompt_ids(self, text):
        return [1] + self.tokenizer.encode(text)


# ---- Checks: weights and the forward pass ---------------------------------------------------

CHECKS = []


def check(function):
    """Registers a check: it returns what was measured, or raises Wrong or Missing. Its name is
    the function's."""
    CHECKS.append((function.__name__, function))
    return function


@check
def weights(bench):
    """A converted checkpoint holds exactly the checkpoint's numbers."""
    theirs = transformers.LlamaForCausalLM.from_pretrained(
        bench.shared("model"), dtype=torch.float32, attn_implementation="eager")
    ours, state = reference_model(bench.trained), theirs.state_dict()
    demand(state.keys() == ours.state_dict().keys(), "the names of the tensors differ")
    for name, values in ours.state_dict().items():
        demand(torch.equal(values, state[name]), "%s differs", name)
    for key in ("head_dim", "rope_parameters", "num_key_value_heads", "max_position_embeddings",
                "tie_word_embeddings"):
        a, b = getattr(ours.config, key), getattr(theirs.config, key)
        demand(a == b, "%s is %s, not %s", key, a, b)
    demand(np.float32(ours.config.rms_norm_eps) == np.float32(theirs.config.rms_norm_eps),
           "the epsilon differs")
    return "%d tensors of %d numbers equal the checkpoint's" % (
        len(state), sum(values.numel() for values in theirs.parameters()))


def worst(a, b):
    return (a - b).abs().max().item()


def compare_forward(bench, path, model, ids):
    """(worst of the logits, worst of gates and activations by layer), both demanded to be small."""
    theirs, ours = bench.forward(path, model, ids), push(model, ids)
    logits = worst(theirs[0], ours[0])
    layers = [max(worst(theirs[1][i], ours[1][i]), worst(theirs[2][i], ours[2][i]))
              / max(1, ours[1][i].abs().max().item()) for i in range(len(ours[1]))]
    demand(logits <= LOGIT_TOLERANCE, "%d tokens: a logit differs by %.3g", len(ids), logits)
    demand(max(layers) <= GATE_TOLERANCE, "%d tokens: gates or activations differ by %s", len(ids),
           " ".join("%.2g" % value for value in layers))
    return logits, layers


@check
def forward(bench):
    """Logits, gates and activations of real text."""
    found, sizes, peak = [], (1, 2, 17, 256, 1000), 0.
    for i, size in enumerate(sizes):
        for label in (LANGUAGES[i], LANGUAGES[-1 - i]):
            ids = bench.ids(bench.demo_text(label, "eval"))
            found.append(compare_forward(bench, DEMO, bench.demo, ids[:size]))
            found.append(compare_forward(bench, DEMO, bench.demo, ([1] + ids[-size:])[:size]))
    peak = push(bench.demo, bench.ids(bench.demo_text("en", "eval"))[:256])[0].abs().max()
    layers = [max(layer) for layer in zip(*(layers for _, layers in found))]
    return ("%d sequences of %s tokens: logits within %.2g (they reach %.0f), gates and "
            "activations by layer within %s" % (
                len(found), ", ".join(map(str, sizes)), max(logits for logits, _ in found), peak,
                " ".join("%.1g" % value for value in layers)))


def pairs_of(heads):
    """[T, heads, d] as [T, heads d] with i and i + d/2, which turn together, side by side."""
    tokens, count, d = heads.shape
    return heads.reshape(tokens, count, 2, d // 2).transpose(2, 3).reshape(tokens, count * d)


def every_tensor(model, ids):
    """{point: [T, columns] or [L, T, columns]} of one sequence, by transformers' modules."""
    found = collections.defaultdict(list)

    def keep(point, of=lambda inputs, output: output):
        return lambda module, inputs, output: found[point].append(of(inputs, output)[0])

    hooks = [(model.model.embed_tokens, keep("embd")), (model.lm_head, keep("logits"))]
    for layer in model.model.layers:
        hooks += [(layer.input_layernorm, keep("attn_norm")),
                  (layer.self_attn.v_proj, keep("v")), (layer.self_attn.o_proj, keep("attn_out")),
                  (layer.self_attn.o_proj, keep("heads", lambda inputs, output: inputs[0])),
                  (layer.post_attention_layernorm, keep("ffn_norm")),
                  (layer.mlp.gate_proj, keep("gate")), (layer.mlp.act_fn, keep("act")),
                  (layer.mlp.up_proj, keep("up")), (layer.mlp.down_proj, keep("down")),
                  (layer.mlp.down_proj, keep("product", lambda inputs, output: inputs[0])),
                  (layer.self_attn.q_proj, keep("q")), (layer.self_attn.k_proj, keep("k")),
                  (layer, keep("resid", lambda i, o: o if torch.is_tensor(o) else o[0]))]
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    with torch.no_grad():
        model(torch.tensor([ids]))
        cosine, sine = model.model.rotary_emb(found["embd"][0][None],
                                              torch.arange(len(ids))[None])
    for handle in handles:
        handle.remove()
    d = model.config.head_dim
    for point in ("q", "k"):
        for layer, values in enumerate(found[point]):
            heads = values.reshape(len(ids), -1, d).transpose(0, 1)[None]
            turned = transformers.models.llama.modeling_llama.apply_rotary_pos_emb(
                heads, heads, cosine, sine)[0]
            found[point][layer] = pairs_of(turned[0].transpose(0, 1))
    return {point: values[0] if point in ("embd", "logits") else torch.stack(values)
            for point, values in found.items()}


@check
def traces(bench):
    """Every tensor that `lape trace` knows, against transformers' modules."""
    ids = bench.ids(bench.demo_text("fr", "eval"))[:200]
    found = {}
    for point, ours in every_tensor(bench.demo, ids).items():
        theirs = bench.trace(DEMO, ids, point)
        demand(theirs.shape == ours.shape, "%s is %s, not %s", point, theirs.shape, ours.shape)
        found[point] = worst(theirs, ours) / max(1, ours.abs().max().item())
        demand(found[point] <= GATE_TOLERANCE, "%s: off by %.3g of its largest", point, found[point])
        last = bench.trace(DEMO, ids, point)
        demand(torch.equal(theirs, last), "%s: another trace differs", point)
    demand(len(found) == 15, "%d tensors, not 15", len(found))
    return "%d tokens: " % len(ids) + ", ".join("%s %.1g" % item for item in found.items())


# ---- Checks: counts -------------------------------------------------------------------------

def compare_statistics(theirs, ours, tokens):
    """One language's; (neurons whose positive counts differ, by how much at most, worst mean)."""
    off = (theirs["positive"] - ours["positive"]).abs()
    bound = (ours["positive"] >= theirs["positive"] - theirs["near_above"]) & (
        ours["positive"] <= theirs["positive"] + theirs["near_below"])
    demand(bool(bound.all()), "%d neurons' counts are beyond the bound of the near ones",
           int((~bound).sum()))
    for name in ("positive", "near_above", "near_below"):
        beyond = (theirs[name] - ours[name]).abs() - ours[name + " edge"]
        demand(int(beyond.max()) <= 0, "%s: %d neurons are off by more than gates at the edge are",
               name, int((beyond > 0).sum()))
    means = [(theirs[name] - ours[name]).abs().max().item() / FIXED_POINT / tokens
             for name in ("sum", "positive_sum")]
    demand(max(means) <= MEAN_TOLERANCE, "a mean is off by %.3g", max(means))
    return int((off > 0).sum()), int(off.max()), max(means)


def compare_counts(counts, pieces_of, statistics_of):
    """A counts file of all languages against the pieces [N, T] and the statistics of each."""
    found = []
    for label in LANGUAGES:
        pieces, theirs = pieces_of(label), counts.of[label]
        demand(counts.tokens[label] == pieces.numel() and counts.pieces[label] == len(pieces),
               "%s: %d tokens in %d pieces, not %d in %d", label, counts.tokens[label],
               counts.pieces[label], pieces.numel(), len(pieces))
        vocab = theirs["histogram"].numel()
        demand(torch.equal(theirs["histogram"].flatten(),
                           torch.bincount(pieces.flatten(), minlength=vocab)),
               "%s: the histogram differs", label)
        found.append(compare_statistics(theirs, statistics_of(label), pieces.numel()))
    differing, off, mean = zip(*found)
    return ("%d tokens: %d of %d counts differ, by %d at most (all within the bounds), means "
            "within %.1g, tokens, pieces and histograms equal" % (
                sum(counts.tokens.values()), sum(differing),
                len(LANGUAGES) * theirs["positive"].numel(), max(off), max(mean)))


@check
def counts_demo(bench):
    """Counts of the demo's texts against transformers."""
    counts = read_counts(bench.demo_counts)
    demand(counts.languages == LANGUAGES, "the languages are %s", counts.languages)
    return compare_counts(counts, lambda label: bench.pieces(bench.demo_text(label, "count"),
                                                             PIECE), bench.demo_statistics.get)


@check
def counts_exact(bench):
    """Counts against the very gates and activations that lape's forward pass gives."""
    counts, tokens = read_counts(bench.demo_counts), 0
    for label in ("en", "ja"):
        found = collections.defaultdict(int)
        for piece in bench.pieces(bench.demo_text(label, "count"), PIECE):
            _, gates, activations = bench.forward(DEMO, bench.demo, piece.tolist(), threads=1)
            rows = [statistics(*layer) for layer in zip(gates, activations)]
            for name in rows[0]:
                found[name] += torch.stack([row[name] for row in rows])
            tokens += PIECE
        for name in ("positive", "near_above", "near_below", "sum", "positive_sum"):
            demand(torch.equal(found[name], counts.of[label][name]), "%s of %s differs", name,
                   label)
    return "%d tokens: five statistics equal those recounted from traced numbers" % tokens


def certify(bench, name, model):
    """The exit status and the output of `lape diff` over transformers' counts of the demo's texts,
    by way of numpy."""
    words, tokens = [], []
    for label in LANGUAGES:
        pieces = bench.pieces(bench.demo_text(label, "count"), PIECE)
        path = bench.new("%s.%s.npy" % (name, label))
        np.save(path, reference_statistics(model, pieces)["positive"].numpy())
        words.append("%s=%s" % (label, path))
        tokens += ["--tokens", "%s=%d" % (label, pieces.numel())]
    converted = bench.new(name + ".gguf")
    bench.run(sys.executable, CONVERT, "counts", *words, *tokens, "-o", converted)
    done = subprocess.run([bench.lape_path, "diff", bench.demo_counts, converted, "--top",
                           str(TOP)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    rows = [row for row in rows if row[0] in LANGUAGES]
    demand(len(rows) == len(LANGUAGES), "%s: %s", name, done.stderr)
    selection = re.search("selection: .*", done.stdout)[0]
    return done.returncode, sum(int(row[2]) for row in rows), sum(int(row[3]) for row in rows), (
        selection)


@check
def certification(bench):
    """`lape diff` accepts what transformers counts in float32, and refuses what it counts in
    bfloat16."""
    status, differ, beyond, selection = certify(bench, "f32", bench.demo)
    demand(status == 0 and beyond == 0, "float32: status %d, %d beyond the bound", status, beyond)
    rough = copy.deepcopy(bench.demo).to(torch.bfloat16)
    status, differ2, beyond2, selection2 = certify(bench, "bf16", rough)
    demand(status == 1 and beyond2 > 0, "bfloat16: status %d, %d beyond", status, beyond2)
    return ("float32: certified, %d counts differ, %s. bfloat16: refused, %d differ, %d beyond the "
            "bound, %s" % (differ, selection, differ2, beyond2, selection2))


@check
def answers(bench):
    """Counts line by line, and those of answers less their prompts, against transformers' hooks on
    the answers' tokens alone."""
    lines, prompts = [], []
    with open(bench.demo_text("es", "eval"), encoding="utf-8") as file:
        pairs = [line.split() for line in file.read().split("\n")[:30]]
    for number, words in enumerate(pairs):
        cut = 1 + number % (len(words) - 1)
        lines.append(" ".join(words))
        prompts.append(" ".join(words[:cut]))
    ids, given = ([bench.tokenizer.encode(line) for line in of] for of in (lines, prompts))
    kept = [i for i in range(len(ids)) if ids[i][:len(given[i])] == given[i]]
    demand(len(kept) > 20, "%d prompts are the beginnings of their texts", len(kept))
    for name, of in ("full", lines), ("prompts", prompts):
        with open(bench.new(name), "w", encoding="utf-8") as file:
            file.write("".join(of[i] + "\n" for i in kept))
        bench.lape("count", DEMO, "es=" + bench.new(name), "--lines", "-q", "-o",
                   bench.new(name + ".gguf"))
    bench.lape("merge", bench.new("full.gguf"), "--minus", bench.new("prompts.gguf"), "-q", "-o",
               bench.new("answers.gguf"))
    said = []
    for name, starts in ("full.gguf", [0] * len(ids)), ("answers.gguf", list(map(len, given))):
        theirs, found = read_counts(bench.new(name)), collections.Counter()
        for i in kept:
            start = starts[i]
            one = tally(bench.demo, torch.tensor([ids[i]]),
                        lambda gates, activations: statistics(gates[start:], activations[start:]))
            for key, value in one.items():
                found[key] = found[key] + value
        tokens = sum(len(ids[i]) - starts[i] for i in kept)
        demand(theirs.tokens["es"] == tokens, "%s: %d tokens, not %d", name, theirs.tokens["es"],
               tokens)
        differ = compare_statistics(theirs.of["es"], found, tokens)[0]
        said.append("%s %d tokens, %d counts differ within the bounds" % (name, tokens, differ))
    return "%d lines: %s" % (len(kept), "; ".join(said))


@check
def begin_of_sequence(bench):
    """Counts and perplexity of pieces that begin with the BOS token."""
    text, counted = bench.demo_text("vi", "eval"), bench.new("bos.gguf")
    ids = torch.tensor(bench.ids(text))
    pieces = ids[:len(ids) // 49 * 49].reshape(-1, 49)
    pieces = torch.cat([torch.ones(len(pieces), 1, dtype=torch.int64), pieces], 1)
    words = [DEMO, "vi=" + text, "--bos", "--seq", 50, "-t", 2, "-q"]
    bench.lape("count", *words, "-o", counted)
    theirs = read_counts(counted)
    demand(theirs.tokens["vi"] == pieces.numel(), "%d tokens, not %d", theirs.tokens["vi"],
           pieces.numel())
    demand(int(theirs.of["vi"]["histogram"].flatten()[1]) == len(pieces), "BOS is not counted")
    differ = compare_statistics(theirs.of["vi"], reference_statistics(bench.demo, pieces),
                                pieces.numel())[0]
    value = perplexities(bench.lape("ppl", *words))["none"]["vi"]
    wanted = math.exp(mean_loss(bench.demo, pieces))
    demand(abs(value / wanted - 1) <= PERPLEXITY_TOLERANCE, "the perplexity is %.9g, not %.9g",
           value, wanted)
    return "%d tokens: %d counts differ within the bounds, perplexity %.5g" % (
        pieces.numel(), differ, value)


def shared_words(bench, kind, languages=None):
    return ["%s=%s" % (label, bench.shared("text", "%s.%s.txt" % (label, kind)))
            for label in languages or LANGUAGES]


@functools.lru_cache(maxsize=None)
def shared_counts(bench):
    path = bench.new("shared-counts.gguf")
    bench.lape("count", bench.trained, *shared_words(bench, "train"), "--seq", 256, "--tokens",
               16384, "-t", 2, "-q", "-o", path)
    return path


@check
def counts_shared(bench):
    """Counts of longer texts in pieces of 256, by the trained checkpoint."""
    model, tokenizer = reference_model(bench.trained), rebuilt_tokenizer(bench.trained)

    def pieces(label):
        return bench.pieces(bench.shared("text", label + ".train.txt"), 256, 16384, tokenizer)
    return compare_counts(read_counts(shared_counts(bench)), pieces,
                          lambda label: reference_statistics(model, pieces(label)))


@functools.lru_cache(maxsize=None)
def reference_table(bench):
    """model/reference.tsv: {quantity: {language: text}}."""
    with open(bench.shared("model", "reference.tsv"), encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    return {row[0]: dict(zip(rows[0][1:], row[1:])) for row in rows[1:]}


@check
def reference_counts(bench):
    """Counts per layer against those that came with the checkpoint."""
    counts, table, off = read_counts(shared_counts(bench)), reference_table(bench), []
    for label in LANGUAGES:
        of = counts.of[label]
        demand(counts.tokens[label] == int(table["tokens counted"][label]), "%s: %d tokens", label,
               counts.tokens[label])
        for layer in range(of["positive"].shape[0]):
            wanted = int(table["activations above zero, layer %d" % layer][label])
            total, above, below = (int(of[name][layer].sum())
                                   for name in ("positive", "near_above", "near_below"))
            demand(total - above <= wanted <= total + below,
                   "%s, layer %d: %d is outside [%d, %d]", label, layer, wanted, total - above,
                   total + below)
            off.append(abs(total - wanted))
    return "%d totals of a layer are within the bounds, %d of them equal, the worst off by %d" % (
        len(off), off.count(0), max(off))


@check
def reference_losses(bench):
    """Neurons and losses at three settings against those that came with the checkpoint. Where
    they have no new text to show, two languages' texts do."""
    table, losses, neurons = reference_table(bench), [], []
    for top, rate, languages in ((.05, .95, None), (.01, .95, ["en", "ja"]),
                                 (.2, .8, ["zh", "id"])):
        path = bench.new("shared-neurons.tsv")
        bench.lape("find", shared_counts(bench), "--top", top, "--filter", rate, "--bar", rate,
                   "-q", "-o", path)
        with open(path, encoding="utf-8") as file:
            found = read_neurons(file.read()).neurons
        row = table["neurons, top %g filter %g bar %g" % (top, rate, rate)]
        for label in LANGUAGES:
            neurons.append(len(members(found, label)))
            demand(neurons[-1] == int(row[label]), "top %g: %s has %d neurons, not %s", top, label,
                   neurons[-1], row[label])
        matrix = perplexities(bench.lape(
            "ppl", bench.trained, *shared_words(bench, "valid", languages), "--neurons", path,
            "--seq", 256, "--tokens", 16384, "-t", 2, "-q"))
        for off, values in matrix.items():
            row = table["nll" if off == "none" else "nll, %s deactivated, top %g" % (off, top)]
            for label, value in values.items():
                losses.append(abs(math.log(value) - float(row[label])))
                demand(losses[-1] <= LOSS_TOLERANCE, "top %g, %s off, text %s: %.5f, not %s nats",
                       top, off, label, math.log(value), row[label])
    return "%d numbers of neurons equal, %d losses within %.1g nats" % (
        len(neurons), len(losses), max(losses))


# ---- Checks: selection and ablation ---------------------------------------------------------

# Methods of `lape find` with their penalties.
METHODS = [("lape", 0), ("lap", 0), ("lave", 0), ("lape", .109375), ("lape", 2.5)]


def method_words(method, penalty):
    return ["--method", method] + (["--penalty", penalty] if penalty else [])


@check
def selection(bench):
    """The neurons of the demo's counts by every method, exactly; and those of transformers' counts.
    """
    counts = read_counts(bench.demo_counts)
    p, means = (probabilities(counts.tokens, {k: counts.of[k][name] for k in counts.languages})
                for name in ("positive", "positive_sum"))
    theirs, sizes, different = bench.read_demo_neurons(), [], set()
    for top, rate, bar in ((TOP, .95, .95), (.01, .95, .95), (.2, .8, .8), (.5, .3, .9)):
        words = ["find", bench.demo_counts, "--top", top, "--filter", rate, "--bar", bar, "-q"]
        for method, penalty in METHODS:
            found = read_neurons(bench.lape(*words, *method_words(method, penalty)).decode())
            ties = compare_selection(found, counts.languages, p, top, rate, bar,
                                     score_of(method, p, means, penalty))
            demand(ties == 0, "%s, penalty %g, top %g: %d neurons differ", method, penalty, top,
                   ties)
            different.add((top, frozenset(found.neurons)))
        compare_drawn(read_neurons(bench.lape(*words, "--method", "random").decode()),
                      counts.languages, p, top, rate, bar)
        sizes.append(len(found.neurons))
    demand(len(different) == 4 * len(METHODS), "two methods select the same neurons")
    drawn = read_neurons(bench.lape("find", bench.demo_counts, "--method", "random", "--like",
                                    bench.demo_neurons, "-q").decode())
    demand(by_layer(drawn.neurons) == by_layer(theirs.neurons), "--like draws another number")
    differ = {place for place in set(theirs.neurons) | set(bench.demo_selection.neurons)
              if theirs.neurons.get(place) != bench.demo_selection.neurons.get(place)}
    return ("%s neurons at four settings equal, by each of %d methods; %d differ from "
            "transformers' counts' at top %g" % (", ".join(map(str, sizes)), len(METHODS), len(differ), TOP))


def random_counts(rng):
    """(tokens {language: n}, positive {language: [L, F]}) with ties, zeros and equal rows."""
    layers, width = int(rng.integers(1, 5)), int(rng.choice([1, 7, 30, 100, 200]))
    labels = ["l%d" % i for i in rng.permutation(40)[:int(rng.choice([2, 3, 5, 7, 10, 30]))]]
    labels.sort()
    most = int(rng.choice([1, 5, 10, 1000, 10 ** 9]))
    same = bool(rng.integers(2))
    tokens = {label: most if same else int(rng.integers(1, most + 1)) for label in labels}
    kind, positive = rng.integers(5), {}
    parts = rng.random((layers, width, len(labels)))
    if kind == 1:
        parts *= rng.random(parts.shape) < .2                       # mostly zeros
    elif kind == 2:
        parts = np.repeat(parts[..., :1], len(labels), -1)          # constant over languages
    elif kind == 3:
        parts = parts[:, rng.integers(0, width, width) // 3]        # rows that stand twice
    elif kind == 4:
        parts = np.round(parts * 4) / 4
    for k, label in enumerate(labels):
        positive[label] = np.minimum(np.floor(parts[..., k] * (tokens[label] + 1)),
                                     tokens[label]).astype(np.int64)
    return tokens, positive


@check
def selection_random(bench, trials=1500):
    """Selections of counts that gguf wrote: ties, zeros, constant rows, 2 to 30 languages. By
    entropy, also as the released code selects, and by one of the other methods."""
    rng, path = np.random.default_rng(SEED), bench.new("random.gguf")
    ties, neurons, empty, edges, like, cells = [], 0, 0, [], bench.new("like.tsv"), 0
    for trial in range(trials):
        tokens, positive = random_counts(rng)
        rates = [float(rng.choice(values)) for values in (
            (.05, .1, .25, .5, .5, .8, 1, 0), (.9, .8, .7, .5, .5, .3, .1, .05, .005, 0, 1),
            (.95, .8, .5, .2, .005, 0, 1))]
        sums = {label: 3 * counts[::-1, ::-1] for label, counts in positive.items()}
        write_counts(path, tokens, positive, sums)
        words = ["find", path, "-q"]
        for pair in zip(("--top", "--filter", "--bar"), rates):
            words += pair
        if trial % 4 == 0:                                  # some of the languages, in any order
            labels = rng.permutation(list(tokens))[:int(rng.integers(2, len(tokens) + 1))]
            tokens = {str(label): tokens[str(label)] for label in labels}
            words += ["--langs", ",".join(tokens)]
        labels = list(tokens)
        p, means = probabilities(tokens, positive), probabilities(tokens, {
            label: counts.copy() for label, counts in sums.items()})
        for method, penalty in METHODS[0], METHODS[1 + trial % (len(METHODS) - 1)]:
            text = bench.lape(*words, *method_words(method, penalty)).decode()
            found = read_neurons(text)
            ties.append(compare_selection(found, labels, p, *rates,
                                          score_of(method, p, means, penalty)))
            neurons += len(found.neurons)
            empty += not found.neurons
            if (method, penalty) == METHODS[0]:
                edges.append(compare_released(found, labels, p, *rates))
        if trial % 5 == 0:
            compare_drawn(read_neurons(bench.lape(*words, "--method", "random", "--seed", trial)
                                       .decode()), labels, p, *rates)
            with open(like, "w", encoding="utf-8") as file:
                file.write(text)
            drawn = read_neurons(bench.lape("find", path, "-q", "--method", "random", "--like",
                                            like).decode()).neurons
            demand(by_layer(drawn) == by_layer(found.neurons), "--like draws another number")
            cells += len(by_layer(drawn))
    edges = [edge for edge in edges if edge is not None]
    demand(len(edges) >= 1000, "only %d selections of the released code", len(edges))
    return ("%d counts files, %d neurons: sets, languages, thresholds and printed numbers equal; "
            "%d selections are empty; in %d scores within 1e-12 fell otherwise (%d neurons); %d "
            "as the released code has them (%d neurons at the edge fell otherwise); as many random "
            "neurons in %d layers of languages" % (
                trials, neurons, empty, sum(map(bool, ties)), sum(ties) // 2, len(edges),
                sum(edges) // 2, cells))


@check
def ablation(bench):
    """Perplexities, plain and with the neurons of each language at 0."""
    theirs = perplexities(bench.lape("ppl", DEMO, *bench.demo_words("eval"), "--neurons",
                                     bench.demo_neurons, "--seq", PIECE, "-t", 2, "-q"))
    neurons, off = bench.read_demo_neurons().neurons, []
    demand(list(theirs) == ["none"] + LANGUAGES, "the rows are %s", list(theirs))
    rise = {}
    for row, values in theirs.items():
        losses = (bench.demo_losses if row == "none" else
                  bench.ablated_losses(members(neurons, row)))
        demand(list(values) == LANGUAGES, "the columns are %s", list(values))
        for label in LANGUAGES:
            wanted = math.exp(losses[label])
            off.append(abs(values[label] / wanted - 1))
            demand(off[-1] <= PERPLEXITY_TOLERANCE, "%s off, text %s: %.9g, not %.9g", row, label,
                   values[label], wanted)
        rise[row] = values.get(row, 0) / theirs["none"].get(row, 1) - 1
    return "%d perplexities within %.1g; own language's rise %s" % (
        len(off), max(off), " ".join("%s %+.0f%%" % (row, 100 * rise[row]) for row in LANGUAGES))


@check
def ablation_by_mean(bench):
    """Perplexities with the neurons of a language at their mean in the others, which are of
    transformers' activations."""
    theirs = perplexities(bench.lape("ppl", DEMO, *bench.demo_words("eval"), "--neurons",
                                     bench.demo_neurons, "--counts", bench.demo_counts,
                                     "--off-how", "mean", "--seq", PIECE, "-t", 2, "-q"))
    neurons, off = bench.read_demo_neurons().neurons, []
    tokens = {label: bench.pieces(bench.demo_text(label, "count"), PIECE).numel()
              for label in LANGUAGES}
    means = {label: bench.demo_statistics[label]["sum"].double() / FIXED_POINT / tokens[label]
             for label in LANGUAGES}
    for row in ("fr", "zh"):
        others = sum(means[label] for label in LANGUAGES if label != row) / (len(LANGUAGES) - 1)
        with edited(bench.demo, {place: (0., float(others[place]))
                                 for place in members(neurons, row)}):
            for label in ("fr", "zh", "id"):
                wanted = math.exp(mean_loss(bench.demo, bench.pieces(
                    bench.demo_text(label, "eval"), PIECE)))
                off.append(abs(theirs[row][label] / wanted - 1))
                demand(off[-1] <= PERPLEXITY_TOLERANCE, "%s at means, text %s: %.9g, not %.9g", row,
                       label, theirs[row][label], wanted)
    return "%d perplexities within %.1g" % (len(off), max(off))


# ---- Checks: tokenizer ----------------------------------------------------------------------

def compare_encodings(bench, model, tokenizer, strings):
    """Strings without newlines, encoded one by one; returns the number of ids."""
    given = "".join(string + "\n" for string in strings).encode()
    theirs = bench.lape("tokenize", model, "--lines", given=given).split(b"\n")[:-1]
    demand(len(theirs) == len(strings), "%d lines of ids for %d strings", len(theirs),
           len(strings))
    ours = as_lines(tokenizer.encode(list(strings), num_threads=2))
    for string, a, b in zip(strings, theirs, ours):
        demand(a == b, "%r becomes %s, not %s", string[:80], a[:80].decode(), b[:80].decode())
    return sum(line.count(b" ") + 1 for line in theirs if line)


def compare_decodings(bench, model, tokenizer, lists):
    """Lists of ids, none a newline; returns how many are compared, being valid UTF-8."""
    given = b"".join(line + b"\n" for line in as_lines(lists))
    theirs = bench.lape("tokenize", model, "--decode", "--lines", given=given).split(b"\n")[:-1]
    demand(len(theirs) == len(lists), "%d lines of text for %d lists", len(theirs), len(lists))
    compared = 0
    for ids, text in zip(lists, theirs):
        with contextlib.suppress(UnicodeDecodeError):
            text, wanted = text.decode(), tokenizer.decode(ids)
            compared += 1
            demand(text == wanted, "%s becomes %r, not %r", ids[:20], text[:80], wanted[:80])
    return compared


def random_ids(rng, tokenizer, n):
    """Lists of any ids, without newlines in their text."""
    fit = [i for i in range(len(tokenizer))
           if "\n" not in tokenizer.id_to_piece(i) and tokenizer.id_to_piece(i) != "<0x0A>"]
    return [[rng.choice(fit) for _ in range(rng.randint(1, 8))] for _ in range(n)]


def lines_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read().split("\n")


def demo_lines(bench):
    return [line for label in LANGUAGES for line in lines_of(bench.demo_text(label, "count"))]


def pieces_of(tokenizer):
    return [tokenizer.id_to_piece(i) for i in range(len(tokenizer))]


def hard_texts(bench, tokenizer, n):
    words = [word for line in demo_lines(bench) for word in line.split(" ")]
    return hard_strings(n, words, pieces_of(tokenizer))


@check
def tokenizer_pieces(bench):
    """The tokenizer of a converted checkpoint against its tokenizer.model."""
    theirs = sentencepiece.SentencePieceProcessor(model_file=bench.shared("model",
                                                                          "tokenizer.model"))
    ours = rebuilt_tokenizer(bench.trained)
    for i, piece in enumerate(pieces_of(theirs)):
        demand(ours.id_to_piece(i) == piece and ours.get_score(i) == theirs.get_score(i),
               "piece %d differs", i)
    lines = [line for path in bench.texts[:28] for line in lines_of(path)[:300]]
    demand(ours.encode(lines) == theirs.encode(lines), "the encodings differ")
    return "%d pieces and scores equal, and so are the ids of %d lines" % (len(theirs), len(lines))


@check
def tokenizer_lines(bench):
    """Every line of every text."""
    lines = ids = 0
    for path in bench.texts:
        strings = lines_of(path)
        ids += compare_encodings(bench, DEMO, bench.tokenizer, strings)
        lines += len(strings)
    return "%d lines of %d files give the same %d ids" % (lines, len(bench.texts), ids)


@check
def tokenizer_files(bench):
    """Every text as a whole."""
    total = 0
    for path in bench.texts:
        with open(path, "rb") as file:
            theirs = bench.lape("tokenize", DEMO, given=file.read()).rstrip(b"\n")
        ours, = as_lines([bench.ids(path)])
        demand(theirs == ours, "%s differs", os.path.basename(path))
        total += len(bench.ids(path))
    return "%d whole files give the same %d ids" % (len(bench.texts), total)


@check
def tokenizer_hard(bench, n=20000):
    """Spaces, controls, scripts, emoji, spellings of pieces, any character."""
    strings = hard_texts(bench, bench.tokenizer, n) + ["", " ", "\u2581", "\0", "<s>", "<0x0A>"]
    ids = compare_encodings(bench, DEMO, bench.tokenizer, strings)
    whole = "\n".join(strings) + "\n\n \n"
    theirs = bench.lape("tokenize", DEMO, given=whole.encode()).rstrip(b"\n")
    demand(theirs == as_lines([bench.tokenizer.encode(whole)])[0],
           "the strings as one text differ")
    return "%d strings give the same %d ids, one by one and as one text" % (len(strings), ids)


@check
def tokenizer_decode(bench):
    """Ids to text, of encoded text and of ids at random."""
    strings = hard_texts(bench, bench.tokenizer, 5000) + demo_lines(bench)
    lists = bench.tokenizer.encode(strings)
    encoded = compare_decodings(bench, DEMO, bench.tokenizer, lists)
    demand(encoded == len(lists), "%d of %d decoded texts are not UTF-8", len(lists) - encoded,
           len(lists))
    lists = random_ids(random.Random(SEED), bench.tokenizer, 10000)
    compared = compare_decodings(bench, DEMO, bench.tokenizer, lists)
    return "%d encoded texts, and %d of %d lists of random ids (the others are not UTF-8)" % (
        encoded, compared, len(lists))


TRAININGS = [      # a name, languages of the texts, the trainer's settings
    ("byte fallback", "en fr vi".split(), dict(vocab_size=700, byte_fallback=True)),
    ("no bytes", "en id es fr".split(), dict(vocab_size=800, byte_fallback=False)),
    ("seven languages", LANGUAGES, dict(vocab_size=2600, byte_fallback=False,
                                        character_coverage=.99)),
    ("across spaces", "en es".split(), dict(vocab_size=800, byte_fallback=True,
                                    split_by_whitespace=False)),
    ("across spaces, no bytes, own symbols", "en fr".split(),
     dict(vocab_size=600, byte_fallback=False, split_by_whitespace=False,
          split_by_unicode_script=False, split_by_number=False,
          user_defined_symbols=["<sep>", "the", "th", " of ", "aba", "ba", "  ", "\u3002", "0"])),
    ("own symbols, no prefix", "es id".split(),
     dict(vocab_size=500, byte_fallback=True, add_dummy_prefix=False,
          user_defined_symbols=["<a>", "<a><b>", "e ", "\t", "\u00e9", "an", "nan", "<"])),
    ("few pieces, split digits", "id".split(),
     dict(vocab_size=330, byte_fallback=True, split_digits=True,
          allow_whitespace_only_pieces=True)),
]


def saved(bench, model, most="1GB"):
    """The directory of a checkpoint, which the next one overwrites."""
    path = bench.new("checkpoint")
    shutil.rmtree(path, ignore_errors=True)
    model.save_pretrained(path, max_shard_size=most)
    return path


def trained_model(bench, languages, settings, model=None):
    """(GGUF model, sentencepiece's tokenizer) of a tokenizer trained on the demo's texts."""
    prefix = bench.new("trained")
    sentencepiece.SentencePieceTrainer.train(
        input=[bench.demo_text(label, "count") for label in languages], model_prefix=prefix,
        model_type="bpe", normalization_rule_name="identity", remove_extra_whitespaces=False,
        minloglevel=2, num_threads=2, **settings)
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=prefix + ".model")
    directory = saved(bench, model or transformers.LlamaForCausalLM(
        transformers.LlamaConfig(vocab_size=len(tokenizer) + 3, hidden_size=8, head_dim=4,
                                 num_attention_heads=2, num_hidden_layers=1, intermediate_size=8)))
    shutil.copy(prefix + ".model", os.path.join(directory, "tokenizer.model"))
    return bench.convert(directory, bench.new("trained.gguf")), tokenizer


@check
def tokenizer_trained(bench):
    """Tokenizers of other kinds, trained here and brought in by convert.py."""
    strings = decoded = ids = 0
    for name, languages, settings in TRAININGS:
        model, tokenizer = trained_model(bench, languages, settings)
        texts = hard_texts(bench, tokenizer, 3000) + demo_lines(bench)
        try:
            ids += compare_encodings(bench, model, tokenizer, texts)
            whole = "\n".join(texts)
            theirs = bench.lape("tokenize", model, given=whole.encode()).rstrip(b"\n")
            demand(theirs == as_lines([tokenizer.encode(whole)])[0], "one long text differs")
            decoded += compare_decodings(bench, model, tokenizer, tokenizer.encode(texts))
            decoded += compare_decodings(bench, model, tokenizer,
                                         random_ids(random.Random(SEED), tokenizer, 2000))
        except Wrong as wrong:
            raise Wrong("%s: %s" % (name, wrong))
        strings += len(texts)
    return "%d tokenizers: %d strings give the same %d ids, %d lists of ids the same text" % (
        len(TRAININGS), strings, ids, decoded)


# ---- Checks: generation ---------------------------------------------------------------------

PROMPTS = [
    "My neighbour upstairs", "How much are", "我们楼上", "Notre voisine du dessus",
    "¿A cuánto está el", "Cô hàng xóm", "Tetangga kami di", "上の階に住む",
    "  two  spaces ", "\U0001f600 \u200b<0x0A></s>", "1, 2, 3,",
]
NEW_TOKENS = 64


def generations(bench, *words, model=DEMO, prompts=PROMPTS):
    """[(output text as printed, ids)] by lape."""
    return bench.generated(model, prompts, NEW_TOKENS, *words)


def follow_all(bench, made, edits=None, process=None):
    """(tokens, near-ties) over all prompts."""
    with edited(bench.demo, edits or {}):
        ties = [follow(bench.demo, bench.prompt_ids(prompt), ids, NEW_TOKENS, LOGIT_TIE,
                       process)
                for prompt, (_, ids) in zip(PROMPTS, made)]
    return sum(len(ids) for _, ids in made), sum(ties)


def escaped(text):
    """Text in a cell of a table."""
    for character, letter in ("\\", "\\"), ("\t", "t"), ("\n", "n"), ("\r", "r"):
        text = text.replace(character, "\\" + letter)
    return text


def greedy(bench, text, new_tokens=NEW_TOKENS):
    """What transformers' own generate() continues a prompt with."""
    prompt = torch.tensor([bench.prompt_ids(text)])
    with torch.no_grad():
        made = bench.demo.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                                   max_new_tokens=new_tokens, eos_token_id=2, pad_token_id=2)
    made = made[0, prompt.shape[1]:].tolist()
    return made[:made.index(2)] if 2 in made else made


@check
def generation(bench):
    """Greedy continuations of prompts in all languages: ids and text."""
    made = generations(bench)
    tokens, ties = follow_all(bench, made)
    equal = sum(greedy(bench, prompt) == ids
                for prompt, (_, ids) in zip(PROMPTS, made))
    demand(ties or equal == len(PROMPTS), "%d of %d outputs equal generate()'s", equal,
           len(PROMPTS))
    texts = 0
    for prompt, (cell, ids) in zip(PROMPTS, made):
        before, after = (bench.tokenizer.decode(list_of_ids) for list_of_ids in (
            bench.prompt_ids(prompt), bench.prompt_ids(prompt) + ids))
        if "\ufffd" not in after:
            texts += 1
            demand(cell.decode() == escaped(after[len(before):]), "prompt %r: the text is %r",
                   prompt, cell)
    return "%d prompts, %d tokens, %d near-ties, %d outputs equal generate()'s; %d texts equal" % (
        len(PROMPTS), tokens, ties, equal, texts)


@check
def repetition_penalty(bench):
    """Greedy with a penalty on what was seen before."""
    found = []
    for penalty in (1.3, .8):
        process = transformers.RepetitionPenaltyLogitsProcessor(penalty)
        made = generations(bench, "--repeat-penalty", penalty)
        found.append(follow_all(bench, made, process=process))
    return "penalties 1.3 and 0.8: %d tokens, %d near-ties" % tuple(map(sum, zip(*found)))


STEERINGS = [      # how, strength, off, on
    ("replace", 1, "en", None), ("replace", 1, "id", None), ("replace", 1, None, "id"),
    ("replace", 15, "en", "zh"), ("add", 20, "en", "id"), ("add", -4, None, "es"),
    ("scale", 3, None, "fr"), ("scale", 2.5, "zh", "ja"), ("diffmean", 20, "en", "vi"),
    ("diffmean", -3.5, None, "ja"),
]


@check
def steering(bench):
    """Greedy continuations with neurons switched off and strengthened."""
    plain, found, changed = generations(bench), [], 0
    counts, neurons = read_counts(bench.demo_counts), bench.read_demo_neurons().neurons
    for how, strength, off, on in STEERINGS:
        words = ["--neurons", bench.demo_neurons, "--counts", bench.demo_counts]
        words += ["--off", off] * bool(off)
        words += ["--on", on, "--how", how, "--strength", strength] * bool(on)
        made = generations(bench, *words)
        try:
            edits = steering_edits(counts, neurons, how, strength, off, on)
            found.append(follow_all(bench, made, edits))
        except Wrong as wrong:
            raise Wrong("--off %s --on %s --how %s --strength %g: %s" % (off, on, how, strength,
                                                                         wrong))
        demand(made != plain, "--off %s --on %s --how %s changes nothing", off, on, how)
        changed += sum(a != b for a, b in zip(made, plain))
    tokens, ties = map(sum, zip(*found))
    return "%d settings, %d tokens, %d near-ties; %d of %d outputs are changed" % (
        len(STEERINGS), tokens, ties, changed, len(STEERINGS) * len(PROMPTS))


def nucleus(logits, temperature, top_p):
    """(probabilities of the nucleus {id: p}, ids that rounding may let in or out)."""
    p, order = torch.sort((logits.double() / temperature).softmax(-1), descending=True)
    before = p.cumsum(0) - p                      # the first that together reach top_p
    inside = before < top_p
    edge = {int(i) for i in order[(before - top_p).abs() < NUCLEUS_EDGE]}
    kept = p[inside] / p[inside].sum()
    return {int(i): value.item() for i, value in zip(order[inside], kept)}, edge


def excess(drawn, expected):
    """Pearson's chi-square over classes of 5 expected or more, as standard deviations above what
    chance gives; and the classes."""
    n, rest, total, classes = sum(drawn.values()), [0, 0.], 0., 0
    for token, p in expected.items():
        if n * p < 5:
            rest = [rest[0] + drawn[token], rest[1] + n * p]
            continue
        total += (drawn[token] - n * p) ** 2 / (n * p)
        classes += 1
    if rest[1] > 0:
        total += (rest[0] - rest[1]) ** 2 / rest[1]
        classes += 1
    return (total - (classes - 1)) / math.sqrt(2 * max(1, classes - 1)), classes


# Temperature, top-p, penalty on what was seen, seeds. The last makes every negative logit of a
# token seen before impossible, and would make it likely if it were divided like a positive one.
SAMPLINGS = [(.7, .8, 1, 2000), (3, .97, 1000, 400)]


def draws(bench, prompts, temperature, top_p, penalty, seeds):
    """For every prompt {first token: how often it was drawn}."""
    path, drawn = bench.new("sampled.txt"), [collections.Counter() for _ in prompts]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(prompts))
    for seed in range(seeds):
        rows = bench.lape("generate", DEMO, "-f", path, "-n", 1, "--temp", temperature, "--top-p",
                          top_p, "--repeat-penalty", penalty, "--seed", seed, "-t", 1,
                          "-q").split(b"\n")[1:-1]
        for counter, row in zip(drawn, rows):
            ids = row.split(b"\t")[-1]
            counter[int(ids) if ids else 2] += 1                    # nothing: the end was drawn
    return drawn


def compare_draws(bench, prompt, counter, temperature, top_p, penalty):
    ids = bench.prompt_ids(prompt)
    process = transformers.RepetitionPenaltyLogitsProcessor(float(penalty))
    logits = process(torch.tensor([ids]), push(bench.demo, ids)[0][-1:])[0]
    expected, edge = nucleus(logits, temperature, top_p)
    outside = set(counter) - set(expected) - edge
    demand(not outside, "prompt %r: tokens %s are not of the nucleus", prompt, sorted(outside)[:9])
    above, classes = excess(counter, expected)
    demand(above < 4, "prompt %r: chi-square is %.1f deviations above chance", prompt, above)
    return "%d tokens, chi-square of %d classes %+.1f deviations from chance" % (
        len(expected), classes, above)


@check
def sampling(bench):
    """The first token at a temperature and a top-p, over many seeds."""
    prompts, found = [PROMPTS[0], PROMPTS[4], demo_lines(bench)[0]], []
    for setting in SAMPLINGS:
        drawn = draws(bench, prompts, *setting)
        found.append("temperature %g, top-p %g, penalty %g, %d seeds: " % setting + "; ".join(
            compare_draws(bench, *pair, *setting[:3]) for pair in zip(prompts, drawn)))
    return ". ".join(found)


# ---- Checks: other models -------------------------------------------------------------------

Tiny = collections.namedtuple("Tiny", "name family dtype sharded types settings")
ALL_TYPES = ("f32", "f16", "bf16", "q8_0")
TINY = [
    Tiny("GQA 4/2, untied", "Llama", torch.float32, False, ("f32", "f16", "bf16"),
         dict(num_attention_heads=4, num_key_value_heads=2)),
    Tiny("3/3 heads, tied, sharded bf16", "Llama", torch.bfloat16, True, ("f32",),
         dict(num_attention_heads=3, num_key_value_heads=3, tie_word_embeddings=True)),
    Tiny("6/1 heads, f16, theta 1e6", "Llama", torch.float16, False, ("bf16",),
         dict(num_attention_heads=6, num_key_value_heads=1, rms_norm_eps=1e-12,
              rope_parameters={"rope_type": "default", "rope_theta": 1e6})),
    Tiny("heads of 20, sharded f32", "Llama", torch.float32, True, ("f16",),
         dict(num_attention_heads=4, num_key_value_heads=2, head_dim=20, rms_norm_eps=1e-3)),
    Tiny("all types, tied", "Llama", torch.float32, False, ALL_TYPES,
         dict(num_attention_heads=4, num_key_value_heads=2, hidden_size=96, head_dim=40,
              intermediate_size=224, tie_word_embeddings=True)),
    Tiny("wide rows, one layer, bf16", "Llama", torch.bfloat16, False, ("q8_0",),
         dict(num_attention_heads=2, num_key_value_heads=1, hidden_size=544, head_dim=64,
              intermediate_size=800, num_hidden_layers=1)),
    Tiny("window 16", "Mistral", torch.float32, False, ("bf16",),
         dict(num_attention_heads=4, num_key_value_heads=2, sliding_window=16)),
    Tiny("window 1, heads of 32", "Mistral", torch.bfloat16, True, ("f16",),
         dict(num_attention_heads=3, num_key_value_heads=3, head_dim=32, sliding_window=1)),
    Tiny("window 99, tied", "Mistral", torch.float16, False, ("f32",),
         dict(num_attention_heads=6, num_key_value_heads=1, sliding_window=99,
              tie_word_embeddings=True)),
    Tiny("no window, theta 1e6", "Mistral", torch.float32, False, (),
         dict(num_attention_heads=4, num_key_value_heads=2, sliding_window=None,
              rope_parameters={"rope_type": "default", "rope_theta": 1e6})),
]


def tiny_model(tiny):
    """A random model, in float32, whose every weight matters."""
    torch.manual_seed(SEED)
    settings = dict(dict(vocab_size=331, hidden_size=72, intermediate_size=200,
                         num_hidden_layers=3, max_position_embeddings=512), **tiny.settings)
    settings["initializer_range"] = 1.7 / math.sqrt(settings["hidden_size"])
    model = getattr(transformers, tiny.family + "ForCausalLM")(
        getattr(transformers, tiny.family + "Config")(**settings))
    for name, values in model.named_parameters():
        if "norm" in name:
            values.data = 1 + .3 * torch.randn_like(values)
    if tiny.dtype == torch.float16 and not model.config.tie_word_embeddings:
        model.model.embed_tokens.weight.data *= 3e-4                # many below f16's normal range
    return model


def compare_narrowed(model, narrow, kind):
    """Demands a converted file's numbers to be what gguf's own quantiser makes of the matrices."""
    state = narrow.state_dict()
    for name, values in model.state_dict().items():
        values = values.float().numpy()
        if values.ndim == 2:
            quantised = gguf.quantize(values, gguf.GGMLQuantizationType[kind.upper()])
            values = gguf.dequantize(quantised, gguf.GGMLQuantizationType[kind.upper()])
        demand(np.array_equal(state[name].numpy(), values), "%s as %s differs", name, kind)


def compare_tiny(bench, tiny):
    """[(worst logit, worst by layer)] of one model in all its types."""
    directory = saved(bench, tiny_model(tiny).to(tiny.dtype), "100KB" if tiny.sharded else "1GB")
    shards = sum(name.endswith(".safetensors") for name in os.listdir(directory))
    demand((shards > 1) == tiny.sharded, "%d files of weights", shards)
    model = getattr(transformers, tiny.family + "ForCausalLM").from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.randint(0, model.config.vocab_size, (100,)).tolist()
    path = bench.convert(directory, bench.new("tiny.gguf"))
    found = [compare_forward(bench, path, model, ids)]
    for kind in tiny.types:
        path = bench.convert(directory, bench.new("tiny-%s.gguf" % kind), kind)
        narrow = reference_model(path)
        compare_narrowed(model, narrow, kind)
        found.append(compare_forward(bench, path, narrow, ids))
    return found


@check
def tiny_models(bench):
    """Random models of many shapes through convert.py, as stored and in other types."""
    found = []
    for tiny in TINY:
        try:
            found += compare_tiny(bench, tiny)
        except Wrong as wrong:
            raise Wrong("%s, %s: %s" % (tiny.family, tiny.name, wrong))
    logits, layers = zip(*found)
    return "%d models in %d files: logits within %.2g, gates and activations within %.2g" % (
        len(TINY), len(found), max(logits), max(map(max, layers)))


def weights_moved(base, tuned):
    """|tuned - base| / |base| [L, F] over a neuron's rows of gate and up and its column of down."""
    def weights(model):
        return torch.stack([torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight,
                                       mlp.down_proj.weight.T], 1).detach().double()
                            for mlp in (block.mlp for block in model.model.layers)])
    return (weights(tuned) - weights(base)).norm(dim=-1) / weights(base).norm(dim=-1)


def train(model, part):
    """A copy whose attention, and part of whose neurons, are no longer what they were."""
    model = copy.deepcopy(model)
    for block in model.model.layers:
        block.self_attn.q_proj.weight.data *= 1.5
        rows = torch.rand(model.config.intermediate_size) < part
        for weight in (block.mlp.gate_proj.weight.data, block.mlp.up_proj.weight.data,
                       block.mlp.down_proj.weight.data.T):
            weight[rows] += torch.randn_like(weight[rows]) * .03 * torch.rand(int(rows.sum()), 1)
    return model


@check
def changes_of_weights(bench):
    """tools/changes.py, and `find` on what it writes, over random LLaMAs in all types, some of whose
    neurons were changed."""
    neurons = 0
    for tiny in TINY[0], TINY[4], TINY[5]:
        base = tiny_model(tiny)
        models = {"base": base, "aa": train(base, .2), "bb": train(base, .3), "cc": train(base, .1)}
        kinds = [("f32", "f32"), ("bf16", "bf16"), ("f32", "f16")]
        if not base.config.intermediate_size % 32 and not base.config.hidden_size % 32:
            kinds += [("q8_0", "q8_0"), ("f32", "q8_0")]
        for of_base, of_tuned in kinds:
            paths = {}
            for label, model in models.items():
                paths[label] = bench.convert(saved(bench, model), bench.new(label + ".gguf"),
                                             of_base if label == "base" else of_tuned)
            held = {label: reference_model(path) for label, path in paths.items()}
            languages = ["cc", "aa", "bb"]
            p = torch.stack([weights_moved(held["base"], held[label]) for label in languages], -1)
            bench.run(sys.executable, CHANGES, paths["base"], "-o", bench.new("changes.gguf"),
                      *("%s=%s" % (k, paths[k]) for k in ("aa", "bb", "cc")))
            demand(p.max() < 1, "a change of %g: find has but a part of it", p.max())
            words = ["find", bench.new("changes.gguf"), "-q", "--langs", ",".join(languages)]
            for penalty, rates in (0, (.01, .95, .95)), (0, (.3, .5, .8)), (.3, (.1, .8, .9)):
                found = read_neurons(bench.lape(*words, *method_words("lape", penalty), "--top",
                                                rates[0], "--filter", rates[1], "--bar",
                                                rates[2]).decode())
                ties = compare_selection(found, languages, p, *rates,
                                         score_of("lape", p, None, penalty))
                demand(ties == 0, "%s as %s: %d neurons differ", of_tuned, of_base, ties)
                demand(found.neurons, "no neurons are selected")
                neurons += len(found.neurons)
    return "%d neurons of 3 bases, each trained thrice, in all types: equal" % neurons


@check
def generation_window(bench):
    """Greedy continuations by a random Mistral whose window is shorter than they are."""
    model = tiny_model(Tiny("", "Mistral", torch.float32, False, (), dict(
        num_attention_heads=4, num_key_value_heads=2, sliding_window=9, vocab_size=800)))
    _, languages, settings = TRAININGS[1]
    path, tokenizer = trained_model(bench, languages, settings, model)
    model = reference_model(path)
    made = generations(bench, model=path)
    ties = sum(follow(model, [1] + tokenizer.encode(prompt), ids, NEW_TOKENS, LOGIT_TIE)
               for prompt, (_, ids) in zip(PROMPTS, made))
    return "window 9: %d tokens, %d different, %d near-ties" % (
        sum(len(ids) for _, ids in made), len({i for _, ids in made for i in ids}), ties)


# ---- Checks: what must not matter -----------------------------------------------------------

@check
def invariance(bench):
    """Threads, batches and shards, and texts given as ids, change no byte of a counts file."""
    texts = [bench.demo_text(label, "count") for label in LANGUAGES[:2]]
    path = bench.new("again.gguf")

    def counted(*more, files=texts):
        words = map("=".join, zip(LANGUAGES, files))
        bench.lape("count", DEMO, *words, "--seq", 96, "-q", "-o", path, *more)
        with open(path, "rb") as file:
            return file.read()
    first = counted("-t", 1, "--batch", 1)
    for threads in (1, 2, 3):
        for batch in (1, 3, 7):
            demand(counted("-t", threads, "--batch", batch) == first,
                   "%d threads with batches of %d give another file", threads, batch)
    parts = []
    for i in (3, 1, 2):
        counted("-t", 2, "--shard", "%d/3" % i)
        parts.append(bench.new("part%d.gguf" % i))
        os.replace(path, parts[-1])
    bench.lape("merge", *parts, "-o", path)
    with open(path, "rb") as file:
        demand(file.read() == first, "three merged shards give another file")
    ids = [bench.new("ids.npy"), bench.new("ids2.bin")]
    for kind in ("<i8", "<u2"):
        np.save(ids[0], np.array(bench.ids(texts[0]), dtype=kind))
        np.array(bench.ids(texts[1]), dtype="<u2").tofile(ids[1])
        demand(counted(files=ids) == first, "ids instead of texts give another file")
    return ("9 combinations of threads and batches, 3 merged shards, and ids instead of texts give "
            "the same %d bytes" % len(first))


# ---- Golden values --------------------------------------------------------------------------

GOLDEN_HEAD = """\
# Golden values of demo/model.gguf, for tests that have none of the libraries that made them.
# Made by `make golden` with transformers %s, torch %s (CPU, float32, eager
# attention), sentencepiece %s, gguf %s. lape had no part in it.
# Fields are parted by tabs: kind, key, values. In texts \\t \\n \\r \\\\ are escapes.
#   languages  -     the labels, in the order of the `ablated` rows' values
#   encode     text  its token ids, without a begin-of-sequence token (none for an empty text)
#   prompt     -     token ids; the logits are those of its last position
#   top        id    logit: the ten largest, in order
#   logit      id    logit at 64 places of the vocabulary
#   greedy     text  ids of the 32 likeliest next tokens, one after the other; the prompt is id 1
#                    and then the text's ids
#   tokens     lang  tokens of demo/text/LANG.count.txt in whole pieces of 128, no BOS
#   positive   lang  of these, activations > 0 by layer, up to the gates that rounding turns around:
#                    from positive - near_above to positive + near_below, summed over the layer
#   nll        lang  nats a predicted token of demo/text/LANG.eval.txt, pieces of 128, no BOS
#   neurons    lang  neurons of the language at top 0.05, filter 0.95, bar 0.95
#   ablated    off   nll of every language with the neurons of language `off` at 0
"""
GOLDEN_TEXTS = [
    "The kettle whistled twice, then  stopped.", "  Two spaces before, two after  ", "",
    "她今天早上买了三斤苹果。",
    "L’été, où l’on dîne tard\u202f: «\u00a0déjà\u00a0?\u00a0»",
    "¿Qué mañana, pingüino? ¡Olé!\tSí.",
    "Đường này hẹp lắm, đừng chạy nhanh nhé",
    "Kucing-kucing itu tidur di atas meja ▁ makan 12.345,67.",
    "猫が窓辺で眠っている。コーヒー？",
    "e\u0301 \U0001f468\u200d\U0001f469\u200d\U0001f467 한국어 \u0645\u0631\u062d\u0628\u0627 "
    "\u0928\u092e\u0938\u094d\u0924\u0947",
    "line one\nline two\r\n\ttabbed \\ <s></s><unk><0x41>",
    "\x01\x7f\u00a0\u200b\ufeff\U0010ffff\ufffd",
]
# At every step the likeliest next token is 0.02 or more above the second: no rounding turns that.
GOLDEN_PROMPTS = PROMPTS[0], PROMPTS[2], PROMPTS[5], PROMPTS[6]


def golden_rows(bench):
    """The rows, as lists of text."""
    model, chosen = bench.demo, bench.demo_selection.neurons
    rows = [["languages", "-"] + LANGUAGES]
    rows += [["encode", escaped(text)] + bench.tokenizer.encode(text) for text in GOLDEN_TEXTS]
    prompt = bench.prompt_ids("".join(lines_of(bench.demo_text("fr", "eval"))[:3]))[:20]
    logits = push(model, prompt)[0][-1]
    rows.append(["prompt", "-"] + prompt)
    places = [("top", i) for i in logits.topk(10).indices.tolist()]
    places += [("logit", i) for i in range(16, len(logits), len(logits) // 64)]
    rows += [[kind, i, "%.7g" % logits[i]] for kind, i in places]
    rows += [["greedy", escaped(text)] + greedy(bench, text, 32) for text in GOLDEN_PROMPTS]
    for label in LANGUAGES:
        pieces = bench.pieces(bench.demo_text(label, "count"), PIECE)
        rows.append(["tokens", label, pieces.numel()])
        rows.append(["positive", label] + bench.demo_statistics[label]["positive"].sum(1).tolist())
    rows += [["nll", label, "%.8f" % bench.demo_losses[label]] for label in LANGUAGES]
    rows += [["neurons", label, len(members(chosen, label))] for label in LANGUAGES]
    for off in LANGUAGES:
        losses = bench.ablated_losses(members(chosen, off))
        rows.append(["ablated", off] + ["%.8f" % losses[label] for label in LANGUAGES])
    return [[str(field) for field in row] for row in rows]


def write_golden(bench):
    versions = (transformers.__version__, torch.__version__.split("+")[0],
                sentencepiece.__version__, version_of("gguf"))
    text = GOLDEN_HEAD % versions + "".join("\t".join(row) + "\n" for row in golden_rows(bench))
    with open(GOLDEN + ".tmp", "w", encoding="utf-8", newline="") as file:
        file.write(text)
    os.replace(GOLDEN + ".tmp", GOLDEN)
    print("%s: %d bytes" % (GOLDEN, len(text.encode())))


def version_of(package):
    import importlib.metadata
    return importlib.metadata.version(package)


@check
def golden(bench):
    """golden.tsv holds what would be written now, but for the last digits."""
    with open(GOLDEN, encoding="utf-8", newline="") as file:
        theirs = [line.split("\t") for line in file.read().split("\n")[:-1] if line[0] != "#"]
    ours, off = golden_rows(bench), [0.]
    demand(len(theirs) == len(ours), "%d rows, not %d", len(theirs), len(ours))
    for a, b in zip(theirs, ours):
        real = a[0] in ("top", "logit", "nll", "ablated")
        demand(a[:2] == b[:2] and len(a) == len(b) and (real or a[0] == "positive" or a == b),
               "row %s differs", a[:2])
        if real:
            off += [abs(float(x) - float(y)) for x, y in zip(a[2:], b[2:])]
    demand(max(off) <= LOGIT_TOLERANCE, "a number is off by %.3g", max(off))
    return "%d rows, numbers within %.1g" % (len(ours), max(off))


# ---- The command line -----------------------------------------------------------------------

def run_checks(bench, only):
    found = [report(name, function, bench) for name, function in CHECKS
             if not only or name in only]
    return summary(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", nargs="?", choices=["check", "golden"], default="check")
    parser.add_argument("--lape", default=LAPE, help="the program")
    parser.add_argument("--shared", default=SHARED,
                        help="texts and a checkpoint that do not come with the program")
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="of the checks: " +
                        ", ".join(name for name, _ in CHECKS))
    args = parser.parse_args()
    be_quiet()
    only = set(filter(None, args.only.split(",")))
    unknown = only - {name for name, _ in CHECKS}
    if unknown:
        parser.error("no such check: " + ", ".join(sorted(unknown)))
    with tempfile.TemporaryDirectory(prefix="lape-oracle-") as scratch:
        bench = Bench(args.lape, args.shared, scratch)
        if args.command == "golden":
            return write_golden(bench)
        return run_checks(bench, only)


if __name__ == "__main__":
    sys.exit(main())
