#!/usr/bin/env python3
"""Every field of a model's files, and what tools/convert.py does with it.

FIELDS has a row a field, and changes of it: each has to change what is written ("used"), to be
refused in one line ("refused"), or to do nothing ("harmless"), and then the row says why it may.
What a class of transformers asks its settings is taken from transformers 5.24. test/README.md shows
the table; with --write this program writes it. By the standard library alone. The last line on
stdout is `N passed, N failed`.
"""

import functools
import io
import json
import random
import struct
import sys
import types
import zipfile

import fields                                        # which has said where tools are
import convert
from checkpoint.config import COMMON, ROPE_KEYS, describe
from checkpoint.plan import rows_of
from checkpoint.settings import Config
from fields import GONE, HARMLESS, REFUSED, USED, Row
from test_convert import Call, Global, Persistent, Pt, pickled, product, safetensors, sentencepiece

# ---- The bases: a small model of each family ------------------------------------------------

SMALL = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 8,
         "intermediate_size": 12, "max_position_embeddings": 16, "dtype": "float32",
         "bos_token_id": 1, "eos_token_id": 2}
SPLIT = dict(SMALL, num_key_value_heads=1, head_dim=4, rope_theta=5000.0, rms_norm_eps=1e-5)
NAMES = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads",
         "n_inner": "intermediate_size", "n_positions": "max_position_embeddings"}
GEMMA = dict(SPLIT, tie_word_embeddings=True)
GEMMA2 = dict(GEMMA, hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=16,
              sliding_window=4)
LINEAR = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 500}
TWO = {"full_attention": dict(LINEAR, rope_theta=5e5),
       "sliding_attention": {"rope_type": "default", "rope_theta": 5e3}}


def config(name, kind, values, **more):
    """A config.json."""
    values = dict(values, architectures=[name], model_type=kind, **more)
    return {key: value for key, value in values.items() if value is not ...}


CONFIGS = {
    "llama": config("LlamaForCausalLM", "llama", SPLIT),
    "mistral": config("MistralForCausalLM", "mistral", SPLIT, sliding_window=4),
    "qwen2": config("Qwen2ForCausalLM", "qwen2", SPLIT, use_sliding_window=False),
    "qwen3": config("Qwen3ForCausalLM", "qwen3", SPLIT, use_sliding_window=False),
    "gpt2": config("GPT2LMHeadModel", "gpt2",
                   {key: SMALL[NAMES.get(key, key)] for key in (
                       "vocab_size", "bos_token_id", "eos_token_id", *NAMES)}),
    "bloom": config("BloomForCausalLM", "bloom", SMALL, n_layer=2, n_head=2, seq_length=16,
                    num_hidden_layers=..., num_attention_heads=..., intermediate_size=...,
                    max_position_embeddings=...),
    "opt": config("OPTForCausalLM", "opt", SMALL, ffn_dim=12, intermediate_size=...),
    "phi": config("PhiForCausalLM", "phi", SPLIT, partial_rotary_factor=0.5, rms_norm_eps=...,
                  layer_norm_eps=1e-4),
    "gemma": config("GemmaForCausalLM", "gemma", GEMMA, hidden_act="gelu_pytorch_tanh"),
    "gemma2": config("Gemma2ForCausalLM", "gemma2", GEMMA2, attn_logit_softcapping=40.0,
                     final_logit_softcapping=20.0),
    "gemma3": config("Gemma3ForCausalLM", "gemma3_text", GEMMA2, rope_local_base_freq=3e3),
    "sets": config("Gemma3ForCausalLM", "gemma3_text", GEMMA2, rope_theta=..., rope_parameters=TWO),
    "sees": config("Gemma3ForConditionalGeneration", "gemma3", {}, vision_config={},
                   text_config=dict(GEMMA2, model_type="gemma3_text")),
    "cohere": config("CohereForCausalLM", "cohere", SPLIT, tie_word_embeddings=True,
                     logit_scale=0.25, rms_norm_eps=..., layer_norm_eps=1e-4),
    "olmo2": config("Olmo2ForCausalLM", "olmo2", SPLIT),
    "stablelm": config("StableLmForCausalLM", "stablelm", SPLIT, partial_rotary_factor=0.5,
                       use_qkv_bias=True, rms_norm_eps=..., layer_norm_eps=1e-4),
    "phi3": config("Phi3ForCausalLM", "phi3", SPLIT, sliding_window=4, partial_rotary_factor=0.5),
    "smollm3": config("SmolLM3ForCausalLM", "smollm3", SPLIT, num_hidden_layers=5,
                      tie_word_embeddings=False),
    "granite": config("GraniteForCausalLM", "granite", SPLIT, embedding_multiplier=12.0,
                      residual_multiplier=0.22, attention_multiplier=0.25, logits_scaling=8.0),
}
for _name, _rope in ("linear", LINEAR), ("llama3", LLAMA3):
    CONFIGS[_name] = dict(CONFIGS["llama"], rope_scaling=_rope)
CONFIGS["parameters"] = dict(CONFIGS["llama"], rope_parameters=dict(LINEAR, rope_theta=3e3))
CONFIGS["unbiased"] = dict(CONFIGS["stablelm"], use_qkv_bias=False)
CONFIGS["tied"] = dict(CONFIGS["llama"], tie_word_embeddings=True)
for _name in "pieces", "shards", "bin", "bins":      # a tokenizer beside it, and ways to store it
    CONFIGS[_name] = CONFIGS["llama"]

EMBEDDINGS, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
FIRST = "model.layers.0."
FREQUENCIES = FIRST + "self_attn.rotary_emb.inv_freq"
Q, K = (FIRST + "self_attn.%s_proj.weight" % part for part in "qk")
UP = FIRST + "mlp.up_proj.weight"


def shapes(values):
    """name -> shape of the tensors that a config.json calls for, by the tables of convert.py, which
    test_convert.py checks."""
    family = convert.FAMILIES[values["architectures"][0]]
    inner = dict(values.get(family.part) or values)
    inner.update({name: inner[alias] for name, alias in family.aliases.items() if alias in inner})
    inner["rope_type"] = "default"
    sizes, _ = describe(family, Config("", inner, family.defaults))
    tied = inner.get("tie_word_embeddings", family.defaults["tie_word_embeddings"])
    return {row.theirs: [sizes[size] for size in row.shape.split()]
            for row in rows_of(family, sizes["layers"])
            if not (tied and row.theirs == HEAD) and (not row.when or inner[row.when])}


@functools.lru_cache(maxsize=None)
def tensors(base):
    """name -> (dtype, shape, bytes) of a base, the same every time."""
    rng, found = random.Random(1), {}
    for name, shape in shapes(CONFIGS[base]).items():
        numbers = [rng.gauss(0, 1) for _ in range(product(shape))]
        found[name] = ("F32", shape, struct.pack("<%df" % len(numbers), *numbers))
    if base == "tied":
        found[HEAD] = found[EMBEDDINGS]              # stored once more, as some are
    if base == "llama":
        found[Q] = ("F16", found[Q][1], found[Q][2][1::2])
        found[FREQUENCIES] = ("F32", [2], bytes(8))
    return found


def halves(base):
    """Of the base's tensors every second, and the others."""
    items = list(tensors(base).items())
    return dict(items[0::2]), dict(items[1::2])


def archive(made=None, pt=None):
    """What torch.save writes of a state_dict, or of what `made` makes of it."""
    pt, state = pt or Pt(), {}
    for name, (_, shape, raw) in tensors("bin").items():
        state[name] = pt.tensor(struct.unpack("<%df" % product(shape), raw), shape, "f")
    return pt.file(made(pt, state) if made else state)


def half_archive(half):
    pt, state = Pt(), {}
    for name, (_, shape, raw) in halves("bins")[half].items():
        state[name] = pt.tensor(struct.unpack("<%df" % product(shape), raw), shape, "f")
    return pt.file(state)


# ---- Changes that are more than a value -----------------------------------------------------

def header(change):
    """Of safetensors: the header, parsed, and the data after change(header, data)."""
    def changed(whole):
        length, = struct.unpack("<Q", whole[:8])
        parts = change(json.loads(whole[8:8 + length]), whole[8 + length:])
        text = parts[0] if isinstance(parts[0], bytes) else json.dumps(parts[0]).encode()
        return struct.pack("<Q", len(text)) + text + parts[1]
    return changed


def entry(name, **change):
    """One entry of the header with other values."""
    return header(lambda head, data: (dict(head, **{name: dict(head[name], **change)}), data))


def moved(start, by, data_too):
    """Everything from one byte of the data on `by` bytes later, so that there is a hole; or said to
    be, so that there is an overlap."""
    def change(head, data):
        for name, one in head.items():
            if name != "__metadata__" and one["data_offsets"][0] >= start:
                one["data_offsets"] = [at + by for at in one["data_offsets"]]
        return head, data[:start] + bytes(by) + data[start:] if data_too else data
    return header(change)


def swapped(head, data):
    """Two tensors of one size in each other's place."""
    one, other = head[HEAD]["data_offsets"], head[EMBEDDINGS]["data_offsets"]
    head[HEAD]["data_offsets"], head[EMBEDDINGS]["data_offsets"] = other, one
    return head, data


def over(head, data):
    """A tensor in the place of another of its size, whose bytes are then of none."""
    head[HEAD]["data_offsets"] = head[EMBEDDINGS]["data_offsets"]
    return head, data


def again(text):
    """The header with a text put in at its start."""
    def change(head, data):
        return b"{" + text + json.dumps(head).encode()[1:], data
    return header(change)


def more(name, dtype="F32", size=4):
    """The file with another tensor."""
    def change(head, data):
        end = len(data) + size
        head[name] = {"dtype": dtype, "shape": [1], "data_offsets": [len(data), end]}
        return head, data + bytes(size)
    return header(change)


def renamed(rename):
    """The file with other names of tensors."""
    return header(lambda head, data: (
        {name if name == "__metadata__" else rename(name): one for name, one in head.items()},
        data))


def number(head, data):
    at = head[EMBEDDINGS]["data_offsets"][0]
    return head, data[:at] + struct.pack("<f", 0.5) + data[at + 4:]


ENTRY = b'"%s": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}, ' % NORM.encode()


def tensor(name, place, value):
    """Of a pickled state_dict: one argument of what rebuilds a tensor."""
    def change(pt, state):
        call = state[name]
        args = list(call.args) + [None] * (place + 1 - len(call.args))
        args[place] = value
        return dict(state, **{name: Call(call.function, *args)})
    return change


def storage(name, place, value):
    """Of a pickled state_dict: one part of what names a tensor's storage."""
    def change(pt, state):
        identity = list(state[name].args[0].identity)
        identity[place] = value
        return tensor(name, 0, Persistent(tuple(identity)))(pt, state)
    return change


def built(name, shape, letter="f", **options):
    """A tensor of a state_dict stored in another way."""
    def change(pt, state):
        numbers = list(range(product(shape)))
        return dict(state, **{name: pt.tensor(numbers, shape, letter, **options)})
    return change


def shared(pt, state):
    """A tensor that is in another's storage."""
    return dict(state, **{HEAD: state[EMBEDDINGS]})


def twice(name, other):
    """A state_dict in which a name comes first with its own tensor, then with another's."""
    def change(pt, state):
        return pickled(state)[:-1] + pickled(name) + pickled(state[other]) + b"u"
    return change


def wrapped(pt, state):
    """All tensors as parameters."""
    function = Global("torch._utils", "_rebuild_parameter")
    return {name: Call(function, call, True, Call(Global("collections", "OrderedDict")))
            for name, call in state.items()}


def attributed(pt, state):
    """An OrderedDict with an attribute, as modules give it."""
    made = pickled(Call(Global("collections", "OrderedDict")))
    return made + pickled(state)[1:] + pickled({"_metadata": {"": {"version": 1}}}) + b"b"


def entries(**others):
    """The archive with more entries."""
    def changed(whole):
        out = io.BytesIO(whole)
        with zipfile.ZipFile(out, "a") as file:
            for name, data in others.items():
                file.writestr("x/" + name.replace("__", "/"), data)
        return out.getvalue()
    return changed


def patched(find, skip, raw, last=False):
    """The file with bytes written over those that are `skip` after some others."""
    def changed(whole):
        at = (whole.rindex if last else whole.index)(find) + skip
        return whole[:at] + raw + whole[at + len(raw):]
    return changed


def in_directory(name, skip, raw):
    """The archive with bytes written over those of an entry in the zip's directory."""
    return patched(name, skip - 46, raw, last=True)


# ---- The rows -------------------------------------------------------------------------------

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
BIN, BIN_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
FULL, PART = ["full_attention"] * 2, ["sliding_attention"] * 2
ROTARY = [name for name in CONFIGS if name not in ("gpt2", "bloom", "opt", "sees", "sets")]
TABLES = ("gpt2", "bloom", "opt")                    # whose positions are not rotary
LATER = ["olmo2", "stablelm", "phi3", "smollm3", "granite"]
PLAIN = [name for name in CONFIGS if CONFIGS[name].get("model_type") == name] + ["gemma3"]

# What is asked in training only; how text is drawn; what is done around a model; and what only
# other families' classes ask: name -> a value.
TRAINING = {"attention_dropout": 0.5, "resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5,
            "hidden_dropout": 0.5, "dropout": 0.5, "activation_dropout": 0.5, "layerdrop": 0.5,
            "classifier_dropout": 0.5, "summary_first_dropout": 0.5, "initializer_range": 0.5,
            "init_std": 0.5, "gradient_checkpointing": True, "router_aux_loss_coef": 0.5}
AROUND = {"use_cache": False, "output_attentions": True, "output_hidden_states": True,
          "return_dict": False, "transformers_version": "4.1.0", "_name_or_path": "x",
          "name_or_path": "x", "_commit_hash": "x", "attn_implementation": "eager",
          "_attn_implementation": "eager", "_attn_implementation_autoset": True,
          "is_decoder": True, "is_encoder_decoder": False, "tie_last_hidden_states": False,
          "chunk_size_feed_forward": 2, "finetuning_task": "x", "task_specific_params": {},
          "id2label": {"0": "x"}, "label2id": {"x": 0}, "num_labels": 1, "prefix": "x",
          "problem_type": "regression", "summary_type": "mean", "summary_use_proj": False,
          "summary_activation": "tanh", "summary_proj_to_labels": False, "torchscript": True,
          "use_bfloat16": True, "pruned_heads": {}, "tokenizer_class": "X", "mup": True}
DRAWN = {"temperature": 0.5, "top_k": 3, "top_p": 0.5, "do_sample": True, "num_beams": 3,
         "repetition_penalty": 2.0, "length_penalty": 2.0, "max_length": 5, "min_length": 3,
         "no_repeat_ngram_size": 2, "bad_words_ids": [[1]], "suppress_tokens": [3],
         "forced_bos_token_id": 1, "forced_eos_token_id": 1, "max_new_tokens": 4, "typical_p": 0.5,
         "num_beam_groups": 1, "diversity_penalty": 0.0, "early_stopping": True,
         "num_return_sequences": 1, "exponential_decay_length_penalty": [1, 2.0],
         "encoder_no_repeat_ngram_size": 2, "remove_invalid_values": True,
         "begin_suppress_tokens": [3], "output_scores": True, "return_dict_in_generate": True}
OTHERS = {"n_ctx": 9, "clip_qkv": 1.0, "num_experts": 4, "num_local_experts": 4,
          "num_experts_per_tok": 2, "moe_intermediate_size": 4, "decoder_sparse_step": 1,
          "scale_embedding": True, "scale_depth": 2.0, "scale_emb": 2.0,
          "qk_norm": True, "norm_after": True, "alibi": True, "new_decoder_architecture": True,
          "parallel_attn": True, "rope_interleaved": True,
          "rotary_pct": 0.5, "rotary_dim": 2, "attention_chunk_size": 4,
          "num_nextn_predict_layers": 1, "cache_implementation": "hybrid", "n_group": 2,
          "multi_query": False, "skip_bias_add": True, "skip_bias_add_qkv": True,
          "attention_softmax_in_fp32": False, "masked_softmax_fusion": False,
          "bias_dropout_fusion": False, "offset_alibi": 3, "unk_token_id": 3, "any_other": 1}


def each(bases, place, value, kind):
    """One change of several bases."""
    return [(base, place, value, kind) for base in bases]


FIELDS = [
    Row(CONFIG, ["architectures"], "used: the family; refused unless one that is supported", [
        ("llama", (), {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}, USED),
        ("llama", ("architectures",), ["MixtralForCausalLM"], REFUSED),
        ("llama", ("architectures",), ["LlamaForCausalLM"] * 2, REFUSED),
        ("llama", ("architectures",), "LlamaForCausalLM", REFUSED),
        ("llama", ("architectures",), GONE, REFUSED)]),
    Row(CONFIG, ["model_type"],
        "refused unless the architecture's: transformers may take the one or the other; where it "
        "is left out harmless", [
            *each(PLAIN + ["sees"], ("model_type",), "x", REFUSED),
            ("llama", ("model_type",), "mistral", REFUSED),
            *each(PLAIN + ["sees"], ("model_type",), GONE, HARMLESS)]),
    Row(CONFIG, ["auto_map"], "harmless: code that comes with a checkpoint is not run", [
        ("llama", ("auto_map",), {"AutoModelForCausalLM": "x.X"}, HARMLESS)]),
    Row(CONFIG, ["dtype", "torch_dtype"],
        "harmless: the type that transformers computes in; numbers are kept as they are stored", [
            ("llama", ("dtype",), "bfloat16", HARMLESS), ("llama", ("dtype",), GONE, HARMLESS),
            ("llama", ("torch_dtype",), "float16", HARMLESS)]),
    Row(CONFIG, ["hidden_size", "n_embd", "n_embed", "intermediate_size", "n_inner", "ffn_dim",
                 "num_hidden_layers", "n_layer", "vocab_size", "word_embed_proj_dim"],
        "refused unless the tensors are there in the shapes that they make", [
            *each(["llama", "qwen2", "phi", "gemma3", "cohere"] + LATER, ("hidden_size",), 16,
                  REFUSED),
            *each(["llama", "gemma"] + LATER, ("intermediate_size",), 16, REFUSED),
            *each(["llama", "opt"], ("num_hidden_layers",), 1, REFUSED),
            *each(["llama", "opt"], ("num_hidden_layers",), 3, REFUSED),
            *each(["llama", "gpt2", "bloom"], ("vocab_size",), 7, REFUSED),
            ("llama", ("vocab_size",), "8", REFUSED), ("llama", ("hidden_size",), 8.0, REFUSED),
            ("llama", ("hidden_size",), GONE, REFUSED), ("gpt2", ("n_embd",), 16, REFUSED),
            ("gpt2", ("n_layer",), 1, REFUSED), ("gpt2", ("n_inner",), 16, REFUSED),
            ("bloom", ("n_embed",), 16, REFUSED), ("bloom", ("n_layer",), 1, REFUSED),
            ("bloom", ("intermediate_size",), 16, REFUSED), ("opt", ("ffn_dim",), 16, REFUSED),
            ("opt", ("word_embed_proj_dim",), 4, REFUSED),
            ("opt", ("word_embed_proj_dim",), 8, HARMLESS)]),
    Row(CONFIG, ["num_attention_heads", "n_head", "num_key_value_heads", "head_dim"],
        "used; refused unless the tensors have the shapes that they make, and where sizes of heads "
        "do not fit each other", [
            ("llama", (), {"num_attention_heads": 4, "head_dim": 2, "num_key_value_heads": 2},
             USED),
            ("gpt2", ("n_head",), 4, USED), ("bloom", ("n_head",), 4, USED),
            ("opt", ("num_attention_heads",), 4, USED), ("gpt2", ("n_head",), 3, REFUSED),
            ("llama", ("num_attention_heads",), 4, REFUSED),
            ("llama", ("num_key_value_heads",), 2, REFUSED),
            ("llama", ("num_key_value_heads",), GONE, REFUSED),
            ("llama", ("head_dim",), GONE, HARMLESS), ("llama", ("head_dim",), 8, REFUSED),
            ("llama", ("head_dim",), 0, REFUSED), ("opt", ("head_dim",), 2, REFUSED),
            ("gpt2", ("num_key_value_heads",), 1, REFUSED),
            ("olmo2", (), {"num_attention_heads": 4, "head_dim": 2, "num_key_value_heads": 2},
             USED),
            ("phi3", (), {"num_attention_heads": 6, "head_dim": 2, "num_key_value_heads": 1},
             REFUSED),
            *each(["olmo2", "phi3"], ("num_key_value_heads",), 2, REFUSED),
            ("stablelm", ("head_dim",), GONE, HARMLESS),
            ("stablelm", ("head_dim",), 8, REFUSED)]),
    Row(CONFIG, ["hidden_size, num_hidden_layers, num_attention_heads beside n_embd, n_embed, "
                 "n_layer, n_head"],
        "refused where they differ: classes take the one or the other", [
            ("gpt2", ("num_attention_heads",), 4, REFUSED),
            ("gpt2", ("num_attention_heads",), 2, HARMLESS),
            ("gpt2", ("hidden_size",), 4, REFUSED), ("gpt2", ("num_hidden_layers",), 1, REFUSED),
            ("bloom", ("num_attention_heads",), 4, REFUSED),
            ("bloom", ("num_hidden_layers",), 1, REFUSED), ("bloom", ("n_embed",), 4, REFUSED)]),
    Row(CONFIG, ["max_position_embeddings", "n_positions", "seq_length"],
        "used; refused where a tensor of positions has another length", [
            ("llama", ("max_position_embeddings",), 17, USED),
            ("bloom", ("seq_length",), 17, USED), ("gemma2", ("max_position_embeddings",), 9, USED),
            ("gpt2", ("n_positions",), 17, REFUSED),
            ("opt", ("max_position_embeddings",), 17, REFUSED)]),
    Row(CONFIG, ["rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"],
        "used, the one of the family; OPT's is refused unless 1e-5, which its class takes whatever "
        "this is", [
            *each(["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "olmo2",
                   "phi3", "smollm3", "granite"], ("rms_norm_eps",), 1e-3, USED),
            *each(["phi", "cohere", "stablelm"], ("layer_norm_eps",), 1e-3, USED),
            ("stablelm", ("rms_norm_eps",), 1e-3, HARMLESS),
            *each(["gpt2", "bloom"], ("layer_norm_epsilon",), 1e-3, USED),
            ("llama", ("rms_norm_eps",), 0, REFUSED), ("opt", ("layer_norm_eps",), 1e-3, REFUSED),
            ("llama", ("layer_norm_eps",), 1e-3, HARMLESS)]),
    Row(CONFIG, ["tie_word_embeddings"],
        "used; refused where lm_head.weight is missing, or differs from what it is tied to, and "
        "when false in Gemma and Command-R", [
            ("tied", ("tie_word_embeddings",), False, USED),
            *each(["llama"] + LATER, ("tie_word_embeddings",), True, REFUSED),
            ("smollm3", ("tie_word_embeddings",), GONE, REFUSED),
            ("gpt2", ("tie_word_embeddings",), False, REFUSED),
            ("gemma", ("tie_word_embeddings",), False, REFUSED),
            ("cohere", ("tie_word_embeddings",), False, REFUSED),
            ("sees", ("tie_word_embeddings",), False, REFUSED)]),
    Row(CONFIG, ["hidden_act", "activation_function", "hidden_activation"],
        "refused unless the family's; harmless are two names of one function, and hidden_act "
        "beside hidden_activation, which Gemma 2's and 3's classes do not ask", [
            *each(["llama", "mistral", "qwen2", "qwen3", "phi", "gemma", "cohere"] + LATER,
                  ("hidden_act",), "relu", REFUSED),
            *each(["gpt2", "opt"], ("activation_function",), "gelu", REFUSED),
            *each(["gemma", "gemma2", "gemma3"], ("hidden_activation",), "gelu", REFUSED),
            ("gpt2", ("activation_function",), "gelu_pytorch_tanh", HARMLESS),
            ("phi", ("hidden_act",), "gelu_pytorch_tanh", HARMLESS),
            ("gemma", ("hidden_act",), "gelu", HARMLESS),
            *each(["gemma2", "gemma3"], ("hidden_act",), "relu", HARMLESS)]),
    Row(CONFIG, ["attention_bias", "mlp_bias", "qk_layernorm", "use_qk_norm",
                 "use_parallel_residual"],
        "refused when true, where the family's class asks; harmless where it does not", [
            *each(["llama", "mistral", "qwen3", "gemma", "gemma2", "gemma3", "cohere", "olmo2",
                   "smollm3", "granite"], ("attention_bias",), True, REFUSED),
            *each(["llama", "smollm3", "granite"], ("mlp_bias",), True, REFUSED),
            *each(["phi", "stablelm"], ("qk_layernorm",), True, REFUSED),
            ("stablelm", ("use_parallel_residual",), True, REFUSED),
            ("stablelm", ("use_parallel_residual",), False, HARMLESS),
            ("llama", ("use_parallel_residual",), True, HARMLESS),
            ("cohere", ("use_qk_norm",), True, REFUSED),
            *each(["qwen2", "phi", "stablelm", "phi3"], ("attention_bias",), True, HARMLESS),
            ("llama", ("use_qk_norm",), True, HARMLESS),
            *each(["gemma", "olmo2"], ("mlp_bias",), True, HARMLESS)]),
    Row(CONFIG, ["use_qkv_bias"],
        "refused in StableLM unless it says whether the biases of q, k and v are there; harmless "
        "in other families", [
            ("stablelm", ("use_qkv_bias",), False, REFUSED),
            ("stablelm", ("use_qkv_bias",), GONE, REFUSED),
            ("stablelm", ("use_qkv_bias",), 1, REFUSED),
            ("unbiased", ("use_qkv_bias",), True, REFUSED),
            ("unbiased", ("use_qkv_bias",), GONE, HARMLESS),
            ("llama", ("use_qkv_bias",), True, HARMLESS)]),
    Row(CONFIG, ["no_rope_layers", "no_rope_layer_interval"],
        "refused in SmolLM3 unless every fourth layer, and no other, has no positions; the second "
        "is harmless beside the first", [
            ("smollm3", ("no_rope_layers",), [1, 1, 1, 0, 1], HARMLESS),
            ("smollm3", ("no_rope_layers",), [1, 1, 1, 0, 1, 0], HARMLESS),
            ("smollm3", ("no_rope_layers",), [True, True, True, False, True], HARMLESS),
            ("smollm3", (), {"no_rope_layers": [1, 1, 1, 0, 1], "no_rope_layer_interval": 2},
             HARMLESS),
            *each(["smollm3"], ("no_rope_layers",), [1, 1, 1, 0], REFUSED),
            *each(["smollm3"], ("no_rope_layers",), [1, 1, 1, 1, 1], REFUSED),
            *each(["smollm3"], ("no_rope_layers",), [0, 1, 1, 0, 1], REFUSED),
            *each(["smollm3"], ("no_rope_layers",), [1, 1, 1, None, 1], REFUSED),
            *each(["smollm3"], ("no_rope_layers",), "11101", REFUSED),
            ("smollm3", ("no_rope_layer_interval",), 4, HARMLESS),
            ("smollm3", ("no_rope_layer_interval",), 3, REFUSED),
            ("smollm3", ("no_rope_layer_interval",), 0, REFUSED),
            ("llama", ("no_rope_layers",), [0, 0], HARMLESS)]),
    Row(CONFIG, ["embedding_multiplier", "residual_multiplier", "attention_multiplier",
                 "logits_scaling"],
        "used by Granite; refused unless above 0; harmless in other families", [
            change for key in ("embedding_multiplier", "residual_multiplier",
                               "attention_multiplier", "logits_scaling")
            for change in (("granite", (key,), 0.75, USED), ("granite", (key,), GONE, USED),
                           ("granite", (key,), 0, REFUSED), ("granite", (key,), None, REFUSED),
                           ("granite", (key,), -2.0, REFUSED), ("llama", (key,), 2.0, HARMLESS))]),
    Row(CONFIG, ["scale_attn_weights", "scale_attn_by_inverse_layer_idx",
                 "reorder_and_upcast_attn", "add_cross_attention", "do_layer_norm_before",
                 "enable_bias", "layer_norm_elementwise_affine", "_remove_final_layer_norm",
                 "apply_residual_connection_post_layernorm"],
        "refused unless the class's default", [
            ("gpt2", ("scale_attn_weights",), False, REFUSED),
            ("gpt2", ("scale_attn_by_inverse_layer_idx",), True, REFUSED),
            ("gpt2", ("reorder_and_upcast_attn",), True, REFUSED),
            ("gpt2", ("add_cross_attention",), True, REFUSED),
            ("opt", ("do_layer_norm_before",), False, REFUSED),
            ("opt", ("enable_bias",), False, REFUSED),
            ("opt", ("layer_norm_elementwise_affine",), False, REFUSED),
            ("opt", ("_remove_final_layer_norm",), True, REFUSED),
            ("bloom", ("apply_residual_connection_post_layernorm",), True, REFUSED)]),
    Row(CONFIG, ["pretraining_tp", "slow_but_exact"],
        "refused both, in BLOOM: its class then leaves out biases; harmless alone: sums are added "
        "up in parts, or not even that", [
            ("bloom", (), {"pretraining_tp": 2, "slow_but_exact": True}, REFUSED),
            ("bloom", ("pretraining_tp",), 4, HARMLESS),
            ("bloom", ("slow_but_exact",), True, HARMLESS),
            ("llama", ("pretraining_tp",), 2, HARMLESS)]),
    Row(CONFIG, ["sliding_window"],
        "used by Mistral and Phi-3, where null is none, and by Gemma 2 and 3, where null is "
        "refused; the other classes do not ask it, but Qwen's and SmolLM3's, where "
        "use_sliding_window is refused", [
            *each(["mistral", "gemma2", "gemma3", "sets", "phi3"], ("sliding_window",), 5, USED),
            *each(["mistral", "phi3"], ("sliding_window",), None, USED),
            *each(["mistral", "phi3"], ("sliding_window",), GONE, USED),
            *each(["mistral", "phi3"], ("sliding_window",), 0, REFUSED),
            *each(["gemma2", "gemma3"], ("sliding_window",), None, REFUSED),
            *each(["llama", "qwen2", "qwen3", "phi", "gemma", "cohere", "olmo2", "stablelm",
                   "smollm3", "granite"], ("sliding_window",), 5, HARMLESS)]),
    Row(CONFIG, ["use_sliding_window", "max_window_layers"],
        "refused when true in Qwen and SmolLM3; the other is harmless when it is false", [
            *each(["qwen2", "qwen3", "smollm3"], ("use_sliding_window",), True, REFUSED),
            *each(["qwen2", "qwen3"], ("max_window_layers",), 1, HARMLESS)]),
    Row(CONFIG, ["layer_types", "sliding_window_pattern", "_sliding_window_pattern"],
        "refused unless they say what the family does; in Mistral, which transformers then takes "
        "for another model, whatever they say", [
            *each(["llama", "qwen2", "qwen3", "phi", "gemma", "gemma2", "cohere"] + LATER,
                  ("layer_types",), PART, REFUSED),
            *each(["llama", "qwen2", "qwen3", "phi", "gemma", "cohere", "olmo2", "stablelm",
                   "phi3", "granite"], ("layer_types",), FULL, HARMLESS),
            ("smollm3", ("layer_types",), ["full_attention"] * 5, HARMLESS),
            ("smollm3", ("layer_types",), ["full_attention"] * 4 + ["sliding_attention"], REFUSED),
            *each(["gemma2", "gemma3", "mistral"], ("layer_types",), FULL, REFUSED),
            ("mistral", ("layer_types",), PART, REFUSED),
            ("gemma2", ("layer_types",), ["sliding_attention", "full_attention"], HARMLESS),
            ("gemma3", ("layer_types",), PART, HARMLESS),
            ("gemma3", ("layer_types",), PART[:1], REFUSED),
            ("gemma3", ("sliding_window_pattern",), 2, REFUSED),
            ("gemma3", ("_sliding_window_pattern",), 2, REFUSED),
            ("gemma3", ("sliding_window_pattern",), 6, HARMLESS)]),
    Row(CONFIG, ["is_causal", "use_bidirectional_attention"],
        "refused when they let tokens see what comes later: is_causal in every family, the other "
        "in Gemma", [
            *each(PLAIN, ("is_causal",), False, REFUSED),
            ("sees", ("is_causal",), False, REFUSED),
            ("sees", ("text_config", "is_causal"), False, REFUSED),
            ("llama", ("is_causal",), True, HARMLESS),
            *each(["gemma", "gemma2", "gemma3"], ("use_bidirectional_attention",), True,
                  REFUSED)]),
    Row(CONFIG, ["query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"],
        "used by Gemma 2; by Gemma 3 the first, and the others are refused unless null", [
            *each(["gemma2", "gemma3"], ("query_pre_attn_scalar",), 9, USED),
            *each(["gemma2", "gemma3"], ("query_pre_attn_scalar",), 0, REFUSED),
            ("gemma2", ("attn_logit_softcapping",), 9.0, USED),
            ("gemma2", ("final_logit_softcapping",), 9.0, USED),
            ("gemma2", ("attn_logit_softcapping",), None, REFUSED),
            ("gemma2", ("final_logit_softcapping",), None, REFUSED),
            ("gemma3", ("attn_logit_softcapping",), 9.0, REFUSED),
            ("gemma3", ("final_logit_softcapping",), 9.0, REFUSED)]),
    Row(CONFIG, ["logit_scale"], "used by Command-R; refused unless above 0", [
        ("cohere", ("logit_scale",), 0.5, USED), ("cohere", ("logit_scale",), GONE, USED),
        ("cohere", ("logit_scale",), 0, REFUSED), ("cohere", ("logit_scale",), None, REFUSED)]),
    Row(CONFIG, ["rope_theta"],
        "used, unless the rotary settings have one; refused unless above 0; harmless where "
        "positions are not rotary", [
            *each([name for name in ROTARY if name != "parameters"], ("rope_theta",), 7.0, USED),
            ("llama", ("rope_theta",), -1, REFUSED), ("llama", ("rope_theta",), GONE, USED),
            ("parameters", ("rope_theta",), 7.0, HARMLESS),
            *each(TABLES, ("rope_theta",), 7.0, HARMLESS)]),
    Row(CONFIG, ["rope_local_base_freq"], "used by Gemma 3, unless rope_parameters has its own", [
        ("gemma3", ("rope_local_base_freq",), 7.0, USED),
        ("sets", ("rope_local_base_freq",), 7.0, HARMLESS)]),
    Row(CONFIG, ["partial_rotary_factor"],
        "used by Phi, Phi-3 and StableLM; refused unless 1 in others; harmless where positions are "
        "not rotary", [
            *each(["phi", "phi3", "stablelm"], ("partial_rotary_factor",), 1.0, USED),
            *each(["phi", "phi3", "stablelm"], ("partial_rotary_factor",), 0.75, REFUSED),
            ("phi3", ("partial_rotary_factor",), GONE, USED),
            ("stablelm", ("partial_rotary_factor",), GONE, REFUSED),       # a quarter of 4
            *each(["phi", "phi3", "stablelm"], ("rope_scaling",),
                  {"rope_type": "default", "partial_rotary_factor": 1.0}, USED),
            *each([name for name in ROTARY if name not in ("phi", "phi3", "stablelm", "unbiased")],
                  ("partial_rotary_factor",), 0.5, REFUSED),
            ("sets", ("partial_rotary_factor",), 0.5, REFUSED),
            ("parameters", ("rope_parameters", "partial_rotary_factor"), 0.5, REFUSED),
            ("sets", ("rope_parameters", "sliding_attention", "partial_rotary_factor"), 0.5,
             REFUSED),
            ("sets", ("rope_parameters", "full_attention", "partial_rotary_factor"), 0.5, REFUSED),
            ("parameters", ("rope_parameters", "partial_rotary_factor"), 1.0, HARMLESS),
            *each(TABLES, ("partial_rotary_factor",), 0.5, HARMLESS)]),
    Row(CONFIG, ["rope_scaling, rope_parameters: rope_type, type"],
        "used: default, in LLaMA and Mistral linear and llama3, in Gemma 3 linear; others are "
        "refused; type is harmless beside rope_type", [
            ("linear", ("rope_scaling", "rope_type"), "default", USED),
            ("linear", ("rope_scaling",), None, USED),
            ("linear", ("rope_scaling",), {"type": "linear", "factor": 4.0}, HARMLESS),
            ("linear", ("rope_scaling", "type"), "yarn", HARMLESS),
            ("parameters", ("rope_parameters", "rope_type"), "default", USED),
            ("llama3", ("rope_scaling", "rope_type"), "linear", USED),
            ("llama", ("rope_scaling",), {"rope_type": "default"}, HARMLESS),
            *each(["llama", "mistral", "gemma3"], ("rope_scaling",), LINEAR, USED),
            *each(["llama", "mistral"], ("rope_scaling",), LLAMA3, USED),
            *each(["qwen2", "qwen3", "phi", "gemma", "gemma2", "cohere"] + LATER,
                  ("rope_scaling",), LINEAR, REFUSED),
            *each(LATER, ("rope_scaling",), LLAMA3, REFUSED),
            *each(["phi3"], ("rope_scaling",), {"type": "su"}, REFUSED),
            *[change for kind in ("yarn", "dynamic", "longrope", "proportional", "axial")
              for change in each(["linear", "llama3"], ("rope_scaling", "rope_type"), kind,
                                 REFUSED)],
            ("linear", ("rope_scaling", "rope_type"), None, REFUSED),
            ("linear", ("rope_scaling",), "linear", REFUSED),
            *each(TABLES, ("rope_scaling",), LINEAR, HARMLESS)]),
    Row(CONFIG, ["rope_scaling, rope_parameters: rope_theta"], "used, before rope_theta "
        "outside; refused when null", [
        ("parameters", ("rope_parameters", "rope_theta"), 7.0, USED),
        ("linear", ("rope_scaling", "rope_theta"), 7.0, USED),
        ("linear", ("rope_scaling", "rope_theta"), None, REFUSED)]),
    Row(CONFIG, ["rope_scaling, rope_parameters: factor, low_freq_factor, high_freq_factor, "
                 "original_max_position_embeddings"],
        "used by the types that have them, and refused where one is missing; harmless to the "
        "others, which do not ask", [
            ("linear", ("rope_scaling", "factor"), 2.0, USED),
            ("parameters", ("rope_parameters", "factor"), 2.0, USED),
            ("linear", ("rope_scaling", "factor"), GONE, REFUSED),
            ("linear", ("rope_scaling", "low_freq_factor"), 2.0, HARMLESS),
            ("linear", ("rope_scaling", "original_max_position_embeddings"), 9, HARMLESS),
            ("llama", ("rope_scaling",), {"rope_type": "default", "factor": 2.0}, HARMLESS)] + [
            change for key, value in (
                ("factor", 2.0), ("low_freq_factor", 2.0), ("high_freq_factor", 2.0),
                ("original_max_position_embeddings", 50)) for change in (
                ("llama3", ("rope_scaling", key), value, USED),
                ("llama3", ("rope_scaling", key), GONE, REFUSED))] + [
            ("llama3", ("rope_scaling", "high_freq_factor"), 0.5, REFUSED)]),
    Row(CONFIG, ["original_max_position_embeddings outside"],
        "refused where the type is llama3 and the settings have another: it would go first; "
        "harmless to the other types", [
            ("llama3", ("original_max_position_embeddings",), 50, REFUSED),
            ("llama3", ("original_max_position_embeddings",), None, REFUSED),
            ("llama3", ("original_max_position_embeddings",), 500, HARMLESS),
            *each(["llama", "linear", "phi3"], ("original_max_position_embeddings",), 50,
                  HARMLESS)]),
    Row(CONFIG, ["rope_scaling, rope_parameters: attention_factor, beta_fast, beta_slow, mscale, "
                 "mscale_all_dim, short_factor, long_factor, truncate, mrope_section, any other"],
        "refused unless null", [
            ("linear", ("rope_scaling", key), 1.0, REFUSED) for key in (
                "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
                "short_factor", "long_factor", "truncate", "mrope_section", "any_other")] + [
            ("linear", ("rope_scaling", "any_other"), None, HARMLESS)]),
    Row(CONFIG, ["rope_parameters: full_attention, sliding_attention"],
        "used by Gemma 3, the second with type default; refused in other families, and in Gemma 3 "
        "without these two, or beside rope_scaling, which would be put into the first", [
            ("sets", ("rope_parameters", "full_attention", "rope_theta"), 7.0, USED),
            ("sets", ("rope_parameters", "full_attention", "factor"), 2.0, USED),
            ("sets", ("rope_parameters", "full_attention"), None, USED),
            ("sets", ("rope_parameters", "sliding_attention", "rope_theta"), 7.0, USED),
            ("sets", ("rope_parameters", "sliding_attention"), GONE, USED),
            ("sets", ("rope_parameters", "sliding_attention"), LINEAR, REFUSED),
            ("sets", ("rope_parameters", "sliding_attention"), {"type": "linear", "factor": 2.0},
             REFUSED),
            ("sets", ("rope_parameters", "sliding_attention", "any_other"), 1, REFUSED),
            ("sets", ("rope_parameters", "sliding_attention", "factor"), 2.0, HARMLESS),
            ("sets", ("rope_parameters", "linear_attention"), LINEAR, REFUSED),
            ("sets", ("rope_parameters",), dict(LINEAR, rope_theta=5e5), REFUSED),
            ("sets", ("rope_scaling",), LINEAR, REFUSED),
            ("gemma3", ("rope_scaling",), TWO, REFUSED),
            *each(["llama", "qwen3", "gemma2"], ("rope_parameters",), TWO, REFUSED)]),
    Row(CONFIG, ["rope_parameters beside rope_scaling"],
        "harmless: in all families but Gemma 3 rope_scaling goes first, as in transformers", [
            ("linear", ("rope_parameters",), dict(LLAMA3, rope_theta=7.0), HARMLESS)]),
    Row(CONFIG, ["quantization_config", "compression_config", "transformers_weights",
                 "per_layer_config", "kv_sharing_modes", "decoder", "generator"],
        "refused unless null: numbers stored in other ways or in another file, layers that differ "
        "or share what they keep, settings that would be taken instead", [
            *[change for key, value in (
                ("quantization_config", {"quant_method": "fp8"}), ("compression_config", {}),
                ("per_layer_config", {"0": {"sliding_window": 2}}),
                ("kv_sharing_modes", ["reuse"] * 2), ("decoder", {}), ("generator", {}),
                ("transformers_weights", "other.safetensors")) for change in (
                *each(["llama", "gpt2", "gemma3", "sees"], (key,), value, REFUSED),
                ("sees", ("text_config", key), value, REFUSED))],
            ("llama", ("quantization_config",), None, HARMLESS)]),
    Row(CONFIG, ["text_config"],
        "used by Gemma 3 that sees: the settings of its model of text; refused elsewhere", [
            ("sees", ("text_config", "rms_norm_eps"), 1e-3, USED),
            ("sees", ("text_config", "rope_theta"), 7.0, USED),
            ("sees", ("text_config", "rope_scaling"), LINEAR, USED),
            ("sees", ("text_config", "sliding_window_pattern"), 2, REFUSED),
            ("sees", ("text_config", "vocab_size"), 9, REFUSED),
            ("sees", ("text_config",), GONE, REFUSED), ("llama", ("text_config",), SPLIT, REFUSED),
            ("sees", ("text_config", "model_type"), "x", HARMLESS)]),
    Row(CONFIG, ["settings beside text_config"],
        "harmless: the model of text is made of text_config alone", [
            ("sees", (key,), value, HARMLESS) for key, value in (
                ("rms_norm_eps", 1e-3), ("rope_theta", 7.0), ("rope_scaling", LINEAR),
                ("sliding_window", 9), ("vocab_size", 9), ("max_position_embeddings", 9),
                ("query_pre_attn_scalar", 9), ("hidden_activation", "relu"))]),
    Row(CONFIG, ["vision_config", "mm_tokens_per_image", "image_token_index", "boi_token_index",
                 "eoi_token_index"],
        "harmless: pictures are not seen, and what sees them is left out with a note", [
            ("sees", ("vision_config",), {"hidden_size": 9}, HARMLESS)] + [
            ("sees", (key,), 3, HARMLESS) for key in (
                "mm_tokens_per_image", "image_token_index", "boi_token_index",
                "eoi_token_index")]),
    Row(CONFIG, ["bos_token_id", "eos_token_id"],
        "used with a tokenizer; of a list the first, since the others end turns of a chat; refused "
        "where there is no such token; harmless without a tokenizer", [
            ("pieces", ("bos_token_id",), 2, USED), ("pieces", ("eos_token_id",), [3, 2], USED),
            ("pieces", ("eos_token_id",), [2, 3], HARMLESS),
            ("pieces", ("eos_token_id",), -1, USED),
            ("pieces", ("eos_token_id",), 9, REFUSED), ("llama", ("bos_token_id",), 2, HARMLESS),
            ("llama", ("eos_token_id",), 99, HARMLESS)]),
    Row(CONFIG, ["pad_token_id", "sep_token_id", "decoder_start_token_id"],
        "harmless: nothing is padded, and a row of the embeddings is what is stored", [
            ("pieces", (key,), 3, HARMLESS) for key in (
                "pad_token_id", "sep_token_id", "decoder_start_token_id")]),
    Row(CONFIG, list(TRAINING), "harmless: asked in training only", [
        ("llama", (), TRAINING, HARMLESS)]),
    Row(CONFIG, list(DRAWN), "harmless: how text is drawn from what the model says", [
        ("llama", (), DRAWN, HARMLESS)]),
    Row(CONFIG, list(AROUND),
        "harmless: what is given back, kept or said about a model, and heads of other tasks", [
            ("llama", (), AROUND, HARMLESS)]),
    Row(CONFIG, [name for name in OTHERS if name != "any_other"] + ["any other key"],
        "harmless: no supported family's class asks for it", [
            (base, (), {**TRAINING, **DRAWN, **AROUND, **OTHERS}, HARMLESS) for base in PLAIN]),
    Row("adapter_config.json", ["all of it"],
        "refused: transformers would change the weights by the adapter beside them", [
            ("llama", (), {"peft_type": "LORA"}, REFUSED)]),

    Row(WEIGHTS, ["the header's length"], "refused unless it fits the file and the format", [
        ("llama", None, patched(b"", 0, struct.pack("<Q", 1 << 40)), REFUSED),
        ("llama", None, patched(b"", 0, struct.pack("<Q", 2)), REFUSED),
        ("llama", None, lambda whole: whole[:7], REFUSED)]),
    Row(WEIGHTS, ["names of tensors"],
        "used; refused where one is missing, unknown, or there twice; harmless is a prefix that "
        "all lack, as a model without its head has none", [
            ("llama", None, renamed(lambda name: {HEAD: EMBEDDINGS, EMBEDDINGS: HEAD}.get(
                name, name)), USED),
            ("llama", None, renamed(lambda name: name + "x" * (name == HEAD)), REFUSED),
            ("llama", None, more("x"), REFUSED), ("llama", None, again(ENTRY), REFUSED),
            ("llama", None, renamed(lambda name: name.replace("model.", "")), HARMLESS),
            ("gpt2", None, renamed(lambda name: name.replace("transformer.", "")), HARMLESS),
            ("sees", None, renamed(lambda name: name.replace("model.", "model.language_model.")),
             HARMLESS)]),
    Row(WEIGHTS, ["rotary_emb.inv_freq", "attn.bias", "attn.masked_bias", "vision_tower",
                  "multi_modal_projector"],
        "harmless: frequencies and masks that the class makes itself, and what sees pictures", [
            ("llama", None, header(lambda head, data: (head, data[:-8] + b"x" * 8)), HARMLESS),
            ("gpt2", None, more("transformer.h.0.attn.bias", "BOOL", 1), HARMLESS),
            ("gpt2", None, more("transformer.h.1.attn.masked_bias"), HARMLESS),
            ("sees", None, more("vision_tower.x"), HARMLESS),
            ("sees", None, more("multi_modal_projector.x"), HARMLESS)]),
    Row(WEIGHTS, ["dtype"], "used; refused unless F32, F16 or BF16", [
        ("llama", None, entry(Q, dtype="BF16"), USED)] + [
        ("llama", None, entry(name, dtype=dtype), REFUSED)
        for name, kinds in ((NORM, ("F32X", "I32", "U32", None)),
                            (Q, ("F32", "I16", "F8_E4M3", "I64"))) for dtype in kinds]),
    Row(WEIGHTS, ["shape"], "refused unless the one that config.json calls for", [
        ("llama", None, entry(UP, shape=shape), REFUSED)
        for shape in ([8, 12], [96], [12, 8, 1], [12, 9], [-12, -8], "12", [12.0, 8])]),
    Row(WEIGHTS, ["data_offsets"],
        "used; refused unless as long as shape and dtype say, within the file, and all tensors one "
        "after the other, without hole or overlap, up to its end", [
            ("llama", None, header(swapped), USED),
            ("llama", None, header(over), REFUSED),
            ("llama", None, entry(NORM, data_offsets=[0, 31]), REFUSED),
            ("llama", None, entry(NORM, data_offsets=[1 << 40, (1 << 40) + 32]), REFUSED),
            ("llama", None, entry(NORM, data_offsets=[0]), REFUSED),
            ("llama", None, moved(0, 4, True), REFUSED),
            ("llama", None, moved(256, 4, True), REFUSED),
            ("llama", None, moved(256, -4, False), REFUSED),
            ("llama", None, lambda whole: whole + b"\0", REFUSED),
            ("llama", None, lambda whole: whole[:-1], REFUSED)]),
    Row(WEIGHTS, ["the numbers"], "used", [("llama", None, header(number), USED)]),
    Row(WEIGHTS, ["other keys of a tensor"], "harmless: the library drops them; refused is a key "
        "that is there twice", [
            ("llama", None, entry(NORM, strides=[2]), HARMLESS),
            ("llama", None, again(ENTRY.replace(b'norm.weight": {', b'x": {"dtype": "F16", ')),
             REFUSED)]),
    Row(WEIGHTS, ["__metadata__"],
        "harmless: says what wrote the file; refused unless an object of texts", [
            ("llama", None, header(lambda head, data: (
                dict(head, __metadata__={"format": "tf", "more": "x"}), data)), HARMLESS),
            ("llama", None, header(lambda head, data: (
                {name: one for name, one in head.items() if name != "__metadata__"}, data)),
             HARMLESS),
            ("llama", None, header(lambda head, data: (
                dict(head, __metadata__={"format": 1}), data)), REFUSED)]),
    Row(WEIGHTS, ["spaces after the header"], "harmless: the format pads it so", [
        ("llama", None, header(lambda head, data: (json.dumps(head).encode() + b"   ", data)),
         HARMLESS)]),
    Row(INDEX, ["weight_map"],
        "refused unless every tensor is in the file that it names, beside it, and in no other", [
            ("shards", ("weight_map", HEAD), "model-2.safetensors", REFUSED),
            ("shards", ("weight_map", HEAD), GONE, REFUSED),
            ("shards", ("weight_map", "x"), "model-1.safetensors", REFUSED),
            ("shards", ("weight_map", HEAD), "../tiny/model-1.safetensors", REFUSED),
            ("shards", ("weight_map", HEAD), "absent.safetensors", REFUSED),
            ("shards", ("weight_map",), [], REFUSED), ("shards", ("weight_map",), GONE, REFUSED),
            ("shards", None, lambda whole: whole[:-1] + b', "weight_map": {}}', REFUSED),
            ("shards", None, lambda whole: whole.replace(
                b'"weight_map": {', b'"weight_map": {"%s": "x", ' % HEAD.encode()), REFUSED)]),
    Row(INDEX, ["metadata", "other keys"], "harmless: sizes for a look; what nobody asks", [
        ("shards", ("metadata",), {"total_size": 3, "dtype": "float16"}, HARMLESS),
        ("shards", ("metadata",), GONE, HARMLESS), ("shards", ("more",), 1, HARMLESS)]),
    Row("model-1.safetensors", ["tensors of a shard"],
        "used; refused is one that is in another too, or that the index does not know", [
            ("shards", None, header(number), USED),
            ("shards", None, more("x"), REFUSED),
            ("shards", None, renamed(lambda name: K if name == EMBEDDINGS else name), REFUSED),
            ("shards", None, lambda whole: whole + b"\0", REFUSED)]),
    Row(INDEX, ["all of it, beside model.safetensors"],
        "harmless: transformers too reads the single file first", [
            ("llama", (), {"weight_map": {HEAD: "absent"}}, HARMLESS)]),
    Row(BIN, ["all of it, beside safetensors"],
        "harmless: transformers too reads the others first", [
            ("llama", None, b"x", HARMLESS), ("shards", None, b"x", HARMLESS)]),
    Row(BIN, ["the archive's entries"],
        "used; refused unless each is there once, in bytes of its own, as they are, in this file",
        [("bin", None, patched(b"x/data/0", 8, struct.pack("<f", 0.5)), USED),
         ("bin", None, entries(more="x"), HARMLESS),
         ("bin", None, lambda whole: whole.replace(b"x/data/1", b"x/data/0"), REFUSED),
         ("bin", None, lambda whole: whole.replace(b"x/data/1", b"x/data/z"), REFUSED),
         ("bin", None, patched(b"x/data/1", 0, b"x/data/z"), REFUSED),
         ("bin", None, lambda whole: whole.replace(b"data.pkl", b"data.pkt"), REFUSED),
         ("bin", None, entries(y__data=""), HARMLESS),
         ("bin", None, in_directory(b"x/data/1", 42, bytes(4)), REFUSED),
         ("bin", None, in_directory(b"x/data/0", 20, struct.pack("<II", 300, 300)), REFUSED),
         ("bin", None, in_directory(b"x/data/0", 10, b"\x08\0"), REFUSED),
         ("bin", None, in_directory(b"x/data/0", 8, b"\1\0"), REFUSED),
         ("bin", None, lambda whole: whole[:-30], REFUSED)]),
    Row(BIN, ["CRC-32 of the pickle"], "refused unless right", [
        ("bin", None, in_directory(b"x/data.pkl", 16, bytes(4)), REFUSED)]),
    Row(BIN, ["CRC-32 of storages", "times of entries", "a comment", "version",
              ".format_version", ".storage_alignment", ".data/serialization_id"],
        "harmless: torch.load does not ask them for numbers either", [
            ("bin", None, in_directory(b"x/data/0", 16, bytes(4)), HARMLESS),
            ("bin", None, in_directory(b"x/data/0", 12, b"abcd"), HARMLESS),
            ("bin", None, lambda whole: whole[:-2] + b"\1\0x", HARMLESS),
            ("bin", None, entries(**{
                "version": "9\n", ".format_version": "9", ".storage_alignment": "9",
                ".data__serialization_id": "9"}), HARMLESS)]),
    Row(BIN, ["byteorder"], "refused unless little; that is what none stands for", [
        ("bin", None, lambda whole: archive(pt=Pt(">")), REFUSED),
        ("bin", None, lambda whole: Pt.file(*state_of("bin"), order_entry=False), HARMLESS)]),
    Row(BIN, ["names in the pickle"],
        "used: of a name twice the last, as torch.load has it; refused unless tensors' names, in "
        "one dict", [
            ("bin", ("pickle",), lambda pt, state: dict(state, **{
                HEAD: state[EMBEDDINGS], EMBEDDINGS: state[HEAD]}), USED),
            ("bin", ("pickle",), twice(HEAD, EMBEDDINGS), USED),
            ("bin", ("pickle",), lambda pt, state: dict(state, x=state[HEAD]), REFUSED),
            ("bin", ("pickle",), lambda pt, state: {"model": state}, REFUSED),
            ("bin", ("pickle",), lambda pt, state: dict(state, step=1), REFUSED),
            ("bin", ("pickle",), lambda pt, state: [state], REFUSED)]),
    Row(BIN, ["functions that the pickle calls, BUILD, DUP, memo"],
        "refused unless those that torch.save writes of tensors", [
            ("bin", ("pickle",), lambda pt, state: dict(state, x=Call(
                Global("os", "getcwd"))), REFUSED),
            ("bin", ("pickle",), lambda pt, state: pickled(state) + b"20", REFUSED),
            ("bin", ("pickle",), lambda pt, state: pickled(Global("collections", "OrderedDict"))
             + pickled({"x": 1}) + b"b", REFUSED)]),
    Row(BIN, ["attributes of the dict"],
        "harmless: versions of modules, which these families' do not ask", [
            ("bin", ("pickle",), attributed, HARMLESS)]),
    Row(BIN, ["storage: type"], "used; refused unless of float, half or bfloat16", [
        ("bin", ("pickle",), built(HEAD, (8, 8), "e"), USED),
        ("bin", ("pickle",), built(HEAD, (8, 8), "H"), USED),
        ("bin", ("pickle",), built(HEAD, (8, 8), "i"), REFUSED),
        ("bin", ("pickle",), built(HEAD, (8, 8), "q"), REFUSED),
        ("bin", ("pickle",), storage(HEAD, 1, Global("torch", "DoubleStorage")), REFUSED),
        ("bin", ("pickle",), storage(HEAD, 1, Global("torch", "ComplexFloatStorage")), REFUSED)]),
    Row(BIN, ["storage: key, length, kind"],
        "used; refused unless there is an entry of that length, and the kind is storage", [
            ("bin", ("pickle",), shared, USED),
            ("bin", ("pickle",), storage(HEAD, 2, "absent"), REFUSED),
            ("bin", ("pickle",), storage(HEAD, 4, 63), REFUSED),
            ("bin", ("pickle",), storage(HEAD, 4, 65), REFUSED),
            ("bin", ("pickle",), storage(HEAD, 0, "module"), REFUSED)]),
    Row(BIN, ["storage: place", "requires_grad", "hooks", "tensor or parameter"],
        "harmless: where the tensor was, and what is done in training", [
            ("bin", ("pickle",), storage(HEAD, 3, "cuda:0"), HARMLESS),
            ("bin", ("pickle",), tensor(HEAD, 4, True), HARMLESS),
            ("bin", ("pickle",), tensor(HEAD, 5, None), HARMLESS),
            ("bin", ("pickle",), wrapped, HARMLESS)]),
    Row(BIN, ["tensor: size"], "refused unless the one that config.json calls for", [
        ("bin", ("pickle",), tensor(HEAD, 2, (64,)), REFUSED),
        ("bin", ("pickle",), tensor(UP, 2, (8, 12)), REFUSED),
        ("bin", ("pickle",), tensor(HEAD, 2, (7, 8)), REFUSED)]),
    Row(BIN, ["tensor: offset, stride"],
        "used, for a tensor or its transpose; refused for other views, and beyond the storage", [
            ("bin", ("pickle",), tensor(HEAD, 3, (1, 8)), USED),
            ("bin", ("pickle",), tensor(HEAD, 3, (0, 1)), REFUSED),
            ("bin", ("pickle",), tensor(HEAD, 3, (8, 2)), REFUSED),
            ("bin", ("pickle",), tensor(HEAD, 1, 1), REFUSED),
            ("bin", ("pickle",), tensor(HEAD, 1, -1), REFUSED),
            ("bin", ("pickle",), tensor(HEAD, 3, (8,)), REFUSED),
            ("bin", ("pickle",), lambda pt, state: dict(state, **{NORM: Call(
                state[NORM].function, state[HEAD].args[0], 5, (8,), (1,), False, None)}), USED),
            ("bin", ("pickle",), lambda pt, state: dict(state, **{NORM: Call(
                state[NORM].function, state[HEAD].args[0], 5, (8,), (2,), False, None)}),
             REFUSED)]),
    Row(BIN, ["tensor: flags neg, conj"],
        "refused: the tensor is not the numbers that are stored", [
            ("bin", ("pickle",), tensor(HEAD, 6, {"neg": True}), REFUSED),
            ("bin", ("pickle",), tensor(HEAD, 6, {"conj": True}), REFUSED),
            ("bin", ("pickle",), tensor(HEAD, 7, True), REFUSED)]),
    Row(BIN_INDEX, ["weight_map", "metadata"],
        "as in model.safetensors.index.json: refused unless each tensor is where it says", [
            ("bins", ("weight_map", HEAD), "model-2.bin", REFUSED),
            ("bins", ("weight_map", HEAD), GONE, REFUSED),
            ("bins", ("weight_map", "x"), "model-1.bin", REFUSED),
            ("bins", ("metadata",), {"total_size": 3}, HARMLESS)]),
]


def state_of(base):
    """A Pt that holds the base's storages, and the state_dict of them."""
    kept = []
    archive(lambda pt, state: kept.extend((pt, state)) or state)
    return kept


class Fields(fields.Fields):
    """A small model of each family."""

    mark, rows, bases = "fields-convert", FIELDS, list(CONFIGS)

    def files(self, base):
        """A base's files, and none of another's."""
        self.empty()
        found = {CONFIG: CONFIGS[base]}
        if base in ("shards", "bins"):
            kind, (one, other) = ("safetensors", "bin")[base == "bins"], halves(base)
            place = dict.fromkeys(one, "model-1." + kind)
            place.update(dict.fromkeys(other, "model-2." + kind))
            found[BIN_INDEX if base == "bins" else INDEX] = {"metadata": {}, "weight_map": place}
            for i in range(2):
                found["model-%d.%s" % (i + 1, kind)] = (
                    half_archive(i) if base == "bins" else safetensors((one, other)[i]))
        else:
            found[BIN if base == "bin" else WEIGHTS] = (
                archive() if base == "bin" else safetensors(tensors(base)))
        if base == "pieces":
            found["tokenizer.model"] = sentencepiece()
        for name, value in found.items():
            self.write(name, value)
        return found

    def change(self, content, row, place, value):
        if place == ("pickle",):
            return archive(value)
        if isinstance(value, types.FunctionType) and place is None:
            return value(content if isinstance(content, bytes) else json.dumps(content).encode())
        return super().change(content, row, place, value)

    def test_stored_in_other_ways(self):
        """The same numbers give the same file, however they are stored."""
        for base in ("shards", "bin", "bins"):
            self.files(base)
            found = self.result()[0]
            self.empty()
            self.write(CONFIG, CONFIGS[base])
            self.write(WEIGHTS, safetensors(tensors(base)))
            self.assertEqual(self.result()[0], found)

    def test_every_key_has_a_row(self):
        """Every key that convert.py knows is one that a row changes."""
        tried = {key for row in FIELDS if row.file == CONFIG for _, place, value, _ in row.changes
                 for key in place or value}
        for family in convert.FAMILIES.values():
            for keys in (family.defaults, family.only, family.aliases.values(), COMMON,
                         ROPE_KEYS):
                self.assertEqual(set(keys) - tried, set())


if __name__ == "__main__":
    sys.exit(fields.main(Fields.mark, FIELDS))
